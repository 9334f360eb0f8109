/* nats_wire.h - a connection to JetStream, and the thread that works on it.
 *
 * libnats connects, looks up names, asks for streams and writes to its socket in ways that nothing interrupts. So all
 * of that is done by a thread of the connection's own, and whoever delivers only waits for what comes of it, which can
 * be cancelled at once: the wire is then let go, and its thread ends it when libnats returns. libnats does not
 * reconnect by itself: a connection that is lost is the end of its wire, and the next delivery makes another one, to
 * any of the servers. */
#ifndef DELIVERY_SINKS_NATS_WIRE_H
#define DELIVERY_SINKS_NATS_WIRE_H

#include <nats/nats.h>
#include <stdatomic.h>

#include "plugin.h"

/* What a wire is made with; shared by the sink and its wires, the last of which frees it. Never changes. */
struct wire_settings {
    atomic_int holders;
    char **urls;
    int url_count;
    char *user, *creds, *ca, *cert, *key, *stream, *subjects;
    struct secret password, token;
    bool create, tls;
    uint64_t replicas, window_ms, max_age_ms, max_bytes, connect_ms, ack_ms;
};
void wire_settings_drop(struct wire_settings *settings);

enum wire_answer { ANSWER_NONE = 0, ANSWER_STORED, ANSWER_REFUSED };

/* One message of a batch, and what became of it. */
struct wire_message {
    natsMsg *message; /* NULL: handed over */
    enum wire_answer answer;
    char reason[120]; /* of ANSWER_REFUSED */
};

struct wire;

/* Starts to connect. ENOMEM or errno with a message. */
int wire_new(struct wire_settings *settings, struct wire **ret);
/* Waits until it is connected and the stream is there. SPOOL_EUNAVAILABLE, SPOOL_ECONFIG with a message. */
int wire_ready(struct wire *wire, const struct cancel *cancel);
/* Publishes and waits for the answers: SPOOL_OK if each message has one, else SPOOL_EUNAVAILABLE or SPOOL_ECONFIG;
 * those that have one count in any case. The messages are the wire's. */
int wire_publish(struct wire *wire, const struct cancel *cancel, struct wire_message *messages, size_t count);
/* Lets it go; NULL is fine. Waits for its thread for `wait_ms` at most. */
void wire_drop(struct wire *wire, uint64_t wait_ms);

#endif
