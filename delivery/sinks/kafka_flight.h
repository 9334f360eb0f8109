/* kafka_flight.h - the messages that were handed to librdkafka, by the id of their event.
 *
 * A delivery that gives up (cancelled, no answer in time) leaves its messages with librdkafka, which goes on with them.
 * When the same events come again, they must not be produced a second time: here it is seen that they are still under
 * way, or have arrived meanwhile. One thread at a time. */
#ifndef DELIVERY_SINKS_KAFKA_FLIGHT_H
#define DELIVERY_SINKS_KAFKA_FLIGHT_H

#include <librdkafka/rdkafka.h>

#include "plugin.h"

enum flight_state { FLIGHT_PENDING, FLIGHT_ARRIVED, FLIGHT_FAILED };

struct flight {
    struct flight *next;
    struct spool_id id;
    enum flight_state state;
    rd_kafka_resp_err_t error; /* of FLIGHT_FAILED */
};

enum { FLIGHT_BUCKETS = 8192, FLIGHTS_MAX = 1 << 17 };
struct flights {
    struct flight *buckets[FLIGHT_BUCKETS];
    size_t count;
};

/* NULL: it is not known. */
struct flight *flight_find(const struct flights *flights, const struct spool_id *id);
/* A new one, pending; NULL: no memory, or too many. */
struct flight *flight_add(struct flights *flights, const struct spool_id *id);
void flight_remove(struct flights *flights, struct flight *flight);
/* Those that are under way no more: of events that did not come again, as they had expired meanwhile. */
void flights_forget_over(struct flights *flights);
void flights_clear(struct flights *flights);

#endif
