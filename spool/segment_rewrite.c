/* segment_rewrite.c - a segment that cannot be flushed, in a new file that can. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "../lib/base/error.h"
#include "segment_salvage.h"

/* Page for page, so that transactions keep their numbers: the rows carry them. */
static int copy_pages(const struct dir *dir, const struct segment *segment, const char *tmp)
{
    if (unlinkat(dir->segments_fd, tmp, 0) && errno != ENOENT)
        return err_errno(errno, "segments/%s: cannot be removed", tmp);
    int fd = dir_open_file(dir, dir->segments_fd, tmp, O_RDWR | O_CREAT | O_EXCL);
    if (fd < 0)
        return segment_file_error(fd);
    int rc = mdb_env_copyfd2(segment->env, fd, 0);
    if (!rc && fsync(fd))
        rc = errno;
    close(fd);
    if (!rc)
        return SPOOL_OK;
    unlinkat(dir->segments_fd, tmp, 0);
    return segment_error(segment->number, rc, "cannot be written anew");
}

int segment_rewrite(const struct dir *dir, const struct segment *segment)
{
    char name[SEGMENT_NAME_SIZE], tmp[SEGMENT_NAME_SIZE + 8], old[SEGMENT_NAME_SIZE + 12];
    segment_name(segment->number, name);
    snprintf(tmp, sizeof tmp, "%s.tmp", name);
    snprintf(old, sizeof old, "%s.damaged", name); /* so that the next open puts away what a crash leaves (log.c) */
    int code = copy_pages(dir, segment, tmp);
    if (!code)
        code = segment_swap(dir, tmp, name, old);
    if (!code)
        unlinkat(dir->segments_fd, old, 0); /* what stays is in nobody's way */
    return code;
}
