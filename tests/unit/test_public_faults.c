/* test_public_faults.c - public calls when the calls below them fail: the answer is an error that says so, never a
 * wrong "done" or "there is none"; and with the fault gone all that was stored is there. */
#include <stdbool.h>

#include "fail_nth.h"
#include "scratch_fixture.h"

static void set_up(void)
{
    scratch_begin();
    fail_err = 0;
}

static void tear_down(void)
{
    scratch_end();
}

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

/* The classes that a call on an open spool meets. */
static const enum fail_class classes[] = {FAIL_MEMORY,      FAIL_LMDB_BEGIN, FAIL_LMDB_READ, FAIL_LMDB_WRITE,
                                          FAIL_LMDB_COMMIT, FAIL_LOCK,       FAIL_READ,      FAIL_OPEN,
                                          FAIL_SYNC,        FAIL_MAP,        FAIL_STAT};
enum { CLASSES = sizeof classes / sizeof *classes };

/* -------------------------------------------------------------------------------------------------- a sink that
 * refuses */

struct refusing {
    bool forever;
};

static int refuse(void *state, struct spool_delivery *batch, size_t n)
{
    struct refusing *refusing = state;
    for (size_t i = 0; i < n; i++)
        SPOOL_DELIVERY_AT(batch, i)->outcome = refusing->forever ? SPOOL_REJECTED : SPOOL_RETRY;
    return SPOOL_OK;
}

static const struct spool_sink refuser = {
    .abi = SPOOL_SINK_ABI, .size = sizeof refuser, .kind = "refuser", .deliver = refuse};

static int get_info(void *user, const struct spool_sink_info *info)
{
    struct spool_sink_info *ret = user;
    *ret = *info;
    return 0;
}

/* Delivers until all `n` events are retries, or dead letters; delivery is stopped then. */
static void refuse_all(struct spool *spool, bool forever, uint64_t n)
{
    struct refusing refusing = {forever};
    struct spool_sink_info info = {0};
    struct spool_sink_options options =
        SPOOL_SINK_OPTIONS(.user = &refusing, .retry_base_ms = 600000, .retry_cap_ms = 600000);
    ck_ok(spool_sink_add(spool, "r", &refuser, NULL, &options));
    ck_ok(spool_start(spool));
    for (int i = 0; i < 2000 && (forever ? info.dead_letters : info.retrying_events) < n; i++) {
        usleep(5000);
        ck_ok(spool_sink_each(spool, get_info, &info));
    }
    ck_ok(spool_stop(spool, 60000));
    ck_ok(spool_close(spool));
    ck_assert_uint_eq(forever ? info.dead_letters : info.retrying_events, n);
}

/* --------------------------------------------------------------------------------------------------------- opening */

/* libc has it in each program, so that there is no next one to ask. */
extern int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *dso);
extern void *__dso_handle;
int pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
    return fail_hits(FAIL_THREAD) ? ENOMEM : __register_atfork(prepare, parent, child, __dso_handle);
}

/* A failure of what is done once a process is no answer for ever. */
START_TEST(the_first_of_a_process)
{
    for (unsigned n = 1; n <= 2; n++) {
        struct spool *spool = NULL;
        fail_arm(FAIL_THREAD, n);
        int code = spool_open(path, NULL, &spool);
        ck_assert(fail_disarm());
        ck_documented(code);
        ck_assert_ptr_null(spool);
        ck_ok(spool_close(open_spool()));
    }
}
END_TEST

static int open_with_fault(enum fail_class class, unsigned n, bool *ret_failed)
{
    struct spool *spool = NULL;
    fail_arm(class, n);
    int code = spool_open(path, NULL, &spool);
    *ret_failed = fail_disarm();
    if (code) {
        ck_documented(code);
        ck_assert_ptr_null(spool);
    }
    ck_ok(spool_close(spool));
    return code;
}

/* The first calls of the class and the last ones: in between is the store's, which has tests of its own. */
static unsigned open_with_faults(enum fail_class class)
{
    enum { FIRST = 3, LAST = 6 };
    unsigned faults = 0;
    bool failed;
    ck_ok(open_with_fault(class, UINT32_MAX, &failed));
    unsigned all = fail_nth.calls;
    for (unsigned n = 1; n <= all; n += n == FIRST && all > FIRST + LAST ? all - FIRST - LAST : 1) {
        int code = open_with_fault(class, n, &failed);
        ck_assert(failed || code == SPOOL_OK);
        faults += failed;
    }
    return faults;
}

START_TEST(opening)
{
    static const enum fail_class of_open[] = {FAIL_MEMORY, FAIL_THREAD, FAIL_OPEN, FAIL_RANDOM, FAIL_STAT, FAIL_LOCK};
    struct spool *spool = open_spool();
    struct spool_event *event;
    struct spool_id id = enqueue(spool, "a", SPOOL_LOW, "kept");
    ck_ok(spool_close(spool));
    fail_err = of_open[_i] == FAIL_RANDOM ? ENOSYS : 0;
    ck_assert_uint_gt(open_with_faults(of_open[_i]), 0);
    spool = open_spool();
    ck_ok(spool_find(spool, &id, &event));
    ck_assert_mem_eq(event->body, "kept", 4);
    spool_event_free(event);
    ck_ok(spool_close(spool));
}
END_TEST

/* Opened twice, it would lose its locks. */
START_TEST(opening_again_what_cannot_be_looked_at)
{
    struct spool *spool = open_spool(), *again = NULL;
    int code;
    fail_each(code, FAIL_STAT, spool_open(path, NULL, &again))
    {
        ck_code(code, EIO);
        ck_assert_ptr_null(again);
    }
    ck_ok(code);
    ck_assert_ptr_eq(again, spool);
    ck_ok(spool_close(again));
    ck_ok(spool_close(spool));
}
END_TEST

/* --------------------------------------------------------------------------------------------------------- finding */

/* An error, or the event: never "no such event". */
static void find_with_faults(struct spool *spool, const struct spool_id *id, const char *body)
{
    for (int i = 0; i < CLASSES; i++) {
        struct spool_event *event = NULL;
        int code;
        fail_each(code, classes[i], spool_find(spool, id, &event))
        {
            if (code) {
                ck_documented(code);
                ck_assert_int_ne(code, SPOOL_ENOTFOUND);
                ck_assert_ptr_null(event);
            }
            spool_event_free(event);
            event = NULL;
        }
        ck_ok(code);
        ck_assert_mem_eq(event->body, body, strlen(body));
        spool_event_free(event);
    }
}

START_TEST(finding_in_the_log)
{
    struct spool *spool = open_spool();
    enqueue(spool, "a", SPOOL_HIGH, "one");
    struct spool_id id = enqueue(spool, "a", SPOOL_HIGH, "two");
    commit(spool);
    find_with_faults(spool, &id, "two");
    ck_ok(spool_close(spool));
}
END_TEST

/* Waits until the log has let go of all its full segments. */
static void let_go(struct spool *spool)
{
    struct spool_stats stats = SPOOL_STATS();
    for (int i = 0; i < 2000; i++) {
        ck_ok(spool_stats(spool, &stats));
        if (stats.segments <= 1)
            return;
        usleep(5000);
    }
    ck_abort_msg("%u segments are kept", (unsigned)stats.segments);
}

/* Only the tables of the sink have it. */
START_TEST(finding_among_retries_and_dead_letters)
{
    enum { N = 80 };
    struct spool *spool = open_spool();
    enqueue(spool, "a", SPOOL_MEDIUM, "first");
    struct spool_id id = enqueue(spool, "a", SPOOL_MEDIUM, "held");
    char *filler = calloc(1, 15000);
    memset(filler, 'x', 14999);
    for (int i = 2; i < N; i++) /* more than a segment */
        enqueue(spool, "a", SPOOL_MEDIUM, filler);
    free(filler);
    refuse_all(spool, _i, N);
    spool = open_spool();
    let_go(spool);
    find_with_faults(spool, &id, "held");
    ck_ok(spool_close(spool));
}
END_TEST

/* -------------------------------------------------------------------------------------------------------- draining */

/* What waits for its next try is not drained, also when that cannot be read. */
START_TEST(draining_with_retries)
{
    struct spool *spool = open_spool();
    enqueue(spool, "a", SPOOL_MEDIUM, "held");
    refuse_all(spool, false, 1);
    spool = open_spool();
    for (int i = 0; i < CLASSES; i++) {
        int code;
        fail_each(code, classes[i], spool_drain(spool, 0)) ck_documented(code);
        ck_code(code, SPOOL_ETIMEOUT);
        ck_assert_ptr_nonnull(strstr(spool_last_error(), "sink r holds 1 event"));
    }
    ck_ok(spool_close(spool));
}
END_TEST

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

/* The end is told only when all have been given. */
START_TEST(reading)
{
    struct spool *spool = open_spool();
    struct spool_id first = enqueue(spool, "a", SPOOL_LOW, "0");
    unsigned n;
    for (int i = 0; i < 8; i++)
        enqueue(spool, i % 2 ? "a" : "b", (enum spool_priority)(i % 4), "x");
    commit(spool);
    struct spool_reader_options options =
        SPOOL_READER_OPTIONS(.type = "t*", .agent = "a", .session = "s", .after = &first);
    for (int i = 0; i < CLASSES; i++) {
        int code;
        fail_each(code, classes[i], read_all(spool, &options, &n))
        {
            ck_documented(code);
            ck_assert(code != SPOOL_ENOTFOUND || n == 4);
        }
        ck_code(code, SPOOL_ENOTFOUND);
        ck_assert_uint_eq(n, 4);
    }
    ck_ok(spool_close(spool));
}
END_TEST

/* ----------------------------------------------------------------------------------------------------- many at once */

START_TEST(many_without_memory)
{
    enum { N = 100 };
    struct spool *spool = open_spool();
    struct spool_event *events = calloc(N, sizeof *events);
    struct spool_stats stats = SPOOL_STATS();
    int code;
    for (int i = 0; i < N; i++)
        events[i] = (struct spool_event)SPOOL_EVENT(.type = "t", .body = "1", .body_size = 1);
    fail_each(code, FAIL_MEMORY, spool_enqueue_many(spool, events, N, NULL))
    {
        ck_documented(code);
        ck_ok(spool_stats(spool, &stats));
        ck_assert_uint_eq(stats.enqueued_events, 0);
    }
    ck_ok(code);
    ck_ok(spool_stats(spool, &stats));
    ck_assert_uint_eq(stats.enqueued_events, N);
    events[5].size -= 8;
    ck_code(spool_enqueue_many(spool, events, N, NULL), SPOOL_EINVAL);
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "event 5"));
    ck_code(spool_enqueue_many(spool, NULL, 1, NULL), SPOOL_EINVAL);
    ck_code(spool_enqueue_many(spool, events, SIZE_MAX / 4, NULL), SPOOL_ETOOBIG);
    ck_ok(spool_enqueue_many(spool, NULL, 0, NULL));
    free(events);
    ck_ok(spool_close(spool));
}
END_TEST

/* ------------------------------------------------------------------------------------------------ sinks and figures */

static int count(void *user, const struct spool_sink_info *info)
{
    (void)info;
    ++*(unsigned *)user;
    return 0;
}

static int list(struct spool *spool, unsigned *ret_n)
{
    *ret_n = 0;
    return spool_sink_each(spool, count, ret_n);
}

START_TEST(figures)
{
    struct spool *spool = open_spool();
    unsigned n;
    int code;
    enqueue(spool, "a", SPOOL_MEDIUM, "held");
    refuse_all(spool, false, 1);
    spool = open_spool();
    ck_ok(spool_sink_load(spool, "n", "null", NULL, NULL));
    enqueue(spool, "a", SPOOL_MEDIUM, "more");
    enqueue(spool, "a", SPOOL_CRITICAL, "more");
    for (int i = 0; i < CLASSES; i++) {
        struct spool_stats stats = SPOOL_STATS();
        fail_each(code, classes[i], list(spool, &n)) ck_assert(code != SPOOL_OK || n == 2);
        ck_ok(code);
        fail_each(code, classes[i], spool_stats(spool, &stats)) ck_assert(code != SPOOL_OK || stats.sinks == 2);
        ck_ok(code);
        ck_assert_uint_eq(stats.sinks, 2);
        ck_assert_uint_gt(stats.oldest_ns, 0);
    }
    ck_code(spool_stats(spool, NULL), SPOOL_EINVAL);
    ck_code(spool_sink_each(spool, NULL, NULL), SPOOL_EINVAL);
    ck_assert_str_eq(spool_sink_state_name((enum spool_sink_state)99), "unknown");
    ck_ok(spool_close(spool));
}
END_TEST

static int count_dead(void *user, const struct spool_dead_letter *letter)
{
    *(unsigned *)user += strcmp(letter->sink, "r") == 0;
    return 0;
}

START_TEST(dead_letters)
{
    struct spool *spool = open_spool();
    enqueue(spool, "a", SPOOL_MEDIUM, "dead");
    refuse_all(spool, true, 1);
    spool = open_spool();
    for (int i = 0; i < CLASSES; i++) {
        unsigned n = 0;
        int code;
        fail_each(code, classes[i], spool_dead_each(spool, "r", count_dead, &n))
        {
            ck_assert(code != SPOOL_OK || n == 1);
            n = 0;
        }
        ck_ok(code);
        ck_assert_uint_eq(n, 1);
    }
    ck_code(spool_dead_each(spool, NULL, NULL, NULL), SPOOL_EINVAL);
    ck_code(spool_dead_requeue(NULL, "r", NULL, NULL), SPOOL_EINVAL);
    uint64_t purged = 0;
    ck_ok(spool_dead_purge(spool, "r", NULL, &purged));
    ck_assert_uint_eq(purged, 1);
    ck_code(spool_dead_purge(spool, "r", NULL, NULL), SPOOL_ENOTFOUND);
    ck_ok(spool_close(spool));
}
END_TEST

/* Whatever fails, the spool can load them afterwards, and none is lost. */
START_TEST(loading_what_is_registered)
{
    struct spool *spool = open_spool();
    size_t n = 0;
    ck_ok(spool_sink_load(spool, "one", "null", NULL, NULL));
    ck_ok(spool_sink_load(spool, "two", "null", "{}", NULL));
    refuse_all(spool, true, 0); /* of a kind that only a program has */
    for (int i = 0; i < 2 * CLASSES; i++) {
        for (unsigned call = 1;; call++) {
            spool = open_spool();
            if (i < CLASSES)
                fail_arm(classes[i], call);
            else
                fail_arm_from(classes[i - CLASSES], call);
            int code = spool_sink_load_registered(spool, &n);
            bool failed = fail_disarm();
            if (code)
                ck_documented(code);
            ck_assert(failed || code == SPOOL_OK);
            ck_assert(code != SPOOL_OK || n == 2);
            ck_ok(spool_sink_load_registered(spool, NULL)); /* the others, if any */
            ck_ok(spool_sink_load_registered(spool, &n));
            ck_assert_uint_eq(n, 0);
            ck_ok(spool_close(spool));
            if (!failed)
                break;
        }
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("public_faults");
    TCase *tcase = tcase_create("public_faults");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, the_first_of_a_process);
    tcase_add_loop_test(tcase, opening, 0, 6);
    tcase_add_test(tcase, opening_again_what_cannot_be_looked_at);
    tcase_add_test(tcase, finding_in_the_log);
    tcase_add_loop_test(tcase, finding_among_retries_and_dead_letters, 0, 2);
    tcase_add_test(tcase, draining_with_retries);
    tcase_add_test(tcase, reading);
    tcase_add_test(tcase, many_without_memory);
    tcase_add_test(tcase, figures);
    tcase_add_test(tcase, dead_letters);
    tcase_add_test(tcase, loading_what_is_registered);
    suite_add_tcase(suite, tcase);
    return suite;
}

CHECK_MAIN(suite)
