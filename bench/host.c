/* host.c - how much a program that does other work is slowed by the events it enqueues.
 *
 * One thread works (a sum over 256 KiB, again and again); in every second slice of time it enqueues an event whenever
 * one is due, context->rate a second. The slices lie side by side, so that a machine that drifts does so for both; the
 * library's threads run all the time, and deliver to a null sink. */
#include "spooled.h"

enum { SLICE_MS = 250, WORK_BYTES = 256 << 10 };

struct host {
    struct spool *spool;
    uint8_t *bytes;
    uint64_t sum, events;
    struct histogram *calls;
};

static void work(struct host *host)
{
    for (size_t i = 0; i < WORK_BYTES; i += 8) {
        uint64_t word;
        memcpy(&word, host->bytes + i, sizeof word);
        host->sum = (host->sum ^ word) * 0x9e3779b97f4a7c15u;
    }
}

static void enqueue_one(struct host *host)
{
    struct spool_event event = bench_event(SPOOL_DURABLE_PROCESS, host->events++);
    uint64_t begin = ticks();
    ok(spool_enqueue(host->spool, &event, NULL), "spool_enqueue");
    histogram_add(host->calls, ticks() - begin);
}

/* How many units of work are done in a slice; with a rate, beside events. */
static double slice(struct host *host, double rate)
{
    uint64_t length = (uint64_t)(SLICE_MS * 1e6 * ticks_per_ns()), begin = ticks(), units = 0;
    double step = rate > 0 ? ticks_per_ns() * 1e9 / rate : 0, due = (double)begin;
    while (ticks() - begin < length) {
        work(host);
        units++;
        for (; rate > 0 && due < (double)ticks(); due += step)
            enqueue_one(host);
    }
    return (double)units / (double)(ticks() - begin);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void host_slowed(const struct context *context, struct outcome *outcome)
{
    enum { PAIRS_MAX = 1000 };
    static double ratios[PAIRS_MAX];
    struct host host = {.bytes = calloc(1, WORK_BYTES), .calls = calloc(1, sizeof *host.calls)};
    size_t pairs = (size_t)(context->seconds * 1000 / (2 * SLICE_MS));
    pairs = pairs < 2 ? 2 : pairs < PAIRS_MAX ? pairs : PAIRS_MAX;
    if (!host.bytes || !host.calls)
        err(1, "host");
    payload_begin(context);
    host.spool = bench_open(context, &BENCH_OPTIONS(.flags = 0));
    ok(spool_sink_load(host.spool, "null", "null", NULL, NULL), "spool_sink_load");
    ok(spool_start(host.spool), "spool_start");
    slice(&host, 0);
    for (size_t i = 0; i < pairs; i++) {
        double alone = slice(&host, 0), beside = slice(&host, context->rate > 0 ? context->rate : 10000);
        ratios[i] = beside / alone;
    }
    qsort(ratios, pairs, sizeof *ratios, compare);
    figure(outcome, "events", (double)host.events);
    figure(outcome, "slowed_percent", (1 - ratios[pairs / 2]) * 100);
    figure_latency(outcome, host.calls);
    ok(spool_close(host.spool), "spool_close");
    free(host.calls);
    free(host.bytes);
}

const struct bench_case host_cases[] = {
    {"host", "a host program that enqueues 10,000 events a second", SPOOL_SETTINGS ", null sink", host_slowed},
    {0},
};
