/* metrics_sinks.c - what spool_metrics() tells of each sink. A family is a row of a table: its name, its help, and how to
 * get its value of a sink. */
#include "metrics_inside.h"

/* "name{sink="…"", still open. */
static int put_sink(struct buffer *out, const char *name, const struct sink_figures *s)
{
    int code = buffer_printf(out, "%s{", name);
    return code ? code : metrics_put_label(out, "sink", s->sink.name);
}

static double value_dead(const struct sink_figures *s)
{
    return (double)s->sink.dead_rows;
}

static double value_dead_dropped(const struct sink_figures *s)
{
    return (double)s->sink.dead_dropped;
}

static double value_up(const struct sink_figures *s)
{
    const struct observed *o = s->observed;
    bool served = o->state != SPOOL_SINK_ABSENT && o->state != SPOOL_SINK_PAUSED;
    return served && o->deliverer_state == SPOOL_SINK_RUNNING;
}

static double value_attempt(const struct sink_figures *s)
{
    return s->observed->status.attempt;
}

static double value_next_try(const struct sink_figures *s)
{
    return (double)s->observed->status.next_try_ms / 1000;
}

static double value_batches(const struct sink_figures *s)
{
    return (double)s->observed->report.metrics.batches;
}

static double value_failures(const struct sink_figures *s)
{
    return (double)s->observed->report.metrics.failures;
}

static double value_filtered(const struct sink_figures *s)
{
    return (double)s->sink.filtered;
}

static double value_opened(const struct sink_figures *s)
{
    return (double)s->observed->status.breaker_opened;
}

static double value_breaker(const struct sink_figures *s)
{
    return s->observed->status.breaker;
}

static const struct sink_family {
    const char *name, *type, *help;
    double (*value)(const struct sink_figures *s);
} sink_families[] = {
    {"spool_dlq_depth", "gauge", "Dead letters of the sink.", value_dead},
    {"spool_dlq_dropped_total", "counter", "Dead letters of the sink that went by a limit.", value_dead_dropped},
    {"spool_sink_up", "gauge", "1 if the sink is served and works.", value_up},
    {"spool_sink_attempt", "gauge", "How often in a row the sink was unavailable.", value_attempt},
    {"spool_sink_next_try_seconds", "gauge", "Until an unavailable sink is tried again.", value_next_try},
    {"spool_batches_total", "counter", "Batches given to the sink, since its process began to deliver.", value_batches},
    {"spool_sink_failures_total", "counter", "How often the sink failed as a whole.", value_failures},
    {"spool_sink_filtered_total", "counter", "Events that the sink's filter passed over.", value_filtered},
    {"spool_breaker_opened_total", "counter", "How often its breaker opened, since its process began to deliver.",
     value_opened},
    {"spool_breaker_state", "gauge", "0 closed, 1 open, 2 half-open.", value_breaker},
};

static int put_sink_family(struct buffer *out, const struct figures *f, const struct sink_family *family)
{
    int code = metrics_put_head(out, family->name, family->type, family->help);
    for (size_t i = 0; i < f->count && !code; i++) {
        code = put_sink(out, family->name, f->sinks[i]);
        if (!code)
            code = buffer_printf(out, "} %.15g\n", family->value(f->sinks[i]));
    }
    return code;
}

static double value_pending(const struct sink_figures *s, int lane)
{
    return (double)s->pending.events_in[lane];
}

static double value_retrying(const struct sink_figures *s, int lane)
{
    return (double)s->pending.retrying_in[lane];
}

static double value_oldest(const struct sink_figures *s, int lane)
{
    uint64_t now_ns = real_ns(), oldest_ns = lane < LANES ? s->pending.oldest_in_ns[lane] : 0;
    return oldest_ns && now_ns > oldest_ns ? (double)(now_ns - oldest_ns) / 1e9 : 0;
}

static double value_delivered(const struct sink_figures *s, int lane)
{
    uint64_t rest = s->sink.delivered;
    if (lane < LANES)
        return (double)s->sink.delivered_in[lane];
    for (lane = 0; lane < LANES; lane++)
        rest -= s->sink.delivered_in[lane] < rest ? s->sink.delivered_in[lane] : rest;
    return (double)rest;
}

static const struct lane_family {
    const char *name, *type, *help;
    double (*value)(const struct sink_figures *s, int lane);
} lane_families[] = {
    {"spool_queue_depth", "gauge", "Events that wait for the sink, retries included.", value_pending},
    {"spool_retrying", "gauge", "Events that failed and are tried again, or wait behind one.", value_retrying},
    {"spool_oldest_unacked_seconds", "gauge", "Age of the oldest event that waits for the sink; 0: none.",
     value_oldest},
    {"spool_delivered_total", "counter", "Events that the sink acknowledged, durably noted.", value_delivered},
};

static int put_lane(struct buffer *out, const struct sink_figures *s, const struct lane_family *family, int lane)
{
    double value = family->value(s, lane);
    if (lane == LANES && value == 0)
        return SPOOL_OK; /* as it nearly always is */
    int code = put_sink(out, family->name, s);
    return code ? code : buffer_printf(out, ",lane=\"%s\"} %.15g\n", metrics_lane_label(lane), value);
}

static int put_lane_family(struct buffer *out, const struct figures *f, const struct lane_family *family)
{
    int code = metrics_put_head(out, family->name, family->type, family->help);
    for (size_t i = 0; i < f->count; i++)
        for (int lane = 0; lane <= LANES && !code; lane++)
            code = put_lane(out, f->sinks[i], family, lane);
    return code;
}

static int put_states(struct buffer *out, const struct figures *f)
{
    int code =
        metrics_put_head(out, "spool_sink_state", "gauge", "1 for the state that the sink is in, 0 for the others.");
    for (size_t i = 0; i < f->count && !code; i++) {
        for (int state = 0; state <= SPOOL_SINK_STOPPED && !code; state++) {
            code = put_sink(out, "spool_sink_state", f->sinks[i]);
            if (!code)
                code = buffer_printf(out, ",state=\"%s\"} %d\n", spool_sink_state_name((enum spool_sink_state)state),
                                     f->sinks[i]->observed->state == (enum spool_sink_state)state);
        }
    }
    return code;
}

static int put_drops_of(struct buffer *out, const struct sink_figures *s, const char *reason, uint64_t events)
{
    int code = put_sink(out, "spool_sink_dropped_total", s);
    return code ? code : buffer_printf(out, ",reason=\"%s\"} %llu\n", reason, (unsigned long long)events);
}

/* Those that an older version counted have no reason. */
static int put_drops(struct buffer *out, const struct figures *f)
{
    int code = metrics_put_head(out, "spool_sink_dropped_total", "counter",
                                "Events that left the sink undelivered, other than as dead letters.");
    for (size_t i = 0; i < f->count && !code; i++) {
        const struct store_sink *sink = &f->sinks[i]->sink;
        uint64_t known = store_drops_total(&sink->drops);
        for (int why = 0; why < SPOOL_DROPS && !code; why++)
            code = put_drops_of(out, f->sinks[i], spool_drop_name((enum spool_drop)why), sink->drops.events[why]);
        if (!code && sink->dropped > known)
            code = put_drops_of(out, f->sinks[i], "unknown", sink->dropped - known);
    }
    return code;
}

static const char *const outcomes[METRIC_COUNTERS] = {"delivered", "retried", "dead", "expired", "damaged", "filtered"};

static int put_type(struct buffer *out, const struct sink_figures *s, uint32_t row)
{
    const struct type_counts *types = &s->observed->report.metrics.types;
    int code = SPOOL_OK;
    for (int k = 0; k < METRIC_COUNTERS && !code; k++) {
        if (!types->events[row][k])
            continue; /* most never happen, and there are many */
        code = put_sink(out, "spool_type_attempts_total", s);
        if (!code)
            code = buffer_put_text(out, ",");
        if (!code)
            code = metrics_put_label(out, "type", row < TYPES_MAX ? types->names[row] : "other");
        if (!code)
            code =
                buffer_printf(out, ",outcome=\"%s\"} %llu\n", outcomes[k], (unsigned long long)types->events[row][k]);
    }
    return code;
}

/* A type that is itself called "other" is counted among the others, so that no series is there twice. */
static int put_types(struct buffer *out, const struct figures *f)
{
    int code =
        metrics_put_head(out, "spool_type_attempts_total", "counter",
                         "What became of events by their type; the first 32 types of a sink, the rest are other.");
    for (size_t i = 0; i < f->count && !code; i++)
        for (uint32_t row = 0; row <= TYPES_MAX && !code; row++)
            code = put_type(out, f->sinks[i], row);
    return code;
}

static int put_outcomes(struct buffer *out, const struct figures *f)
{
    int code =
        metrics_put_head(out, "spool_attempts_total", "counter",
                         "What became of events each time they were tried, since the sink's process began to deliver.");
    for (size_t i = 0; i < f->count && !code; i++) {
        const struct delivery_metrics *m = &f->sinks[i]->observed->report.metrics;
        for (int lane = 0; lane < LANES; lane++) {
            for (int k = 0; k < METRIC_COUNTERS && !code; k++) {
                code = put_sink(out, "spool_attempts_total", f->sinks[i]);
                if (!code)
                    code = buffer_printf(out, ",lane=\"%s\",outcome=\"%s\"} %llu\n", lane_name(lane), outcomes[k],
                                         (unsigned long long)m->events[k][lane]);
            }
        }
    }
    return code;
}

int metrics_put_sinks(struct buffer *out, const struct figures *f)
{
    int code = SPOOL_OK;
    for (size_t i = 0; i < sizeof lane_families / sizeof *lane_families && !code; i++)
        code = put_lane_family(out, f, &lane_families[i]);
    for (size_t i = 0; i < sizeof sink_families / sizeof *sink_families && !code; i++)
        code = put_sink_family(out, f, &sink_families[i]);
    if (!code)
        code = put_states(out, f);
    if (!code)
        code = put_drops(out, f);
    if (!code)
        code = put_outcomes(out, f);
    return code ? code : put_types(out, f);
}
