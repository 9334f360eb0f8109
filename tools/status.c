/* status.c - spool status: what somebody wants to know at three in the morning.
 *
 * First the spool, then its sinks, then what to do: one line for everything that is not as it should be. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "survey.h"
#include "tool.h"

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
        printf("damage    %s event%s in %s block%s, set aside\n", units_count(stats->damaged_events, b),
               plural(stats->damaged_events), units_count(stats->damaged_blocks, c), plural(stats->damaged_blocks));
    else
        puts("damage    none");
}

static void print_sinks(const struct survey *survey)
{
    static const char *const titles[] = {"SINK",      "KIND",  "STATE",      ">WAITING",  "OLDEST",
                                         ">RETRYING", ">DEAD", ">DELIVERED", "LAST ERROR"};
    char text[UNITS_SIZE];
    if (!survey->count)
        return;
    struct table *table = table_new(titles, sizeof titles / sizeof *titles);
    for (size_t i = 0; i < survey->count; i++) {
        const struct spool_sink_info *sink = &survey->sinks[i];
        table_cell(table, "%s", sink->name);
        table_cell(table, "%s", sink->kind);
        table_cell(table, "%s", spool_sink_state_name(sink->state));
        table_cell(table, "%s", units_count(sink->pending_events, text));
        table_cell(table, "%s", units_age(sink->oldest_ns, text));
        table_cell(table, "%s", units_count(sink->retrying_events, text));
        table_cell(table, "%s", units_count(sink->dead_letters, text));
        table_cell(table, "%s", units_count(sink->delivered_events, text));
        table_cell(table, "%s", *sink->last_error ? sink->last_error : "-");
    }
    putchar('\n');
    table_print(table, stdout);
    table_free(table);
}

/* ------------------------------------------------------------------------------------------------------- advice */

static void advise(bool *any, const char *text)
{
    if (!*any)
        putchar('\n');
    *any = true;
    printf("! %s\n", text);
}

static void advise_on_sink(bool *any, const struct spool_sink_info *sink)
{
    char *text = NULL;
    if (sink->state == SPOOL_SINK_PAUSED && sink->pending_events)
        text = tool_format("%s is paused: spool sink resume %s", sink->name, sink->name);
    else if (sink->state == SPOOL_SINK_FAILED)
        text = tool_format("%s refuses its configuration: correct it with spool sink add %s", sink->name, sink->name);
    else if (sink->state == SPOOL_SINK_ABSENT && sink->pending_events)
        text =
            tool_format("nobody delivers to %s: start `spool run` or the program that serves it; if the sink is gone "
                        "for good: spool sink remove %s",
                        sink->name, sink->name);
    if (text)
        advise(any, text);
    free(text);
}

static void print_advice(const struct status *status)
{
    const struct spool_stats *stats = &status->stats;
    bool any = false;
    if (stats->disk_full)
        advise(&any, "the disk refuses writes: free space; what was accepted is safe and delivery goes on");
    if (stats->used_bytes > stats->max_bytes / 5 * 4)
        advise(&any, "more than 80 % of the limit is used: low priorities are refused first");
    if (stats->dead_journals)
        advise(&any, "a process died and its journal waits, with events not counted here: any spool run, drain or put "
                     "takes it in");
    if (stats->damaged_blocks || stats->damaged_events)
        advise(&any, "damage was found and set aside in quarantine/: spool verify");
    if (stats->dead_letters)
        advise(&any, "events were given up: spool dlq list, then spool dlq requeue or purge");
    if (!status->survey.count && stats->stored_events)
        advise(&any, "no sink is registered, events wait for the first: spool sink add NAME KIND");
    for (size_t i = 0; i < status->survey.count; i++)
        advise_on_sink(&any, &status->survey.sinks[i]);
}

/* --------------------------------------------------------------------------------------------------------- JSON */

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
    json_set(object, "dropped_events", json_number(sink->dropped_events));
    json_set(object, "filtered_events", json_number(sink->filtered_events));
    json_set(object, "options", json_loads(sink->options_json, 0, NULL));
    json_set(object, "oldest", json_time(sink->oldest_ns));
    json_set(object, "last_error", json_text(sink->last_error));
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
    return object;
}

static void print_status_json(const struct status *status)
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
    json_print(object);
}

/* -------------------------------------------------------------------------------------------------------- verbs */

static int status_take(struct spool *spool, struct status *status)
{
    status->stats = SPOOL_STATS();
    int code = spool_stats(spool, &status->stats);
    return code ? code : survey_take(spool, &status->survey);
}

static int status_run(const struct tool *tool, void *args, const struct words *words)
{
    struct spool *spool;
    struct status status = {.tool = tool};
    (void)args, (void)words;
    int result = tool_open(tool, SPOOL_READ_ONLY | SPOOL_NO_CREATE, &spool);
    if (result)
        return result;
    int code = status_take(spool, &status);
    if (code) {
        result = say_error(tool, code, NULL);
    } else if (tool_wants_json(tool, false)) {
        print_status_json(&status);
    } else {
        print_spool(&status);
        print_sinks(&status.survey);
        print_advice(&status);
    }
    survey_free(&status.survey);
    spool_close(spool);
    return result;
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
        table_cell(table, "%s", spool_sink_state_name(sink->state));
        table_cell(table, "%s", units_count(sink->pending_events, text));
        table_cell(table, "%s", units_count(sink->delivered_events, text));
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
    .usage = "",
    .summary = "Say how the spool is: what waits, since when, each sink, and what to do",
    .run = status_run,
};
const struct tool_verb sinks_verb = {
    .name = "sinks",
    .usage = "",
    .summary = "List the registered sinks",
    .run = sinks_run,
};
