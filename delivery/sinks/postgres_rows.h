/* postgres_rows.h - events as rows of PostgreSQL's binary COPY format.
 *
 * A table for events has these columns (and may have others that have defaults); seen in this order:
 *
 *   id uuid, time timestamptz (the id's, in microseconds), type text, agent text, session text, priority text, parent
 * uuid, tags text[], content_type text, traceparent text, occurred_at timestamptz, ttl_ms bigint, body jsonb       the
 * body, if it is JSON that jsonb can hold body_raw bytea   any other body, byte for byte
 *
 * What jsonb cannot hold though it is JSON: the character U+0000 and halves of surrogate pairs. Both are looked for
 * here. Numbers beyond those of PostgreSQL's numeric are found by the server, and sent again as body_raw. */
#ifndef DELIVERY_SINKS_POSTGRES_ROWS_H
#define DELIVERY_SINKS_POSTGRES_ROWS_H

#include "plugin.h"

struct pg_column {
    const char *name, *type, *constraint;
};
enum { PG_COLUMNS = 14 };
extern const struct pg_column pg_columns[PG_COLUMNS];

/* Each appends to `out`; ENOMEM. */
int rows_begin(struct buffer *out);
/* `raw`: the body as body_raw, whatever it is. */
int rows_add(struct buffer *out, const struct spool_delivery *delivery, bool raw);
int rows_end(struct buffer *out);

/* The body is for the column `body`. */
bool rows_is_jsonb(const struct spool_event *event);
/* The day of the event's time, in days since 1970. */
int64_t rows_day(const struct spool_delivery *delivery);

#endif
