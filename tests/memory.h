/* memory.h - where tests with thousands of flushes, of which none matters, have their files: in memory, if there is room. */
#ifndef MEMORY_H
#define MEMORY_H

#include <stdbool.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* What two that run at a time may need. A container gives /dev/shm 64 MiB, unless it is told otherwise. */
#define MEMORY_BYTES_MIN (512ull << 20)

/* $TMPDIR where it is set; else /dev/shm, or where that is too small, /tmp. */
static inline const char *memory_dir(void)
{
    const char *given = getenv("TMPDIR");
    struct statvfs fs;
    bool room = access("/dev/shm", W_OK) == 0 && statvfs("/dev/shm", &fs) == 0 &&
                (unsigned long long)fs.f_bavail * fs.f_frsize >= MEMORY_BYTES_MIN;
    return given ? given : room ? "/dev/shm" : "/tmp";
}

#endif
