/* dead_json.c - a dead letter as one line of JSON, and back. (spool.h, spool_dead_to_json, has the form.)
 *
 * The event is put in and cut out as text and left to the event's own renderer and parser, so that its numbers stay as
 * they are. The rest is read by a table of members, in one pass; every member but `sink` and `event` may be absent. */
#include "base/buffer.h"
#include "base/json.h"
#include "base/json_scan.h"
#include "handle.h"

/* ---------------------------------------------------------------------------------------------------------- writing */

static int put_string(struct buffer *out, const char *key, const char *text)
{
    int code = buffer_put_text(out, key);
    return code ? code : json_put_string(out, text, strlen(text));
}

static int put_time(struct buffer *out, const char *key, uint64_t ns)
{
    int code = buffer_printf(out, "%s\"", key);
    if (!code)
        code = json_put_time(out, ns);
    return code ? code : buffer_put_text(out, "\"");
}

static int put_attempt(struct buffer *out, const struct spool_attempt *attempt)
{
    int code = put_string(out, "{\"what\":", spool_attempt_kind_name(attempt->kind));
    if (!code)
        code = put_time(out, ",\"at\":", attempt->at_ns);
    if (!code && attempt->kind == SPOOL_ATTEMPT_SUMMARY)
        code = buffer_printf(out, ",\"count\":%u", attempt->count);
    if (!code && attempt->kind == SPOOL_ATTEMPT_SUMMARY)
        code = put_time(out, ",\"until\":", attempt->until_ns);
    if (!code && *attempt->reason)
        code = put_string(out, ",\"reason\":", attempt->reason);
    return code ? code : buffer_put_text(out, "}");
}

static int put_history(struct buffer *out, const struct spool_dead_letter *letter)
{
    int code = buffer_put_text(out, ",\"history\":[");
    for (size_t i = 0; i < letter->history_count && !code; i++) {
        const char *at = (const char *)letter->history + i * letter->history[0].size;
        if (i)
            code = buffer_put_text(out, ",");
        if (!code)
            code = put_attempt(out, (const struct spool_attempt *)at);
    }
    return code ? code : buffer_put_text(out, "]");
}

static int put_letter(struct buffer *out, const struct spool_dead_letter *letter)
{
    int code = put_string(out, "{\"sink\":", letter->sink);
    if (!code)
        code = buffer_printf(out, ",\"attempts\":%u", letter->attempts);
    if (!code)
        code = put_time(out, ",\"died_at\":", letter->died_at_ns);
    if (!code)
        code = put_string(out, ",\"reason\":", letter->reason);
    if (!code)
        code = put_history(out, letter);
    if (!code)
        code = buffer_put_text(out, ",\"event\":");
    if (!code)
        code = json_put_event(out, letter->event, letter->event->id);
    return code ? code : buffer_put(out, "}", 2);
}

int spool_dead_to_json(const struct spool_dead_letter *letter, char **ret_json, size_t *ret_size)
{
    struct buffer out = {0};
    if (!letter || !ret_json || !letter->sink || !letter->event || !letter->event->id)
        return err_set(SPOOL_EINVAL, "spool_dead_to_json: %s", letter ? "something is NULL" : "the letter is NULL");
    int code = put_letter(&out, letter);
    if (code) {
        buffer_free(&out);
        return code;
    }
    *ret_json = (char *)out.data;
    if (ret_size)
        *ret_size = out.size - 1;
    return SPOOL_OK;
}

/* ---------------------------------------------------------------------------------------------------------- reading */

struct reading {
    struct json_cursor in;
    uint8_t *store; /* the next free byte for decoded texts */
    struct store_dead dead;
    struct store_attempt attempts[STORE_ATTEMPTS_MAX];
    struct store_attempt *attempt; /* being read */
    const char *event;
    size_t event_size;
};

struct member {
    const char *name;
    int (*read)(struct reading *r);
};

/* A string without NULs, which stays in the store. */
static int read_text(struct reading *r, const char **ret, size_t *ret_size)
{
    size_t size;
    if (!json_scan_string(&r->in, r->store, &size))
        return json_fail(&r->in, NULL);
    if (memchr(r->store, 0, size))
        return err_set(SPOOL_EUTF8, "it holds the control character U+0000");
    *ret = (const char *)r->store;
    *ret_size = size;
    r->store[size] = 0;
    r->store += size + 1;
    return SPOOL_OK;
}

static int read_into(struct reading *r, char *to, size_t most)
{
    const char *text;
    size_t size;
    int code = read_text(r, &text, &size);
    if (!code && size > most)
        code = err_set(SPOOL_EINVAL, "%zu bytes, at most %zu are allowed", size, most);
    if (!code)
        memcpy(to, text, size + 1);
    return code;
}

static int read_time(struct reading *r, uint64_t *ret)
{
    const char *text;
    size_t size;
    int code = read_text(r, &text, &size);
    return code ? code : json_parse_time(text, size, ret);
}

static int read_count(struct reading *r, uint32_t *ret)
{
    const uint8_t *at = r->in.at;
    uint64_t value = 0;
    if (!json_scan_value(&r->in))
        return json_fail(&r->in, NULL);
    for (; at < r->in.at; at++) {
        if (*at < '0' || *at > '9' || value > UINT32_MAX)
            return err_set(SPOOL_EINVAL, "a whole number below 2^32 is expected");
        value = value * 10 + (uint64_t)(*at - '0');
    }
    if (value > UINT32_MAX)
        return err_set(SPOOL_EINVAL, "a whole number below 2^32 is expected");
    *ret = (uint32_t)value;
    return SPOOL_OK;
}

/* Of a name as it is written, quotes included, which holds no raw control character; cut where it is long. */
static int text_size(const struct json_cursor *from, const struct json_cursor *to)
{
    enum { NAME_SHOWN = 60 };
    ptrdiff_t size = to->at - from->at;
    return size < NAME_SHOWN ? (int)size : NAME_SHOWN;
}

/* Reads one object by its table. Unknown members and those given twice are errors. */
static int read_members(struct reading *r, const struct member *members)
{
    unsigned seen = 0;
    if (!json_accept(&r->in, '{'))
        return json_fail(&r->in, "an object is expected here");
    if (json_accept(&r->in, '}'))
        return SPOOL_OK;
    do {
        size_t size, i = 0;
        if (!json_skip_space(&r->in) || *r->in.at != '"')
            return json_fail(&r->in, "the name of a member is expected here");
        struct json_cursor start = r->in;
        if (!json_scan_string(&r->in, r->store, &size))
            return json_fail(&r->in, NULL);
        while (members[i].name && (strlen(members[i].name) != size || memcmp(members[i].name, r->store, size) != 0))
            i++;
        if (!members[i].name)
            return json_fail(&start, "unknown member %.*s", text_size(&start, &r->in), start.at);
        if (seen >> i & 1)
            return json_fail(&start, "member \"%s\" is given twice", members[i].name);
        seen |= 1u << i;
        if (!json_accept(&r->in, ':') || !json_skip_space(&r->in))
            return json_fail(&r->in, "':' and a value are expected here");
        start = r->in;
        int code = members[i].read(r);
        if (code)
            return code == SPOOL_EJSON ? code : json_prefix(&start, code, members[i].name);
    } while (json_accept(&r->in, ','));
    return json_accept(&r->in, '}') ? SPOOL_OK : json_fail(&r->in, "',' or '}' is expected here");
}

/* --------------------------------------------------------------------------------------------- the history of one */

static int read_what(struct reading *r)
{
    const char *text;
    size_t size;
    int code = read_text(r, &text, &size);
    if (code)
        return code;
    for (int kind = SPOOL_ATTEMPT_FAILED; kind <= SPOOL_ATTEMPT_SUMMARY; kind++)
        if (strcmp(text, spool_attempt_kind_name((enum spool_attempt_kind)kind)) == 0)
            r->attempt->kind = (uint32_t)kind;
    return r->attempt->kind ? SPOOL_OK
                            : err_set(SPOOL_EINVAL, "it is none of failed, requeued, edited, imported, summary");
}

static int read_at(struct reading *r)
{
    return read_time(r, &r->attempt->at_ns);
}

static int read_until(struct reading *r)
{
    return read_time(r, &r->attempt->until_ns);
}

static int read_entries(struct reading *r)
{
    return read_count(r, &r->attempt->count);
}

static int read_entry_reason(struct reading *r)
{
    return read_text(r, &r->attempt->reason, &r->attempt->reason_size);
}

static int read_attempt(struct reading *r)
{
    static const struct member members[] = {{"what", read_what},           {"at", read_at},
                                            {"until", read_until},         {"count", read_entries},
                                            {"reason", read_entry_reason}, {0}};
    if (r->dead.attempt_count == STORE_ATTEMPTS_MAX)
        return err_set(SPOOL_EINVAL, "there are more than %d entries", STORE_ATTEMPTS_MAX);
    r->attempt = &r->attempts[r->dead.attempt_count++];
    *r->attempt = (struct store_attempt){.count = 1, .reason = ""};
    int code = read_members(r, members);
    return code || r->attempt->kind ? code : err_set(SPOOL_EINVAL, "an entry without \"what\"");
}

static int read_history(struct reading *r)
{
    int code;
    if (!json_accept(&r->in, '['))
        return json_fail(&r->in, "an array is expected here");
    if (json_accept(&r->in, ']'))
        return SPOOL_OK;
    do {
        code = read_attempt(r);
    } while (!code && json_accept(&r->in, ','));
    if (code)
        return code;
    return json_accept(&r->in, ']') ? SPOOL_OK : json_fail(&r->in, "',' or ']' is expected here");
}

/* ------------------------------------------------------------------------------------------------------ the letter */

static int read_sink(struct reading *r)
{
    int code = read_into(r, r->dead.sink, SINK_NAME_MAX);
    return code ? code : delivery_check_name(r->dead.sink);
}

static int read_attempts(struct reading *r)
{
    return read_count(r, &r->dead.row.attempts);
}

static int read_died_at(struct reading *r)
{
    return read_time(r, &r->dead.died_ns);
}

static int read_reason(struct reading *r)
{
    return read_into(r, r->dead.row.reason, REASON_MAX);
}

static int read_event(struct reading *r)
{
    r->event = (const char *)r->in.at;
    if (!json_scan_value(&r->in))
        return json_fail(&r->in, NULL);
    r->event_size = (size_t)((const char *)r->in.at - r->event);
    return SPOOL_OK;
}

static int read_letter(struct reading *r)
{
    static const struct member members[] = {{"sink", read_sink},
                                            {"attempts", read_attempts},
                                            {"died_at", read_died_at},
                                            {"reason", read_reason},
                                            {"history", read_history},
                                            {"event", read_event},
                                            {0}};
    int code = read_members(r, members);
    if (code)
        return code;
    if (json_skip_space(&r->in))
        return json_fail(&r->in, "something follows the dead letter");
    return *r->dead.sink && r->event ? SPOOL_OK : err_set(SPOOL_EINVAL, "\"sink\" and \"event\" are required");
}

static int import_event(struct spool *spool, struct reading *r, const struct spool_event *event)
{
    struct event_measure measure;
    if (!event->id)
        return err_set(SPOOL_EID, "the event of a dead letter needs its \"id\"");
    int code = event_measure(event, store_frame_max(spool->store), &measure);
    uint8_t *packed = code ? NULL : malloc(measure.packed_size);
    if (!code && !packed)
        code = err_errno(ENOMEM, "an event of %zu bytes", measure.packed_size);
    if (code)
        return code;
    event_pack(event, &measure, event->id, packed);
    r->dead.row.id = *event->id;
    r->dead.row.lane = lane_of(event->priority);
    r->dead.row.first_ns = spool_id_time_ns(event->id);
    r->dead.packed = packed;
    r->dead.packed_size = measure.packed_size;
    r->dead.attempts = r->attempts;
    code = store_dead_import(spool->store, &r->dead);
    free(packed);
    return code;
}

static int import(struct spool *spool, struct reading *r, const char *json, size_t size)
{
    struct spool_event *event = NULL;
    json_begin(&r->in, json, size);
    int code = read_letter(r);
    if (!code)
        code = spool_event_from_json(r->event, r->event_size, &event);
    if (!code)
        code = import_event(spool, r, event);
    spool_event_free(event);
    return code;
}

int spool_dead_import(struct spool *spool, const char *json, size_t size)
{
    int code = handle_check(spool);
    if (!code && !json)
        code = err_set(SPOOL_EINVAL, "spool_dead_import: the text is NULL");
    struct reading *r = code ? NULL : calloc(1, sizeof *r);
    uint8_t *store = code ? NULL : malloc(size + 1);
    if (!code && (!r || !store))
        code = err_errno(ENOMEM, "a dead letter of %zu bytes", size);
    if (!code) {
        r->store = store;
        code = import(spool, r, json, size);
    }
    free(store);
    free(r);
    return code;
}
