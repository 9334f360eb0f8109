/* reader_keys.c - the dispatcher cuts a batch of the log for a keyed sink: of the gaps, in their order, the events whose
 * keys no batch under way has (keys.h). What is left is a gap as before, and found again.
 *
 * So an agent whose batch takes long leaves gaps behind, and others go on beyond them, up to KEY_AHEAD_MAX (16,384)
 * events from the first that is not taken; then they wait too. An event that is passed by is unpacked only the first
 * time: from then on its stripe is known. */
#include <stdlib.h>

#include "../lib/base/error.h"
#include "engine.h"

/* One look through the gaps. */
struct look {
    struct delivery *d;
    const struct sink *sink;
    struct batch *batch;
    struct key_picker picker;
    uint32_t most;
    struct key_index *index;
    struct store_block *block; /* at hand */
};

static void drop_block(struct look *l)
{
    if (l->block)
        store_block_unref(l->block);
    l->block = NULL;
}

/* Has the block of event `seq` at hand. As reader_block(). */
static int go_to(struct look *l, uint64_t seq, uint64_t *ret_skip_to)
{
    if (l->block && seq - l->block->first_seq < l->block->count)
        return SPOOL_OK;
    drop_block(l);
    int code = reader_block(l->d, l->batch->lane, seq, &l->block, ret_skip_to);
    if (code != SPOOL_OK)
        l->block = NULL;
    return code;
}

/* The stripe of an event of the block. One that is not for the sink, or cannot be read, has none. */
static uint64_t stripe_of(const struct look *l, uint32_t at, bool *ret_wanted)
{
    struct event_view view;
    bool whole = bundle_event(&l->block->events, at, &view) == SPOOL_OK;
    *ret_wanted = !whole || !l->sink->filter || filter_passes(l->sink->filter, &view.event);
    return whole && *ret_wanted ? key_stripe(bench_key(&view.event, l->sink->options.order)) : 0;
}

/* Adds the event `seq` if its key is free. *ret_full: there is no room for it. Else as reader_block(). */
static int consider(struct look *l, uint64_t seq, uint64_t *ret_skip_to, bool *ret_full)
{
    uint64_t stripe;
    bool wanted, known = key_index_get(l->index, seq, &stripe);
    if (known && !key_picker_take(&l->picker, stripe))
        return SPOOL_OK;
    int code = go_to(l, seq, ret_skip_to);
    if (code != SPOOL_OK)
        return code;
    uint32_t at = (uint32_t)(seq - l->block->first_seq);
    stripe = stripe_of(l, at, &wanted);
    key_index_put(l->index, seq, stripe);
    if (!known && !key_picker_take(&l->picker, stripe))
        return SPOOL_OK;
    struct batch *batch = l->batch;
    size_t size = bundle_alone(&l->block->events, at);
    *ret_full = !reader_has_room(l->sink, batch, wanted, size);
    if (*ret_full)
        return SPOOL_OK;
    batch->wanted += wanted;
    batch->wanted_bytes += wanted ? size : 0;
    return batch_add_piece(batch, l->block, at, at + 1);
}

/* Without the lock. A code comes of event *ret_at, and of those up to *ret_skip_to. */
static int look_through(struct look *l, const struct window_span *gaps, size_t count, uint64_t *ret_at,
                        uint64_t *ret_skip_to)
{
    bool full = false;
    for (size_t i = 0; i < count; i++) {
        for (uint64_t seq = gaps[i].first; seq < gaps[i].end && l->batch->wanted < l->most; seq++) {
            *ret_skip_to = gaps[i].end;
            int code = consider(l, seq, ret_skip_to, &full);
            *ret_at = seq;
            if (*ret_skip_to > gaps[i].end)
                *ret_skip_to = gaps[i].end;
            if (code != SPOOL_OK || full)
                return code;
        }
    }
    return SPOOL_OK;
}

/* ---------------------------------------------------------------------------------------------------------- cutting */

static bool have_room(struct delivery *d, struct sink *sink, int lane)
{
    if (!d->gaps)
        d->gaps = malloc(KEY_GAPS_MAX * sizeof *d->gaps);
    if (!sink->keys_ahead[lane])
        sink->keys_ahead[lane] = calloc(1, sizeof *sink->keys_ahead[lane]);
    return d->gaps && sink->keys_ahead[lane];
}

/* False: nothing was found, or it is not next any more. */
static bool queue_found(struct look *l, struct sink *sink, bool valid)
{
    struct batch *batch = l->batch;
    batch->stripes = l->picker.taken;
    if (!valid || batch->count == 0 ||
        window_set(&sink->windows[batch->lane], batch->spans, batch->span_count, WINDOW_TAKEN) != SPOOL_OK) {
        batch_put(l->d, batch);
        return false;
    }
    sink_push(l->d, sink, batch);
    return true;
}

bool reader_cut_keys(struct delivery *d, struct sink *sink, int lane, uint64_t first, uint64_t next_seq,
                     struct batch *batch)
{
    if (!have_room(d, sink, lane)) {
        batch_put(d, batch);
        return false;
    }
    struct look l = {.d = d, .sink = sink, .batch = batch, .index = sink->keys_ahead[lane]};
    uint64_t epoch = sink->epoch, at = first, skip_to = first;
    uint64_t end = next_seq - first > KEY_AHEAD_MAX ? first + KEY_AHEAD_MAX : next_seq;
    l.most = reader_events_max(sink);
    sink_pick_keys(sink, &l.picker);
    end = suspects_end(sink, lane, first, end);
    size_t count = window_gaps(&sink->windows[lane], first, end, d->gaps, KEY_GAPS_MAX);
    pthread_mutex_unlock(d->lock);
    int code = look_through(&l, d->gaps, count, &at, &skip_to);
    drop_block(&l);
    pthread_mutex_lock(d->lock);
    bool valid = epoch == sink->epoch && !sink->reload && sink_is_wanted(d, sink);
    bool unread = valid && code != SPOOL_OK && batch->count == 0;
    if (unread)
        reader_note_unread(d, sink, lane, at, skip_to, code);
    return queue_found(&l, sink, valid) || (unread && (code == SPOOL_EDAMAGED || code == SPOOL_ESTALE));
}

/* Finished ranges are stored up to a number. */
bool reader_is_scattered(const struct sink *sink, int lane, uint64_t *ret_end)
{
    const struct window *w = &sink->windows[lane];
    if (w->count <= STORE_RANGES_MAX)
        return false;
    *ret_end = w->ranges[w->count - 1].end;
    return true;
}
