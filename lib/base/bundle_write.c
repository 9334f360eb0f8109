/* bundle_write.c - shared bundles, one event at a time. (bundle.c has the format.)
 *
 * Nearly always an event has the envelope of the one before it: that is compared first. Otherwise it is looked for in a
 * table of hashes, in four places at most, and where others have taken these one is forgotten. So the cost of an event
 * does not depend on how many envelopes there are; one that was forgotten stands in the bundle twice. */
#include "bundle.h"
#include "bundle_format.h"
#include "bytes.h"
#include "crc32c.h"

enum {
    PROBES = 4,
    ID_MAX = 1 + sizeof(struct spool_id),
    EXTRAS_MAX = 8 + 8 + ID_MAX + EVENT_TRACE_SIZE,
    EVENT_MAX = 2 * NUMBER_MAX + ID_MAX + EXTRAS_MAX + NUMBER_MAX, /* besides the body; a number is stored as a word */
};

/* --------------------------------------------------------------------------------------------------- its elements */

/* Always stores a word, of which what follows leaves as much as the number takes. */
static inline uint8_t *put_number(uint8_t *p, uint64_t number)
{
    unsigned sort = number < 1u << 6 ? 0 : number < 1u << 14 ? 1 : number < 1u << 30 ? 2 : 3;
    put_u64(p, number << 2 | sort);
    return p + (1u << sort);
}

static uint8_t *put_bytes(uint8_t *p, const void *bytes, size_t size)
{
    memcpy(p, bytes, size);
    return p + size;
}

static inline uint8_t *put_id(const struct bundle_writer *w, uint8_t *p, const struct spool_id *id)
{
    struct hlc_stamp stamp = id_stamp(id);
    uint64_t later = stamp.ticks - w->base.ticks;
    if (id_node(id) != w->node)
        return put_bytes(put_number(p, ID_WHOLE), id, sizeof *id);
    if (stamp.ticks < w->base.ticks)
        return put_number(put_number(p, -later << ID_HOW_BITS | ID_EARLIER_COUNTED), stamp.counter);
    if (stamp.counter == 0)
        return put_number(p, later << ID_HOW_BITS | ID_LATER);
    return put_number(put_number(p, later << ID_HOW_BITS | ID_LATER_COUNTED), stamp.counter);
}

static uint8_t *put_extras(const struct bundle_writer *w, uint8_t *p, const struct event_parts *parts)
{
    uint8_t flags = event_flags(parts->head);
    if (flags & EVENT_HAS_OCCURRED)
        put_u64(p, parts->occurred_at_ns), p += 8;
    if (flags & EVENT_HAS_TTL)
        put_u64(p, parts->ttl_ms), p += 8;
    if (flags & EVENT_HAS_PARENT)
        p = put_id(w, p, &parts->parent);
    if (flags & EVENT_HAS_TRACE)
        p = put_bytes(p, parts->traceparent, EVENT_TRACE_SIZE);
    return p;
}

/* --------------------------------------------------------------------------------------------------------- envelopes */

static uint32_t envelope_count(const struct bundle_writer *w)
{
    return (uint32_t)(w->places.size / 4);
}

static bool is_envelope(const struct bundle_writer *w, uint32_t number, const struct event_parts *parts)
{
    const uint8_t *at = w->envelopes.data + get_u32(w->places.data + 4 * (size_t)number);
    return get_u64(at) == get_u64(parts->head) && memcmp(at + EVENT_HEAD, parts->texts, parts->texts_size) == 0;
}

static int add_envelope(struct bundle_writer *w, const struct event_parts *parts)
{
    uint8_t place[4];
    int code = event_check_envelope(parts->head, parts->texts);
    if (!code)
        code = buffer_reserve(&w->envelopes, EVENT_HEAD + parts->texts_size);
    if (!code)
        code = buffer_reserve(&w->places, sizeof place);
    if (code)
        return code;
    put_u32(place, (uint32_t)w->envelopes.size);
    buffer_put(&w->places, place, sizeof place); /* there is room for all of them */
    buffer_put(&w->envelopes, parts->head, EVENT_HEAD);
    return buffer_put(&w->envelopes, parts->texts, parts->texts_size);
}

/* The slot that remembers such an envelope, or the one that is to. */
static struct bundle_slot *find_slot(struct bundle_writer *w, const struct event_parts *parts, uint32_t hash)
{
    for (uint32_t i = 0; i < PROBES; i++) {
        struct bundle_slot *slot = &w->slots[(hash + i) % BUNDLE_SLOTS];
        if (slot->round != w->round || (slot->hash == hash && is_envelope(w, slot->envelope, parts)))
            return slot;
    }
    return &w->slots[hash % BUNDLE_SLOTS];
}

static int find_envelope(struct bundle_writer *w, const struct event_parts *parts, uint32_t *ret)
{
    if (envelope_count(w) && is_envelope(w, w->last, parts)) {
        *ret = w->last;
        return SPOOL_OK;
    }
    uint32_t hash = crc32c(crc32c(0, parts->head, EVENT_HEAD), parts->texts, parts->texts_size);
    struct bundle_slot *slot = find_slot(w, parts, hash);
    if (slot->round != w->round || slot->hash != hash || !is_envelope(w, slot->envelope, parts)) {
        uint32_t number = envelope_count(w);
        int code = add_envelope(w, parts);
        if (code)
            return code;
        *slot = (struct bundle_slot){w->round, hash, number};
    }
    *ret = slot->envelope;
    return SPOOL_OK;
}

/* ----------------------------------------------------------------------------------------------------------- bundles */

size_t bundle_size(const struct bundle_writer *w)
{
    return w->size ? w->size + w->envelopes.size + w->places.size + BUNDLE_FOOTER : 0;
}

void bundle_drop(struct bundle_writer *w)
{
    w->envelopes.size = w->places.size = w->size = 0;
}

static void begin(struct bundle_writer *w, const struct buffer *out, const struct spool_id *id)
{
    bundle_drop(w);
    w->begin = out->size;
    w->base_id = *id;
    w->base = id_stamp(id);
    w->node = id_node(id);
    if (++w->round == 0) { /* after so many bundles an old slot would be taken for one of this */
        memset(w->slots, 0, sizeof w->slots);
        w->round = 1;
    }
}

/* Room for the event and for the rest of the bundle with it. */
static int make_room(struct bundle_writer *w, struct buffer *out, const struct event_parts *parts)
{
    size_t most = EVENT_MAX + (size_t)parts->body_size + BUNDLE_FOOTER;
    most += w->envelopes.size + EVENT_HEAD + parts->texts_size + w->places.size + 4;
    return most <= out->cap - out->size ? SPOOL_OK : buffer_reserve(out, most);
}

static void put_event(struct bundle_writer *w, struct buffer *out, const struct event_parts *parts, uint32_t envelope)
{
    uint8_t *begin = out->data + out->size, *p = put_number(begin, envelope);
    p = put_number(p, parts->body_size);
    p = put_id(w, p, &parts->id);
    if (event_flags(parts->head) & EVENT_EXTRAS)
        p = put_extras(w, p, parts);
    p = put_bytes(p, parts->body, parts->body_size);
    *p++ = 0;
    out->size += (size_t)(p - begin);
    w->size += (size_t)(p - begin);
}

int bundle_put(struct bundle_writer *w, struct buffer *out, const uint8_t *packed, size_t size)
{
    struct event_parts parts;
    uint32_t envelope;
    int code = event_split(packed, size, &parts);
    if (code)
        return code;
    if (!w->size)
        begin(w, out, &parts.id);
    code = make_room(w, out, &parts);
    if (!code)
        code = find_envelope(w, &parts, &envelope);
    if (code)
        return code;
    w->last = envelope;
    put_event(w, out, &parts, envelope);
    return SPOOL_OK;
}

void bundle_end(struct bundle_writer *w, struct buffer *out)
{
    uint8_t *p = out->data + out->size, count[4];
    if (!w->size)
        return;
    put_u32(count, envelope_count(w));
    p = put_bytes(p, w->envelopes.data, w->envelopes.size);
    for (size_t i = 0; i < w->places.size; i += 4, p += 4)
        put_u32(p, (uint32_t)w->size + get_u32(w->places.data + i));
    p = put_bytes(p, &w->base_id, sizeof w->base_id);
    p = put_bytes(p, count, sizeof count);
    out->size = (size_t)(p - out->data);
    bundle_drop(w);
}

void bundle_writer_free(struct bundle_writer *w)
{
    buffer_free(&w->envelopes);
    buffer_free(&w->places);
}
