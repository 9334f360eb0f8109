/* suspect.h - events that were in a sink's hands when a process died: which, and in how many such deaths. Pure.
 *
 * A death while several events were in hand says little of each: the run of them is suspected once. Found there alone,
 * an event has an entry of its own, with one more than the runs that cover it. */
#ifndef SPOOL_SUSPECT_H
#define SPOOL_SUSPECT_H

#include "store.h"

struct suspects {
    struct store_suspect list[STORE_SUSPECTS_MAX];
    size_t n;
};

/* A process died with [first, end) of the lane in hand; alone: with nothing beside it. When there is no room the oldest
 * entry is forgotten. */
void suspects_add(struct suspects *s, int lane, uint64_t first, uint64_t end, bool alone);

/* Deaths in which the event was in hand; 0: none. */
uint32_t suspects_crashes(const struct suspects *s, int lane, uint64_t seq);

#endif
