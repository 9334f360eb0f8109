/* kafka.c - events as messages of a Kafka topic, by librdkafka's idempotent producer.
 *
 * The key is the agent, so that an agent's events are in one partition, the value the event's native JSON; id, type and
 * traceparent are headers, too. A delivery report is an event's outcome. What librdkafka still has when a delivery
 * gives up is remembered by kafka_flight.h.
 *
 * Each event arrives at least once, and once as long as the process lives: the producer's sequence numbers keep the
 * brokers from storing what it sends again, but nobody can tell a new process what the last one's messages became of.
 * Transactions (kafka_transaction.h) do not change that: a commit whose answer is lost with the process leaves the same
 * question. Consumers tell events apart by their id.
 *
 * While a batch is judged and the next one unpacked, nothing of this worker is under way; with two workers, which share
 * the producer (kafka_producer.h), that time is used. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../../lib/base/error.h"
#include "../../lib/base/json.h"
#include "kafka_error.h"
#include "kafka_producer.h"
#include "kafka_transaction.h"

enum { FLUSH_MS = 10, HEAR_EACH = 256 /* messages */, KEEP_BYTES_MAX = 1 << 20 };

/* One worker's. */
struct kafka {
    const char *config;
    struct kafka_settings settings;
    struct cancel cancel;
    struct kafka_producer *producer; /* NULL: not made yet */
    struct kafka_user user;
    struct buffer json; /* of one event at a time */
    struct flight *
        *sent; /* for each event of the batch: its message, which may be of an earlier delivery; NULL: none */
    size_t sent_cap;
    uint64_t deadline_ns;
};

static int failed(const char *what)
{
    return spool_sink_error(SPOOL_EUNAVAILABLE, "Kafka: %s", what);
}

/* What a broker refuses is a set of messages, of which one may be bad: the library finds it by halves. */
static int failed_by(rd_kafka_resp_err_t error)
{
    int code = kafka_error_is_refused(error) ? SPOOL_EREJECTED
               : kafka_error_is_wrong(error) ? SPOOL_ECONFIG
                                             : SPOOL_EUNAVAILABLE;
    return spool_sink_error(code, "Kafka: %s", rd_kafka_err2str(error));
}

/* ------------------------------------------------------------------------------------------------------------ waiting
 */

/* Until there is something to hear. */
static enum cancel_wait wait_for_word(struct kafka *s)
{
    uint64_t count;
    enum cancel_wait how = cancel_wait(&s->cancel, s->user.ears, POLLIN, s->deadline_ns);
    ssize_t n = read(s->user.wake, &count, sizeof count);
    (void)n; /* EAGAIN: it was not woken */
    kafka_producer_hear(s->producer);
    return how;
}

static int wait_for_room(struct kafka *s)
{
    pthread_mutex_lock(&s->producer->lock);
    s->user.wants_room = true;
    pthread_mutex_unlock(&s->producer->lock);
    enum cancel_wait how = wait_for_word(s);
    return how == WAIT_READY ? SPOOL_OK : failed(how == WAIT_CANCELLED ? "cancelled" : "the queue stays full");
}

/* How many of the batch have no answer yet; and what trouble there is. */
static size_t count_pending(struct kafka *s, size_t n, struct kafka_trouble *ret_trouble)
{
    pthread_mutex_lock(&s->producer->lock);
    const struct load *own = s->user.load;
    size_t pending = own->pending;
    for (size_t i = 0; i < n && s->producer->flights.count > 0; i++) /* those of earlier deliveries */
        pending += s->sent[i] && s->sent[i]->load != own && s->sent[i]->state == FLIGHT_PENDING;
    *ret_trouble = s->user.trouble;
    pthread_mutex_unlock(&s->producer->lock);
    return pending;
}

/* Until all have an answer. SPOOL_OK also when some failed. */
static int await(struct kafka *s, size_t n)
{
    struct kafka_trouble trouble;
    size_t pending, before = n + 1; /* as many as there were when the deadline was set */
    s->deadline_ns = deadline_in_ms(s->settings.ack_ms);
    if (kafka_producer_is_mine(s->producer, &s->user)) /* else the others' messages keep the brokers busy meanwhile */
        rd_kafka_flush(s->producer->handle, FLUSH_MS); /* the last message sets need not linger. No more than that */
    while ((pending = count_pending(s, n, &trouble)) > 0) {
        before = before > n ? pending : before;
        if (trouble.code)
            return spool_sink_error(trouble.code, "Kafka: %s", *trouble.text ? trouble.text : "all brokers are down");
        enum cancel_wait how = wait_for_word(s);
        if (how == WAIT_CANCELLED)
            return failed("cancelled");
        if (how == WAIT_TIMEOUT && pending == before)
            return failed(*trouble.text ? trouble.text : "no acknowledgement within ack_timeout");
        if (how == WAIT_TIMEOUT) {
            before = pending;
            s->deadline_ns = deadline_in_ms(s->settings.ack_ms);
        }
    }
    return SPOOL_OK;
}

/* ------------------------------------------------------------------------------------------------------------ sending
 */

static rd_kafka_resp_err_t produce(struct kafka *s, const struct spool_delivery *delivery, struct flight *flight)
{
    const struct spool_event *event = delivery->event;
    char id[SPOOL_ID_TEXT_SIZE];
    const char *agent = event->agent && *event->agent ? event->agent : NULL;
    const char *trace = event->traceparent && *event->traceparent ? event->traceparent : NULL;
    rd_kafka_headers_t *headers = rd_kafka_headers_new(3);
    rd_kafka_header_add(headers, "id", 2, spool_id_format(&delivery->id, id), SPOOL_ID_TEXT_SIZE - 1);
    rd_kafka_header_add(headers, "type", 4, event->type, -1);
    if (trace)
        rd_kafka_header_add(headers, "traceparent", 11, trace, -1);
    rd_kafka_resp_err_t error =
        rd_kafka_producev(s->producer->handle, RD_KAFKA_V_RKT(s->producer->topic),
                          RD_KAFKA_V_KEY((void *)agent, agent ? strlen(agent) : 0),
                          RD_KAFKA_V_VALUE(s->json.data, s->json.size), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                          RD_KAFKA_V_TIMESTAMP((int64_t)(spool_id_time_ns(&delivery->id) / NS_PER_MS)),
                          RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_OPAQUE(flight), RD_KAFKA_V_END);
    if (error)
        rd_kafka_headers_destroy(headers); /* else they are the message's */
    return error;
}

/* Hands a message over; waits while librdkafka has too many. *ret_message stays NULL when the message is refused. */
static int hand_over(struct kafka *s, struct spool_delivery *delivery, struct flight *flight,
                     struct flight **ret_message)
{
    rd_kafka_resp_err_t error;
    flight->id = delivery->id;
    flight->state = FLIGHT_PENDING;
    while ((error = produce(s, delivery, flight)) == RD_KAFKA_RESP_ERR__QUEUE_FULL) {
        int code = wait_for_room(s);
        if (code != SPOOL_OK) {
            flight->state = FLIGHT_NONE;
            return code;
        }
    }
    if (!error) {
        *ret_message = flight;
        return SPOOL_OK;
    }
    flight->state = FLIGHT_NONE;
    if (error == RD_KAFKA_RESP_ERR__STATE && s->producer->transactional_id)
        return kafka_transaction_failed(s->producer);
    if (!kafka_error_is_refused(error))
        return failed_by(error);
    spool_delivery_fail(delivery, SPOOL_REJECTED, "Kafka: %s", rd_kafka_err2str(error));
    return SPOOL_OK;
}

/* Its message of an earlier delivery, if it is under way or has arrived. */
static struct flight *known(struct kafka *s, const struct spool_id *id)
{
    pthread_mutex_lock(&s->producer->lock);
    struct flight *flight = flight_find(&s->producer->flights, id);
    if (flight && flight->state == FLIGHT_FAILED) {
        flight_remove(&s->producer->flights, flight);
        flight = NULL;
    }
    if (flight)
        flight->is_asked_for = true;
    pthread_mutex_unlock(&s->producer->lock);
    return flight;
}

static int send_event(struct kafka *s, struct spool_delivery *delivery, size_t i, bool look)
{
    s->sent[i] = look ? known(s, &delivery->id) : NULL;
    if (s->sent[i])
        return SPOOL_OK;
    s->json.size = 0;
    int code = json_put_event(&s->json, delivery->event, &delivery->id);
    if (code == ENOMEM)
        return failed("out of memory");
    if (code != SPOOL_OK) {
        spool_delivery_fail(delivery, SPOOL_REJECTED, "cannot be written as JSON: %s", err_last());
        return SPOOL_OK;
    }
    return hand_over(s, delivery, &s->user.load->flights[i], &s->sent[i]);
}

/* All of the batch that can be, if `code` is SPOOL_OK; what is not, is not awaited. */
static int send_all(struct kafka *s, struct spool_delivery *batch, size_t n, int code)
{
    size_t own = 0;
    s->deadline_ns = deadline_in_ms(s->settings.ack_ms);
    pthread_mutex_lock(&s->producer->lock);
    bool look = s->producer->flights.count > 0;
    pthread_mutex_unlock(&s->producer->lock);
    for (size_t i = 0; i < n; i++) {
        s->sent[i] = NULL;
        if (i % HEAR_EACH == HEAR_EACH - 1)
            kafka_producer_hear(s->producer);
        if (code == SPOOL_OK)
            code = send_event(s, SPOOL_DELIVERY_AT(batch, i), i, look);
        own += s->sent[i] == &s->user.load->flights[i];
    }
    pthread_mutex_lock(&s->producer->lock);
    s->user.load->pending -= n - own;
    pthread_mutex_unlock(&s->producer->lock);
    return code;
}

/* --------------------------------------------------------------------------------------------------------- delivering
 */

/* The outcome of one event; what is still under way is kept. With the lock. */
static int answer(struct kafka *s, struct spool_delivery *delivery, struct flight *flight, int code)
{
    if (!flight)
        return code;
    flight->is_asked_for = false;
    if (flight->state == FLIGHT_PENDING)
        return code;
    rd_kafka_resp_err_t error = flight->state == FLIGHT_FAILED ? flight->error : RD_KAFKA_RESP_ERR_NO_ERROR;
    if (flight->load != s->user.load)
        flight_remove(&s->producer->flights, flight);
    if (!error)
        delivery->outcome = SPOOL_DELIVERED;
    else if (code == SPOOL_OK)
        code = failed_by(error);
    return code;
}

/* True when the producer is of no use any more; another one begins with what is mended. */
static bool answer_all(struct kafka *s, struct spool_delivery *batch, size_t n, int *code)
{
    pthread_mutex_lock(&s->producer->lock);
    for (size_t i = 0; i < n; i++)
        *code = answer(s, SPOOL_DELIVERY_AT(batch, i), s->sent[i], *code);
    bool spoilt = s->user.trouble.code == SPOOL_ECONFIG || s->producer->is_broken;
    pthread_mutex_unlock(&s->producer->lock);
    return spoilt || rd_kafka_fatal_error(s->producer->handle, NULL, 0);
}

static int make_room(struct kafka *s, size_t n)
{
    if (n <= s->sent_cap)
        return SPOOL_OK;
    free(s->sent);
    s->sent = calloc(n, sizeof *s->sent);
    s->sent_cap = s->sent ? n : 0;
    return s->sent ? SPOOL_OK : failed("out of memory");
}

static int send_and_await(struct kafka *s, struct spool_delivery *batch, size_t n, int code)
{
    code = send_all(s, batch, n, code);
    return code == SPOOL_OK ? await(s, n) : code;
}

/* By the first message that failed, if one did. Those that were thrown away with their transaction are no reason: its commit
 * tells it. */
static int look_for_failure(struct kafka *s, size_t n)
{
    rd_kafka_resp_err_t error = RD_KAFKA_RESP_ERR_NO_ERROR;
    pthread_mutex_lock(&s->producer->lock);
    for (size_t i = 0; i < n && !error; i++)
        if (s->sent[i] && s->sent[i]->state == FLIGHT_FAILED && !kafka_error_is_purge(s->sent[i]->error))
            error = s->sent[i]->error;
    pthread_mutex_unlock(&s->producer->lock);
    return error ? failed_by(error) : SPOOL_OK;
}

static int deliver_transaction(struct kafka *s, struct spool_delivery *batch, size_t n)
{
    int code = kafka_transaction_begin(s->producer, &s->user, &s->cancel, s->settings.ack_ms);
    bool begun = code == SPOOL_OK;
    code = send_and_await(s, batch, n, code);
    if (code == SPOOL_OK)
        code = look_for_failure(s, n);
    bool gap = code == SPOOL_EREJECTED;
    if (begun)
        code = kafka_transaction_end(s->producer, &s->user, n, &s->cancel, s->settings.ack_ms, code);
    s->producer->is_broken |= gap; /* librdkafka counts on behind what was refused, and no broker takes that */
    return code;
}

static int deliver_joined(struct kafka *s, struct spool_delivery *batch, size_t n)
{
    int code = s->settings.transactional_id ? deliver_transaction(s, batch, n) : send_and_await(s, batch, n, SPOOL_OK);
    bool spoilt = answer_all(s, batch, n, &code);
    kafka_producer_leave(s->producer, &s->user, n);
    if (spoilt) {
        kafka_producer_put(s->producer, true);
        s->producer = NULL;
    }
    return code;
}

static int kafka_deliver(void *state, struct spool_delivery *batch, size_t n)
{
    struct kafka *s = state;
    int code = make_room(s, n);
    if (code == SPOOL_OK && !s->producer)
        code = kafka_producer_get(s->config, &s->settings, &s->producer);
    if (code == SPOOL_OK)
        code = kafka_producer_join(s->producer, &s->user, n);
    if (code == SPOOL_OK)
        code = deliver_joined(s, batch, n);
    if (s->json.cap > KEEP_BYTES_MAX)
        buffer_free(&s->json);
    cancel_done(&s->cancel);
    return code;
}

static void kafka_cancel(void *state)
{
    struct kafka *s = state;
    cancel_set(&s->cancel);
}

/* ------------------------------------------------------------------------------------------------------ open and close
 */

static void kafka_close(void *state)
{
    struct kafka *s = state;
    if (!s)
        return;
    kafka_producer_put(s->producer, false);
    free(s->user.load);
    free(s->sent);
    buffer_free(&s->json);
    kafka_settings_free(&s->settings);
    if (s->user.ears >= 0)
        close(s->user.ears);
    if (s->user.wake >= 0)
        close(s->user.wake);
    cancel_free(&s->cancel);
    free(s);
}

/* errno. */
static int make_ears(struct kafka_user *user)
{
    struct epoll_event event = {.events = EPOLLIN};
    user->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    user->ears = epoll_create1(EPOLL_CLOEXEC);
    bool made = user->wake >= 0 && user->ears >= 0 && epoll_ctl(user->ears, EPOLL_CTL_ADD, user->wake, &event) == 0;
    return made ? 0 : errno;
}

static int kafka_open(void **ret_state, void *user, const char *json_config, const void *checkpoint,
                      size_t checkpoint_size)
{
    (void)user, (void)checkpoint, (void)checkpoint_size;
    struct kafka *s = calloc(1, sizeof *s);
    if (!s)
        return spool_sink_error(ENOMEM, "out of memory");
    s->config = json_config;
    int err = cancel_init(&s->cancel);
    int ears_err = make_ears(&s->user);
    err = err ? err : ears_err;
    int code = err ? spool_sink_error(err, "%s", spool_strerror(err)) : kafka_settings_read(&s->settings, json_config);
    if (code == SPOOL_OK)
        *ret_state = s;
    else
        kafka_close(s);
    return code;
}

static int kafka_check(const char *json_config)
{
    struct kafka_settings settings = {0};
    int code = kafka_settings_read(&settings, json_config);
    kafka_settings_free(&settings);
    return code;
}

static const struct spool_sink kafka_sink = {
    .abi = SPOOL_SINK_ABI,
    .size = sizeof(struct spool_sink),
    .kind = "kafka",
    .open = kafka_open,
    .deliver = kafka_deliver,
    .cancel = kafka_cancel,
    .close = kafka_close,
};

SPOOL_SINK_PLUGIN(.sink = &kafka_sink, .check = kafka_check, .settings = kafka_setting_list,
                  .summary = "messages of a Kafka topic, by an idempotent producer")
