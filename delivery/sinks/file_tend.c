/* file_tend.c - see file_tend.h. */
#include "file_tend.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../lib/base/sync.h"
#include "../delivery.h"
#include "file_compress.h"
#include "file_names.h"

static const uint64_t look_again_ns = 60000 * NS_PER_MS; /* files grow old without anybody saying so */
static const uint64_t protect_wait_ns = 2000 * NS_PER_MS;

struct protected
{
    struct protected *next;
    bool finished;   /* not written to any more */
    uint64_t number; /* of the first checkpoint that goes beyond it; 0: not taken yet */
    char path[];
};

struct tend {
    struct tend_options options; /* constant */
    pthread_t thread;
    bool runs;                   /* the owner's */
    atomic_bool stop, interrupt; /* interrupt: what is done to a file is broken off; also when it stops */
    pthread_mutex_t lock;        /* guards all below */
    pthread_cond_t wake;         /* for the thread */
    pthread_cond_t idle;         /* `busy` is over */
    const char *busy;            /* the file that is being compressed or deleted; NULL: none */
    bool poked;
    struct protected *protected;
    char problem[REASON_MAX + 1];
};

/* ------------------------------------------------------------------------------------------------------- the thread */

__attribute__((format(printf, 2, 3))) static void complain(struct tend *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    pthread_mutex_lock(&t->lock);
    vsnprintf(t->problem, sizeof t->problem, format, args);
    pthread_mutex_unlock(&t->lock);
    va_end(args);
}

static struct protected **find(struct tend *t, const char *path)
{
    struct protected **at = &t->protected;
    while (*at && strcmp((*at)->path, path) != 0)
        at = &(*at)->next;
    return at;
}

/* Takes a file that nobody writes to; who wants to write to it waits until it is let go. */
static bool claim(struct tend *t, const char *path)
{
    pthread_mutex_lock(&t->lock);
    bool is_free = *find(t, path) == NULL;
    if (is_free) {
        t->busy = path;
        atomic_store(&t->interrupt, atomic_load(&t->stop));
    }
    pthread_mutex_unlock(&t->lock);
    return is_free;
}

static void let_go(struct tend *t)
{
    pthread_mutex_lock(&t->lock);
    t->busy = NULL;
    pthread_cond_broadcast(&t->idle);
    pthread_mutex_unlock(&t->lock);
}

static bool is_complete(const struct tend *t, const struct file_entry *entry, int64_t now_ns)
{
    const struct tend_options *o = &t->options;
    bool old = o->rotate_ms > 0 && now_ns - entry->modified_ns >= (int64_t)(o->rotate_ms * NS_PER_MS);
    return !o->has_parts || !entry->is_last || old || !file_names_is_of(o->pattern, entry->base, now_ns / 1000000000);
}

static void compress(struct tend *t, const struct file_entry *entry)
{
    if (!claim(t, entry->path))
        return;
    int err = file_compress(entry->path, t->options.level, &t->interrupt);
    let_go(t);
    if (err != SPOOL_OK && err != ECANCELED && err != ENOENT)
        complain(t, "%s cannot be compressed: %s", entry->path, spool_strerror(err));
}

static void compress_all(struct tend *t, const struct file_list *list)
{
    for (size_t i = 0; i < list->count && !atomic_load(&t->stop); i++) {
        const struct file_entry *entry = &list->entries[i];
        if (entry->form == FORM_TMP)
            unlink(entry->path); /* left by one that was interrupted */
        if (entry->form == FORM_PLAIN && t->options.compress && is_complete(t, entry, (int64_t)real_ns()))
            compress(t, entry);
    }
}

static bool depends(const char *component, const char *end)
{
    size_t n = strcspn(component, "%{");
    return component + n < end;
}

/* The folders that the template made, once they are empty. */
static void remove_folders(const struct tend *t, char *path)
{
    const char *last = strrchr(t->options.pattern, '/');
    for (char *slash = strrchr(path, '/'); slash && slash > path && last; slash = strrchr(path, '/')) {
        const char *before = memrchr(t->options.pattern, '/', (size_t)(last - t->options.pattern));
        const char *component = before ? before + 1 : t->options.pattern;
        *slash = '\0';
        if (!depends(component, last) || rmdir(path) != 0)
            return;
        last = before;
    }
}

/* How many bytes that gives back. */
static uint64_t delete_one(struct tend *t, const struct file_entry *entry)
{
    int err = unlink(entry->path) == 0 ? SPOOL_OK : errno;
    if (err != SPOOL_OK && err != ENOENT)
        complain(t, "%s cannot be deleted: %s", entry->path, spool_strerror(err));
    return err == SPOOL_OK ? entry->size : 0;
}

/* Oldest first, until neither limit says so. */
static void delete_old(struct tend *t, const struct file_list *list)
{
    uint64_t all = 0;
    int64_t now_ns = (int64_t)real_ns();
    for (size_t i = 0; i < list->count; i++)
        all += list->entries[i].size;
    for (size_t i = 0; i < list->count && !atomic_load(&t->stop); i++) {
        struct file_entry *entry = &list->entries[i];
        uint64_t age_ms = now_ns > entry->modified_ns ? (uint64_t)(now_ns - entry->modified_ns) / NS_PER_MS : 0;
        bool old = t->options.max_age_ms > 0 && age_ms > t->options.max_age_ms;
        bool much = t->options.max_bytes > 0 && all > t->options.max_bytes;
        if ((old || much) && entry->form != FORM_TMP && claim(t, entry->path)) {
            all -= delete_one(t, entry);
            let_go(t);
            remove_folders(t, entry->path);
        }
    }
}

static void look(struct tend *t, void (*at)(struct tend *t, const struct file_list *list))
{
    struct file_list list = {0};
    if (file_names_list(t->options.pattern, &list) != 0)
        complain(t, "%s: no memory to list its files", t->options.pattern);
    at(t, &list);
    file_list_free(&list);
}

static void *run(void *arg)
{
    struct tend *t = arg;
    while (!atomic_load(&t->stop)) {
        look(t, compress_all);
        if (t->options.max_age_ms > 0 || t->options.max_bytes > 0)
            look(t, delete_old); /* listed anew: sizes and names have changed */
        uint64_t until_ns = mono_ns() + look_again_ns;
        pthread_mutex_lock(&t->lock);
        while (!t->poked && !atomic_load(&t->stop) && cond_wait_until(&t->wake, &t->lock, until_ns) == 0) {
        }
        t->poked = false;
        pthread_mutex_unlock(&t->lock);
    }
    return NULL;
}

/* ------------------------------------------------------------------------------------------------------ starting, end
 */

static void free_all(struct tend *t)
{
    for (struct protected *p = t->protected, *next; p; p = next) {
        next = p->next;
        free(p);
    }
    pthread_cond_destroy(&t->idle);
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

/* errno */
static int make_locks(struct tend *t)
{
    int err = pthread_mutex_init(&t->lock, NULL);
    if (err)
        return err;
    err = cond_init(&t->wake);
    if (!err && (err = cond_init(&t->idle)) != 0)
        pthread_cond_destroy(&t->wake);
    if (err)
        pthread_mutex_destroy(&t->lock);
    return err;
}

int tend_new(const struct tend_options *options, struct tend **ret)
{
    *ret = NULL;
    if (!options->compress && options->max_age_ms == 0 && options->max_bytes == 0)
        return SPOOL_OK;
    struct tend *t = calloc(1, sizeof *t);
    if (!t)
        return ENOMEM;
    t->options = *options;
    int err = make_locks(t);
    if (err) {
        free(t);
        return err;
    }
    *ret = t;
    return SPOOL_OK;
}

int tend_run(struct tend *t)
{
    int err = t ? thread_start(&t->thread, "spool-files", run, t) : SPOOL_OK;
    if (t && err == SPOOL_OK)
        t->runs = true;
    return err;
}

void tend_free(struct tend *t)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->lock);
    atomic_store(&t->stop, true);
    atomic_store(&t->interrupt, true);
    pthread_cond_signal(&t->wake);
    pthread_mutex_unlock(&t->lock);
    if (t->runs)
        pthread_join(t->thread, NULL);
    free_all(t);
}

/* -------------------------------------------------------------------------------------------------- what is protected
 */

/* With the lock held. */
static int add(struct tend *t, const char *path)
{
    struct protected **at = find(t, path);
    if (!*at && (*at = calloc(1, sizeof **at + strlen(path) + 1)) != NULL)
        strcpy((*at)->path, path);
    if (!*at)
        return ENOMEM;
    (*at)->finished = false;
    (*at)->number = 0;
    return SPOOL_OK;
}

static void forget(struct protected **at)
{
    struct protected *p = *at;
    *at = p->next;
    free(p);
}

static bool is_busy_with(const struct tend *t, const char *path)
{
    return t->busy && strcmp(t->busy, path) == 0;
}

int tend_protect(struct tend *t, const char *path)
{
    if (!t)
        return SPOOL_OK;
    uint64_t until_ns = mono_ns() + protect_wait_ns;
    pthread_mutex_lock(&t->lock);
    int err = add(t, path);
    if (err == SPOOL_OK && is_busy_with(t, path))
        atomic_store(&t->interrupt, true);
    while (err == SPOOL_OK && is_busy_with(t, path))
        if (cond_wait_until(&t->idle, &t->lock, until_ns) != 0 && is_busy_with(t, path))
            err = EBUSY;
    if (err == EBUSY)
        forget(find(t, path));
    pthread_mutex_unlock(&t->lock);
    return err;
}

void tend_release(struct tend *t, const char *path)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->lock);
    struct protected **at = find(t, path);
    if (*at) {
        forget(at);
        t->poked = true;
        pthread_cond_signal(&t->wake);
    }
    pthread_mutex_unlock(&t->lock);
}

void tend_finished(struct tend *t, const char *path)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->lock);
    struct protected *p = *find(t, path);
    if (p)
        p->finished = true;
    pthread_mutex_unlock(&t->lock);
}

void tend_checkpoint(struct tend *t, uint64_t number)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->lock);
    for (struct protected *p = t->protected; p; p = p->next)
        if (p->finished && p->number == 0)
            p->number = number + 1; /* + 1, so that 0 says nothing */
    pthread_mutex_unlock(&t->lock);
}

void tend_stored(struct tend *t, uint64_t stored)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->lock);
    for (struct protected **at = &t->protected; *at;) {
        struct protected *p = *at;
        if (!p->finished || p->number == 0 || p->number > stored + 1) {
            at = &p->next;
            continue;
        }
        forget(at);
        t->poked = true;
        pthread_cond_signal(&t->wake);
    }
    pthread_mutex_unlock(&t->lock);
}

bool tend_take_problem(struct tend *t, char *ret, size_t size)
{
    if (!t)
        return false;
    pthread_mutex_lock(&t->lock);
    bool any = t->problem[0] != '\0';
    if (any)
        snprintf(ret, size, "%s", t->problem);
    t->problem[0] = '\0';
    pthread_mutex_unlock(&t->lock);
    return any;
}
