/* batch.h - a unit of work for one sink: which events, not yet looked into. Light, and used again and again. */
#ifndef DELIVERY_BATCH_H
#define DELIVERY_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../spool/store.h"
#include "keys.h"
#include "op_core.h"
#include "retry.h"
#include "window.h"

/* A slot, the stripes of its keys, and what its sink names. */
enum { BATCH_NEEDS_MAX = 1 + STRIPES + SPOOL_SINK_RESOURCES_MAX };

enum batch_kind {
    BATCH_LOG,        /* events of a lane, in its order; consecutive unless its sink takes them by keys */
    BATCH_RETRY,      /* rows of the retry table */
    BATCH_CHECKPOINT, /* no events: make durable what was delivered */
    BATCH_CLOSE,      /* no events: the same, then close the state */
};

/* Consecutive events in one block, which the batch holds a reference to. */
struct batch_piece {
    struct store_block *block;
    uint32_t first, end; /* in block->events */
};

struct batch_row {
    struct retry_row *row; /* taken from the index */
    uint8_t *packed;       /* malloc'd copy; NULL: it could not be read */
    size_t size;
};

struct batch {
    struct batch *next;
    struct op_task task; /* while it is offered to the scheduler, and while it runs */
    struct sink *sink;   /* likewise */
    struct op_need needs[BATCH_NEEDS_MAX];
    uint64_t stripes; /* of its events' keys, which are this batch's alone (keys.h) */
    enum batch_kind kind;
    int lane;
    uint32_t slot; /* BATCH_CLOSE: which state */
    uint32_t count;
    uint32_t wanted;            /* of them, those that the sink gets: they pass its filter, or did when they failed */
    size_t bytes, wanted_bytes; /* in memory; each with its envelope, as a sink sees them */
    struct batch_piece *pieces; /* BATCH_LOG */
    size_t piece_count, piece_cap;
    struct window_span *spans; /* likewise: which events these are, ascending */
    size_t span_count, span_cap;
    struct batch_row *rows; /* BATCH_RETRY */
    size_t row_count, row_cap;
};

static inline struct batch *batch_of(const struct op_task *task)
{
    return (struct batch *)((char *)task - offsetof(struct batch, task));
}

/* Adds a piece, with a reference of its own to the block. ENOMEM. */
int batch_add_piece(struct batch *batch, struct store_block *block, uint32_t first, uint32_t end);
int batch_add_row(struct batch *batch, struct retry_row *row);
/* Releases blocks and copies; keeps the arrays. */
void batch_clear(struct batch *batch);
void batch_free(struct batch *batch);

#endif
