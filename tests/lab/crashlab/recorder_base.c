/* recorder_base.c - notes what is in a directory before anything is recorded, as being safely on disk. */
#include "recorder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = 64 << 10 };

static bool is_zero(const uint8_t *data, size_t size)
{
    return size == 0 || (data[0] == 0 && memcmp(data, data + 1, size - 1) == 0);
}

static int add_content(struct trace *trace, int fd, uint32_t id)
{
    static uint8_t chunk[CHUNK];
    uint64_t at = 0;
    for (ssize_t n; (n = pread(fd, chunk, sizeof chunk, (off_t)at)) != 0; at += (uint64_t)n) {
        if (n < 0)
            return errno;
        if (is_zero(chunk, (size_t)n))
            continue;
        struct trace_record *record = trace_add(trace, TRACE_BASE_DATA, chunk, (size_t)n);
        record->file = id;
        record->at = at;
    }
    return 0;
}

static int add_directory(struct trace *trace, int fd, uint32_t id);

static int add_one(struct trace *trace, int dir_fd, uint32_t dir, const char *name)
{
    int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    if (fd < 0)
        return errno;
    if (fstat(fd, &st) != 0) {
        int err = errno;
        close(fd);
        return err;
    }
    bool is_directory = S_ISDIR(st.st_mode);
    uint32_t id = trace_node_add(trace, st.st_ino, dir, name, is_directory);
    struct trace_record *record =
        trace_add(trace, is_directory ? TRACE_BASE_DIR : TRACE_BASE_FILE, name, strlen(name) + 1);
    record->file = id;
    record->dir = dir;
    record->at = (uint64_t)st.st_size;
    if (is_directory)
        return add_directory(trace, fd, id);
    int err = add_content(trace, fd, id);
    close(fd);
    return err;
}

/* Closes `fd`. */
static int add_directory(struct trace *trace, int fd, uint32_t id)
{
    DIR *dir = fdopendir(fd);
    if (!dir) {
        close(fd);
        return errno;
    }
    int err = 0;
    for (struct dirent *entry; !err && (entry = readdir(dir));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            err = add_one(trace, dirfd(dir), id, entry->d_name);
    closedir(dir);
    return err;
}

int recorder_note_base(struct trace *trace, const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return errno;
    trace_node_set(trace, TRACE_ROOT, st.st_ino, 0, "", true);
    int err = add_directory(trace, fd, TRACE_ROOT);
    trace->first_point = trace->count;
    return err;
}
