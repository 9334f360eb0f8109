/* case.h - what a benchmark case is given, what it answers, and the room it works in. bench.c lists the cases. */
#ifndef BENCH_CASE_H
#define BENCH_CASE_H

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "measure.h"

enum { PATH_SIZE = 4096, BATCH = 1000 /* events at once at most: payload_batch() */ };

struct context {
    const char *dir;     /* exists and is empty */
    double seconds;      /* how long a sustained case runs */
    size_t bytes;        /* of an event's body */
    unsigned producers;  /* threads, each as a connection of its own to a peer */
    double rate;         /* events a second of all producers together; 0: as fast as it goes */
    uint64_t count;      /* what the case is about: sinks, processes, agents, events of backlog */
    const char *address; /* of a peer's server: "127.0.0.1:4222" */
    const char *input;   /* JSON Lines to take the bodies from; NULL: they are made up */
};

/* Named figures, printed as one JSON object. */
enum { FIGURES_MAX = 32 };
struct outcome {
    size_t n;
    struct figure {
        const char *name;
        double value;
    } figures[FIGURES_MAX];
};
void figure(struct outcome *outcome, const char *name, double value);
/* p50_ns to p9999_ns and max_ns; with a prefix: NAME_p50_ns. */
void figure_latency(struct outcome *outcome, const struct histogram *histogram);
double figure_value(const struct outcome *outcome, const char *name); /* 0 if there is none */

struct bench_case {
    const char *name;
    const char *title;
    const char *settings; /* how it is configured, as shown beside its figures */
    void (*run)(const struct context *context, struct outcome *outcome);
};

/* Prints what could not be done and ends: nothing can go on in a benchmark. */
void ok(int code, const char *call);
void path_in(const struct context *context, const char *name, char ret[PATH_SIZE]);
/* The bytes that a directory takes on disk, and those of files whose path holds `part`. */
double disk_bytes(const char *dir, const char *part);
/* Writes the directory's files out and forgets them, so that they are read from the disk again. */
void drop_caches(const char *dir);
double cpu_seconds(void);
double status_bytes(const char *name); /* a size in /proc/self/status: RssAnon, VmData */

/* ---- payload.c ---- */

/* A body of context->bytes, one JSON object, a different one each time (of some hundreds); or one of context->input. */
struct body {
    const char *text;
    size_t size;
};
void payload_begin(const struct context *context);
struct body payload(uint64_t number);
double payload_mean(void); /* bytes */
/* How many events make a batch, ours and the peers': BATCH, but of large ones no more than fit a frame of ours. */
size_t payload_batch(void);

/* ---- drive.c ---- */

/* A case of producers that repeat one step: each runs in a thread of its own, paced by context->rate. */
struct driver {
    void *(*begin)(const struct context *context);      /* before the clock starts */
    void *(*join)(void *shared, unsigned index);        /* in each thread, likewise; NULL: a step gets `shared` */
    size_t (*step)(void *producer, uint64_t number);    /* hands over; returns how many events */
    void (*leave)(void *producer);                      /* may be NULL */
    void (*finish)(void *shared);                       /* waits for the end of what was handed over; may be NULL */
    uint64_t (*arrived)(void *shared);                  /* how many of these events count; NULL: all */
    void (*end)(void *shared, struct outcome *outcome); /* when the clock has stopped */
};
/* Figures: events, per_second, cpu_ns (an event's), latencies of a step. */
void drive(const struct driver *driver, const struct context *context, struct outcome *outcome);

/* ---- the cases, a table each, ended by a NULL name ---- */
extern const struct bench_case raw_cases[], spool_cases[], delivery_cases[], archive_cases[], backlog_cases[],
    host_cases[], lmdb_cases[], sqlite_cases[], redis_cases[], beanstalkd_cases[], nats_cases[], postgres_cases[],
    syslog_cases[];

#endif
