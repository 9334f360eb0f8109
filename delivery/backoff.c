/* backoff.c - full jitter ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015): the wait is drawn from the
 * whole of 0 to the ceiling, because any fixed part keeps clients that failed together in step. */
#include "backoff.h"

#include <sys/random.h>

#include "../lib/base/sync.h"

void jitter_init(struct jitter *jitter, uint64_t seed)
{
    if (seed == 0 && getrandom(&seed, sizeof seed, GRND_NONBLOCK) != sizeof seed)
        seed = real_ns(); /* spreads well enough: all that matters is that two processes differ */
    jitter->state = seed;
}

static uint64_t next_random(struct jitter *jitter)
{
    uint64_t z = (jitter->state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

uint64_t backoff_ceiling_ms(uint32_t failures, uint32_t base_ms, uint32_t cap_ms)
{
    uint32_t doublings = failures > 0 ? failures - 1 : 0;
    if (doublings >= 32) /* 2^32 times the smallest base is beyond every cap */
        return base_ms > 0 ? cap_ms : 0;
    uint64_t ceiling = (uint64_t)base_ms << doublings;
    return ceiling < cap_ms ? ceiling : cap_ms;
}

uint64_t backoff_draw_ns(struct jitter *jitter, uint32_t failures, uint32_t base_ms, uint32_t cap_ms)
{
    uint64_t ceiling_ns = backoff_ceiling_ms(failures, base_ms, cap_ms) * NS_PER_MS;
    /* The high half of a 128-bit product maps a random word to 0..ceiling without a division. */
    return (uint64_t)(((unsigned __int128)next_random(jitter) * (ceiling_ns + 1)) >> 64);
}
