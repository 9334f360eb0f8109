/* ops.c - operations and their pool: made, taken in, freed. */
#include "ops.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/base/error.h"
#include "../lib/base/utf8.h"

/* -------------------------------------------------------------------------------------------------- made and freed */

static int init_sync(struct ops *ops)
{
    int err = cond_init(&ops->work);
    if (err == 0)
        err = cond_init(&ops->watch);
    if (err == 0)
        err = cond_init(&ops->over);
    return err == 0 ? SPOOL_OK : err_errno(err, "operations");
}

/* Something is free that operations may wait for. */
static void look_again(void *user)
{
    ops_dispatch(user);
}

static void take_core(struct ops *ops, const struct ops_options *options)
{
    ops->lock = &ops->scheduler->lock;
    ops->core = &ops->scheduler->operations;
    pthread_mutex_lock(ops->lock);
    ops->core->workers = options->workers;
    ops->core->bypasses_max = options->bypasses_max;
    ops->core->name = op_name_task;
    ops->core->freed = look_again;
    ops->core->user = ops;
    pthread_mutex_unlock(ops->lock);
}

int ops_new(const struct ops_options *options, struct ops **ret)
{
    if (options->workers < 1 || options->workers > 64 || options->bypasses_max < 1)
        return err_set(SPOOL_EINVAL, "op_workers is %u: 1 to 64; op_bypasses_max is %u: 1 or more", options->workers,
                       options->bypasses_max);
    struct ops *ops = calloc(1, sizeof *ops);
    if (!ops)
        return err_errno(ENOMEM, "operations");
    int code = init_sync(ops);
    if (code == SPOOL_OK && options->scheduler)
        ops->scheduler = scheduler_ref(options->scheduler);
    else if (code == SPOOL_OK)
        code = scheduler_new(&ops->scheduler);
    if (code != SPOOL_OK) {
        free(ops);
        return code;
    }
    atomic_init(&ops->refs, 1);
    ops->fork_generation = fork_generation();
    ops->workers = options->workers;
    ops->reporter = options->reporter;
    ops->cancel_at_ns = DEADLINE_NEVER;
    take_core(ops, options);
    *ret = ops;
    return SPOOL_OK;
}

void ops_unref(struct ops *ops)
{
    if (atomic_fetch_sub(&ops->refs, 1) != 1)
        return;
    if (ops->fork_generation == fork_generation()) { /* a child would wait for threads that are not there */
        pthread_mutex_lock(ops->lock);
        ops->core->freed = NULL;
        pthread_mutex_unlock(ops->lock);
        pthread_cond_destroy(&ops->work);
        pthread_cond_destroy(&ops->watch);
        pthread_cond_destroy(&ops->over);
    }
    scheduler_unref(ops->scheduler);
    free(ops);
}

void ops_free(struct ops *ops)
{
    if (ops)
        ops_unref(ops);
}

void op_unref(struct spool_op *op)
{
    if (atomic_fetch_sub(&op->refs, 1) != 1)
        return;
    struct ops *ops = op->ops;
    free(op);
    ops_unref(ops);
}

/* The threads did not come along. Handles that the child still has keep what they need, until they are freed. A lock
 * that was held at the fork stays so, and what it guards may be half-way: then it is left alone. */
void ops_abandon(struct ops *ops)
{
    if (!ops)
        return;
    if (pthread_mutex_trylock(ops->lock) == 0) {
        for (struct ops_thread *thread = ops->threads, *next; thread; thread = next) {
            next = thread->next;
            free(thread);
            ops_unref(ops);
        }
        for (struct spool_op *op = ops->live, *next; op; op = next) {
            next = op->next;
            op_unref(op);
        }
        pthread_mutex_unlock(ops->lock);
    }
    ops_unref(ops);
}

/* ---------------------------------------------------------------------------------------------------------- checked */

static int check_text(const char *what, const char *text, size_t least, size_t most)
{
    size_t size = text ? strnlen(text, most + 1) : 0;
    if (size < least || size > most)
        return err_set(SPOOL_EINVAL, "%s has %s bytes: %zu to %zu are needed", what,
                       size < least ? "too few" : "too many", least, most);
    if (size > 0 && !utf8_is_plain_text(text, size))
        return err_set(SPOOL_EUTF8, "%s is not valid UTF-8, or holds a control character", what);
    return SPOOL_OK;
}

static int check_resource(const struct spool_op_resource *resources, size_t i)
{
    const struct spool_op_resource *r = &resources[i];
    int code = check_text("the name of a resource", r->name, 1, SPOOL_OP_RESOURCE_MAX);
    if (code != SPOOL_OK)
        return err_prefix(code, "resource %zu of the operation", i);
    if ((unsigned)r->mode > SPOOL_OP_SHARED)
        return err_set(SPOOL_EINVAL, "resource %s: its mode %d is none of enum spool_op_mode", r->name, (int)r->mode);
    if (r->mode == SPOOL_OP_EXCLUSIVE && r->amount != 0)
        return err_set(SPOOL_EINVAL, "resource %s: amount is %u, but exclusive is all of it: leave it 0, or share",
                       r->name, r->amount);
    for (size_t j = 0; j < i; j++)
        if (strcmp(resources[j].name, r->name) == 0)
            return err_set(SPOOL_EINVAL, "resource %s is named twice: name it once, with all that is needed", r->name);
    return SPOOL_OK;
}

static int check(const struct spool_op_options *o)
{
    int code = SPOOL_OK;
    if (!o->run)
        return err_set(SPOOL_EINVAL, "the operation has no run function");
    if ((unsigned)o->priority >= SPOOL_PRIORITIES)
        return err_set(SPOOL_EINVAL, "priority is %d, which is none of enum spool_priority", (int)o->priority);
    if (o->flags & ~SPOOL_OP_DRAIN)
        return err_set(SPOOL_EOPTION, "flags has the unknown bits 0x%x", o->flags & ~SPOOL_OP_DRAIN);
    if (o->resource_count > SPOOL_OP_RESOURCES_MAX || (o->resource_count > 0 && !o->resources))
        return err_set(SPOOL_EINVAL, "resource_count is %zu: at most %d, and resources must be there",
                       o->resource_count, SPOOL_OP_RESOURCES_MAX);
    code = check_text("the name of the operation", o->name, 0, SPOOL_OP_NAME_MAX);
    for (size_t i = 0; i < o->resource_count && code == SPOOL_OK; i++)
        code = check_resource(o->resources, i);
    return code;
}

/* --------------------------------------------------------------------------------------------------------- taken in */

static uint64_t span_ns(uint32_t ms)
{
    return ms ? ms * NS_PER_MS : DEADLINE_NEVER;
}

static uint32_t rank_of(enum spool_priority priority)
{
    for (int lane = 0; lane < LANES; lane++)
        if (lane_priority(lane) == priority)
            return (uint32_t)lane;
    return LANES - 1;
}
_Static_assert((int)OP_RANKS == (int)LANES, "a rank per priority");

static struct spool_op *make(struct ops *ops, const struct spool_op_options *o, uint64_t now_ns)
{
    struct spool_op *op = calloc(1, sizeof *op + o->resource_count * sizeof *op->needs);
    if (!op)
        return NULL;
    atomic_init(&op->refs, 1);
    op->ops = ops;
    op->run = o->run;
    op->cancel = o->cancel;
    op->done = o->done;
    op->user = o->user;
    op->flags = o->flags;
    op->priority = o->priority;
    if (o->name)
        memcpy(op->name, o->name, strlen(o->name));
    op->task = (struct op_task){
        .needs = op->needs,
        .rank = rank_of(o->priority),
        .deadline_ns = o->deadline_ms ? now_ns + o->deadline_ms * NS_PER_MS : DEADLINE_NEVER,
        .timeout_ns = span_ns(o->timeout_ms),
        .overdue_ns = span_ns(o->overdue_ms ? o->overdue_ms : SPOOL_OP_OVERDUE_MS),
    };
    atomic_fetch_add(&ops->refs, 1);
    return op;
}

/* With the lock held, as the rest here. What was held so far is let go by its caller. */
static int hold_needs(struct spool_op *op, const struct spool_op_options *o)
{
    int code = SPOOL_OK;
    for (size_t i = 0; i < o->resource_count && code == SPOOL_OK; i++) {
        code = op_core_hold(op->ops->core, o->resources[i].name, &op->needs[i].resource);
        if (code != SPOOL_OK)
            break;
        uint32_t shared = o->resources[i].amount ? o->resources[i].amount : 1;
        op->needs[i].amount = o->resources[i].mode == SPOOL_OP_SHARED ? shared : 0;
        op->task.need_count++;
    }
    return code;
}

static void link_live(struct ops *ops, struct spool_op *op)
{
    op->prev = ops->live_tail;
    *(ops->live_tail ? &ops->live_tail->next : &ops->live) = op;
    ops->live_tail = op;
    ops->live_count++;
}

static int take(struct ops *ops, struct spool_op *op, const struct spool_op_options *o, uint64_t now_ns)
{
    if (ops->stopping)
        return err_set(SPOOL_ESTOPPED, "the spool was stopped: no operation is taken until spool_start()");
    if (ops->live_count >= SPOOL_OPS_MAX)
        return err_set(SPOOL_EFULL, "%u operations wait or run already: submit this one when some have ended",
                       SPOOL_OPS_MAX);
    int code = ops_start_threads(ops);
    if (code == SPOOL_OK)
        code = hold_needs(op, o);
    if (code == SPOOL_OK)
        code = op_core_submit(ops->core, &op->task, now_ns);
    if (code == SPOOL_OK) {
        op->id = ++ops->ids;
        link_live(ops, op);
        return SPOOL_OK;
    }
    for (uint32_t i = 0; i < op->task.need_count; i++)
        op_core_let_go(ops->core, op->needs[i].resource);
    return code;
}

int ops_submit(struct ops *ops, const struct spool_op_options *options, struct spool_op **ret)
{
    int code = check(options);
    if (code != SPOOL_OK)
        return code;
    uint64_t now_ns = mono_ns();
    struct spool_op *op = make(ops, options, now_ns);
    if (!op)
        return err_errno(ENOMEM, "operation %s", options->name ? options->name : "");
    pthread_mutex_lock(ops->lock);
    code = take(ops, op, options, now_ns);
    if (code == SPOOL_OK) {
        atomic_fetch_add(&op->refs, ret ? 1 : 0); /* before a thread may end it */
        ops_dispatch(ops);
    }
    pthread_mutex_unlock(ops->lock);
    if (code != SPOOL_OK)
        op_unref(op);
    else if (ret)
        *ret = op;
    return code;
}

int ops_set_capacity(struct ops *ops, const char *resource, uint32_t capacity)
{
    int code = check_text("the name of a resource", resource, 1, SPOOL_OP_RESOURCE_MAX);
    if (code != SPOOL_OK)
        return code;
    pthread_mutex_lock(ops->lock);
    code = op_core_set_capacity(ops->core, resource, capacity ? capacity : UINT32_MAX);
    ops_dispatch(ops);
    pthread_mutex_unlock(ops->lock);
    return code;
}
