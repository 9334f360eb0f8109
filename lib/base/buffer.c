/* buffer.c - a growable array of bytes. It doubles, so that appending costs one copy a byte on average. */
#include "buffer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"

enum { BUFFER_MIN = 256 };
#define BUFFER_MAX ((size_t)PTRDIFF_MAX) /* no object is larger */

/* The capacity that holds `need` bytes: at least twice the old one. */
static size_t next_cap(size_t cap, size_t need)
{
    size_t doubled = cap > BUFFER_MAX / 2 ? BUFFER_MAX : cap * 2;
    if (need < doubled)
        need = doubled;
    return need < BUFFER_MIN ? BUFFER_MIN : need;
}

int buffer_reserve(struct buffer *b, size_t more)
{
    if (more <= b->cap - b->size)
        return 0;
    if (more > BUFFER_MAX - b->size)
        return err_set(ENOMEM, "out of memory: a buffer of %zu bytes and %zu more", b->size, more);
    size_t cap = next_cap(b->cap, b->size + more);
    uint8_t *data = realloc(b->data, cap);
    if (!data)
        return err_set(ENOMEM, "out of memory: a buffer of %zu bytes", cap);
    b->data = data;
    b->cap = cap;
    return 0;
}

int buffer_put_text(struct buffer *b, const char *text)
{
    return buffer_put(b, text, strlen(text));
}

/* Into the room there is, mostly enough; the NUL behind is not kept. */
static int put_formatted(struct buffer *b, const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    size_t room = b->cap - b->size;
    int size = vsnprintf(room > 0 ? (char *)b->data + b->size : NULL, room, format, args), rc = 0;
    if (size < 0)
        rc = err_set(SPOOL_EINTERNAL, "buffer_printf: the format \"%s\" cannot be rendered", format);
    else if ((size_t)size >= room && (rc = buffer_reserve(b, (size_t)size + 1)) == 0)
        vsnprintf((char *)b->data + b->size, (size_t)size + 1, format, again);
    va_end(again);
    if (rc == 0)
        b->size += (size_t)size;
    return rc;
}

int buffer_printf(struct buffer *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int rc = put_formatted(b, format, args);
    va_end(args);
    return rc;
}

void buffer_free(struct buffer *b)
{
    if (!b)
        return;
    free(b->data);
    *b = (struct buffer){0};
}
