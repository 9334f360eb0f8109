/* otlp.c - events to an OpenTelemetry collector or backend: OTLP over HTTP, logs and traces, protobuf or JSON.
 *
 * What an event becomes: otlp_record.h, and otlp_genai.c for what the GenAI conventions call it. Settings:
 * otlp_settings.h.
 *
 * The protocol (opentelemetry.io/docs/specs/otlp, OTLP/HTTP) says which answers may be sent again: 429, 502, 503, 504,
 * and none at all. Then all wait, and Retry-After is kept. Everything else must not be, and "must be dropped": here it
 * becomes a dead letter, which the operator may requeue. A request that is refused for what is in it (400, 413, 422) is
 * bisected, so that one bad event does not take others along.
 *
 * Of a request that the collector took in part (partial_success) it is not told which events were rejected, and it must
 * not be sent again. Unless `partial` says otherwise all its events become dead letters: some are there twice when they
 * are requeued, but none is lost. Exporters of OpenTelemetry write such rejections into their log and forget them; with
 * `partial` "deliver" the operator hears of each. So that few events share the doubt, requests are small from then on: an
 * eighth, at last one event each, of which a rejection is certain; they grow again after some that were taken as a whole.
 * When all were rejected they are dead letters, too. A message without rejections is a warning, and told when it is new.
 *
 * signals "both": each event is a log record, and those that the table calls spans are spans besides; they are
 * delivered when both have been taken. If only the spans have to be sent again, the log records come again, too. Both
 * carry libspool.id. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "otlp_answer.h"
#include "otlp_genai.h"
#include "otlp_settings.h"

enum { REASON_SIZE = 384, RESOURCE_GUESS = 200, SHRINK = 8, GROW_AFTER = 32, EVENTS_ANY = 4096 };

static const struct otlp_field RESOURCE_ITEMS[] = {{1, "resourceLogs"}, {1, "resourceSpans"}}; /* by enum otlp_signal */
static const struct otlp_field SCOPE_ITEMS[] = {{2, "scopeLogs"}, {2, "scopeSpans"}};
static const struct otlp_field RECORDS[] = {{2, "logRecords"}, {2, "spans"}};
static const struct otlp_field RESOURCE = {1, "resource"}, SCOPE = {1, "scope"}, ATTRIBUTES = {1, "attributes"},
                               SCOPE_NAME = {1, "name"}, SCOPE_VERSION = {2, "version"};

/* One signal's settings and connection; `used` is false for one that is not asked for. */
struct line {
    bool used;
    struct otlp_settings settings;
    struct http_client *client;
    uint64_t not_before_ns;          /* the collector asked for that, monotonic; 0: it did not */
    size_t events_max;               /* in a request, since one was taken in part; 0: no limit */
    unsigned whole;                  /* requests since then that were taken as a whole */
    char warning[OTLP_MESSAGE_SIZE]; /* told last */
};

struct otlp {
    struct line lines[OTLP_SIGNALS];
};

/* One call of deliver, for one signal. */
struct run {
    struct line *line;
    struct spool_delivery *batch;
    size_t n, next;
    bool spans_only;         /* of the batch: beside log records */
    uint64_t lost, doubtful; /* events that were rejected, of so many, of which nobody can tell them apart any more */
    int code;                /* once set, nothing more is sent */
};

/* -------------------------------------------------------------------------------------------------------- requests */

/* The event goes by this signal, and nothing is known of it yet. */
static bool wants(const struct run *run, size_t i)
{
    const struct spool_delivery *delivery = SPOOL_DELIVERY_AT(run->batch, i);
    return delivery->outcome == SPOOL_RETRY && (!run->spans_only || otlp_is_span(delivery->event));
}

static void put_resource(struct otlp_writer *w, const struct otlp_settings *s)
{
    const char *key;
    json_t *value;
    otlp_begin(w, &RESOURCE, RESOURCE_GUESS);
    otlp_list(w, &ATTRIBUTES);
    otlp_put_attribute(w, "service.name", s->service ? s->service : "unknown_service:libspool");
    json_object_foreach(s->resource, key, value) if (strcmp(key, "service.name") != 0 || !s->service)
        otlp_put_json_attribute(w, key, value);
    otlp_put_attribute(w, "libspool.genai.version", GENAI_VERSION);
    otlp_list_end(w);
    otlp_end(w);
}

static void put_scope(struct otlp_writer *w)
{
    const char *version = spool_version();
    otlp_begin(w, &SCOPE, RESOURCE_GUESS / 2);
    otlp_text(w, &SCOPE_NAME, "libspool", strlen("libspool"));
    otlp_text(w, &SCOPE_VERSION, version, strlen(version));
    otlp_end(w);
}

/* Renders events from run->next on until the request is full. Takes back the one that would make it too big. */
static void put_records(struct run *run, struct otlp_writer *w, struct http_exchange *ex)
{
    const struct otlp_settings *s = &run->line->settings;
    otlp_list(w, &RECORDS[s->signal]);
    for (; run->next < run->n && w->code == SPOOL_OK; run->next++) {
        const struct spool_delivery *delivery = SPOOL_DELIVERY_AT(run->batch, run->next);
        struct otlp_mark mark = otlp_mark(w);
        if (!wants(run, run->next))
            continue;
        if (run->line->events_max > 0 && ex->count >= run->line->events_max)
            break;
        if (s->signal == OTLP_LOGS)
            otlp_put_log(w, &s->style, delivery->event, &delivery->id);
        else
            otlp_put_span(w, &s->style, delivery->event, &delivery->id);
        if (ex->count > 0 && ex->body.size > s->request_bytes) {
            otlp_rewind(w, mark);
            break;
        }
        ex->count++;
    }
    otlp_list_end(w);
}

static int fill(struct run *run, struct http_exchange *ex)
{
    const struct otlp_settings *s = &run->line->settings;
    struct otlp_writer w;
    size_t guess = s->request_bytes;
    ex->first = run->next;
    ex->count = 0;
    otlp_start(&w, &ex->body, s->json);
    otlp_list(&w, &RESOURCE_ITEMS[s->signal]);
    otlp_item(&w, guess);
    put_resource(&w, s);
    otlp_list(&w, &SCOPE_ITEMS[s->signal]);
    otlp_item(&w, guess);
    put_scope(&w);
    put_records(run, &w, ex);
    otlp_end(&w);
    otlp_list_end(&w);
    otlp_end(&w);
    otlp_list_end(&w);
    ex->end = run->next;
    int code = otlp_finish(&w);
    return code == SPOOL_OK ? SPOOL_OK : spool_sink_error(SPOOL_EUNAVAILABLE, "out of memory");
}

/* --------------------------------------------------------------------------------------------------------- answers */

static void stop(struct run *run, int code, const char *reason)
{
    if (run->code == SPOOL_OK)
        run->code = spool_sink_error(code, "%s", reason);
}

static void delivered(const struct run *run, const struct http_exchange *ex)
{
    for (size_t i = ex->first; i < ex->end; i++)
        if (wants(run, i))
            SPOOL_DELIVERY_AT(run->batch, i)->outcome = SPOOL_DELIVERED;
}

static void rejected(const struct run *run, const struct http_exchange *ex, const char *reason)
{
    for (size_t i = ex->first; i < ex->end; i++)
        if (wants(run, i))
            spool_delivery_fail(SPOOL_DELIVERY_AT(run->batch, i), SPOOL_REJECTED, "%s", reason);
}

/* Small requests after one that was taken in part, larger ones again after many that were taken as a whole. */
static void fit_requests(struct line *line, size_t count, uint64_t rejected_n)
{
    if (rejected_n > 0 && rejected_n < count) {
        line->events_max = count > SHRINK ? count / SHRINK : 1;
        line->whole = 0;
    } else if (line->events_max > 0 && ++line->whole >= GROW_AFTER) {
        line->events_max = line->events_max * 2 < EVENTS_ANY ? line->events_max * 2 : 0;
        line->whole = 0;
    }
}

static void warn(struct line *line, const struct otlp_answer *answer)
{
    if (!*answer->message || strcmp(answer->message, line->warning) == 0)
        return;
    memcpy(line->warning, answer->message, sizeof line->warning);
    spool_sink_note("%s took all, and warns: %s", line->settings.http.shown, answer->message);
}

/* Told together at the end of the call. */
static void lose(struct run *run, size_t count, const struct otlp_answer *answer)
{
    run->lost += answer->rejected;
    run->doubtful += count;
    spool_sink_note("%s rejected %" PRIu64 " of %" PRIu64 " events, which are lost, as \"partial\" says%s%s",
                    run->line->settings.http.shown, run->lost, run->doubtful, *answer->message ? ": " : "",
                    answer->message);
}

/* 2xx: taken, but perhaps not all of it. */
static void taken(struct run *run, const struct http_exchange *ex)
{
    const struct otlp_settings *s = &run->line->settings;
    struct otlp_answer answer;
    char reason[REASON_SIZE];
    otlp_read_success(&ex->answer, s->json, &answer);
    fit_requests(run->line, ex->count, answer.rejected);
    snprintf(reason, sizeof reason, "the collector rejected %" PRIu64 " of the %zu events of a request%s%s",
             answer.rejected, ex->count, *answer.message ? ": " : "", answer.message);
    if (answer.rejected == 0)
        warn(run->line, &answer);
    else if (answer.rejected < ex->count && !s->partial_is_dead)
        lose(run, ex->count, &answer);
    else
        rejected(run, ex, reason);
    delivered(run, ex); /* what is not rejected */
}

static void refused(struct run *run, const struct http_exchange *ex, const char *reason)
{
    bool for_content = ex->status == 400 || ex->status == 413 || ex->status == 422;
    if (for_content && ex->count > 1)
        stop(run, SPOOL_EREJECTED, reason);
    else
        rejected(run, ex, reason);
}

static void down(struct run *run, const struct http_exchange *ex, const char *reason)
{
    if (ex->retry_after_ms > 0)
        run->line->not_before_ns = deadline_in_ms(ex->retry_after_ms);
    stop(run, SPOOL_EUNAVAILABLE, reason);
}

/* What went wrong, in the collector's own words where it has some. */
static void describe(const struct run *run, struct http_exchange *ex, char *ret, size_t size)
{
    struct otlp_answer answer;
    otlp_read_status(&ex->answer, run->line->settings.json, &answer);
    if (*answer.message)
        snprintf(ret, size, "%s answers %ld: %s", run->line->settings.http.shown, ex->status, answer.message);
    else
        http_describe(run->line->client, ex, ret, size);
}

static void judge(struct run *run, struct http_exchange *ex)
{
    char reason[REASON_SIZE];
    describe(run, ex, reason, sizeof reason);
    switch (http_class_of(&run->line->settings.classes, ex->status)) {
    case HTTP_DELIVER:
        taken(run, ex);
        break;
    case HTTP_DOWN:
    case HTTP_RETRY:
        down(run, ex, reason);
        break;
    case HTTP_PAUSE:
        stop(run, SPOOL_ECONFIG, reason);
        break;
    case HTTP_REJECT:
        refused(run, ex, reason);
        break;
    }
}

/* ------------------------------------------------------------------------------------------------------- delivering */

/* One request and its answer. */
static int exchange(struct run *run, struct http_exchange *ex)
{
    struct http_client *client = run->line->client;
    int code = fill(run, ex);
    if (code != SPOOL_OK || ex->count == 0)
        return code;
    http_header(ex, "Content-Type", run->line->settings.json ? "application/json" : "application/x-protobuf");
    code = http_start(client, ex);
    if (code == SPOOL_OK)
        code = http_next(client, &ex);
    if (code == SPOOL_OK)
        judge(run, ex);
    return code;
}

static int check_patience(const struct line *line)
{
    uint64_t now_ns = mono_ns();
    if (now_ns >= line->not_before_ns)
        return SPOOL_OK;
    uint64_t left_s = (line->not_before_ns - now_ns) / NS_PER_MS / 1000 + 1;
    return spool_sink_error(SPOOL_EUNAVAILABLE, "%s asked to wait (Retry-After), for %" PRIu64 " s more",
                            line->settings.http.shown, left_s);
}

static int pump(struct run *run)
{
    int code = check_patience(run->line);
    if (code == SPOOL_OK)
        code = http_refresh(run->line->client);
    while (code == SPOOL_OK && run->code == SPOOL_OK && run->next < run->n)
        code = exchange(run, http_prepare(run->line->client));
    return code == SPOOL_OK ? run->code : code;
}

/* The log records have been taken; of these events the spans have to be as well, or they are not delivered. */
static bool take_back_spans(const struct run *run)
{
    bool any = false;
    for (size_t i = 0; i < run->n; i++) {
        struct spool_delivery *delivery = SPOOL_DELIVERY_AT(run->batch, i);
        if (delivery->outcome == SPOOL_DELIVERED && otlp_is_span(delivery->event)) {
            delivery->outcome = SPOOL_RETRY;
            any = true;
        }
    }
    return any;
}

static int otlp_deliver(void *state, struct spool_delivery *batch, size_t n)
{
    struct otlp *o = state;
    struct run logs = {.line = &o->lines[OTLP_LOGS], .batch = batch, .n = n};
    struct run traces = {.line = &o->lines[OTLP_TRACES], .batch = batch, .n = n, .spans_only = logs.line->used};
    int code = logs.line->used ? pump(&logs) : SPOOL_OK;
    traces.lost = logs.lost;
    traces.doubtful = logs.doubtful;
    if (traces.line->used) {
        bool any = !logs.line->used || take_back_spans(&logs);
        code = code == SPOOL_OK && any ? pump(&traces) : code;
    }
    for (int i = 0; i < OTLP_SIGNALS; i++)
        if (o->lines[i].used)
            http_settle(o->lines[i].client);
    return code;
}

static void otlp_cancel(void *state)
{
    struct otlp *o = state;
    for (int i = 0; i < OTLP_SIGNALS; i++)
        if (o->lines[i].used)
            http_cancel(o->lines[i].client);
}

/* ---------------------------------------------------------------------------------------------------- open and close
 */

static void otlp_close(void *state)
{
    struct otlp *o = state;
    if (!o)
        return;
    for (int i = 0; i < OTLP_SIGNALS; i++) {
        http_client_free(o->lines[i].client);
        otlp_settings_free(&o->lines[i].settings);
    }
    free(o);
}

static int configure(struct otlp *o, const char *json_config, bool use_environment)
{
    bool wanted[OTLP_SIGNALS];
    int code = otlp_signals_read(json_config, wanted);
    for (int i = 0; i < OTLP_SIGNALS && code == SPOOL_OK; i++) {
        o->lines[i].used = wanted[i];
        if (wanted[i])
            code = otlp_settings_read(json_config, (enum otlp_signal)i, use_environment, &o->lines[i].settings);
    }
    return code;
}

static int otlp_check(const char *json_config)
{
    struct otlp *o = calloc(1, sizeof *o);
    if (!o)
        return spool_sink_error(ENOMEM, "out of memory");
    int code = configure(o, json_config, false);
    otlp_close(o);
    return code;
}

static int otlp_open(void **ret_state, void *user, const char *json_config, const void *checkpoint, size_t size)
{
    (void)user, (void)checkpoint, (void)size;
    struct otlp *o = calloc(1, sizeof *o);
    if (!o)
        return spool_sink_error(ENOMEM, "out of memory");
    int code = configure(o, json_config, true);
    for (int i = 0; i < OTLP_SIGNALS && code == SPOOL_OK; i++)
        if (o->lines[i].used)
            code = http_client_new(&o->lines[i].settings.http, &o->lines[i].client);
    if (code != SPOOL_OK) {
        otlp_close(o);
        return code;
    }
    *ret_state = o;
    return SPOOL_OK;
}

static const struct spool_sink otlp_sink = {
    .abi = SPOOL_SINK_ABI,
    .size = sizeof(struct spool_sink),
    .kind = "otlp",
    .open = otlp_open,
    .deliver = otlp_deliver,
    .cancel = otlp_cancel,
    .close = otlp_close,
};

SPOOL_SINK_PLUGIN(.sink = &otlp_sink, .check = otlp_check, .settings = otlp_keys,
                  .summary = "logs and traces to an OpenTelemetry collector or backend")
