/* dir.c - opening and making the directory of a spool.
 *
 * spool.json makes a directory a spool (dir_identity.c). It is made last: subdirectories, then the flush of the
 * directory, then spool.json under a temporary name, then its rename, which does not replace. So a crash at any point
 * leaves a directory that is a spool, or one that holds nothing but empty subdirectories and a temporary file, which
 * the next open completes; and of processes that make it at once one wins and the others open what it made, without a
 * lock. */
#include "dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../lib/base/error.h"
#include "dir_inside.h"

enum { FILE_MODE_DEFAULT = 0600 };

/* ---------------------------------------------------------------------------------------------------- the directory */

/* Who may read a file may list its directory. */
static mode_t mode_of_directory(const struct dir *dir)
{
    return 0700 | (dir->file_mode & 0060 ? 0010 | (dir->file_mode & 0060) : 0);
}

static int open_directory(int at_fd, const char *path, int flags)
{
    int fd = openat(at_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | flags);
    return fd >= 0 ? fd : -errno;
}

/* mkdir applies the umask, which may be too strict for a shared one. */
static int make_top(struct dir *dir)
{
    if (mkdir(dir->path, mode_of_directory(dir))) {
        if (errno == ENOENT)
            return err_set(ENOENT, "cannot make %s: the directory it should be in does not exist: make that first",
                           dir->path);
        if (errno == EROFS)
            return err_set(EROFS, "cannot make %s: the file system is mounted read-only", dir->path);
        return errno == EEXIST ? SPOOL_OK : err_errno(errno, "cannot make %s", dir->path);
    }
    return chmod(dir->path, mode_of_directory(dir)) ? err_errno(errno, "%s: chmod", dir->path) : SPOOL_OK;
}

static int open_top(struct dir *dir, bool may_create)
{
    dir->fd = open_directory(AT_FDCWD, dir->path, 0);
    if (dir->fd == -ENOENT && may_create) {
        int code = make_top(dir);
        if (code)
            return code;
        dir->fd = open_directory(AT_FDCWD, dir->path, 0);
    }
    if (dir->fd >= 0)
        return SPOOL_OK;
    if (dir->fd == -ENOENT)
        return err_set(SPOOL_ENOTSPOOL, "there is no directory %s", dir->path);
    if (dir->fd == -ENOTDIR)
        return err_set(SPOOL_ENOTSPOOL, "%s is not a directory", dir->path);
    return err_errno(-dir->fd, "cannot open %s", dir->path);
}

/* ---------------------------------------------------------------------------------------------------- subdirectories
 */

static int make_sub(const struct dir *dir, const char *name)
{
    if (mkdirat(dir->fd, name, mode_of_directory(dir)))
        return errno == EEXIST ? SPOOL_OK : err_errno(errno, "cannot make %s/%s", dir->path, name);
    int fd = open_directory(dir->fd, name, O_NOFOLLOW);
    if (fd < 0)
        return err_errno(-fd, "%s/%s", dir->path, name);
    int code = fchmod(fd, mode_of_directory(dir)) ? err_errno(errno, "%s/%s: chmod", dir->path, name)
                                                  : dir_give_to_owner(dir->fd, fd);
    close(fd);
    return code;
}

/* In a spool that is only read one may be missing: then it counts as empty, and its descriptor is -1. */
static int open_sub(const struct dir *dir, const char *name, int *ret_fd)
{
    char where[320];
    snprintf(where, sizeof where, "%.200s/%s", dir->path, name);
    int fd = open_directory(dir->fd, name, O_NOFOLLOW);
    if (fd == -ELOOP || fd == -ENOTDIR)
        return err_set(SPOOL_EACCESS, "%s is a link, or no directory: move it away", where);
    if (fd == -ENOENT && dir->read_only)
        return SPOOL_OK;
    if (fd < 0)
        return err_errno(-fd, "cannot open %s", where);
    int code = dir_check_access(dir, fd, where);
    if (code)
        close(fd);
    else
        *ret_fd = fd;
    return code;
}

static int make_subs(const struct dir *dir)
{
    int code = make_sub(dir, "journal");
    if (!code)
        code = make_sub(dir, "segments");
    return code ? code : make_sub(dir, "quarantine");
}

static int open_subs(struct dir *dir)
{
    int code = open_sub(dir, "journal", &dir->journal_fd);
    if (!code)
        code = open_sub(dir, "segments", &dir->segments_fd);
    return code ? code : open_sub(dir, "quarantine", &dir->quarantine_fd);
}

/* ------------------------------------------------------------------------------------------------------------ making
 */

/* Our name in the directory above must be durable too. Who may not open that one flushes the whole file system. */
static int flush_parent(const struct dir *dir)
{
    int fd = open_directory(dir->fd, "..", 0);
    int err = fd < 0 ? (syncfs(dir->fd) ? errno : 0) : fsync(fd) ? errno : 0;
    if (fd >= 0)
        close(fd);
    return err ? err_errno(err, "%s: cannot flush the directory above", dir->path) : SPOOL_OK;
}

static int make_spool(struct dir *dir)
{
    int code = dir_check_fresh(dir);
    if (!code)
        code = make_subs(dir);
    if (!code)
        code = dir_flush(dir->fd);
    if (!code)
        code = dir_identity_make(dir);
    if (!code)
        code = dir_flush(dir->fd);
    if (!code)
        code = flush_parent(dir);
    dir->created = !code;
    return code;
}

/* Reads spool.json, making the spool first when there is none. */
static int identify(struct dir *dir, bool may_create)
{
    int code = dir_identity_read(dir);
    if (code != ENOENT)
        return code;
    if (!may_create) {
        code = dir_check_fresh(dir); /* for the better message */
        return code ? code : err_set(SPOOL_ENOTSPOOL, "%s is not a spool: it is empty", dir->path);
    }
    code = make_spool(dir);
    return code ? code : dir_identity_read(dir);
}

/* ----------------------------------------------------------------------------------------------------- open and close
 */

static int open_all(struct dir *dir, uint32_t flags)
{
    bool may_create = !(flags & (SPOOL_READ_ONLY | SPOOL_NO_CREATE));
    int code = open_top(dir, may_create);
    if (!code)
        code = dir_check_file_system(dir, flags);
    if (!code)
        code = dir_check_access(dir, dir->fd, dir->path);
    if (!code)
        code = dir_check_writable(dir);
    if (!code)
        code = identify(dir, may_create);
    if (!code && !dir->read_only)
        code = make_subs(dir); /* someone may have removed an empty one */
    if (!code)
        code = open_subs(dir);
    return code ? code : dir_check_entries(dir);
}

int dir_open(const char *path, uint64_t segment_bytes, uint32_t file_mode, uint32_t flags, struct dir *ret)
{
    struct dir dir = {
        .fd = -1, .journal_fd = -1, .segments_fd = -1, .quarantine_fd = -1, .segment_bytes = segment_bytes};
    dir.file_mode = file_mode ? file_mode & 0777 : FILE_MODE_DEFAULT;
    dir.read_only = (flags & SPOOL_READ_ONLY) != 0;
    if (!path || !*path)
        return err_set(SPOOL_EINVAL, "no directory is named");
    dir.path = strdup(path);
    int code = dir.path ? open_all(&dir, flags) : err_errno(ENOMEM, "%s", path);
    if (code)
        dir_close(&dir);
    else
        *ret = dir;
    return code;
}

void dir_close(struct dir *dir)
{
    int *fds[] = {&dir->fd, &dir->journal_fd, &dir->segments_fd, &dir->quarantine_fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
    free(dir->path);
    dir->path = NULL;
}
