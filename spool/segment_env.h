/* segment_env.h - what segment.c and segment_write.c share: an environment and its trees. Private to these two. */
#ifndef SPOOL_SEGMENT_ENV_H
#define SPOOL_SEGMENT_ENV_H

#include "segment.h"

/* Sets segment->env; it is segment_close() that releases it, also after a failure. map_bytes 0: as the file says. */
int segment_env_open(const struct dir *dir, const char *name, uint64_t map_bytes, unsigned flags,
                     struct segment *segment);

/* The same by path. */
int segment_env_open_path(const char *path, mode_t mode, uint64_t map_bytes, unsigned flags, struct segment *segment);

/* Reads head and tally, and keeps the handles of the trees. */
int segment_load(struct segment *segment);

/* Opens, or with MDB_CREATE makes, the five trees. */
int segment_trees_open(struct segment *segment, MDB_txn *txn, unsigned flags);

#endif
