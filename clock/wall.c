/* wall.c - physical time: comparing the clocks, and what follows from it. */
#include "wall.h"

#include <time.h>

#include "../lib/base/sync.h"

#define TOGETHER_NS NS_PER_MS
#define SUSPENDED_MIN_NS (1000 * NS_PER_MS)
#define LEAP_MIN_NS (900 * (int64_t)NS_PER_MS)
#define LEAP_MAX_NS (1100 * (int64_t)NS_PER_MS)

/* As ntpd does: a correction of that size on the word of a single source would more likely be its fault than ours. */
#define PANIC_NS (1000ull * 1000 * NS_PER_MS)

/* ------------------------------------------------------------------------------------------------------- looking */

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now = {0};
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void see_machine(const struct wall *wall, struct hlc_look *ret)
{
    ret->boot_ns = clock_ns(CLOCK_BOOTTIME);
    ret->mono_ns = clock_ns(CLOCK_MONOTONIC);
    ret->raw_ns = clock_ns(CLOCK_MONOTONIC_RAW);
    ret->wall_ns = wall_read(wall);
}

/* An interruption in between would look like a jump. */
bool wall_see(const struct wall *wall, struct hlc_look *ret)
{
    struct hlc_look look;
    if (wall->see) {
        wall->see(wall->user, ret);
        return true;
    }
    for (int attempt = 0; attempt < 3; attempt++) {
        see_machine(wall, &look);
        if (clock_ns(CLOCK_BOOTTIME) - look.boot_ns > TOGETHER_NS)
            continue;
        *ret = look;
        return true;
    }
    return false;
}

/* ------------------------------------------------------------------------------------------------------ comparing */

static uint64_t magnitude(int64_t ns)
{
    return ns < 0 ? 0 - (uint64_t)ns : (uint64_t)ns;
}

static int64_t correction_of(const struct wall *wall)
{
    return atomic_load_explicit(&wall->correction_ns, memory_order_relaxed);
}

static bool is_paused(const struct wall *wall)
{
    return atomic_load_explicit(&wall->paused_ns, memory_order_relaxed) != 0;
}

/* The correction goes first: see the head of wall.h. `busy` held. */
static void publish(struct wall *wall, const struct hlc_look *look, int64_t correction_ns)
{
    uint64_t now_ns = look->wall_ns + (uint64_t)correction_ns;
    if (is_paused(wall) && now_ns && now_ns < atomic_load_explicit(&wall->paused_ns, memory_order_relaxed))
        atomic_store_explicit(&wall->paused_ns, now_ns, memory_order_relaxed); /* corrected: it stands where that is */
    wall->checked = *look;
    wall->unset &= look->wall_ns < HLC_FLOOR_NS;
    atomic_store_explicit(&wall->last_ns, now_ns, memory_order_relaxed);
    atomic_store_explicit(&wall->correction_ns, correction_ns, memory_order_release);
    atomic_store_explicit(&wall->checked_ns, look->wall_ns, memory_order_release);
}

/* How far the wall clock moved against CLOCK_BOOTTIME since the last comparison; 0 if less than a jump. */
static int64_t jump_since(const struct wall *wall, const struct hlc_look *look)
{
    int64_t jump = (int64_t)((look->wall_ns - wall->checked.wall_ns) - (look->boot_ns - wall->checked.boot_ns));
    return magnitude(jump) >= wall->jump_min_ns ? jump : 0;
}

static uint64_t suspended_since(const struct wall *wall, const struct hlc_look *look)
{
    uint64_t boot = look->boot_ns - wall->checked.boot_ns, mono = look->mono_ns - wall->checked.mono_ns;
    return boot > mono && boot - mono >= SUSPENDED_MIN_NS ? boot - mono : 0;
}

static void pause_expiry(struct wall *wall, uint64_t now_ns)
{
    if (!is_paused(wall))
        atomic_store_explicit(&wall->paused_ns, now_ns ? now_ns : 1, memory_order_relaxed);
}

static void go_on(struct wall *wall)
{
    atomic_store_explicit(&wall->paused_ns, 0, memory_order_relaxed);
}

/* A clock that was never set is set at last: unless sources had told what the time is, that is followed. So is what undoes
 * jumps back, up to where physical time would be without them. */
static int64_t after_forward(struct wall *wall, const struct hlc_look *look, int64_t jump)
{
    int64_t correction = correction_of(wall), beyond = jump - wall->back_ns;
    bool was_unset = wall->checked.wall_ns + (uint64_t)correction < HLC_FLOOR_NS;
    wall->back_ns = beyond < 0 ? -beyond : 0;
    if (wall->unset && was_unset && look->wall_ns >= HLC_FLOOR_NS)
        return 0;
    if (beyond <= 0 || (uint64_t)beyond < wall->jump_min_ns)
        return correction;
    correction -= beyond;
    pause_expiry(wall, look->wall_ns + (uint64_t)correction);
    return correction;
}

/* Back to where it was before a jump that was not followed, about, or further. */
static int64_t after_backward(struct wall *wall, int64_t jump)
{
    int64_t correction = correction_of(wall), left = correction - jump;
    if (!is_paused(wall)) {
        wall->back_ns -= jump;
        return correction;
    }
    if (left < 0 && magnitude(left) >= wall->jump_min_ns)
        return left;
    go_on(wall);
    wall->back_ns = left > 0 ? left : 0;
    return 0;
}

/* `busy` held. */
static void compare(struct wall *wall, const struct hlc_look *look, struct wall_change *ret)
{
    int64_t jump = jump_since(wall, look), correction = correction_of(wall);
    ret->jump_ns = jump;
    ret->suspended_ns = suspended_since(wall, look);
    ret->is_leap = magnitude(jump) >= (uint64_t)LEAP_MIN_NS && magnitude(jump) <= (uint64_t)LEAP_MAX_NS &&
                   atomic_load_explicit(&wall->leap, memory_order_relaxed) == (jump < 0 ? 1 : -1);
    if (jump > 0 && !ret->is_leap)
        correction = after_forward(wall, look, jump);
    else if (jump < 0 && !ret->is_leap)
        correction = after_backward(wall, jump);
    publish(wall, look, correction);
}

static uint64_t time_of_last_comparison(const struct wall *wall)
{
    return atomic_load_explicit(&wall->last_ns, memory_order_acquire);
}

static bool begin(struct wall *wall)
{
    return !atomic_flag_test_and_set_explicit(&wall->busy, memory_order_acquire);
}

static void end(struct wall *wall)
{
    atomic_flag_clear_explicit(&wall->busy, memory_order_release);
}

uint64_t wall_compare(struct wall *wall, struct wall_change *ret)
{
    struct hlc_look look;
    *ret = (struct wall_change){0};
    if (!begin(wall))
        return time_of_last_comparison(wall);
    if (wall_see(wall, &look))
        compare(wall, &look, ret);
    end(wall);
    return time_of_last_comparison(wall);
}

uint64_t wall_physical_ns(const struct wall *wall, const struct hlc_look *look)
{
    return look->wall_ns + (uint64_t)correction_of(wall);
}

uint64_t wall_expiry_ns(struct wall *wall, uint64_t now_ns)
{
    uint64_t paused_ns = atomic_load_explicit(&wall->paused_ns, memory_order_relaxed);
    return paused_ns && paused_ns < now_ns ? paused_ns : now_ns;
}

/* ------------------------------------------------------------------------------------------------------ believing */

static uint64_t distance(uint64_t a, uint64_t b)
{
    return a > b ? a - b : b - a;
}

static int64_t correction_to(const struct wall_belief *b)
{
    bool within = b->at.wall_ns >= b->earliest_ns && b->at.wall_ns <= b->latest_ns;
    return within ? 0 : (int64_t)(b->time_ns - b->at.wall_ns);
}

static bool is_panic(const struct wall_belief *b)
{
    return b->agreeing < 2 && b->at.wall_ns >= HLC_FLOOR_NS && distance(b->time_ns, b->at.wall_ns) > PANIC_NS;
}

/* `busy` held. */
static void follow_majority(struct wall *wall, const struct wall_belief *b)
{
    if (is_panic(b))
        return;
    publish(wall, &b->at, correction_to(b));
    wall->back_ns = 0;
    go_on(wall);
}

/* What was agreed on before the jump, extrapolated. It confirms no jump, but its being undone. `busy` held. */
static void follow_memory(struct wall *wall, const struct wall_belief *b)
{
    if (is_panic(b))
        return;
    if (is_paused(wall) && distance(b->at.wall_ns, b->time_ns) < wall->jump_min_ns)
        go_on(wall);
    wall->back_ns = 0;
    publish(wall, &b->at, is_paused(wall) ? (int64_t)(b->time_ns - b->at.wall_ns) : correction_to(b));
}

bool wall_believe(struct wall *wall, const struct wall_belief *belief)
{
    if (!begin(wall))
        return false;
    bool jumped = jump_since(wall, &belief->at) != 0; /* not compared yet: the next stamp will, and we come again */
    if (!jumped && belief->status == SPOOL_CLOCK_SYNCHRONISED)
        follow_majority(wall, belief);
    else if (!jumped && belief->status == SPOOL_CLOCK_HOLDOVER)
        follow_memory(wall, belief);
    end(wall);
    return !jumped;
}

bool wall_reset(struct wall *wall, const struct hlc_look *now)
{
    if (!begin(wall))
        return false;
    publish(wall, now, 0);
    wall->back_ns = 0;
    go_on(wall);
    end(wall);
    return true;
}

void wall_init(struct wall *wall)
{
    struct hlc_look look = {0};
    atomic_flag_clear(&wall->busy);
    if (!wall_see(wall, &look))
        see_machine(wall, &look); /* as near as this machine gets today */
    wall->unset = look.wall_ns < HLC_FLOOR_NS;
    publish(wall, &look, 0);
}
