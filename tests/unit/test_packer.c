/* test_packer.c - frames sorted by lane into runs; and the numbering of lanes. */
#include "fail_nth.h"

#include "../../lib/base/id.h"
#include "../../spool/store_inside.h"

static struct packer *packer;

static void set_up(void)
{
    ck_ok(packer_new(&packer));
}

static void tear_down(void)
{
    packer_free(packer);
}

static struct spool_id id_of(uint64_t ticks)
{
    struct spool_id id;
    id_make((struct hlc_stamp){.ticks = ticks}, 7, &id);
    return id;
}

/* Appends one packed event to `out`. */
static void pack(struct buffer *out, int lane, uint64_t ticks, size_t body_size)
{
    char *body = calloc(1, body_size + 1);
    struct spool_event event =
        SPOOL_EVENT(.type = "t", .priority = lane_priority(lane), .body = body, .body_size = body_size);
    struct event_measure measure;
    struct spool_id id = id_of(ticks);
    ck_ok(event_measure(&event, SIZE_MAX, &measure));
    ck_ok(buffer_reserve(out, measure.packed_size));
    event_pack(&event, &measure, &id, out->data + out->size);
    out->size += measure.packed_size;
    free(body);
}

static void add(int lane, uint64_t ticks, size_t body_size)
{
    struct buffer frame = {0};
    pack(&frame, lane, ticks, body_size);
    ck_ok(packer_add_frame(packer, frame.data, frame.size));
    buffer_free(&frame);
}

static void check_id(const struct spool_id *id, uint64_t ticks)
{
    struct spool_id want = id_of(ticks);
    ck_assert_int_eq(spool_id_compare(id, &want), 0);
}

START_TEST(a_run_knows_its_smallest_and_largest_id)
{
    struct log_run *runs;
    size_t n;
    add(LANE_HIGH, 50, 10);
    add(LANE_HIGH, 70, 10);
    add(LANE_HIGH, 30, 10); /* enqueued again under its old id */
    add(LANE_HIGH, 60, 10);
    add(LANE_LOW, 65, 10);
    packer_runs(packer, &runs, &n);
    ck_assert_uint_eq(n, 2);
    ck_assert_int_eq(runs[0].lane, LANE_HIGH);
    ck_assert_uint_eq(runs[0].count, 4);
    check_id(&runs[0].min_id, 30);
    check_id(&runs[0].max_id, 70);
    check_id(packer_max_id(packer), 70);
    ck_assert_uint_eq(packer_events(packer), 5);
    packer_reset(packer);
    packer_runs(packer, &runs, &n);
    ck_assert_uint_eq(n, 0);
    ck_assert_uint_eq(packer_events(packer), 0);
    ck_assert_uint_eq(packer_bytes(packer), 0);
}
END_TEST

/* The run as a block that is written and read again. */
static struct store_block *through_a_block(const struct log_run *run)
{
    struct store_block *block;
    struct block_info info = {.lane = run->lane,
                              .codec = (enum block_codec)run->codec,
                              .form = (enum bundle_form)run->form,
                              .count = run->count,
                              .events_size = run->events_size,
                              .size = (uint32_t)run->size,
                              .min_id = run->min_id,
                              .max_id = run->max_id};
    uint8_t *value = malloc(BLOCK_HEADER + run->size);
    ck_assert_ptr_nonnull(value);
    block_write(value, &info, run->events);
    ck_ok(block_copy(value, BLOCK_HEADER + run->size, &block));
    free(value);
    return block;
}

/* Its events are the packed ones at `packed`; how many bytes these take. */
static size_t check_same(const struct store_block *block, const uint8_t *packed)
{
    size_t at = 0;
    for (uint32_t i = 0; i < block->count; i++) {
        struct event_view view;
        uint8_t *again;
        ck_ok(bundle_event(&block->events, i, &view));
        ck_ok(event_repack(&view, &again));
        ck_assert_mem_eq(again, packed + at, view.packed_size);
        at += view.packed_size;
        free(again);
    }
    return at;
}

/* More runs than there is room for at first: an event of a block's size each. */
START_TEST(many_runs_hold_their_events)
{
    enum { RUNS = 70 };
    struct log_run *runs;
    size_t n;
    for (unsigned i = 0; i < RUNS; i++)
        add((int)(i % LANES), 100 + i, BLOCK_TARGET_BYTES);
    packer_runs(packer, &runs, &n);
    ck_assert_uint_eq(n, RUNS);
    for (unsigned i = 0; i < RUNS; i++) {
        struct event_view view;
        struct store_block *block = through_a_block(&runs[i]);
        ck_ok(bundle_event(&block->events, 0, &view));
        check_id(&view.id, 100 + i);
        ck_assert_int_eq(lane_of(view.event.priority), runs[i].lane);
        store_block_unref(block);
    }
}
END_TEST

START_TEST(a_frame_that_holds_no_events_is_damaged)
{
    uint8_t zeros[256] = {0};
    struct buffer frame = {0};
    ck_code(packer_add_frame(packer, zeros, sizeof zeros), SPOOL_EDAMAGED);
    ck_code(packer_add_frame(packer, zeros, 3), SPOOL_EDAMAGED);
    pack(&frame, LANE_MEDIUM, 5, 100);
    ck_code(packer_add_frame(packer, frame.data, frame.size - 1), SPOOL_EDAMAGED);
    ck_assert_ptr_nonnull(strstr(err_last(), "a journal frame of"));
    ck_assert_uint_eq(packer_events(packer), 0);
    pack(&frame, LANE_MEDIUM, 6, 100);
    ck_code(packer_add_frame(packer, frame.data, frame.size - 1), SPOOL_EDAMAGED); /* the first one is whole */
    buffer_free(&frame);
}
END_TEST

/* One more run than there is room for, and a longer buffer; what failed may be tried again. */
START_TEST(without_memory_nothing_is_counted)
{
    struct buffer frame = {0};
    struct packer *other = NULL;
    int code;
    fail_each(code, FAIL_MEMORY, packer_new(&other))
    {
        ck_code(code, ENOMEM);
        ck_assert_ptr_null(other);
    }
    pack(&frame, LANE_HIGH, 9, 300000);
    for (int i = 0; i < 64; i++)
        ck_ok(packer_add_frame(other, frame.data, frame.size));
    fail_each(code, FAIL_MEMORY, packer_add_frame(other, frame.data, frame.size))
    {
        ck_code(code, ENOMEM);
        ck_assert_uint_eq(packer_events(other), 64);
    }
    ck_ok(code);
    ck_assert_uint_eq(packer_events(other), 65);
    packer_free(other);
    packer_free(NULL);
    buffer_free(&frame);
}
END_TEST

/* Several lanes and blocks; one that is noise, and one that is too small for it to matter. */
START_TEST(runs_are_compressed_where_it_is_worth_it)
{
    struct buffer plain = {0}, noise = {0};
    struct log_run *runs;
    size_t n;
    ck_ok(packer_compress(packer));
    ck_ok(packer_compress(packer)); /* asked for twice is once */
    for (unsigned i = 0; i < 1200; i++) {
        pack(&plain, LANE_HIGH, 100 + i, 500);
        add(LANE_HIGH, 100 + i, 500);
    }
    add(LANE_LOW, 5000, 100);
    pack(&noise, LANE_MEDIUM, 7, 100000);
    uint32_t state = 1;
    for (size_t i = noise.size - 100006; i < noise.size - 6; i++) /* the body */
        noise.data[i] = (uint8_t)((state = state * 1664525 + 1013904223) >> 24);
    ck_ok(packer_add_frame(packer, noise.data, noise.size));
    packer_runs(packer, &runs, &n);
    ck_assert_uint_eq(n, 5);
    size_t at = 0, compressed = 0;
    for (size_t i = 0; i < n; i++) {
        struct store_block *block = through_a_block(&runs[i]);
        ck_assert_int_eq(runs[i].codec, runs[i].lane == LANE_HIGH ? BLOCK_ZSTD : BLOCK_PLAIN);
        if (runs[i].lane == LANE_HIGH) {
            at += check_same(block, plain.data + at);
            compressed += runs[i].size;
        }
        if (runs[i].lane == LANE_MEDIUM)
            ck_assert_uint_eq(check_same(block, noise.data), noise.size);
        store_block_unref(block);
    }
    ck_assert_uint_eq(at, plain.size);
    ck_assert_uint_lt(compressed, plain.size / 4);
    buffer_free(&plain);
    buffer_free(&noise);
}
END_TEST

START_TEST(without_memory_runs_stand_as_they_are)
{
    struct log_run *runs;
    size_t n;
    int code;
    fail_each(code, FAIL_MEMORY, packer_compress(packer))
    {
        ck_code(code, ENOMEM);
    }
    ck_ok(code);
    add(LANE_HIGH, 100, 50000);
    fail_arm(FAIL_MEMORY, 1);
    packer_runs(packer, &runs, &n);
    bool fired = fail_disarm();
    ck_assert_uint_eq(n, 1);
    ck_assert_int_eq(runs[0].codec, fired ? BLOCK_PLAIN : BLOCK_ZSTD);
    store_block_unref(through_a_block(&runs[0]));
}
END_TEST

/* A bug or a forgery that has a right checksum. Its neighbours stand apart, whatever comes of it. */
START_TEST(an_event_that_is_not_valid_is_kept_as_it_is_and_alone)
{
    struct buffer frame = {0};
    struct log_run *runs;
    size_t n;
    add(LANE_HIGH, 1, 10);
    add(LANE_HIGH, 2, 10);
    pack(&frame, LANE_HIGH, 3, 10);
    frame.data[8 + 6] ^= 0x80; /* no UUIDv7 */
    ck_ok(packer_add_frame(packer, frame.data, frame.size));
    frame.data[8 + 6] ^= 0x80;
    frame.data[32] = 1; /* a control character in the type */
    ck_ok(packer_add_frame(packer, frame.data, frame.size));
    add(LANE_HIGH, 4, 10);
    packer_runs(packer, &runs, &n);
    static const uint32_t counts[] = {2, 1, 1, 1};
    ck_assert_uint_eq(n, 4);
    ck_assert_uint_eq(packer_events(packer), 5);
    for (size_t i = 0; i < n; i++) {
        struct store_block *block = through_a_block(&runs[i]);
        struct event_view view;
        bool valid = i % 3 == 0;
        ck_assert_int_eq(runs[i].form, valid ? BUNDLE_SHARED : BUNDLE_PACKED);
        ck_assert_uint_eq(block->count, counts[i]);
        ck_code(bundle_event(&block->events, 0, &view), valid ? SPOOL_OK : SPOOL_EDAMAGED);
        store_block_unref(block);
    }
    buffer_free(&frame);
}
END_TEST

/* So that with LMDB's header a full block takes whole pages, and not one more. */
START_TEST(no_run_of_several_events_is_larger_than_a_block)
{
    struct log_run *runs;
    size_t n, full = 0;
    for (unsigned i = 0; i < 3000; i++)
        add(LANE_LOW, 1000 + i * 100, 100 + i % 700);
    packer_runs(packer, &runs, &n);
    for (size_t i = 0; i < n; i++) {
        ck_assert_uint_le(runs[i].size, BLOCK_TARGET_BYTES);
        full += runs[i].size > BLOCK_TARGET_BYTES - 900;
    }
    ck_assert_uint_eq(full, n - 1);
}
END_TEST

START_TEST(lanes_are_numbered_by_importance)
{
    static const struct {
        enum spool_priority priority;
        int lane;
        const char *name;
    } all[] = {{SPOOL_CRITICAL, LANE_CRITICAL, "critical"},
               {SPOOL_HIGH, LANE_HIGH, "high"},
               {SPOOL_MEDIUM, LANE_MEDIUM, "medium"},
               {SPOOL_LOW, LANE_LOW, "low"}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        ck_assert_int_eq(lane_of(all[i].priority), all[i].lane);
        ck_assert_int_eq(lane_priority(all[i].lane), all[i].priority);
        ck_assert_str_eq(lane_name(all[i].lane), all[i].name);
    }
}
END_TEST

/* From a damaged event, or from a newer version's. */
START_TEST(what_is_no_lane_is_taken_for_medium)
{
    static const int none[] = {-1, LANES, 1000};
    ck_assert_int_eq(lane_of((enum spool_priority)77), LANE_MEDIUM);
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        ck_assert_int_eq(lane_priority(none[i]), SPOOL_MEDIUM);
        ck_assert_str_eq(lane_name(none[i]), "unknown");
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("packer");
    TCase *tcase = tcase_create("packer");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, a_run_knows_its_smallest_and_largest_id);
    tcase_add_test(tcase, many_runs_hold_their_events);
    tcase_add_test(tcase, a_frame_that_holds_no_events_is_damaged);
    tcase_add_test(tcase, without_memory_nothing_is_counted);
    tcase_add_test(tcase, runs_are_compressed_where_it_is_worth_it);
    tcase_add_test(tcase, without_memory_runs_stand_as_they_are);
    tcase_add_test(tcase, an_event_that_is_not_valid_is_kept_as_it_is_and_alone);
    tcase_add_test(tcase, no_run_of_several_events_is_larger_than_a_block);
    tcase_add_test(tcase, lanes_are_numbered_by_importance);
    tcase_add_test(tcase, what_is_no_lane_is_taken_for_medium);
    suite_add_tcase(suite, tcase);
    return suite;
}

CHECK_MAIN(suite)
