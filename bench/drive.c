/* drive.c - producers that repeat a step until the time is over.
 *
 * One time stamp a step: the end of a step is the begin of the next one, unless it is paced. A paced step is timed from
 * its own begin, so that what is shown is what the call costs its caller, not how late it was. */
#include "case.h"

struct producer {
    const struct driver *driver;
    const struct context *context;
    void *shared;
    unsigned index;
    pthread_t thread;
    pthread_barrier_t *ready;
    struct histogram *histogram;
    uint64_t events;
};

static uint64_t ticks_of(double seconds)
{
    return (uint64_t)(seconds * 1e9 * ticks_per_ns());
}

static void run_flat_out(struct producer *p, void *state, uint64_t deadline)
{
    uint64_t last = ticks();
    for (uint64_t number = 0; last < deadline; number++) {
        p->events += p->driver->step(state, number);
        uint64_t now = ticks();
        histogram_add(p->histogram, now - last);
        last = now;
    }
}

static void wait_until(uint64_t due)
{
    const uint64_t nap = ticks_of(200e-6);
    for (uint64_t now = ticks(); now < due; now = ticks())
        if (due - now > 2 * nap)
            usleep((useconds_t)((double)(due - now - nap) / ticks_per_ns() / 1000));
}

static void run_paced(struct producer *p, void *state, uint64_t deadline)
{
    double step = ticks_per_ns() * 1e9 * p->context->producers / p->context->rate, due = (double)ticks();
    for (uint64_t number = 0; ticks() < deadline; number++) {
        wait_until((uint64_t)due);
        uint64_t begin = ticks();
        size_t events = p->driver->step(state, number);
        histogram_add(p->histogram, ticks() - begin);
        p->events += events;
        due += step * (double)events;
    }
}

static void *run_producer(void *argument)
{
    struct producer *p = argument;
    void *state = p->driver->join ? p->driver->join(p->shared, p->index) : p->shared;
    pthread_barrier_wait(p->ready);
    uint64_t deadline = ticks() + ticks_of(p->context->seconds);
    if (p->context->rate > 0)
        run_paced(p, state, deadline);
    else
        run_flat_out(p, state, deadline);
    pthread_barrier_wait(p->ready);
    if (p->driver->leave)
        p->driver->leave(state);
    return NULL;
}

static void start(struct producer *p, const struct driver *driver, const struct context *context, void *shared,
                  pthread_barrier_t *ready)
{
    for (unsigned i = 0; i < context->producers; i++) {
        p[i] = (struct producer){.driver = driver,
                                 .context = context,
                                 .shared = shared,
                                 .index = i,
                                 .ready = ready,
                                 .histogram = calloc(1, sizeof(struct histogram))};
        if (!p[i].histogram || pthread_create(&p[i].thread, NULL, run_producer, &p[i]) != 0)
            err(1, "a producer");
    }
}

static uint64_t gather(struct producer *p, unsigned n, struct histogram *ret_all)
{
    uint64_t events = 0;
    for (unsigned i = 0; i < n; i++) {
        pthread_join(p[i].thread, NULL);
        histogram_merge(ret_all, p[i].histogram);
        events += p[i].events;
        free(p[i].histogram);
    }
    return events;
}

void drive(const struct driver *driver, const struct context *context, struct outcome *outcome)
{
    struct producer *producers = calloc(context->producers, sizeof *producers);
    struct histogram *all = calloc(1, sizeof *all);
    pthread_barrier_t ready;
    if (!producers || !all || pthread_barrier_init(&ready, NULL, context->producers + 1) != 0)
        err(1, "producers");
    payload_begin(context);
    ticks_per_ns();
    void *shared = driver->begin ? driver->begin(context) : NULL;
    start(producers, driver, context, shared, &ready);
    pthread_barrier_wait(&ready);
    double cpu = cpu_seconds();
    uint64_t begin = clock_ns();
    pthread_barrier_wait(&ready); /* all have done their last step */
    if (driver->finish)
        driver->finish(shared);
    double seconds = (double)(clock_ns() - begin) / 1e9;
    cpu = cpu_seconds() - cpu;
    uint64_t handed_over = gather(producers, context->producers, all);
    double events = (double)(driver->arrived ? driver->arrived(shared) : handed_over);
    figure(outcome, "events", events);
    figure(outcome, "per_second", events / seconds);
    if (context->rate == 0 && events > 0)
        figure(outcome, "cpu_ns", cpu * 1e9 / events);
    figure_latency(outcome, all);
    if (driver->end)
        driver->end(shared, outcome);
    pthread_barrier_destroy(&ready);
    free(producers);
    free(all);
}
