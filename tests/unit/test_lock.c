/* test_lock.c - the lock between threads and processes: exclusion, fairness, deadlines, dead and stopped owners. */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "../../lib/base/sync.h"
#include "../../spool/lock.c" /* its queue is looked at */
#include "../../spool/wake.h"
#include "../check_main.h"

/* What processes of a test share. */
struct shared {
    atomic_int stop, ready, inside, violations, readers_most;
    atomic_ulong turns[2];
};

static char *path;
static int dir_fd;
static struct shared *shared;
static struct wake *wake;

static void set_up(void)
{
    path = test_dir();
    dir_fd = open(path, O_RDONLY | O_DIRECTORY);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(shared != MAP_FAILED);
    ck_ok(wake_open(dir_fd, false, 0600, &wake));
}

static void tear_down(void)
{
    wake_close(wake);
    munmap(shared, sizeof *shared);
    close(dir_fd);
    test_rmdir(path);
    free(path);
}

static struct lock *open_lock(bool with_hint)
{
    struct lock *lock;
    ck_ok(lock_open(dir_fd, "log.lock", false, 0600, with_hint ? &wake_page(wake)->log : NULL, &lock));
    return lock;
}

static void pause_ms(uint64_t ms)
{
    _Atomic uint32_t word = 0;
    futex_wait_until(&word, 0, deadline_in_ms(ms));
}

static void await(atomic_int *word, int value)
{
    for (uint64_t end = deadline_in_ms(20000); atomic_load(word) != value;) {
        ck_assert_uint_lt(mono_ns(), end);
        pause_ms(1);
    }
}

/* A child that opens the lock itself, takes it and holds it until it is killed. */
static pid_t start_holder(enum lock_mode mode)
{
    shared->ready = 0;
    pid_t pid = fork();
    if (pid)
        return pid;
    struct lock *lock;
    if (lock_open(dir_fd, "log.lock", false, 0600, &wake_page(wake)->log, &lock) ||
        lock_take(lock, mode, deadline_in_ms(10000)))
        _exit(1);
    shared->ready = 1;
    for (;;)
        pause();
}

static void end_child(pid_t pid)
{
    kill(pid, SIGKILL);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

/* ------------------------------------------------------------------------------------------------ one process */

START_TEST(taking_and_dropping)
{
    struct lock *lock = open_lock(_i);
    ck_ok(lock_take(lock, LOCK_SHARED, 0));
    ck_ok(lock_take(lock, LOCK_SHARED, 0));
    ck_code(lock_take(lock, LOCK_EXCLUSIVE, 0), SPOOL_ETIMEOUT);
    ck_code(lock_take(lock, LOCK_EXCLUSIVE, deadline_in_ms(5)), SPOOL_ETIMEOUT);
    lock_drop(lock, LOCK_SHARED);
    ck_code(lock_take(lock, LOCK_EXCLUSIVE, 0), SPOOL_ETIMEOUT);
    lock_drop(lock, LOCK_SHARED);
    ck_ok(lock_take(lock, LOCK_EXCLUSIVE, 0));
    ck_code(lock_take(lock, LOCK_EXCLUSIVE, 0), SPOOL_ETIMEOUT);
    ck_code(lock_take(lock, LOCK_SHARED, 0), SPOOL_ETIMEOUT);
    lock_drop(lock, LOCK_EXCLUSIVE);
    ck_assert(!lock_is_held_elsewhere(lock, LOCK_EXCLUSIVE));
    lock_close(lock);
    lock_close(NULL);
    lock_abandon(NULL);
}
END_TEST

struct threads {
    struct lock *lock;
    int value; /* the lock */
    int rounds;
};

static void *count_up(void *arg)
{
    struct threads *threads = arg;
    for (int i = 0; i < threads->rounds; i++) {
        enum lock_mode mode = i % 4 ? LOCK_EXCLUSIVE : LOCK_SHARED;
        if (lock_take(threads->lock, mode, deadline_in_ms(30000)))
            return "not taken";
        if (mode == LOCK_EXCLUSIVE)
            threads->value++;
        lock_drop(threads->lock, mode);
    }
    return NULL;
}

START_TEST(threads_exclude_each_other)
{
    enum { THREADS = 8, ROUNDS = 400 };
    struct threads threads = {open_lock(true), 0, ROUNDS};
    pthread_t ids[THREADS];
    void *failed;
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&ids[i], NULL, count_up, &threads), 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(ids[i], &failed);
        ck_assert_ptr_null(failed);
    }
    ck_assert_int_eq(threads.value, THREADS * ROUNDS * 3 / 4);
    lock_close(threads.lock);
}
END_TEST

static atomic_int order;
struct place {
    struct lock *lock;
    enum lock_mode mode;
    int came;
    pthread_t thread;
};

static void *take_place(void *arg)
{
    struct place *place = arg;
    if (lock_take(place->lock, place->mode, deadline_in_ms(20000)))
        return NULL;
    place->came = atomic_fetch_add(&order, 1);
    lock_drop(place->lock, place->mode);
    return NULL;
}

static unsigned waiters(struct lock *lock)
{
    unsigned n = 0;
    pthread_mutex_lock(&lock->mutex);
    for (const struct waiter *waiter = lock->queue; waiter; waiter = waiter->next)
        n++;
    pthread_mutex_unlock(&lock->mutex);
    return n;
}

/* A writer that waits is not overtaken by readers that come later, although they could join the one that holds it. */
START_TEST(first_come_first_served)
{
    enum { N = 5 };
    struct place places[N];
    struct lock *lock = open_lock(true);
    order = 0;
    ck_ok(lock_take(lock, LOCK_SHARED, 0));
    for (int i = 0; i < N; i++) {
        places[i] = (struct place){lock, i == 0 || i == 3 ? LOCK_EXCLUSIVE : LOCK_SHARED, -1, 0};
        ck_assert_int_eq(pthread_create(&places[i].thread, NULL, take_place, &places[i]), 0);
        for (uint64_t end = deadline_in_ms(60000); waiters(lock) <= (unsigned)i && mono_ns() < end;)
            pause_ms(1); /* so that they queue in this order */
    }
    ck_assert_int_eq(order, 0);
    lock_drop(lock, LOCK_SHARED);
    for (int i = 0; i < N; i++)
        pthread_join(places[i].thread, NULL);
    ck_assert_int_eq(places[0].came, 0);
    ck_assert_int_le(places[1].came, 2);
    ck_assert_int_le(places[2].came, 2);
    ck_assert_int_eq(places[3].came, 3);
    ck_assert_int_eq(places[4].came, 4);
    lock_close(lock);
}
END_TEST

static void *take_or_tell(void *arg)
{
    int code = lock_take(arg, LOCK_EXCLUSIVE, DEADLINE_NEVER);
    if (code == SPOOL_OK)
        lock_drop(arg, LOCK_EXCLUSIVE);
    return (void *)(intptr_t)code;
}

/* Both kinds of waiters go at once: for a thread of this process, and for another process. */
START_TEST(interrupt)
{
    struct lock *lock = open_lock(_i & 1);
    pid_t holder = 0;
    if (_i & 2) {
        holder = start_holder(LOCK_SHARED);
        await(&shared->ready, 1);
    } else {
        ck_ok(lock_take(lock, LOCK_SHARED, 0));
    }
    pthread_t waiters[2];
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&waiters[i], NULL, take_or_tell, lock), 0);
    pause_ms(30);
    uint64_t begin = mono_ns();
    lock_interrupt(lock, true);
    for (int i = 0; i < 2; i++) {
        void *code;
        pthread_join(waiters[i], &code);
        ck_assert_int_eq((int)(intptr_t)code, SPOOL_ESTOPPED);
    }
    ck_assert_uint_lt(mono_ns() - begin, 5000 * NS_PER_MS);
    ck_code(lock_take(lock, LOCK_EXCLUSIVE, deadline_in_ms(10000)), SPOOL_ESTOPPED);
    ck_code(lock_take(lock, LOCK_EXCLUSIVE, 0), SPOOL_ETIMEOUT);
    ck_ok(lock_take(lock, LOCK_SHARED, 0)); /* what needs no wait is granted */
    lock_drop(lock, LOCK_SHARED);
    if (holder)
        end_child(holder);
    else
        lock_drop(lock, LOCK_SHARED);
    lock_interrupt(lock, false);
    ck_ok(lock_take(lock, LOCK_EXCLUSIVE, deadline_in_ms(60000)));
    lock_drop(lock, LOCK_EXCLUSIVE);
    lock_close(lock);
}
END_TEST

START_TEST(read_only)
{
    struct lock *lock;
    ck_ok(lock_open(dir_fd, "log.lock", true, 0600, NULL, &lock));
    ck_assert_int_ne(faccessat(dir_fd, "log.lock", F_OK, 0), 0);
    ck_ok(lock_take(lock, LOCK_SHARED, 0)); /* no file: nobody writes */
    lock_drop(lock, LOCK_SHARED);
    ck_code(lock_take(lock, LOCK_EXCLUSIVE, 0), SPOOL_EREADONLY);
    pid_t holder = start_holder(LOCK_EXCLUSIVE);
    await(&shared->ready, 1);
    ck_code(lock_take(lock, LOCK_SHARED, deadline_in_ms(20)), SPOOL_ETIMEOUT); /* the file came to be meanwhile */
    ck_assert(lock_is_held_elsewhere(lock, LOCK_SHARED));
    end_child(holder);
    ck_ok(lock_take(lock, LOCK_SHARED, deadline_in_ms(60000)));
    lock_drop(lock, LOCK_SHARED);
    lock_close(lock);
}
END_TEST

START_TEST(refuses_links)
{
    struct lock *lock = NULL;
    ck_assert_int_eq(symlinkat("elsewhere", dir_fd, "log.lock"), 0);
    ck_code(lock_open(dir_fd, "log.lock", false, 0600, NULL, &lock), SPOOL_EACCESS);
    ck_assert_int_ne(faccessat(dir_fd, "elsewhere", F_OK, 0), 0);
    ck_assert_ptr_null(lock);
}
END_TEST

/* --------------------------------------------------------------------------------------------- several processes */

START_TEST(owner_is_seen_and_its_death)
{
    struct lock *lock = open_lock(_i);
    pid_t holder = start_holder(LOCK_SHARED);
    await(&shared->ready, 1);
    ck_assert(lock_is_held_elsewhere(lock, LOCK_EXCLUSIVE));
    ck_assert(!lock_is_held_elsewhere(lock, LOCK_SHARED));
    ck_ok(lock_take(lock, LOCK_SHARED, 0));
    lock_drop(lock, LOCK_SHARED);
    ck_code(lock_take(lock, LOCK_EXCLUSIVE, 0), SPOOL_ETIMEOUT);
    end_child(holder);
    ck_ok(lock_take(lock, LOCK_EXCLUSIVE, deadline_in_ms(60000)));
    lock_drop(lock, LOCK_EXCLUSIVE);
    lock_close(lock);
}
END_TEST

/* A stopped owner keeps it; others return at their deadline, and get it when it is killed while they wait. */
START_TEST(stopped_owner)
{
    struct lock *lock = open_lock(_i);
    pid_t holder = start_holder(LOCK_EXCLUSIVE);
    await(&shared->ready, 1);
    kill(holder, SIGSTOP);
    uint64_t begin = mono_ns();
    ck_code(lock_take(lock, LOCK_EXCLUSIVE, deadline_in_ms(100)), SPOOL_ETIMEOUT);
    ck_assert_uint_ge(mono_ns() - begin, 100 * NS_PER_MS);
    ck_assert_uint_lt(mono_ns() - begin, 5000 * NS_PER_MS);
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "log.lock"));
    pthread_t waiter;
    void *code;
    ck_assert_int_eq(pthread_create(&waiter, NULL, take_or_tell, lock), 0);
    pause_ms(20);
    end_child(holder);
    pthread_join(waiter, &code);
    ck_assert_ptr_null(code);
    lock_close(lock);
}
END_TEST

/* Takes the lock without a pause, as two threads when it reads, and checks that it is alone when it writes. */
static void hammer(int who, enum lock_mode mode, struct lock *lock)
{
    while (!shared->stop) {
        if (lock_take(lock, mode, deadline_in_ms(10000)))
            _exit(1);
        int inside = atomic_fetch_add(&shared->inside, mode == LOCK_EXCLUSIVE ? 1000 : 1);
        if (mode == LOCK_EXCLUSIVE ? inside != 0 : inside >= 1000)
            atomic_fetch_add(&shared->violations, 1);
        for (uint64_t until = mono_ns() + 20000; mono_ns() < until;) { /* some work */
        }
        atomic_fetch_sub(&shared->inside, mode == LOCK_EXCLUSIVE ? 1000 : 1);
        atomic_fetch_add(&shared->turns[who], 1);
        lock_drop(lock, mode);
    }
}

static struct lock *hammered;
static enum lock_mode hammer_mode;
static void *hammer_second(void *arg)
{
    (void)arg;
    hammer(0, hammer_mode, hammered);
    return NULL;
}

/* On one processor a woken process does not run before the one that woke it asks again. */
static void use_one_processor(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(sched_getcpu(), &set);
    if (sched_setaffinity(0, sizeof set, &set))
        perror("sched_setaffinity");
}

static pid_t start_hammer(int who, enum lock_mode mode)
{
    pid_t pid = fork();
    if (pid)
        return pid;
    pthread_t second;
    if (lock_open(dir_fd, "log.lock", false, 0600, &wake_page(wake)->log, &hammered))
        _exit(1);
    hammer_mode = mode;
    atomic_fetch_add(&shared->ready, 1);
    while (shared->ready < 2)
        pause_ms(1);
    if (mode == LOCK_SHARED && pthread_create(&second, NULL, hammer_second, NULL))
        _exit(1);
    hammer(who, mode, hammered);
    if (mode == LOCK_SHARED)
        pthread_join(second, NULL);
    _exit(0);
}

static void run_hammers(enum lock_mode first_mode)
{
    pid_t pids[2] = {start_hammer(0, first_mode), start_hammer(1, LOCK_EXCLUSIVE)};
    await(&shared->ready, 2);
    pause_ms(1000);
    shared->stop = 1;
    for (int i = 0; i < 2; i++) {
        int status;
        ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
        ck_assert_int_eq(status, 0);
    }
    printf("turns: %lu and %lu\n", shared->turns[0], shared->turns[1]);
    ck_assert_int_eq(shared->violations, 0);
}

START_TEST(busy_processes_share)
{
    if (_i)
        use_one_processor();
    run_hammers(LOCK_EXCLUSIVE);
    unsigned long all = shared->turns[0] + shared->turns[1];
    ck_assert_uint_ge(shared->turns[0] * 5, all);
    ck_assert_uint_ge(shared->turns[1] * 5, all);
    ck_assert_uint_ge(all, 100);
}
END_TEST

/* Who releases while a peer waits does not take it again at once. (The peer is stopped, so that nobody ends the gap;
 * its mark counts only for milliseconds, so that on a busy machine it takes several tries.) */
START_TEST(releaser_steps_back)
{
    struct lock *lock = open_lock(true);
    uint64_t longest = 0;
    for (int tries = 0; tries < 50 && longest < 900000; tries++) {
        ck_ok(lock_take(lock, LOCK_EXCLUSIVE, deadline_in_ms(60000)));
        pid_t peer = start_holder(LOCK_EXCLUSIVE);
        pause_ms(15);
        kill(peer, SIGSTOP);
        lock_drop(lock, LOCK_EXCLUSIVE);
        uint64_t begin = mono_ns();
        ck_ok(lock_take(lock, LOCK_EXCLUSIVE, deadline_in_ms(60000)));
        uint64_t took = mono_ns() - begin;
        longest = took > longest ? took : longest;
        end_child(peer);
        lock_drop(lock, LOCK_EXCLUSIVE);
    }
    ck_assert_uint_ge(longest, 900000);
    lock_close(lock);
}
END_TEST

/* Two threads that read in turn, so that one always holds it, do not keep a writer in another process out. */
START_TEST(readers_do_not_starve_a_writer)
{
    run_hammers(LOCK_SHARED);
    ck_assert_uint_ge(shared->turns[1] * 10, shared->turns[0]);
}
END_TEST

/* An owner's child that gives up its copy does not drop the parent's lock. */
START_TEST(fork_keeps_the_lock)
{
    struct lock *lock = open_lock(true);
    ck_ok(lock_take(lock, LOCK_EXCLUSIVE, 0));
    pid_t pid = fork();
    if (pid == 0) {
        struct lock *own;
        lock_abandon(lock);
        if (lock_open(dir_fd, "log.lock", false, 0600, NULL, &own))
            _exit(1);
        _exit(lock_take(own, LOCK_SHARED, 0) == SPOOL_ETIMEOUT ? 0 : 2);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    lock_drop(lock, LOCK_EXCLUSIVE);
    lock_close(lock);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("lock");
    TCase *t = tcase_create("lock");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, taking_and_dropping, 0, 2);
    tcase_add_test(t, threads_exclude_each_other);
    tcase_add_test(t, first_come_first_served);
    tcase_add_loop_test(t, interrupt, 0, 4);
    tcase_add_test(t, read_only);
    tcase_add_test(t, refuses_links);
    tcase_add_loop_test(t, owner_is_seen_and_its_death, 0, 2);
    tcase_add_loop_test(t, stopped_owner, 0, 2);
    tcase_add_loop_test(t, busy_processes_share, 0, 2);
    tcase_add_test(t, releaser_steps_back);
    tcase_add_test(t, readers_do_not_starve_a_writer);
    tcase_add_test(t, fork_keeps_the_lock);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
