/* segment_salvage.h - what is whole in a damaged segment, in a new file of the same number. Private to the log's files.
 */
#ifndef SPOOL_SEGMENT_SALVAGE_H
#define SPOOL_SEGMENT_SALVAGE_H

#include "segment.h"

/* What the neighbours know: where the one before ends (zeros if there is none), and the one behind begins (UINT64_MAX).
 * Nothing may stand outside of that: a file that was put here from elsewhere must not put the lanes out of order. */
struct salvage_hint {
    uint64_t base[LANES], end[LANES];
    struct spool_id max_before;
    bool newest;
};
struct salvage_result {
    uint64_t blocks, events; /* saved */
    uint64_t lost;           /* events missing among them, as far as is known */
    bool end_known;          /* otherwise numbers may have been given that nothing here tells of */
};

/* Builds a whole segment from what is whole in the file, puts it in its place, and the damaged one into quarantine/.
 * log.lock is held exclusively. After a failure everything is as it was. */
int segment_salvage(const struct dir *dir, uint64_t number, const struct salvage_hint *hint,
                    struct salvage_result *ret);

/* The same in memory, when the disk has no room: the damaged file stays where it is. *ret_segment is released with
 * segment_close(). */
int segment_salvage_in_memory(const struct dir *dir, uint64_t number, const struct salvage_hint *hint,
                              struct salvage_result *ret, struct segment **ret_segment);

/* The whole file `tmp` takes the name of a segment, whose file gets the name `old`. After a failure everything is as it was,
 * and `tmp` is gone. */
int segment_swap(const struct dir *dir, const char *tmp, const char *name, const char *old);

/* ---- segment_rewrite.c ---- */

/* Copies an open segment, which is whole, into a new file in its place: after a flush has failed, no later one of the same
 * file can be believed (the kernel takes its pages for clean), but all of it can be read. log.lock is held exclusively.
 * The caller opens it anew; after a failure everything is as it was. */
int segment_rewrite(const struct dir *dir, const struct segment *segment);

/* ---- segment_find.c: the search ---- */

struct found_block {
    struct block_info info;
    uint64_t offset; /* in the file */
};
struct found_position {
    struct log_position position;
    uint64_t commit;
};
struct found_tally {
    struct segment_tally tally;
    uint64_t commit;
};
struct found {
    int fd;
    struct found_block *blocks;
    struct found_position *positions;
    struct found_tally *tallies;
    size_t block_count, position_count, tally_count;
    size_t block_cap, position_cap, tally_cap;
    struct segment_head head;
    bool have_head;
    uint32_t other_format;                                    /* of a head that is not ours; 0: none */
    uint64_t snapshot_offset, snapshot_size, snapshot_commit; /* size 0: none */
    uint64_t file_bytes;
    /* Of LMDB's meta pages: the last transaction that is known to be committed, and whether none can be later. */
    uint64_t certain_txn;
    bool metas_whole;
};

/* Every block and row in the file whose checksum holds, in the order of their places. */
int segment_find(int fd, struct found *ret);
void segment_find_free(struct found *found);
/* Reads `size` bytes at `offset` into a buffer that it grows. */
int segment_find_read(const struct found *found, uint64_t offset, size_t size, struct buffer *out);

#endif
