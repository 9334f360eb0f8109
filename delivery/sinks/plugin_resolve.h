/* plugin_resolve.h - the addresses of a host's name, in a way that cancel ends at once.
 *
 * getaddrinfo() may wait for a name server for as long as that likes, and nothing interrupts it. So it runs in a thread
 * of its own; whoever asked waits for it, and leaves it alone when cancelled: the thread frees what nobody waits for
 * any more when it is through. */
#ifndef DELIVERY_SINKS_PLUGIN_RESOLVE_H
#define DELIVERY_SINKS_PLUGIN_RESOLVE_H

#include <netdb.h>

#include "plugin_cancel.h"

/* The addresses of `host` (a name, or an address itself) for stream sockets; release with freeaddrinfo(). Waits until
 * the deadline (sync.h, monotonic). SPOOL_EUNAVAILABLE, ENOMEM, with a message by spool_sink_error(). */
int resolve(const struct cancel *cancel, const char *host, uint64_t deadline_ns, struct addrinfo **ret);

#endif
