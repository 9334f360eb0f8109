/* kafka_producer.h - librdkafka's producer, which all workers of a sink share.
 *
 * Several deliveries may be under way at a time, each with messages of its own. librdkafka connects, looks up names
 * and sends in threads of its own. What it reports is heard by whoever waits, or hands over more: a message's memory
 * goes back to the thread that it came from, which is cheaper than a thread that does nothing but hear. Whoever has
 * heard the last report of another delivery wakes that. While there is none, a thread of the producer's hears. Since the producer is one, an agent's messages keep their order whichever worker sends
 * them, and an event that comes again to another worker is known there.
 *
 * With transactions each worker has a producer of its own, since a producer has one transaction at a time.
 *
 *     kafka_producer_get()      the producer of that configuration, with a reference
 *     kafka_producer_join()     a delivery begins: it is told of trouble from now on
 *     kafka_producer_hear()     notes what is reported
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

/* A worker's part; it belongs to the worker. All but the descriptors under the producer's lock while it is joined. */
struct kafka_user {
    struct kafka_user *next;
    int wake; /* an eventfd: all is reported, there is trouble, or there may be room again */
    int ears; /* an epoll descriptor of it and of what the producer has heard */
    bool wants_room;
    struct load *load; /* NULL: none */
    struct kafka_trouble trouble;
};

/* Where a producer stands with its transactions: it has to be made known to the coordinator first; one is open; or its
 * commit was asked for. */
enum kafka_phase { KAFKA_FRESH = 0, KAFKA_READY, KAFKA_OPEN, KAFKA_COMMITTING };

struct kafka_producer {
    rd_kafka_t *handle;
    rd_kafka_topic_t *topic;
    rd_kafka_queue_t *queue;
    /* With transactions, of the worker that has it. */
    char *transactional_id; /* NULL: without */
    enum kafka_phase phase;
    uint64_t transaction; /* the number of the last one */
    bool is_broken;       /* no further transaction is possible */

    int heard;            /* an eventfd that librdkafka sets when it has something to report */
    int ended;            /* an eventfd that the thread sets at its end, and closes */
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t bell;
    bool ending;
    struct kafka_user *users;
    struct kafka_trouble unheard; /* while nobody had joined */
    struct flights flights;
};

/* `config` is the text that the sink was opened with: the states of one sink, which get it at the same address, share a
 * producer, or, with transactions, number theirs from 1. It must stay until the last of them has put it. SPOOL_ECONFIG or SPOOL_EUNAVAILABLE with a message. */
int kafka_producer_get(const char *config, const struct kafka_settings *settings, struct kafka_producer **ret);
/* `spoilt`: the next one who gets it gets a new one. NULL is fine. */
void kafka_producer_put(struct kafka_producer *producer, bool spoilt);

/* With room for the messages of `n` events. SPOOL_EUNAVAILABLE with a message: then it has not joined. */
int kafka_producer_join(struct kafka_producer *producer, struct kafka_user *user, size_t n);
/* Without the lock; it does not wait. */
void kafka_producer_hear(struct kafka_producer *producer);
void kafka_producer_leave(struct kafka_producer *producer, struct kafka_user *user, size_t n);
/* The user is the only one. */
bool kafka_producer_is_mine(struct kafka_producer *producer, const struct kafka_user *user);

#endif
