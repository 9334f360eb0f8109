/* sqlite.c - SQLite as a queue: one table, WAL, synchronous=FULL, singly and 1,000 a transaction; a connection a
 * producer. */
#include <dlfcn.h>

#include "case.h"
#include "sqlite.h"

#define SETTINGS "journal_mode=WAL, synchronous=FULL, prepared INSERT, a connection a producer"

/* ------------------------------------------------------------------------------------------------------ the library */

static void load_one(void *handle, const char *name, void *ret)
{
    void *found = dlsym(handle, name);
    if (!found)
        errx(1, "%s: %s", name, dlerror());
    memcpy(ret, &found, sizeof found);
}

struct sqlite_library sqlite;

void sqlite_load(void)
{
    void *handle = dlopen("libsqlite3.so.0", RTLD_NOW);
    if (!handle)
        errx(1, "%s", dlerror());
    load_one(handle, "sqlite3_open", &sqlite.open);
    load_one(handle, "sqlite3_close", &sqlite.close);
    load_one(handle, "sqlite3_exec", &sqlite.exec);
    load_one(handle, "sqlite3_prepare_v2", &sqlite.prepare);
    load_one(handle, "sqlite3_bind_blob", &sqlite.bind_blob);
    load_one(handle, "sqlite3_bind_text", &sqlite.bind_text);
    load_one(handle, "sqlite3_bind_int64", &sqlite.bind_int64);
    load_one(handle, "sqlite3_step", &sqlite.step);
    load_one(handle, "sqlite3_reset", &sqlite.reset);
    load_one(handle, "sqlite3_finalize", &sqlite.finalize);
    load_one(handle, "sqlite3_busy_timeout", &sqlite.busy_timeout);
    load_one(handle, "sqlite3_errmsg", &sqlite.errmsg);
}

void sqlite_must(int code, sqlite3 *db, const char *what)
{
    if (code != 0 && code != SQLITE_DONE)
        errx(1, "%s: %s", what, sqlite.errmsg(db));
}

sqlite3 *sqlite_open(const char *path)
{
    sqlite3 *db;
    if (sqlite.open(path, &db) != 0)
        errx(1, "sqlite3_open %s", path);
    return db;
}

void sqlite_execute(sqlite3 *db, const char *sql)
{
    sqlite_must(sqlite.exec(db, sql, NULL, NULL, NULL), db, sql);
}

sqlite3_stmt *sqlite_prepare(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *statement;
    sqlite_must(sqlite.prepare(db, sql, -1, &statement, NULL), db, sql);
    return statement;
}

/* ---------------------------------------------------------------------------------------------------------- a queue */

struct connection {
    sqlite3 *db;
    sqlite3_stmt *insert;
};

struct base {
    char path[PATH_SIZE], dir[PATH_SIZE];
};

static struct connection *connect_to(const char *path)
{
    struct connection *c = calloc(1, sizeof *c);
    if (!c)
        err(1, "SQLite");
    c->db = sqlite_open(path);
    sqlite.busy_timeout(c->db, 60000);
    sqlite_execute(c->db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                          "CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY, body BLOB NOT NULL)");
    c->insert = sqlite_prepare(c->db, "INSERT INTO events (body) VALUES (?)");
    return c;
}

static void leave(void *producer)
{
    struct connection *c = producer;
    sqlite.finalize(c->insert);
    sqlite.close(c->db);
    free(c);
}

static void *begin(const struct context *context)
{
    struct base *base = calloc(1, sizeof *base);
    if (!base)
        err(1, "SQLite");
    sqlite_load();
    path_in(context, "sqlite.db", base->path);
    path_in(context, "", base->dir);
    leave(connect_to(base->path));
    return base;
}

static void *join(void *shared, unsigned index)
{
    (void)index;
    return connect_to(((struct base *)shared)->path);
}

static void insert(struct connection *c, struct body body)
{
    sqlite_must(sqlite.bind_blob(c->insert, 1, body.text, (int)body.size, NULL), c->db, "bind");
    sqlite_must(sqlite.step(c->insert), c->db, "INSERT");
    sqlite_must(sqlite.reset(c->insert), c->db, "INSERT");
}

static size_t step_single(void *producer, uint64_t number)
{
    insert(producer, payload(number));
    return 1;
}

static size_t step_batch(void *producer, uint64_t number)
{
    struct connection *c = producer;
    size_t n = payload_batch();
    sqlite_execute(c->db, "BEGIN IMMEDIATE");
    for (size_t i = 0; i < n; i++)
        insert(c, payload(number * n + i));
    sqlite_execute(c->db, "COMMIT");
    return n;
}

static void end(void *shared, struct outcome *outcome)
{
    struct base *base = shared;
    figure(outcome, "disk_bytes", disk_bytes(base->dir, "sqlite.db") / figure_value(outcome, "events"));
    free(base);
}

static void sqlite_single(const struct context *context, struct outcome *outcome)
{
    drive(&(struct driver){.begin = begin, .join = join, .step = step_single, .leave = leave, .end = end}, context,
          outcome);
}

static void sqlite_batch(const struct context *context, struct outcome *outcome)
{
    drive(&(struct driver){.begin = begin, .join = join, .step = step_batch, .leave = leave, .end = end}, context,
          outcome);
}

const struct bench_case sqlite_cases[] = {
    {"sqlite_single", "SQLite, an event a transaction", SETTINGS, sqlite_single},
    {"sqlite_batch", "SQLite, 1,000 events a transaction", SETTINGS, sqlite_batch},
    {0},
};
