/* drive.c - how fast a sink is: fills a spool, then times its delivery, from the start to the last acknowledgement.
 *
 *     drive KIND CONFIG EVENTS BYTES [BATCH_EVENTS [WORKERS]]     prints events a second
 *
 * The spool is made in $TMPDIR and removed again. Bodies are JSON of BYTES bytes, agents 16, types 4. Plugins are
 * searched as always: set SPOOL_SINK_PATH. */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../lib/spool.h"

enum { MANY = 256, BODY_MAX = 65536, ENVELOPE = 256, BATCH_BYTES_MAX = 8 << 20 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void must(int code, const char *what)
{
    if (code)
        errx(1, "%s: %s", what, spool_last_error());
}

/* A JSON object of about `bytes` bytes that says which event it is. */
static size_t make_body(char *body, size_t bytes, unsigned long n)
{
    int head = snprintf(body, BODY_MAX, "{\"n\":%lu,\"text\":\"", n);
    size_t size = (size_t)head + 2 < bytes ? bytes : (size_t)head + 2;
    memset(body + head, 'x', size - (size_t)head - 2);
    memcpy(body + size - 2, "\"}", 2);
    return size;
}

static void fill(struct spool *spool, unsigned long events, size_t bytes)
{
    static const char *const types[] = {"log.llm_call", "log.error", "memory.interaction", "memory.plan"};
    static char bodies[MANY][BODY_MAX], agents[16][16];
    struct spool_event batch[MANY];
    for (int i = 0; i < 16; i++)
        snprintf(agents[i], sizeof agents[i], "agent-%d", i);
    for (unsigned long at = 0; at < events;) {
        size_t n = 0;
        for (; n < MANY && at < events; n++, at++)
            batch[n] = SPOOL_EVENT(.type = types[at % 4], .agent = agents[at % 16], .session = "s-1", .body = bodies[n],
                                   .body_size = make_body(bodies[n], bytes, at), .durability = SPOOL_DURABLE_PROCESS);
        must(spool_enqueue_many(spool, batch, n, NULL), "enqueue");
    }
}

static double run(const char *dir, char **args, int count)
{
    unsigned long events = strtoul(args[2], NULL, 10);
    size_t bytes = strtoul(args[3], NULL, 10);
    struct spool_options options = SPOOL_OPTIONS(.max_bytes = 8ull << 30, .flush_interval_ms = SPOOL_FLUSH_NEVER);
    struct spool_sink_options sink = SPOOL_SINK_OPTIONS(.order = SPOOL_ORDER_NONE);
    struct spool *spool;
    if (count > 4) { /* and as many bytes as those are, or the default ends a batch earlier */
        sink.batch_events_max = (uint32_t)strtoul(args[4], NULL, 10);
        size_t size = sink.batch_events_max * (bytes + ENVELOPE);
        sink.batch_bytes_max = size > BATCH_BYTES_MAX ? BATCH_BYTES_MAX : size < 1 << 20 ? 1 << 20 : (uint32_t)size;
    }
    if (count > 5)
        sink.workers = (uint32_t)strtoul(args[5], NULL, 10);
    must(spool_open(dir, &options, &spool), dir);
    must(spool_sink_load(spool, "far", args[0], args[1], &sink), args[0]);
    fill(spool, events, bytes);
    must(spool_flush(spool, 60000), "flush");
    double start = now();
    must(spool_start(spool), "start");
    must(spool_drain(spool, 600000), "drain");
    double took = now() - start;
    must(spool_close(spool), "close");
    return (double)events / took;
}

int main(int argc, char **argv)
{
    char dir[512], command[600];
    const char *base = getenv("TMPDIR");
    if (argc < 5 || strtoul(argv[4], NULL, 10) >= BODY_MAX)
        errx(2, "usage: drive KIND CONFIG EVENTS BYTES [BATCH_EVENTS [WORKERS]]");
    snprintf(dir, sizeof dir, "%s/spool-drive-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(dir))
        err(1, "%s", dir);
    printf("%.0f\n", run(dir, argv + 1, argc - 1));
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command) == 0 ? 0 : 1;
}
