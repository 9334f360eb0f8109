/* append.c - the producer's side: admission, the journal record, and waiting for it to be as safe as asked.
 *
 * The hot path is: lock, two comparisons, stamp and copy into the ring, publish, unlock. Everything else (room, limits, a
 * failed disk) is off it. When the disk fails a flush, the record is still in memory: the committer then checks and commits
 * it to a segment, and that outcome is the answer; only if that fails too is it SPOOL_EUNCERTAIN. */
#include "store_inside.h"

struct frame {
    const struct spool_event *events;
    const struct event_measure *measures;
    size_t n, bytes;
    int lane; /* the least important one: it meets the limit first */
};

static const struct spool_event *event_at(const struct frame *frame, size_t i)
{
    return (const struct spool_event *)((const char *)frame->events + i * frame->events[0].size);
}

static int measure_frame(struct store *store, struct frame *frame)
{
    frame->lane = LANE_CRITICAL;
    for (size_t i = 0; i < frame->n; i++) {
        int lane = lane_of(event_at(frame, i)->priority);
        frame->lane = lane > frame->lane ? lane : frame->lane;
        frame->bytes += frame->measures[i].packed_size;
    }
    if (frame->bytes <= store->frame_max)
        return SPOOL_OK;
    return err_set(SPOOL_ETOOBIG,
                   "%zu bytes in %zu event(s), but at most %zu are taken at once: raise journal_bytes and "
                   "segment_bytes, or send less",
                   frame->bytes, frame->n, store->frame_max);
}

/* ------------------------------------------------------------------------------------------- admission (slow path) */

/* append_mutex held. A spool that opened on a full disk has no journal: ask again, at most once a second. */
static int make_ring(struct store *store)
{
    uint64_t now = mono_ns();
    if (store->ring_tried_ns && now - store->ring_tried_ns < 1000 * NS_PER_MS)
        return err_set(SPOOL_EFULL, "%s: no journal could be made; the disk is full or not writable", store->dir.path);
    store->ring_tried_ns = now;
    struct journal *journal;
    struct ring *ring = calloc(1, sizeof *ring);
    struct file_size_signal signal;
    file_size_signal_hold(&signal);
    int code = ring ? recovery_own_journal(store, &journal) : err_errno(ENOMEM, "journal");
    file_size_signal_release(&signal);
    if (code) {
        free(ring);
        return err_prefix(SPOOL_EFULL, "%s: no journal can be made", store->dir.path);
    }
    ring->journal = journal;
    store->ring = ring;
    committer_kick(store);
    return SPOOL_OK;
}

/* Why the frame must wait or go; the message says so. append_mutex held. */
static int refusal(struct store *store, const struct frame *frame)
{
    if (!limits_allow(store, frame->lane, frame->bytes))
        return err_set(SPOOL_EFULL,
                       "%s: %llu of %llu bytes are used, the limit of priority %s is %llu: wait for delivery, "
                       "add a sink, or raise max_bytes",
                       store->dir.path, (unsigned long long)limits_used_bytes(store),
                       (unsigned long long)store->options.max_bytes, lane_name(frame->lane),
                       (unsigned long long)store->limit_bytes[frame->lane]);
    if (store->commit_error)
        return err_set(SPOOL_EFULL, "%s: the journal is full and cannot be emptied: %s", store->dir.path,
                       store->commit_message);
    return err_set(SPOOL_EFULL, "%s: the journal is full: the disk does not keep up", store->dir.path);
}

/* Tells the keeper what is wanted; returns what the policy says to do meanwhile. append_mutex held. */
static enum spool_full_policy ask_for_room(struct store *store, const struct frame *frame)
{
    bool limit = !limits_allow(store, frame->lane, frame->bytes);
    if (!limit && !store->commit_error && store->ring)
        return SPOOL_FULL_BLOCK; /* the ring is full for a moment: back-pressure, not a full spool */
    enum spool_full_policy policy = store->options.full_policy[frame->lane];
    store->want_room = true;
    /* Dropping makes room; against another failure of the commit it does not help. */
    store->want_drop[frame->lane] |= policy == SPOOL_FULL_DROP_OLDEST && (limit || limits_disk_is_full(store));
    wake_bump(store->wake, false);
    return policy;
}

static bool has_room(const struct store *store, const struct frame *frame)
{
    const struct journal *journal = store->ring ? store->ring->journal : NULL;
    return journal && !journal_is_failed(journal) && journal_has_room(journal, frame->bytes) &&
           limits_allow(store, frame->lane, frame->bytes);
}

/* Waits a while for something to change. False: not to be waited for, or not any more. append_mutex held, and dropped
 * while waiting. */
static bool wait_a_while(struct store *store, const struct frame *frame, uint64_t deadline)
{
    enum { LOOK_AGAIN_MS = 200 }; /* nobody tells us when another program frees disk */
    if (thread_is_ours() || ask_for_room(store, frame) == SPOOL_FULL_REJECT || mono_ns() >= deadline)
        return false;
    committer_kick(store);
    uint64_t again = deadline_in_ms(LOOK_AGAIN_MS);
    cond_wait_until(&store->room_cond, &store->append_mutex, again < deadline ? again : deadline);
    return true;
}

/* append_mutex held, and dropped while waiting. */
static int wait_for_room(struct store *store, const struct frame *frame)
{
    uint64_t deadline = deadline_in_ms(store->options.full_timeout_ms);
    int code;
    do {
        if (store->stopping)
            return err_set(SPOOL_ESTOPPED, "%s: the spool is being closed", store->dir.path);
        code = store->ring ? SPOOL_OK : make_ring(store);
        if (!code && has_room(store, frame))
            return SPOOL_OK;
    } while (wait_a_while(store, frame, deadline));
    store->rejected_full++;
    return code ? code : refusal(store, frame);
}

/* -------------------------------------------------------------------------------------------------------- the record */

static void pack_frame(struct store *store, const struct frame *frame, uint8_t *dst, struct spool_id *ret_ids)
{
    for (size_t i = 0; i < frame->n; i++) {
        const struct spool_event *event = event_at(frame, i);
        struct spool_id id;
        if (event->id)
            id = *event->id;
        else
            hlc_now(store->clock, &id);
        event_pack(event, &frame->measures[i], &id, dst);
        dst += frame->measures[i].packed_size;
        if (ret_ids)
            ret_ids[i] = id;
    }
}

/* append_mutex held. */
static int write_frame(struct store *store, const struct frame *frame, struct spool_id *ret_ids, uint64_t *ret_end)
{
    struct journal *journal = store->ring->journal;
    uint8_t *dst = journal_reserve(journal, frame->bytes);
    if (!dst)
        return err_set(SPOOL_EINTERNAL, "the journal has room but gives none for %zu bytes", frame->bytes);
    pack_frame(store, frame, dst, ret_ids);
    int code = journal_publish(journal, ret_end);
    if (code)
        return err_prefix(code, "journal %s", journal_name(journal));
    store->enqueued_events += frame->n;
    store->enqueued_bytes += frame->bytes;
    if (*ret_end >= store->commit_at)
        committer_kick(store);
    return SPOOL_OK;
}

/* ---------------------------------------------------------------------------------------------------- power-safe */

/* The flush failed: waits for the committer to commit the record instead. append_mutex held. */
static int wait_for_commit_instead(struct store *store, struct journal *journal, uint64_t end, uint64_t deadline_ns)
{
    uint64_t failures = store->commit_failures;
    uint64_t patience = deadline_in_ms(store->options.full_timeout_ms);
    committer_kick(store);
    while (journal_applied(journal) < end && store->commit_failures == failures) {
        if (cond_wait_until(&store->room_cond, &store->append_mutex, deadline_ns < patience ? deadline_ns : patience))
            break;
    }
    if (journal_applied(journal) >= end)
        return SPOOL_OK; /* or lost: see make_power_safe() */
    if (store->commit_failures == failures && deadline_ns < patience)
        return err_set(SPOOL_ETIMEOUT, "%s: flushing the journal failed, and it was not committed in the time given",
                       store->dir.path);
    return err_set(SPOOL_EUNCERTAIN,
                   "%s: flushing the journal failed and so did committing it (%s): the event may be lost on a "
                   "power failure; enqueue it again under its id",
                   store->dir.path, store->commit_message[0] ? store->commit_message : "no answer in time");
}

static int make_power_safe(struct store *store, struct ring *ring, uint64_t end, uint64_t deadline)
{
    int code = journal_flush(ring->journal, end, deadline);
    if (code && code != SPOOL_ETIMEOUT) {
        pthread_mutex_lock(&store->append_mutex);
        code = wait_for_commit_instead(store, ring->journal, end, deadline);
        pthread_mutex_unlock(&store->append_mutex);
    }
    if (code == SPOOL_OK && journal_has_lost(ring->journal, end))
        return err_set(SPOOL_EUNCERTAIN,
                       "%s: flushing the journal failed, and not all that was in it could be saved: the event "
                       "may be lost; enqueue it again under its id",
                       store->dir.path);
    return code;
}

/* What an event follows comes before it: the stamps of its parent, and of a foreign event itself, are merged first. One that
 * is too far ahead is refused, which the clock tells; the event is kept as it is, and spool_merge_next() finds it. */
static void follow_causes(struct store *store, const struct frame *frame)
{
    for (size_t i = 0; i < frame->n; i++) {
        const struct spool_event *event = event_at(frame, i);
        if (event->id && id_is_valid(event->id))
            hlc_update(store->clock, event->id);
        if (event->parent && id_is_valid(event->parent))
            hlc_update(store->clock, event->parent);
    }
}

int store_append(struct store *store, const struct spool_event *events, const struct event_measure *measures, size_t n,
                 bool power, struct spool_id *ret_ids)
{
    struct frame frame = {.events = events, .measures = measures, .n = n};
    int code = store->dir.read_only ? err_set(SPOOL_EREADONLY, "%s is open for reading only", store->dir.path)
                                    : measure_frame(store, &frame);
    if (code)
        return code;
    uint64_t end = 0;
    struct ring *ring = NULL;
    follow_causes(store, &frame);
    pthread_mutex_lock(&store->append_mutex);
    if (store->stopping || !has_room(store, &frame))
        code = wait_for_room(store, &frame);
    if (!code)
        code = write_frame(store, &frame, ret_ids, &end);
    if (!code && power) {
        ring = store->ring;
        atomic_fetch_add(&ring->users, 1);
    }
    pthread_mutex_unlock(&store->append_mutex);
    if (ring) {
        code = make_power_safe(store, ring, end, DEADLINE_NEVER);
        atomic_fetch_sub(&ring->users, 1);
    }
    return code;
}

size_t store_frame_max(const struct store *store)
{
    return store->frame_max;
}

/* ------------------------------------------------------------------------------------------------ waiting for all */

int store_flush(struct store *store, uint64_t deadline_ns)
{
    pthread_mutex_lock(&store->append_mutex);
    struct ring *ring = store->ring;
    uint64_t head = ring ? journal_head(ring->journal) : 0;
    if (ring)
        atomic_fetch_add(&ring->users, 1);
    pthread_mutex_unlock(&store->append_mutex);
    if (!ring)
        return SPOOL_OK;
    int code = make_power_safe(store, ring, head, deadline_ns);
    atomic_fetch_sub(&ring->users, 1);
    return code;
}

/* append_mutex held. */
static int wait_applied(struct store *store, const struct journal *journal, uint64_t position, uint64_t deadline_ns)
{
    while (journal_applied(journal) < position) {
        if (store->commit_through < position)
            store->commit_through = position;
        committer_kick(store);
        if (cond_wait_until(&store->room_cond, &store->append_mutex, deadline_ns))
            return err_set(SPOOL_ETIMEOUT, "%s: not committed in time%s%s", store->dir.path,
                           store->commit_error ? ": " : "", store->commit_message);
    }
    return SPOOL_OK;
}

/* The keeper tries again when it is asked for room. append_mutex held. */
static int wait_adopted(struct store *store, uint64_t deadline_ns)
{
    while (atomic_load(&store->unapplied_journals) > 0) {
        store->want_room = true;
        wake_bump(store->wake, false);
        if (cond_wait_until(&store->room_cond, &store->append_mutex, deadline_ns))
            return err_set(SPOOL_ETIMEOUT, "%s: the journal of a process that ended could not be committed yet",
                           store->dir.path);
    }
    return SPOOL_OK;
}

int store_commit(struct store *store, uint64_t deadline_ns)
{
    int code = SPOOL_OK;
    pthread_mutex_lock(&store->append_mutex);
    struct ring *ring = store->ring;
    if (ring) {
        atomic_fetch_add(&ring->users, 1);
        code = wait_applied(store, ring->journal, journal_head(ring->journal), deadline_ns);
        atomic_fetch_sub(&ring->users, 1);
    }
    if (!code)
        code = wait_adopted(store, deadline_ns);
    pthread_mutex_unlock(&store->append_mutex);
    return code;
}
