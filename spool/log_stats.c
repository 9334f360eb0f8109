/* log_stats.c - how much the log holds. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "../lib/base/error.h"
#include "../lib/base/sync.h"
#include "log_inside.h"

enum { LOCK_WAIT_MS = 1000 };

static int look(struct log *log, void *user)
{
    (void)log, (void)user;
    return SPOOL_OK;
}

static uint64_t allocated_bytes(const struct log *log, uint64_t number)
{
    struct stat st;
    char name[SEGMENT_NAME_SIZE];
    segment_name(number, name);
    return fstatat(log->options.dir->segments_fd, name, &st, AT_SYMLINK_NOFOLLOW) ? 0 : (uint64_t)st.st_blocks * 512;
}

static uint64_t events_in(const struct segment_tally *tally)
{
    uint64_t events = 0;
    for (int lane = 0; lane < LANES; lane++)
        events += tally->lane[lane].events;
    return events;
}

/* Mutex held. What is sealed need not be opened again once it is known; a damaged segment counts when it is rebuilt. */
static int add_up(struct log *log, struct log_stats *ret)
{
    for (size_t i = 0; i < log->count; i++) {
        const bool newest = i + 1 == log->count;
        int code = newest ? SPOOL_OK : log_load(log, i, false);
        if (code == LOG_AGAIN || (code && code != LOG_BROKEN))
            return code;
        ret->segments++;
        ret->bytes += allocated_bytes(log, log->entries[i].number);
        ret->events += log->entries[i].known ? events_in(&log->entries[i].tally) : 0;
    }
    return SPOOL_OK;
}

uint64_t log_grown_bytes(const struct log *log)
{
    return atomic_load(&log->grown_bytes);
}

int log_stats(struct log *log, struct log_stats *ret)
{
    for (unsigned tries = 0;;) {
        struct log_stats stats = {0};
        int code = log_with_lock(log, LOCK_SHARED, deadline_in_ms(LOCK_WAIT_MS), look, NULL);
        if (code && code != SPOOL_ETIMEOUT)
            return code; /* beside a stopped peer what is known must do */
        pthread_mutex_lock(&log->mutex);
        code = add_up(log, &stats);
        pthread_mutex_unlock(&log->mutex);
        if (code == SPOOL_OK)
            *ret = stats;
        if (code != LOG_AGAIN)
            return code;
        code = log_recover(log, code, &tries, 0);
        if (code)
            return code;
    }
}

/* ------------------------------------------------------------------------------------------------- behind a cursor */

static bool is_behind(const struct log_entry *entry, const uint64_t cursor[LANES])
{
    for (int lane = 0; lane < LANES; lane++) {
        if (entry->tally.lane[lane].next > cursor[lane])
            return true;
    }
    return false;
}

/* Mutex held. */
static uint64_t bytes_behind(struct log *log, const uint64_t cursor[LANES])
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < log->count; i++) {
        if (i + 1 == log->count || (log_load(log, i, false) == SPOOL_OK && is_behind(&log->entries[i], cursor)))
            bytes += allocated_bytes(log, log->entries[i].number);
    }
    return bytes;
}

int log_overflow(struct log *log, const uint64_t cursor[LANES], uint64_t max_bytes, uint64_t ret_upto[LANES])
{
    pthread_mutex_lock(&log->mutex);
    uint64_t bytes = bytes_behind(log, cursor);
    for (size_t i = 0; i + 1 < log->count && bytes > max_bytes; i++) {
        const struct log_entry *entry = &log->entries[i];
        if (!entry->known || !is_behind(entry, cursor))
            continue;
        bytes -= allocated_bytes(log, entry->number);
        for (int lane = 0; lane < LANES; lane++)
            ret_upto[lane] =
                entry->tally.lane[lane].next > ret_upto[lane] ? entry->tally.lane[lane].next : ret_upto[lane];
    }
    pthread_mutex_unlock(&log->mutex);
    return SPOOL_OK;
}

static uint64_t events_behind(const struct log_entry *entry, const uint64_t cursor[LANES])
{
    uint64_t events = 0;
    for (int lane = 0; lane < LANES; lane++) {
        const struct segment_lane_tally *tally = &entry->tally.lane[lane];
        uint64_t left = tally->next > cursor[lane] ? tally->next - cursor[lane] : 0;
        events += left < tally->events ? left : tally->events;
    }
    return events;
}

uint64_t log_events_from(struct log *log, const uint64_t cursor[LANES])
{
    uint64_t events = 0;
    pthread_mutex_lock(&log->mutex);
    for (size_t i = 0; i < log->count; i++) {
        if (i + 1 < log->count && log_load(log, i, false) == LOG_AGAIN)
            break; /* deleted just now: the next look knows better */
        if (log->entries[i].known)
            events += events_behind(&log->entries[i], cursor);
    }
    pthread_mutex_unlock(&log->mutex);
    return events;
}
