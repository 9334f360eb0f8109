/* state_row.c - the envelope of a row: what makes it recognisable, alone, in the middle of a damaged file.
 *
 * Every value in state.mdb is one row. Numbers are little-endian:
 *
 *    0  4  magic, "SpRw"
 *    4  1  version of the envelope, 1
 *    5  1  zero
 *    6  2  size of the key
 *    8  8  stamp: which write transaction wrote it, counted since the spool was made
 *   16  4  size of the body
 *   20  4  CRC32C over bytes 0 to 19, the key and the body, seeded with the CRC32C of the spool's uuid
 *   24     the key as it stands in the B-tree, then the body
 *
 * A row is valid if magic, version and sizes are right, it takes at most ROW_MAX bytes and the CRC matches. The key is
 * repeated because LMDB keeps larger values on pages of their own, away from their keys. The seed keeps a producer from
 * forging rows inside the events it enqueues, and rows of another spool out.
 *
 * Version recipe: the first 24 bytes and the rule of the CRC stay as they are for ever, so that any version recognises
 * a row of any other. For another layout of a body or key, raise STATE_VERSION (state.c) instead; for another meaning
 * of the envelope, raise ROW_VERSION and read both here. */
#include "state_row.h"

#include <string.h>

#include "../lib/base/bytes.h"
#include "../lib/base/crc32c.h"
#include "../lib/base/error.h"

const uint8_t STATE_ROW_MAGIC[4] = {'S', 'p', 'R', 'w'};

enum { AT_VERSION = 4, AT_KEY_SIZE = 6, AT_STAMP = 8, AT_BODY_SIZE = 16, AT_CRC = 20 };

struct state_key state_key(uint8_t table)
{
    return (struct state_key){.bytes = {table}, .size = 1};
}

void state_key_bytes(struct state_key *key, const void *bytes, size_t size)
{
    if (size > ROW_KEY_MAX - key->size)
        size = ROW_KEY_MAX - key->size;
    memcpy(key->bytes + key->size, bytes, size);
    key->size += size;
}

void state_key_u8(struct state_key *key, uint8_t v)
{
    state_key_bytes(key, &v, 1);
}

void state_key_u32(struct state_key *key, uint32_t v)
{
    uint8_t bytes[4];
    put_be32(bytes, v);
    state_key_bytes(key, bytes, sizeof bytes);
}

void state_key_u64(struct state_key *key, uint64_t v)
{
    uint8_t bytes[8];
    put_be64(bytes, v);
    state_key_bytes(key, bytes, sizeof bytes);
}

static uint32_t checksum(const uint8_t *row, size_t size, uint32_t seed)
{
    return crc32c(crc32c(seed, row, AT_CRC), row + ROW_HEADER, size - ROW_HEADER);
}

void state_row_write(uint8_t *dst, uint32_t seed, const struct state_key *key, const void *body, size_t body_size,
                     uint64_t stamp)
{
    memcpy(dst, STATE_ROW_MAGIC, sizeof STATE_ROW_MAGIC);
    dst[AT_VERSION] = ROW_VERSION;
    dst[AT_VERSION + 1] = 0;
    put_u16(dst + AT_KEY_SIZE, (uint16_t)key->size);
    put_u64(dst + AT_STAMP, stamp);
    put_u32(dst + AT_BODY_SIZE, (uint32_t)body_size);
    memcpy(dst + ROW_HEADER, key->bytes, key->size);
    if (body_size)
        memcpy(dst + ROW_HEADER + key->size, body, body_size);
    put_u32(dst + AT_CRC, checksum(dst, state_row_size(key->size, body_size), seed));
}

/* The row's size by its header, 0 if that can't be. */
static size_t plausible_size(const uint8_t *src, size_t avail)
{
    if (avail < ROW_HEADER || memcmp(src, STATE_ROW_MAGIC, sizeof STATE_ROW_MAGIC) != 0)
        return 0;
    size_t key_size = get_u16(src + AT_KEY_SIZE), body_size = get_u32(src + AT_BODY_SIZE);
    if (!key_size || key_size > ROW_KEY_MAX || body_size > ROW_MAX)
        return 0;
    size_t size = state_row_size(key_size, body_size);
    return size <= ROW_MAX && size <= avail ? size : 0;
}

int state_row_read(const uint8_t *src, size_t avail, uint32_t seed, struct state_row *ret)
{
    size_t size = plausible_size(src, avail);
    if (!size)
        return err_set(SPOOL_EDAMAGED, "no row begins here");
    if (get_u32(src + AT_CRC) != checksum(src, size, seed))
        return err_set(SPOOL_EDAMAGED, "checksum does not match");
    if (src[AT_VERSION] != ROW_VERSION)
        return err_set(SPOOL_EVERSION, "a row of version %d, this library knows %d", src[AT_VERSION], ROW_VERSION);
    ret->key = src + ROW_HEADER;
    ret->key_size = get_u16(src + AT_KEY_SIZE);
    ret->body = ret->key + ret->key_size;
    ret->body_size = get_u32(src + AT_BODY_SIZE);
    ret->row_size = size;
    ret->stamp = get_u64(src + AT_STAMP);
    return SPOOL_OK;
}
