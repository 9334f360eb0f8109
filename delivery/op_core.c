/* op_core.c - waiting, granting, ageing. The names of resources are in op_names.c.
 *
 * Counting who was overtaken how often would cost a look at every waiting task per grant. But whatever overtakes a task
 * overtakes all older ones too, so that counts never rise from old to new: each task keeps only by how much the next
 * older one's count is at least larger (`passed` of it and all newer ones add up to its count), and the aged ones are
 * the beginning of the row. One grant then changes two numbers. */
#include "op_core.h"

#include <stdio.h>

#include "../lib/base/error.h"
#include "../lib/base/sync.h"

void op_core_init(struct op_core *core, uint32_t workers, uint32_t bypasses_max)
{
    *core = (struct op_core){.workers = workers, .bypasses_max = bypasses_max, .table = &core->own_table};
}

void op_core_pair(struct op_core *first, struct op_core *second)
{
    second->table = first->table;
    second->side = 1;
    first->peer = second;
    second->peer = first;
}

void op_core_name(const struct op_task *task, char *text, size_t size)
{
    if (task->core->name)
        task->core->name(task, text, size);
    else
        snprintf(text, size, "operation %llu", (unsigned long long)task->ticket);
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
    return r->pass == core->table->pass ? r->reserved : 0;
}

static bool need_fits(const struct op_core *core, const struct op_need *need)
{
    const struct op_resource *r = need->resource;
    if (r->whole || (r->pass == core->table->pass && r->reserved_whole))
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
        if (r->pass != core->table->pass) {
            r->pass = core->table->pass;
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

static void count_bypass(struct op_core *core, struct op_task *older, uint64_t ticket)
{
    if (older)
        older->passed++;
    if (core->young && core->young->ticket < ticket)
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

/* Does one of the peer's name something that the task takes? */
static bool concerns_peer(const struct op_task *task)
{
    for (uint32_t i = 0; task->shares && i < task->need_count; i++)
        if (!task->needs[i].resource->own && task->needs[i].resource->users[!task->core->side] > 0)
            return true;
    return false;
}

static void unsettle(struct op_core *core)
{
    core->settled = false;
    if (core->freed)
        core->freed(core->user);
}

/* The peer's older tasks are overtaken as well. The way to them is short: newer ones are few while this one is next. */
static void count_bypass_of_peer(const struct op_task *granted)
{
    struct op_core *peer = granted->core->peer;
    if (!concerns_peer(granted))
        return;
    struct op_task *older = peer->waiting.tail;
    while (older && older->ticket > granted->ticket)
        older = older->older;
    const struct op_task *young = peer->young;
    count_bypass(peer, older, granted->ticket);
    age(peer);
    if (peer->young != young)
        unsettle(peer); /* one that aged now is ahead of some for whom something was reserved before */
}

/* Something of the task's is free, or no longer reserved. */
static void tell_peer(const struct op_task *task)
{
    if (concerns_peer(task))
        unsettle(task->core->peer);
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
    core->sharing_count -= task->shares;
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

static bool shares(const struct op_task *task)
{
    for (uint32_t i = 0; i < task->need_count; i++)
        if (!task->needs[i].resource->own)
            return true;
    return false;
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
    task->ticket = ++core->table->tickets;
    task->core = core;
    task->aged = false;
    task->passed = 0;
    task->shares = shares(task);
    core->sharing_count += task->shares;
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

static struct op_task *next_aged(const struct op_core *core, const struct op_task *task)
{
    struct op_task *next = task ? task->newer : core->waiting.head;
    return next == core->young ? NULL : next;
}

/* The aged of both cores in the order of their tickets: the first of this one that can have all it needs; what the
 * others need is reserved. */
static struct op_task *find_aged(struct op_core *core, uint64_t now_ns)
{
    const struct op_core *peer = core->sharing_count > 0 ? core->peer : NULL;
    struct op_task *mine = next_aged(core, NULL), *other = peer ? next_aged(peer, NULL) : NULL;
    while (mine || other) {
        if (!mine || (other && other->ticket < mine->ticket)) {
            reserve(core, other);
            other = next_aged(peer, other);
            continue;
        }
        if (mine->deadline_ns > now_ns && fits(core, mine))
            return mine;
        reserve(core, mine);
        mine = next_aged(core, mine);
    }
    return NULL;
}

/* One whose deadline has passed does not begin, even if that was not told yet. */
static struct op_task *find_grantable(struct op_core *core, uint64_t now_ns)
{
    core->table->pass++;
    struct op_task *aged = find_aged(core, now_ns);
    for (uint32_t rank = 0; rank < OP_RANKS && !aged; rank++)
        for (struct op_task *task = core->rank[rank].head; task; task = task->behind)
            if (task->deadline_ns > now_ns && fits(core, task))
                return task;
    return aged;
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
    count_bypass(core, task->older, task->ticket);
    unqueue(core, task);
    age(core);
    list_append(&core->running, task);
    core->running_count++;
    occupy(task);
    enter(core, task, OP_RUNNING, now_ns);
    count_bypass_of_peer(task);
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
    tell_peer(task);
}

void op_core_withdraw(struct op_core *core, struct op_task *task)
{
    unqueue(core, task);
    core->settled = core->settled && !task->aged; /* nothing waits for one that is not aged */
    leave(core, task);
    if (task->aged)
        tell_peer(task);
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

/* Those that are ahead of the task, in either core. */
static void reserve_ahead(struct op_core *core, const struct op_task *task)
{
    const struct op_core *cores[] = {core, core->peer};
    for (int i = 0; i < 2 && cores[i]; i++)
        for (struct op_task *t = next_aged(cores[i], NULL); t && t->ticket < task->ticket; t = next_aged(cores[i], t))
            reserve(core, t);
}

static const struct op_task *holder_of(const struct op_core *core, const struct op_task *task,
                                       const struct op_resource *r)
{
    const struct op_task *holder = first_of(core->running.head, NULL, r);
    if (!holder && core->peer)
        holder = first_of(core->peer->running.head, NULL, r);
    if (!holder)
        holder = first_of(core->waiting.head, task, r);
    if (!holder && core->peer)
        holder = first_of(core->peer->waiting.head, core->peer->young, r);
    return holder;
}

void op_core_explain(struct op_core *core, const struct op_task *task, struct op_block *ret)
{
    *ret = (struct op_block){0};
    core->table->pass++;
    core->settled = false; /* its pass is no longer the last */
    reserve_ahead(core, task);
    for (uint32_t i = 0; i < task->need_count && !ret->resource; i++)
        if (!need_fits(core, &task->needs[i]))
            ret->resource = task->needs[i].resource;
    if (ret->resource)
        ret->holder = holder_of(core, task, ret->resource);
}
