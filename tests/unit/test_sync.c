/* test_sync.c - deadlines, conditions, threads with blocked signals, forks; and reporting, which goes with them. */
#include "../check_main.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "../../lib/base/log.h"
#include "../../lib/base/sync.h"

START_TEST(test_clocks)
{
    uint64_t a = mono_ns(), b = mono_ns();
    ck_assert_uint_gt(a, 0);
    ck_assert_uint_ge(b, a);
    ck_assert_uint_gt(real_ns(), 1600000000ull * 1000000000ull);
}
END_TEST

START_TEST(test_deadlines)
{
    uint64_t before = mono_ns(), deadline = deadline_in_ms(1000), after = mono_ns();
    ck_assert_uint_ge(deadline, before + 1000 * NS_PER_MS);
    ck_assert_uint_le(deadline, after + 1000 * NS_PER_MS);
    ck_assert_uint_eq(deadline_in_ms(UINT64_MAX), DEADLINE_NEVER);
    ck_assert_uint_eq(deadline_in_ms(UINT64_MAX / NS_PER_MS), DEADLINE_NEVER);
    ck_assert_uint_lt(deadline_in_ms(UINT32_MAX), DEADLINE_NEVER);
}
END_TEST

struct shared {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool done;     /* lock: mutex */
    bool ours;     /* written before done */
    sigset_t mask; /* likewise */
    char name[16]; /* likewise */
};

START_TEST(test_a_passed_deadline_times_out)
{
    struct shared s = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    ck_ok(cond_init(&s.cond));
    pthread_mutex_lock(&s.mutex);
    ck_assert_int_eq(cond_wait_until(&s.cond, &s.mutex, 0), ETIMEDOUT);
    uint64_t deadline = deadline_in_ms(20);
    int rc = 0;
    while (rc == 0)
        rc = cond_wait_until(&s.cond, &s.mutex, deadline);
    ck_assert_int_eq(rc, ETIMEDOUT);
    ck_assert_uint_ge(mono_ns(), deadline);
    pthread_mutex_unlock(&s.mutex);
    pthread_cond_destroy(&s.cond);
}
END_TEST

static void *look_around(void *arg)
{
    struct shared *s = arg;
    pthread_mutex_lock(&s->mutex);
    s->ours = thread_is_ours();
    pthread_sigmask(SIG_SETMASK, NULL, &s->mask);
    pthread_getname_np(pthread_self(), s->name, sizeof s->name);
    s->done = true;
    pthread_cond_signal(&s->cond);
    pthread_mutex_unlock(&s->mutex);
    return s;
}

START_TEST(test_thread)
{
    struct shared s = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    sigset_t before, after;
    pthread_t thread;
    void *result;
    ck_ok(cond_init(&s.cond));
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    ck_ok(thread_start(&thread, "spool-a-long-name", look_around, &s));
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    pthread_mutex_lock(&s.mutex);
    while (!s.done)
        ck_assert_int_eq(cond_wait_until(&s.cond, &s.mutex, DEADLINE_NEVER), 0);
    pthread_mutex_unlock(&s.mutex);
    ck_assert_int_eq(pthread_join(thread, &result), 0);
    ck_assert_ptr_eq(result, &s);
    ck_assert(s.ours && !thread_is_ours());
    ck_assert_str_eq(s.name, "spool-a-long-na");
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGCHLD, SIGPIPE, SIGALRM};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        ck_assert(sigismember(&s.mask, signals[i]));
        ck_assert_int_eq(sigismember(&after, signals[i]), sigismember(&before, signals[i]));
    }
    pthread_cond_destroy(&s.cond);
}
END_TEST

START_TEST(test_fork_generation)
{
    ck_ok(fork_watch());
    ck_ok(fork_watch()); /* the second counts nothing twice */
    uint32_t before = fork_generation();
    int status;
    pid_t child = fork();
    if (child == 0)
        _exit(fork_generation() == before + 1 ? 0 : 1);
    ck_assert_int_gt(child, 0);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    ck_assert_uint_eq(fork_generation(), before);
}
END_TEST

/* ------------------------------------------------------------------------------------------------------ reporting */

struct heard {
    int logs, notices;
    enum spool_log_level level;
    char log[2048], reason[2048];
    struct spool_notice notice;
};

static void hear_log(void *user, enum spool_log_level level, const char *message)
{
    struct heard *h = user;
    h->logs++;
    h->level = level;
    snprintf(h->log, sizeof h->log, "%s", message);
}

static void hear_notice(void *user, const struct spool_notice *notice)
{
    struct heard *h = user;
    h->notices++;
    h->notice = *notice;
    snprintf(h->reason, sizeof h->reason, "%s", notice->reason);
}

START_TEST(test_report)
{
    struct heard h = {0};
    struct reporter r = {.log = hear_log, .log_user = &h};
    report(&r, SPOOL_LOG_INFO, "opened %s", "x");
    ck_assert_int_eq(h.logs, 1);
    ck_assert_int_eq(h.level, SPOOL_LOG_INFO);
    ck_assert_str_eq(h.log, "opened x");
    struct reporter silent = {0};
    report(&silent, SPOOL_LOG_INFO, "nobody listens");
    notify(&silent, SPOOL_NOTICE_DAMAGE, NULL, NULL, 0, "nobody listens");
    notify(NULL, SPOOL_NOTICE_DAMAGE, NULL, NULL, 0, "nobody listens");
}
END_TEST

START_TEST(test_notify)
{
    struct heard h = {0};
    struct spool_id id = {{1}};
    struct reporter r = {.log = hear_log, .log_user = &h, .on_notice = hear_notice, .notice_user = &h};
    notify(&r, SPOOL_NOTICE_DEAD_LETTER, "audit", &id, 3, "refused: %d", 400);
    ck_assert_int_eq(h.notices, 1);
    ck_assert_uint_eq(h.notice.size, sizeof(struct spool_notice));
    ck_assert_int_eq(h.notice.kind, SPOOL_NOTICE_DEAD_LETTER);
    ck_assert_str_eq(h.notice.sink, "audit");
    ck_assert_ptr_eq(h.notice.id, &id);
    ck_assert_uint_eq(h.notice.count, 3);
    ck_assert_str_eq(h.reason, "refused: 400");
    ck_assert_int_eq(h.logs, 1); /* it is logged as well */
    ck_assert_int_eq(h.level, SPOOL_LOG_WARNING);
    ck_assert_str_eq(h.log, "sink audit: refused: 400");
}
END_TEST

static bool file_size_pending(void)
{
    sigset_t pending;
    ck_assert_int_eq(sigpending(&pending), 0);
    return sigismember(&pending, SIGXFSZ) == 1;
}

/* A write beyond a limit of one byte; returns its errno. The signal ends the test unless it is held. */
static int write_too_much(void)
{
    struct rlimit old, one;
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
    one = (struct rlimit){.rlim_cur = 1, .rlim_max = old.rlim_max};
    int fd = open(".", O_TMPFILE | O_RDWR, 0600);
    FILE *file = fd < 0 ? tmpfile() : NULL; /* file systems without O_TMPFILE */
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &one), 0);
    ssize_t n = pwrite(file ? fileno(file) : fd, "two", 3, 1);
    int error = n < 0 ? errno : 0;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
    if (file)
        fclose(file);
    else
        close(fd);
    return error;
}

START_TEST(test_a_file_size_limit_raises_no_signal)
{
    struct file_size_signal outer, inner;
    file_size_signal_hold(&outer);
    file_size_signal_hold(&inner);
    ck_assert_int_eq(write_too_much(), EFBIG);
    ck_assert(file_size_pending());
    file_size_signal_release(&inner);
    ck_assert_int_eq(write_too_much(), EFBIG);
    errno = EFBIG;
    file_size_signal_release(&outer);
    ck_assert_int_eq(errno, EFBIG);
    ck_assert(!file_size_pending());
    sigset_t mask;
    ck_assert_int_eq(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
    ck_assert_int_eq(sigismember(&mask, SIGXFSZ), 0);
}
END_TEST

/* What the program itself had blocked and pending stays so. */
START_TEST(test_a_pending_signal_of_the_program_stays)
{
    struct file_size_signal signal;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGXFSZ);
    ck_assert_int_eq(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
    ck_assert_int_eq(raise(SIGXFSZ), 0);
    file_size_signal_hold(&signal);
    ck_assert_int_eq(write_too_much(), EFBIG);
    file_size_signal_release(&signal);
    ck_assert(file_size_pending());
    int taken;
    ck_assert_int_eq(sigwait(&set, &taken), 0);
    ck_assert_int_eq(pthread_sigmask(SIG_UNBLOCK, &set, NULL), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("sync");
    TCase *t = tcase_create("sync");
    tcase_add_test(t, test_clocks);
    tcase_add_test(t, test_deadlines);
    tcase_add_test(t, test_a_passed_deadline_times_out);
    tcase_add_test(t, test_thread);
    tcase_add_test(t, test_fork_generation);
    tcase_add_test(t, test_a_file_size_limit_raises_no_signal);
    tcase_add_test(t, test_a_pending_signal_of_the_program_stays);
    tcase_add_test(t, test_report);
    tcase_add_test(t, test_notify);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
