/* scenario_control.c - what an operator changes: a sink is rewound, limited, pauses itself and is resumed;
 * dead letters are edited, and go to another sink. */
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

const struct lab_scenario scenario_rewind = {"rewind", "a rewound sink gets again what it had accepted", NULL,
                                             run_rewind, NULL};

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

const struct lab_scenario scenario_edit = {
    "edit", "dead letters are edited and put back, with all that happened to them", NULL, run_edit, NULL};

/* -------------------------------------------------------------------------------------------------------- another sink */

/* What one refuses goes to the other, which has had it already: as rows, beside what it still has to get. */
static int run_requeue_to(const char *dir, uint64_t seed)
{
    uint64_t random = seed;
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 1};
    struct scene_sink strict = {.number = 0, .name = "strict", .answer = refuses_until_mended};
    struct scene_sink other = {.number = 1, .name = "other", .batch_events_max = 4};
    atomic_store(&mended, false);
    if (!spool || scene_sink_add(spool, &strict) || scene_sink_add(spool, &other) || spool_start(spool) ||
        scene_enqueue_some(&producer, 6, 300, SPOOL_DURABLE_PROCESS, &random) ||
        scene_enqueue_some(&producer, 4, 4000, SPOOL_DURABLE_PROCESS, &random) || scene_drain(spool) ||
        scene_stop(spool))
        return -1;
    if (scene_move(spool, &strict, &other) || spool_start(spool) || scene_drain(spool))
        return -1;
    if (scene_enqueue_some(&producer, 4, 300, SPOOL_DURABLE_PROCESS, &random) || scene_drain(spool) ||
        scene_stop(spool))
        return -1;
    return scene_move(spool, &strict, &other) ? -1 : scene_close(spool);
}

const struct lab_scenario scenario_requeue_to = {"requeue-to", "dead letters go to another sink", NULL, run_requeue_to,
                                                 NULL};

/* ----------------------------------------------------------------------------------------------------- pause and limit */

static atomic_bool forbids;

/* A sink that pauses itself, and why, outlasts the crash, and so does a limit; being resumed as well. */
static int run_forbidden(const char *dir, uint64_t seed)
{
    uint64_t random = seed;
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 1};
    struct scene_sink sink = {.number = 0, .name = "shut", .batch_events_max = 3, .forbids = &forbids};
    atomic_store(&forbids, false);
    if (!spool || scene_sink_add(spool, &sink) || spool_start(spool) ||
        scene_enqueue_some(&producer, 4, 300, SPOOL_DURABLE_PROCESS, &random) || scene_drain(spool) ||
        scene_limit(spool, &sink, 48u << 20))
        return -1;
    atomic_store(&forbids, true);
    if (scene_enqueue_some(&producer, 4, 300, SPOOL_DURABLE_PROCESS, &random) || scene_wait_paused(spool, &sink) ||
        scene_limit(spool, &sink, 56u << 20))
        return -1;
    atomic_store(&forbids, false);
    return scene_sink_pause(spool, &sink, false) || scene_drain(spool) ? -1 : scene_close(spool);
}

const struct lab_scenario scenario_forbidden = {
    "forbidden", "a sink pauses itself for a reason, is limited and resumed", NULL, run_forbidden, NULL};

/* --------------------------------------------------------------------------------------------------------- removal */

/* Removed by somebody else while it delivers, with events that failed and others that wait; then there is another one of that
 * name, which gets what the other sink still holds. */
static int run_removal(const char *dir, uint64_t seed)
{
    uint64_t random = seed;
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 1};
    struct scene_sink gone = {.number = 0, .name = "gone", .batch_events_max = 3, .answer = refuses_until_mended};
    struct scene_sink stays = {.number = 1, .name = "stays", .batch_events_max = 4};
    atomic_store(&mended, false);
    if (!spool || scene_sink_add(spool, &gone) || scene_sink_add(spool, &stays) || spool_start(spool) ||
        scene_enqueue_some(&producer, 8, 300, SPOOL_DURABLE_PROCESS, &random) || scene_wait_answered(&gone, 3))
        return -1;
    if (scene_sink_remove(spool, &gone, true) || scene_drain(spool) || scene_sink_add(spool, &gone) ||
        scene_enqueue_some(&producer, 4, 300, SPOOL_DURABLE_PROCESS, &random) || scene_drain(spool))
        return -1;
    return scene_sink_remove(spool, &gone, true) ? -1 : scene_close(spool);
}

const struct lab_scenario scenario_removal = {"removal", "a sink is removed by somebody else while it delivers", NULL,
                                              run_removal, NULL};

/* ---------------------------------------------------------------------------------------------------------- reloading */

/* While it is served, a sink gets other options, another order, for which it is let go of and added anew, is left out, and is
 * named again. Events come all the time. */
static int run_reload(const char *dir, uint64_t seed)
{
    static const struct scene_configured steps[] = {
        {true, 48u << 20, "none", SPOOL_RELOAD_CHANGED},
        {true, 56u << 20, "lane", SPOOL_RELOAD_REPLACED},
        {false, 0, "", SPOOL_RELOAD_RELEASED},
        {true, 40u << 20, "lane", SPOOL_RELOAD_ADDED},
    };
    uint64_t random = seed;
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 1};
    struct scene_sink sink = {
        .number = 0, .name = "lines", .config = "{\"path\":\"out/x.jsonl\"}", .dir = dir, .batch_events_max = 3};
    if (!spool || scene_sink_add(spool, &sink) || spool_start(spool))
        return -1;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        if (scene_enqueue_some(&producer, 6, 300, SPOOL_DURABLE_PROCESS, &random) ||
            scene_reload(spool, &sink, &steps[i]))
            return -1;
    }
    return scene_drain(spool) ? -1 : scene_close(spool);
}

const struct lab_scenario scenario_reload = {
    "reload", "a sink gets other options and another order, is left out and named again by its configuration", NULL,
    run_reload, NULL};
