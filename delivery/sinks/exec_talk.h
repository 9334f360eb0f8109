/* exec_talk.h - one batch in conversation with the child: events go out as lines, answers come back as lines. */
#ifndef DELIVERY_SINKS_EXEC_TALK_H
#define DELIVERY_SINKS_EXEC_TALK_H

#include "exec_child.h"
#include "plugin.h"

enum { ANSWER_MAX = 4096 /* bytes of a line of the child's */, ANSWERS_AT_ONCE = 16 << 10 };

enum talk_end {
    TALK_DONE,      /* every event is answered */
    TALK_ENDED,     /* the child closed its output, or its input */
    TALK_SILENT,    /* no answer within the time */
    TALK_NONSENSE,  /* an answer that is none: `nonsense` has it */
    TALK_CANCELLED, /* cancel was called */
    TALK_FAILED,    /* no memory, or poll and read fail: errno in `err` */
};

struct talk {
    struct child *child;
    const struct cancel *cancel;
    uint32_t answer_timeout_ms;
    size_t window; /* events under way at most */
    struct spool_delivery *batch;
    size_t n;
    size_t sent, open; /* events sent; of those, not answered */
    size_t alone;      /* index of one that is under way, when that is the only one */
    size_t answered;
    uint32_t *by_id; /* indices, sorted by id */
    size_t expected; /* where in by_id the next answer belongs, if answers come in order */
    bool *is_answered;
    struct buffer out; /* lines not written yet, from `written` on */
    size_t written;
    bool is_full;       /* the pipe took less than it was given, last time */
    bool is_more;       /* the last read filled the room for it */
    uint64_t looked_ns; /* when the child's pace was looked at last; 0: not in this batch */
    size_t looked_at;   /* and how many were answered then */
    char in[ANSWERS_AT_ONCE];
    size_t in_size;
    char nonsense[81];
    int err;
};

/* Runs it to an end; outcomes are set as answers come. Arrays are its own: talk_free(). */
enum talk_end talk_run(struct talk *talk);
void talk_free(struct talk *talk);

#endif
