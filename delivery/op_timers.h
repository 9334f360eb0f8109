/* op_timers.h - tasks by when something is due: a binary heap, the earliest at the top. A task is in it once or not. */
#ifndef DELIVERY_OP_TIMERS_H
#define DELIVERY_OP_TIMERS_H

#include <stddef.h>
#include <stdint.h>

struct op_task;

struct op_timers {
    struct op_task **heap;
    size_t count, cap;
};

/* Makes room for `count` tasks, so that setting a timer cannot fail. ENOMEM. */
int op_timers_reserve(struct op_timers *timers, size_t count);
/* Sets, moves or (DEADLINE_NEVER) removes the timer of a task. */
void op_timers_set(struct op_timers *timers, struct op_task *task, uint64_t due_ns);
/* When the first one is due; DEADLINE_NEVER if none is. */
uint64_t op_timers_next(const struct op_timers *timers);
void op_timers_free(struct op_timers *timers);

#endif
