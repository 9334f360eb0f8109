/* queue_tell.c - what a sink's batches hold and wait for, in words. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "../lib/base/error.h"
#include "../lib/base/log.h"
#include "engine.h"

/* Its next batch, if that waits for more than a thread; `state` becomes "waits for gpu, held by …". Else NULL. */
static const struct op_task *what_waits(const struct sink *sink, char state[REASON_MAX + 1])
{
    struct op_block block;
    if (!sink->offered || sink->named_count == 0)
        return NULL;
    const struct op_task *task = &sink->ready_head->task;
    op_core_explain(sink->core, task, &block);
    if (!block.resource)
        return NULL;
    scheduler_tell_state(task, state, REASON_MAX + 1);
    return task;
}

/* Without the first words of the state. */
void sink_tell_wait(const struct sink *sink, uint64_t now_ns, struct delivery_sink_status *ret)
{
    static const char waits[] = "waits for ";
    char state[REASON_MAX + 1];
    const struct op_task *task = what_waits(sink, state);
    if (!task)
        return;
    snprintf(ret->waits_for, sizeof ret->waits_for, "%s", state + sizeof waits - 1);
    ret->waits_ms = (now_ns - task->since_ns) / NS_PER_MS;
}

void sink_tell_overdue(struct delivery *d, struct sink *sink)
{
    char state[REASON_MAX + 1], name[128];
    uint64_t now_ns = mono_ns();
    const struct op_task *task = what_waits(sink, state);
    if (task && task->since_ns != sink->waits_since_ns) {
        sink->waits_since_ns = task->since_ns;
        sink->overdue_ms = SPOOL_OP_OVERDUE_MS;
    }
    uint64_t waited_ms = task ? (now_ns - task->since_ns) / NS_PER_MS : 0;
    if (!task || waited_ms < sink->overdue_ms)
        return;
    sink->overdue_ms = 2 * waited_ms;
    sink_name_task(task, name, sizeof name);
    pthread_mutex_unlock(d->lock);
    notify(&d->reporter, SPOOL_NOTICE_OP_OVERDUE, sink->name, NULL, 0, "%s waits for %.3f s: it %s", name,
           (double)waited_ms / 1e3, state);
    pthread_mutex_lock(d->lock);
}

/* One batch, as the user hears of it when the lock is left. */
struct batch_line {
    struct spool_op_info info;
    char sink[SINK_NAME_MAX + 1], resources[512], waits_for[SPOOL_OP_RESOURCE_MAX + 1], holder_name[256];
};

static void describe_batch(const struct op_task *task, uint64_t now_ns, struct batch_line *row)
{
    struct batch *batch = batch_of(task);
    struct op_block block = {0};
    bool runs = task->phase == OP_RUNNING;
    if (!runs)
        op_core_explain(task->core, task, &block);
    snprintf(row->sink, sizeof row->sink, "%s", batch->sink->name);
    scheduler_tell_needs(task, row->resources, sizeof row->resources);
    snprintf(row->waits_for, sizeof row->waits_for, "%s",
             block.resource ? block.resource->name
             : runs         ? ""
                            : "a thread");
    if (block.holder)
        op_core_name(block.holder, row->holder_name, sizeof row->holder_name);
    row->info = (struct spool_op_info){
        .size = sizeof row->info,
        .name = "",
        .state = runs && batch->sink->hung ? SPOOL_OP_HUNG
                 : runs                    ? SPOOL_OP_RUNNING
                                           : SPOOL_OP_WAITING,
        .priority = lane_priority(batch->lane),
        .since_ms = (now_ns - task->since_ns) / NS_PER_MS,
        .bypasses = runs ? 0 : op_core_bypasses(task->core, task),
    };
}

/* Those of a list that name resources; their number. */
static size_t describe_list(const struct op_task *task, uint64_t now_ns, struct batch_line *rows, size_t cap)
{
    size_t n = 0;
    for (; task && n < cap; task = task->newer)
        if (task->shares)
            describe_batch(task, now_ns, &rows[n++]);
    return n;
}

int delivery_batches_each(struct delivery *d, int (*each)(void *user, const struct spool_op_info *info), void *user)
{
    pthread_mutex_lock(d->lock);
    size_t cap = d->core->running_count + d->core->waiting_count, n = 0;
    struct batch_line *rows = cap > 0 ? calloc(cap, sizeof *rows) : NULL;
    if (rows) {
        n = describe_list(d->core->running.head, mono_ns(), rows, cap);
        n += describe_list(d->core->waiting.head, mono_ns(), rows + n, cap - n);
    }
    pthread_mutex_unlock(d->lock);
    int stop = cap > 0 && !rows ? err_errno(ENOMEM, "batches of sinks") : 0;
    for (size_t i = 0; i < n && stop == 0; i++) {
        rows[i].info.resources = rows[i].resources;
        rows[i].info.waits_for = rows[i].waits_for;
        rows[i].info.holder_name = rows[i].holder_name;
        rows[i].info.sink = rows[i].sink;
        stop = each(user, &rows[i].info);
    }
    free(rows);
    return stop;
}
