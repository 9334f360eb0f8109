/* file_names.c - see file_names.h. Matching needs no second try, since every conversion has its own number of digits.
 */
#include "file_names.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* What a conversion expands to: 0 a digit, any other character itself. NULL: it cannot be told. */
static const char *shape_of(char conversion)
{
    switch (conversion) {
    case 'Y':
        return "0000";
    case 'm':
    case 'd':
    case 'H':
    case 'M':
    case 'S':
    case 'y':
    case 'U':
    case 'W':
    case 'V':
        return "00";
    case 'j':
        return "000";
    case 'u':
    case 'w':
        return "0";
    case 'F':
        return "0000-00-00";
    case 'T':
        return "00:00:00";
    case '%':
        return "%";
    default:
        return NULL;
    }
}

bool file_names_can(const char *pattern, char *ret_conversion)
{
    for (const char *p = strchr(pattern, '%'); p; p = p[1] ? strchr(p + 2, '%') : NULL)
        if (!shape_of(p[1])) {
            *ret_conversion = p[1];
            return false;
        }
    return true;
}

/* ---------------------------------------------------------------------------------------------------------- matching
 */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Behind what [pattern, end) matches at the beginning of the text; NULL: it does not. */
static const char *match(const char *pattern, const char *end, const char *text)
{
    for (; pattern < end; pattern++) {
        if (*pattern != '%') {
            if (*text++ != *pattern)
                return NULL;
            continue;
        }
        const char *shape = shape_of(*++pattern);
        for (; shape && *shape; shape++, text++)
            if (*shape == '0' ? !is_digit(*text) : *text != *shape)
                return NULL;
        if (!shape)
            return NULL;
    }
    return text;
}

static bool ends_with(const char *text, const char *end)
{
    return strcmp(text, end) == 0;
}

/* Nothing, or what stands behind a compressed file's name. */
static bool take_form(const char *rest, enum file_form *ret)
{
    if (*rest && !ends_with(rest, FILE_ZST_SUFFIX) && !ends_with(rest, FILE_TMP_SUFFIX))
        return false;
    *ret = !*rest ? FORM_PLAIN : ends_with(rest, FILE_ZST_SUFFIX) ? FORM_ZST : FORM_TMP;
    return true;
}

/* Behind "-000001"; the same place if there is none. */
static const char *skip_number(const char *text)
{
    size_t digits = 0;
    while (*text == '-' && is_digit(text[1 + digits]))
        digits++;
    return digits >= 6 ? text + 1 + digits : text;
}

bool file_names_fit(const char *pattern, const char *name, enum file_form *ret_form)
{
    const char *end = pattern + strlen(pattern), *dot = strrchr(pattern, '.');
    const char *stem_end = dot && dot > pattern ? dot : end;
    const char *rest = match(pattern, stem_end, name);
    if (!rest)
        return false;
    const char *numbered = match(stem_end, end, skip_number(rest)), *plain = match(stem_end, end, rest);
    return (plain && take_form(plain, ret_form)) || (numbered && take_form(numbered, ret_form));
}

/* ---------------------------------------------------------------------------------------------------------- listing */

void file_list_free(struct file_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->entries[i].path);
    free(list->entries);
    *list = (struct file_list){0};
}

static int add(struct file_list *list, const char *path, const struct stat *st, enum file_form form)
{
    if (list->count == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 64;
        struct file_entry *entries = realloc(list->entries, cap * sizeof *entries);
        if (!entries)
            return ENOMEM;
        list->entries = entries;
        list->cap = cap;
    }
    char *copy = strdup(path);
    if (!copy)
        return ENOMEM;
    list->entries[list->count++] = (struct file_entry){
        .path = copy,
        .form = form,
        .size = (uint64_t)st->st_size,
        .modified_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec,
    };
    return 0;
}

static int walk(struct file_list *list, const char *folder, const char *pattern);

/* One name of `folder`, which the component [pattern, slash) fits, or which is to be seen whether it does. */
static int visit(struct file_list *list, const char *folder, const char *name, const char *component, const char *slash)
{
    char path[FILE_PATH_MAX];
    struct stat st;
    enum file_form form;
    size_t length = strlen(folder);
    const char *between = length == 0 || folder[length - 1] == '/' ? "" : "/";
    if (length + strlen(name) + 2 > sizeof path)
        return 0;
    stpcpy(stpcpy(stpcpy(path, folder), between), name);
    if (slash) {
        const char *rest = match(component, component + strlen(component), name);
        return rest && !*rest && stat(path, &st) == 0 && S_ISDIR(st.st_mode) ? walk(list, path, slash + 1) : 0;
    }
    if (!file_names_fit(component, name, &form) || lstat(path, &st) != 0 || !S_ISREG(st.st_mode))
        return 0;
    return add(list, path, &st, form);
}

static int walk(struct file_list *list, const char *folder, const char *pattern)
{
    char component[FILE_PATH_MAX];
    const char *slash = strchr(pattern, '/');
    size_t size = slash ? (size_t)(slash - pattern) : strlen(pattern);
    if (size >= sizeof component)
        return 0;
    memcpy(component, pattern, size);
    component[size] = '\0';
    if (slash && !strchr(component, '%')) /* nothing to search */
        return size == 0 ? walk(list, folder, slash + 1) : visit(list, folder, component, component, slash);
    DIR *dir = opendir(*folder ? folder : ".");
    int err = 0;
    for (struct dirent *entry; dir && err == 0 && (entry = readdir(dir)) != NULL;)
        if (entry->d_name[0] != '.' || component[0] == '.')
            err = visit(list, folder, entry->d_name, component, slash);
    if (dir)
        closedir(dir);
    return err;
}

static int compare_by_age(const void *a, const void *b)
{
    const struct file_entry *x = a, *y = b;
    if (x->modified_ns != y->modified_ns)
        return x->modified_ns < y->modified_ns ? -1 : 1;
    return strcmp(x->path, y->path);
}

int file_names_list(const char *pattern, struct file_list *ret)
{
    struct file_list list = {0};
    int err = walk(&list, *pattern == '/' ? "/" : "", *pattern == '/' ? pattern + 1 : pattern);
    if (err) {
        file_list_free(&list);
        return err;
    }
    if (list.count > 1)
        qsort(list.entries, list.count, sizeof *list.entries, compare_by_age);
    *ret = list;
    return 0;
}
