/* sink_cancel.c - how soon a sink's deliver returns once it is cancelled.
 *
 *     sink_cancel DIR KIND JSON-CONFIG AFTER-MS
 *
 * Makes a spool in DIR, gives the sink one event, and has the library cancel the delivery after AFTER-MS. Prints a line
 * of JSON: the milliseconds from then until the sink was found to be down, what it said, and what spool_stop()
 * answered. */
#include <pthread.h>
#include <stdatomic.h>

#include "program.h"

static atomic_uint_least64_t down_at_ns;
static char reason[512];

static void notice(void *user, const struct spool_notice *notice)
{
    (void)user;
    if (notice->kind != SPOOL_NOTICE_SINK_DOWN || atomic_load(&down_at_ns))
        return;
    for (size_t i = 0; notice->reason[i] && i < sizeof reason - 1; i++)
        reason[i] = notice->reason[i] == '"' || notice->reason[i] == '\\' ? '\'' : notice->reason[i];
    atomic_store(&down_at_ns, now_ns());
}

int main(int argc, char **argv)
{
    struct spool *spool;
    struct spool_options options = SPOOL_OPTIONS(.on_notice = notice);
    struct spool_event event = SPOOL_EVENT(.type = "test.cancel", .agent = "a", .body = "{}", .body_size = 2);
    if (argc != 5)
        errx(2, "usage: sink_cancel DIR KIND JSON-CONFIG AFTER-MS");
    uint64_t after_ms = option_number("AFTER-MS", argv[4]);
    struct spool_sink_options sink =
        SPOOL_SINK_OPTIONS(.timeout_ms = (uint32_t)after_ms, .retry_cap_ms = 300000, .retry_base_ms = 300000);
    must(spool_open(argv[1], &options, &spool), "spool_open");
    must(spool_sink_load(spool, "sink", argv[2], argv[3], &sink), "spool_sink_load");
    must(spool_enqueue(spool, &event, NULL), "spool_enqueue");
    uint64_t start_ns = now_ns(), give_up_ns = start_ns + 30000000000u;
    must(spool_start(spool), "spool_start");
    while (!atomic_load(&down_at_ns) && now_ns() < give_up_ns)
        sleep_until(now_ns() + 1000000);
    double late_ms = ((double)atomic_load(&down_at_ns) - (double)start_ns) / 1e6 - (double)after_ms;
    int stopped = spool_stop(spool, 5000);
    printf("{\"late_ms\":%.1f,\"reason\":\"%s\",\"stop\":\"%s\"}\n", late_ms, reason, spool_error_name(stopped));
    fflush(stdout);
    spool_close(spool);
    return 0;
}
