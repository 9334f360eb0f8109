/* state_ack.c - what one round of deliveries changes for a sink, made durable.
 *
 * Normally all of it is one transaction. One of more than STATE_TXN_ROWS rows is cut, in this order:
 *
 *   changes of retry rows; letters in the place of retry rows
 *   all that comes from the log, in one: cursor and ranges, what they finish as counted, and new retry rows and letters
 *   deletions of retry rows, each counted with it
 *
 * So each event is at one place at any moment: the log behind the cursor, a retry row, a letter, or a counter. A crash in
 * between repeats deliveries, and what is delivered again was not counted. Sent again as a whole after a failure, an
 * acknowledgement does and counts what is left: a row is counted only if it is there, and the log only if the sink's row
 * does not have its serial. That holds also when a commit that was reported as failed is there nevertheless, as it may
 * be when the disk fails.
 *
 * What comes from the log is one transaction however much that is, at most what delivery/engine.h lets wait and one batch: 4,000
 * new rows of 300 bytes take 4 to 6 ms (8 ms when they were cut into four).
 *
 * One with a checkpoint is one transaction whatever its size: the sink goes back to its last checkpoint after a crash,
 * so that a row that is stored before the checkpoint would overtake events of its key, and one that is deleted after it
 * would be delivered twice.
 *
 * The last part may use the whole reserve. Should even that be short, because the deleted rows lie scattered over many
 * pages, it is done in smaller and smaller transactions: each frees pages for the one after the next. */
#include "state_inside.h"

enum { DELETE_ROWS_MIN = 4 };

struct ack_round {
    struct state *state;
    const struct store_ack *ack;
    uint64_t deadline_ns;
    size_t retries, dead, done; /* handled so far, of each list; without new copies, which go with the cursor */
    bool whole;                 /* in one transaction: there is a checkpoint */
    bool moved;                 /* cursor and all that goes with it are durable */
};

/* What one transaction works with. */
struct ack_part {
    struct state_txn txn;
    struct sink_row sink;
    int64_t dead_added;
    uint64_t filtered;
};

/* -------------------------------------------------------------------------------------------------------- retries */

static void change_fields(struct copy_row *copy, const struct store_retry *row)
{
    copy->row.attempts = row->attempts;
    copy->row.first_ns = row->first_ns;
    copy->row.due_ns = row->due_ns;
    copy->row.key_hash = row->key_hash;
    memcpy(copy->row.reason, row->reason, sizeof copy->row.reason);
    if (row->failed_ns)
        copy_note(copy, SPOOL_ATTEMPT_FAILED, row->failed_ns, row->reason);
}

static void note_missing(struct ack_part *part, const struct store_retry *row, const char *what)
{
    state_txn_note(&part->txn, 1, "sink %s: %s, lane %d, event %llu, is missing", part->sink.name, what, row->lane,
                   (unsigned long long)row->seq);
}

static void new_copy(const struct ack_part *part, const struct store_retry *row, struct copy_row *ret)
{
    memset(ret, 0, offsetof(struct copy_row, inlined));
    ret->row = *row;
    ret->sink_id = part->sink.id;
    ret->history.size = 0;
    if (row->failed_ns)
        copy_note(ret, SPOOL_ATTEMPT_FAILED, row->failed_ns, row->reason);
}

static int put_new_retry(struct ack_part *part, const struct store_retry_put *put, const struct state_key *key,
                         int found, const struct copy_row *old)
{
    struct copy_row copy;
    int code = found == SPOOL_OK ? copy_drop(&part->txn, old) : SPOOL_OK;
    if (code)
        return code;
    part->sink.retry_rows += found == SPOOL_ENOTFOUND;
    new_copy(part, &put->row, &copy);
    code = copy_store(&part->txn, put->packed, &copy);
    return code ? code : copy_row_put(&part->txn, key, &copy);
}

static int put_retry(struct ack_part *part, const struct store_retry_put *put)
{
    struct copy_row old;
    struct state_key key = copy_retry_key(part->sink.id, put->row.lane, put->row.seq);
    int found = copy_row_get(&part->txn, &key, &old);
    if (found && found != SPOOL_ENOTFOUND && found != SPOOL_EDAMAGED)
        return found;
    if (put->packed)
        return put_new_retry(part, put, &key, found, &old);
    if (found) {
        note_missing(part, &put->row, "the copy of a retried event");
        return SPOOL_OK;
    }
    change_fields(&old, &put->row);
    return copy_row_put(&part->txn, &key, &old);
}

/* SPOOL_ENOTFOUND, without a message, if it is not there. */
static int delete_retry(struct ack_part *part, int lane, uint64_t seq)
{
    struct copy_row old;
    struct state_key key = copy_retry_key(part->sink.id, lane, seq);
    int code = copy_row_get(&part->txn, &key, &old);
    if (code && code != SPOOL_EDAMAGED)
        return code;
    if (!code)
        code = copy_drop(&part->txn, &old);
    else
        code = SPOOL_OK; /* its pieces, if it had any, go with the next recount */
    if (!code)
        code = state_table_delete(&part->txn, &key);
    part->sink.retry_rows -= !code && part->sink.retry_rows > 0;
    return code;
}

static int finish_retry(struct ack_part *part, const struct store_done *done)
{
    struct sink_row *sink = &part->sink;
    int code = delete_retry(part, done->lane, done->seq);
    if (code)
        return code == SPOOL_ENOTFOUND ? SPOOL_OK : code; /* it went, and was counted, before */
    switch (done->end) {
    case STORE_END_DELIVERED:
        sink->delivered++;
        sink->delivered_in[done->lane]++;
        return SPOOL_OK;
    case STORE_END_FILTERED:
        part->filtered++;
        return SPOOL_OK;
    case STORE_END_EXPIRED:
    case STORE_END_DAMAGED:
        sink->dropped++;
        store_drops_note(&sink->drops, store_end_drop(done->end), done->lane, done->seq + 1, 1);
        return SPOOL_OK;
    }
    return err_set(SPOOL_EINVAL, "an acknowledgement with an end numbered %d", (int)done->end);
}

/* --------------------------------------------------------------------------------------------------- dead letters */

/* Takes the event from its retry row. SPOOL_ENOTFOUND when that is gone or damaged. */
static int take_from_retry(struct ack_part *part, const struct store_dead_put *put, struct copy_row *ret)
{
    struct state_key key = copy_retry_key(part->sink.id, put->row.lane, put->row.seq);
    int code = copy_row_get(&part->txn, &key, ret);
    if (code == SPOOL_EDAMAGED) {
        code = delete_retry(part, put->row.lane, put->row.seq);
        return code ? code : err_set(SPOOL_ENOTFOUND, STATE_FILE ": the retry row is damaged");
    }
    if (code)
        return code;
    change_fields(ret, &put->row);
    part->sink.retry_rows -= part->sink.retry_rows > 0;
    return state_table_delete(&part->txn, &key);
}

static int make_dead_copy(struct ack_part *part, const struct store_dead_put *put, struct copy_row *ret)
{
    if (!put->packed)
        return take_from_retry(part, put, ret);
    new_copy(part, &put->row, ret);
    return copy_store(&part->txn, put->packed, ret);
}

/* The same letter again, after an acknowledgement that was done in part: the newer copy stays. */
static int replace_dead(struct ack_part *part, const struct state_key *key)
{
    struct copy_row old;
    int code = copy_row_get(&part->txn, key, &old);
    if (code == SPOOL_OK)
        return copy_drop(&part->txn, &old);
    if (code == SPOOL_ENOTFOUND) {
        part->dead_added++;
        part->sink.dead_rows++;
    }
    return code == SPOOL_ENOTFOUND || code == SPOOL_EDAMAGED ? SPOOL_OK : code;
}

static int put_dead(struct ack_part *part, const struct store_dead_put *put)
{
    struct copy_row copy;
    int code = make_dead_copy(part, put, &copy);
    struct state_key key = copy_dead_key(code ? &put->row.id : &copy.row.id, part->sink.id);
    if (code == SPOOL_ENOTFOUND) {
        struct state_row view;
        if (state_table_get(&part->txn, &key, &view) == SPOOL_ENOTFOUND) /* not moved before either */
            note_missing(part, &put->row, "the copy of a dying event");
        return SPOOL_OK;
    }
    if (!code)
        code = replace_dead(part, &key);
    if (code)
        return code;
    copy.died_ns = put->died_ns;
    memcpy(copy.sink, part->sink.name, sizeof copy.sink);
    return copy_row_put(&part->txn, &key, &copy);
}

/* -------------------------------------------------------------------------------------- cursor and what goes with it
 */

static int merge_lane(struct ack_part *part, const struct store_ack *ack, int lane)
{
    struct store_range ranges[STORE_RANGES_MAX];
    uint32_t count = ack->range_count[lane] < STORE_RANGES_MAX ? ack->range_count[lane] : STORE_RANGES_MAX;
    if (count)
        memcpy(ranges, ack->ranges[lane], count * sizeof *ranges);
    if (part->sink.cursor[lane] < ack->cursor[lane])
        part->sink.cursor[lane] = ack->cursor[lane];
    sink_ranges_settle(&part->sink.cursor[lane], ranges, &count);
    return sink_ranges_put(&part->txn, &part->sink, lane, ranges, count);
}

static void count_log(struct ack_part *part, const struct store_ack *ack)
{
    struct sink_row *sink = &part->sink;
    for (int lane = 0; lane < LANES; lane++)
        sink->delivered_in[lane] += ack->delivered[lane];
    sink->delivered += store_ack_delivered(ack);
    sink->dropped += store_drops_total(&ack->drops);
    store_drops_add(&sink->drops, &ack->drops);
    part->filtered += ack->filtered;
    sink->serial = ack->serial;
}

static int move_cursor(struct ack_part *part, const struct store_ack *ack)
{
    int code = SPOOL_OK;
    for (int lane = 0; lane < LANES && !code; lane++)
        code = merge_lane(part, ack, lane);
    if (!code && ack->checkpoint_size) {
        struct state_key key = state_key(TABLE_CHECKPOINT);
        state_key_u32(&key, part->sink.id);
        code = state_blob_put(&part->txn, &key, ack->checkpoint, ack->checkpoint_size);
    }
    if (!code)
        count_log(part, ack);
    return code;
}

/* --------------------------------------------------------------------------------------------- parts of the whole */

static int begin_part(const struct ack_round *round, struct ack_part *part)
{
    const struct store_ack *ack = round->ack;
    int code = state_txn_write(round->state, round->deadline_ns, &part->txn);
    if (code)
        return code;
    part->dead_added = 0;
    part->filtered = 0;
    code = sink_row_get(&part->txn, ack->sink_id, &part->sink);
    if (code == SPOOL_ENOTFOUND || (!code && part->sink.removed))
        code = err_set(SPOOL_ESTALE, "sink %u is not registered any more", ack->sink_id);
    else if (!code && part->sink.generation != ack->generation)
        code = err_set(SPOOL_ESTALE, "sink %s was rewound or registered anew since", part->sink.name);
    if (code)
        state_txn_abort(&part->txn);
    return code;
}

static int end_part(struct ack_part *part, int code)
{
    if (!code)
        code = state_totals_add_dead(&part->txn, part->dead_added);
    if (!code)
        code = state_filtered_add(&part->txn, part->sink.id, part->filtered);
    if (!code)
        code = sink_row_put(&part->txn, &part->sink);
    return state_txn_end(&part->txn, code);
}

/* What one transaction puts, from where the round stands: at least one row. */
struct ack_budget {
    size_t retries, dead; /* ends of the slices */
    uint64_t rows, bytes; /* written by them */
    bool grows;           /* new copies, not only changes */
    bool last;            /* nothing is left then but what goes with the cursor */
};

static void budget_add(struct ack_budget *budget, const uint8_t *packed, size_t size)
{
    budget->rows += packed ? copy_rows(size) : 1;
    budget->bytes += packed ? copy_bytes(size) : 64 + REASON_MAX + STORE_ATTEMPT_REASON_MAX;
    budget->grows |= packed != NULL;
}

static bool has_room(const struct ack_round *round, const struct ack_budget *budget)
{
    return round->whole || budget->rows < STATE_TXN_ROWS;
}

static void plan_copies(const struct store_ack *ack, struct ack_budget *budget)
{
    for (size_t i = 0; i < ack->retry_count; i++)
        if (ack->retries[i].packed)
            budget_add(budget, ack->retries[i].packed, ack->retries[i].row.size);
    for (size_t i = 0; i < ack->dead_count; i++)
        if (ack->dead[i].packed)
            budget_add(budget, ack->dead[i].packed, ack->dead[i].row.size);
}

static struct ack_budget plan_puts(const struct ack_round *round)
{
    const struct store_ack *ack = round->ack;
    struct ack_budget budget = {.retries = round->retries, .dead = round->dead};
    for (; budget.retries < ack->retry_count && has_room(round, &budget); budget.retries++)
        if (!ack->retries[budget.retries].packed)
            budget_add(&budget, NULL, 0);
    for (; budget.dead < ack->dead_count && has_room(round, &budget); budget.dead++)
        if (!ack->dead[budget.dead].packed)
            budget_add(&budget, NULL, 0);
    budget.last = budget.retries == ack->retry_count && budget.dead == ack->dead_count;
    if (budget.last && !round->moved)
        plan_copies(ack, &budget);
    return budget;
}

/* Those that are in the slices, and have no copy of their own. */
static int change_rows(struct ack_round *round, struct ack_part *part, const struct ack_budget *budget)
{
    const struct store_ack *ack = round->ack;
    int code = SPOOL_OK;
    for (size_t i = round->retries; i < budget->retries && !code; i++)
        code = ack->retries[i].packed ? SPOOL_OK : put_retry(part, &ack->retries[i]);
    for (size_t i = round->dead; i < budget->dead && !code; i++)
        code = ack->dead[i].packed ? SPOOL_OK : put_dead(part, &ack->dead[i]);
    return code;
}

/* All that comes from the log; only once, however often it is sent: a letter may have been put back since. */
static int move(struct ack_part *part, const struct store_ack *ack)
{
    int code = SPOOL_OK;
    if (ack->serial && ack->serial == part->sink.serial)
        return SPOOL_OK;
    for (size_t i = 0; i < ack->retry_count && !code; i++)
        code = ack->retries[i].packed ? put_retry(part, &ack->retries[i]) : SPOOL_OK;
    for (size_t i = 0; i < ack->dead_count && !code; i++)
        code = ack->dead[i].packed ? put_dead(part, &ack->dead[i]) : SPOOL_OK;
    return code ? code : move_cursor(part, ack);
}

static int delete_some(struct ack_round *round, struct ack_part *part, size_t upto)
{
    int code = SPOOL_OK;
    for (size_t i = round->done; i < upto && !code; i++)
        code = finish_retry(part, &round->ack->done[i]);
    return code;
}

/* How many deletions go with the last of the puts. */
static size_t count_deletes(const struct ack_round *round, const struct ack_budget *budget, size_t deletes)
{
    size_t room = budget->rows < deletes ? deletes - (size_t)budget->rows : 0;
    size_t left = round->ack->done_count - round->done;
    if (round->whole)
        return left;
    return left < room ? left : room;
}

/* One transaction: some of the changes; when those are all done, also what comes from the log; then up to `deletes` deletions. */
static int run_part(struct ack_round *round, size_t deletes)
{
    struct ack_part part;
    int code = begin_part(round, &part);
    if (code)
        return code;
    struct ack_budget budget = plan_puts(round);
    size_t done = round->done + (budget.last ? count_deletes(round, &budget, deletes) : 0);
    if (budget.rows)
        code = state_reserve_check(&part.txn, budget.grows ? ROOM_NEW : ROOM_UPDATE, budget.rows, budget.bytes);
    if (!code)
        code = change_rows(round, &part, &budget);
    if (!code && budget.last && !round->moved)
        code = move(&part, round->ack);
    if (!code)
        code = delete_some(round, &part, done);
    code = end_part(&part, code);
    if (code)
        return code;
    round->retries = budget.retries;
    round->dead = budget.dead;
    round->done = done;
    round->moved |= budget.last;
    return SPOOL_OK;
}

static int check_ack(const struct store_ack *ack)
{
    for (int lane = 0; lane < LANES; lane++) {
        const struct store_range *ranges = ack->ranges[lane];
        for (uint32_t i = 0; i < ack->range_count[lane]; i++) {
            if (!ranges[i].count || ranges[i].first + ranges[i].count < ranges[i].first ||
                (i && ranges[i].first < ranges[i - 1].first + ranges[i - 1].count))
                return err_set(SPOOL_EINVAL, "an acknowledgement whose ranges are not ascending");
        }
    }
    if (ack->checkpoint_size > SPOOL_CHECKPOINT_MAX)
        return err_set(SPOOL_ETOOBIG, "a checkpoint of %zu bytes, at most %d are kept", ack->checkpoint_size,
                       SPOOL_CHECKPOINT_MAX);
    return SPOOL_OK;
}

int state_ack(struct state *state, const struct store_ack *ack, uint64_t deadline_ns)
{
    struct ack_round round = {
        .state = state, .ack = ack, .deadline_ns = deadline_ns, .whole = ack->checkpoint_size > 0};
    size_t deletes = STATE_TXN_ROWS;
    int code = check_ack(ack);
    if (!code && ack->checkpoint_size)
        code = state_settle_home(state, deadline_ns);
    while (!code && (!round.moved || round.done < ack->done_count)) {
        code = run_part(&round, deletes);
        if (code == SPOOL_EFULL && round.whole) {
            round.whole = false; /* no room for it at once: in parts, at the risk of a crash in between */
            code = SPOOL_OK;
        } else if (code == SPOOL_EFULL && round.done < ack->done_count && deletes > DELETE_ROWS_MIN) {
            deletes /= 4;
            code = SPOOL_OK;
        }
    }
    return code;
}

/* ----------------------------------------------------------------------------------------------------- checkpoint */

static int read_checkpoint(struct state *state, uint32_t sink_id, uint64_t deadline_ns, uint8_t **ret, size_t *ret_size)
{
    struct state_txn txn;
    struct state_key key = state_key(TABLE_CHECKPOINT);
    state_key_u32(&key, sink_id);
    int code = state_txn_read(state, deadline_ns, &txn);
    if (code)
        return code;
    code = state_blob_get(&txn, &key, ret, ret_size);
    state_txn_abort(&txn);
    return code;
}

int state_checkpoint(struct state *state, uint32_t sink_id, uint64_t deadline_ns, void *buf, size_t cap,
                     size_t *ret_size)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    int code =
        atomic_load(&state->is_copy) ? SPOOL_ENOTFOUND : read_checkpoint(state, sink_id, deadline_ns, &bytes, &size);
    if (code && code != SPOOL_ENOTFOUND && code != SPOOL_EDAMAGED)
        return code; /* a damaged one was reported, and is none */
    if (size > cap)
        code = err_set(SPOOL_ETOOBIG, "the checkpoint has %zu bytes, there is room for %zu", size, cap);
    else
        code = SPOOL_OK;
    if (!code && size)
        memcpy(buf, bytes, size);
    if (!code)
        *ret_size = size;
    free(bytes);
    return code;
}
