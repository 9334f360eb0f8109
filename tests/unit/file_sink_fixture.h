/* file_sink_fixture.h - the file sink without delivery: opened, given events, crashed, and what stands in its files
 * then. */
#ifndef FILE_SINK_FIXTURE_H
#define FILE_SINK_FIXTURE_H

#include <fcntl.h>
#include <sys/stat.h>

#include "../../delivery/delivery.h"
#include "../../lib/base/id.h"
#include "../check_main.h"

/* One run of the sink. A crash is to forget it without closing. */
struct run {
    const struct spool_sink *sink;
    void *state;
    void *lost[32]; /* states of before a crash, to be freed at the end */
    size_t lost_count;
    char dir[256];
    char config[1024];
    unsigned char checkpoint[SPOOL_CHECKPOINT_MAX];
    size_t checkpoint_size;
};

static inline void run_open(struct run *run)
{
    if (run->state)
        run->lost[run->lost_count++] = run->state;
    int code = run->sink->open(&run->state, NULL, run->config, run->checkpoint, run->checkpoint_size);
    ck_assert_msg(code == SPOOL_OK, "open: %s (%s)", spool_error_name(code), delivery_sink_message());
}

static inline void run_checkpoint(struct run *run)
{
    run->checkpoint_size = run->sink->checkpoint(run->state, run->checkpoint, sizeof run->checkpoint);
    ck_assert_uint_le(run->checkpoint_size, sizeof run->checkpoint);
}

static inline struct run *run_new(const char *name, const char *more)
{
    struct run *run = calloc(1, sizeof *run);
    char *dir = test_dir(), old_note[REASON_MAX + 1];
    delivery_sink_take_note(old_note); /* of the test before, when they share a process */
    snprintf(run->dir, sizeof run->dir, "%s", dir);
    free(dir);
    run->sink = delivery_builtin_sink("file");
    snprintf(run->config, sizeof run->config, "{\"path\":\"%s/%s\"%s}", run->dir, name, more);
    run_open(run);
    run_checkpoint(run); /* as delivery does before the first event */
    return run;
}

static inline void run_free(struct run *run)
{
    for (size_t i = 0; i < run->lost_count; i++)
        run->sink->close(run->lost[i]);
    run->sink->close(run->state);
    test_rmdir(run->dir);
    free(run);
}

/* Room for a batch whose events have the numbers from `number` on for bodies. */
struct run_batch {
    struct spool_event events[64];
    struct spool_delivery deliveries[64];
    char bodies[64][16];
};

static inline void run_fill(struct run_batch *b, unsigned number, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        snprintf(b->bodies[i], sizeof b->bodies[i], "%u", number + i);
        b->events[i] = SPOOL_EVENT(.type = "t", .body = b->bodies[i], .body_size = strlen(b->bodies[i]));
        b->deliveries[i] = (struct spool_delivery){.size = sizeof *b->deliveries, .event = &b->events[i], .attempt = 1};
        id_make((struct hlc_stamp){(uint64_t)number + i + 1, 0}, 7, &b->deliveries[i].id);
    }
}

static inline int run_put(struct run *run, unsigned number, unsigned n)
{
    struct run_batch b;
    run_fill(&b, number, n);
    int code = run->sink->deliver(run->state, b.deliveries, n);
    for (unsigned i = 0; i < n && code == SPOOL_OK; i++)
        ck_assert_int_eq(b.deliveries[i].outcome, SPOOL_DELIVERED);
    return code;
}

/* All lines of all files, in the order of their names; hidden ones left out. */
static inline char *run_read(const struct run *run)
{
    char *command, *text = calloc(1, 1 << 20);
    ck_assert(asprintf(&command, "cd %s && cat $(find . -type f ! -name '.*' | LC_ALL=C sort)  /dev/null", run->dir) >
              0);
    FILE *pipe = popen(command, "r");
    ck_assert(fread(text, 1, (1 << 20) - 1, pipe) < (1 << 20) - 1);
    pclose(pipe);
    free(command);
    return text;
}

/* Every number from 0 to n - 1 stands there once. */
static inline void check_once(const struct run *run, unsigned n)
{
    char *text = run_read(run);
    unsigned *times = calloc(n, sizeof *times), lines = 0;
    for (char *at = strstr(text, "\"data\":"); at; at = strstr(at + 1, "\"data\":"), lines++) {
        unsigned number = (unsigned)strtoul(at + 7, NULL, 10);
        ck_assert_uint_lt(number, n);
        times[number]++;
    }
    for (unsigned i = 0; i < n; i++)
        ck_assert_msg(times[i] == 1, "event %u is there %u times", i, times[i]);
    ck_assert_uint_eq(lines, n);
    free(times);
    free(text);
}

static inline bool exists(const struct run *run, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", run->dir, name);
    return access(path, F_OK) == 0;
}

static inline void path_in(const struct run *run, const char *name, char ret[512])
{
    snprintf(ret, 512, "%s/%s", run->dir, name);
}

#endif
