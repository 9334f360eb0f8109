/* log_verify.c - looks at everything in the log and changes nothing; and counts what is in it.
 *
 * Of each segment first the pages, then block by block: checksum, each event, and that the sequence numbers go on
 * without a gap. The current segment is read under log.lock, shared, one block at a time, so that commits can go on. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../lib/base/error.h"
#include "../lib/base/sync.h"
#include "log_inside.h"
#include "pagecheck.h"

enum { LOCK_WAIT_MS = 5000 };

struct verify {
    struct log *log;
    void (*each)(void *user, const struct spool_finding *finding);
    void (*progress)(void *user, uint64_t done_bytes, uint64_t all_bytes);
    void *user;
    struct spool_verify_report *report;
    uint64_t done_bytes, all_bytes;
    uint64_t number; /* the segment at hand */
    bool current;    /* … which is still written to */
    const struct segment *segment;
};

static uint64_t lock_deadline(void)
{
    return deadline_in_ms(LOCK_WAIT_MS);
}

static void finding(struct verify *verify, uint64_t events, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void finding(struct verify *verify, uint64_t events, const char *format, ...)
{
    char label[SEGMENT_LABEL_SIZE], what[400];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    segment_label(verify->number, label);
    const struct spool_finding found = {.size = sizeof found, .file = label, .what = what, .events = events};
    verify->report->findings++;
    if (verify->each)
        verify->each(verify->user, &found);
}

static void advance(struct verify *verify, uint64_t bytes)
{
    verify->done_bytes += bytes;
    if (verify->done_bytes > verify->all_bytes)
        verify->all_bytes = verify->done_bytes;
    if (verify->progress)
        verify->progress(verify->user, verify->done_bytes, verify->all_bytes);
}

/* ------------------------------------------------------------------------------------------------------------ events
 */

static int check_event(const struct store_block *block, uint32_t i)
{
    struct event_view view;
    int code = bundle_event(&block->events, i, &view);
    if (code)
        return code;
    if (memcmp(&view.id, &block->min_id, sizeof view.id) < 0 || memcmp(&view.id, &block->max_id, sizeof view.id) > 0)
        return err_set(SPOOL_EDAMAGED, "its id is outside of the block's range");
    if (lane_of(view.event.priority) != block->lane)
        return err_set(SPOOL_EDAMAGED, "its priority is not that of its lane");
    return SPOOL_OK;
}

static void verify_events(struct verify *verify, const struct store_block *block)
{
    for (uint32_t i = 0; i < block->count; i++) {
        if (check_event(block, i)) {
            finding(verify, block->count - i, "block of lane %s, event %" PRIu64 ": %s", lane_name(block->lane),
                    block->first_seq + i, err_last());
            return;
        }
        verify->report->events++;
    }
}

/* ------------------------------------------------------------------------------------------------------------ blocks
 */

static int read_block(struct verify *verify, int lane, uint64_t seq, struct store_block **ret,
                      struct segment_flaw *flaw)
{
    struct log *log = verify->log;
    if (!verify->current)
        return segment_read(verify->segment, lane, seq, ret, flaw);
    int code = lock_take(log->options.lock, LOCK_SHARED, lock_deadline());
    if (code)
        return err_prefix(code, "log.lock");
    pthread_mutex_lock(&log->mutex);
    code = segment_read(verify->segment, lane, seq, ret, flaw);
    pthread_mutex_unlock(&log->mutex);
    lock_drop(log->options.lock, LOCK_SHARED);
    return code;
}

static void verify_gap(struct verify *verify, int lane, uint64_t from, uint64_t to)
{
    bool jump = to - from >= 1ull << 32; /* not so many were lost: the numbers were made to jump */
    if (jump)
        finding(verify, 0, "lane %s ends at event %" PRIu64 " and goes on behind damage; what was lost is not known",
                lane_name(lane), from);
    else if (to > from)
        finding(verify, to - from, "events %" PRIu64 " to %" PRIu64 " of lane %s are missing", from, to - 1,
                lane_name(lane));
}

/* The events of a lane in [from, end). */
static int verify_lane(struct verify *verify, int lane, uint64_t from, uint64_t end)
{
    while (from < end) {
        struct store_block *block = NULL;
        struct segment_flaw flaw = {0};
        int code = read_block(verify, lane, from, &block, &flaw);
        if (code == SPOOL_ENOTFOUND)
            break;
        if (code && (code != SPOOL_EDAMAGED || flaw.end <= from))
            return code;
        uint64_t first = code ? flaw.first : block->first_seq;
        verify_gap(verify, lane, from, first);
        if (code)
            finding(verify, flaw.end - flaw.first, "block of lane %s, events %" PRIu64 " to %" PRIu64 ": %s",
                    lane_name(lane), flaw.first, flaw.end - 1, err_last());
        else
            verify_events(verify, block);
        from = code ? flaw.end : block->first_seq + block->count;
        advance(verify, code ? flaw.size : block->size);
        verify->report->blocks++;
        free(flaw.bytes);
        store_block_unref(block);
    }
    verify_gap(verify, lane, from, end);
    return SPOOL_OK;
}

/* ---------------------------------------------------------------------------------------------------------- segments
 */

/* The file's pages, for a message that says where. ENOENT: deleted meanwhile. */
static int verify_pages(struct verify *verify)
{
    char name[SEGMENT_NAME_SIZE];
    const struct dir *dir = verify->log->options.dir;
    segment_name(verify->number, name);
    int fd = dir_open_file(dir, dir->segments_fd, name, O_RDONLY);
    if (fd < 0)
        return segment_file_error(fd);
    int code = pagecheck(fd, name);
    close(fd);
    return code;
}

struct look {
    struct verify *verify;
    struct segment *segment; /* held */
    struct segment_head head;
    struct segment_tally tally;
    int verdict; /* of its pages */
};

/* With the locks: a first look at one segment, and a reference to it. */
static int look_at(struct log *log, void *user)
{
    struct look *look = user;
    size_t i = 0;
    while (i < log->count && log->entries[i].number < look->verify->number)
        i++;
    if (i == log->count)
        return err_set(SPOOL_ENOTFOUND, "no further segment");
    look->verify->number = log->entries[i].number;
    look->verify->current = i + 1 == log->count;
    look->verdict = verify_pages(look->verify);
    if (look->verdict)
        return SPOOL_OK;
    int code = log_load(log, i, true);
    if (code == LOG_BROKEN) /* nothing is rebuilt here */
        look->verdict = SPOOL_EDAMAGED;
    if (code)
        return code == LOG_BROKEN ? SPOOL_OK : code;
    look->segment = log_hold(log, i);
    look->head = look->segment->head;
    look->tally = look->segment->tally;
    return SPOOL_OK;
}

static int verify_segment(struct verify *verify, const struct look *look)
{
    int code = SPOOL_OK;
    verify->segment = look->segment;
    for (int lane = 0; !code && lane < LANES; lane++)
        code = verify_lane(verify, lane, look->head.base[lane], look->tally.lane[lane].next);
    pthread_mutex_lock(&verify->log->mutex);
    log_release(verify->log, look->segment);
    pthread_mutex_unlock(&verify->log->mutex);
    return code;
}

static int verify_next(struct verify *verify)
{
    struct look look = {.verify = verify};
    int code = log_with_lock(verify->log, LOCK_SHARED, lock_deadline(), look_at, &look);
    if (code)
        return code;
    if (look.verdict && look.verdict != SPOOL_EDAMAGED && look.verdict != ENOENT)
        return look.verdict;
    verify->report->segments += look.verdict != ENOENT;
    if (look.verdict == SPOOL_EDAMAGED)
        finding(verify, 0, "%s", err_last());
    code = look.segment ? verify_segment(verify, &look) : SPOOL_OK;
    verify->number++;
    return code;
}

/* The number of the next segment from verify->number on that a log open for reading leaves out. */
static bool next_left_out(struct verify *verify)
{
    struct log *log = verify->log;
    uint64_t least = UINT64_MAX;
    pthread_mutex_lock(&log->mutex);
    for (size_t i = 0; i < log->flaw_count; i++) {
        const struct log_flaw *flaw = &log->flaws[i];
        if (flaw->lane == LOG_WHOLE_SEGMENT && flaw->number >= verify->number && flaw->number < least)
            least = flaw->number;
    }
    pthread_mutex_unlock(&log->mutex);
    verify->number = least;
    return least != UINT64_MAX;
}

/* A log open for reading does not list what it could not open, which is damage all the same. */
static int verify_left_out(struct verify *verify)
{
    for (verify->number = 0; next_left_out(verify); verify->number++) {
        int code = verify_pages(verify);
        if (code == ENOENT) /* rebuilt meanwhile, and all that was in it is delivered */
            continue;
        if (code && code != SPOOL_EDAMAGED)
            return code;
        verify->report->segments++;
        finding(verify, 0, "%s", code ? err_last() : "cannot be opened, although its pages are whole");
    }
    return SPOOL_OK;
}

int log_verify(struct log *log, void (*each)(void *user, const struct spool_finding *finding),
               void (*progress)(void *user, uint64_t done_bytes, uint64_t all_bytes), void *user,
               struct spool_verify_report *report)
{
    struct log_stats stats;
    struct verify verify = {.log = log, .each = each, .progress = progress, .user = user, .report = report};
    uint64_t before = report->findings;
    int code = log_stats(log, &stats);
    verify.all_bytes = stats.bytes;
    while (!code)
        code = verify_next(&verify);
    if (code == SPOOL_ENOTFOUND)
        code = verify_left_out(&verify);
    if (code)
        return code;
    if (progress)
        progress(user, verify.all_bytes, verify.all_bytes);
    if (report->findings == before)
        return SPOOL_OK;
    return err_set(SPOOL_EDAMAGED, "%" PRIu64 " finding(s) in the log", report->findings - before);
}
