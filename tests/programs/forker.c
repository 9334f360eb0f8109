/* forker.c - forks while its threads enqueue (and, with a sink, deliver). The child's inherited handle must answer
 * SPOOL_EFORKED to everything; then the child opens the spool itself and enqueues; the parent goes on undisturbed.
 *
 * Prints one JSON line: {"checks":…,"failed":…}; what failed stands on standard error. --tag is the parent's, the
 * child's is "child"; both write --ack_log. */
#include "sinks.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

enum { CHILD_EVENTS = 200 };

static struct program program;
static struct spool *spool;
static int ack_fd;
static atomic_bool stopping;
static int checks, failed;

static void expect(int code, int want, const char *what)
{
    checks++;
    if (code == want)
        return;
    failed++;
    warnx("%s: %s instead of %s (%s)", what, spool_error_name(code), spool_error_name(want), spool_last_error());
}

static int enqueue_one(struct spool *to, const char *tag, unsigned thread, uint64_t n)
{
    char body[BODY_OVERHEAD + 64], agent[32], line[LINE_SIZE];
    struct spool_id id;
    snprintf(agent, sizeof agent, "%s-%u", tag, thread);
    struct spool_event event = SPOOL_EVENT(.type = "test.fork", .agent = agent, .durability = SPOOL_DURABLE_PROCESS,
                                           .body = body, .body_size = body_write(body, tag, thread, n, 64));
    int code = spool_enqueue(to, &event, &id);
    if (code == SPOOL_OK) {
        log_line(line, &id, tag, thread, n, true);
        log_append(ack_fd, line, 1);
    }
    return code;
}

static void *keep_enqueueing(void *argument)
{
    unsigned thread = *(unsigned *)argument;
    for (uint64_t n = 0; !atomic_load(&stopping) || n < 1000; n++) {
        must(enqueue_one(spool, program.tag, thread, n), "spool_enqueue in the parent");
        sleep_until(now_ns() + 20000);
    }
    return NULL;
}

/* Everything that takes a handle. */
static void expect_forked_everywhere(void)
{
    struct spool_stats stats = SPOOL_STATS();
    struct spool_reader *reader;
    struct spool_id id;
    expect(enqueue_one(spool, "none", 0, 0), SPOOL_EFORKED, "spool_enqueue on an inherited handle");
    expect(spool_flush(spool, 100), SPOOL_EFORKED, "spool_flush");
    expect(spool_drain(spool, 100), SPOOL_EFORKED, "spool_drain");
    expect(spool_start(spool), SPOOL_EFORKED, "spool_start");
    expect(spool_stop(spool, 100), SPOOL_EFORKED, "spool_stop");
    expect(spool_stats(spool, &stats), SPOOL_EFORKED, "spool_stats");
    expect(spool_sink_load(spool, "other", "null", NULL, NULL), SPOOL_EFORKED, "spool_sink_load");
    expect(spool_sink_remove(spool, "other"), SPOOL_EFORKED, "spool_sink_remove");
    expect(spool_clock_now(spool, &id), SPOOL_EFORKED, "spool_clock_now");
    expect(spool_reader_open(spool, NULL, &reader), SPOOL_EFORKED, "spool_reader_open");
}

/* In the child; returns the number of failures. `close_first`: free the inherited handle before or after reopening. */
static int run_child(bool close_first)
{
    expect_forked_everywhere();
    if (close_first)
        expect(spool_close(spool), SPOOL_OK, "spool_close of the inherited handle");
    struct spool *own = program_open(&program);
    for (uint64_t n = 0; n < CHILD_EVENTS; n++)
        expect(enqueue_one(own, "child", close_first, n), SPOOL_OK, "spool_enqueue in the child");
    expect(spool_close(own), SPOOL_OK, "spool_close in the child");
    if (!close_first)
        expect(spool_close(spool), SPOOL_OK, "spool_close of the inherited handle at the end");
    return failed;
}

static void fork_once(bool close_first)
{
    pid_t pid = fork();
    if (pid < 0)
        err(1, "fork");
    if (pid == 0)
        _exit(run_child(close_first) ? 1 : 0);
    int status = 0;
    waitpid(pid, &status, 0);
    expect(WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status), 0, "the child's exit status");
}

int main(int argc, char **argv)
{
    static struct callback_sink callback;
    unsigned index[2] = {0, 1};
    pthread_t threads[2];
    program = program_options(argc, argv);
    ack_fd = log_open(program.ack_log);
    spool = program_open(&program);
    if (program_add_sinks(&program, spool, &callback))
        must(spool_start(spool), "spool_start");
    for (int i = 0; i < 2; i++)
        if (pthread_create(&threads[i], NULL, keep_enqueueing, &index[i]) != 0)
            errx(1, "pthread_create");
    fork_once(true);
    fork_once(false);
    atomic_store(&stopping, true);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    expect(program.drain_ms ? spool_drain(spool, (uint32_t)program.drain_ms) : SPOOL_OK, SPOOL_OK, "spool_drain");
    expect(spool_close(spool), SPOOL_OK, "spool_close in the parent");
    printf("{\"checks\":%d,\"failed\":%d}\n", checks, failed);
    return failed ? 1 : 0;
}
