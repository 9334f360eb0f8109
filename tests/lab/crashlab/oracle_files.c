/* oracle_files.c - exactly once: what sinks wrote to files of their own, read when all is delivered.
 *
 * A sink of the laboratory keeps one file of producers and numbers, eight bytes an event (scene_sink.c); the library's
 * own writes JSON Lines to any *.jsonl below DIR/out, and compresses some to *.jsonl.zst. A crash may leave both of one:
 * then the compressed one, which is whole since it has its name, stands for them. */
#include "oracle.h"

#include <ftw.h>
#include <unistd.h>
#include <zstd.h>

#include "../../../lib/base/bytes.h"

enum { FILE_MAX = 1 << 20 };

struct checking {
    struct oracle *oracle;
    const struct scene_sink *sink;
    unsigned *seen; /* by place in promise.events */
};

/* --------------------------------------------------------------------------------------------------------- counting */

static bool count_entry(struct checking *checking, uint32_t producer, uint32_t number)
{
    const struct promise *promise = &checking->oracle->promise;
    if (producer == PROBE_PRODUCER)
        return true;
    const struct promise_event *event = promise_find(promise, producer, number);
    if (event && ++checking->seen[event - promise->events] == 1)
        return true;
    snprintf(checking->oracle->why, checking->oracle->why_size, "the file of sink %s has event %u of producer %u %s",
             checking->sink->name, number, producer, event ? "twice" : "that nobody enqueued");
    return false;
}

static bool count_entries(struct checking *checking, const uint8_t *bytes, size_t size)
{
    for (size_t at = 0; at + 8 <= size; at += 8) {
        if (!count_entry(checking, get_u32(bytes + at), get_u32(bytes + at + 4)))
            return false;
    }
    return true;
}

static bool count_line(struct checking *checking, const char *line, size_t size)
{
    struct spool_event *event;
    uint32_t producer = 0, number = 0;
    int code = spool_event_from_json(line, size, &event);
    if (code)
        return oracle_fails(checking->oracle, code, "a line of the file sink");
    bool whole = lab_event_read(event, &producer, &number);
    spool_event_free(event);
    if (whole)
        return count_entry(checking, producer, number);
    snprintf(checking->oracle->why, checking->oracle->why_size, "a line of the file sink has wrong bytes");
    return false;
}

static bool count_lines(struct checking *checking, const uint8_t *bytes, size_t size)
{
    const char *line = (const char *)bytes, *end = line + size;
    while (line < end) {
        const char *feed = memchr(line, '\n', (size_t)(end - line));
        if (!count_line(checking, line, (size_t)((feed ? feed : end) - line)))
            return false;
        line = feed ? feed + 1 : end;
    }
    return true;
}

static bool count_compressed(struct checking *checking, const uint8_t *bytes, size_t size)
{
    uint8_t *plain = malloc(FILE_MAX);
    size_t n = plain ? ZSTD_decompress(plain, FILE_MAX, bytes, size) : 0;
    bool right = plain && !ZSTD_isError(n) && count_lines(checking, plain, n);
    if (plain && ZSTD_isError(n))
        snprintf(checking->oracle->why, checking->oracle->why_size, "a compressed file of sink %s: %s",
                 checking->sink->name, ZSTD_getErrorName(n));
    free(plain);
    return right;
}

/* ---------------------------------------------------------------------------------------------------------- reading */

static bool read_file(struct checking *checking, const char *path,
                      bool (*count)(struct checking *checking, const uint8_t *bytes, size_t size))
{
    FILE *file = fopen(path, "re");
    uint8_t *bytes = malloc(FILE_MAX);
    bool right = file && bytes ? count(checking, bytes, fread(bytes, 1, FILE_MAX, file))
                               : oracle_fails(checking->oracle, errno, path);
    if (file)
        fclose(file);
    free(bytes);
    return right;
}

static struct checking *walking; /* nftw() passes nothing on */

static int visit(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)at;
    char compressed[320];
    const char *dot = strrchr(path, '.');
    if (type != FTW_F || !dot)
        return 0;
    if (strcmp(dot, ".zst") == 0)
        return !read_file(walking, path, count_compressed);
    snprintf(compressed, sizeof compressed, "%s.zst", path);
    return strcmp(dot, ".jsonl") == 0 && access(compressed, F_OK) != 0 && !read_file(walking, path, count_lines);
}

static bool read_all(struct checking *checking)
{
    char path[300];
    if (!checking->sink->config)
        return read_file(checking, checking->sink->file, count_entries);
    snprintf(path, sizeof path, "%s/out", checking->oracle->dir);
    walking = checking;
    int rc = nftw(path, visit, 8, FTW_PHYS);
    return rc < 0 ? oracle_fails(checking->oracle, errno, path) : rc == 0;
}

static bool none_missing(struct checking *checking, int number)
{
    const struct promise *promise = &checking->oracle->promise;
    for (size_t i = 0; i < promise->n; i++) {
        const struct promise_event *event = &promise->events[i];
        if (!event->must || !event->hold[number].may || checking->seen[i])
            continue;
        snprintf(checking->oracle->why, checking->oracle->why_size,
                 "event %u of producer %u is not in the file of sink %s", event->number, event->frame.producer,
                 checking->sink->name);
        return false;
    }
    return true;
}

bool oracle_check_files(struct oracle *oracle, const struct scene_sink *sink, int number)
{
    struct checking checking = {.oracle = oracle, .sink = sink};
    if (!sink->keeps_file && !sink->config)
        return true;
    checking.seen = calloc(oracle->promise.n + 1, sizeof *checking.seen);
    bool right = checking.seen ? read_all(&checking) && none_missing(&checking, number)
                               : oracle_fails(oracle, ENOMEM, "reading a sink's files");
    free(checking.seen);
    return right;
}
