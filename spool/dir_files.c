/* dir_files.c - files of the directory: opened without following links, listed, set aside, counted. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../lib/base/error.h"
#include "../lib/base/sync.h"
#include "dir_inside.h"

/* --------------------------------------------------------------------------------------------------------- opening */

/* What root makes in another user's spool must not lock that user out. */
int dir_give_to_owner(int at_fd, int fd)
{
    struct stat dir;
    if (geteuid() != 0)
        return SPOOL_OK;
    if (fstat(at_fd, &dir) || (dir.st_uid != 0 && fchown(fd, dir.st_uid, dir.st_gid)))
        return err_errno(errno, "cannot give a new file to the owner of the directory");
    return SPOOL_OK;
}

static int create_file(int at_fd, const char *name, int flags, mode_t mode)
{
    int fd = openat(at_fd, name, flags | O_CREAT | O_EXCL, mode);
    if (fd < 0)
        return -errno;
    int err = fchmod(fd, mode) ? errno : dir_give_to_owner(at_fd, fd);
    if (err == 0)
        return fd;
    unlinkat(at_fd, name, 0);
    close(fd);
    return -err;
}

/* Opens or makes it; a peer may make or remove it between the two tries. */
static int open_or_create(int at_fd, const char *name, int flags, mode_t mode)
{
    for (int tries = 0; tries < 100; tries++) {
        if (flags & O_CREAT) {
            int fd = create_file(at_fd, name, flags, mode);
            if (fd != -EEXIST || (flags & O_EXCL))
                return fd;
        }
        int fd = openat(at_fd, name, flags & ~(O_CREAT | O_EXCL));
        if (fd >= 0 || !(flags & O_CREAT) || errno != ENOENT)
            return fd >= 0 ? fd : -errno;
    }
    return -EBUSY;
}

static int refuse_odd_file(int fd, const char *name)
{
    struct stat st;
    if (fstat(fd, &st))
        return -err_errno(errno, "%s", name);
    if (!S_ISREG(st.st_mode)) {
        err_set(SPOOL_EACCESS, "%s is no regular file: move it away", name);
        return -ELOOP;
    }
    if (st.st_nlink > 1) {
        err_set(SPOOL_EACCESS, "%s has other names (hard links): put a copy in its place", name);
        return -ELOOP;
    }
    return 0;
}

int dir_file_at(int at_fd, const char *name, int flags, mode_t mode)
{
    /* O_NONBLOCK: what turns out to be a FIFO must not hang us; it means nothing for a regular file. */
    int fd = open_or_create(at_fd, name, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, mode);
    if (fd == -ELOOP)
        err_set(SPOOL_EACCESS, "%s is a symbolic link: put the file itself in its place", name);
    else if (fd < 0)
        err_errno(-fd, "%s", name);
    if (fd < 0)
        return fd;
    int err = refuse_odd_file(fd, name);
    if (err) {
        close(fd);
        return err;
    }
    return fd;
}

int dir_open_file(const struct dir *dir, int at_fd, const char *name, int flags)
{
    return dir_file_at(at_fd, name, flags, dir->file_mode);
}

/* --------------------------------------------------------------------------------------------------------- listing */

static bool ends_in(const char *name, const char *suffix)
{
    size_t n = strlen(name), m = strlen(suffix);
    return n >= m && strcmp(name + n - m, suffix) == 0;
}

/* A stream of its own, so that two threads can list at once. */
int dir_stream(int at_fd, DIR **ret)
{
    int fd = openat(at_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;
    if (stream) {
        *ret = stream;
        return SPOOL_OK;
    }
    int err = errno;
    if (fd >= 0)
        close(fd);
    return err_errno(err, "cannot list the directory");
}

int dir_each(int at_fd, const char *suffix, int (*each)(void *user, const char *name), void *user)
{
    if (at_fd < 0)
        return SPOOL_OK; /* a subdirectory that is missing in a spool opened for reading */
    DIR *stream;
    int code = dir_stream(at_fd, &stream);
    if (code)
        return code;
    struct dirent *entry;
    while (!code && (errno = 0, entry = readdir(stream))) {
        if (entry->d_name[0] != '.' && ends_in(entry->d_name, suffix))
            code = each(user, entry->d_name);
    }
    if (!code && !entry && errno)
        code = err_errno(errno, "cannot list the directory");
    closedir(stream);
    return code;
}

/* -------------------------------------------------------------------------------------------------------- counting */

struct usage {
    int at_fd;
    uint64_t bytes, journals;
};

static int add_file(void *user, const char *name)
{
    struct usage *usage = user;
    struct stat st;
    if (fstatat(usage->at_fd, name, &st, AT_SYMLINK_NOFOLLOW))
        return errno == ENOENT ? SPOOL_OK : err_errno(errno, "%s", name);
    if (S_ISREG(st.st_mode))
        usage->bytes += (uint64_t)st.st_blocks * 512;
    usage->journals += ends_in(name, ".jnl");
    return SPOOL_OK;
}

int dir_used_bytes(const struct dir *dir, uint64_t *ret_bytes, uint64_t *ret_journals)
{
    const int fds[] = {dir->fd, dir->segments_fd, dir->quarantine_fd, dir->journal_fd};
    struct usage usage = {0};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        usage.at_fd = fds[i];
        usage.journals = 0;
        int code = dir_each(fds[i], "", add_file, &usage);
        if (code)
            return err_prefix(code, "%s", dir->path);
    }
    *ret_bytes = usage.bytes;
    *ret_journals = usage.journals;
    return SPOOL_OK;
}

/* ----------------------------------------------------------------------------------------------------- other things */

ssize_t dir_read_at(int fd, void *buf, size_t size, off_t at)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = pread(fd, (char *)buf + done, size - done, at + (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && !done)
            return -1;
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

int dir_flush(int at_fd)
{
    if (fsync(at_fd) == 0)
        return SPOOL_OK;
    return err_errno(errno, "cannot flush the directory");
}

/* A name that is not taken in quarantine/; two files of one name may come in one second. */
static int move_aside(const struct dir *dir, int at_fd, const char *name)
{
    unsigned long long seconds = real_ns() / 1000000000u;
    for (int n = 0; n < 1000; n++) {
        char to[300];
        snprintf(to, sizeof to, n ? "%llu-%.200s.%d" : "%llu-%.200s", seconds, name, n);
        if (faccessat(dir->quarantine_fd, to, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            continue;
        if (errno == ENOENT && renameat(at_fd, name, dir->quarantine_fd, to) == 0) /* which would replace it */
            return SPOOL_OK;
        return err_errno(errno, "%s: cannot move %s to quarantine/", dir->path, name);
    }
    return err_set(SPOOL_EEXISTS, "%s/quarantine: too many files of the name %s: remove some", dir->path, name);
}

int dir_quarantine(const struct dir *dir, int at_fd, const char *name)
{
    if (dir->read_only)
        return err_set(SPOOL_EREADONLY, "%s: open for reading only, %s stays where it is", dir->path, name);
    int code = move_aside(dir, at_fd, name);
    if (!code)
        code = dir_flush(dir->quarantine_fd);
    return code ? code : dir_flush(at_fd);
}
