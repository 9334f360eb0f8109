/* config.h - a configuration file in parts, for opening a spool with it and for reading it again. Private to lib/. */
#ifndef LIB_CONFIG_H
#define LIB_CONFIG_H

#include <jansson.h>

#include "handle.h"

/* Reads the file: SPOOL_EJSON with line and column, errno. json_decref(). */
int config_load(const char *path, json_t **ret);
/* Checks the sections and reads the first; *ret_dir lives as long as `root`. SPOOL_ECONFIG. */
int config_read_spool(json_t *root, struct spool_options *ret, const char **ret_dir);
/* The name of the first setting of a file in which the two differ; NULL if none. */
const char *config_difference(const struct spool_options *a, const struct spool_options *b);

struct sink_config {
    char where[SINK_NAME_MAX + 16];
    const char *name, *kind;
    struct spool_sink_options options;
    json_t *own;              /* the kind's own keys … */
    char *text;               /* … and as text */
    char *filter, *resources; /* as text */
};
/* Reads one object of "sinks"; names live as long as it. To be freed also after a failure. SPOOL_ECONFIG. */
int config_read_sink(json_t *object, size_t index, struct sink_config *ret);
void config_free_sink(struct sink_config *sink);

#endif
