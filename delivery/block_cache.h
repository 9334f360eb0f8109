/* block_cache.h - blocks read lately, so that sinks at the same place of the log share one copy. Used by the dispatcher
 * thread only: no lock. */
#ifndef DELIVERY_BLOCK_CACHE_H
#define DELIVERY_BLOCK_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "../spool/store.h"

enum { BLOCK_CACHE_SLOTS = 64, BLOCK_CACHE_BYTES = 8 << 20 };

struct block_cache {
    struct store_block *blocks[BLOCK_CACHE_SLOTS];
    uint64_t used_at[BLOCK_CACHE_SLOTS];
    uint64_t clock;
    size_t bytes;
};

/* As store_read(), from memory if it can. The block is the caller's to release. */
int block_cache_read(struct block_cache *cache, struct store *store, int lane, uint64_t seq, uint64_t deadline_ns,
                     struct store_block **ret, uint64_t *ret_skip_to);
void block_cache_clear(struct block_cache *cache);

#endif
