/* utf8.c - checks and writes UTF-8. Texts are nearly always ASCII, so that is looked at eight bytes at a time. */
#include "utf8.h"

#include <string.h>

#include "bytes.h"

#define EACH_BYTE(b) (0x0101010101010101ull * (b))

static bool is_continuation(uint8_t byte)
{
    return (byte & 0xc0) == 0x80;
}

/* The first continuation byte has a narrower range behind some lead bytes: it excludes overlong forms (E0, F0),
 * surrogates (ED) and what is above U+10FFFF (F4). */
static bool second_fits(uint8_t lead, uint8_t second)
{
    switch (lead) {
    case 0xe0:
        return second >= 0xa0;
    case 0xed:
        return second < 0xa0;
    case 0xf0:
        return second >= 0x90;
    case 0xf4:
        return second < 0x90;
    default:
        return true;
    }
}

size_t utf8_sequence(const uint8_t *p, size_t avail)
{
    if (avail == 0)
        return 0;
    if (p[0] < 0x80)
        return 1;
    if (p[0] < 0xc2 || p[0] > 0xf4)
        return 0;
    size_t size = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (avail < size || !is_continuation(p[1]) || !second_fits(p[0], p[1]))
        return 0;
    for (size_t i = 2; i < size; i++)
        if (!is_continuation(p[i]))
            return 0;
    return size;
}

/* All eight bytes are in 20..7E. A byte outside sets its own top bit in one of the three terms; carries and borrows
 * come only from bytes that are outside themselves. */
static bool word_is_plain(uint64_t w)
{
    return ((w | (w + EACH_BYTE(0x01)) | (w - EACH_BYTE(0x20))) & EACH_BYTE(0x80)) == 0;
}

/* Fewer than eight bytes, filled up with spaces. */
static uint64_t load_short(const uint8_t *p, size_t size)
{
    uint64_t w = EACH_BYTE(0x20);
    if (size & 4)
        w = w << 32 | get_u32(p), p += 4;
    if (size & 2)
        w = w << 16 | get_u16(p), p += 2;
    if (size & 1)
        w = w << 8 | *p;
    return w;
}

/* The general case, one character at a time. */
static bool is_plain_utf8(const uint8_t *p, const uint8_t *end)
{
    while (p < end) {
        size_t n = utf8_sequence(p, (size_t)(end - p));
        if (n == 0 || *p < 0x20 || *p == 0x7f)
            return false;
        p += n;
    }
    return true;
}

bool utf8_is_plain_text(const char *text, size_t size)
{
    const uint8_t *p = (const uint8_t *)text, *end = p + size;
    for (; end - p >= 8; p += 8)
        if (!word_is_plain(get_u64(p)))
            return is_plain_utf8(p, end);
    return word_is_plain(load_short(p, (size_t)(end - p))) || is_plain_utf8(p, end);
}

size_t utf8_put(uint8_t *dst, uint32_t c)
{
    if (c < 0x80) {
        dst[0] = (uint8_t)c;
        return 1;
    }
    size_t size = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = size - 1; i > 0; i--, c >>= 6)
        dst[i] = (uint8_t)(0x80 | (c & 0x3f));
    static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    dst[0] = (uint8_t)(lead[size] | c);
    return size;
}

size_t utf8_cut(const char *text, size_t max)
{
    size_t size = max;
    while (size && max - size < 3 && ((uint8_t)text[size] & 0xc0) == 0x80)
        size--;
    return size;
}
