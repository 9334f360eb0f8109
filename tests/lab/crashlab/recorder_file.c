/* recorder_file.c - interposed calls that change or flush the content of files. */
#include "recorder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FLUSH_US = 100, DSYNC_US = 30 };

/* ---------------------------------------------------------------------------------------------------------- writing */

static off_t position_of(int fd, int flags)
{
    struct stat st;
    if (flags & O_APPEND)
        return fstat(fd, &st) == 0 ? st.st_size : 0;
    return (off_t)syscall(SYS_lseek, fd, (off_t)0, SEEK_CUR);
}

/* Copies the first `size` bytes of the vector. */
static void gather(uint8_t *to, const struct iovec *iov, int n, size_t size)
{
    for (int i = 0; i < n && size > 0; i++) {
        size_t part = iov[i].iov_len < size ? iov[i].iov_len : size;
        memcpy(to, iov[i].iov_base, part);
        to += part;
        size -= part;
    }
}

static void add_write(struct trace *trace, uint32_t id, const struct iovec *iov, int n, size_t size, off_t at,
                      bool is_sync)
{
    struct trace_record *record = trace_add(trace, TRACE_WRITE, NULL, size);
    record->file = id;
    record->at = (uint64_t)at;
    record->is_sync = is_sync;
    if (record->size == size) {
        gather(record->data, iov, n, size);
        recorder_update_shadow(trace, id, (uint64_t)at, record->data, size);
    }
}

static void add_flushed(struct trace *trace, uint32_t ref, uint32_t id, bool is_sync)
{
    struct trace_record *record = trace_add(trace, TRACE_FLUSHED, NULL, 0);
    record->ref = ref;
    record->file = id;
    record->is_sync = is_sync;
}

/* `at` < 0: at the descriptor's position. */
static ssize_t raw_write(int fd, const struct iovec *iov, int n, off_t at)
{
    return at < 0 ? syscall(SYS_writev, fd, iov, n) : syscall(SYS_pwritev, fd, iov, n, at, 0);
}

static ssize_t record_write(int fd, const struct iovec *iov, int n, off_t at)
{
    struct trace *trace = recorder_enter();
    uint32_t id = trace ? recorder_id(trace, fd) : 0;
    if (!id) {
        if (trace)
            recorder_leave(trace);
        return raw_write(fd, iov, n, at);
    }
    recorder_stores(trace);
    int flags = fcntl(fd, F_GETFL);
    bool is_sync = (flags & O_DSYNC) != 0;
    off_t where = at < 0 ? position_of(fd, flags) : at;
    ssize_t done = raw_write(fd, iov, n, at);
    int err = errno;
    uint32_t number = trace->count;
    if (done > 0)
        add_write(trace, id, iov, n, (size_t)done, where, is_sync);
    recorder_leave(trace);
    if (done > 0 && is_sync) {
        recorder_pause_us(DSYNC_US);
        trace = recorder_enter();
        recorder_stores(trace);
        add_flushed(trace, number, id, true);
        recorder_leave(trace);
    }
    errno = err;
    return done;
}

ssize_t write(int fd, const void *data, size_t size)
{
    struct iovec iov = {(void *)(uintptr_t)data, size};
    return record_write(fd, &iov, 1, -1);
}

ssize_t writev(int fd, const struct iovec *iov, int n)
{
    return record_write(fd, iov, n, -1);
}

static ssize_t write_at(int fd, const void *data, size_t size, off_t at)
{
    struct iovec iov = {(void *)(uintptr_t)data, size};
    if (at < 0) {
        errno = EINVAL;
        return -1;
    }
    return record_write(fd, &iov, 1, at);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    return write_at(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    return write_at(fd, data, size, at);
}

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t at)
{
    return record_write(fd, iov, n, at);
}

ssize_t pwritev64(int fd, const struct iovec *iov, int n, off64_t at)
{
    return record_write(fd, iov, n, at);
}

/* ------------------------------------------------------------------------------------------------------------- size */

static void add_size(struct trace *trace, uint32_t id, off_t size)
{
    struct trace_record *record = trace_add(trace, TRACE_SIZE, NULL, 0);
    record->file = id;
    record->at = (uint64_t)size;
}

static int size_of(int fd, off_t *ret)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return -1;
    *ret = st.st_size;
    return 0;
}

enum size_call { SIZE_TRUNCATE, SIZE_ALLOCATE };

static int raw_size(int fd, enum size_call call, int mode, off_t at, off_t size)
{
    return (int)(call == SIZE_TRUNCATE ? syscall(SYS_ftruncate, fd, size) : syscall(SYS_fallocate, fd, mode, at, size));
}

static int record_size(int fd, enum size_call call, int mode, off_t at, off_t size)
{
    struct trace *trace = recorder_enter();
    uint32_t id = trace ? recorder_id(trace, fd) : 0;
    if (id)
        recorder_stores(trace);
    off_t before = 0, after = 0;
    int rc = id ? size_of(fd, &before) : 0;
    if (rc == 0)
        rc = raw_size(fd, call, mode, at, size);
    int err = errno;
    if (id && rc == 0 && size_of(fd, &after) == 0 && after != before)
        add_size(trace, id, after);
    if (trace)
        recorder_leave(trace);
    errno = err;
    return rc;
}

int ftruncate(int fd, off_t size)
{
    return record_size(fd, SIZE_TRUNCATE, 0, 0, size);
}

int ftruncate64(int fd, off64_t size)
{
    return record_size(fd, SIZE_TRUNCATE, 0, 0, size);
}

/* Holes are not followed: nobody here makes one, and the comparison at the end of the record would tell. */
int fallocate(int fd, int mode, off_t at, off_t size)
{
    return record_size(fd, SIZE_ALLOCATE, mode, at, size);
}

int fallocate64(int fd, int mode, off64_t at, off64_t size)
{
    return record_size(fd, SIZE_ALLOCATE, mode, at, size);
}

int posix_fallocate(int fd, off_t at, off_t size)
{
    return record_size(fd, SIZE_ALLOCATE, 0, at, size) == 0 ? 0 : errno;
}

int posix_fallocate64(int fd, off64_t at, off64_t size)
{
    return record_size(fd, SIZE_ALLOCATE, 0, at, size) == 0 ? 0 : errno;
}

int truncate(const char *path, off_t size)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int rc = ftruncate(fd, size), err = errno;
    close(fd);
    errno = err;
    return rc;
}

/* --------------------------------------------------------------------------------------------------------- flushing */

/* A control wants the disk to have missed it. */
static bool is_forgotten(const struct trace *trace, uint32_t id)
{
    char path[512];
    return id && trace_path(trace, id, path, sizeof path) && lab_forgets_flush(path, trace->node[id].is_directory);
}

/* `is_all`: whatever the descriptor is. */
static int record_flush(int fd, long call, bool is_all)
{
    struct trace *trace = recorder_enter();
    uint32_t id = trace ? recorder_id(trace, fd) : 0;
    if (!id || is_forgotten(trace, is_all ? 0 : id)) {
        if (trace)
            recorder_leave(trace);
        return id ? 0 : (int)syscall(call, fd);
    }
    if (is_all)
        id = 0;
    recorder_stores(trace);
    uint32_t number = trace->count;
    trace_add(trace, TRACE_FLUSH, NULL, 0)->file = id;
    recorder_leave(trace);
    recorder_pause_us(FLUSH_US);
    int rc = (int)syscall(call, fd), err = errno;
    if (rc == 0) {
        trace = recorder_enter();
        recorder_stores(trace);
        add_flushed(trace, number, id, false);
        recorder_leave(trace);
    }
    errno = err;
    return rc;
}

int fsync(int fd)
{
    return record_flush(fd, SYS_fsync, false);
}

int fdatasync(int fd)
{
    return record_flush(fd, SYS_fdatasync, false);
}

int syncfs(int fd)
{
    return record_flush(fd, SYS_syncfs, true);
}

/* ---------------------------------------------------------------------------------------------------------- mapping */

static void *record_map(void *addr, size_t size, int protection, int flags, int fd, off_t at)
{
    bool counts = fd >= 0 && (protection & PROT_WRITE) && (flags & MAP_SHARED);
    struct trace *trace = counts ? recorder_enter() : NULL;
    void *map = (void *)syscall(SYS_mmap, addr, size, protection, flags, fd, at);
    int err = errno;
    if (trace) {
        uint32_t id = map == MAP_FAILED ? 0 : recorder_id(trace, fd);
        if (id)
            recorder_mapped(trace, id);
        recorder_leave(trace);
    }
    errno = err;
    return map;
}

void *mmap(void *addr, size_t size, int protection, int flags, int fd, off_t at)
{
    return record_map(addr, size, protection, flags, fd, at);
}

void *mmap64(void *addr, size_t size, int protection, int flags, int fd, off64_t at)
{
    return record_map(addr, size, protection, flags, fd, at);
}
