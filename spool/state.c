/* state.c - the format of state.mdb, opening and closing it.
 *
 * state.mdb is one LMDB environment (data version 1, no sub-directory, default flush flags, no locks of LMDB's) whose
 * main B-tree holds every table. The first byte of a key is the table; numbers in keys are big-endian, elsewhere
 * little-endian. Every value is a row in an envelope with version, key, stamp and CRC (state_row.c); here are the
 * bodies:
 *
 *   table        key behind the table's byte        body                                            written in
 *   1 general    u8 0 version                       u32 version, u32 zero, u64 base of the stamps   state_env.c
 *                u8 1 numbers to give out           see there                                       state_numbers.c
 *                u8 2 counters, u8 3 clock          see there                                       state_numbers.c
 *                u8 16, u32 sink id                 u64 events filtered                             state_filtered.c
 *                u8 6 more of a sink, u32 id        see there                                       state_sink_more.c
 *                u8 7 purged ones of a sink, u32 id see there                                       state_purged.c
 *                u8 8 damage that was seen          see there                                       state_seen.c
 *   2 sink       u32 id                             see there; a removed one stays as a mark        state_sink_row.c
 *   3 ranges     u32 id, u8 lane                    u64 generation, then u64 first, u64 count each  state_sink_row.c
 *   4 checkpoint u32 id, u32 piece                  pieces of bytes                                 state_blob.c
 *   5 config     u32 id, u32 piece                  pieces of bytes                                 state_blob.c
 *   6 damage     text                               empty: this damage has been counted, or seen    state_numbers.c
 *   7 dead       16 bytes event id, u32 sink id     fields, a small event behind them               state_copy.c
 *   8 retry      u32 sink id, u8 lane, u64 seq      the same                                        state_copy.c
 *   9 piece      u64 copy, u32 piece                pieces of a larger event                        state_blob.c
 *
 * A copied event of more than 1 KiB stands in pieces under a number of its own, so that it moves from the retries to
 * the dead letters and back without being copied, and a change of its fields rewrites a small row. The file is valid if
 * LMDB's pages are (pagecheck.h) and the version row is whole; any other row may be damaged, and is then left out and
 * reported.
 *
 * Version 2 (1 can be read): events have a history, sinks know where they began and count what was dropped of their dead
 * letters. A file is raised by the first transaction that writes to it.
 *
 * The stamp of a row is the number of its write transaction: LMDB's plus the base, which each salvage moves up.
 *
 * Version recipe: a change of keys or bodies raises STATE_VERSION. The version row stays as it is for ever. Read an
 * older version's rows where they are parsed, write only the newest, and set the version in the first write
 * transaction; the test opens a file of each version. A newer one is SPOOL_EVERSION, before anything is touched.
 *
 * Who may write is decided by state.lock. If a peer has replaced the file (salvage), the next transaction sees another
 * inode under its name and opens that one. */
#include "state_inside.h"

static int make_locks(struct state *state)
{
    int err = pthread_rwlock_init(&state->env_lock, NULL);
    if (err)
        return err_errno(err, STATE_FILE);
    err = pthread_mutex_init(&state->told_mutex, NULL);
    if (err) {
        pthread_rwlock_destroy(&state->env_lock);
        return err_errno(err, STATE_FILE);
    }
    return SPOOL_OK;
}

static int make(const struct state_options *options, struct state **ret)
{
    struct state *state = calloc(1, sizeof *state);
    if (!state)
        return err_errno(ENOMEM, STATE_FILE);
    state->options = *options;
    state->seed = crc32c(0, options->dir->uuid, sizeof options->dir->uuid);
    int code = make_locks(state);
    if (code) {
        free(state);
        return code;
    }
    *ret = state;
    return SPOOL_OK;
}

/* The lock is held in `mode`. A shared holder that may write leaves damage and absence to the exclusive one. */
static int open_locked(struct state *state, enum lock_mode mode, bool *ret_salvaged)
{
    bool read_only = state->options.dir->read_only;
    int code = state_env_attach(state);
    *ret_salvaged = !code && state->taken_over;
    if (mode == LOCK_SHARED && !read_only)
        return code;
    state->is_new = code == SPOOL_ENOTFOUND && !read_only;
    if (code == SPOOL_ENOTFOUND)
        return read_only ? state_env_make_standin(state) : state_env_make(state);
    if (code == SPOOL_EDAMAGED) {
        code = state_salvage(state);
        *ret_salvaged = !code;
    }
    return code;
}

static int open_with(struct state *state, enum lock_mode mode, uint64_t deadline_ns, bool *ret_salvaged)
{
    int code = lock_take(state->options.lock, mode, deadline_ns);
    if (code)
        return err_prefix(code, "state.lock");
    pthread_rwlock_wrlock(&state->env_lock);
    code = open_locked(state, mode, ret_salvaged);
    pthread_rwlock_unlock(&state->env_lock);
    lock_drop(state->options.lock, mode);
    return code;
}

/* What cannot be swept now, on a full disk, say, waits for the next open: it keeps nobody from draining. */
static void sweep_retries(struct state *state, uint64_t deadline_ns)
{
    if (!state->options.dir->read_only && state_retry_sweep(state, deadline_ns))
        report(&state->options.reporter, SPOOL_LOG_WARNING, STATE_FILE ": retries of removed sinks stay: %s",
               err_last());
}

static void tell_salvage(struct state *state)
{
    const char *what = state->options.dir->read_only ? "damaged; what is whole is shown"
                                                     : "damaged; moved to quarantine/, what was whole is kept";
    if (state->options.damaged)
        state->options.damaged(state->options.damaged_user, STATE_FILE, what, 0);
}

int state_open(const struct state_options *options, uint64_t deadline_ns, struct state **ret, bool *ret_salvaged)
{
    struct state *state = NULL;
    bool salvaged = false;
    int code = make(options, &state);
    if (code)
        return code;
    code = open_with(state, LOCK_SHARED, deadline_ns, &salvaged);
    if ((code == SPOOL_ENOTFOUND || code == SPOOL_EDAMAGED) && !options->dir->read_only)
        code = open_with(state, LOCK_EXCLUSIVE, deadline_ns, &salvaged);
    if (code) {
        state_close(state);
        return code;
    }
    sweep_retries(state, deadline_ns);
    if (salvaged)
        tell_salvage(state);
    *ret = state;
    *ret_salvaged = salvaged;
    return SPOOL_OK;
}

bool state_is_rebuilt(const struct state *state)
{
    return state->base > 0; /* a first one has none, also when the process that made it died before it had its name */
}

bool state_is_new(const struct state *state)
{
    return state->is_new;
}

void state_close(struct state *state)
{
    if (!state)
        return;
    state_env_close(state);
    pthread_rwlock_destroy(&state->env_lock);
    pthread_mutex_destroy(&state->told_mutex);
    free(state);
}

void state_abandon(struct state *state)
{
    if (!state)
        return;
    if (atomic_load(&state->busy) == 0)
        state_env_close(state);
    free(state); /* the locks may be held by threads that are not in this process: not destroyed */
}
