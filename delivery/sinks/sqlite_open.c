/* sqlite_open.c - from a path to a connection that can be written to. Nothing is written before it is known whose database
 * it is; a new one is made with the permissions asked for; an older schema is migrated; the log is set up so that COMMIT
 * lasts. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sqlite_archive.h"
#include "sqlite_schema.h"

enum {
    CHECKPOINT_PAGES = 4000, /* the log is copied into the database when it has that many: 16 MiB */
    CACHE_KIB = 8192,
    PROGRESS_STEPS = 10000, /* instructions of SQLite's machine between two looks whether it is cancelled: below 1 ms */
    BUSY_STEP_MS = 20,
};

/* ---------------------------------------------------------------------------------------------------------- errors */

/* What the operator can do about a failure; NULL: SQLite's own text says it. */
static const char *advice(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_INTERRUPT:
        return "cancelled";
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return "another program keeps it locked (busy_timeout)";
    case SQLITE_FULL:
        return "the disk is full";
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return "it is damaged, or no SQLite database: save what sqlite3 FILE .recover finds, and move it away";
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_CANTOPEN:
        return "it cannot be opened for writing: look at the permissions of the file and its directory";
    default:
        return NULL;
    }
}

int archive_unavailable(const struct archive *a, int rc)
{
    const char *what = advice(cancel_is_set(&a->cancel) ? SQLITE_INTERRUPT : rc);
    const char *detail = a->db ? sqlite3_errmsg(a->db) : sqlite3_errstr(rc);
    return spool_sink_error(SPOOL_EUNAVAILABLE, "%s: %s (%s)", a->path, what ? what : "SQLite failed", detail);
}

/* SQL that fails as such, although the version is ours: somebody changed the schema. */
static int failed(const struct archive *a, int rc)
{
    if ((rc & 0xff) != SQLITE_ERROR)
        return archive_unavailable(a, rc);
    return spool_sink_error(SPOOL_ECONFIG, "%s: its schema was changed: %s", a->path, sqlite3_errmsg(a->db));
}

/* ------------------------------------------------------------------------------------------------------- waiting */

/* Another program holds the lock: true to try again. SQLite counts the calls of one wait. */
static int on_busy(void *user, int calls)
{
    struct archive *a = user;
    if ((uint64_t)calls * BUSY_STEP_MS >= a->busy_ms)
        return 0;
    return cancel_wait(&a->cancel, -1, 0, deadline_in_ms(BUSY_STEP_MS)) != WAIT_CANCELLED;
}

static int on_progress(void *user)
{
    struct archive *a = user;
    return cancel_is_set(&a->cancel);
}
/* --------------------------------------------------------------------------------------------------------- opening */

void archive_disconnect(struct archive *a)
{
    sqlite3_stmt **all[] = {&a->begin, &a->insert_all, &a->insert_one, &a->expire, &a->commit, &a->rollback};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        sqlite3_finalize(*all[i]); /* answers what its last step did: known */
        *all[i] = NULL;
    }
    pthread_mutex_lock(&a->lock);
    sqlite3 *db = a->db;
    a->db = NULL;
    pthread_mutex_unlock(&a->lock);
    sqlite3_close(db); /* all is committed or to be forgotten; a log left behind is read at the next open */
}

/* The number that a statement answers first. */
static int ask(struct archive *a, const char *sql, int64_t *ret)
{
    sqlite3_stmt *statement;
    int rc = sqlite3_prepare_v2(a->db, sql, -1, &statement, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW) {
        *ret = sqlite3_column_int64(statement, 0);
        rc = SQLITE_OK;
    }
    sqlite3_finalize(statement);
    return rc == SQLITE_OK ? SPOOL_OK : failed(a, rc);
}

static int run(struct archive *a, const char *sql)
{
    int rc = sqlite3_exec(a->db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? SPOOL_OK : failed(a, rc);
}

/* SQLite would make the file with the permissions of the umask. Only a new one is opened here: closing another one
 * would drop the locks that this process has on it. */
static int create_file(const struct archive *a)
{
    struct stat st;
    char log[PATH_MAX];
    bool fits = snprintf(log, sizeof log, "%s-wal", a->path) < (int)sizeof log;
    if (fits && access(a->path, F_OK) != 0 && stat(log, &st) == 0 && st.st_size > 0)
        return spool_sink_error(SPOOL_EUNAVAILABLE, "%s: is gone, but not its log: move %s away, too", a->path, log);
    int fd = open(a->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, a->mode);
    if (fd < 0)
        return errno == EEXIST ? SPOOL_OK
                               : spool_sink_error(SPOOL_EUNAVAILABLE, "%s: %s", a->path, spool_strerror(errno));
    close(fd);
    return SPOOL_OK;
}

/* Whose database it is: *ret_version is 0 for an empty one. */
static int identify(struct archive *a, int64_t *ret_version)
{
    int64_t application, version, things;
    int code = ask(a, "PRAGMA application_id", &application);
    if (code == SPOOL_OK)
        code = ask(a, "PRAGMA user_version", &version);
    if (code == SPOOL_OK)
        code = ask(a, "SELECT count(*) FROM sqlite_schema", &things);
    if (code != SPOOL_OK)
        return code;
    if (application != APPLICATION_ID && (application != 0 || version != 0 || things != 0))
        return spool_sink_error(SPOOL_ECONFIG,
                                "%s: is a database of something else: give the archive a path of its own", a->path);
    if (version > SCHEMA_VERSION)
        return spool_sink_error(SPOOL_ECONFIG,
                                "%s: its schema has version %lld, this libspool knows %d: use a newer one", a->path,
                                (long long)version, SCHEMA_VERSION);
    *ret_version = version;
    return SPOOL_OK;
}

static int make_indexes(struct archive *a)
{
    int code = SPOOL_OK;
    for (int i = 0; i < INDEXES && code == SPOOL_OK; i++)
        if (a->indexes & 1u << i)
            code = run(a, indexes[i].create);
    return code;
}

/* Within a transaction. The number goes with the statements, so that half a migration cannot be. */
static int migrate(struct archive *a)
{
    int64_t version = 0;
    char number[96];
    int code = identify(a, &version);
    for (int64_t i = version; i < SCHEMA_VERSION && code == SPOOL_OK; i++)
        code = run(a, migrations[i]);
    snprintf(number, sizeof number, "PRAGMA application_id = %d; PRAGMA user_version = %d", APPLICATION_ID,
             SCHEMA_VERSION);
    if (code == SPOOL_OK && version < SCHEMA_VERSION)
        code = run(a, number);
    return code == SPOOL_OK ? make_indexes(a) : code;
}

/* The answer is the mode that it is in. In another one loss of power may undo a commit: the removal of a journal is not
 * flushed. */
static int set_wal(struct archive *a)
{
    sqlite3_stmt *statement;
    int rc = sqlite3_prepare_v2(a->db, "PRAGMA journal_mode = WAL", -1, &statement, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(statement);
    bool done = rc == SQLITE_ROW && strcmp((const char *)sqlite3_column_text(statement, 0), "wal") == 0;
    sqlite3_finalize(statement);
    if (rc != SQLITE_ROW)
        return archive_unavailable(a, rc);
    return done ? SPOOL_OK
                : spool_sink_error(SPOOL_ECONFIG, "%s: SQLite cannot keep a log there: use a local file system",
                                   a->path);
}

/* What is permanent in the file comes before the transaction: the journal mode cannot be changed within one. */
static int settle(struct archive *a)
{
    char pragmas[256];
    int64_t version;
    /* In memory is what SQLite sets aside while it inserts, such as a copy of the batch if there are triggers: it is
     * bounded, and a service may have nowhere to write it to. */
    snprintf(pragmas, sizeof pragmas,
             "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = %d; PRAGMA cache_size = -%d;"
             " PRAGMA journal_size_limit = 67108864; PRAGMA trusted_schema = OFF;"
             " PRAGMA temp_store = MEMORY",
             CHECKPOINT_PAGES, CACHE_KIB);
    /* Looked at before anything is written, and at one moment: it may be somebody else's, or another may be making it. */
    int code = run(a, "BEGIN");
    if (code == SPOOL_OK)
        code = identify(a, &version);
    if (code == SPOOL_OK)
        code = run(a, "COMMIT");
    if (code == SPOOL_OK)
        code = set_wal(a);
    if (code == SPOOL_OK)
        code = run(a, pragmas);
    if (code == SPOOL_OK)
        code = run(a, "BEGIN IMMEDIATE");
    if (code == SPOOL_OK)
        code = migrate(a);
    return code == SPOOL_OK ? run(a, "COMMIT") : code;
}

static int prepare(struct archive *a, const char *sql, sqlite3_stmt **ret)
{
    int rc = sqlite3_prepare_v3(a->db, sql, -1, SQLITE_PREPARE_PERSISTENT, ret, NULL);
    return rc == SQLITE_OK ? SPOOL_OK : failed(a, rc);
}

static int prepare_all(struct archive *a)
{
    int code = prepare(a, "BEGIN IMMEDIATE", &a->begin);
    if (code == SPOOL_OK)
        code = prepare(a, INSERT_ALL, &a->insert_all);
    if (code == SPOOL_OK)
        code = prepare(a, INSERT_ONE, &a->insert_one);
    if (code == SPOOL_OK && a->retention_ms > 0)
        code = prepare(a,
                       "DELETE FROM events WHERE seq IN"
                       " (SELECT seq FROM events WHERE time_ms < ?1 ORDER BY time_ms LIMIT ?2)",
                       &a->expire);
    if (code == SPOOL_OK)
        code = prepare(a, "COMMIT", &a->commit);
    return code == SPOOL_OK ? prepare(a, "ROLLBACK", &a->rollback) : code;
}

static int connect_file(struct archive *a)
{
    sqlite3 *db = NULL;
    int rc = sqlite3_open_v2(a->path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    pthread_mutex_lock(&a->lock);
    a->db = db;
    pthread_mutex_unlock(&a->lock);
    if (rc != SQLITE_OK)
        return archive_unavailable(a, rc);
    sqlite3_busy_handler(db, on_busy, a);
    sqlite3_progress_handler(db, PROGRESS_STEPS, on_progress, a);
    rc = archive_show_batch(a);
    int code = rc == SQLITE_OK ? settle(a) : archive_unavailable(a, rc);
    return code == SPOOL_OK ? prepare_all(a) : code;
}

/* The file was moved away by somebody who wants a new one to be begun. Its log did not go with it: all of it is copied
 * into the file, wherever that is, and made empty. */
static int leave(struct archive *a)
{
    int rc = sqlite3_wal_checkpoint_v2(a->db, "main", SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    if (rc != SQLITE_OK)
        return archive_unavailable(a, rc);
    archive_disconnect(a);
    return SPOOL_OK;
}

int archive_connect(struct archive *a)
{
    int moved = 0;
    if (a->db && sqlite3_file_control(a->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK && moved) {
        int code = leave(a);
        if (code != SPOOL_OK)
            return code;
    }
    if (a->db)
        return SPOOL_OK;
    int code = create_file(a);
    if (code == SPOOL_OK)
        code = connect_file(a);
    if (code != SPOOL_OK)
        archive_disconnect(a);
    return code;
}
