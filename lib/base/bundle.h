/* bundle.h - the events of a block. (bundle.c opens with the format in prose.)
 *
 * Packed: one after the other, each on its own, as event_pack() writes it. Shared: the envelope that many of them have
 * stands there once, and ids are differences. Readers reach an event by its index, whichever it is. */
#ifndef BASE_BUNDLE_H
#define BASE_BUNDLE_H

#include "buffer.h"
#include "event.h"
#include "id.h"

enum bundle_form { BUNDLE_PACKED = 0, BUNDLE_SHARED = 1 };
/* No event of the form takes less: how many there can be, before anything was read. */
size_t bundle_event_min(enum bundle_form form);

/* ------------------------------------------------------------------------------------------------------- reading */

struct bundle {
    enum bundle_form form;
    uint32_t count;
    uint32_t envelope_count;
    const uint8_t *bytes;
    const uint8_t *envelopes; /* where each of them begins, u32 */
    const uint32_t *at;       /* where each event begins, and where the last one ends: count + 1 */
    struct hlc_stamp base;    /* what ids are differences from … */
    uint64_t node;            /* … and what most of them have in common */
};

/* Checks the bytes, which must outlive it, as must `at`, with room for count + 1 numbers. An event that is damaged
 * makes a shared bundle damaged; in a packed one it is found when it is read. SPOOL_EDAMAGED; never reads outside. */
int bundle_open(enum bundle_form form, const uint8_t *bytes, size_t size, uint32_t count, uint32_t *at,
                struct bundle *ret);

/* Event `i` below count. The view points into the bytes. SPOOL_EDAMAGED, SPOOL_EVERSION: only if packed. */
int bundle_event(const struct bundle *bundle, uint32_t i, struct event_view *ret);
void bundle_id(const struct bundle *bundle, uint32_t i, struct spool_id *ret_id);
/* What events [from, to) take; to: at most count. */
static inline size_t bundle_span(const struct bundle *bundle, uint32_t from, uint32_t to)
{
    return bundle->at[to] - bundle->at[from];
}
/* What event `i` takes with its envelope, which it may share. */
size_t bundle_alone(const struct bundle *bundle, uint32_t i);

/* ------------------------------------------------------------------------------------------------------- writing */

/* Writes shared bundles, one after the other, each behind what its buffer holds. Begins as {0}; 12 KiB. */
enum { BUNDLE_SLOTS = 1024 };
struct bundle_writer {
    struct buffer envelopes; /* of the open bundle */
    struct buffer places;    /* where in `envelopes` each begins, u32 */
    size_t begin, size;      /* of the open bundle's events: offset in the buffer, bytes */
    uint32_t last;           /* the envelope used last */
    struct spool_id base_id;
    struct hlc_stamp base;
    uint64_t node;
    uint32_t round; /* slots of another round are empty */
    struct bundle_slot {
        uint32_t round, hash, envelope;
    } slots[BUNDLE_SLOTS]; /* envelopes by their hash, as far as they are remembered */
};

/* Appends the event; the first one after bundle_end() begins a bundle. SPOOL_EDAMAGED, SPOOL_EVERSION: it is not valid,
 * and so cannot stand in a shared bundle. ENOMEM. On failure nothing has changed. */
int bundle_put(struct bundle_writer *writer, struct buffer *out, const uint8_t *packed, size_t size);
/* What the bundle would take if it ended now; 0: none was begun. */
size_t bundle_size(const struct bundle_writer *writer);
/* A packed event adds at most its size and this. */
enum { BUNDLE_EVENT_MORE = 16 };
/* Completes the bundle, for which bundle_put() has made room. */
void bundle_end(struct bundle_writer *writer, struct buffer *out);
/* Forgets the bundle that was begun. */
void bundle_drop(struct bundle_writer *writer);
void bundle_writer_free(struct bundle_writer *writer);

#endif
