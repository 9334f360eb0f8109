/* base64.c - three bytes are four characters of six bits each. */
#include "base64.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void encode_four(char *dst, uint32_t bits)
{
    dst[0] = alphabet[bits >> 18];
    dst[1] = alphabet[bits >> 12 & 63];
    dst[2] = alphabet[bits >> 6 & 63];
    dst[3] = alphabet[bits & 63];
}

void base64_encode(char *dst, const uint8_t *src, size_t size)
{
    for (; size >= 3; size -= 3, src += 3, dst += 4)
        encode_four(dst, (uint32_t)src[0] << 16 | (uint32_t)src[1] << 8 | src[2]);
    if (size == 0)
        return;
    encode_four(dst, (uint32_t)src[0] << 16 | (size == 2 ? (uint32_t)src[1] << 8 : 0));
    dst[3] = '=';
    if (size == 1)
        dst[2] = '=';
}

/* The six bits of a character, or -1. */
static int decode_one(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* `pad` characters of the four are padding: they count as zero bits. False for a character outside the alphabet, and
 * for bits that would be lost. */
static bool decode_four(uint8_t *dst, const char *src, size_t pad)
{
    uint32_t bits = 0;
    for (size_t i = 0; i < 4; i++) {
        int six = i < 4 - pad ? decode_one(src[i]) : 0;
        if (six < 0)
            return false;
        bits = bits << 6 | (uint32_t)six;
    }
    for (size_t i = 0; i < 3 - pad; i++)
        dst[i] = (uint8_t)(bits >> (16 - 8 * i));
    return (bits & ((1u << 8 * pad) - 1)) == 0;
}

bool base64_decode(uint8_t *dst, const char *src, size_t size, size_t *ret_size)
{
    if (size % 4)
        return false;
    size_t pad = size && src[size - 1] == '=' ? 1u + (src[size - 2] == '=') : 0;
    for (size_t i = 0; i < size; i += 4, dst += 3)
        if (!decode_four(dst, src + i, i + 4 == size ? pad : 0))
            return false;
    *ret_size = size / 4 * 3 - pad;
    return true;
}
