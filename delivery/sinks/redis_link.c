/* redis_link.c - see redis_link.h. */
#include "redis_link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "plugin_resolve.h"

enum { READ_BYTES = 64 << 10 };

/* --------------------------------------------------------------------------------------------------------------- URL
 */

static int wrong_url(const char *what)
{
    return spool_sink_error(SPOOL_ECONFIG, "configuration of the redis sink: \"url\" %s", what);
}

/* Nothing becomes NULL. */
static int copy(const char *from, size_t size, char **ret)
{
    *ret = size > 0 ? strndup(from, size) : NULL;
    return *ret || size == 0 ? SPOOL_OK : spool_sink_error(ENOMEM, "out of memory");
}

/* HOST[:PORT]; an address of IPv6 stands in brackets. */
static int parse_authority(const char *at, size_t size, struct redis_where *ret)
{
    const char *end = at + size, *host = at, *host_end = memchr(at, ':', size);
    if (size > 0 && *at == '[') {
        host = at + 1;
        host_end = memchr(at, ']', size);
        if (!host_end)
            return wrong_url("lacks a ]");
    }
    if (!host_end)
        host_end = end;
    const char *colon = host_end < end && *host_end == ']' ? host_end + 1 : host_end;
    const char *port = colon < end ? colon + 1 : "6379";
    int digits = colon < end ? (int)(end - port) : 4;
    if ((colon < end && *colon != ':') || digits < 1 || digits > 5 || (int)strspn(port, "0123456789") < digits)
        return wrong_url("has a port that is none");
    snprintf(ret->port, sizeof ret->port, "%.*s", digits, port);
    int code = copy(host, (size_t)(host_end - host), &ret->host);
    return ret->host || code != SPOOL_OK ? code : wrong_url("names no host");
}

static int parse_remote(const char *at, struct redis_where *ret)
{
    size_t size = strcspn(at, "/");
    const char *user_end = memchr(at, '@', size), *db = at + size + (at[size] == '/');
    char *end;
    if (user_end && memchr(at, ':', (size_t)(user_end - at)))
        return wrong_url("must not hold a password, as it is stored and shown: use \"password\"");
    int code = user_end ? copy(at, (size_t)(user_end - at), &ret->user) : SPOOL_OK;
    if (code != SPOOL_OK)
        return code;
    ret->db = (unsigned)strtoul(*db ? db : "0", &end, 10);
    if (*end || ret->db > 65535)
        return wrong_url("ends with what is no number of a database");
    const char *authority = user_end ? user_end + 1 : at;
    return parse_authority(authority, size - (size_t)(authority - at), ret);
}

int redis_parse_url(const char *url, struct redis_where *ret)
{
    ret->tls = strncmp(url, "rediss://", 9) == 0;
    if (ret->tls || strncmp(url, "redis://", 8) == 0)
        return parse_remote(url + (ret->tls ? 9 : 8), ret);
    ret->local = strncmp(url, "unix:///", 8) == 0;
    if (!ret->local)
        return wrong_url("must begin with redis://, rediss:// or unix:///");
    ret->host = strdup(url + 7);
    if (ret->host && strlen(ret->host) >= sizeof((struct sockaddr_un *)0)->sun_path)
        return wrong_url("names a socket with too long a path");
    return ret->host ? SPOOL_OK : spool_sink_error(ENOMEM, "out of memory");
}

void redis_where_free(struct redis_where *where)
{
    char *all[] = {where->host, where->user, where->ca, where->cert, where->key};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    *where = (struct redis_where){0};
}

/* ---------------------------------------------------------------------------------------------------------- failures
 */

static int failed(struct redis_link *link, const char *what)
{
    redis_link_close(link);
    return spool_sink_error(SPOOL_EUNAVAILABLE, "Redis: %s", what);
}

static int failed_wait(struct redis_link *link, enum cancel_wait how)
{
    return failed(link, how == WAIT_CANCELLED ? "cancelled" : "no answer within connect_timeout");
}

static int failed_tls(struct redis_link *link)
{
    char text[160] = "the connection is lost";
    long verified = link->ssl ? SSL_get_verify_result(link->ssl) : X509_V_OK;
    unsigned long error = ERR_get_error();
    if (verified != X509_V_OK)
        snprintf(text, sizeof text, "the certificate is not trusted: %s", X509_verify_cert_error_string(verified));
    else if (error)
        ERR_error_string_n(error, text, sizeof text);
    ERR_clear_error();
    return failed(link, text);
}

/* What no waiting mends. Scripts put the word somewhere into their message. */
static bool is_wrong(const char *message)
{
    static const char *const words[] = {"NOAUTH",          "WRONGPASS",        "NOPERM",
                                        "WRONGTYPE",       "MOVED ",           "invalid password",
                                        "unknown command", "invalid DB index", "out of range"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strstr(message, words[i]))
            return true;
    return false;
}

/* ------------------------------------------------------------------------------------------------------------ bytes */

/* One of the four: SSL_ERROR_NONE with *ret_n, SSL_ERROR_WANT_READ, _WANT_WRITE, or anything else: it is over. */
static int try_write(struct redis_link *link, const void *bytes, size_t size, size_t *ret_n)
{
    if (link->ssl)
        return SSL_get_error(link->ssl, SSL_write_ex(link->ssl, bytes, size, ret_n) ? 1 : 0);
    ssize_t n = send(link->fd, bytes, size, MSG_NOSIGNAL);
    *ret_n = n > 0 ? (size_t)n : 0;
    return n >= 0 ? SSL_ERROR_NONE : errno == EAGAIN || errno == EINTR ? SSL_ERROR_WANT_WRITE : SSL_ERROR_SYSCALL;
}

static int try_read(struct redis_link *link, void *bytes, size_t size, size_t *ret_n)
{
    if (link->ssl)
        return SSL_get_error(link->ssl, SSL_read_ex(link->ssl, bytes, size, ret_n) ? 1 : 0);
    ssize_t n = recv(link->fd, bytes, size, 0);
    *ret_n = n > 0 ? (size_t)n : 0;
    return n > 0                                          ? SSL_ERROR_NONE
           : n < 0 && (errno == EAGAIN || errno == EINTR) ? SSL_ERROR_WANT_READ
                                                          : SSL_ERROR_SYSCALL;
}

/* Waits for what the last try wanted. */
static int wait_for(struct redis_link *link, int wants, uint64_t deadline_ns)
{
    if (wants != SSL_ERROR_WANT_READ && wants != SSL_ERROR_WANT_WRITE)
        return link->ssl ? failed_tls(link) : failed(link, "the connection is lost");
    enum cancel_wait how =
        cancel_wait(link->cancel, link->fd, wants == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, deadline_ns);
    return how == WAIT_READY ? SPOOL_OK : failed_wait(link, how);
}

static int send_all(struct redis_link *link, const uint8_t *bytes, size_t size)
{
    int code = SPOOL_OK;
    while (size > 0 && code == SPOOL_OK) {
        size_t n = 0;
        int wants = try_write(link, bytes, size, &n);
        bytes += n;
        size -= n;
        if (wants != SSL_ERROR_NONE)
            code = wait_for(link, wants, DEADLINE_NEVER);
    }
    return code;
}

static int read_reply(struct redis_link *link, redisReply **ret)
{
    char bytes[READ_BYTES];
    int code = SPOOL_OK;
    void *reply = NULL;
    while (code == SPOOL_OK && !reply) {
        size_t n = 0;
        int wants = try_read(link, bytes, sizeof bytes, &n);
        if (wants != SSL_ERROR_NONE)
            code = wait_for(link, wants, DEADLINE_NEVER);
        else if (redisReaderFeed(link->reader, bytes, n) != REDIS_OK ||
                 redisReaderGetReply(link->reader, &reply) != REDIS_OK)
            code = failed(link, link->reader->errstr);
    }
    if (code == SPOOL_OK)
        *ret = reply;
    return code;
}

/* ------------------------------------------------------------------------------------------------------- connecting */

static int start_tls(struct redis_link *link, const struct redis_where *where, uint64_t deadline_ns)
{
    link->context = SSL_CTX_new(TLS_client_method());
    bool good = link->context && SSL_CTX_set_min_proto_version(link->context, TLS1_2_VERSION);
    good = good && (where->ca ? SSL_CTX_load_verify_locations(link->context, where->ca, NULL)
                              : SSL_CTX_set_default_verify_paths(link->context));
    if (good && where->cert)
        good = SSL_CTX_use_certificate_chain_file(link->context, where->cert) == 1 &&
               SSL_CTX_use_PrivateKey_file(link->context, where->key ? where->key : where->cert, SSL_FILETYPE_PEM) == 1;
    if (good) {
        SSL_CTX_set_verify(link->context, SSL_VERIFY_PEER, NULL);
        link->ssl = SSL_new(link->context);
    }
    good = good && link->ssl && SSL_set_fd(link->ssl, link->fd);
    struct in6_addr address;
    bool is_address = inet_pton(AF_INET, where->host, &address) == 1 || inet_pton(AF_INET6, where->host, &address) == 1;
    if (good && is_address)
        good = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(link->ssl), where->host) == 1;
    else if (good)
        good = SSL_set1_host(link->ssl, where->host) && SSL_set_tlsext_host_name(link->ssl, where->host);
    int code = good ? SPOOL_OK : failed_tls(link);
    for (int done = 0; code == SPOOL_OK && done != 1;) {
        done = SSL_connect(link->ssl);
        if (done != 1)
            code = wait_for(link, SSL_get_error(link->ssl, done), deadline_ns);
    }
    return code;
}

/* One address. */
static int connect_to(struct redis_link *link, const struct sockaddr *address, socklen_t size, uint64_t deadline_ns)
{
    int err = 0, on = 1;
    socklen_t err_size = sizeof err;
    link->fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (link->fd < 0)
        return failed(link, spool_strerror(errno));
    if (address->sa_family != AF_UNIX) { /* best effort: without them it only notices later that nobody is there */
        setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(link->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    }
    if (connect(link->fd, address, size) == 0)
        return SPOOL_OK;
    if (errno != EINPROGRESS)
        return failed(link, spool_strerror(errno));
    enum cancel_wait how = cancel_wait(link->cancel, link->fd, POLLOUT, deadline_ns);
    if (how != WAIT_READY)
        return failed_wait(link, how);
    if (getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &err, &err_size) != 0 || err != 0)
        return failed(link, spool_strerror(err ? err : errno));
    return SPOOL_OK;
}

static int connect_by_name(struct redis_link *link, const struct redis_where *where, uint64_t deadline_ns)
{
    struct addrinfo *found = NULL;
    int code = resolve(link->cancel, where->host, deadline_ns, &found);
    if (code != SPOOL_OK)
        return code;
    code = SPOOL_EUNAVAILABLE;
    for (struct addrinfo *at = found; at && code != SPOOL_OK && !cancel_is_set(link->cancel); at = at->ai_next) {
        struct sockaddr_storage address = {0};
        memcpy(&address, at->ai_addr, at->ai_addrlen);
        uint16_t port = htons((uint16_t)strtoul(where->port, NULL, 10));
        if (at->ai_family == AF_INET6)
            ((struct sockaddr_in6 *)&address)->sin6_port = port;
        else
            ((struct sockaddr_in *)&address)->sin_port = port;
        code = connect_to(link, (struct sockaddr *)&address, at->ai_addrlen, deadline_ns);
    }
    freeaddrinfo(found);
    return code;
}

static int connect_locally(struct redis_link *link, const struct redis_where *where, uint64_t deadline_ns)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", where->host);
    return connect_to(link, (struct sockaddr *)&address, sizeof address, deadline_ns);
}

int redis_link_open(struct redis_link *link, const struct redis_where *where, uint64_t timeout_ms)
{
    uint64_t deadline_ns = deadline_in_ms(timeout_ms);
    int code = where->local ? connect_locally(link, where, deadline_ns) : connect_by_name(link, where, deadline_ns);
    if (code == SPOOL_OK && where->tls)
        code = start_tls(link, where, deadline_ns);
    if (code == SPOOL_OK && !(link->reader = redisReaderCreate()))
        code = failed(link, "out of memory");
    return code;
}

void redis_link_close(struct redis_link *link)
{
    SSL_free(link->ssl);
    SSL_CTX_free(link->context);
    if (link->reader)
        redisReaderFree(link->reader);
    if (link->fd >= 0)
        close(link->fd);
    *link = (struct redis_link){.fd = -1, .cancel = link->cancel};
}

/* --------------------------------------------------------------------------------------------------------- commands */

int redis_words(struct buffer *out, size_t count)
{
    return buffer_printf(out, "*%zu\r\n", count);
}

int redis_word(struct buffer *out, const void *bytes, size_t size)
{
    int err = buffer_printf(out, "$%zu\r\n", size);
    if (!err)
        err = buffer_put(out, bytes, size);
    return err ? err : buffer_put(out, "\r\n", 2);
}

int redis_text(struct buffer *out, const char *text)
{
    return redis_word(out, text, strlen(text));
}

int redis_number(struct buffer *out, uint64_t number)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%llu", (unsigned long long)number);
    return redis_text(out, digits);
}

int redis_ask(struct redis_link *link, const struct buffer *command, redisReply **ret)
{
    redisReply *reply = NULL;
    int code = send_all(link, command->data, command->size);
    if (code == SPOOL_OK)
        code = read_reply(link, &reply);
    if (code != SPOOL_OK)
        return code;
    if (reply->type != REDIS_REPLY_ERROR) {
        *ret = reply;
        return SPOOL_OK;
    }
    code = spool_sink_error(is_wrong(reply->str) ? SPOOL_ECONFIG : SPOOL_EUNAVAILABLE, "Redis: %.200s", reply->str);
    freeReplyObject(reply);
    return code;
}

int redis_say(struct redis_link *link, redisReply **ret, const char *const *words)
{
    struct buffer command = {0};
    redisReply *reply = NULL;
    size_t count = 0;
    while (words[count])
        count++;
    int err = redis_words(&command, count);
    for (size_t i = 0; i < count && !err; i++)
        err = redis_text(&command, words[i]);
    int code = err ? spool_sink_error(SPOOL_EUNAVAILABLE, "out of memory") : redis_ask(link, &command, &reply);
    if (command.data)
        explicit_bzero(command.data, command.size); /* it may be a password */
    buffer_free(&command);
    if (code == SPOOL_OK && ret)
        *ret = reply;
    else if (code == SPOOL_OK)
        freeReplyObject(reply);
    return code;
}
