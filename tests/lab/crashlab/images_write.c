/* images_write.c - an image as files, and the comparison of files with an image. */
#include "images.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---------------------------------------------------------------------------------------------------------- writing */

/* Sectors of zeros stay holes. */
static int write_content(int fd, const struct disk_content *content)
{
    if (ftruncate(fd, (off_t)content->size) != 0)
        return errno;
    for (size_t i = 0; i < content->sectors;) {
        size_t end = i;
        while (end < content->sectors && content->hash[end])
            end++;
        size_t from = i * SECTOR, to = end * SECTOR < content->size ? end * SECTOR : content->size;
        if (to > from && pwrite(fd, content->bytes + from, to - from, (off_t)from) != (ssize_t)(to - from))
            return errno ? errno : EIO;
        i = end + 1;
    }
    return 0;
}

/* Any bytes are fine there, so now and then they are anything. */
static int write_hidden(int fd, uint64_t seed)
{
    uint64_t words[512];
    for (size_t i = 0; i < 512; i++)
        words[i] = random_next(&seed);
    return pwrite(fd, words, sizeof words, 0) == (ssize_t)sizeof words ? 0 : EIO;
}

static int write_file(const struct image *image, int dir_fd, const struct disk_entry *entry, struct trace *attach)
{
    const struct disk_content *content = image->content[entry->file];
    int fd = openat(dir_fd, entry->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    struct stat st;
    if (fd < 0)
        return errno;
    int err = write_content(fd, content);
    if (!err && image->disk->file[entry->file].is_hidden && content->size == 4096 && image->seed % 4 == 0)
        err = write_hidden(fd, image->seed);
    if (!err && attach && fstat(fd, &st) == 0)
        trace_node_set(attach, entry->file, st.st_ino, entry->dir, entry->name, false);
    close(fd);
    return err;
}

static int write_directory(const struct image *image, const char *path, uint32_t id, struct trace *attach)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err = fd < 0 ? errno : 0;
    for (size_t i = 0; !err && i < image->tree.count; i++) {
        const struct disk_entry *entry = &image->tree.entry[i];
        char sub[1024];
        struct stat st;
        if (entry->dir != id)
            continue;
        if (!image->disk->file[entry->file].is_directory) {
            err = write_file(image, fd, entry, attach);
            continue;
        }
        snprintf(sub, sizeof sub, "%s/%s", path, entry->name);
        err = mkdirat(fd, entry->name, 0700) ? errno : write_directory(image, sub, entry->file, attach);
        if (!err && attach && stat(sub, &st) == 0)
            trace_node_set(attach, entry->file, st.st_ino, id, entry->name, true);
    }
    if (fd >= 0)
        close(fd);
    return err;
}

int image_write(const struct image *image, const char *path, struct trace *attach)
{
    if (mkdir(path, 0700) != 0)
        return errno;
    return write_directory(image, path, TRACE_ROOT, attach);
}

/* -------------------------------------------------------------------------------------------------------- comparing */

static bool differs(char *why, size_t size, const char *dir, const char *name, const char *how)
{
    snprintf(why, size, "%s/%s %s", dir, name, how);
    return false;
}

static bool file_matches(const struct disk_content *content, const char *dir, const char *name, char *why, size_t size)
{
    char path[1024], how[64];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0)
        return differs(why, size, dir, name, "cannot be opened");
    snprintf(how, sizeof how, "has %lld bytes instead of %zu", (long long)st.st_size, content->size);
    bool matches = (size_t)st.st_size == content->size || differs(why, size, dir, name, how);
    uint8_t bytes[4096];
    for (size_t at = 0; matches && at < content->size; at += sizeof bytes) {
        size_t n = content->size - at < sizeof bytes ? content->size - at : sizeof bytes;
        snprintf(how, sizeof how, "differs near byte %zu", at);
        if (pread(fd, bytes, n, (off_t)at) != (ssize_t)n || memcmp(bytes, content->bytes + at, n) != 0)
            matches = differs(why, size, dir, name, how);
    }
    close(fd);
    return matches;
}

static size_t count_entries(const char *path)
{
    DIR *dir = opendir(path);
    size_t n = 0;
    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return n < 2 ? 0 : n - 2;
}

static bool directory_matches(const struct image *image, const char *path, uint32_t id, char *why, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < image->tree.count; i++) {
        const struct disk_entry *entry = &image->tree.entry[i];
        const struct disk_file *file = &image->disk->file[entry->file];
        char sub[1024];
        if (entry->dir != id)
            continue;
        n++;
        snprintf(sub, sizeof sub, "%s/%s", path, entry->name);
        if (file->is_hidden)
            continue;
        if (file->is_directory ? !directory_matches(image, sub, entry->file, why, size)
                               : !file_matches(image->content[entry->file], path, entry->name, why, size))
            return false;
    }
    if (n == count_entries(path))
        return true;
    return differs(why, size, path, "", "has other entries than were recorded");
}

bool image_matches(const struct image *image, const char *path, char *why, size_t size)
{
    return directory_matches(image, path, TRACE_ROOT, why, size);
}

/* --------------------------------------------------------------------------------------------------------- removing */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st, (void)where;
    return (type == FTW_DP ? rmdir(path) : unlink(path)) && errno != ENOENT ? -1 : 0;
}

void remove_tree(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
