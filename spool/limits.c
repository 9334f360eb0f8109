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

/* The order of the two loads matters: the growth is at least what it was when the other was measured. It may wrap below 0
 * in between, which the sum makes good. */
uint64_t limits_used_bytes(const struct store *store)
{
    uint64_t measured = atomic_load(&store->measured_bytes);
    return measured + log_grown_bytes(store->log);
}

bool limits_allow(const struct store *store, int lane, uint64_t bytes)
{
    enum { OVERHEAD_SHIFT = 5 }; /* blocks, pages and segments: about 3 % more than packed events at most */
    uint64_t waiting = bytes;
    if (store->ring)
        waiting += journal_head(store->ring->journal) - journal_applied(store->ring->journal);
    waiting += waiting >> OVERHEAD_SHIFT;
    return limits_used_bytes(store) + waiting <= store->limit_bytes[lane];
}

bool limits_are_tight(const struct store *store)
{
    return limits_used_bytes(store) > store->options.max_bytes / 4 * 3;
}

bool limits_is_full(int code)
{
    return code == ENOSPC || code == EDQUOT || code == EFBIG || code == SPOOL_EFULL;
}

bool limits_disk_is_full(const struct store *store)
{
    return limits_is_full(store->commit_error);
}

/* ---------------------------------------------------------------------------------------------- what is delivered */

static void oldest_to_keep(struct store *store, struct spool_id *ret)
{
    memset(ret, 0, sizeof *ret);
    uint64_t retention_ns = store->options.retention_ms * NS_PER_MS, now = hlc_expiry_ns(store->clock);
    if (retention_ns && !limits_are_tight(store))
        id_min_at_ns(now > retention_ns ? now - retention_ns : 0, ret);
}

static int delete_below(struct store *store, const uint64_t cursor[LANES], const struct spool_id *keep_from,
                        uint64_t *ret_deleted)
{
    int code = state_settle(store->state, lock_slice());
    return code ? code : log_delete(store->log, cursor, keep_from, lock_slice(), ret_deleted);
}

static void delete_delivered(struct store *store, const uint64_t cursor[LANES])
{
    struct spool_id keep_from;
    oldest_to_keep(store, &keep_from);
    uint64_t deleted = 0;
    int code = delete_below(store, cursor, &keep_from, &deleted);
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

/* Moves the cursors over the oldest segment, counts, deletes it and says so: unless a peer was faster. */
static int drop_segment(struct store *store, const uint64_t first[LANES], const uint64_t next[LANES])
{
    uint64_t dropped = 0, deleted = 0;
    struct spool_id keep_nothing = {0};
    int code = state_drop_below(store->state, first, next, lock_slice(), &dropped);
    if (!code)
        code = delete_below(store, next, &keep_nothing, &deleted);
    if (code || (!dropped && !deleted))
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
        code = drop_segment(store, first, next);
    if (code && code != SPOOL_ETIMEOUT && code != SPOOL_ENOTFOUND)
        report(&store->options.reporter, SPOOL_LOG_WARNING, "dropping the oldest segment: %s", err_last());
}

static bool take_drop_wish(struct store *store)
{
    bool wanted = false;
    pthread_mutex_lock(&store->append_mutex);
    for (int lane = 0; lane < LANES; lane++) {
        /* Still too full now? What was deleted meanwhile may have been enough. */
        wanted |=
            store->want_drop[lane] && (!limits_allow(store, lane, store->frame_max) || limits_disk_is_full(store));
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
        keeper_measure(store);
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
