/* block.c - a block: many packed events of one lane under one header.
 *
 *   offset size
 *        0    8  magic "SPLblk1\n"
 *        8    2  version: 1
 *       10    1  lane
 *       11    1  codec: 0, the events stand as they are
 *       12    4  count of events, at least 1
 *       16    8  first_seq, the sequence number of the first event; the others follow without gaps
 *       24    8  commit, the LMDB transaction that stored the block
 *       32    4  size of the packed events, a multiple of 8
 *       36    4  CRC32C of the packed events
 *       40   16  smallest id
 *       56   16  largest id
 *       72   12  zeros
 *       84    4  CRC32C of bytes 0 to 83
 *       88       packed events (lib/base/event.c)
 *
 * All numbers are little-endian. A block is valid if and only if the header's checksum and the events' checksum match,
 * every field is within its bounds, and the value ends where the events end. The header's checksum covers that of the
 * events, so that the header can be believed without reading on.
 *
 * A new version: increase `BLOCK_VERSION`, keep the magic and the place of version and header checksum, and keep
 * reading version 1. What this library does not know it answers with SPOOL_EVERSION and leaves alone. */
#include "block.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/base/bytes.h"
#include "../lib/base/crc32c.h"
#include "../lib/base/error.h"

const uint8_t BLOCK_MAGIC[8] = {'S', 'P', 'L', 'b', 'l', 'k', '1', '\n'};

enum { BLOCK_VERSION = 1, CODEC_PLAIN = 0, HEADER_CRC = BLOCK_HEADER - 4 };
_Static_assert(BLOCK_HEADER == 88, "the format is fixed");

void block_write(uint8_t *dst, const struct block_info *info, const uint8_t *events)
{
    memset(dst, 0, BLOCK_HEADER);
    memcpy(dst, BLOCK_MAGIC, sizeof BLOCK_MAGIC);
    put_u16(dst + 8, BLOCK_VERSION);
    dst[10] = (uint8_t)info->lane;
    dst[11] = CODEC_PLAIN;
    put_u32(dst + 12, info->count);
    put_u64(dst + 16, info->first_seq);
    put_u64(dst + 24, info->commit);
    put_u32(dst + 32, info->size);
    put_u32(dst + 36, crc32c(0, events, info->size));
    memcpy(dst + 40, &info->min_id, sizeof info->min_id);
    memcpy(dst + 56, &info->max_id, sizeof info->max_id);
    put_u32(dst + HEADER_CRC, crc32c(0, dst, HEADER_CRC));
    memcpy(dst + BLOCK_HEADER, events, info->size);
}

size_t block_size(const uint8_t header[BLOCK_HEADER])
{
    return BLOCK_HEADER + (size_t)get_u32(header + 32);
}

static void read_fields(const uint8_t *value, struct block_info *ret)
{
    ret->lane = value[10];
    ret->count = get_u32(value + 12);
    ret->first_seq = get_u64(value + 16);
    ret->commit = get_u64(value + 24);
    ret->size = get_u32(value + 32);
    memcpy(&ret->min_id, value + 40, sizeof ret->min_id);
    memcpy(&ret->max_id, value + 56, sizeof ret->max_id);
}

static int check_fields(const struct block_info *info, size_t size)
{
    if (info->lane >= LANES)
        return err_set(SPOOL_EDAMAGED, "a block names lane %d, which does not exist", info->lane);
    if (info->count == 0 || info->size % 8 || info->size / EVENT_PACKED_MIN < info->count)
        return err_set(SPOOL_EDAMAGED, "a block says that it holds %u events in %u bytes", info->count, info->size);
    if (info->first_seq >= BLOCK_SEQ_MAX)
        return err_set(SPOOL_EDAMAGED, "a block's sequence numbers run over");
    if (memcmp(&info->min_id, &info->max_id, sizeof info->min_id) > 0)
        return err_set(SPOOL_EDAMAGED, "a block's smallest id is above its largest");
    if (size != BLOCK_HEADER + (size_t)info->size)
        return err_set(SPOOL_EDAMAGED, "a block of %zu bytes should be %zu bytes long", size,
                       BLOCK_HEADER + (size_t)info->size);
    return SPOOL_OK;
}

int block_peek(const uint8_t *value, size_t size, struct block_info *ret)
{
    struct block_info info;
    if (size < BLOCK_HEADER)
        return err_set(SPOOL_EDAMAGED, "a block of %zu bytes is shorter than its header", size);
    if (memcmp(value, BLOCK_MAGIC, sizeof BLOCK_MAGIC) != 0)
        return err_set(SPOOL_EDAMAGED, "this is no block: its magic bytes are wrong");
    if (get_u32(value + HEADER_CRC) != crc32c(0, value, HEADER_CRC))
        return err_set(SPOOL_EDAMAGED, "the checksum of a block's header does not match");
    if (get_u16(value + 8) != BLOCK_VERSION || value[11] != CODEC_PLAIN)
        return err_set(SPOOL_EVERSION, "a block has format %u and codec %u; this libspool reads format %d and codec %d",
                       get_u16(value + 8), value[11], BLOCK_VERSION, CODEC_PLAIN);
    read_fields(value, &info);
    int code = check_fields(&info, size);
    if (code)
        return code;
    *ret = info;
    return SPOOL_OK;
}

static int check_events(const uint8_t *header, const uint8_t *events, size_t size)
{
    if (get_u32(header + 36) != crc32c(0, events, size))
        return err_set(SPOOL_EDAMAGED, "the checksum of a block's events does not match");
    return SPOOL_OK;
}

int block_check(const uint8_t *value, size_t size, struct block_info *ret)
{
    struct block_info info;
    int code = block_peek(value, size, &info);
    if (!code)
        code = check_events(value, value + BLOCK_HEADER, info.size);
    if (code)
        return code;
    *ret = info;
    return SPOOL_OK;
}

static struct store_block *new_block(const struct block_info *info)
{
    struct store_block *block = malloc(sizeof *block + info->size);
    if (!block)
        return NULL;
    atomic_init(&block->refs, 1);
    block->lane = info->lane;
    block->count = info->count;
    block->first_seq = info->first_seq;
    block->min_id = info->min_id;
    block->max_id = info->max_id;
    block->size = info->size;
    block->events = (uint8_t *)(block + 1);
    return block;
}

/* What is checked is the copy: the map may change between the two (a medium that fails), the copy cannot. */
int block_copy(const uint8_t *value, size_t size, struct store_block **ret)
{
    struct block_info info;
    int code = block_peek(value, size, &info);
    if (code)
        return code;
    struct store_block *block = new_block(&info);
    if (!block)
        return err_errno(ENOMEM, "a block of %u bytes", info.size);
    memcpy(block->events, value + BLOCK_HEADER, info.size);
    code = check_events(value, block->events, info.size);
    if (code) {
        free(block);
        return code;
    }
    *ret = block;
    return SPOOL_OK;
}
