/* plugin_search.c - where plugins may lie, and whether what lies there is safe to load.
 *
 * Code that is loaded runs with all rights of the program. So a file is loaded only if it and every folder above it
 * belong to root or to the process's user, and nobody else can write to them; a folder in which all may make files but
 * each only removes his own (/tmp) is let pass above the plugin's own folder. Links are resolved first, and what they
 * led to is looked at. Between this look and the loading, only root and the user could change anything. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../lib/base/error.h"
#include "plugin.h"

#ifndef SPOOL_SINK_DIR
#define SPOOL_SINK_DIR "/usr/local/lib/libspool"
#endif

static const char prefix[] = "libspool-sink-", suffix[] = ".so";

/* ---------------------------------------------------------------------------------------------------------- folders */

void plugin_folders_free(struct plugin_folders *folders)
{
    for (size_t i = 0; i < folders->count; i++)
        free(folders->paths[i]);
    free(folders->paths);
    *folders = (struct plugin_folders){0};
}

static int add_folder(struct plugin_folders *folders, const char *path, size_t size)
{
    while (size > 1 && path[size - 1] == '/')
        size--;
    for (size_t i = 0; i < folders->count; i++)
        if (strlen(folders->paths[i]) == size && memcmp(folders->paths[i], path, size) == 0)
            return SPOOL_OK;
    char **paths = realloc(folders->paths, (folders->count + 1) * sizeof *paths);
    if (!paths)
        return err_errno(ENOMEM, "folders of plugins");
    folders->paths = paths;
    paths[folders->count] = strndup(path, size);
    return paths[folders->count++] ? SPOOL_OK : err_errno(ENOMEM, "folders of plugins");
}

/* An entry that is not absolute would mean another folder in every working directory: it is a mistake, not a wish. An
 * empty one, which elsewhere means the current folder, is none. */
static int add_path(struct plugin_folders *folders, const char *path)
{
    int code = SPOOL_OK;
    while (*path && code == SPOOL_OK) {
        size_t size = strcspn(path, ":");
        if (size > 0 && *path != '/')
            return err_set(SPOOL_EACCESS, "SPOOL_SINK_PATH: \"%.*s\" is not an absolute folder", (int)size, path);
        if (size > 0)
            code = add_folder(folders, path, size);
        path += size;
        path += *path == ':';
    }
    return code;
}

int plugin_folders(struct plugin_folders *ret)
{
    struct plugin_folders folders = {0};
    const char *path = secure_getenv("SPOOL_SINK_PATH");
    int code = path ? add_path(&folders, path) : SPOOL_OK;
    if (code == SPOOL_OK)
        code = add_folder(&folders, SPOOL_SINK_DIR, strlen(SPOOL_SINK_DIR));
    if (code == SPOOL_OK)
        *ret = folders;
    else
        plugin_folders_free(&folders);
    return code;
}

/* ----------------------------------------------------------------------------------------------------------- safety */

/* One file or folder on the way. */
static int check_one(const char *path, bool is_file, bool may_be_sticky)
{
    struct stat st;
    if (lstat(path, &st) != 0)
        return err_errno(errno, "%s", path);
    if (is_file && !S_ISREG(st.st_mode))
        return err_set(SPOOL_EACCESS, "%s is no plain file: it is not loaded", path);
    if (st.st_uid != 0 && st.st_uid != geteuid())
        return err_set(SPOOL_EACCESS, "%s belongs to user %u, neither root nor us: no code is loaded from there", path,
                       (unsigned)st.st_uid);
    bool sticky = may_be_sticky && (st.st_mode & S_ISVTX);
    if ((st.st_mode & (S_IWGRP | S_IWOTH)) && !sticky)
        return err_set(SPOOL_EACCESS, "others may write to %s: no code is loaded from there; chmod go-w %s", path,
                       path);
    return SPOOL_OK;
}

/* Cuts the last component off; false at the root. */
static bool go_up(char *path)
{
    char *slash = strrchr(path, '/');
    if (!slash || !path[1])
        return false;
    slash[slash == path] = '\0';
    return true;
}

/* The file and all folders above it; `path` has no links, and is used up. */
static int check_all(char *path)
{
    int code = check_one(path, true, false);
    for (bool own = true; code == SPOOL_OK && go_up(path); own = false)
        code = check_one(path, false, !own);
    return code;
}

int plugin_check_file(const char *path, char **ret_path)
{
    if (*path != '/')
        return err_set(SPOOL_EACCESS, "plugin %s: its path must be absolute", path);
    char *real = realpath(path, NULL);
    if (!real)
        return err_errno(errno, "plugin %s", path);
    char *walk = strdup(real);
    int code = walk ? check_all(walk) : err_errno(ENOMEM, "plugin %s", path);
    free(walk);
    if (code == SPOOL_OK)
        *ret_path = real;
    else
        free(real);
    return code;
}

/* ---------------------------------------------------------------------------------------------------------- finding */

bool plugin_kind_of(const char *file_name, char ret_kind[SINK_KIND_MAX + 1])
{
    size_t size = strlen(file_name), fixed = sizeof prefix - 1 + sizeof suffix - 1;
    if (size <= fixed || size - fixed > SINK_KIND_MAX || strncmp(file_name, prefix, sizeof prefix - 1) != 0 ||
        strcmp(file_name + size - (sizeof suffix - 1), suffix) != 0)
        return false;
    snprintf(ret_kind, SINK_KIND_MAX + 1, "%.*s", (int)(size - fixed), file_name + sizeof prefix - 1);
    return true;
}

static bool is_kind(const char *kind)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    size_t size = strlen(kind);
    return size > 0 && size <= SINK_KIND_MAX && strspn(kind, allowed) == size;
}

static int not_found(const char *kind, const struct plugin_folders *folders)
{
    char searched[256] = "";
    for (size_t i = 0, at = 0; i < folders->count && at < sizeof searched; i++)
        at += (size_t)snprintf(searched + at, sizeof searched - at, "%s%s", i ? ", " : "", folders->paths[i]);
    return err_set(SPOOL_ENOTFOUND,
                   "there is no kind \"%s\": the library has none of that name, and there is no %s%s%s in %s", kind,
                   prefix, kind, suffix, searched);
}

/* The first one there is counts; when it is not safe, the search does not go on to another one: what somebody else put
 * before it would silently be another sink. */
static int find_in(const char *kind, const struct plugin_folders *folders, char **ret_path)
{
    for (size_t i = 0; i < folders->count; i++) {
        char *path;
        if (asprintf(&path, "%s/%s%s%s", folders->paths[i], prefix, kind, suffix) < 0)
            return err_errno(ENOMEM, "plugin for kind %s", kind);
        bool there = access(path, F_OK) == 0;
        int code = there ? plugin_check_file(path, ret_path) : SPOOL_OK;
        free(path);
        if (there || code != SPOOL_OK)
            return code;
    }
    return not_found(kind, folders);
}

int plugin_find(const char *kind, char **ret_path)
{
    struct plugin_folders folders;
    if (!is_kind(kind))
        return err_set(SPOOL_ENOTFOUND, "there is no kind \"%.40s\": a kind has 1 to %d of A-Z a-z 0-9 _ -", kind,
                       SINK_KIND_MAX);
    int code = plugin_folders(&folders);
    if (code != SPOOL_OK)
        return code;
    code = find_in(kind, &folders, ret_path);
    plugin_folders_free(&folders);
    return code;
}
