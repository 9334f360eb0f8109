/* utf8.h - UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The length, 1 to 4, of the character that begins at `p`, of which `avail` bytes may be looked at; 0 if none does. */
size_t utf8_sequence(const uint8_t *p, size_t avail);

/* The text is valid and holds none of the control characters U+0000 to U+001F and U+007F. */
bool utf8_is_plain_text(const char *text, size_t size);

/* Writes the 1 to 4 bytes of a character and returns their number. `c` is a valid code point. */
size_t utf8_put(uint8_t *dst, uint32_t c);

/* How much of the text, at most `max` bytes, does not cut a character in two. */
size_t utf8_cut(const char *text, size_t max);

#endif
