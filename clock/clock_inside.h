/* clock_inside.h - the clock as its own files see it. Private to clock/. */
#ifndef CLOCK_CLOCK_INSIDE_H
#define CLOCK_CLOCK_INSIDE_H

#include "source.h"

struct hlc {
    _Atomic uint64_t last;        /* ticks << COUNTER_BITS | counter: hlc.c */
    _Atomic uint64_t read_cycles; /* the cycle counter when the wall clock was read last: hlc.c */
    bool counts_cycles;           /* fixed: the wall clock is the machine's, which no test sets */
    uint64_t node;
    struct wall wall;
    struct hlc_options options;
    _Atomic uint64_t max_offset_ns;  /* of options, or as hlc_set() changed it */
    _Atomic uint64_t remote_told_ns; /* when a refused stamp was reported last, CLOCK_MONOTONIC */

    struct sources sources;
    _Atomic uint64_t polled_ns;        /* CLOCK_BOOTTIME of the last look at the local sources */
    enum spool_clock_status status;    /* sources.lock: as told last */
    bool told;                         /* sources.lock: anything was */
    bool running, stopping, abandoned; /* sources.lock: the thread of calibrate.c */
    pthread_t thread;                  /* while running */
};

/* Physical time, with the comparison that may be due, or with one in any case; what it finds is told. */
uint64_t hlc_physical_now(struct hlc *clock);
uint64_t hlc_compare(struct hlc *clock);
void hlc_tell(struct hlc *clock, enum hlc_event_kind kind, int64_t ns, const struct spool_id *remote,
              const char *format, ...) __attribute__((format(printf, 5, 6)));

/* source_local.c: the sources that are there from the beginning. */
int local_sources_add(struct hlc *clock);

/* calibrate.c. `sources.lock` held by the first. */
int calibrate_start(struct hlc *clock);
/* False: the thread still reads a source that does not heed cancel, and frees the clock when that returns. */
bool calibrate_stop(struct hlc *clock);
/* Frees what hlc_new() made, without the thread. */
void hlc_destroy(struct hlc *clock);

/* source_table.c */
int source_add(struct hlc *clock, const char *name, const struct spool_clock_source *hooks,
               const struct spool_clock_source_options *options, bool is_sntp, bool is_builtin);
/* Reads one source, which must not be busy. `sources.lock` held, and dropped meanwhile. */
void source_read(struct hlc *clock, struct source *source, uint64_t deadline_ns);

#endif
