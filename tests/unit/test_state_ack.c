/* test_state_ack.c - acknowledgements, retries, dead letters, one by one. (test_state_full.c: full, killed, at random.)
 */
#include <sys/syscall.h>

#include "state_fixture.h"

static int commits_before_failure = -1; /* the write of a meta page after so many fails; -1: none does */
static bool is_there_nevertheless;      /* … though its bytes arrive */

/* LMDB's as well: when a meta page fails it writes the old one back, which fails too then. */
ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at)
{
    enum { META_MAX = 256 };
    if (size >= META_MAX || commits_before_failure < 0 || commits_before_failure-- > 0)
        return syscall(SYS_pwrite64, fd, bytes, size, at);
    if (is_there_nevertheless)
        syscall(SYS_pwrite64, fd, bytes, size, at);
    commits_before_failure = is_there_nevertheless ? 0 : -1;
    is_there_nevertheless = false;
    errno = EIO;
    return -1;
}

/* -------------------------------------------------------------------------------------------------- cursors, ranges */

START_TEST(cursor_and_ranges)
{
    struct fixture f;
    begin(&f);
    struct store_sink sink = add_sink(&f, "a");
    const struct store_range ranges[] = {{3, 4}, {10, 2}, {12, 1}, {20, 5}, {30, 1}};
    struct store_ack ack = ack_of(&sink);
    ack.cursor[0] = 10; /* 3..6 is below, 10..12 begins here */
    ack.ranges[0] = ranges;
    ack.range_count[0] = 5;
    ack.delivered[LANE_CRITICAL] = 4;
    ack.delivered[LANE_LOW] = 3;
    ack.drops.events[SPOOL_DROP_PENDING] = 2;
    ack.drops.upto[LANE_MEDIUM] = 7;
    ck_ok(state_ack(f.state, &ack, soon()));
    reopen(&f);
    sink = get_sink(&f, "a");
    ck_assert_uint_eq(sink.cursor[0], 13);
    ck_assert_uint_eq(sink.cursor[1], 2);
    ck_assert_uint_eq(sink.range_count[0], 2);
    ck_assert_uint_eq(sink.ranges[0][0].first, 20);
    ck_assert_uint_eq(sink.ranges[0][1].first, 30);
    ck_assert_uint_eq(sink.delivered, 7);
    ck_assert_uint_eq(sink.delivered_in[LANE_CRITICAL], 4);
    ck_assert_uint_eq(sink.delivered_in[LANE_LOW], 3);
    ck_assert_uint_eq(sink.dropped, 2);
    ck_assert_uint_eq(sink.drops.events[SPOOL_DROP_PENDING], 2);
    ck_assert_uint_eq(sink.drops.upto[LANE_MEDIUM], 7);
    ack = ack_of(&sink); /* lower cursors do not count, ranges are replaced: there are none */
    ack.cursor[0] = 4;
    ck_ok(state_ack(f.state, &ack, soon()));
    sink = get_sink(&f, "a");
    ck_assert_uint_eq(sink.cursor[0], 13);
    ck_assert_uint_eq(sink.range_count[0], 0);
    end(&f);
}
END_TEST

START_TEST(too_many_ranges)
{
    struct fixture f;
    begin(&f);
    struct store_sink sink = add_sink(&f, "a");
    struct store_range ranges[STORE_RANGES_MAX + 10];
    for (uint64_t i = 0; i < STORE_RANGES_MAX + 10; i++)
        ranges[i] = (struct store_range){.first = 100 + 10 * i, .count = 1};
    struct store_ack ack = ack_of(&sink);
    ack.ranges[3] = ranges;
    ack.range_count[3] = STORE_RANGES_MAX + 10;
    ck_ok(state_ack(f.state, &ack, soon()));
    sink = get_sink(&f, "a");
    ck_assert_uint_eq(sink.range_count[3], STORE_RANGES_MAX);
    ck_assert_uint_eq(sink.ranges[3][STORE_RANGES_MAX - 1].first, 100 + 10 * (STORE_RANGES_MAX - 1));
    ranges[5].first = 7;
    ck_code(state_ack(f.state, &ack, soon()), SPOOL_EINVAL);
    ranges[0].count = 0;
    ck_code(state_ack(f.state, &ack, soon()), SPOOL_EINVAL);
    end(&f);
}
END_TEST

START_TEST(stale)
{
    struct fixture f;
    begin(&f);
    struct store_sink sink = add_sink(&f, "a"), again;
    struct store_ack ack = ack_of(&sink);
    ack.cursor[0] = 50;
    ack.generation++;
    ck_code(state_ack(f.state, &ack, soon()), SPOOL_ESTALE);
    ack.generation--;
    ack.sink_id++;
    ck_code(state_ack(f.state, &ack, soon()), SPOOL_ESTALE);
    ack.sink_id--;
    ck_ok(state_sink_remove(f.state, "a", soon()));
    ck_code(state_ack(f.state, &ack, soon()), SPOOL_ESTALE);
    again = add_sink(&f, "a");
    ck_code(state_ack(f.state, &ack, soon()), SPOOL_ESTALE);
    ck_assert_uint_eq(get_sink(&f, "a").cursor[0], again.cursor[0]);
    end(&f);
}
END_TEST

START_TEST(checkpoints)
{
    struct fixture f;
    begin(&f);
    struct store_sink sink = add_sink(&f, "a");
    const size_t sizes[] = {5, SPOOL_CHECKPOINT_MAX, 100};
    uint8_t got[SPOOL_CHECKPOINT_MAX];
    size_t size = 1;
    ck_ok(state_checkpoint(f.state, sink.id, soon(), got, sizeof got, &size));
    ck_assert_uint_eq(size, 0);
    for (int i = 0; i < 3; i++) {
        uint8_t *bytes = event_bytes((uint64_t)i, sizes[i]);
        struct store_ack ack = ack_of(&sink);
        ack.checkpoint = bytes;
        ack.checkpoint_size = sizes[i];
        ck_ok(state_ack(f.state, &ack, soon()));
        ck_ok(state_checkpoint(f.state, sink.id, soon(), got, sizeof got, &size));
        ck_assert_uint_eq(size, sizes[i]);
        ck_assert(memcmp(got, bytes, size) == 0);
        ck_code(state_checkpoint(f.state, sink.id, soon(), got, sizes[i] - 1, &size), SPOOL_ETOOBIG);
        ack.checkpoint_size = SPOOL_CHECKPOINT_MAX + 1;
        ck_code(state_ack(f.state, &ack, soon()), SPOOL_ETOOBIG);
        free(bytes);
    }
    ck_ok(state_sink_remove(f.state, "a", soon()));
    ck_ok(state_checkpoint(f.state, sink.id, soon(), got, sizeof got, &size));
    ck_assert_uint_eq(size, 0);
    end(&f);
}
END_TEST

/* ------------------------------------------------------------------------------------------- retries, dead letters */

static int take_row(void *user, const struct store_retry *row)
{
    *(struct store_retry *)user = *row;
    return 0;
}

START_TEST(retry_life)
{
    static const size_t sizes[] = {0, 40, COPY_INLINE_MAX, COPY_INLINE_MAX + 1, 5000, 300000};
    struct fixture f;
    begin(&f);
    struct store_sink sink = add_sink(&f, "a"), other = add_sink(&f, "b");
    const size_t size = sizes[_i];
    ck_ok(put_retry(&f, &sink, 2, 7, size));
    ck_ok(put_retry(&f, &other, 2, 7, 48));
    reopen(&f);
    expect_event(&f, sink.id, 2, 7, size);
    struct store_retry row, want = make_row(2, 7, size);
    ck_ok(state_retry_each(f.state, sink.id, soon(), take_row, &row));
    ck_assert_mem_eq(&row, &want, sizeof row);
    struct store_retry_put update = {.row = want}; /* the event stays */
    update.row.attempts = 9;
    update.row.due_ns = 12345;
    memset(update.row.reason, 'r', REASON_MAX);
    struct store_ack ack = ack_of(&sink);
    ack.retries = &update;
    ack.retry_count = 1;
    ck_ok(state_ack(f.state, &ack, soon()));
    ck_ok(state_retry_each(f.state, sink.id, soon(), take_row, &row));
    ck_assert_mem_eq(&row, &update.row, sizeof row);
    expect_event(&f, sink.id, 2, 7, size);
    ck_ok(put_retry(&f, &sink, 2, 7, 2000)); /* another copy replaces it */
    expect_event(&f, sink.id, 2, 7, 2000);
    ck_assert_uint_eq(get_sink(&f, "a").retry_rows, 1);
    ck_ok(finish(&f, &sink, 2, 7));
    ck_ok(finish(&f, &sink, 2, 7)); /* again: nothing */
    ck_assert_uint_eq(get_sink(&f, "a").retry_rows, 0);
    ck_assert_int_eq(retries_of(&f, sink.id), 0);
    ck_assert_int_eq(retries_of(&f, other.id), 1);
    uint8_t *bytes;
    size_t n;
    ck_code(state_retry_event(f.state, sink.id, 2, 7, soon(), &bytes, &n), SPOOL_ENOTFOUND);
    expect_whole(&f);
    end(&f);
}
END_TEST

START_TEST(dead_life)
{
    static const size_t sizes[] = {40, 5000};
    struct fixture f;
    begin(&f);
    struct store_sink sink = add_sink(&f, "a");
    struct store_dead dead;
    struct state_stats stats;
    uint64_t n = 0;
    ck_ok(put_retry(&f, &sink, 1, 7, sizes[_i]));
    ck_ok(bury(&f, &sink, 1, 7, sizes[_i], false)); /* from the retry row */
    ck_ok(bury(&f, &sink, 1, 8, sizes[_i], true));
    ck_ok(bury(&f, &sink, 1, 8, sizes[_i], true)); /* the same again */
    ck_ok(bury(&f, &sink, 1, 7, sizes[_i], false));
    reopen(&f);
    ck_assert_int_eq(dead_of(&f, "a", &dead), 2);
    ck_assert_uint_eq(dead.row.seq, 8);
    ck_assert_uint_eq(dead.died_ns, 99);
    ck_assert_str_eq(dead.sink, "a");
    ck_assert_str_eq(dead.row.reason, "reason 8");
    sink = get_sink(&f, "a");
    ck_assert_uint_eq(sink.dead_rows, 2);
    ck_assert_uint_eq(sink.retry_rows, 0);
    ck_ok(state_stats(f.state, soon(), &stats));
    ck_assert_uint_eq(stats.dead_letters, 2);
    ck_ok(state_dead_requeue(f.state, "a", &dead.row.id, soon(), &n));
    ck_assert_uint_eq(n, 1);
    struct store_retry row;
    ck_ok(state_retry_each(f.state, sink.id, soon(), take_row, &row));
    ck_assert_uint_eq(row.attempts, 0);
    ck_assert_uint_le(row.due_ns, real_ns());
    expect_event(&f, sink.id, 1, 8, sizes[_i]);
    ck_code(state_dead_requeue(f.state, "a", &dead.row.id, soon(), &n), SPOOL_ENOTFOUND);
    ck_code(state_dead_requeue(f.state, "b", NULL, soon(), &n), SPOOL_ENOTFOUND);
    ck_ok(state_dead_purge(f.state, NULL, NULL, soon(), &n));
    ck_assert_uint_eq(n, 1);
    ck_code(state_dead_purge(f.state, NULL, NULL, soon(), NULL), SPOOL_ENOTFOUND);
    sink = get_sink(&f, "a");
    ck_assert_uint_eq(sink.dead_rows, 0);
    ck_assert_uint_eq(sink.retry_rows, 1);
    expect_whole(&f);
    end(&f);
}
END_TEST

START_TEST(dead_survive_their_sink)
{
    struct fixture f;
    begin(&f);
    struct store_sink sink = add_sink(&f, "a");
    struct store_dead dead;
    uint64_t n;
    ck_ok(bury(&f, &sink, 1, 8, 3000, true));
    ck_ok(put_retry(&f, &sink, 1, 9, 3000));
    ck_ok(state_sink_remove(f.state, "a", soon()));
    ck_assert_int_eq(retries_of(&f, sink.id), 0);
    ck_assert_int_eq(dead_of(&f, NULL, NULL), 1);
    ck_assert_int_eq(dead_of(&f, "a", &dead), 1);
    ck_assert_int_eq(dead_of(&f, "b", NULL), 0);
    ck_code(state_dead_requeue(f.state, "a", NULL, soon(), &n), SPOOL_ENOTFOUND);
    sink = add_sink(&f, "a");
    ck_assert_uint_eq(sink.dead_rows, 1);
    ck_ok(bury(&f, &sink, 1, 8, 3000, true)); /* dies again, of the new one */
    ck_assert_int_eq(dead_of(&f, "a", NULL), 2);
    ck_ok(state_dead_requeue(f.state, NULL, &dead.row.id, soon(), &n));
    ck_assert_uint_eq(n, 2);
    ck_assert_int_eq(retries_of(&f, sink.id), 1);
    expect_event(&f, sink.id, 1, 8, 3000);
    expect_whole(&f);
    end(&f);
}
END_TEST

START_TEST(missing_copies_are_reported)
{
    struct fixture f;
    begin(&f);
    struct store_sink sink = add_sink(&f, "a");
    ck_ok(bury(&f, &sink, 1, 8, 40, false));
    ck_assert_uint_eq(f.damaged, 1);
    const struct store_retry_put update = {.row = make_row(1, 9, 40)};
    struct store_ack ack = ack_of(&sink);
    ack.retries = &update;
    ack.retry_count = 1;
    ack.cursor[0] = 70;
    ck_ok(state_ack(f.state, &ack, soon()));
    ck_assert_uint_eq(f.damaged, 2);
    ck_assert_uint_eq(get_sink(&f, "a").cursor[0], 70);
    ck_assert_int_eq(retries_of(&f, sink.id), 0);
    end(&f);
}
END_TEST

/* ----------------------------------------------------------------------------------------------- more than one
 * transaction */

enum { MANY = 3500 };

struct many {
    struct store_retry_put *puts;
    struct store_dead_put *dead;
    struct store_done *done;
    uint8_t *bytes[2 * MANY];
};

static void make_many(struct many *m)
{
    m->puts = calloc(MANY, sizeof *m->puts);
    m->dead = calloc(MANY, sizeof *m->dead);
    m->done = calloc(MANY, sizeof *m->done);
    for (uint64_t i = 0; i < MANY; i++) {
        size_t size = i % 100 ? 40 : 1500;
        m->bytes[i] = event_bytes(i, size);
        m->puts[i] = (struct store_retry_put){.row = make_row(3, i, size), .packed = m->bytes[i]};
        m->dead[i] = (struct store_dead_put){.row = make_row(3, i, size), .died_ns = 1};
        m->done[i] = (struct store_done){.lane = 3, .seq = i};
    }
}

static void free_many(struct many *m)
{
    for (uint64_t i = 0; i < MANY; i++)
        free(m->bytes[i]);
    free(m->puts);
    free(m->dead);
    free(m->done);
}

START_TEST(large_acks)
{
    struct fixture f;
    struct many m;
    begin(&f);
    make_many(&m);
    struct store_sink sink = add_sink(&f, "a");
    struct store_ack ack = ack_of(&sink);
    ack.cursor[0] = 9;
    ack.delivered[LANE_MEDIUM] = 1;
    ack.retries = m.puts;
    ack.retry_count = MANY;
    ck_ok(state_ack(f.state, &ack, soon()));
    ck_assert_int_eq(retries_of(&f, sink.id), MANY);
    ck_assert_uint_eq(get_sink(&f, "a").delivered, 1);
    ack = ack_of(&sink);
    ack.dead = m.dead; /* the upper half dies, the lower one is done */
    ack.dead += MANY / 2;
    ack.dead_count = MANY - MANY / 2;
    ack.done = m.done;
    ack.done_count = MANY / 2;
    ck_ok(state_ack(f.state, &ack, soon()));
    sink = get_sink(&f, "a");
    ck_assert_uint_eq(sink.retry_rows, 0);
    ck_assert_uint_eq(sink.dead_rows, MANY - MANY / 2);
    ck_assert_uint_eq(sink.delivered, 1 + MANY / 2);
    ck_assert_uint_eq(sink.delivered_in[LANE_MEDIUM], 1);
    ck_assert_uint_eq(sink.delivered_in[3], MANY / 2);
    ck_assert_int_eq(dead_of(&f, "a", NULL), MANY - MANY / 2);
    uint64_t n;
    ck_ok(state_dead_requeue(f.state, "a", NULL, soon(), &n));
    ck_assert_uint_eq(n, MANY - MANY / 2);
    ck_assert_int_eq(retries_of(&f, sink.id), MANY - MANY / 2);
    expect_whole(&f);
    ck_ok(state_sink_remove(f.state, "a", soon()));
    ck_assert_int_eq(retries_of(&f, sink.id), 0);
    struct state_stats stats;
    ck_ok(state_stats(f.state, soon(), &stats));
    ck_assert_uint_lt(stats.rows, 10); /* no piece was forgotten */
    free_many(&m);
    end(&f);
}
END_TEST

/* A large one of everything: rows of the lane 3 that end or die, and events of the lane 1 from its cursor on, some of
 * which get a row or die. */
enum { LOG_FIRST = 2, LOG_ROWS = 1300, LOG_DEAD = 400, LOG_OVER = 70, LOG_ALL = LOG_ROWS + LOG_DEAD + LOG_OVER };

struct mixture {
    struct many rows;
    struct store_retry_put puts[LOG_ROWS];
    struct store_dead_put dead[MANY / 2 + LOG_DEAD];
    struct store_ack ack;
};

static void make_mixture(struct fixture *f, struct mixture *m)
{
    make_many(&m->rows);
    struct store_sink sink = add_sink(f, "a");
    m->ack = ack_of(&sink);
    m->ack.retries = m->rows.puts;
    m->ack.retry_count = MANY;
    ck_ok(state_ack(f->state, &m->ack, soon()));
    for (uint64_t i = 0; i < LOG_ROWS; i++)
        m->puts[i] = (struct store_retry_put){.row = make_row(1, LOG_FIRST + i, 40), .packed = m->rows.bytes[1]};
    for (uint64_t i = 0; i < LOG_DEAD; i++)
        m->dead[2 * i] = (struct store_dead_put){
            .row = make_row(1, LOG_FIRST + LOG_ROWS + i, 40), .died_ns = 1, .packed = m->rows.bytes[1]};
    for (size_t i = 0; i < MANY / 2; i++)
        m->dead[i < LOG_DEAD ? 2 * i + 1 : i + LOG_DEAD] = m->rows.dead[i];
    for (size_t i = 0; i < MANY; i++)
        m->rows.done[i].end = (enum store_end)(i % 4);
    m->ack = ack_of(&sink);
    m->ack.serial = 7;
    m->ack.cursor[1] = LOG_FIRST + LOG_ALL;
    m->ack.retries = m->puts;
    m->ack.retry_count = LOG_ROWS;
    m->ack.dead = m->dead;
    m->ack.dead_count = MANY / 2 + LOG_DEAD;
    m->ack.done = m->rows.done + MANY / 2;
    m->ack.done_count = MANY - MANY / 2;
    m->ack.delivered[1] = LOG_OVER - 15;
    m->ack.filtered = 10;
    m->ack.drops.events[SPOOL_DROP_EXPIRED] = 5;
}

static int count_log_row(void *user, const struct store_retry *row)
{
    *(uint64_t *)user += row->lane == 1;
    return 0;
}

/* Every event is at one place, and counted there. */
static void expect_exact(struct fixture *f)
{
    struct store_sink sink = get_sink(f, "a");
    struct state_stats stats;
    uint64_t log_rows = 0;
    ck_ok(state_retry_each(f->state, sink.id, soon(), count_log_row, &log_rows));
    ck_ok(state_stats(f->state, soon(), &stats));
    uint64_t waiting = sink.cursor[1] == LOG_FIRST ? LOG_ALL : 0;
    ck_assert_uint_eq(log_rows, waiting ? 0 : LOG_ROWS); /* a limit may drop what waits */
    uint64_t over = sink.delivered + sink.filtered + sink.dropped;
    ck_assert_uint_eq(over + sink.dead_rows + sink.retry_rows + waiting, MANY + LOG_ALL);
    ck_assert_uint_eq(stats.dead_letters, sink.dead_rows);
    ck_assert_uint_eq(sink.dropped, store_drops_total(&sink.drops));
    ck_assert_uint_eq(sink.delivered, sink.delivered_in[1] + sink.delivered_in[3]);
}

static void expect_all_done(struct fixture *f)
{
    struct store_sink sink = get_sink(f, "a");
    const uint64_t few = (MANY - MANY / 2) / 4; /* of each end, and one more of the two that the rows begin with */
    ck_assert_uint_eq(sink.delivered, LOG_OVER - 15 + few);
    ck_assert_uint_eq(sink.filtered, 10 + few);
    ck_assert_uint_eq(sink.drops.events[SPOOL_DROP_EXPIRED], 5 + few + 1);
    ck_assert_uint_eq(sink.drops.events[SPOOL_DROP_DAMAGED], few + 1);
    ck_assert_uint_eq(sink.dead_rows, MANY / 2 + LOG_DEAD);
    ck_assert_uint_eq(sink.retry_rows, LOG_ROWS);
}

/* The disk fails at each of its parts in turn, or only seems to; each time it is looked at as after a crash, and then sent
 * again as a whole. */
START_TEST(a_large_ack_is_counted_once_wherever_it_breaks)
{
    enum { PARTS_MIN = 4 };
    struct mixture *m = calloc(1, sizeof *m);
    for (int parts = 0, code = EIO; code; parts++) {
        struct fixture f;
        begin(&f);
        make_mixture(&f, m);
        expect_exact(&f);
        is_there_nevertheless = _i;
        commits_before_failure = parts;
        code = state_ack(f.state, &m->ack, soon());
        commits_before_failure = -1;
        is_there_nevertheless = false;
        if (code)
            ck_code(code, EIO);
        else
            ck_assert_int_ge(parts, PARTS_MIN);
        reopen(&f);
        expect_exact(&f);
        ck_ok(state_ack(f.state, &m->ack, soon()));
        expect_exact(&f);
        expect_all_done(&f);
        expect_whole(&f);
        free_many(&m->rows);
        end(&f);
    }
    free(m);
}
END_TEST

/* Sent again because nobody knows that it is there, it does not bring back what was done with it since. */
START_TEST(what_an_ack_stored_may_change_before_it_is_sent_again)
{
    struct fixture f;
    begin(&f);
    struct store_sink sink = add_sink(&f, "a");
    uint8_t *bytes = event_bytes(4, 100);
    const struct store_dead_put dead = {.row = make_row(1, 4, 100), .died_ns = 99, .packed = bytes};
    struct store_ack ack = ack_of(&sink);
    uint64_t n;
    ack.serial = 1;
    ack.cursor[1] = 5;
    ack.dead = &dead;
    ack.dead_count = 1;
    ck_ok(state_ack(f.state, &ack, soon()));
    ck_ok(state_dead_requeue(f.state, "a", NULL, soon(), &n));
    ck_ok(state_ack(f.state, &ack, soon()));
    ck_assert_uint_eq(get_sink(&f, "a").dead_rows, 0);
    ck_assert_uint_eq(get_sink(&f, "a").retry_rows, 1);
    expect_whole(&f);
    free(bytes);
    end(&f);
}
END_TEST

/* The next one, which says the same, is another one. */
START_TEST(acks_are_told_apart_by_their_serial)
{
    struct fixture f;
    begin(&f);
    struct store_sink sink = add_sink(&f, "a");
    struct store_ack ack = ack_of(&sink);
    ack.delivered[0] = 1;
    for (uint64_t serial = 1; serial < 4; serial++) {
        ack.serial = serial;
        ck_ok(state_ack(f.state, &ack, soon()));
        ck_ok(state_ack(f.state, &ack, soon()));
        ck_assert_uint_eq(get_sink(&f, "a").delivered, serial);
        ck_assert_uint_eq(get_sink(&f, "a").serial, serial);
    }
    end(&f);
}
END_TEST

/* After a crash the sink goes back to its checkpoint: so neither rows nor deletions may be apart from it. */
START_TEST(a_large_ack_with_a_checkpoint_is_one_transaction)
{
    struct fixture f;
    struct many m;
    begin(&f);
    make_many(&m);
    struct store_sink sink = add_sink(&f, "a");
    struct store_ack ack = ack_of(&sink);
    ack.checkpoint = "first";
    ack.checkpoint_size = 5;
    ack.retries = m.puts;
    ack.retry_count = MANY;
    commits_before_failure = 0;
    ck_code(state_ack(f.state, &ack, soon()), EIO);
    ck_assert_int_eq(retries_of(&f, sink.id), 0);
    commits_before_failure = 1;
    ck_ok(state_ack(f.state, &ack, soon()));
    ck_assert_int_eq(retries_of(&f, sink.id), MANY);
    ack = ack_of(&sink);
    ack.checkpoint = "second";
    ack.checkpoint_size = 6;
    ack.done = m.done;
    ack.done_count = MANY;
    commits_before_failure = 1;
    ck_ok(state_ack(f.state, &ack, soon()));
    commits_before_failure = -1;
    ck_assert_int_eq(retries_of(&f, sink.id), 0);
    free_many(&m);
    end(&f);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("state_ack");
    TCase *t = tcase_create("state_ack");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, cursor_and_ranges);
    tcase_add_test(t, too_many_ranges);
    tcase_add_test(t, stale);
    tcase_add_test(t, checkpoints);
    tcase_add_loop_test(t, retry_life, 0, 6);
    tcase_add_loop_test(t, dead_life, 0, 2);
    tcase_add_test(t, dead_survive_their_sink);
    tcase_add_test(t, missing_copies_are_reported);
    tcase_add_test(t, large_acks);
    tcase_add_loop_test(t, a_large_ack_is_counted_once_wherever_it_breaks, 0, 2);
    tcase_add_test(t, acks_are_told_apart_by_their_serial);
    tcase_add_test(t, what_an_ack_stored_may_change_before_it_is_sent_again);
    tcase_add_test(t, a_large_ack_with_a_checkpoint_is_one_transaction);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
