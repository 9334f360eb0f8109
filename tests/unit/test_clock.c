/* test_clock.c - the hybrid logical clock under a wall clock that does whatever it likes. */
#include "../check_main.h"

#include <pthread.h>
#include <stdatomic.h>

#include "../../clock/clock.h"
#include "../../lib/base/sync.h"

#define START_NS 1795253655000000000ull
#define SECOND 1000000000ull

static uint64_t fake_now(void *user)
{
    return *(const uint64_t *)user;
}

static struct hlc *fake_clock(uint64_t *now, struct hlc_options options)
{
    struct hlc *clock;
    options.physical = fake_now;
    options.physical_user = now;
    ck_ok(hlc_new(&options, &clock));
    return clock;
}

/* The next stamp, which must be later than `last`. (ck_assert() writes to a pipe each time: too slow for a million.) */
static struct spool_id next_after(struct hlc *clock, struct spool_id last)
{
    struct spool_id id;
    hlc_now(clock, &id);
    if (!id_is_valid(&id) || spool_id_compare(&id, &last) <= 0)
        ck_abort_msg("stamp %llx, counter %u is not later", (unsigned long long)id_stamp(&id).ticks,
                     id_stamp(&id).counter);
    return id;
}

static void check_stamp(struct spool_id id, uint64_t ticks, unsigned counter)
{
    struct hlc_stamp stamp = id_stamp(&id);
    if (stamp.ticks != ticks || stamp.counter != counter)
        ck_abort_msg("got %llx.%x instead of %llx.%x", (unsigned long long)stamp.ticks, stamp.counter,
                     (unsigned long long)ticks, counter);
}

START_TEST(test_follows_the_wall_clock)
{
    uint64_t now = START_NS;
    struct hlc *clock = fake_clock(&now, (struct hlc_options){0});
    struct spool_id last = {{0}};
    for (int i = 0; i < 1000; i++, now += 777) {
        last = next_after(clock, last);
        check_stamp(last, ticks_from_ns(now), 0);
    }
    ck_assert_uint_eq(hlc_physical_ns(clock), now);
    hlc_free(clock);
    hlc_free(NULL);
}
END_TEST

/* Counts within the tick, and moves on one tick only when the counter is used up. */
START_TEST(test_a_standing_clock_is_counted_on)
{
    uint64_t now = START_NS;
    struct hlc *clock = fake_clock(&now, (struct hlc_options){0});
    struct spool_id last = {{0}};
    for (int i = 0; i < 100000; i++) {
        last = next_after(clock, last);
        check_stamp(last, ticks_from_ns(now) + (unsigned)i / 256, (unsigned)i % 256);
    }
    hlc_free(clock);
}
END_TEST

START_TEST(test_never_goes_back)
{
    uint64_t now = START_NS;
    struct hlc *clock = fake_clock(&now, (struct hlc_options){0});
    struct spool_id last = next_after(clock, (struct spool_id){{0}});
    static const uint64_t wild[] = {START_NS - 3600 * SECOND, START_NS + 1, 0, START_NS - 1, 1, UINT64_MAX, START_NS};
    for (size_t i = 0; i < sizeof wild / sizeof wild[0]; i++) {
        now = wild[i];
        for (int k = 0; k < 1000; k++)
            last = next_after(clock, last);
    }
    hlc_free(clock);
}
END_TEST

START_TEST(test_an_hour_back_does_not_burn_time)
{
    uint64_t now = START_NS;
    struct hlc *clock = fake_clock(&now, (struct hlc_options){0});
    struct spool_id first = next_after(clock, (struct spool_id){{0}}), last = first;
    now -= 3600 * SECOND;
    for (int i = 0; i < 256000; i++)
        last = next_after(clock, last);
    ck_assert_uint_le(spool_id_time_ns(&last) - spool_id_time_ns(&first), 1000 * 245);
    hlc_free(clock);
}
END_TEST

START_TEST(test_raise)
{
    uint64_t now = START_NS;
    struct hlc *clock = fake_clock(&now, (struct hlc_options){0});
    struct spool_id id, last;
    uint64_t ticks = ticks_from_ns(START_NS + 9000 * SECOND); /* unbounded */
    static const uint16_t counters[] = {0, 1, 254, 255, 256, 0x3fff};
    for (size_t i = 0; i < sizeof counters / sizeof counters[0]; i++) {
        id_make((struct hlc_stamp){ticks + i * 100, counters[i]}, UINT64_MAX, &id);
        hlc_raise(clock, &id);
        last = next_after(clock, id);
        ck_assert_int_gt(id_stamp_compare(id_stamp(&last), id_stamp(&id)), 0); /* whatever the node */
        ck_assert_uint_le(id_stamp(&last).ticks, ticks + i * 100 + 1);
    }
    id_min_at_ns(START_NS, &id);
    hlc_raise(clock, &id); /* lower: changes nothing */
    next_after(clock, last);
    hlc_free(clock);
}
END_TEST

START_TEST(test_raise_to_the_end_of_time_is_ignored)
{
    uint64_t now = START_NS;
    struct hlc *clock = fake_clock(&now, (struct hlc_options){0});
    struct spool_id id, last;
    id_make((struct hlc_stamp){UINT64_MAX, UINT16_MAX}, 0, &id);
    hlc_raise(clock, &id);
    id_make((struct hlc_stamp){UINT64_MAX, 0}, 0, &id);
    hlc_raise(clock, &id);
    last = next_after(clock, (struct spool_id){{0}});
    ck_assert_uint_eq(id_stamp(&last).ticks, ticks_from_ns(START_NS));
    id_make((struct hlc_stamp){(1ull << 56) - (1ull << 47) - 1, 255}, 0, &id); /* the last that is taken */
    hlc_raise(clock, &id);
    last = id;
    for (int i = 0; i < 1000; i++)
        last = next_after(clock, last);
    hlc_free(clock);
}
END_TEST

START_TEST(test_update)
{
    uint64_t now = START_NS;
    struct hlc *clock = fake_clock(&now, (struct hlc_options){0});
    struct spool_id remote, last;
    id_max_at_ns(now + 499 * NS_PER_MS, &remote);
    ck_ok(hlc_update(clock, &remote));
    last = next_after(clock, remote);
    id_min_at_ns(now + 501 * NS_PER_MS, &remote);
    ck_code(hlc_update(clock, &remote), SPOOL_EINVAL);
    last = next_after(clock, last);
    ck_assert_int_lt(spool_id_compare(&last, &remote), 0); /* no change */
    id_min_at_ns(now - 3600 * SECOND, &remote);
    ck_ok(hlc_update(clock, &remote));
    next_after(clock, last);
    memset(&remote, 0, sizeof remote);
    ck_code(hlc_update(clock, &remote), SPOOL_EID);
    id_make((struct hlc_stamp){UINT64_MAX, 0}, 0, &remote);
    ck_code(hlc_update(clock, &remote), SPOOL_EINVAL);
    now = UINT64_MAX - 1; /* now + offset must not wrap */
    ck_code(hlc_update(clock, &remote), SPOOL_EINVAL);
    id_min_at_ns(START_NS, &remote);
    ck_ok(hlc_update(clock, &remote));
    hlc_free(clock);
}
END_TEST

/* Whatever offset is allowed: room to count on is left. */
START_TEST(test_update_beyond_what_can_be_counted)
{
    uint64_t now = START_NS;
    struct hlc *clock = fake_clock(&now, (struct hlc_options){.max_offset_ns = UINT64_MAX});
    struct spool_id remote, last = {{0}};
    id_min_at_ns(UINT64_MAX, &remote);
    ck_code(hlc_update(clock, &remote), SPOOL_EINVAL);
    last = next_after(clock, last);
    check_stamp(last, ticks_from_ns(now), 0);
    id_min_at_ns(now * 2, &remote);
    ck_ok(hlc_update(clock, &remote));
    next_after(clock, remote);
    hlc_free(clock);
}
END_TEST

START_TEST(test_nodes_differ)
{
    struct hlc *a, *b;
    struct spool_id ida, idb;
    ck_ok(hlc_new(NULL, &a));
    ck_ok(hlc_new(NULL, &b));
    hlc_now(a, &ida);
    hlc_now(b, &idb);
    ck_assert_uint_ne(id_node(&ida), id_node(&idb));
    uint64_t now = real_ns(), stamp = spool_id_time_ns(&ida);
    ck_assert_uint_lt(stamp > now ? stamp - now : now - stamp, 60 * SECOND);
    hlc_free(a);
    hlc_free(b);
}
END_TEST

/* ---------------------------------------------------------------------------------------------------------- jumps */

struct jumps {
    int count;
    int64_t last_ns;
};

static void hear_jump(void *user, const struct hlc_event *event)
{
    struct jumps *jumps = user;
    if (event->kind != HLC_JUMP)
        return;
    jumps->count++;
    jumps->last_ns = event->ns;
}

/* The jump heard is the one made, but for the real time that passes meanwhile. */
static void check_jump(const struct jumps *jumps, int count, int64_t made_ns)
{
    ck_assert_int_eq(jumps->count, count);
    int64_t off = jumps->last_ns - made_ns;
    ck_assert_msg(off <= 0 && off > -5 * (int64_t)SECOND, "heard %lld, made %lld", (long long)jumps->last_ns,
                  (long long)made_ns);
}

START_TEST(test_jumps_are_told_once)
{
    uint64_t now = START_NS;
    struct jumps jumps = {0};
    struct hlc *clock =
        fake_clock(&now, (struct hlc_options){.on_event = hear_jump, .event_user = &jumps, .jump_min_ns = 60 * SECOND});
    struct spool_id last = next_after(clock, (struct spool_id){{0}});
    now += 3600 * SECOND;
    for (int i = 0; i < 100; i++)
        last = next_after(clock, last);
    check_jump(&jumps, 1, 3600 * (int64_t)SECOND);
    now -= 7200 * SECOND;
    for (int i = 0; i < 100; i++)
        last = next_after(clock, last);
    check_jump(&jumps, 2, -7200 * (int64_t)SECOND);
    now += 30 * SECOND; /* below jump_min_ns */
    next_after(clock, last);
    ck_assert_int_eq(jumps.count, 2);
    hlc_free(clock);
}
END_TEST

START_TEST(test_the_real_clock_does_not_jump)
{
    struct jumps jumps = {0};
    struct hlc_options options = {.on_event = hear_jump, .event_user = &jumps};
    struct hlc *clock;
    ck_ok(hlc_new(&options, &clock));
    struct spool_id last = {{0}};
    for (uint64_t end = deadline_in_ms(100); mono_ns() < end;)
        last = next_after(clock, last);
    ck_assert_int_eq(jumps.count, 0);
    hlc_free(clock);
}
END_TEST

/* -------------------------------------------------------------------------------------------------------- threads */

enum { THREADS = 4, STAMPS = 50000 };

struct racer {
    struct hlc *clock;
    _Atomic uint64_t *now; /* moved about by all */
    unsigned seed;
    struct spool_id *stamps;
};

static uint64_t racing_now(void *user)
{
    return atomic_load_explicit((_Atomic uint64_t *)user, memory_order_relaxed);
}

/* Takes stamps while the wall clock is set to and fro. */
static void *race(void *arg)
{
    struct racer *r = arg;
    for (int i = 0; i < STAMPS; i++) {
        if (i % 64 == 0)
            atomic_store_explicit(r->now, START_NS + (uint64_t)rand_r(&r->seed) % SECOND, memory_order_relaxed);
        hlc_now(r->clock, &r->stamps[i]);
    }
    return NULL;
}

static int by_id(const void *a, const void *b)
{
    return spool_id_compare(a, b);
}

static void check_rising(const struct spool_id *ids, size_t n)
{
    for (size_t i = 1; i < n; i++)
        if (spool_id_compare(&ids[i - 1], &ids[i]) >= 0)
            ck_abort_msg("stamp %zu is not later than the one before", i);
}

START_TEST(test_threads_never_get_the_same)
{
    static struct spool_id all[THREADS * STAMPS];
    _Atomic uint64_t now = START_NS;
    struct hlc_options options = {.physical = racing_now, .physical_user = &now};
    struct hlc *clock;
    pthread_t threads[THREADS];
    struct racer racers[THREADS];
    unsigned seed = (unsigned)test_seed(1);
    ck_ok(hlc_new(&options, &clock));
    for (unsigned i = 0; i < THREADS; i++) {
        racers[i] = (struct racer){clock, &now, seed + i, all + i * STAMPS};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        check_rising(racers[i].stamps, STAMPS);
    }
    qsort(all, THREADS * STAMPS, sizeof all[0], by_id);
    check_rising(all, THREADS * STAMPS);
    hlc_free(clock);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("clock");
    TCase *t = tcase_create("clock");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_follows_the_wall_clock);
    tcase_add_test(t, test_a_standing_clock_is_counted_on);
    tcase_add_test(t, test_never_goes_back);
    tcase_add_test(t, test_an_hour_back_does_not_burn_time);
    tcase_add_test(t, test_raise);
    tcase_add_test(t, test_raise_to_the_end_of_time_is_ignored);
    tcase_add_test(t, test_update);
    tcase_add_test(t, test_update_beyond_what_can_be_counted);
    tcase_add_test(t, test_nodes_differ);
    tcase_add_test(t, test_jumps_are_told_once);
    tcase_add_test(t, test_the_real_clock_does_not_jump);
    tcase_add_test(t, test_threads_never_get_the_same);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
