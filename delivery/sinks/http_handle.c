/* http_handle.c - libcurl's handle of an exchange: the options that every request has, and the hooks that take its
 * answer. */
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "http_handle.h"

#if LIBCURL_VERSION_NUM < 0x075700
#error "libcurl 7.87 or newer is needed: CURLOPT_QUICK_EXIT"
#endif

/* More than is wanted of an answer ends the exchange: what counts of it has been read. */
static size_t take_answer(char *bytes, size_t size, size_t n, void *user)
{
    struct http_exchange *ex = user;
    size_t room = ex->settings->response_max - ex->answer.size, all = size * n;
    ex->cut = all > room;
    if (buffer_put(&ex->answer, bytes, ex->cut ? room : all) != 0)
        return CURL_WRITEFUNC_ERROR;
    return ex->cut ? CURL_WRITEFUNC_ERROR : all;
}

/* The lines of an answer's head, one a call. libcurl is content with a head that breaks off: we are not. */
static size_t take_line(char *bytes, size_t size, size_t n, void *user)
{
    struct http_exchange *ex = user;
    size_t all = size * n;
    if (all > 5 && memcmp(bytes, "HTTP/", 5) == 0) /* another one, behind a 100 or a redirect */
        ex->head_ended = false;
    else if (all <= 2) /* the empty line; trailers may follow the body */
        ex->head_ended = true;
    return all;
}

static const long versions[] = {CURL_HTTP_VERSION_NONE, CURL_HTTP_VERSION_1_1, CURL_HTTP_VERSION_2,
                                CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE};

/* Sets one option after another until one is refused, whose code stays. */
#define SET(option, value)                                                                                             \
    if (code == CURLE_OK)                                                                                              \
    code = curl_easy_setopt(easy, option, value)

static CURLcode set_transport(CURL *easy, const struct http_settings *s)
{
    CURLcode code = CURLE_OK;
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_QUICK_EXIT, 1L);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_REDIR_PROTOCOLS_STR, strncasecmp(s->url, "https", 5) == 0 ? "https" : "http,https");
    SET(CURLOPT_FOLLOWLOCATION, s->redirects > 0 ? 1L : 0L);
    SET(CURLOPT_MAXREDIRS, (long)s->redirects);
    SET(CURLOPT_POSTREDIR, (long)CURL_REDIR_POST_ALL);
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)s->connect_timeout_ms);
    SET(CURLOPT_TIMEOUT_MS, (long)s->request_timeout_ms);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_HTTP_VERSION, versions[s->version]);
    SET(CURLOPT_PIPEWAIT, 1L); /* rather one more stream of a connection than one more connection */
    if (s->proxy)
        SET(CURLOPT_PROXY, s->proxy);
    return code;
}

static CURLcode set_tls(CURL *easy, const struct http_settings *s)
{
    CURLcode code = CURLE_OK;
    SET(CURLOPT_SSL_VERIFYPEER, s->tls_verify ? 1L : 0L);
    SET(CURLOPT_SSL_VERIFYHOST, s->tls_verify ? 2L : 0L);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (s->ca_file)
        SET(CURLOPT_CAINFO, s->ca_file);
    if (s->cert_file)
        SET(CURLOPT_SSLCERT, s->cert_file);
    if (s->key_file)
        SET(CURLOPT_SSLKEY, s->key_file);
    return code;
}

static CURLcode set_exchange(CURL *easy, const struct http_settings *s, struct http_exchange *ex)
{
    CURLcode code = CURLE_OK;
    SET(CURLOPT_URL, s->url);
    SET(CURLOPT_POST, 1L);
    if (s->method)
        SET(CURLOPT_CUSTOMREQUEST, s->method);
    SET(CURLOPT_USERAGENT, "libspool/" SPOOL_BUILD_VERSION);
    SET(CURLOPT_ERRORBUFFER, ex->problem);
    SET(CURLOPT_HEADERFUNCTION, take_line);
    SET(CURLOPT_HEADERDATA, ex);
    SET(CURLOPT_WRITEFUNCTION, take_answer);
    SET(CURLOPT_WRITEDATA, ex);
    SET(CURLOPT_PRIVATE, ex);
    return code;
}

int http_refused(CURLcode code)
{
    if (code == CURLE_OUT_OF_MEMORY)
        return spool_sink_error(ENOMEM, "out of memory");
    return spool_sink_error(SPOOL_ECONFIG, "libcurl refuses an option: %s", curl_easy_strerror(code));
}

int http_handle_secrets(CURL *easy, const struct http_settings *s)
{
    CURLcode code = CURLE_OK;
    if (s->user) {
        SET(CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
        SET(CURLOPT_USERNAME, s->user);
        SET(CURLOPT_PASSWORD, s->password.value);
    }
    if (s->proxy_user) {
        SET(CURLOPT_PROXYUSERNAME, s->proxy_user);
        SET(CURLOPT_PROXYPASSWORD, s->proxy_password.value);
    }
    if (s->key_password.value)
        SET(CURLOPT_KEYPASSWD, s->key_password.value);
    return code == CURLE_OK ? SPOOL_OK : http_refused(code);
}
#undef SET

int http_handle_make(const struct http_settings *settings, struct http_exchange *ex)
{
    ex->settings = settings;
    ex->easy = curl_easy_init();
    if (!ex->easy)
        return http_refused(CURLE_OUT_OF_MEMORY);
    CURLcode code = set_transport(ex->easy, settings);
    if (code == CURLE_OK)
        code = set_tls(ex->easy, settings);
    if (code == CURLE_OK)
        code = set_exchange(ex->easy, settings, ex);
    return code == CURLE_OK ? SPOOL_OK : http_refused(code);
}
