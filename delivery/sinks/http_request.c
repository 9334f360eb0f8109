/* http_request.c - the requests of the http sink: which events go into the next one, and how they look in there. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../../lib/base/json.h"
#include "http_cloudevents.h"
#include "http_sink.h"

enum { KEY_SIZE = 96 };

/* Indexed by enum http_format; binary: the event's own. */
static const char *const content_types[] = {"application/cloudevents+json; charset=UTF-8", NULL,
                                            "application/cloudevents-batch+json; charset=UTF-8",
                                            "application/x-ndjson"};

static void put_attribute(void *user, const char *name, const char *value)
{
    http_header(user, name, value);
}

/* The content type becomes a header as it is. */
static bool is_header_text(const char *text)
{
    for (; *text; text++)
        if (*text < ' ' || *text > '~')
            return false;
    return true;
}

/* The event's own content type and bytes; everything else goes into headers. */
static int render_binary(struct http *h, struct http_exchange *ex, struct spool_delivery *delivery)
{
    const struct spool_event *event = delivery->event;
    const char *type = event->content_type && *event->content_type ? event->content_type : "application/json";
    if (!is_header_text(type)) {
        spool_delivery_fail(delivery, SPOOL_REJECTED, "its content type cannot stand in a header");
        return SPOOL_OK;
    }
    http_header(ex, "Content-Type", type);
    int code = buffer_put(&ex->body, event->body, event->body_size);
    if (code == SPOOL_OK)
        code = cloudevents_headers(event, &delivery->id, h->source, &h->scratch, put_attribute, ex);
    return code;
}

static int render_line(struct http_exchange *ex, const struct spool_delivery *delivery)
{
    int code = json_put_event(&ex->body, delivery->event, &delivery->id);
    return code == SPOOL_OK ? buffer_put(&ex->body, "\n", 1) : code;
}

static int render(struct http *h, struct http_exchange *ex, struct spool_delivery *delivery)
{
    int code = SPOOL_OK;
    switch ((enum http_format)h->format) {
    case HTTP_BINARY:
        return render_binary(h, ex, delivery);
    case HTTP_NDJSON:
        return render_line(ex, delivery);
    case HTTP_BATCH:
        code = buffer_put(&ex->body, ex->body.size == 0 ? "[" : ",", 1);
        break;
    case HTTP_STRUCTURED:
        break;
    }
    return code == SPOOL_OK ? cloudevents_put(&ex->body, delivery->event, &delivery->id, h->source_json, &h->scratch)
                            : code;
}

/* Nothing may overtake an event of its agent that is to be tried again. */
static bool waits_behind(const struct http_run *run, const struct spool_delivery *delivery)
{
    const char *agent = delivery->event->agent;
    for (size_t i = 0; agent && i < run->held_count; i++)
        if (run->held[i] && strcmp(run->held[i], agent) == 0)
            return true;
    return false;
}

/* Renders events from run->next on until the request is full. Takes back the one that would make it too big. */
static int fill(struct http_run *run, struct http_exchange *ex)
{
    struct http *h = run->h;
    ex->first = run->next;
    ex->count = 0;
    for (; run->next < run->n && (run->next == ex->first || http_is_many(h)); run->next++) {
        struct spool_delivery *delivery = SPOOL_DELIVERY_AT(run->batch, run->next);
        size_t before = ex->body.size;
        if (render(h, ex, delivery) != SPOOL_OK)
            return spool_sink_error(SPOOL_EUNAVAILABLE, "out of memory");
        if (ex->count > 0 && ex->body.size > h->request_bytes) {
            ex->body.size = before;
            break;
        }
        ex->count += delivery->outcome != SPOOL_REJECTED;
    }
    ex->end = run->next;
    return h->format == HTTP_BATCH && ex->count > 0 ? buffer_put(&ex->body, "]", 1) : SPOOL_OK;
}

/* The events of a request are those of its range that were not rejected when it was made. */
struct spool_delivery *http_next_in(const struct http_run *run, const struct http_exchange *ex, size_t *at)
{
    for (; *at < ex->end; (*at)++)
        if (SPOOL_DELIVERY_AT(run->batch, *at)->outcome != SPOOL_REJECTED)
            return SPOOL_DELIVERY_AT(run->batch, (*at)++);
    return NULL;
}

static void put_key(const struct http_run *run, struct http_exchange *ex)
{
    char key[KEY_SIZE], id[SPOOL_ID_TEXT_SIZE];
    uint64_t hash = 0xcbf29ce484222325ull; /* FNV-1a */
    const struct spool_delivery *first = NULL, *delivery;
    for (size_t at = ex->first; (delivery = http_next_in(run, ex, &at)) != NULL; first = first ? first : delivery)
        for (size_t i = 0; i < sizeof delivery->id.bytes; i++)
            hash = (hash ^ delivery->id.bytes[i]) * 0x100000001b3ull;
    spool_id_format(&first->id, id);
    if (http_is_many(run->h))
        snprintf(key, sizeof key, "%s.%zu.%016" PRIx64, id, ex->count, hash);
    else
        snprintf(key, sizeof key, "%s", id);
    http_header(ex, "Idempotency-Key", key);
}

static int send_request(struct http_run *run, struct http_exchange *ex)
{
    struct http *h = run->h;
    const struct spool_event *event = SPOOL_DELIVERY_AT(run->batch, ex->end - 1)->event;
    if (content_types[h->format])
        http_header(ex, "Content-Type", content_types[h->format]);
    if (!http_is_many(h) && event->traceparent)
        http_header(ex, "traceparent", event->traceparent);
    if (h->idempotency)
        put_key(run, ex);
    return http_start(h->client, ex);
}

static void skip_held(struct http_run *run)
{
    for (; run->next < run->n; run->next++) {
        struct spool_delivery *delivery = SPOOL_DELIVERY_AT(run->batch, run->next);
        if (!waits_behind(run, delivery))
            return;
        spool_delivery_fail(delivery, SPOOL_RETRY, "not sent: an earlier event of its agent is to be tried again");
    }
}

/* Sends the next request, unless none of the events left can be sent. */
void http_send_next(struct http_run *run, struct http_exchange *ex)
{
    skip_held(run);
    if (run->next == run->n)
        return;
    int code = fill(run, ex);
    if (code == SPOOL_OK && ex->count > 0)
        code = send_request(run, ex);
    run->code = code;
}
