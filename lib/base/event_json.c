/* event_json.c - the native JSON rendering of an event, as spool.h describes it. event_parse.c is the reverse. */
#include <string.h>

#include "base64.h"
#include "digits.h"
#include "id.h"
#include "json.h"
#include "json_scan.h"

#define PUT_LITERAL(out, text) buffer_put(out, text, sizeof(text) - 1)

enum { NUMBER_SIZE = 20 }; /* digits of UINT64_MAX */

enum { HLC_DIGITS = JSON_HLC_SIZE - 1, ID_DIGITS = SPOOL_ID_TEXT_SIZE - 1 };

static void put_hlc(char *p, const struct spool_id *id)
{
    struct hlc_stamp stamp = id_stamp(id);
    char ticks[16];
    digits_put_hex16(ticks, stamp.ticks);
    memcpy(p, ticks + 1, 15);
    p[15] = '.';
    put_u32((uint8_t *)p + 16, (uint32_t)(digits_hex8(stamp.counter) >> 32));
}

void json_format_hlc(const struct spool_id *id, char ret_text[JSON_HLC_SIZE])
{
    put_hlc(ret_text, id);
    ret_text[HLC_DIGITS] = 0;
}

/* What every rendering begins with is always that long: it is copied whole, and filled in. */
static const char head[] =
    "{\"id\":\"00000000-0000-0000-0000-000000000000\",\"time\":\"0000-00-00T00:00:00.000000000Z\","
    "\"hlc\":\"000000000000000.0000\"";
enum { AT_ID = 7, AT_TIME = AT_ID + ID_DIGITS + 10, AT_HLC = AT_TIME + JSON_TIME_SIZE + 9 };
_Static_assert(sizeof head - 1 == AT_HLC + HLC_DIGITS + 1, "the parts of the head are where they are filled in");

static int put_head(struct buffer *out, const struct spool_id *id)
{
    int rc = PUT_LITERAL(out, head);
    if (rc)
        return rc;
    char *p = (char *)out->data + out->size - (sizeof head - 1);
    spool_id_format(id, p + AT_ID);
    p[AT_ID + ID_DIGITS] = '"'; /* where it put the NUL */
    json_format_time(spool_id_time_ns(id), p + AT_TIME);
    put_hlc(p + AT_HLC, id);
    return 0;
}

/* `key` is the member's name with all that stands around it, a literal; an empty text is left out. */
#define PUT_TEXT(out, key, text) put_text(out, key, sizeof(key) - 1, text)
static int put_text(struct buffer *out, const char *key, size_t key_size, const char *text)
{
    if (!text || !*text)
        return 0;
    int rc = buffer_put(out, key, key_size);
    return rc ? rc : json_put_string(out, text, strlen(text));
}

static int put_parent(struct buffer *out, const struct spool_id *parent)
{
    char text[SPOOL_ID_TEXT_SIZE];
    return parent ? PUT_TEXT(out, ",\"parent\":", spool_id_format(parent, text)) : 0;
}

static int put_tags(struct buffer *out, const char *const *tags)
{
    if (!tags || !tags[0])
        return 0;
    int rc = PUT_LITERAL(out, ",\"tags\":[");
    for (size_t i = 0; !rc && tags[i]; i++) {
        if (i > 0)
            rc = PUT_LITERAL(out, ",");
        if (!rc)
            rc = json_put_string(out, tags[i], strlen(tags[i]));
    }
    return rc ? rc : PUT_LITERAL(out, "]");
}

static int put_occurred(struct buffer *out, uint64_t unix_ns)
{
    if (!unix_ns)
        return 0;
    int rc = PUT_LITERAL(out, ",\"occurred_at\":\"");
    if (!rc)
        rc = json_put_time(out, unix_ns);
    return rc ? rc : PUT_LITERAL(out, "\"");
}

static int put_ttl(struct buffer *out, uint64_t ttl_ms)
{
    char digits[NUMBER_SIZE];
    size_t at = sizeof digits;
    if (!ttl_ms)
        return 0;
    for (; ttl_ms; ttl_ms /= 10)
        digits[--at] = (char)('0' + ttl_ms % 10);
    int rc = PUT_LITERAL(out, ",\"ttl_ms\":");
    return rc ? rc : buffer_put(out, digits + at, sizeof digits - at);
}

/* The default priority and content type, which nearly all have, are literals. */
static int put_priority(struct buffer *out, enum spool_priority priority)
{
    if (priority == SPOOL_MEDIUM)
        return PUT_LITERAL(out, ",\"priority\":\"medium\"");
    return PUT_TEXT(out, ",\"priority\":", spool_priority_name(priority));
}

static bool is_plain_json(const char *content_type)
{
    return !content_type || !*content_type || strcmp(content_type, "application/json") == 0;
}

static int put_content_type(struct buffer *out, const char *content_type, bool plain_json)
{
    if (plain_json)
        return PUT_LITERAL(out, ",\"content_type\":\"application/json\"");
    return PUT_TEXT(out, ",\"content_type\":", content_type);
}

static int put_envelope(struct buffer *out, const struct spool_event *event, bool plain_json)
{
    int rc = PUT_TEXT(out, ",\"type\":", event->type);
    if (!rc)
        rc = PUT_TEXT(out, ",\"agent\":", event->agent);
    if (!rc)
        rc = PUT_TEXT(out, ",\"session\":", event->session);
    if (!rc)
        rc = put_priority(out, event->priority);
    if (!rc)
        rc = put_parent(out, event->parent);
    if (!rc)
        rc = put_tags(out, event->tags);
    if (!rc)
        rc = put_content_type(out, event->content_type, plain_json);
    if (!rc)
        rc = PUT_TEXT(out, ",\"traceparent\":", event->traceparent);
    if (!rc)
        rc = put_occurred(out, event->occurred_at_ns);
    return rc ? rc : put_ttl(out, event->ttl_ms);
}

/* The body as it is, if it is one JSON value. *ret_is_json tells; if not, nothing is written, nor is that a failure. */
static int put_inline(struct buffer *out, const void *body, size_t size, bool *ret_is_json)
{
    static const char key[] = ",\"data\":";
    struct json_cursor c;
    size_t compact = 0, key_size = sizeof key - 1;
    int rc = buffer_reserve(out, key_size + size);
    if (rc)
        return rc;
    uint8_t *dst = out->data + out->size;
    json_begin(&c, body, size);
    json_skip_space(&c);
    *ret_is_json = json_scan_compact(&c, dst + key_size, &compact) && !json_skip_space(&c);
    if (*ret_is_json) {
        memcpy(dst, key, key_size);
        out->size += key_size + compact;
    }
    return 0;
}

static int put_base64(struct buffer *out, const void *body, size_t size)
{
    int rc = PUT_LITERAL(out, ",\"data_base64\":\"");
    if (!rc)
        rc = buffer_reserve(out, base64_size(size));
    if (rc)
        return rc;
    base64_encode((char *)out->data + out->size, body, size);
    out->size += base64_size(size);
    return PUT_LITERAL(out, "\"");
}

static int put_body(struct buffer *out, const struct spool_event *event, bool plain_json)
{
    bool is_json = false;
    int rc = 0;
    if (event->body_size == 0)
        return 0;
    if (plain_json || json_is_media_type(event->content_type))
        rc = put_inline(out, event->body, event->body_size, &is_json);
    return rc || is_json ? rc : put_base64(out, event->body, event->body_size);
}

int json_put_event(struct buffer *out, const struct spool_event *event, const struct spool_id *id)
{
    enum { USUAL_ENVELOPE = 512 };
    size_t before = out->size;
    bool plain_json = is_plain_json(event->content_type);
    int rc = buffer_reserve(out, USUAL_ENVELOPE + event->body_size); /* so that it does not grow piece by piece */
    if (!rc)
        rc = put_head(out, id);
    if (!rc)
        rc = put_envelope(out, event, plain_json);
    if (!rc)
        rc = put_body(out, event, plain_json);
    if (!rc)
        rc = PUT_LITERAL(out, "}");
    if (rc)
        out->size = before;
    return rc;
}
