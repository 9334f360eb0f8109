/* raw_postgres.c - COPY of events into the table of the postgres sink, by libpq alone, as its manual shows: text
 * format, a row at a time, a transaction for BATCH rows, whose commit is waited for. Each row has an id and a time of its
 * own. It goes right into the table, without the staging table by which the sink leaves out what is there: what raw COPY
 * cannot.
 *
 *     raw_postgres CONNINFO TABLE EVENTS BYTES BATCH */
#include <libpq-fe.h>

#include "load.h"

static void must(PGconn *conn, int good, const char *what)
{
    if (!good)
        errx(1, "%s: %s", what, PQerrorMessage(conn));
}

static void finish(PGconn *conn, const char *what, ExecStatusType wanted)
{
    for (PGresult *result; (result = PQgetResult(conn)) != NULL; PQclear(result)) {
        must(conn, PQresultStatus(result) == wanted, what);
        if (wanted == PGRES_COPY_IN) {
            PQclear(result);
            return;
        }
    }
}

static void put(PGconn *conn, uint64_t n, size_t bytes)
{
    static struct load load;
    static char row[sizeof load.body + 256];
    load_event(&load, n, bytes);
    int size = snprintf(row, sizeof row, "%s\t%s.%03u\t%s\t%s\t%s\tmedium\tapplication/json\t%s\n", load.id_text,
                        "2027-01-15 08:00:00", (unsigned)(n / 16 % 1000), load.event.type, load.agent,
                        load.event.session, load.body);
    must(conn, PQputCopyData(conn, row, size) == 1, "PQputCopyData");
}

int main(int argc, char **argv)
{
    char sql[512];
    uint64_t events = load_number(argc, argv, 3, 0), bytes = load_number(argc, argv, 4, 0),
             batch = load_number(argc, argv, 5, 1);
    if (argc != 6)
        errx(2, "usage: raw_postgres CONNINFO TABLE EVENTS BYTES BATCH");
    PGconn *conn = PQconnectdb(argv[1]);
    must(conn, PQstatus(conn) == CONNECTION_OK, "PQconnectdb");
    snprintf(sql, sizeof sql, "COPY %s (id, time, type, agent, session, priority, content_type, body) FROM STDIN",
             argv[2]);
    uint64_t start_ns = clock_ns();
    for (uint64_t n = 0; n < events; n++) {
        if (n % batch == 0) {
            must(conn, PQsendQuery(conn, sql), "COPY");
            finish(conn, "COPY", PGRES_COPY_IN);
        }
        put(conn, n, bytes);
        if (n % batch == batch - 1 || n == events - 1) {
            must(conn, PQputCopyEnd(conn, NULL) == 1, "PQputCopyEnd");
            finish(conn, "COPY", PGRES_COMMAND_OK);
        }
    }
    load_report(events, start_ns);
    PQfinish(conn);
    return 0;
}
