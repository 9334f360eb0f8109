/* test_public_peers.c - calls that take a timeout keep it, and one spool does not wait for another.
 *
 * The peer is a process that holds log.lock or state.lock and is stopped. A call may be late by what one more attempt
 * takes, and by a loaded machine; what it must not do is wait out the five seconds and more that a look without a
 * timeout allows. */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "../../lib/base/sync.h"
#include "../../spool/lock.h"
#include "../../spool/wake.h"
#include "scratch_fixture.h"

enum { TIMEOUT_MS = 300, LATE_MS = 3000 };

static struct spool *open_spool(const char *name)
{
    struct spool *spool = NULL;
    struct spool_options options = SPOOL_OPTIONS(.max_bytes = 64 << 20, .segment_bytes = 1 << 20,
                                                 .journal_bytes = 256 << 10, .stop_timeout_ms = TIMEOUT_MS);
    ck_ok(spool_open(name, &options, &spool));
    return spool;
}

static void enqueue(struct spool *spool, unsigned n)
{
    struct spool_event event = SPOOL_EVENT(.type = "t", .body = "1", .body_size = 1);
    for (unsigned i = 0; i < n; i++)
        ck_ok(spool_enqueue(spool, &event, NULL));
}

static const struct spool_sink *null_sink(struct spool_sink *ret,
                                          int (*deliver)(void *, struct spool_delivery *, size_t))
{
    *ret = (struct spool_sink){.abi = SPOOL_SINK_ABI, .size = sizeof *ret, .kind = "test", .deliver = deliver};
    return ret;
}

static int accept_all(void *state, struct spool_delivery *batch, size_t n)
{
    (void)state;
    for (size_t i = 0; i < n; i++)
        SPOOL_DELIVERY_AT(batch, i)->outcome = SPOOL_DELIVERED;
    return 0;
}

/* ------------------------------------------------------------------------------------------------------ a stopped peer
 */

/* Takes the lock and stops; never returns. */
static void hold_and_stop(const char *name, int tell)
{
    struct lock *lock;
    struct wake *wake;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || wake_open(fd, false, 0600, &wake))
        _exit(1);
    struct wake_page *page = wake_page(wake);
    struct lock_hint *hint = !page ? NULL : strcmp(name, "log.lock") == 0 ? &page->log : &page->state;
    if (lock_open(fd, name, false, 0600, hint, &lock) || lock_take(lock, LOCK_EXCLUSIVE, deadline_in_ms(10000)) ||
        write(tell, "h", 1) != 1)
        _exit(1);
    raise(SIGSTOP);
    _exit(0);
}

static pid_t start_peer(const char *name)
{
    int tell[2];
    char c;
    ck_assert_int_eq(pipe(tell), 0);
    pid_t child = fork();
    if (child == 0)
        hold_and_stop(name, tell[1]);
    close(tell[1]);
    ck_assert_int_eq(read(tell[0], &c, 1), 1);
    close(tell[0]);
    return child;
}

static void end_peer(pid_t child)
{
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

/* --------------------------------------------------------------------------------------------------------------- calls
 */

static struct spool_reader *reader;

static int call_flush(struct spool *spool)
{
    return spool_flush(spool, TIMEOUT_MS);
}
static int call_drain(struct spool *spool)
{
    return spool_drain(spool, TIMEOUT_MS);
}
static int call_stop(struct spool *spool)
{
    return spool_stop(spool, TIMEOUT_MS);
}
static int call_close(struct spool *spool)
{
    return spool_close(spool);
}
static int call_remove(struct spool *spool)
{
    return spool_sink_remove(spool, "sink");
}
static int call_next(struct spool *spool)
{
    (void)spool;
    const struct spool_event *event;
    int code = spool_reader_next(reader, TIMEOUT_MS, &event);
    return code;
}

static const struct {
    const char *name;
    int (*call)(struct spool *spool);
    bool closes;
    unsigned follow;
    int codes[4]; /* besides SPOOL_OK, that may be answered */
} calls[] = {
    {"spool_flush", call_flush, false, 0, {0}},
    {"spool_drain", call_drain, false, 0, {SPOOL_ETIMEOUT}},
    {"spool_reader_next", call_next, false, 0, {SPOOL_ETIMEOUT, SPOOL_ENOTFOUND}},
    {"spool_reader_next, following", call_next, false, SPOOL_READER_FOLLOW, {SPOOL_ETIMEOUT}},
    {"spool_stop", call_stop, false, 0, {SPOOL_ETIMEOUT}},
    {"spool_close", call_close, true, 0, {SPOOL_ETIMEOUT}},
    {"spool_sink_remove", call_remove, false, 0, {SPOOL_ETIMEOUT}},
};
static const char *const locks[] = {"log.lock", "state.lock"};
enum { CALLS = sizeof calls / sizeof *calls, LOCKS = sizeof locks / sizeof *locks };

static void check_code(int which, int code)
{
    bool fine = code == SPOOL_OK;
    for (int i = 0; i < 4; i++)
        fine |= code && code == calls[which].codes[i];
    ck_assert_msg(fine, "%s: %s: %s", calls[which].name, spool_error_name(code), spool_last_error());
}

START_TEST(timeouts_are_kept_beside_a_stopped_peer)
{
    int which = _i % CALLS;
    const char *lock = locks[_i / CALLS % LOCKS];
    bool busy = _i / CALLS / LOCKS; /* there is something to do */
    struct spool_sink sink;
    struct spool *spool = open_spool(path);
    enqueue(spool, 20);
    ck_ok(spool_sink_add(spool, "sink", null_sink(&sink, accept_all), NULL, NULL));
    struct spool_reader_options options = SPOOL_READER_OPTIONS(.flags = calls[which].follow);
    ck_ok(spool_reader_open(spool, &options, &reader));
    ck_ok(spool_start(spool));
    ck_ok(spool_drain(spool, 60000));
    pid_t peer = start_peer(lock);
    if (busy)
        enqueue(spool, 20);
    uint64_t before = mono_ns();
    int code = calls[which].call(spool);
    uint64_t took_ms = (mono_ns() - before) / NS_PER_MS;
    check_code(which, code);
    ck_assert_msg(took_ms <= TIMEOUT_MS + LATE_MS, "%s beside a peer that holds %s took %llu ms", calls[which].name,
                  lock, (unsigned long long)took_ms);
    end_peer(peer);
    if (!calls[which].closes) {
        spool_reader_close(reader);
        ck_ok(spool_close(spool));
    }
}
END_TEST

/* ------------------------------------------------------------------------------------- one spool beside another's
 * close */

static atomic_bool in_deliver, let_go;

static int linger(void *state, struct spool_delivery *batch, size_t n)
{
    atomic_store(&in_deliver, true);
    while (!atomic_load(&let_go))
        poll(NULL, 0, 1);
    return accept_all(state, batch, n);
}

static atomic_bool closed;

static void *close_in_thread(void *spool)
{
    int code = spool_close(spool);
    atomic_store(&closed, true);
    return code ? spool : NULL;
}

START_TEST(a_spool_that_closes_slowly_does_not_hold_up_others)
{
    char *other_path;
    struct spool_sink sink;
    pthread_t thread;
    void *failed;
    ck_assert(asprintf(&other_path, "%s/other", dir) > 0);
    struct spool_options options = SPOOL_OPTIONS(.stop_timeout_ms = 60000);
    struct spool *slow, *again = NULL;
    ck_ok(spool_open(path, &options, &slow));
    ck_ok(spool_sink_add(slow, "sink", null_sink(&sink, linger), NULL, NULL));
    ck_ok(spool_start(slow));
    enqueue(slow, 1);
    while (!atomic_load(&in_deliver))
        poll(NULL, 0, 1);
    ck_assert_int_eq(pthread_create(&thread, NULL, close_in_thread, slow), 0);
    struct spool *other = open_spool(other_path);
    enqueue(other, 1);
    ck_ok(spool_close(other));
    ck_assert(!atomic_load(&closed));
    atomic_store(&let_go, true);
    ck_ok(spool_open(path, &options, &again)); /* waits until it is closed, and opens anew */
    ck_assert_int_eq(pthread_join(thread, &failed), 0);
    ck_assert_ptr_null(failed);
    ck_ok(spool_close(again));
    free(other_path);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("public_peers");
    TCase *tcase = tcase_create("public_peers");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, scratch_begin, scratch_end);
    tcase_add_test(tcase, a_spool_that_closes_slowly_does_not_hold_up_others);
    if (test_can_fork())
        tcase_add_loop_test(tcase, timeouts_are_kept_beside_a_stopped_peer, 0, CALLS * LOCKS * 2);
    else
        printf("skipped: timeouts_are_kept_beside_a_stopped_peer: forks beside threads\n");
    suite_add_tcase(suite, tcase);
    return suite;
}

CHECK_MAIN(suite)
