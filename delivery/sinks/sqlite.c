/* sqlite.c - an archive that anybody can query: every event exactly once in an SQLite database. Its parts are
 * listed in sqlite_archive.h; sqlite_schema.h has the schema, and says why it is as it is.
 *
 * Exactly once: a batch is one transaction, the id decides whether a row is new, and nothing is delivered before COMMIT
 * has returned, which in WAL mode with synchronous=FULL is after the log was flushed. Whatever is unclear, such as a
 * COMMIT that was interrupted, is delivered again and found to be there.
 *
 * The database is opened by the first delivery, which can be cancelled, and not by open. */
#include <pthread.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../lib/base/json.h"
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
