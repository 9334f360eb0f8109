/* check_main.h - what every unit test program shares: main(), a directory of its own, and checks that print both values. */
#ifndef CHECK_MAIN_H
#define CHECK_MAIN_H

#include <check.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../lib/base/error.h"
#include "memory.h"

/* Fails with the code's name and the message when `call` does not return SPOOL_OK. */
#define ck_ok(call)                                                                                                    \
    do {                                                                                                               \
        int code_ = (call);                                                                                            \
        ck_assert_msg(code_ == SPOOL_OK, "%s: %s (%s)", #call, spool_error_name(code_), spool_last_error());           \
    } while (0)

/* Fails when `call` does not return `want`. */
#define ck_code(call, want)                                                                                            \
    do {                                                                                                               \
        int code_ = (call), want_ = (want);                                                                            \
        ck_assert_msg(code_ == want_, "%s: %s instead of %s (%s)", #call, spool_error_name(code_),                     \
                      spool_error_name(want_), spool_last_error());                                                    \
    } while (0)

static inline int test_remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

/* Removes a directory tree. */
static inline void test_rmdir(const char *path)
{
    nftw(path, test_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* May a test fork beside running threads? The sanitizers' allocators are not made for that (the child may hang in
 * malloc()), and valgrind takes what the parent's threads held for leaks of the child: left to the plain build. */
static inline int test_can_fork(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return 0;
#else
    return !getenv("VALGRIND");
#endif
}
#define tcase_add_forking_test(tcase, test)                                                                            \
    do {                                                                                                               \
        if (test_can_fork())                                                                                           \
            tcase_add_test(tcase, test);                                                                               \
        else                                                                                                           \
            printf("skipped: %s: forks beside threads\n", #test);                                                      \
    } while (0)

/* A fresh directory under $TMPDIR or /tmp; release with test_rmdir() and free(). */
static inline char *test_dir(void)
{
    const char *base = getenv("TMPDIR");
    char *path = NULL;
    if (asprintf(&path, "%s/spool-test-XXXXXX", base ? base : "/tmp") < 0 || !mkdtemp(path))
        ck_abort_msg("mkdtemp: %s", strerror(errno));
    return path;
}

/* For test_dir() of a suite with many flushes, of which none matters. */
static inline void test_in_memory(void)
{
    setenv("TMPDIR", memory_dir(), 0);
}

/* The seed of a randomised test: $SEED, or `fallback`; printed so that a failure can be repeated. */
static inline unsigned long test_seed(unsigned long fallback)
{
    const char *text = getenv("SEED");
    unsigned long seed = text ? strtoul(text, NULL, 0) : fallback;
    printf("seed %lu\n", seed);
    return seed;
}

/* Of a randomised test: under valgrind, which looks at memory and is slow, a tenth. */
static inline int test_rounds(int n)
{
    return getenv("VALGRIND") ? (n + 9) / 10 : n;
}

/* A time limit is for what hangs. A loaded machine under a sanitizer is slow, and Check's own 4 s are short. */
#define CHECK_MAIN(suite)                                                                                              \
    int main(void)                                                                                                     \
    {                                                                                                                  \
        setenv("CK_DEFAULT_TIMEOUT", "60", 0);                                                                         \
        setenv("CK_TIMEOUT_MULTIPLIER", "3", 0);                                                                       \
        SRunner *runner = srunner_create(suite());                                                                     \
        srunner_run_all(runner, CK_ENV);                                                                               \
        int failed = srunner_ntests_failed(runner);                                                                    \
        printf("RESULT %d %d\n", srunner_ntests_run(runner) - failed, failed);                                         \
        srunner_free(runner);                                                                                          \
        return failed ? 1 : 0;                                                                                         \
    }

#endif
