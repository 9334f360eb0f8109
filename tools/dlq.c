/* dlq.c - spool dlq list, show, stats and export: looking at the events that a sink gave up. (dlq_change.c has the
 * rest.) */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dlq.h"
#include "output.h"
#include "tool.h"

struct dlq_args {
    const char *sink;
    struct opt_number count;
};

#define OPT(...) OPT_ENTRY(struct dlq_args, __VA_ARGS__)
#define SINK_OPTION OPT('s', "sink", OPT_TEXT, sink, "S", "only those of that sink")

static const struct opt dlq_list_options[] = {
    SINK_OPTION, OPT('n', "lines", OPT_COUNT, count, "N", "the first N only"), {0}};
static const struct opt dlq_sink_options[] = {SINK_OPTION, {0}};

/* One look at the dead letters. */
struct dlq {
    const struct tool *tool;
    bool json;
    struct table *table; /* NULL: each is printed at once */
    const struct spool_id *wanted;
    uint64_t left, found;
    int code; /* of a failed rendering */
};

/* ------------------------------------------------------------------------------------------------- list and show */

static int letter_print_json(const struct spool_dead_letter *letter)
{
    char *text;
    int code = spool_dead_to_json(letter, &text, NULL);
    if (code)
        return code;
    puts(text);
    spool_free(text);
    return SPOOL_OK;
}

static void letter_add_row(struct table *table, const struct spool_dead_letter *letter)
{
    char id[SPOOL_ID_TEXT_SIZE], age[UNITS_SIZE];
    table_cell(table, "%s", spool_id_format(letter->event->id, id));
    table_cell(table, "%s", letter->sink);
    table_cell(table, "%s", units_age(letter->died_at_ns, age));
    table_cell(table, "%u", letter->attempts);
    table_cell(table, "%s", letter->event->type);
    table_cell(table, "%s", letter->event->agent ? letter->event->agent : "-");
    table_cell(table, "%s", letter->reason);
}

static void attempt_print(const struct spool_attempt *attempt)
{
    char time[UNITS_SIZE], until[UNITS_SIZE];
    printf("  %s  ", units_time(attempt->at_ns, 3, time));
    if (attempt->kind == SPOOL_ATTEMPT_SUMMARY)
        printf("and %u more until %s", attempt->count - 1, units_time(attempt->until_ns, 3, until));
    else
        fputs(spool_attempt_kind_name(attempt->kind), stdout);
    if (*attempt->reason)
        fputs(": ", stdout);
    text_print(stdout, attempt->reason, strlen(attempt->reason), SIZE_MAX);
    putchar('\n');
}

static void letter_print_full(const struct spool_dead_letter *letter)
{
    char time[UNITS_SIZE], age[UNITS_SIZE];
    printf("%-13s %s\n", "sink", letter->sink);
    printf("%-13s %s (%s ago), after %u attempt%s\n", "given up", units_time(letter->died_at_ns, 0, time),
           units_age(letter->died_at_ns, age), letter->attempts, letter->attempts == 1 ? "" : "s");
    printf("%-13s ", "reason");
    text_print(stdout, letter->reason, strlen(letter->reason), SIZE_MAX);
    putchar('\n');
    event_print_full(stdout, letter->event);
    if (letter->history_count)
        puts("history");
    for (size_t i = 0; i < letter->history_count; i++)
        attempt_print((const struct spool_attempt *)((const char *)letter->history + i * letter->history[0].size));
}

/* Non-zero ends the iteration; 1 is enough, since the library's own codes are told apart by dlq->code. */
static int dlq_each(void *user, const struct spool_dead_letter *letter)
{
    struct dlq *dlq = user;
    if (dlq->wanted && spool_id_compare(dlq->wanted, letter->event->id))
        return 0;
    dlq->found++;
    if (dlq->json)
        dlq->code = letter_print_json(letter);
    else if (dlq->table)
        letter_add_row(dlq->table, letter);
    else
        letter_print_full(letter);
    return dlq->code || --dlq->left == 0;
}

static int dlq_look(struct dlq *dlq, const char *sink)
{
    struct spool *spool;
    int status = tool_open(dlq->tool, SPOOL_READ_ONLY | SPOOL_NO_CREATE, &spool);
    if (status)
        return status;
    int code = spool_dead_each(spool, sink, dlq_each, dlq);
    if (code < 0 || dlq->code)
        status = say_error(dlq->tool, dlq->code ? dlq->code : code, NULL);
    spool_close(spool);
    return status;
}

/* A sink that is removed leaves its dead letters, so that any name may be right. */
static void say_none(const struct tool *tool, const char *sink)
{
    say(tool, "no dead letters%s%s", sink ? " of a sink named " : "", sink ? sink : "");
}

static int dlq_list_run(const struct tool *tool, void *user_args, const struct words *words)
{
    static const char *const titles[] = {"ID", "SINK", "DIED AGO", ">ATTEMPTS", "TYPE", "AGENT", "REASON"};
    const struct dlq_args *args = user_args;
    struct dlq dlq = {
        .tool = tool, .json = tool_wants_json(tool, false), .left = args->count.given ? args->count.value : UINT64_MAX};
    (void)words;
    if (!dlq.left)
        return TOOL_DONE;
    if (!dlq.json)
        dlq.table = table_new(titles, sizeof titles / sizeof *titles);
    int status = dlq_look(&dlq, args->sink);
    if (!status && dlq.table && dlq.found)
        table_print(dlq.table, stdout);
    else if (!status && dlq.table)
        say_none(tool, args->sink);
    table_free(dlq.table);
    return status;
}

int dlq_parse_id(const struct tool *tool, const char *text, struct spool_id *ret_id)
{
    int code = spool_id_parse(text, ret_id);
    if (!code)
        return TOOL_DONE;
    say_error(tool, code, text);
    return TOOL_USAGE;
}

static int dlq_show_run(const struct tool *tool, void *user_args, const struct words *words)
{
    const struct dlq_args *args = user_args;
    struct spool_id id;
    int status = dlq_parse_id(tool, words->items[0], &id);
    if (status)
        return status;
    struct dlq dlq = {.tool = tool, .json = tool_wants_json(tool, false), .wanted = &id, .left = UINT64_MAX};
    status = dlq_look(&dlq, args->sink);
    if (status || dlq.found)
        return status;
    say(tool, "%s is no dead letter%s%s", words->items[0], args->sink ? " of " : "", args->sink ? args->sink : "");
    return TOOL_NOTHING;
}

/* ------------------------------------------------------------------------------------------------ export and stats */

/* JSON Lines, whatever -o says: they are for spool dlq import. */
static int dlq_export_run(const struct tool *tool, void *user_args, const struct words *words)
{
    const struct dlq_args *args = user_args;
    struct dlq dlq = {.tool = tool, .json = true, .left = UINT64_MAX};
    (void)words;
    int status = dlq_look(&dlq, args->sink);
    if (!status)
        say(tool, "%llu dead letter%s", (unsigned long long)dlq.found, dlq.found == 1 ? "" : "s");
    return status;
}

/* What there is of one sink and reason. */
struct dlq_group {
    char *sink, *reason;
    uint64_t letters, oldest_ns, newest_ns;
};

struct dlq_stats {
    struct dlq_group *groups;
    size_t count;
};

static struct dlq_group *group_of(struct dlq_stats *stats, const struct spool_dead_letter *letter)
{
    for (size_t i = 0; i < stats->count; i++)
        if (!strcmp(stats->groups[i].sink, letter->sink) && !strcmp(stats->groups[i].reason, letter->reason))
            return &stats->groups[i];
    struct dlq_group *groups = tool_alloc(stats->count + 1, sizeof *groups);
    if (stats->count)
        memcpy(groups, stats->groups, stats->count * sizeof *groups);
    free(stats->groups);
    stats->groups = groups;
    struct dlq_group *group = &groups[stats->count++];
    group->sink = tool_format("%s", letter->sink);
    group->reason = tool_format("%s", letter->reason);
    group->oldest_ns = UINT64_MAX;
    return group;
}

static int count_letter(void *user, const struct spool_dead_letter *letter)
{
    struct dlq_group *group = group_of(user, letter);
    group->letters++;
    if (letter->died_at_ns < group->oldest_ns)
        group->oldest_ns = letter->died_at_ns;
    if (letter->died_at_ns > group->newest_ns)
        group->newest_ns = letter->died_at_ns;
    return 0;
}

static int compare_groups(const void *a, const void *b)
{
    const struct dlq_group *x = a, *y = b;
    return x->letters > y->letters ? -1 : x->letters < y->letters;
}

static void stats_print_json(const struct dlq_stats *stats)
{
    for (size_t i = 0; i < stats->count; i++) {
        const struct dlq_group *group = &stats->groups[i];
        json_t *object = json_object();
        json_set(object, "sink", json_text(group->sink));
        json_set(object, "reason", json_text(group->reason));
        json_set(object, "dead_letters", json_number(group->letters));
        json_set(object, "first_died_at", json_time(group->oldest_ns));
        json_set(object, "last_died_at", json_time(group->newest_ns));
        json_print(object);
    }
}

static void stats_print(const struct tool *tool, const struct dlq_stats *stats, const char *sink)
{
    static const char *const titles[] = {">LETTERS", "SINK", "FIRST DIED AGO", "LAST DIED AGO", "REASON"};
    char text[UNITS_SIZE];
    if (!stats->count) {
        say_none(tool, sink);
        return;
    }
    struct table *table = table_new(titles, sizeof titles / sizeof *titles);
    for (size_t i = 0; i < stats->count; i++) {
        const struct dlq_group *group = &stats->groups[i];
        table_cell(table, "%s", units_count(group->letters, text));
        table_cell(table, "%s", group->sink);
        table_cell(table, "%s", units_age(group->oldest_ns, text));
        table_cell(table, "%s", units_age(group->newest_ns, text));
        table_cell(table, "%s", group->reason);
    }
    table_print(table, stdout);
    table_free(table);
}

static int dlq_stats_run(const struct tool *tool, void *user_args, const struct words *words)
{
    const struct dlq_args *args = user_args;
    struct dlq_stats stats = {0};
    struct spool *spool;
    (void)words;
    int status = tool_open(tool, SPOOL_READ_ONLY | SPOOL_NO_CREATE, &spool);
    if (status)
        return status;
    int code = spool_dead_each(spool, args->sink, count_letter, &stats);
    if (stats.count)
        qsort(stats.groups, stats.count, sizeof *stats.groups, compare_groups);
    if (code)
        status = say_error(tool, code, NULL);
    else if (tool_wants_json(tool, false))
        stats_print_json(&stats);
    else
        stats_print(tool, &stats, args->sink);
    for (size_t i = 0; i < stats.count; i++) {
        free(stats.groups[i].sink);
        free(stats.groups[i].reason);
    }
    free(stats.groups);
    spool_close(spool);
    return status;
}

const struct tool_verb dlq_list_verb = {
    .name = "dlq list",
    .usage = "[--sink S] [-n N]",
    .summary = "List dead letters: events that a sink gave up, and why",
    .options = dlq_list_options,
    .run = dlq_list_run,
};
const struct tool_verb dlq_show_verb = {
    .name = "dlq show",
    .usage = "[--sink S] ID",
    .summary = "Print a dead letter, whole",
    .options = dlq_sink_options,
    .words_min = 1,
    .words_max = 1,
    .run = dlq_show_run,
};
const struct tool_verb dlq_stats_verb = {
    .name = "dlq stats",
    .usage = "[--sink S]",
    .summary = "Count dead letters by sink and reason, the most frequent first",
    .options = dlq_sink_options,
    .run = dlq_stats_run,
};
const struct tool_verb dlq_export_verb = {
    .name = "dlq export",
    .usage = "[--sink S]",
    .summary = "Print dead letters as JSON Lines, for spool dlq import",
    .options = dlq_sink_options,
    .run = dlq_export_run,
};
