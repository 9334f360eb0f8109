/* filter.h - which events a sink gets: by type, agent, priority and tags, told by the envelope alone.
 *
 *     {"include": {"type": ["log.*"], "priority": ["critical", "high"]}, "exclude": {"tag": "debug"}}
 *
 * An event passes if `include` fits or is absent, and `exclude` does not. `include` fits if every key of it does; a key
 * fits if one of its patterns (a text or an array of them) matches; `exclude` fits if any key of it does. In a pattern,
 * * stands for any number of characters and ? for one byte; every other one for itself. An event without an agent has
 * the agent "", and a tag fits if one of the event's does. */
#ifndef DELIVERY_FILTER_H
#define DELIVERY_FILTER_H

#include <stdbool.h>

#include "../lib/spool.h"

enum { FILTER_PATTERNS_MAX = 64 }; /* of a key */

struct filter;

/* Reads it. NULL gives *ret NULL, which passes everything. SPOOL_ECONFIG with a message that names the key, ENOMEM. */
int filter_new(const char *json, struct filter **ret);
/* Any thread: nothing changes after filter_new(). */
bool filter_passes(const struct filter *filter, const struct spool_event *event);
void filter_free(struct filter *filter);

/* Does the pattern match all of the text? Takes no more than their lengths multiplied. */
bool filter_matches(const char *pattern, const char *text);

#endif
