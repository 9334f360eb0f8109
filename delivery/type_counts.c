/* type_counts.c - see type_counts.h. */
#include "type_counts.h"

#include <stdbool.h>
#include <string.h>

#include "../lib/base/bytes.h"

static uint32_t hash_of(const char *type, size_t size)
{
    uint32_t hash = 0x811c9dc5u; /* FNV-1a */
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (uint8_t)type[i]) * 0x01000193u;
    return hash;
}

static uint32_t add(struct type_counts *counts, const char *type, size_t size, uint32_t hash)
{
    if (counts->count == TYPES_MAX)
        return TYPES_MAX;
    counts->hashes[counts->count] = hash;
    memcpy(counts->names[counts->count], type, size);
    counts->names[counts->count][size] = 0;
    return counts->count++;
}

uint32_t type_counts_row(struct type_counts *counts, const char *type)
{
    size_t size = strnlen(type, TYPE_NAME_MAX + 1);
    if (size > TYPE_NAME_MAX || strcmp(type, "other") == 0) /* as the row of all others is called */
        return TYPES_MAX;
    uint32_t hash = hash_of(type, size);
    for (uint32_t i = 0; i < counts->count; i++)
        if (counts->hashes[i] == hash && strcmp(counts->names[i], type) == 0)
            return i;
    return add(counts, type, size, hash);
}

/* ------------------------------------------------------------------------------------------------------ publishing */

static size_t put_row(const uint64_t events[TYPE_COUNTERS], uint8_t *to)
{
    for (int i = 0; i < TYPE_COUNTERS; i++)
        put_u64(to + 8 * i, events[i]);
    return 8 * TYPE_COUNTERS;
}

static size_t packed_size(const struct type_counts *counts)
{
    size_t size = 1 + 8 * TYPE_COUNTERS;
    for (uint32_t i = 0; i < counts->count; i++)
        size += 1 + strlen(counts->names[i]) + 8 * TYPE_COUNTERS;
    return size;
}

size_t type_counts_pack(const struct type_counts *counts, uint8_t *to, size_t room)
{
    size_t at = 0;
    if (packed_size(counts) > room)
        return 0;
    to[at++] = (uint8_t)counts->count;
    for (uint32_t i = 0; i < counts->count; i++) {
        size_t size = strlen(counts->names[i]);
        to[at++] = (uint8_t)size;
        memcpy(to + at, counts->names[i], size);
        at += size;
        at += put_row(counts->events[i], to + at);
    }
    return at + put_row(counts->events[TYPES_MAX], to + at);
}

static bool take_row(const uint8_t *from, size_t size, size_t *at, uint64_t events[TYPE_COUNTERS])
{
    if (size - *at < 8 * TYPE_COUNTERS)
        return false;
    for (int i = 0; i < TYPE_COUNTERS; i++)
        events[i] = get_u64(from + *at + 8 * (size_t)i);
    *at += 8 * TYPE_COUNTERS;
    return true;
}

static bool take_type(const uint8_t *from, size_t size, size_t *at, struct type_counts *to)
{
    size_t name = *at < size ? from[*at] : SIZE_MAX;
    if (name > TYPE_NAME_MAX || size - *at - 1 < name || memchr(from + *at + 1, 0, name))
        return false;
    uint32_t row = add(to, (const char *)from + *at + 1, name, hash_of((const char *)from + *at + 1, name));
    *at += 1 + name;
    return take_row(from, size, at, to->events[row]);
}

size_t type_counts_unpack(const uint8_t *from, size_t size, struct type_counts *ret)
{
    struct type_counts counts = {0};
    size_t at = 1;
    if (size < 1 || from[0] > TYPES_MAX)
        return 0;
    for (uint32_t i = 0; i < from[0]; i++)
        if (!take_type(from, size, &at, &counts))
            return 0;
    if (!take_row(from, size, &at, counts.events[TYPES_MAX]))
        return 0;
    *ret = counts;
    return at;
}
