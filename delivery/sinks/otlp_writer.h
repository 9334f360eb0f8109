/* otlp_writer.h - protobuf messages and their JSON form through one set of calls, straight into a buffer.
 *
 *     struct otlp_writer w;
 *     otlp_start(&w, &buffer, json);
 *     otlp_list(&w, &(struct otlp_field){1, "resourceLogs"});
 *         otlp_item(&w);  otlp_text(&w, &name, "x", 1);  otlp_end(&w);
 *     otlp_list_end(&w);
 *     int code = otlp_finish(&w);           // ENOMEM, or SPOOL_OK
 *
 * Why not protobuf-c: it builds a tree of structs, an allocation a field, before it writes; it cannot write OTLP's
 * JSON, which has its own rules (below), so that the mapping would exist twice; and its sources would have to be
 * generated from definitions that are not ours. What OTLP needs of protobuf is four wire types
 * (protobuf.dev/programming-guides/encoding). The length of a message is not known before its content: a byte or more
 * is left free for it, and the content is moved in the rare case that they do not suffice.
 *
 * OTLP's JSON: field names in lowerCamelCase, 64-bit integers as strings, enums as integers, trace and span ids in
 * hexadecimal, other bytes in base64. */
#ifndef DELIVERY_SINKS_OTLP_WRITER_H
#define DELIVERY_SINKS_OTLP_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../lib/base/buffer.h"

/* A field by its number and its name. */
struct otlp_field {
    uint8_t number;
    const char *name;
};

enum { OTLP_DEPTH_MAX = 96 };

struct otlp_frame {
    size_t begin;  /* protobuf: of the content of a message */
    uint8_t room;  /* protobuf: bytes left free for its length */
    uint8_t field; /* protobuf: number of a list's items */
    bool is_empty; /* JSON: nothing in it yet */
};

struct otlp_writer {
    struct buffer *out;
    bool json;
    int code; /* the first failure; all further calls do nothing */
    int depth;
    struct otlp_frame frames[OTLP_DEPTH_MAX];
};

/* Begins the outermost message. */
void otlp_start(struct otlp_writer *w, struct buffer *out, bool json);
/* Ends it. SPOOL_OK or ENOMEM. */
int otlp_finish(struct otlp_writer *w);

/* A message in a field. `size_guess` is of its content, in bytes. */
void otlp_begin(struct otlp_writer *w, const struct otlp_field *field, size_t size_guess);
void otlp_end(struct otlp_writer *w);

/* A repeated field of messages: list, items each with otlp_end(), list_end. */
void otlp_list(struct otlp_writer *w, const struct otlp_field *field);
void otlp_item(struct otlp_writer *w, size_t size_guess);
void otlp_list_end(struct otlp_writer *w);

/* Undoes an item that was just ended, or everything since: what the list held at otlp_mark() stays. */
struct otlp_mark {
    size_t size;
    bool is_empty;
};
struct otlp_mark otlp_mark(const struct otlp_writer *w);
void otlp_rewind(struct otlp_writer *w, struct otlp_mark mark);

void otlp_text(struct otlp_writer *w, const struct otlp_field *field, const char *text, size_t size);
void otlp_bytes(struct otlp_writer *w, const struct otlp_field *field, const void *bytes, size_t size);
void otlp_id(struct otlp_writer *w, const struct otlp_field *field, const uint8_t *bytes, size_t size);
void otlp_fixed64(struct otlp_writer *w, const struct otlp_field *field, uint64_t value);
void otlp_fixed32(struct otlp_writer *w, const struct otlp_field *field, uint32_t value);
void otlp_int64(struct otlp_writer *w, const struct otlp_field *field, int64_t value);
void otlp_enum(struct otlp_writer *w, const struct otlp_field *field, unsigned value);
void otlp_bool(struct otlp_writer *w, const struct otlp_field *field, bool value);
void otlp_double(struct otlp_writer *w, const struct otlp_field *field, double value); /* finite */

#endif
