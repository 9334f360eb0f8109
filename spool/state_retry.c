/* state_retry.c - reading the retry table, and clearing it of removed sinks. (state_ack.c writes it.) */
#include "state_inside.h"

/* --------------------------------------------------------------------------------------------------------- reading */

struct retry_chunk {
    struct store_retry *rows; /* STATE_CHUNK_ROWS */
    size_t n;
    struct state_key at; /* the last one gathered */
    bool end;
};

static int gather(struct state_txn *txn, size_t prefix, struct retry_chunk *chunk)
{
    struct copy_row copy;
    struct state_row view;
    int code = SPOOL_OK;
    chunk->n = 0;
    while (!code && chunk->n < STATE_CHUNK_ROWS) {
        code = state_table_next(txn, &chunk->at, prefix, &view);
        if (!code && copy_row_parse(&view, &copy) == SPOOL_OK)
            chunk->rows[chunk->n++] = copy.row;
    }
    chunk->end = code == SPOOL_ENOTFOUND;
    return chunk->end ? SPOOL_OK : code;
}

static int next_chunk(struct state *state, uint64_t deadline_ns, size_t prefix, struct retry_chunk *chunk,
                      bool *damaged)
{
    struct state_txn txn;
    int code = state_txn_read(state, deadline_ns, &txn);
    if (code)
        return code;
    code = gather(&txn, prefix, chunk);
    *damaged |= txn.note_count > 0;
    state_txn_abort(&txn);
    return code;
}

static int each_in(struct state *state, uint64_t deadline_ns, struct retry_chunk *chunk,
                   int (*each)(void *user, const struct store_retry *row), void *user, bool *damaged)
{
    const size_t prefix = chunk->at.size;
    int code = SPOOL_OK;
    while (!code && !chunk->end) {
        code = next_chunk(state, deadline_ns, prefix, chunk, damaged);
        for (size_t i = 0; i < chunk->n && !code; i++)
            code = each(user, &chunk->rows[i]);
    }
    return code;
}

/* Deletes the damaged rows of a sink, up to a transaction's worth, and counts the others. */
static int drop_damaged_in(struct state_txn *txn, uint32_t sink_id)
{
    struct sink_row sink;
    struct state_key at = state_key(TABLE_RETRY);
    state_key_u32(&at, sink_id);
    const size_t prefix = at.size;
    int code = sink_row_get(txn, sink_id, &sink);
    if (code)
        return code == SPOOL_ENOTFOUND ? SPOOL_OK : code; /* the sweep takes them */
    uint64_t whole = 0, dropped = 0;
    while (!code && dropped < STATE_TXN_ROWS) {
        MDB_val value;
        struct state_row view;
        code = state_table_next_raw(txn, &at, prefix, &value);
        if (code)
            break;
        bool damaged = state_table_check(txn->state, &at, &value, &view) != SPOOL_OK;
        code = damaged ? state_table_delete(txn, &at) : SPOOL_OK;
        dropped += damaged;
        whole += !damaged;
    }
    if (code != SPOOL_ENOTFOUND)
        return code;
    sink.retry_rows = whole;
    return sink_row_put(txn, &sink);
}

/* Damaged rows are nobody's: they go, so that nobody waits for them. */
static int drop_damaged(struct state *state, uint32_t sink_id, uint64_t deadline_ns)
{
    struct state_txn txn;
    if (state->options.dir->read_only)
        return SPOOL_OK;
    int code = state_txn_write(state, deadline_ns, &txn);
    return code ? code : state_txn_end(&txn, drop_damaged_in(&txn, sink_id));
}

int state_retry_each(struct state *state, uint32_t sink_id, uint64_t deadline_ns,
                     int (*each)(void *user, const struct store_retry *row), void *user)
{
    struct retry_chunk chunk = {.rows = malloc(STATE_CHUNK_ROWS * sizeof *chunk.rows), .at = state_key(TABLE_RETRY)};
    bool damaged = false;
    if (!chunk.rows)
        return err_errno(ENOMEM, "reading the retry table");
    state_key_u32(&chunk.at, sink_id);
    int code = each_in(state, deadline_ns, &chunk, each, user, &damaged);
    free(chunk.rows);
    return !code && damaged ? drop_damaged(state, sink_id, deadline_ns) : code;
}

int state_retry_event(struct state *state, uint32_t sink_id, int lane, uint64_t seq, uint64_t deadline_ns,
                      uint8_t **ret, size_t *ret_size)
{
    struct state_txn txn;
    struct copy_row copy;
    struct state_key key = copy_retry_key(sink_id, lane, seq);
    uint8_t *bytes;
    int code = state_txn_read(state, deadline_ns, &txn);
    if (code)
        return code;
    code = copy_row_get(&txn, &key, &copy);
    if (!code)
        code = copy_load(&txn, &copy, &bytes);
    state_txn_abort(&txn);
    if (code)
        return err_prefix(code, "retry of lane %d, event %llu", lane, (unsigned long long)seq);
    *ret = bytes;
    *ret_size = copy.row.size;
    return SPOOL_OK;
}

/* -------------------------------------------------------------------------------------------------------- sweeping */

/* The lowest id above *id that retry rows name although no such sink is registered. SPOOL_ENOTFOUND. */
static int next_orphan(struct state_txn *txn, uint32_t *id)
{
    for (;;) {
        struct state_key at = state_key(TABLE_RETRY);
        struct sink_row sink;
        MDB_val value;
        if (*id == UINT32_MAX)
            return err_set(SPOOL_ENOTFOUND, "no more sinks");
        state_key_u32(&at, *id + 1);
        int code = state_table_next_raw(txn, &at, 1, &value);
        if (code)
            return code;
        *id = at.size >= 5 ? get_be32(at.bytes + 1) : UINT32_MAX;
        code = sink_row_get(txn, *id, &sink);
        if (code == SPOOL_ENOTFOUND || (!code && sink.removed))
            return SPOOL_OK;
        if (code && code != SPOOL_EDAMAGED)
            return code;
    }
}

static int find_orphan(struct state *state, uint64_t deadline_ns, uint32_t *id)
{
    struct state_txn txn;
    int code = state_txn_read(state, deadline_ns, &txn);
    if (code)
        return code;
    code = next_orphan(&txn, id);
    state_txn_abort(&txn);
    return code;
}

/* Deletes about a transaction's worth; SPOOL_ENOTFOUND when there are no more. */
static int sweep_part(struct state_txn *txn, uint32_t id)
{
    uint64_t rows = 0;
    struct state_key at = state_key(TABLE_RETRY);
    state_key_u32(&at, id);
    while (rows < STATE_TXN_ROWS / 4) {
        struct state_row view;
        struct copy_row copy;
        int code = state_table_next(txn, &at, 5, &view);
        bool whole = !code && copy_row_parse(&view, &copy) == SPOOL_OK; /* one that is not goes all the same */
        if (whole)
            code = copy_drop(txn, &copy);
        if (!code)
            code = state_table_delete(txn, &at);
        if (code)
            return rows && code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
        rows += whole ? copy_rows(copy.row.size) : 1;
    }
    return SPOOL_OK;
}

static int sweep_sink(struct state *state, uint32_t id, uint64_t deadline_ns)
{
    int code = SPOOL_OK;
    while (!code) {
        struct state_txn txn;
        code = state_txn_write(state, deadline_ns, &txn);
        if (!code)
            code = state_txn_end(&txn, sweep_part(&txn, id));
    }
    return code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
}

int state_retry_sweep(struct state *state, uint64_t deadline_ns)
{
    uint32_t id = 0;
    int code;
    while ((code = find_orphan(state, deadline_ns, &id)) == SPOOL_OK) {
        code = sweep_sink(state, id, deadline_ns);
        if (code)
            return code;
    }
    return code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
}
