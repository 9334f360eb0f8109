/* test_delivery_outage.c - a sink that is down as a whole, comes back, or says that only an operator can mend it. */
#include "fake_sink.h"

#define FAST .retry_base_ms = 1, .retry_cap_ms = 5

static struct rig *start(unsigned events, struct spool_sink_options options,
                         int (*answer)(struct fake *, struct spool_delivery *, size_t))
{
    struct rig *rig = rig_new();
    rig->fake->answer = answer;
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, events, 0, real_ns());
    rig_add(rig, options);
    ck_ok(delivery_start(rig->delivery));
    return rig;
}

static void take_all(struct spool_delivery *batch, size_t n)
{
    for (size_t i = 0; i < n; i++)
        SPOOL_DELIVERY_AT(batch, i)->outcome = SPOOL_DELIVERED;
}

static void set_arg(struct rig *rig, unsigned arg)
{
    pthread_mutex_lock(&rig->fake->lock);
    rig->fake->arg = arg;
    pthread_mutex_unlock(&rig->fake->lock);
}

/* ------------------------------------------------------------------------------------------------------ the breaker */

/* Down for the first `arg` calls. */
static int down_at_first(struct fake *fake, struct spool_delivery *batch, size_t n)
{
    if (fake->batches <= fake->arg)
        return spool_sink_error(SPOOL_EUNAVAILABLE, "refused %u", fake->batches);
    take_all(batch, n);
    return SPOOL_OK;
}

START_TEST(each_change_is_told_and_seen)
{
    struct rig *rig = rig_new();
    rig->fake->answer = down_at_first;
    rig->fake->arg = 1000000;
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 10, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS(FAST));
    ck_assert_int_eq(rig_status(rig).breaker, SPOOL_BREAKER_CLOSED);
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_counter(rig, &rig->fake->batches) >= 4);
    ck_assert_int_ne(rig_status(rig).breaker, SPOOL_BREAKER_CLOSED);
    ck_assert_int_eq(rig_status(rig).state, SPOOL_SINK_DOWN);
    ck_assert_uint_ge(rig_status(rig).attempt, 3);
    ck_assert_uint_eq(rig_status(rig).breaker_opened, 1);
    ck_assert_ptr_nonnull(strstr(rig_status(rig).last_error, "refused"));
    set_arg(rig, 0);
    rig_until(rig_stored(rig).delivered == 10);
    rig_until(rig_status(rig).breaker == SPOOL_BREAKER_CLOSED);
    ck_assert_int_eq(rig_status(rig).state, SPOOL_SINK_RUNNING);
    rig_until(rig_noticed(rig, SPOOL_NOTICE_SINK_UP) == 1);
    unsigned tries = rig_counter(rig, &rig->fake->batches); /* each but the first: half-open, then open or closed */
    rig_until(rig_noticed(rig, SPOOL_NOTICE_BREAKER) == 2 * tries - 1);
    ck_assert_uint_eq(rig_noticed(rig, SPOOL_NOTICE_SINK_DOWN), 1);
    rig_free(rig);
}
END_TEST

START_TEST(some_failures_may_be_allowed)
{
    struct rig *rig = start(10, SPOOL_SINK_OPTIONS(FAST, .breaker_failures = 4), down_at_first);
    set_arg(rig, 3);
    rig_until(rig_stored(rig).delivered == 10);
    ck_assert_uint_eq(rig_noticed(rig, SPOOL_NOTICE_SINK_DOWN), 0);
    ck_assert_uint_eq(rig_status(rig).breaker_opened, 0);
    rig_free(rig);
}
END_TEST

START_TEST(several_probes_may_be_asked_for)
{
    struct rig *rig = start(20, SPOOL_SINK_OPTIONS(FAST, .probes = 3, .probe_events = 2), down_at_first);
    set_arg(rig, 1);
    rig_until(rig_stored(rig).delivered == 20);
    rig_until(rig_noticed(rig, SPOOL_NOTICE_SINK_UP) == 1);
    ck_assert_uint_ge(rig_counter(rig, &rig->fake->batches), 1 + 3);
    rig_free(rig);
}
END_TEST

/* In flight, over all workers: what a sink that was down gets at once. */
struct flight {
    pthread_mutex_t lock;
    unsigned now, most, taken, limit, excess, calls;
    bool down, settled; /* it has failed; what ran beside that is over */
};

static int flight_deliver(void *state, struct spool_delivery *batch, size_t n)
{
    struct flight *f = state;
    pthread_mutex_lock(&f->lock);
    bool down = f->calls++ == 0;
    f->settled |= f->down && f->now == 0;
    f->now += (unsigned)n;
    f->most = f->now > f->most ? f->now : f->most;
    f->excess += f->settled && f->now > f->limit + f->taken; /* each that was delivered adds one */
    pthread_mutex_unlock(&f->lock);
    usleep(500);
    pthread_mutex_lock(&f->lock);
    f->now -= (unsigned)n;
    f->taken += down ? 0 : (unsigned)n;
    f->down |= down;
    pthread_mutex_unlock(&f->lock);
    if (down)
        return SPOOL_EUNAVAILABLE;
    take_all(batch, n);
    return SPOOL_OK;
}

static const struct spool_sink flight_hooks = {
    .abi = SPOOL_SINK_ABI, .size = sizeof(struct spool_sink), .kind = "flight", .deliver = flight_deliver};

START_TEST(recovery_does_not_flood)
{
    struct rig *rig = rig_new();
    struct flight flight = {.lock = PTHREAD_MUTEX_INITIALIZER, .limit = 4};
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 3000, 0, real_ns());
    struct spool_sink_options options =
        SPOOL_SINK_OPTIONS(.user = &flight, FAST, .workers = 4, .probe_events = 4, .batch_events_max = 3);
    ck_ok(delivery_sink_add(rig->delivery, "s", &flight_hooks, NULL, &options));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_stored(rig).delivered == 3000);
    ck_assert(flight.settled);
    ck_assert_uint_eq(flight.excess, 0);
    ck_assert_uint_gt(flight.most, 3); /* and yet it came back to several workers */
    rig_free(rig);
}
END_TEST

/* Hangs until it is let go, deaf to cancel: that is a sink that is down, and its answer is heard in the end. */
/* When it works again, it gets a few events to begin with, however many its filter stops between them. */
START_TEST(what_a_filter_stops_does_not_keep_a_sink_down)
{
    enum { WANTED = 20, NOISE = 10, ALL = WANTED * (NOISE + 1) };
    struct rig *rig = rig_new();
    rig->fake->answer = down_at_first;
    rig->fake->arg = 1;
    for (unsigned i = 0; i < ALL; i += NOISE + 1) {
        fake_commit(rig->store, SPOOL_MEDIUM, "noise", i, NOISE, 0, real_ns());
        fake_commit(rig->store, SPOOL_MEDIUM, "wanted", i + NOISE, 1, 0, real_ns());
    }
    rig_add(rig, SPOOL_SINK_OPTIONS(FAST, .probe_events = 1, .batch_events_max = 4, .workers = _i ? 2 : 1,
                                    .order = (enum spool_order)_i, .filter = "{\"exclude\":{\"agent\":\"noise\"}}"));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_all_ended(rig, ALL));
    ck_assert_uint_eq(rig_stored(rig).delivered, WANTED);
    ck_assert_uint_eq(rig_stored(rig).filtered, ALL - WANTED);
    rig_free(rig);
}
END_TEST

START_TEST(a_hook_that_overruns_opens_the_breaker)
{
    struct rig *rig = rig_new();
    rig->fake->block = rig->fake->deaf = true;
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 10, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS(FAST, .timeout_ms = 20));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_status(rig).state == SPOOL_SINK_DOWN);
    ck_assert_ptr_nonnull(strstr(rig_status(rig).last_error, "timeout_ms"));
    ck_assert_uint_eq(rig_status(rig).attempt, 1);
    fake_set_block(rig->fake, false);
    rig_until(rig_stored(rig).delivered == 10);
    rig_until(rig_status(rig).state == SPOOL_SINK_RUNNING);
    ck_assert_uint_eq(rig_seen(rig), 10);
    rig_free(rig);
}
END_TEST

/* One of two workers hangs for ever: the other one is the probe, and the sink goes on. */
static int first_hangs(struct fake *fake, struct spool_delivery *batch, size_t n)
{
    if (fake->batches == 1)
        while (fake->arg)
            pthread_cond_wait(&fake->changed, &fake->lock);
    take_all(batch, n);
    return SPOOL_OK;
}

START_TEST(a_hung_worker_does_not_keep_the_others)
{
    struct rig *rig = rig_new();
    rig->fake->answer = first_hangs;
    rig->fake->arg = 1;
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 100, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS(FAST, .workers = 2, .batch_events_max = 5, .timeout_ms = 50));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_seen(rig) == 95);
    rig_until(rig_status(rig).state == SPOOL_SINK_RUNNING);
    set_arg(rig, 0);
    pthread_cond_broadcast(&rig->fake->changed);
    rig_until(rig_stored(rig).delivered == 100);
    rig_free(rig);
}
END_TEST

/* ----------------------------------------------------------------------------------------- what only an operator mends
 */

/* The first two of a batch are taken, then the credentials are found wrong, until arg is 0. */
static int forbidden(struct fake *fake, struct spool_delivery *batch, size_t n)
{
    take_all(batch, fake->arg && n > 2 ? 2 : fake->arg ? 0 : n);
    return fake->arg ? spool_sink_error(SPOOL_ECONFIG, "403 Forbidden: the key was revoked") : SPOOL_OK;
}

static void resume(struct rig *rig)
{
    pthread_mutex_lock(&rig->store->lock);
    rig->store->sinks[0].sink.paused = false;
    rig->store->sinks[0].sink.paused_reason[0] = '\0';
    rig->store->control++;
    pthread_mutex_unlock(&rig->store->lock);
    delivery_wake(rig->delivery);
}

static struct rig *start_forbidden(void)
{
    struct rig *rig = rig_new();
    rig->fake->answer = forbidden;
    rig->fake->arg = 1;
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 10, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS(FAST, .max_attempts = 1));
    ck_ok(delivery_start(rig->delivery));
    return rig;
}

START_TEST(a_sink_that_needs_an_operator_is_paused)
{
    struct rig *rig = start_forbidden();
    rig_until(rig_stored(rig).paused);
    ck_assert_ptr_nonnull(strstr(rig_stored(rig).paused_reason, "403 Forbidden"));
    rig_until(rig_status(rig).state == SPOOL_SINK_PAUSED);
    ck_assert_ptr_nonnull(strstr(rig_status(rig).paused_reason, "403 Forbidden"));
    ck_assert_uint_eq(rig_noticed(rig, SPOOL_NOTICE_SINK_PAUSED), 1);
    ck_assert_uint_eq(rig_noticed(rig, SPOOL_NOTICE_SINK_DOWN), 0);
    rig_until(rig_counter(rig, &rig->fake->closes) == 1); /* its credentials are read anew */
    rig_until(rig_stored(rig).delivered == 2);
    ck_assert_uint_eq(rig_stored(rig).retry_rows + rig_stored(rig).dead_rows, 0); /* nothing is consumed */
    ck_assert_uint_eq(rig_counter(rig, &rig->fake->batches), 1);
    set_arg(rig, 0);
    resume(rig);
    rig_until(rig_stored(rig).delivered == 10);
    ck_assert_uint_eq(rig_counter(rig, &rig->fake->opens), 2);
    ck_assert_str_eq(rig_status(rig).paused_reason, "");
    rig_free(rig);
}
END_TEST

START_TEST(the_pause_survives_a_restart)
{
    struct rig *rig = start_forbidden();
    rig_until(rig_stored(rig).paused);
    ck_ok(delivery_stop(rig->delivery, deadline_in_ms(60000)));
    delivery_free(rig->delivery);
    rig_delivery(rig);
    rig_add(rig, SPOOL_SINK_OPTIONS(FAST));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_status(rig).state == SPOOL_SINK_PAUSED);
    rig_until(strstr(rig_status(rig).paused_reason, "403 Forbidden") != NULL);
    ck_assert_uint_eq(rig_counter(rig, &rig->fake->batches), 1);
    rig_free(rig);
}
END_TEST

/* A store that refuses it for now: it rests all the same, and the pause is stored when that is possible. */
START_TEST(a_pause_that_cannot_be_stored_yet_holds)
{
    struct rig *rig = rig_new();
    rig->store->pause_error = ENOSPC;
    rig->fake->answer = forbidden;
    rig->fake->arg = 1;
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 10, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS(FAST));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_status(rig).state == SPOOL_SINK_PAUSED);
    resume(rig); /* another sink's pause, say: a change that is none of its business */
    ck_assert(!rig_stored(rig).paused);
    rig->store->pause_error = 0;
    rig_until(rig_stored(rig).paused);
    ck_assert_uint_eq(rig_counter(rig, &rig->fake->batches), 1);
    rig_free(rig);
}
END_TEST

static bool knows_of_its_pause(struct rig *rig)
{
    pthread_mutex_lock(rig->delivery->lock);
    bool paused = sink_find(rig->delivery, "s")->paused;
    pthread_mutex_unlock(rig->delivery->lock);
    return paused;
}

/* One that was down when it was paused waits no longer once it is resumed. */
START_TEST(resuming_tries_at_once)
{
    struct rig *rig = start(10, SPOOL_SINK_OPTIONS(.retry_base_ms = 3600000, .retry_cap_ms = 3600000), down_at_first);
    set_arg(rig, 1);
    rig_until(rig_status(rig).state == SPOOL_SINK_DOWN);
    pthread_mutex_lock(&rig->store->lock);
    rig->store->sinks[0].sink.paused = true;
    rig->store->control++;
    pthread_mutex_unlock(&rig->store->lock);
    delivery_wake(rig->delivery);
    rig_until(knows_of_its_pause(rig));
    resume(rig);
    rig_until(rig_stored(rig).delivered == 10);
    rig_free(rig);
}
END_TEST

/* A sink that is made of others leaves some untried, and answers 0: that costs them no attempt. */
static int leave_half(struct fake *fake, struct spool_delivery *batch, size_t n)
{
    (void)fake;
    for (size_t i = 0; i < n; i++)
        SPOOL_DELIVERY_AT(batch, i)->outcome = i < (n + 1) / 2 ? SPOOL_DELIVERED : DELIVERY_UNTRIED;
    return SPOOL_OK;
}

START_TEST(untried_costs_no_attempt)
{
    struct rig *rig = start(50, SPOOL_SINK_OPTIONS(FAST, .max_attempts = 1), leave_half);
    rig_until(rig_stored(rig).delivered == 50);
    ck_assert_uint_eq(rig_stored(rig).dead_rows + rig_stored(rig).retry_rows, 0);
    ck_assert_uint_eq(rig_seen(rig), 50);
    for (unsigned i = 0; i < 50; i++)
        ck_assert(rig->fake->seen[i] == i && rig->fake->attempts[i] == 1);
    rig_free(rig);
}
END_TEST

/* ------------------------------------------------------------------------------------------------ what may wait */

/* A sink that is paused for ever: what is too much is dropped for it, counted, told, and the rest delivered in the end. */
START_TEST(what_is_too_much_for_a_sink_is_dropped)
{
    struct rig *rig = start_forbidden(); /* two of ten are delivered, then it is paused */
    rig_until(rig_status(rig).state == SPOOL_SINK_PAUSED && rig_stored(rig).delivered == 2);
    ck_ok(delivery_sink_drop(rig->delivery, "s", deadline_in_ms(60000)));
    rig_add(rig, SPOOL_SINK_OPTIONS(FAST, .max_pending_bytes = 1 << 20));
    ck_assert_uint_eq(rig_stored(rig).max_pending_bytes, 1 << 20);
    rig_until(rig_status(rig).state == SPOOL_SINK_PAUSED);
    rig->store->overflow[LANE_MEDIUM] = 6;
    rig_until((delivery_wake(rig->delivery), rig_stored(rig).dropped == 4));
    ck_assert_uint_eq(rig_stored(rig).cursor[LANE_MEDIUM], 6);
    ck_assert_uint_eq(rig_status(rig).over_limit, 4);
    ck_assert_uint_eq(rig_noticed(rig, SPOOL_NOTICE_DROPPED), 1);
    set_arg(rig, 0);
    resume(rig);
    rig_until(rig_stored(rig).delivered == 6); /* the first two, and the last four */
    rig_free(rig);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("delivery_outage");
    TCase *tc = tcase_create("outage");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, each_change_is_told_and_seen);
    tcase_add_test(tc, some_failures_may_be_allowed);
    tcase_add_test(tc, several_probes_may_be_asked_for);
    tcase_add_test(tc, recovery_does_not_flood);
    tcase_add_loop_test(tc, what_a_filter_stops_does_not_keep_a_sink_down, 0, 2);
    tcase_add_test(tc, a_hook_that_overruns_opens_the_breaker);
    tcase_add_test(tc, a_hung_worker_does_not_keep_the_others);
    tcase_add_test(tc, a_sink_that_needs_an_operator_is_paused);
    tcase_add_test(tc, the_pause_survives_a_restart);
    tcase_add_test(tc, a_pause_that_cannot_be_stored_yet_holds);
    tcase_add_test(tc, resuming_tries_at_once);
    tcase_add_test(tc, untried_costs_no_attempt);
    tcase_add_test(tc, what_is_too_much_for_a_sink_is_dropped);
    suite_add_tcase(s, tc);
    return s;
}

CHECK_MAIN(suite)
