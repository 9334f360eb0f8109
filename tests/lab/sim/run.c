/* run.c - one run: a world is drawn from the seed, its plan is carried out, then everything is healed and must come to
 * rest with every account settled. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "world.h"

static const uint64_t wall_begin_ns = 1800000000ull * SEC; /* some day in 2027 */

struct world world;
static const struct run_options *run_now;
static struct planned plan[PLAN_MAX];
static size_t plan_count;

/* --------------------------------------------------------------------------------------------------- trace, violation
 */

void trace(const char *format, ...)
{
    if (!world.tracing)
        return;
    va_list args;
    va_start(args, format);
    printf("%14.6f %-15s ", (double)(sched_now() - 1000 * SEC) / 1e9, co_name());
    vprintf(format, args);
    printf("\n");
    va_end(args);
}

bool violated(void)
{
    return world.failed;
}

/* Does not return to a coroutine. */
void violation(const char *rule, const char *format, ...)
{
    va_list args;
    if (!world.failed) {
        world.failed = true;
        snprintf(world.rule, sizeof world.rule, "%s", rule);
        va_start(args, format);
        vsnprintf(world.message, sizeof world.message, format, args);
        va_end(args);
        trace("VIOLATION of %s: %s", world.rule, world.message);
        sched_print();
    }
    while (co_self())
        co_wait(NULL, NEVER, "nothing: the run is over", false);
}

const char *control_name(enum control control)
{
    static const char *const names[] = {
#define SIM_CONTROL_TEXT(name, text, what) text,
        SIM_CONTROLS(SIM_CONTROL_TEXT)
#undef SIM_CONTROL_TEXT
    };
    return names[control];
}

const char *control_what(enum control control)
{
    static const char *const whats[] = {
#define SIM_CONTROL_WHAT(name, text, what) what,
        SIM_CONTROLS(SIM_CONTROL_WHAT)
#undef SIM_CONTROL_WHAT
    };
    return whats[control];
}

/* -------------------------------------------------------------------------------------------------------- wall clock
 */

uint64_t world_wall_ns(void)
{
    uint64_t wall = (uint64_t)((int64_t)(wall_begin_ns + sched_now()) + world.wall_offset_ns);
    if (wall > world.wall_max_ns)
        world.wall_max_ns = wall;
    return wall;
}

void world_jump(int64_t ns)
{
    world.wall_offset_ns += ns;
    world.jumps++;
    world.jumped_ns = sched_now();
    world_wall_ns();
    fault_count(FAULT_JUMP);
    trace("the wall clock jumps by %.3f s", (double)ns / 1e9);
}

/* ------------------------------------------------------------------------------------------------------- the world */

static void draw_limits(struct rng *rng, struct spool_sink_options *o)
{
    if (rng_below(rng, 2))
        o->max_attempts = (uint32_t)rng_range(rng, 1, 8);
    if (rng_below(rng, 4) == 0)
        o->max_age_ms = rng_scale(rng, 1000, 24 * 3600000);
    if (rng_below(rng, 3) == 0)
        o->retry_rows_max = (uint32_t)rng_range(rng, 1, 40);
    if (rng_below(rng, 6) == 0)
        o->retry_bytes_max = rng_range(rng, 200, 20000);
}

static void draw_sink(struct rng *rng, struct sink_world *sink, uint32_t number)
{
    static const enum spool_order orders[] = {SPOOL_ORDER_NONE, SPOOL_ORDER_NONE, SPOOL_ORDER_AGENT, SPOOL_ORDER_LANE};
    snprintf(sink->name, sizeof sink->name, "s%u", number);
    sink->checkpoints = rng_below(rng, 4) == 0;
    sink->owner = PROC_NONE;
    sink->mood = mood_good();
    far_hooks(sink->checkpoints, &sink->hooks);
    struct spool_sink_options *o = &sink->options;
    *o = SPOOL_SINK_OPTIONS(.user = sink, .order = orders[rng_below(rng, 4)]);
    o->workers = (uint32_t)rng_range(rng, 1, 4);
    o->batch_events_max = (uint32_t)rng_scale(rng, 1, 256);
    o->batch_bytes_max = rng_below(rng, 2) ? 1 << 20 : (uint32_t)rng_range(rng, 100, 8000);
    o->timeout_ms = (uint32_t)rng_scale(rng, 50, 60000);
    o->retry_base_ms = (uint32_t)rng_scale(rng, 10, 2000);
    o->retry_cap_ms = o->retry_base_ms + (uint32_t)rng_scale(rng, 100, 300000);
    o->breaker_failures = rng_below(rng, 3) == 0 ? (uint32_t)rng_range(rng, 1, 4) : 1;
    o->probe_events = (uint32_t)rng_scale(rng, 1, 32);
    o->probes = (uint32_t)rng_range(rng, 1, 3);
    o->max_crashes = (uint32_t)rng_range(rng, 1, 4);
    draw_limits(rng, o);
}

/* From a stream of its own: what else a seed draws stays as it is. A quorum only without an order: when its members
 * disagree about an event, those behind it may have theirs first. */
static void draw_group(struct rng *rng, struct sink_world *sink)
{
    uint64_t kind = rng_below(rng, 8);
    uint32_t members = (uint32_t)rng_range(rng, 2, 4), accept = (uint32_t)rng_range(rng, 2, members);
    if (kind > 1 || sink->checkpoints)
        return;
    sink->member_count = members;
    sink->accept = kind == 0 || sink->options.order != SPOOL_ORDER_NONE ? 1 : accept;
}

/* Likewise. Different for each sink, so that the store knows whose they are. */
static void draw_pending_limits(struct rng *rng, struct sink_world *sink, uint32_t number)
{
    uint64_t kind = rng_below(rng, 8), bytes = rng_scale(rng, 500, 100000), age_ms = rng_scale(rng, 1000, 7200000);
    if (kind == 0 || kind == 2)
        sink->options.max_pending_bytes = bytes * SINKS_MAX + number;
    if (kind == 1 || kind == 2)
        sink->options.max_pending_age_ms = age_ms * SINKS_MAX + number;
}

/* Likewise. A resource that some sinks need for themselves: never two of them deliver at once in a process. Another with
 * room for two. */
static void draw_resources(struct rng *rng, struct sink_world *sink)
{
    static const char *const resources[] = {"one", "one, two*1", "two*1", "two*2"};
    uint64_t kind = rng_below(rng, 12);
    sink->options.resources = kind < 4 ? resources[kind] : NULL;
}

/* Likewise. One that stops some agents, and a while that batches wait for more. */
static void draw_filter(struct rng *rng, struct sink_world *sink)
{
    static const char *const filters[] = {
        NULL,
        "{\"exclude\":{\"agent\":\"agent-1\"}}",
        "{\"exclude\":{\"agent\":[\"agent-1\",\"agent-2\"]}}",
        "{\"exclude\":{\"agent\":[\"agent-1\",\"agent-2\",\"agent-3\"]}}",
    };
    uint64_t kind = rng_below(rng, 8), linger_ms = rng_scale(rng, 1, 1000);
    sink->agents_stopped = kind < 4 ? (uint32_t)kind : 0;
    sink->options.filter = filters[sink->agents_stopped];
    sink->options.linger_ms = rng_below(rng, 4) == 0 ? (uint32_t)linger_ms : 0;
}

static void draw_world(const struct run_options *options)
{
    memset(&world, 0, sizeof world);
    arena_reset(ARENA_WORLD);
    world.seed = options->seed;
    world.control = options->control;
    world.tracing = options->trace;
    world.fault_rng = rng_make(options->seed, 2);
    world.plan_rng = rng_make(options->seed, 3);
    struct rng rng = rng_make(options->seed, 4);
    world.sink_count = (uint32_t)rng_range(&rng, 1, SINKS_MAX);
    world.workers = (uint32_t)rng_range(&rng, 1, 4);
    world.part_rows = rng_below(&rng, 2) ? 1000 : (uint32_t)rng_scale(&rng, 1, 100);
    world.lost_wakes = rng_below(&rng, 2) ? 300 : 0;
    world.threads_fail = rng_below(&rng, 4) == 0 ? 300 : 0;
    world.memory_fails = rng_below(&rng, 8) == 0 ? (uint32_t)rng_scale(&rng, 1, 100) : 0;
    for (uint32_t i = 0; i < world.sink_count; i++)
        draw_sink(&rng, &world.sinks[i], i);
    struct rng groups = rng_make(options->seed, 6);
    for (uint32_t i = 0; i < world.sink_count; i++)
        draw_group(&groups, &world.sinks[i]);
    struct rng limits = rng_make(options->seed, 7);
    for (uint32_t i = 0; i < world.sink_count; i++)
        draw_pending_limits(&limits, &world.sinks[i], i);
    struct rng resources = rng_make(options->seed, 8);
    for (uint32_t i = 0; i < world.sink_count; i++)
        draw_resources(&resources, &world.sinks[i]);
    struct rng filters = rng_make(options->seed, 9);
    for (uint32_t i = 0; i < world.sink_count; i++)
        draw_filter(&filters, &world.sinks[i]);
    plan_count = plan_make(plan);
}

static struct sched_options draw_sched(const struct run_options *options)
{
    static const uint32_t switches[] = {10000, 5000, 2000, 500};
    struct rng rng = rng_make(options->seed, 5);
    return (struct sched_options){
        .seed = options->seed,
        .by_priority = rng_below(&rng, 3) == 0,
        .switches = switches[rng_below(&rng, 4)],
        .spurious = rng_below(&rng, 2) ? (uint32_t)rng_scale(&rng, 1, 200) : 0,
        .late = rng_below(&rng, 4) == 0 ? (uint32_t)rng_scale(&rng, 1, 300) : 0,
        .step_max_ns = rng_below(&rng, 8) == 0 ? 50 * US : 2 * US,
        .trace = options->trace,
    };
}

/* ---------------------------------------------------------------------------------------------------------- healing */

static uint64_t longest_wait_ns(void)
{
    uint64_t ms = 600000; /* what a sink may ask for */
    for (uint32_t i = 0; i < world.sink_count; i++)
        if (world.sinks[i].options.retry_cap_ms > ms)
            ms = world.sinks[i].options.retry_cap_ms;
    return ms * MS;
}

static void heal_outside(void)
{
    world.healing = true;
    world.lost_wakes = world.threads_fail = world.memory_fails = 0;
    sched_quiet();
    world.wall_offset_ns += (int64_t)(world.wall_max_ns - world_wall_ns());
    world.jumps++;
    for (uint32_t i = 0; i < world.sink_count; i++) {
        struct sink_world *sink = &world.sinks[i];
        sink->paused_ns = 0;
        oracle_resumed(sink);
        sink->mood = mood_good();
    }
    world.control_count++;
    sched_wake_everybody();
    trace("everything is healed");
}

static void wait_for_calls(int proc)
{
    uint64_t until_ns = sched_now() + 600 * SEC;
    while (world.procs[proc].alive && !proc_is_idle(proc) && sched_now() < until_ns)
        co_sleep(SEC);
    if (world.procs[proc].alive && !proc_is_idle(proc))
        violation("liveness", "a call of process %d does not return after all is healed", proc);
}

/* Process 0 serves everything again; the other one ends or helps. */
static void heal_processes(void)
{
    co_sleep(2 * SEC);
    wait_for_calls(0);
    wait_for_calls(1);
    if (world.seed % 2 && world.procs[1].alive) {
        sched_kill(1);
        co_sleep(MS);
    }
    if (world.procs[0].alive && !world.procs[0].open) {
        sched_kill(0);
        co_sleep(MS);
    }
    proc_boot(0);
    wait_for_calls(0);
    for (int proc = 0; proc < PROCS_MAX; proc++) {
        if (!world.procs[proc].open)
            continue;
        for (int twice = 0; twice < 2; twice++) { /* one that hung when it was dropped is let go of after the start */
            for (uint32_t i = 0; i < world.sink_count; i++)
                proc_call(proc, CALL_ADD, i, 0);
            wait_for_calls(proc);
            proc_call(proc, CALL_START, 0, 0);
            wait_for_calls(proc);
        }
    }
}

static void last_events(void)
{
    for (int lane = 0; lane < LANES; lane++) {
        event_make(lane, 1, 0, 0, 0);
        disk_commit(lane, 1);
    }
    proc_wake_all();
}

static void wait_until_quiet(void)
{
    uint64_t jumped_ns = world.jumps > 1 ? 25 * 3600 * SEC : 0; /* a clock set back may delay a stored retry by a day */
    uint64_t until_ns = sched_now() + 2 * longest_wait_ns() + 120 * SEC + jumped_ns;
    for (uint32_t i = 0; i < world.sink_count;) {
        const struct sink_world *sink = &world.sinks[i];
        uint32_t number;
        if (!sink->registered || oracle_is_quiet(sink, &number)) {
            i++;
            continue;
        }
        if (sched_now() > until_ns) {
            violation("liveness", "%s has not done with event %u, long after all is healed", sink->name, number);
            return;
        }
        co_sleep(SEC);
    }
}

/* A last stop, with all the time there is. */
static void end_in_order(int proc)
{
    if (!world.procs[proc].open)
        return;
    proc_call(proc, CALL_CLOSE, 0, 60000);
    for (int i = 0; i < 100 && world.procs[proc].alive; i++)
        co_sleep(SEC);
    if (world.procs[proc].alive)
        violation("liveness", "process %d cannot be closed although all is healed", proc);
}

static void live(void *arg)
{
    (void)arg;
    uint64_t begin_ns = sched_now();
    proc_boot(0);
    for (size_t i = 0; i < plan_count; i++) {
        if (run_now->skip && run_now->skip[i])
            continue;
        if (sched_now() < begin_ns + plan[i].at_ns)
            co_sleep(begin_ns + plan[i].at_ns - sched_now());
        char text[64];
        plan_print(&plan[i], text, sizeof text);
        trace("%zu: %s", i, text);
        plan_do(&plan[i]);
    }
    heal_outside();
    heal_processes();
    last_events();
    wait_until_quiet();
    for (int proc = 0; proc < PROCS_MAX; proc++)
        end_in_order(proc);
    oracle_final();
    sched_end();
}

void run_one(const struct run_options *options, struct run_result *ret)
{
    run_now = options;
    struct sched_options sched = draw_sched(options);
    draw_world(options);
    sched_begin(&sched);
    co_start(PROC_NONE, "world", live, NULL);
    sched_run();
    *ret = (struct run_result){
        .failed = world.failed,
        .hash = sched_hash(),
        .steps = sched_steps(),
        .events = world.event_count,
        .deliveries = world.accepted,
        .virtual_ns = sched_now() - 1000 * SEC,
        .plan_count = plan_count,
    };
    memcpy(ret->rule, world.rule, sizeof ret->rule);
    memcpy(ret->message, world.message, sizeof ret->message);
    memcpy(ret->faults, sched_faults(), sizeof ret->faults);
    for (int proc = 0; proc < PROCS_MAX; proc++)
        arena_reset(proc);
}
