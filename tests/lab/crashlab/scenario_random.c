/* scenario_random.c - a walk over all that can be done, drawn by the seed. Most bugs of crash consistency need only a
 * few operations in an unlucky order (Mohan et al., "Finding Crash-Consistency Bugs with Bounded Black-Box Crash
 * Testing", 2018). */
#include "scenarios.h"

#include <unistd.h>

enum { STEPS = 14 };

struct walk {
    const char *dir;
    uint64_t random;
    struct spool *spool;
    struct scene_producer producer;
    struct scene_sink sinks[3];
    bool added[3], paused[3], started;
};

static uint32_t draw(struct walk *walk, uint32_t below)
{
    return (uint32_t)(scene_random(&walk->random) % below);
}

static enum spool_durability draw_level(struct walk *walk)
{
    return draw(walk, 2) ? SPOOL_DURABLE_POWER : SPOOL_DURABLE_PROCESS;
}

/* -------------------------------------------------------------------------------------------------------- producing */

static int step_enqueue(struct walk *walk)
{
    static const uint32_t sizes[] = {30, 300, 3000, 12000};
    walk->producer.priority = (enum spool_priority)draw(walk, SPOOL_PRIORITIES);
    return scene_enqueue_some(&walk->producer, 1 + draw(walk, 5), sizes[draw(walk, 4)], draw_level(walk),
                              &walk->random);
}

static int step_many(struct walk *walk)
{
    return scene_enqueue_many(&walk->producer, 1 + draw(walk, 12), 12 + draw(walk, 900), draw_level(walk));
}

static int step_flush(struct walk *walk)
{
    return scene_flush(walk->spool);
}
static int step_commit(struct walk *walk)
{
    return scene_commit(walk->spool);
}
static int step_stamp(struct walk *walk)
{
    return scene_stamp(walk->spool);
}

static int step_keep_house(struct walk *walk)
{
    store_reclaim(walk->spool->store);
    scene_keep_house(walk->spool);
    return 0;
}

static int step_reopen(struct walk *walk)
{
    const struct scene_options options = {.flush_interval_ms = 1 + draw(walk, 50)};
    if (scene_close(walk->spool))
        return -1;
    walk->spool = walk->producer.spool = scene_open(walk->dir, &options);
    memset(walk->added, 0, sizeof walk->added);
    walk->started = false;
    return walk->spool ? 0 : -1;
}

/* Another process, killed while it has the spool open. Its producers have numbers of their own. */
static bool child_work(const char *dir, uint64_t seed)
{
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 100 + (uint32_t)(seed % 1000)};
    if (!spool || scene_enqueue_some(&producer, 4, 4000, seed & 1 ? SPOOL_DURABLE_POWER : SPOOL_DURABLE_PROCESS, &seed))
        _exit(1);
    if (seed & 2)
        return true;
    if (scene_commit(spool) || scene_close(spool))
        _exit(1);
    return false;
}

/* The seed's own count keeps the numbers of two children apart. */
static int step_child(struct walk *walk)
{
    static uint32_t children;
    return scene_child(child_work, walk->dir, (uint64_t)draw(walk, 1000) * 1000 + children++);
}

/* ------------------------------------------------------------------------------------------------------------ sinks */

static atomic_bool lenient;

static enum scene_answer answer_badly(uint32_t producer, uint32_t number, uint32_t attempt)
{
    if (atomic_load(&lenient))
        return ANSWER_ACCEPT;
    uint32_t kind = (producer * 7 + number) % 6;
    return kind == 1 ? ANSWER_REJECT : kind == 3 && attempt < 2 ? ANSWER_RETRY : ANSWER_ACCEPT;
}

static int step_start(struct walk *walk)
{
    for (int i = 0; i < 3; i++) {
        if (walk->added[i])
            continue;
        walk->added[i] = true;
        return scene_sink_add(walk->spool, &walk->sinks[i]);
    }
    walk->started = true;
    return spool_start(walk->spool);
}

static int resume_all(struct walk *walk)
{
    int code = 0;
    for (int i = 0; i < 3 && !code; i++) {
        if (walk->paused[i] && walk->added[i])
            code = scene_sink_pause(walk->spool, &walk->sinks[i], false);
        walk->paused[i] = false;
    }
    return code;
}

/* All of them here and running, else it would wait in vain. */
static int step_drain(struct walk *walk)
{
    while (!walk->started) {
        if (step_start(walk))
            return -1;
    }
    return resume_all(walk) ? -1 : scene_drain(walk->spool);
}

static int step_stop(struct walk *walk)
{
    walk->started = false;
    return scene_stop(walk->spool);
}

static int step_pause(struct walk *walk)
{
    uint32_t i = draw(walk, 3);
    if (!walk->added[i])
        return 0;
    walk->paused[i] = !walk->paused[i];
    return scene_sink_pause(walk->spool, &walk->sinks[i], walk->paused[i]);
}

/* Requeue and purge stand still meanwhile: the marks could not say which letters they found. */
static int step_dead(struct walk *walk)
{
    uint32_t i = draw(walk, 3), purge = draw(walk, 2);
    if (!walk->added[i] || scene_stop(walk->spool))
        return walk->added[i] ? -1 : 0;
    int code = purge ? scene_purge(walk->spool, &walk->sinks[i]) : scene_requeue(walk->spool, &walk->sinks[i]);
    atomic_store(&lenient, draw(walk, 2));
    return code || !walk->started ? code : spool_start(walk->spool);
}

static int step_remove(struct walk *walk)
{
    uint32_t i = draw(walk, 3);
    if (!walk->added[i] || walk->sinks[i].keeps_file)
        return 0;
    walk->added[i] = walk->paused[i] = false;
    return scene_sink_remove(walk->spool, &walk->sinks[i], false);
}

/* ---------------------------------------------------------------------------------------------------------- walking */

typedef int step_function(struct walk *walk);

static int run_walk(const char *dir, uint64_t seed, step_function *const steps[], uint32_t n)
{
    struct walk walk = {.dir = dir, .random = seed};
    walk.sinks[0] = (struct scene_sink){.number = 0, .name = "one", .batch_events_max = 4};
    walk.sinks[1] = (struct scene_sink){.number = 1, .name = "two", .answer = answer_badly, .max_attempts = 3};
    walk.sinks[2] =
        (struct scene_sink){.number = 2, .name = "three", .keeps_file = true, .dir = dir, .batch_events_max = 5};
    atomic_store(&lenient, false);
    walk.spool = scene_open(dir, NULL);
    walk.producer = (struct scene_producer){.spool = walk.spool, .number = 1};
    int code = walk.spool ? 0 : -1;
    for (int i = 0; i < STEPS && !code; i++)
        code = steps[draw(&walk, n)](&walk);
    return code ? code : scene_close(walk.spool);
}

static int run_random(const char *dir, uint64_t seed)
{
    static step_function *const steps[] = {step_enqueue, step_enqueue,    step_many,   step_flush, step_commit,
                                           step_stamp,   step_keep_house, step_reopen, step_child};
    return run_walk(dir, seed, steps, sizeof steps / sizeof *steps);
}

static int run_random_sinks(const char *dir, uint64_t seed)
{
    static step_function *const steps[] = {step_enqueue, step_enqueue, step_enqueue, step_many,   step_commit,
                                           step_start,   step_start,   step_drain,   step_drain,  step_stop,
                                           step_pause,   step_dead,    step_dead,    step_remove, step_keep_house,
                                           step_reopen,  step_child};
    return run_walk(dir, seed, steps, sizeof steps / sizeof *steps);
}

const struct lab_scenario scenario_random = {"random", "a walk over the producer's operations, drawn by the seed", NULL,
                                             run_random, NULL};
const struct lab_scenario scenario_random_sinks = {"random-sinks", "a walk over all operations, drawn by the seed",
                                                   NULL, run_random_sinks, NULL};
