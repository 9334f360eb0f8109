/* state_inside.h - what the files of the state share; nobody else includes it. (state.c has the format.) */
#ifndef SPOOL_STATE_INSIDE_H
#define SPOOL_STATE_INSIDE_H

#include <errno.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/base/bytes.h"
#include "../lib/base/crc32c.h"
#include "../lib/base/error.h"
#include "../lib/base/log.h"
#include "../lib/base/sync.h"
#include "history.h"
#include "state.h"
#include "state_row.h"

#define STATE_FILE "state.mdb"

enum {
    STATE_VERSION = 2,           /* 1 is read, too: without histories and what else is said to be of version 2 */
    STATE_TXN_ROWS = 1000,       /* rows that one write transaction changes, about */
    STATE_CHUNK_ROWS = 256,      /* rows gathered under the lock for one round of callbacks */
    STATE_CONFIG_MAX = 64 << 10, /* bytes of a sink's configuration, without its NUL */
};

/* The first byte of a key. In the order of importance: salvage fills the map from the front. */
enum state_table {
    TABLE_META = 1,
    TABLE_SINK,
    TABLE_RANGES,
    TABLE_CHECKPOINT,
    TABLE_CONFIG,
    TABLE_DAMAGE,
    TABLE_DEAD,
    TABLE_RETRY,
    TABLE_PIECE,
    TABLES
};
enum state_meta {
    META_VERSION,
    META_NUMBERS,
    META_COUNTERS,
    META_CLOCK,
    META_DROPPED,
    META_HOME,
    META_SINK_MORE,
    META_SINK_PURGED,
    META_SEEN,
    META_SINK_FILTERED = 16,
};

/* ------------------------------------------------------------------------------------------ the open environment */

struct state_identity {
    dev_t device; /* 0 and 0: no file */
    ino_t inode;
};

struct state {
    struct state_options options;
    uint32_t seed; /* of the rows' checksums */
    /* Lock order: state.lock, then this one. Held shared by every transaction, exclusive while `env` is replaced. */
    pthread_rwlock_t env_lock;
    MDB_env *env; /* env_lock, as all up to `base` */
    MDB_dbi dbi;
    struct state_identity identity;
    uint64_t epoch; /* grows each time env is replaced */
    uint64_t map_bytes, page_bytes;
    uint64_t base;       /* what stamps add to LMDB's transaction number */
    uint32_t version;    /* of the file; a writer raises it, under state.lock */
    atomic_bool is_copy; /* and that could not be stored yet: its checkpoints do not count, and none are stored */
    _Atomic uint64_t settled_stamp; /* up to this transaction it is on the disk for sure */
    atomic_bool unflushed;          /* a flush of this file failed: no later one can be believed */
    bool taken_over;                /* a salvage that a crash interrupted was finished by this handle */
    bool is_new;                    /* there was no file at the opening */
    atomic_uint busy; /* transactions under way: not 0 in a forked child means LMDB's memory may be half changed */
    atomic_bool reserve_told; /* that the disk reserve could not be allocated */
    pthread_mutex_t told_mutex;
    uint32_t told[256];  /* told_mutex: damage reported by this handle, as CRCs, a ring */
    unsigned told_count; /* told_mutex */
};

static inline uint64_t state_wall_ns(const struct state *state)
{
    return state->options.wall_ns ? state->options.wall_ns(state->options.wall_user) : real_ns();
}

/* state_home.c. Before a checkpoint is stored: in a copy those of the original go first. */
int state_settle_home(struct state *state, uint64_t deadline_ns);

/* state_env.c. All need env_lock exclusive. Opens the file that is there: SPOOL_ENOTFOUND, SPOOL_EDAMAGED,
 * SPOOL_EVERSION. */
int state_env_attach(struct state *state);
/* An empty one: in place of a missing file (state.lock exclusive), or in memory for a read-only handle. */
int state_env_make(struct state *state);
int state_env_make_standin(struct state *state);
/* Makes `name` anew and opens it; state_env_publish() puts it in the place of state.mdb, which it quarantines. */
int state_env_build(struct state *state, const char *name);
int state_env_publish(struct state *state);
/* Writes the version row, with state->base. */
int state_env_write_version(struct state *state);
void state_env_close(struct state *state);
bool state_env_is_current(const struct state *state);
/* Of the version row: SPOOL_EVERSION, SPOOL_EDAMAGED. */
int state_version_check(const struct state_row *view, uint64_t *ret_base);
/* Before a commit: from then on the file is of our version. */
struct state_txn;
int state_env_raise_version(struct state_txn *txn);
/* An LMDB return code as one of ours with a message. */
int state_env_error(int rc, const char *doing);

/* state_salvage.c. state.mdb is damaged: replaces it (state.lock exclusive), or fills the stand-in. env_lock exclusive.
 */
int state_salvage(struct state *state);

/* --------------------------------------------------------------------------------------------------- transactions */

struct state_note { /* a damaged row that was met; told when no lock is held any more */
    char what[120];
    uint64_t events;
};

struct state_txn {
    struct state *state;
    MDB_txn *txn;
    MDB_cursor *cursor; /* of state_table_next(); opened when needed */
    bool write, locked;
    struct file_size_signal signal; /* held from begin() to leave() of one that writes */
    uint64_t stamp;
    uint64_t writes; /* puts and deletes so far: none means there is nothing to commit */
    unsigned note_count;
    struct state_note notes[8];
};

/* state_txn.c. Takes state.lock; ended by commit or abort, which also drops the lock and then tells of damage. Abort
 * keeps the message of the thread's last failure. */
int state_txn_read(struct state *state, uint64_t deadline_ns, struct state_txn *ret);
int state_txn_write(struct state *state, uint64_t deadline_ns, struct state_txn *ret);
int state_txn_commit(struct state_txn *txn);
void state_txn_abort(struct state_txn *txn);
/* Commits when `code` is 0, aborts otherwise; returns the code that holds in the end. */
int state_txn_end(struct state_txn *txn, int code);
/* Without taking locks, for whoever holds env_lock exclusively; ended as above. */
int state_txn_inner(struct state *state, bool write, struct state_txn *ret);
void state_txn_note(struct state_txn *txn, uint64_t events, const char *format, ...) PRINTF(3, 4);

/* state_reserve.c. How deep into the reserve a change may go: new rows not at all, changes of retry rows by half. */
enum state_room { ROOM_NEW, ROOM_UPDATE, ROOM_ACK };
/* SPOOL_EFULL unless `bytes` more in `rows` rows fit. Call before the first change of the transaction. */
int state_reserve_check(struct state_txn *txn, enum state_room room, uint64_t rows, uint64_t bytes);
/* Allocates disk ahead, or what there is of it; state.lock exclusive or the environment private. */
void state_reserve_top_up(struct state *state);
/* For a transaction beside the reserve: if there is none, it is the disk that is full. */
bool state_map_has_room(const struct state *state);

/* ----------------------------------------------------------------------------------------------------------- rows */

/* state_table.c. SPOOL_ENOTFOUND; SPOOL_EDAMAGED (noted). Views are valid until the next change. */
int state_table_get(struct state_txn *txn, const struct state_key *key, struct state_row *ret);
int state_table_put(struct state_txn *txn, const struct state_key *key, const void *body, size_t body_size);
int state_table_delete(struct state_txn *txn, const struct state_key *key);
/* The first row behind `at` that shares its first `prefix` bytes; `at` becomes its key. Damaged rows are noted and
 * skipped. */
int state_table_next(struct state_txn *txn, struct state_key *at, size_t prefix, struct state_row *ret);
/* The last whole row before `at` that shares its first `prefix` bytes. */
int state_table_before(struct state_txn *txn, struct state_key *at, size_t prefix, struct state_row *ret);
/* As state_table_next() without looking into the row. */
int state_table_next_raw(struct state_txn *txn, struct state_key *at, size_t prefix, MDB_val *ret);
/* Deletes the rows that begin with `prefix`, at most `most` of them; *ret_deleted counts them. */
int state_table_clear(struct state_txn *txn, const struct state_key *prefix, uint64_t most, uint64_t *ret_deleted);
/* A row of the key read as what its table says, checksum and fields. SPOOL_EDAMAGED. */
int state_table_check(const struct state *state, const struct state_key *key, const MDB_val *value,
                      struct state_row *ret);
/* "retry row, key 0600000001…"; returns `ret`. */
const char *state_table_describe(const uint8_t *key, size_t size, char ret[80]);

/* state_blob.c: bytes of any size as rows {prefix, piece number}. */
uint64_t state_blob_rows(size_t size);
int state_blob_put(struct state_txn *txn, const struct state_key *prefix, const void *bytes, size_t size);
/* SPOOL_ENOTFOUND, SPOOL_EDAMAGED. A malloc'd copy with a NUL behind it. */
int state_blob_get(struct state_txn *txn, const struct state_key *prefix, uint8_t **ret, size_t *ret_size);
int state_blob_delete(struct state_txn *txn, const struct state_key *prefix);

/* state_sink_row.c: sinks as rows. */
struct sink_row {
    char name[SINK_NAME_MAX + 1], kind[SINK_KIND_MAX + 1];
    uint32_t id, order;
    uint64_t generation;
    bool paused, best_effort, removing;
    bool removed; /* it stays as a mark, so that salvage does not bring it back */
    uint64_t cursor[LANES];
    uint32_t range_count[LANES];
    uint64_t delivered, dropped, retry_rows, dead_rows;
    uint64_t start[LANES], dead_dropped; /* version 2 */
    struct store_drops drops;            /* of `dropped`; later in version 2 */
    uint64_t delivered_in[LANES];        /* of `delivered`; likewise */
    uint64_t serial;                     /* of the last acknowledgement that was counted; likewise */
};
int sink_row_parse(const struct state_row *view, struct sink_row *ret); /* SPOOL_EDAMAGED */
int sink_row_put(struct state_txn *txn, const struct sink_row *sink);
int sink_row_get(struct state_txn *txn, uint32_t id, struct sink_row *ret);       /* also a removed one */
int sink_row_find(struct state_txn *txn, const char *name, struct sink_row *ret); /* SPOOL_ENOTFOUND */
/* The next one behind *at_id (start with 0), removed ones skipped. SPOOL_ENOTFOUND at the end. */
int sink_row_next(struct state_txn *txn, uint32_t *at_id, struct sink_row *ret);
/* state_sink.c. Writes nothing if it is the same. */
int sink_config_put(struct state_txn *txn, uint32_t id, const char *config);
int sink_ranges_get(struct state_txn *txn, const struct sink_row *sink, int lane, struct store_range *ret,
                    uint32_t *ret_count);
int sink_ranges_put(struct state_txn *txn, struct sink_row *sink, int lane, const struct store_range *ranges,
                    uint32_t count);
/* state_filtered.c: events that a sink's filter has passed over; 0 if there is no row. */
int state_filtered_get(struct state_txn *txn, uint32_t id, uint64_t *ret);
int state_filtered_add(struct state_txn *txn, uint32_t id, uint64_t events);
int state_filtered_forget(struct state_txn *txn, uint32_t id);
/* state_sink_more.c: what few sinks have. */
struct sink_more {
    uint64_t max_pending_bytes, max_pending_age_ms;
    char paused_reason[REASON_MAX + 1];
};
int sink_more_get(struct state_txn *txn, uint32_t id, struct sink_more *ret); /* all zero if there is none */
int sink_more_put(struct state_txn *txn, uint32_t id, const struct sink_more *more);
struct copy_row;
/* state_purged.c: dead letters that were purged, for receipts. add: the letter goes, and its sink remembers it. */
int purged_add(struct state_txn *txn, const struct copy_row *letter, uint64_t now_ns, bool by_limit);
int purged_remove(struct state_txn *txn, uint32_t sink_id, const struct spool_id *id); /* it is back in some way */
/* Those from that cursor on get another chance. */
int purged_rewind(struct state_txn *txn, uint32_t sink_id, const uint64_t cursor[LANES]);
int purged_forget(struct state_txn *txn, uint32_t sink_id);
/* Drops what is below the cursor and moves it over ranges that begin there. `ranges` are changed in place. */
void sink_ranges_settle(uint64_t *cursor, struct store_range *ranges, uint32_t *count);

/* state_numbers.c: the meta rows. */
struct state_numbers {
    uint32_t sink; /* the next ones to be given out */
    uint64_t generation, copy;
};
int state_numbers_get(struct state_txn *txn, struct state_numbers *ret);
int state_numbers_put(struct state_txn *txn, const struct state_numbers *numbers);
struct state_totals {
    uint64_t counters[STATE_COUNTERS], dead_letters;
};
int state_totals_get(struct state_txn *txn, struct state_totals *ret);
struct state_key state_damage_key(const char *text); /* of the mark that a damage is known */
/* state_seen.c: the counters of damage when an operator saw it; zero if never. */
int state_seen_get(struct state_txn *txn, uint64_t *ret_blocks, uint64_t *ret_events);
int state_totals_put(struct state_txn *txn, const struct state_totals *totals);
/* How far limits have dropped each lane; 0 if never. */
int state_dropped_get(struct state_txn *txn, uint64_t ret[LANES]);
int state_dropped_put(struct state_txn *txn, const uint64_t dropped[LANES]);
int state_totals_add_dead(struct state_txn *txn, int64_t add);

/* ---------------------------------------------------------------------------- events copied: retries, dead letters */

enum { COPY_INLINE_MAX = 1024 }; /* bytes of an event that stand in the row itself: it stays within a leaf page */

struct copy_row {
    struct store_retry row;
    uint32_t sink_id, crc; /* CRC32C of the packed event */
    uint64_t copy;         /* number of its pieces; 0: inline */
    uint64_t died_ns;      /* dead letters only, like the name */
    char sink[SINK_NAME_MAX + 1];
    uint8_t inlined[COPY_INLINE_MAX];
    struct history history;
};
/* Adds to the history, in the room that the rest of the row leaves. Call when the rest is complete. */
void copy_note(struct copy_row *copy, enum spool_attempt_kind kind, uint64_t at_ns, const char *reason);
struct state_key copy_retry_key(uint32_t sink_id, int lane, uint64_t seq);
struct state_key copy_dead_key(const struct spool_id *id, uint32_t sink_id);
int copy_row_parse(const struct state_row *view, struct copy_row *ret); /* SPOOL_EDAMAGED */
int copy_row_get(struct state_txn *txn, const struct state_key *key, struct copy_row *ret);
int copy_row_put(struct state_txn *txn, const struct state_key *key, const struct copy_row *copy);
/* Stores the packed event, inline or in pieces, and fills size, crc and copy. */
int copy_store(struct state_txn *txn, const uint8_t *packed, struct copy_row *copy);
int copy_load(struct state_txn *txn, const struct copy_row *copy, uint8_t **ret); /* SPOOL_EDAMAGED */
int copy_drop(struct state_txn *txn, const struct copy_row *copy);
/* Rows and bytes that a copy of a packed event takes. */
uint64_t copy_rows(size_t size);
uint64_t copy_bytes(size_t size);

/* state_dead.c: which letters are meant, and finding them. */
struct dead_filter {
    const char *sink;          /* NULL: of all */
    const struct spool_id *id; /* NULL: all */
};
struct state_key dead_first_key(const struct dead_filter *filter);
/* The next letter behind `at` that is meant; counts those looked at: SPOOL_ETIMEOUT when they are `most`. */
int dead_next(struct state_txn *txn, const struct dead_filter *filter, struct state_key *at, size_t prefix,
              uint64_t *seen, uint64_t most, struct copy_row *ret);
/* state_dead_take.c: deletes the row, not the copy, and counts it off its sink. */
int dead_forget(struct state_txn *txn, const struct copy_row *copy);

/* state_retry.c: deletes retries of removed sinks, which a crash left. Takes the lock only if there are any to write.
 */
int state_retry_sweep(struct state *state, uint64_t deadline_ns);

/* state_recount.c, for salvage (env_lock exclusive): drops rows nobody can use (damaged ones, retries without sink,
 * pieces without row) and counts anew. */
int state_recount(struct state *state);

#endif
