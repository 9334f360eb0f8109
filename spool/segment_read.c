/* segment_read.c - reading a segment: blocks by sequence number or id, rows of the meta tree.
 *
 * Each call is a read transaction of its own. Blocks are copied out; nothing points into the map when a call returns.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/base/bytes.h"
#include "../lib/base/error.h"
#include "segment.h"

/* --------------------------------------------------------------------------------------------------------- a scan */

/* A cursor on a lane, and the block it stands on. */
struct scan {
    const struct segment *segment;
    MDB_txn *txn;
    MDB_cursor *cursor;
    int lane;
    uint64_t first; /* the block's key */
    MDB_val value;
};

static int scan_begin(struct scan *scan, const struct segment *segment, int lane)
{
    *scan = (struct scan){.segment = segment, .lane = lane};
    int rc = mdb_txn_begin(segment->env, NULL, MDB_RDONLY, &scan->txn);
    if (rc)
        return segment_error(segment->number, rc, "cannot be read");
    rc = mdb_cursor_open(scan->txn, segment->lane[lane], &scan->cursor);
    if (rc == 0)
        return SPOOL_OK;
    mdb_txn_abort(scan->txn);
    return segment_error(segment->number, rc, "cannot be read");
}

static void scan_end(struct scan *scan)
{
    mdb_cursor_close(scan->cursor);
    mdb_txn_abort(scan->txn);
}

/* SPOOL_ENOTFOUND at the end. `seq` matters for MDB_SET_RANGE. */
static int scan_move(struct scan *scan, MDB_cursor_op op, uint64_t seq)
{
    MDB_val key = {sizeof seq, &seq};
    int rc = mdb_cursor_get(scan->cursor, &key, &scan->value, op);
    if (rc == MDB_NOTFOUND)
        return err_set(SPOOL_ENOTFOUND, "no such block");
    if (rc)
        return segment_error(scan->segment->number, rc, "a block cannot be read");
    if (key.mv_size != sizeof scan->first)
        return err_set(SPOOL_EDAMAGED, "segment %" PRIu64 ": a block's key is %zu bytes long", scan->segment->number,
                       key.mv_size);
    memcpy(&scan->first, key.mv_data, sizeof scan->first);
    return SPOOL_OK;
}

/* Whether the block is the one that its key says. */
static int scan_peek(const struct scan *scan, struct block_info *ret)
{
    int code = block_peek(scan->value.mv_data, scan->value.mv_size, ret);
    if (!code && (ret->lane != scan->lane || ret->first_seq != scan->first))
        return err_set(SPOOL_EDAMAGED,
                       "a block of lane %s, event %" PRIu64 " stands where that of lane %s, event %" PRIu64 " should",
                       lane_name(ret->lane), ret->first_seq, lane_name(scan->lane), scan->first);
    return code;
}

/* Where the block must end: at the next one, or at the end of the segment. Does not move the scan's block. */
static uint64_t scan_bound(struct scan *scan)
{
    struct scan next = *scan;
    uint64_t end = scan->segment->tally.lane[scan->lane].next;
    if (scan_move(&next, MDB_NEXT, 0) == SPOOL_OK)
        end = next.first;
    return end > scan->first ? end : scan->first + 1;
}

/* ----------------------------------------------------------------------------------------------- by sequence number */

static bool block_reaches(struct scan *scan, uint64_t seq)
{
    struct block_info info;
    if (scan_peek(scan, &info) == SPOOL_OK)
        return seq - info.first_seq < info.count;
    /* A block that cannot be believed holds all up to the next one. The cursor must come back to it. */
    bool reaches = seq < scan_bound(scan);
    scan_move(scan, MDB_SET_RANGE, scan->first);
    return reaches;
}

/* Stands on the block that holds `seq`, or on the first one after. */
static int scan_to(struct scan *scan, uint64_t seq)
{
    int after = scan_move(scan, MDB_SET_RANGE, seq);
    if (after != SPOOL_OK && after != SPOOL_ENOTFOUND)
        return after;
    if (after == SPOOL_OK && scan->first == seq)
        return SPOOL_OK;
    int before = scan_move(scan, after == SPOOL_OK ? MDB_PREV : MDB_LAST, 0);
    if (before == SPOOL_OK && block_reaches(scan, seq))
        return SPOOL_OK;
    return before == SPOOL_OK || before == SPOOL_ENOTFOUND ? scan_move(scan, MDB_SET_RANGE, seq) : before;
}

static void describe_flaw(struct scan *scan, struct segment_flaw *ret)
{
    ret->first = scan->first;
    ret->end = scan_bound(scan);
    ret->size = scan->value.mv_size;
    ret->bytes = malloc(ret->size ? ret->size : 1);
    if (ret->bytes)
        memcpy(ret->bytes, scan->value.mv_data, ret->size);
}

static int copy_block(struct scan *scan, struct store_block **ret, struct segment_flaw *ret_flaw)
{
    struct block_info info;
    int code = scan_peek(scan, &info);
    if (!code)
        code = block_copy(scan->value.mv_data, scan->value.mv_size, ret);
    if (code != SPOOL_EDAMAGED)
        return code;
    char why[256]; /* where the block ends is asked of LMDB, which may leave a message, too */
    snprintf(why, sizeof why, "%s", err_last());
    describe_flaw(scan, ret_flaw);
    return err_set(code, "%s", why);
}

int segment_read(const struct segment *segment, int lane, uint64_t seq, struct store_block **ret,
                 struct segment_flaw *ret_flaw)
{
    struct scan scan;
    int code = scan_begin(&scan, segment, lane);
    if (code)
        return code;
    code = scan_to(&scan, seq);
    if (code ==
        SPOOL_EDAMAGED) /* LMDB stumbled in spite of the check: nothing in this segment can be reached any more */
        *ret_flaw = (struct segment_flaw){.first = seq, .end = segment->tally.lane[lane].next};
    if (!code)
        code = copy_block(&scan, ret, ret_flaw);
    scan_end(&scan);
    return code;
}

/* ----------------------------------------------------------------------------------------------------------- by id */

/* Blocks are only roughly in the order of ids (a dead process's journal may come in late), so that each is looked at: a
 * thousand headers in a full segment of large blocks. */
int segment_seek(const struct segment *segment, int lane, const struct spool_id *id, uint64_t *ret_seq)
{
    struct scan scan;
    int code = scan_begin(&scan, segment, lane);
    if (code)
        return code;
    for (code = scan_move(&scan, MDB_FIRST, 0); code == SPOOL_OK; code = scan_move(&scan, MDB_NEXT, 0)) {
        struct block_info info;
        if (scan_peek(&scan, &info) != SPOOL_OK || memcmp(&info.max_id, id, sizeof *id) >= 0)
            break;
    }
    if (code == SPOOL_OK)
        *ret_seq = scan.first;
    scan_end(&scan);
    return code;
}

/* ------------------------------------------------------------------------------------------------------------ rows */

void segment_position_key(const uint8_t uuid[JOURNAL_UUID_SIZE], uint8_t ret[SEGMENT_POSITION_KEY])
{
    memcpy(ret, "position/", SEGMENT_POSITION_PREFIX);
    memcpy(ret + SEGMENT_POSITION_PREFIX, uuid, JOURNAL_UUID_SIZE);
}

bool segment_is_position_key(const MDB_val *key)
{
    return key->mv_size == SEGMENT_POSITION_KEY && memcmp(key->mv_data, "position/", SEGMENT_POSITION_PREFIX) == 0;
}

static int get_row(const struct segment *segment, MDB_txn *txn, MDB_val key, struct segment_row *ret)
{
    MDB_val value;
    int rc = mdb_get(txn, segment->meta, &key, &value);
    if (rc == MDB_NOTFOUND)
        return err_set(SPOOL_ENOTFOUND, "segment %" PRIu64 " has no such row", segment->number);
    if (rc)
        return segment_error(segment->number, rc, "a row cannot be read");
    return row_check(value.mv_data, value.mv_size, ret);
}

int segment_get_row(const struct segment *segment, MDB_txn *txn, const char *key, struct segment_row *ret)
{
    int code = get_row(segment, txn, (MDB_val){strlen(key), (void *)key}, ret);
    if (code == SPOOL_ENOTFOUND && strcmp(key, SEGMENT_KEY_SNAPSHOT) != 0)
        return err_set(SPOOL_EDAMAGED, "segment %" PRIu64 " has no %s", segment->number, key);
    return code;
}

int segment_get_position(const struct segment *segment, MDB_txn *txn, const uint8_t uuid[JOURNAL_UUID_SIZE],
                         uint64_t *ret_applied)
{
    uint8_t key[SEGMENT_POSITION_KEY], stored[JOURNAL_UUID_SIZE];
    segment_position_key(uuid, key);
    struct segment_row row;
    uint64_t applied;
    int code = get_row(segment, txn, (MDB_val){sizeof key, key}, &row);
    if (!code)
        code = row_read_position(&row, stored, &applied);
    if (!code && memcmp(stored, uuid, JOURNAL_UUID_SIZE) != 0)
        return err_set(SPOOL_EDAMAGED, "segment %" PRIu64 ": the position of one journal stands under another",
                       segment->number);
    if (!code)
        *ret_applied = applied;
    return code;
}

int segment_position(const struct segment *segment, const uint8_t uuid[JOURNAL_UUID_SIZE], uint64_t *ret_applied)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(segment->env, NULL, MDB_RDONLY, &txn);
    if (rc)
        return segment_error(segment->number, rc, "cannot be read");
    int code = segment_get_position(segment, txn, uuid, ret_applied);
    mdb_txn_abort(txn);
    return code;
}

static int give_position(const MDB_val *value, int (*each)(void *user, const struct log_position *position), void *user)
{
    struct segment_row row;
    struct log_position position;
    int code = row_check(value->mv_data, value->mv_size, &row);
    if (!code)
        code = row_read_position(&row, position.uuid, &position.applied);
    return code ? code : each(user, &position);
}

static int walk_positions(const struct segment *segment, MDB_cursor *cursor,
                          int (*each)(void *user, const struct log_position *position), void *user)
{
    MDB_val key, value;
    int rc, code = SPOOL_OK;
    for (rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST); !rc && !code;) {
        if (segment_is_position_key(&key))
            code = give_position(&value, each, user);
        if (!code)
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    if (!code && rc != MDB_NOTFOUND)
        return segment_error(segment->number, rc, "positions cannot be read");
    return code;
}

int segment_each_position(const struct segment *segment, int (*each)(void *user, const struct log_position *position),
                          void *user)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    int rc = mdb_txn_begin(segment->env, NULL, MDB_RDONLY, &txn);
    if (rc)
        return segment_error(segment->number, rc, "cannot be read");
    rc = mdb_cursor_open(txn, segment->meta, &cursor);
    int code = rc ? segment_error(segment->number, rc, "cannot be read") : walk_positions(segment, cursor, each, user);
    if (!rc)
        mdb_cursor_close(cursor);
    mdb_txn_abort(txn);
    return code;
}

int segment_snapshot(const struct segment *segment, struct buffer *out)
{
    MDB_txn *txn;
    struct segment_row row;
    int rc = mdb_txn_begin(segment->env, NULL, MDB_RDONLY, &txn);
    if (rc)
        return segment_error(segment->number, rc, "cannot be read");
    int code = segment_get_row(segment, txn, SEGMENT_KEY_SNAPSHOT, &row);
    if (!code && row.kind != ROW_SNAPSHOT)
        code = err_set(SPOOL_EDAMAGED, "segment %" PRIu64 ": its snapshot is another row", segment->number);
    if (!code)
        code = buffer_put(out, row.payload, row.size);
    mdb_txn_abort(txn);
    return code;
}
