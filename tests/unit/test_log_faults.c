/* test_log_faults.c - opening, appending to and deleting from the log with each single call below failing once: what
 * was committed is neither lost nor given twice. (test_log_faults_read.c has the rest.) */
#include "../../spool/log_inside.h"
#include "log_faults.h"

/* ------------------------------------------------------------------------------------------------------- opening */

static void after_opening(int code)
{
    ck_here((code == SPOOL_OK) == (f.log != NULL));
    if (!f.log)
        ok_here(fixture_try_open(&f));
    nothing_is_lost();
    ck_here(f.damages == 0);
}

static int open_log(void)
{
    return fixture_try_open(&f);
}

START_TEST(opening)
{
    sweep(&(struct operation){"opening", close_log, open_log, after_opening});
}
END_TEST

/* What a crash leaves: a segment that was being made, and a damaged one that was on its way to quarantine/. */
static void close_and_leave_remains(void)
{
    char path[600];
    close_log();
    snprintf(path, sizeof path, "%s/segments/00000000000000000009.mdb.tmp", f.path);
    fclose(fopen(path, "w"));
    snprintf(path, sizeof path, "%s/segments/00000000000000000002.mdb.damaged", f.path);
    fclose(fopen(path, "w"));
}

START_TEST(opening_where_something_remained)
{
    sweep(&(struct operation){"opening over remains", close_and_leave_remains, open_log, after_opening});
}
END_TEST

static void close_and_remove_all(void)
{
    char path[512];
    if (f.log)
        close_log();
    fixture_file(&f, 1, path);
    unlink(path);
}

static int no_sinks(void *user, uint64_t deadline_ns, uint64_t ret_next[LANES])
{
    (void)user, (void)deadline_ns;
    memset(ret_next, 0, LANES * sizeof *ret_next);
    return SPOOL_OK;
}

static int open_new(void)
{
    const struct log_options options = {.dir = &f.dir, .lock = f.lock, .known = no_sinks};
    return log_open(&options, soon(), &f.log);
}

static void after_opening_new(int code)
{
    ck_here((code == SPOOL_OK) == (f.log != NULL));
    if (!f.log)
        ok_here(open_new());
    committed = 0;
    nothing_is_lost();
    ck_here(test_segments(&f) == 1);
}

START_TEST(opening_where_there_is_no_segment)
{
    uint64_t cursor[LANES];
    uint64_t deleted;
    struct spool_id none = {0};
    memset(cursor, 0xff, sizeof cursor);
    ck_ok(log_delete(f.log, cursor, &none, soon(), &deleted));
    char path[512];
    fixture_file(&f, 3, path);
    ck_assert_int_eq(unlink(path), 0);
    sweep(&(struct operation){"opening anew", close_and_remove_all, open_new, after_opening_new});
}
END_TEST

/* ------------------------------------------------------------------------------------------------------- commits */

static struct log_run run;

static void make_run(void)
{
    run = test_run(LANE_MEDIUM, 1, 200, ticks);
}

static int commit_run(void)
{
    struct log_position position = test_position(1, ticks + run.count);
    return log_commit(f.log, &run, 1, &position, 1, soon());
}

/* Either all of it is there, with its position, or nothing; with SPOOL_EUNCERTAIN one of them. */
static void after_commit(int code)
{
    uint64_t first[LANES], next[LANES], applied = 0;
    ok_here(log_bounds(f.log, soon(), first, next));
    bool there = next[LANE_MEDIUM] == committed + run.count;
    ck_here(there || next[LANE_MEDIUM] == committed);
    ck_here(code == SPOOL_EUNCERTAIN || there == (code == SPOOL_OK));
    ck_here(code != SPOOL_OK || run.first_seq == committed);
    ok_here(log_position(f.log, test_position(1, 0).uuid, soon(), &applied));
    ck_here(applied == (there ? ticks + run.count : ticks));
    committed = next[LANE_MEDIUM];
    ticks = applied;
    free((void *)run.events);
    add(1, 100);
    nothing_is_lost();
    ck_here(f.damages == 0);
}

START_TEST(committing)
{
    sweep(&(struct operation){"committing", make_run, commit_run, after_commit});
}
END_TEST

static void delete_all(void)
{
    uint64_t cursor[LANES], deleted = 0;
    struct spool_id none = {0};
    memset(cursor, 0xff, sizeof cursor);
    ok_here(log_delete(f.log, cursor, &none, soon(), &deleted));
}

/* So much that it needs a segment of its own, and the current one is not empty. */
static void make_large_run(void)
{
    delete_all();
    run = test_run(LANE_MEDIUM, 7, 100000, ticks);
}

START_TEST(committing_into_a_new_segment)
{
    sweep(&(struct operation){"rotating commit", make_large_run, commit_run, after_commit});
}
END_TEST

/* LMDB has no room after all. */
START_TEST(a_full_map_is_no_failure)
{
    fail_err = MDB_MAP_FULL;
    sweep_class(&(struct operation){"full map", make_run, commit_run, after_commit}, FAIL_LMDB_WRITE);
}
END_TEST

static int rotate(void)
{
    return log_rotate(f.log, 1, soon());
}

static void add_one(void)
{
    delete_all();
    add(1, 100);
}

static void after_rotating(int code)
{
    ck_here(code != SPOOL_OK || test_segments(&f) == 2);
    add(1, 100);
    nothing_is_lost();
    ck_here(f.damages == 0);
}

START_TEST(rotating)
{
    sweep(&(struct operation){"rotating", add_one, rotate, after_rotating});
}
END_TEST

/* As if a process that was killed in the middle of it had made the last commit: seen, and perhaps not on the disk. */
static struct segment *unsettle(void)
{
    struct segment *newest = log_newest(f.log)->segment;
    newest->settled_txn = 0;
    return newest;
}

START_TEST(a_segment_that_cannot_be_flushed_is_rebuilt)
{
    add(1, 100);
    unsettle();
    fail_arm(FAIL_SYNC, 1);
    int code = rotate();
    ck_assert(fail_disarm());
    ck_ok(code);
    ck_assert_uint_eq(f.damages, 0);
    nothing_is_lost();
}
END_TEST

START_TEST(a_position_is_not_believed_before_it_is_on_the_disk)
{
    const uint8_t unknown[JOURNAL_UUID_SIZE] = {1};
    uint64_t applied;
    add(1, 100);
    struct segment *newest = unsettle();
    ck_assert_int_eq(log_position(f.log, unknown, soon(), &applied), SPOOL_ENOTFOUND);
    ck_assert_uint_eq(newest->settled_txn, newest->txn);
    ck_assert_uint_eq(f.damages, 0);
}
END_TEST

static uint64_t deleted_now;

static void make_one_sealed(void)
{
    add_one();
    ok_here(log_rotate(f.log, 1, soon()));
    deleted_now = 0;
}

static int delete (void)
{
    struct spool_id none = {0};
    uint64_t cursor[LANES];
    memset(cursor, 0xff, sizeof cursor);
    return log_delete(f.log, cursor, &none, soon(), &deleted_now);
}

static void after_deleting(int code)
{
    ck_here(code != SPOOL_OK || deleted_now == 1);
    add(1, 100);
    nothing_is_lost();
}

START_TEST(deleting)
{
    sweep(&(struct operation){"deleting", make_one_sealed, delete, after_deleting});
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("log_faults");
    TCase *tcase = tcase_create("log_faults");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, opening);
    tcase_add_test(tcase, opening_where_something_remained);
    tcase_add_test(tcase, opening_where_there_is_no_segment);
    tcase_add_test(tcase, committing);
    tcase_add_test(tcase, committing_into_a_new_segment);
    tcase_add_test(tcase, a_full_map_is_no_failure);
    tcase_add_test(tcase, rotating);
    tcase_add_test(tcase, a_segment_that_cannot_be_flushed_is_rebuilt);
    tcase_add_test(tcase, a_position_is_not_believed_before_it_is_on_the_disk);
    tcase_add_test(tcase, deleting);
    suite_add_tcase(suite, tcase);
    return suite;
}

CHECK_MAIN(suite)
