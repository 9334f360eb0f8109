/* test_store_remains.c - what copies, failed commits and dead peers leave behind must not make later events go astray.
 *
 * The log may end before the cursors that the state has (a copy taken in use); a commit may have failed and be there
 * all the same; a failed flush may have taken the event with it; a spare journal may be taken, and left, within one
 * tick of the file system's clock. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../spool/journal_inside.h"
#include "store_fixture.h"

/* ------------------------------------------------------------------------------------------------ a disk that fails */

static atomic_bool meta_fails; /* the next write of a meta page arrives, but is answered with a failure; and then … */
static atomic_bool disk_fails; /* … nothing is written any more */

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at)
{
    enum { META_MAX = 256 };
    bool failing = atomic_load(&disk_fails);
    if (!failing && size < META_MAX && atomic_exchange(&meta_fails, false)) {
        atomic_store(&disk_fails, syscall(SYS_pwrite64, fd, bytes, size, at) > 0);
        failing = true;
    }
    errno = EIO;
    return failing ? -1 : syscall(SYS_pwrite64, fd, bytes, size, at);
}

/* ---------------------------------------------------------------------------------------------------------- helpers */

static void set_up(void)
{
    store_begin();
}

static void tear_down(void)
{
    atomic_store(&disk_fails, false);
    journal_fdatasync = fdatasync;
    store_end();
}

static struct store *open_store(struct hlc *clock)
{
    struct store *store = NULL;
    struct store_options options = small_options();
    return store_open(path, &options, clock, &store) ? NULL : store;
}

static int append(struct store *store, bool power)
{
    struct spool_event event = SPOOL_EVENT(.type = "t", .body = "body", .body_size = 4);
    struct event_measure measure;
    int code = event_measure(&event, store_frame_max(store), &measure);
    return code ? code : store_append(store, &event, &measure, 1, power, NULL);
}

static void append_and_commit(struct store *store, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        ck_ok(append(store, false));
    ck_ok(store_commit(store, deadline_in_ms(60000)));
}

static uint64_t next_seq(struct store *store)
{
    uint64_t first[LANES], next[LANES];
    ck_ok(store_bounds(store, first, next));
    return next[LANE_MEDIUM];
}

static int remove_one(void *user, const char *name)
{
    return unlinkat(*(int *)user, name, 0);
}

static void close_store(struct store *store)
{
    ck_ok(store_close(store, deadline_in_ms(60000)));
}

/* As in a copy whose segments were copied long before its state: here all of them are gone. */
static void lose_log(void)
{
    struct store *store = open_store(hlc);
    int segments = dup(store->dir.segments_fd), journals = dup(store->dir.journal_fd);
    close_store(store);
    ck_ok(dir_each(segments, ".mdb", remove_one, &segments));
    ck_ok(dir_each(journals, ".jnl", remove_one, &journals));
    close(segments);
    close(journals);
}

/* --------------------------------------------------------------------------------------------- the state is ahead */

START_TEST(events_are_numbered_behind_what_sinks_have_acknowledged)
{
    struct store_sink sink;
    struct store *store = open_store(hlc);
    ck_ok(store_sink_register(store, "sink", "test", SPOOL_ORDER_NONE, NULL, false, &sink));
    append_and_commit(store, 10);
    struct store_ack ack = {.sink_id = sink.id, .generation = sink.generation, .cursor[LANE_MEDIUM] = 10};
    ck_ok(store_ack(store, &ack, deadline_in_ms(60000)));
    close_store(store);
    lose_log();
    store = open_store(hlc);
    append_and_commit(store, 5);
    ck_assert_uint_eq(next_seq(store), 15);
    struct store_block *block;
    uint64_t skip_to;
    ck_ok(store_read(store, LANE_MEDIUM, 10, deadline_in_ms(60000), &block, &skip_to));
    ck_assert_uint_eq(block->first_seq, 10);
    ck_assert_uint_eq(block->count, 5);
    store_block_unref(block);
    close_store(store);
    store = open_store(hlc); /* and not once more */
    ck_assert_uint_eq(next_seq(store), 15);
    close_store(store);
}
END_TEST

START_TEST(ranges_and_retries_count_too)
{
    struct store_sink sink;
    struct store *store = open_store(hlc);
    ck_ok(store_sink_register(store, "sink", "test", SPOOL_ORDER_NONE, NULL, false, &sink));
    append_and_commit(store, 10);
    struct store_range range = {.first = 3, .count = 4};
    struct store_ack ack = {.sink_id = sink.id, .generation = sink.generation, .cursor[LANE_MEDIUM] = 1};
    ack.ranges[LANE_MEDIUM] = &range;
    ack.range_count[LANE_MEDIUM] = 1;
    ck_ok(store_ack(store, &ack, deadline_in_ms(60000)));
    close_store(store);
    lose_log();
    store = open_store(hlc);
    ck_assert_uint_eq(next_seq(store), 7);
    struct store_retry_put put = {.row = {.lane = LANE_MEDIUM, .seq = 8, .size = 8},
                                  .packed = (const uint8_t *)"eightby"};
    ack.retries = &put;
    ack.retry_count = 1;
    ck_ok(store_ack(store, &ack, deadline_in_ms(60000)));
    close_store(store);
    lose_log();
    store = open_store(hlc);
    ck_assert_uint_eq(next_seq(store), 9);
    close_store(store);
}
END_TEST

/* ------------------------------------------------------------------------------------------- a commit that may be
 * there */

static uint64_t commit_failures(struct store *store)
{
    pthread_mutex_lock(&store->append_mutex);
    uint64_t failures = store->commit_failures;
    pthread_mutex_unlock(&store->append_mutex);
    return failures;
}

/* The meta page is written, but the disk reports a failure, and the commit on top that would tell fails as well. */
START_TEST(a_commit_that_may_be_there_is_not_repeated)
{
    struct store *store = open_store(hlc);
    append_and_commit(store, 1);
    atomic_store(&meta_fails, true);
    for (int i = 0; i < 3; i++)
        ck_ok(append(store, false));
    while (commit_failures(store) == 0)
        poll(NULL, 0, 5);
    ck_assert(atomic_load(&disk_fails));
    atomic_store(&disk_fails, false);
    append_and_commit(store, 2);
    ck_assert_uint_eq(next_seq(store), 6);
    close_store(store);
    store = open_store(hlc);
    ck_assert_uint_eq(next_seq(store), 6);
    close_store(store);
}
END_TEST

/* ---------------------------------------------------------------------------------------- pages that the kernel
 * dropped */

static struct journal *dropping;

/* As the kernel may: the flush fails, and what it should have written is what it was before. */
static int fail_and_drop(int fd)
{
    (void)fd;
    for (size_t at = 0; at < 64; at++)
        dropping->ring[at] = 0;
    journal_fdatasync = fdatasync;
    errno = EIO;
    return -1;
}

START_TEST(an_event_that_a_failed_flush_took_is_not_answered_with_ok)
{
    struct store_options options = small_options();
    options.flush_interval_ms = 60000; /* so that nothing is committed before the flush is asked for */
    struct store *store;
    ck_ok(store_open(path, &options, hlc, &store));
    dropping = store->ring->journal;
    journal_fdatasync = fail_and_drop;
    ck_code(append(store, true), SPOOL_EUNCERTAIN);
    ck_ok(append(store, true)); /* in a new journal */
    ck_ok(store_commit(store, deadline_in_ms(60000)));
    ck_assert_uint_eq(next_seq(store), 1);
    close_store(store);
}
END_TEST

/* --------------------------------------------------------------------------------------- a spare journal, taken at
 * once */

/* A child that appends and is killed; its journal then has the time of change `time`. */
static void die_with_event(const struct timespec *time)
{
    pid_t child = fork();
    if (child == 0) {
        struct hlc *own;
        struct store *store = hlc_new(&(struct hlc_options){0}, &own) ? NULL : open_store(own);
        struct timespec times[2] = {*time, *time};
        if (!store || append(store, false))
            _exit(1);
        if (utimensat(store->dir.journal_fd, journal_name(store->ring->journal), times, 0))
            _exit(2);
        raise(SIGKILL);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFSIGNALED(status), "status %x", status);
}

static void await_events(struct store *store, uint64_t n)
{
    for (int i = 0; i < 200 && next_seq(store) < n; i++)
        poll(NULL, 0, 50);
    ck_assert_uint_eq(next_seq(store), n);
}

/* The file system's clock stands still (a tick of it is some milliseconds): a spare journal that was taken and left by
 * a process that was killed looks as it did before. */
START_TEST(a_spare_journal_that_was_taken_within_a_tick_is_looked_at_again)
{
    struct store *store = open_store(hlc);
    struct timespec tick;
    clock_gettime(CLOCK_REALTIME, &tick);
    tick.tv_sec += 3600;
    for (uint64_t round = 1; round <= 3; round++) {
        die_with_event(&tick);
        await_events(store, round);
    }
    close_store(store);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("store_remains");
    TCase *tcase = tcase_create("store_remains");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, events_are_numbered_behind_what_sinks_have_acknowledged);
    tcase_add_test(tcase, ranges_and_retries_count_too);
    tcase_add_test(tcase, a_commit_that_may_be_there_is_not_repeated);
    tcase_add_test(tcase, an_event_that_a_failed_flush_took_is_not_answered_with_ok);
    tcase_add_forking_test(tcase, a_spare_journal_that_was_taken_within_a_tick_is_looked_at_again);
    suite_add_tcase(suite, tcase);
    return suite;
}

CHECK_MAIN(suite)
