/* otlp_answer.c - see otlp_answer.h. What is read was written by strangers: every length is checked. */
#include "otlp_answer.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum wire { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

/* What is left of a message. */
struct bytes {
    const uint8_t *at, *end;
};

/* One field of it. */
struct field {
    unsigned number;
    enum wire wire;
    uint64_t value;     /* WIRE_VARINT */
    struct bytes bytes; /* WIRE_BYTES */
};

static bool take_varint(struct bytes *m, uint64_t *ret)
{
    *ret = 0;
    for (unsigned shift = 0; shift < 64 && m->at < m->end; shift += 7) {
        uint8_t byte = *m->at++;
        *ret |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

static bool skip(struct bytes *m, uint64_t size)
{
    if (size > (uint64_t)(m->end - m->at))
        return false;
    m->at += size;
    return true;
}

/* False at the end, and where the message is none. */
static bool take_field(struct bytes *m, struct field *ret)
{
    uint64_t tag, size;
    if (!take_varint(m, &tag))
        return false;
    ret->number = tag >> 3 < 1000 ? (unsigned)(tag >> 3) : 0;
    ret->wire = (enum wire)(tag & 7);
    switch (ret->wire) {
    case WIRE_VARINT:
        return take_varint(m, &ret->value);
    case WIRE_64:
        return skip(m, 8);
    case WIRE_32:
        return skip(m, 4);
    case WIRE_BYTES:
        if (!take_varint(m, &size))
            return false;
        ret->bytes.at = m->at;
        if (!skip(m, size))
            return false;
        ret->bytes.end = m->at;
        return true;
    }
    return false; /* groups, which nobody uses */
}

static void keep_message(struct otlp_answer *ret, const uint8_t *text, size_t size)
{
    size_t n = size < sizeof ret->message - 1 ? size : sizeof ret->message - 1;
    for (size_t i = 0; i < n; i++)
        ret->message[i] = (char)(text[i] >= ' ' && text[i] < 0x7f ? text[i] : ' ');
    ret->message[n] = '\0';
}

/* ExportLogsPartialSuccess and ExportTracePartialSuccess have the same numbers: 1 rejected, 2 message. */
static void read_partial(struct bytes m, struct otlp_answer *ret)
{
    struct field field;
    while (take_field(&m, &field)) {
        if (field.number == 1 && field.wire == WIRE_VARINT)
            ret->rejected = (int64_t)field.value > 0 ? field.value : 0;
        if (field.number == 2 && field.wire == WIRE_BYTES)
            keep_message(ret, field.bytes.at, (size_t)(field.bytes.end - field.bytes.at));
    }
}

static uint64_t json_count(const json_t *value)
{
    json_int_t n = json_is_string(value) ? strtoll(json_string_value(value), NULL, 10) : json_integer_value(value);
    return n > 0 ? (uint64_t)n : 0;
}

static void read_json_text(const json_t *value, struct otlp_answer *ret)
{
    if (json_is_string(value))
        keep_message(ret, (const uint8_t *)json_string_value(value), json_string_length(value));
}

void otlp_read_success(const struct buffer *body, bool json, struct otlp_answer *ret)
{
    *ret = (struct otlp_answer){0};
    if (body->size == 0)
        return;
    if (json) {
        json_t *root = json_loadb((const char *)body->data, body->size, 0, NULL);
        const json_t *partial = json_object_get(root, "partialSuccess");
        const json_t *logs = json_object_get(partial, "rejectedLogRecords");
        ret->rejected = json_count(logs ? logs : json_object_get(partial, "rejectedSpans"));
        read_json_text(json_object_get(partial, "errorMessage"), ret);
        json_decref(root);
        return;
    }
    struct bytes m = {body->data, body->data + body->size};
    struct field field;
    while (take_field(&m, &field))
        if (field.number == 1 && field.wire == WIRE_BYTES)
            read_partial(field.bytes, ret);
}

void otlp_read_status(const struct buffer *body, bool json, struct otlp_answer *ret)
{
    *ret = (struct otlp_answer){0};
    if (body->size == 0)
        return;
    if (json) {
        json_t *root = json_loadb((const char *)body->data, body->size, 0, NULL);
        read_json_text(json_object_get(root, "message"), ret);
        json_decref(root);
        return;
    }
    struct bytes m = {body->data, body->data + body->size};
    struct field field;
    while (take_field(&m, &field))
        if (field.number == 2 && field.wire == WIRE_BYTES)
            keep_message(ret, field.bytes.at, (size_t)(field.bytes.end - field.bytes.at));
}
