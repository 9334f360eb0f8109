/* test_public_calls.c - the public calls' arguments and order: what is refused, what a reader gives, several spools and
 * handles, a sink that hangs. */
#include <pthread.h>
#include <stdbool.h>

#include "scratch_fixture.h"

static struct spool *open_spool(void)
{
    struct spool *spool = NULL;
    struct spool_options options =
        SPOOL_OPTIONS(.max_bytes = 64 << 20, .segment_bytes = 1 << 20, .journal_bytes = 64 << 10);
    ck_ok(spool_open(path, &options, &spool));
    return spool;
}

static struct spool_id enqueue(struct spool *spool, const char *agent, enum spool_priority priority, const char *body)
{
    struct spool_id id;
    struct spool_event event =
        SPOOL_EVENT(.type = "t", .agent = agent, .session = "s", .priority = priority, .body = body,
                    .body_size = strlen(body), .durability = SPOOL_DURABLE_PROCESS);
    ck_ok(spool_enqueue(spool, &event, &id));
    return id;
}

/* Stored, and out of the journal. */
static void commit(struct spool *spool)
{
    ck_code(spool_drain(spool, 20000), SPOOL_ENOTFOUND); /* no sink */
}

/* --------------------------------------------------------------------------------------------------------- reading */

static int read_all(struct spool *spool, const struct spool_reader_options *options, unsigned *ret_n)
{
    struct spool_reader *reader = NULL;
    const struct spool_event *event;
    *ret_n = 0;
    int code = spool_reader_open(spool, options, &reader);
    while (!code) {
        code = spool_reader_next(reader, 0, &event);
        *ret_n += code == SPOOL_OK;
    }
    spool_reader_close(reader);
    return code;
}

START_TEST(what_a_reader_is_asked_for)
{
    struct spool *spool = open_spool();
    struct spool_reader *reader;
    const struct spool_event *event;
    unsigned n;
    static const char *const agents[] = {"a", "b", NULL, "b"};
    struct spool_id ids[4];
    for (int i = 0; i < 4; i++) { /* at different times */
        ids[i] = enqueue(spool, agents[i], i == 1 ? SPOOL_HIGH : SPOOL_LOW, "x");
        usleep(1000);
    }
    commit(spool);
    const struct {
        struct spool_reader_options options;
        unsigned n;
    } cases[] = {
        {SPOOL_READER_OPTIONS(.type = ""), 0},
        {SPOOL_READER_OPTIONS(.type = "*"), 4},
        {SPOOL_READER_OPTIONS(.type = "u*"), 0},
        {SPOOL_READER_OPTIONS(.type = "T"), 0},
        {SPOOL_READER_OPTIONS(.agent = "b"), 2},
        {SPOOL_READER_OPTIONS(.session = "other"), 0},
        {SPOOL_READER_OPTIONS(.until_ns = 1), 0},
        {SPOOL_READER_OPTIONS(.until_ns = UINT64_MAX), 4},
        {SPOOL_READER_OPTIONS(.since_ns = UINT64_MAX / 2), 0},
        {SPOOL_READER_OPTIONS(.since_ns = 1, .after = &ids[1]), 2},
        {SPOOL_READER_OPTIONS(.since_ns = UINT64_MAX / 2, .after = &ids[1]), 0},
        {SPOOL_READER_OPTIONS(.since_ns = spool_id_time_ns(&ids[2])), 2},
        {SPOOL_READER_OPTIONS(.until_ns = spool_id_time_ns(&ids[1])), 2},
        {SPOOL_READER_OPTIONS(.flags = SPOOL_READER_TAIL), 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ck_code(read_all(spool, &cases[i].options, &n), SPOOL_ENOTFOUND);
        ck_assert_msg(n == cases[i].n, "case %zu: %u events", i, n);
    }
    ck_code(read_all(spool, &SPOOL_READER_OPTIONS(.flags = 1u << 9), &n), SPOOL_EOPTION);
    ck_code(spool_reader_open(spool, NULL, NULL), SPOOL_EINVAL);
    ck_code(spool_reader_open(NULL, NULL, &reader), SPOOL_EINVAL);
    ck_code(spool_reader_next(NULL, 0, &event), SPOOL_EINVAL);
    ck_ok(spool_reader_open(spool, &SPOOL_READER_OPTIONS(.flags = SPOOL_READER_FOLLOW | SPOOL_READER_TAIL), &reader));
    ck_code(spool_reader_next(reader, 0, NULL), SPOOL_EINVAL);
    ck_code(spool_reader_next(reader, 20, &event), SPOOL_ETIMEOUT);
    ck_code(spool_reader_next(reader, 0, &event), SPOOL_ETIMEOUT);
    enqueue(spool, "a", SPOOL_CRITICAL, "4");
    ck_ok(spool_reader_next(reader, 20000, &event));
    ck_assert_mem_eq(event->body, "4", 1);
    spool_reader_close(reader);
    spool_reader_close(NULL);
    ck_ok(spool_close(spool));
}
END_TEST

/* -------------------------------------------------------------------------------------------------------- refusals */

static int wrong_calls; /* from a thread of the library */

static int call_from_within(void *state, struct spool_delivery *batch, size_t n)
{
    struct spool *spool = state;
    wrong_calls = (spool_sink_remove(spool, "s") == SPOOL_EDEADLK) + (spool_stop(spool, 0) == SPOOL_EDEADLK) +
                  (spool_drain(spool, 0) == SPOOL_EDEADLK) + (spool_close(spool) == SPOOL_EDEADLK);
    for (size_t i = 0; i < n; i++)
        SPOOL_DELIVERY_AT(batch, i)->outcome = SPOOL_DELIVERED;
    return SPOOL_OK;
}

START_TEST(calls_that_cannot_be)
{
    static const struct spool_sink within = {
        .abi = SPOOL_SINK_ABI, .size = sizeof within, .kind = "within", .deliver = call_from_within};
    struct spool *spool = open_spool();
    struct spool_id id;
    ck_code(spool_sink_load(spool, NULL, "null", NULL, NULL), SPOOL_EINVAL);
    ck_code(spool_sink_load(spool, "s", NULL, NULL, NULL), SPOOL_ENOTFOUND);
    ck_code(spool_sink_load(spool, "s", "file", "{\"colour\":1}", NULL), SPOOL_ECONFIG);
    ck_code(spool_sink_remove(NULL, "s"), SPOOL_EINVAL);
    ck_code(spool_sink_pause(spool, "s"), SPOOL_ENOTFOUND);
    ck_code(spool_enqueue(spool, NULL, NULL), SPOOL_EINVAL);
    ck_code(spool_clock_now(spool, NULL), SPOOL_EINVAL);
    ck_code(spool_clock_update(spool, NULL), SPOOL_EINVAL);
    ck_ok(spool_clock_now(spool, &id));
    ck_ok(spool_clock_update(spool, &id));
    ck_code(spool_find(spool, NULL, NULL), SPOOL_EINVAL);
    ck_code(spool_find(NULL, &id, NULL), SPOOL_EINVAL);
    ck_code(spool_find(spool, &id, NULL), SPOOL_EINVAL);
    ck_code(spool_enqueue_many(NULL, NULL, 0, NULL), SPOOL_EINVAL);
    ck_code(spool_clock_now(NULL, &id), SPOOL_EINVAL);
    ck_code(spool_clock_update(NULL, &id), SPOOL_EINVAL);
    ck_code(spool_sink_pause(NULL, "s"), SPOOL_EINVAL);
    ck_code(spool_sink_each(NULL, NULL, NULL), SPOOL_EINVAL);
    ck_code(spool_sink_load_registered(NULL, NULL), SPOOL_EINVAL);
    ck_code(spool_dead_each(NULL, NULL, NULL, NULL), SPOOL_EINVAL);
    ck_code(spool_drain(NULL, 0), SPOOL_EINVAL);
    ck_code(spool_flush(NULL, 0), SPOOL_EINVAL);
    ck_code(spool_stop(NULL, 0), SPOOL_EINVAL);
    ck_code(spool_verify(NULL, NULL, NULL, NULL, NULL), SPOOL_EINVAL);
    ck_code(spool_open_config("/nonexistent", NULL), SPOOL_EINVAL);
    ck_code(spool_open("", NULL, &spool), SPOOL_EINVAL);
    ck_code(spool_open(path, NULL, NULL), SPOOL_EINVAL);
    ck_ok(spool_drain(spool, 0)); /* nothing waits, for nobody */
    ck_ok(spool_close(NULL));
    ck_ok(spool_sink_add(spool, "s", &within, NULL, &SPOOL_SINK_OPTIONS(.user = spool)));
    ck_ok(spool_start(spool));
    enqueue(spool, "a", SPOOL_MEDIUM, "x");
    ck_ok(spool_drain(spool, 60000));
    ck_assert_int_eq(wrong_calls, 4);
    ck_ok(spool_close(spool));
    ck_ok(spool_open(path, &SPOOL_OPTIONS(.flags = SPOOL_READ_ONLY), &spool));
    ck_code(spool_open(path, NULL, &spool), SPOOL_EBUSY);
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "for reading only"));
    ck_code(spool_sink_load(spool, "x", "null", NULL, NULL), SPOOL_EREADONLY);
    ck_code(spool_start(spool), SPOOL_EREADONLY);
    ck_ok(spool_close(spool));
}
END_TEST

START_TEST(options_that_cannot_be)
{
    static const struct {
        struct spool_options options;
        const char *named;
    } cases[] = {
        {{.size = 4}, "size"},
        {{.size = 1u << 20}, "size"},
        {SPOOL_OPTIONS(.durability = (enum spool_durability)9), "durability"},
        {SPOOL_OPTIONS(.file_mode = 0777), "file_mode"},
        {SPOOL_OPTIONS(.file_mode = 0060), "file_mode"},
        {SPOOL_OPTIONS(.flags = 1u << 30), "flags"},
        {SPOOL_OPTIONS(.max_bytes = 8 << 20, .segment_bytes = 5 << 20), "half"},
        {SPOOL_OPTIONS(.segment_bytes = 1), "segment_bytes"},
        {SPOOL_OPTIONS(.journal_bytes = 1), "journal_bytes"},
        {SPOOL_OPTIONS(.compress = (enum spool_compression)9), "compress"},
        {SPOOL_OPTIONS(.full_policy = {[SPOOL_LOW] = (enum spool_full_policy)9}), "full_policy"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct spool *spool = NULL;
        ck_code(spool_open(path, &cases[i].options, &spool), SPOOL_EOPTION);
        ck_assert_msg(strstr(spool_last_error(), cases[i].named), "case %zu: %s", i, spool_last_error());
        ck_assert_ptr_null(spool);
    }
}
END_TEST

START_TEST(answers_for_another_version)
{
    struct spool *spool = open_spool();
    struct spool_stats stats = {.size = 1};
    struct spool_verify_report report = {.size = 1};
    ck_code(spool_stats(spool, &stats), SPOOL_EOPTION);
    stats.size = 1u << 20;
    ck_code(spool_stats(spool, &stats), SPOOL_EOPTION);
    ck_code(spool_verify(spool, NULL, NULL, NULL, &report), SPOOL_EOPTION);
    report.size = sizeof report;
    ck_ok(spool_verify(spool, NULL, NULL, NULL, &report));
    ck_ok(spool_verify(spool, NULL, NULL, NULL, NULL));
    ck_ok(spool_close(spool));
}
END_TEST

/* ---------------------------------------------------------------------------------------------- several of something
 */

START_TEST(several_spools)
{
    enum { N = 3 };
    struct spool *spools[N], *again;
    char *paths[N];
    for (int i = 0; i < N; i++) {
        ck_assert(asprintf(&paths[i], "%s/%d", dir, i) > 0);
        ck_ok(spool_open(paths[i], NULL, &spools[i]));
    }
    for (int i = 0; i < N; i++) {
        ck_ok(spool_open(paths[i], NULL, &again));
        ck_assert_ptr_eq(again, spools[i]);
        ck_ok(spool_close(again));
    }
    for (int i = 0; i < N; i++) { /* the oldest first */
        enqueue(spools[i], "a", SPOOL_LOW, "x");
        ck_ok(spool_close(spools[i]));
        free(paths[i]);
    }
}
END_TEST

/* An id beside, before and after those that a block holds. */
START_TEST(finding_in_several_blocks)
{
    struct spool *spool = open_spool();
    struct spool_id ids[3];
    struct spool_event *event;
    for (int i = 0; i < 3; i++) {
        char body[2] = {(char)('0' + i)};
        ids[i] = enqueue(spool, "a", SPOOL_MEDIUM, body);
        commit(spool);
    }
    for (int i = 0; i < 3; i++) {
        struct spool_id other = ids[i];
        ck_ok(spool_find(spool, &ids[i], &event));
        ck_assert_int_eq(*(const char *)event->body, '0' + i);
        spool_event_free(event);
        other.bytes[15] ^= 0xff;
        ck_code(spool_find(spool, &other, &event), SPOOL_ENOTFOUND);
    }
    ck_ok(spool_close(spool));
}
END_TEST

/* An old id that is enqueued again comes behind younger ones. */
START_TEST(finding_an_old_id_behind_younger_ones)
{
    struct spool *spool = open_spool();
    struct spool_id old, between;
    struct spool_event *event;
    ck_ok(spool_clock_now(spool, &old));
    ck_ok(spool_clock_now(spool, &between));
    enqueue(spool, "a", SPOOL_MEDIUM, "young");
    commit(spool);
    struct spool_event again = SPOOL_EVENT(.id = &old, .type = "t", .body = "old", .body_size = 3);
    ck_ok(spool_enqueue(spool, &again, NULL));
    commit(spool);
    ck_code(spool_find(spool, &between, &event), SPOOL_ENOTFOUND);
    ck_ok(spool_find(spool, &old, &event));
    ck_assert_mem_eq(event->body, "old", 3);
    spool_event_free(event);
    ck_ok(spool_close(spool));
}
END_TEST

static int see_state(void *user, const struct spool_sink_info *info)
{
    if (strcmp(info->name, "one") == 0)
        *(const char **)user = spool_sink_state_name(info->state);
    return 0;
}

START_TEST(several_sinks_are_behind)
{
    struct spool *spool = open_spool();
    enqueue(spool, "a", SPOOL_MEDIUM, "x");
    ck_ok(spool_sink_load(spool, "one", "null", NULL, NULL));
    ck_ok(spool_sink_load(spool, "two", "null", NULL, NULL));
    ck_ok(spool_sink_pause(spool, "one"));
    ck_code(spool_drain(spool, 500), SPOOL_ETIMEOUT);
    ck_assert_msg(strstr(spool_last_error(), "holds 1 event(s)") && strstr(spool_last_error(), "and others"), "%s",
                  spool_last_error());
    ck_ok(spool_close(spool));
    spool = open_spool();
    const char *state = NULL;
    ck_ok(spool_sink_each(spool, see_state, &state)); /* not here */
    ck_assert_str_eq(state, "paused");
    ck_ok(spool_close(spool));
}
END_TEST

struct removing {
    struct spool *spool;
    unsigned n;
};

static int remove_the_other(void *user, const struct spool_sink_info *info)
{
    struct removing *removing = user;
    removing->n++;
    return spool_sink_remove(removing->spool, strcmp(info->name, "one") == 0 ? "two" : "one");
}

/* What is gone meanwhile is left out; that is no failure. */
START_TEST(a_sink_removed_while_they_are_listed)
{
    struct removing removing = {.spool = open_spool()};
    ck_ok(spool_sink_load(removing.spool, "one", "null", NULL, NULL));
    ck_ok(spool_sink_load(removing.spool, "two", "null", NULL, NULL));
    ck_ok(spool_sink_each(removing.spool, remove_the_other, &removing));
    ck_assert_uint_eq(removing.n, 1);
    ck_ok(spool_close(removing.spool));
}
END_TEST

/* ------------------------------------------------------------------------------------------------------- hanging */

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

static int wait_at_gate(void *state, struct spool_delivery *batch, size_t n)
{
    (void)state;
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
    for (size_t i = 0; i < n; i++)
        SPOOL_DELIVERY_AT(batch, i)->outcome = SPOOL_DELIVERED;
    return SPOOL_OK;
}

/* Closing ends in time and says so; the next open goes on with it. A removal that was not done in time is done then. */
START_TEST(closing_while_a_sink_hangs)
{
    static const struct spool_sink waiting = {
        .abi = SPOOL_SINK_ABI, .size = sizeof waiting, .kind = "waiting", .deliver = wait_at_gate};
    struct spool *spool, *again;
    struct spool_sink_options options = SPOOL_SINK_OPTIONS(.timeout_ms = 50);
    ck_ok(spool_open(path, &SPOOL_OPTIONS(.stop_timeout_ms = 200), &spool));
    ck_ok(spool_sink_add(spool, "s", &waiting, NULL, &options));
    pthread_mutex_lock(&gate);
    ck_ok(spool_start(spool));
    enqueue(spool, "a", SPOOL_MEDIUM, "x");
    ck_code(spool_drain(spool, 300), SPOOL_ETIMEOUT);
    ck_code(spool_sink_remove(spool, "s"), SPOOL_ETIMEOUT);
    ck_code(spool_close(spool), SPOOL_ETIMEOUT);
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "s"));
    ck_ok(spool_close(spool)); /* a second close does nothing */
    ck_ok(spool_open(path, NULL, &again));
    ck_assert_ptr_eq(again, spool);
    pthread_mutex_unlock(&gate);
    enqueue(again, "a", SPOOL_MEDIUM, "y");
    struct spool_stats stats = SPOOL_STATS();
    for (int code = SPOOL_ETIMEOUT, i = 0; code == SPOOL_ETIMEOUT && i < 100; i++) {
        usleep(20000);
        code = spool_close(again); /* until the sink is back */
    }
    spool = open_spool();
    ck_ok(spool_stats(spool, &stats));
    ck_assert_uint_eq(stats.sinks, 0);
    ck_ok(spool_close(spool));
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("public_calls");
    TCase *tcase = tcase_create("public_calls");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, scratch_begin, scratch_end);
    tcase_add_test(tcase, what_a_reader_is_asked_for);
    tcase_add_test(tcase, calls_that_cannot_be);
    tcase_add_test(tcase, options_that_cannot_be);
    tcase_add_test(tcase, answers_for_another_version);
    tcase_add_test(tcase, several_spools);
    tcase_add_test(tcase, finding_in_several_blocks);
    tcase_add_test(tcase, finding_an_old_id_behind_younger_ones);
    tcase_add_test(tcase, several_sinks_are_behind);
    tcase_add_test(tcase, a_sink_removed_while_they_are_listed);
    tcase_add_test(tcase, closing_while_a_sink_hangs);
    suite_add_tcase(suite, tcase);
    return suite;
}

CHECK_MAIN(suite)
