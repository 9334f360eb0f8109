/* file_parts.h - the file sink with a path that depends on the event: agent={agent}/dt=%Y-%m-%d/events.jsonl. */
#ifndef DELIVERY_SINKS_FILE_PARTS_H
#define DELIVERY_SINKS_FILE_PARTS_H

#include <stdbool.h>
#include <sys/types.h>

#include "../delivery.h"
#include "file_path.h"

struct parts;
struct tend;

struct parts_options {
    const char *pattern; /* valid until parts_close() */
    mode_t mode;
    bool sync_batches, sync_checkpoints;
    uint64_t rotate_bytes, rotate_ms, keep; /* of the files of one path; 0: never, and all */
    struct tend *tend;                      /* NULL: nothing is to be done with complete files */
};

/* Has the path a placeholder? SPOOL_ECONFIG, with a message: one that is unknown or not closed. */
int parts_check(const char *pattern, bool *ret_any);
/* May there be several files of a path? Not if an agent's name could be taken for a number: {agent}.jsonl. */
bool parts_can_number(const char *pattern);
/* Behind the placeholder that begins at `text`; NULL: there is none. */
const char *parts_placeholder_end(const char *text);
/* May this byte stand in what a placeholder is replaced by? */
bool parts_is_value_byte(char c);
/* The path for an event, of the pattern after strftime(). False: too long. */
bool parts_path(const char *pattern, const struct spool_event *event, char ret[FILE_PATH_MAX]);

/* The hooks of the sink. */
int parts_open(const struct parts_options *options, const void *checkpoint, size_t size, struct parts **ret);
int parts_deliver(struct parts *parts, struct spool_delivery *batch, size_t n);
size_t parts_checkpoint(struct parts *parts, void *buf, size_t cap);
void parts_close(struct parts *parts);

#endif
