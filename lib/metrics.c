/* metrics.c - spool_metrics(): everything that is counted, as Prometheus text (exposition format 0.0.4).
 *
 * All sinks are looked at first, since the format wants the lines of one family together. */
#include "metrics_inside.h"

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

int metrics_put_head(struct buffer *out, const char *name, const char *type, const char *help)
{
    return buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A label's value: backslash, quote and line feed are escaped, the rest is as it is. */
int metrics_put_label(struct buffer *out, const char *name, const char *value)
{
    int code = buffer_printf(out, "%s=\"", name);
    for (const char *at = value; *at && !code; at++) {
        const char *escape = *at == '\\' ? "\\\\" : *at == '"' ? "\\\"" : *at == '\n' ? "\\n" : NULL;
        code = escape ? buffer_put_text(out, escape) : buffer_put(out, at, 1);
    }
    return code ? code : buffer_put_text(out, "\"");
}

/* By lane: behind the last one, what is of none that is known. */
const char *metrics_lane_label(int lane)
{
    return lane < LANES ? lane_name(lane) : "unknown";
}

/* ---------------------------------------------------------------------------------------------------- of the spool */

static int put_plain(struct buffer *out, const char *name, const char *type, const char *help, uint64_t value)
{
    int code = metrics_put_head(out, name, type, help);
    return code ? code : buffer_printf(out, "%s %llu\n", name, (unsigned long long)value);
}

static int put_info(struct buffer *out, const struct figures *f)
{
    int code =
        metrics_put_head(out, "spool_info", "gauge", "The version of the library that reports, and the directory.");
    if (!code)
        code = buffer_put_text(out, "spool_info{");
    if (!code)
        code = metrics_put_label(out, "version", spool_version());
    if (!code)
        code = buffer_put_text(out, ",");
    if (!code)
        code = metrics_put_label(out, "dir", f->spool->dir);
    return code ? code : buffer_put_text(out, "} 1\n");
}

static int put_events(struct buffer *out, const struct figures *f)
{
    int code =
        metrics_put_head(out, "spool_events_total", "counter", "Events committed to the log since the spool was made.");
    for (int lane = 0; lane < LANES && !code; lane++)
        code = buffer_printf(out, "spool_events_total{lane=\"%s\"} %llu\n", lane_name(lane),
                             (unsigned long long)f->next[lane]);
    return code;
}

static int put_dropped(struct buffer *out, const struct figures *f)
{
    int code = metrics_put_head(out, "spool_dropped_total", "counter",
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

/* -------------------------------------------------------------------------------------------------------- the whole */

static int put_all(struct buffer *out, const struct figures *f)
{
    int code = put_spool(out, f);
    if (!code)
        code = metrics_put_sinks(out, f);
    if (!code)
        code = metrics_put_histograms(out, f);
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
