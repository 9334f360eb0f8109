/* segment.c - one segment of the log: the file segments/<20 digits>.mdb.
 *
 * A segment is an LMDB environment (data version 1, one file, no lock file) of a map size that is fixed when it is
 * made. It has five named trees:
 *
 *   critical, high, medium, low   the lanes. Key: a block's first sequence number (MDB_INTEGERKEY, 8 bytes); value: a
 * block (block.c). Only ever appended to. meta                          key: text; value: a row (segment_row.c) head
 * format, number, time, the sequence number at which each lane begins here, largest id before tally of each lane: next
 * sequence number, events, smallest and largest id; rewritten by each commit snapshot                  of sinks and
 * cursors when the segment was made, unless there was none position/<16 bytes>       of a journal: records below it are
 * in segments; the greatest ever stored counts
 *
 * A segment is valid if and only if its pages are (pagecheck.c) and head and tally are whole rows. A block that is not
 * whole harms only itself. Sequence numbers of a lane grow from segment to segment: those of segment n are below the
 * base of n + 1; they are dense but for events that damage took. The newest segment is the one with the highest number;
 * all positions are copied into it when it is made, so that only it need be asked.
 *
 * Versions: the head's format is that of the whole segment (segment_row.c has the recipe); another one is answered with
 * SPOOL_EVERSION and left alone. */
#include "segment.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../lib/base/error.h"
#include "pagecheck.h"
#include "segment_env.h"

/* --------------------------------------------------------------------------------------------------------- names */

void segment_name(uint64_t number, char ret[SEGMENT_NAME_SIZE])
{
    snprintf(ret, SEGMENT_NAME_SIZE, "%020" PRIu64 ".mdb", number);
}

void segment_label(uint64_t number, char ret[SEGMENT_LABEL_SIZE])
{
    snprintf(ret, SEGMENT_LABEL_SIZE, "segments/%020" PRIu64 ".mdb", number);
}

bool segment_parse_name(const char *name, uint64_t *ret_number)
{
    char again[SEGMENT_NAME_SIZE];
    if (strlen(name) != 24 || strspn(name, "0123456789") != 20)
        return false;
    *ret_number = strtoull(name, NULL, 10);
    segment_name(*ret_number, again);
    /* So that the next one is a number too, however many there are. */
    return *ret_number > 0 && *ret_number <= INT64_MAX && strcmp(again, name) == 0;
}

int segment_error(uint64_t number, int rc, const char *doing)
{
    char label[SEGMENT_LABEL_SIZE];
    segment_label(number, label);
    if (rc > 0)
        return err_errno(rc, "%s: %s", label, doing);
    int code = rc == MDB_MAP_FULL ? SPOOL_EFULL : rc == MDB_VERSION_MISMATCH ? SPOOL_EVERSION : SPOOL_EDAMAGED;
    return err_set(code, "%s: %s: %s", label, doing, mdb_strerror(rc));
}

int segment_file_error(int fd)
{
    return fd == -ELOOP ? SPOOL_EACCESS : -fd;
}

/* ------------------------------------------------------------------------------------------------------- opening */

/* LMDB takes a path. One through the descriptor stays right when the process changes its folder or the spool is
 * renamed. */
static void env_path(const struct dir *dir, const char *name, char *ret, size_t size)
{
    snprintf(ret, size, "/proc/self/fd/%d", dir->segments_fd);
    if (access(ret, F_OK) == 0)
        snprintf(ret, size, "/proc/self/fd/%d/%s", dir->segments_fd, name);
    else
        snprintf(ret, size, "%s/segments/%s", dir->path, name);
}

int segment_env_open(const struct dir *dir, const char *name, uint64_t map_bytes, unsigned flags,
                     struct segment *segment)
{
    char path[4096 + 64];
    env_path(dir, name, path, sizeof path);
    return segment_env_open_path(path, dir->file_mode, map_bytes, flags, segment);
}

int segment_env_open_path(const char *path, mode_t mode, uint64_t map_bytes, unsigned flags, struct segment *segment)
{
    int rc = mdb_env_create(&segment->env);
    if (!rc)
        rc = mdb_env_set_maxdbs(segment->env, LANES + 1);
    if (!rc && map_bytes)
        rc = mdb_env_set_mapsize(segment->env, map_bytes);
    if (!rc)
        rc = mdb_env_open(segment->env, path, MDB_NOSUBDIR | MDB_NOTLS | MDB_NOLOCK | flags, mode);
    return rc ? segment_error(segment->number, rc, "cannot be opened") : SPOOL_OK;
}

int segment_trees_open(struct segment *segment, MDB_txn *txn, unsigned flags)
{
    int rc = mdb_dbi_open(txn, "meta", flags, &segment->meta);
    for (int lane = 0; !rc && lane < LANES; lane++) {
        unsigned stored = 0;
        rc = mdb_dbi_open(txn, lane_name(lane), MDB_INTEGERKEY | flags, &segment->lane[lane]);
        if (!rc)
            rc = mdb_dbi_flags(txn, segment->lane[lane], &stored);
        if (!rc && stored != MDB_INTEGERKEY)
            rc = MDB_INCOMPATIBLE;
    }
    MDB_stat stat;
    if (!rc)
        rc = mdb_stat(txn, segment->meta, &stat);
    segment->page_size = rc ? 0 : stat.ms_psize;
    return rc ? segment_error(segment->number, rc, "its trees cannot be opened") : SPOOL_OK;
}

static int read_tally(struct segment *segment, MDB_txn *txn)
{
    struct segment_row row;
    struct segment_tally tally;
    int code = segment_get_row(segment, txn, SEGMENT_KEY_TALLY, &row);
    if (!code)
        code = row_read_tally(&row, &tally);
    if (code)
        return code;
    if (row.commit != mdb_txn_id(txn)) /* each commit writes it: this one is left over from an older state */
        return err_set(SPOOL_EDAMAGED, "the tally is not the last transaction's");
    for (int lane = 0; lane < LANES; lane++) {
        if (tally.lane[lane].next < segment->head.base[lane])
            return err_set(SPOOL_EDAMAGED, "the tally of lane %s lies below its base", lane_name(lane));
    }
    segment->tally = tally;
    segment->txn = mdb_txn_id(txn);
    return SPOOL_OK;
}

static int read_head(struct segment *segment, MDB_txn *txn)
{
    struct segment_row row;
    int code = segment_get_row(segment, txn, SEGMENT_KEY_HEAD, &row);
    if (!code)
        code = row_read_head(&row, &segment->head);
    if (!code && segment->head.number != segment->number)
        return err_set(SPOOL_EDAMAGED, "this is segment %" PRIu64 " under another name", segment->head.number);
    return code;
}

int segment_load(struct segment *segment)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(segment->env, NULL, MDB_RDONLY, &txn);
    if (rc)
        return segment_error(segment->number, rc, "cannot be read");
    int code = segment_trees_open(segment, txn, 0);
    if (!code)
        code = read_head(segment, txn);
    if (!code)
        code = read_tally(segment, txn);
    if (code) {
        mdb_txn_abort(txn);
        return code;
    }
    rc = mdb_txn_commit(txn); /* keeps the handles of the trees */
    return rc ? segment_error(segment->number, rc, "cannot be read") : SPOOL_OK;
}

/* Nothing is mapped unchecked. */
static int check_file(const struct dir *dir, const char *name, struct segment *segment)
{
    struct stat st;
    int fd = dir_open_file(dir, dir->segments_fd, name, O_RDONLY);
    if (fd < 0)
        return segment_file_error(fd);
    int code = fstat(fd, &st) ? err_errno(errno, "%s", name) : pagecheck(fd, name);
    close(fd);
    segment->device = st.st_dev;
    segment->inode = st.st_ino;
    return code;
}

int segment_open(const struct dir *dir, uint64_t number, bool writable, struct segment **ret)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(number, name);
    struct segment *segment = calloc(1, sizeof *segment);
    if (!segment)
        return err_errno(ENOMEM, "segments/%s", name);
    segment->number = number;
    segment->writable = writable;
    int code = check_file(dir, name, segment);
    if (!code)
        code = segment_env_open(dir, name, 0, writable ? 0 : MDB_RDONLY, segment);
    if (!code)
        code = segment_load(segment);
    if (code) {
        segment_close(segment);
        return err_prefix(code, "segment %" PRIu64, number);
    }
    *ret = segment;
    return SPOOL_OK;
}

void segment_close(struct segment *segment)
{
    if (!segment)
        return;
    if (segment->env)
        mdb_env_close(segment->env);
    free(segment);
}

/* ------------------------------------------------------------------------------------------------ keeping up to date
 */

bool segment_is_in_place(const struct dir *dir, const struct segment *segment)
{
    struct stat st;
    char name[SEGMENT_NAME_SIZE];
    segment_name(segment->number, name);
    return fstatat(dir->segments_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == segment->inode &&
           st.st_dev == segment->device;
}

uint64_t segment_last_txn(const struct segment *segment)
{
    MDB_envinfo info;
    return mdb_env_info(segment->env, &info) ? 0 : info.me_last_txnid;
}

int segment_refresh(struct segment *segment)
{
    MDB_txn *txn;
    if (segment_last_txn(segment) == segment->txn)
        return SPOOL_OK;
    int rc = mdb_txn_begin(segment->env, NULL, MDB_RDONLY, &txn);
    if (rc)
        return segment_error(segment->number, rc, "cannot be read");
    int code = read_tally(segment, txn);
    mdb_txn_abort(txn);
    return code;
}

int segment_settle(struct segment *segment)
{
    mdb_filehandle_t fd;
    if (segment->standin || !segment->writable || segment->settled_txn == segment->txn)
        return SPOOL_OK;
    int rc = mdb_env_get_fd(segment->env, &fd);
    if (!rc && fdatasync(fd))
        rc = errno;
    if (rc)
        return segment_error(segment->number, rc, "cannot be flushed");
    segment->settled_txn = segment->txn;
    return SPOOL_OK;
}
