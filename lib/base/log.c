/* log.c - messages and notices of one open spool, on their way to the program's callbacks. */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>

enum { REPORT_SIZE = 1024 };

void report(const struct reporter *r, enum spool_log_level level, const char *format, ...)
{
    if (!r || !r->log)
        return;
    char text[REPORT_SIZE];
    va_list args;
    va_start(args, format);
    int size = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    r->log(r->log_user, level, size < 0 ? format : text);
}

/* "sink audit: connection refused": the log has no members of its own for who is concerned. */
static void log_notice(const struct reporter *r, const struct spool_notice *notice)
{
    if (notice->sink)
        report(r, SPOOL_LOG_WARNING, "sink %s: %s", notice->sink, notice->reason);
    else
        report(r, SPOOL_LOG_WARNING, "%s", notice->reason);
}

void notify(const struct reporter *r, enum spool_notice_kind kind, const char *sink, const struct spool_id *id,
            uint64_t count, const char *format, ...)
{
    if (!r || (!r->log && !r->on_notice))
        return;
    char reason[REPORT_SIZE];
    va_list args;
    va_start(args, format);
    int size = vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    struct spool_notice notice = {.size = sizeof notice, .kind = kind, .sink = sink, .id = id, .count = count};
    notice.reason = size < 0 ? format : reason;
    log_notice(r, &notice);
    if (r->on_notice)
        r->on_notice(r->notice_user, &notice);
}
