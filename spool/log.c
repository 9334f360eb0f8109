/* log.c - opening and closing the log, and the way every operation on its current end goes. */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../lib/base/error.h"
#include "../lib/base/sync.h"
#include "log_inside.h"

/* ------------------------------------------------------------------------------------------------- an operation */

int log_recover(struct log *log, int code, unsigned *tries, uint64_t deadline_ns)
{
    if (code != LOG_AGAIN && code != LOG_BROKEN && code != LOG_SEALED)
        return code;
    if (++*tries > LOG_TRIES_MAX)
        return err_set(SPOOL_EINTERNAL, "%s/segments: the list of segments does not come to rest",
                       log->options.dir->path);
    if (code != LOG_BROKEN)
        return SPOOL_OK;
    code = log_repair(log, deadline_ns);
    log_tell(log);
    return code;
}

static int run_locked(struct log *log, int (*op)(struct log *log, void *user), void *user)
{
    pthread_mutex_lock(&log->mutex);
    int code = log_refresh(log);
    if (!code)
        code = op(log, user);
    pthread_mutex_unlock(&log->mutex);
    return code;
}

int log_with_lock(struct log *log, enum lock_mode mode, uint64_t deadline_ns, int (*op)(struct log *log, void *user),
                  void *user)
{
    for (unsigned tries = 0;;) {
        int code = lock_take(log->options.lock, mode, deadline_ns);
        if (code)
            return err_prefix(code, "log.lock");
        code = run_locked(log, op, user);
        lock_drop(log->options.lock, mode);
        if (code != LOG_AGAIN && code != LOG_BROKEN)
            return code;
        code = log_recover(log, code, &tries, deadline_ns);
        if (code)
            return code;
    }
}

/* ------------------------------------------------------------------------------------------------------- opening */

static int remove_leftover(void *user, const char *name)
{
    struct log *log = user;
    if (unlinkat(log->options.dir->segments_fd, name, 0) && errno != ENOENT)
        return err_errno(errno, "segments/%s: cannot be removed", name);
    return SPOOL_OK;
}

/* Where names cannot be exchanged, a crash came when the old file had lost its name, and the new one not yet got it. */
static bool lost_its_name(const struct log *log, const char *name)
{
    char tmp[SEGMENT_NAME_SIZE + 8];
    int fd = log->options.dir->segments_fd;
    snprintf(tmp, sizeof tmp, "%s.tmp", name);
    return faccessat(fd, tmp, F_OK, AT_SYMLINK_NOFOLLOW) == 0 && faccessat(fd, name, F_OK, AT_SYMLINK_NOFOLLOW) != 0 &&
           errno == ENOENT;
}

/* A damaged file whose replacement stands already, but which a crash kept from going to quarantine/; or whose replacement
 * does not stand yet: then it is put back, to be rebuilt again. */
static int keep_damaged(void *user, const char *name)
{
    struct log *log = user;
    const struct dir *dir = log->options.dir;
    char whole[SEGMENT_NAME_SIZE];
    snprintf(whole, sizeof whole, "%.24s", name);
    if (lost_its_name(log, whole))
        return renameat(dir->segments_fd, name, dir->segments_fd, whole)
                   ? err_errno(errno, "segments/%s: cannot be renamed", name)
                   : dir_flush(dir->segments_fd);
    if (dir_quarantine(dir, dir->segments_fd, name))
        report(&log->options.reporter, SPOOL_LOG_WARNING, "segments/%s stays where it is: %s", name, err_last());
    return SPOOL_OK; /* it is in nobody's way */
}

/* The damaged ones first: what was to replace them tells how far it went. */
static int clean_up(struct log *log)
{
    int code = dir_each(log->options.dir->segments_fd, ".mdb.damaged", keep_damaged, log);
    return code ? code : dir_each(log->options.dir->segments_fd, ".mdb.tmp", remove_leftover, log);
}

/* Rotation counts by one: a file far behind the others was put there by somebody else, and the log must not go on
 * behind it. Mutex held. */
static int set_strays_aside(struct log *log)
{
    for (size_t i = 1; i < log->count; i++) {
        char name[SEGMENT_NAME_SIZE];
        uint64_t number = log->entries[i].number;
        if (number - log->entries[i - 1].number <= UINT32_MAX)
            continue;
        segment_name(number, name);
        int code = dir_quarantine(log->options.dir, log->options.dir->segments_fd, name);
        if (code)
            return code;
        log_note(log, number, 0, "no segment of this log, by its number; the file is in quarantine/");
        log_remove_entry(log, i--);
    }
    return SPOOL_OK;
}

/* log.lock held exclusively. LOG_AGAIN: there is no segment, and what sinks know is needed first. */
static int begin_log(struct log *log, bool asked)
{
    pthread_mutex_lock(&log->mutex);
    int code = clean_up(log);
    if (!code)
        code = log_list(log);
    if (!code)
        code = set_strays_aside(log);
    bool fresh = log->count == 0;
    pthread_mutex_unlock(&log->mutex);
    if (code || !fresh)
        return code;
    return log->options.known && !asked ? LOG_AGAIN : log_begin_segment(log, NULL, NULL);
}

/* Nobody speaks of events in a new spool. */
static void note_loss(struct log *log)
{
    uint64_t known = 0;
    for (int lane = 0; lane < LANES; lane++)
        known += log->least[lane];
    pthread_mutex_lock(&log->mutex);
    if (known)
        log_note(log, 1, 0, "all segments are gone: it goes on behind the events that sinks know of");
    pthread_mutex_unlock(&log->mutex);
}

/* Makes the first segment if there is none. What sinks know is asked for without the lock. */
static int make_log(struct log *log, uint64_t deadline_ns)
{
    for (bool asked = false;; asked = true) {
        int code = lock_take(log->options.lock, LOCK_EXCLUSIVE, deadline_ns);
        if (code)
            return err_prefix(code, "log.lock");
        code = begin_log(log, asked);
        lock_drop(log->options.lock, LOCK_EXCLUSIVE);
        if (!code && asked)
            note_loss(log);
        if (code != LOG_AGAIN)
            return code;
        code = log->options.known(log->options.known_user, deadline_ns, log->least);
        if (code)
            return code;
    }
}

static int look(struct log *log, void *user)
{
    (void)log, (void)user;
    return SPOOL_OK;
}

static int open_list(struct log *log, uint64_t deadline_ns)
{
    if (!log->options.dir->read_only) {
        int code = make_log(log, deadline_ns);
        if (code)
            return code;
    }
    int code = log_with_lock(log, LOCK_SHARED, deadline_ns, look, NULL);
    log_tell(log);
    return code;
}

int log_open(const struct log_options *options, uint64_t deadline_ns, struct log **ret)
{
    struct log *log = calloc(1, sizeof *log);
    if (!log)
        return err_errno(ENOMEM, "opening the log");
    log->options = *options;
    int rc = pthread_mutex_init(&log->mutex, NULL);
    if (rc) {
        free(log);
        return err_errno(rc, "opening the log");
    }
    int code = open_list(log, deadline_ns);
    if (code) {
        log_close(log);
        return code;
    }
    *ret = log;
    return SPOOL_OK;
}

static void free_notes(struct log *log)
{
    while (log->notes) {
        struct log_note *next = log->notes->next;
        log_free_note(log, log->notes);
        log->notes = next;
    }
    free(log->flaws);
}

void log_trim(struct log *log)
{
    if (lock_take(log->options.lock, LOCK_EXCLUSIVE, 0))
        return;
    pthread_mutex_lock(&log->mutex);
    struct log_entry *newest = log_newest(log); /* or, when a peer has begun another one, a sealed one */
    if (newest && newest->segment && newest->segment->ahead > 0)
        segment_trim(newest->segment);
    pthread_mutex_unlock(&log->mutex);
    lock_drop(log->options.lock, LOCK_EXCLUSIVE);
}

void log_close(struct log *log)
{
    if (!log)
        return;
    log_free_list(log);
    free_notes(log);
    pthread_mutex_destroy(&log->mutex);
    free(log);
}

/* Nobody in this process uses the segments any more. If a thread of the parent was changing the list just then, its
 * memory is left alone: a leak is better than a crash. */
void log_abandon(struct log *log)
{
    if (!log || pthread_mutex_trylock(&log->mutex))
        return;
    for (size_t i = 0; i < log->count; i++)
        segment_close(log->entries[i].segment);
    free(log->entries);
    free_notes(log);
    free(log);
}

void log_set_journal_filter(struct log *log, bool (*alive)(void *user, const uint8_t uuid[JOURNAL_UUID_SIZE]),
                            void *user)
{
    log->alive = alive;
    log->alive_user = user;
}
