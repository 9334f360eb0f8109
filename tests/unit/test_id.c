/* test_id.c - ids: layout, text form, time, order. */
#include "../check_main.h"

#include "../../lib/base/id.h"

START_TEST(test_layout)
{
    static const uint8_t want[16] = {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0x7c, 0xde,
                                     0xa3, 0x45, 0xa1, 0xb2, 0xc3, 0xd4, 0xe5, 0xf6};
    struct spool_id id;
    id_make((struct hlc_stamp){0x0123456789abcde, 0x2345}, 0xa1b2c3d4e5f6, &id);
    ck_assert_mem_eq(id.bytes, want, sizeof want);
    ck_assert(id_is_valid(&id));
    struct hlc_stamp stamp = id_stamp(&id);
    ck_assert_uint_eq(stamp.ticks, 0x0123456789abcde);
    ck_assert_uint_eq(stamp.counter, 0x2345);
    ck_assert_uint_eq(id_node(&id), 0xa1b2c3d4e5f6);
}
END_TEST

START_TEST(test_values_are_masked)
{
    struct spool_id id;
    id_make((struct hlc_stamp){UINT64_MAX, UINT16_MAX}, UINT64_MAX, &id);
    ck_assert(id_is_valid(&id));
    ck_assert_uint_eq(id_stamp(&id).ticks, (1ull << 60) - 1);
    ck_assert_uint_eq(id_stamp(&id).counter, (1u << 14) - 1);
    ck_assert_uint_eq(id_node(&id), (1ull << 48) - 1);
}
END_TEST

START_TEST(test_text)
{
    struct spool_id id, back;
    char text[SPOOL_ID_TEXT_SIZE];
    id_make((struct hlc_stamp){0x0123456789abcde, 0x2345}, 0xa1b2c3d4e5f6, &id);
    ck_assert_ptr_eq(spool_id_format(&id, text), text);
    ck_assert_str_eq(text, "01234567-89ab-7cde-a345-a1b2c3d4e5f6");
    ck_ok(spool_id_parse(text, &back));
    ck_assert_mem_eq(&id, &back, sizeof id);
    ck_ok(spool_id_parse("01234567-89AB-7CDE-A345-A1B2C3D4E5F6", &back));
    ck_assert_mem_eq(&id, &back, sizeof id);
}
END_TEST

START_TEST(test_bad_text)
{
    static const char *const bad[] = {
        "",
        "0",
        "01234567-89ab-7cde-a345-a1b2c3d4e5f",
        "01234567-89ab-7cde-a345-a1b2c3d4e5f6 ",
        "01234567-89ab-7cde-a345-a1b2c3d4e5f67",
        "0123456789ab7cdea345a1b2c3d4e5f6",
        "01234567-89ab-7cde-a345_a1b2c3d4e5f6",
        "01234567-89ab-7cde-a345-a1b2c3d4e5g6",
        "{1234567-89ab-7cde-a345-a1b2c3d4e5f6",
        "01234567-89ab-4cde-a345-a1b2c3d4e5f6", /* version 4 */
        "01234567-89ab-7cde-c345-a1b2c3d4e5f6", /* another variant */
        "00000000-0000-0000-0000-000000000000",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct spool_id id, before;
        memset(&id, 0x5a, sizeof id);
        before = id;
        ck_code(spool_id_parse(bad[i], &id), SPOOL_EID);
        ck_assert_mem_eq(&id, &before, sizeof id); /* no output on failure */
    }
    struct spool_id id;
    ck_code(spool_id_parse(NULL, &id), SPOOL_EINVAL);
    ck_code(spool_id_parse(bad[0], NULL), SPOOL_EINVAL);
}
END_TEST

/* A text without its end in sight must not be read beyond its NUL. */
START_TEST(test_every_prefix)
{
    const char *text = "01234567-89ab-7cde-a345-a1b2c3d4e5f6";
    for (size_t n = 0; n < 36; n++) {
        char *cut = strndup(text, n);
        struct spool_id id;
        ck_code(spool_id_parse(cut, &id), SPOOL_EID);
        free(cut);
    }
}
END_TEST

START_TEST(test_time)
{
    static const uint64_t times[] = {0, 1, 244, 245, 999999, 1000000, 1795253655123456789ull, UINT64_MAX};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        uint64_t ticks = ticks_from_ns(times[i]), back = ticks_to_ns(ticks);
        ck_assert_uint_eq(ticks, (uint64_t)((unsigned __int128)times[i] * 4096 / 1000000));
        ck_assert_uint_eq(ticks_from_ns(back), ticks);
        ck_assert(back <= times[i] ? times[i] - back < 245 : back - times[i] < 1);
    }
}
END_TEST

START_TEST(test_every_tick_of_a_millisecond_survives)
{
    for (uint64_t base = 0; base < 1ull << 52; base += (1ull << 52) / 7) {
        for (uint64_t t = base; t < base + 4096; t++)
            ck_assert_uint_eq(ticks_from_ns(ticks_to_ns(t)), t);
    }
}
END_TEST

START_TEST(test_time_of_an_id)
{
    struct spool_id id;
    id_min_at_ns(1795253655123456789ull, &id);
    uint64_t ns = spool_id_time_ns(&id);
    ck_assert_uint_le(ns, 1795253655123456789ull);
    ck_assert_uint_gt(ns + 245, 1795253655123456789ull);
    id_make((struct hlc_stamp){UINT64_MAX, 0}, 0, &id); /* the year 10889 */
    ck_assert_uint_eq(spool_id_time_ns(&id), UINT64_MAX);
}
END_TEST

START_TEST(test_order)
{
    struct spool_id ids[6];
    id_make((struct hlc_stamp){4095, 0x3fff}, 1, &ids[0]);
    id_make((struct hlc_stamp){4096, 0}, 0, &ids[1]); /* the next millisecond */
    id_make((struct hlc_stamp){4096, 0}, 1, &ids[2]);
    id_make((struct hlc_stamp){4096, 1}, 0, &ids[3]);
    id_make((struct hlc_stamp){4097, 0}, 0, &ids[4]);
    id_make((struct hlc_stamp){1ull << 59, 0}, 0, &ids[5]);
    for (int i = 0; i < 6; i++) {
        for (int k = 0; k < 6; k++) {
            int order = spool_id_compare(&ids[i], &ids[k]);
            ck_assert_int_eq((order > 0) - (order < 0), (i > k) - (i < k));
            int stamps = id_stamp_compare(id_stamp(&ids[i]), id_stamp(&ids[k]));
            ck_assert(stamps == (i > k) - (i < k) || (stamps == 0 && i + k == 3)); /* 1 and 2 differ in the node only */
        }
    }
}
END_TEST

START_TEST(test_range_of_a_time)
{
    struct spool_id low, high, inside;
    uint64_t ns = 1795253655123456789ull;
    id_min_at_ns(ns, &low);
    id_max_at_ns(ns, &high);
    id_make((struct hlc_stamp){ticks_from_ns(ns), 77}, 0x123456, &inside);
    ck_assert(spool_id_compare(&low, &inside) < 0 && spool_id_compare(&inside, &high) < 0);
    id_min_at_ns(ns + 245, &inside);
    ck_assert(spool_id_compare(&high, &inside) < 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("id");
    TCase *t = tcase_create("id");
    tcase_add_test(t, test_layout);
    tcase_add_test(t, test_values_are_masked);
    tcase_add_test(t, test_text);
    tcase_add_test(t, test_bad_text);
    tcase_add_test(t, test_every_prefix);
    tcase_add_test(t, test_time);
    tcase_add_test(t, test_every_tick_of_a_millisecond_survives);
    tcase_add_test(t, test_time_of_an_id);
    tcase_add_test(t, test_order);
    tcase_add_test(t, test_range_of_a_time);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
