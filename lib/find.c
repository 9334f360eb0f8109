/* find.c - one event by its id: in the segments by the id ranges of blocks, then among retries and dead letters. */
#include "handle.h"

struct finding {
    struct spool *spool;
    const struct spool_id *id;
    struct spool_event *found;
    int lane;     /* where it stands in the log … */
    uint64_t seq; /* … if it was found there */
    int code;
};

static int copy_packed(struct finding *finding, const uint8_t *packed, size_t size)
{
    struct event_view view;
    int code = event_unpack(packed, size, &view);
    return code ? code : event_copy(&view.event, &view.id, &finding->found);
}

static int look_in_block(struct finding *finding, const struct store_block *block)
{
    if (memcmp(finding->id, &block->min_id, sizeof *finding->id) < 0 ||
        memcmp(finding->id, &block->max_id, sizeof *finding->id) > 0)
        return SPOOL_ENOTFOUND;
    for (uint32_t i = 0; i < block->count; i++) {
        struct spool_id id;
        struct event_view view;
        bundle_id(&block->events, i, &id);
        if (spool_id_compare(&id, finding->id) != 0)
            continue;
        finding->lane = block->lane;
        finding->seq = block->first_seq + i;
        int code = bundle_event(&block->events, i, &view);
        return code ? code : event_copy(&view.event, &view.id, &finding->found);
    }
    return SPOOL_ENOTFOUND;
}

/* Blocks behind are looked at too: a journal that was taken over late brings old ids. */
static int look_in_lane(struct finding *finding, int lane)
{
    struct store *store = finding->spool->store;
    uint64_t seq;
    int code = store_seek(store, lane, finding->id, &seq);
    while (!code) {
        struct store_block *block;
        uint64_t skip_to = 0;
        code = store_read(store, lane, seq, deadline_in_ms(5000), &block, &skip_to);
        if (code == SPOOL_EDAMAGED && skip_to > seq) {
            seq = skip_to;
            code = SPOOL_OK;
            continue;
        }
        if (code)
            break;
        seq = block->first_seq + block->count;
        code = look_in_block(finding, block);
        store_block_unref(block);
        if (code == SPOOL_OK)
            return SPOOL_OK;
        code = code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
    }
    return code;
}

static int look_at_dead(void *user, const struct store_dead *dead)
{
    struct finding *finding = user;
    if (spool_id_compare(&dead->row.id, finding->id) != 0)
        return 0;
    finding->code = copy_packed(finding, dead->packed, dead->packed_size);
    return 1;
}

struct retry_place {
    const struct spool_id *id;
    int lane;
    uint64_t seq;
    bool found;
};

static int look_at_retry(void *user, const struct store_retry *row)
{
    struct retry_place *place = user;
    if (spool_id_compare(&row->id, place->id) != 0)
        return 0;
    place->lane = row->lane;
    place->seq = row->seq;
    return place->found = true;
}

static int copy_retry(struct finding *finding, const struct store_sink *sink, const struct retry_place *place)
{
    uint8_t *packed;
    size_t size;
    int code = store_retry_event(finding->spool->store, sink->id, place->lane, place->seq, &packed, &size);
    if (code)
        return code;
    code = copy_packed(finding, packed, size);
    free(packed);
    return code;
}

/* A table that cannot be read ends the search: the event may be in it. */
static int look_at_sink(void *user, const struct store_sink *sink)
{
    struct finding *finding = user;
    struct retry_place place = {.id = finding->id};
    int code = sink->retry_rows ? store_retry_each(finding->spool->store, sink->id, look_at_retry, &place) : SPOOL_OK;
    if (place.found)
        code = copy_retry(finding, sink, &place);
    else if (!code)
        return 0;
    if (code == SPOOL_ENOTFOUND || code == SPOOL_EDAMAGED)
        return 0; /* delivered meanwhile, or counted as damaged: another place may have it */
    finding->code = code;
    return 1;
}

static int look_in_tables(struct finding *finding)
{
    finding->code = SPOOL_ENOTFOUND;
    int code = store_sink_each(finding->spool->store, look_at_sink, finding);
    if (code == 0)
        code = store_dead_each(finding->spool->store, NULL, look_at_dead, finding);
    return code == 1 ? finding->code : code ? code : SPOOL_ENOTFOUND;
}

int find_in_log(struct spool *spool, const struct spool_id *id, struct event_place *ret)
{
    struct finding finding = {.spool = spool, .id = id};
    int code = SPOOL_ENOTFOUND;
    for (int lane = 0; lane < LANES && code == SPOOL_ENOTFOUND; lane++)
        code = look_in_lane(&finding, lane);
    if (code)
        return code;
    ret->lane = finding.lane;
    ret->seq = finding.seq;
    ret->event = finding.found;
    return SPOOL_OK;
}

int spool_find(struct spool *spool, const struct spool_id *id, struct spool_event **ret_event)
{
    struct finding finding = {.spool = spool, .id = id};
    int code = handle_check(spool);
    if (!code && (!id || !ret_event))
        code = err_set(SPOOL_EINVAL, "spool_find: NULL is given");
    if (!code && !id_is_valid(id))
        code = err_set(SPOOL_EID, "not a UUIDv7");
    if (code)
        return code;
    code = SPOOL_ENOTFOUND;
    for (int lane = 0; lane < LANES && code == SPOOL_ENOTFOUND; lane++)
        code = look_in_lane(&finding, lane);
    if (code == SPOOL_ENOTFOUND)
        code = look_in_tables(&finding);
    if (code == SPOOL_ENOTFOUND)
        return err_set(SPOOL_ENOTFOUND, "%s: no such event: never stored here, or delivered and deleted", spool->dir);
    if (!code)
        *ret_event = finding.found;
    return code;
}
