/* test_state_faults.c - every call of the state with every kind of fault, at each place in it: the answer is a
 * documented code with a message; what the state held, it holds; nothing is taken for damage; and without the fault the
 * call works.
 *
 * A call that fails must leave all rows as they were; one that gets over the fault must leave the rows that it leaves
 * without one, and give the same answer. What is known of the rows is a checksum over all of them, stamps apart. */
#include "../../lib/base/event.h"
#include "fail_nth.h"

#include "state_fixture.h"

FAIL_HOOK(int, statx, (int fd, const char *restrict path, int flags, unsigned mask, struct statx *restrict ret),
          FAIL_ARGS(int, const char *restrict, int, unsigned, struct statx *restrict), (fd, path, flags, mask, ret),
          FAIL_STAT, fail_errno(EIO))
FAIL_HOOK(int, mdb_env_info, (MDB_env * env, MDB_envinfo *ret), FAIL_ARGS(MDB_env *, MDB_envinfo *), (env, ret),
          FAIL_LMDB_BEGIN, fail_code(EIO))
FAIL_HOOK(int, mdb_env_stat, (MDB_env * env, MDB_stat *ret), FAIL_ARGS(MDB_env *, MDB_stat *), (env, ret),
          FAIL_LMDB_BEGIN, fail_code(EIO))
FAIL_HOOK(int, mdb_stat, (MDB_txn * txn, MDB_dbi dbi, MDB_stat *ret), FAIL_ARGS(MDB_txn *, MDB_dbi, MDB_stat *),
          (txn, dbi, ret), FAIL_LMDB_READ, fail_code(EIO))

enum { SMALL = 100, LARGE = 9000, CHECKPOINT = 4096 };

static const enum fail_class CLASSES[] = {
    FAIL_MEMORY, FAIL_OPEN,   FAIL_READ, FAIL_WRITE,      FAIL_SPACE,     FAIL_SYNC,       FAIL_NAME,        FAIL_STAT,
    FAIL_LOCK,   FAIL_THREAD, FAIL_MAP,  FAIL_LMDB_BEGIN, FAIL_LMDB_READ, FAIL_LMDB_WRITE, FAIL_LMDB_COMMIT,
};

static struct buffer image, other_sinks; /* of state.mdb; a snapshot that has a sink more */

/* ---------------------------------------------------------------------------------------------------- what is there */

static void fill_state(struct fixture *f)
{
    static const struct store_range ranges[] = {{20, 5}, {40, 10}};
    static const uint8_t checkpoint[CHECKPOINT] = {1, 2, 3};
    const struct spool_id id = {{1, 2, 3}};
    struct store_sink a = add_sink(f, "a"), gone = add_sink(f, "gone");
    add_sink(f, "b");
    ck_ok(bury(f, &gone, 2, 9, SMALL, true));
    ck_ok(state_sink_remove(f->state, "gone", soon()));
    for (uint64_t seq = 1; seq <= 4; seq++) {
        ck_ok(put_retry(f, &a, 0, 60 + seq, seq % 2 ? SMALL : LARGE));
        ck_ok(bury(f, &a, 1, 80 + seq, seq % 2 ? SMALL : LARGE, true));
    }
    struct store_ack ack = ack_of(&a);
    ack.ranges[0] = ack.ranges[1] = ranges;
    ack.range_count[0] = ack.range_count[1] = 2;
    ack.checkpoint = checkpoint;
    ack.checkpoint_size = sizeof checkpoint;
    ck_ok(state_ack(f->state, &ack, soon()));
    ck_ok(state_count(f->state, STATE_DAMAGED_BLOCKS, 1, "block 7", soon()));
    ck_ok(state_clock_raise(f->state, &id, soon()));
}

/* The bytes of state.mdb as they are, and back; the state is closed meanwhile. */
static void save_image(struct fixture *f)
{
    struct stat st;
    int fd = openat(f->dir.fd, STATE_FILE, O_RDONLY);
    ck_assert_int_eq(fstat(fd, &st), 0);
    ck_ok(buffer_reserve(&image, (size_t)st.st_size));
    image.size = (size_t)st.st_size;
    ck_assert_int_eq(pread(fd, image.data, image.size, 0), st.st_size);
    close(fd);
}

static void put_image(struct fixture *f)
{
    state_close(f->state);
    f->state = NULL;
    unlinkat(f->dir.fd, "state.tmp", 0);
    unlinkat(f->dir.fd, "state.new", 0);
    int fd = openat(f->dir.fd, STATE_FILE, O_RDWR | O_CREAT | O_TRUNC, 0600);
    ck_assert_int_eq(pwrite(fd, image.data, image.size, 0), (ssize_t)image.size);
    close(fd);
}

static void reset(struct fixture *f)
{
    put_image(f);
    ck_ok(open_state_only(f));
}

static void prepare(struct fixture *f)
{
    struct fixture g;
    begin(&g);
    add_sink(&g, "a"), add_sink(&g, "gone"), add_sink(&g, "b"), add_sink(&g, "c");
    ck_ok(state_snapshot(g.state, soon(), &other_sinks));
    end(&g);
    begin(f);
    fill_state(f);
    state_close(f->state);
    save_image(f);
    ck_ok(open_state_only(f));
}

static void finish_all(struct fixture *f)
{
    end(f);
    buffer_free(&image);
    buffer_free(&other_sinks);
}

/* -------------------------------------------------------------------------------------------------------- the calls */

struct seen {
    uint32_t crc;
};

static void see(struct seen *seen, const void *bytes, size_t size)
{
    seen->crc = crc32c(seen->crc, bytes, size);
}

static int call_register(struct fixture *f, struct seen *seen)
{
    struct store_sink sink;
    bool is_new;
    int code = state_sink_register(f->state, "new", "null", 2, "{\"x\":1}", start_at, soon(), &sink, &is_new);
    if (!code)
        see(seen, &sink.id, sizeof sink.id);
    return code;
}

static int call_register_again(struct fixture *f, struct seen *seen)
{
    struct store_sink sink;
    bool is_new;
    int code = state_sink_register(f->state, "a", "file", 2, "{\"x\":1}", start_at, soon(), &sink, &is_new);
    if (!code)
        see(seen, sink.cursor, sizeof sink.cursor);
    return code;
}

static int call_remove(struct fixture *f, struct seen *seen)
{
    (void)seen;
    return state_sink_remove(f->state, "a", soon());
}

static int call_pause(struct fixture *f, struct seen *seen)
{
    (void)seen;
    return state_sink_pause(f->state, "b", true, soon());
}

/* All that an acknowledgement can hold. */
static int call_ack(struct fixture *f, struct seen *seen)
{
    static const struct store_range ranges[] = {{20, 5}, {50, 3}};
    static uint8_t event[LARGE], checkpoint[CHECKPOINT];
    (void)seen;
    const struct store_retry_put retries[] = {
        {.row = make_row(0, 61, SMALL), .packed = NULL},
        {.row = make_row(0, 62, LARGE), .packed = event},
        {.row = make_row(3, 63, LARGE), .packed = event},
    };
    const struct store_dead_put dead[] = {
        {.row = make_row(0, 63, SMALL), .died_ns = 7, .packed = NULL},
        {.row = make_row(1, 82, LARGE), .died_ns = 7, .packed = event},
        {.row = make_row(2, 99, LARGE), .died_ns = 7, .packed = event},
    };
    const struct store_done done[] = {{.lane = 0, .seq = 64}, {.lane = 0, .seq = 12345}};
    struct store_ack ack = {.sink_id = 1,
                            .generation = 1,
                            .cursor = {30, 45},
                            .ranges = {ranges},
                            .range_count = {2},
                            .retries = retries,
                            .retry_count = 3,
                            .dead = dead,
                            .dead_count = 3,
                            .done = done,
                            .done_count = 2,
                            .checkpoint = checkpoint,
                            .checkpoint_size = sizeof checkpoint};
    return state_ack(f->state, &ack, soon());
}

static int call_drop(struct fixture *f, struct seen *seen)
{
    const uint64_t first[LANES] = {0}, upto[LANES] = {44, 44, 3, 9};
    uint64_t dropped = 0;
    int code = state_drop_below(f->state, first, upto, soon(), &dropped);
    see(seen, &dropped, sizeof dropped);
    return code;
}

static int call_requeue(struct fixture *f, struct seen *seen)
{
    uint64_t n = 0;
    int code = state_dead_requeue(f->state, NULL, NULL, soon(), &n);
    see(seen, &n, sizeof n);
    return code;
}

static int call_purge(struct fixture *f, struct seen *seen)
{
    uint64_t n = 0;
    int code = state_dead_purge(f->state, "a", NULL, soon(), &n);
    see(seen, &n, sizeof n);
    return code;
}

static int call_requeue_to(struct fixture *f, struct seen *seen)
{
    uint64_t n = 0;
    int code = state_dead_requeue_to(f->state, NULL, NULL, NULL, soon(), &n);
    see(seen, &n, sizeof n);
    return code;
}

/* A packed event of that id, as whoever edits or imports has it. */
static uint8_t *packed_of(const struct spool_id *id, size_t *ret_size)
{
    static uint8_t packed[4096] __attribute__((aligned(8)));
    static const char body[3000] = "edited";
    struct spool_event event = SPOOL_EVENT(.type = "t", .body = body, .body_size = sizeof body);
    struct event_measure measure;
    if (event_measure(&event, sizeof packed, &measure) == SPOOL_OK) /* Check would take memory to say so */
        event_pack(&event, &measure, id, packed);
    *ret_size = measure.packed_size;
    return packed;
}

static int call_edit(struct fixture *f, struct seen *seen)
{
    struct store_retry row = make_row(1, 81, SMALL);
    size_t size;
    uint64_t n = 0;
    const uint8_t *packed = packed_of(&row.id, &size);
    int code = state_dead_edit(f->state, NULL, &row.id, packed, size, soon(), &n);
    see(seen, &n, sizeof n);
    return code;
}

static int call_import(struct fixture *f, struct seen *seen)
{
    static const struct store_attempt attempts[] = {
        {.kind = SPOOL_ATTEMPT_FAILED, .count = 1, .at_ns = 5, .until_ns = 5, .reason = "why", .reason_size = 3}};
    struct store_dead dead = {
        .sink = "a", .row = make_row(2, 7777, SMALL), .died_ns = 5, .attempts = attempts, .attempt_count = 1};
    (void)seen;
    dead.packed = packed_of(&dead.row.id, &dead.packed_size);
    return state_dead_import(f->state, &dead, soon());
}

static int call_trim(struct fixture *f, struct seen *seen)
{
    const struct store_dead_limits limits = {.rows_max = 1};
    uint64_t dropped = 0;
    int code = state_dead_trim(f->state, "a", &limits, soon(), &dropped);
    see(seen, &dropped, code ? 0 : sizeof dropped);
    return code;
}

static int call_rewind(struct fixture *f, struct seen *seen)
{
    uint64_t again = 0;
    int code = state_sink_rewind(f->state, "a", (const uint64_t[LANES]){0}, soon(), &again);
    see(seen, &again, sizeof again);
    return code;
}

static int call_set_config(struct fixture *f, struct seen *seen)
{
    (void)seen;
    return state_sink_set_config(f->state, "a", "{\"other\":1}", soon());
}

static int call_count(struct fixture *f, struct seen *seen)
{
    (void)seen;
    return state_count(f->state, STATE_DAMAGED_EVENTS, 3, "block 8", soon());
}

static int call_clock_raise(struct fixture *f, struct seen *seen)
{
    (void)seen;
    return state_clock_raise(f->state, &(struct spool_id){{2}}, soon());
}

static int call_restore(struct fixture *f, struct seen *seen)
{
    uint32_t added = 0;
    int code = state_restore(f->state, other_sinks.data, other_sinks.size, soon(), &added);
    see(seen, &added, sizeof added);
    return code;
}

static int call_check_home(struct fixture *f, struct seen *seen)
{
    uint64_t forgotten = 0;
    int code = state_check_home(f->state, soon(), &forgotten);
    see(seen, &forgotten, sizeof forgotten);
    return code;
}

static int call_open(struct fixture *f, struct seen *seen)
{
    (void)seen;
    state_close(f->state);
    f->state = NULL;
    return open_state_only(f);
}

static int see_sink(void *user, const struct store_sink *sink)
{
    see(user, sink, sizeof *sink);
    return 0;
}

static int call_sink_each(struct fixture *f, struct seen *seen)
{
    return state_sink_each(f->state, soon(), see_sink, seen);
}

static int call_sink_get(struct fixture *f, struct seen *seen)
{
    struct store_sink sink;
    int code = state_sink_get(f->state, "a", soon(), &sink);
    return code ? code : see_sink(seen, &sink);
}

static int call_config(struct fixture *f, struct seen *seen)
{
    char *config;
    int code = state_sink_config(f->state, "a", soon(), &config);
    if (code)
        return code;
    see(seen, config, strlen(config));
    free(config);
    return SPOOL_OK;
}

static int call_low_cursor(struct fixture *f, struct seen *seen)
{
    uint64_t low[LANES] = {0};
    uint32_t sinks = 0;
    int code = state_low_cursor(f->state, soon(), low, &sinks);
    see(seen, low, sizeof low);
    see(seen, &sinks, sizeof sinks);
    return code;
}

static int call_checkpoint(struct fixture *f, struct seen *seen)
{
    uint8_t bytes[CHECKPOINT];
    size_t size = 0;
    int code = state_checkpoint(f->state, 1, soon(), bytes, sizeof bytes, &size);
    see(seen, bytes, code ? 0 : size);
    return code;
}

static int see_retry(void *user, const struct store_retry *row)
{
    see(user, &row->seq, sizeof row->seq);
    return 0;
}

static int call_retry_each(struct fixture *f, struct seen *seen)
{
    return state_retry_each(f->state, 1, soon(), see_retry, seen);
}

static int call_retry_event(struct fixture *f, struct seen *seen)
{
    uint8_t *event;
    size_t size;
    int code = SPOOL_OK;
    for (uint64_t seq = 61; seq <= 62 && !code; seq++) {
        code = state_retry_event(f->state, 1, 0, seq, soon(), &event, &size);
        if (code)
            return code;
        see(seen, event, size);
        free(event);
    }
    return code;
}

static int see_letter(void *user, const struct store_dead *dead)
{
    see(user, dead->packed, dead->packed_size);
    return 0;
}

static int call_dead_each(struct fixture *f, struct seen *seen)
{
    return state_dead_each(f->state, NULL, soon(), see_letter, seen);
}

static int call_stats(struct fixture *f, struct seen *seen)
{
    struct state_stats stats = {.rows = 0};
    int code = state_stats(f->state, soon(), &stats);
    see(seen, stats.counters, sizeof stats.counters);
    see(seen, &stats.rows, sizeof stats.rows);
    return code;
}

static int call_clock_get(struct fixture *f, struct seen *seen)
{
    struct spool_id id = {{0}};
    int code = state_clock_get(f->state, soon(), &id);
    see(seen, &id, sizeof id);
    return code;
}

static int call_known_next(struct fixture *f, struct seen *seen)
{
    uint64_t next[LANES] = {0};
    int code = state_known_next(f->state, true, soon(), next);
    see(seen, next, sizeof next);
    return code;
}

static int call_snapshot(struct fixture *f, struct seen *seen)
{
    struct buffer out = {0};
    int code = state_snapshot(f->state, soon(), &out);
    if (!code)
        see(seen, out.data, out.size);
    buffer_free(&out);
    return code;
}

static int call_verify(struct fixture *f, struct seen *seen)
{
    struct spool_verify_report report = {.size = sizeof report};
    int code = state_verify(f->state, soon(), NULL, NULL, &report);
    see(seen, &report.rows, sizeof report.rows);
    return code;
}

static const struct call {
    const char *name;
    int (*run)(struct fixture *f, struct seen *seen);
    bool in_parts; /* may fail in between: the next open, and once more, finish it */
} CALLS[] = {
    {"register", call_register, false},
    {"register again", call_register_again, false},
    {"remove", call_remove, true},
    {"pause", call_pause, false},
    {"ack", call_ack, false},
    {"drop", call_drop, false},
    {"requeue", call_requeue, false},
    {"purge", call_purge, false},
    {"requeue to all", call_requeue_to, false},
    {"edit", call_edit, false},
    {"import", call_import, false},
    {"trim", call_trim, false},
    {"rewind", call_rewind, false},
    {"set config", call_set_config, false},
    {"count", call_count, false},
    {"raise the clock", call_clock_raise, false},
    {"restore", call_restore, false},
    {"check the home", call_check_home, false},
    {"open", call_open, false},
    {"each sink", call_sink_each, false},
    {"get a sink", call_sink_get, false},
    {"configuration", call_config, false},
    {"low cursor", call_low_cursor, false},
    {"checkpoint", call_checkpoint, false},
    {"each retry", call_retry_each, false},
    {"retried event", call_retry_event, false},
    {"each letter", call_dead_each, false},
    {"statistics", call_stats, false},
    {"clock", call_clock_get, false},
    {"known next", call_known_next, false},
    {"snapshot", call_snapshot, false},
    {"verify", call_verify, false},
};

/* ------------------------------------------------------------------------------------------------- with one fault each
 */

struct expected {
    struct seen seen;
    uint32_t before, after;
};

static struct expected run_without(struct fixture *f, const struct call *call)
{
    struct expected expected = {.before = rows_digest(f)};
    ck_ok(call->run(f, &expected.seen));
    expected.after = rows_digest(f);
    reset(f);
    ck_assert_uint_eq(rows_digest(f), expected.before);
    return expected;
}

static void finish_in_parts(struct fixture *f, const struct call *call, const struct expected *expected)
{
    struct seen seen = {0};
    int code = call->run(f, &seen);
    ck_assert(code == SPOOL_OK || code == SPOOL_ENOTFOUND);
    reopen(f);
    ck_assert_uint_eq(rows_digest(f), expected->after);
}

/* Returns whether call `n` of the class came. */
static bool run_with(struct fixture *f, const struct call *call, enum fail_class class, unsigned n,
                     const struct expected *expected)
{
    struct seen seen = {0};
    fail_arm(class, n);
    int code = call->run(f, &seen);
    bool fired = fail_disarm();
    if (code)
        ck_documented(code);
    ck_assert_msg(!code || fired, "%s: %s", call->name, spool_last_error());
    if (!f->state)
        ck_ok(open_state_only(f));
    uint32_t now = rows_digest(f);
    if (code && call->in_parts && now != expected->before)
        finish_in_parts(f, call, expected);
    else
        ck_assert_msg(now == (code ? expected->before : expected->after), "%s, class %d, call %u (%s): other rows",
                      call->name, class, n, spool_error_name(code));
    ck_assert_msg(code || seen.crc == expected->seen.crc, "%s, class %d, call %u: another answer", call->name, class,
                  n);
    ck_assert_msg(f->damaged == 0, "%s, class %d, call %u: taken for damage", call->name, class, n);
    if (now != expected->before)
        reset(f);
    return fired;
}

START_TEST(one_fault_changes_nothing)
{
    struct fixture f;
    prepare(&f);
    const struct call *call = &CALLS[_i];
    const struct expected expected = run_without(&f, call);
    for (size_t i = 0; i < sizeof CLASSES / sizeof *CLASSES; i++) {
        for (unsigned n = 1; run_with(&f, call, CLASSES[i], n, &expected); n++)
            continue;
    }
    expect_whole(&f);
    finish_all(&f);
}
END_TEST

/* As if a process that was killed in the middle of it had made the last commit. Once the flush has failed no later one says
 * anything about those pages. */
START_TEST(a_failed_flush_is_never_made_good_by_another)
{
    struct fixture f;
    prepare(&f);
    ck_ok(state_settle(f.state, soon()));
    atomic_store(&f.state->settled_stamp, 0);
    fail_arm(FAIL_SYNC, 1);
    int code = state_settle(f.state, soon());
    ck_assert(fail_disarm());
    ck_assert_int_eq(code, SPOOL_EUNCERTAIN);
    ck_assert_int_eq(state_settle(f.state, soon()), SPOOL_EUNCERTAIN);
    finish_all(&f);
}
END_TEST

static Suite *suite(void)
{
    test_in_memory();
    Suite *s = suite_create("state_faults");
    TCase *t = tcase_create("state_faults");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, a_failed_flush_is_never_made_good_by_another);
    tcase_add_loop_test(t, one_fault_changes_nothing, 0, sizeof CALLS / sizeof *CALLS);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
