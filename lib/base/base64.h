/* base64.h - base64 as RFC 4648, section 4 has it: the standard alphabet, with padding, without line breaks. */
#ifndef BASE_BASE64_H
#define BASE_BASE64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Characters that `size` bytes take. */
static inline size_t base64_size(size_t size)
{
    return size / 3 * 4 + (size % 3 ? 4 : 0);
}

/* Writes base64_size(size) characters, no NUL. */
void base64_encode(char *dst, const uint8_t *src, size_t size);

/* False if it is not exactly what base64_encode() writes. `dst` may be `src`; it has room for size / 4 * 3 bytes. */
bool base64_decode(uint8_t *dst, const char *src, size_t size, size_t *ret_size);

#endif
