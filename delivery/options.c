/* options.c - the size rule of openat2(2): a shorter struct is filled up with zeros, a longer one is refused when what
 * we do not know in it is not zero, because to ignore it would silently change the delivery. */
#include "options.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "../lib/base/error.h"
#include "delivery.h"
#include "resources.h"

enum { WORKERS_MAX = 64, BATCH_EVENTS_MAX = 16384, BATCH_BYTES_MAX = 8 << 20 };

int options_check_name(const char *name)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    if (!name || !*name)
        return err_set(SPOOL_EINVAL, "a sink needs a name");
    size_t size = strlen(name);
    if (size > SINK_NAME_MAX || strspn(name, allowed) != size || name[0] == '.')
        return err_set(SPOOL_EINVAL, "\"%.80s\" is no sink name: use 1 to %d of A-Z a-z 0-9 . _ - and no dot first",
                       name, SINK_NAME_MAX);
    return SPOOL_OK;
}

int delivery_check_name(const char *name)
{
    return options_check_name(name);
}

bool options_take_struct(const void *from, size_t given, void *to, size_t known)
{
    memset(to, 0, known);
    memcpy(to, from, given < known ? given : known);
    for (size_t i = known; i < given; i++)
        if (((const char *)from)[i] != 0)
            return false;
    return true;
}

int options_take_sink(const struct spool_sink *sink, struct spool_sink *ret)
{
    if (!sink)
        return err_set(SPOOL_EINVAL, "no sink was given");
    if (sink->abi != SPOOL_SINK_ABI)
        return err_set(SPOOL_EABI, "the sink has ABI %u, this library knows %d: build it with this library's spool.h",
                       sink->abi, SPOOL_SINK_ABI);
    size_t least = offsetof(struct spool_sink, checkpoint) + sizeof sink->checkpoint;
    if (sink->size < least)
        return err_set(SPOOL_EABI, "the sink's size is %zu, less than ABI 1 has: set it to sizeof(struct spool_sink)",
                       sink->size);
    if (!options_take_struct(sink, sink->size, ret, sizeof *ret))
        return err_set(SPOOL_EABI, "the sink has hooks that this library does not know: it was built for a newer one");
    ret->size = sizeof *ret;
    if (!ret->deliver)
        return err_set(SPOOL_EINVAL, "the sink has no deliver");
    if (!ret->kind || !*ret->kind || strlen(ret->kind) > SINK_KIND_MAX)
        return err_set(SPOOL_EINVAL, "the sink's kind must have 1 to %d characters", SINK_KIND_MAX);
    return SPOOL_OK;
}

void options_given(const struct spool_sink_options *options, struct spool_sink_options *ret)
{
    *ret = (struct spool_sink_options){.size = sizeof *ret};
    if (options)
        options_take_struct(options, options->size, ret, sizeof *ret);
}

static void fill_defaults(struct spool_sink_options *o)
{
#define DEFAULT(field, value) o->field = o->field ? o->field : (value)
    DEFAULT(workers, 1);
    DEFAULT(batch_events_max, 1024);
    DEFAULT(batch_bytes_max, 1 << 20);
    DEFAULT(timeout_ms, 30000);
    DEFAULT(retry_base_ms, 100);
    DEFAULT(retry_cap_ms, 300000);
    DEFAULT(retry_rows_max, 10000);
    DEFAULT(retry_bytes_max, 64ull << 20);
    DEFAULT(breaker_failures, 1);
    DEFAULT(probe_events, 16);
    DEFAULT(probes, 1);
    DEFAULT(max_crashes, 3);
    DEFAULT(inflight_bytes_max, 8ull << 20);
#undef DEFAULT
    o->size = sizeof *o;
}

static int check_ranges(const struct spool_sink_options *o)
{
    if (o->order > SPOOL_ORDER_LANE)
        return err_set(SPOOL_EOPTION, "order %d is unknown", (int)o->order);
    if (o->flags & ~SPOOL_SINK_FROM_NOW)
        return err_set(SPOOL_EOPTION, "sink flags 0x%x are unknown", o->flags & ~SPOOL_SINK_FROM_NOW);
    if (o->workers > WORKERS_MAX)
        return err_set(SPOOL_EINVAL, "workers is %u, at most %d", o->workers, WORKERS_MAX);
    if (o->batch_events_max > BATCH_EVENTS_MAX)
        return err_set(SPOOL_EINVAL, "batch_events_max is %u, at most %d", o->batch_events_max, BATCH_EVENTS_MAX);
    if (o->batch_bytes_max > BATCH_BYTES_MAX)
        return err_set(SPOOL_EINVAL, "batch_bytes_max is %u, at most %d", o->batch_bytes_max, BATCH_BYTES_MAX);
    int code = resources_check(o->resources);
    if (code != SPOOL_OK)
        return code;
    if (o->retry_cap_ms < o->retry_base_ms)
        return err_set(SPOOL_EINVAL, "retry_cap_ms is %u, less than retry_base_ms, %u", o->retry_cap_ms,
                       o->retry_base_ms);
    return SPOOL_OK;
}

int options_take(const struct spool_sink_options *options, const struct spool_sink *sink,
                 struct spool_sink_options *ret)
{
    struct spool_sink_options o = {.size = sizeof o};
    if (options && options->size < sizeof options->size + sizeof options->user)
        return err_set(SPOOL_EOPTION, "the sink options' size is %zu: use SPOOL_SINK_OPTIONS()", options->size);
    if (options && !options_take_struct(options, options->size, &o, sizeof o))
        return err_set(SPOOL_EOPTION, "the sink options have members that this library does not know");
    fill_defaults(&o);
    int code = check_ranges(&o);
    if (code != SPOOL_OK)
        return code;
    if (o.order == SPOOL_ORDER_LANE || sink->checkpoint)
        o.workers = 1;
    *ret = o;
    return SPOOL_OK;
}
