/* state_salvage.c - what is whole in a damaged state.mdb becomes a new one.
 *
 * LMDB can't be trusted with the file, so its raw bytes are searched for rows: magic, sizes, and the CRC that is seeded
 * with the spool's uuid. Pages that LMDB has freed hold older versions of rows, so of each key the highest stamp
 * counts. Rows of a transaction that was never committed are left out, as far as the meta pages tell which one was the
 * last.
 *
 * Consequences: a row deleted long ago may come back. A retry is then delivered again, and a purged dead letter listed
 * again, which at-least-once allows; a removed sink does not return, because it left a mark. A cursor whose newest row
 * is lost falls back to an older one: events are delivered again. Two passes, the small and important tables first, so
 * that resurrected events can't take the room from them.
 *
 * The new file takes room while the damaged one is there. On a full disk that comes from the damaged one: its reserve
 * (state_reserve.c) is zeros behind everything that was ever written, which is cut off. If even that is not enough for
 * all retries and dead letters, nothing is changed, and the spool opens when there is room: none of them is left behind
 * because others filled the disk. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "state_inside.h"

enum { WINDOW = 1 << 20, PAGE_MIN = 4096, LMDB_MAGIC_AT = 16, LMDB_PAGE_SIZE_AT = 40, LMDB_TXNID_AT = 144 };

struct salvage {
    struct state *state;
    int fd;          /* the damaged file */
    uint8_t *window; /* WINDOW bytes */
    struct state_txn txn;
    bool open;               /* the transaction */
    bool events;             /* second pass: retries, dead letters, pieces */
    bool full;               /* no more room in the map for events */
    bool short_of_disk;      /* the reserve was given back: take what there is, and keep none */
    uint64_t base, last_txn; /* of the damaged file; last_txn UINT64_MAX: unknown */
    uint64_t top_stamp;
};

/* ------------------------------------------------------------------------------------------ the last transaction */

/* The transaction number in the meta page at `offset`, if it is one. (LMDB 0.9, data version 1: behind the page's
 * header of 16 bytes magic, version, address, map size, two trees of 48 bytes of which the first begins with the page
 * size, last page, then the number.) */
static bool read_txnid(int fd, off_t offset, uint64_t *ret, uint32_t *ret_page_size)
{
    uint8_t page[LMDB_TXNID_AT + 8];
    if (dir_read_at(fd, page, sizeof page, offset) != (ssize_t)sizeof page)
        return false;
    if (get_u32(page + LMDB_MAGIC_AT) != 0xBEEFC0DE || get_u32(page + LMDB_MAGIC_AT + 4) != 1)
        return false;
    *ret = get_u64(page + LMDB_TXNID_AT);
    *ret_page_size = get_u32(page + LMDB_PAGE_SIZE_AT);
    return true;
}

/* With one meta page gone, the transaction after the other's may have been committed, and its data is then complete. */
static uint64_t last_transaction(int fd)
{
    uint64_t a = 0, b = 0;
    uint32_t page_size = PAGE_MIN, unused;
    bool has_a = read_txnid(fd, 0, &a, &page_size);
    bool has_b = read_txnid(fd, page_size, &b, &unused);
    if (has_a && has_b)
        return a > b ? a : b;
    return has_a ? a + 1 : has_b ? b + 1 : UINT64_MAX;
}

/* ------------------------------------------------------------------------------------------------------- rows */

static bool is_event_table(uint8_t table)
{
    return table == TABLE_DEAD || table == TABLE_RETRY || table == TABLE_PIECE;
}

static bool is_version_row(const struct state_row *view)
{
    return view->key_size == 2 && view->key[0] == TABLE_META && view->key[1] == META_VERSION;
}

static bool is_committed(const struct salvage *s, const struct state_row *view)
{
    return s->last_txn == UINT64_MAX || view->stamp <= s->base || view->stamp - s->base <= s->last_txn;
}

static int begin(struct salvage *s)
{
    int code = s->open ? SPOOL_OK : state_txn_inner(s->state, true, &s->txn);
    if (!code)
        s->open = true;
    return code;
}

static int commit(struct salvage *s, int code)
{
    if (!s->open)
        return code;
    s->open = false;
    return state_txn_end(&s->txn, code);
}

/* Copies the row as it is, stamp and all, unless a newer one of its key is there. */
static int keep_row(struct salvage *s, const struct state_row *view, const uint8_t *row)
{
    struct state_key key = {.size = view->key_size};
    struct state_row old;
    memcpy(key.bytes, view->key, view->key_size);
    int code = begin(s);
    if (!code && s->events && !s->txn.writes && !s->short_of_disk)
        code = state_reserve_check(&s->txn, ROOM_NEW, 0, STATE_TXN_ROWS * (uint64_t)PAGE_MIN);
    if (code)
        return code;
    if (state_table_get(&s->txn, &key, &old) == SPOOL_OK && old.stamp >= view->stamp)
        return SPOOL_OK;
    MDB_val k = {.mv_size = key.size, .mv_data = key.bytes},
            value = {.mv_size = view->row_size, .mv_data = (void *)row};
    int rc = mdb_put(s->txn.txn, s->state->dbi, &k, &value, 0);
    if (rc)
        return state_env_error(rc, "salvaging");
    if (++s->txn.writes >= STATE_TXN_ROWS)
        return commit(s, SPOOL_OK);
    return SPOOL_OK;
}

static int take_row(struct salvage *s, const struct state_row *view, const uint8_t *row)
{
    uint8_t table = view->key[0];
    if (is_version_row(view) || table >= TABLES || is_event_table(table) != s->events || s->full ||
        !is_committed(s, view))
        return SPOOL_OK;
    if (s->top_stamp < view->stamp)
        s->top_stamp = view->stamp;
    int code = keep_row(s, view, row);
    if (code != SPOOL_EFULL || !s->events || state_map_has_room(s->state))
        return code;
    s->full = true; /* the rest of the events has no room: what is in stays */
    report(&s->state->options.reporter, SPOOL_LOG_WARNING,
           STATE_FILE ": salvaging: no room for all retries and dead letters");
    return SPOOL_OK;
}

/* Before anything else: which version is it, and which base do its stamps have? */
static int look_at_version(struct salvage *s, const struct state_row *view, const uint8_t *row)
{
    (void)row;
    uint64_t base = 0;
    if (!is_version_row(view))
        return SPOOL_OK;
    int code = state_version_check(view, &base);
    if (code == SPOOL_EVERSION)
        return code;
    if (!code && s->base < base)
        s->base = base;
    return SPOOL_OK;
}

/* -------------------------------------------------------------------------------------------------------- scanning */

typedef int (*salvage_row)(struct salvage *s, const struct state_row *view, const uint8_t *row);

/* Finds the rows that begin before `end`; *ret_next is where to go on. */
static int scan_window(struct salvage *s, size_t size, size_t end, salvage_row each, size_t *ret_next)
{
    const uint8_t *at = s->window, *stop = s->window + size;
    int code = SPOOL_OK;
    while (!code && (at = memmem(at, (size_t)(stop - at), STATE_ROW_MAGIC, sizeof STATE_ROW_MAGIC)) &&
           at < s->window + end) {
        struct state_row view;
        if (state_row_read(at, (size_t)(stop - at), s->state->seed, &view)) {
            at++;
            continue;
        }
        code = each(s, &view, at);
        at += view.row_size; /* what looks like a row inside of one is not */
    }
    size_t next = at ? (size_t)(at - s->window) : end;
    *ret_next = next < end ? end : next;
    return code;
}

/* Not beyond the end: a disk that answers EIO does so there, too. One that gives nothing at all is no damaged file, and may
 * give it later. */
static int scan(struct salvage *s, salvage_row each)
{
    struct stat st;
    if (fstat(s->fd, &st))
        return err_errno(errno, STATE_FILE);
    bool any = st.st_size == 0;
    int code = SPOOL_OK;
    for (off_t offset = 0; !code && offset < st.st_size;) {
        ssize_t n = dir_read_at(s->fd, s->window, WINDOW, offset);
        if (n < 0 && errno == EIO) { /* an unreadable page: go on behind it */
            offset += PAGE_MIN;
            continue;
        }
        if (n < 0)
            code = err_errno(errno, STATE_FILE);
        if (n <= 0)
            break;
        any = true;
        size_t size = (size_t)n, next, end = size == WINDOW ? size - ROW_MAX : size;
        code = scan_window(s, size, end, each, &next);
        offset += (off_t)next;
    }
    if (!code && !any)
        code = err_errno(EIO, STATE_FILE ": nothing of it can be read");
    return commit(s, code);
}

/* Stamps go on behind all that were found. */
static int raise_base(struct salvage *s)
{
    s->state->base = s->top_stamp;
    return state_env_write_version(s->state);
}

static int fill(struct salvage *s)
{
    int code = scan(s, take_row);
    s->events = true;
    if (!code)
        code = scan(s, take_row);
    if (!code)
        code = raise_base(s);
    return code ? code : state_recount(s->state);
}

/* -------------------------------------------------------------------------------------------------------- the whole */

static int salvage_from(struct salvage *s)
{
    struct state *state = s->state;
    bool read_only = state->options.dir->read_only;
    s->last_txn = last_transaction(s->fd);
    int code = scan(s, look_at_version);
    if (code)
        return code;
    state->base = 0;
    code = read_only ? state_env_make_standin(state) : state_env_build(state, "state.tmp");
    if (code)
        return code;
    code = fill(s);
    if (read_only)
        return code;
    if (!code)
        code = state_env_publish(state);
    if (!code)
        code = state_env_attach(state);
    if (!code)
        state_reserve_top_up(state);
    return code;
}

/* How far the file goes until there are only zeros. */
static int find_end(struct salvage *s, off_t *ret)
{
    struct stat st;
    *ret = 0;
    if (fstat(s->fd, &st))
        return err_errno(errno, STATE_FILE);
    for (off_t offset = 0; offset < st.st_size;) {
        ssize_t n = dir_read_at(s->fd, s->window, WINDOW, offset);
        if (n < 0)
            return err_errno(errno, STATE_FILE);
        if (n == 0)
            break;
        size_t used = (size_t)n;
        while (used > 0 && s->window[used - 1] == 0)
            used--;
        if (used > 0)
            *ret = offset + (off_t)used;
        offset += n;
    }
    *ret = (off_t)round_up((uint64_t)*ret, PAGE_MIN);
    return SPOOL_OK;
}

/* Whoever has the file open reads no page behind that, and writing there makes it longer again. */
static int give_back_reserve(struct salvage *s)
{
    const struct dir *dir = s->state->options.dir;
    off_t end;
    int code = find_end(s, &end);
    int fd = code ? -code : dir_open_file(dir, dir->fd, STATE_FILE, O_RDWR);
    if (fd < 0)
        return -fd;
    if (ftruncate(fd, end) != 0)
        code = err_errno(errno, "cutting off the reserve of " STATE_FILE);
    close(fd);
    return code;
}

static int salvage_anyway(struct salvage *s)
{
    int code = salvage_from(s);
    if (code != SPOOL_EFULL || s->state->options.dir->read_only)
        return code;
    state_env_close(s->state);
    code = give_back_reserve(s);
    if (code)
        return code;
    s->events = s->full = false;
    s->short_of_disk = true;
    return salvage_from(s);
}

int state_salvage(struct state *state)
{
    const struct dir *dir = state->options.dir;
    struct salvage s = {.state = state, .window = malloc(WINDOW)};
    if (!s.window)
        return err_errno(ENOMEM, "salvaging " STATE_FILE);
    report(&state->options.reporter, SPOOL_LOG_WARNING, "salvaging: %s", err_last());
    state_env_close(state);
    s.fd = dir_open_file(dir, dir->fd, STATE_FILE, O_RDONLY);
    int code = s.fd < 0 ? -s.fd : salvage_anyway(&s);
    if (s.fd >= 0)
        close(s.fd);
    free(s.window);
    if (code) {
        state_env_close(state);
        unlinkat(dir->fd, "state.tmp", 0); /* takes no room for nothing; there is none if it was in memory */
    }
    return code ? err_prefix(code, "salvaging") : SPOOL_OK;
}
