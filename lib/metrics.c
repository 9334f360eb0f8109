/* metrics.c - spool_metrics(): everything that is counted, as Prometheus text (exposition format 0.0.4).
 *
 * All sinks are looked at first, since the format wants the lines of one family together. A family is a row of a table:
 * its name, its help, and how to get its value of a sink. Histograms are given with bounds that are exact in ours
 * (powers of two of a microsecond), four to a factor of 256. */
#include "base/buffer.h"
#include "handle.h"

struct sink_figures {
    struct store_sink sink;
    struct observed *observed;
    struct pending pending;
};

struct figures {
    struct spool *spool;
    struct store_stats stats;
    uint64_t next[LANES];
    struct histogram flush_us;
    struct sink_figures **sinks;
    size_t count;
    int code;
};

/* -------------------------------------------------------------------------------------------------------- gathering */

static int gather_sink(void *user, const struct store_sink *sink)
{
    struct figures *f = user;
    struct sink_figures *s = malloc(sizeof *s), **sinks = realloc(f->sinks, (f->count + 1) * sizeof *sinks);
    f->sinks = sinks ? sinks : f->sinks;
    if (!s || !sinks) {
        free(s);
        return f->code = err_errno(ENOMEM, "metrics");
    }
    *s = (struct sink_figures){.sink = *sink};
    f->sinks[f->count++] = s;
    pending_with_ages(f->spool, sink, &s->pending);
    return f->code = observe_sink(f->spool, sink, &s->observed);
}

static int gather(struct figures *f)
{
    uint64_t first[LANES];
    int code = store_stats(f->spool->store, &f->stats);
    if (code)
        return code;
    store_bounds_known(f->spool->store, deadline_in_ms(1000), first, f->next);
    store_flush_times(f->spool->store, &f->flush_us);
    code = store_sink_each(f->spool->store, gather_sink, f);
    return f->code ? f->code : code;
}

static void release(struct figures *f)
{
    for (size_t i = 0; i < f->count; i++) {
        free(f->sinks[i]->observed);
        free(f->sinks[i]);
    }
    free(f->sinks);
}

/* ---------------------------------------------------------------------------------------------------------- writing */

static int put_head(struct buffer *out, const char *name, const char *type, const char *help)
{
    return buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A label's value: backslash, quote and line feed are escaped, the rest is as it is. */
static int put_label(struct buffer *out, const char *name, const char *value)
{
    int code = buffer_printf(out, "%s=\"", name);
    for (const char *at = value; *at && !code; at++) {
        const char *escape = *at == '\\' ? "\\\\" : *at == '"' ? "\\\"" : *at == '\n' ? "\\n" : NULL;
        code = escape ? buffer_put_text(out, escape) : buffer_put(out, at, 1);
    }
    return code ? code : buffer_put_text(out, "\"");
}

static int put_plain(struct buffer *out, const char *name, const char *type, const char *help, uint64_t value)
{
    int code = put_head(out, name, type, help);
    return code ? code : buffer_printf(out, "%s %llu\n", name, (unsigned long long)value);
}

/* "name{sink="…"", still open. */
static int put_sink(struct buffer *out, const char *name, const struct sink_figures *s)
{
    int code = buffer_printf(out, "%s{", name);
    return code ? code : put_label(out, "sink", s->sink.name);
}

/* ------------------------------------------------------------------------------------------------------ of the spool
 */

static int put_info(struct buffer *out, const struct figures *f)
{
    int code = put_head(out, "spool_info", "gauge", "The version of the library that reports, and the directory.");
    if (!code)
        code = buffer_put_text(out, "spool_info{");
    if (!code)
        code = put_label(out, "version", spool_version());
    if (!code)
        code = buffer_put_text(out, ",");
    if (!code)
        code = put_label(out, "dir", f->spool->dir);
    return code ? code : buffer_put_text(out, "} 1\n");
}

static int put_events(struct buffer *out, const struct figures *f)
{
    int code = put_head(out, "spool_events_total", "counter", "Events committed to the log since the spool was made.");
    for (int lane = 0; lane < LANES && !code; lane++)
        code = buffer_printf(out, "spool_events_total{lane=\"%s\"} %llu\n", lane_name(lane),
                             (unsigned long long)f->next[lane]);
    return code;
}

static int put_dropped(struct buffer *out, const struct figures *f)
{
    int code = put_head(out, "spool_dropped_total", "counter",
                        "Events that left the spool undelivered: by a limit on its size, or damaged.");
    if (!code)
        code = buffer_printf(out, "spool_dropped_total{reason=\"size\"} %llu\n",
                             (unsigned long long)f->stats.dropped_events);
    if (!code)
        code = buffer_printf(out, "spool_dropped_total{reason=\"damage\"} %llu\n",
                             (unsigned long long)f->stats.damaged_events);
    return code;
}

static int put_spool(struct buffer *out, const struct figures *f)
{
    const struct store_stats *s = &f->stats;
    const struct {
        const char *name, *type, *help;
        uint64_t value;
    } plain[] = {
        {"spool_enqueued_events_total", "counter", "Events that this process enqueued.", s->enqueued_events},
        {"spool_enqueued_bytes_total", "counter", "Bytes that this process enqueued, as stored.", s->enqueued_bytes},
        {"spool_rejected_total", "counter", "Events that this process was refused because the spool was full.",
         s->rejected_full},
        {"spool_recovered_events_total", "counter", "Events that this process took from journals of dead ones.",
         s->recovered_events},
        {"spool_stored_events", "gauge", "Events in segments now, delivered or not.", s->stored_events},
        {"spool_unapplied_bytes", "gauge", "Bytes in this process's journal that are in no segment yet.",
         s->unapplied_bytes},
        {"spool_used_bytes", "gauge", "What the directory takes.", s->used_bytes},
        {"spool_max_bytes", "gauge", "What the directory may take.", s->max_bytes},
        {"spool_segments", "gauge", "Segment files.", s->segments},
        {"spool_journals", "gauge", "Journal files.", s->journals},
        {"spool_disk_full", "gauge", "1 while the disk refuses writes.", s->disk_full},
        {"spool_damaged_blocks_total", "counter", "Damaged blocks, segments and states that were set aside.",
         s->damaged_blocks},
        {"spool_dead_letters", "gauge", "Dead letters of all sinks, also of removed ones.", s->dead_letters},
        {"spool_sinks", "gauge", "Registered sinks.", f->count},
    };
    int code = put_info(out, f);
    if (!code)
        code = put_events(out, f);
    if (!code)
        code = put_dropped(out, f);
    for (size_t i = 0; i < sizeof plain / sizeof *plain && !code; i++)
        code = put_plain(out, plain[i].name, plain[i].type, plain[i].help, plain[i].value);
    return code;
}

/* ------------------------------------------------------------------------------------------------------ of each sink
 */

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
    int code = put_head(out, family->name, family->type, family->help);
    for (size_t i = 0; i < f->count && !code; i++) {
        code = put_sink(out, family->name, f->sinks[i]);
        if (!code)
            code = buffer_printf(out, "} %.15g\n", family->value(f->sinks[i]));
    }
    return code;
}

/* By lane: behind the last one, what is of none that is known. */
static const char *lane_label(int lane)
{
    return lane < LANES ? lane_name(lane) : "unknown";
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
    return code ? code : buffer_printf(out, ",lane=\"%s\"} %.15g\n", lane_label(lane), value);
}

static int put_lane_family(struct buffer *out, const struct figures *f, const struct lane_family *family)
{
    int code = put_head(out, family->name, family->type, family->help);
    for (size_t i = 0; i < f->count; i++)
        for (int lane = 0; lane <= LANES && !code; lane++)
            code = put_lane(out, f->sinks[i], family, lane);
    return code;
}

static int put_states(struct buffer *out, const struct figures *f)
{
    int code = put_head(out, "spool_sink_state", "gauge", "1 for the state that the sink is in, 0 for the others.");
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
    int code = put_head(out, "spool_sink_dropped_total", "counter",
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
            code = put_label(out, "type", row < TYPES_MAX ? types->names[row] : "other");
        if (!code)
            code =
                buffer_printf(out, ",outcome=\"%s\"} %llu\n", outcomes[k], (unsigned long long)types->events[row][k]);
    }
    return code;
}

/* A type that is itself called "other" is counted among the others, so that no series is there twice. */
static int put_types(struct buffer *out, const struct figures *f)
{
    int code = put_head(out, "spool_type_attempts_total", "counter",
                        "What became of events by their type; the first 32 types of a sink, the rest are other.");
    for (size_t i = 0; i < f->count && !code; i++)
        for (uint32_t row = 0; row <= TYPES_MAX && !code; row++)
            code = put_type(out, f->sinks[i], row);
    return code;
}

static int put_outcomes(struct buffer *out, const struct figures *f)
{
    int code = put_head(out, "spool_attempts_total", "counter",
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

/* ------------------------------------------------------------------------------------------------------- histograms */

/* The bounds are 2^first, 2^(first + step) …; `unit` of them make one of what is told. */
struct bounds {
    unsigned first, last, step;
    double unit;
};
static const struct bounds seconds = {6, 34, 2, 1e6}; /* 64 us to 4.8 h */
static const struct bounds events = {1, 14, 1, 1};

static int put_bucket(struct buffer *out, const char *name, const char *labels, const char *le, uint64_t n)
{
    return buffer_printf(out, "%s_bucket{%s%sle=\"%s\"} %llu\n", name, labels, *labels ? "," : "", le,
                         (unsigned long long)n);
}

/* What lies below a power of two is, of whole numbers, at most one less. */
static int put_histogram(struct buffer *out, const char *name, const char *labels, const struct histogram *h,
                         const struct bounds *bounds)
{
    int code = SPOOL_OK;
    char le[32];
    for (unsigned bit = bounds->first; bit <= bounds->last && !code; bit += bounds->step) {
        double bound = bounds->unit == 1 ? (double)((1ull << bit) - 1) : (double)(1ull << bit) / bounds->unit;
        snprintf(le, sizeof le, "%.12g", bound);
        code = put_bucket(out, name, labels, le, histogram_below(h, 1ull << bit));
    }
    if (!code)
        code = put_bucket(out, name, labels, "+Inf", h->count);
    const char *open = *labels ? "{" : "", *close = *labels ? "}" : "";
    if (!code)
        code = buffer_printf(out, "%s_sum%s%s%s %.15g\n", name, open, labels, close, (double)h->sum / bounds->unit);
    return code ? code
                : buffer_printf(out, "%s_count%s%s%s %llu\n", name, open, labels, close, (unsigned long long)h->count);
}

/* Of each sink and lane: an array in its metrics. */
static const struct histogram_family {
    const char *name, *help;
    size_t offset;
    int count; /* LANES; with one more for those of no lane that is known */
    const struct bounds *bounds;
} histogram_families[] = {
    {"spool_delivery_latency_seconds", "From enqueueing an event to the sink's acceptance.",
     offsetof(struct delivery_metrics, latency_us), LANES, &seconds},
    {"spool_deliver_seconds", "How long the sink took for a batch.", offsetof(struct delivery_metrics, deliver_us),
     LANES + 1, &seconds},
    {"spool_batch_events", "Events in a batch.", offsetof(struct delivery_metrics, batch_events), LANES + 1, &events},
};

/* Names of sinks need no escaping: delivery_check_name(). */
static int put_histograms_of(struct buffer *out, const struct sink_figures *s, const struct histogram_family *family)
{
    const char *metrics = (const char *)&s->observed->report.metrics;
    const struct histogram *h = (const struct histogram *)(const void *)(metrics + family->offset);
    char labels[SINK_NAME_MAX + 40];
    int code = SPOOL_OK;
    for (int lane = 0; lane < family->count && !code; lane++) {
        snprintf(labels, sizeof labels, "sink=\"%s\",lane=\"%s\"", s->sink.name, lane_label(lane));
        if (lane < LANES || h[lane].count)
            code = put_histogram(out, family->name, labels, &h[lane], family->bounds);
    }
    return code;
}

static int put_histogram_family(struct buffer *out, const struct figures *f, const struct histogram_family *family)
{
    int code = put_head(out, family->name, "histogram", family->help);
    for (size_t i = 0; i < f->count && !code; i++)
        code = put_histograms_of(out, f->sinks[i], family);
    return code;
}

static int put_histograms(struct buffer *out, const struct figures *f)
{
    int code = SPOOL_OK;
    for (size_t i = 0; i < sizeof histogram_families / sizeof *histogram_families && !code; i++)
        code = put_histogram_family(out, f, &histogram_families[i]);
    if (!code)
        code = put_head(out, "spool_fsync_seconds", "histogram", "How long flushes of this process's journal took.");
    return code ? code : put_histogram(out, "spool_fsync_seconds", "", &f->flush_us, &seconds);
}

/* -------------------------------------------------------------------------------------------------------- the whole */

static int put_all(struct buffer *out, const struct figures *f)
{
    int code = put_spool(out, f);
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
    if (!code)
        code = put_types(out, f);
    if (!code)
        code = put_histograms(out, f);
    return code ? code : buffer_put(out, "", 1);
}

int spool_metrics(struct spool *spool, char **ret_text, size_t *ret_size)
{
    struct buffer out = {0};
    int code = handle_check(spool);
    if (!code && !ret_text)
        code = err_set(SPOOL_EINVAL, "spool_metrics: ret_text is NULL");
    struct figures *f = code ? NULL : calloc(1, sizeof *f);
    if (!code && !f)
        code = err_errno(ENOMEM, "metrics");
    if (code)
        return code;
    f->spool = spool;
    code = gather(f);
    if (!code)
        code = put_all(&out, f);
    release(f);
    free(f);
    if (code) {
        buffer_free(&out);
        return code;
    }
    *ret_text = (char *)out.data;
    if (ret_size)
        *ret_size = out.size - 1;
    return SPOOL_OK;
}
