/* group_failover.c - kind "failover": the first of its members that works gets the events. When it is down the next one does,
 * and it is returned to as soon as it recovers, with a few events at first.
 *
 * What a member answered for an event stands: delivered, refused, or to be tried again. Only events that it did not answer for
 * because it was down go to the next one. */
#include "group.h"

static int failover_open(void **ret_state, void *user, const char *json_config, const void *checkpoint, size_t size)
{
    (void)user, (void)checkpoint, (void)size;
    return group_open("failover", ret_state, json_config);
}

int failover_check(const char *json_config)
{
    struct group *g;
    int code = group_read("failover", json_config, &g);
    if (code == SPOOL_OK)
        group_free(g);
    return code;
}

/* Those of pending[0..tried) without an answer move to its front, those behind them follow; how many are left. */
static size_t keep_unanswered(struct group *g, const struct spool_delivery *batch, size_t tried, size_t n)
{
    size_t left = 0;
    for (size_t i = 0; i < n; i++)
        if (i >= tried || !group_was_answered(g, batch, g->pending[i]))
            g->pending[left++] = g->pending[i];
    return left;
}

/* An event that is to be tried again may have to be awaited by those behind it: they go back untried, also if the member
 * was down after that answer. What it said nothing of, because it was down, is for the next one. */
static bool must_stop(const struct group *g, const struct spool_delivery *batch, size_t tried, int code)
{
    for (size_t i = 0; i < tried; i++) {
        const struct spool_delivery *d = SPOOL_DELIVERY_AT(batch, g->work_of[i]);
        bool ends = d->outcome == SPOOL_DELIVERED || d->outcome == SPOOL_REJECTED;
        if (!ends && (code == SPOOL_OK || group_was_answered(g, batch, g->work_of[i])))
            return true;
    }
    return false;
}

static void leave_untried(struct group *g, struct spool_delivery *batch, size_t from, size_t n)
{
    for (size_t i = from; i < n; i++)
        SPOOL_DELIVERY_AT(batch, g->pending[i])->outcome = DELIVERY_UNTRIED;
}

/* All it can take of pending[0..*n): in several calls while it recovers. SPOOL_OK: the batch is over. */
static int through_member(struct group *g, struct member *m, struct spool_delivery *batch, size_t *n)
{
    while (*n > 0) {
        size_t tried;
        int code = group_deliver(g, m, batch, *n, &tried);
        bool stops = code != SPOOL_EREJECTED && must_stop(g, batch, tried, code);
        if (code == SPOOL_OK && (stops || atomic_load(&g->cancelled))) {
            leave_untried(g, batch, tried, *n);
            return SPOOL_OK;
        }
        *n = keep_unanswered(g, batch, tried, *n);
        if (stops) {
            leave_untried(g, batch, 0, *n);
            return SPOOL_OK;
        }
        if (code != SPOOL_OK)
            return code;
    }
    return SPOOL_OK;
}

static int failover_deliver(void *state, struct spool_delivery *batch, size_t n)
{
    struct group *g = state;
    bool chosen[GROUP_MEMBERS_MAX] = {false};
    size_t left = n;
    if (group_begin(g, n) != SPOOL_OK)
        return SPOOL_EUNAVAILABLE;
    group_choose(g, 1, chosen);
    int code = SPOOL_EUNAVAILABLE;
    for (size_t i = 0; i < g->member_count && !atomic_load(&g->cancelled); i++) {
        if (!chosen[i])
            continue;
        code = through_member(g, &g->members[i], batch, &left);
        if (code == SPOOL_OK || code == SPOOL_EREJECTED || left == 0)
            break;
    }
    group_tell_reasons(g, batch, n);
    if (code == SPOOL_OK || left == 0)
        return SPOOL_OK;
    return code == SPOOL_EREJECTED ? spool_sink_error(code, "%s", delivery_sink_message()) : group_unavailable(g);
}

static uint32_t failover_traits(const char *json_config)
{
    struct group *g;
    uint32_t traits = 0;
    if (group_read("failover", json_config, &g) == SPOOL_OK) {
        traits = g->best_effort ? SPOOL_TRAIT_BEST_EFFORT : 0;
        group_free(g);
    }
    return traits;
}

const struct spool_sink_setting failover_settings[] = {
    {"members", "array of objects (required)",
     "sinks, the preferred one first: their kind, name, and the kind's own keys"},
    {"retry_base", "duration, 100ms", "wait before a member that failed is tried again, doubled each time …"},
    {"retry_cap", "duration, 1m", "… up to that"},
    {"best_effort", "true | false, false", "must be true where the last member is best effort, as syslog by UDP is"},
    {NULL, NULL, NULL},
};

const struct spool_sink failover_sink = {
    .abi = SPOOL_SINK_ABI,
    .size = sizeof(struct spool_sink),
    .kind = "failover",
    .open = failover_open,
    .deliver = failover_deliver,
    .cancel = group_cancel,
    .close = group_close,
    .traits = failover_traits,
};
