/* log_repair.c - what is damaged: segments are rebuilt, blocks set aside, and both are told, once. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../lib/base/error.h"
#include "log_inside.h"

/* --------------------------------------------------------------------------------------------------------- telling */

/* Mutex held. What cost memory to mend must be told although there is none for it: one note is kept for that. */
static struct log_note *new_note(struct log *log)
{
    struct log_note *note = calloc(1, sizeof *note);
    if (note || log->spare_used)
        return note;
    log->spare_used = true;
    return &log->spare;
}

void log_free_note(struct log *log, struct log_note *note)
{
    if (note == &log->spare)
        log->spare_used = false;
    else
        free(note);
}

struct log_note *log_note(struct log *log, uint64_t number, uint64_t events, const char *format, ...)
{
    va_list args;
    struct log_note *note = new_note(log);
    if (!note)
        return NULL;
    segment_label(number, note->file);
    va_start(args, format);
    vsnprintf(note->what, sizeof note->what, format, args);
    va_end(args);
    note->events = events;
    note->next = log->notes;
    log->notes = note;
    return note;
}

static void tell(struct log *log, const struct log_note *note)
{
    if (note->is_warning)
        report(&log->options.reporter, SPOOL_LOG_WARNING, "%s: %s", note->file, note->what);
    else if (log->options.damaged)
        log->options.damaged(log->options.damaged_user, note->file, note->what, note->events);
}

static struct log_note *in_order(struct log_note *notes)
{
    struct log_note *first = NULL;
    while (notes) {
        struct log_note *next = notes->next;
        notes->next = first;
        first = notes;
        notes = next;
    }
    return first;
}

void log_tell(struct log *log)
{
    pthread_mutex_lock(&log->mutex);
    struct log_note *notes = in_order(log->notes);
    log->notes = NULL;
    pthread_mutex_unlock(&log->mutex);
    while (notes) {
        struct log_note *next = notes->next;
        tell(log, notes);
        pthread_mutex_lock(&log->mutex);
        log_free_note(log, notes);
        pthread_mutex_unlock(&log->mutex);
        notes = next;
    }
}

/* -------------------------------------------------------------------------------------------------- damaged blocks */

/* Mutex held. *ret_news: this process did not know it. ENOMEM: nor will it the next time; told twice is better than never. */
static int remember_flaw(struct log *log, const struct log_flaw *flaw, bool *ret_news)
{
    *ret_news = false;
    for (size_t i = 0; i < log->flaw_count; i++) {
        const struct log_flaw *known = &log->flaws[i];
        if (known->number == flaw->number && known->lane == flaw->lane && known->first == flaw->first)
            return SPOOL_OK;
    }
    *ret_news = true;
    if (log->flaw_count == log->flaw_cap) {
        size_t cap = log->flaw_cap ? log->flaw_cap * 2 : 16;
        struct log_flaw *more = realloc(log->flaws, cap * sizeof *more);
        if (!more)
            return err_errno(ENOMEM, "segment %" PRIu64 " is damaged", flaw->number);
        log->flaws = more;
        log->flaw_cap = cap;
    }
    log->flaws[log->flaw_count++] = *flaw;
    return SPOOL_OK;
}

static int write_all(int fd, const uint8_t *bytes, size_t size)
{
    while (size) {
        ssize_t n = write(fd, bytes, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_errno(n < 0 ? errno : EIO, "quarantine");
        bytes += n;
        size -= (size_t)n;
    }
    return SPOOL_OK;
}

/* The file also says to other processes, and to this one after a restart, that the block was told: then false. */
static bool set_aside(struct log *log, int lane, const struct segment_flaw *flaw)
{
    char name[64];
    const struct dir *dir = log->options.dir;
    snprintf(name, sizeof name, "block-%s-%" PRIu64 ".bin", lane_name(lane), flaw->first);
    if (dir->read_only || !flaw->bytes)
        return true;
    int fd = dir_open_file(dir, dir->quarantine_fd, name, O_WRONLY | O_CREAT | O_EXCL);
    if (fd == -EEXIST)
        return false;
    int code = fd < 0 ? segment_file_error(fd) : write_all(fd, flaw->bytes, flaw->size);
    if (fd >= 0)
        close(fd);
    if (code) /* the block stays where it is, too: nothing is lost by that */
        report(&log->options.reporter, SPOOL_LOG_WARNING, "a damaged block could not be copied to quarantine/%s: %s",
               name, err_last());
    return true;
}

void log_tell_block(struct log *log, uint64_t number, int lane, struct segment_flaw *flaw)
{
    bool news;
    char why[256];
    snprintf(why, sizeof why, "%s", err_last());
    pthread_mutex_lock(&log->mutex);
    remember_flaw(log, &(struct log_flaw){.number = number, .lane = lane, .first = flaw->first}, &news);
    pthread_mutex_unlock(&log->mutex);
    /* Without a size it is a hole that salvage left, and which was told then; without bytes there was no memory for them. */
    if (news && (flaw->size || flaw->bytes) && set_aside(log, lane, flaw)) {
        pthread_mutex_lock(&log->mutex);
        log_note(log, number, flaw->end - flaw->first, "block of lane %s, events %" PRIu64 " to %" PRIu64 ": %s",
                 lane_name(lane), flaw->first, flaw->end - 1, why);
        pthread_mutex_unlock(&log->mutex);
        log_tell(log);
    }
    free(flaw->bytes);
    flaw->bytes = NULL;
    err_set(SPOOL_EDAMAGED, "segment %" PRIu64 ", lane %s, events %" PRIu64 " to %" PRIu64 ": %s", number,
            lane_name(lane), flaw->first, flaw->end - 1, why);
}

/* ------------------------------------------------------------------------------------------------ damaged segments */

/* What the neighbour before knows about where this one begins. */
static int make_hint_before(struct log *log, size_t index, struct salvage_hint *ret)
{
    int code = log_load(log, index - 1, false);
    if (code)
        return code;
    const struct log_entry *before = &log->entries[index - 1];
    ret->max_before = before->head.max_before;
    for (int lane = 0; lane < LANES; lane++) {
        ret->base[lane] = before->tally.lane[lane].next;
        if (memcmp(&before->tally.lane[lane].max_id, &ret->max_before, sizeof ret->max_before) > 0)
            ret->max_before = before->tally.lane[lane].max_id;
    }
    return SPOOL_OK;
}

/* The one behind, if it is whole, begins where this one ended. If it is not, it will be made to fit this one. */
static int make_hint(struct log *log, size_t index, struct salvage_hint *ret)
{
    *ret = (struct salvage_hint){.newest = index + 1 == log->count};
    memset(ret->end, 0xff, sizeof ret->end);
    int code = index ? make_hint_before(log, index, ret) : SPOOL_OK;
    if (code || ret->newest)
        return code;
    code = log_load(log, index + 1, false);
    for (int lane = 0; !code && lane < LANES; lane++) {
        uint64_t begin = log->entries[index + 1].head.base[lane];
        ret->end[lane] = begin > ret->base[lane] ? begin : ret->base[lane];
    }
    return code == LOG_AGAIN ? LOG_AGAIN : SPOOL_OK;
}

static bool is_no_room(int code)
{
    return code == ENOSPC || code == EDQUOT || code == EFBIG;
}

/* A full disk does not keep what is whole from being delivered: it is served from memory until there is room. */
static int stand_in(struct log *log, size_t index, const struct salvage_hint *hint, const char *why)
{
    bool news;
    struct segment *segment;
    struct salvage_result result;
    uint64_t number = log->entries[index].number;
    int code = segment_salvage_in_memory(log->options.dir, number, hint, &result, &segment);
    if (code)
        return code;
    log_adopt(log, index, segment);
    remember_flaw(log, &(struct log_flaw){.number = number, .lane = LOG_IN_MEMORY}, &news);
    if (news)
        log_note(log, number, 0,
                 "%s; the disk has no room to rebuild it: %" PRIu64 " block(s) with %" PRIu64
                 " event(s) are served from memory, nothing can be committed until there is",
                 why, result.blocks, result.events);
    return SPOOL_OK;
}

static int rebuild(struct log *log, size_t index, const char *why)
{
    struct salvage_hint hint;
    struct salvage_result result;
    uint64_t number = log->entries[index].number;
    int code = make_hint(log, index, &hint);
    if (!code)
        code = segment_salvage(log->options.dir, number, &hint, &result);
    if (is_no_room(code) && !log->entries[index].segment)
        return stand_in(log, index, &hint, why);
    if (code)
        return code;
    log->entries[index].broken = false;
    log_note(log, number, result.lost,
             "%s; %" PRIu64 " block(s) with %" PRIu64 " event(s) were saved, %s%" PRIu64
             " lost; the damaged file is in quarantine/",
             why, result.blocks, result.events, result.end_known ? "" : "at least ", result.lost);
    return SPOOL_OK;
}

int log_replace_standin(struct log *log)
{
    size_t newest = log->count - 1;
    int code = rebuild(log, newest, "a damaged segment");
    if (code)
        return code;
    log_forget(log, newest);
    return LOG_AGAIN;
}

/* A flush failed, nothing is damaged. What is read goes on in any case; what would rely on the flush tries again. */
static int rewrite(struct log *log, size_t index)
{
    struct log_entry *entry = &log->entries[index];
    uint64_t number = entry->number;
    entry->broken = false;
    int code = log_load(log, index, true);
    if (code)
        return code;
    code = segment_rewrite(log->options.dir, entry->segment);
    if (code)
        return code;
    log_forget(log, index);
    entry->unflushed = false;
    struct log_note *note = log_note(log, number, 0, "could not be flushed, and was written anew");
    if (note)
        note->is_warning = true;
    return SPOOL_OK;
}

static int repair_entry(struct log *log, size_t index)
{
    struct log_entry *entry = &log->entries[index];
    bool news;
    char why[160];
    if (entry->unflushed) {
        int code = rewrite(log, index);
        if (code != LOG_BROKEN)
            return code == LOG_AGAIN ? SPOOL_OK : code;
        entry->unflushed = false; /* it is damaged, too */
    }
    log_forget(log, index);
    entry->broken = false;
    int code = log_load(log, index, true); /* a peer may have rebuilt it; and the message says what is wrong */
    if (code != LOG_BROKEN)
        return code == LOG_AGAIN ? SPOOL_OK : code;
    snprintf(why, sizeof why, "%s", err_last());
    if (!log->options.dir->read_only)
        return rebuild(log, index, why);
    code = remember_flaw(log, &(struct log_flaw){.number = entry->number, .lane = LOG_WHOLE_SEGMENT}, &news);
    if (code)
        return code;
    log_note(log, entry->number, 0, "%s; it is left out while the spool is open for reading only", why);
    log_remove_entry(log, index);
    return SPOOL_OK;
}

int log_repair_locked(struct log *log)
{
    int code = log_list(log);
    for (size_t i = 0; !code && i < log->count; i++) {
        if (log->entries[i].broken)
            code = repair_entry(log, i);
        if (code == LOG_BROKEN) { /* its predecessor: that one first */
            code = SPOOL_OK;
            i = (size_t)-1;
        }
    }
    return code;
}

int log_repair(struct log *log, uint64_t deadline_ns)
{
    enum lock_mode mode = log->options.dir->read_only ? LOCK_SHARED : LOCK_EXCLUSIVE;
    int code = lock_take(log->options.lock, mode, deadline_ns);
    if (code)
        return err_prefix(code, "log.lock");
    pthread_mutex_lock(&log->mutex);
    code = log_repair_locked(log);
    pthread_mutex_unlock(&log->mutex);
    lock_drop(log->options.lock, mode);
    return code == LOG_AGAIN ? SPOOL_OK : code;
}
