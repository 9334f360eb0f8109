/* error.c - the texts of codes, and one message per thread for its last failure.
 *
 * The list of codes is SPOOL_ERRORS in spool.h; names and texts below are generated from it by the preprocessor, so
 * that a new code needs one line in one place. Positive codes are errno values, whose texts and names the C library
 * knows. */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "utf8.h"

enum { MESSAGE_SIZE = 512 };

static _Thread_local char message[MESSAGE_SIZE];

#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 32)
static const char *errno_text(int err)
{
    return strerrordesc_np(err);
}
static const char *errno_name(int err)
{
    return strerrorname_np(err);
}
#else
static const char *errno_text(int err)
{
    static _Thread_local char text[128];
    return strerror_r(err, text, sizeof text) == 0 ? text : NULL;
}
static const char *errno_name(int err)
{
    (void)err;
    return NULL;
}
#endif

const char *spool_strerror(int code)
{
    switch (code) {
    case SPOOL_OK:
        return "no error";
#define ERROR_TEXT(name, value, text)                                                                                  \
    case value:                                                                                                        \
        return text;
        SPOOL_ERRORS(ERROR_TEXT)
#undef ERROR_TEXT
    default:
        break;
    }
    const char *text = code > 0 ? errno_text(code) : NULL;
    return text ? text : "unknown error";
}

const char *spool_error_name(int code)
{
    switch (code) {
    case SPOOL_OK:
        return "SPOOL_OK";
#define ERROR_NAME(name, value, text)                                                                                  \
    case value:                                                                                                        \
        return "SPOOL_" #name;
        SPOOL_ERRORS(ERROR_NAME)
#undef ERROR_NAME
    default:
        break;
    }
    const char *name = code > 0 ? errno_name(code) : NULL;
    return name ? name : "unknown";
}

const char *err_last(void)
{
    return message;
}

const char *spool_last_error(void)
{
    return message;
}

/* Drops a multi-byte character that the end of the buffer has cut in two. */
static void drop_cut_character(char *text, size_t size)
{
    size_t start = size;
    while (start > 0 && size - start < 4 && ((uint8_t)text[start - 1] & 0xc0) == 0x80)
        start--;
    if (start > 0 && (uint8_t)text[start - 1] >= 0xc0 &&
        utf8_sequence((const uint8_t *)text + start - 1, size - (start - 1)) == 0)
        text[start - 1] = 0;
}

/* Messages are one line: what comes from file names and from input must not break a log apart. */
static void keep(const char *text)
{
    size_t size = strnlen(text, MESSAGE_SIZE - 1);
    for (size_t i = 0; i < size; i++)
        message[i] = (uint8_t)text[i] < ' ' || text[i] == 0x7f ? ' ' : text[i];
    message[size] = 0;
    if (size == MESSAGE_SIZE - 1)
        drop_cut_character(message, size);
}

/* Formats into a local buffer first: the old message may be among the arguments. */
static void keep_format(const char *format, va_list args, const char *suffix)
{
    char text[MESSAGE_SIZE];
    int size = vsnprintf(text, sizeof text, format, args);
    if (size < 0)
        text[0] = 0, size = 0;
    if (suffix && (size_t)size < sizeof text - 1)
        snprintf(text + size, sizeof text - (size_t)size, ": %s", suffix);
    keep(text);
}

int err_set(int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    keep_format(format, args, NULL);
    va_end(args);
    return code;
}

int err_errno(int err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    keep_format(format, args, spool_strerror(err));
    va_end(args);
    return err;
}

int err_prefix(int code, const char *format, ...)
{
    char old[MESSAGE_SIZE];
    memcpy(old, message, sizeof old);
    va_list args;
    va_start(args, format);
    keep_format(format, args, old);
    va_end(args);
    return code;
}
