/* lines.h - lines of a file descriptor, read in large pieces and handed out without copying. */
#ifndef TOOLS_LINES_H
#define TOOLS_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lines {
    int fd;
    char *buffer;
    size_t room, begin, scanned, end; /* of buffer: [begin, end) is there, without a line feed up to `scanned` */
    size_t line_max;                  /* longer lines are skipped */
    uint64_t number;                  /* of the line handed out last, from 1 */
    bool at_end, skipping;
};

enum lines_answer {
    LINES_LINE,     /* here is one */
    LINES_MORE,     /* none is complete: lines_fill() */
    LINES_TOO_LONG, /* line `number` is longer than line_max and is skipped */
    LINES_END,
};

void lines_init(struct lines *lines, int fd, size_t line_max);
/* The next line without its line feed; valid until lines_fill() moves it, see lines_has_room(). */
enum lines_answer lines_next(struct lines *lines, char **ret_line, size_t *ret_size);
/* lines_fill() would leave the lines handed out where they are. */
bool lines_has_room(const struct lines *lines);
/* There is input (or its end) now. */
bool lines_ready(const struct lines *lines);
/* Reads once, waiting for input if there is none. 0 or an errno. */
int lines_fill(struct lines *lines);
void lines_free(struct lines *lines);

#endif
