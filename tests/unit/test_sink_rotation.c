/* test_sink_rotation.c - the file sink with a path that depends on the event, whose files are begun anew, compressed and
 * deleted: exactly once whatever crashes, what goes on is left alone, and limits hold for all of them together.
 *
 * A crash is to close the sink without a checkpoint, since closing writes nothing: a thread of a sink that is only
 * forgotten would go on to compress files, as no thread of a dead process does. */
#include <ftw.h>

#include "../../delivery/sinks/file_names.h"
#include "../../delivery/sinks/file_parts.h"
#include "../../lib/base/sync.h"
#include "file_sink_fixture.h"

/* Answers given, and those that are stored with a checkpoint: what the engine tells the sink before each hook. */
static uint64_t given, stored;

static void crash(struct run *run)
{
    run->sink->close(run->state);
    run->state = NULL;
    run_open(run);
}

static void put_as(struct run *run, unsigned number, unsigned n, const char *(*agent_of)(unsigned number))
{
    struct run_batch b;
    run_fill(&b, number, n);
    for (unsigned i = 0; i < n; i++)
        b.events[i].agent = agent_of(number + i);
    delivery_sink_set_progress(++given, stored);
    int code = run->sink->deliver(run->state, b.deliveries, n);
    ck_assert_msg(code == SPOOL_OK, "%s", delivery_sink_message());
    for (unsigned i = 0; i < n; i++)
        ck_assert_int_eq(b.deliveries[i].outcome, SPOOL_DELIVERED);
}

static void checkpoint(struct run *run)
{
    delivery_sink_set_progress(given, stored);
    run_checkpoint(run);
    stored = given;
}

static const char *const agents[] = {"a", "b/c", "a-000001", ".x", NULL, "d.e"};
static const char *some_agent(unsigned number)
{
    return agents[number * 7 % 6];
}
static const char *agent_a(unsigned number)
{
    (void)number;
    return "a";
}
static const char *agent_b(unsigned number)
{
    (void)number;
    return "b";
}

/* As check_once(), of plain and compressed files; one that is there in both forms counts once. No thread may be at them. */
static void check_all_once(struct run *run, unsigned n)
{
    run->sink->close(run->state);
    run->state = NULL;
    char *command;
    ck_assert(
        asprintf(&command,
                 "mkdir %s.all && cd %s && for f in $(find . -type f ! -name '.*.ledger' ! -name '*.zst.tmp'); do "
                 "case $f in *.zst) zstd -dcq $f;; *) [ -e $f.zst ] || cat $f;; esac || exit 1; done > %s.all/all",
                 run->dir, run->dir, run->dir) > 0);
    ck_assert_int_eq(system(command), 0);
    free(command);
    struct run whole = *run;
    snprintf(whole.dir, sizeof whole.dir, "%.200s.all", run->dir);
    check_once(&whole, n);
    test_rmdir(whole.dir);
    run_open(run);
}

START_TEST(exactly_once_whatever_crashes)
{
    srandom((unsigned)test_seed(_i + 1));
    struct run *run = run_new("agent={agent}/%Y/e.{priority}.events.jsonl",
                              _i % 2 ? ",\"rotate_bytes\":900,\"compress\":\"zstd\",\"flush\":\"none\""
                                     : ",\"rotate_bytes\":900,\"compress\":\"zstd\",\"compress_level\":1");
    unsigned n = 0, acknowledged = 0;
    for (int step = 0; step < 40; step++) {
        unsigned more = 1 + (unsigned)random() % 30;
        put_as(run, n, more, some_agent);
        n += more;
        long dice = random() % 8;
        struct run before = *run;
        if (dice < 3) {
            checkpoint(run);
            acknowledged = n;
        } else if (dice == 3) { /* a checkpoint that does not come to be stored */
            run_checkpoint(run);
            memcpy(run->checkpoint, before.checkpoint, before.checkpoint_size);
            run->checkpoint_size = before.checkpoint_size;
        }
        if (dice == 3 || dice == 4) {
            crash(run);
            n = acknowledged;
            check_all_once(run, n);
        }
    }
    checkpoint(run);
    check_all_once(run, n);
    run_free(run);
}
END_TEST

/* ------------------------------------------------------------------------------------------------------ what is done */

static bool becomes(const struct run *run, const char *name, bool there)
{
    for (int i = 0; i < 6000 && exists(run, name) != there; i++)
        usleep(10000);
    return exists(run, name) == there;
}

static void set_age(const struct run *run, const char *name, int64_t age_s)
{
    char path[512];
    struct timespec then = {.tv_sec = (time_t)(real_ns() / 1000000000) - age_s};
    path_in(run, name, path);
    ck_assert_int_eq(utimensat(AT_FDCWD, path, (struct timespec[]){then, then}, 0), 0);
}

static void write_file(const struct run *run, const char *folder, const char *name, size_t size, int64_t age_s)
{
    char path[512];
    path_in(run, folder, path);
    ck_assert(mkdir(path, 0755) == 0 || errno == EEXIST);
    path_in(run, name, path);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
    close(fd);
    set_age(run, name, age_s);
}

/* The oldest file is looked at first: when a younger one is compressed, what is still plain was left alone. */
START_TEST(what_goes_on_is_not_compressed)
{
    struct run *run = run_new("agent={agent}/e.jsonl", ",\"rotate_bytes\":400");
    for (unsigned i = 0; i < 4; i++)
        put_as(run, i, 1, i % 2 ? agent_a : agent_b);
    ck_assert(exists(run, "agent=a/e-000001.jsonl") && exists(run, "agent=b/e-000001.jsonl"));
    checkpoint(run);
    set_age(run, "agent=a/e.jsonl", 900);
    set_age(run, "agent=b/e-000001.jsonl", 800); /* the last of b */
    set_age(run, "agent=b/e.jsonl", 700);
    snprintf(run->config, sizeof run->config,
             "{\"path\":\"%s/agent={agent}/e.jsonl\",\"rotate_bytes\":400,\"compress\":\"zstd\"}", run->dir);
    crash(run);
    ck_assert(becomes(run, "agent=b/e.jsonl", false));
    ck_assert(exists(run, "agent=b/e.jsonl.zst") && exists(run, "agent=a/e.jsonl.zst"));
    ck_assert(exists(run, "agent=b/e-000001.jsonl") && !exists(run, "agent=b/e-000001.jsonl.zst"));
    put_as(run, 4, 1, agent_b); /* goes on in it, or in the next number */
    ck_assert(!exists(run, "agent=b/e.jsonl"));
    checkpoint(run);
    check_all_once(run, 5);
    run_free(run);
}
END_TEST

START_TEST(what_is_over_is_compressed)
{
    struct run *run = run_new("{type}/dt=%Y-%m-%d/e.jsonl", "");
    write_file(run, "other", "other/e.jsonl", 10, 5000); /* not of the template */
    write_file(run, "t", "t/dt=2001-02-03", 0, 0);
    char path[512];
    path_in(run, "t/dt=2001-02-03", path);
    ck_assert_int_eq(unlink(path), 0);
    write_file(run, "t/dt=2001-02-03", "t/dt=2001-02-03/e.jsonl", 1000, 1000);
    snprintf(run->config, sizeof run->config, "{\"path\":\"%s/{type}/dt=%%Y-%%m-%%d/e.jsonl\",\"compress\":\"zstd\"}",
             run->dir);
    crash(run);
    ck_assert(becomes(run, "t/dt=2001-02-03/e.jsonl", false));
    ck_assert(exists(run, "t/dt=2001-02-03/e.jsonl.zst") && exists(run, "other/e.jsonl"));
    run_free(run);
}
END_TEST

/* A retired file waits for the checkpoint after its end; nobody has to ask for it to be compressed then. */
START_TEST(what_may_be_cut_back_is_left_alone)
{
    struct run *run = run_new("{agent}/e.jsonl", ",\"rotate_bytes\":400,\"compress\":\"zstd\"");
    for (unsigned i = 0; i < 4; i++)
        put_as(run, i, 1, agent_a);
    delivery_sink_set_progress(given, stored);
    run_checkpoint(run); /* taken, but not stored yet */
    write_file(run, "old", "old/e.jsonl", 0, 5000);
    write_file(run, "old", "old/e-000001.jsonl", 0, 5000);
    put_as(run, 4, 1, agent_a);
    ck_assert(exists(run, "a/e.jsonl") && exists(run, "a/e-000001.jsonl"));
    usleep(100000);
    ck_assert(exists(run, "a/e.jsonl") && !exists(run, "a/e.jsonl.zst"));
    stored = given - 1;
    put_as(run, 5, 1, agent_a);
    ck_assert(becomes(run, "a/e.jsonl", false));
    ck_assert(exists(run, "a/e.jsonl.zst") && !exists(run, "old/e.jsonl") && exists(run, "old/e-000001.jsonl"));
    crash(run);
    check_all_once(run, 4);
    run_free(run);
}
END_TEST

START_TEST(old_files_are_not_gone_on_with)
{
    struct run *run = run_new("{agent}/e.jsonl", ",\"rotate_interval\":\"10m\",\"compress\":\"zstd\"");
    put_as(run, 0, 1, agent_a);
    checkpoint(run);
    run->sink->close(run->state);
    run->state = NULL;
    set_age(run, "a/e.jsonl", 700);
    run_open(run);
    ck_assert(becomes(run, "a/e.jsonl", false));
    put_as(run, 1, 1, agent_a);
    ck_assert(exists(run, "a/e-000001.jsonl"));
    check_all_once(run, 2);
    run_free(run);
    run = run_new("{agent}/e.jsonl", ",\"rotate_interval\":\"10m\"");
    put_as(run, 0, 1, agent_a);
    checkpoint(run);
    set_age(run, "a/e.jsonl", 700);
    crash(run);
    put_as(run, 1, 1, agent_a);
    ck_assert(exists(run, "a/e-000001.jsonl"));
    check_once(run, 2);
    run_free(run);
}
END_TEST

START_TEST(limits_hold_for_all_of_them_together)
{
    struct run *run = run_new("{agent}/e.jsonl", "");
    for (int i = 0; i < 6; i++) {
        char folder[32], name[64];
        snprintf(folder, sizeof folder, "agent%d", i);
        snprintf(name, sizeof name, "agent%d/e.jsonl", i);
        write_file(run, folder, name, 1000, 1000 - i * 100);
    }
    write_file(run, "agent5", "agent5/e-000001.jsonl.zst", 500, 10);
    snprintf(run->config, sizeof run->config, "{\"path\":\"%s/{agent}/e.jsonl\",\"max_bytes\":3600}", run->dir);
    crash(run);
    ck_assert(becomes(run, "agent2", false)); /* with the folder */
    ck_assert(!exists(run, "agent0") && !exists(run, "agent1") && exists(run, "agent3/e.jsonl"));
    snprintf(run->config, sizeof run->config, "{\"path\":\"%s/{agent}/e.jsonl\",\"max_age\":\"650s\"}", run->dir);
    crash(run);
    ck_assert(becomes(run, "agent3", false));
    ck_assert(exists(run, "agent4/e.jsonl") && exists(run, "agent5/e-000001.jsonl.zst"));
    put_as(run, 0, 1, agent_a);
    run_free(run);
}
END_TEST

START_TEST(so_many_of_a_name_are_kept)
{
    struct run *run = run_new("{agent}/e.jsonl", ",\"rotate_bytes\":1,\"keep\":2");
    for (unsigned i = 0; i < 12; i++)
        put_as(run, i, 1, i % 2 ? agent_a : agent_b);
    ck_assert(exists(run, "a/e-000005.jsonl") && exists(run, "a/e-000003.jsonl") && !exists(run, "a/e-000002.jsonl"));
    ck_assert(!exists(run, "a/e.jsonl") && exists(run, "b/e-000005.jsonl"));
    checkpoint(run);
    crash(run);
    put_as(run, 12, 1, agent_b); /* not in a number that is free further down */
    ck_assert(exists(run, "b/e-000006.jsonl") && !exists(run, "b/e.jsonl"));
    run_free(run);
}
END_TEST

/* --------------------------------------------------------------------------------------------------------- names */

START_TEST(names)
{
    static const struct {
        const char *pattern, *name;
        int form; /* enum file_form; -1: does not fit */
    } cases[] = {
        {"{agent}.e.jsonl", "a%2Fb.e.jsonl", FORM_PLAIN},
        {"{agent}.e.jsonl", "a.b.e-000007.jsonl.zst", FORM_ZST},
        {"{agent}.e.jsonl", ".e.jsonl", -1},
        {"{agent}.e.jsonl", ".x.e.jsonl", -1},
        {"{agent}.e.jsonl", "a b.e.jsonl", -1},
        {"{agent}-%Y.e.jsonl", "a-1-2026.e.jsonl.zst.tmp", FORM_TMP},
        {"{agent}-%Y.e.jsonl", "a-1-202.e.jsonl", -1},
        {"{type}{priority}.x.l", "ab.x.l", FORM_PLAIN},
        {"{type}{priority}.x.l", "a.x.l", -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum file_form form = FORM_PLAIN;
        bool fits = file_names_fit(cases[i].pattern, cases[i].name, &form);
        ck_assert_msg((fits ? (int)form : -1) == cases[i].form, "%s, %s", cases[i].pattern, cases[i].name);
    }
    ck_assert(file_names_is_of("/d/{agent}/%Y.l", "/d/a%25/1970.l", 5));
    ck_assert(!file_names_is_of("/d/{agent}/%Y.l", "/d/a/1971.l", 5));
    ck_assert(!file_names_is_of("/d/{agent}/%Y.l", "/d/a/b/1970.l", 5));
    ck_assert(parts_can_number("/{agent}/e.jsonl") && parts_can_number("{agent}.e.jsonl") &&
              parts_can_number("/{a}.d/e"));
    ck_assert(!parts_can_number("{agent}.jsonl") && !parts_can_number("/x/{agent}") && !parts_can_number("{agent}-x") &&
              !parts_can_number("x.{agent}"));
}
END_TEST

START_TEST(the_last_number_of_a_name)
{
    struct run *run = run_new("e.jsonl", "");
    unsigned number = 9;
    bool compressed = true;
    char base[512];
    path_in(run, "e.jsonl", base);
    ck_assert_int_eq(file_names_last(base, &number, &compressed), 0);
    ck_assert(number == 0 && !compressed);
    write_file(run, ".", "e-000012.jsonl.zst", 1, 0);
    write_file(run, ".", "e-000007.jsonl", 1, 0);
    write_file(run, ".", "e-000099.jsonl.zst.tmp", 1, 0);
    write_file(run, ".", "ee-000099.jsonl", 1, 0);
    ck_assert_int_eq(file_names_last(base, &number, &compressed), 0);
    ck_assert(number == 12 && compressed);
    path_in(run, "nowhere/e.jsonl", base);
    ck_assert_int_eq(file_names_last(base, &number, &compressed), ENOENT);
    run_free(run);
}
END_TEST

/* Agents whose names look like numbered files write to files of their own. */
START_TEST(names_that_look_like_numbers_stay_apart)
{
    struct run *run = run_new("{agent}.e.jsonl", ",\"rotate_bytes\":1");
    for (unsigned i = 0; i < 40; i++)
        put_as(run, i, 1, some_agent);
    char *command;
    ck_assert(asprintf(&command,
                       "cd %s && for f in *.jsonl; do [ $(sed 's/\"type\".*\"agent\":\\(\"[^\"]*\"\\).*/\\1/; "
                       "s/^{.*\\(\"[^\"]*\"\\)$/\\1/' $f | sort -u | wc -l) = 1 ] || exit 1; done",
                       run->dir) > 0);
    ck_assert_int_eq(system(command), 0);
    free(command);
    check_once(run, 40);
    run_free(run);
}
END_TEST

static Suite *suite(void)
{
    test_in_memory();
    Suite *suite = suite_create("sink_rotation");
    TCase *tcase = tcase_create("sink_rotation");
    tcase_set_timeout(tcase, 300);
    tcase_add_loop_test(tcase, exactly_once_whatever_crashes, 0, 4);
    tcase_add_test(tcase, what_goes_on_is_not_compressed);
    tcase_add_test(tcase, what_is_over_is_compressed);
    tcase_add_test(tcase, what_may_be_cut_back_is_left_alone);
    tcase_add_test(tcase, old_files_are_not_gone_on_with);
    tcase_add_test(tcase, limits_hold_for_all_of_them_together);
    tcase_add_test(tcase, so_many_of_a_name_are_kept);
    tcase_add_test(tcase, names);
    tcase_add_test(tcase, the_last_number_of_a_name);
    tcase_add_test(tcase, names_that_look_like_numbers_stay_apart);
    suite_add_tcase(suite, tcase);
    return suite;
}

CHECK_MAIN(suite)
