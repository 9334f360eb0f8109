/* test_state_file.c - the file of the state: in a directory that was copied, removed or replaced or damaged while it is
 * open, full, on a file system that allocates nothing ahead. It opens, loses nothing that is whole, and says what is
 * wrong. */
#include "fail_nth.h"

#include "state_rows.h"

static int open_again(struct fixture *f)
{
    state_close(f->state);
    f->state = NULL;
    return open_state_only(f);
}

/* ------------------------------------------------------------------------------------------------------------ home */

static uint64_t check_home(struct fixture *f)
{
    uint64_t forgotten = 77;
    ck_ok(state_check_home(f->state, soon(), &forgotten));
    return forgotten;
}

static void move_house(struct fixture *f)
{
    const struct state_key key = meta_key(META_HOME);
    put_row(f, &key, "another place...", 16);
}

START_TEST(a_copy_forgets_its_checkpoints)
{
    struct fixture f;
    begin(&f);
    fill_state(&f);
    for (int i = 0; i < 2; i++)
        ck_assert_uint_eq(check_home(&f), 0);
    ck_assert(has_checkpoint(&f));
    move_house(&f);
    ck_assert_uint_eq(check_home(&f), 1);
    ck_assert(!has_checkpoint(&f));
    ck_assert_uint_eq(check_home(&f), 0);
    ck_assert_int_eq(retries_of(&f, 1), 4); /* and nothing else */
    end(&f);
}
END_TEST

/* Whatever keeps a copy from noting that it is one: its checkpoints do not count, and the next open tries again. */
START_TEST(a_copy_that_cannot_be_written_has_no_checkpoints)
{
    static const enum fail_class classes[] = {FAIL_LMDB_COMMIT, FAIL_LMDB_WRITE, FAIL_WRITE, FAIL_SYNC};
    struct fixture f;
    begin(&f);
    fill_state(&f);
    move_house(&f);
    fail_err = classes[_i] == FAIL_LMDB_COMMIT ? ENOSPC : 0;
    fail_arm_from(classes[_i], 1);
    uint64_t forgotten = 0;
    int code = state_check_home(f.state, soon(), &forgotten);
    ck_assert(fail_disarm());
    fail_err = 0;
    ck_ok(code);
    ck_assert_uint_eq(forgotten, 1);
    ck_assert(!has_checkpoint(&f));
    ck_ok(open_again(&f));
    ck_assert_uint_eq(check_home(&f), 1);
    ck_assert(!has_checkpoint(&f));
    end(&f);
}
END_TEST

/* What is stored once that works again is its own, and stays; until then nothing is stored that the next open would forget. */
START_TEST(a_copy_settles_before_its_first_checkpoint)
{
    struct fixture f;
    struct store_sink sink;
    uint64_t forgotten;
    begin(&f);
    fill_state(&f);
    ck_ok(state_sink_get(f.state, "a", soon(), &sink));
    const struct store_ack ack = {
        .sink_id = sink.id, .generation = sink.generation, .checkpoint = "its own", .checkpoint_size = 7};
    move_house(&f);
    fail_arm_from(FAIL_LMDB_COMMIT, 1);
    int code = state_check_home(f.state, soon(), &forgotten), refused = state_ack(f.state, &ack, soon());
    ck_assert(fail_disarm());
    ck_ok(code);
    ck_assert_int_ne(refused, SPOOL_OK);
    ck_ok(state_ack(f.state, &ack, soon()));
    ck_assert(has_checkpoint(&f));
    ck_ok(open_again(&f));
    ck_assert_uint_eq(check_home(&f), 0);
    ck_assert(has_checkpoint(&f));
    end(&f);
}
END_TEST

/* Nothing is known to be wrong then, so nothing is forgotten; above all, it opens. */
START_TEST(a_damaged_home_row_is_written_anew)
{
    struct fixture f;
    const struct state_key key = meta_key(META_HOME);
    begin(&f);
    fill_state(&f);
    ck_assert_uint_eq(check_home(&f), 0);
    if (_i)
        put_junk(&f, &key);
    else
        put_row(&f, &key, "short", 5);
    ck_assert_uint_eq(check_home(&f), 0);
    ck_assert(has_checkpoint(&f));
    ck_assert_uint_eq(f.damaged, (unsigned)_i);
    struct state_txn txn;
    struct state_row row;
    ck_ok(state_txn_read(f.state, soon(), &txn));
    ck_ok(state_table_get(&txn, &key, &row));
    ck_assert_uint_eq(row.body_size, 16);
    state_txn_abort(&txn);
    end(&f);
}
END_TEST

/* ------------------------------------------------------------------------------------------------ under an open state
 */

/* Gone: a reader is told, a writer makes an empty one. */
START_TEST(removed_meanwhile)
{
    struct fixture f;
    struct store_sink sink;
    begin(&f);
    fill_state(&f);
    ck_assert_int_eq(unlinkat(f.dir.fd, STATE_FILE, 0), 0);
    ck_code(state_sink_get(f.state, "a", soon(), &sink), SPOOL_EDAMAGED);
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "removed"));
    add_sink(&f, "new");
    ck_code(state_sink_get(f.state, "a", soon(), &sink), SPOOL_ENOTFOUND);
    ck_ok(state_sink_get(f.state, "new", soon(), &sink));
    end(&f);
}
END_TEST

/* Another file in its place, which is damaged: a reader is told, a writer salvages it. */
START_TEST(damaged_meanwhile)
{
    struct fixture f;
    struct store_sink sink;
    begin(&f);
    fill_state(&f);
    const uint32_t whole = rows_digest(&f);
    char command[600];
    snprintf(command, sizeof command, "cd %s && cp state.mdb x && mv x state.mdb", f.path);
    ck_assert_int_eq(system(command), 0);
    damage_meta(&f);
    ck_code(state_sink_get(f.state, "a", soon(), &sink), SPOOL_EDAMAGED);
    ck_ok(state_sink_pause(f.state, "a", false, soon()));
    ck_assert_uint_eq(rows_digest(&f), whole);
    end(&f);
}
END_TEST

/* A read-only handle has what is whole, or an empty one, for itself. */
START_TEST(removed_or_damaged_under_a_reader)
{
    struct fixture f;
    struct store_sink sink;
    char command[600];
    begin(&f);
    fill_state(&f);
    const uint32_t whole = rows_digest(&f);
    close_state(&f);
    ck_ok(open_state(&f, SPOOL_READ_ONLY));
    snprintf(command, sizeof command, "cd %s && cp state.mdb x && mv x state.mdb", f.path);
    ck_assert_int_eq(system(command), 0);
    damage_meta(&f);
    ck_assert_uint_eq(rows_digest(&f), whole);
    ck_code(state_sink_pause(f.state, "a", false, soon()), SPOOL_EREADONLY);
    ck_assert_int_eq(unlinkat(f.dir.fd, STATE_FILE, 0), 0);
    ck_code(state_sink_get(f.state, "a", soon(), &sink), SPOOL_ENOTFOUND);
    struct spool_verify_report report = {.size = sizeof report};
    ck_ok(state_verify(f.state, soon(), NULL, NULL, &report));
    end(&f);
}
END_TEST

/* LMDB refuses all work after a failed write of a meta page: opened anew; when that does not help, it is an error. */
START_TEST(lmdb_in_its_fatal_state_is_opened_anew)
{
    struct fixture f;
    struct store_sink sink;
    begin(&f);
    fill_state(&f);
    const uint64_t epoch = f.state->epoch;
    fail_err = MDB_PANIC;
    fail_arm(FAIL_LMDB_BEGIN, 1);
    int code = state_sink_get(f.state, "a", soon(), &sink);
    ck_assert(fail_disarm());
    ck_ok(code);
    ck_assert_uint_gt(f.state->epoch, epoch);
    fail_err = 0;
    static const int codes[] = {ENOSPC, EDQUOT, EFBIG, MDB_MAP_FULL, EIO, MDB_CORRUPTED};
    for (int i = 0; i < 6; i++) {
        fail_err = codes[i];
        fail_arm(FAIL_LMDB_BEGIN, 1);
        code = state_sink_pause(f.state, "a", true, soon());
        ck_assert(fail_disarm());
        ck_code(code, i < 4 ? SPOOL_EFULL : i == 4 ? EIO : SPOOL_EDAMAGED);
    }
    fail_err = 0;
    ck_ok(state_sink_pause(f.state, "a", true, soon()));
    end(&f);
}
END_TEST

/* Room is asked of the map, the file and the free list; each of them may not answer. */
START_TEST(a_full_map_and_a_fault)
{
    static const enum fail_class classes[] = {FAIL_SPACE, FAIL_STAT, FAIL_LMDB_BEGIN, FAIL_LMDB_READ};
    struct fixture f;
    uint64_t seq = 1;
    begin(&f);
    const struct store_sink sink = add_sink(&f, "a");
    while (put_retry(&f, &sink, 0, seq, 1 << 20) == SPOOL_OK)
        seq++;
    while (put_retry(&f, &sink, 0, seq, LARGE) == SPOOL_OK)
        seq++;
    for (int i = 0; i < 4; i++) {
        int code;
        fail_each(code, classes[i], put_retry(&f, &sink, 1, 1, LARGE))
        {
            ck_documented(code);
        }
        ck_code(code, SPOOL_EFULL);
        fail_each(code, classes[i], finish(&f, &sink, 0, --seq))
        {
            if (code)
                ck_documented(code);
        }
        ck_ok(code);
        while (put_retry(&f, &sink, 0, seq, LARGE) == SPOOL_OK)
            seq++;
    }
    end(&f);
}
END_TEST

/* A file system that cannot allocate ahead, and a signal while it does. */
START_TEST(allocating_ahead_is_a_wish)
{
    static const int errors[] = {EOPNOTSUPP, ENOSYS, EINTR};
    struct fixture f;
    begin(&f);
    const struct store_sink sink = add_sink(&f, "a");
    for (uint64_t seq = 1; seq < 4; seq++) {
        fail_err = errors[_i];
        if (errors[_i] == EINTR)
            fail_arm(FAIL_SPACE, 1);
        else
            fail_arm_from(FAIL_SPACE, 1);
        int code = put_retry(&f, &sink, 0, seq, 900 << 10);
        fail_disarm();
        fail_err = 0;
        ck_ok(code);
        expect_event(&f, sink.id, 0, seq, 900 << 10);
    }
    end(&f);
}
END_TEST

START_TEST(a_link_in_its_place_is_refused)
{
    struct fixture f;
    begin(&f);
    state_close(f.state);
    f.state = NULL;
    ck_assert_int_eq(renameat(f.dir.fd, STATE_FILE, f.dir.fd, "other"), 0);
    ck_assert_int_eq(symlinkat("other", f.dir.fd, STATE_FILE), 0);
    ck_code(open_state_only(&f), SPOOL_EACCESS);
    ck_assert_ptr_null(f.state);
    end(&f);
}
END_TEST

/* What a forked child does with the parent's. */
START_TEST(closing_and_abandoning)
{
    struct fixture f;
    state_close(NULL);
    state_abandon(NULL);
    begin(&f);
    fill_state(&f);
    const uint32_t whole = rows_digest(&f);
    state_abandon(f.state);
    f.state = NULL;
    ck_ok(open_state_only(&f));
    ck_assert_uint_eq(rows_digest(&f), whole);
    end(&f);
}
END_TEST

static Suite *suite(void)
{
    test_in_memory();
    Suite *s = suite_create("state_file");
    TCase *t = tcase_create("state_file");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, a_copy_forgets_its_checkpoints);
    tcase_add_loop_test(t, a_copy_that_cannot_be_written_has_no_checkpoints, 0, 4);
    tcase_add_test(t, a_copy_settles_before_its_first_checkpoint);
    tcase_add_loop_test(t, a_damaged_home_row_is_written_anew, 0, 2);
    tcase_add_test(t, removed_meanwhile);
    tcase_add_test(t, damaged_meanwhile);
    tcase_add_test(t, removed_or_damaged_under_a_reader);
    tcase_add_test(t, lmdb_in_its_fatal_state_is_opened_anew);
    tcase_add_test(t, a_full_map_and_a_fault);
    tcase_add_loop_test(t, allocating_ahead_is_a_wish, 0, 3);
    tcase_add_test(t, a_link_in_its_place_is_refused);
    tcase_add_test(t, closing_and_abandoning);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
