/* journal_file.c - the journal's file: its format, making it, taking it over, giving it up.
 *
 * A journal <uuid>.jnl is a page of 4,096 bytes and a ring of `ring_bytes` (a multiple of 4,096, 64 KiB to 1 GiB); the
 * file is exactly that long and fully allocated. All words are little-endian. The page:
 *
 *     0   8  magic "SPOOLJNL"
 *     8   4  version, 1
 *    12   4  ring_bytes
 *    16  16  uuid, the same as in the name
 *    32   4  CRC32C of bytes 0 to 31
 *    36      zeros
 *
 * Positions count bytes appended since the journal was made and only grow; the byte of position p is at p % ring_bytes
 * of the ring. A record begins at a position that is a multiple of 8 and never crosses the end of the ring:
 *
 *     0   4  CRC32C of bytes 4 to 23 and, for a frame, of the payload, continued from the CRC32C of the uuid
 *     4   4  payload size, a multiple of 8
 *     8   8  position
 *    16   4  kind: "FRAM", a frame of packed events (lib/base/event.h; never empty), or "PAD ", padding: unchecked
 * bytes up to the end of the ring 20   4  zero 24      payload
 *
 * Where a frame does not fit before the end of the ring, padding comes first; where not even a header fits, the bytes
 * that are left are skipped without a mark.
 *
 * A record is valid if and only if its fields are as above, it ends within the ring, its position is that of its place
 * in some lap, and its CRC matches. Which valid ones count is a question of position alone: those in [applied, applied
 * + ring_bytes), where `applied` is stored in the log, in the transaction that also stores the events. A record of an
 * earlier lap has a smaller position; a torn one does not match its CRC; and a new owner begins behind everything that
 * can be in the file. Hence no end mark, no pointer in the file that could be torn, and no order in which the bytes of
 * a record must be stored: a process killed half-way leaves a record that does not match, and a loss of power any
 * mixture of old and new sectors.
 *
 * Owner: the process that holds a record lock on byte 0. A file that lost its name while one waited for it is none.
 *
 * Version recipe: magic and version never move. To change anything else, raise the version, write the new form, and go
 * on reading the old one (a journal is short-lived, but an upgrade may find one of a killed process). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../lib/base/bytes.h"
#include "../lib/base/crc32c.h"
#include "../lib/base/error.h"
#include "dir.h"
#include "journal_inside.h"

static const char MAGIC[8] = {'S', 'P', 'O', 'O', 'L', 'J', 'N', 'L'};
enum { VERSION = 1, AT_VERSION = 8, AT_RING = 12, AT_UUID = 16, AT_CRC = 32, PAGE_USED = 36 };

/* ---------------------------------------------------------------------------------------------- making, freeing it */

static int journal_new(int dir_fd, bool use_pwrite, struct journal **ret)
{
    struct journal *journal = calloc(1, sizeof *journal);
    if (!journal)
        return err_errno(ENOMEM, "journal");
    journal->fd = -1;
    journal->dir_fd = dir_fd;
    journal->use_pwrite = use_pwrite;
    int code = pthread_mutex_init(&journal->flush_mutex, NULL);
    if (code) {
        free(journal);
        return err_errno(code, "journal: mutex");
    }
    *ret = journal;
    return SPOOL_OK;
}

static size_t file_bytes(const struct journal *journal)
{
    return (size_t)JOURNAL_PAGE + journal->ring_bytes;
}

void journal_close(struct journal *journal)
{
    if (!journal)
        return;
    if (journal->ring)
        munmap(journal->ring - JOURNAL_PAGE, file_bytes(journal));
    pthread_mutex_destroy(&journal->flush_mutex);
    journal->ring = NULL;
    journal_abandon(journal);
}

/* A forked child does not have the mapping (MADV_DONTFORK), so that unmapping could hit something of its own; the mutex
 * may be held by a thread that is not there. Closing releases no lock of the parent. */
void journal_abandon(struct journal *journal)
{
    if (!journal)
        return;
    if (journal->fd >= 0)
        close(journal->fd);
    free(journal->scratch);
    free(journal);
}

int journal_remove(struct journal *journal)
{
    int code = SPOOL_OK;
    if (unlinkat(journal->dir_fd, journal->name, 0) && errno != ENOENT)
        code = err_errno(errno, "cannot remove journal %s", journal->name);
    else
        code = dir_flush(journal->dir_fd);
    journal_close(journal);
    return code;
}

/* ------------------------------------------------------------------------------------------ identity and ownership */

static void set_identity(struct journal *journal, const uint8_t *uuid, uint32_t ring_bytes)
{
    struct spool_id id;
    char text[SPOOL_ID_TEXT_SIZE];
    memcpy(id.bytes, uuid, sizeof id.bytes);
    memcpy(journal->uuid, uuid, sizeof journal->uuid);
    snprintf(journal->name, sizeof journal->name, "%s.jnl", spool_id_format(&id, text));
    journal->seed = crc32c(0, uuid, JOURNAL_UUID_SIZE);
    journal->ring_bytes = ring_bytes;
}

static struct flock whole_lock(void)
{
    return (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
}

static int take_ownership(struct journal *journal, const char *name)
{
    struct flock lock = whole_lock();
    if (fcntl(journal->fd, F_SETLK, &lock)) {
        if (errno == EAGAIN || errno == EACCES)
            return err_set(SPOOL_EBUSY, "journal %s: its owner lives", name);
        return err_errno(errno, "journal %s: cannot lock", name);
    }
    struct stat st;
    if (fstat(journal->fd, &st))
        return err_errno(errno, "journal %s", name);
    if (st.st_nlink == 0)
        return err_set(SPOOL_ENOTFOUND, "journal %s: removed meanwhile", name);
    return SPOOL_OK;
}

/* --------------------------------------------------------------------------------------------------------- mapping */

/* Keeps the file in the page cache as single pages. Of a large folio that was stored to through a mapping, the kernel
 * knows only that all of it is dirty: with the 1 MiB folios of a file written or read ahead in big pieces, a flush of
 * one record took twice as long as pwrite() and fdatasync(), and a page fault 10 us; with single pages it is as fast.
 * So the file is written page by page, and read ahead never. */
static int want_single_pages(const struct journal *journal)
{
    int err = posix_fadvise(journal->fd, 0, 0, POSIX_FADV_RANDOM);
    return err ? err_errno(err, "journal %s: fadvise", journal->name) : SPOOL_OK;
}

/* MADV_DONTFORK because a child must not write here; MADV_RANDOM as in want_single_pages(). */
static int map_ring(struct journal *journal)
{
    struct rlimit limit;
    journal->size_limited = getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < file_bytes(journal);
    int access = journal->use_pwrite ? PROT_READ : PROT_READ | PROT_WRITE;
    uint8_t *map = mmap(NULL, file_bytes(journal), access, MAP_SHARED, journal->fd, 0);
    if (map == MAP_FAILED)
        return err_errno(errno, "journal %s: cannot map %zu bytes", journal->name, file_bytes(journal));
    if (madvise(map, file_bytes(journal), MADV_DONTFORK) || madvise(map, file_bytes(journal), MADV_RANDOM)) {
        int err = errno;
        munmap(map, file_bytes(journal));
        return err_errno(err, "journal %s: madvise", journal->name);
    }
    journal->ring = map + JOURNAL_PAGE;
    if (!journal->use_pwrite)
        return SPOOL_OK;
    journal->scratch = malloc(JOURNAL_RECORD_HEADER + journal_payload_max(journal));
    return journal->scratch ? SPOOL_OK : err_errno(ENOMEM, "journal %s", journal->name);
}

/* -------------------------------------------------------------------------------------------------------- creating */

/* All of `size` bytes at `at`. */
static int write_all(const struct journal *journal, const uint8_t *bytes, size_t size, size_t at)
{
    while (size > 0) {
        ssize_t n = pwrite(journal->fd, bytes, size, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_errno(n < 0 ? errno : ENOSPC, "journal %s: cannot write %zu bytes", journal->name,
                             file_bytes(journal));
        bytes += n;
        size -= (size_t)n;
        at += (size_t)n;
    }
    return SPOOL_OK;
}

static void fill_page(const struct journal *journal, uint8_t page[JOURNAL_PAGE])
{
    memcpy(page, MAGIC, sizeof MAGIC);
    put_u32(page + AT_VERSION, VERSION);
    put_u32(page + AT_RING, journal->ring_bytes);
    memcpy(page + AT_UUID, journal->uuid, JOURNAL_UUID_SIZE);
    put_u32(page + AT_CRC, crc32c(0, page, AT_CRC));
}

/* Zeros are written, not only allocated: an unwritten extent would cost a metadata update at its first flush. */
static int write_file(const struct journal *journal)
{
    static const uint8_t zeros[JOURNAL_PAGE];
    uint8_t page[JOURNAL_PAGE] = {0};
    fill_page(journal, page);
    int code = write_all(journal, page, sizeof page, 0);
    for (size_t at = JOURNAL_PAGE; !code && at < file_bytes(journal); at += JOURNAL_PAGE)
        code = write_all(journal, zeros, sizeof zeros, at);
    if (!code && fsync(journal->fd))
        code = err_errno(errno, "journal %s: cannot flush", journal->name);
    return code;
}

static int publish_file(const struct journal *journal, const char *tmp)
{
    if (renameat(journal->dir_fd, tmp, journal->dir_fd, journal->name))
        return err_errno(errno, "journal %s: cannot rename", tmp);
    return dir_flush(journal->dir_fd);
}

static int random_uuid(uint8_t uuid[JOURNAL_UUID_SIZE])
{
    if (getrandom(uuid, JOURNAL_UUID_SIZE, 0) != JOURNAL_UUID_SIZE)
        return err_errno(errno, "journal: no random bytes for a name");
    uuid[6] = (uint8_t)(0x40 | (uuid[6] & 0x0f)); /* version 4, random */
    uuid[8] = (uint8_t)(0x80 | (uuid[8] & 0x3f));
    return SPOOL_OK;
}

/* Locked from the beginning, so that nobody takes it for a dead one's. */
static int create_file(struct journal *journal, mode_t mode)
{
    char tmp[JOURNAL_NAME_SIZE + 8];
    snprintf(tmp, sizeof tmp, "%s.tmp", journal->name);
    journal->fd = dir_file_at(journal->dir_fd, tmp, O_RDWR | O_CREAT | O_EXCL, mode);
    if (journal->fd < 0)
        return -journal->fd;
    int code = take_ownership(journal, tmp);
    if (!code)
        code = write_file(journal);
    if (!code)
        code = publish_file(journal, tmp);
    if (code)
        unlinkat(journal->dir_fd, tmp, 0);
    return code;
}

/* A creation that was interrupted leaves a .tmp: gone after a while, if nobody holds it. */
static int remove_leftover(void *user, const char *name)
{
    enum { OLD_SECONDS = 60 };
    int dir_fd = *(const int *)user;
    struct stat st;
    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) || st.st_mtime + OLD_SECONDS > time(NULL))
        return 0;
    int fd = dir_file_at(dir_fd, name, O_RDWR, 0);
    if (fd < 0)
        return 0;
    struct flock lock = whole_lock();
    if (fcntl(fd, F_SETLK, &lock) == 0)
        unlinkat(dir_fd, name, 0);
    close(fd);
    return 0;
}

int journal_create(int dir_fd, uint32_t ring_bytes, mode_t mode, bool use_pwrite, struct journal **ret)
{
    struct journal *journal;
    uint8_t uuid[JOURNAL_UUID_SIZE];
    if (ring_bytes < JOURNAL_RING_MIN || ring_bytes > JOURNAL_RING_MAX || ring_bytes % JOURNAL_PAGE)
        return err_set(SPOOL_EINVAL, "a journal of %u bytes: not a multiple of 4,096 from 64 KiB to 1 GiB", ring_bytes);
    int code = dir_each(dir_fd, ".jnl.tmp", remove_leftover, &dir_fd);
    if (!code)
        code = random_uuid(uuid);
    if (!code)
        code = journal_new(dir_fd, use_pwrite, &journal);
    if (code)
        return code;
    set_identity(journal, uuid, ring_bytes);
    code = create_file(journal, mode);
    if (!code)
        code = want_single_pages(journal);
    if (!code)
        code = map_ring(journal);
    if (code) {
        journal_close(journal);
        return code;
    }
    journal_begin_at(journal, 0);
    *ret = journal;
    return SPOOL_OK;
}

/* --------------------------------------------------------------------------------------------------- taking it over */

static int damaged(const char *name, const char *what)
{
    return err_set(SPOOL_EDAMAGED, "journal %s: %s", name, what);
}

static int check_page(const uint8_t *page, const char *name)
{
    if (memcmp(page, MAGIC, sizeof MAGIC) != 0)
        return damaged(name, "does not begin like a journal");
    if (get_u32(page + AT_VERSION) != VERSION)
        return err_set(SPOOL_EVERSION, "journal %s: version %u, this library knows %u: use a newer one", name,
                       get_u32(page + AT_VERSION), VERSION);
    if (get_u32(page + AT_CRC) != crc32c(0, page, AT_CRC))
        return damaged(name, "the checksum of its header is wrong");
    uint32_t ring = get_u32(page + AT_RING);
    if (ring < JOURNAL_RING_MIN || ring > JOURNAL_RING_MAX || ring % JOURNAL_PAGE)
        return damaged(name, "its header names an impossible size");
    return SPOOL_OK;
}

static int read_identity(struct journal *journal, const char *name)
{
    uint8_t page[PAGE_USED];
    struct stat st;
    ssize_t n = dir_read_at(journal->fd, page, sizeof page, 0);
    if (n < 0 || fstat(journal->fd, &st))
        return err_errno(errno, "journal %s: cannot read", name);
    if (n < (ssize_t)sizeof page)
        return damaged(name, "shorter than its header");
    int code = check_page(page, name);
    if (code)
        return code;
    set_identity(journal, page + AT_UUID, get_u32(page + AT_RING));
    if (st.st_size != (off_t)file_bytes(journal))
        return damaged(name, "its size is not what its header says");
    if (strcmp(journal->name, name) != 0)
        return damaged(name, "its header has another name: a copy?");
    return SPOOL_OK;
}

static int open_file(struct journal *journal, const char *name, int flags)
{
    journal->fd = dir_file_at(journal->dir_fd, name, flags, 0);
    if (journal->fd >= 0)
        return SPOOL_OK;
    return journal->fd == -ENOENT ? SPOOL_ENOTFOUND : journal->fd == -ELOOP ? SPOOL_EDAMAGED : -journal->fd;
}

int journal_adopt(int dir_fd, const char *name, bool use_pwrite, struct journal **ret)
{
    struct journal *journal;
    int code = journal_new(dir_fd, use_pwrite, &journal);
    if (code)
        return code;
    code = open_file(journal, name, O_RDWR);
    if (!code)
        code = take_ownership(journal, name);
    if (!code)
        code = read_identity(journal, name);
    if (!code)
        code = want_single_pages(journal);
    if (!code)
        code = map_ring(journal);
    if (code) {
        journal_close(journal);
        return code;
    }
    *ret = journal;
    return SPOOL_OK;
}

int journal_inspect(int dir_fd, const char *name, struct journal **ret, bool *ret_dead)
{
    struct journal *journal;
    int code = journal_new(dir_fd, false, &journal);
    if (code)
        return code;
    code = open_file(journal, name, O_RDONLY);
    if (!code)
        code = read_identity(journal, name);
    struct flock owner = whole_lock();
    if (!code && fcntl(journal->fd, F_GETLK, &owner))
        code = err_errno(errno, "journal %s: cannot look at its lock", name);
    if (code) {
        journal_close(journal);
        return code;
    }
    *ret_dead = owner.l_type == F_UNLCK;
    *ret = journal;
    return SPOOL_OK;
}

const uint8_t *journal_uuid(const struct journal *journal)
{
    return journal->uuid;
}
const char *journal_name(const struct journal *journal)
{
    return journal->name;
}
uint32_t journal_ring_bytes(const struct journal *journal)
{
    return journal->ring_bytes;
}
size_t journal_payload_max(const struct journal *journal)
{
    return journal->ring_bytes / 4;
}
