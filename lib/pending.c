/* pending.c - what a sink still holds, by lane, and since when: in the log from its cursors on, and in its retry table.
 *
 * Who delivers to it knows better than what is stored, which is behind. Of retried events the sink's row has only how many
 * there are; their lanes are in the table, which is gone through where ages are wanted, too. */
#include "handle.h"

/* ---------------------------------------------------------------------------------------------------------- counts */

static uint64_t in_ranges(const struct store_sink *sink, int lane)
{
    uint64_t events = 0;
    for (uint32_t i = 0; i < sink->range_count[lane]; i++)
        events += sink->ranges[lane][i].count;
    return events;
}

/* The deliverer's memory is ahead of what is stored. */
static void apply_status(struct spool *spool, const struct store_sink *sink, struct pending *pending,
                         uint64_t beyond[LANES])
{
    struct delivery_sink_status status;
    if (delivery_sink_status(spool->delivery, sink->name, &status) != SPOOL_OK)
        return;
    for (int lane = 0; lane < LANES; lane++) {
        if (status.cursor[lane] > pending->cursor[lane])
            pending->cursor[lane] = status.cursor[lane];
        pending->retrying_in[lane] = status.retrying_in[lane];
        beyond[lane] = status.done_beyond[lane];
    }
    if (status.retrying > pending->retrying)
        pending->retrying = status.retrying;
}

static uint64_t without_holes(struct spool *spool, const struct pending *pending, int lane)
{
    uint64_t only[LANES];
    for (int i = 0; i < LANES; i++)
        only[i] = i == lane ? pending->cursor[lane] : UINT64_MAX;
    return store_events_from(spool->store, only);
}

static void count_log(struct spool *spool, uint64_t deadline_ns, const uint64_t beyond[LANES], struct pending *pending)
{
    uint64_t first[LANES], next[LANES];
    store_bounds_known(spool->store, deadline_ns, first, next);
    for (int lane = 0; lane < LANES; lane++) {
        uint64_t from = pending->cursor[lane] > first[lane] ? pending->cursor[lane] : first[lane];
        uint64_t events = next[lane] > from ? next[lane] - from : 0;
        if (events >> STORE_HOLE_SHIFT)
            events = without_holes(spool, pending, lane);
        pending->in_log[lane] = events > beyond[lane] ? events - beyond[lane] : 0;
    }
}

/* The sums. Retried events that are in no lane yet are in none that is known. */
static void add_up(struct pending *pending)
{
    uint64_t known = 0;
    for (int lane = 0; lane < LANES; lane++)
        known += pending->retrying_in[lane];
    if (known > pending->retrying)
        pending->retrying = known;
    pending->retrying_in[LANES] = pending->retrying - known;
    pending->events = 0;
    for (int lane = 0; lane <= LANES; lane++) {
        pending->events_in[lane] = pending->in_log[lane] + pending->retrying_in[lane];
        pending->events += pending->events_in[lane];
    }
}

void pending_of(struct spool *spool, const struct store_sink *sink, uint64_t deadline_ns, struct pending *ret)
{
    struct pending pending = {.retrying = sink->retry_rows};
    uint64_t beyond[LANES];
    memcpy(pending.cursor, sink->cursor, sizeof pending.cursor);
    for (int lane = 0; lane < LANES; lane++)
        beyond[lane] = in_ranges(sink, lane);
    apply_status(spool, sink, &pending, beyond);
    count_log(spool, deadline_ns, beyond, &pending);
    add_up(&pending);
    *ret = pending;
}

/* ------------------------------------------------------------------------------------------------------------ ages */

static void note_oldest(uint64_t *oldest_ns, uint64_t at_ns)
{
    if (at_ns && (!*oldest_ns || at_ns < *oldest_ns))
        *oldest_ns = at_ns;
}

struct retry_rows {
    uint64_t count[LANES], oldest_ns[LANES];
};

static int note_row(void *user, const struct store_retry *row)
{
    struct retry_rows *rows = user;
    rows->count[row->lane]++;
    note_oldest(&rows->oldest_ns[row->lane], row->first_ns);
    return 0;
}

/* By what the table has, the number is exact as well. */
static void look_at_rows(struct spool *spool, const struct store_sink *sink, struct pending *pending)
{
    struct retry_rows rows = {0};
    if (!pending->retrying || store_retry_each(spool->store, sink->id, note_row, &rows))
        return;
    pending->retrying = 0;
    for (int lane = 0; lane < LANES; lane++) {
        if (rows.count[lane] > pending->retrying_in[lane])
            pending->retrying_in[lane] = rows.count[lane];
        if (pending->retrying_in[lane])
            pending->oldest_in_ns[lane] = rows.oldest_ns[lane];
    }
    add_up(pending);
}

/* The time of the event at the cursor: of its block's oldest one. */
static void look_at_log(struct spool *spool, struct pending *pending, int lane)
{
    struct store_block *block;
    uint64_t skip_to;
    if (store_read(spool->store, lane, pending->cursor[lane], deadline_in_ms(500), &block, &skip_to))
        return;
    note_oldest(&pending->oldest_in_ns[lane], spool_id_time_ns(&block->min_id));
    store_block_unref(block);
}

void pending_with_ages(struct spool *spool, const struct store_sink *sink, struct pending *ret)
{
    pending_of(spool, sink, DEADLINE_NEVER, ret);
    look_at_rows(spool, sink, ret);
    for (int lane = 0; lane < LANES; lane++) {
        if (ret->in_log[lane])
            look_at_log(spool, ret, lane);
        note_oldest(&ret->oldest_ns, ret->oldest_in_ns[lane]);
    }
}
