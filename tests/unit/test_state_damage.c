/* test_state_damage.c - a state that is not as it should be: salvaged while the machine fails too, in another directory
 * than it was made in, with rows that nobody can have written. It opens, loses nothing that is whole, and says what it
 * left out. */
#include "fail_nth.h"

#include "state_rows.h"

static unsigned warnings;

static void on_log(void *user, enum spool_log_level level, const char *message)
{
    (void)user, (void)message;
    warnings += level == SPOOL_LOG_WARNING;
}

static int open_reporting(struct fixture *f)
{
    const struct state_options options = {.dir = &f->dir,
                                          .lock = f->lock,
                                          .map_bytes = TEST_MAP_BYTES,
                                          .reporter = {.log = on_log},
                                          .damaged = on_damage,
                                          .damaged_user = &f->damaged};
    state_close(f->state);
    f->state = NULL;
    return state_open(&options, soon(), &f->state, &f->salvaged);
}

/* ------------------------------------------------------------------------------------------ salvaging while it fails
 */

static int remove_it(void *user, const char *name)
{
    return unlinkat(((struct fixture *)user)->dir.quarantine_fd, name, 0) ? errno : 0;
}

static const enum fail_class CLASSES[] = {
    FAIL_MEMORY,     FAIL_OPEN,       FAIL_READ,      FAIL_WRITE,      FAIL_SPACE,
    FAIL_SYNC,       FAIL_NAME,       FAIL_STAT,      FAIL_LOCK,       FAIL_MAP,
    FAIL_READ_SHORT, FAIL_LMDB_BEGIN, FAIL_LMDB_READ, FAIL_LMDB_WRITE, FAIL_LMDB_COMMIT,
};

/* Returns whether call `n` of the class came. */
static bool salvage_with(struct fixture *f, enum fail_class class, unsigned n, uint32_t whole)
{
    state_close(f->state);
    f->state = NULL;
    damage_meta(f);
    fail_arm(class, n);
    int code = open_state_only(f);
    bool fired = fail_disarm();
    if (code)
        ck_documented(code);
    if (code)
        ck_ok(open_state_only(f));
    ck_assert_msg(rows_digest(f) == whole, "class %d, call %u: %s", class, n, spool_error_name(code));
    ck_assert(code || f->salvaged);
    ck_ok(dir_each(f->dir.quarantine_fd, "", remove_it, f));
    return fired;
}

START_TEST(salvage_survives_one_fault)
{
    struct fixture f;
    begin(&f);
    fill_state(&f);
    salvage_with(&f, FAIL_NONE, 1, rows_digest(&f));
    const uint32_t whole = rows_digest(&f);
    for (unsigned n = 1; salvage_with(&f, CLASSES[_i], n, whole); n += 1 + n / 8)
        continue;
    struct spool_verify_report report = {.size = sizeof report};
    ck_ok(state_verify(f.state, soon(), NULL, NULL, &report));
    ck_assert(has_checkpoint(&f));
    end(&f);
}
END_TEST

/* ------------------------------------------------------------------------------------------ salvaging other damage */

/* One meta page tells which transaction was the last, or the one before. */
START_TEST(one_meta_page_is_gone)
{
    struct fixture f;
    begin(&f);
    fill_state(&f);
    const uint32_t whole = rows_digest(&f);
    state_close(f.state);
    f.state = NULL;
    int fd = openat(f.dir.fd, STATE_FILE, O_RDWR);
    ck_assert_int_eq(pwrite(fd, "gone", 4, 4096 * (_i & 1) + 16 + (_i & 2 ? 4 : 0)), 4);
    close(fd);
    ck_ok(open_state_only(&f));
    ck_assert(f.salvaged);
    ck_assert_uint_eq(rows_digest(&f), whole);
    end(&f);
}
END_TEST

/* Many rows, and the one is lost that says which numbers are free: they go on above all that are in use. */
START_TEST(numbers_are_found_again)
{
    struct fixture f;
    begin(&f);
    fill_state(&f);
    const struct store_sink a = get_sink(&f, "a");
    for (uint64_t seq = 100; seq < 1300; seq++)
        ck_ok(put_retry(&f, &a, 2, seq, seq == 700 ? LARGE : 8));
    const struct state_key numbers = meta_key(META_NUMBERS);
    static const uint8_t low[20] = {1, [8] = 1, [16] = 1};
    put_row(&f, &numbers, low, sizeof low);
    const struct store_sink before = get_sink(&f, "a"), b = get_sink(&f, "b");
    state_close(f.state);
    f.state = NULL;
    damage_meta(&f);
    ck_ok(open_state_only(&f));
    ck_assert_uint_eq(get_sink(&f, "a").retry_rows, before.retry_rows);
    const struct store_sink late = add_sink(&f, "late");
    ck_assert_uint_gt(late.id, b.id);
    ck_assert_uint_gt(late.generation, b.generation);
    ck_ok(put_retry(&f, &late, 0, 1, LARGE)); /* its pieces get a number of their own */
    expect_event(&f, late.id, 0, 1, LARGE);
    expect_event(&f, a.id, 2, 700, LARGE);
    struct spool_verify_report report = {.size = sizeof report};
    ck_ok(state_verify(f.state, soon(), NULL, NULL, &report));
    end(&f);
}
END_TEST

/* A read that fails for another reason than a bad page ends it: whatever had been taken, nothing is lost or stays open.
 */
START_TEST(salvage_that_cannot_read_on)
{
    struct fixture f;
    begin(&f);
    fill_state(&f);
    salvage_with(&f, FAIL_NONE, 1, rows_digest(&f));
    const uint32_t whole = rows_digest(&f);
    fail_err = ENXIO;
    for (unsigned n = 1; salvage_with(&f, FAIL_READ, n, whole); n++)
        continue;
    fail_err = 0;
    end(&f);
}
END_TEST

/* A salvage that a crash interrupted cannot be finished now: it is not replaced by an empty state. */
START_TEST(an_interrupted_salvage_waits_for_a_better_time)
{
    struct fixture f;
    begin(&f);
    fill_state(&f);
    const uint32_t whole = rows_digest(&f);
    state_close(f.state);
    f.state = NULL;
    ck_assert_int_eq(renameat(f.dir.fd, STATE_FILE, f.dir.fd, "state.new"), 0);
    fail_arm(FAIL_NAME, 1);
    int code = open_state_only(&f);
    ck_assert(fail_disarm());
    ck_code(code, EIO);
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "state.new"));
    ck_ok(open_state_only(&f));
    ck_assert_uint_eq(rows_digest(&f), whole);
    end(&f);
}
END_TEST

/* A crash left the retries of a removed sink, and now nothing can be written: it opens all the same. */
START_TEST(what_cannot_be_swept_keeps_nobody_out)
{
    static const enum fail_class classes[] = {FAIL_LMDB_COMMIT, FAIL_LMDB_WRITE, FAIL_WRITE};
    struct fixture f;
    struct state_txn txn;
    begin(&f);
    fill_state(&f);
    const struct sink_row mark = {.id = 1, .generation = 1, .removed = true};
    ck_ok(state_txn_write(f.state, soon(), &txn));
    ck_ok(state_txn_end(&txn, sink_row_put(&txn, &mark)));
    ck_ok(state_txn_read(f.state, soon(), &txn)); /* opening reads no more */
    state_txn_abort(&txn);
    warnings = 0;
    fail_err = ENOSPC;
    fail_arm_from(classes[_i], classes[_i] == FAIL_LMDB_COMMIT ? 2 : 1); /* the first is how LMDB is opened */
    int code = open_reporting(&f);
    ck_assert(fail_disarm());
    fail_err = 0;
    ck_ok(code);
    ck_assert_uint_eq(warnings, 1);
    ck_assert_int_eq(retries_of(&f, 1), 4);
    ck_ok(open_reporting(&f));
    ck_assert_uint_eq(warnings, 1);
    ck_assert_int_eq(retries_of(&f, 1), 0);
    end(&f);
}
END_TEST

/* A transaction notes eight, whatever it meets; a list reads on behind all of them. */
START_TEST(much_damage_is_told_once_each)
{
    struct fixture f;
    begin(&f);
    struct store_sink sink = add_sink(&f, "a");
    for (uint64_t seq = 0; seq < 300; seq++) {
        const struct store_retry row = make_row(0, seq, SMALL);
        const struct state_key key = copy_dead_key(&row.id, sink.id);
        put_junk(&f, &key);
    }
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(dead_of(&f, NULL, NULL), 0);
    ck_assert_uint_eq(f.damaged, 8);
    struct spool_verify_report report = {.size = sizeof report};
    ck_code(state_verify(f.state, soon(), NULL, NULL, &report), SPOOL_EDAMAGED);
    ck_assert_uint_eq(report.findings, 300);
    end(&f);
}
END_TEST

START_TEST(damaged_retries_are_dropped_in_spite_of_faults)
{
    static const enum fail_class classes[] = {FAIL_MEMORY,    FAIL_LOCK,       FAIL_LMDB_BEGIN,
                                              FAIL_LMDB_READ, FAIL_LMDB_WRITE, FAIL_LMDB_COMMIT};
    struct fixture f;
    const struct state_key key = copy_retry_key(1, 0, 1);
    begin(&f);
    fill_state(&f);
    for (int i = 0; i < 6; i++) {
        int code, n = 0;
        put_junk(&f, &key);
        fail_each(code, classes[i], (n = 0, state_retry_each(f.state, 1, soon(), count_retries, &n)))
        {
            if (code)
                ck_documented(code);
            ck_assert(code || n == 3);
            put_junk(&f, &key);
        }
        ck_ok(code);
        ck_assert_int_eq(n, 3);
        ck_assert_uint_eq(get_sink(&f, "a").retry_rows, 3);
    }
    end(&f);
}
END_TEST

/* Retries of sinks that were never there, with keys and bodies that cannot be: the next open takes them away. */
START_TEST(odd_orphans_are_swept)
{
    static const enum fail_class classes[] = {FAIL_NONE, FAIL_LMDB_BEGIN, FAIL_LMDB_READ, FAIL_LMDB_WRITE};
    struct fixture f;
    begin(&f);
    fill_state(&f);
    const uint32_t whole = rows_digest(&f);
    bool fired = true;
    for (unsigned n = 1; fired; n++) {
        const struct state_key odd = copy_retry_key(50, 0, 1), last = copy_retry_key(UINT32_MAX, 0, 1);
        put_row(&f, &odd, "odd", 3);
        put_row(&f, &last, "odd", 3);
        fail_arm(classes[_i], n);
        int code = open_reporting(&f);
        fired = fail_disarm();
        if (code)
            ck_documented(code);
        if (fired)
            ck_ok(open_reporting(&f));
        ck_assert_uint_eq(rows_digest(&f), whole);
        fired &= classes[_i] != FAIL_NONE;
    }
    end(&f);
}
END_TEST

static Suite *suite(void)
{
    test_in_memory();
    Suite *s = suite_create("state_damage");
    TCase *t = tcase_create("state_damage");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, salvage_survives_one_fault, 0, sizeof CLASSES / sizeof *CLASSES);
    tcase_add_loop_test(t, one_meta_page_is_gone, 0, 4);
    tcase_add_test(t, numbers_are_found_again);
    tcase_add_test(t, salvage_that_cannot_read_on);
    tcase_add_test(t, an_interrupted_salvage_waits_for_a_better_time);
    tcase_add_loop_test(t, what_cannot_be_swept_keeps_nobody_out, 0, 3);
    tcase_add_test(t, much_damage_is_told_once_each);
    tcase_add_test(t, damaged_retries_are_dropped_in_spite_of_faults);
    tcase_add_loop_test(t, odd_orphans_are_swept, 0, 4);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
