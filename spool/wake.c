/* wake.c - the page of futex words that the processes of a spool share, and the futex calls.
 *
 * Words are bumped by FUTEX_WAKE_OP, which adds and wakes in one system call. It also makes the kernel do the store:
 * where a store into the mapping needs a disk block (copy-on-write file systems) and there is none, the call fails
 * quietly instead of raising SIGBUS. For the same reason the lock hints, which are stored to directly, are not offered
 * there: locks then poll. */
#include "wake.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../lib/base/error.h"
#include "../lib/base/sync.h"
#include "dir.h"

enum { WAKE_BYTES = 4096 };
_Static_assert(sizeof(struct wake_page) <= WAKE_BYTES, "the words fit in the page");

struct wake {
    struct wake_page *page;
    bool writable; /* the mapping may be stored to */
    bool hints;    /* … directly */
};

/* ------------------------------------------------------------------------------------------------- futex calls */

int futex_wait_until(_Atomic uint32_t *word, uint32_t seen, uint64_t deadline_ns)
{
    struct timespec until = {.tv_sec = (time_t)(deadline_ns / 1000000000), .tv_nsec = (long)(deadline_ns % 1000000000)};
    struct timespec *timeout = deadline_ns == DEADLINE_NEVER ? NULL : &until;
    /* Unlike FUTEX_WAIT, FUTEX_WAIT_BITSET takes an absolute time of CLOCK_MONOTONIC. */
    if (syscall(SYS_futex, word, FUTEX_WAIT_BITSET, seen, timeout, NULL, FUTEX_BITSET_MATCH_ANY) == 0)
        return 0;
    return errno == ETIMEDOUT ? ETIMEDOUT : 0;
}

void futex_wake_one(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

void futex_wake_all(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void futex_bump(_Atomic uint32_t *word)
{
    unsigned long none = 0; /* further waiters to wake if the comparison, always false here, holds */
    syscall(SYS_futex, word, FUTEX_WAKE_OP, INT_MAX, none, word, FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_LT, 0));
}

/* -------------------------------------------------------------------------------------------------- opening it */

static int map_private(struct wake *wake)
{
    void *page = mmap(NULL, WAKE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return err_errno(errno, "wake: cannot map a page");
    wake->page = page;
    wake->writable = wake->hints = true;
    return SPOOL_OK;
}

static int map_file(struct wake *wake, int fd, bool read_only)
{
    void *page = mmap(NULL, WAKE_BYTES, read_only ? PROT_READ : PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED)
        return err_errno(errno, "wake: cannot map it");
    wake->page = page;
    wake->writable = !read_only;
    wake->hints = !read_only && !dir_copies_on_write(fd);
    return SPOOL_OK;
}

/* Gives the file its size by writing: a hole could raise SIGBUS on a full disk. */
static int fill(int fd, off_t size)
{
    static const uint8_t zeros[WAKE_BYTES];
    ssize_t n = pwrite(fd, zeros, (size_t)(WAKE_BYTES - size), size);
    if (n == WAKE_BYTES - size)
        return SPOOL_OK;
    return err_errno(n < 0 ? errno : ENOSPC, "wake: cannot write it");
}

static bool is_disk_full(int code)
{
    return code == ENOSPC || code == EDQUOT || code == EFBIG;
}

/* A full disk must not keep a spool from opening, nor may a look at one need to write: then waiting is by time only. */
static int map_fd(struct wake *wake, int fd, bool read_only)
{
    struct stat st;
    if (fstat(fd, &st))
        return err_errno(errno, "wake");
    if (st.st_size < WAKE_BYTES) {
        int code = read_only ? ENOSPC : fill(fd, st.st_size);
        if (code)
            return is_disk_full(code) ? map_private(wake) : code;
    }
    return map_file(wake, fd, read_only);
}

static int map_any(struct wake *wake, int dir_fd, bool read_only, mode_t mode)
{
    int fd = dir_file_at(dir_fd, "wake", read_only ? O_RDONLY : O_RDWR | O_CREAT, mode);
    if (fd < 0 && ((read_only && (fd == -ENOENT || fd == -EACCES)) || is_disk_full(-fd)))
        return map_private(wake);
    if (fd < 0)
        return fd == -ELOOP ? SPOOL_EACCESS : -fd;
    int code = map_fd(wake, fd, read_only);
    close(fd);
    return code;
}

int wake_open(int dir_fd, bool read_only, mode_t mode, struct wake **ret)
{
    struct wake *wake = calloc(1, sizeof *wake);
    if (!wake)
        return err_errno(ENOMEM, "wake");
    int code = map_any(wake, dir_fd, read_only, mode);
    if (code) {
        free(wake);
        return code;
    }
    *ret = wake;
    return SPOOL_OK;
}

void wake_close(struct wake *wake)
{
    if (!wake)
        return;
    munmap(wake->page, WAKE_BYTES);
    free(wake);
}

/* ------------------------------------------------------------------------------------------------------ using it */

struct wake_page *wake_page(struct wake *wake)
{
    return wake->hints ? wake->page : NULL;
}

uint32_t wake_change(const struct wake *wake)
{
    return atomic_load(&wake->page->change);
}

uint32_t wake_control(const struct wake *wake)
{
    return atomic_load(&wake->page->control);
}

void wake_bump(struct wake *wake, bool control)
{
    if (!wake->writable)
        return;
    if (control)
        futex_bump(&wake->page->control);
    futex_bump(&wake->page->change);
}

uint32_t wake_clock_resets(const struct wake *wake)
{
    return atomic_load(&wake->page->clock_resets);
}

void wake_clock_reset(struct wake *wake)
{
    if (wake->writable)
        futex_bump(&wake->page->clock_resets);
}

int wake_wait(struct wake *wake, uint32_t seen, uint64_t deadline_ns)
{
    while (wake_change(wake) == seen) {
        if (futex_wait_until(&wake->page->change, seen, deadline_ns))
            return wake_change(wake) != seen ? SPOOL_OK : err_set(SPOOL_ETIMEOUT, "nothing changed in the time given");
    }
    return SPOOL_OK;
}
