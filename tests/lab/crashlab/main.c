/* main.c - crashlab: the command line of the crash-image explorer.
 *
 * crashlab [--seed N] [--seconds S] [--jobs N] [--scenario NAME | --control NAME | --controls | --selftest | --replay
 * SPEC]
 *          [--keep DIR] [--list]
 *
 * Without a choice: all scenarios; S is for all of them. Status 0: no violation (--control: it was caught), 1:
 * otherwise. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../memory.h"
#include "explore.h"

struct arguments {
    struct explore_options options;
    const char *scenario, *control, *replay;
    bool lists, all_controls, selftest;
};

static const char usage[] =
    "usage: crashlab [--seed N] [--seconds S] [--jobs N] [--keep DIR]\n"
    "                [--scenario NAME | --control NAME | --controls | --selftest | --replay SPEC | --list]\n";

static const struct option long_options[] = {
    {"seed", required_argument, NULL, 's'},
    {"seconds", required_argument, NULL, 't'},
    {"scenario", required_argument, NULL, 'n'},
    {"control", required_argument, NULL, 'c'},
    {"controls", no_argument, NULL, 'C'},
    {"list", no_argument, NULL, 'l'},
    {"replay", required_argument, NULL, 'r'},
    {"keep", required_argument, NULL, 'k'},
    {"jobs", required_argument, NULL, 'j'},
    {"selftest", no_argument, NULL, 'T'},
    {NULL, 0, NULL, 0},
};

static bool take_option(struct arguments *a, int option, const char *value)
{
    switch (option) {
    case 's':
        a->options.seed = strtoull(value, NULL, 0);
        return true;
    case 't':
        a->options.seconds = strtod(value, NULL);
        return a->options.seconds > 0;
    case 'j':
        a->options.jobs = (unsigned)strtoul(value, NULL, 10);
        return a->options.jobs > 0 && a->options.jobs <= 64;
    case 'n':
        a->scenario = value;
        return true;
    case 'c':
        a->control = value;
        return true;
    case 'r':
        a->replay = value;
        return true;
    case 'k':
        a->options.keep = value;
        return true;
    case 'C':
        return a->all_controls = true;
    case 'l':
        return a->lists = true;
    case 'T':
        return a->selftest = true;
    default:
        return false;
    }
}

static bool parse(struct arguments *a, int argc, char **argv)
{
    for (int option; (option = getopt_long(argc, argv, "", long_options, NULL)) != -1;)
        if (!take_option(a, option, optarg))
            return false;
    return optind == argc;
}

/* -------------------------------------------------------------------------------------------------------- scenarios */

static const struct lab_scenario *scenario_named(const char *name)
{
    for (size_t i = 0; lab_scenarios[i]; i++)
        if (strcmp(lab_scenarios[i]->name, name) == 0)
            return lab_scenarios[i];
    return NULL;
}

static const struct engine *engine_named(const char *name)
{
    static struct engine engine = {.oracle = lab_oracle, .recover = lab_recover};
    engine.scenario = scenario_named(name);
    return engine.scenario ? &engine : NULL;
}

static size_t scenario_count(void)
{
    size_t n = 0;
    while (lab_scenarios[n])
        n++;
    return n;
}

static void print_summary(const struct explore_shared *s, const char *name, double seconds)
{
    printf("%-20s %4llu runs %6llu operations %6llu crash points %7llu images (%llu/s) %6llu alike %4llu chains: "
           "%llu violations\n",
           name, (unsigned long long)s->recordings, (unsigned long long)s->records, (unsigned long long)s->points,
           (unsigned long long)s->images, (unsigned long long)((double)s->images / (seconds > 0 ? seconds : 1)),
           (unsigned long long)s->same, (unsigned long long)s->chains, (unsigned long long)s->violations);
    for (unsigned i = 0; i < s->shown && i < VIOLATIONS_SHOWN; i++)
        fputs(s->text[i], stdout);
    fflush(stdout);
}

/* 0: nothing found, 1: violations, 2: the laboratory failed. */
static int run_scenario(const struct lab_scenario *scenario, const struct explore_options *options)
{
    struct explore_shared *shared = explore_shared_new();
    if (!shared)
        return 2;
    uint64_t begin = now_ns();
    bool done = explore(engine_named(scenario->name), options, shared);
    if (done && shared->images == 0) {
        snprintf(shared->failure, sizeof shared->failure, "no image was judged");
        done = false;
    }
    if (!options->quiet)
        print_summary(shared, scenario->name, (double)(now_ns() - begin) / 1e9);
    if (!done && !(options->control && shared->violations))
        printf("%-20s FAILED: %s\n", scenario->name, shared->failure);
    int rc = shared->violations ? 1 : done ? 0 : 2;
    if (options->control && rc == 1)
        printf("  %.*s\n", (int)strcspn(shared->text[0], "\n"), shared->text[0]);
    explore_shared_free(shared);
    return rc;
}

static int run_scenarios(const struct arguments *a)
{
    struct explore_options options = a->options;
    unsigned passed = 0, failed = 0;
    size_t n = scenario_count();
    if (a->scenario && !scenario_named(a->scenario)) {
        fprintf(stderr, "crashlab: there is no scenario %s\n", a->scenario);
        return 2;
    }
    for (size_t i = 0; i < n && !explore_interrupted; i++) {
        if (a->scenario && strcmp(a->scenario, lab_scenarios[i]->name) != 0)
            continue;
        options.seconds = a->scenario ? a->options.seconds : a->options.seconds / (double)n;
        bool passes = run_scenario(lab_scenarios[i], &options) == 0;
        printf("check %s: %s\n", passes ? "passed" : "failed", lab_scenarios[i]->name);
        passed += passes;
        failed += !passes;
    }
    printf("%u scenarios without violation, %u with; seed %llu\n", passed, failed, (unsigned long long)options.seed);
    return failed || explore_interrupted ? 1 : 0;
}

/* --------------------------------------------------------------------------------------------------------- controls */

static size_t control_count(void)
{
    size_t n = 0;
    while (lab_controls[n].name)
        n++;
    return n;
}

/* A broken library may not even get through the recorded run: that is noticed, but is no proof of the oracle. */
static bool is_caught(const struct lab_control *control, const struct explore_options *options)
{
    struct explore_options own = *options;
    own.control = control->name;
    own.quiet = true;
    if (control->scenario && !scenario_named(control->scenario)) {
        printf("  its scenario %s does not exist\n", control->scenario);
        return false;
    }
    for (size_t i = 0; lab_scenarios[i]; i++)
        if ((!control->scenario || strcmp(control->scenario, lab_scenarios[i]->name) == 0) &&
            run_scenario(lab_scenarios[i], &own) == 1)
            return true;
    return false;
}

static int run_controls(const struct arguments *a)
{
    struct explore_options options = a->options;
    unsigned caught = 0, missed = 0;
    for (size_t i = 0; i < control_count() && !explore_interrupted; i++) {
        const struct lab_control *control = &lab_controls[i];
        if (a->control && strcmp(a->control, control->name) != 0)
            continue;
        uint64_t begin = now_ns();
        bool is = is_caught(control, &options);
        caught += is;
        missed += !is;
        printf("control %-30s %s (%s), %.1f s\n", control->name, is ? "caught" : "NOT CAUGHT", control->what,
               (double)(now_ns() - begin) / 1e9);
        printf("check %s: %s\n", is ? "passed" : "failed", control->name);
        fflush(stdout);
    }
    printf("%u controls caught, %u not; seed %llu\n", caught, missed, (unsigned long long)options.seed);
    return missed || !caught ? 1 : 0;
}

static int list(void)
{
    selftest_list();
    for (size_t i = 0; lab_scenarios[i]; i++)
        printf("scenario %-24s %s\n", lab_scenarios[i]->name, lab_scenarios[i]->what);
    for (size_t i = 0; lab_controls[i].name; i++)
        printf("control  %-24s %s (noticed by %s)\n", lab_controls[i].name, lab_controls[i].what,
               lab_controls[i].scenario ? lab_controls[i].scenario : "any");
    return 0;
}

static int run(const struct arguments *a)
{
    if (a->replay)
        return explore_replay(engine_named, a->replay, &a->options);
    if (a->selftest) {
        unsigned passed;
        int failed = selftest(&a->options, &passed);
        printf("self-test: %u as they should be, %d not\n", passed, failed);
        return failed ? 1 : 0;
    }
    return a->control || a->all_controls ? run_controls(a) : run_scenarios(a);
}

static void on_signal(int number)
{
    (void)number;
    explore_interrupted = 1;
}

int main(int argc, char **argv)
{
    struct arguments a = {.options = {.seed = 1, .seconds = 60, .jobs = 2}};
    char tmp[200];
    if (!parse(&a, argc, argv)) {
        fputs(usage, stderr);
        return 2;
    }
    if (a.lists)
        return list();
    snprintf(tmp, sizeof tmp, "%s/crashlab-XXXXXX", memory_dir());
    if (!mkdtemp(tmp) || (a.options.keep && mkdir(a.options.keep, 0755) != 0 && access(a.options.keep, W_OK) != 0)) {
        perror("crashlab");
        return 2;
    }
    a.options.tmp = tmp;
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    int rc = run(&a);
    remove_tree(tmp);
    return rc;
}
