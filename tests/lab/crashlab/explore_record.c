/* explore_record.c - records one run of a scenario, and makes sure that the record is whole: going through it gives the
 * directory as it is in the end. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "explore.h"
#include "recorder.h"

enum { TRACE_BYTES = 512 << 20, RUN_LIMIT_S = 180, ATTEMPTS = 3 };

struct recording {
    const struct engine *engine;
    struct trace *trace;
    const char *dir, *control;
    uint64_t seed;
};

static int run_prepare(void *arg)
{
    const struct recording *r = arg;
    recorder_attach(r->trace);
    return r->engine->scenario->prepare(r->dir, r->seed) ? 1 : 0;
}

static int run_recorded(void *arg)
{
    const struct recording *r = arg;
    lab_control = r->control;
    recorder_attach(r->trace);
    return recorder_begin(r->dir) || r->engine->scenario->run(r->dir, r->seed) ? 1 : 0;
}

/* What processes that died stored last. */
static int run_last_look(void *arg)
{
    const struct recording *r = arg;
    recorder_attach(r->trace);
    if (recorder_begin(r->dir))
        return 1;
    struct trace *trace = recorder_enter();
    recorder_stores(trace);
    recorder_leave(trace);
    recorder_end();
    return 0;
}

static bool is_whole(const struct trace *trace, const char *dir, char *why, size_t size)
{
    if (trace->is_full || trace->is_torn) {
        snprintf(why, size, "%s", trace->is_full ? "the record is full" : "a process died inside a recorded call");
        return false;
    }
    struct disk *disk = disk_new(trace);
    for (const struct trace_record *r = trace_next(trace, NULL); r; r = trace_next(trace, r))
        disk_apply(disk, r);
    struct image image;
    image_make(disk, (struct choice){.kind = CHOICE_KILL}, &image);
    char how[400];
    bool matches = image_matches(&image, dir, how, sizeof how);
    if (!matches)
        snprintf(why, size, "the record misses something: %s", how);
    image_free(&image);
    disk_free(disk);
    return matches;
}

static bool fails(int status, const char *what, char *why, size_t size)
{
    if (status == CHILD_HANGS)
        snprintf(why, size, "%s hangs", what);
    else if (status > CHILD_SIGNAL)
        snprintf(why, size, "%s: signal %d", what, status - CHILD_SIGNAL);
    else if (status)
        snprintf(why, size, "%s failed", what);
    return status != 0;
}

static bool record(struct recording *r, char *why, size_t size)
{
    int err = mkdir(r->dir, 0700) ? errno : 0;
    if (!err && r->engine->scenario->prepare &&
        fails(child_run(run_prepare, r, RUN_LIMIT_S), "the preparation", why, size))
        return false;
    if (!err)
        err = recorder_note_base(r->trace, r->dir);
    if (err) {
        snprintf(why, size, "%s: %s", r->dir, strerror(err));
        return false;
    }
    return !fails(child_run(run_recorded, r, RUN_LIMIT_S), "the run", why, size) &&
           !fails(child_run(run_last_look, r, RUN_LIMIT_S), "the last look", why, size) &&
           is_whole(r->trace, r->dir, why, size);
}

struct trace *explore_record(const struct engine *engine, const char *dir, uint64_t seed, const char *control,
                             char *why, size_t size)
{
    snprintf(why, size, "no memory");
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        struct recording r = {engine, trace_new(TRACE_BYTES, engine->scenario->name, seed), dir, control, seed};
        if (!r.trace)
            return NULL;
        bool done = record(&r, why, size), again = r.trace->is_torn;
        remove_tree(dir);
        if (done)
            return r.trace;
        trace_free(r.trace);
        if (!again)
            break;
    }
    return NULL;
}
