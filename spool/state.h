/* state.h - state.mdb: sinks and their cursors, checkpoints, retries, dead letters, counts of damage. (state.c has the
 * format.)
 *
 * A small LMDB environment of its own, so that draining works while the log is full: its file keeps a reserve that is
 * allocated on disk and free in the map, used by acknowledgements only. Every row carries a CRC32C and a stamp, so that
 * a damaged file is salvaged row by row. state.lock is the lock: shared to read, exclusive to write; never held
 * together with log.lock. */
#ifndef SPOOL_STATE_H
#define SPOOL_STATE_H

#include "../lib/base/buffer.h"
#include "dir.h"
#include "lock.h"
#include "store.h"

struct state;

struct state_options {
    const struct dir *dir;
    struct lock *lock;  /* state.lock */
    uint64_t map_bytes; /* at least 16 MiB; only when the file is made */
    struct reporter reporter;
    void (*damaged)(void *user, const char *file, const char *what, uint64_t events);
    void *damaged_user;
    uint64_t (*wall_ns)(void *user); /* for histories and ages; NULL: the system's */
    void *wall_user;
};

/* Opens or makes state.mdb. Pages are checked before anything is mapped (pagecheck.h); what is damaged goes to
 * quarantine/ and is salvaged into a new one. *ret_salvaged: that happened. state_restore() then fills in from the
 * log's snapshot what is missing, also in place of a file that was gone. SPOOL_EVERSION. When read only and there is
 * none: an empty one in memory (all look-ups answer "none"). */
int state_open(const struct state_options *options, uint64_t deadline_ns, struct state **ret, bool *ret_salvaged);
void state_close(struct state *state);
void state_abandon(struct state *state);

/* Sinks with their configuration and cursors, in a form of its own version and checksum, for the head of a new segment.
 */
int state_snapshot(struct state *state, uint64_t deadline_ns, struct buffer *out);
/* Adds sinks of the snapshot that are missing; never lowers a cursor, nor brings back what was removed. *ret_added (may
 * be NULL) is their number; when it is 0 nothing was written. SPOOL_EDAMAGED, SPOOL_EVERSION. */
int state_restore(struct state *state, const uint8_t *snapshot, size_t size, uint64_t deadline_ns, uint32_t *ret_added);
/* Per lane a sequence number above all that cursors, ranges and retry rows speak of; with `letters` also dead letters,
 * for which every one is read. */
int state_known_next(struct state *state, bool letters, uint64_t deadline_ns, uint64_t ret_next[LANES]);

/* Notes which directory this is; in a copy of it all checkpoints are forgotten, see state_home.c. *ret_forgotten: rows.
 * Not for a state that is read only. */
int state_check_home(struct state *state, uint64_t deadline_ns, uint64_t *ret_forgotten);

/* As store_sink_* of the same names, without elections. `start` are the cursors of a new sink. *ret_is_new may be NULL.
 */
int state_sink_register(struct state *state, const char *name, const char *kind, uint32_t order, const char *config,
                        const uint64_t start[LANES], uint64_t deadline_ns, struct store_sink *ret, bool *ret_is_new);
int state_sink_get(struct state *state, const char *name, uint64_t deadline_ns, struct store_sink *ret);
int state_sink_config(struct state *state, const char *name, uint64_t deadline_ns, char **ret);
int state_sink_set_config(struct state *state, const char *name, const char *config, uint64_t deadline_ns);
/* Goes back to these cursors, never forward; *ret_again is how many events that makes. */
int state_sink_rewind(struct state *state, const char *name, const uint64_t cursor[LANES], uint64_t deadline_ns,
                      uint64_t *ret_again);
int state_sink_remove(struct state *state, const char *name, uint64_t deadline_ns);
/* Its removal is asked for; and done, if it is: SPOOL_ENOTFOUND also when a sink of that name is there without that mark. One
 * that is registered in the place of one with the mark is a new one. */
int state_sink_mark_removal(struct state *state, const char *name, uint64_t deadline_ns);
int state_sink_remove_marked(struct state *state, const char *name, uint64_t deadline_ns);
int state_sink_pause(struct state *state, const char *name, bool paused, uint64_t deadline_ns);
int state_sink_pause_for(struct state *state, const char *name, const char *reason, uint64_t deadline_ns);
int state_sink_set_best_effort(struct state *state, const char *name, bool best_effort, uint64_t deadline_ns);
int state_sink_limit(struct state *state, const char *name, uint64_t max_pending_bytes, uint64_t max_pending_age_ms,
                     uint64_t deadline_ns);
int state_sink_each(struct state *state, uint64_t deadline_ns, int (*each)(void *user, const struct store_sink *sink),
                    void *user);
/* Makes sure that what was read before is on the disk: a process that is killed in the middle of a commit leaves one that
 * everybody sees and that a loss of power takes back. To be called before anything is deleted on the strength of it. */
int state_settle(struct state *state, uint64_t deadline_ns);
/* The lowest cursor of any sink, per lane; *ret_sinks their number (0: cursors are all 0). */
int state_low_cursor(struct state *state, uint64_t deadline_ns, uint64_t ret_cursor[LANES], uint32_t *ret_sinks);
/* A limit drops [first, upto) of each lane: cursors behind are moved there and the events between counted per sink (an
 * upper bound: out-of-order ranges are subtracted). *ret_dropped: how many of them some sink, or nobody at all, had not
 * finished with and no earlier call has counted; added to STATE_DROPPED_EVENTS in the same transaction. */
int state_drop_below(struct state *state, const uint64_t first[LANES], const uint64_t upto[LANES], uint64_t deadline_ns,
                     uint64_t *ret_dropped);

/* The same for one sink alone, by its own limit; not added to STATE_DROPPED_EVENTS, as others may still get them. */
int state_sink_drop_below(struct state *state, const char *name, const uint64_t upto[LANES], uint64_t deadline_ns,
                          uint64_t *ret_dropped);
/* It was salvaged once. */
bool state_is_rebuilt(const struct state *state);
/* There was no file when it was opened. */
bool state_is_new(const struct state *state);
/* state_seen.c: a finding of verify, as text, is seen; it was; all that is counted now is. */
int state_seen_mark(struct state *state, const char *finding, uint64_t deadline_ns);
bool state_seen_has(struct state *state, const char *finding, uint64_t deadline_ns);
int state_seen_all(struct state *state, uint64_t deadline_ns);
/* As store_purged_find(). */
int state_purged_find(struct state *state, uint32_t sink_id, const struct spool_id *id, uint64_t deadline_ns,
                      struct store_purged *ret);

/* As store_ack and the rest of its section. */
int state_ack(struct state *state, const struct store_ack *ack, uint64_t deadline_ns);
int state_checkpoint(struct state *state, uint32_t sink_id, uint64_t deadline_ns, void *buf, size_t cap,
                     size_t *ret_size);
int state_retry_each(struct state *state, uint32_t sink_id, uint64_t deadline_ns,
                     int (*each)(void *user, const struct store_retry *row), void *user);
int state_retry_event(struct state *state, uint32_t sink_id, int lane, uint64_t seq, uint64_t deadline_ns,
                      uint8_t **ret, size_t *ret_size);
int state_dead_each(struct state *state, const char *sink, uint64_t deadline_ns,
                    int (*each)(void *user, const struct store_dead *dead), void *user);
int state_dead_requeue(struct state *state, const char *sink, const struct spool_id *id, uint64_t deadline_ns,
                       uint64_t *ret_n);
int state_dead_requeue_to(struct state *state, const char *sink, const struct spool_id *id, const char *to,
                          uint64_t deadline_ns, uint64_t *ret_n);
int state_dead_purge(struct state *state, const char *sink, const struct spool_id *id, uint64_t deadline_ns,
                     uint64_t *ret_n);
int state_dead_find(struct state *state, const char *sink, const struct spool_id *id, uint64_t deadline_ns,
                    int (*each)(void *user, const struct store_dead *dead), void *user);
int state_dead_edit(struct state *state, const char *sink, const struct spool_id *id, const uint8_t *packed,
                    size_t size, uint64_t deadline_ns, uint64_t *ret_n);
int state_dead_import(struct state *state, const struct store_dead *dead, uint64_t deadline_ns);
int state_dead_trim(struct state *state, const char *sink, const struct store_dead_limits *limits, uint64_t deadline_ns,
                    uint64_t *ret_dropped);

/* Counters and marks of the spool as a whole, kept since it was made. */
enum state_counter { STATE_DROPPED_EVENTS, STATE_DAMAGED_BLOCKS, STATE_DAMAGED_EVENTS, STATE_COUNTERS };
/* Adds to a counter. With `once` non-NULL only if no damage row of that name was there: a block is counted once however
 * often it is met. */
int state_count(struct state *state, enum state_counter counter, uint64_t add, const char *once, uint64_t deadline_ns);
struct state_stats {
    uint64_t counters[STATE_COUNTERS];
    uint64_t dead_letters, rows, bytes;
    uint32_t sinks;
    uint64_t seen_blocks, seen_events; /* of the counters of damage: what an operator has seen */
};
int state_stats(struct state *state, uint64_t deadline_ns, struct state_stats *ret);

/* The clock's upper bound, raised before ids above it are handed out without an event (store_open reads it). */
int state_clock_get(struct state *state, uint64_t deadline_ns, struct spool_id *ret);
int state_clock_raise(struct state *state, const struct spool_id *id, uint64_t deadline_ns);

int state_verify(struct state *state, uint64_t deadline_ns,
                 void (*each)(void *user, const struct spool_finding *finding), void *user,
                 struct spool_verify_report *report);

#endif
