/* type_counts.h - what became of events by their type, in a fixed amount of memory: the first types that come have a row
 * each, all later ones (and those with a very long name) share one. */
#ifndef DELIVERY_TYPE_COUNTS_H
#define DELIVERY_TYPE_COUNTS_H

#include <stddef.h>
#include <stdint.h>

enum { TYPES_MAX = 32, TYPE_NAME_MAX = 63, TYPE_COUNTERS = 6 };

struct type_counts {
    uint32_t count; /* of names */
    uint32_t hashes[TYPES_MAX];
    char names[TYPES_MAX][TYPE_NAME_MAX + 1];
    uint64_t events[TYPES_MAX + 1][TYPE_COUNTERS]; /* the last row is of all others */
};

/* The row of a type, which it gets if there is room for it. Any text. */
uint32_t type_counts_row(struct type_counts *counts, const char *type);

/* For publishing: u8 count, then of each type u8 size of the name and the name, and of these and of all others a u64 for each
 * counter. Returns the size, 0 if there is no room. unpack: what was taken; 0 and nothing changed if it is not whole. */
size_t type_counts_pack(const struct type_counts *counts, uint8_t *to, size_t room);
size_t type_counts_unpack(const uint8_t *from, size_t size, struct type_counts *ret);

#endif
