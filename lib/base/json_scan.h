/* json_scan.h - a cursor over JSON text: checks values, copies them without white space, decodes strings. For json_scan.c, json_write.c and
 * the parsers of renderings that events are part of: event_parse.c, ../dead_json.c. */
#ifndef BASE_JSON_SCAN_H
#define BASE_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "bytes.h"

enum { JSON_DEPTH_MAX = 512 };

struct json_cursor {
    const uint8_t *begin, *at, *end;
    const char *problem; /* why the last scan failed; `at` is the place */
    uint8_t *out;        /* a compact copy goes here; NULL: none is made */
    const uint8_t *run;  /* begin of what is checked, but not copied yet */
};

void json_begin(struct json_cursor *c, const char *text, size_t size);

static inline bool json_is_space(uint8_t byte)
{
    return byte == ' ' || byte == '\n' || byte == '\t' || byte == '\r';
}

/* Moves over white space; true if something follows. Nearly always there is none. */
bool json_skip_space_here(struct json_cursor *c);
static inline bool json_skip_space(struct json_cursor *c)
{
    return (c->at < c->end && !json_is_space(*c->at)) || json_skip_space_here(c);
}

/* Moves over white space and `wanted`; false, and only the space is skipped, if something else stands there. */
static inline bool json_accept(struct json_cursor *c, char wanted)
{
    if (!json_skip_space(c) || *c->at != (uint8_t)wanted)
        return false;
    c->at++;
    return true;
}

/* Moves over one value, which begins right here. */
bool json_scan_value(struct json_cursor *c);

/* The same, with a compact copy at `dst`, which has room for what is left of the text. */
bool json_scan_compact(struct json_cursor *c, uint8_t *dst, size_t *ret_size);

/* Moves over one string and writes what it says to `dst`, never more bytes than it takes in the text. */
bool json_scan_string(struct json_cursor *c, uint8_t *dst, size_t *ret_size);

/* SPOOL_EJSON: "line 3, column 17: " and the formatted text (NULL: the cursor's problem). */
int json_fail(const struct json_cursor *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts "line 3, column 17: member \"x\": " in front of the message there is, and returns `code`. */
int json_prefix(const struct json_cursor *c, int code, const char *member);

/* A byte that can stand in a JSON string as it is: ASCII without control characters, quotes and backslashes. */
static inline bool json_is_plain(uint8_t byte)
{
    return byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';
}

/* Where the first byte is that is not plain, in a word of eight; 8: nowhere. */
static inline size_t json_plain_in_word(uint64_t w)
{
    const uint64_t ones = 0x0101010101010101ull, tops = ones * 0x80;
    uint64_t quote = w ^ ones * '"', backslash = w ^ ones * '\\';
    /* The top bit of a byte that ends the run. Borrows spoil only bytes behind the first such one. */
    uint64_t special = (w | (w - ones * 0x20) | (quote - ones) | (backslash - ones)) & tops;
    return special ? (size_t)__builtin_ctzll(special) / 8 : 8;
}

/* How many plain bytes there are from `p` on. Looked at in words of eight, the last one over again as far as need be; where
 * there is SSE2, as in every x86-64, first in pieces of 16, which takes a third of the instructions. */
static inline size_t json_plain_run(const uint8_t *p, const uint8_t *end)
{
    const uint8_t *at = p;
#ifdef __SSE2__
    for (; end - at >= 16; at += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
        __m128i below = _mm_cmplt_epi8(bytes, _mm_set1_epi8(0x20)); /* signed: so is all above 0x7f */
        __m128i quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"'));
        __m128i backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'));
        unsigned special = (unsigned)_mm_movemask_epi8(_mm_or_si128(below, _mm_or_si128(quote, backslash)));
        if (special)
            return (size_t)(at - p) + (size_t)__builtin_ctz(special);
    }
#endif
    for (; end - at >= 8; at += 8) {
        size_t plain = json_plain_in_word(get_u64(at));
        if (plain < 8)
            return (size_t)(at - p) + plain;
    }
    if (at < end && end - p >= 8) /* what is left ends a word whose begin is known to be plain */
        return (size_t)(end - 8 - p) + json_plain_in_word(get_u64(end - 8));
    while (at < end && json_is_plain(*at))
        at++;
    return (size_t)(at - p);
}

#endif
