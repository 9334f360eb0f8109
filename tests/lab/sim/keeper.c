/* keeper.c - the keeper of a process at its work for sinks that nobody serves: the library's own spool/limits_sinks.c, on
 * the store of the simulation. It is elected for a sink, looks again, drops what is too much, and lets go. */
#include <stddef.h>

#include "../../../lib/base/log.h"
#include "../../../spool/limits_sinks.h"
#include "world.h"

/* Which coroutine of each process is at it; 0: none. */
static uint64_t keepers[PROCS_MAX];

bool keeper_is_running(void)
{
    return co_self() != 0 && keepers[co_proc()] == co_self();
}

void keeper_died(int proc)
{
    keepers[proc] = 0; /* its number is given to another thread */
}

void keeper_turn(struct proc *p)
{
    if (keepers[p->index] && co_is_alive(keepers[p->index]))
        return; /* one thread does it */
    keepers[p->index] = co_self();
    limits_of_sinks(&p->store);
    keepers[p->index] = 0;
}

/* --------------------------------------------------------------------------------------------- what it asks the store */

int limits_sink_each(struct store *store, int (*each)(void *user, const struct store_sink *sink), void *user)
{
    struct store_sink *sink = arena_get(ARENA_WORLD, sizeof *sink);
    int code = SPOOL_OK;
    for (uint32_t i = 0; i < world.sink_count && code == SPOOL_OK; i++) {
        code = limits_sink_get(store, world.sinks[i].name, sink);
        if (code == SPOOL_OK)
            code = each(user, sink);
        else if (code == SPOOL_ENOTFOUND)
            code = SPOOL_OK;
    }
    arena_put(sink);
    return code;
}

int limits_sink_get(struct store *store, const char *name, struct store_sink *ret)
{
    int code = store_call(store, "limits_sink_get", 100 * US, sched_now() + 100 * MS);
    struct sink_world *sink = disk_sink_named(name);
    if (code != SPOOL_OK)
        return code;
    if (!sink->registered)
        return SPOOL_ENOTFOUND;
    *ret = sink->disk;
    return SPOOL_OK;
}

int limits_sink_drop(struct store *store, const char *name, const uint64_t upto[LANES])
{
    int code = store_call(store, "limits_sink_drop", 10 * MS, sched_now() + 100 * MS);
    struct sink_world *sink = disk_sink_named(name);
    if (code != SPOOL_OK)
        return code;
    if (!sink->registered)
        return SPOOL_ENOTFOUND;
    uint64_t dropped = disk_drop_below(sink, upto);
    trace("process %d drops %llu events of %s, which nobody serves", store->proc, (unsigned long long)dropped, name);
    world.control_count++;
    proc_wake_all();
    return SPOOL_OK;
}

const struct reporter *limits_reporter(const struct store *store)
{
    static const struct reporter silent;
    (void)store;
    return &silent;
}
