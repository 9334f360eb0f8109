/* test_segment_salvage.c - what is believed of a damaged segment: files of blocks, rows and meta pages in any order,
 * written by hand, and what is made of them. */
#include <sys/stat.h>

#include "../../lib/base/bytes.h"
#include "../../lib/base/crc32c.h"
#include "../../spool/segment_salvage.h"
#include "log_fixture.h"

static char *base;
static struct dir dir;
static struct buffer raw; /* the file */
static struct salvage_hint hint;
static struct salvage_result result;

static void set_up(void)
{
    char path[256];
    base = test_dir();
    snprintf(path, sizeof path, "%s/spool", base);
    ck_ok(dir_open(path, TEST_SEGMENT_BYTES, 0, 0, &dir));
    raw = (struct buffer){0};
    hint = (struct salvage_hint){.newest = true};
    memset(hint.end, 0xff, sizeof hint.end);
}

static void tear_down(void)
{
    buffer_free(&raw);
    dir_close(&dir);
    test_rmdir(base);
    free(base);
}

/* ------------------------------------------------------------------------------------------------------- the file */

static uint8_t *grow(size_t size)
{
    ck_ok(buffer_reserve(&raw, size));
    raw.size += size;
    return raw.data + raw.size - size;
}

static void put_block(int lane, uint64_t first_seq, uint32_t count, uint64_t commit)
{
    struct log_run run = test_run(lane, count, 50, 1000 + first_seq);
    const struct block_info info = {.lane = lane,
                                    .count = count,
                                    .first_seq = first_seq,
                                    .size = (uint32_t)run.size,
                                    .form = (enum bundle_form)run.form,
                                    .min_id = run.min_id,
                                    .max_id = run.max_id,
                                    .commit = commit};
    block_write(grow(BLOCK_HEADER + run.size), &info, run.events);
    free((void *)run.events);
}

/* Every lane ends at `next`; the commit stored so many blocks. */
static void put_tally(uint64_t next, uint64_t commit, uint32_t blocks)
{
    struct segment_tally tally = {.blocks = blocks};
    for (int lane = 0; lane < LANES; lane++)
        tally.lane[lane].next = next;
    row_write_tally(grow(ROW_TALLY_SIZE), commit, &tally);
}

static void put_head(uint64_t lane_base, uint64_t commit)
{
    struct segment_head head = {.number = 1};
    for (int lane = 0; lane < LANES; lane++)
        head.base[lane] = lane_base;
    row_write_head(grow(ROW_HEAD_SIZE), commit, &head);
}

static void put_position(uint8_t which, uint64_t applied, uint64_t commit)
{
    const struct log_position position = test_position(which, applied);
    row_write_position(grow(ROW_POSITION_SIZE), commit, position.uuid, applied);
}

static void put_snapshot(const char *text, uint64_t commit)
{
    row_write_snapshot(grow(ROW_HEADER + strlen(text)), commit, text, strlen(text));
}

/* A row's last change, with a checksum that holds. */
static void reseal(uint8_t *row)
{
    put_u32(row + 8, crc32c(0, row + 12, row_size(row) - 12));
}

/* LMDB's two meta pages, at the beginning. */
static void put_metas(uint64_t even, uint64_t odd, uint64_t last_even, uint64_t last_odd)
{
    enum { PAGE = 512 };
    for (int i = 0; i < 2; i++) {
        uint8_t *page = grow(PAGE);
        memset(page, 0, PAGE);
        put_u32(page + 16, 0xBEEFC0DE);
        put_u32(page + 20, 1);
        put_u32(page + 40, PAGE);
        put_u64(page + 16 + 120, i ? last_odd : last_even);
        put_u64(page + 16 + 128, i ? odd : even);
    }
}

static void write_file(void)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(1, name);
    int fd = openat(dir.segments_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, raw.data, raw.size), (ssize_t)raw.size);
    close(fd);
}

/* Open, after it was rebuilt. */
static struct segment *salvaged(void)
{
    struct segment *segment = NULL;
    write_file();
    ck_ok(segment_salvage(&dir, 1, &hint, &result));
    ck_ok(segment_open(&dir, 1, true, &segment));
    return segment;
}

static bool has_block(const struct segment *segment, int lane, uint64_t first_seq, uint32_t count)
{
    struct store_block *block = NULL;
    struct segment_flaw flaw = {0};
    int code = segment_read(segment, lane, first_seq, &block, &flaw);
    bool has = code == SPOOL_OK && block->first_seq == first_seq && block->count == count;
    store_block_unref(block);
    free(flaw.bytes);
    return has;
}

/* UINT64_MAX: none. */
static uint64_t position_of(const struct segment *segment, uint8_t which)
{
    uint64_t applied = UINT64_MAX;
    int code = segment_position(segment, test_position(which, 0).uuid, &applied);
    ck_assert(code == SPOOL_OK || code == SPOOL_ENOTFOUND);
    return applied;
}

static const uint64_t JUMP = 1ull << STORE_HOLE_SHIFT;

/* ------------------------------------------------------------------------------------------------------ the search */

START_TEST(nothing_in_a_file_leaves_an_empty_segment)
{
    memset(grow(5), 'S', 5);
    struct segment *segment = salvaged();
    ck_assert_uint_eq(result.blocks, 0);
    ck_assert(!result.end_known);
    ck_assert_uint_eq(segment->tally.lane[0].next, JUMP);
    segment_close(segment);
}
END_TEST

/* Headers that lie about their size, stop at the end of the file, or are nothing but a magic. */
START_TEST(what_is_not_whole_is_passed)
{
    memcpy(grow(8), ROW_MAGIC, 8);
    memcpy(grow(8), BLOCK_MAGIC, 8);
    memcpy(grow(3), "SPL", 3);
    put_block(LANE_HIGH, 0, 2, 3);
    raw.data[raw.size - 5] ^= 1;
    put_block(LANE_HIGH, 2, 2, 3);
    put_tally(9, 3, 1);
    raw.data[raw.size - 9] ^= 1;
    put_position(1, 5, 3);
    put_u32(raw.data + raw.size - ROW_POSITION_SIZE + 12, 7); /* smaller than a header */
    put_position(2, 5, 3);
    put_u32(raw.data + raw.size - ROW_POSITION_SIZE + 12, 1 << 20); /* behind the end */
    memcpy(grow(8), BLOCK_MAGIC, 8);
    struct segment *segment = salvaged();
    ck_assert_uint_eq(result.blocks, 1);
    ck_assert(has_block(segment, LANE_HIGH, 2, 2));
    ck_assert_uint_eq(position_of(segment, 1), UINT64_MAX);
    segment_close(segment);
}
END_TEST

/* Their checksums hold, but they say what cannot be; or are of a kind that is not known here. */
START_TEST(impossible_rows_are_passed)
{
    put_tally(BLOCK_SEQ_MAX, 9, 0);
    put_position(1, UINT64_MAX / 2, 9);
    put_head(BLOCK_SEQ_MAX, 9);
    put_position(2, 5, 3);
    put_u32(raw.data + raw.size - ROW_POSITION_SIZE + 16, 99);
    reseal(raw.data + raw.size - ROW_POSITION_SIZE);
    put_block(LANE_LOW, 4, 1, 3);
    put_tally(5, 3, 1);
    struct segment *segment = salvaged();
    ck_assert(result.end_known);
    ck_assert_uint_eq(segment->tally.lane[LANE_LOW].next, 5);
    ck_assert_uint_eq(position_of(segment, 1), UINT64_MAX);
    ck_assert_uint_eq(position_of(segment, 2), UINT64_MAX);
    segment_close(segment);
}
END_TEST

START_TEST(a_newer_version_is_not_taken_apart)
{
    put_head(0, 1);
    uint8_t *row = raw.data + raw.size - ROW_HEAD_SIZE;
    put_u32(row + ROW_HEADER, 2);
    reseal(row);
    write_file();
    ck_code(segment_salvage(&dir, 1, &hint, &result), SPOOL_EVERSION);
    ck_assert_ptr_nonnull(strstr(err_last(), "cannot be rebuilt"));
}
END_TEST

START_TEST(a_file_that_is_gone_cannot_be_rebuilt)
{
    ck_code(segment_salvage(&dir, 1, &hint, &result), ENOENT);
}
END_TEST

/* More than the first arrays hold, and more than one window of the search and one transaction of the rebuilding. */
START_TEST(large_files_are_taken_in_pieces)
{
    enum { ROWS = 300, BIG = 50, EVENTS = 7000 };
    for (unsigned i = 0; i < ROWS; i++) {
        put_block(LANE_LOW, i, 1, i);
        put_position((uint8_t)(i % 3), i, i);
        put_tally(i, i, 1);
    }
    for (unsigned i = 0; i < BIG; i++)
        put_block(LANE_HIGH, i * EVENTS, EVENTS, ROWS);
    put_tally(BIG * EVENTS, ROWS, BIG);
    ck_assert_uint_gt(raw.size, 17 << 20);
    struct segment *segment = salvaged();
    ck_assert_uint_eq(result.blocks, ROWS + BIG);
    ck_assert_uint_eq(result.events, ROWS + BIG * EVENTS);
    ck_assert_uint_eq(position_of(segment, 2), ROWS - 1);
    ck_assert(has_block(segment, LANE_LOW, ROWS - 1, 1));
    ck_assert(has_block(segment, LANE_HIGH, (BIG - 1) * EVENTS, EVENTS));
    segment_close(segment);
}
END_TEST

/* -------------------------------------------------------------------------------------------- what may be believed */

/* Whole meta pages say which transaction was the last: later rows were not finished. */
START_TEST(whole_meta_pages_end_the_log)
{
    put_metas(4, 3, 2, 2);
    put_block(LANE_HIGH, 0, 2, 4);
    put_tally(2, 4, 1);
    put_position(1, 10, 4);
    put_block(LANE_HIGH, 2, 2, 5);
    put_tally(4, 5, 1);
    put_position(1, 20, 5);
    struct segment *segment = salvaged();
    ck_assert(result.end_known);
    ck_assert_uint_eq(segment->tally.lane[LANE_HIGH].next, 2);
    ck_assert_uint_eq(position_of(segment, 1), 10);
    segment_close(segment);
}
END_TEST

/* Meta pages that contradict each other end nothing. */
START_TEST(meta_pages_that_cannot_both_be_are_not_believed)
{
    static const uint64_t metas[][4] = {{4, 6, 2, 2}, {4, 9, 2, 2}, {3, 2, 2, 2}, {4, 3, 2, 9}, {2, 3, 9, 2}};
    for (size_t i = 0; i < sizeof metas / sizeof metas[0]; i++) {
        raw.size = 0;
        put_metas(metas[i][0], metas[i][1], metas[i][2], metas[i][3]);
        put_block(LANE_HIGH, 0, 2, 9);
        put_tally(2, 9, 1);
        put_position(1, 10, 9);
        struct segment *segment = salvaged();
        ck_assert(has_block(segment, LANE_HIGH, 0, 2));
        ck_assert(result.end_known);
        ck_assert_uint_eq(position_of(segment, 1), 10);
        segment_close(segment);
    }
}
END_TEST

/* One that is left says what is certain, and not what is not. */
START_TEST(one_meta_page_leaves_the_end_unknown)
{
    put_metas(4, 3, 2, 2);
    memset(raw.data + 512, 0, 512);
    put_block(LANE_HIGH, 0, 2, 4);
    put_tally(2, 4, 1);
    put_position(1, 10, 4);
    struct segment *segment = salvaged();
    ck_assert(!result.end_known);
    ck_assert_uint_eq(segment->tally.lane[LANE_HIGH].next, 2 + JUMP);
    ck_assert_uint_eq(position_of(segment, 1), 10);
    segment_close(segment);
}
END_TEST

/* A commit of which blocks are missing may not have been finished: its positions would lose events. */
START_TEST(positions_of_an_unfinished_commit_are_left_out)
{
    put_block(LANE_HIGH, 0, 2, 4);
    put_tally(2, 4, 1);
    put_position(1, 10, 4);
    put_block(LANE_HIGH, 2, 2, 5);
    put_tally(6, 5, 2);
    put_position(1, 20, 5);
    put_position(2, 20, 6); /* of a commit whose tally is not there */
    struct segment *segment = salvaged();
    ck_assert_uint_eq(position_of(segment, 1), 10);
    ck_assert_uint_eq(position_of(segment, 2), UINT64_MAX);
    ck_assert(has_block(segment, LANE_HIGH, 2, 2));
    segment_close(segment);
}
END_TEST

START_TEST(without_a_tally_no_position_is_believed)
{
    put_position(1, 20, 5);
    put_block(LANE_HIGH, 7, 2, 5);
    hint.newest = false;
    struct segment *segment = salvaged();
    ck_assert_uint_eq(position_of(segment, 1), UINT64_MAX);
    ck_assert_uint_eq(segment->head.base[LANE_HIGH], 7);
    ck_assert_uint_eq(segment->tally.lane[LANE_HIGH].next, 9); /* not the newest: no jump */
    segment_close(segment);
}
END_TEST

START_TEST(the_newest_snapshot_counts)
{
    struct buffer out = {0};
    put_snapshot("new", 8);
    put_snapshot("old", 3);
    put_tally(0, 8, 0);
    struct segment *segment = salvaged();
    ck_ok(segment_snapshot(segment, &out));
    ck_assert_uint_eq(out.size, 3);
    ck_assert_mem_eq(out.data, "new", 3);
    buffer_free(&out);
    segment_close(segment);
}
END_TEST

/* ------------------------------------------------------------------------------------------------- which blocks stay
 */

START_TEST(of_blocks_that_overlap_the_later_stays)
{
    put_block(LANE_HIGH, 0, 2, 3);
    put_block(LANE_HIGH, 0, 4, 3); /* as late, and longer */
    put_block(LANE_HIGH, 0, 1, 3);
    put_block(LANE_HIGH, 3, 3, 5); /* later: takes the place of all before */
    put_block(LANE_HIGH, 5, 3, 4);
    put_block(LANE_HIGH, 8, 2, 2);
    put_block(LANE_HIGH, 8, 2, 6);
    put_block(LANE_LOW, 0, 2, 1);
    put_tally(10, 6, 1);
    struct segment *segment = salvaged();
    ck_assert_uint_eq(result.blocks, 3);
    ck_assert(has_block(segment, LANE_HIGH, 3, 3));
    ck_assert(has_block(segment, LANE_HIGH, 8, 2));
    ck_assert(has_block(segment, LANE_LOW, 0, 2));
    segment_close(segment);
}
END_TEST

START_TEST(the_longer_of_two_as_late_stays)
{
    put_block(LANE_HIGH, 0, 2, 3);
    put_block(LANE_HIGH, 0, 4, 3);
    put_block(LANE_HIGH, 0, 4, 3);
    struct segment *segment = salvaged();
    ck_assert_uint_eq(result.blocks, 1);
    ck_assert(has_block(segment, LANE_HIGH, 0, 4));
    segment_close(segment);
}
END_TEST

/* Neighbours know where this segment begins and ends. */
START_TEST(what_belongs_to_neighbours_is_left_out)
{
    for (int lane = 0; lane < LANES; lane++) {
        hint.base[lane] = 10;
        hint.end[lane] = 20;
    }
    hint.newest = false;
    put_head(12, 1);
    put_block(LANE_HIGH, 9, 2, 3);
    put_block(LANE_HIGH, 11, 1, 3); /* before what the head says */
    put_block(LANE_HIGH, 13, 2, 3);
    put_block(LANE_HIGH, 18, 3, 3); /* reaches into the next one */
    put_block(LANE_HIGH, 20, 1, 3);
    put_tally(30, 3, 5);
    struct segment *segment = salvaged();
    ck_assert_uint_eq(result.blocks, 1);
    ck_assert(has_block(segment, LANE_HIGH, 13, 2));
    ck_assert_uint_eq(segment->head.base[LANE_HIGH], 12);
    ck_assert_uint_eq(segment->tally.lane[LANE_HIGH].next, 20);
    ck_assert_uint_eq(result.lost, 4 * 8 - 2);
    segment_close(segment);
    raw.size = 0;
    put_block(LANE_HIGH, 13, 2, 3); /* no head: it begins where the one before ended */
    segment = salvaged();
    ck_assert_uint_eq(segment->head.base[LANE_HIGH], 10);
    segment_close(segment);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("segment_salvage");
    TCase *tcase = tcase_create("segment_salvage");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, nothing_in_a_file_leaves_an_empty_segment);
    tcase_add_test(tcase, what_is_not_whole_is_passed);
    tcase_add_test(tcase, impossible_rows_are_passed);
    tcase_add_test(tcase, a_newer_version_is_not_taken_apart);
    tcase_add_test(tcase, a_file_that_is_gone_cannot_be_rebuilt);
    tcase_add_test(tcase, large_files_are_taken_in_pieces);
    tcase_add_test(tcase, whole_meta_pages_end_the_log);
    tcase_add_test(tcase, meta_pages_that_cannot_both_be_are_not_believed);
    tcase_add_test(tcase, one_meta_page_leaves_the_end_unknown);
    tcase_add_test(tcase, positions_of_an_unfinished_commit_are_left_out);
    tcase_add_test(tcase, without_a_tally_no_position_is_believed);
    tcase_add_test(tcase, the_newest_snapshot_counts);
    tcase_add_test(tcase, of_blocks_that_overlap_the_later_stays);
    tcase_add_test(tcase, the_longer_of_two_as_late_stays);
    tcase_add_test(tcase, what_belongs_to_neighbours_is_left_out);
    suite_add_tcase(suite, tcase);
    return suite;
}

CHECK_MAIN(suite)
