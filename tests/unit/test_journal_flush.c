/* test_journal_flush.c - who is told that his record is power-safe, and when: one thread, many, a disk that fails or
 * hangs. */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "../../lib/base/bytes.h"
#include "../../lib/base/sync.h"
#include "../../spool/journal.h"
#include "../../spool/wake.h"
#include "../check_main.h"

enum { RING = 64 << 10 };

static char *path;
static int dir_fd;

static void set_up(void)
{
    path = test_dir();
    dir_fd = open(path, O_RDONLY | O_DIRECTORY);
    ck_assert_int_ge(dir_fd, 0);
    journal_fdatasync = NULL;
}

static void tear_down(void)
{
    close(dir_fd);
    test_rmdir(path);
    free(path);
}

static struct journal *create(void)
{
    struct journal *journal;
    ck_ok(journal_create(dir_fd, RING, 0600, false, &journal));
    return journal;
}

/* A payload that tells its number and size. */
static void fill(uint8_t *payload, size_t size, uint64_t number)
{
    for (size_t i = 0; i < size; i += 8)
        put_u64(payload + i, number * 0x9e3779b97f4a7c15u + i);
}

static uint64_t append(struct journal *journal, size_t size, uint64_t number)
{
    uint64_t end = 0;
    uint8_t *payload = journal_reserve(journal, size);
    ck_assert_ptr_nonnull(payload);
    fill(payload, size, number);
    ck_ok(journal_publish(journal, &end));
    ck_assert_uint_eq(end, journal_head(journal));
    return end;
}

static atomic_int flushes;
static int count_flush(int fd)
{
    (void)fd;
    atomic_fetch_add(&flushes, 1);
    return 0;
}
static int fail_flush(int fd)
{
    (void)fd;
    atomic_fetch_add(&flushes, 1);
    errno = EIO;
    return -1;
}

START_TEST(flush_covers_what_was_before)
{
    struct journal *journal = create();
    journal_fdatasync = count_flush;
    flushes = 0;
    uint64_t first = append(journal, 80, 0), second = append(journal, 80, 1);
    ck_assert_uint_eq(journal_flushed(journal), 0);
    ck_code(journal_flush(journal, first, 0), SPOOL_ETIMEOUT);
    ck_ok(journal_flush(journal, first, DEADLINE_NEVER));
    ck_assert_uint_eq(journal_flushed(journal), second);
    ck_ok(journal_flush(journal, second, 0));
    ck_assert_int_eq(flushes, 1);
    journal_set_applied(journal, append(journal, 80, 2));
    ck_ok(journal_flush(journal, journal_head(journal), 0));
    ck_assert_int_eq(flushes, 1);
    journal_close(journal);
}
END_TEST

START_TEST(failed_flush_is_never_repeated)
{
    struct journal *journal = create();
    journal_fdatasync = fail_flush;
    flushes = 0;
    uint64_t end = append(journal, 80, 0);
    ck_assert(!journal_is_failed(journal));
    ck_code(journal_flush(journal, end, DEADLINE_NEVER), EIO);
    ck_assert(journal_is_failed(journal));
    journal_fdatasync = count_flush;
    ck_code(journal_flush(journal, end, DEADLINE_NEVER), EIO);
    ck_assert_int_eq(flushes, 1);
    ck_assert_uint_eq(journal_flushed(journal), 0);
    journal_set_applied(journal, end);
    ck_ok(journal_flush(journal, end, DEADLINE_NEVER));
    journal_close(journal);
}
END_TEST

struct producers {
    struct journal *journal;
    pthread_mutex_t mutex;
    atomic_int failed;
    int events;
};

/* Also checks that nobody is told "safe" before a flush that began after the append. */
static _Atomic uint64_t covered;
static struct journal *watched;
static int covering_flush(int fd)
{
    uint64_t head = journal_head(watched);
    _Atomic uint32_t word = 0;
    futex_wait_until(&word, 0,
                     deadline_in_ms(1)); /* where a flush is nothing, as on tmpfs, nobody would come meanwhile */
    int rc = fdatasync(fd);
    atomic_fetch_add(&flushes, 1);
    atomic_store(&covered, head);
    return rc;
}

static void *produce(void *arg)
{
    struct producers *producers = arg;
    for (int i = 0; i < producers->events; i++) {
        pthread_mutex_lock(&producers->mutex);
        uint64_t end = 0;
        uint8_t *payload = journal_reserve(producers->journal, 64);
        if (payload)
            fill(payload, 64, 1);
        int code = payload ? journal_publish(producers->journal, &end) : ENOSPC;
        pthread_mutex_unlock(&producers->mutex);
        if (!code)
            code = journal_flush(producers->journal, end, deadline_in_ms(60000));
        if (code || (journal_fdatasync == covering_flush && atomic_load(&covered) < end))
            atomic_fetch_add(&producers->failed, 1);
    }
    return NULL;
}

static int run_producers(struct journal *journal, int threads, int events)
{
    struct producers producers = {.journal = journal, .events = events};
    pthread_t ids[64];
    pthread_mutex_init(&producers.mutex, NULL);
    for (int i = 0; i < threads; i++)
        ck_assert_int_eq(pthread_create(&ids[i], NULL, produce, &producers), 0);
    for (int i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    pthread_mutex_destroy(&producers.mutex);
    return producers.failed;
}

START_TEST(threads_share_flushes)
{
    struct journal *journal;
    ck_ok(journal_create(dir_fd, 1 << 20, 0600, false, &journal));
    watched = journal;
    journal_fdatasync = covering_flush;
    flushes = 0;
    covered = 0;
    ck_assert_int_eq(run_producers(journal, 32, 60), 0);
    ck_assert_int_lt(flushes, 32 * 60);
    ck_assert_uint_eq(journal_flushed(journal), journal_head(journal));
    journal_close(journal);
}
END_TEST

/* A failure among many who wait: everybody hears of it who was not safe before. */
static int fail_in_a_crowd(int fd)
{
    int rc = fdatasync(fd); /* takes its time, so that others come meanwhile */
    if (atomic_fetch_add(&flushes, 1) < 100)
        return rc;
    errno = EIO;
    return -1;
}

START_TEST(a_crowd_hears_of_a_failure)
{
    struct journal *journal;
    ck_ok(journal_create(dir_fd, 4 << 20, 0600, false, &journal));
    journal_fdatasync = fail_in_a_crowd;
    flushes = 0;
    int failed = run_producers(journal, 64, 400);
    ck_assert_int_eq(flushes, 101);
    ck_assert(journal_is_failed(journal));
    ck_assert_int_gt(failed, 0);
    ck_assert_int_lt(failed, 64 * 400);
    journal_close(journal);
}
END_TEST

/* Every waiter hears of the failure; none sleeps on. */
START_TEST(threads_share_a_failure)
{
    struct journal *journal = create();
    journal_fdatasync = fail_flush;
    ck_assert_int_eq(run_producers(journal, 16, 10), 160);
    journal_close(journal);
}
END_TEST

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static atomic_int at_gate;
static int gated_flush(int fd)
{
    (void)fd;
    atomic_store(&at_gate, 1);
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
    return 0;
}

static void *flush_head(void *arg)
{
    struct journal *journal = arg;
    return (void *)(intptr_t)journal_flush(journal, journal_head(journal), DEADLINE_NEVER);
}

/* While a flush hangs: a waiter leaves at its deadline, and one whose record is applied meanwhile goes at once. */
START_TEST(hanging_flush)
{
    struct journal *journal = create();
    pthread_t leader, waiter;
    void *code;
    journal_fdatasync = gated_flush;
    at_gate = 0;
    append(journal, 80, 0);
    pthread_mutex_lock(&gate);
    pthread_create(&leader, NULL, flush_head, journal);
    while (!at_gate)
        sched_yield();
    uint64_t end = append(journal, 80, 1);
    ck_code(journal_flush(journal, end, deadline_in_ms(20)), SPOOL_ETIMEOUT);
    pthread_create(&waiter, NULL, flush_head, journal);
    journal_set_applied(journal, end);
    pthread_join(waiter, &code);
    ck_assert_ptr_null(code);
    pthread_mutex_unlock(&gate);
    pthread_join(leader, &code);
    ck_assert_ptr_null(code);
    journal_close(journal);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("journal_flush");
    TCase *t = tcase_create("journal_flush");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, flush_covers_what_was_before);
    tcase_add_test(t, failed_flush_is_never_repeated);
    tcase_add_test(t, threads_share_flushes);
    tcase_add_test(t, a_crowd_hears_of_a_failure);
    tcase_add_test(t, threads_share_a_failure);
    tcase_add_test(t, hanging_flush);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
