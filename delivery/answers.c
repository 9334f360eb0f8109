/* answers.c - three growing arrays of rows. Only failures make rows: a batch that was delivered is a cursor and a
 * count. */
#include "answers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/base/error.h"

/* Makes room for `more` elements of `size` bytes. */
static int answers_grow(void **array, size_t count, size_t more, size_t *cap, size_t size)
{
    if (count + more <= *cap)
        return SPOOL_OK;
    size_t want = *cap ? *cap * 2 : 16;
    while (want < count + more)
        want *= 2;
    void *grown = realloc(*array, want * size);
    if (!grown)
        return err_errno(ENOMEM, "answers of a sink");
    *array = grown;
    *cap = want;
    return SPOOL_OK;
}

static int pack(struct answers *a, const struct event_view *event, const uint8_t **ret)
{
    uint8_t *packed = NULL;
    int code = event ? event_repack(event, &packed) : SPOOL_OK;
    if (code != SPOOL_OK)
        return code;
    a->bytes += event ? event->packed_size : 0;
    *ret = packed;
    return SPOOL_OK;
}

int answers_retry(struct answers *a, const struct store_retry *row, const struct event_view *event)
{
    const uint8_t *packed;
    int code = answers_grow((void **)&a->retries, a->retry_count, 1, &a->retry_cap, sizeof *a->retries);
    if (code == SPOOL_OK)
        code = pack(a, event, &packed);
    if (code != SPOOL_OK)
        return code;
    a->retries[a->retry_count++] = (struct store_retry_put){.row = *row, .packed = packed};
    a->any = true;
    return SPOOL_OK;
}

int answers_dead(struct answers *a, const struct store_retry *row, uint64_t died_ns, const struct event_view *event)
{
    const uint8_t *packed;
    int code = answers_grow((void **)&a->dead, a->dead_count, 1, &a->dead_cap, sizeof *a->dead);
    if (code == SPOOL_OK)
        code = pack(a, event, &packed);
    if (code != SPOOL_OK)
        return code;
    a->dead[a->dead_count++] = (struct store_dead_put){.row = *row, .died_ns = died_ns, .packed = packed};
    a->any = true;
    return SPOOL_OK;
}

int answers_done(struct answers *a, const struct store_done *done)
{
    if (answers_grow((void **)&a->done, a->done_count, 1, &a->done_cap, sizeof *a->done) != SPOOL_OK)
        return ENOMEM;
    a->done[a->done_count++] = *done;
    a->any = true;
    return SPOOL_OK;
}

int answers_note(struct answers *a, const struct answer_note *note)
{
    if (answers_grow((void **)&a->notes, a->note_count, 1, &a->note_cap, sizeof *a->notes) != SPOOL_OK)
        return ENOMEM;
    a->notes[a->note_count++] = *note;
    return SPOOL_OK;
}

static void move_counts(struct answers *to, struct answers *from)
{
    to->any |= from->any;
    for (int lane = 0; lane < LANES; lane++)
        to->delivered[lane] += from->delivered[lane];
    store_drops_add(&to->drops, &from->drops);
    to->filtered += from->filtered;
    to->bytes += from->bytes;
    if (from->checkpoint_size > 0) {
        memcpy(to->checkpoint, from->checkpoint, from->checkpoint_size);
        to->checkpoint_size = from->checkpoint_size;
    }
    if (from->upto > to->upto)
        to->upto = from->upto;
}

/* memcpy() must not be given NULL even for nothing. */
static void append(void *to, size_t at, const void *from, size_t count, size_t size)
{
    if (count > 0)
        memcpy((char *)to + at * size, from, count * size);
}

int answers_move(struct answers *to, struct answers *from)
{
    if (answers_grow((void **)&to->retries, to->retry_count, from->retry_count, &to->retry_cap, sizeof *to->retries) ||
        answers_grow((void **)&to->done, to->done_count, from->done_count, &to->done_cap, sizeof *to->done) ||
        answers_grow((void **)&to->dead, to->dead_count, from->dead_count, &to->dead_cap, sizeof *to->dead) ||
        answers_grow((void **)&to->notes, to->note_count, from->note_count, &to->note_cap, sizeof *to->notes))
        return ENOMEM;
    append(to->retries, to->retry_count, from->retries, from->retry_count, sizeof *to->retries);
    append(to->done, to->done_count, from->done, from->done_count, sizeof *to->done);
    append(to->dead, to->dead_count, from->dead, from->dead_count, sizeof *to->dead);
    append(to->notes, to->note_count, from->notes, from->note_count, sizeof *to->notes);
    to->note_count += from->note_count;
    to->retry_count += from->retry_count;
    to->done_count += from->done_count;
    to->dead_count += from->dead_count;
    move_counts(to, from);
    from->retry_count = from->done_count = from->dead_count = 0; /* their copies belong to `to` now */
    answers_clear(from);
    return SPOOL_OK;
}

void answers_seal(struct answers *a, const struct window windows[LANES])
{
    for (int lane = 0; lane < LANES; lane++) {
        a->cursor[lane] = windows[lane].cursor;
        a->range_count[lane] = (uint32_t)window_finished(&windows[lane], a->ranges[lane], STORE_RANGES_MAX);
    }
    a->sealed = true;
}

void answers_ack(const struct answers *a, uint32_t sink_id, uint64_t generation, struct store_ack *ret)
{
    *ret = (struct store_ack){
        .sink_id = sink_id,
        .generation = generation,
        .drops = a->drops,
        .filtered = a->filtered,
        .checkpoint = a->checkpoint,
        .checkpoint_size = a->checkpoint_size,
        .retries = a->retries,
        .retry_count = a->retry_count,
        .done = a->done,
        .done_count = a->done_count,
        .dead = a->dead,
        .dead_count = a->dead_count,
    };
    for (int lane = 0; lane < LANES; lane++) {
        ret->cursor[lane] = a->cursor[lane];
        ret->delivered[lane] = a->delivered[lane];
        ret->range_count[lane] = a->range_count[lane];
        ret->ranges[lane] = a->range_count[lane] > 0 ? a->ranges[lane] : NULL;
    }
}

size_t answers_rows(const struct answers *a)
{
    return a->retry_count + a->done_count + a->dead_count;
}

void answers_clear(struct answers *a)
{
    for (size_t i = 0; i < a->retry_count; i++)
        free((void *)a->retries[i].packed);
    for (size_t i = 0; i < a->dead_count; i++)
        free((void *)a->dead[i].packed);
    a->retry_count = a->done_count = a->dead_count = a->note_count = a->bytes = 0;
    a->upto = a->filtered = 0;
    memset(a->delivered, 0, sizeof a->delivered);
    a->drops = (struct store_drops){0};
    a->checkpoint_size = 0;
    a->any = a->sealed = false;
}

void answers_free(struct answers *a)
{
    answers_clear(a);
    free(a->retries);
    free(a->done);
    free(a->dead);
    free(a->notes);
    *a = (struct answers){0};
}
