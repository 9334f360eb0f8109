/* proc.c - the simulated processes: what a program does with the library. Each call is a thread of its own, so that
 * they overlap as they may in a program; what they return, and when, is checked here. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../lib/base/error.h"
#include "../../../lib/base/sync.h"
#include "world.h"

struct call_args {
    struct proc *p;
    enum call call;
    struct sink_world *sink;
    uint64_t timeout_ms;
};

/* -------------------------------------------------------------------------------------------------------- wake-ups */

static void notifier(void *arg)
{
    struct proc *p = arg;
    while (!p->closing) {
        if (!p->wake_pending) {
            co_wait(&p->wake_pending, NEVER, "a change of the store", false);
            continue;
        }
        p->wake_pending = false;
        co_sleep(rng_below(&world.fault_rng, 2 * MS) + 1);
        if (p->open && !p->closing)
            delivery_wake(p->delivery);
    }
    p->notifying = false;
    co_wake_all(&p->notifying);
}

void proc_wake_all(void)
{
    for (int i = 0; i < PROCS_MAX; i++) {
        struct proc *p = &world.procs[i];
        if (!p->open)
            continue;
        if (!world.healing && rng_chance(&world.fault_rng, world.lost_wakes)) {
            fault_count(FAULT_LOST_WAKE);
            continue;
        }
        p->wake_pending = true;
        co_wake_all(&p->wake_pending);
    }
}

/* ----------------------------------------------------------------------------------------------------------- calls */

/* How long a call may go on after its deadline: what a few steps and a flush take, and what was stalled meanwhile. */
static void check_time(const char *call, uint64_t since_ns, uint64_t timeout_ms, uint64_t excused_ns)
{
    uint64_t took_ns = sched_now() - since_ns;
    if (took_ns > timeout_ms * MS + 150 * MS + sched_excused_ns() - excused_ns)
        violation("deadline", "%s took %llu ms, %llu were given", call, (unsigned long long)(took_ns / MS),
                  (unsigned long long)timeout_ms);
}

/* The store's waits end with the nearest deadline of a stop. */
static uint64_t *hurry(struct proc *p)
{
    for (int i = 0; i < STOPS_MAX - 1; i++)
        if (p->store.hurry_ns[i] == 0)
            return &p->store.hurry_ns[i];
    return &p->store.hurry_ns[STOPS_MAX - 1];
}

static void note_stopped(struct proc *p)
{
    p->stopped = true;
    p->stopped_ns = sched_now();
    p->stopped_excused_ns = sched_excused_from();
}

static void do_stop(struct proc *p, uint64_t timeout_ms)
{
    uint64_t since_ns = sched_now(), excused_ns = sched_excused_from();
    uint32_t starts = p->starts;
    p->stops++;
    p->started = false;
    uint64_t *hurry_ns = hurry(p);
    *hurry_ns = deadline_in_ms(timeout_ms);
    co_wake_all(&p->store);
    int code = delivery_stop(p->delivery, *hurry_ns);
    *hurry_ns = 0;
    trace("process %d: stop in %llu ms: %s", p->index, (unsigned long long)timeout_ms, code ? err_last() : "ok");
    check_time("stop", since_ns, timeout_ms, excused_ns);
    if (p->starts == starts && !delivery_is_running(p->delivery) && p->starts == starts)
        note_stopped(p);
}

static void do_start(struct proc *p)
{
    p->starts++;
    p->stopped = false;
    p->started = true;
    int code = delivery_start(p->delivery);
    trace("process %d: start: %s", p->index, code ? err_last() : "ok");
    if (code == SPOOL_OK)
        return;
    p->started = false;
    p->start_again = true;
}

static void do_add(struct proc *p, struct sink_world *sink)
{
    sink->served[p->index]++;
    sink->adding[p->index]++;
    int code = delivery_sink_add(p->delivery, sink->name, &sink->hooks, "{}", &sink->options);
    sink->adding[p->index]--;
    trace("process %d: add %s: %s", p->index, sink->name, code ? err_last() : "ok");
    if (code != SPOOL_OK && code != SPOOL_EEXISTS)
        sink->served[p->index]--;
}

static int do_drop(struct proc *p, struct sink_world *sink, uint64_t timeout_ms)
{
    uint64_t since_ns = sched_now(), excused_ns = sched_excused_from();
    uint32_t before = sink->served[p->index], adding = sink->adding[p->index];
    int code = delivery_sink_drop(p->delivery, sink->name, deadline_in_ms(timeout_ms));
    trace("process %d: drop %s in %llu ms: %s", p->index, sink->name, (unsigned long long)timeout_ms,
          code ? err_last() : "ok");
    check_time("drop", since_ns, timeout_ms, excused_ns);
    if (code != SPOOL_OK || adding > 0 || sink->served[p->index] != before)
        return code;
    sink->served[p->index] = 0;
    if (sink->running[p->index] > 0)
        violation("dropped", "%s is dropped, but %u of its hooks still run", sink->name, sink->running[p->index]);
    return code;
}

static void do_remove(struct proc *p, struct sink_world *sink, uint64_t timeout_ms)
{
    if (do_drop(p, sink, timeout_ms) != SPOOL_OK)
        return;
    if (sink->registered && !sink->kept && (sink->owner == PROC_NONE || sink->owner == p->index)) {
        disk_remove(sink);
        trace("%s is removed", sink->name);
        proc_wake_all();
    }
}

static void do_settle(struct proc *p, uint64_t timeout_ms)
{
    uint64_t since_ns = sched_now(), excused_ns = sched_excused_from();
    int code = delivery_settle(p->delivery, deadline_in_ms(timeout_ms));
    trace("process %d: settle: %s", p->index, code ? err_last() : "ok");
    check_time("settle", since_ns, timeout_ms, excused_ns);
}

static void do_status(struct proc *p, const struct sink_world *sink)
{
    struct delivery_sink_status status;
    int code = delivery_sink_status(p->delivery, sink->name, &status);
    if (code != SPOOL_OK && code != SPOOL_ENOTFOUND)
        violation("status", "status of %s: %s", sink->name, err_last());
    if (code == SPOOL_OK && status.state == SPOOL_SINK_DOWN && status.next_try_ms > sink->options.retry_cap_ms)
        violation("backoff", "%s is tried again in %llu ms, the cap is %u", sink->name,
                  (unsigned long long)status.next_try_ms, sink->options.retry_cap_ms);
}

static void no_more_calls(struct proc *p)
{
    p->closing = true;
    co_wake_all(&p->wake_pending);
    while (p->calls > 1)
        co_wait(&p->calls, NEVER, "other calls' end", false);
    while (p->notifying)
        co_wait(&p->notifying, NEVER, "the notifier's end", false);
}

/* As spool_close(): stops, and frees unless a sink hangs. */
static void do_close(struct proc *p, uint64_t timeout_ms)
{
    if (p->closing)
        return;
    no_more_calls(p);
    do_stop(p, timeout_ms);
    if (delivery_is_running(p->delivery) || delivery_has_hung(p->delivery)) {
        p->closing = false;
        p->notifying = true;
        co_start(p->index, "notifier", notifier, p);
        return; /* it stays open, as the library's handle does */
    }
    p->open = false;
    delivery_free(p->delivery);
    hlc_free(p->clock);
    for (int i = 0; i < 100 && sched_count(p->index) > 1; i++)
        co_sleep(100 * MS); /* the canceller may have been given up at a short deadline; it ends by itself */
    p->calls--;
    if (sched_count(p->index) > 1)
        violation("threads", "%zu threads are left after the delivery is freed", sched_count(p->index) - 1);
    if (arena_live(p->index) > 0 && world.memory_fails == 0)
        violation("leak", "%zu pieces of memory are left after the delivery is freed", arena_live(p->index));
    for (uint32_t i = 0; i < world.sink_count; i++)
        if (world.sinks[i].owner == p->index)
            violation("election", "%s is still elected after the delivery is freed", world.sinks[i].name);
    trace("process %d is closed", p->index);
    sched_kill(p->index);
}

static void call_body(void *arg)
{
    struct call_args call = *(struct call_args *)arg;
    struct proc *p = call.p;
    arena_put(arg);
    sched_progress();
    switch (call.call) {
    case CALL_START:
        do_start(p);
        break;
    case CALL_STOP:
        do_stop(p, call.timeout_ms);
        break;
    case CALL_ADD:
        do_add(p, call.sink);
        break;
    case CALL_DROP:
        do_drop(p, call.sink, call.timeout_ms);
        break;
    case CALL_REMOVE:
        do_remove(p, call.sink, call.timeout_ms);
        break;
    case CALL_SETTLE:
        do_settle(p, call.timeout_ms);
        break;
    case CALL_STATUS:
        do_status(p, call.sink);
        break;
    case CALL_KEEP:
        keeper_turn(p);
        break;
    case CALL_CLOSE:
        do_close(p, call.timeout_ms);
        break;
    }
    p->calls--;
    co_wake_all(&p->calls);
}

void proc_call(int proc, enum call call, uint32_t sink, uint64_t timeout_ms)
{
    struct proc *p = &world.procs[proc];
    if (!p->open || p->closing)
        return;
    struct call_args *args = arena_get(ARENA_WORLD, sizeof *args);
    *args = (struct call_args){p, call, &world.sinks[sink % world.sink_count], timeout_ms};
    p->calls++;
    co_start(proc, "call", call_body, args);
}

bool proc_is_idle(int proc)
{
    return world.procs[proc].calls == 0;
}

/* ------------------------------------------------------------------------------------------------------ its life */

static uint64_t physical(void *user)
{
    (void)user;
    return world_wall_ns();
}

static void open_delivery(struct proc *p)
{
    const struct hlc_options clock = {.physical = physical};
    const struct delivery_options options = {
        .workers = world.workers, .clock = NULL, .seed = rng_next(&world.fault_rng) | 1};
    struct delivery_options taken = options;
    p->store = (struct store){.proc = p->index};
    if (hlc_new(&clock, &p->clock) != SPOOL_OK)
        return;
    if (world.event_count > 0) /* as store_open() does */
        hlc_raise(p->clock, &world.events[world.event_count - 1].id);
    taken.clock = p->clock;
    if (delivery_new(&p->store, &taken, &p->delivery) == SPOOL_OK)
        p->open = true;
    else
        hlc_free(p->clock);
}

static void boot_body(void *arg)
{
    struct proc *p = arg;
    open_delivery(p);
    for (uint32_t i = 0; i < world.sink_count && p->open; i++)
        if (world.sinks[i].registered || p->lives == 1)
            do_add(p, &world.sinks[i]);
    if (p->open) {
        p->notifying = true;
        co_start(p->index, "notifier", notifier, p);
        do_start(p);
    }
    p->calls--;
    co_wake_all(&p->calls);
}

void proc_boot(int proc)
{
    struct proc *p = &world.procs[proc];
    if (p->alive)
        return;
    *p = (struct proc){.index = proc, .alive = true, .calls = 1, .lives = p->lives + 1};
    for (uint32_t i = 0; i < world.sink_count; i++)
        world.sinks[i].served[proc] = 0;
    trace("process %d is born", proc);
    co_start(proc, "main", boot_body, p);
}

void proc_died(int proc)
{
    struct proc *p = &world.procs[proc];
    trace("process %d is dead", proc);
    p->alive = p->open = false;
    p->calls = 0;
    keeper_died(proc);
    for (uint32_t i = 0; i < world.sink_count; i++) {
        struct sink_world *sink = &world.sinks[i];
        sink->running[proc] = sink->adding[proc] = 0;
        memset(sink->agents_in_hand[proc], 0, sizeof sink->agents_in_hand[proc]);
        sink->loaded_generation[proc] = 0;
        if (sink->owner != proc)
            continue;
        sink->owner = PROC_NONE;
        sink->kept = false;
        hand_died(&sink->hand);
        for (uint32_t k = 0; k < world.event_count && world.control == CONTROL_LOST_ROW; k++)
            sink->tallies[k].row = NULL;
    }
    arena_reset(proc);
}
