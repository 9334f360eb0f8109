/* http_client.c - see http_client.h. */
#include "http_handle.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum {
    POLL_MS = 1000, /* libcurl knows its own deadlines; this one only bounds a mistake */
    S_PER_DAY = 86400,
};

struct http_client {
    struct http_settings *settings;
    CURLM *multi;
    struct http_exchange *exchanges; /* settings->concurrency of them */
    size_t running;
    struct curl_slist *common; /* headers of every request; every exchange's own list ends in it */
    struct compressor *compressor;
    atomic_bool cancelled;
};

static int no_memory(void)
{
    return spool_sink_error(ENOMEM, "out of memory");
}

/* -------------------------------------------------------------------------------------------------------- making it
 */

static pthread_once_t global_once = PTHREAD_ONCE_INIT;
static CURLcode global_code;

/* Never undone: others in the process may use libcurl too, and threads that look up names may outlive the sink. */
static void global_init(void)
{
    global_code = curl_global_init(CURL_GLOBAL_DEFAULT);
}

static int make_multi(struct http_client *client)
{
    pthread_once(&global_once, global_init);
    if (global_code != CURLE_OK)
        return http_refused(global_code);
    client->multi = curl_multi_init();
    if (!client->multi)
        return no_memory();
    long connections = (long)client->settings->concurrency;
    if (curl_multi_setopt(client->multi, CURLMOPT_MAX_HOST_CONNECTIONS, connections) != CURLM_OK ||
        curl_multi_setopt(client->multi, CURLMOPT_MAXCONNECTS, connections) != CURLM_OK)
        return spool_sink_error(SPOOL_ECONFIG, "libcurl refuses an option");
    return SPOOL_OK;
}

static int make_parts(struct http_client *client)
{
    const struct http_settings *s = client->settings;
    int code = make_multi(client);
    if (code == SPOOL_OK && s->compression != COMPRESS_NONE) {
        client->compressor = compressor_new((enum compression)s->compression);
        code = client->compressor ? SPOOL_OK : no_memory();
    }
    if (code == SPOOL_OK) {
        client->exchanges = calloc(s->concurrency, sizeof *client->exchanges);
        code = client->exchanges ? SPOOL_OK : no_memory();
    }
    for (size_t i = 0; code == SPOOL_OK && i < s->concurrency; i++)
        code = http_handle_make(s, &client->exchanges[i]);
    return code;
}

int http_client_new(struct http_settings *settings, struct http_client **ret)
{
    struct http_client *client = calloc(1, sizeof *client);
    if (!client)
        return no_memory();
    client->settings = settings;
    int code = make_parts(client);
    if (code != SPOOL_OK) {
        http_client_free(client);
        return code;
    }
    *ret = client;
    return SPOOL_OK;
}

/* --------------------------------------------------------------------------------------------------- headers, secrets
 */

/* Values may be secrets. */
static void free_headers(struct curl_slist *list)
{
    for (struct curl_slist *at = list; at; at = at->next)
        explicit_bzero(at->data, strlen(at->data));
    curl_slist_free_all(list);
}

/* Appends "name: prefix value". False without memory. */
static bool put_header(struct curl_slist **list, const char *name, const char *prefix, const char *value)
{
    size_t size = strlen(name) + strlen(prefix) + strlen(value) + 3;
    char *line = malloc(size);
    if (!line)
        return false;
    bool empty = !*prefix && !*value; /* curl's way to say that a header is there and empty */
    snprintf(line, size, empty ? "%s;" : "%s: %s%s", name, prefix, value);
    struct curl_slist *grown = curl_slist_append(*list, line);
    explicit_bzero(line, size);
    free(line);
    if (grown)
        *list = grown;
    return grown != NULL;
}

static int make_common(struct http_client *client)
{
    const struct http_settings *s = client->settings;
    struct curl_slist *list = curl_slist_append(NULL, "Expect:"); /* no round trip before a large body */
    bool good = list != NULL;
    for (size_t i = 0; good && i < s->header_count; i++) {
        const struct http_header *h = &s->headers[i];
        good = put_header(&list, h->name, h->text, h->secret.value ? h->secret.value : "");
    }
    if (!good) {
        free_headers(list);
        return no_memory();
    }
    free_headers(client->common);
    client->common = list;
    return SPOOL_OK;
}

static int give_secrets(struct http_client *client)
{
    int code = SPOOL_OK;
    for (size_t i = 0; code == SPOOL_OK && i < client->settings->concurrency; i++)
        code = http_handle_secrets(client->exchanges[i].easy, client->settings);
    return code == SPOOL_OK ? make_common(client) : code;
}

/* Reads one anew. What goes into a header must be one line. */
static int refresh_secret(struct http_secret *secret, const char *key, bool *changed)
{
    char *value = NULL;
    int code = secret_read(&secret->from, key, &value);
    if (code != SPOOL_OK)
        return code;
    for (const char *p = value; p && *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f) {
            secret_wipe(value);
            return spool_sink_error(SPOOL_ECONFIG, "\"%s\": it is not one line of text", key);
        }
    *changed |= value && (!secret->value || strcmp(value, secret->value) != 0);
    if (value) {
        secret_wipe(secret->value);
        secret->value = value;
    }
    return SPOOL_OK;
}

int http_refresh(struct http_client *client)
{
    struct http_settings *s = client->settings;
    bool changed = client->common == NULL;
    int code = refresh_secret(&s->password, "password", &changed);
    if (code == SPOOL_OK)
        code = refresh_secret(&s->proxy_password, "proxy_password", &changed);
    if (code == SPOOL_OK)
        code = refresh_secret(&s->key_password, "key_password", &changed);
    for (size_t i = 0; code == SPOOL_OK && i < s->header_count; i++)
        code = refresh_secret(&s->headers[i].secret, s->headers[i].name, &changed);
    return code == SPOOL_OK && changed ? give_secrets(client) : code;
}

/* ------------------------------------------------------------------------------------------------------- exchanges */

/* Its own headers, without the common ones that they end in. */
static void drop_headers(struct http_exchange *ex)
{
    if (ex->last)
        ex->last->next = NULL;
    curl_slist_free_all(ex->headers);
    ex->headers = ex->last = NULL;
}

struct http_exchange *http_prepare(struct http_client *client)
{
    for (size_t i = 0; i < client->settings->concurrency; i++) {
        struct http_exchange *ex = &client->exchanges[i];
        if (ex->busy)
            continue;
        drop_headers(ex);
        ex->body.size = ex->coded.size = ex->answer.size = 0;
        ex->status = 0;
        ex->retry_after_ms = 0;
        ex->cut = ex->failed = ex->head_ended = false;
        *ex->problem = '\0';
        return ex;
    }
    return NULL;
}

void http_header(struct http_exchange *ex, const char *name, const char *value)
{
    struct curl_slist *node = NULL;
    if (!put_header(&node, name, "", value))
        ex->failed = true;
    else if (ex->last)
        ex->last->next = node;
    else
        ex->headers = node;
    ex->last = node ? node : ex->last;
}

/* Compresses the body where that is asked for and helps. *ret_body is what goes out. */
static int encode(struct http_client *client, struct http_exchange *ex, const struct buffer **ret_body)
{
    const struct http_settings *s = client->settings;
    *ret_body = &ex->body;
    if (!client->compressor || ex->body.size < s->compress_min)
        return SPOOL_OK;
    int code = compressor_run(client->compressor, ex->body.data, ex->body.size, &ex->coded);
    if (code != SPOOL_OK)
        return code;
    http_header(ex, "Content-Encoding", compression_names[s->compression]);
    *ret_body = &ex->coded;
    return SPOOL_OK;
}

static CURLcode set_request(struct http_exchange *ex, const struct buffer *body)
{
    CURLcode code = curl_easy_setopt(ex->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body->size);
    if (code == CURLE_OK)
        code = curl_easy_setopt(ex->easy, CURLOPT_POSTFIELDS, body->size > 0 ? (const char *)body->data : "");
    return code == CURLE_OK ? curl_easy_setopt(ex->easy, CURLOPT_HTTPHEADER, ex->headers) : code;
}

int http_start(struct http_client *client, struct http_exchange *ex)
{
    const struct buffer *body;
    int code = encode(client, ex, &body);
    if (code != SPOOL_OK)
        return code;
    if (ex->failed || !ex->last)
        return no_memory();
    ex->last->next = client->common;
    CURLcode set = set_request(ex, body);
    if (set != CURLE_OK)
        return http_refused(set);
    CURLMcode added = curl_multi_add_handle(client->multi, ex->easy);
    if (added != CURLM_OK)
        return spool_sink_error(SPOOL_EUNAVAILABLE, "%s: %s", client->settings->shown, curl_multi_strerror(added));
    ex->busy = true;
    client->running++;
    return SPOOL_OK;
}

size_t http_running(const struct http_client *client)
{
    return client->running;
}

static void release(struct http_client *client, struct http_exchange *ex)
{
    curl_multi_remove_handle(client->multi, ex->easy);
    ex->busy = false;
    client->running--;
}

/* -------------------------------------------------------------------------------------------------------- answers */

uint64_t http_retry_after_ms(const char *text, int64_t now_s)
{
    int64_t seconds = 0;
    text += strspn(text, " \t");
    size_t digits = strspn(text, "0123456789");
    if (digits > 0 && text[digits + strspn(text + digits, " \t")] == '\0') {
        seconds = digits < 9 ? strtol(text, NULL, 10) : S_PER_DAY;
    } else {
        time_t date = curl_getdate(text, NULL);
        seconds = date == -1 ? 0 : (int64_t)date - now_s;
    }
    if (seconds <= 0)
        return 0;
    return (uint64_t)(seconds < S_PER_DAY ? seconds : S_PER_DAY) * 1000;
}

static void read_retry_after(struct http_exchange *ex)
{
    struct curl_header *header;
    if (curl_easy_header(ex->easy, "Retry-After", 0, CURLH_HEADER, -1, &header) == CURLHE_OK)
        ex->retry_after_ms = http_retry_after_ms(header->value, (int64_t)time(NULL));
}

/* An answer counts when it is whole, or when it was us who stopped reading: half of one may come from a proxy whose
 * server has died. */
static void conclude(struct http_exchange *ex, CURLcode code)
{
    long status = 0;
    bool whole = code == CURLE_OK || (code == CURLE_WRITE_ERROR && ex->cut);
    if (whole && ex->head_ended && curl_easy_getinfo(ex->easy, CURLINFO_RESPONSE_CODE, &status) == CURLE_OK &&
        status > 0) {
        ex->status = status;
        read_retry_after(ex);
        return;
    }
    if (!*ex->problem)
        snprintf(ex->problem, sizeof ex->problem, "%s",
                 code == CURLE_OK ? "the answer breaks off in its head" : curl_easy_strerror(code));
}

/* The next exchange that libcurl says is over, or NULL. */
static struct http_exchange *take_done(struct http_client *client)
{
    int left;
    CURLMsg *message;
    do
        message = curl_multi_info_read(client->multi, &left);
    while (message && message->msg != CURLMSG_DONE);
    if (!message)
        return NULL;
    CURLcode code = message->data.result; /* the message is gone after the handle is */
    struct http_exchange *ex = NULL;
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&ex);
    conclude(ex, code);
    release(client, ex);
    return ex;
}

static void give_up(struct http_client *client)
{
    for (size_t i = 0; i < client->settings->concurrency; i++)
        if (client->exchanges[i].busy)
            release(client, &client->exchanges[i]);
}

int http_next(struct http_client *client, struct http_exchange **ret)
{
    int running;
    while (client->running > 0) {
        if (atomic_load(&client->cancelled)) {
            give_up(client);
            return spool_sink_error(SPOOL_EUNAVAILABLE, "%s: interrupted", client->settings->shown);
        }
        CURLMcode code = curl_multi_perform(client->multi, &running);
        if (code == CURLM_OK && (*ret = take_done(client)) != NULL)
            return SPOOL_OK;
        if (code == CURLM_OK)
            code = curl_multi_poll(client->multi, NULL, 0, POLL_MS, NULL);
        if (code != CURLM_OK) {
            give_up(client);
            return spool_sink_error(SPOOL_EUNAVAILABLE, "%s: %s", client->settings->shown, curl_multi_strerror(code));
        }
    }
    return SPOOL_ENOTFOUND;
}

void http_cancel(struct http_client *client)
{
    atomic_store(&client->cancelled, true);
    curl_multi_wakeup(client->multi); /* its failure would only be a pipe that is full of wake-ups */
}

void http_settle(struct http_client *client)
{
    give_up(client);
    atomic_store(&client->cancelled, false);
}

/* Text of strangers on one line. */
static void put_printable(char *ret, size_t size, const struct buffer *text)
{
    size_t at = strlen(ret), n = 0;
    for (; n < text->size && n < HTTP_REASON_BYTES && at + 1 < size; n++) {
        unsigned char c = text->data[n];
        ret[at++] = c >= ' ' && c < 0x7f ? (char)c : ' ';
    }
    ret[at] = '\0';
}

void http_describe(const struct http_client *client, const struct http_exchange *ex, char *ret, size_t size)
{
    const char *url = client->settings->shown;
    if (ex->status == 0) {
        snprintf(ret, size, "%s: %s", url, ex->problem);
        return;
    }
    snprintf(ret, size, "%s answers %ld%s", url, ex->status, ex->answer.size > 0 ? ": " : "");
    put_printable(ret, size, &ex->answer);
}

void http_client_free(struct http_client *client)
{
    if (!client)
        return;
    for (size_t i = 0; client->exchanges && i < client->settings->concurrency; i++) {
        struct http_exchange *ex = &client->exchanges[i];
        if (ex->busy)
            release(client, ex);
        drop_headers(ex);
        curl_easy_cleanup(ex->easy);
        buffer_free(&ex->body);
        buffer_free(&ex->coded);
        buffer_free(&ex->answer);
    }
    free(client->exchanges);
    curl_multi_cleanup(client->multi);
    free_headers(client->common);
    compressor_free(client->compressor);
    free(client);
}
