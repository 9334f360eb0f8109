/* file_trail.c - see file_trail.h. */
#include "file_trail.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../delivery.h"
#include "lines.h"

int file_trail_init(struct file_trail *trail, const char *pattern)
{
    /* The directory must not depend on the time: the part of the template up to the last '/' before any '%'. */
    size_t plain = strcspn(pattern, "%");
    while (plain > 0 && pattern[plain - 1] != '/')
        plain--;
    int size = snprintf(trail->path, sizeof trail->path, "%.*s.%s.trail", (int)plain, pattern, pattern + plain);
    if (size >= (int)sizeof trail->path)
        return spool_sink_error(SPOOL_ECONFIG, "path \"%.100s\" is too long", pattern);
    for (char *p = trail->path + plain; *p; p++)
        if (*p == '/')
            *p = '_';
    trail->last = 0;
    return SPOOL_OK;
}

/* Cuts the file back to what it was when it was begun; one that was new is removed. */
static int cut_back(const char *path, uint64_t dev, uint64_t ino, uint64_t begun_bytes)
{
    struct stat st;
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT || errno == ELOOP || errno == ENXIO ? SPOOL_OK : errno;
    int err = SPOOL_OK;
    if (fstat(fd, &st) != 0)
        err = errno;
    else if (st.st_dev == (dev_t)dev && st.st_ino == (ino_t)ino && (uint64_t)st.st_size >= begun_bytes)
        if (ftruncate(fd, (off_t)begun_bytes) != 0 || fsync(fd) != 0 || (begun_bytes == 0 && unlink(path) != 0))
            err = errno;
    close(fd);
    return err;
}

/* One line; false ends the trail. */
static bool read_line(FILE *file, char line[FILE_PATH_MAX + 128], uint64_t ret[4], const char **ret_path)
{
    int at = 0;
    if (!fgets(line, FILE_PATH_MAX + 128, file))
        return false;
    char *end = strchr(line, '\n');
    if (!end || sscanf(line, "%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %n", &ret[0], &ret[1], &ret[2], &ret[3],
                       &at) != 4)
        return false;
    *end = '\0';
    *ret_path = line + at;
    return at > 0 && line[at] != '\0';
}

int file_trail_rewind(struct file_trail *trail, uint64_t number)
{
    char line[FILE_PATH_MAX + 128];
    uint64_t field[4], before = 0;
    const char *path;
    int err = SPOOL_OK;
    FILE *file = fopen(trail->path, "re");
    if (!file && errno != ENOENT)
        return errno;
    for (; file && err == SPOOL_OK && read_line(file, line, field, &path) && field[0] > before; before = field[0])
        if (field[0] > number)
            err = cut_back(path, field[1], field[2], field[3]);
    if (file)
        fclose(file);
    if (err == SPOOL_OK && unlink(trail->path) != 0 && errno != ENOENT)
        err = errno;
    if (err == SPOOL_OK)
        trail->last = number > before ? number : before;
    return err;
}

int file_trail_add(struct file_trail *trail, const char *path, const struct stat *st, bool sync)
{
    char line[FILE_PATH_MAX + 128];
    int size = snprintf(line, sizeof line, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %s\n", trail->last + 1,
                        (uint64_t)st->st_dev, (uint64_t)st->st_ino, (uint64_t)st->st_size, path);
    int fd = open(trail->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return errno;
    int err = lines_write(fd, line, (size_t)size);
    if (err == SPOOL_OK && sync && fdatasync(fd) != 0)
        err = errno;
    close(fd);
    if (err == SPOOL_OK)
        trail->last++;
    return err;
}
