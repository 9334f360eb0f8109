/* status.h - what spool status looks at, and what is wrong with it: shared by what prints it for people and as JSON. */
#ifndef TOOLS_STATUS_H
#define TOOLS_STATUS_H

#include "output.h"
#include "survey.h"
#include "tool.h"

struct status {
    const struct tool *tool;
    struct spool_stats stats;
    struct survey survey;
};

/* Events that wait: what the sink furthest behind holds; without a sink everything waits for the first one. */
static inline uint64_t waiting_events(const struct status *status)
{
    return status->survey.count ? status->survey.pending_max : status->stats.stored_events;
}

static inline uint64_t oldest_ns(const struct status *status)
{
    return status->survey.oldest_ns ? status->survey.oldest_ns : status->stats.oldest_ns;
}

/* Since somebody said that he had seen it. */
static inline bool has_new_damage(const struct spool_stats *stats)
{
    return stats->damaged_blocks > stats->damaged_blocks_seen || stats->damaged_events > stats->damaged_events_seen;
}

static inline const char *plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

enum { PROBLEMS_MAX = 64 };

/* What is not as it should be, and what to do about it. */
struct problem {
    bool urgent; /* events may be lost, or are refused, if nobody sees to it */
    char *what, *action;
};

struct problems {
    struct problem items[PROBLEMS_MAX];
    size_t count;
};

/* problems.c. The urgent ones first; to be freed. */
void problems_find(const struct status *status, struct problems *ret);
void problems_print(const struct problems *problems);
void problems_free(struct problems *problems);

/* status_json.c */
void status_print_json(const struct status *status, const struct problems *problems);
void sinks_print_json(const struct survey *survey); /* one object a line */

#endif
