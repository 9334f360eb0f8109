/* answers.h - what sinks answered and the store does not know yet: the content of one acknowledgement. Guarded by its
 * owner.
 *
 * A sink has three of them, so that new answers never wait for the disk:   open -> ready -> sending
 *   open      given since the last promotion
 *   ready     complete, with the cursors of that moment (and the checkpoint, where the sink has one)
 *   sending   in the acker's hands; kept and sent again when the store refuses */
#ifndef DELIVERY_ANSWERS_H
#define DELIVERY_ANSWERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../spool/store.h"
#include "window.h"

/* An event that the sink is finished with, for whoever wants to be told when it is stored. */
struct answer_note {
    struct spool_id id;
    enum spool_receipt_state state;
    uint32_t attempts;
};

struct answers {
    bool any;                            /* there is something to acknowledge */
    bool sealed;                         /* cursors and ranges are filled in */
    uint64_t upto;                       /* the sink's count of answered batches that this covers */
    uint64_t delivered[LANES], filtered; /* of the log; what comes of the retry table is counted with its row */
    struct store_drops drops;
    uint64_t cursor[LANES];
    struct store_range ranges[LANES][STORE_RANGES_MAX];
    uint32_t range_count[LANES];
    uint8_t checkpoint[SPOOL_CHECKPOINT_MAX];
    size_t checkpoint_size;
    struct store_retry_put *retries; /* their `packed` is ours */
    size_t retry_count, retry_cap;
    struct store_done *done;
    size_t done_count, done_cap;
    struct store_dead_put *dead; /* their `packed` is ours */
    size_t dead_count, dead_cap;
    size_t bytes; /* of packed copies */
    struct answer_note *notes;
    size_t note_count, note_cap;
};

/* Rows. `event` may be NULL (the row is in the store already), else it is packed, in `row->size` bytes. ENOMEM. */
int answers_retry(struct answers *a, const struct store_retry *row, const struct event_view *event);
int answers_dead(struct answers *a, const struct store_retry *row, uint64_t died_ns, const struct event_view *event);
int answers_done(struct answers *a, const struct store_done *done);
int answers_note(struct answers *a, const struct answer_note *note);

/* Moves everything of `from` behind `to`; `from` is empty then. ENOMEM leaves both as they were. */
int answers_move(struct answers *to, struct answers *from);

/* Writes the windows of this moment into it. */
void answers_seal(struct answers *a, const struct window windows[LANES]);

/* The acknowledgement as the store wants it; it points into `a`. */
void answers_ack(const struct answers *a, uint32_t sink_id, uint64_t generation, struct store_ack *ret);

size_t answers_rows(const struct answers *a);
/* Empties it but keeps its arrays for the next round. */
void answers_clear(struct answers *a);
void answers_free(struct answers *a);

#endif
