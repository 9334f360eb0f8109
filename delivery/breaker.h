/* breaker.h - whether a sink may be tried: a circuit breaker (M. Nygard, "Release It!", 2007). Pure: no thread, no
 * lock, no clock; the time is given. Guarded by its owner.
 *
 *   closed       the sink works. `failures` of it as a whole in a row open the breaker
 *   open         nothing is tried until a wait is over: exponential with full jitter (backoff.h), longer each time
 *   half-open    a probe of a few events runs, and nothing beside it. `probes` successes close the breaker, a failure
 *                opens it again
 *
 * A sink that comes back is not flooded: `limit` is how many events may be in flight. It begins at `probe_events`, and
 * each event that is delivered adds one, so that it doubles with each full round (TCP's slow start, RFC 5681, section
 * 3.1) until it is `limit_max`, which is no limit. */
#ifndef DELIVERY_BREAKER_H
#define DELIVERY_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

#include "../lib/spool.h"
#include "backoff.h"

struct breaker_rules {
    uint32_t failures;     /* in a row that open it; at least 1 */
    uint32_t probe_events; /* at once while it is half-open; at least 1 */
    uint32_t probes;       /* successes in a row that close it; at least 1 */
    uint32_t base_ms, cap_ms;
    uint32_t limit_max; /* events in flight that are no limit any more */
};

struct breaker {
    struct breaker_rules rules;
    enum spool_breaker state;
    uint32_t failures;   /* in a row */
    uint32_t successes;  /* of probes in a row */
    uint32_t limit;      /* events in flight */
    uint64_t until_ns;   /* nothing is tried before */
    uint64_t changed_ns; /* when it came into this state */
    uint64_t opened;     /* times that it went from closed to open */
};

/* What a call has changed. */
enum breaker_change { BREAKER_SAME, BREAKER_OPENED, BREAKER_REOPENED, BREAKER_HALF_OPENED, BREAKER_CLOSED };

void breaker_init(struct breaker *b, const struct breaker_rules *rules, uint64_t now_ns);
/* Other rules from now on; the state stays. */
void breaker_set_rules(struct breaker *b, const struct breaker_rules *rules);

/* May something be tried now? Changes nothing; b->until_ns is when to ask again. */
bool breaker_allows(const struct breaker *b, uint64_t now_ns);
/* It is tried: an open one whose wait is over becomes half-open. */
enum breaker_change breaker_try(struct breaker *b, uint64_t now_ns);
/* How many events more may be taken in flight beside `inflight`. UINT32_MAX: any number. */
uint32_t breaker_room(const struct breaker *b, uint32_t inflight);
/* The sink is not believed to work: one try at a time. */
bool breaker_is_probing(const struct breaker *b);

/* The sink as a whole failed. While it is open and waiting, a failure is one more of the same outage and changes
 * nothing. */
enum breaker_change breaker_failed(struct breaker *b, struct jitter *jitter, uint64_t now_ns);
/* It worked, for that many events. */
enum breaker_change breaker_worked(struct breaker *b, uint32_t events, uint64_t now_ns);
/* Somebody says that it is worth a try: the wait is over. */
void breaker_hurry(struct breaker *b, uint64_t now_ns);

#endif
