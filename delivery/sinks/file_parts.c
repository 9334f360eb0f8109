/* file_parts.c - many files at once, each event exactly once.
 *
 * Lines are appended to the file that the event's path names, or to the one with the highest number where files are begun
 * anew when they are full (file_part.h). What is acknowledged of each stands in a ledger (file_ledger.h).
 *
 * A file that nobody wrote to for a while, or the one used longest ago when there are many, is closed; it is if all of it
 * is covered by a checkpoint that is stored, so that nothing in the ledger is needed of it. Until then it is protected
 * from being compressed or deleted (file_tend.h). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../lib/base/sync.h"
#include "file_part.h"
#include "lines.h"

enum { FILES_SOFT = 128, FILES_HARD = 1024, LEDGER_MAX = 1 << 20 };
static const uint64_t idle_ns = 60000 * NS_PER_MS;

/* ------------------------------------------------------------------------------------------------------ open and close
 */

void parts_close(struct parts *parts)
{
    if (!parts)
        return;
    parts->options.tend = NULL; /* what is not settled stays protected as long as it tends */
    while (parts->files)
        part_drop(parts, &parts->files);
    while (parts->retired)
        part_drop(parts, &parts->retired);
    free(parts);
}

int parts_open(const struct parts_options *options, const void *checkpoint, size_t size, struct parts **ret)
{
    struct parts *parts = calloc(1, sizeof *parts);
    if (!parts)
        return spool_sink_error(ENOMEM, "out of memory");
    parts->options = *options;
    int code = ledger_init(&parts->ledger, options->pattern, options->sync_checkpoints);
    if (code == SPOOL_OK)
        code = ledger_recover(&parts->ledger, checkpoint, size);
    if (code == SPOOL_OK)
        *ret = parts;
    else
        parts_close(parts);
    return code;
}

/* --------------------------------------------------------------------------------------------------------------- files
 */

/* Of a list, those that are settled and were not used since `before_ns`. */
static void drop_settled(struct parts *parts, struct part **list, uint64_t before_ns)
{
    for (struct part **at = list; *at;)
        if ((*at)->used_ns <= before_ns && part_is_settled(parts, *at))
            part_drop(parts, at);
        else
            at = &(*at)->next;
}

static void close_idle(struct parts *parts)
{
    uint64_t now_ns = mono_ns();
    if (now_ns > idle_ns)
        drop_settled(parts, &parts->files, now_ns - idle_ns);
}

static void close_oldest(struct parts *parts)
{
    struct part **oldest = NULL;
    for (struct part **at = &parts->files; *at; at = &(*at)->next)
        if (part_is_settled(parts, *at) && (!oldest || (*at)->used_ns < (*oldest)->used_ns))
            oldest = at;
    if (oldest)
        part_drop(parts, oldest);
}

/* The file of a path, with room for it. */
static int find(struct parts *parts, const char *base, struct part **ret)
{
    struct part **at = &parts->files;
    while (*at && strcmp((*at)->base, base) != 0)
        at = &(*at)->next;
    if (*at && (*at)->lines.size == 0 && !part_is_still_there(*at))
        part_drop(parts, at);
    else if (*at) {
        *ret = *at;
        return SPOOL_OK;
    }
    if (parts->count >= FILES_SOFT)
        close_oldest(parts);
    if (parts->count >= FILES_HARD)
        return spool_sink_error(SPOOL_EUNAVAILABLE, "more than %d files at once", FILES_HARD);
    return part_begin(parts, base, false, ret);
}

/* ---------------------------------------------------------------------------------------------------------- delivering
 */

/* Lines of one event into its file's buffer; *ret is NULL when none are there: it was rejected, or that failed. */
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
    if (*ret && (*ret)->lines.size == before)
        *ret = NULL;
    return code;
}

/* All lines of the batch for this path, or none, into the file that has room for them. With many files it is little that
 * each has, and together too much to keep. */
static int append(struct parts *parts, struct part *part)
{
    struct part *to = part;
    int code = part_is_full(parts, part, part->lines.size) ? part_rotate(parts, part, &to) : SPOOL_OK;
    if (code == SPOOL_OK)
        code = part_append(parts, to);
    buffer_free(&to->lines);
    return code;
}

/* All that was sorted, or nothing: had some files their lines and others not, more holes might be left in the batch than are
 * remembered over a crash. A file that is begun on the way is in front, and has its lines. */
static int write_all(struct parts *parts)
{
    int code = SPOOL_OK;
    for (struct part *part = parts->files; part; part = part->next)
        part->before = part->size;
    for (struct part *part = parts->files, *next; part; part = next) {
        next = part->next;
        if (part->lines.size > 0 && code == SPOOL_OK)
            code = append(parts, part);
        buffer_free(&part->lines);
    }
    for (struct part *part = parts->files; part && code != SPOOL_OK; part = part->next)
        part_undo(part);
    return code;
}

int parts_deliver(struct parts *parts, struct spool_delivery *batch, size_t n)
{
    char pattern[FILE_PATH_MAX];
    struct part **part_of = calloc(n ? n : 1, sizeof *part_of);
    if (!part_of)
        return spool_sink_error(SPOOL_EUNAVAILABLE, "out of memory");
    drop_settled(parts, &parts->retired, UINT64_MAX);
    int code = file_path_expand(parts->options.pattern, (int64_t)(real_ns() / 1000000000u), pattern);
    for (size_t i = 0; i < n && code == SPOOL_OK; i++)
        code = sort_in(parts, pattern, SPOOL_DELIVERY_AT(batch, i), &part_of[i]);
    int written = write_all(parts); /* also what was sorted before a failure, which is the beginning of the batch */
    for (size_t i = 0; i < n && written == SPOOL_OK; i++)
        if (part_of[i])
            SPOOL_DELIVERY_AT(batch, i)->outcome = SPOOL_DELIVERED;
    free(part_of);
    return code == SPOOL_OK ? written : code;
}

/* ---------------------------------------------------------------------------------------------------------- checkpoint
 */

static int sync_all(struct parts *parts)
{
    for (struct part *part = parts->files; part; part = part->next) {
        if (part->torn)
            return part_unavailable(part->path, EIO);
        if (part->size != part->checked && parts->ledger.sync && fdatasync(part->fd) != 0) {
            parts->doubtful = true;
            return part_unavailable(part->path, errno);
        }
    }
    return SPOOL_OK;
}

/* A line for each file of the list, or for each that was written to since the last checkpoint: as it was then, or is now. */
static int put_lines(const struct part *list, bool all, uint64_t number, bool as_it_was, struct buffer *out)
{
    int err = SPOOL_OK;
    for (const struct part *part = list; part && err == SPOOL_OK; part = part->next)
        if (all || part->size != part->checked)
            err = ledger_put(out, number, part->dev, part->ino, as_it_was ? part->checked : part->size, part->path);
    return err;
}

/* With `anew` also what the last checkpoint said, first: numbers do not descend. */
static int make_lines(const struct parts *parts, bool anew, struct buffer *out)
{
    uint64_t number = parts->ledger.number;
    int err = anew ? put_lines(parts->files, true, number, true, out) : SPOOL_OK;
    if (err == SPOOL_OK && anew)
        err = put_lines(parts->retired, true, number, true, out);
    if (err == SPOOL_OK)
        err = put_lines(parts->files, anew, number + 1, false, out);
    return err == SPOOL_OK ? put_lines(parts->retired, anew, number + 1, false, out) : err;
}

/* errno */
static int write_lines(struct parts *parts)
{
    struct buffer lines = {0};
    bool anew = parts->ledger.bytes > LEDGER_MAX && delivery_sink_stored() >= parts->given;
    int err = make_lines(parts, anew, &lines);
    if (err == SPOOL_OK && lines.size > 0)
        err = ledger_write(&parts->ledger, &lines, anew);
    buffer_free(&lines);
    return err;
}

static void all_checked(struct part *list)
{
    for (struct part *part = list; part; part = part->next)
        part->checked = part->size;
}

size_t parts_checkpoint(struct parts *parts, void *buf, size_t cap)
{
    if (parts->doubtful || parts->ledger.doubtful || sync_all(parts) != SPOOL_OK) /* opened anew then, and cut back */
        return SIZE_MAX;
    int err = write_lines(parts);
    if (err != SPOOL_OK) {
        part_unavailable(parts->ledger.path, err);
        return SIZE_MAX;
    }
    all_checked(parts->files);
    all_checked(parts->retired);
    parts->given = delivery_sink_given();
    size_t size = ledger_checkpoint(&parts->ledger, buf, cap);
    close_idle(parts);
    return size;
}
