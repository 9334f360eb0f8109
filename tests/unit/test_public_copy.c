/* test_public_copy.c - a copied directory is a spool of its own: it takes nothing back that the original has delivered. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../check_main.h"

static char *dir, *path, *copy, *lines;
static unsigned warned;

static void set_up(void)
{
    dir = test_dir();
    ck_assert(asprintf(&path, "%s/spool", dir) > 0 && asprintf(&copy, "%s/copy", dir) > 0);
    ck_assert(asprintf(&lines, "%s/lines.jsonl", dir) > 0);
    warned = 0;
}

static void tear_down(void)
{
    test_rmdir(dir);
    free(dir);
    free(path);
    free(copy);
    free(lines);
}

static void hear(void *user, enum spool_log_level level, const char *text)
{
    (void)user;
    warned += level <= SPOOL_LOG_WARNING && strstr(text, "is a copy");
}

static struct spool *open_delivering(const char *name)
{
    struct spool *spool = NULL;
    char config[512];
    struct spool_options options =
        SPOOL_OPTIONS(.max_bytes = 16 << 20, .segment_bytes = 1 << 20, .journal_bytes = 256 << 10, .log = hear);
    snprintf(config, sizeof config, "{\"path\":\"%s\"}", lines);
    ck_ok(spool_open(name, &options, &spool));
    ck_ok(spool_sink_load(spool, "file", "file", config, NULL));
    ck_ok(spool_start(spool));
    return spool;
}

static void deliver(struct spool *spool, unsigned n)
{
    struct spool_event event = SPOOL_EVENT(.type = "t", .body = "1", .body_size = 1);
    for (unsigned i = 0; i < n; i++)
        ck_ok(spool_enqueue(spool, &event, NULL));
    ck_ok(spool_drain(spool, 60000));
}

static void run(const char *command, const char *from, const char *to)
{
    char line[1024];
    snprintf(line, sizeof line, "%s '%s' '%s'", command, from, to);
    ck_assert_int_eq(system(line), 0);
}

static unsigned count_lines(void)
{
    unsigned n = 0;
    FILE *file = fopen(lines, "r");
    ck_assert_ptr_nonnull(file);
    for (int c; (c = fgetc(file)) != EOF;)
        n += c == '\n';
    fclose(file);
    return n;
}

START_TEST(a_copy_takes_back_nothing)
{
    struct spool *spool = open_delivering(path);
    deliver(spool, 10);
    ck_ok(spool_close(spool));
    run("cp -a", path, copy);
    spool = open_delivering(path);
    deliver(spool, 20);
    ck_ok(spool_close(spool));
    ck_assert_uint_eq(warned, 0);
    ck_assert_uint_eq(count_lines(), 30);
    spool = open_delivering(copy); /* its checkpoint says: ten lines, cut the rest */
    ck_assert_uint_eq(warned, 1);
    ck_ok(spool_close(spool));
    ck_assert_uint_eq(count_lines(), 30);
    spool = open_delivering(copy);
    ck_assert_uint_eq(warned, 1); /* from now on it is at home there */
    ck_ok(spool_close(spool));
}
END_TEST

START_TEST(a_renamed_directory_is_no_copy)
{
    struct spool *spool = open_delivering(path);
    deliver(spool, 10);
    ck_ok(spool_close(spool));
    run("mv", path, copy);
    spool = open_delivering(copy);
    deliver(spool, 5);
    ck_ok(spool_close(spool));
    ck_assert_uint_eq(warned, 0);
    ck_assert_uint_eq(count_lines(), 15);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("public_copy");
    TCase *tcase = tcase_create("copies");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, a_copy_takes_back_nothing);
    tcase_add_test(tcase, a_renamed_directory_is_no_copy);
    suite_add_tcase(suite, tcase);
    return suite;
}

CHECK_MAIN(suite)
