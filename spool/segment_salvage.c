/* segment_salvage.c - rebuilds a damaged segment from its whole blocks and rows.
 *
 * What may be believed. A file also holds what is left of older transactions, and of the last one if it was not
 * finished. With both of LMDB's meta pages whole it is known which transaction was the last: anything later is left
 * out. Otherwise the tally row with the highest commit number tells, and since that commit may not have been finished,
 * its positions count only if all of its blocks are here: a position that is too high would lose events that are still
 * in a journal, one too low only repeats some. Of two blocks that overlap the later commit's stays.
 *
 * If it cannot be known how far the newest segment went, the sequence numbers jump ahead by 2^32, so that none is ever
 * given twice. */
#include "segment_salvage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "../lib/base/bytes.h"
#include "../lib/base/error.h"
#include "../lib/base/sync.h"

enum {
    BATCH_BYTES = 16 << 20,  /* of one transaction while rebuilding */
    SPARE_BYTES = 256 << 10, /* for B-tree pages and rows */
};
static const uint64_t JUMP = 1ull << STORE_HOLE_SHIFT;

struct salvage {
    struct found found;
    const struct found_tally *last; /* the latest tally that may be believed; NULL: none */
    bool last_complete;             /* its commit was finished */
    struct segment_head head;
    struct segment_tally tally;
    struct salvage_result result;
    struct buffer scratch;
    /* While building: */
    struct segment *segment;
    MDB_txn *txn;
};

/* ------------------------------------------------------------------------------------------- what may be believed */

static bool may_be(const struct found *found, uint64_t commit)
{
    return !found->metas_whole || commit <= found->certain_txn;
}

static size_t blocks_of_commit(const struct found *found, uint64_t commit)
{
    size_t n = 0;
    for (size_t i = 0; i < found->block_count; i++)
        n += found->blocks[i].info.commit == commit;
    return n;
}

static void choose_tally(struct salvage *salvage)
{
    const struct found *found = &salvage->found;
    for (size_t i = 0; i < found->tally_count; i++) {
        const struct found_tally *tally = &found->tallies[i];
        if (may_be(found, tally->commit) && (!salvage->last || tally->commit > salvage->last->commit))
            salvage->last = tally;
    }
    if (!salvage->last)
        return;
    uint64_t commit = salvage->last->commit;
    salvage->last_complete =
        commit <= found->certain_txn || blocks_of_commit(found, commit) >= salvage->last->tally.blocks;
    salvage->result.end_known = found->metas_whole ? commit == found->certain_txn : commit > found->certain_txn;
}

static bool believe_position(const struct salvage *salvage, uint64_t commit)
{
    if (commit <= salvage->found.certain_txn)
        return true;
    if (salvage->found.metas_whole || !salvage->last)
        return false;
    return commit < salvage->last->commit || (commit == salvage->last->commit && salvage->last_complete);
}

/* By lane and place; of two at one place the later, and then the longer, comes first. */
static int by_place(const void *a, const void *b)
{
    const struct block_info *x = &((const struct found_block *)a)->info, *y = &((const struct found_block *)b)->info;
    if (x->lane != y->lane)
        return x->lane - y->lane;
    if (x->first_seq != y->first_seq)
        return x->first_seq < y->first_seq ? -1 : 1;
    if (x->commit != y->commit)
        return x->commit > y->commit ? -1 : 1;
    return (x->count < y->count) - (x->count > y->count);
}

static bool belongs_here(const struct found *found, const struct block_info *info, const struct salvage_hint *hint)
{
    if (found->have_head && info->first_seq < found->head.base[info->lane])
        return false;
    return info->first_seq >= hint->base[info->lane] && info->first_seq < hint->end[info->lane] &&
           info->count <= hint->end[info->lane] - info->first_seq;
}

/* Sorts the blocks and leaves out what must not stay. */
static void choose_blocks(struct salvage *salvage, const struct salvage_hint *hint)
{
    struct found *found = &salvage->found;
    size_t kept = 0;
    if (found->block_count)
        qsort(found->blocks, found->block_count, sizeof *found->blocks, by_place);
    for (size_t i = 0; i < found->block_count; i++) {
        const struct block_info *info = &found->blocks[i].info;
        if (!may_be(found, info->commit) || !belongs_here(found, info, hint))
            continue;
        const struct block_info *before = kept ? &found->blocks[kept - 1].info : NULL;
        bool overlaps = before && before->lane == info->lane && before->first_seq + before->count > info->first_seq;
        if (!overlaps)
            found->blocks[kept++] = found->blocks[i];
        else if (before->commit < info->commit)
            found->blocks[kept - 1] = found->blocks[i];
    }
    found->block_count = kept;
}

/* ------------------------------------------------------------------------------------------------- head and tally */

/* Without a head: what the segment before says, or else the first block, or else where the lane went on. */
static uint64_t guess_base(const struct salvage *salvage, const struct salvage_hint *hint, int lane)
{
    const struct found *found = &salvage->found;
    if (hint->base[lane])
        return hint->base[lane];
    for (size_t i = 0; i < found->block_count; i++) {
        if (found->blocks[i].info.lane == lane)
            return found->blocks[i].info.first_seq;
    }
    return salvage->last ? salvage->last->tally.lane[lane].next : 0;
}

static uint64_t clamp(uint64_t seq, uint64_t least, uint64_t most)
{
    return seq < least ? least : seq > most ? most : seq;
}

static void make_head(struct salvage *salvage, uint64_t number, const struct salvage_hint *hint)
{
    struct segment_head *head = &salvage->head;
    if (salvage->found.have_head) {
        *head = salvage->found.head;
    } else {
        head->created_ns = real_ns();
        head->max_before = hint->max_before;
        for (int lane = 0; lane < LANES; lane++)
            head->base[lane] = guess_base(salvage, hint, lane);
    }
    for (int lane = 0; lane < LANES; lane++)
        head->base[lane] = clamp(head->base[lane], hint->base[lane], hint->end[lane]);
    head->number = number;
}

static void add_block(struct segment_lane_tally *lane, const struct block_info *info)
{
    if (!lane->events || memcmp(&info->min_id, &lane->min_id, sizeof info->min_id) < 0)
        lane->min_id = info->min_id;
    if (!lane->events || memcmp(&info->max_id, &lane->max_id, sizeof info->max_id) > 0)
        lane->max_id = info->max_id;
    lane->events += info->count;
    if (lane->next < info->first_seq + info->count)
        lane->next = info->first_seq + info->count;
}

/* Counts what is saved and what is missing; then the jump, if it must be. */
static void make_tally(struct salvage *salvage, const struct salvage_hint *hint)
{
    const struct found *found = &salvage->found;
    struct segment_tally *tally = &salvage->tally;
    for (int lane = 0; lane < LANES; lane++) {
        uint64_t base = salvage->head.base[lane], known = salvage->last ? salvage->last->tally.lane[lane].next : base;
        tally->lane[lane].next = clamp(known, base, hint->end[lane]);
    }
    for (size_t i = 0; i < found->block_count; i++)
        add_block(&tally->lane[found->blocks[i].info.lane], &found->blocks[i].info);
    salvage->result.blocks = found->block_count;
    for (int lane = 0; lane < LANES; lane++) {
        struct segment_lane_tally *of = &tally->lane[lane];
        salvage->result.events += of->events;
        uint64_t span = of->next - salvage->head.base[lane];
        salvage->result.lost += span > of->events ? span - of->events : 0;
        if (hint->newest && !salvage->result.end_known)
            of->next += JUMP;
    }
}

/* -------------------------------------------------------------------------------------------------------- building */

static int begin(struct salvage *salvage)
{
    int rc = mdb_txn_begin(salvage->segment->env, NULL, 0, &salvage->txn);
    return rc ? segment_error(salvage->head.number, rc, "cannot be rebuilt") : SPOOL_OK;
}

static int commit(struct salvage *salvage)
{
    int rc = mdb_txn_commit(salvage->txn);
    salvage->txn = NULL;
    return rc ? segment_error(salvage->head.number, rc, "cannot be rebuilt") : SPOOL_OK;
}

static int put_block(struct salvage *salvage, const struct found_block *block)
{
    struct block_info info;
    size_t size = BLOCK_HEADER + (size_t)block->info.size;
    int code = segment_find_read(&salvage->found, block->offset, size, &salvage->scratch);
    if (!code)
        code = block_check(salvage->scratch.data, size, &info);
    return code ? code : segment_put_block(salvage->segment, salvage->txn, &info, salvage->scratch.data + BLOCK_HEADER);
}

static int put_blocks(struct salvage *salvage)
{
    size_t in_batch = 0;
    int code = begin(salvage);
    for (size_t i = 0; !code && i < salvage->found.block_count; i++) {
        const struct found_block *block = &salvage->found.blocks[i];
        code = put_block(salvage, block);
        in_batch += block->info.size;
        if (code || in_batch < BATCH_BYTES)
            continue;
        code = commit(salvage);
        if (!code)
            code = begin(salvage);
        in_batch = 0;
    }
    return code ? code : commit(salvage);
}

static int put_snapshot(struct salvage *salvage)
{
    const struct found *found = &salvage->found;
    if (!found->snapshot_size)
        return SPOOL_OK;
    int code = segment_find_read(found, found->snapshot_offset, found->snapshot_size, &salvage->scratch);
    if (code)
        return code;
    return segment_put_snapshot(salvage->segment, salvage->txn, salvage->scratch.data, salvage->scratch.size);
}

static int put_rows(struct salvage *salvage)
{
    const struct found *found = &salvage->found;
    int code = begin(salvage);
    for (size_t i = 0; !code && i < found->position_count; i++) {
        if (believe_position(salvage, found->positions[i].commit))
            code = segment_put_position(salvage->segment, salvage->txn, &found->positions[i].position);
    }
    if (!code)
        code = segment_put_head(salvage->segment, salvage->txn, &salvage->head);
    if (!code)
        code = put_snapshot(salvage);
    if (!code)
        code = segment_put_tally(salvage->segment, salvage->txn, &salvage->tally);
    return code ? code : commit(salvage);
}

static int build(void *user, struct segment *segment)
{
    struct salvage *salvage = user;
    salvage->segment = segment;
    int code = put_blocks(salvage);
    if (!code)
        code = put_rows(salvage);
    if (salvage->txn)
        mdb_txn_abort(salvage->txn);
    return code;
}

/* ------------------------------------------------------------------------------------------------------- in its place
 */

/* A name that may not last, or is nobody's, is given back: the log must not go on in a file that a crash takes away. */
static int take_back(int fd, const char *tmp, const char *name, const char *damaged, int code)
{
    if (renameat(fd, damaged, fd, name) == 0)
        unlinkat(fd, tmp, 0);
    return code;
}

/* The new file takes the name in the same instant as the old one loses it. Where the file system cannot do that, a
 * crash in between leaves the old one under its third name, from where the next open puts it back (log.c). */
int segment_swap(const struct dir *dir, const char *tmp, const char *name, const char *damaged)
{
    int fd = dir->segments_fd;
    bool swapped = renameat2(fd, tmp, fd, name, RENAME_EXCHANGE) == 0;
    if (renameat(fd, swapped ? tmp : name, fd, damaged)) {
        int code = err_errno(errno, "segments/%s: cannot be renamed", name);
        if (!swapped || renameat2(fd, tmp, fd, name, RENAME_EXCHANGE) == 0)
            unlinkat(fd, tmp, 0);
        return code;
    }
    if (!swapped && renameat(fd, tmp, fd, name))
        return take_back(fd, tmp, name, damaged, err_errno(errno, "segments/%s: cannot be renamed", tmp));
    int code = dir_flush(fd);
    return code ? take_back(fd, tmp, name, damaged, code) : SPOOL_OK;
}

/* Packed anew the blocks take no more room than they did, but for a B-tree page here and there. */
static uint64_t map_bytes_for(const struct dir *dir, const struct salvage *salvage)
{
    uint64_t bytes = round_up(salvage->found.file_bytes + salvage->found.file_bytes / 8 + (1 << 20), 65536);
    return bytes > dir->segment_bytes ? bytes : dir->segment_bytes;
}

/* So that no room is taken in vain, again and again: acknowledgements may need what is left. */
static int check_room(const struct dir *dir, const struct salvage *salvage)
{
    struct statvfs st;
    if (fstatvfs(dir->segments_fd, &st))
        return SPOOL_OK;
    uint64_t free = (geteuid() ? st.f_bavail : st.f_bfree) * st.f_frsize, need = SPARE_BYTES;
    for (size_t i = 0; i < salvage->found.block_count; i++)
        need += BLOCK_HEADER + salvage->found.blocks[i].info.size;
    return free >= need ? SPOOL_OK : err_errno(ENOSPC, "%llu KiB are needed", (unsigned long long)need >> 10);
}

static int replace_file(const struct dir *dir, const char *name, struct salvage *salvage)
{
    char tmp[SEGMENT_NAME_SIZE + 8], damaged[SEGMENT_NAME_SIZE + 12];
    snprintf(tmp, sizeof tmp, "%s.tmp", name);
    snprintf(damaged, sizeof damaged, "%s.damaged", name);
    int code = check_room(dir, salvage);
    if (!code)
        code = segment_create(dir, tmp, map_bytes_for(dir, salvage), build, salvage);
    if (!code)
        code = segment_swap(dir, tmp, name, damaged);
    if (!code) /* done: what cannot go to quarantine/ now does so at the next open */
        dir_quarantine(dir, dir->segments_fd, damaged);
    return code;
}

/* It is another segment's file under this name: what it holds stands elsewhere in the lanes, and would lead the neighbours
 * that are rebuilt by this one astray. What it says of journals is true all the same. */
static void forget_foreign(struct found *found, uint64_t number)
{
    if (!found->have_head || found->head.number == number)
        return;
    found->have_head = false;
    found->block_count = found->tally_count = 0;
}

/* With ret_segment in memory. */
static int salvage_file(const struct dir *dir, uint64_t number, const struct salvage_hint *hint,
                        struct salvage_result *ret, struct segment **ret_segment)
{
    char name[SEGMENT_NAME_SIZE];
    struct salvage salvage = {0};
    segment_name(number, name);
    int fd = dir_open_file(dir, dir->segments_fd, name, O_RDONLY);
    if (fd < 0)
        return segment_file_error(fd);
    int code = segment_find(fd, &salvage.found);
    if (!code) {
        forget_foreign(&salvage.found, number);
        choose_tally(&salvage);
        choose_blocks(&salvage, hint);
        make_head(&salvage, number, hint);
        make_tally(&salvage, hint);
        code = ret_segment
                   ? segment_create_standin(dir, number, map_bytes_for(dir, &salvage), build, &salvage, ret_segment)
                   : replace_file(dir, name, &salvage);
    }
    close(fd);
    segment_find_free(&salvage.found);
    buffer_free(&salvage.scratch);
    if (code)
        return err_prefix(code, "segments/%s is damaged, and cannot be rebuilt", name);
    *ret = salvage.result;
    return SPOOL_OK;
}

int segment_salvage(const struct dir *dir, uint64_t number, const struct salvage_hint *hint, struct salvage_result *ret)
{
    return salvage_file(dir, number, hint, ret, NULL);
}

int segment_salvage_in_memory(const struct dir *dir, uint64_t number, const struct salvage_hint *hint,
                              struct salvage_result *ret, struct segment **ret_segment)
{
    return salvage_file(dir, number, hint, ret, ret_segment);
}
