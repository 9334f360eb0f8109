/* events.c - what happens to the world: a table. Everything about an event is drawn when the plan is made, from a
 * stream of its own, so that leaving out others does not change it: that is what shrinking needs. */
#include <stdio.h>
#include <string.h>

#include "world.h"

typedef void do_event(const uint64_t args[4]);

static uint32_t proc_of(uint64_t pick)
{
    return pick % 4 == 3 ? 1 : 0;
}

static struct sink_world *any_sink(uint64_t pick)
{
    return &world.sinks[pick % world.sink_count];
}

/* From tens of milliseconds to minutes, more often short. */
static uint64_t timeout_of(uint64_t pick)
{
    static const uint64_t choices[] = {0, 20, 200, 1000, 5000, 5000, 30000, 120000};
    return choices[pick % 8];
}

static uint64_t spread_of(uint64_t pick, uint64_t least_ns, uint64_t most_ns)
{
    struct rng rng = {pick};
    return rng_scale(&rng, least_ns, most_ns);
}

/* ------------------------------------------------------------------------------------------------------ events come */

static uint64_t ttl_of(struct rng *rng)
{
    return rng_below(rng, 10) == 0 ? rng_scale(rng, 1000, 7200000) : 0;
}

static void commit_some(struct rng *rng, int lane, uint64_t count, uint64_t agents)
{
    uint32_t in_block = 0, most = (uint32_t)rng_range(rng, 1, 40);
    for (uint64_t i = 0; i < count && world.event_count < EVENTS_MAX - 100 && world.block_count < BLOCKS_MAX - 8; i++) {
        size_t pad = rng_below(rng, 20) == 0 ? rng_below(rng, 3000) : rng_below(rng, 40);
        uint32_t poison = rng_below(rng, 25) == 0 ? (uint32_t)rng_next(rng) & 15 : 0;
        uint32_t deadly = rng_below(rng, 400) == 0 ? 1u << rng_below(rng, SINKS_MAX) : 0;
        uint32_t number = event_make(lane, (uint32_t)rng_below(rng, agents + 1), ttl_of(rng), pad, poison);
        world.events[number].deadly = deadly;
        if (++in_block == most) {
            disk_commit(lane, in_block);
            in_block = 0;
        }
    }
    if (in_block > 0)
        disk_commit(lane, in_block);
}

static void do_enqueue(const uint64_t args[4])
{
    struct rng rng = {args[0]};
    int lanes = (int)rng_range(&rng, 1, LANES);
    for (int i = 0; i < lanes; i++)
        commit_some(&rng, (int)rng_below(&rng, LANES), rng_scale(&rng, 1, 120), rng_range(&rng, 1, 5));
    trace("%u events are on disk", world.event_count);
    proc_wake_all();
}

/* ----------------------------------------------------------------------------------------------- sinks, store, clock
 */

static void do_mood(const uint64_t args[4])
{
    struct sink_world *sink = any_sink(args[0]);
    sink->mood = mood_at(args[1]);
    sink->mood_until_ns = sched_now() + spread_of(args[2], SEC, 4 * 3600 * SEC);
    trace("%s is %s for %llu s", sink->name, mood_name(sink->mood),
          (unsigned long long)((sink->mood_until_ns - sched_now()) / SEC));
}

static void do_trouble(const uint64_t args[4])
{
    world.trouble = (struct trouble){.until_ns = sched_now() + spread_of(args[0], SEC, 600 * SEC),
                                     .fails = (uint32_t)(args[1] % 5000),
                                     .slow = args[2] % 2 ? (uint32_t)(args[3] % 2000) : 0};
    trace("the store is in trouble");
}

static void do_jump(const uint64_t args[4])
{
    uint64_t ns = spread_of(args[0], MS, 48 * 3600 * SEC);
    world_jump(args[1] % 2 ? (int64_t)ns : -(int64_t)ns);
}

static void do_pause(const uint64_t args[4])
{
    struct sink_world *sink = any_sink(args[0]);
    if (!sink->registered)
        return;
    if (sink->paused_ns > 0)
        oracle_resumed(sink);
    sink->paused_ns = args[1] % 2 && sink->paused_ns == 0 ? sched_now() : 0;
    for (int i = 0; i < PROCS_MAX; i++)
        sink->paused_seen_ns[i] = 0;
    world.control_count++;
    trace("%s is %s", sink->name, sink->paused_ns ? "paused" : "resumed");
    proc_wake_all();
}

static void do_damage(const uint64_t args[4])
{
    struct block *block = world.block_count ? &world.blocks[args[0] % world.block_count] : NULL;
    if (!block || block->gone || block->damaged)
        return;
    bool hole = args[1] % 2;
    fault_count(hole ? FAULT_HOLE : FAULT_DAMAGE);
    *(hole ? &block->gone : &block->damaged) = true;
    for (uint32_t i = 0; i < block->count; i++) {
        struct event *e = event_at(block->lane, block->first_seq + i);
        *(hole ? &e->gone : &e->damaged) = true;
    }
    trace("a block of lane %d is %s", block->lane, hole ? "gone" : "damaged");
}

static void do_requeue(const uint64_t args[4])
{
    struct sink_world *sink = any_sink(args[0]);
    if (sink->registered && disk_requeue(sink) > 0) {
        trace("dead letters of %s are put back", sink->name);
        proc_wake_all();
    }
}

static void do_rewind(const uint64_t args[4])
{
    struct sink_world *sink = any_sink(args[0]);
    if (!sink->registered || sink->checkpoints)
        return;
    disk_rewind(sink);
    trace("%s is rewound", sink->name);
    proc_wake_all();
}

/* --------------------------------------------------------------------------------------------------------- processes
 */

static void do_crash(const uint64_t args[4])
{
    int proc = (int)proc_of(args[0]);
    if (!world.procs[proc].alive)
        return;
    fault_count(FAULT_CRASH);
    sched_kill_after(proc, (uint32_t)(args[1] % 300) + 1);
    proc_wake_all();
}

static void do_boot(const uint64_t args[4])
{
    proc_boot((int)proc_of(args[0]));
}

static void do_stall(const uint64_t args[4])
{
    sched_stall((int)proc_of(args[0]), spread_of(args[1], MS, 30 * SEC));
}

static void do_start(const uint64_t args[4])
{
    proc_call((int)proc_of(args[0]), CALL_START, 0, 0);
}

static void do_stop(const uint64_t args[4])
{
    proc_call((int)proc_of(args[0]), CALL_STOP, 0, timeout_of(args[1]));
    if (args[2] % 4 == 0) /* and another one meanwhile */
        proc_call((int)proc_of(args[0]), CALL_STOP, 0, timeout_of(args[3]));
}

static void do_close(const uint64_t args[4])
{
    proc_call((int)proc_of(args[0]), CALL_CLOSE, 0, timeout_of(args[1]));
}

static void do_add(const uint64_t args[4])
{
    proc_call((int)proc_of(args[0]), CALL_ADD, (uint32_t)(args[1] % SINKS_MAX), 0);
}

static void do_drop(const uint64_t args[4])
{
    proc_call((int)proc_of(args[0]), CALL_DROP, (uint32_t)(args[1] % SINKS_MAX), timeout_of(args[2]));
}

static void do_remove(const uint64_t args[4])
{
    proc_call((int)proc_of(args[0]), CALL_REMOVE, (uint32_t)(args[1] % SINKS_MAX), timeout_of(args[2]));
}

static void do_settle(const uint64_t args[4])
{
    proc_call((int)proc_of(args[0]), CALL_SETTLE, 0, timeout_of(args[1]));
}

static void do_status(const uint64_t args[4])
{
    proc_call((int)proc_of(args[0]), CALL_STATUS, (uint32_t)(args[1] % SINKS_MAX), 0);
}

static void do_keep(const uint64_t args[4])
{
    proc_call((int)proc_of(args[0]), CALL_KEEP, 0, 0);
}

/* ------------------------------------------------------------------------------------------------------------- table
 */

/* A new kind of event is a function and a line here. */
static const struct {
    const char *name;
    uint32_t weight;
    do_event *run;
} kinds[] = {
    {"enqueue", 40, do_enqueue}, {"mood", 24, do_mood},    {"trouble", 5, do_trouble}, {"jump", 4, do_jump},
    {"pause", 5, do_pause},      {"damage", 2, do_damage}, {"requeue", 3, do_requeue}, {"rewind", 1, do_rewind},
    {"crash", 8, do_crash},      {"boot", 14, do_boot},    {"stall", 4, do_stall},     {"start", 8, do_start},
    {"stop", 5, do_stop},        {"close", 3, do_close},   {"add", 4, do_add},         {"drop", 3, do_drop},
    {"remove", 1, do_remove},    {"settle", 4, do_settle}, {"status", 4, do_status},   {"keep", 6, do_keep},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static uint32_t draw_kind(struct rng *rng)
{
    uint32_t all = 0;
    for (size_t i = 0; i < KINDS; i++)
        all += kinds[i].weight;
    uint64_t roll = rng_below(rng, all), upto = 0;
    for (uint32_t i = 0; i < KINDS; i++)
        if (roll < (upto += kinds[i].weight))
            return i;
    return 0;
}

size_t plan_make(struct planned plan[PLAN_MAX])
{
    struct rng *rng = &world.plan_rng;
    size_t n = (size_t)rng_range(rng, 10, PLAN_MAX);
    uint64_t at_ns = 0, gap_ns = rng_scale(rng, 50 * MS, 1800 * SEC);
    for (size_t i = 0; i < n; i++) {
        at_ns += rng_below(rng, 4) == 0 ? rng_below(rng, 5 * MS) : rng_below(rng, gap_ns);
        plan[i] = (struct planned){.at_ns = at_ns, .kind = draw_kind(rng)};
        for (int k = 0; k < 4; k++)
            plan[i].args[k] = rng_next(rng);
    }
    return n;
}

void plan_do(const struct planned *event)
{
    sched_mix(event->kind);
    kinds[event->kind].run(event->args);
}

void plan_print(const struct planned *event, char *text, size_t size)
{
    snprintf(text, size, "%.3f s %s", (double)event->at_ns / 1e9, kinds[event->kind].name);
}
