/* state_reserve.c - room that only acknowledgements may use, in the map and on disk, so that a full spool drains.
 *
 * LMDB copies every page it changes, so even a delete needs free pages. The reserve is max(1 MiB, 5 % of the map), at
 * most 16 MiB: a transaction of STATE_TXN_ROWS rows changes 4 MiB of pages at worst, and what it frees can be used two
 * transactions later. On disk, the file is allocated ahead of its last used page by as much, with fallocate(2) and not
 * posix_fallocate(), which would write each block where the file system cannot do it. */
#include <fcntl.h>
#include <sys/stat.h>

#include "state_inside.h"

enum {
    RESERVE_LEAST = 64 << 10, /* on a full disk */
    RESERVE_MIN = 1 << 20,
    RESERVE_MAX = 16 << 20,
    TXN_BYTES = 4 << 20,
    TOP_UP_STEP = 1 << 20,
    ROW_OVERHEAD = 96,
    BASE_PAGES = 16
};

static uint64_t reserve_bytes(const struct state *state)
{
    uint64_t bytes = state->map_bytes / 20;
    return bytes < RESERVE_MIN ? RESERVE_MIN : bytes > RESERVE_MAX ? RESERVE_MAX : bytes;
}

/* Bytes behind the last page that was ever used. */
static uint64_t used_bytes(const struct state *state)
{
    MDB_envinfo info;
    if (mdb_env_info(state->env, &info) != 0)
        return state->map_bytes;
    return (info.me_last_pgno + 1) * state->page_bytes;
}

static int file_of(const struct state *state)
{
    mdb_filehandle_t fd;
    return mdb_env_get_fd(state->env, &fd) == 0 ? fd : -1;
}

static uint64_t file_bytes(const struct state *state)
{
    struct stat st;
    int fd = file_of(state);
    return fd >= 0 && fstat(fd, &st) == 0 ? (uint64_t)st.st_size : 0;
}

/* ------------------------------------------------------------------------------------------------- on the disk */

static int allocate_from(const struct state *state, uint64_t size, uint64_t upto)
{
    if (upto > state->map_bytes)
        upto = state->map_bytes;
    while (size < upto && fallocate(file_of(state), 0, (off_t)size, (off_t)(upto - size)) != 0) {
        if (errno != EINTR)
            return errno;
    }
    return 0;
}

/* Makes the file reach `upto`, which all before it then does too; some more if there is room. 0 or errno. */
static int allocate(const struct state *state, uint64_t upto)
{
    uint64_t size = file_bytes(state);
    if (size >= upto)
        return 0;
    int err = allocate_from(state, size, round_up(upto, TOP_UP_STEP));
    return err ? allocate_from(state, size, upto) : 0;
}

void state_reserve_top_up(struct state *state)
{
    uint64_t bytes = reserve_bytes(state), used = used_bytes(state);
    int err = allocate(state, used + bytes);
    while (err == ENOSPC && bytes > RESERVE_LEAST && allocate(state, used + (bytes /= 2)) != 0) {
    }
    if (!err)
        atomic_store(&state->reserve_told, false);
    else if (!atomic_exchange(&state->reserve_told, true))
        report(&state->options.reporter, SPOOL_LOG_WARNING,
               STATE_FILE ": the reserve for acknowledgements cannot be allocated in full: %s", spool_strerror(err));
}

bool state_map_has_room(const struct state *state)
{
    return used_bytes(state) + reserve_bytes(state) + TXN_BYTES <= state->map_bytes;
}

/* -------------------------------------------------------------------------------------------------- asking for room */

/* Pages on LMDB's free list: the first word of each of its records is a count. */
static int count_free(MDB_txn *txn, uint64_t *ret)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    int rc = mdb_cursor_open(txn, 0, &cursor);
    if (rc)
        return rc;
    *ret = 0;
    while ((rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        size_t count = 0;
        memcpy(&count, value.mv_data, sizeof count);
        *ret += count;
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* LMDB shows the free list to readers only; none of ours is in the way of one more. */
static int free_pages(const struct state *state, uint64_t *ret)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(state->env, NULL, MDB_RDONLY, &txn);
    if (!rc) {
        rc = count_free(txn, ret);
        mdb_txn_abort(txn);
    }
    return rc ? state_env_error(rc, "reading the free list") : SPOOL_OK;
}

/* The map and the file both reach that far. */
static bool reaches(const struct state *state, uint64_t upto)
{
    if (upto > state->map_bytes)
        return false;
    int err = allocate(state, upto);
    return !err || err == EOPNOTSUPP || err == ENOSYS;
}

int state_reserve_check(struct state_txn *txn, enum state_room room, uint64_t rows, uint64_t bytes)
{
    const struct state *state = txn->state;
    if (room == ROOM_ACK)
        return SPOOL_OK;
    uint64_t keep = room == ROOM_NEW ? reserve_bytes(state) : reserve_bytes(state) / 2;
    uint64_t need = keep + bytes + rows * ROW_OVERHEAD + BASE_PAGES * state->page_bytes, used = used_bytes(state),
             free = 0;
    if (reaches(state, used + need))
        return SPOOL_OK;
    int code = free_pages(state, &free);
    if (code)
        return code;
    free *= state->page_bytes;
    if (free >= need || reaches(state, used + need - free))
        return SPOOL_OK;
    return err_set(SPOOL_EFULL,
                   STATE_FILE
                   " is full (%llu MiB; the rest is kept for acknowledgements): purge dead letters or free disk space",
                   (unsigned long long)(state->map_bytes >> 20));
}
