/* suspects.c - events that were in the sink's hands when a process died: delivered one by one, with nothing beside
 * them, until each has been answered for; and buried when they were there too often. With the lock held, but for
 * loading.
 *
 * What is left of them is written down once the answers that it rests on are stored: a death before that finds the
 * older list, and what of it is over by then is seen from the cursor. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/base/error.h"
#include "engine.h"

static bool covers(const struct store_suspect *s, int lane, uint64_t seq)
{
    return s->lane == lane && s->first <= seq && seq < s->end;
}

static void remove_suspect(struct sink *sink, size_t at)
{
    memmove(&sink->suspects[at], &sink->suspects[at + 1], (--sink->suspect_count - at) * sizeof *sink->suspects);
}

/* An entry is over when the cursor has passed it, and no event of it waits for a retry, perhaps untried. */
static bool suspect_is_over(const struct sink *sink, const struct store_suspect *s)
{
    if (s->end > sink->windows[s->lane].cursor)
        return false;
    for (uint64_t seq = s->first; seq < s->end; seq++) {
        const struct retry_row *row = retry_find(&sink->retries, s->lane, seq);
        if (row && !row->over)
            return false;
    }
    return true;
}

void suspects_purge(struct sink *sink)
{
    for (size_t i = sink->suspect_count; i-- > 0;)
        if (suspect_is_over(sink, &sink->suspects[i]))
            remove_suspect(sink, i);
}

int suspects_load(struct sink *sink, struct store_hand *hand)
{
    struct store_suspect *list = malloc(STORE_SUSPECTS_MAX * sizeof *list);
    if (!list)
        return err_errno(ENOMEM, "sink %s", sink->name);
    free(sink->suspects);
    sink->suspects = list;
    sink->suspect_count = store_hand_suspects(hand, list);
    suspects_purge(sink);
    return SPOOL_OK;
}

uint64_t suspects_fresh(const struct sink *sink)
{
    uint64_t events = 0;
    for (size_t i = 0; i < sink->suspect_count; i++)
        events += sink->suspects[i].fresh ? sink->suspects[i].end - sink->suspects[i].first : 0;
    return events;
}

uint64_t suspects_events(const struct sink *sink)
{
    uint64_t events = 0;
    for (size_t i = 0; i < sink->suspect_count; i++)
        events += sink->suspects[i].end - sink->suspects[i].first;
    return events;
}

void suspects_keep(struct delivery *d, struct sink *sink)
{
    if (sink->suspects_upto == 0 || sink->acked < sink->suspects_upto)
        return;
    size_t n = sink->suspect_count;
    struct store_suspect *list = malloc((n + 1) * sizeof *list);
    if (!list)
        return; /* the next look does it */
    if (n > 0)
        memcpy(list, sink->suspects, n * sizeof *list);
    sink->suspects_upto = 0;
    pthread_mutex_unlock(d->lock);
    store_hand_keep(sink->hand, list, n);
    pthread_mutex_lock(d->lock);
    free(list);
}

bool suspects_has(const struct sink *sink, int lane, uint64_t seq)
{
    for (size_t i = 0; i < sink->suspect_count; i++)
        if (covers(&sink->suspects[i], lane, seq))
            return true;
    return false;
}

uint64_t suspects_end(const struct sink *sink, int lane, uint64_t first, uint64_t end)
{
    for (size_t i = 0; i < sink->suspect_count; i++) {
        const struct store_suspect *s = &sink->suspects[i];
        if (covers(s, lane, first))
            return first + 1;
        if (s->lane == lane && s->first > first && s->first < end)
            end = s->first;
    }
    return end;
}

/* Of the entry that the event has for itself. */
static uint32_t crashes_alone(const struct sink *sink, int lane, uint64_t seq)
{
    uint32_t crashes = 0;
    for (size_t i = 0; i < sink->suspect_count; i++) {
        const struct store_suspect *s = &sink->suspects[i];
        if (covers(s, lane, seq) && s->alone && s->crashes > crashes)
            crashes = s->crashes;
    }
    return crashes;
}

void suspects_condemn(const struct sink *sink, const struct batch *batch, struct bench *bench)
{
    for (size_t i = 0; i < bench->count && sink->suspect_count > 0; i++) {
        struct bench_item *item = &bench->items[i];
        uint32_t crashes = crashes_alone(sink, batch->lane, item->seq);
        if (item->verdict != VERDICT_OPEN || sink->options.max_crashes == SPOOL_CRASHES_ANY ||
            crashes < sink->options.max_crashes)
            continue;
        char text[96];
        snprintf(text, sizeof text,
                 "the process died %u times while it was delivered, the last time alone (max_crashes)", crashes);
        bench_set_reason(bench, item, text);
        item->verdict = VERDICT_REJECTED;
    }
}

/* What of the entry lies before `seq` and waits for a retry, perhaps since before a restart, gets entries of its own.
 * False: there is no room for them. */
static bool keep_rows(struct sink *sink, const struct store_suspect *s, uint64_t seq)
{
    struct store_suspect own = *s;
    for (uint64_t at = s->first; at < seq; at++) {
        const struct retry_row *row = retry_find(&sink->retries, own.lane, at);
        own.first = at;
        own.end = at + 1;
        if (row && !row->over && sink->suspect_count == STORE_SUSPECTS_MAX)
            return false;
        if (row && !row->over)
            sink->suspects[sink->suspect_count++] = own;
    }
    return true;
}

/* The entry of an event of the log moves behind it, as the log is taken in order. */
static void clear_at(struct sink *sink, size_t at, const struct batch *batch, uint64_t seq)
{
    struct store_suspect *s = &sink->suspects[at];
    if (batch->kind == BATCH_LOG && !keep_rows(sink, s, seq))
        return; /* it stays whole, and is over when the last one is */
    if (batch->kind == BATCH_LOG && s->end > seq + 1)
        s->first = seq + 1;
    else if (batch->kind == BATCH_LOG || s->end - s->first == 1)
        remove_suspect(sink, at);
}

/* One that is parked was not in hand yet: it gets an entry of its own. */
static void clear_one(struct sink *sink, const struct batch *batch, uint64_t seq, bool parked)
{
    struct store_suspect own = {.lane = batch->lane, .first = seq, .end = seq + 1};
    for (size_t i = sink->suspect_count; i-- > 0;) {
        const struct store_suspect *s = &sink->suspects[i];
        if (!covers(s, batch->lane, seq))
            continue;
        own.crashes = s->crashes > own.crashes ? s->crashes : own.crashes;
        own.alone |= s->alone;
        clear_at(sink, i, batch, seq);
    }
    if (parked && own.crashes > 0 && sink->suspect_count < STORE_SUSPECTS_MAX)
        sink->suspects[sink->suspect_count++] = own;
}

void suspects_clear(struct sink *sink, const struct batch *batch, const struct bench *bench)
{
    if (sink->suspect_count == 0)
        return;
    for (size_t i = 0; i < bench->count; i++)
        if (bench->items[i].verdict != VERDICT_OPEN)
            clear_one(sink, batch, bench->items[i].seq, bench->items[i].verdict == VERDICT_PARKED);
    sink->suspects_upto = sink->given;
}
