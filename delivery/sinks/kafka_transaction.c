/* kafka_transaction.c - see kafka_transaction.h. librdkafka's calls wait for the coordinator, and cannot be interrupted;
 * but they go on where they were when they are called again, so each is called for short spans until it is done. */
#include "kafka_transaction.h"

#include <stdio.h>

#include "kafka_error.h"

enum { SPAN_MS = 50, PAUSE_MS = 20, LEAVE_MS = 100 };

typedef rd_kafka_error_t *(*step)(rd_kafka_t *handle, int timeout_ms);

/* How a step ended. LATER: it is to be gone on with; ABORT: the transaction can only be aborted; BROKEN: the producer is
 * of no use any more. */
enum ending { DONE = 0, LATER, ABORT, BROKEN };

struct wait {
    struct kafka_producer *producer;
    const struct kafka_user *user;
    const struct cancel *cancel;
    uint64_t ack_ms;
};

/* ------------------------------------------------------------------------------------------------------------- a step */

static void say(struct kafka_trouble *said, int code, const char *text)
{
    said->code = code;
    snprintf(said->text, sizeof said->text, "%s", text);
}

/* Why it is not worth to go on now, if it is not. */
static bool gives_up(const struct wait *wait, uint64_t deadline_ns, const char *text, struct kafka_trouble *said)
{
    kafka_producer_hear(wait->producer);
    pthread_mutex_lock(&wait->producer->lock);
    struct kafka_trouble trouble = wait->user->trouble;
    pthread_mutex_unlock(&wait->producer->lock);
    if (cancel_is_set(wait->cancel))
        say(said, SPOOL_EUNAVAILABLE, "cancelled");
    else if (trouble.code)
        say(said, trouble.code, *trouble.text ? trouble.text : "all brokers are down");
    else if (mono_ns() > deadline_ns)
        say(said, SPOOL_EUNAVAILABLE, text);
    else
        return false;
    return true;
}

/* What no repetition of this call mends. */
static enum ending judge(struct kafka_producer *p, const rd_kafka_error_t *error, struct kafka_trouble *said)
{
    char text[KAFKA_MESSAGE_SIZE];
    rd_kafka_resp_err_t reason = rd_kafka_fatal_error(p->handle, text, sizeof text);
    bool fatal = reason != RD_KAFKA_RESP_ERR_NO_ERROR;
    say(said, kafka_error_is_wrong(fatal ? reason : rd_kafka_error_code(error)) ? SPOOL_ECONFIG : SPOOL_EUNAVAILABLE,
        fatal ? text : rd_kafka_error_string(error));
    return !fatal && rd_kafka_error_txn_requires_abort(error) ? ABORT : BROKEN;
}

static enum ending take(const struct wait *wait, step call, struct kafka_trouble *said)
{
    rd_kafka_error_t *error;
    enum ending ending = DONE;
    uint64_t deadline_ns = deadline_in_ms(wait->ack_ms);
    while (ending == DONE && (error = call(wait->producer->handle, SPAN_MS))) {
        if (!rd_kafka_error_is_retriable(error))
            ending = judge(wait->producer, error, said);
        else if (gives_up(wait, deadline_ns, rd_kafka_error_string(error), said))
            ending = LATER;
        else if (rd_kafka_error_code(error) != RD_KAFKA_RESP_ERR__TIMED_OUT) /* it was not waited for */
            cancel_wait(wait->cancel, -1, 0, deadline_in_ms(PAUSE_MS));
        rd_kafka_error_destroy(error);
    }
    wait->producer->is_broken |= ending == BROKEN;
    return ending;
}

/* That it was fenced says more than any other failure, which came of it. */
static int tell(struct kafka_producer *p, int code, const char *text)
{
    if (kafka_error_is_fenced(rd_kafka_fatal_error(p->handle, NULL, 0)))
        return spool_sink_error(
            SPOOL_EUNAVAILABLE,
            "Kafka: another producer has taken the transactional id \"%s\", or a transaction took too"
            " long: give the sink of each spool an id of its own",
            p->transactional_id);
    return text ? spool_sink_error(code, "Kafka: %s", text) : code;
}

/* ------------------------------------------------------------------------------------------------------ the three steps
 */

static enum ending commit(const struct wait *wait, struct kafka_trouble *said)
{
    struct kafka_producer *p = wait->producer;
    p->phase = KAFKA_COMMITTING;
    enum ending ending = take(wait, rd_kafka_commit_transaction, said);
    if (ending != LATER)
        p->phase = ending == DONE ? KAFKA_READY : KAFKA_OPEN;
    return ending;
}

static enum ending abort_it(const struct wait *wait, struct kafka_trouble *said)
{
    struct kafka_producer *p = wait->producer;
    enum ending ending = take(wait, rd_kafka_abort_transaction, said);
    p->is_broken |= ending == ABORT; /* the next producer's first step aborts it, too */
    if (ending == DONE)
        p->phase = KAFKA_READY;
    return ending;
}

static enum ending begin(const struct wait *wait, struct kafka_trouble *said)
{
    struct kafka_producer *p = wait->producer;
    rd_kafka_error_t *error = rd_kafka_begin_transaction(p->handle);
    enum ending ending = error ? judge(p, error, said) : DONE;
    rd_kafka_error_destroy(error); /* NULL is fine */
    p->is_broken |= ending != DONE;
    if (ending == DONE)
        p->phase = KAFKA_OPEN;
    return ending;
}

/* ---------------------------------------------------------------------------------------------------- one after another
 */

static void settle(struct kafka_producer *p, bool arrived)
{
    pthread_mutex_lock(&p->lock);
    flights_settle(&p->flights, p->transaction, arrived);
    pthread_mutex_unlock(&p->lock);
}

/* Until the producer is ready for a transaction. */
static enum ending end_the_last(const struct wait *wait, struct kafka_trouble *said)
{
    struct kafka_producer *p = wait->producer;
    enum ending ending = DONE;
    if (p->phase == KAFKA_FRESH) {
        ending = take(wait, rd_kafka_init_transactions, said);
        p->phase = ending == DONE ? KAFKA_READY : KAFKA_FRESH;
        p->is_broken |= ending == ABORT;
    } else if (p->phase == KAFKA_COMMITTING) {
        ending = commit(wait, said);
        if (ending == DONE)
            settle(p, true);
    }
    if (p->phase == KAFKA_OPEN && !p->is_broken) {
        ending = abort_it(wait, said);
        if (ending == DONE)
            settle(p, false);
    }
    return ending;
}

int kafka_transaction_begin(struct kafka_producer *p, struct kafka_user *user, const struct cancel *cancel,
                            uint64_t ack_ms)
{
    struct wait wait = {p, user, cancel, ack_ms};
    struct kafka_trouble said = {0};
    enum ending ending = end_the_last(&wait, &said);
    if (ending == DONE)
        ending = begin(&wait, &said);
    if (ending != DONE)
        return tell(p, said.code, said.text);
    user->load->transaction = ++p->transaction;
    return SPOOL_OK;
}

int kafka_transaction_end(struct kafka_producer *p, struct kafka_user *user, size_t n, const struct cancel *cancel,
                          uint64_t ack_ms, int code)
{
    struct wait wait = {p, user, cancel, ack_ms};
    struct kafka_trouble said, unsaid;
    if (code == SPOOL_OK) {
        if (commit(&wait, &said) == DONE)
            return SPOOL_OK;
        code = tell(p, said.code, said.text);
    }
    if (p->phase == KAFKA_OPEN && !p->is_broken && !cancel_is_set(cancel))
        abort_it(&wait, &unsaid); /* if it fails, the next one begins with it */
    pthread_mutex_lock(&p->lock);
    load_take_back(user->load, n, p->phase == KAFKA_COMMITTING);
    pthread_mutex_unlock(&p->lock);
    return tell(p, code, NULL); /* the message stands already, unless that was learned meanwhile */
}

int kafka_transaction_failed(struct kafka_producer *p)
{
    struct kafka_trouble said = {SPOOL_EUNAVAILABLE, "the transaction failed"};
    rd_kafka_error_t *error = rd_kafka_commit_transaction(p->handle, SPAN_MS);
    if (error)
        judge(p, error, &said);
    rd_kafka_error_destroy(error);
    return tell(p, said.code, said.text);
}

void kafka_transaction_leave(struct kafka_producer *p)
{
    rd_kafka_error_t *error = p->phase == KAFKA_OPEN ? rd_kafka_abort_transaction(p->handle, LEAVE_MS) : NULL;
    rd_kafka_error_destroy(error); /* NULL is fine */
}
