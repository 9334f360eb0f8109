/* trace.h - the record of a run: what was done to the directory, in order, and the marks in between.
 *
 * It lies in memory that all processes of the run share, and is written under its lock. A record is a header and its
 * data, eight-byte aligned. Files and directories have ids, given in the order in which they appeared, 1 is the
 * directory itself; an id is never used again, unlike an inode number. */
#ifndef CRASHLAB_TRACE_H
#define CRASHLAB_TRACE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lab.h"

enum { TRACE_ROOT = 1, TRACE_NODES = 8192, TRACE_NAME = 128, SECTOR = 512 };

enum trace_kind {
    TRACE_MARK = 1,  /* `at` is the mark's kind; data */
    TRACE_BASE_DIR,  /* was there before and is safe: `file` in `dir`; data: the name */
    TRACE_BASE_FILE, /* likewise; `at` is its size; data: the name, content in TRACE_BASE_DATA */
    TRACE_BASE_DATA, /* `file`, `at`; data */
    TRACE_CREATE,    /* `file` in `dir`; data: the name */
    TRACE_MKDIR,
    TRACE_LINK,
    TRACE_UNLINK,
    TRACE_RENAME,  /* `file` from `dir` to `dir2`; data: both names, each with its NUL */
    TRACE_SWAP,    /* renameat2 with RENAME_EXCHANGE: `file` from `dir`, the other one from `dir2` */
    TRACE_WRITE,   /* `file`, `at`; data */
    TRACE_STORE,   /* the same through a mapping, found by comparing: whole sectors */
    TRACE_SIZE,    /* ftruncate: `at` is the size */
    TRACE_FLUSH,   /* a flush of `file` (0: of everything) begins; what was done before is covered */
    TRACE_FLUSHED, /* the flush, or the write through an O_DSYNC descriptor, with the number `ref` has returned 0 */
};

struct trace_record {
    uint32_t bytes; /* of header and data, rounded up */
    uint32_t kind, number, pid;
    uint32_t file, dir, dir2, ref;
    uint64_t at;
    uint32_t size;    /* of data */
    uint32_t is_sync; /* written through O_DSYNC; or the end of such a write */
    uint8_t data[];
};

/* What the recorder knows of a file or directory. */
struct trace_node {
    uint64_t inode;
    uint32_t parent;
    bool is_directory;
    bool is_hidden;  /* what is stored through a mapping does not count (the wake page: hints, any bytes are fine) */
    uint8_t *shadow; /* of a file that is written through a mapping: its content as noted last */
    size_t shadow_size;
    char name[TRACE_NAME];
};

struct trace {
    pthread_mutex_t lock;
    size_t capacity, used; /* bytes behind the struct; shadows are taken from the end */
    uint32_t count;        /* records */
    uint32_t nodes;        /* the last id given */
    uint32_t first_point;  /* records before it are no crash points */
    enum lab_crash floor;  /* the worst crash that happened before the first point */
    bool is_full;          /* something did not fit: the record is worthless */
    bool is_torn;          /* a process died inside a recorded call, other than by a recorded kill */
    bool may_die;          /* a recorded death is under way, under the lock */
    uint64_t device;
    uint64_t seed;
    char scenario[64];
    char root[512];
    struct trace_node node[TRACE_NODES];
};

/* Shared with the children forked from now on. NULL: no memory. */
struct trace *trace_new(size_t capacity, const char *scenario, uint64_t seed);
void trace_free(struct trace *trace);

void trace_lock(struct trace *trace);
void trace_unlock(struct trace *trace);

/* All of these under the lock. */
struct trace_record *trace_add(struct trace *trace, enum trace_kind kind, const void *data, size_t size);
uint32_t trace_node_add(struct trace *trace, uint64_t inode, uint32_t parent, const char *name, bool is_directory);
void trace_node_set(struct trace *trace, uint32_t id, uint64_t inode, uint32_t parent, const char *name,
                    bool is_directory);
uint32_t trace_node_find(const struct trace *trace, uint64_t device, uint64_t inode); /* 0: none of ours */
bool trace_path(const struct trace *trace, uint32_t id, char *buf, size_t size);      /* relative; false: too deep */
uint8_t *trace_shadow(struct trace *trace, size_t size);                              /* NULL: full */

/* Going through: NULL begins, NULL is the end. */
const struct trace_record *trace_next(const struct trace *trace, const struct trace_record *record);

/* The records up to and including `last`. */
void trace_copy(struct trace *to, const struct trace *from, uint32_t last);
/* Only their marks. */
void trace_copy_marks(struct trace *to, const struct trace *from, uint32_t last);

/* A file that explains a violation by itself. 0 or errno. */
int trace_save(const struct trace *trace, const char *path);
struct trace *trace_load(const char *path);

/* "fdatasync journal/x.jnl begins" */
void trace_describe(const struct trace *trace, const struct trace_record *record, char *buf, size_t size);

#endif
