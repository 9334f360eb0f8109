/* torture.c - spool torture: its options, its directory, which part comes when, and the end.
 *
 * First what the directory lies on is looked at; then rounds follow until the time is over, one of each kind before any
 * comes again. An interrupt ends the round at once; workers are killed by their ids, and die with us in any case. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "torture.h"

enum { MIB = 20, DEFAULT_MIB = 256, LEAST_MIB = 128, DEFAULT_SECONDS = 60, NS_PER_MS = 1000000 };

struct torture_args {
    struct opt_number minutes, seconds, seed, max_size;
    bool json, keep, prepare, verify;
};

#define OPT(...) OPT_ENTRY(struct torture_args, __VA_ARGS__)
static const struct opt torture_options[] = {
    OPT('m', "minutes", OPT_COUNT, minutes, "N", "how long (default: 1)"),
    OPT('s', "seconds", OPT_COUNT, seconds, "N", "likewise, in seconds"),
    OPT(0, "seed", OPT_COUNT, seed, "N", "do what a run with that seed did"),
    OPT(0, "max-size", OPT_COUNT, max_size, "MIB", "disk that it may take at a time (default: 256, at least 128)"),
    OPT(0, "keep", OPT_FLAG, keep, NULL, "leave the directory when all went well, too"),
    OPT(0, "json", OPT_FLAG, json, NULL, "report as one JSON object, as -o json"),
    OPT(0, "prepare-powercut", OPT_FLAG, prepare, NULL, "store events and print their ids, until the power is cut"),
    OPT(0, "verify-powercut", OPT_FLAG, verify, NULL, "after that: look for the ids on standard input"),
    {0},
};

/* ------------------------------------------------------------------------------------------------------ interruption
 */

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal)
{
    (void)signal;
    interrupted = 1;
}

static void watch_interrupts(void)
{
    struct sigaction action = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &action, NULL); /* these cannot fail */
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
}

bool torture_is_interrupted(void)
{
    return interrupted;
}

bool torture_is_over(const struct torture *torture)
{
    return interrupted || now_steady_ns() >= torture->deadline_ns;
}

/* ------------------------------------------------------------------------------------------------- what rounds ask for
 */

/* splitmix64 (Steele, Lea, Flood 2014). */
uint64_t torture_random(struct torture *torture)
{
    uint64_t z = torture->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

uint64_t torture_between(struct torture *torture, uint64_t least, uint64_t most)
{
    return least + torture_random(torture) % (most - least + 1);
}

void torture_trouble(struct torture *torture, const char *format, ...)
{
    if (torture->trouble_count == TORTURE_TROUBLES_MAX) {
        torture->more_troubles++;
        return;
    }
    char *text = NULL;
    va_list list;
    va_start(list, format);
    int size = vasprintf(&text, format, list);
    va_end(list);
    torture->troubles[torture->trouble_count++] = size < 0 ? tool_format("something went wrong") : text;
}

void torture_note_progress(struct torture *torture, const char *what)
{
    char left[UNITS_SIZE];
    uint64_t now = now_steady_ns(), end = torture->deadline_ns;
    if (torture->progress.on)
        progress_line(&torture->progress, "torture: round %" PRIu64 " (%s), %s left, %zu trouble(s)", torture->round,
                      what, units_span(end > now ? end - now : 0, left), torture->trouble_count);
}

/* ------------------------------------------------------------------------------------------------------ our directory
 */

static void make_name(char ret[17])
{
    uint64_t random = 0;
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
        random = now_wall_ns() ^ (uint64_t)getpid() << 40;
    snprintf(ret, 17, "%016" PRIx64, random);
}

static int check_parent(const struct tool *tool, const char *parent, uint64_t max_bytes)
{
    struct stat st;
    struct statvfs room;
    if (stat(parent, &st) || !S_ISDIR(st.st_mode))
        return say_usage(tool, "%s: %s", parent, errno ? strerror(errno) : "not a directory");
    if (strlen(parent) >= PATH_MAX)
        return say_usage(tool, "the name of the directory is too long");
    if (!statvfs(parent, &room) && (uint64_t)room.f_bavail * room.f_frsize < max_bytes) {
        say(tool, "%s has less than %" PRIu64 " MiB free: give it room, or a smaller --max-size", parent,
            max_bytes >> MIB);
        return TOOL_FAILED;
    }
    return TOOL_DONE;
}

/* Fails if it is there already: nothing but what we made is ever touched. */
static int make_dir(struct torture *torture, const char *parent)
{
    char name[17];
    make_name(name);
    snprintf(torture->dir, sizeof torture->dir, "%s/torture-%s", parent, name);
    if (!mkdir(torture->dir, 0700))
        return TOOL_DONE;
    say(torture->tool, "%s: %s", torture->dir, strerror(errno));
    return TOOL_FAILED;
}

/* ------------------------------------------------------------------------------------------------------------ the run
 */

static int read_args(const struct tool *tool, const struct torture_args *args, struct torture *torture)
{
    uint64_t max_mib = args->max_size.given ? args->max_size.value : DEFAULT_MIB, seconds = DEFAULT_SECONDS;
    if (args->minutes.given && args->seconds.given)
        return say_usage(tool, "--minutes or --seconds, not both");
    if (args->prepare && args->verify)
        return say_usage(tool, "--prepare-powercut comes first, --verify-powercut after the power cut");
    if (max_mib < LEAST_MIB || max_mib > 1 << 20)
        return say_usage(tool, "--max-size: from %d MiB to 1 TiB", LEAST_MIB);
    seconds = args->seconds.given ? args->seconds.value : args->minutes.given ? args->minutes.value * 60 : seconds;
    if (!seconds || seconds > 366ull * 24 * 3600)
        return say_usage(tool, "how long? At least a second, at most a year");
    torture->tool = tool;
    torture->max_bytes = max_mib << MIB;
    torture->seed = args->seed.given ? args->seed.value : now_wall_ns() % 1000000000;
    torture->random = torture->seed;
    torture->start_ns = now_steady_ns();
    torture->deadline_ns = torture->start_ns + seconds * 1000 * NS_PER_MS;
    return TOOL_DONE;
}

static void look_at_ground(struct torture *torture)
{
    enum { FLUSH_MS = 1000 };
    torture_note_progress(torture, "the disk");
    if (!ground_describe(torture->dir, &torture->ground))
        torture_trouble(torture, "what %s lies on cannot be found out: %s", torture->dir, strerror(errno));
    if (!ground_measure_flush(torture->dir, FLUSH_MS, &torture->ground))
        torture_trouble(torture, "a file cannot be written and flushed: %s", strerror(errno));
    probe_all(torture);
}

/* One of each kind, and then mostly kills. */
static enum round_kind next_kind(struct torture *torture)
{
    if (torture->round < ROUND_KINDS)
        return (enum round_kind)torture->round;
    uint64_t random = torture_between(torture, 0, 2 * ROUND_KINDS - 1);
    return random < ROUND_KINDS ? (enum round_kind)random : ROUND_KILL;
}

static int conclude(struct torture *torture, const struct torture_args *args)
{
    bool bad = torture->trouble_count > 0;
    progress_clear(&torture->progress);
    if (!bad && !args->keep && !tree_remove(torture->dir))
        torture_trouble(torture, "%s cannot be removed: %s", torture->dir, strerror(errno));
    report_print(torture, args->json || tool_wants_json(torture->tool, false));
    if (!bad && args->keep)
        say(torture->tool, "kept: %s", torture->dir);
    for (size_t i = 0; i < torture->trouble_count; i++)
        free(torture->troubles[i]);
    return torture->trouble_count || interrupted ? TOOL_FAILED : TOOL_DONE;
}

static int torture_run(const struct tool *tool, void *user_args, const struct words *words)
{
    static struct torture torture;
    const struct torture_args *args = user_args;
    const char *parent = words->items[0];
    char name[17];
    int status = read_args(tool, args, &torture);
    if (!status)
        status = check_parent(tool, parent, args->verify ? 0 : torture.max_bytes);
    if (status)
        return status;
    watch_interrupts();
    make_name(name);
    if (args->prepare)
        return torture_prepare_powercut(tool, parent, name, torture.max_bytes,
                                        args->minutes.given || args->seconds.given ? torture.deadline_ns : UINT64_MAX);
    if (args->verify)
        return torture_verify_powercut(tool, parent);
    status = make_dir(&torture, parent);
    if (status)
        return status;
    progress_start(&torture.progress, true);
    look_at_ground(&torture);
    while (!torture_is_over(&torture))
        round_run(&torture, next_kind(&torture));
    return conclude(&torture, args);
}

const struct tool_verb torture_verb = {
    .name = "torture",
    .usage = "DIR [options]",
    .summary = "Try the promise out on a disk: kill, stop, fill, damage, and account for every event",
    .notes = "Works in a directory of its own, DIR/torture-..., which it removes when all went well.\n"
             "Exit status 1 if something acknowledged was lost, or anything else went wrong.\n\n"
             "Whether the disk keeps what it has flushed, only a power cut can tell:\n"
             "  spool torture DIR --prepare-powercut | ssh OTHER 'cat > list'     and cut the power;\n"
             "  ssh OTHER cat list | spool torture DIR --verify-powercut          when it is back.",
    .options = torture_options,
    .words_min = 1,
    .words_max = 1,
    .run = torture_run,
};
