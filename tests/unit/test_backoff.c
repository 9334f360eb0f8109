/* test_backoff.c - the ceiling doubles up to the cap, draws fill the whole of it, a seed repeats them. */
#include "../../delivery/backoff.h"
#include "../../lib/base/sync.h"
#include "../check_main.h"

START_TEST(ceiling_doubles_up_to_the_cap)
{
    static const uint64_t want[] = {100, 100, 200, 400, 800, 1000, 1000};
    for (uint32_t i = 0; i < sizeof want / sizeof *want; i++)
        ck_assert_uint_eq(backoff_ceiling_ms(i, 100, 1000), want[i]);
    ck_assert_uint_eq(backoff_ceiling_ms(33, 1, UINT32_MAX), UINT32_MAX);
    ck_assert_uint_eq(backoff_ceiling_ms(UINT32_MAX, 100, 300000), 300000);
    ck_assert_uint_eq(backoff_ceiling_ms(50, 0, 1000), 0);
}
END_TEST

START_TEST(draws_fill_the_whole_range)
{
    struct jitter jitter;
    jitter_init(&jitter, test_seed(7));
    unsigned tenths[10] = {0};
    for (int i = 0; i < 10000; i++) {
        uint64_t wait = backoff_draw_ns(&jitter, 1, 100, 100);
        ck_assert_uint_le(wait, 100 * NS_PER_MS);
        tenths[wait == 100 * NS_PER_MS ? 9 : wait / (10 * NS_PER_MS)]++;
    }
    for (int i = 0; i < 10; i++) /* 1000 expected; ten standard deviations are 300 */
        ck_assert_msg(tenths[i] > 700 && tenths[i] < 1300, "tenth %d was drawn %u times", i, tenths[i]);
}
END_TEST

START_TEST(a_seed_repeats)
{
    struct jitter a, b, c;
    jitter_init(&a, 42);
    jitter_init(&b, 42);
    jitter_init(&c, 43);
    unsigned different = 0;
    for (int i = 0; i < 100; i++) {
        uint64_t drawn = backoff_draw_ns(&a, 5, 100, 300000);
        ck_assert_uint_eq(drawn, backoff_draw_ns(&b, 5, 100, 300000));
        different += drawn != backoff_draw_ns(&c, 5, 100, 300000);
    }
    ck_assert_uint_gt(different, 90);
    ck_assert_uint_eq(backoff_draw_ns(&a, 1, 0, 0), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("backoff");
    TCase *tc = tcase_create("backoff");
    tcase_add_test(tc, ceiling_doubles_up_to_the_cap);
    tcase_add_test(tc, draws_fill_the_whole_range);
    tcase_add_test(tc, a_seed_repeats);
    suite_add_tcase(s, tc);
    return s;
}

CHECK_MAIN(suite)
