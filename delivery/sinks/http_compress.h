/* http_compress.h - bodies of requests compressed as HTTP names it: gzip (RFC 1952) and zstd (RFC 8878). */
#ifndef DELIVERY_SINKS_HTTP_COMPRESS_H
#define DELIVERY_SINKS_HTTP_COMPRESS_H

#include "../../lib/base/buffer.h"
#include "../../lib/spool.h"

enum compression { COMPRESS_NONE, COMPRESS_GZIP, COMPRESS_ZSTD };
/* The names in a configuration, in that order, and NULL; "gzip" and "zstd" are also the content codings. */
extern const char *const compression_names[];

struct compressor; /* one thread at a time */
/* NULL without memory. */
struct compressor *compressor_new(enum compression kind);
/* Replaces what is in `out` by `size` bytes compressed, one whole gzip member or zstd frame. ENOMEM, SPOOL_EINTERNAL,
 * with a message left by spool_sink_error(). */
int compressor_run(struct compressor *compressor, const void *bytes, size_t size, struct buffer *out);
void compressor_free(struct compressor *compressor);

#endif
