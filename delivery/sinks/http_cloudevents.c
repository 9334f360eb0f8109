/* http_cloudevents.c - see http_cloudevents.h. Both renderings go through one list of attributes. */
#include "http_cloudevents.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "../../lib/base/base64.h"
#include "../../lib/base/json.h"
#include "../../lib/base/json_scan.h"
#include "../../lib/base/utf8.h"

enum { ATTRIBUTES_MAX = 14 };

/* The attributes of one event as texts; `text` holds those that are made, as offsets, since it may move. */
struct attributes {
    struct {
        const char *name, *value; /* value NULL: made, at `offset` */
        size_t offset;
    } items[ATTRIBUTES_MAX];
    size_t count;
    struct buffer *text;
    int code;
};

static void add(struct attributes *a, const char *name, const char *value)
{
    if (!value || !*value)
        return;
    a->items[a->count].name = name;
    a->items[a->count++].value = value;
}

/* Ends a text that was written from `offset` on, and adds it. */
static void add_made(struct attributes *a, const char *name, size_t offset)
{
    if (a->code == SPOOL_OK)
        a->code = buffer_put(a->text, "", 1);
    a->items[a->count].name = name;
    a->items[a->count].value = NULL;
    a->items[a->count++].offset = offset;
}

static void add_time(struct attributes *a, const char *name, uint64_t unix_ns)
{
    size_t offset = a->text->size;
    if (a->code == SPOOL_OK)
        a->code = json_put_time(a->text, unix_ns);
    add_made(a, name, offset);
}

static void add_id(struct attributes *a, const char *name, const struct spool_id *id)
{
    char text[SPOOL_ID_TEXT_SIZE];
    size_t offset = a->text->size;
    if (a->code == SPOOL_OK)
        a->code = buffer_put_text(a->text, spool_id_format(id, text));
    add_made(a, name, offset);
}

static void add_sequence(struct attributes *a, const struct spool_id *id)
{
    char text[JSON_HLC_SIZE];
    size_t offset = a->text->size;
    json_format_hlc(id, text);
    if (a->code == SPOOL_OK)
        a->code = buffer_put(a->text, text, JSON_HLC_SIZE - 1);
    add_made(a, "sequence", offset);
}

static int put_tag(struct buffer *out, const char *tag)
{
    int code = SPOOL_OK;
    for (; *tag && code == SPOOL_OK; tag++)
        code = *tag == ','   ? buffer_put(out, "%2C", 3)
               : *tag == '%' ? buffer_put(out, "%25", 3)
                             : buffer_put(out, tag, 1);
    return code;
}

static void add_tags(struct attributes *a, const char *const *tags)
{
    size_t offset = a->text->size;
    if (!tags || !tags[0])
        return;
    for (size_t i = 0; tags[i] && a->code == SPOOL_OK; i++) {
        if (i > 0)
            a->code = buffer_put(a->text, ",", 1);
        if (a->code == SPOOL_OK)
            a->code = put_tag(a->text, tags[i]);
    }
    add_made(a, "tags", offset);
}

/* All but source and datacontenttype, which the renderings treat differently. */
static int collect(struct attributes *a, const struct spool_event *event, const struct spool_id *id)
{
    uint64_t recorded_ns = spool_id_time_ns(id);
    a->text->size = 0;
    add(a, "specversion", "1.0");
    add_id(a, "id", id);
    add(a, "type", event->type);
    add_time(a, "time", event->occurred_at_ns ? event->occurred_at_ns : recorded_ns);
    add(a, "agent", event->agent);
    add(a, "session", event->session);
    add(a, "priority", spool_priority_name(event->priority));
    if (event->parent)
        add_id(a, "parent", event->parent);
    add_tags(a, event->tags);
    add_sequence(a, id);
    if (event->occurred_at_ns)
        add_time(a, "recordedtime", recorded_ns);
    add(a, "traceparent", event->traceparent);
    return a->code;
}

static const char *value_of(const struct attributes *a, size_t i)
{
    return a->items[i].value ? a->items[i].value : (const char *)a->text->data + a->items[i].offset;
}

/* ------------------------------------------------------------------------------------------------------------- JSON */

static const char *content_type_of(const struct spool_event *event)
{
    return event->content_type && *event->content_type ? event->content_type : "application/json";
}

static bool is_utf8(const char *text, size_t size)
{
    const uint8_t *p = (const uint8_t *)text;
    for (size_t n; size > 0; p += n, size -= n)
        if ((n = utf8_sequence(p, size)) == 0)
            return false;
    return true;
}

static int put_base64(struct buffer *out, const void *bytes, size_t size)
{
    int code = buffer_put_text(out, ",\"data_base64\":\"");
    if (code == SPOOL_OK)
        code = buffer_reserve(out, base64_size(size) + 1);
    if (code != SPOOL_OK)
        return code;
    base64_encode((char *)out->data + out->size, bytes, size);
    out->size += base64_size(size);
    return buffer_put(out, "\"", 1);
}

static int put_data(struct buffer *out, const struct spool_event *event)
{
    const char *type = content_type_of(event);
    size_t before = out->size;
    if (event->body_size == 0)
        return SPOOL_OK;
    if (strncasecmp(type, "text/", 5) == 0 && is_utf8(event->body, event->body_size)) {
        int code = buffer_put_text(out, ",\"data\":");
        return code == SPOOL_OK ? json_put_string(out, event->body, event->body_size) : code;
    }
    if (json_is_media_type(type)) {
        int code = buffer_put_text(out, ",\"data\":");
        if (code == SPOOL_OK)
            code = json_put_compact(out, event->body, event->body_size);
        if (code != SPOOL_EJSON)
            return code;
        out->size = before;
    }
    return put_base64(out, event->body, event->body_size);
}

static int put_member(struct buffer *out, const char *before, const char *name, const char *value)
{
    int code = buffer_put_text(out, before);
    if (code == SPOOL_OK)
        code = buffer_put_text(out, name);
    if (code == SPOOL_OK)
        code = buffer_put(out, "\":", 2);
    return code == SPOOL_OK ? json_put_string(out, value, strlen(value)) : code;
}

static int put_object(struct buffer *out, const struct attributes *a, const struct spool_event *event,
                      const char *source_json)
{
    int code = SPOOL_OK;
    for (size_t i = 0; i < a->count && code == SPOOL_OK; i++)
        code = put_member(out, i == 0 ? "{\"" : ",\"", a->items[i].name, value_of(a, i));
    if (code == SPOOL_OK)
        code = buffer_put_text(out, ",\"source\":");
    if (code == SPOOL_OK)
        code = buffer_put_text(out, source_json);
    if (code == SPOOL_OK && event->body_size > 0)
        code = put_member(out, ",\"", "datacontenttype", content_type_of(event));
    if (code == SPOOL_OK)
        code = put_data(out, event);
    return code == SPOOL_OK ? buffer_put(out, "}", 1) : code;
}

int cloudevents_put(struct buffer *out, const struct spool_event *event, const struct spool_id *id,
                    const char *source_json, struct buffer *scratch)
{
    size_t before = out->size;
    struct attributes a = {.text = scratch};
    int code = collect(&a, event, id);
    if (code == SPOOL_OK)
        code = put_object(out, &a, event, source_json);
    if (code != SPOOL_OK)
        out->size = before;
    return code;
}

/* ---------------------------------------------------------------------------------------------------------- headers */

/* Space, quotes, percent signs and all that is not printable ASCII become %XX of their UTF-8 bytes (HTTP protocol
 * binding, 3.1.3.2): what remains cannot end the header. */
static int put_encoded(struct buffer *out, const char *value)
{
    static const char digits[] = "0123456789ABCDEF";
    int code = SPOOL_OK;
    for (const unsigned char *p = (const unsigned char *)value; *p && code == SPOOL_OK; p++) {
        const char encoded[] = {'%', digits[*p >> 4], digits[*p & 15]};
        bool plain = *p > ' ' && *p < 0x7f && *p != '"' && *p != '%';
        code = plain ? buffer_put(out, p, 1) : buffer_put(out, encoded, sizeof encoded);
    }
    return code == SPOOL_OK ? buffer_put(out, "", 1) : code;
}

int cloudevents_headers(const struct spool_event *event, const struct spool_id *id, const char *source,
                        struct buffer *scratch, void (*put)(void *user, const char *name, const char *value),
                        void *user)
{
    struct buffer text = {0};
    struct attributes a = {.text = &text};
    int code = collect(&a, event, id);
    add(&a, "source", source);
    for (size_t i = 0; i < a.count && code == SPOOL_OK; i++) {
        char name[32] = "ce-";
        strncat(name, a.items[i].name, sizeof name - 4);
        scratch->size = 0;
        code = put_encoded(scratch, value_of(&a, i));
        if (code == SPOOL_OK)
            put(user, name, (const char *)scratch->data);
    }
    buffer_free(&text);
    return code;
}
