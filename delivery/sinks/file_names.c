/* file_names.c - see file_names.h. A conversion has its own number of digits, and needs no second try; a placeholder takes as
 * much as it can at first, then less. */
#include "file_names.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../../lib/spool.h"
#include "file_parts.h"

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

/* What has to come behind a piece of a template. */
struct tail {
    bool (*fits)(struct tail *tail, const char *rest);
    bool is_expanded;      /* by strftime: a percent sign is one */
    const char *ext, *end; /* of a file's name: what stands behind the number */
    struct file_fit *fit;
};

/* How a name fits. */
struct file_fit {
    enum file_form form;
    unsigned number;
    const char *numbered, *ext, *suffix; /* in the name: where the number begins, what is behind it, and .zst */
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool match(const char *pattern, const char *end, const char *text, struct tail *tail);

/* Some of the text stands for a placeholder. */
static bool match_value(const char *pattern, const char *end, const char *text, struct tail *tail)
{
    size_t n = 0;
    while (*text != '.' && parts_is_value_byte(text[n]))
        n++;
    for (; n > 0; n--)
        if (match(pattern, end, text + n, tail))
            return true;
    return false;
}

/* Behind what a conversion expands to; NULL: the text does not begin so. */
static const char *skip_shape(const char *shape, const char *text)
{
    for (; shape && *shape; shape++, text++)
        if (*shape == '0' ? !is_digit(*text) : *text != *shape)
            return NULL;
    return shape ? text : NULL;
}

/* Does the text begin as [pattern, end) says, with what has to come behind it? */
static bool match(const char *pattern, const char *end, const char *text, struct tail *tail)
{
    while (pattern < end && text) {
        const char *behind = *pattern == '{' ? parts_placeholder_end(pattern) : NULL;
        if (behind)
            return match_value(behind, end, text, tail);
        if (*pattern == '%' && !tail->is_expanded) {
            text = skip_shape(shape_of(pattern[1]), text);
            pattern += 2;
        } else if (*text++ != *pattern++)
            return false;
    }
    return text && tail->fits(tail, text);
}

static bool is_end(struct tail *tail, const char *rest)
{
    (void)tail;
    return *rest == '\0';
}

/* Nothing, or what stands behind a compressed file's name. */
static bool is_form(struct tail *tail, const char *rest)
{
    bool zst = strcmp(rest, FILE_ZST_SUFFIX) == 0, tmp = strcmp(rest, FILE_TMP_SUFFIX) == 0;
    if (*rest && !zst && !tmp)
        return false;
    tail->fit->form = !*rest ? FORM_PLAIN : zst ? FORM_ZST : FORM_TMP;
    tail->fit->suffix = rest;
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

/* What is behind the stem: without a number or with one. */
static bool is_numbered(struct tail *tail, const char *rest)
{
    struct tail form = {.fits = is_form, .fit = tail->fit};
    const char *behind = skip_number(rest);
    *tail->fit = (struct file_fit){.numbered = rest, .ext = rest};
    if (match(tail->ext, tail->end, rest, &form))
        return true;
    tail->fit->ext = behind;
    tail->fit->number = behind > rest ? (unsigned)strtoul(rest + 1, NULL, 10) : 0;
    return behind > rest && match(tail->ext, tail->end, behind, &form);
}

static bool fits(const char *pattern, const char *name, struct file_fit *ret)
{
    const char *end = pattern + strlen(pattern), *dot = strrchr(pattern, '.');
    const char *stem_end = dot && dot > pattern ? dot : end;
    struct tail tail = {.fits = is_numbered, .ext = stem_end, .end = end, .fit = ret};
    return match(pattern, stem_end, name, &tail);
}

bool file_names_fit(const char *pattern, const char *name, enum file_form *ret_form)
{
    struct file_fit fit;
    if (!fits(pattern, name, &fit))
        return false;
    *ret_form = fit.form;
    return true;
}

bool file_names_is_of(const char *pattern, const char *base, int64_t unix_s)
{
    char now[FILE_PATH_MAX];
    struct tail tail = {.fits = is_end, .is_expanded = true};
    return file_path_expand(pattern, unix_s, now) == SPOOL_OK && match(now, now + strlen(now), base, &tail);
}

/* ---------------------------------------------------------------------------------------------------------- listing */

void file_list_free(struct file_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->entries[i].path);
        free(list->entries[i].base);
    }
    free(list->entries);
    *list = (struct file_list){0};
}

static int grow(struct file_list *list)
{
    size_t cap = list->cap ? list->cap * 2 : 64;
    struct file_entry *entries = realloc(list->entries, cap * sizeof *entries);
    if (!entries)
        return ENOMEM;
    list->entries = entries;
    list->cap = cap;
    return 0;
}

/* The path without number and suffix; malloc'd. */
static char *base_of(const char *path, const char *name, const struct file_fit *fit)
{
    char base[FILE_PATH_MAX];
    int stem = (int)(strlen(path) - strlen(name)) + (int)(fit->numbered - name);
    snprintf(base, sizeof base, "%.*s%.*s", stem, path, (int)(fit->suffix - fit->ext), fit->ext);
    return strdup(base);
}

static int add(struct file_list *list, const char *path, const char *name, const struct file_fit *fit,
               const struct stat *st)
{
    if (list->count == list->cap && grow(list) != 0)
        return ENOMEM;
    struct file_entry *entry = &list->entries[list->count];
    *entry = (struct file_entry){
        .path = strdup(path),
        .base = base_of(path, name, fit),
        .number = fit->number,
        .form = fit->form,
        .size = (uint64_t)st->st_size,
        .modified_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec,
    };
    list->count++;
    return entry->path && entry->base ? 0 : ENOMEM;
}

static int walk(struct file_list *list, const char *folder, const char *pattern);

/* One name of `folder`, which the component [pattern, slash) fits, or which is to be seen whether it does. */
static int visit(struct file_list *list, const char *folder, const char *name, const char *component, const char *slash)
{
    char path[FILE_PATH_MAX];
    struct stat st;
    struct file_fit fit;
    struct tail whole = {.fits = is_end};
    size_t length = strlen(folder);
    const char *between = length == 0 || folder[length - 1] == '/' ? "" : "/";
    if (length + strlen(name) + 2 > sizeof path)
        return 0;
    stpcpy(stpcpy(stpcpy(path, folder), between), name);
    if (slash) {
        bool named = match(component, component + strlen(component), name, &whole);
        return named && stat(path, &st) == 0 && S_ISDIR(st.st_mode) ? walk(list, path, slash + 1) : 0;
    }
    if (!fits(component, name, &fit) || lstat(path, &st) != 0 || !S_ISREG(st.st_mode))
        return 0;
    return add(list, path, name, &fit, &st);
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
    if (slash && !strpbrk(component, "%{")) /* nothing to search */
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

static int compare_by_base(const void *a, const void *b)
{
    const struct file_entry *x = a, *y = b;
    int order = strcmp(x->base, y->base);
    return order != 0 ? order : (x->number > y->number) - (x->number < y->number);
}

static void mark_last(struct file_list *list)
{
    qsort(list->entries, list->count, sizeof *list->entries, compare_by_base);
    for (size_t i = list->count, next = i; i-- > 0; next = i) {
        const struct file_entry *higher = next < list->count ? &list->entries[next] : NULL;
        struct file_entry *entry = &list->entries[i];
        bool same = higher && strcmp(higher->base, entry->base) == 0;
        entry->is_last = !same || (higher->number == entry->number && higher->is_last);
    }
}

int file_names_list(const char *pattern, struct file_list *ret)
{
    struct file_list list = {0};
    int err = walk(&list, *pattern == '/' ? "/" : "", *pattern == '/' ? pattern + 1 : pattern);
    if (err) {
        file_list_free(&list);
        return err;
    }
    if (list.count > 0) {
        mark_last(&list);
        qsort(list.entries, list.count, sizeof *list.entries, compare_by_age);
    }
    *ret = list;
    return 0;
}

/* -------------------------------------------------------------------------------------------------------- one base */

bool file_is_compressed(const char *path)
{
    struct stat st;
    char zst[FILE_PATH_MAX + sizeof FILE_ZST_SUFFIX];
    snprintf(zst, sizeof zst, "%s%s", path, FILE_ZST_SUFFIX);
    return lstat(zst, &st) == 0;
}

/* The base is expanded: nothing in it stands for anything else. */
static bool is_number_of(const char *base, const char *name, unsigned *ret)
{
    const char *dot = strrchr(base, '.'), *end = base + strlen(base);
    size_t stem = (size_t)((dot && dot > base ? dot : end) - base);
    if (strncmp(name, base, stem) != 0)
        return false;
    const char *behind = skip_number(name + stem);
    size_t ext = strlen(base + stem);
    *ret = behind > name + stem ? (unsigned)strtoul(name + stem + 1, NULL, 10) : 0;
    return strncmp(behind, base + stem, ext) == 0 && (!behind[ext] || strcmp(behind + ext, FILE_ZST_SUFFIX) == 0);
}

int file_names_last(const char *base, unsigned *ret_number, bool *ret_compressed)
{
    char folder[FILE_PATH_MAX], path[FILE_PATH_MAX];
    unsigned last = 0, number;
    const char *slash = strrchr(base, '/'), *name = slash ? slash + 1 : base;
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - base) + 1 : 1, slash ? base : ".");
    DIR *dir = opendir(folder);
    if (!dir)
        return errno;
    errno = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        if (is_number_of(name, entry->d_name, &number) && number > last)
            last = number;
    int err = errno;
    closedir(dir);
    if (err)
        return err;
    file_path_number(base, last, path);
    *ret_number = last;
    *ret_compressed = file_is_compressed(path);
    return SPOOL_OK;
}
