/* state_recount.c - makes rows and counts agree again, in a salvaged state that nobody else uses yet.
 *
 * Drops what nobody can use: rows that fail their checksum, retries of sinks that are not registered, letters whose
 * copy is not whole, pieces that no row names. Then counts each sink's rows and sets the numbers behind all in use. */
#include "state_inside.h"

struct recount {
    struct state *state;
    struct buffer copies; /* u64 numbers that rows name, unsorted */
    struct buffer sinks;  /* struct recount_sink */
    struct state_numbers numbers;
    uint64_t dead_letters;
};

struct recount_sink {
    uint32_t id;
    char name[SINK_NAME_MAX + 1];
    uint64_t retry_rows, dead_rows;
};

/* ------------------------------------------------------------------------------------------------- walking a table */

/* Decides on one row: SPOOL_EDAMAGED drops it. */
typedef int (*recount_row)(struct recount *r, struct state_txn *txn, const struct state_key *key, const MDB_val *value);

static int walk_part(struct recount *r, struct state_txn *txn, struct state_key *at, recount_row row)
{
    for (int i = 0; i < STATE_TXN_ROWS; i++) {
        MDB_val value;
        int code = state_table_next_raw(txn, at, 1, &value);
        if (code)
            return code;
        code = row(r, txn, at, &value);
        if (code == SPOOL_EDAMAGED)
            code = state_table_delete(txn, at);
        if (code)
            return code;
    }
    return SPOOL_OK;
}

static int walk(struct recount *r, enum state_table table, recount_row row)
{
    struct state_key at = state_key((uint8_t)table);
    bool end = false;
    int code = SPOOL_OK;
    while (!code && !end) {
        struct state_txn txn;
        code = state_txn_inner(r->state, true, &txn);
        if (code)
            return code;
        code = walk_part(r, &txn, &at, row);
        end = code == SPOOL_ENOTFOUND;
        code = state_txn_end(&txn, end ? SPOOL_OK : code);
    }
    return code;
}

/* ---------------------------------------------------------------------------------------------------------- sinks */

static struct recount_sink *find_sink(const struct recount *r, uint32_t id, const char *name)
{
    struct recount_sink *sinks = (struct recount_sink *)r->sinks.data;
    for (size_t i = 0; i < r->sinks.size / sizeof *sinks; i++) {
        if (name ? strcmp(sinks[i].name, name) == 0 : sinks[i].id == id)
            return &sinks[i];
    }
    return NULL;
}

static int see_sink(struct recount *r, struct state_txn *txn, const struct state_key *key, const MDB_val *value)
{
    (void)txn;
    struct state_row view;
    struct sink_row sink;
    if (state_table_check(r->state, key, value, &view) || sink_row_parse(&view, &sink))
        return SPOOL_OK; /* stays: salvage at the next open looks for an older version of it */
    if (r->numbers.sink <= sink.id)
        r->numbers.sink = sink.id + 1;
    if (r->numbers.generation <= sink.generation)
        r->numbers.generation = sink.generation + 1;
    if (sink.removed)
        return SPOOL_OK;
    struct recount_sink seen = {.id = sink.id};
    memcpy(seen.name, sink.name, sizeof seen.name);
    return buffer_put(&r->sinks, &seen, sizeof seen);
}

/* --------------------------------------------------------------------------------------------------- copied events */

/* Is the copy whole? Reads it. */
static int check_copy(struct recount *r, struct state_txn *txn, const struct state_key *key, const MDB_val *value,
                      struct copy_row *ret)
{
    struct state_row view;
    uint8_t *packed;
    int code = state_table_check(r->state, key, value, &view);
    if (!code)
        code = copy_row_parse(&view, ret);
    if (!code)
        code = copy_load(txn, ret, &packed);
    if (code)
        return code;
    free(packed);
    if (r->numbers.copy <= ret->copy)
        r->numbers.copy = ret->copy + 1;
    return ret->copy ? buffer_put(&r->copies, &ret->copy, sizeof ret->copy) : SPOOL_OK;
}

static int see_retry(struct recount *r, struct state_txn *txn, const struct state_key *key, const MDB_val *value)
{
    struct copy_row copy;
    struct recount_sink *sink = key->size == 14 ? find_sink(r, get_be32(key->bytes + 1), NULL) : NULL;
    if (!sink)
        return err_set(SPOOL_EDAMAGED, STATE_FILE ": a retry of no sink");
    int code = check_copy(r, txn, key, value, &copy);
    sink->retry_rows += !code;
    return code;
}

static int see_dead(struct recount *r, struct state_txn *txn, const struct state_key *key, const MDB_val *value)
{
    struct copy_row copy;
    int code = check_copy(r, txn, key, value, &copy);
    struct recount_sink *sink = code ? NULL : find_sink(r, 0, copy.sink);
    if (sink)
        sink->dead_rows++;
    r->dead_letters += !code;
    return code;
}

static int compare_copies(const void *a, const void *b)
{
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

static int see_piece(struct recount *r, struct state_txn *txn, const struct state_key *key, const MDB_val *value)
{
    (void)txn;
    (void)value;
    uint64_t copy = key->size == 13 ? get_be64(key->bytes + 1) : 0;
    size_t n = r->copies.size / sizeof copy;
    bool named = n && bsearch(&copy, r->copies.data, n, sizeof copy, compare_copies);
    return named ? SPOOL_OK : err_set(SPOOL_EDAMAGED, STATE_FILE ": a piece of no event");
}

/* --------------------------------------------------------------------------------------------------------- writing */

static int put_counts(struct recount *r, struct state_txn *txn)
{
    struct sink_row sink;
    struct state_totals totals;
    uint32_t at = 0;
    int code;
    while ((code = sink_row_next(txn, &at, &sink)) == SPOOL_OK) {
        const struct recount_sink *seen = find_sink(r, sink.id, NULL);
        if (!seen)
            continue;
        sink.retry_rows = seen->retry_rows;
        sink.dead_rows = seen->dead_rows;
        code = sink_row_put(txn, &sink);
        if (code)
            return code;
    }
    code = code == SPOOL_ENOTFOUND ? state_totals_get(txn, &totals) : code;
    if (code)
        return code;
    totals.dead_letters = r->dead_letters;
    code = state_totals_put(txn, &totals);
    return code ? code : state_numbers_put(txn, &r->numbers);
}

static int recount_in(struct recount *r)
{
    struct state_txn txn;
    int code = state_txn_inner(r->state, true, &txn);
    if (code)
        return code;
    code = state_txn_end(&txn, state_numbers_get(&txn, &r->numbers));
    if (!code)
        code = walk(r, TABLE_SINK, see_sink);
    if (!code)
        code = walk(r, TABLE_DEAD, see_dead);
    if (!code)
        code = walk(r, TABLE_RETRY, see_retry);
    if (!code && r->copies.size)
        qsort(r->copies.data, r->copies.size / sizeof(uint64_t), sizeof(uint64_t), compare_copies);
    if (!code)
        code = walk(r, TABLE_PIECE, see_piece);
    if (!code)
        code = state_txn_inner(r->state, true, &txn);
    return code ? code : state_txn_end(&txn, put_counts(r, &txn));
}

int state_recount(struct state *state)
{
    struct recount r = {.state = state};
    int code = recount_in(&r);
    buffer_free(&r.copies);
    buffer_free(&r.sinks);
    return code;
}
