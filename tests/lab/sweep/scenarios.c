/* scenarios.c - the table of scenarios, and those about opening, enqueueing and looking. */
#include "run.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const enum spool_durability PROCESS = SPOOL_DURABLE_PROCESS, POWER = SPOOL_DURABLE_POWER;

/* ------------------------------------------------------------------------------------------------------ preparation */

static void enqueue_both(struct spool *spool, uint32_t first, uint32_t count)
{
    for (uint32_t n = first; n < first + count; n++)
        run_enqueue(spool, n, n % 2 ? PROCESS : POWER);
}

static void prepare_nothing(const char *dir)
{
    (void)dir;
}

static void prepare_empty(const char *dir)
{
    struct spool_options options = sweep_options();
    must_work("spool_close", spool_close(made(dir, &options)));
}

static void prepare_events(const char *dir)
{
    struct spool_options options = sweep_options();
    struct spool *spool = made(dir, &options);
    enqueue_both(spool, 0, 40);
    must_work("spool_close", spool_close(spool));
    ledger->committed = 40;
}

/* Ends without closing (the process exits): the journal is a dead one, nothing of it is committed. */
static void prepare_dead(const char *dir)
{
    struct spool_options options = sweep_options();
    options.flush_interval_ms = SPOOL_FLUSH_NEVER;
    enqueue_both(made(dir, &options), 0, 40);
}

static void prepare_sinks(const char *dir)
{
    struct spool_options options = sweep_options();
    struct spool *spool = made(dir, &options);
    sinks_add(spool, dir, false, must_work);
    must_work("spool_close", spool_close(spool));
}

static void prepare_delivered(const char *dir)
{
    struct spool_options options = sweep_options();
    struct spool *spool = made(dir, &options);
    sinks_add(spool, dir, false, must_work);
    enqueue_both(spool, 0, 40);
    must_work("spool_start", spool_start(spool));
    must_work("spool_drain", spool_drain(spool, 60000));
    must_work("spool_close", spool_close(spool));
    ledger->committed = 40;
}

/* -------------------------------------------------------------------------------------------------------- scenarios */

static void run_open_first(const char *dir)
{
    struct spool_options options = sweep_options();
    fault_arm(true);
    struct spool *spool = run_open(dir, &options);
    for (uint32_t n = 0; spool && n < 4; n++)
        run_enqueue(spool, n, n % 2 ? PROCESS : POWER);
    run_end_of(spool);
}

static void run_open_again(const char *dir)
{
    struct spool_options options = sweep_options();
    fault_arm(true);
    struct spool *spool = run_open(dir, &options);
    if (spool)
        enqueue_both(spool, ledger->event_count, 4);
    run_end_of(spool);
}

static void run_open_read_only(const char *dir)
{
    struct spool_options options = sweep_options();
    options.flags = SPOOL_READ_ONLY;
    fault_arm(true);
    struct spool *spool = run_open(dir, &options);
    if (spool)
        run_read_all(spool);
    run_end_of(spool);
}

static void run_enqueue_process(const char *dir)
{
    struct spool_options options = sweep_options();
    struct spool *spool = run_open(dir, &options);
    fault_arm(true);
    for (uint32_t n = 0; spool && n < 30; n++)
        run_enqueue(spool, n, PROCESS);
    sleep_ms(20);
    run_end_of(spool);
}

static void run_enqueue_power(const char *dir)
{
    struct spool_options options = sweep_options();
    struct spool *spool = run_open(dir, &options);
    fault_arm(true);
    for (uint32_t n = 0; spool && n < 20; n++)
        run_enqueue(spool, n, POWER);
    run_end_of(spool);
}

static void run_many(const char *dir)
{
    struct spool_options options = sweep_options();
    options.compress = SPOOL_COMPRESS_ZSTD;
    struct spool *spool = run_open(dir, &options);
    fault_arm(true);
    run_enqueue_many(spool, 0, 5, POWER);
    run_enqueue_many(spool, 5, 70, PROCESS);
    run_enqueue_many(spool, 75, 70, POWER);
    run_end_of(spool);
}

static void run_flush(const char *dir)
{
    struct spool_options options = sweep_options();
    options.flush_interval_ms = 1000;
    struct spool *spool = run_open(dir, &options);
    fault_arm(true);
    for (uint32_t n = 0; spool && n < 30; n++) {
        run_enqueue(spool, n, PROCESS);
        if (n % 6 == 5 && answered("spool_flush", spool_flush(spool, 300)))
            for (uint32_t i = 0; i <= n; i++)
                ledger->events[i].answer =
                    ledger->events[i].answer == ANSWER_PROCESS ? ANSWER_POWER : ledger->events[i].answer;
    }
    run_end_of(spool);
}

/* Small groups, so that there are many commits; reading waits for them. */
static void run_commit(const char *dir)
{
    struct spool_options options = sweep_options();
    struct spool *spool = run_open(dir, &options);
    fault_arm(true);
    for (uint32_t n = 0; spool && n < 30; n++) {
        run_enqueue(spool, n, n % 2 ? PROCESS : POWER);
        if (n % 5 == 4)
            sleep_ms(8);
    }
    run_end_of(spool);
}

/* More than one segment. */
static void run_rotate(const char *dir)
{
    struct spool_options options = sweep_options();
    struct spool *spool = run_open(dir, &options);
    fault_arm(true);
    for (uint32_t n = BIG_FROM; spool && n < BIG_FROM + 48; n++)
        run_enqueue(spool, n, n % 8 ? PROCESS : POWER);
    run_end_of(spool);
}

/* ------------------------------------------------------------------------------------------------------------ looking
 */

static void look_for_all(struct spool *spool)
{
    for (uint32_t n = 0; n < ledger->event_count; n += 3) {
        struct spool_event *event;
        int code = spool_find(spool, &ledger->events[n].id, &event);
        if (code == SPOOL_ENOTFOUND)
            violation("spool_find() does not find event %u, which is there", n);
        if (answered("spool_find", code))
            spool_event_free(event);
    }
}

static int see_sink(void *user, const struct spool_sink_info *info)
{
    (void)info;
    ++*(unsigned *)user;
    return 0;
}

static int see_letter(void *user, const struct spool_dead_letter *letter)
{
    (void)letter;
    ++*(unsigned *)user;
    return 0;
}

static void count_tables(struct spool *spool)
{
    unsigned sinks = 0, letters = 0;
    if (answered("spool_sink_each", spool_sink_each(spool, see_sink, &sinks)) && sinks != 3)
        violation("spool_sink_each() showed %u sinks of 3 and no error", sinks);
    if (answered("spool_dead_each", spool_dead_each(spool, NULL, see_letter, &letters)) && letters != 6)
        violation("spool_dead_each() showed %u dead letters of 6 and no error", letters);
}

static void run_look(const char *dir)
{
    struct spool_options options = sweep_options();
    struct spool_stats stats = SPOOL_STATS();
    struct spool_verify_report report = {.size = sizeof report};
    struct spool *spool = run_open(dir, &options);
    fault_arm(true);
    run_read_all(spool);
    look_for_all(spool);
    count_tables(spool);
    if (answered("spool_stats", spool_stats(spool, &stats)) && stats.stored_events != 40)
        violation("spool_stats() counts %llu stored events of 40 and no error",
                  (unsigned long long)stats.stored_events);
    if (answered("spool_verify", spool_verify(spool, NULL, NULL, NULL, &report)) && report.events != 40)
        violation("spool_verify() saw %llu events of 40 and no error", (unsigned long long)report.events);
    run_end_of(spool);
}

static void run_clock(const char *dir)
{
    struct spool_options options = sweep_options();
    struct spool *spool = run_open(dir, &options);
    struct spool_id last = {0}, stamp;
    fault_arm(true);
    for (unsigned i = 0; spool && i < 8; i++) {
        if (!answered("spool_clock_now", spool_clock_now(spool, &stamp)))
            continue;
        if (spool_id_compare(&stamp, &last) <= 0)
            violation("the clock went back");
        last = stamp;
        run_enqueue(spool, i, POWER);
    }
    run_end_of(spool);
}

/* ---------------------------------------------------------------------------------------------------------- the table
 */

const struct scenario scenarios[] = {
    {"open-new", "a new spool, four events", prepare_nothing, run_open_first},
    {"open-existing", "a spool with events in a segment", prepare_events, run_open_again},
    {"open-dead", "a spool with the journal of a dead process", prepare_dead, run_open_again},
    {"open-read-only", "the same, for reading only", prepare_dead, run_open_read_only},
    {"enqueue-process", "30 events, in the mapped journal", prepare_empty, run_enqueue_process},
    {"enqueue-power", "20 events, each flushed", prepare_empty, run_enqueue_power},
    {"enqueue-many", "frames of 5, 70 and 70 events, compressed", prepare_empty, run_many},
    {"flush", "30 events and 5 flushes", prepare_empty, run_flush},
    {"commit", "30 events, committed in small groups", prepare_empty, run_commit},
    {"rotate", "48 large events: a segment is sealed, another begun", prepare_empty, run_rotate},
    {"look", "reader, find, sinks, dead letters, stats, verify", prepare_delivered, run_look},
    {"clock", "stamps without events", prepare_empty, run_clock},
    {"deliver", "40 events to four sinks: good, retrying, rejecting, file", prepare_events, run_deliver},
    {"deliver-dead", "the same, out of the journal of a dead process", prepare_dead, run_deliver_dead},
    {"deliver-on", "enqueue while it delivers, then stop and close, all with faults", prepare_sinks, run_deliver_on},
    {"stop", "stop and close while it delivers", prepare_sinks, run_stop},
    {"dead-letters", "requeue one, purge one, requeue all", prepare_delivered, run_dead_letters},
    {"sinks", "add, pause, resume, remove sinks, load registered ones", prepare_delivered, run_sinks},
    {"operations", "a dozen that share resources, one cancelled, one with a deadline", prepare_empty, run_operations},
    {"edit-letters", "edit a dead letter; get, write, purge, read in another", prepare_delivered, run_edit_letters},
    {"move-letters", "requeue dead letters to another sink", prepare_delivered, run_move_letters},
    {"rewind", "a sink gets half of its events again, by id and by time", prepare_delivered, run_rewind},
    {"set-options", "options of a sink that is served", prepare_delivered, run_set_options},
    {"receipts", "what became of events that are delivered and dead", prepare_delivered, run_receipts},
    {"metrics", "Prometheus text, stopped and while it delivers", prepare_delivered, run_metrics},
    {"agents", "two agents side by side, with a resource that operations need too", prepare_events, run_agents},
    {"filter", "a sink gets every other event", prepare_events, run_filter},
    {"plugin", "a sink out of a shared object; a failed load is repeated", prepare_events, run_plugin},
    {"failover", "two files, the second one for when the first fails", prepare_events, run_failover},
    {"quorum", "two of three files must have each event", prepare_events, run_quorum},
    {"config", "spool and sinks from a configuration file, which is read again", prepare_nothing, run_config},
    {"drop-oldest", "a full spool that drops its oldest segment", prepare_nothing, run_drop},
    {"repair-log", "a page of the newest segment is damaged", prepare_damaged_log, run_repair},
    {"repair-state", "a page of state.mdb is damaged", prepare_damaged_state, run_repair},
};
const size_t scenario_count = sizeof scenarios / sizeof *scenarios;
