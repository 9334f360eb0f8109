/* test_config.c - spool_open_config(): what is accepted, and that each mistake is named and leaves nothing behind. */
#include <sys/stat.h>

#include <stdbool.h>

#include "../../lib/base/json_tree.h"
#include <stdatomic.h>

#include "fail_nth.h"

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
    ck_ok(open_text(
        "{\"spool\": {\"dir\": \"@/s\", \"durability\": \"process\", \"max_bytes\": \"64MiB\", \"retention\": \"7d\","
        " \"journal_bytes\": \"256KiB\", \"full\": {\"low\": \"drop-oldest\", \"medium\": \"reject\"},"
        " \"full_timeout\": \"250ms\", \"workers\": 2, \"mode\": \"0600\", \"compress\": \"zstd\"},"
        " \"sinks\": [{\"name\": \"log\", \"kind\": \"file\", \"path\": \"@/out.jsonl\", \"order\": \"agent\","
        "   \"retry\": {\"base\": \"100ms\", \"cap\": \"5m\", \"max_attempts\": 20},"
        "   \"breaker\": {\"failures\": 3, \"probe_events\": 4, \"probes\": 2}, \"inflight_bytes\": \"2MiB\"},"
        "  {\"name\": \"hole\", \"kind\": \"null\", \"from_now\": true, \"workers\": 2}]}",
        &spool));
    ck_ok(spool_sink_each(spool, note, &found));
    ck_assert_msg(strstr(found.names, "log:file ") && strstr(found.names, "hole:null "), "%s", found.names);
    struct spool_event event = SPOOL_EVENT(.type = "t", .body = "{}", .body_size = 2);
    ck_ok(spool_enqueue(spool, &event, NULL));
    ck_ok(spool_start(spool));
    ck_ok(spool_drain(spool, 60000));
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
    {"{\"spool\": {\"dir\": \"@/s\", \"compress\": \"lzw\"}}", SPOOL_ECONFIG, "lzw"},
    {"{\"spool\": {\"dir\": \"@/s\", \"journal_bytes\": \"9GiB\"}}", SPOOL_ECONFIG, "journal_bytes"},
    {"{\"spool\": {\"dir\": \"@/s\", \"max_bytes\": \"1MiB\"}}", SPOOL_EOPTION, "max_bytes"},
    {"{\"spool\": {\"dir\": \"@/s\", \"full\": {\"lowest\": \"block\"}}}", SPOOL_ECONFIG, "lowest"},
    {"{\"spool\": {\"dir\": \"@/s\", \"full\": {\"low\": \"explode\"}}}", SPOOL_ECONFIG, "explode"},
    {"{\"spool\": {\"dir\": \"@/s\", \"mode\": \"0888\"}}", SPOOL_ECONFIG, "mode"},
    {"{\"spool\": {\"dir\": \"@/s\", \"workers\": 1000}}", SPOOL_EOPTION, "workers"},
    {"{\"spool\": {\"dir\": \"@/s\"}, \"sinks\": {}}", SPOOL_ECONFIG, "sinks"},
    {"{\"spool\": {\"dir\": \"@/s\"}, \"sinks\": [{\"kind\": \"null\"}]}", SPOOL_ECONFIG, "name"},
    {"{\"spool\": {\"dir\": \"@/s\"}, \"sinks\": [{\"name\": \"x\"}]}", SPOOL_ECONFIG, "kind"},
    {"{\"spool\": {\"dir\": \"@/s\"}, \"sinks\": [{\"name\": \"x\", \"kind\": \"carrier-pigeon\"}]}", SPOOL_ENOTFOUND,
     "pigeon"},
    {"{\"spool\": {\"dir\": \"@/s\"}, \"sinks\": [{\"name\": \"x/y\", \"kind\": \"null\"}]}", SPOOL_EINVAL, "x/y"},
    {"{\"spool\": {\"dir\": \"@/s\"}, \"sinks\": [{\"name\": \"x\", \"kind\": \"null\", \"order\": \"any\"}]}",
     SPOOL_ECONFIG, "any"},
    {"{\"spool\": {\"dir\": \"@/s\"}, \"sinks\": [{\"name\": \"x\", \"kind\": \"null\", \"retry\": {\"bass\": 1}}]}",
     SPOOL_ECONFIG, "bass"},
    {"{\"spool\": {\"dir\": \"@/s\"}, \"sinks\": [{\"name\": \"x\", \"kind\": \"null\", \"colour\": 1}]}",
     SPOOL_ECONFIG, "colour"},
    {"{\"spool\": {\"dir\": \"@/s\"}, \"sinks\": [{\"name\": \"x\", \"kind\": \"file\"}]}", SPOOL_ECONFIG, "path"},
    {"{\"spool\": 1}", SPOOL_ECONFIG, "object"},
    {"{\"spool\": {\"dir\": 1}}", SPOOL_ECONFIG, "dir"},
    {"{\"spool\": {\"dir\": \"@/s\", \"full\": 1}}", SPOOL_ECONFIG, "full"},
    {"{\"spool\": {\"dir\": \"@/s\", \"full\": {\"low\": 1}}}", SPOOL_ECONFIG, "low"},
    {"{\"spool\": {\"dir\": \"@/s\", \"durability\": 1}}", SPOOL_ECONFIG, "durability"},
    {"{\"spool\": {\"dir\": \"@/s\", \"retention\": true}}", SPOOL_ECONFIG, "100ms"},
    {"{\"spool\": {\"dir\": \"@/s\", \"max_bytes\": null}}", SPOOL_ECONFIG, "8GiB"},
    {"{\"spool\": {\"dir\": \"@/s\", \"workers\": \"2\"}}", SPOOL_ECONFIG, "workers"},
    {"{\"spool\": {\"dir\": \"@/s\", \"workers\": 4294967296}}", SPOOL_ECONFIG, "too large"},
    {"{\"spool\": {\"dir\": \"@/s\", \"mode\": 416}}", SPOOL_ECONFIG, "mode"},
    {"{\"spool\": {\"dir\": \"@/s\", \"mode\": \"\"}}", SPOOL_ECONFIG, "mode"},
    {"{\"spool\": {\"dir\": \"@/s\"}, \"sinks\": [1]}", SPOOL_ECONFIG, "sinks[0]"},
    {"{\"spool\": {\"dir\": \"@/s\"}, \"sinks\": [{\"name\": 1}]}", SPOOL_ECONFIG, "sinks[0].name"},
    {"{\"spool\": {\"dir\": \"@/s\"}, \"sinks\": [{\"name\": \"x\", \"kind\": 1}]}", SPOOL_ECONFIG, "sinks[0].kind"},
    {"{\"spool\": {\"dir\": \"@/s\"}, \"sinks\": [{\"name\": \"x\", \"retry\": 1}]}", SPOOL_ECONFIG, "sinks[0].retry"},
    {"{\"spool\": {\"dir\": \"@/s\"}, \"sinks\": [{\"name\": \"x\", \"retry\": {\"base\": \"soon\"}}]}", SPOOL_ECONFIG,
     "retry.base"},
    {"{\"spool\": {\"dir\": \"@/s\"}, \"sinks\": [{\"name\": \"x\", \"from_now\": 1}]}", SPOOL_ECONFIG, "from_now"},
    {"{\"spool\": {\"dir\": \"@/s\"}, \"sinks\": [{\"name\": \"x\", \"timeout\": -1}]}", SPOOL_ECONFIG, "timeout"},
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

/* Neither "wrong JSON" nor a value that is cut short: jansson says the one and does the other. */
START_TEST(no_memory_is_no_mistake)
{
    static const char text[] =
        "{\"path\": \"/a/path/that/is/longer/than/the/first/buffer\", \"n\": [1, 2, {\"x\": null}]}";
    json_error_t error; /* as if an older mistake stood in it */
    json_t *tree = NULL;
    int code;
    memset(&error, json_error_duplicate_key, sizeof error);
    fail_each(code, FAIL_MEMORY, json_tree(text, sizeof text - 1, &tree, &error))
    {
        ck_code(code, code ? ENOMEM : SPOOL_OK);
        if (code == SPOOL_OK)
            ck_assert_str_eq(json_string_value(json_object_get(tree, "path")),
                             "/a/path/that/is/longer/than/the/first/buffer");
        json_decref(tree);
        tree = NULL;
    }
    ck_ok(code);
    json_decref(tree);
}
END_TEST

/* Some of these are compared with the text, others with a second tree; the tree is the same either way, and with every
 * allocation that may fail it is that one or none. */
START_TEST(a_tree_is_what_stands_in_the_text)
{
    static const char *const texts[] = {
        "null",
        "true",
        "-1",
        "0",
        " [ ] ",
        "{}",
        "\"\"",
        "12.5e3",
        "999999999999999999",
        "1000000000000000000",
        "-9223372036854775808",
        "{\"a\": [1, -2, {\"b\": \"c\"}], \"d\" : false}",
        "[\"\\u00e9\\n\", \"\xc3\xa9\", \"x\\\\\"]",
        "[\"a string that is a good deal longer than the first buffer of the lexer, which has to grow for it\"]",
        "[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]",
        "{\"numbers\": [0.1, 1e1, 17, -0]}",
    };
    json_error_t error;
    json_t *tree = NULL, *expected = json_loads(texts[_i], JSON_DECODE_ANY, NULL);
    int code;
    ck_assert_ptr_nonnull(expected);
    fail_each(code, FAIL_MEMORY, json_tree(texts[_i], strlen(texts[_i]), &tree, &error))
    {
        ck_code(code, code ? ENOMEM : SPOOL_OK);
        ck_assert(code || json_equal(tree, expected));
        json_decref(tree);
        tree = NULL;
    }
    ck_ok(code);
    ck_assert(json_equal(tree, expected));
    json_decref(tree);
    json_decref(expected);
}
END_TEST

/* What jansson refuses and our scanner does not is wrong, and no lack of memory, which would be tried again for ever. */
START_TEST(what_jansson_alone_refuses)
{
    static const char *const wrong[] = {
        "\"\\ud800\"",     "[\"a\\udc00\"]", "\"\\ud83d\\u0041\"", "\"\\ud83dx\\ude00\"", "\"\\ude00\\ud83d\"",
        "\"\\\\\\ud800\"", "\"\\u0000\"",    "{\"a\":1,\"a\":2}",  "9223372036854775808", "1e999"};
    static const char *const good[] = {"\"\\ud83d\\ude00\"", "\"\\\\ud800\"",
                                       "\"\\u0041\\ud83d\\ude00\\ud83d\\ude00\""};
    json_error_t error;
    json_t *tree = NULL;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ck_assert_msg(json_tree(wrong[i], strlen(wrong[i]), &tree, &error) == SPOOL_EJSON, "%s", wrong[i]);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        ck_assert_msg(json_tree(good[i], strlen(good[i]), &tree, &error) == SPOOL_OK, "%s", good[i]);
        json_decref(tree);
    }
}
END_TEST

static void count_delivery(void *user, const struct spool_receipt *receipt)
{
    (void)receipt;
    ++*(atomic_int *)user;
}

/* What no file can name comes along with it, and nothing else: the file has the word. */
START_TEST(callbacks_beside_a_file)
{
    struct spool *spool = NULL;
    atomic_int heard = 0;
    struct spool_event event = SPOOL_EVENT(.type = "t");
    struct spool_options given =
        SPOOL_OPTIONS(.on_delivery = count_delivery, .delivery_user = &heard, .max_bytes = 1, .workers = 99);
    ck_ok(open_text("{\"spool\": {\"dir\": \"@/s\"}, \"sinks\": [{\"name\": \"hole\", \"kind\": \"null\"}]}", &spool));
    ck_ok(spool_close(spool));
    ck_ok(spool_open_config_with(file, &given, &spool));
    ck_ok(spool_start(spool));
    ck_ok(spool_enqueue(spool, &event, NULL));
    ck_ok(spool_drain(spool, 60000));
    for (int i = 0; i < 6000 && heard == 0; i++)
        usleep(10000);
    ck_assert_int_eq(heard, 1);
    ck_ok(spool_close(spool));
    given.size = sizeof given + 8; /* of a library to come, with something in it that this one does not know */
    struct {
        struct spool_options options;
        uint64_t more;
    } later = {given, 1};
    ck_code(spool_open_config_with(file, &later.options, &spool), SPOOL_EOPTION);
}
END_TEST

static int open_and_close(void)
{
    struct spool *spool = NULL;
    int code = spool_open_config(file, &spool);
    return code ? code : spool_close(spool);
}

/* What cannot be read is named, and is neither a mistake in the file nor a spool without its sinks. */
START_TEST(a_file_that_cannot_be_read)
{
    static const enum fail_class of_file[] = {FAIL_MEMORY, FAIL_OPEN};
    enum { READING = 60 }; /* calls until the spool is opened, more or less */
    struct spool *spool = NULL;
    struct found found = {{0}};
    ck_ok(open_text("{\"spool\": {\"dir\": \"@/s\", \"full\": {\"low\": \"reject\"}}, \"sinks\":"
                    " [{\"name\": \"hole\", \"kind\": \"null\", \"retry\": {\"base\": 5}, \"order\": \"lane\"}]}",
                    &spool));
    ck_ok(spool_close(spool));
    for (unsigned i = 0; i < 2; i++) {
        for (unsigned n = 1; n < READING; n++) {
            fail_arm(of_file[i], n);
            int code = open_and_close();
            bool failed = fail_disarm();
            ck_assert(failed || code == SPOOL_OK);
            if (code)
                ck_documented(code);
            ck_assert_msg(code != SPOOL_EJSON && code != SPOOL_ECONFIG, "call %u: %s", n, spool_last_error());
            ck_assert_msg(!code || strstr(spool_last_error(), "spool"), "call %u: %s", n, spool_last_error());
        }
    }
    ck_code(spool_open_config(dir, &spool), EISDIR); /* opens, and cannot be read */
    ck_assert_ptr_nonnull(strstr(spool_last_error(), dir));
    ck_ok(spool_open_config(file, &spool));
    ck_ok(spool_sink_each(spool, note, &found));
    ck_assert_str_eq(found.names, "hole:null ");
    ck_ok(spool_close(spool));
}
END_TEST

/* The last calls are those that add the sinks. */
START_TEST(a_sink_that_finds_no_memory)
{
    struct spool *spool = NULL;
    struct found found = {{0}};
    ck_ok(open_text(
        "{\"spool\": {\"dir\": \"@/s\"}, \"sinks\": [{\"name\": \"log\", \"kind\": \"file\", \"path\": \"@/o\"}]}",
        &spool));
    struct spool *same;
    fail_arm(FAIL_MEMORY, UINT32_MAX);
    int code = spool_open_config(file, &same); /* is open: only the configuration's own calls */
    fail_disarm();
    ck_code(code, SPOOL_EEXISTS);
    for (unsigned n = 1, all = fail_nth.calls; n <= all; n++) {
        fail_arm(FAIL_MEMORY, n);
        code = spool_open_config(file, &same);
        fail_disarm();
        ck_documented(code);
        ck_assert_msg(code == SPOOL_EEXISTS || code == ENOMEM, "call %u: %s", n, spool_last_error());
    }
    ck_ok(spool_sink_each(spool, note, &found));
    ck_assert_str_eq(found.names, "log:file ");
    ck_ok(spool_close(spool));
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("config");
    TCase *tcase = tcase_create("config");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, a_whole_configuration);
    tcase_add_loop_test(tcase, a_mistake_is_named, 0, sizeof mistakes / sizeof *mistakes);
    tcase_add_test(tcase, a_missing_file);
    tcase_add_test(tcase, no_memory_is_no_mistake);
    tcase_add_test(tcase, what_jansson_alone_refuses);
    tcase_add_loop_test(tcase, a_tree_is_what_stands_in_the_text, 0, 16);
    tcase_add_test(tcase, callbacks_beside_a_file);
    tcase_add_test(tcase, a_file_that_cannot_be_read);
    tcase_add_test(tcase, a_sink_that_finds_no_memory);
    suite_add_tcase(suite, tcase);
    return suite;
}

CHECK_MAIN(suite)
