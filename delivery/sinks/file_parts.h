/* file_parts.h - the file sink with a path that depends on the event: agent={agent}/dt=%Y-%m-%d/events.jsonl. */
#ifndef DELIVERY_SINKS_FILE_PARTS_H
#define DELIVERY_SINKS_FILE_PARTS_H

#include <stdbool.h>
#include <sys/types.h>

#include "../delivery.h"
#include "file_path.h"

struct parts;

struct parts_options {
    const char *pattern; /* valid until parts_close() */
    mode_t mode;
    bool sync_batches, sync_checkpoints;
};

/* Has the path a placeholder? SPOOL_ECONFIG, with a message: one that is unknown or not closed. */
int parts_check(const char *pattern, bool *ret_any);
/* The path for an event, of the pattern after strftime(). False: too long. */
bool parts_path(const char *pattern, const struct spool_event *event, char ret[FILE_PATH_MAX]);

/* The hooks of the sink. */
int parts_open(const struct parts_options *options, const void *checkpoint, size_t size, struct parts **ret);
int parts_deliver(struct parts *parts, struct spool_delivery *batch, size_t n);
size_t parts_checkpoint(struct parts *parts, void *buf, size_t cap);
void parts_close(struct parts *parts);

#endif
