/* nats.c - NATS JetStream: published into a file stream, each acknowledgement awaited, and 1,000 under way at once.
 *
 * The stream is made by the first producer. Acknowledgements come to an inbox of the connection's own; they are
 * counted, and one that tells of an error ends the run. */
#include "socket.h"

#define STREAM                                                                                                         \
    "{\"name\":\"BENCH\",\"subjects\":[\"bench.*\"],\"storage\":\"file\",\"retention\":\"limits\",\"num_replicas\":1}"

struct nats {
    const struct context *context;
    pthread_mutex_t mutex;
    bool made; /* mutex */
};

/* Answers the server's pings meanwhile; the payload of the next message, cut to `cap`. */
static void next_message(struct connection *c, char *text, size_t cap)
{
    char line[512];
    for (;;) {
        connection_line(c, line, sizeof line);
        if (strncmp(line, "MSG ", 4) == 0)
            break;
        if (strcmp(line, "PING") == 0) {
            connection_put(c, "PONG\r\n", 6);
            connection_send(c);
        } else if (line[0] == '-')
            errx(1, "NATS: %s", line);
    }
    size_t size = strtoul(strrchr(line, ' ') + 1, NULL, 10), take = size < cap - 1 ? size : cap - 1;
    connection_get(c, text, take);
    text[take] = 0;
    connection_get(c, NULL, size - take + 2);
}

static void get_ack(struct connection *c)
{
    char text[1024];
    next_message(c, text, sizeof text);
    if (strstr(text, "\"error\""))
        errx(1, "JetStream: %s", text);
}

static void publish(struct connection *c, const char *subject, const char *text, size_t size)
{
    char head[256];
    int n = snprintf(head, sizeof head, "PUB %s _INBOX.%d.a %zu\r\n", subject, c->fd, size);
    connection_put(c, head, (size_t)n);
    connection_put(c, text, size);
    connection_put(c, "\r\n", 2);
}

static void *begin(const struct context *context)
{
    struct nats *nats = calloc(1, sizeof *nats);
    if (!nats || pthread_mutex_init(&nats->mutex, NULL) != 0)
        err(1, "NATS");
    nats->context = context;
    return nats;
}

static void make_stream(struct nats *nats, struct connection *c)
{
    pthread_mutex_lock(&nats->mutex);
    if (!nats->made) {
        publish(c, "$JS.API.STREAM.CREATE.BENCH", STREAM, sizeof STREAM - 1);
        connection_send(c);
        get_ack(c);
        nats->made = true;
    }
    pthread_mutex_unlock(&nats->mutex);
}

static void *join(void *shared, unsigned index)
{
    (void)index;
    struct nats *nats = shared;
    struct connection *c = connection_open(nats->context->address);
    char text[128];
    int n =
        snprintf(text, sizeof text, "CONNECT {\"verbose\":false,\"pedantic\":false}\r\nSUB _INBOX.%d.* 1\r\n", c->fd);
    connection_put(c, text, (size_t)n);
    connection_send(c);
    make_stream(nats, c);
    return c;
}

static size_t publish_many(struct connection *c, uint64_t number, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct body body = payload(number * n + i);
        publish(c, "bench.a", body.text, body.size);
    }
    connection_send(c);
    for (size_t i = 0; i < n; i++)
        get_ack(c);
    return n;
}

static size_t step_single(void *producer, uint64_t number)
{
    return publish_many(producer, number, 1);
}

static size_t step_batch(void *producer, uint64_t number)
{
    return publish_many(producer, number, payload_batch());
}

static void end(void *shared, struct outcome *outcome)
{
    (void)outcome;
    free(shared);
}

static void nats_single(const struct context *context, struct outcome *outcome)
{
    drive(&(struct driver){.begin = begin, .join = join, .step = step_single, .leave = connection_close, .end = end},
          context, outcome);
}

static void nats_batch(const struct context *context, struct outcome *outcome)
{
    drive(&(struct driver){.begin = begin, .join = join, .step = step_batch, .leave = connection_close, .end = end},
          context, outcome);
}

const struct bench_case nats_cases[] = {
    {"nats_single", "NATS JetStream, each awaited", "file storage, one replica", nats_single},
    {"nats_batch", "NATS JetStream, 1,000 under way", "file storage, one replica", nats_batch},
    {0},
};
