/* block_cache.c - a few slots, the least recently used one goes first, bounded in bytes. A scan of 64 pointers once per
 * block costs less than keeping a table would. */
#include "block_cache.h"

#include "../lib/base/error.h"

static void evict(struct block_cache *cache, size_t at)
{
    cache->bytes -= cache->blocks[at]->size;
    store_block_unref(cache->blocks[at]);
    cache->blocks[at] = NULL;
}

static size_t oldest(const struct block_cache *cache)
{
    size_t best = 0;
    for (size_t i = 0; i < BLOCK_CACHE_SLOTS; i++)
        if (cache->blocks[i] && (!cache->blocks[best] || cache->used_at[i] < cache->used_at[best]))
            best = i;
    return best;
}

static size_t free_place(struct block_cache *cache)
{
    for (size_t i = 0; i < BLOCK_CACHE_SLOTS; i++)
        if (!cache->blocks[i])
            return i;
    size_t at = oldest(cache);
    evict(cache, at);
    return at;
}

static void keep(struct block_cache *cache, struct store_block *block)
{
    if (block->size > BLOCK_CACHE_BYTES)
        return;
    while (cache->bytes + block->size > BLOCK_CACHE_BYTES)
        evict(cache, oldest(cache));
    size_t at = free_place(cache);
    store_block_ref(block);
    cache->blocks[at] = block;
    cache->used_at[at] = ++cache->clock;
    cache->bytes += block->size;
}

static struct store_block *lookup(struct block_cache *cache, int lane, uint64_t seq)
{
    for (size_t i = 0; i < BLOCK_CACHE_SLOTS; i++) {
        struct store_block *block = cache->blocks[i];
        if (!block || block->lane != lane || seq < block->first_seq || seq - block->first_seq >= block->count)
            continue;
        cache->used_at[i] = ++cache->clock;
        store_block_ref(block);
        return block;
    }
    return NULL;
}

int block_cache_read(struct block_cache *cache, struct store *store, int lane, uint64_t seq, uint64_t deadline_ns,
                     struct store_block **ret, uint64_t *ret_skip_to)
{
    struct store_block *block = lookup(cache, lane, seq);
    if (!block) {
        int code = store_read(store, lane, seq, deadline_ns, &block, ret_skip_to);
        if (code != SPOOL_OK)
            return code;
        keep(cache, block);
    }
    *ret = block;
    return SPOOL_OK;
}

void block_cache_clear(struct block_cache *cache)
{
    for (size_t i = 0; i < BLOCK_CACHE_SLOTS; i++)
        if (cache->blocks[i])
            evict(cache, i);
}
