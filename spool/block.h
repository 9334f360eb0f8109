/* block.h - a block: the value in a segment, many events under one checksum. (block.c has the format in prose.)
 *
 * The header names magic, version, codec, lane, first sequence number, count, sizes, smallest and largest id, a commit
 * counter and a CRC32C over everything, so that a block found anywhere in a damaged file can be put back in its place.
 */
#ifndef SPOOL_BLOCK_H
#define SPOOL_BLOCK_H

#include "store.h"

enum {
    BLOCK_HEADER = 88,
    /* Of events: with the header and LMDB's, of 16 bytes, a block fills whole pages, and not one more that is nearly empty. */
    BLOCK_TARGET_BYTES = (256 << 10) - BLOCK_HEADER - 16,
    BLOCK_COMPRESSED_MAX = 4 << 20, /* events that take more are never compressed: the bound of what a reader unpacks */
};
enum block_codec { BLOCK_PLAIN = 0, BLOCK_ZSTD = 1 };
extern const uint8_t BLOCK_MAGIC[8];
/* No sequence number reaches it, and no sum with one below it overflows. What says otherwise was not written by us. */
#define BLOCK_SEQ_MAX (UINT64_C(1) << 62)

struct block_info {
    int lane;
    uint32_t count;
    uint64_t first_seq, commit;
    uint32_t size; /* of what stands behind the header */
    enum block_codec codec;
    enum bundle_form form;
    uint32_t events_size; /* of the bundle of events; unless compressed the same, and not looked at by block_write() */
    struct spool_id min_id, max_id;
};

/* Writes the header and what stands behind it: BLOCK_HEADER + info->size bytes at `dst`. */
void block_write(uint8_t *dst, const struct block_info *info, const uint8_t *stored);

/* Checks header, sizes and checksum of the value, and that what is compressed can be unpacked. SPOOL_EVERSION for a
 * newer version or unknown codec, SPOOL_EDAMAGED, ENOMEM. */
int block_check(const uint8_t *value, size_t size, struct block_info *ret);

/* The header alone, without the checksum over the events (which the header's own checksum does not need). */
int block_peek(const uint8_t *value, size_t size, struct block_info *ret);

/* How long the value that begins with this header says it is: for a search in raw bytes. Nothing is checked. */
size_t block_size(const uint8_t header[BLOCK_HEADER]);

/* A checked copy, unpacked and ready to be read. */
int block_copy(const uint8_t *value, size_t size, struct store_block **ret);

#endif
