/* control_wraps.c - controls that change what a function of the library does: the linker sends its callers here (--wrap
 * in flags.mk), and here to the real one. LMDB's are interposed, since the program's own symbols come first. */
#include <dlfcn.h>
#include <limits.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../../lib/base/crc32c.h"
#include "../../../lib/base/error.h"
#include "../../../spool/log_inside.h"
#include "../../../spool/store_inside.h"
#include "control.h"

/* ------------------------------------------------------------------------------------------------------------- LMDB */

int mdb_env_open(MDB_env *env, const char *path, unsigned flags, mdb_mode_t mode)
{
    static int (*real)(MDB_env *, const char *, unsigned, mdb_mode_t);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "mdb_env_open");
    if (control_is("nosync"))
        flags |= MDB_NOSYNC;
    if (control_is("nometasync"))
        flags |= MDB_NOMETASYNC;
    return real(env, path, flags, mode);
}

/* Every image is a copy of the directory; here it stands for the original. */
int __wrap_state_check_home(struct state *state, uint64_t deadline_ns, uint64_t *ret_forgotten);

int __wrap_state_check_home(struct state *state, uint64_t deadline_ns, uint64_t *ret_forgotten)
{
    (void)state, (void)deadline_ns;
    *ret_forgotten = 0;
    return SPOOL_OK;
}

/* ---------------------------------------------------------------------------------------------------------- the log */

int __real_log_commit(struct log *log, struct log_run *runs, size_t n, const struct log_position *positions,
                      size_t position_count, uint64_t deadline_ns);
int __wrap_log_commit(struct log *log, struct log_run *runs, size_t n, const struct log_position *positions,
                      size_t position_count, uint64_t deadline_ns);

int __wrap_log_commit(struct log *log, struct log_run *runs, size_t n, const struct log_position *positions,
                      size_t position_count, uint64_t deadline_ns)
{
    bool after = control_is("position-after-blocks"), before = control_is("position-before-blocks");
    if (!after && !before)
        return __real_log_commit(log, runs, n, positions, position_count, deadline_ns);
    int code = before ? __real_log_commit(log, NULL, 0, positions, position_count, deadline_ns)
                      : __real_log_commit(log, runs, n, NULL, 0, deadline_ns);
    if (code)
        return code;
    return before ? __real_log_commit(log, runs, n, NULL, 0, deadline_ns)
                  : __real_log_commit(log, NULL, 0, positions, position_count, deadline_ns);
}

int __real_log_refresh(struct log *log);
int __wrap_log_refresh(struct log *log);

/* Once a segment is open it is not looked whether others have begun a new one. */
int __wrap_log_refresh(struct log *log)
{
    if (control_is("stale-segment") && log->count && log->entries[log->count - 1].segment)
        return SPOOL_OK;
    return __real_log_refresh(log);
}

int __real_segment_settle(struct segment *segment);
int __wrap_segment_settle(struct segment *segment);

int __wrap_segment_settle(struct segment *segment)
{
    return control_is("trusts-seen-commits") ? SPOOL_OK : __real_segment_settle(segment);
}

int __real_state_settle(struct state *state, uint64_t deadline_ns);
int __wrap_state_settle(struct state *state, uint64_t deadline_ns);

int __wrap_state_settle(struct state *state, uint64_t deadline_ns)
{
    return control_is("trusts-seen-cursors") ? SPOOL_OK : __real_state_settle(state, deadline_ns);
}

/* ------------------------------------------------------------------------------------------------------ the journal */

int __real_journal_walk(struct journal *journal, uint64_t from, size_t bytes_max, bool verify,
                        int (*each)(void *user, const uint8_t *payload, size_t size), void *user, uint64_t *ret_to);
int __wrap_journal_walk(struct journal *journal, uint64_t from, size_t bytes_max, bool verify,
                        int (*each)(void *user, const uint8_t *payload, size_t size), void *user, uint64_t *ret_to);

int __wrap_journal_walk(struct journal *journal, uint64_t from, size_t bytes_max, bool verify,
                        int (*each)(void *user, const uint8_t *payload, size_t size), void *user, uint64_t *ret_to)
{
    int code = __real_journal_walk(journal, from, bytes_max, verify, each, user, ret_to);
    if (!code && control_is("space-reused-early"))
        journal_set_applied(journal, *ret_to);
    return code;
}

int __real_journal_scan(struct journal *journal, uint64_t applied, bool applied_known,
                        int (*each)(void *user, const uint8_t *payload, size_t size, uint64_t position), void *user,
                        struct journal_scan *ret);
int __wrap_journal_scan(struct journal *journal, uint64_t applied, bool applied_known,
                        int (*each)(void *user, const uint8_t *payload, size_t size, uint64_t position), void *user,
                        struct journal_scan *ret);

struct stopping {
    int (*each)(void *user, const uint8_t *payload, size_t size, uint64_t position);
    void *user;
    uint64_t next; /* where the next record has to stand */
    bool stopped;
};

/* Records of the scenario never cross the end of the ring, so that there is no padding to know of. */
static int until_first_gap(void *user, const uint8_t *payload, size_t size, uint64_t position)
{
    struct stopping *stopping = user;
    stopping->stopped |= stopping->next && position != stopping->next;
    stopping->next = position + JOURNAL_RECORD_HEADER + size;
    return stopping->stopped ? 0 : stopping->each(stopping->user, payload, size, position);
}

static int take_none(void *user, const uint8_t *payload, size_t size, uint64_t position)
{
    (void)user, (void)payload, (void)size, (void)position;
    return 0;
}

int __wrap_journal_scan(struct journal *journal, uint64_t applied, bool applied_known,
                        int (*each)(void *user, const uint8_t *payload, size_t size, uint64_t position), void *user,
                        struct journal_scan *ret)
{
    struct stopping stopping = {.each = each, .user = user};
    if (control_is("stops-at-bad-record"))
        return __real_journal_scan(journal, applied, applied_known, until_first_gap, &stopping, ret);
    if (control_is("forgets-adopted"))
        return __real_journal_scan(journal, applied, applied_known, take_none, NULL, ret);
    return __real_journal_scan(journal, applied, applied_known, each, user, ret);
}

void __real_journal_begin_at(struct journal *journal, uint64_t position);
void __wrap_journal_begin_at(struct journal *journal, uint64_t position);

void __wrap_journal_begin_at(struct journal *journal, uint64_t position)
{
    uint64_t ring = journal_ring_bytes(journal);
    if (control_is("begins-in-old-positions") && position >= ring)
        position -= ring;
    __real_journal_begin_at(journal, position);
}

bool __real_recovery_journal_exists(void *user, const uint8_t uuid[JOURNAL_UUID_SIZE]);
bool __wrap_recovery_journal_exists(void *user, const uint8_t uuid[JOURNAL_UUID_SIZE]);

bool __wrap_recovery_journal_exists(void *user, const uint8_t uuid[JOURNAL_UUID_SIZE])
{
    control_before_flush = control_is("forgets-removed-journal") ? control_flush_nothing : NULL;
    bool exists = __real_recovery_journal_exists(user, uuid);
    control_before_flush = NULL;
    return exists;
}

/* ------------------------------------------------------------------------------------------ flushes of directories */

_Thread_local bool (*control_before_flush)(int fd);

int __real_dir_flush(int at_fd);
int __wrap_dir_flush(int at_fd);

bool control_flush_nothing(int fd)
{
    (void)fd;
    return false;
}

int __wrap_dir_flush(int at_fd)
{
    bool (*before)(int fd) = control_before_flush;
    return before && !before(at_fd) ? SPOOL_OK : __real_dir_flush(at_fd);
}

/* -------------------------------------------------------------------------------------------------------- the state */

int __real_state_ack(struct state *state, const struct store_ack *ack, uint64_t deadline_ns);
int __wrap_state_ack(struct state *state, const struct store_ack *ack, uint64_t deadline_ns);

/* Of the same sink, with the same ranges. */
static struct store_ack nothing_new(const struct store_ack *ack)
{
    struct store_ack same = {.sink_id = ack->sink_id, .generation = ack->generation};
    memcpy(same.ranges, ack->ranges, sizeof same.ranges);
    memcpy(same.range_count, ack->range_count, sizeof same.range_count);
    return same;
}

static int ack_in_two(struct state *state, const struct store_ack *ack, uint64_t deadline_ns)
{
    struct store_ack part = *ack, checkpoint = nothing_new(ack);
    part.checkpoint_size = 0;
    checkpoint.checkpoint = ack->checkpoint;
    checkpoint.checkpoint_size = ack->checkpoint_size;
    int code = __real_state_ack(state, &part, deadline_ns);
    return code ? code : __real_state_ack(state, &checkpoint, deadline_ns);
}

static int count_apart(struct state *state, const struct store_ack *ack, uint64_t deadline_ns)
{
    struct store_ack uncounted = *ack, counts = nothing_new(ack);
    memset(uncounted.delivered, 0, sizeof uncounted.delivered);
    memcpy(counts.delivered, ack->delivered, sizeof counts.delivered);
    int code = __real_state_ack(state, &uncounted, deadline_ns);
    return code ? code : __real_state_ack(state, &counts, deadline_ns);
}

/* All of them first, and taken off again when they are counted one by one. */
static int count_early(struct state *state, const struct store_ack *ack, uint64_t deadline_ns)
{
    struct store_ack early = *ack, rows = nothing_new(ack);
    early.done_count = 0;
    rows.done = ack->done;
    rows.done_count = ack->done_count;
    for (size_t i = 0; i < ack->done_count; i++) {
        early.delivered[ack->done[i].lane] += ack->done[i].end == STORE_END_DELIVERED;
        rows.delivered[ack->done[i].lane] -= ack->done[i].end == STORE_END_DELIVERED;
    }
    int code = __real_state_ack(state, &early, deadline_ns);
    return code || !rows.done_count ? code : __real_state_ack(state, &rows, deadline_ns);
}

/* Only the cursors of an acknowledgement that carries nothing else are put off. */
static int ack_later(struct state *state, const struct store_ack *ack, uint64_t deadline_ns)
{
    static unsigned acks;
    bool plain = !ack->retry_count && !ack->dead_count && !ack->done_count && !ack->checkpoint_size;
    return plain && acks++ % 2 == 0 ? SPOOL_OK : __real_state_ack(state, ack, deadline_ns);
}

/* Without the ranges; with `skips`, the cursor stands behind them. */
static int ack_without_ranges(struct state *state, const struct store_ack *ack, bool skips, uint64_t deadline_ns)
{
    struct store_ack changed = *ack;
    for (int lane = 0; lane < LANES; lane++) {
        uint32_t count = ack->range_count[lane];
        changed.range_count[lane] = 0;
        if (skips && count > 0)
            changed.cursor[lane] = ack->ranges[lane][count - 1].first + ack->ranges[lane][count - 1].count;
    }
    return __real_state_ack(state, &changed, deadline_ns);
}

int __wrap_state_ack(struct state *state, const struct store_ack *ack, uint64_t deadline_ns)
{
    if (control_is("checkpoint-apart"))
        return ack_in_two(state, ack, deadline_ns);
    if (control_is("counted-apart"))
        return count_apart(state, ack, deadline_ns);
    if (control_is("counted-early"))
        return count_early(state, ack, deadline_ns);
    if (control_is("acknowledged-later"))
        return ack_later(state, ack, deadline_ns);
    if (control_is("forgets-ranges") || control_is("skips-gaps"))
        return ack_without_ranges(state, ack, control_is("skips-gaps"), deadline_ns);
    return __real_state_ack(state, ack, deadline_ns);
}

int __real_store_ack(struct store *store, const struct store_ack *ack, uint64_t deadline_ns);
int __wrap_store_ack(struct store *store, const struct store_ack *ack, uint64_t deadline_ns);

int __wrap_store_ack(struct store *store, const struct store_ack *ack, uint64_t deadline_ns)
{
    const struct spool_id keep_nothing = {0};
    uint64_t deleted;
    if (control_is("deletes-early"))
        log_delete(store->log, ack->cursor, &keep_nothing, deadline_ns, &deleted);
    return __real_store_ack(store, ack, deadline_ns);
}

int __real_store_dead_requeue(struct store *store, const char *sink, const struct spool_id *id, uint64_t *ret_n);
int __wrap_store_dead_requeue(struct store *store, const char *sink, const struct spool_id *id, uint64_t *ret_n);

enum { KEPT_MAX = 64 };

struct kept {
    struct store_retry_put puts[KEPT_MAX];
    size_t n;
};

static int keep_letter(void *user, const struct store_dead *dead)
{
    struct kept *kept = user;
    uint8_t *copy = kept->n < KEPT_MAX ? malloc(dead->packed_size) : NULL;
    if (!copy)
        return ENOMEM;
    memcpy(copy, dead->packed, dead->packed_size);
    kept->puts[kept->n] = (struct store_retry_put){.row = dead->row, .packed = copy};
    kept->puts[kept->n].row.attempts = 0;
    kept->n++;
    return 0;
}

static int requeue_in_two(struct store *store, const char *name, const char *to, uint64_t *ret_n)
{
    struct kept kept = {.n = 0};
    struct store_sink sink;
    int code = store_sink_get(store, to, &sink);
    if (!code)
        code = store_dead_each(store, name, keep_letter, &kept);
    if (!code)
        code = store_dead_purge(store, name, NULL, ret_n);
    struct store_ack ack = {
        .sink_id = sink.id, .generation = sink.generation, .retries = kept.puts, .retry_count = kept.n};
    for (int lane = 0; lane < LANES; lane++) {
        ack.ranges[lane] = sink.ranges[lane];
        ack.range_count[lane] = sink.range_count[lane];
    }
    if (!code)
        code = store_ack(store, &ack, DEADLINE_NEVER);
    for (size_t i = 0; i < kept.n; i++)
        free((void *)kept.puts[i].packed);
    return code;
}

int __wrap_store_dead_requeue(struct store *store, const char *sink, const struct spool_id *id, uint64_t *ret_n)
{
    if (control_is("requeue-in-two"))
        return requeue_in_two(store, sink, sink, ret_n);
    return __real_store_dead_requeue(store, sink, id, ret_n);
}

int __real_store_dead_requeue_to(struct store *store, const char *sink, const struct spool_id *id, const char *to,
                                 uint64_t *ret_n);
int __wrap_store_dead_requeue_to(struct store *store, const char *sink, const struct spool_id *id, const char *to,
                                 uint64_t *ret_n);
int __wrap_store_dead_requeue_to(struct store *store, const char *sink, const struct spool_id *id, const char *to,
                                 uint64_t *ret_n)
{
    if (control_is("move-in-two"))
        return requeue_in_two(store, sink, to, ret_n);
    return __real_store_dead_requeue_to(store, sink, id, to, ret_n);
}

int __real_store_sink_pause_for(struct store *store, const char *name, const char *reason);
int __wrap_store_sink_pause_for(struct store *store, const char *name, const char *reason);
int __wrap_store_sink_pause_for(struct store *store, const char *name, const char *reason)
{
    return __real_store_sink_pause_for(store, name, control_is("reason-forgotten") ? "" : reason);
}

int __real_store_dead_edit(struct store *store, const char *sink, const struct spool_id *id, const uint8_t *packed,
                           size_t size, uint64_t *ret_n);
int __wrap_store_dead_edit(struct store *store, const char *sink, const struct spool_id *id, const uint8_t *packed,
                           size_t size, uint64_t *ret_n);

static int edit_in_two(struct store *store, const char *sink, const struct spool_id *id, const uint8_t *packed,
                       size_t size, uint64_t *ret_n)
{
    struct store_dead dead = {.row.id = *id, .row.lane = lane_of(event_packed_priority(packed)), .died_ns = 1};
    snprintf(dead.sink, sizeof dead.sink, "%s", sink);
    dead.packed = packed;
    dead.packed_size = size;
    int code = store_dead_purge(store, sink, id, ret_n);
    return code ? code : store_dead_import(store, &dead);
}

int __wrap_store_dead_edit(struct store *store, const char *sink, const struct spool_id *id, const uint8_t *packed,
                           size_t size, uint64_t *ret_n)
{
    if (control_is("edit-in-two"))
        return edit_in_two(store, sink, id, packed, size, ret_n);
    return __real_store_dead_edit(store, sink, id, packed, size, ret_n);
}

int __real_store_sink_rewind(struct store *store, const char *name, const uint64_t cursor[LANES], uint64_t *ret_again);
int __wrap_store_sink_rewind(struct store *store, const char *name, const uint64_t cursor[LANES], uint64_t *ret_again);

int __wrap_store_sink_rewind(struct store *store, const char *name, const uint64_t cursor[LANES], uint64_t *ret_again)
{
    return control_is("rewind-forgotten") ? SPOOL_OK : __real_store_sink_rewind(store, name, cursor, ret_again);
}

int __real_store_sink_limit(struct store *store, const char *name, uint64_t bytes, uint64_t age_ms);
int __wrap_store_sink_limit(struct store *store, const char *name, uint64_t bytes, uint64_t age_ms);

int __wrap_store_sink_limit(struct store *store, const char *name, uint64_t bytes, uint64_t age_ms)
{
    return control_is("limit-forgotten") ? SPOOL_OK : __real_store_sink_limit(store, name, bytes, age_ms);
}

int __real_state_clock_raise(struct state *state, const struct spool_id *id, uint64_t deadline_ns);
int __wrap_state_clock_raise(struct state *state, const struct spool_id *id, uint64_t deadline_ns);

int __wrap_state_clock_raise(struct state *state, const struct spool_id *id, uint64_t deadline_ns)
{
    return control_is("no-clock-lease") ? SPOOL_OK : __real_state_clock_raise(state, id, deadline_ns);
}

int __real_state_drop_below(struct state *state, const uint64_t first[LANES], const uint64_t upto[LANES],
                            uint64_t deadline_ns, uint64_t *ret_dropped);
int __wrap_state_drop_below(struct state *state, const uint64_t first[LANES], const uint64_t upto[LANES],
                            uint64_t deadline_ns, uint64_t *ret_dropped);

/* The cursors are moved and the events counted one segment late. */
int __wrap_state_drop_below(struct state *state, const uint64_t first[LANES], const uint64_t upto[LANES],
                            uint64_t deadline_ns, uint64_t *ret_dropped)
{
    static uint64_t last_first[LANES], last_upto[LANES];
    if (!control_is("drops-uncounted"))
        return __real_state_drop_below(state, first, upto, deadline_ns, ret_dropped);
    int code = __real_state_drop_below(state, last_first, last_upto, deadline_ns, ret_dropped);
    memcpy(last_first, first, sizeof last_first);
    memcpy(last_upto, upto, sizeof last_upto);
    return code;
}

/* ------------------------------------------------------------------------------------------------- inodes of copies */

static atomic_bool same_inodes;

void control_same_inodes(bool on)
{
    atomic_store(&same_inodes, on);
}

int __real_fstat(int fd, struct stat *ret);
int __wrap_fstat(int fd, struct stat *ret);

/* In the laboratory's own files, which have to know the truth, fstat is another name (flags.mk): lab_real_fstat(). */
int fstat(int fd, struct stat *ret)
{
    return __real_fstat(fd, ret);
}

int __real_stat(const char *path, struct stat *ret);
int __wrap_stat(const char *path, struct stat *ret);

static void take_inode_of_name(const char *path, struct stat *ret)
{
    const char *name = strrchr(path, '/'), *dot = strrchr(path, '.');
    if (!atomic_load(&same_inodes) || !S_ISREG(ret->st_mode) || !name || !dot || strcmp(dot, ".jsonl") != 0)
        return;
    ret->st_dev = 1;
    ret->st_ino = crc32c(0, name, strlen(name));
}

int __wrap_stat(const char *path, struct stat *ret)
{
    int rc = __real_stat(path, ret);
    if (rc == 0)
        take_inode_of_name(path, ret);
    return rc;
}

int __wrap_fstat(int fd, struct stat *ret)
{
    char link[32], path[PATH_MAX] = "";
    int rc = __real_fstat(fd, ret);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (rc == 0 && atomic_load(&same_inodes) && readlink(link, path, sizeof path - 1) > 0)
        take_inode_of_name(path, ret);
    return rc;
}
