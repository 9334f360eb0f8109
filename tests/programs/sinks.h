/* sinks.h - the sinks that the helper programs deliver to: the library's file and null sinks, and a callback that logs
 * every event it gets after having checked its body. */
#ifndef TESTS_SINKS_H
#define TESTS_SINKS_H

#include "program.h"

struct callback_sink {
    const struct program *program;
    int fd;
    uint64_t batches;
};

/* Fails the event, when it is one of those that are to fail the first time. */
static inline bool callback_fails(const struct program *program, struct spool_delivery *delivery, uint64_t n)
{
    if (!program->retry_every || n % program->retry_every != 0 || delivery->attempt > 1)
        return false;
    spool_delivery_fail(delivery, SPOOL_RETRY, "event %" PRIu64 " fails the first time", n);
    return true;
}

/* Checks and logs one event; false when it failed. */
static inline bool callback_take(const struct callback_sink *sink, struct spool_delivery *delivery,
                                 char line[LINE_SIZE])
{
    const struct spool_event *event = delivery->event;
    char tag[TAG_MAX + 1];
    struct history_event made = {.tag = tag};
    bool good = body_check(event->body, event->body_size, tag, &made.thread, &made.n);
    if (callback_fails(sink->program, delivery, made.n))
        return false;
    history_seen(line, sink->program->tag, delivery, &made, whole_crc(event->body, event->body_size), good,
                 now_ns() / 1000000);
    delivery->outcome = SPOOL_DELIVERED;
    return true;
}

/* The lines are in the log before the library learns that the events were delivered. Behind one that fails nothing is
 * taken: it may be of the same agent, and whoever wants order must not take a successor. */
static inline int callback_deliver(void *state, struct spool_delivery *batch, size_t n)
{
    struct callback_sink *sink = state;
    const struct program *program = sink->program;
    bool down = program->down_every && ++sink->batches % program->down_every == 0;
    size_t taken = 0, count = down ? n / 2 : n;
    char *lines = malloc(n * LINE_SIZE);
    if (!lines)
        return SPOOL_EUNAVAILABLE;
    if (program->slow_ms)
        sleep_until(now_ns() + program->slow_ms * 1000000u);
    while (taken < count && callback_take(sink, SPOOL_DELIVERY_AT(batch, taken), lines + taken * LINE_SIZE))
        taken++;
    history_append(sink->fd, lines, taken);
    free(lines);
    return down ? spool_sink_error(SPOOL_EUNAVAILABLE, "down for a moment") : SPOOL_OK;
}

static const struct spool_sink CALLBACK_SINK = {
    .abi = SPOOL_SINK_ABI, .size = sizeof(struct spool_sink), .kind = "test.callback", .deliver = callback_deliver};

/* The callback sink: ordered by agent, small batches, so that it is often interrupted between two. */
static inline void add_callback_sink(const struct program *program, struct spool *spool, struct callback_sink *sink)
{
    *sink = (struct callback_sink){.program = program, .fd = history_open(program->callback_log)};
    struct spool_sink_options options =
        SPOOL_SINK_OPTIONS(.user = sink, .order = SPOOL_ORDER_AGENT, .batch_events_max = 64, .retry_base_ms = 5);
    must(spool_sink_add(spool, "callback", &CALLBACK_SINK, NULL, &options), "spool_sink_add callback");
    history_sink(sink->fd, program->tag, "callback");
}

static inline void add_file_sink(const struct program *program, struct spool *spool)
{
    int fd = history_open(program->history);
    char config[4200];
    snprintf(config, sizeof config, "{\"path\":\"%s\"}", program->file_sink);
    struct spool_sink_options options = SPOOL_SINK_OPTIONS(.order = SPOOL_ORDER_AGENT);
    must(spool_sink_load(spool, "file", "file", config, &options), "spool_sink_load file");
    history_sink(fd, program->tag, "file");
    if (fd >= 0)
        close(fd);
}

/* Adds the sinks that the options name; `callback` must live until the spool is closed. Returns whether there are any.
 */
static inline bool program_add_sinks(const struct program *program, struct spool *spool, struct callback_sink *callback)
{
    if (program->file_sink)
        add_file_sink(program, spool);
    if (program->callback_log)
        add_callback_sink(program, spool, callback);
    if (program->null_sink)
        must(spool_sink_load(spool, "null", "null", NULL, NULL), "spool_sink_load null");
    return program->file_sink || program->callback_log || program->null_sink;
}

#endif
