/* acker.c - one thread that makes answers durable: of all sinks, one call each per round, a round every 20 ms at most.
 * An acknowledgement costs a disk flush; losing one only means delivering again, so it may wait a little. What the
 * store refuses is kept and sent again. */
#include <stdlib.h>
#include <string.h>

#include "../lib/base/error.h"
#include "engine.h"

static const uint64_t ack_timeout_ns = 1000 * NS_PER_MS;
static const uint64_t ack_again_ns = 200 * NS_PER_MS;

/* Its rows are on disk now. */
static void note_stored(struct sink *sink, int lane, uint64_t seq)
{
    struct retry_row *row = retry_find(&sink->retries, lane, seq);
    if (row)
        retry_stored(&sink->retries, row);
}

static void acked(struct delivery *d, struct sink *sink)
{
    struct answers *a = &sink->sending;
    for (size_t i = 0; i < a->retry_count; i++)
        note_stored(sink, a->retries[i].row.lane, a->retries[i].row.seq);
    for (size_t i = 0; i < a->done_count; i++)
        note_stored(sink, a->done[i].lane, a->done[i].seq);
    for (size_t i = 0; i < a->dead_count; i++)
        note_stored(sink, a->dead[i].row.lane, a->dead[i].row.seq);
    if (a->upto > sink->acked)
        sink->acked = a->upto;
    if (a->checkpoint_size > 0) { /* for the next open; none runs while one of its checkpoints is being stored */
        memcpy(sink->checkpoint, a->checkpoint, a->checkpoint_size);
        sink->checkpoint_size = a->checkpoint_size;
    }
    answers_clear(a);
    pthread_cond_broadcast(&d->idle);
}

/* Takes what is ready in hand. The structs change places, which needs no memory. */
static bool take_ready(struct delivery *d, struct sink *sink)
{
    if (sink->store_busy || sink->reload || !sink->loaded)
        return false;
    if (!sink->hooks.checkpoint)
        sink_promote(d, sink);
    if (!sink->sending.any && sink->ready.any) {
        struct answers empty = sink->sending;
        sink->sending = sink->ready;
        sink->ready = empty;
        sink->serial++;
    }
    return sink->sending.any;
}

static void send_answers(struct delivery *d, struct sink *sink)
{
    struct store_ack ack;
    answers_ack(&sink->sending, sink->id, sink->generation, &ack);
    ack.serial = sink->serial;
    sink->store_busy = true;
    pthread_mutex_unlock(d->lock);
    int code = store_ack(d->store, &ack, mono_ns() + ack_timeout_ns);
    if (code == SPOOL_OK && d->on_delivery) /* what is being sent is only looked at here */
        receipt_tell(d, sink, sink->sending.notes, sink->sending.note_count);
    pthread_mutex_lock(d->lock);
    sink->store_busy = false;
    if (code == SPOOL_OK)
        acked(d, sink);
    else if (code == SPOOL_ESTALE)
        sink->reload = true; /* rewound or removed: these answers are about what is no longer so */
    else {
        if (d->ack_error == SPOOL_OK)
            report(&d->reporter, SPOOL_LOG_ERROR, "sink %s: cannot store what was delivered, will try again: %s",
                   sink->name, err_last());
        d->ack_error = code;
        d->ack_again_ns = mono_ns() + ack_again_ns;
    }
}

/* Returns whether anything was sent. */
static bool ack_round(struct delivery *d)
{
    bool sent = false;
    int before = d->ack_error;
    for (struct sink *sink = d->sinks, *next; sink; sink = next) {
        atomic_fetch_add(&sink->refs, 1);
        if (take_ready(d, sink)) {
            send_answers(d, sink);
            sent = true;
        }
        next = sink->unlinked ? NULL : sink->next;
        sink_unref(sink);
    }
    if (before != SPOOL_OK && mono_ns() >= d->ack_again_ns)
        d->ack_error = SPOOL_OK;
    return sent;
}

static bool is_pending(const struct delivery *d)
{
    for (const struct sink *sink = d->sinks; sink; sink = sink->next)
        if (!sink->store_busy && !sink->reload && sink->loaded &&
            (sink->sending.any || sink->ready.any || (sink->open.any && !sink->hooks.checkpoint)))
            return true;
    return false;
}

static uint64_t next_round(const struct delivery *d, uint64_t last_ns)
{
    if (!is_pending(d))
        return DEADLINE_NEVER;
    if (d->ack_again_ns > mono_ns())
        return d->ack_again_ns;
    return d->hurry > 0 || d->stopping ? 0 : last_ns + ACK_INTERVAL_MS * NS_PER_MS;
}

void acker_run(struct runner *self)
{
    struct delivery *d = self->delivery;
    uint64_t last_ns = 0;
    pthread_mutex_lock(d->lock);
    while (!d->exiting) {
        uint64_t at_ns = next_round(d, last_ns);
        if (at_ns > mono_ns()) {
            cond_wait_until(&d->ack, d->lock, at_ns);
            continue;
        }
        last_ns = mono_ns();
        if (ack_round(d))
            dispatcher_wake(d);
    }
    pthread_mutex_unlock(d->lock);
}
