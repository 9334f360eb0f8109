/* journal_flush.c - making records power-safe: one flush for all who wait.
 *
 * Flushes are numbered. The first thread that finds none running leads: it notes the head as its target and calls
 * fdatasync() without any lock. Those who come meanwhile wait on one of two futex words: on the running flush's if its
 * target covers their record, else on the next one's, which is the other word. So when a flush is done everybody on its
 * word may go; of the others exactly one is woken, to lead the next flush. That one is woken first, so that the disk is
 * busy again while the leader wakes the rest. (One condition variable for all wakes 64 threads twice as often as
 * needed.)
 *
 * Nobody misses a wake-up: the word is read under flush_mutex after the conditions were looked at, and bumped under it
 * after they have changed. A waiter that was woken looks whether to lead before it looks at its deadline: the wake-up
 * may have been the only one.
 *
 * Who was woken and finds his record flushed leaves without the mutex: of dozens woken at once, each would else find it
 * taken by another, and sleep a second time.
 *
 * A flush that fails is never repeated: the kernel may have dropped the dirty pages and marked them clean, so that a
 * second fdatasync() would return 0 for data that is not on the disk (the "fsyncgate" of 2018). */
#include <errno.h>
#include <unistd.h>

#include "../lib/base/error.h"
#include "../lib/base/sync.h"
#include "journal_inside.h"
#include "wake.h"

int (*journal_fdatasync)(int fd);

uint64_t journal_flushed(const struct journal *journal)
{
    uint64_t flushed = atomic_load(&journal->flushed), applied = atomic_load(&journal->applied);
    return flushed > applied ? flushed : applied;
}

bool journal_is_failed(const struct journal *journal)
{
    return atomic_load(&journal->failure) != 0;
}

static int flush_file(const struct journal *journal)
{
    if (journal_fdatasync)
        return journal_fdatasync(journal->fd) ? (errno ? errno : EIO) : 0;
    return fdatasync(journal->fd) ? errno : 0;
}

/* flush_mutex held, and dropped. */
static void lead(struct journal *journal)
{
    journal->flushing = true;
    journal->flush_target = journal_head(journal);
    uint32_t number = ++journal->flush_number;
    pthread_mutex_unlock(&journal->flush_mutex);
    uint64_t began_ns = mono_ns();
    int err = flush_file(journal);
    uint64_t took_ns = mono_ns() - began_ns;
    pthread_mutex_lock(&journal->flush_mutex);
    histogram_add(&journal->flush_us, took_ns / 1000, 1);
    if (err)
        atomic_store(&journal->failure, err);
    else
        atomic_store(&journal->flushed, journal->flush_target);
    journal->flushing = false;
    _Atomic uint32_t *ours = &journal->flush_done[number & 1], *next = &journal->flush_done[~number & 1];
    atomic_fetch_add(ours, 1);
    atomic_fetch_add(next, 1);
    bool waiters = atomic_load(&journal->flush_waiters) > 0;
    pthread_mutex_unlock(&journal->flush_mutex);
    if (!waiters)
        return;
    if (err)
        futex_wake_all(next);
    else
        futex_wake_one(next);
    futex_wake_all(ours);
}

/* flush_mutex held, and dropped: waits for the flush that covers `position`. */
static int follow(struct journal *journal, uint64_t position, uint64_t deadline_ns)
{
    uint32_t number = journal->flush_number + (position > journal->flush_target);
    _Atomic uint32_t *word = &journal->flush_done[number & 1];
    uint32_t seen = atomic_load(word);
    atomic_fetch_add(&journal->flush_waiters, 1);
    pthread_mutex_unlock(&journal->flush_mutex);
    int rc = futex_wait_until(word, seen, deadline_ns);
    atomic_fetch_sub(&journal->flush_waiters, 1);
    return rc;
}

static int flush_failed(const struct journal *journal)
{
    return err_errno(atomic_load(&journal->failure), "journal %s: flushing failed", journal->name);
}

static int timed_out(const struct journal *journal)
{
    return err_set(SPOOL_ETIMEOUT, "journal %s: not flushed in the time given", journal->name);
}

/* One look, and a flush led or awaited: SPOOL_OK when there may be another. */
static int flush_once(struct journal *journal, uint64_t position, uint64_t deadline_ns)
{
    pthread_mutex_lock(&journal->flush_mutex);
    bool done = journal_flushed(journal) >= position, failed = !done && journal_is_failed(journal);
    if (!done && !failed && !journal->flushing) {
        lead(journal);
        return SPOOL_OK;
    }
    if (!done && !failed)
        return follow(journal, position, deadline_ns) && journal_flushed(journal) < position ? timed_out(journal)
                                                                                             : SPOOL_OK;
    pthread_mutex_unlock(&journal->flush_mutex);
    return failed ? flush_failed(journal) : SPOOL_OK;
}

int journal_flush(struct journal *journal, uint64_t position, uint64_t deadline_ns)
{
    if (journal_flushed(journal) >= position)
        return SPOOL_OK;
    if (deadline_ns != DEADLINE_NEVER && mono_ns() >= deadline_ns)
        return timed_out(journal);
    int code = SPOOL_OK;
    while (!code && journal_flushed(journal) < position)
        code = flush_once(journal, position, deadline_ns);
    return code;
}

void journal_set_applied(struct journal *journal, uint64_t position)
{
    atomic_store_explicit(&journal->applied, position, memory_order_release);
    pthread_mutex_lock(&journal->flush_mutex);
    atomic_fetch_add(&journal->flush_done[0], 1);
    atomic_fetch_add(&journal->flush_done[1], 1);
    bool waiters = atomic_load(&journal->flush_waiters) > 0;
    pthread_mutex_unlock(&journal->flush_mutex);
    if (!waiters)
        return;
    futex_wake_all(&journal->flush_done[0]);
    futex_wake_all(&journal->flush_done[1]);
}

void journal_set_lost(struct journal *journal)
{
    atomic_store(&journal->lost, true);
}

bool journal_has_lost(const struct journal *journal, uint64_t position)
{
    return atomic_load(&journal->lost) && position > atomic_load(&journal->flushed);
}

void journal_flush_times(struct journal *journal, struct histogram *to)
{
    pthread_mutex_lock(&journal->flush_mutex);
    histogram_merge(to, &journal->flush_us);
    pthread_mutex_unlock(&journal->flush_mutex);
}
