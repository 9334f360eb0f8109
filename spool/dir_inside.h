/* dir_inside.h - what the files that look after the directory share. Private to dir*.c. */
#ifndef SPOOL_DIR_INSIDE_H
#define SPOOL_DIR_INSIDE_H

#include <dirent.h>

#include "dir.h"

/* dir_files.c */
int dir_give_to_owner(int at_fd, int fd);
int dir_stream(int at_fd, DIR **ret);

/* dir_check.c: each sets the message and returns SPOOL_E* or errno */
int dir_check_file_system(struct dir *dir, uint32_t flags); /* also finds out copy_on_write */
int dir_check_access(const struct dir *dir, int fd, const char *name);
int dir_check_writable(const struct dir *dir);
/* No link and nothing else odd among what is ours in the directory. */
int dir_check_entries(const struct dir *dir);
/* Empty, or only what an interrupted creation left. */
int dir_check_fresh(const struct dir *dir);

/* dir_identity.c: the file spool.json */
int dir_identity_read(struct dir *dir); /* ENOENT: there is none */
int dir_identity_make(struct dir *dir); /* from dir->segment_bytes; a new uuid; not if there is one already */

#endif
