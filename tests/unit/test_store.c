/* test_store.c - the store as a whole: journal to log, failing flushes, limits and policies, dead peers. */
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../spool/journal_inside.h"
#include "store_fixture.h"

static int good_fdatasync(int fd)
{
    return fdatasync(fd);
}

static void set_up(void)
{
    store_begin();
}

static void tear_down(void)
{
    journal_fdatasync = good_fdatasync;
    store_end();
}

static struct store *open_store(const struct store_options *options)
{
    struct store *store = NULL;
    ck_ok(store_open(path, options, hlc, &store));
    return store;
}

static int append(struct store *store, enum spool_priority priority, const char *body, size_t size, bool power,
                  struct spool_id *ret_id)
{
    struct spool_event event = SPOOL_EVENT(.type = "t", .priority = priority, .body = body, .body_size = size);
    struct event_measure measure;
    int code = event_measure(&event, store_frame_max(store), &measure);
    return code ? code : store_append(store, &event, &measure, 1, power, ret_id);
}

/* Counts the events in the log, and those that are `id`. */
static unsigned count(struct store *store, const struct spool_id *id, unsigned *ret_same)
{
    unsigned all = 0, same = 0;
    uint64_t first[LANES], next[LANES];
    ck_ok(store_bounds(store, first, next));
    for (int lane = 0; lane < LANES; lane++) {
        struct store_block *block;
        uint64_t skip_to;
        for (uint64_t seq = first[lane];
             store_read(store, lane, seq, deadline_in_ms(5000), &block, &skip_to) == SPOOL_OK;) {
            for (uint32_t i = 0; i < block->count; i++) {
                struct spool_id found;
                bundle_id(&block->events, i, &found);
                same += id && spool_id_compare(id, &found) == 0;
            }
            all += block->count;
            seq = block->first_seq + block->count;
            store_block_unref(block);
        }
    }
    if (ret_same)
        *ret_same = same;
    return all;
}

/* ------------------------------------------------------------------------------------------------------- the line */

START_TEST(what_is_appended_comes_out_in_its_lane)
{
    struct store_options options = small_options();
    struct store *store = open_store(&options);
    for (int i = 0; i < 100; i++)
        ck_ok(append(store, (enum spool_priority)(i % 4), "body", 4, i % 10 == 0, NULL));
    ck_ok(store_commit(store, deadline_in_ms(60000)));
    uint64_t first[LANES], next[LANES];
    ck_ok(store_bounds(store, first, next));
    for (int lane = 0; lane < LANES; lane++)
        ck_assert_uint_eq(next[lane] - first[lane], 25);
    ck_ok(store_close(store, deadline_in_ms(60000)));
    store = open_store(&options);
    ck_assert_uint_eq(count(store, NULL, NULL), 100);
    ck_ok(store_close(store, deadline_in_ms(60000)));
}
END_TEST

START_TEST(many_laps_round_a_small_ring)
{
    struct store_options options = small_options();
    struct store *store = open_store(&options);
    static char body[3000];
    for (int i = 0; i < 1000; i++)
        ck_ok(append(store, SPOOL_MEDIUM, body, sizeof body, false, NULL));
    ck_ok(store_commit(store, deadline_in_ms(60000)));
    ck_assert_uint_eq(count(store, NULL, NULL), 1000);
    struct store_stats stats;
    ck_ok(store_stats(store, &stats));
    ck_assert_uint_ge(stats.segments, 3);
    ck_ok(store_close(store, deadline_in_ms(60000)));
}
END_TEST

/* -------------------------------------------------------------------------------------------------- failing flushes */

static atomic_int flush_failures;

static int fail_some(int fd)
{
    if (atomic_fetch_sub(&flush_failures, 1) > 0) {
        errno = EIO;
        return -1;
    }
    return fdatasync(fd);
}

START_TEST(a_failed_flush_is_answered_by_the_log)
{
    struct store_options options = small_options();
    options.flush_interval_ms = 60000; /* so that nothing is committed before the flush is asked for */
    struct store *store = open_store(&options);
    struct spool_id id;
    ck_ok(append(store, SPOOL_MEDIUM, "before", 6, false, NULL));
    char *name = strdup(journal_name(store->ring->journal));
    flush_failures = 1;
    journal_fdatasync = fail_some;
    ck_ok(append(store, SPOOL_MEDIUM, "during", 6, true, &id));
    ck_ok(append(store, SPOOL_MEDIUM, "after", 5, true, NULL));
    unsigned same;
    ck_ok(store_commit(store, deadline_in_ms(60000)));
    ck_assert_uint_eq(count(store, &id, &same), 3);
    ck_assert_uint_eq(same, 1);
    pthread_mutex_lock(&store->append_mutex);
    ck_assert_str_ne(journal_name(store->ring->journal), name); /* the failed one was retired */
    pthread_mutex_unlock(&store->append_mutex);
    ck_ok(store_close(store, deadline_in_ms(60000)));
    store = open_store(&options);
    ck_assert_uint_eq(count(store, &id, &same), 3);
    ck_ok(store_close(store, deadline_in_ms(60000)));
    free(name);
}
END_TEST

START_TEST(when_the_log_fails_too_the_answer_is_uncertain)
{
    struct store_options options = small_options();
    options.flush_interval_ms = 60000;
    options.full_timeout_ms = 300;
    struct store *store = open_store(&options);
    struct spool_id id = {{0}};
    flush_failures = 1000;
    journal_fdatasync = fail_some;
    ck_ok(lock_take(store->log_lock, LOCK_EXCLUSIVE, deadline_in_ms(60000))); /* nobody can commit */
    ck_code(append(store, SPOOL_MEDIUM, "x", 1, true, &id), SPOOL_EUNCERTAIN);
    ck_assert(id_is_valid(&id));
    lock_drop(store->log_lock, LOCK_EXCLUSIVE);
    flush_failures = 0;
    /* The promise of the man page: enqueue it again under its id; readers can tell that it is the same. */
    struct spool_event event = SPOOL_EVENT(.type = "t", .id = &id, .body = "x", .body_size = 1);
    struct event_measure measure;
    ck_ok(event_measure(&event, 1000, &measure));
    ck_ok(store_append(store, &event, &measure, 1, true, NULL));
    unsigned same;
    ck_ok(store_commit(store, deadline_in_ms(60000)));
    count(store, &id, &same);
    ck_assert_uint_ge(same, 1);
    ck_ok(store_close(store, deadline_in_ms(60000)));
}
END_TEST

/* A broken record in a ring that holds more than one commit may take: what is whole comes out, in several commits. */
/* ------------------------------------------------------------------------------------------------- failing commits */

static atomic_int write_errno; /* what every pwrite() answers, LMDB's included; 0: they work */

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at)
{
    errno = atomic_load(&write_errno);
    return errno ? -1 : syscall(SYS_pwrite64, fd, bytes, size, at);
}

static atomic_uint notices[32]; /* by kind */
static atomic_uint unclear;     /* those that do not say why */

static void count_notice(void *user, const struct spool_notice *notice)
{
    (void)user;
    if (notice->kind == SPOOL_NOTICE_DISK_FULL || notice->kind == SPOOL_NOTICE_COMMIT_FAILED)
        atomic_fetch_add(&unclear, !strstr(notice->reason, spool_strerror(atomic_load(&write_errno))));
    atomic_fetch_add(&notices[notice->kind], 1);
}

static void await_notice(enum spool_notice_kind kind)
{
    for (int i = 0; i < 1000 && !atomic_load(&notices[kind]); i++)
        poll(NULL, 0, 10);
    ck_assert_uint_eq(atomic_load(&notices[kind]), 1);
}

static const struct {
    int err;
    enum spool_notice_kind bad, good, other;
} commit_failures[] = {
    {ENOSPC, SPOOL_NOTICE_DISK_FULL, SPOOL_NOTICE_DISK_OK, SPOOL_NOTICE_COMMIT_FAILED},
    {EDQUOT, SPOOL_NOTICE_DISK_FULL, SPOOL_NOTICE_DISK_OK, SPOOL_NOTICE_COMMIT_FAILED},
    {EMFILE, SPOOL_NOTICE_COMMIT_FAILED, SPOOL_NOTICE_COMMIT_OK, SPOOL_NOTICE_DISK_FULL},
    {EIO, SPOOL_NOTICE_COMMIT_FAILED, SPOOL_NOTICE_COMMIT_OK, SPOOL_NOTICE_DISK_FULL},
};

START_TEST(only_a_full_disk_is_called_so)
{
    struct store_options options = small_options();
    options.reporter.on_notice = count_notice;
    for (size_t i = 0; i < sizeof notices / sizeof *notices; i++)
        atomic_store(&notices[i], 0);
    struct store *store = open_store(&options);
    ck_ok(append(store, SPOOL_MEDIUM, "x", 1, false, NULL));
    ck_ok(store_commit(store, deadline_in_ms(60000)));
    atomic_store(&write_errno, commit_failures[_i].err);
    ck_ok(append(store, SPOOL_MEDIUM, "y", 1, false, NULL));
    await_notice(commit_failures[_i].bad);
    struct store_stats stats;
    ck_ok(store_stats(store, &stats));
    ck_assert_int_eq(stats.disk_full, commit_failures[_i].bad == SPOOL_NOTICE_DISK_FULL);
    atomic_store(&write_errno, 0);
    ck_ok(store_commit(store, deadline_in_ms(60000)));
    await_notice(commit_failures[_i].good);
    ck_assert_uint_eq(atomic_load(&notices[commit_failures[_i].bad]), 1);
    ck_assert_uint_eq(atomic_load(&notices[commit_failures[_i].other]), 0);
    ck_assert_uint_eq(atomic_load(&unclear), 0);
    ck_assert_uint_eq(count(store, NULL, NULL), 2);
    ck_ok(store_close(store, deadline_in_ms(60000)));
}
END_TEST

/* ------------------------------------------------------------------------------------------------ a broken record */

START_TEST(a_full_ring_with_a_broken_record_is_emptied)
{
    static char body[3000];
    struct store_options options = small_options();
    options.journal_bytes = 2 << 20;
    options.flush_interval_ms = 60000;
    options.full_timeout_ms = 60000;
    struct store *store = open_store(&options);
    ck_ok(lock_take(store->log_lock, LOCK_EXCLUSIVE, deadline_in_ms(60000))); /* nobody can commit while it fills */
    unsigned n = 0;
    for (; n < 500; n++) {
        ck_ok(append(store, SPOOL_MEDIUM, body, sizeof body, false, NULL));
        pthread_mutex_lock(&store->append_mutex);
        if (n == 0)
            store->ring->journal->ring[100] ^= 0xff; /* in its body, before the committer looks */
        pthread_mutex_unlock(&store->append_mutex);
    }
    flush_failures = 1;
    journal_fdatasync = fail_some;
    uint64_t begin = mono_ns(); /* long enough for a commit that began before the failure to give up */
    ck_code(store_flush(store, deadline_in_ms(600)), SPOOL_ETIMEOUT);
    ck_assert_uint_lt(mono_ns() - begin, 30000 * NS_PER_MS); /* and not after full_timeout_ms */
    lock_drop(store->log_lock, LOCK_EXCLUSIVE);
    ck_ok(store_commit(store, deadline_in_ms(60000)));
    ck_assert_uint_eq(count(store, NULL, NULL), n - 1);
    ck_ok(store_close(store, deadline_in_ms(60000)));
}
END_TEST

/* Can another process take the lock of this journal? */
static bool is_unlocked(const char *name)
{
    pid_t child = fork();
    if (child == 0) {
        char file[4096];
        snprintf(file, sizeof file, "%s/journal/%s", path, name);
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
        int fd = open(file, O_RDWR);
        _exit(fd >= 0 && fcntl(fd, F_SETLK, &lock) == 0);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return WEXITSTATUS(status);
}

static void keep_house_now(struct store *store)
{
    pthread_mutex_lock(&store->append_mutex);
    store->want_room = true;
    pthread_mutex_unlock(&store->append_mutex);
    wake_bump(store->wake, false);
}

START_TEST(the_keeper_leaves_a_new_journal_of_ours_alone)
{
    struct store_options options = small_options();
    struct store *store = open_store(&options);
    journal_fdatasync = fail_some;
    for (int i = 0; i < 60; i++) {
        char name[JOURNAL_NAME_SIZE];
        keep_house_now(store);
        flush_failures = 1;
        ck_ok(append(store, SPOOL_MEDIUM, "x", 1, true, NULL));
        ck_ok(append(store, SPOOL_MEDIUM, "y", 1, true, NULL)); /* waits for the new journal */
        pthread_mutex_lock(&store->append_mutex);
        memcpy(name, journal_name(store->ring->journal), sizeof name);
        pthread_mutex_unlock(&store->append_mutex);
        ck_assert_msg(!is_unlocked(name), "round %d: the journal in use is not locked", i);
    }
    ck_ok(store_close(store, deadline_in_ms(60000)));
}
END_TEST

/* ------------------------------------------------------------------------------------------------- limits, policies */

static unsigned fill(struct store *store, enum spool_priority priority, int want)
{
    static char body[50000];
    unsigned n = 0;
    int code;
    while ((code = append(store, priority, body, sizeof body, false, NULL)) == SPOOL_OK && n < 2000)
        n++;
    ck_code(code, want);
    return n;
}

START_TEST(lower_priorities_meet_the_limit_first)
{
    struct store_options options = small_options();
    for (int lane = 0; lane < LANES; lane++)
        options.full_policy[lane] = SPOOL_FULL_REJECT;
    struct store *store = open_store(&options);
    ck_assert_uint_gt(fill(store, SPOOL_LOW, SPOOL_EFULL), 20);
    ck_assert_uint_gt(fill(store, SPOOL_MEDIUM, SPOOL_EFULL), 5);
    ck_assert_uint_gt(fill(store, SPOOL_HIGH, SPOOL_EFULL), 3);
    ck_assert_uint_gt(fill(store, SPOOL_CRITICAL, SPOOL_EFULL), 3);
    struct store_stats stats;
    ck_ok(store_stats(store, &stats));
    ck_assert_uint_le(stats.used_bytes, options.max_bytes + (2 << 20));
    ck_assert_uint_ge(stats.rejected_full, 4);
    ck_ok(store_close(store, deadline_in_ms(60000)));
}
END_TEST

/* A keeper that gets no time to measure: its callback waits. */
static struct store *_Atomic held_store;
static atomic_bool keeper_is_held, hold_keeper;

static void hold(void *user)
{
    (void)user;
    struct store *store = atomic_load(&held_store);
    if (!store || !pthread_equal(pthread_self(), store->keeper))
        return;
    atomic_store(&keeper_is_held, true);
    while (atomic_load(&hold_keeper))
        poll(NULL, 0, 1);
}

/* Commits of a few pages each, whose last page is never full: what they take on disk is a quarter more than their bytes. */
START_TEST(the_limit_counts_what_the_disk_gives_not_what_events_have)
{
    struct store_options options = small_options();
    for (int lane = 0; lane < LANES; lane++)
        options.full_policy[lane] = SPOOL_FULL_REJECT;
    options.max_bytes = 8 << 20;
    options.journal_bytes = 64 << 10;
    options.on_change = hold;
    atomic_store(&hold_keeper, true);
    struct store *store = open_store(&options);
    atomic_store(&held_store, store);
    static char body[4300];
    while (!atomic_load(&keeper_is_held)) {
        ck_ok(append(store, SPOOL_LOW, body, sizeof body, true, NULL));
        ck_ok(store_commit(store, deadline_in_ms(60000)));
    }
    unsigned n = 0;
    while (append(store, SPOOL_LOW, body, sizeof body, false, NULL) == SPOOL_OK && n < 10000) {
        if (++n % 3 == 0)
            ck_ok(store_commit(store, deadline_in_ms(60000)));
    }
    ck_ok(store_commit(store, deadline_in_ms(60000)));
    uint64_t bytes, journals;
    ck_ok(dir_used_bytes(&store->dir, &bytes, &journals));
    ck_assert_uint_le(bytes, store->limit_bytes[LANE_LOW] + (128 << 10));
    ck_assert_uint_ge(bytes, store->limit_bytes[LANE_LOW] - (512 << 10));
    atomic_store(&held_store, NULL);
    atomic_store(&hold_keeper, false);
    ck_ok(store_close(store, deadline_in_ms(60000)));
}
END_TEST

START_TEST(blocking_ends_by_its_deadline)
{
    struct store_options options = small_options();
    options.full_timeout_ms = 100;
    struct store *store = open_store(&options);
    do
        fill(store, SPOOL_LOW, SPOOL_EFULL);
    while (strstr(err_last(), "does not keep up")); /* a slow disk, not a full spool */
    ck_assert_msg(strstr(err_last(), "low") != NULL, "%s", err_last());
    ck_ok(store_close(store, deadline_in_ms(60000)));
}
END_TEST

START_TEST(dropping_the_oldest_is_counted)
{
    struct store_options options = small_options();
    for (int lane = 0; lane < LANES; lane++)
        options.full_policy[lane] = SPOOL_FULL_DROP_OLDEST;
    struct store *store = open_store(&options);
    struct store_sink sink;
    struct store_stats stats;
    static char body[50000];
    ck_ok(store_sink_register(store, "s", "test", 0, "{}", false, &sink));
    for (int i = 0; i < 600; i++)
        ck_ok(append(store, SPOOL_LOW, body, sizeof body, false, NULL));
    ck_ok(store_commit(store, deadline_in_ms(60000)));
    uint64_t dropped;
    unsigned left;
    do { /* the keeper may still be at the last wish */
        ck_ok(store_stats(store, &stats));
        dropped = stats.dropped_events;
        left = count(store, NULL, NULL);
        ck_ok(store_stats(store, &stats));
    } while (dropped != stats.dropped_events);
    ck_assert_uint_gt(dropped, 100);
    ck_assert_uint_eq(dropped + left, 600);
    ck_ok(store_sink_get(store, "s", &sink));
    ck_assert_uint_eq(sink.dropped, stats.dropped_events);
    ck_assert_uint_eq(sink.drops.events[SPOOL_DROP_SIZE], sink.dropped);
    ck_ok(store_close(store, deadline_in_ms(60000)));
}
END_TEST

/* Two sinks; one of them has limits, and nobody serves either. */
static struct store_sink stored_sink(struct store *store, const char *name)
{
    static struct store_sink sink;
    ck_ok(store_sink_get(store, name, &sink));
    return sink;
}

START_TEST(a_sink_that_is_away_does_not_fill_the_disk)
{
    struct store_options options = small_options();
    struct store *store = open_store(&options);
    struct store_sink sink;
    static char body[16384];
    memset(body, 'x', sizeof body);
    ck_ok(store_sink_register(store, "away", "k", 0, "{}", false, &sink));
    ck_ok(store_sink_register(store, "other", "k", 0, "{}", false, &sink));
    ck_ok(store_sink_limit(store, "away", 3 << 20, 0));
    for (unsigned i = 0; i < 400; i++) /* 6.4 MiB in segments of 1 MiB */
        ck_ok(append(store, SPOOL_MEDIUM, body, sizeof body, false, NULL));
    ck_ok(store_commit(store, deadline_in_ms(60000)));
    store_reclaim(store);
    struct store_sink away = stored_sink(store, "away");
    uint64_t left = 400 - away.cursor[LANE_MEDIUM];
    ck_assert_uint_eq(away.dropped, away.cursor[LANE_MEDIUM]);
    ck_assert_uint_eq(away.drops.events[SPOOL_DROP_PENDING], away.dropped);
    ck_assert_uint_eq(away.drops.upto[LANE_MEDIUM], away.cursor[LANE_MEDIUM]);
    ck_assert_msg(left * sizeof body <= 3 << 20 && left * sizeof body >= 1 << 20, "%llu are left",
                  (unsigned long long)left);
    ck_assert_uint_eq(stored_sink(store, "other").dropped, 0);
    ck_assert_uint_eq(stored_sink(store, "other").cursor[LANE_MEDIUM], 0);
    struct store_stats stats;
    ck_ok(store_stats(store, &stats));
    ck_assert_uint_eq(stats.stored_events, 400); /* the other one still needs them all */
    ck_ok(store_sink_remove(store, "other", deadline_in_ms(60000)));
    store_reclaim(store);
    ck_ok(store_stats(store, &stats));
    ck_assert_uint_lt(stats.stored_events, 400);
    store_reclaim(store); /* nothing more to drop */
    ck_assert_uint_eq(stored_sink(store, "away").dropped, away.dropped);
    ck_ok(store_sink_limit(store, "away", 0, 1)); /* and now by age */
    usleep(20000);
    ck_ok(append(store, SPOOL_MEDIUM, body, sizeof body, false, NULL));
    ck_ok(store_commit(store, deadline_in_ms(60000)));
    usleep(20000);
    store_reclaim(store);
    ck_assert_uint_eq(stored_sink(store, "away").cursor[LANE_MEDIUM], 401);
    ck_assert_uint_eq(stored_sink(store, "away").dropped, 401);
    ck_ok(store_close(store, deadline_in_ms(60000)));
}
END_TEST

START_TEST(a_sink_that_is_served_is_left_to_its_server)
{
    struct store_options options = small_options();
    struct store *store = open_store(&options);
    struct store_sink sink;
    ck_ok(store_sink_register(store, "s", "k", 0, "{}", false, &sink));
    ck_ok(store_sink_limit(store, "s", 0, 1));
    ck_ok(store_sink_elect(store, "s"));
    ck_ok(append(store, SPOOL_MEDIUM, "x", 1, false, NULL));
    ck_ok(store_commit(store, deadline_in_ms(60000)));
    usleep(20000);
    store_reclaim(store);
    ck_assert_uint_eq(stored_sink(store, "s").dropped, 0);
    store_sink_release(store, "s");
    store_reclaim(store);
    ck_assert_uint_eq(stored_sink(store, "s").dropped, 1);
    ck_ok(store_close(store, deadline_in_ms(60000)));
}
END_TEST

START_TEST(other_lanes_are_not_dropped_with_it)
{
    struct store_options options = small_options();
    options.full_policy[LANE_LOW] = SPOOL_FULL_DROP_OLDEST;
    options.full_timeout_ms = 200;
    struct store *store = open_store(&options);
    struct store_sink sink;
    struct store_stats stats;
    ck_ok(store_sink_register(store, "s", "test", 0, "{}", false, &sink));
    ck_ok(append(store, SPOOL_HIGH, "precious", 8, false, NULL));
    ck_ok(store_commit(store, deadline_in_ms(60000)));
    fill(store, SPOOL_LOW, SPOOL_EFULL);
    ck_ok(store_stats(store, &stats));
    ck_assert_uint_eq(stats.dropped_events, 0);
    ck_ok(store_close(store, deadline_in_ms(60000)));
}
END_TEST

/* Commits fail for want of descriptors, while the spool is nearly empty: to drop events would not help. */
START_TEST(nothing_is_dropped_unless_it_is_full)
{
    static char body[30000];
    struct store_options options = small_options();
    for (int lane = 0; lane < LANES; lane++)
        options.full_policy[lane] = SPOOL_FULL_DROP_OLDEST;
    options.full_timeout_ms = 500;
    struct store *store = open_store(&options);
    struct store_sink sink;
    struct store_stats stats;
    ck_ok(store_sink_register(store, "s", "test", 0, "{}", false, &sink));
    for (int i = 0; i < 70; i++)
        ck_ok(append(store, SPOOL_MEDIUM, body, sizeof body, false, NULL));
    ck_ok(store_commit(store, deadline_in_ms(60000)));
    struct rlimit as_it_was, none;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &as_it_was), 0);
    none = (struct rlimit){3, as_it_was.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    int code;
    while ((code = append(store, SPOOL_MEDIUM, body, sizeof body, false, NULL)) == SPOOL_OK)
        ;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &as_it_was), 0);
    ck_code(code, SPOOL_EFULL);
    ck_ok(store_stats(store, &stats));
    ck_assert_uint_eq(stats.dropped_events, 0);
    ck_ok(store_close(store, deadline_in_ms(60000)));
}
END_TEST

/* ------------------------------------------------------------------------------------------------------ dead peers */

/* A child that appends `n` events and is killed, or exits, without closing. */
static void die_with_events(int n, bool power)
{
    pid_t child = fork();
    if (child == 0) {
        struct store_options options = small_options();
        struct hlc *own;
        struct store *store;
        options.flush_interval_ms = 60000;
        if (hlc_new(&(struct hlc_options){0}, &own) || store_open(path, &options, own, &store))
            _exit(1);
        for (int i = 0; i < n; i++) {
            if (append(store, SPOOL_MEDIUM, "child", 5, power, NULL))
                _exit(2);
        }
        raise(SIGKILL);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFSIGNALED(status), "status %x", status);
}

START_TEST(the_journal_of_a_dead_process_is_applied_at_open)
{
    die_with_events(10, false);
    struct store_options options = small_options(), reading = small_options();
    struct store_stats stats;
    reading.flags = SPOOL_READ_ONLY;
    struct store *store = open_store(&reading);
    ck_ok(store_stats(store, &stats));
    ck_assert_uint_eq(stats.dead_journals, 1);
    ck_assert_uint_eq(count(store, NULL, NULL), 0);
    ck_ok(store_close(store, 0));
    store = open_store(&options);
    ck_assert_uint_eq(count(store, NULL, NULL), 10);
    ck_ok(store_stats(store, &stats));
    ck_assert_uint_eq(stats.recovered_events, 10);
    ck_ok(store_close(store, deadline_in_ms(60000)));
    store = open_store(&options); /* and not once more */
    ck_assert_uint_eq(count(store, NULL, NULL), 10);
    ck_ok(store_close(store, deadline_in_ms(60000)));
}
END_TEST

/* In front of libc's: what becomes of a read of a journal's header. */
static enum { HEADER_WHOLE, HEADER_UNREADABLE, HEADER_IN_PIECES } header_reads;
static ssize_t (*libc_pread)(int fd, void *buf, size_t size, off_t at);

ssize_t pread(int fd, void *buf, size_t size, off_t at)
{
    enum { JOURNAL_HEADER_BYTES = 36 };
    if (!libc_pread)
        *(void **)&libc_pread = dlsym(RTLD_NEXT, "pread");
    if (size == JOURNAL_HEADER_BYTES && at == 0 && header_reads == HEADER_UNREADABLE) {
        errno = EIO;
        return -1;
    }
    bool piece = size == JOURNAL_HEADER_BYTES && header_reads == HEADER_IN_PIECES;
    return libc_pread(fd, buf, piece ? size / 2 : size, at);
}

START_TEST(a_dead_journal_that_cannot_be_read_now_is_not_forgotten)
{
    struct store_options options = small_options();
    die_with_events(10, false);
    header_reads = HEADER_UNREADABLE;
    struct store *store = open_store(&options);
    ck_code(store_commit(store, deadline_in_ms(100)),
            SPOOL_ETIMEOUT); /* not all that was in the spool is in segments */
    header_reads = HEADER_WHOLE;
    ck_ok(store_commit(store, deadline_in_ms(60000)));
    ck_assert_uint_eq(count(store, NULL, NULL), 10);
    ck_ok(store_close(store, deadline_in_ms(60000)));
}
END_TEST

START_TEST(a_short_read_of_a_journal_is_no_damage)
{
    struct store_options options = small_options();
    struct store_stats stats;
    die_with_events(10, false);
    header_reads = HEADER_IN_PIECES;
    struct store *store = open_store(&options);
    header_reads = HEADER_WHOLE;
    ck_assert_uint_eq(count(store, NULL, NULL), 10);
    ck_ok(store_stats(store, &stats));
    ck_assert_uint_eq(stats.damaged_blocks, 0);
    ck_ok(store_close(store, deadline_in_ms(60000)));
}
END_TEST

START_TEST(a_living_peer_adopts_the_journal_of_a_dead_one)
{
    struct store_options options = small_options();
    struct store *store = open_store(&options);
    for (int round = 1; round <= 3; round++) { /* the second and third take the spare one of the first */
        die_with_events(10, round == 2);
        for (int i = 0; i < 1000 && count(store, NULL, NULL) < 10u * round; i++) {
            if (round > 1)
                keep_house_now(store); /* the first one is left to its own time, a second */
            poll(NULL, 0, 10);
        }
        ck_assert_uint_eq(count(store, NULL, NULL), 10u * round);
    }
    ck_ok(store_close(store, deadline_in_ms(60000)));
}
END_TEST

START_TEST(spare_journals_are_capped)
{
    struct store_options options = small_options();
    struct store *store[8];
    struct store_stats stats;
    for (int i = 0; i < 8; i++)
        die_with_events(1, false);
    store[0] = open_store(&options);
    ck_ok(store_stats(store[0], &stats));
    ck_assert_uint_le(stats.journals, SPARE_JOURNALS_MAX + 1);
    ck_assert_uint_eq(count(store[0], NULL, NULL), 8);
    ck_ok(store_close(store[0], deadline_in_ms(60000)));
}
END_TEST

START_TEST(closing_is_bounded_when_a_peer_holds_the_lock)
{
    struct store_options options = small_options();
    options.flush_interval_ms = 60000;
    struct store *store = open_store(&options);
    int ready[2];
    ck_assert_int_eq(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        struct lock *lock;
        char byte = 1;
        if (lock_open(store->dir.fd, "log.lock", false, 0600, NULL, &lock) ||
            lock_take(lock, LOCK_EXCLUSIVE, deadline_in_ms(5000)) || write(ready[1], &byte, 1) != 1)
            _exit(1);
        raise(SIGSTOP);
        _exit(0);
    }
    char byte;
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    ck_ok(append(store, SPOOL_MEDIUM, "kept", 4, false, NULL));
    uint64_t begin = mono_ns();
    store_close(store, deadline_in_ms(500));
    ck_assert_uint_lt(mono_ns() - begin, 5000 * NS_PER_MS);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    store = open_store(&options);
    ck_assert_uint_eq(count(store, NULL, NULL), 1);
    ck_ok(store_close(store, deadline_in_ms(60000)));
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("store");
    TCase *tcase = tcase_create("store");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, what_is_appended_comes_out_in_its_lane);
    tcase_add_test(tcase, many_laps_round_a_small_ring);
    tcase_add_test(tcase, a_failed_flush_is_answered_by_the_log);
    tcase_add_test(tcase, when_the_log_fails_too_the_answer_is_uncertain);
    tcase_add_loop_test(tcase, only_a_full_disk_is_called_so, 0, sizeof commit_failures / sizeof *commit_failures);
    tcase_add_test(tcase, a_full_ring_with_a_broken_record_is_emptied);
    tcase_add_forking_test(tcase, the_keeper_leaves_a_new_journal_of_ours_alone);
    tcase_add_test(tcase, lower_priorities_meet_the_limit_first);
    tcase_add_test(tcase, the_limit_counts_what_the_disk_gives_not_what_events_have);
    tcase_add_test(tcase, blocking_ends_by_its_deadline);
    tcase_add_test(tcase, dropping_the_oldest_is_counted);
    tcase_add_test(tcase, a_sink_that_is_away_does_not_fill_the_disk);
    tcase_add_test(tcase, a_sink_that_is_served_is_left_to_its_server);
    tcase_add_test(tcase, other_lanes_are_not_dropped_with_it);
    tcase_add_test(tcase, nothing_is_dropped_unless_it_is_full);
    tcase_add_test(tcase, the_journal_of_a_dead_process_is_applied_at_open);
    tcase_add_test(tcase, a_dead_journal_that_cannot_be_read_now_is_not_forgotten);
    tcase_add_test(tcase, a_short_read_of_a_journal_is_no_damage);
    tcase_add_forking_test(tcase, a_living_peer_adopts_the_journal_of_a_dead_one);
    tcase_add_test(tcase, spare_journals_are_capped);
    tcase_add_forking_test(tcase, closing_is_bounded_when_a_peer_holds_the_lock);
    suite_add_tcase(suite, tcase);
    return suite;
}

CHECK_MAIN(suite)
