/* explore.h - the explorer: records a scenario, goes through the record, and has the oracle judge what the disk may
 * hold. */
#ifndef CRASHLAB_EXPLORE_H
#define CRASHLAB_EXPLORE_H

#include <signal.h>
#include <stdatomic.h>

#include "images.h"

/* A scenario with those who judge it: lab_oracle() and lab_recover(), or the self-test's own. */
struct engine {
    const struct lab_scenario *scenario;
    int (*oracle)(const struct lab_scenario *scenario, const char *dir, const struct lab_mark *marks, size_t n,
                  enum lab_crash crash, char *why, size_t why_size);
    int (*recover)(const struct lab_scenario *scenario, const char *dir); /* NULL: a second crash is not tried */
};

struct explore_options {
    uint64_t seed;
    double seconds;
    unsigned jobs;
    const char *tmp;     /* for images: memory, best */
    const char *keep;    /* where violations leave image and trace; NULL: only the trace, in /tmp */
    const char *control; /* NULL: none; otherwise the first violation ends it */
    bool quiet;
};

enum { VIOLATIONS_SHOWN = 5, VIOLATIONS_MAX = 40, SEEN = 1 << 20 };

/* What the workers share. */
struct explore_shared {
    _Atomic uint64_t points, images, same, chains, violations;
    _Atomic uint64_t records, recordings;
    atomic_bool is_over;
    uint64_t deadline_ns; /* of the record that is being explored */
    atomic_uint shown;
    char text[VIOLATIONS_SHOWN][3000];
    char failure[600]; /* of the laboratory itself */
    _Atomic uint64_t seen[SEEN];
};

extern volatile sig_atomic_t explore_interrupted; /* set by a signal: ends soon, and cleans up */

/* Explores until the time is over. Prints violations. Returns false if the laboratory itself failed (`failure`). */
bool explore(const struct engine *engine, const struct explore_options *options, struct explore_shared *shared);
struct explore_shared *explore_shared_new(void);
void explore_shared_free(struct explore_shared *shared);

/* Judges one image again, "FILE@POINT@CHOICE", aloud. 0: no violation, 1: violation, 2: cannot. */
int explore_replay(const struct engine *engine_by_name(const char *name), const char *spec,
                   const struct explore_options *options);

/* The engine's own test: plain LMDB with and without flushes, renames, mapped files. Returns the number of failed ones.
 */
int selftest(const struct explore_options *options, unsigned *ret_passed);
void selftest_list(void);

/* ------------------------------------------------------------------------------------------------- inside of
 * explore*.c */

/* One worker on its way through one record. */
struct walk {
    const struct engine *engine;
    const struct explore_options *options;
    struct explore_shared *shared;
    const struct trace *trace;
    unsigned worker, pass;
    bool is_chain;        /* the record of a recovery */
    const char *dir;      /* of the image */
    const char *saved_as; /* where the trace is or will be saved */
    struct disk *disk;
    struct lab_mark *marks;
    size_t mark_count, mark_capacity;
    const struct trace_record *at;
};
void walk_apply(struct walk *walk, const struct trace_record *record);
bool walk_try(void *walk, struct choice choice);
void walk_clear(struct walk *walk);

/* A chain: the recovery from this image is recorded and explored. */
void explore_chain(struct walk *walk, const struct image *image, struct choice choice, enum lab_crash crash);

/* Records one run. NULL: failed, the reason in `why`. */
struct trace *explore_record(const struct engine *engine, const char *dir, uint64_t seed, const char *control,
                             char *why, size_t size);

/* Runs `work` in a child. Returns its exit status, or 256 + signal, or 1000: it took too long and was killed. */
enum { CHILD_SIGNAL = 256, CHILD_HANGS = 1000 };
int child_run(int (*work)(void *arg), void *arg, unsigned limit_s);

/* Has the oracle judge `dir`. */
bool trial_passes(const struct engine *engine, const char *dir, const struct lab_mark *marks, size_t n,
                  enum lab_crash crash, bool aloud, char *why, size_t size);

/* Puts a violation into words and keeps what explains it. */
void report_violation(struct walk *walk, const struct image *image, struct choice choice, enum lab_crash crash,
                      const char *why);

uint64_t now_ns(void);

#endif
