/* test_ahead.c - packing the next group during a commit: what is taken, and what is forgotten. (In a whole spool:
 * test_committer.c.) */
#include "fail_nth.h"

#include "../../lib/base/id.h"
#include "../../spool/ahead.h"
#include "../../spool/store_inside.h"

enum { RING = 256 << 10, MAX = 1 << 20 };

static char *path;
static int dir_fd;
static struct journal *journal;
static struct packer *packer;
static struct ahead *ahead;

static void set_up(void)
{
    struct packer *second;
    path = test_dir();
    dir_fd = open(path, O_RDONLY | O_DIRECTORY);
    ck_assert_int_ge(dir_fd, 0);
    ck_ok(journal_create(dir_fd, RING, 0600, false, &journal));
    ck_ok(packer_new(&packer));
    ck_ok(packer_new(&second));
    ahead = ahead_new(second);
    ck_assert_ptr_nonnull(ahead);
}

static void tear_down(void)
{
    ahead_free(ahead);
    packer_free(packer);
    journal_close(journal);
    close(dir_fd);
    test_rmdir(path);
    free(path);
}

/* One event; where its record begins. */
static uint64_t append(void)
{
    uint64_t begin = journal_head(journal), end;
    struct spool_event event = SPOOL_EVENT(.type = "t", .body = "x", .body_size = 1);
    struct event_measure measure;
    struct spool_id id;
    id_make((struct hlc_stamp){.ticks = 1000 + begin}, 7, &id);
    ck_ok(event_measure(&event, SIZE_MAX, &measure));
    uint8_t *payload = journal_reserve(journal, measure.packed_size);
    ck_assert_ptr_nonnull(payload);
    event_pack(&event, &measure, &id, payload);
    ck_ok(journal_publish(journal, &end));
    return begin;
}

static bool take(uint64_t from, uint64_t *ret_events, uint64_t *ret_to)
{
    bool taken = ahead_take(ahead, from, &packer, ret_to);
    *ret_events = packer_events(packer);
    return taken;
}

START_TEST(taken_where_it_begins_and_once)
{
    uint64_t events, to;
    append();
    uint64_t from = append();
    append();
    ahead_begin(ahead, journal, from, MAX);
    ahead_end(ahead, true);
    ck_assert(take(from, &events, &to));
    ck_assert_uint_eq(events, 2);
    ck_assert_uint_eq(to, journal_head(journal));
    ck_assert(!take(from, &events, &to));
    ahead_begin(ahead, journal, 0, MAX); /* again, with the other packer */
    ahead_end(ahead, true);
    ck_assert(take(0, &events, &to));
    ck_assert_uint_eq(events, 3);
}
END_TEST

START_TEST(no_more_than_asked_for)
{
    uint64_t events, to;
    append();
    uint64_t second = append();
    ahead_begin(ahead, journal, 0, 1); /* the one that crosses it is the last */
    ahead_end(ahead, true);
    ck_assert(take(0, &events, &to));
    ck_assert_uint_eq(events, 1);
    ck_assert_uint_eq(to, second);
}
END_TEST

START_TEST(forgotten_when_the_commit_before_it_failed)
{
    uint64_t events, to, from;
    append();
    from = append();
    ahead_begin(ahead, journal, from, MAX);
    ahead_end(ahead, false);
    ck_assert(!take(from, &events, &to));
}
END_TEST

START_TEST(forgotten_when_the_next_group_begins_elsewhere)
{
    uint64_t events, to, from;
    append();
    from = append();
    ahead_begin(ahead, journal, from, MAX);
    ahead_end(ahead, true);
    ck_assert(!take(0, &events, &to));
    ck_assert(!take(from, &events, &to));
}
END_TEST

START_TEST(forgotten_when_a_record_is_not_what_was_written)
{
    uint64_t events, to;
    append();
    ahead_begin(ahead, journal, 8, MAX); /* no record begins there */
    ahead_end(ahead, true);
    ck_assert(!take(8, &events, &to));
}
END_TEST

START_TEST(without_memory_or_threads_nothing_is_packed_ahead)
{
    uint64_t events, to;
    append();
    ck_assert_ptr_null(ahead_new(NULL));
    for (unsigned n = 1; n <= 3; n++) {
        struct packer *second;
        ck_ok(packer_new(&second));
        fail_arm(n == 1 ? FAIL_MEMORY : FAIL_THREAD, n == 3 ? 2 : 1);
        struct ahead *none = ahead_new(second);
        bool failed = fail_disarm();
        ck_assert_int_eq(failed, none == NULL); /* under ThreadSanitizer nothing fails */
        ahead_free(none);
    }
    ahead_begin(NULL, journal, 0, MAX);
    ahead_end(NULL, true);
    ck_assert(!ahead_take(NULL, 0, &packer, &to));
    fail_arm(FAIL_THREAD, 1);
    ahead_begin(ahead, journal, 0, MAX);
    bool failed = fail_disarm();
    ahead_end(ahead, true);
    ck_assert(take(0, &events, &to) != failed);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ahead");
    TCase *t = tcase_create("ahead");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, taken_where_it_begins_and_once);
    tcase_add_test(t, no_more_than_asked_for);
    tcase_add_test(t, forgotten_when_the_commit_before_it_failed);
    tcase_add_test(t, forgotten_when_the_next_group_begins_elsewhere);
    tcase_add_test(t, forgotten_when_a_record_is_not_what_was_written);
    tcase_add_test(t, without_memory_or_threads_nothing_is_packed_ahead);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
