/* hlc.c - the hybrid logical clock: one atomic word.
 *
 * The last stamp given is `ticks << 8 | counter` in 64 bits. The next one is the physical time if that is later, and
 * otherwise the last plus one: the counter runs within the tick and carries into the next tick by itself. So the whole
 * clock is one compare-and-swap, strictly increasing whatever the wall clock does.
 *
 * - 56 bits of ticks (1/4096 ms since 1970) last until the year 2527. The id has 60, good for the year 10889, but no
 * room for both parts in one word. A physical time beyond LAST_TICKS is taken as LAST_TICKS.
 * - 8 bits of counter, of the 14 that an id has: 256 stamps a tick, that is one a nanosecond, which no processor makes.
 * So while the wall clock stands still or is set back, the clock goes on by counting, more slowly than time itself.
 * - A stamp from elsewhere with a larger counter counts as the beginning of the next tick, at most 244 ns later.
 *
 * Jumps of the wall clock are found by comparing it with CLOCK_BOOTTIME (which, other than CLOCK_MONOTONIC, goes on
 * while the machine is suspended, so that waking up is no jump). That costs a second clock and is done only when the
 * wall clock has moved by CHECK_NS or backwards since the last comparison. Slewing (adjtime) moves both clocks and is
 * no jump. */
#include "clock.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "../lib/base/error.h"
#include "../lib/base/sync.h"

enum { COUNTER_BITS = 8, COUNTER_MAX = (1 << COUNTER_BITS) - 1 };

/* Leaves a year of ticks to count on from the last physical time. */
#define LAST_TICKS ((1ull << (64 - COUNTER_BITS)) - (1ull << 47))

#define NS_PER_S 1000000000ull
#define CHECK_NS (16 * NS_PER_MS)
#define READ_TOGETHER_NS NS_PER_MS
#define MAX_OFFSET_DEFAULT (500 * NS_PER_MS)
#define JUMP_MIN_DEFAULT NS_PER_S

struct hlc {
    _Atomic uint64_t last; /* ticks << COUNTER_BITS | counter */
    uint64_t node;
    struct hlc_options options;

    _Atomic uint64_t checked_wall_ns; /* written by the holder of `checking`, read by all */
    atomic_flag checking;             /* a try-lock: whoever finds it taken leaves the comparison to its holder */
    uint64_t checked_boot_ns;         /* lock: checking */
};

/* ------------------------------------------------------------------------------------------------------- physical */

static uint64_t system_physical(void *user)
{
    (void)user;
    return real_ns();
}

static uint64_t physical_ns(const struct hlc *clock)
{
    return clock->options.physical(clock->options.physical_user);
}

static uint64_t boot_ns(void)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* Reads both clocks at one moment: an interruption in between would look like a jump. False if there always was one. */
static bool read_together(const struct hlc *clock, uint64_t *ret_wall, uint64_t *ret_boot)
{
    for (int attempt = 0; attempt < 3; attempt++) {
        uint64_t before = boot_ns(), wall = physical_ns(clock);
        if (boot_ns() - before > READ_TOGETHER_NS)
            continue;
        *ret_wall = wall;
        *ret_boot = before;
        return true;
    }
    return false;
}

/* How far the wall clock moved against the other since the last comparison; 0 if less than a jump. */
static int64_t compare_clocks(struct hlc *clock)
{
    uint64_t wall, boot;
    if (!read_together(clock, &wall, &boot))
        return 0;
    uint64_t old_wall = atomic_load_explicit(&clock->checked_wall_ns, memory_order_relaxed);
    int64_t jump = (int64_t)((wall - old_wall) - (boot - clock->checked_boot_ns));
    clock->checked_boot_ns = boot;
    atomic_store_explicit(&clock->checked_wall_ns, wall, memory_order_relaxed);
    uint64_t size = jump < 0 ? 0 - (uint64_t)jump : (uint64_t)jump;
    return size >= clock->options.jump_min_ns ? jump : 0;
}

static __attribute__((noinline)) void check_jump(struct hlc *clock)
{
    if (atomic_flag_test_and_set_explicit(&clock->checking, memory_order_acquire))
        return;
    int64_t jump = compare_clocks(clock);
    atomic_flag_clear_explicit(&clock->checking, memory_order_release);
    if (jump && clock->options.on_jump)
        clock->options.on_jump(clock->options.jump_user, jump);
}

/* Unsigned: a wall clock that went back is far ahead, too. */
static bool check_is_due(const struct hlc *clock, uint64_t wall_ns)
{
    return wall_ns - atomic_load_explicit(&clock->checked_wall_ns, memory_order_relaxed) > CHECK_NS;
}

/* --------------------------------------------------------------------------------------------------------- stamps */

/* The first stamp of a physical time. */
static uint64_t word_at_ns(uint64_t unix_ns)
{
    uint64_t ticks = ticks_from_ns(unix_ns);
    return (ticks < LAST_TICKS ? ticks : LAST_TICKS) << COUNTER_BITS;
}

/* The smallest word that is not below the stamp. */
static uint64_t word_of_stamp(struct hlc_stamp stamp)
{
    if (stamp.counter > COUNTER_MAX)
        return (stamp.ticks + 1) << COUNTER_BITS;
    return stamp.ticks << COUNTER_BITS | stamp.counter;
}

static void raise_to(struct hlc *clock, uint64_t word)
{
    uint64_t last = atomic_load_explicit(&clock->last, memory_order_relaxed);
    while (last < word && !atomic_compare_exchange_weak_explicit(&clock->last, &last, word, memory_order_acq_rel,
                                                                 memory_order_relaxed))
        continue;
}

void hlc_now(struct hlc *clock, struct spool_id *ret_id)
{
    uint64_t wall_ns = physical_ns(clock), now = word_at_ns(wall_ns), next;
    uint64_t last = atomic_load_explicit(&clock->last, memory_order_relaxed);
    do
        next = now > last ? now : last + 1;
    while (
        !atomic_compare_exchange_weak_explicit(&clock->last, &last, next, memory_order_acq_rel, memory_order_relaxed));
    id_make((struct hlc_stamp){next >> COUNTER_BITS, next & COUNTER_MAX}, clock->node, ret_id);
    if (check_is_due(clock, wall_ns))
        check_jump(clock);
}

void hlc_raise(struct hlc *clock, const struct spool_id *id)
{
    struct hlc_stamp stamp = id_stamp(id);
    if (stamp.ticks < LAST_TICKS)
        raise_to(clock, word_of_stamp(stamp));
}

int hlc_update(struct hlc *clock, const struct spool_id *remote)
{
    if (!id_is_valid(remote))
        return err_set(SPOOL_EID, "the remote stamp is not a UUIDv7");
    uint64_t now = physical_ns(clock), max = clock->options.max_offset_ns,
             limit = now + max < now ? UINT64_MAX : now + max;
    struct hlc_stamp stamp = id_stamp(remote);
    if (stamp.ticks > ticks_from_ns(limit) || stamp.ticks >= LAST_TICKS) {
        double ahead_ms = (double)(ticks_to_ns(stamp.ticks) - now) / (double)NS_PER_MS;
        return err_set(SPOOL_EINVAL,
                       "the remote stamp is %.3f ms ahead of our clock, %.3f are allowed: check both clocks", ahead_ms,
                       (double)max / (double)NS_PER_MS);
    }
    raise_to(clock, word_of_stamp(stamp));
    return SPOOL_OK;
}

uint64_t hlc_physical_ns(struct hlc *clock)
{
    return physical_ns(clock);
}

/* ----------------------------------------------------------------------------------------------------------- life */

static int random_node(uint64_t *ret)
{
    uint64_t node;
    ssize_t n;
    do
        n = getrandom(&node, sizeof node, 0);
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof node)
        return err_errno(n < 0 ? errno : EIO, "no random number for the clock's node");
    *ret = node >> 16;
    return 0;
}

static struct hlc_options with_defaults(const struct hlc_options *options)
{
    struct hlc_options o = options ? *options : (struct hlc_options){0};
    if (!o.physical)
        o.physical = system_physical;
    if (!o.max_offset_ns)
        o.max_offset_ns = MAX_OFFSET_DEFAULT;
    if (!o.jump_min_ns)
        o.jump_min_ns = JUMP_MIN_DEFAULT;
    return o;
}

int hlc_new(const struct hlc_options *options, struct hlc **ret)
{
    struct hlc *clock = calloc(1, sizeof *clock);
    if (!clock)
        return err_set(ENOMEM, "out of memory: cannot make a clock");
    clock->options = with_defaults(options);
    atomic_flag_clear(&clock->checking);
    int rc = random_node(&clock->node);
    if (rc) {
        free(clock);
        return rc;
    }
    clock->checked_boot_ns = boot_ns();
    atomic_init(&clock->checked_wall_ns, physical_ns(clock));
    *ret = clock;
    return 0;
}

void hlc_free(struct hlc *clock)
{
    free(clock);
}
