/* scenarios_control.c - scenarios about what an operator does at run time: rewinding, other options, dead letters by hand,
 * receipts, metrics. */
#include "run.h"

#include <stdlib.h>
#include <string.h>

enum { DRAIN_MS = 400, EVENTS = 40, REWOUND_TO = 20 }; /* of prepare_delivered(); the first that is to come again */

/* Opened, with its sinks, before anything fails. */
static struct spool *open_served(const char *dir)
{
    struct spool_options options = sweep_options();
    struct spool *spool = run_open(dir, &options);
    sinks_add(spool, dir, false, must_work);
    must_work("spool_start", spool_start(spool));
    return spool;
}

/* -------------------------------------------------------------------------------------------------------- dead letters */

static void edit(struct spool *spool, uint32_t n)
{
    static char body[BODY_MAX];
    uint64_t count = 0;
    struct spool_event event = SPOOL_EVENT(.type = LETTER_TYPE_EDITED, .agent = "editor", .body = body);
    event.body_size = body_make(n, body, sizeof body);
    ledger->letters[n] = LETTER_EDITING;
    int code = spool_dead_edit(spool, "rejecting", &ledger->events[n].id, &event, &count);
    if (!answered("spool_dead_edit", code))
        return;
    ledger->letters[n] = LETTER_EDITED;
    if (count != 1)
        violation("spool_dead_edit() edited %llu dead letters of 1", (unsigned long long)count);
}

/* As text, malloc'd; NULL if it failed. */
static char *letter_text(struct spool *spool, uint32_t n, size_t *ret_size)
{
    struct spool_dead_letter *letter;
    char *json;
    if (!answered("spool_dead_get", spool_dead_get(spool, "rejecting", &ledger->events[n].id, &letter)))
        return NULL;
    bool written = answered("spool_dead_to_json", spool_dead_to_json(letter, &json, ret_size));
    spool_dead_letter_free(letter);
    return written ? json : NULL;
}

static void out_and_in(struct spool *spool, uint32_t n)
{
    size_t size;
    char *json = letter_text(spool, n, &size);
    if (!json)
        return;
    uint64_t count = 0;
    ledger->letters[n] = LETTER_UNSURE;
    bool purged =
        answered("spool_dead_purge", spool_dead_purge(spool, "rejecting", &ledger->events[n].id, &count)) && count == 1;
    if (purged)
        ledger->letters[n] = LETTER_GONE;
    int code = spool_dead_import(spool, json, size);
    if (answered("spool_dead_import", code))
        ledger->letters[n] = LETTER_BACK;
    else
        ledger->letters[n] = LETTER_UNSURE;
    if (purged && code == SPOOL_EEXISTS)
        violation("event %u's dead letter was purged, and its import says that it exists", n);
    spool_free(json);
}

void run_edit_letters(const char *dir)
{
    struct spool_options options = sweep_options();
    struct spool *spool = run_open(dir, &options);
    ledger->requeued = true;
    fault_arm(true);
    edit(spool, 3);
    out_and_in(spool, 10);
    edit(spool, 17);
    out_and_in(spool, 24);
    run_end_of(spool);
}

static void move(struct spool *spool, uint32_t n)
{
    uint64_t count = 0;
    ledger->letters[n] = LETTER_MOVING;
    int code = spool_dead_requeue_to(spool, "rejecting", &ledger->events[n].id, "good", &count);
    if (!answered("spool_dead_requeue_to", code))
        return;
    ledger->letters[n] = LETTER_MOVED;
    if (count != 1)
        violation("spool_dead_requeue_to() moved %llu dead letters of 1", (unsigned long long)count);
}

void run_move_letters(const char *dir)
{
    struct spool *spool = open_served(dir);
    ledger->requeued = true;
    fault_arm(true);
    move(spool, 3);
    move(spool, 10);
    answered("spool_drain", spool_drain(spool, DRAIN_MS));
    move(spool, 17);
    run_end_of(spool);
}

/* ------------------------------------------------------------------------------------------------- rewind and options */

static void come_again(uint32_t from)
{
    for (uint32_t n = from; n < EVENTS; n++)
        ledger->again[n] = true;
}

static void check_drained(uint32_t upto)
{
    for (uint32_t n = 0; n < upto; n++) {
        uint32_t times = atomic_load(&ledger->delivered[SINK_GOOD][n]);
        if (times < (ledger->again[n] ? 2 : 1))
            violation("drained, but event %u was delivered %u times", n, times);
        if (n < REWOUND_TO && !ledger->again[n] && times > 1)
            violation("event %u is before what was rewound, and came again", n);
    }
}

/* "good" by id, and "retrying" by time: it has no more than those. */
void run_rewind(const char *dir)
{
    uint64_t again = 0;
    struct spool *spool = open_served(dir);
    ledger->recounted = true;
    fault_arm(true);
    if (answered("spool_sink_rewind", spool_sink_rewind(spool, "good", 0, &ledger->events[REWOUND_TO].id, &again))) {
        come_again(REWOUND_TO);
        if (again != EVENTS - REWOUND_TO)
            violation("spool_sink_rewind() says %llu events come again, of %d", (unsigned long long)again,
                      EVENTS - REWOUND_TO);
    }
    run_enqueue(spool, EVENTS, SPOOL_DURABLE_POWER);
    uint64_t to_ns = spool_id_time_ns(&ledger->events[REWOUND_TO].id);
    answered("spool_sink_rewind", spool_sink_rewind(spool, "retrying", to_ns, NULL, NULL));
    if (answered("spool_drain", spool_drain(spool, DRAIN_MS)))
        check_drained(EVENTS);
    run_end_of(spool);
}

void run_set_options(const char *dir)
{
    struct spool *spool = open_served(dir);
    struct spool_sink_options change = SPOOL_SINK_OPTIONS(.retry_cap_ms = OPTION_SET), smaller = SPOOL_SINK_OPTIONS();
    smaller.batch_events_max = 3;
    fault_arm(true);
    if (answered("spool_sink_set_options", spool_sink_set_options(spool, "good", &change)))
        ledger->option_set = true;
    for (uint32_t n = EVENTS; n < EVENTS + 8; n++)
        run_enqueue(spool, n, SPOOL_DURABLE_POWER);
    answered("spool_sink_set_options", spool_sink_set_options(spool, "good", &smaller));
    answered("spool_sink_set_options", spool_sink_set_options(spool, "rejecting", &smaller));
    bool drained = answered("spool_drain", spool_drain(spool, DRAIN_MS));
    for (uint32_t n = EVENTS; drained && n < EVENTS + 8; n++) {
        if (ledger->events[n].answer == ANSWER_POWER && !atomic_load(&ledger->delivered[SINK_GOOD][n]))
            violation("drained, but event %u was not delivered", n);
    }
    run_end_of(spool);
}

/* ------------------------------------------------------------------------------------------------ receipts and metrics */

struct seen_receipts {
    uint32_t n;
    unsigned count;
};

static bool is_as_it_should(const struct spool_receipt *receipt, uint32_t n)
{
    if (strcmp(receipt->sink, "rejecting") == 0 && sink_rejects(n))
        return receipt->state == SPOOL_RECEIPT_DEAD && receipt->attempts == 1 &&
               strstr(receipt->reason, "not this one");
    return receipt->state == SPOOL_RECEIPT_DELIVERED || receipt->state == SPOOL_RECEIPT_OVER;
}

static int see_receipt(void *user, const struct spool_receipt *receipt)
{
    struct seen_receipts *seen = user;
    seen->count++;
    if (!is_as_it_should(receipt, seen->n))
        violation("the receipt of event %u at sink %s says %s, %u attempts, \"%s\"", seen->n, receipt->sink,
                  spool_receipt_state_name(receipt->state), receipt->attempts, receipt->reason);
    return 0;
}

void run_receipts(const char *dir)
{
    struct spool_options options = sweep_options();
    struct spool *spool = run_open(dir, &options);
    fault_arm(true);
    for (uint32_t n = 0; n < EVENTS; n += 3) {
        struct seen_receipts seen = {.n = n};
        bool good = answered("spool_receipt", spool_receipt(spool, &ledger->events[n].id, see_receipt, &seen));
        if (good && seen.count != 3)
            violation("spool_receipt() told of %u sinks of 3 and no error", seen.count);
    }
    run_end_of(spool);
}

/* All of it, or an error: never a part. */
static void take_metrics(struct spool *spool)
{
    static const char *const series[] = {"spool_stored_events", "spool_delivered_total{sink=\"good\"",
                                         "spool_dlq_depth{sink=\"rejecting\"", "spool_queue_depth{sink=\"retrying\""};
    char *text;
    size_t size;
    if (!answered("spool_metrics", spool_metrics(spool, &text, &size)))
        return;
    if (size == 0 || strlen(text) != size || text[size - 1] != '\n')
        violation("the metrics are cut off");
    for (size_t i = 0; i < sizeof series / sizeof *series; i++) {
        if (!strstr(text, series[i]))
            violation("the metrics lack %s, and no error was answered", series[i]);
    }
    spool_free(text);
}

void run_metrics(const char *dir)
{
    struct spool_options options = sweep_options();
    struct spool *spool = run_open(dir, &options);
    fault_arm(true);
    take_metrics(spool);
    sinks_add(spool, dir, false, answered);
    answered("spool_start", spool_start(spool));
    run_enqueue(spool, EVENTS, SPOOL_DURABLE_POWER);
    take_metrics(spool);
    answered("spool_drain", spool_drain(spool, DRAIN_MS));
    take_metrics(spool);
    run_end_of(spool);
}
