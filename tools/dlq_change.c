/* dlq_change.c - spool dlq requeue, edit, purge and import: what becomes of events that a sink gave up. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dlq.h"
#include "output.h"
#include "tool.h"

enum { IDS_MAX = 1000 };

struct dlq_args {
    const char *sink, *to, *body, *event;
    bool all, force, to_all;
};

#define OPT(...) OPT_ENTRY(struct dlq_args, __VA_ARGS__)
#define SINK_OPTION OPT('s', "sink", OPT_TEXT, sink, "S", "only those of that sink")
#define ALL_OPTION OPT(0, "all", OPT_FLAG, all, NULL, "all of them")

static const struct opt dlq_requeue_options[] = {
    SINK_OPTION,
    ALL_OPTION,
    OPT(0, "to", OPT_TEXT, to, "SINK", "to that sink instead of the one that gave them up"),
    OPT(0, "to-all", OPT_FLAG, to_all, NULL, "to every registered sink"),
    {0},
};
static const struct opt dlq_purge_options[] = {
    SINK_OPTION, ALL_OPTION, OPT('f', "force", OPT_FLAG, force, NULL, "do not ask"), {0}};
static const struct opt dlq_edit_options[] = {
    SINK_OPTION,
    OPT('b', "body", OPT_TEXT, body, "B", "the new body; all else stays"),
    OPT('e', "event", OPT_TEXT, event, "JSON", "the whole event, in the form of `spool cat`"),
    {0},
};

/* --------------------------------------------------------------------------------------------- requeue and purge */

typedef int (*dlq_change)(struct spool *spool, const char *sink, const struct spool_id *id, uint64_t *ret_n);

/* What spool dlq requeue does beyond the library's plain call. */
static const char *requeue_to; /* NULL: all sinks */

static int requeue_elsewhere(struct spool *spool, const char *sink, const struct spool_id *id, uint64_t *ret_n)
{
    return spool_dead_requeue_to(spool, sink, id, requeue_to, ret_n);
}

static int check_selection(const struct tool *tool, const struct dlq_args *args, const struct words *words)
{
    struct spool_id id;
    if (args->all && words->count)
        return say_usage(tool, "either ids or --all");
    if (!args->all && !words->count)
        return say_usage(tool, "which? Give ids (spool dlq list shows them), or --all");
    for (size_t i = 0; i < words->count; i++)
        if (dlq_parse_id(tool, words->items[i], &id))
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

static int dlq_requeue_run(const struct tool *tool, void *user_args, const struct words *words)
{
    const struct dlq_args *args = user_args;
    if (args->to && args->to_all)
        return say_usage(tool, "either --to or --to-all");
    requeue_to = args->to;
    bool elsewhere = args->to || args->to_all;
    return dlq_change_run(tool, args, words, elsewhere ? requeue_elsewhere : spool_dead_requeue, "requeued");
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

/* ------------------------------------------------------------------------------------------------------------- edit */

/* The event with another body; the content type stays. */
static int edit_body(const struct tool *tool, struct spool *spool, const struct dlq_args *args,
                     const struct spool_dead_letter *letter)
{
    struct spool_event event = *letter->event;
    json_error_t wrong;
    json_t *value = json_loads(args->body, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &wrong);
    json_decref(value);
    if (!value && strcmp(event.content_type, "application/json") == 0) {
        say(tool, "the body is not the JSON that its content type says, column %d: %s; --event can change that, too",
            wrong.column, wrong.text);
        return TOOL_FAILED;
    }
    event.body = args->body;
    event.body_size = strlen(args->body);
    int code = spool_dead_edit(spool, args->sink, letter->event->id, &event, NULL);
    return code ? say_error(tool, code, NULL) : TOOL_DONE;
}

static int edit_event(const struct tool *tool, struct spool *spool, const struct dlq_args *args,
                      const struct spool_dead_letter *letter, const char *json)
{
    struct spool_event *event = NULL;
    int code = spool_event_from_json(json, strlen(json), &event);
    if (!code)
        code = spool_dead_edit(spool, args->sink, letter->event->id, event, NULL);
    spool_event_free(event);
    return code ? say_error(tool, code, "the edited event") : TOOL_DONE;
}

/* All of a file, with a NUL behind it; NULL: errno. */
static char *read_all(FILE *file)
{
    size_t size = 0, room = 1 << 16;
    char *text = tool_alloc(1, room);
    for (size_t n; (n = fread(text + size, 1, room - size - 1, file)) > 0;) {
        size += n;
        if (room - size > 1)
            continue;
        char *larger = tool_alloc(2, room);
        memcpy(larger, text, size);
        free(text);
        text = larger;
        room *= 2;
    }
    text[size] = 0;
    if (!ferror(file))
        return text;
    free(text);
    return NULL;
}

static int run_editor(const struct tool *tool, const char *path)
{
    const char *editor = getenv("VISUAL");
    editor = editor && *editor ? editor : getenv("EDITOR");
    char *command = tool_format("%s \"$1\"", editor && *editor ? editor : "vi");
    pid_t child = fork();
    if (child == 0) {
        execl("/bin/sh", "sh", "-c", command, "sh", path, (char *)NULL);
        _exit(127);
    }
    int ended = 0;
    while (child > 0 && waitpid(child, &ended, 0) < 0 && errno == EINTR) {
    }
    bool fine = child > 0 && WIFEXITED(ended) && WEXITSTATUS(ended) == 0;
    if (!fine)
        say(tool, "the editor (%s) failed: nothing is changed", command);
    free(command);
    return fine ? TOOL_DONE : TOOL_FAILED;
}

/* What the user makes of `json` in a file of his own; NULL: *ret_status says why. */
static char *edit_in_file(const struct tool *tool, const char *json, int *ret_status)
{
    const char *base = getenv("TMPDIR");
    char *path = tool_format("%s/spool-edit-XXXXXX", base && *base ? base : "/tmp"), *text = NULL;
    int fd = mkstemp(path);
    FILE *file = fd >= 0 ? fdopen(fd, "r+") : NULL;
    bool written = file && fputs(json, file) >= 0 && fputc('\n', file) != EOF && fflush(file) == 0;
    if (!written)
        say(tool, "%s: %s", path, strerror(errno));
    *ret_status = written ? run_editor(tool, path) : TOOL_FAILED;
    FILE *again = *ret_status ? NULL : fopen(path, "re"); /* an editor may have replaced it */
    text = again ? read_all(again) : NULL;
    if (again)
        fclose(again);
    if (file)
        fclose(file);
    if (fd >= 0)
        unlink(path);
    if (!*ret_status && !text)
        *ret_status = TOOL_FAILED;
    free(path);
    return text;
}

/* With an editor on a terminal, otherwise from standard input. */
static int edit_by_hand(const struct tool *tool, struct spool *spool, const struct dlq_args *args,
                        const struct spool_dead_letter *letter)
{
    char *json = NULL, *text;
    int status = TOOL_DONE, code = spool_event_to_json(letter->event, NULL, &json, NULL);
    if (code)
        return say_error(tool, code, NULL);
    text = isatty(STDIN_FILENO) ? edit_in_file(tool, json, &status) : read_all(stdin);
    if (!status && !text)
        status = TOOL_FAILED;
    if (!status)
        status = edit_event(tool, spool, args, letter, text);
    free(text);
    spool_free(json);
    return status;
}

static int dlq_edit(const struct tool *tool, struct spool *spool, const struct dlq_args *args,
                    const struct spool_id *id)
{
    struct spool_dead_letter *letter;
    int status, code = spool_dead_get(spool, args->sink, id, &letter);
    if (code)
        return say_error(tool, code, NULL);
    if (args->body)
        status = edit_body(tool, spool, args, letter);
    else if (args->event)
        status = edit_event(tool, spool, args, letter, args->event);
    else
        status = edit_by_hand(tool, spool, args, letter);
    spool_dead_letter_free(letter);
    return status;
}

static int dlq_edit_run(const struct tool *tool, void *user_args, const struct words *words)
{
    const struct dlq_args *args = user_args;
    struct spool *spool;
    struct spool_id id;
    if (args->body && args->event)
        return say_usage(tool, "either --body or --event");
    int status = dlq_parse_id(tool, words->items[0], &id);
    if (!status)
        status = tool_open(tool, SPOOL_NO_CREATE, &spool);
    if (status)
        return status;
    status = dlq_edit(tool, spool, args, &id);
    if (!status && tool_wants_json(tool, false))
        json_print(json_pack("{ss ss}", "id", words->items[0], "result", "edited"));
    else if (!status)
        printf("%s is edited: spool dlq requeue %s\n", words->items[0], words->items[0]);
    spool_close(spool);
    return status;
}

/* ----------------------------------------------------------------------------------------------------------- import */

/* Line by line; the first failure is the exit status, the others are done nevertheless. */
static int import_lines(const struct tool *tool, struct spool *spool, uint64_t *ret_n)
{
    char *line = NULL;
    size_t room = 0;
    int status = TOOL_DONE;
    uint64_t number = 0;
    for (ssize_t size; (size = getline(&line, &room, stdin)) >= 0;) {
        number++;
        while (size > 0 && (line[size - 1] == '\n' || line[size - 1] == '\r'))
            size--;
        int code = size ? spool_dead_import(spool, line, (size_t)size) : SPOOL_OK;
        if (code) {
            char *what = tool_format("line %llu", (unsigned long long)number);
            int failed = say_error(tool, code, what);
            status = status ? status : failed;
            free(what);
        } else {
            *ret_n += size > 0;
        }
    }
    if (ferror(stdin)) {
        say(tool, "standard input: %s", strerror(errno));
        status = TOOL_FAILED;
    }
    free(line);
    return status;
}

static int dlq_import_run(const struct tool *tool, void *args, const struct words *words)
{
    struct spool *spool;
    uint64_t n = 0;
    (void)args, (void)words;
    int status = tool_open(tool, 0, &spool);
    if (status)
        return status;
    status = import_lines(tool, spool, &n);
    print_changed(tool, "imported", n);
    spool_close(spool);
    return status;
}

const struct tool_verb dlq_requeue_verb = {
    .name = "dlq requeue",
    .usage = "[--sink S] [--to SINK | --to-all] {ID ... | --all}",
    .summary = "Deliver dead letters again, with their attempts at zero",
    .notes =
        "Each goes back to its sink; with --to to another one instead, with --to-all to every one there is. Another\n"
        "sink may have had the event already.",
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
const struct tool_verb dlq_edit_verb = {
    .name = "dlq edit",
    .usage = "[--sink S] [--body B | --event JSON] ID",
    .summary = "Replace the event of a dead letter, which keeps its id and history",
    .notes =
        "Without --body and --event: in $VISUAL or $EDITOR on a terminal, else the event is read from standard input.",
    .options = dlq_edit_options,
    .words_min = 1,
    .words_max = 1,
    .run = dlq_edit_run,
};
const struct tool_verb dlq_import_verb = {
    .name = "dlq import",
    .usage = "< FILE",
    .summary = "Add dead letters that spool dlq export has printed",
    .run = dlq_import_run,
};
