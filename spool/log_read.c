/* log_read.c - reading the log: blocks, bounds, places by id, journal positions, snapshots.
 *
 * Sealed segments are read without any lock, held by a reference; the current one under log.lock, shared, and the
 * mutex. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "../lib/base/error.h"
#include "log_inside.h"

static void release(struct log *log, struct segment *segment)
{
    pthread_mutex_lock(&log->mutex);
    log_release(log, segment);
    pthread_mutex_unlock(&log->mutex);
}

/* ----------------------------------------------------------------------------------------------------------- blocks */

struct reading {
    int lane;
    uint64_t seq;
    struct store_block *block;
    struct segment_flaw flaw;
    uint64_t number; /* of the segment read */
};

/* With the locks. What turns out to lie in a sealed segment is left to the other way. */
static int read_current(struct log *log, void *user)
{
    struct reading *reading = user;
    size_t index;
    if (!log->count)
        return err_set(SPOOL_ENOTFOUND, "the log is empty");
    int code = log_find(log, reading->lane, reading->seq, &index);
    if (code)
        return code;
    if (index + 1 < log->count)
        return LOG_SEALED;
    const struct segment *segment = log_newest(log)->segment;
    uint64_t next = segment->tally.lane[reading->lane].next;
    reading->number = segment->number;
    if (reading->seq >= next)
        return err_set(SPOOL_ENOTFOUND, "no event %" PRIu64 " in lane %s yet", reading->seq, lane_name(reading->lane));
    code = segment_read(segment, reading->lane, reading->seq, &reading->block, &reading->flaw);
    if (code != SPOOL_ENOTFOUND)
        return code;
    reading->flaw = (struct segment_flaw){.first = reading->seq, .end = next};
    return err_set(SPOOL_EDAMAGED, "events %" PRIu64 " to %" PRIu64 " of lane %s were lost", reading->seq, next - 1,
                   lane_name(reading->lane));
}

/* Mutex held: the sealed segment that `seq` is in, held. NULL with SPOOL_OK: it is in the current one. */
static struct segment *hold_sealed(struct log *log, const struct reading *reading, uint64_t *ret_end, int *ret_code)
{
    size_t index;
    *ret_code = SPOOL_OK;
    if (!log->count || !log_newest(log)->known) /* it may only be looked at under log.lock */
        return NULL;
    *ret_code = log_find(log, reading->lane, reading->seq, &index);
    if (*ret_code || index + 1 == log->count)
        return NULL;
    *ret_code = log_load(log, index + 1, false);
    if (!*ret_code)
        *ret_code = log_load(log, index, true);
    if (*ret_code)
        return NULL;
    *ret_end = log->entries[index + 1].head.base[reading->lane];
    return log_hold(log, index);
}

static int read_sealed(struct log *log, struct segment *segment, struct reading *reading, uint64_t end)
{
    int code = segment_read(segment, reading->lane, reading->seq, &reading->block, &reading->flaw);
    reading->number = segment->number;
    release(log, segment);
    if (code != SPOOL_ENOTFOUND)
        return code;
    reading->seq = end; /* the rest of this segment's lane was lost: go on behind it */
    return LOG_AGAIN;
}

static int read_once(struct log *log, struct reading *reading, uint64_t deadline_ns)
{
    int code;
    uint64_t end = 0;
    pthread_mutex_lock(&log->mutex);
    struct segment *segment = hold_sealed(log, reading, &end, &code);
    pthread_mutex_unlock(&log->mutex);
    if (segment)
        return read_sealed(log, segment, reading, end);
    if (code)
        return code;
    return log_with_lock(log, LOCK_SHARED, deadline_ns, read_current, reading);
}

int log_read(struct log *log, int lane, uint64_t seq, uint64_t deadline_ns, struct store_block **ret,
             uint64_t *ret_skip_to)
{
    struct reading reading = {.lane = lane, .seq = seq};
    int code;
    unsigned tries = 0;
    do {
        code = read_once(log, &reading, deadline_ns);
        if (code != LOG_AGAIN && code != LOG_BROKEN && code != LOG_SEALED)
            break;
        code = log_recover(log, code, &tries, deadline_ns);
    } while (code == SPOOL_OK);
    if (code == SPOOL_OK)
        *ret = reading.block;
    if (code == SPOOL_EDAMAGED && reading.flaw.end) {
        *ret_skip_to = reading.flaw.end;
        log_tell_block(log, reading.number, lane, &reading.flaw);
    }
    return code;
}

/* ----------------------------------------------------------------------------------------------------------- bounds */

struct bounds {
    uint64_t first[LANES], next[LANES];
};

static void copy_bounds(const struct log *log, struct bounds *bounds)
{
    const struct segment *newest = log->entries[log->count - 1].segment;
    for (int lane = 0; lane < LANES; lane++) {
        bounds->first[lane] = log->entries[0].head.base[lane];
        bounds->next[lane] = newest->tally.lane[lane].next;
    }
}

static int read_bounds(struct log *log, void *user)
{
    if (!log->count)
        return SPOOL_OK; /* nothing, from 0 to 0 */
    int code = log_load(log, 0, false);
    if (!code)
        copy_bounds(log, user);
    return code;
}

int log_bounds(struct log *log, uint64_t deadline_ns, uint64_t ret_first[LANES], uint64_t ret_next[LANES])
{
    struct bounds bounds = {0};
    pthread_mutex_lock(&log->mutex);
    bool fresh = log_is_fresh(log);
    if (fresh)
        copy_bounds(log, &bounds);
    pthread_mutex_unlock(&log->mutex);
    int code = fresh ? SPOOL_OK : log_with_lock(log, LOCK_SHARED, deadline_ns, read_bounds, &bounds);
    if (code)
        return code;
    memcpy(ret_first, bounds.first, sizeof bounds.first);
    memcpy(ret_next, bounds.next, sizeof bounds.next);
    return SPOOL_OK;
}

void log_bounds_known(struct log *log, uint64_t ret_first[LANES], uint64_t ret_next[LANES])
{
    struct bounds bounds = {0};
    pthread_mutex_lock(&log->mutex);
    if (log->count && log->entries[0].known && log->entries[log->count - 1].segment)
        copy_bounds(log, &bounds);
    pthread_mutex_unlock(&log->mutex);
    memcpy(ret_first, bounds.first, sizeof bounds.first);
    memcpy(ret_next, bounds.next, sizeof bounds.next);
}

static int read_max_id(struct log *log, void *user)
{
    struct spool_id *max = user;
    memset(max, 0, sizeof *max);
    if (!log->count)
        return SPOOL_OK;
    const struct segment *newest = log_newest(log)->segment;
    *max = newest->head.max_before;
    for (int lane = 0; lane < LANES; lane++) {
        if (memcmp(&newest->tally.lane[lane].max_id, max, sizeof *max) > 0)
            *max = newest->tally.lane[lane].max_id;
    }
    return SPOOL_OK;
}

int log_max_id(struct log *log, uint64_t deadline_ns, struct spool_id *ret)
{
    struct spool_id max;
    int code = log_with_lock(log, LOCK_SHARED, deadline_ns, read_max_id, &max);
    if (!code)
        *ret = max;
    return code;
}

/* ------------------------------------------------------------------------------------------------------ places by id
 */

struct seeking {
    int lane;
    const struct spool_id *id;
    uint64_t passed; /* number of the last segment that need not be looked at again */
    uint64_t seq;
};

static bool may_hold(const struct segment_lane_tally *tally, const struct spool_id *id)
{
    return tally->events && memcmp(&tally->max_id, id, sizeof *id) >= 0;
}

/* Mutex held: the next sealed segment with ids so high, held; those without are passed. NULL: the rest is the current
 * one. */
static struct segment *hold_candidate(struct log *log, struct seeking *seeking, int *ret_code)
{
    *ret_code = SPOOL_OK;
    for (size_t i = 0; !*ret_code && i + 1 < log->count; i++) {
        if (log->entries[i].number <= seeking->passed)
            continue;
        *ret_code = log_load(log, i, false);
        if (*ret_code)
            break;
        seeking->passed = log->entries[i].number;
        if (!may_hold(&log->entries[i].tally.lane[seeking->lane], seeking->id))
            continue;
        *ret_code = log_load(log, i, true);
        if (!*ret_code)
            return log_hold(log, i);
        seeking->passed--;
    }
    return NULL;
}

/* With the locks. */
static int seek_current(struct log *log, void *user)
{
    struct seeking *seeking = user;
    if (!log->count)
        return SPOOL_OK;
    if (log->count > 1 && log->entries[log->count - 2].number > seeking->passed)
        return LOG_SEALED; /* rotated meanwhile */
    const struct segment *segment = log_newest(log)->segment;
    int code = segment_seek(segment, seeking->lane, seeking->id, &seeking->seq);
    if (code == SPOOL_ENOTFOUND)
        seeking->seq = segment->tally.lane[seeking->lane].next;
    return code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
}

static int seek_once(struct log *log, struct seeking *seeking, uint64_t deadline_ns)
{
    int code;
    pthread_mutex_lock(&log->mutex);
    struct segment *segment = hold_candidate(log, seeking, &code);
    pthread_mutex_unlock(&log->mutex);
    if (segment) {
        code = segment_seek(segment, seeking->lane, seeking->id, &seeking->seq);
        release(log, segment);
        return code == SPOOL_ENOTFOUND ? LOG_SEALED : code;
    }
    return code ? code : log_with_lock(log, LOCK_SHARED, deadline_ns, seek_current, seeking);
}

int log_seek(struct log *log, int lane, const struct spool_id *id, uint64_t deadline_ns, uint64_t *ret_seq)
{
    struct seeking seeking = {.lane = lane, .id = id};
    int code;
    unsigned tries = 0;
    do {
        code = seek_once(log, &seeking, deadline_ns);
        if (code == LOG_SEALED)
            tries = 0;
        else if (code != LOG_AGAIN && code != LOG_BROKEN)
            break;
        code = log_recover(log, code, &tries, deadline_ns);
    } while (code == SPOOL_OK);
    if (!code)
        *ret_seq = seeking.seq;
    return code;
}

/* ------------------------------------------------------------------------------------------- positions and snapshots
 */

struct asking {
    const uint8_t *uuid;
    uint64_t applied;
    struct buffer *out;
};

static int read_position(struct log *log, void *user)
{
    struct asking *asking = user;
    if (!log->count)
        return err_set(SPOOL_ENOTFOUND, "the log is empty");
    int code = log_settle(log); /* who asks goes by the answer with a journal of a dead process */
    return code ? code : segment_position(log_newest(log)->segment, asking->uuid, &asking->applied);
}

int log_position(struct log *log, const uint8_t uuid[JOURNAL_UUID_SIZE], uint64_t deadline_ns, uint64_t *ret_applied)
{
    struct asking asking = {.uuid = uuid};
    int code = log_with_lock(log, LOCK_SHARED, deadline_ns, read_position, &asking);
    if (!code)
        *ret_applied = asking.applied;
    return code;
}

static int read_snapshot(struct log *log, void *user)
{
    struct asking *asking = user;
    for (size_t i = log->count; i-- > 0;) {
        int code = log_load(log, i, true);
        if (!code)
            code = segment_snapshot(log->entries[i].segment, asking->out);
        if (code != SPOOL_ENOTFOUND && code != SPOOL_EDAMAGED)
            return code;
    }
    return err_set(SPOOL_ENOTFOUND, "no segment holds a copy of the sinks");
}

int log_snapshot(struct log *log, uint64_t deadline_ns, struct buffer *out)
{
    struct asking asking = {.out = out};
    return log_with_lock(log, LOCK_SHARED, deadline_ns, read_snapshot, &asking);
}
