/* rng.h - small seeded random streams (splitmix64). A stream for each purpose, so that leaving out one world event does
 * not change what the others are. */
#ifndef SIM_RNG_H
#define SIM_RNG_H

#include <stdbool.h>
#include <stdint.h>

struct rng {
    uint64_t state;
};

static inline uint64_t rng_next(struct rng *rng)
{
    uint64_t z = (rng->state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

/* 0 to n - 1; 0 for n = 0. */
static inline uint64_t rng_below(struct rng *rng, uint64_t n)
{
    return (uint64_t)(((unsigned __int128)rng_next(rng) * n) >> 64);
}

static inline uint64_t rng_range(struct rng *rng, uint64_t low, uint64_t high)
{
    return low + rng_below(rng, high - low + 1);
}

/* True `n` times of 10,000. */
static inline bool rng_chance(struct rng *rng, uint32_t n)
{
    return n > 0 && rng_below(rng, 10000) < n;
}

/* Evenly over the orders of magnitude between low (at least 1) and high. */
static inline uint64_t rng_scale(struct rng *rng, uint64_t low, uint64_t high)
{
    uint64_t top = low;
    for (int left = 64; top < high && left > 0 && rng_below(rng, 4) != 0; left--)
        top *= 2;
    return rng_range(rng, low, top < high ? top : high);
}

static inline struct rng rng_make(uint64_t seed, uint64_t purpose)
{
    struct rng rng = {seed * 0x2545f4914f6cdd1dull + purpose * 0x9e3779b97f4a7c15ull};
    rng_next(&rng);
    return rng;
}

#endif
