/* recorder_dir.c - interposed calls that change directories: creation, rename, link, unlink, mkdir. Opening matters
 * only where it creates or truncates. */
#include "recorder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A name in a directory of ours. */
struct place {
    uint32_t dir;
    char name[TRACE_NAME];
};

/* False: not below the recorded directory (or no such directory). */
static bool place_of(const struct trace *trace, int at_fd, const char *path, struct place *ret)
{
    const char *slash = strrchr(path, '/');
    char parent[1024];
    struct stat st;
    const char *name = slash ? slash + 1 : path;
    if (*name == 0 || strlen(name) >= sizeof ret->name)
        return false;
    int n = snprintf(parent, sizeof parent, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    if (n >= (int)sizeof parent || fstatat(at_fd, n ? parent : "/", &st, 0) != 0)
        return false;
    ret->dir = trace_node_find(trace, st.st_dev, st.st_ino);
    memcpy(ret->name, name, strlen(name) + 1);
    return ret->dir != 0;
}

/* The file that has the name now; 0: none, or not ours. */
static uint32_t id_at(const struct trace *trace, int at_fd, const char *path)
{
    struct stat st;
    return fstatat(at_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 ? trace_node_find(trace, st.st_dev, st.st_ino) : 0;
}

static struct trace_record *add_entry(struct trace *trace, enum trace_kind kind, uint32_t id, const struct place *place)
{
    struct trace_record *record = trace_add(trace, kind, place->name, strlen(place->name) + 1);
    record->file = id;
    record->dir = place->dir;
    return record;
}

/* --------------------------------------------------------------------------------------------------------- creating */

static void note_opened(struct trace *trace, int fd, const struct place *place, bool was_there)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return;
    if (!was_there)
        add_entry(trace, TRACE_CREATE, trace_node_add(trace, st.st_ino, place->dir, place->name, false), place);
    else
        trace_add(trace, TRACE_SIZE, NULL, 0)->file = trace_node_find(trace, st.st_dev, st.st_ino);
}

static int record_open(int at_fd, const char *path, int flags, mode_t mode)
{
    bool counts = (flags & (O_CREAT | O_TRUNC)) && (flags & O_TMPFILE) != O_TMPFILE;
    struct trace *trace = counts ? recorder_enter() : NULL;
    struct place place;
    struct stat st;
    bool is_ours = trace && place_of(trace, at_fd, path, &place);
    bool was_there = is_ours && fstatat(at_fd, path, &st, 0) == 0;
    if (is_ours)
        recorder_stores(trace);
    int fd = (int)syscall(SYS_openat, at_fd, path, flags, mode);
    int err = errno;
    if (fd >= 0 && is_ours && (!was_there || ((flags & O_TRUNC) && st.st_size > 0)))
        note_opened(trace, fd, &place, was_there);
    if (trace)
        recorder_leave(trace);
    errno = err;
    return fd;
}

static mode_t mode_of(int flags, va_list args)
{
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
}

#define OPEN_AT(name)                                                                                                  \
    int name(int at_fd, const char *path, int flags, ...)                                                              \
    {                                                                                                                  \
        va_list args;                                                                                                  \
        va_start(args, flags);                                                                                         \
        mode_t mode = mode_of(flags, args);                                                                            \
        va_end(args);                                                                                                  \
        return record_open(at_fd, path, flags, mode);                                                                  \
    }
#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...)                                                                         \
    {                                                                                                                  \
        va_list args;                                                                                                  \
        va_start(args, flags);                                                                                         \
        mode_t mode = mode_of(flags, args);                                                                            \
        va_end(args);                                                                                                  \
        return record_open(AT_FDCWD, path, flags, mode);                                                               \
    }
OPEN_AT(openat)
OPEN_AT(openat64)
OPEN(open)
OPEN(open64)

int mkdirat(int at_fd, const char *path, mode_t mode)
{
    struct trace *trace = recorder_enter();
    struct place place;
    struct stat st;
    bool is_ours = trace && place_of(trace, at_fd, path, &place);
    if (is_ours)
        recorder_stores(trace);
    int rc = (int)syscall(SYS_mkdirat, at_fd, path, mode), err = errno;
    if (rc == 0 && is_ours && fstatat(at_fd, path, &st, 0) == 0)
        add_entry(trace, TRACE_MKDIR, trace_node_add(trace, st.st_ino, place.dir, place.name, true), &place);
    if (trace)
        recorder_leave(trace);
    errno = err;
    return rc;
}

int mkdir(const char *path, mode_t mode)
{
    return mkdirat(AT_FDCWD, path, mode);
}

/* --------------------------------------------------------------------------------------------- rename, link, unlink */

static void add_rename(struct trace *trace, enum trace_kind kind, uint32_t id, const struct place *from,
                       const struct place *to)
{
    char names[2 * TRACE_NAME];
    size_t a = strlen(from->name) + 1, b = strlen(to->name) + 1;
    memcpy(names, from->name, a);
    memcpy(names + a, to->name, b);
    struct trace_record *record = trace_add(trace, kind, names, a + b);
    record->file = id;
    record->dir = from->dir;
    record->dir2 = to->dir;
}

static void move_node(struct trace *trace, uint32_t id, const struct place *to)
{
    trace->node[id].parent = to->dir;
    memcpy(trace->node[id].name, to->name, sizeof to->name);
}

int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
    struct trace *trace = recorder_enter();
    struct place a, b;
    bool is_ours = trace && place_of(trace, from_fd, from, &a) && place_of(trace, to_fd, to, &b);
    uint32_t id = is_ours ? id_at(trace, from_fd, from) : 0, other = is_ours ? id_at(trace, to_fd, to) : 0;
    if (is_ours)
        recorder_stores(trace);
    int rc = (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, flags), err = errno;
    if (rc == 0 && id) {
        add_rename(trace, flags & RENAME_EXCHANGE ? TRACE_SWAP : TRACE_RENAME, id, &a, &b);
        move_node(trace, id, &b);
        if ((flags & RENAME_EXCHANGE) && other)
            move_node(trace, other, &a);
    }
    if (trace)
        recorder_leave(trace);
    errno = err;
    return rc;
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    return renameat2(from_fd, from, to_fd, to, 0);
}

int rename(const char *from, const char *to)
{
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
    struct trace *trace = recorder_enter();
    struct place place;
    bool is_ours = trace && place_of(trace, to_fd, to, &place);
    uint32_t id = is_ours ? id_at(trace, from_fd, from) : 0;
    if (is_ours)
        recorder_stores(trace);
    int rc = (int)syscall(SYS_linkat, from_fd, from, to_fd, to, flags), err = errno;
    if (rc == 0 && id)
        add_entry(trace, TRACE_LINK, id, &place);
    if (trace)
        recorder_leave(trace);
    errno = err;
    return rc;
}

int link(const char *from, const char *to)
{
    return linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlinkat(int at_fd, const char *path, int flags)
{
    struct trace *trace = recorder_enter();
    struct place place;
    bool is_ours = trace && place_of(trace, at_fd, path, &place);
    uint32_t id = is_ours ? id_at(trace, at_fd, path) : 0;
    if (is_ours)
        recorder_stores(trace);
    int rc = (int)syscall(SYS_unlinkat, at_fd, path, flags), err = errno;
    if (rc == 0 && id)
        add_entry(trace, TRACE_UNLINK, id, &place);
    if (trace)
        recorder_leave(trace);
    errno = err;
    return rc;
}

int unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}

int rmdir(const char *path)
{
    return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}
