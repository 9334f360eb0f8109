/* kafka_producer.c - see kafka_producer.h. The end of a producer can take long, so it is its thread that ends it;
 * that is waited for, but not for more than a second. */
#include "kafka_producer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "kafka_error.h"
#include "kafka_transaction.h"

enum { CLOSE_WAIT_MS = 1000, IDLE_MS = 5000 };

static void wake(const struct kafka_user *user)
{
    uint64_t one = 1;
    ssize_t n = write(user->wake, &one, sizeof one);
    (void)n; /* it fails only when the counter is full: then it is awake */
}

/* -------------------------------------------------------------------------------------------------- what is reported */

static void on_report(rd_kafka_t *handle, const rd_kafka_message_t *report, void *opaque)
{
    struct kafka_producer *p = opaque;
    struct flight *flight = report->_private;
    (void)handle;
    pthread_mutex_lock(&p->lock);
    flight->state = report->err ? FLIGHT_FAILED : FLIGHT_ARRIVED;
    flight->error = report->err;
    bool of_others = flight->load->left > 0; /* of a load that was left: whoever waits for it is not known */
    bool over = --flight->load->pending == 0 || of_others;
    for (struct kafka_user *user = p->users; user; user = user->next)
        if (user->wants_room || (over && (of_others || user->load->pending == 0))) {
            user->wants_room = false;
            wake(user);
        }
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

static void on_error(rd_kafka_t *handle, int err, const char *text, void *opaque)
{
    struct kafka_producer *p = opaque;
    char fatal[KAFKA_MESSAGE_SIZE];
    rd_kafka_resp_err_t error = (rd_kafka_resp_err_t)err;
    if (error == RD_KAFKA_RESP_ERR__FATAL && rd_kafka_fatal_error(handle, fatal, sizeof fatal))
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

void kafka_producer_hear(struct kafka_producer *p)
{
    uint64_t count;
    ssize_t n = read(p->heard, &count, sizeof count); /* before what it stands for, or one might be missed */
    (void)n;                                          /* EAGAIN: it was not set */
    while (rd_kafka_poll(p->handle, 0) > 0)
        ;
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
    if (p->heard >= 0)
        close(p->heard);
    if (p->ended >= 0)
        close(p->ended);
    pthread_cond_destroy(&p->bell);
    pthread_mutex_destroy(&p->lock);
    free(p->transactional_id);
    free(p);
}

/* Until it ends. */
static void hear_while_idle(struct kafka_producer *p)
{
    pthread_mutex_lock(&p->lock);
    while (!p->ending) {
        bool idle = !p->users;
        pthread_mutex_unlock(&p->lock);
        if (idle)
            kafka_producer_hear(p);
        pthread_mutex_lock(&p->lock);
        if (!p->ending)
            cond_wait_until(&p->bell, &p->lock, deadline_in_ms(IDLE_MS));
    }
    pthread_mutex_unlock(&p->lock);
}

static void *run(void *argument)
{
    struct kafka_producer *p = argument;
    uint64_t one = 1;
    hear_while_idle(p);
    kafka_transaction_leave(p);
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
    pthread_cond_signal(&p->bell);
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
    int code = kafka_settings_apply(settings, p->transactional_id, conf);
    rd_kafka_conf_set_opaque(conf, p);
    rd_kafka_conf_set_dr_msg_cb(conf, on_report);
    rd_kafka_conf_set_error_cb(conf, on_error);
    rd_kafka_conf_set_log_cb(conf, on_log);
    p->handle = code == SPOOL_OK ? rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error) : NULL;
    if (p->handle) /* which owns conf now */
        return SPOOL_OK;
    rd_kafka_conf_destroy(conf);
    return code == SPOOL_OK ? spool_sink_error(SPOOL_ECONFIG, "Kafka: %s", error) : code;
}

/* One without a handle. SPOOL_EUNAVAILABLE with a message. */
static int make_bare(const struct kafka_settings *settings, unsigned number, struct kafka_producer **ret)
{
    struct kafka_producer *p = calloc(1, sizeof *p);
    if (!p || cond_init(&p->bell) != 0) {
        free(p);
        return spool_sink_error(SPOOL_EUNAVAILABLE, "Kafka: out of memory");
    }
    pthread_mutex_init(&p->lock, NULL); /* of this kind it cannot fail */
    p->heard = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    p->ended = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int err = p->heard < 0 || p->ended < 0 ? errno : 0;
    if (!err && settings->transactional_id &&
        asprintf(&p->transactional_id, "%s-%u", settings->transactional_id, number) < 0) {
        p->transactional_id = NULL;
        err = ENOMEM;
    }
    if (!err) {
        *ret = p;
        return SPOOL_OK;
    }
    free_producer(p);
    return spool_sink_error(SPOOL_EUNAVAILABLE, "Kafka: %s", spool_strerror(err));
}

static int make(const struct kafka_settings *settings, unsigned number, struct kafka_producer **ret)
{
    static const uint64_t one = 1; /* librdkafka keeps no copy */
    pthread_t thread;
    struct kafka_producer *p = NULL;
    int code = make_bare(settings, number, &p);
    if (code != SPOOL_OK)
        return code;
    code = make_handle(p, settings);
    if (code == SPOOL_OK && !(p->topic = rd_kafka_topic_new(p->handle, settings->topic, NULL)))
        code = spool_sink_error(SPOOL_ECONFIG, "Kafka: topic: %s", rd_kafka_err2str(rd_kafka_last_error()));
    if (code == SPOOL_OK) {
        p->queue = rd_kafka_queue_get_main(p->handle);
        rd_kafka_queue_io_event_enable(p->queue, p->heard, &one, sizeof one);
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
    unsigned number; /* of the transactional ones with that configuration, from 1; 0: shared */
};
static pthread_mutex_t holdings_lock = PTHREAD_MUTEX_INITIALIZER;
static struct holding *holdings;

static struct holding *find(const char *config, unsigned number)
{
    struct holding *holding = holdings;
    while (holding && (holding->config != config || holding->number != number))
        holding = holding->next;
    return holding;
}

static int hold(const char *config, const struct kafka_settings *settings, unsigned number, struct holding **ret)
{
    struct holding *holding = calloc(1, sizeof *holding);
    int code = holding ? make(settings, number, &holding->producer)
                       : spool_sink_error(SPOOL_EUNAVAILABLE, "Kafka: out of memory");
    if (code != SPOOL_OK) {
        free(holding);
        return code;
    }
    holding->config = config;
    holding->number = number;
    holding->next = holdings;
    holdings = *ret = holding;
    return SPOOL_OK;
}

int kafka_producer_get(const char *config, const struct kafka_settings *settings, struct kafka_producer **ret)
{
    int code = SPOOL_OK;
    unsigned number = settings->transactional_id ? 1 : 0;
    pthread_mutex_lock(&holdings_lock);
    struct holding *holding = find(config, number);
    while (holding && number > 0) /* the least that nobody has */
        holding = find(config, ++number);
    if (!holding)
        code = hold(config, settings, number, &holding);
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
    struct epoll_event event = {.events = EPOLLIN};
    user->load = load_for(user->load, n);
    if (!user->load)
        return spool_sink_error(SPOOL_EUNAVAILABLE, "Kafka: out of memory");
    if (epoll_ctl(user->ears, EPOLL_CTL_ADD, p->heard, &event) != 0 && errno != EEXIST)
        return spool_sink_error(SPOOL_EUNAVAILABLE, "Kafka: epoll_ctl: %s", spool_strerror(errno));
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
    epoll_ctl(user->ears, EPOLL_CTL_DEL, p->heard, NULL);
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
