/* keys.h - batches of one sink side by side, although its events have an order: each has the keys of its events for itself.
 *
 * A key is known by its stripe, one of 64 by its hash. So a set of keys is a number, what is free is found with one
 * instruction, and a sink needs no memory per agent, of which there may be millions; the price is that agents which
 * share a stripe wait for one another as if they were one (one of 64 others, on average).
 *
 * The rule of order: an event is cut into a batch only when no batch under way has its stripe, and no event of its
 * stripe before it was left in the log. So of each stripe one batch at most is under way, and what comes next of it is
 * found in the log when that batch has been judged, whatever became of it. To the scheduler a stripe is a resource that
 * the batch needs for itself. */
#ifndef DELIVERY_KEYS_H
#define DELIVERY_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STRIPES = 64 };

/* The stripe of a key, as a set of one; of no key (0) the empty set. */
uint64_t key_stripe(uint64_t key);

/* Chooses the keys of one batch while it is cut. */
struct key_picker {
    uint64_t busy;    /* stripes of batches under way */
    uint64_t taken;   /* of this one */
    uint64_t refused; /* that others are to have */
    uint32_t seen;    /* stripes that were free */
    uint32_t share;   /* of which it gets one in so many */
    uint32_t most;    /* but no more than that */
};

/* For a sink with that many workers, of which `idle` have nothing to do, this batch's included. The free stripes are
 * shared out among the idle workers, so that neither an agent that hangs nor a long batch takes all others along. */
void key_picker_init(struct key_picker *picker, uint64_t busy, uint32_t workers, uint32_t idle);

/* Does an event of this stripe go into the batch? To be asked of events in their order. */
bool key_picker_take(struct key_picker *picker, uint64_t stripe);

/* Of which stripes the events ahead are, so that one that is passed by is unpacked only once, however often it is looked
 * at. What the log holds never changes. */
enum {
    KEY_AHEAD_MAX = 16384
}; /* events from the oldest one waiting on, among which those of free keys are looked for */
struct key_index {
    uint64_t first, end;
    uint8_t at[KEY_AHEAD_MAX]; /* by sequence number, modulo; see keys.c */
};
void key_index_put(struct key_index *index, uint64_t seq, uint64_t stripe);
bool key_index_get(const struct key_index *index, uint64_t seq, uint64_t *ret_stripe); /* false: not known */

#endif
