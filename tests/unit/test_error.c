/* test_error.c - codes have names and texts, messages are one line of at most 511 bytes, and each thread has its own.
 */
#include "../check_main.h"

#include <pthread.h>

START_TEST(test_every_code_has_name_and_text)
{
    int seen = 0;
#define CHECK_ONE(name, code, text)                                                                                    \
    ck_assert_str_eq(spool_error_name(code), "SPOOL_" #name);                                                          \
    ck_assert_str_eq(spool_strerror(code), text);                                                                      \
    ck_assert_int_eq(code, --seen); /* no two are equal, none is left out */
    SPOOL_ERRORS(CHECK_ONE)
    ck_assert_str_eq(spool_error_name(SPOOL_OK), "SPOOL_OK");
    ck_assert_str_eq(spool_strerror(SPOOL_OK), "no error");
}
END_TEST

START_TEST(test_errno_values)
{
    ck_assert_str_eq(spool_strerror(ENOSPC), "No space left on device");
    ck_assert_str_eq(spool_error_name(ENOSPC), "ENOSPC");
}
END_TEST

START_TEST(test_unknown_codes)
{
    ck_assert_str_eq(spool_error_name(-9999), "unknown");
    ck_assert_str_eq(spool_error_name(99999), "unknown");
    ck_assert_str_eq(spool_strerror(-9999), "unknown error");
    ck_assert_ptr_nonnull(spool_strerror(99999));
}
END_TEST

START_TEST(test_messages)
{
    ck_assert_int_eq(err_set(SPOOL_EFULL, "lane %s", "high"), SPOOL_EFULL);
    ck_assert_str_eq(spool_last_error(), "lane high");
    ck_assert_int_eq(err_prefix(SPOOL_EFULL, "sink %d", 7), SPOOL_EFULL);
    ck_assert_str_eq(spool_last_error(), "sink 7: lane high");
    ck_assert_int_eq(err_errno(ENOENT, "a/%s", "b"), ENOENT);
    ck_assert_str_eq(err_last(), "a/b: No such file or directory");
}
END_TEST

START_TEST(test_the_old_message_may_be_an_argument)
{
    err_set(SPOOL_EINVAL, "inner");
    err_set(SPOOL_EINVAL, "outer (%s)", spool_last_error());
    ck_assert_str_eq(spool_last_error(), "outer (inner)");
    err_prefix(SPOOL_EINVAL, "[%s]", spool_last_error());
    ck_assert_str_eq(spool_last_error(), "[outer (inner)]: outer (inner)");
}
END_TEST

START_TEST(test_one_line)
{
    err_set(SPOOL_EINVAL, "a\nb\tc\x7f"
                          "d\x1b");
    ck_assert_str_eq(spool_last_error(), "a b c d ");
}
END_TEST

START_TEST(test_long_messages_are_cut_between_characters)
{
    char text[1024];
    for (size_t lead = 0; lead < 4; lead++) {
        memset(text, 'x', lead);
        for (size_t i = lead; i + 3 < sizeof text; i += 3)
            memcpy(text + i, "\xe2\x82\xac", 4);
        err_set(SPOOL_EINVAL, "%s", text);
        size_t size = strlen(spool_last_error());
        ck_assert_uint_le(size, 511);
        ck_assert_uint_ge(size, 509);
        ck_assert_uint_eq((size - lead) % 3, 0);
    }
    err_prefix(SPOOL_EINVAL, "%s", text); /* both too long */
    ck_assert_uint_le(strlen(spool_last_error()), 511);
    memset(text, 0x80, 600), text[600] = 0; /* no text at all: cut anywhere */
    err_set(SPOOL_EINVAL, "%s", text);
    ck_assert_uint_eq(strlen(spool_last_error()), 511);
    memset(text, 'x', 600), text[600] = 0;
    err_errno(EIO, "%s", text);
    ck_assert_uint_eq(strlen(spool_last_error()), 511);
}
END_TEST

static void *other_thread(void *arg)
{
    *(size_t *)arg = strlen(spool_last_error());
    err_set(SPOOL_EINVAL, "from the other thread");
    return NULL;
}

START_TEST(test_each_thread_has_its_own)
{
    pthread_t thread;
    size_t length = 99;
    err_set(SPOOL_EINVAL, "mine");
    ck_assert_int_eq(pthread_create(&thread, NULL, other_thread, &length), 0);
    pthread_join(thread, NULL);
    ck_assert_uint_eq(length, 0);
    ck_assert_str_eq(spool_last_error(), "mine");
}
END_TEST

START_TEST(test_version)
{
    char want[32];
    snprintf(want, sizeof want, "%d.%d.%d", SPOOL_VERSION_MAJOR, SPOOL_VERSION_MINOR, SPOOL_VERSION_PATCH);
    ck_assert_str_eq(spool_version(), want);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("error");
    TCase *t = tcase_create("error");
    tcase_add_test(t, test_every_code_has_name_and_text);
    tcase_add_test(t, test_errno_values);
    tcase_add_test(t, test_unknown_codes);
    tcase_add_test(t, test_messages);
    tcase_add_test(t, test_the_old_message_may_be_an_argument);
    tcase_add_test(t, test_one_line);
    tcase_add_test(t, test_long_messages_are_cut_between_characters);
    tcase_add_test(t, test_each_thread_has_its_own);
    tcase_add_test(t, test_version);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
