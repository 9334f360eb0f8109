/* status_json.c - spool status and sinks for programs: everything that is known, under names that stay. */
#include "status.h"

/* What is known of the process that delivers, or did last; null if nothing is. */
static json_t *deliverer_json(const struct spool_sink_info *sink)
{
    if (!sink->deliverer_seen_ns)
        return json_null();
    json_t *object = json_object();
    json_set(object, "pid", json_number(sink->deliverer_pid));
    json_set(object, "state", json_text(spool_sink_state_name(sink->deliverer_state)));
    json_set(object, "seen", json_time(sink->deliverer_seen_ns));
    json_set(object, "latency_p50_ms", json_real((double)sink->latency_p50_ns / 1e6));
    json_set(object, "latency_p99_ms", json_real((double)sink->latency_p99_ns / 1e6));
    return object;
}

/* Of the process that delivers, or did last. */
static json_t *breaker_json(const struct spool_sink_info *sink)
{
    json_t *object = json_object();
    json_set(object, "state", json_text(spool_breaker_name(sink->breaker)));
    json_set(object, "since_ms", json_number(sink->breaker_since_ms));
    json_set(object, "next_probe_ms",
             sink->breaker == SPOOL_BREAKER_OPEN ? json_number(sink->next_try_ms) : json_null());
    json_set(object, "opened", json_number(sink->breaker_opened));
    return object;
}

static json_t *drops_json(const struct spool_sink_info *sink)
{
    json_t *object = json_object();
    for (int why = 0; why < SPOOL_DROPS; why++)
        json_set(object, spool_drop_name((enum spool_drop)why), json_number(sink->dropped_for[why]));
    return object;
}

static json_t *lanes_json(const struct spool_sink_info *sink)
{
    static const enum spool_priority lanes[] = {SPOOL_CRITICAL, SPOOL_HIGH, SPOOL_MEDIUM, SPOOL_LOW};
    json_t *object = json_object();
    for (size_t i = 0; i < sizeof lanes / sizeof *lanes; i++) {
        json_t *lane = json_object();
        json_set(lane, "pending_events", json_number(sink->lane_pending[lanes[i]]));
        json_set(lane, "retrying_events", json_number(sink->lane_retrying[lanes[i]]));
        json_set(lane, "delivered_events", json_number(sink->lane_delivered[lanes[i]]));
        json_set(lane, "oldest", json_time(sink->lane_oldest_ns[lanes[i]]));
        json_set(object, spool_priority_name(lanes[i]), lane);
    }
    return object;
}

static json_t *sink_json(const struct spool_sink_info *sink)
{
    json_t *config = json_loads(sink->json_config, 0, NULL), *object = json_object();
    json_set(object, "name", json_text(sink->name));
    json_set(object, "kind", json_text(sink->kind));
    json_set(object, "state", json_text(spool_sink_state_name(sink->state)));
    json_set(object, "pending_events", json_number(sink->pending_events));
    json_set(object, "retrying_events", json_number(sink->retrying_events));
    json_set(object, "dead_letters", json_number(sink->dead_letters));
    json_set(object, "delivered_events", json_number(sink->delivered_events));
    json_set(object, "best_effort", json_boolean(sink->best_effort));
    json_set(object, "dropped_events", json_number(sink->dropped_events));
    json_set(object, "dropped_for", drops_json(sink));
    json_set(object, "filtered_events", json_number(sink->filtered_events));
    json_set(object, "options", json_loads(sink->options_json, 0, NULL));
    json_set(object, "resources", json_text(sink->resources));
    json_set(object, "waits_for", json_text(sink->waits_for));
    json_set(object, "waits_ms", json_number(sink->waits_ms));
    json_set(object, "oldest", json_time(sink->oldest_ns));
    json_set(object, "lanes", lanes_json(sink));
    json_set(object, "last_error", json_text(sink->last_error));
    json_set(object, "attempt", json_number(sink->attempt));
    json_set(object, "next_try_ms", json_number(sink->next_try_ms));
    json_set(object, "breaker", breaker_json(sink));
    json_set(object, "removing", json_boolean(sink->removing));
    json_set(object, "dead_letters_dropped", json_number(sink->dead_dropped));
    json_set(object, "deliverer", deliverer_json(sink));
    json_set(object, "config", config ? config : json_text(sink->json_config));
    return object;
}

static json_t *sinks_json(const struct survey *survey)
{
    json_t *sinks = json_array();
    for (size_t i = 0; i < survey->count; i++)
        json_array_append_new(sinks, sink_json(&survey->sinks[i]));
    return sinks;
}

static json_t *damage_json(const struct spool_stats *stats)
{
    json_t *object = json_object();
    json_set(object, "blocks", json_number(stats->damaged_blocks));
    json_set(object, "events", json_number(stats->damaged_events));
    json_set(object, "seen", json_boolean(!has_new_damage(stats)));
    return object;
}

static json_t *problems_json(const struct problems *problems)
{
    json_t *array = json_array();
    for (size_t i = 0; i < problems->count; i++) {
        json_t *object = json_object();
        json_set(object, "urgent", json_boolean(problems->items[i].urgent));
        json_set(object, "what", json_text(problems->items[i].what));
        json_set(object, "do", json_text(problems->items[i].action));
        json_array_append_new(array, object);
    }
    return array;
}

void status_print_json(const struct status *status, const struct problems *problems)
{
    const struct spool_stats *stats = &status->stats;
    json_t *object = json_object();
    json_set(object, "dir", json_text(status->tool->dir));
    json_set(object, "waiting_events", json_number(waiting_events(status)));
    json_set(object, "oldest", json_time(oldest_ns(status)));
    json_set(object, "stored_events", json_number(stats->stored_events));
    json_set(object, "used_bytes", json_number(stats->used_bytes));
    json_set(object, "max_bytes", json_number(stats->max_bytes));
    json_set(object, "segments", json_number(stats->segments));
    json_set(object, "journals", json_number(stats->journals));
    json_set(object, "dead_journals", json_number(stats->dead_journals));
    json_set(object, "dead_letters", json_number(stats->dead_letters));
    json_set(object, "dropped_events", json_number(stats->dropped_events));
    json_set(object, "damage", damage_json(stats));
    json_set(object, "disk_full", json_boolean(stats->disk_full));
    json_set(object, "sinks", sinks_json(&status->survey));
    json_set(object, "problems", problems_json(problems));
    json_print(object);
}

void sinks_print_json(const struct survey *survey)
{
    for (size_t i = 0; i < survey->count; i++)
        json_print(sink_json(&survey->sinks[i]));
}
