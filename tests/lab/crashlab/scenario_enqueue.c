/* scenario_enqueue.c - the producer's side: levels, flushes, groups, laps of the journal, a failing flush, the clock.
 */
#include "scenarios.h"

#include <unistd.h>

#include "../../../spool/journal.h"

static int first_open(const char *dir, uint64_t seed)
{
    (void)seed;
    struct spool *spool = scene_open(dir, NULL);
    return spool ? scene_close(spool) : -1;
}

/* ----------------------------------------------------------------------------------------------------------- making */

static int run_create(const char *dir, uint64_t seed)
{
    uint64_t random = seed;
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 1};
    if (!spool || scene_enqueue_some(&producer, 4, 200, SPOOL_DURABLE_POWER, &random) || scene_close(spool))
        return -1;
    producer.spool = scene_open(dir, NULL);
    return !producer.spool || scene_enqueue(&producer, 50, SPOOL_DURABLE_POWER) ? -1 : scene_close(producer.spool);
}

const struct lab_scenario scenario_create = {"create", "a directory becomes a spool, and takes its first events", NULL,
                                             run_create, NULL};

/* ----------------------------------------------------------------------------------------------------------- levels */

static int run_level(const char *dir, uint64_t seed, enum spool_durability durability)
{
    uint64_t random = seed;
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 1};
    if (!spool)
        return -1;
    for (int i = 0; i < 3; i++) {
        producer.priority = (enum spool_priority)(i % SPOOL_PRIORITIES);
        if (scene_enqueue_some(&producer, 6, 600, durability, &random) || (i == 1 && scene_commit(spool)))
            return -1;
    }
    return scene_close(spool);
}

static int run_process(const char *dir, uint64_t seed)
{
    return run_level(dir, seed, SPOOL_DURABLE_PROCESS);
}
static int run_power(const char *dir, uint64_t seed)
{
    return run_level(dir, seed, SPOOL_DURABLE_POWER);
}

static int run_mixed(const char *dir, uint64_t seed)
{
    uint64_t random = seed;
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 1};
    for (int i = 0; spool && i < 24; i++) {
        uint64_t choice = scene_random(&random);
        producer.priority = (enum spool_priority)(choice >> 8 & 3);
        if (scene_enqueue_some(&producer, 1, 900, choice & 1 ? SPOOL_DURABLE_POWER : SPOOL_DURABLE_PROCESS, &random))
            return -1;
        if (choice % 7 == 0 && scene_commit(spool))
            return -1;
    }
    return spool ? scene_close(spool) : -1;
}

const struct lab_scenario scenario_process = {"enqueue-process", "events at process level", first_open, run_process,
                                              NULL};
const struct lab_scenario scenario_power = {"enqueue-power", "events at power level", first_open, run_power, NULL};
const struct lab_scenario scenario_mixed = {"enqueue-mixed", "both levels and all priorities", first_open, run_mixed,
                                            NULL};

static int run_many(const char *dir, uint64_t seed)
{
    uint64_t random = seed;
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 1};
    for (int i = 0; spool && i < 8; i++) {
        uint32_t count = 2 + (uint32_t)(scene_random(&random) % 12), size = (uint32_t)(scene_random(&random) % 700);
        if (scene_enqueue_many(&producer, count, size, i % 2 ? SPOOL_DURABLE_POWER : SPOOL_DURABLE_PROCESS))
            return -1;
        if (i == 4 && scene_commit(spool))
            return -1;
    }
    return spool ? scene_close(spool) : -1;
}

const struct lab_scenario scenario_many = {"enqueue-many", "several events in a call: all or none", first_open,
                                           run_many, NULL};

static int run_flush(const char *dir, uint64_t seed)
{
    uint64_t random = seed;
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 1};
    for (int i = 0; spool && i < 6; i++) {
        if (scene_enqueue_some(&producer, 3, 1500, SPOOL_DURABLE_PROCESS, &random) || scene_flush(spool))
            return -1;
    }
    return spool ? scene_close(spool) : -1;
}

const struct lab_scenario scenario_flush = {"flush", "events at process level, and spool_flush()", first_open,
                                            run_flush, NULL};

/* ---------------------------------------------------------------------------------------------------------- threads */

enum { THREADS = 4, EACH = 8 };

struct thread {
    struct scene_producer producer;
    uint64_t random;
    int code;
};

static void *produce(void *arg)
{
    struct thread *thread = arg;
    thread->code = scene_enqueue_some(&thread->producer, EACH, 400, SPOOL_DURABLE_POWER, &thread->random);
    return NULL;
}

static int run_group(const char *dir, uint64_t seed)
{
    struct thread threads[THREADS];
    pthread_t ids[THREADS];
    struct spool *spool = scene_open(dir, NULL);
    int code = spool ? 0 : -1;
    for (uint32_t i = 0; i < THREADS && !code; i++) {
        threads[i] = (struct thread){{.spool = spool, .number = i + 1}, seed + i, 0};
        code = pthread_create(&ids[i], NULL, produce, &threads[i]);
    }
    for (uint32_t i = 0; i < THREADS && spool; i++)
        code |= pthread_join(ids[i], NULL) | threads[i].code;
    return code ? code : scene_close(spool);
}

const struct lab_scenario scenario_group = {"group", "threads share flushes of the journal", first_open, run_group,
                                            NULL};

/* ----------------------------------------------------------------------------------------------- the journal's ring */

/* Much more than the ring holds. */
static int run_laps(const char *dir, uint64_t seed)
{
    uint64_t random = seed;
    const struct scene_options options = {.segment_bytes = 2 << 20};
    struct spool *spool = scene_open(dir, &options);
    struct scene_producer producer = {.spool = spool, .number = 1};
    for (int i = 0; spool && i < 40; i++) {
        enum spool_durability level = i % 5 == 4 ? SPOOL_DURABLE_POWER : SPOOL_DURABLE_PROCESS;
        if (scene_enqueue(&producer, 3000 + (uint32_t)(scene_random(&random) % 4000), level))
            return -1;
    }
    return spool ? scene_close(spool) : -1;
}

const struct lab_scenario scenario_laps = {"journal-laps", "several laps round the journal's ring", NULL, run_laps,
                                           NULL};

static atomic_int flushes_left; /* until one fails */

static int fail_in_turn(int fd)
{
    if (atomic_fetch_sub(&flushes_left, 1) != 0)
        return fdatasync(fd);
    errno = EIO;
    return -1;
}

static int run_failed_flush(const char *dir, uint64_t seed)
{
    uint64_t random = seed;
    const struct scene_options options = {.flush_interval_ms = 20};
    struct spool *spool = scene_open(dir, &options);
    struct scene_producer producer = {.spool = spool, .number = 1};
    atomic_store(&flushes_left, 2 + (int)(seed % 3));
    journal_fdatasync = fail_in_turn;
    for (int i = 0; spool && i < 14; i++) {
        int code = scene_enqueue_try(&producer, (uint32_t)(scene_random(&random) % 500),
                                     i % 3 ? SPOOL_DURABLE_POWER : SPOOL_DURABLE_PROCESS);
        if (code && code != SPOOL_EUNCERTAIN)
            return scene_fail(code, "enqueueing on a failing disk");
        if (i == 9)
            atomic_store(&flushes_left, 1); /* and the new journal's */
    }
    return spool ? scene_close(spool) : -1;
}

const struct lab_scenario scenario_failed_flush = {"failed-flush", "a flush fails: the journal is replaced, twice",
                                                   first_open, run_failed_flush, NULL};

/* ------------------------------------------------------------------------------------------------------------ clock */

static int run_clock(const char *dir, uint64_t seed)
{
    uint64_t random = seed;
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 1};
    for (int i = 0; spool && i < 4; i++) {
        if (scene_stamp(spool) || (i % 2 && scene_enqueue_some(&producer, 2, 60, SPOOL_DURABLE_POWER, &random)))
            return -1;
        if (i == 1)
            usleep(1100 * 1000); /* beyond what was promised ahead */
    }
    return spool ? scene_close(spool) : -1;
}

const struct lab_scenario scenario_clock = {"clock", "stamps without events are not given out again", first_open,
                                            run_clock, NULL};
