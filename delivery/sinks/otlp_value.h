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
/* Objects become lists of keys and values, arrays arrays, null no field at all; what is nested deeper than 16 becomes
 * its JSON text. */
void otlp_value_json(struct otlp_writer *w, const json_t *value);

/* A KeyValue, an item of the list that has been begun, up to and behind its value. */
void otlp_key(struct otlp_writer *w, const char *key);
void otlp_key_end(struct otlp_writer *w);

#endif
