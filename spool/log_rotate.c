/* log_rotate.c - the row of segments grows at its new end and is deleted from its old one. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../lib/base/error.h"
#include "../lib/base/sync.h"
#include "log_inside.h"

enum { SNAPSHOT_PART = 8 }; /* a snapshot may take one eighth of a segment */

/* ---------------------------------------------------------------------------------------------------- a new segment */

struct making {
    struct log *log;
    const struct segment *current; /* NULL: the first segment of all */
    struct segment *segment;       /* the one being made */
    MDB_txn *txn;
    const struct buffer *snapshot;
    struct segment_head head;
};

static void raise_id(struct spool_id *to, const struct spool_id *id)
{
    if (memcmp(id, to, sizeof *to) > 0)
        *to = *id;
}

static void plan_head(struct making *making)
{
    const struct segment *current = making->current;
    making->head.created_ns = real_ns();
    making->head.number = current ? current->number + 1 : 1;
    if (!current) { /* of all, or in place of all that were lost */
        memcpy(making->head.base, making->log->least, sizeof making->head.base);
        return;
    }
    making->head.max_before = current->head.max_before;
    for (int lane = 0; lane < LANES; lane++) {
        making->head.base[lane] = current->tally.lane[lane].next;
        raise_id(&making->head.max_before, &current->tally.lane[lane].max_id);
    }
}

static int copy_position(void *user, const struct log_position *position)
{
    struct making *making = user;
    const struct log *log = making->log;
    if (log->alive && !log->alive(log->alive_user, position->uuid))
        return SPOOL_OK;
    return segment_put_position(making->segment, making->txn, position);
}

static int put_beginning(struct making *making)
{
    struct segment_tally tally = {0};
    for (int lane = 0; lane < LANES; lane++)
        tally.lane[lane].next = making->head.base[lane];
    int code = segment_put_head(making->segment, making->txn, &making->head);
    if (!code)
        code = segment_put_tally(making->segment, making->txn, &tally);
    if (!code && making->current)
        code = segment_each_position(making->current, copy_position, making);
    if (!code && making->snapshot)
        code = segment_put_snapshot(making->segment, making->txn, making->snapshot->data, making->snapshot->size);
    return code;
}

static int fill(void *user, struct segment *segment)
{
    struct making *making = user;
    making->segment = segment;
    int rc = mdb_txn_begin(segment->env, NULL, 0, &making->txn);
    if (rc)
        return segment_error(making->head.number, rc, "cannot be made");
    int code = put_beginning(making);
    if (code) {
        mdb_txn_abort(making->txn);
        return code;
    }
    rc = mdb_txn_commit(making->txn);
    return rc ? segment_error(making->head.number, rc, "cannot be made") : SPOOL_OK;
}

/* From here on everybody appends to the new one. A rename that may not last is taken back. */
static int put_in_place(const struct dir *dir, const char *from, const char *to)
{
    if (renameat(dir->segments_fd, from, dir->segments_fd, to)) {
        int code = err_errno(errno, "segments/%s: cannot be renamed", from);
        unlinkat(dir->segments_fd, from, 0);
        return code;
    }
    int code = dir_flush(dir->segments_fd);
    if (code)
        unlinkat(dir->segments_fd, to, 0);
    return code;
}

static void drop_large_snapshot(struct making *making)
{
    const struct log *log = making->log;
    if (!making->snapshot || making->snapshot->size <= log->options.dir->segment_bytes / SNAPSHOT_PART)
        return;
    report(&log->options.reporter, SPOOL_LOG_WARNING,
           "segment %" PRIu64 " holds no copy of the sinks: %zu bytes are too many", making->head.number,
           making->snapshot->size);
    making->snapshot = NULL;
}

/* Its positions are copied, and then it is never written to again. */
static int settle_current(struct log *log)
{
    pthread_mutex_lock(&log->mutex);
    int code = log_settle(log);
    pthread_mutex_unlock(&log->mutex);
    return code;
}

int log_begin_segment(struct log *log, struct segment *current, const struct buffer *snapshot)
{
    const struct dir *dir = log->options.dir;
    int code = current ? settle_current(log) : SPOOL_OK;
    if (code)
        return code;
    struct making making = {.log = log, .current = current, .snapshot = snapshot};
    char name[SEGMENT_NAME_SIZE], tmp[SEGMENT_NAME_SIZE + 8];
    plan_head(&making);
    drop_large_snapshot(&making);
    segment_name(making.head.number, name);
    snprintf(tmp, sizeof tmp, "%s.tmp", name);
    code = segment_create(dir, tmp, dir->segment_bytes, fill, &making);
    if (!code)
        code = put_in_place(dir, tmp, name);
    if (code)
        return err_prefix(code, "a new segment cannot be made");
    if (current)
        segment_trim(current); /* nobody appends to it any more */
    pthread_mutex_lock(&log->mutex);
    code = log_list(log);
    pthread_mutex_unlock(&log->mutex);
    return code;
}

void log_take_snapshot(struct log *log, struct buffer *out)
{
    if (!log->options.snapshot || !log->options.snapshot(log->options.snapshot_user, out))
        return;
    report(&log->options.reporter, SPOOL_LOG_WARNING, "the next segment will hold no copy of the sinks: %s",
           err_last());
    buffer_free(out);
}

/* ---------------------------------------------------------------------------------------------------------- sealing */

/* log.lock held exclusively. */
static int seal(struct log *log, uint64_t min_bytes, const struct buffer *snapshot)
{
    pthread_mutex_lock(&log->mutex);
    int code = log_refresh(log);
    struct segment *current = code || !log->count ? NULL : log_hold(log, log->count - 1);
    pthread_mutex_unlock(&log->mutex);
    if (!current)
        return code;
    if (!current->standin && !segment_is_empty(current) && segment_used_bytes(current) >= min_bytes)
        code = log_begin_segment(log, current, snapshot);
    pthread_mutex_lock(&log->mutex);
    log_release(log, current);
    pthread_mutex_unlock(&log->mutex);
    return code;
}

int log_rotate(struct log *log, uint64_t min_bytes, uint64_t deadline_ns)
{
    int code = SPOOL_OK;
    struct buffer snapshot = {0};
    log_take_snapshot(log, &snapshot);
    for (unsigned tries = 0; !code;) {
        code = lock_take(log->options.lock, LOCK_EXCLUSIVE, deadline_ns);
        if (code)
            break;
        code = seal(log, min_bytes, &snapshot);
        lock_drop(log->options.lock, LOCK_EXCLUSIVE);
        if (code == SPOOL_OK)
            break;
        code = log_recover(log, code, &tries, deadline_ns);
    }
    buffer_free(&snapshot);
    return code;
}

/* --------------------------------------------------------------------------------------------------------- deleting */

struct deleting {
    const uint64_t *cursor;
    const struct spool_id *keep_from;
    bool deleted_one;
};

static bool may_go(const struct log_entry *entry, const struct log_entry *next, const struct deleting *deleting)
{
    static const struct spool_id none;
    bool retention = memcmp(deleting->keep_from, &none, sizeof none) != 0;
    for (int lane = 0; lane < LANES; lane++) {
        bool holds_events = next->head.base[lane] > entry->head.base[lane];
        if (holds_events && deleting->cursor[lane] < next->head.base[lane])
            return false;
        if (holds_events && retention && memcmp(&entry->tally.lane[lane].max_id, deleting->keep_from, sizeof none) >= 0)
            return false;
    }
    return true;
}

static int delete_oldest(struct log *log)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(log->entries[0].number, name);
    if (unlinkat(log->options.dir->segments_fd, name, 0) && errno != ENOENT)
        return err_errno(errno, "segments/%s: cannot be deleted", name);
    log_remove_entry(log, 0);
    return SPOOL_OK;
}

static int delete_next(struct log *log, void *user)
{
    struct deleting *deleting = user;
    deleting->deleted_one = false;
    if (log->count < 2)
        return SPOOL_OK;
    int code = log_load(log, 0, false);
    if (!code)
        code = log_load(log, 1, false);
    if (code || !may_go(&log->entries[0], &log->entries[1], deleting))
        return code;
    code = delete_oldest(log);
    deleting->deleted_one = !code;
    return code;
}

/* One after the other, each for good before the next: else a crash could bring back an older one without those behind it,
 * and leave a hole in the numbers. Should the last one not be gone for good, it is deleted again. */
int log_delete(struct log *log, const uint64_t cursor[LANES], const struct spool_id *keep_from, uint64_t deadline_ns,
               uint64_t *ret_deleted)
{
    struct deleting deleting = {.cursor = cursor, .keep_from = keep_from};
    uint64_t deleted = 0;
    int code;
    do {
        code = log_with_lock(log, LOCK_EXCLUSIVE, deadline_ns, delete_next, &deleting);
        if (!code && deleting.deleted_one) {
            deleted++;
            code = dir_flush(log->options.dir->segments_fd);
        }
    } while (!code && deleting.deleted_one);
    if (!code)
        *ret_deleted = deleted;
    return code;
}

/* ------------------------------------------------------------------------------------------------------ the oldest */

struct oldest {
    uint64_t first[LANES], next[LANES];
};

static int look_at_oldest(struct log *log, void *user)
{
    struct oldest *oldest = user;
    if (log->count < 2)
        return err_set(SPOOL_ENOTFOUND, "no segment is sealed");
    int code = log_load(log, 0, false);
    if (!code)
        code = log_load(log, 1, false);
    if (code)
        return code;
    memcpy(oldest->first, log->entries[0].head.base, sizeof oldest->first);
    memcpy(oldest->next, log->entries[1].head.base, sizeof oldest->next);
    return SPOOL_OK;
}

int log_oldest(struct log *log, uint64_t deadline_ns, uint64_t ret_first[LANES], uint64_t ret_next[LANES])
{
    struct oldest oldest;
    int code = log_with_lock(log, LOCK_SHARED, deadline_ns, look_at_oldest, &oldest);
    if (code)
        return code;
    memcpy(ret_first, oldest.first, sizeof oldest.first);
    memcpy(ret_next, oldest.next, sizeof oldest.next);
    return SPOOL_OK;
}
