/* sink_template.c - a sink as a plugin: copy it, rename it, and fill in what is marked. It needs spool.h alone.
 *
 *     cc -D_GNU_SOURCE -Wall -shared -fPIC -o libspool-sink-template.so sink_template.c
 *     export SPOOL_SINK_PATH=$PWD
 *     spool -C ./q sink add far template path=/tmp/far.txt
 *     spool -C ./q sink test far
 *
 * This one appends the id and the body of each event to a file; spool-sink(7) explains the hooks. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spool.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct far {
    int fd;     /* HERE: your connection; -1: not connected */
    int cancel; /* an eventfd: readable when we are to return */
    char path[512];
};

/* HERE: your settings. A real sink uses a JSON parser, and refuses keys it does not know. */
static int configure(struct far *far, const char *json_config)
{
    char rest;
    if (sscanf(json_config, "{\"path\":\"%511[^\"\\]\"}%c", far->path, &rest) != 1)
        return spool_sink_error(SPOOL_ECONFIG, "template: the configuration is {\"path\":\"FILE\"} and no more");
    return SPOOL_OK;
}

static int far_check(const char *json_config)
{
    struct far far;
    return configure(&far, json_config);
}

static int far_open(void **ret_state, void *user, const char *json_config, const void *checkpoint,
                    size_t checkpoint_size)
{
    (void)user, (void)checkpoint, (void)checkpoint_size;
    struct far *far = calloc(1, sizeof *far);
    if (!far)
        return spool_sink_error(ENOMEM, "out of memory");
    far->fd = -1;
    far->cancel = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int code = far->cancel < 0 ? spool_sink_error(errno, "no eventfd: %s", spool_strerror(errno)) : SPOOL_OK;
    if (code == SPOOL_OK)
        code = configure(far, json_config);
    if (code != SPOOL_OK) {
        if (far->cancel >= 0)
            close(far->cancel);
        free(far);
        return code;
    }
    *ret_state = far;
    return SPOOL_OK;
}

/* HERE: connect. In deliver and not in open, because only deliver can be cancelled. */
static int connect_once(struct far *far)
{
    if (far->fd < 0)
        far->fd = open(far->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0600);
    return far->fd < 0 ? spool_sink_error(SPOOL_EUNAVAILABLE, "%s: %s", far->path, spool_strerror(errno)) : SPOOL_OK;
}

/* Waits until the connection takes more; false when cancelled. Every wait of a sink is like this one. */
static bool wait_for_room(struct far *far)
{
    struct pollfd fds[] = {{.fd = far->cancel, .events = POLLIN}, {.fd = far->fd, .events = POLLOUT}};
    while (poll(fds, 2, -1) < 0 && errno == EINTR) {
    }
    return !fds[0].revents;
}

static int send_bytes(struct far *far, const char *bytes, size_t size)
{
    while (size > 0) {
        if (!wait_for_room(far))
            return spool_sink_error(SPOOL_EUNAVAILABLE, "cancelled");
        ssize_t n = write(far->fd, bytes, size);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return spool_sink_error(SPOOL_EUNAVAILABLE, "%s: %s", far->path, spool_strerror(errno));
        bytes += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
    return SPOOL_OK;
}

/* HERE: what of the event goes over, and in which form. */
static int send_event(struct far *far, struct spool_delivery *delivery)
{
    char id[SPOOL_ID_TEXT_SIZE], *line;
    const struct spool_event *event = delivery->event;
    if (memchr(event->body ? event->body : "", '\n', event->body_size)) {
        spool_delivery_fail(delivery, SPOOL_REJECTED, "the body has more than one line");
        return SPOOL_OK;
    }
    spool_id_format(&delivery->id, id);
    size_t size = strlen(id) + 1 + event->body_size + 1;
    line = malloc(size + 1);
    if (!line)
        return spool_sink_error(SPOOL_EUNAVAILABLE, "out of memory");
    snprintf(line, size + 1, "%s %.*s\n", id, (int)event->body_size, event->body ? (const char *)event->body : "");
    int code = send_bytes(far, line, size);
    free(line);
    return code;
}

/* Delivered is said when it is safe over there: here, after the flush. */
static int far_deliver(void *state, struct spool_delivery *batch, size_t n)
{
    struct far *far = state;
    uint64_t count;
    int code = connect_once(far);
    for (size_t i = 0; i < n && code == SPOOL_OK; i++)
        code = send_event(far, SPOOL_DELIVERY_AT(batch, i));
    if (code == SPOOL_OK && fdatasync(far->fd) != 0)
        code = spool_sink_error(SPOOL_EUNAVAILABLE, "%s: %s", far->path, spool_strerror(errno));
    for (size_t i = 0; i < n && code == SPOOL_OK; i++)
        if (SPOOL_DELIVERY_AT(batch, i)->outcome != SPOOL_REJECTED)
            SPOOL_DELIVERY_AT(batch, i)->outcome = SPOOL_DELIVERED;
    if (code != SPOOL_OK && far->fd >= 0) { /* begin anew: what is half sent must not be gone on with */
        close(far->fd);
        far->fd = -1;
    }
    if (read(far->cancel, &count, sizeof count) < 0) { /* a cancel was for this call */
    }
    return code;
}

static void far_cancel(void *state)
{
    struct far *far = state;
    uint64_t one = 1;
    if (write(far->cancel, &one, sizeof one) < 0) { /* it is set already */
    }
}

static void far_close(void *state)
{
    struct far *far = state;
    if (far->fd >= 0)
        close(far->fd);
    close(far->cancel);
    free(far);
}

static const struct spool_sink far_sink = {
    .abi = SPOOL_SINK_ABI,
    .size = sizeof(struct spool_sink),
    .kind = "template", /* HERE: the name of your kind, and of the file: libspool-sink-<kind>.so */
    .open = far_open,
    .deliver = far_deliver,
    .cancel = far_cancel,
    .close = far_close,
};

static const struct spool_sink_setting far_settings[] = {
    {"path", "text (required)", "the file that is appended to"},
    {NULL, NULL, NULL},
};

SPOOL_SINK_PLUGIN(.sink = &far_sink, .check = far_check, .settings = far_settings,
                  .summary = "a template: ids and bodies, appended to a file")
