/* state_dead.c - dead letters: finding and listing them. (state_ack.c puts them there, state_dead_take.c takes them
 * away, state_dead_put.c edits and imports.)
 *
 * They are found by event id, whatever sink they belong to, and carry the sink's name, which survives the sink. */
#include "state_inside.h"

enum { CHUNK_BYTES = 1 << 20 };

struct state_key dead_first_key(const struct dead_filter *filter)
{
    struct state_key key = state_key(TABLE_DEAD);
    if (filter->id)
        state_key_bytes(&key, filter->id->bytes, sizeof filter->id->bytes);
    return key;
}

int dead_next(struct state_txn *txn, const struct dead_filter *filter, struct state_key *at, size_t prefix,
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

struct dead_letter {
    struct store_dead letter;
    struct history history; /* what its attempts point into */
};

struct dead_chunk {
    struct dead_letter *letters; /* STATE_CHUNK_ROWS */
    size_t n, bytes, prefix;
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
    struct dead_letter *kept = &chunk->letters[chunk->n++];
    struct store_dead *letter = &kept->letter;
    memcpy(letter->sink, copy->sink, sizeof letter->sink);
    letter->row = copy->row;
    letter->died_ns = copy->died_ns;
    letter->packed = packed;
    letter->packed_size = copy->row.size;
    kept->history.size = copy->history.size;
    memcpy(kept->history.bytes, copy->history.bytes, copy->history.size);
    chunk->bytes += copy->row.size;
    return SPOOL_OK;
}

static int gather(struct state_txn *txn, const struct dead_filter *filter, struct dead_chunk *chunk)
{
    uint64_t seen = 0;
    int code = SPOOL_OK;
    while (!code && chunk->n < STATE_CHUNK_ROWS && chunk->bytes < CHUNK_BYTES) {
        struct copy_row copy;
        code = dead_next(txn, filter, &chunk->at, chunk->prefix, &seen, STATE_TXN_ROWS, &copy);
        if (!code)
            code = add_letter(txn, &copy, chunk);
    }
    chunk->end = code == SPOOL_ENOTFOUND;
    return chunk->end || code == SPOOL_ETIMEOUT ? SPOOL_OK : code;
}

static void release(struct dead_chunk *chunk)
{
    for (size_t i = 0; i < chunk->n; i++)
        free((void *)chunk->letters[i].letter.packed);
    chunk->n = chunk->bytes = 0;
}

static int tell_letter(struct dead_letter *kept, int (*each)(void *user, const struct store_dead *dead), void *user)
{
    struct store_attempt attempts[STORE_ATTEMPTS_MAX];
    struct store_dead *letter = &kept->letter;
    letter->attempts = attempts;
    if (history_read(kept->history.bytes, kept->history.size, attempts, &letter->attempt_count))
        letter->attempt_count = 0; /* the letter is worth more than its history */
    return each(user, letter);
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
        code = tell_letter(&chunk->letters[i], each, user);
    release(chunk);
    return code;
}

static int each_letter(struct state *state, const struct dead_filter *filter, uint64_t deadline_ns,
                       int (*each)(void *user, const struct store_dead *dead), void *user)
{
    struct dead_chunk chunk = {.letters = malloc(STATE_CHUNK_ROWS * sizeof *chunk.letters),
                               .at = dead_first_key(filter)};
    chunk.prefix = chunk.at.size;
    if (!chunk.letters)
        return err_errno(ENOMEM, "reading the dead letters");
    int code = SPOOL_OK;
    while (!code && !chunk.end)
        code = each_of_chunk(state, filter, deadline_ns, &chunk, each, user);
    free(chunk.letters);
    return code;
}

int state_dead_each(struct state *state, const char *sink, uint64_t deadline_ns,
                    int (*each)(void *user, const struct store_dead *dead), void *user)
{
    const struct dead_filter filter = {.sink = sink};
    return each_letter(state, &filter, deadline_ns, each, user);
}

int state_dead_find(struct state *state, const char *sink, const struct spool_id *id, uint64_t deadline_ns,
                    int (*each)(void *user, const struct store_dead *dead), void *user)
{
    const struct dead_filter filter = {.sink = sink, .id = id};
    return each_letter(state, &filter, deadline_ns, each, user);
}
