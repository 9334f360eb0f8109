/* probe.c - one event to one sink, outside the spool: does it arrive? For people who have just configured a sink.
 *
 * A sink that keeps checkpoints must find here what it finds in delivery: the one stored last at open, and one that is
 * stored before its first event (delivery.h says who does what).
 *
 * The hooks run on a thread of their own, with signals blocked as in delivery; when the time is over they are
 * cancelled, and one that does not come back even then is given up: its thread and memory stay until it does. */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/base/error.h"
#include "../lib/base/event.h"
#include "../lib/base/sync.h"
#include "bench.h"
#include "delivery.h"

static const uint64_t grace_ns = 2000 * NS_PER_MS; /* for a hook to return once it was cancelled */

struct probe {
    atomic_int refs;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t over;
    bool done, open;
    struct spool_sink hooks;
    char *config;
    void *state;
    bool has_event;
    struct delivery_checkpoint checkpoint; /* until open the one stored last; in the end what is to be stored */
    struct batch batch;
    struct retry_row row;
    struct bench bench;
    int code;
    char message[REASON_MAX + 1];
};

static void probe_unref(struct probe *p)
{
    if (atomic_fetch_sub(&p->refs, 1) != 1)
        return;
    batch_clear(&p->batch);
    free(p->batch.rows);
    bench_free(&p->bench);
    free(p->config);
    pthread_cond_destroy(&p->over);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

/* ------------------------------------------------------------------------------------------------------- the thread */

static void keep(struct probe *p, int code, const char *message)
{
    p->code = code;
    snprintf(p->message, sizeof p->message, "%s", *message ? message : spool_strerror(code));
}

static bool does_not_go_on(void *user)
{
    (void)user;
    return false;
}

static void judge(struct probe *p, int code)
{
    const struct bench_item *item = p->bench.items;
    const char *reason = bench_reason(&p->bench, item);
    if (item->verdict == VERDICT_DELIVERED)
        keep(p, SPOOL_OK, "");
    else if (item->verdict == VERDICT_REJECTED)
        keep(p, SPOOL_EREJECTED, *reason ? reason : "the sink rejected the event and gave no reason");
    else if (item->verdict == VERDICT_RETRY)
        keep(p, SPOOL_EUNAVAILABLE, *reason ? reason : "the sink asked for another try and gave no reason");
    else
        keep(p, code ? code : SPOOL_EUNAVAILABLE, delivery_sink_message());
}

static int open_state(struct probe *p)
{
    void *state = NULL;
    spool_sink_error(SPOOL_OK, "%s", "");
    int code =
        p->hooks.open ? p->hooks.open(&state, NULL, p->config, p->checkpoint.bytes, p->checkpoint.size) : SPOOL_OK;
    pthread_mutex_lock(&p->lock);
    p->state = state;
    p->open = code == SPOOL_OK;
    if (code != SPOOL_OK)
        keep(p, code, delivery_sink_message());
    pthread_mutex_unlock(&p->lock);
    return code;
}

/* Without it what the sink has taken is worth nothing: it will be cut off. */
static void take_checkpoint(struct probe *p)
{
    spool_sink_error(SPOOL_OK, "%s", "");
    size_t size = p->hooks.checkpoint(p->state, p->checkpoint.bytes, sizeof p->checkpoint.bytes);
    if (size > sizeof p->checkpoint.bytes)
        keep(p, SPOOL_EUNAVAILABLE, delivery_sink_message());
    else
        p->checkpoint.size = size;
}

static void deliver(struct probe *p)
{
    int code = bench_load(&p->bench, &p->batch, SPOOL_ORDER_NONE, 0);
    if (code == SPOOL_OK) {
        bench_lay_out(&p->bench);
        code = bench_deliver(&p->bench, &p->hooks, p->state, does_not_go_on, NULL);
    }
    pthread_mutex_lock(&p->lock);
    if (p->bench.count == 1)
        judge(p, code);
    else
        keep(p, code, err_last());
    pthread_mutex_unlock(&p->lock);
}

static void close_state(struct probe *p)
{
    pthread_mutex_lock(&p->lock);
    p->open = false; /* not cancelled from here on */
    pthread_mutex_unlock(&p->lock);
    if (p->hooks.close)
        p->hooks.close(p->state);
}

static void *run(void *arg)
{
    struct probe *p = arg;
    if (open_state(p) == SPOOL_OK) {
        if (p->has_event)
            deliver(p);
        if (p->hooks.checkpoint && p->code == SPOOL_OK) /* else the next open takes back what it left */
            take_checkpoint(p);
        close_state(p);
    }
    pthread_mutex_lock(&p->lock);
    p->done = true;
    pthread_cond_broadcast(&p->over);
    pthread_mutex_unlock(&p->lock);
    probe_unref(p);
    return NULL;
}

/* ------------------------------------------------------------------------------------------------------- the caller */

static int pack(struct probe *p, const struct spool_event *event, const struct spool_id *id)
{
    struct event_measure measure;
    int code = event_measure(event, SIZE_MAX, &measure);
    if (code == SPOOL_OK && batch_add_row(&p->batch, &p->row) != SPOOL_OK)
        code = err_errno(ENOMEM, "probe");
    if (code != SPOOL_OK)
        return code;
    struct batch_row *row = &p->batch.rows[0];
    row->size = measure.packed_size;
    row->packed = aligned_alloc(8, measure.packed_size);
    if (!row->packed)
        return err_errno(ENOMEM, "probe");
    event_pack(event, &measure, id, row->packed);
    return SPOOL_OK;
}

static int probe_new(const struct delivery_probe *request, struct probe **ret)
{
    struct probe *p = calloc(1, sizeof *p);
    if (!p)
        return err_errno(ENOMEM, "probe");
    atomic_init(&p->refs, 1);
    int err = pthread_mutex_init(&p->lock, NULL);
    if (err == 0 && (err = cond_init(&p->over)) != 0)
        pthread_mutex_destroy(&p->lock);
    if (err) {
        free(p);
        return err_errno(err, "probe");
    }
    p->hooks = *request->sink;
    p->checkpoint = request->checkpoint;
    p->has_event = request->event != NULL;
    p->batch.kind = BATCH_RETRY;
    p->config = strdup(request->config);
    int code = p->config ? SPOOL_OK : err_errno(ENOMEM, "probe");
    if (code == SPOOL_OK && p->has_event)
        code = pack(p, request->event, request->id);
    if (code == SPOOL_OK)
        *ret = p;
    else
        probe_unref(p);
    return code;
}

/* With the lock held: until it is done or the deadline. Cancel may itself hang, as any hook; it is called from here. */
static void await(struct probe *p, uint64_t deadline_ns)
{
    while (!p->done && cond_wait_until(&p->over, &p->lock, deadline_ns) == 0) {
    }
    if (p->done || !p->open || !p->hooks.cancel)
        return;
    p->hooks.cancel(p->state); /* under our lock, so that the state is not closed meanwhile */
    uint64_t until_ns = mono_ns() + grace_ns;
    while (!p->done && cond_wait_until(&p->over, &p->lock, until_ns) == 0) {
    }
}

/* What came of it. */
static int collect(struct probe *p, struct delivery_probe *request)
{
    pthread_mutex_lock(&p->lock);
    await(p, request->deadline_ns);
    int code = p->code;
    request->hangs = !p->done;
    if (request->hangs)
        code = err_set(SPOOL_ETIMEOUT, "the sink did not answer in time, nor when it was cancelled");
    else if (code)
        err_set(code, "%s", p->message);
    else
        request->checkpoint = p->checkpoint;
    pthread_mutex_unlock(&p->lock);
    return code;
}

int delivery_probe(struct delivery_probe *request)
{
    struct probe *p = NULL;
    pthread_t thread;
    request->hangs = false;
    int code = probe_new(request, &p);
    if (code != SPOOL_OK)
        return code;
    atomic_fetch_add(&p->refs, 1);
    code = thread_start(&thread, "spool-probe", run, p);
    if (code != SPOOL_OK) {
        probe_unref(p);
        probe_unref(p);
        return code;
    }
    pthread_detach(thread);
    code = collect(p, request);
    probe_unref(p);
    return code;
}
