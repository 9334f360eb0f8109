/* sinks.c - spool sink add, remove, pause and resume. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "output.h"
#include "survey.h"
#include "tool.h"

enum { SINK_WORDS_MAX = 64 };

struct sink_args {
    int order; /* enum spool_order */
    bool from_now, force;
    const char *filter, *plugin, *resources;
    struct opt_number linger;
};

static const char *const orders[] = {"none", "agent", "lane", NULL}; /* as enum spool_order */

static const struct opt sink_add_options[] = {
    {0, "order", OPT_CHOICE, offsetof(struct sink_args, order), "O",
     "none (default, fastest), agent or lane: what arrives in the order it was put", orders},
    OPT_ENTRY(struct sink_args, 0, "filter", OPT_TEXT, filter, "JSON",
              "which events it gets: {\"include\": {\"type\": \"log.*\"}, \"exclude\": {\"tag\": \"debug\"}}"),
    OPT_ENTRY(struct sink_args, 0, "resources", OPT_TEXT, resources, "NAMES",
              "what each batch needs besides a worker, of what sinks and operations share: \"gpu, api*2\""),
    OPT_ENTRY(struct sink_args, 0, "linger", OPT_DURATION, linger, "TIME",
              "a batch that is not full waits up to that long for more"),
    OPT_ENTRY(struct sink_args, 0, "plugin", OPT_TEXT, plugin, "PATH",
              "the plugin's file (default: searched by KIND, see spool sink kinds)"),
    {0, "from-now", OPT_FLAG, offsetof(struct sink_args, from_now), NULL,
     "a new sink begins with what comes now, not with the oldest event there is", NULL},
    {0},
};

static const struct opt sink_remove_options[] = {
    {'f', "force", OPT_FLAG, offsetof(struct sink_args, force), NULL, "do not ask", NULL},
    {0},
};

/* Answers a verb: `text` for people, the same as an object for programs. */
static void print_done(const struct tool *tool, const char *name, const char *text, const char *done)
{
    if (tool_wants_json(tool, false))
        json_print(json_pack("{so ss}", "sink", json_text(name), "result", done));
    else
        printf("%s %s\n", name, text);
}

/* ---------------------------------------------------------------------------------------------------------- add */

/* A value that is JSON is taken as that, any other as a string: rotate_bytes=1048576, path=events.jsonl. */
static json_t *setting_value(const char *text)
{
    json_t *value = json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    return value ? value : json_string(text);
}

static int add_setting(const struct tool *tool, json_t *config, const char *word)
{
    const char *equals = strchr(word, '=');
    if (!equals || equals == word)
        return say_usage(tool, "%s: a setting is KEY=VALUE, like path=events.jsonl", word);
    char *key = tool_format("%.*s", (int)(equals - word), word);
    int status = TOOL_DONE;
    if (json_object_get(config, key))
        status = say_usage(tool, "%s is given twice", key);
    else if (json_object_set_new(config, key, setting_value(equals + 1)))
        status = say_usage(tool, "%s: is not valid UTF-8", word);
    free(key);
    return status;
}

/* The configuration as JSON text, from the words behind NAME and KIND. NULL: *ret_status says why. */
static char *make_config(const struct tool *tool, const struct words *words, int *ret_status)
{
    json_t *config = json_object();
    *ret_status = TOOL_DONE;
    for (size_t i = 2; i < words->count && !*ret_status; i++)
        *ret_status = add_setting(tool, config, words->items[i]);
    char *text = *ret_status ? NULL : json_dumps(config, JSON_COMPACT);
    json_decref(config);
    return text;
}

static bool is_known(struct spool *spool, const char *name)
{
    struct survey survey;
    if (survey_take(spool, &survey))
        return false;
    bool known = survey_find(&survey, name) != NULL;
    survey_free(&survey);
    return known;
}

/* What comes of it for the events. */
static const char *held_from(bool known, bool from_now)
{
    if (known)
        return "was known: it goes on where it is, with these settings";
    return from_now ? "is registered: events are held for it from now on"
                    : "is registered: events are held for it, from the oldest there is";
}

static int sink_add(const struct tool *tool, const struct sink_args *args, char **items, const char *config)
{
    struct spool *spool;
    int status = tool_open(tool, 0, &spool);
    if (status)
        return status;
    struct spool_sink_options options =
        SPOOL_SINK_OPTIONS(.order = (enum spool_order)args->order, .flags = args->from_now ? SPOOL_SINK_FROM_NOW : 0,
                           .filter = args->filter, .plugin = args->plugin, .resources = args->resources,
                           .linger_ms = args->linger.value < UINT32_MAX ? (uint32_t)args->linger.value : UINT32_MAX);
    bool known = is_known(spool, items[0]);
    int code = spool_sink_load(spool, items[0], items[1], config, &options);
    if (code == SPOOL_ENOTFOUND || code == SPOOL_ECONFIG || code == SPOOL_EINVAL)
        status =
            say_usage(tool, "%s", spool_last_error()); /* name, kind or setting: a wrong word, nothing that failed */
    else if (code)
        status = say_error(tool, code, items[0]);
    else
        print_done(tool, items[0], held_from(known, args->from_now), "registered");
    spool_close(spool);
    return status;
}

static int sink_add_run(const struct tool *tool, void *args, const struct words *words)
{
    int status;
    char *config = make_config(tool, words, &status);
    if (!status)
        status = sink_add(tool, args, words->items, config);
    free(config);
    return status;
}

/* ------------------------------------------------------------------------------------------------------- remove */

static bool confirmed(const char *name, uint64_t pending)
{
    char count[UNITS_SIZE], answer[16] = "";
    fprintf(stderr, "%s still holds %s undelivered event%s; what only it holds is lost. Remove it? [y/N] ", name,
            units_count(pending, count), pending == 1 ? "" : "s");
    return fgets(answer, sizeof answer, stdin) && (*answer == 'y' || *answer == 'Y');
}

/* What the sink would leave undelivered, and whether another process delivers to it. */
static int look_at(struct spool *spool, const char *name, uint64_t *ret_pending, bool *ret_served)
{
    struct survey survey;
    int code = survey_take(spool, &survey);
    if (code)
        return code;
    const struct spool_sink_info *sink = survey_find(&survey, name);
    *ret_pending = sink ? sink->pending_events : 0;
    *ret_served = sink && sink->state == SPOOL_SINK_ELSEWHERE;
    survey_free(&survey);
    return SPOOL_OK;
}

static int sink_remove(const struct tool *tool, const struct sink_args *args, struct spool *spool, const char *name)
{
    uint64_t pending = 0;
    bool served = false;
    char count[UNITS_SIZE];
    int code = look_at(spool, name, &pending, &served);
    bool ask = !code && pending && !args->force && isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
    if (ask && !confirmed(name, pending)) {
        say(tool, "%s is kept", name);
        return TOOL_FAILED;
    }
    if (!code && served)
        say(tool, "another process delivers to %s, and is asked to let go of it", name);
    if (!code)
        code = spool_sink_remove(spool, name);
    if (code)
        return say_error(tool, code, NULL);
    char *text = pending ? tool_format("is removed, with %s undelivered event%s", units_count(pending, count),
                                       pending == 1 ? "" : "s")
                         : tool_format("is removed");
    print_done(tool, name, text, "removed");
    free(text);
    return TOOL_DONE;
}

static int sink_remove_run(const struct tool *tool, void *args, const struct words *words)
{
    struct spool *spool;
    int status = tool_open(tool, SPOOL_NO_CREATE, &spool);
    if (status)
        return status;
    status = sink_remove(tool, args, spool, words->items[0]);
    spool_close(spool);
    return status;
}

/* ---------------------------------------------------------------------------------------------- pause and resume */

static int sink_set_paused(const struct tool *tool, const char *name, bool pause)
{
    struct spool *spool;
    int status = tool_open(tool, SPOOL_NO_CREATE, &spool);
    if (status)
        return status;
    int code = pause ? spool_sink_pause(spool, name) : spool_sink_resume(spool, name);
    if (code)
        status = say_error(tool, code, NULL);
    else
        print_done(tool, name, pause ? "is paused: its events wait until spool sink resume" : "goes on",
                   pause ? "paused" : "resumed");
    spool_close(spool);
    return status;
}

static int sink_pause_run(const struct tool *tool, void *args, const struct words *words)
{
    (void)args;
    return sink_set_paused(tool, words->items[0], true);
}

static int sink_resume_run(const struct tool *tool, void *args, const struct words *words)
{
    (void)args;
    return sink_set_paused(tool, words->items[0], false);
}

const struct tool_verb sink_add_verb = {
    .name = "sink add",
    .usage = "[options] NAME KIND [KEY=VALUE ...]",
    .summary = "Register a sink, so that every event is held for it until it has accepted it",
    .notes =
        "spool sink kinds lists the kinds and their settings, such as path=events-%Y%m%d.jsonl. A password is never\n"
        "given itself, but as password={\"env\":\"NAME\"} or {\"file\":\"/PATH\"}.\n"
        "A name that is known goes on where it is, with the new settings.",
    .options = sink_add_options,
    .words_min = 2,
    .words_max = SINK_WORDS_MAX,
    .run = sink_add_run,
};
const struct tool_verb sink_remove_verb = {
    .name = "sink remove",
    .usage = "[-f] NAME",
    .summary = "Forget a sink; what only it held is gone, its dead letters stay",
    .notes = "Whoever delivers to it lets go of it first. Where that takes more than 5 seconds the exit status is 1,\n"
             "and it is removed as soon as that happens.",
    .options = sink_remove_options,
    .words_min = 1,
    .words_max = 1,
    .run = sink_remove_run,
};
const struct tool_verb sink_pause_verb = {
    .name = "sink pause",
    .usage = "NAME",
    .summary = "Deliver nothing to a sink until it is resumed; its events are held",
    .words_min = 1,
    .words_max = 1,
    .run = sink_pause_run,
};
const struct tool_verb sink_resume_verb = {
    .name = "sink resume",
    .usage = "NAME",
    .summary = "Deliver to a paused sink again",
    .words_min = 1,
    .words_max = 1,
    .run = sink_resume_run,
};
