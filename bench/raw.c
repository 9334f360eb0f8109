/* raw.c - what the library is measured against: the same bytes through the plainest system calls.
 *
 *   raw_write          one write(2) an event, appended to one file, flushed by nobody: what a log file costs
 *   raw_sync           pwrite() and fdatasync() over a preallocated, zero-filled file: what a power-safe record costs
 *   raw_sequential     1 MiB written and flushed, again and again: what the disk takes
 *   raw_read           a file read from the disk in pieces of 256 KiB: what the disk gives
 *   raw_lines          the file sink's lines, rendered beforehand, in pieces of 256 KiB: what its file costs at least
 *   raw_lines_flushed  the same, flushed as often as the file sink does
 *   raw_store          an event copied into a mapped file that a thread flushes every 100 ms: the kernel protects pages
 *                      while it writes them, so that the next store into each one faults */
#include <sys/mman.h>

#include "../lib/spool.h"
#include "case.h"

enum { RING_BYTES = 16 << 20, PIECE = 256 << 10, MIB = 1 << 20, READ_BYTES = 512 << 20, FLUSH_INTERVAL_NS = 50000000 };

struct raw {
    int fd;
    unsigned producers;
    char *ring, *piece;
    size_t piece_events, piece_bytes;
    uint64_t flushed_ns;
    pthread_t flusher;
    atomic_bool stop;
};

struct raw_producer {
    struct raw *raw;
    off_t begin, size, at; /* its own part of the ring */
};

static struct raw *raw_open(const struct context *context, int flags)
{
    char path[PATH_SIZE];
    struct raw *raw = calloc(1, sizeof *raw);
    path_in(context, "raw", path);
    if (!raw || (raw->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | flags, 0600)) < 0)
        err(1, "%s", path);
    raw->producers = context->producers;
    return raw;
}

static void fill(int fd, size_t bytes)
{
    char *zeros = calloc(1, MIB);
    for (size_t done = 0; zeros && done < bytes; done += MIB)
        if (write(fd, zeros, MIB) != MIB)
            err(1, "preallocating");
    free(zeros);
    if (fsync(fd) != 0)
        err(1, "fsync");
}

static void raw_end(void *shared, struct outcome *outcome)
{
    (void)outcome;
    struct raw *raw = shared;
    close(raw->fd);
    free(raw->piece);
    free(raw);
}

/* ---------------------------------------------------------------------------------------------------------- write */

static void *append_begin(const struct context *context)
{
    return raw_open(context, O_APPEND);
}

static size_t append_step(void *shared, uint64_t number)
{
    struct body body = payload(number);
    if (write(((struct raw *)shared)->fd, body.text, body.size) != (ssize_t)body.size)
        err(1, "write");
    return 1;
}

static void raw_write(const struct context *context, struct outcome *outcome)
{
    const struct driver driver = {.begin = append_begin, .step = append_step, .end = raw_end};
    drive(&driver, context, outcome);
}

/* ----------------------------------------------------------------------------------------------- pwrite, fdatasync */

static void *ring_begin(const struct context *context)
{
    struct raw *raw = raw_open(context, 0);
    fill(raw->fd, RING_BYTES);
    return raw;
}

static void *ring_join(void *shared, unsigned index)
{
    struct raw_producer *p = calloc(1, sizeof *p);
    if (!p)
        err(1, "raw_sync");
    p->raw = shared;
    p->size = RING_BYTES / p->raw->producers;
    p->begin = p->size * index;
    return p;
}

static size_t ring_step(void *producer, uint64_t number)
{
    struct raw_producer *p = producer;
    struct body body = payload(number);
    if (p->at + (off_t)body.size > p->size)
        p->at = 0;
    if (pwrite(p->raw->fd, body.text, body.size, p->begin + p->at) != (ssize_t)body.size || fdatasync(p->raw->fd) != 0)
        err(1, "pwrite, fdatasync");
    p->at += (off_t)body.size;
    return 1;
}

static void raw_sync(const struct context *context, struct outcome *outcome)
{
    const struct driver driver = {
        .begin = ring_begin, .join = ring_join, .step = ring_step, .leave = free, .end = raw_end};
    drive(&driver, context, outcome);
}

/* ------------------------------------------------------------------------------------------------ sequential access */

static void *sequential_begin(const struct context *context)
{
    struct raw *raw = raw_open(context, 0);
    raw->piece = malloc(MIB);
    if (!raw->piece)
        err(1, "raw_sequential");
    for (size_t at = 0, i = 0; at < MIB; i++) {
        struct body body = payload(i);
        size_t take = body.size < MIB - at ? body.size : MIB - at;
        memcpy(raw->piece + at, body.text, take);
        at += take;
    }
    return raw;
}

static size_t sequential_step(void *shared, uint64_t number)
{
    (void)number;
    struct raw *raw = shared;
    if (write(raw->fd, raw->piece, MIB) != MIB || fdatasync(raw->fd) != 0)
        err(1, "write, fdatasync");
    return 1;
}

static void raw_sequential(const struct context *context, struct outcome *outcome)
{
    const struct driver driver = {.begin = sequential_begin, .step = sequential_step, .end = raw_end};
    drive(&driver, context, outcome);
    figure(outcome, "bytes_per_second", figure_value(outcome, "per_second") * MIB);
}

static void raw_read(const struct context *context, struct outcome *outcome)
{
    struct raw *raw = raw_open(context, 0);
    char *piece = malloc(PIECE);
    if (!piece)
        err(1, "raw_read");
    fill(raw->fd, READ_BYTES);
    drop_caches(context->dir);
    uint64_t begin = clock_ns();
    for (off_t at = 0; at < READ_BYTES; at += PIECE)
        if (pread(raw->fd, piece, PIECE, at) != PIECE)
            err(1, "pread");
    figure(outcome, "bytes_per_second", READ_BYTES * 1e9 / (double)(clock_ns() - begin));
    free(piece);
    raw_end(raw, outcome);
}

/* ---------------------------------------------------------------------------------------------------- JSON lines */

static void put_line(struct raw *raw, uint64_t number)
{
    static const struct spool_id id = {{0x01, 0x9a, 0xbc, 0xde, 0x12, 0x34, 0x71, 0x23, 0x80, 1, 2, 3, 4, 5, 6, 7}};
    char *json;
    size_t size;
    struct body body = payload(number);
    struct spool_event event =
        SPOOL_EVENT(.type = SPOOL_TYPE_LOG_LLM_CALL, .agent = "planner", .body = body.text, .body_size = body.size);
    ok(spool_event_to_json(&event, &id, &json, &size), "spool_event_to_json");
    json[size++] = '\n';
    raw->piece = realloc(raw->piece, raw->piece_bytes + size);
    if (!raw->piece)
        err(1, "raw_lines");
    memcpy(raw->piece + raw->piece_bytes, json, size);
    raw->piece_bytes += size;
    raw->piece_events++;
    spool_free(json);
}

static void *lines_begin(const struct context *context)
{
    struct raw *raw = raw_open(context, O_APPEND);
    while (raw->piece_bytes < PIECE)
        put_line(raw, raw->piece_events);
    return raw;
}

static size_t lines_step(void *shared, uint64_t number)
{
    (void)number;
    struct raw *raw = shared;
    if (write(raw->fd, raw->piece, raw->piece_bytes) != (ssize_t)raw->piece_bytes)
        err(1, "write");
    return raw->piece_events;
}

static void raw_lines(const struct context *context, struct outcome *outcome)
{
    const struct driver driver = {.begin = lines_begin, .step = lines_step, .end = raw_end};
    drive(&driver, context, outcome);
}

/* As often as the file sink flushes. */
static size_t flushed_lines_step(void *shared, uint64_t number)
{
    struct raw *raw = shared;
    size_t events = lines_step(shared, number);
    if (clock_ns() - raw->flushed_ns < FLUSH_INTERVAL_NS)
        return events;
    if (fdatasync(raw->fd) != 0)
        err(1, "fdatasync");
    raw->flushed_ns = clock_ns();
    return events;
}

static void flush_lines(void *shared)
{
    if (fdatasync(((struct raw *)shared)->fd) != 0)
        err(1, "fdatasync");
}

static void raw_lines_flushed(const struct context *context, struct outcome *outcome)
{
    const struct driver driver = {
        .begin = lines_begin, .step = flushed_lines_step, .finish = flush_lines, .end = raw_end};
    drive(&driver, context, outcome);
}

/* -------------------------------------------------------------------------------------------- stores into a mapping */

static void *flush_every_100_ms(void *argument)
{
    struct raw *raw = argument;
    while (!atomic_load(&raw->stop)) {
        usleep(100000);
        fdatasync(raw->fd);
    }
    return NULL;
}

static void *store_begin(const struct context *context)
{
    struct raw *raw = ring_begin(context);
    raw->ring = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, raw->fd, 0);
    if (raw->ring == MAP_FAILED)
        err(1, "mmap");
    if (pthread_create(&raw->flusher, NULL, flush_every_100_ms, raw) != 0)
        errx(1, "pthread_create");
    return raw;
}

static size_t store_step(void *shared, uint64_t number)
{
    struct raw *raw = shared;
    struct body body = payload(number);
    memcpy(raw->ring + number * body.size % (RING_BYTES - body.size), body.text, body.size);
    return 1;
}

static void store_end(void *shared, struct outcome *outcome)
{
    struct raw *raw = shared;
    atomic_store(&raw->stop, true);
    pthread_join(raw->flusher, NULL);
    munmap(raw->ring, RING_BYTES);
    raw_end(raw, outcome);
}

static void raw_store(const struct context *context, struct outcome *outcome)
{
    const struct driver driver = {.begin = store_begin, .step = store_step, .end = store_end};
    drive(&driver, context, outcome);
}

const struct bench_case raw_cases[] = {
    {"raw_write", "raw file, write(2)", "one file, O_APPEND, flushed by nobody", raw_write},
    {"raw_sync", "raw file, pwrite + fdatasync", "16 MiB preallocated and zero-filled, fdatasync after each", raw_sync},
    {"raw_sequential", "raw file, fdatasync a MiB", "write(2) of 1 MiB, fdatasync after each", raw_sequential},
    {"raw_read", "raw file, read from the disk", "512 MiB in pieces of 256 KiB, not in the page cache", raw_read},
    {"raw_lines", "raw file, JSON lines", "rendered beforehand, write(2) of 256 KiB, flushed by nobody", raw_lines},
    {"raw_lines_flushed", "raw file, JSON lines, flushed", "the same, fdatasync every 50 ms and at the end",
     raw_lines_flushed},
    {"raw_store", "raw mapping, flushed every 100 ms", "memcpy into 16 MiB, fdatasync every 100 ms", raw_store},
    {0},
};
