/* error.h - one message per thread for the last failure; every function that fails sets it and returns the code. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include "../spool.h"

#define PRINTF(text, first) __attribute__((format(printf, text, first)))

/* Keeps the message and returns `code`:  return err_set(SPOOL_EINVAL, "sink %s: …", name);  */
int err_set(int code, const char *format, ...) PRINTF(2, 3);

/* The same for an errno value, whose text is appended: "journal/x.jnl: No space left on device". Returns `err`. */
int err_errno(int err, const char *format, ...) PRINTF(2, 3);

/* Puts "…: " in front of the message there is; returns `code`. For callers that know more about the where. */
int err_prefix(int code, const char *format, ...) PRINTF(2, 3);

/* The message, never NULL. Same as spool_last_error(). */
const char *err_last(void);

#endif
