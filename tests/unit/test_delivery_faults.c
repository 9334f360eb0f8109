/* test_delivery_faults.c - delivery without memory or threads, over a store that refuses: every call that fails says
 * why and leaves things as they were, and every event comes all the same. */
#include "fail_nth.h"
#include "fake_sink.h"

#define FAST .retry_base_ms = 1, .retry_cap_ms = 5

/* ------------------------------------------------------------------------------------------- parts, without memory */

START_TEST(answers_without_memory_stay_as_they_were)
{
    struct answers *a = calloc(1, sizeof *a), *to = calloc(1, sizeof *to);
    const struct store_retry row = {.size = 40};
    struct event_view view = {.event = SPOOL_EVENT(.type = "t"), .packed_size = 40};
    int code;
    for (unsigned i = 0; i < 40; i++) {
        fail_each(code, FAIL_MEMORY, answers_retry(a, &row, i % 2 ? &view : NULL)) ck_assert_int_eq(code, ENOMEM);
        fail_each(code, FAIL_MEMORY, answers_dead(a, &row, 1, i % 2 ? &view : NULL)) ck_assert_int_eq(code, ENOMEM);
        fail_each(code, FAIL_MEMORY, answers_done(a, &(struct store_done){.seq = i})) ck_assert_int_eq(code, ENOMEM);
        ck_assert_uint_eq(answers_rows(a), 3 * (i + 1));
        ck_assert_uint_eq(a->bytes, (i + 1) / 2 * 80);
    }
    a->upto = 7;
    for (unsigned round = 0; round < 2; round++) {
        fail_each(code, FAIL_MEMORY, answers_move(to, a))
        {
            ck_assert_int_eq(code, ENOMEM);
            ck_assert_uint_eq(answers_rows(a), 120);
            ck_assert_uint_eq(answers_rows(to), 0);
        }
        ck_ok(code);
        ck_assert_uint_eq(answers_rows(a), 0);
        ck_assert_uint_eq(answers_rows(to), 120);
        ck_assert_uint_eq(to->upto, 7);
        ck_assert_uint_eq(to->bytes, 1600);
    }
    answers_free(a);
    answers_free(to);
    free(a);
    free(to);
}
END_TEST

START_TEST(batches_without_memory_stay_as_they_were)
{
    uint32_t at[101];
    struct store_block block = {.count = 100, .events = {.count = 100, .at = at}};
    struct batch *batch = calloc(1, sizeof *batch);
    struct retry_row row = {.size = 7};
    int code;
    atomic_init(&block.refs, 1);
    for (uint32_t i = 0; i <= 100; i++)
        at[i] = i;
    for (unsigned i = 0; i < 40; i++) {
        fail_each(code, FAIL_MEMORY, batch_add_piece(batch, &block, 2 * i, 2 * i + 1)) ck_documented(code);
        fail_each(code, FAIL_MEMORY, batch_add_row(batch, &row)) ck_documented(code);
        ck_assert_uint_eq(batch->count, 2 * (i + 1));
        ck_assert_uint_eq(batch->bytes, 8 * (i + 1));
        ck_assert_uint_eq(atomic_load(&block.refs), i + 2);
    }
    batch_free(batch);
    batch_free(NULL);
    ck_assert_uint_eq(atomic_load(&block.refs), 1);
}
END_TEST

/* Rows of two lanes and three keys in a random order of due times come out by time, and by number within a key. */
START_TEST(a_retry_index_without_memory_stays_as_it_was)
{
    struct retry_index index = {0};
    unsigned seed = 7;
    int code;
    ck_assert(!retry_has_key(&index, 0, 1));
    ck_assert_ptr_null(retry_find(&index, 0, 1));
    for (unsigned i = 0; i < 300; i++) {
        struct retry_row row = {.lane = (int)(i % 2),
                                .seq = i * 7 % 300,
                                .due_ns = (uint64_t)rand_r(&seed) % 100,
                                .size = 3,
                                .key = i % 4,
                                .stored = true};
        fail_each(code, FAIL_MEMORY, retry_add(&index, &row, NULL)) ck_documented(code);
        ck_ok(code);
        ck_code(retry_add(&index, &row, NULL), SPOOL_EEXISTS);
        ck_assert_uint_eq(index.live, i + 1);
        ck_assert_uint_eq(index.live_bytes, 3 * (i + 1));
    }
    uint64_t last_seq[LANES][4] = {0};
    for (int lane = 0; lane < 2; lane++) {
        uint64_t last_due = 0;
        for (struct retry_row *row; (row = retry_take(&index, lane, 1000)) != NULL; retry_stored(&index, row)) {
            if (row->key == 0) {
                ck_assert_uint_ge(row->due_ns, last_due);
                last_due = row->due_ns;
            } else {
                ck_assert_uint_ge(row->seq, last_seq[lane][row->key]);
                last_seq[lane][row->key] = row->seq;
                last_due = 0;
            }
            retry_over(&index, row);
        }
    }
    ck_assert_uint_eq(index.live, 0);
    ck_assert_uint_eq(index.rows, 0);
    retry_free(&index);
}
END_TEST

START_TEST(a_bench_without_memory)
{
    struct bench bench = {0};
    struct batch batch = {.kind = BATCH_LOG};
    struct store *store = fake_new();
    int code;
    fake_commit(store, SPOOL_MEDIUM, "a", 0, 10, UINT64_MAX, real_ns()); /* a time to live without end */
    ck_ok(batch_add_piece(&batch, store->blocks[LANE_MEDIUM][0], 0, 10));
    fail_each(code, FAIL_MEMORY, bench_load(&bench, &batch, SPOOL_ORDER_LANE, real_ns()))
        ck_assert_int_eq(code, ENOMEM);
    ck_ok(code);
    ck_assert_uint_eq(bench.count, 10);
    ck_assert_uint_eq(bench.items[9].verdict, VERDICT_OPEN);
    ck_assert_uint_eq(bench.items[9].key, 1);
    char *text = calloc(1, 2 * REASON_MAX + 1);
    memset(text, 'x', 2 * REASON_MAX);
    fail_arm(FAIL_MEMORY, 1);
    bench_set_reason(&bench, &bench.items[0], text);
    ck_assert(fail_disarm());
    ck_assert_str_eq(bench_reason(&bench, &bench.items[0]), "");
    bench_set_reason(&bench, &bench.items[0], text);
    ck_assert_uint_eq(strlen(bench_reason(&bench, &bench.items[0])), REASON_MAX);
    struct spool_event event = SPOOL_EVENT(.type = "t");
    ck_assert_uint_eq(bench_key(&event, SPOOL_ORDER_AGENT), 0);
    struct spool_delivery delivery = {.size = sizeof delivery};
    spool_delivery_fail(&delivery, SPOOL_REJECTED, "outside of a hook");
    ck_assert_int_eq(delivery.outcome, SPOOL_REJECTED);
    free(text);
    batch_clear(&batch);
    free(batch.pieces);
    free(batch.spans);
    bench_free(&bench);
    fake_free(store);
}
END_TEST

/* -------------------------------------------------------------------------------- making, adding, starting, settling
 */

START_TEST(made_without_memory_or_locks)
{
    struct store *store = fake_new();
    struct delivery *d = NULL;
    struct delivery_options options = {.workers = 0, .seed = 1};
    int code;
    ck_code(delivery_new(store, &options, &d), SPOOL_EINVAL);
    options.workers = 65;
    ck_code(delivery_new(store, &options, &d), SPOOL_EINVAL);
    options.workers = 1;
    fail_each(code, _i ? FAIL_THREAD : FAIL_MEMORY, delivery_new(store, &options, &d))
    {
        ck_documented(code);
        ck_assert_ptr_null(d);
    }
    ck_ok(code);
    delivery_free(d);
    delivery_free(NULL);
    delivery_abandon(NULL);
    fake_free(store);
}
END_TEST

START_TEST(a_sink_that_could_not_be_added_is_not_there)
{
    struct rig *rig = rig_new();
    struct delivery_sink_status status;
    const struct spool_sink_options plain = SPOOL_SINK_OPTIONS(.user = rig->fake),
                                    full = SPOOL_SINK_OPTIONS(.user = rig->fake, .order = SPOOL_ORDER_AGENT,
                                                              .workers = 2, .resources = "gpu, api*2"),
                                    options = _i ? full : plain;
    int code;
    fail_each(code, FAIL_MEMORY, delivery_sink_add(rig->delivery, "s", &fake_hooks, NULL, &options))
    {
        ck_documented(code);
        ck_code(delivery_sink_status(rig->delivery, "s", &status), SPOOL_ENOTFOUND);
        for (size_t i = 0; i < OP_BUCKETS; i++)
            ck_assert_ptr_null(rig->delivery->core->table->buckets[i]);
    }
    ck_ok(code);
    rig->store->register_error = EIO;
    ck_code(delivery_sink_add(rig->delivery, "t", &fake_hooks, NULL, &options), EIO);
    ck_code(delivery_sink_status(rig->delivery, "t", &status), SPOOL_ENOTFOUND);
    ck_code(delivery_sink_status(rig->delivery, NULL, &status), SPOOL_ENOTFOUND);
    ck_ok(delivery_sink_drop(rig->delivery, "t", 0));
    ck_ok(delivery_sink_drop(rig->delivery, NULL, 0));
    rig->store->read_only = true;
    ck_code(delivery_sink_add(rig->delivery, "t", &fake_hooks, NULL, &options), SPOOL_EREADONLY);
    ck_code(delivery_start(rig->delivery), SPOOL_EREADONLY);
    rig->store->read_only = false;
    rig->store->register_error = 0;
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 5, 0, real_ns());
    ck_ok(delivery_start(rig->delivery));
    rig_until(rig_stored(rig).delivered == 5);
    rig_free(rig);
}
END_TEST

/* Some threads came up and the next did not: they end again, and a later start works. */
START_TEST(a_start_that_fails_leaves_nothing_running)
{
    struct rig *rig = rig_new();
    int code;
    rig_add(rig, SPOOL_SINK_OPTIONS());
    fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 5, 0, real_ns());
    fail_each(code, _i ? FAIL_THREAD : FAIL_MEMORY, delivery_start(rig->delivery))
    {
        ck_documented(code);
        ck_assert(!delivery_is_running(rig->delivery));
        ck_assert_ptr_null(rig->delivery->runners);
        ck_assert(!rig->store->sinks[0].elected);
    }
    ck_ok(code);
    rig_until(rig_stored(rig).delivered == 5);
    fail_each(code, FAIL_MEMORY, delivery_settle(rig->delivery, deadline_in_ms(10000))) ck_documented(code);
    ck_ok(code);
    rig_free(rig);
}
END_TEST

/* ---------------------------------------------------------------------------------- threads of ours, without memory */

static _Atomic unsigned fail_at, fired;

/* One event in three asks for another try, one is rejected; from here on the worker's call `fail_at` for memory fails.
 */
static int answer_and_fail(struct fake *fake, struct spool_delivery *batch, size_t n)
{
    (void)fake;
    fail_disarm();
    for (size_t i = 0; i < n; i++) {
        unsigned number = fake_number(SPOOL_DELIVERY_AT(batch, i));
        if (number % 3 == 0 && batch[i].attempt == 1)
            batch[i].retry_after_ms = 1;
        else
            batch[i].outcome = number % 3 == 1 ? SPOOL_REJECTED : SPOOL_DELIVERED;
    }
    unsigned at = atomic_exchange(&fail_at, 0);
    if (at > 0) {
        fail_arm(FAIL_MEMORY, at);
        atomic_fetch_add(&fired, 1);
    }
    return SPOOL_OK;
}

START_TEST(a_worker_without_memory_loses_nothing)
{
    for (unsigned at = 1; at < 13; at++) {
        struct rig *rig = rig_new();
        rig->fake->answer = answer_and_fail;
        fail_at = at;
        fired = 0;
        rig_add(rig, SPOOL_SINK_OPTIONS(FAST, .batch_events_max = 30,
                                        .order = at % 2 ? SPOOL_ORDER_AGENT : SPOOL_ORDER_NONE));
        for (unsigned i = 0; i < 3; i++)
            fake_commit(rig->store, SPOOL_MEDIUM, "a", i * 30, 30, 0, real_ns());
        ck_ok(delivery_start(rig->delivery));
        rig_until(fired > 0);
        rig_check_all_ended(rig, 90);
        rig_free(rig);
    }
}
END_TEST

static struct store *_Atomic fail_in;

static void look_and_fail(struct store *store)
{
    fail_disarm();
    unsigned at = store == fail_in ? atomic_exchange(&fail_at, 0) : 0;
    if (at > 0) {
        fail_arm(FAIL_MEMORY, at);
        atomic_fetch_add(&fired, 1);
    }
}

/* As dead letters are put back from outside. */
static void put_back(struct store *store)
{
    pthread_mutex_lock(&store->lock);
    struct fake_sink *sink = &store->sinks[0];
    for (int i = 0; i < 5; i++) {
        sink->retries[i] = sink->dead[i];
        sink->retries[i].row.attempts = 0;
        sink->dead[i] = (struct fake_row){0};
    }
    store->control++;
    pthread_mutex_unlock(&store->lock);
}

/* The dispatcher has no memory while it cuts batches, or sees a dead letter that was put back. */
START_TEST(a_dispatcher_without_memory_loses_nothing)
{
    for (unsigned at = 1; at < 6; at++) {
        struct rig *rig = rig_new();
        rig->fake->answer = answer_and_fail;
        rig->store->at_look = look_and_fail;
        rig_add(rig, SPOOL_SINK_OPTIONS(FAST));
        fired = 0;
        fail_in = rig->store;
        for (unsigned round = 0; round < 4; round++) {
            fake_commit(rig->store, SPOOL_MEDIUM, NULL, round * 30, 30, 0, real_ns());
            if (round == 0)
                ck_ok(delivery_start(rig->delivery));
            else
                fail_at = at; /* loading is the next test's */
            if (round == 2)
                put_back(rig->store);
            delivery_wake(rig->delivery);
            rig_until(fired == round);
            rig_check_all_ended(rig, (round + 1) * 30);
        }
        rig_free(rig);
    }
}
END_TEST

/* Number 4 is stored as finished beyond the cursor. A second passes until loading is tried again: for all at once. */
START_TEST(progress_that_could_not_be_loaded_is_loaded_again)
{
    enum { N = 4 };
    struct rig *rigs[N];
    fired = 0;
    for (unsigned k = 0; k < N; k++) {
        struct rig *rig = rigs[k] = rig_new();
        rig->store->at_look = look_and_fail;
        rig_add(rig, SPOOL_SINK_OPTIONS());
        fake_commit(rig->store, SPOOL_MEDIUM, NULL, 0, 10, 0, real_ns());
        struct store_sink *stored = &rig->store->sinks[0].sink;
        stored->ranges[LANE_MEDIUM][0] = (struct store_range){4, 1};
        stored->range_count[LANE_MEDIUM] = 1;
        fail_in = rig->store;
        fail_at = k + 1;
        ck_ok(delivery_start(rig->delivery));
        rig_until(fired == k + 1);
    }
    for (unsigned k = 0; k < N; k++) {
        struct rig *rig = rigs[k];
        rig_until(rig_stored(rig).cursor[LANE_MEDIUM] == 10);
        ck_assert_uint_eq(rig_stored(rig).delivered, 9);
        for (unsigned i = 0; i < 9; i++)
            ck_assert_uint_eq(rig->fake->seen[i], i < 4 ? i : i + 1);
        rig_free(rig);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("delivery_faults");
    TCase *tc = tcase_create("faults");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, answers_without_memory_stay_as_they_were);
    tcase_add_test(tc, batches_without_memory_stay_as_they_were);
    tcase_add_test(tc, a_retry_index_without_memory_stays_as_it_was);
    tcase_add_test(tc, a_bench_without_memory);
    tcase_add_loop_test(tc, made_without_memory_or_locks, 0, 2);
    tcase_add_loop_test(tc, a_sink_that_could_not_be_added_is_not_there, 0, 2);
    tcase_add_loop_test(tc, a_start_that_fails_leaves_nothing_running, 0, 2);
    tcase_add_test(tc, a_worker_without_memory_loses_nothing);
    tcase_add_test(tc, a_dispatcher_without_memory_loses_nothing);
    tcase_add_test(tc, progress_that_could_not_be_loaded_is_loaded_again);
    suite_add_tcase(s, tc);
    return s;
}

CHECK_MAIN(suite)
