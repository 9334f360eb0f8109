/* sinks.c - the sinks of the laboratory: one that accepts all, one that asks for a retry, one that rejects, and the
 * library's own file sink with its checkpoint. The first three count in shared memory what they were given. */
#include "sweep.h"

#include <stdio.h>
#include <string.h>

const char *const sink_names[SINKS_MAX] = {"good", "retrying", "rejecting", "file"};
static const int kinds[SINKS_MAX] = {SINK_GOOD, SINK_RETRYING, SINK_REJECTING, SINK_FILE};

bool sink_rejects(uint32_t n)
{
    return n % 7 == 3;
}

static void answer(int kind, struct spool_delivery *delivery)
{
    uint32_t n;
    if (!body_number(delivery->event->body, delivery->event->body_size, &n)) {
        violation("sink %s was given an event that nobody enqueued", sink_names[kind]);
        delivery->outcome = SPOOL_DELIVERED;
        return;
    }
    if (kind == SINK_RETRYING && n % 4 == 1 && delivery->attempt == 1) {
        spool_delivery_fail(delivery, SPOOL_RETRY, "not now: %u", n);
    } else if (kind == SINK_REJECTING && sink_rejects(n)) {
        spool_delivery_fail(delivery, SPOOL_REJECTED, "not this one: %u", n);
    } else {
        atomic_fetch_add(&ledger->delivered[kind][n], 1);
        delivery->outcome = SPOOL_DELIVERED;
    }
}

/* The sink itself does not fail: what is spoiled here is the sink's, not the library's. */
static int deliver(void *state, struct spool_delivery *batch, size_t n)
{
    fault_pause();
    for (size_t i = 0; i < n; i++)
        answer(*(const int *)state, SPOOL_DELIVERY_AT(batch, i));
    fault_resume();
    return 0;
}

static int sink_add(struct spool *spool, int kind)
{
    struct spool_sink sink = {.abi = SPOOL_SINK_ABI, .size = sizeof sink, .kind = "laboratory", .deliver = deliver};
    struct spool_sink_options options = SPOOL_SINK_OPTIONS(.user = (void *)&kinds[kind], .retry_base_ms = 1,
                                                           .retry_cap_ms = 20, .batch_events_max = 16);
    return spool_sink_add(spool, sink_names[kind], &sink, NULL, &options);
}

static int deliver_spare(void *state, struct spool_delivery *batch, size_t count)
{
    fault_pause();
    for (size_t i = 0; i < count; i++) {
        struct spool_delivery *delivery = SPOOL_DELIVERY_AT(batch, i);
        uint32_t n = 0;
        if (!body_number(delivery->event->body, delivery->event->body_size, &n) || n % 2 == 0)
            violation("sink spare was given event %u, which its filter passes over", n);
        else
            atomic_fetch_add(&ledger->spare[n], 1);
        delivery->outcome = SPOOL_DELIVERED;
    }
    fault_resume();
    (void)state;
    return 0;
}

int sink_add_spare(struct spool *spool)
{
    struct spool_sink sink = {
        .abi = SPOOL_SINK_ABI, .size = sizeof sink, .kind = "laboratory", .deliver = deliver_spare};
    struct spool_sink_options options =
        SPOOL_SINK_OPTIONS(.retry_base_ms = 1, .retry_cap_ms = 20, .batch_events_max = 16,
                           .filter = "{\"include\":{\"agent\":\"odd\"}}");
    return spool_sink_add(spool, "spare", &sink, NULL, &options);
}

void beside(const char *dir, const char *name, char *buf, size_t size)
{
    snprintf(buf, size, "%.*s/%s", (int)(strrchr(dir, '/') - dir), dir, name);
}

void sink_file_path(const char *dir, char *buf, size_t size)
{
    beside(dir, "out/events.jsonl", buf, size);
}

static int sink_add_file(struct spool *spool, const char *dir)
{
    char path[512], config[640];
    struct spool_sink_options options = SPOOL_SINK_OPTIONS(.retry_base_ms = 1, .retry_cap_ms = 20);
    sink_file_path(dir, path, sizeof path);
    snprintf(config, sizeof config, "{\"path\":\"%s\"}", path);
    return spool_sink_load(spool, sink_names[SINK_FILE], "file", config, &options);
}

/* All are tried; `allow` judges each answer. */
bool sinks_add(struct spool *spool, const char *dir, bool with_file, bool (*allow)(const char *call, int code))
{
    bool all = true;
    for (int kind = 0; kind < SINK_FILE; kind++)
        all &= allow("spool_sink_add", sink_add(spool, kind));
    if (with_file)
        all &= allow("spool_sink_load", sink_add_file(spool, dir));
    return all;
}
