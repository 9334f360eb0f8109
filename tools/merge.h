/* merge.h - spool cat over several spools, and with its order checked. */
#ifndef TOOLS_MERGE_H
#define TOOLS_MERGE_H

#include "tool.h"

struct merge_request {
    const char *const *dirs;
    size_t count;
    struct spool_reader_options options;
    uint64_t most; /* events to print */
    bool check;    /* say what is out of order */
};

/* Returns enum tool_status. */
int merge_cat(const struct tool *tool, const struct merge_request *request);

#endif
