/* limits_sinks.h - what the keeper does for sinks that nobody serves, and what it takes from the store for that: no more,
 * so that the simulation can run it on a store of its own. Private to spool/. */
#ifndef SPOOL_LIMITS_SINKS_H
#define SPOOL_LIMITS_SINKS_H

#include "store.h"

void limits_of_sinks(struct store *store);

/* sink_overflow.c. As the calls of store.h, with the short waits that a thread of ours may afford. drop: moves the sink's
 * cursors there, counts what it was not finished with, and tells. */
int limits_sink_each(struct store *store, int (*each)(void *user, const struct store_sink *sink), void *user);
int limits_sink_get(struct store *store, const char *name, struct store_sink *ret);
int limits_sink_drop(struct store *store, const char *name, const uint64_t upto[LANES]);
const struct reporter *limits_reporter(const struct store *store);

#endif
