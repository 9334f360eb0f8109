/* otlp_direct.h - a body's JSON straight from its text, without a tree of it.
 *
 * A tree takes an allocation for each value and each name, twice the time of all the rest of a record. What nearly
 * all bodies are made of is written as it is read. Where there is more to it (names with escapes or that stand twice,
 * many members, numbers that are out of range, deep nesting, text that is no JSON), nothing is written, and the tree
 * decides: these are its rules, and they stand in one place. */
#ifndef DELIVERY_SINKS_OTLP_DIRECT_H
#define DELIVERY_SINKS_OTLP_DIRECT_H

#include <jansson.h>

#include "otlp_writer.h"

/* As otlp_value_json() of the tree of the text. False: nothing was written; it takes the tree, or w->code says why
 * not. Only protobuf is written so. */
bool otlp_value_direct(struct otlp_writer *w, const char *text, size_t size);

/* Of the text of an object: the members that are wanted, as an object; NULL if there are none. False: it takes the
 * tree, or w->code says why not. */
bool otlp_members(struct otlp_writer *w, const char *text, size_t size,
                  bool (*is_wanted)(const void *user, const char *name, size_t size), const void *user, json_t **ret);

#endif
