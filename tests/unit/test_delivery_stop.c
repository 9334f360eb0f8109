/* test_delivery_stop.c - stopping by the deadline whatever a sink does, starting again, dropping. */
#include "fake_sink.h"

static struct rig *busy(bool deaf)
{
    struct rig *rig = rig_new();
    rig->fake->block = true;
    rig->fake->deaf = deaf;
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 10, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS(.batch_events_max = 5));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_counter(rig, &rig->fake->batches) == 1);
    return rig;
}

START_TEST(stop_is_idempotent_and_start_goes_on)
{
    struct rig *rig = rig_new();
    rig_add(rig, SPOOL_SINK_OPTIONS());
    ck_ok(delivery_stop(rig->delivery, 0));
    ck_assert_uint_eq(rig_status(rig).state, SPOOL_SINK_STOPPED);
    for (unsigned round = 0; round < 5; round++) {
        fake_commit(rig->store, SPOOL_MEDIUM, NULL, round * 10, 10, 0, real_ns());
        ck_ok(delivery_start(rig->delivery));
        ck_ok(delivery_start(rig->delivery));
        ck_assert(delivery_is_running(rig->delivery));
        rig_until(rig_seen(rig) == (round + 1) * 10);
        ck_ok(delivery_stop(rig->delivery, deadline_in_ms(60000)));
        ck_ok(delivery_stop(rig->delivery, deadline_in_ms(60000)));
        ck_assert(!delivery_is_running(rig->delivery));
        ck_assert_uint_eq(rig_stored(rig).delivered, (round + 1) * 10);
        ck_assert(!rig->store->sinks[0].elected);
    }
    rig_free(rig);
}
END_TEST

START_TEST(running_batches_are_cancelled_at_half_time)
{
    struct rig *rig = busy(false);
    ck_ok(delivery_stop(rig->delivery, deadline_in_ms(4000)));
    ck_assert_uint_eq(rig->fake->cancels, 1);
    ck_assert_uint_eq(rig->fake->closes, 1);
    ck_assert_uint_eq(rig_stored(rig).delivered, 5);
    rig_free(rig);
}
END_TEST

START_TEST(overrun_is_cancelled)
{
    struct rig *rig = rig_new();
    rig->fake->block = true;
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 10, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS(.timeout_ms = 20));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_stored(rig).delivered == 10);
    ck_assert_uint_eq(rig->fake->cancels, 1);
    rig_free(rig);
}
END_TEST

START_TEST(hung_sink_is_named_and_its_late_answer_ignored)
{
    struct rig *rig = busy(true);
    uint64_t before = mono_ns();
    ck_code(delivery_stop(rig->delivery, deadline_in_ms(300)), SPOOL_ETIMEOUT);
    ck_assert_msg(mono_ns() - before < 5000 * NS_PER_MS, "stop did not return by its deadline");
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "sink s"));
    ck_assert_uint_eq(rig_noticed(rig, SPOOL_NOTICE_SINK_HUNG), 1);
    ck_assert_uint_eq(rig_status(rig).state, SPOOL_SINK_HUNG);
    ck_assert(rig->store->sinks[0].elected);
    ck_ok(delivery_start(rig->delivery));
    ck_assert_uint_eq(rig_status(rig).state, SPOOL_SINK_HUNG);
    ck_assert_uint_eq(rig_stored(rig).delivered, 0);
    fake_set_block(rig->fake, false);
    rig_until(rig_stored(rig).delivered == 10);
    ck_assert_uint_eq(rig_seen(rig), 15); /* the late five are delivered again */
    rig_free(rig);
}
END_TEST

START_TEST(hung_sink_outlives_the_delivery)
{
    struct rig *rig = busy(true);
    ck_code(delivery_stop(rig->delivery, deadline_in_ms(100)), SPOOL_ETIMEOUT);
    delivery_free(rig->delivery);
    fake_set_block(rig->fake, false);
    rig_until(rig_counter(rig, &rig->fake->closes) == 1);
    rig_delivery(rig);
    rig_free(rig);
}
END_TEST

START_TEST(hung_sink_releases_when_it_is_back)
{
    struct rig *rig = busy(true);
    ck_code(delivery_stop(rig->delivery, deadline_in_ms(100)), SPOOL_ETIMEOUT);
    fake_set_block(rig->fake, false);
    rig_until(rig_status(rig).state == SPOOL_SINK_STOPPED);
    ck_assert(!rig->store->sinks[0].elected);
    rig_free(rig);
}
END_TEST

/* Both workers of the pool hang in one sink; another sink goes on all the same. */
START_TEST(hung_sink_does_not_keep_the_pool)
{
    struct rig *rig = rig_new();
    rig->fake->block = rig->fake->deaf = true;
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 10, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS(.workers = 2, .batch_events_max = 5, .timeout_ms = 20));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_counter(rig, &rig->fake->batches) == 2);
    ck_ok(delivery_sink_add(rig->delivery, "other", delivery_builtin_sink("null"), NULL, NULL));
    struct delivery_sink_status other;
    rig_until(delivery_sink_status(rig->delivery, "other", &other) == SPOOL_OK && other.delivered == 10);
    fake_set_block(rig->fake, false);
    rig_until(rig_stored(rig).delivered == 10);
    rig_free(rig);
}
END_TEST

START_TEST(stop_cuts_backoff_short)
{
    struct rig *rig = rig_new();
    rig->fake->open_code = ECONNREFUSED;
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 10, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS(.retry_base_ms = 3600000, .retry_cap_ms = 3600000));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_status(rig).state == SPOOL_SINK_DOWN);
    ck_ok(delivery_stop(rig->delivery, deadline_in_ms(60000)));
    rig_free(rig);
}
END_TEST

START_TEST(stop_tells_when_answers_were_not_stored)
{
    struct rig *rig = rig_new();
    rig->store->ack_error = ENOSPC;
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 10, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS());
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_seen(rig) == 10);
    ck_code(delivery_stop(rig->delivery, deadline_in_ms(500)), ENOSPC);
    ck_assert(!rig->store->sinks[0].elected);
    rig->store->ack_error = 0;
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_stored(rig).delivered == 10);
    ck_assert_uint_eq(rig_seen(rig), 20);
    rig_free(rig);
}
END_TEST

START_TEST(dropped_sink_is_closed_and_released)
{
    struct rig *rig = rig_new();
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 10, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS());
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_seen(rig) == 10);
    ck_ok(delivery_sink_drop(rig->delivery, "s", deadline_in_ms(60000)));
    ck_assert_uint_eq(rig->fake->closes, 1);
    ck_assert_uint_eq(rig_stored(rig).delivered, 10);
    struct delivery_sink_status status;
    ck_code(delivery_sink_status(rig->delivery, "s", &status), SPOOL_ENOTFOUND);
    ck_ok(delivery_sink_drop(rig->delivery, "s", deadline_in_ms(60000)));
    rig_add(rig, SPOOL_SINK_OPTIONS());
    rig_free(rig);
}
END_TEST

/* While the operator is told that a sink hangs, it comes back and is dropped: gone, with all that it pointed to. */
static void drop_at_notice(void *user, const struct spool_notice *notice)
{
    struct rig *rig = user;
    rig_notice(user, notice);
    if (notice->kind != SPOOL_NOTICE_SINK_HUNG || strcmp(notice->sink, "s") != 0)
        return;
    fake_set_block(rig->fake, false);
    delivery_sink_drop(rig->delivery, "s", deadline_in_ms(5000));
}

START_TEST(a_sink_that_is_dropped_while_it_is_told_to_hang)
{
    struct rig *rig = busy(true), *other = rig_new();
    other->fake->block = other->fake->deaf = true;
    struct spool_sink_options options = SPOOL_SINK_OPTIONS(.user = other->fake);
    ck_ok(delivery_sink_add(rig->delivery, "t", &fake_hooks, NULL, &options));
    rig_until(rig_counter(other, &other->fake->batches) == 1);
    rig->delivery->reporter.on_notice = drop_at_notice;
    ck_code(delivery_stop(rig->delivery, deadline_in_ms(300)), SPOOL_ETIMEOUT);
    ck_assert_uint_eq(rig_noticed(rig, SPOOL_NOTICE_SINK_HUNG), 2); /* the other one was reached, too */
    struct delivery_sink_status status;
    ck_code(delivery_sink_status(rig->delivery, "s", &status), SPOOL_ENOTFOUND);
    fake_set_block(other->fake, false);
    rig_until(delivery_sink_status(rig->delivery, "t", &status) == SPOOL_OK && status.state == SPOOL_SINK_STOPPED);
    rig_free(rig);
    rig_free(other);
}
END_TEST

/* Hangs until it is cancelled, and then refuses the whole. */
static int refuse_when_cancelled(struct fake *fake, struct spool_delivery *batch, size_t n)
{
    (void)batch;
    fake->block = true; /* the next half hangs, too */
    return n > 1 ? spool_sink_error(SPOOL_EREJECTED, "something is bad") : SPOOL_EUNAVAILABLE;
}

START_TEST(each_half_of_a_batch_has_its_timeout)
{
    struct rig *rig = rig_new();
    rig->fake->block = true;
    rig->fake->answer = refuse_when_cancelled;
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 8, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS(.timeout_ms = 20));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_counter(rig, &rig->fake->cancels) >= 4);
    rig_free(rig);
}
END_TEST

/* Once it is stopped the sink gets no other half. */
START_TEST(stop_ends_bisecting)
{
    struct rig *rig = rig_new();
    rig->fake->block = true;
    rig->fake->answer = refuse_when_cancelled;
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 8, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS(0));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_counter(rig, &rig->fake->batches) == 1);
    ck_ok(delivery_stop(rig->delivery, deadline_in_ms(4000)));
    ck_assert_uint_eq(rig->fake->batches, 1);
    ck_assert_uint_eq(rig_stored(rig).dead_rows + rig_stored(rig).retry_rows + rig_stored(rig).delivered, 0);
    rig_free(rig);
}
END_TEST

static uint32_t batches_ready(struct rig *rig, const char *name)
{
    pthread_mutex_lock(rig->delivery->lock);
    uint32_t n = sink_find(rig->delivery, name)->ready_count;
    pthread_mutex_unlock(rig->delivery->lock);
    return n;
}

/* A batch that no worker had time for is not delivered after the next start, when another process serves the sink. */
START_TEST(stop_leaves_no_batch_behind)
{
    struct rig *rig = rig_new(), *other = rig_new();
    rig->fake->block = rig->fake->deaf = true;
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 10, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS(.workers = 2, .batch_events_max = 1));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_counter(rig, &rig->fake->batches) == 2); /* nobody is left */
    struct spool_sink_options options = SPOOL_SINK_OPTIONS(.user = other->fake);
    ck_ok(delivery_sink_add(rig->delivery, "t", &fake_hooks, NULL, &options));
    rig_until(batches_ready(rig, "t") > 0);
    ck_code(delivery_stop(rig->delivery, 0), SPOOL_ETIMEOUT);
    rig->store->elect_busy = true;
    ck_ok(delivery_start(rig->delivery));
    struct delivery_sink_status status;
    rig_until(delivery_sink_status(rig->delivery, "t", &status) == SPOOL_OK && status.state == SPOOL_SINK_ELSEWHERE);
    ck_assert_uint_eq(batches_ready(rig, "t"), 0);
    ck_assert_uint_eq(rig_counter(other, &other->fake->batches), 0);
    rig->store->elect_busy = false;
    fake_set_block(rig->fake, false);
    rig_until(rig_seen(other) == 10);
    rig_free(rig);
    rig_free(other);
}
END_TEST

/* Dropped says that nothing of it runs any more: also when delivery was stopped before. */
START_TEST(hung_sink_is_dropped_when_it_is_back)
{
    struct rig *rig = busy(true);
    ck_code(delivery_stop(rig->delivery, deadline_in_ms(100)), SPOOL_ETIMEOUT);
    ck_code(delivery_sink_drop(rig->delivery, "s", deadline_in_ms(50)), SPOOL_ETIMEOUT);
    ck_assert_uint_eq(rig_status(rig).state, SPOOL_SINK_HUNG);
    fake_set_block(rig->fake, false);
    rig_until(rig_counter(rig, &rig->fake->closes) == 1);
    ck_ok(delivery_sink_drop(rig->delivery, "s", deadline_in_ms(60000)));
    rig_add(rig, SPOOL_SINK_OPTIONS(0));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_stored(rig).delivered == 10);
    rig_free(rig);
}
END_TEST

/* The name is free again as soon as the sink is back, without a start in between. */
START_TEST(hung_sink_that_was_dropped_can_be_added_again)
{
    struct rig *rig = busy(true);
    ck_code(delivery_sink_drop(rig->delivery, "s", deadline_in_ms(50)), SPOOL_ETIMEOUT);
    ck_ok(delivery_stop(rig->delivery, deadline_in_ms(60000)));
    fake_set_block(rig->fake, false);
    rig_until(rig_status(rig).state == SPOOL_SINK_STOPPED);
    rig_add(rig, SPOOL_SINK_OPTIONS(0));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_stored(rig).delivered == 10);
    rig_free(rig);
}
END_TEST

static atomic_uint closed_wrongly;

/* What the thread has in its hands, by which a hook that waits for an operation would be judged: a closing, or nothing;
 * neither a batch that is over nor, in a worker that never had one, nonsense. */
static void note_and_close(void *state)
{
    const struct op_task *task = scheduler_current();
    closed_wrongly += task && batch_of(task)->kind != BATCH_CLOSE;
    fake_close(state);
}

/* Its hook is not called by whoever stops, and not forgotten either. */
START_TEST(a_stop_without_time_closes_later)
{
    struct rig *rig = rig_new();
    struct spool_sink hooks = fake_hooks;
    hooks.close = note_and_close;
    ck_ok(delivery_sink_add(rig->delivery, "s", &hooks, NULL, &SPOOL_SINK_OPTIONS(.user = rig->fake)));
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 10, 0, real_ns());
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_stored(rig).delivered == 10);
    fake_hold_close(rig->fake, true);
    ck_code(delivery_stop(rig->delivery, 0), SPOOL_ETIMEOUT);
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "sink s "));
    ck_assert(delivery_has_hung(rig->delivery));
    ck_assert(rig->store->sinks[0].elected);
    fake_hold_close(rig->fake, false);
    rig_until(!delivery_has_hung(rig->delivery));
    ck_assert_uint_eq(closed_wrongly, 0);
    ck_assert_uint_eq(rig->fake->closes, rig->fake->opens);
    ck_assert(!rig->store->sinks[0].elected);
    rig_free(rig);
}
END_TEST

/* One state of two hangs: the other one is closed as well when it is back. */
START_TEST(hung_sink_closes_its_other_states)
{
    struct rig *rig = rig_new();
    rig_add(rig, SPOOL_SINK_OPTIONS(.workers = 2, .batch_events_max = 5));
    fake_set_block(rig->fake, true);
    rig->fake->deaf = true;
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 10, 0, real_ns());
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_counter(rig, &rig->fake->batches) == 2);
    fake_set_block(rig->fake, false);
    rig_until(rig_stored(rig).delivered == 10);
    fake_set_block(rig->fake, true);
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 10, 5, 0, real_ns());
    delivery_wake(rig->delivery);
    rig_until(rig_counter(rig, &rig->fake->batches) == 3);
    ck_code(delivery_stop(rig->delivery, deadline_in_ms(50)), SPOOL_ETIMEOUT);
    fake_set_block(rig->fake, false);
    rig_until(!delivery_has_hung(rig->delivery));
    ck_assert_uint_eq(rig->fake->opens, 2);
    ck_assert_uint_eq(rig->fake->closes, 2);
    rig_free(rig);
}
END_TEST

static void *stop_from_library(void *arg)
{
    struct rig *rig = arg;
    ck_code(delivery_stop(rig->delivery, deadline_in_ms(1000)), SPOOL_EDEADLK);
    ck_code(delivery_sink_drop(rig->delivery, "s", deadline_in_ms(1000)), SPOOL_EDEADLK);
    return NULL;
}

START_TEST(stop_from_a_library_thread_is_refused)
{
    struct rig *rig = rig_new();
    pthread_t thread;
    ck_ok(thread_start(&thread, "test", stop_from_library, rig));
    pthread_join(thread, NULL);
    rig_free(rig);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("delivery_stop");
    TCase *tc = tcase_create("stop");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, stop_is_idempotent_and_start_goes_on);
    tcase_add_test(tc, running_batches_are_cancelled_at_half_time);
    tcase_add_test(tc, overrun_is_cancelled);
    tcase_add_test(tc, hung_sink_is_named_and_its_late_answer_ignored);
    tcase_add_test(tc, hung_sink_outlives_the_delivery);
    tcase_add_test(tc, hung_sink_releases_when_it_is_back);
    tcase_add_test(tc, hung_sink_does_not_keep_the_pool);
    tcase_add_test(tc, stop_cuts_backoff_short);
    tcase_add_test(tc, stop_tells_when_answers_were_not_stored);
    tcase_add_test(tc, dropped_sink_is_closed_and_released);
    tcase_add_test(tc, a_sink_that_is_dropped_while_it_is_told_to_hang);
    tcase_add_test(tc, each_half_of_a_batch_has_its_timeout);
    tcase_add_test(tc, stop_ends_bisecting);
    tcase_add_test(tc, stop_leaves_no_batch_behind);
    tcase_add_test(tc, hung_sink_is_dropped_when_it_is_back);
    tcase_add_test(tc, hung_sink_that_was_dropped_can_be_added_again);
    tcase_add_test(tc, a_stop_without_time_closes_later);
    tcase_add_test(tc, hung_sink_closes_its_other_states);
    tcase_add_test(tc, stop_from_a_library_thread_is_refused);
    suite_add_tcase(s, tc);
    return s;
}

CHECK_MAIN(suite)
