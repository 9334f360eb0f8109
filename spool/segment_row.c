/* segment_row.c - the rows of a segment's "meta" tree.
 *
 *   offset size
 *        0    8  magic "SPLrow1\n"
 *        8    4  CRC32C of everything behind this field
 *       12    4  size of the whole row
 *       16    4  kind
 *       20    4  zero
 *       24    8  commit: the LMDB transaction that wrote the row
 *       32       payload by kind:
 *
 *   1 head      u32 format of the segment (1), u32 number of lanes (4), u64 number, u64 created (ns since 1970), u64
 * base of each lane, 16 bytes largest id before 2 tally     for each lane: u64 next, u64 events, 16 bytes smallest id,
 * 16 bytes largest id; u32 blocks of the commit, u32 zero 3 position  16 bytes uuid of a journal, u64 position below
 * which its records are in segments 4 snapshot  sinks and cursors, as the state wrote them
 *
 * A row is valid if and only if its checksum matches and its size and kind fit. The format of the head is that of the
 * whole segment: to change anything here or in the trees, increase SEGMENT_FORMAT and keep reading format 1; rows of
 * unknown kinds are ignored by readers. */
#include "segment_row.h"

#include <string.h>

#include "../lib/base/bytes.h"
#include "../lib/base/crc32c.h"
#include "../lib/base/error.h"
#include "block.h"

const uint8_t ROW_MAGIC[8] = {'S', 'P', 'L', 'r', 'o', 'w', '1', '\n'};

enum { SEGMENT_FORMAT = 1, LANE_TALLY = 48 };
static const uint64_t POSITION_MAX = UINT64_C(1) << 62; /* of a journal */
_Static_assert(ROW_HEAD_SIZE == ROW_HEADER + 24 + 8 * LANES + 16, "the format is fixed");
_Static_assert(sizeof(struct spool_id) == 16, "ids are written as they are");

/* ------------------------------------------------------------------------------------------------------- writing */

/* The payload stands already. */
static void finish_row(uint8_t *dst, enum segment_row_kind kind, uint64_t commit, size_t size)
{
    memcpy(dst, ROW_MAGIC, sizeof ROW_MAGIC);
    put_u32(dst + 12, (uint32_t)size);
    put_u32(dst + 16, kind);
    put_u32(dst + 20, 0);
    put_u64(dst + 24, commit);
    put_u32(dst + 8, crc32c(0, dst + 12, size - 12));
}

void row_write_head(uint8_t *dst, uint64_t commit, const struct segment_head *head)
{
    uint8_t *p = dst + ROW_HEADER;
    put_u32(p, SEGMENT_FORMAT);
    put_u32(p + 4, LANES);
    put_u64(p + 8, head->number);
    put_u64(p + 16, head->created_ns);
    for (int lane = 0; lane < LANES; lane++)
        put_u64(p + 24 + 8 * lane, head->base[lane]);
    memcpy(p + 24 + 8 * LANES, &head->max_before, sizeof head->max_before);
    finish_row(dst, ROW_HEAD, commit, ROW_HEAD_SIZE);
}

void row_write_tally(uint8_t *dst, uint64_t commit, const struct segment_tally *tally)
{
    uint8_t *p = dst + ROW_HEADER;
    for (int lane = 0; lane < LANES; lane++, p += LANE_TALLY) {
        const struct segment_lane_tally *of = &tally->lane[lane];
        put_u64(p, of->next);
        put_u64(p + 8, of->events);
        memcpy(p + 16, &of->min_id, sizeof of->min_id);
        memcpy(p + 32, &of->max_id, sizeof of->max_id);
    }
    put_u32(p, tally->blocks);
    put_u32(p + 4, 0);
    finish_row(dst, ROW_TALLY, commit, ROW_TALLY_SIZE);
}

void row_write_position(uint8_t *dst, uint64_t commit, const uint8_t uuid[JOURNAL_UUID_SIZE], uint64_t applied)
{
    memcpy(dst + ROW_HEADER, uuid, JOURNAL_UUID_SIZE);
    put_u64(dst + ROW_HEADER + JOURNAL_UUID_SIZE, applied);
    finish_row(dst, ROW_POSITION, commit, ROW_POSITION_SIZE);
}

void row_write_snapshot(uint8_t *dst, uint64_t commit, const void *snapshot, size_t size)
{
    if (size)
        memcpy(dst + ROW_HEADER, snapshot, size);
    finish_row(dst, ROW_SNAPSHOT, commit, ROW_HEADER + size);
}

/* ------------------------------------------------------------------------------------------------------- reading */

size_t row_size(const uint8_t *row)
{
    return get_u32(row + 12);
}

int row_check(const uint8_t *row, size_t size, struct segment_row *ret)
{
    if (size < ROW_HEADER || memcmp(row, ROW_MAGIC, sizeof ROW_MAGIC) != 0 || row_size(row) != size)
        return err_set(SPOOL_EDAMAGED, "a row of %zu bytes in the segment's meta tree is none", size);
    if (get_u32(row + 8) != crc32c(0, row + 12, size - 12))
        return err_set(SPOOL_EDAMAGED, "the checksum of a row in the segment's meta tree does not match");
    ret->kind = get_u32(row + 16);
    ret->commit = get_u64(row + 24);
    ret->payload = row + ROW_HEADER;
    ret->size = size - ROW_HEADER;
    return SPOOL_OK;
}

static int check_kind(const struct segment_row *row, enum segment_row_kind kind, size_t whole_size)
{
    if (row->kind == kind && row->size == whole_size - ROW_HEADER)
        return SPOOL_OK;
    return err_set(SPOOL_EDAMAGED, "a row of the segment's meta tree has kind %d and %zu bytes instead of kind %d",
                   (int)row->kind, row->size, (int)kind);
}

static int impossible(const char *what)
{
    return err_set(SPOOL_EDAMAGED, "a row of the segment's meta tree has an impossible %s", what);
}

int row_read_head(const struct segment_row *row, struct segment_head *ret)
{
    const uint8_t *p = row->payload;
    if (row->kind == ROW_HEAD && row->size >= 8 && (get_u32(p) != SEGMENT_FORMAT || get_u32(p + 4) != LANES))
        return err_set(SPOOL_EVERSION, "the segment has format %u with %u lanes; this libspool reads format %d with %d",
                       get_u32(p), get_u32(p + 4), SEGMENT_FORMAT, LANES);
    int code = check_kind(row, ROW_HEAD, ROW_HEAD_SIZE);
    if (code)
        return code;
    ret->number = get_u64(p + 8);
    ret->created_ns = get_u64(p + 16);
    for (int lane = 0; lane < LANES; lane++) {
        ret->base[lane] = get_u64(p + 24 + 8 * lane);
        if (ret->base[lane] >= BLOCK_SEQ_MAX)
            return impossible("sequence number");
    }
    memcpy(&ret->max_before, p + 24 + 8 * LANES, sizeof ret->max_before);
    return SPOOL_OK;
}

int row_read_tally(const struct segment_row *row, struct segment_tally *ret)
{
    int code = check_kind(row, ROW_TALLY, ROW_TALLY_SIZE);
    if (code)
        return code;
    const uint8_t *p = row->payload;
    for (int lane = 0; lane < LANES; lane++, p += LANE_TALLY) {
        struct segment_lane_tally *of = &ret->lane[lane];
        of->next = get_u64(p);
        if (of->next >= BLOCK_SEQ_MAX)
            return impossible("sequence number");
        of->events = get_u64(p + 8);
        memcpy(&of->min_id, p + 16, sizeof of->min_id);
        memcpy(&of->max_id, p + 32, sizeof of->max_id);
    }
    ret->blocks = get_u32(p);
    return SPOOL_OK;
}

int row_read_position(const struct segment_row *row, uint8_t ret_uuid[JOURNAL_UUID_SIZE], uint64_t *ret_applied)
{
    int code = check_kind(row, ROW_POSITION, ROW_POSITION_SIZE);
    if (code)
        return code;
    if (get_u64(row->payload + JOURNAL_UUID_SIZE) >= POSITION_MAX)
        return impossible("position of a journal");
    memcpy(ret_uuid, row->payload, JOURNAL_UUID_SIZE);
    *ret_applied = get_u64(row->payload + JOURNAL_UUID_SIZE);
    return SPOOL_OK;
}
