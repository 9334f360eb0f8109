/* sink_change.c - changing a registered sink: its options, and where it stands. */
#include "base/id.h"
#include "handle.h"

static int check(const struct spool *spool, const char *name)
{
    int code = handle_check(spool);
    if (!code && !name)
        code = err_set(SPOOL_EINVAL, "the sink's name is NULL");
    if (!code && store_is_read_only(spool->store))
        code = err_set(SPOOL_EREADONLY, "%s is open for reading only", spool->dir);
    return code;
}

/* What may wait is also kept where whoever does not serve the sink finds it. */
static int set_limits(struct spool *spool, const char *name, const struct spool_sink_options *change)
{
    if (change->max_pending_bytes == 0 && change->max_pending_age_ms == 0)
        return SPOOL_OK;
    struct store_sink *sink = malloc(sizeof *sink); /* 8 KiB of ranges: too much for some stacks */
    int code = sink ? store_sink_get(spool->store, name, sink) : err_errno(ENOMEM, "sink %s", name);
    if (!code)
        code = store_sink_limit(spool->store, name,
                                change->max_pending_bytes ? change->max_pending_bytes : sink->max_pending_bytes,
                                change->max_pending_age_ms ? change->max_pending_age_ms : sink->max_pending_age_ms);
    free(sink);
    return code;
}

int spool_sink_set_options(struct spool *spool, const char *name, const struct spool_sink_options *options)
{
    struct spool_sink_options taken;
    char *text = NULL, *changed = NULL;
    int code = check(spool, name);
    if (!code && !options)
        code = err_set(SPOOL_EINVAL, "spool_sink_set_options: no options");
    if (!code)
        code = struct_take(&taken, sizeof taken, options, options->size, "spool_sink_options");
    taken.size = sizeof taken;
    if (!code)
        code = store_sink_config(spool->store, name, &text);
    if (!code)
        code = delivery_registration_change(text, &taken, &changed);
    if (!code)
        code = store_sink_set_config(spool->store, name, changed);
    if (!code)
        code = set_limits(spool, name, &taken);
    free(text);
    free(changed);
    return code ? err_prefix(code, "sink %s", name ? name : "") : SPOOL_OK;
}

/* ---------------------------------------------------------------------------------------------------------- rewind */

/* The first event in the block, from `seq` on, that is not earlier than `id`; behind the block if there is none. */
static uint64_t first_not_before(const struct store_block *block, uint64_t seq, const struct spool_id *id)
{
    uint32_t i = seq > block->first_seq ? (uint32_t)(seq - block->first_seq) : 0;
    for (; i < block->count; i++) {
        struct spool_id found;
        bundle_id(&block->events, i, &found);
        if (spool_id_compare(&found, id) >= 0)
            break;
    }
    return block->first_seq + i;
}

/* Where to begin in a lane so that nothing from `id` on is missed: the block that the log names, less what in it is
 * earlier. (Ids of several processes overlap a little: some that are earlier may come along.) */
static int find_place(struct spool *spool, int lane, const struct spool_id *id, uint64_t *ret)
{
    struct store_block *block;
    uint64_t seq, skip_to;
    int code = store_seek(spool->store, lane, id, &seq);
    if (code)
        return code;
    *ret = seq;
    code = store_read(spool->store, lane, seq, deadline_in_ms(5000), &block, &skip_to);
    if (code == SPOOL_ENOTFOUND || code == SPOOL_EDAMAGED)
        return SPOOL_OK; /* at the end, or what is damaged is skipped later */
    if (code)
        return code;
    *ret = first_not_before(block, seq, id);
    store_block_unref(block);
    return SPOOL_OK;
}

int spool_sink_rewind(struct spool *spool, const char *name, uint64_t to_ns, const struct spool_id *to_id,
                      uint64_t *ret_again)
{
    uint64_t cursor[LANES] = {0}, again = 0;
    struct spool_event *found = NULL;
    struct spool_id id;
    int code = check(spool, name);
    if (!code && !to_ns == !to_id)
        code = err_set(SPOOL_EINVAL, "sink %s: rewind to a time or to an id", name);
    if (!code && to_id)
        code = spool_find(spool, to_id, &found); /* it must be there still */
    spool_event_free(found);
    if (code)
        return code;
    if (to_id)
        id = *to_id;
    else
        id_min_at_ns(to_ns, &id);
    code = store_commit(spool->store, deadline_in_ms(5000));
    for (int lane = 0; lane < LANES && !code; lane++)
        code = find_place(spool, lane, &id, &cursor[lane]);
    if (!code)
        code = store_sink_rewind(spool->store, name, cursor, &again);
    if (!code && ret_again)
        *ret_again = again;
    return code;
}
