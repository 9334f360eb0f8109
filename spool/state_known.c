/* state_known.c - which sequence numbers rows speak of.
 *
 * The log gives them out, and in order: so rows lie behind its end only when segments were lost, the directory is a
 * copy taken in use, or power failed after a failed commit could already be read. Then the log must go on above all of
 * them, or a new event would be taken for one that a sink has finished with, or for the one that a row keeps. */
#include "state_inside.h"

static void raise_to(uint64_t *to, uint64_t seq)
{
    if (*to < seq)
        *to = seq;
}

/* Retry rows end in their sequence number, so the last one tells, of those that have a place in the log. */
static int see_retries(struct state_txn *txn, uint32_t sink_id, int lane, uint64_t *next)
{
    struct state_key at = copy_retry_key(sink_id, lane, SEQ_DETACHED);
    struct state_row view;
    struct copy_row copy;
    int code = state_table_before(txn, &at, at.size - sizeof(uint64_t), &view);
    if (!code && copy_row_parse(&view, &copy) == SPOOL_OK)
        raise_to(next, copy.row.seq + 1);
    return code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
}

static int see_sink(struct state_txn *txn, const struct sink_row *sink, uint64_t next[LANES])
{
    int code = SPOOL_OK;
    for (int lane = 0; lane < LANES && !code; lane++) {
        struct store_range ranges[STORE_RANGES_MAX];
        uint32_t count = 0;
        raise_to(&next[lane], sink->cursor[lane]);
        code = sink_ranges_get(txn, sink, lane, ranges, &count);
        if (count)
            raise_to(&next[lane], ranges[count - 1].first + ranges[count - 1].count);
        if (!code)
            code = see_retries(txn, sink->id, lane, &next[lane]);
    }
    return code;
}

static int see_sinks(struct state_txn *txn, uint64_t next[LANES])
{
    struct sink_row sink;
    uint32_t at = 0;
    int code;
    while ((code = sink_row_next(txn, &at, &sink)) == SPOOL_OK) {
        code = see_sink(txn, &sink, next);
        if (code)
            return code;
    }
    return code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
}

static int see_letters(struct state_txn *txn, uint64_t next[LANES])
{
    struct state_key at = state_key(TABLE_DEAD);
    struct state_row view;
    struct copy_row copy;
    int code;
    while ((code = state_table_next(txn, &at, 1, &view)) == SPOOL_OK) {
        if (copy_row_parse(&view, &copy) == SPOOL_OK && copy.row.seq < SEQ_DETACHED)
            raise_to(&next[copy.row.lane], copy.row.seq + 1);
    }
    return code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
}

int state_known_next(struct state *state, bool letters, uint64_t deadline_ns, uint64_t ret_next[LANES])
{
    struct state_txn txn;
    uint64_t next[LANES] = {0};
    int code = state_txn_read(state, deadline_ns, &txn);
    if (code)
        return code;
    code = see_sinks(&txn, next);
    if (!code && letters)
        code = see_letters(&txn, next);
    state_txn_abort(&txn);
    if (!code)
        memcpy(ret_next, next, sizeof next);
    return code;
}
