/* torture_fs.c - what a directory lies on: its file system, how that is mounted, its device; and how fast it flushes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "torture.h"

/* ---------------------------------------------------------------------------------------------------------- the mount
 */

static bool is_one_of(const char *type, const char *const *list)
{
    for (; *list; list++)
        if (!strcmp(type, *list))
            return true;
    return false;
}

static void classify(struct torture_ground *ground)
{
    static const char *const network[] = {"nfs",        "nfs4",           "cifs",     "smb3",  "9p",        "ceph",
                                          "afs",        "lustre",         "gfs2",     "ocfs2", "glusterfs", "fuse",
                                          "fuse.sshfs", "fuse.glusterfs", "virtiofs", NULL};
    static const char *const copies[] = {"btrfs", "zfs", "bcachefs", NULL};
    static const char *const memory[] = {"tmpfs", "ramfs", "hugetlbfs", NULL};
    ground->network = is_one_of(ground->type, network);
    ground->copy_on_write = is_one_of(ground->type, copies);
    ground->memory = is_one_of(ground->type, memory);
}

/* mountinfo writes blanks as \040 and the like. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *at = text; *at; to++) {
        unsigned value;
        if (*at == '\\' && sscanf(at + 1, "%3o", &value) == 1) {
            *to = (char)value;
            at += 4;
        } else {
            *to = *at++;
        }
    }
    *to = 0;
}

/* "36 35 98:0 /root /mnt rw,noatime master:1 - ext4 /dev/sda1 rw,data=ordered" */
static bool read_mount(const char *line, unsigned device_major, unsigned device_minor, struct torture_ground *ret)
{
    unsigned line_major, line_minor;
    char mounted_on[256], options[256], type[32], source[256], super[256] = "";
    const char *rest = strstr(line, " - ");
    if (!rest || sscanf(line, "%*u %*u %u:%u %*s %255s %255s", &line_major, &line_minor, mounted_on, options) != 4 ||
        line_major != device_major || line_minor != device_minor ||
        sscanf(rest + 3, "%31s %255s %255s", type, source, super) < 2)
        return false;
    snprintf(ret->type, sizeof ret->type, "%s", type);
    snprintf(ret->mounted_on, sizeof ret->mounted_on, "%s", mounted_on);
    snprintf(ret->source, sizeof ret->source, "%s", source);
    snprintf(ret->options, sizeof ret->options, "%s%s%s", options, *super ? "; " : "", super);
    unescape(ret->mounted_on);
    unescape(ret->source);
    return true;
}

/* "write back": the device has a cache, which a flush must empty. Of a partition the whole device tells. */
static void read_write_cache(unsigned device_major, unsigned device_minor, struct torture_ground *ground)
{
    static const char *const places[] = {"queue", "../queue"};
    for (size_t i = 0; i < 2 && !*ground->write_cache; i++) {
        char path[128];
        snprintf(path, sizeof path, "/sys/dev/block/%u:%u/%s/write_cache", device_major, device_minor, places[i]);
        FILE *file = fopen(path, "re");
        if (!file)
            continue;
        if (fgets(ground->write_cache, sizeof ground->write_cache, file))
            ground->write_cache[strcspn(ground->write_cache, "\n")] = 0;
        fclose(file);
    }
}

bool ground_describe(const char *dir, struct torture_ground *ret)
{
    struct stat st;
    char *line = NULL;
    size_t room = 0;
    FILE *file = fopen("/proc/self/mountinfo", "re");
    if (stat(dir, &st) || !file) {
        if (file)
            fclose(file);
        return false;
    }
    while (getline(&line, &room, file) > 0) /* the last one of that device was mounted last */
        read_mount(line, major(st.st_dev), minor(st.st_dev), ret);
    free(line);
    fclose(file);
    read_write_cache(major(st.st_dev), minor(st.st_dev), ret);
    if (!*ret->type) /* btrfs and others have devices of their own, which mountinfo does not name */
        snprintf(ret->type, sizeof ret->type, "unknown");
    classify(ret);
    return true;
}

/* ---------------------------------------------------------------------------------------------------------- flushing
 */

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* One page written over, as a journal does it, and flushed; 0 on failure. */
static uint64_t flush_once(int fd, unsigned which)
{
    enum { PAGE = 4096, PAGES = 64 };
    char page[PAGE];
    memset(page, (int)(which + 1), sizeof page);
    if (pwrite(fd, page, sizeof page, (off_t)(which % PAGES) * PAGE) != PAGE)
        return 0;
    uint64_t before = now_steady_ns();
    if (fdatasync(fd))
        return 0;
    uint64_t took = now_steady_ns() - before;
    return took ? took : 1;
}

bool ground_measure_flush(const char *dir, uint64_t most_ms, struct torture_ground *ground)
{
    enum { WARM = 64, MOST = 2000 };
    char path[TORTURE_PATH + 16];
    snprintf(path, sizeof path, "%s/flush", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    uint64_t *times = tool_alloc(MOST, sizeof *times), count = 0, end = now_steady_ns() + most_ms * 1000000, took = 1;
    for (unsigned i = 0; took && count < MOST && (i <= WARM || now_steady_ns() < end); i++) {
        took = flush_once(fd, i);
        if (i >= WARM && took)
            times[count++] = took;
    }
    close(fd);
    unlink(path);
    qsort(times, count, sizeof *times, by_size);
    ground->flush_count = count;
    if (count) {
        ground->flush_p50_ns = times[count / 2];
        ground->flush_p99_ns = times[count * 99 / 100];
        ground->flush_max_ns = times[count - 1];
    }
    free(times);
    return took != 0;
}
