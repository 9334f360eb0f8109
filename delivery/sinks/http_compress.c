/* http_compress.c - see http_compress.h. The contexts are kept: setting one up costs more than a small body. */
#include "http_compress.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

enum {
    GZIP_WINDOW = 15 + 16, /* the largest window, and a gzip header instead of zlib's */
    GZIP_MEMORY = 8,
    GZIP_LEVEL = 4, /* of nine: beyond it JSON gets little smaller and much slower */
    ZSTD_LEVEL = 3,
};

const char *const compression_names[] = {"none", "gzip", "zstd", NULL};

struct compressor {
    enum compression kind;
    z_stream gzip;
    ZSTD_CCtx *zstd;
};

struct compressor *compressor_new(enum compression kind)
{
    struct compressor *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    bool good = true;
    if (kind == COMPRESS_GZIP)
        good = deflateInit2(&c->gzip, GZIP_LEVEL, Z_DEFLATED, GZIP_WINDOW, GZIP_MEMORY, Z_DEFAULT_STRATEGY) == Z_OK;
    if (kind == COMPRESS_ZSTD)
        good = (c->zstd = ZSTD_createCCtx()) != NULL;
    if (!good) {
        free(c);
        return NULL;
    }
    c->kind = kind;
    return c;
}

static int run_gzip(z_stream *gzip, const void *bytes, size_t size, struct buffer *out)
{
    if (size > UINT_MAX / 2)
        return spool_sink_error(SPOOL_EINTERNAL, "%zu bytes are too many for gzip", size);
    if (deflateReset(gzip) != Z_OK)
        return spool_sink_error(SPOOL_EINTERNAL, "gzip cannot begin: %s", gzip->msg ? gzip->msg : "no reason given");
    int code = buffer_reserve(out, deflateBound(gzip, size));
    if (code != SPOOL_OK)
        return spool_sink_error(code, "out of memory");
    gzip->next_in = (Bytef *)bytes; /* zlib does not write there */
    gzip->avail_in = (uInt)size;
    gzip->next_out = out->data;
    gzip->avail_out = out->cap < UINT_MAX ? (uInt)out->cap : UINT_MAX;
    uInt room = gzip->avail_out;
    if (deflate(gzip, Z_FINISH) != Z_STREAM_END)
        return spool_sink_error(SPOOL_EINTERNAL, "gzip did not finish: %s", gzip->msg ? gzip->msg : "no reason given");
    out->size = room - gzip->avail_out;
    return SPOOL_OK;
}

static int run_zstd(ZSTD_CCtx *zstd, const void *bytes, size_t size, struct buffer *out)
{
    int code = buffer_reserve(out, ZSTD_compressBound(size));
    if (code != SPOOL_OK)
        return spool_sink_error(code, "out of memory");
    size_t written = ZSTD_compressCCtx(zstd, out->data, out->cap, bytes, size, ZSTD_LEVEL);
    if (ZSTD_isError(written) && ZSTD_getErrorCode(written) == ZSTD_error_memory_allocation)
        return spool_sink_error(ENOMEM, "out of memory");
    if (ZSTD_isError(written))
        return spool_sink_error(SPOOL_EINTERNAL, "zstd: %s", ZSTD_getErrorName(written));
    out->size = written;
    return SPOOL_OK;
}

int compressor_run(struct compressor *compressor, const void *bytes, size_t size, struct buffer *out)
{
    out->size = 0;
    return compressor->kind == COMPRESS_GZIP ? run_gzip(&compressor->gzip, bytes, size, out)
                                             : run_zstd(compressor->zstd, bytes, size, out);
}

void compressor_free(struct compressor *compressor)
{
    if (!compressor)
        return;
    if (compressor->kind == COMPRESS_GZIP)
        deflateEnd(&compressor->gzip);
    ZSTD_freeCCtx(compressor->zstd);
    free(compressor);
}
