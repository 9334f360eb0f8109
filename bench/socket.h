/* socket.h - a blocking connection to a server on this machine, with a buffer in each direction. */
#ifndef BENCH_SOCKET_H
#define BENCH_SOCKET_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "case.h"

struct connection {
    int fd;
    char *out;
    size_t out_size, out_cap;
    char in[65536];
    size_t in_at, in_size;
};

static inline struct sockaddr_in socket_address(const char *address)
{
    struct sockaddr_in sin = {.sin_family = AF_INET};
    const char *colon = address ? strrchr(address, ':') : NULL;
    char host[64] = "";
    if (!colon || (size_t)(colon - address) >= sizeof host)
        errx(2, "--address HOST:PORT is missing");
    memcpy(host, address, (size_t)(colon - address));
    sin.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    if (inet_pton(AF_INET, host, &sin.sin_addr) != 1)
        errx(2, "%s: not an address", address);
    return sin;
}

static inline struct connection *connection_open(const char *address)
{
    struct connection *c = calloc(1, sizeof *c);
    struct sockaddr_in sin = socket_address(address);
    int on = 1;
    if (!c || (c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0)
        err(1, "socket");
    if (connect(c->fd, (struct sockaddr *)&sin, sizeof sin) != 0)
        err(1, "%s", address);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return c;
}

static inline void connection_close(void *connection)
{
    struct connection *c = connection;
    close(c->fd);
    free(c->out);
    free(c);
}

static inline void connection_put(struct connection *c, const void *bytes, size_t size)
{
    if (c->out_size + size > c->out_cap) {
        c->out_cap = (c->out_size + size) * 2;
        c->out = realloc(c->out, c->out_cap);
        if (!c->out)
            err(1, "connection");
    }
    memcpy(c->out + c->out_size, bytes, size);
    c->out_size += size;
}

static inline void connection_send(struct connection *c)
{
    for (size_t at = 0; at < c->out_size;) {
        ssize_t n = send(c->fd, c->out + at, c->out_size - at, MSG_NOSIGNAL);
        if (n <= 0)
            err(1, "send");
        at += (size_t)n;
    }
    c->out_size = 0;
}

static inline void connection_fill(struct connection *c)
{
    if (c->in_at < c->in_size)
        return;
    ssize_t n = recv(c->fd, c->in, sizeof c->in, 0);
    if (n <= 0)
        errx(1, "the server has closed the connection");
    c->in_at = 0;
    c->in_size = (size_t)n;
}

static inline void connection_get(struct connection *c, void *bytes, size_t size)
{
    char *to = bytes;
    while (size > 0) {
        connection_fill(c);
        size_t take = c->in_size - c->in_at < size ? c->in_size - c->in_at : size;
        if (to) {
            memcpy(to, c->in + c->in_at, take);
            to += take;
        }
        c->in_at += take;
        size -= take;
    }
}

/* One line without its end; the rest of one that is too long is left out. */
static inline void connection_line(struct connection *c, char *line, size_t cap)
{
    size_t size = 0;
    for (char byte = 0; byte != '\n';) {
        connection_fill(c);
        byte = c->in[c->in_at++];
        if (byte != '\n' && byte != '\r' && size + 1 < cap)
            line[size++] = byte;
    }
    line[size] = 0;
}

#endif
