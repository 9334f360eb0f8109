/* test_log_edges.c - the log where things are not as usual: no segment at all, files that vanish, commits that are
 * answered with a failure and are there, blocks that are whole and say what cannot be. */
#include <dlfcn.h>

#include "../../spool/log_inside.h"
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

/* Segments 1 to `n`, each with three events in lane medium but the last one, which has none. */
static void make_segments(unsigned n)
{
    for (unsigned i = 1; i < n; i++) {
        test_commit(&f, LANE_MEDIUM, 3, 500, 1000 + 3 * i);
        ck_ok(log_rotate(f.log, 1, soon()));
    }
    ck_assert_uint_eq(test_segments(&f), n);
}

static void reopen(uint32_t flags)
{
    fixture_close(&f);
    fixture_open(&f, flags);
}

static void remove_segment(uint64_t number)
{
    char path[512];
    fixture_file(&f, number, path);
    ck_assert_int_eq(unlink(path), 0);
}

/* ------------------------------------------------------------------------------------------------ nothing there */

START_TEST(without_segments_every_question_has_an_answer)
{
    fixture_close(&f);
    remove_segment(1);
    fixture_open(&f, SPOOL_READ_ONLY);
    uint64_t first[LANES], next[LANES], n = 7;
    struct spool_id id = test_id(5), max;
    struct buffer out = {0};
    struct store_block *block = NULL;
    struct log_stats stats;
    struct spool_verify_report report = {0};
    ck_code(log_read(f.log, LANE_HIGH, 0, soon(), &block, &n), SPOOL_ENOTFOUND);
    ck_ok(log_bounds(f.log, soon(), first, next));
    ck_assert_uint_eq(first[LANE_HIGH] + next[LANE_HIGH], 0);
    log_bounds_known(f.log, first, next);
    ck_assert_uint_eq(first[LANE_HIGH] + next[LANE_HIGH], 0);
    ck_ok(log_max_id(f.log, soon(), &max));
    ck_assert_int_eq(max.bytes[0], 0);
    ck_ok(log_seek(f.log, LANE_HIGH, &id, soon(), &n));
    ck_assert_uint_eq(n, 0);
    ck_code(log_position(f.log, test_position(1, 0).uuid, soon(), &n), SPOOL_ENOTFOUND);
    ck_code(log_snapshot(f.log, soon(), &out), SPOOL_ENOTFOUND);
    ck_code(log_oldest(f.log, soon(), first, next), SPOOL_ENOTFOUND);
    ck_ok(log_stats(f.log, &stats));
    ck_assert_uint_eq(stats.segments + stats.events, 0);
    ck_assert_uint_eq(log_events_from(f.log, (uint64_t[LANES]){0}), 0);
    ck_ok(log_verify(f.log, NULL, NULL, NULL, &report));
    ck_assert_uint_eq(report.findings, 0);
    ck_code(log_commit(f.log, NULL, 0, NULL, 0, soon()), SPOOL_EREADONLY);
}
END_TEST

START_TEST(when_all_segments_vanish_nothing_is_numbered_anew)
{
    struct log_run run = test_run(LANE_HIGH, 1, 10, 5);
    remove_segment(1);
    ck_code(log_commit(f.log, &run, 1, NULL, 0, soon()), SPOOL_EDAMAGED);
    ck_assert_ptr_nonnull(strstr(err_last(), "all segments are gone"));
    ck_ok(log_rotate(f.log, 1, soon())); /* there is none to seal */
    free((void *)run.events);
}
END_TEST

/* A peer deletes the oldest, and this process does not know yet. */
START_TEST(segments_that_a_peer_deleted_are_passed)
{
    uint64_t first[LANES], next[LANES], seq, skip_to, deleted = 9;
    struct store_block *block = NULL;
    struct spool_id id = test_id(1), none = {0};
    make_segments(6);
    reopen(0);
    remove_segment(1);
    ck_ok(log_read(f.log, LANE_MEDIUM, 0, soon(), &block, &skip_to));
    ck_assert_uint_eq(block->first_seq, 3);
    store_block_unref(block);
    reopen(0);
    remove_segment(2);
    ck_ok(log_seek(f.log, LANE_MEDIUM, &id, soon(), &seq));
    ck_assert_uint_eq(seq, 6);
    reopen(0);
    remove_segment(3);
    log_events_from(f.log, (uint64_t[LANES]){0});
    ck_ok(log_oldest(f.log, soon(), first, next));
    ck_assert_uint_eq(first[LANE_MEDIUM], 9);
    struct log_stats stats;
    reopen(0);
    remove_segment(4);
    ck_ok(log_stats(f.log, &stats));
    ck_assert_uint_eq(stats.segments, 2);
    reopen(0);
    remove_segment(5);
    ck_ok(log_delete(f.log, (uint64_t[LANES]){99, 99, 99, 99}, &none, soon(), &deleted));
    ck_assert_uint_eq(deleted, 0);
    ck_assert_uint_eq(f.damages, 0);
}
END_TEST

START_TEST(many_segments_are_listed_and_a_few_kept_open)
{
    enum { MANY = 70 };
    make_segments(MANY);
    reopen(0);
    ck_assert_uint_eq(test_read_all(&f, LANE_MEDIUM, 0, NULL), 3 * (MANY - 1));
    ck_assert_uint_le(f.log->open_count, LOG_OPEN_MAX);
    /* All of those in use: one more is opened nevertheless. */
    struct segment *held[LOG_OPEN_MAX + 2];
    pthread_mutex_lock(&f.log->mutex);
    for (size_t i = 0; i < LOG_OPEN_MAX + 2; i++) {
        ck_ok(log_load(f.log, i, true));
        held[i] = log_hold(f.log, i);
    }
    ck_assert_uint_ge(f.log->open_count, LOG_OPEN_MAX + 2);
    for (size_t i = 0; i < LOG_OPEN_MAX + 2; i++)
        log_release(f.log, held[i]);
    pthread_mutex_unlock(&f.log->mutex);
}
END_TEST

START_TEST(a_list_that_never_rests_is_given_up)
{
    unsigned tries = LOG_TRIES_MAX - 1;
    ck_code(log_recover(f.log, ENOSPC, &tries, soon()), ENOSPC);
    ck_code(log_recover(f.log, LOG_AGAIN, &tries, soon()), SPOOL_OK);
    ck_code(log_recover(f.log, LOG_AGAIN, &tries, soon()), SPOOL_EINTERNAL);
    tries = 0;
    ck_code(log_recover(f.log, LOG_BROKEN, &tries, soon()), SPOOL_OK); /* nothing is: nothing to do */
}
END_TEST

START_TEST(an_abandoned_log_leaves_its_files_alone)
{
    make_segments(2);
    log_abandon(f.log);
    log_abandon(NULL);
    f.log = NULL;
    ck_ok(fixture_try_open(&f));
    ck_assert_uint_eq(test_read_all(&f, LANE_MEDIUM, 0, NULL), 3);
}
END_TEST

START_TEST(an_old_segment_is_sealed_by_the_next_commit)
{
    make_segments(1);
    f.log->entries[0].segment->head.created_ns = 1;
    test_commit(&f, LANE_MEDIUM, 1, 10, 50); /* empty: it stays */
    ck_assert_uint_eq(test_segments(&f), 1);
    test_commit(&f, LANE_MEDIUM, 1, 10, 60);
    ck_assert_uint_eq(test_segments(&f), 2);
    ck_assert_uint_eq(test_read_all(&f, LANE_MEDIUM, 0, NULL), 2);
}
END_TEST

/* A crash in the middle of a rebuilding, where names cannot be exchanged: the old file has lost its name, and the new
 * one, whole or not, has not got it. */
START_TEST(a_segment_that_lost_its_name_is_not_lost)
{
    char path[512], tmp[600], damaged[600];
    make_segments(2);
    fixture_close(&f);
    fixture_file(&f, 1, path);
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    snprintf(damaged, sizeof damaged, "%s.damaged", path);
    ck_assert_int_eq(rename(path, damaged), 0);
    fclose(fopen(tmp, "w"));
    fixture_open(&f, 0);
    ck_assert_uint_eq(test_read_all(&f, LANE_MEDIUM, 0, NULL), 3);
    ck_assert_int_eq(access(tmp, F_OK), -1);
    ck_assert_int_eq(access(damaged, F_OK), -1);
    /* With its replacement in place it goes to quarantine/. */
    fclose(fopen(damaged, "w"));
    fclose(fopen(tmp, "w"));
    reopen(0);
    ck_assert_uint_eq(test_read_all(&f, LANE_MEDIUM, 0, NULL), 3);
    ck_assert_int_eq(access(tmp, F_OK), -1);
    ck_assert_int_eq(access(damaged, F_OK), -1);
    ck_assert_uint_eq(f.damages, 0);
}
END_TEST

/* ---------------------------------------------------------------------------------------------- the snapshot */

static int no_snapshot(void *user, struct buffer *out)
{
    (void)user;
    ck_ok(buffer_put(out, "half", 4));
    return err_set(SPOOL_ETIMEOUT, "the state is locked");
}

static int large_snapshot(void *user, struct buffer *out)
{
    (void)user;
    int code = buffer_reserve(out, TEST_SEGMENT_BYTES / 4);
    memset(out->data, 's', TEST_SEGMENT_BYTES / 4);
    out->size = TEST_SEGMENT_BYTES / 4;
    return code;
}

static unsigned warnings;

static void on_log(void *user, enum spool_log_level level, const char *message)
{
    (void)user, (void)message;
    warnings += level == SPOOL_LOG_WARNING;
}

START_TEST(a_segment_without_a_copy_of_the_sinks_is_told)
{
    struct buffer out = {0};
    int (*const snapshots[])(void *, struct buffer *) = {no_snapshot, large_snapshot};
    f.log->options.reporter.log = on_log;
    for (unsigned i = 0; i < 2; i++) {
        warnings = 0;
        f.log->options.snapshot = snapshots[i];
        test_commit(&f, LANE_LOW, 1, 10, 100 + i);
        ck_ok(log_rotate(f.log, 1, soon()));
        ck_assert_uint_eq(warnings, 1);
        ck_code(log_snapshot(f.log, soon(), &out), SPOOL_ENOTFOUND);
    }
    buffer_free(&out);
}
END_TEST

/* --------------------------------------------------------------------------------- commits that are there after all */

static unsigned false_failures; /* of mdb_txn_commit(), bit 0 the next one: it succeeds, and is answered with EIO */
static bool no_opening;         /* mdb_env_open() fails */

int mdb_txn_commit(MDB_txn *txn)
{
    static int (*next)(MDB_txn *);
    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "mdb_txn_commit");
    bool fails = false_failures & 1;
    false_failures >>= 1;
    int rc = next(txn);
    return fails ? EIO : rc;
}

int mdb_env_open(MDB_env *env, const char *path, unsigned flags, mdb_mode_t mode)
{
    static int (*next)(MDB_env *, const char *, unsigned, mdb_mode_t);
    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "mdb_env_open");
    return no_opening ? EMFILE : next(env, path, flags, mode);
}

static int commit_one(uint64_t *ret_seq)
{
    struct log_run run = test_run(LANE_HIGH, 1, 10, 5);
    int code = log_commit(f.log, &run, 1, NULL, 0, soon());
    *ret_seq = run.first_seq;
    free((void *)run.events);
    return code;
}

/* The next commit on top of it makes it safe. */
START_TEST(a_commit_that_is_there_is_found)
{
    uint64_t seq;
    false_failures = 1;
    ck_ok(commit_one(&seq));
    ck_assert_uint_eq(seq, 0);
    ck_assert_uint_eq(test_next(&f, LANE_HIGH), 1);
}
END_TEST

/* Unless that fails, too. (The second one is that of reading head and tally.) */
START_TEST(a_commit_that_is_not_confirmed_is_uncertain)
{
    uint64_t seq;
    false_failures = 5;
    ck_code(commit_one(&seq), SPOOL_EUNCERTAIN);
    ck_assert_uint_eq(seq, UINT64_MAX);
    ck_ok(commit_one(&seq));
    ck_assert_uint_eq(seq, 1);
    ck_assert_uint_eq(test_read_all(&f, LANE_HIGH, 0, NULL), 2);
}
END_TEST

START_TEST(a_commit_that_cannot_be_looked_for_is_uncertain)
{
    uint64_t seq;
    false_failures = 1;
    no_opening = true;
    ck_code(commit_one(&seq), SPOOL_EUNCERTAIN);
    ck_assert_ptr_nonnull(strstr(err_last(), "cannot be opened again"));
    no_opening = false;
    ck_ok(commit_one(&seq));
    ck_assert_uint_eq(seq, 1);
}
END_TEST

/* ------------------------------------------------------------------------------------------------------- verifying */

static char findings[1000];

static void on_finding(void *user, const struct spool_finding *finding)
{
    (void)user;
    size_t at = strlen(findings);
    snprintf(findings + at, sizeof findings - at, "%s (%llu)\n", finding->what, (unsigned long long)finding->events);
}

/* What verify says of a block of three events whose run was changed before it was committed. */
static void is_found(struct log_run run, const char *text)
{
    struct spool_verify_report report = {0};
    ck_ok(log_commit(f.log, &run, 1, NULL, 0, soon()));
    free((void *)run.events);
    findings[0] = '\0';
    ck_code(log_verify(f.log, on_finding, NULL, NULL, &report), SPOOL_EDAMAGED);
    ck_assert_msg(strstr(findings, text) != NULL, "no \"%s\" in: %s", text, findings);
    ck_code(log_verify(f.log, NULL, NULL, NULL, &report), SPOOL_EDAMAGED); /* nobody wants to hear it */
}

START_TEST(whole_blocks_that_say_what_cannot_be_are_found)
{
    struct log_run run = test_run(LANE_HIGH, 3, 10, 10);
    run.lane = LANE_LOW;
    is_found(run, "its priority is not that of its lane (3)");
    run = test_run(LANE_HIGH, 3, 10, 20);
    run.min_id = test_id(21);
    is_found(run, "its id is outside of the block's range (3)");
    run = test_run(LANE_HIGH, 3, 10, 30);
    run.max_id = test_id(31);
    is_found(run, "its id is outside of the block's range (1)");
    run = test_run(LANE_HIGH, 3, 10, 40);
    run.count = 2;
    is_found(run, "bytes stand behind event 1 (2)");
    run = test_run(LANE_HIGH, 3, 10, 50);
    run.count = 4;
    is_found(run, "not whole: event 3 (4)");
}
END_TEST

/* Numbers that were left out, and some that are missing. */
START_TEST(gaps_are_found)
{
    struct spool_verify_report report = {0};
    uint64_t least[LANES] = {0};
    test_commit(&f, LANE_HIGH, 3, 10, 10);
    least[LANE_HIGH] = 7;
    ck_ok(log_raise(f.log, least, soon()));
    test_commit(&f, LANE_HIGH, 3, 10, 20);
    least[LANE_HIGH] = 1ull << 40;
    ck_ok(log_raise(f.log, least, soon()));
    findings[0] = '\0';
    ck_code(log_verify(f.log, on_finding, NULL, NULL, &report), SPOOL_EDAMAGED);
    ck_assert_ptr_nonnull(strstr(findings, "events 3 to 6 of lane high are missing (4)"));
    ck_assert_ptr_nonnull(strstr(findings, "lane high ends at event 10 and goes on behind damage"));
    ck_assert_uint_eq(f.damages, 2); /* told when it was raised */
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("log_edges");
    TCase *tcase = tcase_create("log_edges");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, without_segments_every_question_has_an_answer);
    tcase_add_test(tcase, when_all_segments_vanish_nothing_is_numbered_anew);
    tcase_add_test(tcase, segments_that_a_peer_deleted_are_passed);
    tcase_add_test(tcase, many_segments_are_listed_and_a_few_kept_open);
    tcase_add_test(tcase, a_list_that_never_rests_is_given_up);
    tcase_add_test(tcase, an_abandoned_log_leaves_its_files_alone);
    tcase_add_test(tcase, an_old_segment_is_sealed_by_the_next_commit);
    tcase_add_test(tcase, a_segment_that_lost_its_name_is_not_lost);
    tcase_add_test(tcase, a_segment_without_a_copy_of_the_sinks_is_told);
    tcase_add_test(tcase, a_commit_that_is_there_is_found);
    tcase_add_test(tcase, a_commit_that_is_not_confirmed_is_uncertain);
    tcase_add_test(tcase, a_commit_that_cannot_be_looked_for_is_uncertain);
    tcase_add_test(tcase, whole_blocks_that_say_what_cannot_be_are_found);
    tcase_add_test(tcase, gaps_are_found);
    suite_add_tcase(suite, tcase);
    return suite;
}

CHECK_MAIN(suite)
