/* bench.c - runs one case and prints its figures as a line of JSON. run.py decides which, in what order, and what of
 * it.
 *
 *     bench CASE --dir DIR [--seconds S] [--bytes N] [--producers N] [--rate R] [--count N] [--address A] [--input
 * FILE] bench --list            a line of JSON for every case: name, title, settings
 *
 * DIR is new or empty, so that no files are lost by a wrong one; what the case leaves in it is the caller's to remove.
 */
#include <ftw.h>
#include <getopt.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "../lib/spool.h"
#include "case.h"

static const struct bench_case *const tables[] = {
    raw_cases,    spool_cases, delivery_cases, archive_cases,  backlog_cases,    host_cases,  lmdb_cases,
    sqlite_cases, redis_cases, nats_cases,     postgres_cases, beanstalkd_cases, syslog_cases};
enum { TABLES = sizeof tables / sizeof *tables };

/* ------------------------------------------------------------------------------------------------------- figures */

void figure(struct outcome *outcome, const char *name, double value)
{
    if (outcome->n == FIGURES_MAX)
        errx(1, "too many figures");
    outcome->figures[outcome->n++] = (struct figure){name, value};
}

void figure_latency(struct outcome *outcome, const struct histogram *histogram)
{
    if (!histogram->count)
        return;
    figure(outcome, "p50_ns", histogram_ns(histogram, 0.5));
    figure(outcome, "p99_ns", histogram_ns(histogram, 0.99));
    figure(outcome, "p999_ns", histogram_ns(histogram, 0.999));
    figure(outcome, "p9999_ns", histogram_ns(histogram, 0.9999));
    figure(outcome, "max_ns", histogram_max_ns(histogram));
}

double figure_value(const struct outcome *outcome, const char *name)
{
    for (size_t i = 0; i < outcome->n; i++)
        if (strcmp(outcome->figures[i].name, name) == 0)
            return outcome->figures[i].value;
    return 0;
}

static void print_outcome(const struct outcome *outcome)
{
    for (size_t i = 0; i < outcome->n; i++)
        printf("%s\"%s\":%.9g", i ? "," : "{", outcome->figures[i].name, outcome->figures[i].value);
    printf("%s}\n", outcome->n ? "" : "{");
}

/* ----------------------------------------------------------------------------------------------- the room, its cost */

void ok(int code, const char *call)
{
    if (code != SPOOL_OK)
        errx(1, "%s: %s: %s", call, spool_error_name(code), spool_last_error());
}

void path_in(const struct context *context, const char *name, char ret[PATH_SIZE])
{
    if (snprintf(ret, PATH_SIZE, "%s/%s", context->dir, name) >= PATH_SIZE)
        errx(1, "%s: the path is too long", context->dir);
}

static double walked_bytes;
static const char *walked_part;

static int add_bytes(const char *path, const struct stat *st, int flag)
{
    if (flag == FTW_F && strstr(path, walked_part))
        walked_bytes += (double)st->st_blocks * 512;
    return 0;
}

double disk_bytes(const char *dir, const char *part)
{
    walked_bytes = 0;
    walked_part = part;
    if (ftw(dir, add_bytes, 16) != 0)
        err(1, "%s", dir);
    return walked_bytes;
}

static int drop_file(const char *path, const struct stat *st, int flag)
{
    (void)st;
    int fd = flag == FTW_F ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return 0;
    fsync(fd);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
    return 0;
}

void drop_caches(const char *dir)
{
    if (ftw(dir, drop_file, 16) != 0)
        err(1, "%s", dir);
}

double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

double status_bytes(const char *name)
{
    char line[256];
    double kib = 0;
    size_t size = strlen(name);
    FILE *file = fopen("/proc/self/status", "re");
    if (!file)
        err(1, "/proc/self/status");
    while (fgets(line, sizeof line, file))
        if (strncmp(line, name, size) == 0 && line[size] == ':')
            kib = strtod(line + size + 1, NULL);
    fclose(file);
    return kib * 1024;
}

/* --------------------------------------------------------------------------------------------------------- running */

static void list_cases(void)
{
    for (size_t t = 0; t < TABLES; t++)
        for (const struct bench_case *c = tables[t]; c->name; c++)
            printf("{\"name\":\"%s\",\"title\":\"%s\",\"settings\":\"%s\"}\n", c->name, c->title,
                   c->settings ? c->settings : "");
}

static const struct bench_case *find_case(const char *name)
{
    for (size_t t = 0; t < TABLES; t++)
        for (const struct bench_case *c = tables[t]; c->name; c++)
            if (strcmp(c->name, name) == 0)
                return c;
    errx(2, "no case %s; --list names them", name);
}

static void take_option(struct context *context, int letter)
{
    switch (letter) {
    case 'd':
        context->dir = optarg;
        break;
    case 's':
        context->seconds = strtod(optarg, NULL);
        break;
    case 'b':
        context->bytes = (size_t)strtoul(optarg, NULL, 10);
        break;
    case 'p':
        context->producers = (unsigned)strtoul(optarg, NULL, 10);
        break;
    case 'r':
        context->rate = strtod(optarg, NULL);
        break;
    case 'c':
        context->count = (uint64_t)strtod(optarg, NULL);
        break;
    case 'a':
        context->address = optarg;
        break;
    case 'i':
        context->input = optarg;
        break;
    default:
        exit(2);
    }
}

static void take_options(struct context *context, int argc, char **argv)
{
    static const struct option options[] = {
        {"dir", required_argument, NULL, 'd'},     {"seconds", required_argument, NULL, 's'},
        {"bytes", required_argument, NULL, 'b'},   {"producers", required_argument, NULL, 'p'},
        {"rate", required_argument, NULL, 'r'},    {"count", required_argument, NULL, 'c'},
        {"address", required_argument, NULL, 'a'}, {"input", required_argument, NULL, 'i'},
        {"list", no_argument, NULL, 'l'},          {0}};
    for (int letter; (letter = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (letter == 'l') {
            list_cases();
            exit(0);
        }
        take_option(context, letter);
    }
}

static void prepare(const struct context *context)
{
    if (!context->dir)
        errx(2, "--dir is missing");
    if (!(context->seconds > 0) || context->producers < 1 || context->producers > 1024)
        errx(2, "--seconds: more than 0; --producers: 1 to 1024");
    if (mkdir(context->dir, 0700) != 0 && errno != EEXIST)
        err(1, "%s", context->dir);
    if (rmdir(context->dir) != 0 || mkdir(context->dir, 0700) != 0)
        err(1, "%s: must be a new or an empty directory", context->dir);
}

int main(int argc, char **argv)
{
    struct context context = {.seconds = 1, .bytes = 256, .producers = 1, .count = 1};
    struct outcome outcome = {0};
    take_options(&context, argc, argv);
    if (optind + 1 != argc)
        errx(2, "name one case; --list names them");
    const struct bench_case *c = find_case(argv[optind]);
    prepare(&context);
    c->run(&context, &outcome);
    print_outcome(&outcome);
    return 0;
}
