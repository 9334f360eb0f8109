/* test_json.c - the JSON writer and scanner, times, and the native rendering of events with its reader. */
#include "../check_main.h"

#include <time.h>

#include "../../lib/base/base64.h"
#include "../../lib/base/id.h"
#include "../../lib/base/json.h"

#define TRACE "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
#define ID "01a1fd96-9a69-7b94-8002-05213cebfbae"

static void check_buffer(struct buffer *b, const char *want)
{
    ck_assert_msg(b->size == strlen(want) && !memcmp(b->data, want, b->size), "got %.*s instead of %s", (int)b->size,
                  (const char *)b->data, want);
    b->size = 0;
}

/* --------------------------------------------------------------------------------------------------------- writing */

START_TEST(test_strings)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"", "\"\""},
        {"plain", "\"plain\""},
        {"a \"b\" \\ c", "\"a \\\"b\\\" \\\\ c\""},
        {"\b\f\n\r\t\x01\x1f\x7f", "\"\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\""},
        {"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\""},
        {"x\xff\xc3y", "\"x\xef\xbf\xbd\xef\xbf\xbdy\""},
        {"12345678901234567890\"", "\"12345678901234567890\\\"\""},
    };
    struct buffer b = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ck_ok(json_put_string(&b, cases[i].text, strlen(cases[i].text)));
        check_buffer(&b, cases[i].want);
    }
    ck_ok(json_put_string(&b, "a\0b", 3));
    check_buffer(&b, "\"a\\u0000b\"");
    buffer_free(&b);
}
END_TEST

START_TEST(test_compact)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"1", "1"},
        {" \t\r\n-0.5e+10 ", "-0.5e+10"},
        {"{ \"a\" : [ 1 , 2.50 , true , null ] , \"b c\" : { } }", "{\"a\":[1,2.50,true,null],\"b c\":{}}"},
        {"[\n]", "[]"},
        {"\" \\u00e9 \\/ \\\" \\ud800 \"", "\" \\u00e9 \\/ \\\" \\ud800 \""}, /* strings stay as they are */
        {"[1e5,0,-0,10.0E-3,false]", "[1e5,0,-0,10.0E-3,false]"},
        {"{\"a\":1,\"a\":2}", "{\"a\":1,\"a\":2}"},
    };
    struct buffer b = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ck_ok(json_put_compact(&b, cases[i].text, strlen(cases[i].text)));
        check_buffer(&b, cases[i].want);
    }
    buffer_free(&b);
}
END_TEST

static const char *const not_json[] = {
    "",
    " ",
    "{",
    "[",
    "]",
    "[1",
    "[1,",
    "[1,]",
    "[,1]",
    "[1 2]",
    "{a:1}",
    "{\"a\"}",
    "{\"a\":}",
    "{\"a\":1,}",
    "{\"a\" 1}",
    "tru",
    "True",
    "nul",
    "01",
    "-",
    "1.",
    ".5",
    "1e",
    "1e+",
    "+1",
    "0x1",
    "1 2",
    "\"",
    "\"\\\"",
    "\"\\x\"",
    "\"\\u12\"",
    "\"\\u12g4\"",
    "\"\n\"",
    "\"\x01\"",
    "\"\xff\"",
    "\"\xc3\"",
    "\"\xed\xa0\x80\"",
    "'a'",
    "NaN",
    "-a",
    "{\"a\":1}}",
    "[1]]",
    "\xef\xbb\xbf"
    "1",
    "{1:2}",
    "\"\\",
    "{\"a\":",
    "{\"a",
    "{\"a\":1",
    "00",
    "-01",
    "1.e5",
};

START_TEST(test_not_json)
{
    struct buffer b = {0};
    ck_ok(buffer_put_text(&b, "before"));
    for (size_t i = 0; i < sizeof not_json / sizeof not_json[0]; i++) {
        size_t size = strlen(not_json[i]);
        char *copy = malloc(size + 1); /* a sanitizer sees a read behind the end */
        memcpy(copy, not_json[i], size);
        copy = realloc(copy, size ? size : 1);
        ck_assert_msg(json_put_compact(&b, copy, size) == SPOOL_EJSON, "accepted: %s", not_json[i]);
        ck_assert_uint_eq(b.size, 6);
        ck_assert_mem_eq(b.data, "before", 6);
        free(copy);
    }
    ck_code(json_put_compact(&b, "1\0", 2), SPOOL_EJSON);
    ck_code(json_put_compact(&b, NULL, 0), SPOOL_EJSON);
    buffer_free(&b);
}
END_TEST

START_TEST(test_depth)
{
    char text[2100];
    struct buffer b = {0};
    memset(text, '[', 512), memset(text + 512, ']', 512);
    ck_ok(json_put_compact(&b, text, 1024));
    memset(text, '[', 513), memset(text + 513, ']', 513);
    ck_code(json_put_compact(&b, text, 1026), SPOOL_EJSON);
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "nested too deeply"));
    buffer_free(&b);
}
END_TEST

START_TEST(test_place_of_an_error)
{
    struct buffer b = {0};
    const char *text = "{\n  \"\xc3\xa4\": 1,\n  \"\xc3\xa4\xe2\x82\xac\" x\n}";
    ck_code(json_put_compact(&b, text, strlen(text)), SPOOL_EJSON);
    ck_assert_str_eq(spool_last_error(), "line 3, column 8: ':' is expected here");
    buffer_free(&b);
}
END_TEST

START_TEST(test_media_types)
{
    ck_assert(json_is_media_type("application/json"));
    ck_assert(json_is_media_type("Application/JSON; charset=utf-8"));
    ck_assert(json_is_media_type("application/cloudevents+json"));
    ck_assert(json_is_media_type("application/x+json ;a=b"));
    ck_assert(!json_is_media_type("application/jsonl"));
    ck_assert(!json_is_media_type("text/plain; a=application/json"));
    ck_assert(!json_is_media_type("+json"));
    ck_assert(!json_is_media_type(""));
}
END_TEST

START_TEST(test_base64)
{
    static const char *const pairs[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"}};
    static const char *const bad[] = {
        "Z", "Zg", "Zg=", "Zh==", "Zm9=", "Z===", "====", "Zg==Zg==", "Zm9v\n", "Zm-_", "=Zg=", "Zm9 "};
    for (size_t i = 0; i < 7; i++) {
        char text[16] = {0};
        uint8_t back[16];
        size_t size;
        base64_encode(text, (const uint8_t *)pairs[i][0], strlen(pairs[i][0]));
        ck_assert_str_eq(text, pairs[i][1]);
        ck_assert_uint_eq(base64_size(strlen(pairs[i][0])), strlen(text));
        ck_assert(base64_decode(back, text, strlen(text), &size));
        ck_assert_uint_eq(size, strlen(pairs[i][0]));
        ck_assert_mem_eq(back, pairs[i][0], size);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint8_t back[16];
        size_t size;
        ck_assert_msg(!base64_decode(back, bad[i], strlen(bad[i]), &size), "accepted: %s", bad[i]);
    }
}
END_TEST

/* ----------------------------------------------------------------------------------------------------------- times */

START_TEST(test_times)
{
    static const struct {
        uint64_t ns;
        const char *text;
    } cases[] = {
        {0, "1970-01-01T00:00:00.000000000Z"},
        {1, "1970-01-01T00:00:00.000000001Z"},
        {951782400000000000ull, "2000-02-29T00:00:00.000000000Z"},
        {1795253655123456789ull, "2026-11-21T09:34:15.123456789Z"},
        {4107542400000000000ull, "2100-03-01T00:00:00.000000000Z"},
        {4107542399999999999ull, "2100-02-28T23:59:59.999999999Z"},
        {UINT64_MAX, "2554-07-21T23:34:33.709551615Z"},
    };
    struct buffer b = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t back;
        ck_ok(json_put_time(&b, cases[i].ns));
        check_buffer(&b, cases[i].text);
        ck_ok(json_parse_time(cases[i].text, strlen(cases[i].text), &back));
        ck_assert_uint_eq(back, cases[i].ns);
    }
    buffer_free(&b);
}
END_TEST

/* Against the C library, over all days there are. */
START_TEST(test_every_day)
{
    struct buffer b = {0};
    for (uint64_t day = 0; day < 213503; day++) {
        time_t seconds = (time_t)(day * 86400 + 86399 - day % 86400);
        struct tm tm;
        char want[32];
        uint64_t back;
        strftime(want, sizeof want, "%Y-%m-%dT%H:%M:%S", gmtime_r(&seconds, &tm));
        ck_ok(json_put_time(&b, (uint64_t)seconds * 1000000000u));
        if (memcmp(b.data, want, 19) != 0)
            ck_abort_msg("day %llu: %.30s instead of %s", (unsigned long long)day, (const char *)b.data, want);
        if (json_parse_time((const char *)b.data, 30, &back) != 0 || back != (uint64_t)seconds * 1000000000u)
            ck_abort_msg("%.30s is read as %llu", (const char *)b.data, (unsigned long long)back);
        b.size = 0;
    }
    buffer_free(&b);
}
END_TEST

START_TEST(test_other_forms_of_time)
{
    static const char *const same[] = {"2026-11-21T09:34:15Z", "2026-11-21t09:34:15z", "2026-11-21T09:34:15.0Z",
                                       "2026-11-21T10:34:15+01:00", "2026-11-21T04:04:15-05:30"};
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        uint64_t ns;
        ck_ok(json_parse_time(same[i], strlen(same[i]), &ns));
        ck_assert_uint_eq(ns, 1795253655000000000ull);
    }
    uint64_t ns;
    ck_ok(json_parse_time("2016-12-31T23:59:60Z", 20, &ns)); /* a leap second */
    ck_assert_uint_eq(ns, 1483228800000000000ull);
    ck_ok(json_parse_time("1970-01-01T00:00:00.5Z", 22, &ns));
    ck_assert_uint_eq(ns, 500000000);
}
END_TEST

START_TEST(test_bad_times)
{
    static const char *const bad[] = {"",
                                      "2026",
                                      "2026-11-21",
                                      "2026-11-21T09:34:15",
                                      "2026-11-21 09:34:15Z",
                                      "2026-13-21T09:34:15Z",
                                      "2026-00-21T09:34:15Z",
                                      "2026-11-31T09:34:15Z",
                                      "2025-02-29T09:34:15Z",
                                      "2100-02-29T09:34:15Z",
                                      "2026-11-00T09:34:15Z",
                                      "2026-11-21T24:34:15Z",
                                      "2026-11-21T09:60:15Z",
                                      "2026-11-21T09:34:61Z",
                                      "2026-11-21T09:34:15.Z",
                                      "2026-11-21T09:34:15.1234567890Z",
                                      "2026-11-21T09:34:15ZZ",
                                      "2026-11-21T09:34:15+1:00",
                                      "2026-11-21T09:34:15+24:00",
                                      "1969-12-31T23:59:59Z",
                                      "1970-01-01T00:00:00+00:01",
                                      "2554-07-21T23:34:34Z",
                                      "9999-12-31T23:59:59Z",
                                      "0000-01-01T00:00:00Z",
                                      "-026-11-21T09:34:15Z",
                                      "2026-11-21T09:34:15.12 Z"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint64_t ns = 42;
        ck_assert_msg(json_parse_time(bad[i], strlen(bad[i]), &ns) == SPOOL_EINVAL, "accepted: %s", bad[i]);
        ck_assert_uint_eq(ns, 42);
    }
}
END_TEST

/* ---------------------------------------------------------------------------------------------------------- events */

static const char FULL[] =
    "{\"id\":\"" ID "\",\"time\":\"2026-11-21T10:11:08.009723633Z\",\"hlc\":\"01a1fd969a69b94.0002\","
    "\"type\":\"log.llm_call\",\"agent\":\"planner "
    "\\\"1\\\"\",\"session\":\"s\xc3\xa4\",\"priority\":\"high\",\"parent\":\"" ID "\","
    "\"tags\":[\"a\",\"b\"],\"content_type\":\"application/json\",\"traceparent\":\"" TRACE "\","
    "\"occurred_at\":\"2026-11-21T09:34:15.123456789Z\",\"ttl_ms\":18446744073709551615,\"data\":{\"n\":1.50,\"s\":"
    "\"\\u00e9\"}}";

START_TEST(test_rendering)
{
    struct spool_id id;
    char *json;
    size_t size;
    ck_ok(spool_id_parse(ID, &id));
    const char *tags[] = {"a", "b", NULL}, *body = " { \"n\" : 1.50 ,\n\"s\":\"\\u00e9\"}\n";
    struct spool_event event =
        SPOOL_EVENT(.type = "log.llm_call", .agent = "planner \"1\"", .session = "s\xc3\xa4", .priority = SPOOL_HIGH,
                    .parent = &id, .tags = tags, .traceparent = TRACE, .occurred_at_ns = 1795253655123456789ull,
                    .ttl_ms = UINT64_MAX, .body = body, .body_size = strlen(body));
    ck_ok(spool_event_to_json(&event, &id, &json, &size));
    ck_assert_str_eq(json, FULL);
    ck_assert_uint_eq(size, strlen(FULL));
    spool_free(json);
    event = SPOOL_EVENT(.type = "t", .id = &id);
    ck_ok(spool_event_to_json(&event, NULL, &json, NULL));
    ck_assert_str_eq(json,
                     "{\"id\":\"" ID "\",\"time\":\"2026-11-21T10:11:08.009723633Z\",\"hlc\":\"01a1fd969a69b94.0002\","
                     "\"type\":\"t\",\"priority\":\"medium\",\"content_type\":\"application/json\"}");
    spool_free(json);
}
END_TEST

static void check_body(const char *content_type, const char *body, size_t body_size, const char *want)
{
    struct spool_id id;
    char *json;
    ck_ok(spool_id_parse(ID, &id));
    struct spool_event event =
        SPOOL_EVENT(.type = "t", .content_type = content_type, .body = body, .body_size = body_size);
    ck_ok(spool_event_to_json(&event, &id, &json, NULL));
    const char *data = strstr(json, ",\"data");
    ck_assert_str_eq(data ? data : "}", want);
    spool_free(json);
}

START_TEST(test_bodies)
{
    check_body(NULL, "\"text\"", 6, ",\"data\":\"text\"}");
    check_body("application/x+json", "[ ]", 3, ",\"data\":[]}");
    check_body("text/plain", "[ ]", 3, ",\"data_base64\":\"WyBd\"}");
    check_body(NULL, "not json", 8, ",\"data_base64\":\"bm90IGpzb24=\"}");
    check_body(NULL, "1 2", 3, ",\"data_base64\":\"MSAy\"}");
    check_body(NULL, "\"\xff\"", 3, ",\"data_base64\":\"Iv8i\"}");
    check_body(NULL, " ", 1, ",\"data_base64\":\"IA==\"}");
    check_body(NULL, NULL, 0, "}");
    check_body("text/plain", "", 0, "}");
}
END_TEST

START_TEST(test_bad_rendering)
{
    struct spool_id zero = {{0}};
    char *json = NULL;
    struct spool_event event = SPOOL_EVENT(.type = "t");
    ck_code(spool_event_to_json(&event, NULL, &json, NULL), SPOOL_EINVAL);
    ck_code(spool_event_to_json(&event, &zero, &json, NULL), SPOOL_EID);
    ck_code(spool_event_to_json(NULL, &zero, &json, NULL), SPOOL_EINVAL);
    event.type = NULL;
    ck_code(spool_event_to_json(&event, NULL, &json, NULL), SPOOL_ETYPE);
    event.type = "\xff";
    ck_code(spool_event_to_json(&event, NULL, &json, NULL), SPOOL_EUTF8);
    ck_assert_ptr_null(json);
}
END_TEST

/* Reads, renders, and gets the same text. */
static void check_identical(const char *text)
{
    struct spool_event *event;
    char *json;
    size_t size;
    ck_ok(spool_event_from_json(text, strlen(text), &event));
    ck_ok(spool_event_to_json(event, NULL, &json, &size));
    ck_assert_str_eq(json, text);
    spool_free(json);
    spool_event_free(event);
}

START_TEST(test_round_trip)
{
    check_identical(FULL);
    check_identical("{\"id\":\"" ID "\",\"time\":\"2026-11-21T10:11:08.009723633Z\",\"hlc\":\"01a1fd969a69b94.0002\","
                    "\"type\":\"t\",\"priority\":\"low\",\"content_type\":\"text/plain\",\"data_base64\":\"AP8=\"}");
}
END_TEST

START_TEST(test_reading)
{
    const char *text = " { \"data\" : [ \"a b\" , {} ] , \"t\\u0079pe\" : \"x\\ud83d\\ude00\\u00e9\\/\\n\" }\n";
    struct spool_event *event;
    ck_code(spool_event_from_json(text, strlen(text), &event), SPOOL_EUTF8); /* the line feed in the type */
    text = " { \"data\" : [ \"a b\" , {} ] , \"t\\u0079pe\" : \"x\\ud83d\\ude00\\u00e9\\/\" }\n";
    ck_ok(spool_event_from_json(text, strlen(text), &event));
    ck_assert_str_eq(event->type, "x\xf0\x9f\x98\x80\xc3\xa9/");
    ck_assert_uint_eq(event->body_size, 10);
    ck_assert_str_eq(event->body, "[\"a b\",{}]");
    ck_assert_ptr_null(event->id);
    ck_assert_ptr_null(event->agent);
    ck_assert_ptr_null(event->tags);
    ck_assert_str_eq(event->content_type, "application/json");
    spool_event_free(event);
}
END_TEST

/* What is wrong, and what the answer must say. */
static const struct {
    const char *text;
    int code;
    const char *message;
} bad_events[] = {
    {"", SPOOL_EJSON, "line 1, column 1: an object is expected here"},
    {"[]", SPOOL_EJSON, "line 1, column 1: an object is expected here"},
    {"{}", SPOOL_ETYPE, "the event has no type"},
    {"{\"type\":\"\"}", SPOOL_ETYPE, "the event has no type"},
    {"{\"type\":\"t\"", SPOOL_EJSON, "line 1, column 12: ',' or '}' is expected here"},
    {"{\"type\":\"t\"} x", SPOOL_EJSON, "line 1, column 14: something follows the event"},
    {"{\"type\":\"t\",}", SPOOL_EJSON, "line 1, column 13: the name of a member is expected here"},
    {"{\n \"type\":\"t\",\n \"typo\":1}", SPOOL_EJSON, "line 3, column 2: unknown member \"typo\""},
    {"{\"type\":\"t\",\"type\":\"t\"}", SPOOL_EJSON, "line 1, column 13: member \"type\" is given twice"},
    {"{\"type\":\"t\",\"t\\u0079pe\":\"t\"}", SPOOL_EJSON, "line 1, column 13: member \"type\" is given twice"},
    {"{\"type\":1}", SPOOL_EJSON, "line 1, column 9: a string is expected here"},
    {"{\"type\":null}", SPOOL_EJSON, "line 1, column 9: a string is expected here"},
    {"{\"type\":\"a\\u0000b\"}", SPOOL_EUTF8, "line 1, column 9: member \"type\""},
    {"{\"type\":\"\\ud800\"}", SPOOL_EJSON, "half a surrogate pair"},
    {"{\"type\":\"\\udc00\\ud800\"}", SPOOL_EJSON, "half a surrogate pair"},
    {"{\"type\":\"\\ud800\\u0041\"}", SPOOL_EJSON, "half a surrogate pair"},
    {"{\"type\":\"\xff\"}", SPOOL_EJSON, "line 1, column 10: not valid UTF-8"},
    {"{\"type\":\"t\",\"id\":\"x\"}", SPOOL_EID, "line 1, column 18: member \"id\": \"x\" is not an event id"},
    {"{\"type\":\"t\",\"parent\":\"x\"}", SPOOL_EID, "member \"parent\""},
    {"{\"type\":\"t\",\"priority\":\"urgent\"}", SPOOL_EINVAL, "member \"priority\": \"urgent\""},
    {"{\"type\":\"t\",\"tags\":\"a\"}", SPOOL_EJSON, "an array of strings"},
    {"{\"type\":\"t\",\"tags\":[\"a\",]}", SPOOL_EJSON, "a string is expected"},
    {"{\"type\":\"t\",\"tags\":[\"a\" \"b\"]}", SPOOL_EJSON, "',' or ']'"},
    {"{\"type\":\"t\",\"tags\":[\"\"]}", SPOOL_EINVAL, "tag 1 of the event is empty"},
    {"{\"type\":\"t\",\"tags\":[\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\","
     "\"\"]}",
     SPOOL_EINVAL, "more than 16 tags"},
    {"{\"type\":\"t\",\"ttl_ms\":-1}", SPOOL_EINVAL, "member \"ttl_ms\""},
    {"{\"type\":\"t\",\"ttl_ms\":1.5}", SPOOL_EINVAL, "member \"ttl_ms\""},
    {"{\"type\":\"t\",\"ttl_ms\":\"1\"}", SPOOL_EINVAL, "member \"ttl_ms\""},
    {"{\"type\":\"t\",\"ttl_ms\":18446744073709551616}", SPOOL_EINVAL, "member \"ttl_ms\""},
    {"{\"type\":\"t\",\"traceparent\":\"x\"}", SPOOL_EINVAL, "traceparent"},
    {"{\"type\":\"t\",\"occurred_at\":\"yesterday\"}", SPOOL_EINVAL, "member \"occurred_at\": \"yesterday\""},
    {"{\"type\":\"t\",\"time\":\"2026-11-21T10:11:08Z\"}", SPOOL_EINVAL, "\"time\" is part of the id"},
    {"{\"type\":\"t\",\"hlc\":\"01a1fd969a69b94.0002\"}", SPOOL_EINVAL, "\"hlc\" is part of the id"},
    {"{\"type\":\"t\",\"id\":\"" ID "\",\"time\":\"2026-11-21T10:11:08Z\"}", SPOOL_EINVAL, "\"time\" is not the time"},
    {"{\"type\":\"t\",\"id\":\"" ID "\",\"hlc\":\"\"}", SPOOL_EINVAL, "\"hlc\" is not the clock"},
    {"{\"type\":\"t\",\"data\":tru}", SPOOL_EJSON, "line 1, column 20"},
    {"{\"type\":\"t\",\"data\":}", SPOOL_EJSON, "a value is expected"},
    {"{\"type\":\"t\",\"data\":1,\"data_base64\":\"\"}", SPOOL_EJSON, "exclude each other"},
    {"{\"type\":\"t\",\"data\":1,\"content_type\":\"text/plain\"}", SPOOL_EINVAL, "use \"data_base64\""},
    {"{\"type\":\"t\",\"data_base64\":\"Zh==\"}", SPOOL_EINVAL, "member \"data_base64\": it is not base64"},
};

START_TEST(test_bad_events)
{
    for (size_t i = 0; i < sizeof bad_events / sizeof bad_events[0]; i++) {
        struct spool_event *event = NULL;
        size_t size = strlen(bad_events[i].text);
        char *copy = malloc(size ? size : 1); /* a sanitizer sees a read behind the end */
        memcpy(copy, bad_events[i].text, size);
        int rc = spool_event_from_json(copy, size, &event);
        ck_assert_msg(rc == bad_events[i].code && strstr(spool_last_error(), bad_events[i].message), "%s: %s, %s",
                      bad_events[i].text, spool_error_name(rc), spool_last_error());
        ck_assert_ptr_null(event);
        free(copy);
    }
    struct spool_event *event;
    ck_code(spool_event_from_json(NULL, 0, &event), SPOOL_EINVAL);
    ck_code(spool_event_from_json("{}", 2, NULL), SPOOL_EINVAL);
}
END_TEST

/* Cut anywhere, it is an error and never a crash. */
START_TEST(test_every_prefix)
{
    for (size_t n = 0; n < sizeof FULL - 1; n++) {
        struct spool_event *event;
        char *cut = malloc(n ? n : 1);
        memcpy(cut, FULL, n);
        ck_code(spool_event_from_json(cut, n, &event), SPOOL_EJSON);
        free(cut);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("json");
    TCase *t = tcase_create("json");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_strings);
    tcase_add_test(t, test_compact);
    tcase_add_test(t, test_not_json);
    tcase_add_test(t, test_depth);
    tcase_add_test(t, test_place_of_an_error);
    tcase_add_test(t, test_media_types);
    tcase_add_test(t, test_base64);
    tcase_add_test(t, test_times);
    tcase_add_test(t, test_every_day);
    tcase_add_test(t, test_other_forms_of_time);
    tcase_add_test(t, test_bad_times);
    tcase_add_test(t, test_rendering);
    tcase_add_test(t, test_bodies);
    tcase_add_test(t, test_bad_rendering);
    tcase_add_test(t, test_round_trip);
    tcase_add_test(t, test_reading);
    tcase_add_test(t, test_bad_events);
    tcase_add_test(t, test_every_prefix);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
