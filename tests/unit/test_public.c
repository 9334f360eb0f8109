/* test_public.c - the public calls together: open, enqueue, read, find, sinks, drain, close, and what survives a reopen. */
#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>

#include "scratch_fixture.h"

static struct spool *open_spool(void)
{
    struct spool *spool = NULL;
    struct spool_options options =
        SPOOL_OPTIONS(.max_bytes = 64 << 20, .segment_bytes = 1 << 20, .journal_bytes = 256 << 10);
    ck_ok(spool_open(path, &options, &spool));
    return spool;
}

static void enqueue(struct spool *spool, const char *type, const char *agent, enum spool_priority priority,
                    const char *body, struct spool_id *ret_id)
{
    struct spool_event event = SPOOL_EVENT(.type = type, .agent = agent, .priority = priority, .body = body,
                                           .body_size = strlen(body), .durability = SPOOL_DURABLE_PROCESS);
    ck_ok(spool_enqueue(spool, &event, ret_id));
}

/* ------------------------------------------------------------------------------------------------- a counting sink */

struct seen {
    pthread_mutex_t mutex;
    unsigned events, agents_in_order, last[8];
    char bodies[64][64];
    bool down;
};

static int see(void *state, struct spool_delivery *batch, size_t n)
{
    struct seen *seen = state;
    pthread_mutex_lock(&seen->mutex);
    bool down = seen->down;
    for (size_t i = 0; i < n && !down; i++) {
        struct spool_delivery *delivery = SPOOL_DELIVERY_AT(batch, i);
        snprintf(seen->bodies[seen->events++ % 64], 64, "%.*s", (int)delivery->event->body_size,
                 (const char *)delivery->event->body);
        delivery->outcome = SPOOL_DELIVERED;
    }
    pthread_mutex_unlock(&seen->mutex);
    return down ? spool_sink_error(SPOOL_EUNAVAILABLE, "out for lunch") : SPOOL_OK;
}

static const struct spool_sink seeing = {
    .abi = SPOOL_SINK_ABI, .size = sizeof seeing, .kind = "seeing", .deliver = see};

static unsigned count_seen(struct seen *seen)
{
    pthread_mutex_lock(&seen->mutex);
    unsigned events = seen->events;
    pthread_mutex_unlock(&seen->mutex);
    return events;
}

static void add_sink(struct spool *spool, const char *name, struct seen *seen)
{
    pthread_mutex_init(&seen->mutex, NULL);
    struct spool_sink_options options = SPOOL_SINK_OPTIONS(.user = seen, .retry_base_ms = 10, .retry_cap_ms = 20);
    ck_ok(spool_sink_add(spool, name, &seeing, NULL, &options));
}

/* ------------------------------------------------------------------------------------------------------------ tests */

START_TEST(the_limit_given_last_is_remembered)
{
    struct spool *spool = open_spool();
    struct spool_stats stats = SPOOL_STATS();
    ck_ok(spool_close(spool));
    for (int i = 0; i < 2; i++) { /* also when it is only looked at */
        struct spool_options options = SPOOL_OPTIONS(.flags = i ? SPOOL_READ_ONLY : 0);
        ck_ok(spool_open(path, &options, &spool));
        ck_ok(spool_stats(spool, &stats));
        ck_assert_uint_eq(stats.max_bytes, 64 << 20);
        ck_ok(spool_close(spool));
    }
}
END_TEST

START_TEST(open_twice_is_one_handle)
{
    struct spool *a = open_spool(), *b = NULL;
    ck_ok(spool_open(path, NULL, &b));
    ck_assert_ptr_eq(a, b);
    struct spool_options options = SPOOL_OPTIONS(.flags = SPOOL_READ_ONLY);
    ck_code(spool_open(path, &options, &b), SPOOL_EBUSY);
    ck_ok(spool_close(a));
    enqueue(a, "t", NULL, SPOOL_LOW, "still open", NULL);
    ck_ok(spool_close(a));
}
END_TEST

/* Plain and compressed blocks in one spool, read with and without the option; compressed, they take less. */
START_TEST(compressed_and_plain_blocks_live_side_by_side)
{
    enum { EVENTS = 2000 };
    struct spool *spool;
    struct spool_reader *reader;
    const struct spool_event *event;
    char body[256];
    uint64_t used[3] = {0};
    for (int i = 0; i < 3; i++) { /* plain, compressed, plain again */
        struct spool_options options = SPOOL_OPTIONS(.max_bytes = 64 << 20, .segment_bytes = 4 << 20,
                                                     .compress = i == 1 ? SPOOL_COMPRESS_ZSTD : SPOOL_COMPRESS_NONE);
        struct spool_stats before = SPOOL_STATS(), after = SPOOL_STATS();
        ck_ok(spool_open(path, &options, &spool));
        ck_ok(spool_stats(spool, &before));
        for (int n = 0; n < EVENTS; n++) {
            snprintf(body, sizeof body,
                     "\"event %d of round %d, which is as long as events are, and longer than it need be\"", n, i);
            enqueue(spool, "t", "a", SPOOL_MEDIUM, body, NULL);
        }
        ck_ok(spool_close(spool));
        ck_ok(spool_open(path, NULL, &spool));
        ck_ok(spool_stats(spool, &after));
        used[i] = after.used_bytes - before.used_bytes;
        ck_ok(spool_close(spool));
    }
    ck_assert_uint_lt(used[1] * 2, used[2]);
    ck_ok(spool_open(path, NULL, &spool));
    ck_ok(spool_reader_open(spool, NULL, &reader));
    for (int i = 0; i < 3 * EVENTS; i++) {
        ck_ok(spool_reader_next(reader, 20000, &event));
        snprintf(body, sizeof body, "\"event %d of round %d,", i % EVENTS, i / EVENTS);
        ck_assert(event->body_size > strlen(body) && memcmp(event->body, body, strlen(body)) == 0);
    }
    ck_code(spool_reader_next(reader, 0, &event), SPOOL_ENOTFOUND);
    spool_reader_close(reader);
    ck_ok(spool_verify(spool, NULL, NULL, NULL,
                       &(struct spool_verify_report){.size = sizeof(struct spool_verify_report)}));
    ck_ok(spool_close(spool));
}
END_TEST

START_TEST(events_wait_for_the_first_sink_and_come_once)
{
    struct spool *spool = open_spool();
    struct seen seen = {0};
    for (int i = 0; i < 10; i++)
        enqueue(spool, "t", "a", SPOOL_MEDIUM, "early", NULL);
    ck_ok(spool_close(spool));
    spool = open_spool();
    ck_code(spool_drain(spool, 1000), SPOOL_ENOTFOUND);
    add_sink(spool, "s", &seen);
    ck_ok(spool_start(spool));
    ck_ok(spool_drain(spool, 60000));
    ck_assert_uint_eq(count_seen(&seen), 10);
    enqueue(spool, "t", "a", SPOOL_CRITICAL, "late", NULL);
    ck_ok(spool_drain(spool, 60000));
    ck_assert_uint_eq(count_seen(&seen), 11);
    ck_ok(spool_close(spool));
    spool = open_spool();
    add_sink(spool, "s", &seen);
    ck_ok(spool_start(spool));
    ck_ok(spool_drain(spool, 60000));
    ck_assert_uint_eq(seen.events, 11);
    ck_ok(spool_close(spool));
}
END_TEST

START_TEST(a_sink_from_now_sees_only_what_comes)
{
    struct spool *spool = open_spool();
    struct seen seen = {0};
    pthread_mutex_init(&seen.mutex, NULL);
    enqueue(spool, "t", "a", SPOOL_MEDIUM, "before", NULL);
    struct spool_sink_options options = SPOOL_SINK_OPTIONS(.user = &seen, .flags = SPOOL_SINK_FROM_NOW);
    ck_ok(spool_sink_add(spool, "s", &seeing, NULL, &options));
    enqueue(spool, "t", "a", SPOOL_MEDIUM, "after", NULL);
    ck_ok(spool_start(spool));
    ck_ok(spool_drain(spool, 60000));
    ck_assert_uint_eq(count_seen(&seen), 1);
    ck_assert_str_eq(seen.bodies[0], "after");
    ck_ok(spool_close(spool));
}
END_TEST

START_TEST(a_sink_that_is_down_holds_its_events)
{
    struct spool *spool = open_spool();
    struct seen up = {0}, down = {.down = true};
    add_sink(spool, "up", &up);
    add_sink(spool, "down", &down);
    ck_ok(spool_start(spool));
    enqueue(spool, "t", "a", SPOOL_MEDIUM, "x", NULL);
    ck_code(spool_drain(spool, 300), SPOOL_ETIMEOUT);
    ck_assert_msg(strstr(spool_last_error(), "down") != NULL, "%s", spool_last_error());
    ck_assert_uint_eq(count_seen(&up), 1);
    pthread_mutex_lock(&down.mutex);
    down.down = false;
    pthread_mutex_unlock(&down.mutex);
    ck_ok(spool_drain(spool, 60000));
    ck_assert_uint_eq(count_seen(&down), 1);
    ck_assert_uint_eq(count_seen(&up), 1);
    ck_ok(spool_close(spool));
}
END_TEST

struct states {
    unsigned sinks;
    enum spool_sink_state last;
    uint64_t pending;
};

static int note_state(void *user, const struct spool_sink_info *info)
{
    struct states *states = user;
    states->sinks++;
    states->last = info->state;
    states->pending = info->pending_events;
    return 0;
}

START_TEST(an_absent_sink_holds_its_events_until_removed)
{
    struct spool *spool = open_spool();
    struct seen seen = {0};
    struct states states = {0};
    add_sink(spool, "gone", &seen);
    ck_ok(spool_close(spool));
    spool = open_spool();
    enqueue(spool, "t", "a", SPOOL_MEDIUM, "x", NULL);
    ck_code(spool_drain(spool, 200), SPOOL_ETIMEOUT);
    ck_ok(spool_sink_each(spool, note_state, &states));
    ck_assert_uint_eq(states.sinks, 1);
    ck_assert_int_eq(states.last, SPOOL_SINK_ABSENT);
    ck_assert_uint_eq(states.pending, 1);
    ck_ok(spool_sink_remove(spool, "gone"));
    ck_code(spool_sink_remove(spool, "gone"), SPOOL_ENOTFOUND);
    ck_ok(spool_close(spool));
}
END_TEST

START_TEST(a_paused_sink_waits_for_resume)
{
    struct spool *spool = open_spool();
    struct seen seen = {0};
    add_sink(spool, "s", &seen);
    ck_ok(spool_sink_pause(spool, "s"));
    ck_ok(spool_start(spool));
    enqueue(spool, "t", "a", SPOOL_MEDIUM, "x", NULL);
    ck_code(spool_drain(spool, 300), SPOOL_ETIMEOUT);
    ck_assert_uint_eq(count_seen(&seen), 0);
    ck_ok(spool_sink_resume(spool, "s"));
    ck_ok(spool_drain(spool, 60000));
    ck_assert_uint_eq(count_seen(&seen), 1);
    ck_ok(spool_close(spool));
}
END_TEST

START_TEST(reading_goes_by_id_and_filters)
{
    struct spool *spool = open_spool();
    static const enum spool_priority priorities[] = {SPOOL_LOW, SPOOL_CRITICAL, SPOOL_MEDIUM, SPOOL_HIGH};
    struct spool_id ids[40], found;
    for (int i = 0; i < 40; i++)
        enqueue(spool, i % 2 ? "odd.x" : "even", "a", priorities[i % 4], "body", &ids[i]);
    ck_ok(spool_close(spool));
    struct spool_options options = SPOOL_OPTIONS(.flags = SPOOL_READ_ONLY);
    ck_ok(spool_open(path, &options, &spool));
    struct spool_reader *reader;
    const struct spool_event *event;
    ck_ok(spool_reader_open(spool, NULL, &reader));
    for (int i = 0; i < 40; i++) {
        ck_ok(spool_reader_next(reader, 0, &event));
        ck_assert_int_eq(spool_id_compare(event->id, &ids[i]), 0);
    }
    ck_code(spool_reader_next(reader, 0, &event), SPOOL_ENOTFOUND);
    spool_reader_close(reader);

    struct spool_reader_options odd = SPOOL_READER_OPTIONS(.type = "odd.*", .after = &ids[20]);
    ck_ok(spool_reader_open(spool, &odd, &reader));
    for (int i = 21; i < 40; i += 2) {
        ck_ok(spool_reader_next(reader, 0, &event));
        found = *event->id;
        ck_assert_int_eq(spool_id_compare(&found, &ids[i]), 0);
    }
    ck_code(spool_reader_next(reader, 0, &event), SPOOL_ENOTFOUND);
    spool_reader_close(reader);
    ck_ok(spool_close(spool));
}
END_TEST

START_TEST(one_event_is_found_by_its_id)
{
    struct spool *spool = open_spool();
    struct spool_id ids[100];
    char body[32];
    for (int i = 0; i < 100; i++) {
        snprintf(body, sizeof body, "{\"n\":%d}", i);
        enqueue(spool, "t", "a", i % 2 ? SPOOL_LOW : SPOOL_HIGH, body, &ids[i]);
    }
    ck_ok(spool_close(spool));
    spool = open_spool();
    struct spool_event *event;
    ck_ok(spool_find(spool, &ids[77], &event));
    ck_assert_uint_eq(event->body_size, 8);
    ck_assert_mem_eq(event->body, "{\"n\":77}", 8);
    spool_event_free(event);
    struct spool_id none = ids[77];
    none.bytes[15] ^= 1;
    ck_code(spool_find(spool, &none, &event), SPOOL_ENOTFOUND);
    memset(&none, 0, sizeof none);
    ck_code(spool_find(spool, &none, &event), SPOOL_EID);
    ck_ok(spool_close(spool));
}
END_TEST

START_TEST(many_are_stored_together)
{
    struct spool *spool = open_spool();
    struct seen seen = {0};
    struct spool_event events[50];
    struct spool_id ids[50];
    for (int i = 0; i < 50; i++)
        events[i] = SPOOL_EVENT(.type = "t", .body = "1", .body_size = 1, .priority = i % 2 ? SPOOL_HIGH : SPOOL_LOW);
    ck_ok(spool_enqueue_many(spool, events, 50, ids));
    for (int i = 1; i < 50; i++)
        ck_assert_int_lt(spool_id_compare(&ids[i - 1], &ids[i]), 0);
    events[30].type = "";
    ck_code(spool_enqueue_many(spool, events, 50, ids), SPOOL_ETYPE);
    ck_assert_msg(strstr(spool_last_error(), "30") != NULL, "%s", spool_last_error());
    add_sink(spool, "s", &seen);
    ck_ok(spool_start(spool));
    ck_ok(spool_drain(spool, 60000));
    ck_assert_uint_eq(count_seen(&seen), 50);
    ck_ok(spool_close(spool));
}
END_TEST

static uint64_t test_old_clock(void *user)
{
    (void)user;
    return 1700000000ull * 1000000000ull; /* years ago */
}

START_TEST(ids_never_go_back_over_a_restart_even_if_the_clock_does)
{
    struct spool *spool = open_spool();
    struct spool_id before, after, stamp;
    enqueue(spool, "t", NULL, SPOOL_LOW, "1", &before);
    ck_ok(spool_clock_now(spool, &stamp));
    ck_ok(spool_close(spool));
    struct spool_options options = SPOOL_OPTIONS(.clock_ns = test_old_clock, .segment_bytes = 1 << 20);
    ck_ok(spool_open(path, &options, &spool));
    enqueue(spool, "t", NULL, SPOOL_LOW, "2", &after);
    ck_assert_int_lt(spool_id_compare(&before, &after), 0);
    ck_assert_int_lt(spool_id_compare(&stamp, &after), 0);
    ck_ok(spool_close(spool));
}
END_TEST

START_TEST(a_forked_child_must_open_again)
{
    struct spool *spool = open_spool();
    enqueue(spool, "t", NULL, SPOOL_LOW, "parent", NULL);
    pid_t child = fork();
    if (child == 0) {
        struct spool_event event = SPOOL_EVENT(.type = "t", .body = "1", .body_size = 1);
        struct spool *mine = NULL;
        int bad = spool_enqueue(spool, &event, NULL) != SPOOL_EFORKED;
        bad |= (spool_open(path, NULL, &mine) != SPOOL_OK) << 1;
        bad |= (!mine || spool_enqueue(mine, &event, NULL) != SPOOL_OK) << 2;
        bad |= (spool_close(mine) != SPOOL_OK) << 3;
        bad |= (spool_close(spool) != SPOOL_OK) << 4;
        _exit(bad);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    enqueue(spool, "t", NULL, SPOOL_LOW, "parent still", NULL);
    struct seen seen = {0};
    add_sink(spool, "s", &seen);
    ck_ok(spool_start(spool));
    ck_ok(spool_drain(spool, 60000));
    ck_assert_uint_eq(count_seen(&seen), 3);
    ck_ok(spool_close(spool));
}
END_TEST

/* How many journals another process could take over now. */
static int count_unlocked(void)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        char pattern[4096];
        glob_t found;
        int unlocked = 0;
        snprintf(pattern, sizeof pattern, "%s/journal/*.jnl", path);
        if (glob(pattern, 0, NULL, &found))
            _exit(99);
        for (size_t i = 0; i < found.gl_pathc; i++) {
            struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
            int fd = open(found.gl_pathv[i], O_RDWR);
            unlocked += fd >= 0 && fcntl(fd, F_SETLK, &lock) == 0;
        }
        _exit(unlocked);
    }
    return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* A daemon: its parent opened the spool and is gone, so that it takes over that journal. Closing the inherited handle
 * closes a descriptor of the same file, and with it the lock would go. */
START_TEST(closing_what_was_inherited_gives_up_no_lock)
{
    int report[2], bad = -1;
    ck_assert_int_eq(pipe(report), 0);
    pid_t parent = fork();
    if (parent == 0) {
        int gone[2];
        char byte;
        struct spool *inherited = open_spool(), *mine;
        if (pipe(gone))
            _exit(1);
        if (fork() > 0)
            raise(SIGKILL);
        close(gone[1]);
        bad = read(gone[0], &byte, 1) != 0; /* waits for the parent's end */
        mine = open_spool();                /* as the parent did, so that it takes over that journal */
        bad |= (spool_close(inherited) != SPOOL_OK) << 1;
        bad |= (count_unlocked() != 0) << 2;
        bad |= (spool_close(mine) != SPOOL_OK) << 3;
        bad |= (count_unlocked() != 1) << 4; /* now it is spare */
        _exit(write(report[1], &bad, sizeof bad) != sizeof bad);
    }
    close(report[1]);
    ck_assert_int_eq(waitpid(parent, NULL, 0), parent);
    ck_assert_int_eq(read(report[0], &bad, sizeof bad), sizeof bad);
    ck_assert_int_eq(bad, 0);
    close(report[0]);
}
END_TEST

START_TEST(delivered_segments_are_deleted)
{
    struct spool *spool = open_spool();
    struct seen seen = {0};
    struct spool_stats stats = SPOOL_STATS();
    static char body[10000];
    memset(body, 'x', sizeof body - 1);
    for (int i = 0; i < 800; i++) /* eight segments */
        enqueue(spool, "t", "a", SPOOL_MEDIUM, body, NULL);
    add_sink(spool, "s", &seen);
    ck_ok(spool_start(spool));
    ck_ok(spool_drain(spool, 60000));
    for (int i = 0; i < 100; i++) {
        ck_ok(spool_stats(spool, &stats));
        if (stats.segments <= 2)
            break;
        poll(NULL, 0, 100);
    }
    ck_assert_uint_le(stats.segments, 2);
    ck_assert_uint_eq(count_seen(&seen), 800);
    ck_ok(spool_close(spool));
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("public");
    TCase *tcase = tcase_create("public");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, scratch_begin, scratch_end);
    tcase_add_test(tcase, open_twice_is_one_handle);
    tcase_add_test(tcase, the_limit_given_last_is_remembered);
    tcase_add_test(tcase, events_wait_for_the_first_sink_and_come_once);
    tcase_add_test(tcase, compressed_and_plain_blocks_live_side_by_side);
    tcase_add_test(tcase, a_sink_from_now_sees_only_what_comes);
    tcase_add_test(tcase, a_sink_that_is_down_holds_its_events);
    tcase_add_test(tcase, an_absent_sink_holds_its_events_until_removed);
    tcase_add_test(tcase, a_paused_sink_waits_for_resume);
    tcase_add_test(tcase, reading_goes_by_id_and_filters);
    tcase_add_test(tcase, one_event_is_found_by_its_id);
    tcase_add_test(tcase, many_are_stored_together);
    tcase_add_test(tcase, ids_never_go_back_over_a_restart_even_if_the_clock_does);
    tcase_add_forking_test(tcase, a_forked_child_must_open_again);
    tcase_add_forking_test(tcase, closing_what_was_inherited_gives_up_no_lock);
    tcase_add_test(tcase, delivered_segments_are_deleted);
    suite_add_tcase(suite, tcase);
    return suite;
}

CHECK_MAIN(suite)
