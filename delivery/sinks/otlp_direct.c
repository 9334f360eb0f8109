/* otlp_direct.c - see otlp_direct.h. */
#include "otlp_direct.h"

#include <errno.h>
#include <string.h>

#include "../../lib/base/json_scan.h"
#include "../../lib/base/json_tree.h"
#include "../../lib/spool.h"
#include "otlp_value.h"

enum { MEMBERS_MAX = 32, DIGITS_MAX = 18 /* any such number fits */, NUMBER_GUESS = 12, AROUND_TEXT = 32 };

/* The names of an object so far. */
struct names {
    size_t count;
    struct name {
        const char *text;
        size_t size;
    } all[MEMBERS_MAX];
};

static bool put_any(struct otlp_writer *w, struct json_cursor *c, int depth);

/* The next name, up to its value. False also if it is an odd one, or stands twice. */
static bool next_name(struct json_cursor *c, struct names *names, struct name *ret)
{
    if (!json_accept(c, '"') || names->count == MEMBERS_MAX)
        return false;
    ret->text = (const char *)c->at;
    ret->size = json_plain_run(c->at, c->end);
    c->at += ret->size;
    if (c->at == c->end || *c->at != '"')
        return false;
    c->at++;
    for (size_t i = 0; i < names->count; i++)
        if (names->all[i].size == ret->size && memcmp(names->all[i].text, ret->text, ret->size) == 0)
            return false;
    names->all[names->count++] = *ret;
    return json_accept(c, ':') && json_skip_space(c);
}

/* ------------------------------------------------------------------------------------------------------------ scalars
 */

/* What the tree makes of a value that was scanned. */
static bool put_by_tree(struct otlp_writer *w, const char *text, size_t size)
{
    json_error_t error;
    json_t *tree;
    int code = json_tree(text, size, &tree, &error);
    if (code == ENOMEM)
        w->code = ENOMEM;
    if (code != SPOOL_OK)
        return false;
    otlp_value_json(w, tree);
    json_decref(tree);
    return w->code == SPOOL_OK;
}

static bool put_number(struct otlp_writer *w, struct json_cursor *c)
{
    const uint8_t *first = c->at, *at = first + (*first == '-');
    int64_t number = 0;
    if (!json_scan_value(c))
        return false;
    if (c->at - at > DIGITS_MAX)
        return put_by_tree(w, (const char *)first, (size_t)(c->at - first));
    for (; at < c->at; at++) {
        if (*at < '0' || *at > '9')
            return put_by_tree(w, (const char *)first, (size_t)(c->at - first));
        number = 10 * number + (*at - '0');
    }
    otlp_value_int(w, *first == '-' ? -number : number);
    return true;
}

/* A string with more than plain ASCII in it is decoded behind the place that it will be written to. */
static bool put_decoded(struct otlp_writer *w, struct json_cursor *c)
{
    size_t size;
    const struct json_cursor before = *c;
    if (!json_scan_value(c)) /* how long it is at most */
        return false;
    const size_t most = (size_t)(c->at - before.at);
    *c = before;
    w->code = buffer_reserve(w->out, AROUND_TEXT + 2 * most);
    if (w->code != SPOOL_OK)
        return false;
    uint8_t *text = w->out->data + w->out->size + AROUND_TEXT + most;
    if (!json_scan_string(c, text, &size) || memchr(text, '\0', size))
        return false;
    otlp_value_text(w, (const char *)text, size);
    return true;
}

static bool put_string(struct otlp_writer *w, struct json_cursor *c)
{
    const uint8_t *text = c->at + 1;
    size_t size = json_plain_run(text, c->end);
    if (text + size == c->end || text[size] != '"')
        return put_decoded(w, c);
    c->at = text + size + 1;
    otlp_value_text(w, (const char *)text, size);
    return true;
}

static bool put_word(struct otlp_writer *w, struct json_cursor *c)
{
    uint8_t letter = *c->at;
    if (!json_scan_value(c))
        return false;
    if (letter != 'n')
        otlp_value_bool(w, letter == 't');
    return true;
}

/* ------------------------------------------------------------------------------------------------------------- nesting
 */

/* Of the bytes that the value takes which begins here: exact where it is text, so that text is not moved. */
static size_t guess(const struct json_cursor *c)
{
    if (*c->at == '"')
        return json_plain_run(c->at + 1, c->end) + 3;
    return *c->at == '{' || *c->at == '[' ? (size_t)(c->end - c->at) : NUMBER_GUESS;
}

static bool put_array(struct otlp_writer *w, struct json_cursor *c, int depth)
{
    c->at++;
    otlp_value_array(w, (size_t)(c->end - c->at));
    if (!json_accept(c, ']')) {
        do {
            if (!json_skip_space(c))
                return false;
            otlp_item(w, guess(c));
            if (!put_any(w, c, depth + 1))
                return false;
            otlp_end(w);
        } while (json_accept(c, ','));
        if (!json_accept(c, ']'))
            return false;
    }
    otlp_value_nested_end(w);
    return true;
}

static bool put_object(struct otlp_writer *w, struct json_cursor *c, int depth)
{
    struct names names = {.count = 0};
    struct name name;
    c->at++;
    otlp_value_object(w, (size_t)(c->end - c->at));
    if (!json_accept(c, '}')) {
        do {
            if (!next_name(c, &names, &name))
                return false;
            otlp_key_of(w, name.text, name.size, guess(c));
            if (!put_any(w, c, depth + 1))
                return false;
            otlp_key_end(w);
        } while (json_accept(c, ','));
        if (!json_accept(c, '}'))
            return false;
    }
    otlp_value_nested_end(w);
    return true;
}

static bool put_any(struct otlp_writer *w, struct json_cursor *c, int depth)
{
    switch (*c->at) {
    case '{':
        return depth <= OTLP_VALUE_DEPTH_MAX && put_object(w, c, depth);
    case '[':
        return depth <= OTLP_VALUE_DEPTH_MAX && put_array(w, c, depth);
    case '"':
        return put_string(w, c);
    case 't':
    case 'f':
    case 'n':
        return put_word(w, c);
    default:
        return put_number(w, c);
    }
}

bool otlp_value_direct(struct otlp_writer *w, const char *text, size_t size)
{
    struct json_cursor c;
    const struct otlp_mark mark = otlp_mark(w);
    const int depth = w->depth;
    if (w->json || w->code != SPOOL_OK)
        return false;
    json_begin(&c, text, size);
    bool good = json_skip_space(&c) && put_any(w, &c, 0) && !json_skip_space(&c) && w->code == SPOOL_OK;
    if (!good && w->code == SPOOL_OK) {
        w->depth = depth;
        otlp_rewind(w, mark);
    }
    return good;
}

/* ------------------------------------------------------------------------------------------------------------- members
 */

static bool add_member(struct otlp_writer *w, json_t **object, const struct name *name, const uint8_t *text,
                       size_t size)
{
    json_error_t error;
    json_t *value;
    int code = json_tree((const char *)text, size, &value, &error);
    if (code == SPOOL_OK && !*object)
        *object = json_object();
    if (code == SPOOL_OK && json_object_setn_new_nocheck(*object, name->text, name->size, value) != 0)
        code = ENOMEM;
    if (code == ENOMEM)
        w->code = ENOMEM;
    return code == SPOOL_OK;
}

static bool take_members(struct otlp_writer *w, struct json_cursor *c,
                         bool (*is_wanted)(const void *user, const char *name, size_t size), const void *user,
                         json_t **object)
{
    struct names names = {.count = 0};
    struct name name;
    if (json_accept(c, '}'))
        return true;
    do {
        if (!next_name(c, &names, &name))
            return false;
        const uint8_t *value = c->at;
        if (!json_scan_value(c))
            return false;
        if (is_wanted(user, name.text, name.size) && !add_member(w, object, &name, value, (size_t)(c->at - value)))
            return false;
    } while (json_accept(c, ','));
    return json_accept(c, '}');
}

bool otlp_members(struct otlp_writer *w, const char *text, size_t size,
                  bool (*is_wanted)(const void *user, const char *name, size_t size), const void *user, json_t **ret)
{
    struct json_cursor c;
    json_t *object = NULL;
    json_begin(&c, text, size);
    if (w->code == SPOOL_OK && json_accept(&c, '{') && take_members(w, &c, is_wanted, user, &object) &&
        !json_skip_space(&c)) {
        *ret = object;
        return true;
    }
    json_decref(object);
    return false;
}
