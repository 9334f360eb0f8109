/* group_quorum.c - kind "quorum": each event goes to all members, and counts as delivered when `accept` of them have it.
 *
 * A member that is best effort is given what it can get and counts for nothing, whatever it says. A member that is down counts
 * as one that has not; an event that so many refuse that no quorum is left is refused. Members
 * beyond the quorum get what they can get while it is delivered, and nothing later.
 *
 * An event without its quorum is delivered again, to those that have not accepted it yet: which did is remembered for some
 * thousands of events, in memory. After a restart, or with several workers, a member may get such an event twice. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "group.h"

/* Who has accepted which event: a table where a newcomer takes the place of whoever has the same hash. */
enum { SEEN_MAX = 4096 };
struct seen {
    struct spool_id id;
    uint16_t members;
};

static struct seen *seen_at(struct group *g, const struct spool_id *id)
{
    uint64_t hash = 0;
    for (size_t i = 0; i < sizeof id->bytes; i++)
        hash = (hash ^ id->bytes[i]) * 0x100000001b3ull;
    return &g->seen[(hash >> 20) % SEEN_MAX];
}

static uint16_t recall(struct group *g, const struct spool_id *id)
{
    const struct seen *seen = seen_at(g, id);
    return memcmp(&seen->id, id, sizeof *id) == 0 ? seen->members : 0;
}

static void remember(struct group *g, const struct spool_id *id, uint16_t bits)
{
    struct seen *seen = seen_at(g, id);
    if (bits > 0)
        *seen = (struct seen){*id, bits};
    else if (memcmp(&seen->id, id, sizeof *id) == 0)
        seen->members = 0;
}

static int quorum_open(void **ret_state, void *user, const char *json_config, const void *checkpoint, size_t size)
{
    (void)user, (void)checkpoint, (void)size;
    void *state;
    int code = group_open("quorum", &state, json_config);
    if (code != SPOOL_OK)
        return code;
    struct group *g = state;
    g->seen = calloc(SEEN_MAX, sizeof *g->seen);
    if (!g->seen) {
        group_close(g);
        return spool_sink_error(ENOMEM, "out of memory");
    }
    *ret_state = g;
    return SPOOL_OK;
}

int quorum_check(const char *json_config)
{
    struct group *g;
    int code = group_read("quorum", json_config, &g);
    if (code == SPOOL_OK)
        group_free(g);
    return code;
}

/* --------------------------------------------------------------------------------------------------------- a batch */

/* What all members said of each event so far, beside the bits in the group. */
struct votes {
    bool retry;              /* somebody asked for another try */
    uint64_t retry_after_ms; /* the longest */
    uint32_t reason;
};

static unsigned count_bits(const struct group *g, uint16_t bits)
{
    return (unsigned)__builtin_popcount(bits & g->counted);
}

static size_t members_that_count(const struct group *g)
{
    return count_bits(g, (uint16_t)((1u << g->member_count) - 1));
}

/* What it wants of an event that it has not accepted; of a member that does not count that is nothing. */
static void count_wish(const struct group *g, const struct spool_delivery *d, size_t at, bool again,
                       struct votes *votes)
{
    votes->retry |= again;
    if (d->retry_after_ms > votes->retry_after_ms)
        votes->retry_after_ms = d->retry_after_ms;
    if (g->reason[at] > 0)
        votes->reason = g->reason[at];
}

/* Takes the outcomes that a member left in the batch out of it. */
static void count_votes(struct group *g, struct spool_delivery *batch, size_t tried, int code, uint16_t bit,
                        struct votes *votes)
{
    for (size_t i = 0; i < tried; i++) {
        size_t at = g->pending[i];
        struct spool_delivery *d = SPOOL_DELIVERY_AT(batch, at);
        bool answered = group_was_answered(g, batch, at), again = false;
        if (d->outcome == SPOOL_DELIVERED)
            g->accepted[at] |= bit;
        else if (d->outcome == SPOOL_REJECTED || (!answered && code == SPOOL_EREJECTED && tried == 1))
            g->refused[at] |= bit;
        else
            again = answered || code == SPOOL_OK;
        if (g->counted & bit)
            count_wish(g, d, at, again, &votes[at]);
        d->outcome = SPOOL_RETRY;
        d->retry_after_ms = 0;
    }
}

/* Those that the member has not accepted yet. */
static size_t choose_events(struct group *g, size_t n, uint16_t bit)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        if (!((g->accepted[i] | g->refused[i]) & bit))
            g->pending[count++] = (uint32_t)i;
    return count;
}

/* The whole batch to one member, in several calls while it recovers. True: it said that one of several events is bad. */
static bool through_member(struct group *g, size_t index, struct spool_delivery *batch, size_t n, struct votes *votes)
{
    uint16_t bit = (uint16_t)(1u << index);
    size_t left = choose_events(g, n, bit);
    while (left > 0 && !atomic_load(&g->cancelled)) {
        size_t tried = 0;
        int code = group_deliver(g, &g->members[index], batch, left, &tried);
        count_votes(g, batch, tried, code, bit, votes);
        if (code != SPOOL_OK)
            return code == SPOOL_EREJECTED && tried > 1 && (g->counted & bit);
        left -= tried;
        memmove(g->pending, g->pending + tried, left * sizeof *g->pending);
    }
    return false;
}

/* True: the event has its outcome. */
static bool decide(struct group *g, struct spool_delivery *d, size_t at, const struct votes *votes)
{
    g->reason[at] = votes->reason;
    if (count_bits(g, g->accepted[at]) >= g->accept)
        d->outcome = SPOOL_DELIVERED;
    else if (members_that_count(g) - count_bits(g, g->refused[at]) < g->accept)
        d->outcome = SPOOL_REJECTED;
    else if (votes->retry) {
        d->outcome = SPOOL_RETRY;
        d->retry_after_ms = votes->retry_after_ms;
        if (votes->reason == 0)
            spool_delivery_fail(d, SPOOL_RETRY, "%u of %zu members have it, %u must", count_bits(g, g->accepted[at]),
                                members_that_count(g), g->accept);
    } else
        g->reason[at] = 0;
    bool over = d->outcome != SPOOL_RETRY;
    remember(g, &d->id, over ? 0 : g->accepted[at]);
    return over || votes->retry;
}

static int conclude(struct group *g, struct spool_delivery *batch, size_t n, const struct votes *votes, bool bisect)
{
    size_t open = 0;
    for (size_t i = 0; i < n; i++)
        open += !decide(g, SPOOL_DELIVERY_AT(batch, i), i, &votes[i]);
    group_tell_reasons(g, batch, n);
    if (open == 0)
        return SPOOL_OK;
    return bisect ? spool_sink_error(SPOOL_EREJECTED, "a member refuses one of the events") : group_unavailable(g);
}

static int quorum_deliver(void *state, struct spool_delivery *batch, size_t n)
{
    struct group *g = state;
    bool chosen[GROUP_MEMBERS_MAX] = {false}, bisect = false;
    struct votes *votes = calloc(n, sizeof *votes);
    if (!votes || group_begin(g, n) != SPOOL_OK) {
        free(votes);
        return spool_sink_error(SPOOL_EUNAVAILABLE, "out of memory");
    }
    for (size_t i = 0; i < n; i++)
        g->accepted[i] = recall(g, &SPOOL_DELIVERY_AT(batch, i)->id);
    group_choose(g, g->accept, chosen);
    for (size_t i = 0; i < g->member_count && !atomic_load(&g->cancelled); i++)
        bisect |= chosen[i] && through_member(g, i, batch, n, votes);
    int code = conclude(g, batch, n, votes, bisect);
    free(votes);
    return code;
}

const struct spool_sink_setting quorum_settings[] = {
    {"members", "array of objects (required)", "sinks: their kind, name, and the kind's own keys"},
    {"accept", "number, a majority", "how many members must have an event"},
    {"retry_base", "duration, 100ms", "wait before a member that failed is tried again, doubled each time …"},
    {"retry_cap", "duration, 1m", "… up to that"},
    {NULL, NULL, NULL},
};

const struct spool_sink quorum_sink = {
    .abi = SPOOL_SINK_ABI,
    .size = sizeof(struct spool_sink),
    .kind = "quorum",
    .open = quorum_open,
    .deliver = quorum_deliver,
    .cancel = group_cancel,
    .close = group_close,
};
