/* state_sink_row.c - a sink as rows: its fields, and per lane the ranges it has finished beyond its cursor.
 *
 * Body of a sink row:
 *
 *    0  4  flags: 1 paused, 2 removed, 4 to be removed, 8 best effort       4  4  enum spool_order
 *    8  8  generation                       16 32  cursor of each lane
 *   48 16  number of ranges of each lane    64  8  delivered      72  8  dropped
 *   80  8  retry rows                       88  8  dead letters
 *   96  1  size of the name                 97  1  size of the kind
 *   98     name, kind
 *          u16 n, n times u64: start of each lane, dead letters dropped by a limit, how far events were dropped in each
 *          lane, and how many for each reason of enum spool_drop (struct store_drops), delivered of each lane, serial of
 *          the last acknowledgement that was counted
 *
 * In version 1 it ends with the kind. A library that knows fewer of the numbers at the end leaves the others out, one that
 * knows more takes those that are missing for zero.
 *
 * Body of a ranges row: u64 generation, then up to STORE_RANGES_MAX times u64 first, u64 count. It is valid if its
 * generation and number of ranges are those of the sink; otherwise (after salvage) there are none, and events are
 * delivered again. */
#include "state_inside.h"

enum {
    SINK_PAUSED = 1,
    SINK_REMOVED = 2,
    SINK_REMOVING = 4,
    SINK_BEST_EFFORT = 8,
    AT_ORDER = 4,
    AT_GENERATION = 8,
    AT_CURSOR = 16,
    AT_RANGES = 48,
    AT_DELIVERED = 64,
    AT_DROPPED = 72,
    AT_RETRIES = 80,
    AT_DEAD = 88,
    AT_NAME_SIZE = 96,
    AT_KIND_SIZE = 97,
    SINK_HEADER = 98,
    TAIL_NUMBERS = LANES + 1 + LANES + SPOOL_DROPS + LANES + 1,
    SINK_BODY_MAX = SINK_HEADER + SINK_NAME_MAX + SINK_KIND_MAX + 2 + 8 * TAIL_NUMBERS,
};
_Static_assert(AT_DELIVERED - AT_RANGES == 4 * LANES && AT_RANGES - AT_CURSOR == 8 * LANES,
               "a lane more is a new version");
_Static_assert(SPOOL_DROPS == 4, "a reason more goes behind what is there now");

static struct state_key sink_key(uint32_t id)
{
    struct state_key key = state_key(TABLE_SINK);
    state_key_u32(&key, id);
    return key;
}

static struct state_key ranges_key(uint32_t id, int lane)
{
    struct state_key key = state_key(TABLE_RANGES);
    state_key_u32(&key, id);
    state_key_u8(&key, (uint8_t)lane);
    return key;
}

/* ---------------------------------------------------------------------------------------------------- the fields */

static void parse_fields(const uint8_t *body, struct sink_row *ret)
{
    uint32_t flags = get_u32(body);
    ret->paused = flags & SINK_PAUSED;
    ret->removed = flags & SINK_REMOVED;
    ret->removing = flags & SINK_REMOVING;
    ret->best_effort = flags & SINK_BEST_EFFORT;
    ret->order = get_u32(body + AT_ORDER);
    ret->generation = get_u64(body + AT_GENERATION);
    for (int lane = 0; lane < LANES; lane++) {
        ret->cursor[lane] = get_u64(body + AT_CURSOR + 8 * lane);
        ret->range_count[lane] = get_u32(body + AT_RANGES + 4 * lane);
    }
    ret->delivered = get_u64(body + AT_DELIVERED);
    ret->dropped = get_u64(body + AT_DROPPED);
    ret->retry_rows = get_u64(body + AT_RETRIES);
    ret->dead_rows = get_u64(body + AT_DEAD);
}

static void tail_numbers(struct sink_row *sink, uint64_t *ret[TAIL_NUMBERS])
{
    size_t n = 0;
    for (int lane = 0; lane < LANES; lane++)
        ret[n++] = &sink->start[lane];
    ret[n++] = &sink->dead_dropped;
    for (int lane = 0; lane < LANES; lane++)
        ret[n++] = &sink->drops.upto[lane];
    for (int why = 0; why < SPOOL_DROPS; why++)
        ret[n++] = &sink->drops.events[why];
    for (int lane = 0; lane < LANES; lane++)
        ret[n++] = &sink->delivered_in[lane];
    ret[n++] = &sink->serial;
}

/* What stands behind the texts, which end at `at`. False: its size cannot be. */
static bool parse_tail(const struct state_row *view, size_t at, struct sink_row *ret)
{
    uint64_t *numbers[TAIL_NUMBERS];
    tail_numbers(ret, numbers);
    if (view->body_size == at)
        return true;
    if (view->body_size < at + 2 || view->body_size != at + 2 + 8 * (size_t)get_u16(view->body + at))
        return false;
    for (size_t i = 0, from = at + 2; i < TAIL_NUMBERS && from < view->body_size; i++, from += 8)
        *numbers[i] = get_u64(view->body + from);
    return true;
}

int sink_row_parse(const struct state_row *view, struct sink_row *ret)
{
    memset(ret, 0, sizeof *ret);
    const uint8_t *body = view->body;
    if (view->body_size < SINK_HEADER || view->key_size != 5)
        return err_set(SPOOL_EDAMAGED, STATE_FILE ": a sink row of %zu bytes", view->body_size);
    size_t name = body[AT_NAME_SIZE], kind = body[AT_KIND_SIZE];
    bool has_name = name || (get_u32(body) & SINK_REMOVED); /* all that is left of a removed one is its number */
    if (!has_name || name > SINK_NAME_MAX || kind > SINK_KIND_MAX || view->body_size < SINK_HEADER + name + kind ||
        memchr(body + SINK_HEADER, 0, name + kind) || !parse_tail(view, SINK_HEADER + name + kind, ret))
        return err_set(SPOOL_EDAMAGED, STATE_FILE ": a sink row whose name does not fit it");
    parse_fields(body, ret);
    ret->id = get_be32(view->key + 1);
    memcpy(ret->name, body + SINK_HEADER, name);
    memcpy(ret->kind, body + SINK_HEADER + name, kind);
    return SPOOL_OK;
}

static size_t pack_tail(const struct sink_row *sink, uint8_t *to)
{
    uint64_t *numbers[TAIL_NUMBERS];
    tail_numbers((struct sink_row *)sink, numbers); /* to be read */
    put_u16(to, TAIL_NUMBERS);
    for (size_t i = 0; i < TAIL_NUMBERS; i++)
        put_u64(to + 2 + 8 * i, *numbers[i]);
    return 2 + 8 * TAIL_NUMBERS;
}

static size_t pack_fields(const struct sink_row *sink, uint8_t body[SINK_BODY_MAX])
{
    size_t name = strlen(sink->name), kind = strlen(sink->kind);
    put_u32(body, (sink->paused ? SINK_PAUSED : 0) | (sink->removed ? SINK_REMOVED : 0) |
                      (sink->removing ? SINK_REMOVING : 0) | (sink->best_effort ? SINK_BEST_EFFORT : 0));
    put_u32(body + AT_ORDER, sink->order);
    put_u64(body + AT_GENERATION, sink->generation);
    for (int lane = 0; lane < LANES; lane++) {
        put_u64(body + AT_CURSOR + 8 * lane, sink->cursor[lane]);
        put_u32(body + AT_RANGES + 4 * lane, sink->range_count[lane]);
    }
    put_u64(body + AT_DELIVERED, sink->delivered);
    put_u64(body + AT_DROPPED, sink->dropped);
    put_u64(body + AT_RETRIES, sink->retry_rows);
    put_u64(body + AT_DEAD, sink->dead_rows);
    body[AT_NAME_SIZE] = (uint8_t)name;
    body[AT_KIND_SIZE] = (uint8_t)kind;
    memcpy(body + SINK_HEADER, sink->name, name);
    memcpy(body + SINK_HEADER + name, sink->kind, kind);
    return SINK_HEADER + name + kind + pack_tail(sink, body + SINK_HEADER + name + kind);
}

/* Writes nothing if nothing has changed: then there may be nothing to commit. */
int sink_row_put(struct state_txn *txn, const struct sink_row *sink)
{
    uint8_t body[SINK_BODY_MAX];
    size_t size = pack_fields(sink, body);
    struct state_key key = sink_key(sink->id);
    struct state_row old;
    int code = state_table_get(txn, &key, &old);
    if (!code && old.body_size == size && memcmp(old.body, body, size) == 0)
        return SPOOL_OK;
    return state_table_put(txn, &key, body, size);
}

/* ------------------------------------------------------------------------------------------------------- finding */

int sink_row_get(struct state_txn *txn, uint32_t id, struct sink_row *ret)
{
    struct state_row view;
    struct state_key key = sink_key(id);
    int code = state_table_get(txn, &key, &view);
    return code ? code : sink_row_parse(&view, ret);
}

int sink_row_next(struct state_txn *txn, uint32_t *at_id, struct sink_row *ret)
{
    struct state_key at = sink_key(*at_id);
    for (;;) {
        struct state_row view;
        int code = state_table_next(txn, &at, 1, &view);
        if (code)
            return code;
        code = sink_row_parse(&view, ret);
        if (code || ret->removed)
            continue;
        *at_id = ret->id;
        return SPOOL_OK;
    }
}

int sink_row_find(struct state_txn *txn, const char *name, struct sink_row *ret)
{
    uint32_t at = 0;
    int code;
    while ((code = sink_row_next(txn, &at, ret)) == SPOOL_OK) {
        if (strcmp(ret->name, name) == 0)
            return SPOOL_OK;
    }
    return code == SPOOL_ENOTFOUND ? err_set(code, "no sink is named %s", name) : code;
}

/* -------------------------------------------------------------------------------------------------------- ranges */

int sink_ranges_get(struct state_txn *txn, const struct sink_row *sink, int lane, struct store_range *ret,
                    uint32_t *ret_count)
{
    uint32_t n = sink->range_count[lane];
    *ret_count = 0;
    if (!n)
        return SPOOL_OK;
    struct state_row view;
    struct state_key key = ranges_key(sink->id, lane);
    int code = state_table_get(txn, &key, &view);
    if (code)
        return code == SPOOL_ENOTFOUND || code == SPOOL_EDAMAGED ? SPOOL_OK : code;
    if (n > STORE_RANGES_MAX || view.body_size != 8 + 16 * (size_t)n || get_u64(view.body) != sink->generation)
        return SPOOL_OK;
    for (uint32_t i = 0; i < n; i++) {
        ret[i].first = get_u64(view.body + 8 + 16 * i);
        ret[i].count = get_u64(view.body + 16 + 16 * i);
    }
    *ret_count = n;
    return SPOOL_OK;
}

int sink_ranges_put(struct state_txn *txn, struct sink_row *sink, int lane, const struct store_range *ranges,
                    uint32_t count)
{
    struct state_key key = ranges_key(sink->id, lane);
    if (!count && !sink->range_count[lane])
        return SPOOL_OK;
    sink->range_count[lane] = count;
    if (!count) {
        int code = state_table_delete(txn, &key);
        return code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
    }
    uint8_t body[8 + 16 * STORE_RANGES_MAX];
    put_u64(body, sink->generation);
    for (uint32_t i = 0; i < count; i++) {
        put_u64(body + 8 + 16 * i, ranges[i].first);
        put_u64(body + 16 + 16 * i, ranges[i].count);
    }
    return state_table_put(txn, &key, body, 8 + 16 * (size_t)count);
}

void sink_ranges_settle(uint64_t *cursor, struct store_range *ranges, uint32_t *count)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < *count; i++) {
        if (ranges[i].first > *cursor)
            ranges[kept++] = ranges[i];
        else if (ranges[i].first + ranges[i].count > *cursor)
            *cursor = ranges[i].first + ranges[i].count;
    }
    *count = kept;
}
