/* window.c - a sorted array of ranges. It has as many as batches are in flight and holes between finished ones: a
 * handful, so that searching and moving it costs less than a tree would, and nothing per event. */
#include "window.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/base/error.h"

void window_free(struct window *w)
{
    free(w->ranges);
    *w = (struct window){0};
}

/* Index of the first range that ends behind `seq`. */
static size_t find(const struct window *w, uint64_t seq)
{
    size_t low = 0, high = w->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (w->ranges[middle].end > seq)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static int reserve(struct window *w, size_t more)
{
    if (w->count + more <= w->cap)
        return SPOOL_OK;
    size_t cap = w->cap ? w->cap * 2 : 16;
    struct window_range *ranges = realloc(w->ranges, cap * sizeof *ranges);
    if (!ranges)
        return err_errno(ENOMEM, "window of %zu ranges", cap);
    w->ranges = ranges;
    w->cap = cap;
    return SPOOL_OK;
}

static void insert_at(struct window *w, size_t at, uint64_t first, uint64_t end, bool finished)
{
    memmove(w->ranges + at + 1, w->ranges + at, (w->count - at) * sizeof *w->ranges);
    w->ranges[at] = (struct window_range){first, end, finished};
    w->count++;
}

static void remove_at(struct window *w, size_t at)
{
    w->count--;
    memmove(w->ranges + at, w->ranges + at + 1, (w->count - at) * sizeof *w->ranges);
}

/* Cuts [first, end) out of the ranges, which are split where needed. Room for one more must be reserved. */
static void cut_out(struct window *w, uint64_t first, uint64_t end)
{
    for (size_t i = find(w, first); i < w->count && w->ranges[i].first < end;) {
        struct window_range *r = &w->ranges[i];
        if (r->first < first && r->end > end) {
            insert_at(w, i + 1, end, r->end, r->finished);
            w->ranges[i].end = first;
            return;
        }
        if (r->first < first)
            r->end = first, i++;
        else if (r->end > end)
            r->first = end, i++;
        else
            remove_at(w, i);
    }
}

/* Joins the finished range at `at` with finished neighbours. */
static void join(struct window *w, size_t at)
{
    if (at + 1 < w->count && w->ranges[at + 1].finished && w->ranges[at + 1].first == w->ranges[at].end) {
        w->ranges[at].end = w->ranges[at + 1].end;
        remove_at(w, at + 1);
    }
    if (at > 0 && w->ranges[at - 1].finished && w->ranges[at - 1].end == w->ranges[at].first) {
        w->ranges[at - 1].end = w->ranges[at].end;
        remove_at(w, at);
    }
}

static void advance(struct window *w)
{
    while (w->count > 0 && w->ranges[0].finished && w->ranges[0].first <= w->cursor) {
        w->cursor = w->ranges[0].end;
        remove_at(w, 0);
    }
}

int window_load(struct window *w, uint64_t cursor, const struct store_range *ranges, size_t count)
{
    window_free(w);
    w->cursor = cursor;
    for (size_t i = 0; i < count; i++)
        if (ranges[i].count > 0 && window_finish(w, ranges[i].first, ranges[i].first + ranges[i].count) != SPOOL_OK)
            return ENOMEM;
    return SPOOL_OK;
}

void window_gap(const struct window *w, uint64_t *ret_first, uint64_t *ret_end)
{
    uint64_t seq = w->cursor;
    size_t i = 0;
    for (; i < w->count && w->ranges[i].first <= seq; i++)
        seq = w->ranges[i].end;
    *ret_first = seq;
    *ret_end = i < w->count ? w->ranges[i].first : UINT64_MAX;
}

int window_take(struct window *w, uint64_t first, uint64_t end)
{
    if (reserve(w, 1) != SPOOL_OK)
        return ENOMEM;
    insert_at(w, find(w, first), first, end, false);
    return SPOOL_OK;
}

int window_finish(struct window *w, uint64_t first, uint64_t end)
{
    if (first < w->cursor)
        first = w->cursor;
    if (first >= end)
        return SPOOL_OK;
    if (reserve(w, 2) != SPOOL_OK)
        return ENOMEM;
    cut_out(w, first, end);
    size_t at = find(w, first);
    insert_at(w, at, first, end, true);
    join(w, at);
    advance(w);
    return SPOOL_OK;
}

int window_return(struct window *w, uint64_t first, uint64_t end)
{
    if (reserve(w, 1) != SPOOL_OK)
        return ENOMEM;
    cut_out(w, first, end);
    return SPOOL_OK;
}

size_t window_finished(const struct window *w, struct store_range *ret, size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < w->count && n < cap; i++)
        if (w->ranges[i].finished)
            ret[n++] = (struct store_range){w->ranges[i].first, w->ranges[i].end - w->ranges[i].first};
    return n;
}

uint64_t window_finished_events(const struct window *w)
{
    uint64_t events = 0;
    for (size_t i = 0; i < w->count; i++)
        if (w->ranges[i].finished)
            events += w->ranges[i].end - w->ranges[i].first;
    return events;
}
