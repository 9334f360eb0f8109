/* dir.h - the directory itself: is it ours, is it safe, how much does it hold. */
#ifndef SPOOL_DIR_H
#define SPOOL_DIR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/vfs.h>

#include "store.h"

struct dir {
    char *path; /* as given */
    int fd, journal_fd, segments_fd, quarantine_fd;
    bool created, copy_on_write, read_only;
    mode_t file_mode;       /* of new files */
    uint64_t segment_bytes; /* from spool.json; fixed when the spool was made */
    uint8_t uuid[16];       /* of the spool, likewise */
};

/* Opens or makes the directory and what belongs in it, by spool_options.flags, and checks: a local file system
 * (SPOOL_EREMOTE; statfs f_type: NFS, CIFS/SMB2, FUSE, 9p, AFS, Ceph, Lustre… ; SPOOL_ALLOW_NETWORK_FS overrides), owner is us
 * or root, not writable by others (nor by the group unless file_mode shares with it), no entry that we use is a link or has
 * the wrong type (openat with O_NOFOLLOW everywhere): SPOOL_EACCESS; spool.json: SPOOL_ENOTSPOOL when there are other files
 * and no spool.json, SPOOL_EVERSION, SPOOL_EDAMAGED. A new one is made so that a crash in the middle leaves something the
 * next open completes: subdirectories first, spool.json (tmp, fsync, rename) last, directories flushed, parent too. Root
 * opening another user's spool for writing gives new files the directory's owner. */
int dir_open(const char *path, uint64_t segment_bytes, uint32_t file_mode, uint32_t flags, struct dir *ret);
void dir_close(struct dir *dir);

/* A file of ours: openat with O_NOFOLLOW | O_CLOEXEC, refusing what is no regular file or has several names. O_CREAT applies
 * file_mode exactly (fchmod) and the directory's owner. Returns a descriptor or -errno with the message set; SPOOL_EACCESS
 * for a link is answered as -ELOOP. */
int dir_open_file(const struct dir *dir, int at_fd, const char *name, int flags);

/* The same by permission bits instead of a struct dir: for the files that lock.c, wake.c and journal_file.c make. */
int dir_file_at(int at_fd, const char *name, int flags, mode_t mode);

/* The file system under `fd` copies on write: a store into a mapping may need a new block, and raise SIGBUS if there is
 * none. */
bool dir_copies_on_write(int fd);

/* The max_bytes that was set last (limits.json); 0: none. */
uint64_t dir_limits_read(const struct dir *dir);
/* Keeps it for the next one to open. errno. */
int dir_limits_write(const struct dir *dir, uint64_t max_bytes);

/* Calls `each` with every plain name in the directory `at_fd` that ends in `suffix`, unsorted. Non-zero ends. */
int dir_each(int at_fd, const char *suffix, int (*each)(void *user, const char *name), void *user);

/* Moves journal/x, segments/x or x itself into quarantine/<unix time>-<name>, flushing both directories. */
int dir_quarantine(const struct dir *dir, int at_fd, const char *name);

/* Allocated bytes (st_blocks * 512) of all files, recursively over our three subdirectories. */
int dir_used_bytes(const struct dir *dir, uint64_t *ret_bytes, uint64_t *ret_journals);

/* pread() of all of `size` bytes, or up to the end of the file or to what cannot be read; -1 with errno: nothing could. */
ssize_t dir_read_at(int fd, void *buf, size_t size, off_t at);

/* errno-returning fsync of a directory descriptor. */
int dir_flush(int at_fd);

/* For tests: when set, replaces fstatfs() in the checks of the file system. */
extern int (*dir_fstatfs)(int fd, struct statfs *ret);

#endif
