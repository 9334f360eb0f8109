/* stop.c - ending in time, whatever sinks do.
 *
 *   0               no new batches (but of a keyed sink those that fill its gaps); running ones go on, then states are
 *                   closed and answers stored, sink by sink
 *   half the time   hooks that still run are cancelled
 *   nine tenths     sinks that still run hang: their threads are given up, with all they need counted for them
 *   deadline        those that began to hang since likewise; sinks whose states are still open are left to workers that
 *                   are given up to close them; the other threads are joined; what could not be stored is delivered
 *                   again */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/base/error.h"
#include "engine.h"
#include "stop_plan.h"

static bool is_released(const struct sink *sink)
{
    return sink->hung || (!sink->elected && sink->running == 0);
}

static bool all_released(const struct delivery *d)
{
    for (const struct sink *sink = d->sinks; sink; sink = sink->next)
        if (!is_released(sink))
            return false;
    return true;
}

static void cancel_at(struct delivery *d, struct sink *sink, uint64_t at_ns)
{
    sink->cancel_at_ns = at_ns == DEADLINE_NEVER ? 0 : at_ns;
    pthread_cond_signal(&d->cancel);
}

/* ------------------------------------------------------------------------------------------------------------- hanging
 */

void runner_abandon(struct delivery *d, struct runner *runner)
{
    struct runner **link = &d->runners;
    while (*link != runner)
        link = &(*link)->next;
    *link = runner->next;
    runner->abandoned = true;
    pthread_detach(runner->thread);
}

/* Gives up the workers that are in this sink. */
static void abandon_workers(struct delivery *d, const struct sink *sink)
{
    for (struct runner *runner = d->runners, *next; runner; runner = next) {
        next = runner->next;
        if (runner->at == sink)
            runner_abandon(d, runner);
    }
}

static bool hang(struct delivery *d, struct sink *sink)
{
    if (sink->running == 0 || sink->hung)
        return false;
    sink->hung = true;
    sink->catching_up = false;
    sink_take_back_ready(d, sink);
    sink_error(sink, "did not return in time");
    abandon_workers(d, sink);
    return true;
}

/* Marks every sink that still runs; the first one's name for the message. Without the lock the operator is told. */
static bool hang_all(struct delivery *d, char name[SINK_NAME_MAX + 1])
{
    bool any = false;
    for (struct sink *sink = d->sinks; sink;) {
        if (!hang(d, sink)) {
            sink = sink->next;
            continue;
        }
        if (!any)
            memcpy(name, sink->name, SINK_NAME_MAX + 1);
        any = true;
        char told[SINK_NAME_MAX + 1];
        memcpy(told, sink->name, sizeof told);
        atomic_fetch_add(&sink->refs, 1);
        pthread_mutex_unlock(d->lock);
        store_hand_excuse(sink->hand);
        notify(&d->reporter, SPOOL_NOTICE_SINK_HUNG, told, NULL, 0,
               "did not return in time, although it was cancelled; it is left alone until it does");
        pthread_mutex_lock(d->lock);
        sink_unref(sink);
        sink = d->sinks; /* it may be gone, and so may its successor; whoever is marked is passed over */
    }
    return any;
}

/* ------------------------------------------------------------------------------------------------------------- joining
 */

static bool all_exited(const struct delivery *d)
{
    for (const struct runner *runner = d->runners; runner; runner = runner->next)
        if (!runner->exited && runner->kind == RUN_CANCELLER)
            return false;
    return true;
}

/* `exiting` is set. The dispatcher, the acker and workers without a sink come back by themselves: nothing they do lacks
 * a deadline. Only the canceller may be in a sink's hook. */
static void end_threads(struct delivery *d, uint64_t deadline_ns)
{
    pthread_cond_broadcast(&d->work);
    pthread_cond_broadcast(&d->ack);
    pthread_cond_broadcast(&d->cancel);
    dispatcher_wake(d);
    while (!all_exited(d) && cond_wait_until(&d->idle, d->lock, deadline_ns) == 0) {
    }
    while (d->runners) {
        struct runner *runner = d->runners;
        if (runner->kind == RUN_CANCELLER && !runner->exited) {
            runner_abandon(d, runner);
            continue;
        }
        d->runners = runner->next;
        pthread_mutex_unlock(d->lock);
        pthread_join(runner->thread, NULL);
        free(runner);
        pthread_mutex_lock(d->lock);
    }
}

static struct sink *first_to_release(const struct delivery *d)
{
    struct sink *sink = d->sinks;
    while (sink && (!sink->elected || sink->hung))
        sink = sink->next;
    return sink;
}

/* Sinks whose answers the store did not take: what they finished since is delivered again. One that hung may come back
 * while the lock is left: so until there is none. */
static int release_rest(struct delivery *d)
{
    int code = SPOOL_OK;
    for (struct sink *sink; (sink = first_to_release(d)) != NULL;) {
        if (sink_has_answers(sink))
            code = d->ack_error ? d->ack_error : SPOOL_ETIMEOUT;
        sink_take_back_ready(d, sink); /* cut while it was ours: after the next start it may be somebody else's */
        sink->elected = sink->loaded = sink->catching_up = false;
        pthread_mutex_unlock(d->lock);
        store_sink_release(d->store, sink->name);
        pthread_mutex_lock(d->lock);
    }
    return code;
}

void sinks_unlink_dropped(struct delivery *d)
{
    for (struct sink **link = &d->sinks; *link;)
        if (!sink_unlink_dropped(d, link))
            link = &(*link)->next;
}

static int check_thread(const char *what)
{
    return thread_is_ours() ? err_set(SPOOL_EDEADLK, "%s from a thread of the library would wait for itself", what)
                            : SPOOL_OK;
}

static int stop_locked(struct delivery *d, const struct stop_plan *schedule)
{
    char hung[SINK_NAME_MAX + 1] = "";
    for (struct sink *sink = d->sinks; sink; sink = sink->next)
        cancel_at(d, sink, schedule->cancel_ns);
    pthread_cond_signal(&d->ack);
    dispatcher_wake(d);
    while (!all_released(d) && cond_wait_until(&d->idle, d->lock, schedule->give_up_ns) == 0) {
    }
    bool hangs = hang_all(d, hung);
    while (!all_released(d) && cond_wait_until(&d->idle, d->lock, schedule->deadline_ns) == 0) {
    }
    d->exiting = true; /* nobody enters a hook from here on … */
    char late[SINK_NAME_MAX + 1];
    hangs |= hang_all(d, hangs ? late : hung); /* … but some may have since the look before: to close, say */
    bool open = sinks_close_later(d, late);
    end_threads(d, schedule->deadline_ns);
    int code = release_rest(d);
    sinks_unlink_dropped(d);
    if (hangs)
        return err_set(SPOOL_ETIMEOUT, "sink %s did not return in time", hung);
    if (open)
        return err_set(SPOOL_ETIMEOUT, "sink %s was not closed in time; it is being closed", late);
    return code == SPOOL_OK
               ? SPOOL_OK
               : err_set(code, "the last answers of sinks could not be stored; they will be delivered again");
}

int delivery_stop(struct delivery *d, uint64_t deadline_ns)
{
    int code = check_thread("stop");
    if (code != SPOOL_OK)
        return code;
    struct stop_plan schedule = stop_plan(deadline_ns);
    pthread_mutex_lock(d->lock);
    while (d->stopping && code == 0) /* another thread is at it: its work is ours */
        code = cond_wait_until(&d->idle, d->lock, deadline_ns);
    if (code != 0)
        code = err_set(SPOOL_ETIMEOUT, "another stop is still under way");
    else if (d->running) {
        d->stopping = true;
        code = stop_locked(d, &schedule);
        d->running = d->stopping = false;
        pthread_cond_broadcast(&d->idle);
    }
    pthread_mutex_unlock(d->lock);
    return code;
}

/* ---------------------------------------------------------------------------------------------------------- dropping
 */

/* Nothing of it runs any more, and nobody finds it. While delivery is stopped there is no dispatcher to see to it. */
static bool is_let_go(struct delivery *d, const struct sink *sink)
{
    if (!d->running)
        sinks_unlink_dropped(d);
    return sink->unlinked;
}

/* It is in a hook still: then it keeps what it was given. */
static int drop_hung(struct delivery *d, struct sink *sink)
{
    if (hang(d, sink)) {
        pthread_mutex_unlock(d->lock);
        store_hand_excuse(sink->hand);
        notify(&d->reporter, SPOOL_NOTICE_SINK_HUNG, sink->name, NULL, 0, "did not return in time when it was dropped");
        pthread_mutex_lock(d->lock);
    }
    return err_set(SPOOL_ETIMEOUT, "sink %s did not return in time", sink->name);
}

static int drop_sink(struct delivery *d, struct sink *sink, const struct stop_plan *schedule)
{
    cancel_at(d, sink, schedule->cancel_ns);
    dispatcher_wake(d);
    d->hurry++;
    pthread_cond_signal(&d->ack);
    while (!is_let_go(d, sink) && cond_wait_until(&d->idle, d->lock, schedule->give_up_ns) == 0) {
    }
    d->hurry--;
    if (sink->unlinked)
        return SPOOL_OK;
    if (sink->hung || sink->running > 0)
        return drop_hung(d, sink);
    return err_set(SPOOL_ETIMEOUT, "sink %s: its last answers could not be stored in time", sink->name);
}

int delivery_sink_drop(struct delivery *d, const char *name, uint64_t deadline_ns)
{
    int code = check_thread("removing a sink");
    if (code != SPOOL_OK || !name)
        return code;
    struct stop_plan schedule = stop_plan(deadline_ns);
    pthread_mutex_lock(d->lock);
    struct sink *sink = sink_find(d, name);
    if (sink) {
        atomic_fetch_add(&sink->refs, 1);
        sink->dropping = true;
        code = drop_sink(d, sink, &schedule);
        sink_unref(sink);
    }
    pthread_mutex_unlock(d->lock);
    return code;
}

/* --------------------------------------------------------------------------------------------------------- settling */

/* Sinks whose answers up to now are not stored yet. `given` is what each had given at the call, in the order of the
 * list; sinks are added at its end. */
static bool is_settled(const struct delivery *d, const uint64_t *given, size_t count)
{
    size_t i = 0;
    for (const struct sink *sink = d->sinks; sink && i < count; sink = sink->next, i++)
        if (sink->elected && !sink->hung && sink->acked < given[i] && sink_has_answers(sink))
            return false;
    return true;
}

int delivery_settle(struct delivery *d, uint64_t deadline_ns)
{
    int err = 0;
    pthread_mutex_lock(d->lock);
    size_t count = d->sink_count, i = 0;
    uint64_t *given = calloc(count + 1, sizeof *given);
    for (const struct sink *sink = d->sinks; sink && given; sink = sink->next)
        given[i++] = sink->given;
    d->hurry++;
    pthread_cond_signal(&d->ack);
    dispatcher_wake(d);
    while (given && d->running && err == 0 && !is_settled(d, given, count))
        err = cond_wait_until(&d->idle, d->lock, deadline_ns);
    d->hurry--;
    pthread_mutex_unlock(d->lock);
    if (!given)
        return err_errno(ENOMEM, "settle");
    free(given);
    return err == 0 ? SPOOL_OK : err_set(SPOOL_ETIMEOUT, "answers of sinks are not stored yet");
}
