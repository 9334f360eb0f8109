/* clock.h - the hybrid logical clock: the whole contract of this folder.
 *
 * Kulkarni, Demirbas et al., "Logical Physical Clocks and Consistent Snapshots in Globally Distributed Databases" (2014).
 * Stamps are { ticks of 1/4096 ms, 14-bit counter } (lib/base/id.h), strictly increasing per clock whatever the wall clock
 * does. When the counter overflows within a tick, the clock moves on one tick. */
#ifndef CLOCK_CLOCK_H
#define CLOCK_CLOCK_H

#include "../lib/base/id.h"

struct hlc;

/* Physical time, ns since 1970. NULL: CLOCK_REALTIME. */
typedef uint64_t hlc_physical(void *user);

/* A jump of the physical clock against the monotonic one, told at most once a jump, outside of any lock. jump_ns < 0:
 * backwards. */
typedef void hlc_on_jump(void *user, int64_t jump_ns);

struct hlc_options {
    hlc_physical *physical;
    void *physical_user;
    hlc_on_jump *on_jump;      /* may be NULL */
    void *jump_user;
    uint64_t max_offset_ns;    /* a remote stamp further ahead is refused; 0: 500 ms */
    uint64_t jump_min_ns;      /* a smaller jump is no jump; 0: 1 s */
};

/* A clock with a fresh random 48-bit node (getrandom). errno, ENOMEM. */
int hlc_new(const struct hlc_options *options, struct hlc **ret);
void hlc_free(struct hlc *clock);

/* The next stamp as an id with the clock's node. Any thread; lock-free; no system call beyond the vDSO. */
void hlc_now(struct hlc *clock, struct spool_id *ret_id);

/* Never answer below or at `id` again; not bounded by max_offset. For what our own disk says. An id later than the year
 * 2526, which no clock made, is ignored: it would leave no room to count on. Any thread. */
void hlc_raise(struct hlc *clock, const struct spool_id *id);

/* Merges a remote id. SPOOL_EINVAL and no change beyond max_offset; SPOOL_EID if it is no UUIDv7. Any thread. */
int hlc_update(struct hlc *clock, const struct spool_id *remote);

/* The physical clock's time in ns, for ages and retention. */
uint64_t hlc_physical_ns(struct hlc *clock);

#endif
