/* source_sum.c - from what each source said to what the time is. */
#include "source.h"

#include <string.h>

/* ------------------------------------------------------------------------------------------------- each source now */

static const struct anchor *sample_back(const struct source *source, unsigned i)
{
    return &source->samples[(source->newest + SAMPLES - i) % SAMPLES];
}

/* The newest answer, or an older one with less error (one that was not held up on its way) that does not contradict it.
 */
static struct estimate best_sample(const struct source *source, const struct hlc_look *now, uint32_t drift_ppm)
{
    struct estimate newest = anchor_age(sample_back(source, 0), now, drift_ppm), best = newest;
    for (unsigned i = 1; i < source->count; i++) {
        struct estimate e = anchor_age(sample_back(source, i), now, drift_ppm);
        bool agrees =
            estimate_earliest(e) <= estimate_latest(newest) && estimate_latest(e) >= estimate_earliest(newest);
        if (!agrees)
            break; /* it changed its mind: what was before is void */
        if (e.error_ns < best.error_ns)
            best = e;
    }
    return best;
}

/* Its last answer is old, and it was asked since: what it said extrapolates as well as any clock of ours until then. */
static bool is_stale(const struct source *source, const struct hlc_look *now)
{
    uint64_t age = now->boot_ns - sample_back(source, 0)->at.boot_ns;
    uint64_t least = 10 * 1000000000ull, most = (uint64_t)source->options.poll_interval_ms * 1000000u * STALE_POLLS;
    return !source->memory && source->failing && age > (most > least ? most : least);
}

/* Its time now, and whether it votes. */
static void look_at(struct source *source, const struct hlc_look *now, uint32_t drift_ppm)
{
    source->chosen = source->voted = false;
    source->verdict = source->refused ? SPOOL_CLOCK_REFUSED
                      : source->asked ? SPOOL_CLOCK_UNREACHABLE
                                      : SPOOL_CLOCK_UNASKED;
    if (!source->count)
        return;
    source->now = best_sample(source, now, drift_ppm);
    if (source->memory)
        source->verdict = SPOOL_CLOCK_STANDBY;
    else if (source->unbounded)
        source->verdict = SPOOL_CLOCK_UNBOUNDED;
    else if (!source->refused && !source->doomed && !is_stale(source, now))
        source->voted = true;
}

/* A source that has its time from itself is a root of its own, which nobody else can be: an address in memory, marked.
 */
static uint64_t root_of(const struct source *source)
{
    return source->root ? source->root : (uint64_t)(uintptr_t)source | 1ull << 63;
}

static struct vote vote_of(const struct source *source)
{
    return (struct vote){estimate_earliest(source->now), estimate_latest(source->now), root_of(source)};
}

/* ------------------------------------------------------------------------------------------------------- choosing */

/* Among those with the highest preference the least error. The one that was chosen before stays unless another one is
 * better by half: else two that are equally good would take turns. */
static bool is_better(const struct source *a, const struct source *b, const struct source *before)
{
    if (!b || a->options.preference != b->options.preference)
        return !b || a->options.preference > b->options.preference;
    uint64_t a_error = a == before ? a->now.error_ns / 2 : a->now.error_ns;
    uint64_t b_error = b == before ? b->now.error_ns / 2 : b->now.error_ns;
    return a_error < b_error;
}

static struct source *choose(const struct sources *s, const struct source *before, enum spool_clock_verdict among)
{
    struct source *best = NULL;
    for (size_t i = 0; i < SPOOL_CLOCK_SOURCES_MAX; i++) {
        struct source *source = s->list[i];
        if (source && source->voted && source->verdict == among && is_better(source, best, before))
            best = source;
    }
    return best;
}

/* The least error of all, whoever says it, memory included. */
static struct source *least_error(const struct sources *s)
{
    struct source *best = s->memory->count ? s->memory : NULL;
    for (size_t i = 0; i < SPOOL_CLOCK_SOURCES_MAX; i++) {
        struct source *source = s->list[i];
        if (source && source->voted && (!best || source->now.error_ns < best->now.error_ns))
            best = source;
    }
    return best;
}

static void take(struct summary *sum, struct source *source)
{
    source->chosen = true;
    sum->time_ns = source->now.time_ns;
    sum->earliest_ns = estimate_earliest(source->now);
    sum->latest_ns = estimate_latest(source->now);
}

/* -------------------------------------------------------------------------------------------------------- summing */

static void take_majority(struct sources *s, const struct majority *m, const struct source *before, struct summary *sum)
{
    for (size_t i = 0; i < SPOOL_CLOCK_SOURCES_MAX; i++) {
        struct source *source = s->list[i];
        if (!source || !source->voted)
            continue;
        struct vote vote = vote_of(source);
        bool agrees = vote_reaches(&vote, m->earliest_ns, m->latest_ns);
        source->verdict = agrees ? SPOOL_CLOCK_AGREES : SPOOL_CLOCK_FALSETICKER;
    }
    take(sum, choose(s, before, SPOOL_CLOCK_AGREES));
    sum->status = SPOOL_CLOCK_SYNCHRONISED;
    sum->agreeing = m->agreeing;
    sum->earliest_ns = m->earliest_ns;
    sum->latest_ns = m->latest_ns;
    if (sum->time_ns < m->earliest_ns)
        sum->time_ns = m->earliest_ns;
    if (sum->time_ns > m->latest_ns)
        sum->time_ns = m->latest_ns;
}

static void take_what_there_is(struct sources *s, struct summary *sum)
{
    for (size_t i = 0; i < SPOOL_CLOCK_SOURCES_MAX; i++)
        if (s->list[i] && s->list[i]->voted)
            s->list[i]->verdict = SPOOL_CLOCK_NO_MAJORITY;
    struct source *best = least_error(s);
    if (!best)
        return;
    take(sum, best);
    sum->status = sum->voting ? SPOOL_CLOCK_DEGRADED : SPOOL_CLOCK_HOLDOVER;
    sum->agreeing = 1;
    if (!sum->voting) {
        sum->voting = s->memory_voting;
        sum->agreeing = s->memory_agreeing;
    }
}

/* The interval in terms of an estimate: it may lie lopsided. */
static uint64_t error_of(const struct summary *sum)
{
    uint64_t before = sum->time_ns - sum->earliest_ns, after = sum->latest_ns - sum->time_ns;
    return before > after ? before : after;
}

static void remember(struct sources *s, const struct summary *sum)
{
    struct source *memory = s->memory;
    memory->asked = true;
    memory->answers++;
    memory->count = 1;
    memory->samples[memory->newest] = (struct anchor){sum->time_ns, error_of(sum), sum->at, sum->leap};
    s->memory_voting = sum->voting;
    s->memory_agreeing = sum->agreeing;
}

static int leap_of(const struct sources *s)
{
    for (size_t i = 0; i < SPOOL_CLOCK_SOURCES_MAX; i++)
        if (s->list[i] && s->list[i]->voted && s->list[i]->verdict != SPOOL_CLOCK_FALSETICKER &&
            sample_back(s->list[i], 0)->leap)
            return sample_back(s->list[i], 0)->leap;
    return 0;
}

void sources_sum_up(struct sources *s, const struct hlc_look *now, struct summary *ret)
{
    struct vote votes[SPOOL_CLOCK_SOURCES_MAX];
    const struct source *before = NULL;
    struct majority m;
    size_t n = 0;
    for (size_t i = 0; i < SPOOL_CLOCK_SOURCES_MAX; i++) {
        struct source *source = s->list[i];
        if (!source)
            continue;
        before = source->chosen ? source : before;
        look_at(source, now, sources_drift_ppm(s));
        if (source->voted)
            votes[n++] = vote_of(source);
    }
    bool found = majority_find(votes, n, &m);
    *ret = (struct summary){.at = *now, .time_ns = now->wall_ns, .latest_ns = UINT64_MAX, .voting = m.voting};
    if (found)
        take_majority(s, &m, before, ret);
    else
        take_what_there_is(s, ret);
    ret->leap = leap_of(s);
    if (found)
        remember(s, ret);
}

bool sources_may_follow(struct sources *s, const struct summary *sum)
{
    if (sum->status < SPOOL_CLOCK_HOLDOVER)
        return false;
    struct estimate e = anchor_age(&s->followed, &sum->at, sources_drift_ppm(s));
    bool reaches = estimate_earliest(e) <= sum->latest_ns && estimate_latest(e) >= sum->earliest_ns;
    if (s->followed_agreeing && !reaches && sum->agreeing < s->followed_agreeing)
        return false;
    if (sum->status == SPOOL_CLOCK_SYNCHRONISED) {
        s->followed = (struct anchor){sum->time_ns, error_of(sum), sum->at, sum->leap};
        s->followed_agreeing = sum->agreeing;
    }
    return true;
}
