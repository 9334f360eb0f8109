/* kafka_producer.c - see kafka_producer.h. The end of a producer can take long, so it is its thread that ends it;
 * that is waited for, but not for more than a second. */
#include "kafka_producer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "kafka_error.h"

enum { CLOSE_WAIT_MS = 1000, LISTEN_MS = 60000 };

static void wake(const struct kafka_user *user)
{
    uint64_t one = 1;
    ssize_t n = write(user->wake, &one, sizeof one);
    (void)n; /* it fails only when the counter is full: then it is awake */
}

/* -------------------------------------------------------------------------------------------------- what is reported */

/* A delivery report event has the messages of one answer of a broker. */
static void hear_reports(struct kafka_producer *p, rd_kafka_event_t *event)
{
    const rd_kafka_message_t *report;
    bool of_others = false; /* of a load that was left: whoever waits for it is not known */
    pthread_mutex_lock(&p->lock);
    while ((report = rd_kafka_event_message_next(event))) {
        struct flight *flight = report->_private;
        flight->state = report->err ? FLIGHT_FAILED : FLIGHT_ARRIVED;
        flight->error = report->err;
        flight->load->pending--;
        of_others |= flight->load->left > 0;
    }
    for (struct kafka_user *user = p->users; user; user = user->next)
        if (of_others || user->wants_room || user->load->pending == 0)
            wake(user);
    pthread_mutex_unlock(&p->lock);
}

/* That all brokers are down says less than what came before it, and what comes behind says less than both. */
static bool is_worth_telling(const struct kafka_trouble *trouble, rd_kafka_resp_err_t error)
{
    if (error == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
        return !*trouble->text;
    return trouble->code == 0 || kafka_error_is_wrong(error) || error == RD_KAFKA_RESP_ERR__SSL ||
           error == RD_KAFKA_RESP_ERR__FATAL;
}

static void note_trouble(struct kafka_trouble *trouble, rd_kafka_resp_err_t error, const char *text)
{
    if (is_worth_telling(trouble, error))
        snprintf(trouble->text, sizeof trouble->text, "%s", text);
    if (kafka_error_is_wrong(error))
        trouble->code = SPOOL_ECONFIG;
    else if (trouble->code == 0 && (error == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN || error == RD_KAFKA_RESP_ERR__FATAL))
        trouble->code = SPOOL_EUNAVAILABLE;
}

static void hear_trouble(struct kafka_producer *p, rd_kafka_event_t *event)
{
    char fatal[KAFKA_MESSAGE_SIZE];
    rd_kafka_resp_err_t error = rd_kafka_event_error(event);
    const char *text = rd_kafka_event_error_string(event);
    if (error == RD_KAFKA_RESP_ERR__FATAL && rd_kafka_fatal_error(p->handle, fatal, sizeof fatal))
        text = fatal;
    pthread_mutex_lock(&p->lock);
    if (!p->users)
        note_trouble(&p->unheard, error, text);
    for (struct kafka_user *user = p->users; user; user = user->next) {
        note_trouble(&user->trouble, error, text);
        wake(user);
    }
    pthread_mutex_unlock(&p->lock);
}

static void hear(struct kafka_producer *p)
{
    rd_kafka_event_t *event = rd_kafka_queue_poll(p->queue, LISTEN_MS);
    if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR)
        hear_reports(p, event);
    else if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR)
        hear_trouble(p, event);
    rd_kafka_event_destroy(event); /* NULL is fine */
}

/* ----------------------------------------------------------------------------------------------------- begin and end */

static void free_producer(struct kafka_producer *p)
{
    if (p->queue)
        rd_kafka_queue_destroy(p->queue);
    if (p->topic)
        rd_kafka_topic_destroy(p->topic);
    if (p->handle)
        rd_kafka_destroy_flags(p->handle, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    flights_clear(&p->flights); /* no report comes any more */
    if (p->ended >= 0)
        close(p->ended);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

static bool is_ending(struct kafka_producer *p)
{
    pthread_mutex_lock(&p->lock);
    bool ending = p->ending;
    pthread_mutex_unlock(&p->lock);
    return ending;
}

static void *run(void *argument)
{
    struct kafka_producer *p = argument;
    uint64_t one = 1;
    while (!is_ending(p))
        hear(p);
    rd_kafka_purge(p->handle, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT | RD_KAFKA_PURGE_F_NON_BLOCKING);
    int ended = p->ended;
    p->ended = -1;
    free_producer(p);
    ssize_t n = write(ended, &one, sizeof one);
    (void)n; /* a fresh counter takes it */
    close(ended);
    return NULL;
}

/* Nobody has it any more; behind the lock it may be gone. */
static void end(struct kafka_producer *p)
{
    struct cancel never = {.fd = -1};
    int ended = fcntl(p->ended, F_DUPFD_CLOEXEC, 0); /* the thread closes its own */
    pthread_mutex_lock(&p->lock);
    p->ending = true;
    rd_kafka_queue_yield(p->queue);
    pthread_mutex_unlock(&p->lock);
    if (ended < 0)
        return;
    cancel_wait(&never, ended, POLLIN, deadline_in_ms(CLOSE_WAIT_MS));
    close(ended);
}

/* librdkafka would print it. */
static void on_log(const rd_kafka_t *handle, int level, const char *facility, const char *message)
{
    (void)handle, (void)level, (void)facility, (void)message;
}

static int make_handle(struct kafka_producer *p, const struct kafka_settings *settings)
{
    char error[KAFKA_MESSAGE_SIZE];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    int code = kafka_settings_apply(settings, conf);
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR);
    rd_kafka_conf_set_log_cb(conf, on_log);
    p->handle = code == SPOOL_OK ? rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error) : NULL;
    if (p->handle) /* which owns conf now */
        return SPOOL_OK;
    rd_kafka_conf_destroy(conf);
    return code == SPOOL_OK ? spool_sink_error(SPOOL_ECONFIG, "Kafka: %s", error) : code;
}

static int make(const struct kafka_settings *settings, struct kafka_producer **ret)
{
    pthread_t thread;
    struct kafka_producer *p = calloc(1, sizeof *p);
    if (!p || pthread_mutex_init(&p->lock, NULL) != 0) {
        free(p);
        return spool_sink_error(SPOOL_EUNAVAILABLE, "Kafka: out of memory");
    }
    p->ended = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int code = p->ended >= 0 ? make_handle(p, settings)
                             : spool_sink_error(SPOOL_EUNAVAILABLE, "Kafka: eventfd: %s", spool_strerror(errno));
    if (code == SPOOL_OK && !(p->topic = rd_kafka_topic_new(p->handle, settings->topic, NULL)))
        code = spool_sink_error(SPOOL_ECONFIG, "Kafka: topic: %s", rd_kafka_err2str(rd_kafka_last_error()));
    if (code == SPOOL_OK) {
        p->queue = rd_kafka_queue_get_main(p->handle);
        int err = thread_start(&thread, "spool-kafka", run, p);
        code = err ? spool_sink_error(SPOOL_EUNAVAILABLE, "Kafka: no thread: %s", spool_strerror(err)) : SPOOL_OK;
    }
    if (code != SPOOL_OK) {
        free_producer(p);
        return code;
    }
    pthread_detach(thread);
    *ret = p;
    return SPOOL_OK;
}

/* -------------------------------------------------------------------------------------------------------- who has it */

/* The producers in use. One that was spoilt has no configuration any more, so that nobody finds it. */
struct holding {
    struct holding *next;
    const char *config;
    struct kafka_producer *producer;
    size_t refs;
};
static pthread_mutex_t holdings_lock = PTHREAD_MUTEX_INITIALIZER;
static struct holding *holdings;

static int hold(const char *config, const struct kafka_settings *settings, struct holding **ret)
{
    struct holding *holding = calloc(1, sizeof *holding);
    int code =
        holding ? make(settings, &holding->producer) : spool_sink_error(SPOOL_EUNAVAILABLE, "Kafka: out of memory");
    if (code != SPOOL_OK) {
        free(holding);
        return code;
    }
    holding->config = config;
    holding->next = holdings;
    holdings = *ret = holding;
    return SPOOL_OK;
}

int kafka_producer_get(const char *config, const struct kafka_settings *settings, struct kafka_producer **ret)
{
    int code = SPOOL_OK;
    pthread_mutex_lock(&holdings_lock);
    struct holding *holding = holdings;
    while (holding && holding->config != config)
        holding = holding->next;
    if (!holding)
        code = hold(config, settings, &holding);
    if (code == SPOOL_OK) {
        holding->refs++;
        *ret = holding->producer;
    }
    pthread_mutex_unlock(&holdings_lock);
    return code;
}

void kafka_producer_put(struct kafka_producer *producer, bool spoilt)
{
    struct holding *holding = NULL;
    if (!producer)
        return;
    pthread_mutex_lock(&holdings_lock);
    struct holding **at = &holdings;
    while ((*at)->producer != producer) /* whoever has it keeps it here */
        at = &(*at)->next;
    if (spoilt)
        (*at)->config = NULL;
    if (--(*at)->refs == 0) {
        holding = *at;
        *at = holding->next;
    }
    pthread_mutex_unlock(&holdings_lock);
    if (holding)
        end(producer);
    free(holding);
}

/* --------------------------------------------------------------------------------------------------------- its users */

int kafka_producer_join(struct kafka_producer *p, struct kafka_user *user, size_t n)
{
    bool full = false;
    user->load = load_for(user->load, n);
    if (!user->load)
        return spool_sink_error(SPOOL_EUNAVAILABLE, "Kafka: out of memory");
    user->wants_room = false;
    pthread_mutex_lock(&p->lock);
    if (p->flights.count >= FLIGHTS_MAX) {
        flights_forget_over(&p->flights);
        full = p->flights.count >= FLIGHTS_MAX;
    }
    if (!full) {
        user->trouble = p->unheard;
        p->unheard = (struct kafka_trouble){0};
        user->next = p->users;
        p->users = user;
    }
    pthread_mutex_unlock(&p->lock);
    return full ? spool_sink_error(SPOOL_EUNAVAILABLE, "Kafka: too much is under way without an answer") : SPOOL_OK;
}

void kafka_producer_leave(struct kafka_producer *p, struct kafka_user *user, size_t n)
{
    pthread_mutex_lock(&p->lock);
    struct kafka_user **at = &p->users;
    while (*at && *at != user)
        at = &(*at)->next;
    if (*at)
        *at = user->next;
    if (user->load && user->load->pending > 0) {
        flights_leave(&p->flights, user->load, n);
        user->load = NULL;
    }
    pthread_mutex_unlock(&p->lock);
}

bool kafka_producer_is_mine(struct kafka_producer *p, const struct kafka_user *user)
{
    pthread_mutex_lock(&p->lock);
    bool mine = p->users == user && !user->next;
    pthread_mutex_unlock(&p->lock);
    return mine;
}
