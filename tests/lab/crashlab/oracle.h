/* oracle.h - what the oracle's files share. */
#ifndef CRASHLAB_ORACLE_H
#define CRASHLAB_ORACLE_H

#include "../../../lib/base/sync.h"
#include "control.h"
#include "judge.h"
#include "scene.h"

struct oracle {
    const char *dir;
    struct spool *spool;
    struct promise promise;
    struct found found;
    char *why;
    size_t why_size;
};

/* Writes code and message to `why`; always false. */
bool oracle_fails(struct oracle *oracle, int code, const char *doing);

/* oracle_deliver.c: delivers all there is to every registered sink, and sees that each gets just what it has to. */
bool oracle_deliver(struct oracle *oracle);

/* oracle_files.c: each event is once in the files of a sink that keeps some, once all is delivered. */
bool oracle_check_files(struct oracle *oracle, const struct scene_sink *sink, int number);

#endif
