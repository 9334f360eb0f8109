/* file_compress.h - a file as a zstd file beside it. */
#ifndef DELIVERY_SINKS_FILE_COMPRESS_H
#define DELIVERY_SINKS_FILE_COMPRESS_H

#include <stdatomic.h>

/* Makes path.zst of the plain file at `path`, with its permissions and times, whole and flushed before the name is
 * there; then removes the plain one. Gives up with ECANCELED soon after *stop is set. errno; nothing has changed then.
 */
int file_compress(const char *path, int level, const atomic_bool *stop);

#endif
