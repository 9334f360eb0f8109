/* wall.h - physical time: the wall clock, looked at with suspicion.
 *
 * Physical time is the wall clock plus a correction, which is 0 in an orderly world. Every CHECK_NS, and before a
 * reading that is further ahead than that (or behind) is used, the wall clock is compared with CLOCK_BOOTTIME, which
 * nobody sets and which goes on while the machine is suspended.
 *
 *   forward by jump_min or more     is not followed: the correction takes it back, so that physical time goes on as
 *                                   CLOCK_BOOTTIME does. A stamp from a clock that is wrongly ahead could never be
 * taken back. What expires stands still: see wall_expiry_ns(). Until sources agree (wall_believe), the jump is undone,
 * or wall_reset(). A clock that was never set, before HLC_FLOOR_NS, is followed when it is set at last. backwards by as
 * much            is followed; stamps go on by counting. What undoes it is, too. If it takes back a jump that was not followed, the correction
 * shrinks with it. less                            is followed. So is slewing, which moves both clocks.
 *
 * When sources agree on an interval that the wall clock is not in, the correction brings it to their estimate.
 *
 * Threads. The hot path reads the correction, the clock, the place of the last comparison, and the correction again; a
 * comparison writes the correction first. So a reading that is ahead of a jump cannot meet a correction that is not, or
 * the other way round. One thread at a time compares (`busy`); others go on with the time of the last comparison
 * meanwhile, without waiting. */
#ifndef CLOCK_WALL_H
#define CLOCK_WALL_H

#include <stdatomic.h>

#include "anchor.h"

#define WALL_CHECK_NS (16 * 1000000ull)

struct wall {
    hlc_physical *physical;
    hlc_see *see;
    void *user;
    uint64_t jump_min_ns;

    _Atomic int64_t correction_ns;
    _Atomic uint64_t checked_ns; /* the wall clock at the last comparison */
    _Atomic uint64_t last_ns;    /* physical time, likewise */
    _Atomic uint64_t paused_ns;  /* where what expires stands; 0: it does not stand */
    _Atomic int leap;            /* a leap second is announced, or passes */

    atomic_flag busy; /* a try-lock, of: */
    struct hlc_look checked;
    int64_t back_ns; /* by how much it was set back, and that was followed: forward again is, too */
    bool unset;      /* it was never at or behind HLC_FLOOR_NS */
};

/* What a comparison found: at most one of each, 0 for none. */
struct wall_change {
    int64_t jump_ns;
    uint64_t suspended_ns;
    bool is_leap;
};

void wall_init(struct wall *wall);

/* All clocks at one moment. False: each time something came in between. */
bool wall_see(const struct wall *wall, struct hlc_look *ret);

/* Physical time; with a comparison if one is due. */
uint64_t wall_compare(struct wall *wall, struct wall_change *ret);

/* Physical time when the clocks stand there. */
uint64_t wall_physical_ns(const struct wall *wall, const struct hlc_look *look);

/* Physical time at which what expires is. */
uint64_t wall_expiry_ns(struct wall *wall, uint64_t now_ns);

/* What sources say (source.h). False: another thread compares just now: come again. */
struct wall_belief {
    enum spool_clock_status status;
    struct hlc_look at;
    uint64_t time_ns, earliest_ns, latest_ns;
    unsigned agreeing;
};
bool wall_believe(struct wall *wall, const struct wall_belief *belief);
bool wall_reset(struct wall *wall, const struct hlc_look *now);

static inline uint64_t wall_read(const struct wall *wall)
{
    return wall->physical(wall->user);
}

/* Physical time, the hot path. False: a comparison is due first. Unsigned: a wall clock that went back is far ahead,
 * too. */
static inline bool wall_now(const struct wall *wall, uint64_t *ret_ns)
{
    int64_t before = atomic_load_explicit(&wall->correction_ns, memory_order_acquire);
    uint64_t now = wall_read(wall);
    bool due = now - atomic_load_explicit(&wall->checked_ns, memory_order_acquire) > WALL_CHECK_NS;
    int64_t after = atomic_load_explicit(&wall->correction_ns, memory_order_relaxed);
    *ret_ns = now + (uint64_t)after;
    return !due && before == after;
}

#endif
