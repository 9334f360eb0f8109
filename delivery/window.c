/* window.c - a sorted array of ranges. A sink that takes the log as it comes has as many as batches are in flight and
 * holes between finished ones: a handful. One that takes it by keys has one per run of events of one batch, up to
 * thousands: so a change merges all of its spans into the array at once, and costs no search per event. */
#include "window.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/base/error.h"

void window_free(struct window *w)
{
    free(w->ranges);
    free(w->spare);
    *w = (struct window){0};
}

/* Index of the first range that ends behind `seq`. */
static size_t find_range(const struct window *w, uint64_t seq)
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

/* ---------------------------------------------------------------------------------------------------------- changing */

static int reserve_ranges(struct window_range **ranges, size_t *cap, size_t count)
{
    if (count <= *cap)
        return SPOOL_OK;
    size_t want = *cap ? *cap : 16;
    while (want < count)
        want *= 2;
    struct window_range *grown = realloc(*ranges, want * sizeof *grown);
    if (!grown)
        return err_errno(ENOMEM, "window of %zu ranges", want);
    *ranges = grown;
    *cap = want;
    return SPOOL_OK;
}

/* Behind those made so far; what touches the last one and is alike becomes part of it. */
static void add_range(struct window_range *made, size_t *count, uint64_t first, uint64_t end, bool finished)
{
    struct window_range *last = *count > 0 ? &made[*count - 1] : NULL;
    if (first >= end)
        return;
    if (last && last->end == first && last->finished == finished)
        last->end = end;
    else
        made[(*count)++] = (struct window_range){first, end, finished};
}

/* Adds what ranges from *at on have before `upto`, and leaves out what they have of [upto, end). *from: where what is
 * left of the range at hand begins. */
static void pass_ranges(const struct window *w, size_t *at, uint64_t *from, uint64_t upto, uint64_t end, size_t *count)
{
    for (; *at < w->count; (*at)++) {
        const struct window_range *r = &w->ranges[*at];
        uint64_t first = r->first > *from ? r->first : *from;
        add_range(w->spare, count, first, r->end < upto ? r->end : upto, r->finished);
        if (r->end > end)
            break; /* the rest of it is behind the span */
    }
    *from = end > *from ? end : *from;
}

/* Puts those made in the place of all from index `at` on. */
static void replace_from(struct window *w, size_t at, size_t count)
{
    const struct window_range *made = w->spare;
    if (at > 0 && count > 0 && w->ranges[at - 1].end == made->first && w->ranges[at - 1].finished == made->finished) {
        w->ranges[at - 1].end = made->end;
        made++;
        count--;
    }
    if (count > 0)
        memcpy(w->ranges + at, made, count * sizeof *made);
    w->count = at + count;
}

static void advance_cursor(struct window *w)
{
    size_t n = 0;
    for (; n < w->count && w->ranges[n].finished && w->ranges[n].first <= w->cursor; n++)
        w->cursor = w->ranges[n].end;
    w->count -= n;
    if (n > 0)
        memmove(w->ranges, w->ranges + n, w->count * sizeof *w->ranges);
}

int window_set(struct window *w, const struct window_span *spans, size_t n, enum window_state state)
{
    size_t most = w->count + 2 * n; /* each may split one */
    if (reserve_ranges(&w->ranges, &w->cap, most) != SPOOL_OK ||
        reserve_ranges(&w->spare, &w->spare_cap, most) != SPOOL_OK)
        return ENOMEM;
    size_t begin = n > 0 ? find_range(w, spans[0].first) : w->count, at = begin, count = 0;
    uint64_t from = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t first = spans[i].first > w->cursor ? spans[i].first : w->cursor;
        pass_ranges(w, &at, &from, first, spans[i].end, &count);
        if (state != WINDOW_GAP)
            add_range(w->spare, &count, first, spans[i].end, state == WINDOW_FINISHED);
    }
    pass_ranges(w, &at, &from, UINT64_MAX, UINT64_MAX, &count);
    replace_from(w, begin, count);
    advance_cursor(w);
    return SPOOL_OK;
}

static int set_one(struct window *w, uint64_t first, uint64_t end, enum window_state state)
{
    const struct window_span span = {first, end};
    return first < end ? window_set(w, &span, 1, state) : SPOOL_OK;
}

int window_take(struct window *w, uint64_t first, uint64_t end)
{
    return set_one(w, first, end, WINDOW_TAKEN);
}

int window_finish(struct window *w, uint64_t first, uint64_t end)
{
    return set_one(w, first, end, WINDOW_FINISHED);
}

int window_return(struct window *w, uint64_t first, uint64_t end)
{
    return set_one(w, first, end, WINDOW_GAP);
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

size_t window_gaps(const struct window *w, uint64_t first, uint64_t end, struct window_span *ret, size_t cap)
{
    size_t n = 0;
    uint64_t seq = first > w->cursor ? first : w->cursor;
    for (size_t i = find_range(w, seq); seq < end && n < cap; i++) {
        uint64_t upto = i < w->count && w->ranges[i].first < end ? w->ranges[i].first : end;
        if (upto > seq)
            ret[n++] = (struct window_span){seq, upto};
        seq = i < w->count ? w->ranges[i].end : end;
    }
    return n;
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
