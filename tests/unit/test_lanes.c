/* test_lanes.c - what is counted by lane: as the library tells it, and as a deliverer publishes it for other processes, whose
 * report may be of an older or a newer version. */
#include "../../delivery/engine.h"
#include "../../lib/handle.h"
#include "../../spool/state_inside.h"
#include "../../spool/store_inside.h"
#include "obedient_fixture.h"

/* ------------------------------------------------------------------------------------------------------- published */

static struct delivery_metrics metrics;
static struct delivery_report got;
static uint8_t bytes[STORE_PUBLISHED_MAX];
static const struct delivery_sink_status status = {
    .state = SPOOL_SINK_DOWN, .last_error = "no", .waits_for = "gpu", .waits_ms = 5};

/* No two histograms are alike, and the next one might have room where one has none. */
static void fill(void)
{
    memset(&metrics, 0, sizeof metrics);
    for (unsigned lane = 0; lane < LANES; lane++) {
        for (unsigned i = 0; i <= 5 * (LANES - lane); i++) {
            histogram_add(&metrics.latency_us[lane], 1000 * lane + i, 1);
            histogram_add(&metrics.deliver_us[lane], 100 * lane + i, 2);
            histogram_add(&metrics.batch_events[lane], 10 * lane + i, 3);
        }
    }
    metrics.types.events[type_counts_row(&metrics.types, "t")][METRIC_DELIVERED] = 9;
    metrics.events[METRIC_DELIVERED][LANE_HIGH] = 9;
}

static void expect_same(const struct histogram *is, const struct histogram *wanted)
{
    ck_assert_int_eq(memcmp(is, wanted, sizeof *is), 0);
}

static void expect_merged(const struct histogram of[LANES + 1], const struct histogram lanes[LANES])
{
    static const struct histogram none;
    struct histogram all = {0};
    for (int lane = 0; lane < LANES; lane++) {
        expect_same(&of[lane], &none);
        histogram_merge(&all, &lanes[lane]);
    }
    expect_same(&of[LANES], &all);
}

static void expect_all_but_lanes(void)
{
    ck_assert_str_eq(got.status.last_error, "no");
    ck_assert_str_eq(got.status.waits_for, "gpu");
    ck_assert_int_eq(memcmp(got.metrics.latency_us, metrics.latency_us, sizeof metrics.latency_us), 0);
    ck_assert_int_eq(memcmp(&got.metrics.types, &metrics.types, sizeof metrics.types), 0);
}

START_TEST(published_by_lane)
{
    fill();
    size_t size = metrics_pack(&status, &metrics, 7, real_ns(), bytes, sizeof bytes);
    ck_assert_uint_gt(size, 0);
    memset(bytes + size, 0x5a, 100); /* what a newer version puts behind it */
    for (size_t more = 0; more <= 100; more += 100) {
        ck_ok(delivery_report_read(bytes, size + more, &got));
        expect_all_but_lanes();
        ck_assert_int_eq(memcmp(&got.metrics, &metrics, sizeof metrics), 0);
    }
}
END_TEST

/* An older version ends behind what the sink waits for. Cut off anywhere later, no lane is known, and nothing is counted twice. */
START_TEST(published_without_lanes)
{
    fill();
    size_t size = metrics_pack(&status, &metrics, 7, real_ns(), bytes, sizeof bytes), lanes = 0;
    uint8_t one[sizeof(struct histogram)];
    for (int lane = 0; lane < LANES; lane++)
        lanes += histogram_pack(&metrics.deliver_us[lane], one, sizeof one) +
                 histogram_pack(&metrics.batch_events[lane], one, sizeof one);
    for (size_t cut = size - lanes; cut < size; cut++) {
        ck_ok(delivery_report_read(bytes, cut, &got));
        expect_all_but_lanes();
        expect_merged(got.metrics.deliver_us, metrics.deliver_us);
        expect_merged(got.metrics.batch_events, metrics.batch_events);
    }
}
END_TEST

/* However little room there is, what is read is what was there, or nothing. */
START_TEST(published_as_far_as_there_is_room)
{
    fill();
    size_t whole = metrics_pack(&status, &metrics, 7, real_ns(), bytes, sizeof bytes), last = whole;
    for (size_t room = whole - 1; room >= 400; room--) {
        size_t size = metrics_pack(&status, &metrics, 7, real_ns(), bytes, room);
        ck_assert_uint_le(size, room);
        ck_assert_uint_le(size, last);
        last = size;
        memset(bytes + size, 0, 64);
        ck_ok(delivery_report_read(bytes, size, &got));
        ck_assert_uint_eq(got.metrics.events[METRIC_DELIVERED][LANE_HIGH], 9);
        ck_assert(!*got.status.waits_for || !strcmp(got.status.waits_for, "gpu"));
        for (int lane = 0; lane < LANES; lane++) {
            ck_assert(!got.metrics.latency_us[lane].count ||
                      !memcmp(&got.metrics.latency_us[lane], &metrics.latency_us[lane], sizeof *metrics.latency_us));
            ck_assert_uint_eq(got.metrics.deliver_us[lane].count, 0);
        }
        uint64_t types = got.metrics.types.events[0][METRIC_DELIVERED];
        ck_assert(types == 9 || (types == 0 && !*got.status.waits_for));
    }
}
END_TEST

/* -------------------------------------------------------------------------------------------------------- told */

enum { OTHERS = 3, DELIVERED = 1 + 2 + 3 + 4, ALL = DELIVERED + SPOOL_PRIORITIES + OTHERS };
static const enum spool_priority priorities[] = {SPOOL_CRITICAL, SPOOL_HIGH, SPOOL_MEDIUM, SPOOL_LOW};

static void put_one(struct spool *spool, enum spool_priority priority, const char *body)
{
    struct spool_event event = SPOOL_EVENT(.type = "t", .body = body, .body_size = strlen(body), .priority = priority);
    ck_ok(spool_enqueue(spool, &event, NULL));
}

/* Of the priority number n (0 is critical) n + 1 that are delivered, and one that is tried twice and dead then; one that is
 * tried again in an hour of all but the last. */
static void put_by_priority(struct spool *spool)
{
    for (unsigned n = 0; n < SPOOL_PRIORITIES; n++) {
        for (unsigned i = 0; i <= n; i++)
            put_one(spool, priorities[n], "\"ok\"");
        put_one(spool, priorities[n], "\"later\"");
        if (n < OTHERS)
            put_one(spool, priorities[n], "\"hour\"");
    }
}

static int take_info(void *user, const struct spool_sink_info *info)
{
    *(struct spool_sink_info *)user = *info;
    return 0;
}

static struct spool_sink_info look(struct spool *spool)
{
    struct spool_sink_info info = {0};
    ck_ok(spool_sink_each(spool, take_info, &info));
    return info;
}

static void expect_lanes(const struct spool_sink_info *info, bool delivered)
{
    ck_assert_uint_eq(info->pending_events, delivered ? 3 : ALL);
    ck_assert_uint_eq(info->retrying_events, delivered ? 3 : 0);
    uint64_t oldest_ns = UINT64_MAX;
    for (unsigned n = 0; n < SPOOL_PRIORITIES; n++) {
        enum spool_priority priority = priorities[n];
        unsigned later = n < OTHERS;
        ck_assert_uint_eq(info->lane_delivered[priority], delivered ? n + 1 : 0);
        ck_assert_uint_eq(info->lane_retrying[priority], delivered ? later : 0);
        ck_assert_uint_eq(info->lane_pending[priority], delivered ? later : n + 2 + later);
        ck_assert_int_eq(info->lane_oldest_ns[priority] > 0, info->lane_pending[priority] > 0);
        if (info->lane_oldest_ns[priority] && info->lane_oldest_ns[priority] < oldest_ns)
            oldest_ns = info->lane_oldest_ns[priority];
    }
    ck_assert_uint_eq(info->oldest_ns, oldest_ns);
}

/* Before and after delivery, while it is served and by what is stored. */
START_TEST(told_by_lane)
{
    begin();
    struct spool *spool = open_spool(NULL);
    add(spool, "a", (struct spool_sink_options){.retry_base_ms = 1, .retry_cap_ms = 1, .max_attempts = 2});
    put_by_priority(spool);
    struct spool_sink_info info = {0};
    until((info = look(spool)).pending_events == ALL); /* they are committed */
    expect_lanes(&info, false);
    ck_ok(spool_start(spool));
    until((info = look(spool)).dead_letters == SPOOL_PRIORITIES && info.pending_events == 3 &&
          info.delivered_events == DELIVERED);
    info = look(spool);
    expect_lanes(&info, true);
    ck_ok(spool_close(spool));
    spool = open_spool(NULL);
    info = look(spool);
    expect_lanes(&info, true);
    ck_ok(spool_close(spool));
    scratch_end();
}
END_TEST

/* Makes the sink's row what an older version would have written: it ends with the reasons of drops. */
static void forget_lanes(struct spool *spool)
{
    struct state_txn txn;
    struct state_row row;
    struct state_key at = state_key(TABLE_SINK);
    uint8_t body[ROW_MAX];
    ck_ok(state_txn_write(spool->store->state, deadline_in_ms(60000), &txn));
    ck_ok(state_table_next(&txn, &at, 1, &row));
    memcpy(body, row.body, row.body_size);
    size_t tail = 98 + (size_t)body[96] + body[97], numbers = get_u16(body + tail) - LANES;
    put_u16(body + tail, (uint16_t)numbers);
    ck_ok(state_table_put(&txn, &at, body, tail + 2 + 8 * numbers));
    ck_ok(state_txn_end(&txn, SPOOL_OK));
}

START_TEST(what_an_older_version_delivered_is_in_no_lane)
{
    char *text;
    begin();
    struct spool *spool = open_spool(NULL);
    add(spool, "a", (struct spool_sink_options){0});
    put_one(spool, SPOOL_HIGH, "\"ok\"");
    ck_ok(spool_start(spool));
    ck_ok(spool_drain(spool, 60000));
    forget_lanes(spool);
    put_one(spool, SPOOL_LOW, "\"ok\"");
    ck_ok(spool_drain(spool, 60000));
    struct spool_sink_info info = look(spool);
    ck_assert_uint_eq(info.delivered_events, 2);
    ck_assert_uint_eq(info.lane_delivered[SPOOL_HIGH], 0);
    ck_assert_uint_eq(info.lane_delivered[SPOOL_LOW], 1);
    ck_ok(spool_metrics(spool, &text, NULL));
    ck_assert_ptr_ne(strstr(text, "\nspool_delivered_total{sink=\"a\",lane=\"high\"} 0\n"), NULL);
    ck_assert_ptr_ne(strstr(text, "\nspool_delivered_total{sink=\"a\",lane=\"unknown\"} 1\n"), NULL);
    spool_free(text);
    ck_ok(spool_close(spool));
    scratch_end();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("lanes");
    TCase *t = tcase_create("lanes");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, published_by_lane);
    tcase_add_test(t, published_without_lanes);
    tcase_add_test(t, published_as_far_as_there_is_room);
    tcase_add_test(t, told_by_lane);
    tcase_add_test(t, what_an_older_version_delivered_is_in_no_lane);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
