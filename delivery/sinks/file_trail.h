/* file_trail.h - which files the file sink has begun, so that one begun after the checkpoint is found again.
 *
 * A text file beside the first one, named after the template: ".<template>.trail", a line for each file begun:
 *
 *     <number> <device> <inode> <size when it was begun> <path>
 *
 * The line is on disk before anything is written to the file it names. A line is valid if it ends in a line feed and
 * its numbers ascend; the first that is not ends the trail. A checkpoint holds the number of the last line of its time:
 * what was written to files of later lines was not acknowledged, and is cut off again at open. */
#ifndef DELIVERY_SINKS_FILE_TRAIL_H
#define DELIVERY_SINKS_FILE_TRAIL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "file_path.h"

struct file_trail {
    char path[FILE_PATH_MAX];
    uint64_t last; /* number of the last line */
};

/* Names the trail. SPOOL_ECONFIG: too long. */
int file_trail_init(struct file_trail *trail, const char *pattern);
/* Cuts back every file begun after `number`, then starts the trail over behind it. Files that are no longer the ones
 * begun are left alone. errno. */
int file_trail_rewind(struct file_trail *trail, uint64_t number);
/* Adds a line, and with `sync` waits until it is on disk. errno. */
int file_trail_add(struct file_trail *trail, const char *path, const struct stat *st, bool sync);

#endif
