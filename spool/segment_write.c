/* segment_write.c - making a segment and appending to it. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../lib/base/error.h"
#include "segment.h"
#include "segment_env.h"

enum {
    PAGE_HEADER = 16,  /* LMDB's */
    COMMIT_PAGES = 48, /* copies of B-tree pages and of the free list that one commit can take */
    FULL_PERCENT = 95,
    AHEAD_PAGES_MIN = COMMIT_PAGES + 16, /* a smaller commit allocates as it goes */
    AHEAD_COMMITS = 8,
    AHEAD_BYTES_MAX = 16 << 20,
    AHEAD_PART = 16, /* of the map, no more than that */
};

/* ----------------------------------------------------------------------------------------------------- rows and blocks
 */

static int reserve(const struct segment *segment, MDB_txn *txn, MDB_dbi tree, MDB_val key, size_t size, unsigned flags,
                   uint8_t **ret)
{
    MDB_val value = {size, NULL};
    int rc = mdb_put(txn, tree, &key, &value, MDB_RESERVE | flags);
    if (rc == MDB_KEYEXIST)
        return err_set(SPOOL_EDAMAGED, "segment %" PRIu64 " holds later events than its tally says", segment->number);
    if (rc)
        return segment_error(segment->number, rc, "cannot be written");
    *ret = value.mv_data;
    return SPOOL_OK;
}

static int reserve_row(struct segment *segment, MDB_txn *txn, const char *key, size_t size, uint8_t **ret)
{
    return reserve(segment, txn, segment->meta, (MDB_val){strlen(key), (void *)key}, size, 0, ret);
}

int segment_put_head(struct segment *segment, MDB_txn *txn, const struct segment_head *head)
{
    uint8_t *at;
    int code = reserve_row(segment, txn, SEGMENT_KEY_HEAD, ROW_HEAD_SIZE, &at);
    if (!code)
        row_write_head(at, mdb_txn_id(txn), head);
    return code;
}

int segment_put_tally(struct segment *segment, MDB_txn *txn, const struct segment_tally *tally)
{
    uint8_t *at;
    int code = reserve_row(segment, txn, SEGMENT_KEY_TALLY, ROW_TALLY_SIZE, &at);
    if (!code)
        row_write_tally(at, mdb_txn_id(txn), tally);
    return code;
}

int segment_put_snapshot(struct segment *segment, MDB_txn *txn, const void *snapshot, size_t size)
{
    uint8_t *at;
    if (size == 0)
        return SPOOL_OK;
    int code = reserve_row(segment, txn, SEGMENT_KEY_SNAPSHOT, ROW_HEADER + size, &at);
    if (!code)
        row_write_snapshot(at, mdb_txn_id(txn), snapshot, size);
    return code;
}

int segment_put_position(struct segment *segment, MDB_txn *txn, const struct log_position *position)
{
    uint8_t key[SEGMENT_POSITION_KEY], *at;
    uint64_t stored = 0;
    int code = segment_get_position(segment, txn, position->uuid, &stored);
    if (code == SPOOL_OK && stored >= position->applied)
        return SPOOL_OK;
    if (code != SPOOL_OK && code != SPOOL_ENOTFOUND)
        return code;
    segment_position_key(position->uuid, key);
    code = reserve(segment, txn, segment->meta, (MDB_val){sizeof key, key}, ROW_POSITION_SIZE, 0, &at);
    if (!code)
        row_write_position(at, mdb_txn_id(txn), position->uuid, position->applied);
    return code;
}

int segment_put_block(struct segment *segment, MDB_txn *txn, struct block_info *info, const uint8_t *events)
{
    uint8_t *at;
    MDB_val key = {sizeof info->first_seq, &info->first_seq};
    int code =
        reserve(segment, txn, segment->lane[info->lane], key, BLOCK_HEADER + (size_t)info->size, MDB_APPEND, &at);
    if (code)
        return code;
    info->commit = mdb_txn_id(txn);
    block_write(at, info, events);
    return SPOOL_OK;
}

/* -------------------------------------------------------------------------------------------------------------- room
 */

uint64_t segment_pages_for(const struct segment *segment, const struct log_run *runs, size_t n)
{
    uint64_t pages = COMMIT_PAGES;
    for (size_t i = 0; i < n; i++)
        pages += (runs[i].size + BLOCK_HEADER + PAGE_HEADER) / segment->page_size + 1;
    return pages;
}

bool segment_has_room(const struct segment *segment, uint64_t pages)
{
    MDB_envinfo info;
    if (mdb_env_info(segment->env, &info))
        return false;
    return info.me_last_pgno + 1 + pages <= info.me_mapsize / segment->page_size * FULL_PERCENT / 100;
}

uint64_t segment_used_bytes(const struct segment *segment)
{
    MDB_envinfo info;
    return mdb_env_info(segment->env, &info) ? 0 : (info.me_last_pgno + 1) * (uint64_t)segment->page_size;
}

/* Where blocks for a commit up to `end` should end. */
static uint64_t ahead_of(uint64_t end, uint64_t commit_bytes, uint64_t map_bytes)
{
    uint64_t more = commit_bytes * AHEAD_COMMITS;
    more = more < AHEAD_BYTES_MAX ? more : AHEAD_BYTES_MAX;
    more = more < map_bytes / AHEAD_PART ? more : map_bytes / AHEAD_PART;
    return end + more < map_bytes ? end + more : map_bytes;
}

/* A commit that has to find disk blocks for its pages, and to note them, takes a fifth longer. */
void segment_allocate(struct segment *segment, uint64_t pages)
{
    MDB_envinfo info;
    mdb_filehandle_t fd;
    if (segment->standin || pages < AHEAD_PAGES_MIN || mdb_env_info(segment->env, &info) ||
        mdb_env_get_fd(segment->env, &fd))
        return;
    uint64_t used = (info.me_last_pgno + 1) * (uint64_t)segment->page_size, bytes = pages * segment->page_size;
    if (used + bytes <= segment->ahead)
        return;
    uint64_t from = used > segment->ahead ? used : segment->ahead, to = ahead_of(used + bytes, bytes, info.me_mapsize);
    if (to > from)
        (void)fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(to - from));
    segment->ahead = to; /* where the disk is full, or the file system cannot, that is not asked at each commit */
}

void segment_trim(struct segment *segment)
{
    struct stat st;
    mdb_filehandle_t fd;
    if (segment->standin || !segment->writable || mdb_env_get_fd(segment->env, &fd) || fstat(fd, &st))
        return;
    if ((off_t)st.st_blocks * 512 > st.st_size && ftruncate(fd, st.st_size) == 0)
        segment->ahead = 0; /* else it keeps them until it is deleted */
}

bool segment_is_empty(const struct segment *segment)
{
    for (int lane = 0; lane < LANES; lane++) {
        if (segment->tally.lane[lane].next > segment->head.base[lane])
            return false;
    }
    return true;
}

/* --------------------------------------------------------------------------------------------------------- appending
 */

static void add_to_tally(struct segment_tally *tally, const struct block_info *info)
{
    struct segment_lane_tally *lane = &tally->lane[info->lane];
    bool first = lane->events == 0;
    if (first || memcmp(&info->min_id, &lane->min_id, sizeof info->min_id) < 0)
        lane->min_id = info->min_id;
    if (first || memcmp(&info->max_id, &lane->max_id, sizeof info->max_id) > 0)
        lane->max_id = info->max_id;
    lane->next = info->first_seq + info->count;
    lane->events += info->count;
    tally->blocks++;
}

static int put_runs(struct segment *segment, MDB_txn *txn, struct segment_tally *tally, const struct log_run *runs,
                    size_t n)
{
    int code = SPOOL_OK;
    for (size_t i = 0; !code && i < n; i++) {
        struct block_info info = {
            .lane = runs[i].lane,
            .count = runs[i].count,
            .first_seq = tally->lane[runs[i].lane].next,
            .size = (uint32_t)runs[i].size,
            .codec = (enum block_codec)runs[i].codec,
            .form = (enum bundle_form)runs[i].form,
            .events_size = runs[i].events_size,
            .min_id = runs[i].min_id,
            .max_id = runs[i].max_id,
        };
        code = segment_put_block(segment, txn, &info, runs[i].events);
        if (!code)
            add_to_tally(tally, &info);
    }
    return code;
}

static int put_all(struct segment *segment, MDB_txn *txn, struct segment_tally *tally, const struct log_run *runs,
                   size_t n, const struct log_position *positions, size_t position_count)
{
    int code = put_runs(segment, txn, tally, runs, n);
    for (size_t i = 0; !code && i < position_count; i++)
        code = segment_put_position(segment, txn, &positions[i]);
    return code ? code : segment_put_tally(segment, txn, tally);
}

/* Numbers are told only now that they are certain. */
void segment_number_runs(const struct segment_tally *before, struct log_run *runs, size_t n)
{
    uint64_t next[LANES];
    for (int lane = 0; lane < LANES; lane++)
        next[lane] = before->lane[lane].next;
    for (size_t i = 0; i < n; i++) {
        runs[i].first_seq = next[runs[i].lane];
        next[runs[i].lane] += runs[i].count;
    }
}

int segment_append(struct segment *segment, struct log_run *runs, size_t n, const struct log_position *positions,
                   size_t position_count, struct segment_tally *ret_tally, bool *ret_committing)
{
    MDB_txn *txn;
    struct segment_tally tally = segment->tally;
    tally.blocks = 0;
    *ret_committing = false;
    int rc = mdb_txn_begin(segment->env, NULL, 0, &txn);
    if (rc)
        return segment_error(segment->number, rc, "cannot be written");
    int code = put_all(segment, txn, &tally, runs, n, positions, position_count);
    if (code) {
        mdb_txn_abort(txn);
        return code;
    }
    *ret_committing = true;
    rc = mdb_txn_commit(txn);
    if (rc)
        return segment_error(segment->number, rc, "cannot be written");
    segment_number_runs(&segment->tally, runs, n);
    *ret_tally = tally;
    return SPOOL_OK;
}

/* ------------------------------------------------------------------------------------------------------------ making
 */

static int make_trees(struct segment *segment)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(segment->env, NULL, 0, &txn);
    if (rc)
        return segment_error(segment->number, rc, "cannot be made");
    int code = segment_trees_open(segment, txn, MDB_CREATE);
    if (code) {
        mdb_txn_abort(txn);
        return code;
    }
    rc = mdb_txn_commit(txn);
    return rc ? segment_error(segment->number, rc, "cannot be made") : SPOOL_OK;
}

/* Made by ourselves first: with the right mode and owner, and following no link. */
static int make_file(const struct dir *dir, const char *name)
{
    if (unlinkat(dir->segments_fd, name, 0) && errno != ENOENT)
        return err_errno(errno, "segments/%s: cannot be removed", name);
    int fd = dir_open_file(dir, dir->segments_fd, name, O_RDWR | O_CREAT | O_EXCL);
    if (fd < 0)
        return segment_file_error(fd);
    close(fd);
    return SPOOL_OK;
}

static int flush_file(const struct dir *dir, const char *name)
{
    int fd = dir_open_file(dir, dir->segments_fd, name, O_RDWR);
    if (fd < 0)
        return segment_file_error(fd);
    int code = fsync(fd) ? err_errno(errno, "segments/%s: cannot be flushed", name) : SPOOL_OK;
    close(fd);
    return code;
}

int segment_create(const struct dir *dir, const char *name, uint64_t map_bytes,
                   int (*fill)(void *user, struct segment *segment), void *user)
{
    struct segment *segment = calloc(1, sizeof *segment);
    if (!segment)
        return err_errno(ENOMEM, "segments/%s", name);
    int code = make_file(dir, name);
    if (!code)
        code = segment_env_open(dir, name, map_bytes, 0, segment);
    if (!code)
        code = make_trees(segment);
    if (!code)
        code = fill(user, segment);
    segment_close(segment);
    if (!code)
        code = flush_file(dir, name);
    if (code)
        unlinkat(dir->segments_fd, name, 0);
    return code ? err_prefix(code, "segments/%s", name) : SPOOL_OK;
}

/* What the name in segments/ means now is the file that it stands for. */
static int identify(const struct dir *dir, struct segment *segment)
{
    struct stat st;
    char name[SEGMENT_NAME_SIZE];
    segment_name(segment->number, name);
    if (fstatat(dir->segments_fd, name, &st, AT_SYMLINK_NOFOLLOW))
        return err_errno(errno, "segments/%s", name);
    segment->device = st.st_dev;
    segment->inode = st.st_ino;
    return SPOOL_OK;
}

static int open_in_memory(struct segment *segment, uint64_t map_bytes)
{
    char path[64];
    int fd = memfd_create("segment", MFD_CLOEXEC);
    if (fd < 0)
        return err_errno(errno, "a segment in memory");
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int code = segment_env_open_path(path, 0600, map_bytes, MDB_NOSYNC, segment);
    close(fd);
    return code;
}

int segment_create_standin(const struct dir *dir, uint64_t number, uint64_t map_bytes,
                           int (*fill)(void *user, struct segment *segment), void *user, struct segment **ret)
{
    struct segment *segment = calloc(1, sizeof *segment);
    if (!segment)
        return err_errno(ENOMEM, "a segment in memory");
    segment->number = number;
    segment->standin = true;
    int code = identify(dir, segment);
    if (!code)
        code = open_in_memory(segment, map_bytes);
    if (!code)
        code = make_trees(segment);
    if (!code)
        code = fill(user, segment);
    if (!code)
        code = segment_load(segment);
    if (code) {
        segment_close(segment);
        return err_prefix(code, "segment %" PRIu64 " in memory", number);
    }
    *ret = segment;
    return SPOOL_OK;
}
