/* test_config.c - spool_open_config(): what is accepted, and that each mistake is named and leaves nothing behind. */
#include <sys/stat.h>

#include <stdbool.h>

#include "../../lib/base/json_tree.h"
#include "../check_main.h"

static char *dir, *file;

static void set_up(void)
{
    dir = test_dir();
    ck_assert(asprintf(&file, "%s/spool.json", dir) > 0);
}

static void tear_down(void)
{
    test_rmdir(dir);
    free(dir);
    free(file);
}

/* Writes the configuration with every @ replaced by the test's directory, and opens it. */
static int open_text(const char *text, struct spool **ret)
{
    FILE *out = fopen(file, "w");
    ck_assert_ptr_nonnull(out);
    for (; *text; text++) {
        if (*text == '@')
            fputs(dir, out);
        else
            fputc(*text, out);
    }
    ck_assert_int_eq(fclose(out), 0);
    return spool_open_config(file, ret);
}

struct found {
    char names[128];
};

static int note(void *user, const struct spool_sink_info *info)
{
    struct found *found = user;
    size_t at = strlen(found->names);
    snprintf(found->names + at, sizeof found->names - at, "%s:%s ", info->name, info->kind);
    return 0;
}

START_TEST(a_whole_configuration)
{
    struct spool *spool = NULL;
    struct found found = {{0}};
    ck_ok(open_text("{\"spool\": {\"dir\": \"@/s\", \"durability\": \"process\", \"max_bytes\": \"64MiB\", \"retention\": \"7d\","
                    " \"journal_bytes\": \"256KiB\", \"full\": {\"low\": \"drop-oldest\", \"medium\": \"reject\"},"
                    " \"full_timeout\": \"250ms\", \"workers\": 2, \"mode\": \"0600\"},"
                    " \"sinks\": [{\"name\": \"log\", \"kind\": \"file\", \"path\": \"@/out.jsonl\", \"order\": \"agent\","
                    "   \"retry\": {\"base\": \"100ms\", \"cap\": \"5m\", \"max_attempts\": 20}},"
                    "  {\"name\": \"hole\", \"kind\": \"null\", \"from_now\": true, \"workers\": 2}]}",
                    &spool));
    ck_ok(spool_sink_each(spool, note, &found));
    ck_assert_msg(strstr(found.names, "log:file ") && strstr(found.names, "hole:null "), "%s", found.names);
    struct spool_event event = SPOOL_EVENT(.type = "t", .body = "{}", .body_size = 2);
    ck_ok(spool_enqueue(spool, &event, NULL));
    ck_ok(spool_start(spool));
    ck_ok(spool_drain(spool, 20000));
    ck_ok(spool_close(spool));
    char *out;
    struct stat st;
    ck_assert(asprintf(&out, "%s/out.jsonl", dir) > 0);
    ck_assert_int_eq(stat(out, &st), 0);
    ck_assert_int_gt(st.st_size, 50);
    free(out);
}
END_TEST

static const struct mistake {
    const char *text;
    int code;
    const char *named; /* what the message must contain */
} mistakes[] = {
    {"{\"spool\": {\"dir\": \"@/s\"", SPOOL_EJSON, "line 1"},
    {"{\"spool\": {\n\"dir\" \"@/s\"}}", SPOOL_EJSON, "line 2"},
    {"[]", SPOOL_ECONFIG, "object"},
    {"{\"spol\": {}}", SPOOL_ECONFIG, "spol"},
    {"{\"spool\": {}}", SPOOL_ECONFIG, "dir"},
    {"{\"sinks\": []}", SPOOL_ECONFIG, "spool"},
    {"{\"spool\": {\"dir\": \"@/s\", \"max_byts\": 1}}", SPOOL_ECONFIG, "max_byts"},
    {"{\"spool\": {\"dir\": \"@/s\", \"dir\": \"@/t\"}}", SPOOL_EJSON, "duplicate"},
    {"{\"spool\": {\"dir\": \"@/s\", \"max_bytes\": \"8 GiB\"}}", SPOOL_ECONFIG, "max_bytes"},
    {"{\"spool\": {\"dir\": \"@/s\", \"max_bytes\": -1}}", SPOOL_ECONFIG, "max_bytes"},
    {"{\"spool\": {\"dir\": \"@/s\", \"retention\": \"7 days\"}}", SPOOL_ECONFIG, "retention"},
    {"{\"spool\": {\"dir\": \"@/s\", \"durability\": \"maybe\"}}", SPOOL_ECONFIG, "maybe"},
    {"{\"spool\": {\"dir\": \"@/s\", \"journal_bytes\": \"9GiB\"}}", SPOOL_ECONFIG, "journal_bytes"},
    {"{\"spool\": {\"dir\": \"@/s\", \"max_bytes\": \"1MiB\"}}", SPOOL_EOPTION, "max_bytes"},
    {"{\"spool\": {\"dir\": \"@/s\", \"full\": {\"lowest\": \"block\"}}}", SPOOL_ECONFIG, "lowest"},
    {"{\"spool\": {\"dir\": \"@/s\", \"full\": {\"low\": \"explode\"}}}", SPOOL_ECONFIG, "explode"},
    {"{\"spool\": {\"dir\": \"@/s\", \"mode\": \"0888\"}}", SPOOL_ECONFIG, "mode"},
    {"{\"spool\": {\"dir\": \"@/s\", \"workers\": 1000}}", SPOOL_EOPTION, "workers"},
    {"{\"spool\": {\"dir\": \"@/s\"}, \"sinks\": {}}", SPOOL_ECONFIG, "sinks"},
    {"{\"spool\": {\"dir\": \"@/s\"}, \"sinks\": [{\"kind\": \"null\"}]}", SPOOL_ECONFIG, "name"},
    {"{\"spool\": {\"dir\": \"@/s\"}, \"sinks\": [{\"name\": \"x\"}]}", SPOOL_ECONFIG, "kind"},
    {"{\"spool\": {\"dir\": \"@/s\"}, \"sinks\": [{\"name\": \"x\", \"kind\": \"carrier-pigeon\"}]}", SPOOL_ENOTFOUND, "pigeon"},
    {"{\"spool\": {\"dir\": \"@/s\"}, \"sinks\": [{\"name\": \"x/y\", \"kind\": \"null\"}]}", SPOOL_EINVAL, "x/y"},
    {"{\"spool\": {\"dir\": \"@/s\"}, \"sinks\": [{\"name\": \"x\", \"kind\": \"null\", \"order\": \"any\"}]}", SPOOL_ECONFIG, "any"},
    {"{\"spool\": {\"dir\": \"@/s\"}, \"sinks\": [{\"name\": \"x\", \"kind\": \"null\", \"retry\": {\"bass\": 1}}]}", SPOOL_ECONFIG, "bass"},
    {"{\"spool\": {\"dir\": \"@/s\"}, \"sinks\": [{\"name\": \"x\", \"kind\": \"null\", \"colour\": 1}]}", SPOOL_ECONFIG, "colour"},
    {"{\"spool\": {\"dir\": \"@/s\"}, \"sinks\": [{\"name\": \"x\", \"kind\": \"file\"}]}", SPOOL_ECONFIG, "path"},
};

START_TEST(a_mistake_is_named)
{
    const struct mistake *mistake = &mistakes[_i];
    struct spool *spool = NULL;
    ck_code(open_text(mistake->text, &spool), mistake->code);
    ck_assert_ptr_null(spool);
    ck_assert_msg(strstr(spool_last_error(), mistake->named) != NULL, "%s: message does not name %s: %s", mistake->text,
                  mistake->named, spool_last_error());
}
END_TEST

START_TEST(a_missing_file)
{
    struct spool *spool = NULL;
    ck_code(spool_open_config("/nonexistent/spool.json", &spool), ENOENT);
    ck_code(spool_open_config(NULL, &spool), SPOOL_EINVAL);
}
END_TEST

/* In front of libc's: allocation number `fail_at` fails. The sanitizers have their own. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
void *__libc_malloc(size_t size);
static unsigned long fail_at, allocations;

void *malloc(size_t size)
{
    if (fail_at && ++allocations == fail_at) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_malloc(size);
}

/* Neither "wrong JSON" nor a value that is cut short: jansson says the one and does the other. */
START_TEST(no_memory_is_no_mistake)
{
    static const char text[] = "{\"path\": \"/a/path/that/is/longer/than/the/first/buffer\", \"n\": [1, 2, {\"x\": null}]}";
    json_error_t error;
    for (unsigned long n = 1;; n++) {
        json_t *tree = NULL;
        allocations = 0;
        fail_at = n;
        int code = json_tree(text, sizeof text - 1, &tree, &error);
        bool failed = allocations >= n;
        fail_at = 0;
        ck_code(code, code == SPOOL_OK ? SPOOL_OK : ENOMEM);
        if (code == SPOOL_OK)
            ck_assert_str_eq(json_string_value(json_object_get(tree, "path")), "/a/path/that/is/longer/than/the/first/buffer");
        json_decref(tree);
        if (!failed)
            break;
    }
}
END_TEST
#endif

static Suite *suite(void)
{
    Suite *suite = suite_create("config");
    TCase *tcase = tcase_create("config");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, a_whole_configuration);
    tcase_add_loop_test(tcase, a_mistake_is_named, 0, sizeof mistakes / sizeof *mistakes);
    tcase_add_test(tcase, a_missing_file);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    tcase_add_test(tcase, no_memory_is_no_mistake);
#endif
    suite_add_tcase(suite, tcase);
    return suite;
}

CHECK_MAIN(suite)
