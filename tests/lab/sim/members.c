/* members.c - groups: sinks of the library's own kinds "failover" and "quorum", whose members are played by far.c. An event
 * counts as accepted when the group says so, and the rule "group" looks whether as many members have it as that takes. The
 * first member is in the mood of its sink, the others now and then, so that there are times when some are left, or none. */
#include <stdio.h>
#include <string.h>

#include "../../../delivery/sinks/sinks.h"
#include "far.h"

enum { CONFIG_MAX = 1500, REASON_BYTES = 256 };

/* ------------------------------------------------------------------------------------------------------------- members */

void member_takes(const struct far_state *state, const struct event *event)
{
    state->sink->members_with[event_number(event)] |= (uint8_t)(1u << state->bit);
    trace("member %d of %s takes event %u", state->bit, state->sink->name, event_number(event));
}

static const struct mood *mood_of(const struct far_state *state)
{
    bool shares = state->bit == 0 || (state->sink->mood_until_ns >> (20 + state->bit) & 1);
    return shares ? far_mood(state->sink) : mood_good();
}

static int member_open(void **ret_state, void *user, const char *config, const void *checkpoint, size_t size)
{
    unsigned sink = 0, bit = 0;
    (void)user, (void)checkpoint, (void)size;
    const char *at_sink = strstr(config, "\"sink\":"), *at_bit = strstr(config, "\"bit\":");
    if (!at_sink || !at_bit || sscanf(at_sink, "\"sink\":%u", &sink) != 1 || sscanf(at_bit, "\"bit\":%u", &bit) != 1)
        violation("group", "a member is opened with another configuration: %s", config);
    struct far_state *state = arena_get(ARENA_WORLD, sizeof *state);
    *state = (struct far_state){.sink = &world.sinks[sink], .proc = co_proc(), .open = true, .bit = (int)bit};
    far_enter(state, "open of a member");
    far_leave(state);
    if (far_open_fails(mood_of(state)))
        return spool_sink_error(SPOOL_EUNAVAILABLE, "the member cannot be opened");
    *ret_state = state;
    return SPOOL_OK;
}

static int member_deliver(void *user, struct spool_delivery *batch, size_t n)
{
    struct far_state *state = user;
    size_t way;
    struct far_call call = {state, batch, n, arena_get(ARENA_WORLD, n)};
    memset(call.reasoned, 0, n);
    far_enter(state, "deliver of a member");
    state->cancelled = false;
    int code = far_answer(&call, mood_of(state), &way);
    trace("member %d of %s answers in way %zu: %d, for %zu", state->bit, state->sink->name, way, code, n);
    far_leave(state);
    arena_put(call.reasoned);
    return code;
}

static void member_cancel(void *user)
{
    struct far_state *state = user;
    co_point();
    if (!state->open)
        violation("hooks", "cancel of a member of %s after close", state->sink->name);
    state->cancelled = true;
    state->cancelled_ns = sched_now();
    co_wake_all(state);
}

static void member_close(void *user)
{
    struct far_state *state = user;
    far_enter(state, "close of a member");
    far_leave(state);
    state->open = false;
}

static const struct spool_sink member_hooks = {
    .abi = SPOOL_SINK_ABI,
    .size = sizeof(struct spool_sink),
    .kind = "sim",
    .open = member_open,
    .deliver = member_deliver,
    .cancel = member_cancel,
    .close = member_close,
};

/* A group asks for its members' kind: there is only ours. */
int __wrap_delivery_kind_find(const char *kind, const char *plugin, struct delivery_kind *ret);
int __wrap_delivery_kind_find(const char *kind, const char *plugin, struct delivery_kind *ret)
{
    (void)kind, (void)plugin;
    *ret = (struct delivery_kind){.sink = &member_hooks, .summary = ""};
    return SPOOL_OK;
}

int __wrap_delivery_kind_check(const struct delivery_kind *kind, const char *json_config);
int __wrap_delivery_kind_check(const struct delivery_kind *kind, const char *json_config)
{
    (void)kind, (void)json_config;
    return SPOOL_OK;
}

/* -------------------------------------------------------------------------------------------------------------- groups */

static bool is_quorum(const struct sink_world *sink)
{
    return sink->accept > 1;
}

static const struct spool_sink *hooks_of(const struct sink_world *sink)
{
    return is_quorum(sink) ? &quorum_sink : &failover_sink;
}

int group_sim_open(struct far_state *state)
{
    char config[CONFIG_MAX], *end = config + sizeof config, *at = config;
    const struct sink_world *sink = state->sink;
    at += snprintf(at, (size_t)(end - at), "{\"retry_base\":\"%ums\",\"retry_cap\":\"%ums\",",
                   sink->options.retry_base_ms, sink->options.retry_cap_ms);
    if (is_quorum(sink))
        at += snprintf(at, (size_t)(end - at), "\"accept\":%u,", sink->accept);
    at += snprintf(at, (size_t)(end - at), "\"members\":[");
    for (uint32_t i = 0; i < sink->member_count; i++)
        at += snprintf(at, (size_t)(end - at), "%s{\"kind\":\"sim\",\"sink\":%zu,\"bit\":%u}", i > 0 ? "," : "",
                       (size_t)(sink - world.sinks), i);
    snprintf(at, (size_t)(end - at), "]}");
    return hooks_of(sink)->open(&state->group, NULL, config, NULL, 0);
}

void group_sim_cancel(struct far_state *state)
{
    hooks_of(state->sink)->cancel(state->group);
}

void group_sim_close(struct far_state *state)
{
    hooks_of(state->sink)->close(state->group);
}

/* The reasons that the group gives are told to the library afterwards, and noted for the oracle. */
struct reasons {
    char (*texts)[REASON_BYTES];
    bool *given;
};

static void take_reason(void *user, size_t index, const char *text)
{
    struct reasons *reasons = user;
    snprintf(reasons->texts[index], REASON_BYTES, "%s", text);
    reasons->given[index] = true;
}

static void check_members(const struct sink_world *sink, const struct event *event)
{
    unsigned have = (unsigned)__builtin_popcount(sink->members_with[event_number(event)]);
    if (have < sink->accept)
        violation("group", "%s: event %u counts as delivered, %u of %u members have it, %u must", sink->name,
                  event_number(event), have, sink->member_count, sink->accept);
}

/* In the batch's order, as one sink that answers at the end. */
static void tell_oracle(struct far_call *call)
{
    for (size_t i = 0; i < call->n; i++) {
        struct event *event = oracle_event(&call->batch[i]);
        if (call->batch[i].outcome == SPOOL_REJECTED)
            oracle_refuse(call->state->sink, event);
        if (call->batch[i].outcome != SPOOL_DELIVERED)
            continue;
        check_members(call->state->sink, event);
        oracle_accept(call->state->sink, event);
    }
}

int group_sim_answer(struct far_call *call)
{
    struct reasons reasons = {arena_get(ARENA_WORLD, call->n * REASON_BYTES), call->reasoned};
    const struct delivery_capture mine = {call->batch, call->n, take_reason, &reasons};
    const struct delivery_capture *before = delivery_capture_reasons(&mine);
    int code = hooks_of(call->state->sink)->deliver(call->state->group, call->batch, call->n);
    delivery_capture_reasons(before);
    for (size_t i = 0; i < call->n; i++) {
        if (call->reasoned[i])
            spool_delivery_fail(&call->batch[i], call->batch[i].outcome, "%s", reasons.texts[i]);
    }
    arena_put(reasons.texts);
    tell_oracle(call);
    return code;
}
