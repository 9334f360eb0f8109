/* json_scan.c - checks JSON text as RFC 8259 has it, in one pass and without building anything.
 *
 * Recursive descent, a function per production; the depth is bounded, so that no input can exhaust the stack. A compact
 * copy is made on the way: what stands between two pieces of white space is copied as one run, so that text which is
 * compact already costs a single memcpy. Numbers and escapes are not touched. */
#include "json_scan.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "error.h"
#include "json.h"
#include "utf8.h"

void json_begin(struct json_cursor *c, const char *text, size_t size)
{
    const uint8_t *p = (const uint8_t *)(text ? text : "");
    *c = (struct json_cursor){.begin = p, .at = p, .end = p + (text ? size : 0)};
}

static bool refuse(struct json_cursor *c, const char *problem)
{
    c->problem = problem;
    return false;
}

static bool is_digit(const struct json_cursor *c)
{
    return c->at < c->end && *c->at >= '0' && *c->at <= '9';
}

static void copy_run(struct json_cursor *c)
{
    size_t size = (size_t)(c->at - c->run);
    if (size == 0)
        return;
    memcpy(c->out, c->run, size);
    c->out += size;
}

/* `at` is at white space, or at the end. */
bool json_skip_space_here(struct json_cursor *c)
{
    if (c->out)
        copy_run(c);
    while (c->at < c->end && json_is_space(*c->at))
        c->at++;
    c->run = c->at;
    return c->at < c->end;
}

/* ------------------------------------------------------------------------------------------------------- strings */

/* Four hexadecimal digits; false, and the place, at the first that is none. */
static bool scan_hex4(struct json_cursor *c, uint32_t *ret)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++, c->at++) {
        uint8_t digit = c->at < c->end ? *c->at : 0, letter = digit | 0x20;
        if (digit >= '0' && digit <= '9')
            value = value << 4 | (digit - '0');
        else if (letter >= 'a' && letter <= 'f')
            value = value << 4 | (uint32_t)(letter - 'a' + 10);
        else
            return refuse(c, "\\u needs four hexadecimal digits");
    }
    *ret = value;
    return true;
}

/* `at` is behind the backslash. */
static bool scan_escape(struct json_cursor *c)
{
    uint32_t unit;
    if (c->at == c->end)
        return refuse(c, "the string does not end");
    if (*c->at == 'u')
        return c->at++, scan_hex4(c, &unit);
    switch (*c->at) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        return c->at++, true;
    default:
        return refuse(c, "unknown escape in a string");
    }
}

/* The character of a string that ends a run of plain ones. */
static bool scan_character(struct json_cursor *c)
{
    if (*c->at == '\\')
        return c->at++, scan_escape(c);
    if (*c->at < 0x20)
        return refuse(c, "a control character in a string must be escaped");
    size_t size = utf8_sequence(c->at, (size_t)(c->end - c->at));
    if (size == 0)
        return refuse(c, "not valid UTF-8");
    c->at += size;
    return true;
}

/* `at` is at the quote that opens. */
static bool scan_quoted(struct json_cursor *c)
{
    const uint8_t *start = c->at++;
    for (;;) {
        c->at += json_plain_run(c->at, c->end);
        if (c->at == c->end)
            return c->at = start, refuse(c, "the string does not end");
        if (*c->at == '"')
            return c->at++, true;
        if (!scan_character(c))
            return false;
    }
}

/* The code point of a \u escape whose digits were checked; `at` is behind the 'u'. */
static bool decode_unicode(struct json_cursor *c, uint32_t *ret)
{
    uint32_t low = 0;
    scan_hex4(c, ret);
    if (*ret < 0xd800 || *ret > 0xdfff)
        return true;
    bool paired = *ret < 0xdc00 && c->at[0] == '\\' && c->at[1] == 'u';
    if (paired)
        c->at += 2, scan_hex4(c, &low);
    if (low < 0xdc00 || low > 0xdfff)
        return refuse(c, "half a surrogate pair is no character");
    *ret = 0x10000 + ((*ret - 0xd800) << 10) + (low - 0xdc00);
    return true;
}

static bool decode_escape(struct json_cursor *c, uint8_t **dst)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    uint8_t letter = *c->at++;
    uint32_t code = 0;
    if (letter != 'u')
        *(*dst)++ = (uint8_t)to[strchr(from, letter) - from];
    else if (decode_unicode(c, &code))
        *dst += utf8_put(*dst, code);
    else
        return false;
    return true;
}

bool json_scan_string(struct json_cursor *c, uint8_t *dst, size_t *ret_size)
{
    if (c->at == c->end || *c->at != '"')
        return refuse(c, "a string is expected here");
    struct json_cursor again = *c;
    if (!scan_quoted(c))
        return false;
    const uint8_t *close = c->at - 1;
    uint8_t *p = dst;
    for (again.at++; again.at < close;) {
        if (*again.at != '\\') {
            *p++ = *again.at++;
        } else if (again.at++, !decode_escape(&again, &p)) {
            *c = again;
            return false;
        }
    }
    *ret_size = (size_t)(p - dst);
    return true;
}

/* -------------------------------------------------------------------------------------------------------- values */

static bool scan_digits(struct json_cursor *c)
{
    if (!is_digit(c))
        return refuse(c, "a digit is missing in a number");
    while (is_digit(c))
        c->at++;
    return true;
}

static bool scan_number(struct json_cursor *c)
{
    if (*c->at == '-')
        c->at++;
    const uint8_t *first = c->at;
    if (!scan_digits(c))
        return false;
    if (*first == '0' && c->at - first > 1)
        return refuse(c, "a number must not begin with 0");
    if (c->at < c->end && *c->at == '.' && (c->at++, !scan_digits(c)))
        return false;
    if (c->at == c->end || (*c->at | 0x20) != 'e')
        return true;
    c->at++;
    if (c->at < c->end && (*c->at == '+' || *c->at == '-'))
        c->at++;
    return scan_digits(c);
}

static bool scan_word(struct json_cursor *c, const char *word)
{
    size_t size = strlen(word);
    if ((size_t)(c->end - c->at) < size || memcmp(c->at, word, size) != 0)
        return refuse(c, "a value is expected here");
    c->at += size;
    return true;
}

static bool scan_any(struct json_cursor *c, unsigned depth);

static bool scan_array(struct json_cursor *c, unsigned depth)
{
    c->at++;
    if (json_accept(c, ']'))
        return true;
    do {
        if (!json_skip_space(c))
            return refuse(c, "the array does not end");
        if (!scan_any(c, depth))
            return false;
    } while (json_accept(c, ','));
    return json_accept(c, ']') || refuse(c, "',' or ']' is expected here");
}

static bool scan_member(struct json_cursor *c, unsigned depth)
{
    if (!json_skip_space(c) || *c->at != '"')
        return refuse(c, "the name of a member is expected here");
    if (!scan_quoted(c))
        return false;
    if (!json_accept(c, ':'))
        return refuse(c, "':' is expected here");
    if (!json_skip_space(c))
        return refuse(c, "a value is expected here");
    return scan_any(c, depth);
}

static bool scan_object(struct json_cursor *c, unsigned depth)
{
    c->at++;
    if (json_accept(c, '}'))
        return true;
    do {
        if (!scan_member(c, depth))
            return false;
    } while (json_accept(c, ','));
    return json_accept(c, '}') || refuse(c, "',' or '}' is expected here");
}

static bool scan_any(struct json_cursor *c, unsigned depth)
{
    switch (*c->at) {
    case '{':
        return depth < JSON_DEPTH_MAX ? scan_object(c, depth + 1) : refuse(c, "nested too deeply");
    case '[':
        return depth < JSON_DEPTH_MAX ? scan_array(c, depth + 1) : refuse(c, "nested too deeply");
    case '"':
        return scan_quoted(c);
    case 't':
        return scan_word(c, "true");
    case 'f':
        return scan_word(c, "false");
    case 'n':
        return scan_word(c, "null");
    default:
        return *c->at == '-' || is_digit(c) ? scan_number(c) : refuse(c, "a value is expected here");
    }
}

bool json_scan_value(struct json_cursor *c)
{
    return c->at < c->end ? scan_any(c, 0) : refuse(c, "a value is expected here");
}

bool json_scan_compact(struct json_cursor *c, uint8_t *dst, size_t *ret_size)
{
    c->out = dst;
    c->run = c->at;
    bool valid = json_scan_value(c);
    if (valid) {
        copy_run(c);
        *ret_size = (size_t)(c->out - dst);
    }
    c->out = NULL;
    return valid;
}

int json_put_compact(struct buffer *out, const char *text, size_t size)
{
    struct json_cursor c;
    size_t compact;
    int rc = buffer_reserve(out, size + 1); /* not 0: the copy needs a place */
    if (rc)
        return rc;
    json_begin(&c, text, size);
    json_skip_space(&c);
    if (!json_scan_compact(&c, out->data + out->size, &compact))
        return json_fail(&c, NULL);
    if (json_skip_space(&c))
        return json_fail(&c, "something follows the value");
    out->size += compact;
    return SPOOL_OK;
}

/* ------------------------------------------------------------------------------------------------------ messages */

/* Counts from one; columns are characters, not bytes. */
static void position(const struct json_cursor *c, size_t *line, size_t *column)
{
    *line = *column = 1;
    for (const uint8_t *p = c->begin; p < c->at; p++) {
        if (*p == '\n')
            ++*line, *column = 1;
        else if ((*p & 0xc0) != 0x80)
            ++*column;
    }
}

int json_fail(const struct json_cursor *c, const char *format, ...)
{
    char text[256];
    size_t line, column;
    va_list args;
    va_start(args, format);
    if (!format || vsnprintf(text, sizeof text, format, args) < 0)
        snprintf(text, sizeof text, "%s", c->problem ? c->problem : "not valid JSON");
    va_end(args);
    position(c, &line, &column);
    return err_set(SPOOL_EJSON, "line %zu, column %zu: %s", line, column, text);
}

int json_prefix(const struct json_cursor *c, int code, const char *member)
{
    size_t line, column;
    position(c, &line, &column);
    return err_prefix(code, "line %zu, column %zu: member \"%s\"", line, column, member);
}

bool json_is_valid(const char *text, size_t size)
{
    struct json_cursor c;
    json_begin(&c, text, size);
    return json_skip_space(&c) && json_scan_value(&c) && !json_skip_space(&c);
}
