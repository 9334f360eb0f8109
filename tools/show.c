/* show.c - spool show: one event, and what became of it at each sink. */
#include <stdio.h>
#include <string.h>

#include "output.h"
#include "tool.h"

struct show_args {
    bool receipts;
};

static const struct opt show_options[] = {
    OPT_ENTRY(struct show_args, 'r', "receipts", OPT_FLAG, receipts, NULL, "only what became of it at each sink"),
    {0},
};

/* ---------------------------------------------------------------------------------------------------------- receipts */

struct receipts {
    const struct tool *tool;
    struct table *table; /* NULL: JSON */
    size_t count, gone;
};

static void print_receipt_json(const struct spool_receipt *receipt)
{
    json_t *object = json_object();
    json_set(object, "sink", json_text(receipt->sink));
    json_set(object, "state", json_text(spool_receipt_state_name(receipt->state)));
    json_set(object, "attempts", json_number(receipt->attempts));
    json_set(object, "due", json_time(receipt->due_ns));
    bool purged = receipt->state == SPOOL_RECEIPT_PURGED;
    json_set(object, "died_at", json_time(purged ? 0 : receipt->at_ns));
    json_set(object, "purged_at", json_time(purged ? receipt->at_ns : 0));
    json_set(object, "reason", json_text(receipt->reason));
    json_print(object);
}

static void add_receipt(struct table *table, const struct spool_receipt *receipt)
{
    char text[UNITS_SIZE];
    uint64_t now = now_wall_ns();
    table_cell(table, "%s", receipt->sink);
    table_cell(table, "%s", spool_receipt_state_name(receipt->state));
    table_cell(table, "%u", receipt->attempts);
    if (receipt->state == SPOOL_RECEIPT_RETRYING)
        table_cell(table, "in %s", units_span(receipt->due_ns > now ? receipt->due_ns - now : 0, text));
    else
        table_cell(table, "-");
    table_cell(table, "%s", *receipt->reason ? receipt->reason : "-");
}

static int take_receipt(void *user, const struct spool_receipt *receipt)
{
    struct receipts *receipts = user;
    receipts->count++;
    receipts->gone += receipt->state == SPOOL_RECEIPT_GONE;
    if (receipts->table)
        add_receipt(receipts->table, receipt);
    else
        print_receipt_json(receipt);
    return 0;
}

static int show_receipts(struct receipts *receipts, struct spool *spool, const struct spool_id *id)
{
    static const char *const titles[] = {"SINK", "STATE", ">ATTEMPTS", "NEXT TRY", "REASON"};
    bool json = tool_wants_json(receipts->tool, false);
    receipts->table = json ? NULL : table_new(titles, sizeof titles / sizeof *titles);
    int code = spool_receipt(spool, id, take_receipt, receipts);
    if (!code && receipts->table && receipts->count)
        table_print(receipts->table, stdout);
    table_free(receipts->table);
    return code;
}

/* ---------------------------------------------------------------------------------------------------------- the event */

static int show_event(const struct tool *tool, struct spool *spool, const struct spool_id *id)
{
    struct spool_event *event;
    int code = spool_find(spool, id, &event);
    if (code)
        return code;
    if (tool_wants_json(tool, false))
        code = event_print_json(stdout, event);
    else
        event_print_full(stdout, event);
    spool_event_free(event);
    return code;
}

static int show_both(const struct tool *tool, struct spool *spool, const struct spool_id *id, bool receipts_only)
{
    struct receipts receipts = {.tool = tool};
    int code = receipts_only ? SPOOL_OK : show_event(tool, spool, id);
    if (code || (!receipts_only && tool_wants_json(tool, false)))
        return code;
    if (!receipts_only)
        putchar('\n');
    code = show_receipts(&receipts, spool, id);
    if (!code && !receipts.count)
        say(tool, "no sink is registered");
    if (!code && receipts.gone && receipts.gone == receipts.count)
        say(tool, "the event is not stored any more: every sink is finished with it, or it was never here");
    return code;
}

/* What is missing may be in a journal that nobody has taken in yet. */
static void warn_of_journals(const struct tool *tool, struct spool *spool)
{
    struct spool_stats stats = SPOOL_STATS();
    if (!spool_stats(spool, &stats) && stats.dead_journals)
        say(tool, "not looked at: journals of processes that died; `spool run`, `drain` or `put` takes them in");
}

static int show_run(const struct tool *tool, void *user_args, const struct words *words)
{
    const struct show_args *args = user_args;
    struct spool *spool;
    struct spool_id id;
    int code = spool_id_parse(words->items[0], &id);
    if (code) {
        say_error(tool, code, words->items[0]);
        return TOOL_USAGE;
    }
    int status = tool_open(tool, SPOOL_READ_ONLY | SPOOL_NO_CREATE, &spool);
    if (status)
        return status;
    warn_of_journals(tool, spool);
    code = show_both(tool, spool, &id, args->receipts);
    if (code)
        status = say_error(tool, code, NULL);
    spool_close(spool);
    return status;
}

const struct tool_verb show_verb = {
    .name = "show",
    .usage = "[--receipts] ID",
    .summary = "Print one event, whole, and what became of it at each sink",
    .notes = "With -o json the event, or with --receipts an object a sink.",
    .options = show_options,
    .words_min = 1,
    .words_max = 1,
    .run = show_run,
};
