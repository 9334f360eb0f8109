/* power.c - what the disk holds of each file while flushes may fail.
 *
 * Per file: `disk`, what the last good flush left there, and after a failed flush `failed`, the content at that moment.
 * The kernel then takes the dirty pages for clean: a later good flush does not write them again, unless they were
 * changed or written since. So a page that is still as it was at the failure stays on the disk as it was before
 * ("fsyncgate"). Names (creations, renames) are taken to be on the disk at once: losing those is the crash laboratory's
 * field. */
#include "sweep.h"

#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES_MAX = 64, PAGE = 4096, FILE_BYTES = 2 << 20, OPEN_MAX_FTW = 8 }; /* the rest of state.mdb is its reserve */

struct file {
    dev_t device;
    ino_t inode;
    int fd; /* our own; kept open, so that the inode is not used again, and no record lock is given up */
    uint8_t *disk, *failed;
    bool *rewritten; /* by page, since `failed` */
    size_t size;     /* of disk */
};
static struct file files[FILES_MAX]; /* mutex */
static size_t file_count;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t gate = PTHREAD_RWLOCK_INITIALIZER; /* shared while a file is changed */
static char root[512];

static void *zeros(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        abort();
    return memory;
}

static size_t content(const struct file *file, uint8_t *buf)
{
    ssize_t n = pread(file->fd, buf, FILE_BYTES, 0);
    return n > 0 ? (size_t)n : 0;
}

static struct file *watch(const char *path, const struct stat *st)
{
    if (file_count == FILES_MAX || !S_ISREG(st->st_mode))
        return NULL;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    files[file_count] = (struct file){.device = st->st_dev, .inode = st->st_ino, .fd = fd, .disk = zeros(FILE_BYTES)};
    return &files[file_count++];
}

/* What was there before is on the disk. */
static int watch_old(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)ftw;
    size_t length = strlen(path);
    if (type != FTW_F || (length > 5 && strcmp(path + length - 5, ".lock") == 0))
        return 0;
    struct file *file = watch(path, st);
    if (file)
        file->size = content(file, file->disk);
    return 0;
}

void power_use(const char *dir)
{
    nftw(dir, watch_old, OPEN_MAX_FTW, FTW_PHYS);
    snprintf(root, sizeof root, "%s/", dir);
}

/* A new one: nothing of it is on the disk yet. */
static struct file *watch_new(int fd, const struct stat *st)
{
    char link[64], path[1024];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0)
        return NULL;
    path[n] = '\0';
    return strncmp(path, root, strlen(root)) == 0 ? watch(link, st) : NULL;
}

static struct file *find(int fd)
{
    struct stat st;
    if (fstat(fd, &st))
        return NULL;
    for (size_t i = 0; i < file_count; i++) {
        if (files[i].device == st.st_dev && files[i].inode == st.st_ino)
            return &files[i];
    }
    return watch_new(fd, &st);
}

/* ------------------------------------------------------------------------------------------------ what happens to it
 */

bool power_enter(void)
{
    if (!*root || fault_is_paused())
        return false;
    pthread_rwlock_rdlock(&gate);
    return true;
}

void power_leave(void)
{
    pthread_rwlock_unlock(&gate);
}

static void flush_good(struct file *file)
{
    uint8_t *now = zeros(FILE_BYTES);
    file->size = content(file, now);
    for (size_t at = 0; at < file->size; at += PAGE) {
        bool lost = file->failed && !file->rewritten[at / PAGE] && memcmp(now + at, file->failed + at, PAGE) == 0;
        if (!lost)
            memcpy(file->disk + at, now + at, PAGE);
    }
    munmap(now, FILE_BYTES);
}

static void flush_bad(struct file *file)
{
    if (!file->failed) {
        file->failed = zeros(FILE_BYTES);
        file->rewritten = zeros(FILE_BYTES / PAGE);
    }
    memset(file->rewritten, 0, FILE_BYTES / PAGE);
    content(file, file->failed);
}

void power_flushed(int fd, bool good)
{
    fault_pause();
    pthread_mutex_lock(&mutex);
    struct file *file = find(fd);
    if (file && good)
        flush_good(file);
    else if (file)
        flush_bad(file);
    pthread_mutex_unlock(&mutex);
    fault_resume();
}

static void wrote(struct file *file, const void *bytes, size_t size, off_t at, bool synced)
{
    size_t end = (size_t)at + size;
    for (size_t page = (size_t)at / PAGE; file->rewritten && page <= (end - 1) / PAGE; page++)
        file->rewritten[page] = true;
    if (!synced)
        return;
    memcpy(file->disk + at, bytes, size);
    file->size = end > file->size ? end : file->size;
}

void power_wrote(int fd, const void *bytes, size_t size, off_t at, bool synced)
{
    if (!*root || at + (off_t)size > FILE_BYTES)
        return;
    fault_pause();
    pthread_mutex_lock(&mutex);
    struct file *file = find(fd);
    if (file)
        wrote(file, bytes, size, at, synced);
    pthread_mutex_unlock(&mutex);
    fault_resume();
}

/* The gate is never opened again. */
void power_cut(void)
{
    pthread_rwlock_wrlock(&gate);
    fault_pause();
    for (size_t i = 0; i < file_count; i++) {
        if (pwrite(files[i].fd, files[i].disk, files[i].size, 0) != (ssize_t)files[i].size)
            abort();
    }
    fault_resume();
}
