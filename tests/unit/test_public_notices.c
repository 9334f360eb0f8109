/* test_public_notices.c - what an operator hears of what left by a limit, each event once and under the right name; and of the
 * clock. */
#include "../../lib/open.c"
#include "scratch_fixture.h"

enum { EVENTS = 6, SINKS = 4 };

/* Events told of as dropped, by sink; those of no sink are the last. */
struct heard {
    pthread_mutex_t lock;
    const char *sinks[SINKS];
    uint64_t dropped[SINKS + 1], dead_dropped;
    unsigned kinds[64];
    char text[256]; /* of the last notice */
};
static struct heard heard;

static size_t place_of(const char *sink)
{
    for (size_t i = 0; i < SINKS && sink; i++)
        if (heard.sinks[i] && strcmp(heard.sinks[i], sink) == 0)
            return i;
    return SINKS;
}

static void hear(void *user, const struct spool_notice *notice)
{
    (void)user;
    pthread_mutex_lock(&heard.lock);
    heard.kinds[notice->kind]++;
    snprintf(heard.text, sizeof heard.text, "%s", notice->reason);
    if (notice->kind == SPOOL_NOTICE_DROPPED && strstr(notice->reason, "dead letters"))
        heard.dead_dropped += notice->count;
    else if (notice->kind == SPOOL_NOTICE_DROPPED)
        heard.dropped[place_of(notice->sink)] += notice->count;
    pthread_mutex_unlock(&heard.lock);
}

static uint64_t told(const uint64_t *counter)
{
    pthread_mutex_lock(&heard.lock);
    uint64_t n = *counter;
    pthread_mutex_unlock(&heard.lock);
    return n;
}

#define until(condition)                                                                                               \
    do {                                                                                                               \
        uint64_t end_ = deadline_in_ms(60000);                                                                         \
        while (!(condition) && mono_ns() < end_)                                                                       \
            usleep(2000);                                                                                              \
        ck_assert_msg(condition, "%s did not come true", #condition);                                                  \
    } while (0)

static void begin(void)
{
    scratch_begin();
    memset(&heard, 0, sizeof heard);
    pthread_mutex_init(&heard.lock, NULL);
    heard.sinks[0] = "s";
}

static struct spool *open_spool(void)
{
    struct spool *spool;
    const struct spool_options options = SPOOL_OPTIONS(.max_bytes = 4 << 20, .on_notice = hear, .retention_ms = 3600000,
                                                       .full_policy = {[SPOOL_LOW] = SPOOL_FULL_DROP_OLDEST});
    ck_ok(spool_open(path, &options, &spool));
    return spool;
}

static void put(struct spool *spool, enum spool_priority priority, const void *body, size_t size)
{
    struct spool_event event = SPOOL_EVENT(.type = "t", .priority = priority, .durability = SPOOL_DURABLE_PROCESS,
                                           .content_type = "text/plain", .body = body, .body_size = size);
    ck_ok(spool_enqueue(spool, &event, NULL));
}

static int refuse(void *state, struct spool_delivery *batch, size_t n)
{
    (void)state;
    for (size_t i = 0; i < n; i++)
        spool_delivery_fail(SPOOL_DELIVERY_AT(batch, i), SPOOL_REJECTED, "no");
    return SPOOL_OK;
}

static const struct spool_sink hooks = {.abi = SPOOL_SINK_ABI, .size = sizeof hooks, .kind = "no", .deliver = refuse};

static int see(void *user, const struct spool_sink_info *info)
{
    struct spool_sink_info *seen = user;
    *seen = *info;
    return 0;
}

static struct spool_sink_info the_sink(struct spool *spool)
{
    struct spool_sink_info info = {0};
    ck_ok(spool_sink_each(spool, see, &info));
    return info;
}

/* ---------------------------------------------------------------------------------------------------------- dropped */

START_TEST(dropped_because_the_spool_is_full)
{
    static char body[50000];
    struct spool_stats stats = SPOOL_STATS();
    begin();
    struct spool *spool = open_spool();
    for (int i = 0; i < 200; i++) /* 10 MB */
        put(spool, SPOOL_LOW, body, sizeof body);
    until(spool_stats(spool, &stats) == SPOOL_OK && stats.dropped_events > 20 &&
          told(&heard.dropped[SINKS]) == stats.dropped_events);
    ck_assert_uint_eq(told(&heard.dropped[0]), 0);
    ck_ok(spool_close(spool));
    scratch_end();
}
END_TEST

/* By whoever serves the sink, which is paused; by the keeper when nobody does. */
START_TEST(dropped_because_too_much_waits_for_a_sink)
{
    begin();
    struct spool *spool = open_spool();
    const struct spool_sink_options options = SPOOL_SINK_OPTIONS(.max_pending_age_ms = 1);
    ck_ok(spool_sink_add(spool, "s", &hooks, NULL, &options));
    ck_ok(spool_sink_pause(spool, "s"));
    if (_i)
        ck_ok(spool_start(spool));
    for (int i = 0; i < EVENTS; i++)
        put(spool, SPOOL_MEDIUM, "x", 1);
    until(the_sink(spool).dropped_events == EVENTS && told(&heard.dropped[0]) == EVENTS);
    ck_assert_uint_eq(told(&heard.dropped[SINKS]), 0);
    ck_ok(spool_close(spool));
    scratch_end();
}
END_TEST

START_TEST(dropped_dead_letters)
{
    begin();
    struct spool *spool = open_spool();
    const struct spool_sink_options options = SPOOL_SINK_OPTIONS(.dead_events_max = 2);
    ck_ok(spool_sink_add(spool, "s", &hooks, NULL, &options));
    for (int i = 0; i < EVENTS; i++)
        put(spool, SPOOL_MEDIUM, "x", 1);
    ck_ok(spool_start(spool));
    until(the_sink(spool).dead_dropped == EVENTS - 2 && told(&heard.dead_dropped) == EVENTS - 2);
    ck_assert_uint_eq(heard.kinds[SPOOL_NOTICE_DEAD_LETTER], EVENTS);
    ck_ok(spool_close(spool));
    scratch_end();
}
END_TEST

/* ------------------------------------------------------------------------------------------------------------- clock */

START_TEST(what_the_clock_tells)
{
    static const struct {
        enum hlc_event_kind kind;
        enum spool_notice_kind notice;
    } kinds[] = {
        {HLC_JUMP, SPOOL_NOTICE_CLOCK_JUMP},     {HLC_LEAP, SPOOL_NOTICE_CLOCK_JUMP},
        {HLC_UNSET, SPOOL_NOTICE_CLOCK_JUMP},    {HLC_SUSPEND, SPOOL_NOTICE_CLOCK_SUSPEND},
        {HLC_STATUS, SPOOL_NOTICE_CLOCK_STATUS}, {HLC_REMOTE, SPOOL_NOTICE_CLOCK_REMOTE},
    };
    begin();
    struct spool *spool = open_spool();
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        unsigned before = heard.kinds[kinds[i].notice];
        on_clock_event(spool, &(struct hlc_event){.kind = kinds[i].kind, .text = "what happened"});
        ck_assert_uint_eq(heard.kinds[kinds[i].notice], before + 1);
        ck_assert_str_eq(heard.text, "what happened");
    }
    ck_ok(spool_close(spool));
    scratch_end();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("public_notices");
    TCase *t = tcase_create("public_notices");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, dropped_because_the_spool_is_full);
    tcase_add_loop_test(t, dropped_because_too_much_waits_for_a_sink, 0, 2);
    tcase_add_test(t, dropped_dead_letters);
    tcase_add_test(t, what_the_clock_tells);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
