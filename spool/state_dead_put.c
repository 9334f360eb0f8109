/* state_dead_put.c - dead letters from outside: another event in the place of one, and letters that were exported. */
#include <stdio.h>

#include "state_inside.h"

/* --------------------------------------------------------------------------------------------------------- editing */

struct edit {
    struct dead_filter filter;
    const uint8_t *packed;
    size_t size;
    int lane; /* of the new event */
    uint64_t now_ns, n;
};

/* Another lane is another queue: there the letter has no place. */
static int move_lane(struct state_txn *txn, const struct edit *edit, struct copy_row *copy)
{
    struct state_numbers numbers;
    if (copy->row.lane == edit->lane)
        return SPOOL_OK;
    int code = state_numbers_get(txn, &numbers);
    if (code)
        return code;
    copy->row.lane = edit->lane;
    copy->row.seq = SEQ_DETACHED | numbers.copy++;
    copy->row.key_hash = 0;
    return state_numbers_put(txn, &numbers);
}

static int edit_one(struct state_txn *txn, const struct edit *edit, struct copy_row *copy)
{
    int code = copy_drop(txn, copy);
    if (!code)
        code = move_lane(txn, edit, copy);
    copy->row.size = (uint32_t)edit->size;
    if (!code)
        code = copy_store(txn, edit->packed, copy);
    if (code)
        return code;
    struct state_key key = copy_dead_key(&copy->row.id, copy->sink_id);
    copy_note(copy, SPOOL_ATTEMPT_EDITED, edit->now_ns, "");
    return copy_row_put(txn, &key, copy);
}

/* All of one id: as many as there were sinks, so one transaction does. */
static int edit_in(struct state_txn *txn, struct edit *edit)
{
    struct state_key at = dead_first_key(&edit->filter);
    const size_t prefix = at.size;
    struct copy_row copy;
    uint64_t seen = 0;
    int code = state_reserve_check(txn, ROOM_UPDATE, copy_rows(edit->size), copy_bytes(edit->size));
    if (code)
        return code;
    while ((code = dead_next(txn, &edit->filter, &at, prefix, &seen, UINT64_MAX, &copy)) == SPOOL_OK) {
        code = edit_one(txn, edit, &copy);
        if (code)
            return code;
        edit->n++;
    }
    return code != SPOOL_ENOTFOUND || edit->n ? code == SPOOL_ENOTFOUND ? SPOOL_OK : code
                                              : err_set(code, "there is no such dead letter");
}

int state_dead_edit(struct state *state, const char *sink, const struct spool_id *id, const uint8_t *packed,
                    size_t size, uint64_t deadline_ns, uint64_t *ret_n)
{
    struct edit edit = {.filter = {.sink = sink, .id = id},
                        .packed = packed,
                        .size = size,
                        .lane = lane_of(event_packed_priority(packed)),
                        .now_ns = state_wall_ns(state)};
    struct state_txn txn;
    int code = state_txn_write(state, deadline_ns, &txn);
    if (!code)
        code = state_txn_end(&txn, edit_in(&txn, &edit));
    if (!code && ret_n)
        *ret_n = edit.n;
    return code;
}

/* ------------------------------------------------------------------------------------------------------- importing */

static int check_is_new(struct state_txn *txn, const struct store_dead *dead)
{
    const struct dead_filter filter = {.sink = dead->sink, .id = &dead->row.id};
    struct state_key at = dead_first_key(&filter);
    const size_t prefix = at.size;
    struct copy_row copy;
    uint64_t seen = 0;
    int code = dead_next(txn, &filter, &at, prefix, &seen, UINT64_MAX, &copy);
    if (code == SPOOL_ENOTFOUND)
        return SPOOL_OK;
    return code ? code : err_set(SPOOL_EEXISTS, "sink %s has a dead letter of that id already", dead->sink);
}

/* A sink that is not registered gets a number that no other will have: the key needs one. */
static int number_of_sink(struct state_txn *txn, const char *name, const struct spool_id *id,
                          struct state_numbers *numbers, uint32_t *ret)
{
    struct sink_row sink;
    int code = sink_row_find(txn, name, &sink);
    if (code && code != SPOOL_ENOTFOUND)
        return code;
    if (code) {
        *ret = numbers->sink++;
        return SPOOL_OK;
    }
    sink.dead_rows++;
    *ret = sink.id;
    code = purged_remove(txn, sink.id, id);
    return code ? code : sink_row_put(txn, &sink);
}

static void fill_history(const struct store_dead *dead, uint64_t now_ns, struct copy_row *copy)
{
    for (size_t i = 0; i < dead->attempt_count; i++)
        history_add(&copy->history, &dead->attempts[i], HISTORY_ROOM_MIN);
    copy_note(copy, SPOOL_ATTEMPT_IMPORTED, now_ns, "");
}

static int import_in(struct state_txn *txn, const struct store_dead *dead)
{
    struct copy_row copy = {.row = dead->row, .died_ns = dead->died_ns};
    struct state_numbers numbers;
    memcpy(copy.sink, dead->sink, sizeof copy.sink);
    int code = state_reserve_check(txn, ROOM_NEW, copy_rows(dead->packed_size), copy_bytes(dead->packed_size));
    if (!code)
        code = check_is_new(txn, dead);
    if (!code)
        code = state_numbers_get(txn, &numbers);
    if (!code)
        code = number_of_sink(txn, dead->sink, &dead->row.id, &numbers, &copy.sink_id);
    if (code)
        return code;
    copy.row.size = (uint32_t)dead->packed_size;
    copy.row.seq = SEQ_DETACHED | numbers.copy++;
    copy.row.key_hash = copy.row.due_ns = 0;
    code = state_numbers_put(txn, &numbers);
    if (!code)
        code = copy_store(txn, dead->packed, &copy);
    if (code)
        return code;
    struct state_key key = copy_dead_key(&copy.row.id, copy.sink_id);
    fill_history(dead, state_wall_ns(txn->state), &copy);
    code = copy_row_put(txn, &key, &copy);
    return code ? code : state_totals_add_dead(txn, 1);
}

int state_dead_import(struct state *state, const struct store_dead *dead, uint64_t deadline_ns)
{
    struct state_txn txn;
    int code = state_txn_write(state, deadline_ns, &txn);
    return code ? code : state_txn_end(&txn, import_in(&txn, dead));
}
