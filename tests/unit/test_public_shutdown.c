/* test_public_shutdown.c - stopping and closing keep their deadline wherever a sink hangs: in open, deliver, checkpoint, close or
 * cancel, waiting or blocked in a system call; also while the disk is full, from several threads, and from atexit. What was not
 * delivered is still there. Each case is a process of its own, since a thread that hangs for ever cannot be taken back.
 *
 * How long that takes depends on the machine as well: one that was late is tried again in another process. A deadline that is
 * not kept is missed each time; a machine that is busy is not busy each time. */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "../../lib/base/sync.h"
#include "../check_main.h"

enum { EVENTS = 20, STOP_MS = 400, LATE_MS = 20000, TRIES = 6 };
enum { WAS_RIGHT, WAS_WRONG = 7, NO_END, WAS_LATE };

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

/* Where the sink hangs, and how: a pipe that nobody writes to, deaf to cancel. At the gate it only waits until it is opened. */
enum hook { NOWHERE, OPEN, DELIVER, CHECKPOINT, CLOSE, CANCEL, GATE };
static enum hook hanging;
static atomic_bool entered, gate_open;
static atomic_uint answered;

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
    entered |= hanging == GATE;
    while (hanging == GATE && !gate_open)
        poll(NULL, 0, 1);
    for (size_t i = 0; i < n; i++)
        SPOOL_DELIVERY_AT(batch, i)->outcome = SPOOL_DELIVERED;
    atomic_fetch_add(&answered, (unsigned)n);
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
    _exit(right ? WAS_RIGHT : WAS_WRONG);
}

/* The same, when all since then had `budget_ms` to be done in: twice that is too long. */
static void end_child_in_time(bool right, uint64_t since_ns, uint64_t budget_ms)
{
    bool late = mono_ns() - since_ns > 2 * budget_ms * NS_PER_MS;
    _exit(!right ? WAS_WRONG : late ? WAS_LATE : WAS_RIGHT);
}

static int child_status(void (*body)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        body();
        _exit(NO_END);
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
    ck_assert_msg(WIFEXITED(status), "hanging in %d: status %x", hanging, status);
    return WEXITSTATUS(status);
}

/* `between`, if any, looks at what each one left. A new spool for each. */
static void run_child(void (*body)(void), void (*between)(void))
{
    int status = WAS_LATE;
    enum hook hook = hanging;
    for (int i = 0; i < TRIES && status == WAS_LATE; i++) {
        if (i > 0) {
            tear_down();
            set_up();
        }
        hanging = hook;
        status = child_status(body);
        hanging = NOWHERE;
        if (between)
            between();
    }
    ck_assert_msg(status == WAS_RIGHT, "hanging in %d: %s", hook,
                  status == WAS_LATE ? "did not keep its deadline in any try" : "an answer was wrong");
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
    uint64_t since_ns = mono_ns();
    int first = spool_stop(spool, STOP_MS), second = spool_stop(spool, STOP_MS);
    int closed = spool_close(spool);
    end_child_in_time(first == SPOOL_ETIMEOUT && second == SPOOL_OK && closed == SPOOL_ETIMEOUT, since_ns, 2 * STOP_MS);
}

START_TEST(stop_keeps_its_deadline_wherever_a_sink_hangs)
{
    hanging = (enum hook)_i;
    run_child(stop_twice_and_close, nothing_is_lost);
}
END_TEST

/* Every write into a file fails from now on, wherever in it: the disk is full. */
static void fill_disk(void)
{
    struct rlimit none = {4096, 4096};
    setrlimit(RLIMIT_FSIZE, &none);
}

/* Sinks answer, and that cannot be stored: stop says so, in time. */
static bool disk_is_full;

static void stop_with_answers_to_store(void)
{
    struct spool *spool = begin();
    until_it_hangs();
    if (disk_is_full)
        fill_disk();
    uint64_t since_ns = mono_ns();
    gate_open = true;
    while (answered < EVENTS)
        poll(NULL, 0, 1);
    int stopped = spool_stop(spool, disk_is_full ? STOP_MS : LATE_MS), closed = spool_close(spool);
    if (disk_is_full) /* no sink hangs: it is not that which it says */
        end_child_in_time(stopped == SPOOL_EFULL || stopped > 0, since_ns, 2 * STOP_MS);
    end_child(stopped == SPOOL_OK && closed == SPOOL_OK);
}

static int note_delivered(void *user, const struct spool_sink_info *info)
{
    if (strcmp(info->name, "hangs") == 0)
        *(uint64_t *)user = info->delivered_events;
    return 0;
}

static void all_or_nothing_is_stored(void)
{
    struct spool *spool;
    uint64_t delivered = 0;
    nothing_is_lost();
    ck_ok(spool_open(dir, &SPOOL_OPTIONS(.max_bytes = 16 << 20), &spool));
    ck_ok(spool_sink_each(spool, note_delivered, &delivered));
    ck_assert_uint_eq(delivered, disk_is_full ? 0 : EVENTS); /* so the disk was full indeed */
    ck_ok(spool_close(spool));
}

START_TEST(stop_says_that_answers_could_not_be_stored)
{
    disk_is_full = _i;
    hanging = GATE;
    run_child(stop_with_answers_to_store, all_or_nothing_is_stored);
}
END_TEST

/* The sink hangs, and the disk is full as well. */
static void stop_on_a_full_disk(void)
{
    struct spool *spool = begin();
    until_it_hangs();
    fill_disk();
    uint64_t since_ns = mono_ns();
    int stopped = spool_stop(spool, STOP_MS);
    int closed = spool_close(spool);
    end_child_in_time(stopped == SPOOL_ETIMEOUT && closed != SPOOL_OK, since_ns, 2 * STOP_MS);
}

START_TEST(stop_keeps_its_deadline_on_a_full_disk)
{
    hanging = DELIVER;
    run_child(stop_on_a_full_disk, nothing_is_lost);
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
    uint64_t since_ns = mono_ns();
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, stop_in_a_thread, spool);
    for (int i = 0; i < THREADS; i++) {
        void *code;
        pthread_join(threads[i], &code);
        right &= (intptr_t)code == SPOOL_ETIMEOUT || (intptr_t)code == SPOOL_OK;
    }
    right &= spool_close(spool) == SPOOL_ETIMEOUT;
    end_child_in_time(right, since_ns, 2 * STOP_MS);
}

START_TEST(stop_from_several_threads_at_once)
{
    hanging = DELIVER;
    run_child(stop_from_threads, nothing_is_lost);
}
END_TEST

static struct spool *to_close;

static void close_at_exit(void)
{
    uint64_t since_ns = mono_ns();
    spool_stop(to_close, hanging == NOWHERE ? LATE_MS : STOP_MS);
    int code = spool_close(to_close);
    if (hanging == NOWHERE)
        end_child(code == SPOOL_OK);
    end_child_in_time(code == SPOOL_ETIMEOUT, since_ns, 2 * STOP_MS);
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
    run_child(exit_with_it, nothing_is_lost);
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
    run_child(exit_without_a_word, nothing_is_lost);
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
    tcase_add_loop_test(tc, stop_says_that_answers_could_not_be_stored, 0, 2);
    tcase_add_test(tc, stop_keeps_its_deadline_on_a_full_disk);
    tcase_add_test(tc, stop_from_several_threads_at_once);
    tcase_add_loop_test(tc, close_from_atexit, 0, 3);
    tcase_add_test(tc, exit_while_it_delivers);
    suite_add_tcase(s, tc);
    return s;
}

CHECK_MAIN(suite)
