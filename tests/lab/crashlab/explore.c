/* explore.c - goes through the points of a record in several passes, first where it matters most, with a few workers;
 * when all has been tried, records again with the next seed, until the time is over. */
#include "explore.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

volatile sig_atomic_t explore_interrupted;

enum { PASSES = 4, PARTS = 8, JOBS_MAX = 64, SLICE_MIN_S = 4 };

struct explore_shared *explore_shared_new(void)
{
    void *p = mmap(NULL, sizeof(struct explore_shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void explore_shared_free(struct explore_shared *shared)
{
    if (shared)
        munmap(shared, sizeof *shared);
}

/* ----------------------------------------------------------------------------------------------------------- points */

/* Where something becomes safe, changes its name, or is promised. */
static bool is_decisive(const struct trace_record *record)
{
    return record->kind != TRACE_WRITE && record->kind != TRACE_STORE && record->kind != TRACE_SIZE;
}

/* One time through the record, stopping at every point of this part. */
static void sweep(struct walk *walk, bool decisive, unsigned part)
{
    walk->disk = disk_new(walk->trace);
    const struct trace_record *r = trace_next(walk->trace, NULL);
    for (; r && !atomic_load(&walk->shared->is_over); r = trace_next(walk->trace, r)) {
        uint64_t lot = random_mix(walk->trace->seed, r->number);
        walk_apply(walk, r);
        if (r->number + 1 < walk->trace->first_point || is_decisive(r) != decisive || lot % PARTS != part ||
            lot / PARTS % walk->options->jobs != walk->worker)
            continue;
        if (now_ns() > walk->shared->deadline_ns)
            break;
        if (walk->pass == 0)
            atomic_fetch_add(&walk->shared->points, 1);
        choice_each(walk->disk, walk->pass, random_mix(lot, walk->pass), walk_try, walk);
    }
    walk_clear(walk);
}

static void work(struct walk *walk)
{
    for (unsigned i = 0; i < PASSES; i++) {
        walk->pass = (unsigned)((walk->trace->seed - walk->options->seed + i) % PASSES);
        for (unsigned part = 0; part < 2 * PARTS; part++)
            sweep(walk, part < PARTS, part % PARTS);
    }
}

/* ---------------------------------------------------------------------------------------------------------- workers */

static pid_t start_worker(const struct engine *engine, const struct explore_options *options,
                          struct explore_shared *shared, const struct trace *trace, unsigned worker)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    char dir[300], saved_as[300];
    snprintf(dir, sizeof dir, "%s/image%u", options->tmp, worker);
    snprintf(saved_as, sizeof saved_as, "%s/crashlab-%s-%llu.trace", options->keep ? options->keep : "/tmp",
             engine->scenario->name, (unsigned long long)trace->seed);
    struct walk walk = {.engine = engine,
                        .options = options,
                        .shared = shared,
                        .trace = trace,
                        .worker = worker,
                        .dir = dir,
                        .saved_as = saved_as};
    mallopt(M_MMAP_THRESHOLD, 256 << 10); /* so that holes of large files stay holes in memory */
    work(&walk);
    _exit(0);
}

static bool explore_trace(const struct engine *engine, const struct explore_options *options,
                          struct explore_shared *shared, const struct trace *trace)
{
    pid_t pid[JOBS_MAX];
    bool whole = true;
    memset((void *)shared->seen, 0, sizeof shared->seen);
    for (unsigned i = 0; i < options->jobs; i++)
        pid[i] = start_worker(engine, options, shared, trace, i);
    for (unsigned i = 0; i < options->jobs; i++) {
        int status = 1;
        while (pid[i] > 0 && waitpid(pid[i], &status, 0) < 0 && errno == EINTR)
            continue;
        whole = whole && pid[i] > 0 && status == 0;
    }
    if (!whole && !shared->failure[0])
        snprintf(shared->failure, sizeof shared->failure, "a worker failed");
    return !shared->failure[0];
}

/* One run with this seed, explored until `end_ns` or, when there is more time, for a part of it. */
static bool explore_run(const struct engine *engine, const struct explore_options *options,
                        struct explore_shared *shared, uint64_t seed, uint64_t end_ns)
{
    char dir[300], why[500];
    double slice_s = options->seconds / 8 > SLICE_MIN_S ? options->seconds / 8 : SLICE_MIN_S;
    snprintf(dir, sizeof dir, "%s/run", options->tmp);
    struct trace *trace = explore_record(engine, dir, seed, options->control, why, sizeof why);
    if (!trace) {
        snprintf(shared->failure, sizeof shared->failure, "recording with seed %llu: %s", (unsigned long long)seed,
                 why);
        return false;
    }
    atomic_fetch_add(&shared->records, trace->count - trace->first_point);
    uint64_t recorded_ns = now_ns(), slice_end_ns = recorded_ns + (uint64_t)(slice_s * 1e9);
    uint64_t least_ns = recorded_ns + (uint64_t)(options->seconds * 0.3e9); /* the first recording may be slow */
    if (atomic_fetch_add(&shared->recordings, 1) == 0 && end_ns < least_ns)
        end_ns = least_ns;
    shared->deadline_ns = slice_end_ns < end_ns ? slice_end_ns : end_ns;
    bool done = explore_trace(engine, options, shared, trace);
    trace_free(trace);
    return done;
}

bool explore(const struct engine *engine, const struct explore_options *options, struct explore_shared *shared)
{
    uint64_t end_ns = now_ns() + (uint64_t)(options->seconds * 1e9), round = 0;
    do {
        if (!explore_run(engine, options, shared, options->seed + round++, end_ns))
            return false;
    } while (!explore_interrupted && !atomic_load(&shared->is_over) && now_ns() < end_ns);
    return !explore_interrupted;
}
