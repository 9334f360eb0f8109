/* sink_cancel.c - how soon a sink's deliver returns once it is cancelled.
 *
 *     sink_cancel DIR KIND JSON-CONFIG AFTER-MS
 *
 * Makes a spool in DIR, gives the sink one event, and has the library cancel the delivery after AFTER-MS. Prints a line
 * of JSON: the milliseconds from then until deliver was back, what the sink said, and what spool_stop() answered.
 *
 * The library finds the sink to be down as soon as its time is over, whether deliver is back or not. So this waits until
 * the last error is the sink's own. */
#include "program.h"

static char reason[512];

static int look(void *user, const struct spool_sink_info *info)
{
    bool *back = user;
    *back = *info->last_error && !strstr(info->last_error, "(timeout_ms), and was cancelled");
    for (size_t i = 0; i < sizeof reason - 1 && info->last_error[i]; i++)
        reason[i] = info->last_error[i] == '"' || info->last_error[i] == '\\' ? '\'' : info->last_error[i];
    return 0;
}

/* Looks every millisecond. */
static uint64_t wait_until_back_ns(struct spool *spool, uint64_t give_up_ns)
{
    for (bool back = false;;) {
        must(spool_sink_each(spool, look, &back), "spool_sink_each");
        if (back || now_ns() > give_up_ns)
            return now_ns();
        memset(reason, 0, sizeof reason);
        sleep_until(now_ns() + 1000000);
    }
}

int main(int argc, char **argv)
{
    struct spool *spool;
    struct spool_event event = SPOOL_EVENT(.type = "test.cancel", .agent = "a", .body = "{}", .body_size = 2);
    if (argc != 5)
        errx(2, "usage: sink_cancel DIR KIND JSON-CONFIG AFTER-MS");
    uint64_t after_ms = option_number("AFTER-MS", argv[4]);
    struct spool_sink_options sink =
        SPOOL_SINK_OPTIONS(.timeout_ms = (uint32_t)after_ms, .retry_cap_ms = 300000, .retry_base_ms = 300000);
    must(spool_open(argv[1], NULL, &spool), "spool_open");
    must(spool_sink_load(spool, "sink", argv[2], argv[3], &sink), "spool_sink_load");
    must(spool_enqueue(spool, &event, NULL), "spool_enqueue");
    uint64_t start_ns = now_ns();
    must(spool_start(spool), "spool_start");
    uint64_t back_ns = wait_until_back_ns(spool, start_ns + 30000000000u);
    double late_ms = ((double)back_ns - (double)start_ns) / 1e6 - (double)after_ms;
    int stopped = spool_stop(spool, 5000);
    printf("{\"late_ms\":%.1f,\"reason\":\"%s\",\"stop\":\"%s\"}\n", late_ms, reason, spool_error_name(stopped));
    fflush(stdout);
    spool_close(spool);
    return 0;
}
