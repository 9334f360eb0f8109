/* test_public_deadly.c - an event that kills the process each time it is delivered, with a sink that really does that.
 */
#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>

#include "../../lib/spool.h"
#include "../check_main.h"

enum { EVENTS = 40, DEADLY = 17 };

static char *dir;

static void set_up(void)
{
    dir = test_dir();
}

static void tear_down(void)
{
    test_rmdir(dir);
    free(dir);
}

/* What is told of a death goes to a pipe as well. */
static int told_fd = -1;

static void hear(void *user, const struct spool_notice *notice)
{
    (void)user;
    if (notice->kind == SPOOL_NOTICE_CRASHED && notice->sink && strcmp(notice->sink, "s") == 0 && told_fd >= 0 &&
        write(told_fd, &notice->count, sizeof notice->count) != sizeof notice->count)
        _exit(1);
}

static struct spool *open_spool(void)
{
    struct spool *spool;
    struct spool_options options =
        SPOOL_OPTIONS(.durability = SPOOL_DURABLE_PROCESS, .max_bytes = 8 << 20, .on_notice = hear);
    ck_ok(spool_open(dir, &options, &spool));
    return spool;
}

static unsigned number_of(const struct spool_event *event)
{
    char text[16] = "";
    memcpy(text, event->body, event->body_size < 15 ? event->body_size : 15);
    return (unsigned)strtoul(text, NULL, 10);
}

/* What the sink does with the deadly event: dies, asks for another try first, or is down. */
enum way { DIES, RETRIES_THEN_DIES };
struct killer {
    enum way way;
};

/* Writes what it takes to a pipe, so that it is known although the process dies. */
static int out_fd;

static int deliver(void *state, struct spool_delivery *batch, size_t n)
{
    const struct killer *killer = state;
    for (size_t i = 0; i < n; i++) {
        struct spool_delivery *delivery = SPOOL_DELIVERY_AT(batch, i);
        unsigned number = number_of(delivery->event);
        if (number == DEADLY && (killer->way == DIES || delivery->attempt > 1))
            raise(SIGKILL);
        if (number == DEADLY) {
            spool_delivery_fail(delivery, SPOOL_RETRY, "another time");
            continue;
        }
        if (write(out_fd, &number, sizeof number) != sizeof number)
            return SPOOL_EUNAVAILABLE;
        delivery->outcome = SPOOL_DELIVERED;
    }
    return SPOOL_OK;
}

static const struct spool_sink hooks = {
    .abi = SPOOL_SINK_ABI, .size = sizeof(struct spool_sink), .kind = "killer", .deliver = deliver};

static void add(struct spool *spool, struct killer *killer, enum spool_order order, uint32_t max_crashes)
{
    struct spool_sink_options options = SPOOL_SINK_OPTIONS(.user = killer, .order = order, .retry_base_ms = 1,
                                                           .retry_cap_ms = 1, .max_crashes = max_crashes);
    ck_ok(spool_sink_add(spool, "s", &hooks, NULL, &options));
}

static void fill(enum spool_order order)
{
    struct spool *spool = open_spool();
    struct killer killer = {DIES};
    add(spool, &killer, order, 0);
    for (unsigned i = 0; i < EVENTS; i++) {
        char body[16];
        snprintf(body, sizeof body, "%u", i);
        struct spool_event event = SPOOL_EVENT(.type = "t", .agent = "a", .body = body, .body_size = strlen(body));
        ck_ok(spool_enqueue(spool, &event, NULL));
    }
    ck_ok(spool_close(spool));
}

/* A life of the process: delivers until nothing waits, or until it dies. True if it died. */
static bool live(enum way way, enum spool_order order, uint32_t max_crashes)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct killer killer = {way};
        struct spool *spool = open_spool();
        add(spool, &killer, order, max_crashes);
        ck_ok(spool_start(spool));
        int code = spool_drain(spool, 30000);
        spool_close(spool);
        _exit(code == SPOOL_OK ? 0 : 1);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFSIGNALED(status) || WEXITSTATUS(status) == 0, "a life that ended with status %x", status);
    return WIFSIGNALED(status);
}

struct letter {
    unsigned n, number;
    char reason[256];
};

static int note(void *user, const struct spool_dead_letter *dead)
{
    struct letter *letter = user;
    letter->n++;
    letter->number = number_of(dead->event);
    snprintf(letter->reason, sizeof letter->reason, "%s", dead->reason);
    return 0;
}

static unsigned times[EVENTS];

/* What arrived; at least once each but for the deadly one. In order, if that is asked for, as to first arrivals. */
static void check_arrived(int in_fd, bool ordered)
{
    unsigned number, latest = 0;
    memset(times, 0, sizeof times);
    close(out_fd);
    while (read(in_fd, &number, sizeof number) == sizeof number) {
        ck_assert_msg(!ordered || times[number] || number >= latest, "event %u behind %u", number, latest);
        latest = number > latest ? number : latest;
        times[number]++;
    }
    for (unsigned i = 0; i < EVENTS; i++)
        ck_assert_msg(times[i] >= 1 || i == DEADLY, "event %u did not arrive", i);
    ck_assert_uint_eq(times[DEADLY], 0);
}

static unsigned deaths_until_done(enum way way, enum spool_order order, uint32_t max_crashes)
{
    unsigned deaths = 0;
    while (deaths < 20 && live(way, order, max_crashes))
        deaths++;
    return deaths;
}

/* The life after each death says so, with what was in hand; the last time that was the deadly one alone. */
static void check_told(int in_fd, unsigned deaths)
{
    uint64_t events = 0;
    unsigned times_told = 0;
    close(told_fd);
    told_fd = -1;
    for (; read(in_fd, &events, sizeof events) == sizeof events; times_told++)
        ck_assert_uint_ge(events, 1);
    ck_assert_uint_eq(times_told, deaths);
    ck_assert_uint_eq(events, 1);
    close(in_fd);
}

static void run_case(enum way way, enum spool_order order, uint32_t max_crashes, unsigned deaths)
{
    int fds[2], told[2];
    ck_assert(pipe(fds) == 0 && pipe(told) == 0);
    out_fd = fds[1];
    told_fd = told[1];
    fill(order);
    ck_assert_uint_eq(deaths_until_done(way, order, max_crashes), deaths);
    check_told(told[0], deaths);
    check_arrived(fds[0], order != SPOOL_ORDER_NONE);
    struct letter letter = {0};
    struct spool *spool = open_spool();
    ck_ok(spool_dead_each(spool, "s", note, &letter));
    ck_assert_uint_eq(letter.n, 1);
    ck_assert_uint_eq(letter.number, DEADLY);
    ck_assert_msg(strstr(letter.reason, "max_crashes"), "%s", letter.reason);
    ck_ok(spool_close(spool));
    close(fds[0]);
}

START_TEST(a_deadly_event_is_buried)
{
    run_case(DIES, SPOOL_ORDER_NONE, 0, 3);
}
END_TEST

START_TEST(its_successors_wait_for_that)
{
    run_case(DIES, SPOOL_ORDER_AGENT, 0, 3);
}
END_TEST

START_TEST(one_that_was_retried_before_is_found_too)
{
    run_case(RETRIES_THEN_DIES, SPOOL_ORDER_NONE, 0, 3);
}
END_TEST

START_TEST(the_number_of_deaths_is_an_option)
{
    run_case(DIES, SPOOL_ORDER_LANE, 5, 5);
}
END_TEST

START_TEST(one_death_is_enough_only_if_it_was_alone)
{
    run_case(DIES, SPOOL_ORDER_NONE, 1, 2);
}
END_TEST

START_TEST(no_limit_means_none)
{
    int fds[2];
    ck_assert_int_eq(pipe(fds), 0);
    out_fd = fds[1];
    fill(SPOOL_ORDER_NONE);
    for (int i = 0; i < 6; i++)
        ck_assert(live(DIES, SPOOL_ORDER_NONE, SPOOL_CRASHES_ANY));
    close(fds[0]);
    close(fds[1]);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("public_deadly");
    TCase *tc = tcase_create("deadly");
    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, a_deadly_event_is_buried);
    tcase_add_test(tc, its_successors_wait_for_that);
    tcase_add_test(tc, one_that_was_retried_before_is_found_too);
    tcase_add_test(tc, the_number_of_deaths_is_an_option);
    tcase_add_test(tc, one_death_is_enough_only_if_it_was_alone);
    tcase_add_test(tc, no_limit_means_none);
    suite_add_tcase(s, tc);
    return s;
}

CHECK_MAIN(suite)
