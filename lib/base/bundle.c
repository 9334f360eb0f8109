/* bundle.c - the events of a block, in either of two forms; reading them. (bundle_write.c writes.)
 *
 * A packed bundle is a row of packed events (event.c). A shared one is:
 *
 *     .       the events, one after the other
 *     .       the envelopes that they have, each once or more often
 *     .  u32  for each envelope: where it begins, an offset in the bundle
 *   -20  16   base id, a UUIDv7
 *    -4  u32  number of envelopes, 1 to the number of events
 *
 * An envelope is bytes 24 to 31 of a packed event (lengths of its texts, flags, version) and its texts: type, agent,
 * session, content type and tags. An event is
 *
 *     number  of its envelope, from 0
 *     number  size of the body
 *     id
 *     u64     occurred_at_ns   if the envelope's flags say so; likewise
 *     u64     ttl_ms
 *     id      parent
 *     56      traceparent with its NUL
 *             the body, and a NUL
 *
 * An id is a number whose two low bits say how it is to be read, the others being a difference in ticks (id.h):
 *
 *     0       that much later than the base, whose node it has; its counter is 0
 *     1       the same, and the counter follows, a number
 *     2       that much earlier, and the counter follows
 *     3       no difference; 16 bytes follow, the id as it is
 *
 * A number takes 1, 2, 4 or 8 bytes: their value as a little-endian word is four times the number, plus 0, 1, 2 or 3
 * for how many they are. It stands in as few as it needs. All other words are little-endian, too.
 *
 * A shared bundle is valid if and only if all parts add up to its size without gaps, there are as many events as its
 * block says, and what event.c says of a packed event holds for each of them. This is checked when it is opened, an
 * envelope once for all its events; from then on reading an event cannot fail, and cannot run away. Checksums are the
 * block's.
 *
 * Why: an event of type, agent and 256 bytes takes 6 to 8 bytes besides its body, 48 less than packed. The base is an
 * id of its own so that any event can be read without those before it. Envelopes stand behind the events, because a
 * writer that packs one event at a time knows them only at the end. A writer need not find an envelope again: standing
 * there twice costs space and nothing else. The worst case, everything different in each event, takes as much as packed
 * ones do, and BUNDLE_EVENT_MORE at most besides. Numbers have a size in their first byte, and not a bit in each for
 * whether there are more, because they are read in one load without a loop: that was a sixth of reading.
 *
 * A new form: number it, keep reading these, and give the block another version (spool/block.c). */
#include "bundle.h"

#include "bundle_format.h"
#include "bytes.h"
#include "error.h"

enum { EVENT_MIN = 4 }; /* three numbers and the NUL */

size_t bundle_event_min(enum bundle_form form)
{
    return form == BUNDLE_PACKED ? EVENT_PACKED_MIN : EVENT_MIN;
}

/* --------------------------------------------------------------------------------------------------- its elements */

/* By the two low bits of a number: which bits of the word are its, and what does not need so many. */
static const uint64_t number_mask[] = {0xff, 0xffff, 0xffffffff, UINT64_MAX};
static const uint64_t number_least[] = {0, 1u << 6, 1u << 14, 1u << 30};

/* All of these return what stands behind, or NULL if nothing valid stands there, also for a `p` that is NULL. Behind
 * the events there are more bytes than a number has (the footer), so that it can be loaded as one word. */
static inline const uint8_t *take_number(const uint8_t *p, const uint8_t *end, uint64_t *ret)
{
    if (!p || p >= end)
        return NULL;
    uint64_t word = get_u64(p), number = (word & number_mask[word & 3]) >> 2;
    *ret = number;
    p += (size_t)1 << (word & 3);
    return p <= end && number >= number_least[word & 3] ? p : NULL;
}

static inline const uint8_t *take_bytes(const uint8_t *p, const uint8_t *end, void *ret, size_t size)
{
    if (!p || (size_t)(end - p) < size)
        return NULL;
    memcpy(ret, p, size);
    return p + size;
}

static inline const uint8_t *take_id(const struct bundle *b, const uint8_t *p, const uint8_t *end, struct spool_id *ret)
{
    uint64_t how, counter = 0;
    p = take_number(p, end, &how);
    if (!p)
        return NULL;
    uint64_t difference = how >> ID_HOW_BITS, ticks = b->base.ticks + difference;
    how &= (1 << ID_HOW_BITS) - 1;
    if (how == ID_WHOLE)
        return difference ? NULL : take_bytes(p, end, ret, sizeof *ret);
    if (how != ID_LATER)
        p = take_number(p, end, &counter);
    if (how == ID_EARLIER_COUNTED)
        ticks = b->base.ticks - difference;
    if (ticks >> 60 || counter >> 14)
        return NULL;
    id_make((struct hlc_stamp){ticks, (uint16_t)counter}, b->node, ret);
    return p;
}

static inline const uint8_t *take_word(const uint8_t *p, const uint8_t *end, uint64_t *ret)
{
    uint64_t word = 0;
    p = take_bytes(p, end, &word, sizeof word);
    *ret = le64toh(word);
    return p;
}

static const uint8_t *take_extras(const struct bundle *b, const uint8_t *p, const uint8_t *end, uint8_t flags,
                                  struct event_parts *parts)
{
    if (flags & EVENT_HAS_OCCURRED)
        p = take_word(p, end, &parts->occurred_at_ns);
    if (flags & EVENT_HAS_TTL)
        p = take_word(p, end, &parts->ttl_ms);
    if (flags & EVENT_HAS_PARENT)
        p = take_id(b, p, end, &parts->parent);
    if (!(flags & EVENT_HAS_TRACE))
        return p;
    parts->traceparent = (const char *)p;
    return p && end - p >= EVENT_TRACE_SIZE ? p + EVENT_TRACE_SIZE : NULL;
}

/* One event, whose envelope is known to be valid. */
static inline const uint8_t *take_event(const struct bundle *b, const uint8_t *p, const uint8_t *end,
                                        struct event_parts *parts)
{
    uint64_t envelope = 0, size = 0;
    p = take_number(p, end, &envelope);
    p = take_number(p, end, &size);
    p = take_id(b, p, end, &parts->id);
    if (!p || envelope >= b->envelope_count)
        return NULL;
    parts->head = b->bytes + get_u32(b->envelopes + 4 * envelope);
    parts->texts = parts->head + EVENT_HEAD;
    parts->occurred_at_ns = parts->ttl_ms = 0;
    uint8_t flags = event_flags(parts->head);
    if (flags & EVENT_EXTRAS)
        p = take_extras(b, p, end, flags, parts);
    if (!p || size >= (size_t)(end - p))
        return NULL;
    parts->body = p;
    parts->body_size = (uint32_t)size;
    return p + size + 1;
}

/* ------------------------------------------------------------------------------------------------------------- open */

static int damaged(const char *what, uint32_t number)
{
    return err_set(SPOOL_EDAMAGED, "the events of a block are damaged: %s %u", what, number);
}

static int open_packed(const struct bundle *b, size_t size, uint32_t *at)
{
    size_t here = 0;
    for (uint32_t i = 0; i < b->count; i++) {
        size_t left = size - here, event = left >= EVENT_PACKED_MIN ? event_packed_size(b->bytes + here) : 0;
        if (event < EVENT_PACKED_MIN || event > left)
            return damaged("wrong size of event", i);
        at[i] = (uint32_t)here;
        here += event;
    }
    at[b->count] = (uint32_t)here;
    return here == size ? SPOOL_OK : damaged("bytes stand behind event", b->count - 1);
}

/* They stand without gaps in [first, end). */
static int check_envelopes(const struct bundle *b, size_t first, size_t end)
{
    size_t here = first;
    for (uint32_t i = 0; i < b->envelope_count; i++) {
        const uint8_t *head = b->bytes + here;
        if (get_u32(b->envelopes + 4 * (size_t)i) != here || end - here < EVENT_HEAD ||
            end - here - EVENT_HEAD < event_texts_size(head))
            return damaged("wrong place of envelope", i);
        int code = event_check_envelope(head, head + EVENT_HEAD);
        if (code)
            return code;
        here += EVENT_HEAD + event_texts_size(head);
    }
    return here == end ? SPOOL_OK : damaged("bytes stand behind envelope", b->envelope_count - 1);
}

/* Over an event of the usual kind: its id is no earlier than the base, and it has nothing that its envelope announces. So
 * its numbers are all there is to check. NULL: it is to be looked at closely. */
static inline const uint8_t *skip_usual(const struct bundle *b, const uint8_t *p, const uint8_t *end)
{
    uint64_t envelope = 0, size = 0, how = ID_WHOLE, counter = 0;
    p = take_number(p, end, &envelope);
    p = take_number(p, end, &size);
    p = take_number(p, end, &how);
    unsigned kind = how & ((1 << ID_HOW_BITS) - 1);
    if (!p || envelope >= b->envelope_count || kind > ID_LATER_COUNTED ||
        event_flags(b->bytes + get_u32(b->envelopes + 4 * envelope)) & EVENT_EXTRAS)
        return NULL;
    if (kind == ID_LATER_COUNTED)
        p = take_number(p, end, &counter);
    bool valid = p && (b->base.ticks + (how >> ID_HOW_BITS)) >> 60 == 0 && counter >> 14 == 0;
    return valid && size < (size_t)(end - p) ? p + size + 1 : NULL;
}

static int check_closely(const struct bundle *b, uint32_t i, const uint8_t *p, const uint8_t *end, const uint8_t **ret)
{
    struct event_parts parts;
    *ret = take_event(b, p, end, &parts);
    return *ret ? event_check_parts(&parts) : damaged("not whole: event", i);
}

static int check_events(const struct bundle *b, size_t size, uint32_t *at)
{
    const uint8_t *p = b->bytes, *end = b->bytes + size, *next;
    for (uint32_t i = 0; i < b->count; i++, p = next) {
        at[i] = (uint32_t)(p - b->bytes);
        next = skip_usual(b, p, end);
        int code = next ? SPOOL_OK : check_closely(b, i, p, end, &next);
        if (code)
            return code;
        if (next[-1] != 0)
            return damaged("no NUL behind the body of event", i);
    }
    at[b->count] = (uint32_t)size;
    return p == end ? SPOOL_OK : damaged("bytes stand behind event", b->count - 1);
}

static int open_shared(struct bundle *b, size_t size, uint32_t *at)
{
    struct spool_id base;
    if (size < BUNDLE_FOOTER)
        return damaged("too short, with a size of", (uint32_t)size);
    const uint8_t *footer = b->bytes + size - BUNDLE_FOOTER;
    b->envelope_count = get_u32(footer + sizeof base);
    if (b->envelope_count == 0 || b->envelope_count > b->count ||
        b->envelope_count > (size - BUNDLE_FOOTER) / (4 + EVENT_HEAD))
        return damaged("impossible number of envelopes,", b->envelope_count);
    b->envelopes = footer - 4 * (size_t)b->envelope_count;
    memcpy(&base, footer, sizeof base);
    b->base = id_stamp(&base);
    b->node = id_node(&base);
    size_t first = get_u32(b->envelopes), end = (size_t)(b->envelopes - b->bytes);
    if (!id_is_valid(&base) || first > end)
        return damaged("no base id, or no envelope at", (uint32_t)first);
    int code = check_envelopes(b, first, end);
    return code ? code : check_events(b, first, at);
}

int bundle_open(enum bundle_form form, const uint8_t *bytes, size_t size, uint32_t count, uint32_t *at,
                struct bundle *ret)
{
    struct bundle b = {.form = form, .count = count, .bytes = bytes, .at = at};
    if (size / bundle_event_min(form) < count || size > UINT32_MAX)
        return damaged("too short for their number,", count);
    int code = form == BUNDLE_PACKED ? open_packed(&b, size, at) : open_shared(&b, size, at);
    if (!code)
        *ret = b;
    return code;
}

/* ------------------------------------------------------------------------------------------------------------- read */

int bundle_event(const struct bundle *b, uint32_t i, struct event_view *ret)
{
    const uint8_t *p = b->bytes + b->at[i], *end = b->bytes + b->at[i + 1];
    if (b->form == BUNDLE_PACKED)
        return event_unpack(p, (size_t)(end - p), ret);
    struct event_parts parts;
    if (!take_event(b, p, end, &parts))
        return damaged("changed since the block was read: event", i);
    event_join(&parts, ret);
    return SPOOL_OK;
}

void bundle_id(const struct bundle *b, uint32_t i, struct spool_id *ret_id)
{
    const uint8_t *p = b->bytes + b->at[i], *end = b->bytes + b->at[i + 1];
    uint64_t ignored;
    if (b->form == BUNDLE_PACKED) {
        event_packed_id(p, ret_id);
        return;
    }
    p = take_number(p, end, &ignored);
    p = take_number(p, end, &ignored);
    take_id(b, p, end, ret_id);
}

size_t bundle_alone(const struct bundle *b, uint32_t i)
{
    uint64_t envelope;
    size_t size = bundle_span(b, i, i + 1);
    if (b->form == BUNDLE_PACKED || !take_number(b->bytes + b->at[i], b->bytes + b->at[i + 1], &envelope))
        return size;
    bool last = envelope + 1 == b->envelope_count;
    size_t end = last ? (size_t)(b->envelopes - b->bytes) : get_u32(b->envelopes + 4 * (envelope + 1));
    return size + end - get_u32(b->envelopes + 4 * envelope);
}
