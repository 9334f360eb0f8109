/* trim.c - a sink's dead letters are bounded by what its options say: number, bytes, age.
 *
 * All of them are read to know which are too many: so a moment after some died, at most every ten seconds; and every
 * minute for those that got too old. */
#include "../lib/base/error.h"
#include "engine.h"

static const uint64_t look_again_ns = 10 * 1000 * NS_PER_MS;
static const uint64_t look_for_old_ns = 60 * 1000 * NS_PER_MS;

static bool is_due(const struct sink *sink)
{
    const struct spool_sink_options *o = &sink->options;
    uint64_t now = mono_ns();
    if (!o->dead_events_max && !o->dead_bytes_max && !o->dead_age_max_ms)
        return false;
    if (!sink->trim_at_ns)
        return true;
    bool more = sink->buried != sink->trimmed, old = o->dead_age_max_ms > 0;
    return (more && now >= sink->trim_at_ns) || (old && now >= sink->trim_at_ns + look_for_old_ns - look_again_ns);
}

void trim_dead(struct delivery *d, struct sink *sink)
{
    if (!is_due(sink))
        return;
    const struct store_dead_limits limits = {.rows_max = sink->options.dead_events_max,
                                             .bytes_max = sink->options.dead_bytes_max,
                                             .age_max_ms = sink->options.dead_age_max_ms};
    uint64_t dropped = 0;
    if (!sink_has_answers(sink)) /* those are not in the table yet */
        sink->trimmed = sink->buried;
    sink->trim_at_ns = mono_ns() + look_again_ns;
    pthread_mutex_unlock(d->lock);
    int code = store_dead_trim(d->store, sink->name, &limits, &dropped);
    if (code)
        report(&d->reporter, SPOOL_LOG_WARNING, "sink %s: its dead letters could not be looked through: %s", sink->name,
               err_last());
    if (dropped)
        notify(&d->reporter, SPOOL_NOTICE_DROPPED, sink->name, NULL, dropped,
               "%llu dead letters were dropped by a limit (dead_events_max, dead_bytes_max, dead_age_max)",
               (unsigned long long)dropped);
    pthread_mutex_lock(d->lock);
}
