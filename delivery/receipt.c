/* receipt.c - which events are in a sink's hands, and telling of those that it is finished with (acker.c, when it is
 * durable). */
#include "../lib/base/error.h"
#include "engine.h"
#include "filter.h"

/* Taken, or finished beyond the cursor in memory: either way not stored yet, if the store says that it waits. */
static bool window_holds(const struct window *w, uint64_t seq)
{
    if (seq < w->cursor)
        return true;
    for (size_t i = 0; i < w->count; i++)
        if (seq >= w->ranges[i].first && seq < w->ranges[i].end)
            return true;
    return false;
}

bool delivery_is_in_flight(struct delivery *d, const char *name, int lane, uint64_t seq)
{
    bool in_flight = false;
    pthread_mutex_lock(d->lock);
    const struct sink *sink = sink_find(d, name);
    if (sink && sink->elected && sink->loaded && !sink->reload) {
        const struct retry_row *row = retry_find(&sink->retries, lane, seq);
        in_flight = row ? row->taken || row->over || !row->stored : window_holds(&sink->windows[lane], seq);
    }
    pthread_mutex_unlock(d->lock);
    return in_flight;
}

int delivery_filter_passes(const char *json, const struct spool_event *event, bool *ret)
{
    struct filter *filter;
    int code = filter_new(json, &filter);
    if (code)
        return code;
    *ret = filter_passes(filter, event);
    filter_free(filter);
    return SPOOL_OK;
}

/* ---------------------------------------------------------------------------------------------------------- telling */

static enum spool_receipt_state state_of_verdict(const struct sink *sink, enum verdict verdict)
{
    switch (verdict) {
    case VERDICT_REJECTED:
        return SPOOL_RECEIPT_DEAD;
    case VERDICT_EXPIRED:
        return SPOOL_RECEIPT_EXPIRED;
    case VERDICT_FILTERED:
        return SPOOL_RECEIPT_FILTERED;
    case VERDICT_DAMAGED:
        return SPOOL_RECEIPT_DAMAGED;
    default:
        return sink->best_effort ? SPOOL_RECEIPT_SENT : SPOOL_RECEIPT_DELIVERED;
    }
}

static bool is_finished(enum verdict verdict)
{
    return verdict == VERDICT_DELIVERED || verdict == VERDICT_REJECTED || verdict == VERDICT_EXPIRED ||
           verdict == VERDICT_FILTERED || verdict == VERDICT_DAMAGED;
}

int receipt_note(const struct delivery *d, struct sink *sink, const struct bench *bench, const struct bench_item *item)
{
    enum verdict verdict = (enum verdict)item->verdict;
    if (!d->on_delivery || !is_finished(verdict))
        return SPOOL_OK;
    struct answer_note note = {.state = state_of_verdict(sink, verdict),
                               .attempts = (item->row ? item->row->attempts : 0) + (verdict == VERDICT_REJECTED)};
    if (verdict != VERDICT_DAMAGED)
        note.id = bench->views[item - bench->items].id;
    else if (item->row)
        note.id = item->row->id;
    return answers_note(&sink->open, &note);
}

void receipt_tell(struct delivery *d, struct sink *sink, const struct answer_note *notes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct spool_receipt receipt = {.size = sizeof receipt,
                                              .sink = sink->name,
                                              .id = notes[i].id,
                                              .state = notes[i].state,
                                              .attempts = notes[i].attempts,
                                              .reason = ""};
        d->on_delivery(d->delivery_user, &receipt);
    }
}
