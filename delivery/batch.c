/* batch.c - see batch.h. */
#include "batch.h"

#include <errno.h>
#include <stdlib.h>

#include "../lib/base/error.h"

int batch_add_piece(struct batch *batch, struct store_block *block, uint32_t first, uint32_t end)
{
    if (batch->piece_count == batch->piece_cap) {
        size_t cap = batch->piece_cap ? batch->piece_cap * 2 : 8;
        struct batch_piece *pieces = realloc(batch->pieces, cap * sizeof *pieces);
        if (!pieces)
            return err_errno(ENOMEM, "batch of %zu blocks", cap);
        batch->pieces = pieces;
        batch->piece_cap = cap;
    }
    store_block_ref(block);
    batch->pieces[batch->piece_count++] = (struct batch_piece){.block = block, .first = first, .end = end};
    batch->count += end - first;
    batch->bytes += bundle_span(&block->events, first, end);
    return SPOOL_OK;
}

int batch_add_row(struct batch *batch, struct retry_row *row)
{
    if (batch->row_count == batch->row_cap) {
        size_t cap = batch->row_cap ? batch->row_cap * 2 : 16;
        struct batch_row *rows = realloc(batch->rows, cap * sizeof *rows);
        if (!rows)
            return err_errno(ENOMEM, "batch of %zu retries", cap);
        batch->rows = rows;
        batch->row_cap = cap;
    }
    batch->rows[batch->row_count++] = (struct batch_row){.row = row};
    batch->count++;
    batch->bytes += row->size;
    return SPOOL_OK;
}

void batch_clear(struct batch *batch)
{
    for (size_t i = 0; i < batch->piece_count; i++)
        store_block_unref(batch->pieces[i].block);
    for (size_t i = 0; i < batch->row_count; i++)
        free(batch->rows[i].packed);
    batch->piece_count = batch->row_count = batch->bytes = batch->wanted_bytes = 0;
    batch->count = batch->wanted = 0;
    batch->next = NULL;
}

void batch_free(struct batch *batch)
{
    if (!batch)
        return;
    batch_clear(batch);
    free(batch->pieces);
    free(batch->rows);
    free(batch);
}
