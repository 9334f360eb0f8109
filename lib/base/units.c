/* units.c - a number and a unit, nothing else: no sign, no blank, no fraction, so that a slip of the pen is an error
 * and not another size. */
#include "units.h"

#include <ctype.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "error.h"

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit byte_units[] = {
    {"", 1},
    {"B", 1},
    {"kB", 1000},
    {"MB", 1000 * 1000},
    {"GB", 1000 * 1000 * 1000},
    {"TB", 1000ull * 1000 * 1000 * 1000},
    {"KiB", 1ull << 10},
    {"MiB", 1ull << 20},
    {"GiB", 1ull << 30},
    {"TiB", 1ull << 40},
    {NULL, 0},
};

static const struct unit duration_units[] = {
    {"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 3600 * 1000}, {"d", 24 * 3600 * 1000}, {NULL, 0},
};

/* Reads the digits; *ret_end is what follows. False if there are none or they do not fit. */
static bool read_digits(const char *text, uint64_t *ret_number, const char **ret_end)
{
    uint64_t number = 0;
    const char *p = text;
    for (; isdigit((unsigned char)*p); p++)
        if (__builtin_mul_overflow(number, 10u, &number) ||
            __builtin_add_overflow(number, (uint64_t)(*p - '0'), &number))
            return false;
    *ret_number = number;
    *ret_end = p;
    return p != text;
}

static int parse(const char *text, const struct unit *units, const char *what, uint64_t *ret)
{
    uint64_t number;
    const char *end;
    if (!text || !read_digits(text, &number, &end))
        return err_set(SPOOL_EINVAL, "\"%s\" is no %s", text ? text : "", what);
    for (; units->name; units++) {
        if (strcmp(end, units->name) != 0)
            continue;
        if (__builtin_mul_overflow(number, units->factor, &number))
            return err_set(SPOOL_EINVAL, "\"%s\" is too big a %s", text, what);
        *ret = number;
        return SPOOL_OK;
    }
    return err_set(SPOOL_EINVAL, "\"%s\" is no %s: unknown unit \"%s\"", text, what, end);
}

int units_parse_bytes(const char *text, uint64_t *ret_bytes)
{
    return parse(text, byte_units, "size (write it as 512, 64KiB, 100MiB or 8GiB)", ret_bytes);
}

int units_parse_duration_ms(const char *text, uint64_t *ret_ms)
{
    if (text && strcmp(text, "0") == 0) {
        *ret_ms = 0;
        return SPOOL_OK;
    }
    return parse(text, duration_units, "duration (write it as 100ms, 5s, 10m, 1h or 7d)", ret_ms);
}
