/* drain.c - waiting until no sink holds anything of what was there. */
#include "handle.h"

struct draining {
    struct spool *spool;
    uint64_t deadline_ns;
    uint64_t first[LANES], upto[LANES]; /* what was there at the call */
    uint32_t sinks, behind;
    char message[256]; /* names the first that is behind */
};

static int find_early_row(void *user, const struct store_retry *row)
{
    struct draining *draining = user;
    return row->seq < draining->upto[row->lane] || row->seq >= SEQ_DETACHED;
}

static bool has_early_rows(struct draining *draining, const struct store_sink *sink)
{
    return sink->retry_rows &&
           store_retry_each_by(draining->spool->store, sink->id, draining->deadline_ns, find_early_row, draining) !=
               0; /* there is one, or it cannot be told */
}

static bool is_behind(struct draining *draining, const struct store_sink *sink)
{
    for (int lane = 0; lane < LANES; lane++) {
        if (sink->cursor[lane] < draining->upto[lane] && draining->upto[lane] > draining->first[lane])
            return true;
    }
    return has_early_rows(draining, sink);
}

static int look_at_sink(void *user, const struct store_sink *sink)
{
    struct draining *draining = user;
    if (sink->removing)
        return 0; /* nobody delivers to it any more */
    draining->sinks++;
    if (!is_behind(draining, sink))
        return 0;
    if (draining->behind++ > 0)
        return 0;
    struct pending pending;
    pending_of(draining->spool, sink, draining->deadline_ns, &pending);
    snprintf(draining->message, sizeof draining->message, "sink %s holds %llu event(s)%s", sink->name,
             (unsigned long long)pending.events, sink->paused ? " and is paused" : "");
    return 0;
}

static bool anything_waits(const struct draining *draining)
{
    for (int lane = 0; lane < LANES; lane++) {
        if (draining->upto[lane] > draining->first[lane])
            return true;
    }
    return false;
}

/* Looks at every sink; SPOOL_OK when none is behind, SPOOL_EBUSY when it is worth waiting. */
static int look(struct draining *draining)
{
    draining->sinks = draining->behind = 0;
    int code = store_sink_each_by(draining->spool->store, draining->deadline_ns, look_at_sink, draining);
    if (code)
        return code;
    if (!draining->sinks && anything_waits(draining))
        return err_set(SPOOL_ENOTFOUND, "%s: events wait, but no sink is registered: add one (spool sink add)",
                       draining->spool->dir);
    return draining->behind ? SPOOL_EBUSY : SPOOL_OK;
}

static int wait_drained(struct draining *draining)
{
    uint64_t deadline = draining->deadline_ns;
    struct store *store = draining->spool->store;
    for (;;) {
        uint32_t seen = store_change(store);
        int code = delivery_settle(draining->spool->delivery, deadline);
        if (!code || code == SPOOL_ETIMEOUT)
            code = look(draining);
        if (code != SPOOL_EBUSY)
            return code;
        if (mono_ns() >= deadline)
            return err_set(SPOOL_ETIMEOUT, "%s%s", draining->message,
                           draining->behind > 1 ? ", and others hold some too" : "");
        uint64_t soon = deadline_in_ms(100);
        store_wait_change(store, seen, soon < deadline ? soon : deadline);
    }
}

static void reclaim(struct spool *spool)
{
    struct file_size_signal signal;
    file_size_signal_hold(&signal);
    store_reclaim(spool->store);
    file_size_signal_release(&signal);
}

int spool_drain(struct spool *spool, uint32_t timeout_ms)
{
    struct draining draining = {.spool = spool, .deadline_ns = deadline_in_ms(timeout_ms)};
    int code = handle_check(spool);
    if (!code && thread_is_ours())
        code = err_set(SPOOL_EDEADLK, "spool_drain() from a thread of the library would wait for itself");
    if (!code)
        code = store_commit(spool->store, draining.deadline_ns);
    if (!code)
        code = store_bounds_by(spool->store, draining.deadline_ns, draining.first, draining.upto);
    if (!code)
        code = wait_drained(&draining);
    if (!code)
        reclaim(spool); /* whoever drains may be gone before the keeper's next round */
    return code;
}
