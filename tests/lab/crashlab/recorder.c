/* recorder.c - the state of the recorder in this process, marks, and files that are written through a mapping. */
#include "recorder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static struct trace *the_trace; /* set while the process has one thread */
static bool is_recording;       /* likewise */

/* Our own view of the mapped files, by id; under the trace's lock. Their descriptors are never closed: that would drop
 * the record locks that the library holds on the same files. */
static const uint8_t *view[TRACE_NODES];

/* -------------------------------------------------------------------------------------------------------- beginning */

/* A child that is forked while another thread holds the lock must find `view` whole. */
static void fork_prepare(void)
{
    if (the_trace)
        trace_lock(the_trace);
}

static void fork_parent(void)
{
    if (the_trace)
        trace_unlock(the_trace);
}

void recorder_attach(struct trace *trace)
{
    static bool is_installed;
    if (!is_installed && pthread_atfork(fork_prepare, fork_parent, NULL) == 0)
        is_installed = true;
    the_trace = trace;
    is_recording = false;
    memset(view, 0, sizeof view);
}

int recorder_begin(const char *dir)
{
    struct stat st;
    char full[sizeof the_trace->root];
    if (stat(dir, &st) != 0 || !realpath(dir, full))
        return errno;
    snprintf(the_trace->root, sizeof the_trace->root, "%s", full);
    the_trace->device = st.st_dev;
    if (the_trace->nodes == 0)
        trace_node_set(the_trace, TRACE_ROOT, st.st_ino, 0, "", true);
    the_trace->node[TRACE_ROOT].inode = st.st_ino;
    is_recording = true;
    return 0;
}

void recorder_end(void)
{
    is_recording = false;
    the_trace = NULL;
}

struct trace *recorder_enter(void)
{
    if (!is_recording)
        return NULL;
    trace_lock(the_trace);
    return the_trace;
}

void recorder_leave(struct trace *trace)
{
    trace_unlock(trace);
}

uint32_t recorder_id(const struct trace *trace, int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 ? trace_node_find(trace, st.st_dev, st.st_ino) : 0;
}

void recorder_pause_us(unsigned us)
{
    struct timespec time = {.tv_nsec = (long)us * 1000};
    nanosleep(&time, NULL);
}

/* ------------------------------------------------------------------------------------------------------------ marks */

void lab_mark(uint32_t kind, const void *data, size_t size)
{
    struct trace *trace = the_trace;
    if (!trace)
        return;
    trace_lock(trace);
    if (is_recording)
        recorder_stores(trace);
    trace_add(trace, TRACE_MARK, data, size)->at = kind;
    trace_unlock(trace);
}

/* ----------------------------------------------------------------------------------------------------- mapped files */

static const uint8_t *view_of(const struct trace *trace, uint32_t id)
{
    if (view[id])
        return view[id];
    char path[1024], relative[512];
    struct stat st;
    if (!trace_path(trace, id, relative, sizeof relative) ||
        snprintf(path, sizeof path, "%s/%s", trace->root, relative) >= (int)sizeof path)
        return NULL;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return NULL;
    bool is_it =
        fstat(fd, &st) == 0 && st.st_ino == trace->node[id].inode && (size_t)st.st_size >= trace->node[id].shadow_size;
    void *map =
        is_it ? (void *)syscall(SYS_mmap, NULL, trace->node[id].shadow_size, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (map != MAP_FAILED)
        view[id] = map;
    return view[id];
}

/* Whole sectors that differ, those next to each other in one record. Returns how many. */
static size_t add_changed(struct trace *trace, uint32_t id, const uint8_t *now)
{
    struct trace_node *node = &trace->node[id];
    size_t found = 0;
    for (size_t at = 0; at < node->shadow_size; at += SECTOR) {
        size_t n = node->shadow_size - at < SECTOR ? node->shadow_size - at : SECTOR;
        uint8_t copy[SECTOR];
        memcpy(copy, now + at, n); /* others may be writing */
        if (memcmp(copy, node->shadow + at, n) == 0)
            continue;
        memcpy(node->shadow + at, copy, n);
        struct trace_record *record = trace_add(trace, TRACE_STORE, copy, n);
        record->file = id;
        record->at = at;
        found++;
    }
    return found;
}

/* Again until nothing has changed meanwhile: then what was noted was all there at one instant. */
void recorder_stores(struct trace *trace)
{
    size_t found = 1;
    for (int round = 0; found && round < 100; round++) {
        found = 0;
        for (uint32_t id = 1; id <= trace->nodes; id++) {
            const uint8_t *now = trace->node[id].shadow ? view_of(trace, id) : NULL;
            if (now && memcmp(now, trace->node[id].shadow, trace->node[id].shadow_size) != 0)
                found += add_changed(trace, id, now);
        }
    }
}

void recorder_mapped(struct trace *trace, uint32_t id)
{
    struct trace_node *node = &trace->node[id];
    char relative[512], path[1024];
    struct stat st;
    if (node->is_hidden || node->shadow || !trace_path(trace, id, relative, sizeof relative) ||
        snprintf(path, sizeof path, "%s/%s", trace->root, relative) >= (int)sizeof path || stat(path, &st) != 0)
        return;
    uint8_t *shadow = trace_shadow(trace, (size_t)st.st_size);
    if (!shadow)
        return;
    node->shadow_size = (size_t)st.st_size;
    const uint8_t *now = view_of(trace, id);
    if (!now)
        return;
    memcpy(shadow, now, node->shadow_size);
    node->shadow = shadow;
}

void recorder_update_shadow(struct trace *trace, uint32_t id, uint64_t at, const void *data, size_t size)
{
    struct trace_node *node = &trace->node[id];
    if (!node->shadow || at >= node->shadow_size)
        return;
    memcpy(node->shadow + at, data, size < node->shadow_size - at ? size : node->shadow_size - at);
}
