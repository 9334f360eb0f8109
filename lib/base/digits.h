/* digits.h - numbers as text of a fixed width, for renderings: hexadecimal eight digits at a time, decimal two. */
#ifndef BASE_DIGITS_H
#define BASE_DIGITS_H

#include "bytes.h"

#define DIGITS_EACH(b) (0x0101010101010101ull * (b))

/* The eight lower-case hexadecimal digits of `v`, as the word that put_u64() writes in reading order: the nibbles are
 * spread over bytes, and those above 9 go on at 'a'. */
static inline uint64_t digits_hex8(uint32_t v)
{
    uint64_t x = __builtin_bswap32(v);
    x = (x & 0xffff) | (x & 0xffff0000) << 16;
    x = (x & 0x000000ff000000ff) | (x & 0x0000ff000000ff00) << 8;
    x = (x >> 4 & 0x000f000f000f000f) | (x & 0x000f000f000f000f) << 8;
    uint64_t letters = (x + DIGITS_EACH(6)) >> 4 & DIGITS_EACH(1);
    return x + DIGITS_EACH('0') + letters * ('a' - '9' - 1);
}

/* Sixteen of them. */
static inline void digits_put_hex16(char *p, uint64_t v)
{
    put_u64((uint8_t *)p, digits_hex8((uint32_t)(v >> 32)));
    put_u64((uint8_t *)p + 8, digits_hex8((uint32_t)v));
}

/* Two decimal digits of a number below 100. */
static inline void digits_put2(char *p, uint32_t v)
{
    static const char pairs[] =
        "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
        "5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";
    put_u16((uint8_t *)p, get_u16((const uint8_t *)pairs + 2 * v));
}

#endif
