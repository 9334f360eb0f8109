/* status.c - spool status and sinks: what somebody wants to know at three in the morning.
 *
 * First what is wrong and what to do about it, then the spool, then its sinks. */
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "status.h"

enum { WATCH_MS = 2000 };

struct status_args {
    bool watch, check;
};

static const struct opt status_options[] = {
    OPT_ENTRY(struct status_args, 'w', "watch", OPT_FLAG, watch, NULL, "again every SECONDS (default: 2) until Ctrl-C"),
    OPT_ENTRY(struct status_args, 0, "check", OPT_FLAG, check, NULL, "exit status 1 if anything asks for action"),
    {0},
};

/* --------------------------------------------------------------------------------------------------- for people */

static void print_waiting(const struct status *status)
{
    char count[UNITS_SIZE], age[UNITS_SIZE], time[UNITS_SIZE];
    uint64_t waiting = waiting_events(status), oldest = oldest_ns(status);
    printf("waiting   %s event%s", units_count(waiting, count), plural(waiting));
    if (oldest)
        printf(", the oldest for %s (%s)", units_age(oldest, age), units_time(oldest, 0, time));
    putchar('\n');
}

static void print_spool(const struct status *status)
{
    const struct spool_stats *stats = &status->stats;
    char a[UNITS_SIZE], b[UNITS_SIZE], c[UNITS_SIZE];
    fputs("spool     ", stdout);
    text_print(stdout, status->tool->dir, strlen(status->tool->dir), SIZE_MAX);
    putchar('\n');
    print_waiting(status);
    printf("stored    %s event%s in %s segment%s, %" PRIu64 " journal%s\n", units_count(stats->stored_events, a),
           plural(stats->stored_events), units_count(stats->segments, b), plural(stats->segments), stats->journals,
           plural(stats->journals));
    printf("disk      %s of %s (%" PRIu64 " %%)%s\n", units_bytes(stats->used_bytes, a),
           units_bytes(stats->max_bytes, b), stats->max_bytes ? stats->used_bytes / (stats->max_bytes / 100 + 1) : 0,
           stats->disk_full ? ", DISK FULL" : "");
    printf("dead      %s letter%s\n", units_count(stats->dead_letters, a), plural(stats->dead_letters));
    printf("dropped   %s event%s by a limit\n", units_count(stats->dropped_events, a), plural(stats->dropped_events));
    if (stats->damaged_blocks || stats->damaged_events)
        printf("damage    %s event%s in %s block%s, segment%s or state, set aside%s\n",
               units_count(stats->damaged_events, b), plural(stats->damaged_events),
               units_count(stats->damaged_blocks, c), plural(stats->damaged_blocks), plural(stats->damaged_blocks),
               has_new_damage(stats) ? "" : " (seen)");
    else
        puts("damage    none");
}

/* "breaker open for 12s, probe in 3s", and nothing while it is closed. `ret` is returned. */
static const char *breaker_text(const struct spool_sink_info *sink, char *ret, size_t size)
{
    char since[UNITS_SIZE], next[UNITS_SIZE];
    *ret = 0;
    if (sink->breaker == SPOOL_BREAKER_CLOSED)
        return ret;
    int n = snprintf(ret, size, ", breaker %s for %s", spool_breaker_name(sink->breaker),
                     units_span(sink->breaker_since_ms * 1000000, since));
    if (sink->breaker == SPOOL_BREAKER_OPEN && n > 0 && (size_t)n < size)
        snprintf(ret + n, size - (size_t)n, ", probe in %s", units_span(sink->next_try_ms * 1000000, next));
    return ret;
}

/* Where another process delivers, also how it is there. */
static void print_state(struct table *table, const struct spool_sink_info *sink)
{
    const char *state = sink->removing ? "being removed" : spool_sink_state_name(sink->state);
    char there[UNITS_SIZE] = "", breaker[4 * UNITS_SIZE];
    if (sink->state == SPOOL_SINK_ELSEWHERE && sink->deliverer_state != sink->state)
        snprintf(there, sizeof there, " (%s)", spool_sink_state_name(sink->deliverer_state));
    table_cell(table, "%s%s%s", state, there, breaker_text(sink, breaker, sizeof breaker));
}

/* What a best-effort sink took may be lost. */
static void print_delivered(struct table *table, const struct spool_sink_info *sink)
{
    char text[UNITS_SIZE];
    table_cell(table, "%s%s", units_count(sink->delivered_events, text),
               sink->best_effort ? " sent (best effort)" : "");
}

static void print_sinks(const struct survey *survey)
{
    static const char *const titles[] = {"SINK",      "KIND",  "STATE",      ">WAITING", "OLDEST",
                                         ">RETRYING", ">DEAD", ">DELIVERED", "P99",      "LAST ERROR"};
    char text[UNITS_SIZE];
    if (!survey->count)
        return;
    struct table *table = table_new(titles, sizeof titles / sizeof *titles);
    for (size_t i = 0; i < survey->count; i++) {
        const struct spool_sink_info *sink = &survey->sinks[i];
        table_cell(table, "%s", sink->name);
        table_cell(table, "%s", sink->kind);
        print_state(table, sink);
        table_cell(table, "%s", units_count(sink->pending_events, text));
        table_cell(table, "%s", units_age(sink->oldest_ns, text));
        table_cell(table, "%s", units_count(sink->retrying_events, text));
        table_cell(table, "%s", units_count(sink->dead_letters, text));
        print_delivered(table, sink);
        table_cell(table, "%s", sink->latency_p99_ns ? units_span(sink->latency_p99_ns, text) : "-");
        table_cell(table, "%s", *sink->last_error ? sink->last_error : "-");
    }
    putchar('\n');
    table_print(table, stdout);
    table_free(table);
}

/* -------------------------------------------------------------------------------------------------------- verbs */

static int status_take(struct spool *spool, struct status *status)
{
    status->stats = SPOOL_STATS();
    int code = spool_stats(spool, &status->stats);
    return code ? code : survey_take(spool, &status->survey);
}

/* One look. *ret_problems: how many things ask for action. */
static int status_show(const struct tool *tool, struct spool *spool, size_t *ret_problems)
{
    struct status status = {.tool = tool};
    struct problems problems = {.count = 0};
    int code = status_take(spool, &status), result = TOOL_DONE;
    if (!code)
        problems_find(&status, &problems);
    *ret_problems = problems.count;
    if (code) {
        result = say_error(tool, code, NULL);
    } else if (tool_wants_json(tool, false)) {
        status_print_json(&status, &problems);
    } else {
        problems_print(&problems);
        print_spool(&status);
        print_sinks(&status.survey);
    }
    problems_free(&problems);
    survey_free(&status.survey);
    return result;
}

/* Again and again until a signal: on a terminal in the same place. The output goes out at once, so that it does not
 * flicker. */
static int status_watch(const struct tool *tool, struct spool *spool, uint64_t every_ms, size_t *ret_problems)
{
    const struct timespec pause = {(time_t)(every_ms / 1000), (long)(every_ms % 1000) * 1000000};
    bool redraw = isatty(STDOUT_FILENO) && !tool_wants_json(tool, false);
    int result;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    do {
        fputs(redraw ? "\033[H\033[2J\033[3J" : "", stdout);
        result = status_show(tool, spool, ret_problems);
        if (!redraw && !tool_wants_json(tool, false))
            putchar('\n');
    } while (!result && fflush(stdout) == 0 && sigtimedwait(&set, NULL, &pause) < 0);
    return result;
}

static int status_run(const struct tool *tool, void *user_args, const struct words *words)
{
    const struct status_args *args = user_args;
    struct spool *spool;
    uint64_t every_ms = WATCH_MS;
    size_t problems = 0;
    if (words->count && (!args->watch || !units_parse_duration(words->items[0], &every_ms) || !every_ms))
        return say_usage(tool, args->watch ? "%s: is no duration" : "too many words, from \"%s\" on", words->items[0]);
    int result = tool_open(tool, SPOOL_READ_ONLY | SPOOL_NO_CREATE, &spool);
    if (result)
        return result;
    result = args->watch ? status_watch(tool, spool, every_ms, &problems) : status_show(tool, spool, &problems);
    spool_close(spool);
    return !result && args->check && problems ? TOOL_FAILED : result;
}

static void print_sink_list(const struct survey *survey)
{
    static const char *const titles[] = {"SINK",       "KIND",      "STATE",    ">WAITING",
                                         ">DELIVERED", ">FILTERED", ">DROPPED", "CONFIGURATION"};
    char text[UNITS_SIZE];
    struct table *table = table_new(titles, sizeof titles / sizeof *titles);
    for (size_t i = 0; i < survey->count; i++) {
        const struct spool_sink_info *sink = &survey->sinks[i];
        table_cell(table, "%s", sink->name);
        table_cell(table, "%s", sink->kind);
        print_state(table, sink);
        table_cell(table, "%s", units_count(sink->pending_events, text));
        print_delivered(table, sink);
        table_cell(table, "%s", units_count(sink->filtered_events, text));
        table_cell(table, "%s", units_count(sink->dropped_events, text));
        table_cell(table, "%s", sink->json_config);
    }
    table_print(table, stdout);
    table_free(table);
}

static int sinks_run(const struct tool *tool, void *args, const struct words *words)
{
    struct spool *spool;
    struct survey survey = {0};
    (void)args, (void)words;
    int result = tool_open(tool, SPOOL_READ_ONLY | SPOOL_NO_CREATE, &spool);
    if (result)
        return result;
    int code = survey_take(spool, &survey);
    if (code)
        result = say_error(tool, code, NULL);
    else if (tool_wants_json(tool, false))
        sinks_print_json(&survey);
    else if (survey.count)
        print_sink_list(&survey);
    else
        say(tool, "no sink is registered: spool sink add NAME KIND");
    survey_free(&survey);
    spool_close(spool);
    return result;
}

const struct tool_verb status_verb = {
    .name = "status",
    .usage = "[--check] [--watch [SECONDS]]",
    .summary = "Say how the spool is: what is wrong and what to do, what waits, since when, each sink",
    .options = status_options,
    .words_max = 1,
    .run = status_run,
};
const struct tool_verb sinks_verb = {
    .name = "sinks",
    .usage = "",
    .summary = "List the registered sinks",
    .run = sinks_run,
};
