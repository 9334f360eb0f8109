/* state_dead_take.c - taking dead letters away: back into a queue, for good, or because there are too many.
 *
 * Changes run in bounded transactions; each letter moves or goes in one. Put back where it belongs, a letter takes the
 * place in the log that it had. For another sink that place may lie before the cursor or still be ahead of it, and
 * there may be a row of the event already: so there it gets a number of its own (SEQ_DETACHED), and no order. */
#include <stdio.h>

#include "state_inside.h"

enum { COPIES_BYTES = 1 << 20 }; /* of new copies in one transaction, about */

struct dead_round {
    struct dead_filter filter;
    int (*take)(struct state_txn *txn, const struct dead_round *round, const struct copy_row *copy, bool *ret_taken);
    enum state_room room;
    const char *to;                         /* requeueing: another sink than its own */
    bool to_all;                            /* … or all there are */
    const struct store_dead_limits *limits; /* trimming */
    uint64_t now_ns;                        /* wall clock */
    uint64_t rows, bytes;                   /* trimming: how many are too many */
    struct state_key at;
    size_t prefix;
    uint64_t taken;
    bool end;
};

int dead_forget(struct state_txn *txn, const struct copy_row *copy)
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
    int code = state_reserve_check(txn, round->room, STATE_TXN_ROWS, round->room == ROOM_NEW ? COPIES_BYTES : 0);
    while (!code && rows < STATE_TXN_ROWS / 4) {
        struct copy_row copy;
        bool done = false;
        code = dead_next(txn, &round->filter, &round->at, round->prefix, &seen, STATE_TXN_ROWS, &copy);
        if (!code)
            code = round->take(txn, round, &copy, &done);
        if (code || !done)
            continue;
        code = dead_forget(txn, &copy);
        rows += round->room == ROOM_UPDATE ? 2 : copy_rows(copy.row.size);
        ++*taken;
    }
    round->end = code == SPOOL_ENOTFOUND;
    if (code && !round->end && code != SPOOL_ETIMEOUT)
        return code;
    return state_totals_add_dead(txn, -(int64_t)*taken);
}

/* *ret_n may be 0 in the end. */
static int take_all(struct state *state, struct dead_round *round, uint64_t deadline_ns)
{
    round->at = dead_first_key(&round->filter);
    round->prefix = round->at.size;
    round->now_ns = state_wall_ns(state);
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
    return code;
}

static int take_some(struct state *state, struct dead_round *round, uint64_t deadline_ns, uint64_t *ret_n)
{
    int code = take_all(state, round, deadline_ns);
    if (!code && !round->taken)
        code = err_set(SPOOL_ENOTFOUND, "there is no such dead letter%s",
                       round->room == ROOM_ACK ? "" : " of a registered sink");
    if (!code && ret_n)
        *ret_n = round->taken;
    return code;
}

/* ------------------------------------------------------------------------------------------------------ requeueing */

/* Makes room for a retry row of that key: *ret_new tells whether the sink has one more then. */
static int clear_place(struct state_txn *txn, const struct state_key *key, bool *ret_new)
{
    struct copy_row old;
    int code = copy_row_get(txn, key, &old);
    *ret_new = code == SPOOL_ENOTFOUND;
    if (!code)
        return copy_drop(txn, &old);
    return code == SPOOL_ENOTFOUND || code == SPOOL_EDAMAGED ? SPOOL_OK : code;
}

static int put_retry(struct state_txn *txn, const struct dead_round *round, struct sink_row *sink,
                     struct copy_row *retry)
{
    struct state_key key = copy_retry_key(sink->id, retry->row.lane, retry->row.seq);
    bool is_new;
    int code = clear_place(txn, &key, &is_new);
    if (code)
        return code;
    char from[SINK_NAME_MAX + 16] = "";
    if (*retry->sink && strcmp(retry->sink, sink->name) != 0)
        snprintf(from, sizeof from, "from sink %s", retry->sink);
    copy_note(retry, SPOOL_ATTEMPT_REQUEUED, round->now_ns, from);
    retry->row.attempts = 0;
    retry->row.due_ns = 0; /* at once, whatever clock the one who delivers has */
    retry->sink_id = sink->id;
    retry->died_ns = 0;
    memset(retry->sink, 0, sizeof retry->sink);
    sink->retry_rows += is_new;
    code = purged_remove(txn, sink->id, &retry->row.id);
    if (!code)
        code = copy_row_put(txn, &key, retry);
    return code ? code : sink_row_put(txn, sink);
}

/* To the sink that gave it up: its event moves without being copied. */
static int requeue_one(struct state_txn *txn, const struct dead_round *round, const struct copy_row *copy,
                       bool *ret_taken)
{
    struct sink_row sink;
    struct copy_row retry = *copy;
    int code = sink_row_find(txn, copy->sink, &sink);
    if (code)
        return code == SPOOL_ENOTFOUND ? SPOOL_OK : code; /* stays */
    *ret_taken = true;
    return put_retry(txn, round, &sink, &retry);
}

/* A copy of its own for another sink, at no place in the log. */
static int requeue_copy(struct state_txn *txn, const struct dead_round *round, const struct copy_row *copy,
                        const uint8_t *packed, struct sink_row *sink)
{
    struct state_numbers numbers;
    struct copy_row retry = *copy;
    int code = state_numbers_get(txn, &numbers);
    if (code)
        return code;
    retry.row.seq = SEQ_DETACHED | numbers.copy++;
    retry.row.key_hash = 0;
    code = state_numbers_put(txn, &numbers);
    if (!code)
        code = copy_store(txn, packed, &retry);
    return code ? code : put_retry(txn, round, sink, &retry);
}

static bool is_meant(const struct dead_round *round, const struct copy_row *copy, const struct sink_row *sink)
{
    return round->to_all ? strcmp(copy->sink, sink->name) != 0 : strcmp(round->to, sink->name) == 0;
}

static int requeue_copies(struct state_txn *txn, const struct dead_round *round, const struct copy_row *copy,
                          const uint8_t *packed)
{
    struct sink_row sink;
    uint32_t at = 0;
    int code;
    while ((code = sink_row_next(txn, &at, &sink)) == SPOOL_OK) {
        if (is_meant(round, copy, &sink))
            code = requeue_copy(txn, round, copy, packed, &sink);
        if (code)
            return code;
    }
    return code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
}

/* To others, and with to_all also to its own: then the row of that takes the copy over, else it goes. */
static int requeue_elsewhere(struct state_txn *txn, const struct dead_round *round, const struct copy_row *copy,
                             bool *ret_taken)
{
    uint8_t *packed;
    bool moved = false;
    if (round->to && strcmp(round->to, copy->sink) == 0)
        return requeue_one(txn, round, copy, ret_taken);
    int code = copy_load(txn, copy, &packed);
    if (code)
        return code == SPOOL_EDAMAGED ? SPOOL_OK : code; /* stays, and is listed as damaged */
    code = requeue_copies(txn, round, copy, packed);
    free(packed);
    if (!code && round->to_all)
        code = requeue_one(txn, round, copy, &moved);
    if (!code && !moved)
        code = copy_drop(txn, copy);
    *ret_taken = true;
    return code;
}

int state_dead_requeue(struct state *state, const char *sink, const struct spool_id *id, uint64_t deadline_ns,
                       uint64_t *ret_n)
{
    struct dead_round round = {.filter = {.sink = sink, .id = id}, .take = requeue_one, .room = ROOM_UPDATE};
    return take_some(state, &round, deadline_ns, ret_n);
}

static int check_target(struct state *state, const char *to, uint64_t deadline_ns)
{
    struct state_txn txn;
    struct sink_row sink;
    uint32_t at = 0;
    int code = state_txn_read(state, deadline_ns, &txn);
    if (code)
        return code;
    code = to ? sink_row_find(&txn, to, &sink) : sink_row_next(&txn, &at, &sink);
    state_txn_abort(&txn);
    return code == SPOOL_ENOTFOUND && !to ? err_set(code, "no sink is registered") : code;
}

int state_dead_requeue_to(struct state *state, const char *sink, const struct spool_id *id, const char *to,
                          uint64_t deadline_ns, uint64_t *ret_n)
{
    struct dead_round round = {
        .filter = {.sink = sink, .id = id}, .take = requeue_elsewhere, .room = ROOM_NEW, .to = to, .to_all = !to};
    int code = check_target(state, to, deadline_ns);
    return code ? code : take_some(state, &round, deadline_ns, ret_n);
}

/* --------------------------------------------------------------------------------------------------------- purging */

static int purge_one(struct state_txn *txn, const struct dead_round *round, const struct copy_row *copy,
                     bool *ret_taken)
{
    *ret_taken = true;
    int code = purged_add(txn, copy, round->now_ns, false);
    return code ? code : copy_drop(txn, copy);
}

int state_dead_purge(struct state *state, const char *sink, const struct spool_id *id, uint64_t deadline_ns,
                     uint64_t *ret_n)
{
    struct dead_round round = {.filter = {.sink = sink, .id = id}, .take = purge_one, .room = ROOM_ACK};
    return take_some(state, &round, deadline_ns, ret_n);
}

/* -------------------------------------------------------------------------------------------------------- trimming */

static bool is_too_old(const struct dead_round *round, const struct copy_row *copy)
{
    uint64_t age_ns = round->now_ns > copy->died_ns ? round->now_ns - copy->died_ns : 0;
    return round->limits->age_max_ms && age_ns / NS_PER_MS > round->limits->age_max_ms;
}

/* How much there is of the sink, apart from what is too old. */
static int measure(struct state_txn *txn, struct dead_round *round, uint64_t *ret_old)
{
    struct state_key at = dead_first_key(&round->filter);
    struct copy_row copy;
    uint64_t seen = 0;
    int code;
    while ((code = dead_next(txn, &round->filter, &at, 1, &seen, UINT64_MAX, &copy)) == SPOOL_OK) {
        bool old = is_too_old(round, &copy);
        *ret_old += old;
        round->rows += !old;
        round->bytes += old ? 0 : copy.row.size;
    }
    return code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
}

static uint64_t beyond(uint64_t n, uint64_t max)
{
    return max && n > max ? n - max : 0;
}

/* `rows` and `bytes` are what is still too much. */
static int trim_one(struct state_txn *txn, const struct dead_round *round, const struct copy_row *copy, bool *ret_taken)
{
    struct dead_round *mine = (struct dead_round *)round;
    struct sink_row sink;
    bool old = is_too_old(round, copy);
    if (!old && !round->rows && !round->bytes)
        return SPOOL_OK;
    if (!old) {
        mine->rows -= round->rows > 0;
        mine->bytes -= copy->row.size < round->bytes ? copy->row.size : round->bytes;
    }
    int code = sink_row_find(txn, copy->sink, &sink);
    if (!code) {
        sink.dead_dropped++;
        code = sink_row_put(txn, &sink);
    }
    if (!code)
        code = purged_add(txn, copy, round->now_ns, true);
    if (code && code != SPOOL_ENOTFOUND)
        return code;
    *ret_taken = true;
    return copy_drop(txn, copy);
}

int state_dead_trim(struct state *state, const char *sink, const struct store_dead_limits *limits, uint64_t deadline_ns,
                    uint64_t *ret_dropped)
{
    struct dead_round round = {
        .filter = {.sink = sink}, .take = trim_one, .room = ROOM_ACK, .limits = limits, .now_ns = state_wall_ns(state)};
    struct state_txn txn;
    uint64_t old = 0;
    *ret_dropped = 0;
    int code = state_txn_read(state, deadline_ns, &txn);
    if (code)
        return code;
    code = measure(&txn, &round, &old);
    state_txn_abort(&txn);
    round.rows = beyond(round.rows, limits->rows_max);
    round.bytes = beyond(round.bytes, limits->bytes_max);
    if (!code && (old || round.rows || round.bytes))
        code = take_all(state, &round, deadline_ns);
    *ret_dropped = round.taken;
    return code;
}
