/* survey.h - all sinks of a spool at one moment, copied out of the library's callback. */
#ifndef TOOLS_SURVEY_H
#define TOOLS_SURVEY_H

#include "../lib/spool.h"

/* The strings of `info` are the survey's own. */
struct survey {
    struct spool_sink_info *sinks;
    size_t count;
    uint64_t pending_max; /* events that the sink furthest behind holds */
    uint64_t pending_sum, delivered, dead_letters, oldest_ns;
};

/* Returns the library's code; on success release with survey_free(). */
int survey_take(struct spool *spool, struct survey *ret_survey);
void survey_free(struct survey *survey);

/* The sink of that name, or NULL. */
const struct spool_sink_info *survey_find(const struct survey *survey, const char *name);

/* "log holds 12 events, web holds 3 (down: connection refused)"; "" if none holds any. free(). */
char *survey_holders(const struct survey *survey);

#endif
