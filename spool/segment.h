/* segment.h - one segment: an LMDB environment that is only appended to. (segment.c has the format in prose.)
 *
 * Nothing here locks: log.c sees to it that a segment that is still written to is used under log.lock, and that struct
 * segment is shared between threads only to read. Private to the log's files. */
#ifndef SPOOL_SEGMENT_H
#define SPOOL_SEGMENT_H

#include <lmdb.h>
#include <sys/stat.h>

#include "block.h"
#include "dir.h"
#include "log.h"
#include "segment_row.h"

enum { SEGMENT_NAME_SIZE = 32, SEGMENT_LABEL_SIZE = 48 };

struct segment {
    uint64_t number;
    MDB_env *env;
    MDB_dbi lane[LANES], meta;
    uint32_t page_size;
    bool writable;
    bool standin; /* in memory, in place of a damaged file that the disk has no room to rebuild */
    dev_t device; /* which file this is: the name may come to mean another one */
    ino_t inode;
    struct segment_head head;
    struct segment_tally tally; /* as of transaction `txn`; changes under log.lock held exclusively, and log->mutex */
    uint64_t txn;
    uint64_t ahead;       /* up to here its file was given disk blocks; log.lock held exclusively */
    uint64_t settled_txn; /* up to this one it is on the disk for sure; log->mutex */
    /* The log's book-keeping, under log->mutex: */
    unsigned refs;
    bool doomed; /* no longer listed: the last reference closes it */
    uint64_t last_used;
};

/* "00000000000000000003.mdb", and "segments/…" for messages. */
void segment_name(uint64_t number, char ret[SEGMENT_NAME_SIZE]);
void segment_label(uint64_t number, char ret[SEGMENT_LABEL_SIZE]);
/* False if it is not the name of a segment. */
bool segment_parse_name(const char *name, uint64_t *ret_number);

/* Checks the pages, maps and reads head and tally. ENOENT: there is no such file. SPOOL_EDAMAGED: it must not be
 * mapped, or lacks what it needs. SPOOL_EVERSION, errno. */
int segment_open(const struct dir *dir, uint64_t number, bool writable, struct segment **ret);
void segment_close(struct segment *segment); /* NULL is fine */

/* Whether the name still means the file that was opened. */
bool segment_is_in_place(const struct dir *dir, const struct segment *segment);

/* The last committed transaction, without a lock: to see whether there is news. */
uint64_t segment_last_txn(const struct segment *segment);
/* Reads the tally again if there is news. */
int segment_refresh(struct segment *segment);
/* Flushes it, unless what it holds is known to be on the disk. errno: it may never be, and no later flush can be believed.
 */
int segment_settle(struct segment *segment);

/* ---- segment_write.c ---- */

/* Makes the file `name`, commits into it all trees, head, tally and what `fill` puts, and closes it, flushed. What
 * stood there under that name is removed first; on failure nothing is left. */
int segment_create(const struct dir *dir, const char *name, uint64_t map_bytes,
                   int (*fill)(void *user, struct segment *segment), void *user);

/* The same in memory; it stays open, to be read. */
int segment_create_standin(const struct dir *dir, uint64_t number, uint64_t map_bytes,
                           int (*fill)(void *user, struct segment *segment), void *user, struct segment **ret);

/* Head and tally, snapshot (none when size is 0), one position: in a transaction of the caller. */
int segment_put_head(struct segment *segment, MDB_txn *txn, const struct segment_head *head);
int segment_put_tally(struct segment *segment, MDB_txn *txn, const struct segment_tally *tally);
int segment_put_snapshot(struct segment *segment, MDB_txn *txn, const void *snapshot, size_t size);
int segment_put_position(struct segment *segment, MDB_txn *txn, const struct log_position *position);
/* Puts a block with the given first_seq; info->commit is set from the transaction. */
int segment_put_block(struct segment *segment, MDB_txn *txn, struct block_info *info, const uint8_t *events);

/* Pages that a commit of these runs takes at most, and whether they fit while 95 % of the map may be used. */
uint64_t segment_pages_for(const struct segment *segment, const struct log_run *runs, size_t n);
bool segment_has_room(const struct segment *segment, uint64_t pages);
uint64_t segment_used_bytes(const struct segment *segment);

/* Has the file own the disk blocks for a commit of `pages`, unless it is small, and for some more like it: at most 16 MiB,
 * or a sixteenth of a small segment. That the file has them is not promised: a commit finds out itself what there is no room for. Its size stays. */
void segment_allocate(struct segment *segment, uint64_t pages);
/* Gives back those that are not used. Both with log.lock held exclusively. */
void segment_trim(struct segment *segment);

bool segment_is_empty(const struct segment *segment);

/* One transaction: the runs become blocks, the positions are merged by maximum, the tally follows (in *ret_tally: the
 * caller puts it into the segment, with the transaction's number, which is segment->txn + 1). SPOOL_EFULL: the map is
 * full. After any failure of the commit itself (*ret_committing) the caller must open the segment anew. */
int segment_append(struct segment *segment, struct log_run *runs, size_t n, const struct log_position *positions,
                   size_t position_count, struct segment_tally *ret_tally, bool *ret_committing);
/* Sets first_seq of runs that were appended after `before`. */
void segment_number_runs(const struct segment_tally *before, struct log_run *runs, size_t n);

/* ---- segment_read.c ---- */

/* What stands where a block cannot be believed: [first, end) of the lane, and a malloc'd copy of its bytes (may be
 * NULL). */
struct segment_flaw {
    uint64_t first, end;
    uint8_t *bytes;
    size_t size;
};
/* The block that holds `seq`, or the first one after. SPOOL_ENOTFOUND: none in this segment. SPOOL_EDAMAGED: *ret_flaw
 * is filled (ret_flaw->bytes is the caller's to free); seq < ret_flaw->end. */
int segment_read(const struct segment *segment, int lane, uint64_t seq, struct store_block **ret,
                 struct segment_flaw *ret_flaw);

/* First sequence number of the first block whose largest id is >= `id`; a damaged block counts as one. SPOOL_ENOTFOUND.
 */
int segment_seek(const struct segment *segment, int lane, const struct spool_id *id, uint64_t *ret_seq);

/* SPOOL_ENOTFOUND if there is none. */
int segment_position(const struct segment *segment, const uint8_t uuid[JOURNAL_UUID_SIZE], uint64_t *ret_applied);
int segment_each_position(const struct segment *segment, int (*each)(void *user, const struct log_position *position),
                          void *user);
int segment_snapshot(const struct segment *segment, struct buffer *out);

/* The same inside a transaction. */
int segment_get_row(const struct segment *segment, MDB_txn *txn, const char *key, struct segment_row *ret);
int segment_get_position(const struct segment *segment, MDB_txn *txn, const uint8_t uuid[JOURNAL_UUID_SIZE],
                         uint64_t *ret_applied);

/* Keys of the meta tree. A position's key is the prefix and the journal's uuid. */
#define SEGMENT_KEY_HEAD "head"
#define SEGMENT_KEY_TALLY "tally"
#define SEGMENT_KEY_SNAPSHOT "snapshot"
enum { SEGMENT_POSITION_PREFIX = 9, SEGMENT_POSITION_KEY = SEGMENT_POSITION_PREFIX + JOURNAL_UUID_SIZE };
void segment_position_key(const uint8_t uuid[JOURNAL_UUID_SIZE], uint8_t ret[SEGMENT_POSITION_KEY]);
bool segment_is_position_key(const MDB_val *key);

/* LMDB's code as ours, with a message: errno stays, MDB_MAP_FULL is SPOOL_EFULL, what tells of damage SPOOL_EDAMAGED.
 */
int segment_error(uint64_t number, int rc, const char *doing);
/* What dir_open_file() answered instead of a descriptor; the message stands. */
int segment_file_error(int fd);

#endif
