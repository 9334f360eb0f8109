/* soak_account.h - the account at the end of the soak test: per event and sink by the ledger, in sums by the spool. */
#ifndef TESTS_SOAK_ACCOUNT_H
#define TESTS_SOAK_ACCOUNT_H

#include "soak_ledger.h"

static unsigned failures;

static void check(bool holds, const char *what)
{
    printf("  %s  %s\n", holds ? "ok    " : "FAILED", what);
    failures += !holds;
}

static unsigned index_of(const char *sink)
{
    unsigned group = strcmp(sink, "quorum") == 0 ? QUORUM : FAILOVER;
    return sink[0] == 's' ? (unsigned)(sink[1] - '0') : group;
}

static int note_dead(void *user, const struct spool_dead_letter *letter)
{
    (void)user;
    char text[16] = "";
    memcpy(text, letter->event->body, letter->event->body_size < 15 ? letter->event->body_size : 15);
    uint32_t number = (uint32_t)strtoul(text, NULL, 10);
    if (number < EVENTS_MAX)
        ledger->entries[number].dead[index_of(letter->sink)] = 1;
    return 0;
}

struct counts {
    uint64_t all[COUNTED], delivered[COUNTED], dropped[COUNTED], dead[COUNTED], pending;
};

static int note_counts(void *user, const struct spool_sink_info *info)
{
    struct counts *c = user;
    if (strcmp(info->name, "guest") == 0)
        return 0;
    unsigned i = index_of(info->name);
    c->delivered[i] = info->delivered_events;
    c->dropped[i] = info->dropped_events;
    c->dead[i] = info->dead_letters;
    c->all[i] = info->delivered_events + info->dropped_events + info->dead_letters;
    c->pending += info->pending_events;
    return 0;
}

static uint64_t again_of(unsigned i)
{
    return i < REWOUND ? (uint64_t)ledger->again[i] : 0;
}

/* What comes again is counted again, except that a dead letter stays one: each rewind can have brought back every one of
 * those, and no more. Of a rewind in which the process died only the lower bound is known. */
static bool counts_fit(unsigned i, const struct counts *c, uint64_t accepted, uint64_t intended)
{
    uint64_t same = i < REWOUND ? c->dead[i] * (ledger->rewound[i] + ledger->unknown[i]) : 0;
    bool open_end = i < REWOUND && ledger->unknown[i] > 0;
    return c->all[i] + same >= accepted + again_of(i) && (open_end || c->all[i] <= intended + again_of(i));
}

static void account_sink(unsigned i, const struct counts *c, uint64_t accepted, uint64_t intended)
{
    char text[200];
    uint64_t arrived = 0, repeats = 0, dead = 0, expired = 0, lost = 0;
    for (uint32_t k = 0; k < ledger->next; k++) {
        const struct entry *e = &ledger->entries[k];
        arrived += e->arrived[i] > 0;
        repeats += e->arrived[i] > 1 ? e->arrived[i] - 1u : 0;
        dead += e->dead[i];
        bool gone = e->accepted && !e->arrived[i] && !e->dead[i];
        expired += gone && e->may_expire;
        lost += gone && !e->may_expire;
    }
    snprintf(text, sizeof text,
             "s%u: %" PRIu64 " accepted: %" PRIu64 " arrived (%" PRIu64 " repeats), %" PRIu64 " dead, %" PRIu64
             " expired, %" PRIu64 " lost",
             i, accepted, arrived, repeats, dead, expired, lost);
    check(lost == 0, text);
    snprintf(text, sizeof text,
             "s%u: counted %" PRIu64 " delivered + %" PRIu64 " dropped + %" PRIu64 " dead, of %" PRIu64 " to %" PRIu64
             " that came in, %" PRIu64 " again",
             i, c->delivered[i], c->dropped[i], c->dead[i], accepted, intended, again_of(i));
    check(counts_fit(i, c, accepted, intended) && c->dead[i] == dead && expired <= c->dropped[i], text);
}

/* Those that accepted it. */
static unsigned members_with(uint32_t number, unsigned first, unsigned count)
{
    unsigned n = 0;
    for (unsigned bit = first; bit < first + count; bit++)
        n += members[number + 1] >> bit & 1;
    return n;
}

/* (Dead: members refuse nothing, but an event that was in hand when the process died three times is one.) */
static void account_group(unsigned index, const struct counts *c, unsigned first, unsigned count, unsigned accept)
{
    char text[200];
    uint64_t whole = 0, expired = 0, dead = 0, lost = 0;
    unsigned used = 0;
    for (uint32_t k = 0; k < ledger->next; k++) {
        const struct entry *e = &ledger->entries[k];
        bool has = members_with(k, first, count) >= accept;
        whole += has;
        bool gone = e->accepted && !has && !e->dead[index];
        dead += e->dead[index];
        expired += gone && e->may_expire;
        lost += gone && !e->may_expire;
        used |= members[k + 1] >> first & ((1u << count) - 1);
        ledger->invented += members[k + 1] && !e->intended;
    }
    snprintf(text, sizeof text,
             "%s: %" PRIu64 " with %u of %u members, %" PRIu64 " dead, %" PRIu64 " expired, %" PRIu64
             " lost, every member was used",
             index == QUORUM ? "quorum" : "failover", whole, accept, count, dead, expired, lost);
    check(lost == 0 && dead == c->dead[index] && used == (1u << count) - 1, text);
}

static void settle_account(struct spool *spool)
{
    static struct counts c;
    char text[160];
    uint64_t accepted = 0, intended = 0;
    for (uint32_t k = 0; k < ledger->next; k++) {
        accepted += ledger->entries[k].accepted;
        intended += ledger->entries[k].intended;
    }
    must(spool_dead_each(spool, NULL, note_dead, NULL), "dead letters");
    must(spool_sink_each(spool, note_counts, &c), "sinks");
    for (unsigned i = 0; i < SINKS; i++)
        account_sink(i, &c, accepted, intended);
    check(c.pending == 0, "nothing waits");
    account_group(QUORUM, &c, 0, QUORUM_MEMBERS, QUORUM_ACCEPT);
    account_group(FAILOVER, &c, QUORUM_MEMBERS, FAILOVER_MEMBERS, 1);
    snprintf(text, sizeof text, "sinks that were not rewound count the same: %" PRIu64 " %" PRIu64 " %" PRIu64,
             c.all[SINKS - 1], c.all[QUORUM], c.all[FAILOVER]);
    check(c.all[SINKS - 1] == c.all[QUORUM] && c.all[QUORUM] == c.all[FAILOVER], text);
    check(ledger->invented == 0, "nothing arrived that was not enqueued");
    check(ledger->out_of_order == 0, "first arrivals are in order where that is promised");
}

#endif
