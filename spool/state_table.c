/* state_table.c - rows in the one B-tree of state.mdb: get, put, delete, walk.
 *
 * All tables share LMDB's main B-tree, told apart by the first byte of the key: so an acknowledgement without retries
 * touches a single leaf page. Every value is checked before anybody looks into it; one that fails is noted with the
 * transaction (told when the lock is dropped) and skipped. */
#include <stdio.h>

#include "state_inside.h"

static const char *table_name(uint8_t table)
{
    static const char *const names[TABLES] = {
        [TABLE_META] = "general",          [TABLE_SINK] = "sink",     [TABLE_RANGES] = "range",
        [TABLE_CHECKPOINT] = "checkpoint", [TABLE_CONFIG] = "config", [TABLE_DAMAGE] = "damage",
        [TABLE_DEAD] = "dead letter",      [TABLE_RETRY] = "retry",   [TABLE_PIECE] = "event piece",
    };
    return table < TABLES && names[table] ? names[table] : "unknown";
}

const char *state_table_describe(const uint8_t *key, size_t size, char ret[80])
{
    int at = snprintf(ret, 80, "%s row, key ", table_name(size ? key[0] : 0));
    for (size_t i = 1; i < size && i <= 21; i++)
        at += snprintf(ret + at, 80 - (size_t)at, "%02x", key[i]);
    return ret;
}

static uint64_t events_in(uint8_t table)
{
    return table == TABLE_DEAD || table == TABLE_RETRY || table == TABLE_PIECE;
}

static void note_row(struct state_txn *txn, const struct state_key *key)
{
    char what[80], why[80];
    snprintf(why, sizeof why, "%s", err_last());
    state_txn_note(txn, events_in(key->bytes[0]), "%s: %.30s", state_table_describe(key->bytes, key->size, what), why);
}

static MDB_val as_val(const struct state_key *key)
{
    return (MDB_val){.mv_size = key->size, .mv_data = (void *)key->bytes};
}

int state_table_check(const struct state *state, const struct state_key *key, const MDB_val *value,
                      struct state_row *ret)
{
    int code = state_row_read(value->mv_data, value->mv_size, state->seed, ret);
    if (code)
        return err_prefix(SPOOL_EDAMAGED, STATE_FILE);
    if (ret->row_size != value->mv_size || ret->key_size != key->size || memcmp(ret->key, key->bytes, key->size) != 0)
        return err_set(SPOOL_EDAMAGED, STATE_FILE ": the row belongs to another key");
    return SPOOL_OK;
}

static int check_and_note(struct state_txn *txn, const struct state_key *key, const MDB_val *value,
                          struct state_row *ret)
{
    int code = state_table_check(txn->state, key, value, ret);
    if (code)
        note_row(txn, key);
    return code;
}

int state_table_get(struct state_txn *txn, const struct state_key *key, struct state_row *ret)
{
    MDB_val k = as_val(key), value;
    int rc = mdb_get(txn->txn, txn->state->dbi, &k, &value);
    if (rc == MDB_NOTFOUND)
        return err_set(SPOOL_ENOTFOUND, STATE_FILE ": no such row");
    if (rc)
        return state_env_error(rc, "reading");
    return check_and_note(txn, key, &value, ret);
}

int state_table_put(struct state_txn *txn, const struct state_key *key, const void *body, size_t body_size)
{
    size_t size = state_row_size(key->size, body_size);
    if (size > ROW_MAX)
        return err_set(SPOOL_EINTERNAL, "a row of %zu bytes, at most %d fit", size, ROW_MAX);
    MDB_val k = as_val(key), value = {.mv_size = size};
    int rc = mdb_put(txn->txn, txn->state->dbi, &k, &value, MDB_RESERVE);
    if (rc)
        return state_env_error(rc, "writing");
    state_row_write(value.mv_data, txn->state->seed, key, body, body_size, txn->stamp);
    txn->writes++;
    return SPOOL_OK;
}

int state_table_delete(struct state_txn *txn, const struct state_key *key)
{
    MDB_val k = as_val(key);
    int rc = mdb_del(txn->txn, txn->state->dbi, &k, NULL);
    if (rc == MDB_NOTFOUND)
        return err_set(SPOOL_ENOTFOUND, STATE_FILE ": no such row");
    if (rc)
        return state_env_error(rc, "deleting");
    txn->writes++;
    return SPOOL_OK;
}

int state_table_next_raw(struct state_txn *txn, struct state_key *at, size_t prefix, MDB_val *ret)
{
    int rc = txn->cursor ? 0 : mdb_cursor_open(txn->txn, txn->state->dbi, &txn->cursor);
    if (rc)
        return state_env_error(rc, "reading");
    at->bytes[at->size] = 0; /* the smallest key behind it */
    MDB_val k = {.mv_size = at->size + 1, .mv_data = at->bytes};
    rc = mdb_cursor_get(txn->cursor, &k, ret, MDB_SET_RANGE);
    if (rc && rc != MDB_NOTFOUND)
        return state_env_error(rc, "reading");
    if (rc || k.mv_size < prefix || memcmp(k.mv_data, at->bytes, prefix) != 0)
        return err_set(SPOOL_ENOTFOUND, STATE_FILE ": no more rows");
    at->size = k.mv_size < ROW_KEY_MAX ? k.mv_size : ROW_KEY_MAX;
    memcpy(at->bytes, k.mv_data, at->size);
    return SPOOL_OK;
}

int state_table_next(struct state_txn *txn, struct state_key *at, size_t prefix, struct state_row *ret)
{
    for (;;) {
        MDB_val value;
        int code = state_table_next_raw(txn, at, prefix, &value);
        if (code || check_and_note(txn, at, &value, ret) == SPOOL_OK)
            return code;
    }
}

static int before_raw(struct state_txn *txn, struct state_key *at, size_t prefix, MDB_val *ret)
{
    int rc = txn->cursor ? 0 : mdb_cursor_open(txn->txn, txn->state->dbi, &txn->cursor);
    if (rc)
        return state_env_error(rc, "reading");
    MDB_val k = as_val(at);
    rc = mdb_cursor_get(txn->cursor, &k, ret, MDB_SET_RANGE);
    if (!rc || rc == MDB_NOTFOUND)
        rc = mdb_cursor_get(txn->cursor, &k, ret, rc ? MDB_LAST : MDB_PREV);
    if (rc && rc != MDB_NOTFOUND)
        return state_env_error(rc, "reading");
    if (rc || k.mv_size < prefix || k.mv_size > ROW_KEY_MAX || memcmp(k.mv_data, at->bytes, prefix) != 0)
        return err_set(SPOOL_ENOTFOUND, STATE_FILE ": no row before");
    at->size = k.mv_size;
    memcpy(at->bytes, k.mv_data, at->size);
    return SPOOL_OK;
}

int state_table_before(struct state_txn *txn, struct state_key *at, size_t prefix, struct state_row *ret)
{
    for (;;) {
        MDB_val value;
        int code = before_raw(txn, at, prefix, &value);
        if (code || check_and_note(txn, at, &value, ret) == SPOOL_OK)
            return code;
    }
}

int state_table_clear(struct state_txn *txn, const struct state_key *prefix, uint64_t most, uint64_t *ret_deleted)
{
    uint64_t deleted = 0;
    struct state_key at = *prefix;
    for (; deleted < most; deleted++) {
        MDB_val value;
        int code = state_table_next_raw(txn, &at, prefix->size, &value);
        if (code == SPOOL_ENOTFOUND)
            break;
        if (!code)
            code = state_table_delete(txn, &at);
        if (code)
            return code;
    }
    *ret_deleted = deleted;
    return SPOOL_OK;
}
