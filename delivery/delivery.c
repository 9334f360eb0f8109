/* delivery.c - made, fed with sinks, started; asked how it goes. Stopping is in stop.c. */
#include "delivery.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/base/error.h"
#include "engine.h"
#include "options.h"
#include "registration.h"

/* -------------------------------------------------------------------------------------------------- made and freed */

static int init_sync(struct delivery *d)
{
    pthread_cond_t *conds[] = {&d->work, &d->ack, &d->idle, &d->cancel, &d->wake};
    int err = pthread_mutex_init(&d->wake_lock, NULL);
    for (size_t i = 0; i < sizeof conds / sizeof *conds && err == 0; i++)
        err = cond_init(conds[i]);
    return err == 0 ? SPOOL_OK : err_errno(err, "delivery");
}

/* Something is free that batches may wait for. */
static void look_again(void *user)
{
    struct delivery *d = user;
    if (op_core_has_next(d->core, mono_ns()))
        pthread_cond_signal(&d->work);
}

static void take_core(struct delivery *d)
{
    d->lock = &d->scheduler->lock;
    d->core = &d->scheduler->batches;
    pthread_mutex_lock(d->lock);
    d->core->name = sink_name_task;
    d->core->freed = look_again;
    d->core->user = d;
    pthread_mutex_unlock(d->lock);
}

int delivery_new(struct store *store, const struct delivery_options *options, struct delivery **ret)
{
    if (options->workers < 1 || options->workers > 64)
        return err_set(SPOOL_EINVAL, "workers is %u: 1 to 64", options->workers);
    struct delivery *d = calloc(1, sizeof *d);
    if (!d)
        return err_errno(ENOMEM, "delivery");
    int code = init_sync(d);
    if (code == SPOOL_OK && options->scheduler)
        d->scheduler = scheduler_ref(options->scheduler);
    else if (code == SPOOL_OK)
        code = scheduler_new(&d->scheduler);
    if (code != SPOOL_OK) {
        free(d);
        return code;
    }
    atomic_init(&d->refs, 1);
    d->store = store;
    d->reporter = options->reporter;
    d->clock = options->clock;
    d->workers = options->workers;
    d->on_delivery = options->on_delivery;
    d->delivery_user = options->delivery_user;
    take_core(d);
    jitter_init(&d->jitter, options->seed);
    *ret = d;
    return SPOOL_OK;
}

static void free_sinks(struct delivery *d)
{
    for (struct sink *sink = d->sinks, *next; sink; sink = next) {
        next = sink->next;
        if (sink->running == 0) /* else the batch that hangs has what it needs until it is back */
            sink_leave_core(sink);
        sink_unref(sink);
    }
    d->sinks = NULL;
    d->sink_count = 0;
}

void delivery_unref(struct delivery *d)
{
    if (atomic_fetch_sub(&d->refs, 1) != 1)
        return;
    for (struct batch *batch = d->spare, *next; batch; batch = next) {
        next = batch->next;
        batch_free(batch);
    }
    pthread_mutex_lock(d->lock);
    d->core->freed = NULL;
    pthread_mutex_unlock(d->lock);
    free(d->gaps);
    pthread_mutex_destroy(&d->wake_lock);
    pthread_cond_destroy(&d->work);
    pthread_cond_destroy(&d->ack);
    pthread_cond_destroy(&d->idle);
    pthread_cond_destroy(&d->cancel);
    pthread_cond_destroy(&d->wake);
    scheduler_unref(d->scheduler);
    free(d);
}

void delivery_free(struct delivery *d)
{
    if (!d)
        return;
    pthread_mutex_lock(d->lock);
    d->store = NULL;
    free_sinks(d);
    pthread_mutex_unlock(d->lock);
    delivery_unref(d);
}

/* The threads did not come along, and locks may be held by them for ever: memory is given back, nothing else touched.
 * States of sinks are the parent's. */
void delivery_abandon(struct delivery *d)
{
    if (!d)
        return;
    free_sinks(d);
    block_cache_clear(&d->cache);
    free(d->gaps);
    for (struct runner *runner = d->runners, *next; runner; runner = next) {
        next = runner->next;
        free(runner);
    }
    for (struct batch *batch = d->spare, *next; batch; batch = next) {
        next = batch->next;
        batch_free(batch);
    }
    scheduler_unref(d->scheduler);
    free(d);
}

/* ---------------------------------------------------------------------------------------------------------- adding */

uint32_t delivery_sink_traits(const struct spool_sink *sink, const char *json_config)
{
    return sink->traits ? sink->traits(json_config ? json_config : "{}") : 0;
}

static int register_sink(struct delivery *d, struct sink *sink)
{
    struct store_sink *stored = malloc(sizeof *stored);
    char *text = NULL;
    if (!stored)
        return err_errno(ENOMEM, "sink %s", sink->name);
    int code = registration_text(sink->config, &sink->as_added, &text);
    if (code == SPOOL_OK)
        code = store_sink_register(d->store, sink->name, sink->kind, sink->options.order, text,
                                   sink->options.flags & SPOOL_SINK_FROM_NOW, stored);
    free(text);
    const struct spool_sink_options *o = &sink->options;
    bool limited = code == SPOOL_OK && (stored->max_pending_bytes != o->max_pending_bytes ||
                                        stored->max_pending_age_ms != o->max_pending_age_ms);
    if (limited)
        code = store_sink_limit(d->store, sink->name, o->max_pending_bytes, o->max_pending_age_ms);
    if (code == SPOOL_OK && stored->best_effort != sink->best_effort)
        code = store_sink_set_best_effort(d->store, sink->name, sink->best_effort);
    if (code == SPOOL_OK) {
        sink->id = stored->id;
        sink->paused = stored->paused;
    }
    free(stored);
    return code;
}

/* Puts it into the list unless the name is taken; with the lock held. */
static int link_locked(struct delivery *d, struct sink *sink)
{
    if (sink_find(d, sink->name))
        return err_set(SPOOL_EEXISTS, "sink %s is already added here", sink->name);
    struct sink **end = &d->sinks; /* at the end, so that whoever walks the list does not miss one */
    while (*end)
        end = &(*end)->next;
    *end = sink;
    d->sink_count++;
    return SPOOL_OK;
}

static int link_sink(struct delivery *d, struct sink *sink)
{
    pthread_mutex_lock(d->lock);
    int code = link_locked(d, sink);
    pthread_mutex_unlock(d->lock);
    return code;
}

/* Before it is registered: it may need more than there is. */
static int enter_core(struct delivery *d, struct sink *sink)
{
    pthread_mutex_lock(d->lock);
    int code = sink_enter_core(d, sink);
    pthread_mutex_unlock(d->lock);
    return code;
}

/* With the lock, since it may hold resources. */
static void discard(struct delivery *d, struct sink *sink)
{
    pthread_mutex_lock(d->lock);
    sink_unref(sink);
    pthread_mutex_unlock(d->lock);
}

static int check_free(struct delivery *d, const char *name)
{
    pthread_mutex_lock(d->lock);
    if (!d->running) /* one that hung when it was dropped, and came back after the stop */
        sinks_unlink_dropped(d);
    bool taken = sink_find(d, name) != NULL;
    pthread_mutex_unlock(d->lock);
    return taken ? err_set(SPOOL_EEXISTS, "sink %s is already added here", name) : SPOOL_OK;
}

int delivery_sink_add(struct delivery *d, const char *name, const struct spool_sink *sink, const char *json_config,
                      const struct spool_sink_options *options)
{
    struct spool_sink hooks;
    struct spool_sink_options filled;
    int code = options_check_name(name);
    if (code == SPOOL_OK)
        code = options_take_sink(sink, &hooks);
    if (code == SPOOL_OK)
        code = options_take(options, &hooks, &filled);
    if (code == SPOOL_OK && store_is_read_only(d->store))
        code = err_set(SPOOL_EREADONLY, "sink %s: the spool is open for reading only", name);
    if (code == SPOOL_OK && json_config && strchr(json_config, '\x1e')) /* see registration.h */
        code = err_set(SPOOL_EINVAL, "sink %s: a configuration holds no byte 0x1e", name);
    if (code == SPOOL_OK)
        code = check_free(d, name);
    struct sink *made = NULL;
    struct filter *filter = NULL;
    if (code == SPOOL_OK)
        code = filter_new(filled.filter, &filter);
    if (code == SPOOL_OK)
        code = sink_new(name, &hooks, json_config ? json_config : "{}", &filled, &made);
    if (code != SPOOL_OK) {
        filter_free(filter);
        return code;
    }
    made->filter = filter;
    made->best_effort = delivery_sink_traits(&hooks, made->config) & SPOOL_TRAIT_BEST_EFFORT;
    options_given(options, &made->as_added);
    code = enter_core(d, made);
    if (code == SPOOL_OK)
        code = register_sink(d, made);
    made->as_added.filter = made->as_added.plugin = made->as_added.resources = NULL; /* the caller's */
    if (code == SPOOL_OK)
        code = link_sink(d, made);
    if (code == SPOOL_OK)
        dispatcher_wake(d);
    else
        discard(d, made);
    return code;
}

/* ---------------------------------------------------------------------------------------------------------- running */

static void *run_thread(void *arg)
{
    static void (*const bodies[])(struct runner *) = {
        [RUN_DISPATCHER] = dispatcher_run,
        [RUN_ACKER] = acker_run,
        [RUN_CANCELLER] = canceller_run,
        [RUN_WORKER] = worker_run,
    };
    struct runner *self = arg;
    struct delivery *d = self->delivery;
    bodies[self->kind](self);
    pthread_mutex_lock(d->lock);
    self->exited = true;
    bool abandoned = self->abandoned;
    pthread_cond_broadcast(&d->idle);
    pthread_mutex_unlock(d->lock);
    if (abandoned)
        free(self); /* nobody else knows it any more */
    delivery_unref(d);
    return NULL;
}

static int start_runner(struct delivery *d, enum runner_kind kind, const char *name)
{
    struct runner *runner = calloc(1, sizeof *runner);
    if (!runner)
        return err_errno(ENOMEM, "delivery");
    runner->delivery = d;
    runner->kind = kind;
    atomic_fetch_add(&d->refs, 1);
    int code = thread_start(&runner->thread, name, run_thread, runner);
    if (code != SPOOL_OK) {
        delivery_unref(d);
        free(runner);
        return code;
    }
    runner->next = d->runners;
    d->runners = runner;
    return SPOOL_OK;
}

int delivery_start_worker(struct delivery *d)
{
    return start_runner(d, RUN_WORKER, "spool-worker");
}

void delivery_add_worker(struct delivery *d)
{
    if (d->exiting || d->stopping || d->extra_workers >= EXTRA_WORKERS_MAX)
        return;
    if (delivery_start_worker(d) == SPOOL_OK)
        d->extra_workers++; /* else the pool is one short until the sink returns */
}

static int start_runners(struct delivery *d)
{
    d->extra_workers = 0;
    int code = start_runner(d, RUN_DISPATCHER, "spool-dispatch");
    if (code == SPOOL_OK)
        code = start_runner(d, RUN_ACKER, "spool-ack");
    if (code == SPOOL_OK)
        code = start_runner(d, RUN_CANCELLER, "spool-cancel");
    for (uint32_t i = 0; i < d->workers && code == SPOOL_OK; i++)
        code = delivery_start_worker(d);
    return code;
}

int delivery_start(struct delivery *d)
{
    if (store_is_read_only(d->store))
        return err_set(SPOOL_EREADONLY, "cannot deliver: the spool is open for reading only");
    pthread_mutex_lock(d->lock);
    int code = d->stopping ? err_set(SPOOL_EBUSY, "delivery is being stopped: start it again afterwards") : SPOOL_OK;
    if (code == SPOOL_OK && !d->running) {
        d->exiting = false;
        d->running = true;
        d->ack_error = SPOOL_OK;
        d->ack_again_ns = 0;
        for (struct sink *sink = d->sinks; sink; sink = sink->next)
            sink->cancel_at_ns = sink->elect_again_ns = 0;
        code = start_runners(d);
    }
    pthread_mutex_unlock(d->lock);
    if (code != SPOOL_OK && code != SPOOL_EBUSY) {
        char message[256];
        snprintf(message, sizeof message, "%s", err_last());
        delivery_stop(d, deadline_in_ms(1000)); /* ends those that did start */
        return err_set(code, "%s", message);
    }
    return code;
}

bool delivery_has_hung(struct delivery *d)
{
    bool hung = false;
    pthread_mutex_lock(d->lock);
    for (const struct sink *sink = d->sinks; sink; sink = sink->next)
        hung |= sink->hung;
    pthread_mutex_unlock(d->lock);
    return hung;
}

bool delivery_is_running(const struct delivery *d)
{
    struct delivery *mutable = (struct delivery *)d; /* a lock is no part of the value */
    pthread_mutex_lock(mutable->lock);
    bool running = d->running;
    pthread_mutex_unlock(mutable->lock);
    return running;
}

void delivery_wake(struct delivery *d)
{
    dispatcher_wake(d);
}

/* ------------------------------------------------------------------------------------------------------------ status
 */

const char *spool_breaker_name(enum spool_breaker breaker)
{
    static const char *const names[] = {"closed", "open", "half-open"};
    return (unsigned)breaker < sizeof names / sizeof *names ? names[breaker] : "unknown";
}

static enum spool_sink_state state_of(const struct delivery *d, const struct sink *sink)
{
    if (sink->hung)
        return SPOOL_SINK_HUNG;
    if (sink->failed)
        return SPOOL_SINK_FAILED;
    if (!d->running)
        return SPOOL_SINK_STOPPED;
    if (sink->elsewhere)
        return SPOOL_SINK_ELSEWHERE;
    if (sink->breaker.state != SPOOL_BREAKER_CLOSED)
        return SPOOL_SINK_DOWN;
    return sink->paused ? SPOOL_SINK_PAUSED : SPOOL_SINK_RUNNING;
}

static void fill_status(const struct delivery *d, const struct sink *sink, struct delivery_sink_status *ret)
{
    *ret = (struct delivery_sink_status){
        .state = state_of(d, sink),
        .delivered = sink->delivered,
        .attempt = sink->breaker.failures,
        .breaker = sink->breaker.state,
        .breaker_opened = sink->breaker.opened,
        .over_limit = sink->over_limit,
    };
    uint64_t now = mono_ns();
    sink_tell_wait(sink, now, ret);
    if (sink->breaker.until_ns > now)
        ret->next_try_ms = (sink->breaker.until_ns - now) / NS_PER_MS;
    ret->breaker_since_ms = (now - sink->breaker.changed_ns) / NS_PER_MS;
    snprintf(ret->last_error, sizeof ret->last_error, "%s", sink->last_error);
    if (sink->paused)
        snprintf(ret->paused_reason, sizeof ret->paused_reason, "%s", sink->paused_reason);
    if (!sink->loaded) /* the dispatcher may be writing the rest */
        return;
    ret->retrying = sink->retries.live;
    ret->suspects = suspects_events(sink);
    for (int lane = 0; lane < LANES; lane++) {
        ret->cursor[lane] = sink->windows[lane].cursor;
        ret->retrying_in[lane] = sink->retries.live_in[lane];
        ret->done_beyond[lane] = window_finished_events(&sink->windows[lane]);
    }
}

int delivery_sink_status(struct delivery *d, const char *name, struct delivery_sink_status *ret)
{
    pthread_mutex_lock(d->lock);
    const struct sink *sink = name ? sink_find(d, name) : NULL;
    if (sink)
        fill_status(d, sink, ret);
    pthread_mutex_unlock(d->lock);
    return sink ? SPOOL_OK : err_set(SPOOL_ENOTFOUND, "sink %s is not added here", name ? name : "");
}

void delivery_fill_status(const struct delivery *d, const struct sink *sink, struct delivery_sink_status *ret)
{
    fill_status(d, sink, ret);
}

int delivery_sink_metrics(struct delivery *d, const char *name, struct delivery_metrics *ret)
{
    pthread_mutex_lock(d->lock);
    const struct sink *sink = name ? sink_find(d, name) : NULL;
    if (sink)
        *ret = *sink->metrics;
    pthread_mutex_unlock(d->lock);
    return sink ? SPOOL_OK : err_set(SPOOL_ENOTFOUND, "sink %s is not added here", name ? name : "");
}
