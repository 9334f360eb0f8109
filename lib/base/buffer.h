/* buffer.h - a growable array of bytes. Starts as {0}; data is NULL until something is in it. */
#ifndef BASE_BUFFER_H
#define BASE_BUFFER_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct buffer {
    uint8_t *data;
    size_t size, cap;
};

/* Makes room for `more` bytes behind `size`. 0 or ENOMEM (message set). */
int buffer_reserve(struct buffer *b, size_t more);
/* Inline, because renderings put small constant pieces. */
static inline int buffer_put(struct buffer *b, const void *bytes, size_t n)
{
    if (n > b->cap - b->size) {
        int rc = buffer_reserve(b, n);
        if (rc)
            return rc;
    }
    if (n > 0)
        memcpy(b->data + b->size, bytes, n);
    b->size += n;
    return 0;
}
int buffer_put_text(struct buffer *b, const char *text);
int buffer_printf(struct buffer *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Frees the bytes; the buffer is {0} again. */
void buffer_free(struct buffer *b);

#endif
