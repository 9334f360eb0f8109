/* torture_probe.c - what the library needs of a file system besides flushes: locks that keep processes apart and die
 * with them, mappings that agree with reads, space that stays allocated, renames that are whole. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "torture.h"

static void note(struct torture *torture, const char *name, bool good, const char *detail)
{
    if (torture->probe_count == TORTURE_PROBES_MAX)
        return;
    struct torture_probe *probe = &torture->probes[torture->probe_count++];
    probe->name = name;
    probe->good = good;
    snprintf(probe->detail, sizeof probe->detail, "%s", detail);
    if (!good)
        torture_trouble(torture, "%s: %s", name, detail);
}

static int make_file(const struct torture *torture, const char *name, char path[TORTURE_PATH + 32])
{
    snprintf(path, TORTURE_PATH + 32, "%s/%s", torture->dir, name);
    return open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
}

/* ------------------------------------------------------------------------------------------------------------- locks
 */

static bool can_lock(int fd)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    return !fcntl(fd, F_SETLK, &lock);
}

static const char *try_locks(int fd, pid_t worker, int out)
{
    char said[8] = "";
    if (read(out, said, sizeof said) <= 0)
        return "a process could not lock a file";
    if (can_lock(fd))
        return "two processes got the same lock: nothing keeps them apart here";
    worker_kill(worker);
    for (int tries = 0; tries < 500; tries++) {
        if (can_lock(fd))
            return NULL;
        pause_ms(10);
    }
    return "the lock of a killed process stays taken";
}

static void probe_locks(struct torture *torture)
{
    char path[TORTURE_PATH + 32];
    int out = -1, fd = make_file(torture, "lock", path);
    const char *words[] = {"locked", path, NULL};
    pid_t worker = fd < 0 ? -1 : worker_start(torture->tool, words, &out);
    const char *wrong = worker < 0 ? "cannot be tried" : try_locks(fd, worker, out);
    worker_kill(wrong ? worker : -1);
    if (out >= 0)
        close(out);
    if (fd >= 0)
        close(fd);
    note(torture, "locks", !wrong, wrong ? wrong : "keep processes apart, and die with their owner");
}

/* -------------------------------------------------------------------------------------------------------- mappings */

static bool map_agrees(int fd, unsigned char *map, size_t at, unsigned char value)
{
    unsigned char read_back = 0, other = (unsigned char)~value;
    map[at] = value;
    if (pread(fd, &read_back, 1, (off_t)at) != 1 || read_back != value)
        return false;
    return pwrite(fd, &other, 1, (off_t)at) == 1 && ((volatile unsigned char *)map)[at] == other;
}

static const char *try_map(struct torture *torture, int fd, size_t size)
{
    unsigned char *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return "a file cannot be mapped for writing";
    bool good = true;
    for (int i = 0; good && i < 1000; i++)
        good = map_agrees(fd, map, torture_between(torture, 0, size - 1), (unsigned char)i);
    munmap(map, size);
    return good ? NULL : "what is stored in a mapping and what is read differ";
}

static void probe_map(struct torture *torture)
{
    enum { SIZE = 1 << 20 };
    char path[TORTURE_PATH + 32];
    struct stat st = {0};
    int fd = make_file(torture, "map", path), error = fd < 0 ? errno : posix_fallocate(fd, 0, SIZE);
    if (!error && fstat(fd, &st))
        error = errno;
    bool allocated = !error && (uint64_t)st.st_blocks * 512 >= SIZE;
    note(torture, "allocation", allocated,
         allocated ? "space is kept once it is allocated"
         : error   ? strerror(error)
                   : "space is promised, but not kept");
    const char *wrong = error ? "cannot be tried" : try_map(torture, fd, SIZE);
    if (fd >= 0)
        close(fd);
    note(torture, "mappings", !wrong, wrong ? wrong : "agree with what is read and written");
}

/* ---------------------------------------------------------------------------------------------------------- renames */

/* The file is of one letter, and whole; none at all is right before the first rename. */
static bool is_whole(const char *path)
{
    enum { SIZE = 20000 };
    static char bytes[SIZE + 1];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT;
    ssize_t size = read(fd, bytes, sizeof bytes);
    close(fd);
    for (ssize_t i = 1; i < size; i++)
        if (bytes[i] != bytes[0])
            return false;
    return size == SIZE;
}

static void probe_renames(struct torture *torture)
{
    enum { KILLS = 15 };
    char path[TORTURE_PATH + 32], file[TORTURE_PATH + 48];
    snprintf(path, sizeof path, "%s/rename", torture->dir);
    snprintf(file, sizeof file, "%s/file", path);
    const char *words[] = {"rename", path, NULL};
    bool good = !mkdir(path, 0700);
    for (int i = 0; good && i < KILLS && !torture_is_interrupted(); i++) {
        pid_t worker = worker_start(torture->tool, words, NULL);
        pause_ms(torture_between(torture, 5, 40));
        good = worker > 0 && is_whole(file);
        worker_kill(worker);
        good = good && is_whole(file);
    }
    note(torture, "renames", good,
         good ? "a file is the old or the new one, whoever is killed" : "a half-written file was seen");
}

void probe_all(struct torture *torture)
{
    probe_locks(torture);
    probe_map(torture);
    probe_renames(torture);
}
