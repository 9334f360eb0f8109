/* archive.c - the sqlite sink beside the usual bulk insert into the same schema, by SQLite alone: a prepared INSERT,
 * stepped for each row, in large transactions. Both write context->count events, with the same bodies, into the same
 * columns and indexes, with the same settings. (The sink shows SQLite the batch as a table, which one statement
 * inserts.)
 *
 *   spool_sqlite     fills a spool; what is timed is its delivery, from the start to the last acknowledgement
 *   sqlite_archive   takes the schema from an archive that the sink has made, and inserts */
#include "sinks/load.h"
#include "spooled.h"
#include "sqlite.h"

enum { SINK_BATCH = 8192, SINK_BATCH_BYTES = 8 << 20, RAW_BATCH = 8192 };

/* The plugin of this build: beside the program's folder. */
static void find_plugin(const char *kind, char ret[PATH_SIZE + 64])
{
    char program[PATH_SIZE] = "";
    if (readlink("/proc/self/exe", program, sizeof program - 1) < 0)
        err(1, "/proc/self/exe");
    for (int i = 0; i < 2 && strrchr(program, '/'); i++)
        *strrchr(program, '/') = '\0';
    snprintf(ret, PATH_SIZE + 64, "%s/sinks/libspool-sink-%s.so", program, kind);
    if (access(ret, R_OK) != 0)
        errx(1, "%s is not built", ret);
}

/* A spool with `count` events, for a sink that writes them into `archive`. */
static struct spool *filled_spool(const struct context *context, const char *archive, uint64_t count)
{
    char config[PATH_SIZE + 64], plugin[PATH_SIZE + 64];
    struct spool *spool = bench_open(context, &BENCH_OPTIONS(.flags = 0));
    find_plugin("sqlite", plugin);
    snprintf(config, sizeof config, "{\"path\":\"%s\"}", archive);
    ok(spool_sink_load(
           spool, "archive", "sqlite", config,
           &SPOOL_SINK_OPTIONS(.plugin = plugin, .batch_events_max = SINK_BATCH, .batch_bytes_max = SINK_BATCH_BYTES)),
       "spool_sink_load");
    bench_fill(spool, count);
    ok(spool_flush(spool, 60000), "spool_flush");
    return spool;
}

static void deliver(struct spool *spool)
{
    ok(spool_start(spool), "spool_start");
    ok(spool_drain(spool, 120000), "spool_drain");
}

/* What both are judged by. */
static void figures(const struct context *context, uint64_t begin_ns, double begin_cpu, struct outcome *outcome)
{
    double events = (double)context->count, cpu = cpu_seconds() - begin_cpu;
    figure(outcome, "events", events);
    figure(outcome, "per_second", events * 1e9 / (double)(clock_ns() - begin_ns));
    figure(outcome, "cpu_ns", cpu * 1e9 / events);
}

static void spool_sqlite(const struct context *context, struct outcome *outcome)
{
    char archive[PATH_SIZE];
    path_in(context, "events.db", archive);
    payload_begin(context);
    struct spool *spool = filled_spool(context, archive, context->count);
    double cpu = cpu_seconds();
    uint64_t begin = clock_ns();
    deliver(spool);
    figures(context, begin, cpu, outcome);
    ok(spool_close(spool), "spool_close");
    figure(outcome, "disk_bytes", disk_bytes(context->dir, "events.db") / (double)context->count);
}

/* --------------------------------------------------------------------------------------------------- SQLite alone */

static int create(void *db, int columns, char **values, char **names)
{
    (void)columns, (void)names;
    sqlite_execute(db, values[0]);
    return 0;
}

static sqlite3 *open_like(const char *archive, const char *path)
{
    sqlite3 *from = sqlite_open(archive), *db = sqlite_open(path);
    sqlite_execute(db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4000;"
                       "PRAGMA cache_size = -8192");
    sqlite_must(sqlite.exec(from,
                            "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL"
                            " ORDER BY type = 'index', type = 'view'",
                            create, db, NULL),
                from, "the schema");
    sqlite.close(from);
    return db;
}

static sqlite3_stmt *prepare_insert(sqlite3 *db)
{
    return sqlite_prepare(db, "INSERT INTO events (id, time_ms, type, agent, priority, content_type, body)"
                              " VALUES (?, ?, ?, ?, 'medium', 'application/json', ?) ON CONFLICT (id) DO NOTHING");
}

static void insert(sqlite3_stmt *statement, sqlite3 *db, uint64_t number)
{
    char text[SPOOL_ID_TEXT_SIZE];
    struct spool_id id;
    struct spool_event event = bench_event(SPOOL_DURABLE_PROCESS, number);
    load_id(number, &id);
    spool_id_format(&id, text);
    sqlite.bind_text(statement, 1, text, SPOOL_ID_TEXT_SIZE - 1, NULL);
    sqlite.bind_int64(statement, 2, (int64_t)(spool_id_time_ns(&id) / 1000000));
    sqlite.bind_text(statement, 3, event.type, -1, NULL);
    sqlite.bind_text(statement, 4, event.agent, -1, NULL);
    sqlite.bind_text(statement, 5, event.body, (int)event.body_size, NULL);
    sqlite_must(sqlite.step(statement), db, "INSERT");
    sqlite.reset(statement);
}

static void insert_all(sqlite3_stmt *statement, sqlite3 *db, uint64_t count)
{
    for (uint64_t number = 0; number < count; number++) {
        if (number % RAW_BATCH == 0)
            sqlite_execute(db, "BEGIN IMMEDIATE");
        insert(statement, db, number);
        if (number % RAW_BATCH == RAW_BATCH - 1 || number == count - 1)
            sqlite_execute(db, "COMMIT");
    }
}

static void sqlite_archive(const struct context *context, struct outcome *outcome)
{
    char archive[PATH_SIZE], path[PATH_SIZE];
    path_in(context, "of-the-sink.db", archive);
    path_in(context, "alone.db", path);
    payload_begin(context);
    sqlite_load();
    struct spool *spool = filled_spool(context, archive, 1);
    deliver(spool);
    ok(spool_close(spool), "spool_close");
    sqlite3 *db = open_like(archive, path);
    sqlite3_stmt *statement = prepare_insert(db);
    double cpu = cpu_seconds();
    uint64_t begin = clock_ns();
    insert_all(statement, db, context->count);
    figures(context, begin, cpu, outcome);
    sqlite.finalize(statement);
    sqlite.close(db);
    figure(outcome, "disk_bytes", disk_bytes(context->dir, "alone.db") / (double)context->count);
}

const struct bench_case archive_cases[] = {
    {"spool_sqlite", "libspool, a backlog to an acknowledged sqlite sink",
     SPOOL_SETTINGS "; 8,192 events a batch, all indexes, synchronous=FULL", spool_sqlite},
    {"sqlite_archive", "SQLite, bulk insert into the sqlite sink's schema",
     "8,192 rows a transaction, prepared INSERT, WAL, synchronous=FULL, as the sink sets them", sqlite_archive},
    {0},
};
