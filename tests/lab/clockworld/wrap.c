/* wrap.c - chance instead of getrandom(), and the controls: parts of the clock that are broken on purpose. */
#include <string.h>
#include <sys/types.h>

#include "../../../clock/majority.h"
#include "../../../clock/wall.h"
#include "world.h"

ssize_t __wrap_getrandom(void *buffer, size_t size, unsigned flags);
bool __real_majority_find(const struct vote *votes, size_t n, struct majority *ret);
bool __wrap_majority_find(const struct vote *votes, size_t n, struct majority *ret);
struct estimate __real_anchor_age(const struct anchor *anchor, const struct hlc_look *now, uint32_t drift_ppm);
struct estimate __wrap_anchor_age(const struct anchor *anchor, const struct hlc_look *now, uint32_t drift_ppm);
void __real_hlc_now(struct hlc *clock, struct spool_id *ret_id);
void __wrap_hlc_now(struct hlc *clock, struct spool_id *ret_id);
int __real_hlc_update(struct hlc *clock, const struct spool_id *remote);
int __wrap_hlc_update(struct hlc *clock, const struct spool_id *remote);
uint64_t __real_wall_compare(struct wall *wall, struct wall_change *ret);
uint64_t __wrap_wall_compare(struct wall *wall, struct wall_change *ret);

ssize_t __wrap_getrandom(void *buffer, size_t size, unsigned flags)
{
    (void)flags;
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)buffer)[i] = (uint8_t)chance_number();
    return (ssize_t)size;
}

static bool least_error(const struct vote *votes, size_t n, struct majority *ret)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (votes[i].latest_ns - votes[i].earliest_ns < votes[best].latest_ns - votes[best].earliest_ns)
            best = i;
    if (n)
        *ret = (struct majority){votes[best].earliest_ns, votes[best].latest_ns, ret->voting, 1};
    return n > 0;
}

static unsigned sharing(const struct vote *votes, size_t n, uint64_t at, uint64_t *ret_until)
{
    unsigned count = 0;
    *ret_until = UINT64_MAX;
    for (size_t i = 0; i < n; i++) {
        if (votes[i].earliest_ns > at || votes[i].latest_ns < at)
            continue;
        count++;
        *ret_until = votes[i].latest_ns < *ret_until ? votes[i].latest_ns : *ret_until;
    }
    return count;
}

static bool most_shared(const struct vote *votes, size_t n, struct majority *ret)
{
    unsigned most = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t until;
        unsigned count = sharing(votes, n, votes[i].earliest_ns, &until);
        if (count <= most)
            continue;
        most = count;
        ret->earliest_ns = votes[i].earliest_ns;
        ret->latest_ns = until;
    }
    return true;
}

bool __wrap_majority_find(const struct vote *votes, size_t n, struct majority *ret)
{
    struct vote own[MAJORITY_MAX];
    for (size_t i = 0; i < n; i++) {
        own[i] = votes[i];
        own[i].root = i;
    }
    bool found = __real_majority_find(votes, n, ret);
    if (control == CONTROL_NO_ROOTS) {
        unsigned voting = ret->voting;
        found = __real_majority_find(own, n, ret);
        ret->voting = voting;
    }
    if (control == CONTROL_NO_MAJORITY)
        return least_error(votes, n, ret);
    return control == CONTROL_MOST_SHARED && found ? most_shared(votes, n, ret) : found;
}

struct estimate __wrap_anchor_age(const struct anchor *anchor, const struct hlc_look *now, uint32_t drift_ppm)
{
    struct hlc_look look = *now;
    if (control == CONTROL_NO_SLEEP)
        look.boot_ns = anchor->at.boot_ns + (now->mono_ns - anchor->at.mono_ns);
    if (control == CONTROL_NO_SLEW)
        look.raw_ns = anchor->at.raw_ns + (now->mono_ns - anchor->at.mono_ns);
    struct estimate e = __real_anchor_age(anchor, &look, drift_ppm);
    if (control == CONTROL_NO_GROWTH)
        e.error_ns = anchor->error_ns;
    return e;
}

void __wrap_hlc_now(struct hlc *clock, struct spool_id *ret_id)
{
    __real_hlc_now(clock, ret_id);
    if (control == CONTROL_FOLLOW_BACK)
        id_make((struct hlc_stamp){ticks_from_ns(hlc_physical_ns(clock)), id_stamp(ret_id).counter}, 1, ret_id);
}

int __wrap_hlc_update(struct hlc *clock, const struct spool_id *remote)
{
    if (control == CONTROL_NO_MERGE)
        return 0;
    if (control == CONTROL_NO_LIMIT) {
        hlc_raise(clock, remote);
        return 0;
    }
    return __real_hlc_update(clock, remote);
}

uint64_t __wrap_wall_compare(struct wall *wall, struct wall_change *ret)
{
    struct hlc_look look;
    uint64_t now = __real_wall_compare(wall, ret);
    if (control != CONTROL_FOLLOW_FORWARD || ret->jump_ns <= 0 || !wall_see(wall, &look) || !wall_reset(wall, &look))
        return now;
    return look.wall_ns;
}
