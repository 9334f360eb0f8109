/* sqlite.c - an archive that anybody can query: every event exactly once in an SQLite database. sqlite_schema.h has the
 * schema, and says why it is as it is.
 *
 * Exactly once: a batch is one transaction, the id decides whether a row is new, and nothing is delivered before COMMIT
 * has returned, which in WAL mode with synchronous=FULL is after the log was flushed. Whatever is unclear, such as a
 * COMMIT that was interrupted, is delivered again and found to be there.
 *
 * The database is opened by the first delivery, which can be cancelled, and not by open. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../lib/base/json.h"
#include "plugin.h"
#include "sqlite_schema.h"

enum {
    CHECKPOINT_PAGES = 4000, /* the log is copied into the database when it has that many: 16 MiB */
    CACHE_KIB = 8192,
    PROGRESS_STEPS = 10000, /* instructions of SQLite's machine between two looks whether it is cancelled: below 1 ms */
    BUSY_STEP_MS = 20,
    EXPIRE_MIN = 256,
};

struct archive {
    char *path;
    mode_t mode;
    uint64_t busy_ms, retention_ms;
    unsigned indexes; /* bits 1 << enum index */
    struct cancel cancel;
    pthread_mutex_t lock; /* of db, against cancel */
    sqlite3 *db;          /* NULL: not open. Changed with the lock; read without by whoever delivers */
    sqlite3_stmt *begin, *insert, *expire, *commit, *rollback;
    struct buffer tags;
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

static int unavailable(const struct archive *a, int rc)
{
    const char *what = advice(cancel_is_set(&a->cancel) ? SQLITE_INTERRUPT : rc);
    const char *detail = a->db ? sqlite3_errmsg(a->db) : sqlite3_errstr(rc);
    return spool_sink_error(SPOOL_EUNAVAILABLE, "%s: %s (%s)", a->path, what ? what : "SQLite failed", detail);
}

/* SQL that fails as such, although the version is ours: somebody changed the schema. */
static int failed(const struct archive *a, int rc)
{
    if ((rc & 0xff) != SQLITE_ERROR)
        return unavailable(a, rc);
    return spool_sink_error(SPOOL_ECONFIG, "%s: its schema was changed: %s", a->path, sqlite3_errmsg(a->db));
}

/* Connections that only had to wait stay open. */
static bool is_passing(int rc)
{
    int primary = rc & 0xff;
    return primary == SQLITE_OK || primary == SQLITE_BUSY || primary == SQLITE_INTERRUPT || primary == SQLITE_FULL;
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

static void archive_cancel(void *state)
{
    struct archive *a = state;
    cancel_set(&a->cancel);
    pthread_mutex_lock(&a->lock);
    if (a->db)
        sqlite3_interrupt(a->db); /* reaches what has no instructions, as copying the log */
    pthread_mutex_unlock(&a->lock);
}

/* --------------------------------------------------------------------------------------------------------- opening */

static void disconnect(struct archive *a)
{
    sqlite3_stmt **all[] = {&a->begin, &a->insert, &a->expire, &a->commit, &a->rollback};
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
        return unavailable(a, rc);
    return done ? SPOOL_OK
                : spool_sink_error(SPOOL_ECONFIG, "%s: SQLite cannot keep a log there: use a local file system",
                                   a->path);
}

/* What is permanent in the file comes before the transaction: the journal mode cannot be changed within one. */
static int settle(struct archive *a)
{
    char pragmas[256];
    int64_t version;
    snprintf(pragmas, sizeof pragmas,
             "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = %d; PRAGMA cache_size = -%d;"
             " PRAGMA journal_size_limit = 67108864; PRAGMA trusted_schema = OFF",
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
        code = prepare(a, INSERT, &a->insert);
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
        return unavailable(a, rc);
    sqlite3_busy_handler(db, on_busy, a);
    sqlite3_progress_handler(db, PROGRESS_STEPS, on_progress, a);
    int code = settle(a);
    return code == SPOOL_OK ? prepare_all(a) : code;
}

/* The file was moved away by somebody who wants a new one to be begun. Its log did not go with it: all of it is copied
 * into the file, wherever that is, and made empty. */
static int leave(struct archive *a)
{
    int rc = sqlite3_wal_checkpoint_v2(a->db, "main", SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    if (rc != SQLITE_OK)
        return unavailable(a, rc);
    disconnect(a);
    return SPOOL_OK;
}

static int connect_archive(struct archive *a)
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
        disconnect(a);
    return code;
}

/* ------------------------------------------------------------------------------------------------------ delivering */

/* One step of a statement that answers no rows. */
static int step(sqlite3_stmt *statement)
{
    int rc = sqlite3_step(statement);
    sqlite3_reset(statement); /* answers the same again */
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int bind_text(sqlite3_stmt *s, int at, const char *text)
{
    return text && *text ? sqlite3_bind_text(s, at, text, -1, SQLITE_STATIC) : sqlite3_bind_null(s, at);
}

static int bind_number(sqlite3_stmt *s, int at, uint64_t number)
{
    if (number == 0)
        return sqlite3_bind_null(s, at);
    return sqlite3_bind_int64(s, at, number > INT64_MAX ? INT64_MAX : (int64_t)number);
}

static int bind_tags(struct archive *a, const char *const *tags)
{
    a->tags.size = 0;
    if (!tags || !tags[0])
        return sqlite3_bind_null(a->insert, AT_TAGS);
    int code = 0;
    for (size_t i = 0; tags[i] && !code; i++) {
        code = buffer_put_text(&a->tags, i == 0 ? "[" : ",");
        if (!code)
            code = json_put_string(&a->tags, tags[i], strlen(tags[i]));
    }
    if (code || buffer_put_text(&a->tags, "]"))
        return SQLITE_NOMEM;
    return sqlite3_bind_text64(a->insert, AT_TAGS, (const char *)a->tags.data, a->tags.size, SQLITE_STATIC,
                               SQLITE_UTF8);
}

static int bind_body(sqlite3_stmt *s, const struct spool_event *event)
{
    const char *type = event->content_type;
    if (event->body_size == 0)
        return sqlite3_bind_null(s, AT_BODY);
    if ((!type || !*type || json_is_media_type(type)) && json_is_valid(event->body, event->body_size))
        return sqlite3_bind_text64(s, AT_BODY, event->body, event->body_size, SQLITE_STATIC, SQLITE_UTF8);
    return sqlite3_bind_blob64(s, AT_BODY, event->body, event->body_size, SQLITE_STATIC);
}

/* Every parameter is bound anew, to memory that lasts until the statement was stepped. */
static int insert(struct archive *a, const struct spool_delivery *delivery)
{
    char id[SPOOL_ID_TEXT_SIZE], parent[SPOOL_ID_TEXT_SIZE];
    const struct spool_event *event = delivery->event;
    const char *type = event->content_type;
    sqlite3_stmt *s = a->insert;
    int rc = bind_text(s, AT_ID, spool_id_format(&delivery->id, id));
    rc = rc ? rc : bind_number(s, AT_TIME, spool_id_time_ns(&delivery->id) / NS_PER_MS);
    rc = rc ? rc : bind_text(s, AT_TYPE, event->type);
    rc = rc ? rc : bind_text(s, AT_AGENT, event->agent);
    rc = rc ? rc : bind_text(s, AT_SESSION, event->session);
    rc = rc ? rc : bind_text(s, AT_PRIORITY, spool_priority_name(event->priority));
    rc = rc ? rc : bind_text(s, AT_PARENT, event->parent ? spool_id_format(event->parent, parent) : NULL);
    rc = rc ? rc : bind_tags(a, event->tags);
    rc = rc ? rc : bind_text(s, AT_CONTENT_TYPE, type && *type ? type : "application/json");
    rc = rc ? rc : bind_text(s, AT_TRACE, event->traceparent);
    rc = rc ? rc : bind_number(s, AT_OCCURRED, event->occurred_at_ns);
    rc = rc ? rc : bind_number(s, AT_TTL, event->ttl_ms);
    rc = rc ? rc : bind_body(s, event);
    return rc ? rc : step(s);
}

/* An event that is too big, or that a constraint or trigger of the archive's owner refuses, is refused alone. */
static bool refused(struct archive *a, struct spool_delivery *delivery, int rc)
{
    int primary = rc & 0xff;
    if (primary != SQLITE_TOOBIG && primary != SQLITE_CONSTRAINT && primary != SQLITE_MISMATCH)
        return false;
    spool_delivery_fail(delivery, SPOOL_REJECTED, "%s",
                        rc == SQLITE_TOOBIG ? sqlite3_errstr(rc) : sqlite3_errmsg(a->db));
    return true;
}

/* Twice what comes, so that the old ones are caught up with, and no batch takes much longer for it. */
static int expire(struct archive *a, size_t n)
{
    uint64_t now_ms = real_ns() / NS_PER_MS;
    if (!a->expire || now_ms < a->retention_ms)
        return SQLITE_OK;
    sqlite3_bind_int64(a->expire, 1, (int64_t)(now_ms - a->retention_ms));
    sqlite3_bind_int64(a->expire, 2, (int64_t)(n > EXPIRE_MIN / 2 ? 2 * n : EXPIRE_MIN));
    return step(a->expire);
}

static int store(struct archive *a, struct spool_delivery *batch, size_t n)
{
    int rc = step(a->begin);
    for (size_t i = 0; i < n && rc == SQLITE_OK; i++) {
        rc = insert(a, SPOOL_DELIVERY_AT(batch, i));
        if (rc != SQLITE_OK && refused(a, SPOOL_DELIVERY_AT(batch, i), rc))
            rc = SQLITE_OK;
    }
    if (rc == SQLITE_OK)
        rc = expire(a, n);
    return rc == SQLITE_OK ? step(a->commit) : rc;
}

/* After a failure. The message is made first: another call would change it. */
static int give_up(struct archive *a, int rc)
{
    int code = unavailable(a, rc);
    bool stuck = !sqlite3_get_autocommit(a->db) && step(a->rollback) != SQLITE_OK;
    if (stuck || !is_passing(rc))
        disconnect(a);
    return code;
}

static int archive_deliver(void *state, struct spool_delivery *batch, size_t n)
{
    struct archive *a = state;
    int code = connect_archive(a);
    int rc = code == SPOOL_OK ? store(a, batch, n) : SQLITE_OK;
    if (rc != SQLITE_OK)
        code = give_up(a, rc);
    for (size_t i = 0; i < n && code == SPOOL_OK; i++)
        if (SPOOL_DELIVERY_AT(batch, i)->outcome != SPOOL_REJECTED)
            SPOOL_DELIVERY_AT(batch, i)->outcome = SPOOL_DELIVERED;
    cancel_done(&a->cancel);
    return code;
}

/* --------------------------------------------------------------------------------------------------- configuration */

static int wrong(const char *what)
{
    return spool_sink_error(SPOOL_ECONFIG, "configuration of the sqlite sink: %s", what);
}

static int find_index(const json_t *name)
{
    for (int i = 0; i < INDEXES; i++)
        if (json_is_string(name) && strcmp(json_string_value(name), indexes[i].name) == 0)
            return i;
    return -1;
}

static int read_indexes(struct config *config, unsigned *ret)
{
    json_t *list = json_object_get(config->object, "indexes");
    unsigned found = list ? 0 : (1u << INDEXES) - 1;
    if (list && !json_is_array(list))
        return wrong("\"indexes\" must be a list of \"agent\", \"type\", \"session\", \"time\"");
    for (size_t i = 0; i < json_array_size(list); i++) {
        int index = find_index(json_array_get(list, i));
        if (index < 0)
            return wrong("\"indexes\" names something else than \"agent\", \"type\", \"session\", \"time\"");
        found |= 1u << index;
    }
    json_object_del(config->object, "indexes");
    *ret = found;
    return SPOOL_OK;
}

static int read_mode(struct config *config, mode_t *ret)
{
    char *text, *end;
    int code = config_text(config, "mode", "0600", &text);
    if (code != SPOOL_OK)
        return code;
    unsigned long mode = strtoul(text, &end, 8);
    if (*end || mode > 0777 || (mode & 0600) != 0600)
        code = wrong("\"mode\" must be octal permission bits, 0600 at least");
    free(text);
    *ret = (mode_t)mode;
    return code;
}

/* A relative path gets "./", so that ":memory:" and the like are names of files. */
static int read_path(struct config *config, char **ret)
{
    char *path = NULL, *full;
    int code = config_text(config, "path", NULL, &path);
    if (code != SPOOL_OK)
        return code;
    int size = asprintf(&full, "%s%s", path[0] == '/' ? "" : "./", path);
    free(path);
    if (size < 0)
        return spool_sink_error(ENOMEM, "out of memory");
    *ret = full;
    return SPOOL_OK;
}

static int read_config(struct archive *a, const char *json_config)
{
    struct config config;
    int code = config_open(&config, "sqlite", json_config);
    if (code == SPOOL_OK)
        code = read_path(&config, &a->path);
    if (code == SPOOL_OK)
        code = read_mode(&config, &a->mode);
    if (code == SPOOL_OK)
        code = config_duration_ms(&config, "busy_timeout", 5000, &a->busy_ms);
    if (code == SPOOL_OK)
        code = config_duration_ms(&config, "retention", 0, &a->retention_ms);
    if (code == SPOOL_OK)
        code = read_indexes(&config, &a->indexes);
    if (code == SPOOL_OK && a->retention_ms > 0 && !(a->indexes & 1u << INDEX_TIME))
        code = wrong("\"retention\" needs the index \"time\"");
    return config_close(&config, code);
}

static void archive_close(void *state)
{
    struct archive *a = state;
    if (!a)
        return;
    disconnect(a);
    buffer_free(&a->tags);
    cancel_free(&a->cancel);
    pthread_mutex_destroy(&a->lock);
    free(a->path);
    free(a);
}

/* The database itself is opened by the first delivery, which can be cancelled. */
static int archive_open(void **ret_state, void *user, const char *json_config, const void *checkpoint,
                        size_t checkpoint_size)
{
    (void)user, (void)checkpoint, (void)checkpoint_size;
    struct archive *a = calloc(1, sizeof *a);
    if (!a)
        return spool_sink_error(ENOMEM, "out of memory");
    int err = cancel_init(&a->cancel);
    if (err == 0 && (err = pthread_mutex_init(&a->lock, NULL)) != 0)
        cancel_free(&a->cancel);
    if (err != 0) {
        free(a);
        return spool_sink_error(err, "%s", spool_strerror(err));
    }
    int code = read_config(a, json_config);
    if (code == SPOOL_OK)
        *ret_state = a;
    else
        archive_close(a);
    return code;
}

static int archive_check(const char *json_config)
{
    struct archive a = {0};
    int code = read_config(&a, json_config);
    free(a.path);
    return code;
}

static const struct spool_sink_setting settings[] = {
    {"path", "text (required)", "the database"},
    {"mode", "octal, 0600", "permissions of a new database"},
    {"busy_timeout", "duration, 5s", "how long to wait for another program's lock"},
    {"retention", "duration, 0", "events older than that are deleted as new ones come; 0: never"},
    {"indexes", "list, [\"agent\",\"type\",\"session\",\"time\"]", "columns to index"},
    {NULL, NULL, NULL},
};

static const struct spool_sink archive_sink = {
    .abi = SPOOL_SINK_ABI,
    .size = sizeof(struct spool_sink),
    .kind = "sqlite",
    .open = archive_open,
    .deliver = archive_deliver,
    .cancel = archive_cancel,
    .close = archive_close,
};

SPOOL_SINK_PLUGIN(.sink = &archive_sink, .check = archive_check, .settings = settings,
                  .summary = "an archive in an SQLite database, each event exactly once")
