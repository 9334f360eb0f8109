/* sync.c - time, deadlines, condition variables, threads of the library, and the count of forks. */
#include "sync.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "error.h"

#define NS_PER_S 1000000000ull

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    if (clock_gettime(clock, &now) != 0 || now.tv_sec < 0)
        return 0;
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

uint64_t mono_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t real_ns(void)
{
    return clock_ns(CLOCK_REALTIME);
}

uint64_t deadline_in_ms(uint64_t timeout_ms)
{
    uint64_t now = mono_ns();
    return timeout_ms >= (DEADLINE_NEVER - now) / NS_PER_MS ? DEADLINE_NEVER : now + timeout_ms * NS_PER_MS;
}

int cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    int rc = pthread_condattr_init(&attr);
    if (rc)
        return err_errno(rc, "pthread_condattr_init");
    rc = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    if (!rc)
        rc = pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
    return rc ? err_errno(rc, "pthread_cond_init") : 0;
}

int cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, uint64_t deadline_ns)
{
    if (deadline_ns == DEADLINE_NEVER)
        return pthread_cond_wait(cond, mutex);
    struct timespec until = {.tv_sec = (time_t)(deadline_ns / NS_PER_S), .tv_nsec = (long)(deadline_ns % NS_PER_S)};
    return pthread_cond_timedwait(cond, mutex, &until);
}

/* ------------------------------------------------------------------------------------------------------ threads */

static _Thread_local bool is_ours;

struct thread_begin {
    void *(*run)(void *);
    void *arg;
    char name[16]; /* what the kernel keeps, with its NUL */
};

static void *thread_main(void *arg)
{
    struct thread_begin begin = *(struct thread_begin *)arg;
    free(arg);
    is_ours = true;
    pthread_setname_np(pthread_self(), begin.name); /* for debuggers; no harm if refused */
    return begin.run(begin.arg);
}

/* All but those that a fault of the thread itself raises: a program's crash reporter is to see them. */
static void all_from_outside(sigset_t *ret)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
    sigfillset(ret);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        sigdelset(ret, faults[i]);
}

/* A thread inherits the signal mask of its creator: all are blocked around the creation, so that there is no moment at
 * which the new thread could take a signal of the program. */
static int create_blocked(pthread_t *ret, struct thread_begin *begin)
{
    sigset_t all, old;
    all_from_outside(&all);
    int rc = pthread_sigmask(SIG_SETMASK, &all, &old);
    if (rc)
        return rc;
    pthread_t thread;
    rc = pthread_create(&thread, NULL, thread_main, begin);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc == 0)
        *ret = thread;
    return rc;
}

int thread_start(pthread_t *ret, const char *name, void *(*run)(void *), void *arg)
{
    struct thread_begin *begin = malloc(sizeof *begin);
    if (!begin)
        return err_set(ENOMEM, "out of memory: cannot start thread %s", name);
    *begin = (struct thread_begin){.run = run, .arg = arg};
    snprintf(begin->name, sizeof begin->name, "%s", name);
    int rc = create_blocked(ret, begin);
    if (rc) {
        free(begin);
        return err_errno(rc, "cannot start thread %s", name);
    }
    return 0;
}

bool thread_is_ours(void)
{
    return is_ours;
}

/* ---------------------------------------------------------------------------------------- the limit of a file's size
 */

static sigset_t file_size_set(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGXFSZ);
    return set;
}

static bool file_size_is_pending(void)
{
    sigset_t pending;
    return sigpending(&pending) == 0 && sigismember(&pending, SIGXFSZ) == 1;
}

void file_size_signal_hold(struct file_size_signal *ret)
{
    sigset_t set = file_size_set();
    *ret = (struct file_size_signal){.was_pending = false};
    if (is_ours || pthread_sigmask(SIG_BLOCK, &set, &ret->old))
        return;
    ret->held = true;
    ret->was_pending = file_size_is_pending();
}

/* errno is left alone: it may be the reason of what comes next. */
void file_size_signal_release(const struct file_size_signal *signal)
{
    const struct timespec at_once = {0};
    sigset_t set = file_size_set();
    int saved = errno;
    if (!signal->held)
        return;
    if (!signal->was_pending) {
        while (file_size_is_pending() && sigtimedwait(&set, NULL, &at_once) < 0 && errno == EINTR)
            ;
    }
    pthread_sigmask(SIG_SETMASK, &signal->old, NULL);
    errno = saved;
}

/* ---------------------------------------------------------------------------------------------------------- fork */

static _Atomic uint32_t forks;

static void count_fork(void)
{
    atomic_fetch_add_explicit(&forks, 1, memory_order_relaxed);
}

uint32_t fork_generation(void)
{
    return atomic_load_explicit(&forks, memory_order_relaxed);
}

int fork_watch(void)
{
    static bool watching;
    int rc = watching ? 0 : pthread_atfork(NULL, NULL, count_fork);
    watching |= rc == 0; /* a failure is no answer for ever */
    return rc ? err_errno(rc, "pthread_atfork") : 0;
}
