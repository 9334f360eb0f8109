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
        ck_ok(delivery_stop(rig->delivery, deadline_in_ms(5000)));
        ck_ok(delivery_stop(rig->delivery, deadline_in_ms(5000)));
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
    ck_ok(delivery_stop(rig->delivery, deadline_in_ms(1000)));
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
    ck_ok(delivery_sink_drop(rig->delivery, "s", deadline_in_ms(5000)));
    ck_assert_uint_eq(rig->fake->closes, 1);
    ck_assert_uint_eq(rig_stored(rig).delivered, 10);
    struct delivery_sink_status status;
    ck_code(delivery_sink_status(rig->delivery, "s", &status), SPOOL_ENOTFOUND);
    ck_ok(delivery_sink_drop(rig->delivery, "s", deadline_in_ms(5000)));
    rig_add(rig, SPOOL_SINK_OPTIONS());
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
    tcase_add_test(tc, stop_from_a_library_thread_is_refused);
    suite_add_tcase(s, tc);
    return s;
}

CHECK_MAIN(suite)
