/* http_settings.c - the keys that every sink over HTTP has, read strictly. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http_client.h"

enum {
    HTTP_TIMEOUT_MS_MAX = 3600000,
    CONNECT_TIMEOUT_MS = 10000,
    COMPRESS_MIN = 1024,
    RESPONSE_MAX = 256 << 10,
    RESPONSE_LIMIT = 64 << 20,
    REDIRECTS_MAX = 10,
};

static const char *const version_names[] = {"auto", "1.1", "2", "2-prior-knowledge", NULL}; /* enum http_version */

static int wrong(const char *kind, const char *key, const char *what)
{
    return spool_sink_error(SPOOL_ECONFIG, "configuration of the %s sink: \"%s\" %s", kind, key, what);
}

static int no_memory(void)
{
    return spool_sink_error(ENOMEM, "out of memory");
}

/* -------------------------------------------------------------------------------------------------------- the address
 */

/* The parts of an address that may be shown. CURLUcode. */
static CURLUcode what_is_shown(CURLU *url, bool is_secret, char **ret)
{
    CURLUcode code = curl_url_set(url, CURLUPART_QUERY, NULL, 0);
    if (code == CURLUE_OK && is_secret)
        code = curl_url_set(url, CURLUPART_PATH, NULL, 0);
    if (code == CURLUE_OK)
        code = curl_url_set(url, CURLUPART_FRAGMENT, NULL, 0);
    return code == CURLUE_OK ? curl_url_get(url, CURLUPART_URL, ret, 0) : code;
}

static bool has_part(CURLU *url, CURLUPart part)
{
    char *text = NULL;
    bool there = curl_url_get(url, part, &text, 0) == CURLUE_OK;
    curl_free(text);
    return there;
}

/* CURLUE_UNSUPPORTED_SCHEME: it is something else. */
static CURLUcode check_scheme(CURLU *url)
{
    char *scheme = NULL;
    CURLUcode code = curl_url_get(url, CURLUPART_SCHEME, &scheme, 0);
    if (code == CURLUE_OK && strcasecmp(scheme, "http") != 0 && strcasecmp(scheme, "https") != 0)
        code = CURLUE_UNSUPPORTED_SCHEME;
    curl_free(scheme);
    return code;
}

/* curl's memory and ours come from different functions, in principle. */
static int keep_shown(struct http_settings *s, CURLU *url, bool is_secret)
{
    char *shown = NULL;
    if (what_is_shown(url, is_secret, &shown) != CURLUE_OK)
        return no_memory();
    free(s->shown);
    s->shown = strdup(shown);
    curl_free(shown);
    return s->shown ? SPOOL_OK : no_memory();
}

static int check_url(struct http_settings *s, const char *kind, const char *key, const char *text, CURLU *url,
                     bool is_secret)
{
    CURLUcode code = curl_url_set(url, CURLUPART_URL, text, 0);
    if (code == CURLUE_OK)
        code = check_scheme(url);
    if (code == CURLUE_OUT_OF_MEMORY)
        return no_memory();
    if (code != CURLUE_OK)
        return wrong(kind, key, "must be a whole address that begins with http:// or https://");
    if (has_part(url, CURLUPART_USER) || has_part(url, CURLUPART_PASSWORD))
        return wrong(kind, key, "must hold no user and no password: see \"user\" and \"password\"");
    return keep_shown(s, url, is_secret);
}

int http_settings_url(struct http_settings *settings, const char *kind, const char *key, const char *url,
                      bool is_secret)
{
    CURLU *parts = curl_url();
    char *copy = strdup(url);
    int code = parts && copy ? check_url(settings, kind, key, url, parts, is_secret) : no_memory();
    curl_url_cleanup(parts);
    if (code != SPOOL_OK) {
        free(copy);
        return code;
    }
    free(settings->url);
    settings->url = copy;
    return SPOOL_OK;
}

/* -------------------------------------------------------------------------------------------------------- headers */

/* What the client or the sink sets itself. */
static bool is_ours(const char *name)
{
    static const char *const ours[] = {"content-type", "content-length", "content-encoding", "transfer-encoding",
                                       "expect",       "traceparent",    "idempotency-key"};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (strcasecmp(name, ours[i]) == 0)
            return true;
    return strncasecmp(name, "ce-", 3) == 0;
}

static bool sounds_secret(const char *name)
{
    static const char *const words[] = {"auth", "cookie", "key", "token", "secret", "password", "credential"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcasestr(name, words[i]))
            return true;
    return false;
}

static bool is_token(const char *name)
{
    for (const char *p = name; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("!#$%&'*+-.^_`|~", *p))
            return false;
    return *name != '\0';
}

static bool is_value(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            return false;
    return true;
}

static struct http_header *new_header(struct http_settings *s)
{
    struct http_header *grown = realloc(s->headers, (s->header_count + 1) * sizeof *grown);
    if (!grown)
        return NULL;
    s->headers = grown;
    grown[s->header_count] = (struct http_header){0};
    return &grown[s->header_count++];
}

int http_settings_header(struct http_settings *settings, const char *name, const char *text)
{
    struct http_header *header = new_header(settings);
    if (!header)
        return no_memory();
    header->name = strdup(name);
    header->text = strdup(text);
    return header->name && header->text ? SPOOL_OK : no_memory();
}

/* {"env": NAME} or {"file": PATH}, perhaps with {"prefix": "Bearer "}, which goes in front of the value. Taken out. */
static int read_reference(struct config *headers, struct http_settings *s, const char *name, json_t *value)
{
    const json_t *prefix = json_object_get(value, "prefix");
    const char *text = prefix ? json_string_value(prefix) : "";
    if (!text || !is_value(text))
        return wrong(headers->kind, name, "needs a \"prefix\" that is a text");
    int code = http_settings_header(s, name, text);
    json_object_del(value, "prefix");
    return code == SPOOL_OK ? config_secret(headers, name, true, &s->headers[s->header_count - 1].secret.from) : code;
}

static int read_header(struct config *headers, struct http_settings *s, const char *name, json_t *value)
{
    const char *kind = headers->kind;
    if (!is_token(name) || is_ours(name))
        return wrong(kind, "headers",
                     is_ours(name) ? "names a header that the sink sets itself"
                                   : "has a name that cannot be one of a header");
    if (!json_is_string(value))
        return read_reference(headers, s, name, value);
    if (sounds_secret(name))
        return wrong(kind, "headers",
                     "must not hold a secret, since it is stored and shown: give an object with "
                     "\"env\" or \"file\" in place of the text");
    if (!is_value(json_string_value(value)))
        return wrong(kind, "headers", "holds a control character");
    return http_settings_header(s, name, json_string_value(value));
}

static int read_headers(struct config *config, struct http_settings *s)
{
    struct config headers = {.kind = config->kind, .object = json_object_get(config->object, "headers")};
    json_t *value;
    void *next;
    const char *name;
    int code = SPOOL_OK;
    if (!headers.object)
        return SPOOL_OK;
    if (!json_is_object(headers.object))
        return wrong(config->kind, "headers", "must be an object of names and values");
    json_object_foreach_safe(headers.object, next, name, value)
    {
        code = read_header(&headers, s, name, value);
        if (code != SPOOL_OK)
            return code;
    }
    json_object_del(config->object, "headers");
    return SPOOL_OK;
}

static int read_bearer(struct config *config, struct http_settings *s)
{
    if (!json_object_get(config->object, "bearer"))
        return SPOOL_OK;
    int code = http_settings_header(s, "Authorization", "Bearer ");
    return code == SPOOL_OK ? config_secret(config, "bearer", true, &s->headers[s->header_count - 1].secret.from)
                            : code;
}

/* ------------------------------------------------------------------------------------------------------ the other keys
 */

static int optional_text(struct config *config, const char *key, char **ret)
{
    return json_object_get(config->object, key) ? config_text(config, key, NULL, ret) : SPOOL_OK;
}

static int read_credentials(struct config *config, struct http_settings *s)
{
    int code = optional_text(config, "user", &s->user);
    if (code == SPOOL_OK)
        code = config_secret(config, "password", false, &s->password.from);
    if (code == SPOOL_OK)
        code = optional_text(config, "proxy", &s->proxy);
    if (code == SPOOL_OK)
        code = optional_text(config, "proxy_user", &s->proxy_user);
    if (code == SPOOL_OK)
        code = config_secret(config, "proxy_password", false, &s->proxy_password.from);
    if (code == SPOOL_OK)
        code = read_headers(config, s);
    return code == SPOOL_OK ? read_bearer(config, s) : code;
}

static int read_tls(struct config *config, struct http_settings *s)
{
    int code = config_flag(config, "tls_verify", true, &s->tls_verify);
    if (code == SPOOL_OK)
        code = optional_text(config, "ca_file", &s->ca_file);
    if (code == SPOOL_OK)
        code = optional_text(config, "cert_file", &s->cert_file);
    if (code == SPOOL_OK)
        code = optional_text(config, "key_file", &s->key_file);
    return code == SPOOL_OK ? config_secret(config, "key_password", false, &s->key_password.from) : code;
}

static int read_transfer(struct config *config, struct http_settings *s)
{
    int code = config_choice(config, "http_version", version_names, 0, &s->version);
    if (code == SPOOL_OK)
        code = config_choice(config, "compression", compression_names, COMPRESS_NONE, &s->compression);
    if (code == SPOOL_OK)
        code = config_bytes(config, "compress_min", COMPRESS_MIN, &s->compress_min);
    if (code == SPOOL_OK)
        code = config_duration_ms(config, "connect_timeout", CONNECT_TIMEOUT_MS, &s->connect_timeout_ms);
    if (code == SPOOL_OK)
        code = config_number(config, "redirects", 0, &s->redirects);
    if (code == SPOOL_OK)
        code = config_duration_ms(config, "request_timeout", s->request_timeout_ms, &s->request_timeout_ms);
    return code == SPOOL_OK ? config_bytes(config, "response_bytes", RESPONSE_MAX, &s->response_max) : code;
}

int http_settings_read(struct config *config, struct http_settings *ret)
{
    int code = read_transfer(config, ret);
    if (code == SPOOL_OK)
        code = read_tls(config, ret);
    return code == SPOOL_OK ? read_credentials(config, ret) : code;
}

static bool is_secret(const struct http_secret *secret)
{
    return secret->from.env || secret->from.file;
}

static bool redirects_leak(const struct http_settings *s)
{
    for (size_t i = 0; i < s->header_count; i++)
        if (is_secret(&s->headers[i].secret) && strcasecmp(s->headers[i].name, "authorization") != 0)
            return s->redirects > 0;
    return false;
}

int http_settings_check(const struct http_settings *s, const char *kind)
{
    if (s->concurrency < 1 || s->concurrency > HTTP_CONCURRENCY_MAX)
        return wrong(kind, "concurrency", "must be 1 to 64");
    if (s->request_timeout_ms > HTTP_TIMEOUT_MS_MAX)
        return wrong(kind, "request_timeout", "must be at most 1h");
    if (s->redirects > REDIRECTS_MAX)
        return wrong(kind, "redirects", "must be at most 10");
    if (s->response_max > RESPONSE_LIMIT)
        return wrong(kind, "response_bytes", "must be at most 64MiB");
    if (s->connect_timeout_ms < 1 || s->connect_timeout_ms > HTTP_TIMEOUT_MS_MAX)
        return wrong(kind, "connect_timeout", "must be 1ms to 1h");
    if (is_secret(&s->password) != (s->user != NULL))
        return wrong(kind, "user", "and \"password\" belong together");
    if (is_secret(&s->proxy_password) != (s->proxy_user != NULL))
        return wrong(kind, "proxy_user", "and \"proxy_password\" belong together");
    if (s->proxy && strchr(s->proxy, '@'))
        return wrong(kind, "proxy", "must hold no user and no password: see \"proxy_user\"");
    if (s->key_file && !s->cert_file)
        return wrong(kind, "key_file", "needs \"cert_file\"");
    if (redirects_leak(s))
        return wrong(kind, "redirects", "would carry secrets in headers to another host");
    return SPOOL_OK;
}

static void free_secret(struct http_secret *secret)
{
    secret_free(&secret->from);
    secret_wipe(secret->value);
}

void http_settings_free(struct http_settings *s)
{
    for (size_t i = 0; i < s->header_count; i++) {
        free(s->headers[i].name);
        free(s->headers[i].text);
        free_secret(&s->headers[i].secret);
    }
    free(s->headers);
    char *const texts[] = {s->url, s->shown, s->user, s->proxy, s->proxy_user, s->ca_file, s->cert_file, s->key_file};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        free(texts[i]);
    free_secret(&s->password);
    free_secret(&s->proxy_password);
    free_secret(&s->key_password);
    *s = (struct http_settings){0};
}
