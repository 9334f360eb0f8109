/* redis.c - a Redis stream: XADD, each awaited, and 1,000 in a pipeline. */
#include "socket.h"

#define SETTINGS "redis-server, appendonly yes, appendfsync always, save off; XADD"

static void *join(void *shared, unsigned index)
{
    (void)index;
    return connection_open(((const struct context *)shared)->address);
}

static void *begin(const struct context *context)
{
    return (void *)context;
}

static void put_add(struct connection *c, struct body body)
{
    char head[96];
    int n =
        snprintf(head, sizeof head, "*5\r\n$4\r\nXADD\r\n$6\r\nevents\r\n$1\r\n*\r\n$4\r\nbody\r\n$%zu\r\n", body.size);
    connection_put(c, head, (size_t)n);
    connection_put(c, body.text, body.size);
    connection_put(c, "\r\n", 2);
}

/* The answer is the entry's id: "$15" and a line with it. */
static void get_answer(struct connection *c)
{
    char line[256];
    connection_line(c, line, sizeof line);
    if (line[0] != '$')
        errx(1, "Redis: %s", line);
    connection_line(c, line, sizeof line);
}

static size_t add(struct connection *c, uint64_t number, size_t n)
{
    for (size_t i = 0; i < n; i++)
        put_add(c, payload(number * n + i));
    connection_send(c);
    for (size_t i = 0; i < n; i++)
        get_answer(c);
    return n;
}

static size_t step_single(void *producer, uint64_t number)
{
    return add(producer, number, 1);
}

static size_t step_pipeline(void *producer, uint64_t number)
{
    return add(producer, number, payload_batch());
}

static void redis_single(const struct context *context, struct outcome *outcome)
{
    drive(&(struct driver){.begin = begin, .join = join, .step = step_single, .leave = connection_close}, context,
          outcome);
}

static void redis_pipeline(const struct context *context, struct outcome *outcome)
{
    drive(&(struct driver){.begin = begin, .join = join, .step = step_pipeline, .leave = connection_close}, context,
          outcome);
}

const struct bench_case redis_cases[] = {
    {"redis_single", "Redis stream, each awaited", SETTINGS, redis_single},
    {"redis_pipeline", "Redis stream, 1,000 in a pipeline", SETTINGS, redis_pipeline},
    {0},
};
