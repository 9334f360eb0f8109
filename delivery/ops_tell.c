/* ops_tell.c - what operations are doing, in words. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ops.h"

/* ------------------------------------------------------------------------------------------------------------ texts */

static void put(char text[OP_TEXT_MAX], const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(char text[OP_TEXT_MAX], const char *format, ...)
{
    size_t size = strlen(text);
    va_list args;
    va_start(args, format);
    vsnprintf(text + size, OP_TEXT_MAX - size, format, args);
    va_end(args);
}

void op_tell_name(const struct spool_op *op, char text[OP_TEXT_MAX])
{
    *text = '\0';
    put(text, "operation %llu", (unsigned long long)op->task.ticket);
    if (*op->name)
        put(text, " \"%s\"", op->name);
}

void op_tell_needs(const struct spool_op *op, char text[OP_TEXT_MAX])
{
    *text = '\0';
    for (uint32_t i = 0; i < op->task.need_count; i++) {
        put(text, "%s%s", i > 0 ? ", " : "", op->needs[i].resource->name);
        if (op->needs[i].amount > 0)
            put(text, " (%u shared)", op->needs[i].amount);
    }
}

static void tell_block(const struct spool_op *op, char text[OP_TEXT_MAX])
{
    struct op_block block;
    op_core_explain(&op->ops->core, &op->task, &block);
    if (!block.resource) {
        put(text, "waits for a thread");
        return;
    }
    put(text, "waits for %s", block.resource->name);
    if (!block.holder)
        return;
    char holder[OP_TEXT_MAX];
    op_tell_name(op_of(block.holder), holder);
    put(text, ", %s %s", block.holder->phase == OP_RUNNING ? "held by" : "reserved for", holder);
}

void op_tell_state(const struct spool_op *op, char text[OP_TEXT_MAX])
{
    *text = '\0';
    if (op->over || op->task.phase == OP_IDLE) {
        put(text, "is over");
    } else if (op->task.phase == OP_WAITING) {
        tell_block(op, text);
    } else {
        char needs[OP_TEXT_MAX];
        op_tell_needs(op, needs);
        put(text, "%s%s", *needs ? "holds " : "holds nothing", needs);
    }
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
    op_core_explain(&op->ops->core, &op->task, &block);
    snprintf(row->waits_for, sizeof row->waits_for, "%s", block.resource ? block.resource->name : "a thread");
    if (!block.holder)
        return;
    row->info.holder = block.holder->ticket;
    memcpy(row->holder_name, op_of(block.holder)->name, sizeof row->holder_name);
}

static void fill(const struct spool_op *op, uint64_t now_ns, struct row *row)
{
    uint64_t since_ns = op->task.since_ns < now_ns ? op->task.since_ns : now_ns;
    memset(row, 0, sizeof *row);
    row->info = (struct spool_op_info){
        .size = sizeof row->info,
        .id = op->task.ticket,
        .name = op->name, /* constant while it is referred to */
        .state = state_of(op),
        .priority = op->priority,
        .since_ms = (now_ns - since_ns) / NS_PER_MS,
        .resources = row->resources,
        .waits_for = row->waits_for,
        .holder_name = row->holder_name,
    };
    op_tell_needs(op, row->resources);
    if (op->task.phase != OP_WAITING)
        return;
    row->info.bypasses = op_core_bypasses(&op->ops->core, &op->task);
    fill_block(op, row);
}

/* The next one after `op`, which may be over by now. */
static struct spool_op *after(const struct ops *ops, const struct spool_op *op)
{
    if (!op->over)
        return op->next;
    struct spool_op *at = ops->live;
    while (at && at->task.ticket < op->task.ticket)
        at = at->next;
    return at;
}

/* The one at hand is referred to, so that its callback runs without the lock. */
int ops_each(struct ops *ops, int (*each)(void *user, const struct spool_op_info *info), void *user)
{
    int stop = 0;
    pthread_mutex_lock(&ops->lock);
    for (struct spool_op *op = ops->live, *next; op && !stop; op = next) {
        struct row row;
        fill(op, mono_ns(), &row);
        atomic_fetch_add(&op->refs, 1);
        pthread_mutex_unlock(&ops->lock);
        stop = each(user, &row.info);
        pthread_mutex_lock(&ops->lock);
        next = after(ops, op);
        op_unref(op); /* the caller's hold on the spool is left, so it is not the last of `ops` */
    }
    pthread_mutex_unlock(&ops->lock);
    return stop;
}
