/* overflow.c - more waits for a sink than its limits allow: its oldest events are finished with here and now, as dropped. */
#include "engine.h"

static const uint64_t overflow_interval_ns = 1000 * NS_PER_MS;

/* What is in flight is delivered all the same, and what waits for a retry has limits of its own. */
static uint64_t finish_gaps(struct sink *sink, int lane, uint64_t upto)
{
    uint64_t dropped = 0, first, end;
    struct window *w = &sink->windows[lane];
    for (;;) {
        window_gap(w, &first, &end);
        end = end < upto ? end : upto;
        if (first >= end)
            return dropped;
        if (window_finish(w, first, end) != SPOOL_OK) {
            sink->reload = true; /* no memory to note it: the store knows */
            return 0;
        }
        dropped += end - first < 1ull << STORE_HOLE_SHIFT ? end - first : 0;
    }
}

static uint64_t drop(struct delivery *d, struct sink *sink, const uint64_t upto[LANES])
{
    uint64_t dropped = 0;
    sink_take_back_ready(d, sink);
    for (int lane = 0; lane < LANES && !sink->reload; lane++) {
        uint64_t events = finish_gaps(sink, lane, upto[lane]);
        if (events > 0)
            store_drops_note(&sink->open.drops, SPOOL_DROP_PENDING, lane, upto[lane], events);
        dropped += events;
    }
    if (dropped == 0 || sink->reload)
        return 0;
    sink->open.any = true;
    sink->open.upto = ++sink->given;
    sink->over_limit += dropped;
    if (!sink->hooks.checkpoint || !sink_is_open(sink))
        sink_promote(d, sink);
    return dropped;
}

void overflow_check(struct delivery *d, struct sink *sink)
{
    const struct spool_sink_options *o = &sink->options;
    if ((o->max_pending_bytes == 0 && o->max_pending_age_ms == 0) || mono_ns() < sink->overflow_again_ns)
        return;
    uint64_t cursor[LANES], upto[LANES], epoch = sink->generation;
    bool beyond = false;
    sink->overflow_again_ns = mono_ns() + overflow_interval_ns;
    for (int lane = 0; lane < LANES; lane++)
        cursor[lane] = sink->windows[lane].cursor;
    pthread_mutex_unlock(d->lock);
    int code = store_sink_overflow(d->store, cursor, o->max_pending_bytes, o->max_pending_age_ms, upto);
    pthread_mutex_lock(d->lock);
    for (int lane = 0; lane < LANES && code == SPOOL_OK; lane++)
        beyond |= upto[lane] > sink->windows[lane].cursor;
    if (!beyond || sink->reload || !sink->loaded || sink->generation != epoch || !sink_is_wanted(d, sink))
        return;
    uint64_t dropped = drop(d, sink, upto);
    if (dropped == 0)
        return;
    pthread_mutex_unlock(d->lock);
    notify(&d->reporter, SPOOL_NOTICE_DROPPED, sink->name, NULL, dropped,
           "more waited for the sink than its limits allow: its %llu oldest event(s) were dropped",
           (unsigned long long)dropped);
    pthread_mutex_lock(d->lock);
}
