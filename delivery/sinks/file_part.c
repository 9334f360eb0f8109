/* file_part.c - see file_part.h. */
#include "file_part.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../lib/base/sync.h"
#include "file_names.h"
#include "file_tend.h"
#include "lines.h"

int part_unavailable(const char *path, int err)
{
    return spool_sink_error(SPOOL_EUNAVAILABLE, "%s: %s", path, spool_strerror(err));
}

/* ----------------------------------------------------------------------------------------------------------- beginning
 */

static void part_free(struct part *part)
{
    if (part->fd >= 0)
        close(part->fd);
    buffer_free(&part->lines);
    free(part->path);
    free(part);
}

static int part_new(const char *base, struct part **ret)
{
    struct part *part = calloc(1, sizeof *part + strlen(base) + 1);
    if (!part)
        return ENOMEM;
    part->fd = -1;
    strcpy(part->base, base);
    *ret = part;
    return SPOOL_OK;
}

/* Another path may have the same name for one of its files, in odd templates: a file has one owner. */
static bool is_taken(const struct parts *parts, const char *path)
{
    const struct part *lists[] = {parts->files, parts->retired};
    for (size_t i = 0; i < 2; i++)
        for (const struct part *part = lists[i]; part; part = part->next)
            if (strcmp(part->path, path) == 0)
                return true;
    return false;
}

/* May there be several files of a path? If not, nobody looks for others, which takes its time in a large folder. */
static bool is_numbered(const struct parts_options *o)
{
    return o->rotate_bytes > 0 || o->rotate_ms > 0 || o->keep > 0 || o->tend;
}

/* Puts the file's name and protects it. EAGAIN: it is somebody else's, or compressed by now. */
static int name_file(struct parts *parts, struct part *part)
{
    char path[FILE_PATH_MAX];
    file_path_number(part->base, part->number, path);
    if (is_taken(parts, path))
        return EAGAIN;
    free(part->path);
    part->path = strdup(path);
    int err = part->path ? tend_protect(parts->options.tend, path) : ENOMEM;
    if (err == SPOOL_OK && is_numbered(&parts->options) && file_is_compressed(path))
        err = EAGAIN;
    if (err == EAGAIN)
        tend_release(parts->options.tend, path);
    return err;
}

/* One that nobody wrote to for as long as a file is written to is full, whoever asks: it may be compressed at any time. */
static bool is_old(const struct parts *parts, const struct stat *st)
{
    uint64_t now_ns = real_ns(),
             changed_ns = (uint64_t)st->st_mtim.tv_sec * 1000000000u + (uint64_t)st->st_mtim.tv_nsec;
    return parts->options.rotate_ms > 0 && st->st_size > 0 && now_ns > changed_ns &&
           now_ns - changed_ns >= parts->options.rotate_ms * NS_PER_MS;
}

/* Opens part->path. EAGAIN: its time is over, the next one is to be taken. */
static int open_named(struct parts *parts, struct part *part, bool is_new)
{
    struct stat st;
    const int flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK;
    part->fd = open(part->path, flags | (is_new ? O_EXCL : 0), parts->options.mode);
    if (part->fd < 0)
        return is_new && errno == EEXIST ? EAGAIN : errno;
    if (fstat(part->fd, &st) != 0)
        return errno;
    if (!S_ISREG(st.st_mode))
        return EINVAL;
    part->dev = st.st_dev;
    part->ino = st.st_ino;
    part->size = part->checked = part->before = (uint64_t)st.st_size;
    part->begun_ns = part->used_ns = mono_ns();
    if (!is_old(parts, &st))
        return SPOOL_OK;
    close(part->fd);
    part->fd = -1;
    return EAGAIN;
}

/* The last file of the path, or the first number that is free. */
static int find_and_open(struct parts *parts, struct part *part, bool next)
{
    bool compressed = false;
    int err = is_numbered(&parts->options) ? file_names_last(part->base, &part->number, &compressed) : SPOOL_OK;
    for (bool is_new = next || compressed; err == SPOOL_OK; is_new = true) {
        if (is_new)
            part->number++;
        err = name_file(parts, part);
        if (err == SPOOL_OK) {
            err = open_named(parts, part, is_new);
            if (err == SPOOL_OK)
                return SPOOL_OK;
            tend_release(parts->options.tend, part->path);
        }
        if (err == EAGAIN)
            err = SPOOL_OK;
    }
    return err;
}

static int note(struct parts *parts, const struct part *part)
{
    struct buffer line = {0};
    int err = ledger_put(&line, parts->ledger.number + 1, part->dev, part->ino, part->size, part->path);
    if (err == SPOOL_OK)
        err = ledger_write(&parts->ledger, &line, false);
    buffer_free(&line);
    return err;
}

/* Best effort: what cannot be removed is only old. */
static void remove_old(const struct parts *parts, const struct part *part)
{
    char old[FILE_PATH_MAX];
    uint64_t keep = parts->options.keep;
    if (keep == 0 || part->number <= keep)
        return;
    file_path_number(part->base, part->number - (unsigned)keep - 1, old);
    char zst[FILE_PATH_MAX + sizeof FILE_ZST_SUFFIX];
    snprintf(zst, sizeof zst, "%s%s", old, FILE_ZST_SUFFIX);
    unlink(old);
    unlink(zst);
}

static void push(struct part **list, struct part *part)
{
    part->next = *list;
    *list = part;
}

int part_begin(struct parts *parts, const char *base, bool next, struct part **ret)
{
    struct part *part = NULL;
    bool sync = parts->ledger.sync;
    int err = part_new(base, &part);
    if (err != SPOOL_OK)
        return part_unavailable(base, err);
    err = file_path_make_parents(base, sync);
    if (err == SPOOL_OK)
        err = find_and_open(parts, part, next);
    if (err == SPOOL_OK && sync)
        err = file_path_sync_parent(part->path);
    if (err == SPOOL_OK)
        err = note(parts, part);
    if (err != SPOOL_OK) {
        int code = part_unavailable(part->path ? part->path : base, err);
        if (part->fd >= 0)
            tend_release(parts->options.tend, part->path);
        part_free(part);
        return code;
    }
    push(&parts->files, part);
    parts->count++;
    remove_old(parts, part);
    *ret = part;
    return SPOOL_OK;
}

/* ------------------------------------------------------------------------------------------------------------- writing
 */

bool part_is_still_there(const struct part *part)
{
    struct stat st;
    if (stat(part->path, &st) == 0 && st.st_dev == part->dev && st.st_ino == part->ino &&
        (uint64_t)st.st_size >= part->size)
        return true;
    delivery_sink_note("%s was moved, removed or cut by another program: it is begun anew", part->path);
    return false;
}

bool part_is_full(const struct parts *parts, const struct part *part, size_t more)
{
    const struct parts_options *o = &parts->options;
    return part->size > 0 && ((o->rotate_bytes > 0 && part->size + more > o->rotate_bytes) ||
                              (o->rotate_ms > 0 && mono_ns() - part->begun_ns >= o->rotate_ms * NS_PER_MS));
}

int part_append(struct parts *parts, struct part *part)
{
    int err = part->torn && ftruncate(part->fd, (off_t)part->size) != 0 ? errno : SPOOL_OK;
    part->torn = err != SPOOL_OK;
    if (err == SPOOL_OK)
        err = lines_write(part->fd, part->lines.data, part->lines.size);
    if (err == SPOOL_OK && parts->options.sync_batches && fdatasync(part->fd) != 0)
        err = errno;
    if (err == SPOOL_OK)
        part->size += part->lines.size;
    else
        part->torn = ftruncate(part->fd, (off_t)part->size) != 0;
    part->used_ns = mono_ns();
    return err == SPOOL_OK ? SPOOL_OK : part_unavailable(part->path, err);
}

void part_undo(struct part *part)
{
    if (part->size == part->before)
        return;
    part->size = part->before;
    part->torn = ftruncate(part->fd, (off_t)part->size) != 0;
}

/* Nothing more is written to it: on disk now, so that it needs no descriptor until its line is. */
static void retire(struct parts *parts, struct part *part)
{
    struct part **at = &parts->files;
    while (*at != part)
        at = &(*at)->next;
    *at = part->next;
    parts->count--;
    close(part->fd);
    part->fd = -1;
    push(&parts->retired, part);
}

int part_rotate(struct parts *parts, struct part *part, struct part **ret)
{
    struct part *next = NULL;
    if (part->torn && ftruncate(part->fd, (off_t)part->size) != 0)
        return part_unavailable(part->path, errno);
    part->torn = false;
    if (parts->ledger.sync && fdatasync(part->fd) != 0) {
        parts->doubtful = true;
        return part_unavailable(part->path, errno);
    }
    int code = part_begin(parts, part->base, true, &next);
    if (code != SPOOL_OK)
        return code;
    next->lines = part->lines;
    part->lines = (struct buffer){0};
    retire(parts, part);
    *ret = next;
    return SPOOL_OK;
}

/* --------------------------------------------------------------------------------------------------------------- ending
 */

bool part_is_settled(const struct parts *parts, const struct part *part)
{
    return !part->torn && part->lines.size == 0 && part->size == part->checked &&
           delivery_sink_stored() >= parts->given;
}

void part_drop(struct parts *parts, struct part **at)
{
    struct part *part = *at;
    *at = part->next;
    if (part->fd >= 0)
        parts->count--;
    tend_release(parts->options.tend, part->path);
    part_free(part);
}
