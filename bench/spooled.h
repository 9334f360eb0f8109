/* spooled.h - the library's side: enqueueing at both levels, paced and flat out, singly and many at once, and on to a
 * null sink. Every case opens a spool of its own, and closes it after the clock has stopped. */
#ifndef BENCH_SPOOLED_H
#define BENCH_SPOOLED_H

#include "../lib/spool.h"
#include "case.h"

enum { MANY = 64, LOOK_EVERY = 256 };

static inline void ok(int code, const char *call)
{
    if (code != SPOOL_OK)
        errx(1, "%s: %s: %s", call, spool_error_name(code), spool_last_error());
}

/* The full timeout is long, so that a producer that is faster than the disk waits instead of failing; the low watermark
 * is never met in the time these cases take, at 32 GiB. */
static inline struct spool *bench_open(const struct context *context, uint32_t flush_interval_ms)
{
    char path[PATH_SIZE];
    struct spool *spool;
    struct spool_options options =
        SPOOL_OPTIONS(.flush_interval_ms = flush_interval_ms, .max_bytes = 32ull << 30, .segment_bytes = 256 << 20,
                      .full_timeout_ms = 60000, .stop_timeout_ms = 60000);
    path_in(context, "spool", path);
    ok(spool_open(path, &options, &spool), "spool_open");
    return spool;
}

static inline struct spool_event bench_event(enum spool_durability durability)
{
    return SPOOL_EVENT(.type = SPOOL_TYPE_LOG_LLM_CALL, .agent = "planner", .durability = durability, .body = payload(),
                       .body_size = EVENT_BYTES);
}

/* Enqueues until the time is over; returns how many. */
static inline uint64_t enqueue_until(struct spool *spool, enum spool_durability durability, uint64_t look_every,
                                     uint64_t deadline)
{
    struct spool_event event = bench_event(durability);
    uint64_t calls = 0;
    do {
        for (uint64_t i = 0; i < look_every; i++, calls++)
            ok(spool_enqueue(spool, &event, NULL), "spool_enqueue");
    } while (clock_ns() < deadline);
    return calls;
}

static inline struct outcome enqueue_rate(const struct context *context, enum spool_durability durability,
                                          uint64_t look_every)
{
    struct spool *spool = bench_open(context, 0);
    uint64_t start = clock_ns(), calls = enqueue_until(spool, durability, look_every, deadline_of(context));
    struct outcome outcome = {.per_second = (double)calls * 1e9 / (double)(clock_ns() - start)};
    ok(spool_close(spool), "spool_close");
    return outcome;
}

static inline struct outcome power_rate(const struct context *context)
{
    return enqueue_rate(context, SPOOL_DURABLE_POWER, 1);
}

static inline struct outcome process_rate(const struct context *context)
{
    return enqueue_rate(context, SPOOL_DURABLE_PROCESS, LOOK_EVERY);
}

/* spool_enqueue_many() of MANY events, counted in events. */
static inline struct outcome many_rate(const struct context *context)
{
    struct spool *spool = bench_open(context, 0);
    struct spool_event events[MANY];
    for (size_t i = 0; i < MANY; i++)
        events[i] = bench_event(SPOOL_DURABLE_PROCESS);
    uint64_t start = clock_ns(), deadline = deadline_of(context), calls = 0;
    for (; clock_ns() < deadline; calls++)
        ok(spool_enqueue_many(spool, events, MANY, NULL), "spool_enqueue_many");
    struct outcome outcome = {.per_second = (double)calls * MANY * 1e9 / (double)(clock_ns() - start)};
    ok(spool_close(spool), "spool_close");
    return outcome;
}

/* From enqueue to acknowledged by the null sink: the time of draining counts. */
static inline struct outcome null_rate(const struct context *context)
{
    struct spool *spool = bench_open(context, 0);
    ok(spool_sink_load(spool, "null", "null", NULL, NULL), "spool_sink_load");
    ok(spool_start(spool), "spool_start");
    uint64_t start = clock_ns(), calls = enqueue_until(spool, SPOOL_DURABLE_PROCESS, LOOK_EVERY, deadline_of(context));
    ok(spool_drain(spool, 60000), "spool_drain");
    struct outcome outcome = {.per_second = (double)calls * 1e9 / (double)(clock_ns() - start)};
    ok(spool_close(spool), "spool_close");
    return outcome;
}

/* The time of each call, at `per_second` calls, or flat out when that is 0. */
static inline struct outcome latency(const struct context *context, uint32_t flush_interval_ms, double per_second)
{
    struct spool *spool = bench_open(context, flush_interval_ms);
    struct spool_event event = bench_event(SPOOL_DURABLE_PROCESS);
    struct histogram *histogram = calloc(1, sizeof *histogram);
    if (!histogram)
        err(1, "histogram");
    uint64_t step = per_second > 0 ? (uint64_t)(1e9 / per_second * ticks_per_ns()) : 0;
    uint64_t deadline = deadline_of(context), due = ticks(), begun = clock_ns(), calls = 0;
    for (; calls % LOOK_EVERY || clock_ns() < deadline; calls++, due += step) {
        while (step && ticks() < due)
            ;
        uint64_t start = ticks();
        ok(spool_enqueue(spool, &event, NULL), "spool_enqueue");
        histogram_add(histogram, ticks() - start);
    }
    struct outcome outcome = {.per_second = (double)calls * 1e9 / (double)(clock_ns() - begun)};
    outcome_latency(&outcome, histogram);
    free(histogram);
    ok(spool_close(spool), "spool_close");
    return outcome;
}

static inline struct outcome latency_paced(const struct context *context)
{
    return latency(context, 0, 250000);
}
static inline struct outcome latency_flat_out(const struct context *context)
{
    return latency(context, 0, 0);
}
static inline struct outcome latency_paced_unflushed(const struct context *context)
{
    return latency(context, SPOOL_FLUSH_NEVER, 250000);
}
static inline struct outcome latency_flat_out_unflushed(const struct context *context)
{
    return latency(context, SPOOL_FLUSH_NEVER, 0);
}

#endif
