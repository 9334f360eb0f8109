/* limits_sinks.c - how much may wait for one sink: so that one that is away for weeks does not fill the disk for the others.
 *
 * What counts is what the sink keeps on disk: the segments from the first that holds an event it has not done with, to the
 * newest. While they are more than its max_pending_bytes, its cursor moves over the oldest; the newest always stays. By
 * max_pending_age_ms it moves over blocks that are older than that. Its events there are dropped for that sink alone, counted and
 * told; retries are bounded otherwise.
 *
 * Who delivers to the sink sees to it (delivery/overflow.c), and counts to the event. For a sink that nobody serves, the keeper of
 * any process does, which is elected for it meanwhile. */
#include "store_inside.h"

int store_sink_overflow(struct store *store, const uint64_t cursor[LANES], uint64_t max_bytes, uint64_t max_age_ms,
                        uint64_t ret_upto[LANES])
{
    uint64_t upto[LANES];
    memcpy(upto, cursor, sizeof upto);
    int code = max_bytes > 0 ? log_overflow(store->log, cursor, max_bytes, upto) : SPOOL_OK;
    uint64_t now_ns = hlc_physical_ns(store->clock), age_ns;
    if (__builtin_mul_overflow(max_age_ms, NS_PER_MS, &age_ns) || age_ns > now_ns)
        age_ns = 0; /* older than time itself: no limit */
    struct spool_id oldest;
    id_min_at_ns(now_ns - age_ns, &oldest);
    for (int lane = 0; lane < LANES && !code && age_ns > 0; lane++) {
        uint64_t seq;
        code = log_seek(store->log, lane, &oldest, lock_slice(), &seq);
        if (!code && seq > upto[lane])
            upto[lane] = seq;
    }
    if (!code)
        memcpy(ret_upto, upto, sizeof upto);
    return code;
}

static bool is_beyond(const uint64_t upto[LANES], const uint64_t cursor[LANES])
{
    for (int lane = 0; lane < LANES; lane++) {
        if (upto[lane] > cursor[lane])
            return true;
    }
    return false;
}

static void tell_dropped(struct store *store, const char *name, uint64_t dropped)
{
    if (!dropped)
        return;
    notify(&store->options.reporter, SPOOL_NOTICE_DROPPED, name, NULL, dropped,
           "more waited for the sink than its limits allow: its %llu oldest event(s) were dropped",
           (unsigned long long)dropped);
    store_tell_change(store, true);
}

/* Elected, and looked at again: whoever served it may have gone on meanwhile. */
static int drop_for(struct store *store, const char *name)
{
    struct store_sink *sink = malloc(sizeof *sink);
    uint64_t upto[LANES], dropped = 0;
    int code = sink ? state_sink_get(store->state, name, lock_slice(), sink) : err_errno(ENOMEM, "sink %s", name);
    if (!code)
        code = store_sink_overflow(store, sink->cursor, sink->max_pending_bytes, sink->max_pending_age_ms, upto);
    if (!code && is_beyond(upto, sink->cursor))
        code = state_sink_drop_below(store->state, name, upto, lock_slice(), &dropped);
    free(sink);
    if (!code)
        tell_dropped(store, name, dropped);
    return code;
}

static int see_to(void *user, const struct store_sink *sink)
{
    struct store *store = user;
    uint64_t upto[LANES];
    if (!sink->max_pending_bytes && !sink->max_pending_age_ms)
        return 0;
    int code = store_sink_overflow(store, sink->cursor, sink->max_pending_bytes, sink->max_pending_age_ms, upto);
    if (code || !is_beyond(upto, sink->cursor) || store_sink_elect(store, sink->name))
        return 0; /* nothing to do, or somebody else's */
    code = drop_for(store, sink->name);
    store_sink_release(store, sink->name);
    if (code && code != SPOOL_ETIMEOUT)
        report(&store->options.reporter, SPOOL_LOG_WARNING, "sink %s: dropping what is too much for it: %s", sink->name,
               err_last());
    return 0;
}

void limits_of_sinks(struct store *store)
{
    int code = state_sink_each(store->state, lock_slice(), see_to, store);
    if (code && code != SPOOL_ETIMEOUT)
        report(&store->options.reporter, SPOOL_LOG_WARNING, "limits of sinks: %s", err_last());
}
