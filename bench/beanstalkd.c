/* beanstalkd.c - a job an event; the server flushes its log after each (-f0) and answers one after the other. */
#include "socket.h"

static void *join(void *shared, unsigned index)
{
    (void)index;
    return connection_open(((const struct context *)shared)->address);
}

static void *begin(const struct context *context)
{
    return (void *)context;
}

static size_t step(void *producer, uint64_t number)
{
    struct connection *c = producer;
    struct body body = payload(number);
    char line[128];
    int n = snprintf(line, sizeof line, "put 0 0 60 %zu\r\n", body.size);
    connection_put(c, line, (size_t)n);
    connection_put(c, body.text, body.size);
    connection_put(c, "\r\n", 2);
    connection_send(c);
    connection_line(c, line, sizeof line);
    if (strncmp(line, "INSERTED ", 9) != 0)
        errx(1, "beanstalkd: %s", line);
    return 1;
}

static void beanstalkd(const struct context *context, struct outcome *outcome)
{
    drive(&(struct driver){.begin = begin, .join = join, .step = step, .leave = connection_close}, context, outcome);
}

const struct bench_case beanstalkd_cases[] = {
    {"beanstalkd", "beanstalkd, each awaited", "beanstalkd -f0: the log is flushed after each job", beanstalkd},
    {0},
};
