/* limits_sinks.c - how much may wait for one sink: so that one that is away for weeks does not fill the disk for the others.
 *
 * What counts is what the sink keeps on disk: the segments from the first that holds an event it has not done with, to the
 * newest. While they are more than its max_pending_bytes, its cursor moves over the oldest; the newest always stays. By
 * max_pending_age_ms it moves over blocks that are older than that. Its events there are dropped for that sink alone, counted and
 * told; retries are bounded otherwise.
 *
 * Who delivers to the sink sees to it (delivery/overflow.c), and counts to the event. For a sink that nobody serves, the keeper of
 * any process does, which is elected for it meanwhile. */
#include "limits_sinks.h"

#include <errno.h>
#include <stdlib.h>

#include "../lib/base/error.h"

static bool is_beyond(const uint64_t upto[LANES], const uint64_t cursor[LANES])
{
    for (int lane = 0; lane < LANES; lane++) {
        if (upto[lane] > cursor[lane])
            return true;
    }
    return false;
}

/* Elected, and looked at again: whoever served it may have gone on meanwhile. */
static int drop_for(struct store *store, const char *name)
{
    struct store_sink *sink = malloc(sizeof *sink);
    uint64_t upto[LANES];
    int code = sink ? limits_sink_get(store, name, sink) : err_errno(ENOMEM, "sink %s", name);
    if (!code)
        code = store_sink_overflow(store, sink->cursor, sink->max_pending_bytes, sink->max_pending_age_ms, upto);
    if (!code && is_beyond(upto, sink->cursor))
        code = limits_sink_drop(store, name, upto);
    free(sink);
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
        report(limits_reporter(store), SPOOL_LOG_WARNING, "sink %s: dropping what is too much for it: %s", sink->name,
               err_last());
    return 0;
}

void limits_of_sinks(struct store *store)
{
    int code = limits_sink_each(store, see_to, store);
    if (code && code != SPOOL_ETIMEOUT)
        report(limits_reporter(store), SPOOL_LOG_WARNING, "limits of sinks: %s", err_last());
}
