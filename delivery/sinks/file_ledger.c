/* file_ledger.c - see file_ledger.h. */
#include "file_ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../delivery.h"
#include "lines.h"

enum { LINE_MAX_BYTES = FILE_PATH_MAX + 128 };

int ledger_init(struct ledger *ledger, const char *pattern, bool sync)
{
    size_t plain = strcspn(pattern, "%{");
    while (plain > 0 && pattern[plain - 1] != '/')
        plain--;
    int size = snprintf(ledger->path, sizeof ledger->path, "%.*s.%s.ledger", (int)plain, pattern, pattern + plain);
    if (size >= (int)sizeof ledger->path - 8 || strlen(pattern + plain) > 200)
        return spool_sink_error(SPOOL_ECONFIG, "path \"%.100s\" is too long", pattern);
    for (char *p = ledger->path + plain; *p; p++)
        if (*p == '/')
            *p = '_';
    ledger->sync = sync;
    return SPOOL_OK;
}

int ledger_put(struct buffer *out, uint64_t number, dev_t dev, ino_t ino, uint64_t size, const char *path)
{
    return buffer_printf(out, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %s\n", number, (uint64_t)dev,
                         (uint64_t)ino, size, path);
}

int ledger_write(struct ledger *ledger, const struct buffer *lines, bool anew)
{
    char tmp[FILE_PATH_MAX + 8];
    snprintf(tmp, sizeof tmp, "%s%s", ledger->path, anew ? ".tmp" : "");
    int fd = open(tmp, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | (anew ? O_TRUNC : O_APPEND), 0600);
    if (fd < 0)
        return errno;
    int err = lines_write(fd, lines->data, lines->size);
    if (err == SPOOL_OK && ledger->sync && fdatasync(fd) != 0)
        err = errno;
    if (err != SPOOL_OK && !anew && ftruncate(fd, (off_t)ledger->bytes) != 0)
        ledger->doubtful = true; /* half a line would end the ledger */
    close(fd);
    if (err == SPOOL_OK && anew && rename(tmp, ledger->path) != 0)
        err = errno;
    if (err == SPOOL_OK && ledger->sync && (anew || ledger->bytes == 0))
        err = file_path_sync_parent(ledger->path);
    if (err == SPOOL_OK)
        ledger->bytes = anew ? lines->size : ledger->bytes + lines->size;
    return err;
}

size_t ledger_checkpoint(struct ledger *ledger, void *buf, size_t cap)
{
    int size = snprintf(buf, cap, "2 %" PRIu64, ++ledger->number);
    return size > 0 && (size_t)size < cap ? (size_t)size : SIZE_MAX;
}

/* ------------------------------------------------------------------------------------------------------------ recovery
 */

/* What the ledger says of a file. */
struct entry {
    struct entry *next;
    uint64_t dev, ino, size;
    bool counts; /* by a line that counts */
    char path[];
};

static bool read_line(FILE *file, char line[LINE_MAX_BYTES], uint64_t field[4], const char **ret_path)
{
    int at = 0;
    if (!fgets(line, LINE_MAX_BYTES, file))
        return false;
    char *end = strchr(line, '\n');
    if (!end || sscanf(line, "%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %n", &field[0], &field[1], &field[2],
                       &field[3], &at) != 4)
        return false;
    *end = '\0';
    *ret_path = line + at;
    return at > 0 && line[at] != '\0';
}

/* A later line that counts has the last word; of those that do not, the first, or one with which the file began anew. */
static int take_line(struct entry **list, const uint64_t field[4], const char *path, uint64_t number)
{
    struct entry *e = *list;
    while (e && (e->dev != field[1] || e->ino != field[2] || strcmp(e->path, path) != 0))
        e = e->next;
    bool is_new = !e;
    if (is_new && (e = calloc(1, sizeof *e + strlen(path) + 1)) != NULL) {
        strcpy(e->path, path);
        e->next = *list;
        *list = e;
    }
    if (!e)
        return ENOMEM;
    if (is_new || field[0] <= number || field[3] < e->size) {
        e->dev = field[1];
        e->ino = field[2];
        e->size = field[3];
        e->counts = field[0] <= number;
    }
    return SPOOL_OK;
}

static int read_ledger(const struct ledger *ledger, uint64_t number, struct entry **ret)
{
    char line[LINE_MAX_BYTES];
    const char *path;
    uint64_t field[4], before = 0;
    FILE *file = fopen(ledger->path, "re");
    if (!file)
        return errno == ENOENT ? SPOOL_OK : errno;
    int err = SPOOL_OK;
    for (; err == SPOOL_OK && read_line(file, line, field, &path) && field[0] >= before; before = field[0])
        err = take_line(ret, field, path, number);
    if (err == SPOOL_OK && ferror(file))
        err = EIO;
    fclose(file);
    return err;
}

/* One that is somebody else's by now is left as it is. errno. */
static int cut_back(const struct entry *e)
{
    struct stat st;
    int fd = open(e->path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT || errno == ELOOP || errno == ENXIO ? SPOOL_OK : errno;
    int err = fstat(fd, &st) == 0 ? SPOOL_OK : errno;
    bool ours = err == SPOOL_OK && st.st_dev == (dev_t)e->dev && st.st_ino == (ino_t)e->ino;
    if (ours && (uint64_t)st.st_size < e->size)
        delivery_sink_note("%s was cut by another program since the last checkpoint: it is left as it is", e->path);
    else if (ours && (uint64_t)st.st_size > e->size && (ftruncate(fd, (off_t)e->size) != 0 || fsync(fd) != 0))
        err = errno;
    if (ours && err == SPOOL_OK && e->size == 0 && !e->counts && unlink(e->path) != 0)
        err = errno;
    close(fd);
    return err;
}

static int cut_all_back(const struct ledger *ledger, uint64_t number)
{
    struct entry *list = NULL;
    const char *failed = ledger->path;
    int err = read_ledger(ledger, number, &list);
    for (struct entry *e = list; e && err == SPOOL_OK; e = e->next) {
        err = cut_back(e);
        failed = err ? e->path : ledger->path;
    }
    if (err == SPOOL_OK && unlink(ledger->path) != 0 && errno != ENOENT)
        err = errno;
    int code = err == SPOOL_OK ? SPOOL_OK : spool_sink_error(SPOOL_EUNAVAILABLE, "%s: %s", failed, spool_strerror(err));
    for (struct entry *e = list, *next; e; e = next) {
        next = e->next;
        free(e);
    }
    return code;
}

static int read_checkpoint(const void *checkpoint, size_t size, uint64_t *ret)
{
    char text[64] = "", rest;
    unsigned version = 0;
    memcpy(text, checkpoint, size < sizeof text ? size : sizeof text - 1);
    if (sscanf(text, "%u %" SCNu64 "%c", &version, ret, &rest) == 2 && version == 2)
        return SPOOL_OK;
    return spool_sink_error(SPOOL_ECONFIG,
                            "the checkpoint is of a file sink with another path: remove the sink and add it again");
}

int ledger_recover(struct ledger *ledger, const void *checkpoint, size_t size)
{
    uint64_t number = 0;
    int code = size > 0 ? read_checkpoint(checkpoint, size, &number) : SPOOL_OK;
    int err = code == SPOOL_OK ? file_path_make_parents(ledger->path, ledger->sync) : SPOOL_OK;
    if (code == SPOOL_OK && err == SPOOL_OK &&
        size == 0) /* nothing is ours yet; one would be that of an earlier sink */
        err = unlink(ledger->path) == 0 || errno == ENOENT ? SPOOL_OK : errno;
    if (err != SPOOL_OK)
        return spool_sink_error(SPOOL_EUNAVAILABLE, "%s: %s", ledger->path, spool_strerror(err));
    if (code == SPOOL_OK && size > 0)
        code = cut_all_back(ledger, number);
    ledger->number = number;
    return code;
}
