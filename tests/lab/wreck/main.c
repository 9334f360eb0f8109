/* main.c - damages a spool directory in random ways, and uses it in a child process: it must not die, hang, take much
 * memory, lose or invent anything.
 *
 *     SECONDS=30 SEED=1 build/lab/wreck             controls, then cases until the time is over
 *     CASES=1000 SEED=1 build/lab/wreck             … or that many
 *     TEMPLATE=FILE SEED=1 build/lab/wreck --case N one case, in this process (for a debugger)
 *
 * Before the cases come the controls: the library or the case is broken on purpose, and that must be seen. A case that
 * fails leaves the template in $KEEP (default /tmp), which makes it repeatable: the bytes of the files depend on time
 * and chance. Ends with "RESULT passed failed". */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../memory.h"
#include "wreck.h"

enum { HANG_S = 60, MEMORY_MAX_KIB = 256 << 10, RECIPE_MAX = 128, FAILURES_MAX = 10 };

/* What is broken on purpose. */
enum mischief { NONE, NO_PAGECHECK, NO_CRC, HANGS, GROWS, LOSES };

static struct wreck_template template;
static char base[256], dir[300];
static uint64_t seed;

/* What a child leaves to its parent. */
struct report {
    struct wreck_damage damage;
    struct wreck_outcome outcome;
};
static struct report *report; /* shared memory */

/* -------------------------------------------------------------------------------------------------------- one case */

static uint64_t mix(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* One damage in half of the cases, up to four in others. */
static size_t make_recipe(uint64_t number, uint8_t ret[RECIPE_MAX])
{
    uint64_t state = seed * 1000003 + number;
    for (size_t i = 0; i < RECIPE_MAX; i++)
        ret[i] = (uint8_t)mix(&state);
    uint64_t steps = mix(&state) % 8;
    return steps < 4 ? 8 : (steps - 2) * 12;
}

static bool make_case(uint64_t number, struct wreck_damage *ret)
{
    uint8_t recipe[RECIPE_MAX];
    size_t size = make_recipe(number, recipe);
    if (!wreck_template_put(&template, dir))
        return false;
    wreck_damage(&template, dir, recipe, size, ret);
    return true;
}

static void take_memory(void)
{
    size_t size = (size_t)2 * MEMORY_MAX_KIB << 10;
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory != MAP_FAILED)
        memset(memory, 1, size);
}

/* A segment goes without having been touched, as far as the account knows. */
static void steal_segment(void)
{
    char path[512];
    for (size_t i = 0; i < template.count; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, template.files[i].name);
        if (strncmp(template.files[i].name, "segments/", 9) == 0 && unlink(path) == 0)
            return;
    }
}

static void do_mischief(enum mischief mischief)
{
    wreck_without_pagecheck = mischief == NO_PAGECHECK;
    wreck_without_crc = mischief == NO_CRC;
    if (mischief == GROWS)
        take_memory();
    if (mischief == LOSES) {
        wreck_template_put(&template, dir);
        memset(&report->damage, 0, sizeof report->damage);
        steal_segment();
    }
    while (mischief == HANGS)
        pause();
}

static void run_child(uint64_t number, enum mischief mischief)
{
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    if (!make_case(number, &report->damage))
        _exit(3);
    do_mischief(mischief);
    wreck_exercise(&template, &report->damage, dir, &report->outcome);
    fflush(NULL);
    _exit(0);
}

/* The other end of the pipe closes when the child has died. False: it has not by then. */
static bool wait_for_end(int pipe_end, unsigned seconds)
{
    struct pollfd poll_end = {.fd = pipe_end, .events = POLLIN};
    return poll(&poll_end, 1, (int)seconds * 1000) != 0;
}

static const char *judge(int status, long memory_kib, bool hung)
{
    static char text[700];
    const struct wreck_outcome *outcome = &report->outcome;
    if (hung)
        snprintf(text, sizeof text, "hangs in step \"%s\"", outcome->step);
    else if (WIFSIGNALED(status))
        snprintf(text, sizeof text, "died of %s in step \"%s\"", strsignal(WTERMSIG(status)), outcome->step);
    else if (WEXITSTATUS(status) || !outcome->finished)
        snprintf(text, sizeof text, "ended with status %d in step \"%s\"", WEXITSTATUS(status), outcome->step);
    else if (memory_kib > MEMORY_MAX_KIB)
        snprintf(text, sizeof text, "took %ld MiB of memory", memory_kib >> 10);
    else if (outcome->complaint[0])
        snprintf(text, sizeof text, "%s", outcome->complaint);
    else
        return NULL;
    return text;
}

/* Runs the case in a child. NULL, or what went wrong. */
static const char *run_case(uint64_t number, enum mischief mischief, unsigned hang_s, long *ret_memory_kib)
{
    int ends[2], status;
    struct rusage usage;
    memset(report, 0, sizeof *report);
    if (pipe2(ends, O_CLOEXEC))
        return "no pipe";
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        run_child(number, mischief);
    }
    close(ends[1]);
    bool hung = pid > 0 && !wait_for_end(ends[0], hang_s);
    if (hung)
        kill(pid, SIGKILL);
    close(ends[0]);
    if (pid < 0 || wait4(pid, &status, 0, &usage) != pid)
        return "no child";
    *ret_memory_kib = usage.ru_maxrss;
    return judge(status, usage.ru_maxrss, hung);
}

/* -------------------------------------------------------------------------------------------------------- controls */

static const struct control {
    enum mischief mischief;
    const char *name;
    unsigned cases; /* within which it must be seen */
    const char *seen_by;
} controls[] = {
    {NO_PAGECHECK, "pages are mapped unchecked", 400, "died of"},
    {HANGS, "it hangs", 1, "hangs"},
    {GROWS, "it takes much memory", 1, "memory"},
    {LOSES, "a segment is lost", 1, "lost although"},
    {NO_CRC, "checksums always match", 400, "nobody enqueued"},
};

static bool make_template(void)
{
    const char *file = getenv("TEMPLATE");
    if (file && !wreck_without_crc) {
        if (wreck_template_load(file, &template))
            return true;
        printf("cannot load %s\n", file);
        return false;
    }
    const char *problem = wreck_template_make(base, &template);
    if (problem)
        printf("cannot make the template: %s\n", problem);
    return !problem;
}

static bool run_control(const struct control *control)
{
    long memory_kib;
    wreck_without_crc = control->mischief == NO_CRC; /* then the template has none either */
    if (control->mischief == NO_CRC && !make_template())
        return false;
    for (unsigned i = 0; i < control->cases; i++) {
        const char *why = run_case(i, control->mischief, control->mischief == HANGS ? 1 : HANG_S, &memory_kib);
        if (why && strstr(why, control->seen_by)) {
            printf("control \"%s\": seen in case %u: %s\n", control->name, i, why);
            return true;
        }
    }
    printf("control \"%s\": NOT seen in %u cases\n", control->name, control->cases);
    return false;
}

/* ----------------------------------------------------------------------------------------------------------- cases */

struct tally {
    uint64_t cases, damages, refused, with_notice, with_finding;
    long memory_kib;
    unsigned failures;
};

static void print_failure(uint64_t number, const char *why, unsigned failures)
{
    char path[300];
    const char *keep = getenv("KEEP");
    snprintf(path, sizeof path, "%s/wreck-template-%llu", keep ? keep : "/tmp", (unsigned long long)seed);
    printf("FAILED case %llu (%s): %s\n", (unsigned long long)number, report->damage.told, why);
    if (failures == 1 && !getenv("TEMPLATE") && !wreck_template_save(&template, path))
        printf("cannot keep the template in %s\n", path);
    printf("  repeat: TEMPLATE=%s SEED=%llu build/lab/wreck --case %llu\n",
           getenv("TEMPLATE") ? getenv("TEMPLATE") : path, (unsigned long long)seed, (unsigned long long)number);
}

static void count_case(struct tally *tally, uint64_t number, const char *why, long memory_kib)
{
    tally->cases++;
    tally->damages += report->damage.count;
    tally->refused += report->outcome.open_code != 0;
    tally->with_notice += report->outcome.notices > 0;
    tally->with_finding += report->outcome.findings > 0;
    if (memory_kib > tally->memory_kib)
        tally->memory_kib = memory_kib;
    if (why)
        print_failure(number, why, ++tally->failures);
}

static uint64_t number_from(const char *name, uint64_t fallback)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 0) : fallback;
}

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static struct tally run_cases(void)
{
    struct tally tally = {0};
    uint64_t cases = number_from("CASES", UINT64_MAX), first = number_from("FIRST", 0);
    double end = now_s() + (double)number_from("SECONDS", getenv("CASES") ? 1000000 : 30);
    while (tally.cases < cases && tally.failures < FAILURES_MAX && now_s() < end) {
        long memory_kib = 0;
        uint64_t number = first + tally.cases;
        const char *why = run_case(number, NONE, HANG_S, &memory_kib);
        count_case(&tally, number, why, memory_kib);
    }
    printf("%llu cases, %llu damages: %llu refused to open, %llu reported damage, %llu had findings; at most %ld MiB\n",
           (unsigned long long)tally.cases, (unsigned long long)tally.damages, (unsigned long long)tally.refused,
           (unsigned long long)tally.with_notice, (unsigned long long)tally.with_finding, tally.memory_kib >> 10);
    return tally;
}

/* ------------------------------------------------------------------------------------------------------------ main */

static void run_here(uint64_t number)
{
    if (!make_case(number, &report->damage))
        return;
    printf("case %llu in %s: %s\n", (unsigned long long)number, dir, report->damage.told);
    fflush(stdout);
    if (getenv("ONLY_DAMAGE"))
        exit(0);
    wreck_exercise(&template, &report->damage, dir, &report->outcome);
    printf("opens: %d, %u notices, %u findings, %u delivered to held; %s\n", report->outcome.open_code,
           report->outcome.notices, report->outcome.findings, report->outcome.delivered,
           report->outcome.complaint[0] ? report->outcome.complaint : "no complaint");
}

static bool set_up(void)
{
    snprintf(base, sizeof base, "%s/wreck-XXXXXX", memory_dir());
    report = mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (report == MAP_FAILED || !mkdtemp(base))
        return false;
    snprintf(dir, sizeof dir, "%s/spool", base);
    seed = number_from("SEED", (uint64_t)time(NULL));
    signal(SIGPIPE, SIG_IGN);
    printf("seed %llu\n", (unsigned long long)seed);
    return true;
}

static unsigned run_all(unsigned *ret_passed)
{
    unsigned failed = 0;
    *ret_passed = 0;
    for (size_t i = 0; i < sizeof controls / sizeof *controls; i++) {
        bool good = run_control(&controls[i]);
        *ret_passed += good;
        failed += !good;
    }
    wreck_without_crc = false;
    struct tally tally = {0};
    if (make_template())
        tally = run_cases();
    bool good = tally.cases > 0 && !tally.failures;
    *ret_passed += good;
    return failed + !good;
}

int main(int argc, char **argv)
{
    unsigned failed = 1, passed = 0;
    if (!set_up()) {
        printf("no directory for it: %s\n", strerror(errno));
        return 1;
    }
    if (argc == 3 && strcmp(argv[1], "--case") == 0 && make_template()) {
        run_here(strtoull(argv[2], NULL, 0));
        failed = report->outcome.complaint[0] != 0;
    } else if (argc == 1 && make_template()) {
        failed = run_all(&passed);
        printf("RESULT %u %u\n", passed, failed);
    }
    wreck_remove_tree(base);
    return failed ? 1 : 0;
}
