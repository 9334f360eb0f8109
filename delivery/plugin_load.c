/* plugin_load.c - loads a plugin and takes its description by the size rule of openat2(2): what is shorter than ours is
 * filled up with zeros, and what we do not know must not be set, because to ignore it would silently change the
 * delivery.
 *
 * RTLD_LOCAL, so that a plugin's libraries never meet the program's names; RTLD_NOW, so that one that lacks something
 * fails here and not in the middle of a delivery. Nothing is ever unloaded once its description was accepted. */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/base/error.h"
#include "options.h"
#include "plugin.h"

struct loaded {
    struct loaded *next;
    char *path;
    struct spool_sink_plugin plugin;
};

/* Guards the list, and is held while a file is loaded, so that none is attached twice at once. Its constructors run
 * then, which must not call the library. */
static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER;
static struct loaded *all;

static int check_plugin(const char *path, const char *kind, const struct spool_sink_plugin *plugin)
{
    struct spool_sink sink;
    if (plugin->host_size > plugin_host.size)
        return err_set(SPOOL_EABI, "%s was built for a newer libspool than this one (%s)", path, spool_version());
    if (!plugin->attach || !plugin->sink)
        return err_set(SPOOL_EABI, "%s: its description is not complete: use SPOOL_SINK_PLUGIN()", path);
    int code = options_take_sink(plugin->sink, &sink);
    if (code != SPOOL_OK)
        return err_prefix(code, "%s", path);
    if (strcmp(sink.kind, kind) != 0)
        return err_set(SPOOL_EINVAL, "%s holds a sink of kind \"%s\", not \"%s\"", path, sink.kind, kind);
    return SPOOL_OK;
}

/* Looks at the description before any function of the plugin is called. */
static int take(const char *path, const char *kind, void *handle, struct spool_sink_plugin *ret)
{
    const struct spool_sink_plugin *theirs = dlsym(handle, "spool_sink_plugin");
    if (!theirs)
        return err_set(SPOOL_EABI, "%s is no sink of libspool: it exports no spool_sink_plugin", path);
    if (theirs->abi != SPOOL_SINK_ABI)
        return err_set(SPOOL_EABI, "%s has ABI %u, this library knows %d: build it with this library's spool.h", path,
                       theirs->abi, SPOOL_SINK_ABI);
    if (theirs->size < offsetof(struct spool_sink_plugin, sink) + sizeof theirs->sink)
        return err_set(SPOOL_EABI, "%s: its description has %zu bytes, less than ABI 1 has", path, theirs->size);
    if (!options_take_struct(theirs, theirs->size, ret, sizeof *ret))
        return err_set(SPOOL_EABI, "%s asks for what this library does not know: it was built for a newer one", path);
    ret->size = sizeof *ret;
    return check_plugin(path, kind, ret);
}

static int open_file(const char *path, void **ret)
{
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        const char *why = dlerror();
        return err_set(SPOOL_EABI, "cannot load %s: %s", path, why ? why : "the dynamic linker does not say why");
    }
    *ret = handle;
    return SPOOL_OK;
}

/* `loading` held. */
static int load(const char *path, const char *kind, struct loaded **ret)
{
    struct loaded *made = calloc(1, sizeof *made);
    void *handle = NULL;
    if (made)
        made->path = strdup(path);
    int code = made && made->path ? open_file(path, &handle) : err_errno(ENOMEM, "plugin %s", path);
    if (code == SPOOL_OK)
        code = take(path, kind, handle, &made->plugin);
    if (code != SPOOL_OK) {
        if (handle)
            dlclose(handle);
        if (made)
            free(made->path);
        free(made);
        return code;
    }
    made->plugin.attach(&plugin_host);
    made->next = all;
    all = made;
    *ret = made;
    return SPOOL_OK;
}

int plugin_load(const char *path, const char *kind, const struct spool_sink_plugin **ret)
{
    int code = SPOOL_OK;
    pthread_mutex_lock(&loading);
    struct loaded *found = all;
    while (found && strcmp(found->path, path) != 0)
        found = found->next;
    if (!found)
        code = load(path, kind, &found);
    else
        code = check_plugin(path, kind, &found->plugin);
    pthread_mutex_unlock(&loading);
    if (code == SPOOL_OK)
        *ret = &found->plugin;
    return code;
}
