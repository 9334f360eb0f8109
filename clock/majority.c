/* majority.c - the sweep over the ends of all intervals. */
#include "majority.h"

#include <stdlib.h>

struct end {
    uint64_t at_ns;
    bool closes;
    unsigned group;
};

/* Openings first where both meet: intervals that touch share a point. */
static int by_place(const void *a, const void *b)
{
    const struct end *x = a, *y = b;
    if (x->at_ns != y->at_ns)
        return x->at_ns < y->at_ns ? -1 : 1;
    return x->closes - y->closes;
}

/* Numbers the roots; returns how many there are. */
static unsigned number_roots(const struct vote *votes, size_t n, unsigned ret_group[MAJORITY_MAX])
{
    unsigned groups = 0;
    for (size_t i = 0; i < n; i++) {
        ret_group[i] = groups;
        for (size_t k = 0; k < i && ret_group[i] == groups; k++)
            if (votes[k].root == votes[i].root)
                ret_group[i] = ret_group[k];
        groups += ret_group[i] == groups;
    }
    return groups;
}

static size_t sort_ends(const struct vote *votes, size_t n, const unsigned group[MAJORITY_MAX],
                        struct end ret[2 * MAJORITY_MAX])
{
    for (size_t i = 0; i < n; i++) {
        ret[2 * i] = (struct end){votes[i].earliest_ns, false, group[i]};
        ret[2 * i + 1] = (struct end){votes[i].latest_ns, true, group[i]};
    }
    qsort(ret, 2 * n, sizeof *ret, by_place);
    return 2 * n;
}

/* From the first to the last point in which more than half of the groups are open. */
static bool span(const struct end *ends, size_t n, unsigned groups, struct majority *ret)
{
    unsigned open[MAJORITY_MAX] = {0}, count = 0;
    bool found = false;
    for (size_t i = 0; i < n; i++) {
        unsigned *members = &open[ends[i].group];
        if (!ends[i].closes) {
            count += ++*members == 1;
            if (!found && 2 * count > groups) {
                ret->earliest_ns = ends[i].at_ns;
                found = true;
            }
            continue;
        }
        if (2 * count > groups)
            ret->latest_ns = ends[i].at_ns;
        count -= --*members == 0;
    }
    return found;
}

static unsigned count_agreeing(const struct vote *votes, size_t n, const unsigned group[MAJORITY_MAX],
                               const struct majority *m)
{
    bool agrees[MAJORITY_MAX] = {false};
    unsigned count = 0;
    for (size_t i = 0; i < n; i++) {
        if (agrees[group[i]] || !vote_reaches(&votes[i], m->earliest_ns, m->latest_ns))
            continue;
        agrees[group[i]] = true;
        count++;
    }
    return count;
}

bool majority_find(const struct vote *votes, size_t n, struct majority *ret)
{
    unsigned group[MAJORITY_MAX];
    struct end ends[2 * MAJORITY_MAX];
    struct majority m = {0};
    if (n > MAJORITY_MAX)
        n = MAJORITY_MAX;
    m.voting = number_roots(votes, n, group);
    bool found = n > 0 && span(ends, sort_ends(votes, n, group, ends), m.voting, &m);
    if (found)
        m.agreeing = count_agreeing(votes, n, group, &m);
    *ret = m;
    return found;
}
