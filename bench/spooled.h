/* spooled.h - how the cases open a spool. */
#ifndef BENCH_SPOOLED_H
#define BENCH_SPOOLED_H

#include "../lib/spool.h"
#include "case.h"

#define SPOOL_SETTINGS "max_bytes 64 GiB, segment_bytes 256 MiB, the rest by default"

/* The full timeout is long, so that a producer that is faster than the disk waits instead of failing. */
#define BENCH_OPTIONS(...)                                                                                             \
    SPOOL_OPTIONS(.max_bytes = 64ull << 30, .segment_bytes = 256 << 20, .full_timeout_ms = 60000,                      \
                  .stop_timeout_ms = 60000, __VA_ARGS__)

static inline struct spool *bench_open(const struct context *context, const struct spool_options *options)
{
    char path[PATH_SIZE];
    struct spool *spool;
    path_in(context, "spool", path);
    ok(spool_open(path, options, &spool), "spool_open");
    return spool;
}

static inline struct spool_event bench_event(enum spool_durability durability, uint64_t number)
{
    struct body body = payload(number);
    return SPOOL_EVENT(.type = SPOOL_TYPE_LOG_LLM_CALL, .agent = "planner", .durability = durability, .body = body.text,
                       .body_size = body.size);
}

/* Enqueues `count` events of the process level, BATCH at a time. */
static inline void bench_fill_as(struct spool *spool, uint64_t count, enum spool_priority priority)
{
    struct spool_event events[BATCH];
    for (uint64_t done = 0; done < count;) {
        size_t n = count - done < BATCH ? (size_t)(count - done) : BATCH;
        for (size_t i = 0; i < n; i++) {
            events[i] = bench_event(SPOOL_DURABLE_PROCESS, done + i);
            events[i].priority = priority;
        }
        for (size_t i = 0, step; i < n; i += step) { /* large ones do not fit one frame together */
            step = 1 + (1 << 20) / (events[i].body_size + 64);
            step = step < n - i ? step : n - i;
            ok(spool_enqueue_many(spool, events + i, step, NULL), "spool_enqueue_many");
        }
        done += n;
    }
}

static inline void bench_fill(struct spool *spool, uint64_t count)
{
    bench_fill_as(spool, count, SPOOL_MEDIUM);
}

#endif
