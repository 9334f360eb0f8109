/* spool.h - libspool: guaranteed delivery of events. This header is the manual of the library.
 *
 * A program hands over an event with spool_enqueue(); from the moment the call has returned SPOOL_OK the event
 * reaches every registered sink, whatever crashes in between: at least once, and exactly once in effect where the
 * sink can deduplicate by event id or store our checkpoint. Start with `man libspool` (libspool.7).
 *
 *     struct spool *spool;
 *     if (spool_open("/var/lib/agent/spool", NULL, &spool) != SPOOL_OK)
 *         errx(1, "%s", spool_last_error());
 *     struct spool_event event = SPOOL_EVENT(.type = SPOOL_TYPE_LLM_CALL, .agent = "planner",
 *                                            .body = "{\"tokens\":312}", .body_size = 14);
 *     spool_enqueue(spool, &event, NULL);      // durable when it returns
 *     spool_close(spool);
 *
 * ERRORS     0 is success, negative is SPOOL_E*, positive is an errno. No ret_* output is written on failure (but the
 *            id is, on SPOOL_EUNCERTAIN). spool_last_error() has the message: what was wrong, where, what to do.
 * OWNERSHIP  What you pass is borrowed for the call and copied; what you get you release with the call named beside it;
 *            every close and free accepts NULL.
 * THREADS    Every function may be called from any thread.
 * FORK       A forked child must not use an inherited handle: every call answers SPOOL_EFORKED. Open again in the child;
 *            spool_close() of the inherited handle only frees its memory.
 * SIGNALS    No function is async-signal-safe. The library's own threads block all signals, so that yours are never
 *            interrupted by us; no handler is installed, no signal is raised on bad data.
 * FILES      The directory must be on a local file system. Never close a file of the directory behind the library's
 *            back, and do not open one twice in a process: POSIX record locks are dropped by any close().
 * VERSIONS   Structs that may grow begin with `size`; the macros of the same name in capitals fill it. A library older
 *            than its caller refuses with SPOOL_EOPTION what it does not know, and never ignores it.
 */
#ifndef SPOOL_H
#define SPOOL_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SPOOL_VERSION_MAJOR 0
#define SPOOL_VERSION_MINOR 1
#define SPOOL_VERSION_PATCH 0

/* The version of the library that runs, "0.1.0". Any thread; static string. */
const char *spool_version(void);

/* ------------------------------------------------------------------------------------------------------- errors */

/* One list: name, code, text. spool_strerror() gives the text, spool_error_name() the name. */
#define SPOOL_ERRORS(X)                                                                                                \
    X(EINVAL, -1, "invalid argument")                                                                                  \
    X(ETYPE, -2, "the event has no type, or an invalid one")                                                           \
    X(ETOOBIG, -3, "the event is too big")                                                                             \
    X(EUTF8, -4, "a text is not valid UTF-8, or holds a control character")                                            \
    X(EOPTION, -5, "unknown or unsupported option")                                                                    \
    X(ECONFIG, -6, "the configuration is wrong")                                                                       \
    X(EJSON, -7, "not valid JSON")                                                                                     \
    X(EID, -8, "not an event id")                                                                                      \
    X(ENOTSPOOL, -9, "the directory is not a spool")                                                                   \
    X(EVERSION, -10, "written by a newer or unknown version of libspool")                                              \
    X(EACCESS, -11, "the directory is not safe to use")                                                                \
    X(EREMOTE, -12, "the directory is on a network file system")                                                       \
    X(EREADONLY, -13, "the spool is open for reading only")                                                            \
    X(ENOTFOUND, -14, "there is no such thing")                                                                        \
    X(EEXISTS, -15, "it exists already")                                                                               \
    X(EBUSY, -16, "in use")                                                                                            \
    X(ETIMEOUT, -17, "not done within the time given")                                                                 \
    X(EFULL, -18, "the spool is full")                                                                                 \
    X(EUNCERTAIN, -19, "the disk failed: the event may or may not be stored")                                          \
    X(EFORKED, -20, "this handle belongs to the parent process: open the spool again")                                 \
    X(ESTOPPED, -21, "the spool is stopping or closed")                                                                \
    X(EDEADLK, -22, "the call would wait for itself")                                                                  \
    X(EUNAVAILABLE, -23, "the sink is down")                                                                           \
    X(EREJECTED, -24, "the sink refuses an event for good")                                                            \
    X(EABI, -25, "the sink was built for another version of the interface")                                            \
    X(EDAMAGED, -26, "a stored record is damaged")                                                                     \
    X(ESTALE, -27, "overtaken by a later change")                                                                      \
    X(EINTERNAL, -28, "libspool made a mistake: please report it")

enum spool_error {
    SPOOL_OK = 0,
#define SPOOL_ERROR_ENUM_(name, code, text) SPOOL_##name = (code),
    SPOOL_ERRORS(SPOOL_ERROR_ENUM_)
#undef SPOOL_ERROR_ENUM_
};

/* The general text of a code (SPOOL_E* or errno). Never NULL; static or thread-local storage. */
const char *spool_strerror(int code);

/* "SPOOL_EFULL", "ENOSPC"… of a code; "unknown" if there is none. Static string. */
const char *spool_error_name(int code);

/* The message of this thread's last failed call: specific, one line, at most 511 bytes. Valid until the thread's next
 * call into the library; "" if none failed yet. */
const char *spool_last_error(void);

/* ---------------------------------------------------------------------------------------------------------- ids */

/* A UUIDv7 (RFC 9562, method 3) that carries the hybrid logical clock (Kulkarni et al. 2014) and the node, so that
 * memcmp() order is causal order:  unix_ms 48 | 7 | 1/4096 ms 12 | 0b10 | counter 14 | node 48.  */
struct spool_id {
    uint8_t bytes[16];
};

#define SPOOL_ID_TEXT_SIZE 37 /* "01890a5d-ac96-774b-bcce-b302099a8057" and its NUL */

/* Writes the text form of `id` and returns `ret_text`. */
char *spool_id_format(const struct spool_id *id, char ret_text[SPOOL_ID_TEXT_SIZE]);

/* Reads the text form, upper or lower case. SPOOL_EID if it is not a UUIDv7 in that form. */
int spool_id_parse(const char *text, struct spool_id *ret_id);

/* The physical time in the id: nanoseconds since 1970 UTC, in steps of 244 ns. */
uint64_t spool_id_time_ns(const struct spool_id *id);

/* <0, 0, >0 like memcmp: the causal order of two ids. */
int spool_id_compare(const struct spool_id *a, const struct spool_id *b);

/* ------------------------------------------------------------------------------------------------------- events */

/* Importance. A lane per priority runs through the whole system, so that a critical event never waits behind a backlog
 * of debug events. Zero is the default. */
enum spool_priority { SPOOL_MEDIUM = 0, SPOOL_CRITICAL, SPOOL_HIGH, SPOOL_LOW };
#define SPOOL_PRIORITIES 4

/* When spool_enqueue() returns. PROCESS: the record is in the mapped journal and survives the death of the process at
 * any instruction. POWER (the default): it is flushed and survives loss of power too. */
enum spool_durability { SPOOL_DURABLE_DEFAULT = 0, SPOOL_DURABLE_PROCESS, SPOOL_DURABLE_POWER };

/* Well-known event types. The body is a JSON object; the members named here are what readers may expect, all of them
 * optional unless marked (!). Any other non-empty type is legal.
 *
 * What an agent remembers: */
#define SPOOL_TYPE_MEMORY_INTERACTION  "memory.interaction"  /* role(!), content(!), turn, tool_calls, in_reply_to */
#define SPOOL_TYPE_MEMORY_CONTEXT      "memory.context"      /* key(!), value(!), scope, expires_at */
#define SPOOL_TYPE_MEMORY_LEARNING     "memory.learning"     /* lesson(!), evidence, confidence 0..1, source */
#define SPOOL_TYPE_MEMORY_SYSTEM_STATE "memory.system_state" /* component(!), state(!), previous, cause */
#define SPOOL_TYPE_MEMORY_PERFORMANCE  "memory.performance"  /* metric(!), value(!), unit, window_ms, baseline */
#define SPOOL_TYPE_MEMORY_ERROR        "memory.error"        /* message(!), kind, where, retryable, stack */
#define SPOOL_TYPE_MEMORY_GOAL         "memory.goal"         /* goal(!), status, progress 0..1, parent_goal, deadline */
#define SPOOL_TYPE_MEMORY_BELIEF       "memory.belief"       /* statement(!), confidence 0..1, evidence, revises */
#define SPOOL_TYPE_MEMORY_PLAN         "memory.plan"         /* plan(!): array of steps, goal, revision, status */
/* What an agent does: */
#define SPOOL_TYPE_LOG_USER_INTERACTION    "log.user_interaction"    /* role(!), content(!), channel, latency_ms */
#define SPOOL_TYPE_LOG_AGENT_DELEGATION    "log.agent_delegation"    /* to(!), task(!), tool, arguments, result */
#define SPOOL_TYPE_LOG_LLM_CALL            "log.llm_call"            /* model(!), input_tokens, output_tokens, cost_usd, latency_ms */
#define SPOOL_TYPE_LOG_PERFORMANCE_METRICS "log.performance_metrics" /* metric(!), value(!), unit, labels */
#define SPOOL_TYPE_LOG_ERROR               "log.error"               /* message(!), kind, where, retryable, stack */
#define SPOOL_TYPE_LOG_CONTEXT             "log.context"             /* key(!), value(!) */

/* Limits of an envelope, in bytes without the NUL. The body is bounded by what one journal record may hold: a quarter of
 * journal_bytes or of segment_bytes, whichever is less (4 MiB by default). */
#define SPOOL_TYPE_MAX         255
#define SPOOL_AGENT_MAX        255
#define SPOOL_SESSION_MAX      255
#define SPOOL_CONTENT_TYPE_MAX 127
#define SPOOL_TAG_MAX          127
#define SPOOL_TAGS_MAX         16

/* One event: an envelope and an opaque body. Texts are UTF-8 without control characters. */
struct spool_event {
    size_t size;                     /* sizeof(struct spool_event): SPOOL_EVENT() fills it */
    const struct spool_id *id;       /* normally NULL: assigned; set to enqueue again after SPOOL_EUNCERTAIN */
    const char *type;                /* required, e.g. "log.llm_call" */
    const char *agent;               /* optional; the ordering and sharding key */
    const char *session;             /* optional */
    enum spool_priority priority;    /* default SPOOL_MEDIUM */
    enum spool_durability durability;/* default: the spool's */
    const char *content_type;        /* default "application/json" */
    const void *body;                /* may be NULL when body_size is 0 */
    size_t body_size;                /* bytes */
    const struct spool_id *parent;   /* optional: the event that caused this one */
    const char *const *tags;         /* optional; NULL-terminated, at most SPOOL_TAGS_MAX */
    const char *traceparent;         /* optional; W3C: "00-<32 hex>-<16 hex>-<2 hex>" */
    uint64_t occurred_at_ns;         /* since 1970 UTC; 0: now */
    uint64_t ttl_ms;                 /* not delivered when older than that; 0: for ever */
};
#define SPOOL_EVENT(...) ((struct spool_event){.size = sizeof(struct spool_event), __VA_ARGS__})

/* The native JSON rendering of an event: one object without a line feed.
 *   {"id":"…","time":"2026-11-21T09:34:15.123456789Z","hlc":"01a1fd969a69b94.0002","type":"…","agent":"…","session":"…",
 *    "priority":"high","parent":"…","tags":["…"],"content_type":"…","traceparent":"…","occurred_at":"…","ttl_ms":N,
 *    "data":…}
 * `time` is the id's; `hlc` its clock as text that sorts: 15 hexadecimal digits of 1/4096 ms since 1970, a dot, and 4 of
 * the counter. Absent members are left out, and so are the
 * default priority's and content type's values never: both are always written. `data` holds the body itself when the
 * content type is JSON and the body is one valid JSON value (white space between tokens is dropped); any other body is
 * in `data_base64`; an empty one is in neither. Does not end with a line feed.
 * `id` may be NULL when event->id is set. Returns SPOOL_OK with the malloc'd, NUL-terminated text in *ret_json (release
 * with spool_free()) and its length in *ret_size (may be NULL); SPOOL_EINVAL, SPOOL_ETYPE, SPOOL_EUTF8, ENOMEM. */
int spool_event_to_json(const struct spool_event *event, const struct spool_id *id, char **ret_json, size_t *ret_size);

/* The reverse: reads one JSON object of the form above, `size` bytes. Only `type` is required. Unknown members, members
 * given twice and `data` beside `data_base64` are errors. Returns SPOOL_EJSON with line and column in the message,
 * SPOOL_ETYPE, SPOOL_EID, SPOOL_EUTF8, SPOOL_EINVAL or ENOMEM. Release with spool_event_free(). */
int spool_event_from_json(const char *json, size_t size, struct spool_event **ret_event);
void spool_event_free(struct spool_event *event);

/* Releases memory that a call here returned and that names this function. */
void spool_free(void *memory);

/* "critical", "high", "medium", "low"; NULL for none of them. */
const char *spool_priority_name(enum spool_priority priority);
/* The reverse; SPOOL_EINVAL. */
int spool_priority_parse(const char *name, enum spool_priority *ret_priority);

/* ------------------------------------------------------------------------------------------- opening and closing */

struct spool; /* one open directory */

enum spool_log_level { SPOOL_LOG_ERROR = 0, SPOOL_LOG_WARNING, SPOOL_LOG_INFO, SPOOL_LOG_DEBUG };

/* What an operator should hear of; see spool_options.on_notice. */
enum spool_notice_kind {
    SPOOL_NOTICE_DROPPED = 1,      /* events left the spool by a limit you set: count, reason */
    SPOOL_NOTICE_DEAD_LETTER,      /* an event was dead-lettered: id, sink, reason */
    SPOOL_NOTICE_DAMAGE,           /* a block, segment or the state is damaged and was set aside: reason */
    SPOOL_NOTICE_SINK_DOWN,        /* a sink is unavailable: reason */
    SPOOL_NOTICE_SINK_UP,          /* … and works again */
    SPOOL_NOTICE_DISK_FULL,        /* the disk refuses writes; acknowledged events wait in the journal */
    SPOOL_NOTICE_DISK_OK,          /* … and accepts them again */
    SPOOL_NOTICE_RECOVERED,        /* the journal of a dead process was applied: count */
    SPOOL_NOTICE_CLOCK_JUMP,       /* the wall clock jumped: reason */
    SPOOL_NOTICE_SINK_HUNG,        /* a sink did not return in time: sink, reason */
    SPOOL_NOTICE_COMMIT_FAILED,    /* commits fail, but not for a full disk; events wait in the journal: reason */
    SPOOL_NOTICE_COMMIT_OK,        /* … and are committed again */
    SPOOL_NOTICE_SINK_FILE,        /* a file that a sink had written to was replaced or cut: sink, reason */
};
struct spool_notice {
    size_t size;
    enum spool_notice_kind kind;
    const char *sink;              /* NULL if none is concerned */
    const struct spool_id *id;     /* NULL likewise */
    uint64_t count;                /* events concerned; 0 if that has no meaning */
    const char *reason;            /* never NULL */
};

/* What enqueue does when the spool is full for a priority. */
enum spool_full_policy {
    SPOOL_FULL_BLOCK = 0,          /* wait up to full_timeout_ms, then SPOOL_EFULL */
    SPOOL_FULL_REJECT,             /* SPOOL_EFULL at once */
    SPOOL_FULL_DROP_OLDEST,        /* drop the oldest segment whose undelivered events all have this policy, counted */
};

#define SPOOL_READ_ONLY        (1u << 0) /* inspect: writes nothing, starts no thread, leaves no file */
#define SPOOL_NO_CREATE        (1u << 1) /* SPOOL_ENOTSPOOL instead of making a new one */
#define SPOOL_ALLOW_NETWORK_FS (1u << 2) /* you know that its locks and flushes work */
#define SPOOL_FLUSH_NEVER      UINT32_MAX

struct spool_options {             /* zero means the default; SPOOL_OPTIONS(.max_bytes = …) fills size */
    size_t size;
    enum spool_durability durability; /* default: SPOOL_DURABLE_POWER */
    uint64_t max_bytes;            /* of the directory; default: as it was given last, else 8 GiB; at least 4 MiB. LOW meets
                                      the limit at 80 %, MEDIUM at 90 %, HIGH at 95 %, CRITICAL at 100 % */
    uint32_t journal_bytes;        /* the ring of this process; default max_bytes / 8, at most 16 MiB; 64 KiB to 1 GiB */
    uint32_t flush_interval_ms;    /* a PROCESS event is power-safe after that; default 100; SPOOL_FLUSH_NEVER */
    uint64_t segment_bytes;        /* default: max_bytes / 16, at most 256 MiB; at least 1 MiB. Fixed when the spool is made */
    uint64_t retention_ms;         /* keep delivered events that long; default 0: none. Yields to max_bytes */
    enum spool_full_policy full_policy[SPOOL_PRIORITIES]; /* indexed by enum spool_priority */
    uint32_t full_timeout_ms;      /* of SPOOL_FULL_BLOCK; default 5,000 */
    uint32_t file_mode;            /* permission bits of files, e.g. 0660 to share with a group; default 0600 */
    uint32_t flags;                /* SPOOL_READ_ONLY … */
    uint32_t workers;              /* delivery threads; default 4, at most 64 */
    uint32_t stop_timeout_ms;      /* what spool_close() gives spool_stop(); default 5,000 */
    uint64_t (*clock_ns)(void *user); void *clock_user; /* wall clock in ns since 1970, for tests; NULL: the system's */
    /* Callbacks run on any thread, several at once, without a lock of ours; they must not call into the library. */
    void (*log)(void *user, enum spool_log_level level, const char *message); void *log_user;
    void (*on_notice)(void *user, const struct spool_notice *notice); void *notice_user;
};
#define SPOOL_OPTIONS(...) ((struct spool_options){.size = sizeof(struct spool_options), __VA_ARGS__})

/* Opens the spool in `dir`, which is made (mode 0700; its parent must exist) if it isn't there, and applies what dead
 * processes left in their journals. `options` may be NULL. A process that opens a directory twice gets the same handle,
 * counted. Errors: SPOOL_EINVAL, SPOOL_EOPTION, SPOOL_ENOTSPOOL (not empty and no spool), SPOOL_EVERSION, SPOOL_EACCESS
 * (others may write to it, it is another user's, or holds links in place of files), SPOOL_EREMOTE, SPOOL_EBUSY (open
 * here with another mode), SPOOL_EFULL (a new one does not fit the disk), errno (EACCES, EROFS, ENOENT, ENOSPC…). A full
 * disk does not keep one that is there from opening. */
int spool_open(const char *dir, const struct spool_options *options, struct spool **ret_spool);

/* Opens the spool and adds the sinks of a configuration file, see spool.json(5). SPOOL_ECONFIG and SPOOL_EJSON name the
 * key or the line and column. Does not start delivery. */
int spool_open_config(const char *json_file, struct spool **ret_spool);

/* Stops delivery within stop_timeout_ms, makes what was enqueued power-safe, and frees the handle (when it was opened
 * twice: at the second close). SPOOL_ETIMEOUT if a sink hung: its thread and memory stay until it returns. What spool_stop()
 * and spool_flush() answer otherwise. The handle is gone whatever is returned. SPOOL_EDEADLK from a library thread. */
int spool_close(struct spool *spool);

/* ---------------------------------------------------------------------------------------------------- enqueueing */

/* Stores one event. When it returns SPOOL_OK the event is durable at its level and will reach every sink. Nothing is
 * stored on failure, except SPOOL_EUNCERTAIN: then *ret_id is set, and the event may be enqueued again under it.
 * `ret_id` may be NULL. Errors: SPOOL_EINVAL, SPOOL_ETYPE, SPOOL_ETOOBIG, SPOOL_EUTF8, SPOOL_EID (given id is none),
 * SPOOL_EFULL, SPOOL_EUNCERTAIN, SPOOL_EREADONLY, SPOOL_EFORKED, SPOOL_ESTOPPED. Blocks only when full, by policy; never
 * from the library's own threads. */
int spool_enqueue(struct spool *spool, const struct spool_event *event, struct spool_id *ret_id);

/* Stores `n` events, all or none of them even across a crash (one journal frame: together they may take what a single
 * event may). The array steps by events[0].size. `ret_ids` has room for n, or is NULL. The strongest durability among
 * them counts for all. Errors as above; the message names the index. */
int spool_enqueue_many(struct spool *spool, const struct spool_event *events, size_t n, struct spool_id *ret_ids);

/* Waits until all that was enqueued in this process before the call is power-safe. SPOOL_ETIMEOUT; SPOOL_EUNCERTAIN: the
 * disk failed the flush and the commit that was to stand in for it. */
int spool_flush(struct spool *spool, uint32_t timeout_ms);

/* Waits until all that was in the spool before the call has left every sink's queue: delivered, dead-lettered or
 * dropped. SPOOL_ETIMEOUT (the message says which sink holds how many), SPOOL_ENOTFOUND (no sink is registered and
 * events wait), SPOOL_EDEADLK from a library thread. Works while another process delivers. */
int spool_drain(struct spool *spool, uint32_t timeout_ms);

/* --------------------------------------------------------------------------------------------------------- sinks */

enum spool_outcome { SPOOL_RETRY = 0, SPOOL_DELIVERED, SPOOL_REJECTED }; /* a sink that forgets loses nothing */

enum spool_order {
    SPOOL_ORDER_NONE = 0,          /* fastest: batches side by side */
    SPOOL_ORDER_AGENT,             /* within an agent and a priority as one process enqueued them */
    SPOOL_ORDER_LANE,              /* within a priority */
};

/* One event in a sink's hands, valid until deliver returns. */
struct spool_delivery {
    size_t size;                   /* arrays of it step by [0].size: SPOOL_DELIVERY_AT(batch, i) */
    const struct spool_event *event;
    struct spool_id id;
    uint32_t attempt;              /* 1 for the first */
    enum spool_outcome outcome;    /* the sink's answer */
    uint64_t retry_after_ms;       /* with SPOOL_RETRY: not before; 0: by backoff */
};
#define SPOOL_DELIVERY_AT(batch, i) ((struct spool_delivery *)((char *)(batch) + (size_t)(i) * (batch)[0].size))

/* Sets the outcome with a reason (printf format, copied, cut at 255 bytes) that is kept with the retry or dead letter.
 * Only from within deliver, from the thread that runs it. */
void spool_delivery_fail(struct spool_delivery *delivery, enum spool_outcome outcome, const char *format, ...)
#ifdef __GNUC__
    __attribute__((format(printf, 3, 4)))
#endif
    ;

#define SPOOL_SINK_ABI 1

/* A sink. ABI 1, append only. Hooks of one state never run at the same time, except cancel. No lock of ours is held.
 *   open        makes one worker's state. `user` is spool_sink_options.user, `json_config` the sink's configuration ("{}"
 *               if none), `checkpoint` what the hook of that name stored last (size 0: nothing yet). A failure is taken
 *               as unavailable and tried again with backoff; SPOOL_ECONFIG and SPOOL_EINVAL stand until it is added anew.
 *               A message for the operator: spool_sink_error(). May be NULL: the state is `user`.
 *   deliver     sets the outcome of each event. Returns 0; SPOOL_EUNAVAILABLE: the sink is down, outcomes set before
 *               count (so set DELIVERED only when it is), the others cost no attempt; SPOOL_EREJECTED: one of the events without an outcome is bad, find it
 *               (the library bisects). Anything else counts as SPOOL_EUNAVAILABLE. Required.
 *   cancel      any thread, at any time between open and close, possibly twice: makes a running deliver return soon.
 *               May be NULL.
 *   close       frees the state. May be NULL.
 *   checkpoint  makes everything delivered so far durable over there, and writes up to `cap` bytes that tell where that
 *               ends; they are stored in the same transaction as the acknowledgements and given back at open. Returns
 *               their number, or SIZE_MAX on failure (then those events are delivered again after open). May be NULL.
 *               A sink that has it runs one batch at a time; that makes it exactly once. */
struct spool_sink {
    uint32_t abi;                  /* SPOOL_SINK_ABI */
    size_t size;                   /* sizeof(struct spool_sink) */
    const char *kind;              /* "file" */
    int (*open)(void **ret_state, void *user, const char *json_config, const void *checkpoint, size_t checkpoint_size);
    int (*deliver)(void *state, struct spool_delivery *batch, size_t n);
    void (*cancel)(void *state);
    void (*close)(void *state);
    size_t (*checkpoint)(void *state, void *buf, size_t cap);
};
#define SPOOL_CHECKPOINT_MAX 4096

/* For open, deliver and checkpoint: keeps the message that goes with the code returned, and returns `code`. */
int spool_sink_error(int code, const char *format, ...)
#ifdef __GNUC__
    __attribute__((format(printf, 2, 3)))
#endif
    ;

struct spool_sink_options {        /* zero means the default; SPOOL_SINK_OPTIONS() fills size */
    size_t size;
    void *user;
    enum spool_order order;
    uint32_t workers;              /* batches at once; default 1; 1 when ordered or with checkpoint */
    uint32_t batch_events_max;     /* default 1,024 */
    uint32_t batch_bytes_max;      /* default 1 MiB; a single larger event goes alone */
    uint32_t timeout_ms;           /* of one deliver: then cancel is called; default 30,000 */
    uint32_t retry_base_ms;        /* exponential backoff with full jitter; default 100 */
    uint32_t retry_cap_ms;         /* default 300,000 */
    uint32_t max_attempts;         /* then a dead letter; default 0: no limit */
    uint64_t max_age_ms;           /* likewise, since it was enqueued; default 0: no limit */
    uint32_t retry_rows_max;       /* events waiting for a retry, then the cursor stops; default 10,000 */
    uint64_t retry_bytes_max;      /* default 64 MiB */
    uint32_t flags;                /* SPOOL_SINK_FROM_NOW */
    uint32_t linger_ms;            /* a batch that is not full yet waits up to that long for more; default 0 */
    const char *filter;            /* JSON, see spool.json(5): the events it gets. Others are counted as filtered */
    const char *plugin;            /* for spool_sink_load(): the plugin's absolute path. NULL: searched by kind */
};
#define SPOOL_SINK_OPTIONS(...) ((struct spool_sink_options){.size = sizeof(struct spool_sink_options), __VA_ARGS__})
#define SPOOL_SINK_FROM_NOW (1u << 0) /* a sink not known yet begins with what comes now, not with the oldest there is */

/* Registers sink `name` ([A-Za-z0-9._-], 1 to 64 characters, first one no dot) and serves it from this process once
 * spool_start() has been called. From the moment it returns, every event enqueued is held for it, until it has accepted
 * it or is removed, also while no process serves it. A known name goes on at its cursor. `sink` is copied; `user` must
 * stay valid until the sink is removed or the spool closed. Errors: SPOOL_EINVAL, SPOOL_EABI, SPOOL_ECONFIG, SPOOL_EEXISTS
 * (already added here), SPOOL_EREADONLY. */
int spool_sink_add(struct spool *spool, const char *name, const struct spool_sink *sink, const char *json_config,
                   const struct spool_sink_options *options);

/* The same for a sink known by kind: "null", "file", "stdout", or that of a plugin (see below). `options` may be NULL.
 * SPOOL_ENOTFOUND, SPOOL_EABI, SPOOL_EACCESS (the plugin's file is not safe to load). */
int spool_sink_load(struct spool *spool, const char *name, const char *kind, const char *json_config,
                    const struct spool_sink_options *options);

/* Adds every registered sink of a known kind that is not added yet, with the configuration stored when it was. Returns
 * the first error after trying all; *ret_n (may be NULL) is the number added. */
int spool_sink_load_registered(struct spool *spool, size_t *ret_n);

/* Sends one event of the type and tag "spool.probe" to a registered sink, beside the spool: it is opened here with its
 * configuration, cancelled when the time is over, and closed. SPOOL_OK: it accepted the event. SPOOL_ENOTFOUND, SPOOL_EINVAL
 * (it keeps a checkpoint: nothing may be written beside it), SPOOL_ECONFIG, SPOOL_EUNAVAILABLE, SPOOL_EREJECTED,
 * SPOOL_ETIMEOUT (it did not return even then: its thread stays until it does). */
int spool_sink_test(struct spool *spool, const char *name, uint32_t timeout_ms);

/* Forgets the sink: cursor, retries, checkpoint; its dead letters stay. What only it held is gone. SPOOL_ENOTFOUND,
 * SPOOL_EBUSY (another process delivers to it), SPOOL_ETIMEOUT (not within stop_timeout_ms). */
int spool_sink_remove(struct spool *spool, const char *name);

/* No new batches until resumed, also across restarts and for other processes. */
int spool_sink_pause(struct spool *spool, const char *name);
int spool_sink_resume(struct spool *spool, const char *name);

/* Begins to deliver in this process, to the sinks added before and after. Idempotent. One process at a time delivers to
 * a sink: the first one that asks; another takes over when it dies or stops. */
int spool_start(struct spool *spool);

/* Stops delivery: no new batches, running ones are cancelled when half the time is over, and joined. Returns by the
 * deadline whatever a sink does; SPOOL_ETIMEOUT names the sink that hung. SPOOL_EFULL or errno: the last answers of sinks
 * could not be stored, those events will be delivered again. Undelivered events stay. Idempotent; may be started again.
 * SPOOL_EDEADLK from a library thread. */
int spool_stop(struct spool *spool, uint32_t timeout_ms);

/* ---------------------------------------------------------------------------------------------------- statistics */

struct spool_stats {
    size_t size;                   /* set before the call: SPOOL_STATS() */
    uint64_t enqueued_events, enqueued_bytes; /* by this handle, since open */
    uint64_t rejected_full;        /* SPOOL_EFULL answers, likewise */
    uint64_t stored_events;        /* in the directory's segments now, delivered or not; exact up to whole blocks */
    uint64_t unapplied_bytes;      /* in this process's journal, not in a segment yet */
    uint64_t used_bytes, max_bytes;/* of the directory */
    uint64_t event_bytes_max;      /* the largest event, packed, that can be enqueued */
    uint64_t segments, journals;   /* files */
    uint64_t dropped_events;       /* by a limit, since the spool was made */
    uint64_t damaged_blocks, damaged_events; /* set aside, since the spool was made */
    uint64_t recovered_events;     /* from journals of dead processes, by this handle */
    uint64_t dead_letters;         /* waiting in the dead letter table */
    uint64_t oldest_ns;            /* time of the oldest event that a sink still holds; 0: none */
    uint32_t sinks;                /* registered */
    uint32_t disk_full;            /* 1 while the disk refuses writes */
    uint32_t dead_journals;        /* of dead processes, not applied yet (only when open read-only) */
};
#define SPOOL_STATS() ((struct spool_stats){.size = sizeof(struct spool_stats)})
int spool_stats(struct spool *spool, struct spool_stats *ret_stats);

enum spool_sink_state {
    SPOOL_SINK_ABSENT = 0,         /* registered, but no process serves it: its events wait */
    SPOOL_SINK_ELSEWHERE,          /* another process delivers to it */
    SPOOL_SINK_RUNNING,
    SPOOL_SINK_PAUSED,
    SPOOL_SINK_DOWN,               /* unavailable, backing off */
    SPOOL_SINK_FAILED,             /* its configuration is refused: see last_error */
    SPOOL_SINK_HUNG,               /* did not return at spool_stop() */
    SPOOL_SINK_STOPPED,            /* added here, delivery not started */
};
const char *spool_sink_state_name(enum spool_sink_state state);
struct spool_sink_info {
    size_t size;
    const char *name, *kind, *json_config; /* json_config: as registered; "{}" if none */
    enum spool_sink_state state;
    uint64_t pending_events;       /* not delivered yet, retries included */
    uint64_t retrying_events, dead_letters;
    uint64_t delivered_events;     /* acknowledged, since it was registered */
    uint64_t dropped_events;       /* by a limit */
    uint64_t oldest_ns;            /* time of its oldest pending event; 0: none */
    const char *last_error;        /* "" if none; only known in the process that delivers */
    uint32_t attempt;              /* unavailable that many times in a row */
    uint64_t next_try_ms;          /* from now, while down */
    uint64_t filtered_events;      /* passed over by its filter, since it was registered */
    const char *options_json;      /* the options it was added with that are not the default; "{}" if none */
};
/* Calls `each` for every registered sink until it returns non-zero, which is then returned. Strings are valid during the
 * callback. */
int spool_sink_each(struct spool *spool, int (*each)(void *user, const struct spool_sink_info *info), void *user);

/* ----------------------------------------------------------------------------------------------- sinks as plugins */

/* A sink that spool_sink_load() finds by its kind: a shared object libspool-sink-<kind>.so in a folder of SPOOL_SINK_PATH
 * (absolute, separated by colons; not looked at in set-user-id programs) or in the installed folder (PREFIX/lib/libspool).
 * Never the current folder, and nothing that somebody but root or the process's user owns or can write to. It stays loaded
 * until the process ends. See spool-sink(7). A plugin needs this header alone, and is linked with nothing of ours:
 *
 *     #include <spool.h>
 *     static const struct spool_sink sink = {.abi = SPOOL_SINK_ABI, .size = sizeof sink, .kind = "far", …};
 *     SPOOL_SINK_PLUGIN(.sink = &sink, .summary = "sends events far away")
 *
 *     cc -shared -fPIC -o libspool-sink-far.so far.c
 *
 * It may call the functions that struct spool_sink_host names, by their usual names: the macro defines them in the plugin,
 * hidden, and they call the library that has loaded it, since a program with the static library exports nothing. */

/* One setting of a plugin's configuration, for people. Does not grow. */
struct spool_sink_setting {
    const char *key;               /* "path" */
    const char *value;             /* what may stand there and the default: "text (required)", "duration, 1s" */
    const char *summary;           /* one line */
};

/* The library's functions, for the plugin. Append only. */
struct spool_sink_host {
    uint32_t abi;                  /* SPOOL_SINK_ABI */
    size_t size;
    const char *(*version)(void);
    const char *(*error_text)(int code);
    const char *(*error_name)(int code);
    const char *(*last_error)(void);
    char *(*id_format)(const struct spool_id *id, char ret_text[SPOOL_ID_TEXT_SIZE]);
    int (*id_parse)(const char *text, struct spool_id *ret_id);
    uint64_t (*id_time_ns)(const struct spool_id *id);
    int (*id_compare)(const struct spool_id *a, const struct spool_id *b);
    const char *(*priority_name)(enum spool_priority priority);
    int (*priority_parse)(const char *name, enum spool_priority *ret_priority);
    int (*event_to_json)(const struct spool_event *event, const struct spool_id *id, char **ret_json, size_t *ret_size);
    int (*event_from_json)(const char *json, size_t size, struct spool_event **ret_event);
    void (*event_free)(struct spool_event *event);
    void (*free)(void *memory);
    void (*delivery_failv)(struct spool_delivery *delivery, enum spool_outcome outcome, const char *format, va_list args);
    int (*sink_errorv)(int code, const char *format, va_list args);
};

/* What a plugin exports, as `spool_sink_plugin`: the only name the loader looks for. Append only, with the rules of
 * struct spool_sink. SPOOL_SINK_PLUGIN() fills all but what it is given. */
struct spool_sink_plugin {
    uint32_t abi;                  /* SPOOL_SINK_ABI */
    size_t size;                   /* sizeof(struct spool_sink_plugin) */
    size_t host_size;              /* of struct spool_sink_host as the plugin knows it: a library that has less refuses it */
    void (*attach)(const struct spool_sink_host *host); /* called once, before anything else */
    const struct spool_sink *sink; /* its kind is that of the file's name */
    /* Looks at a configuration before the sink is registered, without opening anything or reading a secret: SPOOL_OK,
     * SPOOL_ECONFIG with spool_sink_error(). What was refused is not stored. May be NULL. */
    int (*check)(const char *json_config);
    const struct spool_sink_setting *settings; /* ends with a key of NULL. May be NULL */
    const char *summary;           /* one line: "a row an event in an SQLite database". May be NULL */
};

#ifdef __GNUC__
#define SPOOL_SINK_HIDDEN_ __attribute__((visibility("hidden")))
#define SPOOL_SINK_EXPORT_ __attribute__((visibility("default")))
#else
#define SPOOL_SINK_HIDDEN_
#define SPOOL_SINK_EXPORT_
#endif
/* Once in a plugin, at file scope: members of struct spool_sink_plugin, of which .sink is required. */
#define SPOOL_SINK_PLUGIN(...)                                                                                         \
    SPOOL_SINK_HOST_CALLS_                                                                                             \
    SPOOL_SINK_EXPORT_ extern const struct spool_sink_plugin spool_sink_plugin;                                        \
    const struct spool_sink_plugin spool_sink_plugin = {.abi = SPOOL_SINK_ABI,                                         \
                                                        .size = sizeof(struct spool_sink_plugin),                      \
                                                        .host_size = sizeof(struct spool_sink_host),                   \
                                                        .attach = sink_plugin_attach_,                                  \
                                                        __VA_ARGS__};

#define SPOOL_SINK_CALL_(type, name, params, args, call)                                                               \
    SPOOL_SINK_HIDDEN_ type name params                                                                                \
    {                                                                                                                  \
        return sink_plugin_host_->call args;                                                                            \
    }
#define SPOOL_SINK_HOST_CALLS_                                                                                         \
    static const struct spool_sink_host *sink_plugin_host_;                                                             \
    static void sink_plugin_attach_(const struct spool_sink_host *host)                                                 \
    {                                                                                                                  \
        sink_plugin_host_ = host;                                                                                       \
    }                                                                                                                  \
    SPOOL_SINK_CALL_(const char *, spool_version, (void), (), version)                                                 \
    SPOOL_SINK_CALL_(const char *, spool_strerror, (int code), (code), error_text)                                     \
    SPOOL_SINK_CALL_(const char *, spool_error_name, (int code), (code), error_name)                                   \
    SPOOL_SINK_CALL_(const char *, spool_last_error, (void), (), last_error)                                           \
    SPOOL_SINK_CALL_(char *, spool_id_format, (const struct spool_id *id, char text[SPOOL_ID_TEXT_SIZE]), (id, text),  \
                     id_format)                                                                                        \
    SPOOL_SINK_CALL_(int, spool_id_parse, (const char *text, struct spool_id *id), (text, id), id_parse)               \
    SPOOL_SINK_CALL_(uint64_t, spool_id_time_ns, (const struct spool_id *id), (id), id_time_ns)                        \
    SPOOL_SINK_CALL_(int, spool_id_compare, (const struct spool_id *a, const struct spool_id *b), (a, b), id_compare)  \
    SPOOL_SINK_CALL_(const char *, spool_priority_name, (enum spool_priority priority), (priority), priority_name)     \
    SPOOL_SINK_CALL_(int, spool_priority_parse, (const char *name, enum spool_priority *priority), (name, priority),   \
                     priority_parse)                                                                                   \
    SPOOL_SINK_CALL_(int, spool_event_to_json,                                                                         \
                     (const struct spool_event *event, const struct spool_id *id, char **json, size_t *size),          \
                     (event, id, json, size), event_to_json)                                                           \
    SPOOL_SINK_CALL_(int, spool_event_from_json, (const char *json, size_t size, struct spool_event **event),          \
                     (json, size, event), event_from_json)                                                             \
    SPOOL_SINK_HIDDEN_ void spool_event_free(struct spool_event *event)                                                \
    {                                                                                                                  \
        sink_plugin_host_->event_free(event);                                                                           \
    }                                                                                                                  \
    SPOOL_SINK_HIDDEN_ void spool_free(void *memory)                                                                   \
    {                                                                                                                  \
        sink_plugin_host_->free(memory);                                                                                \
    }                                                                                                                  \
    SPOOL_SINK_HIDDEN_ void spool_delivery_fail(struct spool_delivery *delivery, enum spool_outcome outcome,           \
                                                const char *format, ...)                                               \
    {                                                                                                                  \
        va_list args;                                                                                                  \
        va_start(args, format);                                                                                        \
        sink_plugin_host_->delivery_failv(delivery, outcome, format, args);                                             \
        va_end(args);                                                                                                  \
    }                                                                                                                  \
    SPOOL_SINK_HIDDEN_ int spool_sink_error(int code, const char *format, ...)                                         \
    {                                                                                                                  \
        va_list args;                                                                                                  \
        va_start(args, format);                                                                                        \
        code = sink_plugin_host_->sink_errorv(code, format, args);                                                      \
        va_end(args);                                                                                                  \
        return code;                                                                                                   \
    }

/* One kind of sink that can be loaded, for listings. */
struct spool_sink_kind {
    size_t size;
    const char *kind;
    const char *file;              /* of the plugin; NULL: the library's own */
    const char *summary;           /* "" if it says nothing about itself */
    const struct spool_sink_setting *settings; /* ends with a key of NULL; never NULL */
    const char *problem;           /* why it cannot be loaded; NULL: it can */
};
/* Calls `each` for the library's own kinds and every plugin in the folders searched, by name, until it returns non-zero,
 * which is then returned. Loads them all. Strings are valid during the callback. SPOOL_EACCESS: SPOOL_SINK_PATH is wrong. */
int spool_sink_kind_each(int (*each)(void *user, const struct spool_sink_kind *kind), void *user);

/* -------------------------------------------------------------------------------------------------- dead letters */

struct spool_dead_letter {
    size_t size;
    const char *sink;
    const struct spool_event *event; /* with its id */
    uint32_t attempts;
    uint64_t died_at_ns;
    const char *reason;            /* the last failure */
};
/* Calls `each` for every dead letter of `sink` (NULL: of all), oldest id first within a sink, until it returns non-zero,
 * which is then returned. */
int spool_dead_each(struct spool *spool, const char *sink,
                    int (*each)(void *user, const struct spool_dead_letter *letter), void *user);
/* Puts dead letters back into their sink's queue, with their attempts at zero, or deletes them: those of `sink` (NULL: of
 * all) with `id` (NULL: all). *ret_n (may be NULL) is their number. SPOOL_ENOTFOUND if there was none; requeue also if
 * the sink is no longer registered. */
int spool_dead_requeue(struct spool *spool, const char *sink, const struct spool_id *id, uint64_t *ret_n);
int spool_dead_purge(struct spool *spool, const char *sink, const struct spool_id *id, uint64_t *ret_n);

/* ------------------------------------------------------------------------------------------------------- reading */

struct spool_reader;               /* reads without consuming, in the order of ids as far as they are stored */
struct spool_reader_options {
    size_t size;
    uint64_t since_ns, until_ns;   /* by the id's time; 0: open */
    const struct spool_id *after;  /* only later ids */
    const char *type, *agent, *session; /* only those equal; a type that ends in '*' is a prefix */
    uint32_t flags;                /* SPOOL_READER_FOLLOW: wait for more at the end */
};
#define SPOOL_READER_OPTIONS(...)                                                                                      \
    ((struct spool_reader_options){.size = sizeof(struct spool_reader_options), __VA_ARGS__})
#define SPOOL_READER_FOLLOW (1u << 0)
#define SPOOL_READER_TAIL   (1u << 1) /* begin at the end */

int spool_reader_open(struct spool *spool, const struct spool_reader_options *options, struct spool_reader **ret_reader);
/* The next event, valid until the next call on this reader; *ret_event's id is set. SPOOL_ENOTFOUND at the end (not with
 * FOLLOW), SPOOL_ETIMEOUT: without FOLLOW another process keeps the spool's lock; it is awaited as long, but 250 ms at least,
 * and 5,000 when timeout_ms is 0. One thread at a time. */
int spool_reader_next(struct spool_reader *reader, uint32_t timeout_ms, const struct spool_event **ret_event);
void spool_reader_close(struct spool_reader *reader);

/* Finds one event by its id, as a malloc'd copy: spool_event_free(). SPOOL_ENOTFOUND. Looks into the segments, retry and
 * dead letter tables. */
int spool_find(struct spool *spool, const struct spool_id *id, struct spool_event **ret_event);

/* --------------------------------------------------------------------------------------------------------- clock */

/* The next stamp of the hybrid logical clock: later than every id seen or made by this process. */
int spool_clock_now(struct spool *spool, struct spool_id *ret_stamp);
/* Merges a stamp that came with a message, so that what follows is later than it. SPOOL_EINVAL and no change if it is more
 * than 500 ms ahead of our wall clock. */
int spool_clock_update(struct spool *spool, const struct spool_id *remote);

/* ---------------------------------------------------------------------------------------------------- inspection */

/* One finding of spool_verify(): a file, block or row that is damaged. */
struct spool_finding {
    size_t size;
    const char *file;              /* relative to the spool's directory */
    const char *what;              /* "block of lane high, events 4096 to 4351: checksum does not match" */
    uint64_t events;               /* lost by it; 0 if unknown */
};
struct spool_verify_report {
    size_t size;
    uint64_t segments, blocks, events, journals, rows, findings;
};
/* Reads everything and checks every checksum; changes nothing. `each` (may be NULL) hears of each finding, `progress` (may
 * be NULL) of bytes done and in all. Returns SPOOL_EDAMAGED if anything was found. */
int spool_verify(struct spool *spool, void (*each)(void *user, const struct spool_finding *finding),
                 void (*progress)(void *user, uint64_t done_bytes, uint64_t all_bytes), void *user,
                 struct spool_verify_report *ret_report);

#ifdef __cplusplus
}
#endif
#endif
