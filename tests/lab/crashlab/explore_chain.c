/* explore_chain.c - a crash during recovery: records how an image is opened and closed, and tries points inside that.
 *
 * After a kill the page cache is still there: the record goes on where it was, with what was pending then. After a loss
 * of power what is found is safe, and a new record begins with it. */
#include <stdio.h>
#include <string.h>

#include "explore.h"
#include "recorder.h"

enum { CHAIN_BYTES = 256 << 20, RECOVER_LIMIT_S = 60, CHAIN_POINTS = 10 };

struct recovery {
    const struct walk *walk;
    struct trace *trace;
    const char *dir;
};

static int run_recovery(void *arg)
{
    const struct recovery *r = arg;
    const struct engine *engine = r->walk->engine;
    lab_control = r->walk->options->control;
    recorder_attach(r->trace);
    return recorder_begin(r->dir) || engine->recover(engine->scenario, r->dir) ? 1 : 0;
}

/* The ids go on, but no inode of the old directory means anything now. */
static void continue_trace(struct trace *trace, const struct walk *walk)
{
    trace_copy(trace, walk->trace, walk->at->number);
    trace->nodes = walk->trace->nodes;
    memcpy(trace->node, walk->trace->node, sizeof trace->node[0] * ((size_t)trace->nodes + 1));
    for (uint32_t id = 0; id <= trace->nodes; id++) {
        trace->node[id].inode = 0;
        trace->node[id].shadow = NULL;
    }
}

static int make_base(struct trace *trace, const struct walk *walk, const struct image *image, const char *dir,
                     enum lab_crash crash)
{
    int err;
    if (crash == LAB_KILLED) {
        continue_trace(trace, walk);
        err = image_write(image, dir, trace);
        trace->first_point = trace->count;
    } else {
        trace_copy_marks(trace, walk->trace, walk->at->number);
        err = image_write(image, dir, NULL);
        if (!err)
            err = recorder_note_base(trace, dir);
    }
    trace->floor = crash;
    return err;
}

/* A few points, spread over the recovery. */
static void explore_recovery(const struct walk *walk, struct trace *trace, uint64_t seed)
{
    char saved_as[300];
    snprintf(saved_as, sizeof saved_as, "%s-%llx", walk->saved_as, (unsigned long long)seed & 0xffffff);
    struct walk inner = *walk;
    inner.trace = trace;
    inner.is_chain = true;
    inner.saved_as = saved_as;
    inner.disk = disk_new(trace);
    inner.marks = NULL;
    inner.mark_count = inner.mark_capacity = 0;
    uint32_t n = trace->count - trace->first_point + 1;
    const struct trace_record *r = trace_next(trace, NULL);
    for (; r && !atomic_load(&walk->shared->is_over); r = trace_next(trace, r)) {
        walk_apply(&inner, r);
        if (r->number < trace->first_point || random_mix(seed, r->number) % n >= CHAIN_POINTS)
            continue;
        atomic_fetch_add(&walk->shared->points, 1);
        walk_try(&inner, (struct choice){.kind = CHOICE_KILL});
        walk_try(&inner, (struct choice){.kind = CHOICE_NONE});
        walk_try(&inner, (struct choice){.kind = CHOICE_RANDOM, .seed = random_mix(seed, r->number) >> 32});
    }
    walk_clear(&inner);
}

void explore_chain(struct walk *walk, const struct image *image, struct choice choice, enum lab_crash crash)
{
    char dir[400], why[64];
    snprintf(dir, sizeof dir, "%s-chain", walk->dir);
    struct trace *trace = trace_new(CHAIN_BYTES, walk->engine->scenario->name, walk->trace->seed);
    if (!trace)
        return;
    atomic_fetch_add(&walk->shared->chains, 1);
    struct recovery recovery = {walk, trace, dir};
    int status = make_base(trace, walk, image, dir, crash) ? 255 : child_run(run_recovery, &recovery, RECOVER_LIMIT_S);
    remove_tree(dir);
    snprintf(why, sizeof why, "recovery ended with status %d", status);
    if (status != 0)
        report_violation(walk, image, choice, crash, why);
    else if (!trace->is_full && !trace->is_torn)
        explore_recovery(walk, trace, random_mix(image->hash, walk->options->seed));
    trace_free(trace);
}
