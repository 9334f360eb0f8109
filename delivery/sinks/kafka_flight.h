/* kafka_flight.h - messages that were handed to librdkafka, and what became of them.
 *
 * The messages of a delivery are a load: an array, which the delivery reports point into. A delivery that gives up
 * (cancelled, no answer in time) leaves some of them with librdkafka, which goes on with them: its load is left. When
 * the same events come again they must not be produced a second time; by their ids it is seen that they are still
 * under way, or have arrived meanwhile. A load that is left lives until each of its messages has been asked for or
 * was forgotten.
 *
 * All under the lock of the producer, kafka_producer.h, whose messages these are. */
#ifndef DELIVERY_SINKS_KAFKA_FLIGHT_H
#define DELIVERY_SINKS_KAFKA_FLIGHT_H

#include <librdkafka/rdkafka.h>

#include "plugin.h"

enum flight_state { FLIGHT_NONE = 0, FLIGHT_PENDING, FLIGHT_ARRIVED, FLIGHT_FAILED };

struct flight {
    struct load *load;
    struct flight *next; /* of a load that is left: in its bucket */
    struct spool_id id;
    enum flight_state state;
    bool is_asked_for;         /* a delivery has it in hand */
    rd_kafka_resp_err_t error; /* of FLIGHT_FAILED */
};

struct load {
    size_t cap;
    size_t pending;       /* without a report: to be handed over, or under way */
    size_t left;          /* messages in a table; 0: the load is in the hands of a delivery */
    uint64_t transaction; /* its number; 0: none */
    struct flight flights[];
};

enum { FLIGHT_BUCKETS = 8192, FLIGHTS_MAX = 1 << 17 };
/* The messages of all loads that were left. */
struct flights {
    struct flight *buckets[FLIGHT_BUCKETS];
    size_t count;
};

/* Of `n` messages, none of which is handed over yet: `old`, which may be NULL, or a new one. NULL: no memory; `old` is
 * freed. */
struct load *load_for(struct load *old, size_t n);

/* What has arrived of the first `n` is pending again (the commit has no answer yet), or has failed with its transaction. */
void load_take_back(struct load *load, size_t n, bool pending);

/* What is pending of the first `n` stays known by its id; the load belongs to the table, or is freed. */
void flights_leave(struct flights *flights, struct load *load, size_t n);
/* NULL: it is not known. */
struct flight *flight_find(const struct flights *flights, const struct spool_id *id);
/* Forgets one that is not pending; its load may be gone then. */
void flight_remove(struct flights *flights, struct flight *flight);
/* Those that are under way no more, and that nobody asked for: of events that did not come again, as they had
 * expired. */
void flights_forget_over(struct flights *flights);
/* A transaction is over: what is left of its load has arrived, or has failed. */
void flights_settle(struct flights *flights, uint64_t transaction, bool arrived);
/* All, also the pending ones: when nothing more is reported. */
void flights_clear(struct flights *flights);

#endif
