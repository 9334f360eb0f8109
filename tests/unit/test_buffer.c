/* test_buffer.c - a growable array of bytes. */
#include <wchar.h>

#include "../check_main.h"
#include "fail_nth.h"

#include "../../lib/base/buffer.h"

START_TEST(test_grows)
{
    struct buffer b = {0};
    for (int i = 0; i < 10000; i++) {
        uint8_t byte = (uint8_t)i;
        ck_ok(buffer_put(&b, &byte, 1));
    }
    ck_assert_uint_eq(b.size, 10000);
    ck_assert_uint_ge(b.cap, b.size);
    for (int i = 0; i < 10000; i++)
        ck_assert_uint_eq(b.data[i], (uint8_t)i);
    buffer_free(&b);
    ck_assert(!b.data && !b.size && !b.cap);
}
END_TEST

START_TEST(test_nothing)
{
    struct buffer b = {0};
    ck_ok(buffer_put(&b, NULL, 0));
    ck_ok(buffer_put_text(&b, ""));
    ck_ok(buffer_reserve(&b, 0));
    ck_assert_ptr_null(b.data);
    buffer_free(&b);
    buffer_free(NULL);
}
END_TEST

START_TEST(test_text_and_printf)
{
    struct buffer b = {0};
    ck_ok(buffer_put_text(&b, "a"));
    ck_ok(buffer_printf(&b, "%d-%s", 42, "x"));
    ck_ok(buffer_printf(&b, "%s", ""));
    ck_assert_uint_eq(b.size, 5);
    ck_assert_mem_eq(b.data, "a42-x", 5);
    char *big = malloc(100001);
    memset(big, 'y', 100000), big[100000] = 0;
    ck_ok(buffer_printf(&b, "%s", big));
    ck_assert_uint_eq(b.size, 100005);
    ck_assert_mem_eq(b.data + 5, big, 100000);
    free(big);
    buffer_free(&b);
}
END_TEST

/* Whatever room is left: none, less than the text, the text without the NUL that vsnprintf() writes behind it, more. */
START_TEST(test_printf_into_any_room)
{
    for (size_t before = 0; before <= 300; before++) {
        struct buffer b = {0};
        for (size_t i = 0; i < before; i++)
            ck_ok(buffer_put(&b, "z", 1));
        ck_ok(buffer_printf(&b, "%s-%d", "0123456789", 77));
        ck_assert_uint_eq(b.size, before + 13);
        ck_assert_mem_eq(b.data + before, "0123456789-77", 13);
        ck_assert_uint_ge(b.cap, b.size);
        for (size_t i = 0; i < before; i++)
            ck_assert_uint_eq(b.data[i], 'z');
        buffer_free(&b);
    }
}
END_TEST

START_TEST(test_reserve_keeps_the_room)
{
    struct buffer b = {0};
    ck_ok(buffer_put_text(&b, "abc"));
    ck_ok(buffer_reserve(&b, 5000));
    uint8_t *data = b.data;
    ck_assert_uint_ge(b.cap - b.size, 5000);
    for (int i = 0; i < 1000; i++)
        ck_ok(buffer_put_text(&b, "12345"));
    ck_assert_ptr_eq(b.data, data);
    ck_assert_mem_eq(b.data, "abc", 3);
    buffer_free(&b);
}
END_TEST

START_TEST(test_too_much)
{
    struct buffer b = {0};
    ck_ok(buffer_put_text(&b, "abc"));
    ck_code(buffer_reserve(&b, SIZE_MAX), ENOMEM);
    ck_code(buffer_reserve(&b, SIZE_MAX / 2), ENOMEM);
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "out of memory"));
    ck_assert_uint_eq(b.size, 3);
    ck_assert_mem_eq(b.data, "abc", 3);
    buffer_free(&b);
}
END_TEST

START_TEST(test_no_memory_keeps_what_there_is)
{
    struct buffer b = {0};
    int rc;
    fail_each(rc, FAIL_MEMORY, buffer_put_text(&b, "abc"))
    {
        ck_documented(rc);
        ck_assert_uint_eq(b.size, 0);
    }
    ck_ok(rc);
    fail_each(rc, FAIL_MEMORY, buffer_printf(&b, "%300d", 7))
    {
        ck_code(rc, ENOMEM);
        ck_assert_uint_eq(b.size, 3);
    }
    ck_ok(rc);
    ck_assert_uint_eq(b.size, 303);
    ck_assert_mem_eq(b.data, "abc ", 4);
    buffer_free(&b);
}
END_TEST

START_TEST(test_format_that_cannot_be_rendered)
{
    struct buffer b = {0};
    ck_code(buffer_printf(&b, "a%lc", (wint_t)0x7fffffff), SPOOL_EINTERNAL); /* no character */
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "a%lc"));
    ck_assert_uint_eq(b.size, 0);
    buffer_free(&b);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("buffer");
    TCase *t = tcase_create("buffer");
    tcase_add_test(t, test_grows);
    tcase_add_test(t, test_nothing);
    tcase_add_test(t, test_text_and_printf);
    tcase_add_test(t, test_printf_into_any_room);
    tcase_add_test(t, test_reserve_keeps_the_room);
    tcase_add_test(t, test_too_much);
    tcase_add_test(t, test_no_memory_keeps_what_there_is);
    tcase_add_test(t, test_format_that_cannot_be_rendered);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
