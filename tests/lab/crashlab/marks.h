/* marks.h - what scenarios say to the oracle: one struct for each kind of mark.
 *
 * Everything is numbered by the scenario, so that nothing has to be guessed from the disk: an event is a producer (one
 * thread of one process) and a number that grows by one with each event of it. Its bytes follow from the two and its
 * size, see lab_event_body(). A pair of marks stands around a call: the first before it (it may have happened from then
 * on), the second when it has returned SPOOL_OK (it must have happened). */
#ifndef CRASHLAB_MARKS_H
#define CRASHLAB_MARKS_H

#include "../../../lib/spool.h"
#include "lab.h"

enum {
    SINKS_OF_LAB_MAX = 6,  /* a scenario's */
    FRAME_EVENTS_MAX = 32, /* events of one spool_enqueue_many() */
    PROBE_PRODUCER = 9000, /* the oracle's own events */
};

enum mark_kind {
    MARK_RULES = 1, /* struct mark_rules: what this scenario allows beyond the promise */
    MARK_OPENED,    /* the spool exists: nothing. From now on it must open */
    MARK_ENQUEUE,   /* struct mark_frame: before spool_enqueue() */
    MARK_ENQUEUED,  /* struct mark_frame, with code and ids */
    MARK_FLUSH,     /* struct mark_flush: before spool_flush() */
    MARK_FLUSHED,   /* struct mark_flush */
    MARK_STAMP,     /* struct spool_id: spool_clock_now() gave it */
    MARK_SINK_ADD,  /* struct mark_sink, as all of these */
    MARK_SINK_ADDED,
    MARK_SINK_REMOVE,
    MARK_SINK_REMOVED,
    MARK_SINK_PAUSE, /* `on` says what is asked for */
    MARK_SINK_PAUSED,
    MARK_SETTLE,  /* struct mark_flush: all answers that this process gave so far are being made durable */
    MARK_SETTLED, /* … and are */
    MARK_REQUEUE, /* of dead letters: all of the sink */
    MARK_REQUEUED,
    MARK_PURGE,
    MARK_PURGED,
    MARK_ACCEPT, /* struct mark_answer: a sink is about to answer DELIVERED */
    MARK_REJECT, /* … or to make the event a dead letter */
    MARK_SAFE,   /* all so far is on the disk: the recorded part begins */
    MARK_REWIND, /* of the sink, to the oldest there is */
    MARK_REWOUND,
    MARK_MOVE, /* dead letters of the sink, all of them, go to the sink with number `on` */
    MARK_MOVED,
    MARK_LIMIT, /* `on` is the limit of what may wait, in bytes */
    MARK_LIMITED,
    MARK_DAMAGE, /* struct mark_answer without a sink: the event's bytes were destroyed on purpose */
};

struct mark_rules {
    uint32_t drops;    /* events of priority LOW may be dropped by policy */
    uint32_t damage;   /* something was damaged on purpose: quarantine/ and the counters of damage say so */
    uint32_t no_check; /* the state's numbers are not exact (it was salvaged) */
};

/* One call: events `first` to `first + count - 1` of the producer, all of the same size. */
struct mark_frame {
    uint32_t producer, first, count, size, priority, process;
    int32_t code;
    uint32_t power;
    uint32_t agents;                       /* event n is of agent n modulo this; 0: of none */
    struct spool_id ids[FRAME_EVENTS_MAX]; /* cut to `count`, and only in MARK_ENQUEUED */
};

struct mark_flush {
    uint32_t process, number;
};

struct mark_sink {
    uint32_t sink; /* its number, below SINKS_OF_LAB_MAX */
    uint32_t on;
    uint32_t order, workers;
    char name[24], kind[12];
    char config[96]; /* of kind "file", which is the library's own */
    char reason[16]; /* of a pause that the sink itself asks for: in the reason that is kept */
};

struct mark_answer {
    uint32_t sink, producer, number, process;
};

/* The bytes of an event, from `size` (at least EVENT_BODY_MIN) on its own. */
enum { EVENT_BODY_MIN = 12 };
void lab_event_body(uint32_t producer, uint32_t number, uint32_t size, uint8_t *body);
/* The reverse: which one it is, and whether all its bytes are right. */
bool lab_event_read(const struct spool_event *event, uint32_t *ret_producer, uint32_t *ret_number);

#endif
