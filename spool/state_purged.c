/* state_purged.c - dead letters of a sink that were purged, or went by a limit: else a receipt would take their events for
 * delivered, since the sink's cursor has passed them.
 *
 * A general row {u8 META_SINK_PURGED, u32 sink id}; body: up to STORE_PURGED_MAX entries, the oldest first:
 *
 *    0 16  event id        16  8  sequence number        24  8  wall clock when it went
 *   32  1  lane            33  1  1: by a limit          34  6  zero
 *
 * When there are too many the oldest goes, and the sink notes how far it is not known any more which events were delivered
 * and which were not (store_drops.upto). A damaged row counts as none. An older version passes over it. */
#include "state_inside.h"

enum { AT_SEQ = 16, AT_TIME = 24, AT_LANE = 32, AT_LIMIT = 33, ENTRY = 40 };

struct purged_list {
    uint8_t entries[STORE_PURGED_MAX * ENTRY];
    size_t count;
};

static struct state_key purged_key(uint32_t id)
{
    struct state_key key = state_key(TABLE_META);
    state_key_u8(&key, META_SINK_PURGED);
    state_key_u32(&key, id);
    return key;
}

static int load(struct state_txn *txn, uint32_t sink_id, struct purged_list *ret)
{
    struct state_row view;
    struct state_key key = purged_key(sink_id);
    ret->count = 0;
    int code = state_table_get(txn, &key, &view);
    if (code)
        return code == SPOOL_ENOTFOUND || code == SPOOL_EDAMAGED ? SPOOL_OK : code;
    if (view.body_size % ENTRY || view.body_size > sizeof ret->entries)
        return SPOOL_OK;
    memcpy(ret->entries, view.body, view.body_size);
    ret->count = view.body_size / ENTRY;
    return SPOOL_OK;
}

static int save(struct state_txn *txn, uint32_t sink_id, const struct purged_list *list)
{
    struct state_key key = purged_key(sink_id);
    if (list->count)
        return state_table_put(txn, &key, list->entries, list->count * ENTRY);
    int code = state_table_delete(txn, &key);
    return code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
}

static void read_entry(const uint8_t *entry, struct store_purged *ret)
{
    memcpy(ret->id.bytes, entry, sizeof ret->id.bytes);
    ret->seq = get_u64(entry + AT_SEQ);
    ret->at_ns = get_u64(entry + AT_TIME);
    ret->lane = entry[AT_LANE] % LANES;
    ret->by_limit = entry[AT_LIMIT];
}

static void drop_entry(struct purged_list *list, size_t i)
{
    list->count--;
    memmove(list->entries + i * ENTRY, list->entries + (i + 1) * ENTRY, (list->count - i) * ENTRY);
}

/* From now on it is not known of events up to there whether they were delivered. A letter without a place in the log says
 * nothing of where its event lies: then of all that the sink has passed. */
static int forget_oldest(struct state_txn *txn, struct sink_row *sink, struct purged_list *list)
{
    struct store_purged oldest;
    read_entry(list->entries, &oldest);
    drop_entry(list, 0);
    if (oldest.seq < SEQ_DETACHED)
        store_drops_upto(&sink->drops, oldest.lane, oldest.seq + 1);
    for (int lane = 0; lane < LANES && oldest.seq >= SEQ_DETACHED; lane++)
        store_drops_upto(&sink->drops, lane, sink->cursor[lane]);
    return sink_row_put(txn, sink);
}

int purged_add(struct state_txn *txn, const struct copy_row *letter, uint64_t now_ns, bool by_limit)
{
    struct sink_row sink;
    struct purged_list list;
    int code = sink_row_find(txn, letter->sink, &sink);
    if (code)
        return code == SPOOL_ENOTFOUND ? SPOOL_OK : code; /* of a removed sink, whose receipts nobody gets */
    code = load(txn, sink.id, &list);
    if (!code && list.count == STORE_PURGED_MAX)
        code = forget_oldest(txn, &sink, &list);
    if (code)
        return code;
    uint8_t *entry = list.entries + list.count++ * ENTRY;
    memset(entry, 0, ENTRY);
    memcpy(entry, letter->row.id.bytes, sizeof letter->row.id.bytes);
    put_u64(entry + AT_SEQ, letter->row.seq);
    put_u64(entry + AT_TIME, now_ns);
    entry[AT_LANE] = (uint8_t)letter->row.lane;
    entry[AT_LIMIT] = by_limit;
    return save(txn, sink.id, &list);
}

/* Drops those that are `meant`; writes only if there were some. */
static int remove_some(struct state_txn *txn, uint32_t sink_id,
                       bool (*meant)(const struct store_purged *purged, const void *user), const void *user)
{
    struct purged_list list;
    struct store_purged purged;
    int code = load(txn, sink_id, &list);
    size_t before = list.count;
    for (size_t i = list.count; i-- > 0 && !code;) {
        read_entry(list.entries + i * ENTRY, &purged);
        if (meant(&purged, user))
            drop_entry(&list, i);
    }
    return code || list.count == before ? code : save(txn, sink_id, &list);
}

static bool has_id(const struct store_purged *purged, const void *user)
{
    return spool_id_compare(&purged->id, user) == 0;
}

int purged_remove(struct state_txn *txn, uint32_t sink_id, const struct spool_id *id)
{
    return remove_some(txn, sink_id, has_id, id);
}

static bool lies_behind(const struct store_purged *purged, const void *user)
{
    const uint64_t *cursor = user;
    return purged->seq < SEQ_DETACHED && purged->seq >= cursor[purged->lane];
}

int purged_rewind(struct state_txn *txn, uint32_t sink_id, const uint64_t cursor[LANES])
{
    return remove_some(txn, sink_id, lies_behind, cursor);
}

int purged_forget(struct state_txn *txn, uint32_t sink_id)
{
    return save(txn, sink_id, &(struct purged_list){.count = 0});
}

static int find(struct state_txn *txn, uint32_t sink_id, const struct spool_id *id, struct store_purged *ret)
{
    struct purged_list list;
    int code = load(txn, sink_id, &list);
    for (size_t i = list.count; i-- > 0 && !code;) {
        read_entry(list.entries + i * ENTRY, ret);
        if (has_id(ret, id))
            return SPOOL_OK;
    }
    return code ? code : SPOOL_ENOTFOUND;
}

int state_purged_find(struct state *state, uint32_t sink_id, const struct spool_id *id, uint64_t deadline_ns,
                      struct store_purged *ret)
{
    struct state_txn txn;
    int code = state_txn_read(state, deadline_ns, &txn);
    if (code)
        return code;
    code = find(&txn, sink_id, id, ret);
    state_txn_abort(&txn);
    return code;
}
