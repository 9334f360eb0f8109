/* scene_reload.c - a configuration that is read again; see scene.h. The file is in memory: no part of what is recorded. */
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "scene.h"

struct heard {
    enum spool_reload_change change;
    unsigned times;
};

static void hear(void *user, const char *sink, enum spool_reload_change change)
{
    struct heard *heard = user;
    (void)sink;
    heard->change = change;
    heard->times++;
}

static void write_config(FILE *file, const struct spool *spool, const struct scene_sink *sink,
                         const struct scene_configured *configured)
{
    fprintf(file, "{\"spool\":{\"dir\":\"%s\"},\"sinks\":[", spool->dir);
    if (configured->named)
        fprintf(file,
                "{\"name\":\"%s\",\"kind\":\"file\",\"batch_events\":%u,\"max_pending_bytes\":%u,\"order\":\"%s\","
                "\"retry\":{\"base\":\"1ms\",\"cap\":\"2ms\"},%s",
                sink->name, sink->batch_events_max, configured->limit, configured->order, sink->config + 1);
    fputs("]}", file);
}

/* The path of the file in memory; *ret_fd keeps it. */
static int make_config(const struct spool *spool, const struct scene_sink *sink,
                       const struct scene_configured *configured, char path[64], int *ret_fd)
{
    int fd = memfd_create("spool.json", MFD_CLOEXEC);
    FILE *file = fd < 0 ? NULL : fdopen(dup(fd), "w");
    *ret_fd = fd;
    if (!file)
        return errno;
    write_config(file, spool, sink, configured);
    snprintf(path, 64, "/proc/self/fd/%d", fd);
    return fclose(file) ? errno : 0;
}

/* A spool of the laboratory is not in the registry of those that are open, which notes this. */
static int note_inode(struct spool *spool)
{
    struct stat st;
    if (stat(spool->dir, &st))
        return errno;
    spool->device = st.st_dev;
    spool->inode = st.st_ino;
    return 0;
}

static int reload(struct spool *spool, const char *path, enum spool_reload_change expected)
{
    struct heard heard = {.times = 0};
    int code = spool_reload_config(spool, path, hear, &heard);
    if (code)
        return scene_fail(code, "reading a configuration again");
    if (heard.times == 1 && heard.change == expected)
        return 0;
    fprintf(stderr, "the sink became %d, not %d\n", heard.change, expected);
    return scene_fail(0, "reading a configuration again");
}

int scene_reload(struct spool *spool, const struct scene_sink *sink, const struct scene_configured *configured)
{
    struct mark_sink mark = {.sink = sink->number, .on = configured->limit};
    char path[64];
    int fd, code = make_config(spool, sink, configured, path, &fd);
    if (!code)
        code = note_inode(spool);
    if (code)
        return scene_fail(code, "writing a configuration");
    if (configured->named)
        lab_mark(MARK_LIMIT, &mark, sizeof mark);
    code = reload(spool, path, configured->expected);
    if (!code && configured->named)
        lab_mark(MARK_LIMITED, &mark, sizeof mark);
    close(fd);
    return code;
}
