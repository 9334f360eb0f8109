/* worker.c - a thread of the pool: takes the next batch of some sink, runs the sink's hooks over it without any lock,
 * and passes judgement. */
#include <stdio.h>
#include <string.h>

#include "../lib/base/error.h"
#include "engine.h"

/* What a worker has in its hands. */
struct job {
    struct runner *self;
    struct delivery *d;
    struct sink *sink;
    struct slot *slot;
    struct batch *batch; /* NULL: none, what was left open is closed */
    struct bench *bench;
    bool was_overdue;                 /* the hook that ended last */
    uint64_t took_ns;                 /* the sink, over the batch */
    struct spool_sink_options limits; /* as they were when the batch was given: they may change meanwhile */
};

/* --------------------------------------------------------------------------------------------------- taking a batch */

/* A free state, best one that is open already; closing has no choice. There is one, since a slot was granted. */
static struct slot *free_slot(struct sink *sink, const struct batch *batch)
{
    if (batch->kind == BATCH_CLOSE)
        return &sink->slots[batch->slot];
    struct slot *best = NULL;
    for (uint32_t i = 0; i < sink->options.workers; i++) {
        struct slot *slot = &sink->slots[i];
        if (!slot->busy && (!best || (slot->open && !best->open)))
            best = slot;
    }
    return best;
}

/* The batch that the scheduler grants next. When there is another one, another worker is called for it. */
static bool pick(struct job *job)
{
    struct delivery *d = job->d;
    struct op_task *task = op_core_grant(d->core, mono_ns());
    if (!task)
        return false;
    struct sink *sink = batch_of(task)->sink;
    job->batch = sink_begin(d, sink);
    job->slot = free_slot(sink, job->batch);
    job->slot->busy = true;
    job->sink = job->self->at = sink;
    atomic_fetch_add(&sink->refs, 1);
    if (op_core_has_next(d->core, mono_ns()))
        pthread_cond_signal(&d->work);
    return true;
}

/* ------------------------------------------------------------------------------------------------------ around hooks
 */

/* From now until hook_ends() the hook may be cancelled. Both with the lock held; between them it is not. */
static void hook_begins(struct job *job)
{
    struct delivery *d = job->d;
    job->slot->since_ns = mono_ns();
    job->slot->cancel_sent = false;
    delivery_sink_set_progress(job->sink->given, job->sink->acked);
    if (job->slot->since_ns + job->sink->options.timeout_ms * NS_PER_MS < d->cancel_until_ns ||
        job->sink->cancel_at_ns > 0)
        pthread_cond_signal(&d->cancel);
    pthread_mutex_unlock(d->lock);
    scheduler_set_current(job->batch ? &job->batch->task : NULL);
}

/* What a sink that was given up has to say is not heard: nobody may be there any more. */
static void tell_note(struct job *job)
{
    char note[REASON_MAX + 1];
    enum spool_notice_kind kind = delivery_sink_take_note(note);
    if (!*note || job->self->abandoned)
        return;
    pthread_mutex_unlock(job->d->lock);
    notify(&job->d->reporter, kind, job->sink->name, NULL, 0, "%s", note);
    pthread_mutex_lock(job->d->lock);
}

static void hook_ends(struct job *job)
{
    scheduler_set_current(NULL);
    pthread_mutex_lock(job->d->lock);
    job->slot->since_ns = 0;
    job->was_overdue = job->slot->overdue;
    job->slot->overdue = false;
    tell_note(job);
}

static void close_state(struct job *job)
{
    struct slot *slot = job->slot;
    while (slot->cancelling > 0)
        cond_wait_until(&job->d->idle, job->d->lock, DEADLINE_NEVER);
    if (!slot->open)
        return;
    slot->open = false; /* cancel is not called from here on */
    if (job->sink->hooks.close) {
        hook_begins(job);
        job->sink->hooks.close(slot->state);
        hook_ends(job);
    }
    slot->state = NULL;
}

/* What the sink said, or the code's text. */
static void describe(char text[REASON_MAX + 1], const char *what, int code)
{
    const char *message = delivery_sink_message();
    if (*message && (code == SPOOL_EUNAVAILABLE || code == SPOOL_ECONFIG))
        snprintf(text, REASON_MAX + 1, "%s", message);
    else
        snprintf(text, REASON_MAX + 1, "%s: %s%s%s", what, spool_error_name(code), *message ? ": " : "", message);
}

/* The sink as a whole failed. One that was told to be overdue is known to have. */
static void failed(struct job *job, const char *reason)
{
    if (job->was_overdue)
        sink_error(job->sink, reason);
    else
        outage_failed(job->d, job->sink, reason);
}

/* ------------------------------------------------------------------------------------------------------------ open */

static void open_failed(struct job *job, int code)
{
    char reason[REASON_MAX + 1];
    describe(reason, "open", code);
    if (code != SPOOL_ECONFIG && code != SPOOL_EINVAL) {
        failed(job, reason);
        return;
    }
    job->sink->failed = true;
    sink_error(job->sink, reason);
    sink_take_back_ready(job->d, job->sink);
    pthread_mutex_unlock(job->d->lock);
    notify(&job->d->reporter, SPOOL_NOTICE_SINK_DOWN, job->sink->name, NULL, 0, "refused its configuration: %s",
           reason);
    pthread_mutex_lock(job->d->lock);
}

/* False: the sink could not be opened, or nobody waits for this thread any more. */
static bool open_state(struct job *job)
{
    struct sink *sink = job->sink;
    struct slot *slot = job->slot;
    if (slot->open)
        return true;
    void *state = sink->options.user;
    int code = SPOOL_OK;
    if (sink->hooks.open) {
        hook_begins(job);
        spool_sink_error(SPOOL_OK, "%s", "");
        code = sink->hooks.open(&state, sink->options.user, sink->config, sink->checkpoint, sink->checkpoint_size);
        hook_ends(job);
    }
    if (code == SPOOL_OK) {
        slot->state = state;
        slot->open = true;
        sink->checkpointed_ns = mono_ns();
    } else if (!job->self->abandoned)
        open_failed(job, code);
    return slot->open && !job->self->abandoned;
}

/* ------------------------------------------------------------------------------------------------------- checkpoint */

static void checkpoint_failed(struct job *job)
{
    char reason[REASON_MAX + 1];
    const char *message = delivery_sink_message();
    snprintf(reason, sizeof reason, "checkpoint failed%s%s", *message ? ": " : "", message);
    job->sink->reload = true; /* what was answered since the last one is delivered again, after it is opened anew */
    failed(job, reason);
}

/* Takes a checkpoint, without which the answers of such a sink are worth nothing. */
static void checkpoint(struct job *job)
{
    struct sink *sink = job->sink;
    if (!sink->hooks.checkpoint || !sink->open.any || !job->slot->open || sink->reload)
        return;
    sink->first_upto = sink->first_upto ? sink->first_upto : sink->given;
    uint8_t bytes[SPOOL_CHECKPOINT_MAX];
    hook_begins(job);
    spool_sink_error(SPOOL_OK, "%s", "");
    size_t size = sink->hooks.checkpoint(job->slot->state, bytes, sizeof bytes);
    hook_ends(job);
    if (job->self->abandoned)
        return;
    if (size > sizeof bytes) {
        checkpoint_failed(job);
        return;
    }
    sink->checkpointed_ns = mono_ns();
    memcpy(sink->open.checkpoint, bytes, size);
    sink->open.checkpoint_size = size;
    sink_promote(job->d, sink);
}

static bool checkpoint_is_due(const struct sink *sink)
{
    return sink->ready_count == 0 || mono_ns() - sink->checkpointed_ns >= CHECKPOINT_INTERVAL_MS * NS_PER_MS;
}

/* ---------------------------------------------------------------------------------------------------------- deliver */

/* The batch did not reach the sink: all of it goes back. */
static void take_back(struct job *job)
{
    sink_take_back(job->d, job->sink, job->batch);
    job->batch->bytes = job->batch->wanted = job->batch->count = 0; /* counted off */
}

/* A sink with checkpoints that has none yet gives one before its first event, and gets no event until that is stored:
 * so a sink that is opened without a checkpoint knows that nothing it may find over there is its own. */
static bool checkpoint_first(struct job *job)
{
    struct sink *sink = job->sink;
    if (!sink->hooks.checkpoint || sink->checkpoint_size > 0 || sink->first_upto > 0)
        return false;
    sink->open.any = true;
    sink->open.upto = ++sink->given;
    checkpoint(job);
    sink_take_back_ready(job->d, sink);
    return true;
}

/* Unpacks the batch, without the lock. False: no memory, and it was taken back. */
static bool load(struct job *job)
{
    struct delivery *d = job->d;
    pthread_mutex_unlock(d->lock);
    job->bench->filter = job->sink->filter;
    int code = bench_load(job->bench, job->batch, job->sink->options.order, hlc_expiry_ns(d->clock));
    pthread_mutex_lock(d->lock);
    if (code == SPOOL_OK)
        return true;
    take_back(job);
    outage_failed(d, job->sink, err_last());
    return false;
}

/* What the sink gets in hand, and that it has nothing any more. The file may be gone from under a worker that was given
 * up, but not what it holds. Without the lock. */
static void mark(const struct job *job, bool in_hand)
{
    struct store_mark m = {.lane = job->batch->lane, .count = (uint32_t)job->bench->open};
    uint32_t slot = (uint32_t)(job->slot - job->sink->slots);
    uint64_t seqs[STORE_MARK_ROWS_MAX];
    const struct bench *bench = job->bench;
    if (!in_hand || bench->open == 0) {
        store_hand_mark(job->sink->hand, slot, NULL);
        return;
    }
    bool scattered = job->batch->kind == BATCH_RETRY || job->batch->span_count > 1;
    for (size_t i = 0; scattered && i < bench->open && i < STORE_MARK_ROWS_MAX; i++)
        seqs[i] = bench->items[bench->item_of[i]].seq;
    if (scattered && bench->open <= STORE_MARK_ROWS_MAX) {
        m.seqs = seqs;
    } else { /* with some between them, perhaps, that are over or somebody else's */
        m.first = bench->items[bench->item_of[0]].seq;
        m.count = (uint32_t)(bench->items[bench->item_of[bench->open - 1]].seq - m.first + 1);
    }
    store_hand_mark(job->sink->hand, slot, &m);
}

static void settle(struct job *job, int code, const char *reason)
{
    struct delivery *d = job->d;
    struct sink *sink = job->sink;
    pthread_mutex_unlock(d->lock);
    mark(job, false);
    uint64_t now_ns = hlc_physical_ns(d->clock);
    judge_decide(&job->limits, job->bench, hlc_expiry_ns(d->clock));
    judge_tell(d, sink, job->bench);
    pthread_mutex_lock(d->lock);
    judge_apply(job->d, sink, job->batch, job->bench, now_ns);
    suspects_clear(sink, job->batch, job->bench);
    metrics_count(sink, job->batch, job->bench, now_ns, job->took_ns);
    if (code == SPOOL_OK && job->bench->open > 0)
        outage_worked(d, sink, (uint32_t)job->bench->open);
    else if (code == SPOOL_ECONFIG)
        outage_needs_operator(d, sink, reason);
    else if (code != SPOOL_OK)
        failed(job, reason);
    if (sink->hooks.checkpoint && checkpoint_is_due(sink))
        checkpoint(job);
}

/* Between two calls of the sink for one batch: each has its own timeout, and there are no more of them once the sink is
 * stopped, dropped or given up. */
static bool goes_on(void *user)
{
    struct job *job = user;
    hook_ends(job);
    bool on = !job->self->abandoned && !job->sink->paused && sink_is_wanted(job->d, job->sink);
    if (on)
        hook_begins(job);
    else
        pthread_mutex_unlock(job->d->lock);
    return on;
}

/* The sink was found down since the batch was cut: it waits, or gets smaller ones. What its filter stops does not count: it
 * would be cut again as it is, for ever. */
static bool is_overtaken(const struct job *job)
{
    const struct breaker *b = &job->sink->breaker;
    return !breaker_allows(b, mono_ns()) || job->batch->wanted > b->limit;
}

static void deliver(struct job *job)
{
    struct sink *sink = job->sink;
    bool open = open_state(job); /* which may have taken long */
    if (!open || sink->reload || sink->paused || is_overtaken(job) || !sink_is_wanted(job->d, sink) ||
        checkpoint_first(job)) {
        if (!job->self->abandoned)
            take_back(job);
        return;
    }
    if (!load(job))
        return;
    job->limits = sink->options;
    judge_park(sink, job->bench);
    suspects_condemn(sink, job->batch, job->bench);
    hook_begins(job);
    bench_lay_out(job->bench);
    mark(job, true);
    uint64_t began_ns = mono_ns();
    int code = bench_deliver(job->bench, &sink->hooks, job->slot->state, goes_on, job);
    job->took_ns = mono_ns() - began_ns;
    char reason[REASON_MAX + 1] = "";
    if (code != SPOOL_OK)
        describe(reason, "deliver", code);
    hook_ends(job);
    if (!job->self->abandoned)
        settle(job, code, reason);
}

/* -------------------------------------------------------------------------------------------------------- the rounds
 */

/* States of a sink that was given up, and that no thread is in: nobody else is there to close them. */
static void close_rest(struct job *job)
{
    for (uint32_t i = 0; i < job->sink->options.workers; i++) {
        job->slot = &job->sink->slots[i];
        if (job->slot->open && !job->slot->busy)
            close_state(job);
    }
}

/* When the last thread of a sink that was given up is back, the sink may be served again, here or elsewhere. */
static void leave_hung(struct job *job)
{
    struct delivery *d = job->d;
    struct sink *sink = job->sink;
    if (sink->running == 1)
        close_rest(job);
    sink_left(d, sink);
    if (sink->running > 0)
        return;
    sink->hung = false;
    sink->reload = true;
    if (!d->running && d->store) { /* under the lock, against delivery_free(): a rare and short call */
        store_sink_release(d->store, sink->name);
        sink->elected = sink->loaded = false;
    }
    pthread_cond_broadcast(&d->idle);
}

/* This thread's sink hung and was given up. Its answer is not heard. */
static void come_back_late(struct job *job)
{
    struct delivery *d = job->d;
    close_state(job);
    job->slot->busy = false;
    sink_end(d, job->sink, job->batch);
    leave_hung(job);
    if (op_core_has_next(d->core, mono_ns()))
        pthread_cond_signal(&d->work); /* this thread ends */
}

static void put_down(struct job *job)
{
    struct delivery *d = job->d;
    job->slot->busy = false;
    sink_end(d, job->sink, job->batch);
    sink_left(d, job->sink); /* and this thread looks for the next one */
    pthread_cond_broadcast(&d->idle);
}

static void run(struct job *job)
{
    if (job->batch->kind == BATCH_LOG || job->batch->kind == BATCH_RETRY)
        deliver(job);
    else
        checkpoint(job);
    if (job->batch->kind == BATCH_CLOSE && !job->self->abandoned)
        close_state(job);
    if (job->self->abandoned)
        come_back_late(job);
    else
        put_down(job);
    batch_put(job->d, job->batch);
    job->self->at = NULL;
    struct sink *sink = job->sink;
    dispatcher_wake(job->d);
    sink_unref(sink);
}

/* A stop had no time for the states of some sinks (left_open.c). No batch is at work then, and no task. */
static void close_left_open(struct job *job)
{
    job->batch = NULL; /* the last one is somebody else's by now; there may have been none at all */
    while (job->self->abandoned && (job->sink = sinks_take_left_open(job->d)) != NULL) {
        job->self->at = job->sink;
        leave_hung(job);
        job->self->at = NULL;
        sink_unref(job->sink);
    }
}

void worker_run(struct runner *self)
{
    struct delivery *d = self->delivery;
    struct bench bench = {0};
    struct job job = {.self = self, .d = d, .bench = &bench};
    pthread_mutex_lock(d->lock);
    while (!self->abandoned && !d->exiting) {
        if (pick(&job))
            run(&job);
        else
            cond_wait_until(&d->work, d->lock, DEADLINE_NEVER);
    }
    close_left_open(&job);
    self->exited = true; /* from here on it looks for no more */
    pthread_mutex_unlock(d->lock);
    bench_free(&bench);
}
