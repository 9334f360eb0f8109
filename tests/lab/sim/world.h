/* world.h - all that is outside of the code under simulation: what is on disk, what is over there at the sinks, what
 * each process was told to do, and what the oracle knows about every event.
 *
 *   disk.c    what survives: the log, sinks, rows; acknowledgements applied in parts
 *   store.c   spool/store.h as delivery/ calls it: delays, failures, elections
 *   far.c     sinks: a table of ways to answer
 *   oracle.c  the account of every event for every sink: the invariants
 *   proc.c    processes: opened, told to start, stop, add, drop; crashed
 *   events.c  what happens to the world: a table
 *   run.c     one run: from a seed to quiet */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include "../../../delivery/delivery.h"
#include "../../../spool/suspect.h"
#include "arena.h"
#include "sched.h"

enum {
    SINKS_MAX = 4,
    SIM_LOG_MAX = 32000,
    STOPS_MAX = 8,
    EVENTS_MAX = 4000,
    BLOCKS_MAX = 2000,
    PLAN_MAX = 160,
    AGENTS_MAX = 16
};

/* Things broken on purpose, which a run must notice: the name is that of --control. */
#define SIM_CONTROLS(X)                                                                                                \
    X(NONE, "none", "")                                                                                                \
    X(EARLY_ACK, "early-ack", "an acknowledgement covers an event that no sink has answered for")                      \
    X(ROW_EARLY, "row-early", "a retry row is deleted before its event is delivered")                                  \
    X(PASS_PARKED, "pass-parked", "the cursor passes an event that waits behind another, whose row is not stored")     \
    X(FORGET_ATTEMPTS, "forget-attempts", "attempts are forgotten at a restart")                                       \
    X(FORGET_ORDER, "forget-order", "the ordering key of a row is forgotten at a restart")                             \
    X(LOST_SIGNAL, "lost-signal", "wake-ups are lost between threads")                                                 \
    X(NO_DEADLINES, "no-deadlines", "waits do not end at their deadline")                                              \
    X(TWO_OWNERS, "two-owners", "two processes are elected for one sink")                                              \
    X(NO_CHECKPOINT, "no-checkpoint", "a checkpoint is not stored with its acknowledgement")                           \
    X(BACKOFF_NONE, "backoff-none", "no wait before the next try")                                                     \
    X(BACKOFF_LONG, "backoff-long", "waits beyond the ceiling")                                                        \
    X(KEEP_PAUSED, "ignore-pause", "a pause is not seen")                                                              \
    X(LOST_ROW, "lost-row", "a crash loses a row that was acknowledged")                                               \
    X(MISCOUNT, "miscount", "an acknowledgement counts one delivery too few")                                          \
    X(COUNT_EARLY, "count-early", "retried events are counted before their rows are deleted")                          \
    X(COUNT_AGAIN, "count-again", "an acknowledgement that is sent again is counted again")                            \
    X(FORGET_PAUSE, "forget-pause", "that a sink asked to be paused is not stored")                                    \
    X(FORGET_HAND, "forget-hand", "what was in a sink's hands is forgotten when the process dies")                     \
    X(NO_RAMP, "no-ramp", "a sink that was down gets as much at once as if it had not been")                           \
    X(OVER_ALL, "over-all", "a limit of what may wait drops an event too many")                                        \
    X(SHARE_KEYS, "share-keys", "events are given to a worker while another one has some of their key")                \
    X(ASKED_IN_VAIN, "asked-in-vain", "when a sink wants an event again is not heeded")                                \
    X(PASS_ALL, "pass-all", "what a filter stops is delivered")                                                        \
    X(MEMBER_LIES, "member-lies", "what a member of a group failed to take counts as accepted")                        \
    X(LEAVE_OPEN, "leave-open", "a stop that has no time forgets the states of sinks")                                 \
    X(KEEP_SERVED, "keep-served", "a keeper drops what is too much for a sink that is served")

enum control {
#define SIM_CONTROL_NAME(name, text, what) CONTROL_##name,
    SIM_CONTROLS(SIM_CONTROL_NAME)
#undef SIM_CONTROL_NAME
        CONTROLS
};
const char *control_name(enum control control);
const char *control_what(enum control control);

/* ----------------------------------------------------------------------------------------------------------- events */

struct event {
    int lane;
    uint64_t seq;
    uint32_t agent; /* 0: none */
    uint64_t ttl_ms, born_ns;
    uint32_t poison;      /* bits: the sinks that refuse it */
    uint32_t deadly;      /* bits: the sinks whose process it kills */
    bool damaged;         /* may be skipped: its block cannot be read */
    bool gone;            /* likewise: dropped from the log by a limit */
    struct event *before; /* of the same agent and lane */
    struct spool_id id;
    uint32_t size;
    uint8_t *packed;
};

struct block {
    int lane;
    uint64_t first_seq;
    uint32_t count;
    bool damaged, gone;
};

/* What is true of one event for one sink. */
struct tally {
    uint16_t accepted;     /* times, over there */
    uint16_t killed;       /* processes, by being delivered */
    uint16_t died_alone;   /* processes, with it alone in hand */
    uint16_t failures;     /* that the library heard of, since it took the row over or began */
    uint32_t heard_in;     /* the load in which the library heard that it is delivered; 0: it has not */
    bool finished;         /* on disk: cursor or ranges cover it */
    bool ever_heard;       /* delivered, some time */
    bool resolved;         /* accepted or dead, some time: others of its key may go on */
    bool requeued;         /* put back by the operator, who may meet an acknowledgement that is repeated */
    bool refused;          /* the sink rejected it */
    bool known_row;        /* its row was there before the log was taken for read: after a crash between two parts */
    bool over;             /* more waited than its sink allows, and it was the oldest: it may be dropped */
    bool excused;          /* its row could not be read: it may be dropped */
    uint64_t asked_ms;     /* "not before" of the last failure … */
    uint64_t asked_ns;     /* … since when, by the clock of the process that heard it */
    uint32_t failed_jumps; /* wall clock jumps until it failed last */
    uint64_t due_ns;       /* monotonic, of its row; 0: not known, since the wall clock jumped */
    struct store_retry *row, *dead; /* on disk */
};

/* ------------------------------------------------------------------------------------------------------------ sinks */

struct behaviour;
struct far_state;

/* What is in a sink's hands, as hand.c keeps it; see store.c. */
enum { HAND_SLOTS = 4 };
struct store_hand {
    struct sink_world *sink;
    struct hand_slot {
        bool set;
        int lane;
        uint32_t count;
        uint64_t first, seqs[STORE_MARK_ROWS_MAX];
        bool rows;
    } slots[HAND_SLOTS];
    struct suspects suspects;
    uint64_t excused_ns; /* when its worker was given up last, which may have been about to begin */
};
void hand_died(struct store_hand *hand);
bool hand_has(const struct store_hand *hand, int lane, uint64_t seq);

/* A sink as all processes and the far side see it. */
struct sink_world {
    char name[16];
    struct spool_sink hooks;
    struct spool_sink_options options;
    bool checkpoints;
    uint32_t agents_stopped;          /* its filter stops events of the agents from 1 to this */
    uint32_t member_count, accept;    /* of a group, and how many must have an event: 1 is failover; 0: it is none */
    uint8_t members_with[EVENTS_MAX]; /* bits: those that have the event */

    bool registered; /* on disk, as is all up to `owner` */
    struct store_sink disk;
    uint8_t checkpoint[64];
    size_t checkpoint_size;
    int owner; /* the process that is elected */
    bool kept; /* … for its keeper */
    struct store_hand hand;
    uint64_t start_seq[LANES];

    uint32_t loads; /* times a process read where it stood */
    uint64_t loaded_generation[PROCS_MAX];
    bool paused_read[PROCS_MAX];
    uint64_t paused_seen_ns[PROCS_MAX]; /* when the process had read that it is paused, and its rows; 0: it has not */
    uint64_t paused_excused_ns[PROCS_MAX];
    uint32_t served[PROCS_MAX];                    /* 1: added and not dropped there */
    uint32_t adding[PROCS_MAX];                    /* calls under way */
    uint32_t running[PROCS_MAX];                   /* delivers */
    uint8_t agents_in_hand[PROCS_MAX][AGENTS_MAX]; /* of an agent: delivers that have some of its events */
    uint32_t failed_tries;                         /* of the sink as a whole, in a row, since it was read */
    uint64_t capped_ns;                            /* since when these wait as long as they may */
    uint64_t paused_ns;                            /* since when; 0: it is not */
    uint32_t
        asked_pause[PROCS_MAX]; /* the load in which it said there that only an operator can mend it, and 1; 0: not */
    uint64_t asked_ns[PROCS_MAX], asked_excused_ns[PROCS_MAX];
    uint64_t failed_ns, failed_excused_ns; /* when it was found down last */
    uint64_t rewound;
    bool uncertain; /* an acknowledgement was applied in part: counts do not fit until the next load */
    uint64_t finished, finished_before, holes, known_rows; /* events */

    const struct mood *mood;
    uint64_t mood_until_ns;
    uint32_t log[SIM_LOG_MAX]; /* far side of one with checkpoints: what was written */
    size_t log_count;
    struct tally tallies[EVENTS_MAX];
};

/* -------------------------------------------------------------------------------------------------------- processes */

struct store { /* one process's handle */
    int proc;
    uint64_t hurry_ns[STOPS_MAX]; /* of each stop under way; 0: none */
};

struct proc {
    int index;
    bool alive, open; /* open: its delivery is made */
    struct delivery *delivery;
    struct hlc *clock;
    struct store store;
    uint32_t calls;                          /* of the library, under way */
    uint32_t starts, stops;                  /* calls so far */
    bool started;                            /* the last one of start and stop was start */
    bool stopped;                            /* a stop returned, and no start was called since */
    uint64_t stopped_ns, stopped_excused_ns; /* when, and what was excused until then */
    uint32_t cancelling;                     /* cancel hooks under way */
    uint64_t cancelled_ns;                   /* when the last one ended */
    bool wake_pending, notifying, closing, start_again;
    uint32_t lives;
};

/* ------------------------------------------------------------------------------------------------------------ world */

struct trouble { /* of the store */
    uint64_t until_ns;
    uint32_t fails, slow; /* chances of 10,000 */
};

extern struct world {
    uint64_t seed;
    enum control control;
    bool tracing, healing;
    struct rng fault_rng, plan_rng;
    int64_t wall_offset_ns;
    uint64_t wall_max_ns; /* the latest it ever was */
    uint32_t jumps;
    uint64_t jumped_ns;                  /* monotonic; the last jump */
    uint32_t memory_fails, threads_fail; /* chances of 10,000 */
    uint32_t lost_wakes;
    uint32_t part_rows; /* of an acknowledgement's transaction */
    struct trouble trouble;

    struct event events[EVENTS_MAX];
    uint32_t event_count;
    uint32_t at_seq[LANES][EVENTS_MAX]; /* numbers of events */
    uint64_t next_seq[LANES], first_seq[LANES];
    struct block blocks[BLOCKS_MAX];
    uint32_t block_count;
    uint32_t control_count; /* store_control() */
    uint32_t next_sink_id;

    struct sink_world sinks[SINKS_MAX];
    uint32_t sink_count;
    struct proc procs[PROCS_MAX];
    struct spool_sink_options proc_options;
    uint32_t workers;

    uint64_t deliveries, accepted, acks; /* statistics */
    bool failed;
    char rule[32], message[512];
} world;

uint64_t world_wall_ns(void);
void world_jump(int64_t ns);

/* ----------------------------------------------------------------------------------------------------------- disk.c */

uint32_t event_make(int lane, uint32_t agent, uint64_t ttl_ms, size_t pad, uint32_t poison); /* its number */
void disk_commit(int lane, uint32_t count); /* the last `count` events, made for that lane, as a block */
struct event *event_at(int lane, uint64_t seq);
uint32_t event_number(const struct event *event);
const struct block *disk_block(int lane, uint64_t seq); /* that holds it or the first one after */
int disk_register(struct sink_world *sink, const char *kind, uint32_t order, bool from_now);
void disk_remove(struct sink_world *sink);
void disk_rewind(struct sink_world *sink);
uint32_t disk_requeue(struct sink_world *sink);
struct sink_world *disk_sink(uint32_t id);
struct sink_world *disk_sink_named(const char *name);
/* Where a sink at these cursors stands when it drops what is more than so many bytes (0: any), or older; in whole blocks. */
void disk_overflow(const uint64_t cursor[LANES], uint64_t max_bytes, uint64_t born_ns, uint64_t ret_upto[LANES]);
/* Applies it in parts of world.part_rows, with `between` called between them; non-zero from it ends that. */
int disk_ack(struct sink_world *sink, const struct store_ack *ack, int (*between)(void *user), void *user);

/* Moves its cursors there; how many events it was not finished with. */
uint64_t disk_drop_below(struct sink_world *sink, const uint64_t upto[LANES]);

/* ------------------------------------------------------------------------------------------------ store.c, keeper.c */

/* What every call of the store begins with: takes time, fails by chance. */
int store_call(const struct store *store, const char *call, uint64_t latency_max_ns, uint64_t deadline_ns);
/* The keeper of the process sees to sinks that nobody serves; the running coroutine is at that. */
void keeper_turn(struct proc *p);
void keeper_died(int proc);
bool keeper_is_running(void);

/* ------------------------------------------------------------------------------------------------------------ far.c */

struct mood;                               /* how a sink behaves for a while */
const struct mood *mood_at(uint64_t pick); /* any number */
const struct mood *mood_good(void);
const char *mood_name(const struct mood *mood);
void far_hooks(bool checkpoints, struct spool_sink *ret);

/* --------------------------------------------------------------------------------------------------------- oracle.c */

/* Before the sink sees the batch: each of them may be presented now. goes_on: it is a half of the one before. */
void oracle_present(struct sink_world *sink, int proc, const struct spool_delivery *batch, size_t n, bool goes_on);
void oracle_hold(struct sink_world *sink, int proc, const struct spool_delivery *batch, size_t n, bool holds);
/* The far side has it. */
void oracle_accept(struct sink_world *sink, struct event *event);
void oracle_refuse(struct sink_world *sink, struct event *event);
/* The library hears the answers. */
void oracle_hear(struct sink_world *sink, const struct spool_delivery *batch, size_t n, int code, const bool *reasoned);
/* The sink as a whole failed or not. */
void oracle_try(struct sink_world *sink, bool failed);
/* It kills the process that delivers it. */
void oracle_kill(struct sink_world *sink, struct event *event);
/* It says that only an operator can mend it; he says that he has. */
void oracle_ask_pause(struct sink_world *sink, int proc);
void oracle_resumed(struct sink_world *sink);
void oracle_load(struct sink_world *sink);
void oracle_ack_before(struct sink_world *sink, int proc, const struct store_ack *ack);
void oracle_ack_after(struct sink_world *sink, const struct store_ack *ack, bool whole);
void oracle_finished(struct sink_world *sink, struct event *event);
struct event *oracle_event(const struct spool_delivery *delivery);
bool oracle_is_quiet(const struct sink_world *sink, uint32_t *ret_number);
void oracle_final(void);

/* ----------------------------------------------------------------------------------------------------------- proc.c */

void proc_boot(int proc);
void proc_crash(int proc);
enum call { CALL_START, CALL_STOP, CALL_ADD, CALL_DROP, CALL_REMOVE, CALL_SETTLE, CALL_STATUS, CALL_KEEP, CALL_CLOSE };
void proc_call(int proc, enum call call, uint32_t sink, uint64_t timeout_ms);
void proc_wake_all(void);
bool proc_is_idle(int proc);

/* --------------------------------------------------------------------------------------------------------- events.c */

struct planned {
    uint64_t at_ns;
    uint32_t kind;
    uint64_t args[4];
};
size_t plan_make(struct planned plan[PLAN_MAX]);
void plan_do(const struct planned *event);
void plan_print(const struct planned *event, char *text, size_t size);

/* ------------------------------------------------------------------------------------------------------------ run.c */

struct run_options {
    uint64_t seed;
    enum control control;
    bool trace;
    const bool *skip; /* by index of the plan; NULL: none */
};

struct run_result {
    bool failed;
    char rule[32], message[512];
    uint64_t hash, steps, events, deliveries, virtual_ns, plan_count;
    uint64_t faults[FAULTS];
};
void run_one(const struct run_options *options, struct run_result *ret);

#endif
