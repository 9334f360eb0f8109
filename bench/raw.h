/* raw.h - what the library is measured against: the same bytes through the plainest system calls.
 *
 *   raw_write       append 256 bytes with one write(2), flushed by nobody: what a log file costs
 *   raw_sync        pwrite() + fdatasync() of 256 bytes over a preallocated, zero-filled 16 MiB file: what a power-safe
 *                   record costs at least
 *   raw_store       copy 256 bytes into a mapped file, with and without another thread that flushes it every 100 ms:
 * the kernel protects pages while it writes them, so that the next store into each one faults */
#ifndef BENCH_RAW_H
#define BENCH_RAW_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "case.h"

enum { RING_BYTES = 16 << 20, CHECK_EVERY = 256 /* calls between two looks at the clock */ };

static inline int raw_open(const struct context *context, int flags)
{
    char path[PATH_SIZE];
    path_in(context, "raw", path);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | flags, 0600);
    if (fd < 0)
        err(1, "%s", path);
    return fd;
}

/* A file of RING_BYTES zeros, flushed. */
static inline int raw_ring(const struct context *context)
{
    int fd = raw_open(context, 0);
    char *zeros = calloc(1, 1 << 20);
    for (int i = 0; zeros && i < RING_BYTES >> 20; i++)
        if (write(fd, zeros, 1 << 20) != 1 << 20)
            err(1, "preallocating");
    free(zeros);
    if (fsync(fd) != 0)
        err(1, "fsync");
    return fd;
}

static inline struct outcome raw_write(const struct context *context)
{
    int fd = raw_open(context, O_APPEND);
    uint64_t start = clock_ns(), deadline = deadline_of(context), calls = 0;
    do {
        for (int i = 0; i < CHECK_EVERY; i++, calls++)
            if (write(fd, payload(), EVENT_BYTES) != EVENT_BYTES)
                err(1, "write");
    } while (clock_ns() < deadline);
    struct outcome outcome = {.per_second = (double)calls * 1e9 / (double)(clock_ns() - start)};
    close(fd);
    return outcome;
}

static inline struct outcome raw_sync(const struct context *context)
{
    int fd = raw_ring(context);
    uint64_t start = clock_ns(), deadline = deadline_of(context), calls = 0;
    for (; clock_ns() < deadline; calls++) {
        if (pwrite(fd, payload(), EVENT_BYTES, (off_t)(calls * EVENT_BYTES % RING_BYTES)) != EVENT_BYTES)
            err(1, "pwrite");
        if (fdatasync(fd) != 0)
            err(1, "fdatasync");
    }
    struct outcome outcome = {.per_second = (double)calls * 1e9 / (double)(clock_ns() - start)};
    close(fd);
    return outcome;
}

struct flusher {
    int fd;
    atomic_bool stop;
};

static inline void *flush_every_100_ms(void *argument)
{
    struct flusher *flusher = argument;
    while (!atomic_load(&flusher->stop)) {
        struct timespec pause = {.tv_nsec = 100000000};
        nanosleep(&pause, NULL);
        fdatasync(flusher->fd);
    }
    return NULL;
}

/* Stores into the mapped ring until the deadline, as fast as `per_second` allows, and takes the time of each. */
static inline void store_paced(char *ring, double per_second, uint64_t deadline, struct histogram *histogram)
{
    uint64_t step = (uint64_t)(1e9 / per_second * ticks_per_ns()), due = ticks();
    for (uint64_t calls = 0; calls % CHECK_EVERY || clock_ns() < deadline; calls++, due += step) {
        while (ticks() < due)
            ;
        uint64_t start = ticks();
        memcpy(ring + calls * EVENT_BYTES % RING_BYTES, payload(), EVENT_BYTES);
        histogram_add(histogram, ticks() - start);
    }
}

static inline struct outcome raw_store(const struct context *context, bool flushed)
{
    struct flusher flusher = {.fd = raw_ring(context)};
    struct outcome outcome = {0};
    struct histogram *histogram = calloc(1, sizeof *histogram);
    pthread_t thread;
    char *ring = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, flusher.fd, 0);
    if (ring == MAP_FAILED || !histogram)
        err(1, "mmap");
    if (flushed && pthread_create(&thread, NULL, flush_every_100_ms, &flusher) != 0)
        errx(1, "pthread_create");
    store_paced(ring, 250000, deadline_of(context), histogram);
    atomic_store(&flusher.stop, true);
    if (flushed)
        pthread_join(thread, NULL);
    outcome_latency(&outcome, histogram);
    munmap(ring, RING_BYTES);
    close(flusher.fd);
    free(histogram);
    return outcome;
}

static inline struct outcome raw_store_flushed(const struct context *context)
{
    return raw_store(context, true);
}
static inline struct outcome raw_store_only(const struct context *context)
{
    return raw_store(context, false);
}

#endif
