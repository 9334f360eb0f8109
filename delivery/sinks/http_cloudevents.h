/* http_cloudevents.h - events as CloudEvents 1.0 (github.com/cloudevents/spec): JSON event format, HTTP binary mode.
 *
 * | attribute        | from                                                                                          |
 * |------------------|-----------------------------------------------------------------------------------------------|
 * | id               | the event's id: `source` and id name an event for ever, whoever tries how often               |
 * | source           | the configuration                                                                             |
 * | type             | type                                                                                          |
 * | time             | occurred_at_ns, or the id's time                                                              |
 * | datacontenttype  | content_type                                                                                  |
 * | agent, session, priority, parent, tags | extensions of those names; tags are separated by commas, in which a comma
 * is  | |                  | %2C and a percent sign %25 | | sequence         | the id's hybrid logical clock: 15
 * hexadecimal digits, a dot, 4 more; sorts as it runs         | | recordedtime     | the id's time, where
 * occurred_at_ns says another                                              | | traceparent      | traceparent (the
 * distributed tracing extension)                                               |
 *
 * The body is `data` when it is declared as JSON and is one JSON value, or declared as text/… and is UTF-8; any other
 * is `data_base64`. */
#ifndef DELIVERY_SINKS_HTTP_CLOUDEVENTS_H
#define DELIVERY_SINKS_HTTP_CLOUDEVENTS_H

#include "../../lib/base/buffer.h"
#include "../../lib/spool.h"

/* Appends the event as one JSON object. `source_json` is the source as a JSON string, with its quotes. `scratch` is
 * overwritten. ENOMEM. */
int cloudevents_put(struct buffer *out, const struct spool_event *event, const struct spool_id *id,
                    const char *source_json, struct buffer *scratch);

/* Gives `put` each attribute but datacontenttype as a header: "ce-type" and the value, percent-encoded. `scratch` is
 * overwritten. ENOMEM. */
int cloudevents_headers(const struct spool_event *event, const struct spool_id *id, const char *source,
                        struct buffer *scratch, void (*put)(void *user, const char *name, const char *value),
                        void *user);

#endif
