/* syslog.c - rsyslog, syslog-ng and Fluent Bit with queues on disk: lines go in by TCP, through the queue on disk, and
 * out by TCP to a receiver in this process, which counts them. There is no acknowledgement of a single line, so what is
 * measured is the rate from begin to end, the last line's arrival included. A slow daemon with many senders would be at
 * what waits in their sockets for minutes: after PATIENCE_S, what has arrived counts. context->address is where
 * the daemon listens; it sends to the port one above. */
#include "socket.h"

enum { LINES = 100, STEP_BYTES = 256 << 10, SOCKETS_BYTES = 4 << 20, PATIENCE_S = 3 };

struct relay {
    const struct context *context;
    const char *head; /* of a line */
    size_t lines;     /* of a step: LINES, or fewer large ones */
    int listener;
    pthread_t receiver;
    _Atomic uint64_t sent, received;
    uint64_t arrived; /* of those, when the clock stopped */
};

/* One connection from the daemon. */
struct arrival {
    struct relay *relay;
    int fd;
};

static void *count_lines(void *argument)
{
    struct arrival *arrival = argument;
    char *bytes = malloc(1 << 20);
    if (!bytes)
        err(1, "a receiver");
    for (ssize_t n; (n = recv(arrival->fd, bytes, 1 << 20, 0)) > 0;) {
        uint64_t lines = 0;
        for (const char *at = bytes; (at = memchr(at, '\n', (size_t)(bytes + n - at))); at++)
            lines++;
        atomic_fetch_add(&arrival->relay->received, lines);
    }
    free(bytes);
    close(arrival->fd);
    free(arrival);
    return NULL;
}

/* A daemon may send by several connections at once: each has a thread. */
static void *receive(void *argument)
{
    struct relay *relay = argument;
    for (;;) {
        struct arrival *arrival = calloc(1, sizeof *arrival);
        pthread_t thread;
        if (!arrival || (arrival->fd = accept4(relay->listener, NULL, NULL, SOCK_CLOEXEC)) < 0)
            err(1, "accept");
        arrival->relay = relay;
        if (pthread_create(&thread, NULL, count_lines, arrival) != 0 || pthread_detach(thread) != 0)
            errx(1, "a receiver");
    }
    return NULL;
}

static struct relay *open_relay(const struct context *context, const char *head)
{
    struct relay *relay = calloc(1, sizeof *relay);
    struct sockaddr_in sin = socket_address(context->address);
    int on = 1;
    sin.sin_port = htons((uint16_t)(ntohs(sin.sin_port) + 1));
    if (!relay || (relay->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0)
        err(1, "socket");
    relay->context = context;
    relay->head = head;
    relay->lines = 1 + (size_t)(STEP_BYTES / (payload_mean() + 1));
    relay->lines = relay->lines < LINES ? relay->lines : LINES;
    setsockopt(relay->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(relay->listener, (struct sockaddr *)&sin, sizeof sin) != 0 || listen(relay->listener, 4) != 0 ||
        pthread_create(&relay->receiver, NULL, receive, relay) != 0)
        err(1, "a receiver");
    return relay;
}

static void *begin(const struct context *context)
{
    return open_relay(context, "<13>Nov 26 12:00:00 host bench: ");
}

static void *begin_json(const struct context *context)
{
    return open_relay(context, "");
}

struct sender {
    struct relay *relay;
    struct connection *connection;
    bool stuck; /* in the middle of a line: nothing more is sent */
};

/* One connection's buffer grows to 4 MiB, and a sender that has to wait goes on when a third of it is free: many together
 * get no more, or a slow daemon would be at their last lines for a minute. Nor does a sender wait for longer than
 * PATIENCE_S. */
static void share_buffer(const struct connection *connection, unsigned producers)
{
    int bytes = SOCKETS_BYTES / (int)producers;
    struct timeval patience = {.tv_sec = PATIENCE_S};
    if (producers > 1 && setsockopt(connection->fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) != 0)
        err(1, "SO_SNDBUF");
    if (setsockopt(connection->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) != 0)
        err(1, "SO_SNDTIMEO");
}

/* false: the daemon did not take all of it in time. */
static bool send_in_time(struct connection *c)
{
    for (size_t at = 0; at < c->out_size;) {
        ssize_t n = send(c->fd, c->out + at, c->out_size - at, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            return false;
        if (n <= 0)
            err(1, "send");
        at += (size_t)n;
    }
    c->out_size = 0;
    return true;
}

static void *join(void *shared, unsigned index)
{
    (void)index;
    struct sender *sender = calloc(1, sizeof *sender);
    if (!sender)
        err(1, "a sender");
    sender->relay = shared;
    sender->connection = connection_open(sender->relay->context->address);
    share_buffer(sender->connection, sender->relay->context->producers);
    return sender;
}

static size_t step(void *producer, uint64_t number)
{
    struct sender *sender = producer;
    const char *head = sender->relay->head;
    size_t lines = sender->relay->lines;
    if (sender->stuck) {
        usleep(1000);
        return 0;
    }
    for (size_t i = 0; i < lines; i++) {
        struct body body = payload(number * lines + i);
        connection_put(sender->connection, head, strlen(head));
        connection_put(sender->connection, body.text, body.size);
        connection_put(sender->connection, "\n", 1);
    }
    sender->stuck = !send_in_time(sender->connection);
    if (sender->stuck)
        return 0;
    atomic_fetch_add(&sender->relay->sent, lines);
    return lines;
}

static void leave(void *producer)
{
    struct sender *sender = producer;
    connection_close(sender->connection);
    free(sender);
}

static void finish(void *shared)
{
    struct relay *relay = shared;
    uint64_t deadline = clock_ns() + PATIENCE_S * 1000000000ull;
    while (atomic_load(&relay->received) < atomic_load(&relay->sent) && clock_ns() < deadline)
        usleep(1000);
    relay->arrived = atomic_load(&relay->received);
    if (relay->arrived == 0)
        errx(1, "no line came through in %d s", PATIENCE_S);
}

static uint64_t arrived(void *shared)
{
    return ((struct relay *)shared)->arrived;
}

static void run(void *(*begin_relay)(const struct context *), const struct context *context, struct outcome *outcome)
{
    const struct driver driver = {
        .begin = begin_relay, .join = join, .step = step, .leave = leave, .finish = finish, .arrived = arrived};
    drive(&driver, context, outcome);
}

static void relay_run(const struct context *context, struct outcome *outcome)
{
    run(begin, context, outcome);
}

static void relay_json(const struct context *context, struct outcome *outcome)
{
    run(begin_json, context, outcome);
}

const struct bench_case syslog_cases[] = {
    {"rsyslog", "rsyslog, disk queue", "TCP in, disk queue, TCP out", relay_run},
    {"syslog_ng", "syslog-ng, disk buffer", "TCP in, disk buffer, TCP out", relay_run},
    {"fluent_bit", "Fluent Bit, filesystem buffer", "TCP in, chunks in files, TCP out", relay_json},
    {0},
};
