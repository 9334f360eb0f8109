/* window.h - what of one lane a sink has taken and finished: a cursor and, beyond it, ranges. Guarded by its owner.
 *
 *   cursor        first event that is not finished
 *   ranges        ascending and disjoint, beyond the cursor: in flight or finished out of order
 *   gap           an event beyond the cursor in no range: it is still to be taken
 *
 * Putting events back (the sink was down) only removes their range: the gap is found and taken again, in order. Thus
 * one rule serves the first delivery, the one after an outage and the one after a restart with stored ranges. */
#ifndef DELIVERY_WINDOW_H
#define DELIVERY_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../spool/store.h"

struct window_range {
    uint64_t first, end; /* [first, end) */
    bool finished;       /* else in flight */
};

struct window {
    uint64_t cursor;
    struct window_range *ranges, *spare; /* those behind a change are made in `spare` */
    size_t count, cap, spare_cap;
};

struct window_span {
    uint64_t first, end; /* [first, end) */
};
enum window_state { WINDOW_GAP, WINDOW_TAKEN, WINDOW_FINISHED };

/* Starts over at a stored cursor with stored finished ranges. ENOMEM. */
int window_load(struct window *w, uint64_t cursor, const struct store_range *ranges, size_t count);
void window_free(struct window *w);

/* The first gap: *ret_first, and in *ret_end where it ends at the latest (UINT64_MAX: it is open). */
void window_gap(const struct window *w, uint64_t *ret_first, uint64_t *ret_end);

/* The gaps of [first, end), ascending, at most `cap`; their number. */
size_t window_gaps(const struct window *w, uint64_t first, uint64_t end, struct window_span *ret, size_t cap);

/* Marks spans, which are ascending and disjoint, as in flight (then they lie in gaps), finished or gaps again, in one pass
 * over the ranges; the cursor moves when it can. ENOMEM changes nothing. */
int window_set(struct window *w, const struct window_span *spans, size_t n, enum window_state state);
/* The same for [first, end) alone. */
int window_take(struct window *w, uint64_t first, uint64_t end);
int window_finish(struct window *w, uint64_t first, uint64_t end);
int window_return(struct window *w, uint64_t first, uint64_t end);

/* The first ranges finished beyond the cursor, at most `cap`; their number. */
size_t window_finished(const struct window *w, struct store_range *ret, size_t cap);
/* Events finished beyond the cursor. */
uint64_t window_finished_events(const struct window *w);

#endif
