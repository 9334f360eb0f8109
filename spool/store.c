/* store.c - opening and closing: ties directory, locks, clock, state, log, journal and the two threads together.
 *
 * Order of opening: the directory is checked, the wake page and the locks are there, then the state (salvaged if need be), the
 * log, what the log's snapshot knows better than a salvaged state, the clock above every id on disk, the dead journals, and
 * last the threads. Closing goes backwards, and every step of it is bounded by the deadline. */
#include <unistd.h>

#include "store_inside.h"

enum { OPEN_DEADLINE_MS = 10000, STATE_MAP_MIN = 16 << 20 };
static const uint64_t DEFAULT_MAX_BYTES = 8ull << 30;

void store_tell_change(struct store *store, bool control)
{
    wake_bump(store->wake, control);
    if (store->options.on_change)
        store->options.on_change(store->options.change_user);
}

/* `once`: what is counted but one time; NULL: counted. */
static void count_damage(struct store *store, const char *once, uint64_t events)
{
    int code = state_count(store->state, STATE_DAMAGED_BLOCKS, 1, once, lock_slice());
    if (!code && events)
        code = state_count(store->state, STATE_DAMAGED_EVENTS, events, NULL, lock_slice());
    if (code)
        report(&store->options.reporter, SPOOL_LOG_WARNING, "counting the damage: %s", err_last());
}

void store_damaged(void *user, const char *file, const char *what, uint64_t events)
{
    struct store *store = user;
    char once[400];
    snprintf(once, sizeof once, "%.120s: %.250s", file, what);
    if (!store->dir.read_only && store->state)
        count_damage(store, once, events);
    notify(&store->options.reporter, SPOOL_NOTICE_DAMAGE, NULL, NULL, events, "%s: %s", file, what);
}

static int snapshot(void *user, struct buffer *out)
{
    struct store *store = user;
    return store->state ? state_snapshot(store->state, lock_slice(), out) : SPOOL_OK;
}

/* Behind all that the state speaks of. */
static int known_next(void *user, uint64_t deadline_ns, uint64_t ret_next[LANES])
{
    struct store *store = user;
    return state_known_next(store->state, true, deadline_ns, ret_next);
}

/* ------------------------------------------------------------------------------------------------------- opening */

static int make_mutexes(struct store *store)
{
    int err = pthread_mutex_init(&store->append_mutex, NULL);
    if (!err)
        err = pthread_mutex_init(&store->sinks_mutex, NULL);
    if (!err)
        err = pthread_mutex_init(&store->clock_mutex, NULL);
    if (!err)
        err = cond_init(&store->committer_cond);
    if (!err)
        err = cond_init(&store->room_cond);
    store->mutexes_made = !err;
    return err ? err_errno(err, "opening a spool") : SPOOL_OK;
}

static int open_locks(struct store *store)
{
    bool read_only = store->dir.read_only;
    mode_t mode = store->dir.file_mode;
    int code = wake_open(store->dir.fd, read_only, mode, &store->wake);
    if (code)
        return code;
    struct wake_page *page = wake_page(store->wake);
    code = lock_open(store->dir.fd, "log.lock", read_only, mode, page ? &page->log : NULL, &store->log_lock);
    if (code)
        return code;
    return lock_open(store->dir.fd, "state.lock", read_only, mode, page ? &page->state : NULL, &store->state_lock);
}

static uint64_t state_map_bytes(uint64_t max_bytes)
{
    uint64_t bytes = max_bytes / 4, most = 2ull << 30;
    bytes = bytes > most ? most : bytes;
    return round_up(bytes > STATE_MAP_MIN ? bytes : STATE_MAP_MIN, 4096);
}

static uint64_t wall_ns(void *user)
{
    const struct store *store = user;
    return hlc_physical_ns(store->clock);
}

static int open_state(struct store *store, uint64_t deadline, bool *ret_salvaged)
{
    const struct state_options options = {
        .dir = &store->dir,
        .lock = store->state_lock,
        .map_bytes = state_map_bytes(store->options.max_bytes),
        .reporter = store->options.reporter,
        .damaged = store_damaged,
        .damaged_user = store,
        .wall_ns = wall_ns,
        .wall_user = store,
    };
    int code = state_open(&options, deadline, &store->state, ret_salvaged);
    if (!code && *ret_salvaged && !store->dir.read_only && state_is_rebuilt(store->state))
        count_damage(store, NULL, 0); /* it was told before there was a state to count in */
    return code;
}

static int open_log(struct store *store, uint64_t deadline)
{
    const struct log_options options = {
        .dir = &store->dir,
        .lock = store->log_lock,
        .reporter = store->options.reporter,
        .snapshot = snapshot,
        .snapshot_user = store,
        .known = known_next,
        .known_user = store,
        .damaged = store_damaged,
        .damaged_user = store,
    };
    int code = log_open(&options, deadline, &store->log);
    if (!code)
        log_set_journal_filter(store->log, recovery_journal_exists, store);
    return code;
}

/* A state that is new beside a log that is not was lost, with all that sinks had acknowledged. */
static bool is_lost(struct store *store, uint64_t deadline)
{
    uint64_t first[LANES], next[LANES], all = 0;
    if (!state_is_new(store->state) || log_bounds(store->log, deadline, first, next))
        return false;
    for (int lane = 0; lane < LANES; lane++)
        all += next[lane];
    return all > 0;
}

/* A state that was salvaged, or lost and made anew, may lack sinks: the newest segment's head names them all. Looked at
 * each time, since a crash may have come between salvage and this. */
static void restore_state(struct store *store, bool salvaged, uint64_t deadline)
{
    struct buffer copy = {0};
    uint32_t added = 0;
    int code = log_snapshot(store->log, deadline, &copy);
    if (!code)
        code = state_restore(store->state, copy.data, copy.size, deadline, &added);
    buffer_free(&copy);
    if (added)
        store_damaged(store, "state.mdb", "it lacked sinks: they go on where the newest segment knew them last", 0);
    else if (is_lost(store, deadline))
        store_damaged(store, "state.mdb", "was missing and is made anew; sinks that are added again get all there is",
                      0);
    if (code && (code != SPOOL_ENOTFOUND || salvaged)) /* what there is stands */
        report(&store->options.reporter, SPOOL_LOG_WARNING, "the state could not be completed from the log: %s",
               err_last());
}

static bool is_behind(const uint64_t a[LANES], const uint64_t b[LANES])
{
    bool behind = false;
    for (int lane = 0; lane < LANES; lane++)
        behind |= a[lane] < b[lane];
    return behind;
}

/* A log that lost its newest segments goes on above all that sinks have acknowledged and rows keep. The state is read first: a
 * peer's acknowledgements never speak of more than the log held before. */
static int number_behind_state(struct store *store, uint64_t deadline)
{
    uint64_t first[LANES], next[LANES], known[LANES];
    int code = state_known_next(store->state, false, deadline, known);
    if (!code)
        code = log_bounds(store->log, deadline, first, next);
    if (code || !is_behind(next, known))
        return code;
    code = state_known_next(store->state, true, deadline, known);
    if (!code && log_raise(store->log, known, deadline)) /* a full disk does not keep a spool from opening */
        report(&store->options.reporter, SPOOL_LOG_WARNING,
               "%s: the next commit will have to go on at higher numbers: %s", store->dir.path, err_last());
    return code;
}

static int raise_clock(struct store *store, uint64_t deadline)
{
    struct spool_id id;
    int code = log_max_id(store->log, deadline, &id);
    if (code)
        return code;
    hlc_raise(store->clock, &id);
    code = state_clock_get(store->state, deadline, &id);
    if (!code)
        hlc_raise(store->clock, &id);
    return code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
}

/* A copy must not take for its own what the original has written: state_home.c. */
static int check_home(struct store *store, uint64_t deadline)
{
    uint64_t forgotten;
    int code = state_check_home(store->state, deadline, &forgotten);
    if (code)
        return err_prefix(code, "%s: finding out whether it is a copy", store->dir.path);
    if (forgotten)
        report(&store->options.reporter, SPOOL_LOG_WARNING,
               "%s is a copy of another spool: the checkpoints of its sinks were "
               "forgotten, so that nothing of the original's is taken back; sinks may get events again",
               store->dir.path);
    return SPOOL_OK;
}

static int open_files(struct store *store)
{
    uint64_t deadline = deadline_in_ms(OPEN_DEADLINE_MS);
    bool salvaged = false;
    int code = open_locks(store);
    if (!code)
        code = open_state(store, deadline, &salvaged);
    if (!code)
        code = open_log(store, deadline);
    if (!code && !store->dir.read_only)
        restore_state(store, salvaged, deadline);
    if (!code && !store->dir.read_only)
        code = check_home(store, deadline);
    if (!code && !store->dir.read_only)
        code = number_behind_state(store, deadline);
    if (!code)
        code = raise_clock(store, deadline);
    if (!code && !store->dir.read_only)
        code = recovery_open(store);
    return code;
}

static int start_threads(struct store *store)
{
    int code = thread_start(&store->committer, "spool-commit", committer_run, store);
    if (code)
        return code;
    store->committer_runs = true;
    store->clock_resets =
        wake_clock_resets(store->wake); /* here: one that comes before the thread runs is not missed */
    code = thread_start(&store->keeper, "spool-keep", keeper_run, store);
    store->keeper_runs = !code;
    return code;
}

static uint64_t between(uint64_t n, uint64_t least, uint64_t most)
{
    return n < least ? least : n > most ? most : n;
}

static uint64_t default_segment_bytes(uint64_t max_bytes)
{
    return between(max_bytes / 16, 1 << 20, 256 << 20) & ~4095ull;
}

/* max_bytes as given, else as it was given last; the ring by it. */
static void settle_sizes(struct store *store)
{
    struct store_options *o = &store->options;
    if (o->max_bytes && dir_limits_write(&store->dir, o->max_bytes))
        report(&o->reporter, SPOOL_LOG_WARNING, "max_bytes is not remembered: %s", err_last());
    if (!o->max_bytes)
        o->max_bytes = dir_limits_read(&store->dir);
    if (!o->max_bytes)
        o->max_bytes = DEFAULT_MAX_BYTES;
    if (!o->journal_bytes)
        o->journal_bytes = (uint32_t)between(o->max_bytes / 8, 64 << 10, 16 << 20);
    o->journal_bytes = (uint32_t)round_up(o->journal_bytes, 4096);
}

static int open_dir(struct store *store, const char *path)
{
    const struct store_options *o = &store->options;
    uint64_t segment_bytes = o->segment_bytes ? round_up(o->segment_bytes, 4096)
                                              : default_segment_bytes(o->max_bytes ? o->max_bytes : DEFAULT_MAX_BYTES);
    int code = dir_open(path, segment_bytes, o->file_mode, o->flags, &store->dir);
    if (!code)
        settle_sizes(store);
    return code;
}

/* A frame must fit a quarter of the ring and of a segment, headers included. */
static size_t largest_frame(const struct store *store)
{
    uint64_t by_segment = store->dir.segment_bytes / 4, by_ring = store->options.journal_bytes / 4;
    uint64_t least = by_segment < by_ring ? by_segment : by_ring;
    return (size_t)((least - 256) & ~7ull);
}

int store_open(const char *dir, const struct store_options *options, struct hlc *clock, struct store **ret)
{
    struct store *store = calloc(1, sizeof *store);
    if (!store)
        return err_errno(ENOMEM, "opening %s", dir);
    store->options = *options;
    store->clock = clock;
    store->dir.fd = store->dir.journal_fd = store->dir.segments_fd = store->dir.quarantine_fd = -1;
    int code = make_mutexes(store);
    if (!code)
        code = open_dir(store, dir);
    if (!code) {
        store->frame_max = largest_frame(store);
        limits_init(store);
        code = open_files(store);
    }
    if (!code && !store->dir.read_only) {
        removals_finish(store);
        keeper_measure(store);
        if (limits_are_tight(store))
            limits_reclaim(store);
        code = start_threads(store);
    }
    if (code) {
        store_close(store, 0);
        return code;
    }
    *ret = store;
    return SPOOL_OK;
}

/* ------------------------------------------------------------------------------------------------------- closing */

static void interrupt_locks(struct store *store, bool on)
{
    lock_interrupt(store->log_lock, on);
    lock_interrupt(store->state_lock, on);
}

void store_hurry(struct store *store, uint64_t deadline_ns)
{
    lock_hurry(store->log_lock, deadline_ns);
    lock_hurry(store->state_lock, deadline_ns);
}

static void stop_threads(struct store *store, uint64_t deadline_ns)
{
    pthread_mutex_lock(&store->append_mutex);
    store->close_deadline_ns = deadline_ns;
    store->stopping = true;
    pthread_cond_broadcast(&store->committer_cond);
    pthread_cond_broadcast(&store->room_cond);
    pthread_mutex_unlock(&store->append_mutex);
    if (store->keeper_runs) {
        wake_bump(store->wake, false);
        interrupt_locks(store, true); /* a stopped peer may hold what it waits for */
        pthread_join(store->keeper, NULL);
        interrupt_locks(store, false);
    }
    if (store->committer_runs)
        pthread_join(store->committer, NULL);
}

/* What could not be committed stays in the journal for the next one to open: it only has to be flushed. */
static int flush_rest(struct store *store, uint64_t deadline_ns)
{
    struct journal *journal = store->ring ? store->ring->journal : NULL;
    if (!journal || journal_applied(journal) == journal_head(journal))
        return SPOOL_OK;
    uint64_t at_least = deadline_in_ms(100);
    return journal_flush(journal, journal_head(journal), deadline_ns > at_least ? deadline_ns : at_least);
}

static void free_rings(struct store *store, void (*end)(struct journal *journal))
{
    if (store->ring)
        end(store->ring->journal);
    free(store->ring);
    while (store->retired) {
        struct ring *next = store->retired->next;
        end(store->retired->journal);
        free(store->retired);
        store->retired = next;
    }
}

static void free_elections(struct store *store, void (*end)(struct lock *lock),
                           void (*end_hand)(struct store_hand *hand))
{
    while (store->elections) {
        struct election *next = store->elections->next;
        end_hand(store->elections->hand);
        end(store->elections->lock);
        free(store->elections);
        store->elections = next;
    }
}

static void free_mutexes(struct store *store)
{
    if (!store->mutexes_made)
        return;
    pthread_mutex_destroy(&store->append_mutex);
    pthread_mutex_destroy(&store->sinks_mutex);
    pthread_mutex_destroy(&store->clock_mutex);
    pthread_cond_destroy(&store->committer_cond);
    pthread_cond_destroy(&store->room_cond);
}

static void drop_election(struct lock *lock)
{
    lock_drop(lock, LOCK_EXCLUSIVE);
    lock_close(lock);
}

int store_close(struct store *store, uint64_t deadline_ns)
{
    if (!store)
        return SPOOL_OK;
    int code = SPOOL_OK;
    if (store->mutexes_made)
        stop_threads(store, deadline_ns);
    if (store->committer_runs) {
        code = flush_rest(store, deadline_ns);
        log_trim(store->log);
    }
    free_rings(store, journal_close);
    free_elections(store, drop_election, hand_close);
    log_close(store->log);
    state_close(store->state);
    lock_close(store->log_lock);
    lock_close(store->state_lock);
    wake_close(store->wake);
    dir_close(&store->dir);
    free_mutexes(store);
    free(store);
    return code;
}

void store_abandon(struct store *store)
{
    if (!store)
        return;
    free_rings(store, journal_abandon);
    free_elections(store, lock_abandon, hand_abandon);
    log_abandon(store->log);
    state_abandon(store->state);
    lock_abandon(store->log_lock);
    lock_abandon(store->state_lock);
    wake_close(store->wake);
    dir_close(&store->dir);
    free(store); /* mutexes may be held by threads that are not in this process: not destroyed */
}

bool store_is_read_only(const struct store *store)
{
    return store->dir.read_only;
}
