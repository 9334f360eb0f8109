/* dir_identity.c - the file spool.json, which says that the directory is a spool.
 *
 * One JSON object:
 *     {"libspool": 1, "uuid": "018f…", "segment_bytes": 268435456, "created": "2026-11-21T09:34:15Z"}
 * It is valid if `libspool` is 1, `uuid` a UUID in its text form and `segment_bytes` positive; other members are
 * ignored. It is written once, under a name of its own, flushed, and renamed without replacing: so of several makers
 * one wins, and the others read what it wrote. It is the last thing made, so that a directory without it was never
 * used.
 *
 * Version recipe: `libspool` is the version of the directory as a whole. Raise it when an older library must not touch
 * the directory any more; read the older ones. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../lib/base/error.h"
#include "../lib/base/json_tree.h"
#include "dir_inside.h"

enum { VERSION = 1, SIZE_MAX_BYTES = 64 << 10, UUID_TEXT_SIZE = 37 };
static const char NAME[] = "spool.json";

/* --------------------------------------------------------------------------------------------------------- reading */

static int damaged(const struct dir *dir, const char *what)
{
    return err_set(SPOOL_EDAMAGED, "%s/%s: %s: put it back from a copy", dir->path, NAME, what);
}

/* Five groups of hexadecimal digits, whatever their version: 8-4-4-4-12. */
static bool parse_uuid(const char *text, uint8_t ret[16])
{
    uint8_t uuid[16] = {0};
    size_t n = 0;
    if (!text || strlen(text) != UUID_TEXT_SIZE - 1)
        return false;
    for (const char *p = text; *p;) {
        if (p - text == 8 || p - text == 13 || p - text == 18 || p - text == 23) {
            if (*p++ != '-')
                return false;
            continue;
        }
        unsigned byte;
        if (strspn(p, "0123456789abcdefABCDEF") < 2 || sscanf(p, "%2x", &byte) != 1)
            return false;
        uuid[n++] = (uint8_t)byte;
        p += 2;
    }
    memcpy(ret, uuid, sizeof uuid);
    return n == sizeof uuid;
}

static int take_members(struct dir *dir, const json_t *root)
{
    json_int_t version = json_integer_value(json_object_get(root, "libspool"));
    if (!json_is_integer(json_object_get(root, "libspool")))
        return err_set(SPOOL_ENOTSPOOL, "%s is not a spool: its %s has no number \"libspool\"", dir->path, NAME);
    if (version != VERSION)
        return err_set(SPOOL_EVERSION,
                       "%s was made by another version of libspool (%lld; this one knows %d): use that one", dir->path,
                       (long long)version, VERSION);
    json_int_t segment_bytes = json_integer_value(json_object_get(root, "segment_bytes"));
    if (segment_bytes <= 0)
        return damaged(dir, "segment_bytes is no positive number");
    if (!parse_uuid(json_string_value(json_object_get(root, "uuid")), dir->uuid))
        return damaged(dir, "uuid is none");
    dir->segment_bytes = (uint64_t)segment_bytes;
    return SPOOL_OK;
}

static int parse(struct dir *dir, const char *text, size_t size)
{
    json_error_t error;
    json_t *root;
    int code = json_tree(text, size, &root, &error);
    if (code == ENOMEM)
        return err_errno(code, "%s/%s", dir->path, NAME);
    if (code)
        return err_set(SPOOL_EDAMAGED, "%s/%s: line %d, column %d: %s: put it back from a copy", dir->path, NAME,
                       error.line, error.column, error.text);
    code = json_is_object(root) ? take_members(dir, root) : damaged(dir, "no JSON object");
    json_decref(root);
    return code;
}

static int remove_leftover(void *user, const char *name)
{
    const struct dir *dir = user;
    if (strncmp(name, "spool.json.", 11) == 0 && unlinkat(dir->fd, name, 0) && errno != ENOENT)
        return err_errno(errno, "%s/%s: cannot remove", dir->path, name);
    return SPOOL_OK;
}

/* Without RENAME_NOREPLACE it has two names for a moment, and keeps both when its maker is killed then: see publish(). */
static int open_it(const struct dir *dir)
{
    int fd = dir_open_file(dir, dir->fd, NAME, O_RDONLY);
    if (fd != -ELOOP || dir->read_only || dir_each(dir->fd, ".tmp", remove_leftover, (void *)dir))
        return fd;
    return dir_open_file(dir, dir->fd, NAME, O_RDONLY);
}

int dir_identity_read(struct dir *dir)
{
    int fd = open_it(dir);
    if (fd < 0)
        return fd == -ELOOP ? err_prefix(SPOOL_EACCESS, "%s", dir->path) : err_prefix(-fd, "%s", dir->path);
    char *text = malloc(SIZE_MAX_BYTES);
    ssize_t n = text ? dir_read_at(fd, text, SIZE_MAX_BYTES, 0) : -1;
    int err = text ? errno : ENOMEM;
    close(fd);
    int code = n < 0 ? err_errno(err, "%s/%s", dir->path, NAME) : SPOOL_OK;
    if (!code)
        code = n == SIZE_MAX_BYTES ? damaged(dir, "too big") : parse(dir, text, (size_t)n);
    free(text);
    return code;
}

/* ---------------------------------------------------------------------------------------------------------- making */

static int random_bytes(void *ret, size_t size)
{
    if (getrandom(ret, size, 0) == (ssize_t)size)
        return SPOOL_OK;
    return err_errno(errno, "no random bytes for an identity");
}

static int render(const struct dir *dir, const uint8_t uuid[16], char *ret, size_t cap)
{
    struct spool_id id;
    char uuid_text[SPOOL_ID_TEXT_SIZE], created[32];
    time_t now = time(NULL);
    struct tm utc;
    memcpy(id.bytes, uuid, sizeof id.bytes);
    if (!gmtime_r(&now, &utc) || !strftime(created, sizeof created, "%Y-%m-%dT%H:%M:%SZ", &utc))
        return err_set(SPOOL_EINTERNAL, "the time cannot be written");
    int n = snprintf(ret, cap, "{\"libspool\": %d, \"uuid\": \"%s\", \"segment_bytes\": %llu, \"created\": \"%s\"}\n",
                     VERSION, spool_id_format(&id, uuid_text), (unsigned long long)dir->segment_bytes, created);
    return n > 0 && (size_t)n < cap ? SPOOL_OK : err_set(SPOOL_EINTERNAL, "%s is too long", NAME);
}

static int write_file(const struct dir *dir, const char *tmp, const char *text)
{
    int fd = dir_open_file(dir, dir->fd, tmp, O_WRONLY | O_CREAT | O_EXCL);
    if (fd < 0)
        return err_prefix(-fd, "%s", dir->path);
    size_t size = strlen(text);
    ssize_t n = write(fd, text, size);
    int err = n < 0 ? errno : n < (ssize_t)size ? ENOSPC : fsync(fd) ? errno : 0;
    close(fd);
    return err ? err_errno(err, "%s/%s: cannot write", dir->path, tmp) : SPOOL_OK;
}

/* EEXIST, or ENOENT when the winner has swept our temporary file away: somebody else made it. */
static int publish(const struct dir *dir, const char *tmp)
{
    if (renameat2(dir->fd, tmp, dir->fd, NAME, RENAME_NOREPLACE) == 0)
        return SPOOL_OK;
    /* File systems without that flag have links. */
    if (errno == EINVAL && linkat(dir->fd, tmp, dir->fd, NAME, 0) == 0)
        return SPOOL_OK; /* the other name is removed with the leftovers */
    if ((errno == EEXIST || errno == ENOENT) && faccessat(dir->fd, NAME, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return SPOOL_OK;
    return err_errno(errno, "%s/%s: cannot make it", dir->path, NAME);
}

int dir_identity_make(struct dir *dir)
{
    uint8_t uuid[16];
    char tmp[64], text[256];
    uint32_t random;
    int code = random_bytes(uuid, sizeof uuid);
    if (!code)
        code = random_bytes(&random, sizeof random);
    if (code)
        return code;
    uuid[6] = (uint8_t)(0x40 | (uuid[6] & 0x0f)); /* version 4, random */
    uuid[8] = (uint8_t)(0x80 | (uuid[8] & 0x3f));
    snprintf(tmp, sizeof tmp, "%s.%08x.tmp", NAME, random);
    code = render(dir, uuid, text, sizeof text);
    if (!code)
        code = write_file(dir, tmp, text);
    if (!code)
        code = publish(dir, tmp);
    if (code) {
        unlinkat(dir->fd, tmp, 0);
        return code;
    }
    return dir_each(dir->fd, ".tmp", remove_leftover, dir);
}
