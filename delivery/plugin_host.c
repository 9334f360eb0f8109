/* plugin_host.c - what plugins may call, as they get it. Append only, as the struct. */
#include <stddef.h>

#include "plugin.h"

const struct spool_sink_host plugin_host = {
    .abi = SPOOL_SINK_ABI,
    .size = sizeof plugin_host,
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
    .delivery_failv = delivery_failv,
    .sink_errorv = delivery_sink_errorv,
    .sink_notev = delivery_sink_notev,
    .sink_unstored = spool_sink_unstored,
};

/* The layout of ABI 1: a plugin that was built once is loaded for ever. A line that fails here is a break of the
 * interface, never to be mended by changing the number (SQLite did that once, and says so in its header). */
#define AT(type, field, offset)                                                                                        \
    _Static_assert(offsetof(struct type, field) == (offset) * sizeof(void *), "ABI 1: " #type "." #field)
_Static_assert(sizeof(void *) == sizeof(size_t), "the offsets below count pointers");
AT(spool_sink, abi, 0);
AT(spool_sink, size, 1);
AT(spool_sink, kind, 2);
AT(spool_sink, open, 3);
AT(spool_sink, deliver, 4);
AT(spool_sink, cancel, 5);
AT(spool_sink, close, 6);
AT(spool_sink, checkpoint, 7);
AT(spool_sink_plugin, abi, 0);
AT(spool_sink_plugin, size, 1);
AT(spool_sink_plugin, host_size, 2);
AT(spool_sink_plugin, attach, 3);
AT(spool_sink_plugin, sink, 4);
AT(spool_sink_plugin, check, 5);
AT(spool_sink_plugin, settings, 6);
AT(spool_sink_plugin, summary, 7);
AT(spool_sink_host, abi, 0);
AT(spool_sink_host, size, 1);
AT(spool_sink_host, version, 2);
AT(spool_sink_host, error_text, 3);
AT(spool_sink_host, error_name, 4);
AT(spool_sink_host, last_error, 5);
AT(spool_sink_host, id_format, 6);
AT(spool_sink_host, id_parse, 7);
AT(spool_sink_host, id_time_ns, 8);
AT(spool_sink_host, id_compare, 9);
AT(spool_sink_host, priority_name, 10);
AT(spool_sink_host, priority_parse, 11);
AT(spool_sink_host, event_to_json, 12);
AT(spool_sink_host, event_from_json, 13);
AT(spool_sink_host, event_free, 14);
AT(spool_sink_host, free, 15);
AT(spool_sink_host, delivery_failv, 16);
AT(spool_sink_host, sink_errorv, 17);
AT(spool_sink_host, sink_notev, 18);
AT(spool_sink_host, sink_unstored, 19);
AT(spool_sink_setting, key, 0);
AT(spool_sink_setting, value, 1);
AT(spool_sink_setting, summary, 2);
_Static_assert(sizeof(struct spool_sink_setting) == 3 * sizeof(void *), "ABI 1: settings are arrays and do not grow");
#undef AT

/* What a sink is handed: arrays of deliveries step by their size, so that they may grow at the end. */
#define AT(type, field, offset)                                                                                        \
    _Static_assert(offsetof(struct type, field) == (offset), "ABI 1, 64 bits: " #type "." #field)
#if UINTPTR_MAX == UINT64_MAX
AT(spool_delivery, size, 0);
AT(spool_delivery, event, 8);
AT(spool_delivery, id, 16);
AT(spool_delivery, attempt, 32);
AT(spool_delivery, outcome, 36);
AT(spool_delivery, retry_after_ms, 40);
AT(spool_event, size, 0);
AT(spool_event, id, 8);
AT(spool_event, type, 16);
AT(spool_event, agent, 24);
AT(spool_event, session, 32);
AT(spool_event, priority, 40);
AT(spool_event, durability, 44);
AT(spool_event, content_type, 48);
AT(spool_event, body, 56);
AT(spool_event, body_size, 64);
AT(spool_event, parent, 72);
AT(spool_event, tags, 80);
AT(spool_event, traceparent, 88);
AT(spool_event, occurred_at_ns, 96);
AT(spool_event, ttl_ms, 104);
#endif
#undef AT
