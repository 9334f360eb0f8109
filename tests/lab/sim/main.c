/* main.c - the command line: many seeds, one seed again, a failing one made smaller.
 *
 *   sim [--seed N] [--runs K] [--seconds S] [--faults-min M] [--trace] [--shrink] [--control NAME] [--twice] [--all]
 *
 * Runs seeds N, N + 1, … until K are done, S seconds are over and M faults were injected, or one fails (--all: counts
 * them). Runs happen in a child, so that a crash of the code under test is a finding like any other. Ends with 0:
 * nothing found, 1: something, 2: wrong use. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "world.h"

enum { CPU_LIMIT_S = 60, RULES_MAX = 32, SEEDS_SHOWN = 6 };

struct options {
    uint64_t seed, runs, seconds, faults_min;
    enum control control;
    bool trace, shrink, twice, all;
};

struct found {
    char rule[32], message[512];
    uint64_t count, seeds[SEEDS_SHOWN];
};

/* What child and parent both see. */
static struct shared {
    uint64_t seed; /* the one that runs */
    bool done;
    struct run_result last;
    uint64_t runs, failed, faults[FAULTS], steps, events, deliveries, virtual_s;
    struct found found[RULES_MAX];
} * shared;

static struct options options = {.seed = 1, .runs = 1};

/* ---------------------------------------------------------------------------------------------------------- counting
 */

static void note_found(uint64_t seed, const char *rule, const char *message)
{
    struct found *f = shared->found;
    while (f->count > 0 && strcmp(f->rule, rule) != 0 && f < shared->found + RULES_MAX - 1)
        f++;
    if (f->count == 0) {
        snprintf(f->rule, sizeof f->rule, "%s", rule);
        snprintf(f->message, sizeof f->message, "%s", message);
    }
    if (f->count < SEEDS_SHOWN)
        f->seeds[f->count] = seed;
    f->count++;
    shared->failed++;
}

static void add_up(const struct run_result *r)
{
    shared->runs++;
    shared->steps += r->steps;
    shared->events += r->events;
    shared->deliveries += r->deliveries;
    shared->virtual_s += r->virtual_ns / SEC;
    for (int i = 0; i < FAULTS; i++)
        shared->faults[i] += r->faults[i];
}

static uint64_t all_faults(void)
{
    uint64_t n = 0;
    for (int i = 0; i < FAULTS; i++)
        n += shared->faults[i];
    return n;
}

/* ------------------------------------------------------------------------------------------------------- in a child */

static void on_limit(int signal_number)
{
    static const char text[] = "sim: a run takes more than a minute of processor time\n";
    (void)signal_number;
    ssize_t ignored = write(2, text, sizeof text - 1);
    (void)ignored;
    _exit(3);
}

static void limit_time(void)
{
    const struct itimerval limit = {.it_value = {.tv_sec = CPU_LIMIT_S}};
    setitimer(ITIMER_PROF, &limit, NULL);
}

static void one_seed(uint64_t seed)
{
    const struct run_options run = {.seed = seed, .control = options.control, .trace = options.trace};
    struct run_result result, again;
    shared->seed = seed;
    limit_time();
    run_one(&run, &result);
    if (options.twice && !result.failed) {
        run_one(&run, &again);
        if (again.hash != result.hash || again.steps != result.steps) {
            result.failed = true;
            snprintf(result.rule, sizeof result.rule, "determinism");
            snprintf(result.message, sizeof result.message, "two runs of one seed differ: %llx and %llx",
                     (unsigned long long)result.hash, (unsigned long long)again.hash);
        }
    }
    shared->last = result;
    add_up(&result);
    if (result.failed)
        note_found(seed, result.rule, result.message);
}

static time_t ends_at;

static bool goes_on(void)
{
    if (shared->failed > 0 && !options.all)
        return false;
    return shared->runs < options.runs || time(NULL) < ends_at || all_faults() < options.faults_min;
}

static void child_runs(uint64_t seed)
{
    signal(SIGPROF, on_limit);
    while (goes_on())
        one_seed(seed++);
    shared->done = true;
}

/* ------------------------------------------------------------------------------------------------------ in the parent
 */

static int wait_for(pid_t child)
{
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
}

static void describe_death(int status, char *text, size_t size)
{
    if (WIFSIGNALED(status))
        snprintf(text, size, "died of signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        snprintf(text, size, "%s", WEXITSTATUS(status) == 3 ? "does not come to an end" : "the run exited");
}

/* Seed after seed; a child that died is followed by another. */
static void run_seeds(void)
{
    ends_at = time(NULL) + (time_t)options.seconds;
    shared->seed = options.seed - 1;
    while (!shared->done) {
        fflush(stdout);
        pid_t child = fork();
        if (child < 0) {
            perror("sim: fork");
            exit(2);
        }
        if (child == 0) {
            child_runs(shared->seed + 1);
            fflush(stdout);
            _exit(0);
        }
        int status = wait_for(child);
        if (shared->done)
            return;
        char text[128];
        describe_death(status, text, sizeof text);
        shared->runs++;
        note_found(shared->seed, "crash", text);
        shared->done = !goes_on();
    }
}

/* ---------------------------------------------------------------------------------------------------------- shrinking
 */

/* Does the seed still fail by that rule when these events are left out? */
static bool still_fails(uint64_t seed, const bool *skip, const char *rule)
{
    memset(&shared->last, 0, sizeof shared->last);
    pid_t child = fork();
    if (child == 0) {
        const struct run_options run = {.seed = seed, .control = options.control, .skip = skip};
        signal(SIGPROF, on_limit);
        limit_time();
        run_one(&run, &shared->last);
        _exit(0);
    }
    int status = child < 0 ? 0 : wait_for(child);
    if (status != 0)
        return strcmp(rule, "crash") == 0;
    return shared->last.failed && strcmp(shared->last.rule, rule) == 0;
}

/* Leaves out the events [from, from + length) of the plan too, if it still fails then. */
static bool leave_out(uint64_t seed, const char *rule, bool *skip, size_t from, size_t length, size_t *tried)
{
    bool before[PLAN_MAX];
    memcpy(before, skip, sizeof before);
    for (size_t i = from; i < from + length && i < PLAN_MAX; i++)
        skip[i] = true;
    if (memcmp(before, skip, sizeof before) == 0)
        return false;
    ++*tried;
    if (still_fails(seed, skip, rule))
        return true;
    memcpy(skip, before, sizeof before);
    return false;
}

/* Runs of events, long ones first; single ones until none can be spared. */
static void shrink(uint64_t seed, const char *rule)
{
    bool skip[PLAN_MAX] = {false};
    size_t tried = 0;
    for (size_t length = PLAN_MAX / 2; length > 0;) {
        bool fewer = false;
        for (size_t from = 0; from < PLAN_MAX; from += length)
            fewer |= leave_out(seed, rule, skip, from, length, &tried);
        if (!fewer || length > 1)
            length /= 2;
    }
    printf("seed %llu shrunk in %zu runs; it still breaks %s with these events:\n", (unsigned long long)seed, tried,
           rule);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        const struct run_options run = {.seed = seed, .control = options.control, .skip = skip, .trace = true};
        run_one(&run, &shared->last);
        fflush(stdout);
        _exit(0);
    }
    if (child > 0)
        wait_for(child);
}

/* ---------------------------------------------------------------------------------------------------------- reporting
 */

static void print_found(void)
{
    for (const struct found *f = shared->found; f < shared->found + RULES_MAX && f->count > 0; f++) {
        printf("VIOLATION of %s, %llu times: %s\n  seeds", f->rule, (unsigned long long)f->count, f->message);
        for (uint64_t i = 0; i < f->count && i < SEEDS_SHOWN; i++)
            printf(" %llu", (unsigned long long)f->seeds[i]);
        printf("   (again: sim --seed %llu --trace%s%s)\n", (unsigned long long)f->seeds[0],
               options.control ? " --control " : "", options.control ? control_name(options.control) : "");
    }
}

static void print_counts(void)
{
    printf("%llu seeds from %llu: %llu events, %llu deliveries, %.1f simulated days, %llu steps, %llu faults\n",
           (unsigned long long)shared->runs, (unsigned long long)options.seed, (unsigned long long)shared->events,
           (unsigned long long)shared->deliveries, (double)shared->virtual_s / 86400, (unsigned long long)shared->steps,
           (unsigned long long)all_faults());
    for (int i = 0; i < FAULTS; i++)
        if (shared->faults[i] > 0)
            printf("  %10llu %s\n", (unsigned long long)shared->faults[i], fault_text((enum fault)i));
}

static int usage(void)
{
    fprintf(stderr,
            "usage: sim [--seed N] [--runs K] [--seconds S] [--faults-min M] [--trace] [--shrink] [--twice] [--all]\n"
            "           [--control NAME]   one of:\n");
    for (int i = 1; i < CONTROLS; i++)
        fprintf(stderr, "  %-16s %s\n", control_name((enum control)i), control_what((enum control)i));
    return 2;
}

static bool take_control(const char *name)
{
    for (int i = 0; i < CONTROLS; i++) {
        if (strcmp(name, control_name((enum control)i)) == 0) {
            options.control = (enum control)i;
            return true;
        }
    }
    return false;
}

static bool take_options(int argc, char **argv)
{
    static const struct option known[] = {
        {"seed", required_argument, NULL, 's'},    {"runs", required_argument, NULL, 'r'},
        {"seconds", required_argument, NULL, 't'}, {"faults-min", required_argument, NULL, 'f'},
        {"control", required_argument, NULL, 'c'}, {"trace", no_argument, NULL, 'T'},
        {"shrink", no_argument, NULL, 'S'},        {"twice", no_argument, NULL, '2'},
        {"all", no_argument, NULL, 'a'},           {NULL, 0, NULL, 0}};
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        uint64_t number = optarg ? strtoull(optarg, NULL, 10) : 0;
        switch (c) {
        case 's':
            options.seed = number;
            break;
        case 'r':
            options.runs = number;
            break;
        case 't':
            options.seconds = number;
            break;
        case 'f':
            options.faults_min = number;
            break;
        case 'c':
            if (!take_control(optarg))
                return false;
            break;
        case 'T':
            options.trace = true;
            break;
        case 'S':
            options.shrink = true;
            break;
        case '2':
            options.twice = true;
            break;
        case 'a':
            options.all = true;
            break;
        default:
            return false;
        }
    }
    return optind == argc;
}

int main(int argc, char **argv)
{
    if (!take_options(argc, argv))
        return usage();
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        perror("sim: memory");
        return 2;
    }
    run_seeds();
    print_counts();
    print_found();
    if (options.shrink && shared->failed > 0)
        shrink(shared->found[0].seeds[0], shared->found[0].rule);
    return shared->failed > 0 ? 1 : 0;
}
