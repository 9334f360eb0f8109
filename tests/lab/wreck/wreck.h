/* wreck.h - a spool directory that something has been at: the parts of the driver (main.c), which tests/fuzz/fuzz_dir.c
 * uses too.
 *
 * A case is a recipe: bytes that say which files are damaged and how. template.c keeps a directory as a crashed process
 * leaves it, damage.c carries the recipe out on a copy of it, exercise.c opens the result and uses all of it. */
#ifndef WRECK_H
#define WRECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    WRECK_FILES_MAX = 48,
    WRECK_EVENTS = 700,    /* in the template: numbers 0 to 699 */
    WRECK_NEW = 1 << 20,   /* numbers of those that exercise.c enqueues begin here */
    WRECK_NEW_EVENTS = 12, /* in each of its rounds */
    WRECK_BODY_MAX = 12000,
    WRECK_TOLD_SIZE = 1024,
};

/* ------------------------------------------------------------------------------------------------------ template.c */

struct wreck_file {
    char name[96]; /* in the directory: "segments/0…1.mdb" */
    uint8_t *bytes;
    size_t size;
    uint8_t *old; /* the same file at an earlier time, for pages that were never written; NULL: there was none */
    size_t old_size;
    int order; /* in which it was found */
};

struct wreck_template {
    struct wreck_file files[WRECK_FILES_MAX];
    size_t count;
    int home[WRECK_EVENTS]; /* the file that holds the event, where one does: a segment if it is in any, else a journal
                             */
};

/* Makes it below the directory `scratch`, which is empty again afterwards. NULL, or what went wrong. */
const char *wreck_template_make(const char *scratch, struct wreck_template *ret);
/* template_file.c: keeps it in a file, and takes it from there. */
bool wreck_template_save(const struct wreck_template *template, const char *path);
bool wreck_template_load(const char *path, struct wreck_template *ret);
/* Makes `dir` a copy of it, whatever it was before. */
bool wreck_template_put(const struct wreck_template *template, const char *dir);
bool wreck_remove_tree(const char *dir);

/* The body of event `n`, which can be checked: its number, and bytes that follow from it. */
size_t wreck_body(unsigned n, char ret[WRECK_BODY_MAX]);
/* False: no such event was ever made. */
bool wreck_body_is_right(const void *body, size_t size, unsigned *ret_n);

/* -------------------------------------------------------------------------------------------------------- damage.c */

struct wreck_damage {
    bool touched[WRECK_FILES_MAX]; /* by file of the template */
    bool identity;                 /* spool.json was touched: the spool may be refused */
    bool odd;                      /* there are links, directories, FIFOs: likewise */
    bool extra; /* files were added, exchanged or brought back from the past: events may come again */
    unsigned count;
    char told[WRECK_TOLD_SIZE]; /* what was done */
};

/* Carries out the recipe on a fresh copy of the template in `dir`. */
void wreck_damage(const struct wreck_template *template, const char *dir, const uint8_t *recipe, size_t size,
                  struct wreck_damage *ret);

/* ------------------------------------------------------------------------------------------------------ exercise.c */

struct wreck_outcome {
    char step[32];       /* the one under way */
    char complaint[512]; /* "": none */
    int open_code;       /* of opening it for writing */
    unsigned notices;    /* of damage */
    unsigned findings;   /* of verify, before anything was changed */
    unsigned delivered;  /* to the sink that had nothing before */
    bool opened, finished;
};

/* Reads, delivers, verifies, enqueues, closes and opens again. */
void wreck_exercise(const struct wreck_template *template, const struct wreck_damage *damage, const char *dir,
                    struct wreck_outcome *ret);

/* ---------------------------------------------------------------------------------------------------------- wrap.c */

/* The controls: checks of the library that can be switched off. */
extern bool wreck_without_pagecheck, wreck_without_crc;

#endif
