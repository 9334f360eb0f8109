/* raw_sqlite.c - the usual bulk insert into the schema of the sqlite sink, by SQLite alone.
 *
 *     raw_sqlite ARCHIVE NEW EVENTS BYTES BATCH
 *
 * Takes the schema from ARCHIVE, which the sink has made, and writes NEW with the same settings: WAL, synchronous=FULL,
 * a transaction for BATCH rows, one prepared statement, values bound in place; each row has an id and a time of its own. */
#include <sqlite3.h>

#include "load.h"

static sqlite3 *db;

static void must(int rc, const char *what)
{
    if (rc != SQLITE_OK && rc != SQLITE_DONE)
        errx(1, "%s: %s", what, sqlite3_errmsg(db));
}

static int create(void *user, int columns, char **values, char **names)
{
    (void)user, (void)columns, (void)names;
    must(sqlite3_exec(db, values[0], NULL, NULL, NULL), values[0]);
    return 0;
}

static void copy_schema(const char *archive)
{
    sqlite3 *from;
    if (sqlite3_open_v2(archive, &from, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK ||
        sqlite3_exec(from, "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY type = 'index', type = 'view'",
                     create, NULL, NULL) != SQLITE_OK)
        errx(1, "%s: %s", archive, sqlite3_errmsg(from));
    sqlite3_close(from);
}

static void insert(sqlite3_stmt *s, uint64_t n, size_t bytes)
{
    static struct load load;
    load_event(&load, n, bytes);
    sqlite3_bind_text(s, 1, load.id_text, SPOOL_ID_TEXT_SIZE - 1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 2, (int64_t)(spool_id_time_ns(&load.id) / 1000000));
    sqlite3_bind_text(s, 3, load.event.type, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 4, load.agent, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 5, load.event.session, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 6, load.body, (int)load.event.body_size, SQLITE_STATIC);
    must(sqlite3_step(s), "insert");
    sqlite3_reset(s);
}

int main(int argc, char **argv)
{
    uint64_t events = load_number(argc, argv, 3, 0), batch = load_number(argc, argv, 5, 1);
    sqlite3_stmt *s;
    if (argc != 6)
        errx(2, "usage: raw_sqlite ARCHIVE NEW EVENTS BYTES BATCH");
    must(sqlite3_open(argv[2], &db), argv[2]);
    must(sqlite3_exec(db,
                      "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4000;"
                      "PRAGMA cache_size = -8192",
                      NULL, NULL, NULL),
         "pragma");
    copy_schema(argv[1]);
    must(sqlite3_prepare_v2(db,
                            "INSERT INTO events (id, time_ms, type, agent, session, priority, content_type, body)"
                            " VALUES (?, ?, ?, ?, ?, 'medium', 'application/json', ?) ON CONFLICT (id) DO NOTHING",
                            -1, &s, NULL),
         "prepare");
    uint64_t start_ns = clock_ns();
    for (uint64_t n = 0; n < events; n++) {
        if (n % batch == 0)
            must(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), "begin");
        insert(s, n, load_number(argc, argv, 4, 0));
        if (n % batch == batch - 1 || n == events - 1)
            must(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), "commit");
    }
    load_report(events, start_ns);
    sqlite3_finalize(s);
    sqlite3_close(db);
    return 0;
}
