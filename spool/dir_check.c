/* dir_check.c - is the directory safe to use: its file system, its owner and permissions, what is in it.
 *
 * Messages tell what to do about it: this is what an operator sees first when a spool does not open. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "../lib/base/error.h"
#include "dir_inside.h"

int (*dir_fstatfs)(int fd, struct statfs *ret);

/* ---------------------------------------------------------------------------------------------------- file system */

struct file_system {
    uint32_t type; /* statfs(2) f_type */
    const char *name;
};

static const struct file_system NETWORK[] = {
    {0x00006969, "NFS"},      {0x0000517b, "SMB"},  {0xff534d42, "CIFS"},  {0xfe534d42, "SMB2"}, {0x65735546, "FUSE"},
    {0x01021997, "9P"},       {0x5346414f, "AFS"},  {0x6b414653, "AFS"},   {0x00c36400, "Ceph"}, {0x0bd00bd0, "Lustre"},
    {0x7461636f, "OCFS2"},    {0x01161970, "GFS2"}, {0x0000564c, "NCP"},   {0x73757245, "Coda"}, {0x19830326, "BeeGFS"},
    {0x20030528, "OrangeFS"}, {0x47504653, "GPFS"}, {0xaad7aaea, "PanFS"},
};

static const struct file_system COPIES_ON_WRITE[] = {
    {0x9123683e, "btrfs"},
    {0x2fc12fc1, "ZFS"},
    {0xca451a4e, "bcachefs"},
};

static const char *find_name(const struct file_system *list, size_t n, uint32_t type)
{
    for (size_t i = 0; i < n; i++) {
        if (list[i].type == type)
            return list[i].name;
    }
    return NULL;
}

static int look_at(int fd, struct statfs *ret)
{
    return dir_fstatfs ? dir_fstatfs(fd, ret) : fstatfs(fd, ret);
}

static bool copies_on_write(const struct statfs *fs)
{
    return find_name(COPIES_ON_WRITE, sizeof COPIES_ON_WRITE / sizeof *COPIES_ON_WRITE, (uint32_t)fs->f_type) != NULL;
}

bool dir_copies_on_write(int fd)
{
    struct statfs fs;
    return look_at(fd, &fs) == 0 && copies_on_write(&fs);
}

int dir_check_file_system(struct dir *dir, uint32_t flags)
{
    struct statfs fs;
    if (look_at(dir->fd, &fs))
        return err_errno(errno, "%s: cannot look at its file system", dir->path);
    const char *network = find_name(NETWORK, sizeof NETWORK / sizeof *NETWORK, (uint32_t)fs.f_type);
    if (network && !(flags & SPOOL_ALLOW_NETWORK_FS))
        return err_set(
            SPOOL_EREMOTE,
            "%s is on %s: locks and flushes of network file systems cannot be relied on. Put it on a local disk, "
            "or use SPOOL_ALLOW_NETWORK_FS if you know that they work there",
            dir->path, network);
    if ((fs.f_flags & ST_RDONLY) && !dir->read_only)
        return err_set(EROFS,
                       "%s: the file system is mounted read-only: mount it for writing, or open with SPOOL_READ_ONLY",
                       dir->path);
    dir->copy_on_write = copies_on_write(&fs);
    return SPOOL_OK;
}

/* --------------------------------------------------------------------------------------------- owner, permissions */

static int check_owner(const struct dir *dir, const struct stat *st, const char *name)
{
    uid_t me = geteuid();
    bool shared = (dir->file_mode & S_IWGRP) && (st->st_mode & S_IWGRP);
    if (st->st_uid == me || st->st_uid == 0 || me == 0 || shared)
        return SPOOL_OK;
    return err_set(SPOOL_EACCESS,
                   "%s belongs to user %u, not to us (%u): run as that user, or share it with a group "
                   "(chmod g+rwx, file_mode 0660)",
                   name, (unsigned)st->st_uid, (unsigned)me);
}

int dir_check_access(const struct dir *dir, int fd, const char *name)
{
    struct stat st;
    if (fstat(fd, &st))
        return err_errno(errno, "%s", name);
    if (st.st_mode & S_IWOTH)
        return err_set(SPOOL_EACCESS, "others may write to %s: chmod o-w %s", name, name);
    if ((st.st_mode & S_IWGRP) && !(dir->file_mode & S_IWGRP))
        return err_set(SPOOL_EACCESS,
                       "its group may write to %s: chmod go-w %s, or open with a file_mode that shares with "
                       "the group (0660)",
                       name, name);
    return check_owner(dir, &st, name);
}

int dir_check_writable(const struct dir *dir)
{
    if (dir->read_only || faccessat(dir->fd, ".", W_OK | X_OK, AT_EACCESS) == 0)
        return SPOOL_OK;
    return err_errno(errno, "cannot write to %s: get write permission, or open with SPOOL_READ_ONLY", dir->path);
}

/* --------------------------------------------------------------------------------------------------------- entries */

struct entries {
    const struct dir *dir;
    int at_fd;
    const char *where; /* "journal/" */
};

static bool begins_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool is_our_directory(const char *name)
{
    return !strcmp(name, "journal") || !strcmp(name, "segments") || !strcmp(name, "quarantine");
}

static bool is_our_file(const char *name)
{
    return !strcmp(name, "spool.json") || !strcmp(name, "limits.json") || !strcmp(name, "log.lock") ||
           !strcmp(name, "state.lock") || !strcmp(name, "wake") || begins_with(name, "state.mdb") ||
           begins_with(name, "sink-");
}

static int refuse_entry(const struct entries *entries, const char *name, const char *what)
{
    return err_set(SPOOL_EACCESS, "%s/%s%s is %s: move it away", entries->dir->path, entries->where, name, what);
}

static int check_type(const struct entries *entries, const char *name, mode_t wanted)
{
    struct stat st;
    if (fstatat(entries->at_fd, name, &st, AT_SYMLINK_NOFOLLOW))
        return errno == ENOENT ? SPOOL_OK : err_errno(errno, "%s/%s%s", entries->dir->path, entries->where, name);
    if (S_ISLNK(st.st_mode))
        return refuse_entry(entries, name, "a symbolic link");
    if ((st.st_mode & S_IFMT) != wanted)
        return refuse_entry(entries, name, wanted == S_IFDIR ? "no directory" : "no regular file");
    if (wanted == S_IFREG && st.st_nlink > 1)
        return refuse_entry(entries, name, "a file with other names (hard links)");
    return SPOOL_OK;
}

static int check_top_entry(void *user, const char *name)
{
    if (is_our_directory(name))
        return check_type(user, name, S_IFDIR);
    return is_our_file(name) ? check_type(user, name, S_IFREG) : SPOOL_OK;
}

static int check_inner_entry(void *user, const char *name)
{
    return check_type(user, name, S_IFREG);
}

int dir_check_entries(const struct dir *dir)
{
    struct entries top = {dir, dir->fd, ""}, journals = {dir, dir->journal_fd, "journal/"},
                   segments = {dir, dir->segments_fd, "segments/"};
    int code = dir_each(dir->fd, "", check_top_entry, &top);
    if (!code)
        code = dir_each(dir->journal_fd, "", check_inner_entry, &journals);
    return code ? code : dir_each(dir->segments_fd, "", check_inner_entry, &segments);
}

/* ----------------------------------------------------------------------------------------------------------- fresh */

/* A peer that makes it at the same time may have finished meanwhile: then it is one, and has more files. */
static bool is_finished(const struct dir *dir)
{
    return faccessat(dir->fd, "spool.json", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static int refuse_strange(void *user, const char *name)
{
    const struct dir *dir = user;
    if (is_finished(dir))
        return SPOOL_OK;
    return err_set(SPOOL_ENOTSPOOL,
                   "%s is not a spool: it has no spool.json, but holds %s. Name an empty or a new directory", dir->path,
                   name);
}

static int refuse_orphan(void *user, const char *name)
{
    const struct dir *dir = user;
    if (is_finished(dir))
        return SPOOL_OK;
    return err_set(SPOOL_ENOTSPOOL,
                   "%s: spool.json is missing, but there are files of a spool (%s): put it back from a copy", dir->path,
                   name);
}

static int check_empty(const struct dir *dir, const char *name)
{
    int fd = openat(dir->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? SPOOL_OK : refuse_strange((void *)dir, name);
    int code = dir_each(fd, "", refuse_orphan, (void *)dir);
    close(fd);
    return code;
}

static int check_fresh_entry(void *user, const char *name)
{
    if (is_our_directory(name))
        return check_empty(user, name);
    if (begins_with(name, "spool.json.") || !strcmp(name, "lost+found")) /* interrupted; the root of a file system */
        return SPOOL_OK;
    return refuse_strange(user, name);
}

int dir_check_fresh(const struct dir *dir)
{
    return dir_each(dir->fd, "", check_fresh_entry, (void *)dir);
}
