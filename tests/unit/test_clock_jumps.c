/* test_clock_jumps.c - the wall clock jumps, the machine sleeps, was never set, meets a leap second; sources decide. */
#include "clock_fixture.h"

static uint64_t stamp_ns(struct machine *m, struct spool_id *last)
{
    *last = machine_stamp(m, *last);
    return spool_id_time_ns(last);
}

static void check_near(uint64_t have_ns, uint64_t want_ns, uint64_t tolerance_ns)
{
    uint64_t off = have_ns > want_ns ? have_ns - want_ns : want_ns - have_ns;
    ck_assert_msg(off <= tolerance_ns, "%llu is %.6f s from %llu", (unsigned long long)have_ns, (double)off / 1e9,
                  (unsigned long long)want_ns);
}

/* Ids and physical time go on as the monotonic clock does; what expires stands still; told once. */
START_TEST(test_forward_is_not_followed)
{
    struct machine m;
    struct spool_id last = {{0}};
    machine_begin(&m, START_NS, (struct hlc_options){0});
    stamp_ns(&m, &last);
    m.now.wall_ns += 24 * HOUR;
    check_near(stamp_ns(&m, &last), START_NS, 1000);
    for (int i = 0; i < 100; i++) {
        machine_pass(&m, SECOND);
        check_near(stamp_ns(&m, &last), START_NS + (unsigned)(i + 1) * SECOND, 1000);
    }
    ck_assert_int_eq(m.told[HLC_JUMP], 1);
    ck_assert_int_eq(m.last_ns[HLC_JUMP], 24 * (int64_t)HOUR);
    check_near(hlc_physical_ns(m.clock), START_NS + 100 * SECOND, 0);
    check_near(hlc_expiry_ns(m.clock), START_NS, 0);
    ck_assert(machine_read(&m).flags & SPOOL_CLOCK_PAUSED);
    hlc_free(m.clock);
}
END_TEST

START_TEST(test_forward_and_undone)
{
    struct machine m;
    struct spool_id last = {{0}};
    machine_begin(&m, START_NS, (struct hlc_options){0});
    stamp_ns(&m, &last);
    m.now.wall_ns += HOUR;
    stamp_ns(&m, &last);
    machine_pass(&m, 10 * SECOND);
    m.now.wall_ns -= HOUR / 2; /* half of it: still not what it was */
    check_near(stamp_ns(&m, &last), START_NS + 10 * SECOND, 1000);
    check_near(hlc_expiry_ns(m.clock), START_NS, 0);
    machine_pass(&m, 10 * SECOND);
    m.now.wall_ns -= HOUR / 2;
    check_near(stamp_ns(&m, &last), START_NS + 20 * SECOND, 1000);
    check_near(hlc_expiry_ns(m.clock), START_NS + 20 * SECOND, 0);
    ck_assert(!(machine_read(&m).flags & SPOOL_CLOCK_PAUSED));
    ck_assert_int_eq(m.told[HLC_JUMP], 3);
    hlc_free(m.clock);
}
END_TEST

START_TEST(test_reset_follows)
{
    struct machine m;
    struct spool_id last = {{0}};
    machine_begin(&m, START_NS, (struct hlc_options){0});
    stamp_ns(&m, &last);
    m.now.wall_ns += HOUR;
    stamp_ns(&m, &last);
    hlc_reset(m.clock);
    check_near(stamp_ns(&m, &last), START_NS + HOUR, 1000);
    check_near(hlc_expiry_ns(m.clock), START_NS + HOUR, 0);
    hlc_free(m.clock);
}
END_TEST

START_TEST(test_backward_is_counted_through)
{
    struct machine m;
    struct spool_id last = {{0}};
    machine_begin(&m, START_NS, (struct hlc_options){0});
    uint64_t first = stamp_ns(&m, &last);
    m.now.wall_ns -= HOUR;
    for (int i = 0; i < 1000; i++) {
        machine_pass(&m, SECOND);
        check_near(stamp_ns(&m, &last), first, 1000);
    }
    ck_assert_int_eq(m.told[HLC_JUMP], 1);
    ck_assert_int_eq(m.last_ns[HLC_JUMP], -(int64_t)HOUR);
    check_near(hlc_expiry_ns(m.clock), START_NS - HOUR + 1000 * SECOND, 0);
    hlc_free(m.clock);
}
END_TEST

/* What takes a jump back back is followed, and nothing beyond that. */
START_TEST(test_backward_and_undone)
{
    struct machine m;
    struct spool_id last = {{0}};
    machine_begin(&m, START_NS, (struct hlc_options){0});
    stamp_ns(&m, &last);
    m.now.wall_ns -= HOUR;
    stamp_ns(&m, &last);
    machine_pass(&m, 10 * SECOND);
    m.now.wall_ns += HOUR / 2;
    stamp_ns(&m, &last);
    check_near(hlc_physical_ns(m.clock), m.now.wall_ns, 0);
    ck_assert(!(machine_read(&m).flags & SPOOL_CLOCK_PAUSED));
    m.now.wall_ns += HOUR;
    check_near(stamp_ns(&m, &last), START_NS + 10 * SECOND, 1000);
    ck_assert(machine_read(&m).flags & SPOOL_CLOCK_PAUSED);
    hlc_free(m.clock);
}
END_TEST

/* Less than a jump, and slewing, are followed. */
START_TEST(test_small_steps_are_followed)
{
    struct machine m;
    struct spool_id last = {{0}};
    machine_begin(&m, START_NS, (struct hlc_options){0});
    stamp_ns(&m, &last);
    m.now.wall_ns += 499 * NS_PER_MS;
    check_near(stamp_ns(&m, &last), m.now.wall_ns, 1000);
    ck_assert_int_eq(m.told[HLC_JUMP], 0);
    m.now.wall_ns += 500 * NS_PER_MS;
    check_near(stamp_ns(&m, &last), m.now.wall_ns - 500 * NS_PER_MS, 1000);
    ck_assert_int_eq(m.told[HLC_JUMP], 1);
    hlc_free(m.clock);
}
END_TEST

START_TEST(test_suspend_is_no_jump)
{
    struct machine m;
    struct spool_id last = {{0}};
    machine_begin(&m, START_NS, (struct hlc_options){0});
    stamp_ns(&m, &last);
    machine_suspend(&m, 8 * HOUR);
    check_near(stamp_ns(&m, &last), START_NS + 8 * HOUR, 1000);
    ck_assert_int_eq(m.told[HLC_JUMP], 0);
    ck_assert_int_eq(m.told[HLC_SUSPEND], 1);
    ck_assert_int_eq(m.last_ns[HLC_SUSPEND], 8 * (int64_t)HOUR);
    hlc_free(m.clock);
}
END_TEST

/* From 1970, after what the disk knows; set at last, it is followed at once; nothing made before is old then. */
START_TEST(test_boot_in_1970)
{
    struct machine m;
    struct spool_id last, disk;
    machine_begin(&m, 40 * SECOND, (struct hlc_options){0});
    ck_assert_int_eq(m.told[HLC_UNSET], 1);
    ck_assert(machine_read(&m).flags & SPOOL_CLOCK_UNSET);
    id_min_at_ns(START_NS - HOUR, &disk);
    hlc_raise(m.clock, &disk);
    last = machine_stamp(&m, disk);
    check_near(spool_id_time_ns(&last), START_NS - HOUR, 1000);
    machine_pass(&m, 60 * SECOND);
    m.now.wall_ns = START_NS;
    check_near(stamp_ns(&m, &last), START_NS, 1000);
    check_near(hlc_expiry_ns(m.clock), START_NS, 0);
    ck_assert_int_eq(m.told[HLC_JUMP], 1);
    ck_assert_uint_eq(hlc_age_ns(START_NS, 40 * SECOND), 0);
    ck_assert_uint_eq(hlc_age_ns(START_NS, START_NS - 5), 5);
    ck_assert_uint_eq(hlc_age_ns(START_NS, START_NS + 5), 0);
    hlc_free(m.clock);
}
END_TEST

static void jump_then(int64_t jump_ns, struct teller *tellers, size_t n, bool followed)
{
    struct machine m;
    struct spool_id last = {{0}};
    static const char *const names[] = {"a", "b", "c"};
    machine_begin(&m, START_NS, (struct hlc_options){0});
    stamp_ns(&m, &last);
    m.now.wall_ns += (uint64_t)jump_ns;
    stamp_ns(&m, &last);
    for (size_t i = 0; i < n; i++)
        teller_add(&m, names[i], &tellers[i], 0);
    hlc_poll(m.clock, false);
    uint64_t want = followed ? START_NS + (uint64_t)jump_ns : START_NS;
    check_near(hlc_physical_ns(m.clock), want, 0);
    check_near(hlc_expiry_ns(m.clock), want, 0);
    stamp_ns(&m, &last);
    hlc_free(m.clock);
}

/* "until sources agree": with the wall clock as it is now, or with what it was. */
START_TEST(test_sources_decide_about_a_jump)
{
    struct teller confirms = {.error_ns = SECOND}, silent = {.code = SPOOL_EUNAVAILABLE};
    struct teller denies = {.offset_ns = -(int64_t)HOUR, .error_ns = SECOND};
    struct teller one[] = {confirms}, none[] = {silent}, two[] = {denies, denies, confirms}, tie[] = {denies, confirms};
    jump_then(HOUR, one, 1, true);
    jump_then(HOUR, none, 1, false);
    jump_then(HOUR, two, 3, false);
    jump_then(HOUR, tie, 2, false);
}
END_TEST

/* A wall clock that is wrong by what a majority says is corrected, the wall clock itself left alone. */
START_TEST(test_a_wrong_wall_clock_is_corrected)
{
    struct machine m;
    struct spool_id last = {{0}};
    struct teller a = {.offset_ns = 3 * (int64_t)SECOND, .error_ns = SECOND / 10}, b = a;
    machine_begin(&m, START_NS, (struct hlc_options){0});
    teller_add(&m, "a", &a, 0);
    teller_add(&m, "b", &b, 0);
    hlc_poll(m.clock, false);
    check_near(stamp_ns(&m, &last), START_NS + 3 * SECOND, 1000);
    struct spool_clock_reading r = machine_read(&m);
    ck_assert_int_eq(r.status, SPOOL_CLOCK_SYNCHRONISED);
    ck_assert_int_eq(r.wall_offset_ns, 3 * (int64_t)SECOND);
    ck_assert_uint_le(r.earliest_ns, START_NS + 3 * SECOND);
    ck_assert_uint_ge(r.latest_ns, START_NS + 3 * SECOND);
    ck_assert_int_eq(m.told[HLC_STATUS], 1);
    a.offset_ns = b.offset_ns = 0; /* it was set */
    m.now.wall_ns += 3 * SECOND;
    check_near(stamp_ns(&m, &last), START_NS + 3 * SECOND, 1000);
    machine_pass(&m, 30 * SECOND);
    hlc_poll(m.clock, false);
    check_near(stamp_ns(&m, &last), START_NS + 33 * SECOND, 1000);
    ck_assert(!(machine_read(&m).flags & SPOOL_CLOCK_PAUSED));
    hlc_free(m.clock);
}
END_TEST

/* One source that says it is 2036 is not believed, two are: a stamp cannot be taken back. */
START_TEST(test_panic)
{
    struct machine m;
    struct spool_id last = {{0}};
    struct teller a = {.offset_ns = (int64_t)(24 * 3653 * HOUR), .error_ns = SECOND}, b = a;
    machine_begin(&m, START_NS, (struct hlc_options){0});
    teller_add(&m, "a", &a, 0);
    hlc_poll(m.clock, false);
    check_near(stamp_ns(&m, &last), START_NS, 1000);
    a.code = SPOOL_EUNAVAILABLE; /* nor is its memory */
    machine_pass(&m, 1000 * SECOND);
    hlc_poll(m.clock, false);
    check_near(stamp_ns(&m, &last), START_NS + 1000 * SECOND, 1000);
    a.code = 0;
    teller_add(&m, "b", &b, 0);
    hlc_calibrate(m.clock, DEADLINE_NEVER);
    check_near(stamp_ns(&m, &last), START_NS + 1000 * SECOND + 24 * 3653 * HOUR, 1000);
    hlc_free(m.clock);
}
END_TEST

/* Servers fall silent one after the other, and the last that speaks lies: it is shown, and not followed by stamps. */
START_TEST(test_a_last_liar_is_not_followed)
{
    struct machine m;
    struct spool_id last = {{0}};
    struct teller a = {.error_ns = SECOND / 10}, b = a,
                  liar = {.offset_ns = 700 * (int64_t)SECOND, .error_ns = SECOND / 10};
    machine_begin(&m, START_NS, (struct hlc_options){0});
    teller_add(&m, "a", &a, 0);
    teller_add(&m, "b", &b, 0);
    teller_add(&m, "liar", &liar, 0);
    hlc_poll(m.clock, false);
    a.code = b.code = SPOOL_EUNAVAILABLE;
    for (int i = 0; i < 30; i++) {
        machine_pass(&m, 20 * SECOND);
        hlc_poll(m.clock, false);
    }
    ck_assert_int_eq(machine_source(&m, "liar").verdict, SPOOL_CLOCK_AGREES);
    check_near(stamp_ns(&m, &last), m.now.wall_ns, 1000);
    hlc_reset(m.clock); /* an operator's word: whoever speaks now is right */
    hlc_poll(m.clock, false);
    check_near(stamp_ns(&m, &last), m.now.wall_ns + 700 * SECOND, 1000);
    hlc_free(m.clock);
}
END_TEST

/* Calibrated once, the clock knows the time without its sources, whatever the wall clock does meanwhile. */
START_TEST(test_holdover_after_a_jump)
{
    struct machine m;
    struct spool_id last = {{0}};
    struct teller a = {.error_ns = SECOND / 100};
    machine_begin(&m, START_NS, (struct hlc_options){.drift_ppm = 100});
    teller_add(&m, "a", &a, 0);
    hlc_poll(m.clock, false);
    a.code = SPOOL_EUNAVAILABLE;
    machine_pass(&m, 1000 * SECOND);
    hlc_poll(m.clock, false);
    m.now.wall_ns -= 600 * SECOND;
    stamp_ns(&m, &last);
    hlc_poll(m.clock, false);
    struct spool_clock_reading r = machine_read(&m);
    ck_assert_int_eq(r.status, SPOOL_CLOCK_HOLDOVER);
    check_near(r.time_ns, START_NS + 1000 * SECOND, 0);
    check_near(r.error_ns, SECOND / 100 + SECOND / 10, 1000); /* 100 ppm of 1000 s */
    check_near(hlc_physical_ns(m.clock), START_NS + 1000 * SECOND, 0);
    hlc_free(m.clock);
}
END_TEST

/* The wall clock repeats a second: told as what it is, and an announced one moves the memory, too. */
START_TEST(test_leap_second)
{
    const uint64_t midnight = START_NS / (24 * HOUR) * (24 * HOUR) + 24 * HOUR;
    struct machine m;
    struct spool_id last = {{0}};
    struct teller a = {.error_ns = SECOND / 100, .leap = 1};
    machine_begin(&m, midnight - 20 * SECOND, (struct hlc_options){0});
    teller_add(&m, "a", &a, 0);
    hlc_poll(m.clock, false);
    ck_assert(machine_read(&m).flags & SPOOL_CLOCK_LEAP_INSERT);
    machine_pass(&m, 20 * SECOND);
    stamp_ns(&m, &last);
    m.now.wall_ns -= SECOND;
    stamp_ns(&m, &last);
    ck_assert_int_eq(m.told[HLC_LEAP], 1);
    ck_assert_int_eq(m.told[HLC_JUMP], 0);
    machine_pass(&m, SECOND / 2);
    struct spool_clock_reading r = machine_read(&m);
    ck_assert_uint_le(r.earliest_ns, m.now.wall_ns);
    ck_assert_uint_ge(r.latest_ns, m.now.wall_ns);
    ck_assert_uint_ge(r.error_ns, SECOND);
    a.leap = 0;
    machine_pass(&m, 30 * SECOND);
    hlc_poll(m.clock, false);
    ck_assert_uint_lt(machine_read(&m).error_ns, SECOND);
    ck_assert(!(machine_read(&m).flags & SPOOL_CLOCK_LEAP_INSERT));
    hlc_free(m.clock);
}
END_TEST

START_TEST(test_a_refused_stamp_is_told_once_a_second)
{
    struct machine m;
    struct spool_id remote;
    machine_begin(&m, START_NS, (struct hlc_options){0});
    id_min_at_ns(START_NS + HOUR, &remote);
    for (int i = 0; i < 100; i++)
        ck_code(hlc_update(m.clock, &remote), SPOOL_EINVAL);
    ck_assert_int_ge(m.told[HLC_REMOTE], 1);
    ck_assert_int_lt(m.told[HLC_REMOTE], 50);
    check_near((uint64_t)m.last_ns[HLC_REMOTE], HOUR, 1000);
    hlc_free(m.clock);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("clock_jumps");
    TCase *t = tcase_create("jumps");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_forward_is_not_followed);
    tcase_add_test(t, test_forward_and_undone);
    tcase_add_test(t, test_reset_follows);
    tcase_add_test(t, test_backward_is_counted_through);
    tcase_add_test(t, test_backward_and_undone);
    tcase_add_test(t, test_small_steps_are_followed);
    tcase_add_test(t, test_suspend_is_no_jump);
    tcase_add_test(t, test_boot_in_1970);
    tcase_add_test(t, test_sources_decide_about_a_jump);
    tcase_add_test(t, test_a_wrong_wall_clock_is_corrected);
    tcase_add_test(t, test_panic);
    tcase_add_test(t, test_a_last_liar_is_not_followed);
    tcase_add_test(t, test_holdover_after_a_jump);
    tcase_add_test(t, test_leap_second);
    tcase_add_test(t, test_a_refused_stamp_is_told_once_a_second);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
