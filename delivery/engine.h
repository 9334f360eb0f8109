/* engine.h - what the threads of this folder share. Private to it.
 *
 *   dispatcher   elects, loads, reads blocks, cuts batches, releases                 (dispatcher.c, takeover.c,
 * reader.c) workers      take a batch of some sink, run its hooks, judge the answers         (worker.c, bench.c,
 * judge.c) acker        hands the answers to the store                                      (acker.c) canceller calls
 * cancel, which may hang as any hook may                        (canceller.c)
 *
 * One mutex, delivery.lock, which is the scheduler's, guards everything here that does not say otherwise. It is taken a few times per batch,
 * never per event, and never held over a call into the store or a sink. Sinks and the delivery itself are counted: a
 * thread that hangs in a sink keeps what it needs, also after delivery_free().
 *
 * Whose batch is next is up to the scheduler (op_core.h): the first batch in each sink's queue is an operation whose
 * priority is its lane, and which needs one of the sink's slots. So a worker that gets free takes the most important
 * one, and none is overtaken by more than BATCH_BYPASSES_MAX later ones.
 *
 * The life of a sink:   added -> elected -> loaded -> (batches) -> states closed -> answers stored -> released
 * A step forward or back is always the dispatcher's, so that there is one place to look for it (dispatcher.c, serve).
 */
#ifndef DELIVERY_ENGINE_H
#define DELIVERY_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>

#include "../lib/base/sync.h"
#include "answers.h"
#include "backoff.h"
#include "batch.h"
#include "bench.h"
#include "block_cache.h"
#include "breaker.h"
#include "delivery.h"
#include "filter.h"
#include "keys.h"
#include "retry.h"
#include "scheduler.h"
#include "window.h"

enum {
    READY_MAX = 2,                 /* batches cut ahead, so that a worker finds the next one waiting */
    INFLIGHT_BYTES_MAX = 32 << 20, /* of the process; a sink with nothing in flight may always have one batch */
    UNACKED_ROWS_MAX = 4096,       /* of a sink; then it waits for the store */
    UNACKED_BYTES_MAX = 4 << 20,
    EXTRA_WORKERS_MAX = 64,
    ACK_INTERVAL_MS = 20,
    CHECKPOINT_INTERVAL_MS = 50,
    KEY_GAPS_MAX = 4096, /* looked through at once */
    LANE_TURN = 12,      /* a lane passed over that many times is next: with four lanes within 16 */
};

/* One worker's state of a sink. */
struct slot {
    void *state;
    bool open, busy;
    uint64_t since_ns;   /* when the running hook began, monotonic; 0: none runs */
    bool cancel_sent;    /* cancel was called for that run */
    bool overdue;        /* … because its time was over, which counted as a failure of the sink */
    uint32_t cancelling; /* calls of cancel that are running: two when the first one's thread was given up */
};

/* What was published last, to tell what has changed. */
struct publication {
    uint64_t at_ns; /* monotonic; 0: never */
    uint64_t given;
    enum spool_sink_state state;
    uint32_t attempt;
    char error[REASON_MAX + 1], waits_for[REASON_MAX + 1];
};

struct sink {
    atomic_uint refs;
    struct sink *next;
    char name[SINK_NAME_MAX + 1], kind[SINK_KIND_MAX + 1];
    struct spool_sink hooks;           /* constant, as are the next two */
    struct spool_sink_options options; /* with the defaults filled in */
    char *config;
    struct filter *filter;              /* constant; NULL: all pass */
    bool best_effort;                   /* constant: what it accepts is sent, not delivered */
    struct spool_sink_options as_added; /* for the store */
    struct slot *slots;                 /* options.workers of them */

    bool dropping; /* it is let go of, and then forgotten: delivery_sink_drop(), or it was removed from the store */
    bool elected, loaded;
    bool elsewhere; /* the election was lost */
    bool reload;    /* forget what is in memory, read the store again */
    bool paused, failed, hung;
    bool left_open;        /* hung, since a stop had no time to close its states: a worker that is given up does it */
    bool pause_unstored;   /* it asked to be paused, and the store does not know yet */
    bool crash_told;       /* suspects found by this election */
    bool states_stale;     /* its states are to be closed before it gets another batch */
    bool unlinked;         /* dropped: no longer in the list */
    bool store_busy;       /* a thread is at the store for this sink: acker and loading exclude each other */
    uint64_t epoch;        /* moves when batches cut before are void */
    uint32_t control_seen; /* store_control() at the last look */
    uint64_t elect_again_ns, load_again_ns, read_again_ns; /* not before, monotonic */
    uint64_t cancel_at_ns; /* running hooks are cancelled then; 0: at their own timeout */

    uint32_t id; /* in the store */
    uint64_t generation;
    uint64_t serial; /* of what is being sent */
    struct window windows[LANES];
    struct retry_index retries;
    struct answers open, ready, sending;
    uint64_t given, acked;    /* batches answered; of them known to the store */
    uint64_t first_upto;      /* `given` at the first checkpoint: no event before it is acknowledged; 0: none yet */
    uint64_t delivered;       /* events, since added */
    uint64_t checkpointed_ns; /* when the last checkpoint was taken, monotonic */
    uint8_t checkpoint[SPOOL_CHECKPOINT_MAX]; /* as stored last: for open */
    size_t checkpoint_size;

    struct op_resource *slot_of;            /* options.workers slots, of which a batch needs one … */
    struct op_resource *stripe_of[STRIPES]; /* … and the stripes of its keys, all of each; NULL: it is not keyed */
    uint64_t stripes;                       /* of batches that are ready or run */
    struct op_need named[SPOOL_SINK_RESOURCES_MAX]; /* what else a batch with events needs */
    uint32_t named_count;
    struct op_core *core;                /* that it holds them in; NULL: it does not */
    char *resources;                     /* constant, as the operator named them; "" if none */
    uint64_t waits_since_ns, overdue_ms; /* the wait of a batch that was looked at last, and when it is told next */
    struct key_index *keys_ahead[LANES]; /* the dispatcher's own; NULL: not needed yet */
    bool catching_up; /* it is to stop, and fills its gaps before, so that what is beyond them need not come again */
    bool offered;     /* the head of the queue is with the scheduler */
    struct batch *ready_head, *ready_tail;
    uint32_t ready_count, running;                        /* batches */
    size_t inflight_bytes;                                /* ready and running */
    uint32_t inflight_events;                             /* likewise, without what the filter stops */
    uint32_t passed_over[LANES];                          /* batches given to other lanes while this one waited */
    uint64_t linger_first[LANES], linger_since_ns[LANES]; /* a batch that begins there waits for more since then */
    bool retried_last[LANES];                             /* the lane's last batch was of retries: the log is next */

    struct delivery_metrics *metrics;
    struct publication publication;
    uint64_t buried;     /* dead letters, since added … */
    uint64_t trimmed;    /* … and when they were last looked through for too many */
    uint64_t trim_at_ns; /* monotonic: not before; 0: never looked */

    struct store_hand
        *hand; /* what is in its hands, for after a crash; while elected. Constant while a worker has it */
    struct store_suspect *suspects; /* as found there, less those that were answered for */
    size_t suspect_count;
    uint64_t suspects_upto;     /* `given` when they changed; 0: they are written down */
    struct breaker breaker;     /* of the sink as a whole */
    uint64_t overflow_again_ns; /* not before, monotonic: looking at its limits */
    uint64_t over_limit;        /* events dropped by them, since added */
    uint64_t pause_again_ns;    /* not before, monotonic: storing that it is paused */
    char last_error[REASON_MAX + 1];
    char paused_reason[REASON_MAX + 1]; /* what it said when it asked to be paused */
};

enum runner_kind { RUN_DISPATCHER, RUN_ACKER, RUN_CANCELLER, RUN_WORKER };

struct runner {
    struct runner *next;
    struct delivery *delivery; /* holds a reference */
    enum runner_kind kind;
    pthread_t thread;
    bool exited;
    bool abandoned;  /* nobody joins it: when it comes back it cleans up and ends */
    struct sink *at; /* workers: whose batch they have */
};

struct delivery {
    atomic_uint refs;
    struct scheduler *scheduler; /* counted; constant, as are the next two, which are its */
    pthread_mutex_t *lock;
    struct op_core *core; /* whose batch is next */
    struct store *store;  /* NULL after delivery_free() */
    struct reporter reporter;
    struct hlc *clock;                                                    /* not used by abandoned threads */
    void (*on_delivery)(void *user, const struct spool_receipt *receipt); /* constant; NULL: nobody */
    void *delivery_user;
    uint32_t workers;
    uint32_t extra_workers; /* started in place of those that overran; they stay until stop */
    struct jitter jitter;

    bool running;  /* sinks are to be served */
    bool exiting;  /* threads are to end */
    bool stopping; /* a delivery_stop() is under way */
    struct runner *runners;
    struct sink *sinks;
    uint32_t sink_count;
    struct batch *spare; /* batches to use again */
    size_t inflight_bytes;

    pthread_cond_t work;      /* workers: a batch is ready, or exiting */
    pthread_cond_t ack;       /* the acker: something to acknowledge, hurry or exiting */
    pthread_cond_t idle;      /* whoever waits for something to be over */
    pthread_cond_t cancel;    /* the canceller: a hook began that is due before cancel_until_ns */
    uint64_t cancel_until_ns; /* what it waits for */
    uint32_t hurry;           /* callers that wait for acknowledgements: no 20 ms of grace */
    uint64_t ack_again_ns;    /* after a failure of the store, monotonic */
    int ack_error;            /* the last round's failure, or SPOOL_OK */

    pthread_mutex_t wake_lock; /* guards wakes and nothing else; delivery_wake() takes no other lock */
    pthread_cond_t wake;
    uint64_t wakes;

    struct block_cache cache; /* the dispatcher's own, as is the next */
    struct window_span *gaps; /* room for KEY_GAPS_MAX of them; NULL: not needed yet */
};

/* sink_state.c, queue.c. All with the lock held, unless they say otherwise. */
int sink_new(const char *name, const struct spool_sink *hooks, const char *config,
             const struct spool_sink_options *options, struct sink **ret);
void sink_unref(struct sink *sink); /* needs no lock */
struct sink *sink_find(struct delivery *d, const char *name);
bool sink_is_wanted(const struct delivery *d, const struct sink *sink);
bool sink_is_open(const struct sink *sink); /* any of its states */
bool sink_has_answers(const struct sink *sink);
void sink_error(struct sink *sink, const char *text);
/* Seals what was answered so far for the next acknowledgement. */
void sink_promote(struct delivery *d, struct sink *sink);
/* Undoes a batch that did not run: its events are to be taken again, in order. */
void sink_take_back(struct delivery *d, struct sink *sink, struct batch *batch);
void sink_take_back_ready(struct delivery *d, struct sink *sink);
void sink_push(struct delivery *d, struct sink *sink, struct batch *batch);
/* The head, which was granted, begins; a batch that ran is over; its worker has left the sink. */
struct batch *sink_begin(struct delivery *d, struct sink *sink);
void sink_end(struct delivery *d, struct sink *sink, struct batch *batch);
void sink_left(struct delivery *d, struct sink *sink);
/* Are its events taken by keys, several batches side by side? Constant. */
void sink_name_task(const struct op_task *task, char *text, size_t size); /* "a batch of sink archive" */
/* Fills in which named resource its next batch waits for, if one. */
void sink_tell_wait(const struct sink *sink, uint64_t now_ns, struct delivery_sink_status *ret);
/* For the dispatcher, leaves the lock: names a batch that has waited long for a named resource, and again when it has been
 * twice as long, as the watchdog does with operations. */
void sink_tell_overdue(struct delivery *d, struct sink *sink);
bool sink_is_keyed(const struct sink *sink);
void sink_pick_keys(const struct sink *sink, struct key_picker *ret); /* for the next batch */
/* Its resources of the scheduler: ENOMEM, SPOOL_EINVAL (more of one than there is). Left when none of its batches runs. */
int sink_enter_core(struct delivery *d, struct sink *sink);
void sink_leave_core(struct sink *sink);
/* Counts the batch as in flight, and no longer. */
void sink_count_on(struct delivery *d, struct sink *sink, const struct batch *batch);
void sink_count_off(struct delivery *d, struct sink *sink, const struct batch *batch);
/* Hooks that have overrun their time, and still run. */
uint32_t sink_overdue(const struct sink *sink);
/* Takes a sink that was dropped and let go of out of the list; false if it is not that. */
bool sink_unlink_dropped(struct delivery *d, struct sink **link);
void sinks_unlink_dropped(struct delivery *d); /* all of those; only while no dispatcher runs */
struct batch *batch_get(struct delivery *d);   /* NULL: ENOMEM */
void batch_put(struct delivery *d, struct batch *batch);

/* outage.c. With the lock held, which they leave while the operator is told. The sink as a whole failed; worked, for
 * that many events; is tried; says that only an operator can mend it, and is paused. */
void outage_failed(struct delivery *d, struct sink *sink, const char *reason);
void outage_worked(struct delivery *d, struct sink *sink, uint32_t events);
void outage_tried(struct delivery *d, struct sink *sink);
void outage_needs_operator(struct delivery *d, struct sink *sink, const char *reason);

/* stop.c, with the lock held: nobody joins the thread any more, it ends by itself. */
void runner_abandon(struct delivery *d, struct runner *runner);

/* left_open.c, with the lock held. close_later: true if states of sinks are still open at the end of a stop, and the first
 * one's name; gives up workers that close them. take: one of those sinks, with a reference, for such a worker. */
bool sinks_close_later(struct delivery *d, char name[SINK_NAME_MAX + 1]);
struct sink *sinks_take_left_open(struct delivery *d);

/* suspects.c. load: what the hand knows, without the lock; the others with it. ENOMEM. fresh: events that were in hand
 * at the death that this election found; events: all that are left. */
int suspects_load(struct sink *sink, struct store_hand *hand);
uint64_t suspects_fresh(const struct sink *sink);
uint64_t suspects_events(const struct sink *sink);
void suspects_purge(struct sink *sink); /* forgets those that are over */
bool suspects_has(const struct sink *sink, int lane, uint64_t seq);
/* Where a batch of the log from `first` on has to end: behind one event that is suspected, before the next one that is.
 */
uint64_t suspects_end(const struct sink *sink, int lane, uint64_t first, uint64_t end);
/* Events that were in hand too often are not delivered any more. */
void suspects_condemn(const struct sink *sink, const struct batch *batch, struct bench *bench);
/* Those that were answered for are suspected no longer. */
void suspects_clear(struct sink *sink, const struct batch *batch, const struct bench *bench);
/* Writes down what is left of them when that is time; for the dispatcher, leaves the lock. */
void suspects_keep(struct delivery *d, struct sink *sink);

/* overflow.c, for the dispatcher; leaves the lock. Drops what is too much for the sink. */
void overflow_check(struct delivery *d, struct sink *sink);

/* takeover.c, for the dispatcher; with the lock held, which they leave while they are at the store. */
void takeover_elect(struct delivery *d, struct sink *sink);
void takeover_load(struct delivery *d, struct sink *sink);
void takeover_refresh(struct delivery *d, struct sink *sink);
void takeover_release(struct delivery *d, struct sink *sink);
void takeover_pause(struct delivery *d, struct sink *sink); /* stores that it asked to be paused */

/* change.c. look: without the lock, what the store says now. apply: with it. */
struct change {
    bool given;
    struct spool_sink_options options;
};
void change_look(struct delivery *d, const struct sink *sink, struct change *ret);
void change_apply(struct sink *sink, const struct change *change);

/* receipt.c. note: with the lock held, before the item is applied. tell: without it, when the answers are stored. */
int receipt_note(const struct delivery *d, struct sink *sink, const struct bench *bench, const struct bench_item *item);
void receipt_tell(struct delivery *d, struct sink *sink, const struct answer_note *notes, size_t count);

/* metrics.c. With the lock held: counts a batch that was judged. */
void metrics_count(struct sink *sink, const struct batch *batch, const struct bench *bench, uint64_t now_ns,
                   uint64_t took_ns);
size_t metrics_pack(const struct delivery_sink_status *status, const struct delivery_metrics *metrics, uint32_t sink_id,
                    uint64_t wall_ns, uint8_t *to, size_t room);

/* publish.c, for the dispatcher; with the lock held, which they leave while they are at the store. */
void publish_when_due(struct delivery *d, struct sink *sink);
void publish_last(struct delivery *d, struct sink *sink); /* before it is let go of */

/* trim.c, for the dispatcher; likewise: keeps the sink's dead letters within their limits. */
void trim_dead(struct delivery *d, struct sink *sink);

/* reader.c, for the dispatcher; likewise. True if a batch was made ready. *wait_until is lowered to when to look again.
 */
bool reader_cut(struct delivery *d, struct sink *sink, const uint64_t next_seq[LANES], uint64_t *wait_until);

/* reader_keys.c: the same for a sink that is keyed, from the log: false if no event's key is free. */
bool reader_cut_keys(struct delivery *d, struct sink *sink, int lane, uint64_t first, uint64_t next_seq,
                     struct batch *batch);
/* reader.c, for both. What of the log cannot be read is over for the sink, or looked at again later. */
uint32_t reader_events_max(const struct sink *sink);
int reader_block(struct delivery *d, int lane, uint64_t seq, struct store_block **ret, uint64_t *ret_skip_to);
bool reader_has_room(const struct sink *sink, const struct batch *batch, bool wanted, size_t size);
void reader_note_unread(struct delivery *d, struct sink *sink, int lane, uint64_t first, uint64_t skip_to, int code);

/* Has it finished more beyond gaps of the lane than can be stored? Then *ret_end is where the last of that ends. */
bool reader_is_scattered(const struct sink *sink, int lane, uint64_t *ret_end);

/* judge.c. park: with the lock held, before delivery: events that must wait behind others of their key. decide: without
 * it: what becomes of those that failed. apply: with it: windows, retry index and answers. tell: without it: notices.
 */
void judge_park(const struct sink *sink, struct bench *bench);
void judge_decide(const struct spool_sink_options *limits, struct bench *bench, uint64_t now_ns);
void judge_apply(struct delivery *d, struct sink *sink, const struct batch *batch, struct bench *bench,
                 uint64_t now_ns);
void judge_tell(const struct delivery *d, const struct sink *sink, const struct bench *bench);

/* The threads' bodies. */
void dispatcher_run(struct runner *self);
void worker_run(struct runner *self);
void acker_run(struct runner *self);
void canceller_run(struct runner *self);
void dispatcher_wake(struct delivery *d); /* with or without the lock */

/* delivery.c */
void delivery_fill_status(const struct delivery *d, const struct sink *sink, struct delivery_sink_status *ret);
void delivery_unref(struct delivery *d);
void delivery_add_worker(struct delivery *d);  /* with the lock held */
int delivery_start_worker(struct delivery *d); /* likewise */

#endif
