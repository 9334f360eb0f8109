/* hooks.c - the hooks of a sink plugin alone, without the engine: how long deliver takes to return once it is
 * cancelled.
 *
 *     hooks FILE CONFIG CANCEL_MS      prints {"code":…,"message":…,"delivered":…,"cancel_ms":…,"close_ms":…}
 *
 * Delivers one event on a thread, cancels it after CANCEL_MS, and measures from there until deliver is back, and how
 * long close takes. */
#include <err.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sink_host.h"

struct job {
    const struct spool_sink *sink;
    void *state;
    struct spool_delivery delivery;
    int code;
    char message[sizeof host_message];
};

static void *deliver(void *arg)
{
    struct job *job = arg;
    job->code = job->sink->deliver(job->state, &job->delivery, 1);
    memcpy(job->message, host_message, sizeof host_message);
    return NULL;
}

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void wait_ms(long ms)
{
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    while (nanosleep(&left, &left) != 0)
        ;
}

int main(int argc, char **argv)
{
    struct spool_event event =
        SPOOL_EVENT(.type = "test", .agent = "a", .content_type = "application/json", .body = "{}", .body_size = 2);
    struct job job = {.delivery = {.size = sizeof job.delivery, .event = &event, .attempt = 1}};
    pthread_t thread;
    if (argc != 4 || spool_id_parse("01890a5d-ac96-774b-bcce-b302099a8057", &job.delivery.id) != SPOOL_OK)
        errx(2, "usage: hooks FILE CONFIG CANCEL_MS");
    job.sink = host_load(argv[1]);
    if (job.sink->open(&job.state, NULL, argv[2], NULL, 0) != SPOOL_OK)
        errx(1, "%s", host_message);
    if (pthread_create(&thread, NULL, deliver, &job) != 0)
        err(2, "pthread_create");
    wait_ms(atol(argv[3]));
    double begin = now_ms();
    job.sink->cancel(job.state);
    pthread_join(thread, NULL);
    double back = now_ms();
    job.sink->close(job.state);
    printf("{\"code\":%d,\"message\":\"%s\",\"delivered\":%d,\"cancel_ms\":%.1f,\"close_ms\":%.1f}\n", job.code,
           job.message, job.delivery.outcome == SPOOL_DELIVERED, back - begin, now_ms() - back);
    return 0;
}
