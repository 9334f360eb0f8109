/* suspect.c - see suspect.h. */
#include "suspect.h"

#include <string.h>

uint32_t suspects_crashes(const struct suspects *s, int lane, uint64_t seq)
{
    uint32_t most = 0;
    for (size_t i = 0; i < s->n; i++) {
        const struct store_suspect *e = &s->list[i];
        if (e->lane == lane && e->first <= seq && seq < e->end && e->crashes > most)
            most = e->crashes;
    }
    return most;
}

static struct store_suspect *find_same(struct suspects *s, const struct store_suspect *like)
{
    for (size_t i = 0; i < s->n; i++) {
        struct store_suspect *e = &s->list[i];
        if (e->lane == like->lane && e->first == like->first && e->end == like->end && e->alone == like->alone)
            return e;
    }
    return NULL;
}

void suspects_add(struct suspects *s, int lane, uint64_t first, uint64_t end, bool alone)
{
    struct store_suspect entry = {.lane = lane, .first = first, .end = end, .alone = alone, .fresh = true};
    entry.crashes = 1 + (end - first == 1 ? suspects_crashes(s, lane, first) : 0);
    struct store_suspect *same = find_same(s, &entry);
    if (same) {
        entry.crashes = same->crashes + 1 > entry.crashes ? same->crashes + 1 : entry.crashes;
        *same = entry;
        return;
    }
    if (s->n == STORE_SUSPECTS_MAX)
        memmove(s->list, s->list + 1, --s->n * sizeof *s->list);
    s->list[s->n++] = entry;
}
