/* test_window.c - the in-flight window, by hand and against a model with a state per event. */
#include "../../delivery/window.h"
#include "../check_main.h"

static uint64_t gap(const struct window *w, uint64_t *ret_end)
{
    uint64_t first, end;
    window_gap(w, &first, &end);
    if (ret_end)
        *ret_end = end;
    return first;
}

START_TEST(cursor_waits_for_the_first_unfinished)
{
    struct window w = {0};
    ck_ok(window_load(&w, 100, NULL, 0));
    ck_ok(window_take(&w, 100, 110));
    ck_ok(window_take(&w, 110, 120));
    ck_assert_uint_eq(gap(&w, NULL), 120);
    ck_ok(window_finish(&w, 110, 120));
    ck_assert_uint_eq(w.cursor, 100);
    ck_assert_uint_eq(window_finished_events(&w), 10);
    ck_ok(window_finish(&w, 100, 110));
    ck_assert_uint_eq(w.cursor, 120);
    ck_assert_uint_eq(w.count, 0);
    window_free(&w);
}
END_TEST

START_TEST(returned_events_come_first)
{
    struct window w = {0};
    uint64_t end;
    ck_ok(window_take(&w, 0, 10));
    ck_ok(window_take(&w, 10, 20));
    ck_ok(window_finish(&w, 0, 3));
    ck_ok(window_return(&w, 3, 7));
    ck_ok(window_finish(&w, 7, 10));
    ck_assert_uint_eq(gap(&w, &end), 3);
    ck_assert_uint_eq(end, 7);
    ck_assert_uint_eq(w.cursor, 3);
    window_free(&w);
}
END_TEST

START_TEST(stored_ranges_are_not_taken_again)
{
    struct window w = {0};
    struct store_range stored[] = {{12, 3}, {20, 5}}, out[2];
    uint64_t end;
    ck_ok(window_load(&w, 10, stored, 2));
    ck_assert_uint_eq(gap(&w, &end), 10);
    ck_assert_uint_eq(end, 12);
    ck_assert_uint_eq(window_finished(&w, out, 2), 2);
    ck_assert_uint_eq(out[1].first, 20);
    ck_assert_uint_eq(out[1].count, 5);
    ck_assert_uint_eq(window_finished(&w, out, 1), 1);
    ck_ok(window_finish(&w, 10, 12));
    ck_assert_uint_eq(w.cursor, 15);
    window_free(&w);
}
END_TEST

enum { EVENTS = 300 };
enum state { GAP, FLYING, FINISHED };

static void check_against(const struct window *w, const enum state *model)
{
    uint64_t cursor = 0, end, beyond = 0;
    while (cursor < EVENTS && model[cursor] == FINISHED)
        cursor++;
    ck_assert_uint_eq(w->cursor, cursor);
    uint64_t first = cursor;
    while (first < EVENTS && model[first] != GAP)
        first++;
    ck_assert_uint_eq(gap(w, &end), first);
    uint64_t want = first;
    while (want < EVENTS && model[want] == GAP)
        want++;
    ck_assert_uint_eq(end, want == EVENTS ? UINT64_MAX : want);
    for (uint64_t i = cursor; i < EVENTS; i++)
        beyond += model[i] == FINISHED;
    ck_assert_uint_eq(window_finished_events(w), beyond);
}

START_TEST(behaves_like_a_state_per_event)
{
    unsigned seed = (unsigned)test_seed(99);
    for (int round = 0; round < test_rounds(200); round++) {
        struct window w = {0};
        enum state model[EVENTS] = {GAP};
        for (int step = 0; step < 300; step++) {
            uint64_t end, first = gap(&w, &end);
            if (end > EVENTS)
                end = EVENTS;
            if (rand_r(&seed) % 2 && first < end) {
                uint64_t last = first + 1 + (uint64_t)rand_r(&seed) % (end - first);
                last = last > first + 20 ? first + 20 : last;
                ck_ok(window_take(&w, first, last));
                for (; first < last; first++)
                    model[first] = FLYING;
            } else {
                uint64_t at = (uint64_t)rand_r(&seed) % EVENTS, to = at;
                while (to < EVENTS && model[to] == FLYING && to < at + 5)
                    to++;
                bool finish = rand_r(&seed) % 3;
                if (to > at)
                    ck_ok(finish ? window_finish(&w, at, to) : window_return(&w, at, to));
                for (; at < to; at++)
                    model[at] = finish ? FINISHED : GAP;
            }
            check_against(&w, model);
        }
        window_free(&w);
    }
}
END_TEST

/* Gaps, as listed from `first` on, are those of the model. */
static void check_gaps(const struct window *w, const enum state *model, uint64_t first, uint64_t end)
{
    struct window_span gaps[EVENTS];
    size_t n = window_gaps(w, first, end, gaps, EVENTS), i = 0;
    for (uint64_t seq = first; seq < end; seq++) {
        while (i < n && gaps[i].end <= seq)
            i++;
        bool listed = i < n && gaps[i].first <= seq;
        ck_assert_msg(listed == (seq >= w->cursor && model[seq] == GAP), "event %u", (unsigned)seq);
    }
    for (size_t k = 1; k < n; k++)
        ck_assert_uint_gt(gaps[k].first, gaps[k - 1].end);
    if (n > 1)
        ck_assert_uint_eq(window_gaps(w, first, end, gaps, n - 1), n - 1);
}

/* Many spans at once, as a batch of some keys has them. */
START_TEST(spans_are_set_as_events_are)
{
    unsigned seed = (unsigned)test_seed(77);
    for (int round = 0; round < test_rounds(300); round++) {
        struct window w = {0};
        enum state model[EVENTS] = {GAP};
        for (int step = 0; step < 60; step++) {
            static const enum window_state to[] = {WINDOW_GAP, WINDOW_TAKEN, WINDOW_FINISHED};
            struct window_span spans[EVENTS];
            enum state set = (enum state)(rand_r(&seed) % 3), from = set == FLYING ? GAP : FLYING;
            size_t n = 0;
            unsigned one_in = 1 + (unsigned)rand_r(&seed) % 6;
            for (uint64_t seq = 0; seq < EVENTS; seq++) {
                if (model[seq] != from || rand_r(&seed) % one_in)
                    continue;
                model[seq] = set;
                if (n > 0 && spans[n - 1].end == seq && rand_r(&seed) % 2)
                    spans[n - 1].end++;
                else
                    spans[n++] = (struct window_span){seq, seq + 1};
            }
            ck_ok(window_set(&w, spans, n, to[set]));
            check_against(&w, model);
            uint64_t first = (uint64_t)rand_r(&seed) % EVENTS;
            check_gaps(&w, model, first, first + (uint64_t)rand_r(&seed) % (EVENTS - first));
        }
        window_free(&w);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("window");
    TCase *tc = tcase_create("window");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, cursor_waits_for_the_first_unfinished);
    tcase_add_test(tc, returned_events_come_first);
    tcase_add_test(tc, stored_ranges_are_not_taken_again);
    tcase_add_test(tc, behaves_like_a_state_per_event);
    tcase_add_test(tc, spans_are_set_as_events_are);
    suite_add_tcase(s, tc);
    return s;
}

CHECK_MAIN(suite)
