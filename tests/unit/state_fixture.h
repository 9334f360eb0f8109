/* state_fixture.h - a spool directory with an open state, for the tests of the state. */
#ifndef STATE_FIXTURE_H
#define STATE_FIXTURE_H

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "../../lib/base/sync.h"
#include "../../spool/state_inside.h"
#include "../check_main.h"

enum { TEST_MAP_BYTES = 16 << 20 };

static const uint64_t start_at[LANES] = {1, 2, 3, 4};

struct fixture {
    char *path;
    struct dir dir;
    struct lock *lock;
    struct state *state;
    bool salvaged;
    uint64_t damaged;
};

static inline uint64_t soon(void)
{
    return deadline_in_ms(5000);
}

static inline void on_damage(void *user, const char *file, const char *what, uint64_t events)
{
    (void)file, (void)what, (void)events;
    ++*(uint64_t *)user;
}

enum { TEST_WALL_NS = 1000 };

static inline uint64_t fixed_wall_ns(void *user)
{
    (void)user;
    return TEST_WALL_NS;
}

/* The directory and the lock are open. */
static inline int open_state_only(struct fixture *f)
{
    const struct state_options options = {.dir = &f->dir,
                                          .lock = f->lock,
                                          .map_bytes = TEST_MAP_BYTES,
                                          .damaged = on_damage,
                                          .damaged_user = &f->damaged,
                                          .wall_ns = fixed_wall_ns};
    return state_open(&options, soon(), &f->state, &f->salvaged);
}

static inline int open_state(struct fixture *f, uint32_t flags)
{
    memset(&f->dir, 0, sizeof f->dir);
    ck_ok(dir_open(f->path, 1 << 20, 0600, flags, &f->dir));
    ck_ok(lock_open(f->dir.fd, "state.lock", flags & SPOOL_READ_ONLY, 0600, NULL, &f->lock));
    return open_state_only(f);
}

static inline void close_state(struct fixture *f)
{
    state_close(f->state);
    lock_close(f->lock);
    dir_close(&f->dir);
    f->state = NULL;
    f->lock = NULL;
}

static inline void begin(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    f->path = test_dir();
    ck_ok(open_state(f, 0));
}

static inline void end(struct fixture *f)
{
    close_state(f);
    test_rmdir(f->path);
    free(f->path);
}

static inline void reopen(struct fixture *f)
{
    close_state(f);
    ck_ok(open_state(f, 0));
}

static inline struct store_sink add_sink(struct fixture *f, const char *name)
{
    struct store_sink sink;
    ck_ok(state_sink_register(f->state, name, "null", 1, "{}", start_at, soon(), &sink, NULL));
    return sink;
}

/* ------------------------------------------------------------------------------------------------ acknowledgements */

/* Bytes that no other event holds anywhere. */
static inline uint8_t *event_bytes(uint64_t seq, size_t size)
{
    uint8_t *bytes = malloc(size ? size : 1);
    uint32_t word = (uint32_t)seq + 1;
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)((word = word * 1664525 + 1013904223) >> 24);
    return bytes;
}

static inline struct store_retry make_row(int lane, uint64_t seq, size_t size)
{
    struct store_retry row = {.lane = lane,
                              .seq = seq,
                              .attempts = 1,
                              .first_ns = 5,
                              .due_ns = 100 + seq,
                              .size = (uint32_t)size,
                              .key_hash = seq * 3};
    put_be64(row.id.bytes, (uint64_t)lane + 1);
    put_be64(row.id.bytes + 8, seq);
    snprintf(row.reason, sizeof row.reason, "reason %llu", (unsigned long long)seq);
    return row;
}

static inline struct store_ack ack_of(const struct store_sink *sink)
{
    return (struct store_ack){.sink_id = sink->id, .generation = sink->generation};
}

static inline int put_retry(struct fixture *f, const struct store_sink *sink, int lane, uint64_t seq, size_t size)
{
    uint8_t *bytes = event_bytes(seq, size);
    const struct store_retry_put put = {.row = make_row(lane, seq, size), .packed = bytes};
    struct store_ack ack = ack_of(sink);
    ack.retries = &put;
    ack.retry_count = 1;
    int code = state_ack(f->state, &ack, soon());
    free(bytes);
    return code;
}

static inline int finish(struct fixture *f, const struct store_sink *sink, int lane, uint64_t seq)
{
    const struct store_done done = {.lane = lane, .seq = seq};
    struct store_ack ack = ack_of(sink);
    ack.done = &done;
    ack.done_count = 1;
    return state_ack(f->state, &ack, soon());
}

static inline int bury(struct fixture *f, const struct store_sink *sink, int lane, uint64_t seq, size_t size,
                       bool with_event)
{
    uint8_t *bytes = event_bytes(seq, size);
    const struct store_dead_put put = {
        .row = make_row(lane, seq, size), .died_ns = 99, .packed = with_event ? bytes : NULL};
    struct store_ack ack = ack_of(sink);
    ack.dead = &put;
    ack.dead_count = 1;
    int code = state_ack(f->state, &ack, soon());
    free(bytes);
    return code;
}

static inline void expect_event(struct fixture *f, uint32_t sink, int lane, uint64_t seq, size_t size)
{
    uint8_t *got, *want = event_bytes(seq, size);
    size_t got_size;
    ck_ok(state_retry_event(f->state, sink, lane, seq, soon(), &got, &got_size));
    ck_assert_uint_eq(got_size, size);
    ck_assert(memcmp(got, want, size) == 0);
    free(got);
    free(want);
}

static inline struct store_sink get_sink(struct fixture *f, const char *name)
{
    struct store_sink sink;
    ck_ok(state_sink_get(f->state, name, soon(), &sink));
    return sink;
}

static inline void expect_whole(struct fixture *f)
{
    struct spool_verify_report report = {.size = sizeof report};
    ck_ok(state_verify(f->state, soon(), NULL, NULL, &report));
    ck_assert_uint_eq(f->damaged, 0);
}

/* A checksum of all rows but the version's and the directory's. */
static inline uint32_t rows_digest(struct fixture *f)
{
    struct state_txn txn;
    struct state_row view;
    struct state_key at = {.size = 0};
    uint32_t crc = 0;
    int code;
    ck_ok(state_txn_read(f->state, soon(), &txn));
    while ((code = state_table_next(&txn, &at, 0, &view)) == SPOOL_OK) {
        if (at.bytes[0] == TABLE_META && (at.bytes[1] == META_VERSION || at.bytes[1] == META_HOME))
            continue;
        crc = crc32c(crc32c(crc, at.bytes, at.size), view.body, view.body_size);
    }
    ck_code(code, SPOOL_ENOTFOUND);
    ck_assert_uint_eq(txn.note_count, 0);
    state_txn_abort(&txn);
    return crc;
}

static inline int count_retries(void *user, const struct store_retry *row)
{
    (void)row;
    ++*(int *)user;
    return 0;
}

static inline int retries_of(struct fixture *f, uint32_t sink)
{
    int n = 0;
    ck_ok(state_retry_each(f->state, sink, soon(), count_retries, &n));
    return n;
}

struct dead_seen {
    int n;
    struct store_dead last;
};

static inline int see_dead(void *user, const struct store_dead *dead)
{
    struct dead_seen *seen = user;
    uint8_t *want = event_bytes(dead->row.seq, dead->packed_size);
    ck_assert(memcmp(dead->packed, want, dead->packed_size) == 0);
    ck_assert_uint_eq(dead->packed_size, dead->row.size);
    free(want);
    seen->n++;
    seen->last = *dead;
    return 0;
}

static inline int dead_of(struct fixture *f, const char *sink, struct store_dead *ret_last)
{
    struct dead_seen seen = {0};
    ck_ok(state_dead_each(f->state, sink, soon(), see_dead, &seen));
    if (ret_last)
        *ret_last = seen.last;
    return seen.n;
}

#endif
