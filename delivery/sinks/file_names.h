/* file_names.h - which files of a folder are of a template: found again by their names, whoever made them and when.
 *
 *   events-%Y%m%d.jsonl   fits   events-20261121.jsonl, events-20261121-000001.jsonl, and both with .zst behind
 *
 *   agent={agent}/e.jsonl fits   agent=%2Ehidden/e.jsonl, agent=a/e-000003.jsonl
 *
 * Only conversions of a fixed number of digits can be told from other text. */
#ifndef DELIVERY_SINKS_FILE_NAMES_H
#define DELIVERY_SINKS_FILE_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "file_path.h"

#define FILE_ZST_SUFFIX ".zst"
#define FILE_TMP_SUFFIX ".zst.tmp"

enum file_form { FORM_PLAIN, FORM_ZST, FORM_TMP };

struct file_entry {
    char *path;
    char *base;      /* the path without number and .zst: the same for all that were begun one after the other */
    unsigned number; /* 0: none */
    bool is_last;    /* none of its base has a higher number */
    enum file_form form;
    uint64_t size;       /* bytes */
    int64_t modified_ns; /* since 1970 */
};

struct file_list {
    struct file_entry *entries;
    size_t count, cap;
};

/* Can its names be told? The first conversion that cannot is in *ret_conversion. */
bool file_names_can(const char *pattern, char *ret_conversion);
/* Does the last component of a path fit that of the template? */
bool file_names_fit(const char *pattern_component, const char *name, enum file_form *ret_form);
/* All plain files that fit, oldest first. What cannot be looked at is left out. ENOMEM. */
int file_names_list(const char *pattern, struct file_list *ret);
void file_list_free(struct file_list *list);
/* Would the base of an entry be begun at a time in seconds, by some event? */
bool file_names_is_of(const char *pattern, const char *base, int64_t unix_s);
/* The highest number among the files of a base, and whether that one is compressed; 0 if there is none. errno. */
int file_names_last(const char *base, unsigned *ret_number, bool *ret_compressed);
/* A file that was compressed has used its name up. */
bool file_is_compressed(const char *path);

#endif
