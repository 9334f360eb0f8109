/* sweep.h - the fault sweep: call number N of a class fails, for N = 1, 2, 3, … until a run meets no fault any more.
 *
 *   fault     decides which call fails: counts calls by class, only while armed, and remembers where the first one
 * failed hook_*    stand in front of libc's and LMDB's functions (the program exports them, so that libraries meet
 * them, too) ledger    what was promised: the events and their answers, and what sinks were given; in memory shared by
 * processes scenario  does something with a spool and says what it was answered judge     opens the directory
 * afterwards, without faults, in another process, and compares it with the ledger power     what the disk would hold
 * after a loss of power when flushes failed control   breaks the library on purpose: the judge must notice */
#ifndef SWEEP_H
#define SWEEP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "../../../lib/spool.h"

/* --------------------------------------------------------------------------------------------------------- faults */

/* Class, and what the failing call does. */
#define FAULT_CLASSES(X)                                                                                               \
    X(MEMORY, "memory", "malloc, calloc, realloc, posix_memalign, aligned_alloc: ENOMEM")                              \
    X(OPEN_EMFILE, "open-emfile", "open, openat, memfd_create, fopen: EMFILE")                                         \
    X(OPEN_EACCES, "open-eacces", "the same: EACCES")                                                                  \
    X(WRITE_ENOSPC, "write-enospc", "write, writev, pwrite: ENOSPC, nothing written")                                  \
    X(WRITE_EIO, "write-eio", "the same: EIO, nothing written")                                                        \
    X(WRITE_LATE, "write-late", "the same: EIO, but all was written")                                                  \
    X(WRITE_SHORT, "write-short", "the same: only half is written")                                                    \
    X(META_EIO, "meta-eio", "write on an O_DSYNC descriptor (LMDB's meta page): EIO, nothing written")                 \
    X(META_LATE, "meta-late", "the same: EIO, but all was written")                                                    \
    X(ALLOCATE, "allocate", "ftruncate, truncate, fallocate, posix_fallocate: ENOSPC")                                 \
    X(RENAME, "rename", "rename, renameat, renameat2, link, linkat: EIO")                                              \
    X(UNLINK, "unlink", "unlink, unlinkat: EIO")                                                                       \
    X(MKDIR, "mkdir", "mkdir, mkdirat: ENOSPC")                                                                        \
    X(SYNC, "sync", "fsync, fdatasync, msync, syncfs: EIO")                                                            \
    X(MAP, "map", "mmap: ENOMEM")                                                                                      \
    X(READ_EIO, "read-eio", "read, pread: EIO")                                                                        \
    X(READ_SHORT, "read-short", "the same: only half is read")                                                         \
    X(STAT, "stat", "stat, fstat, lstat, fstatat, fstatfs, access, faccessat: EIO")                                    \
    X(DIRECTORY, "directory", "fdopendir, readdir, opendir: EIO")                                                      \
    X(THREAD, "thread", "pthread_create: EAGAIN")                                                                      \
    X(MUTEX, "mutex", "pthread_mutex_init, pthread_cond_init, pthread_rwlock_init: ENOMEM")                            \
    X(LOCK_ENOLCK, "lock-enolck", "fcntl record locks: ENOLCK")                                                        \
    X(LOCK_EINTR, "lock-eintr", "the same: EINTR")                                                                     \
    X(LOCK_EDEADLK, "lock-edeadlk", "the same: EDEADLK")                                                               \
    X(WAIT, "wait", "poll, futex: EINTR")                                                                              \
    X(CLOCK_BACK, "clock-back", "CLOCK_REALTIME goes back an hour, from then on")                                      \
    X(CLOCK_FORWARD, "clock-forward", "CLOCK_REALTIME goes forward an hour, from then on")                             \
    X(RANDOM, "random", "getrandom: EINTR")                                                                            \
    X(LMDB_BEGIN, "lmdb-begin", "mdb_txn_begin: ENOMEM")                                                               \
    X(LMDB_PUT, "lmdb-put", "mdb_put: MDB_MAP_FULL")                                                                   \
    X(LMDB_COMMIT, "lmdb-commit", "mdb_txn_commit: EIO, nothing committed")                                            \
    X(LMDB_OPEN, "lmdb-open", "mdb_env_create, mdb_env_open: ENOMEM")                                                  \
    X(LMDB_READ, "lmdb-read", "mdb_get, mdb_cursor_open, mdb_cursor_get: ENOMEM")

enum fault_class {
#define FAULT_ENUM_(id, name, what) FAULT_##id,
    FAULT_CLASSES(FAULT_ENUM_)
#undef FAULT_ENUM_
        FAULT_CLASS_COUNT
};
const char *fault_class_name(int class);
const char *fault_class_what(int class);

enum fault_mode { MODE_ONCE, MODE_FROM, MODE_RANDOM, MODE_COUNT }; /* call n; all from n on; each with chance 1/n */
const char *fault_mode_name(int mode);

enum { FAULT_FRAMES = 24 };
struct fault {
    enum fault_class class;
    enum fault_mode mode;
    uint32_t n;
    uint64_t seed;
    atomic_bool armed;
    _Atomic uint32_t calls[FAULT_CLASS_COUNT], faults; /* while armed */
    void *frames[FAULT_FRAMES];                        /* where the first one failed */
    int frame_count;
};
void fault_use(struct fault *fault); /* shared memory; NULL: no faults */
void fault_arm(bool on);
/* A call of the class: is it to fail? */
bool fault_hits(enum fault_class class);
bool fault_is_armed(void); /* and the call is not the laboratory's own */
bool fault_is_paused(void);
/* The laboratory's own calls on this thread neither fail nor count; nests. */
void fault_pause(void);
void fault_resume(void);

/* -------------------------------------------------------------------------------------------- memory, hook_memory.c */

void memory_watch(bool on);                     /* allocations from now on are leaks if nobody frees them */
uint64_t memory_leaks(char *text, size_t size); /* number; where the first ones were made */

/* ------------------------------------------------------------------------------------------- loss of power, power.c */

void power_use(const char *dir); /* before it is opened: watches the files below it from now on */
/* Around each call that changes a file: false if nothing is to be watched, else leave again. */
bool power_enter(void);
void power_leave(void);
void power_flushed(int fd, bool good);
void power_wrote(int fd, const void *bytes, size_t size, off_t at, bool synced);
void power_cut(void); /* the files become what the disk has; from now on calls that change one do not return */

/* --------------------------------------------------------------------------------------------------------- ledger */

enum { EVENTS_MAX = 4096, SINKS_MAX = 4, MESSAGE_MAX = 2000 };
enum answer { ANSWER_NONE = 0, ANSWER_TRYING, ANSWER_FAILED, ANSWER_UNCERTAIN, ANSWER_PROCESS, ANSWER_POWER };

struct ledger_event {
    enum answer answer;
    bool has_id;
    struct spool_id id;
};
/* What a run knows of a dead letter beyond that its event is rejected. */
enum letter {
    LETTER_USUAL = 0,
    LETTER_EDITING, /* an edit failed: it is the old or the new one */
    LETTER_EDITED,
    LETTER_UNSURE, /* a purge or an import failed */
    LETTER_GONE,
    LETTER_BACK,
    LETTER_MOVING, /* requeueing it to sink "good" failed */
    LETTER_MOVED,
};
#define LETTER_TYPE_EDITED "lab.edited"

struct ledger {
    struct fault fault;
    struct ledger_event events[EVENTS_MAX];
    uint32_t event_count;
    uint32_t committed; /* of those, the first so many are in segments since prepare: readers see them */
    _Atomic uint32_t delivered[SINKS_MAX][EVENTS_MAX];
    bool no_file;    /* the run has no file sink */
    bool requeued;   /* dead letters may have been delivered again or deleted */
    bool recounted;  /* a sink was rewound: its counters count events twice */
    bool option_set; /* and answered: OPTION_SET_TEXT is in the options of sink "good" */
    bool may_drop;   /* by policy */
    bool spare_sink; /* a sink more may be left */
    bool damaged;    /* the directory was damaged on purpose: findings are expected */
    bool power_is_cut;
    bool is_baseline; /* a run without faults: what of a damaged spool can be had */
    bool whole[EVENTS_MAX];
    bool again[EVENTS_MAX]; /* comes to sink "good" once more: it was rewound */
    enum letter letters[EVENTS_MAX];
    _Atomic uint32_t spare[EVENTS_MAX]; /* given to sink "spare" */
    bool keeps_plugin;                  /* it stays loaded, and … */
    uint32_t kept;                      /* … so many of its allocations without faults */
    uint32_t codes;                     /* calls that failed */
    char violation[MESSAGE_MAX];
};
enum { OPTION_SET = 77777 }; /* what retry_cap_ms is set to */
#define OPTION_SET_TEXT "\"retry_cap_ms\":77777"
extern struct ledger *ledger; /* shared between processes */

/* Notes the first one; false, for `return violation(…)`. */
bool violation(const char *format, ...) __attribute__((format(printf, 1, 2)));

enum { BODY_MAX = 32768, BIG_FROM = 3000 }; /* events from that number on are big */
/* The body of event n, so that what is read can be recognised. */
size_t body_make(uint32_t n, char *buf, size_t size);
bool body_number(const void *body, size_t size, uint32_t *ret_n); /* false: it is none, or not whole */
bool line_event(const char *line,
                uint32_t *ret_n); /* the same for a line that ends with an event's JSON, its body last */

/* ------------------------------------------------------------------------------------------------------ scenarios */

struct scenario {
    const char *name, *what;
    void (*prepare)(const char *dir); /* makes the directory, without faults; in a process of its own */
    void (*run)(const char *dir);     /* arms the faults; in another */
};
extern const struct scenario scenarios[];
extern const size_t scenario_count;
enum end { END_CLOSE, END_EXIT, END_POWER, END_COUNT }; /* of the run: closes, just ends, ends with a loss of power */
extern enum end run_end;
extern bool sweep_verbose;

/* Notes a violation unless the code is one that the call may answer. True: it worked. */
bool answered(const char *call, int code);
/* … unless it worked. */
bool must_work(const char *call, int code);

/* The sinks that scenarios and judge use. */
enum { SINK_GOOD, SINK_RETRYING, SINK_REJECTING, SINK_FILE };
extern const char *const sink_names[SINKS_MAX];
bool sinks_add(struct spool *spool, const char *dir, bool with_file, bool (*allow)(const char *call, int code));
bool sink_rejects(uint32_t n);
/* One more, that the judge removes: it gets events with odd numbers, by a filter, and nothing else. */
int sink_add_spare(struct spool *spool);
void beside(const char *dir, const char *name, char *buf, size_t size); /* a path in dir's folder */
void sink_file_path(const char *dir, char *buf, size_t size);

struct spool_options sweep_options(void);
void sweep_judge(const char *dir);
bool letters_check(struct spool *spool, const uint32_t in_log[EVENTS_MAX]); /* after all sinks have drained */

/* ---------------------------------------------------------------------------------------------------------- cases */

struct sweep_case {
    const struct scenario *scenario;
    enum fault_class class;
    enum fault_mode mode;
    enum end end;
    uint32_t n;
    uint64_t seed;
};
extern unsigned watchdog_s;
const char *end_name(int end);
void case_base(char *ret, size_t size); /* makes the folder for all; removed by case_base_remove() */
void case_base_remove(void);
bool case_prepare(const struct scenario *scenario); /* the directory that runs begin with, and its ledger */
/* Runs it, judges it, prints what is wrong. False: a violation. */
bool case_run(const struct sweep_case *it, bool *ret_hit);
bool case_baseline(const struct scenario *scenario, uint32_t ret_calls[FAULT_CLASS_COUNT]); /* without faults */

/* ------------------------------------------------------------------------------------------------------- controls */

struct control {
    const char *name, *what, *scenario;
    enum fault_class class;
    enum fault_mode mode;
    enum end end;
    uint32_t upto;       /* n from 1 to this; one of them must be caught */
    const char *verdict; /* and for this reason: a part of the violation's text */
};
extern const struct control controls[];
extern const size_t control_count;
extern const char *control_active; /* name, or NULL */

#endif
