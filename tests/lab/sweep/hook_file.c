/* hook_file.c - files: opening, writing, reading, flushing, names, locks, maps.
 *
 * Writes and flushes are also told to power.c, which keeps what a disk would hold. */
#include "hook.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

/* --------------------------------------------------------------------------------------------------------- opening */

static int open_error(void)
{
    return fault_hits(FAULT_OPEN_EMFILE) ? EMFILE : fault_hits(FAULT_OPEN_EACCES) ? EACCES : 0;
}

static mode_t mode_of(int flags, va_list list)
{
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(list, mode_t) : 0;
}

#define OPEN_HOOK(function)                                                                                            \
    int function(const char *path, int flags, ...)                                                                     \
    {                                                                                                                  \
        NEXT(int, function, const char *, int, ...);                                                                   \
        va_list list;                                                                                                  \
        va_start(list, flags);                                                                                         \
        mode_t mode = mode_of(flags, list);                                                                            \
        va_end(list);                                                                                                  \
        int err = open_error();                                                                                        \
        return err ? fail(err) : next(path, flags, mode);                                                              \
    }
#define OPENAT_HOOK(function)                                                                                          \
    int function(int dir, const char *path, int flags, ...)                                                            \
    {                                                                                                                  \
        NEXT(int, function, int, const char *, int, ...);                                                              \
        va_list list;                                                                                                  \
        va_start(list, flags);                                                                                         \
        mode_t mode = mode_of(flags, list);                                                                            \
        va_end(list);                                                                                                  \
        int err = open_error();                                                                                        \
        return err ? fail(err) : next(dir, path, flags, mode);                                                         \
    }
OPEN_HOOK(open)
OPEN_HOOK(open64)
OPENAT_HOOK(openat)
OPENAT_HOOK(openat64)

int memfd_create(const char *name, unsigned flags)
{
    NEXT(int, memfd_create, const char *, unsigned);
    int err = open_error();
    return err ? fail(err) : next(name, flags);
}

FILE *fopen(const char *path, const char *mode)
{
    NEXT(FILE *, fopen, const char *, const char *);
    int err = open_error();
    errno = err ? err : errno;
    return err ? NULL : next(path, mode);
}

/* --------------------------------------------------------------------------------------------------------- writing */

enum write_fate { WRITE_WHOLE, WRITE_HALF, WRITE_NOTHING, WRITE_LOST_ANSWER };

static bool is_synced(int fd)
{
    fault_pause();
    int flags = fcntl(fd, F_GETFL);
    fault_resume();
    return flags >= 0 && flags & O_DSYNC;
}

static enum write_fate fate_of(bool synced)
{
    if (fault_hits(FAULT_WRITE_ENOSPC)) {
        errno = ENOSPC;
        return WRITE_NOTHING;
    }
    errno = EIO;
    if (fault_hits(FAULT_WRITE_EIO) || (synced && fault_hits(FAULT_META_EIO)))
        return WRITE_NOTHING;
    if (fault_hits(FAULT_WRITE_LATE) || (synced && fault_hits(FAULT_META_LATE)))
        return WRITE_LOST_ANSWER;
    return fault_hits(FAULT_WRITE_SHORT) ? WRITE_HALF : WRITE_WHOLE;
}

static ssize_t write_some(int fd, const void *bytes, size_t size, off_t at)
{
    NEXT(ssize_t, pwrite, int, const void *, size_t, off_t);
    static ssize_t (*next_write)(int, const void *, size_t);
    if (!next_write)
        *(void **)&next_write = next_function("write");
    return at < 0 ? next_write(fd, bytes, size) : next(fd, bytes, size, at);
}

/* `at` is -1 for the descriptor's own place. */
static ssize_t write_with_fate(int fd, const void *bytes, size_t size, off_t at)
{
    bool synced = is_synced(fd);
    enum write_fate fate = fate_of(synced);
    int err = errno;
    if (fate == WRITE_NOTHING)
        return fail(err);
    ssize_t n = write_some(fd, bytes, fate == WRITE_HALF && size > 1 ? size / 2 : size, at);
    if (n > 0 && at >= 0)
        power_wrote(fd, bytes, (size_t)n, at, synced && fate != WRITE_LOST_ANSWER);
    return fate == WRITE_LOST_ANSWER && n >= 0 ? fail(err) : n;
}

static ssize_t write_hook(int fd, const void *bytes, size_t size, off_t at)
{
    bool power = power_enter();
    ssize_t n = power || fault_is_armed() ? write_with_fate(fd, bytes, size, at) : write_some(fd, bytes, size, at);
    if (power)
        power_leave();
    return n;
}

ssize_t write(int fd, const void *bytes, size_t size)
{
    return write_hook(fd, bytes, size, -1);
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at)
{
    return write_hook(fd, bytes, size, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off_t at)
{
    return write_hook(fd, bytes, size, at);
}

static void tell_pieces(int fd, const struct iovec *pieces, off_t at, size_t left)
{
    for (; left > 0; pieces++) {
        size_t size = pieces->iov_len < left ? pieces->iov_len : left;
        power_wrote(fd, pieces->iov_base, size, at, false);
        at += (off_t)size;
        left -= size;
    }
}

/* Debian's LMDB seeks and calls this. A short write ends within the first piece. */
static ssize_t write_pieces(int fd, const struct iovec *pieces, int n)
{
    NEXT(ssize_t, writev, int, const struct iovec *, int);
    off_t at = lseek(fd, 0, SEEK_CUR);
    enum write_fate fate = fate_of(false);
    int err = errno;
    if (fate == WRITE_NOTHING)
        return fail(err);
    struct iovec half = {pieces[0].iov_base, pieces[0].iov_len / 2};
    ssize_t done = fate == WRITE_HALF ? next(fd, &half, 1) : next(fd, pieces, n);
    if (done > 0 && at >= 0)
        tell_pieces(fd, pieces, at, (size_t)done);
    return fate == WRITE_LOST_ANSWER && done >= 0 ? fail(err) : done;
}

ssize_t writev(int fd, const struct iovec *pieces, int n)
{
    bool power = power_enter();
    ssize_t done = write_pieces(fd, pieces, n);
    if (power)
        power_leave();
    return done;
}

#define ALLOCATE_HOOK(function, parameters, types, arguments, refused)                                                 \
    int function parameters                                                                                            \
    {                                                                                                                  \
        NEXT(int, function, types);                                                                                    \
        return fault_hits(FAULT_ALLOCATE) ? (refused) : next arguments;                                                \
    }
#define TYPES(...) __VA_ARGS__
ALLOCATE_HOOK(ftruncate, (int fd, off_t size), TYPES(int, off_t), (fd, size), fail(ENOSPC))
ALLOCATE_HOOK(ftruncate64, (int fd, off64_t size), TYPES(int, off64_t), (fd, size), fail(ENOSPC))
ALLOCATE_HOOK(truncate, (const char *path, off_t size), TYPES(const char *, off_t), (path, size), fail(ENOSPC))
ALLOCATE_HOOK(fallocate, (int fd, int mode, off_t at, off_t size), TYPES(int, int, off_t, off_t), (fd, mode, at, size),
              fail(ENOSPC))
ALLOCATE_HOOK(posix_fallocate, (int fd, off_t at, off_t size), TYPES(int, off_t, off_t), (fd, at, size), ENOSPC)

/* -------------------------------------------------------------------------------------------------------- flushing */

#define SYNC_HOOK(function)                                                                                            \
    int function(int fd)                                                                                               \
    {                                                                                                                  \
        NEXT(int, function, int);                                                                                      \
        bool bad = fault_hits(FAULT_SYNC), power = power_enter();                                                      \
        if (power) {                                                                                                   \
            power_flushed(fd, !bad);                                                                                   \
            power_leave();                                                                                             \
        }                                                                                                              \
        return bad ? fail(EIO) : next(fd);                                                                             \
    }
SYNC_HOOK(fsync)
SYNC_HOOK(fdatasync)
SYNC_HOOK(syncfs)

int msync(void *memory, size_t size, int flags)
{
    NEXT(int, msync, void *, size_t, int);
    return fault_hits(FAULT_SYNC) ? fail(EIO) : next(memory, size, flags);
}

/* --------------------------------------------------------------------------------------------------------- reading */

ssize_t read(int fd, void *buf, size_t size)
{
    NEXT(ssize_t, read, int, void *, size_t);
    if (fault_hits(FAULT_READ_EIO))
        return fail(EIO);
    return next(fd, buf, size > 1 && fault_hits(FAULT_READ_SHORT) ? size / 2 : size);
}

/* LMDB takes a short read of its meta pages for a file that is none of its own. Files on local disks are not read short
 * in the middle, so that is left alone; our own code does not rely on it. */
static bool reads_short(const void *caller)
{
    Dl_info info;
    return fault_is_armed() && !(dladdr(caller, &info) && strstr(info.dli_fname, "liblmdb")) &&
           fault_hits(FAULT_READ_SHORT);
}

#define PREAD_HOOK(function)                                                                                           \
    ssize_t function(int fd, void *buf, size_t size, off_t at)                                                         \
    {                                                                                                                  \
        NEXT(ssize_t, function, int, void *, size_t, off_t);                                                           \
        if (fault_hits(FAULT_READ_EIO))                                                                                \
            return fail(EIO);                                                                                          \
        return next(fd, buf, size > 1 && reads_short(__builtin_return_address(0)) ? size / 2 : size, at);              \
    }
PREAD_HOOK(pread)
PREAD_HOOK(pread64)

#define MAP_HOOK(function)                                                                                             \
    void *function(void *where, size_t size, int protection, int flags, int fd, off_t at)                              \
    {                                                                                                                  \
        NEXT(void *, function, void *, size_t, int, int, int, off_t);                                                  \
        if (!fault_hits(FAULT_MAP))                                                                                    \
            return next(where, size, protection, flags, fd, at);                                                       \
        errno = ENOMEM;                                                                                                \
        return MAP_FAILED;                                                                                             \
    }
MAP_HOOK(mmap)
MAP_HOOK(mmap64)

/* ----------------------------------------------------------------------------------------------------------- names */

#define NAME_HOOK(function, class, err, parameters, types, arguments)                                                  \
    int function parameters                                                                                            \
    {                                                                                                                  \
        NEXT(int, function, types);                                                                                    \
        return fault_hits(class) ? fail(err) : next arguments;                                                         \
    }
NAME_HOOK(rename, FAULT_RENAME, EIO, (const char *a, const char *b), TYPES(const char *, const char *), (a, b))
NAME_HOOK(renameat, FAULT_RENAME, EIO, (int a, const char *b, int c, const char *d),
          TYPES(int, const char *, int, const char *), (a, b, c, d))
NAME_HOOK(renameat2, FAULT_RENAME, EIO, (int a, const char *b, int c, const char *d, unsigned e),
          TYPES(int, const char *, int, const char *, unsigned), (a, b, c, d, e))
NAME_HOOK(link, FAULT_RENAME, EIO, (const char *a, const char *b), TYPES(const char *, const char *), (a, b))
NAME_HOOK(linkat, FAULT_RENAME, EIO, (int a, const char *b, int c, const char *d, int e),
          TYPES(int, const char *, int, const char *, int), (a, b, c, d, e))
NAME_HOOK(unlink, FAULT_UNLINK, EIO, (const char *path), TYPES(const char *), (path))
NAME_HOOK(unlinkat, FAULT_UNLINK, EIO, (int dir, const char *path, int flags), TYPES(int, const char *, int),
          (dir, path, flags))
NAME_HOOK(mkdir, FAULT_MKDIR, ENOSPC, (const char *path, mode_t mode), TYPES(const char *, mode_t), (path, mode))
NAME_HOOK(mkdirat, FAULT_MKDIR, ENOSPC, (int dir, const char *path, mode_t mode), TYPES(int, const char *, mode_t),
          (dir, path, mode))

#pragma GCC diagnostic ignored "-Wnonnull-compare"
NAME_HOOK(stat, FAULT_STAT, EIO, (const char *path, struct stat *st), TYPES(const char *, struct stat *), (path, st))
NAME_HOOK(lstat, FAULT_STAT, EIO, (const char *path, struct stat *st), TYPES(const char *, struct stat *), (path, st))
NAME_HOOK(fstat, FAULT_STAT, EIO, (int fd, struct stat *st), TYPES(int, struct stat *), (fd, st))
NAME_HOOK(fstatat, FAULT_STAT, EIO, (int dir, const char *path, struct stat *st, int flags),
          TYPES(int, const char *, struct stat *, int), (dir, path, st, flags))
NAME_HOOK(fstatfs, FAULT_STAT, EIO, (int fd, struct statfs *st), TYPES(int, struct statfs *), (fd, st))
NAME_HOOK(access, FAULT_STAT, EIO, (const char *path, int mode), TYPES(const char *, int), (path, mode))
NAME_HOOK(faccessat, FAULT_STAT, EIO, (int dir, const char *path, int mode, int flags),
          TYPES(int, const char *, int, int), (dir, path, mode, flags))

static bool directory_fails(void)
{
    bool bad = fault_hits(FAULT_DIRECTORY);
    if (bad)
        errno = EIO;
    return bad;
}

DIR *opendir(const char *path)
{
    NEXT(DIR *, opendir, const char *);
    return directory_fails() ? NULL : next(path);
}

DIR *fdopendir(int fd)
{
    NEXT(DIR *, fdopendir, int);
    return directory_fails() ? NULL : next(fd);
}

struct dirent *readdir(DIR *dir)
{
    NEXT(struct dirent *, readdir, DIR *);
    return directory_fails() ? NULL : next(dir);
}

/* ----------------------------------------------------------------------------------------------------------- locks */

static int lock_error(void)
{
    if (fault_hits(FAULT_LOCK_ENOLCK))
        return ENOLCK;
    return fault_hits(FAULT_LOCK_EINTR) ? EINTR : fault_hits(FAULT_LOCK_EDEADLK) ? EDEADLK : 0;
}

static bool is_lock(int command)
{
    return command == F_SETLK || command == F_SETLKW || command == F_GETLK || command == F_OFD_SETLK ||
           command == F_OFD_SETLKW || command == F_OFD_GETLK;
}

#define FCNTL_HOOK(function)                                                                                           \
    int function(int fd, int command, ...)                                                                             \
    {                                                                                                                  \
        NEXT(int, function, int, int, ...);                                                                            \
        va_list list;                                                                                                  \
        va_start(list, command);                                                                                       \
        void *argument = va_arg(list, void *);                                                                         \
        va_end(list);                                                                                                  \
        int err = is_lock(command) ? lock_error() : 0;                                                                 \
        return err ? fail(err) : next(fd, command, argument);                                                          \
    }
FCNTL_HOOK(fcntl)
FCNTL_HOOK(fcntl64)
