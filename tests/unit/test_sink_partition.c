/* test_sink_partition.c - the file sink with a path that depends on the event: which names come of hostile ones, and
 * exactly once whatever crashes, with checkpoints that were taken and never stored. */
#include "../../delivery/sinks/file_parts.h"
#include "file_sink_fixture.h"

START_TEST(what_an_event_says_of_itself_is_one_part_of_one_name)
{
    static const struct {
        const char *agent, *path;
    } cases[] = {
        {"planner", "/d/planner/x"},
        {NULL, "/d/_/x"},
        {"", "/d/_/x"},
        {"..", "/d/%2E./x"},
        {".", "/d/%2E/x"},
        {".hidden", "/d/%2Ehidden/x"},
        {"../../etc/passwd", "/d/%2E.%2F..%2Fetc%2Fpasswd/x"},
        {"/", "/d/%2F/x"},
        {"a b\\c%d", "/d/a%20b%5Cc%25d/x"},
        {"{type}", "/d/%7Btype%7D/x"},
        {"%Y", "/d/%25Y/x"},
        {"\xc3\xa4", "/d/%C3%A4/x"},
    };
    char path[FILE_PATH_MAX];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct spool_event event = SPOOL_EVENT(.type = "t", .agent = cases[i].agent);
        ck_assert(parts_path("/d/{agent}/x", &event, path));
        ck_assert_str_eq(path, cases[i].path);
    }
    struct spool_event event = SPOOL_EVENT(.type = "log.x", .agent = "a", .session = "s", .priority = SPOOL_HIGH);
    ck_assert(parts_path("{type}-{agent}/{session}.{priority}{other}", &event, path));
    ck_assert_str_eq(path, "log.x-a/s.high{other}");
}
END_TEST

START_TEST(long_names_are_cut_and_stay_apart)
{
    char a[256], b[256], path_a[FILE_PATH_MAX], path_b[FILE_PATH_MAX];
    memset(a, '/', 255);
    memset(b, '/', 255);
    a[255] = b[255] = '\0';
    b[254] = 'x';
    struct spool_event one = SPOOL_EVENT(.type = "t", .agent = a), other = SPOOL_EVENT(.type = "t", .agent = b);
    ck_assert(parts_path("{agent}", &one, path_a) && parts_path("{agent}", &other, path_b));
    ck_assert_str_ne(path_a, path_b);
    ck_assert_uint_le(strlen(path_a), 200);
    char *far = calloc(1, FILE_PATH_MAX + 1);
    memset(far, 'x', FILE_PATH_MAX - 50);
    ck_assert(!parts_path(far, &one, path_a));
    free(far);
}
END_TEST

START_TEST(what_is_wrong_is_refused)
{
    static const char *const bad[][2] = {
        {"{\"path\":\"/tmp/{colour}\"}", "{colour}"},
        {"{\"path\":\"/tmp/{agent\"}", "{agent"},
        {"{\"path\":\"/tmp/{agent}\",\"rotate_bytes\":1}", "{agent}.events.jsonl"},
        {"{\"path\":\"/tmp/{agent}.jsonl\",\"compress\":\"zstd\"}", "{agent}.events.jsonl"},
        {"{\"path\":\"/tmp/x.{agent}\",\"keep\":1}", "{agent}.events.jsonl"},
        {"{\"path\":\"/tmp/{agent}/%B.jsonl\",\"max_age\":1}", "not with %B"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_code(delivery_builtin_check("file", bad[i][0]), SPOOL_ECONFIG);
        ck_assert_msg(strstr(err_last(), bad[i][1]), "%s: %s", bad[i][0], err_last());
    }
    void *state;
    ck_code(delivery_builtin_sink("file")->open(&state, NULL, "{\"path\":\"/tmp/{agent}\"}", "1 0 0 0 0 0 -", 13),
            SPOOL_ECONFIG); /* of one without placeholders */
}
END_TEST

/* As run_put(), each event with one of `agents` agents. */
static void put(struct run *run, unsigned number, unsigned n, unsigned agents)
{
    struct run_batch b;
    char names[64][16];
    run_fill(&b, number, n);
    for (unsigned i = 0; i < n; i++) {
        snprintf(names[i], sizeof names[i], "a/%u", (number + i) * 7 % agents);
        b.events[i].agent = names[i];
    }
    int code = run->sink->deliver(run->state, b.deliveries, n);
    ck_assert_msg(code == SPOOL_OK, "%s", delivery_sink_message());
    for (unsigned i = 0; i < n; i++)
        ck_assert_int_eq(b.deliveries[i].outcome, SPOOL_DELIVERED);
}

START_TEST(cuts_off_what_was_not_acknowledged)
{
    struct run *run = run_new("agent={agent}/events.jsonl", "");
    put(run, 0, 10, 3);
    run_checkpoint(run);
    put(run, 10, 10, 6); /* some of them new */
    run_open(run);
    check_once(run, 10);
    put(run, 10, 20, 6);
    check_once(run, 30);
    ck_assert(exists(run, "agent=a%2F0/events.jsonl"));
    run_free(run);
}
END_TEST

START_TEST(exactly_once_whatever_crashes)
{
    srandom((unsigned)test_seed(_i + 1));
    struct run *run = run_new("agent={agent}/%Y/events.jsonl", random() % 2 ? ",\"flush\":\"none\"" : "");
    unsigned n = 0, acknowledged = 0;
    for (int step = 0; step < 120; step++) {
        unsigned more = 1 + (unsigned)random() % 40, agents = 1 + (unsigned)random() % 30;
        put(run, n, more, agents);
        n += more;
        if (random() % 3 == 0) { /* a checkpoint, which may not come to be stored */
            struct run before = *run;
            run_checkpoint(run);
            if (random() % 4 == 0) {
                memcpy(run->checkpoint, before.checkpoint, before.checkpoint_size);
                run->checkpoint_size = before.checkpoint_size;
                run_open(run);
                n = acknowledged;
            } else
                acknowledged = n;
        } else if (random() % 5 == 0 && run->lost_count < 20) {
            run_open(run);
            n = acknowledged;
        }
        check_once(run, n);
    }
    run_free(run);
}
END_TEST

START_TEST(the_ledger_stays_small)
{
    struct run *run = run_new("{agent}.jsonl", ",\"flush\":\"none\"");
    struct stat st;
    char path[512];
    uint64_t largest = 0;
    path_in(run, ".{agent}.jsonl.ledger", path);
    for (unsigned i = 0; i < 600; i++) {
        put(run, i * 50, 50, 50);
        run_checkpoint(run);
        if (stat(path, &st) == 0 && (uint64_t)st.st_size > largest)
            largest = (uint64_t)st.st_size;
    }
    put(run, 30000, 10, 50);
    ck_assert_uint_gt(largest, 1 << 20); /* it has been written anew */
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_le(largest, (1 << 20) + 20000);
    ck_assert_uint_lt((uint64_t)st.st_size, 1 << 20);
    run_open(run);
    put(run, 30000, 20, 50);
    char *command, count[32] = "";
    ck_assert(asprintf(&command, "cat %s/a*.jsonl | wc -l", run->dir) > 0);
    FILE *pipe = popen(command, "r");
    ck_assert_ptr_nonnull(fgets(count, sizeof count, pipe));
    pclose(pipe);
    free(command);
    ck_assert_int_eq(atoi(count), 30020);
    run_free(run);
}
END_TEST

START_TEST(a_file_that_was_moved_is_begun_anew)
{
    struct run *run = run_new("{agent}.jsonl", "");
    char from[512], to[512], note[REASON_MAX + 1];
    path_in(run, "a%2F0.jsonl", from);
    path_in(run, "moved.jsonl", to);
    put(run, 0, 5, 1);
    run_checkpoint(run);
    ck_assert_int_eq(rename(from, to), 0);
    put(run, 5, 5, 1);
    delivery_sink_take_note(note);
    ck_assert_ptr_nonnull(strstr(note, "begun anew"));
    run_checkpoint(run);
    run_open(run);
    check_once(run, 10);
    run_free(run);
}
END_TEST

/* The same inode, and less in it than the last checkpoint says: as of a file that was deleted and made anew. */
START_TEST(a_file_that_was_emptied_is_cut_back_to_that)
{
    struct run *run = run_new("{agent}.jsonl", "");
    char path[512];
    path_in(run, "a%2F0.jsonl", path);
    put(run, 0, 20, 1);
    run_checkpoint(run);
    ck_assert_int_eq(truncate(path, 0), 0);
    put(run, 0, 5, 1);
    run_open(run); /* before another checkpoint: the five come again */
    put(run, 0, 5, 1);
    check_once(run, 5);
    run_free(run);
}
END_TEST

START_TEST(more_files_than_may_be_open)
{
    struct run *run = run_new("{agent}.jsonl", ",\"flush\":\"none\"");
    for (unsigned i = 0; i < 20; i++) {
        put(run, i * 50, 50, 1000);
        run_checkpoint(run);
    }
    unsigned open_files = 0;
    for (int fd = 0; fd < 4096; fd++)
        open_files += fcntl(fd, F_GETFD) >= 0;
    ck_assert_uint_le(open_files, 128 + 64 + 20);
    run_open(run);
    check_once(run, 1000);
    run_free(run);
}
END_TEST

static Suite *suite(void)
{
    test_in_memory();
    Suite *suite = suite_create("sink_partition");
    TCase *tcase = tcase_create("sink_partition");
    tcase_set_timeout(tcase, 300);
    tcase_add_test(tcase, what_an_event_says_of_itself_is_one_part_of_one_name);
    tcase_add_test(tcase, long_names_are_cut_and_stay_apart);
    tcase_add_test(tcase, what_is_wrong_is_refused);
    tcase_add_test(tcase, cuts_off_what_was_not_acknowledged);
    tcase_add_loop_test(tcase, exactly_once_whatever_crashes, 0, 6);
    tcase_add_test(tcase, the_ledger_stays_small);
    tcase_add_test(tcase, a_file_that_was_moved_is_begun_anew);
    tcase_add_test(tcase, a_file_that_was_emptied_is_cut_back_to_that);
    tcase_add_test(tcase, more_files_than_may_be_open);
    suite_add_tcase(suite, tcase);
    return suite;
}

CHECK_MAIN(suite)
