/* sqlite.h - the calls of SQLite that the cases need. The library is loaded when it is asked for, so that the benchmark is
 * built without it. What fails ends the benchmark with SQLite's message. */
#ifndef BENCH_SQLITE_H
#define BENCH_SQLITE_H

#include <stdint.h>

enum { SQLITE_DONE = 101 };

typedef struct sqlite3 sqlite3;
typedef struct sqlite3_stmt sqlite3_stmt;

extern struct sqlite_library {
    int (*open)(const char *, sqlite3 **);
    int (*close)(sqlite3 *);
    int (*exec)(sqlite3 *, const char *, int (*)(void *, int, char **, char **), void *, char **);
    int (*prepare)(sqlite3 *, const char *, int, sqlite3_stmt **, const char **);
    int (*bind_blob)(sqlite3_stmt *, int, const void *, int, void (*)(void *)); /* NULL: lasts until it is bound anew */
    int (*bind_text)(sqlite3_stmt *, int, const char *, int, void (*)(void *));
    int (*bind_int64)(sqlite3_stmt *, int, int64_t);
    int (*step)(sqlite3_stmt *);
    int (*reset)(sqlite3_stmt *);
    int (*finalize)(sqlite3_stmt *);
    int (*busy_timeout)(sqlite3 *, int);
    const char *(*errmsg)(sqlite3 *);
} sqlite;

void sqlite_load(void);
void sqlite_must(int code, sqlite3 *db, const char *what); /* SQLITE_OK or SQLITE_DONE */
sqlite3 *sqlite_open(const char *path);
void sqlite_execute(sqlite3 *db, const char *sql);
sqlite3_stmt *sqlite_prepare(sqlite3 *db, const char *sql);

#endif
