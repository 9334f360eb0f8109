/* redis_known.c - see redis_known.h. */
#include "redis_known.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ID_BYTES = 16 };

static size_t count_of(const struct known *known)
{
    return known->ids.size / ID_BYTES;
}

/* The counter and the node of an id are alike in many; its time and their mix are not. */
static size_t hash(const void *id)
{
    uint64_t halves[2];
    memcpy(halves, id, sizeof halves);
    uint64_t h = (halves[0] ^ halves[1] * 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
    return (size_t)(h ^ h >> 29);
}

/* The slot of an id, or the free one where it would be. */
static uint32_t *slot_of(const struct known *known, const void *id)
{
    size_t mask = known->slot_count - 1, at = hash(id) & mask;
    while (known->slots[at] && memcmp(known->ids.data + (size_t)(known->slots[at] - 1) * ID_BYTES, id, ID_BYTES) != 0)
        at = (at + 1) & mask;
    return &known->slots[at];
}

/* Makes the slots anew for `count` ids. */
static int index_all(struct known *known, size_t count)
{
    size_t slots = 1024;
    while (slots < 2 * count)
        slots *= 2;
    uint32_t *made = calloc(slots, sizeof *made);
    if (!made)
        return ENOMEM;
    free(known->slots);
    known->slots = made;
    known->slot_count = slots;
    for (size_t i = 0; i < count_of(known); i++)
        *slot_of(known, known->ids.data + i * ID_BYTES) = (uint32_t)i + 1;
    return 0;
}

static void forget_half(struct known *known)
{
    size_t gone = count_of(known) / 2 * ID_BYTES;
    memmove(known->ids.data, known->ids.data + gone, known->ids.size - gone);
    known->ids.size -= gone;
}

int known_add(struct known *known, const void *ids, size_t count)
{
    bool full = count_of(known) + count > KNOWN_MAX;
    int err = buffer_reserve(&known->ids, count * ID_BYTES);
    if (!err && full)
        forget_half(known);
    if (!err && (full || 2 * (count_of(known) + count) > known->slot_count))
        err = index_all(known, count_of(known) + count);
    for (size_t i = 0; i < count && !err; i++) {
        const uint8_t *id = (const uint8_t *)ids + i * ID_BYTES;
        uint32_t *slot = slot_of(known, id);
        if (*slot)
            continue;
        err = buffer_put(&known->ids, id, ID_BYTES);
        *slot = err ? 0 : (uint32_t)count_of(known);
    }
    return err;
}

bool known_has(const struct known *known, const struct spool_id *id)
{
    return known->slot_count > 0 && *slot_of(known, id->bytes) != 0;
}

void known_clear(struct known *known)
{
    buffer_free(&known->ids);
    free(known->slots);
    *known = (struct known){0};
}
