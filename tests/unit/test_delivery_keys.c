/* test_delivery_keys.c - a sink that takes events by agent with several workers: agents side by side, each agent's events
 * one after another, whatever fails. Against a model, on real threads. */
#include "fake_sink.h"

#include "../../delivery/keys.h"

enum { EVENTS = 3000, AGENTS = 24, WORKERS = 4 };

/* --------------------------------------------------------------------------------------------------------- the sink */

/* What is known of each event, under the sink's lock. */
static struct {
    unsigned key; /* agent, 0: none */
    unsigned place;
    int lane;
    bool resolved;
} model[EVENTS];
static unsigned last_place[AGENTS][LANES]; /* of those resolved, + 1 */
static unsigned in_hand[AGENTS];           /* calls that have one of the agent: never more than 1 */
static unsigned inside, most_inside, broken, together, unwanted;
static bool lossy, calm;
static const char *filter; /* NULL, or one that stops the events of is_stopped() */
static const char stops_some[] = "{\"exclude\":{\"agent\":[\"agent-?\",\"\"]}}";

static bool is_stopped(unsigned key)
{
    return filter && key < 10;
}

/* Sets down that the call has these; what is wrong with that is counted. */
static void enter_sink(const struct spool_delivery *batch, size_t n)
{
    bool mine[AGENTS] = {false};
    most_inside = ++inside > most_inside ? inside : most_inside;
    for (size_t i = 0; i < n; i++) {
        unsigned number = fake_number(&batch[i]), key = model[number].key;
        unwanted += is_stopped(key);
        if (key == 0)
            continue;
        together += !mine[key] && in_hand[key] > 0;
        in_hand[key] += !mine[key];
        mine[key] = true;
    }
}

static void leave_sink(const struct spool_delivery *batch, size_t n)
{
    bool mine[AGENTS] = {false};
    inside--;
    for (size_t i = 0; i < n; i++) {
        unsigned key = model[fake_number(&batch[i])].key;
        in_hand[key] -= key != 0 && !mine[key];
        mine[key] = true;
    }
}

/* All before it of its agent and lane are over, or were just taken in this call. */
static void check_place(unsigned number)
{
    unsigned *last = &last_place[model[number].key][model[number].lane];
    broken += model[number].key != 0 && model[number].place > *last;
}

static void resolve_event(unsigned number)
{
    unsigned *last = &last_place[model[number].key][model[number].lane];
    model[number].resolved = true;
    if (model[number].place + 1 > *last)
        *last = model[number].place + 1;
}

static int answer_by_agent(struct fake *fake, struct spool_delivery *batch, size_t n)
{
    bool held[AGENTS] = {false};
    for (size_t i = 0; i < n; i++) {
        unsigned number = fake_number(&batch[i]), key = model[number].key, dice = (unsigned)rand_r(&fake->arg) % 40;
        if (held[key])
            continue; /* it takes nothing of an agent behind what it did not take */
        check_place(number);
        if (dice == 0 && !calm)
            return spool_sink_error(SPOOL_EUNAVAILABLE, "dice");
        if (dice == 1 && !calm) {
            spool_delivery_fail(&batch[i], SPOOL_RETRY, "dice");
            held[key] = key != 0;
            continue;
        }
        batch[i].outcome = dice == 2 && !calm ? SPOOL_REJECTED : SPOOL_DELIVERED;
        resolve_event(number);
    }
    return SPOOL_OK;
}

/* Others get in between entering and answering. */
static int deliver_slowly(void *state, struct spool_delivery *batch, size_t n)
{
    struct fake *fake = state;
    pthread_mutex_lock(&fake->lock);
    fake->batches++;
    enter_sink(batch, n);
    pthread_mutex_unlock(&fake->lock);
    sched_yield();
    pthread_mutex_lock(&fake->lock);
    int code = answer_by_agent(fake, batch, n);
    for (size_t i = 0; i < n; i++)
        if (batch[i].outcome == SPOOL_DELIVERED)
            fake_record(fake, &batch[i]);
    leave_sink(batch, n);
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->lock);
    return code;
}

static const char *agent_name(unsigned key, char text[16])
{
    snprintf(text, 16, "agent-%u", key);
    return key > 0 ? text : NULL;
}

/* Two lanes; an event of each agent now and then, in blocks of few. */
static void fill_store(struct store *store, unsigned *random)
{
    unsigned places[AGENTS][LANES] = {{0}};
    for (unsigned number = 0; number < EVENTS;) {
        char text[16];
        unsigned n = 1 + (unsigned)rand_r(random) % 3, key = (unsigned)rand_r(random) % AGENTS;
        bool low = rand_r(random) % 4 == 0;
        int lane = low ? LANE_LOW : LANE_HIGH;
        n = n < EVENTS - number ? n : EVENTS - number;
        fake_commit(store, low ? SPOOL_LOW : SPOOL_HIGH, agent_name(key, text), number, n, 0, real_ns());
        for (unsigned i = 0; i < n; i++, number++) {
            model[number].key = key;
            model[number].lane = lane;
            model[number].resolved = is_stopped(key);
            model[number].place = places[key][lane]++;
        }
    }
}

/* ---------------------------------------------------------------------------------------------------------- the runs */

static struct spool_sink hooks_with(int (*hook)(void *, struct spool_delivery *, size_t))
{
    struct spool_sink hooks = fake_hooks;
    hooks.deliver = hook;
    return hooks;
}

static struct rig *keys_rig(void)
{
    struct rig *rig = rig_new();
    struct delivery_options options = {.workers = WORKERS, .clock = rig->clock, .seed = 1};
    delivery_free(rig->delivery);
    ck_ok(delivery_new(rig->store, &options, &rig->delivery));
    return rig;
}

static void keys_add(struct rig *rig, int (*hook)(void *, struct spool_delivery *, size_t),
                     struct spool_sink_options options)
{
    struct spool_sink hooks = hooks_with(hook);
    options.user = rig->fake;
    options.order = SPOOL_ORDER_AGENT;
    ck_ok(delivery_sink_add(rig->delivery, "s", &hooks, NULL, &options));
}

static struct spool_sink_options random_options(unsigned *random)
{
    return SPOOL_SINK_OPTIONS(.workers = 2 + (unsigned)rand_r(random) % (WORKERS - 1), .retry_base_ms = 1,
                              .retry_cap_ms = 1, .batch_events_max = 1 + (unsigned)rand_r(random) % 60,
                              .filter = filter);
}

static bool all_over(struct rig *rig)
{
    delivery_wake(rig->delivery);
    struct store_sink stored = rig_stored(rig);
    uint64_t left = stored.retry_rows;
    for (int lane = 0; lane < LANES; lane++)
        left += rig->store->next[lane] - stored.cursor[lane] + stored.range_count[lane];
    return left == 0;
}

/* Each event that the filter stops is counted, and again when a restart has lost that it was over. */
static void check_stopped(struct rig *rig, unsigned seed)
{
    unsigned stopped = 0;
    for (unsigned number = 0; number < EVENTS; number++)
        stopped += is_stopped(model[number].key);
    uint64_t counted = rig_stored(rig).filtered;
    ck_assert_msg(counted >= stopped, "seed %u: %llu events are counted as filtered of %u", seed,
                  (unsigned long long)counted, stopped);
    ck_assert_msg(unwanted == 0, "seed %u: %u events came that the filter stops", seed, unwanted);
}

static unsigned resolved(struct rig *rig)
{
    unsigned n = 0;
    pthread_mutex_lock(&rig->fake->lock);
    for (unsigned i = 0; i < EVENTS; i++)
        n += model[i].resolved;
    pthread_mutex_unlock(&rig->fake->lock);
    return n;
}

/* A process ends, and another goes on. What was answered last may not have been stored: then places come again. */
static void restart_with(struct rig *rig, unsigned *random, int (*hook)(void *, struct spool_delivery *, size_t))
{
    int ack_error = lossy && rand_r(random) % 2 ? EIO : 0;
    struct delivery_options options = {.workers = WORKERS, .clock = rig->clock, .seed = 1 + (unsigned)rand_r(random)};
    pthread_mutex_lock(&rig->store->lock);
    rig->store->ack_error = ack_error;
    pthread_mutex_unlock(&rig->store->lock);
    int code = delivery_stop(rig->delivery, deadline_in_ms(ack_error ? 100 : 10000));
    ck_assert(code == SPOOL_OK || (lossy && (code == EIO || code == SPOOL_ETIMEOUT)));
    delivery_free(rig->delivery);
    pthread_mutex_lock(&rig->store->lock);
    rig->store->ack_error = 0;
    for (size_t i = 0; i < FAKE_ROWS; i++)
        rig->store->sinks[0].retries[i].row.due_ns = 0;
    pthread_mutex_unlock(&rig->store->lock);
    ck_ok(delivery_new(rig->store, &options, &rig->delivery));
    keys_add(rig, hook, random_options(random));
    ck_ok(delivery_start(rig->delivery));
}

static void run_keys(unsigned seed)
{
    struct rig *rig = keys_rig();
    unsigned random = seed;
    memset(model, 0, sizeof model);
    memset(last_place, 0, sizeof last_place);
    memset(in_hand, 0, sizeof in_hand);
    inside = most_inside = broken = together = unwanted = 0;
    fill_store(rig->store, &random);
    rig->fake->arg = seed;
    keys_add(rig, deliver_slowly, random_options(&random));
    ck_ok(delivery_start(rig->delivery));
    for (unsigned part = 1; part < 4; part++) {
        rig_until(resolved(rig) >= EVENTS * part / 4);
        restart_with(rig, &random, deliver_slowly);
    }
    rig_until(all_over(rig));
    ck_assert_msg(together == 0, "seed %u: %u times two workers had events of one agent", seed, together);
    ck_assert_msg(broken == 0, "seed %u: %u events came before one of their agent", seed, broken);
    ck_assert_uint_eq(resolved(rig), EVENTS);
    ck_assert_msg(most_inside > 1, "seed %u: never two workers at once", seed);
    check_stopped(rig, seed);
    rig_free(rig);
}

START_TEST(events_of_an_agent_come_in_order_beside_those_of_others)
{
    unsigned seed = (unsigned)test_seed(20261126);
    lossy = _i % 2 > 0;
    filter = _i / 2 > 0 ? stops_some : NULL;
    calm = false;
    for (unsigned i = 0; i < 3; i++)
        run_keys(seed + i);
    filter = NULL;
}
END_TEST

/* ------------------------------------------------------------------------------------------------------ one that waits */

enum { LINGERING = 60, BY_TURNS = 20, LONG_MS = 3600 * 1000 };

static void commit_by_turns(struct rig *rig, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        char text[16];
        fake_commit(rig->store, SPOOL_MEDIUM, agent_name(1 + i % BY_TURNS, text), i, 1, 0, real_ns());
        delivery_wake(rig->delivery);
    }
}

static bool has_begun_to_linger(struct rig *rig)
{
    pthread_mutex_lock(rig->delivery->lock);
    const struct sink *sink = sink_find(rig->delivery, "s");
    bool begun = sink->linger_since_ns[LANE_MEDIUM] > 0;
    pthread_mutex_unlock(rig->delivery->lock);
    return begun;
}

/* Events come one by one. When there is a batch of them, the agents are shared out among the workers, and all leave. */
START_TEST(a_batch_of_agents_waits_for_more)
{
    struct rig *rig = keys_rig();
    keys_add(rig, fake_deliver,
             SPOOL_SINK_OPTIONS(.workers = WORKERS, .batch_events_max = LINGERING, .linger_ms = LONG_MS));
    ck_ok(delivery_start(rig->delivery));
    commit_by_turns(rig, 0, 1);
    rig_until(has_begun_to_linger(rig));
    commit_by_turns(rig, 1, LINGERING - 1);
    ck_assert_uint_eq(rig_counter(rig, &rig->fake->batches), 0);
    commit_by_turns(rig, LINGERING - 1, LINGERING);
    rig_until(rig_all_ended(rig, LINGERING));
    ck_assert_uint_le(rig_counter(rig, &rig->fake->batches), BY_TURNS); /* of no agent two */
    rig_free(rig);
}
END_TEST

START_TEST(agents_that_do_not_fill_a_batch_leave_in_time)
{
    struct rig *rig = keys_rig();
    keys_add(rig, fake_deliver, SPOOL_SINK_OPTIONS(.workers = WORKERS, .batch_events_max = LINGERING, .linger_ms = 20));
    ck_ok(delivery_start(rig->delivery));
    commit_by_turns(rig, 0, LINGERING - 1);
    rig_until(rig_all_ended(rig, LINGERING - 1));
    rig_free(rig);
}
END_TEST

/* ------------------------------------------------------------------------------------------------------ one that hangs */

/* Events 0 to 10 are of the agent whose events hang until they are let go. */
static int hang_on_the_first(void *state, struct spool_delivery *batch, size_t n)
{
    struct fake *fake = state;
    pthread_mutex_lock(&fake->lock);
    fake->batches++;
    bool first = fake_number(&batch[0]) <= 10;
    for (size_t i = 1; i < n; i++)
        broken += first != (fake_number(&batch[i]) <= 10); /* they take no other agent along */
    while (first && fake->block)
        pthread_cond_wait(&fake->changed, &fake->lock);
    for (size_t i = 0; i < n; i++) {
        batch[i].outcome = SPOOL_DELIVERED;
        fake_record(fake, &batch[i]);
    }
    pthread_mutex_unlock(&fake->lock);
    return SPOOL_OK;
}

/* The other agent's are taken until KEY_AHEAD_MAX events of the log are behind the first that is not taken yet. */
START_TEST(an_agent_that_hangs_does_not_stop_the_others)
{
    struct rig *rig = keys_rig();
    const unsigned events = 11 + 90 * 300;
    broken = 0;
    rig->fake->block = true;
    fake_commit(rig->store, SPOOL_MEDIUM, "hangs", 0, 11, 0, real_ns());
    for (unsigned at = 11; at < events; at += 90)
        fake_commit(rig->store, SPOOL_MEDIUM, "other", at, 90, 0, real_ns());
    keys_add(rig, hang_on_the_first, SPOOL_SINK_OPTIONS(.workers = 2, .batch_events_max = 10));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_seen(rig) == KEY_AHEAD_MAX - 1);
    ck_assert_uint_eq(rig_stored(rig).cursor[LANE_MEDIUM], 0);
    ck_assert_uint_eq(broken, 0);
    fake_set_block(rig->fake, false);
    rig_until(rig_all_ended(rig, events));
    rig_free(rig);
}
END_TEST

/* ------------------------------------------------------------------------------------------------------ a clean stop */

enum { SCATTERED = 4000 };

/* The first event hangs until it is let go. */
static int hang_on_number_0(void *state, struct spool_delivery *batch, size_t n)
{
    struct fake *fake = state;
    pthread_mutex_lock(&fake->lock);
    while (fake_number(&batch[0]) == 0 && fake->block)
        pthread_cond_wait(&fake->changed, &fake->lock);
    for (size_t i = 0; i < n; i++) {
        batch[i].outcome = SPOOL_DELIVERED;
        fake_record(fake, &batch[i]);
    }
    pthread_mutex_unlock(&fake->lock);
    return SPOOL_OK;
}

static void *stop_it(void *delivery)
{
    ck_ok(delivery_stop(delivery, deadline_in_ms(60000)));
    return NULL;
}

static bool is_stopping(struct rig *rig)
{
    pthread_mutex_lock(rig->delivery->lock);
    bool stopping = rig->delivery->stopping;
    pthread_mutex_unlock(rig->delivery->lock);
    return stopping;
}

static size_t gaps_of(struct rig *rig)
{
    pthread_mutex_lock(rig->delivery->lock);
    size_t gaps = sink_find(rig->delivery, "s")->windows[LANE_MEDIUM].count;
    pthread_mutex_unlock(rig->delivery->lock);
    return gaps;
}

/* One agent of 20 hangs, and the others are 4,000 events further: more gaps than can be stored. A stop fills them before
 * it ends, so that after it nothing comes again. */
START_TEST(a_clean_stop_repeats_nothing)
{
    struct rig *rig = keys_rig();
    pthread_t stopper;
    rig->fake->block = true;
    for (unsigned i = 0; i < SCATTERED; i++) {
        char text[16];
        fake_commit(rig->store, SPOOL_MEDIUM, agent_name(1 + i % 20, text), i, 1, 0, real_ns());
    }
    keys_add(rig, hang_on_number_0, SPOOL_SINK_OPTIONS(.workers = 4, .batch_events_max = 50));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_seen(rig) > SCATTERED / 2 && gaps_of(rig) > STORE_RANGES_MAX);
    ck_assert_int_eq(pthread_create(&stopper, NULL, stop_it, rig->delivery), 0);
    rig_until(is_stopping(rig));
    fake_set_block(rig->fake, false);
    pthread_join(stopper, NULL);
    size_t before = rig_seen(rig);
    struct store_sink stored = rig_stored(rig);
    ck_assert_uint_le(stored.range_count[LANE_MEDIUM], STORE_RANGES_MAX);
    ck_assert_uint_eq(stored.delivered, before);
    lossy = false;
    restart_with(rig, &(unsigned){1}, hang_on_number_0);
    rig_until(rig_all_ended(rig, SCATTERED));
    ck_assert_uint_eq(rig_seen(rig), SCATTERED);
    rig_free(rig);
}
END_TEST

/* ----------------------------------------------------------------------------------------------- those behind a failure */

static unsigned calls_after; /* calls that had one of events 1 to 99 when 0 was over */

static int fail_the_first(struct fake *fake, struct spool_delivery *batch, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned number = fake_number(&batch[i]);
        if (number == 0 && fake->arg-- > 0) {
            spool_delivery_fail(&batch[i], SPOOL_RETRY, "not yet");
            return SPOOL_OK;
        }
        batch[i].outcome = SPOOL_DELIVERED;
    }
    calls_after += n > 0 && fake_number(&batch[0]) > 0;
    return SPOOL_OK;
}

/* Events that came while one of their key failed go in one batch when it is over, and were not tried before. */
START_TEST(those_parked_behind_one_come_together)
{
    struct rig *rig = rig_new();
    rig->fake->answer = fail_the_first;
    rig->fake->arg = 3;
    calls_after = 0;
    fake_commit(rig->store, SPOOL_MEDIUM, "a", 0, 1, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS(.order = _i ? SPOOL_ORDER_LANE : SPOOL_ORDER_AGENT, .retry_base_ms = 400,
                                    .retry_cap_ms = 400));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_stored(rig).retry_rows == 1);
    fake_commit(rig->store, SPOOL_MEDIUM, "a", 1, 99, 0, real_ns());
    delivery_wake(rig->delivery);
    rig_until(rig_all_ended(rig, 100));
    for (unsigned i = 0; i < 100; i++) {
        ck_assert_uint_eq(rig->fake->seen[i], i);
        ck_assert_uint_eq(rig->fake->attempts[i], i > 0 ? 1 : 4);
    }
    ck_assert_uint_le(calls_after, 2); /* some may be parked only then */
    rig_free(rig);
}
END_TEST

/* ------------------------------------------------------------------------------------------------------ who waits */

static bool waits_as_published(struct rig *rig, const char *waits_for)
{
    struct delivery_report report;
    pthread_mutex_lock(&rig->store->lock);
    int code = delivery_report_read(rig->store->published, rig->store->published_size, &report);
    pthread_mutex_unlock(&rig->store->lock);
    delivery_wake(rig->delivery);
    return code == SPOOL_OK && strcmp(report.status.waits_for, waits_for) == 0;
}

/* While an operation has what its batch needs, the sink says so here and to other processes. */
START_TEST(what_a_batch_waits_for_is_told)
{
    static const char waits[] = "gpu, held by operation 1";
    struct rig *rig = rig_new();
    struct op_core *operations = &rig->delivery->scheduler->operations;
    struct op_need need_gpu = {.amount = 0};
    struct op_task holder = {.needs = &need_gpu,
                             .need_count = 1,
                             .deadline_ns = DEADLINE_NEVER,
                             .timeout_ns = DEADLINE_NEVER,
                             .overdue_ns = DEADLINE_NEVER};
    pthread_mutex_lock(rig->delivery->lock);
    ck_ok(op_core_hold(operations, "gpu", &need_gpu.resource));
    ck_ok(op_core_submit(operations, &holder, mono_ns()));
    ck_assert_ptr_eq(op_core_grant(operations, mono_ns()), &holder);
    pthread_mutex_unlock(rig->delivery->lock);
    rig_add(rig, SPOOL_SINK_OPTIONS(.resources = "gpu*2, other"));
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 5, 0, real_ns());
    ck_ok(delivery_start(rig->delivery));
    rig_until(strcmp(rig_status(rig).waits_for, waits) == 0);
    rig_until(waits_as_published(rig, waits));
    ck_assert_uint_eq(rig_seen(rig), 0);
    pthread_mutex_lock(rig->delivery->lock);
    op_core_complete(operations, &holder);
    op_core_let_go(operations, need_gpu.resource);
    pthread_mutex_unlock(rig->delivery->lock);
    rig_until(rig_seen(rig) == 5);
    rig_until(waits_as_published(rig, ""));
    ck_assert_str_eq(rig_status(rig).waits_for, "");
    rig_free(rig);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("delivery_keys");
    TCase *tc = tcase_create("keys");
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, events_of_an_agent_come_in_order_beside_those_of_others, 0, 4);
    tcase_add_test(tc, a_batch_of_agents_waits_for_more);
    tcase_add_test(tc, agents_that_do_not_fill_a_batch_leave_in_time);
    tcase_add_test(tc, an_agent_that_hangs_does_not_stop_the_others);
    tcase_add_test(tc, a_clean_stop_repeats_nothing);
    tcase_add_loop_test(tc, those_parked_behind_one_come_together, 0, 2);
    tcase_add_test(tc, what_a_batch_waits_for_is_told);
    suite_add_tcase(s, tc);
    return s;
}

CHECK_MAIN(suite)
