/* ops_end.c - waiting for operations, cancelling them, and stopping all of them in time, whatever they do. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "../lib/base/error.h"
#include "../lib/base/log.h"
#include "ops.h"
#include "stop_plan.h"

static int check_handle(const struct spool_op *op)
{
    if (!op)
        return err_set(SPOOL_EINVAL, "the operation is NULL");
    if (op->ops->fork_generation != fork_generation())
        return err_set(SPOOL_EFORKED, "the operation belongs to the parent process");
    return SPOOL_OK;
}

/* ---------------------------------------------------------------------------------------------------------- handles */

/* Says who would wait for whom, and who holds what. */
static int refuse_wait(const struct spool_op *op)
{
    const struct op_task *self = scheduler_current();
    char name[OP_TEXT_MAX] = "a thread of the library", holds[OP_TEXT_MAX] = "", awaited[OP_TEXT_MAX],
         state[OP_TEXT_MAX];
    pthread_mutex_lock(op->ops->lock);
    op_tell_name(op, awaited);
    op_tell_state(op, state);
    if (self && self->core->table == op->ops->core->table) {
        op_core_name(self, name, sizeof name);
        scheduler_tell_needs(self, holds, sizeof holds);
    }
    pthread_mutex_unlock(op->ops->lock);
    return err_set(SPOOL_EDEADLK,
                   "%.100s%s%.80s%s would wait for %.100s, which %.120s: use done, or submit what follows", name,
                   *holds ? " (holds " : "", holds, *holds ? ")" : "", awaited, state);
}

static int wait_over(struct spool_op *op, uint64_t deadline_ns)
{
    struct ops *ops = op->ops;
    int err = 0;
    op->waiters++;
    while (!op->over && !op->hung && err == 0)
        err = cond_wait_until(&ops->over, ops->lock, deadline_ns);
    op->waiters--;
    if (op->over)
        return SPOOL_OK;
    char name[OP_TEXT_MAX], state[OP_TEXT_MAX];
    op_tell_name(op, name);
    if (op->hung)
        return err_set(SPOOL_ESTOPPED, "%.160s did not return when the spool was stopped", name);
    op_tell_state(op, state);
    return err_set(SPOOL_ETIMEOUT, "%.160s is not over yet: it %.300s", name, state);
}

int op_wait(struct spool_op *op, uint64_t deadline_ns, int *ret_result)
{
    int code = check_handle(op);
    if (code != SPOOL_OK)
        return code;
    if (thread_is_ours())
        return refuse_wait(op);
    pthread_mutex_lock(op->ops->lock);
    code = wait_over(op, deadline_ns);
    if (code == SPOOL_OK && ret_result)
        *ret_result = op->result;
    pthread_mutex_unlock(op->ops->lock);
    return code;
}

int op_cancel(struct spool_op *op)
{
    int code = check_handle(op);
    if (code != SPOOL_OK)
        return code;
    pthread_mutex_lock(op->ops->lock);
    ops_end(op, ECANCELED);
    ops_dispatch(op->ops);
    pthread_mutex_unlock(op->ops->lock);
    return SPOOL_OK;
}

bool op_is_cancelled(const struct spool_op *op)
{
    return op && atomic_load(&op->ending) != 0;
}

uint64_t op_id(const struct spool_op *op)
{
    return op ? op->id : 0; /* constant since it was submitted */
}

void op_free(struct spool_op *op)
{
    if (op)
        op_unref(op);
}

/* --------------------------------------------------------------------------------------------------------- stopping */

static void begin_stop(struct ops *ops, uint64_t deadline_ns)
{
    struct stop_plan plan = stop_plan(deadline_ns);
    if (!ops->stopping || plan.cancel_ns < ops->cancel_at_ns)
        ops->cancel_at_ns = plan.cancel_ns;
    ops->stopping = true;
    ops_end_waiting(ops, false);
    if (plan.cancel_ns <= mono_ns())
        ops_cancel_all(ops);
    ops_dispatch(ops);
    pthread_cond_signal(&ops->watch);
}

void ops_begin_stop(struct ops *ops, uint64_t deadline_ns)
{
    pthread_mutex_lock(ops->lock);
    begin_stop(ops, deadline_ns);
    pthread_mutex_unlock(ops->lock);
}

/* Workers in a hook, and all of them while hooks are due, are left to end by themselves. */
static void abandon(struct ops *ops)
{
    for (struct ops_thread **link = &ops->threads; *link;) {
        struct ops_thread *thread = *link;
        if (thread->watchdog || thread->exited || (!thread->at && ops->queued == 0)) {
            link = &thread->next;
            continue;
        }
        *link = thread->next;
        thread->abandoned = true;
        pthread_detach(thread->thread);
    }
}

/* Marks what is not over; the first one's name. */
static bool hang(struct ops *ops, char name[OP_TEXT_MAX])
{
    bool any = false;
    for (struct spool_op *op = ops->live; op; op = op->next) {
        if (op->hung)
            continue;
        op->hung = true;
        ops->hung_count++;
        if (op->task.phase == OP_RUNNING && !op->overran) {
            op->overran = true; /* after the next start it takes no worker's place */
            ops->core->workers++;
        }
        if (!any)
            op_tell_name(op, name);
        any = true;
    }
    if (any)
        abandon(ops);
    return any;
}

static void join(struct ops *ops)
{
    ops->exiting = true;
    pthread_cond_broadcast(&ops->work);
    pthread_cond_broadcast(&ops->watch);
    pthread_cond_broadcast(&ops->over); /* those who wait for one that hangs */
    while (ops->threads) {
        struct ops_thread *thread = ops->threads;
        ops->threads = thread->next;
        pthread_mutex_unlock(ops->lock);
        pthread_join(thread->thread, NULL);
        pthread_mutex_lock(ops->lock);
        ops->watched &= !thread->watchdog;
        free(thread);
    }
}

static int stop(struct ops *ops, uint64_t deadline_ns)
{
    uint64_t give_up_ns = stop_plan(deadline_ns).give_up_ns;
    if (!ops->stopping)
        begin_stop(ops, deadline_ns);
    ops->joining = true;
    while (ops->live_count > ops->hung_count && cond_wait_until(&ops->over, ops->lock, give_up_ns) == 0) {
    }
    char name[OP_TEXT_MAX];
    bool hung = hang(ops, name);
    join(ops);
    ops->joining = false;
    pthread_cond_broadcast(&ops->over);
    return hung ? err_set(SPOOL_ETIMEOUT, "%.200s did not return in time", name) : SPOOL_OK;
}

int ops_stop(struct ops *ops, uint64_t deadline_ns)
{
    int err = 0;
    if (thread_is_ours())
        return err_set(SPOOL_EDEADLK, "stop from a thread of the library would wait for itself");
    pthread_mutex_lock(ops->lock);
    while (ops->joining && err == 0) /* another thread is at it: its work is ours */
        err = cond_wait_until(&ops->over, ops->lock, deadline_ns);
    int code = err ? err_set(SPOOL_ETIMEOUT, "another stop is still under way") : stop(ops, deadline_ns);
    pthread_mutex_unlock(ops->lock);
    if (code == SPOOL_ETIMEOUT && err == 0) {
        char message[OP_TEXT_MAX];
        snprintf(message, sizeof message, "%s", err_last());
        notify(&ops->reporter, SPOOL_NOTICE_OP_OVERDUE, NULL, NULL, 0,
               "%s, although it was cancelled; it is left alone", message);
        err_set(code, "%s", message);
    }
    return code;
}

int ops_start(struct ops *ops)
{
    pthread_mutex_lock(ops->lock);
    bool busy = ops->stopping && !ops->exiting;
    if (!busy && !ops->joining)
        ops->stopping = ops->exiting = false;
    busy |= ops->joining;
    pthread_mutex_unlock(ops->lock);
    return busy ? err_set(SPOOL_EBUSY, "operations are being stopped: start again afterwards") : SPOOL_OK;
}

bool ops_have_hung(struct ops *ops)
{
    pthread_mutex_lock(ops->lock);
    bool hung = ops->hung_count > 0;
    pthread_mutex_unlock(ops->lock);
    return hung;
}
