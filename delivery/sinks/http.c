/* http.c - events by HTTP: CloudEvents 1.0 (structured, binary, batch) or JSON Lines, in POST or PUT requests.
 *
 * What an answer's status means: http_status.h. Beyond it:
 * - A request that holds several events and is refused is bisected by the library until the bad one stands alone.
 * - "retry" (500 and its like) may mean the server or one event that breaks it. A few times in a row it is taken as the
 *   server's trouble, and all wait; then the requests are cut down, and the event that still fails when others do not
 *   is tried again on its own, at the cost of its attempts.
 * - 207 answers for each event of a request: {"results": [{"id": "…", "status": 422, "reason": "…"}, …]}. Each status
 * means what it means for a whole request; an event that is not named is sent again.
 * - Retry-After holds back the whole sink when the server is down, else the event.
 * - A 2xx of which the end is missing is no answer: it may come from a proxy whose server died. The events are sent
 *   again, under the same id and Idempotency-Key.
 *
 * Idempotency-Key is the event's id; for several "<first id>.<how many>.<FNV-1a of all ids>", so that the same events
 * under the same key are the same request. After a failure they may be cut into other requests, so a far side that must
 * have each event once goes by the ids.
 *
 * Order: requests are sent one after the other (concurrency 1), and behind an event that is to be tried again none of
 * its agent is sent. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../../lib/base/json.h"
#include "http_sink.h"

static const char *const format_names[] = {"structured", "binary", "batch", "ndjson", NULL}; /* enum http_format */
static const char *const method_names[] = {"POST", "PUT", NULL};

enum { REQUEST_BYTES = 1 << 20, REQUEST_BYTES_MAX = 64 << 20 };

/* ------------------------------------------------------------------------------------------------------- delivering
 */

static int pump(struct http_run *run)
{
    struct http_client *client = run->h->client;
    struct http_exchange *ex;
    for (;;) {
        while (run->code == SPOOL_OK && run->next < run->n && (ex = http_prepare(client)) != NULL)
            http_send_next(run, ex);
        if (http_running(client) == 0)
            return run->code;
        int code = http_next(client, &ex);
        if (code != SPOOL_OK)
            return code;
        http_judge(run, ex);
    }
}

/* The server asked for patience: it is not asked again before that. */
static int check_patience(struct http *h)
{
    uint64_t now_ns = mono_ns();
    if (now_ns >= h->not_before_ns)
        return SPOOL_OK;
    uint64_t left_s = (h->not_before_ns - now_ns) / NS_PER_MS / 1000 + 1;
    return spool_sink_error(SPOOL_EUNAVAILABLE, "%s asked to wait (Retry-After), for %" PRIu64 " s more",
                            h->settings.shown, left_s);
}

static int http_deliver(void *state, struct spool_delivery *batch, size_t n)
{
    struct http *h = state;
    struct http_run run = {.h = h, .batch = batch, .n = n};
    int code = check_patience(h);
    if (code == SPOOL_OK)
        code = http_refresh(h->client);
    if (code == SPOOL_OK)
        code = pump(&run);
    http_settle(h->client);
    return code;
}

static void http_stop(void *state)
{
    http_cancel(((struct http *)state)->client);
}

/* ------------------------------------------------------------------------------------------------------ open and close
 */

static int wrong(const char *key, const char *what)
{
    return spool_sink_error(SPOOL_ECONFIG, "configuration of the http sink: \"%s\" %s", key, what);
}

/* An address may be a secret itself, as those of chat webhooks are. */
static int read_url(struct config *c, struct http *h)
{
    char *url = NULL;
    if (json_is_object(json_object_get(c->object, "url")))
        return config_secret(c, "url", true, &h->url);
    int code = config_text(c, "url", NULL, &url);
    if (code == SPOOL_OK)
        code = http_settings_url(&h->settings, "http", "url", url, false);
    free(url);
    return code;
}

static int read_keys(struct config *c, struct http *h)
{
    int code = read_url(c, h);
    if (code == SPOOL_OK)
        code = config_choice(c, "format", format_names, HTTP_STRUCTURED, &h->format);
    if (code == SPOOL_OK)
        code = config_choice(c, "method", method_names, 0, &h->method);
    if (code == SPOOL_OK)
        code = config_text(c, "source", "urn:libspool", &h->source);
    if (code == SPOOL_OK)
        code = config_bytes(c, "request_bytes", REQUEST_BYTES, &h->request_bytes);
    if (code == SPOOL_OK)
        code = config_flag(c, "idempotency", true, &h->idempotency);
    if (code == SPOOL_OK)
        code = config_number(c, "concurrency", 1, &h->settings.concurrency);
    if (code == SPOOL_OK)
        code = http_classes_read(c, HTTP_RULES, &h->classes);
    return code == SPOOL_OK ? http_settings_read(c, &h->settings) : code;
}

static int check_keys(struct http *h)
{
    if (h->request_bytes < 1 || h->request_bytes > REQUEST_BYTES_MAX)
        return wrong("request_bytes", "must be 1 to 64MiB");
    h->settings.method = method_names[h->method];
    return http_settings_check(&h->settings, "http");
}

static int configure(struct http *h, const char *json_config)
{
    struct config c;
    int code = config_open(&c, "http", json_config);
    if (code == SPOOL_OK)
        code = read_keys(&c, h);
    code = config_close(&c, code);
    return code == SPOOL_OK ? check_keys(h) : code;
}

static void http_close(void *state)
{
    struct http *h = state;
    if (!h)
        return;
    http_client_free(h->client);
    http_settings_free(&h->settings);
    secret_free(&h->url);
    buffer_free(&h->scratch);
    free(h->source);
    free(h->source_json);
    free(h);
}

static int http_check(const char *json_config)
{
    struct http *h = calloc(1, sizeof *h);
    if (!h)
        return spool_sink_error(ENOMEM, "out of memory");
    int code = configure(h, json_config);
    http_close(h);
    return code;
}

/* The source is the same for every event: made ready once. */
static int make_source(struct http *h)
{
    struct buffer text = {0};
    int code = json_put_string(&text, h->source, strlen(h->source));
    if (code == SPOOL_OK)
        code = buffer_put(&text, "", 1);
    h->source_json = (char *)text.data;
    return code == SPOOL_OK ? SPOOL_OK : spool_sink_error(ENOMEM, "out of memory");
}

static int take_secret_url(struct http *h)
{
    char *url = NULL;
    int code = secret_read(&h->url, "url", &url);
    if (code == SPOOL_OK && url)
        code = http_settings_url(&h->settings, "http", "url", url, true);
    secret_wipe(url);
    return code;
}

static int http_open(void **ret_state, void *user, const char *json_config, const void *checkpoint, size_t size)
{
    (void)user, (void)checkpoint, (void)size;
    struct http *h = calloc(1, sizeof *h);
    if (!h)
        return spool_sink_error(ENOMEM, "out of memory");
    int code = configure(h, json_config);
    if (code == SPOOL_OK)
        code = take_secret_url(h);
    if (code == SPOOL_OK)
        code = make_source(h);
    if (code == SPOOL_OK)
        code = http_client_new(&h->settings, &h->client);
    if (code != SPOOL_OK) {
        http_close(h);
        return code;
    }
    *ret_state = h;
    return SPOOL_OK;
}

static const struct spool_sink http_sink = {
    .abi = SPOOL_SINK_ABI,
    .size = sizeof(struct spool_sink),
    .kind = "http",
    .open = http_open,
    .deliver = http_deliver,
    .cancel = http_stop,
    .close = http_close,
};

static const struct spool_sink_setting http_keys[] = {
    {"url", "text, or env or file (required)", "where to: http:// or https://"},
    {"format", "structured (default), binary, batch, ndjson", "CloudEvents 1.0, or JSON Lines as `spool cat` prints"},
    {"method", "POST (default), PUT", "of the requests"},
    {"source", "text, urn:libspool", "the CloudEvents source"},
    {"request_bytes", "size, 1MiB", "batch and ndjson: of a request at most; a larger event goes alone"},
    {"idempotency", "true (default), false", "an Idempotency-Key header: the event's id, or a hash of all"},
    {"concurrency", "1 (default) to 64", "requests at once of a worker; more than 1 gives up order"},
    {"status", "object of arrays", "what statuses mean: deliver, down, retry, pause, reject"},
    HTTP_SETTINGS,
    {NULL, NULL, NULL},
};

SPOOL_SINK_PLUGIN(.sink = &http_sink, .check = http_check, .settings = http_keys,
                  .summary = "requests to an HTTP server: CloudEvents or JSON Lines")
