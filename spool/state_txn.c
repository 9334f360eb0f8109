/* state_txn.c - transactions: state.lock, the right environment, an LMDB transaction, and damage told when all is over.
 *
 * state.lock keeps processes and threads apart, so LMDB's own locks are off. Whoever begins makes sure that the mapped
 * file is still the one named state.mdb, and that LMDB is not in its fatal state (after a failed write of a meta page
 * it refuses all work); else the file is checked and opened anew, by the exclusive holder also salvaged. */
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "state_inside.h"

/* ------------------------------------------------------------------------------------------- damage met on the way */

void state_txn_note(struct state_txn *txn, uint64_t events, const char *format, ...)
{
    if (txn->note_count == sizeof txn->notes / sizeof txn->notes[0])
        return; /* the next transaction that meets the others tells them */
    struct state_note *note = &txn->notes[txn->note_count++];
    va_list args;
    va_start(args, format);
    vsnprintf(note->what, sizeof note->what, format, args);
    va_end(args);
    note->events = events;
}

/* True the first time: a damaged row is met again and again. */
static bool is_news(struct state *state, const char *what)
{
    const unsigned cap = sizeof state->told / sizeof state->told[0];
    uint32_t hash = crc32c(0, what, strlen(what));
    pthread_mutex_lock(&state->told_mutex);
    unsigned known = state->told_count < cap ? state->told_count : cap, i = 0;
    while (i < known && state->told[i] != hash)
        i++;
    if (i == known)
        state->told[state->told_count++ % cap] = hash;
    pthread_mutex_unlock(&state->told_mutex);
    return i == known;
}

/* No lock is held: the callback may count the damage here. The caller's message survives it. */
static void tell_notes(struct state *state, const struct state_note *notes, unsigned n)
{
    char message[512];
    if (!n || !state->options.damaged)
        return;
    snprintf(message, sizeof message, "%s", err_last());
    for (unsigned i = 0; i < n; i++) {
        if (is_news(state, notes[i].what))
            state->options.damaged(state->options.damaged_user, STATE_FILE, notes[i].what, notes[i].events);
    }
    err_set(SPOOL_EDAMAGED, "%s", message);
}

/* ---------------------------------------------------------------------------------------------- beginning, inside */

static int begin_lmdb(struct state *state, bool write, struct state_txn *txn)
{
    txn->state = state;
    txn->cursor = NULL;
    txn->write = write;
    txn->locked = false;
    txn->writes = 0;
    txn->note_count = 0;
    int rc = mdb_txn_begin(state->env, NULL, write ? 0 : MDB_RDONLY, &txn->txn);
    if (rc)
        return rc;
    txn->stamp = state->base + mdb_txn_id(txn->txn);
    atomic_fetch_add(&state->busy, 1);
    return 0;
}

int state_txn_inner(struct state *state, bool write, struct state_txn *ret)
{
    int rc = begin_lmdb(state, write, ret);
    return rc ? state_env_error(rc, "beginning a transaction") : SPOOL_OK;
}

/* env_lock exclusive. */
static int open_anew(struct state *state, bool write)
{
    int code = state_env_attach(state);
    bool missing = code == SPOOL_ENOTFOUND, damaged = code == SPOOL_EDAMAGED;
    if (state->options.dir->read_only) /* its stand-in is private */
        return missing ? state_env_make_standin(state) : damaged ? state_salvage(state) : code;
    if (missing && write)
        return state_env_make(state);
    if (damaged && write)
        return state_salvage(state);
    return missing ? err_set(SPOOL_EDAMAGED, STATE_FILE " has been removed") : code;
}

static int renew(struct state *state, bool write, uint64_t seen_epoch)
{
    pthread_rwlock_wrlock(&state->env_lock);
    int code = state->epoch != seen_epoch && state->env ? SPOOL_OK : open_anew(state, write);
    pthread_rwlock_unlock(&state->env_lock);
    return code;
}

/* state.lock is held; on success env_lock is held shared. */
static int enter(struct state *state, bool write, struct state_txn *txn)
{
    for (int tries = 0; tries < 3; tries++) {
        pthread_rwlock_rdlock(&state->env_lock);
        int rc = state_env_is_current(state) ? begin_lmdb(state, write, txn) : MDB_PANIC;
        uint64_t epoch = state->epoch;
        if (rc == 0)
            return SPOOL_OK;
        pthread_rwlock_unlock(&state->env_lock);
        int code = rc == MDB_PANIC ? renew(state, write, epoch) : state_env_error(rc, "beginning a transaction");
        if (code)
            return code;
    }
    return err_errno(EIO, STATE_FILE " cannot be opened again");
}

static int begin(struct state *state, bool write, uint64_t deadline_ns, struct state_txn *txn)
{
    enum lock_mode mode = write ? LOCK_EXCLUSIVE : LOCK_SHARED;
    int code = lock_take(state->options.lock, mode, deadline_ns);
    if (code)
        return err_prefix(code, "state.lock");
    txn->signal = (struct file_size_signal){.held = false};
    if (write)
        file_size_signal_hold(&txn->signal);
    code = enter(state, write, txn);
    if (!code) {
        txn->locked = true;
        return SPOOL_OK;
    }
    lock_drop(state->options.lock, mode);
    file_size_signal_release(&txn->signal);
    return code;
}

int state_txn_read(struct state *state, uint64_t deadline_ns, struct state_txn *ret)
{
    return begin(state, false, deadline_ns, ret);
}

int state_txn_write(struct state *state, uint64_t deadline_ns, struct state_txn *ret)
{
    if (state->options.dir->read_only)
        return err_set(SPOOL_EREADONLY, "%s is open for reading only", state->options.dir->path);
    return begin(state, true, deadline_ns, ret);
}

/* -------------------------------------------------------------------------------------------------------- ending */

static void leave(struct state_txn *txn)
{
    struct state *state = txn->state;
    atomic_fetch_sub(&state->busy, 1);
    if (!txn->locked)
        return; /* whoever began it inside tells nothing: salvage reports as a whole */
    pthread_rwlock_unlock(&state->env_lock);
    lock_drop(state->options.lock, txn->write ? LOCK_EXCLUSIVE : LOCK_SHARED);
    file_size_signal_release(&txn->signal);
    tell_notes(state, txn->notes, txn->note_count);
}

static void close_cursor(struct state_txn *txn)
{
    if (txn->cursor)
        mdb_cursor_close(txn->cursor);
    txn->cursor = NULL;
}

void state_txn_abort(struct state_txn *txn)
{
    close_cursor(txn);
    mdb_txn_abort(txn->txn);
    leave(txn);
}

int state_txn_commit(struct state_txn *txn)
{
    if (!txn->writes) {
        state_txn_abort(txn);
        return SPOOL_OK;
    }
    int code = state_env_raise_version(txn);
    if (code) {
        state_txn_abort(txn);
        return code;
    }
    close_cursor(txn);
    int rc = mdb_txn_commit(txn->txn);
    code = rc ? state_env_error(rc, "committing") : SPOOL_OK;
    if (!code) {
        atomic_store(&txn->state->settled_stamp, txn->stamp); /* LMDB has flushed the file */
        txn->state->version = STATE_VERSION;
    }
    if (!code && txn->locked)
        state_reserve_top_up(txn->state);
    leave(txn);
    return code;
}

int state_txn_end(struct state_txn *txn, int code)
{
    if (!code)
        return state_txn_commit(txn);
    state_txn_abort(txn);
    return code;
}

/* ------------------------------------------------------------------------------------------------------- settling */

static int flush(struct state *state)
{
    mdb_filehandle_t fd;
    int rc = mdb_env_get_fd(state->env, &fd);
    if (rc)
        return state_env_error(rc, "flushing");
    if (!atomic_load(&state->unflushed) && fdatasync(fd) == 0)
        return SPOOL_OK;
    atomic_store(&state->unflushed, true);
    return err_set(SPOOL_EUNCERTAIN,
                   STATE_FILE " could not be flushed: no segment is deleted until the spool is opened again");
}

int state_settle(struct state *state, uint64_t deadline_ns)
{
    struct state_txn txn;
    int code = state_txn_read(state, deadline_ns, &txn);
    if (code)
        return code;
    if (atomic_load(&state->settled_stamp) != txn.stamp)
        code = flush(state);
    if (!code)
        atomic_store(&state->settled_stamp, txn.stamp);
    state_txn_abort(&txn);
    return code;
}
