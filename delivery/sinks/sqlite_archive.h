/* sqlite_archive.h - one archive of the sqlite sink: its settings, its connection, and what its parts share.
 *
 *   sqlite.c         what is done with events, and the hooks
 *   sqlite_open.c    from a path to a connection that can be written to: whose database it is, its schema, its statements
 *   sqlite_rows.c    the batch as a table that SQLite reads
 *   sqlite_config.c  the settings
 *   sqlite_schema.h  what stands in it */
#ifndef DELIVERY_SINKS_SQLITE_ARCHIVE_H
#define DELIVERY_SINKS_SQLITE_ARCHIVE_H

#include <pthread.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <sys/types.h>

#include "plugin.h"

struct archive {
    char *path;
    mode_t mode;
    uint64_t busy_ms, retention_ms;
    unsigned indexes; /* bits 1 << enum index */
    struct cancel cancel;
    pthread_mutex_t lock; /* of db, against cancel */
    sqlite3 *db;          /* NULL: not open. Changed with the lock; read without by whoever delivers */
    sqlite3_stmt *begin, *insert_all, *insert_one, *expire, *commit, *rollback;
    const struct spool_delivery *batch; /* what the inserts read: [first, end) of it */
    size_t first, end;
    struct buffer tags; /* of the event that is read */
};

/* Reads the settings; what it allocated is freed by archive_free_settings(), also after a failure. SPOOL_ECONFIG. */
int archive_configure(struct archive *a, const char *json_config);
void archive_free_settings(struct archive *a);

/* Makes sure that it is open and the file is still where it was. On failure it is closed, with a message. */
int archive_connect(struct archive *a);
/* Closes the connection; what was not committed is forgotten. */
void archive_disconnect(struct archive *a);
/* SPOOL_EUNAVAILABLE, with what SQLite answered and what the operator can do about it. */
int archive_unavailable(const struct archive *a, int rc);
/* Makes BATCH a table of the new connection. What SQLite answers. */
int archive_show_batch(struct archive *a);

#endif
