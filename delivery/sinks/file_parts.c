/* file_parts.c - many files at once, each event exactly once.
 *
 * Lines are appended to the file that the event's path names; files are never renamed or numbered. What is acknowledged
 * of each stands in a ledger, a text file beside the first folder that does not depend on anything,
 * ".<template>.ledger":
 *
 *     <number> <device> <inode> <size> <path>
 *
 * A line is written and flushed before a file is first written to in this ledger (its size then), and at each
 * checkpoint for every file written to since the last. A checkpoint is version 2 of the file sink's, "2 <number>":
 * lines with that number and smaller ones count. At open each file is cut back to its last line that counts, and one
 * that has none to its first line; then the ledger starts over, empty. A line is valid if it ends in a line feed and
 * its number is not smaller than the one before; the first that is not ends the ledger.
 *
 * When the ledger has grown, it is written anew with what the last two checkpoints say, once the last but one is known
 * to be stored. A file that nobody wrote to for a while, or the one used longest ago when there are many, is closed; it
 * is if all of it is covered by a checkpoint that is stored, so that nothing in the ledger is needed of it. */
#include "file_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../lib/base/buffer.h"
#include "../../lib/base/sync.h"
#include "lines.h"

enum { FILES_SOFT = 128, FILES_HARD = 1024, LEDGER_MAX = 1 << 20, LINE_MAX_BYTES = FILE_PATH_MAX + 128 };
static const uint64_t idle_ns = 60000 * NS_PER_MS;

struct part {
    struct part *next;
    int fd;
    dev_t dev;
    ino_t ino;
    uint64_t size, checked; /* now; as of the last checkpoint */
    uint64_t used_ns;
    bool torn;
    struct buffer lines; /* of this batch */
    char path[];
};

struct parts {
    struct parts_options options;
    char ledger[FILE_PATH_MAX];
    struct part *files;
    size_t count;
    uint64_t number; /* of the last line */
    uint64_t given;  /* of the last checkpoint: it is stored when delivery_sink_stored() has come there */
    uint64_t ledger_bytes;
    bool doubtful; /* a flush failed: what it was for may be lost */
};

static int unavailable(const char *path, int err)
{
    return spool_sink_error(SPOOL_EUNAVAILABLE, "%s: %s", path, spool_strerror(err));
}

/* ------------------------------------------------------------------------------------------------------------- ledger
 */

static int name_ledger(struct parts *parts)
{
    const char *pattern = parts->options.pattern;
    size_t plain = strcspn(pattern, "%{");
    while (plain > 0 && pattern[plain - 1] != '/')
        plain--;
    int size = snprintf(parts->ledger, sizeof parts->ledger, "%.*s.%s.ledger", (int)plain, pattern, pattern + plain);
    if (size >= (int)sizeof parts->ledger - 8 || strlen(pattern + plain) > 200)
        return spool_sink_error(SPOOL_ECONFIG, "path \"%.100s\" is too long", pattern);
    for (char *p = parts->ledger + plain; *p; p++)
        if (*p == '/')
            *p = '_';
    return SPOOL_OK;
}

static int put_line(struct buffer *out, const struct part *part, uint64_t number, uint64_t size)
{
    return buffer_printf(out, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %s\n", number, (uint64_t)part->dev,
                         (uint64_t)part->ino, size, part->path);
}

/* Appends the lines, or with `anew` puts them in place of all. On disk when it returns. errno. */
static int write_ledger(struct parts *parts, const struct buffer *lines, bool anew)
{
    char tmp[FILE_PATH_MAX + 8];
    snprintf(tmp, sizeof tmp, "%s%s", parts->ledger, anew ? ".tmp" : "");
    int fd = open(tmp, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | (anew ? O_TRUNC : O_APPEND), 0600);
    if (fd < 0)
        return errno;
    bool sync = parts->options.sync_checkpoints;
    int err = lines_write(fd, lines->data, lines->size);
    if (err == SPOOL_OK && sync && fdatasync(fd) != 0)
        err = errno;
    if (err != SPOOL_OK && !anew && ftruncate(fd, (off_t)parts->ledger_bytes) != 0)
        parts->doubtful = true; /* half a line would end the ledger: nothing more is said before it is opened anew */
    close(fd);
    if (err == SPOOL_OK && anew && rename(tmp, parts->ledger) != 0)
        err = errno;
    if (err == SPOOL_OK && sync && (anew || parts->ledger_bytes == 0))
        err = file_path_sync_parent(parts->ledger);
    if (err == SPOOL_OK)
        parts->ledger_bytes = anew ? lines->size : parts->ledger_bytes + lines->size;
    return err;
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

/* A later line that counts has the last word; of those that do not, the first. */
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
    if (is_new || field[0] <= number) {
        e->dev = field[1];
        e->ino = field[2];
        e->size = field[3];
        e->counts = field[0] <= number;
    }
    return SPOOL_OK;
}

static int read_ledger(struct parts *parts, uint64_t number, struct entry **ret)
{
    char line[LINE_MAX_BYTES];
    const char *path;
    uint64_t field[4], before = 0;
    FILE *file = fopen(parts->ledger, "re");
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

static int recover(struct parts *parts, uint64_t number)
{
    struct entry *list = NULL;
    const char *failed = parts->ledger;
    int err = read_ledger(parts, number, &list);
    for (struct entry *e = list; e && err == SPOOL_OK; e = e->next) {
        err = cut_back(e);
        failed = err ? e->path : parts->ledger;
    }
    if (err == SPOOL_OK && unlink(parts->ledger) != 0 && errno != ENOENT)
        err = errno;
    int code = err == SPOOL_OK ? SPOOL_OK : unavailable(failed, err);
    for (struct entry *e = list, *next; e; e = next) {
        next = e->next;
        free(e);
    }
    return code;
}

/* ------------------------------------------------------------------------------------------------------ open and close
 */

static void drop(struct parts *parts, struct part **at)
{
    struct part *part = *at;
    *at = part->next;
    parts->count--;
    if (part->fd >= 0)
        close(part->fd);
    buffer_free(&part->lines);
    free(part);
}

void parts_close(struct parts *parts)
{
    if (!parts)
        return;
    while (parts->files)
        drop(parts, &parts->files);
    free(parts);
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

int parts_open(const struct parts_options *options, const void *checkpoint, size_t size, struct parts **ret)
{
    uint64_t number = 0;
    struct parts *parts = calloc(1, sizeof *parts);
    if (!parts)
        return spool_sink_error(ENOMEM, "out of memory");
    parts->options = *options;
    int code = name_ledger(parts);
    if (code == SPOOL_OK && size > 0)
        code = read_checkpoint(checkpoint, size, &number);
    int err = code == SPOOL_OK ? file_path_make_parents(parts->ledger, options->sync_checkpoints) : SPOOL_OK;
    if (err != SPOOL_OK)
        code = unavailable(parts->ledger, err);
    if (code == SPOOL_OK && size == 0) /* nothing is ours yet; a ledger would be that of an earlier sink */
        code = unlink(parts->ledger) == 0 || errno == ENOENT ? SPOOL_OK : unavailable(parts->ledger, errno);
    else if (code == SPOOL_OK)
        code = recover(parts, number);
    parts->number = number;
    if (code == SPOOL_OK)
        *ret = parts;
    else
        parts_close(parts);
    return code;
}

/* --------------------------------------------------------------------------------------------------------------- files
 */

/* All of it is covered by a checkpoint that the store has. */
static bool is_settled(const struct parts *parts, const struct part *part)
{
    return !part->torn && part->lines.size == 0 && part->size == part->checked &&
           delivery_sink_stored() >= parts->given;
}

static void close_idle(struct parts *parts)
{
    uint64_t now = mono_ns();
    for (struct part **at = &parts->files; *at;)
        if (now - (*at)->used_ns > idle_ns && is_settled(parts, *at))
            drop(parts, at);
        else
            at = &(*at)->next;
}

static void close_oldest(struct parts *parts)
{
    struct part **oldest = NULL;
    for (struct part **at = &parts->files; *at; at = &(*at)->next)
        if (is_settled(parts, *at) && (!oldest || (*at)->used_ns < (*oldest)->used_ns))
            oldest = at;
    if (oldest)
        drop(parts, oldest);
}

static int open_file(struct parts *parts, struct part *part)
{
    struct stat st;
    bool sync = parts->options.sync_checkpoints;
    int err = file_path_make_parents(part->path, sync);
    if (err != SPOOL_OK)
        return err;
    part->fd = open(part->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK,
                    parts->options.mode);
    if (part->fd < 0 || fstat(part->fd, &st) != 0)
        return errno;
    if (!S_ISREG(st.st_mode))
        return EINVAL;
    part->dev = st.st_dev;
    part->ino = st.st_ino;
    part->size = part->checked = (uint64_t)st.st_size;
    return sync ? file_path_sync_parent(part->path) : SPOOL_OK;
}

/* Opens it, and says in the ledger that it is ours from here on. */
static int begin(struct parts *parts, const char *path, struct part **ret)
{
    struct buffer line = {0};
    struct part *part = calloc(1, sizeof *part + strlen(path) + 1);
    if (!part)
        return spool_sink_error(SPOOL_EUNAVAILABLE, "out of memory");
    strcpy(part->path, path);
    int err = open_file(parts, part);
    if (err == SPOOL_OK)
        err = put_line(&line, part, parts->number + 1, part->size);
    if (err == SPOOL_OK)
        err = write_ledger(parts, &line, false);
    buffer_free(&line);
    part->next = parts->files;
    parts->files = part;
    parts->count++;
    if (err != SPOOL_OK) {
        int code = unavailable(path, err);
        drop(parts, &parts->files);
        return code;
    }
    *ret = part;
    return SPOOL_OK;
}

/* Somebody may have moved or removed it; what was written is his. */
static bool is_still_there(struct part *part)
{
    struct stat st;
    if (stat(part->path, &st) == 0 && st.st_dev == part->dev && st.st_ino == part->ino &&
        (uint64_t)st.st_size >= part->size)
        return true;
    delivery_sink_note("%s was moved, removed or cut by another program: it is begun anew", part->path);
    return false;
}

/* The file of a path, with room for it. */
static int find(struct parts *parts, const char *path, struct part **ret)
{
    struct part **at = &parts->files;
    while (*at && strcmp((*at)->path, path) != 0)
        at = &(*at)->next;
    if (*at && (*at)->lines.size == 0 && !is_still_there(*at))
        drop(parts, at);
    else if (*at) {
        *ret = *at;
        return SPOOL_OK;
    }
    if (parts->count >= FILES_SOFT)
        close_oldest(parts);
    if (parts->count >= FILES_HARD)
        return spool_sink_error(SPOOL_EUNAVAILABLE, "more than %d files at once", FILES_HARD);
    return begin(parts, path, ret);
}

/* ---------------------------------------------------------------------------------------------------------- delivering
 */

/* All lines of the batch for this file, or none. */
static int append(struct parts *parts, struct part *part)
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
    return err == SPOOL_OK ? SPOOL_OK : unavailable(part->path, err);
}

/* Lines of one event into its file's buffer; *ret is NULL when it was rejected. */
static int sort_in(struct parts *parts, const char *pattern, struct spool_delivery *delivery, struct part **ret)
{
    char path[FILE_PATH_MAX];
    *ret = NULL;
    if (!parts_path(pattern, delivery->event, path)) {
        spool_delivery_fail(delivery, SPOOL_REJECTED, "its path would be too long");
        return SPOOL_OK;
    }
    int code = find(parts, path, ret);
    size_t before = code == SPOOL_OK ? (*ret)->lines.size : 0;
    if (code == SPOOL_OK)
        code = lines_render_one(&(*ret)->lines, delivery);
    if (code == SPOOL_OK && (*ret)->lines.size == before)
        *ret = NULL;
    return code;
}

static void mark(struct spool_delivery *batch, struct part *const *part_of, size_t n, const struct part *part)
{
    for (size_t i = 0; i < n; i++)
        if (part_of[i] == part)
            SPOOL_DELIVERY_AT(batch, i)->outcome = SPOOL_DELIVERED;
}

/* File by file: what was written before a failure counts. */
static int write_all(struct parts *parts, struct spool_delivery *batch, size_t n, struct part *const *part_of)
{
    int code = SPOOL_OK;
    for (struct part *part = parts->files; part; part = part->next) {
        if (part->lines.size == 0)
            continue;
        if (code == SPOOL_OK)
            code = append(parts, part);
        if (code == SPOOL_OK)
            mark(batch, part_of, n, part);
        buffer_free(&part->lines); /* with many files it is little that each has, and together too much to keep */
    }
    return code;
}

int parts_deliver(struct parts *parts, struct spool_delivery *batch, size_t n)
{
    char pattern[FILE_PATH_MAX];
    struct part **part_of = calloc(n ? n : 1, sizeof *part_of);
    if (!part_of)
        return spool_sink_error(SPOOL_EUNAVAILABLE, "out of memory");
    int code = file_path_expand(parts->options.pattern, (int64_t)(real_ns() / 1000000000u), pattern);
    for (size_t i = 0; i < n && code == SPOOL_OK; i++)
        code = sort_in(parts, pattern, SPOOL_DELIVERY_AT(batch, i), &part_of[i]);
    int written = write_all(parts, batch, n, part_of); /* also what was sorted before a failure */
    free(part_of);
    return code == SPOOL_OK ? written : code;
}

/* ---------------------------------------------------------------------------------------------------------- checkpoint
 */

static int sync_all(struct parts *parts)
{
    for (struct part *part = parts->files; part; part = part->next) {
        if (part->torn)
            return unavailable(part->path, EIO);
        if (part->size != part->checked && parts->options.sync_checkpoints && fdatasync(part->fd) != 0) {
            parts->doubtful = true;
            return unavailable(part->path, errno);
        }
    }
    return SPOOL_OK;
}

/* With `anew` two lines for every file, else one for each written to since the last checkpoint. */
static int make_lines(struct parts *parts, bool anew, struct buffer *out)
{
    int err = SPOOL_OK;
    for (struct part *part = parts->files; part && err == SPOOL_OK && anew; part = part->next)
        err = put_line(out, part, parts->number, part->checked);
    for (struct part *part = parts->files; part && err == SPOOL_OK; part = part->next)
        if (anew || part->size != part->checked)
            err = put_line(out, part, parts->number + 1, part->size);
    return err;
}

size_t parts_checkpoint(struct parts *parts, void *buf, size_t cap)
{
    struct buffer lines = {0};
    bool anew = parts->ledger_bytes > LEDGER_MAX && delivery_sink_stored() >= parts->given;
    int err = SPOOL_OK;
    if (parts->doubtful || sync_all(parts) != SPOOL_OK) /* it is opened anew then, and cut back */
        return SIZE_MAX;
    err = make_lines(parts, anew, &lines);
    if (err == SPOOL_OK && lines.size > 0)
        err = write_ledger(parts, &lines, anew);
    buffer_free(&lines);
    if (err != SPOOL_OK) {
        unavailable(parts->ledger, err);
        return SIZE_MAX;
    }
    for (struct part *part = parts->files; part; part = part->next)
        part->checked = part->size;
    parts->number++;
    parts->given = delivery_sink_given();
    close_idle(parts);
    int size = snprintf(buf, cap, "2 %" PRIu64, parts->number);
    return size > 0 && (size_t)size < cap ? (size_t)size : SIZE_MAX;
}
