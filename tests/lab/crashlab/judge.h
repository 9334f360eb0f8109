/* judge.h - compares what is owed (promise.h) with what is there (found.h). */
#ifndef CRASHLAB_JUDGE_H
#define CRASHLAB_JUDGE_H

#include "found.h"
#include "promise.h"

struct judge {
    const struct promise *promise;
    const struct found *found;
    char *why; /* the first thing that is wrong */
    size_t why_size;
};

/* True when all is well; else `why` has a sentence. */
bool judge_all(const struct judge *judge);
/* Writes the sentence; always false. */
bool judge_fails(const struct judge *judge, const char *format, ...) PRINTF(2, 3);

#endif
