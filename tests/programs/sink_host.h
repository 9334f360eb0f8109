/* sink_host.h - a plugin without the engine: what loads it, and what it may call. Its last message is in host_message. */
#ifndef SINK_HOST_H
#define SINK_HOST_H

#include <dlfcn.h>
#include <err.h>
#include <stdarg.h>
#include <stdio.h>

#include "../../lib/spool.h"

static _Thread_local char host_message[512];

static inline int host_keep_message(int code, const char *format, va_list args)
{
    vsnprintf(host_message, sizeof host_message, format, args);
    return code;
}

static inline void host_keep_outcome(struct spool_delivery *delivery, enum spool_outcome outcome, const char *format,
                                     va_list args)
{
    delivery->outcome = outcome;
    vsnprintf(host_message, sizeof host_message, format, args);
}

static inline void host_keep_note(const char *format, va_list args)
{
    vsnprintf(host_message, sizeof host_message, format, args);
}

static uint32_t host_unstored_batches; /* for programs that set it */

static inline uint32_t host_unstored(void)
{
    return host_unstored_batches;
}

static const struct spool_sink_host host_calls = {
    .abi = SPOOL_SINK_ABI,
    .size = sizeof host_calls,
    .version = spool_version,
    .error_text = spool_strerror,
    .error_name = spool_error_name,
    .last_error = spool_last_error,
    .id_format = spool_id_format,
    .id_parse = spool_id_parse,
    .id_time_ns = spool_id_time_ns,
    .id_compare = spool_id_compare,
    .priority_name = spool_priority_name,
    .priority_parse = spool_priority_parse,
    .event_to_json = spool_event_to_json,
    .event_from_json = spool_event_from_json,
    .event_free = spool_event_free,
    .free = spool_free,
    .delivery_failv = host_keep_outcome,
    .sink_errorv = host_keep_message,
    .sink_notev = host_keep_note,
    .sink_unstored = host_unstored,
};

static inline const struct spool_sink *host_load(const char *file)
{
    void *object = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    const struct spool_sink_plugin *plugin = object ? dlsym(object, "spool_sink_plugin") : NULL;
    if (!plugin)
        errx(2, "%s", dlerror());
    plugin->attach(&host_calls);
    return plugin->sink;
}

#endif
