/* plugin.h - sinks that are shared objects: found, looked at, loaded. Private to this folder.
 *
 * A file is loaded only from where nobody but root or the process's user can have put it, and before any of its code
 * runs but what the dynamic linker itself starts, its description is checked: the interface's version, sizes, and that
 * nothing is set in it that this library does not know. What was loaded is never unloaded: hooks may run in threads
 * that were given up, and the library keeps pointers into it. */
#ifndef DELIVERY_PLUGIN_H
#define DELIVERY_PLUGIN_H

#include "../lib/base/buffer.h"
#include "delivery.h"

/* plugin_search.c. The folders in the order they are searched, each once: those of SPOOL_SINK_PATH, then the installed
 * one. SPOOL_EACCESS: an entry is not absolute; ENOMEM. */
struct plugin_folders {
    char **paths;
    size_t count;
};
int plugin_folders(struct plugin_folders *ret);
void plugin_folders_free(struct plugin_folders *folders);
/* The file of a kind: malloc'd absolute path without links. SPOOL_ENOTFOUND, with all that was searched; also for
 * what can be no kind; SPOOL_EACCESS: it is there, but not safe to load; errno. */
int plugin_find(const char *kind, char **ret_path);
/* The same for a file that somebody names: it must be absolute. */
int plugin_check_file(const char *path, char **ret_path);
/* The kind that a file's name says; false if it is no plugin's name. */
bool plugin_kind_of(const char *file_name, char ret_kind[SINK_KIND_MAX + 1]);

/* plugin_load.c. Loads the file, once per process. The description lives as long as the process. SPOOL_EABI,
 * SPOOL_EINVAL. */
int plugin_load(const char *path, const char *kind, const struct spool_sink_plugin **ret);

/* plugin_host.c */
extern const struct spool_sink_host plugin_host;

#endif
