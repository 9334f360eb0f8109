/* template.c - a directory as a crashed process leaves it: several segments, a state with retries, dead letters and a
 * checkpoint, a journal with events that no segment has, an emptied journal beside it.
 *
 * Made with the library itself and copied while it is open: that is what a crash leaves. First all files but the
 * journal at rest, then more events, then the journal. The files are kept in memory. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../../../lib/spool.h"
#include "wreck.h"

enum { FIRST_EVENTS = 500, STORED_EVENTS = 660, MARK_SIZE = 8 /* "#0000012" */ };

/* ------------------------------------------------------------------------------------------------------------ bodies
 */

size_t wreck_body(unsigned n, char ret[WRECK_BODY_MAX])
{
    size_t size = 40 + n * 2654435761u % (n % 37 == 0 ? WRECK_BODY_MAX - 40 : 8000);
    uint32_t word = n * 747796405u + 1;
    int used = snprintf(ret, WRECK_BODY_MAX, "\"#%07x ", n);
    for (size_t i = (size_t)used; i < size - 1; i++) {
        word = word * 1664525 + 1013904223;
        ret[i] = (char)('a' + (word >> 24) % 26);
    }
    ret[size - 1] = '"';
    return size;
}

/* To make a body takes longer than all else that is done with an event: those of the template are kept. Each thread
 * finds or makes the same. */
static const char *right_body(unsigned n, char made[WRECK_BODY_MAX], size_t *ret_size)
{
    static _Atomic(char *) kept[WRECK_EVENTS];
    char *body = n < WRECK_EVENTS ? atomic_load(&kept[n]) : NULL, *none = NULL;
    if (body) {
        memcpy(ret_size, body, sizeof *ret_size);
        return body + sizeof *ret_size;
    }
    *ret_size = wreck_body(n, made);
    body = n < WRECK_EVENTS ? malloc(sizeof *ret_size + *ret_size) : NULL;
    if (!body)
        return made;
    memcpy(body, ret_size, sizeof *ret_size);
    memcpy(body + sizeof *ret_size, made, *ret_size);
    if (!atomic_compare_exchange_strong(&kept[n], &none, body))
        free(body);
    return made;
}

bool wreck_body_is_right(const void *body, size_t size, unsigned *ret_n)
{
    char made[WRECK_BODY_MAX], head[MARK_SIZE + 3] = "";
    size_t want_size;
    unsigned n;
    if (size < 40)
        return false;
    memcpy(head, body, MARK_SIZE + 2);
    if (sscanf(head, "\"#%7x ", &n) != 1)
        return false;
    const char *want = right_body(n, made, &want_size);
    *ret_n = n;
    return size == want_size && memcmp(body, want, size) == 0;
}

/* -------------------------------------------------------------------------------------------------------------- trees
 */

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

bool wreck_remove_tree(const char *dir)
{
    return nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0 || errno == ENOENT;
}

static bool write_whole(const char *path, const uint8_t *bytes, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool good = fd >= 0 && write(fd, bytes, size) == (ssize_t)size;
    if (fd >= 0)
        close(fd);
    return good;
}

static uint8_t *read_whole(const char *path, size_t *ret_size)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st))
        return NULL;
    *ret_size = (size_t)st.st_size;
    uint8_t *bytes = malloc(*ret_size + 1);
    if (bytes && read(fd, bytes, *ret_size) != st.st_size) {
        free(bytes);
        bytes = NULL;
    }
    close(fd); /* drops record locks: only files that are copied at rest come here */
    return bytes;
}

bool wreck_template_put(const struct wreck_template *template, const char *dir)
{
    static const char *const inner[] = {"", "journal", "segments", "quarantine"};
    char path[700];
    if (!wreck_remove_tree(dir))
        return false;
    for (size_t i = 0; i < sizeof inner / sizeof *inner; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, inner[i]);
        if (mkdir(path, 0700))
            return false;
    }
    for (size_t i = 0; i < template->count; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, template->files[i].name);
        if (!write_whole(path, template->files[i].bytes, template->files[i].size))
            return false;
    }
    return true;
}

/* ------------------------------------------------------------------------------------------------ files into memory */

static struct wreck_file *find_file(struct wreck_template *template, const char *name)
{
    for (size_t i = 0; i < template->count; i++) {
        if (strcmp(template->files[i].name, name) == 0)
            return &template->files[i];
    }
    return NULL;
}

/* Keeps the file as it is now; what was kept before becomes its past. */
static bool take_file(struct wreck_template *template, const char *dir, const char *name)
{
    char path[700];
    struct wreck_file *file = find_file(template, name);
    if (!file && template->count == WRECK_FILES_MAX)
        return false;
    if (!file) {
        file = &template->files[template->count];
        file->order = (int)template->count++;
        snprintf(file->name, sizeof file->name, "%s", name);
    } else {
        free(file->old);
        file->old = file->bytes;
        file->old_size = file->size;
    }
    snprintf(path, sizeof path, "%s/%s", dir, name);
    file->bytes = read_whole(path, &file->size);
    return file->bytes != NULL;
}

static bool take_folder(struct wreck_template *template, const char *dir, const char *folder)
{
    char path[700], name[sizeof template->files[0].name];
    struct dirent *entry;
    bool good = true;
    snprintf(path, sizeof path, "%s/%s", dir, folder);
    DIR *stream = opendir(path);
    while (stream && good && (entry = readdir(stream))) {
        int n = snprintf(name, sizeof name, "%s%s%s", folder, *folder ? "/" : "", entry->d_name);
        if (entry->d_type == DT_REG)
            good = n < (int)sizeof name && take_file(template, dir, name);
    }
    if (stream)
        closedir(stream);
    return stream && good;
}

/* ------------------------------------------------------------------------------------------------------------- sinks
 */

/* "out" has accepted some, will have some again and refuses some; "mark" stores checkpoints; "held" gets nothing yet.
 */
static int out_deliver(void *state, struct spool_delivery *batch, size_t n)
{
    (void)state;
    for (size_t i = 0; i < n; i++) {
        struct spool_delivery *delivery = SPOOL_DELIVERY_AT(batch, i);
        unsigned number = 0;
        wreck_body_is_right(delivery->event->body, delivery->event->body_size, &number);
        delivery->outcome = SPOOL_DELIVERED;
        if (number % 25 == 3)
            spool_delivery_fail(delivery, SPOOL_REJECTED, "refused");
        else if (number % 25 == 4)
            spool_delivery_fail(delivery, SPOOL_RETRY, "later");
    }
    return 0;
}

static int mark_deliver(void *state, struct spool_delivery *batch, size_t n)
{
    (void)state;
    for (size_t i = 0; i < n; i++)
        SPOOL_DELIVERY_AT(batch, i)->outcome = SPOOL_DELIVERED;
    return 0;
}

static size_t mark_checkpoint(void *state, void *buf, size_t cap)
{
    (void)state, (void)cap;
    memset(buf, 'm', 100);
    return 100;
}

static int add_sinks(struct spool *spool, bool serve)
{
    const struct spool_sink out = {
        .abi = SPOOL_SINK_ABI, .size = sizeof out, .kind = "wreck", .deliver = serve ? out_deliver : mark_deliver};
    const struct spool_sink mark = {.abi = SPOOL_SINK_ABI,
                                    .size = sizeof mark,
                                    .kind = "wreck",
                                    .deliver = mark_deliver,
                                    .checkpoint = mark_checkpoint};
    const struct spool_sink_options slow = SPOOL_SINK_OPTIONS(.retry_base_ms = 5, .retry_cap_ms = 5);
    int code = spool_sink_add(spool, "out", &out, NULL, &slow);
    if (!code)
        code = spool_sink_add(spool, "mark", &mark, "{\"a\": 1}", NULL);
    if (!code && !serve)
        code = spool_sink_add(spool, "held", &out, NULL, NULL);
    return code;
}

/* ------------------------------------------------------------------------------------------------------------- events
 */

static int enqueue(struct spool *spool, unsigned from, unsigned to)
{
    static const char *const agents[] = {NULL, "a", "b", "c"};
    char body[WRECK_BODY_MAX];
    int code = SPOOL_OK;
    for (unsigned n = from; n < to && !code; n++) {
        struct spool_event event =
            SPOOL_EVENT(.type = "wreck", .agent = agents[n / 7 % 4], .priority = n / 5 % SPOOL_PRIORITIES,
                        .durability = SPOOL_DURABLE_PROCESS, .body = body, .body_size = wreck_body(n, body));
        code = spool_enqueue(spool, &event, NULL);
    }
    return code;
}

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
}

struct open_work {
    uint64_t pending;
};

static int add_pending(void *user, const struct spool_sink_info *info)
{
    struct open_work *work = user;
    if (strcmp(info->name, "held") != 0)
        work->pending += info->pending_events - info->retrying_events;
    return 0;
}

/* Nothing is under way any more: all is in segments, and the sinks that are served have tried everything once. */
static bool wait_for_rest(struct spool *spool)
{
    for (int i = 0; i < 4000; i++, nap()) {
        struct spool_stats stats = SPOOL_STATS();
        struct open_work work = {0};
        if (spool_stats(spool, &stats) || spool_sink_each(spool, add_pending, &work))
            return false;
        if (stats.unapplied_bytes == 0 && work.pending == 0)
            return true;
    }
    return false;
}

static int open_spool(const char *dir, struct spool **ret)
{
    const struct spool_options options =
        SPOOL_OPTIONS(.max_bytes = 64 << 20, .segment_bytes = 1 << 20, .journal_bytes = 256 << 10, .workers = 2);
    return spool_open(dir, &options, ret);
}

/* ------------------------------------------------------------------------------------------------------- the directory
 */

/* The first process's stays in the template, but the second must not take it over: it makes one of its own. */
static bool put_journals_aside(struct wreck_template *template, const char *dir)
{
    char path[700];
    if (!take_folder(template, dir, "journal"))
        return false;
    snprintf(path, sizeof path, "%s/journal", dir);
    return wreck_remove_tree(path);
}

static bool take_all_but_journals(struct wreck_template *template, const char *dir)
{
    return take_folder(template, dir, "") && take_folder(template, dir, "segments");
}

/* A first process: everything is registered, most is stored and partly delivered, an emptied journal is left. */
static int first_life(const char *dir)
{
    struct spool *spool;
    int code = open_spool(dir, &spool);
    if (code)
        return code;
    code = add_sinks(spool, false);
    if (!code)
        code = enqueue(spool, 0, FIRST_EVENTS);
    int closed = spool_close(spool);
    return code ? code : closed;
}

static int deliver(struct spool *spool)
{
    int code = add_sinks(spool, true);
    if (!code)
        code = spool_start(spool);
    if (!code && !wait_for_rest(spool))
        code = SPOOL_ETIMEOUT;
    if (!code)
        code = enqueue(spool, FIRST_EVENTS, STORED_EVENTS);
    if (!code && !wait_for_rest(spool))
        code = SPOOL_ETIMEOUT;
    int stopped = spool_stop(spool, 20000);
    return code ? code : stopped;
}

/* The second one dies while it enqueues. */
static int second_life(const char *dir, struct wreck_template *template)
{
    struct spool *spool;
    int code = open_spool(dir, &spool);
    if (code)
        return code;
    code = deliver(spool);
    /* Reading a file closes it, and so drops the record locks on it: nobody competes here. */
    if (!code && !take_all_but_journals(template, dir))
        code = EIO;
    if (!code)
        code = enqueue(spool, STORED_EVENTS, WRECK_EVENTS);
    if (!code && !take_folder(template, dir, "journal"))
        code = EIO;
    int closed = spool_close(spool);
    return code ? code : closed;
}

static bool holds(const struct wreck_file *file, unsigned n)
{
    char mark[MARK_SIZE + 3];
    snprintf(mark, sizeof mark, "\"#%07x ", n);
    return memmem(file->bytes, file->size, mark, MARK_SIZE + 2) != NULL;
}

static bool find_homes(struct wreck_template *template)
{
    for (unsigned n = 0; n < WRECK_EVENTS; n++) {
        template->home[n] = -1;
        for (size_t i = 0; i < template->count; i++) {
            const char *name = template->files[i].name;
            bool segment = strncmp(name, "segments/", 9) == 0, journal = strncmp(name, "journal/", 8) == 0;
            if ((segment || (journal && template->home[n] < 0)) && holds(&template->files[i], n))
                template->home[n] = (int)i;
        }
        if (template->home[n] < 0)
            return false;
    }
    return true;
}

static int compare_files(const void *a, const void *b)
{
    const struct wreck_file *one = a, *two = b;
    if (strncmp(one->name, "journal/", 8) == 0 && strncmp(two->name, "journal/", 8) == 0)
        return one->order - two->order;
    return strcmp(one->name, two->name);
}

/* Names of journals are random, so they stay as they were made: the same recipe means the same file each time. */
static void sort_files(struct wreck_template *template)
{
    qsort(template->files, template->count, sizeof template->files[0], compare_files);
}

const char *wreck_template_make(const char *scratch, struct wreck_template *ret)
{
    static char problem[700];
    char dir[512];
    memset(ret, 0, sizeof *ret);
    snprintf(dir, sizeof dir, "%s/template", scratch);
    int code = first_life(dir);
    if (!code && !(take_all_but_journals(ret, dir) && put_journals_aside(ret, dir)))
        code = EIO;
    if (!code)
        code = second_life(dir, ret);
    snprintf(problem, sizeof problem, "%s: %s", spool_error_name(code), spool_last_error());
    wreck_remove_tree(dir);
    if (code)
        return problem;
    sort_files(ret);
    return find_homes(ret) ? NULL : "an event of the template is in no file";
}
