/* event_format.h - what packing and unpacking an event have in common: where things stand in it. (event.c has the
 * format in prose.) Private to event.c and event_read.c. */
#ifndef BASE_EVENT_FORMAT_H
#define BASE_EVENT_FORMAT_H

#include <stdbool.h>

#include "bytes.h"
#include "event.h"

enum {
    EVENT_VERSION = 1,
    HEADER_SIZE = 32,
    AT_BODY_SIZE = 4,
    AT_ID = 8,
    AT_HEAD = 24,
    FLAG_PRIORITY = 3,
    FLAG_DURABILITY_SHIFT = 2,
};
enum { /* in the head, bytes 24 to 31 */
       HEAD_TYPE = 0,
       HEAD_AGENT = 1,
       HEAD_SESSION = 2,
       HEAD_CONTENT_TYPE = 3,
       HEAD_FLAGS = EVENT_AT_FLAGS,
       HEAD_VERSION = 5,
       HEAD_TAGS_BYTES = 6,
};
_Static_assert(AT_HEAD + EVENT_HEAD == HEADER_SIZE, "the format is fixed");

#define EVENT_CONTENT_TYPE "application/json"

static inline size_t event_fixed_size(bool occurred, bool ttl, bool parent, bool trace)
{
    return HEADER_SIZE + 8u * occurred + 8u * ttl + 16u * parent + (size_t)EVENT_TRACE_SIZE * trace;
}

/* The sum that the format's validity rule is about. */
static inline uint64_t event_padded_size(size_t fixed, size_t texts, uint64_t body)
{
    return round_up(fixed + texts + body + 1, 8);
}

/* W3C Trace Context, version-trace-span-flags: lower-case hexadecimal, neither id all zero, version ff forbidden. */
bool event_trace_is_valid(const char *trace);

#endif
