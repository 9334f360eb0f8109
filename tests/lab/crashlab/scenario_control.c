/* scenario_control.c - what an operator changes: a sink is rewound, dead letters are edited. */
#include "scenarios.h"

/* Delivered, rewound, delivered again; and rewound while it delivers. */
static int run_rewind(const char *dir, uint64_t seed)
{
    uint64_t random = seed;
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 1};
    struct scene_sink sink = {.number = 0, .name = "again", .batch_events_max = 3};
    if (!spool || scene_sink_add(spool, &sink) ||
        scene_enqueue_some(&producer, 8, 300, SPOOL_DURABLE_PROCESS, &random) || spool_start(spool) ||
        scene_drain(spool) || scene_stop(spool))
        return -1;
    if (scene_rewind(spool, &sink) || spool_start(spool) || scene_drain(spool) || scene_stop(spool))
        return -1;
    if (scene_enqueue_some(&producer, 4, 300, SPOOL_DURABLE_PROCESS, &random) || scene_rewind(spool, &sink))
        return -1;
    return spool_start(spool) || scene_drain(spool) ? -1 : scene_close(spool);
}

const struct lab_scenario scenario_rewind = {"rewind", "a rewound sink gets again what it had accepted", NULL, run_rewind,
                                             NULL};

static atomic_bool mended;

static enum scene_answer refuses_until_mended(uint32_t producer, uint32_t number, uint32_t attempt)
{
    (void)producer;
    if (atomic_load(&mended) || number % 2 == 0)
        return ANSWER_ACCEPT;
    return attempt < 2 ? ANSWER_RETRY : ANSWER_REJECT;
}

/* A small event stands in its row, a larger one in pieces of its own: both are put anew. */
static int run_edit(const char *dir, uint64_t seed)
{
    uint64_t random = seed;
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 1};
    struct scene_sink sink = {.number = 0, .name = "edited", .answer = refuses_until_mended};
    atomic_store(&mended, false);
    if (!spool || scene_sink_add(spool, &sink) || spool_start(spool) ||
        scene_enqueue_some(&producer, 5, 300, SPOOL_DURABLE_PROCESS, &random) ||
        scene_enqueue_some(&producer, 5, 4000, SPOOL_DURABLE_PROCESS, &random) || scene_drain(spool) ||
        scene_stop(spool))
        return -1;
    if (scene_edit(spool, &sink))
        return -1;
    atomic_store(&mended, true);
    return scene_requeue(spool, &sink) || spool_start(spool) || scene_drain(spool) ? -1 : scene_close(spool);
}

const struct lab_scenario scenario_edit = {"edit", "dead letters are edited and put back, with all that happened to them",
                                           NULL, run_edit, NULL};
