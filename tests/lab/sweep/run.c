/* run.c - the steps of scenarios. */
#include "run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum end run_end;

/* Small, so that a case takes milliseconds; what is delivered is kept, so that the judge finds it, also where the clock
 * that stamped it was an hour slow. */
struct spool_options sweep_options(void)
{
    return SPOOL_OPTIONS(.max_bytes = 64 << 20, .journal_bytes = 256 << 10, .segment_bytes = 1 << 20,
                         .flush_interval_ms = 5, .retention_ms = 24 * 3600 * 1000, .full_timeout_ms = 100, .workers = 2,
                         .stop_timeout_ms = 5000);
}

void sleep_ms(unsigned ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000L}, NULL);
}

struct spool *made(const char *dir, const struct spool_options *options)
{
    struct spool *spool;
    if (must_work("spool_open", spool_open(dir, options, &spool)))
        return spool;
    fprintf(stderr, "%s\n", ledger->violation);
    exit(3);
}

struct spool *run_open(const char *dir, const struct spool_options *options)
{
    struct spool *spool = NULL;
    if (answered("spool_open", spool_open(dir, options, &spool)))
        return spool;
    enum fault_class class = ledger->fault.class;
    if (ledger->event_count && !ledger->damaged &&
        (class == FAULT_WRITE_ENOSPC || class == FAULT_ALLOCATE || class == FAULT_LMDB_PUT))
        violation("a full disk keeps the spool from opening: %s", spool_last_error());
    return NULL;
}

/* ------------------------------------------------------------------------------------------------------ enqueueing */

enum spool_priority run_priority(uint32_t n)
{
    static const enum spool_priority priorities[] = {SPOOL_MEDIUM, SPOOL_CRITICAL, SPOOL_HIGH, SPOOL_LOW};
    return priorities[n / 3 % 4];
}

static struct spool_event event_make(uint32_t n, enum spool_durability durability, char *body)
{
    size_t size = body_make(n, body, BODY_MAX);
    return SPOOL_EVENT(.type = "lab.sweep", .agent = n % 2 ? "odd" : "even", .priority = run_priority(n),
                       .durability = durability, .body = body, .body_size = size);
}

static void note_answer(uint32_t n, int code, enum spool_durability durability, const struct spool_id *id)
{
    struct ledger_event *event = &ledger->events[n];
    event->has_id = code == SPOOL_OK || code == SPOOL_EUNCERTAIN;
    event->id = *id;
    if (code == SPOOL_OK)
        event->answer = durability == SPOOL_DURABLE_PROCESS ? ANSWER_PROCESS : ANSWER_POWER;
    else
        event->answer = code == SPOOL_EUNCERTAIN ? ANSWER_UNCERTAIN : ANSWER_FAILED;
}

static void note_trying(uint32_t n)
{
    ledger->events[n].answer = ANSWER_TRYING;
    ledger->event_count = n >= ledger->event_count ? n + 1 : ledger->event_count;
}

void run_enqueue(struct spool *spool, uint32_t n, enum spool_durability durability)
{
    static char body[BODY_MAX];
    struct spool_id id = {0};
    struct spool_event event = event_make(n, durability, body);
    note_trying(n);
    int code = spool_enqueue(spool, &event, &id);
    answered("spool_enqueue", code);
    note_answer(n, code, durability, &id);
}

void run_enqueue_many(struct spool *spool, uint32_t first, uint32_t count, enum spool_durability durability)
{
    enum { MANY_MAX = 128, MANY_BODY = 2048 };
    static char bodies[MANY_MAX][BODY_MAX];
    static struct spool_event events[MANY_MAX];
    static struct spool_id ids[MANY_MAX];
    for (uint32_t i = 0; i < count; i++) {
        events[i] = event_make(first + i, durability, bodies[i]);
        note_trying(first + i);
    }
    int code = spool_enqueue_many(spool, events, count, ids);
    answered("spool_enqueue_many", code);
    for (uint32_t i = 0; i < count; i++)
        note_answer(first + i, code, durability, &ids[i]);
}

/* --------------------------------------------------------------------------------------------------------- reading */

static int read_on(struct spool_reader *reader, bool seen[EVENTS_MAX])
{
    const struct spool_event *event;
    int code;
    while ((code = spool_reader_next(reader, 1000, &event)) == SPOOL_OK) {
        uint32_t n;
        if (!body_number(event->body, event->body_size, &n)) {
            violation("the reader gave an event that nobody enqueued");
            return SPOOL_OK;
        }
        seen[n] = true;
    }
    answered("spool_reader_next", code);
    return code;
}

void run_read_all(struct spool *spool)
{
    bool seen[EVENTS_MAX] = {false};
    struct spool_reader *reader;
    if (!answered("spool_reader_open", spool_reader_open(spool, NULL, &reader)))
        return;
    bool to_the_end = read_on(reader, seen) == SPOOL_ENOTFOUND;
    spool_reader_close(reader);
    for (uint32_t n = 0; to_the_end && !ledger->damaged && n < ledger->committed; n++) {
        if (!seen[n])
            violation("a reader came to the end without an error, but event %u is in a segment and was not shown", n);
    }
}

/* ---------------------------------------------------------------------------------------------------------- ending */

void run_end_of(struct spool *spool)
{
    fault_arm(false);
    if (run_end == END_POWER) {
        power_cut();
        ledger->power_is_cut = true;
    }
    if (run_end != END_CLOSE)
        return;
    int code = spool_close(spool);
    answered("spool_close", code);
}
