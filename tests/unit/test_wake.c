/* test_wake.c - the shared futex page, between threads and processes, writable or not. */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "../../lib/base/sync.h"
#include "../../spool/wake.h"
#include "../check_main.h"

static char *path;
static int dir_fd;

static void set_up(void)
{
    path = test_dir();
    dir_fd = open(path, O_RDONLY | O_DIRECTORY);
}

static void tear_down(void)
{
    close(dir_fd);
    test_rmdir(path);
    free(path);
}

START_TEST(bump_moves_the_words)
{
    struct wake *wake;
    ck_ok(wake_open(dir_fd, false, 0600, &wake));
    uint32_t change = wake_change(wake), control = wake_control(wake);
    wake_bump(wake, false);
    ck_assert_uint_eq(wake_change(wake), change + 1);
    ck_assert_uint_eq(wake_control(wake), control);
    wake_bump(wake, true);
    ck_assert_uint_eq(wake_change(wake), change + 2);
    ck_assert_uint_eq(wake_control(wake), control + 1);
    ck_ok(wake_wait(wake, change, 0));
    ck_code(wake_wait(wake, change + 2, 0), SPOOL_ETIMEOUT);
    ck_code(wake_wait(wake, change + 2, deadline_in_ms(5)), SPOOL_ETIMEOUT);
    struct stat st;
    ck_assert_int_eq(fstatat(dir_fd, "wake", &st, 0), 0);
    ck_assert_int_eq(st.st_size, 4096);
    ck_assert_int_gt(st.st_blocks, 0);
    ck_assert_int_eq(st.st_mode & 0777, 0600);
    wake_close(wake);
    wake_close(NULL);
}
END_TEST

/* A child of its own mapping waits; the parent wakes it, also when the child may only read. */
START_TEST(wakes_another_process)
{
    struct wake *wake;
    ck_ok(wake_open(dir_fd, false, 0600, &wake));
    uint32_t seen = wake_change(wake);
    pid_t pid = fork();
    if (pid == 0) {
        struct wake *own;
        if (wake_open(dir_fd, _i, 0600, &own))
            _exit(1);
        _exit(wake_wait(own, seen, deadline_in_ms(20000)) == SPOOL_OK ? 0 : 2);
    }
    int status;
    uint64_t begin = mono_ns();
    while (waitpid(pid, &status, WNOHANG) == 0) {
        _Atomic uint32_t pause = 0;
        futex_wait_until(&pause, 0, deadline_in_ms(1));
        if (mono_ns() - begin > 30 * NS_PER_MS) /* most likely it waits by now */
            wake_bump(wake, false);
    }
    ck_assert_int_eq(status, 0);
    ck_assert_uint_lt(mono_ns() - begin, 15000 * NS_PER_MS);
    wake_close(wake);
}
END_TEST

START_TEST(read_only)
{
    struct wake *wake, *reader;
    ck_ok(wake_open(dir_fd, true, 0600, &reader)); /* missing: a page of one's own */
    ck_code(wake_wait(reader, wake_change(reader), deadline_in_ms(5)), SPOOL_ETIMEOUT);
    ck_assert_int_ne(faccessat(dir_fd, "wake", F_OK, 0), 0);
    wake_close(reader);

    ck_ok(wake_open(dir_fd, false, 0600, &wake));
    ck_ok(wake_open(dir_fd, true, 0600, &reader));
    ck_assert_ptr_nonnull(wake_page(wake));
    ck_assert_ptr_null(wake_page(reader));
    uint32_t seen = wake_change(reader);
    wake_bump(reader, true);
    ck_assert_uint_eq(wake_change(reader), seen);
    wake_bump(wake, false);
    ck_ok(wake_wait(reader, seen, 0));
    wake_close(reader);
    wake_close(wake);
}
END_TEST

START_TEST(odd_files)
{
    struct wake *wake = NULL;
    close(openat(dir_fd, "wake", O_CREAT | O_WRONLY, 0600)); /* empty: it is given its size */
    ck_ok(wake_open(dir_fd, true, 0600, &wake));
    wake_close(wake);
    ck_ok(wake_open(dir_fd, false, 0600, &wake));
    wake_bump(wake, true);
    wake_close(wake);
    wake = NULL;
    ck_assert_int_eq(renameat(dir_fd, "wake", dir_fd, "other"), 0);
    ck_assert_int_eq(symlinkat("other", dir_fd, "wake"), 0);
    ck_code(wake_open(dir_fd, false, 0600, &wake), SPOOL_EACCESS);
    unlinkat(dir_fd, "wake", 0);
    ck_assert_int_eq(linkat(dir_fd, "other", dir_fd, "wake", 0), 0);
    ck_code(wake_open(dir_fd, false, 0600, &wake), SPOOL_EACCESS);
    unlinkat(dir_fd, "wake", 0);
    ck_assert_int_eq(mkdirat(dir_fd, "wake", 0700), 0);
    ck_assert_int_ne(wake_open(dir_fd, false, 0600, &wake), SPOOL_OK);
    ck_assert_ptr_null(wake);
}
END_TEST

START_TEST(futex_deadlines)
{
    _Atomic uint32_t word = 7;
    ck_assert_int_eq(futex_wait_until(&word, 8, DEADLINE_NEVER), 0);
    ck_assert_int_eq(futex_wait_until(&word, 7, 0), ETIMEDOUT);
    uint64_t begin = mono_ns();
    ck_assert_int_eq(futex_wait_until(&word, 7, begin + 10 * NS_PER_MS), ETIMEDOUT);
    ck_assert_uint_ge(mono_ns() - begin, 10 * NS_PER_MS);
    futex_bump(&word);
    ck_assert_uint_eq(word, 8);
    word = UINT32_MAX;
    futex_bump(&word);
    ck_assert_uint_eq(word, 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("wake");
    TCase *t = tcase_create("wake");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, bump_moves_the_words);
    tcase_add_loop_test(t, wakes_another_process, 0, 2);
    tcase_add_test(t, read_only);
    tcase_add_test(t, odd_files);
    tcase_add_test(t, futex_deadlines);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
