/* otlp_value.c - see otlp_value.h. */
#include "otlp_value.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SMALL = 100, AROUND_KEY = 6 /* the tags and lengths of a key and its value */ };

static const struct otlp_field STRING = {1, "stringValue"}, BOOL = {2, "boolValue"}, INT = {3, "intValue"},
                               DOUBLE = {4, "doubleValue"}, ARRAY = {5, "arrayValue"}, KVLIST = {6, "kvlistValue"},
                               BYTES = {7, "bytesValue"}, VALUES = {1, "values"}, KEY = {1, "key"},
                               VALUE = {2, "value"};

void otlp_value_text(struct otlp_writer *w, const char *text, size_t size)
{
    otlp_text(w, &STRING, text, size);
}

void otlp_value_bytes(struct otlp_writer *w, const void *bytes, size_t size)
{
    otlp_bytes(w, &BYTES, bytes, size);
}

void otlp_value_int(struct otlp_writer *w, int64_t value)
{
    otlp_int64(w, &INT, value);
}

void otlp_value_double(struct otlp_writer *w, double value)
{
    otlp_double(w, &DOUBLE, value);
}

void otlp_value_bool(struct otlp_writer *w, bool value)
{
    otlp_bool(w, &BOOL, value);
}

void otlp_value_array(struct otlp_writer *w, size_t size_guess)
{
    otlp_begin(w, &ARRAY, size_guess);
    otlp_list(w, &VALUES);
}

void otlp_value_object(struct otlp_writer *w, size_t size_guess)
{
    otlp_begin(w, &KVLIST, size_guess);
    otlp_list(w, &VALUES);
}

void otlp_value_nested_end(struct otlp_writer *w)
{
    otlp_list_end(w);
    otlp_end(w);
}

void otlp_key_of(struct otlp_writer *w, const char *key, size_t size, size_t value_guess)
{
    otlp_item(w, AROUND_KEY + size + value_guess);
    otlp_text(w, &KEY, key, size);
    otlp_begin(w, &VALUE, value_guess);
}

void otlp_key(struct otlp_writer *w, const char *key)
{
    otlp_key_of(w, key, strlen(key), SMALL / 2);
}

void otlp_key_end(struct otlp_writer *w)
{
    otlp_end(w);
    otlp_end(w);
}

static void put_value(struct otlp_writer *w, const json_t *value, int depth);

static void put_array(struct otlp_writer *w, const json_t *array, int depth)
{
    size_t i;
    json_t *item;
    otlp_value_array(w, SMALL);
    json_array_foreach(array, i, item)
    {
        otlp_item(w, SMALL);
        put_value(w, item, depth + 1);
        otlp_end(w);
    }
    otlp_value_nested_end(w);
}

static void put_object(struct otlp_writer *w, const json_t *object, int depth)
{
    const char *key;
    json_t *item;
    otlp_value_object(w, SMALL);
    json_object_foreach((json_t *)object, key, item)
    {
        otlp_key(w, key);
        put_value(w, item, depth + 1);
        otlp_key_end(w);
    }
    otlp_value_nested_end(w);
}

static void put_as_text(struct otlp_writer *w, const json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    if (text)
        otlp_value_text(w, text, strlen(text));
    else if (w->code == 0)
        w->code = ENOMEM;
    free(text);
}

static void put_value(struct otlp_writer *w, const json_t *value, int depth)
{
    if (depth > OTLP_VALUE_DEPTH_MAX && (json_is_object(value) || json_is_array(value))) {
        put_as_text(w, value);
        return;
    }
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        put_object(w, value, depth);
        break;
    case JSON_ARRAY:
        put_array(w, value, depth);
        break;
    case JSON_STRING:
        otlp_value_text(w, json_string_value(value), json_string_length(value));
        break;
    case JSON_INTEGER:
        otlp_value_int(w, json_integer_value(value));
        break;
    case JSON_REAL:
        otlp_value_double(w, json_real_value(value));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        otlp_value_bool(w, json_is_true(value));
        break;
    case JSON_NULL:
        break;
    }
}

void otlp_value_json(struct otlp_writer *w, const json_t *value)
{
    put_value(w, value, 0);
}
