/* kafka.c - events as messages of a Kafka topic, by librdkafka's idempotent producer.
 *
 * The key is the agent, so that an agent's events are in one partition, the value the event's native JSON; id, type and
 * traceparent are headers, too. A delivery report is an event's outcome. What librdkafka still has when a delivery
 * gives up is remembered by kafka_flight.h.
 *
 * Each event arrives at least once, and once as long as the process lives: the producer's sequence numbers keep the
 * brokers from storing what it sends again, but nobody can tell a new process what the last one's messages became of.
 * Transactions would not change that: a commit whose answer is lost leaves the same question. Consumers tell events
 * apart by their id.
 *
 * librdkafka connects, looks up names and waits in threads of its own; it says by an eventfd that there is something to
 * hear. Only its end can take long, so that is waited for in a thread, which is left alone after a second. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "kafka_flight.h"

enum { CLOSE_WAIT_MS = 1000, FLUSH_MS = 10, QUEUE_MESSAGES = 1 << 17, QUEUE_KIB = 64 << 10 };
static const char *const compression_names[] = {"none", "gzip", "snappy", "lz4", "zstd", NULL};

struct kafka {
    char *servers, *topic, *ca, *user, *mechanism;
    struct secret password;
    json_t *properties; /* an object of texts */
    int compression;
    bool tls;
    uint64_t ack_ms;
    struct cancel cancel;
    rd_kafka_t *producer; /* NULL: none */
    int events;           /* an eventfd: librdkafka has something to say */
    int trouble;          /* what the producer said of itself since the delivery began: a SPOOL_E*, or 0 */
    char message[200];    /* of that */
    struct flights flights;
};

/* --------------------------------------------------------------------------------------------------------- callbacks
 */

static void tell(struct kafka *s, int code, const char *what)
{
    s->trouble = code;
    snprintf(s->message, sizeof s->message, "Kafka: %s", what);
}

static bool is_wrong(rd_kafka_resp_err_t error)
{
    switch (error) {
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
        return true;
    default:
        return false;
    }
}

/* What no repetition mends for this message alone. */
static bool is_refused(rd_kafka_resp_err_t error)
{
    return error == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE || error == RD_KAFKA_RESP_ERR_INVALID_RECORD ||
           error == RD_KAFKA_RESP_ERR_INVALID_MSG || error == RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE;
}

static void on_report(rd_kafka_t *producer, const rd_kafka_message_t *report, void *opaque)
{
    (void)producer, (void)opaque;
    struct flight *flight = report->_private;
    flight->state = report->err ? FLIGHT_FAILED : FLIGHT_ARRIVED;
    flight->error = report->err;
}

static void on_error(rd_kafka_t *producer, int error, const char *reason, void *opaque)
{
    struct kafka *s = opaque;
    char text[160];
    if (error == RD_KAFKA_RESP_ERR__FATAL) {
        rd_kafka_fatal_error(producer, text, sizeof text);
        tell(s, SPOOL_EUNAVAILABLE, text);
    } else if (error == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN || is_wrong((rd_kafka_resp_err_t)error) ||
               error == RD_KAFKA_RESP_ERR__SSL || s->trouble == 0)
        /* that all brokers are down says less than what came before it */
        if (!(error == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN && *s->message))
            snprintf(s->message, sizeof s->message, "Kafka: %s", reason);
    if (is_wrong((rd_kafka_resp_err_t)error))
        s->trouble = SPOOL_ECONFIG;
    else if (error == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN && s->trouble == 0)
        s->trouble = SPOOL_EUNAVAILABLE;
}

/* librdkafka would print it. */
static void on_log(const rd_kafka_t *producer, int level, const char *facility, const char *message)
{
    (void)producer, (void)level, (void)facility, (void)message;
}

/* ---------------------------------------------------------------------------------------------------------- producer
 */

static int set(rd_kafka_conf_t *conf, const char *key, const char *value)
{
    char error[160];
    if (!value || rd_kafka_conf_set(conf, key, value, error, sizeof error) == RD_KAFKA_CONF_OK)
        return SPOOL_OK;
    return spool_sink_error(SPOOL_ECONFIG, "Kafka: %s: %s", key, strstr(key, "password") ? "not accepted" : error);
}

static int set_number(rd_kafka_conf_t *conf, const char *key, uint64_t number)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    return set(conf, key, text);
}

static int set_login(struct kafka *s, rd_kafka_conf_t *conf)
{
    char *password = NULL;
    const char *protocol = s->user ? (s->tls ? "sasl_ssl" : "sasl_plaintext") : s->tls ? "ssl" : "plaintext";
    int code = secret_read(&s->password, "password", &password);
    if (code == SPOOL_OK)
        code = set(conf, "security.protocol", protocol);
    if (code == SPOOL_OK && s->tls)
        code = set(conf, "ssl.endpoint.identification.algorithm", "https");
    if (code == SPOOL_OK)
        code = set(conf, "ssl.ca.location", s->ca);
    if (code == SPOOL_OK && s->user)
        code = set(conf, "sasl.mechanism", s->mechanism);
    if (code == SPOOL_OK)
        code = set(conf, "sasl.username", s->user);
    if (code == SPOOL_OK)
        code = set(conf, "sasl.password", password);
    secret_wipe(password);
    return code;
}

/* What the guarantee hangs on comes last: nothing in "properties" changes it. */
static int set_all(struct kafka *s, rd_kafka_conf_t *conf)
{
    const char *key;
    json_t *value;
    int code = set(conf, "client.id", "libspool");
    if (code == SPOOL_OK)
        code = set(conf, "linger.ms", "1"); /* a batch waits for its last message set */
    if (code == SPOOL_OK)
        code = set(conf, "socket.nagle.disable", "true"); /* or it waits 40 ms, for the broker's delayed ACK */
    if (code == SPOOL_OK)
        code = set(conf, "compression.type", compression_names[s->compression]);
    if (code == SPOOL_OK)
        code = set_login(s, conf);
    json_object_foreach(s->properties, key, value)
    {
        if (code == SPOOL_OK)
            code = set(conf, key, json_string_value(value));
    }
    if (code == SPOOL_OK)
        code = set(conf, "bootstrap.servers", s->servers);
    if (code == SPOOL_OK)
        code = set(conf, "enable.idempotence", "true");
    if (code == SPOOL_OK)
        code = set_number(conf, "queue.buffering.max.messages", QUEUE_MESSAGES);
    if (code == SPOOL_OK)
        code = set_number(conf, "queue.buffering.max.kbytes", QUEUE_KIB);
    return code == SPOOL_OK ? set_number(conf, "message.timeout.ms", 2 * s->ack_ms) : code;
}

static int make_producer(struct kafka *s)
{
    char error[200];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    int code = set_all(s, conf);
    rd_kafka_conf_set_dr_msg_cb(conf, on_report);
    rd_kafka_conf_set_error_cb(conf, on_error);
    rd_kafka_conf_set_log_cb(conf, on_log);
    rd_kafka_conf_set_opaque(conf, s);
    s->producer = code == SPOOL_OK ? rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error) : NULL;
    if (s->producer) { /* which owns conf now */
        uint64_t one = 1;
        rd_kafka_queue_t *queue = rd_kafka_queue_get_main(s->producer);
        rd_kafka_queue_io_event_enable(queue, s->events, &one, sizeof one);
        rd_kafka_queue_destroy(queue);
        return SPOOL_OK;
    }
    rd_kafka_conf_destroy(conf);
    return code == SPOOL_OK ? spool_sink_error(SPOOL_ECONFIG, "Kafka: %s", error) : code;
}

/* The end of a producer, which nobody needs to see. */
struct ending {
    rd_kafka_t *producer;
    int done;
};

static void *end(void *argument)
{
    struct ending *ending = argument;
    uint64_t one = 1;
    rd_kafka_destroy_flags(ending->producer, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    ssize_t n = write(ending->done, &one, sizeof one);
    (void)n; /* a fresh counter takes it */
    close(ending->done);
    free(ending);
    return NULL;
}

/* Its messages are forgotten: on_report() is called for each of them first, as far as it is ever called. */
static void end_producer(struct kafka *s)
{
    struct cancel never = {.fd = -1};
    pthread_t thread;
    if (!s->producer)
        return;
    rd_kafka_purge(s->producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT | RD_KAFKA_PURGE_F_NON_BLOCKING);
    rd_kafka_poll(s->producer, 0);
    struct ending *ending = calloc(1, sizeof *ending);
    int done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), seen = done < 0 ? -1 : fcntl(done, F_DUPFD_CLOEXEC, 0);
    if (ending)
        *ending = (struct ending){.producer = s->producer, .done = done};
    if (ending && seen >= 0 && thread_start(&thread, "spool-kafka", end, ending) == 0) {
        pthread_detach(thread);
        cancel_wait(&never, seen, POLLIN, deadline_in_ms(CLOSE_WAIT_MS));
    } else { /* no thread: it takes as long as it takes */
        rd_kafka_destroy_flags(s->producer, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
        if (done >= 0)
            close(done);
        free(ending);
    }
    if (seen >= 0)
        close(seen);
    s->producer = NULL;
    flights_clear(&s->flights);
}

/* -------------------------------------------------------------------------------------------------------- delivering
 */

/* Waits for something to hear, and hears it. */
static enum cancel_wait hear(struct kafka *s, uint64_t deadline_ns)
{
    uint64_t count;
    enum cancel_wait how = WAIT_READY;
    if (rd_kafka_poll(s->producer, 0) > 0)
        return how;
    how = cancel_wait(&s->cancel, s->events, POLLIN, deadline_ns);
    ssize_t n = read(s->events, &count, sizeof count);
    (void)n; /* EAGAIN: nothing was said */
    rd_kafka_poll(s->producer, 0);
    return how;
}

static rd_kafka_resp_err_t produce(struct kafka *s, const struct spool_delivery *delivery, struct flight *flight,
                                   const char *json, size_t size)
{
    const struct spool_event *event = delivery->event;
    char id[SPOOL_ID_TEXT_SIZE];
    const char *agent = event->agent && *event->agent ? event->agent : NULL;
    const char *trace = event->traceparent && *event->traceparent ? event->traceparent : NULL;
    rd_kafka_headers_t *headers = rd_kafka_headers_new(3);
    rd_kafka_header_add(headers, "id", -1, spool_id_format(&delivery->id, id), -1);
    rd_kafka_header_add(headers, "type", -1, event->type, -1);
    if (trace)
        rd_kafka_header_add(headers, "traceparent", -1, trace, -1);
    rd_kafka_resp_err_t error = rd_kafka_producev(
        s->producer, RD_KAFKA_V_TOPIC(s->topic), RD_KAFKA_V_KEY((void *)agent, agent ? strlen(agent) : 0),
        RD_KAFKA_V_VALUE((void *)json, size), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
        RD_KAFKA_V_TIMESTAMP((int64_t)(spool_id_time_ns(&delivery->id) / NS_PER_MS)), RD_KAFKA_V_HEADERS(headers),
        RD_KAFKA_V_OPAQUE(flight), RD_KAFKA_V_END);
    if (error)
        rd_kafka_headers_destroy(headers); /* else they are the message's */
    return error;
}

static int failed(const char *what)
{
    return spool_sink_error(SPOOL_EUNAVAILABLE, "Kafka: %s", what);
}

/* Hands a message over; waits while librdkafka has too many. */
static int hand_over(struct kafka *s, struct spool_delivery *delivery, struct flight *flight, const char *json,
                     size_t size, uint64_t deadline_ns)
{
    rd_kafka_resp_err_t error;
    while ((error = produce(s, delivery, flight, json, size)) == RD_KAFKA_RESP_ERR__QUEUE_FULL) {
        enum cancel_wait how = hear(s, deadline_ns);
        if (how != WAIT_READY)
            return failed(how == WAIT_CANCELLED ? "cancelled" : "the queue stays full");
    }
    if (!error)
        return SPOOL_OK;
    if (!is_refused(error))
        return spool_sink_error(is_wrong(error) ? SPOOL_ECONFIG : SPOOL_EUNAVAILABLE, "Kafka: %s",
                                rd_kafka_err2str(error));
    spool_delivery_fail(delivery, SPOOL_REJECTED, "Kafka: %s", rd_kafka_err2str(error));
    return SPOOL_EREJECTED;
}

/* One event, unless it is under way or has arrived. */
static int send_event(struct kafka *s, struct spool_delivery *delivery, uint64_t deadline_ns)
{
    struct flight *flight = flight_find(&s->flights, &delivery->id);
    char *json = NULL;
    size_t size = 0;
    if (flight && flight->state != FLIGHT_FAILED)
        return SPOOL_OK;
    if (flight)
        flight_remove(&s->flights, flight);
    if (s->flights.count >= FLIGHTS_MAX)
        flights_forget_over(&s->flights);
    flight = flight_add(&s->flights, &delivery->id);
    if (!flight || spool_event_to_json(delivery->event, &delivery->id, &json, &size) != SPOOL_OK) {
        if (flight)
            flight_remove(&s->flights, flight);
        return failed("out of memory, or too much is under way");
    }
    int code = hand_over(s, delivery, flight, json, size, deadline_ns);
    spool_free(json);
    if (code != SPOOL_OK)
        flight_remove(&s->flights, flight);
    return code == SPOOL_EREJECTED ? SPOOL_OK : code;
}

/* True when none of the batch is under way. */
static bool is_answered(const struct kafka *s, struct spool_delivery *batch, size_t n, size_t *from)
{
    for (; *from < n; ++*from) {
        const struct flight *flight = flight_find(&s->flights, &SPOOL_DELIVERY_AT(batch, *from)->id);
        if (flight && flight->state == FLIGHT_PENDING)
            return false;
    }
    return true;
}

/* Until all have an answer. SPOOL_OK also when some failed. */
static int await(struct kafka *s, struct spool_delivery *batch, size_t n)
{
    uint64_t deadline_ns = deadline_in_ms(s->ack_ms);
    size_t from = 0;
    rd_kafka_flush(s->producer, FLUSH_MS); /* the last message sets need not linger. What is not done then: below */
    while (!is_answered(s, batch, n, &from)) {
        size_t before = from;
        if (s->trouble)
            return spool_sink_error(s->trouble, "%s", *s->message ? s->message : "Kafka: all brokers are down");
        enum cancel_wait how = hear(s, deadline_ns);
        if (how == WAIT_CANCELLED)
            return failed("cancelled");
        if (how == WAIT_TIMEOUT && is_answered(s, batch, n, &from))
            return SPOOL_OK;
        if (how == WAIT_TIMEOUT && from == before)
            return failed(*s->message ? s->message + strlen("Kafka: ") : "no acknowledgement within ack_timeout");
        if (how == WAIT_TIMEOUT)
            deadline_ns = deadline_in_ms(s->ack_ms);
    }
    return SPOOL_OK;
}

/* The outcome of one event; what is still under way is kept. */
static int answer(struct kafka *s, struct spool_delivery *delivery, int code)
{
    struct flight *flight = flight_find(&s->flights, &delivery->id);
    if (!flight || flight->state == FLIGHT_PENDING)
        return code;
    rd_kafka_resp_err_t error = flight->state == FLIGHT_FAILED ? flight->error : RD_KAFKA_RESP_ERR_NO_ERROR;
    flight_remove(&s->flights, flight);
    if (!error)
        delivery->outcome = SPOOL_DELIVERED;
    else if (is_refused(error))
        spool_delivery_fail(delivery, SPOOL_REJECTED, "Kafka: %s", rd_kafka_err2str(error));
    else if (code == SPOOL_OK)
        code = spool_sink_error(is_wrong(error) ? SPOOL_ECONFIG : SPOOL_EUNAVAILABLE, "Kafka: %s",
                                rd_kafka_err2str(error));
    return code;
}

static int kafka_deliver(void *state, struct spool_delivery *batch, size_t n)
{
    struct kafka *s = state;
    uint64_t deadline_ns = deadline_in_ms(s->ack_ms);
    s->trouble = 0;
    s->message[0] = '\0';
    int code = s->producer ? SPOOL_OK : make_producer(s);
    for (size_t i = 0; i < n && code == SPOOL_OK; i++)
        code = send_event(s, SPOOL_DELIVERY_AT(batch, i), deadline_ns);
    if (code == SPOOL_OK)
        code = await(s, batch, n);
    for (size_t i = 0; i < n; i++)
        code = answer(s, SPOOL_DELIVERY_AT(batch, i), code);
    if (s->producer && (s->trouble == SPOOL_ECONFIG || rd_kafka_fatal_error(s->producer, NULL, 0)))
        end_producer(s); /* another one begins with what is mended */
    cancel_done(&s->cancel);
    return code;
}

static void kafka_cancel(void *state)
{
    struct kafka *s = state;
    cancel_set(&s->cancel);
}

/* ----------------------------------------------------------------------------------------------------- configuration
 */

static int wrong(const char *what)
{
    return spool_sink_error(SPOOL_ECONFIG, "configuration of the kafka sink: %s", what);
}

static int read_text(struct config *config, const char *key, char **ret)
{
    return json_object_get(config->object, key) ? config_text(config, key, NULL, ret) : SPOOL_OK;
}

/* Texts that are no secrets. */
static int read_properties(struct config *config, struct kafka *s)
{
    json_t *object = json_object_get(config->object, "properties"), *value;
    const char *key;
    if (object && !json_is_object(object))
        return wrong("\"properties\" must be an object of librdkafka's settings");
    json_object_foreach(object, key, value)
    {
        if (strstr(key, "password") || strstr(key, "pem") || strstr(key, "secret") ||
            strstr(key, "sasl.oauthbearer.config"))
            return wrong("\"properties\" must hold no secrets, as they are stored and shown");
        if (!json_is_string(value))
            return wrong("\"properties\" must be texts");
    }
    s->properties = json_incref(object);
    json_object_del(config->object, "properties");
    return SPOOL_OK;
}

static int read_tls(struct config *config, struct kafka *s)
{
    json_t *value = json_object_get(config->object, "tls");
    if (value && !json_is_boolean(value))
        return wrong("\"tls\" must be true or false");
    s->tls = !json_is_false(value);
    json_object_del(config->object, "tls");
    return read_text(config, "ca", &s->ca);
}

static int read_config(struct kafka *s, const char *json_config)
{
    struct config config;
    int code = config_open(&config, "kafka", json_config);
    if (code == SPOOL_OK)
        code = config_text(&config, "servers", NULL, &s->servers);
    if (code == SPOOL_OK)
        code = config_text(&config, "topic", "events", &s->topic);
    if (code == SPOOL_OK)
        code = read_tls(&config, s);
    if (code == SPOOL_OK)
        code = read_text(&config, "user", &s->user);
    if (code == SPOOL_OK)
        code = config_secret(&config, "password", s->user != NULL, &s->password);
    if (code == SPOOL_OK)
        code = config_text(&config, "mechanism", "SCRAM-SHA-512", &s->mechanism);
    if (code == SPOOL_OK)
        code = config_choice(&config, "compression", compression_names, 3, &s->compression);
    if (code == SPOOL_OK)
        code = config_duration_ms(&config, "ack_timeout", 10000, &s->ack_ms);
    if (code == SPOOL_OK)
        code = read_properties(&config, s);
    return config_close(&config, code);
}

static void forget_config(struct kafka *s)
{
    char *texts[] = {s->servers, s->topic, s->ca, s->user, s->mechanism};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        free(texts[i]);
    secret_free(&s->password);
    json_decref(s->properties);
}

static void kafka_close(void *state)
{
    struct kafka *s = state;
    if (!s)
        return;
    end_producer(s);
    flights_clear(&s->flights);
    forget_config(s);
    if (s->events >= 0)
        close(s->events);
    cancel_free(&s->cancel);
    free(s);
}

static int kafka_open(void **ret_state, void *user, const char *json_config, const void *checkpoint,
                      size_t checkpoint_size)
{
    (void)user, (void)checkpoint, (void)checkpoint_size;
    struct kafka *s = calloc(1, sizeof *s);
    if (!s)
        return spool_sink_error(ENOMEM, "out of memory");
    int err = cancel_init(&s->cancel);
    s->events = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!err && s->events < 0)
        err = errno;
    int code = err ? spool_sink_error(err, "%s", spool_strerror(err)) : read_config(s, json_config);
    if (code == SPOOL_OK)
        *ret_state = s;
    else
        kafka_close(s);
    return code;
}

static int kafka_check(const char *json_config)
{
    struct kafka s = {0};
    int code = read_config(&s, json_config);
    forget_config(&s);
    return code;
}

static const struct spool_sink_setting settings[] = {
    {"servers", "text (required)", "HOST:PORT of some brokers, with commas"},
    {"topic", "text, events", "to produce to"},
    {"tls", "true or false, true", "certificates are verified, by name too"},
    {"ca", "file", "authorities to trust instead of the system's"},
    {"user", "text", "for SASL"},
    {"password", "secret", "of the user"},
    {"mechanism", "text, SCRAM-SHA-512", "of SASL"},
    {"compression", "none, gzip, snappy, lz4, zstd; lz4", "of message sets"},
    {"ack_timeout", "duration, 10s", "for the brokers' acknowledgement"},
    {"properties", "object", "further settings of librdkafka"},
    {NULL, NULL, NULL},
};

static const struct spool_sink kafka_sink = {
    .abi = SPOOL_SINK_ABI,
    .size = sizeof(struct spool_sink),
    .kind = "kafka",
    .open = kafka_open,
    .deliver = kafka_deliver,
    .cancel = kafka_cancel,
    .close = kafka_close,
};

SPOOL_SINK_PLUGIN(.sink = &kafka_sink, .check = kafka_check, .settings = settings,
                  .summary = "messages of a Kafka topic, by an idempotent producer")
