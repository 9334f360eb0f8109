/* test_delivery_retry.c - when sinks fail: one event, the batch, or the sink as a whole. */
#include "fake_sink.h"

#define FAST .retry_base_ms = 1, .retry_cap_ms = 5

static struct rig *start(unsigned events, const char *agent, struct spool_sink_options options,
                         int (*answer)(struct fake *, struct spool_delivery *, size_t))
{
    struct rig *rig = rig_new();
    rig->fake->answer = answer;
    fake_commit(rig->store, SPOOL_MEDIUM, agent, 0, events, 0, real_ns());
    rig_add(rig, options);
    ck_ok(delivery_start(rig->delivery));
    return rig;
}

/* Number `arg` fails twice, the others are taken. */
static int fail_twice(struct fake *fake, struct spool_delivery *batch, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct spool_delivery *delivery = SPOOL_DELIVERY_AT(batch, i);
        if (fake_number(delivery) == fake->arg && delivery->attempt <= 2)
            spool_delivery_fail(delivery, SPOOL_RETRY, "not yet (%u)", delivery->attempt);
        else
            delivery->outcome = SPOOL_DELIVERED;
    }
    return SPOOL_OK;
}

START_TEST(one_event_is_tried_again_alone)
{
    struct rig *rig = start(100, NULL, SPOOL_SINK_OPTIONS(FAST), fail_twice);
    rig_until(rig_stored(rig).delivered == 100 && rig_stored(rig).retry_rows == 0);
    ck_assert_uint_eq(rig->fake->seen[99], 0);
    ck_assert_uint_eq(rig->fake->attempts[99], 3);
    ck_assert_uint_eq(rig_stored(rig).dead_rows, 0);
    rig_free(rig);
}
END_TEST

static int fail_always(struct fake *fake, struct spool_delivery *batch, size_t n)
{
    (void)fake;
    for (size_t i = 0; i < n; i++)
        spool_delivery_fail(SPOOL_DELIVERY_AT(batch, i), SPOOL_RETRY, "no luck");
    return SPOOL_OK;
}

START_TEST(attempts_end_in_a_dead_letter)
{
    struct rig *rig = start(5, NULL, SPOOL_SINK_OPTIONS(FAST, .max_attempts = 3), fail_always);
    rig_until(rig_stored(rig).dead_rows == 5);
    const struct store_retry *row = &rig->store->sinks[0].dead[0].row;
    ck_assert_uint_eq(row->attempts, 3);
    ck_assert_ptr_nonnull(strstr(row->reason, "max_attempts"));
    ck_assert_ptr_nonnull(strstr(row->reason, "no luck"));
    ck_assert_uint_eq(rig_noticed(rig, SPOOL_NOTICE_DEAD_LETTER), 5);
    ck_assert_uint_eq(rig_stored(rig).delivered, 0);
    ck_assert_uint_eq(rig_stored(rig).retry_rows, 0);
    rig_free(rig);
}
END_TEST

static int touch_nothing(struct fake *fake, struct spool_delivery *batch, size_t n)
{
    (void)fake, (void)batch, (void)n;
    return SPOOL_OK;
}

START_TEST(forgotten_events_are_tried_again)
{
    struct rig *rig = start(3, NULL, SPOOL_SINK_OPTIONS(FAST, .max_attempts = 2), touch_nothing);
    rig_until(rig_stored(rig).dead_rows == 3);
    rig_free(rig);
}
END_TEST

START_TEST(attempts_survive_a_restart)
{
    struct rig *rig =
        start(1, NULL, SPOOL_SINK_OPTIONS(.retry_base_ms = 3600000, .retry_cap_ms = 3600000), fail_always);
    rig_until(rig_stored(rig).retry_rows == 1);
    ck_ok(delivery_stop(rig->delivery, deadline_in_ms(60000)));
    delivery_free(rig->delivery);
    rig->store->sinks[0].retries[0].row.due_ns = 0;
    rig->fake->answer = NULL;
    rig_delivery(rig);
    rig_add(rig, SPOOL_SINK_OPTIONS());
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_stored(rig).delivered == 1 && rig_stored(rig).retry_rows == 0);
    ck_assert_uint_eq(rig->fake->attempts[0], 2);
    rig_free(rig);
}
END_TEST

#define HOUR_NS (3600000 * NS_PER_MS)

/* Number 0 fails once: 50 ms later, during which the clock goes back, it is tried again nevertheless. */
START_TEST(a_clock_set_back_delays_no_retry)
{
    struct rig *rig = start(5, "a", SPOOL_SINK_OPTIONS(.order = SPOOL_ORDER_AGENT, .retry_base_ms = 50), fail_twice);
    rig_until(rig_stored(rig).retry_rows > 0);
    rig->wall_step_ns = -(int64_t)(1000 * 24 * HOUR_NS);
    rig_until(rig_stored(rig).delivered == 5 && rig_stored(rig).retry_rows == 0);
    rig_free(rig);
}
END_TEST

/* One event that fails, stored with a retry in an hour; then another process whose clock is `step_ns` off, which has
 * seen the id if `knows`. */
static struct rig *start_beside_a_row(int64_t step_ns, bool knows)
{
    struct rig *rig =
        start(1, NULL, SPOOL_SINK_OPTIONS(.retry_base_ms = 3600000, .retry_cap_ms = 3600000), fail_always);
    rig_until(rig_stored(rig).retry_rows == 1);
    ck_ok(delivery_stop(rig->delivery, deadline_in_ms(60000)));
    delivery_free(rig->delivery);
    struct store_retry *row = &rig->store->sinks[0].retries[0].row;
    row->due_ns = real_ns() + HOUR_NS;
    rig->wall_step_ns = step_ns;
    hlc_free(rig->clock);
    ck_ok(hlc_new(&(struct hlc_options){.physical = rig_wall_ns, .physical_user = rig}, &rig->clock));
    if (knows)
        hlc_raise(rig->clock, &row->id);
    rig->fake->answer = NULL;
    rig_delivery(rig);
    rig_add(rig, SPOOL_SINK_OPTIONS());
    ck_ok(delivery_start(rig->delivery));
    return rig;
}

START_TEST(a_stored_retry_waits_its_time)
{
    struct rig *rig = start_beside_a_row(0, true);
    for (int i = 0; i < 20 && rig_stored(rig).delivered == 0; i++)
        usleep(10000);
    ck_assert_uint_eq(rig_stored(rig).delivered, 0);
    rig_free(rig);
}
END_TEST

START_TEST(a_stored_retry_does_not_wait_for_a_clock_that_was_set_back)
{
    struct rig *rig = start_beside_a_row(-(int64_t)HOUR_NS, true);
    rig_until(rig_stored(rig).delivered == 1);
    rig_free(rig);
    rig = start_beside_a_row(-(int64_t)(1000 * 24 * HOUR_NS), false); /* a peer that never saw that id */
    rig_until(rig_stored(rig).delivered == 1);
    rig_free(rig);
}
END_TEST

/* A crash between the parts of a large acknowledgement leaves rows whose events are not behind the cursor yet: they
 * must come once, from the table, and in the order of their agent. */
START_TEST(a_row_stands_for_its_event)
{
    struct rig *rig = start(
        10, "a", SPOOL_SINK_OPTIONS(.order = SPOOL_ORDER_AGENT, .retry_base_ms = 3600000, .retry_cap_ms = 3600000),
        fail_always);
    rig_until(rig_stored(rig).retry_rows == 10);
    ck_ok(delivery_stop(rig->delivery, deadline_in_ms(60000)));
    delivery_free(rig->delivery);
    struct store_sink *stored = &rig->store->sinks[0].sink;
    memset(stored->cursor, 0, sizeof stored->cursor);
    memset(stored->range_count, 0, sizeof stored->range_count);
    for (int i = 0; i < 10; i++)
        rig->store->sinks[0].retries[i].row.due_ns = 0;
    rig->fake->answer = NULL;
    size_t before = rig_seen(rig);
    rig_delivery(rig);
    rig_add(rig, SPOOL_SINK_OPTIONS(.order = SPOOL_ORDER_AGENT));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_stored(rig).retry_rows == 0 && rig_stored(rig).cursor[LANE_MEDIUM] == 10);
    ck_ok(delivery_stop(rig->delivery, deadline_in_ms(60000)));
    ck_assert_uint_eq(rig_seen(rig) - before, 10);
    ck_assert_uint_eq(rig_stored(rig).delivered, 10);
    for (unsigned i = 0; i < 10; i++)
        ck_assert_uint_eq(rig->fake->seen[before + i], i);
    rig_free(rig);
}
END_TEST

/* Refuses any batch that has number `arg`, without saying which one it is. */
static int refuse_batch(struct fake *fake, struct spool_delivery *batch, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (fake_number(SPOOL_DELIVERY_AT(batch, i)) == fake->arg)
            return spool_sink_error(SPOOL_EREJECTED, "something is bad");
    for (size_t i = 0; i < n; i++)
        SPOOL_DELIVERY_AT(batch, i)->outcome = SPOOL_DELIVERED;
    return SPOOL_OK;
}

START_TEST(bad_event_is_bisected_out)
{
    struct rig *rig = rig_new();
    rig->fake->answer = refuse_batch;
    rig->fake->arg = 613;
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 1000, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS());
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_stored(rig).dead_rows == 1 && rig_stored(rig).delivered == 999);
    ck_assert_uint_eq(rig->store->sinks[0].dead[0].row.seq, 613);
    ck_assert_str_eq(rig->store->sinks[0].dead[0].row.reason, "something is bad");
    ck_assert_uint_le(rig->fake->batches, 22);
    for (unsigned i = 0; i < 999; i++)
        ck_assert_uint_eq(rig->fake->seen[i], i < 613 ? i : i + 1);
    rig_free(rig);
}
END_TEST

/* Refuses the whole while number 2 is in it, then asks for another try of number 0. */
static int refuse_then_retry(struct fake *fake, struct spool_delivery *batch, size_t n)
{
    (void)fake;
    for (size_t i = 0; i < n; i++)
        if (fake_number(&batch[i]) == 2)
            return spool_sink_error(SPOOL_EREJECTED, "something is bad");
    if (fake_number(&batch[0]) == 0 && batch[0].attempt == 1) {
        spool_delivery_fail(&batch[0], SPOOL_RETRY, "not now");
        return SPOOL_OK;
    }
    for (size_t i = 0; i < n; i++)
        batch[i].outcome = SPOOL_DELIVERED;
    return SPOOL_OK;
}

/* The other half does not overtake the failed event. */
START_TEST(bisecting_keeps_the_order)
{
    struct rig *rig =
        start(12, "a", SPOOL_SINK_OPTIONS(.order = SPOOL_ORDER_AGENT, .batch_events_max = 4, .retry_base_ms = 1),
              refuse_then_retry);
    rig_until(rig_stored(rig).dead_rows == 1 && rig_stored(rig).delivered == 11);
    for (unsigned i = 0; i < 11; i++)
        ck_assert_uint_eq(rig->fake->seen[i], i < 2 ? i : i + 1);
    rig_free(rig);
}
END_TEST

/* Nor does a batch that was cut ahead overtake the other half, when the failed event is none any more. */
START_TEST(bisecting_keeps_the_order_of_batches)
{
    struct rig *rig =
        start(12, "a", SPOOL_SINK_OPTIONS(.order = SPOOL_ORDER_AGENT, .batch_events_max = 4, .max_attempts = 1),
              refuse_then_retry);
    rig_until(rig_stored(rig).dead_rows == 3 && rig_stored(rig).delivered == 9);
    for (unsigned i = 0; i < 9; i++)
        ck_assert_uint_eq(rig->fake->seen[i], i + 3);
    rig_free(rig);
}
END_TEST

/* Down `arg` times, having taken the first event of each batch before. */
static int down_for_a_while(struct fake *fake, struct spool_delivery *batch, size_t n)
{
    if (fake->arg > 0) {
        fake->arg--;
        batch->outcome = SPOOL_DELIVERED;
        return spool_sink_error(SPOOL_EUNAVAILABLE, "away");
    }
    for (size_t i = 0; i < n; i++)
        SPOOL_DELIVERY_AT(batch, i)->outcome = SPOOL_DELIVERED;
    return SPOOL_OK;
}

START_TEST(outage_costs_nothing_and_keeps_the_order)
{
    struct rig *rig = rig_new();
    rig->fake->answer = down_for_a_while;
    rig->fake->arg = 5;
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 3000, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS(FAST));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_stored(rig).delivered == 3000);
    for (unsigned i = 0; i < 3000; i++) {
        ck_assert_uint_eq(rig->fake->seen[i], i);
        ck_assert_uint_eq(rig->fake->attempts[i], 1);
    }
    ck_assert_uint_eq(rig->fake->count, 3000);
    ck_assert_uint_eq(rig_noticed(rig, SPOOL_NOTICE_SINK_DOWN), 1);
    ck_assert_uint_eq(rig_noticed(rig, SPOOL_NOTICE_SINK_UP), 1);
    ck_assert_uint_eq(rig_status(rig).state, SPOOL_SINK_RUNNING);
    rig_free(rig);
}
END_TEST

START_TEST(down_sink_says_why)
{
    struct rig *rig = rig_new();
    rig->fake->open_code = ECONNREFUSED;
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 1, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS(.retry_base_ms = 1, .retry_cap_ms = 2));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_status(rig).attempt >= 3);
    ck_assert_uint_eq(rig_status(rig).state, SPOOL_SINK_DOWN);
    ck_assert_ptr_nonnull(strstr(rig_status(rig).last_error, "told to fail"));
    ck_assert_uint_eq(rig_noticed(rig, SPOOL_NOTICE_SINK_DOWN), 1);
    ck_assert_uint_eq(rig_stored(rig).cursor[LANE_MEDIUM], 0);
    pthread_mutex_lock(&rig->fake->lock);
    rig->fake->open_code = SPOOL_OK;
    pthread_mutex_unlock(&rig->fake->lock);
    rig_until(rig_stored(rig).delivered == 1);
    ck_assert_str_eq(rig_status(rig).last_error, "");
    rig_free(rig);
}
END_TEST

START_TEST(wrong_configuration_stands)
{
    struct rig *rig = rig_new();
    rig->fake->open_code = SPOOL_ECONFIG;
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 1, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS(FAST));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_status(rig).state == SPOOL_SINK_FAILED);
    ck_ok(delivery_sink_drop(rig->delivery, "s", deadline_in_ms(60000)));
    ck_assert_uint_eq(rig->fake->opens, 1);
    rig->fake->open_code = SPOOL_OK;
    rig_add(rig, SPOOL_SINK_OPTIONS(FAST));
    rig_until(rig_stored(rig).delivered == 1);
    rig_free(rig);
}
END_TEST

/* Of two agents, one fails three times: its events must still come in order, and the other's must not wait. */
static int fail_first_of_agent(struct fake *fake, struct spool_delivery *batch, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct spool_delivery *delivery = SPOOL_DELIVERY_AT(batch, i);
        if (fake_number(delivery) == fake->arg && delivery->attempt < 4) {
            spool_delivery_fail(delivery, SPOOL_RETRY, "later");
            for (i++; i < n; i++)
                SPOOL_DELIVERY_AT(batch, i)->retry_after_ms = 0;
            return spool_sink_error(SPOOL_EUNAVAILABLE, "stopped at a failure");
        }
        delivery->outcome = SPOOL_DELIVERED;
    }
    return SPOOL_OK;
}

START_TEST(successors_of_a_failed_event_are_parked)
{
    struct rig *rig = rig_new();
    rig->fake->answer = fail_first_of_agent;
    rig->fake->arg = 100;
    for (unsigned i = 0; i < 40; i++) {
        fake_commit(rig->store, SPOOL_MEDIUM, "a", 100 + i, 1, 0, real_ns());
        fake_commit(rig->store, SPOOL_MEDIUM, "b", 1000 + i, 1, 0, real_ns());
    }
    rig_add(rig, SPOOL_SINK_OPTIONS(.order = SPOOL_ORDER_AGENT, .retry_base_ms = 30, .retry_cap_ms = 30));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_stored(rig).delivered == 80 && rig_stored(rig).retry_rows == 0);
    unsigned a = 100, b = 1000;
    for (unsigned i = 0; i < 80; i++) {
        if (rig->fake->seen[i] < 1000)
            ck_assert_uint_eq(rig->fake->seen[i], a++);
        else
            ck_assert_uint_eq(rig->fake->seen[i], b++);
        ck_assert_uint_eq(rig->fake->attempts[i], rig->fake->seen[i] == 100 ? 4 : 1);
    }
    rig_free(rig);
}
END_TEST

START_TEST(full_retry_table_stops_the_cursor)
{
    struct rig *rig =
        start(500, NULL, SPOOL_SINK_OPTIONS(FAST, .retry_rows_max = 50, .batch_events_max = 10), fail_always);
    rig_until(strstr(rig_status(rig).last_error, "retry table is full"));
    ck_assert_uint_le(rig_status(rig).retrying, 50 + 4 * 10);
    pthread_mutex_lock(&rig->fake->lock);
    rig->fake->answer = NULL;
    pthread_mutex_unlock(&rig->fake->lock);
    rig_until(rig_stored(rig).delivered == 500);
    rig_free(rig);
}
END_TEST

START_TEST(requeued_dead_letter_is_delivered)
{
    struct rig *rig = start(3, NULL, SPOOL_SINK_OPTIONS(FAST, .max_attempts = 1), fail_always);
    rig_until(rig_stored(rig).dead_rows == 3);
    pthread_mutex_lock(&rig->fake->lock);
    rig->fake->answer = NULL;
    pthread_mutex_unlock(&rig->fake->lock);
    pthread_mutex_lock(&rig->store->lock);
    struct fake_sink *sink = &rig->store->sinks[0];
    sink->retries[7] = sink->dead[1];
    sink->retries[7].row.attempts = 0;
    sink->dead[1] = (struct fake_row){0};
    rig->store->control++;
    pthread_mutex_unlock(&rig->store->lock);
    delivery_wake(rig->delivery);
    rig_until(rig_stored(rig).delivered == 1 && rig_stored(rig).retry_rows == 0);
    ck_assert_uint_eq(rig_stored(rig).dead_rows, 2);
    rig_free(rig);
}
END_TEST

/* Everything at once, at random: each event fails, is forgotten or rejected with some probability. */
static int at_random(struct fake *fake, struct spool_delivery *batch, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned dice = (unsigned)rand_r(&fake->arg) % 16;
        if (dice == 0)
            spool_delivery_fail(SPOOL_DELIVERY_AT(batch, i), SPOOL_RETRY, "dice");
        else if (dice == 1 && n > 3)
            return spool_sink_error(SPOOL_EUNAVAILABLE, "dice");
        else
            SPOOL_DELIVERY_AT(batch, i)->outcome = SPOOL_DELIVERED;
    }
    return SPOOL_OK;
}

START_TEST(random_failures_lose_and_repeat_nothing)
{
    struct rig *rig = rig_new();
    rig->fake->answer = at_random;
    rig->fake->arg = (unsigned)test_seed(4711);
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 1000, 0, real_ns());
    fake_commit(rig->store, SPOOL_LOW, NULL, 1000, 1000, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS(.retry_base_ms = 1, .retry_cap_ms = 1, .workers = 3, .batch_events_max = 50));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_stored(rig).delivered == 2000 && rig_stored(rig).retry_rows == 0);
    ck_assert_uint_eq(rig->fake->count, 2000);
    unsigned char times[2000] = {0};
    for (unsigned i = 0; i < 2000; i++)
        ck_assert_uint_eq(++times[rig->fake->seen[i]], 1);
    ck_assert_uint_eq(rig_stored(rig).cursor[LANE_MEDIUM], 1000);
    ck_assert_uint_eq(rig_stored(rig).cursor[LANE_LOW], 1000);
    rig_free(rig);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("delivery_retry");
    TCase *tc = tcase_create("retry");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, one_event_is_tried_again_alone);
    tcase_add_test(tc, attempts_end_in_a_dead_letter);
    tcase_add_test(tc, forgotten_events_are_tried_again);
    tcase_add_test(tc, attempts_survive_a_restart);
    tcase_add_test(tc, a_clock_set_back_delays_no_retry);
    tcase_add_test(tc, a_stored_retry_waits_its_time);
    tcase_add_test(tc, a_stored_retry_does_not_wait_for_a_clock_that_was_set_back);
    tcase_add_test(tc, a_row_stands_for_its_event);
    tcase_add_test(tc, bad_event_is_bisected_out);
    tcase_add_test(tc, bisecting_keeps_the_order);
    tcase_add_test(tc, bisecting_keeps_the_order_of_batches);
    tcase_add_test(tc, outage_costs_nothing_and_keeps_the_order);
    tcase_add_test(tc, down_sink_says_why);
    tcase_add_test(tc, wrong_configuration_stands);
    tcase_add_test(tc, successors_of_a_failed_event_are_parked);
    tcase_add_test(tc, full_retry_table_stops_the_cursor);
    tcase_add_test(tc, requeued_dead_letter_is_delivered);
    tcase_add_test(tc, random_failures_lose_and_repeat_nothing);
    suite_add_tcase(s, tc);
    return s;
}

CHECK_MAIN(suite)
