/* lines.c - see lines.h. SIGPIPE cannot come: the threads of the library block all signals. */
#include "lines.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "../../lib/base/error.h"
#include "../../lib/base/json.h"

int lines_render_one(struct buffer *out, struct spool_delivery *delivery)
{
    size_t before = out->size;
    int code = json_put_event(out, delivery->event, &delivery->id);
    if (code == SPOOL_OK)
        code = buffer_put(out, "\n", 1);
    if (code == SPOOL_OK)
        return SPOOL_OK;
    out->size = before;
    if (code == ENOMEM)
        return spool_sink_error(SPOOL_EUNAVAILABLE, "out of memory");
    spool_delivery_fail(delivery, SPOOL_REJECTED, "cannot be written as JSON: %s", err_last());
    return SPOOL_OK;
}

int lines_render(struct buffer *out, struct spool_delivery *batch, size_t n, size_t *at)
{
    size_t i = *at;
    for (; i < n && out->size < LINES_TARGET_BYTES; i++) {
        int code = lines_render_one(out, SPOOL_DELIVERY_AT(batch, i));
        if (code != SPOOL_OK)
            return code;
    }
    *at = i;
    return SPOOL_OK;
}

void lines_delivered(struct spool_delivery *batch, size_t first, size_t end)
{
    for (size_t i = first; i < end; i++)
        if (SPOOL_DELIVERY_AT(batch, i)->outcome != SPOOL_REJECTED)
            SPOOL_DELIVERY_AT(batch, i)->outcome = SPOOL_DELIVERED;
}

int lines_write(int fd, const void *bytes, size_t size)
{
    const char *p = bytes;
    while (size > 0) {
        ssize_t n = write(fd, p, size);
        if (n >= 0) {
            p += n;
            size -= (size_t)n;
        } else if (errno == EAGAIN) {
            struct pollfd ready = {.fd = fd, .events = POLLOUT};
            if (poll(&ready, 1, 1000) == 0)
                return EAGAIN;
        } else if (errno != EINTR)
            return errno;
    }
    return SPOOL_OK;
}
