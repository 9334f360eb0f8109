/* syslog_link.c - see syslog_link.h.
 *
 * Syslog over a stream has no answers (RFC 6587, RFC 5425): what was written may stand in buffers on either side when a
 * server goes away, and be lost. So a batch has a connection of its own. At its end we say that no more comes (shutdown
 * of our direction), and wait for the server's end. A server that reads until the end closes only then; one that closes
 * before it has read all, or is killed, makes its kernel answer with a reset (data was left unread, or arrived at
 * nobody). So the batch is confirmed when we see the server's end of file and our kernel has nothing left that was not
 * acknowledged (SIOCOUTQ). A server that announced its end before it has read ours, and then left, would be believed; none
 * does. What no protocol of this kind can tell is whether a server that is killed in the very moment between reading and
 * storing has stored. */
#include "syslog_link.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "plugin_resolve.h"

static int down(const struct link *link, const char *what, int err)
{
    const char *where = link->host ? link->host : link->path;
    return spool_sink_error(SPOOL_EUNAVAILABLE, "%s: %s: %s", where, what, spool_strerror(err));
}

static int waited(const struct link *link, enum cancel_wait wait, const char *what)
{
    if (wait == WAIT_CANCELLED)
        return spool_sink_error(SPOOL_EUNAVAILABLE, "cancelled while %s", what);
    return wait == WAIT_TIMEOUT ? down(link, what, ETIMEDOUT) : SPOOL_OK;
}

/* -------------------------------------------------------------------------------------------------------- connecting
 */

static int finish_connect(struct link *link, uint64_t deadline_ns)
{
    int code = waited(link, cancel_wait(link->cancel, link->fd, POLLOUT, deadline_ns), "connecting");
    int err = 0;
    socklen_t size = sizeof err;
    if (code == SPOOL_OK && (getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &err, &size) != 0 || err != 0))
        code = down(link, "connecting", err ? err : errno);
    return code;
}

static int connect_to(struct link *link, const struct sockaddr *address, socklen_t size, int type, uint64_t deadline_ns)
{
    link->fd = socket(address->sa_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (link->fd < 0)
        return down(link, "connecting", errno);
    int code = SPOOL_OK;
    if (connect(link->fd, address, size) != 0)
        code = errno == EINPROGRESS ? finish_connect(link, deadline_ns) : down(link, "connecting", errno);
    if (code != SPOOL_OK) {
        close(link->fd);
        link->fd = -1;
    }
    return code;
}

static void set_port(struct sockaddr *address, uint16_t port)
{
    if (address->sa_family == AF_INET)
        ((struct sockaddr_in *)address)->sin_port = htons(port);
    else if (address->sa_family == AF_INET6)
        ((struct sockaddr_in6 *)address)->sin6_port = htons(port);
}

static int connect_host(struct link *link, int type, uint64_t deadline_ns)
{
    struct addrinfo *found = NULL;
    int code = resolve(link->cancel, link->host, deadline_ns, &found);
    if (code != SPOOL_OK)
        return code;
    code = SPOOL_EUNAVAILABLE;
    for (struct addrinfo *at = found; at && code != SPOOL_OK && !cancel_is_set(link->cancel); at = at->ai_next) {
        set_port(at->ai_addr, (uint16_t)link->port);
        code = connect_to(link, at->ai_addr, at->ai_addrlen, type, deadline_ns);
    }
    freeaddrinfo(found);
    if (code != SPOOL_OK && cancel_is_set(link->cancel))
        return spool_sink_error(code, "cancelled while connecting");
    return code;
}

static int connect_path(struct link *link, int type, uint64_t deadline_ns)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(link->path) >= sizeof address.sun_path)
        return spool_sink_error(SPOOL_ECONFIG, "%s: longer than a socket's path may be", link->path);
    strcpy(address.sun_path, link->path);
    return connect_to(link, (const struct sockaddr *)&address, sizeof address, type, deadline_ns);
}

int link_open(struct link *link, uint64_t deadline_ns)
{
    int code;
    switch (link->transport) {
    case BY_TCP:
    case BY_TLS:
        code = connect_host(link, SOCK_STREAM, deadline_ns);
        break;
    case BY_UNIX:
        code = connect_path(link, SOCK_STREAM, deadline_ns);
        break;
    case BY_UDP:
        code = connect_host(link, SOCK_DGRAM, deadline_ns);
        break;
    default:
        code = connect_path(link, SOCK_DGRAM, deadline_ns);
    }
    if (code == SPOOL_OK && link->transport == BY_TLS)
        code = tls_begin(link, deadline_ns);
    if (code != SPOOL_OK)
        link_close(link);
    return code;
}

void link_close(struct link *link)
{
    tls_close(link);
    if (link->fd >= 0)
        close(link->fd);
    link->fd = -1;
}

void link_free(struct link *link)
{
    link_close(link);
    SSL_CTX_free(link->context);
    free(link->host);
    free(link->path);
    free(link->ca);
    free(link->cert);
    free(link->key);
    free(link->server_name);
}

/* ----------------------------------------------------------------------------------------------------------- writing
 */

int link_write(struct link *link, const void *bytes, size_t size, uint64_t deadline_ns)
{
    if (link->ssl)
        return tls_write(link, bytes, size, deadline_ns);
    for (const char *at = bytes; size > 0;) {
        ssize_t n = send(link->fd, at, size, MSG_NOSIGNAL);
        if (n >= 0) {
            at += n;
            size -= (size_t)n;
        } else if (errno == EAGAIN) {
            int code = waited(link, cancel_wait(link->cancel, link->fd, POLLOUT, deadline_ns), "sending");
            if (code != SPOOL_OK)
                return code;
        } else if (errno != EINTR)
            return down(link, "sending", errno);
    }
    return SPOOL_OK;
}

/* Reads and throws away until the end; a server has nothing to say but a TLS farewell. */
static int await_end(struct link *link, uint64_t deadline_ns)
{
    char thrown[4096];
    for (;;) {
        int code =
            waited(link, cancel_wait(link->cancel, link->fd, POLLIN, deadline_ns), "waiting for the server's end");
        if (code != SPOOL_OK)
            return code;
        ssize_t n = recv(link->fd, thrown, sizeof thrown, 0);
        if (n == 0)
            return SPOOL_OK;
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return down(link, "the server left before it had read all", errno);
    }
}

/* The acknowledgement of our last bytes may come a moment after the server's end; or a reset, if it was gone before. */
static int await_acknowledged(struct link *link, uint64_t deadline_ns)
{
    int unsent = 0, err = 0;
    socklen_t size = sizeof err;
    for (;;) {
        if (ioctl(link->fd, SIOCOUTQ, &unsent) != 0)
            return down(link, "the server left before it had read all", errno);
        if (getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &err, &size) == 0 && err != 0)
            return down(link, "the server left before it had read all", err);
        if (unsent == 0)
            return SPOOL_OK;
        enum cancel_wait wait = cancel_wait(link->cancel, -1, 0, mono_ns() + NS_PER_MS);
        if (wait == WAIT_CANCELLED || mono_ns() >= deadline_ns)
            return waited(link, wait, "waiting for the server's end");
    }
}

int link_confirm(struct link *link, uint64_t deadline_ns)
{
    int code = link->ssl ? tls_end(link, deadline_ns) : SPOOL_OK;
    if (code == SPOOL_OK && shutdown(link->fd, SHUT_WR) != 0)
        code = down(link, "the server left before it had read all", errno);
    if (code == SPOOL_OK)
        code = await_end(link, deadline_ns);
    if (code == SPOOL_OK)
        code = await_acknowledged(link, deadline_ns);
    link_close(link);
    return code;
}

int link_send(struct link *link, const void *bytes, size_t size, uint64_t deadline_ns)
{
    for (;;) {
        ssize_t n = send(link->fd, bytes, size, MSG_NOSIGNAL);
        if (n >= 0)
            return SPOOL_OK;
        if (errno == EMSGSIZE)
            return spool_sink_error(SPOOL_EREJECTED, "too large for a datagram");
        if (errno != EAGAIN && errno != EINTR && errno != ENOBUFS)
            return down(link, "sending", errno);
        int code = errno == EINTR ? SPOOL_OK
                                  : waited(link, cancel_wait(link->cancel, link->fd, POLLOUT, deadline_ns), "sending");
        if (code != SPOOL_OK)
            return code;
    }
}
