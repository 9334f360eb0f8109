/* observe.c - how a sink is, from who knows best: this process if it delivers to it, else what the one that does, or
 * did last, has published. */
#include "handle.h"

static void observe_published(struct spool *spool, const struct store_sink *sink, struct observed *o)
{
    uint8_t *bytes;
    size_t size;
    if (store_sink_published(spool->store, sink->name, &bytes, &size))
        return;
    o->published = delivery_report_read(bytes, size, &o->report) == SPOOL_OK && o->report.sink_id == sink->id;
    free(bytes);
    if (!o->published)
        memset(&o->report, 0, sizeof o->report);
}

static enum spool_sink_state state_elsewhere(struct spool *spool, const struct store_sink *sink)
{
    if (sink->paused)
        return SPOOL_SINK_PAUSED;
    return store_sink_is_served(spool->store, sink->name) ? SPOOL_SINK_ELSEWHERE : SPOOL_SINK_ABSENT;
}

/* Beside another process its word counts, as far as it goes. */
static void take_published(struct observed *o)
{
    uint64_t now_ns = real_ns(), try_ns = o->report.next_try_at_ns;
    struct delivery_sink_status *status = &o->status;
    status->attempt = o->report.status.attempt;
    status->breaker = o->report.status.breaker;
    status->breaker_opened = o->report.status.breaker_opened;
    status->breaker_since_ms = o->report.status.breaker_since_ms;
    if (now_ns > o->report.at_ns)
        status->breaker_since_ms += (now_ns - o->report.at_ns) / NS_PER_MS;
    status->next_try_ms = try_ns > now_ns ? (try_ns - now_ns) / NS_PER_MS : 0;
    memcpy(status->waits_for, o->report.status.waits_for, sizeof status->waits_for);
    if (now_ns > o->report.waits_since_ns && *status->waits_for)
        status->waits_ms = (now_ns - o->report.waits_since_ns) / NS_PER_MS;
    memcpy(status->last_error, o->report.status.last_error, sizeof status->last_error);
}

int observe_sink(struct spool *spool, const struct store_sink *sink, struct observed **ret)
{
    struct observed *o = calloc(1, sizeof *o); /* its histograms are too much for some stacks */
    if (!o)
        return err_errno(ENOMEM, "sink %s", sink->name);
    bool added = delivery_sink_status(spool->delivery, sink->name, &o->status) == SPOOL_OK;
    o->here = added && o->status.state != SPOOL_SINK_ELSEWHERE && o->status.state != SPOOL_SINK_STOPPED;
    if (o->here && delivery_sink_metrics(spool->delivery, sink->name, &o->report.metrics))
        o->here = false; /* dropped meanwhile */
    if (!o->here)
        observe_published(spool, sink, o);
    o->state = added ? o->status.state : state_elsewhere(spool, sink);
    o->deliverer_state = o->here || !o->published ? o->state : o->report.status.state;
    if (!o->here && o->published)
        take_published(o);
    *ret = o;
    return SPOOL_OK;
}
