/* scenario_log.c - segments: begun, deleted when delivered, dropped when the spool is full. */
#include "scenarios.h"

static int rotate(const char *dir, uint64_t seed, const struct scene_options *options)
{
    uint64_t random = seed;
    struct spool *spool = scene_open(dir, options);
    struct scene_producer producer = {.spool = spool, .number = 1};
    for (int i = 0; spool && i < 48; i++) {
        producer.priority = (enum spool_priority)(i % SPOOL_PRIORITIES);
        enum spool_durability level = i % 4 == 3 ? SPOOL_DURABLE_POWER : SPOOL_DURABLE_PROCESS;
        if (scene_enqueue(&producer, 6000 + (uint32_t)(scene_random(&random) % 6000), level))
            return -1;
    }
    return spool ? scene_close(spool) : -1;
}

static int run_rotation(const char *dir, uint64_t seed)
{
    return rotate(dir, seed, NULL);
}

const struct lab_scenario scenario_rotation = {"rotation", "more than one segment holds", NULL, run_rotation, NULL};

static int run_compressed(const char *dir, uint64_t seed)
{
    return rotate(dir, seed, &(struct scene_options){.compress = SPOOL_COMPRESS_ZSTD});
}

const struct lab_scenario scenario_compressed = {"compressed", "the same, in compressed blocks", NULL, run_compressed,
                                                 NULL};

/* ------------------------------------------------------------------------------------- commits seen and not on the
 * disk */

/* A process that is killed in the middle of the last write of a commit leaves one that the next process sees and that a
 * loss of power takes back. The next one goes by it at once: here it seals the segment… */
static int prepare_opened(const char *dir, uint64_t seed)
{
    (void)seed;
    struct spool *spool = scene_open(dir, NULL);
    return spool ? scene_close(spool) : -1;
}

static int run_killed_commit(const char *dir, uint64_t seed)
{
    uint64_t random = seed;
    lab_mark(MARK_SAFE, NULL, 0);
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 1};
    for (int i = 0; spool && i < 4; i++) {
        if (scene_enqueue_some(&producer, 1, 300, SPOOL_DURABLE_POWER, &random) || scene_commit(spool))
            return -1;
    }
    return spool ? scene_close(spool) : -1;
}

static int go_on_rotating(const char *dir, uint64_t seed)
{
    (void)seed;
    struct spool *spool = scene_open(dir, NULL);
    return spool && scene_rotate(spool) == 0 ? scene_close(spool) : -1;
}

const struct lab_scenario scenario_killed_commit = {
    "killed-commit", "the next process begins a segment after a commit that is not on the disk yet", prepare_opened,
    run_killed_commit, go_on_rotating};

/* … and here it deletes what the cursors have passed: the retry rows are all there is of those events. */
static enum scene_answer fails(uint32_t producer, uint32_t number, uint32_t attempt)
{
    (void)producer, (void)number, (void)attempt;
    return ANSWER_RETRY;
}

static int run_killed_acknowledgement(const char *dir, uint64_t seed)
{
    uint64_t random = seed;
    lab_mark(MARK_SAFE, NULL, 0);
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 1};
    struct scene_sink sink = {.number = 0, .name = "moody", .answer = fails};
    if (!spool || scene_sink_add(spool, &sink) || scene_enqueue_some(&producer, 3, 300, SPOOL_DURABLE_POWER, &random) ||
        scene_commit(spool) || scene_rotate(spool) || spool_start(spool) || scene_wait_answered(&sink, 3) ||
        scene_stop(spool))
        return -1;
    return scene_close(spool);
}

static int go_on_deleting(const char *dir, uint64_t seed)
{
    (void)seed;
    struct spool *spool = scene_open(dir, NULL);
    if (!spool)
        return -1;
    store_reclaim(spool->store);
    return scene_close(spool);
}

const struct lab_scenario scenario_killed_acknowledgement = {
    "killed-acknowledgement", "the next process deletes a segment after an acknowledgement that is not on the disk yet",
    prepare_opened, run_killed_acknowledgement, go_on_deleting};

/* --------------------------------------------------------------------------------------------------------- deletion */

static int run_delete(const char *dir, uint64_t seed)
{
    uint64_t random = seed;
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 1};
    struct scene_sink fast = {.number = 0, .name = "fast"}, slow = {.number = 1, .name = "slow"};
    if (!spool || scene_sink_add(spool, &fast) || scene_sink_add(spool, &slow) ||
        scene_sink_pause(spool, &slow, true) || spool_start(spool))
        return -1;
    for (int i = 0; i < 32; i++) {
        if (scene_enqueue(&producer, 8000 + (uint32_t)(scene_random(&random) % 4000), SPOOL_DURABLE_PROCESS))
            return -1;
        if (i == 20 && scene_sink_pause(spool, &slow, false))
            return -1;
        if (i > 20 && i % 5 == 0 && scene_drain(spool))
            return -1;
    }
    return scene_close(spool);
}

const struct lab_scenario scenario_delete = {"delete", "segments go when every sink has passed them", NULL, run_delete,
                                             NULL};

/* --------------------------------------------------------------------------------------------------------- dropping */

static const struct mark_rules drops = {.drops = 1};

static int run_drop(const char *dir, uint64_t seed)
{
    uint64_t random = seed;
    const struct scene_options options = {
        .max_bytes = 4 << 20, .low_policy = SPOOL_FULL_DROP_OLDEST, .full_timeout_ms = 10000};
    lab_mark(MARK_RULES, &drops, sizeof drops);
    struct spool *spool = scene_open(dir, &options);
    struct scene_producer producer = {.spool = spool, .number = 1, .priority = SPOOL_LOW};
    struct scene_sink sink = {.number = 0, .name = "away"};
    if (!spool || scene_sink_add(spool, &sink))
        return -1;
    for (int i = 0; i < 130; i++) {
        if (scene_enqueue(&producer, 12000 + (uint32_t)(scene_random(&random) % 3000), SPOOL_DURABLE_PROCESS))
            return -1;
    }
    struct spool_stats stats = SPOOL_STATS();
    if (spool_stats(spool, &stats) || !stats.dropped_events)
        return scene_fail(ECANCELED, "nothing was dropped: the scenario is too small");
    return scene_close(spool);
}

const struct lab_scenario scenario_drop = {"drop-oldest", "a full spool drops its oldest segment, as its policy says",
                                           NULL, run_drop, NULL};
