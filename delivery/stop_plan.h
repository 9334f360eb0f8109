/* stop_plan.h - the moments of a stop that was asked for now, for sinks and for operations.
 *
 *   0               nothing new begins; what runs goes on
 *   half the time   what still runs is cancelled
 *   nine tenths     what still runs hangs, and is given up (at most 200 ms before the deadline) */
#ifndef DELIVERY_STOP_PLAN_H
#define DELIVERY_STOP_PLAN_H

#include "../lib/base/sync.h"

struct stop_plan {
    uint64_t cancel_ns, give_up_ns, deadline_ns;
};

static inline struct stop_plan stop_plan(uint64_t deadline_ns)
{
    uint64_t now = mono_ns(), time = deadline_ns > now ? deadline_ns - now : 0;
    if (deadline_ns == DEADLINE_NEVER)
        return (struct stop_plan){DEADLINE_NEVER, DEADLINE_NEVER, DEADLINE_NEVER};
    uint64_t reserve = time / 10 < 200 * NS_PER_MS ? time / 10 : 200 * NS_PER_MS;
    return (struct stop_plan){now + time / 2, deadline_ns - reserve, deadline_ns};
}

#endif
