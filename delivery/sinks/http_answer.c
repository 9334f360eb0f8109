/* http_answer.c - what the http sink makes of answers: http.c opens with the rules. */
#include "http_results.h"
#include "http_sink.h"

enum {
    STRIKES_MAX = 3, /* answers of class "retry" in a row that are taken as the server's trouble */
    REASON_SIZE = 256,
};

static void stop(struct http_run *run, int code, const char *reason)
{
    if (run->code == SPOOL_OK)
        run->code = spool_sink_error(code, "%s", reason);
}

static void delivered(struct http_run *run, const struct http_exchange *ex)
{
    struct spool_delivery *delivery;
    for (size_t at = ex->first; (delivery = http_next_in(run, ex, &at)) != NULL;)
        delivery->outcome = SPOOL_DELIVERED;
    run->delivered += ex->count;
    run->h->strikes = 0;
}

static void rejected(struct http_run *run, const struct http_exchange *ex, const char *reason)
{
    size_t at = ex->first;
    if (ex->count == 1)
        spool_delivery_fail(http_next_in(run, ex, &at), SPOOL_REJECTED, "%s", reason);
    else
        stop(run, SPOOL_EREJECTED, reason);
}

static void down(struct http_run *run, const struct http_exchange *ex, const char *reason)
{
    if (ex->retry_after_ms > 0)
        run->h->not_before_ns = deadline_in_ms(ex->retry_after_ms);
    stop(run, SPOOL_EUNAVAILABLE, reason);
}

/* One event fails where others do not. */
static void again(struct http_run *run, struct spool_delivery *delivery, uint64_t retry_after_ms, const char *reason)
{
    delivery->retry_after_ms = retry_after_ms;
    spool_delivery_fail(delivery, SPOOL_RETRY, "%s", reason);
    if (run->next < run->n && (run->held_count == HTTP_HELD_MAX || http_is_many(run->h)))
        stop(run, SPOOL_EUNAVAILABLE, reason);
    else if (run->held_count < HTTP_HELD_MAX)
        run->held[run->held_count++] = delivery->event->agent;
    run->delivered = 0;
    run->h->strikes = 0;
}

/* "retry": see the head of this file. */
static void retried(struct http_run *run, const struct http_exchange *ex, const char *reason)
{
    size_t at = ex->first;
    bool patient = ++run->h->strikes <= STRIKES_MAX;
    if (ex->count == 1 && (run->n == 1 || run->delivered > 0 || !patient))
        again(run, http_next_in(run, ex, &at), ex->retry_after_ms, reason);
    else if (patient)
        down(run, ex, reason);
    else
        stop(run, SPOOL_EREJECTED, reason);
}

/* One line of a 207 answer. */
static void take_result(void *user, struct spool_delivery *delivery, long status, const char *reason)
{
    struct http_run *run = user;
    switch (http_class_of(&run->h->classes, status)) {
    case HTTP_DELIVER:
        delivery->outcome = SPOOL_DELIVERED;
        break;
    case HTTP_REJECT:
        spool_delivery_fail(delivery, SPOOL_REJECTED, "207, and of this event %ld: %s", status, reason);
        break;
    case HTTP_DOWN:
    case HTTP_RETRY:
    case HTTP_PAUSE:
        spool_delivery_fail(delivery, SPOOL_RETRY, "207, and of this event %ld: %s", status, reason);
        break;
    }
}

/* Each event for itself. What the answer does not name was not taken. */
static void partly(struct http_run *run, const struct http_exchange *ex)
{
    struct spool_delivery *delivery;
    const char *problem = http_results_read(&ex->answer, ex->cut, run->batch, ex->first, ex->end, take_result, run);
    for (size_t at = ex->first; (delivery = http_next_in(run, ex, &at)) != NULL;)
        if (delivery->outcome == SPOOL_RETRY && problem)
            spool_delivery_fail(delivery, SPOOL_RETRY, "207, but %s", problem);
    run->h->strikes = 0;
}

void http_judge(struct http_run *run, const struct http_exchange *ex)
{
    char reason[REASON_SIZE];
    http_describe(run->h->client, ex, reason, sizeof reason);
    switch (http_class_of(&run->h->classes, ex->status)) {
    case HTTP_DELIVER:
        if (ex->status == 207)
            partly(run, ex);
        else
            delivered(run, ex);
        break;
    case HTTP_DOWN:
        down(run, ex, reason);
        break;
    case HTTP_RETRY:
        retried(run, ex, reason);
        break;
    case HTTP_PAUSE:
        stop(run, SPOOL_ECONFIG, reason);
        break;
    case HTTP_REJECT:
        rejected(run, ex, reason);
        break;
    }
}
