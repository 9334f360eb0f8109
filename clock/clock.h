/* clock.h - time: the hybrid logical clock that stamps, and what is known of the true time. The whole contract of this
 * folder.
 *
 * Kulkarni, Demirbas et al., "Logical Physical Clocks and Consistent Snapshots in Globally Distributed Databases"
 * (2014). Stamps are { ticks of 1/4096 ms, 14-bit counter } (lib/base/id.h), strictly increasing per clock whatever the
 * wall clock does. When the counter overflows within a tick, the clock moves on one tick.
 *
 * How far a stamp is from physical time: it is never behind it by more than a microsecond (but while another thread compares
 * the clocks: then by 16 ms at most), and ahead only of the latest of what the physical time has been, what was merged
 * (at most max_offset ahead when it came), and what our own disk said.
 *
 * Physical time is the wall clock, plus a correction when sources of time agree that it is wrong, minus a sudden jump
 * forward that no source confirms (wall.h). */
#ifndef CLOCK_CLOCK_H
#define CLOCK_CLOCK_H

#include <stdbool.h>

#include "../lib/base/id.h"

struct hlc;

/* A wall clock before that was never set: there was no version of this code before. 2026-01-01. */
#define HLC_FLOOR_NS (1767225600ull * 1000000000ull)

/* The clocks of this machine, read at one moment: ns. */
struct hlc_look {
    uint64_t wall_ns; /* CLOCK_REALTIME */
    uint64_t boot_ns; /* CLOCK_BOOTTIME: goes on while suspended */
    uint64_t mono_ns; /* CLOCK_MONOTONIC: does not */
    uint64_t raw_ns;  /* CLOCK_MONOTONIC_RAW: is not slewed either */
};

/* Physical time, ns since 1970. NULL: CLOCK_REALTIME. */
typedef uint64_t hlc_physical(void *user);
/* All clocks at once, for a simulated world; with the same `user`. NULL: the machine's. */
typedef void hlc_see(void *user, struct hlc_look *ret);

enum hlc_event_kind {
    HLC_JUMP,    /* ns: the wall clock jumped by that; < 0: backwards */
    HLC_LEAP,    /* the same for a leap second */
    HLC_SUSPEND, /* ns: the machine was suspended that long */
    HLC_UNSET,   /* the wall clock is before HLC_FLOOR_NS */
    HLC_STATUS,  /* ns: enum spool_clock_status, which is new */
    HLC_REMOTE,  /* ns: a stamp was refused, that far ahead; at most once a second */
};
struct hlc_event {
    enum hlc_event_kind kind;
    int64_t ns;
    const struct spool_id *remote; /* of HLC_REMOTE, else NULL */
    const char *text;              /* one line */
};
/* Told at most once a jump, on any thread, outside of the locks of the clock; must not call it. */
typedef void hlc_on_event(void *user, const struct hlc_event *event);

struct hlc_options {
    hlc_physical *physical;
    void *physical_user;
    hlc_see *see;
    hlc_on_event *on_event; /* may be NULL */
    void *event_user;
    uint64_t max_offset_ns; /* a remote stamp further ahead is refused; 0: 500 ms */
    uint64_t jump_min_ns;   /* a smaller jump is no jump; 0: 500 ms */
    uint32_t drift_ppm;     /* 0: 50 while the kernel's clock is disciplined, else 500 */
    bool no_thread;         /* sources are asked by hlc_calibrate() and hlc_poll() alone */
};

/* A clock with a fresh random 48-bit node (getrandom). errno, ENOMEM. */
int hlc_new(const struct hlc_options *options, struct hlc **ret);
/* Ends the thread, and waits for it 2 s at most: a source that does not return keeps its memory. */
void hlc_free(struct hlc *clock);
/* The same in a forked child, where the thread is not. */
void hlc_abandon(struct hlc *clock);

/* ---------------------------------------------------------------------------------------------------------- stamps */

/* The next stamp as an id with the clock's node. Any thread; lock-free; no system call beyond the vDSO. */
void hlc_now(struct hlc *clock, struct spool_id *ret_id);

/* Never answer below or at `id` again; not bounded by max_offset. For what our own disk says. An id later than the year
 * 2526, which no clock made, is ignored: it would leave no room to count on. Any thread. */
void hlc_raise(struct hlc *clock, const struct spool_id *id);

/* Merges a remote id. SPOOL_EINVAL and no change beyond max_offset; SPOOL_EID if it is no UUIDv7. Any thread. */
int hlc_update(struct hlc *clock, const struct spool_id *remote);

/* ------------------------------------------------------------------------------------------------------------ ages */

/* The physical clock's time in ns. */
uint64_t hlc_physical_ns(struct hlc *clock);

/* The same for whatever expires (time to live, retention, a limit of age): stands still from a jump forward on until
 * sources agree, the jump is undone, or hlc_reset(). */
uint64_t hlc_expiry_ns(struct hlc *clock);

/* The age of what was stamped at `born_ns`, when it is `now_ns`: 0 if it is not over, or was stamped by a clock that
 * was never set, so that nobody knows. */
static inline uint64_t hlc_age_ns(uint64_t now_ns, uint64_t born_ns)
{
    return born_ns < HLC_FLOOR_NS || now_ns < born_ns ? 0 : now_ns - born_ns;
}

/* ---------------------------------------------------------------------------------------------------------- sources */

/* See spool.h: these are what the public calls are made of. */
int hlc_read(struct hlc *clock, struct spool_clock_reading *ret);
int hlc_source_add(struct hlc *clock, const char *name, const struct spool_clock_source *source,
                   const struct spool_clock_source_options *options);
int hlc_source_add_sntp(struct hlc *clock, const char *server, const struct spool_clock_source_options *options);
int hlc_source_set(struct hlc *clock, const char *name, const struct spool_clock_source_options *options);
int hlc_source_remove(struct hlc *clock, const char *name);
int hlc_source_each(struct hlc *clock, int (*each)(void *user, const struct spool_clock_source_info *info), void *user);

/* Asks all now; SPOOL_ETIMEOUT. */
int hlc_calibrate(struct hlc *clock, uint64_t deadline_ns);
/* Asks those that are due, or only the local ones, and lets physical time follow what they agree on. Returns the
 * CLOCK_BOOTTIME at which the next is due. */
uint64_t hlc_poll(struct hlc *clock, bool local_only);
/* Changes the two while it runs; 0: as it is. */
void hlc_set(struct hlc *clock, uint64_t max_offset_ns, uint32_t drift_ppm);
/* Follows the wall clock as it is. */
void hlc_reset(struct hlc *clock);

#endif
