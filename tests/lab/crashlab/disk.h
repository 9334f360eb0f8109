/* disk.h - what may be on the disk at one point of the record.
 *
 * The model, after ALICE (Pillai et al. 2014) and SQLite's test6.c:
 *   file       safe content, and what was done since the last finished flush. A write gives new versions of the
 * 512-byte sectors it touches. Of each sector any version since the safe one may be on disk; a sector is never half
 * written. Sizes likewise. A flush covers what was done before it began, from the moment it has returned. A write
 * through O_DSYNC is safe when it has returned, and nothing else is. directory  safe entries, and the changes since the
 * last finished flush of the directory: creation, rename, link, unlink. Any prefix of them may be on disk, and one of
 * these may be missing, with all that depends on it. A rename is atomic; between two directories it is safe when both
 * have been flushed. Flushing a file does nothing for its name. */
#ifndef CRASHLAB_DISK_H
#define CRASHLAB_DISK_H

#include "trace.h"

struct disk_entry {
    uint32_t dir, file;
    char name[TRACE_NAME];
};

struct disk_tree {
    struct disk_entry *entry;
    size_t count, capacity;
};

/* Content as sectors with a hash each; the hash of a sector of zeros is 0. */
struct disk_content {
    uint8_t *bytes;
    uint64_t *hash; /* of each sector, with file and place */
    size_t size, sectors;
};

struct disk_file {
    bool is_known, is_directory, is_hidden;
    struct disk_content now, safe; /* as the page cache has it; as it is on disk for sure */
};

/* One change that is not safe yet. */
struct disk_op {
    uint32_t number; /* of its record */
    enum trace_kind kind;
    uint32_t file;
    uint64_t size; /* the file's size becomes at least that (TRACE_SIZE: exactly) */
    size_t first, sectors;
    uint8_t *bytes;
    uint64_t *hash;
    bool *dead; /* by sector: a later version is safe */
    uint32_t dir, dir2, replaced;
    bool is_dir_safe, is_dir2_safe;
    const char *name, *name2; /* in the trace */
};

struct disk {
    const struct trace *trace;
    struct disk_file *file; /* by id */
    struct disk_op *op;     /* pending, in the order of the record */
    size_t ops, ops_capacity;
    struct disk_tree now, safe;
    uint64_t now_sum, safe_sum; /* of all sectors' hashes */
};

struct disk *disk_new(const struct trace *trace);
void disk_free(struct disk *disk);

/* Goes on by one record. */
void disk_apply(struct disk *disk, const struct trace_record *record);

bool disk_op_is_name(const struct disk_op *op); /* a change of a directory */

/* ---- for images ---- */
const struct disk_entry *disk_tree_find(const struct disk_tree *tree, uint32_t dir, const char *name);
void disk_tree_copy(struct disk_tree *to, const struct disk_tree *from);
/* Does it, if it can be done there. */
void disk_tree_apply(struct disk_tree *tree, const struct disk_op *op);
/* Sets a sector and returns what the sum of hashes changes by. */
uint64_t disk_content_set(struct disk_content *content, size_t sector, const uint8_t *bytes, uint64_t hash);
/* Cuts or extends; returns the same. */
uint64_t disk_content_resize(struct disk_content *content, uint32_t file, uint64_t size);
void disk_content_copy(struct disk_content *to, const struct disk_content *from);
void disk_content_free(struct disk_content *content);
uint64_t disk_hash(uint32_t file, uint64_t place, const uint8_t *bytes, size_t size);

/* Allocation that ends the program when there is no memory: nothing sensible can be said then. */
void *lab_alloc(void *memory, size_t size);

#endif
