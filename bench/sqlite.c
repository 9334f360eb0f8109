/* sqlite.c - SQLite as a queue: one table, WAL, synchronous=FULL, singly and 1,000 a transaction; a connection a
 * producer. The library is loaded when it is asked for, so that the benchmark is built without it. */
#include <dlfcn.h>

#include "case.h"

#define SETTINGS "journal_mode=WAL, synchronous=FULL, prepared INSERT, a connection a producer"
enum { SQLITE_DONE = 101 };

typedef struct sqlite3 sqlite3;
typedef struct sqlite3_stmt sqlite3_stmt;

static struct {
    int (*open)(const char *, sqlite3 **);
    int (*close)(sqlite3 *);
    int (*exec)(sqlite3 *, const char *, int (*)(void *, int, char **, char **), void *, char **);
    int (*prepare)(sqlite3 *, const char *, int, sqlite3_stmt **, const char **);
    int (*bind)(sqlite3_stmt *, int, const void *, int, void (*)(void *));
    int (*step)(sqlite3_stmt *);
    int (*reset)(sqlite3_stmt *);
    int (*finalize)(sqlite3_stmt *);
    int (*busy_timeout)(sqlite3 *, int);
    const char *(*errmsg)(sqlite3 *);
} lib;

struct connection {
    sqlite3 *db;
    sqlite3_stmt *insert;
};

struct base {
    char path[PATH_SIZE], dir[PATH_SIZE];
};

static void load_one(void *handle, const char *name, void *ret)
{
    void *found = dlsym(handle, name);
    if (!found)
        errx(1, "%s: %s", name, dlerror());
    memcpy(ret, &found, sizeof found);
}

static void load(void)
{
    void *handle = dlopen("libsqlite3.so.0", RTLD_NOW);
    if (!handle)
        errx(1, "%s", dlerror());
    load_one(handle, "sqlite3_open", &lib.open);
    load_one(handle, "sqlite3_close", &lib.close);
    load_one(handle, "sqlite3_exec", &lib.exec);
    load_one(handle, "sqlite3_prepare_v2", &lib.prepare);
    load_one(handle, "sqlite3_bind_blob", &lib.bind);
    load_one(handle, "sqlite3_step", &lib.step);
    load_one(handle, "sqlite3_reset", &lib.reset);
    load_one(handle, "sqlite3_finalize", &lib.finalize);
    load_one(handle, "sqlite3_busy_timeout", &lib.busy_timeout);
    load_one(handle, "sqlite3_errmsg", &lib.errmsg);
}

static void execute(sqlite3 *db, const char *sql)
{
    if (lib.exec(db, sql, NULL, NULL, NULL) != 0)
        errx(1, "%s: %s", sql, lib.errmsg(db));
}

static struct connection *connect_to(const char *path)
{
    struct connection *c = calloc(1, sizeof *c);
    if (!c || lib.open(path, &c->db) != 0)
        errx(1, "sqlite3_open %s", path);
    lib.busy_timeout(c->db, 60000);
    execute(c->db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                   "CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY, body BLOB NOT NULL)");
    if (lib.prepare(c->db, "INSERT INTO events (body) VALUES (?)", -1, &c->insert, NULL) != 0)
        errx(1, "sqlite3_prepare: %s", lib.errmsg(c->db));
    return c;
}

static void leave(void *producer)
{
    struct connection *c = producer;
    lib.finalize(c->insert);
    lib.close(c->db);
    free(c);
}

static void *begin(const struct context *context)
{
    struct base *base = calloc(1, sizeof *base);
    if (!base)
        err(1, "SQLite");
    load();
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
    if (lib.bind(c->insert, 1, body.text, (int)body.size, NULL) != 0 || lib.step(c->insert) != SQLITE_DONE ||
        lib.reset(c->insert) != 0)
        errx(1, "INSERT: %s", lib.errmsg(c->db));
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
    execute(c->db, "BEGIN IMMEDIATE");
    for (size_t i = 0; i < n; i++)
        insert(c, payload(number * n + i));
    execute(c->db, "COMMIT");
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
