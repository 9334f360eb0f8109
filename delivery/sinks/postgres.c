/* postgres.c - events as rows of a PostgreSQL table, each exactly once.
 *
 * A batch is one COPY into the table, which is one transaction: all of it is there when the server answers, and nothing
 * of it before. The event's id is the key. When some of a batch are there already, because an answer was lost on its
 * way, COPY fails on them (SQLSTATE 23505); then, and in the first batch after connecting, the batch takes the longer
 * way: COPY into a temporary table, and from there INSERT … ON CONFLICT DO NOTHING. So what happens once in a while
 * costs twice, and what happens always costs what COPY costs.
 *
 * An event that the server refuses for its data is found by the library, which halves the batch (SPOOL_EREJECTED). When
 * it is alone and its body is the reason, it is tried as bytes instead of jsonb before it is given up.
 *
 * Pipelining (libpq's) is of no use here: COPY is not allowed in it, and a batch is one round trip as it is. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "plugin.h"
#include "postgres_link.h"
#include "postgres_rows.h"

enum { SQL_MAX = 4096, PUT_BYTES = 64 << 10, DAYS_KNOWN = 64 };
enum create { CREATE_NOTHING, CREATE_TABLE, CREATE_PARTITIONS };
static const char *const create_names[] = {"nothing", "table", "partitions", NULL};

struct postgres {
    PQconninfoOption *given;
    char *schema, *table; /* quoted, with a dot behind the schema; "" if none was given */
    struct secret password;
    uint64_t connect_ms;
    int create;
    struct cancel cancel;
    struct pg_link link;
    bool doubtful; /* the last batch may have arrived */
    struct buffer rows;
    int64_t days[DAYS_KNOWN]; /* those that have a partition, as far as remembered */
    size_t day_count;
    char key[16];      /* "id" or "id, time" */
    char columns[256]; /* "id, time, …" */
};

/* --------------------------------------------------------------------------------------------------------- the table
 */

/* Of the table's name without the closing quote, to append to it. */
static int quoted_size(const struct postgres *s)
{
    return (int)strlen(s->table) - 1;
}

static int create_table(struct postgres *s)
{
    char sql[SQL_MAX];
    bool parts = s->create == CREATE_PARTITIONS;
    int size = snprintf(sql, sizeof sql, "CREATE TABLE IF NOT EXISTS %s%s (", s->schema, s->table);
    for (int i = 0; i < PG_COLUMNS; i++)
        size += snprintf(sql + size, sizeof sql - (size_t)size, "%s %s %s, ", pg_columns[i].name, pg_columns[i].type,
                         pg_columns[i].constraint);
    size += snprintf(sql + size, sizeof sql - (size_t)size, "PRIMARY KEY (%s))%s;", parts ? "id, time" : "id",
                     parts ? " PARTITION BY RANGE (time)" : "");
    static const char *const indexes[][2] = {
        {"agent", "(agent, time)"}, {"type", "(type, time)"}, {"time", "USING brin (time)"}};
    for (size_t i = 0; i < sizeof indexes / sizeof *indexes && size < (int)sizeof sql; i++)
        size += snprintf(sql + size, sizeof sql - (size_t)size, "CREATE INDEX IF NOT EXISTS %.*s_by_%s\" ON %s%s %s;",
                         quoted_size(s), s->table, indexes[i][0], s->schema, s->table, indexes[i][1]);
    return size < (int)sizeof sql ? link_run(&s->link, sql)
                                  : spool_sink_error(SPOOL_ECONFIG, "the table's name is too long");
}

/* Binary rows need exactly the columns they are made for. */
static int check_column(const struct postgres *s, const PGresult *rows, const struct pg_column *column)
{
    for (int i = 0; i < PQntuples(rows); i++) {
        if (strcmp(PQgetvalue(rows, i, 0), column->name) != 0)
            continue;
        if (strcmp(PQgetvalue(rows, i, 1), column->type) == 0)
            return SPOOL_OK;
        return spool_sink_error(SPOOL_ECONFIG, "PostgreSQL: column %s of %s%s is %s, but must be %s", column->name,
                                s->schema, s->table, PQgetvalue(rows, i, 1), column->type);
    }
    return spool_sink_error(SPOOL_ECONFIG, "PostgreSQL: %s%s has no column %s (%s)", s->schema, s->table, column->name,
                            column->type);
}

/* Asks about the table: `format` has a %s for its name as a literal. */
static int ask_about_table(struct postgres *s, const char *format, PGresult **ret)
{
    char sql[SQL_MAX], *name = NULL;
    if (asprintf(&name, "%s%s", s->schema, s->table) < 0)
        return spool_sink_error(ENOMEM, "out of memory");
    char *literal = PQescapeLiteral(s->link.conn, name, strlen(name));
    free(name);
    if (!literal)
        return spool_sink_error(ENOMEM, "out of memory");
    snprintf(sql, sizeof sql, format, literal);
    PQfreemem(literal);
    return link_ask(&s->link, sql, ret);
}

static int check_columns(struct postgres *s)
{
    PGresult *rows = NULL;
    int code = ask_about_table(s,
                               "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
                               " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
                               &rows);
    if (code == SPOOL_ECONFIG && strcmp(s->link.sqlstate, "42P01") == 0)
        return spool_sink_error(code, "PostgreSQL: there is no table %s%s: make it, or set \"create\" to \"table\"",
                                s->schema, s->table);
    for (int i = 0; i < PG_COLUMNS && code == SPOOL_OK; i++)
        code = check_column(s, rows, &pg_columns[i]);
    PQclear(rows);
    return code;
}

/* The unique index by which events are told apart: of the id, or, when the table is partitioned, of id and time. */
static int find_key(struct postgres *s)
{
    PGresult *rows = NULL;
    int code = ask_about_table(s,
                               "SELECT string_agg(attname, ', ' ORDER BY attname) AS key FROM pg_index"
                               " JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)"
                               " WHERE indrelid = %s::regclass AND indisunique AND indimmediate AND indisvalid"
                               " AND indpred IS NULL AND indexprs IS NULL GROUP BY indexrelid"
                               " HAVING string_agg(attname, ', ' ORDER BY attname) IN ('id', 'id, time') ORDER BY 1",
                               &rows);
    if (code == SPOOL_OK && PQntuples(rows) == 0)
        code = spool_sink_error(SPOOL_ECONFIG, "PostgreSQL: %s%s has no unique index on id, or on id and time",
                                s->schema, s->table);
    if (code == SPOOL_OK)
        snprintf(s->key, sizeof s->key, "%s", PQgetvalue(rows, 0, 0));
    PQclear(rows);
    return code;
}

/* The settings that the guarantee hangs on. A connection that is gone must not go on holding locks. */
static int settle(struct postgres *s)
{
    int code = link_run(&s->link, "SET client_min_messages = warning;"
                                  "SELECT set_config('synchronous_commit', 'on', false)"
                                  " WHERE current_setting('synchronous_commit') = 'off';"
                                  "SELECT set_config(name, '5000', false) FROM pg_settings"
                                  " WHERE name = 'client_connection_check_interval'");
    if (code == SPOOL_OK && s->create != CREATE_NOTHING)
        code = create_table(s);
    if (code == SPOOL_OK)
        code = check_columns(s);
    return code == SPOOL_OK ? find_key(s) : code;
}

static int connect_server(struct postgres *s)
{
    char *password = NULL;
    if (s->link.conn && PQstatus(s->link.conn) == CONNECTION_OK)
        return SPOOL_OK;
    link_close(&s->link);
    int code = secret_read(&s->password, "password", &password);
    if (code == SPOOL_OK)
        code = link_open(&s->link, s->given, password, s->connect_ms);
    secret_wipe(password);
    if (code == SPOOL_OK)
        code = settle(s);
    if (code != SPOOL_OK)
        link_close(&s->link);
    s->doubtful = true;
    s->day_count = 0;
    return code == SPOOL_EREJECTED ? SPOOL_EUNAVAILABLE : code;
}

/* -------------------------------------------------------------------------------------------------------- partitions
 */

static bool day_is_known(const struct postgres *s, int64_t day)
{
    for (size_t i = 0; i < s->day_count && i < DAYS_KNOWN; i++)
        if (s->days[i] == day)
            return true;
    return false;
}

/* One maker at a time, lest two make the same and one of them fails. The name is the table's with the day. */
static int make_partition(struct postgres *s, int64_t day)
{
    char sql[SQL_MAX], name[64], from[32], to[32];
    time_t begin = (time_t)(day * 86400), end = begin + 86400;
    struct tm tm;
    strftime(name, sizeof name, "_%Y%m%d", gmtime_r(&begin, &tm));
    strftime(from, sizeof from, "%Y-%m-%d", gmtime_r(&begin, &tm));
    strftime(to, sizeof to, "%Y-%m-%d", gmtime_r(&end, &tm));
    snprintf(
        sql, sizeof sql,
        "BEGIN; SELECT pg_advisory_xact_lock(1936748396);"
        "CREATE TABLE IF NOT EXISTS %s%.*s%s\" PARTITION OF %s%s FOR VALUES FROM ('%s 00:00+00') TO ('%s 00:00+00');"
        "COMMIT",
        s->schema, quoted_size(s), s->table, name, s->schema, s->table, from, to);
    int code = link_run(&s->link, sql);
    if (code == SPOOL_OK)
        s->days[s->day_count++ % DAYS_KNOWN] = day;
    return code;
}

static int make_partitions(struct postgres *s, struct spool_delivery *batch, size_t n)
{
    int code = SPOOL_OK;
    for (size_t i = 0; i < n && code == SPOOL_OK && s->create == CREATE_PARTITIONS; i++) {
        int64_t day = rows_day(SPOOL_DELIVERY_AT(batch, i));
        if (!day_is_known(s, day))
            code = make_partition(s, day);
    }
    return code;
}

/* -------------------------------------------------------------------------------------------------------- delivering
 */

static int put_some(struct postgres *s)
{
    int code = link_put(&s->link, s->rows.data, s->rows.size);
    s->rows.size = 0;
    return code;
}

static int put_rows(struct postgres *s, struct spool_delivery *batch, size_t n, bool raw)
{
    s->rows.size = 0;
    int err = rows_begin(&s->rows), code = SPOOL_OK;
    for (size_t i = 0; i < n && !err && code == SPOOL_OK; i++) {
        err = rows_add(&s->rows, SPOOL_DELIVERY_AT(batch, i), raw);
        if (s->rows.size >= PUT_BYTES && !err)
            code = put_some(s);
    }
    if (!err && code == SPOOL_OK)
        err = rows_end(&s->rows);
    if (err) {
        link_close(&s->link); /* which ends the COPY without effect */
        return spool_sink_error(SPOOL_EUNAVAILABLE, "out of memory");
    }
    if (code == SPOOL_OK)
        code = put_some(s);
    return code == SPOOL_OK ? link_end(&s->link) : code;
}

/* The short way: all are new. */
static int copy(struct postgres *s, struct spool_delivery *batch, size_t n, bool raw)
{
    char sql[SQL_MAX];
    snprintf(sql, sizeof sql, "COPY %s%s (%s) FROM STDIN (FORMAT binary)", s->schema, s->table, s->columns);
    int code = link_run(&s->link, sql);
    return code == SPOOL_OK ? put_rows(s, batch, n, raw) : code;
}

/* The long way: some may be there. */
static int merge(struct postgres *s, struct spool_delivery *batch, size_t n, bool raw)
{
    char sql[SQL_MAX];
    snprintf(sql, sizeof sql,
             "BEGIN; CREATE TEMP TABLE IF NOT EXISTS spool_staging (LIKE %s%s) ON COMMIT DELETE ROWS;"
             "COPY pg_temp.spool_staging (%s) FROM STDIN (FORMAT binary)",
             s->schema, s->table, s->columns);
    int code = link_run(&s->link, sql);
    if (code == SPOOL_OK)
        code = put_rows(s, batch, n, raw);
    snprintf(sql, sizeof sql,
             "INSERT INTO %s%s (%s) SELECT %s FROM pg_temp.spool_staging ON CONFLICT (%s) DO NOTHING; COMMIT",
             s->schema, s->table, s->columns, s->columns, s->key);
    return code == SPOOL_OK ? link_run(&s->link, sql) : code;
}

/* Ends a transaction that failed; a connection on which that cannot be done is closed. The message stays. */
static void roll_back(struct postgres *s)
{
    PGresult *ended = NULL;
    if (s->link.conn && PQtransactionStatus(s->link.conn) == PQTRANS_IDLE)
        return;
    char sqlstate[sizeof s->link.sqlstate];
    memcpy(sqlstate, s->link.sqlstate, sizeof sqlstate);
    if (s->link.conn && PQtransactionStatus(s->link.conn) == PQTRANS_INERROR &&
        link_ask(&s->link, "ROLLBACK", &ended) != SPOOL_OK && s->link.conn &&
        PQtransactionStatus(s->link.conn) != PQTRANS_IDLE)
        link_close(&s->link);
    PQclear(ended);
    memcpy(s->link.sqlstate, sqlstate, sizeof sqlstate);
}

static int store(struct postgres *s, struct spool_delivery *batch, size_t n, bool raw)
{
    int code = s->doubtful ? merge(s, batch, n, raw) : copy(s, batch, n, raw);
    if (code == SPOOL_EREJECTED && !s->doubtful && strcmp(s->link.sqlstate, "23505") == 0)
        code = merge(s, batch, n, raw);
    return code;
}

/* An event that is refused alone. */
static int refuse(struct postgres *s, struct spool_delivery *delivery)
{
    char reason[96];
    snprintf(reason, sizeof reason, "PostgreSQL refuses it (SQLSTATE %s)", s->link.sqlstate);
    roll_back(s);
    bool data = strncmp(s->link.sqlstate, "22", 2) == 0 || strncmp(s->link.sqlstate, "54", 2) == 0;
    int code = data && rows_is_jsonb(delivery->event) ? store(s, delivery, 1, true) : SPOOL_EREJECTED;
    if (code == SPOOL_EREJECTED)
        spool_delivery_fail(delivery, SPOOL_REJECTED, "%s", reason);
    return code == SPOOL_EREJECTED ? SPOOL_OK : code;
}

static int postgres_deliver(void *state, struct spool_delivery *batch, size_t n)
{
    struct postgres *s = state;
    int code = connect_server(s);
    if (code == SPOOL_OK)
        code = make_partitions(s, batch, n);
    if (code == SPOOL_OK)
        code = store(s, batch, n, false);
    if (code == SPOOL_EREJECTED && n == 1)
        code = refuse(s, batch);
    roll_back(s);
    if (code == SPOOL_OK)
        s->doubtful = false;
    for (size_t i = 0; i < n && code == SPOOL_OK; i++)
        if (SPOOL_DELIVERY_AT(batch, i)->outcome != SPOOL_REJECTED)
            SPOOL_DELIVERY_AT(batch, i)->outcome = SPOOL_DELIVERED;
    cancel_done(&s->cancel);
    return code;
}

static void postgres_cancel(void *state)
{
    struct postgres *s = state;
    cancel_set(&s->cancel);
}

/* ----------------------------------------------------------------------------------------------------- configuration
 */

static int wrong(const char *what)
{
    return spool_sink_error(SPOOL_ECONFIG, "configuration of the postgres sink: %s", what);
}

/* "a.b" becomes "\"a\"." and "\"b\"". */
static int quote(const char *name, size_t size, const char *behind, char **ret)
{
    if (size == 0 || size > 48 || memchr(name, '"', size))
        return wrong("\"table\" must be NAME or SCHEMA.NAME, of 48 bytes each at most and without quotes");
    return asprintf(ret, "\"%.*s\"%s", (int)size, name, behind) < 0 ? spool_sink_error(ENOMEM, "out of memory")
                                                                    : SPOOL_OK;
}

static int read_table(struct config *config, struct postgres *s)
{
    char *text = NULL;
    int code = config_text(config, "table", "events", &text);
    if (code != SPOOL_OK)
        return code;
    const char *dot = strchr(text, '.'), *name = dot ? dot + 1 : text;
    if (dot)
        code = quote(text, (size_t)(dot - text), ".", &s->schema);
    else if (!(s->schema = strdup("")))
        code = spool_sink_error(ENOMEM, "out of memory");
    if (code == SPOOL_OK)
        code = quote(name, strlen(name), "", &s->table);
    free(text);
    return code;
}

static int check_given(const PQconninfoOption *given)
{
    for (; given->keyword; given++) {
        if (!given->val || !*given->val)
            continue;
        if (strcmp(given->keyword, "password") == 0 || strcmp(given->keyword, "sslpassword") == 0)
            return wrong("no password may stand in \"conninfo\", which is stored and shown: use \"password\"");
        if (strcmp(given->keyword, "service") == 0)
            return wrong("\"conninfo\" must say where to connect, not name a service");
    }
    return SPOOL_OK;
}

static int read_conninfo(struct config *config, struct postgres *s)
{
    char *text = NULL, *problem = NULL;
    int code = config_text(config, "conninfo", NULL, &text);
    if (code != SPOOL_OK)
        return code;
    s->given = PQconninfoParse(text, &problem);
    if (s->given)
        code = check_given(s->given);
    else
        code = problem ? wrong("\"conninfo\" is no connection string of libpq")
                       : spool_sink_error(ENOMEM, "out of memory");
    PQfreemem(problem); /* not told: it may quote what is secret */
    free(text);
    return code;
}

static int read_config(struct postgres *s, const char *json_config)
{
    struct config config;
    int code = config_open(&config, "postgres", json_config);
    if (code == SPOOL_OK)
        code = read_conninfo(&config, s);
    if (code == SPOOL_OK)
        code = read_table(&config, s);
    if (code == SPOOL_OK)
        code = config_secret(&config, "password", false, &s->password);
    if (code == SPOOL_OK)
        code = config_choice(&config, "create", create_names, CREATE_NOTHING, &s->create);
    if (code == SPOOL_OK)
        code = config_duration_ms(&config, "connect_timeout", 10000, &s->connect_ms);
    return config_close(&config, code);
}

static void forget_config(struct postgres *s)
{
    PQconninfoFree(s->given);
    secret_free(&s->password);
    free(s->schema);
    free(s->table);
}

static void postgres_close(void *state)
{
    struct postgres *s = state;
    if (!s)
        return;
    link_close(&s->link);
    forget_config(s);
    buffer_free(&s->rows);
    cancel_free(&s->cancel);
    free(s);
}

/* The connection is made by the first delivery, which can be cancelled. */
static int postgres_open(void **ret_state, void *user, const char *json_config, const void *checkpoint,
                         size_t checkpoint_size)
{
    (void)user, (void)checkpoint, (void)checkpoint_size;
    struct postgres *s = calloc(1, sizeof *s);
    if (!s)
        return spool_sink_error(ENOMEM, "out of memory");
    int err = cancel_init(&s->cancel);
    s->link.cancel = &s->cancel;
    for (int i = 0, size = 0; i < PG_COLUMNS; i++)
        size +=
            snprintf(s->columns + size, sizeof s->columns - (size_t)size, "%s%s", i ? ", " : "", pg_columns[i].name);
    int code = err ? spool_sink_error(err, "%s", spool_strerror(err)) : read_config(s, json_config);
    if (code == SPOOL_OK)
        *ret_state = s;
    else
        postgres_close(s);
    return code;
}

static int postgres_check(const char *json_config)
{
    struct postgres s = {0};
    int code = read_config(&s, json_config);
    forget_config(&s);
    return code;
}

static const struct spool_sink_setting settings[] = {
    {"conninfo", "text (required)", "where to connect: libpq's connection string, without a password"},
    {"password", "secret", "of the user"},
    {"table", "text, events", "NAME or SCHEMA.NAME"},
    {"create", "nothing, table, partitions; nothing", "make the table, or also a partition for each day"},
    {"connect_timeout", "duration, 10s", "for looking up names and connecting"},
    {NULL, NULL, NULL},
};

static const struct spool_sink postgres_sink = {
    .abi = SPOOL_SINK_ABI,
    .size = sizeof(struct spool_sink),
    .kind = "postgres",
    .open = postgres_open,
    .deliver = postgres_deliver,
    .cancel = postgres_cancel,
    .close = postgres_close,
};

SPOOL_SINK_PLUGIN(.sink = &postgres_sink, .check = postgres_check, .settings = settings,
                  .summary = "rows of a PostgreSQL table, each event exactly once")
