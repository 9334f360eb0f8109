/* log_list.c - the list of segments that a log keeps in memory, and which of them are open.
 *
 * The directory is the truth; the list follows it when something does not fit: the next number has appeared, or a file
 * is gone. A segment is opened when first needed and kept until eight others were used since. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../lib/base/error.h"
#include "log_inside.h"

/* --------------------------------------------------------------------------------------------------------- listing */

struct numbers {
    const struct log *log;
    uint64_t *of;
    size_t count, cap;
};

static bool is_left_out(const struct log *log, uint64_t number)
{
    for (size_t i = 0; i < log->flaw_count; i++) {
        if (log->flaws[i].number == number && log->flaws[i].lane == LOG_WHOLE_SEGMENT)
            return true;
    }
    return false;
}

static int add_number(void *user, const char *name)
{
    struct numbers *numbers = user;
    uint64_t number;
    if (!segment_parse_name(name, &number) || is_left_out(numbers->log, number))
        return SPOOL_OK;
    if (numbers->count == numbers->cap) {
        size_t cap = numbers->cap ? numbers->cap * 2 : 64;
        uint64_t *more = realloc(numbers->of, cap * sizeof *more);
        if (!more)
            return err_errno(ENOMEM, "listing segments");
        numbers->of = more;
        numbers->cap = cap;
    }
    numbers->of[numbers->count++] = number;
    return SPOOL_OK;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void close_if_unused(struct log *log, struct segment *segment)
{
    if (segment->refs)
        return;
    log->open_count--;
    segment_close(segment);
}

static void close_entry(struct log *log, struct log_entry *entry)
{
    if (!entry->segment)
        return;
    entry->segment->doomed = true;
    close_if_unused(log, entry->segment);
    entry->segment = NULL;
}

/* Both lists ascend: what is in both keeps what is known about it. */
static void merge(struct log *log, struct log_entry *fresh, const struct numbers *numbers)
{
    size_t old = 0;
    for (size_t i = 0; i < numbers->count; i++) {
        while (old < log->count && log->entries[old].number < numbers->of[i])
            close_entry(log, &log->entries[old++]);
        if (old < log->count && log->entries[old].number == numbers->of[i])
            fresh[i] = log->entries[old++];
        else
            fresh[i] = (struct log_entry){.number = numbers->of[i]};
    }
    while (old < log->count)
        close_entry(log, &log->entries[old++]);
}

/* What was the newest may have been appended to after its tally was read, and before it was sealed. While it is still
 * the newest it must not be looked at: this is called without log.lock, too. */
static void relearn_sealed(struct log *log, const struct numbers *numbers)
{
    struct log_entry *newest = log_newest(log);
    if (!newest || !numbers->count || numbers->of[numbers->count - 1] <= newest->number)
        return;
    if (newest->segment && segment_refresh(newest->segment))
        close_entry(log, newest);
    newest->known = newest->segment != NULL;
    if (newest->known)
        newest->tally = newest->segment->tally;
}

static int replace_list(struct log *log, const struct numbers *numbers)
{
    size_t cap = numbers->count + 16;
    struct log_entry *fresh = calloc(cap, sizeof *fresh);
    if (!fresh)
        return err_errno(ENOMEM, "listing segments");
    relearn_sealed(log, numbers);
    merge(log, fresh, numbers);
    free(log->entries);
    log->entries = fresh;
    log->count = numbers->count;
    log->cap = cap;
    return SPOOL_OK;
}

int log_list(struct log *log)
{
    struct numbers numbers = {.log = log};
    int code = dir_each(log->options.dir->segments_fd, ".mdb", add_number, &numbers);
    if (!code) {
        if (numbers.count)
            qsort(numbers.of, numbers.count, sizeof *numbers.of, by_number);
        code = replace_list(log, &numbers);
    }
    free(numbers.of);
    return code;
}

void log_forget(struct log *log, size_t index)
{
    close_entry(log, &log->entries[index]);
    log->entries[index].known = false;
}

void log_remove_entry(struct log *log, size_t index)
{
    close_entry(log, &log->entries[index]);
    memmove(&log->entries[index], &log->entries[index + 1], (log->count - index - 1) * sizeof *log->entries);
    log->count--;
}

void log_free_list(struct log *log)
{
    for (size_t i = 0; i < log->count; i++)
        close_entry(log, &log->entries[i]);
    free(log->entries);
    log->entries = NULL;
    log->count = 0;
}

/* --------------------------------------------------------------------------------------------------------- opening */

/* Closes the least recently used, if it is one too many. */
static void make_room(struct log *log)
{
    struct log_entry *oldest = NULL;
    if (log->open_count < LOG_OPEN_MAX)
        return;
    for (size_t i = 0; i + 1 < log->count; i++) {
        struct log_entry *entry = &log->entries[i];
        if (entry->segment && !entry->segment->refs &&
            (!oldest || entry->segment->last_used < oldest->segment->last_used))
            oldest = entry;
    }
    if (oldest)
        close_entry(log, oldest);
}

static void learn(struct log_entry *entry)
{
    entry->head = entry->segment->head;
    entry->tally = entry->segment->tally;
    entry->known = true;
}

void log_adopt(struct log *log, size_t index, struct segment *segment)
{
    struct log_entry *entry = &log->entries[index];
    log->open_count++;
    segment->last_used = ++log->uses;
    entry->segment = segment;
    entry->broken = false;
    learn(entry);
}

int log_load(struct log *log, size_t index, bool open)
{
    struct log_entry *entry = &log->entries[index];
    bool newest = index + 1 == log->count;
    if (entry->broken)
        return LOG_BROKEN;
    if (entry->segment || (entry->known && !open))
        return SPOOL_OK;
    make_room(log);
    int code = segment_open(log->options.dir, entry->number, newest && !log->options.dir->read_only, &entry->segment);
    if (code == SPOOL_OK) {
        log_adopt(log, index, entry->segment);
        return SPOOL_OK;
    }
    if (code == ENOENT)
        return log_list(log) ? ENOENT : LOG_AGAIN;
    if (code != SPOOL_EDAMAGED)
        return code;
    entry->broken = true;
    return LOG_BROKEN;
}

struct segment *log_hold(struct log *log, size_t index)
{
    struct segment *segment = log->entries[index].segment;
    segment->refs++;
    segment->last_used = ++log->uses;
    return segment;
}

void log_release(struct log *log, struct segment *segment)
{
    segment->refs--;
    if (segment->doomed)
        close_if_unused(log, segment);
}

/* ------------------------------------------------------------------------------------------------------ the newest */

static bool exists(const struct log *log, uint64_t number)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(number, name);
    /* When in doubt it does: to commit into a segment that has a successor would lose events, to list again costs nothing. */
    return faccessat(log->options.dir->segments_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

/* Peers rotate, and may even have deleted since what was the newest: then its successor is gone, too. */
static bool is_current(const struct log *log, const struct log_entry *newest)
{
    if (exists(log, newest->number + 1))
        return false;
    return newest->segment ? segment_is_in_place(log->options.dir, newest->segment) : exists(log, newest->number);
}

bool log_is_fresh(const struct log *log)
{
    if (!log->count || !log->entries[0].known)
        return false;
    const struct log_entry *newest = &log->entries[log->count - 1];
    return newest->segment && segment_last_txn(newest->segment) == newest->segment->txn && is_current(log, newest) &&
           (log->count == 1 || exists(log, log->entries[0].number));
}

/* Whole pages and a new segment's first ones: what an event takes on disk is more than its bytes. What a peer appended
 * to a segment between our last look and its sealing is missed, until somebody measures the directory. */
void log_note_growth(struct log *log)
{
    const struct log_entry *newest = log_newest(log);
    uint64_t bytes = segment_used_bytes(newest->segment);
    uint64_t before = newest->number == log->end_number ? log->end_bytes : 0;
    if (log->end_number && bytes > before)
        atomic_fetch_add(&log->grown_bytes, bytes - before);
    log->end_number = newest->number;
    log->end_bytes = bytes;
}

int log_refresh(struct log *log)
{
    struct log_entry *newest = log_newest(log);
    if (!newest || !is_current(log, newest)) {
        if (newest && newest->segment && !segment_is_in_place(log->options.dir, newest->segment))
            log_forget(log, log->count - 1); /* a peer rebuilt it */
        int code = log_list(log);
        if (code || !log->count)
            return code;
        newest = log_newest(log);
    }
    int code = log_load(log, log->count - 1, true);
    if (code)
        return code;
    newest = log_newest(log);
    code = segment_refresh(newest->segment);
    if (code == SPOOL_EDAMAGED) {
        newest->broken = true;
        return LOG_BROKEN;
    }
    if (!code) {
        learn(newest);
        log_note_growth(log);
    }
    return code;
}

int log_settle(struct log *log)
{
    struct log_entry *newest = log_newest(log);
    if (!newest || !newest->segment)
        return SPOOL_OK;
    if (!newest->unflushed && segment_settle(newest->segment) == SPOOL_OK)
        return SPOOL_OK;
    newest->broken = newest->unflushed = true;
    return LOG_BROKEN;
}

/* --------------------------------------------------------------------------------------------------------- finding */

/* Bases grow with the numbers: the last one whose base is not above `seq`. */
int log_find(struct log *log, int lane, uint64_t seq, size_t *ret_index)
{
    size_t low = 0, high = log->count;
    while (low + 1 < high) {
        size_t middle = low + (high - low) / 2;
        int code = log_load(log, middle, false);
        if (code)
            return code;
        if (log->entries[middle].head.base[lane] <= seq)
            low = middle;
        else
            high = middle;
    }
    *ret_index = low;
    return log_load(log, low, false);
}
