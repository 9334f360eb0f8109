/* otlp_writer.c - see otlp_writer.h. */
#include "otlp_writer.h"

#include <inttypes.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../lib/base/base64.h"
#include "../../lib/base/bytes.h"
#include "../../lib/base/json.h"
#include "../../lib/spool.h"

enum wire { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };
enum { VARINT_MAX = 10 };

static void put(struct otlp_writer *w, const void *bytes, size_t size)
{
    if (w->code == SPOOL_OK)
        w->code = buffer_put(w->out, bytes, size);
}

static size_t encode_varint(uint8_t ret[VARINT_MAX], uint64_t value)
{
    size_t n = 0;
    for (; value >= 0x80; value >>= 7)
        ret[n++] = (uint8_t)(value | 0x80);
    ret[n++] = (uint8_t)value;
    return n;
}

static void put_varint(struct otlp_writer *w, uint64_t value)
{
    uint8_t bytes[VARINT_MAX];
    put(w, bytes, encode_varint(bytes, value));
}

static void put_tag(struct otlp_writer *w, unsigned number, enum wire wire)
{
    put_varint(w, number << 3 | wire);
}

/* JSON: what stands in front of a member or an item. */
static void put_comma(struct otlp_writer *w)
{
    struct otlp_frame *frame = &w->frames[w->depth];
    if (!frame->is_empty)
        put(w, ",", 1);
    frame->is_empty = false;
}

static void put_name(struct otlp_writer *w, const struct otlp_field *field)
{
    put_comma(w);
    put(w, "\"", 1);
    put(w, field->name, strlen(field->name));
    put(w, "\":", 2);
}

static struct otlp_frame *push(struct otlp_writer *w)
{
    if (w->depth + 1 == OTLP_DEPTH_MAX && w->code == SPOOL_OK)
        w->code = SPOOL_EINTERNAL; /* those who recurse know their depth */
    if (w->code == SPOOL_OK)
        w->depth++;
    struct otlp_frame *frame = &w->frames[w->depth];
    frame->is_empty = true;
    return frame;
}

/* -------------------------------------------------------------------------------------------------------- messages */

static void begin_proto(struct otlp_writer *w, unsigned number, size_t size_guess)
{
    static const uint8_t nothing[VARINT_MAX];
    uint8_t bytes[VARINT_MAX];
    put_tag(w, number, WIRE_BYTES);
    struct otlp_frame *frame = push(w);
    frame->room = (uint8_t)encode_varint(bytes, size_guess);
    put(w, nothing, frame->room);
    frame->begin = w->out->size;
}

/* Writes the length in front of the content, which is moved if it needs more or less room than was left. */
static void end_proto(struct otlp_writer *w)
{
    const struct otlp_frame *frame = &w->frames[w->depth];
    uint8_t length[VARINT_MAX];
    size_t size = w->out->size - frame->begin, n = encode_varint(length, size), start = frame->begin - frame->room;
    w->code = buffer_reserve(w->out, VARINT_MAX);
    if (w->code != SPOOL_OK)
        return;
    if (n != frame->room)
        memmove(w->out->data + start + n, w->out->data + frame->begin, size);
    memcpy(w->out->data + start, length, n);
    w->out->size = start + n + size;
}

void otlp_start(struct otlp_writer *w, struct buffer *out, bool json)
{
    w->out = out;
    w->json = json;
    w->code = SPOOL_OK;
    w->depth = 0;
    w->frames[0].is_empty = true;
    if (json)
        put(w, "{", 1);
}

int otlp_finish(struct otlp_writer *w)
{
    if (w->json)
        put(w, "}", 1);
    return w->code;
}

void otlp_begin(struct otlp_writer *w, const struct otlp_field *field, size_t size_guess)
{
    if (!w->json) {
        begin_proto(w, field->number, size_guess);
        return;
    }
    put_name(w, field);
    put(w, "{", 1);
    push(w);
}

void otlp_end(struct otlp_writer *w)
{
    if (w->code != SPOOL_OK)
        return;
    if (w->json)
        put(w, "}", 1);
    else
        end_proto(w);
    w->depth--;
}

void otlp_list(struct otlp_writer *w, const struct otlp_field *field)
{
    if (w->json) {
        put_name(w, field);
        put(w, "[", 1);
    }
    push(w)->field = field->number;
}

void otlp_item(struct otlp_writer *w, size_t size_guess)
{
    if (!w->json) {
        begin_proto(w, w->frames[w->depth].field, size_guess);
        return;
    }
    put_comma(w);
    put(w, "{", 1);
    push(w);
}

void otlp_list_end(struct otlp_writer *w)
{
    if (w->code != SPOOL_OK)
        return;
    if (w->json)
        put(w, "]", 1);
    w->depth--;
}

struct otlp_mark otlp_mark(const struct otlp_writer *w)
{
    return (struct otlp_mark){.size = w->out->size, .is_empty = w->frames[w->depth].is_empty};
}

void otlp_rewind(struct otlp_writer *w, struct otlp_mark mark)
{
    w->out->size = mark.size;
    w->frames[w->depth].is_empty = mark.is_empty;
}

/* -------------------------------------------------------------------------------------------------------- values */

void otlp_text(struct otlp_writer *w, const struct otlp_field *field, const char *text, size_t size)
{
    if (w->json) {
        put_name(w, field);
        if (w->code == SPOOL_OK)
            w->code = json_put_string(w->out, text, size);
        return;
    }
    put_tag(w, field->number, WIRE_BYTES);
    put_varint(w, size);
    put(w, text, size);
}

void otlp_bytes(struct otlp_writer *w, const struct otlp_field *field, const void *bytes, size_t size)
{
    if (!w->json) {
        otlp_text(w, field, bytes, size);
        return;
    }
    put_name(w, field);
    put(w, "\"", 1);
    if (w->code == SPOOL_OK)
        w->code = buffer_reserve(w->out, base64_size(size));
    if (w->code == SPOOL_OK) {
        base64_encode((char *)w->out->data + w->out->size, bytes, size);
        w->out->size += base64_size(size);
    }
    put(w, "\"", 1);
}

void otlp_id(struct otlp_writer *w, const struct otlp_field *field, const uint8_t *bytes, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    if (!w->json) {
        otlp_text(w, field, (const char *)bytes, size);
        return;
    }
    put_name(w, field);
    put(w, "\"", 1);
    for (size_t i = 0; i < size; i++) {
        const char pair[] = {digits[bytes[i] >> 4], digits[bytes[i] & 15]};
        put(w, pair, sizeof pair);
    }
    put(w, "\"", 1);
}

static void put_json_number(struct otlp_writer *w, const struct otlp_field *field, const char *text)
{
    put_name(w, field);
    put(w, text, strlen(text));
}

void otlp_fixed64(struct otlp_writer *w, const struct otlp_field *field, uint64_t value)
{
    char text[32];
    uint8_t bytes[8];
    if (w->json) {
        snprintf(text, sizeof text, "\"%" PRIu64 "\"", value);
        put_json_number(w, field, text);
        return;
    }
    put_u64(bytes, value);
    put_tag(w, field->number, WIRE_64);
    put(w, bytes, sizeof bytes);
}

void otlp_fixed32(struct otlp_writer *w, const struct otlp_field *field, uint32_t value)
{
    char text[16];
    uint8_t bytes[4];
    if (w->json) {
        snprintf(text, sizeof text, "%" PRIu32, value);
        put_json_number(w, field, text);
        return;
    }
    put_u32(bytes, value);
    put_tag(w, field->number, WIRE_32);
    put(w, bytes, sizeof bytes);
}

void otlp_int64(struct otlp_writer *w, const struct otlp_field *field, int64_t value)
{
    char text[32];
    if (w->json) {
        snprintf(text, sizeof text, "\"%" PRId64 "\"", value);
        put_json_number(w, field, text);
        return;
    }
    put_tag(w, field->number, WIRE_VARINT);
    put_varint(w, (uint64_t)value);
}

void otlp_enum(struct otlp_writer *w, const struct otlp_field *field, unsigned value)
{
    char text[16];
    if (w->json) {
        snprintf(text, sizeof text, "%u", value);
        put_json_number(w, field, text);
        return;
    }
    put_tag(w, field->number, WIRE_VARINT);
    put_varint(w, value);
}

void otlp_bool(struct otlp_writer *w, const struct otlp_field *field, bool value)
{
    if (w->json)
        put_json_number(w, field, value ? "true" : "false");
    else
        otlp_enum(w, field, value);
}

/* 17 digits say every double, and the shortest of 15, 16 and 17 that says this one is easier to read. */
void otlp_double(struct otlp_writer *w, const struct otlp_field *field, double value)
{
    char text[32];
    uint64_t bits;
    if (!w->json) {
        uint8_t bytes[8];
        memcpy(&bits, &value, sizeof bits);
        put_u64(bytes, bits);
        put_tag(w, field->number, WIRE_64);
        put(w, bytes, sizeof bytes);
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    size_t point = strspn(text, "0123456789+-e"); /* the locale of the host may have another one */
    if (text[point])
        text[point] = '.';
    put_json_number(w, field, text);
}
