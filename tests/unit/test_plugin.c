/* test_plugin.c - the loader: where it looks, what it refuses, and that what it loads delivers. */
#include <sys/stat.h>

#include "../../delivery/delivery.h"
#include "../../lib/base/crc32c.h"
#include "scratch_fixture.h"

static char *folder; /* of plugins, in the scratch directory */

static void begin(void)
{
    scratch_begin();
    ck_assert(asprintf(&folder, "%s/plugins", dir) > 0);
    ck_assert_int_eq(mkdir(folder, 0755), 0);
    ck_assert_int_eq(setenv("SPOOL_SINK_PATH", folder, 1), 0);
}

static void end(void)
{
    free(folder);
    scratch_end();
}

static void shell(const char *format, ...) PRINTF(1, 2);
static void shell(const char *format, ...)
{
    char *command = NULL;
    va_list args;
    va_start(args, format);
    ck_assert(vasprintf(&command, format, args) > 0);
    va_end(args);
    ck_assert_msg(system(command) == 0, "failed: %s", command);
    free(command);
}

/* Copies a plugin of the tests into `folder`. */
static void install(const char *kind)
{
    shell("install -m 755 %s/libspool-sink-%s.so %s/", TEST_PLUGINS, kind, folder);
}

static int find(const char *kind)
{
    struct delivery_kind found;
    return delivery_kind_find(kind, NULL, &found);
}

#define ck_says(text) ck_assert_msg(strstr(err_last(), text), "\"%s\" is not in: %s", text, err_last())

/* ------------------------------------------------------------------------------------------------------- delivering */

static struct spool *open_spool(void)
{
    struct spool *spool = NULL;
    struct spool_options options = SPOOL_OPTIONS(.max_bytes = 16 << 20);
    ck_ok(spool_open(path, &options, &spool));
    return spool;
}

static void enqueue(struct spool *spool, const char *type)
{
    struct spool_event event = SPOOL_EVENT(.type = type, .priority = SPOOL_HIGH, .body = "{\"n\":1}", .body_size = 7);
    ck_ok(spool_enqueue(spool, &event, NULL));
}

static size_t count_lines(const char *file, const char *with)
{
    char line[4096];
    size_t n = 0;
    FILE *stream = fopen(file, "re");
    ck_assert_ptr_nonnull(stream);
    while (fgets(line, sizeof line, stream))
        n += strstr(line, with) != NULL;
    fclose(stream);
    return n;
}

static int tell_reason(void *user, const struct spool_dead_letter *letter)
{
    snprintf(user, 256, "%s", letter->reason);
    return 0;
}

/* Twice: added, and found again by its registration in a process that only knows the spool. */
static void deliver_by(const char *kind)
{
    char out[512], config[600], reason[256] = "";
    size_t n = 0;
    snprintf(out, sizeof out, "%s/out", dir);
    snprintf(config, sizeof config, "{\"path\":\"%s\"}", out);
    install(kind);
    struct spool *spool = open_spool();
    ck_ok(spool_sink_load(spool, "far", kind, config, NULL));
    ck_ok(spool_start(spool));
    enqueue(spool, "first");
    enqueue(spool, "refuse");
    ck_ok(spool_drain(spool, 60000));
    ck_ok(spool_dead_each(spool, "far", tell_reason, reason));
    ck_ok(spool_close(spool));
    ck_assert_ptr_nonnull(strstr(reason, "refuses refuse"));
    ck_assert_uint_eq(count_lines(out, " high {"), 1);
    spool = open_spool();
    ck_ok(spool_sink_load_registered(spool, &n));
    ck_assert_uint_eq(n, 1);
    ck_ok(spool_start(spool));
    enqueue(spool, "second");
    ck_ok(spool_drain(spool, 60000));
    ck_ok(spool_close(spool));
    ck_assert_uint_eq(count_lines(out, "\"type\":\"second\""), 1);
    ck_assert_uint_eq(count_lines(out, ""), 2);
}

START_TEST(a_plugin_delivers)
{
    deliver_by("echo");
}
END_TEST

/* It is compiled anew, and not kept as a binary, which would hold for one processor and one compiler alone. What a binary
 * fixes is the layout that the header had; so the header must be what it was, to the byte. */
START_TEST(a_plugin_of_the_first_release_still_delivers)
{
    static char header[1 << 18];
    FILE *file = fopen(TEST_SOURCES "/tests/plugins/abi1/spool.h", "re");
    ck_assert_ptr_nonnull(file);
    size_t size = fread(header, 1, sizeof header, file);
    fclose(file);
    ck_assert_msg(crc32c(0, header, size) == 0x587f6564, "abi1/spool.h was changed: %#x", crc32c(0, header, size));
    deliver_by("old");
}
END_TEST

static int count_sinks(void *user, const struct spool_sink_info *info)
{
    (void)info;
    ++*(unsigned *)user;
    return 0;
}

START_TEST(a_configuration_it_refuses_is_not_stored)
{
    unsigned sinks = 0;
    install("echo");
    struct spool *spool = open_spool();
    ck_code(spool_sink_load(spool, "far", "echo", "{\"password\":\"hunter2\"}", NULL), SPOOL_ECONFIG);
    ck_says("sink far: echo: \"path\" is required");
    ck_ok(spool_sink_each(spool, count_sinks, &sinks));
    ck_assert_uint_eq(sinks, 0);
    ck_ok(spool_close(spool));
}
END_TEST

START_TEST(a_registered_one_that_is_gone_is_left_alone)
{
    char config[600], file[600];
    size_t n = 7;
    snprintf(config, sizeof config, "{\"path\":\"%s/out\"}", dir);
    snprintf(file, sizeof file, "%s/libspool-sink-echo.so", folder);
    install("echo");
    struct spool *spool = open_spool();
    ck_ok(spool_sink_load(spool, "far", "echo", config, NULL));
    ck_ok(spool_close(spool));
    ck_assert_int_eq(unlink(file), 0);
    spool = open_spool();
    ck_ok(spool_sink_load_registered(spool, &n));
    ck_assert_uint_eq(n, 0);
    install("echo");
    ck_assert_int_eq(chmod(file, 0777), 0);
    ck_code(spool_sink_load_registered(spool, &n), SPOOL_EACCESS);
    ck_ok(spool_close(spool));
}
END_TEST

/* -------------------------------------------------------------------------------------------------------- searching */

START_TEST(what_is_nowhere_says_where_it_was_looked_for)
{
    struct delivery_kind found;
    ck_code(find("nosuch"), SPOOL_ENOTFOUND);
    ck_says("libspool-sink-nosuch.so");
    ck_says(folder);
    ck_says("/lib/libspool"); /* the installed folder */
    const char *bad[] = {"", "../echo", "a/b", "x.y",
                         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_code(find(bad[i]), SPOOL_ENOTFOUND);
    ck_code(delivery_kind_find(NULL, NULL, &found), SPOOL_ENOTFOUND);
}
END_TEST

START_TEST(the_current_folder_is_never_searched)
{
    install("echo");
    ck_assert_int_eq(chdir(folder), 0);
    const char *paths[] = {"", ":", "::"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        ck_assert_int_eq(setenv("SPOOL_SINK_PATH", paths[i], 1), 0);
        ck_code(find("echo"), SPOOL_ENOTFOUND);
    }
    ck_assert_int_eq(unsetenv("SPOOL_SINK_PATH"), 0);
    ck_code(find("echo"), SPOOL_ENOTFOUND);
    const char *relative[] = {".", "plugins", "/nowhere:."};
    for (size_t i = 0; i < sizeof relative / sizeof *relative; i++) {
        ck_assert_int_eq(setenv("SPOOL_SINK_PATH", relative[i], 1), 0);
        ck_code(find("echo"), SPOOL_EACCESS);
        ck_says("is not an absolute folder");
    }
    ck_assert_int_eq(chdir("/"), 0);
}
END_TEST

START_TEST(the_first_folder_counts)
{
    char *list = NULL;
    ck_assert(asprintf(&list, "/nowhere/at/all::%s/", folder) > 0);
    ck_assert_int_eq(setenv("SPOOL_SINK_PATH", list, 1), 0);
    free(list);
    ck_code(find("echo"), SPOOL_ENOTFOUND);
    install("echo");
    ck_ok(find("echo"));
}
END_TEST

START_TEST(a_file_may_be_named)
{
    char file[600];
    struct delivery_kind found = {0};
    ck_assert_int_eq(unsetenv("SPOOL_SINK_PATH"), 0);
    install("echo");
    snprintf(file, sizeof file, "%s/libspool-sink-echo.so", folder);
    ck_ok(delivery_kind_find("echo", file, &found));
    ck_assert_str_eq(found.sink->kind, "echo");
    ck_assert_str_eq(found.settings[0].key, "path");
    ck_code(delivery_kind_find("other", file, &found), SPOOL_EINVAL);
    ck_code(delivery_kind_find("echo", "libspool-sink-echo.so", &found), SPOOL_EACCESS);
    ck_code(delivery_kind_find("echo", "/nowhere/x.so", &found), ENOENT);
}
END_TEST

/* ----------------------------------------------------------------------------------------------------------- safety */

START_TEST(what_others_can_write_is_not_loaded)
{
    char file[600];
    install("echo");
    snprintf(file, sizeof file, "%s/libspool-sink-echo.so", folder);
    const struct {
        const char *path;
        mode_t mode, back;
    } cases[] = {
        {file, 0775, 0755}, {file, 0757, 0755}, {folder, 0775, 0755}, {folder, 01777, 0755}, {dir, 0770, 0700}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ck_assert_int_eq(chmod(cases[i].path, cases[i].mode), 0);
        ck_code(find("echo"), SPOOL_EACCESS);
        ck_says("chmod go-w");
        ck_assert_int_eq(chmod(cases[i].path, cases[i].back), 0);
    }
    ck_ok(find("echo"));
}
END_TEST

START_TEST(what_belongs_to_somebody_else_is_not_loaded)
{
    char file[600];
    if (geteuid() != 0) /* nobody else can give a file away */
        return;
    install("echo");
    snprintf(file, sizeof file, "%s/libspool-sink-echo.so", folder);
    const char *paths[] = {file, folder, dir};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        ck_assert_int_eq(chown(paths[i], 12345, 0), 0);
        ck_code(find("echo"), SPOOL_EACCESS);
        ck_says("belongs to user 12345");
        ck_assert_int_eq(chown(paths[i], 0, 0), 0);
    }
    ck_ok(find("echo"));
}
END_TEST

START_TEST(a_link_is_judged_by_what_it_leads_to)
{
    char file[600];
    snprintf(file, sizeof file, "%s/open", dir);
    ck_assert_int_eq(mkdir(file, 0755), 0);
    shell("install -m 755 %s/libspool-sink-echo.so %s/; ln -s %s/libspool-sink-echo.so %s/", TEST_PLUGINS, file, file,
          folder);
    ck_ok(find("echo"));
    ck_assert_int_eq(chmod(file, 0777), 0);
    ck_code(find("echo"), SPOOL_EACCESS);
}
END_TEST

START_TEST(what_is_no_plain_file_is_not_loaded)
{
    shell("mkdir %s/libspool-sink-dir.so; mkfifo %s/libspool-sink-pipe.so; chmod 755 %s/*", folder, folder, folder);
    ck_code(find("dir"), SPOOL_EACCESS);
    ck_code(find("pipe"), SPOOL_EACCESS);
}
END_TEST

/* -------------------------------------------------------------------------------------------------------------- ABI */

static void build_wrong(const char *flags, const char *name)
{
    shell("cc -std=c11 -shared -fPIC -I%s/lib %s -o %s/libspool-sink-%s.so %s/tests/plugins/wrong.c", TEST_SOURCES,
          flags, folder, name, TEST_SOURCES);
}

START_TEST(what_does_not_fit_is_refused_before_it_runs)
{
    static const struct {
        const char *wrong;
        int code;
        const char *says;
    } cases[] = {
        {"FINE", SPOOL_OK, ""},
        {"TAIL_OF_ZEROS", SPOOL_OK, ""},
        {"ABI", SPOOL_EABI, "has ABI 7"},
        {"SHORT", SPOOL_EABI, "less than ABI 1"},
        {"TAIL", SPOOL_EABI, "does not know"},
        {"SINK_ABI", SPOOL_EABI, "has ABI 2"},
        {"SINK_TAIL", SPOOL_EABI, "hooks that this library does not know"},
        {"KIND", SPOOL_EINVAL, "of kind \"other\""},
        {"NO_SINK", SPOOL_EABI, "not complete"},
        {"NEW_HOST", SPOOL_EABI, "newer libspool"},
        {"NO_DELIVER", SPOOL_EINVAL, "no deliver"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char flags[64];
        snprintf(flags, sizeof flags, "-DWRONG=%s", cases[i].wrong);
        build_wrong(flags, "wrong");
        ck_code(find("wrong"), cases[i].code);
        if (cases[i].code)
            ck_says(cases[i].says);
        shell("mv %s/libspool-sink-wrong.so %s/%zu.so; rm -rf %s; mkdir -m 755 %s", folder, dir, i, folder, folder);
        free(folder); /* a path that was loaded stays loaded: another one for the next */
        ck_assert(asprintf(&folder, "%s/plugins%zu", dir, i) > 0);
        ck_assert_int_eq(mkdir(folder, 0755), 0);
        ck_assert_int_eq(setenv("SPOOL_SINK_PATH", folder, 1), 0);
    }
}
END_TEST

START_TEST(what_is_no_plugin_is_refused)
{
    build_wrong("-DNO_SYMBOL", "empty");
    ck_code(find("empty"), SPOOL_EABI);
    ck_says("no sink of libspool");
    shell("echo garbage > %s/libspool-sink-text.so; chmod 755 %s/*", folder, folder);
    ck_code(find("text"), SPOOL_EABI);
    ck_says("cannot load");
}
END_TEST

/* ---------------------------------------------------------------------------------------------------------- listing */

static int list(void *user, const struct spool_sink_kind *kind)
{
    char *text = user;
    size_t at = strlen(text);
    snprintf(text + at, 1024 - at, "%s%s%s ", kind->kind, kind->file ? "+" : "", kind->problem ? "!" : "");
    return 0;
}

static int stop_at_once(void *user, const struct spool_sink_kind *kind)
{
    (void)kind;
    return ++*(int *)user;
}

START_TEST(all_kinds_are_listed)
{
    char text[1024] = "", *list_path = NULL;
    int calls = 0;
    install("echo");
    shell("echo garbage > %s/libspool-sink-text.so; touch %s/libspool-sink-.so %s/other.so", folder, folder, folder);
    ck_assert(asprintf(&list_path, "/nowhere:%s:%s/.", folder, folder) > 0);
    ck_assert_int_eq(setenv("SPOOL_SINK_PATH", list_path, 1), 0);
    free(list_path);
    ck_ok(spool_sink_kind_each(list, text));
    ck_assert_str_eq(text, "null stdout file failover quorum echo+ text+! ");
    ck_assert_int_eq(spool_sink_kind_each(stop_at_once, &calls), 1);
    ck_code(spool_sink_kind_each(NULL, NULL), SPOOL_EINVAL);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("plugin");
    TCase *tcase = tcase_create("plugin");
    tcase_set_timeout(tcase, 300);
    tcase_add_checked_fixture(tcase, begin, end);
    tcase_add_test(tcase, a_plugin_delivers);
    tcase_add_test(tcase, a_plugin_of_the_first_release_still_delivers);
    tcase_add_test(tcase, a_configuration_it_refuses_is_not_stored);
    tcase_add_test(tcase, a_registered_one_that_is_gone_is_left_alone);
    tcase_add_test(tcase, what_is_nowhere_says_where_it_was_looked_for);
    tcase_add_test(tcase, the_current_folder_is_never_searched);
    tcase_add_test(tcase, the_first_folder_counts);
    tcase_add_test(tcase, a_file_may_be_named);
    tcase_add_test(tcase, what_others_can_write_is_not_loaded);
    tcase_add_test(tcase, what_belongs_to_somebody_else_is_not_loaded);
    tcase_add_test(tcase, a_link_is_judged_by_what_it_leads_to);
    tcase_add_test(tcase, what_is_no_plain_file_is_not_loaded);
    tcase_add_test(tcase, what_does_not_fit_is_refused_before_it_runs);
    tcase_add_test(tcase, what_is_no_plugin_is_refused);
    tcase_add_test(tcase, all_kinds_are_listed);
    suite_add_tcase(suite, tcase);
    return suite;
}

CHECK_MAIN(suite)
