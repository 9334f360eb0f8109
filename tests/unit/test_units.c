/* test_units.c - sizes and durations: every unit, and everything that must be refused. */
#include "../../lib/base/units.h"
#include "../check_main.h"

START_TEST(bytes)
{
    static const struct {
        const char *text;
        uint64_t want;
    } good[] = {{"0", 0},
                {"512", 512},
                {"7B", 7},
                {"1kB", 1000},
                {"64KiB", 65536},
                {"100MiB", 100ull << 20},
                {"8GiB", 8ull << 30},
                {"2TB", 2000000000000},
                {"18446744073709551615", UINT64_MAX}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        uint64_t got = 1;
        ck_ok(units_parse_bytes(good[i].text, &got));
        ck_assert_uint_eq(got, good[i].want);
    }
}
END_TEST

START_TEST(durations)
{
    static const struct {
        const char *text;
        uint64_t want;
    } good[] = {{"0", 0}, {"100ms", 100}, {"5s", 5000}, {"10m", 600000}, {"1h", 3600000}, {"7d", 604800000}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        uint64_t got = 1;
        ck_ok(units_parse_duration_ms(good[i].text, &got));
        ck_assert_uint_eq(got, good[i].want);
    }
}
END_TEST

START_TEST(refused)
{
    static const char *const bad[] = {"",
                                      " 1",
                                      "1 ",
                                      "-1",
                                      "+1",
                                      "1.5s",
                                      "1.5GiB",
                                      "GiB",
                                      "1gib",
                                      "1KIB",
                                      "1 MiB",
                                      "1ms5",
                                      "0x1",
                                      "1sec",
                                      "99999999999999999999",
                                      "18446744073709551616",
                                      "20000000TiB",
                                      "1e3",
                                      "k"};
    uint64_t got = 42;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_code(units_parse_bytes(bad[i], &got), SPOOL_EINVAL);
        ck_code(units_parse_duration_ms(bad[i], &got), SPOOL_EINVAL);
    }
    ck_code(units_parse_bytes(NULL, &got), SPOOL_EINVAL);
    ck_code(units_parse_duration_ms(NULL, &got), SPOOL_EINVAL);
    ck_code(units_parse_duration_ms("100", &got), SPOOL_EINVAL);
    ck_code(units_parse_duration_ms("213503982335d", &got), SPOOL_EINVAL);
    ck_assert_uint_eq(got, 42);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("units");
    TCase *tc = tcase_create("units");
    tcase_add_test(tc, bytes);
    tcase_add_test(tc, durations);
    tcase_add_test(tc, refused);
    suite_add_tcase(s, tc);
    return s;
}

CHECK_MAIN(suite)
