/* main.c - makes every call fail, one after the other, in every scenario, and says what did not hold.
 *
 * Per scenario a run without faults counts the calls of each class. That makes the plan: each scenario, class and mode
 * with n = 1, 2, … up to a little more than there were. Of the plan all cases are run, every K-th, or as many as the
 * time allows, in an order that the seed gives. Ends (close, exit, loss of power) take turns, unless one is asked for.
 */
#include "sweep.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { RANDOM_CHANCES = 3, SHOWN_MAX = 40, JOBS_MAX = 8 };

struct wish {
    const char *scenario, *class, *mode, *end, *control;
    uint32_t n, every, jobs, seeds, seconds;
    uint64_t seed;
    bool controls;
};
static struct wish wish = {.every = 1, .jobs = 1, .seeds = 20, .seed = 1};

struct tally {
    _Atomic uint64_t cases, faults, violations;
};
static struct tally *tally; /* shared between jobs */

/* -------------------------------------------------------------------------------------------------------------- plan
 */

static struct sweep_case *plan;
static size_t plan_count, plan_room;

static uint64_t next_random(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15u;
    uint64_t x = *state;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static bool wanted(const char *wish_for, const char *name)
{
    return !wish_for || strcmp(wish_for, name) == 0;
}

static void plan_case(struct sweep_case it)
{
    static unsigned turn;
    it.end = (enum end)((turn++ + wish.seed) % END_COUNT);
    for (int end = 0; wish.end && end < END_COUNT; end++)
        it.end = strcmp(wish.end, end_name(end)) == 0 ? (enum end)end : it.end;
    if (plan_count == plan_room) {
        plan_room = plan_room ? plan_room * 2 : 1024;
        plan = realloc(plan, plan_room * sizeof *plan);
        if (!plan)
            exit(3);
    }
    plan[plan_count++] = it;
}

static void plan_mode(struct sweep_case it, uint32_t calls)
{
    static const uint32_t chances[RANDOM_CHANCES] = {2, 8, 40};
    if (wish.n) {
        it.n = wish.n;
        plan_case(it);
        return;
    }
    if (it.mode == MODE_RANDOM) {
        for (uint32_t i = 0; calls && i < wish.seeds; i++) {
            it.seed = wish.seed + i;
            it.n = chances[i % RANDOM_CHANCES];
            plan_case(it);
        }
        return;
    }
    for (it.n = 1; calls && it.n <= calls + calls / 10 + 2; it.n++)
        plan_case(it);
}

static void plan_scenario(const struct scenario *scenario, const uint32_t calls[FAULT_CLASS_COUNT])
{
    for (int class = 0; class < FAULT_CLASS_COUNT; class ++) {
        for (int mode = 0; mode < MODE_COUNT; mode++) {
            struct sweep_case it = {.scenario = scenario, .class = class, .mode = mode, .seed = wish.seed};
            if (wanted(wish.class, fault_class_name(class)) && wanted(wish.mode, fault_mode_name(mode)))
                plan_mode(it, calls[class]);
        }
    }
}

/* Only those that are to be run. */
static void thin_out(uint64_t seed)
{
    size_t kept = 0;
    for (size_t i = seed % wish.every; i < plan_count; i += wish.every)
        plan[kept++] = plan[i];
    plan_count = kept;
}

/* --------------------------------------------------------------------------------------------------------------- jobs
 */

static struct counts {
    uint64_t cases, faults, violations;
} here; /* of the scenario, in this process */

static void run_one(const struct sweep_case *it)
{
    bool hit, bad = !case_run(it, &hit);
    here.violations += bad;
    here.cases++;
    here.faults += hit;
    atomic_fetch_add(&tally->violations, bad);
    atomic_fetch_add(&tally->cases, 1);
    atomic_fetch_add(&tally->faults, hit);
}

static uint64_t now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec;
}

static void run_plan(uint64_t until_s)
{
    for (size_t i = 0; i < plan_count; i++) {
        if ((until_s && now_s() >= until_s) || atomic_load(&tally->violations) >= SHOWN_MAX)
            return;
        run_one(&plan[i]);
    }
}

/* A scenario with all its cases; with a limit of time in a random order, so that what is left out is left out evenly.
 */
static void sweep_scenario(const struct scenario *scenario, uint64_t until_s)
{
    uint32_t calls[FAULT_CLASS_COUNT] = {0};
    plan_count = 0;
    if (!case_prepare(scenario) || !case_baseline(scenario, calls)) {
        atomic_fetch_add(&tally->violations, 1);
        return;
    }
    plan_scenario(scenario, calls);
    thin_out(wish.seed);
    uint64_t state = wish.seed;
    for (size_t i = plan_count; until_s && i > 1; i--) {
        size_t other = next_random(&state) % i;
        struct sweep_case swap = plan[i - 1];
        plan[i - 1] = plan[other];
        plan[other] = swap;
    }
    uint64_t from = now_s();
    here = (struct counts){0};
    run_plan(until_s);
    printf("%-16s %7llu of %7zu cases, %7llu faults, %llu violation(s), %llu s\n", scenario->name,
           (unsigned long long)here.cases, plan_count, (unsigned long long)here.faults,
           (unsigned long long)here.violations, (unsigned long long)(now_s() - from));
    fflush(stdout);
}

static void sweep_job(uint32_t job)
{
    char path[300];
    uint64_t start = now_s();
    size_t count = 0, done = 0;
    for (size_t i = 0; i < scenario_count; i++)
        count += wanted(wish.scenario, scenarios[i].name);
    case_base(path, sizeof path);
    for (size_t i = 0; i < scenario_count; i++) {
        if (!wanted(wish.scenario, scenarios[i].name) || done++ % wish.jobs != job)
            continue;
        size_t mine = (count + wish.jobs - 1) / wish.jobs, turn = (done - 1) / wish.jobs + 1;
        sweep_scenario(&scenarios[i], wish.seconds ? start + wish.seconds * turn / mine : 0);
    }
    case_base_remove();
}

static void sweep_all(void)
{
    if (wish.jobs == 1) {
        sweep_job(0);
        return;
    }
    for (uint32_t job = 0; job < wish.jobs; job++) {
        if (fork() == 0) {
            sweep_job(job);
            _exit(0);
        }
    }
    int status;
    while (wait(&status) > 0)
        atomic_fetch_add(&tally->violations, status != 0);
}

/* ----------------------------------------------------------------------------------------------------------- controls
 */

static const struct scenario *scenario_of(const char *name)
{
    for (size_t i = 0; i < scenario_count; i++) {
        if (strcmp(scenarios[i].name, name) == 0)
            return &scenarios[i];
    }
    exit(2);
}

static bool is_caught(const struct control *control)
{
    struct sweep_case it = {.scenario = scenario_of(control->scenario),
                            .class = control->class,
                            .mode = control->mode,
                            .end = control->end,
                            .seed = wish.seed};
    bool caught = false, hit;
    case_prepare(it.scenario);
    control_active = control->name;
    for (it.n = 1; it.n <= control->upto && !caught; it.n++) {
        caught = !case_run(&it, &hit) && strstr(ledger->violation, control->verdict);
        atomic_fetch_add(&tally->faults, hit);
        atomic_fetch_add(&tally->cases, 1);
    }
    printf("control %-18s %s: %s\n", control->name, caught ? "caught" : "NOT CAUGHT",
           caught ? ledger->violation : control->what);
    control_active = NULL;
    return caught;
}

static unsigned run_controls(void)
{
    char path[300];
    unsigned missed = 0;
    case_base(path, sizeof path);
    for (size_t i = 0; i < control_count; i++) {
        if (wanted(wish.control, controls[i].name))
            missed += !is_caught(&controls[i]);
    }
    case_base_remove();
    return missed;
}

/* ----------------------------------------------------------------------------------------------------------- options
 */

static void list_all(void)
{
    printf("scenarios\n");
    for (size_t i = 0; i < scenario_count; i++)
        printf("  %-18s %s\n", scenarios[i].name, scenarios[i].what);
    printf("classes of calls, and how they fail\n");
    for (int i = 0; i < FAULT_CLASS_COUNT; i++)
        printf("  %-18s %s\n", fault_class_name(i), fault_class_what(i));
    printf("modes: once (call n), from (call n and all after it), random (each call with chance 1/n)\n"
           "ends of a run: close, exit (without closing), power (loss of power: what was not flushed is "
           "gone)\ncontrols\n");
    for (size_t i = 0; i < control_count; i++)
        printf("  %-18s %s\n", controls[i].name, controls[i].what);
}

static int usage(void)
{
    fprintf(stderr,
            "usage: sweep [--scenario S] [--class C] [--mode once|from|random] [--n N] [--end close|exit|power]\n"
            "             [--seed S] [--seeds RANDOM_RUNS] [--every K] [--seconds S] [--jobs J] [--watchdog S]\n"
            "             [--controls] [--control NAME] [--verbose] [--list]\n");
    return 2;
}

static const struct option long_options[] = {
    {"scenario", 1, 0, 's'}, {"class", 1, 0, 'c'},   {"mode", 1, 0, 'm'},     {"n", 1, 0, 'n'},
    {"end", 1, 0, 'e'},      {"seed", 1, 0, 'S'},    {"seeds", 1, 0, 'R'},    {"every", 1, 0, 'k'},
    {"seconds", 1, 0, 't'},  {"jobs", 1, 0, 'j'},    {"watchdog", 1, 0, 'w'}, {"controls", 0, 0, 'C'},
    {"control", 1, 0, 'o'},  {"verbose", 0, 0, 'v'}, {"list", 0, 0, 'l'},     {0},
};

static uint32_t number(const char *text)
{
    return (uint32_t)strtoul(text, NULL, 0);
}

/* 0: go on; else the exit status and 1. */
static int take_option(int option)
{
    switch (option) {
    case 's':
        wish.scenario = optarg;
        return 0;
    case 'c':
        wish.class = optarg;
        return 0;
    case 'm':
        wish.mode = optarg;
        return 0;
    case 'n':
        wish.n = number(optarg);
        return 0;
    case 'e':
        wish.end = optarg;
        return 0;
    case 'S':
        wish.seed = strtoull(optarg, NULL, 0);
        return 0;
    case 'R':
        wish.seeds = number(optarg);
        return 0;
    case 'k':
        wish.every = number(optarg) ? number(optarg) : 1;
        return 0;
    case 't':
        wish.seconds = number(optarg);
        return 0;
    case 'j':
        wish.jobs = number(optarg) && number(optarg) <= JOBS_MAX ? number(optarg) : 1;
        return 0;
    case 'w':
        watchdog_s = number(optarg);
        return 0;
    case 'C':
        wish.controls = true;
        return 0;
    case 'o':
        wish.controls = true;
        wish.control = optarg;
        return 0;
    case 'v':
        sweep_verbose = true;
        return 0;
    case 'l':
        list_all();
        return 1;
    default:
        return usage() + 1;
    }
}

int main(int argc, char **argv)
{
    for (int option; (option = getopt_long(argc, argv, "", long_options, NULL)) >= 0;) {
        int status = take_option(option);
        if (status)
            return status - 1;
    }
    tally = mmap(NULL, sizeof *tally, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (tally == MAP_FAILED)
        return 3;
    printf("seed %llu\n", (unsigned long long)wish.seed);
    unsigned missed = 0;
    if (wish.controls)
        missed = run_controls();
    else
        sweep_all();
    printf("%llu cases, %llu with faults, %llu violation(s)\n", (unsigned long long)tally->cases,
           (unsigned long long)tally->faults, (unsigned long long)tally->violations);
    if (wish.controls)
        printf("RESULT %zu %u\n", (wish.control ? 1 : control_count) - missed, missed);
    return missed || tally->violations ? 1 : 0;
}
