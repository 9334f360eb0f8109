/* file_compress.c - see file_compress.h. The frame has a checksum, so that `zstd -t` tells whether it is whole. */
#include "file_compress.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "../../lib/spool.h"
#include "file_names.h"
#include "lines.h"

enum { CHUNK = 128 << 10 };

struct squeeze {
    int in, out;
    ZSTD_CCtx *context;
    char *from, *to; /* CHUNK each */
};

/* What the context makes of the input, all of it; with `last` also the end of the frame. errno. */
static int put(const struct squeeze *s, size_t size, bool last)
{
    ZSTD_inBuffer input = {s->from, size, 0};
    size_t left = 1;
    while (input.pos < input.size || (last && left > 0)) {
        ZSTD_outBuffer output = {s->to, CHUNK, 0};
        left = ZSTD_compressStream2(s->context, &output, &input, last ? ZSTD_e_end : ZSTD_e_continue);
        if (ZSTD_isError(left))
            return ENOMEM; /* with good parameters nothing else fails */
        int err = lines_write(s->out, s->to, output.pos);
        if (err != SPOOL_OK)
            return err;
    }
    return SPOOL_OK;
}

static int squeeze(const struct squeeze *s, const atomic_bool *stop)
{
    for (;;) {
        ssize_t n = read(s->in, s->from, CHUNK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        if (atomic_load(stop))
            return ECANCELED;
        int err = put(s, (size_t)n, n == 0);
        if (err != SPOOL_OK || n == 0)
            return err;
    }
}

static int run(int in, int out, int level, const atomic_bool *stop)
{
    struct squeeze s = {in, out, ZSTD_createCCtx(), malloc(CHUNK), malloc(CHUNK)};
    int err = s.context && s.from && s.to ? SPOOL_OK : ENOMEM;
    if (err == SPOOL_OK && (ZSTD_isError(ZSTD_CCtx_setParameter(s.context, ZSTD_c_compressionLevel, level)) ||
                            ZSTD_isError(ZSTD_CCtx_setParameter(s.context, ZSTD_c_checksumFlag, 1))))
        err = EINVAL;
    if (err == SPOOL_OK)
        err = squeeze(&s, stop);
    ZSTD_freeCCtx(s.context);
    free(s.from);
    free(s.to);
    return err;
}

/* Owner as far as we may, permissions, times; and the data on disk. errno. */
static int dress(int out, const struct stat *st)
{
    const struct timespec times[] = {st->st_atim, st->st_mtim};
    if (fchown(out, st->st_uid, st->st_gid) != 0 && errno != EPERM)
        return errno;
    if (fchmod(out, st->st_mode & 07777) != 0 || futimens(out, times) != 0 || fsync(out) != 0)
        return errno;
    return SPOOL_OK;
}

static int make(const char *path, const char *tmp, int level, const atomic_bool *stop)
{
    struct stat st;
    int in = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (in < 0)
        return errno;
    int out = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    int err = out < 0 ? errno : SPOOL_OK;
    if (err == SPOOL_OK && (fstat(in, &st) != 0))
        err = errno;
    if (err == SPOOL_OK)
        err = run(in, out, level, stop);
    if (err == SPOOL_OK)
        err = dress(out, &st);
    close(in);
    if (out >= 0)
        close(out);
    return err;
}

int file_compress(const char *path, int level, const atomic_bool *stop)
{
    char tmp[FILE_PATH_MAX + sizeof FILE_TMP_SUFFIX], zst[FILE_PATH_MAX + sizeof FILE_ZST_SUFFIX];
    snprintf(tmp, sizeof tmp, "%s%s", path, FILE_TMP_SUFFIX);
    snprintf(zst, sizeof zst, "%s%s", path, FILE_ZST_SUFFIX);
    if (unlink(tmp) != 0 && errno != ENOENT) /* of one that was interrupted */
        return errno;
    int err = make(path, tmp, level, stop);
    if (err == SPOOL_OK && rename(tmp, zst) != 0)
        err = errno;
    if (err != SPOOL_OK) {
        unlink(tmp);
        return err;
    }
    err = file_path_sync_parent(path);
    if (err == SPOOL_OK && unlink(path) != 0)
        err = errno;
    return err;
}
