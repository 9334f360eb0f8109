/* store_removal.c - removing a sink, also while somebody delivers to it.
 *
 * It is marked in its row first. Whoever delivers to it hears of that as of every change of control, stores what the sink has
 * answered, and lets go of it; nobody else takes it over. Whoever gets its election then removes it: the one who asked and
 * waits for that, or else the keeper of any process, within a second, or whoever opens the spool next. So what was asked for
 * happens, whoever dies meanwhile, and once: a sink that was registered anew under the name has no mark. */
#include "store_inside.h"

enum { LOOK_AGAIN_MS = 250 }; /* a deliverer that dies tells nobody */

/* Another sink of that name begins without. */
static void forget_suspects(struct store *store, const char *name)
{
    struct store_hand *hand = store_sink_hand(store, name);
    store_hand_keep(hand, NULL, 0);
    store_hand_unref(hand);
}

/* SPOOL_EBUSY: somebody delivers to it still. */
static int remove_marked(struct store *store, const char *name, uint64_t deadline_ns)
{
    int code = store_sink_elect(store, name); /* nobody delivers while it goes */
    if (code)
        return code;
    code = state_sink_remove_marked(store->state, name, deadline_ns);
    if (!code)
        forget_suspects(store, name);
    store_sink_release(store, name);
    /* The lock file stays: another process may wait for its lock, and a new file would be a second lock. */
    if (!code)
        atomic_store(&store->pressure, true);
    return code == SPOOL_ENOTFOUND ? SPOOL_OK : code; /* somebody else was faster */
}

int store_sink_ask_removal(struct store *store, const char *name, uint64_t deadline_ns)
{
    int code =
        store->dir.read_only ? err_set(SPOOL_EREADONLY, "%s is open for reading only", store->dir.path) : SPOOL_OK;
    if (!code)
        code = state_sink_mark_removal(store->state, name, deadline_ns);
    if (!code)
        store_tell_change(store, true);
    return code;
}

/* Somebody else has removed it; one of its name may be served since. */
static bool is_gone(struct store *store, const char *name, uint64_t deadline_ns)
{
    struct store_sink *sink = malloc(sizeof *sink); /* 8 KiB of ranges: too much for some stacks */
    int code = sink ? state_sink_get(store->state, name, deadline_ns, sink) : ENOMEM;
    bool gone = code == SPOOL_ENOTFOUND || (!code && !sink->removing);
    free(sink);
    return gone;
}

int store_sink_await_removal(struct store *store, const char *name, uint64_t deadline_ns)
{
    int code;
    for (;;) {
        uint32_t seen = store_change(store);
        uint64_t again_ns = deadline_in_ms(LOOK_AGAIN_MS);
        code = remove_marked(store, name, deadline_ns);
        if (code == SPOOL_EBUSY && is_gone(store, name, deadline_ns))
            code = SPOOL_OK;
        if (code != SPOOL_EBUSY)
            break;
        if (mono_ns() >= deadline_ns)
            return err_set(
                SPOOL_ETIMEOUT,
                "sink %s: who delivers to it has not let go of it yet; it is removed as soon as that happens", name);
        store_wait_change(store, seen, again_ns < deadline_ns ? again_ns : deadline_ns);
    }
    if (!code)
        store_tell_change(store, true);
    return code;
}

int store_sink_remove(struct store *store, const char *name, uint64_t deadline_ns)
{
    int code = store_sink_ask_removal(store, name, deadline_ns);
    return code ? code : store_sink_await_removal(store, name, deadline_ns);
}

/* ------------------------------------------------------------------------------------------- what nobody waits for */

static int finish_one(void *user, const struct store_sink *sink)
{
    struct store *store = user;
    int code = sink->removing ? remove_marked(store, sink->name, lock_slice()) : SPOOL_OK;
    if (code && code != SPOOL_EBUSY && code != SPOOL_ETIMEOUT)
        report(&store->options.reporter, SPOOL_LOG_WARNING, "sink %s is to be removed: %s", sink->name, err_last());
    return 0;
}

void removals_finish(struct store *store)
{
    int code = state_sink_each(store->state, lock_slice(), finish_one, store);
    if (code && code != SPOOL_ETIMEOUT)
        report(&store->options.reporter, SPOOL_LOG_WARNING, "removing sinks: %s", err_last());
}

/* Where it is served still, the new one waits for its election. */
void removal_of_namesake(struct store *store, const char *name)
{
    struct store_sink *sink = malloc(sizeof *sink); /* 8 KiB of ranges: too much for some stacks */
    if (sink && state_sink_get(store->state, name, lock_slice(), sink) == SPOOL_OK)
        finish_one(store, sink);
    free(sink);
}
