/* scheduler.h - who may run when, of batches of sinks and operations of the user: two cores (op_core.h) over one table of
 * resources, under one lock. So a batch may need the same "gpu" as an operation, gets it with its slot and its keys or
 * not at all, and neither starves the other.
 *
 * The lock is that of all of delivery/ and of operations; it is never held over a hook. Counted: a hook that hangs keeps
 * it. */
#ifndef DELIVERY_SCHEDULER_H
#define DELIVERY_SCHEDULER_H

#include <pthread.h>
#include <stdatomic.h>

#include "delivery.h"
#include "op_core.h"

enum { BATCH_BYPASSES_MAX = 16 }; /* batches of other sinks that overtake one, by their lanes */

struct scheduler {
    atomic_uint refs;
    uint32_t fork_generation; /* constant */
    pthread_mutex_t lock;
    struct op_core operations, batches;
};

/* scheduler_new() and scheduler_unref() are in delivery.h; the latter without the lock. */
struct scheduler *scheduler_ref(struct scheduler *scheduler);

/* Whose hook this thread runs, to name it; NULL: none. */
void scheduler_set_current(const struct op_task *task);
const struct op_task *scheduler_current(void);

/* In words, with the lock held; cut at `size`. What it needs or holds: "gpu (2 shared), agent:planner"; what it is doing:
 * "waits for gpu, held by operation 3 "train"", "holds gpu". */
void scheduler_tell_needs(const struct op_task *task, char *text, size_t size);
void scheduler_tell_state(const struct op_task *task, char *text, size_t size);

#endif
