/* config.h - a sink's JSON configuration, read strictly: a key that nobody asked for is an error that names it.
 *
 *     struct config c;
 *     int code = config_open(&c, "file", json_config);
 *     if (code == SPOOL_OK) code = config_text(&c, "path", NULL, &path);      // required
 *     if (code == SPOOL_OK) code = config_bytes(&c, "rotate_bytes", 0, &bytes);
 *     code = config_close(&c, code);                                         // refuses keys not asked for
 *
 * All failures are SPOOL_ECONFIG (or ENOMEM), with a message left by spool_sink_error(). */
#ifndef DELIVERY_SINKS_CONFIG_H
#define DELIVERY_SINKS_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { CONFIG_KEYS = 48 };

struct config {
    const char *kind;
    json_t *object;                 /* keys asked for are taken out … */
    const char *asked[CONFIG_KEYS]; /* … and stand here, for those that come near one; as many as there is room for */
    size_t asked_count;
};

int config_open(struct config *config, const char *kind, const char *json);
/* malloc'd copy of a text; `fallback` NULL: it is required. */
int config_text(struct config *config, const char *key, const char *fallback, char **ret);
/* A number, or a text with a unit as in units.h. */
int config_bytes(struct config *config, const char *key, uint64_t fallback, uint64_t *ret);
int config_duration_ms(struct config *config, const char *key, uint64_t fallback, uint64_t *ret);
int config_number(struct config *config, const char *key, uint64_t fallback, uint64_t *ret);
/* One of `names` (ends with NULL): its index. */
int config_choice(struct config *config, const char *key, const char *const *names, int fallback, int *ret);
int config_flag(struct config *config, const char *key, bool fallback, bool *ret);
/* Frees it; returns `code`, or, if that is SPOOL_OK, what there is to say about keys that are left. */
int config_close(struct config *config, int code);

#endif
