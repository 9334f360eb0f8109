/* limits.c - how much the directory may hold: watermarks by priority, deletion of what is delivered, dropping by policy.
 *
 * As the spool fills, lower priorities meet the limit first. Segments are deleted whole, oldest first, when every sink's
 * cursors have passed them and retention is over; retention yields when three quarters of max_bytes are used. Under
 * SPOOL_FULL_DROP_OLDEST the oldest segment goes, provided that all that is undelivered in it is in lanes with that policy;
 * each lost event is counted and reported. */
#include "store_inside.h"

static const unsigned watermark_percent[LANES] = {100, 95, 90, 80};

void limits_init(struct store *store)
{
    for (int lane = 0; lane < LANES; lane++)
        store->limit_bytes[lane] = store->options.max_bytes / 100 * watermark_percent[lane];
}

bool limits_allow(const struct store *store, int lane, uint64_t bytes)
{
    enum { OVERHEAD_SHIFT = 5 }; /* blocks, pages and segments take about 3 % more than events */
    uint64_t waiting = bytes;
    if (store->ring)
        waiting += journal_head(store->ring->journal) - journal_applied(store->ring->journal);
    waiting += waiting >> OVERHEAD_SHIFT;
    return atomic_load_explicit(&store->used_bytes, memory_order_relaxed) + waiting <= store->limit_bytes[lane];
}

bool limits_are_tight(const struct store *store)
{
    return atomic_load(&store->used_bytes) > store->options.max_bytes / 4 * 3;
}

bool limits_disk_is_full(const struct store *store)
{
    int error = store->commit_error;
    return error == ENOSPC || error == EDQUOT || error == SPOOL_EFULL;
}

/* ---------------------------------------------------------------------------------------------- what is delivered */

static void oldest_to_keep(struct store *store, struct spool_id *ret)
{
    memset(ret, 0, sizeof *ret);
    uint64_t retention_ns = store->options.retention_ms * NS_PER_MS, now = hlc_physical_ns(store->clock);
    if (retention_ns && !limits_are_tight(store))
        id_min_at_ns(now > retention_ns ? now - retention_ns : 0, ret);
}

static void delete_delivered(struct store *store, const uint64_t cursor[LANES])
{
    struct spool_id keep_from;
    oldest_to_keep(store, &keep_from);
    uint64_t deleted = 0;
    int code = log_delete(store->log, cursor, &keep_from, lock_slice(), &deleted);
    if (code && code != SPOOL_ETIMEOUT)
        report(&store->options.reporter, SPOOL_LOG_WARNING, "deleting delivered segments: %s", err_last());
}

/* The current segment is never deleted: when all of it is delivered and it is worth it, it is sealed. */
static void seal_delivered(struct store *store, const uint64_t cursor[LANES])
{
    uint64_t first[LANES], next[LANES];
    if (log_bounds(store->log, lock_slice(), first, next))
        return;
    for (int lane = 0; lane < LANES; lane++) {
        if (cursor[lane] < next[lane])
            return;
    }
    uint64_t min_bytes = limits_are_tight(store) ? 256 << 10 : store->dir.segment_bytes / 4;
    int code = log_rotate(store->log, min_bytes, lock_slice());
    if (code && code != SPOOL_ETIMEOUT)
        report(&store->options.reporter, SPOOL_LOG_WARNING, "sealing a delivered segment: %s", err_last());
}

/* --------------------------------------------------------------------------------------------------- what is dropped */

static bool may_drop(const struct store *store, const uint64_t cursor[LANES], const uint64_t first[LANES],
                     const uint64_t next[LANES])
{
    for (int lane = 0; lane < LANES; lane++) {
        bool waits = next[lane] > first[lane] && cursor[lane] < next[lane];
        if (waits && store->options.full_policy[lane] != SPOOL_FULL_DROP_OLDEST)
            return false;
    }
    return true;
}

static uint64_t undelivered(const uint64_t cursor[LANES], const uint64_t first[LANES], const uint64_t next[LANES])
{
    uint64_t events = 0;
    for (int lane = 0; lane < LANES; lane++) {
        uint64_t from = cursor[lane] > first[lane] ? cursor[lane] : first[lane];
        events += next[lane] > from ? next[lane] - from : 0;
    }
    return events;
}

/* Moves the cursors over the oldest segment, deletes it and says so. */
static int drop_segment(struct store *store, const uint64_t cursor[LANES], const uint64_t first[LANES],
                        const uint64_t next[LANES], uint32_t sinks)
{
    uint64_t dropped = undelivered(cursor, first, next), by_sinks = 0, deleted;
    struct spool_id keep_nothing = {0};
    int code = sinks ? state_drop_below(store->state, next, lock_slice(), &by_sinks) : SPOOL_OK;
    if (!code)
        code = state_count(store->state, STATE_DROPPED_EVENTS, dropped, NULL, lock_slice());
    if (!code)
        code = log_delete(store->log, next, &keep_nothing, lock_slice(), &deleted);
    if (code)
        return code;
    notify(&store->options.reporter, SPOOL_NOTICE_DROPPED, NULL, NULL, dropped,
           "the spool is full: the oldest segment with %llu undelivered event(s) was dropped, as its policy says",
           (unsigned long long)dropped);
    store_tell_change(store, true);
    return SPOOL_OK;
}

static void drop_oldest(struct store *store)
{
    uint64_t cursor[LANES], first[LANES], next[LANES];
    uint32_t sinks = 0;
    int code = state_low_cursor(store->state, lock_slice(), cursor, &sinks);
    if (!code)
        code = log_oldest(store->log, lock_slice(), first, next);
    if (code == SPOOL_ENOTFOUND) { /* only the current one is left: seal it, the next round drops it */
        code = log_rotate(store->log, 1, lock_slice());
        if (!code)
            code = log_oldest(store->log, lock_slice(), first, next);
    }
    if (!code && may_drop(store, cursor, first, next))
        code = drop_segment(store, cursor, first, next, sinks);
    if (code && code != SPOOL_ETIMEOUT && code != SPOOL_ENOTFOUND)
        report(&store->options.reporter, SPOOL_LOG_WARNING, "dropping the oldest segment: %s", err_last());
}

static bool take_drop_wish(struct store *store)
{
    bool wanted = false;
    pthread_mutex_lock(&store->append_mutex);
    for (int lane = 0; lane < LANES; lane++) {
        /* Still too full now? What was deleted meanwhile may have been enough. */
        wanted |= store->want_drop[lane] && (!limits_allow(store, lane, store->frame_max) || limits_disk_is_full(store));
        store->want_drop[lane] = false;
    }
    pthread_mutex_unlock(&store->append_mutex);
    return wanted;
}

void limits_reclaim(struct store *store)
{
    uint64_t cursor[LANES];
    uint32_t sinks = 0;
    int code = state_low_cursor(store->state, lock_slice(), cursor, &sinks);
    if (code) {
        if (code != SPOOL_ETIMEOUT)
            report(&store->options.reporter, SPOOL_LOG_WARNING, "reading the cursors: %s", err_last());
        return;
    }
    if (sinks) {
        seal_delivered(store, cursor);
        delete_delivered(store, cursor);
    }
    keeper_measure(store);
    if (take_drop_wish(store)) {
        drop_oldest(store);
        keeper_measure(store);
    }
}
