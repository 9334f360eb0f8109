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
    struct op_resource **link = &core->buckets[hash % OP_BUCKETS];
    while (*link && strcmp((*link)->name, name) != 0)
        link = &(*link)->next;
    return link;
}

int op_core_hold(struct op_core *core, const char *name, struct op_resource **ret)
{
    struct op_resource **link = find(core, name);
    if (!*link) {
        size_t size = strlen(name) + 1;
        struct op_resource *made = calloc(1, sizeof *made + size);
        if (!made)
            return err_errno(ENOMEM, "resource %s", name);
        made->capacity = UINT32_MAX;
        memcpy(made->name, name, size);
        *link = made;
    }
    (*link)->users++;
    *ret = *link;
    return SPOOL_OK;
}

static void drop_unused(struct op_resource **link)
{
    struct op_resource *resource = *link;
    if (resource->users > 0 || resource->capacity != UINT32_MAX)
        return;
    *link = resource->next;
    free(resource);
}

void op_core_let_go(struct op_core *core, struct op_resource *resource)
{
    if (--resource->users == 0)
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

int op_core_set_capacity(struct op_core *core, const char *name, uint32_t capacity)
{
    struct op_resource *resource;
    int code = op_core_hold(core, name, &resource);
    if (code != SPOOL_OK)
        return code;
    const struct op_task *task = who_wants_more(core, resource, capacity);
    if (task)
        code = err_set(SPOOL_EBUSY, "operation %llu waits for more than %u of %s: cancel it, or set it later",
                       (unsigned long long)task->ticket, capacity, name);
    else
        resource->capacity = capacity;
    core->settled = false;
    op_core_let_go(core, resource);
    return code;
}

void op_core_free(struct op_core *core)
{
    for (size_t i = 0; i < OP_BUCKETS; i++) {
        for (struct op_resource *r = core->buckets[i], *next; r; r = next) {
            next = r->next;
            free(r);
        }
        core->buckets[i] = NULL;
    }
    op_timers_free(&core->timers);
}
