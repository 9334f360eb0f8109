/* time.c - RFC 3339 times: "2026-11-21T09:34:15.123456789Z".
 *
 * Written without the C library, whose gmtime() and strftime() cost more than the rest of an event's rendering. The
 * calendar arithmetic counts days from 1 March of year 0, so that the leap day is the last of its year (Hinnant,
 * "chrono- Compatible Low-Level Date Algorithms"). 64-bit nanoseconds reach from 1970 to 2554. */
#include <string.h>

#include "digits.h"
#include "error.h"
#include "json.h"

#define NS_PER_S 1000000000ull
#define S_PER_DAY 86400u

enum {
    DAYS_PER_ERA = 146097, /* 400 years */
    DAYS_TO_1970 = 719468, /* since 0000-03-01 */
};

/* Nine decimals. */
static void put_nanoseconds(char *p, uint32_t ns)
{
    for (int i = 7; i > 0; i -= 2, ns /= 100)
        digits_put2(p + i, ns % 100);
    *p = (char)('0' + ns);
}

static void put_date(char *p, uint32_t days_since_1970)
{
    uint32_t days = days_since_1970 + DAYS_TO_1970, era = days / DAYS_PER_ERA, day = days % DAYS_PER_ERA;
    uint32_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    uint32_t day_of_year = day - (365 * year + year / 4 - year / 100);
    uint32_t shifted = (5 * day_of_year + 2) / 153; /* 0 is March */
    uint32_t month = shifted < 10 ? shifted + 3 : shifted - 9;
    year += era * 400 + (month <= 2);
    digits_put2(p, year / 100);
    digits_put2(p + 2, year % 100);
    digits_put2(p + 5, month);
    digits_put2(p + 8, day_of_year - (153 * shifted + 2) / 5 + 1);
}

static void put_clock(char *p, uint32_t seconds)
{
    digits_put2(p, seconds / 3600);
    digits_put2(p + 3, seconds / 60 % 60);
    digits_put2(p + 6, seconds % 60);
}

void json_format_time(uint64_t unix_ns, char ret_text[JSON_TIME_SIZE])
{
    uint64_t seconds = unix_ns / NS_PER_S;
    memcpy(ret_text, "0000-00-00T00:00:00.000000000Z", JSON_TIME_SIZE);
    put_date(ret_text, (uint32_t)(seconds / S_PER_DAY));
    put_clock(ret_text + 11, (uint32_t)(seconds % S_PER_DAY));
    put_nanoseconds(ret_text + 20, (uint32_t)(unix_ns % NS_PER_S));
}

int json_put_time(struct buffer *out, uint64_t unix_ns)
{
    char text[JSON_TIME_SIZE];
    json_format_time(unix_ns, text);
    return buffer_put(out, text, sizeof text);
}

/* -------------------------------------------------------------------------------------------------------- reading */

struct time_cursor {
    const char *at, *end;
};

static bool take(struct time_cursor *c, char wanted)
{
    if (c->at == c->end || *c->at != wanted)
        return false;
    c->at++;
    return true;
}

/* Exactly `digits` digits, a number from `min` to `max`. */
static bool take_number(struct time_cursor *c, int digits, uint32_t min, uint32_t max, uint32_t *ret)
{
    uint32_t value = 0;
    for (int i = 0; i < digits; i++, c->at++) {
        if (c->at == c->end || *c->at < '0' || *c->at > '9')
            return false;
        value = value * 10 + (uint32_t)(*c->at - '0');
    }
    *ret = value;
    return value >= min && value <= max;
}

static uint32_t days_in_month(uint32_t year, uint32_t month)
{
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return month == 2 ? 28u + leap : 30u + ((month + month / 8) & 1);
}

static int64_t days_since_1970(uint32_t year, uint32_t month, uint32_t day)
{
    year -= month <= 2;
    uint32_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return (int64_t)year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - DAYS_TO_1970;
}

static bool take_date(struct time_cursor *c, int64_t *ret_days)
{
    uint32_t year, month, day;
    if (!take_number(c, 4, 1, 9999, &year) || !take(c, '-') || !take_number(c, 2, 1, 12, &month) || !take(c, '-') ||
        !take_number(c, 2, 1, days_in_month(year, month), &day))
        return false;
    *ret_days = days_since_1970(year, month, day);
    return true;
}

/* 60 is a leap second, which POSIX time counts as the next second. */
static bool take_clock(struct time_cursor *c, int64_t *ret_seconds)
{
    uint32_t hour, minute, second;
    if (!take_number(c, 2, 0, 23, &hour) || !take(c, ':') || !take_number(c, 2, 0, 59, &minute) || !take(c, ':') ||
        !take_number(c, 2, 0, 60, &second))
        return false;
    *ret_seconds = hour * 3600 + minute * 60 + second;
    return true;
}

static bool take_decimals(struct time_cursor *c, uint32_t *ret_ns)
{
    *ret_ns = 0;
    if (!take(c, '.'))
        return true;
    uint32_t weight = (uint32_t)NS_PER_S / 10, digit;
    const char *first = c->at;
    for (; weight > 0 && take_number(c, 1, 0, 9, &digit); weight /= 10)
        *ret_ns += digit * weight;
    return c->at > first;
}

static bool take_zone(struct time_cursor *c, int64_t *ret_seconds)
{
    uint32_t hour, minute;
    *ret_seconds = 0;
    if (take(c, 'Z') || take(c, 'z'))
        return true;
    bool west = take(c, '-');
    if (!west && !take(c, '+'))
        return false;
    if (!take_number(c, 2, 0, 23, &hour) || !take(c, ':') || !take_number(c, 2, 0, 59, &minute))
        return false;
    *ret_seconds = (int64_t)(hour * 3600 + minute * 60) * (west ? -1 : 1);
    return true;
}

static bool take_time(struct time_cursor *c, int64_t *ret_seconds, uint32_t *ret_ns)
{
    int64_t days, seconds, offset;
    if (!take_date(c, &days) || (!take(c, 'T') && !take(c, 't')) || !take_clock(c, &seconds) ||
        !take_decimals(c, ret_ns) || !take_zone(c, &offset) || c->at != c->end)
        return false;
    *ret_seconds = days * (int64_t)S_PER_DAY + seconds - offset;
    return true;
}

int json_parse_time(const char *text, size_t size, uint64_t *ret_unix_ns)
{
    struct time_cursor c = {text, text + size};
    int64_t seconds;
    uint32_t ns;
    int shown = size < 64 ? (int)size : 64;
    if (!take_time(&c, &seconds, &ns))
        return err_set(SPOOL_EINVAL,
                       "\"%.*s\" is not an RFC 3339 time: it must look like 2026-11-21T09:34:15.123456789Z", shown,
                       text);
    if (seconds < 0 || (uint64_t)seconds > (UINT64_MAX - ns) / NS_PER_S)
        return err_set(SPOOL_EINVAL, "\"%.*s\" is out of range: times from 1970 to 2554 can be kept", shown, text);
    *ret_unix_ns = (uint64_t)seconds * NS_PER_S + ns;
    return SPOOL_OK;
}
