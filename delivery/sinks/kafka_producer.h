/* kafka_producer.h - librdkafka's producer, which all workers of a sink share.
 *
 * Several deliveries may be under way at a time, each with messages of its own. librdkafka connects, looks up names
 * and sends in threads of its own. One more, ours, hears what it reports, notes it, and wakes the delivery whose
 * messages are all reported. Since the producer is one, an agent's messages keep their order whichever worker sends
 * them, and an event that comes again to another worker is known there.
 *
 *     kafka_producer_get()      the producer of that configuration, with a reference
 *     kafka_producer_join()     a delivery begins: it is told of trouble from now on
 *     kafka_producer_leave()    it ends: what is still under way stays known
 *     kafka_producer_put()      the last reference ends it */
#ifndef DELIVERY_SINKS_KAFKA_PRODUCER_H
#define DELIVERY_SINKS_KAFKA_PRODUCER_H

#include "kafka_flight.h"
#include "kafka_settings.h"

enum { KAFKA_MESSAGE_SIZE = 200 };

/* What a producer said of itself. */
struct kafka_trouble {
    int code; /* a SPOOL_E*, or 0 */
    char text[KAFKA_MESSAGE_SIZE];
};

/* A worker's part; it belongs to the worker. All but `wake` under the producer's lock while it is joined. */
struct kafka_user {
    struct kafka_user *next;
    int wake; /* an eventfd: all is reported, there is trouble, or there may be room again */
    bool wants_room;
    struct load *load; /* NULL: none */
    struct kafka_trouble trouble;
};

struct kafka_producer {
    rd_kafka_t *handle;
    rd_kafka_topic_t *topic;
    rd_kafka_queue_t *queue;
    int ended;            /* an eventfd that the thread sets at its end, and closes */
    pthread_mutex_t lock; /* guards what follows */
    bool ending;
    struct kafka_user *users;
    struct kafka_trouble unheard; /* while nobody had joined */
    struct flights flights;
};

/* `config` is the text that the sink was opened with: the states of one sink, which get it at the same address, share a
 * producer. It must stay until the last of them has put it. SPOOL_ECONFIG or SPOOL_EUNAVAILABLE with a message. */
int kafka_producer_get(const char *config, const struct kafka_settings *settings, struct kafka_producer **ret);
/* `spoilt`: the next one who gets it gets a new one. NULL is fine. */
void kafka_producer_put(struct kafka_producer *producer, bool spoilt);

/* With room for the messages of `n` events. SPOOL_EUNAVAILABLE with a message: then it has not joined. */
int kafka_producer_join(struct kafka_producer *producer, struct kafka_user *user, size_t n);
void kafka_producer_leave(struct kafka_producer *producer, struct kafka_user *user, size_t n);
/* The user is the only one. */
bool kafka_producer_is_mine(struct kafka_producer *producer, const struct kafka_user *user);

#endif
