/* event.h - the packed form of an event: what stands in a journal record, a retry and a dead letter.
 *
 * (event.c opens with the format in prose.) Packed events are 8-byte multiples and self-delimiting: their first word is
 * their size. A sequence of them is a frame of the journal. Blocks hold many events in less space: bundle.h. */
#ifndef BASE_EVENT_H
#define BASE_EVENT_H

#include "../spool.h"

/* What event_measure() found out, so that packing does not look again. */
struct event_measure {
    size_t packed_size;                                      /* a multiple of 8 */
    uint16_t type, agent, session, content_type, tags_bytes; /* bytes with their NULs; 0: absent or default */
    uint8_t tag_count, has_trace;
};

enum { EVENT_PACKED_MIN = 40 };

/* Checks every field of the event but its durability's meaning, and measures it. SPOOL_EINVAL, SPOOL_ETYPE, SPOOL_EUTF8,
 * SPOOL_EID, SPOOL_ETOOBIG (when packed_size > packed_max). Honours event->size (an older, shorter struct; a longer one
 * with non-zero bytes behind ours is SPOOL_EOPTION). */
int event_measure(const struct spool_event *event, size_t packed_max, struct event_measure *ret);

/* Writes exactly measure->packed_size bytes at `dst` (8-byte aligned). `id` is used, not event->id. An occurred_at_ns of
 * 0 stays absent. */
void event_pack(const struct spool_event *event, const struct event_measure *measure, const struct spool_id *id,
                uint8_t *dst);

/* An unpacked event whose texts and body point into the packed bytes. Do not copy it: event.id, parent and tags point
 * into the struct itself. */
struct event_view {
    struct spool_event event;
    struct spool_id id, parent;
    const char *tags[SPOOL_TAGS_MAX + 1];
    size_t packed_size;
};

/* Reads the packed event at `src`, of which `avail` bytes may be looked at. SPOOL_EDAMAGED for anything that
 * event_pack() cannot have written, SPOOL_EVERSION for another version of the format; never reads outside. The byte
 * behind the body is a NUL. Texts are NUL-terminated inside the packed bytes; content_type is
 * "application/json" when it was left to the default. */
int event_unpack(const uint8_t *src, size_t avail, struct event_view *ret);

/* A packed event taken apart. The pointers lead into the bytes that it was read from. */
enum { EVENT_HEAD = 8, EVENT_TRACE_SIZE = 56 /* with its NUL */ };
enum { EVENT_HAS_OCCURRED = 1 << 4, EVENT_HAS_TTL = 1 << 5, EVENT_HAS_PARENT = 1 << 6, EVENT_HAS_TRACE = 1 << 7 };
enum { EVENT_EXTRAS = EVENT_HAS_OCCURRED | EVENT_HAS_TTL | EVENT_HAS_PARENT | EVENT_HAS_TRACE, EVENT_AT_FLAGS = 4 };
struct event_parts {
    const uint8_t *head;  /* EVENT_HEAD bytes: lengths of the texts, flags, version; with the texts, its envelope */
    const uint8_t *texts; /* each with its NUL */
    size_t texts_size;    /* of event_split() only */
    struct spool_id id;
    struct spool_id parent; /* if the flags say so, as the next three; numbers are 0 otherwise */
    uint64_t occurred_at_ns, ttl_ms;
    const char *traceparent;
    const uint8_t *body;
    uint32_t body_size;
};

/* Takes it apart and checks all but its envelope and the padding: as event_unpack(). */
int event_split(const uint8_t *src, size_t avail, struct event_parts *ret);
/* Checks what is not the envelope. SPOOL_EDAMAGED. */
int event_check_parts(const struct event_parts *parts);
/* Checks head and texts, of which event_texts_size() bytes are there. SPOOL_EDAMAGED. */
int event_check_envelope(const uint8_t head[EVENT_HEAD], const uint8_t *texts);
size_t event_texts_size(const uint8_t head[EVENT_HEAD]);
/* EVENT_HAS_* and others. */
static inline uint8_t event_flags(const uint8_t head[EVENT_HEAD])
{
    return head[EVENT_AT_FLAGS];
}
/* The event that these parts are, all of them checked. packed_size is what event_pack() would make of it. */
void event_join(const struct event_parts *parts, struct event_view *ret);

/* Cheap looks at a packed event known to be whole. */
size_t event_packed_size(const uint8_t *src);
enum spool_priority event_packed_priority(const uint8_t *src);
void event_packed_id(const uint8_t *src, struct spool_id *ret_id);

/* The view's event in its packed form, view->packed_size bytes; free(). ENOMEM. */
int event_repack(const struct event_view *view, uint8_t **ret);

/* A malloc'd deep copy; release with spool_event_free(). */
int event_copy(const struct spool_event *event, const struct spool_id *id, struct spool_event **ret);

#endif
