/* postgres_rows.c - see postgres_rows.h. The binary format is that of "COPY", "Binary Format" in PostgreSQL's manual.
 */
#include "postgres_rows.h"

#include <endian.h>
#include <string.h>

#include "../../lib/base/json.h"

const struct pg_column pg_columns[PG_COLUMNS] = {
    {"id", "uuid", "NOT NULL"},
    {"time", "timestamp with time zone", "NOT NULL"},
    {"type", "text", "NOT NULL"},
    {"agent", "text", ""},
    {"session", "text", ""},
    {"priority", "text", "NOT NULL"},
    {"parent", "uuid", ""},
    {"tags", "text[]", ""},
    {"content_type", "text", "NOT NULL"},
    {"traceparent", "text", ""},
    {"occurred_at", "timestamp with time zone", ""},
    {"ttl_ms", "bigint", ""},
    {"body", "jsonb", ""},
    {"body_raw", "bytea", ""},
};

enum { TEXT_OID = 25, JSONB_VERSION = 1 };
static const uint64_t EPOCH_US = 946684800000000u; /* PostgreSQL counts from 2000-01-01 */
static const uint64_t US_PER_DAY = 86400000000u;

/* --------------------------------------------------------------------------------------------------------- jsonb */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The number behind a backslash and u; -1 if that is not what stands there. */
static int unit_at(const char *p, const char *end)
{
    int unit = 0;
    if (end - p < 6 || p[0] != '\\' || p[1] != 'u')
        return -1;
    for (int i = 2; i < 6; i++)
        unit = unit * 16 + hex_digit(p[i]);
    return unit;
}

/* Of valid JSON: every escape is whole. */
static bool escapes_are_fine(const char *p, const char *end)
{
    while ((p = memchr(p, '\\', (size_t)(end - p))) != NULL) {
        int unit = unit_at(p, end);
        if (unit == 0 || (unit >= 0xdc00 && unit <= 0xdfff))
            return false;
        bool high = unit >= 0xd800 && unit <= 0xdbff;
        if (high) {
            int low = unit_at(p + 6, end);
            if (low < 0xdc00 || low > 0xdfff)
                return false;
        }
        p += high ? 12 : unit >= 0 ? 6 : 2;
    }
    return true;
}

bool rows_is_jsonb(const struct spool_event *event)
{
    const char *type = event->content_type, *body = event->body;
    if (event->body_size == 0 || (type && *type && !json_is_media_type(type)))
        return false;
    return json_is_valid(body, event->body_size) && escapes_are_fine(body, body + event->body_size);
}

/* ---------------------------------------------------------------------------------------------------------- fields */

/* Writes to memory that rows_add() has reserved. */
static uint8_t *put_32(uint8_t *p, uint32_t v)
{
    v = htobe32(v);
    memcpy(p, &v, sizeof v);
    return p + sizeof v;
}

static uint8_t *put_64(uint8_t *p, uint64_t v)
{
    v = htobe64(v);
    memcpy(p, &v, sizeof v);
    return p + sizeof v;
}

static uint8_t *put_null(uint8_t *p)
{
    return put_32(p, UINT32_MAX);
}

static uint8_t *put_bytes(uint8_t *p, const void *bytes, size_t size)
{
    p = put_32(p, (uint32_t)size);
    if (size > 0)
        memcpy(p, bytes, size);
    return p + size;
}

static uint8_t *put_text(uint8_t *p, const char *text)
{
    return text && *text ? put_bytes(p, text, strlen(text)) : put_null(p);
}

static uint8_t *put_id(uint8_t *p, const struct spool_id *id)
{
    return id ? put_bytes(p, id->bytes, sizeof id->bytes) : put_null(p);
}

static uint8_t *put_time(uint8_t *p, uint64_t unix_ns)
{
    if (unix_ns == 0)
        return put_null(p);
    return put_64(put_32(p, 8), unix_ns / 1000 - EPOCH_US);
}

static uint8_t *put_number(uint8_t *p, uint64_t number)
{
    if (number == 0)
        return put_null(p);
    return put_64(put_32(p, 8), number > INT64_MAX ? INT64_MAX : number);
}

/* An array of one dimension that begins with 1. */
static uint8_t *put_tags(uint8_t *p, const char *const *tags)
{
    if (!tags || !tags[0])
        return put_null(p);
    uint8_t *size_at = p;
    uint32_t count = 0;
    while (tags[count])
        count++;
    p = put_32(put_32(put_32(p + 4, 1), 0), TEXT_OID);
    p = put_32(put_32(p, count), 1);
    for (uint32_t i = 0; i < count; i++)
        p = put_bytes(p, tags[i], strlen(tags[i]));
    put_32(size_at, (uint32_t)(p - size_at - 4));
    return p;
}

static uint8_t *put_body(uint8_t *p, const struct spool_event *event, bool raw)
{
    if (event->body_size == 0)
        return put_null(put_null(p));
    if (raw || !rows_is_jsonb(event))
        return put_bytes(put_null(p), event->body, event->body_size);
    p = put_32(p, (uint32_t)event->body_size + 1);
    *p++ = JSONB_VERSION;
    memcpy(p, event->body, event->body_size);
    return put_null(p + event->body_size);
}

/* ------------------------------------------------------------------------------------------------------------ rows */

int rows_begin(struct buffer *out)
{
    return buffer_put(out, "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0", 19);
}

int rows_end(struct buffer *out)
{
    return buffer_put(out, "\377\377", 2);
}

/* No less than a row takes. */
static size_t room(const struct spool_event *event)
{
    size_t size =
        512 + SPOOL_TYPE_MAX + SPOOL_AGENT_MAX + SPOOL_SESSION_MAX + SPOOL_CONTENT_TYPE_MAX + event->body_size;
    return size + SPOOL_TAGS_MAX * (SPOOL_TAG_MAX + 4);
}

int rows_add(struct buffer *out, const struct spool_delivery *delivery, bool raw)
{
    const struct spool_event *event = delivery->event;
    const char *type = event->content_type;
    int err = buffer_reserve(out, room(event));
    if (err)
        return err;
    uint8_t *p = out->data + out->size;
    *p++ = 0;
    *p++ = PG_COLUMNS;
    p = put_id(p, &delivery->id);
    p = put_time(p, spool_id_time_ns(&delivery->id));
    p = put_text(p, event->type);
    p = put_text(p, event->agent);
    p = put_text(p, event->session);
    p = put_text(p, spool_priority_name(event->priority));
    p = put_id(p, event->parent);
    p = put_tags(p, event->tags);
    p = put_text(p, type && *type ? type : "application/json");
    p = put_text(p, event->traceparent);
    p = put_time(p, event->occurred_at_ns);
    p = put_number(p, event->ttl_ms);
    p = put_body(p, event, raw);
    out->size = (size_t)(p - out->data);
    return 0;
}

int64_t rows_day(const struct spool_delivery *delivery)
{
    return (int64_t)(spool_id_time_ns(&delivery->id) / 1000 / US_PER_DAY);
}
