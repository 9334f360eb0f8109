/* id.h - UUIDv7 ids and the 64 clock bits in them.
 *
 *   unix_ms 48 | version 4 = 7 | 1/4096 ms 12 | variant 2 = 0b10 | counter 14 | node 48         (RFC 9562, 6.2 method 3)
 *
 * The hybrid logical clock counts in `hlc` values: the physical 60 bits (ms and 1/4096 ms) in units of 244.14 ns, which
 * do not leave room for a 14-bit counter in 64 bits. So an hlc value is { uint64_t ticks; uint16_t counter }. */
#ifndef BASE_ID_H
#define BASE_ID_H

#include "../spool.h"
#include "bytes.h"
#include <stdbool.h>

struct hlc_stamp {
    uint64_t ticks;   /* of 1/4096 ms since 1970; 60 bits */
    uint16_t counter; /* 14 bits */
};

/* Inline, as what follows: it is done for every event that is stored or read. node: its low 48 bits. */
static inline void id_make(struct hlc_stamp stamp, uint64_t node, struct spool_id *ret_id)
{
    uint64_t high = stamp.ticks << 4 >> 16 << 16 | 0x7000 | (stamp.ticks & 0xfff);
    put_be64(ret_id->bytes, high);
    put_be64(ret_id->bytes + 8, 1ull << 63 | (uint64_t)(stamp.counter & 0x3fff) << 48 | (node & 0xffffffffffff));
}
static inline struct hlc_stamp id_stamp(const struct spool_id *id)
{
    uint64_t high = get_be64(id->bytes), low = get_be64(id->bytes + 8);
    return (struct hlc_stamp){high >> 16 << 12 | (high & 0xfff), (uint16_t)(low >> 48 & 0x3fff)};
}
static inline uint64_t id_node(const struct spool_id *id)
{
    return get_be64(id->bytes + 8) & 0xffffffffffff;
}
/* Version and variant are right. */
static inline bool id_is_valid(const struct spool_id *id)
{
    return id->bytes[6] >> 4 == 7 && id->bytes[8] >> 6 == 2;
}
int id_stamp_compare(struct hlc_stamp a, struct hlc_stamp b);

uint64_t ticks_from_ns(uint64_t unix_ns); /* rounds down */
uint64_t ticks_to_ns(uint64_t ticks);     /* rounds up, so that ticks_from_ns(ticks_to_ns(t)) == t */

/* The smallest and the largest id of a point in time, for ranges. */
void id_min_at_ns(uint64_t unix_ns, struct spool_id *ret_id);
void id_max_at_ns(uint64_t unix_ns, struct spool_id *ret_id);

#endif
