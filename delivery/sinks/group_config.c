/* group_config.c - a group's configuration: its members, each an object with its kind and that kind's own keys.
 *
 *   {"members": [{"kind": "http", "name": "primary", "url": …}, {"kind": "file", "path": …}], "accept": 2,
 *    "retry_base": "100ms", "retry_cap": "1m"}
 *
 * accept is the quorum's: how many members must have an event; the default is a majority. retry_base and retry_cap are the
 * wait before a member that failed is tried again.
 *
 * A member that is best effort loses events unnoticed. So a quorum gives it what it can and does not count it; and of a failover
 * it may only be the last one, where nothing that could keep an event is behind it, and only if the group says that it is best
 * effort itself. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../lib/base/error.h"
#include "../../lib/base/sync.h"
#include "config.h"
#include "group.h"

static int wrong(const char *kind, size_t index, const char *what)
{
    return spool_sink_error(SPOOL_ECONFIG, "configuration of the %s sink: members[%zu]: %s", kind, index, what);
}

static int take_text(json_t *object, const char *key, char *ret, size_t cap)
{
    const char *text = json_string_value(json_object_get(object, key));
    if (text)
        snprintf(ret, cap, "%s", text);
    bool bad = json_object_get(object, key) && (!text || strlen(text) >= cap);
    json_object_del(object, key);
    return bad ? SPOOL_ECONFIG : SPOOL_OK;
}

/* Its kind is found, loaded if need be, and asked about the rest. What the system refuses (memory, descriptors) is no fault
 * of the configuration, and may work later. */
static int find_kind(const char *group, size_t index, const char *kind, const char *plugin, struct member *m)
{
    struct delivery_kind found;
    char message[REASON_MAX + 1];
    int code = delivery_kind_find(kind, *plugin ? plugin : NULL, &found);
    if (code == SPOOL_OK)
        code = delivery_kind_check(&found, m->config);
    if (code == SPOOL_OK) {
        m->sink = *found.sink;
        m->best_effort = delivery_sink_traits(found.sink, m->config) & SPOOL_TRAIT_BEST_EFFORT;
    } else
        snprintf(message, sizeof message, "%s", err_last());
    if (code > 0)
        return spool_sink_error(code, "the %s sink: members[%zu]: %s", group, index, message);
    return code == SPOOL_OK ? code : wrong(group, index, message);
}

static int read_member(const char *group, size_t index, json_t *object, struct member *m)
{
    char kind[SINK_KIND_MAX + 1] = "", plugin[4096] = "";
    if (!json_is_object(object))
        return wrong(group, index, "an object such as {\"kind\": \"file\"} is expected");
    if (take_text(object, "kind", kind, sizeof kind) || !*kind)
        return wrong(group, index, "\"kind\" must be the name of a kind");
    snprintf(m->name, sizeof m->name, "%s-%zu", kind, index);
    if (take_text(object, "name", m->name, sizeof m->name) || !*m->name)
        return wrong(group, index, "\"name\" must be a short text");
    if (take_text(object, "plugin", plugin, sizeof plugin))
        return wrong(group, index, "\"plugin\" must be the path of a file");
    m->config = json_dumps(object, JSON_COMPACT);
    if (!m->config)
        return spool_sink_error(ENOMEM, "out of memory");
    return find_kind(group, index, kind, plugin, m);
}

static int read_members(const char *kind, json_t *array, struct group *g)
{
    size_t n = json_array_size(array);
    if (n < 1 || n > GROUP_MEMBERS_MAX)
        return spool_sink_error(SPOOL_ECONFIG,
                                "configuration of the %s sink: \"members\" must be an array of 1 to %d objects", kind,
                                GROUP_MEMBERS_MAX);
    g->members = calloc(n, sizeof *g->members);
    if (!g->members)
        return spool_sink_error(ENOMEM, "out of memory");
    g->member_count = n;
    for (size_t i = 0; i < n; i++) {
        int code = read_member(kind, i, json_array_get(array, i), &g->members[i]);
        if (code != SPOOL_OK)
            return code;
    }
    return SPOOL_OK;
}

static void set_up_breakers(struct group *g, uint64_t base_ms, uint64_t cap_ms)
{
    const struct breaker_rules rules = {.failures = 1,
                                        .probe_events = 16,
                                        .probes = 1,
                                        .base_ms = (uint32_t)base_ms,
                                        .cap_ms = (uint32_t)cap_ms,
                                        .limit_max = 1024};
    for (size_t i = 0; i < g->member_count; i++)
        breaker_init(&g->members[i].breaker, &rules, mono_ns());
}

static int read_quorum(struct config *config, struct group *g)
{
    uint64_t accept = 0;
    size_t counting = 0;
    g->counted = 0;
    for (size_t i = 0; i < g->member_count; i++) {
        g->counted |= (uint16_t)(g->members[i].best_effort ? 0 : 1u << i);
        counting += !g->members[i].best_effort;
    }
    if (counting == 0)
        return spool_sink_error(SPOOL_ECONFIG, "configuration of the quorum sink: all members are best effort: none of "
                                               "them can say that it has an event");
    int code = config_number(config, "accept", counting / 2 + 1, &accept);
    if (code == SPOOL_OK && (accept < 1 || accept > counting))
        code =
            spool_sink_error(SPOOL_ECONFIG, "configuration of the quorum sink: \"accept\" must be 1 to %zu%s", counting,
                             counting < g->member_count ? ": members that are best effort do not count" : "");
    g->accept = (uint32_t)accept;
    return code;
}

static int read_failover(struct config *config, struct group *g)
{
    json_t *value = json_object_get(config->object, "best_effort");
    bool asked = json_is_true(value), bad = value && !json_is_boolean(value);
    json_object_del(config->object, "best_effort");
    if (bad)
        return spool_sink_error(SPOOL_ECONFIG,
                                "configuration of the failover sink: \"best_effort\" must be true or false");
    for (size_t i = 0; i < g->member_count; i++) {
        if (!g->members[i].best_effort)
            continue;
        if (i + 1 < g->member_count)
            return wrong("failover", i, "is best effort: it never fails, so that the next one would get nothing");
        if (!asked)
            return wrong("failover", i,
                         "is best effort, and loses events unnoticed: that needs \"best_effort\": true for "
                         "the failover sink, whose events count as sent then");
        g->best_effort = true;
    }
    return SPOOL_OK;
}

static int read_keys(struct config *config, const char *kind, struct group *g)
{
    uint64_t base_ms = 100, cap_ms = 60000;
    int code = config_duration_ms(config, "retry_base", base_ms, &base_ms);
    if (code == SPOOL_OK)
        code = config_duration_ms(config, "retry_cap", cap_ms, &cap_ms);
    if (code == SPOOL_OK && (base_ms > UINT32_MAX || cap_ms > UINT32_MAX || cap_ms < base_ms))
        code = spool_sink_error(SPOOL_ECONFIG,
                                "configuration of the %s sink: \"retry_cap\" must be at least retry_base", kind);
    if (code == SPOOL_OK)
        code = read_members(kind, json_object_get(config->object, "members"), g);
    json_object_del(config->object, "members");
    g->counted = UINT16_MAX;
    if (code == SPOOL_OK)
        code = strcmp(kind, "quorum") == 0 ? read_quorum(config, g) : read_failover(config, g);
    set_up_breakers(g, base_ms, cap_ms);
    return code;
}

static struct group *group_new(void)
{
    struct group *g = calloc(1, sizeof *g);
    if (!g)
        return NULL;
    if (pthread_mutex_init(&g->lock, NULL) != 0) {
        free(g);
        return NULL;
    }
    if (cond_init(&g->idle) != 0) {
        pthread_mutex_destroy(&g->lock);
        free(g);
        return NULL;
    }
    atomic_init(&g->cancelled, false);
    jitter_init(&g->jitter, 0);
    return g;
}

int group_read(const char *kind, const char *json_config, struct group **ret)
{
    struct config config;
    struct group *g = group_new();
    int code = g ? config_open(&config, kind, json_config) : spool_sink_error(ENOMEM, "out of memory");
    if (code == SPOOL_OK)
        code = config_close(&config, read_keys(&config, kind, g));
    if (code == SPOOL_OK)
        *ret = g;
    else
        group_free(g);
    return code;
}

void group_free(struct group *g)
{
    if (!g)
        return;
    for (size_t i = 0; i < g->member_count; i++)
        free(g->members[i].config);
    free(g->members);
    free(g->seen);
    free(g->work);
    free(g->work_of);
    free(g->reason);
    free(g->pending);
    free(g->accepted);
    free(g->refused);
    buffer_free(&g->texts);
    pthread_mutex_destroy(&g->lock);
    pthread_cond_destroy(&g->idle);
    free(g);
}
