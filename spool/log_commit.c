/* log_commit.c - appending to the log: blocks and journal positions in one transaction.
 *
 * The segment is chosen anew under log.lock each time: a peer may have sealed the one we know. When the commit does not
 * fit it, or it is older than a day, the next segment is begun with a snapshot that was taken before, without the lock.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "../lib/base/error.h"
#include "../lib/base/sync.h"
#include "log_inside.h"

static const uint64_t SEGMENT_AGE_MAX_NS = 24ull * 3600 * 1000 * NS_PER_MS;

struct commit {
    struct log *log;
    struct log_run *runs;
    size_t n;
    const struct log_position *positions;
    size_t position_count;
    struct buffer snapshot;
    bool have_snapshot;
    bool want_rotation; /* out: the snapshot is needed first */
};

/* ----------------------------------------------------------------------------------------------- after a failed commit
 */

static int append(struct commit *commit, struct segment *segment, bool *ret_committing);

/* Mutex held. The environment may be in LMDB's fatal state, and is not used again. */
static int reopen(struct log *log, struct segment **ret)
{
    log_forget(log, log->count - 1);
    int code = log_load(log, log->count - 1, true);
    if (!code)
        *ret = log_hold(log, log->count - 1);
    return code;
}

/* The transaction can be read, but was its meta page flushed? Its data was, before the meta page was written. So when
 * another commit on top of it succeeds, all of it is safe. */
static int confirm(struct commit *commit, struct segment *segment)
{
    bool committing;
    struct commit nothing = {.log = commit->log};
    return append(&nothing, segment, &committing) ? SPOOL_EUNCERTAIN : SPOOL_OK;
}

/* LMDB said `code` while it committed what was to follow `before`. Is it there? */
static int settle(struct commit *commit, int code, uint64_t txn_before, const struct segment_tally *before)
{
    struct segment *segment;
    char why[256];
    strncpy(why, err_last(), sizeof why - 1);
    why[sizeof why - 1] = '\0';
    pthread_mutex_lock(&commit->log->mutex);
    int opened = reopen(commit->log, &segment);
    pthread_mutex_unlock(&commit->log->mutex);
    if (opened)
        return err_set(SPOOL_EUNCERTAIN, "%s; and it cannot be opened again to look", why);
    if (segment->txn <= txn_before)
        code = err_set(code, "%s", why);
    else if ((code = confirm(commit, segment)) == SPOOL_OK)
        segment_number_runs(before, commit->runs, commit->n);
    pthread_mutex_lock(&commit->log->mutex);
    if (code == SPOOL_EUNCERTAIN && commit->log->count)
        log_forget(commit->log,
                   commit->log->count - 1); /* LMDB may be in its fatal state again: opened anew by the next try */
    log_release(commit->log, segment);
    pthread_mutex_unlock(&commit->log->mutex);
    return code;
}

/* --------------------------------------------------------------------------------------------------------- a commit */

/* Mutex held. */
static void raise_tally(struct log *log, struct segment *segment)
{
    for (int lane = 0; lane < LANES; lane++) {
        uint64_t *next = &segment->tally.lane[lane].next;
        if (*next >= log->least[lane])
            continue;
        log_note(log, segment->number, 0,
                 "lane %s ends at %" PRIu64 ", but sinks know of events up to %" PRIu64
                 ", which are not there: it goes on behind them",
                 lane_name(lane), *next, log->least[lane]);
        *next = log->least[lane];
    }
}

/* log.lock held exclusively, the mutex not. */
static int append(struct commit *commit, struct segment *segment, bool *ret_committing)
{
    struct segment_tally tally;
    pthread_mutex_lock(&commit->log->mutex);
    raise_tally(commit->log, segment);
    pthread_mutex_unlock(&commit->log->mutex);
    int code = segment_append(segment, commit->runs, commit->n, commit->positions, commit->position_count, &tally,
                              ret_committing);
    if (code)
        return code;
    pthread_mutex_lock(&commit->log->mutex);
    segment->tally = tally;
    segment->settled_txn = ++segment->txn; /* LMDB has flushed the file, also what a peer had left in it */
    log_note_growth(commit->log);
    pthread_mutex_unlock(&commit->log->mutex);
    return SPOOL_OK;
}

static bool is_old(const struct segment *segment)
{
    uint64_t now = real_ns(), created = segment->head.created_ns;
    return now > created && now - created > SEGMENT_AGE_MAX_NS && !segment_is_empty(segment);
}

static int refuse_size(const struct segment *segment, uint64_t pages)
{
    return err_set(SPOOL_ETOOBIG, "a commit of %" PRIu64 " KiB does not fit an empty segment: split it",
                   pages * segment->page_size >> 10);
}

static int replace_standin(struct log *log)
{
    pthread_mutex_lock(&log->mutex);
    int code = log_replace_standin(log);
    pthread_mutex_unlock(&log->mutex);
    return code;
}

static int commit_into(struct commit *commit, struct segment *segment)
{
    if (segment->standin)
        return replace_standin(commit->log);
    uint64_t pages = segment_pages_for(segment, commit->runs, commit->n), txn = segment->txn;
    struct segment_tally before = segment->tally;
    bool room = segment_has_room(segment, pages), committing = false;
    if (!room && segment_is_empty(segment))
        return refuse_size(segment, pages);
    if (room && !is_old(segment)) {
        segment_allocate(segment, pages);
        int code = append(commit, segment, &committing);
        if (code != SPOOL_EFULL)
            return code && committing ? settle(commit, code, txn, &before) : code;
    }
    commit->want_rotation = !commit->have_snapshot;
    return commit->want_rotation ? LOG_AGAIN : log_begin_segment(commit->log, segment, &commit->snapshot);
}

static struct segment *hold_newest(struct log *log, int *ret_code)
{
    struct segment *segment = NULL;
    pthread_mutex_lock(&log->mutex);
    *ret_code = log_refresh(log);
    if (!*ret_code && log->count)
        segment = log_hold(log, log->count - 1);
    else if (!*ret_code)
        *ret_code =
            err_set(SPOOL_EDAMAGED, "%s/segments: all segments are gone: open the spool again", log->options.dir->path);
    pthread_mutex_unlock(&log->mutex);
    return segment;
}

/* With log.lock: SPOOL_OK only when committed; LOG_AGAIN after a rotation, too. */
static int commit_locked(struct commit *commit)
{
    int code;
    struct log *log = commit->log;
    struct segment *segment = hold_newest(log, &code);
    if (!segment)
        return code;
    uint64_t number = segment->number;
    code = commit_into(commit, segment);
    pthread_mutex_lock(&log->mutex);
    bool rotated = log->count && log_newest(log)->number > number;
    log_release(log, segment);
    pthread_mutex_unlock(&log->mutex);
    return code == SPOOL_OK && rotated ? commit_locked(commit) : code;
}

static int run_commit(struct commit *commit, uint64_t deadline_ns)
{
    for (unsigned tries = 0;;) {
        int code = lock_take(commit->log->options.lock, LOCK_EXCLUSIVE, deadline_ns);
        if (code)
            return err_prefix(code, "log.lock");
        code = commit_locked(commit);
        lock_drop(commit->log->options.lock, LOCK_EXCLUSIVE);
        if (code == LOG_AGAIN && commit->want_rotation) {
            log_take_snapshot(commit->log, &commit->snapshot);
            commit->have_snapshot = true;
            commit->want_rotation = false;
        }
        if (code != LOG_AGAIN && code != LOG_BROKEN)
            return code;
        code = log_recover(commit->log, code, &tries, deadline_ns);
        if (code)
            return code;
    }
}

int log_commit(struct log *log, struct log_run *runs, size_t n, const struct log_position *positions,
               size_t position_count, uint64_t deadline_ns)
{
    struct commit commit = {
        .log = log,
        .runs = runs,
        .n = n,
        .positions = positions,
        .position_count = position_count,
    };
    if (log->options.dir->read_only)
        return err_set(SPOOL_EREADONLY, "%s is open for reading only", log->options.dir->path);
    int code = run_commit(&commit, deadline_ns);
    buffer_free(&commit.snapshot);
    return code;
}

int log_raise(struct log *log, const uint64_t least[LANES], uint64_t deadline_ns)
{
    memcpy(log->least, least, sizeof log->least);
    int code = log_commit(log, NULL, 0, NULL, 0, deadline_ns);
    log_tell(log);
    return code;
}
