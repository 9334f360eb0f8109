/* test_store_lost.c - files that are gone: all segments, the newest ones, the state; or damaged, while there is no room
 * to rebuild them. What is left fills in for them, what is whole is delivered, and no new event is taken for one that a
 * sink has finished with. (test_store_remains.c has the simple case of each.) */
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "store_fixture.h"

static atomic_uint damages; /* notices of damage */

static void on_notice(void *user, const struct spool_notice *notice)
{
    (void)user;
    atomic_fetch_add(&damages, notice->kind == SPOOL_NOTICE_DAMAGE);
}

static void set_up(void)
{
    store_begin();
    atomic_store(&damages, 0);
}

static void tear_down(void)
{
    store_end();
}

static struct store *open_store(void)
{
    struct store *store = NULL;
    const struct store_options options = {
        .max_bytes = 64 << 20,
        .segment_bytes = 1 << 20,
        .journal_bytes = 256 << 10,
        .flush_interval_ms = 20,
        .full_timeout_ms = 2000,
        .file_mode = 0600,
        .reporter = {.on_notice = on_notice},
    };
    ck_ok(store_open(path, &options, hlc, &store));
    return store;
}

static void close_store(struct store *store)
{
    ck_ok(store_close(store, deadline_in_ms(60000)));
}

static void append_only(struct store *store, unsigned n, size_t size)
{
    static char body[20000];
    struct spool_event event = SPOOL_EVENT(.type = "t", .body = body, .body_size = size);
    struct event_measure measure;
    ck_ok(event_measure(&event, store_frame_max(store), &measure));
    for (unsigned i = 0; i < n; i++)
        ck_ok(store_append(store, &event, &measure, 1, false, NULL));
}

static void append(struct store *store, unsigned n, size_t size)
{
    append_only(store, n, size);
    ck_ok(store_commit(store, deadline_in_ms(60000)));
}

static uint64_t next_seq(struct store *store)
{
    uint64_t first[LANES], next[LANES];
    ck_ok(store_bounds(store, first, next));
    return next[LANE_MEDIUM];
}

static struct store_sink add_sink(struct store *store, const char *name)
{
    struct store_sink sink;
    ck_ok(store_sink_register(store, name, "test", SPOOL_ORDER_NONE, "{}", false, &sink));
    return sink;
}

static struct store_ack ack_upto(const struct store_sink *sink, uint64_t cursor)
{
    struct store_ack ack = {.sink_id = sink->id, .generation = sink->generation};
    ack.cursor[LANE_MEDIUM] = cursor;
    return ack;
}

static void remove_file(const char *name)
{
    char file[600];
    snprintf(file, sizeof file, "%s/%s", path, name);
    ck_assert_msg(unlink(file) == 0, "%s: %s", file, strerror(errno));
}

static void remove_segment(uint64_t number)
{
    char name[64];
    snprintf(name, sizeof name, "segments/%020" PRIu64 ".mdb", number);
    remove_file(name);
}

static int remove_journal(void *user, const char *name)
{
    return unlinkat(*(int *)user, name, 0);
}

/* Else what was appended would come back from there, under new numbers. */
static void remove_journals(void)
{
    char file[600];
    snprintf(file, sizeof file, "%s/journal", path);
    int fd = open(file, O_RDONLY | O_DIRECTORY);
    ck_assert_int_ge(fd, 0);
    ck_ok(dir_each(fd, ".jnl", remove_journal, &fd));
    close(fd);
}

/* How many events the lane holds from `seq` on. */
static uint64_t events_from(struct store *store, uint64_t seq)
{
    uint64_t events = 0;
    for (;;) {
        struct store_block *block;
        uint64_t skip_to;
        int code = store_read(store, LANE_MEDIUM, seq, deadline_in_ms(5000), &block, &skip_to);
        if (code == SPOOL_ENOTFOUND)
            return events;
        if (code == SPOOL_EDAMAGED) {
            seq = skip_to;
            continue;
        }
        ck_ok(code);
        uint64_t end = block->first_seq + block->count;
        events += end - (block->first_seq > seq ? block->first_seq : seq);
        seq = end;
        store_block_unref(block);
    }
}

/* -------------------------------------------------------------------------------------------------------- segments */

START_TEST(the_newest_segment_is_lost)
{
    struct store *store = open_store();
    struct store_sink sink = add_sink(store, "sink");
    append(store, 150, 10000);
    struct log_stats stats;
    ck_ok(log_stats(store->log, &stats));
    ck_assert_uint_ge(stats.segments, 2);
    struct store_ack ack = ack_upto(&sink, 150);
    ck_ok(store_ack(store, &ack, deadline_in_ms(60000)));
    close_store(store);
    remove_journals();
    remove_segment(stats.segments);
    store = open_store();
    ck_assert_uint_ge(atomic_load(&damages), 1);
    append(store, 7, 10);
    ck_assert_uint_eq(next_seq(store), 157);
    ck_assert_uint_eq(events_from(store, 150), 7);
    ck_assert_uint_gt(events_from(store, 0), 7); /* the hole is stepped over */
    close_store(store);
    unsigned told = atomic_load(&damages);
    store = open_store();
    ck_assert_uint_eq(next_seq(store), 157);
    ck_assert_uint_eq(atomic_load(&damages), told);
    close_store(store);
}
END_TEST

/* A dead letter keeps its number for when it is put back; its sink may be gone. */
START_TEST(dead_letters_count_when_all_segments_are_lost)
{
    struct store *store = open_store();
    struct store_sink sink = add_sink(store, "sink");
    append(store, 10, 10);
    struct store_ack ack = ack_upto(&sink, 10);
    const struct store_dead_put dead = {.row = {.lane = LANE_LOW, .seq = 41, .size = 8},
                                        .packed = (const uint8_t *)"eightby"};
    ack.dead = &dead;
    ack.dead_count = 1;
    ck_ok(store_ack(store, &ack, deadline_in_ms(60000)));
    ck_ok(store_sink_remove(store, "sink", deadline_in_ms(60000)));
    close_store(store);
    remove_journals();
    remove_segment(1);
    store = open_store();
    ck_assert_uint_eq(atomic_load(&damages), 1);
    uint64_t first[LANES], next[LANES];
    ck_ok(store_bounds(store, first, next));
    ck_assert_uint_eq(next[LANE_LOW], 42);
    ck_assert_uint_eq(first[LANE_LOW], 42);
    close_store(store);
}
END_TEST

/* ---------------------------------------------------------------------------------- a damaged segment, a full disk */

static atomic_bool disk_is_full; /* as far as who asks for room is concerned */

int fstatvfs(int fd, struct statvfs *ret)
{
    struct statfs st;
    if (fstatfs(fd, &st))
        return -1;
    bool full = atomic_load(&disk_is_full);
    *ret = (struct statvfs){.f_bsize = 4096, .f_frsize = 4096};
    ret->f_bavail = ret->f_bfree = full ? 0 : 1 << 20;
    return 0;
}

static void damage_segment(uint64_t number)
{
    static const uint8_t zeros[8192]; /* both meta pages */
    char file[600];
    snprintf(file, sizeof file, "%s/segments/%020" PRIu64 ".mdb", path, number);
    int fd = open(file, O_WRONLY);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, zeros, sizeof zeros, 0), sizeof zeros);
    close(fd);
}

static uint64_t segments_of(struct store *store)
{
    struct log_stats stats;
    ck_ok(log_stats(store->log, &stats));
    return stats.segments;
}

/* _i: how many segments before the newest one. */
START_TEST(a_damaged_segment_is_served_although_the_disk_is_full)
{
    struct store *store = open_store();
    struct store_sink sink = add_sink(store, "sink");
    append(store, 100, 10000);
    uint64_t segments = segments_of(store);
    ck_assert_uint_ge(segments, 2);
    close_store(store);
    damage_segment(segments - (uint64_t)_i);
    atomic_store(&disk_is_full, true);
    store = open_store();
    ck_assert_uint_eq(events_from(store, 0), 100);
    ck_assert_uint_eq(events_from(store, 0), 100);
    ck_assert_uint_eq(atomic_load(&damages), 1);
    struct store_ack ack = ack_upto(&sink, 50);
    ck_ok(store_ack(store, &ack, deadline_in_ms(60000)));
    if (_i == 0) {
        append_only(store, 1, 10);
        ck_code(store_commit(store, deadline_in_ms(300)), SPOOL_ETIMEOUT);
    }
    ck_assert_uint_eq(segments_of(store), segments);
    close_store(store);
    atomic_store(&disk_is_full, false);
    store = open_store();
    append(store, 5, 10);
    ck_assert_uint_eq(events_from(store, 0), _i == 0 ? 106 : 105);
    close_store(store);
}
END_TEST

START_TEST(a_damaged_segment_is_rebuilt_as_soon_as_there_is_room)
{
    struct store *store = open_store();
    append(store, 100, 10000);
    uint64_t segments = segments_of(store);
    close_store(store);
    damage_segment(segments);
    atomic_store(&disk_is_full, true);
    store = open_store();
    append_only(store, 3, 10);
    ck_code(store_commit(store, deadline_in_ms(300)), SPOOL_ETIMEOUT);
    ck_assert_uint_eq(events_from(store, 0), 100);
    atomic_store(&disk_is_full, false);
    ck_ok(store_commit(store, deadline_in_ms(60000)));
    ck_assert_uint_eq(events_from(store, 0), 103);
    close_store(store);
    store = open_store();
    ck_assert_uint_eq(events_from(store, 0), 103);
    close_store(store);
}
END_TEST

/* ----------------------------------------------------------------------------------------------------------- state */

START_TEST(the_state_is_lost)
{
    struct store *store = open_store();
    struct store_sink sink = add_sink(store, "sink"), gone = add_sink(store, "gone");
    append(store, 20, 10);
    struct store_ack ack = ack_upto(&sink, 12);
    ck_ok(store_ack(store, &ack, deadline_in_ms(60000)));
    ck_ok(store_sink_remove(store, "gone", deadline_in_ms(60000)));
    ck_ok(log_rotate(store->log, 1, deadline_in_ms(60000))); /* the next segment knows the sinks */
    ack = ack_upto(&sink, 20);
    ck_ok(store_ack(store, &ack, deadline_in_ms(60000)));
    close_store(store);
    remove_file("state.mdb");
    store = open_store();
    struct store_sink again;
    ck_ok(store_sink_get(store, "sink", &again));
    ck_assert_uint_eq(again.id, sink.id);
    ck_assert_uint_eq(again.generation, sink.generation);
    ck_assert_uint_eq(again.cursor[LANE_MEDIUM], 12); /* as the newest segment knew it: the rest comes again */
    ck_code(store_sink_get(store, "gone", &again), SPOOL_ENOTFOUND);
    ck_assert_uint_eq(atomic_load(&damages), 1);
    struct store_sink fresh = add_sink(store, "new");
    ck_assert_uint_gt(fresh.id, gone.id); /* numbers are never given out again */
    close_store(store);
    store = open_store();
    ck_assert_uint_eq(atomic_load(&damages), 1);
    close_store(store);
}
END_TEST

/* A crash came between the making of a new state and its completion. */
START_TEST(a_state_that_lacks_sinks_is_completed_later)
{
    struct store *store = open_store();
    add_sink(store, "sink");
    append(store, 5, 10);
    ck_ok(log_rotate(store->log, 1, deadline_in_ms(60000)));
    close_store(store);
    remove_file("state.mdb");
    struct dir opened;
    struct lock *lock;
    struct state *state;
    bool salvaged;
    ck_ok(dir_open(path, 1 << 20, 0600, 0, &opened));
    ck_ok(lock_open(opened.fd, "state.lock", false, 0600, NULL, &lock));
    const struct state_options options = {.dir = &opened, .lock = lock, .map_bytes = 16 << 20};
    ck_ok(state_open(&options, deadline_in_ms(60000), &state, &salvaged));
    state_close(state);
    lock_close(lock);
    dir_close(&opened);
    store = open_store();
    struct store_sink again;
    ck_ok(store_sink_get(store, "sink", &again));
    close_store(store);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("store_lost");
    TCase *tcase = tcase_create("store_lost");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, the_newest_segment_is_lost);
    tcase_add_test(tcase, dead_letters_count_when_all_segments_are_lost);
    tcase_add_loop_test(tcase, a_damaged_segment_is_served_although_the_disk_is_full, 0, 2);
    tcase_add_test(tcase, a_damaged_segment_is_rebuilt_as_soon_as_there_is_room);
    tcase_add_test(tcase, the_state_is_lost);
    tcase_add_test(tcase, a_state_that_lacks_sinks_is_completed_later);
    suite_add_tcase(suite, tcase);
    return suite;
}

CHECK_MAIN(suite)
