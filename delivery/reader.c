/* reader.c - the dispatcher cuts a sink's next batch: which lane, from the retry table or the log, and how much.
 *
 * Priority: the most important lane that has something, except that a lane passed over LANE_TURN (12) times is next; as
 * four lanes can be due together, every waiting lane gets at least one of any 16 batches. Within a lane retries that
 * are due and the log take turns. */
#include <errno.h>
#include <stdlib.h>

#include "../lib/base/error.h"
#include "engine.h"

/* How far a batch may reach, those included that the sink's filter stops; no less than the largest a sink may ask for. */
enum { SPAN_EVENTS_MAX = 16384, SPAN_BYTES_MAX = 8 << 20 };
/* Retries looked at, whose keys other batches have, before the rest waits too. */
enum { ASIDE_MAX = 256 };

static const uint64_t read_timeout_ns = 250 * NS_PER_MS;
static const uint64_t read_again_ns = 100 * NS_PER_MS;

/* What a lane has for the sink. */
struct supply {
    bool log, retries;
    uint64_t first, end; /* of the gap in the log */
};

/* ----------------------------------------------------------------------------------------------------------- choice */

static bool retries_are_full(const struct sink *sink)
{
    return sink->retries.live >= sink->options.retry_rows_max ||
           sink->retries.live_bytes >= sink->options.retry_bytes_max;
}

static void note_full(struct sink *sink)
{
    if (sink->breaker.failures == 0)
        sink_error(sink, "the retry table is full (retry_rows_max, retry_bytes_max): "
                         "no further events are taken until some of it is delivered");
}

/* Is it better to wait for more? Only while the batch would not be full, and only so long. */
static bool lingers(struct sink *sink, int lane, const struct supply *s, uint64_t next_seq, uint64_t now_ns,
                    uint64_t *wait_until)
{
    if (s->end < next_seq) /* a gap between batches gets no more */
        return false;
    if (sink->options.linger_ms == 0 || sink->catching_up || s->end - s->first >= sink->options.batch_events_max)
        return false;
    if (sink->linger_first[lane] != s->first + 1) { /* + 1, so that zero says nothing */
        sink->linger_first[lane] = s->first + 1;
        sink->linger_since_ns[lane] = now_ns;
    }
    uint64_t until_ns = sink->linger_since_ns[lane] + sink->options.linger_ms * NS_PER_MS;
    if (now_ns >= until_ns)
        return false;
    if (until_ns < *wait_until)
        *wait_until = until_ns;
    return true;
}

static void survey(struct sink *sink, const uint64_t next_seq[LANES], struct supply supply[LANES], uint64_t *wait_until)
{
    uint64_t now = mono_ns();
    bool full = retries_are_full(sink), reading = now >= sink->read_again_ns;
    bool waiting = false;
    for (int lane = 0; lane < LANES; lane++) {
        struct supply *s = &supply[lane];
        window_gap(&sink->windows[lane], &s->first, &s->end);
        if (s->end > next_seq[lane])
            s->end = next_seq[lane];
        waiting |= s->first < s->end;
        s->log = s->first < s->end && !full && reading && !lingers(sink, lane, s, next_seq[lane], now, wait_until);
        uint64_t due = retry_due(&sink->retries, lane);
        s->retries = due <= now && !sink->catching_up;
        if (due > now && due < *wait_until)
            *wait_until = due;
    }
    if (full && waiting)
        note_full(sink);
    if (!reading && sink->read_again_ns < *wait_until)
        *wait_until = sink->read_again_ns;
}

static int choose(const struct sink *sink, const struct supply supply[LANES])
{
    int chosen = -1;
    for (int lane = LANES - 1; lane >= 0; lane--)
        if (supply[lane].log || supply[lane].retries)
            chosen = lane;
    for (int lane = 0; lane < LANES; lane++)
        if ((supply[lane].log || supply[lane].retries) && sink->passed_over[lane] >= LANE_TURN &&
            sink->passed_over[lane] > sink->passed_over[chosen])
            chosen = lane;
    return chosen;
}

static void note_choice(struct sink *sink, const struct supply supply[LANES], int chosen, bool retries)
{
    for (int lane = 0; lane < LANES; lane++)
        if (lane != chosen && (supply[lane].log || supply[lane].retries))
            sink->passed_over[lane]++;
    sink->passed_over[chosen] = 0;
    sink->retried_last[chosen] = retries;
}

/* ------------------------------------------------------------------------------------------------------- the log */

uint32_t reader_events_max(const struct sink *sink)
{
    uint32_t room = breaker_room(&sink->breaker, sink->inflight_events);
    uint32_t most = room < sink->options.batch_events_max ? room : sink->options.batch_events_max;
    return most > 0 ? most : 1;
}

/* One that cannot be read goes into the batch, where it is judged damaged. */
static bool passes(const struct filter *filter, const struct store_block *block, uint32_t at)
{
    struct event_view view;
    return !filter || bundle_event(&block->events, at, &view) != SPOOL_OK || filter_passes(filter, &view.event);
}

/* What a filter stops takes memory too until the batch is judged. */
static bool reaches_far(const struct batch *batch, uint32_t more_events, size_t more_bytes)
{
    return batch->count + more_events >= SPAN_EVENTS_MAX || batch->bytes + more_bytes > SPAN_BYTES_MAX;
}

bool reader_has_room(const struct sink *sink, const struct batch *batch, bool wanted, size_t size)
{
    if (wanted && batch->wanted > 0 && batch->wanted_bytes + size > sink->options.batch_bytes_max)
        return false;
    return batch->count == 0 || !reaches_far(batch, 1, size);
}

/* Adds events of the block from `seq` on, as far as the limits and the gap allow; at least one to an empty batch. */
static int add_from_block(const struct sink *sink, struct batch *batch, struct store_block *block, uint64_t seq,
                          uint64_t end, uint32_t most)
{
    uint64_t last = end - block->first_seq;
    uint32_t from = (uint32_t)(seq - block->first_seq), to = from;
    uint32_t upto = last < block->count ? (uint32_t)last : block->count;
    for (; to < upto && batch->wanted < most; to++) {
        size_t size = bundle_alone(&block->events, to);
        bool wanted = passes(sink->filter, block, to);
        if (wanted && batch->wanted > 0 && batch->wanted_bytes + size > sink->options.batch_bytes_max)
            break;
        if (batch->count + to - from > 0 && reaches_far(batch, to - from, bundle_span(&block->events, from, to + 1)))
            break;
        batch->wanted += wanted;
        batch->wanted_bytes += wanted ? size : 0;
    }
    return to > from ? batch_add_piece(batch, block, from, to) : SPOOL_OK;
}

/* [first, skip_to) of the lane cannot be read: it is over for this sink. */
static void skip(struct delivery *d, struct sink *sink, int lane, uint64_t first, uint64_t skip_to, bool damaged)
{
    if (window_finish(&sink->windows[lane], first, skip_to) != SPOOL_OK) {
        sink->reload = true;
        return;
    }
    sink->open.any = true;
    sink->open.upto = ++sink->given;
    if (damaged)
        store_drops_note(&sink->open.drops, SPOOL_DROP_DAMAGED, lane, skip_to, skip_to - first);
    if (!sink->hooks.checkpoint || !sink_is_open(sink))
        sink_promote(d, sink);
}

/* The block that `seq` is in. SPOOL_EDAMAGED, SPOOL_ESTALE (a hole): nothing up to *ret_skip_to. */
int reader_block(struct delivery *d, int lane, uint64_t seq, struct store_block **ret, uint64_t *ret_skip_to)
{
    int code = block_cache_read(&d->cache, d->store, lane, seq, mono_ns() + read_timeout_ns, ret, ret_skip_to);
    if (code != SPOOL_OK || (*ret)->first_seq <= seq)
        return code;
    *ret_skip_to = (*ret)->first_seq;
    store_block_unref(*ret);
    return SPOOL_ESTALE;
}

/* Fills the batch from [first, end) of the lane. As reader_block(). */
static int fill(struct delivery *d, const struct sink *sink, struct batch *batch, uint64_t first, uint64_t end,
                uint32_t most, uint64_t *ret_skip_to)
{
    for (uint64_t seq = first; seq < end && batch->wanted < most && batch->count < SPAN_EVENTS_MAX;) {
        struct store_block *block;
        int code = reader_block(d, batch->lane, seq, &block, ret_skip_to);
        if (code != SPOOL_OK)
            return batch->count > 0 ? SPOOL_OK : code;
        uint32_t before = batch->count;
        code = add_from_block(sink, batch, block, seq, end, most);
        store_block_unref(block);
        if (code != SPOOL_OK || batch->count == before)
            return code;
        seq += batch->count - before;
    }
    return SPOOL_OK;
}

void reader_note_unread(struct delivery *d, struct sink *sink, int lane, uint64_t first, uint64_t skip_to, int code)
{
    if (first < skip_to && (code == SPOOL_EDAMAGED || code == SPOOL_ESTALE)) {
        skip(d, sink, lane, first, skip_to, code == SPOOL_EDAMAGED);
        return;
    }
    sink->read_again_ns = mono_ns() + read_again_ns;
    if (code != SPOOL_ENOTFOUND)
        sink_error(sink, err_last());
}

/* Cuts and queues a batch of the log. The lock is left while blocks are read; if meanwhile batches were taken back,
 * what was read is no longer next and is thrown away. */
static bool cut_log(struct delivery *d, struct sink *sink, int lane, const struct supply *s, struct batch *batch)
{
    uint64_t epoch = sink->epoch, skip_to = s->end;
    uint32_t most = reader_events_max(sink);
    uint64_t end = suspects_end(sink, lane, s->first, s->end);
    pthread_mutex_unlock(d->lock);
    int code = fill(d, sink, batch, s->first, end, most, &skip_to);
    pthread_mutex_lock(d->lock);
    bool valid = epoch == sink->epoch && !sink->reload && sink_is_wanted(d, sink);
    if (valid && code != SPOOL_OK)
        reader_note_unread(d, sink, lane, s->first, skip_to < s->end ? skip_to : s->end, code);
    if (!valid || code != SPOOL_OK || batch->count == 0 ||
        window_take(&sink->windows[lane], s->first, s->first + batch->count) != SPOOL_OK) {
        batch_put(d, batch);
        return code == SPOOL_EDAMAGED || code == SPOOL_ESTALE;
    }
    sink_push(d, sink, batch);
    return true;
}

/* --------------------------------------------------------------------------------------------------------- retries */

/* Those that must wait for another batch, and are put back. */
struct aside {
    struct retry_row *rows[ASIDE_MAX];
    size_t count;
};

/* The next row that the batch may have: the next one of the same key as `last` if that is due as well, so that a key's
 * successors come together; else the one due first whose key is free. */
static struct retry_row *next_row(struct sink *sink, int lane, struct key_picker *picker, const struct retry_row *last,
                                  struct aside *aside, uint64_t now_ns)
{
    struct retry_row *row = last ? retry_take_successor(&sink->retries, last, now_ns) : NULL;
    while (!row && aside->count < ASIDE_MAX) {
        row = retry_take(&sink->retries, lane, now_ns);
        if (!row || !sink_is_keyed(sink) || key_picker_take(picker, key_stripe(row->key)))
            return row;
        aside->rows[aside->count++] = row;
        row = NULL;
    }
    return row;
}

static void take_rows(struct sink *sink, int lane, struct batch *batch)
{
    uint64_t now_ns = mono_ns();
    uint32_t most = reader_events_max(sink) < STORE_MARK_ROWS_MAX ? reader_events_max(sink) : STORE_MARK_ROWS_MAX;
    bool alone = false;
    struct key_picker picker;
    struct aside aside = {.count = 0};
    struct retry_row *row = NULL;
    sink_pick_keys(sink, &picker);
    while (!alone && batch->count < most && (batch->count == 0 || batch->bytes < sink->options.batch_bytes_max)) {
        row = next_row(sink, lane, &picker, row, &aside, now_ns);
        if (!row)
            break;
        alone = suspects_has(sink, lane, row->seq);
        if ((!alone || batch->count == 0) && batch_add_row(batch, row) == SPOOL_OK)
            continue;
        retry_untake(&sink->retries, row);
        break;
    }
    for (size_t i = 0; i < aside.count; i++)
        retry_untake(&sink->retries, aside.rows[i]);
    batch->stripes = sink_is_keyed(sink) ? picker.taken : 0;
}

/* Without the lock: rows that are taken are ours, and only the dispatcher frees an index. An event that cannot be read
 * stays without bytes, and is judged damaged. */
static int fetch_rows(struct delivery *d, uint32_t sink_id, struct batch *batch)
{
    for (size_t i = 0; i < batch->row_count; i++) {
        struct batch_row *r = &batch->rows[i];
        int code = store_retry_event(d->store, sink_id, r->row->lane, r->row->seq, &r->packed, &r->size);
        if (code != SPOOL_OK && code != SPOOL_ENOTFOUND && code != SPOOL_EDAMAGED)
            return code;
    }
    return SPOOL_OK;
}

static bool cut_retries(struct delivery *d, struct sink *sink, int lane, struct batch *batch)
{
    take_rows(sink, lane, batch);
    if (batch->count == 0) {
        batch_put(d, batch);
        return false;
    }
    uint64_t epoch = sink->epoch;
    sink_count_on(d, sink, batch); /* as sink_take_back() takes it off again */
    pthread_mutex_unlock(d->lock);
    int code = fetch_rows(d, sink->id, batch);
    pthread_mutex_lock(d->lock);
    if (code != SPOOL_OK || epoch != sink->epoch || sink->reload || !sink_is_wanted(d, sink)) {
        if (code != SPOOL_OK)
            reader_note_unread(d, sink, lane, 0, 0, code); /* a damaged row is judged as such */
        sink_take_back(d, sink, batch);
        batch_put(d, batch);
        return false;
    }
    sink_count_off(d, sink, batch);
    sink_push(d, sink, batch);
    return true;
}

static bool cut_one(struct delivery *d, struct sink *sink, int lane, const struct supply *s, uint64_t next_seq,
                    bool retries)
{
    struct batch *batch = batch_get(d);
    if (!batch)
        return false;
    batch->kind = retries ? BATCH_RETRY : BATCH_LOG;
    batch->lane = lane;
    if (retries)
        return cut_retries(d, sink, lane, batch);
    return sink_is_keyed(sink) ? reader_cut_keys(d, sink, lane, s->first, next_seq, batch)
                               : cut_log(d, sink, lane, s, batch);
}

/* Of a keyed sink there may be nothing of what was chosen whose key is free: then it is what comes next. */
bool reader_cut(struct delivery *d, struct sink *sink, const uint64_t next_seq[LANES], uint64_t *wait_until)
{
    struct supply supply[LANES];
    uint64_t epoch = sink->epoch;
    survey(sink, next_seq, supply, wait_until);
    for (int lane; (lane = choose(sink, supply)) >= 0;) {
        struct supply *s = &supply[lane];
        bool retries = s->retries && (!s->log || !sink->retried_last[lane]);
        note_choice(sink, supply, lane, retries);
        if (cut_one(d, sink, lane, s, next_seq[lane], retries))
            return true;
        if (!sink_is_keyed(sink) || sink->epoch != epoch || !sink_is_wanted(d, sink))
            return false;
        *(retries ? &s->retries : &s->log) = false;
    }
    return false;
}
