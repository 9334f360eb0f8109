/* config.c - see config.h. Each key is removed when it is read, so that what is left at the end is unknown. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../../lib/base/error.h"
#include "../../lib/base/json_tree.h"
#include "../../lib/base/units.h"

int config_open(struct config *config, const char *kind, const char *json)
{
    json_error_t error;
    *config = (struct config){.kind = kind};
    json = json ? json : "{}";
    json_t *object;
    int code = json_tree(json, strlen(json), &object, &error);
    if (code == ENOMEM)
        return spool_sink_error(ENOMEM, "out of memory");
    if (code)
        return spool_sink_error(SPOOL_ECONFIG, "configuration of the %s sink, line %d, column %d: %s", kind, error.line,
                                error.column, error.text);
    if (!json_is_object(object)) {
        json_decref(object);
        return spool_sink_error(SPOOL_ECONFIG, "configuration of the %s sink: not a JSON object", kind);
    }
    config->object = object;
    return SPOOL_OK;
}

static int wrong(const struct config *config, const char *key, const char *what)
{
    return spool_sink_error(SPOOL_ECONFIG, "configuration of the %s sink: \"%s\" %s", config->kind, key, what);
}

/* One letter too many, too few or another one, two changed places, or the end is missing. */
static bool is_near(const char *word, const char *key)
{
    size_t head = 0, tail = 0, word_size = strlen(word), key_size = strlen(key);
    while (word[head] && word[head] == key[head])
        head++;
    if (!word[head] && head >= 3)
        return true;
    while (tail < word_size - head && tail < key_size - head && word[word_size - 1 - tail] == key[key_size - 1 - tail])
        tail++;
    size_t of_word = word_size - head - tail, of_key = key_size - head - tail;
    bool swapped = of_word == 2 && of_key == 2 && word[head] == key[head + 1] && word[head + 1] == key[head];
    return word_size >= 2 && (swapped || (of_word <= 1 && of_key <= 1));
}

static json_t *ask(struct config *config, const char *key)
{
    if (config->asked_count < CONFIG_KEYS)
        config->asked[config->asked_count++] = key;
    return json_object_get(config->object, key);
}

static int unknown(const struct config *config, const char *key, const char *nearest)
{
    if (!nearest)
        return wrong(config, key, "is unknown");
    return spool_sink_error(SPOOL_ECONFIG, "configuration of the %s sink: \"%s\" is unknown; did you mean \"%s\"?",
                            config->kind, key, nearest);
}

/* A key that was not given, unless it was with a slip. */
static int missing(const struct config *config, const char *key)
{
    const char *given;
    json_t *value;
    json_object_foreach(config->object, given, value)
    {
        if (is_near(given, key))
            return unknown(config, given, key);
    }
    return wrong(config, key, "is required");
}

static void forget(struct config *config, const char *key)
{
    json_object_del(config->object, key);
}

int config_text(struct config *config, const char *key, const char *fallback, char **ret)
{
    json_t *value = ask(config, key);
    if (!value && !fallback)
        return missing(config, key);
    if (value && (!json_is_string(value) || json_string_length(value) == 0))
        return wrong(config, key, "must be a text that is not empty");
    if (value && strlen(json_string_value(value)) != json_string_length(value))
        return wrong(config, key, "must not hold a NUL");
    char *copy = strdup(value ? json_string_value(value) : fallback);
    if (!copy)
        return spool_sink_error(ENOMEM, "out of memory");
    forget(config, key);
    *ret = copy;
    return SPOOL_OK;
}

static int read_number(struct config *config, const char *key, uint64_t fallback,
                       int (*parse)(const char *text, uint64_t *ret), uint64_t *ret)
{
    json_t *value = ask(config, key);
    if (!value) {
        *ret = fallback;
        return SPOOL_OK;
    }
    if (json_is_integer(value) && json_integer_value(value) >= 0)
        *ret = (uint64_t)json_integer_value(value);
    else if (!json_is_string(value) || !parse)
        return wrong(config, key,
                     parse ? "must be a number or a text with a unit" : "must be a whole number, 0 or more");
    else if (parse(json_string_value(value), ret) != SPOOL_OK)
        return spool_sink_error(SPOOL_ECONFIG, "configuration of the %s sink: \"%s\": %s", config->kind, key,
                                err_last());
    forget(config, key);
    return SPOOL_OK;
}

int config_bytes(struct config *config, const char *key, uint64_t fallback, uint64_t *ret)
{
    return read_number(config, key, fallback, units_parse_bytes, ret);
}

int config_duration_ms(struct config *config, const char *key, uint64_t fallback, uint64_t *ret)
{
    return read_number(config, key, fallback, units_parse_duration_ms, ret);
}

int config_number(struct config *config, const char *key, uint64_t fallback, uint64_t *ret)
{
    return read_number(config, key, fallback, NULL, ret);
}

int config_choice(struct config *config, const char *key, const char *const *names, int fallback, int *ret)
{
    json_t *value = ask(config, key);
    int found = value ? -1 : fallback;
    for (int i = 0; names[i] && json_is_string(value); i++)
        if (strcmp(names[i], json_string_value(value)) == 0)
            found = i;
    if (found < 0)
        return wrong(config, key, "has a value that is unknown");
    forget(config, key);
    *ret = found;
    return SPOOL_OK;
}

int config_flag(struct config *config, const char *key, bool fallback, bool *ret)
{
    json_t *value = ask(config, key);
    if (value && !json_is_boolean(value))
        return wrong(config, key, "must be true or false");
    *ret = value ? json_is_true(value) : fallback;
    forget(config, key);
    return SPOOL_OK;
}

int config_close(struct config *config, int code)
{
    const char *key = config->object ? json_object_iter_key(json_object_iter(config->object)) : NULL;
    const char *nearest = NULL;
    for (size_t i = 0; key && i < config->asked_count && !nearest; i++)
        nearest = is_near(key, config->asked[i]) ? config->asked[i] : NULL;
    if (code == SPOOL_OK && key)
        code = unknown(config, key, nearest);
    json_decref(config->object);
    config->object = NULL;
    return code;
}
