/* scratch_fixture.h - a scratch directory, and the path of a spool in it that is yet to be made. */
#ifndef SCRATCH_FIXTURE_H
#define SCRATCH_FIXTURE_H

#include "../check_main.h"

static char *dir, *path;

static inline void scratch_begin(void)
{
    dir = test_dir();
    ck_assert(asprintf(&path, "%s/spool", dir) > 0);
}

static inline void scratch_end(void)
{
    test_rmdir(dir);
    free(dir);
    free(path);
}

#endif
