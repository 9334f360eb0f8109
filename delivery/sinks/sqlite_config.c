/* sqlite_config.c - the settings of an archive. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sqlite_archive.h"
#include "sqlite_schema.h"

static int wrong(const char *what)
{
    return spool_sink_error(SPOOL_ECONFIG, "configuration of the sqlite sink: %s", what);
}

static int find_index(const json_t *name)
{
    for (int i = 0; i < INDEXES; i++)
        if (json_is_string(name) && strcmp(json_string_value(name), indexes[i].name) == 0)
            return i;
    return -1;
}

static int read_indexes(struct config *config, unsigned *ret)
{
    json_t *list = json_object_get(config->object, "indexes");
    unsigned found = list ? 0 : (1u << INDEXES) - 1;
    if (list && !json_is_array(list))
        return wrong("\"indexes\" must be a list of \"agent\", \"type\", \"session\", \"time\"");
    for (size_t i = 0; i < json_array_size(list); i++) {
        int index = find_index(json_array_get(list, i));
        if (index < 0)
            return wrong("\"indexes\" names something else than \"agent\", \"type\", \"session\", \"time\"");
        found |= 1u << index;
    }
    json_object_del(config->object, "indexes");
    *ret = found;
    return SPOOL_OK;
}

static int read_mode(struct config *config, mode_t *ret)
{
    char *text, *end;
    int code = config_text(config, "mode", "0600", &text);
    if (code != SPOOL_OK)
        return code;
    unsigned long mode = strtoul(text, &end, 8);
    if (*end || mode > 0777 || (mode & 0600) != 0600)
        code = wrong("\"mode\" must be octal permission bits, 0600 at least");
    free(text);
    *ret = (mode_t)mode;
    return code;
}

/* A relative path gets "./", so that ":memory:" and the like are names of files. */
static int read_path(struct config *config, char **ret)
{
    char *path = NULL, *full;
    int code = config_text(config, "path", NULL, &path);
    if (code != SPOOL_OK)
        return code;
    int size = asprintf(&full, "%s%s", path[0] == '/' ? "" : "./", path);
    free(path);
    if (size < 0)
        return spool_sink_error(ENOMEM, "out of memory");
    *ret = full;
    return SPOOL_OK;
}

int archive_configure(struct archive *a, const char *json_config)
{
    struct config config;
    int code = config_open(&config, "sqlite", json_config);
    if (code == SPOOL_OK)
        code = read_path(&config, &a->path);
    if (code == SPOOL_OK)
        code = read_mode(&config, &a->mode);
    if (code == SPOOL_OK)
        code = config_duration_ms(&config, "busy_timeout", 5000, &a->busy_ms);
    if (code == SPOOL_OK)
        code = config_duration_ms(&config, "retention", 0, &a->retention_ms);
    if (code == SPOOL_OK)
        code = read_indexes(&config, &a->indexes);
    if (code == SPOOL_OK && a->retention_ms > 0 && !(a->indexes & 1u << INDEX_TIME))
        code = wrong("\"retention\" needs the index \"time\"");
    return config_close(&config, code);
}

void archive_free_settings(struct archive *a)
{
    free(a->path);
    a->path = NULL;
}
