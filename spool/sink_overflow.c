/* sink_overflow.c - how much waits for one sink, and dropping what is too much of it: see limits_sinks.c. */
#include "limits_sinks.h"
#include "store_inside.h"

int store_sink_overflow(struct store *store, const uint64_t cursor[LANES], uint64_t max_bytes, uint64_t max_age_ms,
                        uint64_t ret_upto[LANES])
{
    uint64_t upto[LANES];
    memcpy(upto, cursor, sizeof upto);
    int code = max_bytes > 0 ? log_overflow(store->log, cursor, max_bytes, upto) : SPOOL_OK;
    uint64_t now_ns = hlc_physical_ns(store->clock), age_ns;
    if (__builtin_mul_overflow(max_age_ms, NS_PER_MS, &age_ns) || age_ns > now_ns)
        age_ns = 0; /* older than time itself: no limit */
    struct spool_id oldest;
    id_min_at_ns(now_ns - age_ns, &oldest);
    for (int lane = 0; lane < LANES && !code && age_ns > 0; lane++) {
        uint64_t seq;
        code = log_seek(store->log, lane, &oldest, lock_slice(), &seq);
        if (!code && seq > upto[lane])
            upto[lane] = seq;
    }
    if (!code)
        memcpy(ret_upto, upto, sizeof upto);
    return code;
}

int limits_sink_each(struct store *store, int (*each)(void *user, const struct store_sink *sink), void *user)
{
    return store_sink_each_by(store, lock_slice(), each, user);
}

int limits_sink_get(struct store *store, const char *name, struct store_sink *ret)
{
    return state_sink_get(store->state, name, lock_slice(), ret);
}

const struct reporter *limits_reporter(const struct store *store)
{
    return &store->options.reporter;
}

int limits_sink_drop(struct store *store, const char *name, const uint64_t upto[LANES])
{
    uint64_t dropped = 0;
    int code = state_sink_drop_below(store->state, name, upto, lock_slice(), &dropped);
    if (code || !dropped)
        return code;
    notify(&store->options.reporter, SPOOL_NOTICE_DROPPED, name, NULL, dropped,
           "more waited for the sink than its limits allow: its %llu oldest event(s) were dropped",
           (unsigned long long)dropped);
    store_tell_change(store, true);
    return SPOOL_OK;
}
