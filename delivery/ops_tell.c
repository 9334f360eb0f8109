/* ops_tell.c - what operations are doing, in words. */
#include <stdio.h>
#include <string.h>

#include "ops.h"

/* ------------------------------------------------------------------------------------------------------------ texts */

void op_name_task(const struct op_task *task, char *text, size_t size)
{
    const struct spool_op *op = op_of(task);
    if (*op->name)
        snprintf(text, size, "operation %llu \"%s\"", (unsigned long long)op->id, op->name);
    else
        snprintf(text, size, "operation %llu", (unsigned long long)op->id);
}

void op_tell_name(const struct spool_op *op, char text[OP_TEXT_MAX])
{
    op_name_task(&op->task, text, OP_TEXT_MAX);
}

void op_tell_state(const struct spool_op *op, char text[OP_TEXT_MAX])
{
    if (op->over)
        snprintf(text, OP_TEXT_MAX, "is over");
    else
        scheduler_tell_state(&op->task, text, OP_TEXT_MAX);
}

/* ---------------------------------------------------------------------------------------------------------- listing */

struct row {
    struct spool_op_info info;
    char resources[OP_TEXT_MAX], waits_for[SPOOL_OP_RESOURCE_MAX + 1], holder_name[SPOOL_OP_NAME_MAX + 1];
};

static enum spool_op_state state_of(const struct spool_op *op)
{
    if (op->hung)
        return SPOOL_OP_HUNG;
    if (op->task.phase == OP_WAITING)
        return SPOOL_OP_WAITING;
    if (op->task.phase == OP_IDLE)
        return SPOOL_OP_ENDING;
    return atomic_load(&op->ending) ? SPOOL_OP_CANCELLING : SPOOL_OP_RUNNING;
}

static void fill_block(const struct spool_op *op, struct row *row)
{
    struct op_block block;
    op_core_explain(op->ops->core, &op->task, &block);
    snprintf(row->waits_for, sizeof row->waits_for, "%s", block.resource ? block.resource->name : "a thread");
    if (!block.holder)
        return;
    if (block.holder->core != op->ops->core) { /* a batch of a sink */
        op_core_name(block.holder, row->holder_name, sizeof row->holder_name);
        return;
    }
    row->info.holder = op_of(block.holder)->id;
    memcpy(row->holder_name, op_of(block.holder)->name, sizeof row->holder_name);
}

static void fill(const struct spool_op *op, uint64_t now_ns, struct row *row)
{
    uint64_t since_ns = op->task.since_ns < now_ns ? op->task.since_ns : now_ns;
    memset(row, 0, sizeof *row);
    row->info = (struct spool_op_info){
        .size = sizeof row->info,
        .id = op->id,
        .name = op->name, /* constant while it is referred to */
        .state = state_of(op),
        .priority = op->priority,
        .since_ms = (now_ns - since_ns) / NS_PER_MS,
        .resources = row->resources,
        .waits_for = row->waits_for,
        .holder_name = row->holder_name,
    };
    scheduler_tell_needs(&op->task, row->resources, sizeof row->resources);
    if (op->task.phase != OP_WAITING)
        return;
    row->info.bypasses = op_core_bypasses(op->ops->core, &op->task);
    fill_block(op, row);
}

/* The next one after `op`, which may be over by now. */
static struct spool_op *after(const struct ops *ops, const struct spool_op *op)
{
    if (!op->over)
        return op->next;
    struct spool_op *at = ops->live;
    while (at && at->id < op->id)
        at = at->next;
    return at;
}

/* The one at hand is referred to, so that its callback runs without the lock. */
int ops_each(struct ops *ops, int (*each)(void *user, const struct spool_op_info *info), void *user)
{
    int stop = 0;
    pthread_mutex_lock(ops->lock);
    for (struct spool_op *op = ops->live, *next; op && !stop; op = next) {
        struct row row;
        fill(op, mono_ns(), &row);
        atomic_fetch_add(&op->refs, 1);
        pthread_mutex_unlock(ops->lock);
        stop = each(user, &row.info);
        pthread_mutex_lock(ops->lock);
        next = after(ops, op);
        op_unref(op); /* the caller's hold on the spool is left, so it is not the last of `ops` */
    }
    pthread_mutex_unlock(ops->lock);
    return stop;
}
