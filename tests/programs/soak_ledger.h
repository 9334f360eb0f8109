/* soak_ledger.h - what the soak test knows of every event: a ledger that outlives all lives of the process, and the random
 * streams that its choices come from. */
#ifndef TESTS_SOAK_LEDGER_H
#define TESTS_SOAK_LEDGER_H

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../lib/spool.h"

enum { EVENTS_MAX = 4 << 20, SINKS = 3, AGENTS = 6, PRODUCERS = 2, LATE_S = 60, RECENT = 64, RETENTION_MS = 2000 };
/* The sinks that are groups follow those of our own, and are only counted here: their members keep their own account. */
enum { QUORUM = SINKS, FAILOVER, COUNTED, QUORUM_MEMBERS = 3, QUORUM_ACCEPT = 2, FAILOVER_MEMBERS = 2 };
enum { REWOUND = 2 }; /* the first so many are rewound: the third one's account stays exact */

/* Of one event. */
struct entry {
    _Atomic uint8_t intended, accepted, may_expire; /* enqueue was called; it returned SPOOL_OK */
    _Atomic uint8_t arrived[SINKS], dead[COUNTED];
};

struct ledger {
    _Atomic uint32_t next;                                    /* number of an event */
    _Atomic uint32_t latest[SINKS][AGENTS][SPOOL_PRIORITIES]; /* first arrivals of a key: the greatest number, and 1 */
    _Atomic uint32_t out_of_order, invented, lives, crashes, hangs, pauses, rewinds;
    _Atomic uint64_t again[REWOUND];   /* events that rewinding said would come again */
    _Atomic uint32_t rewound[REWOUND]; /* times */
    _Atomic uint32_t unknown[REWOUND]; /* of those, how many events is not known: the process died in the call */
    _Atomic bool peace;
    struct entry entries[EVENTS_MAX];
};

static struct ledger *ledger;
/* Of each event from members[1] on, a bit for each member of a group; members[0]: there is peace. */
static _Atomic uint8_t *members;
static const char *dir;
static uint64_t seed = 1;

/* splitmix64, a stream for each use. */
struct stream {
    uint64_t state;
};

static uint64_t draw(struct stream *s, uint64_t below)
{
    uint64_t z = (s->state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return (z ^ (z >> 31)) % below;
}

static struct stream stream_of(uint64_t life, uint64_t use)
{
    struct stream s = {seed * 1000003 + life * 8191 + use * 131};
    draw(&s, 2);
    return s;
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void rest_ms(uint64_t ms)
{
    struct timespec t = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

static void must(int code, const char *what)
{
    if (code != SPOOL_OK)
        errx(3, "%s: %s (%s)", what, spool_last_error(), spool_error_name(code));
}

#endif
