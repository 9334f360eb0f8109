/* test_delivery.c - from a store to a sink: everything arrives, in order of importance, and is acknowledged. */
#include <stdatomic.h>

#include "fake_sink.h"

START_TEST(all_arrive_once_and_are_acknowledged)
{
    struct rig *rig = rig_new();
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 1000, 0, real_ns());
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 1000, 500, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS());
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_stored(rig).delivered == 1500);
    for (unsigned i = 0; i < 1500; i++)
        ck_assert_uint_eq(rig->fake->seen[i], i);
    ck_assert_uint_eq(rig_stored(rig).cursor[LANE_MEDIUM], 1500);
    ck_assert_uint_eq(rig_status(rig).state, SPOOL_SINK_RUNNING);
    fake_commit(rig->store, SPOOL_HIGH, NULL, 1500, 10, 0, real_ns());
    delivery_wake(rig->delivery);
    rig_until(rig_seen(rig) == 1510);
    ck_ok(delivery_settle(rig->delivery, deadline_in_ms(60000)));
    ck_assert_uint_eq(rig_stored(rig).delivered, 1510);
    ck_ok(delivery_stop(rig->delivery, deadline_in_ms(60000)));
    ck_assert_uint_eq(rig->fake->opens, 1);
    ck_assert_uint_eq(rig->fake->closes, 1);
    ck_assert_uint_eq(rig->fake->count, 1510);
    ck_assert(!rig->store->sinks[0].elected);
    rig_free(rig);
}
END_TEST

START_TEST(small_blocks_make_one_batch)
{
    struct rig *rig = rig_new();
    for (unsigned i = 0; i < 300; i++)
        fake_commit(rig->store, SPOOL_MEDIUM, NULL, i, 1, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS(.batch_events_max = 200));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_stored(rig).delivered == 300);
    ck_assert_uint_eq(rig->fake->batches, 2);
    ck_assert_uint_eq(rig->fake->largest, 200);
    rig_free(rig);
}
END_TEST

START_TEST(byte_limit_cuts_batches)
{
    struct rig *rig = rig_new();
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 100, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS(.batch_bytes_max = 1));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_stored(rig).delivered == 100);
    ck_assert_uint_eq(rig->fake->batches, 100);
    rig_free(rig);
}
END_TEST

/* Batches of one event; the lanes of the first 16 after the first must show every lane. */
START_TEST(important_first_but_nobody_starves)
{
    struct rig *rig = rig_new();
    fake_commit(rig->store, SPOOL_CRITICAL, NULL, 0, 200, 0, real_ns());
    fake_commit(rig->store, SPOOL_HIGH, NULL, 1000, 200, 0, real_ns());
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 2000, 200, 0, real_ns());
    fake_commit(rig->store, SPOOL_LOW, NULL, 3000, 200, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS(.batch_events_max = 1));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_stored(rig).delivered == 800);
    for (unsigned from = 0; from + 16 <= 160; from++) {
        unsigned lanes[4] = {0};
        for (unsigned i = from; i < from + 16; i++)
            lanes[rig->fake->seen[i] / 1000]++;
        ck_assert_uint_ge(lanes[0], 10);
        for (int lane = 1; lane < 4; lane++)
            ck_assert_msg(lanes[lane] >= 1, "lane %d has none of 16 batches from %u on", lane, from);
    }
    rig_free(rig);
}
END_TEST

START_TEST(several_workers_finish_out_of_order)
{
    struct rig *rig = rig_new();
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 5000, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS(.workers = 4, .batch_events_max = 7));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_stored(rig).delivered == 5000);
    ck_assert_uint_eq(rig_stored(rig).cursor[LANE_MEDIUM], 5000);
    ck_assert_uint_eq(rig_stored(rig).range_count[LANE_MEDIUM], 0);
    ck_assert_uint_eq(rig->fake->count, 5000);
    rig_free(rig);
}
END_TEST

static const char *configs[8];
static atomic_uint config_count;

static int open_noting_config(void **ret_state, void *user, const char *config, const void *checkpoint, size_t size)
{
    unsigned i = atomic_fetch_add(&config_count, 1);
    if (i < sizeof configs / sizeof *configs)
        configs[i] = config;
    return fake_open(ret_state, user, config, checkpoint, size);
}

/* By which a plugin knows its states: at another address is another sink, of the same configuration or not. */
START_TEST(states_of_a_sink_get_their_configuration_at_one_address)
{
    struct rig *rig = rig_new();
    struct spool_sink hooks = fake_hooks;
    struct spool_sink_options options = SPOOL_SINK_OPTIONS(.workers = 3, .batch_events_max = 1, .user = rig->fake);
    hooks.open = open_noting_config;
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 30, 0, real_ns());
    fake_set_block(rig->fake, true);
    ck_ok(delivery_sink_add(rig->delivery, "s", &hooks, "{\"a\":1}", &options));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_counter(rig, &rig->fake->opens) == 2); /* as many threads as the rig has */
    ck_assert_ptr_eq(configs[1], configs[0]);
    ck_assert_str_eq(configs[0], "{\"a\":1}");
    fake_set_block(rig->fake, false);
    rig_until(rig_stored(rig).delivered == 30);
    unsigned before = rig_counter(rig, &rig->fake->opens);
    ck_ok(delivery_sink_add(rig->delivery, "other", &hooks, "{\"a\":1}", &options));
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 30, 1, 0, real_ns());
    delivery_wake(rig->delivery);
    rig_until(rig_counter(rig, &rig->fake->opens) >= before + 1);
    ck_assert_ptr_ne(configs[before], configs[0]);
    rig_free(rig);
}
END_TEST

START_TEST(damaged_block_is_skipped_and_counted)
{
    struct rig *rig = rig_new();
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 10, 0, real_ns());
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 10, 10, 0, real_ns());
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 20, 10, 0, real_ns());
    rig->store->damaged[LANE_MEDIUM][1] = true;
    rig_add(rig, SPOOL_SINK_OPTIONS());
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_stored(rig).cursor[LANE_MEDIUM] == 30);
    ck_assert_uint_eq(rig_stored(rig).delivered, 20);
    ck_assert_uint_eq(rig_stored(rig).dropped, 10);
    ck_assert_uint_eq(rig_stored(rig).drops.events[SPOOL_DROP_DAMAGED], 10);
    rig_free(rig);
}
END_TEST

START_TEST(expired_events_are_dropped)
{
    struct rig *rig = rig_new();
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 5, 1000, real_ns() - 3600000 * NS_PER_MS);
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 5, 5, 3600000, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS());
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_stored(rig).cursor[LANE_MEDIUM] == 10);
    ck_assert_uint_eq(rig_stored(rig).delivered, 5);
    ck_assert_uint_eq(rig_stored(rig).dropped, 5);
    ck_assert_uint_eq(rig_stored(rig).drops.events[SPOOL_DROP_EXPIRED], 5);
    ck_assert_uint_eq(rig_noticed(rig, SPOOL_NOTICE_DROPPED), 1);
    rig_free(rig);
}
END_TEST

START_TEST(refused_acknowledgements_are_kept)
{
    struct rig *rig = rig_new();
    rig->store->ack_error = ENOSPC;
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 10, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS());
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_status(rig).delivered == 10);
    ck_code(delivery_settle(rig->delivery, deadline_in_ms(50)), SPOOL_ETIMEOUT);
    ck_assert_uint_eq(rig_stored(rig).delivered, 0);
    pthread_mutex_lock(&rig->store->lock);
    rig->store->ack_error = 0;
    pthread_mutex_unlock(&rig->store->lock);
    ck_ok(delivery_settle(rig->delivery, deadline_in_ms(60000)));
    ck_assert_uint_eq(rig_stored(rig).delivered, 10);
    ck_assert_uint_eq(rig_seen(rig), 10);
    rig_free(rig);
}
END_TEST

/* The store has the first part of it, with the counters, when it fails. */
START_TEST(an_acknowledgement_that_failed_in_part_counts_once)
{
    struct rig *rig = rig_new();
    rig->store->late_ack_error = EIO;
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 10, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS());
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_status(rig).delivered == 10);
    ck_code(delivery_settle(rig->delivery, deadline_in_ms(50)), SPOOL_ETIMEOUT);
    pthread_mutex_lock(&rig->store->lock);
    rig->store->late_ack_error = 0;
    pthread_mutex_unlock(&rig->store->lock);
    ck_ok(delivery_settle(rig->delivery, deadline_in_ms(60000)));
    ck_assert_uint_eq(rig_stored(rig).delivered, 10);
    rig_free(rig);
}
END_TEST

static void control(struct rig *rig, bool paused, bool rewind)
{
    pthread_mutex_lock(&rig->store->lock);
    struct store_sink *sink = &rig->store->sinks[0].sink;
    sink->paused = paused;
    if (rewind) {
        sink->generation++;
        memset(sink->cursor, 0, sizeof sink->cursor);
    }
    rig->store->control++;
    pthread_mutex_unlock(&rig->store->lock);
    delivery_wake(rig->delivery);
}

START_TEST(pause_and_resume)
{
    struct rig *rig = rig_new();
    rig_add(rig, SPOOL_SINK_OPTIONS());
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_status(rig).state == SPOOL_SINK_RUNNING);
    control(rig, true, false);
    rig_until(rig_status(rig).state == SPOOL_SINK_PAUSED);
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 10, 0, real_ns());
    delivery_wake(rig->delivery);
    ck_assert_uint_eq(rig_seen(rig), 0);
    control(rig, false, false);
    rig_until(rig_stored(rig).delivered == 10);
    rig_free(rig);
}
END_TEST

START_TEST(rewound_sink_gets_everything_again)
{
    struct rig *rig = rig_new();
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 10, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS());
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_stored(rig).delivered == 10);
    control(rig, false, true);
    rig_until(rig_stored(rig).delivered == 20);
    ck_assert_uint_eq(rig_stored(rig).cursor[LANE_MEDIUM], 10);
    rig_free(rig);
}
END_TEST

START_TEST(served_elsewhere_until_the_other_ends)
{
    struct rig *rig = rig_new();
    rig->store->elect_busy = true;
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 10, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS());
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_status(rig).state == SPOOL_SINK_ELSEWHERE);
    pthread_mutex_lock(&rig->store->lock);
    rig->store->elect_busy = false;
    pthread_mutex_unlock(&rig->store->lock);
    control(rig, false, false);
    rig_until(rig_stored(rig).delivered == 10);
    rig_free(rig);
}
END_TEST

START_TEST(bad_sinks_are_refused)
{
    struct rig *rig = rig_new();
    static const char *const names[] = {
        "", ".hidden", "a/b", "a b", "\xc3\xa4", "12345678901234567890123456789012345678901234567890123456789012345"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        ck_code(delivery_sink_add(rig->delivery, names[i], &fake_hooks, NULL, NULL), SPOOL_EINVAL);
    struct spool_sink sink = fake_hooks;
    sink.abi = 2;
    ck_code(delivery_sink_add(rig->delivery, "s", &sink, NULL, NULL), SPOOL_EABI);
    sink = fake_hooks;
    sink.size = 8;
    ck_code(delivery_sink_add(rig->delivery, "s", &sink, NULL, NULL), SPOOL_EABI);
    struct {
        struct spool_sink sink;
        void *more;
    } newer = {fake_hooks, rig};
    newer.sink.size = sizeof newer;
    ck_code(delivery_sink_add(rig->delivery, "s", &newer.sink, NULL, NULL), SPOOL_EABI);
    sink = fake_hooks;
    sink.deliver = NULL;
    ck_code(delivery_sink_add(rig->delivery, "s", &sink, NULL, NULL), SPOOL_EINVAL);
    ck_code(delivery_sink_add(rig->delivery, "s", &fake_hooks, NULL, &SPOOL_SINK_OPTIONS(.workers = 65)), SPOOL_EINVAL);
    ck_code(delivery_sink_add(rig->delivery, "s", &fake_hooks, NULL, &SPOOL_SINK_OPTIONS(.flags = 2)), SPOOL_EOPTION);
    ck_code(delivery_sink_add(rig->delivery, "s", &fake_hooks, NULL, &SPOOL_SINK_OPTIONS(.order = 3)), SPOOL_EOPTION);
    ck_assert_uint_eq(rig->store->sink_count, 0);
    rig_add(rig, SPOOL_SINK_OPTIONS());
    ck_code(delivery_sink_add(rig->delivery, "s", &fake_hooks, NULL, NULL), SPOOL_EEXISTS);
    rig_free(rig);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("delivery");
    TCase *tc = tcase_create("delivery");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, all_arrive_once_and_are_acknowledged);
    tcase_add_test(tc, small_blocks_make_one_batch);
    tcase_add_test(tc, byte_limit_cuts_batches);
    tcase_add_test(tc, important_first_but_nobody_starves);
    tcase_add_test(tc, several_workers_finish_out_of_order);
    tcase_add_test(tc, states_of_a_sink_get_their_configuration_at_one_address);
    tcase_add_test(tc, damaged_block_is_skipped_and_counted);
    tcase_add_test(tc, expired_events_are_dropped);
    tcase_add_test(tc, refused_acknowledgements_are_kept);
    tcase_add_test(tc, an_acknowledgement_that_failed_in_part_counts_once);
    tcase_add_test(tc, pause_and_resume);
    tcase_add_test(tc, rewound_sink_gets_everything_again);
    tcase_add_test(tc, served_elsewhere_until_the_other_ends);
    tcase_add_test(tc, bad_sinks_are_refused);
    suite_add_tcase(s, tc);
    return s;
}

CHECK_MAIN(suite)
