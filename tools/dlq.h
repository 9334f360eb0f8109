/* dlq.h - what the verbs about dead letters share. */
#ifndef TOOLS_DLQ_H
#define TOOLS_DLQ_H

#include "tool.h"

/* An id on the command line is input: a wrong one is wrong usage. */
int dlq_parse_id(const struct tool *tool, const char *text, struct spool_id *ret_id);

#endif
