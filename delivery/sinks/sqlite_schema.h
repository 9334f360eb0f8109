/* sqlite_schema.h - what stands in an archive of the sqlite sink.
 *
 * Version 1. One table, a row per event, and a view per well-known type (VIEWS below), in which each documented member
 * of the body is a column. Version 2 adds the view sessions, a row per session: what it took, and what it cost.
 *
 *   events  seq             INTEGER PRIMARY KEY, the order of arrival
 *           id              TEXT UNIQUE, as in every other rendering; ids sort as they were made
 *           time_ms         INTEGER, of the id, since 1970 UTC
 *           type, agent, session, priority, parent, content_type, traceparent   TEXT; NULL: what the event lacks
 *           tags            TEXT, a JSON array
 *           occurred_at_ns  INTEGER; ttl_ms INTEGER; NULL: not given
 *           body            TEXT: JSON, byte for byte as it was enqueued; BLOB: anything else; NULL: none
 *
 * The id is a text and the table has a rowid, for these reasons. With small bodies a table WITHOUT ROWID and ids as
 * BLOB were measured to be within a tenth of this one; with bodies of some KiB, as those of model calls are, rows in an
 * index tree take 1.4 times the space and half again the time. A BLOB saves 54 of 530 bytes a row, and costs everybody
 * who queries the archive the conversion. The four indexes take half of the time of an insert, so each may be left out;
 * agent, type and session are followed by time_ms, so that the latest of an agent are found without sorting.
 *
 * An archive is ours if and only if application_id is "spol" (0x73706f6c); user_version is the version of its schema.
 * An empty database is made an archive, a foreign one is refused, and so is a newer version.
 *
 * Recipe for version 3: append to `migrations` the statements that make 3 out of 2, and nothing else: SCHEMA_VERSION is
 * the length of that list. user_version is raised in the transaction of the statements. Only add columns, tables and
 * views: a column that older programs read keeps its meaning. tests/sinks/sqlite_1.sql is an archive of version 1: keep
 * it, and add one of each version that changes what is there. */
#ifndef DELIVERY_SINKS_SQLITE_SCHEMA_H
#define DELIVERY_SINKS_SQLITE_SCHEMA_H

#include "../../lib/spool.h"

enum { APPLICATION_ID = 0x73706f6c };

#define TABLE                                                                                                          \
    "CREATE TABLE events (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, time_ms INTEGER NOT NULL,"                 \
    " type TEXT NOT NULL, agent TEXT, session TEXT, priority TEXT NOT NULL, parent TEXT, tags TEXT,"                   \
    " content_type TEXT NOT NULL, traceparent TEXT, occurred_at_ns INTEGER, ttl_ms INTEGER, body);"

/* The members that spool.h documents for a type, each a column of its view. */
#define M(name) ", json_extract(json, '$." name "') AS \"" name "\""
#define VIEW(name, type, members)                                                                                      \
    "CREATE VIEW " name " AS SELECT id, strftime('%Y-%m-%dT%H:%M:%fZ', time_ms / 1000.0, 'unixepoch') AS time, agent," \
    " session" members " FROM (SELECT *, iif(typeof(body) = 'text', body, NULL) AS json FROM events"                   \
    " WHERE type = '" type "');"
#define VIEWS                                                                                                          \
    VIEW("memory_interaction", SPOOL_TYPE_MEMORY_INTERACTION,                                                          \
         M("role") M("content") M("turn") M("tool_calls") M("in_reply_to"))                                            \
    VIEW("memory_context", SPOOL_TYPE_MEMORY_CONTEXT, M("key") M("value") M("scope") M("expires_at"))                  \
    VIEW("memory_learning", SPOOL_TYPE_MEMORY_LEARNING, M("lesson") M("evidence") M("confidence") M("source"))         \
    VIEW("memory_system_state", SPOOL_TYPE_MEMORY_SYSTEM_STATE, M("component") M("state") M("previous") M("cause"))    \
    VIEW("memory_performance", SPOOL_TYPE_MEMORY_PERFORMANCE,                                                          \
         M("metric") M("value") M("unit") M("window_ms") M("baseline"))                                                \
    VIEW("memory_error", SPOOL_TYPE_MEMORY_ERROR, M("message") M("kind") M("where") M("retryable") M("stack"))         \
    VIEW("memory_goal", SPOOL_TYPE_MEMORY_GOAL, M("goal") M("status") M("progress") M("parent_goal") M("deadline"))    \
    VIEW("memory_belief", SPOOL_TYPE_MEMORY_BELIEF, M("statement") M("confidence") M("evidence") M("revises"))         \
    VIEW("memory_plan", SPOOL_TYPE_MEMORY_PLAN, M("plan") M("goal") M("revision") M("status"))                         \
    VIEW("log_user_interaction", SPOOL_TYPE_LOG_USER_INTERACTION, M("role") M("content") M("channel") M("latency_ms")) \
    VIEW("log_agent_delegation", SPOOL_TYPE_LOG_AGENT_DELEGATION,                                                      \
         M("to") M("task") M("tool") M("arguments") M("result"))                                                       \
    VIEW("log_llm_call", SPOOL_TYPE_LOG_LLM_CALL,                                                                      \
         M("model") M("input_tokens") M("output_tokens") M("cost_usd") M("latency_ms"))                                \
    VIEW("log_performance_metrics", SPOOL_TYPE_LOG_PERFORMANCE_METRICS, M("metric") M("value") M("unit") M("labels"))  \
    VIEW("log_error", SPOOL_TYPE_LOG_ERROR, M("message") M("kind") M("where") M("retryable") M("stack"))               \
    VIEW("log_context", SPOOL_TYPE_LOG_CONTEXT, M("key") M("value"))

/* What the calls of a session took and cost; numbers that are none count as nothing. */
#define CALLS(member, as) ", sum(iif(type = '" SPOOL_TYPE_LOG_LLM_CALL "', json_extract(json, '$." member "'), 0)) AS " as
#define SESSIONS                                                                                                       \
    "CREATE VIEW sessions AS SELECT session, min(agent) AS first_agent, count(DISTINCT agent) AS agents,"              \
    " strftime('%Y-%m-%dT%H:%M:%fZ', min(time_ms) / 1000.0, 'unixepoch') AS began,"                                    \
    " strftime('%Y-%m-%dT%H:%M:%fZ', max(time_ms) / 1000.0, 'unixepoch') AS ended, count(*) AS events,"                \
    " sum(type = '" SPOOL_TYPE_LOG_LLM_CALL "') AS llm_calls" CALLS("input_tokens", "input_tokens")                    \
        CALLS("output_tokens", "output_tokens") CALLS("cost_usd", "cost_usd")                                          \
    ", sum(type IN ('" SPOOL_TYPE_LOG_ERROR "', '" SPOOL_TYPE_MEMORY_ERROR "')) AS errors"                             \
    " FROM (SELECT *, iif(typeof(body) = 'text', body, NULL) AS json FROM events WHERE session IS NOT NULL)"           \
    " GROUP BY session;"

static const char *const migrations[] = {TABLE VIEWS, SESSIONS};
enum { SCHEMA_VERSION = sizeof migrations / sizeof *migrations };

/* A batch is inserted by one statement, ALL, that reads it from the table BATCH (sqlite_rows.c). It stops at an event
 * that is refused and leaves in what came before: the transaction is rolled back then, and every event inserted by
 * itself with ONE, which undoes what it did for one that is refused. ALL could, too, but for each batch SQLite would
 * keep the pages as they were. */
#define BATCH "libspool_batch"
#define COLUMNS                                                                                                        \
    "id, time_ms, type, agent, session, priority, parent, tags, content_type, traceparent, occurred_at_ns, ttl_ms,"    \
    " body"
#define INSERT(or)                                                                                                     \
    "INSERT " or "INTO events (" COLUMNS ") SELECT " COLUMNS " FROM " BATCH " WHERE true ON CONFLICT (id) DO NOTHING"
#define INSERT_ALL INSERT("OR FAIL ")
#define INSERT_ONE INSERT("")
enum column {
    COLUMN_ID,
    COLUMN_TIME,
    COLUMN_TYPE,
    COLUMN_AGENT,
    COLUMN_SESSION,
    COLUMN_PRIORITY,
    COLUMN_PARENT,
    COLUMN_TAGS,
    COLUMN_CONTENT_TYPE,
    COLUMN_TRACE,
    COLUMN_OCCURRED,
    COLUMN_TTL,
    COLUMN_BODY
};

enum index { INDEX_AGENT, INDEX_TYPE, INDEX_SESSION, INDEX_TIME, INDEXES };
static const struct {
    const char *name, *create;
} indexes[INDEXES] = {
    [INDEX_AGENT] = {"agent", "CREATE INDEX IF NOT EXISTS events_by_agent ON events (agent, time_ms)"},
    [INDEX_TYPE] = {"type", "CREATE INDEX IF NOT EXISTS events_by_type ON events (type, time_ms)"},
    [INDEX_SESSION] = {"session", "CREATE INDEX IF NOT EXISTS events_by_session ON events (session, time_ms)"},
    [INDEX_TIME] = {"time", "CREATE INDEX IF NOT EXISTS events_by_time ON events (time_ms)"},
};

#endif
