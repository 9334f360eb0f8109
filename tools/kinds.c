/* kinds.c - spool sink kinds: what can be loaded and how it is set up; spool sink test: a probe. */
#include <stdio.h>
#include <string.h>

#include "output.h"
#include "tool.h"

/* ---------------------------------------------------------------------------------------------------------- kinds */

struct listing {
    const struct tool *tool;
    const char *only; /* a kind, or NULL */
    bool found, failed;
};

static json_t *settings_json(const struct spool_sink_setting *setting)
{
    json_t *array = json_array();
    for (; setting->key; setting++)
        json_array_append_new(array, json_pack("{so so so}", "key", json_text(setting->key), "value",
                                               json_text(setting->value), "summary", json_text(setting->summary)));
    return array;
}

static void print_kind_json(const struct spool_sink_kind *kind)
{
    json_t *object = json_object();
    json_set(object, "kind", json_text(kind->kind));
    json_set(object, "file", kind->file ? json_text(kind->file) : json_null());
    json_set(object, "summary", json_text(kind->summary));
    json_set(object, "settings", settings_json(kind->settings));
    json_set(object, "problem", kind->problem ? json_text(kind->problem) : json_null());
    json_print(object);
}

static void print_text(const char *text)
{
    text_print(stdout, text, strlen(text), SIZE_MAX);
}

static int wider(int width, const char *text)
{
    int size = (int)strlen(text);
    return size > width ? size : width;
}

static void print_kind(const struct spool_sink_kind *kind)
{
    print_text(kind->kind);
    printf("%*s", (int)(strlen(kind->kind) < 12 ? 12 - strlen(kind->kind) : 1), "");
    print_text(kind->problem ? "cannot be loaded: " : kind->summary);
    print_text(kind->problem ? kind->problem : "");
    putchar('\n');
    int key_width = 0, value_width = 0;
    for (const struct spool_sink_setting *setting = kind->settings; setting->key; setting++) {
        key_width = wider(key_width, setting->key);
        value_width = wider(value_width, setting->value);
    }
    for (const struct spool_sink_setting *setting = kind->settings; setting->key; setting++) {
        printf("  %-*s  %-*s  ", key_width, setting->key, value_width, setting->value);
        print_text(setting->summary);
        putchar('\n');
    }
}

static int list_kind(void *user, const struct spool_sink_kind *kind)
{
    struct listing *listing = user;
    if (listing->only && strcmp(listing->only, kind->kind) != 0)
        return 0;
    listing->found = true;
    listing->failed |= kind->problem != NULL;
    if (tool_wants_json(listing->tool, false))
        print_kind_json(kind);
    else
        print_kind(kind);
    return 0;
}

static int sink_kinds_run(const struct tool *tool, void *args, const struct words *words)
{
    struct listing listing = {.tool = tool, .only = words->count ? words->items[0] : NULL};
    (void)args;
    int code = spool_sink_kind_each(list_kind, &listing);
    if (code)
        return say_error(tool, code, NULL);
    if (!listing.found) {
        say(tool, "there is no kind \"%s\" in the library nor in the folders of plugins (SPOOL_SINK_PATH)",
            listing.only);
        return TOOL_NOTHING;
    }
    return listing.failed ? TOOL_FAILED : TOOL_DONE;
}

/* ----------------------------------------------------------------------------------------------------------- test */

struct test_args {
    struct opt_number timeout;
};

static const struct opt sink_test_options[] = {
    OPT_ENTRY(struct test_args, 't', "timeout", OPT_DURATION, timeout, "TIME",
              "how long to wait for the answer; default 10s"),
    {0},
};

static int sink_test_run(const struct tool *tool, void *args, const struct words *words)
{
    const struct test_args *given = args;
    struct spool *spool;
    uint64_t timeout_ms = given->timeout.given ? given->timeout.value : 10000;
    int status = tool_open(tool, SPOOL_NO_CREATE, &spool);
    if (status)
        return status;
    int code = spool_sink_test(spool, words->items[0], timeout_ms < UINT32_MAX ? (uint32_t)timeout_ms : UINT32_MAX);
    if (code)
        status = say_error(tool, code, NULL);
    else if (tool_wants_json(tool, false))
        json_print(json_pack("{so ss}", "sink", json_text(words->items[0]), "result", "delivered"));
    else
        printf("%s accepted an event of type spool.probe\n", words->items[0]);
    spool_close(spool);
    return status;
}

const struct tool_verb sink_kinds_verb = {
    .name = "sink kinds",
    .usage = "[KIND]",
    .summary = "List the kinds of sinks there are, and the settings of each",
    .notes = "Plugins are searched in the folders of SPOOL_SINK_PATH and in the installed folder, see spool-sink(7).",
    .words_max = 1,
    .run = sink_kinds_run,
};
const struct tool_verb sink_test_verb = {
    .name = "sink test",
    .usage = "[-t TIME] NAME",
    .summary = "Send one event of type spool.probe to a sink, beside the spool, and say what it answers",
    .options = sink_test_options,
    .words_min = 1,
    .words_max = 1,
    .run = sink_test_run,
};
