/* test_event.c - what an event may hold, its packed form, and that no packed bytes can do harm. */
#include "../check_main.h"

#include "../../lib/base/bytes.h"
#include "../../lib/base/event.h"
#include "../../lib/base/id.h"

#define TRACE "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

static struct spool_id test_id(uint64_t ticks)
{
    struct spool_id id;
    id_make((struct hlc_stamp){ticks, 5}, 77, &id);
    return id;
}

/* Packs into a fresh allocation of exactly the size. */
static uint8_t *pack(const struct spool_event *event, size_t *ret_size)
{
    struct event_measure measure;
    struct spool_id id = test_id(1234567);
    ck_ok(event_measure(event, SIZE_MAX, &measure));
    uint8_t *packed = malloc(measure.packed_size);
    memset(packed, 0xee, measure.packed_size);
    event_pack(event, &measure, &id, packed);
    *ret_size = measure.packed_size;
    return packed;
}

static void check_text(const char *got, const char *want)
{
    if (!want)
        ck_assert_ptr_null(got);
    else
        ck_assert_str_eq(got, want);
}

static void check_tags(const char *const *got, const char *const *want)
{
    size_t n = 0;
    if (!want || !want[0]) {
        ck_assert_ptr_null(got);
        return;
    }
    for (; want[n]; n++)
        ck_assert_str_eq(got[n], want[n]);
    ck_assert_ptr_null(got[n]);
}

static void check_same(const struct spool_event *got, const struct spool_event *want)
{
    check_text(got->type, want->type);
    check_text(got->agent, want->agent);
    check_text(got->session, want->session);
    check_text(got->content_type, want->content_type ? want->content_type : "application/json");
    check_text(got->traceparent, want->traceparent);
    check_tags(got->tags, want->tags);
    ck_assert_int_eq(got->priority, want->priority);
    ck_assert_int_eq(got->durability, want->durability);
    ck_assert_uint_eq(got->occurred_at_ns, want->occurred_at_ns);
    ck_assert_uint_eq(got->ttl_ms, want->ttl_ms);
    ck_assert(!got->parent == !want->parent);
    if (want->parent)
        ck_assert_mem_eq(got->parent, want->parent, sizeof *want->parent);
    ck_assert_uint_eq(got->body_size, want->body_size);
    if (want->body_size)
        ck_assert_mem_eq(got->body, want->body, want->body_size);
    ck_assert_int_eq(((const char *)got->body)[got->body_size], 0);
}

static void check_round_trip(const struct spool_event *event)
{
    struct event_view view;
    struct spool_id id;
    size_t size;
    uint8_t *packed = pack(event, &size);
    ck_assert_uint_eq(size % 8, 0);
    ck_assert_uint_ge(size, EVENT_PACKED_MIN);
    ck_ok(event_unpack(packed, size, &view));
    check_same(&view.event, event);
    ck_assert_ptr_eq(view.event.id, &view.id);
    ck_assert_uint_eq(view.packed_size, size);
    ck_assert_uint_eq(event_packed_size(packed), size);
    ck_assert_int_eq(event_packed_priority(packed), event->priority);
    event_packed_id(packed, &id);
    ck_assert_mem_eq(&id, &view.id, sizeof id);
    free(packed);
}

static const char *const three_tags[] = {"a", "prod", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", NULL};

static struct spool_event full_event(const struct spool_id *parent)
{
    return SPOOL_EVENT(.type = "log.llm_call", .agent = "planner", .session = "s-1", .priority = SPOOL_HIGH,
                       .durability = SPOOL_DURABLE_PROCESS, .content_type = "text/plain", .body = "hello",
                       .body_size = 5, .parent = parent, .tags = three_tags, .traceparent = TRACE,
                       .occurred_at_ns = UINT64_MAX, .ttl_ms = 1);
}

START_TEST(test_round_trip)
{
    struct spool_id parent = test_id(99);
    struct spool_event event = full_event(&parent);
    check_round_trip(&event);
    event = SPOOL_EVENT(.type = "t");
    check_round_trip(&event);
    char body[300];
    memset(body, 0, sizeof body);
    for (size_t n = 0; n < sizeof body; n++) { /* every padding */
        event = SPOOL_EVENT(.type = "t", .body = body, .body_size = n, .priority = n % 4, .durability = n % 3);
        check_round_trip(&event);
    }
}
END_TEST

START_TEST(test_largest_envelope)
{
    char text[256], tag[128];
    const char *tags[SPOOL_TAGS_MAX + 1] = {0};
    memset(text, 'x', 255), text[255] = 0;
    memset(tag, 'y', 127), tag[127] = 0;
    for (int i = 0; i < SPOOL_TAGS_MAX; i++)
        tags[i] = tag;
    struct spool_event event =
        SPOOL_EVENT(.type = text, .agent = text, .session = text, .content_type = tag, .tags = tags);
    check_round_trip(&event);
}
END_TEST

START_TEST(test_overhead)
{
    char body[256] = {0};
    size_t size;
    struct spool_event event = SPOOL_EVENT(.type = "log.llm_call", .agent = "planner", .body = body, .body_size = 256);
    free(pack(&event, &size));
    ck_assert_uint_le(size, 256 + 40 + sizeof "log.llm_call" + sizeof "planner");
}
END_TEST

/* What means the same packs the same. */
START_TEST(test_absent_and_default)
{
    size_t a, b;
    struct spool_event bare = SPOOL_EVENT(.type = "t");
    struct spool_event spelled =
        SPOOL_EVENT(.type = "t", .agent = "", .session = "", .content_type = "application/json",
                    .tags = (const char *const[]){NULL}, .traceparent = "", .body = "");
    uint8_t *pa = pack(&bare, &a), *pb = pack(&spelled, &b);
    ck_assert_uint_eq(a, EVENT_PACKED_MIN);
    ck_assert_uint_eq(a, b);
    ck_assert_mem_eq(pa, pb, a);
    free(pa);
    free(pb);
}
END_TEST

/* ------------------------------------------------------------------------------------------------------ bad events */

static void check_bad(struct spool_event event, int want)
{
    struct event_measure measure, before;
    memset(&measure, 0x5a, sizeof measure);
    before = measure;
    ck_code(event_measure(&event, 1 << 20, &measure), want);
    ck_assert_mem_eq(&measure, &before, sizeof measure); /* no output on failure */
    ck_assert_str_ne(spool_last_error(), "");
}

START_TEST(test_bad_struct)
{
    struct event_measure measure;
    ck_code(event_measure(NULL, 1000, &measure), SPOOL_EINVAL);
    check_bad((struct spool_event){.type = "t"}, SPOOL_EINVAL);
    check_bad((struct spool_event){.size = 8, .type = "t"}, SPOOL_EINVAL);
    struct {
        struct spool_event event;
        uint64_t later;
    } newer = {.event = {.size = sizeof newer, .type = "t"}};
    ck_ok(event_measure(&newer.event, 1000, &measure)); /* unused: fine */
    newer.later = 1ull << 56;
    ck_code(event_measure(&newer.event, 1000, &measure), SPOOL_EOPTION);
}
END_TEST

START_TEST(test_bad_type)
{
    char text[300];
    memset(text, 'x', sizeof text), text[256] = 0;
    check_bad(SPOOL_EVENT(.agent = "a"), SPOOL_ETYPE);
    check_bad(SPOOL_EVENT(.type = ""), SPOOL_ETYPE);
    check_bad(SPOOL_EVENT(.type = text), SPOOL_ETYPE);
}
END_TEST

START_TEST(test_too_long)
{
    char text[300], tag[129];
    memset(text, 'x', sizeof text), text[256] = 0;
    memset(tag, 'x', sizeof tag), tag[128] = 0;
    const char *many[SPOOL_TAGS_MAX + 2] = {0};
    for (int i = 0; i <= SPOOL_TAGS_MAX; i++)
        many[i] = "t";
    check_bad(SPOOL_EVENT(.type = "t", .agent = text), SPOOL_EINVAL);
    check_bad(SPOOL_EVENT(.type = "t", .session = text), SPOOL_EINVAL);
    check_bad(SPOOL_EVENT(.type = "t", .content_type = tag), SPOOL_EINVAL);
    check_bad(SPOOL_EVENT(.type = "t", .tags = (const char *const[]){tag, NULL}), SPOOL_EINVAL);
    check_bad(SPOOL_EVENT(.type = "t", .tags = (const char *const[]){"a", "", NULL}), SPOOL_EINVAL);
    check_bad(SPOOL_EVENT(.type = "t", .tags = many), SPOOL_EINVAL);
}
END_TEST

START_TEST(test_bad_texts)
{
    static const char *const bad[] = {"\x80",
                                      "a\xff",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xe0\x80\x80",
                                      "\xed\xa0\x80",
                                      "\xf0\x80\x80\x80",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xc3",
                                      "\xe2\x82",
                                      "\xf0\x9f\x98",
                                      "\xc3(",
                                      "a\n",
                                      "\x01",
                                      "\x1f",
                                      "x\x7f",
                                      "long enough for a word\t",
                                      "12345678\x7f",
                                      "1234567\x1f",
                                      "seven77\xc3",
                                      "\xe2\x82\xac\n"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        check_bad(SPOOL_EVENT(.type = bad[i]), SPOOL_EUTF8);
        check_bad(SPOOL_EVENT(.type = "t", .agent = bad[i]), SPOOL_EUTF8);
        check_bad(SPOOL_EVENT(.type = "t", .session = bad[i]), SPOOL_EUTF8);
        check_bad(SPOOL_EVENT(.type = "t", .content_type = bad[i]), SPOOL_EUTF8);
        check_bad(SPOOL_EVENT(.type = "t", .tags = (const char *const[]){bad[i], NULL}), SPOOL_EUTF8);
    }
}
END_TEST

/* Every code point that is one, at every place within the words that are looked at. */
START_TEST(test_good_texts)
{
    static const char *const good[] = {" ",
                                       "~",
                                       "\xc2\x80",
                                       "\xdf\xbf",
                                       "\xe0\xa0\x80",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80",
                                       "\xef\xbf\xbf",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        for (size_t lead = 0; lead < 17; lead++) {
            char text[64];
            snprintf(text, sizeof text, "%.*s%sz", (int)lead, "aaaaaaaaaaaaaaaaa", good[i]);
            struct spool_event event = SPOOL_EVENT(.type = text, .agent = text);
            check_round_trip(&event);
        }
    }
}
END_TEST

START_TEST(test_bad_numbers_and_ids)
{
    struct spool_id zero = {{0}};
    check_bad(SPOOL_EVENT(.type = "t", .priority = 4), SPOOL_EINVAL);
    check_bad(SPOOL_EVENT(.type = "t", .priority = (enum spool_priority) - 1), SPOOL_EINVAL);
    check_bad(SPOOL_EVENT(.type = "t", .durability = 3), SPOOL_EINVAL);
    check_bad(SPOOL_EVENT(.type = "t", .id = &zero), SPOOL_EID);
    check_bad(SPOOL_EVENT(.type = "t", .parent = &zero), SPOOL_EID);
    check_bad(SPOOL_EVENT(.type = "t", .body_size = 1), SPOOL_EINVAL);
}
END_TEST

START_TEST(test_bad_traceparent)
{
    static const char *const bad[] = {
        "0",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902g7-01",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        check_bad(SPOOL_EVENT(.type = "t", .traceparent = bad[i]), SPOOL_EINVAL);
}
END_TEST

START_TEST(test_size_limit)
{
    struct event_measure measure;
    size_t size;
    struct spool_event event = SPOOL_EVENT(.type = "t", .body = "12345678", .body_size = 8);
    free(pack(&event, &size));
    ck_ok(event_measure(&event, size, &measure));
    ck_code(event_measure(&event, size - 1, &measure), SPOOL_ETOOBIG);
    ck_code(event_measure(&event, 0, &measure), SPOOL_ETOOBIG);
    event.body_size = SIZE_MAX; /* must not wrap */
    ck_code(event_measure(&event, SIZE_MAX, &measure), SPOOL_ETOOBIG);
    event.body_size = UINT32_MAX - 8;
    ck_code(event_measure(&event, SIZE_MAX, &measure), SPOOL_ETOOBIG);
}
END_TEST

/* -------------------------------------------------------------------------------------------------- damaged bytes */

START_TEST(test_cut_off)
{
    struct spool_id parent = test_id(99);
    struct spool_event event = full_event(&parent);
    size_t size;
    uint8_t *packed = pack(&event, &size);
    for (size_t n = 0; n < size; n++) {
        struct event_view view;
        uint8_t *cut = malloc(n ? n : 1); /* of its own, so that a sanitizer sees a read beyond */
        memcpy(cut, packed, n);
        ck_code(event_unpack(cut, n, &view), SPOOL_EDAMAGED);
        free(cut);
    }
    free(packed);
}
END_TEST

START_TEST(test_another_version)
{
    struct spool_event event = SPOOL_EVENT(.type = "t");
    struct event_view view;
    size_t size;
    uint8_t *packed = pack(&event, &size);
    packed[29] = 2;
    ck_code(event_unpack(packed, size, &view), SPOOL_EVERSION);
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "version 2"));
    packed[29] = 0;
    ck_code(event_unpack(packed, size, &view), SPOOL_EVERSION);
    free(packed);
}
END_TEST

/* Whatever one byte is changed to, reading is safe, and what is accepted packs again to the same bytes. */
START_TEST(test_every_changed_byte)
{
    struct spool_id parent = test_id(99);
    struct spool_event event = full_event(&parent);
    size_t size, refused = 0;
    uint8_t *packed = pack(&event, &size);
    for (size_t at = 0; at < size; at++) {
        uint8_t was = packed[at];
        for (int value = 0; value < 256; value++) {
            struct event_view view;
            packed[at] = (uint8_t)value;
            if (event_unpack(packed, size, &view) != SPOOL_OK) {
                refused++;
                continue;
            }
            struct event_measure measure;
            uint8_t again[512];
            ck_ok(event_measure(&view.event, sizeof again, &measure));
            ck_assert_uint_eq(measure.packed_size, size);
            event_pack(&view.event, &measure, &view.id, again);
            ck_assert_mem_eq(again, packed, size);
        }
        packed[at] = was;
    }
    ck_assert_uint_gt(refused, 128 * 60); /* half of all values are no ASCII, in more than 60 bytes of text */
    free(packed);
}
END_TEST

/* Fields that only a mistake can have written. */
START_TEST(test_not_canonical)
{
    struct spool_event event = SPOOL_EVENT(.type = "t", .occurred_at_ns = 1, .content_type = "application/xxxx");
    struct event_view view;
    size_t size;
    uint8_t *packed = pack(&event, &size);
    memcpy(memmem(packed, size, "xxxx", 4), "json", 4);
    ck_code(event_unpack(packed, size, &view), SPOOL_EDAMAGED); /* the default is never spelled out */
    memcpy(memmem(packed, size, "json", 4), "jsox", 4);
    ck_ok(event_unpack(packed, size, &view));
    put_u64(packed + 32, 0); /* occurred_at */
    ck_code(event_unpack(packed, size, &view), SPOOL_EDAMAGED);
    put_u64(packed + 32, 1);
    packed[size - 1] = 1; /* padding */
    ck_code(event_unpack(packed, size, &view), SPOOL_EDAMAGED);
    free(packed);
}
END_TEST

/* -------------------------------------------------------------------------------------------------- copies, names */

START_TEST(test_copy)
{
    struct spool_id id = test_id(7), parent = test_id(99);
    struct spool_event event = full_event(&parent), *copy;
    ck_ok(event_copy(&event, &id, &copy));
    ck_assert_mem_eq(copy->id, &id, sizeof id);
    memset(&parent, 0, sizeof parent); /* the copy is deep */
    ck_assert(id_is_valid(copy->parent));
    parent = test_id(99);
    check_same(copy, &event);
    struct spool_event *second;
    ck_ok(event_copy(copy, NULL, &second));
    ck_assert_mem_eq(second->id, &id, sizeof id);
    spool_event_free(copy);
    check_same(second, &event);
    spool_event_free(second);
    ck_ok(event_copy(&event, NULL, &copy));
    ck_assert_ptr_null(copy->id);
    spool_event_free(copy);
    event.type = NULL;
    ck_code(event_copy(&event, NULL, &copy), SPOOL_ETYPE);
    spool_event_free(NULL);
    spool_free(NULL);
}
END_TEST

START_TEST(test_priorities)
{
    enum spool_priority priority;
    for (int i = 0; i < SPOOL_PRIORITIES; i++) {
        ck_ok(spool_priority_parse(spool_priority_name((enum spool_priority)i), &priority));
        ck_assert_int_eq(priority, i);
    }
    ck_assert_str_eq(spool_priority_name(SPOOL_CRITICAL), "critical");
    ck_assert_str_eq(spool_priority_name(0), "medium");
    ck_assert_ptr_null(spool_priority_name((enum spool_priority)4));
    ck_assert_ptr_null(spool_priority_name((enum spool_priority) - 1));
    ck_code(spool_priority_parse("High", &priority), SPOOL_EINVAL);
    ck_code(spool_priority_parse("", &priority), SPOOL_EINVAL);
    ck_code(spool_priority_parse(NULL, &priority), SPOOL_EINVAL);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("event");
    TCase *t = tcase_create("event");
    tcase_add_test(t, test_round_trip);
    tcase_add_test(t, test_largest_envelope);
    tcase_add_test(t, test_overhead);
    tcase_add_test(t, test_absent_and_default);
    tcase_add_test(t, test_bad_struct);
    tcase_add_test(t, test_bad_type);
    tcase_add_test(t, test_too_long);
    tcase_add_test(t, test_bad_texts);
    tcase_add_test(t, test_good_texts);
    tcase_add_test(t, test_bad_numbers_and_ids);
    tcase_add_test(t, test_bad_traceparent);
    tcase_add_test(t, test_size_limit);
    tcase_add_test(t, test_cut_off);
    tcase_add_test(t, test_another_version);
    tcase_add_test(t, test_every_changed_byte);
    tcase_add_test(t, test_not_canonical);
    tcase_add_test(t, test_copy);
    tcase_add_test(t, test_priorities);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
