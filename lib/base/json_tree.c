/* json_tree.c - see json_tree.h.
 *
 * When memory runs out jansson (2.14) calls a good text wrong, or cuts a string short and says nothing: its lexer
 * ignores that its buffer could not grow. So a text is only wrong if our own scanner, which takes no memory, says so
 * too; and a tree is only believed when a second one is equal. Configurations are small. */
#include "json_tree.h"

#include <errno.h>

#include "../spool.h"
#include "json.h"

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

int json_tree(const char *text, size_t size, json_t **ret, json_error_t *ret_error)
{
    *ret_error = (json_error_t){.line = 0}; /* without memory jansson leaves the code as it was */
    json_t *tree = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, ret_error);
    if (!tree && !is_refused(ret_error) && json_is_valid(text, size))
        return ENOMEM;
    if (!tree)
        return SPOOL_EJSON;
    json_t *again = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
    int code = again && json_equal(tree, again) ? SPOOL_OK : ENOMEM;
    json_decref(again);
    if (code)
        json_decref(tree);
    else
        *ret = tree;
    return code;
}
