/* log_inside.h - what the files that make up the log share. Private to log*.c.
 *
 * Locks, in the order in which they may be taken: log.lock (lock.h), log->mutex. The mutex guards the list of segments
 * and is held while the current segment is read, but not while something is committed or a sealed segment is read.
 * Callbacks are called without either. */
#ifndef SPOOL_LOG_INSIDE_H
#define SPOOL_LOG_INSIDE_H

#include <pthread.h>

#include "log.h"
#include "segment.h"
#include "segment_salvage.h"

enum {
    LOG_OPEN_MAX = 8, /* segments kept open; the newest is one of them */
    LOG_WHOLE_SEGMENT = -1,
    LOG_IN_MEMORY = -2,
    LOG_TRIES_MAX = 1000, /* of starting again because a peer rotated, deleted or repaired meanwhile */
    /* Answers that do not leave these files: */
    LOG_AGAIN = -1001,  /* the list of segments has changed: look again */
    LOG_BROKEN = -1002, /* a segment must be rebuilt first: log_repair() */
    LOG_SEALED = -1003, /* what was looked for in the current segment is now in a sealed one: look there */
};

/* A segment there is. All fields: log->mutex. */
struct log_entry {
    uint64_t number;
    struct segment *segment; /* NULL: not open */
    bool known;              /* head and, once it is sealed, tally are what they will be for ever */
    bool broken;             /* must not be mapped as it is */
    bool unflushed;          /* a flush failed: no later one of this file can be believed */
    struct segment_head head;
    struct segment_tally tally;
};

/* Something to tell when no lock is held any more. */
struct log_note {
    struct log_note *next;
    char file[SEGMENT_LABEL_SIZE];
    char what[256];
    uint64_t events;
    bool is_warning; /* nothing is damaged: it is only logged */
};

/* A damaged block that was told; or, in a log open for reading, a segment that is left out (lane LOG_WHOLE_SEGMENT); or one
 * that is served from memory, which was told (LOG_IN_MEMORY). */
struct log_flaw {
    uint64_t number, first;
    int lane;
};

struct log {
    struct log_options options;
    bool (*alive)(void *user, const uint8_t uuid[JOURNAL_UUID_SIZE]); /* set before threads */
    void *alive_user;
    uint64_t least[LANES]; /* set before threads: no event gets a lower sequence number */
    pthread_mutex_t mutex;
    struct log_entry *entries;      /* mutex; ascending by number */
    size_t count, cap;              /* mutex */
    size_t open_count;              /* mutex */
    uint64_t uses;                  /* mutex: a clock for "least recently used" */
    struct log_note *notes;         /* mutex; newest first */
    struct log_note spare;          /* mutex: one of them, when there is no memory */
    bool spare_used;                /* mutex */
    struct log_flaw *flaws;         /* mutex */
    size_t flaw_count, flaw_cap;    /* mutex */
    uint64_t end_number, end_bytes; /* mutex: the segment that was the newest at the last look, and how full it was */
    _Atomic uint64_t grown_bytes;   /* by how much segments were seen to grow */
};

static inline struct log_entry *log_newest(struct log *log)
{
    return log->count ? &log->entries[log->count - 1] : NULL;
}

/* ---- log_list.c; all with log->mutex held ---- */

/* Reads the directory again. */
int log_list(struct log *log);
/* Opens a segment if its head is not known or, with `open`, if it is not open. LOG_AGAIN, LOG_BROKEN, SPOOL_EVERSION,
 * errno. */
int log_load(struct log *log, size_t index, bool open);
/* The entry, which has none, gets this open segment. */
void log_adopt(struct log *log, size_t index, struct segment *segment);
/* One more reference to entry `index`, which is open. */
struct segment *log_hold(struct log *log, size_t index);
void log_release(struct log *log, struct segment *segment);
/* Closes a segment as soon as nobody uses it, and forgets what is known about it. */
void log_forget(struct log *log, size_t index);
void log_remove_entry(struct log *log, size_t index);
void log_free_list(struct log *log);
/* Without log.lock: nothing has happened since the list was refreshed, and the oldest segment's head is known. */
bool log_is_fresh(const struct log *log);
/* log.lock held, at least shared, and the newest segment refreshed: from here on what it holds may be relied on. A process that
 * is killed in the middle of a commit leaves a transaction that everybody sees and that a loss of power takes back: before a
 * journal's records are given up for it, or their position is copied into a segment that is flushed, it is flushed itself.
 * LOG_BROKEN: that failed; it is rebuilt. */
int log_settle(struct log *log);
/* log.lock held, at least shared: finds the newest segment, opens it and brings its tally up to date. */
int log_refresh(struct log *log);
/* The newest is open and up to date: takes note of how much it has grown, by whomever. */
void log_note_growth(struct log *log);
/* The segment in which `seq` of the lane stands or would stand; there is at least one. */
int log_find(struct log *log, int lane, uint64_t seq, size_t *ret_index);

/* ---- log.c ---- */

/* Takes log.lock and the mutex, refreshes, and calls `op`; repairs what is broken and begins again as long as needed.
 */
int log_with_lock(struct log *log, enum lock_mode mode, uint64_t deadline_ns, int (*op)(struct log *log, void *user),
                  void *user);
/* What to do about an internal answer: SPOOL_OK to begin again, anything else to return. No lock held. */
int log_recover(struct log *log, int code, unsigned *tries, uint64_t deadline_ns);

/* ---- log_rotate.c: log.lock held exclusively, mutex not held ---- */

/* Makes the next segment, or the first one. */
int log_begin_segment(struct log *log, struct segment *current, const struct buffer *snapshot);
/* Asks for the snapshot; empty if there is none. No lock held. */
void log_take_snapshot(struct log *log, struct buffer *out);

/* ---- log_repair.c ---- */

/* Rebuilds the segments that are marked broken; in a log open for reading they are left out. */
int log_repair(struct log *log, uint64_t deadline_ns);
/* The same with log.lock held exclusively, and the mutex. */
int log_repair_locked(struct log *log);
/* Likewise: the newest is a stand-in. Rebuilds it if the disk has room now: LOG_AGAIN, else ENOSPC and friends. */
int log_replace_standin(struct log *log);
/* Mutex held: remembers that something is to be told. NULL: there is no memory. */
struct log_note *log_note(struct log *log, uint64_t number, uint64_t events, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void log_free_note(struct log *log, struct log_note *note);
/* No lock held: tells it. */
void log_tell(struct log *log);
/* No lock held: a block is damaged. Sets its bytes aside and tells, once. Frees flaw->bytes. */
void log_tell_block(struct log *log, uint64_t number, int lane, struct segment_flaw *flaw);

#endif
