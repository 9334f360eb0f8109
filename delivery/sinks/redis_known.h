/* redis_known.h - the ids of the events that were sent last, so that none is sent again. Bounded: when there are more
 * than KNOWN_MAX, the older half is forgotten. */
#ifndef DELIVERY_SINKS_REDIS_KNOWN_H
#define DELIVERY_SINKS_REDIS_KNOWN_H

#include "plugin.h"

enum { KNOWN_MAX = 1 << 20 }; /* 16 MiB of ids: as many as the longest journal has with batches of 960 */

struct known {
    struct buffer ids; /* 16 bytes each, in the order in which they came */
    uint32_t *slots;   /* open addressing: number of an id in `ids` + 1; 0: free */
    size_t slot_count; /* a power of two, at least twice the number of ids */
};

/* `count` ids that lie one behind the other. ENOMEM: some are not known, `known` is whole. */
int known_add(struct known *known, const void *ids, size_t count);
bool known_has(const struct known *known, const struct spool_id *id);
/* Forgets all; also frees what it holds. */
void known_clear(struct known *known);

#endif
