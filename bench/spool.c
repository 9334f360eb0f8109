/* spool.c - the library's side of enqueueing: both levels, singly and many at once, in bursts, compressed, and by
 * several processes. Closing the spool is not in the time; on the other hand the journal, 16 MiB of what was enqueued,
 * is then full, as it is all the time when the disk is what limits. */
#include <sys/mman.h>
#include <sys/wait.h>

#include "spooled.h"

struct side {
    const struct context *context;
    struct spool *spool;
};

static struct side *open_side(const struct context *context, const struct spool_options *options)
{
    struct side *side = calloc(1, sizeof *side);
    if (!side)
        err(1, "a spool");
    *side = (struct side){context, bench_open(context, options)};
    return side;
}

static void *begin(const struct context *context)
{
    return open_side(context, &BENCH_OPTIONS(.flags = 0));
}

static void *begin_unflushed(const struct context *context)
{
    return open_side(context, &BENCH_OPTIONS(.flush_interval_ms = SPOOL_FLUSH_NEVER));
}

static void *begin_zstd(const struct context *context)
{
    return open_side(context, &BENCH_OPTIONS(.compress = SPOOL_COMPRESS_ZSTD));
}

static void end(void *shared, struct outcome *outcome)
{
    struct side *side = shared;
    struct spool_stats stats = SPOOL_STATS();
    char dir[PATH_SIZE];
    ok(spool_stats(side->spool, &stats), "spool_stats");
    ok(spool_close(side->spool), "spool_close");
    path_in(side->context, "spool", dir);
    double events = (double)stats.enqueued_events;
    figure(outcome, "bytes_per_second",
           (double)stats.enqueued_bytes / events *
               figure_value(outcome, "per_second")); /* packed, as the journal takes it */
    figure(outcome, "payload_bytes", payload_mean());
    figure(outcome, "disk_bytes", disk_bytes(dir, "/segments/") / events);
    free(side);
}

static size_t step_process(void *shared, uint64_t number)
{
    struct spool_event event = bench_event(SPOOL_DURABLE_PROCESS, number);
    ok(spool_enqueue(((struct side *)shared)->spool, &event, NULL), "spool_enqueue");
    return 1;
}

static size_t step_power(void *shared, uint64_t number)
{
    struct spool_event event = bench_event(SPOOL_DURABLE_POWER, number);
    ok(spool_enqueue(((struct side *)shared)->spool, &event, NULL), "spool_enqueue");
    return 1;
}

static size_t step_many(struct side *side, uint64_t number, enum spool_durability durability)
{
    struct spool_event events[BATCH];
    size_t n = payload_batch();
    for (size_t i = 0; i < n; i++)
        events[i] = bench_event(durability, number * n + i);
    ok(spool_enqueue_many(side->spool, events, n, NULL), "spool_enqueue_many");
    return n;
}

static size_t step_many_process(void *shared, uint64_t number)
{
    return step_many(shared, number, SPOOL_DURABLE_PROCESS);
}

static size_t step_many_power(void *shared, uint64_t number)
{
    return step_many(shared, number, SPOOL_DURABLE_POWER);
}

static void spool_process(const struct context *context, struct outcome *outcome)
{
    drive(&(struct driver){.begin = begin, .step = step_process, .end = end}, context, outcome);
}

static void spool_unflushed(const struct context *context, struct outcome *outcome)
{
    drive(&(struct driver){.begin = begin_unflushed, .step = step_process, .end = end}, context, outcome);
}

static void spool_zstd(const struct context *context, struct outcome *outcome)
{
    drive(&(struct driver){.begin = begin_zstd, .step = step_process, .end = end}, context, outcome);
}

static void spool_power(const struct context *context, struct outcome *outcome)
{
    drive(&(struct driver){.begin = begin, .step = step_power, .end = end}, context, outcome);
}

static void spool_many(const struct context *context, struct outcome *outcome)
{
    drive(&(struct driver){.begin = begin, .step = step_many_process, .end = end}, context, outcome);
}

static void spool_many_sync(const struct context *context, struct outcome *outcome)
{
    drive(&(struct driver){.begin = begin, .step = step_many_power, .end = end}, context, outcome);
}

/* --------------------------------------------------------------------------------------------------------- bursts */

/* 8 MiB at a time, which the journal has room for; in between it is emptied. */
static void spool_burst(const struct context *context, struct outcome *outcome)
{
    enum { BURST_BYTES = 8 << 20 };
    payload_begin(context);
    struct spool *spool = bench_open(context, &BENCH_OPTIONS(.flags = 0));
    struct histogram *histogram = calloc(1, sizeof *histogram);
    uint64_t burst = BURST_BYTES / (context->bytes + 128), deadline = clock_ns() + (uint64_t)(context->seconds * 1e9);
    uint64_t events = 0, busy = 0;
    if (!histogram)
        err(1, "spool_burst");
    do {
        uint64_t begin_ns = clock_ns();
        for (uint64_t i = 0; i < burst; i++) {
            struct spool_event event = bench_event(SPOOL_DURABLE_PROCESS, events + i);
            uint64_t begin = ticks();
            ok(spool_enqueue(spool, &event, NULL), "spool_enqueue");
            histogram_add(histogram, ticks() - begin);
        }
        busy += clock_ns() - begin_ns;
        events += burst;
        struct spool_stats stats = SPOOL_STATS();
        do {
            usleep(20000);
            ok(spool_stats(spool, &stats), "spool_stats");
        } while (stats.unapplied_bytes > 0);
    } while (clock_ns() < deadline);
    figure(outcome, "events", (double)events);
    figure(outcome, "per_second", (double)events * 1e9 / (double)busy);
    figure_latency(outcome, histogram);
    free(histogram);
    ok(spool_close(spool), "spool_close");
}

/* ------------------------------------------------------------------------------------------------------- processes */

struct tally {
    atomic_uint ready;
    atomic_bool go;
    _Atomic uint64_t events;
};

static void child(const struct context *context, struct tally *tally)
{
    struct spool *spool = bench_open(context, &BENCH_OPTIONS(.flags = 0));
    atomic_fetch_add(&tally->ready, 1);
    while (!atomic_load(&tally->go))
        usleep(100);
    uint64_t deadline = clock_ns() + (uint64_t)(context->seconds * 1e9), events = 0;
    do {
        for (int i = 0; i < 64; i++, events++) {
            struct spool_event event = bench_event(SPOOL_DURABLE_PROCESS, events);
            ok(spool_enqueue(spool, &event, NULL), "spool_enqueue");
        }
    } while (clock_ns() < deadline);
    atomic_fetch_add(&tally->events, events);
    _exit(0);
}

/* context->count processes, one thread each. */
static void spool_processes(const struct context *context, struct outcome *outcome)
{
    struct tally *tally = mmap(NULL, sizeof *tally, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (tally == MAP_FAILED)
        err(1, "mmap");
    payload_begin(context);
    ok(spool_close(bench_open(context, &BENCH_OPTIONS(.flags = 0))), "spool_close");
    for (uint64_t i = 0; i < context->count; i++) {
        pid_t pid = fork();
        if (pid < 0)
            err(1, "fork");
        if (pid == 0)
            child(context, tally);
    }
    while (atomic_load(&tally->ready) < context->count)
        usleep(1000);
    uint64_t begin_ns = clock_ns();
    atomic_store(&tally->go, true);
    for (int status; wait(&status) > 0;)
        if (status != 0)
            errx(1, "a process failed");
    figure(outcome, "events", (double)atomic_load(&tally->events));
    figure(outcome, "per_second", (double)atomic_load(&tally->events) * 1e9 / (double)(clock_ns() - begin_ns));
}

const struct bench_case spool_cases[] = {
    {"spool_process", "libspool, process level", SPOOL_SETTINGS, spool_process},
    {"spool_unflushed", "libspool, process level, never flushed", "flush_interval_ms SPOOL_FLUSH_NEVER",
     spool_unflushed},
    {"spool_zstd", "libspool, process level, compressed", "compress SPOOL_COMPRESS_ZSTD", spool_zstd},
    {"spool_power", "libspool, power level", SPOOL_SETTINGS, spool_power},
    {"spool_many", "libspool, process level, 1,000 a call", SPOOL_SETTINGS, spool_many},
    {"spool_many_power", "libspool, power level, 1,000 a call", SPOOL_SETTINGS, spool_many_sync},
    {"spool_burst", "libspool, process level, bursts of 8 MiB", SPOOL_SETTINGS, spool_burst},
    {"spool_processes", "libspool, process level, several processes", SPOOL_SETTINGS, spool_processes},
    {0},
};
