/* keeper.c - the thread that watches the other processes and keeps house.
 *
 * It waits on the shared futex word: a commit or change of control by any process is passed on to delivery. Once a second,
 * or sooner when somebody waits for room, it adopts journals of dead peers and deletes what is delivered. */
#include "limits_sinks.h"
#include "store_inside.h"

void keeper_measure(struct store *store)
{
    /* What is committed while we look may be counted twice, but never not at all: the limit holds. */
    uint64_t bytes, journals, grown = log_grown_bytes(store->log);
    if (dir_used_bytes(&store->dir, &bytes, &journals) == SPOOL_OK) {
        atomic_store(&store->measured_bytes, bytes - grown);
        atomic_store(&store->journal_count, (uint32_t)journals);
    }
    uint64_t cursor[LANES];
    uint32_t sinks;
    if (!store->dir.read_only && state_low_cursor(store->state, lock_slice(), cursor, &sinks) == SPOOL_OK)
        atomic_store(&store->sink_count, sinks);
}

/* An operator's word for all processes; and physical time follows what the kernel says of the wall clock. */
static void keep_time(struct store *store)
{
    uint32_t resets = wake_clock_resets(store->wake);
    if (resets != store->clock_resets)
        hlc_reset(store->clock);
    store->clock_resets = resets;
    hlc_poll(store->clock, true);
}

static void keep_house(struct store *store)
{
    keep_time(store);
    atomic_store(&store->pressure, false);
    pthread_mutex_lock(&store->append_mutex);
    store->want_room = false;
    pthread_mutex_unlock(&store->append_mutex);
    recovery_adopt_dead(store);
    if (mono_ns() >= store->sinks_again_ns) {
        store->sinks_again_ns = mono_ns() + HOUSEKEEP_MS * NS_PER_MS;
        limits_of_sinks(store);
        removals_finish(store);
    }
    limits_reclaim(store);
    pthread_mutex_lock(&store->append_mutex);
    pthread_cond_broadcast(&store->room_cond);
    pthread_mutex_unlock(&store->append_mutex);
}

static bool is_stopping(struct store *store, bool *ret_want_room)
{
    pthread_mutex_lock(&store->append_mutex);
    bool stopping = store->stopping;
    *ret_want_room = store->want_room;
    pthread_mutex_unlock(&store->append_mutex);
    return stopping;
}

void *keeper_run(void *arg)
{
    enum { PRESSURE_MS = 20 };
    struct store *store = arg;
    uint32_t seen = wake_change(store->wake);
    uint64_t last = mono_ns();
    bool want_room;
    while (!is_stopping(store, &want_room)) {
        uint64_t pause_ms = want_room || atomic_load(&store->pressure) ? PRESSURE_MS : HOUSEKEEP_MS;
        uint64_t due = last + pause_ms * NS_PER_MS;
        if (mono_ns() >= due) {
            keep_house(store);
            last = mono_ns();
            continue;
        }
        if (wake_wait(store->wake, seen, due) == SPOOL_OK) {
            seen = wake_change(store->wake);
            if (store->options.on_change)
                store->options.on_change(store->options.change_user);
        }
    }
    return NULL;
}
