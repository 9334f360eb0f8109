/* event.h - the packed form of an event: what stands in a journal record and in a block.
 *
 * (event.c opens with the format in prose.) Packed events are 8-byte multiples and self-delimiting: their first word is
 * their size. A sequence of them is a frame (journal) or the content of a block (segment). */
#ifndef BASE_EVENT_H
#define BASE_EVENT_H

#include "../spool.h"

/* What event_measure() found out, so that packing does not look again. */
struct event_measure {
    size_t packed_size; /* a multiple of 8 */
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

/* Cheap looks at a packed event known to be whole. */
size_t event_packed_size(const uint8_t *src);
enum spool_priority event_packed_priority(const uint8_t *src);
void event_packed_id(const uint8_t *src, struct spool_id *ret_id);

/* A malloc'd deep copy; release with spool_event_free(). */
int event_copy(const struct spool_event *event, const struct spool_id *id, struct spool_event **ret);

#endif
