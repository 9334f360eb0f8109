/* event_read.c - packed events taken apart, checked and unpacked. (event.c has the format.) */
#include "event_format.h"

#include <string.h>

#include "error.h"
#include "id.h"
#include "utf8.h"

/* -------------------------------------------------------------------------------------------------- taking it apart */

static int damaged(const char *what)
{
    return err_set(SPOOL_EDAMAGED, "a packed event is damaged: %s", what);
}

/* The size of a text with its NUL in the packed bytes. */
static size_t text_size(uint8_t length)
{
    return length ? (size_t)length + 1 : 0;
}

static size_t head_fixed_size(const uint8_t *head)
{
    uint8_t flags = head[HEAD_FLAGS];
    return event_fixed_size(flags & EVENT_HAS_OCCURRED, flags & EVENT_HAS_TTL, flags & EVENT_HAS_PARENT,
                            flags & EVENT_HAS_TRACE);
}

size_t event_texts_size(const uint8_t head[EVENT_HEAD])
{
    return text_size(head[HEAD_TYPE]) + text_size(head[HEAD_AGENT]) + text_size(head[HEAD_SESSION]) +
           text_size(head[HEAD_CONTENT_TYPE]) + get_u16(head + HEAD_TAGS_BYTES);
}

/* What makes all later reads safe: every part ends within `size`, and that within `avail`. */
static int check_sizes(const uint8_t *src, size_t avail, struct event_parts *parts)
{
    const uint8_t *head = parts->head = src + AT_HEAD;
    if (avail < EVENT_PACKED_MIN)
        return damaged("it is cut off");
    if (head[HEAD_VERSION] != EVENT_VERSION)
        return err_set(SPOOL_EVERSION, "a packed event has format version %d, this libspool (%s) reads %d: upgrade it",
                       head[HEAD_VERSION], spool_version(), EVENT_VERSION);
    uint32_t size = get_u32(src);
    if (size > avail)
        return damaged("it is cut off");
    parts->texts_size = event_texts_size(head);
    parts->body_size = get_u32(src + AT_BODY_SIZE);
    if (event_padded_size(head_fixed_size(head), parts->texts_size, parts->body_size) != size)
        return damaged("its sizes do not add up");
    return SPOOL_OK;
}

static const uint8_t *split_number(const uint8_t *p, bool present, uint64_t *ret)
{
    *ret = present ? get_u64(p) : 0;
    return p + 8u * present;
}

/* Likewise. */
static void split_parts(const uint8_t *src, struct event_parts *parts)
{
    uint8_t flags = parts->head[HEAD_FLAGS];
    memcpy(&parts->id, src + AT_ID, sizeof parts->id);
    const uint8_t *p = split_number(src + HEADER_SIZE, flags & EVENT_HAS_OCCURRED, &parts->occurred_at_ns);
    p = split_number(p, flags & EVENT_HAS_TTL, &parts->ttl_ms);
    if (flags & EVENT_HAS_PARENT) {
        memcpy(&parts->parent, p, sizeof parts->parent);
        p += sizeof parts->parent;
    }
    parts->traceparent = (const char *)p;
    parts->texts = p + (flags & EVENT_HAS_TRACE ? EVENT_TRACE_SIZE : 0);
    parts->body = parts->texts + parts->texts_size;
}

static bool parts_are_valid(const struct event_parts *parts)
{
    uint8_t flags = parts->head[HEAD_FLAGS];
    return id_is_valid(&parts->id) && (!(flags & EVENT_HAS_OCCURRED) || parts->occurred_at_ns) &&
           (!(flags & EVENT_HAS_TTL) || parts->ttl_ms) &&
           (!(flags & EVENT_HAS_PARENT) || id_is_valid(&parts->parent)) &&
           (!(flags & EVENT_HAS_TRACE) || event_trace_is_valid(parts->traceparent));
}

int event_check_parts(const struct event_parts *parts)
{
    return parts_are_valid(parts) ? SPOOL_OK : damaged("an id, a number or the traceparent is none");
}

int event_split(const uint8_t *src, size_t avail, struct event_parts *ret)
{
    int rc = check_sizes(src, avail, ret);
    if (rc)
        return rc;
    split_parts(src, ret);
    return event_check_parts(ret);
}

/* Moves over one text; NULL if it is none. */
static const uint8_t *skip_text(const uint8_t *p, uint8_t length)
{
    if (!p || !length)
        return p;
    return p[length] == 0 && utf8_is_plain_text((const char *)p, length) ? p + length + 1 : NULL;
}

static const uint8_t *skip_content_type(const uint8_t *p, uint8_t length)
{
    if (length > SPOOL_CONTENT_TYPE_MAX)
        return NULL;
    if (p && length == sizeof EVENT_CONTENT_TYPE - 1 && !memcmp(p, EVENT_CONTENT_TYPE, length))
        return NULL; /* never spelled out */
    return skip_text(p, length);
}

static const uint8_t *skip_tags(const uint8_t *p, size_t bytes)
{
    for (size_t count = 0; p && bytes > 0; count++) {
        size_t length = strnlen((const char *)p, bytes);
        if (length == bytes || length == 0 || length > SPOOL_TAG_MAX || count == SPOOL_TAGS_MAX)
            return NULL;
        bytes -= length + 1;
        p = skip_text(p, (uint8_t)length);
    }
    return p;
}

int event_check_envelope(const uint8_t head[EVENT_HEAD], const uint8_t *texts)
{
    const uint8_t *p = head[HEAD_TYPE] ? skip_text(texts, head[HEAD_TYPE]) : NULL;
    p = skip_text(p, head[HEAD_AGENT]);
    p = skip_text(p, head[HEAD_SESSION]);
    p = skip_content_type(p, head[HEAD_CONTENT_TYPE]);
    p = skip_tags(p, get_u16(head + HEAD_TAGS_BYTES));
    if (!p)
        return damaged("a text of its envelope is none");
    if (head[HEAD_VERSION] != EVENT_VERSION || (head[HEAD_FLAGS] >> FLAG_DURABILITY_SHIFT & 3) > SPOOL_DURABLE_POWER)
        return damaged("its envelope has a version or durability that is none");
    return SPOOL_OK;
}

/* -------------------------------------------------------------------------------------------------------- unpack */

static const uint8_t *join_text(const uint8_t *p, uint8_t length, const char **ret)
{
    if (length)
        *ret = (const char *)p;
    return p + text_size(length);
}

static void join_tags(const uint8_t *p, size_t bytes, struct event_view *v)
{
    size_t count = 0;
    for (const uint8_t *end = p + bytes; p < end; p += strlen((const char *)p) + 1)
        v->tags[count++] = (const char *)p;
    v->tags[count] = NULL;
    v->event.tags = v->tags;
}

/* Returns their size. */
static size_t join_texts(const struct event_parts *parts, struct event_view *v)
{
    size_t tags_bytes = get_u16(parts->head + HEAD_TAGS_BYTES);
    const uint8_t *head = parts->head;
    const uint8_t *p = join_text(parts->texts, head[HEAD_TYPE], &v->event.type);
    p = join_text(p, head[HEAD_AGENT], &v->event.agent);
    p = join_text(p, head[HEAD_SESSION], &v->event.session);
    p = join_text(p, head[HEAD_CONTENT_TYPE], &v->event.content_type);
    if (tags_bytes)
        join_tags(p, tags_bytes, v);
    return (size_t)(p - parts->texts) + tags_bytes;
}

void event_join(const struct event_parts *parts, struct event_view *ret)
{
    uint8_t flags = parts->head[HEAD_FLAGS];
    struct event_view *v = ret;
    v->event = (struct spool_event){.size = sizeof v->event,
                                    .id = &v->id,
                                    .content_type = EVENT_CONTENT_TYPE,
                                    .priority = flags & FLAG_PRIORITY,
                                    .durability = flags >> FLAG_DURABILITY_SHIFT & 3,
                                    .body = parts->body,
                                    .body_size = parts->body_size,
                                    .occurred_at_ns = parts->occurred_at_ns,
                                    .ttl_ms = parts->ttl_ms};
    v->id = parts->id;
    if (flags & EVENT_HAS_PARENT) {
        v->parent = parts->parent;
        v->event.parent = &v->parent;
    }
    if (flags & EVENT_HAS_TRACE)
        v->event.traceparent = parts->traceparent;
    v->packed_size = event_padded_size(head_fixed_size(parts->head), join_texts(parts, v), parts->body_size);
}

static bool padding_is_zero(const uint8_t *body_end, const uint8_t *end)
{
    for (; body_end < end; body_end++)
        if (*body_end)
            return false;
    return true;
}

int event_unpack(const uint8_t *src, size_t avail, struct event_view *ret)
{
    struct event_parts parts;
    int rc = event_split(src, avail, &parts);
    if (!rc)
        rc = event_check_envelope(parts.head, parts.texts);
    if (!rc && !padding_is_zero(parts.body + parts.body_size, src + get_u32(src)))
        rc = damaged("its padding is not zero");
    if (!rc)
        event_join(&parts, ret);
    return rc;
}

size_t event_packed_size(const uint8_t *src)
{
    return get_u32(src);
}

enum spool_priority event_packed_priority(const uint8_t *src)
{
    return src[AT_HEAD + HEAD_FLAGS] & FLAG_PRIORITY;
}

void event_packed_id(const uint8_t *src, struct spool_id *ret_id)
{
    memcpy(ret_id, src + AT_ID, sizeof *ret_id);
}
