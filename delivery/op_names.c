/* op_names.c - the resources of the scheduler by name: a hash table. One is there while a task names it or it has a
 * capacity of its own. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/base/error.h"
#include "../lib/base/sync.h"
#include "op_core.h"

static struct op_resource **find(struct op_core *core, const char *name)
{
    uint64_t hash = 0xcbf29ce484222325ull; /* FNV-1a */
    for (const char *p = name; *p; p++)
        hash = (hash ^ (uint8_t)*p) * 0x100000001b3ull;
    struct op_resource **link = &core->table->buckets[hash % OP_BUCKETS];
    while (*link && strcmp((*link)->name, name) != 0)
        link = &(*link)->next;
    return link;
}

int op_resource_new(const char *name, uint32_t capacity, struct op_resource **ret)
{
    size_t size = strlen(name) + 1;
    struct op_resource *made = calloc(1, sizeof *made + size);
    if (!made)
        return err_errno(ENOMEM, "resource %s", name);
    made->capacity = capacity;
    made->own = true;
    memcpy(made->name, name, size);
    *ret = made;
    return SPOOL_OK;
}

void op_resource_free(struct op_resource *resource)
{
    free(resource);
}

int op_core_hold(struct op_core *core, const char *name, struct op_resource **ret)
{
    struct op_resource **link = find(core, name);
    if (!*link) {
        int code = op_resource_new(name, UINT32_MAX, link);
        if (code != SPOOL_OK)
            return code;
        (*link)->own = false;
    }
    (*link)->users[core->side]++;
    *ret = *link;
    return SPOOL_OK;
}

static void drop_unused(struct op_resource **link)
{
    struct op_resource *resource = *link;
    if (resource->users[0] + resource->users[1] > 0 || resource->capacity != UINT32_MAX)
        return;
    *link = resource->next;
    free(resource);
}

void op_core_let_go(struct op_core *core, struct op_resource *resource)
{
    if (--resource->users[core->side] == 0 && core->side == 1)
        resource->least = 0;
    drop_unused(find(core, resource->name));
}

/* The oldest waiting task that wants more of it. */
static const struct op_task *who_wants_more(const struct op_core *core, const struct op_resource *r, uint32_t capacity)
{
    for (const struct op_task *task = core->waiting.head; task; task = task->newer)
        for (uint32_t i = 0; i < task->need_count; i++)
            if (task->needs[i].resource == r && task->needs[i].amount > capacity)
                return task;
    return NULL;
}

int op_resource_demand(struct op_resource *resource, uint32_t amount)
{
    if (amount > resource->capacity)
        return err_set(SPOOL_EINVAL, "%u of %s are wanted, which has only %u", amount, resource->name,
                       resource->capacity);
    resource->least = amount > resource->least ? amount : resource->least;
    return SPOOL_OK;
}

/* Its message says who. */
static int check_wanted(const struct op_core *core, const struct op_resource *resource, uint32_t capacity)
{
    const struct op_task *task = who_wants_more(core, resource, capacity);
    if (!task && core->peer)
        task = who_wants_more(core->peer, resource, capacity);
    if (task) {
        char name[256];
        op_core_name(task, name, sizeof name);
        return err_set(SPOOL_EBUSY, "%.200s waits for more than %u of %.100s: cancel it, or set it later", name,
                       capacity, resource->name);
    }
    if (resource->least > capacity)
        return err_set(SPOOL_EBUSY, "a sink needs %u of %.100s for each batch: set no less", resource->least,
                       resource->name);
    return SPOOL_OK;
}

int op_core_set_capacity(struct op_core *core, const char *name, uint32_t capacity)
{
    struct op_resource *resource;
    int code = op_core_hold(core, name, &resource);
    if (code != SPOOL_OK)
        return code;
    code = check_wanted(core, resource, capacity);
    if (code == SPOOL_OK)
        resource->capacity = capacity;
    core->settled = false;
    op_core_let_go(core, resource);
    if (core->peer)
        core->peer->settled = false;
    if (core->peer && core->peer->freed)
        core->peer->freed(core->peer->user);
    return code;
}

void op_core_free(struct op_core *core)
{
    for (size_t i = 0; i < OP_BUCKETS; i++) {
        for (struct op_resource *r = core->own_table.buckets[i], *next; r; r = next) {
            next = r->next;
            free(r);
        }
        core->own_table.buckets[i] = NULL;
    }
    op_timers_free(&core->timers);
}
