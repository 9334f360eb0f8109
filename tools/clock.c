/* clock.c - spool clock: what each source of time says, side by side, and what follows from it; and spool clock reset. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "tool.h"

struct clock_args {
    struct opt_list servers;
    const char *config;
    struct opt_number timeout;
};

enum { TIMEOUT_DEFAULT_MS = 5000 };

#define OPT(...) OPT_ENTRY(struct clock_args, __VA_ARGS__)
static const struct opt clock_options[] = {
    OPT(0, "server", OPT_LIST, servers, "HOST", "also ask that SNTP server, HOST or HOST:PORT; may be repeated"),
    OPT('c', "config", OPT_TEXT, config, "FILE", "also ask the servers in the clock section of that configuration"),
    OPT(0, "timeout", OPT_DURATION, timeout, "T", "for all answers together (default: 5s)"),
    {0},
};

/* ---------------------------------------------------------------------------------------------------------- asking */

/* A whole section of the file as text for the library. */
static int configure(const struct tool *tool, struct spool *spool, const char *path)
{
    json_error_t error;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (!root) {
        say(tool, "%s, line %d: %s", path, error.line, error.text);
        return TOOL_FAILED;
    }
    const json_t *section = json_object_get(root, "clock");
    char *text = section ? json_dumps(section, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    int code = text ? spool_clock_configure(spool, text) : SPOOL_OK;
    free(text);
    json_decref(root);
    return code ? say_error(tool, code, path) : TOOL_DONE;
}

static int add_servers(const struct tool *tool, struct spool *spool, const struct opt_list *servers)
{
    for (size_t i = 0; i < servers->count; i++) {
        int code = spool_clock_source_add_sntp(spool, servers->items[i], NULL);
        if (code == SPOOL_EINVAL)
            return say_usage(tool, "%s", spool_last_error());
        if (code && code != SPOOL_EEXISTS)
            return say_error(tool, code, NULL);
    }
    return TOOL_DONE;
}

static int ask(const struct tool *tool, struct spool *spool, const struct clock_args *args)
{
    int status = args->config ? configure(tool, spool, args->config) : TOOL_DONE;
    if (!status)
        status = add_servers(tool, spool, &args->servers);
    if (status)
        return status;
    uint64_t ms = args->timeout.given ? args->timeout.value : TIMEOUT_DEFAULT_MS;
    int code = spool_clock_calibrate(spool, ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX);
    if (code == SPOOL_ETIMEOUT)
        say(tool, "%s", spool_last_error()); /* what the others said is worth showing */
    return code && code != SPOOL_ETIMEOUT ? say_error(tool, code, NULL) : TOOL_DONE;
}

/* --------------------------------------------------------------------------------------------------------- for people */

static char *signed_seconds(int64_t ns, char ret[UNITS_SIZE])
{
    snprintf(ret, UNITS_SIZE, "%+.6f s", (double)ns / 1e9);
    return ret;
}

static char *error_seconds(uint64_t ns, char ret[UNITS_SIZE])
{
    if (ns == SPOOL_CLOCK_UNKNOWN)
        snprintf(ret, UNITS_SIZE, "unknown");
    else
        snprintf(ret, UNITS_SIZE, "%.6f s", (double)ns / 1e9);
    return ret;
}

static int row_of(void *user, const struct spool_clock_source_info *info)
{
    struct table *table = user;
    char text[UNITS_SIZE];
    table_cell(table, "%s", info->chosen ? "*" : "");
    table_cell(table, "%s", info->name);
    table_cell(table, "%s", info->kind);
    table_cell(table, "%s", info->answered ? signed_seconds(info->offset_ns, text) : "-");
    table_cell(table, "%s", info->answered ? error_seconds(info->error_ns, text) : "-");
    table_cell(table, "%s", info->answered ? units_span(info->age_ms * 1000000u, text) : "-");
    table_cell(table, "%s", spool_clock_verdict_name(info->verdict));
    table_cell(table, "%s", info->last_error);
    return 0;
}

static int print_sources(struct spool *spool)
{
    static const char *const titles[] = {"", "source", "kind", ">offset", ">error", ">age", "verdict", ""};
    struct table *table = table_new(titles, sizeof titles / sizeof *titles);
    int code = spool_clock_source_each(spool, row_of, table);
    if (!code)
        table_print(table, stdout);
    table_free(table);
    return code;
}

static void print_flags(uint32_t flags)
{
    if (flags & SPOOL_CLOCK_UNSET)
        puts("the wall clock was never set: it is before 2026");
    if (flags & SPOOL_CLOCK_PAUSED)
        puts("the wall clock jumped forward and is not followed; nothing expires: spool clock reset follows it");
    if (flags & SPOOL_CLOCK_LEAP_INSERT)
        puts("the UTC day ends with a leap second");
    if (flags & SPOOL_CLOCK_LEAP_DELETE)
        puts("the UTC day ends a second early");
}

static void print_reading(const struct spool_clock_reading *r)
{
    char time[UNITS_SIZE], error[UNITS_SIZE], offset[UNITS_SIZE];
    printf("\n%s: %s", spool_clock_status_name(r->status), units_time(r->time_ns, 6, time));
    if (r->error_ns == SPOOL_CLOCK_UNKNOWN)
        puts(", and nobody says how far that may be wrong");
    else
        printf(" +- %s, the wall clock is off by %s\n", error_seconds(r->error_ns, error),
               signed_seconds(-r->wall_offset_ns, offset));
    printf("%u of %u independent sources agree, confidence %.3f", r->agreeing, r->voting, r->confidence);
    if (r->tai_offset_s)
        printf(", TAI is UTC %+d s", (int)r->tai_offset_s);
    putchar('\n');
    print_flags(r->flags);
}

/* ------------------------------------------------------------------------------------------------------ for programs */

static json_t *error_json(uint64_t error_ns)
{
    return error_ns == SPOOL_CLOCK_UNKNOWN ? json_null() : json_number(error_ns);
}

static int json_of(void *user, const struct spool_clock_source_info *info)
{
    (void)user;
    json_t *o = json_object();
    json_set(o, "source", json_text(info->name));
    json_set(o, "kind", json_text(info->kind));
    json_set(o, "verdict", json_text(spool_clock_verdict_name(info->verdict)));
    json_set(o, "chosen", json_boolean(info->chosen));
    json_set(o, "offset_ns", info->answered ? json_integer(info->offset_ns) : json_null());
    json_set(o, "error_ns", info->answered ? error_json(info->error_ns) : json_null());
    json_set(o, "age_ms", info->answered ? json_number(info->age_ms) : json_null());
    json_set(o, "stratum", info->stratum ? json_number(info->stratum) : json_null());
    json_set(o, "preference", json_number(info->preference));
    json_set(o, "poll_interval_ms", json_number(info->poll_interval_ms));
    json_set(o, "answers", json_number(info->answers));
    json_set(o, "failures", json_number(info->failures));
    json_set(o, "last_error", json_text(info->last_error));
    json_print(o);
    return 0;
}

static void print_reading_json(const struct spool_clock_reading *r)
{
    bool known = r->error_ns != SPOOL_CLOCK_UNKNOWN;
    char stamp[SPOOL_ID_TEXT_SIZE];
    json_t *o = json_object();
    json_set(o, "status", json_text(spool_clock_status_name(r->status)));
    json_set(o, "stamp", json_text(spool_id_format(&r->stamp, stamp)));
    json_set(o, "time", json_time(r->time_ns));
    json_set(o, "earliest", known ? json_time(r->earliest_ns) : json_null());
    json_set(o, "latest", known ? json_time(r->latest_ns) : json_null());
    json_set(o, "error_ns", error_json(r->error_ns));
    json_set(o, "wall_offset_ns", json_integer(r->wall_offset_ns));
    json_set(o, "confidence", json_real(r->confidence));
    json_set(o, "voting", json_number(r->voting));
    json_set(o, "agreeing", json_number(r->agreeing));
    json_set(o, "paused", json_boolean(r->flags & SPOOL_CLOCK_PAUSED));
    json_set(o, "unset", json_boolean(r->flags & SPOOL_CLOCK_UNSET));
    json_set(o, "leap",
             json_integer(r->flags & SPOOL_CLOCK_LEAP_INSERT   ? 1
                          : r->flags & SPOOL_CLOCK_LEAP_DELETE ? -1
                                                               : 0));
    json_set(o, "tai_offset_s", r->tai_offset_s ? json_integer(r->tai_offset_s) : json_null());
    json_print(o);
}

/* ----------------------------------------------------------------------------------------------------------- verbs */

static int show(const struct tool *tool, struct spool *spool)
{
    struct spool_clock_reading reading = SPOOL_CLOCK_READING();
    bool json = tool_wants_json(tool, false);
    int code = json ? spool_clock_source_each(spool, json_of, NULL) : print_sources(spool);
    if (!code)
        code = spool_clock_read(spool, &reading);
    if (code)
        return say_error(tool, code, NULL);
    if (json)
        print_reading_json(&reading);
    else
        print_reading(&reading);
    return TOOL_DONE;
}

static int clock_run(const struct tool *tool, void *args, const struct words *words)
{
    struct spool *spool;
    (void)words;
    int status = tool_open(tool, SPOOL_READ_ONLY | SPOOL_NO_CREATE, &spool);
    if (status)
        return status;
    status = ask(tool, spool, args);
    if (!status)
        status = show(tool, spool);
    spool_close(spool);
    return status;
}

static int clock_reset_run(const struct tool *tool, void *args, const struct words *words)
{
    struct spool *spool;
    (void)args, (void)words;
    int status = tool_open(tool, SPOOL_NO_CREATE, &spool);
    if (status)
        return status;
    int code = spool_clock_reset(spool);
    if (code)
        status = say_error(tool, code, NULL);
    else if (tool_wants_json(tool, false))
        json_print(json_pack("{ss}", "result", "reset"));
    else
        puts("every process of the spool follows the wall clock as it is now, within a second");
    spool_close(spool);
    return status;
}

const struct tool_verb clock_verb = {
    .name = "clock",
    .usage = "[options]",
    .summary = "Show what each source of time says, and how far stamps may be wrong",
    .notes =
        "Every source with its offset from the wall clock, how far it may be wrong, the age of its answer, and the\n"
        "verdict of the majority; a star marks the chosen one. Asked from here: servers that running processes\n"
        "use are asked too when -c names their configuration.",
    .options = clock_options,
    .run = clock_run,
};
const struct tool_verb clock_reset_verb = {
    .name = "clock reset",
    .usage = "",
    .summary = "Follow the wall clock as it is now, after a jump that was not followed",
    .run = clock_reset_run,
};
