/* test_log_peers.c - several processes and threads on one log. */
#include <sys/wait.h>

#include "log_fixture.h"

static struct fixture f;

static void set_up(void)
{
    fixture_begin(&f);
}

static void tear_down(void)
{
    fixture_end(&f);
}

static uint64_t soon(void)
{
    return deadline_in_ms(10000);
}

/* A process of its own with its own handle on the same directory: commits and, now and then, deletes what it has seen.
 */
static void child(int which, int commits)
{
    struct fixture own = {0};
    snprintf(own.path, sizeof own.path, "%s", f.path);
    fixture_open(&own, 0);
    for (int i = 0; i < commits; i++) {
        struct log_run run = test_run(i % LANES, 50, 700, 1 + 50 * (uint64_t)i);
        struct log_position position = test_position((uint8_t)which, 50 * (uint64_t)(i + 1));
        ck_ok(log_commit(own.log, &run, 1, &position, 1, soon()));
        free((void *)run.events);
        uint64_t skip, seq = run.first_seq;
        struct store_block *block;
        ck_ok(log_read(own.log, run.lane, seq, soon(), &block, &skip));
        ck_assert_uint_eq(block->first_seq, seq);
        store_block_unref(block);
    }
    fixture_close(&own);
    exit(own.damages ? 3 : 0);
}

static void wait_for(pid_t pid)
{
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "child: status %x", status);
}

START_TEST(two_processes_commit_into_one_log)
{
    enum { COMMITS = 100 };
    fixture_close(&f);
    pid_t pids[2];
    for (int i = 0; i < 2; i++) {
        pids[i] = fork();
        if (pids[i] == 0)
            child(i + 1, COMMITS);
    }
    wait_for(pids[0]);
    wait_for(pids[1]);
    fixture_open(&f, 0);
    for (int lane = 0; lane < LANES; lane++) {
        uint64_t skipped;
        ck_assert_uint_eq(test_read_all(&f, lane, 0, &skipped), 2 * COMMITS / LANES * 50);
        ck_assert_uint_eq(skipped, 0);
        ck_assert_uint_eq(test_next(&f, lane), 2 * COMMITS / LANES * 50);
    }
    for (uint8_t which = 1; which <= 2; which++) {
        uint64_t applied;
        ck_ok(log_position(f.log, test_position(which, 0).uuid, soon(), &applied));
        ck_assert_uint_eq(applied, 50 * COMMITS);
    }
    struct spool_verify_report report = {0};
    ck_ok(log_verify(f.log, NULL, NULL, NULL, &report));
    ck_assert_uint_eq(report.events, 2 * COMMITS * 50);
}
END_TEST

/* This handle lags behind while another process rotates and deletes all that it knows. */
START_TEST(peer_that_rotates_and_deletes_is_followed)
{
    test_commit(&f, LANE_LOW, 10, 100, 1);
    ck_assert_uint_eq(test_next(&f, LANE_LOW), 10);
    pid_t pid = fork();
    if (pid == 0) {
        struct fixture own = {0};
        uint64_t first[LANES], next[LANES], deleted;
        struct spool_id none = {{0}};
        snprintf(own.path, sizeof own.path, "%s", f.path);
        fixture_open(&own, 0);
        for (uint64_t i = 0; i < 3; i++) {
            test_commit(&own, LANE_LOW, 10, 100, 100 + 10 * i);
            ck_ok(log_rotate(own.log, 1, soon()));
        }
        ck_ok(log_bounds(own.log, soon(), first, next));
        ck_ok(log_delete(own.log, next, &none, soon(), &deleted));
        fixture_close(&own);
        exit(deleted == 3 ? 0 : 1);
    }
    wait_for(pid);
    ck_assert_uint_eq(test_next(&f, LANE_LOW), 40);
    ck_assert_uint_eq(test_commit(&f, LANE_LOW, 10, 100, 1000), 40);
    ck_assert_uint_eq(test_read_all(&f, LANE_LOW, 0, NULL), 10);
    ck_assert_uint_eq(f.damages, 0);
}
END_TEST

static _Atomic bool readers_stop;

static void *read_on(void *arg)
{
    uint64_t seq = 0, *ret_events = arg;
    while (!readers_stop || seq < test_next(&f, LANE_LOW)) {
        struct store_block *block;
        uint64_t skip = 0;
        int code = log_read(f.log, LANE_LOW, seq, soon(), &block, &skip);
        if (code == SPOOL_ENOTFOUND)
            continue;
        if (code != SPOOL_OK || block->first_seq != seq)
            return "a wrong block";
        seq += block->count;
        *ret_events += block->count;
        store_block_unref(block);
    }
    return NULL;
}

START_TEST(threads_read_while_others_commit_and_rotate)
{
    enum { READERS = 3, COMMITS = 60 };
    pthread_t threads[READERS];
    uint64_t events[READERS] = {0};
    readers_stop = false;
    for (int i = 0; i < READERS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, read_on, &events[i]), 0);
    for (uint64_t i = 0; i < COMMITS; i++)
        test_commit(&f, LANE_LOW, 100, 1000, 1 + 100 * i);
    readers_stop = true;
    for (int i = 0; i < READERS; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        ck_assert_msg(!wrong, "%s", (char *)wrong);
        ck_assert_uint_eq(events[i], 100 * COMMITS);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("log_peers");
    TCase *c = tcase_create("log_peers");
    tcase_add_checked_fixture(c, set_up, tear_down);
    tcase_set_timeout(c, 60);
    tcase_add_test(c, two_processes_commit_into_one_log);
    tcase_add_test(c, peer_that_rotates_and_deletes_is_followed);
    tcase_add_test(c, threads_read_while_others_commit_and_rotate);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
