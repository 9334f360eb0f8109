/* test_state_rows.c - rows that are damaged, or whole and make no sense: left out of every answer, told, and never in
 * the way of the others. */
#include "state_rows.h"

static uint64_t findings(struct fixture *f)
{
    struct spool_verify_report report = {.size = sizeof report};
    int code = state_verify(f->state, soon(), NULL, NULL, &report);
    ck_code(code, report.findings ? SPOOL_EDAMAGED : SPOOL_OK);
    return report.findings;
}

static uint8_t *body_of(struct fixture *f, const struct state_key *key, size_t *ret_size)
{
    static uint8_t body[ROW_MAX];
    struct state_txn txn;
    struct state_row view;
    ck_ok(state_txn_read(f->state, soon(), &txn));
    ck_ok(state_table_get(&txn, key, &view));
    memcpy(body, view.body, view.body_size);
    *ret_size = view.body_size;
    state_txn_abort(&txn);
    return body;
}

static struct state_key row_key(enum state_table table, uint32_t id)
{
    struct state_key key = state_key((uint8_t)table);
    state_key_u32(&key, id);
    return key;
}

static struct state_key piece_key(enum state_table table, uint32_t id, uint32_t piece)
{
    struct state_key key = row_key(table, id);
    state_key_u32(&key, piece);
    return key;
}

/* Changes of a sink's row that its checksum does not tell. */
START_TEST(sink_rows_that_cannot_be)
{
    static const struct {
        size_t at, size; /* of the changed byte; what the row has, 0: as it was */
        uint8_t byte;
    } cases[] = {{0, 20, 0}, {96, 0, 0}, {96, 0, 65}, {97, 0, 32}, {97, 0, 3}, {98, 0, 0}};
    struct fixture f;
    const struct state_key key = row_key(TABLE_SINK, 2);
    size_t size;
    begin(&f);
    fill_state(&f);
    uint8_t *body = body_of(&f, &key, &size);
    body[cases[_i].at] = cases[_i].byte;
    put_row(&f, &key, body, cases[_i].size ? cases[_i].size : size);
    struct store_sink sink;
    ck_code(state_sink_get(f.state, "b", soon(), &sink), SPOOL_ENOTFOUND);
    ck_ok(state_sink_get(f.state, "a", soon(), &sink));
    ck_assert_uint_eq(findings(&f), 1);
    struct store_ack ack = {.sink_id = 2, .generation = 2};
    ck_code(state_ack(f.state, &ack, soon()), SPOOL_EDAMAGED);
    reopen(&f);
    end(&f);
}
END_TEST

/* Its ranges are an optimisation: those that do not belong to the sink are none. */
START_TEST(ranges_that_cannot_be)
{
    struct fixture f;
    struct state_key key = row_key(TABLE_RANGES, 1);
    size_t size;
    state_key_u8(&key, 0);
    begin(&f);
    fill_state(&f);
    ck_assert_uint_eq(get_sink(&f, "a").range_count[0], 1);
    uint8_t *body = body_of(&f, &key, &size);
    body[0] ^= 1; /* generation */
    if (_i == 2)
        put_junk(&f, &key);
    else
        put_row(&f, &key, body, size - (_i ? 8 : 0));
    ck_assert_uint_eq(get_sink(&f, "a").range_count[0], 0);
    uint64_t next[LANES];
    ck_ok(state_known_next(f.state, true, soon(), next));
    ck_assert_uint_eq(next[0], 5); /* the retry's */
    end(&f);
}
END_TEST

/* Pieces that are missing, too many, too few, or another's. */
START_TEST(configurations_that_cannot_be)
{
    static const uint8_t huge[] = {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, more[] = {9, 0, 0, 0, 0, 0, 0, 0, 'x'},
                         wrong[] = {2, 0, 0, 0, 1, 2, 3, 4, '{', '}'};
    static const struct {
        const void *body;
        size_t size;
    } cases[] = {{"short", 5}, {huge, 8}, {more, 9}, {wrong, 10}};
    struct fixture f;
    const struct state_key key = piece_key(TABLE_CONFIG, 1, 0);
    char *config;
    begin(&f);
    fill_state(&f);
    put_row(&f, &key, cases[_i].body, cases[_i].size);
    ck_code(state_sink_config(f.state, "a", soon(), &config), SPOOL_EDAMAGED);
    ck_assert_uint_eq(findings(&f), 1);
    struct buffer out = {0};
    ck_ok(state_snapshot(f.state, soon(), &out)); /* the sink is kept without it */
    ck_ok(state_restore(f.state, out.data, out.size, soon(), NULL));
    buffer_free(&out);
    add_sink(&f, "a");
    ck_ok(state_sink_config(f.state, "a", soon(), &config));
    ck_assert_str_eq(config, "{}");
    free(config);
    ck_assert_uint_eq(findings(&f), 0);
    end(&f);
}
END_TEST

START_TEST(a_lost_configuration_is_asked_for)
{
    struct fixture f;
    struct state_txn txn;
    const struct state_key key = piece_key(TABLE_CONFIG, 1, 0);
    char *config;
    begin(&f);
    fill_state(&f);
    ck_ok(state_txn_write(f.state, soon(), &txn));
    ck_ok(state_txn_end(&txn, state_table_delete(&txn, &key)));
    ck_code(state_sink_config(f.state, "a", soon(), &config), SPOOL_EDAMAGED);
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "register it again"));
    end(&f);
}
END_TEST

/* General rows that are damaged are as if they were not there. */
START_TEST(general_rows_that_cannot_be)
{
    static const enum state_meta metas[] = {META_NUMBERS, META_COUNTERS, META_CLOCK, META_DROPPED};
    struct fixture f;
    struct spool_id id = {{1}};
    uint64_t dropped;
    const uint64_t first[LANES] = {0}, upto[LANES] = {9, 9, 9, 9};
    begin(&f);
    add_sink(&f, "a");
    ck_ok(state_clock_raise(f.state, &id, soon()));
    ck_ok(state_drop_below(f.state, first, upto, soon(), &dropped));
    for (int i = 0; i < 4; i++) {
        const struct state_key key = meta_key(metas[i]);
        if (_i)
            put_junk(&f, &key);
        else
            put_row(&f, &key, "odd", 3);
    }
    ck_code(state_clock_get(f.state, soon(), &id), SPOOL_ENOTFOUND);
    ck_ok(state_clock_raise(f.state, &id, soon()));
    ck_ok(state_clock_get(f.state, soon(), &id));
    struct state_stats stats;
    ck_ok(state_stats(f.state, soon(), &stats));
    ck_assert_uint_eq(stats.counters[STATE_DROPPED_EVENTS], 0);
    ck_ok(state_count(f.state, STATE_DROPPED_EVENTS, 5, NULL, soon()));
    ck_ok(state_drop_below(f.state, first, upto, soon(), &dropped));
    ck_assert_uint_eq(dropped, 0); /* the cursors are behind it */
    ck_ok(state_stats(f.state, soon(), &stats));
    ck_assert_uint_eq(stats.counters[STATE_DROPPED_EVENTS], 5);
    end(&f);
}
END_TEST

/* Copies of events whose rows are whole and make no sense: left out of every list, told, taken away with the others. */
START_TEST(event_rows_that_cannot_be)
{
    struct fixture f;
    struct state_key retry = copy_retry_key(1, 0, 1), dead;
    size_t size;
    begin(&f);
    fill_state(&f);
    const struct store_retry row = make_row(1, 1, SMALL);
    dead = copy_dead_key(&row.id, 1);
    uint8_t *body = body_of(&f, &retry, &size);
    body[80] = _i ? 0 : LANES; /* lane */
    put_row(&f, &retry, body, _i ? 10 : size);
    body = body_of(&f, &dead, &size);
    body[82] = 255; /* size of the sink's name */
    put_row(&f, &dead, body, _i ? 10 : size);
    ck_assert_int_eq(retries_of(&f, 1), 3);
    ck_assert_int_eq(dead_of(&f, NULL, NULL), 3);
    ck_assert_uint_eq(findings(&f), 2);
    uint64_t next[LANES], n;
    ck_ok(state_known_next(f.state, true, soon(), next));
    ck_assert_uint_eq(next[1], 5); /* the last letter's */
    uint8_t *event;
    ck_code(state_retry_event(f.state, 1, 0, 1, soon(), &event, &size), SPOOL_EDAMAGED);
    ck_ok(put_retry(&f, &(struct store_sink){.id = 1, .generation = 1}, 0, 1, SMALL)); /* again, with its event */
    expect_event(&f, 1, 0, 1, SMALL);
    ck_ok(state_dead_purge(f.state, "a", NULL, soon(), &n));
    ck_assert_uint_eq(n, 3);
    add_sink(&f, "c"); /* counts the letters of that name, too */
    ck_ok(state_sink_remove(f.state, "a", soon()));
    ck_assert_int_eq(retries_of(&f, 1), 0);
    end(&f);
}
END_TEST

/* A damaged retry is done with, dies, comes again: each without its copy, and without a failure. */
START_TEST(damaged_retries_leave)
{
    struct fixture f;
    struct store_sink a = {.id = 1, .generation = 1};
    begin(&f);
    fill_state(&f);
    for (uint64_t seq = 1; seq <= 3; seq++) {
        const struct state_key key = copy_retry_key(1, 0, seq);
        put_junk(&f, &key);
    }
    ck_ok(finish(&f, &a, 0, 1));
    ck_ok(bury(&f, &a, 0, 2, SMALL, false));
    ck_ok(put_retry(&f, &a, 0, 3, LARGE));
    ck_assert_uint_gt(f.damaged, 0);
    ck_assert_int_eq(dead_of(&f, NULL, NULL), 4);
    ck_assert_int_eq(retries_of(&f, 1), 2);
    ck_assert_uint_eq(get_sink(&f, "a").retry_rows, 2);
    const struct store_retry row = make_row(1, 1, SMALL);
    struct state_key letter = copy_dead_key(&row.id, 1), back = copy_retry_key(1, 1, 3);
    put_junk(&f, &letter);
    ck_ok(bury(&f, &a, 1, 1, SMALL, true)); /* in the place of a damaged letter */
    put_junk(&f, &back);
    uint64_t n;
    ck_ok(state_dead_requeue(f.state, "a", NULL, soon(), &n)); /* in the place of a damaged retry, once */
    ck_assert_uint_eq(n, 4);
    expect_event(&f, 1, 1, 3, SMALL);
    end(&f);
}
END_TEST

/* Damaged rows of a sink that is not there (its row may be lost) must not make one. */
START_TEST(damaged_retries_of_nobody)
{
    struct fixture f;
    begin(&f);
    fill_state(&f);
    const struct state_key key = copy_retry_key(99, 0, 1);
    struct state_stats before, after;
    put_junk(&f, &key);
    ck_ok(state_stats(f.state, soon(), &before));
    ck_assert_int_eq(retries_of(&f, 99), 0);
    ck_ok(state_stats(f.state, soon(), &after));
    ck_assert_uint_eq(after.rows, before.rows);
    ck_assert_uint_eq(after.sinks, 2);
    end(&f);
}
END_TEST

/* ------------------------------------------------------------------------------------------------ the envelope, tables
 */

START_TEST(envelopes)
{
    enum { SEED = 77, SIZE = 24 + 5 + 4 };
    uint8_t row[SIZE];
    struct state_row view;
    const struct state_key key = row_key(TABLE_SINK, 1);
    state_row_write(row, SEED, &key, "body", 4, 9);
    ck_ok(state_row_read(row, SIZE, SEED, &view));
    ck_assert_uint_eq(view.stamp, 9);
    ck_code(state_row_read(row, SIZE - 1, SEED, &view), SPOOL_EDAMAGED);
    ck_code(state_row_read(row, 23, SEED, &view), SPOOL_EDAMAGED);
    ck_code(state_row_read(row, SIZE, SEED + 1, &view), SPOOL_EDAMAGED);
    static const struct {
        size_t at;
        uint8_t byte;
        int code;
    } cases[] = {{4, 2, SPOOL_EVERSION}, {6, 0, SPOOL_EDAMAGED}, {7, 2, SPOOL_EDAMAGED}, {17, 255, SPOOL_EDAMAGED}};
    for (size_t i = 0; i < 4; i++) {
        uint8_t odd[SIZE];
        memcpy(odd, row, SIZE);
        odd[cases[i].at] = cases[i].byte;
        put_u32(odd + 20, crc32c(crc32c(SEED, odd, 20), odd + 24, SIZE - 24));
        ck_code(state_row_read(odd, SIZE, SEED, &view), cases[i].code);
    }
    struct state_key longest = row_key(TABLE_DAMAGE, 1);
    uint8_t bytes[ROW_KEY_MAX + 50] = {0};
    state_key_bytes(&longest, bytes, sizeof bytes);
    ck_assert_uint_eq(longest.size, ROW_KEY_MAX);
}
END_TEST

START_TEST(rows_of_other_keys_and_tables)
{
    struct fixture f;
    struct state_txn txn;
    struct state_row view;
    uint8_t row[100];
    static uint8_t large[ROW_MAX];
    begin(&f);
    add_sink(&f, "a");
    const struct state_key key = row_key(TABLE_SINK, 1), other = row_key(TABLE_SINK, 9), strange = row_key(200, 1);
    state_row_write(row, f.state->seed, &key, "body", 4, 1);
    MDB_val k = {.mv_size = other.size, .mv_data = (void *)other.bytes}, value = {.mv_size = 33, .mv_data = row};
    ck_ok(state_txn_write(f.state, soon(), &txn));
    ck_assert_int_eq(mdb_put(txn.txn, f.state->dbi, &k, &value, 0), 0);
    ck_code(state_table_get(&txn, &other, &view), SPOOL_EDAMAGED);
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "another key"));
    value.mv_size = 40; /* more than the row */
    ck_assert_int_eq(mdb_put(txn.txn, f.state->dbi, &k, &value, 0), 0);
    ck_code(state_table_get(&txn, &other, &view), SPOOL_EDAMAGED);
    state_row_write(row, f.state->seed, &(struct state_key){.bytes = {TABLE_SINK}, .size = 1}, "body", 4, 1);
    value.mv_size = 29;
    ck_assert_int_eq(mdb_put(txn.txn, f.state->dbi, &k, &value, 0), 0);
    ck_code(state_table_get(&txn, &other, &view), SPOOL_EDAMAGED);
    uint64_t n = 0;
    ck_ok(state_table_clear(&txn, &(struct state_key){.bytes = {TABLE_SINK}, .size = 1}, 1, &n));
    ck_assert_uint_eq(n, 1);
    ck_code(state_table_delete(&txn, &strange), SPOOL_ENOTFOUND);
    ck_code(state_table_put(&txn, &strange, large, sizeof large), SPOOL_EINTERNAL);
    state_txn_abort(&txn);
    put_junk(&f, &strange);
    ck_assert_uint_eq(findings(&f), 1);
    char text[80];
    ck_assert_str_eq(state_table_describe(strange.bytes, strange.size, text), "unknown row, key 00000001");
    ck_assert_str_eq(state_table_describe(strange.bytes, 0, text), "unknown row, key ");
    ck_assert_uint_eq(strlen(state_table_describe(large, sizeof large, text)), strlen("unknown row, key ") + 42);
    end(&f);
}
END_TEST

/* What is the last row of a sink, when that is damaged, or nothing comes behind it? */
START_TEST(the_last_of_the_retries)
{
    struct fixture f;
    uint64_t next[LANES];
    begin(&f);
    fill_state(&f);
    const struct state_key last = copy_retry_key(1, 0, 4), pieces = row_key(TABLE_PIECE, 0);
    put_junk(&f, &last);
    ck_ok(state_known_next(f.state, false, soon(), next));
    ck_assert_uint_eq(next[0], 25); /* a range's */
    struct state_txn txn;
    uint64_t n;
    ck_ok(state_txn_write(f.state, soon(), &txn));
    const struct state_key all = {.bytes = {pieces.bytes[0]}, .size = 1};
    ck_ok(state_txn_end(&txn, state_table_clear(&txn, &all, UINT64_MAX, &n)));
    ck_assert_uint_gt(n, 0);
    ck_ok(state_known_next(f.state, true, soon(), next));
    ck_assert_uint_eq(next[1], 5);
    ck_assert_int_eq(dead_of(&f, NULL, NULL), 2); /* the large ones have lost their pieces */
    end(&f);
}
END_TEST

START_TEST(a_damaged_piece_costs_its_event)
{
    struct fixture f;
    uint8_t *event;
    size_t size;
    struct state_key piece = state_key(TABLE_PIECE);
    begin(&f);
    fill_state(&f);
    state_key_u64(&piece, 1);
    state_key_u32(&piece, 1);
    put_junk(&f, &piece);
    ck_code(state_retry_event(f.state, 1, 0, 2, soon(), &event, &size), SPOOL_EDAMAGED);
    ck_assert_uint_eq(f.damaged, 1);
    ck_ok(state_retry_event(f.state, 1, 0, 4, soon(), &event, &size));
    free(event);
    end(&f);
}
END_TEST

/* A version row is read before anything else is. */
START_TEST(versions)
{
    static const struct {
        uint8_t body[16];
        size_t size;
        int code; /* of opening */
    } cases[] = {
        {{STATE_VERSION + 1}, 16, SPOOL_EVERSION}, {{1}, 3, SPOOL_EVERSION}, {{1}, 8, SPOOL_OK}, {{0}, 0, SPOOL_OK}};
    struct fixture f;
    struct state_key key = state_key(TABLE_META);
    begin(&f);
    fill_state(&f);
    const uint32_t whole = rows_digest(&f);
    state_key_u8(&key, META_VERSION);
    if (cases[_i].size)
        put_row(&f, &key, cases[_i].body, cases[_i].size);
    else
        put_junk(&f, &key);
    close_state(&f);
    ck_code(open_state(&f, 0), cases[_i].code);
    if (cases[_i].code == SPOOL_OK) {
        ck_assert(f.salvaged);
        ck_assert_uint_eq(rows_digest(&f), whole);
    }
    end(&f);
}
END_TEST

/* A damaged sink would lose its place: an older row of it is looked for. */
START_TEST(a_damaged_sink_is_salvaged)
{
    struct fixture f;
    begin(&f);
    fill_state(&f);
    const struct state_key key = row_key(TABLE_SINK, 1);
    put_junk(&f, &key);
    reopen(&f);
    ck_assert(f.salvaged);
    ck_assert_uint_eq(get_sink(&f, "a").id, 1);
    ck_assert_uint_eq(findings(&f), 0);
    end(&f);
}
END_TEST

/* Salvage drops what nobody can use: the state is whole afterwards. */
START_TEST(salvage_drops_odd_rows)
{
    struct fixture f;
    static const uint8_t zeros[8192];
    begin(&f);
    fill_state(&f);
    struct state_key retry = copy_retry_key(1, 0, 1), orphan = copy_retry_key(50, 0, 1), odd = row_key(TABLE_RETRY, 1),
                     piece = row_key(TABLE_PIECE, 1), sink = row_key(TABLE_SINK, 60);
    const struct state_key rows[] = {retry, orphan, odd, piece, sink};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        put_row(&f, &rows[i], "odd", 3);
    close_state(&f);
    char path[300];
    snprintf(path, sizeof path, "%s/state.mdb", f.path);
    int fd = open(path, O_RDWR);
    ck_assert_int_eq(pwrite(fd, zeros, sizeof zeros, 0), sizeof zeros);
    close(fd);
    ck_ok(open_state(&f, 0));
    ck_assert(f.salvaged);
    ck_assert_uint_eq(findings(&f), 1); /* the sink's stays: the next salvage may find an older one */
    ck_assert_int_eq(retries_of(&f, 1), 3);
    ck_assert_int_eq(retries_of(&f, 50), 0);
    ck_assert_uint_eq(get_sink(&f, "a").retry_rows, 3);
    ck_assert_int_eq(dead_of(&f, NULL, NULL), 4);
    end(&f);
}
END_TEST

/* Snapshots whose checksum is right, and whose texts do not fit. */
START_TEST(snapshots_that_cannot_be)
{
    static const struct {
        size_t at;
        uint8_t byte;
    } cases[] = {{40 + 56, 0}, {40 + 56, 65}, {40 + 57, 32}, {40 + 14, 2}, {40 + 12, 200}};
    struct fixture f;
    struct buffer copy = {0};
    begin(&f);
    add_sink(&f, "a");
    ck_ok(state_snapshot(f.state, soon(), &copy));
    for (int i = 0; i < 5; i++) {
        uint8_t was = copy.data[cases[i].at];
        copy.data[cases[i].at] = cases[i].byte;
        put_u32(copy.data + copy.size - 4, crc32c(0, copy.data, copy.size - 4));
        ck_code(state_restore(f.state, copy.data, copy.size, soon(), NULL), SPOOL_EDAMAGED);
        copy.data[cases[i].at] = was;
    }
    copy.size = 44 + 20; /* a sink is named and is not there */
    put_u32(copy.data + copy.size - 4, crc32c(0, copy.data, copy.size - 4));
    ck_code(state_restore(f.state, copy.data, copy.size, soon(), NULL), SPOOL_EDAMAGED);
    buffer_free(&copy);
    end(&f);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("state_rows");
    TCase *t = tcase_create("state_rows");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, sink_rows_that_cannot_be, 0, 6);
    tcase_add_loop_test(t, ranges_that_cannot_be, 0, 3);
    tcase_add_loop_test(t, configurations_that_cannot_be, 0, 4);
    tcase_add_test(t, a_lost_configuration_is_asked_for);
    tcase_add_loop_test(t, general_rows_that_cannot_be, 0, 2);
    tcase_add_loop_test(t, event_rows_that_cannot_be, 0, 2);
    tcase_add_test(t, damaged_retries_leave);
    tcase_add_test(t, damaged_retries_of_nobody);
    tcase_add_test(t, envelopes);
    tcase_add_test(t, rows_of_other_keys_and_tables);
    tcase_add_test(t, the_last_of_the_retries);
    tcase_add_test(t, a_damaged_piece_costs_its_event);
    tcase_add_loop_test(t, versions, 0, 4);
    tcase_add_test(t, a_damaged_sink_is_salvaged);
    tcase_add_test(t, salvage_drops_odd_rows);
    tcase_add_test(t, snapshots_that_cannot_be);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
