/* test_sink_faults.c - the file sink when calls of the system fail: it says so, neither loses nor repeats a line, and
 * goes on as soon as the calls work again. */
#include <signal.h>
#include <sys/resource.h>

#include "fail_nth.h"
#include "file_sink_fixture.h"

static const enum fail_class classes[] = {FAIL_MEMORY, FAIL_OPEN, FAIL_WRITE, FAIL_WRITE_SHORT,
                                          FAIL_SPACE,  FAIL_SYNC, FAIL_NAME,  FAIL_STAT};
enum { CLASSES = sizeof classes / sizeof *classes, VARIANTS = 5 };

/* A fault passes: the sink must ask for another try, and not say that its configuration is wrong, which stands. */
static void check_passing(int code)
{
    ck_assert_msg(code == SPOOL_OK || code == ENOMEM || code == SPOOL_EUNAVAILABLE, "%s: %s", spool_error_name(code),
                  delivery_sink_message());
    if (code != SPOOL_OK)
        ck_assert_str_ne(delivery_sink_message(), "");
}

/* Short names: when memory runs out jansson 2.14 writes behind the end of its buffer for a word that was to grow beyond
 * 15 bytes, which is not what is tested here. */
static void use_short_names(struct run *run, const char *path, const char *more)
{
    ck_assert_int_eq(chdir(run->dir), 0);
    snprintf(run->config, sizeof run->config, "{\"path\":\"%s\"%s}", path, more);
}

/* Opens with call n of the class failing, and again if that was too much. False: no fault came. */
static bool open_failing(struct run *run, enum fail_class class, unsigned n)
{
    if (run->state)
        run->lost[run->lost_count++] = run->state;
    run->state = NULL;
    spool_sink_error(SPOOL_OK, "%s", "");
    fail_arm(class, n);
    int code = run->sink->open(&run->state, NULL, run->config, run->checkpoint, run->checkpoint_size);
    bool fired = fail_disarm();
    check_passing(code);
    ck_assert_int_eq(code == SPOOL_OK, run->state != NULL);
    if (code != SPOOL_OK)
        run_open(run);
    return fired;
}

/* Puts events with call n of the class failing, and again if that was too much. False: no fault came. */
static bool put_failing(struct run *run, unsigned number, unsigned count, enum fail_class class, unsigned n)
{
    struct run_batch b;
    run_fill(&b, number, count);
    spool_sink_error(SPOOL_OK, "%s", "");
    fail_arm(class, n);
    int code = run->sink->deliver(run->state, b.deliveries, count);
    bool fired = fail_disarm();
    check_passing(code);
    bool in_parts = strstr(run->config, "{agent}") != NULL; /* the beginning of the batch may be written */
    for (unsigned i = 0; i < count; i++) {
        enum spool_outcome outcome = b.deliveries[i].outcome;
        ck_assert(i == 0 || outcome != SPOOL_DELIVERED || b.deliveries[i - 1].outcome == SPOOL_DELIVERED);
        ck_assert(outcome == (code == SPOOL_OK ? SPOOL_DELIVERED : SPOOL_RETRY) ||
                  (in_parts && outcome == SPOOL_DELIVERED));
        if (outcome == SPOOL_RETRY)
            ck_ok(run_put(run, number + i, 1));
    }
    return fired;
}

/* The first file is begun, the second by rotation, and an event goes into a file that is open. */
START_TEST(a_fault_while_delivering_costs_no_line)
{
    static const struct {
        const char *path, *more;
    } variants[VARIANTS] = {{"new/e.jsonl", ",\"flush\":\"batch\""},
                            {"new/e.jsonl", ",\"flush\":\"checkpoint\""},
                            {"new/e.jsonl", ",\"rotate_bytes\":1,\"keep\":9"},
                            {"{agent}/e.jsonl", ",\"flush\":\"batch\""},
                            {"{agent}/e.jsonl", ",\"rotate_bytes\":1,\"keep\":9"}};
    bool fired = true;
    for (unsigned n = 1; fired; n++) {
        struct run *run = run_new(variants[_i % VARIANTS].path, variants[_i % VARIANTS].more);
        fired = put_failing(run, 0, 3, classes[_i / VARIANTS], n);
        fired |= put_failing(run, 3, 3, classes[_i / VARIANTS], n);
        check_once(run, 6);
        unsigned char bytes[SPOOL_CHECKPOINT_MAX];
        size_t size = run->sink->checkpoint(run->state, bytes, sizeof bytes);
        if (size == SIZE_MAX) { /* a flush failed */
            ck_assert_int_eq(classes[_i / VARIANTS], FAIL_SYNC);
            run_open(run);
            ck_ok(run_put(run, 0, 6));
        } else
            memcpy(run->checkpoint, bytes, run->checkpoint_size = size);
        run_checkpoint(run);
        run_open(run); /* and what it noted of its files is right */
        check_once(run, 6);
        ck_ok(run_put(run, 6, 1));
        check_once(run, 7);
        run_free(run);
    }
}
END_TEST

/* Behind the checkpoint stand lines in the file of it and in two begun since. */
START_TEST(a_fault_while_recovering_repeats_no_line)
{
    static const char *const paths[] = {"e.jsonl", "e.jsonl", "{agent}/e.jsonl", "{agent}/e.jsonl"};
    bool fired = true;
    for (unsigned n = 1; fired; n++) {
        struct run *run = run_new("e.jsonl", "");
        use_short_names(run, paths[_i % 4], _i % 2 ? ",\"rotate_bytes\":400" : "");
        run->checkpoint_size = 0;
        run_open(run);
        run_checkpoint(run);
        ck_ok(run_put(run, 0, 2));
        run_checkpoint(run);
        for (unsigned i = 2; i < 8; i++)
            ck_ok(run_put(run, i, 1));
        fired = open_failing(run, classes[_i / 4], n);
        for (unsigned i = 2; i < 8; i++)
            ck_ok(run_put(run, i, 1));
        check_once(run, 8);
        run_free(run);
    }
}
END_TEST

START_TEST(a_fault_at_the_first_open_passes)
{
    bool fired = true;
    for (unsigned n = 1; fired; n++) {
        struct run *run = run_new("e.jsonl", "");
        use_short_names(run, "d/e/e.jsonl",
                        ",\"rotate_bytes\":\"1MB\",\"mode\":\"0600\",\"keep\":3,\"flush\":\"batch\"");
        run->checkpoint_size = 0;
        fired = open_failing(run, classes[_i], n);
        run_checkpoint(run);
        ck_ok(run_put(run, 0, 2));
        check_once(run, 2);
        run_free(run);
    }
}
END_TEST

/* A file of ours that cannot be looked at is not taken for somebody else's: its last lines would be there twice. */
START_TEST(a_file_that_cannot_be_looked_at_is_still_ours)
{
    struct run *run = run_new("e.jsonl", "");
    char note[REASON_MAX + 1];
    ck_ok(run_put(run, 0, 2));
    run_checkpoint(run);
    ck_ok(run_put(run, 2, 2));
    void *state = NULL;
    fail_arm(FAIL_STAT, 1);
    int code = run->sink->open(&state, NULL, run->config, run->checkpoint, run->checkpoint_size);
    ck_assert(fail_disarm());
    ck_code(code, SPOOL_EUNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(delivery_sink_message(), "e.jsonl"));
    run_open(run);
    ck_ok(run_put(run, 2, 2));
    ck_assert(put_failing(run, 4, 2, FAIL_STAT, 1));
    delivery_sink_take_note(note);
    ck_assert_str_eq(note, "");
    check_once(run, 6);
    run_free(run);
}
END_TEST

/* Where the trail of an earlier sink cannot be removed, going on would cut off what that one delivered. */
START_TEST(an_earlier_sinks_trail_that_stays_is_told)
{
    struct run *run = run_new("e.jsonl", "");
    ck_ok(run_put(run, 0, 4));
    void *state = NULL;
    unsigned above = 0; /* directories, which are made first */
    for (const char *at = strchr(run->dir, '/'); at; at = strchr(at + 1, '/'))
        above++;
    fail_arm(FAIL_NAME, above + 1);
    int code = run->sink->open(&state, NULL, run->config, NULL, 0);
    bool fired = fail_disarm();
    ck_assert(fired);
    ck_code(code, SPOOL_EUNAVAILABLE);
    ck_assert_ptr_null(state);
    check_once(run, 4);
    run_free(run);
}
END_TEST

static void limit_files(rlim_t bytes)
{
    struct rlimit limit = {bytes, RLIM_INFINITY};
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* A write that fails halfway, and cutting off that half fails too: nothing is acknowledged until it is cut off. */
START_TEST(a_torn_line_is_cut_off_before_anything_else)
{
    struct run *run = run_new("e.jsonl", "");
    char path[512];
    struct stat st;
    path_in(run, "e.jsonl", path);
    ck_ok(run_put(run, 0, 4));
    ck_assert_int_eq(stat(path, &st), 0);
    limit_files((rlim_t)st.st_size + 20);
    struct run_batch b;
    run_fill(&b, 4, 4);
    fail_arm(FAIL_SPACE, 1);
    int code = run->sink->deliver(run->state, b.deliveries, 4);
    bool fired = fail_disarm();
    limit_files(RLIM_INFINITY);
    ck_assert(fired);
    ck_code(code, SPOOL_EUNAVAILABLE);
    ck_assert_uint_eq(run->sink->checkpoint(run->state, run->checkpoint, sizeof run->checkpoint), SIZE_MAX);
    ck_assert_str_ne(delivery_sink_message(), "");
    ck_assert(put_failing(run, 4, 4, FAIL_SPACE, 1));
    check_once(run, 8);
    run_checkpoint(run);
    run_free(run);
}
END_TEST

START_TEST(a_checkpoint_says_when_it_cannot_flush)
{
    struct run *run = run_new("e.jsonl", "");
    ck_ok(run_put(run, 0, 4));
    fail_arm(FAIL_SYNC, 1);
    size_t size = run->sink->checkpoint(run->state, run->checkpoint, sizeof run->checkpoint);
    ck_assert(fail_disarm());
    ck_assert_uint_eq(size, SIZE_MAX);
    ck_assert_ptr_nonnull(strstr(delivery_sink_message(), "e.jsonl"));
    ck_assert_uint_eq(run->sink->checkpoint(run->state, run->checkpoint, 10), SIZE_MAX); /* does not fit */
    run_free(run);
}
END_TEST

/* The kernel tells of a failed flush once, and the next one succeeds though the lines are lost: so no checkpoint may
 * say that they are there. */
START_TEST(a_flush_that_failed_is_remembered)
{
    struct run *run = run_new("e.jsonl", ",\"rotate_bytes\":1");
    ck_ok(run_put(run, 0, 1));
    struct run_batch b;
    run_fill(&b, 1, 1);
    fail_arm(FAIL_SYNC, 1);
    int code = run->sink->deliver(run->state, b.deliveries, 1);
    ck_assert(fail_disarm());
    ck_code(code, SPOOL_EUNAVAILABLE);
    ck_ok(run_put(run, 1, 1));
    unsigned char bytes[SPOOL_CHECKPOINT_MAX];
    ck_assert_uint_eq(run->sink->checkpoint(run->state, bytes, sizeof bytes), SIZE_MAX);
    run_open(run);
    ck_ok(run_put(run, 0, 2));
    run_checkpoint(run);
    check_once(run, 2);
    run_free(run);
}
END_TEST

START_TEST(a_batch_is_flushed_before_it_counts)
{
    struct run *run = run_new("e.jsonl", ",\"flush\":\"batch\"");
    ck_ok(run_put(run, 0, 1));
    ck_assert(put_failing(run, 1, 2, FAIL_SYNC, 1));
    check_once(run, 3);
    run_free(run);
}
END_TEST

START_TEST(no_flush_needs_no_flush)
{
    struct run *run = run_new("a/e.jsonl", ",\"flush\":\"none\",\"rotate_bytes\":1");
    struct run_batch b;
    for (unsigned i = 0; i < 4; i++) {
        run_fill(&b, i, 1);
        fail_arm_from(FAIL_SYNC, 1);
        int code = run->sink->deliver(run->state, b.deliveries, 1);
        ck_assert(!fail_disarm());
        ck_ok(code);
    }
    check_once(run, 4);
    run_free(run);
}
END_TEST

START_TEST(what_is_no_plain_file_is_not_written_to)
{
    struct run *run = run_new("e.jsonl", "");
    char path[512];
    path_in(run, "e.jsonl", path);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_code(run_put(run, 0, 1), SPOOL_EUNAVAILABLE);
    int reader = open(path, O_RDONLY | O_NONBLOCK);
    ck_code(run_put(run, 0, 1), SPOOL_EUNAVAILABLE);
    close(reader);
    ck_assert_int_eq(unlink(path), 0);
    ck_ok(run_put(run, 0, 1));
    check_once(run, 1);
    run_free(run);
}
END_TEST

START_TEST(rotates_by_time)
{
    struct run *run = run_new("e.jsonl", ",\"rotate_interval\":\"1ms\"");
    ck_ok(run_put(run, 0, 1));
    usleep(3000);
    ck_ok(run_put(run, 1, 1));
    ck_assert(exists(run, "e-000001.jsonl"));
    check_once(run, 2);
    run_free(run);
}
END_TEST

/* The checkpoint's file was replaced, or it is not what the template says any more. */
START_TEST(resumes_only_what_is_ours_and_wanted)
{
    struct run *run = run_new("e.jsonl", "");
    char path[512], away[512], note[REASON_MAX + 1];
    path_in(run, "e.jsonl", path);
    path_in(run, "old", away);
    ck_ok(run_put(run, 0, 1));
    run_checkpoint(run);
    ck_ok(run_put(run, 1, 1));
    snprintf(run->config, sizeof run->config, "{\"path\":\"%s/other.jsonl\"}", run->dir);
    run_open(run);
    ck_ok(run_put(run, 1, 1));
    ck_assert(exists(run, "other.jsonl"));
    check_once(run, 2);
    snprintf(run->config, sizeof run->config, "{\"path\":\"%s\"}", path);
    ck_assert_int_eq(rename(path, away), 0);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    run_open(run);
    delivery_sink_take_note(note);
    ck_assert_ptr_nonnull(strstr(note, "replaced"));
    run_free(run);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("sink_faults");
    test_in_memory();
    TCase *tc = tcase_create("faults");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, a_fault_while_delivering_costs_no_line, 0, CLASSES * VARIANTS);
    tcase_add_loop_test(tc, a_fault_while_recovering_repeats_no_line, 0, CLASSES * 4);
    tcase_add_loop_test(tc, a_fault_at_the_first_open_passes, 0, CLASSES);
    tcase_add_test(tc, a_file_that_cannot_be_looked_at_is_still_ours);
    tcase_add_test(tc, an_earlier_sinks_trail_that_stays_is_told);
    tcase_add_test(tc, a_torn_line_is_cut_off_before_anything_else);
    tcase_add_test(tc, a_checkpoint_says_when_it_cannot_flush);
    tcase_add_test(tc, a_flush_that_failed_is_remembered);
    tcase_add_test(tc, a_batch_is_flushed_before_it_counts);
    tcase_add_test(tc, no_flush_needs_no_flush);
    tcase_add_test(tc, what_is_no_plain_file_is_not_written_to);
    tcase_add_test(tc, rotates_by_time);
    tcase_add_test(tc, resumes_only_what_is_ours_and_wanted);
    suite_add_tcase(s, tc);
    return s;
}

CHECK_MAIN(suite)
