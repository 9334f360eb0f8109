/* test_ops_stop.c - stopping by the deadline whatever operations do; and thousands of random ones on real threads, with
 * everything that can be done to them at once. */
#include "ops_fixture.h"

static struct ops *ops;

static struct ops *make(uint32_t workers)
{
    struct ops *made;
    struct ops_options options = {.workers = workers, .bypasses_max = 4, .reporter = {.on_notice = note_told}};
    ck_ok(ops_new(&options, &made));
    return made;
}

static void begin(void)
{
    ck_ok(fork_watch());
    ops = make(2);
}

static void end(void)
{
    ck_ok(ops_stop(ops, deadline_in_ms(60000)));
    ops_free(ops);
}

static int result_of(struct probe *probe)
{
    int result = -12345;
    ck_ok(spool_op_wait(probe->op, 60000, &result));
    spool_op_free(probe->op);
    return result;
}

/* --------------------------------------------------------------------------------------------------------- stopping */

START_TEST(those_that_wait_end_and_running_ones_are_cancelled)
{
    struct probe runs = {.answer = 3}, waits = {0};
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&runs, NEEDS(ALL("x"))), &runs.op));
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&waits, NEEDS(ALL("x"))), &waits.op));
    ck_until(runs.runs == 1);
    ck_ok(ops_stop(ops, deadline_in_ms(4000))); /* after two seconds it is cancelled */
    ck_assert_uint_eq(runs.dones + waits.dones, 2);
    ck_assert_int_eq(result_of(&runs), SPOOL_ESTOPPED);
    ck_assert_int_eq(result_of(&waits), SPOOL_ESTOPPED);
    ck_assert_uint_eq(waits.runs, 0);
    ck_assert(!ops_have_hung(ops));
    ck_ok(ops_stop(ops, 0)); /* idempotent */
}
END_TEST

START_TEST(what_is_to_be_drained_still_begins)
{
    struct probe runs = {0}, drained = {.gate = true}, waits = {.gate = true};
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&runs, NEEDS(ALL("x"))), &runs.op));
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&drained, .flags = SPOOL_OP_DRAIN, NEEDS(ALL("x"))), &drained.op));
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&waits, NEEDS(ALL("x"))), &waits.op));
    ck_until(runs.runs == 1);
    ops_begin_stop(ops, deadline_in_ms(600000));
    ck_assert_int_eq(result_of(&waits), SPOOL_ESTOPPED);
    ck_code(ops_start(ops), SPOOL_EBUSY);
    runs.gate = true;
    ck_assert_int_eq(result_of(&drained), 0);
    ck_assert_int_eq(result_of(&runs), 0);
    ck_ok(ops_stop(ops, deadline_in_ms(600000)));
}
END_TEST

START_TEST(what_cannot_be_drained_by_half_time_ends_too)
{
    struct probe runs = {0}, drained = {.gate = true};
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&runs, NEEDS(ALL("x"))), &runs.op));
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&drained, .flags = SPOOL_OP_DRAIN, NEEDS(ALL("x"))), &drained.op));
    ck_ok(ops_stop(ops, deadline_in_ms(4000)));
    ck_assert_int_eq(result_of(&runs), 0); /* it was cancelled, and did return 0 */
    ck_assert_int_eq(result_of(&drained), SPOOL_ESTOPPED);
    ck_assert_uint_eq(drained.runs, 0);
}
END_TEST

START_TEST(nothing_is_taken_until_it_starts_again)
{
    struct probe probe = {.gate = true};
    ck_ok(ops_start(ops));
    ck_ok(ops_stop(ops, deadline_in_ms(60000)));
    ck_code(ops_submit(ops, &PROBE_OPTIONS(&probe), &probe.op), SPOOL_ESTOPPED);
    ck_assert_ptr_null(probe.op);
    for (unsigned round = 1; round <= 5; round++) {
        ck_ok(ops_start(ops));
        ck_ok(ops_submit(ops, &PROBE_OPTIONS(&probe), &probe.op));
        ck_assert_int_eq(result_of(&probe), 0);
        ck_ok(ops_stop(ops, deadline_in_ms(60000)));
        ck_assert_uint_eq(probe.dones, round);
    }
}
END_TEST

struct waiter {
    struct probe *probe;
    atomic_int code;
};

static void *await(void *user)
{
    struct waiter *waiter = user;
    waiter->code = spool_op_wait(waiter->probe->op, 600000, NULL);
    return NULL;
}

START_TEST(one_that_hangs_is_named_and_left_alone)
{
    struct probe deaf = {.deaf = true, .answer = 4}, later = {.gate = true}, blocked = {.gate = true};
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&deaf, .name = "deaf", NEEDS(ALL("x"))), &deaf.op));
    ck_until(deaf.runs == 1);
    struct waiter waiter = {.probe = &deaf};
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, await, &waiter), 0);
    uint64_t before = mono_ns();
    ck_code(ops_stop(ops, deadline_in_ms(200)), SPOOL_ETIMEOUT);
    ck_assert_msg(mono_ns() - before < 30000 * NS_PER_MS, "stop did not return by its deadline");
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "operation 1 \"deaf\""));
    ck_until(was_told("operation 1 \"deaf\" did not return"));
    ck_assert(ops_have_hung(ops));
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_int_eq(waiter.code, SPOOL_ESTOPPED); /* whoever waited for it is let go */
    ck_ok(ops_stop(ops, deadline_in_ms(60000)));   /* nothing else to end */
    ck_ok(ops_start(ops));                         /* it holds x, but no worker's place */
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&blocked, NEEDS(ALL("x"))), &blocked.op));
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&later), &later.op));
    ck_assert_int_eq(result_of(&later), 0);
    ck_assert_uint_eq(blocked.runs, 0);
    deaf.gate = true;
    ck_assert_int_eq(result_of(&blocked), 0);
    ck_until(!ops_have_hung(ops));
    ck_assert_uint_eq(deaf.dones, 1); /* late, and once */
    ck_assert_int_eq(result_of(&deaf), SPOOL_ESTOPPED);
}
END_TEST

/* The pool's owner has gone, when the one that hung comes back. */
START_TEST(one_that_hangs_outlives_the_pool)
{
    struct ops *other = make(1);
    struct probe deaf = {.deaf = true};
    ck_ok(ops_submit(other, &PROBE_OPTIONS(&deaf), NULL));
    ck_until(deaf.runs == 1);
    ck_code(ops_stop(other, 0), SPOOL_ETIMEOUT);
    ops_free(other);
    deaf.gate = true;
    ck_until(deaf.dones == 1);
}
END_TEST

static int stop_inside(struct spool_op *op, void *user)
{
    (void)op;
    ((struct probe *)user)->code = ops_stop(ops, deadline_in_ms(1000));
    return 0;
}

START_TEST(stopping_inside_one_is_refused)
{
    struct probe probe = {0};
    struct spool_op_options options = PROBE_OPTIONS(&probe);
    options.run = stop_inside;
    ck_ok(ops_submit(ops, &options, &probe.op));
    ck_assert_int_eq(result_of(&probe), 0);
    ck_assert_int_eq(probe.code, SPOOL_EDEADLK);
}
END_TEST

static void *stop_beside(void *user)
{
    *(atomic_int *)user = ops_stop(ops, deadline_in_ms(60000));
    return NULL;
}

START_TEST(several_may_stop_at_once)
{
    struct probe probe = {0};
    atomic_int codes[4];
    pthread_t stoppers[4];
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&probe), &probe.op));
    ck_until(probe.runs == 1);
    for (size_t i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&stoppers[i], NULL, stop_beside, &codes[i]), 0);
    ck_until(ops_submit(ops, &PROBE_OPTIONS(&probe), NULL) == SPOOL_ESTOPPED || probe.runs == 0);
    probe.gate = true;
    for (size_t i = 0; i < 4; i++) {
        ck_assert_int_eq(pthread_join(stoppers[i], NULL), 0);
        ck_ok(codes[i]);
    }
    spool_op_free(probe.op);
}
END_TEST

/* ------------------------------------------------------------------------------------------------- thousands at random
 */

enum { KINDS = 6, SUBMITTERS = 3, EACH = 1500, CAPACITY = 3 };

static struct {
    atomic_int used[KINDS]; /* amounts in use; a thousand when somebody has all of it */
    atomic_uint ran, ended, refused, wrong;
} world;

struct random_op {
    uint32_t amounts[KINDS]; /* 0: not needed; 1000: all of it */
    atomic_uint running, dones;
    bool fails;
};

/* Two of even kinds may be shared by three, odd kinds without limit. */
static int random_run(struct spool_op *op, void *user)
{
    struct random_op *r = user;
    if (atomic_fetch_add(&r->running, 1) != 0)
        atomic_fetch_add(&world.wrong, 1);
    for (size_t k = 0; k < KINDS; k++) {
        int before = atomic_fetch_add(&world.used[k], (int)r->amounts[k]);
        int most = r->amounts[k] == 1000 ? 0 : k % 2 ? 999 : CAPACITY - (int)r->amounts[k];
        if (r->amounts[k] > 0 && before > most)
            atomic_fetch_add(&world.wrong, 1);
    }
    for (volatile int spin = 0; spin < 200 && !spool_op_is_cancelled(op); spin++) {
    }
    for (size_t k = 0; k < KINDS; k++)
        atomic_fetch_sub(&world.used[k], (int)r->amounts[k]);
    atomic_fetch_add(&world.ran, 1);
    return r->fails ? 17 : 0;
}

static void random_cancel(struct spool_op *op, void *user)
{
    struct random_op *r = user;
    if (atomic_load(&r->dones) > 0 || !spool_op_is_cancelled(op))
        atomic_fetch_add(&world.wrong, 1);
}

static void random_done(struct spool_op *op, void *user, int result)
{
    struct random_op *r = user;
    bool known =
        result == 0 || result == 17 || result == ECANCELED || result == SPOOL_ETIMEOUT || result == SPOOL_ESTOPPED;
    if (!known || atomic_fetch_add(&r->dones, 1) > 0 || (result != 0 && result != 17 && !spool_op_is_cancelled(op)))
        atomic_fetch_add(&world.wrong, 1);
    atomic_fetch_add(&world.ended, 1);
}

static unsigned next_random(unsigned long *state)
{
    *state = *state * 6364136223846793005ul + 1442695040888963407ul; /* Knuth, MMIX */
    return (unsigned)(*state >> 33);
}

static int submit_random(struct random_op *r, unsigned long *state, struct spool_op **ret)
{
    static const char *const names[KINDS] = {"a", "b", "c", "d", "e", "f"};
    struct spool_op_resource needs[KINDS];
    size_t count = 0;
    for (size_t k = 0; k < KINDS; k++) {
        if (next_random(state) % 3)
            continue;
        bool all = next_random(state) % 2;
        uint32_t amount = 1 + next_random(state) % CAPACITY;
        r->amounts[k] = all ? 1000 : amount;
        needs[count++] =
            (struct spool_op_resource){names[k], all ? SPOOL_OP_EXCLUSIVE : SPOOL_OP_SHARED, all ? 0 : amount};
    }
    r->fails = next_random(state) % 8 == 0;
    struct spool_op_options options =
        SPOOL_OP_OPTIONS(.run = random_run, .cancel = random_cancel, .done = random_done, .user = r, .resources = needs,
                         .resource_count = count, .priority = (enum spool_priority)(next_random(state) % 4),
                         .deadline_ms = next_random(state) % 16 ? 0 : 1 + next_random(state) % 20,
                         .timeout_ms = next_random(state) % 16 ? 0 : 1, .overdue_ms = 1 + next_random(state) % 50,
                         .flags = next_random(state) % 2 ? SPOOL_OP_DRAIN : 0);
    return ops_submit(ops, &options, ret);
}

static void *submitter(void *user)
{
    unsigned long state = (unsigned long)user;
    static struct random_op made[SUBMITTERS][EACH];
    static atomic_uint turns;
    struct random_op *mine = made[atomic_fetch_add(&turns, 1)];
    for (size_t i = 0; i < EACH; i++) {
        struct spool_op *op = NULL;
        int code = submit_random(&mine[i], &state, &op), result = 0;
        if (code == SPOOL_ESTOPPED) {
            atomic_fetch_add(&world.refused, 1);
            continue;
        }
        unsigned dice = next_random(&state) % 8;
        if (code != SPOOL_OK || (dice == 0 && spool_op_cancel(op) != SPOOL_OK) ||
            (dice < 3 && spool_op_wait(op, 600000, &result) != SPOOL_OK) ||
            (dice < 3 && atomic_load(&mine[i].dones) != 1))
            atomic_fetch_add(&world.wrong, 1);
        spool_op_free(op);
    }
    return NULL;
}

static int count_one(void *user, const struct spool_op_info *info)
{
    ++*(unsigned *)user;
    return info->id == 0;
}

/* Submitted, awaited, cancelled, timed out, listed and (in half of the rounds) stopped and started, all at once: nobody
 * has more than there is, nobody runs twice, everybody ends once, nobody waits for ever. */
static void all_at_once(bool stops)
{
    pthread_t submitters[SUBMITTERS];
    unsigned long seed = test_seed(20261126);
    memset(&world, 0, sizeof world);
    for (size_t k = 0; k < KINDS; k += 2)
        ck_ok(ops_set_capacity(ops, (char[]){(char)('a' + (int)k), 0}, CAPACITY));
    for (unsigned long i = 0; i < SUBMITTERS; i++)
        ck_assert_int_eq(pthread_create(&submitters[i], NULL, submitter, (void *)(seed * 31 + i + stops)), 0);
    while (atomic_load(&world.ended) + atomic_load(&world.refused) < SUBMITTERS * EACH) {
        unsigned listed = 0;
        ck_ok(ops_each(ops, count_one, &listed));
        if (stops) {
            ck_ok(ops_stop(ops, deadline_in_ms(600000)));
            ck_ok(ops_start(ops));
        }
        usleep(1000);
    }
    for (size_t i = 0; i < SUBMITTERS; i++)
        ck_assert_int_eq(pthread_join(submitters[i], NULL), 0);
    ck_ok(ops_stop(ops, deadline_in_ms(600000)));
    ck_assert_uint_eq(world.wrong, 0);
    ck_assert_uint_eq(world.ended + world.refused, SUBMITTERS * EACH);
    ck_assert_uint_gt(world.ran, 0);
}

START_TEST(thousands_of_random_ones_all_end)
{
    all_at_once(false);
    ck_assert_uint_eq(world.refused, 0);
    ck_assert_uint_gt(world.ran, SUBMITTERS * EACH / 2);
}
END_TEST

START_TEST(also_while_it_is_stopped_and_started)
{
    all_at_once(true);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ops_stop");
    TCase *t = tcase_create("ops_stop");
    tcase_add_checked_fixture(t, begin, end);
    tcase_set_timeout(t, 600);
    tcase_add_test(t, those_that_wait_end_and_running_ones_are_cancelled);
    tcase_add_test(t, what_is_to_be_drained_still_begins);
    tcase_add_test(t, what_cannot_be_drained_by_half_time_ends_too);
    tcase_add_test(t, nothing_is_taken_until_it_starts_again);
    tcase_add_test(t, one_that_hangs_is_named_and_left_alone);
    tcase_add_test(t, one_that_hangs_outlives_the_pool);
    tcase_add_test(t, stopping_inside_one_is_refused);
    tcase_add_test(t, several_may_stop_at_once);
    tcase_add_test(t, thousands_of_random_ones_all_end);
    tcase_add_test(t, also_while_it_is_stopped_and_started);
    suite_add_tcase(s, t);
    return s;
}
CHECK_MAIN(suite)
