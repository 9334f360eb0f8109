/* sink_state.c - a sink in memory: made, found, let go. Its batches are in queue.c. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/base/error.h"
#include "engine.h"

int sink_new(const char *name, const struct spool_sink *hooks, const char *config,
             const struct spool_sink_options *options, struct sink **ret)
{
    struct sink *sink = calloc(1, sizeof *sink);
    if (!sink)
        return err_errno(ENOMEM, "sink %s", name);
    atomic_init(&sink->refs, 1);
    sink->hooks = *hooks;
    sink->options = *options;
    sink->options.filter = sink->options.plugin = sink->options.resources = NULL; /* the caller's */
    snprintf(sink->name, sizeof sink->name, "%s", name);
    snprintf(sink->kind, sizeof sink->kind, "%s", hooks->kind);
    sink->hooks.kind = sink->kind;
    const struct breaker_rules rules = {
        .failures = options->breaker_failures,
        .probe_events = options->probe_events,
        .probes = options->probes,
        .base_ms = options->retry_base_ms,
        .cap_ms = options->retry_cap_ms,
        .limit_max = options->batch_events_max * (options->workers + READY_MAX),
    };
    breaker_init(&sink->breaker, &rules, mono_ns());
    sink->config = strdup(config);
    sink->resources = strdup(options->resources ? options->resources : "");
    sink->slots = calloc(options->workers, sizeof *sink->slots);
    sink->metrics = calloc(1, sizeof *sink->metrics);
    if (!sink->config || !sink->resources || !sink->slots || !sink->metrics) {
        sink_unref(sink);
        return err_errno(ENOMEM, "sink %s", name);
    }
    *ret = sink;
    return SPOOL_OK;
}

void sink_unref(struct sink *sink)
{
    if (!sink || atomic_fetch_sub(&sink->refs, 1) != 1)
        return;
    for (int lane = 0; lane < LANES; lane++) {
        window_free(&sink->windows[lane]);
        free(sink->keys_ahead[lane]);
    }
    retry_free(&sink->retries);
    answers_free(&sink->open);
    answers_free(&sink->ready);
    answers_free(&sink->sending);
    for (struct batch *batch = sink->ready_head, *next; batch; batch = next) {
        next = batch->next;
        batch_free(batch);
    }
    sink_leave_core(sink);
    store_hand_unref(sink->hand);
    free(sink->suspects);
    free(sink->config);
    free(sink->resources);
    filter_free(sink->filter);
    free(sink->slots);
    free(sink->metrics);
    free(sink);
}

struct sink *sink_find(struct delivery *d, const char *name)
{
    struct sink *sink = d->sinks;
    while (sink && strcmp(sink->name, name) != 0)
        sink = sink->next;
    return sink;
}

bool sink_is_wanted(const struct delivery *d, const struct sink *sink)
{
    return (d->running && !d->stopping && !sink->dropping) || sink->catching_up;
}

bool sink_is_open(const struct sink *sink)
{
    for (uint32_t i = 0; i < sink->options.workers; i++)
        if (sink->slots[i].open)
            return true;
    return false;
}

/* With checkpoints one batch is under way at a time, and all of a lane is one key with a constant order: options.c. */
bool sink_is_keyed(const struct sink *sink)
{
    return sink->options.order == SPOOL_ORDER_AGENT && sink->options.workers > 1;
}

void sink_pick_keys(const struct sink *sink, struct key_picker *ret)
{
    uint32_t under_way = sink->running + sink->ready_count, workers = sink->options.workers;
    key_picker_init(ret, sink->stripes, workers, workers > under_way ? workers - under_way : 1);
}

bool sink_has_answers(const struct sink *sink)
{
    return sink->open.any || sink->ready.any || sink->sending.any;
}

void sink_error(struct sink *sink, const char *text)
{
    snprintf(sink->last_error, sizeof sink->last_error, "%s", text);
}

void sink_promote(struct delivery *d, struct sink *sink)
{
    if (!sink->open.any)
        return;
    if (answers_move(&sink->ready, &sink->open) != SPOOL_OK)
        return; /* no memory: they stay and are promoted by the next round */
    answers_seal(&sink->ready, sink->windows);
    pthread_cond_signal(&d->ack);
}

uint32_t sink_overdue(const struct sink *sink)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < sink->options.workers; i++)
        n += sink->slots[i].overdue;
    return n;
}

bool sink_unlink_dropped(struct delivery *d, struct sink **link)
{
    struct sink *sink = *link;
    if (!sink->dropping || sink->elected || sink->hung || sink->running > 0)
        return false;
    *link = sink->next;
    sink->unlinked = true;
    sink_leave_core(sink);
    d->sink_count--;
    pthread_cond_broadcast(&d->idle);
    sink_unref(sink);
    return true;
}
