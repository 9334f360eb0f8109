/* delivery.c - from enqueue to acknowledged sinks: rates, the age of an event when its sink gets it, sinks side by
 * side, agents whose order is kept. The time of draining counts. */
#include "spooled.h"

struct end_to_end {
    const struct context *context;
    struct spool *spool;
    struct histogram *ages; /* the sink's worker writes, and is stopped before it is read */
};

static struct end_to_end *open_end_to_end(const struct context *context)
{
    struct end_to_end *e = calloc(1, sizeof *e);
    if (!e || !(e->ages = calloc(1, sizeof *e->ages)))
        err(1, "a spool");
    e->context = context;
    e->spool = bench_open(context, &BENCH_OPTIONS(.flags = 0));
    return e;
}

static void add_sink(struct end_to_end *e, unsigned number, const char *kind, const char *config,
                     enum spool_order order)
{
    char name[32];
    snprintf(name, sizeof name, "sink-%u", number);
    ok(spool_sink_load(e->spool, name, kind, config, &SPOOL_SINK_OPTIONS(.order = order)), "spool_sink_load");
}

static void *begin_null(const struct context *context)
{
    struct end_to_end *e = open_end_to_end(context);
    for (uint64_t i = 0; i < context->count; i++)
        add_sink(e, (unsigned)i, "null", NULL, SPOOL_ORDER_NONE);
    ok(spool_start(e->spool), "spool_start");
    return e;
}

static void *open_file(const struct context *context, const char *flush)
{
    struct end_to_end *e = open_end_to_end(context);
    char path[PATH_SIZE], config[PATH_SIZE + 64];
    path_in(context, "events.jsonl", path);
    snprintf(config, sizeof config, "{\"path\":\"%s\",\"flush\":\"%s\"}", path, flush);
    add_sink(e, 0, "file", config, SPOOL_ORDER_NONE);
    ok(spool_start(e->spool), "spool_start");
    return e;
}

static void *begin_file(const struct context *context)
{
    return open_file(context, "checkpoint");
}

static void *begin_file_unflushed(const struct context *context)
{
    return open_file(context, "none");
}

/* A far side that needs a millisecond for each batch. */
static int wait_1_ms(void *state, struct spool_delivery *batch, size_t n)
{
    (void)state;
    clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){.tv_nsec = 1000000}, NULL);
    for (size_t i = 0; i < n; i++)
        SPOOL_DELIVERY_AT(batch, i)->outcome = SPOOL_DELIVERED;
    return 0;
}

static const struct spool_sink waiting = {
    .abi = SPOOL_SINK_ABI, .size = sizeof waiting, .kind = "waiting", .deliver = wait_1_ms};

/* `count` workers; the agents are 1,000. */
static void *begin_waiting(const struct context *context)
{
    struct end_to_end *e = open_end_to_end(context);
    ok(spool_sink_add(e->spool, "waiting", &waiting, NULL,
                      &SPOOL_SINK_OPTIONS(.order = SPOOL_ORDER_AGENT, .workers = (uint32_t)context->count,
                                          .batch_events_max = 100)),
       "spool_sink_add");
    ok(spool_start(e->spool), "spool_start");
    return e;
}

static void *begin_agents(const struct context *context)
{
    struct end_to_end *e = open_end_to_end(context);
    add_sink(e, 0, "null", NULL, SPOOL_ORDER_AGENT);
    ok(spool_start(e->spool), "spool_start");
    return e;
}

static size_t step(void *shared, uint64_t number)
{
    struct spool_event event = bench_event(SPOOL_DURABLE_PROCESS, number);
    ok(spool_enqueue(((struct end_to_end *)shared)->spool, &event, NULL), "spool_enqueue");
    return 1;
}

static size_t step_agent(struct end_to_end *e, uint64_t number, uint64_t agents)
{
    char agent[32];
    snprintf(agent, sizeof agent, "agent-%u", (unsigned)(number % agents));
    struct spool_event event = bench_event(SPOOL_DURABLE_PROCESS, number);
    event.agent = agent;
    ok(spool_enqueue(e->spool, &event, NULL), "spool_enqueue");
    return 1;
}

static size_t step_agents(void *shared, uint64_t number)
{
    struct end_to_end *e = shared;
    return step_agent(e, number, e->context->count);
}

static size_t step_thousand_agents(void *shared, uint64_t number)
{
    return step_agent(shared, number, 1000);
}

static void drain(void *shared)
{
    ok(spool_drain(((struct end_to_end *)shared)->spool, 120000), "spool_drain");
}

static void end(void *shared, struct outcome *outcome)
{
    struct end_to_end *e = shared;
    figure(outcome, "anonymous_bytes", status_bytes("RssAnon"));
    ok(spool_close(e->spool), "spool_close");
    if (e->ages->count) {
        figure(outcome, "age_p50_ns", histogram_ns(e->ages, 0.5));
        figure(outcome, "age_p99_ns", histogram_ns(e->ages, 0.99));
        figure(outcome, "age_p999_ns", histogram_ns(e->ages, 0.999));
        figure(outcome, "age_max_ns", histogram_max_ns(e->ages));
    }
    free(e->ages);
    free(e);
}

static void spool_null(const struct context *context, struct outcome *outcome)
{
    drive(&(struct driver){.begin = begin_null, .step = step, .finish = drain, .end = end}, context, outcome);
}

static void spool_file(const struct context *context, struct outcome *outcome)
{
    drive(&(struct driver){.begin = begin_file, .step = step, .finish = drain, .end = end}, context, outcome);
}

static void spool_file_unflushed(const struct context *context, struct outcome *outcome)
{
    drive(&(struct driver){.begin = begin_file_unflushed, .step = step, .finish = drain, .end = end}, context, outcome);
}

static void spool_agents(const struct context *context, struct outcome *outcome)
{
    drive(&(struct driver){.begin = begin_agents, .step = step_agents, .finish = drain, .end = end}, context, outcome);
}

static void spool_agents_waiting(const struct context *context, struct outcome *outcome)
{
    drive(&(struct driver){.begin = begin_waiting, .step = step_thousand_agents, .finish = drain, .end = end}, context,
          outcome);
}

/* ------------------------------------------------------------------------------------- how old an event is over there
 */

static int note_ages(void *state, struct spool_delivery *batch, size_t n)
{
    struct end_to_end *e = state;
    uint64_t now = ticks();
    for (size_t i = 0; i < n; i++) {
        struct spool_delivery *delivery = SPOOL_DELIVERY_AT(batch, i);
        uint64_t then = delivery->event->occurred_at_ns; /* in ticks: nobody else looks at it */
        histogram_add(e->ages, now > then ? now - then : 0);
        delivery->outcome = SPOOL_DELIVERED;
    }
    return 0;
}

static void *begin_ages(const struct context *context)
{
    struct end_to_end *e = open_end_to_end(context);
    const struct spool_sink sink = {.abi = SPOOL_SINK_ABI, .size = sizeof sink, .kind = "ages", .deliver = note_ages};
    ok(spool_sink_add(e->spool, "ages", &sink, NULL, &SPOOL_SINK_OPTIONS(.user = e)), "spool_sink_add");
    ok(spool_start(e->spool), "spool_start");
    return e;
}

static size_t step_ages(void *shared, uint64_t number)
{
    struct spool_event event = bench_event(SPOOL_DURABLE_PROCESS, number);
    event.occurred_at_ns = ticks();
    ok(spool_enqueue(((struct end_to_end *)shared)->spool, &event, NULL), "spool_enqueue");
    return 1;
}

static void spool_ages(const struct context *context, struct outcome *outcome)
{
    drive(&(struct driver){.begin = begin_ages, .step = step_ages, .finish = drain, .end = end}, context, outcome);
}

/* ------------------------------------------------------------------------------------- critical events over a backlog
 */

enum { ROUND_TRIP_NS = 2000000 }; /* of a far side, per batch */

/* Only the critical ones count: a backlog of low ones is delivered beside them. */
static int note_critical_ages(void *state, struct spool_delivery *batch, size_t n)
{
    struct end_to_end *e = state;
    nanosleep(&(struct timespec){.tv_nsec = ROUND_TRIP_NS}, NULL);
    uint64_t now = ticks();
    for (size_t i = 0; i < n; i++) {
        struct spool_delivery *delivery = SPOOL_DELIVERY_AT(batch, i);
        if (delivery->event->priority == SPOOL_CRITICAL)
            histogram_add(e->ages, now - delivery->event->occurred_at_ns);
        delivery->outcome = SPOOL_DELIVERED;
    }
    return 0;
}

static void *begin_overtake(const struct context *context)
{
    struct end_to_end *e = open_end_to_end(context);
    const struct spool_sink sink = {
        .abi = SPOOL_SINK_ABI, .size = sizeof sink, .kind = "ages", .deliver = note_critical_ages};
    ok(spool_sink_add(e->spool, "ages", &sink, NULL, &SPOOL_SINK_OPTIONS(.user = e)), "spool_sink_add");
    bench_fill_as(e->spool, context->count, SPOOL_LOW);
    ok(spool_flush(e->spool, 60000), "spool_flush");
    ok(spool_start(e->spool), "spool_start");
    return e;
}

static size_t step_overtake(void *shared, uint64_t number)
{
    struct spool_event event = bench_event(SPOOL_DURABLE_PROCESS, number);
    event.priority = SPOOL_CRITICAL;
    event.occurred_at_ns = ticks();
    ok(spool_enqueue(((struct end_to_end *)shared)->spool, &event, NULL), "spool_enqueue");
    return 1;
}

static void spool_overtake(const struct context *context, struct outcome *outcome)
{
    drive(&(struct driver){.begin = begin_overtake, .step = step_overtake, .finish = drain, .end = end}, context,
          outcome);
}

const struct bench_case delivery_cases[] = {
    {"spool_null", "libspool, to acknowledged null sinks", SPOOL_SETTINGS, spool_null},
    {"spool_file", "libspool, to an acknowledged file sink", SPOOL_SETTINGS, spool_file},
    {"spool_file_unflushed", "libspool, to an acknowledged file sink that does not flush",
     SPOOL_SETTINGS ", flush none", spool_file_unflushed},
    {"spool_ages", "libspool, age of an event at its sink", SPOOL_SETTINGS, spool_ages},
    {"spool_overtake", "libspool, age of a critical event at a sink with a backlog of low ones",
     SPOOL_SETTINGS "; the sink takes 2 ms a batch", spool_overtake},
    {"spool_agents", "libspool, to a null sink in order of agents", SPOOL_SETTINGS, spool_agents},
    {"spool_agents_waiting", "libspool, to a sink in order of agents that waits 1 ms a batch of 100",
     SPOOL_SETTINGS ", as many workers as n says, 1,000 agents", spool_agents_waiting},
    {0},
};
