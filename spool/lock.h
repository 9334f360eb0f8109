/* lock.h - a read-write lock between processes and threads that can be awaited with a deadline and interrupted.
 *
 * Between processes it is an fcntl record lock on a file (not OFD: those survive the owner in a forked child), between
 * threads a fair rwlock of our own, because record locks belong to the process. It dies with its owner, works across
 * containers (no pids), and a stopped peer delays others only until their deadline. Waiting is on a futex word in the
 * mapped wake file, which the releaser bumps; the record lock itself is the truth, and a waiter looks again every few
 * milliseconds in case the owner died without a bump. */
#ifndef SPOOL_LOCK_H
#define SPOOL_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct lock;
enum lock_mode { LOCK_SHARED, LOCK_EXCLUSIVE };

/* A pair of words in the mapped wake file that a lock uses; they hint, they never decide. */
struct lock_hint {
    _Atomic uint32_t released; /* futex, bumped at each release that somebody may wait for */
    _Atomic uint32_t wanted;   /* when somebody last waited (low 20 bits of the CLOCK_MONOTONIC milliseconds; clocks of
                                   containers on one kernel agree) and who (12 random bits of its handle): a releaser
                                   that sees a fresh one of another process leaves a gap before it takes the lock again, so
                                   that a busy process cannot starve the others. */
};

/* Opens (creates unless read_only) the lock file. With read_only only LOCK_SHARED may be taken, and a missing file is a
 * lock that nobody holds. `hint` may be NULL; `dir_fd` must stay open. SPOOL_EACCESS (a link), errno. */
int lock_open(int dir_fd, const char *name, bool read_only, mode_t mode, struct lock_hint *hint, struct lock **ret);
void lock_close(struct lock *lock);   /* must not be held; NULL is fine */
void lock_abandon(struct lock *lock); /* in a forked child */

/* SPOOL_ETIMEOUT at the deadline (0: try once), SPOOL_ESTOPPED while interrupted. Threads are served in the order they
 * came; readers that come together share. Not recursive. Owned by the handle, not by the thread. */
int lock_take(struct lock *lock, enum lock_mode mode, uint64_t deadline_ns);
void lock_drop(struct lock *lock, enum lock_mode mode);

/* While on, those that wait and those that come with a deadline beyond now get SPOOL_ESTOPPED instead of waiting;
 * what needs no wait is granted. */
void lock_interrupt(struct lock *lock, bool on);

/* From now on waits of this process, also those under way, end at that time if their own deadline is later: with
 * SPOOL_ETIMEOUT. For stopping in time whatever a peer does. DEADLINE_NEVER lifts it. */
void lock_hurry(struct lock *lock, uint64_t deadline_ns);

/* A note in the file, from its holder to whoever looks: a checksum tells one that is torn or of before a crash. Not flushed.
 * Writing: errno. Reading: malloc'd, free(); SPOOL_ENOTFOUND if there is none that is whole. */
int lock_note(struct lock *lock, const void *bytes, size_t size);
int lock_read_note(struct lock *lock, size_t size_max, uint8_t **ret, size_t *ret_size);

/* True if another process holds it in a way that excludes `mode` (F_GETLK); does not count this process. */
bool lock_is_held_elsewhere(struct lock *lock, enum lock_mode mode);

#endif
