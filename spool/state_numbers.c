/* state_numbers.c - the general rows: numbers to give out, totals of the spool, the clock's bound.
 *
 *   numbers   u64 next generation, u64 next number of a copied event, u32 next sink id
 *   counters  u64 each of enum state_counter, then u64 dead letters
 *   clock     the 16 bytes of an id
 *   dropped   u64 of each lane: the sequence number below which a limit has dropped and counted what was undelivered
 *
 * A damaged one is noted and read as if it was not there; salvage and recount put numbers behind all that are in use.
 */
#include <stdio.h>

#include "state_inside.h"

enum { NUMBERS_SIZE = 20, TOTALS_SIZE = 8 * (STATE_COUNTERS + 1), DROPPED_SIZE = 8 * LANES };

static struct state_key meta_key(enum state_meta which)
{
    struct state_key key = state_key(TABLE_META);
    state_key_u8(&key, (uint8_t)which);
    return key;
}

/* SPOOL_ENOTFOUND also for a damaged row. */
static int get_meta(struct state_txn *txn, enum state_meta which, size_t size, struct state_row *ret)
{
    struct state_key key = meta_key(which);
    int code = state_table_get(txn, &key, ret);
    if (code == SPOOL_EDAMAGED || (!code && ret->body_size != size))
        return err_set(SPOOL_ENOTFOUND, STATE_FILE ": a general row is damaged");
    return code;
}

int state_numbers_get(struct state_txn *txn, struct state_numbers *ret)
{
    struct state_row view;
    int code = get_meta(txn, META_NUMBERS, NUMBERS_SIZE, &view);
    if (code == SPOOL_ENOTFOUND)
        *ret = (struct state_numbers){.sink = 1, .generation = 1, .copy = 1};
    if (code)
        return code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
    ret->generation = get_u64(view.body);
    ret->copy = get_u64(view.body + 8);
    ret->sink = get_u32(view.body + 16);
    return SPOOL_OK;
}

int state_numbers_put(struct state_txn *txn, const struct state_numbers *numbers)
{
    uint8_t body[NUMBERS_SIZE];
    put_u64(body, numbers->generation);
    put_u64(body + 8, numbers->copy);
    put_u32(body + 16, numbers->sink);
    struct state_key key = meta_key(META_NUMBERS);
    return state_table_put(txn, &key, body, sizeof body);
}

int state_totals_get(struct state_txn *txn, struct state_totals *ret)
{
    struct state_row view;
    memset(ret, 0, sizeof *ret);
    int code = get_meta(txn, META_COUNTERS, TOTALS_SIZE, &view);
    if (code)
        return code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
    for (int i = 0; i < STATE_COUNTERS; i++)
        ret->counters[i] = get_u64(view.body + 8 * i);
    ret->dead_letters = get_u64(view.body + 8 * STATE_COUNTERS);
    return SPOOL_OK;
}

int state_totals_put(struct state_txn *txn, const struct state_totals *totals)
{
    uint8_t body[TOTALS_SIZE];
    for (int i = 0; i < STATE_COUNTERS; i++)
        put_u64(body + 8 * i, totals->counters[i]);
    put_u64(body + 8 * STATE_COUNTERS, totals->dead_letters);
    struct state_key key = meta_key(META_COUNTERS);
    return state_table_put(txn, &key, body, sizeof body);
}

int state_totals_add_dead(struct state_txn *txn, int64_t add)
{
    struct state_totals totals;
    int code = add ? state_totals_get(txn, &totals) : SPOOL_OK;
    if (code || !add)
        return code;
    bool below = add < 0 && totals.dead_letters < (uint64_t)-add;
    totals.dead_letters = below ? 0 : totals.dead_letters + (uint64_t)add;
    return state_totals_put(txn, &totals);
}

int state_dropped_get(struct state_txn *txn, uint64_t ret[LANES])
{
    struct state_row view;
    memset(ret, 0, LANES * sizeof *ret);
    int code = get_meta(txn, META_DROPPED, DROPPED_SIZE, &view);
    for (int lane = 0; !code && lane < LANES; lane++)
        ret[lane] = get_u64(view.body + 8 * lane);
    return code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
}

int state_dropped_put(struct state_txn *txn, const uint64_t dropped[LANES])
{
    uint8_t body[DROPPED_SIZE];
    for (int lane = 0; lane < LANES; lane++)
        put_u64(body + 8 * lane, dropped[lane]);
    struct state_key key = meta_key(META_DROPPED);
    return state_table_put(txn, &key, body, sizeof body);
}

/* ------------------------------------------------------------------------------------------------------ counters */

struct state_key state_damage_key(const char *text)
{
    struct state_key key = state_key(TABLE_DAMAGE);
    size_t size = strlen(text);
    uint8_t tail[4];
    put_u32(tail, crc32c(0, text, size)); /* tells apart names that are cut */
    state_key_bytes(&key, text, size < 200 ? size : 200);
    state_key_bytes(&key, tail, sizeof tail);
    return key;
}

/* Puts the mark; SPOOL_EEXISTS if it is there already. */
static int mark_once(struct state_txn *txn, const char *once)
{
    struct state_key key = state_damage_key(once);
    struct state_row view;
    int code = state_table_get(txn, &key, &view);
    if (code == SPOOL_OK)
        return err_set(SPOOL_EEXISTS, STATE_FILE ": counted before");
    return code == SPOOL_ENOTFOUND || code == SPOOL_EDAMAGED ? state_table_put(txn, &key, NULL, 0) : code;
}

static int count(struct state_txn *txn, enum state_counter counter, uint64_t add, const char *once)
{
    struct state_totals totals;
    int code = state_reserve_check(txn, ROOM_UPDATE, 2, 0);
    if (!code && once)
        code = mark_once(txn, once);
    if (code)
        return code;
    code = state_totals_get(txn, &totals);
    if (code)
        return code;
    totals.counters[counter] += add;
    return state_totals_put(txn, &totals);
}

int state_count(struct state *state, enum state_counter counter, uint64_t add, const char *once, uint64_t deadline_ns)
{
    struct state_txn txn;
    int code = state_txn_write(state, deadline_ns, &txn);
    if (code)
        return code;
    code = count(&txn, counter, add, once);
    if (code == SPOOL_EEXISTS) {
        state_txn_abort(&txn);
        return SPOOL_OK;
    }
    return state_txn_end(&txn, code);
}

/* ---------------------------------------------------------------------------------------------------- statistics */

static int gather_stats(struct state_txn *txn, struct state_stats *ret)
{
    struct state_totals totals;
    struct sink_row sink;
    MDB_stat stat;
    MDB_envinfo info;
    int code = state_totals_get(txn, &totals), rc = code ? 0 : mdb_stat(txn->txn, txn->state->dbi, &stat);
    if (!code && !rc)
        rc = mdb_env_info(txn->state->env, &info);
    if (code || rc)
        return code ? code : state_env_error(rc, "reading");
    memcpy(ret->counters, totals.counters, sizeof ret->counters);
    ret->dead_letters = totals.dead_letters;
    code = state_seen_get(txn, &ret->seen_blocks, &ret->seen_events);
    if (code)
        return code;
    ret->rows = stat.ms_entries;
    ret->bytes = (info.me_last_pgno + 1) * txn->state->page_bytes;
    ret->sinks = 0;
    uint32_t at = 0;
    while ((code = sink_row_next(txn, &at, &sink)) == SPOOL_OK)
        ret->sinks++;
    return code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
}

int state_stats(struct state *state, uint64_t deadline_ns, struct state_stats *ret)
{
    struct state_txn txn;
    struct state_stats stats = {0};
    int code = state_txn_read(state, deadline_ns, &txn);
    if (code)
        return code;
    code = gather_stats(&txn, &stats);
    state_txn_abort(&txn);
    if (!code)
        *ret = stats;
    return code;
}

/* --------------------------------------------------------------------------------------------------------- clock */

static int get_clock(struct state_txn *txn, struct spool_id *ret)
{
    struct state_row view;
    int code = get_meta(txn, META_CLOCK, sizeof ret->bytes, &view);
    if (!code)
        memcpy(ret->bytes, view.body, sizeof ret->bytes);
    return code;
}

int state_clock_get(struct state *state, uint64_t deadline_ns, struct spool_id *ret)
{
    struct state_txn txn;
    int code = state_txn_read(state, deadline_ns, &txn);
    if (code)
        return code;
    code = get_clock(&txn, ret);
    state_txn_abort(&txn);
    return code;
}

static int raise_clock(struct state_txn *txn, const struct spool_id *id)
{
    struct spool_id old;
    int code = get_clock(txn, &old);
    if (code && code != SPOOL_ENOTFOUND)
        return code;
    if (!code && memcmp(old.bytes, id->bytes, sizeof old.bytes) >= 0)
        return SPOOL_OK;
    struct state_key key = meta_key(META_CLOCK);
    code = state_reserve_check(txn, ROOM_ACK, 1, 0);
    return code ? code : state_table_put(txn, &key, id->bytes, sizeof id->bytes);
}

int state_clock_raise(struct state *state, const struct spool_id *id, uint64_t deadline_ns)
{
    struct state_txn txn;
    int code = state_txn_write(state, deadline_ns, &txn);
    return code ? code : state_txn_end(&txn, raise_clock(&txn, id));
}
