/* calibrate.c - asking the sources, and following what they agree on; on a thread of its own if any of them does I/O.
 *
 * Local sources are asked by whoever wants to know (hlc_read, and the store's housekeeping by hlc_poll): so a clock
 * without servers has no thread. The thread sleeps on `changed` until the next source is due. A stop cancels the source
 * that is being read; one that does not return within STOP_PATIENCE_MS keeps the thread and the clock's memory, which
 * the thread frees when it gets there. */
#include <stdlib.h>

#include "../lib/base/error.h"
#include "../lib/base/sync.h"
#include "clock_inside.h"

#define STOP_PATIENCE_MS 2000

/* ------------------------------------------------------------------------------------------------------ following */

static void tell_status(struct hlc *clock, const struct summary *sum)
{
    double error_ms = (double)(sum->latest_ns - sum->earliest_ns) / 2e6;
    const char *name = spool_clock_status_name(sum->status);
    if (sum->status == SPOOL_CLOCK_UNSYNCHRONISED)
        hlc_tell(clock, HLC_STATUS, sum->status, NULL, "the clock is %s: nobody vouches for it", name);
    else
        hlc_tell(clock, HLC_STATUS, sum->status, NULL, "the clock is %s: %u of %u sources agree, within +-%.3f ms",
                 name, sum->agreeing, sum->voting, error_ms);
}

/* What is new is told once. That nobody vouches for the time goes without saying, until somebody has. `lock` held. */
static bool note_status(struct hlc *clock, const struct summary *sum)
{
    bool is_new = sum->status != clock->status || (!clock->told && sum->status != SPOOL_CLOCK_UNSYNCHRONISED);
    clock->status = sum->status;
    clock->told |= is_new;
    return is_new;
}

static void believe(struct hlc *clock, const struct summary *sum)
{
    const struct wall_belief belief = {sum->status,      sum->at,        sum->time_ns,
                                       sum->earliest_ns, sum->latest_ns, sum->agreeing};
    wall_believe(&clock->wall, &belief); /* if it is being compared just now, the next round will do */
}

static void follow(struct hlc *clock)
{
    struct sources *s = &clock->sources;
    struct hlc_look now;
    struct summary sum;
    hlc_compare(clock);
    if (!wall_see(&clock->wall, &now))
        return;
    pthread_mutex_lock(&s->lock);
    sources_sum_up(s, &now, &sum);
    bool is_new = note_status(clock, &sum), may_follow = sources_may_follow(s, &sum);
    pthread_mutex_unlock(&s->lock);
    atomic_store_explicit(&clock->wall.leap, sum.leap, memory_order_relaxed);
    if (may_follow)
        believe(clock, &sum);
    if (is_new)
        tell_status(clock, &sum);
}

/* -------------------------------------------------------------------------------------------------------- polling */

static uint64_t boot_now(const struct hlc *clock)
{
    struct hlc_look now;
    return wall_see(&clock->wall, &now) ? now.boot_ns : 0;
}

/* Reads those that are due, each once. `lock` held, and dropped meanwhile. Returns when the next is due. */
static uint64_t read_due(struct hlc *clock, bool local_only)
{
    struct sources *s = &clock->sources;
    for (int i = 0; i < SPOOL_CLOCK_SOURCES_MAX && !clock->stopping; i++) {
        struct source *source = sources_next_due(s, local_only);
        if (!source)
            return UINT64_MAX;
        if (source->due_ns > boot_now(clock))
            return source->due_ns;
        source_read(clock, source, DEADLINE_NEVER);
    }
    return 0;
}

uint64_t hlc_poll(struct hlc *clock, bool local_only)
{
    pthread_mutex_lock(&clock->sources.lock);
    uint64_t due_ns = read_due(clock, local_only);
    pthread_mutex_unlock(&clock->sources.lock);
    follow(clock);
    return due_ns;
}

/* --------------------------------------------------------------------------------------------------- all at once */

static struct source *next_unasked(const struct sources *s, const bool asked[SPOOL_CLOCK_SOURCES_MAX], size_t *ret_at)
{
    for (size_t i = 0; i < SPOOL_CLOCK_SOURCES_MAX; i++) {
        struct source *source = s->list[i];
        if (asked[i] || !source || source->memory || source->doomed || source->refused)
            continue;
        *ret_at = i;
        return source;
    }
    return NULL;
}

/* `lock` held, and dropped meanwhile. */
static int read_all(struct hlc *clock, uint64_t deadline_ns)
{
    struct sources *s = &clock->sources;
    bool asked[SPOOL_CLOCK_SOURCES_MAX] = {false};
    struct source *source;
    size_t at;
    while ((source = next_unasked(s, asked, &at))) {
        if (clock->stopping || mono_ns() >= deadline_ns)
            return err_set(SPOOL_ETIMEOUT, "source of time %s was not asked in time", source->name);
        if (!source->busy) {
            asked[at] = true;
            source_read(clock, source, deadline_ns);
        } else if (cond_wait_until(&s->changed, &s->lock, deadline_ns)) { /* the thread asks it: that counts */
            return err_set(SPOOL_ETIMEOUT, "source of time %s did not answer in time", source->name);
        }
    }
    return SPOOL_OK;
}

int hlc_calibrate(struct hlc *clock, uint64_t deadline_ns)
{
    pthread_mutex_lock(&clock->sources.lock);
    int code = read_all(clock, deadline_ns);
    pthread_mutex_unlock(&clock->sources.lock);
    follow(clock);
    return code;
}

/* ----------------------------------------------------------------------------------------------------- the thread */

/* Until something is due: CLOCK_MONOTONIC does not count while suspended, so no longer than a minute at a time. `lock`
 * held. */
static void sleep_until(struct hlc *clock, uint64_t due_ns)
{
    enum { LONGEST_MS = 60000 };
    uint64_t now = boot_now(clock), wait_ms = due_ns > now ? (due_ns - now) / NS_PER_MS + 1 : 0;
    if (wait_ms && !clock->stopping)
        cond_wait_until(&clock->sources.changed, &clock->sources.lock,
                        deadline_in_ms(wait_ms < LONGEST_MS ? wait_ms : LONGEST_MS));
}

static void *calibrate_run(void *arg)
{
    struct hlc *clock = arg;
    struct sources *s = &clock->sources;
    pthread_mutex_lock(&s->lock);
    while (!clock->stopping) {
        uint64_t due_ns = read_due(clock, false);
        if (clock->stopping)
            break;
        pthread_mutex_unlock(&s->lock);
        follow(clock);
        pthread_mutex_lock(&s->lock);
        sleep_until(clock, due_ns);
    }
    clock->running = false;
    bool abandoned = clock->abandoned;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    if (abandoned)
        hlc_destroy(clock);
    return NULL;
}

int calibrate_start(struct hlc *clock)
{
    if (clock->running || clock->options.no_thread)
        return SPOOL_OK;
    int code = thread_start(&clock->thread, "spool-clock", calibrate_run, clock);
    clock->running = code == SPOOL_OK;
    return code;
}

static void cancel_all(struct sources *s)
{
    for (size_t i = 0; i < SPOOL_CLOCK_SOURCES_MAX; i++)
        if (s->list[i] && s->list[i]->busy && s->list[i]->hooks.cancel)
            s->list[i]->hooks.cancel(s->list[i]->state);
}

bool calibrate_stop(struct hlc *clock)
{
    struct sources *s = &clock->sources;
    uint64_t deadline = deadline_in_ms(STOP_PATIENCE_MS);
    pthread_mutex_lock(&s->lock);
    bool started = clock->running;
    clock->stopping = true;
    cancel_all(s);
    pthread_cond_broadcast(&s->changed);
    while (clock->running)
        if (cond_wait_until(&s->changed, &s->lock, deadline))
            break;
    clock->abandoned = clock->running;
    bool gone = !clock->running;
    pthread_mutex_unlock(&s->lock);
    if (started && gone)
        pthread_join(clock->thread, NULL);
    else if (started)
        pthread_detach(clock->thread);
    return gone;
}
