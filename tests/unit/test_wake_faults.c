/* test_wake_faults.c - the wake page and the locks with each single call below them failing once: the answer says what
 * is wrong, and nothing stays open. */
#include "fail_nth.h"

#include <dirent.h>
#include <sys/vfs.h>

#include "../../lib/base/sync.h"
#include "../../spool/dir.h"
#include "../../spool/lock.h"
#include "../../spool/wake.h"

/* What fail_nth.h leaves alone and these call. */
FAIL_HOOK(int, fchmod, (int fd, mode_t mode), FAIL_ARGS(int, mode_t), (fd, mode), FAIL_NAME, fail_errno(EPERM))
FAIL_HOOK(int, fchown, (int fd, uid_t user, gid_t group), FAIL_ARGS(int, uid_t, gid_t), (fd, user, group), FAIL_NAME,
          fail_errno(EPERM))
FAIL_HOOK(int, fstatfs, (int fd, struct statfs *ret), FAIL_ARGS(int, struct statfs *), (fd, ret), FAIL_STAT,
          fail_errno(EIO))

enum { SEGMENT = 4 << 20 };

static char *base, path[256];

static void set_up(void)
{
    base = test_dir();
    snprintf(path, sizeof path, "%s/spool", base);
}

static void tear_down(void)
{
    test_rmdir(base);
    free(base);
}

static const enum fail_class SMALL_CLASSES[] = {
    FAIL_MEMORY, FAIL_OPEN, FAIL_WRITE,  FAIL_WRITE_SHORT, FAIL_STAT,
    FAIL_NAME,   FAIL_MAP,  FAIL_THREAD, FAIL_RANDOM,      FAIL_LOCK,
};
enum { N_SMALL = sizeof SMALL_CLASSES / sizeof *SMALL_CLASSES };

static int open_wake(int dir_fd, bool read_only)
{
    struct wake *wake = NULL;
    int code = wake_open(dir_fd, read_only, 0600, &wake);
    if (code)
        return code;
    uint32_t seen = wake_change(wake);
    wake_bump(wake, true);
    bool moved = wake_change(wake) != seen;
    wake_close(wake);
    return moved == !read_only || read_only ? SPOOL_OK : err_set(SPOOL_EINTERNAL, "the word did not move");
}

START_TEST(wake_with_one_fault)
{
    static const int errors[] = {0, ENOSPC, EIO, EDQUOT, EACCES};
    struct dir dir;
    int code;
    ck_ok(dir_open(path, SEGMENT, 0600, 0, &dir));
    unsigned before = open_files();
    for (int i = 0; i < N_SMALL; i++) {
        for (int read_only = 1; read_only >= 0; read_only--) {
            unlinkat(dir.fd, "wake", 0);
            fail_err = errors[_i];
            fail_each(code, SMALL_CLASSES[i], open_wake(dir.fd, read_only))
            {
                if (code)
                    ck_documented(code);
                unlinkat(dir.fd, "wake", 0);
            }
            fail_err = 0;
            ck_ok(code);
            ck_ok(open_wake(dir.fd, false));
            fail_err = errors[_i];
            fail_each(code, SMALL_CLASSES[i], open_wake(dir.fd, read_only))
            {
                if (code)
                    ck_documented(code);
            }
            fail_err = 0;
            ck_ok(code);
        }
    }
    ck_assert_uint_eq(open_files(), before);
    dir_close(&dir);
}
END_TEST

static int like_btrfs(int fd, struct statfs *ret)
{
    int code = fstatfs(fd, ret);
    ret->f_type = 0x9123683e;
    return code;
}

/* A store into a mapping may raise a signal there: locks do without hints. */
START_TEST(wake_on_a_file_system_that_copies_on_write)
{
    struct dir dir;
    struct wake *wake;
    ck_ok(dir_open(path, SEGMENT, 0600, 0, &dir));
    dir_fstatfs = like_btrfs;
    ck_ok(wake_open(dir.fd, false, 0600, &wake));
    dir_fstatfs = NULL;
    ck_assert_ptr_null(wake_page(wake));
    uint32_t seen = wake_change(wake), control = wake_control(wake);
    wake_bump(wake, true);
    ck_ok(wake_wait(wake, seen, 0));
    ck_assert_uint_ne(wake_control(wake), control);
    wake_close(wake);
    wake_close(NULL);
    dir_close(&dir);
}
END_TEST

static int use_lock(int dir_fd, bool read_only)
{
    struct lock *lock;
    int code = lock_open(dir_fd, "log.lock", read_only, 0600, NULL, &lock);
    if (code)
        return code;
    for (enum lock_mode mode = LOCK_SHARED; mode <= (read_only ? LOCK_SHARED : LOCK_EXCLUSIVE) && !code; mode++) {
        code = lock_take(lock, mode, deadline_in_ms(50));
        if (!code)
            lock_drop(lock, mode);
    }
    lock_close(lock);
    return code;
}

START_TEST(locks_with_one_fault)
{
    struct dir dir;
    int code;
    ck_ok(dir_open(path, SEGMENT, 0600, 0, &dir));
    unsigned before = open_files();
    for (int i = 0; i < N_SMALL; i++) {
        for (int read_only = 0; read_only < 2; read_only++) {
            fail_each(code, SMALL_CLASSES[i], use_lock(dir.fd, read_only))
            {
                if (code)
                    ck_documented(code);
            }
            ck_ok(code);
        }
    }
    ck_assert_uint_eq(open_files(), before);
    dir_close(&dir);
}
END_TEST

static Suite *suite(void)
{
    test_in_memory();
    Suite *s = suite_create("wake_faults");
    TCase *t = tcase_create("wake_faults");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, wake_on_a_file_system_that_copies_on_write);
    tcase_add_loop_test(t, wake_with_one_fault, 0, 5);
    tcase_add_test(t, locks_with_one_fault);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
