/* file_names.h - which files of a folder are of a template: found again by their names, whoever made them and when.
 *
 *   events-%Y%m%d.jsonl   fits   events-20261121.jsonl, events-20261121-000001.jsonl, and both with .zst behind
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

#endif
