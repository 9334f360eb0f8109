/* output.h - how the spool command prints: units, tables, events, JSON, progress. */
#ifndef TOOLS_OUTPUT_H
#define TOOLS_OUTPUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "../lib/spool.h"

/* ----------------------------------------------------------------------------------------------- units (units.c) */

enum { UNITS_SIZE = 40 }; /* room for any of the texts below */

uint64_t now_wall_ns(void);
uint64_t now_steady_ns(void);

char *units_count(uint64_t count, char ret[UNITS_SIZE]);                /* "1,234,567" */
char *units_bytes(uint64_t bytes, char ret[UNITS_SIZE]);                /* "1.2 GiB" */
char *units_span(uint64_t ns, char ret[UNITS_SIZE]);                    /* "2 h 13 min" */
char *units_age(uint64_t unix_ns, char ret[UNITS_SIZE]);                /* the time since then; "-" for 0 */
char *units_time(uint64_t unix_ns, int decimals, char ret[UNITS_SIZE]); /* RFC 3339 in UTC */

/* "500ms", "30" (seconds), "1h30m", "7d". */
bool units_parse_duration(const char *text, uint64_t *ret_ms);
/* RFC 3339 ("2026-11-21T09:34:15Z", "2026-11-21"), "now", or a duration ago ("10m", "7d ago"). */
bool units_parse_when(const char *text, uint64_t *ret_unix_ns);
bool units_parse_count(const char *text, uint64_t *ret_count);

/* ---------------------------------------------------------------------------------------------- tables (table.c) */

/* Columns are as wide as their widest cell; a title that begins with '>' stands over a right-aligned one. */
struct table;
struct table *table_new(const char *const *titles, size_t columns);
void table_cell(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
void table_print(const struct table *table, FILE *out);
void table_free(struct table *table); /* NULL is fine */

/* Columns that a UTF-8 text takes on a terminal, about. */
size_t text_width(const char *text);

/* Prints at most `width` columns of `text`, with everything a terminal could take as a command replaced. */
void text_print(FILE *out, const char *text, size_t size, size_t width);

/* ---------------------------------------------------------------------------------------------- events (render.c) */

/* One event as a line for people, cut to the terminal. */
void event_print_line(FILE *out, const struct spool_event *event);
/* The whole event for people. */
void event_print_full(FILE *out, const struct spool_event *event);
/* The native JSON rendering and a line feed. Returns the library's code. */
int event_print_json(FILE *out, const struct spool_event *event);

/* Sets a member of the object, which takes the value over. */
void json_set(json_t *object, const char *key, json_t *value);
/* Prints the object on one line and releases it. */
void json_print(json_t *object);
/* A JSON string of any bytes. */
json_t *json_text(const char *text);
json_t *json_number(uint64_t number);
/* An RFC 3339 string, null for 0. */
json_t *json_time(uint64_t unix_ns);

/* ------------------------------------------------------------------------------------------ progress (progress.c) */

/* One line on stderr that is written over, when stderr is a terminal; otherwise everything here does nothing. */
struct progress {
    bool on, shown;
    uint64_t start_ns, last_ns; /* steady clock */
};
void progress_start(struct progress *progress, bool wanted);
/* True when it is time for a new line: rarely enough to cost nothing. */
bool progress_due(struct progress *progress);
void progress_line(struct progress *progress, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Takes the line away, so that something else can be printed. */
void progress_clear(struct progress *progress);
/* Events a second since the start. */
uint64_t progress_rate(const struct progress *progress, uint64_t count);

#endif
