/* status.c - spool status and sinks: what somebody wants to know at three in the morning.
 *
 * First what is wrong and what to do about it, then the spool, then its sinks. */
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "output.h"
#include "survey.h"
#include "tool.h"

enum { WATCH_MS = 2000 };

struct status_args {
    bool watch, check;
};

static const struct opt status_options[] = {
    OPT_ENTRY(struct status_args, 'w', "watch", OPT_FLAG, watch, NULL, "again every SECONDS (default: 2) until Ctrl-C"),
    OPT_ENTRY(struct status_args, 0, "check", OPT_FLAG, check, NULL, "exit status 1 if anything asks for action"),
    {0},
};

struct status {
    const struct tool *tool;
    struct spool_stats stats;
    struct survey survey;
};

/* Events that wait: what the sink furthest behind holds; without a sink everything waits for the first one. */
static uint64_t waiting_events(const struct status *status)
{
    return status->survey.count ? status->survey.pending_max : status->stats.stored_events;
}

static uint64_t oldest_ns(const struct status *status)
{
    return status->survey.oldest_ns ? status->survey.oldest_ns : status->stats.oldest_ns;
}

static const char *plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

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

/* Since somebody said that he had seen it. */
static bool has_new_damage(const struct spool_stats *stats)
{
    return stats->damaged_blocks > stats->damaged_blocks_seen || stats->damaged_events > stats->damaged_events_seen;
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
        printf("damage    %s event%s in %s block%s, segment%s or state, set aside%s\n", units_count(stats->damaged_events, b),
               plural(stats->damaged_events), units_count(stats->damaged_blocks, c), plural(stats->damaged_blocks),
               plural(stats->damaged_blocks), has_new_damage(stats) ? "" : " (seen)");
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
    table_cell(table, "%s%s", units_count(sink->delivered_events, text), sink->best_effort ? " sent (best effort)" : "");
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

/* ----------------------------------------------------------------------------------------------------- problems */

enum { PROBLEMS_MAX = 64, SILENT_S = 60, WAITS_S = 10 };
static const uint64_t NS_PER_S = 1000000000;

/* What is not as it should be, and what to do about it. */
struct problem {
    bool urgent; /* events may be lost, or are refused, if nobody sees to it */
    char *what, *action;
};

struct problems {
    struct problem items[PROBLEMS_MAX];
    size_t count;
};

static void add_problem(struct problems *problems, bool urgent, char *what, char *action)
{
    if (problems->count == PROBLEMS_MAX) {
        free(what);
        free(action);
        return;
    }
    problems->items[problems->count++] = (struct problem){urgent, what, action};
}

static void free_problems(struct problems *problems)
{
    for (size_t i = 0; i < problems->count; i++) {
        free(problems->items[i].what);
        free(problems->items[i].action);
    }
    problems->count = 0;
}

static char *text(const char *constant)
{
    return tool_format("%s", constant);
}

/* The state in the process that delivers, where that is another one. */
static enum spool_sink_state true_state(const struct spool_sink_info *sink)
{
    return sink->state == SPOOL_SINK_ELSEWHERE ? sink->deliverer_state : sink->state;
}

static void see_down(struct problems *problems, const struct spool_sink_info *sink)
{
    char span[UNITS_SIZE], count[UNITS_SIZE];
    add_problem(problems, false,
                tool_format("%s is down, %u failure%s in a row: %s", sink->name, sink->attempt, plural(sink->attempt),
                            sink->last_error),
                tool_format("see to %s; its %s event%s wait%s, and it is tried again in %s", sink->name,
                            units_count(sink->pending_events, count), plural(sink->pending_events),
                            sink->pending_events == 1 ? "s" : "", units_span(sink->next_try_ms * 1000000, span)));
}

/* Its next batch waits for a resource that somebody has had for long. */
static void see_waiting(struct problems *problems, const struct spool_sink_info *sink)
{
    char span[UNITS_SIZE];
    if (!*sink->waits_for || sink->waits_ms < WAITS_S * 1000u)
        return;
    add_problem(problems, false,
                tool_format("%s waits for %s, for %s", sink->name, sink->waits_for,
                            units_span(sink->waits_ms * 1000000, span)),
                text("see to whoever has it; events wait, and nothing is lost"));
}

/* It says that it runs, and has said nothing for long although there is work. */
static void see_silent(struct problems *problems, const struct spool_sink_info *sink)
{
    char age[UNITS_SIZE];
    uint64_t now = now_wall_ns();
    if (sink->state != SPOOL_SINK_ELSEWHERE || sink->deliverer_state != SPOOL_SINK_RUNNING || !sink->pending_events ||
        now < sink->deliverer_seen_ns + SILENT_S * NS_PER_S || now < sink->oldest_ns + SILENT_S * NS_PER_S)
        return;
    add_problem(problems, true,
                tool_format("process %u, which delivers to %s, has not moved on for %s", sink->deliverer_pid,
                            sink->name, units_age(sink->deliverer_seen_ns, age)),
                tool_format("is it stopped, or does %s hang? Another one takes over when it ends", sink->name));
}

static void see_sink(struct problems *problems, const struct spool_sink_info *sink)
{
    enum spool_sink_state state = true_state(sink);
    if (sink->removing)
        add_problem(problems, false, tool_format("%s is to be removed, and who delivers to it has not let go", sink->name),
                    text("it goes as soon as that happens; if the sink hangs, end the process that delivers to it"));
    else if (state == SPOOL_SINK_PAUSED && sink->pending_events)
        add_problem(
            problems, false,
            tool_format("%s is paused%s%s", sink->name, *sink->paused_reason ? ": " : "", sink->paused_reason),
            tool_format("%sspool sink resume %s", *sink->paused_reason ? "see to that, then " : "", sink->name));
    else if (state == SPOOL_SINK_FAILED)
        add_problem(problems, true, tool_format("%s refuses its configuration: %s", sink->name, sink->last_error),
                    tool_format("correct it with spool sink add %s", sink->name));
    else if (state == SPOOL_SINK_HUNG)
        add_problem(problems, true, tool_format("%s hangs: %s", sink->name, sink->last_error),
                    text("end the process that delivers to it; events that it was given are delivered again"));
    else if (state == SPOOL_SINK_DOWN)
        see_down(problems, sink);
    else if (state == SPOOL_SINK_ABSENT && sink->pending_events)
        add_problem(
            problems, false,
            tool_format("nobody delivers to %s%s%s", sink->name, *sink->last_error ? "; its last error: " : "",
                        sink->last_error),
            tool_format("start `spool run` or the program that serves it; if the sink is gone for good: spool sink "
                        "remove %s",
                        sink->name));
    see_waiting(problems, sink);
    see_silent(problems, sink);
}

static void see_spool(struct problems *problems, const struct status *status)
{
    const struct spool_stats *stats = &status->stats;
    char count[UNITS_SIZE];
    if (stats->disk_full)
        add_problem(problems, true, text("the disk refuses writes"),
                    text("free space; what was accepted is safe and delivery goes on"));
    if (stats->used_bytes > stats->max_bytes / 5 * 4)
        add_problem(problems, true, text("more than 80 % of the limit is used: low priorities are refused first"),
                    text("see to the sink that waits longest, or raise max_bytes"));
    if (stats->dead_journals)
        add_problem(problems, false, text("a process died and its journal waits, with events not counted here"),
                    text("any spool run, drain or put takes it in"));
    if (has_new_damage(stats))
        add_problem(problems, false, text("damage was found and set aside in quarantine/"),
                    text("spool verify; when that is seen to, spool verify --seen"));
    if (tool_saw_damage())
        add_problem(problems, true, text("a damaged file cannot be read, and its events are not counted here"),
                    text("any spool run, drain or put saves what is whole in it; then spool verify"));
    if (stats->dead_letters)
        add_problem(problems, false,
                    tool_format("%s event%s given up", units_count(stats->dead_letters, count),
                                stats->dead_letters == 1 ? " was" : "s were"),
                    text("spool dlq stats and spool dlq list, then spool dlq requeue, edit or purge"));
    if (!status->survey.count && stats->stored_events)
        add_problem(problems, false, text("no sink is registered, events wait for the first"),
                    text("spool sink add NAME KIND"));
}

/* The urgent ones first. */
static int compare_problems(const void *a, const void *b)
{
    const struct problem *x = a, *y = b;
    return (int)y->urgent - (int)x->urgent;
}

static void find_problems(const struct status *status, struct problems *problems)
{
    problems->count = 0;
    for (size_t i = 0; i < status->survey.count; i++)
        see_sink(problems, &status->survey.sinks[i]);
    see_spool(problems, status);
    qsort(problems->items, problems->count, sizeof *problems->items, compare_problems);
}

static void print_problems(const struct problems *problems)
{
    for (size_t i = 0; i < problems->count; i++) {
        const struct problem *problem = &problems->items[i];
        fputs(problem->urgent ? "!! " : "!  ", stdout);
        text_print(stdout, problem->what, strlen(problem->what), SIZE_MAX);
        fputs("\n   -> ", stdout);
        text_print(stdout, problem->action, strlen(problem->action), SIZE_MAX);
        putchar('\n');
    }
    puts(problems->count ? "" : "all is well\n");
}

/* --------------------------------------------------------------------------------------------------------- JSON */

/* What is known of the process that delivers, or did last; null if nothing is. */
static json_t *deliverer_json(const struct spool_sink_info *sink)
{
    if (!sink->deliverer_seen_ns)
        return json_null();
    json_t *object = json_object();
    json_set(object, "pid", json_number(sink->deliverer_pid));
    json_set(object, "state", json_text(spool_sink_state_name(sink->deliverer_state)));
    json_set(object, "seen", json_time(sink->deliverer_seen_ns));
    json_set(object, "latency_p50_ms", json_real((double)sink->latency_p50_ns / 1e6));
    json_set(object, "latency_p99_ms", json_real((double)sink->latency_p99_ns / 1e6));
    return object;
}

/* Of the process that delivers, or did last. */
static json_t *breaker_json(const struct spool_sink_info *sink)
{
    json_t *object = json_object();
    json_set(object, "state", json_text(spool_breaker_name(sink->breaker)));
    json_set(object, "since_ms", json_number(sink->breaker_since_ms));
    json_set(object, "next_probe_ms",
             sink->breaker == SPOOL_BREAKER_OPEN ? json_number(sink->next_try_ms) : json_null());
    json_set(object, "opened", json_number(sink->breaker_opened));
    return object;
}

static json_t *drops_json(const struct spool_sink_info *sink)
{
    json_t *object = json_object();
    for (int why = 0; why < SPOOL_DROPS; why++)
        json_set(object, spool_drop_name((enum spool_drop)why), json_number(sink->dropped_for[why]));
    return object;
}

static json_t *lanes_json(const struct spool_sink_info *sink)
{
    static const enum spool_priority lanes[] = {SPOOL_CRITICAL, SPOOL_HIGH, SPOOL_MEDIUM, SPOOL_LOW};
    json_t *object = json_object();
    for (size_t i = 0; i < sizeof lanes / sizeof *lanes; i++) {
        json_t *lane = json_object();
        json_set(lane, "pending_events", json_number(sink->lane_pending[lanes[i]]));
        json_set(lane, "retrying_events", json_number(sink->lane_retrying[lanes[i]]));
        json_set(lane, "delivered_events", json_number(sink->lane_delivered[lanes[i]]));
        json_set(lane, "oldest", json_time(sink->lane_oldest_ns[lanes[i]]));
        json_set(object, spool_priority_name(lanes[i]), lane);
    }
    return object;
}

static json_t *sink_json(const struct spool_sink_info *sink)
{
    json_t *config = json_loads(sink->json_config, 0, NULL), *object = json_object();
    json_set(object, "name", json_text(sink->name));
    json_set(object, "kind", json_text(sink->kind));
    json_set(object, "state", json_text(spool_sink_state_name(sink->state)));
    json_set(object, "pending_events", json_number(sink->pending_events));
    json_set(object, "retrying_events", json_number(sink->retrying_events));
    json_set(object, "dead_letters", json_number(sink->dead_letters));
    json_set(object, "delivered_events", json_number(sink->delivered_events));
    json_set(object, "best_effort", json_boolean(sink->best_effort));
    json_set(object, "dropped_events", json_number(sink->dropped_events));
    json_set(object, "dropped_for", drops_json(sink));
    json_set(object, "filtered_events", json_number(sink->filtered_events));
    json_set(object, "options", json_loads(sink->options_json, 0, NULL));
    json_set(object, "resources", json_text(sink->resources));
    json_set(object, "waits_for", json_text(sink->waits_for));
    json_set(object, "waits_ms", json_number(sink->waits_ms));
    json_set(object, "oldest", json_time(sink->oldest_ns));
    json_set(object, "lanes", lanes_json(sink));
    json_set(object, "last_error", json_text(sink->last_error));
    json_set(object, "attempt", json_number(sink->attempt));
    json_set(object, "next_try_ms", json_number(sink->next_try_ms));
    json_set(object, "breaker", breaker_json(sink));
    json_set(object, "removing", json_boolean(sink->removing));
    json_set(object, "dead_letters_dropped", json_number(sink->dead_dropped));
    json_set(object, "deliverer", deliverer_json(sink));
    json_set(object, "config", config ? config : json_text(sink->json_config));
    return object;
}

static json_t *sinks_json(const struct survey *survey)
{
    json_t *sinks = json_array();
    for (size_t i = 0; i < survey->count; i++)
        json_array_append_new(sinks, sink_json(&survey->sinks[i]));
    return sinks;
}

static json_t *damage_json(const struct spool_stats *stats)
{
    json_t *object = json_object();
    json_set(object, "blocks", json_number(stats->damaged_blocks));
    json_set(object, "events", json_number(stats->damaged_events));
    json_set(object, "seen", json_boolean(!has_new_damage(stats)));
    return object;
}

static json_t *problems_json(const struct problems *problems)
{
    json_t *array = json_array();
    for (size_t i = 0; i < problems->count; i++) {
        json_t *object = json_object();
        json_set(object, "urgent", json_boolean(problems->items[i].urgent));
        json_set(object, "what", json_text(problems->items[i].what));
        json_set(object, "do", json_text(problems->items[i].action));
        json_array_append_new(array, object);
    }
    return array;
}

static void print_status_json(const struct status *status, const struct problems *problems)
{
    const struct spool_stats *stats = &status->stats;
    json_t *object = json_object();
    json_set(object, "dir", json_text(status->tool->dir));
    json_set(object, "waiting_events", json_number(waiting_events(status)));
    json_set(object, "oldest", json_time(oldest_ns(status)));
    json_set(object, "stored_events", json_number(stats->stored_events));
    json_set(object, "used_bytes", json_number(stats->used_bytes));
    json_set(object, "max_bytes", json_number(stats->max_bytes));
    json_set(object, "segments", json_number(stats->segments));
    json_set(object, "journals", json_number(stats->journals));
    json_set(object, "dead_journals", json_number(stats->dead_journals));
    json_set(object, "dead_letters", json_number(stats->dead_letters));
    json_set(object, "dropped_events", json_number(stats->dropped_events));
    json_set(object, "damage", damage_json(stats));
    json_set(object, "disk_full", json_boolean(stats->disk_full));
    json_set(object, "sinks", sinks_json(&status->survey));
    json_set(object, "problems", problems_json(problems));
    json_print(object);
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
        find_problems(&status, &problems);
    *ret_problems = problems.count;
    if (code) {
        result = say_error(tool, code, NULL);
    } else if (tool_wants_json(tool, false)) {
        print_status_json(&status, &problems);
    } else {
        print_problems(&problems);
        print_spool(&status);
        print_sinks(&status.survey);
    }
    free_problems(&problems);
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
    static const char *const titles[] = {"SINK",       "KIND",     "STATE",        ">WAITING",
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
    else if (!tool_wants_json(tool, false) && survey.count)
        print_sink_list(&survey);
    else if (!tool_wants_json(tool, false))
        say(tool, "no sink is registered: spool sink add NAME KIND");
    for (size_t i = 0; tool_wants_json(tool, false) && i < survey.count; i++)
        json_print(sink_json(&survey.sinks[i]));
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
