/* store_inspect.c - reading the log, statistics, verification: what passes through to the stages, with its deadlines. */
#include "limits_sinks.h"
#include "store_inside.h"

enum { READ_DEADLINE_MS = 5000, LOOK_DEADLINE_MS = 1000 };

static uint64_t read_deadline(void)
{
    return deadline_in_ms(READ_DEADLINE_MS);
}

void store_block_ref(struct store_block *block)
{
    atomic_fetch_add_explicit(&block->refs, 1, memory_order_relaxed);
}

void store_block_unref(struct store_block *block)
{
    if (block && atomic_fetch_sub_explicit(&block->refs, 1, memory_order_acq_rel) == 1)
        free(block);
}

int store_read(struct store *store, int lane, uint64_t seq, uint64_t deadline_ns, struct store_block **ret,
               uint64_t *ret_skip_to)
{
    return log_read(store->log, lane, seq, deadline_ns, ret, ret_skip_to);
}

int store_bounds_by(struct store *store, uint64_t deadline_ns, uint64_t ret_first[LANES], uint64_t ret_next[LANES])
{
    return log_bounds(store->log, deadline_ns, ret_first, ret_next);
}

int store_bounds(struct store *store, uint64_t ret_first[LANES], uint64_t ret_next[LANES])
{
    return store_bounds_by(store, read_deadline(), ret_first, ret_next);
}

void store_bounds_known(struct store *store, uint64_t deadline_ns, uint64_t ret_first[LANES], uint64_t ret_next[LANES])
{
    uint64_t look = deadline_in_ms(LOOK_DEADLINE_MS);
    if (log_bounds(store->log, look < deadline_ns ? look : deadline_ns, ret_first, ret_next))
        log_bounds_known(store->log, ret_first, ret_next);
}

uint64_t store_events_from(struct store *store, const uint64_t cursor[LANES])
{
    return log_events_from(store->log, cursor);
}

int store_seek(struct store *store, int lane, const struct spool_id *id, uint64_t *ret_seq)
{
    return log_seek(store->log, lane, id, read_deadline(), ret_seq);
}

uint32_t store_change(const struct store *store)
{
    return wake_change(store->wake);
}

uint32_t store_control(const struct store *store)
{
    return wake_control(store->wake);
}

int store_wait_change(struct store *store, uint32_t seen, uint64_t deadline_ns)
{
    return wake_wait(store->wake, seen, deadline_ns);
}

void store_reclaim(struct store *store)
{
    if (store->dir.read_only)
        return;
    limits_of_sinks(store);
    limits_reclaim(store);
}

int store_clock_lease(struct store *store, const struct spool_id *stamp)
{
    enum { LEASE_MS = 1000 };
    int code = SPOOL_OK;
    pthread_mutex_lock(&store->clock_mutex);
    if (!store->dir.read_only && memcmp(stamp, &store->clock_lease, sizeof *stamp) > 0) {
        struct spool_id lease;
        id_max_at_ns(spool_id_time_ns(stamp) + LEASE_MS * NS_PER_MS, &lease);
        code = state_clock_raise(store->state, &lease, read_deadline());
        if (!code)
            store->clock_lease = lease;
    }
    pthread_mutex_unlock(&store->clock_mutex);
    return code;
}

void store_clock_reset(struct store *store)
{
    wake_clock_reset(store->wake);
}

/* ---------------------------------------------------------------------------------------------------- statistics */

static void stats_of_state(struct store_stats *stats, const struct state_stats *state)
{
    stats->dropped_events = state->counters[STATE_DROPPED_EVENTS];
    stats->damaged_blocks = state->counters[STATE_DAMAGED_BLOCKS];
    stats->damaged_events = state->counters[STATE_DAMAGED_EVENTS];
    stats->dead_letters = state->dead_letters;
    stats->seen_blocks = state->seen_blocks;
    stats->seen_events = state->seen_events;
}

static void stats_of_handle(struct store *store, struct store_stats *stats)
{
    pthread_mutex_lock(&store->append_mutex);
    stats->enqueued_events = store->enqueued_events;
    stats->enqueued_bytes = store->enqueued_bytes;
    stats->rejected_full = store->rejected_full;
    if (store->ring)
        stats->unapplied_bytes = journal_head(store->ring->journal) - journal_applied(store->ring->journal);
    pthread_mutex_unlock(&store->append_mutex);
    stats->recovered_events = atomic_load(&store->recovered_events);
    stats->max_bytes = store->options.max_bytes;
    stats->disk_full = atomic_load(&store->disk_full);
}

int store_stats(struct store *store, struct store_stats *ret)
{
    struct store_stats stats = {0};
    struct log_stats log;
    struct state_stats state;
    int code = log_stats(store->log, &log);
    if (!code)
        code = state_stats(store->state, read_deadline(), &state);
    if (code)
        return code;
    stats_of_handle(store, &stats);
    stats_of_state(&stats, &state);
    stats.stored_events = log.events;
    stats.segments = log.segments;
    keeper_measure(store);
    stats.used_bytes = limits_used_bytes(store);
    stats.journals = atomic_load(&store->journal_count);
    if (store->dir.read_only)
        recovery_inspect(store, &stats.dead_journals, &stats.journals);
    *ret = stats;
    return SPOOL_OK;
}

void store_flush_times(struct store *store, struct histogram *ret)
{
    memset(ret, 0, sizeof *ret);
    pthread_mutex_lock(&store->append_mutex);
    if (store->ring)
        journal_flush_times(store->ring->journal, ret);
    pthread_mutex_unlock(&store->append_mutex);
}

int store_verify(struct store *store, void (*each)(void *user, const struct spool_finding *finding),
                 void (*progress)(void *user, uint64_t done_bytes, uint64_t all_bytes), void *user,
                 struct spool_verify_report *ret)
{
    struct spool_verify_report found = {.size = sizeof found};
    struct store_stats stats;
    int code = store_stats(store, &stats);
    if (!code)
        code = log_verify(store->log, each, progress, user, &found);
    if (!code || code == SPOOL_EDAMAGED)
        code = state_verify(store->state, read_deadline(), each, user, &found);
    if (code && code != SPOOL_EDAMAGED)
        return code;
    found.journals = stats.journals;
    *ret = found;
    if (!found.findings)
        return SPOOL_OK;
    return err_set(SPOOL_EDAMAGED, "%s: %llu finding(s)", store->dir.path, (unsigned long long)found.findings);
}

/* ------------------------------------------------------------------------------------------------------------ seen */

enum { FINDING_TEXT = 400 };

static const char *text_of(const struct spool_finding *finding, char text[FINDING_TEXT])
{
    snprintf(text, FINDING_TEXT, "%.100s: %.250s", finding->file, finding->what);
    return text;
}

int store_seen_mark(struct store *store, const struct spool_finding *finding)
{
    char text[FINDING_TEXT];
    return state_seen_mark(store->state, text_of(finding, text), read_deadline());
}

bool store_seen_has(struct store *store, const struct spool_finding *finding)
{
    char text[FINDING_TEXT];
    return state_seen_has(store->state, text_of(finding, text), read_deadline());
}

int store_seen_all(struct store *store)
{
    return state_seen_all(store->state, read_deadline());
}
