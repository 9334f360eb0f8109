/* ledger.c - what was promised, and the bodies by which events are recognised. A body is JSON with the event's number
 * and filling derived from it, so that a wrong byte is noticed. */
#include "sweep.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ledger *ledger;

bool violation(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    if (!*ledger->violation)
        vsnprintf(ledger->violation, sizeof ledger->violation, format, list);
    va_end(list);
    return false;
}

static size_t filling(uint32_t n, size_t room)
{
    size_t size = n % 16 == 0 ? 1500 : 20 + n % 50;
    return n >= BIG_FROM ? (room > 30000 ? 30000 : room) : size;
}

size_t body_make(uint32_t n, char *buf, size_t size)
{
    int used = snprintf(buf, size, "{\"n\":%u,\"fill\":\"", n);
    size_t count = filling(n, size - (size_t)used - 3);
    for (size_t i = 0; i < count; i++)
        buf[(size_t)used + i] = (char)('a' + (n + i) % 26);
    memcpy(buf + used + count, "\"}", 3);
    return (size_t)used + count + 2;
}

bool body_number(const void *body, size_t size, uint32_t *ret_n)
{
    static _Thread_local char want[BODY_MAX];
    char head[32] = "";
    memcpy(head, body, size < sizeof head - 1 ? size : sizeof head - 1);
    if (sscanf(head, "{\"n\":%u,", ret_n) != 1 || *ret_n >= EVENTS_MAX)
        return false;
    return body_make(*ret_n, want, sizeof want) == size && memcmp(want, body, size) == 0;
}

bool line_event(const char *line, uint32_t *ret_n)
{
    size_t size = strlen(line);
    const char *body = strstr(line, "\"data\":");
    if (size < 9 || line[size - 1] != '\n' || !body)
        return false;
    return body_number(body + 7, size - 2 - (size_t)(body + 7 - line), ret_n);
}
