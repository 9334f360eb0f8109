/* dir_limits.c - the file limits.json: the limit of the directory that was set last, for those that open it without one.
 *
 * One JSON object: {"max_bytes": 67108864}. It is valid if `max_bytes` is a number of at least 4 MiB; other members are
 * ignored. Without the file, or with a damaged one, there is no such limit: it is a convenience (the command line then
 * respects what the program was given), nothing depends on it. Replaced as a whole: written under a name of its own, flushed,
 * renamed. Version recipe: add members; a reader ignores what it does not know. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../lib/base/error.h"
#include "../lib/base/json_tree.h"
#include "dir_inside.h"

static const char NAME[] = "limits.json", TMP[] = "limits.json.tmp";
enum { TEXT_MAX = 4096, LEAST_BYTES = 4 << 20 };

uint64_t dir_limits_read(const struct dir *dir)
{
    char text[TEXT_MAX];
    int fd = dir_open_file(dir, dir->fd, NAME, O_RDONLY);
    if (fd < 0)
        return 0;
    ssize_t n = dir_read_at(fd, text, sizeof text, 0);
    close(fd);
    json_t *root = NULL;
    json_error_t error;
    if (n <= 0 || json_tree(text, (size_t)n, &root, &error))
        return 0;
    json_int_t max_bytes = json_integer_value(json_object_get(root, "max_bytes"));
    json_decref(root);
    return max_bytes >= LEAST_BYTES ? (uint64_t)max_bytes : 0;
}

static int write_text(const struct dir *dir, const char *text, size_t size)
{
    int fd = dir_open_file(dir, dir->fd, TMP, O_WRONLY | O_CREAT | O_TRUNC);
    if (fd < 0)
        return err_prefix(-fd, "%s", dir->path);
    ssize_t n = write(fd, text, size);
    int err = n < 0 ? errno : n < (ssize_t)size ? ENOSPC : fsync(fd) ? errno : 0;
    close(fd);
    if (!err && renameat(dir->fd, TMP, dir->fd, NAME))
        err = errno;
    return err ? err_errno(err, "%s/%s: cannot write", dir->path, NAME) : SPOOL_OK;
}

int dir_limits_write(const struct dir *dir, uint64_t max_bytes)
{
    char text[64];
    if (dir->read_only || dir_limits_read(dir) == max_bytes)
        return SPOOL_OK;
    int n = snprintf(text, sizeof text, "{\"max_bytes\": %llu}\n", (unsigned long long)max_bytes);
    int code = write_text(dir, text, (size_t)n);
    if (code)
        unlinkat(dir->fd, TMP, 0);
    return code ? code : dir_flush(dir->fd);
}
