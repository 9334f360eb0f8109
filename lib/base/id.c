/* id.c - UUIDv7 ids: their parts, their text form, and the time in them.
 *
 * An id is two big-endian words, so that memcmp() order is the order of (ticks, counter, node):
 *
 *   word 0   unix_ms 48 | 7 (version) 4 | 1/4096 ms 12
 *   word 1   2 (variant) 2 | counter 14 | node 48
 *
 * `ticks` is unix_ms and the 1/4096 ms behind it as one number of 60 bits. One tick is 1,000,000 / 4096 = 15625 / 64
 * ns. */
#include "id.h"

#include <string.h>

#include "digits.h"
#include "error.h"

#define NODE_MASK 0xffffffffffffull
#define COUNTER_MASK 0x3fffu

int id_stamp_compare(struct hlc_stamp a, struct hlc_stamp b)
{
    if (a.ticks != b.ticks)
        return a.ticks < b.ticks ? -1 : 1;
    return (a.counter > b.counter) - (a.counter < b.counter);
}

/* In two steps, because ns * 64 does not fit in 64 bits. */
uint64_t ticks_from_ns(uint64_t unix_ns)
{
    return unix_ns / 15625 * 64 + unix_ns % 15625 * 64 / 15625;
}

/* Saturates: an id can name times up to the year 10889, 64-bit nanoseconds end in 2554. */
uint64_t ticks_to_ns(uint64_t ticks)
{
    if (ticks / 64 >= UINT64_MAX / 15625)
        return UINT64_MAX;
    return ticks / 64 * 15625 + (ticks % 64 * 15625 + 63) / 64;
}

void id_min_at_ns(uint64_t unix_ns, struct spool_id *ret_id)
{
    id_make((struct hlc_stamp){ticks_from_ns(unix_ns), 0}, 0, ret_id);
}

void id_max_at_ns(uint64_t unix_ns, struct spool_id *ret_id)
{
    id_make((struct hlc_stamp){ticks_from_ns(unix_ns), COUNTER_MASK}, NODE_MASK, ret_id);
}

uint64_t spool_id_time_ns(const struct spool_id *id)
{
    return ticks_to_ns(id_stamp(id).ticks);
}

int spool_id_compare(const struct spool_id *a, const struct spool_id *b)
{
    return memcmp(a, b, sizeof *a);
}

char *spool_id_format(const struct spool_id *id, char ret_text[SPOOL_ID_TEXT_SIZE])
{
    char high[16], low[16];
    digits_put_hex16(high, get_be64(id->bytes));
    digits_put_hex16(low, get_be64(id->bytes + 8));
    memcpy(ret_text, high, 8);
    memcpy(ret_text + 9, high + 8, 4);
    memcpy(ret_text + 14, high + 12, 4);
    memcpy(ret_text + 19, low, 4);
    memcpy(ret_text + 24, low + 4, 12);
    ret_text[8] = ret_text[13] = ret_text[18] = ret_text[23] = '-';
    ret_text[36] = 0;
    return ret_text;
}

/* A dash stands in front of these bytes in the text form 8-4-4-4-12. */
static bool dash_before(size_t i)
{
    return i == 4 || i == 6 || i == 8 || i == 10;
}

/* The value of a hexadecimal digit, or -1. */
static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Reads 36 characters; stops at the first that does not fit, so that a shorter text is not read beyond its NUL. */
static bool parse_digits(const char *p, struct spool_id *ret_id)
{
    for (size_t i = 0; i < sizeof ret_id->bytes; i++) {
        if (dash_before(i) && *p++ != '-')
            return false;
        int high = hex_value(p[0]), low = high < 0 ? -1 : hex_value(p[1]);
        if (low < 0)
            return false;
        ret_id->bytes[i] = (uint8_t)(high << 4 | low);
        p += 2;
    }
    return *p == 0;
}

int spool_id_parse(const char *text, struct spool_id *ret_id)
{
    if (!text || !ret_id)
        return err_set(SPOOL_EINVAL, "spool_id_parse: the %s is NULL", text ? "result" : "text");
    struct spool_id id;
    if (!parse_digits(text, &id))
        return err_set(SPOOL_EID,
                       "\"%.64s\" is not an event id: it must look like 01890a5d-ac96-774b-8cce-b302099a8057", text);
    if (!id_is_valid(&id))
        return err_set(SPOOL_EID, "\"%s\" is a UUID, but not of version 7: it is not an event id", text);
    *ret_id = id;
    return SPOOL_OK;
}
