/* wrap.c - checks of the library that the controls switch off, to see that their absence is noticed.
 *
 * The linker sends calls of pagecheck() and crc32c() here (flags.mk). Not part of the fuzz target. */
#include "../../../lib/base/crc32c.h"
#include "../../../spool/pagecheck.h"
#include "wreck.h"

bool wreck_without_pagecheck, wreck_without_crc;

int __real_pagecheck(int fd, const char *file);
int __wrap_pagecheck(int fd, const char *file);
uint32_t __real_crc32c(uint32_t crc, const void *bytes, size_t size);
uint32_t __wrap_crc32c(uint32_t crc, const void *bytes, size_t size);

int __wrap_pagecheck(int fd, const char *file)
{
    return wreck_without_pagecheck ? 0 : __real_pagecheck(fd, file);
}

uint32_t __wrap_crc32c(uint32_t crc, const void *bytes, size_t size)
{
    return wreck_without_crc ? 0 : __real_crc32c(crc, bytes, size);
}
