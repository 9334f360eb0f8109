/* custom_sink.c - a sink of one's own: delivers to a "far side" that is slow, has bad days, and refuses some events.
 *
 *     custom_sink [DIR]
 *
 * It shows what a sink has to do: answer per event (delivered, again later, never), say when the far side is down as a
 * whole, let itself be interrupted, and leave everything as it was when it closes. The program enqueues a few events,
 * delivers them and lists the dead letters. */
#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../lib/spool.h"

/* ------------------------------------------------------------------------------------------------------- the sink */

/* What stands for the service over there; it outlives every connection. One worker, so no lock. */
struct far_service {
    FILE *out;
    unsigned calls;
};

/* One worker's state: a connection. `lock` guards `cancelled`; the rest belongs to the thread that runs the hooks. */
struct far_side {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool cancelled;
    struct far_service *service;
};

static int far_open(void **ret_state, void *user, const char *json_config, const void *checkpoint, size_t size)
{
    (void)json_config, (void)checkpoint, (void)size; /* nothing to configure, and nothing remembered over there */
    struct far_side *far = calloc(1, sizeof *far);
    pthread_condattr_t monotonic;
    if (!far)
        return spool_sink_error(ENOMEM, "the far side: out of memory");
    far->service = user;
    pthread_mutex_init(&far->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&far->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    *ret_state = far;
    return SPOOL_OK;
}

/* The round trip to the far side, which any thread can cut short. Returns false when it was. */
static bool far_wait(struct far_side *far, long ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += ms * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&far->lock);
    while (!far->cancelled && pthread_cond_timedwait(&far->changed, &far->lock, &until) != ETIMEDOUT)
        ;
    bool whole = !far->cancelled;
    far->cancelled = false; /* of this deliver only */
    pthread_mutex_unlock(&far->lock);
    return whole;
}

/* Hands one event over. It is delivered only when the far side has it for good: here, when it is flushed. */
static bool far_send(FILE *out, const struct spool_delivery *delivery)
{
    const struct spool_event *event = delivery->event;
    char id[SPOOL_ID_TEXT_SIZE];
    fprintf(out, "delivered %s, attempt %" PRIu32 ": %s %.*s\n", spool_id_format(&delivery->id, id), delivery->attempt,
            event->type, (int)event->body_size, (const char *)event->body);
    return fflush(out) == 0;
}

static void far_answer(struct far_side *far, struct spool_delivery *delivery)
{
    const struct spool_event *event = delivery->event;
    if (event->body_size == 0) {
        spool_delivery_fail(delivery, SPOOL_REJECTED, "422: the far side wants a body");
    } else if (strcmp(event->type, SPOOL_TYPE_LOG_ERROR) == 0 && delivery->attempt == 1) {
        delivery->retry_after_ms = 20; /* as a Retry-After header would say */
        spool_delivery_fail(delivery, SPOOL_RETRY, "429: not so fast");
    } else if (far_send(far->service->out, delivery)) {
        delivery->outcome = SPOOL_DELIVERED;
    }
}

/* An event without an answer is retried, so that returning early loses nothing. */
static int far_deliver(void *state, struct spool_delivery *batch, size_t n)
{
    struct far_side *far = state;
    if (far->service->calls++ == 0)
        return spool_sink_error(SPOOL_EUNAVAILABLE, "503: the far side is starting"); /* costs no event an attempt */
    if (!far_wait(far, 10))
        return spool_sink_error(SPOOL_EUNAVAILABLE, "interrupted");
    for (size_t i = 0; i < n; i++)
        far_answer(far, SPOOL_DELIVERY_AT(batch, i));
    return SPOOL_OK;
}

static void far_cancel(void *state)
{
    struct far_side *far = state;
    pthread_mutex_lock(&far->lock);
    far->cancelled = true;
    pthread_cond_signal(&far->changed);
    pthread_mutex_unlock(&far->lock);
}

static void far_close(void *state)
{
    struct far_side *far = state;
    pthread_cond_destroy(&far->changed);
    pthread_mutex_destroy(&far->lock);
    free(far);
}

static const struct spool_sink far_sink = {
    .abi = SPOOL_SINK_ABI,
    .size = sizeof(struct spool_sink),
    .kind = "example.far",
    .open = far_open,
    .deliver = far_deliver,
    .cancel = far_cancel,
    .close = far_close,
};

/* ---------------------------------------------------------------------------------------------------- the program */

static void must(int code)
{
    if (code != SPOOL_OK)
        errx(1, "%s: %s", spool_error_name(code), spool_last_error());
}

static void say(struct spool *spool, const char *type, const char *body)
{
    struct spool_event event = SPOOL_EVENT(.type = type, .agent = "example", .body = body, .body_size = strlen(body));
    must(spool_enqueue(spool, &event, NULL));
}

static int print_dead(void *user, const struct spool_dead_letter *letter)
{
    char id[SPOOL_ID_TEXT_SIZE];
    fprintf(user, "dead letter %s of sink %s: %s\n", spool_id_format(letter->event->id, id), letter->sink,
            letter->reason);
    return 0;
}

int main(int argc, char **argv)
{
    struct spool *spool;
    struct far_service service = {.out = stdout};
    struct spool_sink_options options = SPOOL_SINK_OPTIONS(.user = &service, .retry_base_ms = 10, .max_attempts = 5);
    must(spool_open(argc > 1 ? argv[1] : "events.spool", NULL, &spool));
    must(spool_sink_add(spool, "far", &far_sink, NULL, &options));
    say(spool, SPOOL_TYPE_MEMORY_GOAL, "{\"goal\":\"answer the customer\"}");
    say(spool, SPOOL_TYPE_LOG_ERROR, "{\"message\":\"the model is overloaded\",\"retryable\":true}");
    say(spool, SPOOL_TYPE_LOG_CONTEXT, ""); /* the far side refuses this one */
    must(spool_start(spool));
    must(spool_drain(spool, 10000));
    must(spool_stop(spool, 5000));
    must(spool_dead_each(spool, "far", print_dead, stdout));
    must(spool_close(spool));
    return 0;
}
