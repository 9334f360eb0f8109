/* committer.c - the thread that moves journal records into the log.
 *
 * A cycle takes what has gathered, packs it by lane into blocks and commits them together with the journal's new position, so
 * that the hand-over is exactly once; only then may the room in the ring be used again. Under load groups grow by
 * themselves; a lone event waits a moment for company (due_ns(); without a sink the flush interval: the commit is
 * also what makes process-level events power-safe); with nothing in the journal the thread sleeps.
 *
 * When the disk is full nothing is lost: the records stay in the journal, and the cycle is tried again with growing pauses. When
 * a flush of the journal failed, the kernel may have dropped pages behind our back: then every checksum is verified in memory,
 * all goes to the log, and the journal is replaced.
 *
 * While the disk takes a group, the next one is packed if there is enough for it: ahead.c. */
#include "ahead.h"
#include "store_inside.h"

enum {
    RETRY_MIN_MS = 50,
    RETRY_MAX_MS = 1000,
    SCAN_ENOUGH = -1101, /* does not leave this file: the cycle is full */
};

void committer_kick(struct store *store)
{
    store->commit_at = UINT64_MAX;
    pthread_cond_signal(&store->committer_cond);
}

/* ------------------------------------------------------------------------------------------------------ a cycle */

struct cycle {
    struct store *store;
    struct packer *packer;
    struct ahead *ahead; /* NULL: nothing is packed ahead */
    bool uncertain;      /* the last commit failed, and may nevertheless be there */
    uint64_t to;         /* the journal's position behind what was gathered */
    uint64_t damaged;    /* records whose checksum is wrong in memory */
};

static int gather_one(void *user, const uint8_t *payload, size_t size)
{
    return packer_add_frame(user, payload, size);
}

static size_t cycle_bytes_max(const struct store *store)
{
    size_t by_segment = store->dir.segment_bytes / 4, by_ring = store->options.journal_bytes / 4;
    return by_segment < by_ring ? by_segment : by_ring;
}

/* Waiting in the ring: so much is worth a commit. */
static uint64_t enough_bytes(const struct store *store)
{
    return COMMIT_BYTES < store->options.journal_bytes / 4 ? COMMIT_BYTES : store->options.journal_bytes / 4;
}

static int gather_scanned(void *user, const uint8_t *payload, size_t size, uint64_t position)
{
    struct cycle *cycle = user;
    size_t gathered = packer_bytes(cycle->packer);
    if (gathered && gathered + size > cycle_bytes_max(cycle->store))
        return SCAN_ENOUGH;
    cycle->to = position + JOURNAL_RECORD_HEADER + size;
    return packer_add_frame(cycle->packer, payload, size);
}

/* A record in the ring is broken, so there is no walking past it: takes the whole ones behind it, a cycle's worth. */
static int gather_by_scan(struct cycle *cycle, struct journal *journal, uint64_t from)
{
    struct journal_scan scan = {0};
    uint64_t head = journal_head(journal); /* producers may be ahead of it when the scan looks */
    packer_reset(cycle->packer);
    cycle->to = 0;
    int code = journal_scan(journal, from, true, gather_scanned, cycle, &scan);
    if (code == SCAN_ENOUGH) {
        cycle->damaged = 1; /* that one; others behind it are met by the cycles to come */
        return SPOOL_OK;
    }
    cycle->damaged = scan.gaps;
    cycle->to = cycle->to > head ? cycle->to : head;
    return code;
}

/* Where to go on. A commit that failed, and may be there after all, must not be repeated; but only one that succeeds on top
 * makes it safe, so its room in the ring is not free before. */
static int find_begin(const struct cycle *cycle, const struct journal *journal, uint64_t *ret_from)
{
    uint64_t stored = 0, applied = journal_applied(journal);
    int code = SPOOL_OK;
    if (cycle->uncertain)
        code = log_position(cycle->store->log, journal_uuid(journal), lock_slice(), &stored);
    *ret_from = stored > applied ? stored : applied;
    return code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
}

/* What was packed ahead, if anything, and then what has come since. */
static int gather_from(struct cycle *cycle, struct journal *journal, uint64_t from, bool verify)
{
    size_t bytes_max = cycle_bytes_max(cycle->store);
    bool begun = ahead_take(cycle->ahead, from, &cycle->packer, &cycle->to) && !verify;
    if (!begun)
        packer_reset(cycle->packer);
    size_t packed = packer_bytes(cycle->packer);
    if (packed >= bytes_max)
        return SPOOL_OK;
    return journal_walk(journal, begun ? cycle->to : from, bytes_max - packed, verify, gather_one, cycle->packer,
                        &cycle->to);
}

static int gather(struct cycle *cycle, struct journal *journal)
{
    bool verify = journal_is_failed(journal);
    uint64_t from;
    int code = find_begin(cycle, journal, &from);
    if (code)
        return code;
    code = gather_from(cycle, journal, from, verify);
    if (!code && !verify && journal_is_failed(journal))
        return gather(cycle, journal); /* it failed meanwhile: what was read may not be what was written */
    return code == SPOOL_EDAMAGED ? gather_by_scan(cycle, journal, from) : code;
}

static int commit_gathered(struct cycle *cycle, struct journal *journal)
{
    struct log_run *runs;
    size_t n;
    packer_runs(cycle->packer, &runs, &n);
    struct log_position position = {.applied = cycle->to};
    memcpy(position.uuid, journal_uuid(journal), sizeof position.uuid);
    return log_commit(cycle->store->log, runs, n, &position, 1, lock_slice());
}

/* Commits the group while the next one is packed. */
static int commit_and_pack(struct cycle *cycle, struct journal *journal)
{
    const struct store *store = cycle->store;
    bool more = !cycle->damaged && journal_head(journal) - cycle->to >= enough_bytes(store);
    if (more)
        ahead_begin(cycle->ahead, journal, cycle->to, cycle_bytes_max(store));
    int code = commit_gathered(cycle, journal);
    ahead_end(cycle->ahead, code == SPOOL_OK);
    return code;
}

/* In its first lap every page of the ring costs its first writer a fault, unless it was opened before: twice as far as the
 * last cycle has brought us, so that it is enough for a fast producer, and the flush of a lone event does not write much. */
static void open_pages_ahead(struct journal *journal)
{
    uint64_t gathered = journal_head(journal) - journal_applied(journal);
    journal_open_pages(journal, gathered < AHEAD_BYTES / 2 ? (size_t)gathered * 2 : AHEAD_BYTES);
}

/* Where nothing is flushed in the background, pages that are dirty cost nothing: the whole ring is opened as soon as there is
 * one, in pieces, so that a closing spool need not wait. (16 MiB take 14 ms; the first flush that somebody asks for then writes
 * as much.) append_mutex held, and dropped meanwhile. */
static void open_whole_ring(struct store *store)
{
    enum { PIECE = 256 << 10 };
    if (store->options.flush_interval_ms != SPOOL_FLUSH_NEVER || !store->ring)
        return;
    struct journal *journal = store->ring->journal; /* which nobody but this thread replaces */
    for (size_t ahead = PIECE; !store->stopping && ahead <= journal_ring_bytes(journal); ahead += PIECE) {
        pthread_mutex_unlock(&store->append_mutex);
        journal_open_pages(journal, ahead);
        pthread_mutex_lock(&store->append_mutex);
    }
}

static int run_cycle(struct cycle *cycle, struct journal *journal)
{
    cycle->damaged = 0;
    open_pages_ahead(journal);
    int code = gather(cycle, journal);
    if (!code)
        code = commit_and_pack(cycle, journal);
    cycle->uncertain = code == SPOOL_EUNCERTAIN || (code && cycle->uncertain);
    if (code)
        return code;
    if (cycle->damaged)
        journal_set_lost(journal); /* first: who waits for his record must not take it for committed */
    journal_set_applied(journal, cycle->to);
    if (cycle->damaged)
        store_damaged(cycle->store, journal_name(journal), "records that the failed disk did not keep", cycle->damaged);
    return SPOOL_OK;
}

/* -------------------------------------------------------------------------------------------- its consequences */

static void note_success(struct store *store)
{
    if (atomic_exchange(&store->disk_full, false))
        notify(&store->options.reporter, SPOOL_NOTICE_DISK_OK, NULL, NULL, 0, "%s: the disk takes writes again",
               store->dir.path);
    if (store->commit_failure_told)
        notify(&store->options.reporter, SPOOL_NOTICE_COMMIT_OK, NULL, NULL, 0, "%s: events are committed again",
               store->dir.path);
    store->commit_failure_told = false;
    store_tell_change(store, false);
    pthread_mutex_lock(&store->append_mutex);
    store->commit_error = 0;
    store->commit_message[0] = '\0';
    pthread_cond_broadcast(&store->room_cond);
    pthread_mutex_unlock(&store->append_mutex);
}

/* Once, until a commit goes well. */
static void tell_failure(struct store *store, bool full)
{
    bool told = full ? atomic_exchange(&store->disk_full, true) : store->commit_failure_told;
    store->commit_failure_told |= !full;
    if (!told)
        notify(&store->options.reporter, full ? SPOOL_NOTICE_DISK_FULL : SPOOL_NOTICE_COMMIT_FAILED, NULL, NULL, 0,
               "%s: cannot commit, events wait in the journal: %s", store->dir.path, err_last());
}

static void note_failure(struct store *store, int code)
{
    if (code == SPOOL_ETIMEOUT || code == SPOOL_ESTOPPED)
        return; /* a peer holds the lock: only time passed */
    tell_failure(store, limits_is_full(code));
    pthread_mutex_lock(&store->append_mutex);
    store->commit_error = code;
    store->commit_failures++;
    snprintf(store->commit_message, sizeof store->commit_message, "%s", err_last());
    pthread_cond_broadcast(&store->room_cond);
    pthread_mutex_unlock(&store->append_mutex);
}

static void free_retired(struct store *store)
{
    for (struct ring **at = &store->retired; *at;) {
        struct ring *ring = *at;
        if (atomic_load(&ring->users)) {
            at = &ring->next;
            continue;
        }
        *at = ring->next;
        if (journal_remove(ring->journal))
            report(&store->options.reporter, SPOOL_LOG_WARNING, "%s", err_last());
        free(ring);
    }
}

/* The failed journal is empty now: a new one takes its place. append_mutex held, and dropped while the file is made. */
static void replace_journal(struct store *store)
{
    struct ring *fresh = calloc(1, sizeof *fresh);
    if (!fresh)
        return; /* the next turn tries again; producers wait or get SPOOL_EFULL */
    store->replacing = true;
    pthread_mutex_unlock(&store->append_mutex);
    int code = recovery_own_journal(store, &fresh->journal);
    pthread_mutex_lock(&store->append_mutex);
    store->replacing = false;
    if (code) {
        free(fresh);
        return;
    }
    store->ring->next = store->retired;
    store->retired = store->ring;
    store->ring = fresh;
    free_retired(store);
    pthread_cond_broadcast(&store->room_cond);
}

/* ------------------------------------------------------------------------------------------------- when to work */

/* When what was first seen at `since` is to be committed although it is little. For sinks soon, but in a steady trickle
 * not each time, or a host program feels it: a commit is two flushes and wakes half a dozen threads. */
static uint64_t due_ns(const struct store *store, uint64_t since)
{
    uint32_t flush_ms = store->options.flush_interval_ms;
    uint64_t flush = flush_ms == SPOOL_FLUSH_NEVER ? DEADLINE_NEVER : since + flush_ms * NS_PER_MS;
    if (atomic_load(&store->sink_count) == 0)
        return flush;
    uint64_t linger = since + COMMIT_LINGER_MS * NS_PER_MS, paced = store->committed_ns + COMMIT_PACE_MS * NS_PER_MS;
    uint64_t due = linger > paced ? linger : paced;
    return due < flush ? due : flush;
}

/* append_mutex held. */
static bool is_urgent(const struct store *store, const struct journal *journal)
{
    uint64_t applied = journal_applied(journal), head = journal_head(journal);
    return store->stopping || journal_is_failed(journal) || head - applied >= enough_bytes(store) ||
           (store->commit_through > applied && head > applied) || !journal_has_room(journal, store->frame_max);
}

/* append_mutex held: sleeps until there is a cycle to run; false when it is time to end. */
static bool wait_for_work(struct store *store)
{
    uint64_t since = 0; /* when the oldest uncommitted record was first seen; 0: none was */
    for (;;) {
        struct journal *journal = store->ring ? store->ring->journal : NULL;
        bool pending = journal && (journal_head(journal) > journal_applied(journal) || journal_is_failed(journal));
        if (!pending) {
            if (store->stopping)
                return false;
            since = 0;
            store->commit_at = 0;
            cond_wait_until(&store->committer_cond, &store->append_mutex, DEADLINE_NEVER);
            continue;
        }
        uint64_t now = mono_ns();
        since = since ? since : now;
        uint64_t due = due_ns(store, since);
        if (is_urgent(store, journal) || now >= due)
            return true;
        store->commit_at = journal_applied(journal) + enough_bytes(store);
        cond_wait_until(&store->committer_cond, &store->append_mutex, due);
    }
}

/* append_mutex held: pauses after a failure; false when stopping and out of time. */
static bool pause_after_failure(struct store *store, uint32_t *pause_ms)
{
    if (store->stopping && mono_ns() >= store->close_deadline_ns)
        return false;
    uint64_t deadline = deadline_in_ms(*pause_ms);
    if (store->stopping && deadline > store->close_deadline_ns)
        deadline = store->close_deadline_ns;
    *pause_ms = *pause_ms * 2 < RETRY_MAX_MS ? *pause_ms * 2 : RETRY_MAX_MS;
    bool stopping =
        store->stopping; /* only that cuts the pause short: producers that wait for room kick all the time */
    while (store->stopping == stopping && mono_ns() < deadline)
        cond_wait_until(&store->committer_cond, &store->append_mutex, deadline);
    return true;
}

/* One turn; append_mutex held, and dropped while working. False: out of time. */
static bool turn(struct cycle *cycle, uint32_t *pause_ms)
{
    struct store *store = cycle->store;
    struct journal *journal = store->ring->journal;
    store->commit_at = UINT64_MAX;
    pthread_mutex_unlock(&store->append_mutex);
    int code = run_cycle(cycle, journal);
    if (code)
        note_failure(store, code);
    else
        note_success(store);
    store->committed_ns = mono_ns();
    pthread_mutex_lock(&store->append_mutex);
    if (code && store->stopping && code != SPOOL_ETIMEOUT && code != SPOOL_ESTOPPED)
        return false; /* trying again will not help, and the journal keeps it for the next one to open */
    if (code)
        return pause_after_failure(store, pause_ms);
    *pause_ms = RETRY_MIN_MS;
    if (journal_is_failed(journal) && journal_applied(journal) == journal_head(journal)) {
        replace_journal(store);
        if (store->ring->journal == journal) /* no new one could be made */
            return pause_after_failure(store, pause_ms);
    }
    return true;
}

static int new_packer(const struct store *store, struct packer **ret)
{
    struct packer *packer = NULL;
    int code = packer_new(&packer);
    if (!code && store->options.compress)
        code = packer_compress(packer);
    if (code) {
        packer_free(packer);
        return code;
    }
    *ret = packer;
    return SPOOL_OK;
}

void *committer_run(void *arg)
{
    struct store *store = arg;
    struct cycle cycle = {.store = store};
    uint32_t pause_ms = RETRY_MIN_MS;
    while (
        new_packer(store, &cycle.packer)) { /* out of memory at the very start: wait, or there would be no committer */
        pthread_mutex_lock(&store->append_mutex);
        bool go_on = pause_after_failure(store, &pause_ms);
        pthread_mutex_unlock(&store->append_mutex);
        if (!go_on)
            return NULL;
    }
    struct packer *second = NULL;
    cycle.ahead = new_packer(store, &second) ? NULL : ahead_new(second);
    pthread_mutex_lock(&store->append_mutex);
    open_whole_ring(store);
    while (wait_for_work(store)) {
        if (!turn(&cycle, &pause_ms))
            break;
    }
    pthread_mutex_unlock(&store->append_mutex);
    ahead_free(cycle.ahead);
    packer_free(cycle.packer);
    return NULL;
}
