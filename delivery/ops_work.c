/* ops_work.c - threads that run the hooks of operations. A thread is started only when something is queued for which
 * none would come. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/base/error.h"
#include "ops.h"

/* ----------------------------------------------------------------------------------------------------------- queues */

static void push(struct ops *ops, struct op_queue *queue, struct spool_op *op)
{
    op->next_job = NULL;
    op->queued = true;
    *(queue->tail ? &queue->tail->next_job : &queue->head) = op;
    queue->tail = op;
    ops->queued++;
}

static struct spool_op *pop(struct ops *ops, struct op_queue *queue)
{
    struct spool_op *op = queue->head;
    if (!op)
        return NULL;
    queue->head = op->next_job;
    if (!queue->head)
        queue->tail = NULL;
    op->queued = false;
    ops->queued--;
    return op;
}

/* Its cancel is not called any more. */
static void unqueue_hook(struct ops *ops, struct spool_op *op)
{
    struct spool_op *before = NULL;
    for (struct spool_op *at = ops->hooks.head; at && at != op; at = at->next_job)
        before = at;
    *(before ? &before->next_job : &ops->hooks.head) = op->next_job;
    if (ops->hooks.tail == op)
        ops->hooks.tail = before;
    op->queued = op->cancel_due = false;
    ops->queued--;
}

/* ------------------------------------------------------------------------------------------------------------ hooks */

/* Around every hook: the lock is not held, and it is known who runs it. */
static void enter(struct ops_thread *self, struct spool_op *op)
{
    self->at = op;
    scheduler_set_current(&op->task);
    self->ops->coming--;
    pthread_mutex_unlock(self->ops->lock);
}

static void leave(struct ops_thread *self)
{
    scheduler_set_current(NULL);
    pthread_mutex_lock(self->ops->lock);
    self->at = NULL;
    self->ops->coming++;
}

static int result_of(const struct spool_op *op)
{
    int ending = atomic_load(&op->ending);
    return ending && (!op->begun || op->result != SPOOL_OK) ? ending : op->result;
}

static void unlink_live(struct ops *ops, struct spool_op *op)
{
    *(op->prev ? &op->prev->next : &ops->live) = op->next;
    *(op->next ? &op->next->prev : &ops->live_tail) = op->prev;
    ops->live_count--;
    ops->hung_count -= op->hung;
    ops->core->workers -= op->overran;
}

/* The last hook; then its resources are free, and it is over. */
static void finish(struct ops_thread *self, struct spool_op *op)
{
    struct ops *ops = self->ops;
    op->result = result_of(op);
    if (op->done) {
        enter(self, op);
        op->done(op, op->user, op->result);
        leave(self);
    }
    if (op->task.phase == OP_RUNNING)
        op_core_complete(ops->core, &op->task);
    for (uint32_t i = 0; i < op->task.need_count; i++)
        op_core_let_go(ops->core, op->needs[i].resource);
    unlink_live(ops, op);
    op->over = true;
    if (op->waiters > 0 || ops->joining)
        pthread_cond_broadcast(&ops->over);
    op_unref(op);
    ops_dispatch(ops);
}

static void run(struct ops_thread *self, struct spool_op *op)
{
    if (!atomic_load(&op->ending)) {
        op->begun = true;
        op_core_begin(self->ops->core, &op->task, mono_ns());
        if (op_core_next_due(self->ops->core) < self->ops->watch_until_ns)
            pthread_cond_signal(&self->ops->watch);
        enter(self, op);
        int result = op->run(op, op->user);
        leave(self);
        op->result = result;
    }
    op->returned = true;
    if (op->queued)
        unqueue_hook(self->ops, op);
    if (!op->cancelling) /* else whoever is in its cancel ends it */
        finish(self, op);
}

static void run_hook(struct ops_thread *self, struct spool_op *op)
{
    if (!op->cancel_due) {
        finish(self, op);
        return;
    }
    op->cancel_due = false;
    op->cancelling = true;
    enter(self, op);
    op->cancel(op, op->user);
    leave(self);
    op->cancelling = false;
    if (op->returned)
        finish(self, op);
}

/* ---------------------------------------------------------------------------------------------------------- threads */

static void work(struct ops_thread *self)
{
    struct ops *ops = self->ops;
    for (;;) {
        struct spool_op *hook = pop(ops, &ops->hooks), *ready = hook ? NULL : pop(ops, &ops->ready);
        if (!hook && !ready) {
            if (ops->exiting || self->abandoned)
                return;
            cond_wait_until(&ops->work, ops->lock, DEADLINE_NEVER);
            continue;
        }
        if (hook)
            run_hook(self, hook);
        else
            run(self, ready);
    }
}

static void *thread_body(void *arg)
{
    struct ops_thread *self = arg;
    struct ops *ops = self->ops;
    pthread_mutex_lock(ops->lock);
    if (self->watchdog) {
        ops_watch(ops);
    } else {
        work(self);
        ops->coming--;
        ops->thread_count--;
    }
    self->exited = true;
    bool abandoned = self->abandoned;
    pthread_mutex_unlock(ops->lock);
    if (abandoned)
        free(self); /* nobody else knows it any more */
    ops_unref(ops);
    return NULL;
}

static int start(struct ops *ops, bool watchdog)
{
    struct ops_thread *thread = calloc(1, sizeof *thread);
    if (!thread)
        return err_errno(ENOMEM, "a thread for operations");
    thread->ops = ops;
    thread->watchdog = watchdog;
    atomic_fetch_add(&ops->refs, 1);
    int code = thread_start(&thread->thread, watchdog ? "spool-op-watch" : "spool-op", thread_body, thread);
    if (code != SPOOL_OK) {
        atomic_fetch_sub(&ops->refs, 1); /* not the last */
        free(thread);
        return code;
    }
    thread->next = ops->threads;
    ops->threads = thread;
    ops->watched |= watchdog;
    ops->thread_count += !watchdog;
    ops->coming += !watchdog;
    return SPOOL_OK;
}

int ops_start_threads(struct ops *ops)
{
    int code = ops->watched ? SPOOL_OK : start(ops, true);
    if (code == SPOOL_OK && ops->thread_count == 0)
        code = start(ops, false);
    return code;
}

/* For everything queued a thread comes: one that sleeps, one that is about to look, or a new one. */
static void call_threads(struct ops *ops)
{
    for (uint32_t i = 0; i < ops->queued && i < ops->coming; i++)
        pthread_cond_signal(&ops->work);
    ops->starting = false;
    while (ops->queued > ops->coming && ops->thread_count < ops->workers + OPS_EXTRA_THREADS_MAX && !ops->exiting &&
           !ops->starting)
        ops->starting = start(ops, false) != SPOOL_OK; /* the watchdog tries again */
}

void ops_dispatch(struct ops *ops)
{
    uint64_t now_ns = mono_ns();
    for (struct op_task *task; (task = op_core_grant(ops->core, now_ns)) != NULL;)
        push(ops, &ops->ready, op_of(task));
    if (ops->queued > 0)
        call_threads(ops);
    if (op_core_next_due(ops->core) < ops->watch_until_ns || ops->starting)
        pthread_cond_signal(&ops->watch);
}

/* ----------------------------------------------------------------------------------------------------------- ending */

void ops_end(struct spool_op *op, int why)
{
    struct ops *ops = op->ops;
    if (op->over || op->returned || atomic_load(&op->ending))
        return;
    atomic_store(&op->ending, why);
    if (op->task.phase == OP_WAITING) {
        op_core_withdraw(ops->core, &op->task);
        push(ops, &ops->hooks, op);
    } else if (op->task.phase == OP_IDLE) { /* its deadline passed: the core has withdrawn it */
        push(ops, &ops->hooks, op);
    } else if (op->begun && op->cancel) {
        op->cancel_due = true;
        push(ops, &ops->hooks, op);
    }
}
