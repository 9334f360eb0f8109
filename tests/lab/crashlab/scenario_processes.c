/* scenario_processes.c - processes that are killed, and those that take over what they left. */
#include "scenarios.h"

#include <unistd.h>

/* Numbers of producers and of the first event, so that no two processes use the same. */
static bool leave(const char *dir, uint32_t number, uint32_t n, enum spool_durability durability, uint64_t seed,
                  bool commit)
{
    const struct scene_options options = {.flush_interval_ms = 60000};
    struct spool *spool = scene_open(dir, &options);
    struct scene_producer producer = {.spool = spool, .number = number};
    if (!spool || scene_enqueue_some(&producer, n, 1500, durability, &seed) || (commit && scene_commit(spool)))
        _exit(1);
    if (commit && scene_enqueue_some(&producer, n, 1500, durability, &seed))
        _exit(1);
    return true;
}

static bool leave_first(const char *dir, uint64_t seed)
{
    return leave(dir, 1, 8, SPOOL_DURABLE_PROCESS, seed, true);
}
static bool leave_second(const char *dir, uint64_t seed)
{
    return leave(dir, 2, 5, SPOOL_DURABLE_POWER, seed, false);
}
static bool leave_third(const char *dir, uint64_t seed)
{
    return leave(dir, 3, 6, SPOOL_DURABLE_PROCESS, seed, false);
}

static int prepare_left(const char *dir, uint64_t seed)
{
    return scene_child(leave_first, dir, seed);
}

/* --------------------------------------------------------------------------------------------------------- recovery */

static int run_recovery(const char *dir, uint64_t seed)
{
    (void)seed;
    lab_mark(MARK_SAFE, NULL, 0);
    struct spool *spool = scene_open(dir, NULL);
    return spool ? scene_close(spool) : -1;
}

const struct lab_scenario scenario_recovery = {"recovery", "the next process opens what a killed one left",
                                               prepare_left, run_recovery, NULL};

static int run_adopt_open(const char *dir, uint64_t seed)
{
    lab_mark(MARK_SAFE, NULL, 0);
    if (scene_child(leave_second, dir, seed) || scene_child(leave_third, dir, seed))
        return -1;
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 4};
    if (!spool || scene_enqueue_some(&producer, 4, 300, SPOOL_DURABLE_POWER, &seed))
        return -1;
    return scene_close(spool);
}

const struct lab_scenario scenario_adopt_open = {
    "adoption-at-open", "one killed process after the other takes over the journal of the one before", prepare_left,
    run_adopt_open, NULL};

static int run_adopt_alive(const char *dir, uint64_t seed)
{
    lab_mark(MARK_SAFE, NULL, 0);
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 4};
    if (!spool || scene_enqueue_some(&producer, 3, 300, SPOOL_DURABLE_POWER, &seed))
        return -1;
    uint64_t before = scene_recovered(spool);
    if (scene_child(leave_third, dir, seed) || scene_wait_recovered(spool, before + 6))
        return -1;
    if (scene_enqueue_some(&producer, 3, 300, SPOOL_DURABLE_POWER, &seed))
        return -1;
    return scene_close(spool);
}

const struct lab_scenario scenario_adopt_alive = {"adoption-alive",
                                                  "a living process takes over the journal of one that was killed",
                                                  prepare_left, run_adopt_alive, NULL};

/* ------------------------------------------------------------------------------------------------------ two writers */

static bool fill_segments(const char *dir, uint64_t seed)
{
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 2};
    for (int i = 0; spool && i < 24; i++) {
        if (scene_enqueue(&producer, 8000 + (uint32_t)(scene_random(&seed) % 4000), SPOOL_DURABLE_PROCESS))
            _exit(1);
    }
    if (!spool || scene_close(spool))
        _exit(1);
    return false;
}

static int run_two_writers(const char *dir, uint64_t seed)
{
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 1};
    if (!spool)
        return -1;
    for (int i = 0; i < 2; i++) {
        if (scene_enqueue_some(&producer, 5, 800, SPOOL_DURABLE_PROCESS, &seed) || scene_commit(spool))
            return -1;
        if (i == 0 && scene_child(fill_segments, dir, seed))
            return -1;
    }
    return scene_close(spool);
}

const struct lab_scenario scenario_two_writers = {"two-writers", "two processes commit; one seals the other's segment",
                                                  NULL, run_two_writers, NULL};

/* ------------------------------------------------------------------------------------------------- surplus journals */

enum { NESTED = 6, NESTED_EVENTS = 2 };

/* Each opens the spool while those before it live, so that each makes a journal; then all are killed. */
static bool leave_nested(const char *dir, uint64_t seed)
{
    static uint32_t depth;
    depth++;
    leave(dir, 10 + depth, NESTED_EVENTS, SPOOL_DURABLE_PROCESS, seed, false);
    if (depth < NESTED && scene_child(leave_nested, dir, seed))
        _exit(1);
    return true;
}

static int run_surplus(const char *dir, uint64_t seed)
{
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 1};
    if (!spool || scene_child(leave_nested, dir, seed) || scene_adopt_rotating(spool, NESTED * NESTED_EVENTS))
        return -1;
    return scene_enqueue_some(&producer, 3, 300, SPOOL_DURABLE_POWER, &seed) ? -1 : scene_close(spool);
}

const struct lab_scenario scenario_surplus = {
    "surplus-journals", "more dead journals than are kept; a segment is begun while one is removed", NULL, run_surplus,
    NULL};

/* ----------------------------------------------------------------------------------------------- killed at delivery */

static bool deliver_some(const char *dir, uint64_t seed)
{
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 2};
    struct scene_sink file = {.number = 0, .name = "file", .keeps_file = true, .dir = dir, .batch_events_max = 3};
    struct scene_sink plain = {.number = 1, .name = "plain", .batch_events_max = 4};
    if (!spool || scene_sink_add(spool, &file) || scene_sink_add(spool, &plain) || spool_start(spool) ||
        scene_enqueue_some(&producer, 6, 200, SPOOL_DURABLE_POWER, &seed) || scene_wait_answered(&file, 7))
        _exit(1);
    return true;
}

static int run_killed_delivery(const char *dir, uint64_t seed)
{
    lab_mark(MARK_SAFE, NULL, 0);
    if (scene_child(deliver_some, dir, seed))
        return -1;
    struct spool *spool = scene_open(dir, NULL);
    struct scene_sink file = {.number = 0, .name = "file", .keeps_file = true, .dir = dir, .batch_events_max = 3};
    struct scene_sink plain = {.number = 1, .name = "plain", .batch_events_max = 4};
    if (!spool || scene_sink_add(spool, &plain) || scene_sink_add(spool, &file) || spool_start(spool) ||
        scene_drain(spool))
        return -1;
    return scene_close(spool);
}

const struct lab_scenario scenario_killed_delivery = {
    "killed-delivery", "a delivering process is killed, the next one goes on", prepare_left, run_killed_delivery, NULL};
