/* test_base_faults.c - the basic parts (JSON, events, threads, log, clock) when a call below them fails. */
#include <signal.h>
#include <wchar.h>

#include "../../clock/clock.h"
#include "../../lib/base/event.h"
#include "../../lib/base/json.h"
#include "../../lib/base/json_scan.h"
#include "../../lib/base/log.h"
#include "../../lib/base/sync.h"
#include "fail_nth.h"

static const struct spool_id some_id = {
    {0x01, 0x9a, 0xb0, 0xc1, 0xd2, 0xe3, 0x70, 0x00, 0x80, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77}};

/* ------------------------------------------------------------------------------------------------------- rendering */

/* Every place that writes finds the buffer full once, and no memory for more. */
static size_t render_with_every_room(const struct spool_event *event)
{
    for (size_t room = 1;; room++) {
        struct buffer out = {.data = malloc(room), .cap = room};
        fail_arm_from(FAIL_MEMORY, 1);
        int rc = json_put_event(&out, event, &some_id);
        bool failed = fail_disarm();
        size_t size = out.size;
        if (failed)
            ck_code(rc, ENOMEM);
        else
            ck_ok(rc);
        ck_assert(!failed || size == 0);
        ck_assert(failed || (out.data[0] == '{' && out.data[size - 1] == '}'));
        buffer_free(&out);
        if (!failed)
            return size;
    }
}

static struct spool_event full_event(const char *content_type, const void *body, size_t size)
{
    static const char *const tags[] = {"a", "b\n\"c", "d", NULL};
    return (struct spool_event)SPOOL_EVENT(.type = "t", .agent = "a\x01z", .session = "s", .parent = &some_id,
                                           .tags = tags, .content_type = content_type, .traceparent = "00-1",
                                           .occurred_at_ns = 1, .ttl_ms = 5000, .body = body, .body_size = size);
}

START_TEST(an_event_that_finds_no_memory_is_not_rendered_in_part)
{
    static const char json[] = "{\"n\": [1, 2]}";
    struct spool_event inline_body = full_event(NULL, json, sizeof json - 1);
    struct spool_event in_base64 = full_event("text/plain", "\xff\xfe\xfd", 3);
    ck_assert_uint_gt(render_with_every_room(&inline_body), 200);
    ck_assert_uint_gt(render_with_every_room(&in_base64), 200);
}
END_TEST

START_TEST(a_text_without_memory)
{
    static const char text[] = "ab\ncd\x02\xff"
                               "ef";
    int rc;
    char *json = NULL;
    struct spool_event event = full_event(NULL, "1", 1);
    event.agent = "a";
    event.tags = NULL;
    event.traceparent = NULL;
    fail_each(rc, FAIL_MEMORY, spool_event_to_json(&event, &some_id, &json, NULL))
    {
        ck_documented(rc);
        ck_assert_ptr_null(json);
    }
    ck_ok(rc);
    ck_assert_ptr_nonnull(strstr(json, "\"ttl_ms\":5000"));
    spool_free(json);
    for (size_t room = 1; room < 40; room++) {
        struct buffer out = {.data = malloc(room), .cap = room};
        fail_arm_from(FAIL_MEMORY, 1);
        rc = json_put_string(&out, text, sizeof text - 1);
        if (fail_disarm())
            ck_assert(rc == ENOMEM && out.size == 0);
        else
            ck_assert(rc == SPOOL_OK && memcmp(out.data,
                                               "\"ab\\ncd\\u0002\xef\xbf\xbd"
                                               "ef\"",
                                               out.size) == 0);
        buffer_free(&out);
    }
}
END_TEST

START_TEST(compact_and_time_without_memory)
{
    struct buffer out = {0};
    int rc;
    fail_each(rc, FAIL_MEMORY, json_put_compact(&out, " [ 1 ] ", 7)) ck_code(rc, ENOMEM);
    ck_ok(rc);
    ck_assert_uint_eq(out.size, 3);
    buffer_free(&out);
    fail_each(rc, FAIL_MEMORY, json_put_time(&out, 1)) ck_code(rc, ENOMEM);
    ck_ok(rc);
    ck_assert_mem_eq(out.data, "1970-01-01T00:00:00.000000001Z", out.size);
    buffer_free(&out);
}
END_TEST

/* --------------------------------------------------------------------------------------------------------- reading */

START_TEST(reading_and_copying_without_memory)
{
    static const char json[] = "{\"type\":\"t\",\"data\":[1]}";
    struct spool_event *event = NULL, *copy = NULL;
    int rc;
    fail_each(rc, FAIL_MEMORY, spool_event_from_json(json, sizeof json - 1, &event))
    {
        ck_documented(rc);
        ck_assert_ptr_null(event);
    }
    ck_ok(rc);
    fail_each(rc, FAIL_MEMORY, event_copy(event, NULL, &copy))
    {
        ck_code(rc, ENOMEM);
        ck_assert_ptr_null(copy);
    }
    ck_ok(rc);
    ck_assert_str_eq(copy->type, "t");
    ck_assert_ptr_null(copy->id);
    spool_event_free(copy);
    event->type = NULL;
    ck_code(event_copy(event, NULL, &copy), SPOOL_ETYPE);
    spool_event_free(event);
}
END_TEST

/* Each of them ends in the middle, or goes on wrongly; the message says where. */
START_TEST(json_that_is_no_event)
{
    static const char *const texts[] = {
        "{\"type\":\"t\",\"tags\":[\"a\"",
        "{\"type\":\"t\",\"tags\":[\"a\";]}",
        "{\"type\":\"t\",\"tags\":1}",
        "{\"type\":\"t\",\"ttl_ms\":}",
        "{\"type\":\"t\",\"data\":tru}",
        "{\"type\":\"t\",\"data_base64\":1}",
        "{\"type\"",
        "{\"type\":",
        "{type",
        "{",
        "[]",
        "",
        "{\"type\":\"t\",\"data\":[1",
        "{\"type\":\"t\",\"data\":[",
        "{\"type\":\"t\",\"data\":{\"a\"}}",
        "{\"type\":\"t\",\"data\":{\"a\":",
        "{\"type\":\"t\",\"data\":{1}}",
        "{\"type\":\"t\",\"data\":{\"a\\q\":1}}",
        "{\"type\":\"\\ud800\\u0041\"}",
        "{\"type\":\"\\ud800x\"}",
        "{\"type\":\"\\ud800\\n\"}",
        "{\"type\":\"\\udfff\"}",
        "{\"type\":\"t\",\"data\":{}",
        "{\"type\":\"t\",\"data\":{\"a\":1",
        "{\"type\":\"t\",\"data\":[1",
        "{\"a member that is so long that the message has to be content with its beginning, and no more\":1}",
        "{\"type\":\"t\"} x",
        "{\"type\":\"t\";}",
        "{\"type\":\"\\",
        "{\"type\":\"\\u12",
        "{\"type\":\"t\",\"data\":[1;2]}",
        "{\"type\":\"t\",\"data\":{\"a\":1;}}",
        "{\"type\":\"\\udc00\"}",
        "{\"type\":\"\\ud800\\ue000\"}",
        "{\"type\":\"t\",\"data\":\"",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct spool_event *event = NULL;
        ck_code(spool_event_from_json(texts[i], strlen(texts[i]), &event), SPOOL_EJSON);
        ck_assert_msg(strstr(spool_last_error(), "line 1, column "), "%s: %s", texts[i], spool_last_error());
        ck_assert_ptr_null(event);
    }
}
END_TEST

/* What is left out, and what is told by the media type. */
START_TEST(empty_members_and_media_types)
{
    static const char *const no_tags[] = {NULL};
    static const struct {
        const char *type, *shown;
    } cases[] = {{"", "\"data\":[1]"},
                 {"application/json; charset=utf-8", "\"data\":[1]"},
                 {"application/ld+json", "\"data\":[1]"},
                 {"application/yson", "\"data_base64\":\"WzFd\""},
                 {"text/json-of-a-kind", "\"data_base64\":\"WzFd\""}};
    char *json;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct spool_event event = SPOOL_EVENT(.type = "t", .agent = "", .tags = no_tags, .body = "[1]", .body_size = 3,
                                               .content_type = cases[i].type);
        ck_ok(spool_event_to_json(&event, &some_id, &json, NULL));
        ck_assert_msg(strstr(json, cases[i].shown) && !strstr(json, "tags") && !strstr(json, "agent"), "%s", json);
        spool_free(json);
        ck_code(spool_event_to_json(&event, &some_id, NULL, NULL), SPOOL_EINVAL);
        ck_code(spool_event_to_json(&event, NULL, &json, NULL), SPOOL_EINVAL);
    }
}
END_TEST

START_TEST(json_that_is_an_event)
{
    struct spool_event *event;
    static const char base64[] = "{\"type\":\"t\",\"tags\":[],\"content_type\":\"\",\"data_base64\":\"+/az09AZ\"}";
    static const char empty_type[] = "{\"type\":\"t\",\"content_type\":\"\",\"data\":[ ]}";
    ck_ok(spool_event_from_json(base64, sizeof base64 - 1, &event));
    ck_assert_mem_eq(event->body, "\xfb\xf6\xb3\xd3\xd0\x19", 6);
    spool_event_free(event);
    ck_ok(spool_event_from_json(empty_type, sizeof empty_type - 1, &event));
    ck_assert_mem_eq(event->body, "[]", 2);
    spool_event_free(event);
    static const char bad[] = "{\"type\":\"t\",\"data_base64\":\"{abc\"}";
    ck_code(spool_event_from_json(bad, sizeof bad - 1, &event), SPOOL_EINVAL);
    struct json_cursor c;
    json_begin(&c, "", 0);
    ck_code(json_fail(&c, NULL), SPOOL_EJSON);
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "not valid JSON"));
    ck_code(json_fail(&c, "%lc", (wint_t)0x7fffffff), SPOOL_EJSON);
}
END_TEST

START_TEST(priorities)
{
    enum spool_priority priority = SPOOL_LOW;
    ck_code(spool_priority_parse(NULL, &priority), SPOOL_EINVAL);
    ck_code(spool_priority_parse("high", NULL), SPOOL_EINVAL);
    ck_code(spool_priority_parse("highest", &priority), SPOOL_EINVAL);
    ck_assert_int_eq(priority, SPOOL_LOW);
    ck_ok(spool_priority_parse("high", &priority));
    ck_assert_int_eq(priority, SPOOL_HIGH);
    ck_assert_ptr_null(spool_priority_name((enum spool_priority)99));
}
END_TEST

START_TEST(times_that_are_none)
{
    static const char *const texts[] = {
        "",
        "2026",
        "2026-",
        "2026-11",
        "2026-11-21",
        "2026-13-21T00:00:00Z",
        "2026-11-21 00:00:00Z",
        "2026-11-21T",
        "2026-11-21T24:00:00Z",
        "2026-11-21T00",
        "2026-11-21T00:60:00Z",
        "2026-11-21T00:00",
        "2026-11-21T00:00:61Z",
        "2026-11-21T00:00:00",
        "2026-11-21T00:00:00.Z",
        "2026-11-21T00:00:00+24:00",
        "2026-11-21T00:00:00+01",
        "2026-11-21T00:00:00+01:60",
        "2026-11-21T00:00:00+01:6",
        "2026-11-21T00:00:00ZZ",
        "2026-11-21T00:00:00.1234567890Z",
        "1969-12-31T23:59:59Z",
        "2600-01-01T00:00:00Z",
        "1970-01-01T00:00:00+01:00",
        "2026-11-2aT00:00:00Z",
        "2026-11-2/T00:00:00Z",
        "2026-11-21T00:00:00Z and a text that is longer than what a message shows of it",
    };
    uint64_t ns = 42;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        ck_assert_msg(json_parse_time(texts[i], strlen(texts[i]), &ns) == SPOOL_EINVAL && ns == 42, "%s is taken",
                      texts[i]);
    ck_ok(json_parse_time("1970-01-01t01:00:01.5+01:00", 27, &ns));
    ck_assert_uint_eq(ns, 1500000000u);
    ck_ok(json_parse_time("1969-12-31T23:00:00-01:00", 25, &ns));
    ck_assert_uint_eq(ns, 0);
}
END_TEST

/* --------------------------------------------------------------------------------------------------------- threads */

FAIL_HOOK(int, pthread_sigmask, (int how, const sigset_t *set, sigset_t *old),
          FAIL_ARGS(int, const sigset_t *, sigset_t *), (how, set, old), FAIL_THREAD, fail_code(EAGAIN))
FAIL_HOOK(int, pthread_condattr_init, (pthread_condattr_t * attr), pthread_condattr_t *, (attr), FAIL_THREAD,
          fail_code(EAGAIN))
FAIL_HOOK(int, pthread_condattr_setclock, (pthread_condattr_t * attr, clockid_t clock),
          FAIL_ARGS(pthread_condattr_t *, clockid_t), (attr, clock), FAIL_THREAD, fail_code(EAGAIN))
FAIL_HOOK(int, sigtimedwait, (const sigset_t *set, siginfo_t *info, const struct timespec *timeout),
          FAIL_ARGS(const sigset_t *, siginfo_t *, const struct timespec *), (set, info, timeout), FAIL_LOCK,
          fail_errno(EINTR))

/* Threads of ours have the signal blocked anyway. */
static void *answer(void *arg)
{
    struct file_size_signal signal;
    file_size_signal_hold(&signal);
    arg = signal.held ? NULL : arg;
    file_size_signal_release(&signal);
    return thread_is_ours() ? arg : NULL;
}

START_TEST(a_thread_that_cannot_start)
{
    pthread_t thread;
    pthread_cond_t cond;
    sigset_t before = {0}, after = {0};
    int rc, n = 0;
    void *answered;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    fail_each(rc, FAIL_MEMORY, thread_start(&thread, "t", answer, &rc))
    {
        ck_documented(rc);
        n++;
    }
    ck_ok(rc);
    ck_assert_int_ge(n, 1);
    ck_assert_int_eq(pthread_join(thread, &answered), 0);
    ck_assert_ptr_eq(answered, &rc);
    fail_each(rc, FAIL_THREAD, thread_start(&thread, "t", answer, &rc))
    {
        if (rc == SPOOL_OK) { /* it runs, only the mask was not set back */
            ck_assert_int_eq(pthread_join(thread, NULL), 0);
            ck_assert_int_eq(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
            continue;
        }
        ck_code(rc, EAGAIN);
        ck_assert_ptr_nonnull(strstr(spool_last_error(), "cannot start thread t"));
        pthread_sigmask(SIG_SETMASK, NULL, &after);
        ck_assert_mem_eq(&before, &after, sizeof before);
    }
    ck_ok(rc);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    fail_each(rc, FAIL_THREAD, cond_init(&cond)) ck_code(rc, EAGAIN);
    ck_ok(rc);
    pthread_cond_destroy(&cond);
}
END_TEST

/* One that was pending before belongs to the program, and stays; one of ours is taken back. */
START_TEST(the_signal_of_the_size_limit)
{
    struct file_size_signal signal;
    sigset_t set, pending;
    for (int mine = 0; mine < 2; mine++) {
        sigemptyset(&set);
        sigaddset(&set, SIGXFSZ);
        ck_assert_int_eq(pthread_sigmask(mine ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL), 0);
        if (mine)
            raise(SIGXFSZ);
        file_size_signal_hold(&signal);
        raise(SIGXFSZ);
        errno = EFBIG;
        fail_arm(FAIL_LOCK, 1); /* another signal comes in between */
        file_size_signal_release(&signal);
        ck_assert_int_eq(fail_disarm(), !mine);
        errno = EFBIG;
        file_size_signal_release(&(struct file_size_signal){.held = false});
        ck_assert_int_eq(errno, EFBIG);
        ck_assert_int_eq(sigpending(&pending), 0);
        ck_assert_int_eq(sigismember(&pending, SIGXFSZ), mine);
        fail_arm(FAIL_THREAD, 1);
        file_size_signal_hold(&signal);
        ck_assert(fail_disarm() && !signal.held);
    }
}
END_TEST

/* ------------------------------------------------------------------------------------------------------------- log */

struct heard {
    unsigned logs, notices;
    char text[200], reason[200];
};

static void hear(void *user, enum spool_log_level level, const char *message)
{
    struct heard *heard = user;
    (void)level;
    heard->logs++;
    snprintf(heard->text, sizeof heard->text, "%s", message);
}

static void hear_notice(void *user, const struct spool_notice *notice)
{
    struct heard *heard = user;
    heard->notices++;
    snprintf(heard->reason, sizeof heard->reason, "%s", notice->reason);
}

START_TEST(whoever_listens_hears)
{
    struct heard heard = {0};
    struct reporter nobody = {0}, log = {.log = hear, .log_user = &heard},
                    notices = {.on_notice = hear_notice, .notice_user = &heard};
    report(NULL, SPOOL_LOG_ERROR, "x");
    notify(NULL, SPOOL_NOTICE_CLOCK_JUMP, NULL, NULL, 0, "x");
    report(&nobody, SPOOL_LOG_ERROR, "x");
    notify(&nobody, SPOOL_NOTICE_CLOCK_JUMP, NULL, NULL, 0, "x");
    notify(&log, SPOOL_NOTICE_CLOCK_JUMP, "audit", NULL, 0, "is %d", 7);
    ck_assert_str_eq(heard.text, "sink audit: is 7");
    notify(&notices, SPOOL_NOTICE_CLOCK_JUMP, NULL, NULL, 0, "is %d", 8);
    ck_assert_str_eq(heard.reason, "is 8");
    ck_assert(heard.logs == 1 && heard.notices == 1);
}
END_TEST

/* Rather the format than nothing. */
START_TEST(what_cannot_be_rendered_is_still_reported)
{
    struct heard heard = {0};
    struct reporter both = {hear, &heard, hear_notice, &heard};
    report(&both, SPOOL_LOG_ERROR, "lost: %lc", (wint_t)0x7fffffff);
    ck_assert_str_eq(heard.text, "lost: %lc");
    notify(&both, SPOOL_NOTICE_CLOCK_JUMP, NULL, NULL, 0, "gone: %lc", (wint_t)0x7fffffff);
    ck_assert_str_eq(heard.reason, "gone: %lc");
    ck_code(err_set(SPOOL_EINVAL, "%lc", (wint_t)0x7fffffff), SPOOL_EINVAL);
    ck_assert_str_eq(spool_last_error(), "");
}
END_TEST

/* ----------------------------------------------------------------------------------------------------------- clock */

START_TEST(a_clock_that_cannot_be_made)
{
    struct hlc *clock = NULL;
    int rc;
    fail_each(rc, FAIL_MEMORY, hlc_new(NULL, &clock))
    {
        ck_code(rc, ENOMEM);
        ck_assert_ptr_null(clock);
    }
    ck_ok(rc);
    hlc_free(clock);
    clock = NULL;
    fail_err = ENOSYS;
    fail_each(rc, FAIL_RANDOM, hlc_new(NULL, &clock))
    {
        ck_code(rc, ENOSYS);
        ck_assert_ptr_null(clock);
    }
    ck_ok(rc);
    hlc_free(clock);
    fail_err = EINTR; /* a signal is no reason */
    fail_arm(FAIL_RANDOM, 1);
    rc = hlc_new(NULL, &clock);
    ck_assert(fail_disarm());
    ck_ok(rc);
    hlc_free(clock);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("base_faults");
    TCase *tcase = tcase_create("base_faults");
    tcase_add_test(tcase, an_event_that_finds_no_memory_is_not_rendered_in_part);
    tcase_add_test(tcase, a_text_without_memory);
    tcase_add_test(tcase, compact_and_time_without_memory);
    tcase_add_test(tcase, reading_and_copying_without_memory);
    tcase_add_test(tcase, json_that_is_no_event);
    tcase_add_test(tcase, empty_members_and_media_types);
    tcase_add_test(tcase, json_that_is_an_event);
    tcase_add_test(tcase, priorities);
    tcase_add_test(tcase, times_that_are_none);
    tcase_add_test(tcase, a_thread_that_cannot_start);
    tcase_add_test(tcase, the_signal_of_the_size_limit);
    tcase_add_test(tcase, whoever_listens_hears);
    tcase_add_test(tcase, what_cannot_be_rendered_is_still_reported);
    tcase_add_test(tcase, a_clock_that_cannot_be_made);
    suite_add_tcase(suite, tcase);
    return suite;
}

CHECK_MAIN(suite)
