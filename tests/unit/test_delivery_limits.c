/* test_delivery_limits.c - limits of a sink that bound what it is given: when it wants an event again, what it may have in
 * flight, what may wait for a retry. Each fails when the limit is ignored. */
#include "fake_sink.h"

static int answer_all(struct fake *fake, struct spool_delivery *batch, size_t n, uint64_t retry_after_ms)
{
    (void)fake;
    for (size_t i = 0; i < n; i++) {
        struct spool_delivery *delivery = SPOOL_DELIVERY_AT(batch, i);
        spool_delivery_fail(delivery, SPOOL_RETRY, "not now");
        delivery->retry_after_ms = fake_number(delivery) % 2 ? retry_after_ms : 0;
    }
    return SPOOL_OK;
}

static int in_an_hour(struct fake *fake, struct spool_delivery *batch, size_t n)
{
    return answer_all(fake, batch, n, 3600000);
}

static int at_the_end_of_time(struct fake *fake, struct spool_delivery *batch, size_t n)
{
    return answer_all(fake, batch, n, UINT64_MAX);
}

/* By backoff it would be tried within 5 ms: those of which the sink says when are not, and the others are. */
START_TEST(a_sink_says_when_it_wants_an_event_again)
{
    enum { EVENTS = 10, TRIES = 20 };
    struct rig *rig = rig_new();
    rig->fake->answer = _i ? at_the_end_of_time : in_an_hour;
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, EVENTS, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS(.retry_base_ms = 1, .retry_cap_ms = 5));
    uint64_t begun_ns = real_ns();
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_counter(rig, &rig->fake->batches) >= TRIES);
    ck_ok(delivery_stop(rig->delivery, deadline_in_ms(60000)));
    struct fake_sink *stored = &rig->store->sinks[0];
    ck_assert_uint_eq(rig_stored(rig).retry_rows, EVENTS);
    for (size_t i = 0; i < EVENTS; i++) {
        const struct store_retry *row = &stored->retries[i].row;
        bool asked = row->seq % 2;
        ck_assert_msg(asked ? row->attempts == 1 : row->attempts > 1, "event %u was tried %u times", (unsigned)row->seq,
                      row->attempts);
        ck_assert_msg(!asked || row->due_ns >= begun_ns + 3600000 * NS_PER_MS, "event %u is due too early",
                      (unsigned)row->seq);
    }
    rig_free(rig);
}
END_TEST

static unsigned batches_of(struct fake *fake)
{
    pthread_mutex_lock(&fake->lock);
    unsigned n = fake->batches;
    pthread_mutex_unlock(&fake->lock);
    return n;
}

/* With one batch in flight there is no room for another, although a worker is free: it serves another sink meanwhile. */
START_TEST(what_is_in_flight_is_bounded)
{
    enum { EVENTS = 50 };
    static struct fake other;
    struct rig *rig = rig_new();
    memset(&other, 0, sizeof other);
    pthread_mutex_init(&other.lock, NULL);
    pthread_cond_init(&other.changed, NULL);
    rig->fake->block = true;
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, EVENTS, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS(.workers = 2, .batch_events_max = 1, .batch_bytes_max = 1000,
                                    .inflight_bytes_max = 1000));
    const struct spool_sink_options options = SPOOL_SINK_OPTIONS(.user = &other, .batch_events_max = 1);
    ck_ok(delivery_sink_add(rig->delivery, "t", &fake_hooks, NULL, &options));
    ck_ok(delivery_start(rig->delivery));
    rig_until(batches_of(rig->fake) == 1);
    rig_until(batches_of(&other) == EVENTS); /* so often was there an occasion for a second one */
    ck_assert_uint_eq(batches_of(rig->fake), 1);
    fake_set_block(rig->fake, false);
    rig_until(rig_seen(rig) == EVENTS);
    rig_free(rig);
}
END_TEST

/* What waits for a retry is bounded in bytes: then the cursor stops, says why, and goes on when there is room. */
START_TEST(what_waits_for_a_retry_is_bounded_in_bytes)
{
    enum { EVENTS = 200, BATCH = 4 };
    struct rig *rig = rig_new();
    rig->fake->answer = in_an_hour;
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, EVENTS, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS(.batch_events_max = BATCH, .retry_base_ms = 3600000, .retry_cap_ms = 3600000,
                                    .retry_bytes_max = 1500));
    ck_ok(delivery_start(rig->delivery));
    rig_until(strstr(rig_status(rig).last_error, "retry_bytes_max") != NULL);
    ck_ok(delivery_stop(rig->delivery, deadline_in_ms(60000)));
    uint64_t rows = rig_stored(rig).retry_rows, bytes = 0;
    for (size_t i = 0; i < rows; i++)
        bytes += rig->store->sinks[0].retries[i].row.size;
    uint64_t batch_bytes = BATCH * bytes / rows;
    ck_assert_msg(bytes >= 1500 && bytes <= 1500 + 4 * batch_bytes, "%u rows of %u bytes wait", (unsigned)rows,
                  (unsigned)bytes); /* a batch, and those that were cut ahead */
    ck_assert_uint_lt(rows, EVENTS);
    for (size_t i = 0; i < rows; i++)
        rig->store->sinks[0].retries[i].row.due_ns = 0;
    rig->fake->answer = NULL;
    delivery_free(rig->delivery);
    rig_delivery(rig);
    rig_add(rig, SPOOL_SINK_OPTIONS(.batch_events_max = BATCH, .retry_bytes_max = 1500));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_stored(rig).delivered == EVENTS && rig_stored(rig).retry_rows == 0);
    rig_free(rig);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("delivery_limits");
    TCase *t = tcase_create("delivery_limits");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, a_sink_says_when_it_wants_an_event_again, 0, 2);
    tcase_add_test(t, what_is_in_flight_is_bounded);
    tcase_add_test(t, what_waits_for_a_retry_is_bounded_in_bytes);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
