/* group.h - what the sinks "failover" and "quorum" share: members, which are sinks of other kinds, each with its own circuit
 * breaker, and a batch on its way through them. Private to group*.c.
 *
 * A group is a sink like any other: to the delivery it has one cursor, one retry table, one answer per event. All that makes
 * it a group happens within one call of deliver, on the thread of that call. What it remembers beyond that (breakers; which
 * members have which events, group_quorum.c) only saves repetitions: it may be forgotten at any time.
 *
 * Members that have checkpoints give one after each batch, before their events count as delivered: what they hold is durable.
 * The bytes are kept in memory, for opening such a member anew after it failed, and not in the spool: after a crash it is
 * opened without, so that a group is at least once, whatever its members are. */
#ifndef DELIVERY_SINKS_GROUP_H
#define DELIVERY_SINKS_GROUP_H

#include <pthread.h>
#include <stdatomic.h>

#include "../../lib/base/buffer.h"
#include "../breaker.h"
#include "sinks.h"

enum { GROUP_MEMBERS_MAX = 16, GROUP_NAME_MAX = 64 };

struct member {
    char name[GROUP_NAME_MAX + 1];
    char *config;
    struct spool_sink sink; /* its hooks */
    bool best_effort;       /* what it accepts may be lost */
    void *state;
    bool open;           /* group.lock, written by the delivering thread alone */
    uint32_t cancelling; /* calls of cancel that are running; group.lock */
    struct breaker breaker;
    char error[REASON_MAX + 1];
    int code; /* of its last failure */
    uint8_t checkpoint[SPOOL_CHECKPOINT_MAX];
    size_t checkpoint_size;
};

struct group {
    pthread_mutex_t lock;
    pthread_cond_t idle; /* a cancel has ended */
    atomic_bool cancelled;
    struct member *members;
    size_t member_count;
    uint16_t counted; /* members, as bits, whose word counts: in a quorum not those that are best effort */
    bool best_effort; /* failover: its last member is, and it says so */
    uint32_t accept;  /* quorum */
    struct jitter jitter;
    struct seen *seen; /* quorum: see there */

    struct spool_delivery *work;  /* what a member gets */
    uint32_t *work_of;            /* beside it: index into the batch */
    uint32_t *reason;             /* of each event of the batch: offset in texts + 1; 0: none */
    uint32_t *pending;            /* indices of the batch that are to be delivered */
    uint16_t *accepted, *refused; /* quorum: members, as bits, of each event */
    size_t cap;
    struct buffer texts;
    const struct member *at; /* that runs now: for reasons */
};

/* Reads the configuration; opens nothing. SPOOL_ECONFIG, ENOMEM, with the message in spool_sink_error(). */
int group_read(const char *kind, const char *json_config, struct group **ret);
void group_free(struct group *group);

int group_open(const char *kind, void **ret_state, const char *json_config);
void group_cancel(void *state);
void group_close(void *state);

static inline bool group_counts(const struct group *group, size_t member)
{
    return group->counted & 1u << member;
}

/* Makes the arrays large enough and forgets the batch before. ENOMEM. */
int group_begin(struct group *group, size_t n);
/* Members to be tried now: those whose breakers allow it, and of the others those due first until there are `least` of those
 * that count. */
void group_choose(const struct group *group, size_t least, bool ret[GROUP_MEMBERS_MAX]);
/* Delivers pending[0..n) of the batch to the member. Each event's outcome is left in the batch, with its reason kept; one
 * without an answer has SPOOL_RETRY, no reason and no time. Returns what the member returned: SPOOL_OK, SPOOL_EREJECTED, or
 * its failure, after which its breaker is open. Not more than its breaker has room for: *ret_tried of them. */
int group_deliver(struct group *group, struct member *member, struct spool_delivery *batch, size_t n,
                  size_t *ret_tried);
bool group_was_answered(const struct group *group, const struct spool_delivery *batch, size_t i);
/* Gives the events of the batch that were retried or refused their reasons. */
void group_tell_reasons(struct group *group, struct spool_delivery *batch, size_t n);
/* No member was left: SPOOL_EUNAVAILABLE, or SPOOL_ECONFIG if an operator has to mend all that were tried; with a message. */
int group_unavailable(const struct group *group);

#endif
