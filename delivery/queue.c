/* queue.c - a sink's batches that are ready: queued, offered to the scheduler, taken by a worker or taken back. All with
 * the lock held.
 *
 * One at a time is offered, the first: within a sink the order in which batches were cut stands. And only while a slot is
 * free, so that one which ages in the scheduler waits for others there, never for its own sink. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "../lib/base/error.h"
#include "engine.h"
#include "resources.h"

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

/* ---------------------------------------------------------------------------------------- what they need to run */

static int own_stripes(struct sink *sink)
{
    int code = SPOOL_OK;
    for (int i = 0; i < STRIPES && code == SPOOL_OK; i++) {
        char name[SINK_NAME_MAX + 32];
        snprintf(name, sizeof name, "keys %d of sink %s", i, sink->name);
        code = op_resource_new(name, 1, &sink->stripe_of[i]);
    }
    return code;
}

void sink_name_task(const struct op_task *task, char *text, size_t size)
{
    snprintf(text, size, "a batch of sink %s", batch_of(task)->sink->name);
}

static int hold_one(void *user, const struct resource_need *need)
{
    struct sink *sink = user;
    struct op_resource *resource;
    int code = op_core_hold(sink->core, need->name, &resource);
    if (code != SPOOL_OK)
        return code;
    sink->named[sink->named_count++] = (struct op_need){.resource = resource, .amount = need->amount};
    code = op_resource_demand(resource, need->amount);
    return code == SPOOL_OK ? code : err_prefix(code, "sink %s", sink->name);
}

int sink_enter_core(struct delivery *d, struct sink *sink)
{
    sink->core = d->core;
    char name[SINK_NAME_MAX + 32];
    snprintf(name, sizeof name, "a worker of sink %s", sink->name);
    int code = op_resource_new(name, sink->options.workers, &sink->slot_of);
    if (code == SPOOL_OK && sink_is_keyed(sink))
        code = own_stripes(sink);
    if (code == SPOOL_OK)
        code = resources_each(sink->resources, hold_one, sink);
    if (code != SPOOL_OK)
        sink_leave_core(sink);
    return code;
}

void sink_leave_core(struct sink *sink)
{
    for (uint32_t i = 0; i < sink->named_count; i++)
        op_core_let_go(sink->core, sink->named[i].resource);
    sink->named_count = 0;
    op_resource_free(sink->slot_of);
    sink->slot_of = NULL;
    for (int i = 0; i < STRIPES; i++) {
        op_resource_free(sink->stripe_of[i]);
        sink->stripe_of[i] = NULL;
    }
}

static void add_need(struct batch *batch, struct op_resource *resource, uint32_t amount)
{
    batch->needs[batch->task.need_count++] = (struct op_need){.resource = resource, .amount = amount};
}

static void fill_needs(const struct sink *sink, struct batch *batch)
{
    bool has_events = batch->kind == BATCH_LOG || batch->kind == BATCH_RETRY;
    for (uint32_t i = 0; i < sink->named_count && has_events; i++)
        add_need(batch, sink->named[i].resource, sink->named[i].amount);
    add_need(batch, sink->slot_of, 1);
    for (uint64_t left = batch->stripes; left != 0; left &= left - 1)
        add_need(batch, sink->stripe_of[__builtin_ctzll(left)], 0);
}

/* Closing and checkpoints go first: they come alone, and the rest of their sink waits for them. */
static uint32_t rank_of_batch(const struct batch *batch)
{
    return batch->kind == BATCH_LOG || batch->kind == BATCH_RETRY ? (uint32_t)batch->lane : 0;
}

/* It has no deadline and no limit to wait for, so that it is not refused. */
static void offer_head(struct delivery *d, struct sink *sink)
{
    struct batch *batch = sink->ready_head;
    if (!batch || sink->offered || sink->running >= sink->options.workers)
        return;
    batch->sink = sink;
    batch->task = (struct op_task){
        .needs = batch->needs,
        .rank = rank_of_batch(batch),
        .deadline_ns = DEADLINE_NEVER,
        .timeout_ns = DEADLINE_NEVER,
        .overdue_ns = DEADLINE_NEVER,
    };
    fill_needs(sink, batch);
    sink->offered = op_core_submit(d->core, &batch->task, mono_ns()) == SPOOL_OK;
}

/* ------------------------------------------------------------------------------------------------------- their way */

struct batch *sink_begin(struct delivery *d, struct sink *sink)
{
    struct batch *batch = sink->ready_head;
    sink->ready_head = batch->next;
    if (!sink->ready_head)
        sink->ready_tail = NULL;
    sink->ready_count--;
    sink->running++;
    sink->offered = false;
    offer_head(d, sink);
    return batch;
}

void sink_end(struct delivery *d, struct sink *sink, struct batch *batch)
{
    op_core_complete(d->core, &batch->task);
    sink_count_off(d, sink, batch);
    sink->stripes &= ~batch->stripes;
}

void sink_left(struct delivery *d, struct sink *sink)
{
    sink->running--;
    offer_head(d, sink);
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
    sink->stripes |= batch->stripes;
    sink_count_on(d, sink, batch);
    offer_head(d, sink);
    if (op_core_has_next(d->core, mono_ns()))
        pthread_cond_signal(&d->work);
}

void sink_count_on(struct delivery *d, struct sink *sink, const struct batch *batch)
{
    sink->inflight_bytes += batch->bytes;
    d->inflight_bytes += batch->bytes;
    sink->inflight_events += batch->wanted;
}

void sink_count_off(struct delivery *d, struct sink *sink, const struct batch *batch)
{
    sink->inflight_bytes -= batch->bytes;
    d->inflight_bytes -= batch->bytes;
    sink->inflight_events -= batch->wanted;
}

void sink_take_back(struct delivery *d, struct sink *sink, struct batch *batch)
{
    sink->epoch++;
    if (batch->kind == BATCH_LOG &&
        window_set(&sink->windows[batch->lane], batch->spans, batch->span_count, WINDOW_GAP) != SPOOL_OK)
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
        op_core_withdraw(d->core, &sink->ready_head->task);
    sink->offered = false;
    while ((batch = sink->ready_head) != NULL) {
        sink->ready_head = batch->next;
        sink_take_back(d, sink, batch);
        sink->stripes &= ~batch->stripes;
        batch_put(d, batch);
    }
    sink->ready_tail = NULL;
    sink->ready_count = 0;
}
