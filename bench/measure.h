/* measure.h - time stamps, and a histogram of latencies.
 *
 * Latencies are taken with the time stamp counter where there is one (about 8 ns a stamp), else with clock_gettime().
 * One stamp a call: the end of a call is the start of the next one. What a stamp costs by itself is measured and shown,
 * and is taken off every percentile. */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

static inline uint64_t clock_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline uint64_t ticks(void)
{
#if defined(__x86_64__)
    return __rdtsc();
#else
    return clock_ns();
#endif
}

/* Ticks in a nanosecond, measured over 50 ms the first time. */
static inline double ticks_per_ns(void)
{
    static double rate;
    if (rate == 0) {
        uint64_t ns = clock_ns(), start = ticks();
        while (clock_ns() - ns < 50000000u)
            ;
        rate = (double)(ticks() - start) / (double)(clock_ns() - ns);
    }
    return rate;
}

/* Counts by latency in ticks: exact up to 64, then 32 steps for each power of two (3 % wide). */
enum { STEPS = 32, BUCKETS = 64 * STEPS };

struct histogram {
    uint64_t count;
    uint64_t of[BUCKETS];
};

static inline unsigned bucket_of(uint64_t value)
{
    if (value < 2 * STEPS)
        return (unsigned)value;
    unsigned shift = 58u - (unsigned)__builtin_clzll(value); /* leaves 6 bits, the first of them set */
    return shift * STEPS + (unsigned)(value >> shift);
}

/* The least value that falls into a bucket. */
static inline uint64_t bucket_value(unsigned bucket)
{
    if (bucket < 2 * STEPS)
        return bucket;
    unsigned shift = bucket / STEPS - 1;
    return (uint64_t)(bucket - shift * STEPS) << shift;
}

static inline void histogram_add(struct histogram *histogram, uint64_t value)
{
    histogram->count++;
    histogram->of[bucket_of(value)]++;
}

static inline void histogram_merge(struct histogram *to, const struct histogram *from)
{
    to->count += from->count;
    for (size_t i = 0; i < BUCKETS; i++)
        to->of[i] += from->of[i];
}

/* The latency in ticks below which the share `quantile` lies. */
static inline uint64_t histogram_quantile(const struct histogram *histogram, double quantile)
{
    uint64_t passed = 0, wanted = (uint64_t)(quantile * (double)histogram->count);
    unsigned bucket = 0;
    while (bucket < BUCKETS - 1 && passed + histogram->of[bucket] <= wanted)
        passed += histogram->of[bucket++];
    return bucket_value(bucket);
}

/* What taking a stamp and counting it costs, in ticks: the median over many with nothing in between. */
static inline uint64_t stamp_cost(void)
{
    static uint64_t cost;
    struct histogram *histogram = cost ? NULL : calloc(1, sizeof *histogram);
    if (!histogram)
        return cost;
    uint64_t last = ticks();
    for (int i = 0; i < 1000000; i++) {
        uint64_t now = ticks();
        histogram_add(histogram, now - last);
        last = now;
    }
    cost = histogram_quantile(histogram, 0.5);
    free(histogram);
    return cost;
}

/* A quantile in nanoseconds without the cost of the stamp. */
static inline double histogram_ns(const struct histogram *histogram, double quantile)
{
    uint64_t value = histogram_quantile(histogram, quantile), cost = stamp_cost();
    return (double)(value > cost ? value - cost : 0) / ticks_per_ns();
}

/* The longest, likewise. */
static inline double histogram_max_ns(const struct histogram *histogram)
{
    unsigned bucket = BUCKETS - 1;
    while (bucket > 0 && !histogram->of[bucket])
        bucket--;
    return (double)bucket_value(bucket) / ticks_per_ns();
}

#endif
