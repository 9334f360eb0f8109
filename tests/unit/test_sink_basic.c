/* test_sink_basic.c - the null and stdout sinks, and finding sinks by kind. */
#include <signal.h>

#include "../../delivery/delivery.h"
#include "../../lib/base/id.h"
#include "../check_main.h"

static void fill(struct spool_event *event, struct spool_delivery *batch, unsigned n)
{
    *event = SPOOL_EVENT(.type = "t", .body = "{\"a\": 1}", .body_size = 8);
    for (unsigned i = 0; i < n; i++) {
        batch[i] = (struct spool_delivery){.size = sizeof *batch, .event = event, .attempt = 1};
        id_make((struct hlc_stamp){i + 1, 0}, 7, &batch[i].id);
    }
}

START_TEST(kinds)
{
    ck_assert_str_eq(delivery_builtin_sink("null")->kind, "null");
    ck_assert_str_eq(delivery_builtin_sink("file")->kind, "file");
    ck_assert_str_eq(delivery_builtin_sink("stdout")->kind, "stdout");
    ck_assert_ptr_null(delivery_builtin_sink("kafka"));
    ck_assert_ptr_null(delivery_builtin_sink(NULL));
}
END_TEST

START_TEST(null_takes_everything)
{
    const struct spool_sink *sink = delivery_builtin_sink("null");
    struct spool_event event;
    struct spool_delivery batch[10];
    void *state;
    fill(&event, batch, 10);
    ck_ok(sink->open(&state, NULL, "{}", NULL, 0));
    ck_ok(sink->deliver(state, batch, 10));
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(batch[i].outcome, SPOOL_DELIVERED);
    ck_code(sink->open(&state, NULL, "{\"x\":1}", NULL, 0), SPOOL_ECONFIG);
    ck_assert_ptr_nonnull(strstr(delivery_sink_message(), "\"x\""));
}
END_TEST

/* Runs the stdout sink with standard output being `fd`. */
static int deliver_to(int fd, struct spool_delivery *batch, size_t n)
{
    const struct spool_sink *sink = delivery_builtin_sink("stdout");
    void *state;
    ck_ok(sink->open(&state, NULL, "{}", NULL, 0));
    fflush(stdout);
    int keep = dup(STDOUT_FILENO);
    ck_assert_int_ge(dup2(fd, STDOUT_FILENO), 0);
    int code = sink->deliver(state, batch, n);
    dup2(keep, STDOUT_FILENO);
    close(keep);
    sink->close(state);
    return code;
}

START_TEST(stdout_writes_a_line_each)
{
    struct spool_event event;
    struct spool_delivery batch[10];
    int ends[2];
    char text[8192];
    fill(&event, batch, 10);
    ck_assert_int_eq(pipe(ends), 0);
    ck_ok(deliver_to(ends[1], batch, 10));
    ssize_t size = read(ends[0], text, sizeof text - 1);
    ck_assert_int_gt(size, 0);
    text[size] = '\0';
    unsigned lines = 0;
    for (char *at = strchr(text, '\n'); at; at = strchr(at + 1, '\n'))
        lines++;
    ck_assert_uint_eq(lines, 10);
    ck_assert_int_eq(text[size - 1], '\n');
    ck_assert_ptr_nonnull(strstr(text, "\"data\":{\"a\":1}"));
}
END_TEST

START_TEST(broken_pipe_is_unavailable)
{
    struct spool_event event;
    struct spool_delivery batch[2];
    int ends[2];
    signal(SIGPIPE, SIG_IGN); /* the library's threads block it */
    fill(&event, batch, 2);
    ck_assert_int_eq(pipe(ends), 0);
    close(ends[0]);
    ck_code(deliver_to(ends[1], batch, 2), SPOOL_EUNAVAILABLE);
    ck_assert_int_eq(batch[0].outcome, SPOOL_RETRY);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("sink_basic");
    TCase *tc = tcase_create("basic");
    tcase_add_test(tc, kinds);
    tcase_add_test(tc, null_takes_everything);
    tcase_add_test(tc, stdout_writes_a_line_each);
    tcase_add_test(tc, broken_pipe_is_unavailable);
    suite_add_tcase(s, tc);
    return s;
}

CHECK_MAIN(suite)
