/* bench.c - the library beside the plainest system calls that do the same, in one run.
 *
 *     bench [--dir DIR] [--rounds N] [--seconds S] [--json FILE] [--only WORD]
 *
 * All cases run one after the other, and that N times over (A B C A B C …, at least 3), so that a machine that drifts
 * does so for all of them; files are removed and the disk is synchronised in between. Medians over the rounds are
 * printed as Markdown, first the figures, then the targets: ratios within this run. The exit status does not depend on
 * them. */
#include <getopt.h>

#include "raw.h"
#include "spooled.h"

enum { ROUNDS_MAX = 64 };

struct bench_case {
    const char *key, *title;
    struct outcome (*run)(const struct context *context);
    bool has_rate, has_latency;
};

static const struct bench_case CASES[] = {
    {"raw_write", "raw: write(2), append", raw_write, true, false},
    {"process", "enqueue, process level", process_rate, true, false},
    {"null_sink", "enqueue to acknowledged `null` sink", null_rate, true, false},
    {"many", "enqueue_many, 64 a call", many_rate, true, false},
    {"raw_sync", "raw: pwrite + fdatasync, preallocated", raw_sync, true, false},
    {"power", "enqueue, power level", power_rate, true, false},
    {"raw_store", "raw: store into a mapping, not flushed, 250 k/s", raw_store_only, false, true},
    {"paced_unflushed", "enqueue, SPOOL_FLUSH_NEVER, 250 k/s", latency_paced_unflushed, false, true},
    {"flat_unflushed", "enqueue, SPOOL_FLUSH_NEVER, flat out", latency_flat_out_unflushed, true, true},
    {"raw_store_flushed", "raw: store into a mapping, flushed every 100 ms, 250 k/s", raw_store_flushed, false, true},
    {"paced", "enqueue, default flush, 250 k/s", latency_paced, false, true},
    {"flat", "enqueue, default flush, flat out", latency_flat_out, true, true},
};
enum { CASE_COUNT = sizeof CASES / sizeof *CASES };

static struct outcome outcomes[CASE_COUNT][ROUNDS_MAX];

/* What the figures are held against: one value of a case, by itself or as a ratio to another's. */
enum value { RATE, P50, P999 };
struct target {
    const char *title, *key, *against; /* NULL: by itself */
    enum value value;
    double limit;
    bool at_least;
};

static const struct target TARGETS[] = {
    {"power level / raw pwrite + fdatasync", "power", "raw_sync", RATE, 0.85, true},
    {"process level, sustained / raw write(2)", "process", "raw_write", RATE, 1.2, true},
    {"to acknowledged null sink / raw write(2)", "null_sink", "raw_write", RATE, 0.5, true},
    {"process level, median call, ns (250 k/s)", "paced", NULL, P50, 200, false},
    {"process level, median call, ns (flat out)", "flat", NULL, P50, 200, false},
    {"p99.9, default flush, ns (250 k/s)", "paced", NULL, P999, 50000, false},
    {"p99.9, default flush, ns (flat out)", "flat", NULL, P999, 50000, false},
    {"p99.9, never flushed, ns (250 k/s)", "paced_unflushed", NULL, P999, 5000, false},
    {"p99.9, never flushed, ns (flat out)", "flat_unflushed", NULL, P999, 5000, false},
};
enum { TARGET_COUNT = sizeof TARGETS / sizeof *TARGETS };

struct settings {
    struct context context;
    const char *json, *only;
    size_t rounds;
};

/* ------------------------------------------------------------------------------------------------------- figures */

static double value_of(const struct outcome *outcome, enum value value)
{
    return value == RATE ? outcome->per_second : value == P50 ? outcome->p50_ns : outcome->p999_ns;
}

/* The medians of a case, each value by itself. */
static struct outcome medians(size_t index, size_t rounds)
{
    double rate[ROUNDS_MAX], p50[ROUNDS_MAX], p99[ROUNDS_MAX], p999[ROUNDS_MAX];
    for (size_t i = 0; i < rounds; i++) {
        rate[i] = outcomes[index][i].per_second;
        p50[i] = outcomes[index][i].p50_ns;
        p99[i] = outcomes[index][i].p99_ns;
        p999[i] = outcomes[index][i].p999_ns;
    }
    return (struct outcome){median(rate, rounds), median(p50, rounds), median(p99, rounds), median(p999, rounds)};
}

static size_t case_index(const char *key)
{
    for (size_t i = 0; i < CASE_COUNT; i++)
        if (strcmp(CASES[i].key, key) == 0)
            return i;
    errx(1, "no case %s", key);
}

/* A ratio is the median of the rounds' ratios: its two sides ran beside each other. */
static double target_figure(const struct target *target, size_t rounds)
{
    double values[ROUNDS_MAX];
    size_t mine = case_index(target->key), other = target->against ? case_index(target->against) : mine;
    for (size_t i = 0; i < rounds; i++) {
        double value = value_of(&outcomes[mine][i], target->value), base = value_of(&outcomes[other][i], target->value);
        values[i] = !target->against ? value : base > 0 ? value / base : 0;
    }
    return median(values, rounds);
}

static bool target_is_met(const struct target *target, double figure)
{
    return target->at_least ? figure >= target->limit : figure < target->limit;
}

/* -------------------------------------------------------------------------------------------------------- output */

static void print_cell(bool has, double value, const char *format)
{
    printf(" | ");
    if (has)
        printf(format, value);
    else
        printf("-");
}

static void print_figures(size_t rounds)
{
    printf("| case (%d bytes) | a second | median ns | p99 ns | p99.9 ns |\n|---|---:|---:|---:|---:|\n", EVENT_BYTES);
    for (size_t i = 0; i < CASE_COUNT; i++) {
        struct outcome outcome = medians(i, rounds);
        printf("| %s", CASES[i].title);
        print_cell(CASES[i].has_rate, outcome.per_second, "%.0f");
        print_cell(CASES[i].has_latency, outcome.p50_ns, "%.0f");
        print_cell(CASES[i].has_latency, outcome.p99_ns, "%.0f");
        print_cell(CASES[i].has_latency, outcome.p999_ns, "%.0f");
        printf(" |\n");
    }
    printf("\nMedians of %zu rounds. A time stamp costs %.1f ns and is taken off the latencies.\n\n", rounds,
           (double)stamp_cost() / ticks_per_ns());
}

static void print_targets(size_t rounds)
{
    printf("| target | measured | wanted | |\n|---|---:|---:|---|\n");
    for (size_t i = 0; i < TARGET_COUNT; i++) {
        double figure = target_figure(&TARGETS[i], rounds);
        const char *format = TARGETS[i].against ? "| %s | %.2f | %s %.2f | %s |\n" : "| %s | %.0f | %s %.0f | %s |\n";
        printf(format, TARGETS[i].title, figure, TARGETS[i].at_least ? "at least" : "below", TARGETS[i].limit,
               target_is_met(&TARGETS[i], figure) ? "met" : "**not met**");
    }
}

static void write_json(const char *path, size_t rounds)
{
    FILE *file = fopen(path, "we");
    if (!file)
        err(1, "%s", path);
    fprintf(file, "{\"event_bytes\":%d,\"rounds\":%zu,\"cases\":{", EVENT_BYTES, rounds);
    for (size_t i = 0; i < CASE_COUNT; i++) {
        struct outcome outcome = medians(i, rounds);
        fprintf(file, "%s\n\"%s\":{", i ? "," : "", CASES[i].key);
        if (CASES[i].has_rate)
            fprintf(file, "\"per_second\":%.1f%s", outcome.per_second, CASES[i].has_latency ? "," : "");
        if (CASES[i].has_latency)
            fprintf(file, "\"p50_ns\":%.1f,\"p99_ns\":%.1f,\"p999_ns\":%.1f", outcome.p50_ns, outcome.p99_ns,
                    outcome.p999_ns);
        fprintf(file, "}");
    }
    fprintf(file, "},\n\"targets\":[");
    for (size_t i = 0; i < TARGET_COUNT; i++) {
        double figure = target_figure(&TARGETS[i], rounds);
        fprintf(file, "%s\n{\"target\":\"%s\",\"measured\":%.3f,\"%s\":%.3f,\"met\":%s}", i ? "," : "",
                TARGETS[i].title, figure, TARGETS[i].at_least ? "at_least" : "below", TARGETS[i].limit,
                target_is_met(&TARGETS[i], figure) ? "true" : "false");
    }
    fprintf(file, "]}\n");
    if (fclose(file) != 0)
        err(1, "%s", path);
}

/* ---------------------------------------------------------------------------------------------------------- run */

static struct settings settings_of(int argc, char **argv)
{
    static const struct option options[] = {
        {"dir", required_argument, NULL, 'd'},     {"rounds", required_argument, NULL, 'r'},
        {"seconds", required_argument, NULL, 's'}, {"json", required_argument, NULL, 'j'},
        {"only", required_argument, NULL, 'o'},    {0}};
    struct settings settings = {.context = {.dir = "build/bench/files", .seconds = 3}, .rounds = 3};
    for (int letter; (letter = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (letter) {
        case 'd':
            settings.context.dir = optarg;
            break;
        case 'r':
            settings.rounds = (size_t)strtoul(optarg, NULL, 10);
            break;
        case 's':
            settings.context.seconds = strtod(optarg, NULL);
            break;
        case 'j':
            settings.json = optarg;
            break;
        case 'o':
            settings.only = optarg;
            break;
        default:
            exit(2);
        }
    }
    if (settings.rounds < 1 || settings.rounds > ROUNDS_MAX || !(settings.context.seconds > 0))
        errx(2, "--rounds: 1 to %d; --seconds: more than 0", ROUNDS_MAX);
    return settings;
}

/* Files are removed between cases, so the directory must be new or empty: nobody's files are lost by a wrong --dir. */
static void prepare(const struct context *context)
{
    if (mkdir(context->dir, 0700) != 0 && errno != EEXIST)
        err(1, "%s", context->dir);
    if (rmdir(context->dir) != 0 || mkdir(context->dir, 0700) != 0)
        err(1, "%s: must be a new or an empty directory", context->dir);
}

/* On a terminal: which case of which round runs; with NULL, clears the line. */
static void progress(const struct settings *settings, size_t round, const char *title)
{
    if (!isatty(STDERR_FILENO))
        return;
    if (title)
        fprintf(stderr, "\rround %zu of %zu: %-60s", round + 1, settings->rounds, title);
    else
        fprintf(stderr, "\r%80s\r", "");
}

static void run_round(const struct settings *settings, size_t round)
{
    for (size_t i = 0; i < CASE_COUNT; i++) {
        if (settings->only && !strstr(CASES[i].key, settings->only))
            continue;
        progress(settings, round, CASES[i].title);
        clean(&settings->context);
        outcomes[i][round] = CASES[i].run(&settings->context);
    }
    clean(&settings->context);
}

int main(int argc, char **argv)
{
    struct settings settings = settings_of(argc, argv);
    prepare(&settings.context);
    for (size_t round = 0; round < settings.rounds; round++)
        run_round(&settings, round);
    progress(&settings, settings.rounds, NULL);
    rmdir(settings.context.dir);
    print_figures(settings.rounds);
    print_targets(settings.rounds);
    if (settings.json)
        write_json(settings.json, settings.rounds);
    return 0;
}
