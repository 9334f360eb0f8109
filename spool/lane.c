/* lane.c - a priority's lane: lanes are numbered by importance, so that loops go from the most important one. */
#include "store.h"

static const struct {
    enum spool_priority priority;
    const char *name;
} lanes[LANES] = {
    {SPOOL_CRITICAL, "critical"},
    {SPOOL_HIGH, "high"},
    {SPOOL_MEDIUM, "medium"},
    {SPOOL_LOW, "low"},
};

int lane_of(enum spool_priority priority)
{
    static const int of[SPOOL_PRIORITIES] = {
        [SPOOL_CRITICAL] = LANE_CRITICAL,
        [SPOOL_HIGH] = LANE_HIGH,
        [SPOOL_MEDIUM] = LANE_MEDIUM,
        [SPOOL_LOW] = LANE_LOW,
    };
    return (unsigned)priority < SPOOL_PRIORITIES ? of[priority] : LANE_MEDIUM;
}

enum spool_priority lane_priority(int lane)
{
    return lane >= 0 && lane < LANES ? lanes[lane].priority : SPOOL_MEDIUM;
}

const char *lane_name(int lane)
{
    return lane >= 0 && lane < LANES ? lanes[lane].name : "unknown";
}
