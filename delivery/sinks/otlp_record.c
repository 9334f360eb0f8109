/* otlp_record.c - see otlp_record.h. */
#include "otlp_record.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../../lib/base/json.h"
#include "../../lib/base/json_tree.h"
#include "../../lib/base/utf8.h"
#include "otlp_direct.h"
#include "otlp_genai.h"
#include "otlp_value.h"

enum { ATTRIBUTES_GUESS = 100, RECORD_GUESS = 300, NAME_SIZE = 256, TRACE_ID = 16, SPAN_ID = 8, STATUS_ERROR = 2 };
#define NS_PER_MS 1000000.0

static const struct otlp_field LOG_TIME = {1, "timeUnixNano"}, LOG_SEVERITY = {2, "severityNumber"},
                               LOG_SEVERITY_TEXT = {3, "severityText"}, LOG_BODY = {5, "body"},
                               LOG_ATTRIBUTES = {6, "attributes"}, LOG_FLAGS = {8, "flags"},
                               LOG_TRACE_ID = {9, "traceId"}, LOG_SPAN_ID = {10, "spanId"},
                               LOG_OBSERVED = {11, "observedTimeUnixNano"}, LOG_EVENT_NAME = {12, "eventName"};
static const struct otlp_field SPAN_TRACE_ID = {1, "traceId"}, SPAN_SPAN_ID = {2, "spanId"},
                               SPAN_PARENT = {4, "parentSpanId"}, SPAN_NAME = {5, "name"}, SPAN_KIND = {6, "kind"},
                               SPAN_START = {7, "startTimeUnixNano"}, SPAN_END = {8, "endTimeUnixNano"},
                               SPAN_ATTRIBUTES = {9, "attributes"}, SPAN_STATUS = {15, "status"},
                               SPAN_FLAGS = {16, "flags"}, STATUS_CODE = {3, "code"};

/* One event on its way. */
struct record {
    const struct otlp_style *style;
    const struct spool_event *event;
    const struct spool_id *id;
    const struct genai_kind *kind;
    json_t *tree;       /* the body, if it is JSON */
    bool has_some_only; /* the body is an object, and the tree has those of its members that are asked for */
    bool with_content;
};

/* -------------------------------------------------------------------------------------------------------- the body */

static bool is_json_type(const char *type)
{
    return !type || !*type || json_is_media_type(type);
}

static bool is_utf8(const uint8_t *p, size_t size)
{
    for (size_t n; size > 0; p += n, size -= n)
        if ((n = utf8_sequence(p, size)) == 0)
            return false;
    return true;
}

/* Of a body that is an object: what attributes are made of. */
static bool is_asked_for(const void *kind_, const char *name, size_t size)
{
    const struct genai_kind *kind = kind_;
    static const char *const always[] = {"provider", "latency_ms", "error"};
    for (size_t i = 0; i < sizeof always / sizeof *always; i++)
        if (strlen(always[i]) == size && memcmp(always[i], name, size) == 0)
            return true;
    for (const struct genai_row *row = kind->rows; row->member; row++)
        if (strlen(row->member) == size && memcmp(row->member, name, size) == 0)
            return true;
    return kind->target && strlen(kind->target) == size && memcmp(kind->target, name, size) == 0;
}

/* The tree, if the body is JSON, otherwise NULL. */
static void parse_whole(struct otlp_writer *w, struct record *r)
{
    json_error_t error;
    json_decref(r->tree);
    r->tree = NULL;
    r->has_some_only = false;
    if (json_tree(r->event->body, r->event->body_size, &r->tree, &error) == ENOMEM && w->code == SPOOL_OK)
        w->code = ENOMEM;
}

static void parse_body(struct otlp_writer *w, struct record *r, bool needs_whole)
{
    const struct spool_event *event = r->event;
    if (event->body_size == 0 || !is_json_type(event->content_type))
        return;
    r->has_some_only = !needs_whole && otlp_members(w, event->body, event->body_size, is_asked_for, r->kind, &r->tree);
    if (!r->has_some_only)
        parse_whole(w, r);
}

/* The body may go along whole. */
static bool may_have_body(const struct record *r)
{
    return r->event->body_size > 0 && (r->with_content || !r->kind->has_content);
}

/* It as a value: JSON as what it says, text, or bytes. */
static void put_body(struct otlp_writer *w, struct record *r)
{
    const struct spool_event *event = r->event;
    if (r->has_some_only && otlp_value_direct(w, event->body, event->body_size))
        return;
    if (r->has_some_only)
        parse_whole(w, r);
    if (r->tree)
        otlp_value_json(w, r->tree);
    else if (is_utf8(event->body, event->body_size))
        otlp_value_text(w, event->body, event->body_size);
    else
        otlp_value_bytes(w, event->body, event->body_size);
}

static const json_t *member(const struct record *r, const char *name)
{
    return json_object_get(r->tree, name); /* NULL if it is no object */
}

static double latency_ns(const struct record *r)
{
    double ms = json_number_value(member(r, "latency_ms"));
    return ms > 0 && isfinite(ms) ? ms * NS_PER_MS : 0;
}

/* -------------------------------------------------------------------------------------------------------- attributes
 */

void otlp_put_attribute(struct otlp_writer *w, const char *key, const char *text)
{
    if (!text || !*text)
        return;
    otlp_key(w, key);
    otlp_value_text(w, text, strlen(text));
    otlp_key_end(w);
}

void otlp_put_json_attribute(struct otlp_writer *w, const char *key, const json_t *value)
{
    otlp_key(w, key);
    otlp_value_json(w, value);
    otlp_key_end(w);
}

static void put_double(struct otlp_writer *w, const char *key, double value)
{
    otlp_key(w, key);
    otlp_value_double(w, value);
    otlp_key_end(w);
}

static void put_list_of_one(struct otlp_writer *w, const char *key, const json_t *value)
{
    json_t *list = json_pack("[O]", value);
    if (list)
        otlp_put_json_attribute(w, key, list);
    else if (w->code == SPOOL_OK)
        w->code = ENOMEM;
    json_decref(list);
}

/* A member whose kind is not what the conventions say is left out: backends refuse a whole request for it. */
static void put_row(struct otlp_writer *w, const struct genai_row *row, const json_t *value)
{
    switch (row->form) {
    case GENAI_TEXT:
        if (json_is_string(value))
            otlp_put_attribute(w, row->attribute, json_string_value(value));
        break;
    case GENAI_INT:
        if (json_is_integer(value))
            otlp_put_json_attribute(w, row->attribute, value);
        break;
    case GENAI_DOUBLE:
        if (json_is_number(value))
            put_double(w, row->attribute, json_number_value(value));
        break;
    case GENAI_SECONDS:
        if (json_is_number(value))
            put_double(w, row->attribute, json_number_value(value) / 1000);
        break;
    case GENAI_LIST:
        if (json_is_array(value))
            otlp_put_json_attribute(w, row->attribute, value);
        else if (json_is_string(value))
            put_list_of_one(w, row->attribute, value);
        break;
    case GENAI_ANY:
        otlp_put_json_attribute(w, row->attribute, value);
        break;
    }
}

static void put_rows(struct otlp_writer *w, const struct record *r)
{
    for (const struct genai_row *row = r->kind->rows; row->member; row++) {
        const json_t *value = member(r, row->member);
        if (value && (r->with_content || !row->is_content))
            put_row(w, row, value);
    }
}

static void put_tags(struct otlp_writer *w, const char *const *tags)
{
    json_t *list = tags && tags[0] ? json_array() : NULL;
    for (size_t i = 0; list && tags[i]; i++)
        if (json_array_append_new(list, json_string(tags[i])) != 0 && w->code == SPOOL_OK)
            w->code = ENOMEM;
    if (list)
        otlp_put_json_attribute(w, "libspool.tags", list);
    json_decref(list);
}

static void put_envelope(struct otlp_writer *w, const struct record *r)
{
    char text[SPOOL_ID_TEXT_SIZE];
    const struct spool_event *event = r->event;
    otlp_put_attribute(w, "libspool.id", spool_id_format(r->id, text));
    otlp_put_attribute(w, "libspool.type", event->type);
    otlp_put_attribute(w, "libspool.priority", spool_priority_name(event->priority));
    if (event->parent)
        otlp_put_attribute(w, "libspool.parent", spool_id_format(event->parent, text));
    put_tags(w, event->tags);
    otlp_put_attribute(w, r->kind->has_content ? GENAI_CONVERSATION : "session.id", event->session);
    bool named = strcmp(event->type, SPOOL_TYPE_LOG_AGENT_DELEGATION) == 0; /* GENAI_AGENT is whom it is given to */
    otlp_put_attribute(w, named ? "libspool.agent" : GENAI_AGENT, event->agent);
}

static void put_operation(struct otlp_writer *w, const struct record *r)
{
    char text[SPOOL_ID_TEXT_SIZE];
    if (!r->kind->operation)
        return;
    otlp_put_attribute(w, GENAI_OPERATION, r->kind->operation);
    if (!json_is_string(member(r, "provider")) || r->kind->is_memory)
        otlp_put_attribute(w, GENAI_PROVIDER, r->style->provider);
    if (r->kind->is_memory)
        otlp_put_attribute(w, GENAI_RECORD_ID, spool_id_format(r->id, text));
}

static void put_log_attributes(struct otlp_writer *w, const struct record *r)
{
    otlp_list(w, &LOG_ATTRIBUTES);
    put_envelope(w, r);
    put_operation(w, r);
    put_rows(w, r);
    otlp_list_end(w);
}

/* ------------------------------------------------------------------------------------------------------------- traces
 */

static uint64_t hash(const void *bytes, size_t size, uint64_t seed)
{
    uint64_t h = seed;
    for (size_t i = 0; i < size; i++)
        h = (h ^ ((const uint8_t *)bytes)[i]) * 0x100000001b3ull; /* FNV-1a */
    h ^= h >> 32; /* its low bits are the good ones; all of them are used */
    return h ? h : 1;
}

static void put_hash(uint8_t *ret, uint64_t h)
{
    for (int i = 0; i < SPAN_ID; i++, h >>= 8)
        ret[i] = (uint8_t)h;
}

#define SEED 0xcbf29ce484222325ull

static void span_id_of(const struct spool_id *id, uint8_t ret[SPAN_ID])
{
    put_hash(ret, hash(id->bytes, sizeof id->bytes, SEED));
}

static unsigned hex_at(const char *text)
{
    unsigned value = 0;
    sscanf(text, "%2x", &value);
    return value;
}

/* "00-<32 hex>-<16 hex>-<2 hex>", which the library has checked. */
static void read_trace(const char *text, uint8_t ret_trace[TRACE_ID], uint8_t ret_span[SPAN_ID], uint32_t *ret_flags)
{
    for (int i = 0; i < TRACE_ID; i++)
        ret_trace[i] = (uint8_t)hex_at(text + 3 + 2 * i);
    for (int i = 0; i < SPAN_ID; i++)
        ret_span[i] = (uint8_t)hex_at(text + 36 + 2 * i);
    *ret_flags = hex_at(text + 53);
}

static void put_trace_of_span(struct otlp_writer *w, const struct record *r)
{
    uint8_t trace[TRACE_ID], parent[SPAN_ID], span[SPAN_ID];
    uint32_t flags = 0;
    const struct spool_event *event = r->event;
    bool has_parent = event->traceparent || event->parent;
    memcpy(trace, r->id->bytes, sizeof trace);
    if (event->parent) {
        span_id_of(event->parent, parent);
        memcpy(trace, event->parent->bytes, sizeof trace);
    }
    if (event->session && *event->session) {
        put_hash(trace, hash(event->session, strlen(event->session), SEED));
        put_hash(trace + SPAN_ID, hash(event->session, strlen(event->session), ~SEED));
    }
    if (event->traceparent)
        read_trace(event->traceparent, trace, parent, &flags);
    span_id_of(r->id, span);
    otlp_id(w, &SPAN_TRACE_ID, trace, sizeof trace);
    otlp_id(w, &SPAN_SPAN_ID, span, sizeof span);
    if (has_parent)
        otlp_id(w, &SPAN_PARENT, parent, sizeof parent);
    if (event->traceparent)
        otlp_fixed32(w, &SPAN_FLAGS, flags);
}

static void put_trace_of_log(struct otlp_writer *w, const struct spool_event *event)
{
    uint8_t trace[TRACE_ID], span[SPAN_ID];
    uint32_t flags;
    if (!event->traceparent)
        return;
    read_trace(event->traceparent, trace, span, &flags);
    otlp_fixed32(w, &LOG_FLAGS, flags);
    otlp_id(w, &LOG_TRACE_ID, trace, sizeof trace);
    otlp_id(w, &LOG_SPAN_ID, span, sizeof span);
}

/* ------------------------------------------------------------------------------------------------------- log records
 */

static const char *severity_name(int severity)
{
    static const char *const names[] = {"TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"};
    return names[(severity - 1) / 4];
}

static void put_log_body(struct otlp_writer *w, struct record *r)
{
    if (!may_have_body(r))
        return;
    otlp_begin(w, &LOG_BODY, r->event->body_size);
    put_body(w, r);
    otlp_end(w);
}

void otlp_put_log(struct otlp_writer *w, const struct otlp_style *style, const struct spool_event *event,
                  const struct spool_id *id)
{
    struct record r = {.style = style,
                       .event = event,
                       .id = id,
                       .kind = genai_kind_of(event->type),
                       .with_content = style->content_in_logs};
    const char *name = r.kind->event_name ? r.kind->event_name : event->type;
    const char *severity = severity_name(r.kind->severity);
    uint64_t recorded_ns = spool_id_time_ns(id);
    parse_body(w, &r, w->json && may_have_body(&r));
    otlp_item(w, RECORD_GUESS + event->body_size);
    otlp_fixed64(w, &LOG_TIME, event->occurred_at_ns ? event->occurred_at_ns : recorded_ns);
    otlp_fixed64(w, &LOG_OBSERVED, recorded_ns);
    otlp_enum(w, &LOG_SEVERITY, (unsigned)r.kind->severity);
    otlp_text(w, &LOG_SEVERITY_TEXT, severity, strlen(severity));
    put_log_body(w, &r);
    put_log_attributes(w, &r);
    put_trace_of_log(w, event);
    otlp_text(w, &LOG_EVENT_NAME, name, strlen(name));
    otlp_end(w);
    json_decref(r.tree);
}

/* -------------------------------------------------------------------------------------------------------------- spans
 */

bool otlp_is_span(const struct spool_event *event)
{
    return genai_kind_of(event->type)->is_span;
}

/* "chat small-1": the operation and what it is about. */
static void put_span_name(struct otlp_writer *w, const struct record *r)
{
    char name[NAME_SIZE];
    const char *operation = r->kind->operation ? r->kind->operation : r->event->type;
    const char *target = r->kind->target ? json_string_value(member(r, r->kind->target)) : NULL;
    int size = snprintf(name, sizeof name, "%s%s%s", operation, target ? " " : "", target ? target : "");
    if (size < 0 || (size_t)size >= sizeof name) /* rather none of it than half a character */
        otlp_text(w, &SPAN_NAME, operation, strlen(operation));
    else
        otlp_text(w, &SPAN_NAME, name, (size_t)size);
}

static void put_span_times(struct otlp_writer *w, const struct record *r)
{
    uint64_t end_ns = r->event->occurred_at_ns ? r->event->occurred_at_ns : spool_id_time_ns(r->id);
    double took_ns = latency_ns(r);
    otlp_fixed64(w, &SPAN_START, took_ns < (double)end_ns ? end_ns - (uint64_t)took_ns : 0);
    otlp_fixed64(w, &SPAN_END, end_ns);
}

/* The conventions' form of what was remembered. */
static void put_memory(struct otlp_writer *w, const struct record *r)
{
    char text[SPOOL_ID_TEXT_SIZE];
    json_t *records = json_pack("[{sssO}]", "id", spool_id_format(r->id, text), "content", r->tree);
    if (records)
        otlp_put_json_attribute(w, GENAI_RECORDS, records);
    else if (w->code == SPOOL_OK)
        w->code = ENOMEM;
    json_decref(records);
}

/* A span has no body: it becomes an attribute, where it may go along. */
static void put_span_body(struct otlp_writer *w, struct record *r)
{
    if (!may_have_body(r))
        return;
    if (r->kind->is_memory && r->tree) { /* the whole one */
        put_memory(w, r);
        return;
    }
    otlp_key(w, "libspool.body");
    put_body(w, r);
    otlp_key_end(w);
}

static void put_span_attributes(struct otlp_writer *w, struct record *r)
{
    otlp_list(w, &SPAN_ATTRIBUTES);
    put_envelope(w, r);
    put_operation(w, r);
    put_rows(w, r);
    put_span_body(w, r);
    otlp_list_end(w);
}

static void put_span_status(struct otlp_writer *w, const struct record *r)
{
    if (!member(r, "error") || json_is_null(member(r, "error")))
        return;
    otlp_begin(w, &SPAN_STATUS, ATTRIBUTES_GUESS);
    otlp_enum(w, &STATUS_CODE, STATUS_ERROR);
    otlp_end(w);
}

void otlp_put_span(struct otlp_writer *w, const struct otlp_style *style, const struct spool_event *event,
                   const struct spool_id *id)
{
    struct record r = {.style = style,
                       .event = event,
                       .id = id,
                       .kind = genai_kind_of(event->type),
                       .with_content = style->content_in_spans};
    parse_body(w, &r, may_have_body(&r) && (w->json || r.kind->is_memory));
    otlp_item(w, RECORD_GUESS);
    put_trace_of_span(w, &r);
    put_span_name(w, &r);
    otlp_enum(w, &SPAN_KIND, (unsigned)r.kind->span_kind);
    put_span_times(w, &r);
    put_span_attributes(w, &r);
    put_span_status(w, &r);
    otlp_end(w);
    json_decref(r.tree);
}
