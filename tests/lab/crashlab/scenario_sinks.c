/* scenario_sinks.c - the consumer's side: acknowledgements, registration, checkpoints, retries, dead letters. */
#include "scenarios.h"

#include <glob.h>

/* ------------------------------------------------------------------------------------------------- acknowledgements */

/* Several rounds of delivering and stopping, which makes the answers durable. */
static int run_acknowledge(const char *dir, uint64_t seed)
{
    uint64_t random = seed;
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 1};
    struct scene_sink sink = {
        .number = 0, .name = "plain", .batch_events_max = 3, .order = (enum spool_order)(seed % 3)};
    if (!spool || scene_sink_add(spool, &sink))
        return -1;
    for (unsigned round = 1; round <= 4; round++) {
        producer.priority = (enum spool_priority)(round % SPOOL_PRIORITIES);
        if (scene_enqueue_some(&producer, 6, 300, SPOOL_DURABLE_PROCESS, &random) || spool_start(spool) ||
            scene_wait_answered(&sink, round * 6) || scene_stop(spool))
            return -1;
    }
    return scene_close(spool);
}

const struct lab_scenario scenario_acknowledge = {
    "acknowledge", "what a sink accepted does not come back once that is stored", NULL, run_acknowledge, NULL};

static int run_sinks(const char *dir, uint64_t seed)
{
    uint64_t random = seed;
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 1};
    struct scene_sink a = {.number = 0, .name = "a"}, b = {.number = 1, .name = "b"}, c = {.number = 2, .name = "c"};
    if (!spool || scene_enqueue_some(&producer, 3, 100, SPOOL_DURABLE_POWER, &random) || scene_sink_add(spool, &a) ||
        scene_sink_add(spool, &b) || scene_enqueue_some(&producer, 3, 100, SPOOL_DURABLE_POWER, &random) ||
        spool_start(spool) || scene_drain(spool))
        return -1;
    if (scene_sink_pause(spool, &b, true) || scene_enqueue_some(&producer, 4, 100, SPOOL_DURABLE_PROCESS, &random) ||
        scene_stop(spool) || scene_sink_remove(spool, &a, false) || scene_sink_add(spool, &c))
        return -1;
    if (scene_enqueue_some(&producer, 3, 100, SPOOL_DURABLE_PROCESS, &random) || spool_start(spool) ||
        scene_sink_pause(spool, &b, false) || scene_drain(spool))
        return -1;
    return scene_close(spool);
}

const struct lab_scenario scenario_sinks = {"sinks", "sinks are added, paused and removed", NULL, run_sinks, NULL};

/* ------------------------------------------------------------------------------------------------------ checkpoints */

static int run_checkpoint(const char *dir, uint64_t seed)
{
    uint64_t random = seed;
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 1};
    struct scene_sink sink = {.number = 0, .name = "file", .keeps_file = true, .dir = dir, .batch_events_max = 4};
    if (!spool || scene_sink_add(spool, &sink) || spool_start(spool))
        return -1;
    for (int round = 0; round < 4; round++) {
        if (scene_enqueue_some(&producer, 7, 300, SPOOL_DURABLE_PROCESS, &random) || scene_drain(spool))
            return -1;
    }
    return scene_close(spool);
}

const struct lab_scenario scenario_checkpoint = {"checkpoint", "a sink that stores by checkpoint has each event once",
                                                 NULL, run_checkpoint, NULL};

/* The library's own sink: rotates, and makes directories as it goes. */
static int run_file_sink(const char *dir, uint64_t seed)
{
    static const char *const configs[] = {
        "{\"path\":\"out/x.jsonl\",\"rotate_bytes\":2000}",
        "{\"path\":\"out/%Y/%m/x.jsonl\",\"rotate_bytes\":2500}",
        "{\"path\":\"out/%Y/x.jsonl\",\"flush\":\"batch\"}",
    };
    uint64_t random = seed;
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 1};
    struct scene_sink sink = {
        .number = 0, .name = "lines", .config = configs[seed % 3], .dir = dir, .batch_events_max = 4};
    if (!spool || scene_sink_add(spool, &sink) || spool_start(spool))
        return -1;
    for (int round = 0; round < 3; round++) {
        if (scene_enqueue_some(&producer, 6, 300, SPOOL_DURABLE_PROCESS, &random) || scene_drain(spool))
            return -1;
    }
    return scene_close(spool);
}

const struct lab_scenario scenario_file_sink = {"file-sink", "the file sink has each event once", NULL, run_file_sink,
                                                NULL};

/* Until a complete file has become a compressed one, which a thread of the sink does when it gets to it. */
static int wait_compressed(const char *dir)
{
    char pattern[300];
    glob_t found;
    uint64_t deadline = deadline_in_ms(20000);
    snprintf(pattern, sizeof pattern, "%s/out/*.zst", dir);
    while (glob(pattern, 0, NULL, &found) != 0) {
        if (mono_ns() > deadline)
            return scene_fail(ETIMEDOUT, "waiting for a compressed file");
        usleep(500);
    }
    globfree(&found);
    return 0;
}

static int run_file_compressed(const char *dir, uint64_t seed)
{
    uint64_t random = seed;
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 1};
    struct scene_sink sink = {.number = 0,
                              .name = "packed",
                              .config = "{\"path\":\"out/x.jsonl\",\"rotate_bytes\":1500,\"compress\":\"zstd\"}",
                              .dir = dir,
                              .batch_events_max = 4};
    if (!spool || scene_sink_add(spool, &sink) || spool_start(spool))
        return -1;
    for (int round = 0; round < 4; round++) {
        if (scene_enqueue_some(&producer, 5, 300, SPOOL_DURABLE_PROCESS, &random) || scene_drain(spool))
            return -1;
    }
    return wait_compressed(dir) ? -1 : scene_close(spool);
}

const struct lab_scenario scenario_file_compressed = {
    "file-compressed", "complete files of the file sink are compressed, and have each event once", NULL,
    run_file_compressed, NULL};

/* Several files at once, whose sizes stand in a ledger. */
static int run_file_partition(const char *dir, uint64_t seed)
{
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 1, .order_agents = 2 + (uint32_t)(seed % 3)};
    struct scene_sink sink = {
        .number = 0, .name = "apart", .config = "{\"path\":\"out/{agent}.jsonl\"}", .dir = dir, .batch_events_max = 4};
    if (!spool || scene_sink_add(spool, &sink) || spool_start(spool))
        return -1;
    for (int round = 0; round < 4; round++) {
        if (scene_enqueue_many(&producer, 7, 300, SPOOL_DURABLE_PROCESS) || scene_drain(spool))
            return -1;
    }
    return scene_close(spool);
}

const struct lab_scenario scenario_file_partition = {"file-partition",
                                                     "the file sink has each event once in the file that it belongs to",
                                                     NULL, run_file_partition, NULL};

/* ---------------------------------------------------------------------------------------------------------- retries */

static atomic_bool forgiving; /* sinks take everything now */

static enum scene_answer fails_at_first(uint32_t producer, uint32_t number, uint32_t attempt)
{
    (void)producer;
    return number % 3 == 1 && attempt < 2 ? ANSWER_RETRY : ANSWER_ACCEPT;
}

static int run_retry(const char *dir, uint64_t seed)
{
    uint64_t random = seed;
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 1};
    struct scene_sink sink = {.number = 0,
                              .name = "moody",
                              .order = seed % 2 ? SPOOL_ORDER_LANE : SPOOL_ORDER_NONE,
                              .answer = fails_at_first,
                              .batch_events_max = 5};
    if (!spool || scene_sink_add(spool, &sink) || spool_start(spool))
        return -1;
    for (int round = 0; round < 3; round++) {
        if (scene_enqueue_some(&producer, 8, 2500, SPOOL_DURABLE_PROCESS, &random) || scene_drain(spool))
            return -1;
    }
    return scene_close(spool);
}

const struct lab_scenario scenario_retry = {"retry", "events fail once and are kept in the retry table", NULL,
                                            run_retry, NULL};

static enum scene_answer fails_for_long(uint32_t producer, uint32_t number, uint32_t attempt)
{
    (void)producer, (void)attempt;
    return number % 4 == 1 && !atomic_load(&forgiving) ? ANSWER_RETRY : ANSWER_ACCEPT;
}

/* The log's copy of a failed event goes: its retry row is all there is. */
static int run_retry_rotation(const char *dir, uint64_t seed)
{
    uint64_t random = seed;
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 1};
    struct scene_sink sink = {.number = 0, .name = "slow", .answer = fails_for_long, .batch_events_max = 6};
    atomic_store(&forgiving, false);
    if (!spool || scene_sink_add(spool, &sink))
        return -1;
    for (int i = 0; i < 30; i++) {
        if (scene_enqueue(&producer, 8000 + (uint32_t)(scene_random(&random) % 4000), SPOOL_DURABLE_PROCESS))
            return -1;
    }
    if (scene_commit(spool) || spool_start(spool) || scene_wait_answered(&sink, 36) || scene_stop(spool))
        return -1;
    store_reclaim(spool->store);
    atomic_store(&forgiving, true);
    return spool_start(spool) || scene_drain(spool) ? -1 : scene_close(spool);
}

const struct lab_scenario scenario_retry_rotation = {"retry-rotation", "failed events outlive the segment they came in",
                                                     NULL, run_retry_rotation, NULL};

static enum scene_answer refuses_some(uint32_t producer, uint32_t number, uint32_t attempt)
{
    (void)producer, (void)attempt;
    if (atomic_load(&forgiving))
        return ANSWER_ACCEPT;
    return number % 4 == 1 ? ANSWER_REJECT : number % 4 == 3 ? ANSWER_RETRY : ANSWER_ACCEPT;
}

static int run_dead_letters(const char *dir, uint64_t seed)
{
    uint64_t random = seed;
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 1};
    struct scene_sink sink = {.number = 0, .name = "strict", .answer = refuses_some, .max_attempts = 2};
    atomic_store(&forgiving, false);
    if (!spool || scene_sink_add(spool, &sink) || spool_start(spool) ||
        scene_enqueue_some(&producer, 10, 2000, SPOOL_DURABLE_PROCESS, &random) || scene_drain(spool) ||
        scene_stop(spool))
        return -1;
    if (scene_purge(spool, &sink) || spool_start(spool) ||
        scene_enqueue_some(&producer, 10, 2000, SPOOL_DURABLE_PROCESS, &random) || scene_drain(spool) ||
        scene_stop(spool))
        return -1;
    atomic_store(&forgiving, true);
    if (scene_requeue(spool, &sink) || spool_start(spool) || scene_drain(spool) || scene_stop(spool))
        return -1;
    atomic_store(&forgiving, false);
    if (spool_start(spool) || scene_enqueue_some(&producer, 6, 2000, SPOOL_DURABLE_PROCESS, &random) ||
        scene_drain(spool) || scene_stop(spool) || scene_sink_remove(spool, &sink, false) ||
        scene_sink_add(spool, &sink))
        return -1;
    return scene_purge(spool, &sink) ? -1 : scene_close(spool);
}

const struct lab_scenario scenario_dead_letters = {
    "dead-letters", "refused events become dead letters, are deleted, put back, and outlive their sink", NULL,
    run_dead_letters, NULL};

/* -------------------------------------------------------------------------------------------------------- many rows */

enum { MANY_CALLS = 34, MANY_EACH = 32 }; /* more than the 1,000 rows of one transaction */

/* All fail at first; then half of them are refused, which touches all rows again. */
static enum scene_answer fails_then_half(uint32_t producer, uint32_t number, uint32_t attempt)
{
    (void)producer;
    return attempt < 2 ? ANSWER_RETRY : number % 2 ? ANSWER_REJECT : ANSWER_ACCEPT;
}

static int prepare_many_rows(const char *dir, uint64_t seed)
{
    (void)seed;
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 1};
    for (int i = 0; spool && i < MANY_CALLS; i++) {
        if (scene_enqueue_many(&producer, MANY_EACH, EVENT_BODY_MIN, SPOOL_DURABLE_PROCESS))
            return -1;
    }
    return spool ? scene_close(spool) : -1;
}

static int run_many_rows(const char *dir, uint64_t seed)
{
    (void)seed;
    struct spool *spool = scene_open(dir, NULL);
    struct scene_sink sink = {.number = 0, .name = "many", .answer = fails_then_half, .batch_events_max = 2000};
    if (!spool || scene_sink_add(spool, &sink) || spool_start(spool) ||
        scene_wait_answered(&sink, 2 * MANY_CALLS * MANY_EACH) || scene_stop(spool))
        return -1;
    return scene_sink_remove(spool, &sink, false) ? -1 : scene_close(spool);
}

const struct lab_scenario scenario_many_rows = {
    "many-rows", "an acknowledgement of more rows than one transaction takes", prepare_many_rows, run_many_rows, NULL};
