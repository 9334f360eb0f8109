/* images.h - which of the pending changes are on the disk, and the directory that makes. */
#ifndef CRASHLAB_IMAGES_H
#define CRASHLAB_IMAGES_H

#include "disk.h"

/* One choice, which has a short text for --replay: "kill", "none", "all", "mask:1f", "without:3", "only:3", "prefix:3",
 * "tear:3:77" (all, but of change 3 only some sectors), "random:77". */
enum choice_kind {
    CHOICE_KILL,
    CHOICE_NONE,
    CHOICE_ALL,
    CHOICE_MASK,
    CHOICE_WITHOUT,
    CHOICE_ONLY,
    CHOICE_PREFIX,
    CHOICE_TEAR,
    CHOICE_RANDOM,
};
struct choice {
    enum choice_kind kind;
    uint64_t n, seed;
};

void choice_format(struct choice choice, char *buf, size_t size);
bool choice_parse(const char *text, struct choice *ret);

/* In words: which changes are on the disk and which are not. */
void choice_describe(const struct disk *disk, struct choice choice, char *buf, size_t size);

/* The choices worth trying at this point, the first pass few, later ones more. Calls back with each; false ends it. */
void choice_each(const struct disk *disk, unsigned pass, uint64_t seed, bool (*each)(void *user, struct choice choice),
                 void *user);

/* ----------------------------------------------------------------------------------------------------------- images */

struct image {
    const struct disk *disk;
    struct disk_content *own;            /* by id: content other than the disk's … */
    const struct disk_content **content; /* … or the disk's; NULL: not a file */
    struct disk_tree tree;
    uint64_t hash;
    uint64_t seed; /* of what does not matter */
};

void image_make(const struct disk *disk, struct choice choice, struct image *ret);
void image_free(struct image *image);

/* Writes it into `path`, which is made. With `attach`, notes each file's inode there under its id. errno. */
int image_write(const struct image *image, const char *path, struct trace *attach);

/* Compares it with a directory, other than what does not matter; in words. */
bool image_matches(const struct image *image, const char *path, char *why, size_t size);

void remove_tree(const char *path);

/* A stream of numbers (splitmix64). */
uint64_t random_next(uint64_t *state);
uint64_t random_mix(uint64_t a, uint64_t b);

#endif
