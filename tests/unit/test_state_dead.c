/* test_state_dead.c - dead letters and their history: through retries and restarts, edited, moved, imported, trimmed;
 * and states of version 1. */
#include "../../lib/base/id.h"
#include "state_rows.h"

/* What the letter of a sink says happened to it: "failed*2 requeued edited", oldest first. */
static int describe_history(void *user, const struct store_dead *dead)
{
    char *text = user;
    text[0] = 0;
    for (size_t i = 0; i < dead->attempt_count; i++)
        sprintf(text + strlen(text), "%s%u:%u:%.*s", i ? " " : "", dead->attempts[i].kind, dead->attempts[i].count,
                (int)dead->attempts[i].reason_size, dead->attempts[i].reason);
    return 0;
}

static const char *history_of(struct fixture *f, const char *sink)
{
    static char text[8192];
    strcpy(text, "none");
    ck_ok(state_dead_each(f->state, sink, soon(), describe_history, text));
    return text;
}

static void fail_again(struct fixture *f, const struct store_sink *sink, uint64_t seq, uint64_t failed_ns,
                       const char *reason, bool is_new)
{
    uint8_t *bytes = event_bytes(seq, SMALL);
    struct store_retry_put put = {.row = make_row(0, seq, SMALL), .packed = is_new ? bytes : NULL};
    struct store_ack ack = ack_of(sink);
    put.row.failed_ns = failed_ns;
    snprintf(put.row.reason, sizeof put.row.reason, "%s", reason);
    ack.retries = &put;
    ack.retry_count = 1;
    ck_ok(state_ack(f->state, &ack, soon()));
    ck_ok(state_ack(f->state, &(struct store_ack){.sink_id = sink->id, .generation = sink->generation}, soon()));
    free(bytes);
}

static void die_of(struct fixture *f, const struct store_sink *sink, uint64_t seq, uint64_t failed_ns,
                   const char *reason)
{
    struct store_dead_put put = {.row = make_row(0, seq, SMALL), .died_ns = failed_ns};
    struct store_ack ack = ack_of(sink);
    put.row.failed_ns = failed_ns;
    snprintf(put.row.reason, sizeof put.row.reason, "%s", reason);
    ack.dead = &put;
    ack.dead_count = 1;
    ck_ok(state_ack(f->state, &ack, soon()));
    ck_ok(state_ack(f->state, &ack, soon())); /* sent again: nothing is noted twice */
}

START_TEST(history_is_kept_through_retries_requeues_and_restarts)
{
    struct fixture f;
    uint64_t n;
    begin(&f);
    struct store_sink a = add_sink(&f, "a");
    fail_again(&f, &a, 7, 10, "first", true);
    reopen(&f);
    fail_again(&f, &a, 7, 20, "second", false);
    fail_again(&f, &a, 7, 20, "second", false); /* an acknowledgement that is sent again */
    die_of(&f, &a, 7, 30, "third");
    ck_assert_str_eq(history_of(&f, "a"), "1:1:first 1:1:second 1:1:third");
    ck_ok(state_dead_requeue(f.state, "a", NULL, soon(), &n));
    reopen(&f);
    die_of(&f, &a, 7, 40, "fourth");
    ck_assert_str_eq(history_of(&f, "a"), "1:1:first 1:1:second 1:1:third 2:1: 1:1:fourth");
    expect_whole(&f);
    end(&f);
}
END_TEST

START_TEST(a_parked_event_has_no_attempt)
{
    struct fixture f;
    begin(&f);
    struct store_sink a = add_sink(&f, "a");
    fail_again(&f, &a, 7, 0, "", true);
    die_of(&f, &a, 7, 30, "only");
    ck_assert_str_eq(history_of(&f, "a"), "1:1:only");
    end(&f);
}
END_TEST

/* Long reasons, and many attempts: the oldest are summed up, none is lost from the count, the newest stand. */
START_TEST(history_is_bounded)
{
    static char reason[200];
    struct history history = {0};
    struct store_attempt got[STORE_ATTEMPTS_MAX];
    size_t n;
    for (uint32_t i = 1; i <= 1000; i++) {
        memset(reason, 'a' + i % 26, sizeof reason);
        const struct store_attempt entry = {
            .kind = SPOOL_ATTEMPT_FAILED, .at_ns = i, .reason = reason, .reason_size = _i ? 3 : sizeof reason};
        history_add(&history, &entry, HISTORY_ROOM_MIN);
        ck_assert_uint_le(history.size, HISTORY_ROOM_MIN);
        ck_ok(history_read(history.bytes, history.size, got, &n));
        uint32_t count = 0;
        for (size_t k = 0; k < n; k++)
            count += got[k].count;
        ck_assert_uint_eq(count, i);
        ck_assert_uint_eq(got[0].at_ns, 1);
        ck_assert_uint_eq(got[n - 1].at_ns, i);
        ck_assert_int_eq(got[n - 1].reason[0], 'a' + (int)i % 26);
    }
    ck_assert_uint_eq(got[0].kind, SPOOL_ATTEMPT_SUMMARY);
    ck_assert_uint_eq(got[0].until_ns, got[1].at_ns - 1);
    ck_assert_uint_gt(n, _i ? 20 : 2);
}
END_TEST

START_TEST(histories_that_cannot_be)
{
    static const struct {
        uint8_t bytes[40];
        size_t size;
    } cases[] = {{{1, 0}, 9}, {{0, 0}, 10}, {{6, 0}, 10}, {{1, 255}, 10}, {{1, 5}, 14}, {{1, 121}, 40}, {{5, 0}, 21}};
    struct store_attempt got[STORE_ATTEMPTS_MAX];
    size_t n;
    ck_code(history_read(cases[_i].bytes, cases[_i].size, got, &n), SPOOL_EDAMAGED);
    struct history history = {.size = cases[_i].size};
    memcpy(history.bytes, cases[_i].bytes, cases[_i].size);
    history_add(&history, &(struct store_attempt){.kind = 1, .at_ns = 5, .reason = ""}, HISTORY_ROOM_MIN);
    ck_ok(history_read(history.bytes, history.size, got, &n)); /* it begins anew */
    ck_assert_uint_eq(n, 1);
}
END_TEST

/* The fullest row that can be stays within a leaf page and is read back. */
START_TEST(the_fullest_row)
{
    struct fixture f;
    char name[SINK_NAME_MAX + 1] = {0}, reason[REASON_MAX + 1] = {0};
    uint8_t *bytes = event_bytes(9, COPY_INLINE_MAX);
    begin(&f);
    memset(name, 'n', SINK_NAME_MAX);
    struct store_sink a = add_sink(&f, name);
    struct store_dead_put put = {.row = make_row(0, 9, COPY_INLINE_MAX), .died_ns = 1, .packed = bytes};
    struct store_ack ack = ack_of(&a);
    ack.dead = &put;
    ack.dead_count = 1;
    for (uint64_t i = 1; i < 100; i++) {
        const struct store_retry_put retry = {.row = put.row, .packed = i == 1 ? bytes : NULL};
        struct store_ack again = ack_of(&a);
        struct store_retry_put copy = retry;
        memset(reason, 'A' + (int)(i % 26), REASON_MAX);
        memcpy(copy.row.reason, reason, sizeof reason);
        copy.row.failed_ns = i;
        again.retries = &copy;
        again.retry_count = 1;
        ck_ok(state_ack(f.state, &again, soon()));
    }
    put.packed = NULL;
    memcpy(put.row.reason, reason, sizeof reason);
    put.row.failed_ns = 100;
    ck_ok(state_ack(f.state, &ack, soon()));
    struct store_dead dead;
    ck_assert_int_eq(dead_of(&f, name, &dead), 1);
    ck_assert_uint_ge(dead.attempt_count, 4);
    expect_whole(&f);
    free(bytes);
    end(&f);
}
END_TEST

/* ------------------------------------------------------------------------------------------------- moved and edited */

static int find_retry(void *user, const struct store_retry *row)
{
    *(struct store_retry *)user = *row;
    return 0;
}

START_TEST(requeued_to_another_sink)
{
    struct fixture f;
    struct store_retry row = {0};
    const size_t size = _i ? LARGE : SMALL;
    uint64_t n = 0, next[LANES];
    begin(&f);
    struct store_sink a = add_sink(&f, "a"), b = add_sink(&f, "b");
    ck_ok(bury(&f, &a, 1, 5, size, true));
    ck_code(state_dead_requeue_to(f.state, "a", NULL, "nobody", soon(), &n), SPOOL_ENOTFOUND);
    ck_ok(state_dead_requeue_to(f.state, "a", NULL, "b", soon(), &n));
    ck_assert_uint_eq(n, 1);
    ck_assert_int_eq(dead_of(&f, NULL, NULL), 0);
    ck_assert_uint_eq(get_sink(&f, "a").dead_rows, 0);
    ck_assert_uint_eq(get_sink(&f, "b").retry_rows, 1);
    ck_ok(state_retry_each(f.state, b.id, soon(), find_retry, &row));
    ck_assert_uint_ge(row.seq, SEQ_DETACHED);
    ck_assert_uint_eq(row.attempts, 0);
    ck_assert_uint_eq(row.key_hash, 0);
    ck_assert_uint_eq(row.size, size);
    uint8_t *got, *want = event_bytes(5, size);
    size_t got_size;
    ck_ok(state_retry_event(f.state, b.id, 1, row.seq, soon(), &got, &got_size));
    ck_assert(got_size == size && memcmp(got, want, size) == 0);
    free(got);
    free(want);
    ck_ok(state_known_next(f.state, true, soon(), next)); /* it has no place in the log */
    ck_assert_uint_lt(next[1], SEQ_DETACHED);
    expect_whole(&f);
    ck_code(state_dead_requeue_to(f.state, "a", NULL, "b", soon(), &n), SPOOL_ENOTFOUND);
    end(&f);
}
END_TEST

START_TEST(requeued_to_all_sinks)
{
    struct fixture f;
    uint64_t n = 0;
    begin(&f);
    ck_code(state_dead_requeue_to(f.state, NULL, NULL, NULL, soon(), &n), SPOOL_ENOTFOUND);
    struct store_sink a = add_sink(&f, "a");
    add_sink(&f, "b");
    add_sink(&f, "c");
    for (uint64_t seq = 1; seq <= 3; seq++)
        ck_ok(bury(&f, &a, 1, seq, seq == 2 ? LARGE : SMALL, true));
    ck_ok(state_dead_requeue_to(f.state, NULL, NULL, NULL, soon(), &n));
    ck_assert_uint_eq(n, 3);
    ck_assert_uint_eq(get_sink(&f, "a").retry_rows, 3);
    ck_assert_uint_eq(get_sink(&f, "b").retry_rows, 3);
    ck_assert_uint_eq(get_sink(&f, "c").retry_rows, 3);
    for (uint64_t seq = 1; seq <= 3; seq++)
        expect_event(&f, a.id, 1, seq, seq == 2 ? LARGE : SMALL); /* its own keeps the place */
    expect_whole(&f);
    /* of a removed sink: all the others */
    ck_ok(bury(&f, &a, 1, 9, SMALL, true));
    ck_ok(state_sink_remove(f.state, "a", soon()));
    ck_ok(state_dead_requeue_to(f.state, "a", NULL, NULL, soon(), &n));
    ck_assert_int_eq(dead_of(&f, NULL, NULL), 0);
    ck_assert_uint_eq(get_sink(&f, "b").retry_rows, 4);
    expect_whole(&f);
    end(&f);
}
END_TEST

/* A packed event of our own making, whose id is that of the row. */
static uint8_t *pack(const struct spool_id *id, const char *body, enum spool_priority priority, size_t *ret_size)
{
    struct spool_event event = SPOOL_EVENT(.type = "t", .body = body, .body_size = strlen(body), .priority = priority);
    struct event_measure measure;
    ck_ok(event_measure(&event, 1 << 20, &measure));
    uint8_t *packed = malloc(measure.packed_size);
    event_pack(&event, &measure, id, packed);
    *ret_size = measure.packed_size;
    return packed;
}

static int keep_body(void *user, const struct store_dead *dead)
{
    struct event_view view;
    ck_ok(event_unpack(dead->packed, dead->packed_size, &view));
    snprintf(user, 64, "%.*s %d %d", (int)view.event.body_size, (const char *)view.event.body, dead->row.lane,
             dead->row.seq >= SEQ_DETACHED);
    return 0;
}

START_TEST(edited_keeps_id_and_history)
{
    struct fixture f;
    struct spool_id id;
    uint64_t n = 0;
    size_t size;
    char body[64] = "";
    begin(&f);
    struct store_sink a = add_sink(&f, "a");
    id_make((struct hlc_stamp){1000, 1}, 7, &id);
    uint8_t *packed = pack(&id, "\"old\"", SPOOL_MEDIUM, &size);
    struct store_dead_put put = {.row = make_row(LANE_MEDIUM, 3, size), .died_ns = 5, .packed = packed};
    struct store_ack ack = ack_of(&a);
    put.row.id = id;
    put.row.failed_ns = 5;
    ack.dead = &put;
    ack.dead_count = 1;
    ck_ok(state_ack(f.state, &ack, soon()));
    free(packed);
    packed = pack(&id, "\"new\"", SPOOL_MEDIUM, &size);
    ck_code(state_dead_edit(f.state, "b", &id, packed, size, soon(), &n), SPOOL_ENOTFOUND);
    ck_ok(state_dead_edit(f.state, "a", &id, packed, size, soon(), &n));
    ck_assert_uint_eq(n, 1);
    reopen(&f);
    ck_ok(state_dead_find(f.state, "a", &id, soon(), keep_body, body));
    ck_assert_str_eq(body, "\"new\" 2 0");
    ck_assert_str_eq(history_of(&f, "a"), "1:1:reason 3 3:1:");
    free(packed);
    packed = pack(&id, "\"urgent\"", SPOOL_CRITICAL, &size); /* of another lane: at no place in the log any more */
    ck_ok(state_dead_edit(f.state, NULL, &id, packed, size, soon(), &n));
    ck_ok(state_dead_find(f.state, NULL, &id, soon(), keep_body, body));
    ck_assert_str_eq(body, "\"urgent\" 0 1");
    ck_ok(state_dead_requeue(f.state, NULL, &id, soon(), &n));
    ck_assert_uint_eq(get_sink(&f, "a").retry_rows, 1);
    expect_whole(&f);
    free(packed);
    end(&f);
}
END_TEST

START_TEST(imported_once_also_for_nobody)
{
    static const struct store_attempt attempts[] = {
        {.kind = SPOOL_ATTEMPT_SUMMARY, .count = 9, .at_ns = 1, .until_ns = 4, .reason = "old", .reason_size = 3},
        {.kind = SPOOL_ATTEMPT_FAILED, .count = 1, .at_ns = 5, .until_ns = 5, .reason = "last", .reason_size = 4}};
    struct fixture f;
    uint64_t n = 0;
    size_t size;
    begin(&f);
    struct store_dead dead = {.died_ns = 5, .attempts = attempts, .attempt_count = 2, .sink = "later"};
    id_make((struct hlc_stamp){1000, 1}, 7, &dead.row.id);
    uint8_t *packed = pack(&dead.row.id, "1", SPOOL_HIGH, &size);
    dead.packed = packed;
    dead.packed_size = size;
    dead.row.lane = LANE_HIGH;
    ck_ok(state_dead_import(f.state, &dead, soon()));
    ck_code(state_dead_import(f.state, &dead, soon()), SPOOL_EEXISTS);
    ck_assert_str_eq(history_of(&f, "later"), "5:9:old 1:1:last 4:1:");
    ck_code(state_dead_requeue(f.state, NULL, NULL, soon(), &n), SPOOL_ENOTFOUND); /* its sink is not there */
    ck_assert_uint_eq(add_sink(&f, "later").id, 2);
    ck_assert_uint_eq(get_sink(&f, "later").dead_rows, 1);
    ck_ok(state_dead_requeue(f.state, NULL, NULL, soon(), &n));
    ck_assert_uint_eq(get_sink(&f, "later").retry_rows, 1);
    ck_ok(state_dead_import(f.state, &dead, soon()));
    ck_assert_uint_eq(get_sink(&f, "later").dead_rows, 1);
    expect_whole(&f);
    free(packed);
    end(&f);
}
END_TEST

/* ---------------------------------------------------------------------------------------------------------- limits */

START_TEST(trimmed_by_number_bytes_and_age)
{
    const struct store_dead_limits limits[] = {
        {.rows_max = 3}, {.bytes_max = 3 * SMALL}, {.age_max_ms = 1}, {.rows_max = 20}};
    const int left[] = {3, 3, 0, 10};
    struct fixture f;
    uint64_t dropped = 0;
    begin(&f);
    struct store_sink a = add_sink(&f, "a"), b = add_sink(&f, "b");
    for (uint64_t seq = 1; seq <= 10; seq++)
        ck_ok(bury(&f, &a, 1, seq, SMALL, true));
    ck_ok(bury(&f, &b, 1, 1, SMALL, true));
    f.state->options.wall_ns = _i == 2 ? NULL : fixed_wall_ns; /* they died in 1970 */
    ck_ok(state_dead_trim(f.state, "a", &limits[_i], soon(), &dropped));
    ck_assert_int_eq((int)dropped, 10 - left[_i]);
    struct store_dead last;
    ck_assert_int_eq(dead_of(&f, "a", &last), left[_i]);
    if (left[_i])
        ck_assert_uint_eq(last.row.seq, 10); /* the oldest go */
    ck_assert_int_eq(dead_of(&f, "b", NULL), 1);
    ck_assert_uint_eq(get_sink(&f, "a").dead_rows, (unsigned)left[_i]);
    ck_assert_uint_eq(get_sink(&f, "a").dead_dropped, dropped);
    ck_ok(state_dead_trim(f.state, "a", &limits[_i], soon(), &dropped));
    ck_assert_uint_eq(dropped, 0);
    expect_whole(&f);
    end(&f);
}
END_TEST

/* ----------------------------------------------------------------------------------------- what is kept of those purged
 */

static int purged(struct fixture *f, const struct store_sink *sink, int lane, uint64_t seq, struct store_purged *ret)
{
    struct store_purged other;
    const struct store_retry row = make_row(lane, seq, 0);
    return state_purged_find(f->state, sink->id, &row.id, soon(), ret ? ret : &other);
}

START_TEST(purged_ones_are_remembered_until_they_are_back)
{
    struct fixture f;
    struct store_purged got;
    uint64_t n;
    begin(&f);
    struct store_sink a = add_sink(&f, "a"), b = add_sink(&f, "b");
    for (uint64_t seq = 1; seq <= 4; seq++)
        ck_ok(bury(&f, &a, 1, seq, SMALL, true));
    ck_ok(bury(&f, &b, 1, 2, SMALL, true));
    const struct store_retry second = make_row(1, 2, SMALL);
    ck_ok(state_dead_purge(f.state, "a", NULL, soon(), &n));
    ck_assert_uint_eq(n, 4);
    reopen(&f);
    ck_ok(purged(&f, &a, 1, 2, &got));
    ck_assert_uint_eq(got.seq, 2);
    ck_assert_uint_eq(got.at_ns, TEST_WALL_NS);
    ck_assert(!got.by_limit);
    ck_code(purged(&f, &b, 1, 2, NULL), SPOOL_ENOTFOUND); /* it is dead there */
    ck_ok(state_dead_requeue_to(f.state, "b", &second.id, "a", soon(), &n));
    ck_code(purged(&f, &a, 1, 2, NULL), SPOOL_ENOTFOUND); /* on its way again */
    const uint64_t back[LANES] = {0, 4, 0, 0};
    struct store_ack ack = ack_of(&a);
    ack.cursor[1] = 10;
    ck_ok(state_ack(f.state, &ack, soon()));
    ck_ok(state_sink_rewind(f.state, "a", back, soon(), &n));
    ck_ok(purged(&f, &a, 1, 3, NULL));
    ck_code(purged(&f, &a, 1, 4, NULL), SPOOL_ENOTFOUND); /* likewise */
    ck_ok(state_sink_remove(f.state, "a", soon()));
    ck_code(purged(&f, &a, 1, 3, NULL), SPOOL_ENOTFOUND);
    expect_whole(&f);
    end(&f);
}
END_TEST

START_TEST(purged_ones_are_bounded)
{
    const struct store_dead_limits limit = {.rows_max = 1};
    struct fixture f;
    struct store_purged got;
    uint64_t dropped;
    begin(&f);
    struct store_sink a = add_sink(&f, "a");
    for (uint64_t seq = 1; seq <= STORE_PURGED_MAX + 3; seq++)
        ck_ok(bury(&f, &a, 1, seq, SMALL, true));
    ck_ok(state_dead_trim(f.state, "a", &limit, soon(), &dropped));
    ck_assert_uint_eq(dropped, STORE_PURGED_MAX + 2);
    ck_code(purged(&f, &a, 1, 2, NULL), SPOOL_ENOTFOUND);
    ck_ok(purged(&f, &a, 1, 3, &got));
    ck_assert(got.by_limit);
    ck_assert_uint_eq(get_sink(&f, "a").drops.upto[1], 3); /* of those before it is not known any more */
    const uint64_t back[LANES] = {0, 2, 0, 0};
    struct store_ack ack = ack_of(&a);
    ack.cursor[1] = 200;
    ck_ok(state_ack(f.state, &ack, soon()));
    ck_ok(state_sink_rewind(f.state, "a", back, soon(), &dropped));
    ck_assert_uint_eq(get_sink(&f, "a").drops.upto[1], 2);
    expect_whole(&f);
    end(&f);
}
END_TEST

START_TEST(a_damaged_memory_of_purged_ones_is_none)
{
    struct fixture f;
    uint64_t n;
    begin(&f);
    struct store_sink a = add_sink(&f, "a");
    struct state_key key = meta_key(META_SINK_PURGED);
    state_key_u32(&key, a.id);
    ck_ok(bury(&f, &a, 1, 1, SMALL, true));
    if (_i == 0)
        put_junk(&f, &key);
    else
        put_row(&f, &key, "not a number of entries", 23);
    ck_code(purged(&f, &a, 1, 1, NULL), SPOOL_ENOTFOUND);
    ck_ok(state_dead_purge(f.state, "a", NULL, soon(), &n));
    ck_ok(purged(&f, &a, 1, 1, NULL)); /* written anew */
    end(&f);
}
END_TEST

/* --------------------------------------------------------------------------------------------------- rewind, options
 */

START_TEST(rewound_never_forward)
{
    static const struct store_range ranges[] = {{20, 5}};
    struct fixture f;
    uint64_t again = 0;
    begin(&f);
    struct store_sink a = add_sink(&f, "a"); /* starts at 1 2 3 4 */
    struct store_ack ack = ack_of(&a);
    for (int lane = 0; lane < LANES; lane++)
        ack.cursor[lane] = 10;
    ack.ranges[0] = ranges;
    ack.range_count[0] = 1;
    ck_ok(state_ack(f.state, &ack, soon()));
    const uint64_t back[LANES] = {5, 50, 10, 0};
    ck_code(state_sink_rewind(f.state, "nobody", back, soon(), &again), SPOOL_ENOTFOUND);
    ck_ok(state_sink_rewind(f.state, "a", back, soon(), &again));
    ck_assert_uint_eq(again, 5 + 5 + 10); /* lane 0 and its range; lane 3 */
    reopen(&f);
    struct store_sink now = get_sink(&f, "a");
    ck_assert_uint_eq(now.cursor[0], 5);
    ck_assert_uint_eq(now.cursor[1], 10);
    ck_assert_uint_eq(now.cursor[2], 10);
    ck_assert_uint_eq(now.cursor[3], 0);
    ck_assert_uint_eq(now.start[3], 0);
    ck_assert_uint_eq(now.start[1], 2);
    ck_assert_uint_eq(now.range_count[0], 0);
    ck_assert_uint_gt(now.generation, a.generation);
    ck_code(state_ack(f.state, &ack, soon()), SPOOL_ESTALE); /* from before */
    expect_whole(&f);
    end(&f);
}
END_TEST

START_TEST(configuration_is_changed_and_kept)
{
    struct fixture f;
    char *text = NULL;
    begin(&f);
    ck_code(state_sink_set_config(f.state, "a", "{}", soon()), SPOOL_ENOTFOUND);
    add_sink(&f, "a");
    ck_ok(state_sink_set_config(f.state, "a", "{\"x\":2}", soon()));
    ck_ok(state_sink_set_config(f.state, "a", "{\"x\":2}", soon()));
    reopen(&f);
    ck_ok(state_sink_config(f.state, "a", soon(), &text));
    ck_assert_str_eq(text, "{\"x\":2}");
    free(text);
    char *large = calloc(1, STATE_CONFIG_MAX + 2);
    memset(large, ' ', STATE_CONFIG_MAX + 1);
    ck_code(state_sink_set_config(f.state, "a", large, soon()), SPOOL_ETOOBIG);
    free(large);
    expect_whole(&f);
    end(&f);
}
END_TEST

/* ------------------------------------------------------------------------------------------------------ version 1 */

/* Makes the state what version 1 would have written: no tail in sink rows, no histories, and its version. */
static void make_version_1(struct fixture *f)
{
    static const enum state_table tables[] = {TABLE_SINK, TABLE_DEAD, TABLE_RETRY};
    struct state_txn txn;
    ck_ok(state_txn_write(f->state, soon(), &txn));
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        struct state_key at = state_key((uint8_t)tables[i]);
        struct state_row view;
        while (state_table_next(&txn, &at, 1, &view) == SPOOL_OK) {
            uint8_t body[ROW_MAX];
            size_t size = view.body_size;
            memcpy(body, view.body, size);
            if (tables[i] == TABLE_SINK)
                size = 98 + (size_t)body[96] + body[97];
            else
                ck_assert_uint_eq(body[83], 0);
            ck_ok(state_table_put(&txn, &at, body, size));
        }
    }
    uint8_t version[16] = {1};
    struct state_key key = meta_key(META_VERSION);
    ck_ok(state_table_put(&txn, &key, version, sizeof version));
    ck_ok(state_txn_end(&txn, SPOOL_OK));
}

static uint32_t version_on_disk(struct fixture *f)
{
    struct state_txn txn;
    struct state_row view;
    struct state_key key = meta_key(META_VERSION);
    ck_ok(state_txn_read(f->state, soon(), &txn));
    ck_ok(state_table_get(&txn, &key, &view));
    uint32_t version = get_u32(view.body);
    state_txn_abort(&txn);
    return version;
}

START_TEST(version_1_opens_and_is_raised_by_the_first_change)
{
    struct fixture f;
    uint64_t n = 0;
    begin(&f);
    fill_state(&f);
    make_version_1(&f);
    close_state(&f);
    ck_ok(open_state(&f, SPOOL_READ_ONLY));
    ck_assert_int_eq(dead_of(&f, "a", NULL), 4);
    close_state(&f);
    ck_ok(open_state(&f, 0));
    ck_assert(!f.salvaged);
    ck_assert_uint_eq(version_on_disk(&f), 1);
    ck_assert_uint_eq(get_sink(&f, "a").cursor[1], start_at[1]);
    ck_assert_int_eq(retries_of(&f, 1), 4);
    ck_assert_int_eq(dead_of(&f, "a", NULL), 4);
    expect_whole(&f);
    ck_ok(state_dead_requeue(f.state, "a", NULL, soon(), &n));
    ck_assert_uint_eq(n, 4);
    ck_assert_uint_eq(version_on_disk(&f), STATE_VERSION);
    reopen(&f);
    ck_assert_int_eq(retries_of(&f, 1), 8);
    expect_whole(&f);
    end(&f);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("state_dead");
    TCase *t = tcase_create("state_dead");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, history_is_kept_through_retries_requeues_and_restarts);
    tcase_add_test(t, a_parked_event_has_no_attempt);
    tcase_add_loop_test(t, history_is_bounded, 0, 2);
    tcase_add_loop_test(t, histories_that_cannot_be, 0, 7);
    tcase_add_test(t, the_fullest_row);
    tcase_add_loop_test(t, requeued_to_another_sink, 0, 2);
    tcase_add_test(t, requeued_to_all_sinks);
    tcase_add_test(t, edited_keeps_id_and_history);
    tcase_add_test(t, imported_once_also_for_nobody);
    tcase_add_loop_test(t, trimmed_by_number_bytes_and_age, 0, 4);
    tcase_add_test(t, purged_ones_are_remembered_until_they_are_back);
    tcase_add_test(t, purged_ones_are_bounded);
    tcase_add_loop_test(t, a_damaged_memory_of_purged_ones_is_none, 0, 2);
    tcase_add_test(t, rewound_never_forward);
    tcase_add_test(t, configuration_is_changed_and_kept);
    tcase_add_test(t, version_1_opens_and_is_raised_by_the_first_change);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
