/* deliverer.c - serves the sinks of a spool until it is empty (--drain_ms) or until SIGTERM (--until_term).
 *
 * Prints "ready" when delivery has started and one JSON line at its end:
 * {"open_ms":…,"drain":…,"stop":…,"stop_ms":…,…}. program.h has the options. */
#include "sinks.h"

#include <signal.h>

static void wait_for_term(void)
{
    sigset_t set;
    int number;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigwait(&set, &number);
}

/* Before any thread is made, so that all inherit it and only sigwait() gets the signal. */
static void block_term(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

static uint64_t pending(const struct spool_stats *stats)
{
    return stats->oldest_ns ? 1 : 0;
}

static void report(const struct spool_stats *stats, double open_ms, int drained, int stopped, double stop_ms)
{
    printf("{\"open_ms\":%.3f,\"drain\":\"%s\",\"stop\":\"%s\",\"stop_ms\":%.3f,\"pending\":%" PRIu64
           ",\"stored_events\":%" PRIu64 ",\"segments\":%" PRIu64 ",\"used_bytes\":%" PRIu64 ",\"dropped\":%" PRIu64
           ",\"damaged_blocks\":%" PRIu64 ",\"damaged_events\":%" PRIu64 "}\n",
           open_ms, spool_error_name(drained), spool_error_name(stopped), stop_ms, pending(stats), stats->stored_events,
           stats->segments, stats->used_bytes, stats->dropped_events, stats->damaged_blocks, stats->damaged_events);
}

int main(int argc, char **argv)
{
    struct program program = program_options(argc, argv);
    struct callback_sink callback;
    struct spool_stats stats = SPOOL_STATS();
    block_term();
    int history_fd = history_open(program.history);
    uint64_t start_ns = now_ns();
    history_process(history_fd, "opening", program.tag, SPOOL_OK);
    struct spool *spool = program_open(&program);
    double open_ms = ms_since(start_ns);
    history_process(history_fd, "open", program.tag, SPOOL_OK);
    if (program_add_sinks(&program, spool, &callback))
        must(spool_start(spool), "spool_start");
    puts("ready");
    fflush(stdout);
    if (program.until_term)
        wait_for_term();
    int drained = program.drain_ms ? spool_drain(spool, (uint32_t)program.drain_ms) : SPOOL_OK;
    if (drained != SPOOL_OK)
        warnx("spool_drain: %s", spool_last_error());
    if (spool_stats(spool, &stats) != SPOOL_OK)
        warnx("spool_stats: %s", spool_last_error()); /* a peer that stands still may hold the lock */
    start_ns = now_ns();
    int stopped = spool_stop(spool, program.stop_timeout_ms ? (uint32_t)program.stop_timeout_ms : 5000);
    if (stopped != SPOOL_OK)
        warnx("spool_stop: %s", spool_last_error());
    int closed = spool_close(spool);
    history_process(history_fd, "close", program.tag, stopped ? stopped : closed);
    report(&stats, open_ms, drained, stopped, ms_since(start_ns));
    return drained == SPOOL_OK && stopped == SPOOL_OK && closed == SPOOL_OK ? 0 : 1;
}
