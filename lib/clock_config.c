/* clock_config.c - the clock's part of a configuration file; see spool.json(5).
 *
 *   "clock": { "max_offset": "500ms", "drift_ppm": 50,
 *              "servers": [ "time.example.org", { "server": "192.0.2.1:123", "poll": "64s", "preference": 1 } ],
 *              "sources": { "realtime": { "assumed_error": "1s" } } }
 *
 * Unknown keys are errors that name the key. */
#include "clock_config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_tree.h"
#include "base/units.h"
#include "handle.h"

/* A text with a unit, or a plain number of milliseconds. */
static int read_ms(const json_t *value, const char *where, const char *name, uint32_t *ret)
{
    uint64_t ms = 0;
    int code = SPOOL_EINVAL;
    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        ms = (uint64_t)json_integer_value(value);
        code = SPOOL_OK;
    } else if (json_is_string(value)) {
        code = units_parse_duration_ms(json_string_value(value), &ms);
    }
    if (code)
        return err_set(SPOOL_ECONFIG, "%s.%s: a time such as \"64s\" is expected", where, name);
    if (ms > UINT32_MAX)
        return err_set(SPOOL_ECONFIG, "%s.%s: too large", where, name);
    *ret = (uint32_t)ms;
    return SPOOL_OK;
}

static int read_count(const json_t *value, const char *where, const char *name, uint32_t *ret)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) > UINT32_MAX)
        return err_set(SPOOL_ECONFIG, "%s.%s: a number is expected", where, name);
    *ret = (uint32_t)json_integer_value(value);
    return SPOOL_OK;
}

static int read_source_key(const char *name, const json_t *value, const char *where,
                           struct spool_clock_source_options *options)
{
    if (strcmp(name, "poll") == 0)
        return read_ms(value, where, name, &options->poll_interval_ms);
    if (strcmp(name, "timeout") == 0)
        return read_ms(value, where, name, &options->timeout_ms);
    if (strcmp(name, "assumed_error") == 0)
        return read_ms(value, where, name, &options->assumed_error_ms);
    if (strcmp(name, "preference") == 0)
        return read_count(value, where, name, &options->preference);
    return err_set(SPOOL_ECONFIG, "%s.%s: unknown key", where, name);
}

/* `ret_server` is NULL where none is to be named. */
static int read_source(json_t *object, const char *where, const char **ret_server,
                       struct spool_clock_source_options *options)
{
    const char *name;
    json_t *value;
    if (!json_is_object(object))
        return err_set(SPOOL_ECONFIG, "%s: %s expected", where,
                       ret_server ? "a server's name or an object is" : "an object is");
    json_object_foreach(object, name, value)
    {
        bool is_server = ret_server && strcmp(name, "server") == 0;
        if (is_server)
            *ret_server = json_string_value(value);
        int code = is_server ? SPOOL_OK : read_source_key(name, value, where, options);
        if (code)
            return code;
    }
    return !ret_server || *ret_server ? SPOOL_OK : err_set(SPOOL_ECONFIG, "%s.server: a text is expected", where);
}

/* ---------------------------------------------------------------------------------------------------- the section */

/* The clock that the section is for, or one that is made to try it on. */
struct applying {
    struct hlc *clock;
    bool checking;
};

/* One that is there already is changed. */
static int add_server(const struct applying *to, json_t *value, size_t index)
{
    struct spool_clock_source_options options = SPOOL_CLOCK_SOURCE_OPTIONS(.preference = 0);
    const char *server = json_string_value(value);
    char where[48];
    snprintf(where, sizeof where, "clock.servers[%zu]", index);
    int code = server ? SPOOL_OK : read_source(value, where, &server, &options);
    if (code)
        return code;
    code = hlc_source_add_sntp(to->clock, server, &options);
    if (code == SPOOL_EEXISTS)
        code = hlc_source_set(to->clock, server, &options);
    return code ? err_prefix(code, "%s", where) : SPOOL_OK;
}

static int add_servers(const struct applying *to, json_t *array)
{
    size_t index;
    json_t *value;
    if (!json_is_array(array))
        return err_set(SPOOL_ECONFIG, "clock.servers: an array of servers is expected");
    json_array_foreach(array, index, value)
    {
        int code = add_server(to, value, index);
        if (code)
            return code;
    }
    return SPOOL_OK;
}

static int set_source(const struct applying *to, const char *name, json_t *value)
{
    struct spool_clock_source_options options = SPOOL_CLOCK_SOURCE_OPTIONS(.preference = 0);
    char where[96];
    snprintf(where, sizeof where, "clock.sources.%s", name);
    int code = read_source(value, where, NULL, &options);
    if (code)
        return code;
    code = hlc_source_set(to->clock, name, &options);
    if (code == SPOOL_ENOTFOUND && to->checking)
        return SPOOL_OK; /* perhaps the program's own */
    return code ? err_prefix(code, "%s", where) : SPOOL_OK;
}

static int set_sources(const struct applying *to, json_t *object)
{
    const char *name;
    json_t *value;
    if (!json_is_object(object))
        return err_set(SPOOL_ECONFIG, "clock.sources: an object of sources is expected");
    json_object_foreach(object, name, value)
    {
        int code = set_source(to, name, value);
        if (code)
            return code;
    }
    return SPOOL_OK;
}

static int apply_key(const struct applying *to, const char *name, json_t *value)
{
    uint32_t number = 0;
    if (strcmp(name, "servers") == 0)
        return add_servers(to, value);
    if (strcmp(name, "sources") == 0)
        return set_sources(to, value);
    bool is_offset = strcmp(name, "max_offset") == 0;
    if (!is_offset && strcmp(name, "drift_ppm") != 0)
        return err_set(SPOOL_ECONFIG, "clock.%s: unknown key", name);
    int code = is_offset ? read_ms(value, "clock", name, &number) : read_count(value, "clock", name, &number);
    if (code)
        return code;
    if (!is_offset && number > CLOCK_DRIFT_PPM_MAX)
        return err_set(SPOOL_ECONFIG, "clock.drift_ppm: %u is more than %d", number, CLOCK_DRIFT_PPM_MAX);
    hlc_set(to->clock, is_offset ? number * NS_PER_MS : 0, is_offset ? 0 : number);
    return SPOOL_OK;
}

static int apply_section(const struct applying *to, const json_t *section)
{
    const char *name;
    json_t *value;
    if (section && !json_is_object(section))
        return err_set(SPOOL_ECONFIG, "\"clock\": an object is expected");
    json_object_foreach((json_t *)(uintptr_t)section, name, value)
    {
        int code = apply_key(to, name, value);
        if (code)
            return code;
    }
    return SPOOL_OK;
}

int clock_config_check(const json_t *section)
{
    struct applying to = {.checking = true};
    int code = hlc_new(&(struct hlc_options){0}, &to.clock);
    if (code)
        return code;
    code = apply_section(&to, section);
    hlc_free(to.clock);
    return code;
}

/* --------------------------------------------------------------------------------------------- the section of a file */

static void free_names(char **names)
{
    for (char **at = names; at && *at; at++)
        free(*at);
    free(names);
}

void clock_config_forget(struct spool *spool)
{
    free_names(spool->file_servers);
    spool->file_servers = NULL;
}

static const char *name_of_server(const json_t *value)
{
    return json_string_value(json_is_string(value) ? value : json_object_get(value, "server"));
}

static char **names_of_servers(const json_t *section)
{
    size_t index;
    json_t *value, *array = json_object_get(section, "servers");
    char **names = calloc(json_array_size(array) + 1, sizeof *names);
    json_array_foreach(array, index, value)
    {
        const char *name = name_of_server(value);
        if (names && (!name || !(names[index] = strdup(name)))) {
            free_names(names);
            return NULL;
        }
    }
    return names;
}

static bool is_among(char *const *names, const char *name)
{
    while (*names && strcmp(*names, name) != 0)
        names++;
    return *names != NULL;
}

/* Those that a program added itself are none of the file's business; one that is gone already is no matter. */
static int remove_unnamed(struct spool *spool, char *const *named)
{
    int code = SPOOL_OK;
    for (char **at = spool->file_servers; at && *at && !code; at++) {
        code = is_among(named, *at) ? SPOOL_OK : hlc_source_remove(spool->clock, *at);
        code = code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
    }
    return code;
}

int clock_config_of_file(const json_t *section, struct spool *spool)
{
    int code = apply_section(&(struct applying){.clock = spool->clock}, section);
    char **names = code ? NULL : names_of_servers(section);
    if (!code && !names)
        code = err_errno(ENOMEM, "clock.servers");
    if (!code)
        code = remove_unnamed(spool, names);
    if (code) {
        free_names(names);
        return code;
    }
    clock_config_forget(spool);
    spool->file_servers = names;
    return SPOOL_OK;
}

int spool_clock_configure(struct spool *spool, const char *json)
{
    json_error_t error;
    json_t *section;
    int code = handle_check(spool);
    if (!code && !json)
        code = err_set(SPOOL_EINVAL, "the configuration is NULL");
    if (!code)
        code = json_tree(json, strlen(json), &section, &error);
    if (code == SPOOL_EJSON)
        err_set(code, "line %d, column %d: %s", error.line, error.column, error.text);
    if (code)
        return code;
    code = apply_section(&(struct applying){.clock = spool->clock}, section);
    json_decref(section);
    return code;
}
