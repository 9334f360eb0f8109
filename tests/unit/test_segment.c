/* test_segment.c - one segment: what is told from a whole one, made by hand row by row and block by block. */
#include <sys/stat.h>

#include "../../lib/base/bytes.h"
#include "../../lib/base/crc32c.h"
#include "../../spool/segment_env.h"
#include "log_fixture.h"

static char *base;
static struct dir dir;

static void set_up(void)
{
    char path[256];
    base = test_dir();
    snprintf(path, sizeof path, "%s/spool", base);
    ck_ok(dir_open(path, TEST_SEGMENT_BYTES, 0, 0, &dir));
}

static void tear_down(void)
{
    dir_close(&dir);
    test_rmdir(base);
    free(base);
}

/* Fails unless `call` says `want` and the message holds `text`. */
#define ck_says(call, want, text)                                                                                      \
    do {                                                                                                               \
        ck_code(call, want);                                                                                           \
        ck_assert_msg(strstr(err_last(), text) != NULL, "%s: says \"%s\"", #call, err_last());                         \
    } while (0)

/* ------------------------------------------------------------------------------------------------- made by hand */

/* What a segment is made of; what is left out is as it should be. */
struct plan {
    bool no_head, no_tally;
    uint64_t number;     /* instead of 1 */
    uint64_t base, next; /* of each lane */
    const char *key;     /* one more row of the meta tree, or another one in place of it */
    uint8_t row[ROW_TALLY_SIZE];
    size_t row_size;
    uint64_t blocks[8]; /* in lane high, of one event each: where they stand … */
    uint64_t says[8];   /* … and where they say that they do */
    size_t block_count;
};

static int put_raw(struct segment *segment, MDB_txn *txn, const struct plan *plan)
{
    MDB_val key = {strlen(plan->key), (void *)plan->key}, value = {plan->row_size, (void *)plan->row};
    return mdb_put(txn, segment->meta, &key, &value, 0);
}

static int put_block_at(struct segment *segment, MDB_txn *txn, uint64_t seq, uint64_t says)
{
    struct log_run run = test_run(LANE_HIGH, 1, 100, 1000 + seq);
    struct block_info info = {.lane = LANE_HIGH,
                              .form = (enum bundle_form)run.form,
                              .count = 1,
                              .first_seq = says,
                              .size = (uint32_t)run.size,
                              .min_id = run.min_id,
                              .max_id = run.max_id,
                              .commit = mdb_txn_id(txn)};
    MDB_val key = {sizeof seq, &seq}, value = {BLOCK_HEADER + run.size, NULL};
    int rc = mdb_put(txn, segment->lane[LANE_HIGH], &key, &value, MDB_RESERVE);
    if (!rc)
        block_write(value.mv_data, &info, run.events);
    free((void *)run.events);
    return rc;
}

static int fill(void *user, struct segment *segment)
{
    const struct plan *plan = user;
    MDB_txn *txn;
    struct segment_head head = {.number = plan->number ? plan->number : 1};
    struct segment_tally tally = {0};
    for (int lane = 0; lane < LANES; lane++) {
        head.base[lane] = plan->base;
        tally.lane[lane].next = plan->next;
    }
    ck_assert_int_eq(mdb_txn_begin(segment->env, NULL, 0, &txn), 0);
    if (!plan->no_head)
        ck_ok(segment_put_head(segment, txn, &head));
    if (!plan->no_tally)
        ck_ok(segment_put_tally(segment, txn, &tally));
    for (size_t i = 0; i < plan->block_count; i++)
        ck_assert_int_eq(put_block_at(segment, txn, plan->blocks[i], plan->says[i]), 0);
    if (plan->key)
        ck_assert_int_eq(put_raw(segment, txn, plan), 0);
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
    return SPOOL_OK;
}

static void make(struct plan *plan)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(1, name);
    ck_ok(segment_create(&dir, name, TEST_SEGMENT_BYTES, fill, plan));
}

static struct segment *made(struct plan *plan)
{
    struct segment *segment = NULL;
    make(plan);
    ck_ok(segment_open(&dir, 1, true, &segment));
    return segment;
}

/* The segment is damaged, and the message says `text`. */
static void is_refused(struct plan *plan, const char *text)
{
    struct segment *segment = NULL;
    make(plan);
    ck_says(segment_open(&dir, 1, true, &segment), SPOOL_EDAMAGED, text);
    ck_assert_ptr_null(segment);
}

static uint8_t *uuid_of(uint8_t which)
{
    static uint8_t uuid[JOURNAL_UUID_SIZE];
    memset(uuid, which, sizeof uuid);
    return uuid;
}

static const char *position_key(uint8_t which)
{
    static char key[SEGMENT_POSITION_KEY + 1];
    segment_position_key(uuid_of(which), (uint8_t *)key);
    return key;
}

/* ------------------------------------------------------------------------------------------------------- names */

START_TEST(only_plain_names_are_segments)
{
    static const char *const none[] = {"",
                                       "1.mdb",
                                       "00000000000000000000.mdb",
                                       "0000000000000000000a.mdb",
                                       "99999999999999999999.mdb",
                                       "09223372036854775808.mdb",
                                       "00000000000000000001.mdc"};
    uint64_t number = 0;
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        ck_assert_msg(!segment_parse_name(none[i], &number), "%s", none[i]);
    ck_assert(segment_parse_name("09223372036854775807.mdb", &number));
    ck_assert_uint_eq(number, INT64_MAX);
}
END_TEST

START_TEST(codes_of_lmdb_become_ours)
{
    ck_says(segment_error(3, ENOSPC, "doing"), ENOSPC, "segments/00000000000000000003.mdb: doing");
    ck_says(segment_error(3, MDB_MAP_FULL, "doing"), SPOOL_EFULL, "doing: MDB_MAP_FULL");
    ck_says(segment_error(3, MDB_VERSION_MISMATCH, "doing"), SPOOL_EVERSION, "MDB_VERSION_MISMATCH");
    ck_says(segment_error(3, MDB_CORRUPTED, "doing"), SPOOL_EDAMAGED, "MDB_CORRUPTED");
}
END_TEST

/* ------------------------------------------------------------------------------------------------------ opening */

START_TEST(a_whole_one_opens)
{
    struct plan plan = {.base = 5, .next = 5};
    struct segment *segment = made(&plan);
    ck_assert_uint_eq(segment->head.base[LANE_LOW], 5);
    ck_assert_uint_eq(segment->tally.lane[LANE_LOW].next, 5);
    ck_assert(segment_is_empty(segment));
    ck_assert(segment_is_in_place(&dir, segment));
    ck_ok(segment_refresh(segment));
    segment_close(segment);
    segment_close(NULL);
}
END_TEST

START_TEST(a_missing_row_is_named)
{
    is_refused(&(struct plan){.no_head = true}, "has no head");
    is_refused(&(struct plan){.no_tally = true}, "has no tally");
}
END_TEST

START_TEST(rows_that_contradict_are_refused)
{
    is_refused(&(struct plan){.number = 2}, "this is segment 2 under another name");
    is_refused(&(struct plan){.base = 9, .next = 3}, "lies below its base");
    is_refused(&(struct plan){.base = BLOCK_SEQ_MAX, .next = 1}, "impossible sequence number");
    is_refused(&(struct plan){.next = BLOCK_SEQ_MAX}, "impossible sequence number");
}
END_TEST

START_TEST(rows_that_are_none_are_refused)
{
    struct plan plan = {.key = SEGMENT_KEY_TALLY, .row_size = 5};
    is_refused(&plan, "of 5 bytes in the segment's meta tree is none");
    plan.row_size = ROW_TALLY_SIZE;
    is_refused(&plan, "is none"); /* no magic */
    row_write_tally(plan.row, 2, &(struct segment_tally){0});
    plan.row_size--;
    is_refused(&plan, "is none"); /* another size than it says */
    plan.row_size++;
    plan.row[ROW_HEADER] ^= 1;
    is_refused(&plan, "the checksum of a row");
    row_write_position(plan.row, 2, uuid_of(1), 5);
    plan.row_size = ROW_POSITION_SIZE;
    is_refused(&plan, "has kind 3");
    plan.key = SEGMENT_KEY_HEAD;
    is_refused(&plan, "has kind 3");
    row_write_tally(plan.row, 1, &(struct segment_tally){0});
    plan.key = SEGMENT_KEY_TALLY;
    plan.row_size = ROW_TALLY_SIZE;
    is_refused(&plan, "the tally is not the last transaction's");
}
END_TEST

/* The head says which format the whole segment has. */
START_TEST(another_format_is_no_damage)
{
    struct plan plan = {.key = SEGMENT_KEY_HEAD, .row_size = ROW_HEAD_SIZE};
    struct segment *segment = NULL;
    static const size_t fields[] = {0, 4};
    for (size_t i = 0; i < 2; i++) {
        row_write_head(plan.row, 2, &(struct segment_head){.number = 1});
        put_u32(plan.row + ROW_HEADER + fields[i], 77);
        put_u32(plan.row + 8, crc32c(0, plan.row + 12, ROW_HEAD_SIZE - 12));
        make(&plan);
        ck_says(segment_open(&dir, 1, true, &segment), SPOOL_EVERSION, "77");
    }
}
END_TEST

/* An LMDB file as ours, but for one tree. */
static void make_trees(bool with_lanes, unsigned flags)
{
    struct segment segment = {.number = 1};
    MDB_txn *txn;
    char name[SEGMENT_NAME_SIZE];
    segment_name(1, name);
    ck_ok(segment_env_open(&dir, name, TEST_SEGMENT_BYTES, 0, &segment));
    ck_assert_int_eq(mdb_txn_begin(segment.env, NULL, 0, &txn), 0);
    ck_assert_int_eq(mdb_dbi_open(txn, "meta", MDB_CREATE, &segment.meta), 0);
    for (int lane = 0; with_lanes && lane < LANES; lane++)
        ck_assert_int_eq(mdb_dbi_open(txn, lane_name(lane), MDB_CREATE | flags, &segment.lane[lane]), 0);
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
    mdb_env_close(segment.env);
}

START_TEST(trees_that_are_missing_or_of_another_kind_are_damage)
{
    struct segment *segment = NULL;
    make_trees(false, 0);
    ck_says(segment_open(&dir, 1, false, &segment), SPOOL_EDAMAGED, "its trees cannot be opened");
    make_trees(true, 0);
    ck_says(segment_open(&dir, 1, false, &segment), SPOOL_EDAMAGED, "its trees cannot be opened");
}
END_TEST

START_TEST(what_is_not_there_or_no_file_cannot_be_opened)
{
    struct segment *segment = NULL;
    char name[SEGMENT_NAME_SIZE];
    segment_name(1, name);
    ck_code(segment_open(&dir, 1, true, &segment), ENOENT);
    ck_assert_int_eq(symlinkat("elsewhere", dir.segments_fd, name), 0);
    ck_code(segment_open(&dir, 1, true, &segment), SPOOL_EACCESS);
    ck_assert_int_eq(unlinkat(dir.segments_fd, name, 0), 0);
    ck_assert_int_eq(mkdirat(dir.segments_fd, name, 0700), 0);
    ck_says(segment_create(&dir, name, TEST_SEGMENT_BYTES, fill, &(struct plan){0}), errno, "cannot be removed");
}
END_TEST

/* ------------------------------------------------------------------------------------------- positions and snapshot */

static int sum(void *user, const struct log_position *position)
{
    *(uint64_t *)user += position->applied;
    return SPOOL_OK;
}

static int refuse(void *user, const struct log_position *position)
{
    (void)user, (void)position;
    return 77;
}

START_TEST(positions_are_found_among_other_rows)
{
    struct plan plan = {.key = position_key(7), .row_size = ROW_POSITION_SIZE};
    row_write_position(plan.row, 2, uuid_of(7), 42);
    struct segment *segment = made(&plan);
    uint64_t applied = 0, all = 0;
    ck_ok(segment_position(segment, uuid_of(7), &applied));
    ck_assert_uint_eq(applied, 42);
    ck_code(segment_position(segment, uuid_of(8), &applied), SPOOL_ENOTFOUND);
    ck_ok(segment_each_position(segment, sum, &all));
    ck_assert_uint_eq(all, 42);
    ck_code(segment_each_position(segment, refuse, NULL), 77);
    segment_close(segment);
}
END_TEST

START_TEST(positions_that_cannot_be_are_damage)
{
    struct plan plan = {.key = position_key(7), .row_size = ROW_POSITION_SIZE};
    uint64_t applied = 1, all = 0;
    row_write_position(plan.row, 2, uuid_of(8), 42);
    struct segment *segment = made(&plan);
    ck_says(segment_position(segment, uuid_of(7), &applied), SPOOL_EDAMAGED, "stands under another");
    segment_close(segment);
    row_write_position(plan.row, 2, uuid_of(7), UINT64_MAX / 2);
    segment = made(&plan);
    ck_says(segment_position(segment, uuid_of(7), &applied), SPOOL_EDAMAGED, "impossible position");
    ck_code(segment_each_position(segment, sum, &all), SPOOL_EDAMAGED);
    segment_close(segment);
    plan.row[0] ^= 1;
    segment = made(&plan);
    ck_code(segment_position(segment, uuid_of(7), &applied), SPOOL_EDAMAGED);
    ck_code(segment_each_position(segment, sum, &all), SPOOL_EDAMAGED);
    ck_assert_uint_eq(all + applied, 1);
    MDB_txn *txn;
    ck_assert_int_eq(mdb_txn_begin(segment->env, NULL, 0, &txn), 0);
    struct log_position position = test_position(7, 50);
    ck_code(segment_put_position(segment, txn, &position), SPOOL_EDAMAGED); /* is not written over */
    mdb_txn_abort(txn);
    segment_close(segment);
}
END_TEST

START_TEST(a_snapshot_is_one_or_none)
{
    struct buffer out = {0};
    struct plan plan = {0};
    struct segment *segment = made(&plan);
    ck_code(segment_snapshot(segment, &out), SPOOL_ENOTFOUND);
    segment_close(segment);
    plan = (struct plan){.key = SEGMENT_KEY_SNAPSHOT, .row_size = ROW_POSITION_SIZE};
    row_write_position(plan.row, 2, uuid_of(7), 42);
    segment = made(&plan);
    ck_says(segment_snapshot(segment, &out), SPOOL_EDAMAGED, "its snapshot is another row");
    segment_close(segment);
    row_write_snapshot(plan.row, 2, "sinks", 5);
    plan.row_size = ROW_HEADER + 5;
    segment = made(&plan);
    ck_ok(segment_snapshot(segment, &out));
    ck_assert_uint_eq(out.size, 5);
    ck_assert_mem_eq(out.data, "sinks", 5);
    segment_close(segment);
    buffer_free(&out);
}
END_TEST

/* ------------------------------------------------------------------------------------------------------- blocks */

static int read_at(const struct segment *segment, uint64_t seq, uint64_t *ret_first, struct segment_flaw *flaw)
{
    struct store_block *block = NULL;
    *flaw = (struct segment_flaw){0};
    int code = segment_read(segment, LANE_HIGH, seq, &block, flaw);
    if (!code)
        *ret_first = block->first_seq;
    store_block_unref(block);
    free(flaw->bytes);
    return code;
}

START_TEST(reading_finds_the_block_or_the_next_one)
{
    struct plan plan = {.next = 31, .block_count = 3, .blocks = {10, 20, 30}, .says = {10, 20, 30}};
    struct segment *segment = made(&plan);
    struct segment_flaw flaw;
    uint64_t first = 0;
    ck_ok(read_at(segment, 0, &first, &flaw));
    ck_assert_uint_eq(first, 10);
    ck_ok(read_at(segment, 20, &first, &flaw));
    ck_assert_uint_eq(first, 20);
    ck_ok(read_at(segment, 21, &first, &flaw)); /* lost ones in between */
    ck_assert_uint_eq(first, 30);
    ck_code(read_at(segment, 31, &first, &flaw), SPOOL_ENOTFOUND);
    segment_close(segment);
}
END_TEST

/* A block that is not what its key says holds all up to the next one, as far as anybody knows. */
START_TEST(a_block_in_another_ones_place_is_damaged)
{
    struct plan plan = {.next = 40, .block_count = 3, .blocks = {10, 20, 30}, .says = {10, 25, 31}};
    struct segment *segment = made(&plan);
    struct segment_flaw flaw;
    uint64_t first = 0, seq = 0;
    ck_says(read_at(segment, 20, &first, &flaw), SPOOL_EDAMAGED, "stands where that of lane high, event 20 should");
    ck_assert_uint_eq(flaw.first, 20);
    ck_assert_uint_eq(flaw.end, 30);
    ck_code(read_at(segment, 24, &first, &flaw), SPOOL_EDAMAGED);
    ck_assert_uint_eq(flaw.first, 20);
    ck_code(read_at(segment, 35, &first, &flaw), SPOOL_EDAMAGED); /* the last one: up to the segment's end */
    ck_assert_uint_eq(flaw.first, 30);
    ck_assert_uint_eq(flaw.end, 40);
    struct spool_id id = test_id(1030);
    ck_ok(segment_seek(segment, LANE_HIGH, &id, &seq)); /* counts as one that may hold the id */
    ck_assert_uint_eq(seq, 20);
    segment_close(segment);
}
END_TEST

START_TEST(appending_never_goes_behind_what_is_there)
{
    struct plan plan = {.next = 3, .block_count = 1, .blocks = {10}, .says = {10}};
    struct segment *segment = made(&plan);
    struct log_run run = test_run(LANE_HIGH, 1, 100, 5000);
    struct segment_tally tally;
    bool committing = true;
    ck_says(segment_append(segment, &run, 1, NULL, 0, &tally, &committing), SPOOL_EDAMAGED,
            "holds later events than its tally says");
    ck_assert(!committing);
    ck_assert_uint_eq(run.first_seq, UINT64_MAX);
    free((void *)run.events);
    segment_close(segment);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("segment");
    TCase *tcase = tcase_create("segment");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, only_plain_names_are_segments);
    tcase_add_test(tcase, codes_of_lmdb_become_ours);
    tcase_add_test(tcase, a_whole_one_opens);
    tcase_add_test(tcase, a_missing_row_is_named);
    tcase_add_test(tcase, rows_that_contradict_are_refused);
    tcase_add_test(tcase, rows_that_are_none_are_refused);
    tcase_add_test(tcase, another_format_is_no_damage);
    tcase_add_test(tcase, trees_that_are_missing_or_of_another_kind_are_damage);
    tcase_add_test(tcase, what_is_not_there_or_no_file_cannot_be_opened);
    tcase_add_test(tcase, positions_are_found_among_other_rows);
    tcase_add_test(tcase, positions_that_cannot_be_are_damage);
    tcase_add_test(tcase, a_snapshot_is_one_or_none);
    tcase_add_test(tcase, reading_finds_the_block_or_the_next_one);
    tcase_add_test(tcase, a_block_in_another_ones_place_is_damaged);
    tcase_add_test(tcase, appending_never_goes_behind_what_is_there);
    suite_add_tcase(suite, tcase);
    return suite;
}

CHECK_MAIN(suite)
