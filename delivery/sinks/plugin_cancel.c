/* plugin_cancel.c - see plugin_cancel.h. */
#include "plugin_cancel.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../../lib/base/sync.h"

int cancel_init(struct cancel *cancel)
{
    cancel->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return cancel->fd >= 0 ? 0 : errno;
}

void cancel_free(struct cancel *cancel)
{
    if (cancel->fd >= 0)
        close(cancel->fd);
    cancel->fd = -1;
}

void cancel_set(struct cancel *cancel)
{
    uint64_t one = 1;
    ssize_t n = write(cancel->fd, &one, sizeof one);
    (void)n; /* it fails only when the counter is full: then it is set */
}

bool cancel_is_set(const struct cancel *cancel)
{
    struct pollfd poll_fd = {.fd = cancel->fd, .events = POLLIN};
    return poll(&poll_fd, 1, 0) > 0;
}

void cancel_done(struct cancel *cancel)
{
    uint64_t count;
    ssize_t n = read(cancel->fd, &count, sizeof count);
    (void)n; /* EAGAIN: it was not set */
}

/* What is left until the deadline, rounded up; a minute at most, after which it is looked at again. */
static int poll_ms(uint64_t deadline_ns)
{
    uint64_t now = mono_ns();
    if (deadline_ns <= now)
        return 0;
    uint64_t left_ms = (deadline_ns - now + NS_PER_MS - 1) / NS_PER_MS;
    return left_ms < 60000 ? (int)left_ms : 60000;
}

enum cancel_wait cancel_wait(const struct cancel *cancel, int fd, short events, uint64_t deadline_ns)
{
    for (;;) {
        struct pollfd fds[2] = {{.fd = cancel->fd, .events = POLLIN}, {.fd = fd, .events = events}};
        int timeout_ms = poll_ms(deadline_ns);
        int n = poll(fds, 2, timeout_ms);
        if (n > 0 && fds[0].revents)
            return WAIT_CANCELLED;
        if (n > 0)
            return WAIT_READY;
        if (n < 0 && errno != EINTR)
            return WAIT_READY; /* the caller's call on it tells what is wrong */
        if (timeout_ms == 0)
            return WAIT_TIMEOUT;
    }
}
