/* op_core.c - waiting, granting, ageing. The names of resources are in op_names.c.
 *
 * Counting who was overtaken how often would cost a look at every waiting task per grant. But whatever overtakes a task
 * overtakes all older ones too, so that counts never rise from old to new: each task keeps only by how much the next
 * older one's count is at least larger (`passed` of it and all newer ones add up to its count), and the aged ones are
 * the beginning of the row. One grant then changes two numbers. */
#include "op_core.h"

#include <string.h>

#include "../lib/base/error.h"
#include "../lib/base/sync.h"

void op_core_init(struct op_core *core, uint32_t workers, uint32_t bypasses_max)
{
    *core = (struct op_core){.workers = workers, .bypasses_max = bypasses_max};
}

/* ----------------------------------------------------------------------------------------------------------- lists */

static void list_append(struct op_list *list, struct op_task *task)
{
    task->older = list->tail;
    task->newer = NULL;
    *(list->tail ? &list->tail->newer : &list->head) = task;
    list->tail = task;
}

static void list_remove(struct op_list *list, struct op_task *task)
{
    *(task->older ? &task->older->newer : &list->head) = task->newer;
    *(task->newer ? &task->newer->older : &list->tail) = task->older;
    task->older = task->newer = NULL;
}

static void rank_append(struct op_list *list, struct op_task *task)
{
    task->ahead = list->tail;
    task->behind = NULL;
    *(list->tail ? &list->tail->behind : &list->head) = task;
    list->tail = task;
}

static void rank_remove(struct op_list *list, struct op_task *task)
{
    *(task->ahead ? &task->ahead->behind : &list->head) = task->behind;
    *(task->behind ? &task->behind->ahead : &list->tail) = task->ahead;
    task->ahead = task->behind = NULL;
}

/* ---------------------------------------------------------------------------------------------------------- fitting */

/* What aged ones ahead have reserved in this pass. */
static uint64_t reserved(const struct op_core *core, const struct op_resource *r)
{
    return r->pass == core->pass ? r->reserved : 0;
}

static bool need_fits(const struct op_core *core, const struct op_need *need)
{
    const struct op_resource *r = need->resource;
    if (r->whole || (r->pass == core->pass && r->reserved_whole))
        return false;
    uint64_t taken = r->used + reserved(core, r);
    if (need->amount == 0)
        return taken == 0;
    return r->capacity == UINT32_MAX || taken + need->amount <= r->capacity;
}

static bool fits(const struct op_core *core, const struct op_task *task)
{
    for (uint32_t i = 0; i < task->need_count; i++)
        if (!need_fits(core, &task->needs[i]))
            return false;
    return true;
}

static void reserve(const struct op_core *core, const struct op_task *task)
{
    for (uint32_t i = 0; i < task->need_count; i++) {
        struct op_resource *r = task->needs[i].resource;
        if (r->pass != core->pass) {
            r->pass = core->pass;
            r->reserved = 0;
            r->reserved_whole = false;
        }
        r->reserved += task->needs[i].amount;
        r->reserved_whole |= task->needs[i].amount == 0;
    }
}

static void occupy(const struct op_task *task)
{
    for (uint32_t i = 0; i < task->need_count; i++) {
        task->needs[i].resource->used += task->needs[i].amount;
        task->needs[i].resource->whole |= task->needs[i].amount == 0;
    }
}

static void vacate(const struct op_task *task)
{
    for (uint32_t i = 0; i < task->need_count; i++) {
        task->needs[i].resource->used -= task->needs[i].amount;
        if (task->needs[i].amount == 0)
            task->needs[i].resource->whole = false;
    }
}

/* ----------------------------------------------------------------------------------------------------------- timers */

static uint64_t after(uint64_t now_ns, uint64_t span_ns)
{
    return span_ns >= DEADLINE_NEVER - now_ns ? DEADLINE_NEVER : now_ns + span_ns;
}

static void set_timer(struct op_core *core, struct op_task *task)
{
    uint64_t due_ns = task->phase == OP_WAITING ? task->deadline_ns : task->timeout_at_ns;
    op_timers_set(&core->timers, task, task->overdue_at_ns < due_ns ? task->overdue_at_ns : due_ns);
}

static void enter(struct op_core *core, struct op_task *task, enum op_phase phase, uint64_t now_ns)
{
    task->phase = phase;
    task->since_ns = now_ns;
    task->timeout_at_ns = DEADLINE_NEVER;
    task->overdue_at_ns = after(now_ns, task->overdue_ns);
    set_timer(core, task);
}

static void leave(struct op_core *core, struct op_task *task)
{
    task->phase = OP_IDLE;
    op_timers_set(&core->timers, task, DEADLINE_NEVER);
}

/* ----------------------------------------------------------------------------------------------------------- ageing */

static void count_bypass(struct op_core *core, const struct op_task *granted)
{
    if (granted->older)
        granted->older->passed++;
    if (core->young && core->young->ticket < granted->ticket)
        core->young_bypasses++;
}

/* The next newer one's count is this one's without what overtook only this one and older ones. */
static void step_young(struct op_core *core)
{
    core->young_bypasses -= core->young->passed;
    core->young = core->young->newer;
}

static void age(struct op_core *core)
{
    while (core->young && core->young_bypasses >= core->bypasses_max) {
        core->young->aged = true;
        rank_remove(&core->rank[core->young->rank], core->young);
        step_young(core);
    }
}

/* Takes it out of the row; what overtook it overtook the older ones. */
static void unqueue(struct op_core *core, struct op_task *task)
{
    if (core->young == task)
        step_young(core);
    if (task->older)
        task->older->passed += task->passed;
    if (!task->aged)
        rank_remove(&core->rank[task->rank], task);
    list_remove(&core->waiting, task);
    core->waiting_count--;
}

uint64_t op_core_bypasses(const struct op_core *core, const struct op_task *task)
{
    uint64_t bypasses = 0;
    for (const struct op_task *t = core->waiting.tail; t && t->ticket >= task->ticket; t = t->older)
        bypasses += t->passed;
    return bypasses;
}

/* --------------------------------------------------------------------------------------------------- the way of one */

static int check_amounts(const struct op_task *task)
{
    for (uint32_t i = 0; i < task->need_count; i++) {
        const struct op_resource *r = task->needs[i].resource;
        if (task->needs[i].amount > r->capacity)
            return err_set(SPOOL_EINVAL, "%u of %s are wanted, which has only %u: it would wait for ever",
                           task->needs[i].amount, r->name, r->capacity);
    }
    return SPOOL_OK;
}

static bool has_timer(const struct op_task *task)
{
    return task->deadline_ns != DEADLINE_NEVER || task->timeout_ns != DEADLINE_NEVER ||
           task->overdue_ns != DEADLINE_NEVER;
}

int op_core_submit(struct op_core *core, struct op_task *task, uint64_t now_ns)
{
    int code = check_amounts(task);
    if (code == SPOOL_OK && has_timer(task))
        code = op_timers_reserve(&core->timers, (size_t)core->waiting_count + core->running_count + 1);
    if (code != SPOOL_OK)
        return code;
    task->ticket = ++core->tickets;
    task->aged = false;
    task->passed = 0;
    list_append(&core->waiting, task);
    rank_append(&core->rank[task->rank], task);
    core->waiting_count++;
    if (!core->young) {
        core->young = task;
        core->young_bypasses = 0;
    }
    enter(core, task, OP_WAITING, now_ns);
    core->settled = core->settled && !fits(core, task); /* the reservations are of the pass that settled it */
    return SPOOL_OK;
}

/* One whose deadline has passed does not begin, even if that was not told yet. */
static struct op_task *find_grantable(struct op_core *core, uint64_t now_ns)
{
    core->pass++;
    for (struct op_task *task = core->waiting.head; task != core->young; task = task->newer) {
        if (task->deadline_ns > now_ns && fits(core, task))
            return task;
        reserve(core, task);
    }
    for (uint32_t rank = 0; rank < OP_RANKS; rank++)
        for (struct op_task *task = core->rank[rank].head; task; task = task->behind)
            if (task->deadline_ns > now_ns && fits(core, task))
                return task;
    return NULL;
}

/* Whom to grant next, or NULL. */
static struct op_task *next_one(struct op_core *core, uint64_t now_ns)
{
    if (core->settled || core->running_count >= core->workers)
        return NULL;
    struct op_task *task = find_grantable(core, now_ns);
    core->settled = !task;
    return task;
}

bool op_core_has_next(struct op_core *core, uint64_t now_ns)
{
    return next_one(core, now_ns) != NULL;
}

struct op_task *op_core_grant(struct op_core *core, uint64_t now_ns)
{
    struct op_task *task = next_one(core, now_ns);
    if (!task)
        return NULL;
    count_bypass(core, task);
    unqueue(core, task);
    age(core);
    list_append(&core->running, task);
    core->running_count++;
    occupy(task);
    enter(core, task, OP_RUNNING, now_ns);
    return task;
}

void op_core_begin(struct op_core *core, struct op_task *task, uint64_t now_ns)
{
    enter(core, task, OP_RUNNING, now_ns);
    task->timeout_at_ns = after(now_ns, task->timeout_ns);
    set_timer(core, task);
}

void op_core_complete(struct op_core *core, struct op_task *task)
{
    vacate(task);
    list_remove(&core->running, task);
    core->running_count--;
    core->settled = false;
    leave(core, task);
}

void op_core_withdraw(struct op_core *core, struct op_task *task)
{
    unqueue(core, task);
    core->settled = core->settled && !task->aged; /* nothing waits for one that is not aged */
    leave(core, task);
}

/* ------------------------------------------------------------------------------------------------------------- time */

uint64_t op_core_next_due(const struct op_core *core)
{
    return op_timers_next(&core->timers);
}

static enum op_due what_is_due(struct op_core *core, struct op_task *task, uint64_t now_ns)
{
    if (task->phase == OP_WAITING && task->deadline_ns <= now_ns) {
        op_core_withdraw(core, task);
        return OP_DUE_DEADLINE;
    }
    enum op_due due = OP_DUE_OVERDUE;
    if (task->phase == OP_RUNNING && task->timeout_at_ns <= now_ns) {
        task->timeout_at_ns = DEADLINE_NEVER;
        due = OP_DUE_TIMEOUT;
    } else {
        task->overdue_at_ns = after(now_ns, now_ns - task->since_ns + 1); /* twice as long */
    }
    set_timer(core, task);
    return due;
}

struct op_task *op_core_due(struct op_core *core, uint64_t now_ns, enum op_due *ret)
{
    if (op_core_next_due(core) > now_ns)
        return NULL;
    struct op_task *task = core->timers.heap[0];
    *ret = what_is_due(core, task, now_ns);
    return task;
}

/* ------------------------------------------------------------------------------------------------------ explanation */

static bool names(const struct op_task *task, const struct op_resource *resource)
{
    for (uint32_t i = 0; i < task->need_count; i++)
        if (task->needs[i].resource == resource)
            return true;
    return false;
}

static const struct op_task *first_of(const struct op_task *from, const struct op_task *until,
                                      const struct op_resource *r)
{
    while (from && from != until && !names(from, r))
        from = from->newer;
    return from == until ? NULL : from;
}

void op_core_explain(struct op_core *core, const struct op_task *task, struct op_block *ret)
{
    *ret = (struct op_block){0};
    core->pass++;
    core->settled = false; /* its pass is no longer the last */
    for (const struct op_task *t = core->waiting.head; t != core->young && t->ticket < task->ticket; t = t->newer)
        reserve(core, t);
    for (uint32_t i = 0; i < task->need_count && !ret->resource; i++)
        if (!need_fits(core, &task->needs[i]))
            ret->resource = task->needs[i].resource;
    if (!ret->resource)
        return;
    ret->holder = first_of(core->running.head, NULL, ret->resource);
    if (!ret->holder)
        ret->holder = first_of(core->waiting.head, task, ret->resource);
}
