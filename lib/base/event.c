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
 * overhead besides its texts, and unpacking hands out pointers. Journals, retries and dead letters hold events in this
 * form; blocks hold them in less space (bundle.c), where bytes 24 to 31 and the texts stand once for many.
 *
 * To change the format: number it 2, write it in event_pack(), keep reading 1 in event_unpack() (choose by the byte at
 * 29, which must stay where it is, as must the first word), and raise the versions of journal and block with it, so
 * that an older library refuses the file as a whole instead of meeting events that it cannot read. */
#include "event_format.h"

#include <string.h>

#include "error.h"
#include "id.h"
#include "utf8.h"

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
    if (m->content_type == sizeof EVENT_CONTENT_TYPE && !strcmp(event->content_type, EVENT_CONTENT_TYPE))
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
bool event_trace_is_valid(const char *t)
{
    return strnlen(t, EVENT_TRACE_SIZE) == EVENT_TRACE_SIZE - 1 && t[2] == '-' && t[35] == '-' && t[52] == '-' &&
           is_lower_hex(t, 2) && memcmp(t, "ff", 2) != 0 && is_lower_hex(t + 3, 32) && !is_all_zero(t + 3, 32) &&
           is_lower_hex(t + 36, 16) && !is_all_zero(t + 36, 16) && is_lower_hex(t + 53, 2);
}

static int check_trace(const char *trace, struct event_measure *m)
{
    m->has_trace = trace && *trace;
    if (m->has_trace && !event_trace_is_valid(trace))
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

static int check_size(const struct spool_event *event, size_t packed_max, struct event_measure *m)
{
    size_t fixed = event_fixed_size(event->occurred_at_ns, event->ttl_ms, event->parent, m->has_trace);
    size_t texts = (size_t)m->type + m->agent + m->session + m->content_type + m->tags_bytes;
    uint64_t max = packed_max < UINT32_MAX ? packed_max : UINT32_MAX;
    uint64_t size = event->body_size < max ? event_padded_size(fixed, texts, event->body_size) : UINT64_MAX;
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
    flags |= event->occurred_at_ns ? EVENT_HAS_OCCURRED : 0;
    flags |= event->ttl_ms ? EVENT_HAS_TTL : 0;
    flags |= event->parent ? EVENT_HAS_PARENT : 0;
    flags |= m->has_trace ? EVENT_HAS_TRACE : 0;
    put_u32(dst, (uint32_t)m->packed_size);
    put_u32(dst + AT_BODY_SIZE, (uint32_t)event->body_size);
    memcpy(dst + AT_ID, id, sizeof *id);
    uint8_t *head = dst + AT_HEAD;
    head[HEAD_TYPE] = length_byte(m->type);
    head[HEAD_AGENT] = length_byte(m->agent);
    head[HEAD_SESSION] = length_byte(m->session);
    head[HEAD_CONTENT_TYPE] = length_byte(m->content_type);
    head[HEAD_FLAGS] = (uint8_t)flags;
    head[HEAD_VERSION] = EVENT_VERSION;
    put_u16(head + HEAD_TAGS_BYTES, m->tags_bytes);
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
    p = pack_bytes(p, event->traceparent, m->has_trace ? EVENT_TRACE_SIZE : 0);
    p = pack_bytes(p, event->type, m->type);
    p = pack_bytes(p, event->agent, m->agent);
    p = pack_bytes(p, event->session, m->session);
    p = pack_bytes(p, event->content_type, m->content_type);
    p = pack_tags(p, event->tags, m->tag_count);
    pack_bytes(p, event->body, event->body_size);
}
