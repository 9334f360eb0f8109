/* reading.c - a stamp together with what is known of the true time at that moment. */
#include <sched.h>

#include "../lib/base/error.h"
#include "../lib/base/sync.h"
#include "clock_inside.h"

#define CONFIDENT_NS (500.0 * (double)NS_PER_MS)

const char *spool_clock_status_name(enum spool_clock_status status)
{
    static const char *const names[] = {"unsynchronised", "degraded", "holdover", "synchronised"};
    return (unsigned)status < sizeof names / sizeof *names ? names[status] : "unknown";
}

const char *spool_clock_verdict_name(enum spool_clock_verdict verdict)
{
    static const char *const names[] = {"unasked",     "unreachable", "refused", "unbounded",
                                        "falseticker", "no majority", "agrees",  "standby"};
    return (unsigned)verdict < sizeof names / sizeof *names ? names[verdict] : "unknown";
}

enum spool_clock_order spool_clock_compare(const struct spool_clock_reading *a, const struct spool_clock_reading *b)
{
    if (!a || !b)
        return SPOOL_CLOCK_OVERLAPPING;
    if (a->latest_ns < b->earliest_ns)
        return SPOOL_CLOCK_BEFORE;
    return a->earliest_ns > b->latest_ns ? SPOOL_CLOCK_AFTER : SPOOL_CLOCK_OVERLAPPING;
}

/* The error is the truth; this is nothing but a function of it and of how many agree: see spool.h. */
static double confidence(const struct spool_clock_reading *r)
{
    if (r->status == SPOOL_CLOCK_UNSYNCHRONISED || r->error_ns == SPOOL_CLOCK_UNKNOWN)
        return 0;
    return (double)r->agreeing / ((double)r->voting + 1) * CONFIDENT_NS / (CONFIDENT_NS + (double)r->error_ns);
}

static uint32_t flags_of(const struct hlc *clock, const struct summary *sum)
{
    bool paused = atomic_load_explicit(&clock->wall.paused_ns, memory_order_relaxed) != 0;
    return (paused ? SPOOL_CLOCK_PAUSED : 0) | (sum->at.wall_ns < HLC_FLOOR_NS ? SPOOL_CLOCK_UNSET : 0) |
           (sum->leap > 0 ? SPOOL_CLOCK_LEAP_INSERT : 0) | (sum->leap < 0 ? SPOOL_CLOCK_LEAP_DELETE : 0);
}

static void fill(const struct hlc *clock, const struct summary *sum, struct spool_clock_reading *ret)
{
    uint64_t before = sum->time_ns - sum->earliest_ns, after = sum->latest_ns - sum->time_ns;
    ret->size = sizeof *ret;
    ret->status = sum->status;
    ret->flags = flags_of(clock, sum);
    ret->time_ns = sum->time_ns;
    ret->earliest_ns = sum->earliest_ns;
    ret->latest_ns = sum->latest_ns;
    ret->error_ns = sum->status == SPOOL_CLOCK_UNSYNCHRONISED ? SPOOL_CLOCK_UNKNOWN : before > after ? before : after;
    ret->voting = sum->voting;
    ret->agreeing = sum->agreeing;
    ret->wall_offset_ns = (int64_t)(sum->time_ns - sum->at.wall_ns);
    ret->confidence = confidence(ret);
}

/* The stamp is made between two looks, and the interval holds for both: so also for it. */
int hlc_read(struct hlc *clock, struct spool_clock_reading *ret)
{
    struct sources *s = &clock->sources;
    struct hlc_look before, after;
    struct summary first, second;
    struct spool_clock_reading reading = {0};
    hlc_poll(clock, true);
    bool seen = wall_see(&clock->wall, &before);
    hlc_now(clock, &reading.stamp);
    if (!seen || !wall_see(&clock->wall, &after))
        return err_set(SPOOL_ETIMEOUT, "the clocks could not be read together: the machine is overloaded");
    pthread_mutex_lock(&s->lock);
    sources_sum_up(s, &before, &first);
    sources_sum_up(s, &after, &second);
    reading.tai_offset_s = s->tai_offset_s;
    pthread_mutex_unlock(&s->lock);
    if (first.status == second.status && first.earliest_ns < second.earliest_ns)
        second.earliest_ns = first.earliest_ns;
    if (second.status == SPOOL_CLOCK_UNSYNCHRONISED)
        second.time_ns = wall_physical_ns(&clock->wall, &after);
    fill(clock, &second, &reading);
    *ret = reading;
    return SPOOL_OK;
}

void hlc_reset(struct hlc *clock)
{
    struct hlc_look now;
    pthread_mutex_lock(&clock->sources.lock);
    clock->sources.followed_agreeing = 0;
    pthread_mutex_unlock(&clock->sources.lock);
    for (int attempt = 0; attempt < 1000; attempt++) {
        if (wall_see(&clock->wall, &now) && wall_reset(&clock->wall, &now))
            break;
        sched_yield(); /* another thread compares the clocks: that takes a microsecond */
    }
}
