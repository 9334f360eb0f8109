/* metrics_inside.h - what the parts of spool_metrics() share. Each answers ENOMEM, or SPOOL_OK. */
#ifndef METRICS_INSIDE_H
#define METRICS_INSIDE_H

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

int metrics_put_head(struct buffer *out, const char *name, const char *type, const char *help);
int metrics_put_label(struct buffer *out, const char *name, const char *value);
const char *metrics_lane_label(int lane); /* LANES: of no lane that is known */

int metrics_put_sinks(struct buffer *out, const struct figures *f);      /* metrics_sinks.c */
int metrics_put_histograms(struct buffer *out, const struct figures *f); /* metrics_histograms.c */

#endif
