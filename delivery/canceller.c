/* canceller.c - one thread that looks after hooks that run too long: it calls their cancel, and gives the pool another
 * worker in place of the one they hold, so that only their own sink stands still. A thread of its own, because cancel
 * is the sink's code: should it hang, nothing else waits for it. It never touches the store. */
#include <stdio.h>

#include "engine.h"

/* When the running hook is to be cancelled; UINT64_MAX: never. */
static uint64_t due_at(const struct sink *sink, const struct slot *slot)
{
    if (slot->since_ns == 0 || slot->cancel_sent)
        return UINT64_MAX;
    uint64_t due_ns = slot->since_ns + sink->options.timeout_ms * NS_PER_MS;
    return sink->cancel_at_ns > 0 && sink->cancel_at_ns < due_ns ? sink->cancel_at_ns : due_ns;
}

/* The state stays while `cancelling` is not 0. */
static void cancel(struct delivery *d, struct sink *sink, struct slot *slot)
{
    slot->cancel_sent = true;
    delivery_add_worker(d);
    if (!slot->open || !sink->hooks.cancel)
        return;
    slot->cancelling++;
    pthread_mutex_unlock(d->lock);
    sink->hooks.cancel(slot->state);
    pthread_mutex_lock(d->lock);
    slot->cancelling--;
    pthread_cond_broadcast(&d->idle);
}

/* A hook that still runs, although it was cancelled because its time is over, is a failure of the sink. What it answers
 * in the end is heard, but is no second one. */
static void note_overdue(struct delivery *d, struct sink *sink, struct slot *slot, uint64_t since_ns)
{
    uint64_t timeout_ns = sink->options.timeout_ms * NS_PER_MS;
    if (slot->since_ns != since_ns || mono_ns() < since_ns + timeout_ns || !sink_is_wanted(d, sink))
        return;
    char reason[REASON_MAX + 1];
    snprintf(reason, sizeof reason, "did not return within %u ms (timeout_ms), and was cancelled",
             sink->options.timeout_ms);
    slot->overdue = true;
    outage_failed(d, sink, reason);
}

static void cancel_overrun(struct delivery *d, struct sink *sink, struct slot *slot)
{
    uint64_t since_ns = slot->since_ns;
    atomic_fetch_add(&sink->refs, 1);
    cancel(d, sink, slot);
    note_overdue(d, sink, slot, since_ns);
    sink_unref(sink);
}

/* Cancels the first that is due; false if none is, and *ret_next is when one will be. */
static bool cancel_one(struct delivery *d, uint64_t *ret_next)
{
    uint64_t now = mono_ns();
    *ret_next = UINT64_MAX;
    for (struct sink *sink = d->sinks; sink; sink = sink->next) {
        for (uint32_t i = 0; i < sink->options.workers; i++) {
            uint64_t due_ns = due_at(sink, &sink->slots[i]);
            if (due_ns <= now) {
                cancel_overrun(d, sink, &sink->slots[i]);
                return true;
            }
            if (due_ns < *ret_next)
                *ret_next = due_ns;
        }
    }
    return false;
}

void canceller_run(struct runner *self)
{
    struct delivery *d = self->delivery;
    pthread_mutex_lock(d->lock);
    while (!d->exiting && !self->abandoned) {
        uint64_t next;
        if (cancel_one(d, &next))
            continue;
        d->cancel_until_ns = next;
        cond_wait_until(&d->cancel, d->lock, next);
        d->cancel_until_ns = 0;
    }
    pthread_mutex_unlock(d->lock);
}
