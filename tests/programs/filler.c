/* filler.c - fills a small spool priority by priority with the reject policy and reports where each one met its limit.
 *
 * Prints one JSON line: {"low":share,"medium":share,"high":share,"critical":share,"acked":…,"max_bytes":…}, a share
 * being the part of max_bytes in use at the first SPOOL_EFULL. program.h has the options. */
#include "program.h"

enum { PAD = 4096, TRIES = 200 };

static uint64_t tried, acked;

static int enqueue_one(struct spool *spool, const struct program *program, int fd, enum spool_priority priority)
{
    char body[BODY_OVERHEAD + PAD], line[LINE_SIZE];
    struct history_event name = {.tag = program->tag, .n = tried++};
    struct spool_id id;
    struct spool_event event = SPOOL_EVENT(.type = "test.fill", .agent = program->tag, .priority = priority,
                                           .durability = SPOOL_DURABLE_PROCESS, .body = body,
                                           .body_size = body_write(body, program->tag, 0, name.n, PAD));
    history_intent(line, &name, name.n, &event, whole_crc(event.body, event.body_size));
    history_append(fd, line, 1);
    int code = spool_enqueue(spool, &event, &id);
    acked += code == SPOOL_OK;
    history_outcome(line, &name, code, &id);
    history_append(fd, line, 1);
    return code;
}

/* Enqueues until the spool answers full and goes on doing so once everything is committed: the journal in front is room
 * that a limit on the directory may or may not count. Returns the share in use. */
static double fill(struct spool *spool, const struct program *program, int fd, enum spool_priority priority)
{
    struct spool_stats stats = SPOOL_STATS();
    for (int refused = 0; refused < TRIES;) {
        int code = enqueue_one(spool, program, fd, priority);
        if (code != SPOOL_OK && code != SPOOL_EFULL)
            must(code, "spool_enqueue");
        refused = code == SPOOL_EFULL ? refused + 1 : 0;
        if (refused)
            sleep_until(now_ns() + 1000000);
    }
    must(spool_stats(spool, &stats), "spool_stats");
    return (double)stats.used_bytes / (double)stats.max_bytes;
}

int main(int argc, char **argv)
{
    struct program program = program_options(argc, argv);
    program.policy = "reject";
    int fd = history_open(program.history);
    history_process(fd, "opening", program.tag, SPOOL_OK);
    struct spool *spool = program_open(&program);
    history_process(fd, "open", program.tag, SPOOL_OK);
    double low = fill(spool, &program, fd, SPOOL_LOW);
    double medium = fill(spool, &program, fd, SPOOL_MEDIUM);
    double high = fill(spool, &program, fd, SPOOL_HIGH);
    double critical = fill(spool, &program, fd, SPOOL_CRITICAL);
    must(spool_close(spool), "spool_close");
    history_process(fd, "close", program.tag, SPOOL_OK);
    printf("{\"low\":%.4f,\"medium\":%.4f,\"high\":%.4f,\"critical\":%.4f,\"acked\":%" PRIu64 "}\n", low, medium, high,
           critical, acked);
    return 0;
}
