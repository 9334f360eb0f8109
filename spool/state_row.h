/* state_row.h - the envelope of every row in state.mdb. (state_row.c has it in prose.) */
#ifndef SPOOL_STATE_ROW_H
#define SPOOL_STATE_ROW_H

#include <stddef.h>
#include <stdint.h>

enum {
    ROW_VERSION = 1,
    ROW_HEADER = 24,
    ROW_KEY_MAX = 256,
    ROW_MAX = 4080, /* a value of one LMDB overflow page: 4096 less the page's header */
};
extern const uint8_t STATE_ROW_MAGIC[4];

/* A key under construction: the table's byte, then numbers big-endian. */
struct state_key {
    uint8_t bytes[ROW_KEY_MAX + 1]; /* one more for looking behind a key */
    size_t size;
};
struct state_key state_key(uint8_t table);
void state_key_u8(struct state_key *key, uint8_t v);
void state_key_u32(struct state_key *key, uint32_t v);
void state_key_u64(struct state_key *key, uint64_t v);
void state_key_bytes(struct state_key *key, const void *bytes, size_t size); /* cut at ROW_KEY_MAX */

/* A checked row; everything points into the bytes read. */
struct state_row {
    const uint8_t *key, *body;
    size_t key_size, body_size, row_size;
    uint64_t stamp;
};

static inline size_t state_row_size(size_t key_size, size_t body_size)
{
    return ROW_HEADER + key_size + body_size;
}

/* Writes state_row_size() bytes, at most ROW_MAX. `seed` is the CRC32C of the spool's uuid. */
void state_row_write(uint8_t *dst, uint32_t seed, const struct state_key *key, const void *body, size_t body_size,
                     uint64_t stamp);

/* Reads the row that begins at `src`, of which `avail` bytes may be looked at; ret->row_size is what it takes.
 * SPOOL_EDAMAGED, or SPOOL_EVERSION for a whole row of another version. */
int state_row_read(const uint8_t *src, size_t avail, uint32_t seed, struct state_row *ret);

#endif
