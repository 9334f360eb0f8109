/* log.h - the log: a row of segments, each an LMDB environment that is only appended to. (segment.c has the format.)
 *
 * Environments are opened with MDB_NOSUBDIR | MDB_NOTLS | MDB_NOLOCK: log.lock is the lock. Whoever commits, rotates,
 * deletes or quarantines holds it exclusively and has re-read the number of the current segment since; whoever reads
 * the current segment holds it shared while copying; sealed segments need none. */
#ifndef SPOOL_LOG_H
#define SPOOL_LOG_H

#include "dir.h"
#include "journal.h"
#include "lock.h"
#include "store.h"

struct log;

struct log_options {
    const struct dir *dir; /* outlives the log */
    struct lock *lock;     /* log.lock, likewise */
    struct reporter reporter;
    /* Appends a snapshot of sinks and cursors for the head of a new segment; called without log.lock. May be NULL. */
    int (*snapshot)(void *user, struct buffer *out);
    void *snapshot_user;
    /* Sequence numbers above all that somebody speaks of, for a log that has no segment (any more) to begin at; called
     * without log.lock. May be NULL: it begins at 0. */
    int (*known)(void *user, uint64_t deadline_ns, uint64_t ret_next[LANES]);
    void *known_user;
    /* A block or segment is damaged and was set aside: told once each, without log.lock. `events` 0: unknown. */
    void (*damaged)(void *user, const char *file, const char *what, uint64_t events);
    void *damaged_user;
};

/* Lists the segments and checks the newest before mapping it; older ones are checked when first needed. A damaged
 * segment is moved to quarantine/ and rebuilt from its whole blocks at the same keys (segment_salvage.c). Makes the
 * first segment if there is none (not read only). Takes the lock by itself, until the deadline. Leftover .tmp files are
 * removed. */
int log_open(const struct log_options *options, uint64_t deadline_ns, struct log **ret);
/* Gives back disk blocks that the current segment was given ahead, unless somebody has log.lock just then. */
void log_trim(struct log *log);
void log_close(struct log *log);
void log_abandon(struct log *log); /* in a forked child */

/* Consecutive events of one lane, a bundle, that become one block. Compressed ones stand as one frame (block.h), and
 * events_size says what they take unpacked. */
struct log_run {
    int lane, codec, form; /* enum block_codec, enum bundle_form */
    uint32_t count, events_size;
    const uint8_t *events;
    size_t size;
    struct spool_id min_id, max_id;
    uint64_t first_seq; /* out: set on success */
};
struct log_position {
    uint8_t uuid[JOURNAL_UUID_SIZE];
    uint64_t applied; /* the greatest ever stored counts */
};

/* Appends the runs and stores the positions in one transaction, rotating when the segment is full or older than a day.
 * On failure nothing is stored. ENOSPC and friends leave everything usable. SPOOL_EUNCERTAIN: LMDB's meta page write
 * failed: the log reopens its segment and looks; the answer then is OK or an error, and UNCERTAIN only if it cannot be
 * known. SPOOL_ETOOBIG: not even an empty segment takes it; half of segment_bytes in at most 16 runs always fits. */
int log_commit(struct log *log, struct log_run *runs, size_t n, const struct log_position *positions,
               size_t position_count, uint64_t deadline_ns);

/* From now on no event gets a sequence number below `least` of its lane: for a log that ends before what others speak of.
 * Numbers that this leaves out are told as damage. When it fails the next commit does it. Before threads. */
int log_raise(struct log *log, const uint64_t least[LANES], uint64_t deadline_ns);

/* The stored position of a journal. SPOOL_ENOTFOUND if none is. */
int log_position(struct log *log, const uint8_t uuid[JOURNAL_UUID_SIZE], uint64_t deadline_ns, uint64_t *ret_applied);
/* Positions of journals whose uuid `alive` denies are not copied into the next segment. May be NULL. Set before
 * threads. */
void log_set_journal_filter(struct log *log, bool (*alive)(void *user, const uint8_t uuid[JOURNAL_UUID_SIZE]),
                            void *user);

/* As store_read, store_bounds, store_seek. */
int log_read(struct log *log, int lane, uint64_t seq, uint64_t deadline_ns, struct store_block **ret,
             uint64_t *ret_skip_to);
int log_bounds(struct log *log, uint64_t deadline_ns, uint64_t ret_first[LANES], uint64_t ret_next[LANES]);
/* As log_bounds() found them last, without the lock. */
void log_bounds_known(struct log *log, uint64_t ret_first[LANES], uint64_t ret_next[LANES]);
int log_seek(struct log *log, int lane, const struct spool_id *id, uint64_t deadline_ns, uint64_t *ret_seq);

/* The largest id in the log; all zero if there is none. */
int log_max_id(struct log *log, uint64_t deadline_ns, struct spool_id *ret);

/* The snapshot at the head of the newest segment that has a whole one. SPOOL_ENOTFOUND. */
int log_snapshot(struct log *log, uint64_t deadline_ns, struct buffer *out);

/* Deletes sealed segments, oldest first, while every event in them is below `cursor` of its lane and their largest id
 * is below `keep_from` (zero id: no retention). Stops at the first that must stay. */
int log_delete(struct log *log, const uint64_t cursor[LANES], const struct spool_id *keep_from, uint64_t deadline_ns,
               uint64_t *ret_deleted);
/* What the oldest sealed segment holds: bounds behind its last events; SPOOL_ENOTFOUND if only the current one is left.
 */
int log_oldest(struct log *log, uint64_t deadline_ns, uint64_t ret_first[LANES], uint64_t ret_next[LANES]);
/* Whoever stands at `cursor` keeps the segments from there on: while these are more than `max_bytes`, *ret_upto is raised over
 * the oldest of them, but never over the newest. Without the lock: as known last. */
int log_overflow(struct log *log, const uint64_t cursor[LANES], uint64_t max_bytes, uint64_t ret_upto[LANES]);
/* Seals the current segment if it holds at least `min_bytes`, so that it can be deleted. */
int log_rotate(struct log *log, uint64_t min_bytes, uint64_t deadline_ns);

struct log_stats {
    uint64_t segments, bytes, events;
};
/* What was known last if a peer does not give the lock. */
int log_stats(struct log *log, struct log_stats *ret);
/* How many events there are from `cursor` on, per lane added up, holes in the numbers left out: exact but for what is missing
 * in the segment that the cursor stands in. */
uint64_t log_events_from(struct log *log, const uint64_t cursor[LANES]);
/* Bytes by which the segments were seen to grow on disk since the log was opened, by commits of any process. Never
 * falls; no lock. A commit of ours is in it when log_commit() returns. */
uint64_t log_grown_bytes(const struct log *log);

/* Every page and block of every segment; calls as spool_verify(). Adds to the report. */
int log_verify(struct log *log, void (*each)(void *user, const struct spool_finding *finding),
               void (*progress)(void *user, uint64_t done_bytes, uint64_t all_bytes), void *user,
               struct spool_verify_report *report);

#endif
