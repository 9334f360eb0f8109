/* left_open.c - states of sinks that a stop had no time to close. Their hooks may take as long as any, and are not for the
 * thread that has to return; freed without close they would leak whatever the sink holds. So workers that have nothing
 * to do any more are given up for them, as if they hung there: such a sink counts as hung until it is closed, and its
 * lock and what it needs stay. */
#include <string.h>

#include "engine.h"

static bool is_left_open(const struct sink *sink)
{
    return sink->hooks.close && !sink->hung && sink->running == 0 && sink_is_open(sink);
}

/* Now that nobody takes batches and the sinks that run are marked, every worker that is left has nothing to do; some may
 * have gone, as the lock was left since. NULL: all are given up or gone, and no thread is to be had. */
static struct runner *spare_worker(struct delivery *d)
{
    struct runner *runner = d->runners;
    while (runner && (runner->kind != RUN_WORKER || runner->exited))
        runner = runner->next;
    if (!runner && delivery_start_worker(d) == SPOOL_OK)
        runner = d->runners;
    return runner;
}

static void leave_open(struct delivery *d, struct sink *sink)
{
    sink->hung = sink->left_open = true;
    sink->catching_up = false;
    sink->running++;
    sink_take_back_ready(d, sink);
}

bool sinks_close_later(struct delivery *d, char name[SINK_NAME_MAX + 1])
{
    uint32_t workers = 0, left = 0;
    for (struct sink *sink = d->sinks; sink; sink = sink->next) {
        if (!is_left_open(sink))
            continue;
        if (left++ == 0)
            memcpy(name, sink->name, SINK_NAME_MAX + 1);
        struct runner *worker = spare_worker(d);
        if (worker) {
            runner_abandon(d, worker);
            workers++;
        }
        if (workers > 0) /* whoever has closed one looks for more; without anybody the next start closes them */
            leave_open(d, sink);
    }
    return left > 0;
}

struct sink *sinks_take_left_open(struct delivery *d)
{
    struct sink *sink = d->sinks;
    while (sink && !sink->left_open)
        sink = sink->next;
    if (!sink)
        return NULL;
    sink->left_open = false;
    atomic_fetch_add(&sink->refs, 1);
    return sink;
}
