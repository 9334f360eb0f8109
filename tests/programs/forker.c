/* forker.c - forks --forks times while its threads enqueue (and, with a sink, deliver). The child's inherited handle
 * must answer SPOOL_EFORKED to everything; then the child opens the spool itself and enqueues; the parent goes on
 * undisturbed. Every second child frees the inherited handle first, the others at their end; every third exits without
 * closing.
 *
 * Prints one JSON line: {"checks":…,"failed":…}; what failed stands on standard error. --tag is the parent's, a
 * child's is "c" and its number; all write --history. */
#include "sinks.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

enum { CHILD_EVENTS = 200 };

static struct program program;
static struct spool *spool;
static int history_fd;
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
    struct history_event name = {.tag = tag, .thread = thread, .n = n};
    struct spool_id id;
    snprintf(agent, sizeof agent, "%s-%u", tag, thread);
    struct spool_event event = SPOOL_EVENT(.type = "test.fork", .agent = agent, .body = body,
                                           .durability = thread ? SPOOL_DURABLE_POWER : SPOOL_DURABLE_PROCESS,
                                           .body_size = body_write(body, tag, thread, n, 64));
    history_intent(line, &name, n, &event, whole_crc(body, event.body_size));
    history_append(history_fd, line, 1);
    int code = spool_enqueue(to, &event, &id);
    history_outcome(line, &name, code, &id);
    history_append(history_fd, line, 1);
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
static void expect_forked_everywhere(const char *tag)
{
    struct spool_stats stats = SPOOL_STATS();
    struct spool_reader *reader;
    struct spool_id id;
    expect(enqueue_one(spool, tag, 9, 0), SPOOL_EFORKED, "spool_enqueue on an inherited handle");
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

/* Opens the spool anew, enqueues, and closes it or not. */
static void child_enqueues(const char *tag, bool close_own)
{
    history_process(history_fd, "opening", tag, SPOOL_OK);
    struct spool *own = program_open(&program);
    for (uint64_t n = 0; n < CHILD_EVENTS; n++)
        expect(enqueue_one(own, tag, 0, n), SPOOL_OK, "spool_enqueue in the child");
    if (close_own)
        expect(spool_close(own), SPOOL_OK, "spool_close in the child");
    history_process(history_fd, close_own ? "close" : "gone", tag, SPOOL_OK);
}

/* In the child; returns the number of failures. */
static int run_child(unsigned number)
{
    char tag[TAG_MAX + 1];
    bool close_first = number % 2 == 0;
    snprintf(tag, sizeof tag, "c%u", number % 1000000);
    expect_forked_everywhere(tag);
    if (close_first)
        expect(spool_close(spool), SPOOL_OK, "spool_close of the inherited handle");
    child_enqueues(tag, number % 3 != 2);
    if (!close_first)
        expect(spool_close(spool), SPOOL_OK, "spool_close of the inherited handle at the end");
    return failed;
}

static void fork_once(unsigned number)
{
    pid_t pid = fork();
    if (pid < 0)
        err(1, "fork");
    if (pid == 0)
        _exit(run_child(number) ? 1 : 0);
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
    history_fd = history_open(program.history);
    history_process(history_fd, "opening", program.tag, SPOOL_OK);
    spool = program_open(&program);
    if (program_add_sinks(&program, spool, &callback))
        must(spool_start(spool), "spool_start");
    for (int i = 0; i < 2; i++)
        if (pthread_create(&threads[i], NULL, keep_enqueueing, &index[i]) != 0)
            errx(1, "pthread_create");
    for (unsigned i = 0; i < (program.forks ? program.forks : 2); i++)
        fork_once((unsigned)program.start_at + i);
    atomic_store(&stopping, true);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    expect(program.drain_ms ? spool_drain(spool, (uint32_t)program.drain_ms) : SPOOL_OK, SPOOL_OK, "spool_drain");
    expect(spool_close(spool), SPOOL_OK, "spool_close in the parent");
    history_process(history_fd, "close", program.tag, SPOOL_OK);
    printf("{\"checks\":%d,\"failed\":%d}\n", checks, failed);
    return failed ? 1 : 0;
}
