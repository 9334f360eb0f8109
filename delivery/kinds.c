/* kinds.c - a sink by the name of its kind, whoever made it; and all there are. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/base/error.h"
#include "plugin.h"

static const struct spool_sink_setting no_settings[] = {{NULL, NULL, NULL}};

static void describe(const struct spool_sink_plugin *plugin, struct delivery_kind *ret)
{
    *ret = (struct delivery_kind){
        .sink = plugin->sink,
        .check = plugin->check,
        .summary = plugin->summary ? plugin->summary : "",
        .settings = plugin->settings ? plugin->settings : no_settings,
    };
}

static int find_plugin(const char *kind, const char *file, struct delivery_kind *ret)
{
    char *path;
    const struct spool_sink_plugin *plugin = NULL;
    int code = file ? plugin_check_file(file, &path) : plugin_find(kind, &path);
    if (code != SPOOL_OK)
        return code;
    code = plugin_load(path, kind, &plugin);
    free(path);
    if (code == SPOOL_OK)
        describe(plugin, ret);
    return code;
}

int delivery_kind_find(const char *kind, const char *plugin, struct delivery_kind *ret)
{
    if (!kind)
        return err_set(SPOOL_ENOTFOUND, "no kind of sink was given");
    if (!plugin && delivery_builtin_kind(kind, ret))
        return SPOOL_OK;
    return find_plugin(kind, plugin, ret);
}

int delivery_kind_check(const struct delivery_kind *kind, const char *json_config)
{
    spool_sink_error(SPOOL_OK, "%s", "");
    int code = kind->check ? kind->check(json_config ? json_config : "{}") : SPOOL_OK;
    if (code == SPOOL_OK)
        return SPOOL_OK;
    const char *message = delivery_sink_message();
    return err_set(code, "%s", *message ? message : "its configuration is refused");
}

/* ---------------------------------------------------------------------------------------------------------- listing */

struct listing {
    int (*each)(void *user, const struct spool_sink_kind *kind);
    void *user;
    char (*seen)[SINK_KIND_MAX + 1]; /* kinds that an earlier folder had: those count */
    size_t seen_count;
};

static int tell(const struct listing *listing, const char *name, const char *file, const struct delivery_kind *kind,
                const char *problem)
{
    const struct spool_sink_kind told = {
        .size = sizeof told,
        .kind = name,
        .file = file,
        .summary = kind ? kind->summary : "",
        .settings = kind ? kind->settings : no_settings,
        .problem = problem,
    };
    return listing->each(listing->user, &told);
}

static int list_builtins(const struct listing *listing)
{
    struct delivery_kind kind;
    int stop = 0;
    const char *name;
    for (size_t i = 0; !stop && (name = delivery_builtin_name(i)) != NULL; i++)
        if (delivery_builtin_kind(name, &kind))
            stop = tell(listing, name, NULL, &kind, NULL);
    return stop;
}

/* True if it is new; a kind that cannot be remembered for want of memory is told twice at worst. */
static bool see(struct listing *listing, const char *name)
{
    for (size_t i = 0; i < listing->seen_count; i++)
        if (strcmp(listing->seen[i], name) == 0)
            return false;
    void *grown = realloc(listing->seen, (listing->seen_count + 1) * sizeof *listing->seen);
    if (grown) {
        listing->seen = grown;
        snprintf(listing->seen[listing->seen_count++], sizeof *listing->seen, "%s", name);
    }
    return true;
}

static int list_file(struct listing *listing, const char *folder, const char *file_name)
{
    char name[SINK_KIND_MAX + 1];
    char *path;
    struct delivery_kind kind;
    if (!plugin_kind_of(file_name, name) || delivery_builtin_kind(name, &kind) || !see(listing, name))
        return 0;
    if (asprintf(&path, "%s/%s", folder, file_name) < 0)
        return err_errno(ENOMEM, "%s", folder);
    int code = find_plugin(name, path, &kind);
    int stop = tell(listing, name, path, code == SPOOL_OK ? &kind : NULL, code == SPOOL_OK ? NULL : err_last());
    free(path);
    return stop;
}

static int list_folder(struct listing *listing, const char *folder)
{
    struct dirent **entries;
    int n = scandir(folder, &entries, NULL, alphasort), stop = 0;
    for (int i = 0; i < n; i++) {
        if (!stop)
            stop = list_file(listing, folder, entries[i]->d_name);
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
    return stop; /* a folder that is not there holds nothing */
}

int delivery_kind_each(int (*each)(void *user, const struct spool_sink_kind *kind), void *user)
{
    struct listing listing = {.each = each, .user = user};
    struct plugin_folders folders;
    int stop = plugin_folders(&folders);
    if (stop)
        return stop;
    stop = list_builtins(&listing);
    for (size_t i = 0; i < folders.count && !stop; i++)
        stop = list_folder(&listing, folders.paths[i]);
    free(listing.seen);
    plugin_folders_free(&folders);
    return stop;
}
