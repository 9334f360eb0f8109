/* json_scan.h - a cursor over JSON text: checks values, copies them without white space, decodes strings. For json_scan.c, json_write.c and
 * the parsers of renderings that events are part of: event_parse.c, ../dead_json.c. */
#ifndef BASE_JSON_SCAN_H
#define BASE_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"

enum { JSON_DEPTH_MAX = 512 };

struct json_cursor {
    const uint8_t *begin, *at, *end;
    const char *problem; /* why the last scan failed; `at` is the place */
    uint8_t *out;        /* a compact copy goes here; NULL: none is made */
    const uint8_t *run;  /* begin of what is checked, but not copied yet */
};

void json_begin(struct json_cursor *c, const char *text, size_t size);

/* Moves over white space; true if something follows. */
bool json_skip_space(struct json_cursor *c);

/* Moves over white space and `wanted`; false, and only the space is skipped, if something else stands there. */
bool json_accept(struct json_cursor *c, char wanted);

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

/* How many plain bytes there are from `p` on. Looked at in words of eight. */
static inline size_t json_plain_run(const uint8_t *p, const uint8_t *end)
{
    const uint64_t ones = 0x0101010101010101ull, tops = ones * 0x80;
    const uint8_t *at = p;
    for (; end - at >= 8; at += 8) {
        uint64_t w = get_u64(at), quote = w ^ ones * '"', backslash = w ^ ones * '\\';
        /* The top bit of a byte that ends the run. Borrows spoil only bytes behind the first such one. */
        uint64_t special = (w | (w - ones * 0x20) | (quote - ones) | (backslash - ones)) & tops;
        if (special)
            return (size_t)(at - p) + (size_t)__builtin_ctzll(special) / 8;
    }
    while (at < end && json_is_plain(*at))
        at++;
    return (size_t)(at - p);
}

#endif
