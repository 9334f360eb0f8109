/* http_client.h - the HTTP client of the sinks `http` and `otlp`: libcurl's multi interface, several exchanges at once
 * on connections that stay open, which another thread can cut short at any stage.
 *
 *     http_settings_read(&config, &settings);           // url, TLS, proxy, credentials: keys of spool.json(5)
 *     http_client_new(&settings, &client);
 *     struct http_exchange *ex = http_prepare(client);  // NULL while all are busy
 *     … fill ex->body, http_header(ex, …) …
 *     http_start(client, ex);
 *     http_next(client, &ex);                           // the next one that is over: ex->status and so on
 *     http_settle(client);                              // at the end of each deliver
 *
 * Cancelling: every wait is curl_multi_poll(), which curl_multi_wakeup() ends; no call of libcurl blocks besides. A
 * name that is being looked up is the exception: libcurl does that by getaddrinfo() in a thread of its own, and would
 * join that thread when the exchange is given up, which takes as long as the name servers do. CURLOPT_QUICK_EXIT (7.87)
 * leaves it to itself instead; it ends by getaddrinfo()'s own timeout, so this object must not be unloaded (it is
 * linked with -z nodelete).
 *
 * All calls but http_cancel() from one thread at a time. Messages are left by spool_sink_error(), and no secret is ever
 * in one: an address is shown without its query. */
#ifndef DELIVERY_SINKS_HTTP_CLIENT_H
#define DELIVERY_SINKS_HTTP_CLIENT_H

#include <curl/curl.h>
#include <stdbool.h>

#include "http_compress.h"
#include "plugin.h"

/* A secret, referred to and as it was read last. */
struct http_secret {
    struct secret from;
    char *value; /* NULL: none, or not read yet */
};

/* A header that every request carries. */
struct http_header {
    char *name, *text;         /* text: as it is, or what stands in front of the secret ("Bearer ") */
    struct http_secret secret; /* may be none */
};

struct http_settings {
    char *url;          /* http or https, without user and password */
    const char *method; /* static; NULL: POST */
    char *shown;        /* the same without its query, for messages */
    struct http_header *headers;
    size_t header_count;
    char *user, *proxy, *proxy_user, *ca_file, *cert_file, *key_file; /* NULL: none */
    struct http_secret password, proxy_password, key_password;
    bool tls_verify;
    int version, compression;                                   /* enum http_version, enum compression */
    uint64_t compress_min;                                      /* smaller bodies are sent as they are */
    uint64_t connect_timeout_ms, request_timeout_ms, redirects; /* request_timeout_ms 0: none but the sink's */
    uint64_t concurrency;                                       /* exchanges at once, 1 to 64: set by the sink */
    uint64_t response_max;                                      /* bytes of an answer that are read at most */
};

/* Those keys, for listings. */
#define HTTP_SETTINGS                                                                                                  \
    {"headers", "object", "name: text, or {\"env\": …} or {\"file\": …}, with \"prefix\""},                            \
        {"bearer", "env or file", "where the token of `Authorization: Bearer` is"},                                    \
        {"user, password", "text; env or file", "basic authentication"},                                               \
        {"compression", "none (default), gzip, zstd", "of requests"},                                                  \
        {"compress_min", "size, 1KiB", "smaller ones are sent as they are"},                                           \
        {"http_version", "auto (default), 1.1, 2, 2-prior-knowledge", "auto: 2 where TLS offers it"},                  \
        {"connect_timeout", "duration, 10s", "of name look-up, connection and TLS"},                                   \
        {"request_timeout", "duration (otlp: 10s)", "of a request; then all wait and are sent again"},                 \
        {"redirects", "number, 0", "that are followed at most"},                                                       \
        {"response_bytes", "size, 256KiB", "of an answer that are read at most"},                                      \
        {"tls_verify", "true (default), false", "the server's certificate and name"},                                  \
        {"ca_file", "path", "certificates to trust in place of the system's"},                                         \
        {"cert_file, key_file", "path", "the client's certificate and key, PEM"},                                      \
        {"key_password", "env or file", "of the key"},                                                                 \
        {"proxy", "text", "its address; default: from http_proxy, https_proxy, no_proxy"},                             \
    {                                                                                                                  \
        "proxy_user, proxy_password", "text; env or file", "of the proxy"                                              \
    }

/* Reads all of them. The sink sets the rest: the address by http_settings_url(), concurrency, and before this call its
 * own default of request_timeout_ms. SPOOL_ECONFIG. Release also after a failure. */
int http_settings_read(struct config *config, struct http_settings *ret);
/* Takes an address over, of which messages say that it is `key`'s: http or https, without user and password. With
 * `is_secret` messages show its host alone. SPOOL_ECONFIG. */
int http_settings_url(struct http_settings *settings, const char *kind, const char *key, const char *url,
                      bool is_secret);
/* Adds a header whose value is no secret of the configuration (it may be one of the environment). ENOMEM. */
int http_settings_header(struct http_settings *settings, const char *name, const char *text);
/* Every combination makes sense. SPOOL_ECONFIG. */
int http_settings_check(const struct http_settings *settings, const char *kind);
void http_settings_free(struct http_settings *settings);

enum { HTTP_CONCURRENCY_MAX = 64, HTTP_REASON_BYTES = 160 };

struct http_exchange {
    struct buffer body;       /* of the request; may be filled again after each exchange */
    size_t first, end, count; /* for the caller: which events it holds */
    /* The answer. `status` 0: there is none, and `problem` says why. */
    long status;
    uint64_t retry_after_ms; /* 0: not said */
    struct buffer answer;    /* its body, as far as it was read */
    bool cut;                /* there was more of it than response_max */
    char problem[CURL_ERROR_SIZE];
    /* The client's own. */
    const struct http_settings *settings;
    CURL *easy;
    struct buffer coded; /* the body, compressed */
    struct curl_slist *headers, *last;
    bool busy, failed; /* failed: a header could not be kept */
    bool head_ended;   /* the empty line behind the headers was read */
};

struct http_client;

/* `settings` must outlive it; its secrets are read through it. ENOMEM, SPOOL_ECONFIG (this libcurl cannot do what was
 * asked for). */
int http_client_new(struct http_settings *settings, struct http_client **ret);
void http_client_free(struct http_client *client);

/* Reads the secrets, so that those that were renewed are used. To be called before the first exchange of each deliver.
 * SPOOL_ECONFIG: one is not there; ENOMEM. */
int http_refresh(struct http_client *client);

/* A free exchange with an empty body and no headers of its own; NULL if none is. */
struct http_exchange *http_prepare(struct http_client *client);
/* "Name: value" for this request; trouble is kept and told by http_start(). */
void http_header(struct http_exchange *ex, const char *name, const char *value);
/* Sends it.. SPOOL_EUNAVAILABLE, ENOMEM; then it is free again. */
int http_start(struct http_client *client, struct http_exchange *ex);
size_t http_running(const struct http_client *client);

/* Waits for an exchange to be over and returns it; it may be prepared again then. SPOOL_EUNAVAILABLE when cancelled:
 * all exchanges are given up. SPOOL_ENOTFOUND when none runs. */
int http_next(struct http_client *client, struct http_exchange **ret);

/* Any thread: makes http_next() of the deliver that runs, or of the next one, return at once. */
void http_cancel(struct http_client *client);
/* Ends a deliver: gives up what runs, forgets a cancel. */
void http_settle(struct http_client *client);

/* "503 Service Unavailable from https://x/y: overloaded" or why there was no answer: one line, printable. */
void http_describe(const struct http_client *client, const struct http_exchange *ex, char *ret, size_t size);

/* Milliseconds that a Retry-After header asks for, in seconds or as a date beside `now_s` (since 1970): 0 if it says
 * neither, at most a day. */
uint64_t http_retry_after_ms(const char *text, int64_t now_s);

#endif
