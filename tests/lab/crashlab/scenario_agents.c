/* scenario_agents.c - agents side by side: while one hangs in a worker's hands, and another is retried, the others go on.
 * What they leave behind are gaps in the log; what is finished beyond those is stored as ranges. Then the process is killed. */
#include "scenarios.h"

#include <unistd.h>

/* As many agents as workers: no batch has two, so that nobody is taken along by the one that hangs. */
enum { AGENTS = 3, EACH = 7, NOBODY = AGENTS, FINISHED = (AGENTS - 2) * EACH };

static const struct scene_sink by_agent = {
    .number = 0, .name = "agents", .order = SPOOL_ORDER_AGENT, .workers = AGENTS, .batch_events_max = 3};
static const struct scene_options with_workers = {.workers = AGENTS};
static uint32_t hanging = NOBODY, failing = NOBODY; /* agents, in the process that is killed */

static enum scene_answer answer(uint32_t producer, uint32_t number, uint32_t attempt)
{
    (void)producer, (void)attempt;
    while (number % AGENTS == hanging)
        pause(); /* until the process is killed */
    return number % AGENTS == failing ? ANSWER_RETRY : ANSWER_ACCEPT;
}

static int expect_gaps(struct spool *spool)
{
    struct store_sink found;
    int code = store_sink_get(spool->store, by_agent.name, &found);
    if (code)
        return scene_fail(code, "looking at a sink");
    bool gaps = found.range_count[LANE_MEDIUM] > 1 || lab_control; /* one of those forgets them */
    return gaps ? 0 : scene_fail(ECANCELED, "no ranges are stored: nothing is tried");
}

/* All of the agent that gets on is stored when it is killed, and the retries of the one that does not. */
static bool leave_gaps(const char *dir, uint64_t seed)
{
    struct spool *spool = scene_open(dir, &with_workers);
    struct scene_producer producer = {.spool = spool, .number = 2, .priority = SPOOL_MEDIUM, .order_agents = AGENTS};
    struct scene_sink sink = by_agent;
    sink.answer = answer;
    hanging = (uint32_t)(seed % AGENTS);
    failing = (hanging + 1 + (uint32_t)(seed / AGENTS % 2)) % AGENTS;
    if (!spool || scene_enqueue_many(&producer, AGENTS * EACH, 200, SPOOL_DURABLE_POWER) || scene_commit(spool) ||
        scene_sink_add(spool, &sink) || spool_start(spool) || scene_wait_stored(spool, &sink, FINISHED, EACH) ||
        expect_gaps(spool))
        _exit(1);
    return true;
}

/* The next process fills the gaps, and has more events of the same agents behind them. */
static int run_agents(const char *dir, uint64_t seed)
{
    if (scene_child(leave_gaps, dir, seed))
        return -1;
    struct spool *spool = scene_open(dir, &with_workers);
    struct scene_producer producer = {.spool = spool, .number = 1, .priority = SPOOL_MEDIUM, .order_agents = AGENTS};
    struct scene_sink sink = by_agent;
    if (!spool || scene_enqueue_many(&producer, 2 * AGENTS, 200, SPOOL_DURABLE_PROCESS) ||
        scene_sink_add(spool, &sink) || spool_start(spool) || scene_drain(spool))
        return -1;
    return scene_close(spool);
}

const struct lab_scenario scenario_agents = {
    "agents", "of agents side by side one hangs, one is retried, the others go on; then the process is killed", NULL,
    run_agents, NULL};
