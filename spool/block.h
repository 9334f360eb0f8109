/* block.h - a block: the value in a segment, many packed events under one checksum. (block.c has the format in prose.)
 *
 * The header names magic, version, codec, lane, first sequence number, count, sizes, smallest and largest id, a commit
 * counter and a CRC32C over everything, so that a block found anywhere in a damaged file can be put back in its place.
 */
#ifndef SPOOL_BLOCK_H
#define SPOOL_BLOCK_H

#include "store.h"

enum { BLOCK_HEADER = 88, BLOCK_TARGET_BYTES = 256 << 10 };
extern const uint8_t BLOCK_MAGIC[8];
/* No sequence number reaches it, and no sum with one below it overflows. What says otherwise was not written by us. */
#define BLOCK_SEQ_MAX (UINT64_C(1) << 62)

struct block_info {
    int lane;
    uint32_t count;
    uint64_t first_seq, commit;
    uint32_t size; /* of the packed events */
    struct spool_id min_id, max_id;
};

/* Writes header and events: BLOCK_HEADER + info->size bytes at `dst`. */
void block_write(uint8_t *dst, const struct block_info *info, const uint8_t *events);

/* Checks header, sizes and checksum of the value. SPOOL_EVERSION for a newer version or unknown codec, SPOOL_EDAMAGED.
 * The events stand at value + BLOCK_HEADER. */
int block_check(const uint8_t *value, size_t size, struct block_info *ret);

/* The header alone, without the checksum over the events (which the header's own checksum does not need). */
int block_peek(const uint8_t *value, size_t size, struct block_info *ret);

/* How long the value that begins with this header says it is: for a search in raw bytes. Nothing is checked. */
size_t block_size(const uint8_t header[BLOCK_HEADER]);

/* A checked copy. */
int block_copy(const uint8_t *value, size_t size, struct store_block **ret);

#endif
