/* file_part.h - one of the many files of file_parts.c: the one of its path that is written to, or one that was.
 *
 * The first file of a path has that name; when it is full the next one gets a number, as with a single file (file_path.h).
 * The number to go on with is looked for among the names in the folder, those of compressed files too.
 *
 *   begun      opened or made, protected from whoever tends to complete files, and noted in the ledger
 *   retired    full: flushed and closed, and waits for its line in the ledger to be stored
 *   dropped    forgotten; if all of it is acknowledged, it may be compressed and deleted */
#ifndef DELIVERY_SINKS_FILE_PART_H
#define DELIVERY_SINKS_FILE_PART_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "file_ledger.h"
#include "file_parts.h"

struct part {
    struct part *next;
    int fd; /* -1: retired */
    dev_t dev;
    ino_t ino;
    unsigned number;
    uint64_t size, checked;     /* now; as of the last checkpoint */
    uint64_t before;            /* this batch */
    uint64_t begun_ns, used_ns; /* monotonic */
    bool torn;
    struct buffer lines; /* of this batch */
    char *path;          /* with the number */
    char base[];         /* as the event has it */
};

/* All of them. */
struct parts {
    struct parts_options options;
    struct ledger ledger;
    struct part *files, *retired;
    size_t count;   /* of files: those that are open */
    uint64_t given; /* of the last checkpoint: it is stored when delivery_sink_stored() has come there */
    bool doubtful;  /* a flush failed: what it was for may be lost */
};

/* Opens the file of `base` to go on with, with `next` one that is new, and says in the ledger that it is ours from here
 * on. It is the first of parts->files then. SPOOL_EUNAVAILABLE. */
int part_begin(struct parts *parts, const char *base, bool next, struct part **ret);
/* Somebody else may have moved, removed or cut it: false, and told. */
bool part_is_still_there(const struct part *part);
/* Must the next file of the path be begun before `more` bytes are written? */
bool part_is_full(const struct parts *parts, const struct part *part, size_t more);
/* Appends its lines, all or none. SPOOL_EUNAVAILABLE. */
int part_append(struct parts *parts, struct part *part);
/* Takes back what it got of this batch; what cannot be cut off now is before the next line. */
void part_undo(struct part *part);
/* Begins the next file of the path, which gets the lines, and retires this one. SPOOL_EUNAVAILABLE: it stays as it is. */
int part_rotate(struct parts *parts, struct part *part, struct part **ret);
/* All of it is covered by a checkpoint that is stored. */
bool part_is_settled(const struct parts *parts, const struct part *part);
/* Forgets the one that a pointer in the list leads to. */
void part_drop(struct parts *parts, struct part **at);
int part_unavailable(const char *path, int err); /* the message; SPOOL_EUNAVAILABLE */

#endif
