/* outage.c - when a sink as a whole fails, works again, or says that only an operator can mend it: its breaker is moved
 * and the operator told. All with the lock held, which they leave while they tell. */
#include <stdio.h>

#include "engine.h"

static void tell(struct delivery *d, struct sink *sink, enum spool_notice_kind kind, const char *text)
{
    atomic_fetch_add(&sink->refs, 1);
    pthread_mutex_unlock(d->lock);
    notify(&d->reporter, kind, sink->name, NULL, 0, "%s", text);
    pthread_mutex_lock(d->lock);
    sink_unref(sink);
}

static void tell_change(struct delivery *d, struct sink *sink, enum breaker_change change, const char *reason)
{
    const struct breaker *b = &sink->breaker;
    uint64_t now_ns = mono_ns(), wait_ms = b->until_ns > now_ns ? (b->until_ns - now_ns) / NS_PER_MS : 0;
    char text[REASON_MAX + 96];
    if (change == BREAKER_OPENED || change == BREAKER_REOPENED)
        snprintf(text, sizeof text, "open: failed %u times in a row, tried again in %llu ms: %s", b->failures,
                 (unsigned long long)wait_ms, reason);
    else if (change == BREAKER_HALF_OPENED)
        snprintf(text, sizeof text, "half-open: up to %u events are tried", b->rules.probe_events);
    else
        snprintf(text, sizeof text, "closed: works again, %u events at once to begin with", b->limit);
    tell(d, sink, SPOOL_NOTICE_BREAKER, text);
}

void outage_failed(struct delivery *d, struct sink *sink, const char *reason)
{
    sink_error(sink, reason);
    sink->metrics->failures++;
    sink_take_back_ready(d, sink);
    enum breaker_change change = breaker_failed(&sink->breaker, &d->jitter, mono_ns());
    if (change == BREAKER_OPENED)
        tell(d, sink, SPOOL_NOTICE_SINK_DOWN, reason);
    if (change != BREAKER_SAME)
        tell_change(d, sink, change, reason);
}

void outage_worked(struct delivery *d, struct sink *sink, uint32_t events)
{
    enum breaker_change change = breaker_worked(&sink->breaker, events, mono_ns());
    if (change == BREAKER_CLOSED) {
        sink->last_error[0] = '\0';
        tell(d, sink, SPOOL_NOTICE_SINK_UP, "works again");
    }
    if (change != BREAKER_SAME)
        tell_change(d, sink, change, "");
}

void outage_tried(struct delivery *d, struct sink *sink)
{
    enum breaker_change change = breaker_try(&sink->breaker, mono_ns());
    if (change != BREAKER_SAME)
        tell_change(d, sink, change, "");
}

/* Paused from now on, although that is not stored yet: the dispatcher sees to it (takeover.c). */
void outage_needs_operator(struct delivery *d, struct sink *sink, const char *reason)
{
    if (sink->pause_unstored)
        return; /* another worker's batch */
    sink->paused = sink->pause_unstored = sink->states_stale = true;
    snprintf(sink->paused_reason, sizeof sink->paused_reason, "%s", reason);
    sink_error(sink, reason);
    sink_take_back_ready(d, sink);
    tell(d, sink, SPOOL_NOTICE_SINK_PAUSED, reason);
}
