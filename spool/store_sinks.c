/* store_sinks.c - sinks: registration, election of the one process that delivers, and what passes through to the state.
 *
 * The deliverer of a sink holds the record lock on sink-<name>.lock, which dies with it. */
#include <fcntl.h>
#include <unistd.h>

#include "store_inside.h"

enum { STATE_DEADLINE_MS = 5000 };

static uint64_t state_deadline(void)
{
    return deadline_in_ms(STATE_DEADLINE_MS);
}

static int refuse_read_only(const struct store *store)
{
    return store->dir.read_only ? err_set(SPOOL_EREADONLY, "%s is open for reading only", store->dir.path) : SPOOL_OK;
}

static int tell_control(struct store *store, int code)
{
    if (code == SPOOL_OK)
        store_tell_change(store, true);
    return code;
}

/* ------------------------------------------------------------------------------------------------- registration */

static int start_cursors(struct store *store, bool from_now, uint64_t ret[LANES])
{
    uint64_t first[LANES], next[LANES];
    memset(ret, 0, LANES * sizeof *ret);
    int code = log_bounds(store->log, state_deadline(), first, next);
    if (!code)
        memcpy(ret, from_now ? next : first, LANES * sizeof *ret);
    return code;
}

int store_sink_register(struct store *store, const char *name, const char *kind, uint32_t order, const char *config,
                        bool from_now, struct store_sink *ret)
{
    uint64_t start[LANES];
    int code = refuse_read_only(store);
    if (!code && from_now)
        code = store_commit(store, state_deadline()); /* what is in our journal is not from now on */
    if (!code)
        code = start_cursors(store, from_now, start);
    if (!code)
        removal_of_namesake(store, name);
    if (!code)
        code = state_sink_register(store->state, name, kind, order, config, start, state_deadline(), ret, NULL);
    if (!code)
        keeper_measure(store);
    return tell_control(store, code);
}

int store_sink_get(struct store *store, const char *name, struct store_sink *ret)
{
    return state_sink_get(store->state, name, state_deadline(), ret);
}

int store_sink_config(struct store *store, const char *name, char **ret)
{
    return state_sink_config(store->state, name, state_deadline(), ret);
}

int store_sink_pause(struct store *store, const char *name, bool paused)
{
    int code = refuse_read_only(store);
    return tell_control(store, code ? code : state_sink_pause(store->state, name, paused, state_deadline()));
}

int store_sink_pause_for(struct store *store, const char *name, const char *reason)
{
    int code = refuse_read_only(store);
    return tell_control(store, code ? code : state_sink_pause_for(store->state, name, reason, state_deadline()));
}

int store_sink_limit(struct store *store, const char *name, uint64_t max_pending_bytes, uint64_t max_pending_age_ms)
{
    return state_sink_limit(store->state, name, max_pending_bytes, max_pending_age_ms, state_deadline());
}

int store_sink_set_best_effort(struct store *store, const char *name, bool best_effort)
{
    return state_sink_set_best_effort(store->state, name, best_effort, state_deadline());
}

int store_sink_set_config(struct store *store, const char *name, const char *config)
{
    int code = refuse_read_only(store);
    return tell_control(store, code ? code : state_sink_set_config(store->state, name, config, state_deadline()));
}

int store_sink_rewind(struct store *store, const char *name, const uint64_t cursor[LANES], uint64_t *ret_again)
{
    int code = refuse_read_only(store);
    return tell_control(store,
                        code ? code : state_sink_rewind(store->state, name, cursor, state_deadline(), ret_again));
}

int store_sink_each_by(struct store *store, uint64_t deadline_ns,
                       int (*each)(void *user, const struct store_sink *sink), void *user)
{
    return state_sink_each(store->state, deadline_ns, each, user);
}

int store_sink_each(struct store *store, int (*each)(void *user, const struct store_sink *sink), void *user)
{
    return store_sink_each_by(store, state_deadline(), each, user);
}

/* ----------------------------------------------------------------------------------------------------- elections */

static void lock_file_name_of(const char *name, char ret[SINK_NAME_MAX + 16])
{
    snprintf(ret, SINK_NAME_MAX + 16, "sink-%s.lock", name);
}

static struct election **find_election(struct store *store, const char *name)
{
    struct election **at = &store->elections;
    while (*at && strcmp((*at)->name, name) != 0)
        at = &(*at)->next;
    return at;
}

/* sinks_mutex held. A second election in this process is refused: the lock belongs to the process. */
static int elect(struct store *store, const char *name)
{
    char file[SINK_NAME_MAX + 16];
    lock_file_name_of(name, file);
    if (*find_election(store, name))
        return err_set(SPOOL_EBUSY, "sink %s is delivered to by this process already", name);
    struct election *election = calloc(1, sizeof *election);
    if (!election)
        return err_errno(ENOMEM, "sink %s", name);
    snprintf(election->name, sizeof election->name, "%s", name);
    int code = lock_open(store->dir.fd, file, false, store->dir.file_mode, NULL, &election->lock);
    if (!code)
        code = lock_take(election->lock, LOCK_EXCLUSIVE, 0);
    if (code) {
        lock_close(election->lock);
        free(election);
        return code == SPOOL_ETIMEOUT ? err_set(SPOOL_EBUSY, "sink %s: another process delivers to it", name) : code;
    }
    election->hand = hand_open(&store->dir, name, &store->options.reporter);
    election->next = store->elections;
    store->elections = election;
    return SPOOL_OK;
}

int store_sink_elect(struct store *store, const char *name)
{
    int code = refuse_read_only(store);
    if (code)
        return code;
    pthread_mutex_lock(&store->sinks_mutex);
    code = elect(store, name);
    pthread_mutex_unlock(&store->sinks_mutex);
    return code;
}

void store_sink_release(struct store *store, const char *name)
{
    pthread_mutex_lock(&store->sinks_mutex);
    struct election **at = find_election(store, name), *election = *at;
    if (election) {
        *at = election->next;
        hand_close(election->hand);
        lock_drop(election->lock, LOCK_EXCLUSIVE);
        lock_close(election->lock);
        free(election);
    }
    pthread_mutex_unlock(&store->sinks_mutex);
    if (election)
        store_tell_change(store, true); /* others may take over */
}

struct store_hand *store_sink_hand(struct store *store, const char *name)
{
    pthread_mutex_lock(&store->sinks_mutex);
    struct election *election = *find_election(store, name);
    struct store_hand *hand = election ? election->hand : NULL;
    store_hand_ref(hand);
    pthread_mutex_unlock(&store->sinks_mutex);
    return hand;
}

bool store_sink_is_served(struct store *store, const char *name)
{
    char file[SINK_NAME_MAX + 16];
    lock_file_name_of(name, file);
    pthread_mutex_lock(&store->sinks_mutex); /* closing the file below would drop our own lock on it */
    bool served = *find_election(store, name) != NULL;
    struct lock *lock = NULL;
    if (!served && faccessat(store->dir.fd, file, F_OK, 0) == 0 &&
        lock_open(store->dir.fd, file, true, store->dir.file_mode, NULL, &lock) == SPOOL_OK) {
        served = lock_is_held_elsewhere(lock, LOCK_SHARED);
        lock_close(lock);
    }
    pthread_mutex_unlock(&store->sinks_mutex);
    return served;
}

/* ----------------------------------------------------------------------------------------- what a deliverer says */

void store_sink_publish(struct store *store, const char *name, const void *bytes, size_t size)
{
    pthread_mutex_lock(&store->sinks_mutex);
    struct election *election = *find_election(store, name);
    int code = election && size <= STORE_PUBLISHED_MAX ? lock_note(election->lock, bytes, size) : SPOOL_OK;
    pthread_mutex_unlock(&store->sinks_mutex);
    if (code)
        report(&store->options.reporter, SPOOL_LOG_DEBUG, "sink %s: what it does is not published: %s", name,
               err_last());
}

int store_sink_published(struct store *store, const char *name, uint8_t **ret, size_t *ret_size)
{
    char file[SINK_NAME_MAX + 16];
    struct lock *lock = NULL;
    lock_file_name_of(name, file);
    pthread_mutex_lock(&store->sinks_mutex); /* as in store_sink_is_served() */
    struct election *election = *find_election(store, name);
    int code = SPOOL_OK;
    if (!election && faccessat(store->dir.fd, file, F_OK, 0) != 0)
        code = err_set(SPOOL_ENOTFOUND, "sink %s: nobody has delivered to it", name);
    else if (!election)
        code = lock_open(store->dir.fd, file, true, store->dir.file_mode, NULL, &lock);
    if (!code)
        code = lock_read_note(election ? election->lock : lock, STORE_PUBLISHED_MAX, ret, ret_size);
    lock_close(lock);
    pthread_mutex_unlock(&store->sinks_mutex);
    return code;
}

/* ------------------------------------------------------------------------------------ acknowledgement and retries */

int store_ack(struct store *store, const struct store_ack *ack, uint64_t deadline_ns)
{
    int code = state_ack(store->state, ack, deadline_ns);
    if (code)
        return code;
    if (limits_used_bytes(store) > store->options.max_bytes / 2)
        atomic_store(&store->pressure, true);
    wake_bump(store->wake, false); /* somebody may wait in spool_drain() */
    return SPOOL_OK;
}

int store_checkpoint(struct store *store, uint32_t sink_id, void *buf, size_t cap, size_t *ret_size)
{
    return state_checkpoint(store->state, sink_id, state_deadline(), buf, cap, ret_size);
}

int store_retry_each_by(struct store *store, uint32_t sink_id, uint64_t deadline_ns,
                        int (*each)(void *user, const struct store_retry *row), void *user)
{
    return state_retry_each(store->state, sink_id, deadline_ns, each, user);
}

int store_retry_each(struct store *store, uint32_t sink_id, int (*each)(void *user, const struct store_retry *row),
                     void *user)
{
    return store_retry_each_by(store, sink_id, state_deadline(), each, user);
}

int store_retry_event(struct store *store, uint32_t sink_id, int lane, uint64_t seq, uint8_t **ret, size_t *ret_size)
{
    return state_retry_event(store->state, sink_id, lane, seq, state_deadline(), ret, ret_size);
}
