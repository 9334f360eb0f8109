/* progress.c - a line on the terminal for work that takes long. */
#include <stdarg.h>
#include <unistd.h>

#include "output.h"

enum { PROGRESS_FIRST_MS = 500, PROGRESS_EVERY_MS = 200 };
#define NS_PER_MS 1000000ull

void progress_start(struct progress *progress, bool wanted)
{
    uint64_t now = now_steady_ns();
    *progress = (struct progress){.on = wanted && isatty(STDERR_FILENO), .start_ns = now};
    progress->last_ns = now + (PROGRESS_FIRST_MS - PROGRESS_EVERY_MS) * NS_PER_MS;
}

bool progress_due(struct progress *progress)
{
    if (!progress->on)
        return false;
    uint64_t now = now_steady_ns();
    if (now < progress->last_ns + PROGRESS_EVERY_MS * NS_PER_MS)
        return false;
    progress->last_ns = now;
    return true;
}

void progress_line(struct progress *progress, const char *format, ...)
{
    if (!progress->on)
        return;
    va_list list;
    va_start(list, format);
    fputs("\r\033[K", stderr); /* to the first column, erase the line */
    vfprintf(stderr, format, list);
    fflush(stderr);
    va_end(list);
    progress->shown = true;
}

void progress_clear(struct progress *progress)
{
    if (!progress->shown)
        return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    progress->shown = false;
}

uint64_t progress_rate(const struct progress *progress, uint64_t count)
{
    uint64_t took_ms = (now_steady_ns() - progress->start_ns) / NS_PER_MS;
    return took_ms ? count * 1000 / took_ms : count * 1000;
}
