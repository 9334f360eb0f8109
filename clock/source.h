/* source.h - the table of time sources: what each said, and what follows from all of them.
 *
 * Everything here is under one mutex, which is never held while a source is read. The samples are kept as anchors
 * (anchor.h): the last SAMPLES of each source, of which the one with the least error now is its answer, provided that
 * it does not contradict the newest. What a majority agrees on is an anchor too, the "monotonic" source: it does not
 * vote, since what it knows it has from the others, and is used when none of them answers.
 *
 * Time here is CLOCK_BOOTTIME of the looks that are given, so that all of it runs in a simulated world. */
#ifndef CLOCK_SOURCE_H
#define CLOCK_SOURCE_H

#include <pthread.h>

#include "majority.h"
#include "wall.h"

enum { SAMPLES = 8, SOURCE_NAME_MAX = 64, STALE_POLLS = 8 };

/* Its root: the wall clock of this machine. What reports on it is one vote. */
#define ROOT_WALL 1

struct source {
    char name[SOURCE_NAME_MAX + 1], kind[16];
    struct spool_clock_source hooks;
    void *state;
    struct spool_clock_source_options options; /* with the defaults filled in */
    bool local, memory;                        /* memory: "monotonic" */
    bool sntp, builtin;

    struct anchor samples[SAMPLES];
    unsigned count, newest;
    uint64_t root;
    uint32_t stratum;
    uint64_t interval_ns, due_ns; /* with backoff; CLOCK_BOOTTIME of the next read */
    bool busy, doomed, refused, unbounded, asked, failing;
    uint64_t answers, failures;
    char last_error[160];

    enum spool_clock_verdict verdict; /* as of the last summary */
    bool voted, chosen;
    struct estimate now;
};

/* What all sources together say. */
struct summary {
    enum spool_clock_status status;
    struct hlc_look at;
    uint64_t time_ns, earliest_ns, latest_ns;
    unsigned voting, agreeing;
    int leap;
};

struct sources {
    pthread_mutex_t lock;
    pthread_cond_t changed;                       /* on CLOCK_MONOTONIC: a read ended, or something is due sooner */
    struct source *list[SPOOL_CLOCK_SOURCES_MAX]; /* NULL: free. lock */
    struct source *memory;                        /* fixed */
    unsigned memory_voting, memory_agreeing;      /* lock: when it was made */
    struct anchor followed;     /* lock: what stamps follow: the last agreement that physical time went by … */
    unsigned followed_agreeing; /* … and of how many; 0: none yet */
    uint32_t drift_ppm;         /* lock: as given; 0: by `disciplined` */
    bool disciplined;           /* lock: the kernel's clock is, as of its last answer */
    int32_t tai_offset_s;       /* lock: likewise */
    uint64_t random;            /* lock: of the jitter */
};

int sources_init(struct sources *s, uint32_t drift_ppm);
/* Nothing is read any more. */
void sources_free(struct sources *s);
/* In a forked child. The mutex may be held, and the condition waited for, by a thread that is not there: they stay. Of
 * the sources only ours are closed: what another's close hook may do in a child nobody knows. */
void sources_abandon(struct sources *s);

/* source_options.c: checks and fills in. `interval_min_ms`: of the kind. */
int source_options_take(const struct spool_clock_source_options *options, bool is_sntp, bool is_builtin,
                        struct spool_clock_source_options *ret);
int source_check_hooks(const struct spool_clock_source *given, struct spool_clock_source *ret);
int source_check_name(const char *name);

/* `lock` held. */
struct source *sources_find(const struct sources *s, const char *name);
struct source *sources_next_due(const struct sources *s, bool local_only); /* not busy; NULL: none */
uint32_t sources_drift_ppm(const struct sources *s);
void source_free(struct source *source);

/* Stores what a read came to. `lock` held. */
void source_answered(struct sources *s, struct source *source, const struct spool_clock_sample *sample,
                     const struct hlc_look *before, const struct hlc_look *after);
void source_failed(struct sources *s, struct source *source, int code, const char *message,
                   const struct spool_clock_sample *sample, const struct hlc_look *after);

/* Ages all answers, gives the verdicts, chooses, remembers what a majority agrees on. `lock` held. */
void sources_sum_up(struct sources *s, const struct hlc_look *now, struct summary *ret);

/* Whether stamps may follow it. When servers fall silent one after the other, a liar may be the last that speaks: who
 * contradicts what was followed must be as many as agreed then. `lock` held. */
bool sources_may_follow(struct sources *s, const struct summary *sum);

#endif
