/* filter.c - see filter.h. Patterns are copied out of the JSON once; per event nothing is allocated. */
#include "filter.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/base/error.h"
#include "../lib/base/json_tree.h"

enum field { FIELD_TYPE, FIELD_AGENT, FIELD_PRIORITY, FIELD_TAG, FIELDS };
static const char *const field_names[FIELDS] = {"type", "agent", "priority", "tag"};

struct patterns {
    char **texts;
    size_t count;
    bool given; /* an empty array is given too: nothing matches it */
};

struct filter {
    struct patterns include[FIELDS], exclude[FIELDS];
};

/* --------------------------------------------------------------------------------------------------------- matching */

/* With one place to go back to: the last star. A star before it never needs another try, since the later one takes as
 * little as possible. */
bool filter_matches(const char *pattern, const char *text)
{
    const char *star = NULL, *retry = NULL;
    while (*text) {
        if (*pattern == '*') {
            star = pattern++;
            retry = text;
        } else if (*pattern == *text || *pattern == '?') {
            pattern++;
            text++;
        } else if (star) {
            pattern = star + 1;
            text = ++retry;
        } else
            return false;
    }
    while (*pattern == '*')
        pattern++;
    return !*pattern;
}

static bool any_matches(const struct patterns *patterns, const char *text)
{
    for (size_t i = 0; i < patterns->count; i++)
        if (filter_matches(patterns->texts[i], text))
            return true;
    return false;
}

static bool field_matches(const struct patterns *patterns, enum field field, const struct spool_event *event)
{
    switch (field) {
    case FIELD_TYPE:
        return any_matches(patterns, event->type);
    case FIELD_AGENT:
        return any_matches(patterns, event->agent ? event->agent : "");
    case FIELD_PRIORITY:
        return any_matches(patterns, spool_priority_name(event->priority));
    default:
        for (const char *const *tag = event->tags; tag && *tag; tag++)
            if (any_matches(patterns, *tag))
                return true;
        return false;
    }
}

bool filter_passes(const struct filter *filter, const struct spool_event *event)
{
    if (!filter)
        return true;
    for (enum field field = 0; field < FIELDS; field++) {
        if (filter->exclude[field].given && field_matches(&filter->exclude[field], field, event))
            return false;
        if (filter->include[field].given && !field_matches(&filter->include[field], field, event))
            return false;
    }
    return true;
}

/* ---------------------------------------------------------------------------------------------------------- reading */

static int add_pattern(struct patterns *patterns, enum field field, const char *side, json_t *value)
{
    const char *text = json_string_value(value);
    enum spool_priority priority;
    if (!text || strlen(text) != json_string_length(value) || strlen(text) > SPOOL_TYPE_MAX)
        return err_set(SPOOL_ECONFIG, "filter.%s.%s: a text of at most %d bytes, or an array of them, is expected",
                       side, field_names[field], SPOOL_TYPE_MAX);
    if (field == FIELD_PRIORITY && spool_priority_parse(text, &priority) != SPOOL_OK)
        return err_set(SPOOL_ECONFIG, "filter.%s.priority: \"%s\" is none of critical, high, medium, low", side, text);
    patterns->texts[patterns->count] = strdup(text);
    return patterns->texts[patterns->count++] ? SPOOL_OK : err_errno(ENOMEM, "filter");
}

static int read_field(struct patterns *patterns, enum field field, const char *side, json_t *value)
{
    size_t n = json_is_array(value) ? json_array_size(value) : 1;
    if (n > FILTER_PATTERNS_MAX)
        return err_set(SPOOL_ECONFIG, "filter.%s.%s: %zu patterns, at most %d", side, field_names[field], n,
                       FILTER_PATTERNS_MAX);
    patterns->given = true;
    patterns->texts = calloc(n + 1, sizeof *patterns->texts);
    int code = patterns->texts ? SPOOL_OK : err_errno(ENOMEM, "filter");
    for (size_t i = 0; i < n && code == SPOOL_OK; i++)
        code = add_pattern(patterns, field, side, json_is_array(value) ? json_array_get(value, i) : value);
    return code;
}

static int read_side(struct patterns side[FIELDS], const char *name, json_t *object)
{
    const char *key;
    json_t *value;
    if (!json_is_object(object))
        return err_set(SPOOL_ECONFIG, "filter.%s: an object such as {\"type\": \"log.*\"} is expected", name);
    json_object_foreach(object, key, value)
    {
        enum field field = 0;
        while (field < FIELDS && strcmp(field_names[field], key) != 0)
            field++;
        if (field == FIELDS)
            return err_set(SPOOL_ECONFIG, "filter.%s.%s: unknown key; known are type, agent, priority, tag", name, key);
        int code = read_field(&side[field], field, name, value);
        if (code != SPOOL_OK)
            return code;
    }
    return SPOOL_OK;
}

static int read_all(struct filter *filter, json_t *root)
{
    const char *key;
    json_t *value;
    if (!json_is_object(root))
        return err_set(SPOOL_ECONFIG, "filter: an object with \"include\" or \"exclude\" is expected");
    json_object_foreach(root, key, value)
    {
        bool include = strcmp(key, "include") == 0;
        if (!include && strcmp(key, "exclude") != 0)
            return err_set(SPOOL_ECONFIG, "filter.%s: unknown key; known are include and exclude", key);
        int code = read_side(include ? filter->include : filter->exclude, key, value);
        if (code != SPOOL_OK)
            return code;
    }
    return SPOOL_OK;
}

int filter_new(const char *json, struct filter **ret)
{
    json_error_t error;
    json_t *root = NULL;
    *ret = NULL;
    if (!json)
        return SPOOL_OK;
    int code = json_tree(json, strlen(json), &root, &error);
    if (code != SPOOL_OK)
        return code == ENOMEM
                   ? err_errno(ENOMEM, "filter")
                   : err_set(SPOOL_ECONFIG, "filter, line %d, column %d: %s", error.line, error.column, error.text);
    struct filter *filter = calloc(1, sizeof *filter);
    code = filter ? read_all(filter, root) : err_errno(ENOMEM, "filter");
    json_decref(root);
    if (code == SPOOL_OK)
        *ret = filter;
    else
        filter_free(filter);
    return code;
}

void filter_free(struct filter *filter)
{
    if (!filter)
        return;
    for (enum field field = 0; field < FIELDS; field++) {
        for (size_t i = 0; i < filter->include[field].count; i++)
            free(filter->include[field].texts[i]);
        for (size_t i = 0; i < filter->exclude[field].count; i++)
            free(filter->exclude[field].texts[i]);
        free(filter->include[field].texts);
        free(filter->exclude[field].texts);
    }
    free(filter);
}
