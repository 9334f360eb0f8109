/* state_filtered.c - how many events a sink's filter has passed over: a general row {u8 16, u32 sink id}, body u64.
 * Only sinks with a filter have one, so that the row of a sink is as it was. A damaged one counts from zero again. */
#include "state_inside.h"

static struct state_key filtered_key(uint32_t id)
{
    struct state_key key = state_key(TABLE_META);
    state_key_u8(&key, META_SINK_FILTERED);
    state_key_u32(&key, id);
    return key;
}

int state_filtered_get(struct state_txn *txn, uint32_t id, uint64_t *ret)
{
    struct state_key key = filtered_key(id);
    struct state_row view;
    int code = state_table_get(txn, &key, &view);
    *ret = !code && view.body_size == 8 ? get_u64(view.body) : 0;
    return code == SPOOL_ENOTFOUND || code == SPOOL_EDAMAGED ? SPOOL_OK : code;
}

int state_filtered_add(struct state_txn *txn, uint32_t id, uint64_t events)
{
    uint64_t before;
    uint8_t body[8];
    int code = events ? state_filtered_get(txn, id, &before) : SPOOL_OK;
    if (code || !events)
        return code;
    struct state_key key = filtered_key(id);
    put_u64(body, before + events);
    return state_table_put(txn, &key, body, sizeof body);
}

int state_filtered_forget(struct state_txn *txn, uint32_t id)
{
    struct state_key key = filtered_key(id);
    int code = state_table_delete(txn, &key);
    return code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
}
