/* file_path.c - see file_path.h. */
#include "file_path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../delivery.h"

int file_path_expand(const char *pattern, int64_t unix_s, char ret[FILE_PATH_MAX])
{
    time_t seconds = (time_t)unix_s;
    struct tm utc;
    char path[FILE_PATH_MAX - 16]; /* room for a number */
    if (!gmtime_r(&seconds, &utc) || strftime(path, sizeof path, pattern, &utc) == 0)
        return spool_sink_error(SPOOL_ECONFIG, "path \"%.100s\" is too long or expands to nothing", pattern);
    memcpy(ret, path, strlen(path) + 1);
    return SPOOL_OK;
}

void file_path_number(const char *base, unsigned number, char ret[FILE_PATH_MAX])
{
    const char *name = strrchr(base, '/');
    name = name ? name + 1 : base;
    const char *dot = strrchr(name, '.');
    int stem = (int)(dot && dot > name ? dot - base : (ptrdiff_t)strlen(base));
    if (number == 0)
        snprintf(ret, FILE_PATH_MAX, "%s", base);
    else
        snprintf(ret, FILE_PATH_MAX, "%.*s-%06u%s", stem, base, number, base + stem);
}

int file_path_sync_parent(const char *path)
{
    char dir[FILE_PATH_MAX];
    snprintf(dir, sizeof dir, "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash)
        slash[slash == dir ? 1 : 0] = '\0';
    int fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    int err = fsync(fd) == 0 ? SPOOL_OK : errno;
    close(fd);
    return err;
}

/* The name of a directory lasts once the one above is flushed: also of one that was there, since whoever made it may
 * have died before that. Who may not read the one above flushes the file system of what he made. */
static int make_one(const char *dir, bool sync)
{
    bool made = mkdir(dir, 0755) == 0;
    if (!made && errno != EEXIST)
        return errno;
    int err = sync ? file_path_sync_parent(dir) : SPOOL_OK;
    if (!made || err != EACCES)
        return made || (err != EACCES && err != EROFS) ? err : SPOOL_OK;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    err = fd < 0 || syncfs(fd) != 0 ? errno : SPOOL_OK;
    if (fd >= 0)
        close(fd);
    return err;
}

int file_path_make_parents(const char *path, bool sync)
{
    char part[FILE_PATH_MAX];
    int err = SPOOL_OK;
    snprintf(part, sizeof part, "%s", path);
    for (char *slash = strchr(part + 1, '/'); slash && err == SPOOL_OK; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        err = make_one(part, sync);
        *slash = '/';
    }
    return err;
}
