/* delivery.h - from the spool to the sinks: the whole contract of this folder.
 *
 * One dispatcher thread per process reads blocks and cuts them into batches, a pool of workers runs the sinks, one
 * acker thread makes their answers durable. Nothing here holds a lock while a sink runs. Knows spool/store.h only. */
#ifndef DELIVERY_DELIVERY_H
#define DELIVERY_DELIVERY_H

#include <stdarg.h>

#include "../spool/store.h"
#include "type_counts.h"

struct delivery;

/* One for delivery and operations of a spool: who may run when (scheduler.h). */
struct scheduler;
int scheduler_new(struct scheduler **ret);
void scheduler_unref(struct scheduler *scheduler);

struct delivery_options {
    struct scheduler *scheduler; /* NULL: one of its own */
    uint32_t workers;            /* 1 to 64 */
    struct reporter reporter;
    struct hlc *clock;                                                    /* for ages and due times */
    uint64_t seed;                                                        /* of the jitter; 0: random */
    void (*on_delivery)(void *user, const struct spool_receipt *receipt); /* as in struct spool_options; NULL: nobody */
    void *delivery_user;
};

int delivery_new(struct store *store, const struct delivery_options *options, struct delivery **ret);
/* Only after delivery_stop(). Sinks that hang keep what they need until they return. */
void delivery_free(struct delivery *delivery);
void delivery_abandon(struct delivery *delivery); /* in a forked child */

/* 1 to 64 of A-Z a-z 0-9 . _ - and no dot first. SPOOL_EINVAL. */
int delivery_check_name(const char *name);

/* As spool_sink_add(): checks name, ABI, sizes and options, registers with the store, and is served when started. */
int delivery_sink_add(struct delivery *delivery, const char *name, const struct spool_sink *sink,
                      const char *json_config, const struct spool_sink_options *options);
/* Ends serving the sink here (as stop does, within `deadline_ns`), if it was added. Registration stays. */
int delivery_sink_drop(struct delivery *delivery, const char *name, uint64_t deadline_ns);

int delivery_start(struct delivery *delivery);
/* As spool_stop(). */
int delivery_stop(struct delivery *delivery, uint64_t deadline_ns);
bool delivery_is_running(const struct delivery *delivery);
/* A sink did not return at the last stop, and has not since. */
bool delivery_has_hung(struct delivery *delivery);

/* The store changed: look again. Any thread, never blocks on a sink. (store_options.on_change calls it.) */
void delivery_wake(struct delivery *delivery);

/* Makes all answers given so far durable now. For spool_drain(). */
int delivery_settle(struct delivery *delivery, uint64_t deadline_ns);

/* What is known here of a sink added here. SPOOL_ENOTFOUND. */
struct delivery_sink_status {
    enum spool_sink_state state;
    uint64_t cursor[LANES];      /* in memory: ahead of what is stored */
    uint64_t done_beyond[LANES]; /* events finished out of order beyond the cursors */
    uint64_t delivered;          /* acknowledged by the sink since it was added here, whether stored yet or not */
    uint64_t retrying, retrying_in[LANES]; /* all; by lane */
    uint32_t attempt;
    uint64_t next_try_ms;
    char last_error[REASON_MAX + 1];
    char paused_reason[REASON_MAX + 1]; /* what the sink said when it was paused for its own failure */
    uint64_t over_limit;                /* events dropped by its limits of what may wait, since added here */
    uint64_t suspects;                  /* events that were in its hands when a process died */
    enum spool_breaker breaker;
    uint64_t breaker_since_ms,
        breaker_opened;             /* how long in that state; times that it opened since it was added here */
    char waits_for[REASON_MAX + 1]; /* "gpu, held by operation 3 "train"": what its next batch lacks; "" if nothing */
    uint64_t waits_ms;              /* how long */
};
int delivery_sink_status(struct delivery *delivery, const char *name, struct delivery_sink_status *ret);

/* For spool_op_each(): batches of sinks that name resources. */
int delivery_batches_each(struct delivery *delivery, int (*each)(void *user, const struct spool_op_info *info),
                          void *user);

/* A kind of sink: one of the library's own, or a plugin, which was loaded. */
struct delivery_kind {
    const struct spool_sink *sink;
    int (*check)(const char *json_config); /* NULL: nothing is checked before open */
    const char *summary;                   /* never NULL, as the next */
    const struct spool_sink_setting *settings;
};
/* Finds it by name, in `plugin` if that is given (the absolute path of a file), and loads what must be loaded. Any thread.
 * SPOOL_ENOTFOUND (the message says where it was searched), SPOOL_EABI, SPOOL_EACCESS, errno. */
int delivery_kind_find(const char *kind, const char *plugin, struct delivery_kind *ret);
/* Reads a configuration (NULL: "{}") without opening anything: SPOOL_ECONFIG, with a message that names the key. */
int delivery_kind_check(const struct delivery_kind *kind, const char *json_config);
/* What its hook of that name says of such a configuration (NULL: "{}"); 0 without one. */
uint32_t delivery_sink_traits(const struct spool_sink *sink, const char *json_config);
/* As spool_sink_kind_each(). */
int delivery_kind_each(int (*each)(void *user, const struct spool_sink_kind *kind), void *user);

/* Is the event, or its row of the retry table, in the hands of a sink that is served here, or answered and not stored yet? */
bool delivery_is_in_flight(struct delivery *delivery, const char *name, int lane, uint64_t seq);

/* Does the filter (JSON, NULL: none) pass the event? SPOOL_ECONFIG, ENOMEM. */
int delivery_filter_passes(const char *filter, const struct spool_event *event, bool *ret);

/* What a sink did since it was added here, or published by who it was added to. Counted by batch, under the lock. */
enum delivery_counter {
    METRIC_DELIVERED,
    METRIC_RETRIED,
    METRIC_DEAD,
    METRIC_EXPIRED,
    METRIC_DAMAGED,
    METRIC_FILTERED,
    METRIC_COUNTERS
};
struct delivery_metrics {
    uint64_t events[METRIC_COUNTERS][LANES]; /* what became of events, each time they were tried */
    uint64_t batches;                        /* calls of deliver, one a batch */
    uint64_t failures;                       /* of the sink as a whole */
    struct histogram latency_us[LANES];      /* of delivered events, since they were enqueued */
    /* By lane of the batch. The last ones are of no lane that is known, by what an older version published. */
    struct histogram deliver_us[LANES + 1], batch_events[LANES + 1];
    struct type_counts types; /* the same as `events`, by type */
};
_Static_assert((int)METRIC_COUNTERS == (int)TYPE_COUNTERS, "a counter of types for each of events");
int delivery_sink_metrics(struct delivery *delivery, const char *name, struct delivery_metrics *ret);

/* What the deliverer of a sink publishes for other processes (store_sink_published), read. SPOOL_ENOTFOUND: it is none that
 * this version knows. */
struct delivery_report {
    uint64_t at_ns;          /* wall clock: when it was written */
    uint64_t next_try_at_ns; /* wall clock; 0: none */
    uint64_t waits_since_ns; /* wall clock, if status.waits_for is not "" */
    uint32_t pid, sink_id;
    struct delivery_sink_status status; /* without cursors, and the next try as above */
    struct delivery_metrics metrics;
};
int delivery_report_read(const uint8_t *bytes, size_t size, struct delivery_report *ret);

/* The sinks that come with the library, by kind; NULL if there is none of that kind. */
const struct spool_sink *delivery_builtin_sink(const char *kind);

bool delivery_builtin_kind(const char *kind, struct delivery_kind *ret); /* false: there is none of that kind */
const char *delivery_builtin_name(size_t index);                         /* NULL behind the last */

/* Reads the configuration of such a sink without opening anything: SPOOL_ECONFIG, with a message that names the key. */
int delivery_builtin_check(const char *kind, const char *json_config);

struct delivery_checkpoint {
    size_t size; /* 0: none */
    unsigned char bytes[SPOOL_CHECKPOINT_MAX];
};

/* Opens a sink of a kind, delivers one event to it and closes it, without any spool; as spool_sink_test(). For one that
 * keeps checkpoints the caller is whoever delivers to it (store_sink_elect()), and stores what is in `checkpoint` after
 * SPOOL_OK; if there is none yet, first with an event NULL. */
struct delivery_probe {
    const struct spool_sink *sink;
    const char *config;
    const struct spool_event *event; /* NULL: it is only opened, for its first checkpoint */
    const struct spool_id *id;
    struct delivery_checkpoint checkpoint; /* in: as stored last; out, after SPOOL_OK: to be stored */
    uint64_t deadline_ns;
    bool hangs; /* out, with SPOOL_ETIMEOUT: a hook is still running */
};
int delivery_probe(struct delivery_probe *request);

/* What the store keeps as a sink's configuration, taken apart. */
struct delivery_registration {
    char *config;             /* the sink's own; the text that was given */
    const char *options_json; /* "{}" if none; in the same memory, or static */
    struct spool_sink_options options;
    char *filter, *plugin, *resources; /* what `options` points to */
};
/* Takes over `text` (malloc'd, as store_sink_config() gives it), but not on failure. SPOOL_EDAMAGED, ENOMEM. */
int delivery_registration_read(char *text, struct delivery_registration *ret);
void delivery_registration_free(struct delivery_registration *registration);
/* Such a text, malloc'd, of a configuration and options, which are checked; `options` may be NULL. */
int delivery_registration_text(const char *config, const struct spool_sink_options *options, char **ret);
/* Such a text with the options changed that are not 0 in `change`. SPOOL_EOPTION for those that cannot be changed. */
int delivery_registration_change(const char *text, const struct spool_sink_options *change, char **ret);

/* spool_delivery_fail(), spool_sink_error() and spool_sink_note(), for plugins. */
void delivery_sink_notev(const char *format, va_list args);
void delivery_failv(struct spool_delivery *delivery, enum spool_outcome outcome, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));
int delivery_sink_errorv(int code, const char *format, va_list args) __attribute__((format(printf, 2, 0)));

/* For sinks in this folder that are made of others. An outcome: the event was not tried, and goes back without an attempt,
 * also when deliver returns 0. */
#define DELIVERY_UNTRIED ((enum spool_outcome)0x554e)
/* While a capture is set, spool_delivery_fail() on this thread tells it the reason for deliveries[0..n). Returns the one set
 * before, which is to be set again. */
struct delivery_capture {
    struct spool_delivery *deliveries;
    size_t n;
    void (*told)(void *user, size_t index, const char *text);
    void *user;
};
const struct delivery_capture *delivery_capture_reasons(const struct delivery_capture *capture);

/* For sinks in this folder: something that the operator should hear of, although nothing failed
 * (SPOOL_NOTICE_SINK_FILE). Told when the hook has returned; the last one counts. */
void delivery_sink_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Takes it, or that of spool_sink_note(), for the thread that ran the hook; "" if there is none. Which one it was is what it
 * returns. */
enum spool_notice_kind delivery_sink_take_note(char ret[REASON_MAX + 1]);

/* Operations, as spool_op_*() in spool.h: the scheduler (op_core.h) with threads around it. What they share with sinks are the resources. */
struct ops;
struct ops_options {
    struct scheduler *scheduler; /* NULL: one of their own */
    uint32_t workers;            /* 1 to 64 */
    uint32_t bypasses_max;
    struct reporter reporter;
};
int ops_new(const struct ops_options *options, struct ops **ret);
/* Only after ops_stop(). An operation that hangs keeps what it needs until it returns. */
void ops_free(struct ops *ops);
void ops_abandon(struct ops *ops); /* in a forked child */
/* `options` are of this version's size. */
int ops_submit(struct ops *ops, const struct spool_op_options *options, struct spool_op **ret);
int ops_set_capacity(struct ops *ops, const char *resource, uint32_t capacity);
int ops_each(struct ops *ops, int (*each)(void *user, const struct spool_op_info *info), void *user);
/* Refuses new ones and begins to end the others; returns at once. Idempotent: the earliest deadline counts. */
void ops_begin_stop(struct ops *ops, uint64_t deadline_ns);
/* Waits for that, and ends the threads. SPOOL_ETIMEOUT names an operation that hung. */
int ops_stop(struct ops *ops, uint64_t deadline_ns);
/* After a stop: takes operations again. SPOOL_EBUSY while it is under way. */
int ops_start(struct ops *ops);
bool ops_have_hung(struct ops *ops);
int op_wait(struct spool_op *op, uint64_t deadline_ns, int *ret_result);
int op_cancel(struct spool_op *op);
bool op_is_cancelled(const struct spool_op *op);
uint64_t op_id(const struct spool_op *op);
void op_free(struct spool_op *op);

/* For sinks in this folder, from within a hook: the number under which the answers given so far, with a checkpoint taken now,
 * go to the store; and up to which number the store has them. Outside of a delivery both are 0. */
uint64_t delivery_sink_given(void);
uint64_t delivery_sink_stored(void);
void delivery_sink_set_progress(uint64_t given, uint64_t stored); /* by the worker, before each hook */

/* For sinks in this folder: the message of a failed hook, for the operator (spool_sink_error keeps it, per thread). */
const char *delivery_sink_message(void);

#endif
