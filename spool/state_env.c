/* state_env.c - the LMDB environment: checked before it is mapped, made complete under another name, replaced when it
 * is another.
 *
 * A new file is built as state.tmp, and gets the name state.new when it is complete and flushed; only then is an old,
 * damaged one moved to quarantine/ and the new one named state.mdb. Whoever finds no state.mdb but a state.new finishes
 * that. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pagecheck.h"
#include "state_inside.h"

enum { ENV_FLAGS = MDB_NOSUBDIR | MDB_NOTLS | MDB_NOLOCK, VERSION_BODY = 16, PATH_BYTES = 4352 };

int state_env_error(int rc, const char *doing)
{
    if (rc == MDB_MAP_FULL || rc == ENOSPC || rc == EDQUOT || rc == EFBIG)
        return err_set(SPOOL_EFULL, STATE_FILE ": %s: %s; free disk space or purge dead letters", doing,
                       mdb_strerror(rc));
    if (rc > 0)
        return err_errno(rc, STATE_FILE ": %s", doing);
    return err_set(SPOOL_EDAMAGED, STATE_FILE ": %s: %s", doing, mdb_strerror(rc));
}

/* ---------------------------------------------------------------------------------------------------- which file */

static struct state_identity identity_on_disk(const struct state *state)
{
    struct stat st;
    if (fstatat(state->options.dir->fd, STATE_FILE, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return (struct state_identity){0, 0};
    return (struct state_identity){.device = st.st_dev, .inode = st.st_ino};
}

bool state_env_is_current(const struct state *state)
{
    struct state_identity now = identity_on_disk(state);
    return state->env && now.device == state->identity.device && now.inode == state->identity.inode;
}

/* By way of the directory's descriptor, so that a later chdir() or rename of the directory does not matter. */
static int path_of(const struct state *state, const char *name, char ret[PATH_BYTES])
{
    int n = snprintf(ret, PATH_BYTES, "/proc/self/fd/%d", state->options.dir->fd);
    if (access(ret, F_OK) == 0)
        n += snprintf(ret + n, PATH_BYTES - (size_t)n, "/%s", name);
    else
        n = snprintf(ret, PATH_BYTES, "%s/%s", state->options.dir->path, name);
    return n < PATH_BYTES ? SPOOL_OK : err_errno(ENAMETOOLONG, "%s", state->options.dir->path);
}

/* ------------------------------------------------------------------------------------------------------- opening */

static int open_env(struct state *state, const char *path, unsigned flags, uint64_t map_bytes)
{
    MDB_env *env;
    int rc = mdb_env_create(&env);
    if (rc)
        return state_env_error(rc, "opening");
    if (map_bytes)
        rc = mdb_env_set_mapsize(env, map_bytes);
    if (!rc)
        rc = mdb_env_open(env, path, ENV_FLAGS | flags, state->options.dir->file_mode);
    if (rc) {
        mdb_env_close(env);
        return state_env_error(rc, "opening");
    }
    state->env = env;
    return SPOOL_OK;
}

/* Opens the main B-tree and learns the sizes. */
static int open_tree(struct state *state)
{
    MDB_txn *txn;
    MDB_stat stat;
    MDB_envinfo info;
    int rc = mdb_txn_begin(state->env, NULL, MDB_RDONLY, &txn);
    if (rc)
        return state_env_error(rc, "opening");
    rc = mdb_dbi_open(txn, NULL, 0, &state->dbi);
    if (!rc)
        rc = mdb_env_stat(state->env, &stat);
    if (!rc)
        rc = mdb_env_info(state->env, &info);
    int end = mdb_txn_commit(txn); /* keeps the handle */
    if (rc || end)
        return state_env_error(rc ? rc : end, "opening");
    state->page_bytes = stat.ms_psize;
    state->map_bytes = info.me_mapsize;
    return SPOOL_OK;
}

void state_env_close(struct state *state)
{
    mdb_env_close(state->env);
    state->env = NULL;
    state->identity = (struct state_identity){0, 0};
    state->epoch++;
}

/* ------------------------------------------------------------------------------------------------------- version */

static struct state_key version_key(void)
{
    struct state_key key = state_key(TABLE_META);
    state_key_u8(&key, META_VERSION);
    return key;
}

static int put_version(struct state_txn *txn)
{
    uint8_t body[VERSION_BODY] = {0};
    put_u32(body, STATE_VERSION);
    put_u64(body + 8, txn->state->base);
    struct state_key key = version_key();
    return state_table_put(txn, &key, body, sizeof body);
}

int state_env_raise_version(struct state_txn *txn)
{
    return txn->state->version < STATE_VERSION ? put_version(txn) : SPOOL_OK;
}

int state_version_check(const struct state_row *view, uint64_t *ret_base)
{
    uint32_t version = view->body_size >= 4 ? get_u32(view->body) : 0;
    if (version < 1 || version > STATE_VERSION)
        return err_set(
            SPOOL_EVERSION,
            STATE_FILE
            " is of version %u, this library knows versions up to %d: use the libspool that wrote it, or a newer one",
            version, STATE_VERSION);
    if (view->body_size != VERSION_BODY)
        return err_set(SPOOL_EDAMAGED, STATE_FILE ": a version row of %zu bytes", view->body_size);
    *ret_base = get_u64(view->body + 8);
    return SPOOL_OK;
}

static int check_version(struct state *state)
{
    struct state_txn txn;
    struct state_row view;
    struct state_key key = version_key();
    MDB_val k = {.mv_size = key.size, .mv_data = key.bytes}, value;
    int code = state_txn_inner(state, false, &txn);
    if (code)
        return code;
    int rc = mdb_get(txn.txn, state->dbi, &k, &value);
    if (rc == MDB_NOTFOUND)
        code = err_set(SPOOL_EDAMAGED, STATE_FILE " has no version");
    else
        code = rc ? state_env_error(rc, "reading the version")
                  : state_row_read(value.mv_data, value.mv_size, state->seed, &view);
    if (!code)
        code = state_version_check(&view, &state->base);
    if (!code)
        state->version = get_u32(view.body);
    state_txn_abort(&txn);
    return code;
}

/* A sink whose row is damaged would lose its place: then the file is salvaged, which finds an older row or the log's.
 */
static int check_sinks(struct state *state)
{
    struct state_txn txn;
    struct state_key at = state_key(TABLE_SINK);
    struct state_row view;
    MDB_val value;
    int code = state_txn_inner(state, false, &txn);
    if (code)
        return code;
    while ((code = state_table_next_raw(&txn, &at, 1, &value)) == SPOOL_OK) {
        code = state_table_check(state, &at, &value, &view);
        if (code)
            break;
    }
    state_txn_abort(&txn);
    return code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
}

/* ----------------------------------------------------------------------------------------------------- attaching */

/* Finishes what a crash interrupted: see the top. Only a missing one is "not found": whoever is told so makes an empty state
 * in the place of this one. */
static int take_over_new(struct state *state)
{
    const struct dir *dir = state->options.dir;
    bool taken = !dir->read_only && renameat(dir->fd, "state.new", dir->fd, STATE_FILE) == 0;
    if (!taken && !dir->read_only && errno != ENOENT)
        return err_errno(errno, "%s/state.new", dir->path);
    return taken ? dir_flush(dir->fd) : err_set(SPOOL_ENOTFOUND, "there is no " STATE_FILE);
}

/* May it be mapped? Under the lock, so that nobody writes meanwhile. */
static int check_pages(struct state *state)
{
    const struct dir *dir = state->options.dir;
    int fd = dir_open_file(dir, dir->fd, STATE_FILE, O_RDONLY);
    if (fd == -ENOENT)
        return err_set(SPOOL_ENOTFOUND, "there is no " STATE_FILE);
    if (fd < 0)
        return fd == -ELOOP ? err_prefix(SPOOL_EACCESS, "opening the state") : -fd;
    struct stat st;
    int code = fstat(fd, &st) == 0 ? SPOOL_OK : err_errno(errno, STATE_FILE);
    if (!code && st.st_size == 0)
        code = err_set(SPOOL_EDAMAGED, STATE_FILE " is empty");
    if (!code)
        code = pagecheck(fd, STATE_FILE);
    if (!code)
        state->identity = (struct state_identity){.device = st.st_dev, .inode = st.st_ino};
    close(fd);
    return code;
}

static int attach_file(struct state *state)
{
    char path[PATH_BYTES];
    struct state_identity checked = state->identity;
    int code = path_of(state, STATE_FILE, path);
    if (!code)
        code = open_env(state, path, state->options.dir->read_only ? MDB_RDONLY : 0, 0);
    if (!code)
        code = open_tree(state);
    if (!code)
        code = check_version(state);
    if (!code)
        code = check_sinks(state);
    if (code) {
        state_env_close(state);
        return code;
    }
    state->identity = checked;
    return SPOOL_OK;
}

int state_env_attach(struct state *state)
{
    state_env_close(state);
    int code = check_pages(state);
    if (code == SPOOL_ENOTFOUND) {
        code = take_over_new(state);
        state->taken_over = !code;
        if (!code)
            code = check_pages(state);
    }
    return code ? code : attach_file(state);
}

/* -------------------------------------------------------------------------------------------------------- making */

static uint64_t map_bytes(const struct state *state)
{
    return round_up(state->options.map_bytes, 64 << 10);
}

int state_env_write_version(struct state *state)
{
    struct state_txn txn;
    int code = state_txn_inner(state, true, &txn);
    return code ? code : state_txn_end(&txn, put_version(&txn));
}

static int first_rows(struct state *state)
{
    int code = open_tree(state);
    return code ? code : state_env_write_version(state);
}

int state_env_build(struct state *state, const char *name)
{
    const struct dir *dir = state->options.dir;
    char path[PATH_BYTES];
    int code = path_of(state, name, path);
    if (code)
        return code;
    if (unlinkat(dir->fd, name, 0) != 0 && errno != ENOENT)
        return err_errno(errno, "removing %s/%s", dir->path, name);
    int fd = dir_open_file(dir, dir->fd, name, O_RDWR | O_CREAT | O_EXCL);
    if (fd < 0)
        return -fd;
    close(fd);
    code = open_env(state, path, 0, map_bytes(state));
    if (!code)
        code = first_rows(state);
    if (code)
        state_env_close(state);
    return code;
}

int state_env_publish(struct state *state)
{
    const struct dir *dir = state->options.dir;
    state_env_close(state);
    if (renameat(dir->fd, "state.tmp", dir->fd, "state.new") != 0)
        return err_errno(errno, "%s/state.tmp", dir->path);
    int code = dir_flush(dir->fd);
    if (!code && faccessat(dir->fd, STATE_FILE, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        code = dir_quarantine(dir, dir->fd, STATE_FILE);
    return code ? code : take_over_new(state);
}

int state_env_make(struct state *state)
{
    state->base = 0;
    int code = state_env_build(state, "state.tmp");
    if (!code)
        code = state_env_publish(state);
    if (!code)
        code = state_env_attach(state);
    if (!code)
        state_reserve_top_up(state);
    return code;
}

int state_env_make_standin(struct state *state)
{
    int fd = memfd_create(STATE_FILE, MFD_CLOEXEC);
    if (fd < 0)
        return err_errno(errno, "an empty " STATE_FILE " in memory");
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    state_env_close(state);
    int code = open_env(state, path, MDB_NOSYNC, map_bytes(state));
    close(fd);
    if (!code)
        code = first_rows(state);
    if (code) {
        state_env_close(state);
        return err_prefix(code, "an empty one in memory");
    }
    state->identity = identity_on_disk(state); /* gone stale when a writer makes or replaces the file */
    return SPOOL_OK;
}
