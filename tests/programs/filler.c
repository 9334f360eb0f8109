/* filler.c - fills a small spool priority by priority with the reject policy and reports where each one met its limit.
 *
 * Prints one JSON line: {"low":share,"medium":share,"high":share,"critical":share,"acked":…,"max_bytes":…}, a share
 * being the part of max_bytes in use at the first SPOOL_EFULL. program.h has the options. */
#include "program.h"

enum { PAD = 4096, TRIES = 200 };

static uint64_t acked;

static int enqueue_one(struct spool *spool, const struct program *program, int fd, enum spool_priority priority)
{
    char body[BODY_OVERHEAD + PAD], line[LINE_SIZE];
    struct spool_id id;
    struct spool_event event = SPOOL_EVENT(.type = "test.fill", .agent = program->tag, .priority = priority,
                                           .durability = SPOOL_DURABLE_PROCESS, .body = body,
                                           .body_size = body_write(body, program->tag, 0, acked, PAD));
    int code = spool_enqueue(spool, &event, &id);
    if (code != SPOOL_OK)
        return code;
    log_line(line, &id, program->tag, 0, acked++, true);
    log_append(fd, line, 1);
    return SPOOL_OK;
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
    int fd = log_open(program.ack_log);
    struct spool *spool = program_open(&program);
    double low = fill(spool, &program, fd, SPOOL_LOW);
    double medium = fill(spool, &program, fd, SPOOL_MEDIUM);
    double high = fill(spool, &program, fd, SPOOL_HIGH);
    double critical = fill(spool, &program, fd, SPOOL_CRITICAL);
    must(spool_close(spool), "spool_close");
    printf("{\"low\":%.4f,\"medium\":%.4f,\"high\":%.4f,\"critical\":%.4f,\"acked\":%" PRIu64 "}\n", low, medium, high,
           critical, acked);
    return 0;
}
