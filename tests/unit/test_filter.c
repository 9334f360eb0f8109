/* test_filter.c - filters: what patterns match, what is refused; and that sinks get what they ask for and no more, with an
 * exact account, in order, over a restart. */
#include <pthread.h>

#include "../../delivery/filter.h"
#include "scratch_fixture.h"

static bool passes(const char *json, const struct spool_event *event)
{
    struct filter *filter = NULL;
    ck_ok(filter_new(json, &filter));
    bool result = filter_passes(filter, event);
    filter_free(filter);
    return result;
}

START_TEST(patterns)
{
    static const struct {
        const char *pattern, *text;
        bool matches;
    } cases[] = {
        {"", "", true},
        {"", "a", false},
        {"a", "a", true},
        {"a", "ab", false},
        {"*", "", true},
        {"*", "anything", true},
        {"log.*", "log.", true},
        {"log.*", "log", false},
        {"log.*", "log.error", true},
        {"*.error", "log.error", true},
        {"*.error", "log.errors", false},
        {"l*r", "log.error", true},
        {"a*b*c", "axxbxxbxc", true},
        {"a*b*c", "axxbxxb", false},
        {"?og", "log", true},
        {"?og", "og", false},
        {"**", "x", true},
        {"[a]", "a", false},
        {"[a]", "[a]", true},
        {"\\*", "\\x", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_msg(filter_matches(cases[i].pattern, cases[i].text) == cases[i].matches, "%s, %s", cases[i].pattern,
                      cases[i].text);
}
END_TEST

/* Many stars against a text that nearly fits: what takes for ever when every star is tried everywhere. */
START_TEST(a_hostile_pattern_takes_no_time)
{
    char pattern[256], text[256];
    for (size_t i = 0; i < 254; i += 2)
        memcpy(pattern + i, "*a", 2);
    memcpy(pattern + 254, "b", 2);
    memset(text, 'a', 255);
    text[255] = '\0';
    for (int i = 0; i < 1000; i++)
        ck_assert(!filter_matches(pattern, text));
}
END_TEST

START_TEST(include_and_exclude)
{
    const char *const tags[] = {"prod", "eu", NULL};
    struct spool_event event =
        SPOOL_EVENT(.type = "log.llm_call", .agent = "planner", .priority = SPOOL_HIGH, .tags = tags);
    struct spool_event bare = SPOOL_EVENT(.type = "memory.plan");
    static const struct {
        const char *json;
        bool event, bare;
    } cases[] = {
        {NULL, true, true},
        {"{}", true, true},
        {"{\"include\":{}}", true, true},
        {"{\"include\":{\"type\":\"log.*\"}}", true, false},
        {"{\"include\":{\"type\":[\"log.*\",\"memory.*\"]}}", true, true},
        {"{\"include\":{\"type\":[]}}", false, false},
        {"{\"exclude\":{\"type\":[]}}", true, true},
        {"{\"include\":{\"type\":\"log.*\",\"agent\":\"other\"}}", false, false},
        {"{\"include\":{\"agent\":\"\"}}", false, true},
        {"{\"include\":{\"agent\":\"?*\"}}", true, false},
        {"{\"include\":{\"priority\":[\"high\",\"critical\"]}}", true, false},
        {"{\"include\":{\"priority\":\"medium\"}}", false, true},
        {"{\"include\":{\"tag\":\"p*d\"}}", true, false},
        {"{\"exclude\":{\"tag\":\"eu\"}}", false, true},
        {"{\"exclude\":{\"tag\":\"us\",\"agent\":\"pl*\"}}", false, true},
        {"{\"include\":{\"type\":\"*\"},\"exclude\":{\"type\":\"memory.*\"}}", true, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ck_assert_msg(passes(cases[i].json, &event) == cases[i].event, "%s", cases[i].json);
        ck_assert_msg(passes(cases[i].json, &bare) == cases[i].bare, "%s, bare", cases[i].json);
    }
}
END_TEST

START_TEST(what_is_wrong_is_named)
{
    static const char *const cases[][2] = {
        {"", "filter"},
        {"[]", "an object"},
        {"{\"only\":{}}", "filter.only"},
        {"{\"include\":[]}", "filter.include"},
        {"{\"include\":{\"colour\":\"red\"}}", "filter.include.colour"},
        {"{\"include\":{\"type\":7}}", "filter.include.type"},
        {"{\"exclude\":{\"type\":[\"a\",7]}}", "filter.exclude.type"},
        {"{\"exclude\":{\"type\":\"a\\u0000b\"}}", "NUL"},
        {"{\"include\":{\"priority\":\"urgent\"}}", "\"urgent\""},
        {"{\"include\":{\"type\":\"a\",\"type\":\"b\"}}", "line 1"},
    };
    struct filter *filter;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ck_code(filter_new(cases[i][0], &filter), SPOOL_ECONFIG);
        ck_assert_msg(strstr(err_last(), cases[i][1]), "%s: %s", cases[i][0], err_last());
    }
}
END_TEST

/* ------------------------------------------------------------------------------------------------------ in a spool */

enum { SEEN_MAX = 20000 };
struct seen {
    unsigned n, calls, fail_first;
    unsigned numbers[SEEN_MAX];
};

static int see(void *state, struct spool_delivery *batch, size_t n)
{
    struct seen *seen = state;
    seen->calls++;
    for (size_t i = 0; i < n; i++) {
        struct spool_delivery *delivery = SPOOL_DELIVERY_AT(batch, i);
        if (seen->fail_first > 0 && delivery->attempt == 1 && seen->fail_first--) {
            spool_delivery_fail(delivery, SPOOL_RETRY, "not yet");
            continue;
        }
        ck_assert_uint_lt(seen->n, SEEN_MAX);
        seen->numbers[seen->n++] = (unsigned)strtoul(delivery->event->body, NULL, 10);
        delivery->outcome = SPOOL_DELIVERED;
    }
    return SPOOL_OK;
}
static const struct spool_sink seeing = {
    .abi = SPOOL_SINK_ABI, .size = sizeof seeing, .kind = "seeing", .deliver = see};

static struct spool *open_spool(void)
{
    struct spool *spool = NULL;
    struct spool_options options = SPOOL_OPTIONS(.max_bytes = 64 << 20, .flush_interval_ms = SPOOL_FLUSH_NEVER);
    ck_ok(spool_open(path, &options, &spool));
    return spool;
}

/* Events from `from` on, of which every tenth is of type "log.wanted". */
static void enqueue(struct spool *spool, unsigned from, unsigned n)
{
    for (unsigned i = from; i < from + n; i++) {
        char body[16];
        struct spool_event event =
            SPOOL_EVENT(.type = i % 10 ? "other" : "log.wanted", .agent = i % 20 ? "a" : "b", .body = body,
                        .body_size = (size_t)snprintf(body, sizeof body, "%u", i), .durability = SPOOL_DURABLE_PROCESS);
        ck_ok(spool_enqueue(spool, &event, NULL));
    }
}

struct account {
    uint64_t delivered, filtered, pending, dropped;
    char options[256], config[256];
};

static int take_account(void *user, const struct spool_sink_info *info)
{
    struct account *account = user;
    account->delivered = info->delivered_events;
    account->filtered = info->filtered_events;
    account->pending = info->pending_events;
    account->dropped = info->dropped_events;
    snprintf(account->options, sizeof account->options, "%s", info->options_json);
    snprintf(account->config, sizeof account->config, "%s", info->json_config);
    return 0;
}

static struct account account_of(struct spool *spool)
{
    struct account account = {0};
    ck_ok(spool_sink_each(spool, take_account, &account));
    return account;
}

#define WANTED "{\"include\":{\"type\":\"log.*\"}}"

static void add_seeing(struct spool *spool, struct seen *seen, enum spool_order order, const char *filter)
{
    struct spool_sink_options options =
        SPOOL_SINK_OPTIONS(.user = seen, .order = order, .filter = filter, .retry_base_ms = 1, .retry_cap_ms = 5);
    ck_ok(spool_sink_add(spool, "far", &seeing, "{\"x\":1}", &options));
}

/* In each order; some of what passes fails at first. Batches are full although one event in ten passes. */
START_TEST(a_sink_gets_what_passes_and_the_rest_is_counted)
{
    enum { N = 10000 };
    struct seen *seen = calloc(1, sizeof *seen);
    seen->fail_first = _i == SPOOL_ORDER_NONE ? 3 : 0;
    struct spool *spool = open_spool();
    add_seeing(spool, seen, (enum spool_order)_i, WANTED);
    enqueue(spool, 0, N);
    ck_ok(spool_start(spool));
    ck_ok(spool_drain(spool, 60000));
    ck_assert_uint_eq(seen->n, N / 10);
    ck_assert_uint_le(seen->calls, 12);
    for (unsigned i = 0; i < seen->n && _i == SPOOL_ORDER_LANE; i++)
        ck_assert_uint_eq(seen->numbers[i], 10 * i);
    ck_ok(spool_close(spool));
    spool = open_spool();
    struct account account = account_of(spool);
    ck_assert_uint_eq(account.delivered, N / 10);
    ck_assert_uint_eq(account.filtered, N - N / 10);
    ck_assert_uint_eq(account.pending, 0);
    ck_assert_uint_eq(account.dropped, 0);
    ck_assert_str_eq(account.config, "{\"x\":1}");
    ck_assert_ptr_nonnull(strstr(account.options, "\"filter\":{\"include\":{\"type\":\"log.*\"}}"));
    ck_ok(spool_close(spool));
    free(seen);
}
END_TEST

START_TEST(nothing_passes)
{
    struct seen *seen = calloc(1, sizeof *seen);
    struct spool *spool = open_spool();
    add_seeing(spool, seen, SPOOL_ORDER_NONE, "{\"include\":{\"type\":\"nothing\"}}");
    enqueue(spool, 0, 40000); /* more than one batch may reach over */
    ck_ok(spool_start(spool));
    ck_ok(spool_drain(spool, 60000));
    ck_assert_uint_eq(seen->calls, 0);
    ck_assert_uint_eq(account_of(spool).filtered, 40000);
    ck_ok(spool_close(spool));
    free(seen);
}
END_TEST

START_TEST(a_registered_sink_keeps_its_filter)
{
    char config[600], line[256];
    unsigned lines = 0;
    snprintf(config, sizeof config, "{\"path\":\"%s/out\"}", dir);
    struct spool_sink_options options = SPOOL_SINK_OPTIONS(.filter = WANTED, .linger_ms = 1, .batch_events_max = 7);
    struct spool *spool = open_spool();
    ck_ok(spool_sink_load(spool, "far", "file", config, &options));
    ck_ok(spool_close(spool));
    spool = open_spool();
    ck_ok(spool_sink_load_registered(spool, NULL));
    enqueue(spool, 0, 100);
    ck_ok(spool_start(spool));
    ck_ok(spool_drain(spool, 60000));
    struct account account = account_of(spool);
    ck_ok(spool_close(spool));
    ck_assert_str_eq(account.options,
                     "{\"batch_events_max\":7,\"linger_ms\":1,\"filter\":{\"include\":{\"type\":\"log.*\"}}}");
    ck_assert_uint_eq(account.delivered, 10);
    ck_assert_uint_eq(account.filtered, 90);
    snprintf(config, sizeof config, "%s/out", dir);
    FILE *file = fopen(config, "re");
    while (fgets(line, sizeof line, file))
        lines += strstr(line, "log.wanted") != NULL;
    fclose(file);
    ck_assert_uint_eq(lines, 10);
}
END_TEST

START_TEST(a_wrong_filter_registers_nothing)
{
    struct spool *spool = open_spool();
    struct spool_sink_options options = SPOOL_SINK_OPTIONS(.filter = "{\"include\":{\"kind\":\"x\"}}");
    ck_code(spool_sink_load(spool, "far", "null", NULL, &options), SPOOL_ECONFIG);
    ck_code(spool_sink_add(spool, "far", &seeing, "\x1e", NULL), SPOOL_EINVAL);
    struct account account = account_of(spool);
    ck_assert_str_eq(account.config, "");
    ck_ok(spool_close(spool));
}
END_TEST

/* Events come one by one, with pauses far shorter than the linger time: they leave in few batches. */
START_TEST(a_batch_waits_for_more)
{
    struct seen *seen = calloc(1, sizeof *seen);
    struct spool *spool = open_spool();
    struct spool_sink_options options = SPOOL_SINK_OPTIONS(.user = seen, .linger_ms = 5000, .batch_events_max = 50);
    ck_ok(spool_sink_add(spool, "far", &seeing, NULL, &options));
    ck_ok(spool_start(spool));
    for (unsigned i = 0; i < 100; i++) {
        enqueue(spool, i, 1);
        usleep(1000);
    }
    ck_ok(spool_drain(spool, 60000));
    ck_assert_uint_eq(seen->n, 100);
    ck_assert_uint_le(seen->calls, 4); /* 2, unless the machine held the writer up for seconds */
    ck_ok(spool_close(spool));
    free(seen);
}
END_TEST

START_TEST(a_batch_that_does_not_fill_leaves_in_time)
{
    struct seen *seen = calloc(1, sizeof *seen);
    struct spool *spool = open_spool();
    struct spool_sink_options options = SPOOL_SINK_OPTIONS(.user = seen, .linger_ms = 20);
    ck_ok(spool_sink_add(spool, "far", &seeing, NULL, &options));
    ck_ok(spool_start(spool));
    enqueue(spool, 0, 3);
    ck_ok(spool_drain(spool, 60000));
    ck_assert_uint_eq(seen->n, 3);
    ck_ok(spool_close(spool));
    free(seen);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("filter");
    TCase *tcase = tcase_create("filter");
    tcase_set_timeout(tcase, 180);
    tcase_add_checked_fixture(tcase, scratch_begin, scratch_end);
    tcase_add_test(tcase, patterns);
    tcase_add_test(tcase, a_hostile_pattern_takes_no_time);
    tcase_add_test(tcase, include_and_exclude);
    tcase_add_test(tcase, what_is_wrong_is_named);
    tcase_add_loop_test(tcase, a_sink_gets_what_passes_and_the_rest_is_counted, SPOOL_ORDER_NONE, SPOOL_ORDER_LANE + 1);
    tcase_add_test(tcase, nothing_passes);
    tcase_add_test(tcase, a_registered_sink_keeps_its_filter);
    tcase_add_test(tcase, a_wrong_filter_registers_nothing);
    tcase_add_test(tcase, a_batch_waits_for_more);
    tcase_add_test(tcase, a_batch_that_does_not_fill_leaves_in_time);
    suite_add_tcase(suite, tcase);
    return suite;
}

CHECK_MAIN(suite)
