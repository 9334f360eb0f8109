/* syslog_link.h - the way to a syslog server: a stream (TCP, TLS, Unix), confirmed when the server has read all of it;
 * or datagrams, of which nobody ever hears again. Every wait ends at the deadline or when it is cancelled. */
#ifndef DELIVERY_SINKS_SYSLOG_LINK_H
#define DELIVERY_SINKS_SYSLOG_LINK_H

#include <openssl/ssl.h>

#include "plugin.h"

enum transport { BY_TCP, BY_TLS, BY_UNIX, BY_UDP, BY_UNIX_DATAGRAM, BY_JOURNAL };

struct link {
    enum transport transport;
    char *host, *path; /* path: of the socket */
    uint64_t port;
    char *ca, *cert, *key, *server_name; /* TLS: files; the name that the certificate must have (NULL: host) */
    int verify;                          /* 0: full, 1: none */
    const struct cancel *cancel;
    SSL_CTX *context;
    int fd; /* -1: closed */
    SSL *ssl;
    bool is_untrusted; /* the certificate was not trusted the last time */
};

static inline bool link_is_stream(const struct link *link)
{
    return link->transport <= BY_UNIX;
}

/* All: SPOOL_EUNAVAILABLE, or SPOOL_ECONFIG for what only an operator can mend, with a message by spool_sink_error().
 */
int link_open(struct link *link, uint64_t deadline_ns);
int link_write(struct link *link, const void *bytes, size_t size, uint64_t deadline_ns);
/* Streams: says that nothing more comes, and waits until the server has read everything and closed too; then it is
 * closed. */
int link_confirm(struct link *link, uint64_t deadline_ns);
/* One datagram. SPOOL_EREJECTED: too large for one. */
int link_send(struct link *link, const void *bytes, size_t size, uint64_t deadline_ns);
void link_close(struct link *link);
void link_free(struct link *link); /* also what it is configured with */

/* syslog_tls.c: the same as their namesakes, for a link that is connected. */
int tls_begin(struct link *link, uint64_t deadline_ns);
int tls_write(struct link *link, const void *bytes, size_t size, uint64_t deadline_ns);
int tls_end(struct link *link, uint64_t deadline_ns); /* sends the closing alert */
void tls_close(struct link *link);

#endif
