/* otlp_value.h - opentelemetry.proto.common.v1.AnyValue: values of any kind. */
#ifndef DELIVERY_SINKS_OTLP_VALUE_H
#define DELIVERY_SINKS_OTLP_VALUE_H

#include <jansson.h>

#include "otlp_writer.h"

/* The one field of an AnyValue, which has been begun. */
void otlp_value_text(struct otlp_writer *w, const char *text, size_t size);
void otlp_value_bytes(struct otlp_writer *w, const void *bytes, size_t size);
void otlp_value_int(struct otlp_writer *w, int64_t value);
void otlp_value_double(struct otlp_writer *w, double value);
void otlp_value_bool(struct otlp_writer *w, bool value);
/* Begin an array, whose values are items (otlp_item(), otlp_end()), and an object, whose members are keys.
 * `size_guess` is of the content, in bytes. */
void otlp_value_array(struct otlp_writer *w, size_t size_guess);
void otlp_value_object(struct otlp_writer *w, size_t size_guess);
void otlp_value_nested_end(struct otlp_writer *w);
/* Objects become lists of keys and values, arrays arrays, null no field at all; what is nested deeper than that becomes
 * its JSON text. */
enum { OTLP_VALUE_DEPTH_MAX = 16 };
void otlp_value_json(struct otlp_writer *w, const json_t *value);

/* A KeyValue, an item of the list that has been begun, up to and behind its value. */
void otlp_key(struct otlp_writer *w, const char *key);
void otlp_key_of(struct otlp_writer *w, const char *key, size_t size, size_t value_guess);
void otlp_key_end(struct otlp_writer *w);

#endif
