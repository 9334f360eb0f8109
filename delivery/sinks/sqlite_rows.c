/* sqlite_rows.c - the batch as a table that SQLite reads, so that one statement inserts all of it.
 *
 * A statement for each event opens a cursor on the table and on every index, looks each place up from the root, and
 * closes them again. One for all keeps them; and what goes to the end, as ids and times do, is put behind what it put
 * there last. That more than halves the instructions an event.
 *
 * The table is BATCH of sqlite_schema.h, of this connection alone. Its rows are a->batch[first..end), its columns those
 * of INSERT. A value lasts until the next row is asked for. */
#include <string.h>

#include "../../lib/base/json.h"
#include "sqlite_archive.h"
#include "sqlite_schema.h"

struct rows {
    sqlite3_vtab base;
    struct archive *archive;
};

struct cursor {
    sqlite3_vtab_cursor base;
    size_t at;
    char id[SPOOL_ID_TEXT_SIZE], parent[SPOOL_ID_TEXT_SIZE];
};

static struct archive *archive_of(const sqlite3_vtab_cursor *cursor)
{
    return ((const struct rows *)(const void *)cursor->pVtab)->archive;
}

/* ---------------------------------------------------------------------------------------------------------- values */

/* A column for which nothing is answered is NULL. */
static void put_text(sqlite3_context *to, const char *text)
{
    if (text && *text)
        sqlite3_result_text(to, text, -1, SQLITE_STATIC);
}

static void put_number(sqlite3_context *to, uint64_t number)
{
    if (number > 0)
        sqlite3_result_int64(to, number > INT64_MAX ? INT64_MAX : (int64_t)number);
}

static void put_tags(sqlite3_context *to, struct buffer *text, const char *const *tags)
{
    if (!tags || !tags[0])
        return;
    int code = 0;
    text->size = 0;
    for (size_t i = 0; tags[i] && !code; i++) {
        code = buffer_put_text(text, i == 0 ? "[" : ",");
        if (!code)
            code = json_put_string(text, tags[i], strlen(tags[i]));
    }
    if (code || buffer_put_text(text, "]"))
        sqlite3_result_error_nomem(to);
    else
        sqlite3_result_text64(to, (const char *)text->data, text->size, SQLITE_STATIC, SQLITE_UTF8);
}

static const char *content_type(const struct spool_event *event)
{
    return event->content_type && *event->content_type ? event->content_type : "application/json";
}

static void put_body(sqlite3_context *to, const struct spool_event *event)
{
    if (event->body_size == 0)
        return;
    if (json_is_media_type(content_type(event)) && json_is_valid(event->body, event->body_size))
        sqlite3_result_text64(to, event->body, event->body_size, SQLITE_STATIC, SQLITE_UTF8);
    else
        sqlite3_result_blob64(to, event->body, event->body_size, SQLITE_STATIC);
}

static int rows_column(sqlite3_vtab_cursor *base, sqlite3_context *to, int column)
{
    struct cursor *c = (struct cursor *)(void *)base;
    struct archive *a = archive_of(base);
    const struct spool_delivery *delivery = SPOOL_DELIVERY_AT(a->batch, c->at);
    const struct spool_event *event = delivery->event;
    switch (column) {
    case COLUMN_ID:
        put_text(to, spool_id_format(&delivery->id, c->id));
        break;
    case COLUMN_TIME:
        put_number(to, spool_id_time_ns(&delivery->id) / NS_PER_MS);
        break;
    case COLUMN_TYPE:
        put_text(to, event->type);
        break;
    case COLUMN_AGENT:
        put_text(to, event->agent);
        break;
    case COLUMN_SESSION:
        put_text(to, event->session);
        break;
    case COLUMN_PRIORITY:
        put_text(to, spool_priority_name(event->priority));
        break;
    case COLUMN_PARENT:
        put_text(to, event->parent ? spool_id_format(event->parent, c->parent) : NULL);
        break;
    case COLUMN_TAGS:
        put_tags(to, &a->tags, event->tags);
        break;
    case COLUMN_CONTENT_TYPE:
        put_text(to, content_type(event));
        break;
    case COLUMN_TRACE:
        put_text(to, event->traceparent);
        break;
    case COLUMN_OCCURRED:
        put_number(to, event->occurred_at_ns);
        break;
    case COLUMN_TTL:
        put_number(to, event->ttl_ms);
        break;
    case COLUMN_BODY:
        put_body(to, event);
        break;
    }
    return SQLITE_OK;
}

/* ------------------------------------------------------------------------------------------------------------ rows */

static int rows_filter(sqlite3_vtab_cursor *base, int plan, const char *text, int argc, sqlite3_value **argv)
{
    (void)plan, (void)text, (void)argc, (void)argv;
    ((struct cursor *)(void *)base)->at = archive_of(base)->first;
    return SQLITE_OK;
}

static int rows_next(sqlite3_vtab_cursor *base)
{
    ((struct cursor *)(void *)base)->at++;
    return SQLITE_OK;
}

static int rows_eof(sqlite3_vtab_cursor *base)
{
    return ((struct cursor *)(void *)base)->at >= archive_of(base)->end;
}

static int rows_rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *ret)
{
    *ret = (sqlite3_int64)((struct cursor *)(void *)base)->at;
    return SQLITE_OK;
}

/* ------------------------------------------------------------------------------------------------------- the table */

static int rows_connect(sqlite3 *db, void *archive, int argc, const char *const *argv, sqlite3_vtab **ret, char **error)
{
    (void)argc, (void)argv, (void)error;
    int rc = sqlite3_declare_vtab(db, "CREATE TABLE batch (" COLUMNS ")");
    if (rc == SQLITE_OK)
        rc = sqlite3_vtab_config(db, SQLITE_VTAB_DIRECTONLY); /* not for triggers and views of the archive's owner */
    if (rc != SQLITE_OK)
        return rc;
    struct rows *rows = sqlite3_malloc(sizeof *rows);
    if (!rows)
        return SQLITE_NOMEM;
    *rows = (struct rows){.archive = archive};
    *ret = &rows->base;
    return SQLITE_OK;
}

static int rows_disconnect(sqlite3_vtab *base)
{
    sqlite3_free(base);
    return SQLITE_OK;
}

/* There is one way to read it: all, from the first on. */
static int rows_plan(sqlite3_vtab *base, sqlite3_index_info *info)
{
    (void)base, (void)info;
    return SQLITE_OK;
}

static int rows_open(sqlite3_vtab *base, sqlite3_vtab_cursor **ret)
{
    (void)base;
    struct cursor *c = sqlite3_malloc(sizeof *c);
    if (!c)
        return SQLITE_NOMEM;
    *c = (struct cursor){.at = 0};
    *ret = &c->base;
    return SQLITE_OK;
}

static int rows_close(sqlite3_vtab_cursor *base)
{
    sqlite3_free(base);
    return SQLITE_OK;
}

int archive_show_batch(struct archive *a)
{
    static const sqlite3_module module = {
        .xConnect = rows_connect, /* and no xCreate: it is there without CREATE, and stands in no schema */
        .xDisconnect = rows_disconnect,
        .xBestIndex = rows_plan,
        .xOpen = rows_open,
        .xClose = rows_close,
        .xFilter = rows_filter,
        .xNext = rows_next,
        .xEof = rows_eof,
        .xColumn = rows_column,
        .xRowid = rows_rowid,
    };
    return sqlite3_create_module(a->db, BATCH, &module, a);
}
