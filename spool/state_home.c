/* state_home.c - whether the directory is the one this state was made in, or a copy of it.
 *
 *   META_HOME  u64 inode of the directory, u64 when that inode was made (ns since 1970; 0 if the file system does not say)
 *
 * A checkpoint names what stands at the far side of a sink, such as the length of a file. In a copied or restored directory it
 * speaks of what the original has written since: a sink that went back to it would take away what the original had
 * delivered. So a copy forgets all checkpoints: its sinks may repeat events, and cut nothing. Renaming a directory changes
 * neither number. The device is left out: its number may change with each start of the machine. */
#include <fcntl.h>
#include <sys/stat.h>

#include "state_inside.h"

enum { HOME_SIZE = 16 };

static struct state_key home_key(void)
{
    struct state_key key = state_key(TABLE_META);
    state_key_u8(&key, META_HOME);
    return key;
}

static int look(const struct state *state, uint8_t ret[HOME_SIZE])
{
    struct statx st;
    if (statx(state->options.dir->fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &st))
        return err_errno(errno, "%s", state->options.dir->path);
    bool known = st.stx_mask & STATX_BTIME;
    put_u64(ret, st.stx_ino);
    put_u64(ret + 8, known ? (uint64_t)st.stx_btime.tv_sec * 1000000000u + st.stx_btime.tv_nsec : 0);
    return SPOOL_OK;
}

static int forget_checkpoints(struct state_txn *txn, uint64_t *ret_forgotten)
{
    struct state_key all = state_key(TABLE_CHECKPOINT);
    return state_table_clear(txn, &all, UINT64_MAX, ret_forgotten);
}

/* 0: the row is there and says the same; SPOOL_ESTALE: it says something else; SPOOL_ENOTFOUND, also for a damaged one: that
 * must not keep a spool from opening. */
static int compare(struct state_txn *txn, const uint8_t home[HOME_SIZE])
{
    struct state_row row;
    struct state_key key = home_key();
    int code = state_table_get(txn, &key, &row);
    if (code == SPOOL_EDAMAGED || (!code && row.body_size != HOME_SIZE))
        return err_set(SPOOL_ENOTFOUND, STATE_FILE ": the row of its directory is damaged");
    if (code)
        return code;
    return memcmp(row.body, home, HOME_SIZE) ? SPOOL_ESTALE : SPOOL_OK;
}

static int settle(struct state_txn *txn, const uint8_t home[HOME_SIZE], uint64_t *ret_forgotten)
{
    int code = compare(txn, home);
    if (code == SPOOL_ESTALE)
        code = forget_checkpoints(txn, ret_forgotten);
    else if (code != SPOOL_ENOTFOUND)
        return code; /* a peer was first, or an error */
    struct state_key key = home_key();
    if (!code || code == SPOOL_ENOTFOUND)
        code = state_table_put(txn, &key, home, HOME_SIZE);
    return code;
}

static int write_home(struct state *state, const uint8_t home[HOME_SIZE], uint64_t deadline_ns, uint64_t *ret_forgotten)
{
    struct state_txn txn;
    int code = state_txn_write(state, deadline_ns, &txn);
    return code ? code : state_txn_end(&txn, settle(&txn, home, ret_forgotten));
}

int state_check_home(struct state *state, uint64_t deadline_ns, uint64_t *ret_forgotten)
{
    uint8_t home[HOME_SIZE];
    struct state_txn txn;
    *ret_forgotten = 0;
    int code = look(state, home);
    if (!code)
        code = state_txn_read(state, deadline_ns, &txn);
    if (code)
        return code;
    int found = state_txn_end(&txn, compare(&txn, home));
    if (found != SPOOL_ENOTFOUND && found != SPOOL_ESTALE)
        return found;
    code = write_home(state, home, deadline_ns, ret_forgotten);
    if (code && found == SPOOL_ESTALE) { /* a full disk, say: state_settle_home() tries again */
        atomic_store(&state->is_copy, true);
        *ret_forgotten = 1;
    }
    return SPOOL_OK; /* without the row nothing is known to be wrong */
}

int state_settle_home(struct state *state, uint64_t deadline_ns)
{
    uint8_t home[HOME_SIZE];
    uint64_t forgotten;
    if (!atomic_load(&state->is_copy))
        return SPOOL_OK;
    int code = look(state, home);
    if (!code)
        code = write_home(state, home, deadline_ns, &forgotten);
    if (!code)
        atomic_store(&state->is_copy, false);
    return code;
}
