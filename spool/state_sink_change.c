/* state_sink_change.c - what changes about a sink while it is served: its configuration, where it stands, what it counts for,
 * and that it is to be removed.
 *
 * Rewinding gives the sink another generation, so that what is acknowledged by somebody who did not know of it is
 * refused; ranges go with it. Rows of the retry table stay: each stands for its event, which is not taken from the log
 * again. A rewind never skips anything: a lane that is further back stays where it is. */
#include "state_inside.h"

/* --------------------------------------------------------------------------------------------------- configuration */

static int set_config(struct state_txn *txn, const char *name, const char *config)
{
    struct sink_row sink;
    int code = sink_row_find(txn, name, &sink);
    if (!code)
        code = state_reserve_check(txn, ROOM_UPDATE, 1, strlen(config));
    return code ? code : sink_config_put(txn, sink.id, config);
}

int state_sink_set_config(struct state *state, const char *name, const char *config, uint64_t deadline_ns)
{
    struct state_txn txn;
    if (strlen(config) > STATE_CONFIG_MAX)
        return err_set(SPOOL_ETOOBIG, "sink %s: a configuration of %zu bytes, at most %d are allowed", name,
                       strlen(config), STATE_CONFIG_MAX);
    int code = state_txn_write(state, deadline_ns, &txn);
    return code ? code : state_txn_end(&txn, set_config(&txn, name, config));
}

/* ---------------------------------------------------------------------------------------------------------- rewind */

/* Rows of the lane from that event on. */
static int count_rows(struct state_txn *txn, uint32_t sink_id, int lane, uint64_t seq, uint64_t *ret)
{
    struct state_key at = copy_retry_key(sink_id, lane, seq > 0 ? seq - 1 : 0);
    const size_t prefix = at.size - sizeof seq;
    MDB_val value;
    int code = SPOOL_OK;
    if (seq == 0)
        at.size = prefix; /* before the first one */
    for (*ret = 0; !code; *ret += !code)
        code = state_table_next_raw(txn, &at, prefix, &value);
    return code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
}

/* One lane. Adds how many events that were finished are not any more: those with a row never were. */
static int rewind_lane(struct state_txn *txn, struct sink_row *sink, int lane, uint64_t cursor, uint64_t *again)
{
    struct store_range ranges[STORE_RANGES_MAX];
    uint32_t count;
    uint64_t passed = 0, rows = 0;
    int code = sink_ranges_get(txn, sink, lane, ranges, &count);
    if (code)
        return code;
    for (uint32_t i = 0; i < count; i++)
        passed += ranges[i].count;
    if (cursor < sink->cursor[lane]) {
        passed += sink->cursor[lane] - cursor;
        sink->cursor[lane] = cursor;
    }
    code = count_rows(txn, sink->id, lane, sink->cursor[lane], &rows);
    if (code)
        return code;
    *again += passed > rows ? passed - rows : 0;
    if (sink->start[lane] > sink->cursor[lane])
        sink->start[lane] = sink->cursor[lane];
    if (sink->drops.upto[lane] > sink->cursor[lane])
        sink->drops.upto[lane] = sink->cursor[lane]; /* what was dropped behind it gets another chance */
    return sink_ranges_put(txn, sink, lane, NULL, 0);
}

static int rewind_in(struct state_txn *txn, const char *name, const uint64_t cursor[LANES], uint64_t *again)
{
    struct state_numbers numbers;
    struct sink_row sink;
    int code = sink_row_find(txn, name, &sink);
    if (!code)
        code = state_reserve_check(txn, ROOM_UPDATE, 2, 0);
    if (!code)
        code = state_numbers_get(txn, &numbers);
    for (int lane = 0; lane < LANES && !code; lane++)
        code = rewind_lane(txn, &sink, lane, cursor[lane], again);
    if (!code)
        code = purged_rewind(txn, sink.id, sink.cursor);
    if (code)
        return code;
    sink.generation = numbers.generation++;
    code = state_numbers_put(txn, &numbers);
    return code ? code : sink_row_put(txn, &sink);
}

int state_sink_rewind(struct state *state, const char *name, const uint64_t cursor[LANES], uint64_t deadline_ns,
                      uint64_t *ret_again)
{
    struct state_txn txn;
    uint64_t again = 0;
    int code = state_txn_write(state, deadline_ns, &txn);
    if (!code)
        code = state_txn_end(&txn, rewind_in(&txn, name, cursor, &again));
    if (!code && ret_again)
        *ret_again = again;
    return code;
}

/* ----------------------------------------------------------------------------------------------- best effort, removal */

static int change_flags(struct state *state, const char *name, void (*change)(struct sink_row *sink, bool on), bool on,
                        uint64_t deadline_ns)
{
    struct state_txn txn;
    struct sink_row sink;
    int code = state_txn_write(state, deadline_ns, &txn);
    if (code)
        return code;
    code = sink_row_find(&txn, name, &sink);
    if (!code) {
        change(&sink, on);
        code = sink_row_put(&txn, &sink);
    }
    return state_txn_end(&txn, code);
}

static void set_removing(struct sink_row *sink, bool on)
{
    sink->removing = on;
}
static void set_best_effort(struct sink_row *sink, bool on)
{
    sink->best_effort = on;
}

int state_sink_mark_removal(struct state *state, const char *name, uint64_t deadline_ns)
{
    return change_flags(state, name, set_removing, true, deadline_ns);
}

int state_sink_set_best_effort(struct state *state, const char *name, bool best_effort, uint64_t deadline_ns)
{
    return change_flags(state, name, set_best_effort, best_effort, deadline_ns);
}
