/* metrics_histograms.c - the histograms of spool_metrics(), with bounds that are exact in ours (powers of two of a
 * microsecond), four to a factor of 256. */
#include "metrics_inside.h"

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
        snprintf(labels, sizeof labels, "sink=\"%s\",lane=\"%s\"", s->sink.name, metrics_lane_label(lane));
        if (lane < LANES || h[lane].count)
            code = put_histogram(out, family->name, labels, &h[lane], family->bounds);
    }
    return code;
}

static int put_histogram_family(struct buffer *out, const struct figures *f, const struct histogram_family *family)
{
    int code = metrics_put_head(out, family->name, "histogram", family->help);
    for (size_t i = 0; i < f->count && !code; i++)
        code = put_histograms_of(out, f->sinks[i], family);
    return code;
}

int metrics_put_histograms(struct buffer *out, const struct figures *f)
{
    int code = SPOOL_OK;
    for (size_t i = 0; i < sizeof histogram_families / sizeof *histogram_families && !code; i++)
        code = put_histogram_family(out, f, &histogram_families[i]);
    if (!code)
        code = metrics_put_head(out, "spool_fsync_seconds", "histogram",
                                "How long flushes of this process's journal took.");
    return code ? code : put_histogram(out, "spool_fsync_seconds", "", &f->flush_us, &seconds);
}
