/* redis_link.h - a connection to Redis, plain, by TLS or by a Unix socket, of which no call waits without looking
 * whether it was cancelled. hiredis reads the replies; its own connections cannot be interrupted, and know no TLS in
 * Debian 12.
 *
 * All functions answer SPOOL_EUNAVAILABLE or SPOOL_ECONFIG (what somebody must mend: password, rights, types), with a
 * message by spool_sink_error(). After SPOOL_EUNAVAILABLE the connection may be closed: link->fd is -1. */
#ifndef DELIVERY_SINKS_REDIS_LINK_H
#define DELIVERY_SINKS_REDIS_LINK_H

#include <hiredis/hiredis.h>
#include <openssl/ssl.h>

#include "plugin.h"

/* Where to connect, from a URL: redis://[USER@]HOST[:PORT][/DB], rediss:// for TLS, unix:///PATH. */
struct redis_where {
    char *host, *user; /* host: of a Unix socket its path */
    char port[8];
    unsigned db;
    bool tls, local;
    char *ca, *cert, *key; /* files; NULL: the system's authorities; no certificate of our own */
};

struct redis_link {
    int fd; /* -1: not connected */
    SSL_CTX *context;
    SSL *ssl;
    redisReader *reader;
    const struct cancel *cancel;
};

/* SPOOL_ECONFIG with a message. A password in the URL is refused. */
int redis_parse_url(const char *url, struct redis_where *ret);
void redis_where_free(struct redis_where *where);

int redis_link_open(struct redis_link *link, const struct redis_where *where, uint64_t timeout_ms);
void redis_link_close(struct redis_link *link);

/* The parts of a command in Redis' protocol, appended to `out`: first the number of its words. ENOMEM. */
int redis_words(struct buffer *out, size_t count);
int redis_word(struct buffer *out, const void *bytes, size_t size);
int redis_text(struct buffer *out, const char *text);
int redis_number(struct buffer *out, uint64_t number);

/* Sends one command and waits for its reply: freeReplyObject(). A reply that is an error is a failure. */
int redis_ask(struct redis_link *link, const struct buffer *command, redisReply **ret);
/* The same for a few words, the last one NULL. `ret` may be NULL. */
int redis_say(struct redis_link *link, redisReply **ret, const char *const *words);

#endif
