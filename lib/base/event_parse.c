/* event_parse.c - reads the native JSON rendering of an event (spool.h) back.
 *
 * One pass over the text. Strings are decoded, and `data` is copied without white space, into one store as large as the
 * text: nothing gets longer by decoding, and each string leaves its quotes for the NUL. The event made of that is
 * checked by event_measure(), like any other, when it is copied.
 *
 * `time` and `hlc` only repeat what the id says. They are refused without an id, and when they say something else, so
 * that an edited time is not ignored in silence. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base64.h"
#include "error.h"
#include "id.h"
#include "json.h"
#include "json_scan.h"

struct parser {
    struct json_cursor in;
    uint8_t *store; /* the next free byte */
    unsigned seen;  /* bit i: members[i] was given */
    struct spool_event event;
    struct spool_id id, parent;
    const char *tags[SPOOL_TAGS_MAX + 1];
    const char *hlc;
    uint64_t time_ns;
};

/* ------------------------------------------------------------------------------------------------------- members */

static int parse_string(struct parser *p, char **ret_text, size_t *ret_size)
{
    size_t size;
    if (!json_scan_string(&p->in, p->store, &size))
        return json_fail(&p->in, NULL);
    *ret_text = (char *)p->store;
    *ret_size = size;
    p->store[size] = 0;
    p->store += size + 1;
    return SPOOL_OK;
}

/* A text of the envelope: a NUL in it would cut it short unnoticed. */
static int parse_text(struct parser *p, const char **ret)
{
    char *text = NULL;
    size_t size = 0;
    int rc = parse_string(p, &text, &size);
    if (rc)
        return rc;
    if (strlen(text) != size)
        return err_set(SPOOL_EUTF8, "it holds the control character U+0000");
    *ret = text;
    return SPOOL_OK;
}

static int parse_uuid(struct parser *p, struct spool_id *id, const struct spool_id **ret)
{
    const char *text;
    int rc = parse_text(p, &text);
    if (!rc)
        rc = spool_id_parse(text, id);
    if (!rc)
        *ret = id;
    return rc;
}

static int parse_instant(struct parser *p, uint64_t *ret_ns)
{
    const char *text;
    int rc = parse_text(p, &text);
    return rc ? rc : json_parse_time(text, strlen(text), ret_ns);
}

static int parse_id(struct parser *p)
{
    return parse_uuid(p, &p->id, &p->event.id);
}
static int parse_time(struct parser *p)
{
    return parse_instant(p, &p->time_ns);
}
static int parse_hlc(struct parser *p)
{
    return parse_text(p, &p->hlc);
}
static int parse_type(struct parser *p)
{
    return parse_text(p, &p->event.type);
}
static int parse_agent(struct parser *p)
{
    return parse_text(p, &p->event.agent);
}
static int parse_session(struct parser *p)
{
    return parse_text(p, &p->event.session);
}
static int parse_parent(struct parser *p)
{
    return parse_uuid(p, &p->parent, &p->event.parent);
}
static int parse_content_type(struct parser *p)
{
    return parse_text(p, &p->event.content_type);
}
static int parse_traceparent(struct parser *p)
{
    return parse_text(p, &p->event.traceparent);
}
static int parse_occurred_at(struct parser *p)
{
    return parse_instant(p, &p->event.occurred_at_ns);
}

static int parse_priority(struct parser *p)
{
    const char *text;
    int rc = parse_text(p, &text);
    return rc ? rc : spool_priority_parse(text, &p->event.priority);
}

static int parse_tag(struct parser *p, size_t index)
{
    json_skip_space(&p->in);
    if (index == SPOOL_TAGS_MAX)
        return err_set(SPOOL_EINVAL, "there are more than %d tags", SPOOL_TAGS_MAX);
    return parse_text(p, &p->tags[index]);
}

static int parse_tags(struct parser *p)
{
    size_t n = 0;
    int rc;
    if (!json_accept(&p->in, '['))
        return json_fail(&p->in, "an array of strings is expected here");
    if (json_accept(&p->in, ']'))
        return SPOOL_OK;
    do {
        rc = parse_tag(p, n++);
    } while (!rc && json_accept(&p->in, ','));
    if (rc)
        return rc;
    if (!json_accept(&p->in, ']'))
        return json_fail(&p->in, "',' or ']' is expected here");
    p->event.tags = p->tags;
    return SPOOL_OK;
}

static int parse_ttl_ms(struct parser *p)
{
    const uint8_t *first = p->in.at, *end;
    uint64_t value = 0;
    if (!json_scan_value(&p->in))
        return json_fail(&p->in, NULL);
    end = p->in.at;
    for (const uint8_t *at = first; at < end; at++) {
        unsigned digit = (unsigned)*at - '0';
        if (digit > 9 || value > (UINT64_MAX - digit) / 10)
            return err_set(SPOOL_EINVAL, "it must be a whole number of milliseconds below 2^64");
        value = value * 10 + digit;
    }
    p->event.ttl_ms = value;
    return SPOOL_OK;
}

static int parse_data(struct parser *p)
{
    size_t size;
    if (!json_scan_compact(&p->in, p->store, &size))
        return json_fail(&p->in, NULL);
    p->event.body = p->store;
    p->event.body_size = size;
    p->store += size;
    return SPOOL_OK;
}

static int parse_data_base64(struct parser *p)
{
    char *text = NULL;
    size_t size = 0, decoded;
    int rc = parse_string(p, &text, &size);
    if (rc)
        return rc;
    if (!base64_decode((uint8_t *)text, text, size, &decoded))
        return err_set(SPOOL_EINVAL, "it is not base64 (RFC 4648, section 4, with padding and without line breaks)");
    p->event.body = text;
    p->event.body_size = decoded;
    return SPOOL_OK;
}

static const struct member {
    const char *name;
    int (*parse)(struct parser *p);
} members[] = {
    {"id", parse_id},
    {"time", parse_time},
    {"hlc", parse_hlc},
    {"type", parse_type},
    {"agent", parse_agent},
    {"session", parse_session},
    {"priority", parse_priority},
    {"parent", parse_parent},
    {"tags", parse_tags},
    {"content_type", parse_content_type},
    {"traceparent", parse_traceparent},
    {"occurred_at", parse_occurred_at},
    {"ttl_ms", parse_ttl_ms},
    {"data", parse_data},
    {"data_base64", parse_data_base64},
};
enum { MEMBERS = sizeof members / sizeof members[0], MEMBER_TIME = 1, MEMBER_HLC = 2, MEMBER_DATA = 13 };

static bool was_given(const struct parser *p, unsigned member)
{
    return p->seen >> member & 1;
}

/* -------------------------------------------------------------------------------------------------------- object */

/* Finds the member by its name, which may be spelled with escapes. The store is used, but not kept. */
static int parse_name(struct parser *p, unsigned *ret_member)
{
    struct json_cursor start = p->in;
    size_t size;
    if (!json_scan_string(&p->in, p->store, &size))
        return json_fail(&p->in, NULL);
    for (unsigned i = 0; i < MEMBERS; i++) {
        if (strlen(members[i].name) != size || memcmp(members[i].name, p->store, size) != 0)
            continue;
        if (was_given(p, i))
            return json_fail(&start, "member \"%s\" is given twice", members[i].name);
        *ret_member = i;
        return SPOOL_OK;
    }
    return json_fail(&start, "unknown member \"%.*s\"", size < 64 ? (int)size : 64, (const char *)p->store);
}

static int parse_member(struct parser *p)
{
    unsigned member = 0;
    if (!json_skip_space(&p->in) || *p->in.at != '"')
        return json_fail(&p->in, "the name of a member is expected here");
    int rc = parse_name(p, &member);
    if (rc)
        return rc;
    if (!json_accept(&p->in, ':'))
        return json_fail(&p->in, "':' is expected here");
    if (!json_skip_space(&p->in))
        return json_fail(&p->in, "a value is expected here");
    struct json_cursor value = p->in;
    rc = members[member].parse(p);
    if (rc && rc != SPOOL_EJSON)
        return json_prefix(&value, rc, members[member].name);
    p->seen |= 1u << member;
    return rc;
}

static int parse_object(struct parser *p)
{
    int rc = SPOOL_OK;
    if (!json_accept(&p->in, '{'))
        return json_fail(&p->in, "an object is expected here");
    if (!json_accept(&p->in, '}')) {
        do {
            rc = parse_member(p);
        } while (!rc && json_accept(&p->in, ','));
        if (rc)
            return rc;
        if (!json_accept(&p->in, '}'))
            return json_fail(&p->in, "',' or '}' is expected here");
    }
    return json_skip_space(&p->in) ? json_fail(&p->in, "something follows the event") : SPOOL_OK;
}

/* -------------------------------------------------------------------------------------- members against each other */

static int check_time(const struct parser *p)
{
    char hlc[JSON_HLC_SIZE];
    bool time = was_given(p, MEMBER_TIME), with_hlc = was_given(p, MEMBER_HLC);
    if (!time && !with_hlc)
        return SPOOL_OK;
    if (!p->event.id)
        return err_set(SPOOL_EINVAL,
                       "\"%s\" is part of the id, and there is none: leave it out, or use \"occurred_at\"",
                       time ? "time" : "hlc");
    if (time && p->time_ns != spool_id_time_ns(p->event.id))
        return err_set(SPOOL_EINVAL, "\"time\" is not the time in \"id\": leave it out, or use \"occurred_at\"");
    json_format_hlc(p->event.id, hlc);
    if (with_hlc && strcmp(p->hlc, hlc) != 0)
        return err_set(SPOOL_EINVAL, "\"hlc\" is not the clock in \"id\", which is %s: leave it out", hlc);
    return SPOOL_OK;
}

static int check_body(const struct parser *p)
{
    const char *type = p->event.content_type;
    if (!was_given(p, MEMBER_DATA))
        return SPOOL_OK;
    if (was_given(p, MEMBER_DATA + 1))
        return json_fail(&p->in, "\"data\" and \"data_base64\" exclude each other");
    if (type && *type && !json_is_media_type(type))
        return err_set(SPOOL_EINVAL, "\"data\" is JSON, but \"content_type\" is \"%s\": use \"data_base64\"", type);
    return SPOOL_OK;
}

int spool_event_from_json(const char *json, size_t size, struct spool_event **ret_event)
{
    if (!json || !ret_event)
        return err_set(SPOOL_EINVAL, "spool_event_from_json: the %s is NULL", json ? "result" : "text");
    uint8_t *store = malloc(size + 1);
    if (!store)
        return err_set(ENOMEM, "out of memory: cannot read an event of %zu bytes", size);
    struct parser p = {.store = store, .event = {.size = sizeof p.event}};
    json_begin(&p.in, json, size);
    int rc = parse_object(&p);
    if (!rc)
        rc = check_time(&p);
    if (!rc)
        rc = check_body(&p);
    if (!rc)
        rc = event_copy(&p.event, p.event.id, ret_event);
    free(store);
    return rc;
}
