/* again.c - a sink plugin that gets the same events again, as after a crash before any answer was stored.
 *
 *     again FILE CONFIG N
 *
 * Delivers N events, one a batch, while the spool is said to have stored nothing of them, then all of them once more to a
 * state opened anew. Prints {"first":…,"again":…}: how many were taken each time. */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sink_host.h"

static struct spool_id id_of(uint32_t number)
{
    struct spool_id id;
    if (spool_id_parse("01890a5d-ac96-774b-bcce-b302099a8057", &id) != SPOOL_OK)
        errx(2, "spool_id_parse");
    memcpy(id.bytes + sizeof id.bytes - sizeof number, &number, sizeof number);
    return id;
}

static uint32_t deliver(const struct spool_sink *sink, const char *config, uint32_t count)
{
    struct spool_event event =
        SPOOL_EVENT(.type = "test", .agent = "a", .content_type = "application/json", .body = "{}", .body_size = 2);
    uint32_t taken = 0;
    void *state;
    if (sink->open(&state, NULL, config, NULL, 0) != SPOOL_OK)
        errx(1, "open: %s", host_message);
    for (uint32_t i = 0; i < count; i++) {
        struct spool_delivery one = {.size = sizeof one, .event = &event, .id = id_of(i), .attempt = 1};
        host_unstored_batches = i;
        if (sink->deliver(state, &one, 1) != SPOOL_OK)
            errx(1, "deliver: %s", host_message);
        taken += one.outcome == SPOOL_DELIVERED;
    }
    sink->close(state);
    return taken;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        errx(2, "usage: again FILE CONFIG N");
    const struct spool_sink *sink = host_load(argv[1]);
    uint32_t count = (uint32_t)strtoul(argv[3], NULL, 10), first = deliver(sink, argv[2], count);
    printf("{\"first\":%u,\"again\":%u}\n", first, deliver(sink, argv[2], count));
    return 0;
}
