/* log.h - where messages and notices of one open spool go. Copied by value into each stage; calls no lock. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "../spool.h"

struct reporter {
    void (*log)(void *user, enum spool_log_level level, const char *message);
    void *log_user;
    void (*on_notice)(void *user, const struct spool_notice *notice);
    void *notice_user;
};

/* Both do nothing without a callback. A notice is logged as well, as a warning. */
void report(const struct reporter *r, enum spool_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void notify(const struct reporter *r, enum spool_notice_kind kind, const char *sink, const struct spool_id *id,
            uint64_t count, const char *format, ...) __attribute__((format(printf, 6, 7)));

#endif
