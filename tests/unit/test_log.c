/* test_log.c - the log: committing, reading back, rotating, deleting, errors. */
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../lib/base/bytes.h"
#include "../../lib/base/crc32c.h"
#include "log_fixture.h"

static struct fixture f;

static void set_up(void)
{
    fixture_begin(&f);
}

static void tear_down(void)
{
    fixture_end(&f);
}

static uint64_t soon(void)
{
    return deadline_in_ms(10000);
}

/* ------------------------------------------------------------------------------------------------- commit and read */

START_TEST(new_log_is_empty)
{
    uint64_t first[LANES], next[LANES], skip;
    struct store_block *block = NULL;
    struct spool_id id, none = {{0}};
    ck_ok(log_bounds(f.log, soon(), first, next));
    for (int lane = 0; lane < LANES; lane++) {
        ck_assert_uint_eq(first[lane], next[lane]);
        ck_code(log_read(f.log, lane, 0, soon(), &block, &skip), SPOOL_ENOTFOUND);
        ck_assert_ptr_null(block);
    }
    ck_ok(log_max_id(f.log, soon(), &id));
    ck_assert_mem_eq(&id, &none, sizeof id);
    ck_assert_uint_eq(test_segments(&f), 1);
    ck_code(log_oldest(f.log, soon(), first, next), SPOOL_ENOTFOUND);
}
END_TEST

START_TEST(committed_events_are_read_back_as_they_were)
{
    struct log_run run = test_run(LANE_HIGH, 100, 300, 1000);
    struct store_block *block;
    uint64_t skip;
    ck_ok(log_commit(f.log, &run, 1, NULL, 0, soon()));
    ck_assert_uint_eq(run.first_seq, 0);
    ck_ok(log_read(f.log, LANE_HIGH, 42, soon(), &block, &skip));
    ck_assert_uint_eq(block->first_seq, 0);
    ck_assert_uint_eq(block->count, 100);
    ck_assert_uint_eq(block->size, run.size);
    ck_assert_mem_eq(block->events.bytes, run.events, run.size);
    ck_assert_mem_eq(&block->max_id, &run.max_id, sizeof run.max_id);
    store_block_unref(block);
    ck_code(log_read(f.log, LANE_HIGH, 100, soon(), &block, &skip), SPOOL_ENOTFOUND);
    ck_code(log_read(f.log, LANE_LOW, 0, soon(), &block, &skip), SPOOL_ENOTFOUND);
    free((void *)run.events);
}
END_TEST

START_TEST(runs_of_one_commit_are_numbered_by_lane)
{
    struct log_run runs[] = {test_run(LANE_LOW, 3, 10, 1), test_run(LANE_HIGH, 5, 10, 1), test_run(LANE_LOW, 4, 10, 9)};
    ck_ok(log_commit(f.log, runs, 3, NULL, 0, soon()));
    ck_assert_uint_eq(runs[0].first_seq, 0);
    ck_assert_uint_eq(runs[1].first_seq, 0);
    ck_assert_uint_eq(runs[2].first_seq, 3);
    ck_assert_uint_eq(test_read_all(&f, LANE_LOW, 0, NULL), 7);
    ck_assert_uint_eq(test_read_all(&f, LANE_LOW, 4, NULL), 3);
    for (int i = 0; i < 3; i++)
        free((void *)runs[i].events);
}
END_TEST

START_TEST(reopened_log_goes_on_where_it_ended)
{
    for (int i = 0; i < 20; i++)
        test_commit(&f, LANE_MEDIUM, 50, 200, 1 + 50 * (uint64_t)i);
    fixture_close(&f);
    fixture_open(&f, 0);
    ck_assert_uint_eq(test_next(&f, LANE_MEDIUM), 1000);
    ck_assert_uint_eq(test_commit(&f, LANE_MEDIUM, 10, 200, 5000), 1000);
    ck_assert_uint_eq(test_read_all(&f, LANE_MEDIUM, 0, NULL), 1010);
    ck_assert_uint_eq(f.damages, 0);
}
END_TEST

START_TEST(positions_keep_the_greatest_value)
{
    struct log_position p[] = {test_position(1, 500), test_position(2, 7)}, lower = test_position(1, 400);
    uint64_t applied = 1;
    ck_code(log_position(f.log, p[0].uuid, soon(), &applied), SPOOL_ENOTFOUND);
    ck_assert_uint_eq(applied, 1);
    ck_ok(log_commit(f.log, NULL, 0, p, 2, soon()));
    ck_ok(log_commit(f.log, NULL, 0, &lower, 1, soon()));
    ck_ok(log_position(f.log, p[0].uuid, soon(), &applied));
    ck_assert_uint_eq(applied, 500);
    ck_ok(log_position(f.log, p[1].uuid, soon(), &applied));
    ck_assert_uint_eq(applied, 7);
}
END_TEST

START_TEST(too_large_a_commit_is_refused_and_half_a_segment_is_not)
{
    struct log_run large = test_run(LANE_HIGH, 1, TEST_SEGMENT_BYTES, 1),
                   half = test_run(LANE_HIGH, 4, TEST_SEGMENT_BYTES / 8 - 100, 1);
    ck_code(log_commit(f.log, &large, 1, NULL, 0, soon()), SPOOL_ETOOBIG);
    test_commit(&f, LANE_LOW, 1, 10, 1);
    ck_code(log_commit(f.log, &large, 1, NULL, 0, soon()), SPOOL_ETOOBIG);
    for (int i = 0; i < 10; i++)
        ck_ok(log_commit(f.log, &half, 1, NULL, 0, soon()));
    ck_assert_uint_eq(test_read_all(&f, LANE_HIGH, 0, NULL), 40);
    free((void *)large.events);
    free((void *)half.events);
}
END_TEST

/* ---------------------------------------------------------------------------------------------- rotate and delete */

/* Enough commits for several segments; events of 1000 bytes, 100 a commit. */
static uint64_t fill(int commits)
{
    uint64_t ticks = 1;
    for (int i = 0; i < commits; i++, ticks += 100)
        test_commit(&f, i % LANES, 100, 1000, ticks);
    return ticks;
}

START_TEST(full_segments_are_rotated_and_numbers_go_on)
{
    fill(60);
    ck_assert_uint_ge(test_segments(&f), 6);
    for (int lane = 0; lane < LANES; lane++) {
        uint64_t skipped;
        ck_assert_uint_eq(test_next(&f, lane), 1500);
        ck_assert_uint_eq(test_read_all(&f, lane, 0, &skipped), 1500);
        ck_assert_uint_eq(skipped, 0);
        for (uint64_t seq = 0; seq < 1500; seq += 77)
            ck_assert_uint_eq(test_read_all(&f, lane, seq - seq % 100, NULL), 1500 - seq + seq % 100);
    }
    uint64_t applied;
    ck_ok(log_position(f.log, test_position(1, 0).uuid, soon(), &applied));
    ck_assert_uint_eq(applied, 6001);
    fixture_close(&f);
    fixture_open(&f, 0);
    ck_assert_uint_eq(test_read_all(&f, 2, 0, NULL), 1500);
}
END_TEST

START_TEST(segment_files_stay_within_their_size)
{
    fill(40);
    for (uint64_t number = 1; number <= test_segments(&f); number++) {
        char file[512];
        struct stat st;
        fixture_file(&f, number, file);
        ck_assert_int_eq(stat(file, &st), 0);
        ck_assert_uint_le((uint64_t)st.st_size, TEST_SEGMENT_BYTES);
        ck_assert_uint_eq(st.st_mode & 0777, 0600);
    }
}
END_TEST

static bool only_second(void *user, const uint8_t uuid[JOURNAL_UUID_SIZE])
{
    (void)user;
    return uuid[0] == 2;
}

START_TEST(positions_of_gone_journals_are_not_carried_over)
{
    struct log_position p[] = {test_position(1, 500), test_position(2, 7)};
    uint64_t applied;
    log_set_journal_filter(f.log, only_second, NULL);
    ck_ok(log_commit(f.log, NULL, 0, p, 2, soon()));
    test_commit(&f, LANE_LOW, 1, 10, 1);
    ck_ok(log_rotate(f.log, 1, soon()));
    ck_code(log_position(f.log, p[0].uuid, soon(), &applied), SPOOL_ENOTFOUND);
    ck_ok(log_position(f.log, p[1].uuid, soon(), &applied));
    ck_assert_uint_eq(applied, 7);
}
END_TEST

START_TEST(rotation_leaves_what_is_too_little)
{
    ck_ok(log_rotate(f.log, 1, soon()));
    ck_assert_uint_eq(test_segments(&f), 1);
    test_commit(&f, LANE_LOW, 1, 10, 1);
    ck_ok(log_rotate(f.log, TEST_SEGMENT_BYTES / 2, soon()));
    ck_assert_uint_eq(test_segments(&f), 1);
    ck_ok(log_rotate(f.log, 1, soon()));
    ck_assert_uint_eq(test_segments(&f), 2);
}
END_TEST

/* Bytes on the disk that a segment's file owns and does not use. Of a file in many pieces the index counts too, on ext4
 * one block for more than four of them: a few are nothing that was taken ahead. */
static off_t spare_bytes(uint64_t number)
{
    enum { MAP_BYTES = 16 << 10 };
    struct stat st;
    char path[512];
    fixture_file(&f, number, path);
    ck_assert_int_eq(stat(path, &st), 0);
    off_t spare = (off_t)st.st_blocks * 512 - st.st_size;
    return spare > MAP_BYTES ? spare : 0;
}

static bool disk_allocates_ahead(void)
{
    char path[512];
    snprintf(path, sizeof path, "%s/probe", f.path);
    int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    bool can = fd >= 0 && fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 1 << 16) == 0;
    close(fd);
    unlink(path);
    return can;
}

START_TEST(disk_blocks_taken_ahead_are_given_back)
{
    if (!disk_allocates_ahead())
        return;
    test_commit(&f, LANE_LOW, 1, 10, 1);
    ck_assert_int_eq(spare_bytes(1), 0);
    test_commit(&f, LANE_LOW, 200, 1000, 2);
    ck_assert_int_gt(spare_bytes(1), 0);
    ck_assert_int_le(spare_bytes(1), TEST_SEGMENT_BYTES / 2);
    ck_ok(log_rotate(f.log, 1, soon()));
    ck_assert_int_eq(spare_bytes(1), 0);
    test_commit(&f, LANE_LOW, 200, 1000, 300);
    ck_assert_int_gt(spare_bytes(2), 0);
    ck_ok(lock_take(f.lock, LOCK_SHARED, soon()));
    log_trim(f.log);
    ck_assert_int_gt(spare_bytes(2), 0); /* somebody may be about to write */
    lock_drop(f.lock, LOCK_SHARED);
    log_trim(f.log);
    ck_assert_int_eq(spare_bytes(2), 0);
    test_commit(&f, LANE_LOW, 200, 1000, 600); /* and it goes on */
}
END_TEST

START_TEST(newest_snapshot_is_found)
{
    struct buffer out = {0};
    ck_code(log_snapshot(f.log, soon(), &out), SPOOL_ENOTFOUND);
    strcpy(f.snapshot, "first");
    test_commit(&f, LANE_LOW, 1, 10, 1);
    ck_ok(log_rotate(f.log, 1, soon()));
    strcpy(f.snapshot, "second");
    test_commit(&f, LANE_LOW, 1, 10, 2);
    ck_ok(log_rotate(f.log, 1, soon()));
    f.snapshot[0] = '\0';
    test_commit(&f, LANE_LOW, 1, 10, 3);
    ck_ok(log_rotate(f.log, 1, soon()));
    ck_ok(log_snapshot(f.log, soon(), &out));
    ck_assert_uint_eq(out.size, 6);
    ck_assert_mem_eq(out.data, "second", 6);
    buffer_free(&out);
}
END_TEST

START_TEST(only_delivered_segments_are_deleted_oldest_first)
{
    fill(60);
    uint64_t cursor[LANES], first[LANES], next[LANES], before = test_segments(&f), deleted = 99;
    struct spool_id none = {{0}};
    ck_ok(log_oldest(f.log, soon(), first, next));
    memcpy(cursor, next, sizeof cursor);
    cursor[LANE_HIGH]--;
    ck_ok(log_delete(f.log, cursor, &none, soon(), &deleted));
    ck_assert_uint_eq(deleted, 0);
    ck_ok(log_delete(f.log, next, &none, soon(), &deleted));
    ck_assert_uint_eq(deleted, 1);
    ck_assert_uint_eq(test_segments(&f), before - 1);
    uint64_t first_now[LANES], next_now[LANES];
    ck_ok(log_bounds(f.log, soon(), first_now, next_now));
    ck_assert_mem_eq(first_now, next, sizeof next);
    ck_ok(log_delete(f.log, next_now, &none, soon(), &deleted));
    ck_assert_uint_eq(deleted, before - 2); /* never the current one */
    ck_ok(log_bounds(f.log, soon(), first, next));
    ck_assert_mem_eq(next, next_now, sizeof next);
}
END_TEST

/* What a crash may leave: see the crash-image explorer, tests/lab/crashlab. */
static char order[200]; /* of calls: u for an unlink, f for a flush */

int unlinkat(int fd, const char *path, int flags)
{
    strncat(order, "u", sizeof order - strlen(order) - 1);
    return (int)syscall(SYS_unlinkat, fd, path, flags);
}

int fsync(int fd)
{
    strncat(order, "f", sizeof order - strlen(order) - 1);
    return (int)syscall(SYS_fsync, fd);
}

START_TEST(each_deletion_lasts_before_the_next)
{
    fill(60);
    uint64_t first[LANES], next[LANES], deleted = 0;
    struct spool_id none = {{0}};
    ck_ok(log_bounds(f.log, soon(), first, next));
    order[0] = 0;
    ck_ok(log_delete(f.log, next, &none, soon(), &deleted));
    ck_assert_uint_ge(deleted, 2);
    ck_assert_ptr_nonnull(strstr(order, "ufuf"));
    ck_assert_ptr_null(strstr(order, "uu"));
}
END_TEST

START_TEST(retention_keeps_young_segments)
{
    uint64_t next[LANES], first[LANES], deleted, before;
    fill(60);
    before = test_segments(&f);
    struct spool_id from = test_id(1), late = test_id(1000000);
    ck_ok(log_bounds(f.log, soon(), first, next));
    ck_ok(log_delete(f.log, next, &from, soon(), &deleted));
    ck_assert_uint_eq(deleted, 0);
    ck_ok(log_delete(f.log, next, &late, soon(), &deleted));
    ck_assert_uint_eq(deleted, before - 1);
}
END_TEST

START_TEST(block_held_while_its_segment_is_deleted_stays_readable)
{
    struct store_block *block;
    uint64_t skip, first[LANES], next[LANES], deleted;
    struct spool_id none = {{0}};
    fill(60);
    ck_ok(log_read(f.log, 0, 0, soon(), &block, &skip));
    ck_ok(log_bounds(f.log, soon(), first, next));
    ck_ok(log_delete(f.log, next, &none, soon(), &deleted));
    struct event_view view;
    ck_ok(bundle_event(&block->events, 0, &view));
    store_block_unref(block);
    /* What is before the first there is reads as the first there is. */
    ck_ok(log_bounds(f.log, soon(), first, next));
    int code = log_read(f.log, 0, 0, soon(), &block, &skip);
    ck_assert(code == SPOOL_ENOTFOUND || code == SPOOL_OK);
    if (code == SPOOL_OK) {
        ck_assert_uint_ge(block->first_seq, first[0]);
        store_block_unref(block);
    }
}
END_TEST

/* -------------------------------------------------------------------------------------------------------------- ids */

START_TEST(seek_finds_the_first_block_that_reaches_the_id)
{
    uint64_t ticks = 1, seq;
    for (int i = 0; i < 40; i++, ticks += 100)
        test_commit(&f, LANE_LOW, 100, 1000, ticks);
    ck_assert_uint_ge(test_segments(&f), 4);
    for (uint64_t want = 0; want < 4000; want += 333) {
        struct spool_id id = test_id(1 + want);
        ck_ok(log_seek(f.log, LANE_LOW, &id, soon(), &seq));
        ck_assert_uint_eq(seq, want - want % 100);
    }
    struct spool_id beyond = test_id(100000);
    ck_ok(log_seek(f.log, LANE_LOW, &beyond, soon(), &seq));
    ck_assert_uint_eq(seq, 4000);
    ck_ok(log_seek(f.log, LANE_HIGH, &beyond, soon(), &seq));
    ck_assert_uint_eq(seq, 0);
}
END_TEST

START_TEST(seek_is_right_when_blocks_come_out_of_order)
{
    uint64_t seq;
    test_commit(&f, LANE_LOW, 10, 10, 1000);
    test_commit(&f, LANE_LOW, 10, 10, 5000); /* seq 10 */
    test_commit(&f, LANE_LOW, 10, 10, 2000); /* a dead process's journal, applied late */
    struct spool_id id = test_id(2005);
    ck_ok(log_seek(f.log, LANE_LOW, &id, soon(), &seq));
    ck_assert_uint_le(seq, 25);
    ck_assert_uint_eq(seq, 10);
}
END_TEST

START_TEST(largest_id_is_known_after_its_segment_is_gone)
{
    struct spool_id id, want = test_id(999999 + 9), none = {{0}};
    uint64_t first[LANES], next[LANES], deleted;
    test_commit(&f, LANE_HIGH, 10, 10, 999999);
    ck_ok(log_rotate(f.log, 1, soon()));
    test_commit(&f, LANE_HIGH, 10, 10, 5);
    ck_ok(log_rotate(f.log, 1, soon()));
    ck_ok(log_bounds(f.log, soon(), first, next));
    ck_ok(log_delete(f.log, next, &none, soon(), &deleted));
    ck_assert_uint_eq(deleted, 2);
    ck_ok(log_max_id(f.log, soon(), &id));
    ck_assert_mem_eq(&id, &want, sizeof id);
}
END_TEST

/* --------------------------------------------------------------------------------------------------------- failures */

START_TEST(read_only_log_reads_and_changes_nothing)
{
    struct log_run run = test_run(LANE_HIGH, 1, 10, 1);
    fill(20);
    fixture_close(&f);
    fixture_open(&f, SPOOL_READ_ONLY);
    ck_assert_uint_eq(test_read_all(&f, 1, 0, NULL), 500);
    ck_code(log_commit(f.log, &run, 1, NULL, 0, soon()), SPOOL_EREADONLY);
    free((void *)run.events);
}
END_TEST

START_TEST(full_disk_leaves_the_log_usable)
{
    struct log_run run = test_run(LANE_HIGH, 10, 20000, 1);
    test_commit(&f, LANE_HIGH, 10, 10, 1);
    /* A limit on the size of files fails like a full disk: EFBIG instead of ENOSPC. */
    struct rlimit old, limit;
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
    limit = old;
    limit.rlim_cur = 128 << 10;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    int code = log_commit(f.log, &run, 1, NULL, 0, soon());
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
    ck_assert_msg(code > 0, "%s", spool_error_name(code));
    ck_assert_uint_eq(test_next(&f, LANE_HIGH), 10);
    ck_assert_uint_eq(test_read_all(&f, LANE_HIGH, 0, NULL), 10);
    ck_ok(log_commit(f.log, &run, 1, NULL, 0, soon()));
    ck_assert_uint_eq(run.first_seq, 10);
    ck_assert_uint_eq(test_read_all(&f, LANE_HIGH, 0, NULL), 20);
    free((void *)run.events);
}
END_TEST

START_TEST(no_new_segment_on_a_full_disk_and_then_one)
{
    struct rlimit old, limit;
    test_commit(&f, LANE_HIGH, 10, 10, 1);
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
    limit = old;
    limit.rlim_cur = 8 << 10;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    int code = log_rotate(f.log, 1, soon());
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
    ck_assert_msg(code > 0, "%s", spool_error_name(code));
    ck_assert_uint_eq(test_segments(&f), 1);
    test_commit(&f, LANE_HIGH, 10, 10, 20);
    ck_ok(log_rotate(f.log, 1, soon()));
    ck_assert_uint_eq(test_segments(&f), 2);
    ck_assert_uint_eq(test_read_all(&f, LANE_HIGH, 0, NULL), 20);
}
END_TEST

START_TEST(held_lock_is_awaited_no_longer_than_asked)
{
    struct log_run run = test_run(LANE_HIGH, 1, 10, 1);
    ck_ok(lock_take(f.lock, LOCK_EXCLUSIVE, soon()));
    ck_code(log_commit(f.log, &run, 1, NULL, 0, deadline_in_ms(20)), SPOOL_ETIMEOUT);
    lock_drop(f.lock, LOCK_EXCLUSIVE);
    ck_ok(log_commit(f.log, &run, 1, NULL, 0, soon()));
    free((void *)run.events);
}
END_TEST

START_TEST(leftovers_of_a_crash_are_removed)
{
    char file[512], left[540];
    fixture_file(&f, 2, file);
    snprintf(left, sizeof left, "%s.tmp", file);
    FILE *out = fopen(left, "w");
    ck_assert_ptr_nonnull(out);
    fputs("half a segment", out);
    fclose(out);
    fixture_close(&f);
    fixture_open(&f, 0);
    ck_assert_int_ne(access(left, F_OK), 0);
    test_commit(&f, LANE_LOW, 1, 1, 1);
}
END_TEST

START_TEST(segment_of_another_format_is_refused)
{
    char file[512];
    fixture_close(&f);
    fixture_file(&f, 1, file);
    FILE *in = fopen(file, "r+");
    ck_assert_ptr_nonnull(in);
    static uint8_t bytes[1 << 20];
    size_t size = fread(bytes, 1, sizeof bytes, in);
    const struct segment_head head = {.number = 1};
    unsigned changed = 0;
    for (size_t at = 0; at + ROW_HEAD_SIZE <= size; at++) {
        if (memcmp(bytes + at, ROW_MAGIC, sizeof ROW_MAGIC) != 0 || row_size(bytes + at) != ROW_HEAD_SIZE)
            continue;
        uint8_t row[ROW_HEAD_SIZE];
        row_write_head(row, 1, &head);
        put_u32(row + ROW_HEADER, 2); /* the format */
        put_u32(row + 8, crc32c(0, row + 12, sizeof row - 12));
        fseek(in, (long)at, SEEK_SET);
        changed += fwrite(row, 1, sizeof row, in) == sizeof row;
    }
    fclose(in);
    ck_assert_uint_ge(changed, 1);
    ck_ok(dir_open(f.path, TEST_SEGMENT_BYTES, 0, 0, &f.dir));
    ck_ok(lock_open(f.dir.fd, "log.lock", false, 0600, NULL, &f.lock));
    ck_code(fixture_try_open(&f), SPOOL_EVERSION);
    ck_assert_ptr_nonnull(strstr(err_last(), "format 2"));
    ck_assert_int_eq(access(file, F_OK), 0);
}
END_TEST

/* ----------------------------------------------------------------------------------------------------------- verify */

static uint64_t progress_done, progress_all;

static void on_progress(void *user, uint64_t done, uint64_t all)
{
    (void)user;
    ck_assert_uint_ge(done, progress_done);
    progress_done = done;
    progress_all = all;
}

START_TEST(verify_reads_everything)
{
    struct spool_verify_report report = {0};
    fill(60);
    progress_done = progress_all = 0;
    ck_ok(log_verify(f.log, NULL, on_progress, NULL, &report));
    ck_assert_uint_eq(report.events, 6000);
    ck_assert_uint_eq(report.blocks, 60);
    ck_assert_uint_eq(report.segments, test_segments(&f));
    ck_assert_uint_eq(report.findings, 0);
    ck_assert_uint_eq(progress_done, progress_all);
}
END_TEST

START_TEST(statistics_count_what_is_there)
{
    struct log_stats stats;
    fill(30);
    ck_ok(log_stats(f.log, &stats));
    ck_assert_uint_eq(stats.events, 3000);
    ck_assert_uint_gt(stats.bytes, 3000000);
    ck_assert_uint_lt(stats.bytes, 5000000);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("log");
    TCase *c = tcase_create("log");
    tcase_add_checked_fixture(c, set_up, tear_down);
    tcase_set_timeout(c, 60);
    tcase_add_test(c, new_log_is_empty);
    tcase_add_test(c, committed_events_are_read_back_as_they_were);
    tcase_add_test(c, runs_of_one_commit_are_numbered_by_lane);
    tcase_add_test(c, reopened_log_goes_on_where_it_ended);
    tcase_add_test(c, positions_keep_the_greatest_value);
    tcase_add_test(c, too_large_a_commit_is_refused_and_half_a_segment_is_not);
    tcase_add_test(c, full_segments_are_rotated_and_numbers_go_on);
    tcase_add_test(c, segment_files_stay_within_their_size);
    tcase_add_test(c, positions_of_gone_journals_are_not_carried_over);
    tcase_add_test(c, rotation_leaves_what_is_too_little);
    tcase_add_test(c, disk_blocks_taken_ahead_are_given_back);
    tcase_add_test(c, newest_snapshot_is_found);
    tcase_add_test(c, only_delivered_segments_are_deleted_oldest_first);
    tcase_add_test(c, each_deletion_lasts_before_the_next);
    tcase_add_test(c, retention_keeps_young_segments);
    tcase_add_test(c, block_held_while_its_segment_is_deleted_stays_readable);
    tcase_add_test(c, seek_finds_the_first_block_that_reaches_the_id);
    tcase_add_test(c, seek_is_right_when_blocks_come_out_of_order);
    tcase_add_test(c, largest_id_is_known_after_its_segment_is_gone);
    tcase_add_test(c, read_only_log_reads_and_changes_nothing);
    tcase_add_test(c, full_disk_leaves_the_log_usable);
    tcase_add_test(c, no_new_segment_on_a_full_disk_and_then_one);
    tcase_add_test(c, held_lock_is_awaited_no_longer_than_asked);
    tcase_add_test(c, leftovers_of_a_crash_are_removed);
    tcase_add_test(c, segment_of_another_format_is_refused);
    tcase_add_test(c, verify_reads_everything);
    tcase_add_test(c, statistics_count_what_is_there);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
