/* dispatcher.c - one thread that moves every sink one step further whenever something changed, and then waits. */
#include "../lib/base/error.h"
#include "engine.h"

static const uint64_t look_interval_ns = 1000 * NS_PER_MS; /* for elections, and if a wake-up should ever be missing */

/* One look at everything. */
struct pass {
    uint64_t next_seq[LANES];
    uint64_t wait_until_ns;
    bool progress;
};

void dispatcher_wake(struct delivery *d)
{
    pthread_mutex_lock(&d->wake_lock);
    d->wakes++;
    pthread_cond_signal(&d->wake);
    pthread_mutex_unlock(&d->wake_lock);
}

static void wait_at(struct pass *pass, uint64_t at_ns)
{
    if (at_ns < pass->wait_until_ns)
        pass->wait_until_ns = at_ns;
}

/* ------------------------------------------------------------------------------------------------------------ steps */

static bool push_task(struct delivery *d, struct sink *sink, enum batch_kind kind, uint32_t slot)
{
    struct batch *batch = batch_get(d);
    if (!batch)
        return false;
    batch->kind = kind;
    batch->slot = slot;
    sink_push(d, sink, batch);
    return true;
}

/* Backward: batches back, states closed, answers stored, released. */
static void retire(struct delivery *d, struct sink *sink)
{
    if (sink->ready_head && sink->ready_head->kind != BATCH_CLOSE)
        sink_take_back_ready(d, sink);
    if (sink->running > 0 || sink->ready_count > 0 || sink->store_busy)
        return;
    for (uint32_t i = 0; i < sink->options.workers; i++) {
        if (sink->slots[i].open) {
            push_task(d, sink, BATCH_CLOSE, i);
            return;
        }
    }
    sink_promote(d, sink);
    if (sink->pause_unstored)
        takeover_pause(d, sink);
    if (sink_has_answers(sink) && !sink->reload && sink->loaded)
        pthread_cond_signal(&d->ack);
    else {
        publish_last(d, sink);
        takeover_release(d, sink);
    }
}

/* The state belongs to progress that is being forgotten: it must not be used with what is loaded next. */
static void reload(struct delivery *d, struct sink *sink)
{
    if (sink->ready_head && sink->ready_head->kind != BATCH_CLOSE)
        sink_take_back_ready(d, sink);
    for (uint32_t i = 0; i < sink->options.workers && sink->running == 0 && sink->ready_count == 0; i++)
        if (sink->slots[i].open)
            push_task(d, sink, BATCH_CLOSE, i);
    if (sink->running == 0 && sink->ready_count == 0)
        takeover_load(d, sink);
}

/* Before the next batch each worker opens a state anew: what an operator has mended may be read there. */
static void close_states(struct delivery *d, struct sink *sink)
{
    if (sink->ready_head && sink->ready_head->kind != BATCH_CLOSE)
        sink_take_back_ready(d, sink);
    if (sink->running > 0 || sink->ready_count > 0)
        return;
    bool unstored = sink->hooks.checkpoint && sink_has_answers(sink); /* open gets what is stored */
    sink->states_stale = sink_is_open(sink) || unstored;
    for (uint32_t i = 0; i < sink->options.workers; i++)
        if (sink->slots[i].open)
            push_task(d, sink, BATCH_CLOSE, i);
}

static bool may_dispatch(const struct delivery *d, const struct sink *sink)
{
    size_t unacked_rows = answers_rows(&sink->open) + answers_rows(&sink->ready) + answers_rows(&sink->sending);
    size_t unacked_bytes = sink->open.bytes + sink->ready.bytes + sink->sending.bytes;
    bool probing = breaker_is_probing(&sink->breaker);
    uint32_t ahead = probing ? 0 : READY_MAX;
    if (sink->ready_count + sink->running >= sink->options.workers + ahead || sink->ready_count > READY_MAX)
        return false;
    if (probing && sink->ready_count + sink->running > sink_overdue(sink))
        return false; /* the probe is on its way */
    if (sink->suspect_count > 0 && sink->ready_count + sink->running > sink_overdue(sink))
        return false; /* should the process die again, it is known of what */
    if (breaker_room(&sink->breaker, sink->inflight_events) == 0)
        return false;
    if (sink->first_upto > sink->acked)
        return false; /* its first checkpoint is not stored yet */
    if (unacked_rows >= UNACKED_ROWS_MAX || unacked_bytes >= UNACKED_BYTES_MAX)
        return false;
    return sink->inflight_bytes == 0 ||
           (sink->inflight_bytes + sink->options.batch_bytes_max <= sink->options.inflight_bytes_max &&
            d->inflight_bytes + sink->options.batch_bytes_max <= INFLIGHT_BYTES_MAX);
}

/* A sink with checkpoints acknowledges nothing without one; when it has come to rest, this takes it. */
static void checkpoint_when_idle(struct delivery *d, struct sink *sink)
{
    if (sink->hooks.checkpoint && sink->open.any && sink->running == 0 && sink->ready_count == 0) {
        if (sink->slots[0].open)
            push_task(d, sink, BATCH_CHECKPOINT, 0);
        else
            sink_promote(d, sink);
    }
}

/* At most as many batches as can be under way: the lock is left while blocks are read, and a fast sink would take what is
 * cut as it is cut. Then what this look knows of the lanes would be the truth for as long as there is a backlog: a critical
 * event that came meanwhile would wait for all of it, and so would the other sinks. */
static void feed(struct delivery *d, struct sink *sink, struct pass *pass)
{
    uint32_t left = sink->options.workers + READY_MAX;
    suspects_purge(sink);
    suspects_keep(d, sink);
    bool backing_off = !breaker_allows(&sink->breaker, mono_ns());
    if (backing_off)
        wait_at(pass, sink->breaker.until_ns);
    while (left-- > 0 && !backing_off && !sink->paused && !sink->reload && !sink->states_stale &&
           sink_is_wanted(d, sink) && may_dispatch(d, sink) &&
           reader_cut(d, sink, pass->next_seq, &pass->wait_until_ns)) {
        pass->progress = true;
        outage_tried(d, sink);
        backing_off = breaker_is_probing(&sink->breaker);
    }
    checkpoint_when_idle(d, sink);
}

/* A keyed sink that is to stop would lose what it finished beyond more gaps than can be stored: while it works and half
 * of the time is not over, the events of these gaps are delivered first. *ret: up to where, for each lane. */
static bool is_to_catch_up(const struct delivery *d, const struct sink *sink, struct pass *ret)
{
    bool works = sink->elected && sink->loaded && !sink->reload && !sink->paused && !sink->states_stale &&
                 !breaker_is_probing(&sink->breaker) && !d->exiting;
    bool scattered = false;
    for (int lane = 0; lane < LANES; lane++) {
        ret->next_seq[lane] = 0;
        scattered |= reader_is_scattered(sink, lane, &ret->next_seq[lane]);
    }
    return works && scattered && sink_is_keyed(sink) && (sink->cancel_at_ns == 0 || mono_ns() < sink->cancel_at_ns);
}

/* False: there is nothing to catch up with, or no more time. */
static bool catch_up(struct delivery *d, struct sink *sink, struct pass *pass)
{
    struct pass own = *pass;
    sink->catching_up = false;
    bool leaves = !sink_is_wanted(d, sink);
    sink->catching_up = leaves && is_to_catch_up(d, sink, &own);
    if (!sink->catching_up)
        return false;
    feed(d, sink, &own);
    pass->progress |= own.progress;
    wait_at(pass, own.wait_until_ns);
    if (sink->cancel_at_ns > 0)
        wait_at(pass, sink->cancel_at_ns);
    return true;
}

static void serve(struct delivery *d, struct sink *sink, struct pass *pass)
{
    if (sink->hung || catch_up(d, sink, pass))
        return;
    if (!sink_is_wanted(d, sink)) {
        if (sink->elected)
            retire(d, sink);
        return;
    }
    if (sink->failed)
        return;
    if (!sink->elected)
        takeover_elect(d, sink);
    if (sink->elected && sink->pause_unstored)
        takeover_pause(d, sink);
    if (sink->elected && !sink->reload)
        takeover_refresh(d, sink);
    if (sink->elected && sink->states_stale && !sink->reload)
        close_states(d, sink);
    if (sink->elected && sink->reload)
        reload(d, sink);
    if (sink->elected && sink->loaded && !sink->reload)
        overflow_check(d, sink);
    if (sink->elected && sink->loaded && !sink->reload)
        feed(d, sink, pass);
    if (sink->elected && sink->loaded && !sink->reload)
        trim_dead(d, sink);
    sink_tell_overdue(d, sink);
    if (sink->elected)
        publish_when_due(d, sink);
}

/* ------------------------------------------------------------------------------------------------------------- loop */

static void look(struct delivery *d, struct pass *pass)
{
    uint64_t first[LANES];
    if (store_bounds(d->store, first, pass->next_seq) != SPOOL_OK)
        for (int lane = 0; lane < LANES; lane++)
            pass->next_seq[lane] = 0; /* nothing is cut; tried again at the next look */
    pthread_mutex_lock(d->lock);
    for (struct sink **link = &d->sinks;
         *link;) { /* only this thread unlinks, so that the list holds while it serves */
        struct sink *sink = *link;
        serve(d, sink, pass);
        if (sink_unlink_dropped(d, link))
            continue;
        link = &sink->next;
    }
    pthread_mutex_unlock(d->lock);
}

static uint64_t wakes_seen(struct delivery *d)
{
    pthread_mutex_lock(&d->wake_lock);
    uint64_t wakes = d->wakes;
    pthread_mutex_unlock(&d->wake_lock);
    return wakes;
}

static void wait_for_wake(struct delivery *d, uint64_t seen, uint64_t until_ns)
{
    pthread_mutex_lock(&d->wake_lock);
    while (d->wakes == seen && cond_wait_until(&d->wake, &d->wake_lock, until_ns) == 0) {
    }
    pthread_mutex_unlock(&d->wake_lock);
}

static bool is_over(struct delivery *d)
{
    pthread_mutex_lock(d->lock);
    bool over = d->exiting;
    pthread_mutex_unlock(d->lock);
    return over;
}

void dispatcher_run(struct runner *self)
{
    struct delivery *d = self->delivery;
    for (;;) {
        uint64_t seen = wakes_seen(d); /* first of all, so that a wake-up that tells of the end is not taken for seen */
        if (is_over(d))
            break;
        struct pass pass = {.wait_until_ns = mono_ns() + look_interval_ns};
        look(d, &pass);
        if (!pass.progress)
            wait_for_wake(d, seen, pass.wait_until_ns);
    }
    block_cache_clear(&d->cache);
}
