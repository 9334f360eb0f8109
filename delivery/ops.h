/* ops.h - what the threads that run operations share. Private to delivery/ops*.c.
 *
 *   workers     run the hooks of operations: run, cancel and done                      (ops_work.c)
 *   watchdog    deadlines, timeouts, naming what is overdue, the half time of a stop; runs no hook  (ops_watch.c)
 *
 * One mutex, the scheduler's, guards everything here that does not say otherwise. It is never held over a hook. Threads,
 * operations and the spool each count as one who needs `ops`: an operation that hangs keeps what it needs.
 *
 * The life of an operation:   waiting -> ready -> begun -> returned -> over        (op_core.h: waiting, running, idle)
 *                                 \-----> ending (never begun) ------> over
 * `queue` has those for which a worker is to come: ready ones, and those with a cancel or the done of an ending one
 * due; the latter go first. */
#ifndef DELIVERY_OPS_H
#define DELIVERY_OPS_H

#include <pthread.h>
#include <stdatomic.h>

#include "../lib/base/sync.h"
#include "delivery.h"
#include "op_core.h"
#include "scheduler.h"

enum {
    OPS_EXTRA_THREADS_MAX = 64, /* beyond options.workers: for cancel and done, and in place of those that overran */
    OPS_THREAD_AGAIN_MS = 100,  /* after a thread could not be started */
    OP_TEXT_MAX = 512,
};

struct spool_op {
    atomic_uint refs; /* the handle's, and one until it is over */
    struct ops *ops;  /* counted; constant, as are the next ones */
    int (*run)(struct spool_op *op, void *user);
    void (*cancel)(struct spool_op *op, void *user);
    void (*done)(struct spool_op *op, void *user, int result);
    void *user;
    uint32_t flags;
    enum spool_priority priority;
    char name[SPOOL_OP_NAME_MAX + 1];

    uint64_t id; /* from 1; constant once it is submitted */
    struct op_task task;
    struct spool_op *prev, *next; /* in ops.live, by id */
    struct spool_op *next_job;
    bool queued;
    bool begun, returned;        /* run */
    bool cancel_due, cancelling; /* cancel is to be called; is being called */
    bool overran;                /* does not count among the workers any more */
    bool hung;                   /* was given up at a stop */
    bool over;
    int result;        /* of run; from `over` on, of the operation */
    atomic_int ending; /* why it was cancelled, 0: it was not; written with the lock */
    uint32_t waiters;
    struct op_need needs[];
};

struct op_queue {
    struct spool_op *head, *tail;
};

struct ops_thread {
    struct ops_thread *next;
    struct ops *ops; /* counted */
    pthread_t thread;
    bool watchdog;
    bool exited;
    bool abandoned;      /* nobody joins it: it ends when there is nothing to do */
    struct spool_op *at; /* whose hook it runs */
};

struct ops {
    atomic_uint refs;
    uint32_t fork_generation; /* constant, as are the next two */
    uint32_t workers;
    struct reporter reporter;
    struct scheduler *scheduler; /* counted; constant, as are the next two, which are its */
    pthread_mutex_t *lock;
    struct op_core *core;
    uint64_t ids;                      /* given so far */
    struct spool_op *live, *live_tail; /* not over */
    uint32_t live_count, hung_count;
    struct op_queue hooks, ready;
    uint32_t queued; /* in both */
    uint32_t coming; /* workers outside of hooks: each looks at the queues before it sleeps or ends */
    bool starting;   /* a thread is wanted and could not be started */
    struct ops_thread *threads;
    uint32_t thread_count;   /* workers, abandoned ones too */
    bool watched;            /* the watchdog runs */
    bool stopping;           /* nothing new is taken; until ops_start() */
    bool exiting;            /* threads are to end when there is nothing to do */
    bool joining;            /* a thread is in ops_stop() */
    uint64_t cancel_at_ns;   /* while stopping: the half time; DEADLINE_NEVER once it was */
    uint64_t watch_until_ns; /* until when the watchdog sleeps */
    pthread_cond_t work;     /* workers: something is queued, or exiting */
    pthread_cond_t watch;    /* the watchdog: something is due before watch_until_ns */
    pthread_cond_t over;     /* whoever waits for an operation or for a stop */
};

/* ops.c */
static inline struct spool_op *op_of(const struct op_task *task)
{
    return (struct spool_op *)((char *)task - offsetof(struct spool_op, task));
}
void ops_unref(struct ops *ops);    /* without the lock, or not the last */
void op_unref(struct spool_op *op); /* likewise */

/* ops_work.c. All with the lock held. */
int ops_start_threads(struct ops *ops);     /* the first worker and the watchdog, if they aren't there */
void ops_dispatch(struct ops *ops);         /* grants what may run, and sees to it that threads come */
void ops_end(struct spool_op *op, int why); /* cancels: it never begins, or its cancel is called */

/* ops_watch.c */
void ops_watch(struct ops *ops);                       /* the watchdog's body, with the lock held */
void ops_end_waiting(struct ops *ops, bool drain_too); /* with SPOOL_ESTOPPED; with the lock held */
void ops_cancel_all(struct ops *ops);                  /* likewise, running ones too */

/* ops_tell.c. With the lock held; texts are cut at OP_TEXT_MAX. */
void op_tell_name(const struct spool_op *op, char text[OP_TEXT_MAX]);   /* operation 7 "compact" */
void op_tell_state(const struct spool_op *op, char text[OP_TEXT_MAX]);  /* waits for gpu, held by operation 3 "train" */
void op_name_task(const struct op_task *task, char *text, size_t size); /* the first, of a task of operations */

#endif
