/* state_dead.c - dead letters: listing, requeueing, purging. (state_ack.c puts them there.)
 *
 * They are found by event id, whatever sink they belong to, and carry the sink's name, which survives the sink. Changes
 * run in bounded transactions; each letter moves or goes in one. */
#include "state_inside.h"

enum { CHUNK_BYTES = 1 << 20 };

/* Which letters are meant. */
struct dead_filter {
    const char *sink;          /* NULL: of all */
    const struct spool_id *id; /* NULL: all */
};

static struct state_key first_key(const struct dead_filter *filter)
{
    struct state_key key = state_key(TABLE_DEAD);
    if (filter->id)
        state_key_bytes(&key, filter->id->bytes, sizeof filter->id->bytes);
    return key;
}

/* The next letter behind `at` that is meant; counts those looked at. */
static int next_letter(struct state_txn *txn, const struct dead_filter *filter, struct state_key *at, size_t prefix,
                       uint64_t *seen, uint64_t most, struct copy_row *ret)
{
    while (*seen < most) {
        struct state_row view;
        int code = state_table_next(txn, at, prefix, &view);
        if (code)
            return code;
        ++*seen;
        if (copy_row_parse(&view, ret) == SPOOL_OK && (!filter->sink || strcmp(ret->sink, filter->sink) == 0))
            return SPOOL_OK;
    }
    return err_set(SPOOL_ETIMEOUT, "enough for one transaction");
}

/* --------------------------------------------------------------------------------------------------------- listing */

struct dead_chunk {
    struct store_dead *letters; /* STATE_CHUNK_ROWS */
    size_t n, bytes;
    struct state_key at;
    bool end;
};

static int add_letter(struct state_txn *txn, const struct copy_row *copy, struct dead_chunk *chunk)
{
    uint8_t *packed;
    int code = copy_load(txn, copy, &packed);
    if (code == SPOOL_EDAMAGED) {
        state_txn_note(txn, 1, "dead letter of sink %s, lane %d, event %llu: its copy is damaged", copy->sink,
                       copy->row.lane, (unsigned long long)copy->row.seq);
        return SPOOL_OK;
    }
    if (code)
        return code;
    struct store_dead *letter = &chunk->letters[chunk->n++];
    memcpy(letter->sink, copy->sink, sizeof letter->sink);
    letter->row = copy->row;
    letter->died_ns = copy->died_ns;
    letter->packed = packed;
    letter->packed_size = copy->row.size;
    chunk->bytes += copy->row.size;
    return SPOOL_OK;
}

static int gather(struct state_txn *txn, const struct dead_filter *filter, struct dead_chunk *chunk)
{
    uint64_t seen = 0;
    int code = SPOOL_OK;
    while (!code && chunk->n < STATE_CHUNK_ROWS && chunk->bytes < CHUNK_BYTES) {
        struct copy_row copy;
        code = next_letter(txn, filter, &chunk->at, 1, &seen, STATE_TXN_ROWS, &copy);
        if (!code)
            code = add_letter(txn, &copy, chunk);
    }
    chunk->end = code == SPOOL_ENOTFOUND;
    return chunk->end || code == SPOOL_ETIMEOUT ? SPOOL_OK : code;
}

static void release(struct dead_chunk *chunk)
{
    for (size_t i = 0; i < chunk->n; i++)
        free((void *)chunk->letters[i].packed);
    chunk->n = chunk->bytes = 0;
}

static int each_of_chunk(struct state *state, const struct dead_filter *filter, uint64_t deadline_ns,
                         struct dead_chunk *chunk, int (*each)(void *user, const struct store_dead *dead), void *user)
{
    struct state_txn txn;
    int code = state_txn_read(state, deadline_ns, &txn);
    if (code)
        return code;
    code = gather(&txn, filter, chunk);
    state_txn_abort(&txn);
    for (size_t i = 0; i < chunk->n && !code; i++)
        code = each(user, &chunk->letters[i]);
    release(chunk);
    return code;
}

int state_dead_each(struct state *state, const char *sink, uint64_t deadline_ns,
                    int (*each)(void *user, const struct store_dead *dead), void *user)
{
    const struct dead_filter filter = {.sink = sink};
    struct dead_chunk chunk = {.letters = malloc(STATE_CHUNK_ROWS * sizeof *chunk.letters), .at = first_key(&filter)};
    if (!chunk.letters)
        return err_errno(ENOMEM, "reading the dead letters");
    int code = SPOOL_OK;
    while (!code && !chunk.end)
        code = each_of_chunk(state, &filter, deadline_ns, &chunk, each, user);
    free(chunk.letters);
    return code;
}

/* ------------------------------------------------------------------------------------------------- taking them away */

struct dead_round {
    struct dead_filter filter;
    int (*take)(struct state_txn *txn, const struct copy_row *copy, bool *ret_taken);
    enum state_room room;
    struct state_key at;
    size_t prefix;
    uint64_t taken;
    bool end;
};

static int forget_letter(struct state_txn *txn, const struct copy_row *copy)
{
    struct sink_row sink;
    struct state_key key = copy_dead_key(&copy->row.id, copy->sink_id);
    int code = state_table_delete(txn, &key);
    if (!code)
        code = sink_row_find(txn, copy->sink, &sink);
    if (code == SPOOL_ENOTFOUND)
        return SPOOL_OK; /* of a removed sink */
    if (code)
        return code;
    sink.dead_rows -= sink.dead_rows > 0;
    return sink_row_put(txn, &sink);
}

static int take_part(struct state_txn *txn, struct dead_round *round, uint64_t *taken)
{
    uint64_t seen = 0, rows = 0;
    int code = state_reserve_check(txn, round->room, STATE_TXN_ROWS, 0);
    while (!code && rows < STATE_TXN_ROWS / 4) {
        struct copy_row copy;
        bool done = false;
        code = next_letter(txn, &round->filter, &round->at, round->prefix, &seen, STATE_TXN_ROWS, &copy);
        if (!code)
            code = round->take(txn, &copy, &done);
        if (code || !done)
            continue;
        code = forget_letter(txn, &copy);
        rows += round->room == ROOM_ACK ? copy_rows(copy.row.size) : 2;
        ++*taken;
    }
    round->end = code == SPOOL_ENOTFOUND;
    if (code && !round->end && code != SPOOL_ETIMEOUT)
        return code;
    return state_totals_add_dead(txn, -(int64_t)*taken);
}

static int take_all(struct state *state, struct dead_round *round, uint64_t deadline_ns, uint64_t *ret_n)
{
    round->at = first_key(&round->filter);
    round->prefix = round->at.size;
    int code = SPOOL_OK;
    while (!code && !round->end) {
        struct state_txn txn;
        uint64_t taken = 0;
        code = state_txn_write(state, deadline_ns, &txn);
        if (!code)
            code = state_txn_end(&txn, take_part(&txn, round, &taken));
        if (!code)
            round->taken += taken;
    }
    if (!code && !round->taken)
        code = err_set(SPOOL_ENOTFOUND, "there is no such dead letter%s",
                       round->room == ROOM_ACK ? "" : " of a registered sink");
    if (!code && ret_n)
        *ret_n = round->taken;
    return code;
}

static int requeue_one(struct state_txn *txn, const struct copy_row *copy, bool *ret_taken)
{
    struct sink_row sink;
    int code = sink_row_find(txn, copy->sink, &sink);
    if (code)
        return code == SPOOL_ENOTFOUND ? SPOOL_OK : code; /* stays */
    struct state_key key = copy_retry_key(sink.id, copy->row.lane, copy->row.seq);
    struct copy_row old, retry = *copy;
    code = copy_row_get(txn, &key, &old);
    if (!code)
        code = copy_drop(txn, &old);
    else if (code == SPOOL_ENOTFOUND || code == SPOOL_EDAMAGED) {
        sink.retry_rows += code == SPOOL_ENOTFOUND;
        code = SPOOL_OK;
    }
    if (code)
        return code;
    retry.row.attempts = 0;
    retry.row.due_ns = 0; /* at once, whatever clock the one who delivers has */
    retry.sink_id = sink.id;
    retry.died_ns = 0;
    memset(retry.sink, 0, sizeof retry.sink);
    code = copy_row_put(txn, &key, &retry);
    *ret_taken = true;
    return code ? code : sink_row_put(txn, &sink);
}

static int purge_one(struct state_txn *txn, const struct copy_row *copy, bool *ret_taken)
{
    *ret_taken = true;
    return copy_drop(txn, copy);
}

int state_dead_requeue(struct state *state, const char *sink, const struct spool_id *id, uint64_t deadline_ns,
                       uint64_t *ret_n)
{
    struct dead_round round = {.filter = {.sink = sink, .id = id}, .take = requeue_one, .room = ROOM_UPDATE};
    return take_all(state, &round, deadline_ns, ret_n);
}

int state_dead_purge(struct state *state, const char *sink, const struct spool_id *id, uint64_t deadline_ns,
                     uint64_t *ret_n)
{
    struct dead_round round = {.filter = {.sink = sink, .id = id}, .take = purge_one, .room = ROOM_ACK};
    return take_all(state, &round, deadline_ns, ret_n);
}
