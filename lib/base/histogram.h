/* histogram.h - how values are distributed, with a relative error of at most 1/16.
 *
 * Log-linear buckets, as in HdrHistogram (Tene): eight to each power of two, so that a bucket is at most an eighth of
 * its lower bound wide, and its middle at most a sixteenth (6.25 %) away from any value in it. Below eight every value
 * has a bucket of its own. Adding costs a few instructions and no memory; two are merged by adding them up; powers of
 * two are bounds of buckets, so that counts below one are exact. Guarded by its owner. */
#ifndef BASE_HISTOGRAM_H
#define BASE_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

enum {
    HISTOGRAM_SUB_BITS = 3,
    HISTOGRAM_SUB = 1 << HISTOGRAM_SUB_BITS,
    HISTOGRAM_BUCKETS = (64 - HISTOGRAM_SUB_BITS + 1) * HISTOGRAM_SUB,
};

struct histogram {
    uint64_t count, sum, max;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

static inline unsigned histogram_bucket(uint64_t value)
{
    if (value < HISTOGRAM_SUB)
        return (unsigned)value;
    unsigned top = 63 - (unsigned)__builtin_clzll(value), shift = top - HISTOGRAM_SUB_BITS;
    return (shift + 1) * HISTOGRAM_SUB + (unsigned)(value >> shift & (HISTOGRAM_SUB - 1));
}

/* Adds `n` times the value. */
static inline void histogram_add(struct histogram *h, uint64_t value, uint64_t n)
{
    h->buckets[histogram_bucket(value)] += n;
    h->count += n;
    h->sum += value * n;
    h->max = value > h->max ? value : h->max;
}

void histogram_merge(struct histogram *to, const struct histogram *from);

/* The value below or at which the share `q` (0 to 1) of all lie: the middle of a bucket, at most the maximum. 0 if
 * empty. */
uint64_t histogram_quantile(const struct histogram *h, double q);

/* How many lie below `bound`, a power of two. */
uint64_t histogram_below(const struct histogram *h, uint64_t bound);

/* Only the buckets that are not empty: u64 count, sum, max, u16 how many follow, then u16 bucket and u64 count each.
 * Returns the bytes it takes; 0 if they are more than `room`. */
size_t histogram_pack(const struct histogram *h, uint8_t *to, size_t room);
/* The reverse; the bytes taken, 0 if it cannot be one. */
size_t histogram_unpack(const uint8_t *from, size_t avail, struct histogram *ret);

#endif
