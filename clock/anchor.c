/* anchor.c - extrapolation by this machine's clocks, with the error growing. */
#include "anchor.h"

#define NS_PER_S 1000000000ull
#define NS_PER_DAY (86400 * NS_PER_S)
#define PPM 1000000u

enum { SUSPENDED_PPM = 500 };
#define SUSPENDED_MIN_NS (10 * 1000000ull) /* less is the distance between two readings */
#define SUSPENDED_ERROR_NS NS_PER_S

uint64_t saturating_add(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

uint64_t estimate_earliest(struct estimate e)
{
    return e.error_ns < e.time_ns ? e.time_ns - e.error_ns : 0;
}

uint64_t estimate_latest(struct estimate e)
{
    return saturating_add(e.time_ns, e.error_ns);
}

/* Rounds up, does not overflow. */
static uint64_t parts_per_million(uint64_t ns, uint32_t ppm)
{
    return ns / PPM * ppm + (ns % PPM * ppm + PPM - 1) / PPM;
}

/* How far a clock has moved; 0 for one that went back, which none of these does. */
static uint64_t moved(uint64_t from_ns, uint64_t to_ns)
{
    return to_ns > from_ns ? to_ns - from_ns : 0;
}

static uint64_t distance(uint64_t a, uint64_t b)
{
    return a > b ? a - b : b - a;
}

static uint64_t suspended_growth(uint64_t boot, uint64_t mono)
{
    uint64_t suspended = moved(mono, boot);
    return suspended < SUSPENDED_MIN_NS ? 0 : SUSPENDED_ERROR_NS + parts_per_million(suspended, SUSPENDED_PPM);
}

/* The day of the anchor ended in a leap second: POSIX time then repeats a second, or leaves one out. */
static void pass_leap(const struct anchor *anchor, struct estimate *e)
{
    if (!anchor->leap || anchor->unix_ns / NS_PER_DAY == e->time_ns / NS_PER_DAY)
        return;
    e->time_ns = anchor->leap > 0 ? e->time_ns - NS_PER_S : e->time_ns + NS_PER_S;
    e->error_ns = saturating_add(e->error_ns, NS_PER_S);
}

struct estimate anchor_age(const struct anchor *anchor, const struct hlc_look *now, uint32_t drift_ppm)
{
    uint64_t boot = moved(anchor->at.boot_ns, now->boot_ns), mono = moved(anchor->at.mono_ns, now->mono_ns),
             raw = moved(anchor->at.raw_ns, now->raw_ns);
    uint64_t growth =
        parts_per_million(raw > mono ? raw : mono, drift_ppm) + distance(mono, raw) + suspended_growth(boot, mono);
    struct estimate e = {saturating_add(anchor->unix_ns, boot), saturating_add(anchor->error_ns, growth)};
    pass_leap(anchor, &e);
    return e;
}
