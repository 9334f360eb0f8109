/* main.c - clockworld: worlds by seed, until one is wrong. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    bool twice;
};

static int usage(void)
{
    puts("clockworld [--seed N] [--runs N] [--steps N] [--trace] [--twice] [--control NAME]\ncontrols:");
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

int main(int argc, char **argv)
{
    struct args args = {.seed = 1, .runs = 1, .steps = 600};
    struct world sum = {0};
    if (!parse(argc, argv, &args))
        return usage();
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
