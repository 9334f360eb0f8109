/* retry.c - two hash tables over the same rows and a binary heap per lane. A row enters its lane's heap when it becomes
 * due-able and leaves it when it no longer is; `update` is the only place that decides. */
#include "retry.h"

#include <errno.h>
#include <stdlib.h>

#include "../lib/base/error.h"

/* ------------------------------------------------------------------------------------------------------------ heap */

static void heap_put(struct retry_heap *heap, size_t at, struct retry_row *row)
{
    heap->rows[at] = row;
    row->heap_at = at;
}

static bool heap_before(const struct retry_row *a, const struct retry_row *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->seq < b->seq;
}

static void heap_up(struct retry_heap *heap, size_t at)
{
    struct retry_row *row = heap->rows[at];
    for (; at > 0 && heap_before(row, heap->rows[(at - 1) / 2]); at = (at - 1) / 2)
        heap_put(heap, at, heap->rows[(at - 1) / 2]);
    heap_put(heap, at, row);
}

static void heap_down(struct retry_heap *heap, size_t at)
{
    struct retry_row *row = heap->rows[at];
    for (size_t child; (child = 2 * at + 1) < heap->count; at = child) {
        if (child + 1 < heap->count && heap_before(heap->rows[child + 1], heap->rows[child]))
            child++;
        if (!heap_before(heap->rows[child], row))
            break;
        heap_put(heap, at, heap->rows[child]);
    }
    heap_put(heap, at, row);
}

static void heap_remove(struct retry_heap *heap, struct retry_row *row)
{
    size_t at = row->heap_at;
    row->heap_at = RETRY_NOWHERE;
    struct retry_row *last = heap->rows[--heap->count];
    if (last == row)
        return;
    heap_put(heap, at, last);
    heap_up(heap, at);
    heap_down(heap, last->heap_at);
}

/* Room for every row is reserved when one is added, so that entering the heap never fails. */
static int heap_reserve(struct retry_heap *heap, size_t count)
{
    if (count <= heap->cap)
        return SPOOL_OK;
    size_t cap = heap->cap ? heap->cap * 2 : 64;
    struct retry_row **rows = realloc(heap->rows, cap * sizeof *rows);
    if (!rows)
        return ENOMEM;
    heap->rows = rows;
    heap->cap = cap;
    return SPOOL_OK;
}

/* ---------------------------------------------------------------------------------------------------------- tables */

static size_t bucket_of(const struct retry_index *index, int lane, uint64_t value)
{
    uint64_t h = (value + (uint64_t)lane * 0x9e3779b97f4a7c15ull) * 0xff51afd7ed558ccdull;
    return (size_t)(h >> 32) & (index->buckets - 1);
}

/* From the tail, because rows come in ascending order but for dead letters that are put back. */
static void key_link(struct retry_index *index, struct retry_row *row)
{
    if (row->key == 0)
        return;
    struct retry_chain *chain = &index->keys[bucket_of(index, row->lane, row->key)];
    struct retry_row *prev = chain->tail, *next = NULL;
    for (; prev && prev->seq > row->seq; prev = prev->key_prev)
        next = prev;
    row->key_prev = prev;
    row->key_next = next;
    *(prev ? &prev->key_next : &chain->head) = row;
    *(next ? &next->key_prev : &chain->tail) = row;
}

static void key_unlink(struct retry_index *index, struct retry_row *row)
{
    if (row->key == 0)
        return;
    struct retry_chain *chain = &index->keys[bucket_of(index, row->lane, row->key)];
    *(row->key_prev ? &row->key_prev->key_next : &chain->head) = row->key_next;
    *(row->key_next ? &row->key_next->key_prev : &chain->tail) = row->key_prev;
}

/* The first live row of the key in the lane. */
static struct retry_row *key_first(const struct retry_index *index, int lane, uint64_t key)
{
    if (key == 0 || index->buckets == 0)
        return NULL;
    struct retry_row *row = index->keys[bucket_of(index, lane, key)].head;
    while (row && (row->over || row->lane != lane || row->key != key))
        row = row->key_next;
    return row;
}

static void table_link(struct retry_index *index, struct retry_row *row)
{
    struct retry_row **bucket = &index->table[bucket_of(index, row->lane, row->seq)];
    row->next = *bucket;
    *bucket = row;
}

static void relink_all(struct retry_index *index, struct retry_row **old, size_t old_buckets)
{
    for (size_t i = 0; i < old_buckets; i++) {
        for (struct retry_row *row = old[i], *next; row; row = next) {
            next = row->next;
            table_link(index, row);
            key_link(index, row);
        }
    }
}

static int grow_tables(struct retry_index *index)
{
    size_t buckets = index->buckets ? index->buckets * 4 : 64;
    struct retry_row **table = calloc(buckets, sizeof *table), **old = index->table;
    struct retry_chain *keys = calloc(buckets, sizeof *keys), *old_keys = index->keys;
    if (!table || !keys) {
        free(table);
        free(keys);
        return ENOMEM;
    }
    size_t old_buckets = index->buckets;
    index->table = table;
    index->keys = keys;
    index->buckets = buckets;
    relink_all(index, old, old_buckets);
    free(old);
    free(old_keys);
    return SPOOL_OK;
}

static int reserve_row(struct retry_index *index, int lane)
{
    if (index->rows >= index->buckets && grow_tables(index) != SPOOL_OK)
        return err_errno(ENOMEM, "retry table of %zu rows", index->rows);
    if (heap_reserve(&index->due[lane], index->rows + 1) != SPOOL_OK)
        return err_errno(ENOMEM, "retry queue of %zu rows", index->rows);
    return SPOOL_OK;
}

/* ------------------------------------------------------------------------------------------------------------ rows */

/* Puts the row into its heap or takes it out, whichever its flags and place in its key ask for. */
static void update(struct retry_index *index, struct retry_row *row)
{
    bool dueable =
        row->stored && !row->taken && !row->over && (row->key == 0 || key_first(index, row->lane, row->key) == row);
    struct retry_heap *heap = &index->due[row->lane];
    if (!dueable && row->heap_at != RETRY_NOWHERE)
        heap_remove(heap, row);
    else if (dueable && row->heap_at == RETRY_NOWHERE) {
        heap_put(heap, heap->count++, row);
        heap_up(heap, row->heap_at);
    }
}

/* After `row` came or went the first of its key may be another one. */
static void update_key(struct retry_index *index, const struct retry_row *row)
{
    if (row->key == 0)
        return;
    for (struct retry_row *r = index->keys[bucket_of(index, row->lane, row->key)].head; r; r = r->key_next)
        if (r->lane == row->lane && r->key == row->key && (r->heap_at != RETRY_NOWHERE || !r->over))
            update(index, r);
}

int retry_add(struct retry_index *index, const struct retry_row *row, struct retry_row **ret)
{
    if (retry_find(index, row->lane, row->seq))
        return SPOOL_EEXISTS;
    struct retry_row *copy = malloc(sizeof *copy);
    if (!copy || reserve_row(index, row->lane) != SPOOL_OK) {
        free(copy);
        return err_errno(ENOMEM, "retry row");
    }
    *copy = *row;
    copy->heap_at = RETRY_NOWHERE;
    copy->next = copy->key_prev = copy->key_next = NULL;
    table_link(index, copy);
    key_link(index, copy);
    index->rows++;
    index->live++;
    index->live_in[copy->lane]++;
    index->live_bytes += copy->size;
    update(index, copy);
    if (copy->key != 0 && copy->key_next) /* it came before others: a dead letter that was put back */
        update_key(index, copy);
    if (ret)
        *ret = copy;
    return SPOOL_OK;
}

struct retry_row *retry_find(const struct retry_index *index, int lane, uint64_t seq)
{
    if (index->buckets == 0)
        return NULL;
    struct retry_row *row = index->table[bucket_of(index, lane, seq)];
    while (row && (row->seq != seq || row->lane != lane))
        row = row->next;
    return row;
}

bool retry_has_key(const struct retry_index *index, int lane, uint64_t key)
{
    return key_first(index, lane, key) != NULL;
}

uint64_t retry_due(const struct retry_index *index, int lane)
{
    const struct retry_heap *heap = &index->due[lane];
    return heap->count > 0 ? heap->rows[0]->due_ns : UINT64_MAX;
}

struct retry_row *retry_take(struct retry_index *index, int lane, uint64_t now_ns)
{
    if (retry_due(index, lane) > now_ns)
        return NULL;
    struct retry_row *row = index->due[lane].rows[0];
    row->taken = true;
    update(index, row);
    return row;
}

struct retry_row *retry_take_successor(struct retry_index *index, const struct retry_row *row, uint64_t now_ns)
{
    struct retry_row *next = row->key != 0 ? row->key_next : NULL;
    while (next && (next->over || next->lane != row->lane || next->key != row->key))
        next = next->key_next;
    if (!next || !next->stored || next->taken || next->due_ns > now_ns || row->attempts > 0 || next->attempts > 0)
        return NULL;
    next->taken = true;
    update(index, next);
    return next;
}

void retry_untake(struct retry_index *index, struct retry_row *row)
{
    row->taken = false;
    update(index, row);
}

void retry_again(struct retry_index *index, struct retry_row *row, uint64_t due_ns)
{
    row->taken = row->stored = false;
    row->due_ns = due_ns;
    update(index, row);
}

void retry_over(struct retry_index *index, struct retry_row *row)
{
    row->taken = row->stored = false;
    row->over = true;
    index->live--;
    index->live_in[row->lane]--;
    index->live_bytes -= row->size;
    update(index, row);
    struct retry_row *heir = key_first(index, row->lane, row->key);
    if (heir)
        update(index, heir);
}

static void drop_row(struct retry_index *index, struct retry_row *row)
{
    struct retry_row **link = &index->table[bucket_of(index, row->lane, row->seq)];
    while (*link != row)
        link = &(*link)->next;
    *link = row->next;
    key_unlink(index, row);
    index->rows--;
    free(row);
}

void retry_stored(struct retry_index *index, struct retry_row *row)
{
    row->stored = true;
    if (row->over)
        drop_row(index, row);
    else
        update(index, row);
}

void retry_free(struct retry_index *index)
{
    for (size_t i = 0; i < index->buckets; i++) {
        for (struct retry_row *row = index->table[i], *next; row; row = next) {
            next = row->next;
            free(row);
        }
    }
    free(index->table);
    free(index->keys);
    for (int lane = 0; lane < LANES; lane++)
        free(index->due[lane].rows);
    *index = (struct retry_index){0};
}
