/* builtin.c - finds a sink of the library by its kind, and checks its configuration before it is registered. */
#include <string.h>

#include "../../lib/base/error.h"
#include "sinks.h"

static const struct spool_sink_setting no_settings[] = {{NULL, NULL, NULL}};
static const struct {
    const struct spool_sink *sink;
    int (*check)(const char *json_config);
    const char *summary;
    const struct spool_sink_setting *settings;
} builtins[] = {
    {&null_sink, null_check, "takes everything and keeps nothing", no_settings},
    {&stdout_sink, stdout_check, "JSON Lines on standard output", no_settings},
    {&file_sink, file_check, "JSON Lines in files, each event exactly once", file_settings},
    {&failover_sink, failover_check, "the first of several sinks that works", failover_settings},
    {&quorum_sink, quorum_check, "several sinks, of which some must have each event", quorum_settings},
};
enum { BUILTINS = sizeof builtins / sizeof *builtins };

static size_t find(const char *kind)
{
    size_t i = 0;
    while (i < BUILTINS && (!kind || strcmp(builtins[i].sink->kind, kind) != 0))
        i++;
    return i;
}

const struct spool_sink *delivery_builtin_sink(const char *kind)
{
    size_t i = find(kind);
    return i < BUILTINS ? builtins[i].sink : NULL;
}

const char *delivery_builtin_name(size_t index)
{
    return index < BUILTINS ? builtins[index].sink->kind : NULL;
}

bool delivery_builtin_kind(const char *kind, struct delivery_kind *ret)
{
    size_t i = find(kind);
    if (i == BUILTINS)
        return false;
    *ret = (struct delivery_kind){builtins[i].sink, builtins[i].check, builtins[i].summary, builtins[i].settings};
    return true;
}

int delivery_builtin_check(const char *kind, const char *json_config)
{
    struct delivery_kind found;
    if (!delivery_builtin_kind(kind, &found))
        return err_set(SPOOL_ENOTFOUND, "there is no kind \"%s\"", kind ? kind : "(null)");
    return delivery_kind_check(&found, json_config);
}
