/* event.c - the packed form of an event: checked, measured, written, and read back without a copy.
 *
 * Format (all numbers little-endian; offsets in bytes)
 *
 *    0  u32  size of the packed event, a multiple of 8, at least 40
 *    4  u32  size of the body
 *    8  16   id, a UUIDv7
 *   24  u8   length of the type, 1 to 255
 *   25  u8   length of the agent; 0: none
 *   26  u8   length of the session; 0: none
 *   27  u8   length of the content type, at most 127; 0: "application/json", which is never spelled out
 *   28  u8   flags: priority (bits 0-1), durability (2-3), occurred_at (4), ttl (5), parent (6), traceparent (7)
 *   29  u8   version of this format: 1
 *   30  u16  size of the tags with their NULs
 *   32       what the flags announce, in this order: u64 occurred_at_ns, u64 ttl_ms, 16 parent id, 56 traceparent + NUL
 *    .       type, agent, session, content type: those that are present, each followed by a NUL
 *    .       the tags, 1 to 127 bytes each, each followed by a NUL, at most 16
 *    .       the body
 *    .       1 to 8 zero bytes up to `size`: a body that is text is a C string where it lies
 *
 * A packed event is valid if and only if the sizes add up to `size` exactly, the version is 1, the durability is 0 to
 * 2, both ids are UUIDv7, announced numbers are not 0, the traceparent has W3C syntax, every text is UTF-8 without
 * control characters and ends where its length says, and the padding is zero. So there is one packed form of an event,
 * and reading it cannot run away whatever the bytes are. A checksum is not part of it: journal records and blocks have
 * one.
 *
 * Why lengths of one byte and texts with NULs: an event of type, agent and 256 bytes of body carries 33 bytes of
 * overhead besides its texts, and unpacking hands out pointers.
 *
 * To change the format: number it 2, write it in event_pack(), keep reading 1 in event_unpack() (choose by the byte at
 * 29, which must stay where it is, as must the first word), and raise the versions of journal and block with it, so
 * that an older library refuses the file as a whole instead of meeting events that it cannot read. */
#include "event.h"

#include <string.h>

#include "bytes.h"
#include "error.h"
#include "id.h"
#include "utf8.h"

enum {
    EVENT_VERSION = 1,
    HEADER_SIZE = 32,
    AT_BODY_SIZE = 4,
    AT_ID = 8,
    AT_TYPE = 24,
    AT_AGENT = 25,
    AT_SESSION = 26,
    AT_CONTENT_TYPE = 27,
    AT_FLAGS = 28,
    AT_VERSION = 29,
    AT_TAGS_BYTES = 30,
    TRACE_SIZE = 56, /* with its NUL */
};
enum {
    FLAG_PRIORITY = 3,
    FLAG_DURABILITY_SHIFT = 2,
    FLAG_OCCURRED = 1 << 4,
    FLAG_TTL = 1 << 5,
    FLAG_PARENT = 1 << 6,
    FLAG_TRACE = 1 << 7,
};

static const char DEFAULT_CONTENT_TYPE[] = "application/json";

/* The first release had this struct, so that no shorter one is legal. When a member is added: accept sizes from here
 * on, and read the newer members only if event->size covers them. */
_Static_assert(sizeof(struct spool_event) == offsetof(struct spool_event, ttl_ms) + sizeof(uint64_t),
               "spool_event grew: honour older, shorter ones in check_struct()");

/* ---------------------------------------------------------------------------------------------- check and measure */

static int check_struct(const struct spool_event *event)
{
    if (event->size == sizeof *event)
        return SPOOL_OK;
    if (event->size < sizeof *event)
        return err_set(SPOOL_EINVAL,
                       "spool_event.size is %zu, but must be at least %zu: initialise it with SPOOL_EVENT()",
                       event->size, sizeof *event);
    const uint8_t *bytes = (const uint8_t *)event;
    for (size_t i = sizeof *event; i < event->size; i++)
        if (bytes[i])
            return err_set(SPOOL_EOPTION, "the event uses a member that this libspool (%s) does not know: byte %zu",
                           spool_version(), i);
    return SPOOL_OK;
}

/* The size of a text with its NUL, 0 if there is none; too long a text is `long_code`. */
static int measure_text(const char *name, const char *text, size_t max, int long_code, uint16_t *ret_size)
{
    if (!text || !*text) {
        *ret_size = 0;
        return SPOOL_OK;
    }
    size_t length = strnlen(text, max + 1);
    if (length > max)
        return err_set(long_code, "the event's %s is longer than %zu bytes", name, max);
    if (!utf8_is_plain_text(text, length))
        return err_set(SPOOL_EUTF8, "the event's %s is not valid UTF-8, or holds a control character", name);
    *ret_size = (uint16_t)(length + 1);
    return SPOOL_OK;
}

static int measure_texts(const struct spool_event *event, struct event_measure *m)
{
    if (!event->type || !*event->type)
        return err_set(SPOOL_ETYPE, "the event has no type: set spool_event.type, e.g. \"log.llm_call\"");
    int rc = measure_text("type", event->type, SPOOL_TYPE_MAX, SPOOL_ETYPE, &m->type);
    if (!rc)
        rc = measure_text("agent", event->agent, SPOOL_AGENT_MAX, SPOOL_EINVAL, &m->agent);
    if (!rc)
        rc = measure_text("session", event->session, SPOOL_SESSION_MAX, SPOOL_EINVAL, &m->session);
    if (!rc)
        rc = measure_text("content type", event->content_type, SPOOL_CONTENT_TYPE_MAX, SPOOL_EINVAL, &m->content_type);
    if (m->content_type == sizeof DEFAULT_CONTENT_TYPE && !strcmp(event->content_type, DEFAULT_CONTENT_TYPE))
        m->content_type = 0;
    return rc;
}

static int measure_tags(const char *const *tags, struct event_measure *m)
{
    for (size_t i = 0; tags && tags[i]; i++) {
        if (i == SPOOL_TAGS_MAX)
            return err_set(SPOOL_EINVAL, "the event has more than %d tags", SPOOL_TAGS_MAX);
        if (!*tags[i])
            return err_set(SPOOL_EINVAL, "tag %zu of the event is empty", i + 1);
        uint16_t size = 0;
        int rc = measure_text("tag", tags[i], SPOOL_TAG_MAX, SPOOL_EINVAL, &size);
        if (rc)
            return rc;
        m->tags_bytes = (uint16_t)(m->tags_bytes + size);
        m->tag_count++;
    }
    return SPOOL_OK;
}

static bool is_lower_hex(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (!((text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f')))
            return false;
    return true;
}

static bool is_all_zero(const char *text, size_t size)
{
    return strspn(text, "0") >= size;
}

/* W3C Trace Context, version-trace-span-flags: lower-case hexadecimal, neither id all zero, version ff forbidden. */
static bool trace_is_valid(const char *t)
{
    return strnlen(t, TRACE_SIZE) == TRACE_SIZE - 1 && t[2] == '-' && t[35] == '-' && t[52] == '-' &&
           is_lower_hex(t, 2) && memcmp(t, "ff", 2) != 0 && is_lower_hex(t + 3, 32) && !is_all_zero(t + 3, 32) &&
           is_lower_hex(t + 36, 16) && !is_all_zero(t + 36, 16) && is_lower_hex(t + 53, 2);
}

static int check_trace(const char *trace, struct event_measure *m)
{
    m->has_trace = trace && *trace;
    if (m->has_trace && !trace_is_valid(trace))
        return err_set(SPOOL_EINVAL,
                       "\"%.64s\" is not a W3C traceparent: it must look like "
                       "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                       trace);
    return SPOOL_OK;
}

static int check_numbers(const struct spool_event *event)
{
    if ((unsigned)event->priority > SPOOL_LOW)
        return err_set(SPOOL_EINVAL, "%d is not a priority: see enum spool_priority", (int)event->priority);
    if ((unsigned)event->durability > SPOOL_DURABLE_POWER)
        return err_set(SPOOL_EINVAL, "%d is not a durability: see enum spool_durability", (int)event->durability);
    if (event->id && !id_is_valid(event->id))
        return err_set(SPOOL_EID, "the event's id is not a UUIDv7: leave it NULL, or give the id of the first attempt");
    if (event->parent && !id_is_valid(event->parent))
        return err_set(SPOOL_EID, "the event's parent is not a UUIDv7");
    if (!event->body && event->body_size > 0)
        return err_set(SPOOL_EINVAL, "the event's body is NULL, but its size is %zu", event->body_size);
    return SPOOL_OK;
}

static size_t fixed_size(bool occurred, bool ttl, bool parent, bool trace)
{
    return HEADER_SIZE + 8u * occurred + 8u * ttl + 16u * parent + (size_t)TRACE_SIZE * trace;
}

/* The sum that the format's validity rule is about. */
static uint64_t padded_size(size_t fixed, size_t texts, uint64_t body)
{
    return round_up(fixed + texts + body + 1, 8);
}

static int check_size(const struct spool_event *event, size_t packed_max, struct event_measure *m)
{
    size_t fixed = fixed_size(event->occurred_at_ns, event->ttl_ms, event->parent, m->has_trace);
    size_t texts = (size_t)m->type + m->agent + m->session + m->content_type + m->tags_bytes;
    uint64_t max = packed_max < UINT32_MAX ? packed_max : UINT32_MAX;
    uint64_t size = event->body_size < max ? padded_size(fixed, texts, event->body_size) : UINT64_MAX;
    if (size > max)
        return err_set(SPOOL_ETOOBIG,
                       "the event is too big: %zu bytes of body and %zu of envelope, %zu may be packed: "
                       "split it, or open the spool with a larger journal_bytes and segment_bytes",
                       event->body_size, fixed + texts, (size_t)max);
    m->packed_size = (size_t)size;
    return SPOOL_OK;
}

int event_measure(const struct spool_event *event, size_t packed_max, struct event_measure *ret)
{
    if (!event)
        return err_set(SPOOL_EINVAL, "the event is NULL");
    struct event_measure m = {0};
    int rc = check_struct(event);
    if (!rc)
        rc = measure_texts(event, &m);
    if (!rc)
        rc = check_numbers(event);
    if (!rc && event->tags)
        rc = measure_tags(event->tags, &m);
    if (!rc && event->traceparent)
        rc = check_trace(event->traceparent, &m);
    if (!rc)
        rc = check_size(event, packed_max, &m);
    if (!rc)
        *ret = m;
    return rc;
}

/* ---------------------------------------------------------------------------------------------------------- pack */

static uint8_t length_byte(uint16_t size_with_nul)
{
    return (uint8_t)(size_with_nul ? size_with_nul - 1 : 0);
}

static void pack_header(const struct spool_event *event, const struct event_measure *m, const struct spool_id *id,
                        uint8_t *dst)
{
    unsigned flags = (unsigned)event->priority | (unsigned)event->durability << FLAG_DURABILITY_SHIFT;
    flags |= event->occurred_at_ns ? FLAG_OCCURRED : 0;
    flags |= event->ttl_ms ? FLAG_TTL : 0;
    flags |= event->parent ? FLAG_PARENT : 0;
    flags |= m->has_trace ? FLAG_TRACE : 0;
    put_u32(dst, (uint32_t)m->packed_size);
    put_u32(dst + AT_BODY_SIZE, (uint32_t)event->body_size);
    memcpy(dst + AT_ID, id, sizeof *id);
    dst[AT_TYPE] = length_byte(m->type);
    dst[AT_AGENT] = length_byte(m->agent);
    dst[AT_SESSION] = length_byte(m->session);
    dst[AT_CONTENT_TYPE] = length_byte(m->content_type);
    dst[AT_FLAGS] = (uint8_t)flags;
    dst[AT_VERSION] = EVENT_VERSION;
    put_u16(dst + AT_TAGS_BYTES, m->tags_bytes);
}

static uint8_t *pack_bytes(uint8_t *p, const void *bytes, size_t size)
{
    if (size)
        memcpy(p, bytes, size);
    return p + size;
}

static uint8_t *pack_number(uint8_t *p, uint64_t number)
{
    if (!number)
        return p;
    put_u64(p, number);
    return p + 8;
}

static uint8_t *pack_tags(uint8_t *p, const char *const *tags, size_t count)
{
    for (size_t i = 0; i < count; i++)
        p = (uint8_t *)stpcpy((char *)p, tags[i]) + 1;
    return p;
}

void event_pack(const struct spool_event *event, const struct event_measure *measure, const struct spool_id *id,
                uint8_t *dst)
{
    const struct event_measure *m = measure;
    put_u64(dst + m->packed_size - 8, 0); /* the padding; what does not belong to it is overwritten below */
    pack_header(event, m, id, dst);
    uint8_t *p = pack_number(dst + HEADER_SIZE, event->occurred_at_ns);
    p = pack_number(p, event->ttl_ms);
    p = pack_bytes(p, event->parent, event->parent ? sizeof *event->parent : 0);
    p = pack_bytes(p, event->traceparent, m->has_trace ? TRACE_SIZE : 0);
    p = pack_bytes(p, event->type, m->type);
    p = pack_bytes(p, event->agent, m->agent);
    p = pack_bytes(p, event->session, m->session);
    p = pack_bytes(p, event->content_type, m->content_type);
    p = pack_tags(p, event->tags, m->tag_count);
    pack_bytes(p, event->body, event->body_size);
}

/* -------------------------------------------------------------------------------------------------------- unpack */

static int damaged(const char *what)
{
    return err_set(SPOOL_EDAMAGED, "a packed event is damaged: %s", what);
}

/* The size of a text with its NUL in the packed bytes. */
static size_t text_size(uint8_t length)
{
    return length ? (size_t)length + 1 : 0;
}

static size_t packed_fixed_size(const uint8_t *src)
{
    uint8_t flags = src[AT_FLAGS];
    return fixed_size(flags & FLAG_OCCURRED, flags & FLAG_TTL, flags & FLAG_PARENT, flags & FLAG_TRACE);
}

/* What makes all later reads safe: every part ends within `size`, and that within `avail`. */
static int check_sizes(const uint8_t *src, size_t avail)
{
    if (avail < EVENT_PACKED_MIN)
        return damaged("it is cut off");
    if (src[AT_VERSION] != EVENT_VERSION)
        return err_set(SPOOL_EVERSION, "a packed event has format version %d, this libspool (%s) reads %d: upgrade it",
                       src[AT_VERSION], spool_version(), EVENT_VERSION);
    uint32_t size = get_u32(src);
    if (size > avail)
        return damaged("it is cut off");
    size_t texts = text_size(src[AT_TYPE]) + text_size(src[AT_AGENT]) + text_size(src[AT_SESSION]) +
                   text_size(src[AT_CONTENT_TYPE]) + get_u16(src + AT_TAGS_BYTES);
    if (padded_size(packed_fixed_size(src), texts, get_u32(src + AT_BODY_SIZE)) != size)
        return damaged("its sizes do not add up");
    return SPOOL_OK;
}

static bool fixed_part_is_valid(const uint8_t *src)
{
    const uint8_t *p = src + HEADER_SIZE;
    uint8_t flags = src[AT_FLAGS];
    bool valid = id_is_valid((const struct spool_id *)(src + AT_ID)) &&
                 (flags >> FLAG_DURABILITY_SHIFT & 3) <= SPOOL_DURABLE_POWER;
    if (flags & FLAG_OCCURRED)
        valid = valid && get_u64(p) != 0, p += 8;
    if (flags & FLAG_TTL)
        valid = valid && get_u64(p) != 0, p += 8;
    if (flags & FLAG_PARENT)
        valid = valid && id_is_valid((const struct spool_id *)p), p += sizeof(struct spool_id);
    if (flags & FLAG_TRACE)
        valid = valid && trace_is_valid((const char *)p);
    return valid;
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
    if (p && length == sizeof DEFAULT_CONTENT_TYPE - 1 && !memcmp(p, DEFAULT_CONTENT_TYPE, length))
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

static bool padding_is_zero(const uint8_t *body_end, const uint8_t *end)
{
    for (; body_end < end; body_end++)
        if (*body_end)
            return false;
    return true;
}

static int check_packed(const uint8_t *src, size_t avail)
{
    int rc = check_sizes(src, avail);
    if (rc)
        return rc;
    if (!fixed_part_is_valid(src))
        return damaged("an id, a number or the traceparent is none");
    const uint8_t *p = src[AT_TYPE] ? skip_text(src + packed_fixed_size(src), src[AT_TYPE]) : NULL;
    p = skip_text(p, src[AT_AGENT]);
    p = skip_text(p, src[AT_SESSION]);
    p = skip_content_type(p, src[AT_CONTENT_TYPE]);
    p = skip_tags(p, get_u16(src + AT_TAGS_BYTES));
    if (!p)
        return damaged("a text of its envelope is none");
    if (!padding_is_zero(p + get_u32(src + AT_BODY_SIZE), src + get_u32(src)))
        return damaged("its padding is not zero");
    return SPOOL_OK;
}

static const uint8_t *unpack_text(const uint8_t *p, uint8_t length, const char **ret)
{
    if (length)
        *ret = (const char *)p;
    return p + text_size(length);
}

static const uint8_t *unpack_number(const uint8_t *p, bool present, uint64_t *ret)
{
    if (!present)
        return p;
    *ret = get_u64(p);
    return p + 8;
}

static const uint8_t *unpack_fixed(const uint8_t *src, struct event_view *v)
{
    uint8_t flags = src[AT_FLAGS];
    v->event = (struct spool_event){.size = sizeof v->event, .id = &v->id, .content_type = DEFAULT_CONTENT_TYPE};
    v->packed_size = get_u32(src);
    memcpy(&v->id, src + AT_ID, sizeof v->id);
    v->event.priority = flags & FLAG_PRIORITY;
    v->event.durability = flags >> FLAG_DURABILITY_SHIFT & 3;
    const uint8_t *p = unpack_number(src + HEADER_SIZE, flags & FLAG_OCCURRED, &v->event.occurred_at_ns);
    p = unpack_number(p, flags & FLAG_TTL, &v->event.ttl_ms);
    if (flags & FLAG_PARENT) {
        memcpy(&v->parent, p, sizeof v->parent);
        v->event.parent = &v->parent;
        p += sizeof v->parent;
    }
    return flags & FLAG_TRACE ? unpack_text(p, TRACE_SIZE - 1, &v->event.traceparent) : p;
}

static const uint8_t *unpack_tags(const uint8_t *p, size_t bytes, struct event_view *v)
{
    if (bytes == 0)
        return p;
    size_t count = 0;
    for (const uint8_t *end = p + bytes; p < end; p += strlen((const char *)p) + 1)
        v->tags[count++] = (const char *)p;
    v->tags[count] = NULL;
    v->event.tags = v->tags;
    return p;
}

int event_unpack(const uint8_t *src, size_t avail, struct event_view *ret)
{
    int rc = check_packed(src, avail);
    if (rc)
        return rc;
    struct spool_event *event = &ret->event;
    const uint8_t *p = unpack_fixed(src, ret);
    p = unpack_text(p, src[AT_TYPE], &event->type);
    p = unpack_text(p, src[AT_AGENT], &event->agent);
    p = unpack_text(p, src[AT_SESSION], &event->session);
    p = unpack_text(p, src[AT_CONTENT_TYPE], &event->content_type);
    p = unpack_tags(p, get_u16(src + AT_TAGS_BYTES), ret);
    event->body = p;
    event->body_size = get_u32(src + AT_BODY_SIZE);
    return SPOOL_OK;
}

size_t event_packed_size(const uint8_t *src)
{
    return get_u32(src);
}

enum spool_priority event_packed_priority(const uint8_t *src)
{
    return src[AT_FLAGS] & FLAG_PRIORITY;
}

void event_packed_id(const uint8_t *src, struct spool_id *ret_id)
{
    memcpy(ret_id, src + AT_ID, sizeof *ret_id);
}
