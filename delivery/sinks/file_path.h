/* file_path.h - names of the file sink: a strftime template in UTC, and a number for files that were begun by rotation.
 *
 *   events-%Y%m%d.jsonl  ->  events-20261121.jsonl, events-20261121-000001.jsonl, events-20261121-000002.jsonl … */
#ifndef DELIVERY_SINKS_FILE_PATH_H
#define DELIVERY_SINKS_FILE_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { FILE_PATH_MAX = 3072 };

/* Expands the template at a time in seconds, with room left for a number. SPOOL_ECONFIG: it does not fit or is empty. */
int file_path_expand(const char *pattern, int64_t unix_s, char ret[FILE_PATH_MAX]);
/* Puts "-<number>" before the extension of the last component of an expanded name; number 0: none. */
void file_path_number(const char *base, unsigned number, char ret[FILE_PATH_MAX]);
/* Makes the directories above the path that are not there, 0755 less the umask; with `sync` their names last when it
 * returns. errno. */
int file_path_make_parents(const char *path, bool sync);
/* Flushes the directory that the path is in. errno. */
int file_path_sync_parent(const char *path);

#endif
