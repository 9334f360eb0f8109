/* block.c - a block: many events of one lane under one header.
 *
 *   offset size
 *        0    8  magic "SPLblk1\n"
 *        8    2  version: 1, the events are a packed bundle; 2, a shared one (lib/base/bundle.c)
 *       10    1  lane
 *       11    1  codec: 0, the events stand as they are; 1, they are one zstd frame
 *       12    4  count of events, at least 1
 *       16    8  first_seq, the sequence number of the first event; the others follow without gaps
 *       24    8  commit, the LMDB transaction that stored the block
 *       32    4  size of what stands behind the header
 *       36    4  CRC32C of what stands behind the header
 *       40   16  smallest id
 *       56   16  largest id
 *       72    4  codec 1: size of the bundle; codec 0: zero, and not looked at
 *       76    8  zeros
 *       84    4  CRC32C of bytes 0 to 83
 *       88       the bundle, or the frame of it
 *
 * All numbers are little-endian. A block is valid if and only if both checksums match, every field is within its
 * bounds, the value ends where the size says, a frame unpacks to exactly the size said, and the bundle is valid. The
 * size of a packed bundle is a multiple of 8; a frame is smaller than its bundle, and that takes at most
 * BLOCK_COMPRESSED_MAX, which bounds what a reader has to make room for before it has seen the frame. The header's
 * checksum covers that of the rest, so that the header can be believed without reading on.
 *
 * Version 1 is what the first libspool wrote; today only an event that is not valid is stored so (packer.c).
 *
 * A new codec: number it, and keep reading 0 and 1; what is meant by bytes 32 to 39 stays. A new version: increase
 * `BLOCK_VERSION`, keep the magic and the place of version and header checksum, and keep reading versions 1 and 2. What
 * this library does not know it answers with SPOOL_EVERSION and leaves alone. */
#include "block.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "../lib/base/bytes.h"
#include "../lib/base/crc32c.h"
#include "../lib/base/error.h"

const uint8_t BLOCK_MAGIC[8] = {'S', 'P', 'L', 'b', 'l', 'k', '1', '\n'};

enum { BLOCK_VERSION = 2, CODEC_LAST = BLOCK_ZSTD, AT_EVENTS_SIZE = 72, HEADER_CRC = BLOCK_HEADER - 4 };
_Static_assert(BLOCK_HEADER == 88, "the format is fixed");
_Static_assert(BUNDLE_PACKED + 1 == 1 && BUNDLE_SHARED + 1 == BLOCK_VERSION, "the version is the form, and one");

void block_write(uint8_t *dst, const struct block_info *info, const uint8_t *stored)
{
    memset(dst, 0, BLOCK_HEADER);
    memcpy(dst, BLOCK_MAGIC, sizeof BLOCK_MAGIC);
    put_u16(dst + 8, (uint16_t)(info->form + 1));
    dst[10] = (uint8_t)info->lane;
    dst[11] = (uint8_t)info->codec;
    put_u32(dst + 12, info->count);
    put_u64(dst + 16, info->first_seq);
    put_u64(dst + 24, info->commit);
    put_u32(dst + 32, info->size);
    put_u32(dst + 36, crc32c(0, stored, info->size));
    memcpy(dst + 40, &info->min_id, sizeof info->min_id);
    memcpy(dst + 56, &info->max_id, sizeof info->max_id);
    put_u32(dst + AT_EVENTS_SIZE, info->codec == BLOCK_PLAIN ? 0 : info->events_size);
    put_u32(dst + HEADER_CRC, crc32c(0, dst, HEADER_CRC));
    memcpy(dst + BLOCK_HEADER, stored, info->size);
}

size_t block_size(const uint8_t header[BLOCK_HEADER])
{
    return BLOCK_HEADER + (size_t)get_u32(header + 32);
}

static void read_fields(const uint8_t *value, struct block_info *ret)
{
    ret->lane = value[10];
    ret->codec = value[11];
    ret->form = (enum bundle_form)(get_u16(value + 8) - 1);
    ret->count = get_u32(value + 12);
    ret->first_seq = get_u64(value + 16);
    ret->commit = get_u64(value + 24);
    ret->size = get_u32(value + 32);
    ret->events_size = ret->codec == BLOCK_PLAIN ? ret->size : get_u32(value + AT_EVENTS_SIZE);
    memcpy(&ret->min_id, value + 40, sizeof ret->min_id);
    memcpy(&ret->max_id, value + 56, sizeof ret->max_id);
}

static int check_fields(const struct block_info *info, size_t size)
{
    if (info->lane >= LANES)
        return err_set(SPOOL_EDAMAGED, "a block names lane %d, which does not exist", info->lane);
    if (info->count == 0 || (info->form == BUNDLE_PACKED && info->events_size % 8) ||
        info->events_size / bundle_event_min(info->form) < info->count)
        return err_set(SPOOL_EDAMAGED, "a block says that it holds %u events in %u bytes", info->count,
                       info->events_size);
    if (info->codec != BLOCK_PLAIN && (info->events_size > BLOCK_COMPRESSED_MAX || info->size >= info->events_size))
        return err_set(SPOOL_EDAMAGED, "a block says that %u compressed bytes are %u", info->size, info->events_size);
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
    unsigned version = get_u16(value + 8);
    if (version == 0 || version > BLOCK_VERSION || value[11] > CODEC_LAST)
        return err_set(SPOOL_EVERSION,
                       "a block has format %u and codec %u; this libspool reads formats to %d, codecs to %d", version,
                       value[11], BLOCK_VERSION, CODEC_LAST);
    read_fields(value, &info);
    int code = check_fields(&info, size);
    if (code)
        return code;
    *ret = info;
    return SPOOL_OK;
}

static int check_stored(const uint8_t *header, const uint8_t *stored, size_t size)
{
    if (get_u32(header + 36) != crc32c(0, stored, size))
        return err_set(SPOOL_EDAMAGED, "the checksum of a block's events does not match");
    return SPOOL_OK;
}

/* The struct, then where its events begin, then their bytes. */
static struct store_block *new_block(const struct block_info *info)
{
    size_t places = (info->count + (size_t)1) * sizeof(uint32_t);
    struct store_block *block = malloc(sizeof *block + places + info->events_size);
    if (!block)
        return NULL;
    atomic_init(&block->refs, 1);
    block->lane = info->lane;
    block->count = info->count;
    block->first_seq = info->first_seq;
    block->min_id = info->min_id;
    block->max_id = info->max_id;
    block->size = info->events_size;
    return block;
}

/* What is checked is the copy: the map may change between the two (a medium that fails), the copy cannot. */
static int copy_plain(const uint8_t *value, const struct block_info *info, uint8_t *events)
{
    memcpy(events, value + BLOCK_HEADER, info->size);
    return check_stored(value, events, info->size);
}

static int unpack(const struct block_info *info, const uint8_t *frame, uint8_t *events)
{
    size_t size = ZSTD_decompress(events, info->events_size, frame, info->size);
    if (ZSTD_isError(size) && ZSTD_getErrorCode(size) == ZSTD_error_memory_allocation)
        return err_errno(ENOMEM, "unpacking a block of %u bytes", info->events_size);
    if (ZSTD_isError(size))
        return err_set(SPOOL_EDAMAGED, "a compressed block cannot be unpacked: %s", ZSTD_getErrorName(size));
    if (size != info->events_size)
        return err_set(SPOOL_EDAMAGED, "a compressed block unpacks to %zu bytes, not to %u", size, info->events_size);
    return SPOOL_OK;
}

/* Likewise: the decoder sees only bytes whose checksum was right. */
static int copy_unpacked(const uint8_t *value, const struct block_info *info, uint8_t *events)
{
    uint8_t *frame = malloc(info->size ? info->size : 1);
    if (!frame)
        return err_errno(ENOMEM, "a block of %u bytes", info->size);
    int code = copy_plain(value, info, frame);
    if (!code)
        code = unpack(info, frame, events);
    free(frame);
    return code;
}

static int fill(struct store_block *block, const uint8_t *value, const struct block_info *info)
{
    uint32_t *at = (uint32_t *)(block + 1);
    uint8_t *bytes = (uint8_t *)(at + info->count + 1);
    int code = info->codec == BLOCK_PLAIN ? copy_plain(value, info, bytes) : copy_unpacked(value, info, bytes);
    return code ? code : bundle_open(info->form, bytes, info->events_size, info->count, at, &block->events);
}

int block_copy(const uint8_t *value, size_t size, struct store_block **ret)
{
    struct block_info info;
    int code = block_peek(value, size, &info);
    if (code)
        return code;
    struct store_block *block = new_block(&info);
    if (!block)
        return err_errno(ENOMEM, "a block of %u bytes", info.events_size);
    code = fill(block, value, &info);
    if (code) {
        free(block);
        return code;
    }
    *ret = block;
    return SPOOL_OK;
}

int block_check(const uint8_t *value, size_t size, struct block_info *ret)
{
    struct block_info info;
    struct store_block *block = NULL;
    int code = block_peek(value, size, &info);
    if (!code)
        code = info.codec == BLOCK_PLAIN ? check_stored(value, value + BLOCK_HEADER, info.size)
                                         : block_copy(value, size, &block);
    store_block_unref(block);
    if (code)
        return code;
    *ret = info;
    return SPOOL_OK;
}
