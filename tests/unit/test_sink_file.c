/* test_sink_file.c - the file sink by itself: lines, names, rotation, and exactly once after a crash at any point. */
#include <signal.h>
#include <sys/resource.h>
#include <time.h>

#include "file_sink_fixture.h"

/* The directories that were flushed: this definition comes before the C library's. */
static char flushed[64][400];
static unsigned flushed_count;
int fsync(int fd)
{
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    char *path = flushed[flushed_count++ % 64];
    ssize_t n = readlink(link, path, sizeof flushed[0] - 1);
    path[n > 0 ? n : 0] = '\0';
    return fdatasync(fd);
}

static bool was_flushed(const char *path)
{
    for (unsigned i = 0; i < flushed_count && i < 64; i++) {
        if (strcmp(flushed[i], path) == 0)
            return true;
    }
    return false;
}

START_TEST(writes_lines)
{
    struct run *run = run_new("deep/er/events.jsonl", "");
    ck_ok(run_put(run, 0, 3));
    check_once(run, 3);
    ck_assert(exists(run, "deep/er/events.jsonl"));
    run_free(run);
}
END_TEST

START_TEST(cuts_off_what_was_not_acknowledged)
{
    struct run *run = run_new("events.jsonl", "");
    ck_ok(run_put(run, 0, 10));
    run_checkpoint(run);
    ck_ok(run_put(run, 10, 10));
    run_open(run); /* the first state is lost in a crash */
    ck_ok(run_put(run, 10, 20));
    check_once(run, 30);
    run_free(run);
}
END_TEST

START_TEST(rotates_by_size_and_never_overwrites)
{
    struct run *run = run_new("events.jsonl", ",\"rotate_bytes\":\"1kB\"");
    char path[512];
    snprintf(path, sizeof path, "%s/events-000002.jsonl", run->dir);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    ck_assert_int_eq(write(fd, "mine\n", 5), 5);
    close(fd);
    for (unsigned i = 0; i < 40; i++)
        ck_ok(run_put(run, i, 1));
    check_once(run, 40);
    ck_assert(exists(run, "events-000001.jsonl") && exists(run, "events-000003.jsonl"));
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_eq(st.st_size, 5);
    run_free(run);
}
END_TEST

/* A crash after each number of events, with several rotations since the checkpoint. */
START_TEST(exactly_once_across_rotations)
{
    for (unsigned crash = 1; crash < 24; crash++) {
        struct run *run = run_new("events.jsonl", ",\"rotate_bytes\":600");
        unsigned saved = 0;
        for (unsigned i = 0; i < crash; i++) {
            ck_ok(run_put(run, i, 1));
            if (i % 7 == 6) {
                run_checkpoint(run);
                saved = i + 1;
            }
        }
        run_open(run);
        for (unsigned i = saved; i < 30; i++)
            ck_ok(run_put(run, i, 1));
        check_once(run, 30);
        run_free(run);
    }
}
END_TEST

START_TEST(keeps_so_many)
{
    struct run *run = run_new("e.jsonl", ",\"rotate_bytes\":1,\"keep\":2");
    for (unsigned i = 0; i < 6; i++)
        ck_ok(run_put(run, i, 1));
    ck_assert(exists(run, "e-000005.jsonl") && exists(run, "e-000003.jsonl"));
    ck_assert(!exists(run, "e-000002.jsonl") && !exists(run, "e.jsonl"));
    run_free(run);
}
END_TEST

START_TEST(leaves_a_strangers_file_alone)
{
    struct run *run = run_new("events.jsonl", "");
    ck_ok(run_put(run, 0, 10));
    run_checkpoint(run);
    char path[512];
    snprintf(path, sizeof path, "%s/events.jsonl", run->dir);
    char away[600];
    snprintf(away, sizeof away, "%s.old", path);
    ck_assert_int_eq(rename(path, away), 0);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    for (unsigned i = 0; i < 1000; i++)
        ck_assert_int_eq(write(fd, "not yours\n", 10), 10);
    close(fd);
    run_open(run);
    ck_ok(run_put(run, 10, 1));
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_gt(st.st_size, 10000);
    run_free(run);
}
END_TEST

static void check_note(const char *what)
{
    char note[REASON_MAX + 1];
    delivery_sink_take_note(note);
    ck_assert_msg(*what ? strstr(note, what) != NULL : !*note, "\"%s\" instead of \"%s\"", note, what);
}

/* As logrotate does: the file is moved away while it is written to, and its successor made or not. */
START_TEST(a_file_that_is_moved_away_is_told_and_begun_anew)
{
    char path[512], away[512];
    struct run *run = run_new("events.jsonl", "");
    path_in(run, "events.jsonl", path);
    path_in(run, "events.jsonl.1", away);
    ck_ok(run_put(run, 0, 10));
    run_checkpoint(run);
    ck_ok(run_put(run, 10, 5));
    check_note("");
    ck_assert_int_eq(rename(path, away), 0);
    if (_i) {
        int fd = open(path, O_CREAT | O_WRONLY, 0600);
        ck_assert_int_ge(fd, 0);
        close(fd);
    }
    ck_ok(run_put(run, 15, 5));
    check_note(_i ? "replaced" : "moved away");
    ck_ok(run_put(run, 20, 5));
    check_note("");
    ck_assert(exists(run, "events.jsonl"));
    run_checkpoint(run);
    run_open(run); /* goes on in the new one */
    check_note("");
    ck_ok(run_put(run, 25, 5));
    check_once(run, 30);
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_gt(st.st_size, 0);
    run_free(run);
}
END_TEST

START_TEST(a_file_that_is_gone_at_open_is_told)
{
    char path[512];
    struct run *run = run_new("events.jsonl", "");
    path_in(run, "events.jsonl", path);
    ck_ok(run_put(run, 0, 10));
    run_checkpoint(run);
    if (_i)
        ck_assert_int_eq(truncate(path, 7), 0);
    else
        ck_assert_int_eq(unlink(path), 0);
    run_open(run);
    check_note(_i ? "cut" : "removed");
    ck_ok(run_put(run, 10, 5));
    check_note("");
    ck_assert(exists(run, "events.jsonl"));
    run_free(run);
}
END_TEST

START_TEST(a_file_that_is_cut_while_open_is_gone_on_with)
{
    char path[512];
    struct run *run = run_new("events.jsonl", "");
    path_in(run, "events.jsonl", path);
    ck_ok(run_put(run, 0, 10));
    ck_assert_int_eq(truncate(path, 0), 0);
    ck_ok(run_put(run, 0, 5));
    check_note("cut");
    run_checkpoint(run);
    run_open(run);
    check_note("");
    check_once(run, 5);
    run_free(run);
}
END_TEST

START_TEST(an_earlier_sinks_files_are_not_cut)
{
    struct run *run = run_new("events.jsonl", "");
    ck_ok(run_put(run, 0, 10));
    run_checkpoint(run);
    run->checkpoint_size = 0; /* removed and added again */
    run_open(run);
    run_checkpoint(run);
    ck_ok(run_put(run, 10, 5));
    run_open(run);
    ck_ok(run_put(run, 10, 5));
    check_once(run, 15);
    run_free(run);
}
END_TEST

START_TEST(failed_write_leaves_no_half_line)
{
    struct run *run = run_new("events.jsonl", "");
    ck_ok(run_put(run, 0, 4));
    char path[512];
    snprintf(path, sizeof path, "%s/events.jsonl", run->dir);
    struct stat before, after;
    ck_assert_int_eq(stat(path, &before), 0);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit = {(rlim_t)before.st_size + 20, RLIM_INFINITY};
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_code(run_put(run, 4, 4), SPOOL_EUNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(delivery_sink_message(), "events.jsonl"));
    ck_assert_int_eq(stat(path, &after), 0);
    ck_assert_int_eq(after.st_size, before.st_size);
    limit.rlim_cur = RLIM_INFINITY;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_ok(run_put(run, 4, 4));
    check_once(run, 8);
    run_free(run);
}
END_TEST

/* After a loss of power the file is found only if each directory on the way to it was flushed, and the one of the
 * trail. */
START_TEST(directories_on_the_way_are_flushed)
{
    struct run *run = run_new("a/b/%Y/x.jsonl", "");
    char year[8], wanted[4][400];
    time_t now = time(NULL);
    strftime(year, sizeof year, "%Y", gmtime(&now));
    snprintf(wanted[0], sizeof wanted[0], "%s", run->dir);
    snprintf(wanted[1], sizeof wanted[1], "%s/a", run->dir);
    snprintf(wanted[2], sizeof wanted[2], "%s/a/b", run->dir);
    snprintf(wanted[3], sizeof wanted[3], "%s/a/b/%s", run->dir, year);
    flushed_count = 0; /* those that were there may have been made by one that died before it flushed */
    ck_ok(run_put(run, 1, 1));
    for (int i = 0; i < 4; i++)
        ck_assert_msg(was_flushed(wanted[i]), "%s was not flushed", wanted[i]);
    run_free(run);
}
END_TEST

START_TEST(bad_configuration_is_named)
{
    static const char *const bad[][2] = {
        {"{}", "\"path\" is required"},
        {"{\"path\":\"\"}", "\"path\""},
        {"{\"path\":3}", "\"path\""},
        {"{\"path\":\"/tmp/x\",\"pth\":1}", "\"pth\" is unknown; did you mean \"path\"?"},
        {"{\"pth\":\"/tmp/x\"}", "\"pth\" is unknown; did you mean \"path\"?"},
        {"{\"apth\":\"/tmp/x\"}", "did you mean \"path\"?"},
        {"{\"paths\":\"/tmp/x\"}", "did you mean \"path\"?"},
        {"{\"p\":\"/tmp/x\"}", "\"path\" is required"},
        {"{\"path\":\"/tmp/x\",\"rotate\":1}", "did you mean \"rotate_bytes\"?"},
        {"{\"path\":\"/tmp/x\",\"colour\":1}", "\"colour\" is unknown"},
        {"{\"path\":\"/tmp/x\",\"rotate_bytes\":\"1 furlong\"}", "\"rotate_bytes\""},
        {"{\"path\":\"/tmp/x\",\"rotate_bytes\":-1}", "\"rotate_bytes\""},
        {"{\"path\":\"/tmp/x\",\"flush\":\"sometimes\"}", "\"flush\""},
        {"{\"path\":\"/tmp/x\",\"mode\":\"rw\"}", "\"mode\""},
        {"{\"path\":\"/tmp/x\",\"keep\":\"two\"}", "\"keep\""},
        {"{\"path\":\"/tmp/x\",\"path\":\"/tmp/y\"}", "line 1"},
        {"{\"path\":", "line 1"},
        {"[]", "not a JSON object"},
    };
    void *state = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_code(delivery_builtin_sink("file")->open(&state, NULL, bad[i][0], NULL, 0), SPOOL_ECONFIG);
        ck_assert_msg(strstr(delivery_sink_message(), bad[i][1]) != NULL, "%s: %s", bad[i][0], delivery_sink_message());
    }
    ck_code(delivery_builtin_sink("file")->open(&state, NULL, "{\"path\":\"/tmp/x\"}", "9 x", 3), SPOOL_ECONFIG);
    ck_code(delivery_builtin_sink("file")->open(&state, NULL, "{\"path\":\"/tmp/x\"}", "garbage", 7), SPOOL_ECONFIG);
    ck_assert_ptr_null(state);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("sink_file");
    TCase *tc = tcase_create("file");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, writes_lines);
    tcase_add_test(tc, cuts_off_what_was_not_acknowledged);
    tcase_add_test(tc, rotates_by_size_and_never_overwrites);
    tcase_add_test(tc, exactly_once_across_rotations);
    tcase_add_test(tc, keeps_so_many);
    tcase_add_test(tc, leaves_a_strangers_file_alone);
    tcase_add_loop_test(tc, a_file_that_is_moved_away_is_told_and_begun_anew, 0, 2);
    tcase_add_loop_test(tc, a_file_that_is_gone_at_open_is_told, 0, 2);
    tcase_add_test(tc, a_file_that_is_cut_while_open_is_gone_on_with);
    tcase_add_test(tc, an_earlier_sinks_files_are_not_cut);
    tcase_add_test(tc, failed_write_leaves_no_half_line);
    tcase_add_test(tc, bad_configuration_is_named);
    tcase_add_test(tc, directories_on_the_way_are_flushed);
    suite_add_tcase(s, tc);
    return s;
}

CHECK_MAIN(suite)
