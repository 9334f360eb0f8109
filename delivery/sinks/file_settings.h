/* file_settings.h - what the file sink is told: read from its configuration, and checked. */
#ifndef DELIVERY_SINKS_FILE_SETTINGS_H
#define DELIVERY_SINKS_FILE_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "file_tend.h"

enum file_flush { FLUSH_CHECKPOINT, FLUSH_BATCH, FLUSH_NONE };

struct file_settings {
    char *pattern;
    uint64_t rotate_bytes, rotate_ms, keep; /* 0: never, never, all */
    int flush;                              /* enum file_flush */
    mode_t mode;
    struct tend_options tending;
    bool has_parts; /* the path has placeholders */
};

/* What was allocated is freed by file_settings_free(), also after a failure. SPOOL_ECONFIG, ENOMEM. */
int file_settings_read(const char *json, struct file_settings *ret);
void file_settings_free(struct file_settings *settings);

#endif
