/* test_delivery_order.c - order by key against a model, with random failures and restarts; and what the priorities of
 * lanes promise: the critical overtake a backlog, and nobody starves under them. */
#include "fake_sink.h"

enum { EVENTS = 600, AGENTS = 5 };

/* What is known of each event; guarded by the sink's lock while delivery runs. */
static struct {
    unsigned key;   /* agent, 0: none */
    unsigned place; /* in its lane */
    int lane;
    bool resolved; /* accepted or refused at least once */
    unsigned presented;
} model[EVENTS];
static enum spool_order order;
static unsigned victim, broken, restarts; /* victim: fails until everything that does not depend on it is resolved */
static bool lossy;

/* Must `b` wait for `a`? */
static bool depends(unsigned b, unsigned a)
{
    bool same =
        order == SPOOL_ORDER_LANE || (order == SPOOL_ORDER_AGENT && model[a].key && model[a].key == model[b].key);
    return same && model[a].lane == model[b].lane && model[a].place < model[b].place;
}

static bool others_are_resolved(void)
{
    for (unsigned i = 0; i < EVENTS; i++)
        if (i != victim && !depends(i, victim) && !model[i].resolved)
            return false;
    return true;
}

/* An event comes only when all before it of its key are over, or beside them in one batch. */
static void check_presented(struct spool_delivery *batch, size_t i)
{
    unsigned number = fake_number(SPOOL_DELIVERY_AT(batch, i));
    model[number].presented++;
    for (unsigned before = 0; before < EVENTS; before++) {
        bool beside = false;
        for (size_t k = 0; k < i; k++)
            beside |= fake_number(SPOOL_DELIVERY_AT(batch, k)) == before;
        if (depends(number, before) && !model[before].resolved && !beside)
            broken++;
    }
}

/* What a sink with an order does: it takes nothing of a key behind one that it did not take. */
static bool may_take(struct spool_delivery *batch, size_t i)
{
    for (size_t k = 0; k < i; k++) {
        struct spool_delivery *before = SPOOL_DELIVERY_AT(batch, k);
        if (depends(fake_number(SPOOL_DELIVERY_AT(batch, i)), fake_number(before)) && before->outcome == SPOOL_RETRY)
            return false;
    }
    return true;
}

static int answer_in_order(struct fake *fake, struct spool_delivery *batch, size_t n)
{
    for (size_t i = 0; i < n; i++)
        check_presented(batch, i);
    for (size_t i = 0; i < n; i++) {
        struct spool_delivery *delivery = SPOOL_DELIVERY_AT(batch, i);
        unsigned number = fake_number(delivery), dice = (unsigned)rand_r(&fake->arg) % 24;
        if (!may_take(batch, i))
            continue;
        if (number == victim && !others_are_resolved()) {
            spool_delivery_fail(delivery, SPOOL_RETRY, "the victim");
        } else if (dice == 0) {
            return spool_sink_error(SPOOL_EUNAVAILABLE, "dice");
        } else if (dice == 1) {
            spool_delivery_fail(delivery, SPOOL_RETRY, "dice");
        } else {
            delivery->outcome = dice == 2 ? SPOOL_REJECTED : SPOOL_DELIVERED;
            model[number].resolved = true;
        }
    }
    return SPOOL_OK;
}

/* Two lanes; each block is of one agent. */
static void fill_store(struct store *store, unsigned *random)
{
    static const char *const agents[AGENTS] = {NULL, "a", "b", "c", "d"};
    unsigned places[LANES] = {0};
    for (unsigned number = 0; number < EVENTS;) {
        unsigned n = 1 + (unsigned)rand_r(random) % 5, key = (unsigned)rand_r(random) % AGENTS;
        bool low = rand_r(random) % 2;
        n = n < EVENTS - number ? n : EVENTS - number;
        fake_commit(store, low ? SPOOL_LOW : SPOOL_HIGH, agents[key], number, n, 0, real_ns());
        for (unsigned i = 0; i < n; i++, number++) {
            model[number].key = key;
            model[number].lane = low ? LANE_LOW : LANE_HIGH;
            model[number].place = places[model[number].lane]++;
        }
    }
}

static struct spool_sink_options random_options(unsigned *random)
{
    return SPOOL_SINK_OPTIONS(.order = order, .workers = order == SPOOL_ORDER_NONE ? 3 : 1, .retry_base_ms = 1,
                              .retry_cap_ms = 1, .batch_events_max = 1 + (unsigned)rand_r(random) % 30);
}

static void set_ack_error(struct rig *rig, int code)
{
    pthread_mutex_lock(&rig->store->lock);
    rig->store->ack_error = code;
    pthread_mutex_unlock(&rig->store->lock);
}

/* A process ends, and another goes on. What was answered last may not have been stored. */
static void restart(struct rig *rig, unsigned *random)
{
    int ack_error = lossy && rand_r(random) % 2 ? EIO : 0;
    set_ack_error(rig, ack_error);
    int code = delivery_stop(rig->delivery, deadline_in_ms(ack_error ? 100 : 10000));
    ck_assert(code == SPOOL_OK || (lossy && (code == EIO || code == SPOOL_ETIMEOUT)));
    delivery_free(rig->delivery);
    pthread_mutex_lock(&rig->store->lock);
    rig->store->ack_error = 0;
    for (size_t i = 0; i < FAKE_ROWS; i++)
        rig->store->sinks[0].retries[i].row.due_ns = 0;
    pthread_mutex_unlock(&rig->store->lock);
    rig_delivery(rig);
    rig_add(rig, random_options(random));
    ck_ok(delivery_start(rig->delivery));
    restarts++;
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

static bool half_is_resolved(struct rig *rig, unsigned parts)
{
    unsigned resolved = 0;
    pthread_mutex_lock(&rig->fake->lock);
    for (unsigned i = 0; i < EVENTS; i++)
        resolved += model[i].resolved;
    bool enough = others_are_resolved() || resolved >= EVENTS * parts / 4;
    pthread_mutex_unlock(&rig->fake->lock);
    return enough;
}

static void ck_exactly_once(struct rig *rig)
{
    static bool seen[EVENTS];
    memset(seen, 0, sizeof seen);
    for (size_t i = 0; i < rig->fake->count; i++) {
        ck_assert_msg(!seen[rig->fake->seen[i]], "event %u came twice", rig->fake->seen[i]);
        seen[rig->fake->seen[i]] = true;
    }
}

static void run_order(unsigned seed)
{
    struct rig *rig = rig_new();
    unsigned random = seed;
    memset(model, 0, sizeof model);
    broken = restarts = 0;
    fill_store(rig->store, &random);
    victim = (unsigned)rand_r(&random) % EVENTS;
    rig->fake->answer = answer_in_order;
    rig->fake->arg = seed;
    rig_add(rig, random_options(&random));
    ck_ok(delivery_start(rig->delivery));
    for (unsigned parts = 1; parts < 4; parts++) {
        rig_until(half_is_resolved(rig, parts));
        restart(rig, &random);
    }
    rig_until(all_over(rig));
    ck_assert_msg(broken == 0, "order %d, seed %u: %u events came before one of their key", (int)order, seed, broken);
    for (unsigned i = 0; i < EVENTS; i++)
        ck_assert_msg(model[i].resolved, "seed %u: event %u is lost", seed, i);
    if (!lossy)
        ck_exactly_once(rig);
    rig_free(rig);
}

/* Every order, each with clean restarts and with such that lose the last answers. While one event fails and fails,
 * everything that does not depend on it is delivered (else the run would not end), and nothing that does. */
START_TEST(events_of_a_key_come_in_order_whatever_fails)
{
    static const enum spool_order orders[] = {SPOOL_ORDER_NONE, SPOOL_ORDER_AGENT, SPOOL_ORDER_LANE};
    unsigned seed = (unsigned)test_seed(20261126);
    order = orders[_i % 3];
    lossy = _i >= 3;
    for (unsigned i = 0; i < 2; i++)
        run_order(seed + i);
}
END_TEST

/* --------------------------------------------------------------------------------------------------------- priority */

enum { BACKLOG = 16000 };

static void count_by_lane(const struct rig *rig, size_t from, size_t to, unsigned lanes[2])
{
    for (size_t i = from; i < to; i++)
        lanes[rig->fake->seen[i] < BACKLOG ? 0 : 1]++;
}

static atomic_uint looks;

static void count_look(struct store *store)
{
    (void)store;
    atomic_fetch_add(&looks, 1);
}

static size_t place_seen(const struct rig *rig, unsigned number)
{
    size_t at = 0;
    while (at < rig->fake->count && rig->fake->seen[at] != number)
        at++;
    return at;
}

/* What is on its way already is delivered first: the batches that run and the READY_MAX cut ahead. Not the backlog. The
 * sink waits until the dispatcher looks anew: nothing is cut any more of what it saw before the event was there. */
START_TEST(a_critical_event_overtakes_a_backlog)
{
    struct rig *rig = rig_new();
    rig->fake->block = true;
    rig->store->at_look = count_look;
    for (unsigned i = 0; i < BACKLOG; i += 1000)
        fake_commit(rig->store, SPOOL_LOW, NULL, i, 1000, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS(.batch_events_max = 10));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_counter(rig, &rig->fake->batches) == 1);
    fake_commit(rig->store, SPOOL_CRITICAL, NULL, BACKLOG, 10, 0, real_ns());
    unsigned before = looks;
    delivery_wake(rig->delivery);
    rig_until(looks > before);
    fake_set_block(rig->fake, false);
    rig_until(rig_seen(rig) == BACKLOG + 10);
    ck_assert_uint_le(place_seen(rig, BACKLOG), (1 + READY_MAX) * 10);
    rig_free(rig);
}
END_TEST

static struct rig *swift;

/* Whenever a block is read, the sink has taken all that was cut before; a critical event comes during the first. */
static void when_all_is_taken(struct store *store)
{
    static unsigned reads;
    rig_until(rig_seen(swift) >= 10 * reads);
    if (reads++ == 0)
        fake_commit(store, SPOOL_CRITICAL, NULL, BACKLOG, 10, 0, real_ns());
}

/* A sink that takes batches as fast as they are cut, so that there is always room for another one. */
START_TEST(a_critical_event_overtakes_a_backlog_however_fast_the_sink)
{
    struct rig *rig = swift = rig_new();
    rig->store->at_read = when_all_is_taken;
    for (unsigned i = 0; i < 1000; i += 10)
        fake_commit(rig->store, SPOOL_LOW, NULL, i, 10, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS(.batch_events_max = 10));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_seen(rig) == 1000 + 10);
    ck_assert_uint_le(place_seen(rig, BACKLOG), (1 + READY_MAX) * 10);
    rig_free(rig);
}
END_TEST

/* The critical never end: whenever some are taken, more are there. */
static struct rig *endless;
static unsigned critical;

static int more_critical(struct fake *fake, struct spool_delivery *batch, size_t n)
{
    for (size_t i = 0; i < n; i++)
        SPOOL_DELIVERY_AT(batch, i)->outcome = SPOOL_DELIVERED;
    if (fake_number(batch) >= BACKLOG && critical < 4000) {
        fake_commit(endless->store, SPOOL_CRITICAL, NULL, BACKLOG + critical, (unsigned)n, 0, real_ns());
        critical += (unsigned)n;
        fake->arg++;
    }
    return SPOOL_OK;
}

/* Of any 16 batches one is of the low lane, until it is empty: with one other lane of any 13, here 14 by what was cut
 * ahead. */
START_TEST(low_ones_progress_under_an_endless_critical_stream)
{
    struct rig *rig = endless = rig_new();
    critical = 1000; /* so many that the dispatcher never finds none, however late it looks */
    rig->fake->answer = more_critical;
    fake_commit(rig->store, SPOOL_CRITICAL, NULL, BACKLOG, critical, 0, real_ns());
    fake_commit(rig->store, SPOOL_LOW, NULL, 0, 1000, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS(.batch_events_max = 10));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_seen(rig) >= 4000);
    for (size_t from = 0; from + 160 <= 4000; from += 10) {
        unsigned lanes[2] = {0};
        count_by_lane(rig, from, from + 160, lanes);
        ck_assert_msg(lanes[0] >= 10, "none of 16 batches from event %zu on is of the low lane", from);
    }
    rig_free(rig);
}
END_TEST

/* ------------------------------------------------------------------------------------------------ between the sinks */

static struct fake other;
static const struct fake *turns[8];
static atomic_uint turn_count;

static int note_turn(struct fake *fake, struct spool_delivery *batch, size_t n)
{
    turns[atomic_load(&turn_count) % 8] = fake;
    atomic_fetch_add(&turn_count, 1);
    for (size_t i = 0; i < n; i++)
        SPOOL_DELIVERY_AT(batch, i)->outcome = SPOOL_DELIVERED;
    return SPOOL_OK;
}

static uint32_t ready_of(struct rig *rig, const char *name)
{
    pthread_mutex_lock(rig->delivery->lock);
    uint32_t ready = sink_find(rig->delivery, name)->ready_count;
    pthread_mutex_unlock(rig->delivery->lock);
    return ready;
}

/* One worker for two sinks. While it is busy in the first, the first has low ones ready, and then the second, which begins
 * with what comes now, a critical one: that goes first. */
START_TEST(a_free_worker_takes_the_most_important_batch_of_all_sinks)
{
    struct rig *rig = rig_new();
    struct delivery_options options = {.workers = 1, .clock = rig->clock, .seed = 1};
    struct spool_sink_options from_now = SPOOL_SINK_OPTIONS(.user = &other, .flags = SPOOL_SINK_FROM_NOW);
    delivery_free(rig->delivery);
    ck_ok(delivery_new(rig->store, &options, &rig->delivery));
    pthread_mutex_init(&other.lock, NULL);
    pthread_cond_init(&other.changed, NULL);
    rig->fake->block = true;
    rig->fake->answer = other.answer = note_turn;
    fake_commit(rig->store, SPOOL_LOW, NULL, 0, 4, 0, real_ns());
    rig_add(rig, SPOOL_SINK_OPTIONS(.batch_events_max = 1));
    ck_ok(delivery_sink_add(rig->delivery, "other", &fake_hooks, NULL, &from_now));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_counter(rig, &rig->fake->batches) == 1 && ready_of(rig, "s") == READY_MAX);
    fake_commit(rig->store, SPOOL_CRITICAL, NULL, 100, 1, 0, real_ns());
    delivery_wake(rig->delivery);
    rig_until(ready_of(rig, "other") == 1);
    fake_set_block(rig->fake, false);
    rig_until(turn_count == 6);
    ck_assert_ptr_eq(turns[0], rig->fake);
    ck_assert_ptr_eq(turns[1], &other);
    rig_free(rig);
}
END_TEST

/* The first one fails twice, and all others come to wait behind it meanwhile. */
static int hold_up_at_first(struct fake *fake, struct spool_delivery *batch, size_t n)
{
    (void)fake;
    bool held = false;
    for (size_t i = 0; i < n; i++) {
        struct spool_delivery *d = SPOOL_DELIVERY_AT(batch, i);
        held |= fake_number(d) == 0 && d->attempt < 3;
        d->outcome = held ? SPOOL_RETRY : SPOOL_DELIVERED;
        d->retry_after_ms = held ? 200 : 0;
    }
    return SPOOL_OK;
}

START_TEST(what_waited_behind_one_goes_in_batches)
{
    enum { MANY = 2000, EACH = 50 };
    struct rig *rig = rig_new();
    rig->fake->answer = hold_up_at_first;
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 1, 0, real_ns()); /* alone: the others have not failed */
    rig_add(rig, SPOOL_SINK_OPTIONS(.order = SPOOL_ORDER_LANE, .batch_events_max = EACH));
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_stored(rig).retry_rows == 1);
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 1, MANY - 1, 0, real_ns());
    delivery_wake(rig->delivery);
    rig_until(rig_stored(rig).delivered == MANY);
    for (unsigned i = 0; i < MANY; i++)
        ck_assert_uint_eq(rig->fake->seen[i], i);
    ck_assert_uint_le(rig->fake->batches, 4 * MANY / EACH);
    rig_free(rig);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("delivery_order");
    TCase *tc = tcase_create("order");
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, events_of_a_key_come_in_order_whatever_fails, 0, 6);
    tcase_add_test(tc, what_waited_behind_one_goes_in_batches);
    tcase_add_test(tc, a_critical_event_overtakes_a_backlog);
    tcase_add_test(tc, a_critical_event_overtakes_a_backlog_however_fast_the_sink);
    tcase_add_test(tc, low_ones_progress_under_an_endless_critical_stream);
    tcase_add_test(tc, a_free_worker_takes_the_most_important_batch_of_all_sinks);
    suite_add_tcase(s, tc);
    return s;
}

CHECK_MAIN(suite)
