/* sink_change.c - spool sink rewind and set: where a sink stands, and its options, while it is served. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "tool.h"

enum { SET_WORDS_MAX = 64 };

/* ---------------------------------------------------------------------------------------------------------- rewind */

struct rewind_args {
    const char *to;
};

static const struct opt rewind_options[] = {
    OPT_ENTRY(struct rewind_args, 't', "to", OPT_TEXT, to, "T|ID",
              "a time (RFC 3339, or 2h ago) or the id of an event"),
    {0},
};

static int sink_rewind_run(const struct tool *tool, void *user_args, const struct words *words)
{
    const struct rewind_args *args = user_args;
    const char *name = words->items[0];
    char count[UNITS_SIZE];
    struct spool *spool;
    struct spool_id id;
    uint64_t to_ns = 0, again = 0;
    if (!args->to)
        return say_usage(tool, "where to? --to with a time or an id");
    bool is_id = spool_id_parse(args->to, &id) == SPOOL_OK;
    if (!is_id && !units_parse_when(args->to, &to_ns))
        return say_usage(tool, "--to %s: is neither a time (2026-11-21T09:34:15Z, 2h) nor the id of an event",
                         args->to);
    int status = tool_open(tool, SPOOL_NO_CREATE, &spool);
    if (status)
        return status;
    int code = spool_sink_rewind(spool, name, is_id ? 0 : to_ns ? to_ns : 1, is_id ? &id : NULL, &again);
    if (code)
        status = say_error(tool, code, NULL);
    else if (tool_wants_json(tool, false))
        json_print(json_pack("{so so}", "sink", json_text(name), "again_events", json_number(again)));
    else if (!again)
        printf("%s stays where it is: it is finished with nothing that is stored from there on\n", name);
    else
        printf("%s is rewound: it gets %s event%s again\n", name, units_count(again, count), again == 1 ? "" : "s");
    spool_close(spool);
    return status;
}

/* ------------------------------------------------------------------------------------------------------------- set */

enum value_kind { VALUE_COUNT, VALUE_MS, VALUE_BYTES };

static const struct setting {
    const char *name;
    enum value_kind kind;
    size_t offset;
    bool wide;
} settings[] = {
#define SETTING(name, kind, field, wide)                                                                               \
    {                                                                                                                  \
        name, kind, offsetof(struct spool_sink_options, field), wide                                                   \
    }
    SETTING("batch_events", VALUE_COUNT, batch_events_max, false),
    SETTING("batch_bytes", VALUE_BYTES, batch_bytes_max, false),
    SETTING("timeout", VALUE_MS, timeout_ms, false),
    SETTING("linger", VALUE_MS, linger_ms, false),
    SETTING("inflight_bytes", VALUE_BYTES, inflight_bytes_max, true),
    SETTING("max_crashes", VALUE_COUNT, max_crashes, false),
    SETTING("max_pending_bytes", VALUE_BYTES, max_pending_bytes, true),
    SETTING("max_pending_age", VALUE_MS, max_pending_age_ms, true),
    SETTING("retry.base", VALUE_MS, retry_base_ms, false),
    SETTING("retry.cap", VALUE_MS, retry_cap_ms, false),
    SETTING("retry.max_attempts", VALUE_COUNT, max_attempts, false),
    SETTING("retry.max_age", VALUE_MS, max_age_ms, true),
    SETTING("retry.rows_max", VALUE_COUNT, retry_rows_max, false),
    SETTING("retry.bytes_max", VALUE_BYTES, retry_bytes_max, true),
    SETTING("breaker.failures", VALUE_COUNT, breaker_failures, false),
    SETTING("breaker.probe_events", VALUE_COUNT, probe_events, false),
    SETTING("breaker.probes", VALUE_COUNT, probes, false),
    SETTING("dead.events_max", VALUE_COUNT, dead_events_max, false),
    SETTING("dead.bytes_max", VALUE_BYTES, dead_bytes_max, true),
    SETTING("dead.age_max", VALUE_MS, dead_age_max_ms, true),
#undef SETTING
};
enum { SETTINGS = sizeof settings / sizeof *settings };

/* "64MiB", "1GB" or a plain number. */
static bool parse_bytes(const char *text, uint64_t *ret)
{
    static const struct {
        const char *name;
        uint64_t bytes;
    } units[] = {{"", 1},          {"B", 1},         {"kB", 1000},        {"MB", 1000000},    {"GB", 1000000000},
                 {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1ull << 30}, {"TiB", 1ull << 40}};
    char number[32];
    size_t digits = strspn(text, "0123456789");
    if (!digits || digits >= sizeof number)
        return false;
    memcpy(number, text, digits);
    number[digits] = 0;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strcmp(text + digits, units[i].name) == 0)
            return units_parse_count(number, ret) && !__builtin_mul_overflow(*ret, units[i].bytes, ret);
    return false;
}

static bool parse_value(const struct setting *setting, const char *text, uint64_t *ret)
{
    bool known = setting->kind == VALUE_MS      ? units_parse_duration(text, ret)
                 : setting->kind == VALUE_BYTES ? parse_bytes(text, ret)
                                                : units_parse_count(text, ret);
    return known && *ret && (setting->wide || *ret <= UINT32_MAX);
}

/* What else a sink has. */
static const char *const by_sink_add[] = {"order", "workers", "filter", "plugin", "from_now", "kind", "name", NULL};

/* A plain number is milliseconds in spool.json and seconds on this command line: who means which is not to be guessed. */
static bool lacks_unit(const struct setting *setting, const char *text)
{
    return setting->kind == VALUE_MS && *text && !text[strspn(text, "0123456789")];
}

static int bad_setting(const struct tool *tool, const struct setting *setting, const char *text)
{
    static const char *const expected[] = {[VALUE_COUNT] = "a whole number above 0",
                                           [VALUE_MS] = "a duration above 0, such as 500ms or 5m",
                                           [VALUE_BYTES] = "a size above 0, such as 65536 or 64KiB"};
    if (lacks_unit(setting, text))
        return say_usage(tool, "%s=%s: of what? Give a unit, as in %ss or %sms", setting->name, text, text, text);
    return say_usage(tool, "%s=%s: must be %s", setting->name, text, expected[setting->kind]);
}

static int unknown_setting(const struct tool *tool, const char *name)
{
    const char *names[SETTINGS + 1] = {NULL};
    for (size_t i = 0; i < SETTINGS; i++)
        names[i] = settings[i].name;
    const char *nearest = args_nearest(name, names);
    for (const char *const *fixed = by_sink_add; *fixed; fixed++)
        if (strcmp(name, *fixed) == 0)
            return say_usage(tool, "%s: is changed by spool sink add with the same name, or in the file of run -c",
                             name);
    return say_usage(tool, "%s: there is no such setting%s%s%s", name, nearest ? "; did you mean " : "",
                     nearest ? nearest : "", nearest ? "?" : "");
}

static int take_setting(const struct tool *tool, const char *word, struct spool_sink_options *options)
{
    char name[64];
    size_t size = strcspn(word, "="), i = 0;
    uint64_t value = 0;
    if (!word[size] || !size || size >= sizeof name)
        return say_usage(tool, "%s: a setting is KEY=VALUE, like retry.cap=5m", word);
    memcpy(name, word, size);
    name[size] = 0;
    while (i < SETTINGS && strcmp(settings[i].name, name) != 0)
        i++;
    if (i == SETTINGS)
        return unknown_setting(tool, name);
    if (lacks_unit(&settings[i], word + size + 1) || !parse_value(&settings[i], word + size + 1, &value))
        return bad_setting(tool, &settings[i], word + size + 1);
    uint32_t narrow = (uint32_t)value;
    char *field = (char *)options + settings[i].offset;
    if (settings[i].wide)
        memcpy(field, &value, sizeof value);
    else
        memcpy(field, &narrow, sizeof narrow);
    return TOOL_DONE;
}

static int sink_set_run(const struct tool *tool, void *args, const struct words *words)
{
    struct spool_sink_options options = {.size = sizeof options};
    const char *name = words->items[0];
    struct spool *spool;
    int status = TOOL_DONE;
    (void)args;
    for (size_t i = 1; i < words->count && !status; i++)
        status = take_setting(tool, words->items[i], &options);
    if (!status)
        status = tool_open(tool, SPOOL_NO_CREATE, &spool);
    if (status)
        return status;
    int code = spool_sink_set_options(spool, name, &options);
    if (code)
        status = say_error(tool, code, NULL);
    else if (tool_wants_json(tool, false))
        json_print(json_pack("{so ss}", "sink", json_text(name), "result", "changed"));
    else
        printf("%s is changed: in force at once where it is served\n", name);
    spool_close(spool);
    return status;
}

const struct tool_verb sink_rewind_verb = {
    .name = "sink rewind",
    .usage = "NAME --to T|ID",
    .summary = "Deliver to a sink again, from a time or an event on",
    .notes = "As far back as events are stored. Nothing is skipped: a sink that is further back stays there.",
    .options = rewind_options,
    .words_min = 1,
    .words_max = 1,
    .run = sink_rewind_run,
};
const struct tool_verb sink_set_verb = {
    .name = "sink set",
    .usage = "NAME KEY=VALUE ...",
    .summary = "Change a sink's options while it is served",
    .notes = "Keys as in spool.json: timeout, linger, batch_events, batch_bytes, inflight_bytes, max_crashes,\n"
             "max_pending_bytes, max_pending_age, retry.base, retry.cap, retry.max_attempts, retry.max_age,\n"
             "retry.rows_max, retry.bytes_max, breaker.failures, breaker.probe_events, breaker.probes,\n"
             "dead.events_max, dead.bytes_max, dead.age_max. Durations have a unit: 500ms, 5s, 10m.",
    .words_min = 2,
    .words_max = SET_WORDS_MAX,
    .run = sink_set_run,
};
