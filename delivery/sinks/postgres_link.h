/* postgres_link.h - a connection to PostgreSQL of which no call waits without looking whether it was cancelled.
 *
 * libpq is used without blocking: every wait is cancel_wait() on its socket. Names are looked up by plugin_resolve.h,
 * since libpq would wait for the name server itself; it is given addresses, and the names only to verify certificates
 * by.
 *
 * All functions leave a message by spool_sink_error() and answer
 *   SPOOL_EUNAVAILABLE  the server is down or busy, or it was cancelled: tried again with backoff
 *   SPOOL_ECONFIG       no such user, database, table, right: somebody must look at it
 *   SPOOL_EREJECTED     the data is refused (classes 22, 23 and 54 of SQLSTATE) */
#ifndef DELIVERY_SINKS_POSTGRES_LINK_H
#define DELIVERY_SINKS_POSTGRES_LINK_H

#include <libpq-fe.h>

#include "plugin.h"

struct pg_link {
    PGconn *conn; /* NULL: not connected */
    const struct cancel *cancel;
    char sqlstate[6]; /* of the last failure; "" if the server said none */
};

/* Connects with the options of `given` (PQconninfoParse) and the password (NULL: none) until the timeout. What is not
 * given is decided for safety: certificates are verified against the system's authorities. */
int link_open(struct pg_link *link, const PQconninfoOption *given, const char *password, uint64_t timeout_ms);
void link_close(struct pg_link *link); /* also one that is not open */

/* Runs SQL, which may be several statements; their rows are dropped. After a COPY … FROM STDIN at its end link_put()
 * and link_end() follow. */
int link_run(struct pg_link *link, const char *sql);
/* Runs one statement and hands over its rows: PQclear(). */
int link_ask(struct pg_link *link, const char *sql, PGresult **ret);
int link_put(struct pg_link *link, const void *bytes, size_t size);
int link_end(struct pg_link *link);

#endif
