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
 * Reading the wall clock is most of what a stamp costs. Stamps that follow within FRESH_CYCLES of the processor after a
 * reading share it, and count: one atomic addition. So a stamp may be late by as much, 4 to 16 us on processors of 1 to 4 GHz: a
 * producer at full speed has its events closer together, and no bound of a wall clock is as narrow. The cycle counter is no
 * clock here; where it differs from core to core, the wall clock is read once more or once less often. */
#include "clock_inside.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "../lib/base/error.h"
#include "../lib/base/sync.h"

enum { COUNTER_BITS = 8, COUNTER_MAX = (1 << COUNTER_BITS) - 1 };

enum { FRESH_CYCLES = 16384 };

/* Leaves a year of ticks to count on from the last physical time. */
#define LAST_TICKS ((1ull << (64 - COUNTER_BITS)) - (1ull << 47))

#define MAX_OFFSET_DEFAULT (500 * NS_PER_MS)
#define JUMP_MIN_DEFAULT (500 * NS_PER_MS)
#define TELL_AGAIN_NS (1000 * NS_PER_MS)

/* ------------------------------------------------------------------------------------------------------- physical */

static uint64_t system_physical(void *user)
{
    struct timespec now = {0};
    (void)user;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec < 0 ? 0 : (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void hlc_tell(struct hlc *clock, enum hlc_event_kind kind, int64_t ns, const struct spool_id *remote,
              const char *format, ...)
{
    char text[256];
    va_list args;
    if (!clock->options.on_event)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const struct hlc_event event = {kind, ns, remote, text};
    clock->options.on_event(clock->options.event_user, &event);
}

static void tell_change(struct hlc *clock, const struct wall_change *change)
{
    double jump_s = (double)change->jump_ns / 1e9;
    if (change->is_leap)
        hlc_tell(clock, HLC_LEAP, change->jump_ns, NULL, "a leap second: the wall clock moved by %+.3f s", jump_s);
    else if (change->jump_ns > 0)
        hlc_tell(clock, HLC_JUMP, change->jump_ns, NULL,
                 "the wall clock jumped by %+.3f s; ids go on increasing, by the monotonic clock, and nothing expires, "
                 "until "
                 "sources of time agree or spool clock reset",
                 jump_s);
    else if (change->jump_ns < 0)
        hlc_tell(clock, HLC_JUMP, change->jump_ns, NULL, "the wall clock jumped by %+.3f s; ids go on increasing",
                 jump_s);
    if (change->suspended_ns)
        hlc_tell(clock, HLC_SUSPEND, (int64_t)change->suspended_ns, NULL, "the machine was suspended for %.3f s",
                 (double)change->suspended_ns / 1e9);
}

__attribute__((noinline)) uint64_t hlc_compare(struct hlc *clock)
{
    struct wall_change change;
    uint64_t now_ns = wall_compare(&clock->wall, &change);
    tell_change(clock, &change);
    return now_ns;
}

uint64_t hlc_physical_now(struct hlc *clock)
{
    uint64_t now_ns;
    return wall_now(&clock->wall, &now_ns) ? now_ns : hlc_compare(clock);
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

/* 0 where there is none that is cheap. */
static inline uint64_t cycles(void)
{
#ifdef __x86_64__
    return __builtin_ia32_rdtsc();
#else
    return 0;
#endif
}

/* The wall clock was read a moment ago. */
static inline bool is_fresh(const struct hlc *clock, uint64_t now)
{
    return clock->counts_cycles && now - atomic_load_explicit(&clock->read_cycles, memory_order_relaxed) < FRESH_CYCLES;
}

static inline void stamp_of_word(const struct hlc *clock, uint64_t word, struct spool_id *ret_id)
{
    id_make((struct hlc_stamp){word >> COUNTER_BITS, word & COUNTER_MAX}, clock->node, ret_id);
}

void hlc_now(struct hlc *clock, struct spool_id *ret_id)
{
    uint64_t cycle = cycles();
    if (is_fresh(clock, cycle)) {
        stamp_of_word(clock, atomic_fetch_add_explicit(&clock->last, 1, memory_order_acq_rel) + 1, ret_id);
        return;
    }
    uint64_t now = word_at_ns(hlc_physical_now(clock)), next;
    uint64_t last = atomic_load_explicit(&clock->last, memory_order_relaxed);
    do
        next = now > last ? now : last + 1;
    while (
        !atomic_compare_exchange_weak_explicit(&clock->last, &last, next, memory_order_acq_rel, memory_order_relaxed));
    atomic_store_explicit(&clock->read_cycles, cycle, memory_order_relaxed);
    stamp_of_word(clock, next, ret_id);
}

void hlc_raise(struct hlc *clock, const struct spool_id *id)
{
    struct hlc_stamp stamp = id_stamp(id);
    if (stamp.ticks < LAST_TICKS)
        raise_to(clock, word_of_stamp(stamp));
}

/* Told at most once a second: whoever sends bad stamps sends many. */
static bool may_tell_again(struct hlc *clock)
{
    uint64_t now = mono_ns(), told = atomic_load_explicit(&clock->remote_told_ns, memory_order_relaxed);
    return (!told || now - told >= TELL_AGAIN_NS) &&
           atomic_compare_exchange_strong_explicit(&clock->remote_told_ns, &told, now, memory_order_relaxed,
                                                   memory_order_relaxed);
}

static int refuse(struct hlc *clock, const struct spool_id *remote, uint64_t now_ns, uint64_t max_ns)
{
    uint64_t ahead_ns = ticks_to_ns(id_stamp(remote).ticks) - now_ns;
    double ahead_ms = (double)ahead_ns / (double)NS_PER_MS, max_ms = (double)max_ns / (double)NS_PER_MS;
    if (may_tell_again(clock))
        hlc_tell(clock, HLC_REMOTE, ahead_ns < INT64_MAX ? (int64_t)ahead_ns : INT64_MAX, remote,
                 "a stamp from elsewhere is %.3f ms ahead of our clock and was refused", ahead_ms);
    return err_set(SPOOL_EINVAL, "the remote stamp is %.3f ms ahead of our clock, %.3f are allowed: check both clocks",
                   ahead_ms, max_ms);
}

int hlc_update(struct hlc *clock, const struct spool_id *remote)
{
    if (!id_is_valid(remote))
        return err_set(SPOOL_EID, "the remote stamp is not a UUIDv7");
    uint64_t now = hlc_physical_now(clock), max = atomic_load_explicit(&clock->max_offset_ns, memory_order_relaxed);
    struct hlc_stamp stamp = id_stamp(remote);
    if (stamp.ticks > ticks_from_ns(saturating_add(now, max)) || stamp.ticks >= LAST_TICKS)
        return refuse(clock, remote, now, max);
    raise_to(clock, word_of_stamp(stamp));
    return SPOOL_OK;
}

uint64_t hlc_physical_ns(struct hlc *clock)
{
    return hlc_physical_now(clock);
}

uint64_t hlc_expiry_ns(struct hlc *clock)
{
    uint64_t now_ns = hlc_physical_now(clock);
    return wall_expiry_ns(&clock->wall, now_ns);
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
    if (!o.max_offset_ns)
        o.max_offset_ns = MAX_OFFSET_DEFAULT;
    if (!o.jump_min_ns)
        o.jump_min_ns = JUMP_MIN_DEFAULT;
    return o;
}

static void begin(struct hlc *clock, const struct hlc_options *options)
{
    clock->options = with_defaults(options);
    atomic_init(&clock->max_offset_ns, clock->options.max_offset_ns);
    clock->counts_cycles = !clock->options.physical && cycles() != 0;
    clock->wall.physical = clock->options.physical ? clock->options.physical : system_physical;
    clock->wall.see = clock->options.see;
    clock->wall.user = clock->options.physical_user;
    clock->wall.jump_min_ns = clock->options.jump_min_ns;
    wall_init(&clock->wall);
    if (clock->wall.unset)
        hlc_tell(
            clock, HLC_UNSET, 0, NULL,
            "the wall clock was never set (it is before 2026): ids go on after the last one; nothing made before it is "
            "set will expire");
}

void hlc_set(struct hlc *clock, uint64_t max_offset_ns, uint32_t drift_ppm)
{
    if (max_offset_ns)
        atomic_store_explicit(&clock->max_offset_ns, max_offset_ns, memory_order_relaxed);
    pthread_mutex_lock(&clock->sources.lock);
    if (drift_ppm)
        clock->sources.drift_ppm = drift_ppm;
    pthread_mutex_unlock(&clock->sources.lock);
}

int hlc_new(const struct hlc_options *options, struct hlc **ret)
{
    struct hlc *clock = calloc(1, sizeof *clock);
    if (!clock)
        return err_set(ENOMEM, "out of memory: cannot make a clock");
    int code = random_node(&clock->node);
    if (!code)
        code = sources_init(&clock->sources, options ? options->drift_ppm : 0);
    if (code) {
        free(clock);
        return code;
    }
    begin(clock, options);
    clock->sources.random ^= clock->node << 16; /* the polls of many programs are spread */
    code = local_sources_add(clock);
    if (code) {
        hlc_destroy(clock);
        return code;
    }
    *ret = clock;
    return SPOOL_OK;
}

void hlc_destroy(struct hlc *clock)
{
    sources_free(&clock->sources);
    free(clock);
}

void hlc_free(struct hlc *clock)
{
    if (clock && calibrate_stop(clock))
        hlc_destroy(clock);
}

void hlc_abandon(struct hlc *clock)
{
    if (!clock)
        return;
    sources_abandon(&clock->sources);
    free(clock);
}
