/* batch.c - see batch.h. */
#include "batch.h"

#include <errno.h>
#include <stdlib.h>

#include "../lib/base/error.h"

/* Makes room for one more element of `size` bytes. */
static int batch_grow(void **array, size_t count, size_t *cap, size_t size)
{
    if (count < *cap)
        return SPOOL_OK;
    size_t want = *cap ? *cap * 2 : 8;
    void *grown = realloc(*array, want * size);
    if (!grown)
        return err_errno(ENOMEM, "batch of %zu pieces", want);
    *array = grown;
    *cap = want;
    return SPOOL_OK;
}

static void add_span(struct batch *batch, uint64_t first, uint64_t end)
{
    struct window_span *last = batch->span_count > 0 ? &batch->spans[batch->span_count - 1] : NULL;
    if (last && last->end == first)
        last->end = end;
    else
        batch->spans[batch->span_count++] = (struct window_span){first, end};
}

/* Are these the events right behind the last piece? */
static bool continues(const struct batch *batch, const struct store_block *block, uint32_t first)
{
    const struct batch_piece *last = batch->piece_count > 0 ? &batch->pieces[batch->piece_count - 1] : NULL;
    return last && last->block == block && last->end == first;
}

int batch_add_piece(struct batch *batch, struct store_block *block, uint32_t first, uint32_t end)
{
    if (batch_grow((void **)&batch->pieces, batch->piece_count, &batch->piece_cap, sizeof *batch->pieces) != SPOOL_OK ||
        batch_grow((void **)&batch->spans, batch->span_count, &batch->span_cap, sizeof *batch->spans) != SPOOL_OK)
        return ENOMEM;
    if (!continues(batch, block, first)) {
        store_block_ref(block);
        batch->pieces[batch->piece_count++] = (struct batch_piece){.block = block, .first = first};
    }
    batch->pieces[batch->piece_count - 1].end = end;
    add_span(batch, block->first_seq + first, block->first_seq + end);
    batch->count += end - first;
    batch->bytes += bundle_span(&block->events, first, end);
    return SPOOL_OK;
}

int batch_add_row(struct batch *batch, struct retry_row *row)
{
    if (batch_grow((void **)&batch->rows, batch->row_count, &batch->row_cap, sizeof *batch->rows) != SPOOL_OK)
        return ENOMEM;
    batch->rows[batch->row_count++] = (struct batch_row){.row = row};
    batch->count++;
    batch->wanted++;
    batch->bytes += row->size;
    return SPOOL_OK;
}

void batch_clear(struct batch *batch)
{
    for (size_t i = 0; i < batch->piece_count; i++)
        store_block_unref(batch->pieces[i].block);
    for (size_t i = 0; i < batch->row_count; i++)
        free(batch->rows[i].packed);
    batch->piece_count = batch->span_count = batch->row_count = batch->bytes = batch->wanted_bytes = 0;
    batch->stripes = 0;
    batch->count = batch->wanted = 0;
    batch->next = NULL;
}

void batch_free(struct batch *batch)
{
    if (!batch)
        return;
    batch_clear(batch);
    free(batch->pieces);
    free(batch->spans);
    free(batch->rows);
    free(batch);
}
