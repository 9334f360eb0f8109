/* anchor.h - what the time was at a moment of this machine's clocks, and what it is now.
 *
 * An anchor says: when the clocks stood at `at`, the time was unix_ns, wrong by error_ns at most. Later the time is
 * unix_ns plus what CLOCK_BOOTTIME has moved, and the error has grown by
 *
 *   drift_ppm of the time that has passed: the oscillator's tolerance;
 *   what CLOCK_MONOTONIC has moved more or less than CLOCK_MONOTONIC_RAW: somebody slews, by an adjtime() or a
 *     daemon, for reasons of their own (chronyd: up to 8 % at a time);
 *   1 s and 500 ppm of the time that the machine was suspended: then an RTC counts, in seconds;
 *   1 s when the UTC day with an announced leap second has ended since.
 *
 * All pure functions. */
#ifndef CLOCK_ANCHOR_H
#define CLOCK_ANCHOR_H

#include "clock.h"

struct anchor {
    uint64_t unix_ns, error_ns; /* error_ns: SPOOL_CLOCK_UNKNOWN if nobody vouches for it */
    struct hlc_look at;
    int leap; /* 1: a second is inserted at the end of the UTC day, -1: left out */
};

/* A point in time, and how far it may be wrong. */
struct estimate {
    uint64_t time_ns, error_ns;
};

struct estimate anchor_age(const struct anchor *anchor, const struct hlc_look *now, uint32_t drift_ppm);

/* Its ends, saturating. */
uint64_t estimate_earliest(struct estimate e);
uint64_t estimate_latest(struct estimate e);
uint64_t saturating_add(uint64_t a, uint64_t b);

#endif
