/* test_delivery_refused.c - delivery over a store that refuses, and sinks that do not open: every event comes all the
 * same, and why it took longer is told. */
#include "fake_sink.h"

#define FAST .retry_base_ms = 1, .retry_cap_ms = 5

/* Of three events one asks for another try first, one is rejected. */
static int answer_in_turn(struct fake *fake, struct spool_delivery *batch, size_t n)
{
    (void)fake;
    for (size_t i = 0; i < n; i++) {
        unsigned number = fake_number(&batch[i]);
        if (number % 3 == 0 && batch[i].attempt == 1)
            batch[i].retry_after_ms = 1;
        else
            batch[i].outcome = number % 3 == 1 ? SPOOL_REJECTED : SPOOL_DELIVERED;
    }
    return SPOOL_OK;
}

/* ------------------------------------------------------------------------------------------- a store that refuses */

static void check_refused(size_t error, const char *said)
{
    struct rig *rig = rig_new();
    _Atomic int *refusal = (_Atomic int *)((char *)rig->store + error);
    rig->fake->answer = answer_in_turn;
    rig_add(rig, SPOOL_SINK_OPTIONS(FAST));
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 30, 0, real_ns());
    *refusal = EIO;
    ck_ok(delivery_start(rig->delivery));
    if (*said)
        rig_until(strstr(rig_status(rig).last_error, said));
    *refusal = 0;
    delivery_wake(rig->delivery);
    rig_check_all_ended(rig, 30);
    *refusal = EIO;
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 30, 30, 0, real_ns());
    pthread_mutex_lock(&rig->store->lock);
    rig->store->control++;
    pthread_mutex_unlock(&rig->store->lock);
    delivery_wake(rig->delivery);
    usleep(5000);
    *refusal = 0;
    delivery_wake(rig->delivery);
    rig_check_all_ended(rig, 60);
    rig_free(rig);
}

START_TEST(what_the_store_refuses_is_asked_again)
{
    static const struct {
        size_t error;
        const char *said;
    } refusals[] = {
        {offsetof(struct store, read_error), "read refused"}, {offsetof(struct store, bounds_error), ""},
        {offsetof(struct store, get_error), "get refused"},   {offsetof(struct store, elect_error), "elect refused"},
        {offsetof(struct store, row_error), "row refused"},
    };
    check_refused(refusals[_i].error, refusals[_i].said);
}
END_TEST

/* A row whose event is gone is dropped and told; it does not keep the others. */
START_TEST(a_row_without_its_event_is_dropped)
{
    struct rig *rig = rig_new();
    rig->fake->answer = answer_in_turn;
    rig->store->row_error = _i ? SPOOL_EDAMAGED : SPOOL_ENOTFOUND;
    rig_add(rig, SPOOL_SINK_OPTIONS(FAST));
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 30, 0, real_ns());
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_stored(rig).dropped == 10 && rig_stored(rig).retry_rows == 0);
    ck_assert_uint_eq(rig_stored(rig).delivered, 10);
    ck_assert_uint_eq(rig_stored(rig).dead_rows, 10);
    ck_assert_uint_ge(rig_noticed(rig, SPOOL_NOTICE_DROPPED), 1);
    rig_free(rig);
}
END_TEST

/* The store does not know the sink any more, when it is loaded or later. */
START_TEST(a_sink_that_was_removed_is_let_go_of)
{
    struct rig *rig = rig_new();
    rig_add(rig, SPOOL_SINK_OPTIONS());
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 3, 0, real_ns());
    if (_i) {
        ck_ok(delivery_start(rig->delivery));
        rig_until(rig_stored(rig).delivered == 3);
    }
    rig->store->get_error = SPOOL_ENOTFOUND;
    pthread_mutex_lock(&rig->store->lock);
    rig->store->control++;
    pthread_mutex_unlock(&rig->store->lock);
    ck_ok(delivery_start(rig->delivery));
    delivery_wake(rig->delivery);
    struct delivery_sink_status status;
    rig_until(delivery_sink_status(rig->delivery, "s", &status) == SPOOL_ENOTFOUND);
    ck_assert(!rig->store->sinks[0].elected);
    rig->store->get_error = 0;
    rig_add(rig, SPOOL_SINK_OPTIONS()); /* nothing here is in the way of another one of that name */
    rig_free(rig);
}
END_TEST

/* ------------------------------------------------------------------------------------------------- opening, notes */

static int refuse_to_open(void **state, void *user, const char *config, const void *checkpoint, size_t size)
{
    (void)state, (void)user, (void)config, (void)checkpoint, (void)size;
    return SPOOL_EINVAL; /* and no message */
}

START_TEST(a_sink_that_calls_its_arguments_wrong_has_failed)
{
    struct rig *rig = rig_new();
    struct spool_sink hooks = fake_hooks;
    hooks.open = refuse_to_open;
    ck_ok(delivery_sink_add(rig->delivery, "s", &hooks, NULL, NULL));
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 3, 0, real_ns());
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_status(rig).state == SPOOL_SINK_FAILED);
    ck_assert_ptr_nonnull(strstr(rig_status(rig).last_error, "EINVAL"));
    ck_assert_uint_eq(rig_noticed(rig, SPOOL_NOTICE_SINK_DOWN), 1);
    rig_free(rig);
}
END_TEST

/* As fake_open(), but it returns only when it is let go, and then with what is said. */
static int open_slowly(void **ret_state, void *user, const char *config, const void *checkpoint, size_t size)
{
    struct fake *fake = user;
    pthread_mutex_lock(&fake->lock);
    fake->arg = 1; /* it is in here */
    while (fake->block)
        pthread_cond_wait(&fake->changed, &fake->lock);
    pthread_mutex_unlock(&fake->lock);
    return fake_open(ret_state, user, config, checkpoint, size);
}

/* The late state is closed, the late failure not heard; after a new start everything comes. */
START_TEST(a_sink_that_hangs_while_it_opens)
{
    struct rig *rig = rig_new();
    struct spool_sink hooks = fake_hooks;
    hooks.open = open_slowly;
    rig->fake->block = true;
    rig->fake->open_code = _i ? ECONNREFUSED : SPOOL_OK;
    ck_ok(delivery_sink_add(rig->delivery, "s", &hooks, NULL, &SPOOL_SINK_OPTIONS(.user = rig->fake)));
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 3, 0, real_ns());
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_counter(rig, &rig->fake->arg) == 1);
    ck_code(delivery_stop(rig->delivery, deadline_in_ms(100)), SPOOL_ETIMEOUT);
    ck_assert(delivery_has_hung(rig->delivery));
    fake_set_block(rig->fake, false);
    rig_until(!delivery_has_hung(rig->delivery));
    ck_assert_uint_eq(rig_counter(rig, &rig->fake->closes), _i ? 0 : 1);
    ck_assert_uint_eq(rig_noticed(rig, SPOOL_NOTICE_SINK_DOWN), 0);
    ck_assert_uint_eq(rig_seen(rig), 0);
    rig->fake->open_code = SPOOL_OK;
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_stored(rig).delivered == 3);
    rig_free(rig);
}
END_TEST

static int note_and_take(struct fake *fake, struct spool_delivery *batch, size_t n)
{
    (void)fake;
    delivery_sink_note("took %zu", n);
    if (n == 2)
        spool_sink_note("took two");
    for (size_t i = 0; i < n; i++)
        batch[i].outcome = SPOOL_DELIVERED;
    return SPOOL_OK;
}

START_TEST(a_note_of_a_sink_is_told)
{
    struct rig *rig = rig_new();
    rig->fake->answer = note_and_take;
    rig_add(rig, SPOOL_SINK_OPTIONS());
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 3, 0, real_ns());
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_stored(rig).delivered == 3);
    ck_assert_uint_eq(rig_noticed(rig, SPOOL_NOTICE_SINK_FILE), 1);
    ck_assert_uint_eq(rig_noticed(rig, SPOOL_NOTICE_SINK_NOTE), 0);
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 3, 2, 0, real_ns());
    rig_until(rig_stored(rig).delivered == 5);
    ck_assert_uint_eq(rig_noticed(rig, SPOOL_NOTICE_SINK_FILE), 1);
    ck_assert_uint_eq(rig_noticed(rig, SPOOL_NOTICE_SINK_NOTE), 1);
    rig_free(rig);
}
END_TEST

static uint32_t unstored[10]; /* as each call of deliver was told */
static _Atomic uint32_t unstored_calls;

static int count_unstored(struct fake *fake, struct spool_delivery *batch, size_t n)
{
    (void)fake;
    ck_assert_uint_lt(atomic_load(&unstored_calls), 10);
    unstored[atomic_load(&unstored_calls)] = spool_sink_unstored();
    for (size_t i = 0; i < n; i++)
        batch[i].outcome = SPOOL_DELIVERED;
    atomic_fetch_add(&unstored_calls, 1);
    return SPOOL_OK;
}

/* While acknowledgements are refused, each batch is one more that would come again. */
START_TEST(a_sink_knows_what_is_not_stored)
{
    struct rig *rig = rig_new();
    rig->fake->answer = count_unstored;
    rig->store->ack_error = EIO;
    rig_add(rig, SPOOL_SINK_OPTIONS(.batch_events_max = 1));
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 10, 0, real_ns());
    ck_ok(delivery_start(rig->delivery));
    rig_until(atomic_load(&unstored_calls) == 10);
    for (uint32_t i = 0; i < 10; i++)
        ck_assert_uint_eq(unstored[i], i);
    pthread_mutex_lock(&rig->store->lock);
    rig->store->ack_error = SPOOL_OK;
    pthread_mutex_unlock(&rig->store->lock);
    rig_until(rig_stored(rig).delivered == 10);
    ck_assert_uint_eq(spool_sink_unstored(), 0); /* not within a hook */
    rig_free(rig);
}
END_TEST

/* ------------------------------------------------------------------------------------------------------- options */

START_TEST(options_are_checked_one_by_one)
{
    struct rig *rig = rig_new();
    struct spool_sink sink = fake_hooks;
    struct spool_sink_options options = SPOOL_SINK_OPTIONS();
    struct {
        struct spool_sink_options options;
        char more[8];
    } newer = {.options = SPOOL_SINK_OPTIONS(), .more = "x"};
    ck_code(delivery_sink_add(rig->delivery, NULL, &sink, NULL, NULL), SPOOL_EINVAL);
    ck_code(delivery_sink_add(rig->delivery, "s", NULL, NULL, NULL), SPOOL_EINVAL);
    static const char *const kinds[] = {NULL, "",
                                        "0123456789012345678901234567890123456789012345678901234567890123456789"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        sink.kind = kinds[i];
        ck_code(delivery_sink_add(rig->delivery, "s", &sink, NULL, NULL), SPOOL_EINVAL);
    }
    options.size = 4;
    ck_code(delivery_sink_add(rig->delivery, "s", &fake_hooks, NULL, &options), SPOOL_EOPTION);
    newer.options.size = sizeof newer;
    ck_code(delivery_sink_add(rig->delivery, "s", &fake_hooks, NULL, &newer.options), SPOOL_EOPTION);
    static const struct spool_sink_options bad[] = {
        {.batch_events_max = 1 << 20}, {.batch_bytes_max = 1 << 30}, {.retry_base_ms = 10, .retry_cap_ms = 5}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        options = bad[i];
        options.size = sizeof options;
        ck_code(delivery_sink_add(rig->delivery, "s", &fake_hooks, NULL, &options), SPOOL_EINVAL);
    }
    ck_assert_uint_eq(rig->store->sink_count, 0);
    memset(newer.more, 0, sizeof newer.more); /* of a newer header, but with nothing that we do not know */
    newer.options = SPOOL_SINK_OPTIONS(.user = rig->fake, .batch_events_max = 7, .batch_bytes_max = 1000,
                                       .timeout_ms = 1000, .retry_rows_max = 9, .retry_bytes_max = 9000, .workers = 2);
    newer.options.size = sizeof newer;
    ck_ok(delivery_sink_add(rig->delivery, "s", &fake_hooks, NULL, &newer.options));
    ck_assert_uint_eq(rig->delivery->sinks->options.batch_events_max, 7);
    ck_assert_uint_eq(rig->delivery->sinks->options.retry_rows_max, 9);
    rig_free(rig);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("delivery_refused");
    TCase *tc = tcase_create("refused");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, what_the_store_refuses_is_asked_again, 0, 5);
    tcase_add_loop_test(tc, a_row_without_its_event_is_dropped, 0, 2);
    tcase_add_loop_test(tc, a_sink_that_was_removed_is_let_go_of, 0, 2);
    tcase_add_test(tc, a_sink_that_calls_its_arguments_wrong_has_failed);
    tcase_add_loop_test(tc, a_sink_that_hangs_while_it_opens, 0, 2);
    tcase_add_test(tc, a_note_of_a_sink_is_told);
    tcase_add_test(tc, a_sink_knows_what_is_not_stored);
    tcase_add_test(tc, options_are_checked_one_by_one);
    suite_add_tcase(s, tc);
    return s;
}

CHECK_MAIN(suite)
