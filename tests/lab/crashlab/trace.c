/* trace.c - the record of a run in shared memory; see trace.h. */
#include "trace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static uint8_t *trace_bytes(const struct trace *trace)
{
    return (uint8_t *)trace + ((sizeof *trace + 63) & ~(size_t)63);
}

static int lock_init(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attr;
    int err = pthread_mutexattr_init(&attr);
    if (err)
        return err;
    err = pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    if (!err)
        err = pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    if (!err)
        err = pthread_mutex_init(lock, &attr);
    pthread_mutexattr_destroy(&attr);
    return err;
}

struct trace *trace_new(size_t capacity, const char *scenario, uint64_t seed)
{
    size_t bytes = ((sizeof(struct trace) + 63) & ~(size_t)63) + capacity;
    struct trace *trace = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (trace == MAP_FAILED)
        return NULL;
    if (lock_init(&trace->lock)) {
        munmap(trace, bytes);
        return NULL;
    }
    trace->capacity = capacity;
    trace->seed = seed;
    snprintf(trace->scenario, sizeof trace->scenario, "%s", scenario);
    return trace;
}

void trace_free(struct trace *trace)
{
    if (trace)
        munmap(trace, (size_t)(trace_bytes(trace) - (uint8_t *)trace) + trace->capacity);
}

/* Who dies with the lock held died inside a recorded call, unless that death is what was being recorded. */
void trace_lock(struct trace *trace)
{
    int err = pthread_mutex_lock(&trace->lock);
    if (err == EOWNERDEAD) {
        if (!trace->may_die)
            trace->is_torn = true;
        trace->may_die = false;
        pthread_mutex_consistent(&trace->lock);
    } else if (err) {
        abort();
    }
}

void trace_unlock(struct trace *trace)
{
    pthread_mutex_unlock(&trace->lock);
}

/* ---------------------------------------------------------------------------------------------------------- records */

struct trace_record *trace_add(struct trace *trace, enum trace_kind kind, const void *data, size_t size)
{
    static struct trace_record lost;
    size_t bytes = (sizeof lost + size + 7) & ~(size_t)7;
    if (size > UINT32_MAX - 64 || trace->used + bytes > trace->capacity) {
        trace->is_full = true;
        return &lost;
    }
    struct trace_record *record = (struct trace_record *)(void *)(trace_bytes(trace) + trace->used);
    *record = (struct trace_record){.bytes = (uint32_t)bytes,
                                    .kind = kind,
                                    .number = trace->count,
                                    .pid = (uint32_t)getpid(),
                                    .size = (uint32_t)size};
    if (data)
        memcpy(record->data, data, size);
    trace->used += bytes;
    trace->count++;
    return record;
}

const struct trace_record *trace_next(const struct trace *trace, const struct trace_record *record)
{
    const uint8_t *next = record ? (const uint8_t *)record + record->bytes : trace_bytes(trace);
    return next < trace_bytes(trace) + trace->used ? (const struct trace_record *)(const void *)next : NULL;
}

void trace_copy(struct trace *to, const struct trace *from, uint32_t last)
{
    const struct trace_record *end = trace_next(from, NULL);
    while (end && end->number <= last)
        end = trace_next(from, end);
    size_t bytes = end ? (size_t)((const uint8_t *)end - trace_bytes(from)) : from->used;
    if (bytes > to->capacity) {
        to->is_full = true;
        return;
    }
    memcpy(trace_bytes(to), trace_bytes(from), bytes);
    to->used = bytes;
    to->count = end ? end->number : from->count;
}

void trace_copy_marks(struct trace *to, const struct trace *from, uint32_t last)
{
    const struct trace_record *r = trace_next(from, NULL);
    for (; r && r->number <= last; r = trace_next(from, r))
        if (r->kind == TRACE_MARK)
            trace_add(to, TRACE_MARK, r->data, r->size)->at = r->at;
}

/* ------------------------------------------------------------------------------------------------------------ nodes */

void trace_node_set(struct trace *trace, uint32_t id, uint64_t inode, uint32_t parent, const char *name,
                    bool is_directory)
{
    if (id >= TRACE_NODES) {
        trace->is_full = true;
        return;
    }
    struct trace_node *node = &trace->node[id];
    *node = (struct trace_node){.inode = inode, .parent = parent, .is_directory = is_directory};
    snprintf(node->name, sizeof node->name, "%s", name);
    node->is_hidden = !is_directory && strcmp(name, "wake") == 0;
    if (id > trace->nodes)
        trace->nodes = id;
}

uint32_t trace_node_add(struct trace *trace, uint64_t inode, uint32_t parent, const char *name, bool is_directory)
{
    uint32_t id = trace->nodes + 1;
    trace_node_set(trace, id, inode, parent, name, is_directory);
    return id;
}

/* The newest one has the number: an older one of the same number is gone. */
uint32_t trace_node_find(const struct trace *trace, uint64_t device, uint64_t inode)
{
    if (device != trace->device)
        return 0;
    for (uint32_t id = trace->nodes; id > 0; id--)
        if (trace->node[id].inode == inode)
            return id;
    return 0;
}

bool trace_path(const struct trace *trace, uint32_t id, char *buf, size_t size)
{
    char path[1024] = "";
    for (int depth = 0; id != TRACE_ROOT; depth++) {
        char longer[1024];
        if (depth > 8 || id == 0 || id > trace->nodes)
            return false;
        const struct trace_node *node = &trace->node[id];
        int n = snprintf(longer, sizeof longer, "%s%s%s", node->name, path[0] ? "/" : "", path);
        if (n >= (int)sizeof longer)
            return false;
        memcpy(path, longer, (size_t)n + 1);
        id = node->parent;
    }
    return snprintf(buf, size, "%s", path[0] ? path : ".") < (int)size;
}

uint8_t *trace_shadow(struct trace *trace, size_t size)
{
    size = (size + 63) & ~(size_t)63;
    if (trace->used + size > trace->capacity) {
        trace->is_full = true;
        return NULL;
    }
    trace->capacity -= size;
    return trace_bytes(trace) + trace->capacity;
}

/* ------------------------------------------------------------------------------------------------------------ files */

struct trace_file_header {
    char magic[8];
    uint64_t used, seed;
    uint32_t count, nodes, first_point, floor;
    char scenario[64];
};
#define TRACE_MAGIC "crshlab1"

/* Raw calls: the library's own writes are recorded, these are not to be. */
static int write_all(int fd, const void *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = syscall(SYS_write, fd, (const uint8_t *)data + done, size - done);
        if (n <= 0)
            return n < 0 ? errno : EIO;
        done += (size_t)n;
    }
    return 0;
}

int trace_save(const struct trace *trace, const char *path)
{
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return errno;
    struct trace_file_header header = {.used = trace->used,
                                       .seed = trace->seed,
                                       .count = trace->count,
                                       .nodes = trace->nodes,
                                       .first_point = trace->first_point,
                                       .floor = trace->floor};
    memcpy(header.magic, TRACE_MAGIC, sizeof header.magic);
    memcpy(header.scenario, trace->scenario, sizeof header.scenario);
    int err = write_all(fd, &header, sizeof header);
    if (!err)
        err = write_all(fd, trace->node, sizeof trace->node[0] * ((size_t)trace->nodes + 1));
    if (!err)
        err = write_all(fd, trace_bytes(trace), trace->used);
    close(fd);
    return err;
}

static bool read_all(FILE *file, void *data, size_t size)
{
    return fread(data, 1, size, file) == size;
}

struct trace *trace_load(const char *path)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return NULL;
    struct trace_file_header header;
    struct trace *trace = NULL;
    if (read_all(file, &header, sizeof header) && memcmp(header.magic, TRACE_MAGIC, sizeof header.magic) == 0 &&
        header.nodes < TRACE_NODES)
        trace = trace_new(header.used, header.scenario, header.seed);
    if (trace && !(read_all(file, trace->node, sizeof trace->node[0] * ((size_t)header.nodes + 1)) &&
                   read_all(file, trace_bytes(trace), header.used))) {
        trace_free(trace);
        trace = NULL;
    }
    if (trace) {
        trace->used = header.used;
        trace->count = header.count;
        trace->nodes = header.nodes;
        trace->first_point = header.first_point;
        trace->floor = (enum lab_crash)header.floor;
    }
    fclose(file);
    return trace;
}

/* ------------------------------------------------------------------------------------------------------------ words */

static const struct trace_record *record_number(const struct trace *trace, uint32_t number)
{
    const struct trace_record *r = trace_next(trace, NULL);
    while (r && r->number != number)
        r = trace_next(trace, r);
    return r;
}

void trace_describe(const struct trace *trace, const struct trace_record *r, char *buf, size_t size)
{
    char path[256];
    if (r->file == 0 || !trace_path(trace, r->file, path, sizeof path))
        snprintf(path, sizeof path, "%s", r->file ? "?" : "everything");
    const char *name = (const char *)r->data;
    unsigned long long at = r->at;
    switch ((enum trace_kind)r->kind) {
    case TRACE_MARK:
        snprintf(buf, size, "mark %llu of %u bytes", at, r->size);
        return;
    case TRACE_BASE_DIR:
    case TRACE_BASE_FILE:
    case TRACE_BASE_DATA:
        snprintf(buf, size, "%s was there", path);
        return;
    case TRACE_CREATE:
        snprintf(buf, size, "create %s", name);
        return;
    case TRACE_MKDIR:
        snprintf(buf, size, "mkdir %s", name);
        return;
    case TRACE_LINK:
        snprintf(buf, size, "link %s", name);
        return;
    case TRACE_UNLINK:
        snprintf(buf, size, "unlink %s", name);
        return;
    case TRACE_RENAME:
    case TRACE_SWAP:
        snprintf(buf, size, "%s %s to %s", r->kind == TRACE_SWAP ? "swap" : "rename", name, name + strlen(name) + 1);
        return;
    case TRACE_WRITE:
        snprintf(buf, size, "%swrite of %u at %llu of %s", r->is_sync ? "O_DSYNC " : "", r->size, at, path);
        return;
    case TRACE_STORE:
        snprintf(buf, size, "store of %u at %llu into mapped %s", r->size, at, path);
        return;
    case TRACE_SIZE:
        snprintf(buf, size, "size of %s becomes %llu", path, at);
        return;
    case TRACE_FLUSH:
        snprintf(buf, size, "flush of %s begins", path);
        return;
    case TRACE_FLUSHED: {
        const struct trace_record *of = record_number(trace, r->ref);
        char what[400] = "?";
        if (of && of->kind != TRACE_FLUSHED)
            trace_describe(trace, of, what, sizeof what);
        snprintf(buf, size, "flushed (#%u: %s)", r->ref, what);
        return;
    }
    }
}
