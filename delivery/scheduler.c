/* scheduler.c - see scheduler.h. */
#include "scheduler.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/base/error.h"
#include "../lib/base/sync.h"

int scheduler_new(struct scheduler **ret)
{
    struct scheduler *s = calloc(1, sizeof *s);
    int err = s ? pthread_mutex_init(&s->lock, NULL) : ENOMEM;
    if (err != 0) {
        free(s);
        return err_errno(err, "scheduler");
    }
    atomic_init(&s->refs, 1);
    s->fork_generation = fork_generation();
    op_core_init(&s->operations, 1, 1);                        /* until there are some */
    op_core_init(&s->batches, UINT32_MAX, BATCH_BYPASSES_MAX); /* the threads themselves are the limit */
    op_core_pair(&s->operations, &s->batches);
    *ret = s;
    return SPOOL_OK;
}

struct scheduler *scheduler_ref(struct scheduler *s)
{
    atomic_fetch_add(&s->refs, 1);
    return s;
}

void scheduler_unref(struct scheduler *s)
{
    if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    op_core_free(&s->batches);
    op_core_free(&s->operations);
    if (s->fork_generation == fork_generation()) /* in a child it may be locked for ever */
        pthread_mutex_destroy(&s->lock);
    free(s);
}

static _Thread_local const struct op_task *current_task;

void scheduler_set_current(const struct op_task *task)
{
    current_task = task;
}

const struct op_task *scheduler_current(void)
{
    return current_task;
}

/* ------------------------------------------------------------------------------------------------------------ texts */

static void append_text(char *text, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void append_text(char *text, size_t size, const char *format, ...)
{
    size_t used = strlen(text);
    va_list args;
    va_start(args, format);
    vsnprintf(text + used, size - used, format, args);
    va_end(args);
}

void scheduler_tell_needs(const struct op_task *task, char *text, size_t size)
{
    *text = '\0';
    for (uint32_t i = 0; i < task->need_count; i++) {
        if (task->needs[i].resource->own)
            continue; /* the sink's own: of no use to anybody else */
        append_text(text, size, "%s%s", *text ? ", " : "", task->needs[i].resource->name);
        if (task->needs[i].amount > 0)
            append_text(text, size, " (%u shared)", task->needs[i].amount);
    }
}

static void tell_block(const struct op_task *task, char *text, size_t size)
{
    struct op_block block;
    op_core_explain(task->core, task, &block);
    if (!block.resource) {
        append_text(text, size, "waits for a thread");
        return;
    }
    append_text(text, size, "waits for %s", block.resource->name);
    if (!block.holder)
        return;
    char holder[256];
    op_core_name(block.holder, holder, sizeof holder);
    append_text(text, size, ", %s %s", block.holder->phase == OP_RUNNING ? "held by" : "reserved for", holder);
}

void scheduler_tell_state(const struct op_task *task, char *text, size_t size)
{
    *text = '\0';
    if (task->phase == OP_IDLE) {
        append_text(text, size, "is over");
    } else if (task->phase == OP_WAITING) {
        tell_block(task, text, size);
    } else {
        char needs[512];
        scheduler_tell_needs(task, needs, sizeof needs);
        append_text(text, size, "%s%s", *needs ? "holds " : "holds nothing", needs);
    }
}
