/* state_copy.c - an event copied into the state, because it waits for a retry or is a dead letter.
 *
 * Body of a retry row, and of a dead letter's:
 *
 *    0  4  attempts            4  4  size of the packed event       8  8  first_ns          16  8  due_ns
 *   24  8  key hash           32 16  event id                      48  8  number of the copy, 0: inline
 *   56  4  CRC32C of the packed event                              60  4  sink id
 *   64  8  sequence number    72  8  died_ns, 0 in a retry row     80  1  lane
 *   81  1  size of the reason 82  1  size of the sink's name (0 in a retry row)             83  1  1: has a history
 *   84     reason, name; with a history its size as u16 and its entries (history.c); and the packed event if it is inline
 *
 * Version 1 knows no histories: there the byte at 83 is zero, as it is now in a row without one.
 *
 * An event of up to COPY_INLINE_MAX bytes is inline; a larger one stands in pieces {TABLE_PIECE, number, piece}. The
 * number is never used again. Valid if the sizes add up and the CRC matches the event. */
#include "state_inside.h"

enum {
    AT_SIZE = 4,
    AT_FIRST = 8,
    AT_DUE = 16,
    AT_HASH = 24,
    AT_ID = 32,
    AT_COPY = 48,
    AT_CRC = 56,
    AT_SINK = 60,
    AT_SEQ = 64,
    AT_DIED = 72,
    AT_LANE = 80,
    AT_REASON_SIZE = 81,
    AT_NAME_SIZE = 82,
    AT_HAS_HISTORY = 83,
    COPY_HEADER = 84,
    COPY_BODY_MAX = COPY_HEADER + REASON_MAX + SINK_NAME_MAX + COPY_INLINE_MAX + 2 + HISTORY_ROOM_MAX,
    LEAF_BODY_MAX = 1960, /* a row of that stays within a leaf page of LMDB: half a page, less key and headers */
};
_Static_assert(LEAF_BODY_MAX - (COPY_HEADER + REASON_MAX + SINK_NAME_MAX + COPY_INLINE_MAX + 2) >= HISTORY_ROOM_MIN,
               "the largest inline event leaves room for a history");

struct state_key copy_retry_key(uint32_t sink_id, int lane, uint64_t seq)
{
    struct state_key key = state_key(TABLE_RETRY);
    state_key_u32(&key, sink_id);
    state_key_u8(&key, (uint8_t)lane);
    state_key_u64(&key, seq);
    return key;
}

struct state_key copy_dead_key(const struct spool_id *id, uint32_t sink_id)
{
    struct state_key key = state_key(TABLE_DEAD);
    state_key_bytes(&key, id->bytes, sizeof id->bytes);
    state_key_u32(&key, sink_id);
    return key;
}

static struct state_key piece_prefix(uint64_t copy)
{
    struct state_key key = state_key(TABLE_PIECE);
    state_key_u64(&key, copy);
    return key;
}

/* ------------------------------------------------------------------------------------------------------- the row */

static void parse_fields(const uint8_t *body, struct copy_row *ret)
{
    ret->row.attempts = get_u32(body);
    ret->row.size = get_u32(body + AT_SIZE);
    ret->row.first_ns = get_u64(body + AT_FIRST);
    ret->row.due_ns = get_u64(body + AT_DUE);
    ret->row.key_hash = get_u64(body + AT_HASH);
    memcpy(ret->row.id.bytes, body + AT_ID, sizeof ret->row.id.bytes);
    ret->copy = get_u64(body + AT_COPY);
    ret->crc = get_u32(body + AT_CRC);
    ret->sink_id = get_u32(body + AT_SINK);
    ret->row.seq = get_u64(body + AT_SEQ);
    ret->died_ns = get_u64(body + AT_DIED);
    ret->row.lane = body[AT_LANE];
}

/* Where the history stands, its two bytes of size included; *ret_size is 0 if there is none. False: it cannot be. */
static bool find_history(const struct state_row *view, size_t at, size_t *ret_size)
{
    *ret_size = 0;
    if (!view->body[AT_HAS_HISTORY])
        return true;
    if (view->body[AT_HAS_HISTORY] != 1 || view->body_size < at + 2)
        return false;
    *ret_size = 2 + (size_t)get_u16(view->body + at);
    return *ret_size <= 2 + HISTORY_ROOM_MAX;
}

int copy_row_parse(const struct state_row *view, struct copy_row *ret)
{
    const uint8_t *body = view->body;
    if (view->body_size < COPY_HEADER)
        return err_set(SPOOL_EDAMAGED, STATE_FILE ": an event's row of %zu bytes", view->body_size);
    memset(ret, 0, offsetof(struct copy_row, inlined));
    parse_fields(body, ret);
    size_t reason = body[AT_REASON_SIZE], name = body[AT_NAME_SIZE], inlined = ret->copy ? 0 : ret->row.size;
    size_t texts = COPY_HEADER + reason + name, history;
    if (name > SINK_NAME_MAX || inlined > COPY_INLINE_MAX || ret->row.lane >= LANES ||
        !find_history(view, texts, &history) || view->body_size != texts + history + inlined)
        return err_set(SPOOL_EDAMAGED, STATE_FILE ": an event's row whose sizes do not fit it");
    memcpy(ret->row.reason, body + COPY_HEADER, reason);
    memcpy(ret->sink, body + COPY_HEADER + reason, name);
    ret->history.size = history ? history - 2 : 0;
    if (history)
        memcpy(ret->history.bytes, body + texts + 2, ret->history.size);
    memcpy(ret->inlined, body + texts + history, inlined);
    return SPOOL_OK;
}

int copy_row_get(struct state_txn *txn, const struct state_key *key, struct copy_row *ret)
{
    struct state_row view;
    int code = state_table_get(txn, key, &view);
    return code ? code : copy_row_parse(&view, ret);
}

static void pack_fields(const struct copy_row *copy, uint8_t *body)
{
    put_u32(body, copy->row.attempts);
    put_u32(body + AT_SIZE, copy->row.size);
    put_u64(body + AT_FIRST, copy->row.first_ns);
    put_u64(body + AT_DUE, copy->row.due_ns);
    put_u64(body + AT_HASH, copy->row.key_hash);
    memcpy(body + AT_ID, copy->row.id.bytes, sizeof copy->row.id.bytes);
    put_u64(body + AT_COPY, copy->copy);
    put_u32(body + AT_CRC, copy->crc);
    put_u32(body + AT_SINK, copy->sink_id);
    put_u64(body + AT_SEQ, copy->row.seq);
    put_u64(body + AT_DIED, copy->died_ns);
    body[AT_LANE] = (uint8_t)copy->row.lane;
    body[AT_HAS_HISTORY] = copy->history.size > 0;
}

static size_t put_history(const struct history *history, uint8_t *to)
{
    if (!history->size)
        return 0;
    put_u16(to, (uint16_t)history->size);
    memcpy(to + 2, history->bytes, history->size);
    return 2 + history->size;
}

/* What the rest of the row leaves. A dead letter has a name, so its room is kept in retry rows, too. */
static size_t history_room(const struct copy_row *copy)
{
    size_t rest = COPY_HEADER + strnlen(copy->row.reason, REASON_MAX) + SINK_NAME_MAX + 2;
    rest += copy->row.size <= COPY_INLINE_MAX ? copy->row.size : 0;
    size_t room = LEAF_BODY_MAX - rest;
    return room < HISTORY_ROOM_MAX ? room : HISTORY_ROOM_MAX;
}

void copy_note(struct copy_row *copy, enum spool_attempt_kind kind, uint64_t at_ns, const char *reason)
{
    const struct store_attempt entry = {
        .kind = kind, .at_ns = at_ns, .reason = reason, .reason_size = strnlen(reason, REASON_MAX)};
    history_add(&copy->history, &entry, history_room(copy));
}

int copy_row_put(struct state_txn *txn, const struct state_key *key, const struct copy_row *copy)
{
    uint8_t body[COPY_BODY_MAX];
    size_t reason = strnlen(copy->row.reason, REASON_MAX), name = strlen(copy->sink);
    size_t inlined = copy->copy ? 0 : copy->row.size, at = COPY_HEADER;
    pack_fields(copy, body);
    body[AT_REASON_SIZE] = (uint8_t)reason;
    body[AT_NAME_SIZE] = (uint8_t)name;
    memcpy(body + at, copy->row.reason, reason);
    at += reason;
    memcpy(body + at, copy->sink, name);
    at += name;
    at += put_history(&copy->history, body + at);
    memcpy(body + at, copy->inlined, inlined);
    return state_table_put(txn, key, body, at + inlined);
}

/* ----------------------------------------------------------------------------------------------------- the event */

uint64_t copy_rows(size_t size)
{
    return 1 + (size > COPY_INLINE_MAX ? state_blob_rows(size) : 0);
}

uint64_t copy_bytes(size_t size)
{
    const uint64_t fields = COPY_HEADER + REASON_MAX + STORE_ATTEMPT_REASON_MAX;
    return size > COPY_INLINE_MAX ? fields + state_blob_rows(size) * 4096 : fields + 2 * size;
}

int copy_store(struct state_txn *txn, const uint8_t *packed, struct copy_row *copy)
{
    copy->crc = crc32c(0, packed, copy->row.size);
    copy->copy = 0;
    if (copy->row.size <= COPY_INLINE_MAX) {
        memcpy(copy->inlined, packed, copy->row.size);
        return SPOOL_OK;
    }
    struct state_numbers numbers;
    int code = state_numbers_get(txn, &numbers);
    if (code)
        return code;
    copy->copy = numbers.copy++;
    struct state_key prefix = piece_prefix(copy->copy);
    code = state_numbers_put(txn, &numbers);
    return code ? code : state_blob_put(txn, &prefix, packed, copy->row.size);
}

static int load_bytes(struct state_txn *txn, const struct copy_row *copy, uint8_t **ret, size_t *ret_size)
{
    if (copy->copy) {
        struct state_key prefix = piece_prefix(copy->copy);
        int code = state_blob_get(txn, &prefix, ret, ret_size);
        return code == SPOOL_ENOTFOUND ? err_set(SPOOL_EDAMAGED, STATE_FILE ": the pieces of an event are missing")
                                       : code;
    }
    uint8_t *bytes = malloc(copy->row.size + 1);
    if (!bytes)
        return err_errno(ENOMEM, STATE_FILE ": an event of %u bytes", copy->row.size);
    memcpy(bytes, copy->inlined, copy->row.size);
    *ret = bytes;
    *ret_size = copy->row.size;
    return SPOOL_OK;
}

int copy_load(struct state_txn *txn, const struct copy_row *copy, uint8_t **ret)
{
    uint8_t *bytes;
    size_t size;
    int code = load_bytes(txn, copy, &bytes, &size);
    if (code)
        return code;
    if (size != copy->row.size || crc32c(0, bytes, size) != copy->crc) {
        free(bytes);
        return err_set(SPOOL_EDAMAGED, STATE_FILE ": the copy of an event is another one's");
    }
    *ret = bytes;
    return SPOOL_OK;
}

int copy_drop(struct state_txn *txn, const struct copy_row *copy)
{
    if (!copy->copy)
        return SPOOL_OK;
    struct state_key prefix = piece_prefix(copy->copy);
    return state_blob_delete(txn, &prefix);
}
