/* stats.c - spool_stats(), spool_sink_each(), spool_verify(). */
#include <unistd.h>

#include "handle.h"

/* ---------------------------------------------------------------------------------------------------------- sinks */

struct listing {
    struct spool *spool;
    int (*each)(void *user, const struct spool_sink_info *info);
    void *user;
    int code;
};

static uint64_t latency_ns(const struct delivery_metrics *metrics, double q)
{
    struct histogram *all = calloc(1, sizeof *all);
    if (!all)
        return 0;
    for (int lane = 0; lane < LANES; lane++)
        histogram_merge(all, &metrics->latency_us[lane]);
    uint64_t us = histogram_quantile(all, q);
    free(all);
    return us * 1000;
}

static void tell_lanes(const struct store_sink *sink, const struct pending *pending, struct spool_sink_info *info)
{
    for (int lane = 0; lane < LANES; lane++) {
        enum spool_priority priority = lane_priority(lane);
        info->lane_pending[priority] = pending->events_in[lane];
        info->lane_retrying[priority] = pending->retrying_in[lane];
        info->lane_delivered[priority] = sink->delivered_in[lane];
        info->lane_oldest_ns[priority] = pending->oldest_in_ns[lane];
    }
}

static int tell_sink(struct listing *listing, const struct store_sink *sink, const struct observed *o,
                     const struct delivery_registration *registration)
{
    struct pending pending;
    pending_with_ages(listing->spool, sink, &pending);
    struct spool_sink_info info = {
        .size = sizeof info,
        .name = sink->name,
        .kind = sink->kind,
        .json_config = registration->config,
        .state = o->state,
        .pending_events = pending.events,
        .retrying_events = pending.retrying,
        .dead_letters = sink->dead_rows,
        .delivered_events = sink->delivered,
        .dropped_events = sink->dropped,
        .oldest_ns = pending.oldest_ns,
        .last_error = o->status.last_error,
        .attempt = o->status.attempt,
        .next_try_ms = o->status.next_try_ms,
        .filtered_events = sink->filtered,
        .options_json = registration->options_json,
        .paused_reason = sink->paused_reason,
        .breaker = o->status.breaker,
        .breaker_since_ms = o->status.breaker_since_ms,
        .breaker_opened = o->status.breaker_opened,
        .dead_dropped = sink->dead_dropped,
        .over_limit_events = o->status.over_limit,
        .suspect_events = o->status.suspects,
        .deliverer_state = o->deliverer_state,
        .deliverer_pid = o->here ? (uint32_t)getpid() : o->report.pid,
        .deliverer_seen_ns = o->here ? real_ns() : o->report.at_ns,
        .resources = registration->resources ? registration->resources : "",
        .waits_for = o->status.waits_for,
        .waits_ms = o->status.waits_ms,
        .latency_p50_ns = latency_ns(&o->report.metrics, 0.5),
        .latency_p99_ns = latency_ns(&o->report.metrics, 0.99),
        .best_effort = sink->best_effort,
        .removing = sink->removing,
    };
    memcpy(info.dropped_for, sink->drops.events, sizeof sink->drops.events);
    tell_lanes(sink, &pending, &info);
    return listing->each(listing->user, &info);
}

static int list_one(void *user, const struct store_sink *sink)
{
    struct listing *listing = user;
    struct spool *spool = listing->spool;
    struct delivery_registration registration;
    struct observed *o = NULL;
    char *config = NULL;
    int code = store_sink_config(spool->store, sink->name, &config);
    if (code) {
        listing->code = code == SPOOL_ENOTFOUND ? SPOOL_OK : code; /* removed meanwhile */
        return listing->code;
    }
    code = delivery_registration_read(config, &registration);
    if (code) {
        free(config);
        return listing->code = code;
    }
    code = listing->code = observe_sink(spool, sink, &o);
    if (!code)
        code = tell_sink(listing, sink, o, &registration);
    free(o);
    delivery_registration_free(&registration);
    return code;
}

int spool_sink_each(struct spool *spool, int (*each)(void *user, const struct spool_sink_info *info), void *user)
{
    struct listing listing = {.spool = spool, .each = each, .user = user};
    int code = handle_check(spool);
    if (!code && !each)
        code = err_set(SPOOL_EINVAL, "spool_sink_each: no callback");
    return code ? code : store_sink_each(spool->store, list_one, &listing);
}

const char *spool_drop_name(enum spool_drop why)
{
    static const char *const names[] = {[SPOOL_DROP_EXPIRED] = "expired",
                                        [SPOOL_DROP_DAMAGED] = "damaged",
                                        [SPOOL_DROP_PENDING] = "pending_limit",
                                        [SPOOL_DROP_SIZE] = "size_limit"};
    return (unsigned)why < sizeof names / sizeof *names ? names[why] : "unknown";
}

const char *spool_sink_state_name(enum spool_sink_state state)
{
    static const char *const names[] = {
        [SPOOL_SINK_ABSENT] = "absent", [SPOOL_SINK_ELSEWHERE] = "elsewhere", [SPOOL_SINK_RUNNING] = "running",
        [SPOOL_SINK_PAUSED] = "paused", [SPOOL_SINK_DOWN] = "down",           [SPOOL_SINK_FAILED] = "failed",
        [SPOOL_SINK_HUNG] = "hung",     [SPOOL_SINK_STOPPED] = "stopped",
    };
    return (unsigned)state < sizeof names / sizeof *names ? names[state] : "unknown";
}

/* ----------------------------------------------------------------------------------------------------------- spool */

struct totals {
    struct spool *spool;
    uint32_t sinks;
    uint64_t oldest_ns;
};

static int add_sink(void *user, const struct store_sink *sink)
{
    struct totals *totals = user;
    struct pending pending;
    totals->sinks++;
    pending_with_ages(totals->spool, sink, &pending);
    if (pending.oldest_ns && (!totals->oldest_ns || pending.oldest_ns < totals->oldest_ns))
        totals->oldest_ns = pending.oldest_ns;
    return 0;
}

static void copy_store_stats(const struct store_stats *from, struct spool_stats *to)
{
    to->enqueued_events = from->enqueued_events;
    to->enqueued_bytes = from->enqueued_bytes;
    to->rejected_full = from->rejected_full;
    to->stored_events = from->stored_events;
    to->unapplied_bytes = from->unapplied_bytes;
    to->used_bytes = from->used_bytes;
    to->max_bytes = from->max_bytes;
    to->segments = from->segments;
    to->journals = from->journals;
    to->dropped_events = from->dropped_events;
    to->damaged_blocks = from->damaged_blocks;
    to->damaged_events = from->damaged_events;
    to->recovered_events = from->recovered_events;
    to->dead_letters = from->dead_letters;
    to->damaged_blocks_seen = from->seen_blocks;
    to->damaged_events_seen = from->seen_events;
    to->disk_full = from->disk_full;
    to->dead_journals = from->dead_journals;
}

int spool_stats(struct spool *spool, struct spool_stats *ret_stats)
{
    struct store_stats store_stats_now;
    struct totals totals = {.spool = spool};
    struct spool_stats stats = SPOOL_STATS();
    int code = handle_check(spool);
    if (!code && !ret_stats)
        code = err_set(SPOOL_EINVAL, "ret_stats is NULL");
    if (!code)
        code = store_stats(spool->store, &store_stats_now);
    if (!code)
        code = store_sink_each(spool->store, add_sink, &totals);
    if (code)
        return code;
    copy_store_stats(&store_stats_now, &stats);
    stats.event_bytes_max = store_frame_max(spool->store);
    stats.sinks = totals.sinks;
    stats.oldest_ns = totals.oldest_ns;
    return struct_give(ret_stats, &stats, sizeof stats, "spool_stats");
}
