/* retry.h - a sink's retry rows in memory: by place, by due time and by ordering key. The events stay in the store.
 * Guarded by its owner.
 *
 * A row is due-able when it is stored (the acknowledgement with its last change is on disk), not taken, not over, and
 * the first of its key in its lane. Rows that are over stay until that is acknowledged too, so that a look at the
 * store's table never takes them for new ones. */
#ifndef DELIVERY_RETRY_H
#define DELIVERY_RETRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../spool/store.h"

#define RETRY_NOWHERE SIZE_MAX

struct retry_row {
    int lane;
    uint64_t seq;
    struct spool_id id;
    uint32_t attempts; /* failed so far */
    uint64_t first_ns; /* wall clock */
    uint64_t due_ns;   /* monotonic clock, so that a step of the wall clock neither delays nor hastens it */
    uint32_t size;     /* packed bytes */
    uint64_t key;      /* 0: no order */
    bool stored, taken, over;
    size_t heap_at;                        /* position in the heap, or RETRY_NOWHERE */
    struct retry_row *next;                /* in the table's bucket */
    struct retry_row *key_prev, *key_next; /* rows of one bucket of keys, ascending by sequence number */
};

struct retry_chain {
    struct retry_row *head, *tail;
};

struct retry_heap {
    struct retry_row **rows;
    size_t count, cap;
};

struct retry_index {
    struct retry_row **table; /* by lane and sequence number; `buckets` of them */
    struct retry_chain *keys; /* by lane and key; `buckets` of them */
    size_t buckets;
    size_t rows, live;            /* all; those not over */
    size_t live_in[LANES];        /* of these by lane */
    uint64_t live_bytes;          /* packed bytes of the live ones */
    struct retry_heap due[LANES]; /* due-able rows, the earliest first */
};

void retry_free(struct retry_index *index);

/* Adds a copy. SPOOL_EEXISTS if the place is taken, ENOMEM. */
int retry_add(struct retry_index *index, const struct retry_row *row, struct retry_row **ret);
struct retry_row *retry_find(const struct retry_index *index, int lane, uint64_t seq);

/* Is there a live row of this key (not 0) in the lane? */
bool retry_has_key(const struct retry_index *index, int lane, uint64_t key);

/* Takes the first row of the lane that is due at `now_ns`, or NULL. */
struct retry_row *retry_take(struct retry_index *index, int lane, uint64_t now_ns);
/* Takes the next live row of the same key behind `row`, which is taken, if it is stored and due, and neither was tried
 * before; or NULL. (One that failed goes alone, so that it costs those behind it no attempts.) */
struct retry_row *retry_take_successor(struct retry_index *index, const struct retry_row *row, uint64_t now_ns);
/* When the first one is due: UINT64_MAX if none is. */
uint64_t retry_due(const struct retry_index *index, int lane);

/* Ends retry_take(): it was not tried; it is to be tried again later, once stored; it is over, once stored. */
void retry_untake(struct retry_index *index, struct retry_row *row);
void retry_again(struct retry_index *index, struct retry_row *row, uint64_t due_ns);
void retry_over(struct retry_index *index, struct retry_row *row);

/* The last change of this row is on disk now. Frees it if it is over. */
void retry_stored(struct retry_index *index, struct retry_row *row);

#endif
