/* test_suspects.c - what is left of the events that were in hand at a death, when some of them have been answered for. */
#include <stdlib.h>

#include "../../delivery/engine.h"
#include "../check_main.h"

enum { LANE = LANE_MEDIUM, FIRST = 5, END = 9 };

/* A sink with suspects [FIRST, END), of which those in `rows` wait for a retry. */
static struct sink *sink_with_rows(const uint64_t *rows, size_t n)
{
    struct sink *sink = calloc(1, sizeof *sink);
    sink->suspects = calloc(STORE_SUSPECTS_MAX, sizeof *sink->suspects);
    sink->suspects[sink->suspect_count++] =
        (struct store_suspect){.lane = LANE, .first = FIRST, .end = END, .crashes = 2, .alone = false};
    for (size_t i = 0; i < n; i++) {
        const struct retry_row row = {.lane = LANE, .seq = rows[i], .size = 100, .key = 1};
        ck_ok(retry_add(&sink->retries, &row, NULL));
    }
    return sink;
}

static void free_sink(struct sink *sink)
{
    retry_free(&sink->retries);
    free(sink->suspects);
    free(sink);
}

static void answer(struct sink *sink, enum batch_kind kind, uint64_t seq)
{
    struct bench_item item = {.seq = seq, .verdict = VERDICT_DELIVERED};
    const struct batch batch = {.kind = kind, .lane = LANE, .count = 1};
    const struct bench bench = {.items = &item, .count = 1};
    suspects_clear(sink, &batch, &bench);
}

static void check_suspects(const struct sink *sink, const char *want)
{
    for (uint64_t seq = FIRST; seq < END; seq++)
        ck_assert_msg(suspects_has(sink, LANE, seq) == (want[seq - FIRST] == 'x'), "event %llu: not as in %s",
                      (unsigned long long)seq, want);
}

START_TEST(the_log_is_cleared_in_order)
{
    struct sink *sink = sink_with_rows(NULL, 0);
    static const char *const left[] = {".xxx", "..xx", "...x", "...."};
    for (unsigned i = 0; i < 4; i++) {
        answer(sink, BATCH_LOG, FIRST + i);
        check_suspects(sink, left[i]);
    }
    ck_assert_uint_eq(sink->suspect_count, 0);
    free_sink(sink);
}
END_TEST

/* Parked before a restart, when the log was taken up to them: the log goes on behind them. */
START_TEST(what_waits_for_a_retry_stays)
{
    static const uint64_t rows[] = {FIRST, FIRST + 2};
    struct sink *sink = sink_with_rows(rows, 2);
    answer(sink, BATCH_LOG, FIRST + 1);
    check_suspects(sink, "x.xx");
    answer(sink, BATCH_LOG, FIRST + 3);
    check_suspects(sink, "x.x.");
    ck_assert_uint_eq(suspects_events(sink), 2);
    ck_assert_uint_eq(sink->suspects[0].crashes, 2);
    answer(sink, BATCH_RETRY, FIRST);
    check_suspects(sink, "..x.");
    answer(sink, BATCH_RETRY, FIRST + 2);
    ck_assert_uint_eq(sink->suspect_count, 0);
    free_sink(sink);
}
END_TEST

/* Rather is one too many suspect than one forgotten. */
START_TEST(without_room_the_whole_stays)
{
    struct sink *sink = sink_with_rows((const uint64_t[]){FIRST}, 1);
    while (sink->suspect_count < STORE_SUSPECTS_MAX)
        sink->suspects[sink->suspect_count++] = (struct store_suspect){.lane = LANE_LOW, .end = 1, .crashes = 1};
    answer(sink, BATCH_LOG, FIRST + 1);
    check_suspects(sink, "xxxx");
    ck_assert_uint_eq(sink->suspect_count, STORE_SUSPECTS_MAX);
    free_sink(sink);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("suspects");
    TCase *tc = tcase_create("suspects");
    tcase_add_test(tc, the_log_is_cleared_in_order);
    tcase_add_test(tc, what_waits_for_a_retry_stays);
    tcase_add_test(tc, without_room_the_whole_stays);
    suite_add_tcase(s, tc);
    return s;
}

CHECK_MAIN(suite)
