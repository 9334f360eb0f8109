/* test_public_ops.c - operations of an open spool: options, stopping and closing with it, fork, reading only. */
#include <sys/wait.h>

#include "ops_fixture.h"
#include "scratch_fixture.h"

static struct spool *open_spool(uint32_t flags)
{
    struct spool *spool = NULL;
    struct spool_options options =
        SPOOL_OPTIONS(.max_bytes = 64 << 20, .segment_bytes = 1 << 20, .journal_bytes = 256 << 10, .flags = flags,
                      .on_notice = note_told, .op_workers = 2);
    ck_ok(spool_open(path, &options, &spool));
    return spool;
}

static int result_of(struct probe *probe)
{
    int result = -12345;
    ck_ok(spool_op_wait(probe->op, 60000, &result));
    spool_op_free(probe->op);
    return result;
}

START_TEST(an_operation_runs_without_delivery)
{
    struct spool *spool = open_spool(0);
    struct probe probe = {.gate = true, .answer = 6};
    ck_ok(spool_op_set_capacity(spool, "gpu", 2));
    ck_ok(spool_op_submit(spool, &PROBE_OPTIONS(&probe, NEEDS(SHARE("gpu", 2))), &probe.op));
    ck_assert_int_eq(result_of(&probe), 6);
    ck_code(spool_op_submit(spool, &PROBE_OPTIONS(&probe, NEEDS(SHARE("gpu", 3))), &probe.op), SPOOL_EINVAL);
    ck_ok(spool_op_set_capacity(spool, "gpu", 0)); /* no limit again */
    ck_ok(spool_op_submit(spool, &PROBE_OPTIONS(&probe, NEEDS(SHARE("gpu", 3))), &probe.op));
    ck_assert_int_eq(result_of(&probe), 6);
    ck_ok(spool_close(spool));
}
END_TEST

START_TEST(options_of_other_sizes_and_handles_of_no_use_are_refused)
{
    struct spool *spool = open_spool(0), *none = NULL;
    struct probe probe = {.gate = true};
    struct {
        struct spool_op_options known;
        uint64_t unknown;
    } longer = {.known = PROBE_OPTIONS(&probe), .unknown = 1};
    longer.known.size = sizeof longer;
    ck_code(spool_op_submit(spool, &longer.known, NULL), SPOOL_EOPTION);
    longer.unknown = 0; /* of a later version, and nothing of it is used */
    ck_ok(spool_op_submit(spool, &longer.known, &probe.op));
    ck_assert_int_eq(result_of(&probe), 0);
    struct spool_op_options older = PROBE_OPTIONS(&probe);
    older.size = offsetof(struct spool_op_options, deadline_ms);
    older.deadline_ms = 1; /* not part of it */
    ck_ok(spool_op_submit(spool, &older, &probe.op));
    ck_assert_int_eq(result_of(&probe), 0);
    ck_code(spool_op_submit(spool, NULL, NULL), SPOOL_EINVAL);
    ck_code(spool_op_submit(NULL, &older, NULL), SPOOL_EINVAL);
    ck_code(spool_op_set_capacity(NULL, "x", 1), SPOOL_EINVAL);
    ck_code(spool_op_each(spool, NULL, NULL), SPOOL_EINVAL);
    ck_code(spool_open(path, &SPOOL_OPTIONS(.op_workers = 65), &none), SPOOL_EOPTION);
    ck_ok(spool_close(spool));
    spool = open_spool(SPOOL_READ_ONLY);
    ck_code(spool_op_submit(spool, &PROBE_OPTIONS(&probe), NULL), SPOOL_EREADONLY);
    ck_ok(spool_close(spool));
}
END_TEST

/* What an agent does: it works, and reports. */
static int enqueue_inside(struct spool_op *op, void *user)
{
    struct probe *probe = user;
    struct spool *spool = (struct spool *)probe->other;
    struct spool_event event = SPOOL_EVENT(.type = "reflection", .body = "{}", .body_size = 2);
    (void)op;
    probe->code = spool_enqueue(spool, &event, NULL);
    bool refused = spool_stop(spool, 100) == SPOOL_EDEADLK && spool_close(spool) == SPOOL_EDEADLK &&
                   spool_drain(spool, 100) == SPOOL_EDEADLK;
    return refused ? 0 : 1;
}

START_TEST(one_may_enqueue_but_not_stop_drain_or_close)
{
    struct spool *spool = open_spool(0);
    struct probe probe = {.other = (void *)spool};
    struct spool_op_options options = PROBE_OPTIONS(&probe);
    options.run = enqueue_inside;
    ck_ok(spool_op_submit(spool, &options, &probe.op));
    ck_assert_int_eq(result_of(&probe), 0);
    ck_ok(probe.code);
    struct spool_stats stats = SPOOL_STATS();
    ck_ok(spool_stats(spool, &stats));
    ck_assert_uint_eq(stats.enqueued_events, 1);
    ck_ok(spool_close(spool));
}
END_TEST

START_TEST(stop_ends_them_and_start_takes_new_ones)
{
    struct spool *spool = open_spool(0);
    struct probe runs = {.answer = 1}, waits = {0}, after = {.gate = true};
    ck_ok(spool_start(spool));
    ck_ok(spool_op_submit(spool, &PROBE_OPTIONS(&runs, NEEDS(ALL("x"))), &runs.op));
    ck_ok(spool_op_submit(spool, &PROBE_OPTIONS(&waits, NEEDS(ALL("x"))), &waits.op));
    ck_until(runs.runs == 1);
    ck_ok(spool_stop(spool, 4000));
    ck_assert_int_eq(result_of(&runs), SPOOL_ESTOPPED);
    ck_assert_int_eq(result_of(&waits), SPOOL_ESTOPPED);
    ck_code(spool_op_submit(spool, &PROBE_OPTIONS(&after), &after.op), SPOOL_ESTOPPED);
    ck_ok(spool_start(spool));
    ck_ok(spool_op_submit(spool, &PROBE_OPTIONS(&after), &after.op));
    ck_assert_int_eq(result_of(&after), 0);
    ck_ok(spool_close(spool));
}
END_TEST

/* The handle is gone, but what the operation uses is not; whoever opens the directory goes on with it. */
START_TEST(one_that_hangs_is_named_by_close)
{
    struct spool *spool = open_spool(0);
    struct probe deaf = {.deaf = true}, later = {.gate = true};
    ck_ok(spool_op_submit(spool, &PROBE_OPTIONS(&deaf, .name = "deaf"), &deaf.op));
    ck_until(deaf.runs == 1);
    ck_code(spool_stop(spool, 100), SPOOL_ETIMEOUT);
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "operation 1 \"deaf\""));
    ck_code(spool_close(spool), SPOOL_ETIMEOUT);
    ck_code(spool_op_wait(deaf.op, 1000, NULL), SPOOL_ESTOPPED);
    spool = open_spool(0);
    ck_ok(spool_start(spool));
    ck_ok(spool_op_submit(spool, &PROBE_OPTIONS(&later), &later.op));
    ck_assert_int_eq(result_of(&later), 0);
    deaf.gate = true;
    ck_until(deaf.dones == 1);
    spool_op_free(deaf.op);
    ck_ok(spool_close(spool));
}
END_TEST

START_TEST(a_child_answers_eforked_and_frees_what_it_inherited)
{
    struct spool *spool = open_spool(0);
    struct probe runs = {0}, waits = {.gate = true};
    ck_ok(spool_op_submit(spool, &PROBE_OPTIONS(&runs, NEEDS(ALL("x"))), &runs.op));
    ck_ok(spool_op_submit(spool, &PROBE_OPTIONS(&waits, NEEDS(ALL("x"))), &waits.op));
    ck_until(runs.runs == 1);
    pid_t child = fork();
    if (child == 0) {
        alarm(60);
        int bad = spool_op_submit(spool, &PROBE_OPTIONS(&waits), NULL) != SPOOL_EFORKED;
        bad |= (spool_op_wait(runs.op, 1000, NULL) != SPOOL_EFORKED) << 1;
        bad |= (spool_op_cancel(waits.op) != SPOOL_EFORKED) << 2;
        bad |= (spool_op_set_capacity(spool, "x", 1) != SPOOL_EFORKED) << 3;
        bad |= (spool_op_each(spool, NULL, NULL) != SPOOL_EFORKED) << 4;
        spool_op_free(waits.op);
        bad |= (spool_close(spool) != SPOOL_OK) << 5;
        spool_op_free(runs.op);
        struct spool *mine = open_spool(0);
        struct probe probe = {.gate = true};
        bad |= (spool_op_submit(mine, &PROBE_OPTIONS(&probe), &probe.op) != SPOOL_OK) << 6;
        bad |= (spool_op_wait(probe.op, 60000, NULL) != SPOOL_OK || spool_close(mine) != SPOOL_OK) << 7;
        _exit(bad);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    runs.gate = true;
    ck_assert_int_eq(result_of(&runs) + result_of(&waits), 0);
    ck_ok(spool_close(spool));
}
END_TEST

/* Closed while others wait: they hear of it, and none of it is left. */
static void *await(void *user)
{
    struct probe *probe = user;
    int result = 0;
    probe->code = spool_op_wait(probe->op, 600000, &result);
    probe->done_result = result;
    return NULL;
}

START_TEST(close_wakes_those_who_wait)
{
    struct spool *spool = open_spool(0);
    struct probe runs = {.answer = 1}, waits = {0};
    pthread_t threads[2];
    ck_ok(spool_op_submit(spool, &PROBE_OPTIONS(&runs, NEEDS(ALL("x"))), &runs.op));
    ck_ok(spool_op_submit(spool, &PROBE_OPTIONS(&waits, NEEDS(ALL("x"))), &waits.op));
    ck_until(runs.runs == 1);
    ck_assert_int_eq(pthread_create(&threads[0], NULL, await, &runs), 0);
    ck_assert_int_eq(pthread_create(&threads[1], NULL, await, &waits), 0);
    ck_ok(spool_close(spool));
    for (size_t i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    ck_ok(runs.code);
    ck_ok(waits.code);
    ck_assert_int_eq(runs.done_result, SPOOL_ESTOPPED);
    ck_assert_int_eq(waits.done_result, SPOOL_ESTOPPED);
    spool_op_free(runs.op);
    spool_op_free(waits.op);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("public_ops");
    TCase *t = tcase_create("public_ops");
    tcase_add_checked_fixture(t, scratch_begin, scratch_end);
    tcase_set_timeout(t, 300);
    tcase_add_test(t, an_operation_runs_without_delivery);
    tcase_add_test(t, options_of_other_sizes_and_handles_of_no_use_are_refused);
    tcase_add_test(t, one_may_enqueue_but_not_stop_drain_or_close);
    tcase_add_test(t, stop_ends_them_and_start_takes_new_ones);
    tcase_add_test(t, one_that_hangs_is_named_by_close);
    tcase_add_forking_test(t, a_child_answers_eforked_and_frees_what_it_inherited);
    tcase_add_test(t, close_wakes_those_who_wait);
    suite_add_tcase(s, t);
    return s;
}
CHECK_MAIN(suite)
