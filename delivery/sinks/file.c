/* file.c - JSON Lines in files, each event exactly once.
 *
 * Settings: file_settings.c. Names: file_path.h. What is done to complete files: file_tend.h. A path with {agent} and the
 * like has many files at once: file_parts.c.
 *
 * Exactly once: a checkpoint says how far the file is acknowledged; what stands behind that after a crash was not, will
 * be delivered again, and is cut off at open. Files begun after the checkpoint are found by the trail (file_trail.h).
 * The first checkpoint is stored before the first event is delivered, so whoever has none has written nothing. A file
 * that is no longer the one we wrote (device and inode differ, or it is shorter) is somebody else's: it is left as it
 * is, told, and the next line begins a file of that name. The same is looked at before each write: another program may
 * move files away (logrotate), and goes on to read what it moved. Only what stood in it behind the last checkpoint when
 * a crash follows is then there twice, since it cannot be found to be cut off.
 *
 * Checkpoint, version 1, text: "1 <last trail line> <device> <inode> <offset> <number> <path>"; device, inode and
 * offset are 0 and the path "-" while no file is open. Recipe for a version 2: another first number, and a branch in
 * read_checkpoint(). */
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
#include "file_names.h"
#include "file_parts.h"
#include "file_path.h"
#include "file_settings.h"
#include "file_tend.h"
#include "file_trail.h"
#include "lines.h"
#include "sinks.h"

struct file {
    struct file_settings settings;
    struct file_trail trail;
    struct parts *parts;      /* NULL: there is one file at a time */
    struct tend *tend;        /* NULL: nothing is to be done with complete files */
    int fd;                   /* -1: none open */
    bool torn;                /* a failed write left bytes behind `size` that could not be cut off yet */
    bool doubtful;            /* a flush failed: what it was for may be lost, although the next one succeeds */
    char base[FILE_PATH_MAX]; /* the template, expanded */
    char path[FILE_PATH_MAX]; /* with the number */
    unsigned number;
    struct stat st;    /* device and inode of fd */
    uint64_t size;     /* whole lines */
    uint64_t begun_ns; /* monotonic */
    struct buffer lines;
};

static int unavailable(const struct file *f, int err)
{
    return spool_sink_error(SPOOL_EUNAVAILABLE, "%s: %s", *f->path ? f->path : f->settings.pattern,
                            spool_strerror(err));
}

/* --------------------------------------------------------------------------------------------------- beginning files
 */

static int sync_file(const struct file *f)
{
    return f->fd < 0 || fdatasync(f->fd) == 0 ? SPOOL_OK : errno;
}

static void close_file(struct file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
    f->torn = false;
}

/* Opens f->path, which must be a plain file, for appending. errno; ESTALE: it is compressed by now. */
static int open_path(struct file *f, int flags)
{
    int protected = tend_protect(f->tend, f->path);
    if (protected != SPOOL_OK || (f->tend && file_is_compressed(f->path)))
        return protected ? protected : ESTALE;
    int fd = open(f->path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | flags, f->settings.mode);
    if (fd < 0)
        return errno;
    int err = fstat(fd, &f->st) == 0 ? SPOOL_OK : errno;
    if (err == SPOOL_OK && !S_ISREG(f->st.st_mode))
        err = EINVAL;
    if (err != SPOOL_OK) {
        close(fd);
        return err;
    }
    f->fd = fd;
    f->size = (uint64_t)f->st.st_size;
    f->begun_ns = mono_ns();
    return SPOOL_OK;
}

/* The number to go on with when a name is first used: that of the last file there is of it, or behind one that is
 * compressed. */
static void find_last(struct file *f)
{
    struct stat st;
    f->number = 0;
    do
        file_path_number(f->base, ++f->number, f->path);
    while (lstat(f->path, &st) == 0 || file_is_compressed(f->path));
    file_path_number(f->base, --f->number, f->path);
    if (file_is_compressed(f->path))
        file_path_number(f->base, ++f->number, f->path);
}

/* The last file of the name, which may be compressed between two looks. errno. */
static int open_last(struct file *f)
{
    int err = ESTALE;
    for (int tries = 0; tries < 10 && err == ESTALE; tries++) {
        find_last(f);
        err = open_path(f, O_CREAT);
    }
    return err;
}

/* A new file with the next number that is free; never one that is there. errno. */
static int create_next(struct file *f)
{
    int err = EEXIST;
    while (err == EEXIST) {
        file_path_number(f->base, ++f->number, f->path);
        err = file_is_compressed(f->path) ? EEXIST : open_path(f, O_CREAT | O_EXCL);
    }
    return err;
}

static void remove_old(const struct file *f)
{
    char old[FILE_PATH_MAX];
    if (f->settings.keep == 0 || f->number <= f->settings.keep)
        return;
    file_path_number(f->base, f->number - (unsigned)f->settings.keep - 1, old);
    char zst[FILE_PATH_MAX + sizeof FILE_ZST_SUFFIX];
    snprintf(zst, sizeof zst, "%s%s", old, FILE_ZST_SUFFIX);
    unlink(old); /* best effort: what cannot be removed is only old */
    unlink(zst);
}

/* Makes it known and lasting that the open file is ours from here on. errno. */
static int record(struct file *f)
{
    bool sync = f->settings.flush != FLUSH_NONE;
    int err = file_trail_add(&f->trail, f->path, &f->st, sync);
    if (err == SPOOL_OK && sync)
        err = file_path_sync_parent(f->path);
    if (err == SPOOL_OK && sync) /* where the template has directories, the trail stands further up */
        err = file_path_sync_parent(f->trail.path);
    if (err != SPOOL_OK)
        close_file(f);
    return err;
}

/* Begins the next file: of a new name, or with `rotate` of the same. What was written before is flushed first. */
static int begin(struct file *f, const char *base, bool rotate)
{
    int err = f->settings.flush == FLUSH_NONE ? SPOOL_OK : sync_file(f);
    if (err != SPOOL_OK) {
        f->doubtful = true;
        return unavailable(f, err);
    }
    if (f->fd >= 0)
        tend_finished(f->tend, f->path);
    close_file(f);
    if (base != f->base)
        memcpy(f->base, base, strlen(base) + 1);
    err = file_path_make_parents(f->base, !rotate && f->settings.flush != FLUSH_NONE);
    if (err == SPOOL_OK)
        err = rotate ? create_next(f) : open_last(f);
    if (err == SPOOL_OK)
        err = record(f);
    if (err != SPOOL_OK)
        return unavailable(f, err);
    remove_old(f);
    return SPOOL_OK;
}

static bool must_rotate(const struct file *f, size_t more)
{
    if (f->size == 0)
        return false;
    return (f->settings.rotate_bytes > 0 && f->size + more > f->settings.rotate_bytes) ||
           (f->settings.rotate_ms > 0 && mono_ns() - f->begun_ns >= f->settings.rotate_ms * NS_PER_MS);
}

/* SPOOL_OK: *ret_there tells whether there is something of that name. Else it cannot be told now: errno. */
static int look_up(const char *path, struct stat *st, bool *ret_there)
{
    *ret_there = stat(path, st) == 0;
    return *ret_there || errno == ENOENT || errno == ENOTDIR ? SPOOL_OK : errno;
}

/* Somebody may have moved or removed the open file; what was written is his. One that was cut is gone on with. */
static int look_after(struct file *f)
{
    struct stat st;
    bool there;
    int err = look_up(f->path, &st, &there);
    if (err != SPOOL_OK)
        return unavailable(f, err);
    if (there && st.st_dev == f->st.st_dev && st.st_ino == f->st.st_ino) {
        if ((uint64_t)st.st_size < f->size) {
            delivery_sink_note("%s was cut from %" PRIu64 " to %jd bytes by another program", f->path, f->size,
                               (intmax_t)st.st_size);
            f->size = (uint64_t)st.st_size;
        }
        return SPOOL_OK;
    }
    delivery_sink_note("%s was %s by another program: a new file is begun", f->path,
                       there ? "replaced" : "moved away or removed");
    return begin(f, f->base, false);
}

/* The file that the next `more` bytes belong to is open. */
static int ensure_file(struct file *f, size_t more)
{
    char base[FILE_PATH_MAX];
    int code = file_path_expand(f->settings.pattern, (int64_t)(real_ns() / 1000000000u), base);
    if (code != SPOOL_OK)
        return code;
    if (f->fd < 0 || strcmp(base, f->base) != 0)
        return begin(f, base, false);
    code = look_after(f);
    if (code != SPOOL_OK)
        return code;
    return must_rotate(f, more) ? begin(f, f->base, true) : SPOOL_OK;
}

/* --------------------------------------------------------------------------------------------------------- delivering
 */

static int mend(struct file *f)
{
    if (!f->torn)
        return SPOOL_OK;
    if (ftruncate(f->fd, (off_t)f->size) != 0)
        return unavailable(f, errno);
    f->torn = false;
    return SPOOL_OK;
}

/* Appends the lines, all of them or none, also where they are to be flushed and cannot be: they will come again. */
static int append(struct file *f)
{
    int code = mend(f);
    if (code == SPOOL_OK)
        code = ensure_file(f, f->lines.size);
    if (code != SPOOL_OK)
        return code;
    int err = lines_write(f->fd, f->lines.data, f->lines.size);
    if (err == SPOOL_OK && f->settings.flush == FLUSH_BATCH)
        err = sync_file(f);
    if (err != SPOOL_OK) {
        f->torn = true;
        mend(f);
        return unavailable(f, err);
    }
    f->size += f->lines.size;
    return SPOOL_OK;
}

/* What the thread that tends to complete files has to say, and what it must know. */
static void exchange_with_tend(struct file *f)
{
    char problem[REASON_MAX + 1];
    tend_stored(f->tend, delivery_sink_stored());
    if (tend_take_problem(f->tend, problem, sizeof problem))
        delivery_sink_note("%s", problem);
}

static int file_deliver(void *state, struct spool_delivery *batch, size_t n)
{
    struct file *f = state;
    exchange_with_tend(f);
    if (f->parts)
        return parts_deliver(f->parts, batch, n);
    for (size_t i = 0; i < n;) {
        size_t first = i;
        f->lines.size = 0;
        int code = lines_render(&f->lines, batch, n, &i);
        if (code == SPOOL_OK && f->lines.size > 0)
            code = append(f);
        if (code != SPOOL_OK)
            return code;
        lines_delivered(batch, first, i);
    }
    return SPOOL_OK;
}

/* --------------------------------------------------------------------------------------------------------- checkpoint
 */

static size_t file_checkpoint(void *state, void *buf, size_t cap)
{
    struct file *f = state;
    exchange_with_tend(f);
    if (f->parts)
        return parts_checkpoint(f->parts, buf, cap);
    tend_checkpoint(f->tend, delivery_sink_given());
    int err = f->settings.flush == FLUSH_CHECKPOINT ? sync_file(f) : SPOOL_OK;
    if (err != SPOOL_OK || f->torn || f->doubtful) { /* it is opened anew then, and cut back to the last checkpoint */
        unavailable(f, err ? err : EIO);
        return SIZE_MAX;
    }
    bool open = f->fd >= 0;
    int size = snprintf(buf, cap, "1 %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %u %s", f->trail.last,
                        open ? (uint64_t)f->st.st_dev : 0, open ? (uint64_t)f->st.st_ino : 0, open ? f->size : 0,
                        f->number, open ? f->path : "-");
    return size > 0 && (size_t)size < cap ? (size_t)size : SIZE_MAX;
}

struct mark {
    uint64_t trail, dev, ino, offset;
    unsigned number;
    char path[FILE_PATH_MAX];
};

static int read_checkpoint(const void *bytes, size_t size, struct mark *ret)
{
    char text[SPOOL_CHECKPOINT_MAX + 1];
    unsigned version = 0;
    int at = 0;
    memcpy(text, bytes, size);
    text[size] = '\0';
    if (sscanf(text, "%u ", &version) == 1 && version != 1)
        return spool_sink_error(SPOOL_ECONFIG, "the checkpoint has version %u, this library knows 1", version);
    int n = sscanf(text, "%u %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %u %n", &version, &ret->trail, &ret->dev,
                   &ret->ino, &ret->offset, &ret->number, &at);
    if (n != 6 || at == 0 || strlen(text + at) >= sizeof ret->path)
        return spool_sink_error(SPOOL_ECONFIG, "the checkpoint is damaged: remove the sink and add it again");
    memcpy(ret->path, text + at, strlen(text + at) + 1);
    return SPOOL_OK;
}

/* Is the file of the checkpoint still the one we wrote? What is ours must not be taken for somebody else's because it
 * could not be looked at: it would not be cut back, and its last lines be there twice. errno. */
static int is_ours(const struct mark *mark, bool *ret)
{
    struct stat st;
    bool there;
    const char *what = NULL;
    *ret = false;
    if (mark->ino == 0)
        return SPOOL_OK;
    int err = look_up(mark->path, &st, &there);
    if (err != SPOOL_OK)
        return err;
    if (!there)
        what = "moved away or removed";
    else if (st.st_dev != (dev_t)mark->dev || st.st_ino != (ino_t)mark->ino)
        what = "replaced";
    else if ((uint64_t)st.st_size < mark->offset)
        what = "cut";
    if (what)
        delivery_sink_note("%s was %s by another program since the last checkpoint: it is left as it is", mark->path,
                           what);
    *ret = !what;
    return SPOOL_OK;
}

/* Cuts the file of the checkpoint back to it, and goes on in it if it is what the template says today. */
static int resume(struct file *f, const struct mark *mark)
{
    char wanted[FILE_PATH_MAX];
    bool ours;
    memcpy(f->path, mark->path, sizeof f->path);
    int err = is_ours(mark, &ours);
    if (err != SPOOL_OK)
        return unavailable(f, err);
    if (!ours)
        return SPOOL_OK; /* not ours to change */
    if (truncate(mark->path, (off_t)mark->offset) != 0)
        return unavailable(f, errno);
    int code = file_path_expand(f->settings.pattern, (int64_t)(real_ns() / 1000000000u), f->base);
    if (code != SPOOL_OK)
        return code;
    file_path_number(f->base, mark->number, wanted);
    if (strcmp(wanted, mark->path) != 0)
        return SPOOL_OK;
    f->number = mark->number;
    err = open_path(f, 0);
    if (err == SPOOL_OK)
        err = record(f);
    return err == SPOOL_OK ? SPOOL_OK : unavailable(f, err);
}

static int recover(struct file *f, const void *checkpoint, size_t size)
{
    struct mark mark = {0};
    int code = size > 0 ? read_checkpoint(checkpoint, size, &mark) : SPOOL_OK;
    if (code != SPOOL_OK)
        return code;
    if (size == 0) /* nothing is ours yet; a trail would be that of an earlier sink, whose files are not to be cut */
        return unlink(f->trail.path) == 0 || errno == ENOENT ? SPOOL_OK : unavailable(f, errno);
    int err = file_trail_rewind(&f->trail, mark.trail);
    return err == SPOOL_OK ? resume(f, &mark) : unavailable(f, err);
}

/* ------------------------------------------------------------------------------------------------------ open and close
 */

static void file_close(void *state)
{
    struct file *f = state;
    if (!f)
        return;
    parts_close(f->parts);
    tend_free(f->tend);
    close_file(f);
    buffer_free(&f->lines);
    file_settings_free(&f->settings);
    free(f);
}

static int make_directory_of_trail(struct file *f)
{
    int err = file_path_make_parents(f->trail.path, f->settings.flush != FLUSH_NONE);
    return err == SPOOL_OK ? SPOOL_OK : unavailable(f, err);
}

/* The thread starts once all is cut back to the checkpoint, and what is gone on with is protected. */
static int open_parts(struct file *f, const void *checkpoint, size_t size)
{
    const struct parts_options options = {
        .pattern = f->settings.pattern,
        .mode = f->settings.mode,
        .sync_batches = f->settings.flush == FLUSH_BATCH,
        .sync_checkpoints = f->settings.flush != FLUSH_NONE,
        .rotate_bytes = f->settings.rotate_bytes,
        .rotate_ms = f->settings.rotate_ms,
        .keep = f->settings.keep,
        .tend = f->tend,
    };
    return parts_open(&options, checkpoint, size, &f->parts);
}

/* One file at a time. */
static int open_single(struct file *f, const void *checkpoint, size_t size)
{
    char path[FILE_PATH_MAX];
    int code = file_path_expand(f->settings.pattern, (int64_t)(real_ns() / 1000000000u), path);
    if (code == SPOOL_OK)
        code = file_trail_init(&f->trail, f->settings.pattern);
    if (code == SPOOL_OK)
        code = make_directory_of_trail(f);
    return code == SPOOL_OK ? recover(f, checkpoint, size) : code;
}

static int open_any(struct file *f, const void *checkpoint, size_t size)
{
    int err = tend_new(&f->settings.tending, &f->tend);
    if (err != SPOOL_OK)
        return unavailable(f, err);
    int code = f->settings.has_parts ? open_parts(f, checkpoint, size) : open_single(f, checkpoint, size);
    if (code == SPOOL_OK && (err = tend_run(f->tend)) != SPOOL_OK)
        code = unavailable(f, err);
    return code;
}

static int file_open(void **ret_state, void *user, const char *json_config, const void *checkpoint, size_t size)
{
    (void)user;
    struct file *f = calloc(1, sizeof *f);
    if (!f)
        return spool_sink_error(ENOMEM, "out of memory");
    f->fd = -1;
    int code = file_settings_read(json_config, &f->settings);
    if (code == SPOOL_OK)
        code = open_any(f, checkpoint, size);
    if (code != SPOOL_OK) {
        file_close(f);
        return code;
    }
    *ret_state = f;
    return SPOOL_OK;
}

const struct spool_sink file_sink = {
    .abi = SPOOL_SINK_ABI,
    .size = sizeof(struct spool_sink),
    .kind = "file",
    .open = file_open,
    .deliver = file_deliver,
    .close = file_close,
    .checkpoint = file_checkpoint,
};
