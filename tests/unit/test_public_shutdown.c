/* test_public_shutdown.c - stopping and closing keep their deadline wherever a sink hangs: in open, deliver, checkpoint, close or
 * cancel, waiting or blocked in a system call; also while the disk is full, from several threads, and from atexit. What was not
 * delivered is still there. Each case is a process of its own, since a thread that hangs for ever cannot be taken back. */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "../../lib/base/sync.h"
#include "../check_main.h"

enum { EVENTS = 20, STOP_MS = 400, LATE_MS = 20000 };

static char *dir;

static void set_up(void)
{
    dir = test_dir();
}

static void tear_down(void)
{
    test_rmdir(dir);
    free(dir);
}

/* Where the sink hangs, and how: a pipe that nobody writes to, deaf to cancel. */
enum hook { NOWHERE, OPEN, DELIVER, CHECKPOINT, CLOSE, CANCEL };
static enum hook hanging;
static atomic_bool entered;

static void hang_in(enum hook hook)
{
    int fds[2];
    char byte;
    if (hook != hanging || pipe(fds))
        return;
    entered = true;
    while (read(fds[0], &byte, 1) < 0) {
    }
}

static int hang_open(void **ret_state, void *user, const char *config, const void *checkpoint, size_t size)
{
    (void)user, (void)config, (void)checkpoint, (void)size;
    hang_in(OPEN);
    *ret_state = NULL;
    return SPOOL_OK;
}

static int hang_deliver(void *state, struct spool_delivery *batch, size_t n)
{
    (void)state;
    hang_in(DELIVER);
    if (hanging == CANCEL) { /* until it is cancelled; then that hangs */
        entered = true;
        poll(NULL, 0, 3600000);
    }
    for (size_t i = 0; i < n; i++)
        SPOOL_DELIVERY_AT(batch, i)->outcome = SPOOL_DELIVERED;
    entered |= hanging == CLOSE; /* from now on it has a state to close */
    return SPOOL_OK;
}

static void hang_cancel(void *state)
{
    (void)state;
    hang_in(CANCEL);
}

static void hang_close(void *state)
{
    (void)state;
    hang_in(CLOSE);
}

static size_t hang_checkpoint(void *state, void *buf, size_t cap)
{
    (void)state, (void)buf, (void)cap;
    hang_in(CHECKPOINT);
    return 0;
}

static struct spool *begin(void)
{
    static const struct spool_sink hooks = {.abi = SPOOL_SINK_ABI,
                                            .size = sizeof(struct spool_sink),
                                            .kind = "hangs",
                                            .open = hang_open,
                                            .deliver = hang_deliver,
                                            .cancel = hang_cancel,
                                            .close = hang_close};
    struct spool_sink used = hooks;
    used.checkpoint = hanging == CHECKPOINT ? hang_checkpoint : NULL;
    struct spool *spool;
    struct spool_options options =
        SPOOL_OPTIONS(.max_bytes = 16 << 20, .stop_timeout_ms = STOP_MS, .durability = SPOOL_DURABLE_PROCESS);
    ck_ok(spool_open(dir, &options, &spool));
    ck_ok(spool_sink_add(spool, "hangs", &used, NULL, NULL));
    ck_ok(spool_sink_load(spool, "other", "null", NULL, NULL));
    for (int i = 0; i < EVENTS; i++) {
        struct spool_event event = SPOOL_EVENT(.type = "t", .body = "{}", .body_size = 2);
        ck_ok(spool_enqueue(spool, &event, NULL));
    }
    ck_ok(spool_start(spool));
    return spool;
}

static void until_it_hangs(void)
{
    for (uint64_t until = deadline_in_ms(LATE_MS); !entered && mono_ns() < until;)
        poll(NULL, 0, 1);
    ck_assert(entered);
}

/* Of a child: an exit status that says what went wrong. */
static void end_child(bool right)
{
    _exit(right ? 0 : 7);
}

static void run_child(void (*body)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        body();
        _exit(8);
    }
    int status = -1;
    uint64_t until = deadline_in_ms(LATE_MS);
    while (waitpid(pid, &status, WNOHANG) == 0 && mono_ns() < until)
        poll(NULL, 0, 2);
    if (mono_ns() >= until) {
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        ck_abort_msg("did not end in time, hanging in %d", hanging);
    }
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "hanging in %d: status %x", hanging, status);
}

/* All of it again, or delivered before: nothing is lost. */
static int count(void *user, const struct spool_sink_info *info)
{
    uint64_t *n = user;
    if (strcmp(info->name, "hangs") == 0)
        *n = info->pending_events + info->delivered_events;
    return 0;
}

static void nothing_is_lost(void)
{
    struct spool *spool;
    struct spool_options options = SPOOL_OPTIONS(.max_bytes = 16 << 20);
    uint64_t n = 0;
    ck_ok(spool_open(dir, &options, &spool));
    ck_ok(spool_flush(spool, LATE_MS));
    ck_ok(spool_sink_each(spool, count, &n));
    ck_assert_uint_eq(n, EVENTS);
    ck_ok(spool_close(spool));
}

static void stop_twice_and_close(void)
{
    struct spool *spool = begin();
    until_it_hangs();
    int first = spool_stop(spool, STOP_MS), second = spool_stop(spool, STOP_MS);
    int closed = spool_close(spool);
    end_child(first == SPOOL_ETIMEOUT && second == SPOOL_OK && closed == SPOOL_ETIMEOUT);
}

START_TEST(stop_keeps_its_deadline_wherever_a_sink_hangs)
{
    hanging = (enum hook)_i;
    run_child(stop_twice_and_close);
    hanging = NOWHERE;
    nothing_is_lost();
}
END_TEST

/* The sink hangs, and the store cannot take the answers of the other one. */
static void stop_on_a_full_disk(void)
{
    struct spool *spool = begin();
    until_it_hangs();
    struct rlimit none = {4096, 4096};
    setrlimit(RLIMIT_FSIZE, &none);
    struct spool_event event = SPOOL_EVENT(.type = "t", .body = "{}", .body_size = 2, .ttl_ms = 1);
    spool_enqueue(spool, &event, NULL);
    int stopped = spool_stop(spool, STOP_MS);
    spool_close(spool);
    end_child(stopped != SPOOL_OK);
}

START_TEST(stop_keeps_its_deadline_on_a_full_disk)
{
    hanging = DELIVER;
    run_child(stop_on_a_full_disk);
}
END_TEST

static void *stop_in_a_thread(void *arg)
{
    return (void *)(intptr_t)spool_stop(arg, STOP_MS);
}

static void stop_from_threads(void)
{
    enum { THREADS = 6 };
    struct spool *spool = begin();
    pthread_t threads[THREADS];
    bool right = true;
    until_it_hangs();
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, stop_in_a_thread, spool);
    for (int i = 0; i < THREADS; i++) {
        void *code;
        pthread_join(threads[i], &code);
        right &= (intptr_t)code == SPOOL_ETIMEOUT || (intptr_t)code == SPOOL_OK;
    }
    right &= spool_close(spool) == SPOOL_ETIMEOUT;
    end_child(right);
}

START_TEST(stop_from_several_threads_at_once)
{
    hanging = DELIVER;
    run_child(stop_from_threads);
    hanging = NOWHERE;
    nothing_is_lost();
}
END_TEST

static struct spool *to_close;

static void close_at_exit(void)
{
    spool_stop(to_close, STOP_MS);
    int code = spool_close(to_close);
    if (code != (hanging == NOWHERE ? SPOOL_OK : SPOOL_ETIMEOUT))
        _exit(9);
}

static void exit_with_it(void)
{
    to_close = begin();
    if (hanging != NOWHERE)
        until_it_hangs();
    atexit(close_at_exit);
    exit(0);
}

START_TEST(close_from_atexit)
{
    static const enum hook hooks[] = {NOWHERE, OPEN, DELIVER};
    hanging = hooks[_i];
    run_child(exit_with_it);
    hanging = NOWHERE;
    nothing_is_lost();
}
END_TEST

/* Left by exit() without a word to the library: nothing waits for it, and no event is suspected. */
static void exit_without_a_word(void)
{
    begin();
    until_it_hangs();
    exit(0);
}

static int count_suspects(void *user, const struct spool_sink_info *info)
{
    *(uint64_t *)user += info->suspect_events;
    return 0;
}

START_TEST(exit_while_it_delivers)
{
    hanging = DELIVER;
    run_child(exit_without_a_word);
    hanging = NOWHERE;
    nothing_is_lost();
    struct spool *spool = begin();
    ck_ok(spool_drain(spool, LATE_MS));
    uint64_t suspects = 0;
    ck_ok(spool_sink_each(spool, count_suspects, &suspects));
    ck_assert_uint_eq(suspects, 0);
    ck_ok(spool_close(spool));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("public_shutdown");
    TCase *tc = tcase_create("shutdown");
    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_loop_test(tc, stop_keeps_its_deadline_wherever_a_sink_hangs, OPEN, CANCEL + 1);
    tcase_add_test(tc, stop_keeps_its_deadline_on_a_full_disk);
    tcase_add_test(tc, stop_from_several_threads_at_once);
    tcase_add_loop_test(tc, close_from_atexit, 0, 3);
    tcase_add_test(tc, exit_while_it_delivers);
    suite_add_tcase(s, tc);
    return s;
}

CHECK_MAIN(suite)
