/* store.h - persistence: the whole contract of this folder.
 *
 * A store is one open directory:
 *
 *   DIR/ spool.json            what this is and which version: the first file looked at, the last one made
 *        limits.json           max_bytes as it was set last
 *        log.lock state.lock   our locks (lock.h)           sink-<name>.lock   who delivers to a sink
 *        sink-<name>.mark      what its deliverer has in hand (marks.c)
 *        wake                  mapped futex words (wake.h)
 *        journal/<uuid>.jnl    one ring per process (journal.h)
 *        segments/<n>.mdb      the log: LMDB environments with blocks of events, a B-tree per lane (log.h)
 *        state.mdb             sinks, cursors, checkpoints, retries, dead letters (state.h)
 *        quarantine/           what was damaged
 *
 * Events go producer -> journal -> committer -> segment. Every event has a lane (its priority) and in it a sequence number
 * without gaps, given at commit. A sink's place in a lane is a cursor: the sequence number of the first event it has not
 * finished with. Threads: everything here may be called from any thread unless it says otherwise. */
#ifndef SPOOL_STORE_H
#define SPOOL_STORE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../clock/clock.h"
#include "../lib/base/bundle.h"
#include "../lib/base/event.h"
#include "../lib/base/histogram.h"
#include "../lib/base/log.h"

/* Lanes are in the order of importance: unlike enum spool_priority, 0 is the most important. */
enum { LANE_CRITICAL, LANE_HIGH, LANE_MEDIUM, LANE_LOW, LANES };
int lane_of(enum spool_priority priority);
enum spool_priority lane_priority(int lane);
const char *lane_name(int lane);

enum { SINK_NAME_MAX = 64, SINK_KIND_MAX = 31, REASON_MAX = 255 };

/* ------------------------------------------------------------------------------------------------ open and close */

struct store_options { /* as in struct spool_options, with the defaults filled in; but the sizes may be 0 */
    uint64_t max_bytes, segment_bytes, retention_ms;
    uint32_t journal_bytes, flush_interval_ms, full_timeout_ms, file_mode, flags;
    enum spool_full_policy full_policy[LANES]; /* by lane */
    enum spool_compression compress;
    struct reporter reporter;
    /* Called after every commit and change of control, from any of the store's threads; must not block. */
    void (*on_change)(void *user);
    void *change_user;
};

struct store;

/* Opens or makes the directory, applies the journals of dead processes and starts the store's threads (none when read
 * only). `clock` is raised above every id found and must live longer than the store. */
int store_open(const char *dir, const struct store_options *options, struct hlc *clock, struct store **ret);

/* Commits or at least flushes what is in the journal and frees everything. Returns by the deadline. */
int store_close(struct store *store, uint64_t deadline_ns);

/* From now on waits for the locks of other processes, also those under way, end at that time. For stopping in time although
 * a peer is stopped. DEADLINE_NEVER lifts it. */
void store_hurry(struct store *store, uint64_t deadline_ns);

/* After fork, in the child: frees memory and descriptors, touches no file and no lock. */
void store_abandon(struct store *store);

bool store_is_read_only(const struct store *store);

/* ----------------------------------------------------------------------------------------------------- producing */

/* Appends `n` measured events as one journal frame, all or none, stamping ids in order (an event with an id of its own
 * keeps it). `events` steps by events[0].size. With `power` returns after the flush. SPOOL_EFULL, SPOOL_EUNCERTAIN (ids
 * are written), SPOOL_EREADONLY, SPOOL_ESTOPPED. Waits by policy unless thread_is_ours(). `ret_ids` may be NULL. */
int store_append(struct store *store, const struct spool_event *events, const struct event_measure *measures, size_t n,
                 bool power, struct spool_id *ret_ids);

/* The largest frame, in packed bytes. */
size_t store_frame_max(const struct store *store);

/* Waits until all appended by this process before is power-safe / is in segments, hence visible to readers; the latter also
 * for journals of dead processes that could not be applied yet. */
int store_flush(struct store *store, uint64_t deadline_ns);
int store_commit(struct store *store, uint64_t deadline_ns);

/* ------------------------------------------------------------------------------------------------------- reading */

/* One block, copied out of the log. Shared by reference count. */
struct store_block {
    atomic_uint refs;
    int lane;
    uint32_t count;
    uint64_t first_seq; /* of the first event */
    struct spool_id min_id, max_id;
    size_t size;          /* of events, bytes */
    struct bundle events; /* in memory behind the struct */
};
void store_block_ref(struct store_block *block);
void store_block_unref(struct store_block *block); /* NULL is fine */

/* The block that holds event `seq` of the lane, or else the first one after. SPOOL_ENOTFOUND: nothing at or after `seq`
 * yet. SPOOL_EDAMAGED: the block there is damaged; it has been counted and set aside, *ret_skip_to (may not be NULL) is the
 * sequence number to go on with. *ret is released with store_block_unref(). SPOOL_ETIMEOUT if a peer holds the lock. */
int store_read(struct store *store, int lane, uint64_t seq, uint64_t deadline_ns, struct store_block **ret,
               uint64_t *ret_skip_to);

/* First sequence number there is, and the one the next committed event will get, of each lane. Cheap (memory, refreshed
 * on commits of other processes). */
int store_bounds(struct store *store, uint64_t ret_first[LANES], uint64_t ret_next[LANES]);

/* The same, waiting for a peer no longer than that. SPOOL_ETIMEOUT. (Without a deadline: 5 s, here and below.) */
int store_bounds_by(struct store *store, uint64_t deadline_ns, uint64_t ret_first[LANES], uint64_t ret_next[LANES]);
/* For displays: beside a stopped peer that holds the lock, what was known last; within a second. */
void store_bounds_known(struct store *store, uint64_t deadline_ns, uint64_t ret_first[LANES], uint64_t ret_next[LANES]);

/* What is in the log from there on, added up over the lanes, without holes: numbers that were left out because it was not
 * known whether they had been given. Opens every segment: for when the bounds are too far apart to be believed. */
uint64_t store_events_from(struct store *store, const uint64_t cursor[LANES]);
enum { STORE_HOLE_SHIFT = 32 }; /* a hole is at least 2 to the power of that */

/* A sequence number of the lane at or before the first event whose id is >= `id` (block granularity); next if none. */
int store_seek(struct store *store, int lane, const struct spool_id *id, uint64_t *ret_seq);

/* Deletes what every sink is done with, now instead of within a second. */
void store_reclaim(struct store *store);

/* A counter that moves with every commit or change of control of any process, and waiting for it to differ from `seen`.
 * SPOOL_ETIMEOUT. */
uint32_t store_change(const struct store *store);
int store_wait_change(struct store *store, uint32_t seen, uint64_t deadline_ns);
/* A counter that moves when sinks, pauses, retries or dead letters were changed from outside of their delivery. */
uint32_t store_control(const struct store *store);

/* --------------------------------------------------------------------------------------------------------- sinks */

/* Events finished out of order: [first, first + count) of a lane, beyond the cursor. */
struct store_range {
    uint64_t first, count;
};
enum { STORE_RANGES_MAX = 128 }; /* a sink's, per lane, that are stored; later ones are delivered again after a crash */

/* From here on sequence numbers stand for no place in the log: an event that was put into a queue on its own. */
#define SEQ_DETACHED (1ull << 63)

/* Events that left a sink undelivered. */
struct store_drops {
    uint64_t events[SPOOL_DROPS]; /* by enum spool_drop */
    uint64_t
        upto[LANES]; /* of what is finished before it some was dropped, and which is not kept. (Of expired ones their
                                     time tells: they do not move it.) */
};

static inline uint64_t store_drops_total(const struct store_drops *drops)
{
    uint64_t n = 0;
    for (int why = 0; why < SPOOL_DROPS; why++)
        n += drops->events[why];
    return n;
}

static inline void store_drops_upto(struct store_drops *drops, int lane, uint64_t upto)
{
    drops->upto[lane] = upto > drops->upto[lane] ? upto : drops->upto[lane];
}

/* `events` of the lane, none of them at or behind `upto`, leave undelivered. Those without a place in the log move nothing. */
static inline void store_drops_note(struct store_drops *drops, enum spool_drop why, int lane, uint64_t upto,
                                    uint64_t events)
{
    drops->events[why] += events;
    if (why != SPOOL_DROP_EXPIRED && upto < SEQ_DETACHED)
        store_drops_upto(drops, lane, upto);
}

static inline void store_drops_add(struct store_drops *to, const struct store_drops *from)
{
    for (int why = 0; why < SPOOL_DROPS; why++)
        to->events[why] += from->events[why];
    for (int lane = 0; lane < LANES; lane++)
        store_drops_upto(to, lane, from->upto[lane]);
}

struct store_sink {
    char name[SINK_NAME_MAX + 1], kind[SINK_KIND_MAX + 1];
    uint32_t id;         /* never used again */
    uint64_t generation; /* changes with rewind and removal; acknowledgements carry it */
    uint64_t serial;     /* of the last acknowledgement that was counted */
    uint32_t order;      /* enum spool_order */
    bool paused;
    bool removing;    /* its removal is asked for: nobody delivers to it any more */
    bool best_effort; /* as told by store_sink_set_best_effort() */
    uint64_t cursor[LANES];
    struct store_range ranges[LANES][STORE_RANGES_MAX]; /* ascending, disjoint, beyond the cursor */
    uint32_t range_count[LANES];
    uint64_t delivered, dropped, filtered;          /* events, since registered */
    uint64_t delivered_in[LANES];                   /* `delivered` by lane, as far as they were counted so */
    struct store_drops drops;                       /* `dropped` by reason, as far as they were counted so */
    uint64_t dead_dropped;                          /* dead letters, by a limit */
    uint64_t start[LANES];                          /* what it began with: nothing before was ever meant for it */
    uint64_t retry_rows, dead_rows;                 /* filled by store_sink_get and store_sink_each */
    char paused_reason[REASON_MAX + 1];             /* of store_sink_pause_for(); "" otherwise */
    uint64_t max_pending_bytes, max_pending_age_ms; /* as set by store_sink_limit(); 0: none */
};

/* Registers the sink, or finds it: then kind, order and config are brought up to date. from_now: a new one begins behind
 * all that is committed. */
int store_sink_register(struct store *store, const char *name, const char *kind, uint32_t order, const char *config,
                        bool from_now, struct store_sink *ret);
int store_sink_get(struct store *store, const char *name, struct store_sink *ret); /* SPOOL_ENOTFOUND */
/* The JSON configuration; malloc'd, free(). */
int store_sink_config(struct store *store, const char *name, char **ret);
/* Another one for a sink that is registered, which its deliverer hears of. */
int store_sink_set_config(struct store *store, const char *name, const char *config);
/* Begins again at these cursors, in lanes where that is further back; acknowledgements from before are void. *ret_again: how
 * many events that are done it gets again. */
int store_sink_rewind(struct store *store, const char *name, const uint64_t cursor[LANES], uint64_t *ret_again);
/* store_removal.c. Marks it, tells whoever delivers to it, and removes it when that one has let go. SPOOL_ETIMEOUT: it has not
 * by then; the sink goes when it does. asks: only marks it. awaits: of one that was marked; also when somebody else, or a
 * keeper, has removed it since, and another one has its name. */
int store_sink_ask_removal(struct store *store, const char *name, uint64_t deadline_ns);
int store_sink_await_removal(struct store *store, const char *name, uint64_t deadline_ns);
int store_sink_remove(struct store *store, const char *name, uint64_t deadline_ns);
int store_sink_pause(struct store *store, const char *name, bool paused);
/* Pauses it, with a reason that is kept until it is resumed. */
int store_sink_pause_for(struct store *store, const char *name, const char *reason);
/* Where a cursor that stands there has to be by these limits (0: none): not below it. See limits_sinks.c. */
int store_sink_overflow(struct store *store, const uint64_t cursor[LANES], uint64_t max_bytes, uint64_t max_age_ms,
                        uint64_t ret_upto[LANES]);
/* Keeps how much may wait for the sink, for whoever has to see to it. */
int store_sink_limit(struct store *store, const char *name, uint64_t max_pending_bytes, uint64_t max_pending_age_ms);
/* What it accepts counts as sent, and not as delivered. */
int store_sink_set_best_effort(struct store *store, const char *name, bool best_effort);
/* Calls back with a copy; no lock is held. Non-zero from `each` ends it and is returned. */
int store_sink_each(struct store *store, int (*each)(void *user, const struct store_sink *sink), void *user);
int store_sink_each_by(struct store *store, uint64_t deadline_ns,
                       int (*each)(void *user, const struct store_sink *sink), void *user);

/* Becomes the one process that delivers to the sink, until released or dead. SPOOL_EBUSY. */
int store_sink_elect(struct store *store, const char *name);
void store_sink_release(struct store *store, const char *name);
/* Somebody (this or another process) holds that lock. */
bool store_sink_is_served(struct store *store, const char *name);

/* Events that were in the hands of a process which died: [first, end) of a lane. */
struct store_suspect {
    int lane;
    uint32_t crashes; /* deaths with it in hand */
    uint64_t first, end;
    bool alone; /* it is one event, which was there alone at the last death */
    bool fresh; /* that was found by the election now held */
};
enum { STORE_SUSPECTS_MAX = 512 };
/* What is in hand from now on: `count` events of the lane, consecutive from `first` on, or those in `seqs`. */
struct store_mark {
    int lane;
    uint32_t count;
    uint64_t first;
    const uint64_t *seqs; /* NULL: consecutive */
};
enum { STORE_MARK_ROWS_MAX = 500 };

/* What this process has in hand of a sink that it is elected for: a reference of its own, so that a worker that hangs may
 * hold it longer than the store. NULL if not elected, or without memory; all calls accept that. None waits for a lock. */
struct store_hand;
struct store_hand *store_sink_hand(struct store *store, const char *name);
void store_hand_ref(struct store_hand *hand);
void store_hand_unref(struct store_hand *hand);
/* Worker `slot` (0 to 63) has that in hand from now on, also if the process dies; NULL: nothing. Costs a microsecond; where
 * it cannot be written nothing is found after a death. */
void store_hand_mark(struct store_hand *hand, uint32_t slot, const struct store_mark *mark);
/* Whoever ends the process now does not do it because of what is in hand. */
void store_hand_excuse(struct store_hand *hand);
/* Suspects; their number. Others that are kept in their place outlive the election. One thread at a time. */
size_t store_hand_suspects(const struct store_hand *hand, struct store_suspect ret[STORE_SUSPECTS_MAX]);
void store_hand_keep(struct store_hand *hand, const struct store_suspect *list, size_t n);

/* What the process that delivers to a sink says of it, for others to see; kept in the lock file that makes it the deliverer,
 * without any flush, and so also when it is gone. Publishing: only by the one that is elected; what fails is forgotten.
 * Looking: malloc'd, free(); SPOOL_ENOTFOUND if there is nothing whole. */
enum { STORE_PUBLISHED_MAX = 60 << 10 };
void store_sink_publish(struct store *store, const char *name, const void *bytes, size_t size);
int store_sink_published(struct store *store, const char *name, uint8_t **ret, size_t *ret_size);

/* ----------------------------------------------------------------------------------- acknowledgement and retries */

/* A row of the retry table: an event on its own, because it failed or waits behind one of its key that failed. */
struct store_retry {
    int lane;
    uint64_t seq; /* with the lane: which one */
    struct spool_id id;
    uint32_t attempts;           /* failed so far; 0 for a parked one */
    uint64_t first_ns, due_ns;   /* wall clock, since 1970: enqueued (the id's time), not before */
    uint32_t size;               /* packed bytes */
    uint64_t key_hash;           /* of the ordering key; 0 without order */
    char reason[REASON_MAX + 1]; /* of the last failure */
    uint64_t failed_ns; /* in a put: when it failed, for its history; 0: it did not fail now. Not stored as such */
};
/* One entry of the history of an event at a sink. */
enum { STORE_ATTEMPTS_MAX = 32, STORE_ATTEMPT_REASON_MAX = 120 };
struct store_attempt {
    uint32_t kind;            /* enum spool_attempt_kind */
    uint32_t count;           /* entries it stands for: more than 1 in a summary */
    uint64_t at_ns, until_ns; /* wall clock; until: of the last one in a summary, else the same */
    const char *reason;       /* not terminated */
    size_t reason_size;
};

struct store_retry_put {
    struct store_retry row;
    const uint8_t *packed; /* the event; NULL: the row is there already, only its fields change */
};
struct store_dead_put {
    struct store_retry row; /* attempts and reason at death */
    uint64_t died_ns;
    const uint8_t *packed; /* NULL: taken from the retry row, which is deleted in the same transaction */
};
/* What the event of a retry row that is finished with counts as. */
enum store_end { STORE_END_DELIVERED, STORE_END_FILTERED, STORE_END_EXPIRED, STORE_END_DAMAGED };
static inline enum spool_drop store_end_drop(enum store_end end) /* of the last two */
{
    return end == STORE_END_EXPIRED ? SPOOL_DROP_EXPIRED : SPOOL_DROP_DAMAGED;
}
struct store_done {
    int lane;
    uint64_t seq;
    enum store_end end;
};

/* Everything that one round of deliveries changes for one sink, applied in one transaction (more than about 1,000 rows:
 * in several, each with what it counts: a crash in between can only repeat deliveries, and what is delivered again was
 * not counted). Sent again after a failure, whatever part of it is stored, it changes and counts only the rest. */
struct store_ack {
    uint32_t sink_id;
    uint64_t generation;                     /* SPOOL_ESTALE and no change if it is no longer this */
    uint64_t cursor[LANES];                  /* merged by maximum */
    const struct store_range *ranges[LANES]; /* replaces what is stored; NULL when range_count is 0 */
    uint32_t range_count[LANES];
    uint64_t serial; /* 0: none. Another one than that of the acknowledgement before, but the same when sent again */
    uint64_t delivered[LANES], filtered; /* of the log; added, as are the next */
    struct store_drops drops;
    const void *checkpoint; /* stored when checkpoint_size > 0 */
    size_t checkpoint_size;
    const struct store_retry_put *retries;
    size_t retry_count;
    const struct store_done *done; /* retry rows that are finished with; each is counted when it is deleted */
    size_t done_count;
    const struct store_dead_put *dead;
    size_t dead_count;
};
int store_ack(struct store *store, const struct store_ack *ack, uint64_t deadline_ns);

static inline uint64_t store_ack_delivered(const struct store_ack *ack)
{
    uint64_t n = 0;
    for (int lane = 0; lane < LANES; lane++)
        n += ack->delivered[lane];
    return n;
}

/* The checkpoint stored last. *ret_size is 0 if none. SPOOL_ETOOBIG if it does not fit. */
int store_checkpoint(struct store *store, uint32_t sink_id, void *buf, size_t cap, size_t *ret_size);

/* All retry rows of a sink, ascending by lane and sequence number. */
int store_retry_each(struct store *store, uint32_t sink_id, int (*each)(void *user, const struct store_retry *row),
                     void *user);
int store_retry_each_by(struct store *store, uint32_t sink_id, uint64_t deadline_ns,
                        int (*each)(void *user, const struct store_retry *row), void *user);
/* The packed event of one: malloc'd, free(). SPOOL_ENOTFOUND, SPOOL_EDAMAGED. */
int store_retry_event(struct store *store, uint32_t sink_id, int lane, uint64_t seq, uint8_t **ret, size_t *ret_size);

struct store_dead {
    char sink[SINK_NAME_MAX + 1];
    struct store_retry row;
    uint64_t died_ns;
    const uint8_t *packed;
    size_t packed_size;
    const struct store_attempt *attempts; /* the oldest first */
    size_t attempt_count;
};
/* Dead letters of a sink (NULL: of all), also of removed ones, by id. Valid during the callback; no lock is held. */
int store_dead_each(struct store *store, const char *sink, int (*each)(void *user, const struct store_dead *dead),
                    void *user);
/* The same, of one id. */
int store_dead_find(struct store *store, const char *sink, const struct spool_id *id,
                    int (*each)(void *user, const struct store_dead *dead), void *user);
/* As spool_dead_requeue, spool_dead_requeue_to (NULL: to all) and spool_dead_purge. */
int store_dead_requeue(struct store *store, const char *sink, const struct spool_id *id, uint64_t *ret_n);
int store_dead_requeue_to(struct store *store, const char *sink, const struct spool_id *id, const char *to,
                          uint64_t *ret_n);
int store_dead_purge(struct store *store, const char *sink, const struct spool_id *id, uint64_t *ret_n);
/* The last STORE_PURGED_MAX letters of a sink that were purged, or went by a limit, are remembered. SPOOL_ENOTFOUND. */
enum { STORE_PURGED_MAX = 96 };
struct store_purged {
    struct spool_id id;
    int lane;
    uint64_t seq, at_ns; /* wall clock: when it went */
    bool by_limit;
};
int store_purged_find(struct store *store, uint32_t sink_id, const struct spool_id *id, struct store_purged *ret);
/* Puts another event, of the same id, in the place of the one in the letters. */
int store_dead_edit(struct store *store, const char *sink, const struct spool_id *id, const uint8_t *packed,
                    size_t size, uint64_t *ret_n);
/* Adds a letter that was exported; its sink need not be registered. SPOOL_EEXISTS if there is one of that id and sink. */
int store_dead_import(struct store *store, const struct store_dead *dead);

/* What may stay of a sink's dead letters; 0: no limit. */
struct store_dead_limits {
    uint64_t rows_max, bytes_max, age_max_ms; /* of packed events; since they died */
};
/* Deletes the oldest (by id) beyond the limits, counted in the sink. */
int store_dead_trim(struct store *store, const char *sink, const struct store_dead_limits *limits,
                    uint64_t *ret_dropped);

/* Promises on disk that stamps up to a second beyond this one may be handed out without an event, so that they are not
 * repeated after a crash. Cheap when promised already. */
int store_clock_lease(struct store *store, const struct spool_id *stamp);

/* Tells every process of the spool to follow the wall clock as it is: each does so within a second. */
void store_clock_reset(struct store *store);

/* --------------------------------------------------------------------------------------------------- inspection */

struct store_stats {
    uint64_t enqueued_events, enqueued_bytes, rejected_full, recovered_events; /* this handle */
    uint64_t stored_events, unapplied_bytes, used_bytes, max_bytes, segments, journals;
    uint64_t dropped_events, damaged_blocks, damaged_events, dead_letters; /* of the spool */
    uint64_t seen_blocks, seen_events; /* of the damaged ones: what an operator has seen */
    uint32_t dead_journals;
    bool disk_full;
};
int store_stats(struct store *store, struct store_stats *ret);
/* How long the flushes of this process's journal took, in microseconds, since it has that journal. */
void store_flush_times(struct store *store, struct histogram *ret);

int store_verify(struct store *store, void (*each)(void *user, const struct spool_finding *finding),
                 void (*progress)(void *user, uint64_t done_bytes, uint64_t all_bytes), void *user,
                 struct spool_verify_report *ret);
/* Marks a finding, and all damage that is counted, as seen; whether a finding is. */
int store_seen_mark(struct store *store, const struct spool_finding *finding);
bool store_seen_has(struct store *store, const struct spool_finding *finding);
int store_seen_all(struct store *store);

#endif
