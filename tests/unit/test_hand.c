/* test_hand.c - what a process had in a sink's hands is found by the next one: runs, rows, deaths counted; what a
 * damaged, foreign or missing file means; and that only a death counts. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../lib/base/sync.h"
#include "../../spool/hand.h"
#include "../check_main.h"

static struct dir dir;
static char *path;
static struct store_suspect list[STORE_SUSPECTS_MAX];

static void set_up(void)
{
    path = test_dir();
    dir = (struct dir){.fd = open(path, O_RDONLY | O_DIRECTORY), .file_mode = 0600};
    ck_assert_int_ge(dir.fd, 0);
}

static void tear_down(void)
{
    close(dir.fd);
    test_rmdir(path);
    free(path);
}

static struct store_hand *take_up(void)
{
    static const struct reporter silent;
    struct store_hand *hand = hand_open(&dir, "s", &silent);
    ck_assert_ptr_nonnull(hand);
    return hand;
}

/* A child that has that in hand, and dies by a signal. */
static void die_with(const struct store_mark *marks, uint32_t n)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct store_hand *hand = take_up();
        for (uint32_t i = 0; i < n; i++)
            store_hand_mark(hand, i, &marks[i]);
        kill(getpid(), SIGKILL);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFSIGNALED(status));
}

static size_t found(void)
{
    struct store_hand *hand = take_up();
    size_t n = store_hand_suspects(hand, list);
    hand_close(hand);
    return n;
}

static void is_entry(size_t at, int lane, uint64_t first, uint64_t end, uint32_t crashes)
{
    const struct store_suspect *s = &list[at];
    ck_assert_msg(s->lane == lane && s->first == first && s->end == end && s->crashes == crashes,
                  "entry %zu: lane %d, [%llu, %llu), %u deaths", at, s->lane, (unsigned long long)s->first,
                  (unsigned long long)s->end, s->crashes);
}

START_TEST(a_run_is_found_and_then_the_one)
{
    const struct store_mark run = {.lane = 2, .first = 100, .count = 50}, one = {.lane = 2, .first = 120, .count = 1};
    die_with(&run, 1);
    ck_assert_uint_eq(found(), 1);
    is_entry(0, 2, 100, 150, 1);
    die_with(&one, 1);
    ck_assert_uint_eq(found(), 2);
    is_entry(0, 2, 100, 150, 1);
    is_entry(1, 2, 120, 121, 2);
    ck_assert(list[1].alone && !list[0].alone);
    die_with(&one, 1);
    ck_assert_uint_eq(found(), 2);
    is_entry(1, 2, 120, 121, 3);
    die_with(&run, 1);
    ck_assert_uint_eq(found(), 2);
    is_entry(0, 2, 100, 150, 2);
}
END_TEST

START_TEST(each_worker_and_each_row_counts)
{
    const uint64_t seqs[] = {7, 900, 33};
    const struct store_mark marks[] = {{.lane = 0, .first = 5, .count = 2},
                                       {.lane = 3, .count = 3, .seqs = seqs},
                                       {.lane = 1, .first = 8, .count = 1}};
    die_with(marks, 3);
    ck_assert_uint_eq(found(), 5);
    is_entry(0, 0, 5, 7, 1);
    is_entry(1, 3, 7, 8, 1);
    is_entry(2, 3, 900, 901, 1);
    is_entry(3, 3, 33, 34, 1);
    is_entry(4, 1, 8, 9, 1);
}
END_TEST

START_TEST(what_was_kept_outlives_the_election)
{
    const struct store_mark run = {.lane = 2, .first = 100, .count = 50};
    die_with(&run, 1);
    struct store_hand *hand = take_up();
    ck_assert_uint_eq(store_hand_suspects(hand, list), 1);
    ck_assert(list[0].fresh);
    list[0].first = 149;
    store_hand_keep(hand, list, 1);
    hand_close(hand);
    ck_assert_uint_eq(found(), 1);
    is_entry(0, 2, 149, 150, 1);
    ck_assert(!list[0].fresh && !list[0].alone); /* what is left of a run */
    hand = take_up();
    store_hand_keep(hand, NULL, 0);
    hand_close(hand);
    ck_assert_uint_eq(found(), 0);
}
END_TEST

/* How a child ends with an event in hand, without that being the event's fault. */
static void clears(struct store_hand *hand)
{
    store_hand_mark(hand, 0, NULL);
    kill(getpid(), SIGKILL);
}

static void is_excused(struct store_hand *hand)
{
    store_hand_excuse(hand);
    kill(getpid(), SIGKILL);
}

static void closes(struct store_hand *hand)
{
    hand_close(hand);
    kill(getpid(), SIGKILL);
}

static void exits(struct store_hand *hand)
{
    (void)hand;
    exit(0);
}

/* The child of a fork ends, the process goes on: then dies, and that counts. */
static void forks(struct store_hand *hand)
{
    (void)hand;
    pid_t pid = fork();
    if (pid == 0)
        exit(0);
    waitpid(pid, NULL, 0);
    kill(getpid(), SIGKILL);
}

static void *exit_within(void *arg)
{
    (void)arg;
    exit(0);
}

/* The sink itself, on a thread of ours. */
static void sink_exits(struct store_hand *hand)
{
    (void)hand;
    pthread_t thread;
    if (thread_start(&thread, "sink", exit_within, NULL) == SPOOL_OK)
        pthread_join(thread, NULL);
}

static const struct {
    void (*end)(struct store_hand *hand);
    size_t found;
} ends[] = {{clears, 0}, {is_excused, 0}, {closes, 0}, {exits, 0}, {forks, 1}, {sink_exits, 1}};

START_TEST(only_a_death_counts)
{
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        const struct store_mark one = {.lane = 1, .first = i, .count = 1};
        pid_t pid = fork();
        if (pid == 0) {
            struct store_hand *hand = take_up();
            store_hand_keep(hand, NULL, 0);
            store_hand_mark(hand, 0, &one);
            ends[i].end(hand);
            _exit(99);
        }
        ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
        size_t n = found();
        ck_assert_msg(n == ends[i].found, "end %zu: %zu suspects", i, n);
    }
}
END_TEST

static void spoil(off_t at, const void *bytes, size_t size)
{
    int fd = openat(dir.fd, "sink-s.mark", O_RDWR);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, bytes, size, at), (ssize_t)size);
    close(fd);
}

/* Another boot: the machine died. A checksum that is wrong, another version, no magic: nothing is believed. */
START_TEST(what_is_not_believed)
{
    static const struct {
        off_t at;
        const char *what;
        size_t found;
    } spoilt[] = {{16, "boot", 0},       {0, "magic", 0},          {8, "version", 0},   {16384 + 8, "lane", 0},
                  {16384 + 4, "crc", 0}, {16384 + 12, "count", 0}, {8192, "nothing", 1}};
    for (size_t i = 0; i < sizeof spoilt / sizeof *spoilt; i++) {
        const struct store_mark one = {.lane = 1, .first = 5, .count = 1};
        unlinkat(dir.fd, "sink-s.mark", 0);
        die_with(&one, 1);
        spoil(spoilt[i].at, "\x5a\xa5\x5a", 3);
        size_t n = found();
        ck_assert_msg(n == spoilt[i].found, "%s: %zu suspects", spoilt[i].what, n);
    }
}
END_TEST

START_TEST(random_bytes_are_survived)
{
    srand(4711);
    for (int round = 0; round < 200; round++) {
        uint8_t bytes[20480];
        const struct store_mark run = {.lane = 1, .first = 5, .count = 9};
        die_with(&run, 1);
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (uint8_t)rand();
        if (round % 2)
            spoil(rand() % 17000, bytes, (size_t)rand() % 3000 + 1);
        else
            spoil(rand() % 2 ? 32 : 16384, bytes, 32);
        size_t n = found();
        ck_assert_uint_le(n, STORE_SUSPECTS_MAX);
        for (size_t i = 0; i < n; i++)
            ck_assert(list[i].lane >= 0 && list[i].lane < LANES && list[i].first < list[i].end);
    }
}
END_TEST

/* A directory in its place, as good as a disk that cannot be written: delivery goes on without. */
START_TEST(without_a_file_nothing_is_kept)
{
    ck_assert_int_eq(mkdirat(dir.fd, "sink-s.mark", 0700), 0);
    struct store_hand *hand = take_up();
    const struct store_mark one = {.lane = 1, .first = 5, .count = 1};
    store_hand_mark(hand, 0, &one);
    store_hand_mark(hand, 99, &one);
    store_hand_mark(NULL, 0, &one);
    store_hand_excuse(NULL);
    store_hand_keep(NULL, NULL, 0);
    ck_assert_uint_eq(store_hand_suspects(NULL, list), 0);
    store_hand_ref(hand);
    hand_close(hand);
    store_hand_mark(hand, 0, &one); /* a worker that was given up */
    store_hand_unref(hand);
    hand_close(NULL);
    hand_abandon(NULL);
}
END_TEST

START_TEST(the_oldest_is_forgotten_when_there_is_no_room)
{
    struct suspects *s = calloc(1, sizeof *s);
    for (uint64_t i = 0; i < STORE_SUSPECTS_MAX + 10; i++)
        suspects_add(s, 0, 10 * i, 10 * i + 1, true);
    ck_assert_uint_eq(s->n, STORE_SUSPECTS_MAX);
    ck_assert_uint_eq(suspects_crashes(s, 0, 0), 0);
    ck_assert_uint_eq(suspects_crashes(s, 0, 100), 1);
    ck_assert_uint_eq(suspects_crashes(s, 1, 100), 0);
    free(s);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("hand");
    TCase *tc = tcase_create("hand");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, a_run_is_found_and_then_the_one);
    tcase_add_test(tc, each_worker_and_each_row_counts);
    tcase_add_test(tc, what_was_kept_outlives_the_election);
    tcase_add_test(tc, only_a_death_counts);
    tcase_add_test(tc, what_is_not_believed);
    tcase_add_test(tc, random_bytes_are_survived);
    tcase_add_test(tc, without_a_file_nothing_is_kept);
    tcase_add_test(tc, the_oldest_is_forgotten_when_there_is_no_room);
    suite_add_tcase(s, tc);
    return s;
}

CHECK_MAIN(suite)
