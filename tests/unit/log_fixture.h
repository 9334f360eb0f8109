/* log_fixture.h - what the tests of the log share: a log in a directory of its own, runs of events for it, and a record
 * of what it reported as damaged. */
#ifndef LOG_FIXTURE_H
#define LOG_FIXTURE_H

#include <fcntl.h>
#include <inttypes.h>

#include "../../lib/base/event.h"
#include "../../lib/base/id.h"
#include "../../lib/base/sync.h"
#include "../../spool/log.h"
#include "../../spool/segment.h"
#include "../check_main.h"

enum { TEST_SEGMENT_BYTES = 1 << 20, DAMAGES_MAX = 64 };

struct fixture {
    char *base, path[256];
    struct dir dir;
    struct lock *lock;
    struct log *log;
    char snapshot[64];             /* what the next segment gets; empty: none */
    unsigned damages;              /* calls of damaged() */
    char damage[DAMAGES_MAX][400]; /* "file: what" */
    uint64_t damage_events;
};

static inline void fixture_damaged(void *user, const char *file, const char *what, uint64_t events)
{
    struct fixture *fixture = user;
    if (fixture->damages < DAMAGES_MAX)
        snprintf(fixture->damage[fixture->damages], sizeof fixture->damage[0], "%s: %s", file, what);
    fixture->damages++;
    fixture->damage_events += events;
}

static inline int fixture_snapshot(void *user, struct buffer *out)
{
    struct fixture *fixture = user;
    return buffer_put(out, fixture->snapshot, strlen(fixture->snapshot));
}

static inline int fixture_try_open(struct fixture *fixture)
{
    const struct log_options options = {
        .dir = &fixture->dir,
        .lock = fixture->lock,
        .snapshot = fixture_snapshot,
        .snapshot_user = fixture,
        .damaged = fixture_damaged,
        .damaged_user = fixture,
    };
    return log_open(&options, deadline_in_ms(10000), &fixture->log);
}

/* Opens directory, lock and log; the directory exists afterwards. */
static inline void fixture_open(struct fixture *fixture, uint32_t flags)
{
    ck_ok(dir_open(fixture->path, TEST_SEGMENT_BYTES, 0, flags, &fixture->dir));
    ck_ok(lock_open(fixture->dir.fd, "log.lock", flags & SPOOL_READ_ONLY, 0600, NULL, &fixture->lock));
    ck_ok(fixture_try_open(fixture));
}

static inline void fixture_close(struct fixture *fixture)
{
    log_close(fixture->log);
    lock_close(fixture->lock);
    dir_close(&fixture->dir);
    fixture->log = NULL;
    fixture->lock = NULL;
}

static inline void fixture_begin(struct fixture *fixture)
{
    memset(fixture, 0, sizeof *fixture);
    fixture->base = test_dir();
    snprintf(fixture->path, sizeof fixture->path, "%s/spool", fixture->base);
    fixture_open(fixture, 0);
}

static inline void fixture_end(struct fixture *fixture)
{
    fixture_close(fixture);
    test_rmdir(fixture->base);
    free(fixture->base);
}

static inline void fixture_file(const struct fixture *fixture, uint64_t number, char ret[512])
{
    snprintf(ret, 512, "%s/segments/%020" PRIu64 ".mdb", fixture->path, number);
}

/* ----------------------------------------------------------------------------------------------------------- events */

static inline struct spool_id test_id(uint64_t ticks)
{
    struct spool_id id;
    id_make((struct hlc_stamp){.ticks = ticks}, 7, &id);
    return id;
}

/* `count` events whose ids count from `ticks` and whose bodies are `body_size` bytes. Release with free(run->events).
 */
static inline struct log_run test_run(int lane, uint32_t count, size_t body_size, uint64_t ticks)
{
    static struct bundle_writer writer;
    struct buffer bundle = {0};
    char *body = calloc(1, body_size + 1);
    for (size_t i = 0; i < body_size; i++)
        body[i] = (char)('a' + (ticks + i) % 26);
    for (uint32_t i = 0; i < count; i++) {
        struct spool_event event = SPOOL_EVENT(.type = "t", .priority = lane_priority(lane), .body = body,
                                               .body_size = body_size, .content_type = "text/plain");
        struct event_measure measure;
        struct spool_id id = test_id(ticks + i);
        ck_ok(event_measure(&event, SIZE_MAX, &measure));
        uint8_t *packed = malloc(measure.packed_size);
        event_pack(&event, &measure, &id, packed);
        ck_ok(bundle_put(&writer, &bundle, packed, measure.packed_size));
        free(packed);
    }
    free(body);
    bundle_end(&writer, &bundle);
    return (struct log_run){.lane = lane,
                            .form = BUNDLE_SHARED,
                            .count = count,
                            .events = bundle.data,
                            .size = bundle.size,
                            .min_id = test_id(ticks),
                            .max_id = test_id(ticks + count - 1),
                            .first_seq = UINT64_MAX};
}

static inline struct log_position test_position(uint8_t which, uint64_t applied)
{
    struct log_position position = {.applied = applied};
    memset(position.uuid, which, sizeof position.uuid);
    return position;
}

/* Commits one run; its first sequence number. */
static inline uint64_t test_commit(struct fixture *fixture, int lane, uint32_t count, size_t body_size, uint64_t ticks)
{
    struct log_run run = test_run(lane, count, body_size, ticks);
    struct log_position position = test_position(1, ticks + count);
    ck_ok(log_commit(fixture->log, &run, 1, &position, 1, deadline_in_ms(60000)));
    free((void *)run.events);
    return run.first_seq;
}

/* Reads the lane from `seq` to its end: events met, those skipped as damaged in *ret_skipped (may be NULL). Each block
 * must hold the events it says it does. */
static inline uint64_t test_read_all(struct fixture *fixture, int lane, uint64_t seq, uint64_t *ret_skipped)
{
    uint64_t events = 0, skipped = 0;
    for (;;) {
        struct store_block *block = NULL;
        uint64_t skip_to = 0;
        int code = log_read(fixture->log, lane, seq, deadline_in_ms(10000), &block, &skip_to);
        if (code == SPOOL_ENOTFOUND)
            break;
        if (code == SPOOL_EDAMAGED) {
            ck_assert_uint_gt(skip_to, seq);
            skipped += skip_to - seq;
            seq = skip_to;
            continue;
        }
        ck_assert_msg(code == SPOOL_OK, "%s", err_last());
        uint64_t from = block->first_seq > seq ? block->first_seq : seq, end = block->first_seq + block->count;
        ck_assert_uint_gt(end, seq);
        ck_assert_int_eq(block->lane, lane);
        skipped += from - seq;
        for (uint32_t i = 0; i < block->count; i++) {
            struct event_view view;
            ck_ok(bundle_event(&block->events, i, &view));
        }
        events += end - from;
        seq = end;
        store_block_unref(block);
    }
    if (ret_skipped)
        *ret_skipped = skipped;
    return events;
}

static inline uint64_t test_next(struct fixture *fixture, int lane)
{
    uint64_t first[LANES], next[LANES];
    ck_ok(log_bounds(fixture->log, deadline_in_ms(60000), first, next));
    return next[lane];
}

static inline uint64_t test_segments(struct fixture *fixture)
{
    struct log_stats stats;
    ck_ok(log_stats(fixture->log, &stats));
    return stats.segments;
}

#endif
