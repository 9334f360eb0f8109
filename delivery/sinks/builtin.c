/* builtin.c - finds a sink of the library by its kind, and checks its configuration before it is registered. */
#include <string.h>

#include "../../lib/base/error.h"
#include "sinks.h"

static const struct {
    const struct spool_sink *sink;
    int (*check)(const char *json_config);
} builtins[] = {
    {&null_sink, null_check},
    {&stdout_sink, stdout_check},
    {&file_sink, file_check},
};

const struct spool_sink *delivery_builtin_sink(const char *kind)
{
    for (size_t i = 0; kind && i < sizeof builtins / sizeof *builtins; i++)
        if (strcmp(builtins[i].sink->kind, kind) == 0)
            return builtins[i].sink;
    return NULL;
}

int delivery_builtin_check(const char *kind, const char *json_config)
{
    for (size_t i = 0; kind && i < sizeof builtins / sizeof *builtins; i++) {
        if (strcmp(builtins[i].sink->kind, kind) != 0)
            continue;
        int code = builtins[i].check(json_config ? json_config : "{}");
        return code ? err_set(code, "%s", delivery_sink_message()) : SPOOL_OK;
    }
    return err_set(SPOOL_ENOTFOUND, "there is no kind \"%s\"", kind ? kind : "(null)");
}
