/* test_crc32c.c - the checksum against published vectors, and the two implementations against each other. */
#include "../check_main.h"

#include "../../lib/base/crc32c.h"

/* A bit at a time, straight from the definition. */
static uint32_t slow_crc32c(const uint8_t *p, size_t size)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < size; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

static void check_vector(const void *bytes, size_t size, uint32_t want)
{
    ck_assert_uint_eq(crc32c(0, bytes, size), want);
    ck_assert_uint_eq(crc32c_portable(0, bytes, size), want);
    ck_assert_uint_eq(slow_crc32c(bytes, size), want);
}

/* RFC 3720, B.4, and the check value of the catalogue of CRC algorithms. */
START_TEST(test_published_vectors)
{
    uint8_t bytes[32];
    check_vector("", 0, 0);
    check_vector("123456789", 9, 0xe3069283u);
    check_vector(memset(bytes, 0, 32), 32, 0x8a9136aau);
    check_vector(memset(bytes, 0xff, 32), 32, 0x62a8ab43u);
    for (uint8_t i = 0; i < 32; i++)
        bytes[i] = i;
    check_vector(bytes, 32, 0x46dd794eu);
    for (uint8_t i = 0; i < 32; i++)
        bytes[i] = (uint8_t)(31 - i);
    check_vector(bytes, 32, 0x113fdb5cu);
}
END_TEST

static uint8_t *random_bytes(size_t size)
{
    uint8_t *bytes = malloc(size);
    srandom((unsigned)test_seed(1));
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)random();
    return bytes;
}

/* Lengths around every block size of the fast path, at every alignment. */
START_TEST(test_all_lengths_and_alignments)
{
    enum { SIZE = 8192 };
    uint8_t *bytes = random_bytes(SIZE + 8);
    for (size_t n = 0; n <= SIZE; n += n < 800 ? 1 : 61) {
        const uint8_t *at = bytes + n % 8;
        uint32_t want = slow_crc32c(at, n);
        ck_assert_uint_eq(crc32c(0, at, n), want);
        ck_assert_uint_eq(crc32c_portable(0, at, n), want);
    }
    free(bytes);
}
END_TEST

START_TEST(test_continues)
{
    enum { SIZE = 4000 };
    uint8_t *bytes = random_bytes(SIZE);
    uint32_t want = slow_crc32c(bytes, SIZE);
    for (size_t cut = 0; cut <= SIZE; cut += 37) {
        ck_assert_uint_eq(crc32c(crc32c(0, bytes, cut), bytes + cut, SIZE - cut), want);
        ck_assert_uint_eq(crc32c_portable(crc32c(0, bytes, cut), bytes + cut, SIZE - cut), want);
    }
    free(bytes);
}
END_TEST

START_TEST(test_any_changed_bit_is_noticed)
{
    uint8_t *bytes = random_bytes(512);
    uint32_t before = crc32c(0, bytes, 512);
    for (size_t bit = 0; bit < 512 * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        ck_assert_uint_ne(crc32c(0, bytes, 512), before);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    free(bytes);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("crc32c");
    TCase *t = tcase_create("crc32c");
    tcase_add_test(t, test_published_vectors);
    tcase_add_test(t, test_all_lengths_and_alignments);
    tcase_add_test(t, test_continues);
    tcase_add_test(t, test_any_changed_bit_is_noticed);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
