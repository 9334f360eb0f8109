/* test_type_counts.c - figures by type stay within their bounds, and are read as they were published. */
#include "../../delivery/type_counts.h"
#include "../check_main.h"

static struct type_counts counts;

/* "t0", "t1"… */
static uint32_t row_of(unsigned number)
{
    char name[16];
    snprintf(name, sizeof name, "t%u", number);
    return type_counts_row(&counts, name);
}

static void fill(unsigned types)
{
    memset(&counts, 0, sizeof counts);
    for (unsigned i = 0; i < types; i++)
        for (unsigned k = 0; k < TYPE_COUNTERS; k++)
            counts.events[row_of(i)][k] += 1000 * (uint64_t)i + k + 1;
}

START_TEST(the_first_types_have_a_row_each)
{
    fill(TYPES_MAX);
    for (unsigned i = 0; i < TYPES_MAX; i++) {
        ck_assert_uint_eq(row_of(i), i);
        ck_assert_uint_eq(counts.events[i][1], 1000 * (uint64_t)i + 2);
    }
    ck_assert_uint_eq(row_of(TYPES_MAX), TYPES_MAX);
    ck_assert_uint_eq(row_of(1000000), TYPES_MAX);
    ck_assert_uint_eq(counts.count, TYPES_MAX);
    ck_assert_uint_eq(row_of(5), 5);
}
END_TEST

START_TEST(long_names_and_the_name_of_the_rest_have_none)
{
    char name[TYPE_NAME_MAX + 2];
    memset(&counts, 0, sizeof counts);
    memset(name, 'x', sizeof name);
    name[TYPE_NAME_MAX + 1] = 0;
    ck_assert_uint_eq(type_counts_row(&counts, name), TYPES_MAX);
    ck_assert_uint_eq(type_counts_row(&counts, "other"), TYPES_MAX);
    name[TYPE_NAME_MAX] = 0;
    ck_assert_uint_eq(type_counts_row(&counts, name), 0);
    ck_assert_str_eq(counts.names[0], name);
}
END_TEST

START_TEST(published_and_read_again)
{
    static const unsigned numbers[] = {0, 1, 7, TYPES_MAX, TYPES_MAX + 20};
    static uint8_t bytes[8192];
    static struct type_counts got;
    fill(numbers[_i]);
    size_t size = type_counts_pack(&counts, bytes, sizeof bytes);
    ck_assert_uint_gt(size, 0);
    ck_assert_uint_eq(type_counts_pack(&counts, bytes, size), size);
    ck_assert_uint_eq(type_counts_pack(&counts, bytes, size - 1), 0);
    memset(&got, 7, sizeof got);
    struct type_counts before = got;
    for (size_t cut = 0; cut < size; cut++) /* what is cut off is not whole, and nothing is taken of it */
        ck_assert_uint_eq(type_counts_unpack(bytes, cut, &got), 0);
    ck_assert_int_eq(memcmp(&got, &before, sizeof got), 0);
    ck_assert_uint_eq(type_counts_unpack(bytes, size, &got), size);
    ck_assert_int_eq(memcmp(&got, &counts, sizeof got), 0);
}
END_TEST

START_TEST(nonsense_is_refused)
{
    static uint8_t bytes[4096];
    struct type_counts got;
    fill(3);
    size_t size = type_counts_pack(&counts, bytes, sizeof bytes);
    const uint8_t wrong[][2] = {
        {0, TYPES_MAX + 1}, {1, TYPE_NAME_MAX + 1}, {2, 0}}; /* where, what: the last is in a name */
    bytes[wrong[_i][0]] = wrong[_i][1];
    ck_assert_uint_eq(type_counts_unpack(bytes, size, &got), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("type_counts");
    TCase *t = tcase_create("type_counts");
    tcase_add_test(t, the_first_types_have_a_row_each);
    tcase_add_test(t, long_names_and_the_name_of_the_rest_have_none);
    tcase_add_loop_test(t, published_and_read_again, 0, 5);
    tcase_add_loop_test(t, nonsense_is_refused, 0, 3);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
