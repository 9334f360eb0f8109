/* json.h - a small JSON writer and scanner of our own for the hot rendering path (jansson serves configuration). */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include "buffer.h"
#include "event.h"
#include <stdbool.h>
#include <stddef.h>

/* Appends `text` as a JSON string with its quotes. Bytes that are not valid UTF-8 become U+FFFD. */
int json_put_string(struct buffer *out, const char *text, size_t size);

/* Appends the one JSON value in `text` without white space between tokens and without touching anything else (numbers
 * and escapes stay as they are). SPOOL_EJSON, and `out` as before, if it is not exactly one valid value (RFC 8259, nesting
 * at most 512, strings valid UTF-8) with optional white space around. */
int json_put_compact(struct buffer *out, const char *text, size_t size);

/* Exactly one valid value, with optional white space around. Takes no memory: so it tells a text that is wrong from one that
 * a parser had no memory for. */
bool json_is_valid(const char *text, size_t size);

/* Appends the native JSON rendering of the event (spool.h, spool_event_to_json), without a line feed. */
int json_put_event(struct buffer *out, const struct spool_event *event, const struct spool_id *id);

/* The content type is JSON: "application/json" or "…+json", with or without parameters. */
bool json_is_media_type(const char *content_type);

/* The hybrid logical clock of an id as text: 15 hexadecimal digits of ticks, a dot, 4 of the counter. Sorts as it runs. */
#define JSON_HLC_SIZE 21
void json_format_hlc(const struct spool_id *id, char ret_text[JSON_HLC_SIZE]);

/* An RFC 3339 UTC time with nanoseconds and a Z: always that long, and no NUL behind it. */
#define JSON_TIME_SIZE 30
void json_format_time(uint64_t unix_ns, char ret_text[JSON_TIME_SIZE]);
/* Appends an RFC 3339 UTC time with nanoseconds and a Z, without quotes. */
int json_put_time(struct buffer *out, uint64_t unix_ns);
/* Reads such a time (any number of decimals up to nine, Z or an offset). SPOOL_EINVAL. Public renderings use it. */
int json_parse_time(const char *text, size_t size, uint64_t *ret_unix_ns);

#endif
