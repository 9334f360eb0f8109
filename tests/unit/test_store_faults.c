/* test_store_faults.c - the store with one call below it failing at a time; and without its threads, so that what they
 * do is done here, step by step. */
#include "fault_sweep.h"

#include "../../spool/journal_inside.h"
#include "../../spool/store_inside.h"
#include "log_fixture.h"

static char *dir, *path;
static struct hlc *hlc;
static struct store *store;
static uint64_t committed; /* events in lane low */
static unsigned warnings;

static uint64_t soon(void)
{
    return deadline_in_ms(10000);
}

static void on_log(void *user, enum spool_log_level level, const char *message)
{
    (void)user, (void)message;
    warnings += level == SPOOL_LOG_WARNING;
}

static int open_with(uint32_t flags)
{
    struct store_options options = {
        .max_bytes = flags & SPOOL_READ_ONLY ? 0 : 64 << 20,
        .segment_bytes = 1 << 20,
        .journal_bytes = 64 << 10,
        .flush_interval_ms = 20,
        .full_timeout_ms = 0,
        .file_mode = 0600,
        .flags = flags,
        .reporter = {.log = on_log},
    };
    for (int lane = 0; lane < LANES; lane++)
        options.full_policy[lane] = SPOOL_FULL_DROP_OLDEST;
    return store_open(path, &options, hlc, &store);
}

static void close_store(void)
{
    ck_ok(store_close(store, deadline_in_ms(60000)));
    store = NULL;
}

/* From here on nobody commits or keeps house but the test. */
static void end_threads(void)
{
    pthread_mutex_lock(&store->append_mutex);
    store->stopping = true;
    store->close_deadline_ns = soon();
    pthread_cond_broadcast(&store->committer_cond);
    pthread_mutex_unlock(&store->append_mutex);
    wake_bump(store->wake, false);
    pthread_join(store->keeper, NULL);
    pthread_join(store->committer, NULL);
    store->keeper_runs = store->committer_runs = store->stopping = false;
}

static void set_up(void)
{
    test_in_memory();
    dir = test_dir();
    ck_assert(asprintf(&path, "%s/spool", dir) > 0);
    ck_ok(fork_watch());
    ck_ok(hlc_new(&(struct hlc_options){0}, &hlc));
    store = NULL;
    committed = 0;
    warnings = 0;
    where[0] = '\0';
    sweep_most = 0;
    ck_ok(open_with(0));
}

static int good_fdatasync(int fd)
{
    return fdatasync(fd);
}
static int bad_fdatasync(int fd)
{
    (void)fd;
    errno = EIO;
    return -1;
}

static void tear_down(void)
{
    journal_fdatasync = good_fdatasync;
    store_close(store, deadline_in_ms(5000));
    hlc_free(hlc);
    test_rmdir(dir);
    free(dir);
    free(path);
}

static int append_n(const enum spool_priority *priorities, size_t n, size_t size, bool power)
{
    static char body[100000];
    struct spool_event events[4];
    struct event_measure measures[4];
    for (size_t i = 0; i < n; i++) {
        events[i] =
            (struct spool_event)SPOOL_EVENT(.type = "t", .priority = priorities[i], .body = body, .body_size = size);
        int code = event_measure(&events[i], SIZE_MAX, &measures[i]);
        if (code)
            return code;
    }
    return store_append(store, events, measures, n, power, NULL);
}

static int append(bool power)
{
    return append_n((enum spool_priority[]){SPOOL_LOW}, 1, 10, power);
}

/* Three events straight into the log, and a new segment behind them. */
static void commit_and_seal(void)
{
    struct log_run run = test_run(LANE_LOW, 3, 1000, 1000 + committed);
    ok_here(log_commit(store->log, &run, 1, NULL, 0, soon()));
    ck_here(run.first_seq == committed);
    committed += 3;
    free((void *)run.events);
    ok_here(log_rotate(store->log, 1, soon()));
}

static uint64_t left(void)
{
    uint64_t first[LANES], next[LANES];
    ok_here(store_bounds(store, first, next));
    ck_here(next[LANE_LOW] == committed);
    return next[LANE_LOW] - first[LANE_LOW];
}

/* ------------------------------------------------------------------------------------------------------- opening */

static void close_if_open(void)
{
    if (store)
        close_store();
}

static int open_store(void)
{
    return open_with(0);
}

static void after_opening(int code)
{
    ck_here((code == SPOOL_OK) == (store != NULL));
    if (!store)
        ok_here(open_with(0));
    struct store_sink sink;
    ok_here(store_sink_get(store, "s", &sink));
    ck_here(left() == 3);
    close_store();
}

START_TEST(opening)
{
    struct store_sink sink;
    ck_ok(store_sink_register(store, "s", "test", 0, "{}", false, &sink));
    commit_and_seal();
    sweep(&(struct operation){"opening", close_if_open, open_store, after_opening});
}
END_TEST

/* -------------------------------------------------------------------------------------------------------- sinks */

START_TEST(a_store_for_reading_changes_nothing)
{
    struct store_sink sink;
    struct spool_id id = {{0}};
    uint64_t n;
    ck_ok(store_sink_register(store, "s", "test", 0, "{}", false, &sink));
    close_store();
    ck_ok(open_with(SPOOL_READ_ONLY));
    ck_assert(store_is_read_only(store));
    ck_code(append(false), SPOOL_EREADONLY);
    ck_code(store_sink_register(store, "t", "test", 0, "{}", true, &sink), SPOOL_EREADONLY);
    ck_code(store_sink_pause(store, "s", true), SPOOL_EREADONLY);
    ck_code(store_sink_elect(store, "s"), SPOOL_EREADONLY);
    ck_code(store_sink_remove(store, "s", deadline_in_ms(5000)), SPOOL_EREADONLY);
    ck_code(store_dead_requeue(store, NULL, &id, &n), SPOOL_EREADONLY);
    ck_code(store_dead_purge(store, NULL, &id, &n), SPOOL_EREADONLY);
    store_reclaim(store);
    ck_ok(store_clock_lease(store, &id));
    ck_ok(store_flush(store, soon()));
    ck_ok(store_sink_get(store, "s", &sink));
    ck_assert(!sink.paused);
    ck_assert(!store_sink_is_served(store, "s"));
}
END_TEST

START_TEST(one_process_is_elected_once)
{
    struct store_sink sink;
    ck_ok(store_sink_register(store, "s", "test", 0, "{}", false, &sink));
    ck_ok(store_sink_elect(store, "s"));
    ck_ok(store_sink_elect(store, "t"));
    ck_code(store_sink_elect(store, "s"), SPOOL_EBUSY);
    ck_assert(store_sink_is_served(store, "s"));
    store_sink_release(store, "s");
    store_sink_release(store, "s"); /* as if nothing had been */
    ck_assert(!store_sink_is_served(store, "s"));
    ck_ok(store_sink_remove(store, "s", deadline_in_ms(60000)));
    ck_code(store_sink_remove(store, "s", deadline_in_ms(5000)), SPOOL_ENOTFOUND);
    store_sink_release(store, "t");
}
END_TEST

static int use_sinks(void)
{
    struct store_sink sink;
    char *config = NULL;
    int code = store_sink_register(store, "s", "test", 0, "{}", true, &sink);
    if (!code)
        code = store_sink_config(store, "s", &config);
    free(config);
    if (!code)
        code = store_sink_pause(store, "s", true);
    if (!code)
        code = store_sink_elect(store, "s");
    if (!code) {
        store_sink_is_served(store, "other");
        store_sink_release(store, "s");
        store_sink_is_served(store, "s");
        code = store_sink_remove(store, "s", deadline_in_ms(5000));
    }
    return code;
}

static void after_using_sinks(int code)
{
    struct store_sink sink;
    ck_here(!store_sink_is_served(store, "s"));
    if (store_sink_get(store, "s", &sink) == SPOOL_OK) {
        ck_here(code != SPOOL_OK);
        code = store_sink_remove(store, "s", deadline_in_ms(60000));
        ck_here(code == SPOOL_OK || code == SPOOL_ENOTFOUND); /* the keeper was faster */
        ck_here(store_sink_get(store, "s", &sink) == SPOOL_ENOTFOUND);
    }
}

START_TEST(using_sinks)
{
    sweep_most = 30; /* removed ones leave a row each */
    sweep(&(struct operation){"sinks", NULL, use_sinks, after_using_sinks});
}
END_TEST

/* ------------------------------------------------------------------------------------------------- making room */

static int reclaim(void)
{
    limits_reclaim(store);
    return SPOOL_OK;
}

/* All that is sealed is delivered. */
static void deliver_all(void)
{
    struct store_sink sink;
    commit_and_seal();
    warnings = 0;
    ok_here(store_sink_register(store, "s", "test", 0, "{}", false, &sink));
    struct store_ack ack = {.sink_id = sink.id, .generation = sink.generation};
    ack.cursor[LANE_LOW] = committed;
    ok_here(store_ack(store, &ack, soon()));
}

/* A failure to delete is told at most, and made good by the next turn. */
static void after_reclaiming(int code)
{
    (void)code;
    ck_here(warnings <= 2);
    limits_reclaim(store);
    ck_here(left() == 0);
}

START_TEST(deleting_what_is_delivered)
{
    end_threads();
    sweep(&(struct operation){"reclaiming", deliver_all, reclaim, after_reclaiming});
}
END_TEST

static void wish_to_drop(void)
{
    commit_and_seal();
    commit_and_seal();
    store->want_drop[LANE_LOW] = true;
    store->limit_bytes[LANE_LOW] = 0;
}

/* What is dropped is counted, once. */
static void after_dropping(int code)
{
    struct store_stats stats;
    (void)code;
    ok_here(store_stats(store, &stats));
    uint64_t there = left();
    ck_here(stats.dropped_events + there >= committed); /* it may have been counted, and not deleted yet */
    store->want_drop[LANE_LOW] = true;
    limits_reclaim(store);
    ok_here(store_stats(store, &stats));
    ck_here(stats.dropped_events + left() == committed);
}

START_TEST(dropping_the_oldest)
{
    struct store_sink sink;
    ck_ok(store_sink_register(store, "s", "test", 0, "{}", false, &sink));
    end_threads();
    sweep(&(struct operation){"dropping", wish_to_drop, reclaim, after_dropping});
}
END_TEST

/* Only one segment is left: it is sealed, and dropped. */
START_TEST(dropping_the_current_one)
{
    struct store_stats stats;
    end_threads();
    struct log_run run = test_run(LANE_LOW, 3, 1000, 1000);
    ck_ok(log_commit(store->log, &run, 1, NULL, 0, soon()));
    free((void *)run.events);
    store->want_drop[LANE_LOW] = true;
    store->limit_bytes[LANE_LOW] = 0;
    limits_reclaim(store);
    ck_ok(store_stats(store, &stats));
    ck_assert_uint_eq(stats.dropped_events, 3);
    ck_assert_uint_eq(stats.segments, 1);
}
END_TEST

START_TEST(what_may_not_be_dropped_stays)
{
    struct store_sink sink;
    struct store_stats stats;
    ck_ok(store_sink_register(store, "s", "test", 0, "{}", false, &sink));
    end_threads();
    commit_and_seal();
    store->want_drop[LANE_LOW] = true; /* but there is room by now */
    limits_reclaim(store);
    store->limit_bytes[LANE_LOW] = 0;
    limits_reclaim(store); /* the wish was of the last turn */
    store->want_drop[LANE_LOW] = true;
    store->options.full_policy[LANE_LOW] = SPOOL_FULL_BLOCK;
    limits_reclaim(store);
    ck_assert_uint_eq(left(), 3);
    ck_ok(store_stats(store, &stats));
    ck_assert_uint_eq(stats.dropped_events, 0);
    store->want_drop[LANE_LOW] = true;
    store->options.full_policy[LANE_LOW] = SPOOL_FULL_DROP_OLDEST;
    limits_reclaim(store);
    ck_assert_uint_eq(left(), 0);
}
END_TEST

/* What is delivered stays for a while, unless the room is needed. */
START_TEST(retention_yields_when_room_is_tight)
{
    end_threads();
    store->options.retention_ms = UINT64_MAX / NS_PER_MS; /* since ever */
    deliver_all();
    limits_reclaim(store);
    ck_assert_uint_eq(left(), 3);
    store->options.max_bytes = 1;
    ck_assert(limits_are_tight(store));
    limits_reclaim(store);
    ck_assert_uint_eq(left(), 0);
}
END_TEST

START_TEST(only_want_of_room_is_called_full)
{
    static const int full[] = {ENOSPC, EDQUOT, EFBIG, SPOOL_EFULL}, other[] = {0, EIO, EMFILE, SPOOL_EDAMAGED};
    for (size_t i = 0; i < 4; i++) {
        ck_assert(limits_is_full(full[i]));
        ck_assert(!limits_is_full(other[i]));
    }
}
END_TEST

/* ------------------------------------------------------------------------------------------------------ appending */

START_TEST(frames_are_bounded)
{
    const enum spool_priority mixed[] = {SPOOL_LOW, SPOOL_CRITICAL, SPOOL_HIGH};
    ck_ok(append_n(mixed, 3, 10, false));
    ck_code(append_n(mixed, 3, 50000, false), SPOOL_ETOOBIG);
    ck_assert_ptr_nonnull(strstr(err_last(), "in 3 event(s)"));
    ck_ok(store_commit(store, soon()));
    uint64_t first[LANES], next[LANES];
    ck_ok(store_bounds(store, first, next));
    ck_assert_uint_eq(next[LANE_LOW] + next[LANE_CRITICAL] + next[LANE_HIGH], 3);
}
END_TEST

START_TEST(nothing_is_taken_while_closing)
{
    end_threads();
    store->stopping = true;
    ck_code(append(false), SPOOL_ESTOPPED);
    store->stopping = false;
    ck_ok(append(false));
}
END_TEST

START_TEST(waiting_for_a_commit_ends_by_its_deadline)
{
    end_threads();
    ck_ok(append(false));
    ck_code(store_commit(store, deadline_in_ms(20)), SPOOL_ETIMEOUT);
    ck_assert_ptr_nonnull(strstr(err_last(), "not committed in time"));
    store->commit_error = ENOSPC;
    snprintf(store->commit_message, sizeof store->commit_message, "the disk is full");
    ck_code(store_commit(store, deadline_in_ms(20)), SPOOL_ETIMEOUT);
    ck_assert_ptr_nonnull(strstr(err_last(), "not committed in time: the disk is full"));
}
END_TEST

START_TEST(waiting_for_a_dead_journal_ends_by_its_deadline)
{
    end_threads();
    atomic_store(&store->unapplied_journals, 1);
    ck_code(store_commit(store, deadline_in_ms(20)), SPOOL_ETIMEOUT);
    ck_assert_ptr_nonnull(strstr(err_last(), "a process that ended"));
    atomic_store(&store->unapplied_journals, 0);
}
END_TEST

START_TEST(a_failed_flush_that_nobody_makes_good_is_no_ok)
{
    end_threads();
    ck_ok(append(false));
    store->options.full_timeout_ms = 60000;
    journal_fdatasync = bad_fdatasync;
    ck_code(store_flush(store, deadline_in_ms(20)), SPOOL_ETIMEOUT);
    ck_assert_ptr_nonnull(strstr(err_last(), "not committed in the time given"));
    store->options.full_timeout_ms = 20;
    ck_code(store_flush(store, soon()), SPOOL_EUNCERTAIN);
    ck_assert_ptr_nonnull(strstr(err_last(), "no answer in time"));
}
END_TEST

/* A full ring beside a disk that does not take it: the answer says why. */
START_TEST(a_full_ring_says_what_is_wrong)
{
    int code;
    end_threads();
    while ((code = append_n((enum spool_priority[]){SPOOL_LOW}, 1, 10000, false)) == SPOOL_OK)
        ;
    ck_assert_int_eq(code, SPOOL_EFULL);
    ck_assert_ptr_nonnull(strstr(err_last(), "does not keep up"));
    store->commit_error = EIO;
    snprintf(store->commit_message, sizeof store->commit_message, "the disk is broken");
    ck_code(append_n((enum spool_priority[]){SPOOL_LOW}, 1, 10000, false), SPOOL_EFULL);
    ck_assert_ptr_nonnull(strstr(err_last(), "cannot be emptied: the disk is broken"));
    ck_assert(!store->want_drop[LANE_LOW]); /* that would not help */
    store->commit_error = ENOSPC;
    ck_code(append_n((enum spool_priority[]){SPOOL_LOW}, 1, 10000, false), SPOOL_EFULL);
    ck_assert(store->want_drop[LANE_LOW]);
}
END_TEST

/* As after opening on a full disk. */
static void lose_ring(void)
{
    if (store->ring) {
        journal_close(store->ring->journal);
        free(store->ring);
    }
    store->ring = NULL;
    store->ring_tried_ns = 0;
}

static int append_one(void)
{
    return append(false);
}

static void after_appending(int code)
{
    ck_here(code == SPOOL_OK || code == SPOOL_EFULL);
    if (code == SPOOL_EFULL && store->ring_tried_ns) {
        ck_here(append(false) == SPOOL_EFULL); /* it is not asked for all the time */
        ck_here(strstr(err_last(), "no journal could be made") != NULL);
    }
    store->ring_tried_ns = 0;
    ok_here(append(false));
}

START_TEST(a_missing_journal_is_made)
{
    end_threads();
    sweep_most = 20; /* each leaves a journal */
    sweep(&(struct operation){"making a journal", lose_ring, append_one, after_appending});
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("store_faults");
    TCase *tcase = tcase_create("store_faults");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, opening);
    tcase_add_test(tcase, a_store_for_reading_changes_nothing);
    tcase_add_test(tcase, one_process_is_elected_once);
    tcase_add_test(tcase, using_sinks);
    tcase_add_test(tcase, deleting_what_is_delivered);
    tcase_add_test(tcase, dropping_the_oldest);
    tcase_add_test(tcase, dropping_the_current_one);
    tcase_add_test(tcase, what_may_not_be_dropped_stays);
    tcase_add_test(tcase, retention_yields_when_room_is_tight);
    tcase_add_test(tcase, only_want_of_room_is_called_full);
    tcase_add_test(tcase, frames_are_bounded);
    tcase_add_test(tcase, nothing_is_taken_while_closing);
    tcase_add_test(tcase, waiting_for_a_commit_ends_by_its_deadline);
    tcase_add_test(tcase, waiting_for_a_dead_journal_ends_by_its_deadline);
    tcase_add_test(tcase, a_failed_flush_that_nobody_makes_good_is_no_ok);
    tcase_add_test(tcase, a_full_ring_says_what_is_wrong);
    tcase_add_test(tcase, a_missing_journal_is_made);
    suite_add_tcase(suite, tcase);
    return suite;
}

CHECK_MAIN(suite)
