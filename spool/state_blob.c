/* state_blob.c - bytes of any size as a run of rows: configurations, checkpoints, large events.
 *
 * Rows {prefix, u32 piece}. The body of piece 0: u32 size of all bytes, u32 their CRC32C, then the first of them; the
 * body of each further one: what follows, as much as fits a row. Valid if the sizes add up and the CRC matches: pieces
 * of two writes are never taken together. Small pieces, because a value of many pages needs as many free ones in a row,
 * and finding those in a fragmented map takes LMDB hundreds of milliseconds under the only write lock. */
#include "state_inside.h"

enum { BLOB_HEADER = 8, PIECE_KEY_MAX = 16, PIECE_BODY_MAX = ROW_MAX - ROW_HEADER - PIECE_KEY_MAX };

static struct state_key piece_key(const struct state_key *prefix, uint64_t piece)
{
    struct state_key key = *prefix;
    state_key_u32(&key, (uint32_t)piece);
    return key;
}

uint64_t state_blob_rows(size_t size)
{
    return (BLOB_HEADER + (uint64_t)size + PIECE_BODY_MAX - 1) / PIECE_BODY_MAX;
}

static int put_first(struct state_txn *txn, const struct state_key *prefix, const uint8_t *bytes, size_t size,
                     size_t part)
{
    uint8_t body[PIECE_BODY_MAX];
    put_u32(body, (uint32_t)size);
    put_u32(body + 4, crc32c(0, bytes, size));
    if (part)
        memcpy(body + BLOB_HEADER, bytes, part);
    struct state_key key = piece_key(prefix, 0);
    return state_table_put(txn, &key, body, BLOB_HEADER + part);
}

int state_blob_put(struct state_txn *txn, const struct state_key *prefix, const void *bytes, size_t size)
{
    int code = state_blob_delete(txn, prefix);
    if (code)
        return code;
    const uint8_t *from = bytes;
    size_t done = size < PIECE_BODY_MAX - BLOB_HEADER ? size : PIECE_BODY_MAX - BLOB_HEADER;
    code = put_first(txn, prefix, from, size, done);
    for (uint32_t piece = 1; !code && done < size; piece++) {
        size_t part = size - done < PIECE_BODY_MAX ? size - done : PIECE_BODY_MAX;
        struct state_key key = piece_key(prefix, piece);
        code = state_table_put(txn, &key, from + done, part);
        done += part;
    }
    return code;
}

/* Reads piece 0: allocates what all need, and copies the first part. */
static int get_first(struct state_txn *txn, const struct state_key *prefix, struct buffer *out, size_t *ret_size,
                     uint32_t *ret_crc)
{
    struct state_row view;
    struct state_key key = piece_key(prefix, 0);
    int code = state_table_get(txn, &key, &view);
    if (code)
        return code;
    if (view.body_size < BLOB_HEADER)
        return err_set(SPOOL_EDAMAGED, STATE_FILE ": a first piece of %zu bytes", view.body_size);
    *ret_size = get_u32(view.body);
    *ret_crc = get_u32(view.body + 4);
    if (*ret_size > txn->state->map_bytes) /* no memory for what cannot be there */
        return err_set(SPOOL_EDAMAGED, STATE_FILE ": %zu bytes in pieces", *ret_size);
    code = buffer_reserve(out, *ret_size + 1);
    return code ? code : buffer_put(out, view.body + BLOB_HEADER, view.body_size - BLOB_HEADER);
}

static int get_all(struct state_txn *txn, const struct state_key *prefix, struct buffer *out)
{
    size_t size = 0;
    uint32_t crc = 0;
    int code = get_first(txn, prefix, out, &size, &crc);
    for (uint32_t piece = 1; !code && out->size < size; piece++) {
        struct state_row view;
        struct state_key key = piece_key(prefix, piece);
        code = state_table_get(txn, &key, &view);
        if (!code)
            code = buffer_put(out, view.body, view.body_size);
        else if (code == SPOOL_ENOTFOUND)
            code = err_set(SPOOL_EDAMAGED, STATE_FILE ": piece %u is missing", piece);
    }
    if (!code && (out->size != size || crc32c(0, out->data, size) != crc))
        code = err_set(SPOOL_EDAMAGED, STATE_FILE ": pieces that do not belong together");
    return code ? code : buffer_put(out, "", 1);
}

int state_blob_get(struct state_txn *txn, const struct state_key *prefix, uint8_t **ret, size_t *ret_size)
{
    struct buffer out = {0};
    int code = get_all(txn, prefix, &out);
    if (code) {
        buffer_free(&out);
        return code;
    }
    *ret = out.data;
    *ret_size = out.size - 1;
    return SPOOL_OK;
}

int state_blob_delete(struct state_txn *txn, const struct state_key *prefix)
{
    uint64_t deleted;
    return state_table_clear(txn, prefix, UINT64_MAX, &deleted);
}
