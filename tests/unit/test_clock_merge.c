/* test_clock_merge.c - several spools read as one: the order, copies, and what is out of order. */
#include "scratch_fixture.h"

#include "../../lib/base/id.h"
#include "../../lib/base/sync.h"

#define SECOND 1000000000ull

enum { SPOOLS_MAX = 3 };
static struct spool *spools[SPOOLS_MAX];
static struct spool_reader *readers[SPOOLS_MAX];
static size_t spool_count;
static struct spool_merge *merge;
static uint64_t base_ns;

static void begin(void)
{
    scratch_begin();
    base_ns = real_ns() - 3600 * SECOND;
    spool_count = 0;
}

static void end(void)
{
    spool_merge_close(merge);
    merge = NULL;
    for (size_t i = 0; i < spool_count; i++) {
        spool_reader_close(readers[i]);
        ck_ok(spool_close(spools[i]));
    }
    scratch_end();
}

static struct spool_id id_at(unsigned seconds, uint64_t node)
{
    struct spool_id id;
    id_make((struct hlc_stamp){ticks_from_ns(base_ns + seconds * SECOND), 0}, node, &id);
    return id;
}

static char *spool_path(size_t i)
{
    static char text[512];
    snprintf(text, sizeof text, "%s/%zu", dir, i);
    return text;
}

/* Stores an event in spool `i` under the id given. */
static void put(size_t i, struct spool_id id, const char *body, const struct spool_id *parent)
{
    struct spool_event event = SPOOL_EVENT(.id = &id, .type = "t", .body = body, .body_size = strlen(body),
                                           .content_type = "text/plain", .parent = parent);
    while (spool_count <= i) {
        ck_ok(spool_open(spool_path(spool_count), NULL, &spools[spool_count]));
        spool_count++;
    }
    ck_ok(spool_enqueue(spools[i], &event, NULL));
}

/* Opens all again, so that everything is in segments, and merges them in the order given. */
static void read_all(const size_t *order)
{
    struct spool_reader *given[SPOOLS_MAX];
    for (size_t i = 0; i < spool_count; i++) {
        ck_ok(spool_close(spools[i]));
        ck_ok(spool_open(spool_path(i), &SPOOL_OPTIONS(.flags = SPOOL_READ_ONLY), &spools[i]));
        ck_ok(spool_reader_open(spools[i], NULL, &readers[i]));
    }
    for (size_t i = 0; i < spool_count; i++)
        given[i] = readers[order ? order[i] : i];
    ck_ok(spool_merge_open(given, spool_count, &merge));
}

static struct spool_merge_item expect(const char *body, enum spool_merge_flaw flaw)
{
    struct spool_merge_item item = SPOOL_MERGE_ITEM();
    ck_ok(spool_merge_next(merge, 10000, &item));
    ck_assert_msg(item.event->body_size == strlen(body) && !memcmp(item.event->body, body, strlen(body)),
                  "%.*s instead of %s", (int)item.event->body_size, (const char *)item.event->body, body);
    ck_assert_msg(item.flaw == flaw, "%s is %s instead of %s", body, spool_merge_flaw_name(item.flaw),
                  spool_merge_flaw_name(flaw));
    return item;
}

static void expect_end(void)
{
    struct spool_merge_item item = SPOOL_MERGE_ITEM();
    ck_code(spool_merge_next(merge, 10000, &item), SPOOL_ENOTFOUND);
    ck_code(spool_merge_next(merge, 10000, &item), SPOOL_ENOTFOUND);
}

START_TEST(test_by_clock_then_node)
{
    put(0, id_at(1, 7), "a", NULL);
    put(1, id_at(2, 9), "c", NULL);
    put(0, id_at(2, 8), "b", NULL);
    put(2, id_at(3, 1), "d", NULL);
    put(0, id_at(4, 7), "e", NULL);
    read_all(NULL);
    ck_assert_uint_eq(expect("a", SPOOL_MERGE_FINE).reader, 0);
    expect("b", SPOOL_MERGE_FINE);
    ck_assert_uint_eq(expect("c", SPOOL_MERGE_FINE).reader, 1);
    expect("d", SPOOL_MERGE_FINE);
    expect("e", SPOOL_MERGE_FINE);
    expect_end();
}
END_TEST

/* Whoever reads, in whatever order the spools are named, sees the same. */
START_TEST(test_the_order_does_not_depend_on_who_reads)
{
    static const size_t orders[][2] = {{0, 1}, {1, 0}};
    put(0, id_at(1, 7), "same", NULL);
    put(1, id_at(1, 7), "same", NULL);
    put(0, id_at(2, 7), "one", NULL);
    put(1, id_at(2, 7), "other", NULL);
    read_all(orders[_i]);
    expect("same", SPOOL_MERGE_FINE);
    expect("same", SPOOL_MERGE_DUPLICATE);
    struct spool_merge_item item = SPOOL_MERGE_ITEM();
    static char first[2][16];
    ck_ok(spool_merge_next(merge, 10000, &item));
    memcpy(first[_i], item.event->body, item.event->body_size);
    bool one_first = strcmp(first[_i], "one") == 0;
    ck_assert_int_eq(one_first, true); /* by content: this one, in both orders */
    expect("other", SPOOL_MERGE_CONFLICT);
    expect_end();
}
END_TEST

static void check_expected(struct spool_merge_item item, struct spool_id want)
{
    ck_assert_int_eq(spool_id_compare(&item.expected, &want), 0);
}

START_TEST(test_cause_and_effect)
{
    struct spool_id parent = id_at(100, 1), own;
    put(0, id_at(5, 7), "impossible", &parent);
    own = id_at(6, 7);
    put(0, id_at(6, 7), "itself", &own);
    parent = id_at(1, 1);
    put(0, id_at(7, 7), "fine", &parent);
    read_all(NULL);
    check_expected(expect("impossible", SPOOL_MERGE_BEFORE_PARENT), id_at(100, 1));
    expect("itself", SPOOL_MERGE_BEFORE_PARENT);
    expect("fine", SPOOL_MERGE_FINE);
    expect_end();
}
END_TEST

/* As they are stored: another's events taken over late, and a producer whose clock went back. */
START_TEST(test_late_and_regressed)
{
    put(0, id_at(10, 1), "first", NULL);
    put(0, id_at(20, 2), "second", NULL);
    put(0, id_at(15, 3), "late", NULL);
    put(0, id_at(18, 2), "back", NULL);
    put(0, id_at(30, 3), "last", NULL);
    read_all(NULL);
    expect("first", SPOOL_MERGE_FINE); /* and put in their place */
    check_expected(expect("late", SPOOL_MERGE_LATE), id_at(20, 2));
    check_expected(expect("back", SPOOL_MERGE_REGRESSED), id_at(20, 2));
    expect("second", SPOOL_MERGE_FINE);
    expect("last", SPOOL_MERGE_FINE);
    expect_end();
}
END_TEST

/* Whatever the order in which they are stored: one order comes out. */
START_TEST(test_random_orders)
{
    enum { EVENTS = 600 };
    unsigned seed = (unsigned)test_seed(1);
    for (int i = 0; i < EVENTS; i++)
        put((size_t)(rand_r(&seed) % SPOOLS_MAX),
            id_at((unsigned)(rand_r(&seed) % 3000), (uint64_t)(rand_r(&seed) % 5)), "x", NULL);
    read_all(NULL);
    struct spool_merge_item item = SPOOL_MERGE_ITEM();
    struct spool_id last = {{0}};
    for (int i = 0; i < EVENTS; i++) {
        ck_ok(spool_merge_next(merge, 10000, &item));
        ck_assert_int_le(spool_id_compare(&last, item.event->id), 0);
        ck_assert_int_eq(item.flaw == SPOOL_MERGE_DUPLICATE, spool_id_compare(&last, item.event->id) == 0);
        last = *item.event->id;
    }
    expect_end();
}
END_TEST

START_TEST(test_ahead)
{
    put(0, id_at(2 * 3600, 1), "tomorrow", NULL);
    read_all(NULL);
    expect("tomorrow", SPOOL_MERGE_AHEAD);
    expect_end();
}
END_TEST

/* An event with a parent gets a later id, though its clock is behind the parent's. */
START_TEST(test_a_parent_moves_the_clock)
{
    struct spool_id parent, child, far, kept;
    uint64_t now = real_ns();
    put(0, id_at(1, 1), "x", NULL);
    id_make((struct hlc_stamp){ticks_from_ns(now + 400 * NS_PER_MS), 3}, 5, &parent);
    struct spool_event event = SPOOL_EVENT(.type = "t", .parent = &parent);
    ck_ok(spool_enqueue(spools[0], &event, &child));
    ck_assert_int_gt(spool_id_compare(&child, &parent), 0);
    id_make((struct hlc_stamp){ticks_from_ns(now + 3600 * SECOND), 3}, 5, &far); /* too far: kept, not followed */
    event.parent = &far;
    ck_ok(spool_enqueue(spools[0], &event, &kept));
    ck_assert_int_lt(spool_id_compare(&kept, &far), 0);
    ck_assert_int_gt(spool_id_compare(&kept, &child), 0);
    read_all(NULL);
}
END_TEST

START_TEST(test_bad_calls)
{
    struct spool_merge_item item = {0};
    put(0, id_at(1, 7), "a", NULL);
    read_all(NULL);
    struct spool_reader *none = NULL;
    struct spool_merge *other;
    ck_code(spool_merge_open(NULL, 1, &other), SPOOL_EINVAL);
    ck_code(spool_merge_open(readers, 0, &other), SPOOL_EINVAL);
    ck_code(spool_merge_open(&none, 1, &other), SPOOL_EINVAL);
    ck_code(spool_merge_open(readers, 1, NULL), SPOOL_EINVAL);
    ck_code(spool_merge_next(NULL, 0, &item), SPOOL_EINVAL);
    ck_code(spool_merge_next(merge, 10000, &item), SPOOL_EOPTION); /* its size is not set */
    expect("a", SPOOL_MERGE_FINE);                                 /* and nothing is lost by that */
    spool_merge_close(NULL);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("clock_merge");
    TCase *t = tcase_create("merge");
    tcase_add_checked_fixture(t, begin, end);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, test_by_clock_then_node);
    tcase_add_loop_test(t, test_the_order_does_not_depend_on_who_reads, 0, 2);
    tcase_add_test(t, test_cause_and_effect);
    tcase_add_test(t, test_late_and_regressed);
    tcase_add_test(t, test_random_orders);
    tcase_add_test(t, test_ahead);
    tcase_add_test(t, test_a_parent_moves_the_clock);
    tcase_add_test(t, test_bad_calls);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
