/* ops_watch.c - the watchdog: a thread that keeps deadlines and timeouts, names what is overdue, and keeps the half
 * time of a stop. It runs no hook, so that no operation can keep it from that. */
#include <errno.h>
#include <stdio.h>

#include "../lib/base/log.h"
#include "ops.h"

/* ---------------------------------------------------------------------------------------------------------- telling */

static void notice(struct ops *ops, const char *text)
{
    pthread_mutex_unlock(ops->lock);
    notify(&ops->reporter, SPOOL_NOTICE_OP_OVERDUE, NULL, NULL, 0, "%s", text);
    pthread_mutex_lock(ops->lock);
}

/* "operation 7 "compact" runs for 30.0 s: holds agent:planner". Leaves the lock while it is told. */
static void tell(struct ops *ops, const struct spool_op *op, uint64_t now_ns, const char *more)
{
    char name[OP_TEXT_MAX], state[OP_TEXT_MAX], text[OP_TEXT_MAX];
    op_tell_name(op, name);
    op_tell_state(op, state);
    const char *does = op->task.phase == OP_RUNNING ? "runs" : "waits";
    snprintf(text, sizeof text, "%.160s %s for %.3f s%s: it %.240s", name, does,
             (double)(now_ns - op->task.since_ns) / 1e9, more, state);
    notice(ops, text);
}

/* -------------------------------------------------------------------------------------------------------------- due */

/* It keeps its resources until it returns, but not a worker's place. */
static void overrun(struct ops *ops, struct spool_op *op, uint64_t now_ns)
{
    ops_end(op, SPOOL_ETIMEOUT);
    if (!op->overran && ops->core->workers < ops->workers + OPS_EXTRA_THREADS_MAX) {
        op->overran = true;
        ops->core->workers++;
    }
    ops_dispatch(ops); /* its cancel does not wait for whoever hears of it */
    tell(ops, op, now_ns, ", longer than its timeout, and is cancelled");
}

static bool handle_due(struct ops *ops, uint64_t now_ns)
{
    enum op_due due;
    struct op_task *task = op_core_due(ops->core, now_ns, &due);
    if (!task)
        return false;
    struct spool_op *op = op_of(task);
    if (due == OP_DUE_DEADLINE)
        ops_end(op, SPOOL_ETIMEOUT);
    else if (due == OP_DUE_TIMEOUT)
        overrun(ops, op, now_ns);
    else
        tell(ops, op, now_ns, atomic_load(&op->ending) ? ", and was cancelled" : "");
    return true;
}

void ops_end_waiting(struct ops *ops, bool drain_too)
{
    for (struct spool_op *op = ops->live; op; op = op->next)
        if (op->task.phase == OP_WAITING && (drain_too || !(op->flags & SPOOL_OP_DRAIN)))
            ops_end(op, SPOOL_ESTOPPED);
}

void ops_cancel_all(struct ops *ops)
{
    ops->cancel_at_ns = DEADLINE_NEVER;
    for (struct spool_op *op = ops->live; op; op = op->next)
        ops_end(op, SPOOL_ESTOPPED);
}

/* ------------------------------------------------------------------------------------------------------------- loop */

static uint64_t next_look(const struct ops *ops)
{
    uint64_t at_ns = op_core_next_due(ops->core);
    if (ops->cancel_at_ns < at_ns)
        at_ns = ops->cancel_at_ns;
    uint64_t again_ns = ops->starting ? deadline_in_ms(OPS_THREAD_AGAIN_MS) : DEADLINE_NEVER;
    return again_ns < at_ns ? again_ns : at_ns;
}

void ops_watch(struct ops *ops)
{
    while (!ops->exiting) {
        uint64_t now_ns = mono_ns();
        while (handle_due(ops, now_ns)) {
        }
        if (ops->cancel_at_ns <= now_ns)
            ops_cancel_all(ops);
        ops_dispatch(ops);
        ops->watch_until_ns = next_look(ops);
        if (!ops->exiting)
            cond_wait_until(&ops->watch, ops->lock, ops->watch_until_ns);
        ops->watch_until_ns = 0;
    }
}
