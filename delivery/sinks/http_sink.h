/* http_sink.h - what the files of the http sink share: http.c opens with what it does. */
#ifndef DELIVERY_SINKS_HTTP_SINK_H
#define DELIVERY_SINKS_HTTP_SINK_H

#include "http_client.h"
#include "http_status.h"

enum http_format { HTTP_STRUCTURED, HTTP_BINARY, HTTP_BATCH, HTTP_NDJSON };

enum { HTTP_HELD_MAX = 8 }; /* events of one deliver that are to be tried again; with more it is the server */

struct http {
    struct http_settings settings;
    struct secret url; /* set: the address is a secret */
    struct http_classes classes;
    int format, method; /* format: enum http_format */
    bool idempotency;
    char *source, *source_json; /* the latter as a JSON string, with its quotes */
    uint64_t request_bytes;
    struct http_client *client;
    struct buffer scratch;
    uint64_t not_before_ns; /* the server asked for that, monotonic; 0: it did not */
    uint32_t strikes;       /* answers of class "retry" in a row */
};

/* One call of deliver. */
struct http_run {
    struct http *h;
    struct spool_delivery *batch;
    size_t n, next;                  /* next: the first event not sent yet */
    size_t delivered;                /* since the last event that is to be tried again */
    const char *held[HTTP_HELD_MAX]; /* the agents of those that are */
    size_t held_count;
    int code; /* once set, nothing more is sent, and it is what deliver returns */
};

/* A request holds several events. */
static inline bool http_is_many(const struct http *h)
{
    return h->format == HTTP_BATCH || h->format == HTTP_NDJSON;
}

/* http_request.c. Sends the next request, unless none of the events left can be sent. Sets run->code. */
void http_send_next(struct http_run *run, struct http_exchange *ex);
/* The next event from *at on that is in the exchange's request, or NULL. */
struct spool_delivery *http_next_in(const struct http_run *run, const struct http_exchange *ex, size_t *at);

/* http_answer.c. Gives the events of the exchange their outcomes, and perhaps sets run->code. */
void http_judge(struct http_run *run, const struct http_exchange *ex);

#endif
