/* http_status.h - what an answer's status means to a sink.
 *
 * | class   | statuses, unless configured otherwise                       | what is done |
 * |---------|-------------------------------------------------------------|-----------------------------------------------|
 * | deliver | 2xx                                                         | the events are delivered | | down    | 3xx
 * but 301 and 308, 408, 421, 423, 425, 429, 502-504       | the server is not there, or has too much to   | |         |
 * | do: all wait                                  | | retry   | 409, all other 5xx | it may be the server or one event:
 * see http.c | | pause   | 301, 308, 401-407, 410, 411, 415, 417, 426, 428, 505        | the sink needs its operator:
 * nothing is lost  | |         |                                                             | and nothing is sent | |
 * reject  | all other 4xx                                               | some event is bad: it is found and becomes a
 * | |         |                                                             | dead letter |
 *
 * A configuration moves statuses to other classes:  "status": {"retry": [404, "5xx"], "reject": [409]}. */
#ifndef DELIVERY_SINKS_HTTP_STATUS_H
#define DELIVERY_SINKS_HTTP_STATUS_H

#include <stdint.h>

#include "config.h"

enum http_class { HTTP_DELIVER, HTTP_DOWN, HTTP_RETRY, HTTP_PAUSE, HTTP_REJECT };

enum { HTTP_STATUSES = 600 };

/* What each status means; a status outside 100 to 599 is HTTP_DOWN. */
struct http_classes {
    uint8_t of[HTTP_STATUSES]; /* enum http_class */
};

/* What the defaults are: the table above, or OTLP's: "down" for 429, 502, 503 and 504, nothing for "retry", and
 * "reject" for what else is neither "deliver" nor "pause". */
enum http_rules { HTTP_RULES, HTTP_RULES_OTLP };

/* The defaults, changed by the configuration's "status". SPOOL_ECONFIG. */
int http_classes_read(struct config *config, enum http_rules rules, struct http_classes *ret);
enum http_class http_class_of(const struct http_classes *classes, long status);

#endif
