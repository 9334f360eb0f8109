/* backlog.c - what a backlog of context->count events costs: opening, memory, disk, and draining it from the disk. */
#include <sys/resource.h>
#include <sys/wait.h>

#include "spooled.h"

enum { OPENS = 5, MEMORY_BOUND = 64 << 20 };

static struct spool *open_plainly(const struct context *context)
{
    return bench_open(context, &BENCH_OPTIONS(.flags = 0));
}

/* A spool with a sink that holds all of it, closed; what it takes on disk. */
static void make_backlog(const struct context *context, struct outcome *outcome)
{
    char dir[PATH_SIZE];
    payload_begin(context);
    struct spool *spool = open_plainly(context);
    ok(spool_sink_load(spool, "null", "null", NULL, NULL), "spool_sink_load");
    uint64_t begin = clock_ns();
    bench_fill(spool, context->count);
    struct spool_stats stats = SPOOL_STATS();
    ok(spool_stats(spool, &stats), "spool_stats");
    ok(spool_close(spool), "spool_close");
    path_in(context, "spool", dir);
    figure(outcome, "events", (double)context->count);
    figure(outcome, "fill_per_second", (double)context->count * 1e9 / (double)(clock_ns() - begin));
    figure(outcome, "packed_bytes", (double)stats.enqueued_bytes / (double)context->count);
    figure(outcome, "disk_bytes", disk_bytes(dir, "/segments/") / (double)context->count);
    drop_caches(dir);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median of some opens, and the first one, which finds nothing in the page cache. */
static void measure_opens(const struct context *context, struct outcome *outcome)
{
    double ms[OPENS];
    for (int i = 0; i < OPENS; i++) {
        uint64_t begin = clock_ns();
        struct spool *spool = open_plainly(context);
        ms[i] = (double)(clock_ns() - begin) / 1e6;
        ok(spool_close(spool), "spool_close");
    }
    figure(outcome, "open_cold_ms", ms[0]);
    qsort(ms, OPENS, sizeof *ms, compare);
    figure(outcome, "open_ms", ms[OPENS / 2]);
}

static atomic_bool watching;

/* The most anonymous memory seen, in bytes. */
static void *watch_memory(void *argument)
{
    double *most = argument;
    while (atomic_load(&watching)) {
        double now = status_bytes("RssAnon");
        *most = now > *most ? now : *most;
        usleep(20000);
    }
    return NULL;
}

/* Anonymous memory is bounded by the kernel from here on, so that a backlog cannot be held in it. */
static void bound_memory(void)
{
    rlim_t bound = (rlim_t)status_bytes("VmData") + MEMORY_BOUND;
    struct rlimit limit = {bound, bound};
    if (setrlimit(RLIMIT_DATA, &limit) != 0)
        err(1, "RLIMIT_DATA");
}

static void measure_drain(const struct context *context, struct outcome *outcome)
{
    char dir[PATH_SIZE];
    double before = status_bytes("RssAnon"), most = before;
    pthread_t watcher;
    path_in(context, "spool", dir);
    drop_caches(dir);
    atomic_store(&watching, true);
    if (pthread_create(&watcher, NULL, watch_memory, &most) != 0)
        errx(1, "pthread_create");
    struct spool *spool = open_plainly(context);
    ok(spool_sink_load(spool, "null", "null", NULL, NULL), "spool_sink_load");
    double cpu = cpu_seconds();
    uint64_t begin = clock_ns();
    ok(spool_start(spool), "spool_start");
    bound_memory();
    ok(spool_drain(spool, 600000), "spool_drain");
    double seconds = (double)(clock_ns() - begin) / 1e9, events = (double)context->count;
    figure(outcome, "drain_per_second", events / seconds);
    figure(outcome, "drain_bytes_per_second", events / seconds * figure_value(outcome, "packed_bytes"));
    figure(outcome, "drain_cpu_ns", (cpu_seconds() - cpu) * 1e9 / events);
    ok(spool_close(spool), "spool_close");
    atomic_store(&watching, false);
    pthread_join(watcher, NULL);
    figure(outcome, "anonymous_bytes", most - before);
}

static void spool_backlog(const struct context *context, struct outcome *outcome)
{
    make_backlog(context, outcome);
    measure_opens(context, outcome);
    measure_drain(context, outcome);
}

/* A process that is killed with a full journal: what the next open has to do. */
static void spool_recovery(const struct context *context, struct outcome *outcome)
{
    payload_begin(context);
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        err(1, "fork");
    if (pid == 0) {
        struct spool *spool = bench_open(context, &BENCH_OPTIONS(.flush_interval_ms = SPOOL_FLUSH_NEVER));
        bench_fill(spool, context->count);
        _exit(0); /* as good as killed: nothing is closed */
    }
    int status;
    if (waitpid(pid, &status, 0) != pid || status != 0)
        errx(1, "a process failed");
    uint64_t begin = clock_ns();
    struct spool *spool = open_plainly(context);
    figure(outcome, "open_ms", (double)(clock_ns() - begin) / 1e6);
    struct spool_stats stats = SPOOL_STATS();
    ok(spool_stats(spool, &stats), "spool_stats");
    figure(outcome, "events", (double)context->count);
    figure(outcome, "recovered_events", (double)stats.recovered_events);
    ok(spool_close(spool), "spool_close");
}

const struct bench_case backlog_cases[] = {
    {"spool_backlog", "libspool, a backlog", "one null sink; drained with 64 MiB of RLIMIT_DATA to spare",
     spool_backlog},
    {"spool_recovery", "libspool, opening after a kill", "flush_interval_ms SPOOL_FLUSH_NEVER", spool_recovery},
    {0},
};
