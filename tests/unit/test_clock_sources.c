/* test_clock_sources.c - how the error grows, what a majority is, and the table of sources. */
#include "clock_fixture.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "../../clock/anchor.h"
#include "../../clock/kernel.h"
#include "../../clock/majority.h"

/* ---------------------------------------------------------------------------------------------------------- ageing */

static struct hlc_look later(struct hlc_look from, uint64_t boot_ns, uint64_t mono_ns, uint64_t raw_ns)
{
    return (struct hlc_look){from.wall_ns, from.boot_ns + boot_ns, from.mono_ns + mono_ns, from.raw_ns + raw_ns};
}

START_TEST(test_the_error_grows)
{
    const struct hlc_look at = {START_NS, 7 * SECOND, 5 * SECOND, 6 * SECOND};
    const struct anchor a = {START_NS, 1000, at, 0};
    struct hlc_look now = later(at, HOUR, HOUR, HOUR);
    struct estimate e = anchor_age(&a, &now, 50);
    ck_assert_uint_eq(e.time_ns, START_NS + HOUR);
    ck_assert_uint_eq(e.error_ns, 1000 + 3600 * 50000ull);
    now = later(at, HOUR, HOUR, HOUR - SECOND); /* somebody slews */
    ck_assert_uint_eq(anchor_age(&a, &now, 50).error_ns, 1000 + 3600 * 50000ull + SECOND);
    now = later(at, 2 * HOUR, HOUR, HOUR); /* an hour of it asleep */
    ck_assert_uint_eq(anchor_age(&a, &now, 50).error_ns, 1000 + 3600 * 50000ull + SECOND + 3600 * 500000ull);
    ck_assert_uint_eq(anchor_age(&a, &now, 50).time_ns, START_NS + 2 * HOUR);
}
END_TEST

START_TEST(test_ageing_saturates)
{
    const struct anchor unknown = {UINT64_MAX - 5, SPOOL_CLOCK_UNKNOWN, {0}, 0};
    const struct hlc_look now = {0, UINT64_MAX, UINT64_MAX, UINT64_MAX}, before = {0};
    struct estimate e = anchor_age(&unknown, &now, 100000);
    ck_assert_uint_eq(e.error_ns, SPOOL_CLOCK_UNKNOWN);
    ck_assert_uint_eq(e.time_ns, UINT64_MAX);
    ck_assert_uint_eq(estimate_earliest(e), 0);
    ck_assert_uint_eq(estimate_latest(e), UINT64_MAX);
    ck_assert_uint_eq(anchor_age(&unknown, &before, 1).time_ns, UINT64_MAX - 5);
}
END_TEST

/* -------------------------------------------------------------------------------------------------------- majority */

static void check_majority(const struct vote *votes, size_t n, bool found, uint64_t earliest, uint64_t latest,
                           unsigned voting, unsigned agreeing)
{
    struct majority m;
    ck_assert_int_eq(majority_find(votes, n, &m), found);
    ck_assert_uint_eq(m.voting, voting);
    if (!found)
        return;
    ck_assert_uint_eq(m.earliest_ns, earliest);
    ck_assert_uint_eq(m.latest_ns, latest);
    ck_assert_uint_eq(m.agreeing, agreeing);
}

START_TEST(test_majority)
{
    static const struct vote none[1],
        one[] = {{5, 9, 1}}, touch[] = {{5, 9, 1}, {9, 12, 2}}, apart[] = {{5, 8, 1}, {9, 12, 2}},
        liar[] = {{5, 9, 1}, {6, 10, 2}, {100, 101, 3}}, half[] = {{5, 9, 1}, {6, 10, 2}, {100, 101, 3}, {100, 102, 4}};
    check_majority(none, 0, false, 0, 0, 0, 0);
    check_majority(one, 1, true, 5, 9, 1, 1);
    check_majority(touch, 2, true, 9, 9, 2, 2);
    check_majority(apart, 2, false, 0, 0, 2, 0);
    check_majority(liar, 3, true, 6, 9, 3, 2);
    check_majority(half, 4, false, 0, 0, 4, 0);
}
END_TEST

/* Two stretches with two of three: the truth may be in either. */
START_TEST(test_majority_spans_all_that_may_be_true)
{
    static const struct vote votes[] = {{0, 100, 1}, {0, 10, 2}, {90, 100, 3}};
    check_majority(votes, 3, true, 0, 100, 3, 3);
    /* Four share [40, 50], but the three honest ones [60, 70], where the truth may be. */
    static const struct vote five[] = {{40, 70, 1}, {40, 70, 2}, {60, 90, 3}, {40, 50, 4}, {40, 50, 5}};
    check_majority(five, 5, true, 40, 70, 5, 5);
}
END_TEST

START_TEST(test_one_root_is_one_vote)
{
    static const struct vote same[] = {{5, 9, 7}, {6, 10, 7}, {6, 9, 7}, {100, 110, 1}, {101, 110, 2}};
    check_majority(same, 5, true, 101, 110, 3, 2); /* three that lie, with one root, against two */
    static const struct vote split[] = {{0, 1, 7}, {8, 9, 7}, {0, 9, 1}}; /* a root that contradicts itself */
    check_majority(split, 3, true, 0, 9, 2, 2);
}
END_TEST

/* Against the definition, point by point. */
static bool is_majority_point(const struct vote *votes, size_t n, uint64_t at)
{
    unsigned roots = 0, covers = 0;
    for (uint64_t root = 1; root <= 6; root++) {
        bool there = false, covered = false;
        for (size_t i = 0; i < n; i++) {
            there |= votes[i].root == root;
            covered |= votes[i].root == root && votes[i].earliest_ns <= at && at <= votes[i].latest_ns;
        }
        roots += there;
        covers += covered;
    }
    return 2 * covers > roots;
}

START_TEST(test_majority_is_what_it_is_defined_to_be)
{
    unsigned seed = (unsigned)test_seed(1);
    for (int round = 0; round < 20000; round++) {
        struct vote votes[8];
        size_t n = (size_t)(rand_r(&seed) % 9);
        for (size_t i = 0; i < n; i++) {
            uint64_t from = (uint64_t)(rand_r(&seed) % 30);
            votes[i] = (struct vote){from, from + (uint64_t)(rand_r(&seed) % 12), 1 + (uint64_t)(rand_r(&seed) % 6)};
        }
        uint64_t first = UINT64_MAX, last = 0;
        for (uint64_t at = 0; at < 50; at++) {
            if (!is_majority_point(votes, n, at))
                continue;
            first = first < at ? first : at;
            last = at;
        }
        struct majority m;
        bool found = majority_find(votes, n, &m);
        if (found != (first != UINT64_MAX) || (found && (m.earliest_ns != first || m.latest_ns != last)))
            ck_abort_msg("round %d: found %d [%llu, %llu], defined [%llu, %llu]", round, found,
                         (unsigned long long)m.earliest_ns, (unsigned long long)m.latest_ns, (unsigned long long)first,
                         (unsigned long long)last);
    }
}
END_TEST

/* ----------------------------------------------------------------------------------------------------- the table */

START_TEST(test_falsetickers_are_named)
{
    struct machine m;
    struct teller a = {.error_ns = SECOND / 10}, b = {.error_ns = SECOND / 20},
                  liar = {.offset_ns = 10 * (int64_t)SECOND, .error_ns = 1000};
    machine_begin(&m, START_NS, (struct hlc_options){0});
    teller_add(&m, "a", &a, 0);
    teller_add(&m, "b", &b, 0);
    teller_add(&m, "liar", &liar, 9);
    ck_assert_int_eq(machine_source(&m, "a").verdict, SPOOL_CLOCK_UNASKED);
    hlc_poll(m.clock, false);
    ck_assert_int_eq(machine_source(&m, "liar").verdict, SPOOL_CLOCK_FALSETICKER);
    ck_assert_int_eq(machine_source(&m, "liar").offset_ns, 10 * (int64_t)SECOND);
    ck_assert_int_eq(machine_source(&m, "a").verdict, SPOOL_CLOCK_AGREES);
    ck_assert(machine_source(&m, "b").chosen && !machine_source(&m, "a").chosen); /* the least error */
    ck_assert_int_eq(machine_source(&m, "realtime").verdict, SPOOL_CLOCK_UNBOUNDED);
    ck_assert_int_eq(machine_source(&m, "monotonic").verdict, SPOOL_CLOCK_STANDBY);
    struct spool_clock_reading r = machine_read(&m);
    ck_assert_int_eq(r.status, SPOOL_CLOCK_SYNCHRONISED);
    ck_assert_uint_eq(r.voting, 3);
    ck_assert_uint_eq(r.agreeing, 2);
    double want = 2.0 / 4 * 0.5 / (0.5 + (double)r.error_ns / 1e9);
    ck_assert_double_eq_tol(r.confidence, want, 1e-9);
    hlc_free(m.clock);
}
END_TEST

/* Preference beats error, can be changed while it runs, and only among those that agree. */
START_TEST(test_preference)
{
    struct machine m;
    struct teller a = {.error_ns = SECOND / 10}, b = {.error_ns = SECOND / 20};
    machine_begin(&m, START_NS, (struct hlc_options){0});
    teller_add(&m, "a", &a, 1);
    teller_add(&m, "b", &b, 0);
    hlc_poll(m.clock, false);
    ck_assert(machine_source(&m, "a").chosen);
    ck_ok(hlc_source_set(m.clock, "b", &SPOOL_CLOCK_SOURCE_OPTIONS(.preference = 2, .poll_interval_ms = 32000)));
    ck_assert(machine_source(&m, "b").chosen);
    hlc_poll(m.clock, false); /* asked again at once */
    ck_assert_int_eq(b.reads, 2);
    ck_assert_uint_eq(machine_source(&m, "b").poll_interval_ms, 32000);
    machine_pass(&m, 20 * SECOND);
    hlc_poll(m.clock, false);
    ck_assert_int_eq(b.reads, 2);
    ck_assert_int_eq(a.reads, 2);
    ck_code(hlc_source_set(m.clock, "c", &SPOOL_CLOCK_SOURCE_OPTIONS(.preference = 2)), SPOOL_ENOTFOUND);
    hlc_free(m.clock);
}
END_TEST

START_TEST(test_hysteresis)
{
    struct machine m;
    struct teller a = {.error_ns = 10 * NS_PER_MS}, b = {.error_ns = 11 * NS_PER_MS};
    machine_begin(&m, START_NS, (struct hlc_options){0});
    teller_add(&m, "a", &a, 0);
    teller_add(&m, "b", &b, 0);
    hlc_poll(m.clock, false);
    ck_assert(machine_source(&m, "a").chosen);
    b.error_ns = 8 * NS_PER_MS; /* better, but not by half */
    hlc_calibrate(m.clock, DEADLINE_NEVER);
    ck_assert(machine_source(&m, "a").chosen);
    b.error_ns = 1 * NS_PER_MS;
    hlc_calibrate(m.clock, DEADLINE_NEVER);
    ck_assert(machine_source(&m, "b").chosen);
    hlc_free(m.clock);
}
END_TEST

START_TEST(test_no_majority_is_degraded)
{
    struct machine m;
    struct teller a = {.error_ns = SECOND / 10}, b = {.offset_ns = 10 * (int64_t)SECOND, .error_ns = SECOND / 20};
    machine_begin(&m, START_NS, (struct hlc_options){0});
    teller_add(&m, "a", &a, 9);
    teller_add(&m, "b", &b, 0);
    hlc_poll(m.clock, false);
    struct spool_clock_reading r = machine_read(&m);
    ck_assert_int_eq(r.status, SPOOL_CLOCK_DEGRADED);
    ck_assert(machine_source(&m, "b").chosen); /* the lowest bound, whatever is preferred */
    ck_assert_int_eq(machine_source(&m, "a").verdict, SPOOL_CLOCK_NO_MAJORITY);
    ck_assert_uint_eq(r.agreeing, 1);
    ck_assert_uint_eq(hlc_physical_ns(m.clock), START_NS); /* nobody is followed */
    hlc_free(m.clock);
}
END_TEST

START_TEST(test_silence)
{
    struct machine m;
    struct teller a = {.error_ns = SECOND / 10};
    machine_begin(&m, START_NS, (struct hlc_options){0});
    struct spool_clock_reading r = machine_read(&m);
    ck_assert_int_eq(r.status, SPOOL_CLOCK_UNSYNCHRONISED);
    ck_assert_uint_eq(r.error_ns, SPOOL_CLOCK_UNKNOWN);
    ck_assert_uint_eq(r.earliest_ns, 0);
    ck_assert_uint_eq(r.latest_ns, UINT64_MAX);
    ck_assert(r.confidence == 0 && r.time_ns == START_NS);
    teller_add(&m, "a", &a, 0);
    hlc_poll(m.clock, false);
    a.code = SPOOL_EUNAVAILABLE;
    uint64_t error_ns = 0;
    for (int i = 0; i < 100; i++) { /* never stops; ever less certain */
        machine_pass(&m, 60 * SECOND);
        hlc_poll(m.clock, false);
        r = machine_read(&m);
        ck_assert_uint_gt(r.error_ns, error_ns);
        ck_assert_uint_eq(r.time_ns, m.now.wall_ns);
        error_ns = r.error_ns;
    }
    ck_assert_int_eq(r.status, SPOOL_CLOCK_HOLDOVER);
    ck_assert_int_eq(machine_source(&m, "a").verdict, SPOOL_CLOCK_UNREACHABLE);
    ck_assert(machine_source(&m, "monotonic").chosen);
    ck_assert_uint_eq(machine_source(&m, "a").poll_interval_ms, 1024000); /* backed off */
    ck_assert_int_eq(m.told[HLC_STATUS], 2);
    hlc_free(m.clock);
}
END_TEST

START_TEST(test_refusal_is_final_until_set)
{
    struct machine m;
    struct teller a = {.error_ns = SECOND / 10, .code = SPOOL_EREJECTED};
    machine_begin(&m, START_NS, (struct hlc_options){0});
    teller_add(&m, "a", &a, 0);
    for (int i = 0; i < 10; i++) {
        hlc_poll(m.clock, false);
        machine_pass(&m, HOUR);
    }
    ck_assert_int_eq(a.reads, 1);
    ck_assert_int_eq(machine_source(&m, "a").verdict, SPOOL_CLOCK_REFUSED);
    a.code = 0;
    ck_ok(hlc_source_set(m.clock, "a", &SPOOL_CLOCK_SOURCE_OPTIONS(.poll_interval_ms = 16000)));
    hlc_poll(m.clock, false);
    ck_assert_int_eq(machine_source(&m, "a").verdict, SPOOL_CLOCK_AGREES);
    hlc_free(m.clock);
}
END_TEST

/* A better older answer counts as long as the newest does not contradict it. */
START_TEST(test_best_of_the_last_answers)
{
    struct machine m;
    struct teller a = {.error_ns = NS_PER_MS};
    machine_begin(&m, START_NS, (struct hlc_options){.drift_ppm = 50});
    teller_add(&m, "a", &a, 0);
    hlc_poll(m.clock, false);
    a.error_ns = SECOND; /* held up on its way */
    machine_pass(&m, 20 * SECOND);
    hlc_poll(m.clock, false);
    ck_assert_uint_eq(machine_source(&m, "a").error_ns, 2 * NS_PER_MS); /* 50 ppm of 20 s */
    a.offset_ns = 5 * (int64_t)SECOND;                                  /* it changed its mind */
    machine_pass(&m, 20 * SECOND);
    hlc_poll(m.clock, false);
    ck_assert_uint_eq(machine_source(&m, "a").error_ns, SECOND);
    ck_assert_int_eq(machine_source(&m, "a").offset_ns, 5 * (int64_t)SECOND);
    hlc_free(m.clock);
}
END_TEST

START_TEST(test_assumed_error)
{
    struct machine m;
    machine_begin(&m, START_NS, (struct hlc_options){0});
    ck_ok(hlc_source_set(m.clock, "realtime", &SPOOL_CLOCK_SOURCE_OPTIONS(.assumed_error_ms = 2000)));
    struct spool_clock_reading r = machine_read(&m);
    ck_assert_int_eq(r.status, SPOOL_CLOCK_SYNCHRONISED);
    ck_assert_uint_eq(r.error_ns, 2 * SECOND);
    m.now.wall_ns += HOUR; /* and is no confirmation of a jump */
    machine_pass(&m, 2 * SECOND);
    r = machine_read(&m);
    ck_assert(r.flags & SPOOL_CLOCK_PAUSED);
    ck_assert_uint_lt(r.time_ns, START_NS + HOUR);
    hlc_free(m.clock);
}
END_TEST

START_TEST(test_compare)
{
    struct spool_clock_reading a = SPOOL_CLOCK_READING(), b = a;
    a.earliest_ns = 10, a.latest_ns = 20, b.earliest_ns = 21, b.latest_ns = 30;
    ck_assert_int_eq(spool_clock_compare(&a, &b), SPOOL_CLOCK_BEFORE);
    ck_assert_int_eq(spool_clock_compare(&b, &a), SPOOL_CLOCK_AFTER);
    b.earliest_ns = 20;
    ck_assert_int_eq(spool_clock_compare(&a, &b), SPOOL_CLOCK_OVERLAPPING);
    ck_assert_int_eq(spool_clock_compare(&b, &a), SPOOL_CLOCK_OVERLAPPING);
    ck_assert_int_eq(spool_clock_compare(NULL, &a), SPOOL_CLOCK_OVERLAPPING);
}
END_TEST

START_TEST(test_bad_sources_are_refused)
{
    struct machine m;
    struct teller t = {.error_ns = 1};
    struct spool_clock_source hooks = {SPOOL_CLOCK_SOURCE_ABI, sizeof hooks, "teller", .read = teller_read};
    struct spool_clock_source_options o = SPOOL_CLOCK_SOURCE_OPTIONS(.user = &t);
    t.machine = &m;
    machine_begin(&m, START_NS, (struct hlc_options){0});
    ck_code(hlc_source_add(m.clock, "", &hooks, &o), SPOOL_EINVAL);
    ck_code(hlc_source_add(m.clock, "a b", &hooks, &o), SPOOL_EINVAL);
    ck_code(hlc_source_add(m.clock, NULL, &hooks, &o), SPOOL_EINVAL);
    ck_code(hlc_source_add(m.clock, "realtime", &hooks, &o), SPOOL_EEXISTS);
    ck_code(hlc_source_add(m.clock, "a", NULL, &o), SPOOL_EINVAL);
    hooks.abi = 9;
    ck_code(hlc_source_add(m.clock, "a", &hooks, &o), SPOOL_EABI);
    hooks.abi = SPOOL_CLOCK_SOURCE_ABI;
    hooks.read = NULL;
    ck_code(hlc_source_add(m.clock, "a", &hooks, &o), SPOOL_EINVAL);
    hooks.read = teller_read;
    o.flags = 1u << 9;
    ck_code(hlc_source_add(m.clock, "a", &hooks, &o), SPOOL_EOPTION);
    o.flags = 0;
    o.size = 3;
    ck_code(hlc_source_add(m.clock, "a", &hooks, &o), SPOOL_EOPTION);
    o.size = sizeof o;
    for (int i = 0; i < SPOOL_CLOCK_SOURCES_MAX - 2; i++) { /* realtime and monotonic are there */
        char name[16];
        snprintf(name, sizeof name, "s%d", i);
        ck_ok(hlc_source_add(m.clock, name, &hooks, &o));
    }
    ck_code(hlc_source_add(m.clock, "more", &hooks, &o), SPOOL_EFULL);
    hlc_poll(m.clock, false);
    ck_ok(hlc_source_remove(m.clock, "s3"));
    ck_code(hlc_source_remove(m.clock, "s3"), SPOOL_ENOTFOUND);
    ck_code(hlc_source_remove(m.clock, "realtime"), SPOOL_EINVAL);
    ck_code(hlc_source_remove(m.clock, "monotonic"), SPOOL_EINVAL);
    ck_ok(hlc_source_add(m.clock, "more", &hooks, &o));
    hlc_free(m.clock);
}
END_TEST

START_TEST(test_impossible_answers)
{
    struct machine m;
    struct teller a = {.error_ns = 1, .leap = 7};
    machine_begin(&m, START_NS, (struct hlc_options){0});
    teller_add(&m, "a", &a, 0);
    hlc_poll(m.clock, false);
    ck_assert_int_eq(machine_source(&m, "a").verdict, SPOOL_CLOCK_UNREACHABLE);
    ck_assert_uint_eq(machine_source(&m, "a").failures, 1);
    hlc_free(m.clock);
}
END_TEST

/* ------------------------------------------------------------------------------------------------------ the kernel */

START_TEST(test_kernel_judgement)
{
    struct kernel_state k;
    struct timex tx = {.maxerror = 16000000, .esterror = 16000000, .status = STA_UNSYNC, .tai = 37};
    kernel_judge(&tx, TIME_ERROR, &k); /* what this machine says */
    ck_assert_uint_eq(k.error_ns, SPOOL_CLOCK_UNKNOWN);
    ck_assert(!k.disciplined && k.leap == 0 && k.tai_offset_s == 37);
    tx = (struct timex){.maxerror = 2500, .esterror = 100};
    kernel_judge(&tx, TIME_OK, &k);
    ck_assert_uint_eq(k.error_ns, 2500000);
    ck_assert(k.disciplined);
    tx.status = STA_UNSYNC; /* chronyd without rtcsync: the bound counts, not the flag */
    kernel_judge(&tx, TIME_ERROR, &k);
    ck_assert_uint_eq(k.error_ns, 2500000);
    tx = (struct timex){.maxerror = 0, .esterror = 0, .status = STA_INS}; /* timesyncd keeps no account */
    kernel_judge(&tx, TIME_INS, &k);
    ck_assert_uint_eq(k.error_ns, 100 * NS_PER_MS);
    ck_assert_int_eq(k.leap, 1);
    tx.status = STA_DEL;
    kernel_judge(&tx, TIME_DEL, &k);
    ck_assert_int_eq(k.leap, -1);
    tx = (struct timex){.maxerror = 1000, .esterror = 10, .status = STA_INS};
    kernel_judge(&tx, TIME_OOP, &k); /* the second that is there twice */
    ck_assert_uint_eq(k.error_ns, NS_PER_MS + SECOND);
    tx.maxerror = -1;
    kernel_judge(&tx, TIME_OK, &k);
    ck_assert_uint_eq(k.error_ns, SPOOL_CLOCK_UNKNOWN);
}
END_TEST

/* Against adjtimex(2) as this machine answers it, asked before and after. */
START_TEST(test_kernel_source_says_what_adjtimex_says)
{
    struct machine m = {0};
    struct timex before = {0}, after = {0};
    struct spool_clock_reading r;
    ck_ok(hlc_new(NULL, &m.clock));
    ck_assert_int_ge(adjtimex(&before), 0);
    struct spool_clock_source_info kernel = machine_source(&m, "kernel");
    ck_ok(hlc_read(m.clock, &r));
    int state = adjtimex(&after);
    printf("adjtimex: state %d, status 0x%x, maxerror %ld us, esterror %ld us, tai %d\n", state, (unsigned)after.status,
           (long)after.maxerror, (long)after.esterror, after.tai);
    ck_assert_int_eq(kernel.failures, 0);
    ck_assert_uint_ge(kernel.answers, 1);
    ck_assert_int_eq(r.tai_offset_s, after.tai);
    if (before.maxerror >= 16000000 && after.maxerror >= 16000000) {
        ck_assert_int_eq(kernel.verdict, SPOOL_CLOCK_UNBOUNDED);
        ck_assert_uint_eq(kernel.error_ns, SPOOL_CLOCK_UNKNOWN);
        ck_assert_int_eq(r.status, SPOOL_CLOCK_UNSYNCHRONISED);
    } else if (before.maxerror < 16000000 && after.maxerror < 16000000) {
        ck_assert_int_eq(kernel.verdict, SPOOL_CLOCK_AGREES);
        ck_assert_uint_ge(kernel.error_ns,
                          (uint64_t)(before.maxerror < after.maxerror ? before.maxerror : after.maxerror) * 1000);
        ck_assert_int_eq(r.status, SPOOL_CLOCK_SYNCHRONISED);
    }
    hlc_free(m.clock);
}
END_TEST

/* --------------------------------------------------------------------------------------------------------- threads */

/* A source of the real machine that waits until it is cancelled, or until `open`. */
struct gate {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool cancelled, open, deaf; /* lock */
    _Atomic int reads, closed;
};

static int gate_read(void *state, uint32_t timeout_ms, struct spool_clock_sample *ret)
{
    struct gate *g = state;
    uint64_t deadline = deadline_in_ms(timeout_ms);
    atomic_fetch_add(&g->reads, 1);
    pthread_mutex_lock(&g->lock);
    while (!g->open && (g->deaf || !g->cancelled))
        if (cond_wait_until(&g->cond, &g->lock, g->deaf ? DEADLINE_NEVER : deadline))
            break;
    bool open = g->open;
    g->cancelled = false;
    pthread_mutex_unlock(&g->lock);
    if (!open)
        return err_set(SPOOL_EUNAVAILABLE, "cancelled, or too late");
    ret->unix_ns = real_ns();
    ret->error_ns = SECOND;
    return SPOOL_OK;
}

static void gate_set(struct gate *g, bool *what)
{
    pthread_mutex_lock(&g->lock);
    *what = true;
    pthread_cond_broadcast(&g->cond);
    pthread_mutex_unlock(&g->lock);
}

static void gate_cancel(void *state)
{
    struct gate *g = state;
    gate_set(g, &g->cancelled);
}

static void gate_close(void *state)
{
    atomic_fetch_add(&((struct gate *)state)->closed, 1);
}

static void gate_add(struct hlc *clock, struct gate *g, const char *name)
{
    const struct spool_clock_source hooks = {SPOOL_CLOCK_SOURCE_ABI, sizeof hooks,          "gate",
                                             .read = gate_read,      .cancel = gate_cancel, .close = gate_close};
    pthread_mutex_init(&g->lock, NULL);
    ck_ok(cond_init(&g->cond));
    ck_ok(hlc_source_add(clock, name, &hooks,
                         &SPOOL_CLOCK_SOURCE_OPTIONS(.user = g, .timeout_ms = 60000, .poll_interval_ms = 10)));
}

static void wait_for(const _Atomic int *count, int least)
{
    for (uint64_t until = deadline_in_ms(30000); atomic_load(count) < least && mono_ns() < until;)
        sched_yield();
    ck_assert_int_ge(atomic_load(count), least);
}

START_TEST(test_free_while_a_source_is_read)
{
    struct hlc *clock;
    struct gate g = {.open = false};
    ck_ok(hlc_new(NULL, &clock));
    gate_add(clock, &g, "gate");
    wait_for(&g.reads, 1);
    hlc_free(clock);
    ck_assert_int_eq(atomic_load(&g.closed), 1);
}
END_TEST

START_TEST(test_remove_while_it_is_read)
{
    struct hlc *clock;
    struct gate g = {.open = false};
    ck_ok(hlc_new(NULL, &clock));
    gate_add(clock, &g, "gate");
    wait_for(&g.reads, 1);
    ck_ok(hlc_source_remove(clock, "gate"));
    ck_assert_int_eq(atomic_load(&g.closed), 1);
    hlc_free(clock);
}
END_TEST

/* It heeds no cancel: nothing waits for it for long, and its memory is freed when it comes back. */
START_TEST(test_a_source_that_hangs)
{
    static struct gate g = {.deaf = true};
    struct hlc *clock;
    struct spool_clock_reading r;
    ck_ok(hlc_new(NULL, &clock));
    gate_add(clock, &g, "gate");
    wait_for(&g.reads, 1);
    ck_code(hlc_source_remove(clock, "gate"), SPOOL_EBUSY);
    ck_ok(hlc_read(clock, &r));
    ck_code(hlc_calibrate(clock, deadline_in_ms(50)), SPOOL_ETIMEOUT);
    hlc_free(clock);
    ck_assert_int_eq(atomic_load(&g.closed), 0);
    gate_set(&g, &g.open);
    wait_for(&g.closed, 1);
}
END_TEST

static void *read_much(void *arg)
{
    struct spool_clock_reading r;
    for (int i = 0; i < 300; i++)
        ck_ok(hlc_read(arg, &r));
    return NULL;
}

static void *change_much(void *arg)
{
    for (int i = 0; i < 100; i++) {
        ck_ok(hlc_source_set(arg, "b", &SPOOL_CLOCK_SOURCE_OPTIONS(.preference = (unsigned)i, .poll_interval_ms = 10)));
        hlc_calibrate(arg, deadline_in_ms(10));
        hlc_reset(arg);
    }
    return NULL;
}

START_TEST(test_all_at_once)
{
    struct gate a = {.open = true}, b = {.open = true};
    struct hlc *clock;
    pthread_t threads[3];
    ck_ok(hlc_new(NULL, &clock));
    gate_add(clock, &a, "a");
    gate_add(clock, &b, "b");
    pthread_create(&threads[0], NULL, read_much, clock);
    pthread_create(&threads[1], NULL, change_much, clock);
    pthread_create(&threads[2], NULL, read_much, clock);
    for (int i = 0; i < 20; i++) {
        struct gate c = {.open = true};
        gate_add(clock, &c, "c");
        ck_ok(hlc_source_remove(clock, "c"));
    }
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    wait_for(&a.reads, 2);
    struct spool_clock_reading r;
    ck_ok(hlc_read(clock, &r));
    ck_assert_int_eq(r.status, SPOOL_CLOCK_SYNCHRONISED);
    ck_assert_uint_eq(r.agreeing, 2 + (r.voting > 2));
    hlc_free(clock);
}
END_TEST

/* While the parent's thread is in the source. */
START_TEST(test_fork)
{
    struct hlc *clock;
    struct gate g = {.open = false};
    int status;
    ck_ok(hlc_new(NULL, &clock));
    gate_add(clock, &g, "gate");
    ck_ok(hlc_source_add_sntp(clock, "127.0.0.1:9", NULL));
    wait_for(&g.reads, 1);
    pid_t child = fork();
    if (child == 0) {
        hlc_abandon(clock);
        _exit(atomic_load(&g.closed) ? 1 : 0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    hlc_free(clock);
    ck_assert_int_eq(atomic_load(&g.closed), 1);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("clock_sources");
    TCase *t = tcase_create("sources");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, test_the_error_grows);
    tcase_add_test(t, test_ageing_saturates);
    tcase_add_test(t, test_majority);
    tcase_add_test(t, test_majority_spans_all_that_may_be_true);
    tcase_add_test(t, test_one_root_is_one_vote);
    tcase_add_test(t, test_majority_is_what_it_is_defined_to_be);
    tcase_add_test(t, test_falsetickers_are_named);
    tcase_add_test(t, test_preference);
    tcase_add_test(t, test_hysteresis);
    tcase_add_test(t, test_no_majority_is_degraded);
    tcase_add_test(t, test_silence);
    tcase_add_test(t, test_refusal_is_final_until_set);
    tcase_add_test(t, test_best_of_the_last_answers);
    tcase_add_test(t, test_assumed_error);
    tcase_add_test(t, test_compare);
    tcase_add_test(t, test_bad_sources_are_refused);
    tcase_add_test(t, test_impossible_answers);
    tcase_add_test(t, test_kernel_judgement);
    tcase_add_test(t, test_kernel_source_says_what_adjtimex_says);
    tcase_add_test(t, test_free_while_a_source_is_read);
    tcase_add_test(t, test_remove_while_it_is_read);
    tcase_add_test(t, test_a_source_that_hangs);
    tcase_add_test(t, test_all_at_once);
    tcase_add_forking_test(t, test_fork);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
