/* json_tree.c - see json_tree.h.
 *
 * When memory runs out jansson (2.14) calls a good text wrong, or cuts a string short and says nothing: its lexer
 * ignores that its buffer could not grow. So a text is only wrong if our own scanner, which takes no memory, says so
 * too, or if it is one of those that jansson alone refuses; and a tree is only believed when it is compared with the text.
 * What is compared is what most texts are made of:
 * where there is more to it (escapes, characters that are not ASCII, decimals), a second tree must be equal. */
#include "json_tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../spool.h"
#include "json.h"
#include "json_scan.h"

enum { COMPARE_DEPTH_MAX = 64, DIGITS_MAX = 18 /* any such number fits */, ESCAPE_SIZE = 6 /* of \u0000 */ };

/* What jansson refuses although it is JSON, and never for want of memory. */
static bool is_refused(const json_error_t *error)
{
    switch (json_error_code(error)) {
    case json_error_duplicate_key:
    case json_error_null_character:
    case json_error_null_byte_in_key:
    case json_error_numeric_overflow:
    case json_error_stack_overflow:
        return true;
    default:
        return false;
    }
}

/* Where a \u escape stands that says a unit of UTF-16 from `first` on, of 1,024 such. */
static bool is_surrogate(const char *at, const char *end, unsigned first)
{
    unsigned unit = 0;
    char digits[5] = "";
    if (end - at < ESCAPE_SIZE || at[0] != '\\' || at[1] != 'u')
        return false;
    memcpy(digits, at + 2, 4);
    unit = (unsigned)strtoul(digits, NULL, 16);
    return unit >= first && unit < first + 0x400;
}

/* Half a surrogate pair in a text that is valid JSON: our scanner lets it pass, to jansson it is wrong syntax. */
static bool has_half_character(const char *text, size_t size)
{
    const char *at = text, *end = text + size;
    while (at < end && (at = memchr(at, '\\', (size_t)(end - at)))) {
        bool first = is_surrogate(at, end, 0xd800), second = is_surrogate(at, end, 0xdc00);
        if (second || (first && !is_surrogate(at + ESCAPE_SIZE, end, 0xdc00)))
            return true;
        at += first ? 2 * ESCAPE_SIZE : 2;
    }
    return false;
}

/* ----------------------------------------------------------------------------------------- the text beside the tree */

static bool says(struct json_cursor *c, const json_t *value, int depth);

/* A string without escapes begins here; moves over it. */
static bool plain_string(struct json_cursor *c, const char **ret, size_t *ret_size)
{
    if (!json_accept(c, '"'))
        return false;
    *ret = (const char *)c->at;
    *ret_size = json_plain_run(c->at, c->end);
    c->at += *ret_size;
    return json_accept(c, '"');
}

static bool says_string(struct json_cursor *c, const json_t *value)
{
    const char *text;
    size_t size;
    return plain_string(c, &text, &size) && size == json_string_length(value) &&
           memcmp(text, json_string_value(value), size) == 0;
}

static bool says_integer(struct json_cursor *c, const json_t *value)
{
    bool negative = json_accept(c, '-');
    long long number = 0;
    const uint8_t *first = c->at;
    for (; c->at < c->end && *c->at >= '0' && *c->at <= '9' && c->at - first < DIGITS_MAX; c->at++)
        number = 10 * number + (*c->at - '0');
    bool over = c->at == c->end || strchr(",]} \t\r\n", *c->at);
    return c->at > first && over && (negative ? -number : number) == json_integer_value(value);
}

static bool says_word(struct json_cursor *c, const char *word)
{
    size_t size = strlen(word);
    if (!json_skip_space(c) || (size_t)(c->end - c->at) < size || memcmp(c->at, word, size) != 0)
        return false;
    c->at += size;
    return true;
}

static bool says_array(struct json_cursor *c, const json_t *value, int depth)
{
    size_t n = json_array_size(value);
    bool good = json_accept(c, '[');
    for (size_t i = 0; i < n && good; i++)
        good = (i == 0 || json_accept(c, ',')) && says(c, json_array_get(value, i), depth + 1);
    return good && json_accept(c, ']');
}

static bool says_member(struct json_cursor *c, const json_t *object, int depth)
{
    const char *name;
    size_t size;
    if (!plain_string(c, &name, &size) || !json_accept(c, ':'))
        return false;
    const json_t *value = json_object_getn(object, name, size);
    return value && says(c, value, depth + 1);
}

static bool says_object(struct json_cursor *c, const json_t *value, int depth)
{
    size_t n = json_object_size(value);
    bool good = json_accept(c, '{');
    for (size_t i = 0; i < n && good; i++)
        good = (i == 0 || json_accept(c, ',')) && says_member(c, value, depth);
    return good && json_accept(c, '}');
}

/* Moves over a value that says the same. False: it does not, or it cannot be told. */
static bool says(struct json_cursor *c, const json_t *value, int depth)
{
    if (depth > COMPARE_DEPTH_MAX)
        return false;
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return says_object(c, value, depth);
    case JSON_ARRAY:
        return says_array(c, value, depth);
    case JSON_STRING:
        return says_string(c, value);
    case JSON_INTEGER:
        return says_integer(c, value);
    case JSON_TRUE:
        return says_word(c, "true");
    case JSON_FALSE:
        return says_word(c, "false");
    case JSON_NULL:
        return says_word(c, "null");
    default:
        return false;
    }
}

static bool is_all_there(const char *text, size_t size, const json_t *tree)
{
    struct json_cursor c;
    json_begin(&c, text, size);
    return says(&c, tree, 0) && !json_skip_space(&c);
}

/* ---------------------------------------------------------------------------------------------------------- parsing */

int json_tree(const char *text, size_t size, json_t **ret, json_error_t *ret_error)
{
    *ret_error = (json_error_t){.line = 0}; /* without memory jansson leaves the code as it was */
    json_t *tree = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, ret_error);
    if (!tree && !is_refused(ret_error) && json_is_valid(text, size) && !has_half_character(text, size))
        return ENOMEM;
    if (!tree)
        return SPOOL_EJSON;
    if (is_all_there(text, size, tree)) {
        *ret = tree;
        return SPOOL_OK;
    }
    json_t *again = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
    int code = again && json_equal(tree, again) ? SPOOL_OK : ENOMEM;
    json_decref(again);
    if (code)
        json_decref(tree);
    else
        *ret = tree;
    return code;
}

/* Into memory of our own: json_dumps() leaves out a key when it gets no memory for it, and says nothing. */
char *json_tree_text(const json_t *value)
{
    const size_t flags = JSON_COMPACT | JSON_ENCODE_ANY;
    size_t size = json_dumpb(value, NULL, 0, flags);
    char *text = size > 0 ? malloc(size + 1) : NULL;
    if (text && json_dumpb(value, text, size, flags) == size) {
        text[size] = '\0';
        return text;
    }
    free(text);
    return NULL;
}
