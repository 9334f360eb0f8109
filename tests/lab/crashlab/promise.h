/* promise.h - what the library owes after the crash, worked out from the marks alone.
 *
 * For each event: must it be there? For each event and sink, the places where it may be: waiting for the sink, among
 * its dead letters, or gone because the sink accepted it. One place when a call that says so has returned; several
 * while such a call was under way. */
#ifndef CRASHLAB_PROMISE_H
#define CRASHLAB_PROMISE_H

#include "marks.h"

enum place { PLACE_WAITS = 1, PLACE_DEAD = 2, PLACE_GONE = 4 };

/* An event as one sink sees it. */
struct promise_hold {
    uint8_t may;    /* places; 0: the sink does not hold it */
    uint8_t answer; /* the place that the sink's last answer leads to; 0: none since */
    uint8_t before; /* places before a requeue or purge that is under way */
    uint8_t moving; /* 1 and the number of the sink that its dead letter is on its way to: it is at one of the two */
    uint8_t left;   /* a dead letter from before the sink was removed: 1 may, 2 must be there still */
    uint32_t answer_process;
    uint64_t answer_order; /* counts answers */
};

struct promise_event {
    struct mark_frame frame; /* of the call it came in; ids are not filled */
    uint32_t number;
    bool done, covered; /* the call returned OK; it is power-safe since */
    uint64_t done_order;
    bool damaged;
    bool loose;         /* a sink took it, or was removed: need not be in the log any more */
    bool must;          /* must be somewhere (promise_build() says so last) */
    bool was_dead;      /* a sink refused it at some time: its order is not kept */
    struct spool_id id; /* of a call that returned one */
    bool has_id;
    struct promise_hold hold[SINKS_OF_LAB_MAX];
};

struct promise_sink {
    struct mark_sink mark;
    bool known; /* it was asked for: may be there */
    bool sure;  /* it must be there */
    bool was_removed;
    bool
        moved; /* rewound, or its dead letters were requeued, purged or moved: what it counts is not one for each event */
    int paused; /* -1: either */
    char reason[16];
    int64_t limit; /* of what may wait; -1: either */
    uint64_t accepts, settled;
};

struct promise {
    struct promise_event *events;
    size_t n, cap;
    uint32_t *index; /* open addressing over producer and number; 0: free, else place + 1 */
    size_t index_size;
    struct promise_sink sinks[SINKS_OF_LAB_MAX];
    bool opened; /* it must open */
    struct mark_rules rules;
    struct spool_id newest; /* the next id must be greater */
};

/* 0 or ENOMEM. */
int promise_build(const struct lab_mark *marks, size_t n, enum lab_crash crash, struct promise *ret);
void promise_free(struct promise *promise);
struct promise_event *promise_find(const struct promise *promise, uint32_t producer, uint32_t number);

#endif
