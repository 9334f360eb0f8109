/* lines.c - lines of a file descriptor.
 *
 * The buffer is filled behind what is there, so that lines handed out stay in place until it is full; then what is not
 * handed out yet moves to its beginning. It grows when a single line fills it, up to line_max. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lines.h"
#include "tool.h"

enum { BUFFER_SIZE = 1 << 20, READ_MIN = 64 << 10 };

void lines_init(struct lines *lines, int fd, size_t line_max)
{
    *lines = (struct lines){.fd = fd, .room = BUFFER_SIZE, .line_max = line_max};
    lines->buffer = tool_alloc(lines->room, 1);
}

void lines_free(struct lines *lines)
{
    free(lines->buffer);
}

/* Hands out [begin, end_of_line), or reports it when it is (the rest of) a line that is too long. */
static enum lines_answer take(struct lines *lines, size_t end_of_line, size_t next, char **ret_line, size_t *ret_size)
{
    char *line = lines->buffer + lines->begin;
    size_t size = end_of_line - lines->begin;
    bool skipped = lines->skipping;
    lines->begin = lines->scanned = next;
    lines->skipping = false;
    lines->number++;
    if (skipped || size > lines->line_max)
        return LINES_TOO_LONG;
    *ret_line = line;
    *ret_size = size;
    return LINES_LINE;
}

enum lines_answer lines_next(struct lines *lines, char **ret_line, size_t *ret_size)
{
    char *from = lines->buffer + lines->scanned;
    char *feed = lines->scanned < lines->end ? memchr(from, '\n', lines->end - lines->scanned) : NULL;
    if (feed)
        return take(lines, (size_t)(feed - lines->buffer), (size_t)(feed - lines->buffer) + 1, ret_line, ret_size);
    lines->scanned = lines->end;
    if (!lines->at_end)
        return LINES_MORE;
    if (lines->begin == lines->end && !lines->skipping)
        return LINES_END;
    return take(lines, lines->end, lines->end, ret_line, ret_size); /* the last line has no line feed */
}

bool lines_has_room(const struct lines *lines)
{
    return lines->room - lines->end >= READ_MIN;
}

bool lines_ready(const struct lines *lines)
{
    struct pollfd poll_fd = {.fd = lines->fd, .events = POLLIN};
    return poll(&poll_fd, 1, 0) != 0; /* a failure is found by read() */
}

/* Makes room for READ_MIN bytes at least. */
static void make_room(struct lines *lines)
{
    size_t held = lines->end - lines->begin;
    if (held > lines->line_max) { /* of a line that is too long nothing is needed but its end */
        lines->skipping = true;
        held = 0;
        lines->begin = lines->end;
    }
    memmove(lines->buffer, lines->buffer + lines->begin, held);
    lines->begin = 0;
    lines->end = lines->scanned = held;
    if (lines_has_room(lines))
        return;
    size_t room = lines->room * 2;
    char *buffer = tool_alloc(room, 1);
    memcpy(buffer, lines->buffer, held);
    free(lines->buffer);
    lines->buffer = buffer;
    lines->room = room;
}

/* read() that waits, also when somebody made the descriptor non-blocking, and is not disturbed by signals. */
static ssize_t read_some(int fd, char *to, size_t size)
{
    for (;;) {
        ssize_t n = read(fd, to, size);
        if (n >= 0 || (errno != EINTR && errno != EAGAIN))
            return n;
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        if (errno == EAGAIN && poll(&poll_fd, 1, -1) < 0 && errno != EINTR)
            return -1;
    }
}

int lines_fill(struct lines *lines)
{
    if (lines->begin == lines->end)
        lines->begin = lines->scanned = lines->end = 0;
    if (!lines_has_room(lines))
        make_room(lines);
    ssize_t n = read_some(lines->fd, lines->buffer + lines->end, lines->room - lines->end);
    if (n < 0)
        return errno;
    lines->end += (size_t)n;
    lines->at_end = n == 0;
    return 0;
}
