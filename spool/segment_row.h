/* segment_row.h - rows of a segment's "meta" tree: what is known about the segment besides its blocks.
 *
 * (segment_row.c has the format in prose.) Each row carries magic, kind and checksum, so that one found anywhere in a
 * damaged file can be believed. Private to the segment's and the log's files. */
#ifndef SPOOL_SEGMENT_ROW_H
#define SPOOL_SEGMENT_ROW_H

#include "journal.h"
#include "store.h"

enum segment_row_kind { ROW_HEAD = 1, ROW_TALLY, ROW_POSITION, ROW_SNAPSHOT };
enum { ROW_HEADER = 32, ROW_HEAD_SIZE = ROW_HEADER + 72, ROW_TALLY_SIZE = ROW_HEADER + 48 * LANES + 8 };
enum { ROW_POSITION_SIZE = ROW_HEADER + 24 };
extern const uint8_t ROW_MAGIC[8];

/* Written once, when the segment is made. */
struct segment_head {
    uint64_t number, created_ns;
    uint64_t base[LANES];       /* sequence number of the first event that can stand here */
    struct spool_id max_before; /* the largest id in all segments before */
};

/* Written with each commit. */
struct segment_lane_tally {
    uint64_t next, events; /* next is behind the last event; events < next - base where some were lost */
    struct spool_id min_id, max_id;
};
struct segment_tally {
    struct segment_lane_tally lane[LANES];
    uint32_t blocks; /* how many the commit that wrote this row stored */
};

struct segment_row {
    enum segment_row_kind kind;
    uint64_t commit; /* the transaction that wrote it */
    const uint8_t *payload;
    size_t size;
};

/* Each writes a whole row of the size named ROW_*_SIZE at `dst`. */
void row_write_head(uint8_t *dst, uint64_t commit, const struct segment_head *head);
void row_write_tally(uint8_t *dst, uint64_t commit, const struct segment_tally *tally);
void row_write_position(uint8_t *dst, uint64_t commit, const uint8_t uuid[JOURNAL_UUID_SIZE], uint64_t applied);
/* ROW_HEADER + size bytes. */
void row_write_snapshot(uint8_t *dst, uint64_t commit, const void *snapshot, size_t size);

/* How long the row that begins here says it is; nothing is checked. At least ROW_HEADER bytes are read. */
size_t row_size(const uint8_t *row);

/* SPOOL_EDAMAGED: it is not a whole row of exactly `size` bytes. */
int row_check(const uint8_t *row, size_t size, struct segment_row *ret);

/* Their payload; SPOOL_EDAMAGED for another kind or size, SPOOL_EVERSION for the head of another format. */
int row_read_head(const struct segment_row *row, struct segment_head *ret);
int row_read_tally(const struct segment_row *row, struct segment_tally *ret);
int row_read_position(const struct segment_row *row, uint8_t ret_uuid[JOURNAL_UUID_SIZE], uint64_t *ret_applied);

#endif
