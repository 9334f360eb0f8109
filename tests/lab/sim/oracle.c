/* oracle.c - the account of every event for every sink. It sees everything, on disk and over there, at every moment,
 * and calls violation() when something is so that the promise does not allow. Each rule has a name, which the reports
 * show.
 *
 *   early        on disk an event counts as finished that nobody answered for
 *   again        an event is presented although the library has heard that it is delivered, or it is finished on disk
 *   resource     two sinks that need the same one for themselves deliver at once
 *   key          two workers of a sink have events of one agent at once
 *   order        an event is accepted before an earlier one of its key
 *   attempts     the attempt presented or stored is not one more than the failures
 *   backoff      a row is due later than the ceiling, or earlier than the sink asked for, or is presented before it is
 * due dead         a dead letter that nobody refused and no limit reached expired      an event is presented after its
 * time to live paused, stopped, dropped, election      delivery where there must be none counters     delivered and
 * dropped are not what became finished invented     an event that was never enqueued, or not with these bytes lost,
 * liveness, exactly-once            at the end
 *   hand         a sink is given what no mark tells of, should the process die
 *   crash-loop   an event kills more processes than its sink allows
 *   asked        delivery to a sink that said that only an operator can mend it, before he says that he has
 *   ramp         a sink that is down gets more at once than a probe
 *   filter       an event is presented that the sink's filter stops
 *   group        of a group, an event counts as delivered that fewer members have than it takes
 *   account      at the end a sink counts more or less events than came to it, whatever crashed meanwhile */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../delivery/backoff.h"
#include "world.h"

static const uint64_t grace_ns = SEC; /* for what was under way when something changed */

static unsigned long long show(uint64_t n)
{
    return (unsigned long long)n;
}

/* No jump of the wall clock lately that explains an odd time. */
static bool wall_is_steady(uint64_t for_ns)
{
    return world.jumps == 0 || sched_now() - world.jumped_ns > for_ns;
}

static struct tally *tally(struct sink_world *sink, const struct event *event)
{
    return &sink->tallies[event_number(event)];
}

/* It was in hand at so many deaths, the last ones alone, that it is not delivered any more. */
static bool may_be_condemned(const struct sink_world *sink, const struct tally *t)
{
    return t->died_alone > 0 && t->died_alone + 1u >= sink->options.max_crashes;
}

static bool may_be_expired(const struct event *e)
{
    return e->ttl_ms > 0 && world.wall_max_ns - e->born_ns > e->ttl_ms * MS;
}

static bool is_stopped(const struct sink_world *sink, const struct event *e)
{
    return e->agent > 0 && e->agent <= sink->agents_stopped;
}

struct event *oracle_event(const struct spool_delivery *delivery)
{
    char text[16] = "";
    const struct spool_event *given = delivery->event;
    memcpy(text, given->body, given->body_size < 15 ? given->body_size : 15);
    unsigned long number = strtoul(text, NULL, 10);
    if (number >= world.event_count || memcmp(&world.events[number].id, &delivery->id, sizeof delivery->id) != 0)
        violation("invented", "an event %lu that was never enqueued, or under another id", number);
    return &world.events[number];
}

/* -------------------------------------------------------------------------------------------------------- presenting
 */

static void present_whole(const struct sink_world *sink, int proc, size_t n, bool goes_on)
{
    const struct proc *p = &world.procs[proc];
    bool current = sink->registered && sink->disk.generation == sink->loaded_generation[proc];
    /* A worker that was given up may have been about to begin. */
    uint64_t since_stop_ns = sched_now() - p->stopped_ns;
    if (p->stopped && since_stop_ns > 10 * MS + sched_excused_ns() - p->stopped_excused_ns)
        violation("stopped", "process %d delivers to %s after stop has returned", proc, sink->name);
    if (sink->served[proc] == 0)
        violation("dropped", "process %d delivers to %s after it was dropped", proc, sink->name);
    if (current && sink->owner != proc)
        violation("election", "process %d delivers to %s, which process %d serves", proc, sink->name, sink->owner);
    uint64_t seen_ns = sink->paused_seen_ns[proc];
    uint64_t excused_ns = grace_ns + sched_excused_ns() - sink->paused_excused_ns[proc];
    if (current && !goes_on && sink->paused_ns > 0 && seen_ns > 0 && sched_now() > seen_ns + excused_ns)
        violation("paused", "process %d delivers to %s, %llu ms after it knew that it is paused", proc, sink->name,
                  show((sched_now() - seen_ns) / MS));
    uint64_t asked_ns = sched_now() - sink->asked_ns[proc];
    if (current && !goes_on && sink->asked_pause[proc] == sink->loads + 1 &&
        asked_ns > grace_ns + sched_excused_ns() - sink->asked_excused_ns[proc])
        violation("asked", "process %d delivers to %s, %llu ms after it said that only an operator can mend it", proc,
                  sink->name, show(asked_ns / MS));
    bool long_down = sink->failed_tries > 0 &&
                     sched_now() - sink->failed_ns > grace_ns + sched_excused_ns() - sink->failed_excused_ns;
    if (current && !goes_on && long_down && n > sink->options.probe_events)
        violation("ramp", "%s is down and gets %zu events at once, a probe has %u", sink->name, n,
                  sink->options.probe_events);
    if (n == 0 || n > sink->options.batch_events_max)
        violation("batch", "%zu events in a batch of %s, at most %u are asked for", n, sink->name,
                  sink->options.batch_events_max);
}

static void present_attempt(const struct sink_world *sink, const struct event *e, const struct tally *t,
                            uint32_t attempt)
{
    const struct spool_sink_options *o = &sink->options;
    if (attempt != t->failures + 1u && !t->requeued)
        violation("attempts", "%s: attempt %u of event %u, which failed %u times", sink->name, attempt, event_number(e),
                  t->failures);
    if (o->max_attempts > 0 && attempt > o->max_attempts)
        violation("attempts", "%s: attempt %u of event %u, at most %u are allowed", sink->name, attempt,
                  event_number(e), o->max_attempts);
}

static void present_one(struct sink_world *sink, int proc, const struct spool_delivery *delivery)
{
    struct event *e = oracle_event(delivery);
    struct tally *t = tally(sink, e);
    if (t->heard_in == sink->loads && !t->requeued)
        violation("again", "%s: event %u is delivered, and presented again without a reason", sink->name,
                  event_number(e));
    if (t->finished && !t->row)
        violation("again", "%s: event %u is finished on disk, and presented again", sink->name, event_number(e));
    if (is_stopped(sink, e))
        violation("filter", "%s: event %u is presented, which its filter stops", sink->name, event_number(e));
    present_attempt(sink, e, t, delivery->attempt);
    bool given_up = sink->hand.excused_ns > 0 && sched_now() - sink->hand.excused_ns < 10 * MS;
    if (world.control != CONTROL_TWO_OWNERS && !given_up && !hand_has(&sink->hand, e->lane, e->seq))
        violation("hand", "%s: event %u is presented, but not marked as in hand", sink->name, event_number(e));
    if (t->row && t->due_ns > sched_now() + MS && t->failed_jumps == world.jumps)
        violation("backoff", "%s: event %u is presented %llu ms before it is due", sink->name, event_number(e),
                  show((t->due_ns - sched_now()) / MS));
    uint64_t now = hlc_expiry_ns(world.procs[proc].clock); /* which stands still after a jump forward */
    if (may_be_expired(e) && wall_is_steady(3600 * SEC) && now > e->born_ns + e->ttl_ms * MS + 3600 * SEC)
        violation("expired", "%s: event %u is presented an hour after its time to live", sink->name, event_number(e));
}

/* Of each agent one call at most has events, whatever lane they are of. */
static void check_hands(const struct sink_world *sink, int proc, const struct event *e)
{
    if (sink->options.order == SPOOL_ORDER_AGENT && e->agent && sink->agents_in_hand[proc][e->agent] > 0)
        violation("key", "%s: event %u is presented while another worker has one of agent %u", sink->name,
                  event_number(e), e->agent);
}

static bool needs_one(const struct sink_world *sink)
{
    return sink->options.resources && strstr(sink->options.resources, "one");
}

/* `one` is taken as a whole by each batch that needs it. */
static void check_resources(const struct sink_world *sink, int proc)
{
    uint32_t calls = 0;
    for (uint32_t k = 0; k < world.sink_count && needs_one(sink); k++)
        calls += needs_one(&world.sinks[k]) ? world.sinks[k].running[proc] : 0;
    if (calls > 1)
        violation("resource", "%s delivers while another batch has the resource that it needs for itself", sink->name);
}

/* Counts the batch's agents as in hand, each once, or no longer. */
void oracle_hold(struct sink_world *sink, int proc, const struct spool_delivery *batch, size_t n, bool holds)
{
    bool seen[AGENTS_MAX] = {false};
    if (holds)
        check_resources(sink, proc);
    for (size_t i = 0; i < n; i++) {
        uint32_t agent = oracle_event(&batch[i])->agent;
        if (holds && !seen[agent])
            check_hands(sink, proc, oracle_event(&batch[i]));
        if (!seen[agent] && holds)
            sink->agents_in_hand[proc][agent]++;
        else if (!seen[agent])
            sink->agents_in_hand[proc][agent]--;
        seen[agent] = true;
    }
}

void oracle_present(struct sink_world *sink, int proc, const struct spool_delivery *batch, size_t n, bool goes_on)
{
    present_whole(sink, proc, n, goes_on);
    bool known = sink->registered && sink->disk.generation == sink->loaded_generation[proc];
    for (size_t i = 0; i < n && known; i++)
        present_one(sink, proc, &batch[i]);
}

/* ---------------------------------------------------------------------------------------------- accepted and heard of
 */

/* The one before it of the same key, or NULL. */
static struct event *before(const struct sink_world *sink, const struct event *e)
{
    if (sink->options.order == SPOOL_ORDER_AGENT)
        return e->before;
    return e->seq > 0 ? event_at(e->lane, e->seq - 1) : NULL;
}

static void check_order(struct sink_world *sink, const struct event *e)
{
    if (sink->options.order == SPOOL_ORDER_NONE || (sink->options.order == SPOOL_ORDER_AGENT && !e->agent))
        return;
    const struct event *b = before(sink, e);
    for (int steps = 0; b && steps < 100 && b->seq >= sink->start_seq[e->lane]; steps++, b = before(sink, b))
        if (!tally(sink, b)->resolved && !may_be_expired(b) && !b->damaged && !b->gone && !tally(sink, b)->excused &&
            !tally(sink, b)->over && !is_stopped(sink, b) && !may_be_condemned(sink, tally(sink, b)))
            violation("order", "%s: event %u is accepted before event %u of the same key", sink->name, event_number(e),
                      event_number(b));
}

void oracle_accept(struct sink_world *sink, struct event *e)
{
    struct tally *t = tally(sink, e);
    if (!sink->registered)
        return;
    if (sink->loaded_generation[co_proc()] == sink->disk.generation)
        check_order(sink, e);
    t->accepted++;
    t->resolved = true;
    world.accepted++;
    sched_mix(event_number(e));
    trace("%s accepts event %u (lane %d, %llu)", sink->name, event_number(e), e->lane, show(e->seq));
    if (sink->checkpoints && sink->log_count == SIM_LOG_MAX)
        violation("simulation", "%s: the far side is full", sink->name);
    if (sink->checkpoints)
        sink->log[sink->log_count++] = event_number(e);
}

void oracle_refuse(struct sink_world *sink, struct event *e)
{
    tally(sink, e)->resolved = true;
}

static bool was_answered(const struct spool_delivery *delivery, bool reasoned)
{
    return delivery->outcome != SPOOL_RETRY || delivery->retry_after_ms > 0 || reasoned;
}

static bool reached_limit(const struct sink_world *sink, const struct event *e, uint32_t attempts)
{
    const struct spool_sink_options *o = &sink->options;
    return (o->max_attempts > 0 && attempts >= o->max_attempts) ||
           (o->max_age_ms > 0 && world.wall_max_ns - e->born_ns > o->max_age_ms * MS);
}

static void hear_failure(struct sink_world *sink, struct event *e, const struct spool_delivery *delivery)
{
    struct tally *t = tally(sink, e);
    t->failures++;
    t->asked_ms = delivery->retry_after_ms;
    t->asked_ns = hlc_physical_ns(world.procs[co_proc()].clock);
    t->failed_jumps = world.jumps;
    t->due_ns = 0;
    t->resolved |= reached_limit(sink, e, t->failures); /* a dead letter from now on */
}

void oracle_hear(struct sink_world *sink, const struct spool_delivery *batch, size_t n, int code, const bool *reasoned)
{
    size_t open = 0;
    for (size_t i = 0; i < n; i++)
        open += batch[i].outcome != DELIVERY_UNTRIED && !was_answered(&batch[i], reasoned[i]);
    for (size_t i = 0; i < n; i++) {
        const struct spool_delivery *d = &batch[i];
        struct tally *t = tally(sink, oracle_event(d));
        bool answered = was_answered(d, reasoned[i]);
        bool refused = d->outcome == SPOOL_REJECTED || (!answered && code == SPOOL_EREJECTED && open == 1);
        if (d->outcome == SPOOL_DELIVERED) {
            t->heard_in = sink->loads;
            t->ever_heard = true;
        } else if (d->outcome != DELIVERY_UNTRIED && (refused || answered || code == SPOOL_OK)) {
            t->refused |= refused;
            t->resolved |= refused;
            hear_failure(sink, oracle_event(d), d);
        }
    }
}

/* One more of its deaths is allowed if it was not alone at the first ones. */
void oracle_kill(struct sink_world *sink, struct event *e)
{
    struct tally *t = tally(sink, e);
    uint32_t most = sink->options.max_crashes > 2 ? sink->options.max_crashes : 2;
    if (++t->killed > most)
        violation("crash-loop", "%s: event %u kills process %u, %u are allowed", sink->name, event_number(e), t->killed,
                  most);
}

/* While a sink is down the waits between tries are drawn evenly from 0 to the ceiling. So once that has reached the
 * cap, 16 tries take 8 times the cap, give or take one cap; less than a sixth of it is no chance. */
void oracle_try(struct sink_world *sink, bool failed)
{
    const struct spool_sink_options *o = &sink->options;
    uint32_t capped_at = 10;
    for (uint64_t ms = o->retry_base_ms; ms < o->retry_cap_ms; ms *= 2)
        capped_at++;
    sink->failed_tries = failed ? sink->failed_tries + 1 : 0;
    if (failed) {
        sink->failed_ns = sched_now();
        sink->failed_excused_ns = sched_excused_from();
    }
    if (sink->failed_tries == capped_at)
        sink->capped_ns = sched_now();
    if (sink->failed_tries == capped_at + 16 && sched_now() - sink->capped_ns < o->retry_cap_ms * MS * 8 / 6)
        violation("backoff", "%s was tried 16 times in %llu ms while it was down, the cap is %u", sink->name,
                  show((sched_now() - sink->capped_ns) / MS), o->retry_cap_ms);
}

void oracle_ask_pause(struct sink_world *sink, int proc)
{
    if (world.healing)
        return;
    sink->asked_pause[proc] = sink->loads + 1;
    sink->asked_ns[proc] = sched_now();
    sink->asked_excused_ns[proc] = sched_excused_from();
}

void oracle_resumed(struct sink_world *sink)
{
    memset(sink->asked_pause, 0, sizeof sink->asked_pause);
}

/* A process reads where the sink stood: what was heard before and is not on disk may come again. */
void oracle_load(struct sink_world *sink)
{
    uint64_t wall_ns = world_wall_ns();
    sink->loads++;
    sink->failed_tries = 0;
    for (uint32_t i = 0; i < world.event_count; i++) {
        struct tally *t = &sink->tallies[i];
        t->failures = t->row ? (uint16_t)t->row->attempts : 0;
        t->known_row = t->row && !t->finished;
        uint64_t due_ns = t->row ? t->row->due_ns : 0; /* what an acknowledgement that failed told is forgotten */
        t->due_ns = due_ns > wall_ns ? sched_now() + (due_ns - wall_ns) : 0;
        if (world.jumps > 0)
            t->due_ns = 0; /* a clock that was set back since makes it due at once */
    }
    sink->uncertain = false;
}

/* -------------------------------------------------------------------------------------------------- acknowledgements
 */

static uint64_t rows_from_log(const struct store_ack *ack)
{
    uint64_t rows = 0;
    for (size_t i = 0; i < ack->retry_count; i++)
        rows += ack->retries[i].packed != NULL;
    for (size_t i = 0; i < ack->dead_count; i++)
        rows += ack->dead[i].packed != NULL;
    return rows;
}

/* By the clock of the process, which does not follow the wall clock forward; another one may not know of that, and take
 * the row for due too early. */
static void check_due(const struct sink_world *sink, int proc, const struct store_retry *row, struct tally *t)
{
    const struct spool_sink_options *o = &sink->options;
    uint64_t now = hlc_physical_ns(world.procs[proc].clock);
    t->due_ns = 0;
    if (row->attempts == 0 || t->failed_jumps != world.jumps)
        return;
    t->due_ns = row->due_ns > now && now == world_wall_ns() ? sched_now() + (row->due_ns - now) : 0;
    uint64_t ceiling_ms = backoff_ceiling_ms(row->attempts, o->retry_base_ms, o->retry_cap_ms);
    uint64_t most_ms = ceiling_ms > t->asked_ms ? ceiling_ms : t->asked_ms;
    if (row->due_ns > now + most_ms * MS)
        violation("backoff", "%s: a row is due in %llu ms, at most %llu are allowed", sink->name,
                  show((row->due_ns - now) / MS), show(most_ms));
    if (row->attempts == t->failures && row->due_ns < t->asked_ns + t->asked_ms * MS)
        violation("backoff", "%s: a row is due %llu ms after the sink failed it, which asked for %llu", sink->name,
                  show(row->due_ns > t->asked_ns ? (row->due_ns - t->asked_ns) / MS : 0), show(t->asked_ms));
    if (row->due_ns + 3600 * SEC < now)
        violation("backoff", "%s: a row is due long ago", sink->name);
}

static void check_retry(struct sink_world *sink, int proc, const struct store_retry *row)
{
    const struct event *e = event_at(row->lane, row->seq);
    struct tally *t = tally(sink, e);
    if (row->attempts != t->failures && !t->requeued)
        violation("attempts", "%s: event %u failed %u times, its row says %u", sink->name, event_number(e), t->failures,
                  row->attempts);
    check_due(sink, proc, row, t);
}

static void check_dead(struct sink_world *sink, const struct store_retry *row)
{
    const struct event *e = event_at(row->lane, row->seq);
    const struct tally *t = tally(sink, e);
    if (t->requeued)
        return;
    bool crashed = may_be_condemned(sink, t);
    if (!t->refused && !crashed && !reached_limit(sink, e, row->attempts))
        violation("dead", "%s: event %u died, but nobody refused it and no limit is reached", sink->name,
                  event_number(e));
    if (row->attempts != t->failures && !crashed)
        violation("attempts", "%s: event %u failed %u times, its dead letter says %u", sink->name, event_number(e),
                  t->failures, row->attempts);
}

static void check_done(struct sink_world *sink, const struct store_done *done)
{
    const struct event *e = event_at(done->lane, done->seq);
    const struct tally *t = tally(sink, e);
    if (t->row && !t->ever_heard && !may_be_expired(e) && !t->excused)
        violation("early", "%s: the row of event %u is deleted before it is delivered", sink->name, event_number(e));
}

void oracle_ack_before(struct sink_world *sink, int proc, const struct store_ack *ack)
{
    for (size_t i = 0; i < ack->retry_count; i++)
        check_retry(sink, proc, &ack->retries[i].row);
    for (size_t i = 0; i < ack->dead_count; i++)
        check_dead(sink, &ack->dead[i].row);
    for (size_t i = 0; i < ack->done_count; i++)
        check_done(sink, &ack->done[i]);
    sink->finished_before = sink->finished;
    sink->holes = sink->known_rows = 0;
}

/* Delivered, filtered and dropped events of the log are those that became finished, less those that got a row. */
void oracle_ack_after(struct sink_world *sink, const struct store_ack *ack, bool whole)
{
    uint64_t over = store_ack_delivered(ack) + ack->filtered + store_drops_total(&ack->drops);
    uint64_t told = over + rows_from_log(ack) + sink->known_rows;
    uint64_t found = sink->finished - sink->finished_before;
    bool cut = false;
    for (int lane = 0; lane < LANES; lane++)
        cut |= ack->range_count[lane] == STORE_RANGES_MAX;
    if (!whole || cut)
        sink->uncertain = true; /* until what is stored and what is known are the same again: at the next load */
    else if (!sink->uncertain && (told > found || found - told > sink->holes))
        violation(
            "counters",
            "%s: %llu delivered or filtered, %llu dropped and %llu new rows, but %llu events are newly finished (up to "
            "%llu are holes)",
            sink->name, show(store_ack_delivered(ack) + ack->filtered), show(store_drops_total(&ack->drops)),
            show(rows_from_log(ack)), show(found), show(sink->holes));
}

void oracle_finished(struct sink_world *sink, struct event *e)
{
    struct tally *t = tally(sink, e);
    bool answered = t->ever_heard || t->row || t->dead || t->excused || t->over || is_stopped(sink, e);
    if (!answered && !may_be_expired(e) && !e->damaged && !e->gone)
        violation("early", "%s: event %u is finished on disk, but nobody answered for it", sink->name, event_number(e));
    sink->holes += e->gone;
    sink->known_rows += t->known_row;
    t->known_row = false;
}

/* ----------------------------------------------------------------------------------------------------------- at the
 * end */

bool oracle_is_quiet(const struct sink_world *sink, uint32_t *ret_number)
{
    for (uint32_t i = 0; i < world.event_count; i++) {
        *ret_number = i;
        if (!sink->tallies[i].finished || sink->tallies[i].row)
            return false;
    }
    return true;
}

static void check_log(const struct sink_world *sink)
{
    for (uint32_t i = 0; i < world.event_count; i++) {
        const struct tally *t = &sink->tallies[i];
        if (t->accepted > 1)
            violation("exactly-once", "%s: event %u is over there %u times", sink->name, i, t->accepted);
    }
}

/* Whatever crashed, each event that came to it is counted once; one that was gone before it was read may be. */
static void check_account(const struct sink_world *sink)
{
    uint64_t came = 0, gone = 0, counted = sink->disk.delivered + sink->disk.filtered + sink->disk.dropped;
    for (uint32_t i = 0; i < world.event_count; i++) {
        const struct event *e = &world.events[i];
        bool meant = e->seq >= sink->start_seq[e->lane];
        came += meant;
        gone += meant && e->gone;
        counted += meant && sink->tallies[i].dead;
    }
    if (!sink->rewound && (counted > came || counted + gone < came))
        violation("account", "%s: %llu events came, of which %llu were gone at some time, and %llu are counted",
                  sink->name, show(came), show(gone), show(counted));
}

void oracle_final(void)
{
    for (uint32_t k = 0; k < world.sink_count; k++) {
        const struct sink_world *sink = &world.sinks[k];
        if (!sink->registered)
            continue;
        for (uint32_t i = 0; i < world.event_count; i++) {
            const struct tally *t = &sink->tallies[i];
            const struct event *e = &world.events[i];
            bool answered = t->accepted > 0 || t->dead || t->excused || t->over || is_stopped(sink, e) ||
                            e->seq < sink->start_seq[e->lane];
            if (!answered && !may_be_expired(e) && !e->damaged && !e->gone)
                violation("lost", "%s: event %u was enqueued and is neither delivered nor dead", sink->name, i);
        }
        if (sink->checkpoints)
            check_log(sink);
        check_account(sink);
    }
}
