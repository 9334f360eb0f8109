/* json_write.c - JSON strings: runs of bytes that need no escape are found eight bytes at a time and copied whole. */
#include <string.h>

#include "json.h"
#include "json_scan.h"
#include "utf8.h"

static const char REPLACEMENT[] = "\xef\xbf\xbd"; /* U+FFFD */

/* The letter behind the backslash of a short escape, or 0. */
static char short_escape(uint8_t byte)
{
    switch (byte) {
    case '"':
    case '\\':
        return (char)byte;
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    default:
        return 0;
    }
}

static int put_escape(struct buffer *out, uint8_t byte)
{
    static const char digits[] = "0123456789abcdef";
    char text[6] = {'\\', short_escape(byte)};
    if (text[1])
        return buffer_put(out, text, 2);
    memcpy(text + 1, "u00", 3);
    text[4] = digits[byte >> 4];
    text[5] = digits[byte & 15];
    return buffer_put(out, text, sizeof text);
}

/* The end of the longest run from `p` on that can be copied as it is. */
static const uint8_t *run_end(const uint8_t *p, const uint8_t *end)
{
    for (;;) {
        p += json_plain_run(p, end);
        if (p == end || *p < 0x80)
            return p;
        size_t size = utf8_sequence(p, (size_t)(end - p));
        if (size == 0)
            return p;
        p += size;
    }
}

/* The one byte at which a run has ended: escaped, or replaced if it is no UTF-8. */
static int put_special(struct buffer *out, uint8_t byte)
{
    return byte < 0x80 ? put_escape(out, byte) : buffer_put(out, REPLACEMENT, sizeof REPLACEMENT - 1);
}

static int put_characters(struct buffer *out, const uint8_t *p, const uint8_t *end)
{
    while (p < end) {
        const uint8_t *stop = run_end(p, end);
        int rc = buffer_put(out, p, (size_t)(stop - p));
        if (!rc && stop < end)
            rc = put_special(out, *stop++);
        if (rc)
            return rc;
        p = stop;
    }
    return 0;
}

int json_put_string(struct buffer *out, const char *text, size_t size)
{
    size_t before = out->size;
    int rc = buffer_reserve(out, size + 2); /* enough unless something is escaped */
    if (rc)
        return rc;
    if (json_plain_run((const uint8_t *)text, (const uint8_t *)text + size) == size) { /* nearly always */
        uint8_t *p = out->data + out->size;
        *p = '"';
        if (size > 0)
            memcpy(p + 1, text, size);
        p[size + 1] = '"';
        out->size += size + 2;
        return 0;
    }
    out->data[out->size++] = '"';
    rc = put_characters(out, (const uint8_t *)text, (const uint8_t *)text + size);
    if (!rc)
        rc = buffer_put(out, "\"", 1);
    if (rc)
        out->size = before;
    return rc;
}
