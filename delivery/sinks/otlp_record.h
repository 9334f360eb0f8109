/* otlp_record.h - an event as an OTLP log record or span (opentelemetry-proto 1.x: logs/v1, trace/v1).
 *
 * | log record              | span                      | from |
 * |-------------------------|---------------------------|-----------------------------------------------------------------|
 * | time                    | end                       | occurred_at_ns, or the id's time | | observed time | | the
 * id's time                                                   | |                         | start                     |
 * the end less the body's latency_ms                              | | trace id                | trace id | traceparent;
 * span: else a hash of the session, else the id      | | span id                 | parent span id            |
 * traceparent; span: else a hash of the parent event's id         | |                         | span id | a hash of the
 * event's id: the same however often it is sent     | | event name              | name                      | the type;
 * otlp_genai.c has others                               | | severity                | status: error if the body has
 * `error` | otlp_genai.c                                        | | body                    | | the body; of events
 * whose body is content only where captured   | | attributes              | attributes                | libspool.id,
 * .priority, .parent, .tags; session, agent; the     | |                         |                           | members
 * of the body that otlp_genai.c names                     | */
#ifndef DELIVERY_SINKS_OTLP_RECORD_H
#define DELIVERY_SINKS_OTLP_RECORD_H

#include <jansson.h>

#include "../../lib/spool.h"
#include "otlp_writer.h"

struct otlp_style {
    bool content_in_logs, content_in_spans;
    const char *provider; /* gen_ai.provider.name where the body says none */
};

/* An event has a span beside its log record. */
bool otlp_is_span(const struct spool_event *event);

/* Write one item of a list. Trouble stays in the writer. */
void otlp_put_log(struct otlp_writer *w, const struct otlp_style *style, const struct spool_event *event,
                  const struct spool_id *id);
void otlp_put_span(struct otlp_writer *w, const struct otlp_style *style, const struct spool_event *event,
                   const struct spool_id *id);

/* One attribute, an item of a list of KeyValue. */
void otlp_put_attribute(struct otlp_writer *w, const char *key, const char *text);
void otlp_put_json_attribute(struct otlp_writer *w, const char *key, const json_t *value);

#endif
