/* judge.c - see judge.h. Each function is one sentence of the promise. */
#include "judge.h"

#include <stdarg.h>

bool judge_fails(const struct judge *judge, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(judge->why, judge->why_size, format, args);
    va_end(args);
    return false;
}

static const char *level_of(const struct promise_event *event)
{
    return event->frame.power ? "at power level" : event->covered ? "and flushed" : "at process level";
}

static bool event_fails(const struct judge *judge, const struct promise_event *event, const char *what)
{
    return judge_fails(judge, "event %u of producer %u (%s, %s): %s", event->number, event->frame.producer,
                       event->done ? "acknowledged" : "not acknowledged", level_of(event), what);
}

/* ---------------------------------------------------------------------------------------------- nothing is invented */

static bool nothing_invented(const struct judge *judge, const struct found_event *found, const char *where)
{
    const struct promise_event *event = promise_find(judge->promise, found->producer, found->number);
    if (!found->whole)
        return judge_fails(judge,
                           "an event in %s, lane %d, number %llu, has wrong bytes (says: event %u of producer %u)",
                           where, found->lane, (unsigned long long)found->seq, found->number, found->producer);
    if (!event)
        return judge_fails(judge, "%s has event %u of producer %u, which nobody enqueued", where, found->number,
                           found->producer);
    if (event->has_id && memcmp(&event->id, &found->id, sizeof event->id) != 0)
        return event_fails(judge, event, "it has another id than enqueue returned");
    if (found->lane != lane_of((enum spool_priority)event->frame.priority))
        return event_fails(judge, event, "it is in another lane");
    return true;
}

static bool all_known(const struct judge *judge)
{
    for (size_t i = 0; i < judge->found->n; i++) {
        if (!nothing_invented(judge, &judge->found->events[i], "the log"))
            return false;
    }
    for (size_t i = 0; i < judge->found->row_count; i++) {
        const struct found_row *row = &judge->found->rows[i];
        if (!nothing_invented(judge, &row->event, row->dead ? "the dead letter table" : "the retry table"))
            return false;
    }
    return true;
}

/* ------------------------------------------------------------------------------------------ each once, and in order */

static bool stands_once(const struct judge *judge, const struct found_event *a, const struct found_event *b)
{
    if (a->producer != b->producer || a->number != b->number)
        return true;
    return judge_fails(judge, "event %u of producer %u is in the log twice", a->number, a->producer);
}

static bool has_own_id(const struct judge *judge, const struct found_event *a, const struct found_event *b)
{
    if (memcmp(&a->id, &b->id, sizeof a->id) != 0)
        return true;
    return judge_fails(judge, "two events have one id: %u of producer %u and %u of producer %u", a->number, a->producer,
                       b->number, b->producer);
}

static bool in_order(const struct judge *judge, const struct found_event *a, const struct found_event *b)
{
    if (a->producer != b->producer || a->lane != b->lane)
        return true;
    return (a->number < b->number && spool_id_compare(&a->id, &b->id) < 0) ||
           judge_fails(judge, "events %u and %u of producer %u are in the log in the wrong order", a->number, b->number,
                       a->producer);
}

static bool each_once(const struct judge *judge)
{
    const struct found *found = judge->found;
    for (size_t i = 1; i < found->n; i++) {
        if (!stands_once(judge, found->by_number[i - 1], found->by_number[i]) ||
            !has_own_id(judge, found->by_id[i - 1], found->by_id[i]) ||
            !in_order(judge, found->by_lane[i - 1], found->by_lane[i]))
            return false;
    }
    return true;
}

/* ----------------------------------------------------------------------------------------------- nothing is missing */

static bool is_droppable(const struct judge *judge, const struct promise_event *event)
{
    return judge->promise->rules.drops && event->frame.priority == SPOOL_LOW;
}

static bool is_anywhere(const struct judge *judge, const struct promise_event *event)
{
    return found_anywhere(judge->found, event->frame.producer, event->number);
}

static bool anybody_waits(const struct judge *judge, const struct promise_event *event)
{
    for (size_t i = 0; i < judge->found->sink_count; i++) {
        if (found_waits(judge->found, &judge->found->sinks[i], event->frame.producer, event->number))
            return true;
    }
    return false;
}

/* Dropped events are counted: at least those that must be there and are not, at most those that nobody waits for. */
static bool drops_counted(const struct judge *judge, uint64_t missing)
{
    uint64_t most = 0, counted = judge->found->stats.dropped_events;
    for (size_t i = 0; i < judge->promise->n; i++)
        most += !anybody_waits(judge, &judge->promise->events[i]);
    if (!judge->promise->rules.drops || (missing <= counted && counted <= most))
        return true;
    return judge_fails(judge, "%llu to %llu events were dropped, %llu are counted", (unsigned long long)missing,
                       (unsigned long long)most, (unsigned long long)counted);
}

static bool nothing_missing(const struct judge *judge)
{
    uint64_t dropped = 0;
    for (size_t i = 0; i < judge->promise->n; i++) {
        const struct promise_event *event = &judge->promise->events[i];
        if (!event->must || event->loose || is_anywhere(judge, event))
            continue;
        if (!is_droppable(judge, event))
            return event_fails(judge, event, "it is lost");
        dropped++;
    }
    return drops_counted(judge, dropped);
}

/* All or none of a call's events. */
static bool frame_is_whole(const struct judge *judge, const struct mark_frame *frame)
{
    uint32_t there = 0;
    for (uint32_t i = 0; i < frame->count; i++) {
        const struct promise_event *event = promise_find(judge->promise, frame->producer, frame->first + i);
        if (event->loose || event->damaged || is_droppable(judge, event))
            return true;
        there += is_anywhere(judge, event);
    }
    return !there || there == frame->count ||
           judge_fails(judge, "of %u events enqueued in one call by producer %u from number %u, %u are there",
                       frame->count, frame->producer, frame->first, there);
}

static bool frames_whole(const struct judge *judge)
{
    for (size_t i = 0; i < judge->promise->n; i++) {
        const struct promise_event *event = &judge->promise->events[i];
        if (event->frame.count > 1 && event->number == event->frame.first && !frame_is_whole(judge, &event->frame))
            return false;
    }
    return true;
}

/* ------------------------------------------------------------------------------------------------------------ sinks */

static const char *is_at[] = {"nowhere", "waiting", "dead", "waiting and dead", "gone"};
static const char *may_be[] = {"nowhere", "waiting",         "dead",         "waiting or dead",
                               "gone",    "waiting or gone", "dead or gone", "anywhere"};

/* Where the event is for this sink; more than one bit is an error in itself. */
static uint8_t place_of(const struct judge *judge, const struct store_sink *sink, const struct promise_event *event)
{
    uint8_t place = 0;
    if (found_waits(judge->found, sink, event->frame.producer, event->number))
        place |= PLACE_WAITS;
    if (found_row(judge->found, sink->name, true, event->frame.producer, event->number))
        place |= PLACE_DEAD;
    return place ? place : PLACE_GONE;
}

static bool is_held(const struct judge *judge, const struct store_sink *sink, const struct promise_event *event,
                    int number)
{
    uint8_t may = event->hold[number].may, place = place_of(judge, sink, event);
    if (is_droppable(judge, event) || event->damaged)
        may |= PLACE_GONE;
    if (judge->promise->rules.damage)
        may |= PLACE_WAITS; /* an older row of the sink took the place of the broken one */
    if (!event->must && !is_anywhere(judge, event))
        return true; /* the call had not returned, or promised less */
    if (judge->promise->sinks[number].was_removed && may == 0)
        return true;
    if (place & may && ((place & (place - 1)) == 0 || judge->promise->rules.damage))
        return true;
    if (event->hold[number].left && (place & ~PLACE_DEAD ? place & ~PLACE_DEAD : PLACE_GONE) & may)
        return true; /* the letter is that of an earlier sink of that name */
    char what[160];
    snprintf(what, sizeof what, "for sink %s it is %s, but must be %s", sink->name, is_at[place], may_be[may]);
    return event_fails(judge, event, what);
}

/* Never at neither of the two. */
static bool move_is_whole(const struct judge *judge, const struct store_sink *from, const struct promise_event *event,
                          int number)
{
    unsigned to = event->hold[number].moving;
    const struct store_sink *other = to > 0 ? found_sink(judge->found, judge->promise->sinks[to - 1].mark.name) : NULL;
    if (!other || !event->must)
        return true;
    bool dead = place_of(judge, from, event) == PLACE_DEAD, waits = place_of(judge, other, event) == PLACE_WAITS;
    return dead != waits || event_fails(judge, event,
                                        dead ? "its dead letter was requeued to another sink, and is here, too"
                                             : "its dead letter was requeued to another sink, and is at neither");
}

static bool settings_fit(const struct judge *judge, const struct store_sink *sink, const struct promise_sink *promised)
{
    if (promised->limit >= 0 && sink->max_pending_bytes != (uint64_t)promised->limit)
        return judge_fails(judge, "sink %s has a limit of %llu bytes, %lld were set", sink->name,
                           (unsigned long long)sink->max_pending_bytes, (long long)promised->limit);
    bool reasoned = strstr(sink->paused_reason, promised->reason) != NULL && sink->paused_reason[0] != '\0';
    if (sink->paused && promised->reason[0] && !reasoned)
        return judge_fails(judge, "sink %s is paused for \"%s\", but it said \"%s\"", sink->name, sink->paused_reason,
                           promised->reason);
    return sink->paused || sink->paused_reason[0] == '\0' ||
           judge_fails(judge, "sink %s is not paused, but has a reason for it: \"%s\"", sink->name,
                       sink->paused_reason);
}

static bool numbers_fit(const struct judge *judge, const struct store_sink *sink, const struct promise_sink *promised)
{
    uint64_t retries = 0, dead = 0;
    for (size_t i = 0; i < judge->found->row_count; i++) {
        const struct found_row *row = &judge->found->rows[i];
        bool ours = strcmp(row->sink, sink->name) == 0;
        retries += ours && !row->dead;
        dead += ours && row->dead;
    }
    if (judge->promise->rules.no_check)
        return true;
    if (retries != sink->retry_rows || dead != sink->dead_rows)
        return judge_fails(judge, "sink %s counts %llu retries and %llu dead letters, there are %llu and %llu",
                           sink->name, (unsigned long long)sink->retry_rows, (unsigned long long)sink->dead_rows,
                           (unsigned long long)retries, (unsigned long long)dead);
    bool counts = !promised->was_removed && strcmp(promised->mark.kind, "file") != 0;
    if (counts && (sink->delivered < promised->settled || sink->delivered > promised->accepts))
        return judge_fails(judge, "sink %s counts %llu deliveries, but accepted %llu, of which %llu are stored",
                           sink->name, (unsigned long long)sink->delivered, (unsigned long long)promised->accepts,
                           (unsigned long long)promised->settled);
    return promised->paused < 0 || sink->paused == (promised->paused == 1) ||
           judge_fails(judge, "sink %s is %s", sink->name, sink->paused ? "paused" : "not paused any more");
}

/* Every event that it has passed is counted once: as delivered, dropped or filtered, or it is a row or a letter. */
static bool account_fits(const struct judge *judge, const struct store_sink *sink, const struct promise_sink *promised)
{
    const struct mark_rules *rules = &judge->promise->rules;
    uint64_t passed = 0, rows = 0;
    for (int lane = 0; lane < LANES; lane++) {
        passed += sink->cursor[lane] - sink->start[lane];
        for (uint32_t i = 0; i < sink->range_count[lane]; i++)
            passed += sink->ranges[lane][i].count;
    }
    for (size_t i = 0; i < judge->found->row_count; i++) {
        const struct found_row *row = &judge->found->rows[i];
        rows +=
            !row->dead && strcmp(row->sink, sink->name) == 0 && found_is_passed(sink, row->event.lane, row->event.seq);
    }
    uint64_t counted = sink->delivered + sink->filtered + sink->dropped;
    if (rules->damage || rules->no_check || promised->was_removed || promised->moved ||
        passed == counted + rows + sink->dead_rows)
        return true;
    return judge_fails(judge,
                       "sink %s has passed %llu events, but counts %llu as over, and there are %llu retries of these "
                       "and %llu dead letters",
                       sink->name, (unsigned long long)passed, (unsigned long long)counted, (unsigned long long)rows,
                       (unsigned long long)sink->dead_rows);
}

static bool sink_is_right(const struct judge *judge, int number)
{
    const struct promise_sink *promised = &judge->promise->sinks[number];
    if (!promised->mark.name[0])
        return true;
    const struct store_sink *sink = found_sink(judge->found, promised->mark.name);
    if (!sink && promised->sure)
        return judge_fails(judge, "sink %s is gone", promised->mark.name);
    if (sink && !promised->known)
        return judge_fails(judge, "sink %s was removed and is back", promised->mark.name);
    if (!sink)
        return true;
    for (size_t i = 0; i < judge->promise->n; i++) {
        if (!is_held(judge, sink, &judge->promise->events[i], number) ||
            !move_is_whole(judge, sink, &judge->promise->events[i], number))
            return false;
    }
    return settings_fit(judge, sink, promised) && numbers_fit(judge, sink, promised) &&
           account_fits(judge, sink, promised);
}

/* Dead letters outlive their sink. */
static bool letters_left(const struct judge *judge, int number)
{
    const char *name = judge->promise->sinks[number].mark.name;
    for (size_t i = 0; i < judge->promise->n; i++) {
        const struct promise_event *event = &judge->promise->events[i];
        if (event->must && event->hold[number].left == 2 &&
            !found_row(judge->found, name, true, event->frame.producer, event->number))
            return event_fails(judge, event, "its dead letter went with the sink");
    }
    return true;
}

static bool sinks_right(const struct judge *judge)
{
    for (int number = 0; number < SINKS_OF_LAB_MAX; number++) {
        if (!letters_left(judge, number) || !sink_is_right(judge, number))
            return false;
    }
    return true;
}

/* ---------------------------------------------------------------------------------------------------------- numbers */

static bool stats_fit(const struct judge *judge)
{
    const struct spool_stats *stats = &judge->found->stats;
    const struct mark_rules *rules = &judge->promise->rules;
    uint64_t dead = 0;
    for (size_t i = 0; i < judge->found->row_count; i++)
        dead += judge->found->rows[i].dead;
    if (rules->damage)
        return true;
    if (judge->found->gaps || judge->found->damaged || stats->damaged_blocks || stats->damaged_events)
        return judge_fails(judge, "%u gaps, %u damaged blocks (%llu blocks, %llu events counted)", judge->found->gaps,
                           judge->found->damaged, (unsigned long long)stats->damaged_blocks,
                           (unsigned long long)stats->damaged_events);
    if (stats->dead_letters != dead || stats->sinks != judge->found->sink_count)
        return judge_fails(judge, "counted: %llu dead letters, %u sinks; there are %llu and %zu",
                           (unsigned long long)stats->dead_letters, stats->sinks, (unsigned long long)dead,
                           judge->found->sink_count);
    if (stats->stored_events != judge->found->n)
        return judge_fails(judge, "counted: %llu events in segments; there are %zu",
                           (unsigned long long)stats->stored_events, judge->found->n);
    return rules->drops || !stats->dropped_events ||
           judge_fails(judge, "%llu events are counted as dropped", (unsigned long long)stats->dropped_events);
}

bool judge_all(const struct judge *judge)
{
    return all_known(judge) && each_once(judge) && nothing_missing(judge) && frames_whole(judge) &&
           sinks_right(judge) && stats_fit(judge);
}
