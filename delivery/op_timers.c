/* op_timers.c - a binary heap (Williams 1964) whose members know their place, so that they can be moved and taken out.
 */
#include "op_timers.h"

#include <errno.h>
#include <stdlib.h>

#include "../lib/base/error.h"
#include "../lib/base/sync.h"
#include "op_core.h"

int op_timers_reserve(struct op_timers *timers, size_t count)
{
    if (count <= timers->cap)
        return SPOOL_OK;
    size_t cap = count < 16 ? 16 : count * 2;
    struct op_task **heap = realloc(timers->heap, cap * sizeof(struct op_task *));
    if (!heap)
        return err_errno(ENOMEM, "timers of operations");
    timers->heap = heap;
    timers->cap = cap;
    return SPOOL_OK;
}

static void put(struct op_timers *timers, size_t at, struct op_task *task)
{
    timers->heap[at] = task;
    task->timer = at + 1;
}

static void rise(struct op_timers *timers, size_t at)
{
    struct op_task *task = timers->heap[at];
    for (size_t parent; at > 0 && timers->heap[parent = (at - 1) / 2]->due_ns > task->due_ns; at = parent)
        put(timers, at, timers->heap[parent]);
    put(timers, at, task);
}

static void sink_down(struct op_timers *timers, size_t at)
{
    struct op_task *task = timers->heap[at];
    for (size_t child; (child = 2 * at + 1) < timers->count; at = child) {
        if (child + 1 < timers->count && timers->heap[child + 1]->due_ns < timers->heap[child]->due_ns)
            child++;
        if (timers->heap[child]->due_ns >= task->due_ns)
            break;
        put(timers, at, timers->heap[child]);
    }
    put(timers, at, task);
}

static void take_out(struct op_timers *timers, struct op_task *task)
{
    size_t at = task->timer - 1;
    struct op_task *last = timers->heap[--timers->count];
    task->timer = 0;
    if (last == task)
        return;
    put(timers, at, last);
    rise(timers, at);
    sink_down(timers, last->timer - 1);
}

void op_timers_set(struct op_timers *timers, struct op_task *task, uint64_t due_ns)
{
    if (task->timer > 0)
        take_out(timers, task);
    task->due_ns = due_ns;
    if (due_ns == DEADLINE_NEVER)
        return;
    put(timers, timers->count++, task);
    rise(timers, timers->count - 1);
}

uint64_t op_timers_next(const struct op_timers *timers)
{
    return timers->count > 0 ? timers->heap[0]->due_ns : DEADLINE_NEVER;
}

void op_timers_free(struct op_timers *timers)
{
    free(timers->heap);
    *timers = (struct op_timers){0};
}
