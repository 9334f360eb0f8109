/* nats_wire.c - see nats_wire.h.
 *
 * One lock guards all wires of the process, and a list knows those that live: libnats calls back with a wire's number,
 * since nothing says when its last call has been made. A wire that is not in the list any more is not called. */
#include "nats_wire.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "nats_options.h"

enum state { WIRE_CONNECTING, WIRE_READY, WIRE_BROKEN, WIRE_ENDED };

/* All below is guarded by `lock`, but what is noted otherwise. */
struct wire {
    struct wire *next;
    uintptr_t number;
    struct wire_settings *settings; /* never changes */
    int holders;                    /* the sink and the thread */
    bool let_go;
    enum state state;
    int code; /* of WIRE_BROKEN, with the message */
    char message[256];
    int changed; /* an eventfd: readable after every change that whoever delivers waits for. Never changes */
    pthread_cond_t work;
    /* The batch: an array of the wire's own, in which the thread finds what to publish, and answers are written down.
     */
    struct wire_message *batch;
    natsMsg **sent; /* the same messages as libnats will name them; NULL once answered */
    size_t count, next_sent, answered, guess;
    natsConnection *connection; /* the thread's alone, as is: */
    jsCtx *js;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct wire *wires;
static uintptr_t numbers;

/* With the lock held. */
static void signal_change(const struct wire *wire)
{
    uint64_t one = 1;
    ssize_t n = write(wire->changed, &one, sizeof one);
    (void)n; /* fails only when it is readable anyway */
}

static struct wire *find(uintptr_t number)
{
    struct wire *wire = wires;
    while (wire && wire->number != number)
        wire = wire->next;
    return wire;
}

static void set_broken(struct wire *wire, int code, const char *what, const char *detail)
{
    if (wire->state == WIRE_BROKEN || wire->state == WIRE_ENDED)
        return;
    wire->state = WIRE_BROKEN;
    wire->code = code;
    snprintf(wire->message, sizeof wire->message, "NATS: %s%s%s", what, *detail ? ": " : "", detail);
    signal_change(wire);
    pthread_cond_signal(&wire->work);
}

static void unlink_wire(const struct wire *wire)
{
    struct wire **at = &wires;
    while (*at && *at != wire)
        at = &(*at)->next;
    if (*at)
        *at = wire->next;
}

static void free_batch(struct wire *wire)
{
    for (size_t i = 0; i < wire->count; i++)
        natsMsg_Destroy(wire->batch[i].message); /* those that were not handed over */
    free(wire->batch);
    free(wire->sent);
    wire->batch = NULL;
    wire->sent = NULL;
    wire->count = wire->next_sent = wire->answered = wire->guess = 0;
}

/* With the lock held; it is released. */
static void put_and_unlock(struct wire *wire)
{
    bool last = --wire->holders == 0;
    if (last)
        unlink_wire(wire);
    pthread_mutex_unlock(&lock);
    if (!last)
        return;
    free_batch(wire);
    wire_settings_drop(wire->settings);
    close(wire->changed);
    pthread_cond_destroy(&wire->work);
    free(wire);
}

/* ----------------------------------------------------------------------------------------------------------- answers
 */

/* What no repetition mends for this message alone. */
static bool refuses(const jsPubAckErr *error)
{
    return error->ErrCode == JSStreamMessageExceedsMaximumErr;
}

/* Answers come about in the order in which they were asked for. */
static size_t index_of(struct wire *wire, const natsMsg *message)
{
    for (size_t i = 0; i < wire->count; i++) {
        size_t at = (wire->guess + i) % wire->count;
        if (wire->sent[at] == message) {
            wire->guess = at + 1;
            return at;
        }
    }
    return SIZE_MAX;
}

static void take_answer(struct wire *wire, size_t at, const jsPubAckErr *error)
{
    struct wire_message *message = &wire->batch[at];
    wire->sent[at] = NULL;
    if (!error)
        message->answer = ANSWER_STORED;
    else if (refuses(error)) {
        message->answer = ANSWER_REFUSED;
        snprintf(message->reason, sizeof message->reason, "NATS: %s", error->ErrText ? error->ErrText : "refused");
    } else if (error->ErrCode == JSStreamNotMatchErr) {
        set_broken(wire, SPOOL_ECONFIG, "another stream takes the subject", wire->settings->stream);
    } else {
        const char *text = error->ErrText ? error->ErrText : natsStatus_GetText(error->Err);
        set_broken(wire, SPOOL_EUNAVAILABLE,
                   error->Err == NATS_NO_RESPONDERS ? "the stream has no leader, or is gone" : "not stored", text);
    }
    if (++wire->answered == wire->count)
        signal_change(wire);
}

static void on_answer(jsCtx *js, natsMsg *message, jsPubAck *ack, jsPubAckErr *error, void *closure)
{
    (void)js, (void)ack;
    pthread_mutex_lock(&lock);
    struct wire *wire = find((uintptr_t)closure);
    size_t at = wire ? index_of(wire, message) : SIZE_MAX;
    if (at != SIZE_MAX)
        take_answer(wire, at, error);
    pthread_mutex_unlock(&lock);
    natsMsg_Destroy(message);
}

static void on_closed(natsConnection *connection, void *closure)
{
    const char *text = NULL;
    natsConnection_GetLastError(connection, &text);
    pthread_mutex_lock(&lock);
    struct wire *wire = find((uintptr_t)closure);
    if (wire)
        set_broken(wire, SPOOL_EUNAVAILABLE, "the connection is lost", text ? text : "");
    pthread_mutex_unlock(&lock);
}

/* libnats prints errors that nobody handles. */
static void on_error(natsConnection *connection, natsSubscription *subscription, natsStatus status, void *closure)
{
    (void)connection, (void)subscription, (void)status, (void)closure;
}

/* ------------------------------------------------------------------------------------------ the thread: connecting */

/* What went wrong, for the operator: secrets are in none of libnats' messages. */
static int not_connected(struct wire *wire, natsStatus status)
{
    const char *text = nats_GetLastError(NULL);
    bool wrong = status == NATS_CONNECTION_AUTH_FAILED || status == NATS_NOT_PERMITTED;
    pthread_mutex_lock(&lock);
    set_broken(wire, wrong ? SPOOL_ECONFIG : SPOOL_EUNAVAILABLE, natsStatus_GetText(status), text ? text : "");
    pthread_mutex_unlock(&lock);
    return SPOOL_EUNAVAILABLE;
}

static int connect_server(struct wire *wire, const char *password, const char *token)
{
    natsOptions *options = NULL;
    void *closure = (void *)wire->number;
    natsStatus status = options_make(wire->settings, password, token, &options);
    status = status ? status : natsOptions_SetClosedCB(options, on_closed, closure);
    status = status ? status : natsOptions_SetErrorHandler(options, on_error, NULL);
    status = status ? status : natsConnection_Connect(&wire->connection, options);
    natsOptions_Destroy(options);
    return status == NATS_OK ? SPOOL_OK : not_connected(wire, status);
}

/* The secrets are read at each connection, so that a new one is taken up. */
static int log_in(struct wire *wire)
{
    char *password = NULL, *token = NULL;
    int code = secret_read(&wire->settings->password, "password", &password);
    if (code == SPOOL_OK)
        code = secret_read(&wire->settings->token, "token", &token);
    if (code == SPOOL_OK)
        code = connect_server(wire, password, token);
    else {
        pthread_mutex_lock(&lock);
        set_broken(wire, SPOOL_ECONFIG, "a secret cannot be read", "look at the variable or file it is in");
        pthread_mutex_unlock(&lock);
    }
    secret_wipe(password);
    secret_wipe(token);
    return code;
}

static int no_stream(struct wire *wire, natsStatus status, jsErrCode error)
{
    const char *text = nats_GetLastError(NULL);
    bool missing = error == JSStreamNotFoundErr,
         refused = error == JSNotEnabledErr || error == JSNotEnabledForAccountErr;
    char what[160];
    snprintf(what, sizeof what, missing ? "there is no stream %s: make it, or set \"create\" to true" : "stream %s",
             wire->settings->stream);
    pthread_mutex_lock(&lock);
    set_broken(wire, missing || refused ? SPOOL_ECONFIG : SPOOL_EUNAVAILABLE, what,
               missing ? ""
               : text  ? text
                       : natsStatus_GetText(status));
    pthread_mutex_unlock(&lock);
    return SPOOL_EUNAVAILABLE;
}

/* The stream is there, or made. */
static int ensure_stream(struct wire *wire)
{
    jsOptions options;
    jsStreamInfo *info = NULL;
    jsErrCode error = 0;
    jsOptions_Init(&options);
    options.PublishAsync.MaxPending = 1 << 20; /* batches are smaller: publishing never waits for answers */
    options.PublishAsync.AckHandler = on_answer;
    options.PublishAsync.AckHandlerClosure = (void *)wire->number;
    natsStatus status = natsConnection_JetStream(&wire->js, wire->connection, &options);
    status = status ? status : js_GetStreamInfo(&info, wire->js, wire->settings->stream, NULL, &error);
    jsStreamInfo_Destroy(info);
    if (status == NATS_NOT_FOUND && error == 0)
        error = JSStreamNotFoundErr;
    if (error == JSStreamNotFoundErr && wire->settings->create) {
        error = 0;
        status = stream_make(wire->js, wire->settings, &error);
    }
    return status == NATS_OK ? SPOOL_OK : no_stream(wire, status, error);
}

/* ------------------------------------------------------------------------------------------ the thread: publishing */

/* Publishes one message; the lock is held before and after, and not meanwhile. */
static void publish_next(struct wire *wire, jsPubOptions *options)
{
    size_t at = wire->next_sent++;
    natsMsg *message = wire->batch[at].message;
    wire->batch[at].message = NULL;
    wire->sent[at] = message;
    pthread_mutex_unlock(&lock);
    natsStatus status = js_PublishMsgAsync(wire->js, &message, options);
    pthread_mutex_lock(&lock);
    if (status != NATS_OK) {
        jsPubAckErr error = {.Err = status, .ErrText = natsStatus_GetText(status)};
        if (status == NATS_MAX_PAYLOAD)
            error.ErrCode = JSStreamMessageExceedsMaximumErr;
        if (wire->sent[at])
            take_answer(wire, at, &error);
        natsMsg_Destroy(message);
    }
}

static void work(struct wire *wire)
{
    jsPubOptions options;
    jsPubOptions_Init(&options);
    options.MaxWait = (int64_t)wire->settings->ack_ms;
    options.ExpectStream = wire->settings->stream;
    pthread_mutex_lock(&lock);
    if (wire->state == WIRE_CONNECTING)
        wire->state = WIRE_READY;
    signal_change(wire);
    while (!wire->let_go && wire->state == WIRE_READY) {
        if (wire->next_sent < wire->count)
            publish_next(wire, &options);
        else
            cond_wait_until(&wire->work, &lock, DEADLINE_NEVER);
    }
    pthread_mutex_unlock(&lock);
}

static void *run(void *argument)
{
    struct wire *wire = argument;
    if (log_in(wire) == SPOOL_OK && ensure_stream(wire) == SPOOL_OK)
        work(wire);
    jsCtx_Destroy(wire->js);
    natsConnection_Destroy(wire->connection);
    nats_ReleaseThreadMemory();
    pthread_mutex_lock(&lock);
    wire->state = WIRE_ENDED;
    signal_change(wire);
    put_and_unlock(wire);
    return NULL;
}

/* ----------------------------------------------------------------------------------------------- whoever delivers */

static struct wire *make(struct wire_settings *settings)
{
    struct wire *wire = calloc(1, sizeof *wire);
    if (!wire)
        return NULL;
    wire->changed = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wire->changed < 0 || cond_init(&wire->work) != 0) {
        if (wire->changed >= 0)
            close(wire->changed);
        free(wire);
        return NULL;
    }
    wire->settings = settings;
    atomic_fetch_add(&settings->holders, 1);
    wire->holders = 2;
    pthread_mutex_lock(&lock);
    wire->number = ++numbers;
    wire->next = wires;
    wires = wire;
    pthread_mutex_unlock(&lock);
    return wire;
}

int wire_new(struct wire_settings *settings, struct wire **ret)
{
    pthread_t thread;
    struct wire *wire = make(settings);
    if (!wire)
        return spool_sink_error(ENOMEM, "out of memory");
    int err = thread_start(&thread, "spool-nats", run, wire);
    if (err) {
        pthread_mutex_lock(&lock);
        wire->holders = 1;
        put_and_unlock(wire);
        return spool_sink_error(err, "no thread for NATS: %s", spool_strerror(err));
    }
    pthread_detach(thread);
    *ret = wire;
    return SPOOL_OK;
}

/* Waits for a change; the lock is held before and after. */
static enum cancel_wait await(struct wire *wire, const struct cancel *cancel, uint64_t deadline_ns)
{
    uint64_t count;
    pthread_mutex_unlock(&lock);
    enum cancel_wait how = cancel_wait(cancel, wire->changed, POLLIN, deadline_ns);
    ssize_t n = read(wire->changed, &count, sizeof count);
    (void)n; /* EAGAIN: nothing has changed */
    pthread_mutex_lock(&lock);
    return how;
}

static int broken(const struct wire *wire)
{
    return spool_sink_error(wire->code ? wire->code : SPOOL_EUNAVAILABLE, "%s",
                            *wire->message ? wire->message : "NATS: the connection is lost");
}

int wire_ready(struct wire *wire, const struct cancel *cancel)
{
    int code = SPOOL_OK;
    pthread_mutex_lock(&lock);
    while (wire->state == WIRE_CONNECTING && code == SPOOL_OK)
        if (await(wire, cancel, DEADLINE_NEVER) == WAIT_CANCELLED)
            code = spool_sink_error(SPOOL_EUNAVAILABLE, "NATS: cancelled while connecting");
    if (code == SPOOL_OK && wire->state != WIRE_READY)
        code = broken(wire);
    pthread_mutex_unlock(&lock);
    return code;
}

/* With the lock held. */
static int await_answers(struct wire *wire, const struct cancel *cancel)
{
    uint64_t deadline_ns = deadline_in_ms(wire->settings->ack_ms + 1000);
    while (wire->answered < wire->count) {
        size_t before = wire->answered;
        if (wire->state != WIRE_READY)
            return broken(wire);
        enum cancel_wait how = await(wire, cancel, deadline_ns);
        if (how == WAIT_CANCELLED)
            return spool_sink_error(SPOOL_EUNAVAILABLE, "NATS: cancelled");
        if (how == WAIT_TIMEOUT && wire->answered == before)
            return spool_sink_error(SPOOL_EUNAVAILABLE, "NATS: no answers within ack_timeout");
        if (how == WAIT_TIMEOUT)
            deadline_ns = deadline_in_ms(wire->settings->ack_ms + 1000);
    }
    return wire->state == WIRE_READY ? SPOOL_OK : broken(wire);
}

int wire_publish(struct wire *wire, const struct cancel *cancel, struct wire_message *messages, size_t count)
{
    struct wire_message *batch = calloc(count, sizeof *batch);
    natsMsg **sent = calloc(count, sizeof *sent);
    if (!batch || !sent) {
        free(batch);
        free(sent);
        return spool_sink_error(SPOOL_EUNAVAILABLE, "out of memory");
    }
    for (size_t i = 0; i < count; i++) {
        batch[i].message = messages[i].message;
        messages[i].message = NULL;
    }
    pthread_mutex_lock(&lock);
    wire->batch = batch;
    wire->sent = sent;
    wire->count = count;
    pthread_cond_signal(&wire->work);
    int code = await_answers(wire, cancel);
    for (size_t i = 0; i < count; i++) {
        messages[i].answer = batch[i].answer;
        memcpy(messages[i].reason, batch[i].reason, sizeof messages[i].reason);
    }
    if (code == SPOOL_OK)
        free_batch(wire); /* else it is still at work on it, and is to be let go */
    pthread_mutex_unlock(&lock);
    return code;
}

void wire_drop(struct wire *wire, uint64_t wait_ms)
{
    struct cancel never = {.fd = -1};
    if (!wire)
        return;
    uint64_t deadline_ns = deadline_in_ms(wait_ms);
    pthread_mutex_lock(&lock);
    wire->let_go = true;
    pthread_cond_signal(&wire->work);
    while (wire->state != WIRE_ENDED && await(wire, &never, deadline_ns) == WAIT_READY) {
    }
    put_and_unlock(wire);
}
