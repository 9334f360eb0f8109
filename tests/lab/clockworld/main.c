/* main.c - clockworld: worlds by seed, until one is wrong. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "world.h"

static const struct {
    enum control id;
    const char *name, *text;
} controls[] = {
#define CONTROL_ROW(id, name, text) {CONTROL_##id, name, text},
    CONTROLS(CONTROL_ROW)
#undef CONTROL_ROW
};
enum { CONTROL_COUNT = sizeof controls / sizeof *controls };

struct args {
    uint64_t seed, runs, steps;
    bool twice, cost;
};

static int usage(void)
{
    puts("clockworld [--seed N] [--runs N] [--steps N] [--trace] [--twice] [--cost] [--control NAME]\ncontrols:");
    for (int i = 0; i < CONTROL_COUNT; i++)
        printf("  %-16s %s\n", controls[i].name, controls[i].text);
    return 2;
}

static bool set_control(const char *name)
{
    for (int i = 0; i < CONTROL_COUNT; i++)
        if (strcmp(controls[i].name, name) == 0)
            control = controls[i].id;
    return control != CONTROL_NONE;
}

static bool parse(int argc, char **argv, struct args *args)
{
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--trace") == 0) {
            world.trace = true;
            continue;
        }
        if (strcmp(argv[i], "--twice") == 0) {
            args->twice = true;
            continue;
        }
        if (strcmp(argv[i], "--cost") == 0) {
            args->cost = true;
            continue;
        }
        if (!value)
            return false;
        i++;
        if (strcmp(argv[i - 1], "--seed") == 0)
            args->seed = strtoull(value, NULL, 0);
        else if (strcmp(argv[i - 1], "--runs") == 0)
            args->runs = strtoull(value, NULL, 0);
        else if (strcmp(argv[i - 1], "--steps") == 0)
            args->steps = strtoull(value, NULL, 0);
        else if (strcmp(argv[i - 1], "--control") != 0 || !set_control(value))
            return false;
    }
    return true;
}

/* Returns the hash of its history. */
static uint64_t run(uint64_t seed, uint64_t steps)
{
    world_begin(seed);
    while (world.step < steps && !world.failed)
        world_step();
    world_end();
    return world.hash;
}

/* ------------------------------------------------------------------------------------------------------- the cost */

void __real_hlc_now(struct hlc *clock, struct spool_id *ret_id);

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

enum cost { COST_STAMP, COST_APART, COST_WORK, COST_READ };

/* What lies between two stamps that are apart: a microsecond or so, so that each reads the clock. */
static void work(void)
{
    for (volatile int i = 0; i < 2000; i++)
        continue;
}

static double ns_per_call(enum cost what, struct hlc *clock)
{
    enum { CALLS = 500 };
    struct timespec begin, end, now;
    struct spool_id id;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (int i = 0; i < CALLS; i++) {
        if (what == COST_APART || what == COST_WORK)
            work();
        if (what == COST_STAMP || what == COST_APART)
            __real_hlc_now(clock, &id);
        else if (what == COST_READ)
            clock_gettime(CLOCK_REALTIME, &now);
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    return ((double)(end.tv_sec - begin.tv_sec) * 1e9 + (double)(end.tv_nsec - begin.tv_nsec)) / CALLS;
}

/* One stamp of this machine's clock, in ns, beside the bare reading in it: medians of many turns. */
static int show_cost(void)
{
    enum { TURNS = 2000 };
    static double turns[4][TURNS];
    struct hlc *clock;
    if (hlc_new(NULL, &clock))
        return 1;
    for (int i = 0; i < TURNS; i++)
        for (enum cost what = COST_STAMP; what <= COST_READ; what++)
            turns[what][i] = ns_per_call(what, clock);
    hlc_free(clock);
    for (int what = 0; what < 4; what++)
        qsort(turns[what], TURNS, sizeof turns[0][0], by_value);
    printf("medians: a stamp %.1f ns, one that is a microsecond from the last %.1f ns, clock_gettime alone %.1f ns\n",
           turns[COST_STAMP][TURNS / 2], turns[COST_APART][TURNS / 2] - turns[COST_WORK][TURNS / 2],
           turns[COST_READ][TURNS / 2]);
    return 0;
}

int main(int argc, char **argv)
{
    struct args args = {.seed = 1, .runs = 1, .steps = 600};
    struct world sum = {0};
    if (!parse(argc, argv, &args))
        return usage();
    if (args.cost)
        return show_cost();
    for (uint64_t seed = args.seed; seed < args.seed + args.runs; seed++) {
        uint64_t hash = run(seed, args.steps);
        if (world.failed)
            return 1;
        if (args.twice && run(seed, args.steps) != hash) {
            printf("seed %llu is not the same twice\n", (unsigned long long)seed);
            return 1;
        }
        sum.stamps += world.stamps, sum.readings += world.readings, sum.asserted += world.asserted;
        sum.accepted += world.accepted, sum.refused += world.refused, sum.jumps += world.jumps;
        sum.restarts += world.restarts, sum.sleeps += world.sleeps, sum.slews += world.slews;
        sum.holdovers += world.holdovers, sum.compared += world.compared, sum.polls += world.polls;
    }
#define SHOW(name) printf("  %10llu %s\n", (unsigned long long)sum.name, #name)
    printf("%llu worlds from seed %llu, without a violation\n", (unsigned long long)args.runs,
           (unsigned long long)args.seed);
    SHOW(stamps), SHOW(readings), SHOW(asserted), SHOW(holdovers), SHOW(compared), SHOW(polls), SHOW(accepted),
        SHOW(refused);
    SHOW(jumps), SHOW(sleeps), SHOW(slews), SHOW(restarts);
    return 0;
}
