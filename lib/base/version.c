/* version.c - the version of the library that runs. */
#include "../spool.h"

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

const char *spool_version(void)
{
    return TEXT(SPOOL_VERSION_MAJOR) "." TEXT(SPOOL_VERSION_MINOR) "." TEXT(SPOOL_VERSION_PATCH);
}
