/* breaker.c - see breaker.h. */
#include "breaker.h"

static void enter(struct breaker *b, enum spool_breaker state, uint64_t now_ns)
{
    b->state = state;
    b->successes = 0;
    b->changed_ns = now_ns;
}

void breaker_init(struct breaker *b, const struct breaker_rules *rules, uint64_t now_ns)
{
    *b = (struct breaker){.rules = *rules, .state = SPOOL_BREAKER_CLOSED, .limit = UINT32_MAX, .changed_ns = now_ns};
}

void breaker_set_rules(struct breaker *b, const struct breaker_rules *rules)
{
    b->rules = *rules;
}

bool breaker_allows(const struct breaker *b, uint64_t now_ns)
{
    return now_ns >= b->until_ns;
}

enum breaker_change breaker_try(struct breaker *b, uint64_t now_ns)
{
    if (b->state != SPOOL_BREAKER_OPEN || !breaker_allows(b, now_ns))
        return BREAKER_SAME;
    enter(b, SPOOL_BREAKER_HALF_OPEN, now_ns);
    return BREAKER_HALF_OPENED;
}

uint32_t breaker_room(const struct breaker *b, uint32_t inflight)
{
    if (b->limit == UINT32_MAX)
        return UINT32_MAX;
    return b->limit > inflight ? b->limit - inflight : 0;
}

bool breaker_is_probing(const struct breaker *b)
{
    return b->state != SPOOL_BREAKER_CLOSED;
}

enum breaker_change breaker_failed(struct breaker *b, struct jitter *jitter, uint64_t now_ns)
{
    if (!breaker_allows(b, now_ns))
        return BREAKER_SAME; /* another batch of the same outage: it is one failure */
    if (b->failures < UINT32_MAX)
        b->failures++;
    b->limit = b->rules.probe_events;
    b->until_ns = now_ns + backoff_draw_ns(jitter, b->failures, b->rules.base_ms, b->rules.cap_ms);
    if (b->state == SPOOL_BREAKER_CLOSED && b->failures < b->rules.failures)
        return BREAKER_SAME;
    bool was_closed = b->state == SPOOL_BREAKER_CLOSED;
    b->opened += was_closed;
    enter(b, SPOOL_BREAKER_OPEN, now_ns);
    return was_closed ? BREAKER_OPENED : BREAKER_REOPENED;
}

static void widen(struct breaker *b, uint32_t events)
{
    if (b->limit == UINT32_MAX)
        return;
    uint32_t sum = b->limit + events;
    b->limit = sum < b->limit || sum >= b->rules.limit_max ? UINT32_MAX : sum;
}

/* Also while it is open: a batch that ran since before the outage shows that the sink works. */
enum breaker_change breaker_worked(struct breaker *b, uint32_t events, uint64_t now_ns)
{
    b->until_ns = 0;
    if (b->state == SPOOL_BREAKER_CLOSED) {
        b->failures = 0;
        widen(b, events);
        return BREAKER_SAME;
    }
    if (++b->successes < b->rules.probes) {
        if (b->state == SPOOL_BREAKER_HALF_OPEN)
            return BREAKER_SAME;
        b->state = SPOOL_BREAKER_HALF_OPEN;
        b->changed_ns = now_ns;
        return BREAKER_HALF_OPENED;
    }
    b->failures = 0;
    widen(b, events);
    enter(b, SPOOL_BREAKER_CLOSED, now_ns);
    return BREAKER_CLOSED;
}

void breaker_hurry(struct breaker *b, uint64_t now_ns)
{
    if (b->until_ns > now_ns)
        b->until_ns = now_ns;
}
