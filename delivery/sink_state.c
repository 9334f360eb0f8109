/* sink_state.c - a sink in memory: made, found, down and up again, its queue of batches. */
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
    sink->options.filter = sink->options.plugin = NULL; /* the caller's */
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
    sink->slots = calloc(options->workers, sizeof *sink->slots);
    sink->metrics = calloc(1, sizeof *sink->metrics);
    if (!sink->config || !sink->slots || !sink->metrics) {
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
    for (int lane = 0; lane < LANES; lane++)
        window_free(&sink->windows[lane]);
    retry_free(&sink->retries);
    answers_free(&sink->open);
    answers_free(&sink->ready);
    answers_free(&sink->sending);
    for (struct batch *batch = sink->ready_head, *next; batch; batch = next) {
        next = batch->next;
        batch_free(batch);
    }
    store_hand_unref(sink->hand);
    free(sink->suspects);
    free(sink->config);
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
    return d->running && !d->stopping && !sink->dropping;
}

bool sink_is_open(const struct sink *sink)
{
    for (uint32_t i = 0; i < sink->options.workers; i++)
        if (sink->slots[i].open)
            return true;
    return false;
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

/* ------------------------------------------------------------------------------------------------------- batches */

struct batch *batch_get(struct delivery *d)
{
    struct batch *batch = d->spare;
    if (batch)
        d->spare = batch->next;
    else
        batch = calloc(1, sizeof *batch);
    if (batch)
        batch->next = NULL;
    return batch;
}

void batch_put(struct delivery *d, struct batch *batch)
{
    batch_clear(batch);
    batch->next = d->spare;
    d->spare = batch;
}

int sink_enter_core(struct delivery *d, struct sink *sink)
{
    int code = op_core_hold(&d->core, sink->name, &sink->need.resource);
    if (code != SPOOL_OK)
        return code;
    sink->need.resource->capacity = sink->options.workers;
    sink->need.amount = 1;
    return SPOOL_OK;
}

void sink_leave_core(struct delivery *d, struct sink *sink)
{
    sink->need.resource->capacity = UINT32_MAX; /* nobody needs the name any more */
    op_core_let_go(&d->core, sink->need.resource);
    sink->need.resource = NULL;
}

/* Closing and checkpoints go first: they come alone, and the rest of their sink waits for them. */
static uint32_t rank_of_batch(const struct batch *batch)
{
    return batch->kind == BATCH_LOG || batch->kind == BATCH_RETRY ? (uint32_t)batch->lane : 0;
}

/* Only the head: within a sink the order in which batches were cut stands. It asks for one slot and has no deadline, so
 * that it is not refused. */
static void offer(struct delivery *d, struct sink *sink)
{
    struct batch *batch = sink->ready_head;
    if (!batch || sink->offered)
        return;
    batch->sink = sink;
    batch->task = (struct op_task){
        .needs = &sink->need,
        .need_count = 1,
        .rank = rank_of_batch(batch),
        .deadline_ns = DEADLINE_NEVER,
        .timeout_ns = DEADLINE_NEVER,
        .overdue_ns = DEADLINE_NEVER,
    };
    sink->offered = op_core_submit(&d->core, &batch->task, 0) == SPOOL_OK;
}

struct batch *sink_pop(struct delivery *d, struct sink *sink)
{
    struct batch *batch = sink->ready_head;
    sink->ready_head = batch->next;
    if (!sink->ready_head)
        sink->ready_tail = NULL;
    sink->ready_count--;
    sink->offered = false;
    offer(d, sink);
    return batch;
}

void sink_push(struct delivery *d, struct sink *sink, struct batch *batch)
{
    batch->next = NULL;
    if (sink->ready_tail)
        sink->ready_tail->next = batch;
    else
        sink->ready_head = batch;
    sink->ready_tail = batch;
    sink->ready_count++;
    sink_count_on(d, sink, batch);
    offer(d, sink);
    if (op_core_has_next(&d->core, 0))
        pthread_cond_signal(&d->work);
}

void sink_count_on(struct delivery *d, struct sink *sink, const struct batch *batch)
{
    sink->inflight_bytes += batch->bytes;
    d->inflight_bytes += batch->bytes;
    sink->inflight_events += batch->count;
}

void sink_count_off(struct delivery *d, struct sink *sink, const struct batch *batch)
{
    sink->inflight_bytes -= batch->bytes;
    d->inflight_bytes -= batch->bytes;
    sink->inflight_events -= batch->count;
}

uint32_t sink_overdue(const struct sink *sink)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < sink->options.workers; i++)
        n += sink->slots[i].overdue;
    return n;
}

void sink_take_back(struct delivery *d, struct sink *sink, struct batch *batch)
{
    sink->epoch++;
    if (batch->kind == BATCH_LOG &&
        window_return(&sink->windows[batch->lane], batch->first_seq, batch->first_seq + batch->count) != SPOOL_OK)
        sink->reload = true; /* no memory to note the gap: the store knows */
    for (size_t i = 0; i < batch->row_count; i++)
        retry_untake(&sink->retries, batch->rows[i].row);
    sink_count_off(d, sink, batch);
}

void sink_take_back_ready(struct delivery *d, struct sink *sink)
{
    sink->epoch++;
    struct batch *batch;
    if (sink->offered)
        op_core_withdraw(&d->core, &sink->ready_head->task);
    sink->offered = false;
    while ((batch = sink->ready_head) != NULL) {
        sink->ready_head = batch->next;
        sink_take_back(d, sink, batch);
        batch_put(d, batch);
    }
    sink->ready_tail = NULL;
    sink->ready_count = 0;
}

bool sink_unlink_dropped(struct delivery *d, struct sink **link)
{
    struct sink *sink = *link;
    if (!sink->dropping || sink->elected || sink->hung || sink->running > 0)
        return false;
    *link = sink->next;
    sink->unlinked = true;
    sink_leave_core(d, sink);
    d->sink_count--;
    pthread_cond_broadcast(&d->idle);
    sink_unref(sink);
    return true;
}
