/* json_tree.h - jansson's tree of a text, or the true reason why there is none. For configuration; the hot path has
 * json.h. */
#ifndef BASE_JSON_TREE_H
#define BASE_JSON_TREE_H

#include <jansson.h>
#include <stddef.h>

/* SPOOL_EJSON: the text is wrong, *ret_error says where. ENOMEM. No message is set. Release with json_decref(). */
int json_tree(const char *text, size_t size, json_t **ret, json_error_t *ret_error);

/* The tree as compact text, malloc'd; NULL: no memory, or no tree. */
char *json_tree_text(const json_t *value);

#endif
