/* change.c - options of a sink that change while it is served.
 *
 * They go by way of the store, whoever changes them: the registration is written, and the process that delivers hears of
 * it and takes over what can be changed in flight. What cannot (order, workers, filter, plugin, resources, the configuration itself)
 * is for whoever adds the sink anew. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/base/error.h"
#include "engine.h"
#include "options.h"
#include "registration.h"

/* ------------------------------------------------------------------------------------------------------ taking over */

/* The registration's options with the defaults filled in, if it is one of this sink as it is here. Without the lock;
 * what it looks at of the sink is constant. SPOOL_ESTALE: its configuration is another one. */
static int read_options(struct delivery *d, const struct sink *sink, struct spool_sink_options *ret)
{
    struct delivery_registration registration;
    char *text = NULL;
    int code = store_sink_config(d->store, sink->name, &text);
    if (code == SPOOL_OK)
        code = delivery_registration_read(text, &registration);
    if (code != SPOOL_OK) {
        free(text);
        return code;
    }
    code = strcmp(registration.config, sink->config) == 0
               ? options_take(&registration.options, &sink->hooks, ret)
               : err_set(SPOOL_ESTALE, "sink %s has another configuration", sink->name);
    delivery_registration_free(&registration);
    return code;
}

/* With the lock held. */
static void apply(struct sink *sink, const struct spool_sink_options *now)
{
    struct spool_sink_options *o = &sink->options;
    struct breaker_rules rules = sink->breaker.rules;
    struct spool_sink_options old = *o;
    *o = *now;
    o->user = old.user;
    o->order = old.order;
    o->workers = old.workers;
    o->flags = old.flags;
    o->filter = o->plugin = o->resources = NULL;
    rules.failures = o->breaker_failures;
    rules.probe_events = o->probe_events;
    rules.probes = o->probes;
    rules.base_ms = o->retry_base_ms;
    rules.cap_ms = o->retry_cap_ms;
    rules.limit_max = o->batch_events_max * (o->workers + READY_MAX);
    breaker_set_rules(&sink->breaker, &rules);
    sink->trim_at_ns = 0; /* its dead letters may be too many now */
}

void change_look(struct delivery *d, const struct sink *sink, struct change *ret)
{
    ret->given = read_options(d, sink, &ret->options) == SPOOL_OK; /* else those it has stand */
}

void change_apply(struct sink *sink, const struct change *change)
{
    if (change->given)
        apply(sink, &change->options);
}

/* --------------------------------------------------------------------------------------------------------- changing */

int delivery_registration_text(const char *config, const struct spool_sink_options *options, char **ret)
{
    struct spool_sink_options filled;
    struct spool_sink none = {0};
    int code = options_take(options, &none, &filled); /* only to check them */
    return code == SPOOL_OK ? registration_text(config, options, ret) : code;
}

static bool is_fixed(const struct spool_sink_options *change)
{
    return change->user || change->order || change->workers || change->flags || change->filter || change->plugin ||
           change->resources;
}

int delivery_registration_change(const char *text, const struct spool_sink_options *change, char **ret)
{
    struct delivery_registration old;
    struct spool_sink_options given;
    options_given(change, &given);
    if (is_fixed(&given))
        return err_set(SPOOL_EOPTION,
                       "user, order, workers, flags, filter, plugin and resources stay as they are until the sink is "
                       "added anew");
    char *copy = strdup(text);
    int code = copy ? delivery_registration_read(copy, &old) : err_errno(ENOMEM, "options of a sink");
    if (code != SPOOL_OK) {
        free(copy);
        return code;
    }
    registration_patch(&old.options, &given);
    code = delivery_registration_text(old.config, &old.options, ret);
    delivery_registration_free(&old);
    return code;
}
