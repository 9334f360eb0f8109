/* keys.c - see keys.h. */
#include "keys.h"

#include <string.h>

uint64_t key_stripe(uint64_t key)
{
    return key == 0 ? 0 : 1ull << ((key * 0x9e3779b97f4a7c15ull) >> 58);
}

void key_picker_init(struct key_picker *picker, uint64_t busy, uint32_t workers, uint32_t idle)
{
    *picker = (struct key_picker){
        .busy = busy,
        .share = idle > 0 ? idle : 1,
        .most = (STRIPES + workers - 1) / workers,
    };
}

static uint32_t count_stripes(uint64_t stripes)
{
    return (uint32_t)__builtin_popcountll(stripes);
}

bool key_picker_take(struct key_picker *picker, uint64_t stripe)
{
    if ((picker->taken & stripe) == stripe)
        return true;
    if ((picker->busy | picker->refused) & stripe)
        return false;
    picker->seen++;
    uint32_t part = (picker->seen + picker->share - 1) / picker->share;
    bool takes = count_stripes(picker->taken) < (part < picker->most ? part : picker->most);
    *(takes ? &picker->taken : &picker->refused) |= stripe;
    return takes;
}

/* --------------------------------------------------------------------------------------------------- which is where */

enum { NO_STRIPE = STRIPES, UNKNOWN = 255 };

static uint8_t *place_of(struct key_index *index, uint64_t seq)
{
    return &index->at[seq % KEY_AHEAD_MAX];
}

/* It knows nothing beyond the last one put, and nothing from KEY_AHEAD_MAX before that. */
static void reach(struct key_index *index, uint64_t seq)
{
    if (seq < index->first || index->end == 0 || seq - index->first >= 2 * (uint64_t)KEY_AHEAD_MAX) {
        memset(index->at, UNKNOWN, sizeof index->at);
        index->first = seq;
        index->end = seq;
    }
    for (; index->end <= seq; index->end++)
        *place_of(index, index->end) = UNKNOWN;
    if (index->end - index->first > KEY_AHEAD_MAX)
        index->first = index->end - KEY_AHEAD_MAX;
}

void key_index_put(struct key_index *index, uint64_t seq, uint64_t stripe)
{
    reach(index, seq);
    *place_of(index, seq) = (uint8_t)(stripe ? __builtin_ctzll(stripe) : NO_STRIPE);
}

bool key_index_get(const struct key_index *index, uint64_t seq, uint64_t *ret_stripe)
{
    uint8_t at = index->at[seq % KEY_AHEAD_MAX];
    if (seq < index->first || seq >= index->end || at == UNKNOWN)
        return false;
    *ret_stripe = at == NO_STRIPE ? 0 : 1ull << at;
    return true;
}
