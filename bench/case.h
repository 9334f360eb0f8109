/* case.h - what a benchmark case is given and what it answers, and the room it works in. */
#ifndef BENCH_CASE_H
#define BENCH_CASE_H

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "measure.h"

enum { EVENT_BYTES = 256, PATH_SIZE = 4096 };

struct context {
    const char *dir; /* exists and is empty */
    double seconds;  /* how long a sustained case runs */
};

/* What a case measured: a rate, or latencies, or both; 0 where it has no meaning. */
struct outcome {
    double per_second, p50_ns, p99_ns, p999_ns;
};

static inline void path_in(const struct context *context, const char *name, char ret[PATH_SIZE])
{
    if (snprintf(ret, PATH_SIZE, "%s/%s", context->dir, name) >= PATH_SIZE)
        errx(1, "%s: the path is too long", context->dir);
}

static inline int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag;
    return ftw->level > 0 ? remove(path) : 0;
}

/* Between two cases: nothing of the last one is left, on disk or waiting to be written. */
static inline void clean(const struct context *context)
{
    if (nftw(context->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS) != 0)
        err(1, "%s", context->dir);
    sync();
}

static inline uint64_t deadline_of(const struct context *context)
{
    return clock_ns() + (uint64_t)(context->seconds * 1e9);
}

/* The bytes that every case writes. */
static inline const char *payload(void)
{
    static char text[EVENT_BYTES + 1];
    if (!text[0]) {
        memset(text, 'x', EVENT_BYTES);
        memcpy(text, "{\"model\":\"m\",\"text\":\"", 21);
        memcpy(text + EVENT_BYTES - 2, "\"}", 2);
    }
    return text;
}

static inline void outcome_latency(struct outcome *outcome, const struct histogram *histogram)
{
    outcome->p50_ns = histogram_ns(histogram, 0.5);
    outcome->p99_ns = histogram_ns(histogram, 0.99);
    outcome->p999_ns = histogram_ns(histogram, 0.999);
}

#endif
