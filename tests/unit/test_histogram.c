/* test_histogram.c - the promised error, counts that are exact at powers of two, and packing. */
#include "../../lib/base/bytes.h"
#include "../../lib/base/histogram.h"
#include "../check_main.h"

static struct histogram h;

static void check_error(uint64_t value)
{
    memset(&h, 0, sizeof h);
    histogram_add(&h, value, 1);
    histogram_add(&h, UINT64_MAX, 1); /* so that the maximum does not help */
    uint64_t got = histogram_quantile(&h, 0.5);
    double off = (double)(got > value ? got - value : value - got);
    ck_assert_msg(off <= (double)value / 16, "%llu is told as %llu", (unsigned long long)value,
                  (unsigned long long)got);
}

START_TEST(the_error_is_at_most_a_sixteenth)
{
    for (uint64_t value = 0; value < 5000; value++)
        check_error(value);
    for (unsigned bit = 12; bit < 64; bit++)
        for (int step = -1; step <= 1; step++)
            check_error((1ull << bit) + (uint64_t)(int64_t)step);
    uint64_t value = test_seed(20261126);
    for (int i = 0; i < 100000; i++) {
        value = value * 6364136223846793005ull + 1442695040888963407ull;
        check_error(value >> (i % 64));
    }
}
END_TEST

START_TEST(every_value_has_one_bucket_and_they_ascend)
{
    unsigned last = 0;
    for (uint64_t value = 0; value < 100000; value++) {
        unsigned bucket = histogram_bucket(value);
        ck_assert_uint_ge(bucket, last);
        ck_assert_uint_le(bucket, last + 1);
        last = bucket;
    }
    ck_assert_uint_lt(histogram_bucket(UINT64_MAX), HISTOGRAM_BUCKETS);
}
END_TEST

START_TEST(counts_below_powers_of_two_are_exact)
{
    memset(&h, 0, sizeof h);
    for (uint64_t value = 0; value < 5000; value++)
        histogram_add(&h, value, 2);
    for (unsigned bit = 0; bit < 12; bit++)
        ck_assert_uint_eq(histogram_below(&h, 1ull << bit), 2ull << bit);
    ck_assert_uint_eq(histogram_below(&h, 1ull << 40), 10000);
    ck_assert_uint_eq(h.count, 10000);
    ck_assert_uint_eq(h.sum, 5000 * 4999);
}
END_TEST

START_TEST(quantiles)
{
    memset(&h, 0, sizeof h);
    ck_assert_uint_eq(histogram_quantile(&h, 0.99), 0);
    for (uint64_t value = 1; value <= 1000; value++)
        histogram_add(&h, value, 1);
    for (int i = 1; i <= 9; i++) {
        uint64_t got = histogram_quantile(&h, i / 10.0), want = (uint64_t)i * 100;
        ck_assert_uint_ge(got, want - want / 8);
        ck_assert_uint_le(got, want + want / 8);
    }
    ck_assert_uint_le(histogram_quantile(&h, 1), 1000);
    ck_assert_uint_ge(histogram_quantile(&h, 1), 960);
    ck_assert_uint_eq(histogram_quantile(&h, 0), 1);
}
END_TEST

START_TEST(packed_and_merged)
{
    static uint8_t bytes[HISTOGRAM_BUCKETS * 10 + 26];
    struct histogram back, twice = {0};
    memset(&h, 0, sizeof h);
    for (uint64_t value = 1; value; value <<= 3)
        histogram_add(&h, value, value % 7 + 1);
    size_t size = histogram_pack(&h, bytes, sizeof bytes);
    ck_assert_uint_gt(size, 0);
    ck_assert_uint_eq(histogram_unpack(bytes, size, &back), size);
    ck_assert_mem_eq(&h, &back, sizeof h);
    for (size_t room = 0; room < size; room++) {
        ck_assert_uint_eq(histogram_unpack(bytes, room, &back), 0);
        static uint8_t short_of[sizeof bytes];
        ck_assert_uint_eq(histogram_pack(&h, short_of, room), 0);
    }
    put_u16(bytes + 26, HISTOGRAM_BUCKETS); /* no such bucket */
    ck_assert_uint_eq(histogram_unpack(bytes, size, &back), 0);
    histogram_merge(&twice, &h);
    histogram_merge(&twice, &h);
    ck_assert_uint_eq(twice.count, 2 * h.count);
    ck_assert_uint_eq(twice.max, h.max);
    ck_assert_uint_eq(histogram_quantile(&twice, 0.5), histogram_quantile(&h, 0.5));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("histogram");
    TCase *t = tcase_create("histogram");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, the_error_is_at_most_a_sixteenth);
    tcase_add_test(t, every_value_has_one_bucket_and_they_ascend);
    tcase_add_test(t, counts_below_powers_of_two_are_exact);
    tcase_add_test(t, quantiles);
    tcase_add_test(t, packed_and_merged);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
