/* test_delivery_checkpoint.c - sinks that store our checkpoint, when making one fails; events that grow too old while
 * they are tried again; and a delivery that a forked child inherits. */
#include <limits.h>
#include <sys/wait.h>

#include "fake_sink.h"

/* --------------------------------------------------------------------------------------------------------- checkpoints
 */

/* A sink with checkpoints: how many events it had when it was asked. */
struct keeper {
    struct fake *fake;
    unsigned asked, fail_from, fail_to; /* which calls fail: [from, to) */
    unsigned durable;                   /* events: how far the last good one reached */
};
static struct keeper keeper; /* keeper.fake->lock */

static int keeper_open(void **ret_state, void *user, const char *config, const void *checkpoint, size_t size)
{
    struct fake *fake = user;
    unsigned kept = 0;
    if (size == sizeof kept)
        memcpy(&kept, checkpoint, sizeof kept);
    pthread_mutex_lock(&fake->lock);
    fake->count = kept; /* what was not acknowledged is cut off, as the file sink does */
    pthread_mutex_unlock(&fake->lock);
    return fake_open(ret_state, user, config, checkpoint, size);
}

static size_t keeper_checkpoint(void *state, void *buf, size_t cap)
{
    struct fake *fake = state;
    ck_assert_uint_ge(cap, sizeof keeper.durable);
    pthread_mutex_lock(&fake->lock);
    bool fails = keeper.asked >= keeper.fail_from && keeper.asked < keeper.fail_to;
    keeper.asked++;
    if (!fails) {
        keeper.durable = (unsigned)fake->count;
        memcpy(buf, &keeper.durable, sizeof keeper.durable);
    }
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->lock);
    if (fails)
        spool_sink_error(SPOOL_EUNAVAILABLE, "cannot flush over there");
    return fails ? SIZE_MAX : sizeof keeper.durable;
}

static struct rig *start_keeper(unsigned fail_from, unsigned fail_to)
{
    struct rig *rig = rig_new();
    struct spool_sink hooks = fake_hooks;
    hooks.open = keeper_open;
    hooks.checkpoint = keeper_checkpoint;
    keeper = (struct keeper){.fake = rig->fake, .fail_from = fail_from, .fail_to = fail_to};
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 30, 0, real_ns());
    struct spool_sink_options options =
        SPOOL_SINK_OPTIONS(.user = rig->fake, .batch_events_max = 10, .retry_base_ms = 1, .retry_cap_ms = 2);
    ck_ok(delivery_sink_add(rig->delivery, "s", &hooks, NULL, &options));
    ck_ok(delivery_start(rig->delivery));
    return rig;
}

/* _i: the first call that fails: the one before any event, or the first one after. (How many follow is a matter of
 * time.) */
START_TEST(a_failed_checkpoint_delivers_again_and_loses_nothing)
{
    struct rig *rig = start_keeper((unsigned)_i, (unsigned)_i + 3);
    rig_until(rig_stored(rig).delivered == 30);
    ck_assert_uint_eq(rig_stored(rig).cursor[LANE_MEDIUM], 30);
    ck_ok(delivery_stop(rig->delivery, deadline_in_ms(60000)));
    ck_assert_uint_gt(keeper.asked, (unsigned)_i + 3);
    ck_assert_uint_eq(rig_seen(rig), 30); /* each once, as far as the sink kept it */
    for (unsigned i = 0; i < 30; i++)
        ck_assert_uint_eq(rig->fake->seen[i], i);
    ck_assert_uint_eq(rig_noticed(rig, SPOOL_NOTICE_SINK_DOWN), rig_noticed(rig, SPOOL_NOTICE_SINK_UP));
    ck_assert_uint_ge(rig_noticed(rig, SPOOL_NOTICE_SINK_DOWN), 1);
    rig_free(rig);
}
END_TEST

START_TEST(without_a_checkpoint_nothing_is_acknowledged)
{
    struct rig *rig = start_keeper(1, UINT_MAX);
    rig_until(rig_counter(rig, &keeper.asked) > 5);
    ck_assert_uint_eq(rig_stored(rig).delivered, 0);
    ck_assert_uint_eq(rig_stored(rig).cursor[LANE_MEDIUM], 0);
    ck_assert_ptr_nonnull(strstr(rig_status(rig).last_error, "cannot flush over there"));
    pthread_mutex_lock(&rig->fake->lock);
    keeper.fail_to = 0;
    pthread_mutex_unlock(&rig->fake->lock);
    rig_until(rig_stored(rig).delivered == 30);
    rig_free(rig);
}
END_TEST

/* ----------------------------------------------------------------------------------------------------------------- age
 */

static int never(struct fake *fake, struct spool_delivery *batch, size_t n)
{
    (void)fake;
    for (size_t i = 0; i < n; i++)
        spool_delivery_fail(SPOOL_DELIVERY_AT(batch, i), SPOOL_RETRY, "not today");
    return SPOOL_OK;
}

START_TEST(events_that_grow_too_old_end_as_dead_letters)
{
    struct rig *rig = rig_new();
    rig->fake->answer = never;
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 5, 0, real_ns() - 3600 * 1000 * NS_PER_MS);
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 5, 5, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS(.max_age_ms = 1800 * 1000, .retry_base_ms = 1, .retry_cap_ms = 2));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_stored(rig).dead_rows == 5);
    rig_until(rig_stored(rig).retry_rows == 5);
    const struct store_retry *row = &rig->store->sinks[0].dead[0].row;
    ck_assert_uint_eq(row->attempts, 1); /* it was tried */
    ck_assert_ptr_nonnull(strstr(row->reason, "max_age"));
    ck_assert_ptr_nonnull(strstr(row->reason, "not today"));
    ck_ok(delivery_stop(rig->delivery, deadline_in_ms(60000)));
    ck_assert_uint_eq(rig_stored(rig).dead_rows, 5); /* the young ones are tried on */
    rig_free(rig);
}
END_TEST

/* ---------------------------------------------------------------------------------------------------------------- fork
 */

/* Threads of the parent are in the middle of everything, and not there. */
START_TEST(a_child_gives_back_what_it_inherited)
{
    struct rig *rig = rig_new();
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 1000, 0, real_ns());
    rig->fake->answer = never;
    rig_add(rig, SPOOL_SINK_OPTIONS(.batch_events_max = 10, .retry_base_ms = 1, .retry_cap_ms = 2));
    ck_ok(delivery_start(rig->delivery));
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(30);
            delivery_abandon(rig->delivery);
            _exit(7);
        }
        int status;
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 7, "status %x", status);
    }
    rig->fake->answer = NULL;
    rig_until(rig_stored(rig).delivered == 1000);
    rig_free(rig);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("delivery_checkpoint");
    TCase *tc = tcase_create("checkpoint");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, a_failed_checkpoint_delivers_again_and_loses_nothing, 0, 2);
    tcase_add_test(tc, without_a_checkpoint_nothing_is_acknowledged);
    tcase_add_test(tc, events_that_grow_too_old_end_as_dead_letters);
    tcase_add_forking_test(tc, a_child_gives_back_what_it_inherited);
    suite_add_tcase(s, tc);
    return s;
}

CHECK_MAIN(suite)
