/* test_clock_public.c - the clock by its public calls: readings, notices, configuration, reset, what expires, forks. */
#include "scratch_fixture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "../../lib/base/id.h"
#include "../../lib/base/sync.h"

#define SECOND 1000000000ull

static _Atomic int64_t step_ns; /* of the wall clock of spools opened by open_stepped() */
static _Atomic int notices[32];
static char last_text[512];
static pthread_mutex_t text_mutex = PTHREAD_MUTEX_INITIALIZER;

static uint64_t stepped(void *user)
{
    (void)user;
    return real_ns() + (uint64_t)atomic_load(&step_ns);
}

static void hear(void *user, const struct spool_notice *notice)
{
    (void)user;
    atomic_fetch_add(&notices[notice->kind], 1);
    pthread_mutex_lock(&text_mutex);
    snprintf(last_text, sizeof last_text, "%s", notice->reason);
    pthread_mutex_unlock(&text_mutex);
}

static void begin(void)
{
    scratch_begin();
    atomic_store(&step_ns, 0);
    memset(notices, 0, sizeof notices);
}

static struct spool *open_stepped(void)
{
    struct spool *spool;
    ck_ok(spool_open(path, &SPOOL_OPTIONS(.clock_ns = stepped, .on_notice = hear, .max_bytes = 16 << 20), &spool));
    return spool;
}

static struct spool_clock_reading read_clock(struct spool *spool)
{
    struct spool_clock_reading reading = SPOOL_CLOCK_READING();
    ck_ok(spool_clock_read(spool, &reading));
    return reading;
}

START_TEST(test_reading)
{
    struct spool *spool = open_stepped();
    struct spool_id before, after;
    ck_ok(spool_clock_now(spool, &before));
    struct spool_clock_reading r = read_clock(spool);
    ck_ok(spool_clock_now(spool, &after));
    ck_assert_int_lt(spool_id_compare(&before, &r.stamp), 0);
    ck_assert_int_lt(spool_id_compare(&r.stamp, &after), 0);
    ck_assert_uint_eq(r.size, sizeof r);
    ck_assert_int_eq(r.status, SPOOL_CLOCK_UNSYNCHRONISED);
    ck_assert_str_eq(spool_clock_status_name(r.status), "unsynchronised");
    ck_assert_str_eq(spool_clock_status_name((enum spool_clock_status)99), "unknown");
    ck_assert_str_eq(spool_clock_verdict_name(SPOOL_CLOCK_FALSETICKER), "falseticker");
    struct spool_clock_reading bad = {0}, old = {.size = offsetof(struct spool_clock_reading, time_ns)};
    ck_code(spool_clock_read(spool, &bad), SPOOL_EOPTION);
    ck_ok(spool_clock_read(spool, &old)); /* compiled with a shorter struct */
    ck_assert_uint_eq(old.time_ns, 0);
    ck_code(spool_clock_read(spool, NULL), SPOOL_EINVAL);
    ck_code(spool_clock_read(NULL, &r), SPOOL_EINVAL);
    ck_code(spool_clock_source_each(spool, NULL, NULL), SPOOL_EINVAL);
    ck_code(spool_clock_source_add_sntp(spool, NULL, NULL), SPOOL_EINVAL);
    ck_code(spool_clock_source_remove(spool, NULL), SPOOL_EINVAL);
    ck_ok(spool_clock_calibrate(spool, 60000));
    ck_ok(spool_close(spool));
}
END_TEST

/* A source of one's own, by the public interface; what happens is told by notices. */
static int own_read(void *state, uint32_t timeout_ms, struct spool_clock_sample *ret)
{
    (void)timeout_ms;
    ret->unix_ns = real_ns();
    ret->error_ns = *(const uint64_t *)state;
    return SPOOL_OK;
}

START_TEST(test_own_source)
{
    struct spool *spool = open_stepped();
    uint64_t error_ns = SECOND / 100;
    const struct spool_clock_source source = {SPOOL_CLOCK_SOURCE_ABI, sizeof source, "own", .read = own_read};
    ck_ok(spool_clock_source_add(spool, "gps", &source, &SPOOL_CLOCK_SOURCE_OPTIONS(.user = &error_ns)));
    ck_ok(spool_clock_calibrate(spool, 60000));
    struct spool_clock_reading r = read_clock(spool);
    ck_assert_int_eq(r.status, SPOOL_CLOCK_SYNCHRONISED);
    ck_assert_uint_ge(r.error_ns, error_ns);
    ck_assert(r.confidence > 0 && r.confidence <= 0.5); /* of one source alone */
    for (uint64_t until = deadline_in_ms(10000);
         !atomic_load(&notices[SPOOL_NOTICE_CLOCK_STATUS]) && mono_ns() < until;)
        usleep(1000);
    ck_assert_int_eq(atomic_load(&notices[SPOOL_NOTICE_CLOCK_STATUS]), 1);
    ck_ok(spool_clock_source_set(spool, "gps", &SPOOL_CLOCK_SOURCE_OPTIONS(.preference = 5)));
    ck_ok(spool_clock_source_remove(spool, "gps"));
    ck_code(spool_clock_source_remove(spool, "gps"), SPOOL_ENOTFOUND);
    ck_ok(spool_close(spool));
}
END_TEST

START_TEST(test_notices)
{
    struct spool *spool = open_stepped();
    struct spool_id far, stamp;
    id_min_at_ns(real_ns() + 3600 * SECOND, &far);
    ck_code(spool_clock_update(spool, &far), SPOOL_EINVAL);
    ck_assert_int_eq(atomic_load(&notices[SPOOL_NOTICE_CLOCK_REMOTE]), 1);
    atomic_store(&step_ns, 3600 * (int64_t)SECOND);
    ck_ok(spool_clock_now(spool, &stamp));
    ck_assert_int_eq(atomic_load(&notices[SPOOL_NOTICE_CLOCK_JUMP]), 1);
    ck_assert_int_lt(spool_id_compare(&stamp, &far), 0); /* not followed */
    ck_assert(read_clock(spool).flags & SPOOL_CLOCK_PAUSED);
    ck_ok(spool_close(spool));
}
END_TEST

START_TEST(test_max_offset_is_an_option)
{
    struct spool *spool;
    struct spool_id remote;
    ck_ok(spool_open(path, &SPOOL_OPTIONS(.clock_max_offset_ms = 7200 * 1000), &spool));
    id_min_at_ns(real_ns() + 3600 * SECOND, &remote);
    ck_ok(spool_clock_update(spool, &remote));
    ck_ok(spool_close(spool));
    ck_code(spool_open(path, &SPOOL_OPTIONS(.clock_drift_ppm = 200000), &spool), SPOOL_EOPTION);
}
END_TEST

/* ------------------------------------------------------------------------------------------------------ what expires */

static _Atomic int delivered;

static int take(void *state, struct spool_delivery *batch, size_t n)
{
    (void)state;
    for (size_t i = 0; i < n; i++)
        SPOOL_DELIVERY_AT(batch, i)->outcome = SPOOL_DELIVERED;
    atomic_fetch_add(&delivered, (int)n);
    return SPOOL_OK;
}

static void put_short_lived(struct spool *spool)
{
    struct spool_event event = SPOOL_EVENT(.type = "t", .ttl_ms = 60000);
    ck_ok(spool_enqueue(spool, &event, NULL));
}

/* A wall clock that is a day ahead makes nothing old, until somebody confirms it. */
START_TEST(test_nothing_expires_by_a_jump)
{
    struct spool *spool = open_stepped();
    const struct spool_sink sink = {SPOOL_SINK_ABI, sizeof sink, "take", .deliver = take};
    ck_ok(spool_sink_add(spool, "s", &sink, NULL, NULL));
    put_short_lived(spool);
    atomic_store(&step_ns, 24 * 3600 * (int64_t)SECOND);
    ck_ok(spool_start(spool));
    ck_ok(spool_drain(spool, 60000));
    ck_assert_int_eq(atomic_load(&delivered), 1);
    ck_ok(spool_stop(spool, 60000));
    put_short_lived(spool);
    ck_ok(spool_clock_reset(spool));
    ck_ok(spool_start(spool));
    ck_ok(spool_drain(spool, 60000));
    ck_assert_int_eq(atomic_load(&delivered), 1); /* the second one is a day old now */
    ck_ok(spool_close(spool));
}
END_TEST

/* One process is told, the other one follows. */
START_TEST(test_reset_reaches_other_processes)
{
    struct spool *spool = NULL;
    int ready[2], status;
    ck_assert_int_eq(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        char byte;
        if (read(ready[0], &byte, 1) != 1 || spool_open(path, NULL, &spool) || spool_clock_reset(spool) ||
            spool_close(spool))
            _exit(1);
        _exit(0);
    }
    spool = open_stepped();
    struct spool_id stamp;
    atomic_store(&step_ns, 3600 * (int64_t)SECOND);
    ck_ok(spool_clock_now(spool, &stamp));
    ck_assert(read_clock(spool).flags & SPOOL_CLOCK_PAUSED);
    ck_assert_int_eq(write(ready[1], "x", 1), 1);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    for (uint64_t until = deadline_in_ms(30000); (read_clock(spool).flags & SPOOL_CLOCK_PAUSED) && mono_ns() < until;)
        usleep(10000);
    ck_assert(!(read_clock(spool).flags & SPOOL_CLOCK_PAUSED));
    ck_ok(spool_close(spool));
    close(ready[0]);
    close(ready[1]);
}
END_TEST

/* ----------------------------------------------------------------------------------------------------- configuration */

START_TEST(test_configure)
{
    struct spool *spool = open_stepped();
    ck_ok(spool_clock_configure(spool,
                                "{\"max_offset\":\"1h\",\"drift_ppm\":100,\"servers\":[\"127.0.0.1:9\",{\"server\":"
                                "\"127.0.0.1:10\",\"poll\":\"20s\",\"timeout\":\"50ms\",\"preference\":2}],"
                                "\"sources\":{\"realtime\":{\"assumed_error\":\"2s\"}}}"));
    struct spool_id remote;
    id_min_at_ns(real_ns() + 1800 * SECOND, &remote);
    ck_ok(spool_clock_update(spool, &remote));
    ck_ok(spool_clock_configure(spool, "{\"servers\":[\"127.0.0.1:9\"]}")); /* it is there: changed */
    struct spool_clock_reading r = read_clock(spool);
    ck_assert_int_eq(r.status, SPOOL_CLOCK_SYNCHRONISED);
    ck_assert_uint_ge(r.error_ns, 2 * SECOND);
    ck_ok(spool_close(spool));
}
END_TEST

START_TEST(test_bad_configurations)
{
    static const struct {
        const char *json, *names;
        int code;
    } bad[] = {
        {"{\"server\":[]}", "clock.server", SPOOL_ECONFIG},
        {"{\"servers\":\"a\"}", "clock.servers", SPOOL_ECONFIG},
        {"{\"servers\":[{\"poll\":\"16s\"}]}", "clock.servers[0].server", SPOOL_ECONFIG},
        {"{\"servers\":[{\"server\":\"a\",\"pol\":\"16s\"}]}", "clock.servers[0].pol", SPOOL_ECONFIG},
        {"{\"servers\":[{\"server\":\"a\",\"poll\":\"16\"}]}", "clock.servers[0].poll", SPOOL_ECONFIG},
        {"{\"servers\":[{\"server\":\"a\",\"poll\":\"1s\"}]}", "poll_interval_ms", SPOOL_EOPTION},
        {"{\"servers\":[\"a b\"]}", "clock.servers[0]", SPOOL_EINVAL},
        {"{\"sources\":{\"sun\":{}}}", "sun", SPOOL_ENOTFOUND},
        {"{\"sources\":{\"realtime\":{\"assumed_error\":-1}}}", "assumed_error", SPOOL_ECONFIG},
        {"{\"sources\":{\"realtime\":[]}}", "clock.sources.realtime", SPOOL_ECONFIG},
        {"{\"max_offset\":\"fast\"}", "clock.max_offset", SPOOL_ECONFIG},
        {"{\"max_offset\":\"1000d\"}", "too large", SPOOL_ECONFIG},
        {"{\"drift_ppm\":200000}", "drift_ppm", SPOOL_ECONFIG},
        {"{\"drift_ppm\":\"50\"}", "drift_ppm", SPOOL_ECONFIG},
        {"[]", "clock", SPOOL_ECONFIG},
        {"{", "line 1", SPOOL_EJSON},
    };
    struct spool *spool = open_stepped();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_code(spool_clock_configure(spool, bad[i].json), bad[i].code);
        ck_assert_msg(strstr(spool_last_error(), bad[i].names) != NULL, "%s: %s", bad[i].json, spool_last_error());
    }
    ck_code(spool_clock_configure(spool, NULL), SPOOL_EINVAL);
    ck_ok(spool_close(spool));
}
END_TEST

START_TEST(test_configuration_file)
{
    char file[512], text[1024];
    struct spool *spool;
    snprintf(file, sizeof file, "%s/spool.json", dir);
    for (int good = 1; good >= 0; good--) {
        snprintf(text, sizeof text, "{\"spool\":{\"dir\":\"%s\"},\"clock\":{\"%s\":[\"127.0.0.1:9\"]}}", path,
                 good ? "servers" : "serves");
        FILE *out = fopen(file, "w");
        ck_assert(out && fputs(text, out) >= 0 && fclose(out) == 0);
        ck_code(spool_open_config(file, &spool), good ? SPOOL_OK : SPOOL_ECONFIG);
        if (!good)
            continue;
        ck_ok(spool_reload_config(spool, file, NULL, NULL)); /* the server is there: it is changed */
        out = fopen(file, "w");
        ck_assert(out && fprintf(out, "{\"spool\":{\"dir\":\"%s\"},\"clock\":{\"max_offset\":\"2h\"}}", path) > 0 &&
                  !fclose(out));
        ck_ok(spool_reload_config(spool, file, NULL, NULL));
        struct spool_id remote;
        id_min_at_ns(real_ns() + 3600 * SECOND, &remote);
        ck_ok(spool_clock_update(spool, &remote));
        out = fopen(file, "w");
        ck_assert(out && fprintf(out, "{\"spool\":{\"dir\":\"%s\"},\"clock\":{\"max\":1}}", path) > 0 && !fclose(out));
        ck_code(spool_reload_config(spool, file, NULL, NULL), SPOOL_ECONFIG);
        ck_ok(spool_close(spool));
    }
}
END_TEST

/* -------------------------------------------------------------------------------------------------------- read-only, fork */

START_TEST(test_read_only)
{
    struct spool *spool = open_stepped();
    ck_ok(spool_close(spool));
    ck_ok(spool_open(path, &SPOOL_OPTIONS(.flags = SPOOL_READ_ONLY), &spool));
    ck_ok(spool_clock_source_add_sntp(spool, "127.0.0.1:9", &SPOOL_CLOCK_SOURCE_OPTIONS(.timeout_ms = 50)));
    ck_ok(spool_clock_calibrate(spool, 60000));
    read_clock(spool);
    ck_code(spool_clock_reset(spool), SPOOL_EREADONLY);
    ck_ok(spool_close(spool));
}
END_TEST

START_TEST(test_fork)
{
    struct spool *spool = open_stepped();
    int status;
    ck_ok(spool_clock_source_add_sntp(spool, "127.0.0.1:9", NULL)); /* it has a thread */
    pid_t child = fork();
    if (child == 0) {
        struct spool_clock_reading r = SPOOL_CLOCK_READING();
        int wrong = spool_clock_read(spool, &r) != SPOOL_EFORKED || spool_clock_reset(spool) != SPOOL_EFORKED ||
                    spool_clock_calibrate(spool, 10) != SPOOL_EFORKED ||
                    spool_clock_configure(spool, "{}") != SPOOL_EFORKED || spool_close(spool) != SPOOL_OK;
        _exit(wrong);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    ck_ok(spool_close(spool));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("clock_public");
    TCase *t = tcase_create("public");
    tcase_add_checked_fixture(t, begin, scratch_end);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, test_reading);
    tcase_add_test(t, test_own_source);
    tcase_add_test(t, test_notices);
    tcase_add_test(t, test_max_offset_is_an_option);
    tcase_add_test(t, test_nothing_expires_by_a_jump);
    tcase_add_forking_test(t, test_reset_reaches_other_processes);
    tcase_add_test(t, test_configure);
    tcase_add_test(t, test_bad_configurations);
    tcase_add_test(t, test_configuration_file);
    tcase_add_test(t, test_read_only);
    tcase_add_forking_test(t, test_fork);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
