/* units.c - counts, sizes, times and spans as people read and write them. */
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "output.h"

static const uint64_t NS_PER_S = 1000000000, MS_PER_S = 1000;

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time); /* cannot fail for the two clocks used here */
    return (uint64_t)time.tv_sec * NS_PER_S + (uint64_t)time.tv_nsec;
}

uint64_t now_wall_ns(void)
{
    return clock_ns(CLOCK_REALTIME);
}
uint64_t now_steady_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

/* ------------------------------------------------------------------------------------------------------- writing */

char *units_count(uint64_t count, char ret[UNITS_SIZE])
{
    char digits[24];
    int size = snprintf(digits, sizeof digits, "%" PRIu64, count), at = 0;
    for (int i = 0; i < size; i++) {
        if (i && (size - i) % 3 == 0)
            ret[at++] = ',';
        ret[at++] = digits[i];
    }
    ret[at] = 0;
    return ret;
}

char *units_bytes(uint64_t bytes, char ret[UNITS_SIZE])
{
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    size_t unit = 0;
    for (; value >= 1024 && unit < sizeof names / sizeof *names - 1; unit++)
        value /= 1024;
    snprintf(ret, UNITS_SIZE, "%.*f %s", unit && value < 100 ? 1 : 0, value, names[unit]);
    return ret;
}

char *units_span(uint64_t ns, char ret[UNITS_SIZE])
{
    uint64_t s = ns / NS_PER_S;
    if (s < 1)
        snprintf(ret, UNITS_SIZE, "%" PRIu64 " ms", ns / 1000000);
    else if (s < 60)
        snprintf(ret, UNITS_SIZE, "%" PRIu64 " s", s);
    else if (s < 3600)
        snprintf(ret, UNITS_SIZE, "%" PRIu64 " min %" PRIu64 " s", s / 60, s % 60);
    else if (s < 86400)
        snprintf(ret, UNITS_SIZE, "%" PRIu64 " h %" PRIu64 " min", s / 3600, s % 3600 / 60);
    else
        snprintf(ret, UNITS_SIZE, "%" PRIu64 " d %" PRIu64 " h", s / 86400, s % 86400 / 3600);
    return ret;
}

char *units_age(uint64_t unix_ns, char ret[UNITS_SIZE])
{
    uint64_t now = now_wall_ns();
    if (unix_ns)
        return units_span(now > unix_ns ? now - unix_ns : 0, ret);
    return strcpy(ret, "-");
}

char *units_time(uint64_t unix_ns, int decimals, char ret[UNITS_SIZE])
{
    time_t seconds = (time_t)(unix_ns / NS_PER_S);
    struct tm tm;
    char fraction[16];
    gmtime_r(&seconds, &tm);
    size_t size = strftime(ret, UNITS_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(fraction, sizeof fraction, ".%09" PRIu64, unix_ns % NS_PER_S);
    snprintf(ret + size, UNITS_SIZE - size, "%.*sZ", decimals ? decimals + 1 : 0, fraction);
    return ret;
}

/* ------------------------------------------------------------------------------------------------------- reading */

bool units_parse_count(const char *text, uint64_t *ret_count)
{
    uint64_t count = 0;
    if (!*text)
        return false;
    for (; *text; text++) {
        uint64_t digit = (uint64_t)(*text - '0');
        if (!isdigit((unsigned char)*text) || __builtin_mul_overflow(count, 10, &count) ||
            __builtin_add_overflow(count, digit, &count))
            return false;
    }
    *ret_count = count;
    return true;
}

static uint64_t unit_ms(const char *name, size_t size)
{
    static const struct {
        const char *name;
        uint64_t ms;
    } units[] = {{"ms", 1},      {"s", 1000},     {"min", 60000},  {"m", 60000},
                 {"h", 3600000}, {"d", 86400000}, {"w", 604800000}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strlen(units[i].name) == size && !memcmp(units[i].name, name, size))
            return units[i].ms;
    return 0;
}

/* One number with its unit at *at; a number alone is seconds. */
static bool parse_part(const char **at, uint64_t *ret_ms)
{
    char *end;
    if (!isdigit((unsigned char)**at))
        return false;
    double number = strtod(*at, &end);
    const char *unit = end;
    while (isalpha((unsigned char)*end))
        end++;
    uint64_t ms = end == unit ? MS_PER_S : unit_ms(unit, (size_t)(end - unit));
    double product = number * (double)ms;
    if (!ms || !(product < 1e16) || (end == unit && *end)) /* 300,000 years are enough */
        return false;
    *ret_ms = (uint64_t)(product + 0.5);
    *at = end;
    return true;
}

bool units_parse_duration(const char *text, uint64_t *ret_ms)
{
    uint64_t total = 0, part;
    if (!*text)
        return false;
    for (; *text; total += part)
        if (!parse_part(&text, &part))
            return false;
    *ret_ms = total;
    return true;
}

/* "Z", "+02:00", or nothing, which is UTC too: the seconds to take off. */
static bool parse_zone(const char *text, int64_t *ret_offset)
{
    int hours, minutes, read = 0;
    *ret_offset = 0;
    if (!*text || !strcmp(text, "Z") || !strcmp(text, "z"))
        return true;
    if (sscanf(text + 1, "%2d:%2d%n", &hours, &minutes, &read) != 2 || text[1 + read] || hours > 23 || minutes > 59)
        return false;
    *ret_offset = (hours * 60 + minutes) * 60;
    if (*text == '-')
        *ret_offset = -*ret_offset;
    return *text == '+' || *text == '-';
}

/* ".123456789" at *at, if there is one. */
static uint64_t parse_fraction(const char **at)
{
    uint64_t ns = 0, scale = NS_PER_S;
    if (**at != '.' || !isdigit((unsigned char)(*at)[1]))
        return 0;
    for (++*at; isdigit((unsigned char)**at); ++*at) {
        scale /= 10;
        ns += (uint64_t)(**at - '0') * scale;
    }
    return ns;
}

static bool parse_rfc3339(const char *text, uint64_t *ret_unix_ns)
{
    struct tm tm = {0};
    const char *at = strptime(text, "%Y-%m-%d", &tm);
    int day = tm.tm_mday;
    if (at && (*at == 'T' || *at == 't' || *at == ' '))
        at = strptime(at + 1, "%H:%M:%S", &tm);
    if (!at)
        return false;
    uint64_t fraction_ns = parse_fraction(&at);
    int64_t offset, seconds = timegm(&tm);
    if (!parse_zone(at, &offset) || tm.tm_mday != day || seconds < offset) /* timegm() turns 30 February into March */
        return false;
    *ret_unix_ns = (uint64_t)(seconds - offset) * NS_PER_S + fraction_ns;
    return true;
}

static bool parse_ago(const char *text, uint64_t *ret_unix_ns)
{
    char span[UNITS_SIZE];
    size_t size = strlen(text);
    if (size > 4 && !strcmp(text + size - 4, " ago"))
        size -= 4;
    if (size >= sizeof span || !isalpha((unsigned char)text[size - 1])) /* a bare number is no time */
        return false;
    memcpy(span, text, size);
    span[size] = 0;
    uint64_t ms, now = now_wall_ns();
    if (!units_parse_duration(span, &ms))
        return false;
    *ret_unix_ns = ms < now / 1000000 ? now - ms * 1000000 : 0;
    return true;
}

bool units_parse_when(const char *text, uint64_t *ret_unix_ns)
{
    if (!strcmp(text, "now")) {
        *ret_unix_ns = now_wall_ns();
        return true;
    }
    return *text && (parse_ago(text, ret_unix_ns) || parse_rfc3339(text, ret_unix_ns));
}
