/* registration.c - see registration.h. */
#include "registration.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/base/error.h"
#include "../lib/base/json_tree.h"

static const char separator = '\x1e';

/* Order and from-now are kept by the store itself. */
static const struct {
    const char *name;
    size_t offset;
    bool wide;
} numbers[] = {
#define NUMBER(name, wide)                                                                                             \
    {                                                                                                                  \
#name, offsetof(struct spool_sink_options, name), wide                                                         \
    }
    NUMBER(workers, false),         NUMBER(batch_events_max, false), NUMBER(batch_bytes_max, false),
    NUMBER(timeout_ms, false),      NUMBER(retry_base_ms, false),    NUMBER(retry_cap_ms, false),
    NUMBER(max_attempts, false),    NUMBER(max_age_ms, true),        NUMBER(retry_rows_max, false),
    NUMBER(retry_bytes_max, true),  NUMBER(linger_ms, false),        NUMBER(breaker_failures, false),
    NUMBER(probe_events, false),    NUMBER(probes, false),           NUMBER(inflight_bytes_max, true),
    NUMBER(dead_events_max, false), NUMBER(dead_bytes_max, true),    NUMBER(dead_age_max_ms, true),
    NUMBER(max_crashes, false),     NUMBER(max_pending_bytes, true), NUMBER(max_pending_age_ms, true),
#undef NUMBER
};
enum { NUMBERS = sizeof numbers / sizeof *numbers };

static uint64_t get_number(const struct spool_sink_options *options, size_t i)
{
    uint64_t wide;
    uint32_t narrow;
    const char *field = (const char *)options + numbers[i].offset;
    memcpy(&narrow, field, sizeof narrow);
    if (!numbers[i].wide)
        return narrow;
    memcpy(&wide, field, sizeof wide);
    return wide;
}

static void set_number(struct spool_sink_options *options, size_t i, uint64_t value)
{
    char *field = (char *)options + numbers[i].offset;
    uint32_t narrow = (uint32_t)value;
    if (numbers[i].wide)
        memcpy(field, &value, sizeof value);
    else
        memcpy(field, &narrow, sizeof narrow);
}

void registration_patch(struct spool_sink_options *to, const struct spool_sink_options *change)
{
    for (size_t i = 0; i < NUMBERS; i++)
        if (get_number(change, i) > 0)
            set_number(to, i, get_number(change, i));
}

/* ---------------------------------------------------------------------------------------------------------- writing */

static bool put_options(json_t *object, const struct spool_sink_options *options)
{
    bool whole = true;
    for (size_t i = 0; i < NUMBERS; i++)
        if (get_number(options, i) > 0)
            whole &=
                json_object_set_new(object, numbers[i].name, json_integer((json_int_t)get_number(options, i))) == 0;
    if (options->filter)
        whole &= json_object_set_new(object, "filter", json_loads(options->filter, 0, NULL)) == 0;
    if (options->resources)
        whole &= json_object_set_new(object, "resources", json_string(options->resources)) == 0;
    if (options->plugin)
        whole &= json_object_set_new(object, "plugin", json_string(options->plugin)) == 0;
    return whole;
}

/* Joins the two, or copies the first. */
static int join(const char *config, const char *more, char **ret)
{
    size_t size = strlen(config) + (more ? 1 + strlen(more) : 0) + 1;
    char *text = malloc(size);
    if (!text)
        return err_errno(ENOMEM, "options of a sink");
    char *end = stpcpy(text, config);
    if (more) {
        *end++ = separator;
        strcpy(end, more);
    }
    *ret = text;
    return SPOOL_OK;
}

int registration_text(const char *config, const struct spool_sink_options *options, char **ret)
{
    json_t *object = json_object();
    char *more = NULL;
    bool whole = object && put_options(object, options);
    bool any = whole && json_object_size(object) > 0;
    if (any)
        more = json_tree_text(object);
    json_decref(object);
    int code = !whole || (any && !more) ? err_errno(ENOMEM, "options of a sink") : join(config, more, ret);
    free(more);
    return code;
}

/* ---------------------------------------------------------------------------------------------------------- reading */

static int wrong(const char *key)
{
    return err_set(SPOOL_EDAMAGED, "the stored options of the sink are wrong at \"%s\": register it again", key);
}

static int read_number(struct spool_sink_options *options, const char *key, json_t *value)
{
    size_t i = 0;
    while (i < NUMBERS && strcmp(numbers[i].name, key) != 0)
        i++;
    json_int_t number = json_integer_value(value);
    if (i == NUMBERS || !json_is_integer(value) || number < 0 || (!numbers[i].wide && number > UINT32_MAX))
        return wrong(key);
    set_number(options, i, (uint64_t)number);
    return SPOOL_OK;
}

static int read_text_option(const char *key, json_t *value, char **ret_owned, const char **ret)
{
    if (!json_is_string(value))
        return wrong(key);
    char *text = strdup(json_string_value(value));
    if (!text)
        return err_errno(ENOMEM, "options of a sink");
    free(*ret_owned); /* a key that stands twice */
    *ret = *ret_owned = text;
    return SPOOL_OK;
}

static int read_option(struct delivery_registration *ret, const char *key, json_t *value)
{
    if (strcmp(key, "filter") == 0) {
        ret->filter = json_tree_text(value);
        ret->options.filter = ret->filter;
        return ret->filter ? SPOOL_OK : err_errno(ENOMEM, "options of a sink");
    }
    if (strcmp(key, "plugin") == 0)
        return read_text_option(key, value, &ret->plugin, &ret->options.plugin);
    if (strcmp(key, "resources") == 0)
        return read_text_option(key, value, &ret->resources, &ret->options.resources);
    return read_number(&ret->options, key, value);
}

static int read_options(struct delivery_registration *ret)
{
    json_error_t error;
    json_t *object = NULL, *value;
    const char *key;
    int code = json_tree(ret->options_json, strlen(ret->options_json), &object, &error);
    if (code != SPOOL_OK)
        return code == ENOMEM ? err_errno(ENOMEM, "options of a sink") : wrong(error.text);
    if (!json_is_object(object))
        code = wrong("{");
    json_object_foreach(object, key, value)
    {
        code = code == SPOOL_OK ? read_option(ret, key, value) : code;
    }
    json_decref(object);
    return code;
}

int delivery_registration_read(char *text, struct delivery_registration *ret)
{
    char *at = strchr(text, separator);
    *ret =
        (struct delivery_registration){.config = text, .options = {.size = sizeof ret->options}, .options_json = "{}"};
    if (!at)
        return SPOOL_OK;
    *at = '\0';
    ret->options_json = at + 1;
    int code = read_options(ret);
    if (code != SPOOL_OK) {
        ret->config = NULL; /* it stays the caller's */
        delivery_registration_free(ret);
    }
    return code;
}

void delivery_registration_free(struct delivery_registration *registration)
{
    free(registration->config);
    free(registration->filter);
    free(registration->plugin);
    free(registration->resources);
    *registration = (struct delivery_registration){0};
}
