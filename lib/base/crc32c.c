/* crc32c.c - CRC-32C, polynomial 0x1EDC6F41, bit-reflected: 0x82F63B78.
 *
 * Two implementations, chosen at the first call:
 * - portable: "slicing by 8" (Kounavis and Berry, 2005): eight tables of 256 words, one look-up each for eight bytes.
 * - hardware: the SSE4.2 instruction takes eight bytes, with a latency of three cycles and a throughput of one. Three
 *   streams over neighbouring blocks fill the gaps (Gopal et al., "Fast CRC Computation for iSCSI Polynomial Using
 * CRC32 Instruction", 2011); they are joined by carry-less multiplication. Joining costs about ten cycles, so that it
 * pays from some 200 bytes on. */
#include "crc32c.h"

#include <pthread.h>
#include <stdatomic.h>

#include "bytes.h"

#define POLYNOMIAL 0x82f63b78u

static uint32_t slice[8][256]; /* filled once, under slice_once */
static pthread_once_t slice_once = PTHREAD_ONCE_INIT;

static void fill_slices(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
        slice[0][i] = crc;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int k = 1; k < 8; k++)
            slice[k][i] = slice[k - 1][i] >> 8 ^ slice[0][slice[k - 1][i] & 0xff];
}

uint32_t crc32c_portable(uint32_t crc, const void *bytes, size_t size)
{
    pthread_once(&slice_once, fill_slices);
    const uint8_t *p = bytes;
    crc = ~crc;
    for (; size >= 8; size -= 8, p += 8) {
        uint64_t w = get_u64(p) ^ crc;
        crc = slice[7][w & 0xff] ^ slice[6][w >> 8 & 0xff] ^ slice[5][w >> 16 & 0xff] ^ slice[4][w >> 24 & 0xff] ^
              slice[3][w >> 32 & 0xff] ^ slice[2][w >> 40 & 0xff] ^ slice[1][w >> 48 & 0xff] ^ slice[0][w >> 56];
    }
    for (; size > 0; size--, p++)
        crc = crc >> 8 ^ slice[0][(crc ^ *p) & 0xff];
    return ~crc;
}

#if defined(__x86_64__)
#include <immintrin.h>

#define HARDWARE __attribute__((target("sse4.2,pclmul")))

/* A block of each of the three streams, and x^(8 n - 33), x^(16 n - 33) modulo the polynomial, bit-reflected, for
 * blocks of n bytes: what the first two checksums are multiplied with to move them to the end. (The 33: the instruction
 * that reduces the product multiplies by x^32, and the product of two reflected words is shifted by one.) */
struct stride {
    size_t block;
    uint32_t one, two;
};
static const struct stride LONG_STRIDE = {1024, 0x170076fa, 0xa51b6135};
static const struct stride SHORT_STRIDE = {80, 0x39d3b296, 0x878a92a7};

HARDWARE static inline uint64_t shift(uint64_t crc, uint32_t power)
{
    __m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)crc), _mm_cvtsi32_si128((int)power), 0);
    return _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(product));
}

HARDWARE static inline uint64_t three_blocks(uint64_t a, const uint8_t *p, struct stride stride)
{
    uint64_t b = 0, c = 0;
    for (const uint8_t *end = p + stride.block; p < end; p += 8) {
        a = _mm_crc32_u64(a, get_u64(p));
        b = _mm_crc32_u64(b, get_u64(p + stride.block));
        c = _mm_crc32_u64(c, get_u64(p + 2 * stride.block));
    }
    return shift(a, stride.two) ^ shift(b, stride.one) ^ c;
}

HARDWARE static uint32_t crc32c_hardware(uint32_t crc, const void *bytes, size_t size)
{
    const uint8_t *p = bytes;
    uint64_t sum = ~crc;
    for (; size >= 3 * LONG_STRIDE.block; size -= 3 * LONG_STRIDE.block, p += 3 * LONG_STRIDE.block)
        sum = three_blocks(sum, p, LONG_STRIDE);
    for (; size >= 3 * SHORT_STRIDE.block; size -= 3 * SHORT_STRIDE.block, p += 3 * SHORT_STRIDE.block)
        sum = three_blocks(sum, p, SHORT_STRIDE);
    for (; size >= 8; size -= 8, p += 8)
        sum = _mm_crc32_u64(sum, get_u64(p));
    for (; size > 0; size--, p++)
        sum = _mm_crc32_u8((uint32_t)sum, *p);
    return ~(uint32_t)sum;
}

static int has_hardware(void)
{
    return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
}
#else
#define crc32c_hardware crc32c_portable
static int has_hardware(void)
{
    return 0;
}
#endif

typedef uint32_t crc32c_function(uint32_t crc, const void *bytes, size_t size);

static crc32c_function first_call;
static _Atomic(crc32c_function *) chosen = first_call;

/* Threads that come here together choose the same. */
static uint32_t first_call(uint32_t crc, const void *bytes, size_t size)
{
    crc32c_function *best = has_hardware() ? crc32c_hardware : crc32c_portable;
    atomic_store_explicit(&chosen, best, memory_order_relaxed);
    return best(crc, bytes, size);
}

uint32_t crc32c(uint32_t crc, const void *bytes, size_t size)
{
    return atomic_load_explicit(&chosen, memory_order_relaxed)(crc, bytes, size);
}
