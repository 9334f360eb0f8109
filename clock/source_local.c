/* source_local.c - the sources that every clock has: "realtime", the wall clock itself, and "kernel", what the kernel
 * says of it. Both report on the wall clock, and are one vote.
 *
 * The kernel's maxerror is set by whoever disciplines the clock (chronyd, ntpd, timesyncd) and grows by 500 us a second
 * from then on, up to 16 s, which is "unknown"; setting the clock makes it that too. STA_UNSYNC says less: chronyd
 * leaves it set unless told to keep the RTC in step. So the bound is judged by maxerror, and the flag is not needed.
 * esterror is a guess of the usual error and never a bound; where it is 0 the daemon keeps no account at all (timesyncd
 * sets both to 0 whatever it knows), and 100 ms is taken for what it may be wrong at least. */
#include "kernel.h"

#include <string.h>

#include "../lib/base/error.h"
#include "clock_inside.h"

#define NS_PER_US 1000ull
#define MAXERROR_UNKNOWN_US 16000000
#define NO_ACCOUNT_NS (100 * 1000000ull)
#define IN_LEAP_NS 1000000000ull

void kernel_judge(const struct timex *tx, int state, struct kernel_state *ret)
{
    struct kernel_state k = {.error_ns = SPOOL_CLOCK_UNKNOWN, .tai_offset_s = tx->tai};
    if (tx->maxerror >= 0 && tx->maxerror < MAXERROR_UNKNOWN_US) {
        k.error_ns = (uint64_t)tx->maxerror * NS_PER_US;
        k.disciplined = true;
        if (tx->esterror <= 0 && k.error_ns < NO_ACCOUNT_NS)
            k.error_ns = NO_ACCOUNT_NS;
    }
    if (state == TIME_INS || (tx->status & STA_INS))
        k.leap = 1;
    else if (state == TIME_DEL || (tx->status & STA_DEL))
        k.leap = -1;
    if (state == TIME_OOP && k.disciplined)
        k.error_ns = saturating_add(k.error_ns, IN_LEAP_NS);
    *ret = k;
}

/* ntp_adjtime() with no mode set only reads, for which no privilege is needed. */
static int kernel_ask(struct kernel_state *ret)
{
    struct timex tx;
    memset(&tx, 0, sizeof tx);
    int state = ntp_adjtime(&tx);
    if (state < 0)
        return err_errno(errno, "ntp_adjtime");
    kernel_judge(&tx, state, ret);
    return SPOOL_OK;
}

static bool see_wall(struct hlc *clock, struct spool_clock_sample *ret)
{
    struct hlc_look now;
    if (!wall_see(&clock->wall, &now))
        return false;
    ret->unix_ns = now.wall_ns;
    ret->boot_ns = now.boot_ns;
    ret->root = ROOT_WALL;
    return true;
}

static int kernel_read(void *state, uint32_t timeout_ms, struct spool_clock_sample *ret)
{
    struct hlc *clock = state;
    struct kernel_state kernel;
    (void)timeout_ms;
    int code = kernel_ask(&kernel);
    if (code)
        return code;
    if (!see_wall(clock, ret))
        return err_set(SPOOL_EUNAVAILABLE, "the clocks could not be read together");
    ret->error_ns = kernel.error_ns;
    ret->leap = kernel.leap;
    pthread_mutex_lock(&clock->sources.lock);
    clock->sources.disciplined = kernel.disciplined;
    clock->sources.tai_offset_s = kernel.tai_offset_s;
    pthread_mutex_unlock(&clock->sources.lock);
    return SPOOL_OK;
}

/* The wall clock vouches for nothing, unless somebody said what to assume; and for nothing at all since it has jumped.
 */
static int realtime_read(void *state, uint32_t timeout_ms, struct spool_clock_sample *ret)
{
    struct hlc *clock = state;
    (void)timeout_ms;
    hlc_compare(clock); /* has it? */
    if (!see_wall(clock, ret))
        return err_set(SPOOL_EUNAVAILABLE, "the clocks could not be read together");
    pthread_mutex_lock(&clock->sources.lock);
    const struct source *self = sources_find(&clock->sources, "realtime");
    uint32_t assumed_ms = self ? self->options.assumed_error_ms : 0;
    pthread_mutex_unlock(&clock->sources.lock);
    bool paused = atomic_load_explicit(&clock->wall.paused_ns, memory_order_relaxed) != 0;
    bool vouched = assumed_ms && !paused && ret->unix_ns >= HLC_FLOOR_NS;
    ret->error_ns = vouched ? assumed_ms * 1000000ull : SPOOL_CLOCK_UNKNOWN;
    return SPOOL_OK;
}

/* A wall clock of somebody's own is none that the kernel knows of. */
int local_sources_add(struct hlc *clock)
{
    const struct spool_clock_source_options options =
        SPOOL_CLOCK_SOURCE_OPTIONS(.user = clock, .flags = SPOOL_CLOCK_SOURCE_LOCAL, .poll_interval_ms = 1000);
    const struct spool_clock_source kernel = {SPOOL_CLOCK_SOURCE_ABI, sizeof kernel, "kernel", .read = kernel_read};
    const struct spool_clock_source realtime = {SPOOL_CLOCK_SOURCE_ABI, sizeof realtime, "realtime",
                                                .read = realtime_read};
    int code = clock->options.physical ? SPOOL_OK : source_add(clock, "kernel", &kernel, &options, false, true);
    return code ? code : source_add(clock, "realtime", &realtime, &options, false, true);
}
