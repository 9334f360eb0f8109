/* test_breaker.c - the circuit breaker against a table of its transitions, and against a model of it that keeps the
 * whole history and answers by looking at it. */
#include "../../delivery/breaker.h"

#include <stdio.h>
#include <stdlib.h>

#include "../../lib/base/sync.h"
#include "../check_main.h"

static const struct breaker_rules plain = {
    .failures = 1, .probe_events = 16, .probes = 1, .base_ms = 100, .cap_ms = 10000, .limit_max = 1024};

static struct jitter jitter = {.state = 7};

/* -------------------------------------------------------------------------------------------------------- the table */

#define CLOSED SPOOL_BREAKER_CLOSED
#define OPEN SPOOL_BREAKER_OPEN
#define HALF SPOOL_BREAKER_HALF_OPEN
enum input { FAIL, WORK, TRY, FAIL_EARLY, TRY_EARLY };

/* From a state, after so many failures or successes already, to the next one, with two failures that open and two
 * probes that close. Early: before the wait is over. */
static const struct {
    enum spool_breaker from;
    uint32_t failures, successes;
    enum input input;
    enum spool_breaker to;
    enum breaker_change change;
    uint32_t failures_then, successes_then;
} transitions[] = {
    {CLOSED, 0, 0, FAIL, CLOSED, BREAKER_SAME, 1, 0},
    {CLOSED, 1, 0, FAIL, OPEN, BREAKER_OPENED, 2, 0},
    {CLOSED, 1, 0, FAIL_EARLY, CLOSED, BREAKER_SAME, 1, 0},
    {CLOSED, 1, 0, WORK, CLOSED, BREAKER_SAME, 0, 0},
    {CLOSED, 0, 0, TRY, CLOSED, BREAKER_SAME, 0, 0},
    {OPEN, 2, 0, TRY_EARLY, OPEN, BREAKER_SAME, 2, 0},
    {OPEN, 2, 0, TRY, HALF, BREAKER_HALF_OPENED, 2, 0},
    {OPEN, 2, 0, FAIL_EARLY, OPEN, BREAKER_SAME, 2, 0},
    {OPEN, 2, 0, FAIL, OPEN, BREAKER_REOPENED, 3, 0},
    {OPEN, 2, 0, WORK, HALF, BREAKER_HALF_OPENED, 2, 1},
    {HALF, 2, 0, WORK, HALF, BREAKER_SAME, 2, 1},
    {HALF, 2, 1, WORK, CLOSED, BREAKER_CLOSED, 0, 0},
    {HALF, 2, 0, TRY, HALF, BREAKER_SAME, 2, 0},
    {HALF, 2, 1, FAIL, OPEN, BREAKER_REOPENED, 3, 0},
};

static enum breaker_change put(struct breaker *b, enum input input, uint64_t now_ns)
{
    switch (input) {
    case WORK:
        return breaker_worked(b, 1, now_ns);
    case TRY:
    case TRY_EARLY:
        return breaker_try(b, now_ns);
    default:
        return breaker_failed(b, &jitter, now_ns);
    }
}

START_TEST(each_transition)
{
    for (size_t i = 0; i < sizeof transitions / sizeof *transitions; i++) {
        struct breaker_rules rules = plain;
        struct breaker b;
        rules.failures = rules.probes = 2;
        breaker_init(&b, &rules, 0);
        b.state = transitions[i].from;
        b.failures = transitions[i].failures;
        b.successes = transitions[i].successes;
        b.until_ns = 1000;
        bool early = transitions[i].input == FAIL_EARLY || transitions[i].input == TRY_EARLY;
        enum breaker_change change = put(&b, transitions[i].input, early ? 999 : 1000);
        ck_assert_msg(change == transitions[i].change && b.state == transitions[i].to &&
                          b.failures == transitions[i].failures_then && b.successes == transitions[i].successes_then,
                      "row %zu: change %d, state %d, %u failures, %u successes", i, change, b.state, b.failures,
                      b.successes);
        if (change != BREAKER_SAME && b.state != transitions[i].from)
            ck_assert_uint_eq(b.changed_ns, 1000);
    }
}
END_TEST

START_TEST(a_new_one_is_closed_and_limits_nothing)
{
    struct breaker b;
    breaker_init(&b, &plain, 5);
    ck_assert_int_eq(b.state, CLOSED);
    ck_assert(breaker_allows(&b, 0));
    ck_assert(!breaker_is_probing(&b));
    ck_assert_uint_eq(breaker_room(&b, 1u << 30), UINT32_MAX);
}
END_TEST

/* 16, 32, 64 … events in flight, and never more, until there is no limit. */
START_TEST(recovery_ramps_up)
{
    struct breaker b;
    breaker_init(&b, &plain, 0);
    breaker_failed(&b, &jitter, 0);
    ck_assert_uint_eq(breaker_room(&b, 0), 16);
    ck_assert_uint_eq(breaker_room(&b, 10), 6);
    ck_assert_uint_eq(breaker_room(&b, 17), 0);
    for (uint32_t limit = 16; limit < 1024; limit *= 2) {
        ck_assert_uint_eq(breaker_room(&b, 0), limit);
        breaker_worked(&b, limit, NS_PER_MS * 200);
    }
    ck_assert_uint_eq(breaker_room(&b, 5000), UINT32_MAX);
    breaker_failed(&b, &jitter, NS_PER_MS * 300); /* and from the beginning at the next outage */
    ck_assert_uint_eq(breaker_room(&b, 0), 16);
    ck_assert_uint_eq(b.opened, 2);
}
END_TEST

START_TEST(hurry_ends_the_wait_and_nothing_else)
{
    struct breaker b;
    breaker_init(&b, &plain, 0);
    for (int i = 0; i < 8; i++)
        breaker_failed(&b, &jitter, b.until_ns);
    uint64_t before = b.until_ns;
    ck_assert(!breaker_allows(&b, before - 1));
    breaker_hurry(&b, before - 1);
    ck_assert(breaker_allows(&b, before - 1));
    ck_assert_int_eq(b.state, OPEN);
    ck_assert_uint_eq(b.failures, 8);
    breaker_hurry(&b, before + 5);
    ck_assert_uint_eq(b.until_ns, before - 1);
}
END_TEST

START_TEST(counters_do_not_wrap)
{
    struct breaker b;
    breaker_init(&b, &plain, 0);
    b.failures = UINT32_MAX;
    breaker_failed(&b, &jitter, 0);
    ck_assert_uint_eq(b.failures, UINT32_MAX);
    ck_assert(b.until_ns <= plain.cap_ms * NS_PER_MS);
    b.limit = UINT32_MAX - 1;
    breaker_worked(&b, UINT32_MAX - 5, b.until_ns);
    ck_assert_uint_eq(breaker_room(&b, 0), UINT32_MAX);
}
END_TEST

/* -------------------------------------------------------------------------------------------------------- the model */

/* What has happened, in order; nothing is remembered but that. */
struct happening {
    bool failed; /* else worked */
    uint64_t at_ns, until_ns;
};
struct history {
    struct happening log[4000];
    size_t n;
    bool tried; /* since the last happening */
};

/* Failures in a row at the end that count: each one after the wait of the one before. */
static uint32_t failures_in(const struct history *h, const struct breaker_rules *rules)
{
    uint32_t n = 0;
    bool open = false;
    uint32_t successes = 0;
    for (size_t i = 0; i < h->n; i++) {
        if (h->log[i].failed) {
            n++;
            successes = 0;
            open |= n >= rules->failures;
        } else if (!open || ++successes >= rules->probes) {
            n = successes = 0;
            open = false;
        }
    }
    return n;
}

static enum spool_breaker state_in(const struct history *h, const struct breaker_rules *rules)
{
    uint32_t n = 0, successes = 0;
    enum spool_breaker state = SPOOL_BREAKER_CLOSED;
    for (size_t i = 0; i < h->n; i++) {
        if (h->log[i].failed) {
            successes = 0;
            if (++n >= rules->failures || state != SPOOL_BREAKER_CLOSED)
                state = SPOOL_BREAKER_OPEN;
        } else if (state == SPOOL_BREAKER_CLOSED) {
            n = 0;
        } else if (++successes >= rules->probes) {
            state = SPOOL_BREAKER_CLOSED;
            n = 0;
        } else {
            state = SPOOL_BREAKER_HALF_OPEN;
        }
    }
    return state == SPOOL_BREAKER_OPEN && h->tried ? SPOOL_BREAKER_HALF_OPEN : state;
}

static uint64_t draw(struct jitter *random, uint64_t below)
{
    return backoff_draw_ns(random, 1, 1000000, 1000000) % below;
}

static void compare(const struct breaker *b, const struct history *h, uint64_t now_ns, uint64_t seed)
{
    uint64_t until_ns = h->n > 0 && h->log[h->n - 1].failed ? h->log[h->n - 1].until_ns : 0;
    ck_assert_msg(b->state == state_in(h, &b->rules), "seed %llu, step %zu: state %d, the model says %d",
                  (unsigned long long)seed, h->n, b->state, state_in(h, &b->rules));
    ck_assert_msg(b->failures == failures_in(h, &b->rules), "seed %llu, step %zu: %u failures, the model says %u",
                  (unsigned long long)seed, h->n, b->failures, failures_in(h, &b->rules));
    ck_assert_msg(breaker_allows(b, now_ns) == (now_ns >= until_ns), "seed %llu, step %zu: allowed or not",
                  (unsigned long long)seed, h->n);
    ck_assert(b->until_ns <= now_ns + b->rules.cap_ms * NS_PER_MS);
}

static void fail_both(struct breaker *b, struct history *h, uint64_t now_ns)
{
    bool counts = h->n == 0 || !h->log[h->n - 1].failed || now_ns >= h->log[h->n - 1].until_ns;
    breaker_failed(b, &jitter, now_ns);
    if (!counts)
        return;
    uint64_t ceiling_ms = backoff_ceiling_ms(b->failures, b->rules.base_ms, b->rules.cap_ms);
    ck_assert_uint_le(b->until_ns, now_ns + ceiling_ms * NS_PER_MS);
    h->log[h->n++] = (struct happening){true, now_ns, b->until_ns};
    h->tried = false;
}

static void walk(uint64_t seed)
{
    struct jitter random = {.state = seed};
    struct breaker b;
    static struct history h;
    h.n = 0;
    h.tried = false;
    struct breaker_rules rules = plain;
    rules.failures = 1 + (uint32_t)draw(&random, 4);
    rules.probes = 1 + (uint32_t)draw(&random, 3);
    breaker_init(&b, &rules, 0);
    uint64_t now_ns = 0;
    for (int step = 0; step < 300; step++) {
        now_ns += draw(&random, 3) ? draw(&random, 200 * NS_PER_MS) : draw(&random, 20000 * NS_PER_MS);
        uint64_t roll = draw(&random, 3);
        if (roll == 0) {
            fail_both(&b, &h, now_ns);
        } else if (roll == 1) {
            breaker_worked(&b, 1 + (uint32_t)draw(&random, 50), now_ns);
            h.log[h.n++] = (struct happening){false, now_ns, 0};
            h.tried = false;
        } else if (breaker_allows(&b, now_ns)) {
            breaker_try(&b, now_ns);
            h.tried = true;
        }
        compare(&b, &h, now_ns, seed);
    }
}

START_TEST(agrees_with_the_model)
{
    const char *given = getenv("SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : 1;
    printf("seeds from %llu on\n", (unsigned long long)seed);
    for (uint64_t i = 0; i < 500; i++)
        walk(seed + i);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("breaker");
    TCase *tc = tcase_create("breaker");
    tcase_add_test(tc, each_transition);
    tcase_add_test(tc, a_new_one_is_closed_and_limits_nothing);
    tcase_add_test(tc, recovery_ramps_up);
    tcase_add_test(tc, hurry_ends_the_wait_and_nothing_else);
    tcase_add_test(tc, counters_do_not_wrap);
    tcase_add_test(tc, agrees_with_the_model);
    suite_add_tcase(s, tc);
    return s;
}

CHECK_MAIN(suite)
