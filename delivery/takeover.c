/* takeover.c - the dispatcher becomes the one who serves a sink, reads where it stood, and lets go of it again. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/base/error.h"
#include "engine.h"

static const uint64_t again_interval_ns = 1000 * NS_PER_MS;

void takeover_elect(struct delivery *d, struct sink *sink)
{
    uint32_t control = store_control(d->store);
    if (mono_ns() < sink->elect_again_ns && control == sink->control_seen)
        return;
    sink->control_seen = control;
    sink->elect_again_ns = mono_ns() + again_interval_ns;
    pthread_mutex_unlock(d->lock);
    int code = store_sink_elect(d->store, sink->name);
    struct store_hand *hand = code == SPOOL_OK ? store_sink_hand(d->store, sink->name) : NULL;
    pthread_mutex_lock(d->lock);
    if (code == SPOOL_OK) {
        store_hand_unref(sink->hand);
        sink->hand = hand;
        sink->crash_told = false;
    }
    sink->elected = code == SPOOL_OK;
    sink->elsewhere = code == SPOOL_EBUSY;
    sink->reload = true;
    sink->load_again_ns = 0;
    if (code != SPOOL_OK && code != SPOOL_EBUSY)
        sink_error(sink, err_last());
}

void takeover_release(struct delivery *d, struct sink *sink)
{
    sink->elected = sink->loaded = sink->pause_unstored = sink->states_stale = sink->catching_up = false;
    pthread_mutex_unlock(d->lock);
    store_sink_release(d->store, sink->name);
    pthread_mutex_lock(d->lock);
    sink->elect_again_ns = 0;
    pthread_cond_broadcast(&d->idle);
}

void takeover_pause(struct delivery *d, struct sink *sink)
{
    if (mono_ns() < sink->pause_again_ns)
        return;
    char reason[REASON_MAX + 1];
    memcpy(reason, sink->paused_reason, sizeof reason);
    sink->pause_again_ns = mono_ns() + again_interval_ns;
    pthread_mutex_unlock(d->lock);
    int code = store_sink_pause_for(d->store, sink->name, reason);
    pthread_mutex_lock(d->lock);
    if (code == SPOOL_OK || code == SPOOL_ENOTFOUND)
        sink->pause_unstored = false;
}

/* -------------------------------------------------------------------------------------------------------- loading */

/* When a stored row is due, on our monotonic clock. On disk stands the wall clock's time of whoever had the row before.
 * A clock that was set back since (it is behind the ids that it made), or that differs by more than a day from his,
 * says nothing of how long was to be waited: then at once, at the price of an attempt that may come too early. */
static uint64_t due_here(struct delivery *d, uint64_t due_ns)
{
    static const uint64_t behind_max_ns = 5000 * NS_PER_MS; /* stamps are promised up to a second ahead */
    static const uint64_t wait_max_ns = 24 * 3600 * 1000 * NS_PER_MS;
    struct spool_id stamp;
    uint64_t wall_ns = hlc_physical_ns(d->clock), now_ns = mono_ns();
    hlc_now(d->clock, &stamp);
    bool set_back = spool_id_time_ns(&stamp) > wall_ns + behind_max_ns;
    if (due_ns <= wall_ns || set_back || due_ns - wall_ns > wait_max_ns)
        return now_ns;
    return now_ns + (due_ns - wall_ns);
}

static const uint64_t let_go_ns = 500 * NS_PER_MS;

/* The sink is not registered any more, or somebody wants it removed: it is let go of, with what it has answered, and then
 * forgotten here. */
static void let_go(struct delivery *d, struct sink *sink, const char *why)
{
    if (sink->dropping)
        return;
    sink_error(sink, why);
    sink->dropping = true;
    sink->cancel_at_ns = mono_ns() + let_go_ns; /* its events are nobody's any more: nothing is worth waiting for */
    pthread_cond_signal(&d->cancel);
}

struct pause {
    bool paused;
    char reason[REASON_MAX + 1];
};

/* One that is resumed is tried at once. */
static void take_pause(struct sink *sink, const struct pause *pause)
{
    if (sink->paused && !pause->paused)
        breaker_hurry(&sink->breaker, mono_ns());
    sink->paused = pause->paused;
    memcpy(sink->paused_reason, pause->reason, sizeof sink->paused_reason);
}

struct loading {
    struct delivery *d;
    struct retry_index *rows;
    struct window *windows; /* NULL: rows alone */
};

/* Adds a stored row that is not known in memory: all of them at the first look, later those of dead letters put back.
 */
static int add_row(void *user, const struct store_retry *stored)
{
    const struct loading *loading = user;
    struct retry_row row = {
        .lane = stored->lane,
        .seq = stored->seq,
        .id = stored->id,
        .attempts = stored->attempts,
        .first_ns = stored->first_ns,
        .due_ns = due_here(loading->d, stored->due_ns),
        .size = stored->size,
        .key = stored->key_hash,
        .stored = true,
    };
    int code = retry_add(loading->rows, &row, NULL);
    return code == SPOOL_EEXISTS ? SPOOL_OK : code;
}

/* What was in memory is void: nothing runs, nothing is being acknowledged. */
static void forget(struct delivery *d, struct sink *sink)
{
    sink_take_back_ready(d, sink);
    answers_clear(&sink->open);
    answers_clear(&sink->ready);
    answers_clear(&sink->sending);
    sink->acked = sink->given;
    sink->first_upto = 0;
    retry_free(&sink->retries);
    sink->loaded = false;
}

static int take_stored(struct sink *sink, const struct store_sink *stored)
{
    sink->id = stored->id;
    sink->generation = stored->generation;
    sink->serial = stored->serial;
    for (int lane = 0; lane < LANES; lane++)
        if (window_load(&sink->windows[lane], stored->cursor[lane], stored->ranges[lane], stored->range_count[lane]))
            return err_errno(ENOMEM, "sink %s", sink->name);
    return SPOOL_OK;
}

/* A row stands for its event, which is over for the log: also if its range could not be stored, or was lost to damage. */
static int load_row(void *user, const struct store_retry *stored)
{
    const struct loading *loading = user;
    int code = add_row(user, stored);
    if (stored->seq >= SEQ_DETACHED)
        return code; /* it has no place in the log */
    return code ? code : window_finish(&loading->windows[stored->lane], stored->seq, stored->seq + 1);
}

/* Without the lock; what it writes is nobody else's while the sink is not loaded. */
/* *ret_pause: whether it is paused, and why. */
static int read_progress(struct delivery *d, struct sink *sink, struct pause *ret_pause)
{
    struct store_sink *stored = malloc(sizeof *stored); /* 8 KiB of ranges: too much for some stacks */
    if (!stored)
        return err_errno(ENOMEM, "sink %s", sink->name);
    int code = store_sink_get(d->store, sink->name, stored);
    if (code == SPOOL_OK && stored->removing)
        code = err_set(SPOOL_ENOTFOUND, "sink %s is to be removed", sink->name);
    if (code == SPOOL_OK) {
        ret_pause->paused = stored->paused;
        memcpy(ret_pause->reason, stored->paused_reason, sizeof ret_pause->reason);
        code = take_stored(sink, stored);
    }
    if (code == SPOOL_OK)
        code = store_checkpoint(d->store, sink->id, sink->checkpoint, sizeof sink->checkpoint, &sink->checkpoint_size);
    struct loading loading = {.d = d, .rows = &sink->retries, .windows = sink->windows};
    if (code == SPOOL_OK)
        code = store_retry_each(d->store, sink->id, load_row, &loading);
    if (code == SPOOL_OK)
        code = suspects_load(sink, sink->hand);
    sink->suspects_upto = 0;
    free(stored);
    return code;
}

/* Once for each election. */
static void tell_crash(struct delivery *d, struct sink *sink)
{
    uint64_t events = suspects_fresh(sink);
    if (events == 0 || sink->crash_told)
        return;
    sink->crash_told = true;
    pthread_mutex_unlock(d->lock);
    notify(&d->reporter, SPOOL_NOTICE_CRASHED, sink->name, NULL, events,
           "a process died with %llu event(s) in the sink's hands; they are delivered one by one",
           (unsigned long long)events);
    pthread_mutex_lock(d->lock);
}

void takeover_load(struct delivery *d, struct sink *sink)
{
    if (sink->store_busy || sink->running > 0 || mono_ns() < sink->load_again_ns)
        return;
    forget(d, sink);
    sink->control_seen = store_control(d->store);
    sink->store_busy = true;
    struct pause pause = {.paused = sink->paused};
    memcpy(pause.reason, sink->paused_reason, sizeof pause.reason);
    struct change change;
    pthread_mutex_unlock(d->lock);
    int code = read_progress(d, sink, &pause);
    change_look(d, sink, &change);
    pthread_mutex_lock(d->lock);
    change_apply(sink, &change);
    sink->store_busy = false;
    if (!sink->pause_unstored)
        take_pause(sink, &pause);
    sink->loaded = code == SPOOL_OK;
    sink->reload = code != SPOOL_OK;
    pthread_cond_broadcast(&d->idle);
    if (code == SPOOL_OK) {
        tell_crash(d, sink);
        return;
    }
    if (code == SPOOL_ENOTFOUND)
        let_go(d, sink, "was removed");
    else
        sink_error(sink, err_last());
    sink->load_again_ns = mono_ns() + again_interval_ns;
}

/* ------------------------------------------------------------------------------------------- changes from outside */

/* What the store says now: read without the lock into memory of our own, then compared with what we have. */
struct outside {
    struct change change;
    struct store_sink sink;
    struct retry_index rows;
};

static int look_outside(struct delivery *d, const struct sink *sink, struct outside *now)
{
    struct loading loading = {.d = d, .rows = &now->rows};
    int code = store_sink_get(d->store, sink->name, &now->sink);
    if (code == SPOOL_OK && now->sink.retry_rows > 0)
        code = store_retry_each(d->store, now->sink.id, add_row, &loading);
    if (code == SPOOL_OK)
        change_look(d, sink, &now->change);
    return code;
}

/* Dead letters put back are rows that we do not know. No acknowledgement is under way (store_busy), and rows that we
 * are finished with are known until theirs is on disk. */
static int merge_rows(struct sink *sink, const struct retry_index *stored)
{
    for (size_t i = 0; i < stored->buckets; i++)
        for (const struct retry_row *row = stored->table[i]; row; row = row->next)
            if (retry_add(&sink->retries, row, NULL) == ENOMEM)
                return ENOMEM;
    return SPOOL_OK;
}

static void apply_outside(struct delivery *d, struct sink *sink, int code, const struct outside *now)
{
    if (code == SPOOL_OK && now->sink.removing && now->sink.generation == sink->generation) {
        let_go(d, sink, "is being removed"); /* what it has answered is stored first */
        return;
    }
    if (code == SPOOL_ENOTFOUND || (code == SPOOL_OK && now->sink.generation != sink->generation)) {
        sink->reload = true;
        return;
    }
    change_apply(sink, &now->change);
    if (code == SPOOL_OK)
        code = merge_rows(sink, &now->rows);
    if (code != SPOOL_OK)
        sink_error(sink, err_last());
    else if (!sink->pause_unstored) {
        struct pause pause = {.paused = now->sink.paused};
        memcpy(pause.reason, now->sink.paused_reason, sizeof pause.reason);
        take_pause(sink, &pause);
    }
}

void takeover_refresh(struct delivery *d, struct sink *sink)
{
    uint32_t control = store_control(d->store);
    if (control == sink->control_seen || sink->store_busy)
        return;
    struct outside *now = calloc(1, sizeof *now); /* 8 KiB of ranges: too much for some stacks */
    if (!now)
        return;
    sink->store_busy = true;
    pthread_mutex_unlock(d->lock);
    int code = look_outside(d, sink, now);
    pthread_mutex_lock(d->lock);
    sink->store_busy = false;
    apply_outside(d, sink, code, now);
    if (code == SPOOL_OK || code == SPOOL_ENOTFOUND)
        sink->control_seen = control;
    if (sink->paused || sink->reload)
        sink_take_back_ready(d, sink);
    pthread_cond_signal(&d->ack); /* it may have passed this sink over */
    retry_free(&now->rows);
    free(now);
}
