/* backoff.h - how long to wait after a failure: exponential with full jitter. Pure: no clock, no lock. */
#ifndef DELIVERY_BACKOFF_H
#define DELIVERY_BACKOFF_H

#include <stdint.h>

/* A small random generator (splitmix64), so that a seed repeats a run. Guarded by its owner. */
struct jitter {
    uint64_t state;
};

/* `seed` 0: random. */
void jitter_init(struct jitter *jitter, uint64_t seed);

/* The longest wait after `failures` (from 1) in a row: base * 2^(failures - 1), at most `cap_ms`. */
uint64_t backoff_ceiling_ms(uint32_t failures, uint32_t base_ms, uint32_t cap_ms);

/* A wait drawn evenly from 0 to that ceiling, in nanoseconds. */
uint64_t backoff_draw_ns(struct jitter *jitter, uint32_t failures, uint32_t base_ms, uint32_t cap_ms);

#endif
