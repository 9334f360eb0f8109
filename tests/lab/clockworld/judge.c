/* judge.c - what must hold: see world.h. */
#include <string.h>

#include "../../../clock/wall.h"
#include "../../../lib/base/error.h"
#include "world.h"

#define TICK_NS 245
#define MAX_OFFSET_NS (500 * MS)
#define FAR_AHEAD_NS (60 * SEC) /* more than slews add up to, which are followed until sources disagree */

static double seconds(uint64_t a, uint64_t b)
{
    return (double)(int64_t)(a - b) / 1e9;
}

/* ---------------------------------------------------------------------------------------------------------- stamps */

static void raise_highest(struct node *node, uint64_t ns)
{
    if (ns <= node->highest_ns)
        return;
    node->highest_ns = ns;
    node->counted = 0;
}

void judge_stamp(struct node *node)
{
    struct spool_id id;
    uint64_t before_ns = hlc_physical_ns(node->clock);
    raise_highest(node, before_ns);
    hlc_now(node->clock, &id);
    raise_highest(node, hlc_physical_ns(node->clock));
    uint64_t at = spool_id_time_ns(&id);
    world.stamps++;
    node->counted++;
    note("node %d stamps %.6f", node->index, (double)at / 1e9);
    if (spool_id_compare(&id, &node->last) <= 0)
        violation("increasing", "node %d: a stamp is %.6f s behind the last", node->index,
                  seconds(spool_id_time_ns(&node->last), at));
    if (at > node->highest_ns + (2 + node->counted / 128) * TICK_NS)
        violation("ahead", "node %d: a stamp is %.6f s ahead of all that it could be based on", node->index,
                  seconds(at, node->highest_ns));
    if (at + TICK_NS < before_ns)
        violation("behind", "node %d: a stamp is %.6f s behind physical time", node->index, seconds(before_ns, at));
    if (world.few_liars && at > world.true_ns + FAR_AHEAD_NS)
        violation("ahead", "node %d: a stamp is %.6f s ahead of the truth", node->index, seconds(at, world.true_ns));
    node->last = id;
}

void judge_message(struct node *node, const struct spool_id *remote, int code)
{
    uint64_t now_ns = hlc_physical_ns(node->clock), at = spool_id_time_ns(remote);
    bool too_far = at > now_ns + MAX_OFFSET_NS + TICK_NS, surely_not = at + TICK_NS < now_ns + MAX_OFFSET_NS;
    if (code)
        world.refused++;
    else
        world.accepted++;
    if (code ? surely_not : too_far)
        violation("causality", "node %d: a stamp %.6f s ahead is %s", node->index, seconds(at, now_ns),
                  code ? "refused" : "accepted");
    if (!code)
        raise_highest(node, at);
    judge_stamp(node);
    if (!code && spool_id_compare(&node->last, remote) <= 0)
        violation("causality", "node %d: a stamp is not later than the message before it", node->index);
}

/* -------------------------------------------------------------------------------------------------------- readings */

/* Which roots voted, and which of them have an honest server among them. */
struct count {
    struct node *node;
    bool votes[SERVERS_MAX], named_honest;
};

static int count_one(void *user, const struct spool_clock_source_info *info)
{
    struct count *c = user;
    bool votes = info->verdict == SPOOL_CLOCK_AGREES || info->verdict == SPOOL_CLOCK_FALSETICKER ||
                 info->verdict == SPOOL_CLOCK_NO_MAJORITY;
    if (strcmp(info->kind, "world") != 0)
        return 0;
    unsigned i = (unsigned)(info->name[1] - '0');
    c->votes[i] = votes;
    c->named_honest |= info->verdict == SPOOL_CLOCK_FALSETICKER && c->node->servers[i].manner == HONEST;
    return 0;
}

static bool same_root_before(const struct count *c, unsigned i, bool honest)
{
    for (unsigned k = 0; k < i; k++)
        if (c->votes[k] && c->node->servers[k].root == c->node->servers[i].root &&
            (!honest || c->node->servers[k].manner == HONEST))
            return true;
    return false;
}

static void count_roots(const struct count *c, unsigned *ret_voting, unsigned *ret_honest)
{
    *ret_voting = *ret_honest = 0;
    for (unsigned i = 0; i < c->node->server_count; i++) {
        if (!c->votes[i])
            continue;
        bool honest = c->node->servers[i].manner == HONEST;
        *ret_voting += !same_root_before(c, i, false);
        *ret_honest += honest && !same_root_before(c, i, true);
    }
}

/* Whether what is remembered from now on is what a majority of honest ones said. */
void judge_poll(struct node *node)
{
    struct count c = {.node = node};
    unsigned voting, honest;
    hlc_source_each(node->clock, count_one, &c);
    count_roots(&c, &voting, &honest);
    if (voting)
        node->remembers_truth = 2 * honest > voting;
}

static void judge_order(const struct spool_clock_reading *r)
{
    struct past *past = &world.past[chance_below(sizeof world.past / sizeof *world.past)];
    if (past->valid) {
        enum spool_clock_order order = spool_clock_compare(&past->reading, r);
        world.compared += order != SPOOL_CLOCK_OVERLAPPING;
        if (order == SPOOL_CLOCK_AFTER || (order == SPOOL_CLOCK_BEFORE && past->true_ns >= world.true_ns))
            violation("order", "an earlier reading is said to be %d", order);
    }
    *past = (struct past){*r, world.true_ns, true};
}

static void judge_truth(struct node *node, const struct spool_clock_reading *r, bool is_right)
{
    if (!is_right)
        return;
    world.asserted++;
    if (world.true_ns < r->earliest_ns || world.true_ns > r->latest_ns)
        violation("truth", "node %d, %s: the truth is %.6f s from the earliest, %.6f s from the latest", node->index,
                  spool_clock_status_name(r->status), seconds(world.true_ns, r->earliest_ns),
                  seconds(r->latest_ns, world.true_ns));
    judge_order(r);
}

static void judge_expiry(struct node *node, const struct spool_clock_reading *r)
{
    uint64_t expiry = hlc_expiry_ns(node->clock), now = hlc_physical_ns(node->clock);
    bool paused = r->flags & SPOOL_CLOCK_PAUSED;
    if (expiry > now || (paused && node->paused_ns && expiry > node->paused_ns))
        violation("expiry", "node %d: expiry went %.6f s on", node->index, seconds(expiry, node->paused_ns));
    node->paused_ns = paused ? expiry : 0;
}

void judge_reading(struct node *node)
{
    struct spool_clock_reading r = SPOOL_CLOCK_READING();
    struct count c = {.node = node};
    unsigned voting, honest;
    if (hlc_read(node->clock, &r)) {
        violation("reading", "node %d: %s", node->index, spool_last_error());
        return;
    }
    hlc_source_each(node->clock, count_one, &c);
    count_roots(&c, &voting, &honest);
    bool majority = 2 * honest > voting;
    world.readings++;
    world.holdovers += r.status == SPOOL_CLOCK_HOLDOVER;
    note("node %d reads %s: %.6f +- %.6f, %u of %u, %u honest", node->index, spool_clock_status_name(r.status),
         (double)r.time_ns / 1e9, (double)r.error_ns / 1e9, r.agreeing, r.voting, honest);
    if (voting && majority && (r.status != SPOOL_CLOCK_SYNCHRONISED || r.voting != voting))
        violation("truth", "node %d: %s, though %u of %u roots are honest", node->index,
                  spool_clock_status_name(r.status), honest, voting);
    if (majority && c.named_honest)
        violation("named", "node %d: an honest source is called a falseticker", node->index);
    if (voting)
        node->remembers_truth = majority;
    judge_truth(node, &r, voting ? majority : node->remembers_truth && r.status == SPOOL_CLOCK_HOLDOVER);
    judge_expiry(node, &r);
    if (spool_id_compare(&r.stamp, &node->last) <= 0)
        violation("increasing", "node %d: the stamp of a reading is not later", node->index);
    raise_highest(node, hlc_physical_ns(node->clock));
    node->last = r.stamp;
    node->counted++;
}
