/* recovery.c - journals of dead processes: applied to the log, emptied, and kept for processes to come.
 *
 * A journal belongs to whoever holds the record lock on its file. One whose lock can be taken is dead or spare: its
 * valid records from the stored position on are committed to the log, together with a new position behind everything that is
 * in the file, so that no leftover can ever match again. A crash in between repeats that from the position stored last; two
 * adopters exclude each other by the lock. What can't be read goes to quarantine/, and the rest goes on. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store_inside.h"

/* ------------------------------------------------------------------------------------------------- applying one */

struct applying {
    struct store *store;
    struct packer *packer;
    struct log_position position; /* behind the last record gathered */
    uint64_t events;
};

/* A peer may hold the lock for long, or be stopped: recovery at open waits for it, but not for ever. */
static uint64_t recovery_deadline(void)
{
    return deadline_in_ms(10000);
}

static int commit_gathered(struct applying *applying)
{
    struct log_run *runs;
    size_t n;
    packer_runs(applying->packer, &runs, &n);
    int code = log_commit(applying->store->log, runs, n, &applying->position, 1, recovery_deadline());
    if (code)
        return code;
    hlc_raise(applying->store->clock, packer_max_id(applying->packer));
    applying->events += packer_events(applying->packer);
    packer_reset(applying->packer);
    return SPOOL_OK;
}

static int apply_record(void *user, const uint8_t *payload, size_t size, uint64_t position)
{
    struct applying *applying = user;
    size_t most = applying->store->dir.segment_bytes / 4;
    if (packer_bytes(applying->packer) && packer_bytes(applying->packer) + size > most) {
        int code = commit_gathered(applying);
        if (code)
            return code;
    }
    applying->position.applied = position + JOURNAL_RECORD_HEADER + size;
    int code = packer_add_frame(applying->packer, payload, size);
    if (code != SPOOL_EDAMAGED)
        return code;
    store_damaged(applying->store, "journal", err_last(),
                  1); /* the checksum is right, the content is not: a bug or a forgery */
    return SPOOL_OK;
}

/* Commits what the journal holds; *ret_position is where new records may begin. */
static int apply_all(struct applying *applying, struct journal *journal, uint64_t *ret_position)
{
    uint64_t applied = 0;
    int code = log_position(applying->store->log, journal_uuid(journal), recovery_deadline(), &applied);
    bool known = code == SPOOL_OK;
    if (code && code != SPOOL_ENOTFOUND)
        return code;
    struct journal_scan scan;
    code = journal_scan(journal, applied, known, apply_record, applying, &scan);
    if (code)
        return code;
    if (scan.gaps)
        report(&applying->store->options.reporter, SPOOL_LOG_WARNING,
               "journal %s: %llu gap(s) between records: process-level events that a loss of power took",
               journal_name(journal), (unsigned long long)scan.gaps);
    *ret_position = scan.records ? scan.end : applied;
    if (!scan.records)
        return SPOOL_OK;
    applying->position.applied = scan.end;
    return commit_gathered(applying);
}

static int apply_journal(struct store *store, struct journal *journal)
{
    struct applying applying = {.store = store};
    memcpy(applying.position.uuid, journal_uuid(journal), sizeof applying.position.uuid);
    uint64_t position = 0;
    int code = packer_new(&applying.packer);
    if (!code)
        code = apply_all(&applying, journal, &position);
    packer_free(applying.packer);
    if (code)
        return err_prefix(code, "applying journal %s", journal_name(journal));
    journal_begin_at(journal, position);
    if (applying.events) {
        atomic_fetch_add(&store->recovered_events, applying.events);
        notify(&store->options.reporter, SPOOL_NOTICE_RECOVERED, NULL, NULL, applying.events,
               "journal %s of a process that ended: %llu event(s) taken over", journal_name(journal),
               (unsigned long long)applying.events);
        store_tell_change(store, false);
    }
    return SPOOL_OK;
}

/* ------------------------------------------------------------------------------------------- going through them */

struct sweep {
    struct store *store;
    struct journal *own; /* kept: an emptied one of the right size */
    bool want_own;
    uint32_t all, spare;
    uint32_t unapplied; /* could not be committed: the disk is full, or a peer holds the lock */
};

/* The record lock does not tell: it is the process's, and to close one's own journal once more gives it up. While the
 * committer makes a new one, any may be that; the next sweep looks again. */
static bool is_ours(struct store *store, const char *name)
{
    pthread_mutex_lock(&store->append_mutex);
    bool ours = store->replacing || (store->ring && strcmp(journal_name(store->ring->journal), name) == 0);
    for (struct ring *ring = store->retired; ring && !ours; ring = ring->next)
        ours = strcmp(journal_name(ring->journal), name) == 0;
    pthread_mutex_unlock(&store->append_mutex);
    return ours;
}

/* Whoever takes a journal touches it, so an emptied one with the same time of change is still empty. */
static bool is_known_spare(struct store *store, const char *name)
{
    struct stat st;
    for (size_t i = 0; i < store->spare_count; i++) {
        struct spare *spare = &store->spares[i];
        if (strcmp(spare->name, name) != 0)
            continue;
        if (fstatat(store->dir.journal_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            st.st_mtim.tv_sec == spare->taken.tv_sec && st.st_mtim.tv_nsec == spare->taken.tv_nsec)
            return true;
        *spare = store->spares[--store->spare_count];
        return false;
    }
    return false;
}

/* File times go in ticks of some milliseconds: who takes it in the tick in which it was last changed leaves the same time.
 * So only a time that is past is remembered; the others are looked at again by the next sweep. */
static void remember_spare(struct store *store, const char *name)
{
    struct stat st;
    if (store->spare_count == SPARES_KNOWN_MAX || fstatat(store->dir.journal_fd, name, &st, AT_SYMLINK_NOFOLLOW) ||
        (uint64_t)st.st_mtim.tv_sec + 1 >= real_ns() / (1000 * NS_PER_MS))
        return;
    struct spare *spare = &store->spares[store->spare_count++];
    snprintf(spare->name, sizeof spare->name, "%s", name);
    spare->taken = st.st_mtim;
}

static int touch(struct store *store, const struct journal *journal)
{
    if (utimensat(store->dir.journal_fd, journal_name(journal), NULL, AT_SYMLINK_NOFOLLOW) == 0)
        return SPOOL_OK;
    return err_errno(errno, "journal %s", journal_name(journal));
}

static void set_aside(struct store *store, const char *name)
{
    char what[300];
    snprintf(what, sizeof what, "journal header: %.250s", err_last());
    if (dir_quarantine(&store->dir, store->dir.journal_fd, name))
        report(&store->options.reporter, SPOOL_LOG_ERROR, "%s", err_last());
    store_damaged(store, name, what, 0);
}

/* An emptied journal: ours, or a spare one, or one too many. */
static void keep_or_remove(struct sweep *sweep, struct journal *journal)
{
    struct store *store = sweep->store;
    bool fits = journal_ring_bytes(journal) == store->options.journal_bytes;
    if (sweep->want_own && !sweep->own && fits && touch(store, journal) == SPOOL_OK) {
        sweep->own = journal;
    } else if (sweep->spare < SPARE_JOURNALS_MAX) {
        sweep->spare++;
        remember_spare(store, journal_name(journal));
        journal_close(journal);
    } else {
        sweep->all--;
        if (journal_remove(journal))
            report(&store->options.reporter, SPOOL_LOG_WARNING, "%s", err_last());
    }
}

static int sweep_one(void *user, const char *name)
{
    struct sweep *sweep = user;
    struct store *store = sweep->store;
    sweep->all++;
    if (is_ours(store, name))
        return 0;
    if (is_known_spare(store, name)) {
        sweep->spare++;
        return 0;
    }
    struct journal *journal;
    int code = journal_adopt(store->dir.journal_fd, name, store->dir.copy_on_write, &journal);
    if (code == SPOOL_EDAMAGED)
        set_aside(store, name);
    if (code == SPOOL_EDAMAGED || code == SPOOL_EBUSY || code == SPOOL_ENOTFOUND || code == SPOOL_EVERSION)
        return 0; /* its owner lives, or it has just gone; a newer version's is left alone */
    if (code) {   /* it could not be looked at: tried again later, and nobody may say that nothing waits */
        report(&store->options.reporter, SPOOL_LOG_ERROR, "%s", err_last());
        sweep->unapplied++;
        return 0;
    }
    code = apply_journal(store, journal);
    if (code) {
        report(&store->options.reporter, SPOOL_LOG_ERROR, "%s", err_last());
        sweep->unapplied++;
        journal_close(journal);
        return 0;
    }
    keep_or_remove(sweep, journal);
    return 0;
}

static int run_sweep(struct sweep *sweep)
{
    int code = dir_each(sweep->store->dir.journal_fd, ".jnl", sweep_one, sweep);
    atomic_store(&sweep->store->journal_count, sweep->all);
    atomic_store(&sweep->store->unapplied_journals, sweep->unapplied);
    return code;
}

/* A new journal of one's own. Also called with append_mutex held, while there is no ring. */
int recovery_own_journal(struct store *store, struct journal **ret)
{
    struct store_options *o = &store->options;
    return journal_create(store->dir.journal_fd, o->journal_bytes, store->dir.file_mode, store->dir.copy_on_write, ret);
}

static void install(struct store *store, struct journal *journal)
{
    struct ring *ring = calloc(1, sizeof *ring);
    if (!ring) {
        journal_close(journal);
        return; /* asked for again by the first append */
    }
    ring->journal = journal;
    store->ring = ring;
}

int recovery_open(struct store *store)
{
    struct sweep sweep = {.store = store, .want_own = true};
    int code = run_sweep(&sweep);
    if (code) {
        journal_close(sweep.own);
        return code;
    }
    /* A full disk must not keep a spool from opening to drain: what could not be applied or made is tried again later. */
    struct journal *own = sweep.own;
    if (!own && recovery_own_journal(store, &own)) {
        report(&store->options.reporter, SPOOL_LOG_WARNING, "no journal yet: %s", err_last());
        return SPOOL_OK;
    }
    install(store, own);
    return SPOOL_OK;
}

void recovery_adopt_dead(struct store *store)
{
    struct sweep sweep = {.store = store};
    if (run_sweep(&sweep))
        report(&store->options.reporter, SPOOL_LOG_WARNING, "%s", err_last());
}

bool recovery_journal_exists(void *user, const uint8_t uuid[JOURNAL_UUID_SIZE])
{
    struct store *store = user;
    struct spool_id id;
    char name[SPOOL_ID_TEXT_SIZE + 8];
    memcpy(id.bytes, uuid, sizeof id.bytes);
    spool_id_format(&id, name);
    strcat(name, ".jnl");
    if (faccessat(store->dir.journal_fd, name, F_OK, 0) == 0 || errno != ENOENT)
        return true;
    /* Whoever removed it may not have flushed the directory yet. Would it come back after a loss of power, and its position
     * were forgotten, all of it would be applied again. */
    return dir_flush(store->dir.journal_fd) != SPOOL_OK;
}

/* ------------------------------------------------------------------------------------------ read-only inspection */

struct inspection {
    struct store *store;
    uint32_t dead;
    uint64_t all;
};

static int ignore_record(void *user, const uint8_t *payload, size_t size, uint64_t position)
{
    (void)user, (void)payload, (void)size, (void)position;
    return 0;
}

static int inspect_one(void *user, const char *name)
{
    struct inspection *inspection = user;
    struct journal *journal;
    bool dead;
    inspection->all++;
    if (journal_inspect(inspection->store->dir.journal_fd, name, &journal, &dead))
        return 0;
    uint64_t applied = 0;
    struct journal_scan scan = {0};
    int code =
        dead ? log_position(inspection->store->log, journal_uuid(journal), recovery_deadline(), &applied) : SPOOL_EBUSY;
    if (code == SPOOL_OK || code == SPOOL_ENOTFOUND)
        code = journal_scan(journal, applied, code == SPOOL_OK, ignore_record, NULL, &scan);
    inspection->dead += code == SPOOL_OK && scan.records > 0;
    journal_close(journal);
    return 0;
}

void recovery_inspect(struct store *store, uint32_t *ret_dead, uint64_t *ret_journals)
{
    struct inspection inspection = {.store = store};
    if (dir_each(store->dir.journal_fd, ".jnl", inspect_one, &inspection))
        report(&store->options.reporter, SPOOL_LOG_WARNING, "%s", err_last());
    *ret_dead = inspection.dead;
    *ret_journals = inspection.all;
}
