/* test_sink_parts.c - what the sinks are made of: names, trail, lines, configuration; also when calls of the system
 * fail. */
#include "../../delivery/sinks/file_path.h"
#include "../../delivery/sinks/file_trail.h"
#include "../../delivery/sinks/lines.h"
#include "../../delivery/sinks/sinks.h"
#include "fail_nth.h"
#include "file_sink_fixture.h"

/* A line of it that is torn or does not ascend ends the trail; a file that is somebody else's or no file is left. */
START_TEST(a_trail_is_believed_up_to_its_first_wrong_line)
{
    struct run *run = run_new("e.jsonl", "");
    struct file_trail trail;
    char pattern[512], mine[512], line[1024];
    struct stat st;
    path_in(run, "e.jsonl", pattern);
    path_in(run, "mine", mine);
    int fd = open(mine, O_CREAT | O_RDWR, 0600);
    ck_assert_int_eq(write(fd, "12345", 5), 5);
    ck_assert_int_eq(fstat(fd, &st), 0);
    static const char *const tails[] = {"garbage\n",      "2 0 0 0 \n",     "1 %ju %ju 0 %s\n", "2 %ju %ju 0 %s",
                                        "2 %ju 0 0 %s\n", "2 0 %ju 0 %s\n", "2 %ju %ju 9 %s\n", NULL};
    for (int i = 0; tails[i]; i++) {
        ck_ok(file_trail_init(&trail, pattern));
        FILE *file = fopen(trail.path, "w");
        fprintf(file, "1 0 0 0 /nowhere/at/all\n");
        if (i == 4)
            snprintf(line, sizeof line, tails[i], (uintmax_t)st.st_dev, mine);
        else if (i == 5)
            snprintf(line, sizeof line, tails[i], (uintmax_t)st.st_ino, mine);
        else
            snprintf(line, sizeof line, tails[i], (uintmax_t)st.st_dev, (uintmax_t)st.st_ino, mine);
        fputs(line, file);
        fclose(file);
        ck_ok(file_trail_rewind(&trail, 0));
        ck_assert_uint_eq(trail.last, i < 4 ? 1 : 2);
        ck_assert_int_eq(access(trail.path, F_OK), -1);
        ck_assert_int_eq(stat(mine, &st), 0);
        ck_assert_msg(st.st_size == 5, "\"%s\" was followed", line);
    }
    close(fd);
    run_free(run);
}
END_TEST

/* -------------------------------------------------------------------------------------------------------- names */

static void check_number(const char *base, unsigned number, const char *want)
{
    char name[FILE_PATH_MAX];
    file_path_number(base, number, name);
    ck_assert_str_eq(name, want);
}

START_TEST(names)
{
    char name[FILE_PATH_MAX], *pattern = calloc(1, 8192);
    struct file_trail trail;
    check_number("e.jsonl", 0, "e.jsonl");
    check_number("e.jsonl", 7, "e-000007.jsonl");
    check_number("/a.b/e", 7, "/a.b/e-000007");
    check_number("/a/.e", 1234567, "/a/.e-1234567");
    ck_ok(file_path_expand("/x-%Y", 0, name));
    ck_assert_str_eq(name, "/x-1970");
    ck_code(file_path_expand("/x-%Y", INT64_MAX, name), SPOOL_ECONFIG); /* a year that no struct tm holds */
    ck_code(file_path_expand("", 0, name), SPOOL_ECONFIG);
    memset(pattern, 'x', FILE_PATH_MAX);
    ck_code(file_path_expand(pattern, 0, name), SPOOL_ECONFIG);
    memset(pattern, '%', FILE_PATH_MAX); /* half as long when it is expanded, but not in the trail's name */
    ck_ok(file_path_expand(pattern, 0, name));
    ck_code(file_trail_init(&trail, pattern), SPOOL_ECONFIG);
    ck_assert_ptr_nonnull(strstr(delivery_sink_message(), "too long"));
    ck_ok(file_trail_init(&trail, "/a/%Y/%m.jsonl"));
    ck_assert_str_eq(trail.path, "/a/.%Y_%m.jsonl.trail");
    ck_ok(file_trail_init(&trail, "e.jsonl"));
    ck_assert_str_eq(trail.path, ".e.jsonl.trail");
    free(pattern);
}
END_TEST

/* make_parents() with call n of a class failing with `err`. */
static int make_failing(const char *path, enum fail_class class, unsigned n, int err)
{
    fail_err = err;
    fail_arm(class, n);
    int code = file_path_make_parents(path, true);
    fail_disarm();
    fail_err = 0;
    return code;
}

/* Who may not read the directory above flushes the whole file system instead, but only for what he made. */
START_TEST(directories_whose_parent_is_closed_to_us)
{
    char *dir = test_dir(), path[512];
    ck_ok(file_path_sync_parent("here"));
    ck_ok(file_path_sync_parent("/there"));
    snprintf(path, sizeof path, "%s/1/x", dir);
    unsigned depth = 0;
    for (const char *at = strchr(path + 1, '/'); at; at = strchr(at + 1, '/'))
        depth++;
    ck_ok(make_failing(path, FAIL_OPEN, depth, EACCES)); /* the last one's parent */
    ck_ok(make_failing(path, FAIL_OPEN, depth, EACCES)); /* it is there: not ours to flush */
    ck_ok(make_failing(path, FAIL_OPEN, depth, EROFS));
    ck_assert_int_eq(make_failing(path, FAIL_OPEN, depth, EMFILE), EMFILE);
    snprintf(path, sizeof path, "%s/2/x", dir);
    ck_assert_int_eq(make_failing(path, FAIL_NAME, depth, EDQUOT), EDQUOT);
    ck_assert_int_eq(make_failing(path, FAIL_SYNC, depth, EIO), EIO);
    snprintf(path, sizeof path, "%s/3/x", dir);
    fail_err = EACCES;
    fail_arm_from(FAIL_OPEN, depth);
    int code = file_path_make_parents(path, true);
    fail_disarm();
    fail_err = 0;
    ck_assert_int_eq(code, EACCES); /* nor the one that was made */
    test_rmdir(dir);
    free(dir);
}
END_TEST

/* -------------------------------------------------------------------------------------------- lines and standard
 * output */

START_TEST(a_rejected_event_stays_rejected)
{
    struct run_batch b;
    run_fill(&b, 0, 3);
    b.deliveries[1].outcome = SPOOL_REJECTED;
    lines_delivered(b.deliveries, 0, 3);
    ck_assert_int_eq(b.deliveries[0].outcome, SPOOL_DELIVERED);
    ck_assert_int_eq(b.deliveries[1].outcome, SPOOL_REJECTED);
}
END_TEST

/* Reads until the pipe ends, from a while after now on; how much it was. */
static void *drain(void *arg)
{
    char *bytes = malloc(1 << 16);
    size_t sum = 0;
    usleep(20000);
    for (ssize_t n; (n = read(*(int *)arg, bytes, 1 << 16)) > 0;)
        sum += (size_t)n;
    free(bytes);
    return (void *)(uintptr_t)sum;
}

START_TEST(a_descriptor_that_does_not_block_is_waited_for)
{
    enum { SIZE = 1 << 20 };
    int ends[2];
    char *bytes = calloc(1, SIZE);
    pthread_t reader;
    void *sum;
    ck_assert_int_eq(pipe2(ends, O_NONBLOCK), 0);
    ck_assert_int_eq(lines_write(ends[1], bytes, SIZE), EAGAIN); /* nobody reads: it gives up after a second */
    ck_assert_int_eq(fcntl(ends[0], F_SETFL, 0), 0);
    ck_assert_int_eq(pthread_create(&reader, NULL, drain, &ends[0]), 0);
    ck_ok(lines_write(ends[1], bytes, SIZE));
    fail_err = EINTR;
    fail_arm(FAIL_WRITE, 1);
    int code = lines_write(ends[1], bytes, 10);
    bool fired = fail_disarm();
    fail_err = 0;
    ck_assert(fired && code == SPOOL_OK);
    close(ends[1]);
    ck_assert_int_eq(pthread_join(reader, &sum), 0);
    ck_assert_uint_ge((uintptr_t)sum, SIZE + 10);
    close(ends[0]);
    free(bytes);
}
END_TEST

/* Large events: they need several writes, and what was written before a failure counts. */
START_TEST(a_failure_between_writes_keeps_what_was_written)
{
    enum { N = 8, SIZE = 100000 };
    struct spool_event event;
    struct spool_delivery batch[N];
    void *state = NULL;
    char *body = malloc(SIZE);
    memset(body, 'x', SIZE);
    event = SPOOL_EVENT(.type = "t", .body = body, .body_size = SIZE, .content_type = "text/plain");
    int code;
    fail_each(code, FAIL_MEMORY, stdout_sink.open(&state, NULL, "{}", NULL, 0))
    {
        ck_assert_int_eq(code, ENOMEM);
        ck_assert_ptr_null(state);
    }
    ck_ok(code);
    fflush(stdout);
    int keep = dup(STDOUT_FILENO), null = open("/dev/null", O_WRONLY);
    static const struct {
        enum fail_class class;
        unsigned n, delivered;
    } faults[] = {{FAIL_WRITE, 1, 0}, {FAIL_WRITE, 2, 2}, {FAIL_WRITE, 9, N}};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        for (unsigned k = 0; k < N; k++) {
            batch[k] = (struct spool_delivery){.size = sizeof *batch, .event = &event, .attempt = 1};
            id_make((struct hlc_stamp){k + 1, 0}, 7, &batch[k].id);
        }
        dup2(null, STDOUT_FILENO);
        fail_arm(faults[i].class, faults[i].n);
        code = stdout_sink.deliver(state, batch, N);
        fail_disarm();
        dup2(keep, STDOUT_FILENO);
        ck_code(code, faults[i].delivered == N ? SPOOL_OK : SPOOL_EUNAVAILABLE);
        unsigned delivered = 0;
        for (unsigned k = 0; k < N; k++)
            delivered += batch[k].outcome == SPOOL_DELIVERED;
        ck_assert_uint_eq(delivered, faults[i].delivered);
    }
    stdout_sink.close(state);
    close(null);
    close(keep);
    free(body);
}
END_TEST

START_TEST(no_memory_for_lines_is_an_outage)
{
    struct run_batch b;
    void *state;
    int code;
    ck_ok(stdout_sink.open(&state, NULL, NULL, NULL, 0));
    run_fill(&b, 0, 3);
    fail_arm_from(FAIL_MEMORY, 1);
    code = stdout_sink.deliver(state, b.deliveries, 3);
    ck_assert(fail_disarm());
    ck_code(code, SPOOL_EUNAVAILABLE);
    ck_assert_int_eq(b.deliveries[0].outcome, SPOOL_RETRY);
    stdout_sink.close(state);
}
END_TEST

/* -------------------------------------------------------------------------------------------------- configuration */

START_TEST(configurations_are_checked_without_opening)
{
    ck_code(stdout_sink.open(&(void *){0}, NULL, "{\"x\":1}", NULL, 0), SPOOL_ECONFIG);
    ck_code(stdout_sink.open(&(void *){0}, NULL, "{", NULL, 0), SPOOL_ECONFIG);
    ck_code(null_sink.open(&(void *){0}, NULL, "3", NULL, 0), SPOOL_ECONFIG);
    ck_code(delivery_builtin_check("file", "{\"path\":\"/tmp/x\",\"mode\":\"9\"}"), SPOOL_ECONFIG);
    ck_code(delivery_builtin_check("file", NULL), SPOOL_ECONFIG);
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "\"path\" is required"));
    ck_ok(delivery_builtin_check("stdout", NULL));
    ck_code(delivery_builtin_check("kafka", "{}"), SPOOL_ENOTFOUND);
    ck_code(delivery_builtin_check(NULL, "{}"), SPOOL_ENOTFOUND);
    static const char *const bad[] = {"\"path\":\"a\\u0000b\"",
                                      "\"path\":\"x\",\"mode\":\"\"",
                                      "\"path\":\"x\",\"mode\":\"-1\"",
                                      "\"path\":\"x\",\"mode\":\"1000\"",
                                      "\"path\":\"x\",\"flush\":3",
                                      "\"path\":\"x\",\"keep\":-3",
                                      "\"path\":\"x\",\"keep\":99999999999999999999",
                                      "\"path\":\"x\",\"keep\":1.5",
                                      "\"path\":\"x\",\"rotate_bytes\":true",
                                      "\"path\":\"x\",\"rotate_interval\":\"1 week or so\""};
    char config[256];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(config, sizeof config, "{%s}", bad[i]);
        ck_code(delivery_builtin_check("file", config), SPOOL_ECONFIG);
        ck_assert_str_ne(spool_last_error(), "");
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("sink_parts");
    TCase *tc = tcase_create("parts");
    tcase_add_test(tc, a_trail_is_believed_up_to_its_first_wrong_line);
    tcase_add_test(tc, names);
    tcase_add_test(tc, directories_whose_parent_is_closed_to_us);
    tcase_add_test(tc, a_rejected_event_stays_rejected);
    tcase_add_test(tc, a_descriptor_that_does_not_block_is_waited_for);
    tcase_add_test(tc, a_failure_between_writes_keeps_what_was_written);
    tcase_add_test(tc, no_memory_for_lines_is_an_outage);
    tcase_add_test(tc, configurations_are_checked_without_opening);
    suite_add_tcase(s, tc);
    return s;
}

CHECK_MAIN(suite)
