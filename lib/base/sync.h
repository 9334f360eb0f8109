/* sync.h - time, deadlines, condition variables on the monotonic clock, and threads that block all signals.
 *
 * A deadline is an absolute time of CLOCK_MONOTONIC in nanoseconds; DEADLINE_NEVER waits for ever, 0 has passed. */
#ifndef BASE_SYNC_H
#define BASE_SYNC_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#define DEADLINE_NEVER UINT64_MAX
#define NS_PER_MS 1000000ull

uint64_t mono_ns(void);                       /* CLOCK_MONOTONIC */
uint64_t real_ns(void);                       /* CLOCK_REALTIME, since 1970 */
uint64_t deadline_in_ms(uint64_t timeout_ms); /* now + timeout, saturating */

int cond_init(pthread_cond_t *cond); /* on CLOCK_MONOTONIC; errno */
/* Waits with `mutex` held; 0 when woken (or spuriously), ETIMEDOUT when the deadline has passed. */
int cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, uint64_t deadline_ns);

/* Starts a thread of the library: all signals blocked (but those that a fault of its own raises), named (15 characters), marked as ours. errno with message. */
int thread_start(pthread_t *ret, const char *name, void *(*run)(void *), void *arg);
/* The calling thread was started by thread_start(). */
bool thread_is_ours(void);

/* Writing beyond RLIMIT_FSIZE raises SIGXFSZ, which ends a program. Between the two calls the calling thread gets EFBIG
 * alone: the signal is blocked, and one that our writes raised is taken back. Our own threads need neither. May be
 * nested. */
struct file_size_signal {
    sigset_t old;
    bool held, was_pending;
};
void file_size_signal_hold(struct file_size_signal *ret);
void file_size_signal_release(const struct file_size_signal *signal);

/* Grows by one in every forked child (pthread_atfork); compare with the value at open. */
uint32_t fork_generation(void);
int fork_watch(void); /* installs the handler, once per process; one thread at a time; errno */

#endif
