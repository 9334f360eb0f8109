/* sqlite.c - an archive that anybody can query: every event exactly once in an SQLite database. Its parts are
 * listed in sqlite_archive.h; sqlite_schema.h has the schema, and says why it is as it is.
 *
 * Exactly once: a batch is one transaction, the id decides whether a row is new, and nothing is delivered before COMMIT
 * has returned, which in WAL mode with synchronous=FULL is after the log was flushed. Whatever is unclear, such as a
 * COMMIT that was interrupted, is delivered again and found to be there.
 *
 * The database is opened by the first delivery, which can be cancelled, and not by open. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sqlite_archive.h"
#include "sqlite_schema.h"

enum { EXPIRE_MIN = 256 };

/* ------------------------------------------------------------------------------------------------------ delivering */

/* One step of a statement that answers no rows. */
static int step(sqlite3_stmt *statement)
{
    int rc = sqlite3_step(statement);
    sqlite3_reset(statement); /* answers the same again */
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* An event that is too big, or that a constraint or trigger of the archive's owner refuses. */
static bool is_refusal(int rc)
{
    int primary = rc & 0xff;
    return primary == SQLITE_TOOBIG || primary == SQLITE_CONSTRAINT || primary == SQLITE_MISMATCH;
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

static int insert(struct archive *a, sqlite3_stmt *statement, size_t first, size_t end)
{
    a->first = first;
    a->end = end;
    return step(statement);
}

/* What is refused is refused alone. */
static int insert_each(struct archive *a, struct spool_delivery *batch, size_t n)
{
    int rc = SQLITE_OK;
    for (size_t i = 0; i < n && rc == SQLITE_OK; i++) {
        rc = insert(a, a->insert_one, i, i + 1);
        if (!is_refusal(rc))
            continue;
        spool_delivery_fail(SPOOL_DELIVERY_AT(batch, i), SPOOL_REJECTED, "%s",
                            rc == SQLITE_TOOBIG ? sqlite3_errstr(rc) : sqlite3_errmsg(a->db));
        rc = SQLITE_OK;
    }
    return rc;
}

static int store(struct archive *a, struct spool_delivery *batch, size_t n)
{
    a->batch = batch;
    int rc = step(a->begin);
    if (rc == SQLITE_OK)
        rc = insert(a, a->insert_all, 0, n);
    if (is_refusal(rc)) { /* which of them is seen one by one, and from the start: no trace is left of that one */
        rc = sqlite3_get_autocommit(a->db) ? SQLITE_OK : step(a->rollback);
        rc = rc ? rc : step(a->begin);
        rc = rc ? rc : insert_each(a, batch, n);
    }
    if (rc == SQLITE_OK)
        rc = expire(a, n);
    return rc == SQLITE_OK ? step(a->commit) : rc;
}

/* Connections that only had to wait stay open. */
static bool is_passing(int rc)
{
    int primary = rc & 0xff;
    return primary == SQLITE_OK || primary == SQLITE_BUSY || primary == SQLITE_INTERRUPT || primary == SQLITE_FULL;
}

/* After a failure. The message is made first: another call would change it. */
static int give_up(struct archive *a, int rc)
{
    int code = archive_unavailable(a, rc);
    bool stuck = !sqlite3_get_autocommit(a->db) && step(a->rollback) != SQLITE_OK;
    if (stuck || !is_passing(rc))
        archive_disconnect(a);
    return code;
}

static int archive_deliver(void *state, struct spool_delivery *batch, size_t n)
{
    struct archive *a = state;
    int code = archive_connect(a);
    int rc = code == SPOOL_OK ? store(a, batch, n) : SQLITE_OK;
    if (rc != SQLITE_OK)
        code = give_up(a, rc);
    for (size_t i = 0; i < n && code == SPOOL_OK; i++)
        if (SPOOL_DELIVERY_AT(batch, i)->outcome != SPOOL_REJECTED)
            SPOOL_DELIVERY_AT(batch, i)->outcome = SPOOL_DELIVERED;
    cancel_done(&a->cancel);
    return code;
}

/* ---------------------------------------------------------------------------------------------------- the hooks */

static void archive_cancel(void *state)
{
    struct archive *a = state;
    cancel_set(&a->cancel);
    pthread_mutex_lock(&a->lock);
    if (a->db)
        sqlite3_interrupt(a->db); /* reaches what has no instructions, as copying the log */
    pthread_mutex_unlock(&a->lock);
}

static void archive_close(void *state)
{
    struct archive *a = state;
    if (!a)
        return;
    archive_disconnect(a);
    buffer_free(&a->tags);
    cancel_free(&a->cancel);
    pthread_mutex_destroy(&a->lock);
    archive_free_settings(a);
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
    int code = archive_configure(a, json_config);
    if (code == SPOOL_OK)
        *ret_state = a;
    else
        archive_close(a);
    return code;
}

static int archive_check(const char *json_config)
{
    struct archive a = {0};
    int code = archive_configure(&a, json_config);
    archive_free_settings(&a);
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
