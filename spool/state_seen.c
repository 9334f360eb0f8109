/* state_seen.c - damage that an operator has seen: it is told on request and troubles nobody else.
 *
 * A finding of verify leaves a mark beside those of damage that was counted, under the text "seen " and what it says. What
 * was counted up to then stands in a general row {u8 META_SEEN}; body: u64 blocks, u64 events. A damaged one counts as
 * none. An older version passes over both. */
#include <stdio.h>

#include "state_inside.h"

static struct state_key seen_key(void)
{
    struct state_key key = state_key(TABLE_META);
    state_key_u8(&key, META_SEEN);
    return key;
}

static struct state_key mark_key(const char *finding)
{
    char text[500];
    snprintf(text, sizeof text, "seen %s", finding);
    return state_damage_key(text);
}

int state_seen_get(struct state_txn *txn, uint64_t *ret_blocks, uint64_t *ret_events)
{
    struct state_key key = seen_key();
    struct state_row view;
    int code = state_table_get(txn, &key, &view);
    bool known = !code && view.body_size == 16;
    *ret_blocks = known ? get_u64(view.body) : 0;
    *ret_events = known ? get_u64(view.body + 8) : 0;
    return code == SPOOL_ENOTFOUND || code == SPOOL_EDAMAGED ? SPOOL_OK : code;
}

static int put_counters(struct state_txn *txn)
{
    struct state_totals totals;
    uint8_t body[16];
    struct state_key key = seen_key();
    int code = state_reserve_check(txn, ROOM_UPDATE, 1, 0);
    if (!code)
        code = state_totals_get(txn, &totals);
    if (code)
        return code;
    put_u64(body, totals.counters[STATE_DAMAGED_BLOCKS]);
    put_u64(body + 8, totals.counters[STATE_DAMAGED_EVENTS]);
    return state_table_put(txn, &key, body, sizeof body);
}

int state_seen_all(struct state *state, uint64_t deadline_ns)
{
    struct state_txn txn;
    int code = state_txn_write(state, deadline_ns, &txn);
    return code ? code : state_txn_end(&txn, put_counters(&txn));
}

static int put_mark(struct state_txn *txn, const char *finding)
{
    struct state_key key = mark_key(finding);
    int code = state_reserve_check(txn, ROOM_UPDATE, 1, 0);
    return code ? code : state_table_put(txn, &key, NULL, 0);
}

int state_seen_mark(struct state *state, const char *finding, uint64_t deadline_ns)
{
    struct state_txn txn;
    int code = state_txn_write(state, deadline_ns, &txn);
    return code ? code : state_txn_end(&txn, put_mark(&txn, finding));
}

bool state_seen_has(struct state *state, const char *finding, uint64_t deadline_ns)
{
    struct state_txn txn;
    struct state_row view;
    struct state_key key = mark_key(finding);
    if (state_txn_read(state, deadline_ns, &txn))
        return false;
    bool has = state_table_get(&txn, &key, &view) == SPOOL_OK;
    state_txn_abort(&txn);
    return has;
}
