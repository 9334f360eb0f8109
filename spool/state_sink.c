/* state_sink.c - registering, finding and removing sinks; what they all have passed.
 *
 * Sinks are few (tens), so a name is found by walking their rows. */
#include "state_inside.h"

static struct state_key table_key(enum state_table table, uint32_t id)
{
    struct state_key key = state_key((uint8_t)table);
    state_key_u32(&key, id);
    return key;
}

/* -------------------------------------------------------------------------------------------------- as the caller sees
 */

static int describe(struct state_txn *txn, const struct sink_row *sink, struct store_sink *ret)
{
    memset(ret, 0, sizeof *ret);
    memcpy(ret->name, sink->name, sizeof ret->name);
    memcpy(ret->kind, sink->kind, sizeof ret->kind);
    ret->id = sink->id;
    ret->generation = sink->generation;
    ret->serial = sink->serial;
    ret->order = sink->order;
    ret->paused = sink->paused;
    ret->removing = sink->removing;
    ret->best_effort = sink->best_effort;
    ret->delivered = sink->delivered;
    memcpy(ret->delivered_in, sink->delivered_in, sizeof ret->delivered_in);
    ret->dropped = sink->dropped;
    ret->retry_rows = sink->retry_rows;
    ret->dead_rows = sink->dead_rows;
    ret->dead_dropped = sink->dead_dropped;
    ret->drops = sink->drops;
    memcpy(ret->start, sink->start, sizeof ret->start);
    memcpy(ret->cursor, sink->cursor, sizeof ret->cursor);
    struct sink_more more;
    int code = state_filtered_get(txn, sink->id, &ret->filtered);
    if (!code)
        code = sink_more_get(txn, sink->id, &more);
    if (code)
        return code;
    memcpy(ret->paused_reason, more.paused_reason, sizeof ret->paused_reason);
    ret->max_pending_bytes = more.max_pending_bytes;
    ret->max_pending_age_ms = more.max_pending_age_ms;
    for (int lane = 0; lane < LANES && !code; lane++)
        code = sink_ranges_get(txn, sink, lane, ret->ranges[lane], &ret->range_count[lane]);
    return code;
}

int state_sink_get(struct state *state, const char *name, uint64_t deadline_ns, struct store_sink *ret)
{
    struct state_txn txn;
    struct sink_row sink;
    int code = state_txn_read(state, deadline_ns, &txn);
    if (code)
        return code;
    code = sink_row_find(&txn, name, &sink);
    if (!code)
        code = describe(&txn, &sink, ret);
    state_txn_abort(&txn);
    return code;
}

/* The sink behind *at_id. One lock for each: store_sink is 8 KiB, and there are few. */
static int next_sink(struct state *state, uint32_t *at_id, uint64_t deadline_ns, struct store_sink *ret)
{
    struct state_txn txn;
    struct sink_row sink;
    int code = state_txn_read(state, deadline_ns, &txn);
    if (code)
        return code;
    code = sink_row_next(&txn, at_id, &sink);
    if (!code)
        code = describe(&txn, &sink, ret);
    state_txn_abort(&txn);
    return code;
}

int state_sink_each(struct state *state, uint64_t deadline_ns, int (*each)(void *user, const struct store_sink *sink),
                    void *user)
{
    struct store_sink sink;
    uint32_t at = 0;
    int code;
    while ((code = next_sink(state, &at, deadline_ns, &sink)) == SPOOL_OK) {
        code = each(user, &sink);
        if (code)
            return code;
    }
    return code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
}

/* ----------------------------------------------------------------------------------------------------- registering */

struct registration {
    const char *name, *kind, *config;
    uint32_t order;
    const uint64_t *start;
};

static int check_registration(const struct registration *r)
{
    size_t name = strlen(r->name), kind = strlen(r->kind), config = strlen(r->config);
    if (!name || name > SINK_NAME_MAX)
        return err_set(SPOOL_EINVAL, "the sink's name \"%.80s\" has %zu bytes, 1 to %d are allowed", r->name, name,
                       SINK_NAME_MAX);
    if (!kind || kind > SINK_KIND_MAX)
        return err_set(SPOOL_EINVAL, "sink %s: the kind \"%.40s\" has %zu bytes, 1 to %d are allowed", r->name, r->kind,
                       kind, SINK_KIND_MAX);
    if (config > STATE_CONFIG_MAX)
        return err_set(SPOOL_ETOOBIG, "sink %s: a configuration of %zu bytes, at most %d are allowed", r->name, config,
                       STATE_CONFIG_MAX);
    return SPOOL_OK;
}

/* Dead letters of an earlier sink of that name are the new one's. */
static int count_dead(struct state_txn *txn, const char *name, uint64_t *ret)
{
    struct state_key at = state_key(TABLE_DEAD);
    struct state_row view;
    struct copy_row copy;
    int code;
    *ret = 0;
    while ((code = state_table_next(txn, &at, 1, &view)) == SPOOL_OK)
        *ret += copy_row_parse(&view, &copy) == SPOOL_OK && strcmp(copy.sink, name) == 0;
    return code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
}

static int fill_new(struct state_txn *txn, const struct registration *r, struct sink_row *ret)
{
    struct state_numbers numbers;
    memset(ret, 0, sizeof *ret);
    int code = state_numbers_get(txn, &numbers);
    if (!code)
        code = count_dead(txn, r->name, &ret->dead_rows);
    if (code)
        return code;
    memcpy(ret->name, r->name, strlen(r->name));
    memcpy(ret->kind, r->kind, strlen(r->kind));
    memcpy(ret->cursor, r->start, sizeof ret->cursor);
    memcpy(ret->start, r->start, sizeof ret->start);
    ret->order = r->order;
    ret->id = numbers.sink++;
    ret->generation = numbers.generation++;
    return state_numbers_put(txn, &numbers);
}

int sink_config_put(struct state_txn *txn, uint32_t id, const char *config)
{
    struct state_key key = table_key(TABLE_CONFIG, id);
    uint8_t *old;
    size_t size, new_size = strlen(config);
    int code = state_blob_get(txn, &key, &old, &size);
    if (!code) {
        bool same = size == new_size && memcmp(old, config, size) == 0;
        free(old);
        if (same)
            return SPOOL_OK;
    }
    return state_blob_put(txn, &key, config, new_size);
}

/* A sink that is registered again, as at every start, may use the reserve: it can't drain otherwise. */
static int bring_up_to_date(struct state_txn *txn, const struct registration *r, struct sink_row *sink)
{
    int code = state_reserve_check(txn, ROOM_UPDATE, 2, strlen(r->config));
    if (code)
        return code;
    memset(sink->kind, 0, sizeof sink->kind);
    memcpy(sink->kind, r->kind, strlen(r->kind));
    sink->order = r->order;
    return SPOOL_OK;
}

static int remove_in(struct state_txn *txn, const char *name);

/* In the place of one that is to be removed it is a new one. */
static int find_registered(struct state_txn *txn, const char *name, struct sink_row *ret)
{
    int code = sink_row_find(txn, name, ret);
    if (code || !ret->removing)
        return code;
    code = remove_in(txn, name);
    return code ? code : SPOOL_ENOTFOUND;
}

static int register_in(struct state_txn *txn, const struct registration *r, struct store_sink *ret, bool *ret_is_new)
{
    struct sink_row sink;
    int code = find_registered(txn, r->name, &sink);
    *ret_is_new = code == SPOOL_ENOTFOUND;
    if (!code) {
        code = bring_up_to_date(txn, r, &sink);
    } else if (*ret_is_new) {
        code = state_reserve_check(txn, ROOM_NEW, 2, strlen(r->config));
        if (!code)
            code = fill_new(txn, r, &sink);
    }
    if (!code)
        code = sink_config_put(txn, sink.id, r->config);
    if (!code)
        code = sink_row_put(txn, &sink);
    return code ? code : describe(txn, &sink, ret);
}

int state_sink_register(struct state *state, const char *name, const char *kind, uint32_t order, const char *config,
                        const uint64_t start[LANES], uint64_t deadline_ns, struct store_sink *ret, bool *ret_is_new)
{
    const struct registration r = {
        .name = name, .kind = kind, .config = config ? config : "", .order = order, .start = start};
    struct store_sink found;
    struct state_txn txn;
    bool is_new;
    int code = check_registration(&r);
    if (!code)
        code = state_txn_write(state, deadline_ns, &txn);
    if (code)
        return code;
    code = state_txn_end(&txn, register_in(&txn, &r, &found, &is_new));
    if (code)
        return err_prefix(code, "sink %s", name);
    *ret = found;
    if (ret_is_new)
        *ret_is_new = is_new;
    return SPOOL_OK;
}

/* --------------------------------------------------------------------------------------------------- configuration */

int state_sink_config(struct state *state, const char *name, uint64_t deadline_ns, char **ret)
{
    struct state_txn txn;
    struct sink_row sink;
    uint8_t *config;
    size_t size;
    int code = state_txn_read(state, deadline_ns, &txn);
    if (code)
        return code;
    code = sink_row_find(&txn, name, &sink);
    if (!code) {
        struct state_key key = table_key(TABLE_CONFIG, sink.id);
        code = state_blob_get(&txn, &key, &config, &size);
        if (code == SPOOL_ENOTFOUND)
            code = err_set(SPOOL_EDAMAGED, "sink %s: its configuration was lost: register it again", name);
    }
    state_txn_abort(&txn);
    if (!code)
        *ret = (char *)config;
    return code;
}

/* ------------------------------------------------------------------------------------------------------ removing */

static int clear_of(struct state_txn *txn, enum state_table table, uint32_t id)
{
    struct state_key key = table_key(table, id);
    return state_blob_delete(txn, &key);
}

/* Leaves a mark with the id: its retries go in further transactions, and a crash in between leaves them to the sweep.
 */
static int remove_in(struct state_txn *txn, const char *name)
{
    struct sink_row sink;
    int code = sink_row_find(txn, name, &sink);
    if (!code)
        code = clear_of(txn, TABLE_CHECKPOINT, sink.id);
    if (!code)
        code = clear_of(txn, TABLE_CONFIG, sink.id);
    if (!code)
        code = clear_of(txn, TABLE_RANGES, sink.id);
    if (!code)
        code = state_filtered_forget(txn, sink.id);
    if (!code)
        code = sink_more_put(txn, sink.id, &(struct sink_more){0});
    if (!code)
        code = purged_forget(txn, sink.id);
    if (code)
        return code;
    struct sink_row mark = {.id = sink.id, .generation = sink.generation, .removed = true};
    return sink_row_put(txn, &mark);
}

static int remove_marked_in(struct state_txn *txn, const char *name)
{
    struct sink_row sink;
    int code = sink_row_find(txn, name, &sink);
    if (!code && !sink.removing)
        code = err_set(SPOOL_ENOTFOUND, "sink %s is another one, that nobody wants removed", name);
    return code ? code : remove_in(txn, name);
}

static int remove_by(struct state *state, int (*in)(struct state_txn *txn, const char *name), const char *name,
                     uint64_t deadline_ns)
{
    struct state_txn txn;
    int code = state_txn_write(state, deadline_ns, &txn);
    if (!code)
        code = state_txn_end(&txn, in(&txn, name));
    return code ? code : state_retry_sweep(state, deadline_ns);
}

int state_sink_remove(struct state *state, const char *name, uint64_t deadline_ns)
{
    return remove_by(state, remove_in, name, deadline_ns);
}

int state_sink_remove_marked(struct state *state, const char *name, uint64_t deadline_ns)
{
    return remove_by(state, remove_marked_in, name, deadline_ns);
}

/* -------------------------------------------------------------------------------------------- all sinks together */

static int lowest(struct state_txn *txn, uint64_t cursor[LANES], uint32_t *ret_sinks)
{
    struct sink_row sink;
    uint32_t at = 0;
    int code;
    *ret_sinks = 0;
    while ((code = sink_row_next(txn, &at, &sink)) == SPOOL_OK) {
        for (int lane = 0; lane < LANES; lane++)
            cursor[lane] = *ret_sinks && cursor[lane] < sink.cursor[lane] ? cursor[lane] : sink.cursor[lane];
        ++*ret_sinks;
    }
    return code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
}

int state_low_cursor(struct state *state, uint64_t deadline_ns, uint64_t ret_cursor[LANES], uint32_t *ret_sinks)
{
    struct state_txn txn;
    uint64_t cursor[LANES] = {0};
    uint32_t sinks;
    int code = state_txn_read(state, deadline_ns, &txn);
    if (code)
        return code;
    code = lowest(&txn, cursor, &sinks);
    if (!code && txn.note_count)
        code = err_set(SPOOL_EDAMAGED, STATE_FILE ": the row of a sink is damaged; what it needs is not known");
    state_txn_abort(&txn);
    if (code)
        return code;
    memcpy(ret_cursor, cursor, sizeof cursor);
    *ret_sinks = sinks;
    return SPOOL_OK;
}

/* Moves the cursor of one lane; returns how many events it had not finished with are skipped. */
static uint64_t skip_to(uint64_t upto, uint64_t *cursor, struct store_range *ranges, uint32_t *count)
{
    if (*cursor >= upto)
        return 0;
    uint64_t skipped = upto - *cursor;
    for (uint32_t i = 0; i < *count && ranges[i].first < upto; i++) {
        uint64_t end = ranges[i].first + ranges[i].count;
        skipped -= (end < upto ? end : upto) - ranges[i].first;
    }
    *cursor = upto;
    sink_ranges_settle(cursor, ranges, count);
    return skipped;
}

static int drop_of(struct state_txn *txn, struct sink_row *sink, const uint64_t upto[LANES], enum spool_drop why)
{
    for (int lane = 0; lane < LANES; lane++) {
        struct store_range ranges[STORE_RANGES_MAX];
        uint32_t count;
        if (sink->cursor[lane] >= upto[lane])
            continue;
        int code = sink_ranges_get(txn, sink, lane, ranges, &count);
        uint64_t n = code ? 0 : skip_to(upto[lane], &sink->cursor[lane], ranges, &count);
        if (!code)
            code = sink_ranges_put(txn, sink, lane, ranges, count);
        if (code)
            return code;
        sink->dropped += n;
        sink->drops.events[why] += n;
        if (n)
            store_drops_upto(&sink->drops, lane, upto[lane]);
    }
    return sink_row_put(txn, sink);
}

static int drop_of_sinks(struct state_txn *txn, const uint64_t upto[LANES])
{
    struct sink_row sink;
    uint32_t at = 0;
    int code;
    while ((code = sink_row_next(txn, &at, &sink)) == SPOOL_OK) {
        code = drop_of(txn, &sink, upto, SPOOL_DROP_SIZE);
        if (code)
            return code;
    }
    return code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
}

static uint64_t greatest(uint64_t a, uint64_t b, uint64_t c)
{
    a = a > b ? a : b;
    return a > c ? a : c;
}

/* Two processes may drop the same segment, and one may be killed before it has deleted it: each event counts once. */
static int count_dropped(struct state_txn *txn, const uint64_t first[LANES], const uint64_t upto[LANES], uint64_t *ret)
{
    uint64_t low[LANES] = {0}, mark[LANES];
    uint32_t sinks;
    struct state_totals totals;
    int code = lowest(txn, low, &sinks);
    if (!code)
        code = state_dropped_get(txn, mark);
    if (!code)
        code = state_totals_get(txn, &totals);
    *ret = 0;
    for (int lane = 0; !code && lane < LANES; lane++) {
        uint64_t from = greatest(low[lane], first[lane], mark[lane]);
        *ret += upto[lane] > from ? upto[lane] - from : 0;
        mark[lane] = mark[lane] > upto[lane] ? mark[lane] : upto[lane];
    }
    if (code || !*ret)
        return code;
    totals.counters[STATE_DROPPED_EVENTS] += *ret;
    code = state_totals_put(txn, &totals);
    return code ? code : state_dropped_put(txn, mark);
}

static int drop_in(struct state_txn *txn, const uint64_t first[LANES], const uint64_t upto[LANES],
                   uint64_t *ret_dropped)
{
    int code = count_dropped(txn, first, upto, ret_dropped);
    return code ? code : drop_of_sinks(txn, upto);
}

int state_drop_below(struct state *state, const uint64_t first[LANES], const uint64_t upto[LANES], uint64_t deadline_ns,
                     uint64_t *ret_dropped)
{
    struct state_txn txn;
    uint64_t dropped = 0;
    int code = state_txn_write(state, deadline_ns, &txn);
    if (!code)
        code = state_txn_end(&txn, drop_in(&txn, first, upto, &dropped));
    if (!code)
        *ret_dropped = dropped;
    return code;
}

static int drop_for(struct state_txn *txn, const char *name, const uint64_t upto[LANES], uint64_t *ret_dropped)
{
    struct sink_row sink;
    int code = sink_row_find(txn, name, &sink);
    uint64_t before = code ? 0 : sink.dropped;
    if (!code)
        code = drop_of(txn, &sink, upto, SPOOL_DROP_PENDING);
    *ret_dropped = code ? 0 : sink.dropped - before;
    return code;
}

int state_sink_drop_below(struct state *state, const char *name, const uint64_t upto[LANES], uint64_t deadline_ns,
                          uint64_t *ret_dropped)
{
    struct state_txn txn;
    uint64_t dropped;
    int code = state_txn_write(state, deadline_ns, &txn);
    if (!code)
        code = state_txn_end(&txn, drop_for(&txn, name, upto, &dropped));
    if (!code)
        *ret_dropped = dropped;
    return code;
}
