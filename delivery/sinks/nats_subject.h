/* nats_subject.h - subjects from a template: "agents.{agent}.{type}".
 *
 * {agent}, {session}, {type} and {priority} stand for what the event has; "-" for what it lacks. What a subject must
 * not hold is written as % and two hexadecimal digits: white space, '*', '>', '%', and '.', but for the dots of a type
 * that stand between other characters: they part a subject into tokens, so that agents.*.log.> finds what it seems to.
 */
#ifndef DELIVERY_SINKS_NATS_SUBJECT_H
#define DELIVERY_SINKS_NATS_SUBJECT_H

#include "plugin.h"

/* SPOOL_ECONFIG with a message: empty tokens, unknown names, wildcards, or no constant first token. */
int subject_check(const char *template);
/* Appends the subject of an event and a NUL. ENOMEM. */
int subject_put(struct buffer *out, const char *template, const struct spool_event *event);
/* Appends the subject that all of the template match ("agents.>", or the template when it is constant) and a NUL.
 * ENOMEM. */
int subject_put_all(struct buffer *out, const char *template);

#endif
