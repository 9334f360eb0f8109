/* plugin_error.c - err_set() and its like inside a plugin, for what it uses of lib/base: the messages stay here, one a
 * thread, and what is for the operator is handed on with spool_sink_error(). */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "../../lib/base/error.h"

enum { MESSAGE_MAX = 512 };
static _Thread_local char message[MESSAGE_MAX];

int err_set(int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return code;
}

int err_errno(int err, const char *format, ...)
{
    char what[MESSAGE_MAX / 2];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    snprintf(message, sizeof message, "%s: %s", what, spool_strerror(err));
    return err;
}

int err_prefix(int code, const char *format, ...)
{
    char before[MESSAGE_MAX / 2], text[MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(before, sizeof before, format, args);
    va_end(args);
    memcpy(text, message, sizeof text);
    int size = snprintf(message, sizeof message, "%s: ", before);
    snprintf(message + size, sizeof message - (size_t)size, "%.*s", MESSAGE_MAX - 1 - size,
             text); /* cut where it must be */
    return code;
}

const char *err_last(void)
{
    return message;
}
