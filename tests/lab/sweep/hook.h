/* hook.h - what the hooks share: the function that would have been called, and a failing answer. */
#ifndef HOOK_H
#define HOOK_H

#include <dlfcn.h>
#include <errno.h>

#include "sweep.h"

/* Declares `next`, the function of that name behind ours. Looked up once; twice does no harm. */
#define NEXT(type, function, ...)                                                                                      \
    static type (*next)(__VA_ARGS__);                                                                                  \
    if (!next)                                                                                                         \
    *(void **)&next = next_function(#function)

static inline void *next_function(const char *name)
{
    fault_pause();
    void *function = dlsym(RTLD_NEXT, name);
    fault_resume();
    return function;
}

static inline int fail(int err)
{
    errno = err;
    return -1;
}

#endif
