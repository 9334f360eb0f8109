/* history.h - the lines in which producers and sinks log what they saw, for tests/lab/history/history.py to judge.
 *
 * A line is one JSON object, padded with blanks to exactly 256 bytes and written with write(2) to a file opened with
 * O_APPEND: it never crosses a page, so that a killed process leaves no half of one, and the file is one order of what
 * happened in all processes that share it. "k" is the kind of line, "p" the process (its --tag), "t" and "n" thread and
 * number of an event:
 *
 *   opening, open, close  the process is about to open the spool; has opened it; has closed it, with the code
 *   gone                  the process ends without closing
 *   sink                  the sink "s" is registered
 *   intent                the event is about to be enqueued, in call number "call" of its thread, with this agent,
 * lane, level and CRC-32 of the body ok, failed, uncertain what the call answered; the id seen                  the
 * sink "s" of process "p" has accepted an event: its id; from its body "tag", "t", "n"; its agent, lane and CRC-32 as
 * they arrived; the attempt; milliseconds of the monotonic clock */
#ifndef TESTS_HISTORY_H
#define TESTS_HISTORY_H

#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../../lib/spool.h"

enum { LINE_SIZE = 256 };

/* One event as its producer knows it, or as its body says. */
struct history_event {
    const char *tag;
    unsigned thread;
    uint64_t n;
};

/* Opens a history for appending, or returns -1 when there is no path. */
static inline int history_open(const char *path)
{
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (path && fd < 0)
        err(1, "%s", path);
    return fd;
}

/* Appends whole lines; a history that cannot be written makes the test worthless, hence the exit. */
static inline void history_append(int fd, const char *lines, size_t count)
{
    size_t size = count * LINE_SIZE;
    if (fd >= 0 && write(fd, lines, size) != (ssize_t)size)
        err(1, "history");
}

static inline void history_line(char line[LINE_SIZE], const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline void history_line(char line[LINE_SIZE], const char *format, ...)
{
    char text[LINE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (size < 0 || size >= LINE_SIZE)
        errx(1, "history: a line is too long: %s", text);
    memset(line, ' ', LINE_SIZE);
    memcpy(line, text, (size_t)size);
    line[LINE_SIZE - 1] = '\n';
}

static inline void history_intent(char line[LINE_SIZE], const struct history_event *event, uint64_t call,
                                  const struct spool_event *what, uint32_t sum)
{
    history_line(line,
                 "{\"k\":\"intent\",\"p\":\"%s\",\"t\":%u,\"n\":%" PRIu64 ",\"call\":%" PRIu64 ",\"agent\":\"%s\","
                 "\"lane\":\"%s\",\"level\":\"%s\",\"sum\":\"%08x\"}",
                 event->tag, event->thread, event->n, call, what->agent, spool_priority_name(what->priority),
                 what->durability == SPOOL_DURABLE_POWER ? "power" : "process", sum);
}

static inline const char *history_kind(int code)
{
    return code == SPOOL_OK ? "ok" : code == SPOOL_EUNCERTAIN ? "uncertain" : "failed";
}

/* `id` counts unless the call failed. */
static inline void history_outcome(char line[LINE_SIZE], const struct history_event *event, int code,
                                   const struct spool_id *id)
{
    char text[SPOOL_ID_TEXT_SIZE] = "";
    if (code == SPOOL_OK || code == SPOOL_EUNCERTAIN)
        spool_id_format(id, text);
    history_line(line, "{\"k\":\"%s\",\"p\":\"%s\",\"t\":%u,\"n\":%" PRIu64 ",\"id\":\"%s\",\"code\":\"%s\"}",
                 history_kind(code), event->tag, event->thread, event->n, text, spool_error_name(code));
}

static inline void history_seen(char line[LINE_SIZE], const char *process, const struct spool_delivery *delivery,
                                const struct history_event *event, uint32_t sum, bool good, uint64_t at_ms)
{
    char id[SPOOL_ID_TEXT_SIZE];
    const char *agent = delivery->event->agent;
    history_line(line,
                 "{\"k\":\"seen\",\"s\":\"callback\",\"p\":\"%s\",\"id\":\"%s\",\"tag\":\"%s\",\"t\":%u,\"n\":%" PRIu64
                 ",\"agent\":\"%.32s\",\"lane\":\"%s\",\"sum\":\"%08x\",\"good\":%d,\"attempt\":%u,\"ms\":%" PRIu64 "}",
                 process, spool_id_format(&delivery->id, id), event->tag, event->thread, event->n, agent ? agent : "",
                 spool_priority_name(delivery->event->priority), sum, good, delivery->attempt, at_ms);
}

static inline void history_process(int fd, const char *kind, const char *process, int code)
{
    char line[LINE_SIZE];
    history_line(line, "{\"k\":\"%s\",\"p\":\"%s\",\"pid\":%d,\"code\":\"%s\"}", kind, process, (int)getpid(),
                 spool_error_name(code));
    history_append(fd, line, 1);
}

static inline void history_sink(int fd, const char *process, const char *sink)
{
    char line[LINE_SIZE];
    history_line(line, "{\"k\":\"sink\",\"p\":\"%s\",\"s\":\"%s\"}", process, sink);
    history_append(fd, line, 1);
}

#endif
