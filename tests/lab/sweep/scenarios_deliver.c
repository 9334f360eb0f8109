/* scenarios_deliver.c - scenarios about sinks, dead letters, stopping, limits and damage. */
#include "run.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DRAIN_MS = 400 };
static const enum spool_durability PROCESS = SPOOL_DURABLE_PROCESS, POWER = SPOOL_DURABLE_POWER;

/* -------------------------------------------------------------------------------------------------------- delivering
 */

/* Whoever was registered has all when drain says so. */
static void deliver_all(struct spool *spool, const char *dir)
{
    bool all = sinks_add(spool, dir, true, answered);
    if (!answered("spool_start", spool_start(spool)) || !answered("spool_drain", spool_drain(spool, DRAIN_MS)) || !all)
        return;
    for (uint32_t n = 0; n < ledger->event_count; n++) {
        if (!atomic_load(&ledger->delivered[SINK_GOOD][n]))
            violation("drained, but event %u has not been delivered", n);
    }
}

void run_deliver(const char *dir)
{
    struct spool_options options = sweep_options();
    struct spool *spool = run_open(dir, &options);
    fault_arm(true);
    deliver_all(spool, dir);
    answered("spool_stop", spool_stop(spool, 5000));
    run_end_of(spool);
}

void run_deliver_dead(const char *dir)
{
    struct spool_options options = sweep_options();
    fault_arm(true);
    struct spool *spool = run_open(dir, &options);
    if (spool)
        deliver_all(spool, dir);
    run_end_of(spool);
}

void run_deliver_on(const char *dir)
{
    struct spool_options options = sweep_options();
    struct spool *spool = run_open(dir, &options);
    fault_arm(true);
    sinks_add(spool, dir, true, answered);
    answered("spool_start", spool_start(spool));
    for (uint32_t n = 0; n < 24; n++) {
        run_enqueue(spool, n, n % 2 ? PROCESS : POWER);
        if (n % 8 == 7)
            answered("spool_drain", spool_drain(spool, DRAIN_MS));
    }
    if (run_end == END_CLOSE)
        answered("spool_close", spool_close(spool));
    if (run_end == END_CLOSE)
        fault_arm(false);
    else
        run_end_of(spool);
}

void run_stop(const char *dir)
{
    struct spool_options options = sweep_options();
    struct spool *spool = run_open(dir, &options);
    sinks_add(spool, dir, true, must_work);
    must_work("spool_start", spool_start(spool));
    for (uint32_t n = 0; n < 24; n++)
        run_enqueue(spool, n, n % 2 ? PROCESS : POWER);
    fault_arm(true);
    answered("spool_stop", spool_stop(spool, 3000));
    if (run_end == END_CLOSE)
        answered("spool_close", spool_close(spool));
    if (run_end == END_CLOSE)
        fault_arm(false);
    else
        run_end_of(spool);
}

/* ------------------------------------------------------------------------------------------------------- dead letters
 */

struct two_ids {
    struct spool_id id[2];
    unsigned n;
};

static int take_id(void *user, const struct spool_dead_letter *letter)
{
    struct two_ids *ids = user;
    ids->id[ids->n++] = *letter->event->id;
    return ids->n == 2;
}

void run_dead_letters(const char *dir)
{
    struct spool_options options = sweep_options();
    struct two_ids ids = {.n = 0};
    uint64_t n = 0;
    struct spool *spool = run_open(dir, &options);
    ledger->requeued = true;
    spool_dead_each(spool, NULL, take_id, &ids);
    fault_arm(true);
    answered("spool_dead_requeue", spool_dead_requeue(spool, "rejecting", &ids.id[0], &n));
    answered("spool_dead_purge", spool_dead_purge(spool, NULL, &ids.id[1], &n));
    answered("spool_dead_requeue", spool_dead_requeue(spool, NULL, NULL, &n));
    sinks_add(spool, dir, false, answered);
    if (answered("spool_start", spool_start(spool)))
        answered("spool_drain", spool_drain(spool, DRAIN_MS));
    run_end_of(spool);
}

/* -------------------------------------------------------------------------------------------------------------- sinks
 */

void run_sinks(const char *dir)
{
    struct spool_options options = sweep_options();
    size_t n;
    struct spool *spool = run_open(dir, &options);
    fault_arm(true);
    sinks_add(spool, dir, true, answered);
    answered("spool_sink_load", spool_sink_load(spool, "spare", "null", NULL, NULL));
    answered("spool_sink_pause", spool_sink_pause(spool, "spare"));
    answered("spool_start", spool_start(spool));
    answered("spool_sink_resume", spool_sink_resume(spool, "spare"));
    answered("spool_drain", spool_drain(spool, DRAIN_MS));
    answered("spool_sink_remove", spool_sink_remove(spool, "spare"));
    answered("spool_sink_load_registered", spool_sink_load_registered(spool, &n));
    run_end_of(spool);
    ledger->spare_sink = true;
}

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    if (!file || fputs(text, file) < 0 || fclose(file) != 0)
        abort();
}

static void write_config(const char *path, const char *dir, const char *more)
{
    char text[1024], out[512];
    sink_file_path(dir, out, sizeof out);
    snprintf(
        text, sizeof text,
        "{\"spool\":{\"dir\":\"%s\",\"max_bytes\":\"64MiB\",\"journal_bytes\":\"256KiB\",\"segment_bytes\":\"1MiB\","
        "\"retention\":\"24h\",\"full_timeout\":\"100ms\"},"
        "\"sinks\":[{\"name\":\"file\",\"kind\":\"file\",\"path\":\"%s\"%s}]}",
        dir, out, more);
    fault_pause();
    write_text(path, text);
    fault_resume();
}

/* Other options, and then another order, for which the sink is let go of and added anew: whatever of that fails, what is
 * enqueued arrives. */
static void reload(struct spool *spool, const char *path, const char *dir)
{
    static const char *const more[] = {",\"retry\":{\"cap\":\"1s\"}", ",\"order\":\"lane\""};
    for (uint32_t i = 0; i < 2; i++) {
        write_config(path, dir, more[i]);
        answered("spool_reload_config", spool_reload_config(spool, path, NULL, NULL));
        run_enqueue(spool, 4 + i, POWER);
        answered("spool_drain", spool_drain(spool, DRAIN_MS));
    }
}

void run_config(const char *dir)
{
    char path[512];
    beside(dir, "spool.json", path, sizeof path);
    write_config(path, dir, "");
    struct spool *spool = NULL;
    fault_arm(true);
    if (!answered("spool_open_config", spool_open_config(path, &spool)))
        spool = NULL;
    for (uint32_t n = 0; spool && n < 4; n++)
        run_enqueue(spool, n, POWER);
    bool started = spool && answered("spool_start", spool_start(spool));
    if (started && answered("spool_drain", spool_drain(spool, DRAIN_MS)))
        reload(spool, path, dir);
    run_end_of(spool);
}

/* ------------------------------------------------------------------------------------------------------------- limits
 */

void run_drop(const char *dir)
{
    struct spool_options options = sweep_options();
    options.max_bytes = 4 << 20;
    for (int i = 0; i < SPOOL_PRIORITIES; i++)
        options.full_policy[i] = SPOOL_FULL_DROP_OLDEST;
    ledger->may_drop = true;
    struct spool *spool = run_open(dir, &options);
    fault_arm(true);
    for (uint32_t n = BIG_FROM; n < BIG_FROM + 160; n++)
        run_enqueue(spool, n, PROCESS);
    run_end_of(spool);
}

/* ------------------------------------------------------------------------------------------------------------- damage
 */

static void made_with_events(const char *dir)
{
    struct spool_options options = sweep_options();
    struct spool *spool = made(dir, &options);
    sinks_add(spool, dir, false, must_work);
    for (uint32_t n = 0; n < 60; n++) {
        run_enqueue(spool, n, POWER);
        if (n % 10 == 9)
            sleep_ms(20);
    }
    must_work("spool_start", spool_start(spool));
    must_work("spool_drain", spool_drain(spool, 60000));
    must_work("spool_close", spool_close(spool));
    ledger->damaged = true;
}

/* Page `page` from the end of what is used. */
static void spoil(const char *dir, const char *name, off_t from, off_t upto)
{
    char path[512], junk[64];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    memset(junk, 0xa5, sizeof junk);
    int fd = open(path, O_RDWR);
    if (fd < 0)
        abort();
    for (off_t at = from; at < upto; at += 4096) {
        if (pwrite(fd, junk, sizeof junk, at * 1 + 8) != (ssize_t)sizeof junk)
            abort();
    }
    close(fd);
}

void prepare_damaged_log(const char *dir)
{
    made_with_events(dir);
    spoil(dir, "segments/00000000000000000001.mdb", 8 * 4096, 10 * 4096);
}

void prepare_damaged_state(const char *dir)
{
    made_with_events(dir);
    spoil(dir, "state.mdb", 3 * 4096, 5 * 4096);
}

void run_repair(const char *dir)
{
    struct spool_options options = sweep_options();
    fault_arm(true);
    struct spool *spool = run_open(dir, &options);
    if (spool)
        run_read_all(spool);
    run_end_of(spool);
}
