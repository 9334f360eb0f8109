/* template_file.c - a template as one file, so that a case that failed is repeated with the very same bytes.
 *
 * Number of files; for each its name, order, size and past size; then the bytes; at last the homes of the events. In
 * the layout of this machine: it is read where it was written. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wreck.h"

static bool put(FILE *file, const void *bytes, size_t size)
{
    return size == 0 || fwrite(bytes, size, 1, file) == 1;
}

static bool get(FILE *file, void *bytes, size_t size)
{
    return size == 0 || fread(bytes, size, 1, file) == 1;
}

static bool put_one(FILE *file, const struct wreck_file *one)
{
    return put(file, one, sizeof *one) && put(file, one->bytes, one->size) && put(file, one->old, one->old_size);
}

static bool get_one(FILE *file, struct wreck_file *one)
{
    if (!get(file, one, sizeof *one))
        return false;
    bool had_past = one->old != NULL;
    one->bytes = malloc(one->size + 1);
    one->old = had_past ? malloc(one->old_size + 1) : NULL;
    return one->bytes && get(file, one->bytes, one->size) && (!had_past || get(file, one->old, one->old_size));
}

bool wreck_template_save(const struct wreck_template *template, const char *path)
{
    FILE *file = fopen(path, "we");
    if (!file)
        return false;
    bool good = put(file, &template->count, sizeof template->count) && put(file, template->home, sizeof template->home);
    for (size_t i = 0; good && i < template->count; i++)
        good = put_one(file, &template->files[i]);
    return fclose(file) == 0 && good;
}

bool wreck_template_load(const char *path, struct wreck_template *ret)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    bool good = get(file, &ret->count, sizeof ret->count) && get(file, ret->home, sizeof ret->home) &&
                ret->count <= WRECK_FILES_MAX;
    for (size_t i = 0; good && i < ret->count; i++)
        good = get_one(file, &ret->files[i]);
    fclose(file);
    return good;
}
