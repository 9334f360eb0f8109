/* dlq.c - spool dlq list, show, requeue and purge: events that a sink gave up. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "output.h"
#include "tool.h"

enum { IDS_MAX = 1000 };

struct dlq_args {
    const char *sink;
    struct opt_number count;
    bool all, force;
};

#define OPT(...) OPT_ENTRY(struct dlq_args, __VA_ARGS__)
#define SINK_OPTION OPT('s', "sink", OPT_TEXT, sink, "S", "only those of that sink")
#define ALL_OPTION OPT(0, "all", OPT_FLAG, all, NULL, "all of them")

static const struct opt dlq_list_options[] = {
    SINK_OPTION, OPT('n', "lines", OPT_COUNT, count, "N", "the first N only"), {0}};
static const struct opt dlq_show_options[] = {SINK_OPTION, {0}};
static const struct opt dlq_requeue_options[] = {SINK_OPTION, ALL_OPTION, {0}};
static const struct opt dlq_purge_options[] = {
    SINK_OPTION, ALL_OPTION, OPT('f', "force", OPT_FLAG, force, NULL, "do not ask"), {0}};

/* One look at the dead letters. */
struct dlq {
    const struct tool *tool;
    struct table *table; /* NULL: each is printed at once */
    const struct spool_id *wanted;
    uint64_t left, found;
    int code; /* of a failed rendering */
};

/* ------------------------------------------------------------------------------------------------- list and show */

static int letter_print_json(const struct spool_dead_letter *letter)
{
    char *event;
    int code = spool_event_to_json(letter->event, NULL, &event, NULL);
    if (code)
        return code;
    json_t *head = json_object();
    json_set(head, "sink", json_text(letter->sink));
    json_set(head, "attempts", json_number(letter->attempts));
    json_set(head, "died_at", json_time(letter->died_at_ns));
    json_set(head, "reason", json_text(letter->reason));
    char *text = json_dumps(head, JSON_COMPACT);
    /* The event is put in as text: its numbers are to stay as they are. */
    if (text)
        printf("%.*s,\"event\":%s}\n", (int)strlen(text) - 1, text, event);
    json_decref(head);
    free(text);
    spool_free(event);
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

static void letter_print_full(const struct spool_dead_letter *letter)
{
    char time[UNITS_SIZE], age[UNITS_SIZE];
    printf("%-13s %s\n", "sink", letter->sink);
    printf("%-13s %s (%s ago), after %u attempts\n", "given up", units_time(letter->died_at_ns, 0, time),
           units_age(letter->died_at_ns, age), letter->attempts);
    printf("%-13s ", "reason");
    text_print(stdout, letter->reason, strlen(letter->reason), SIZE_MAX);
    putchar('\n');
    event_print_full(stdout, letter->event);
}

/* Non-zero ends the iteration; 1 is enough, since the library's own codes are told apart by dlq->code. */
static int dlq_each(void *user, const struct spool_dead_letter *letter)
{
    struct dlq *dlq = user;
    if (dlq->wanted && spool_id_compare(dlq->wanted, letter->event->id))
        return 0;
    dlq->found++;
    if (tool_wants_json(dlq->tool, false))
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

static int dlq_list_run(const struct tool *tool, void *user_args, const struct words *words)
{
    static const char *const titles[] = {"ID", "SINK", "DIED AGO", ">ATTEMPTS", "TYPE", "AGENT", "REASON"};
    const struct dlq_args *args = user_args;
    struct dlq dlq = {.tool = tool, .left = args->count.given ? args->count.value : UINT64_MAX};
    (void)words;
    if (!dlq.left)
        return TOOL_DONE;
    if (!tool_wants_json(tool, false))
        dlq.table = table_new(titles, sizeof titles / sizeof *titles);
    int status = dlq_look(&dlq, args->sink);
    if (!status && dlq.table && dlq.found)
        table_print(dlq.table, stdout);
    else if (!status && dlq.table)
        say(tool, "no dead letters");
    table_free(dlq.table);
    return status;
}

/* An id on the command line is input: a wrong one is wrong usage. */
static int parse_id(const struct tool *tool, const char *text, struct spool_id *ret_id)
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
    int status = parse_id(tool, words->items[0], &id);
    if (status)
        return status;
    struct dlq dlq = {.tool = tool, .wanted = &id, .left = UINT64_MAX};
    status = dlq_look(&dlq, args->sink);
    if (status || dlq.found)
        return status;
    say(tool, "%s is no dead letter%s%s", words->items[0], args->sink ? " of " : "", args->sink ? args->sink : "");
    return TOOL_NOTHING;
}

/* --------------------------------------------------------------------------------------------- requeue and purge */

typedef int (*dlq_change)(struct spool *spool, const char *sink, const struct spool_id *id, uint64_t *ret_n);

static int check_selection(const struct tool *tool, const struct dlq_args *args, const struct words *words)
{
    struct spool_id id;
    if (args->all && words->count)
        return say_usage(tool, "either ids or --all");
    if (!args->all && !words->count)
        return say_usage(tool, "which? Give ids (spool dlq list shows them), or --all");
    for (size_t i = 0; i < words->count; i++)
        if (parse_id(tool, words->items[i], &id))
            return TOOL_USAGE;
    return TOOL_DONE;
}

/* Every id, or all; the first failure is the answer, the others are done nevertheless. */
static int change_selected(const struct tool *tool, struct spool *spool, const struct dlq_args *args,
                           const struct words *words, dlq_change change, uint64_t *ret_n)
{
    int status = TOOL_DONE;
    size_t rounds = args->all ? 1 : words->count;
    for (size_t i = 0; i < rounds; i++) {
        struct spool_id id;
        uint64_t n = 0;
        int code = args->all ? SPOOL_OK : spool_id_parse(words->items[i], &id);
        if (!code)
            code = change(spool, args->sink, args->all ? NULL : &id, &n);
        if (code) {
            int failed = say_error(tool, code, args->all ? NULL : words->items[i]);
            status = status ? status : failed;
        } else {
            *ret_n += n;
        }
    }
    return status;
}

static void print_changed(const struct tool *tool, const char *done, uint64_t n)
{
    char count[UNITS_SIZE];
    if (tool_wants_json(tool, false))
        json_print(json_pack("{so}", done, json_number(n)));
    else
        printf("%s dead letter%s %s\n", units_count(n, count), n == 1 ? "" : "s", done);
}

static int dlq_change_run(const struct tool *tool, const struct dlq_args *args, const struct words *words,
                          dlq_change change, const char *done)
{
    struct spool *spool;
    uint64_t n = 0;
    int status = check_selection(tool, args, words);
    if (!status)
        status = tool_open(tool, SPOOL_NO_CREATE, &spool);
    if (status)
        return status;
    status = change_selected(tool, spool, args, words, change, &n);
    if (n || !status)
        print_changed(tool, done, n);
    spool_close(spool);
    return status;
}

static int dlq_requeue_run(const struct tool *tool, void *args, const struct words *words)
{
    return dlq_change_run(tool, args, words, spool_dead_requeue, "requeued");
}

static int dlq_purge_run(const struct tool *tool, void *user_args, const struct words *words)
{
    const struct dlq_args *args = user_args;
    char answer[16] = "";
    if (args->all && !args->force && isatty(STDIN_FILENO) && isatty(STDERR_FILENO)) {
        fprintf(stderr, "Delete all dead letters%s%s for good? [y/N] ", args->sink ? " of " : "",
                args->sink ? args->sink : "");
        if (!fgets(answer, sizeof answer, stdin) || (*answer != 'y' && *answer != 'Y')) {
            say(tool, "they are kept");
            return TOOL_FAILED;
        }
    }
    return dlq_change_run(tool, args, words, spool_dead_purge, "purged");
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
    .options = dlq_show_options,
    .words_min = 1,
    .words_max = 1,
    .run = dlq_show_run,
};
const struct tool_verb dlq_requeue_verb = {
    .name = "dlq requeue",
    .usage = "[--sink S] {ID ... | --all}",
    .summary = "Deliver dead letters again, with their attempts at zero",
    .options = dlq_requeue_options,
    .words_max = IDS_MAX,
    .run = dlq_requeue_run,
};
const struct tool_verb dlq_purge_verb = {
    .name = "dlq purge",
    .usage = "[--sink S] {ID ... | --all}",
    .summary = "Delete dead letters for good",
    .options = dlq_purge_options,
    .words_max = IDS_MAX,
    .run = dlq_purge_run,
};
